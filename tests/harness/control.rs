//! A control plane as a process: its command line, its operators' API, its console.
