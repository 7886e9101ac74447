-- When each feed was heard last, and its longest usual pause: what tells a silence from a pause.
CREATE TABLE feed_rhythm (
    feed     TEXT PRIMARY KEY,
    heard_at INTEGER NOT NULL,         -- when a message was taken in, microseconds since 1970 UTC
    pause_us INTEGER NOT NULL
) STRICT;
