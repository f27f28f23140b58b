//! The voucher of Solana's payment channels, 50 bytes: x402 and MPP sign the same.
//!
//! `56 01 | channel id [32] | cumulative u64 | expires at i64`, numbers little-endian.

const MAGIC: [u8; 2] = [0x56, 0x01];
/// Length of a voucher.
pub const BYTES: usize = 50;

/// A promise: the receiver may have taken up to so much in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SvmVoucher {
    /// Names the channel.
    pub channel_id: [u8; 32],
    /// In atomic units.
    pub cumulative: u64,
    /// Unix seconds; `None`: never.
    pub expires_at: Option<i64>,
}

impl SvmVoucher {
    /// The signed bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..2].copy_from_slice(&MAGIC);
        bytes[2..34].copy_from_slice(&self.channel_id);
        bytes[34..42].copy_from_slice(&self.cumulative.to_le_bytes());
        bytes[42..].copy_from_slice(&self.expires_at.unwrap_or_default().to_le_bytes());
        bytes
    }

    /// Reads signed bytes; `None` for another length or kind.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<2>()?;
        let (channel_id, rest) = rest.split_first_chunk()?;
        let (cumulative, rest) = rest.split_first_chunk()?;
        let expires_at = i64::from_le_bytes(rest.try_into().ok()?);
        (*magic == MAGIC).then_some(Self {
            channel_id: *channel_id,
            cumulative: u64::from_le_bytes(*cumulative),
            expires_at: (expires_at != 0).then_some(expires_at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::SvmVoucher;
    use crate::hex;
    use crate::x402::base58;
    use serde_json::Value;

    #[test]
    fn the_vectors_bytes_are_ours() {
        let file: Value = serde_json::from_str(include_str!(
            "../../../../../specs/vectors/mpp/solana-session-vouchers.json"
        ))
        .unwrap();
        let cases = file["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 4);
        for case in cases {
            let text = |name: &str| case[name].as_str().unwrap();
            let expires_at: i64 = text("expiresAt").parse().unwrap();
            let voucher = SvmVoucher {
                channel_id: base58::decode_array(text("channelId_b58")).unwrap(),
                cumulative: text("cumulativeAmount").parse().unwrap(),
                expires_at: (expires_at != 0).then_some(expires_at),
            };
            assert_eq!(hex::encode(&voucher.to_bytes()), text("message_hex"));
            assert_eq!(SvmVoucher::from_bytes(&voucher.to_bytes()), Some(voucher));
            let signature = hex::decode(text("signature_hex")).unwrap();
            assert_eq!(base58::encode(&signature), text("signature_b58"));
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        let good = SvmVoucher { channel_id: [1; 32], cumulative: 2, expires_at: None }.to_bytes();
        let mut other_kind = good;
        other_kind[1] = 2;
        for bytes in [&good[..49], &[&good[..], &[0]].concat(), &other_kind, &[]] {
            assert_eq!(SvmVoucher::from_bytes(bytes), None);
        }
    }
}
