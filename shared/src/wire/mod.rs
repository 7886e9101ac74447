//! The only contract between edge and cloud, by version. A field that one side does not know is passed over, so that both
//! sides may be updated in any order; a change that cannot bear that is a new version.

pub mod token;
pub mod v1;
