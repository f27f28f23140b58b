//! Receipts.

use mpp::{Receipt as Theirs, ReceiptStatus, format_receipt, parse_receipt};
use proptest::prelude::*;
use serde_json::Value;
use wire::mpp::Receipt;

use crate::given;

fn receipt() -> impl Strategy<Value = Receipt> {
    let optional = || proptest::option::of(".{0,12}");
    (
        ("[a-z]{1,8}", ".{0,20}", 0u64..4_000_000_000),
        (
            optional(),
            optional(),
            optional(),
            proptest::option::of(any::<u64>()),
            proptest::option::of(any::<i64>()),
        ),
        given::object(),
    )
        .prop_map(|((method, reference, at), (challenge, external, spent, units, refund), more)| {
            let mut receipt = Receipt::new(&method, &reference, &wire::rfc3339::format(at).unwrap());
            receipt.challenge_id = challenge;
            receipt.external_id = external;
            receipt.spent = spent;
            receipt.units = units;
            receipt.refund_sats = refund;
            // Names of their own, so that none is a member of the scheme.
            receipt.more = more.into_iter().map(|(name, value)| (format!("x-{name}"), value)).collect();
            receipt
        })
}

fn members(theirs: &Theirs) -> Value {
    serde_json::to_value(theirs).unwrap()
}

proptest! {
    #[test]
    fn both_read_what_both_write(receipt in receipt()) {
        let theirs = parse_receipt(&receipt.encode()).unwrap();
        prop_assert_eq!(&theirs.status, &ReceiptStatus::Success);
        prop_assert_eq!(members(&theirs), Value::Object(receipt.members()));
        prop_assert_eq!(Receipt::decode(&format_receipt(&theirs).unwrap()), Ok(receipt));
    }

    #[test]
    fn a_changed_receipt_is_read_by_both_or_by_none(receipt in receipt(), changes in given::changes()) {
        let json = given::changed(&receipt.to_json(), &changes);
        // A leap second: theirs looks up whether there was one, ours does not.
        prop_assume!(!json.contains(":60"));
        let value = wire::base64::encode_url(json.as_bytes());
        let (our, their) = (Receipt::decode(&value), parse_receipt(&value));
        if let (Ok(our), Ok(their)) = (&our, &their) {
            prop_assert_eq!(Value::Object(our.members()), members(their));
        }
        // Theirs knows fewer members, so takes any value for them, and takes a key twice or deep nesting.
        let is_strict = our.is_err() && their.is_ok();
        prop_assert!(our.is_ok() == their.is_ok() || is_strict, "{json}\n{our:?}\n{their:?}");
        if is_strict && wire::json::parse_strict(json.as_bytes()).is_ok() {
            let names = ["challengeId", "intent", "channelId", "acceptedCumulative", "spent", "units", "txHash",
                "refundSats", "refundStatus", "idleTimeoutSeconds", "timestamp"];
            prop_assert!(names.iter().any(|name| json.contains(name)), "{json}");
        }
    }
}
