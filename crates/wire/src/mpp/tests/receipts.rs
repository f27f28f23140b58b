use serde_json::json;

use crate::base64;
use crate::mpp::Receipt;
use crate::mpp::event::{NEED_VOUCHER, NeedVoucher, encode};
use crate::mpp::receipt::{ReceiptError as E, RefundStatus};

fn receipt() -> Receipt {
    Receipt::new("lightning", "bc23", "2026-03-10T21:00:00Z")
}

#[test]
fn mpp_19_integers_stay_integers() {
    for sats in [0, 140, 9_007_199_254_740_993, i64::MAX] {
        let mut receipt = receipt();
        receipt.refund_sats = Some(sats);
        receipt.refund_status = Some(RefundStatus::Skipped);
        receipt.more.insert("held".into(), json!("12"));
        let value = receipt.encode();
        assert!(receipt.to_json().contains(&format!("\"refundSats\":{sats},")), "{}", receipt.to_json());
        assert_eq!(Receipt::decode(&value), Ok(receipt));
    }
}

/// A name of ours never hides a member of the scheme.
#[test]
fn more_members_replace_none() {
    let mut receipt = receipt();
    receipt.more.insert("status".into(), json!("failed"));
    assert!(receipt.to_json().contains("\"status\":\"success\""));
}

#[test]
fn decode_table() {
    let value = |text: &str| base64::encode_url(text.as_bytes());
    let whole = receipt().to_json();
    assert!(Receipt::decode(&value(&whole)).is_ok());
    for (what, text, expected) in [
        ("failure", whole.replace("success", "failed"), E::Status),
        ("no reference", whole.replace("reference", "referenc"), E::Members),
        ("method in upper case", whole.replace("lightning", "Lightning"), E::Members),
        ("no time", whole.replace("2026-03-10T21", "yesterday"), E::Timestamp),
        ("fraction of a satoshi", whole.replace("{\"", "{\"refundSats\":1.5,\""), E::Members),
        ("unknown refund", whole.replace("{\"", "{\"refundStatus\":\"lost\",\""), E::Members),
    ] {
        assert_eq!(Receipt::decode(&value(&text)), Err(expected), "{what}");
    }
    assert!(matches!(Receipt::decode("!"), Err(E::Text(_))));
    assert!(matches!(Receipt::decode(&value("[]")), Err(E::Text(_))));
}

#[test]
fn eng_8_an_event_is_one_frame() {
    let need = NeedVoucher {
        channel_id: "0xab".into(),
        required_cumulative: "30".into(),
        accepted_cumulative: "20".into(),
        deposit: "100".into(),
    };
    assert_eq!(
        encode(NEED_VOUCHER, &need),
        "event: payment-need-voucher\ndata: {\"channelId\":\"0xab\",\"requiredCumulative\":\"30\",\
         \"acceptedCumulative\":\"20\",\"deposit\":\"100\"}\n\n"
    );
}
