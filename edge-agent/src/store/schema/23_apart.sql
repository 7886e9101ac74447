-- In the full text, characters of scripts without spaces stand apart, each a word, so that a word is a phrase; `apart` is a function of the
-- agent's. Chunks that are older stand there as they were written, until idle time puts them there anew.
CREATE TABLE memory_joined (
    chunk INTEGER PRIMARY KEY
) STRICT;
INSERT INTO memory_joined SELECT id FROM memory_chunk WHERE apart(text) <> text OR apart(place) <> place;

DROP TRIGGER memory_chunk_inserted;
CREATE TRIGGER memory_chunk_inserted AFTER INSERT ON memory_chunk BEGIN
    INSERT INTO memory_text (rowid, text, place) VALUES (new.id, apart(new.text), apart(new.place));
END;
DROP TRIGGER memory_chunk_deleted;
CREATE TRIGGER memory_chunk_deleted AFTER DELETE ON memory_chunk BEGIN
    INSERT INTO memory_text (memory_text, rowid, text, place)
        SELECT 'delete', old.id, iif(joined, old.text, apart(old.text)), iif(joined, old.place, apart(old.place))
        FROM (SELECT EXISTS (SELECT 1 FROM memory_joined WHERE chunk = old.id) AS joined);
    DELETE FROM memory_joined WHERE chunk = old.id;
END;
