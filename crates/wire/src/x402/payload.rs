//! Which payload a payment carries, told by its members and not by what its echo calls it.
//!
//! An offer by EIP-3009 is contained in the echo of one by Permit2, so the echo cannot tell them apart.

use serde_json::Value;

/// The readings of a payment's `payload`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// [`super::ExactPayload`]: EIP-3009, or the test rail.
    Transfer,
    /// [`super::Permit2Payload`].
    Permit2,
    /// [`super::batch::BatchPayload`].
    Channel,
    /// [`super::svm::SvmPayload`].
    Transaction,
}

/// The one reading of a payload. `None`: it has none, or several, and two readers could see two payments.
#[must_use]
pub fn kind(payload: &Value) -> Option<PayloadKind> {
    let members = [
        ("authorization", PayloadKind::Transfer),
        ("permit2Authorization", PayloadKind::Permit2),
        ("channelConfig", PayloadKind::Channel),
        ("transaction", PayloadKind::Transaction),
    ];
    let mut found = members.into_iter().filter(|(name, _)| payload.get(name).is_some());
    let (_, kind) = found.next()?;
    found.next().is_none().then_some(kind)
}

#[cfg(test)]
mod tests {
    use super::{PayloadKind, kind};
    use serde_json::{Value, json};

    #[test]
    fn every_captured_payment_has_one_reading() {
        for (flow, expected) in [
            (include_str!("../../../../specs/vectors/x402/v2_exact_eip3009.json"), PayloadKind::Transfer),
            (include_str!("../../../../specs/vectors/x402/v2_exact_permit2.json"), PayloadKind::Permit2),
            (include_str!("../../../../specs/vectors/x402/v2_upto_permit2.json"), PayloadKind::Permit2),
            (
                include_str!("../../../../specs/vectors/x402/v2_batch_settlement_deposit.json"),
                PayloadKind::Channel,
            ),
            (
                include_str!("../../../../specs/vectors/x402/v2_batch_settlement_voucher.json"),
                PayloadKind::Channel,
            ),
            (include_str!("../../../../specs/vectors/x402/v2_exact_svm.json"), PayloadKind::Transaction),
        ] {
            let flow: Value = serde_json::from_str(flow).unwrap();
            let payload = &flow["steps"][1]["decoded"]["payment-signature"]["payload"];
            assert_eq!(kind(payload), Some(expected));
        }
        for payload in [
            json!({}),
            json!([]),
            json!("transaction"),
            json!({"signature": "0x"}),
            json!({"authorization": {}, "permit2Authorization": {}}),
            json!({"transaction": "", "channelConfig": {}}),
        ] {
            assert_eq!(kind(&payload), None, "{payload}");
        }
    }
}
