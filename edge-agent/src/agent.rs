//! The composition root.

/// The file in the data folder with the address that the local API is bound to.
pub const ADDRESS_FILE: &str = "local-address";
/// The file in the data folder with the token that the local API asks for; readable by the agent's user alone.
pub const TOKEN_FILE: &str = "local-token";
