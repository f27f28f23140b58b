//! Signed tree heads, as rows.

use ledger::TreeHead;

/// A head with the operator's signature over it (ledger.md 8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedHead {
    /// What is signed.
    pub head: TreeHead,
    /// Ed25519 over [`TreeHead::signing_bytes`].
    pub signature: [u8; 64],
}

/// Store id, epoch, root, last hash, time, signature; the size is the row's key.
const ROW_BYTES: usize = 16 + 8 + 32 + 32 + 8 + 64;

impl SignedHead {
    pub(crate) fn to_row(self) -> Vec<u8> {
        let Self { head, signature } = self;
        let mut row = Vec::with_capacity(ROW_BYTES);
        row.extend(head.store_id);
        row.extend(head.epoch.to_be_bytes());
        row.extend(head.root);
        row.extend(head.last_hash);
        row.extend(head.time_ms.to_be_bytes());
        row.extend(signature);
        row
    }

    /// None for bytes of another length.
    pub(crate) fn of_row(size: u64, row: &[u8]) -> Option<Self> {
        let (store_id, row) = row.split_first_chunk()?;
        let (epoch, row) = row.split_first_chunk()?;
        let (root, row) = row.split_first_chunk()?;
        let (last_hash, row) = row.split_first_chunk()?;
        let (time_ms, row) = row.split_first_chunk()?;
        let head = TreeHead {
            store_id: *store_id,
            epoch: u64::from_be_bytes(*epoch),
            size,
            root: *root,
            last_hash: *last_hash,
            time_ms: u64::from_be_bytes(*time_ms),
        };
        Some(Self { head, signature: row.try_into().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use ledger::TreeHead;

    use super::SignedHead;

    #[test]
    fn a_row_holds_every_field() {
        let head =
            TreeHead { store_id: [1; 16], epoch: 2, size: 3, root: [4; 32], last_hash: [5; 32], time_ms: 6 };
        let signed = SignedHead { head, signature: [7; 64] };
        let row = signed.to_row();
        assert_eq!(SignedHead::of_row(3, &row), Some(signed));
        assert_eq!(SignedHead::of_row(3, &row[1..]), None);
    }
}
