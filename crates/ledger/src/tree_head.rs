//! What the operator signs about the journal: how long it is and what stands in it (ledger.md 8.3).

use crate::merkle::Hash;

/// Prefix of the signed bytes, NUL included.
pub const TREE_HEAD_DOMAIN: &[u8] = b"farthing.sth.v1\0";

/// The journal up to an entry, in 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// Which store.
    pub store_id: [u8; 16],
    /// Raised by each restore from a backup: heads of two epochs may disagree.
    pub epoch: u64,
    /// Entries, so the LSN of the last one.
    pub size: u64,
    /// Root of the Merkle tree over their bytes (RFC 9162 2.1).
    pub root: Hash,
    /// Hash of the last entry, zeros for an empty journal.
    pub last_hash: [u8; 32],
    /// Unix milliseconds.
    pub time_ms: u64,
}

impl TreeHead {
    /// What is signed: the domain, then each field in order, integers big-endian; 120 bytes in all.
    #[must_use]
    pub fn signing_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(TREE_HEAD_DOMAIN.len() + 104);
        out.extend_from_slice(TREE_HEAD_DOMAIN);
        out.extend(self.store_id);
        out.extend(self.epoch.to_be_bytes());
        out.extend(self.size.to_be_bytes());
        out.extend(self.root);
        out.extend(self.last_hash);
        out.extend(self.time_ms.to_be_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::TreeHead;

    #[test]
    fn every_field_stands_at_its_place_in_what_is_signed() {
        let head =
            TreeHead { store_id: [1; 16], epoch: 2, size: 3, root: [4; 32], last_hash: [5; 32], time_ms: 6 };
        let bytes = head.signing_bytes();
        let fields: [&[u8]; 7] = [
            b"farthing.sth.v1\0",
            &[1; 16],
            &[0, 0, 0, 0, 0, 0, 0, 2],
            &[0, 0, 0, 0, 0, 0, 0, 3],
            &[4; 32],
            &[5; 32],
            &[0, 0, 0, 0, 0, 0, 0, 6],
        ];
        assert_eq!(bytes, fields.concat());
        assert_eq!(bytes.len(), 120);
    }
}
