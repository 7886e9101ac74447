-- How the embedders are found again whose vectors are still here, by SHA-256 of their weights: what the agent loads them by, as JSON.
CREATE TABLE memory_embedder (
    digest BLOB PRIMARY KEY,
    origin TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Whether something was removed whose words and vectors are still in the indexes, where nobody finds them.
ALTER TABLE memory_age ADD COLUMN purge INTEGER NOT NULL DEFAULT 0;
