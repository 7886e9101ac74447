//! What scenarios, suites and the bench share: real processes on free ports, clients for them, and waiting with a bound.
