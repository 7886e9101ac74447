-- Texts that workflows keep stand beside the documents of the bundle; no bundle removes them.
ALTER TABLE memory_document ADD COLUMN remembered INTEGER NOT NULL DEFAULT 0;
CREATE INDEX memory_document_remembered ON memory_document (idx) WHERE remembered;
