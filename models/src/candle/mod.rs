//! One file per architecture, each computing on the CPU from files on disk.

mod decoder;
pub(crate) mod gguf;
mod llama;
pub mod minilm;
mod qwen2;
mod qwen3;

pub(crate) use decoder::{Decoder, Session};

use crate::Error;

/// Loads the decoder of a GGUF file by the architecture that it names.
pub(crate) fn decoder(file: &gguf::Gguf, vocabulary: usize) -> Result<Decoder, Error> {
    let family = match file.text("general.architecture")? {
        llama::NAME => llama::family(file)?,
        qwen2::NAME => qwen2::family(),
        qwen3::NAME => qwen3::family(),
        other => {
            let message = format!("general.architecture is {other:?}: expected \"llama\", \"qwen2\" or \"qwen3\"");
            return Err(file.wrong(message));
        }
    };
    Decoder::load(file, &family, vocabulary)
}
