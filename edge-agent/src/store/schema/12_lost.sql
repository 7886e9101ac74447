-- Why the bundle that the control plane sent last is not what runs, although it came up: it could not be read at a start.
ALTER TABLE sync ADD COLUMN lost TEXT;
