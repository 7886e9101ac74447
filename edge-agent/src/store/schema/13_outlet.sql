-- Lifecycle events on their way to the broker, in the order in which they came about.
CREATE TABLE outlet (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The CloudEvent, and the label of its run, as JSON.
    event TEXT NOT NULL,
    label TEXT NOT NULL
);
