-- Times in the order in which they strike; those of parked effects have theirs already.
CREATE INDEX run_wake ON run (wake_at) WHERE wake_at IS NOT NULL;
