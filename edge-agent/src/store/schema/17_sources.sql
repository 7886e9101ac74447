-- Where a kept text came from and whom or what it is about, so that all of one source or subject can be taken away.
ALTER TABLE memory_document ADD COLUMN source TEXT;
ALTER TABLE memory_document ADD COLUMN subject TEXT;
CREATE INDEX memory_document_source ON memory_document (source) WHERE source IS NOT NULL;
CREATE INDEX memory_document_subject ON memory_document (subject) WHERE subject IS NOT NULL;
