-- What kept texts take, and how long they and what was said in conversations are kept: until the node has been on for so long, as
-- `memory_age` counts it, in microseconds. A wall clock that is set ahead takes nothing away.
CREATE TABLE memory_age (
    age INTEGER NOT NULL
) STRICT;
INSERT INTO memory_age VALUES (0);

ALTER TABLE memory_document ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;   -- of a kept text
ALTER TABLE memory_document ADD COLUMN expires INTEGER;
UPDATE memory_document SET bytes = coalesce(
    (SELECT sum(octet_length(text)) FROM memory_chunk WHERE memory_chunk.document = memory_document.id), 0) WHERE remembered;
DROP INDEX memory_document_remembered;
CREATE INDEX memory_document_kept ON memory_document (idx, bytes) WHERE remembered;
CREATE INDEX memory_document_expires ON memory_document (expires) WHERE expires IS NOT NULL;

ALTER TABLE memory_turn ADD COLUMN source TEXT;
ALTER TABLE memory_turn ADD COLUMN subject TEXT;
ALTER TABLE memory_turn ADD COLUMN expires INTEGER;
CREATE INDEX memory_turn_source ON memory_turn (source) WHERE source IS NOT NULL;
CREATE INDEX memory_turn_subject ON memory_turn (subject) WHERE subject IS NOT NULL;
CREATE INDEX memory_turn_expires ON memory_turn (expires) WHERE expires IS NOT NULL;
