//! Node and control plane against each other, in one process, over real TLS on loopback.

mod enrollment;
mod ledger;
mod report;
mod rollout;
mod site;
