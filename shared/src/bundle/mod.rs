//! Bundles: which files, in which version, signed by whom, and whether a node may take one. Bytes in, decisions out;
//! nothing here touches a file.

pub mod floor;
pub mod manifest;
pub mod path;
