//! What stands behind the weights in a file, little endian: `SKWEIGH1`, the digest of what they were packed from, their length (u64), the
//! CRC-32 of each piece, the CRC-32 of all this. Nothing but the pieces' checks is learned from it: all else is known and compared.

use shared::digest::Digest;

use super::PIECE;

const MAGIC: &[u8; 8] = b"SKWEIGH1";
/// Bytes before the checks.
const HEAD: usize = 48;

/// What a file must say of itself.
pub(super) struct Seal {
    pub(super) source: Digest,
    /// Bytes of the weights.
    pub(super) len: usize,
}

impl Seal {
    /// Bytes of the seal.
    pub(super) const fn bytes(&self) -> usize {
        HEAD + 4 * self.len.div_ceil(PIECE) + 4
    }

    /// Bytes of the file.
    pub(super) const fn file_len(&self) -> u64 {
        self.len as u64 + self.bytes() as u64
    }

    /// The seal of weights whose pieces have these checks.
    pub(super) fn to_bytes(&self, checks: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes());
        bytes.extend(MAGIC);
        bytes.extend(self.source.as_bytes());
        bytes.extend((self.len as u64).to_le_bytes());
        bytes.extend(checks.iter().flat_map(|check| check.to_le_bytes()));
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// The checks of a seal that is this one; else what is wrong with it.
    pub(super) fn checks(&self, bytes: &[u8]) -> Result<Vec<u32>, &'static str> {
        let all = bytes.get(HEAD..self.bytes()).ok_or("cut off within its seal")?;
        let words = all.as_chunks().0.iter().copied().map(u32::from_le_bytes);
        let checks: Vec<u32> = words.take(self.len.div_ceil(PIECE)).collect();
        match self.to_bytes(&checks) {
            expected if expected == bytes => Ok(checks),
            expected if expected[..MAGIC.len()] != bytes[..MAGIC.len()] => Err("no packed weights of this version"),
            expected if expected[..HEAD] != bytes[..HEAD] => Err("packed from another file, or in another way"),
            _ => Err("its seal is damaged"),
        }
    }
}
