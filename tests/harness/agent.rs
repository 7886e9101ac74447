//! An edge agent as a process: its configuration, its site, its command line, its local API.
