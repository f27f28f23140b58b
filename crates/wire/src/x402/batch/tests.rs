use super::{
    BatchPayload, ChannelState, ClaimPayload, ResponseExtra, SettlePayload, VoucherState, claim, state,
};
use crate::x402::{Address, facilitator, v2};
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

const FLOWS: [&str; 3] = [
    include_str!("../../../../../specs/vectors/x402/v2_batch_settlement_deposit.json"),
    include_str!("../../../../../specs/vectors/x402/v2_batch_settlement_voucher.json"),
    include_str!("../../../../../specs/vectors/x402/v2_batch_settlement_voucher2.json"),
];

fn vector(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn same<T: Serialize + DeserializeOwned>(captured: &Value) -> T {
    let object: T = serde_json::from_value(captured.clone()).unwrap();
    assert_eq!(serde_json::to_value(&object).unwrap(), *captured);
    object
}

#[test]
fn captured_calls_read_and_write() {
    for (text, max, charged) in
        [(FLOWS[0], 20_000, 1_858), (FLOWS[1], 21_858, 3_716), (FLOWS[2], 23_716, 5_574)]
    {
        let vector = vector(text);
        let decoded = &vector["steps"][1]["decoded"];
        same::<v2::PaymentPayload>(&decoded["payment-signature"]);
        let payload: BatchPayload = same(&decoded["payment-signature"]["payload"]);
        assert_eq!(payload.voucher().max_claimable_amount, max);
        assert_eq!(payload.channel_config().withdraw_delay, 900);
        let extra: ResponseExtra = same(&decoded["payment-response"]["extra"]);
        assert_eq!(extra.charged_amount, Some(1_858));
        assert_eq!(extra.channel_state.unwrap().charged_cumulative_amount, Some(charged));
        for call in vector["facilitator"].as_array().unwrap() {
            same::<facilitator::SettleRequest>(&call["request"]);
            let state = match call["op"].as_str() {
                Some("verify") => &call["response"]["extra"],
                _ => &call["response"]["extra"]["channelState"],
            };
            assert_eq!(same::<ChannelState>(state).charged_cumulative_amount, None);
        }
    }
}

#[test]
fn captured_claim_and_settle_are_what_we_would_send() {
    let vector =
        vector(include_str!("../../../../../specs/vectors/x402/v2_batch_settlement_claim_settle.json"));
    let (claiming, settling) = (&vector["facilitator"][0]["request"], &vector["facilitator"][1]["request"]);
    let claim: ClaimPayload = same(&claiming["paymentPayload"]["payload"]);
    let settle: SettlePayload = same(&settling["paymentPayload"]["payload"]);
    assert_eq!(claim.claims[0].total_claimed, 5_574);
    let (token, receiver) = (settle.token, settle.receiver);
    let sent = |payload: Option<facilitator::SettleRequest>| serde_json::to_value(payload.unwrap()).unwrap();
    let network = "eip155:84532";
    assert_eq!(sent(claim::settle_request(network, &token, &receiver, &claim)), *claiming);
    assert_eq!(sent(claim::settle_request(network, &token, &receiver, &settle)), *settling);
}

/// X402-29: a stock client looks for these members, under this code.
#[test]
fn x402_29_a_corrective_offer_says_where_the_channel_stands() {
    let mut extra = serde_json::Map::from_iter([("withdrawDelay".to_owned(), json!(900))]);
    let channel = ChannelState {
        channel_id: [0xcc; 32],
        balance: 200_000,
        total_claimed: 0,
        withdraw_requested_at: 0,
        refund_nonce: [0; 32],
        charged_cumulative_amount: Some(1_858),
    };
    let voucher = VoucherState { signed_max_claimable: 20_000, signature: "0x1b".into() };
    state::correct(&mut extra, &channel, Some(&voucher));
    assert_eq!(
        Value::Object(extra),
        json!({
            "withdrawDelay": 900,
            "channelState": {
                "channelId": format!("0x{}", "cc".repeat(32)), "balance": "200000", "totalClaimed": "0",
                "withdrawRequestedAt": 0, "refundNonce": "0", "chargedCumulativeAmount": "1858",
            },
            "voucherState": {"signedMaxClaimable": "20000", "signature": "0x1b"},
        })
    );
}

#[test]
fn every_kind_of_payload_reads_and_writes() {
    let deposit = vector(FLOWS[0])["steps"][1]["decoded"]["payment-signature"]["payload"].clone();
    let channel = deposit["channelConfig"].clone();
    let refund = |amount: Option<&str>| {
        let mut refund = json!({"type": "refund", "channelConfig": channel, "voucher": deposit["voucher"]});
        if let Some(amount) = amount {
            refund["amount"] = json!(amount);
        }
        refund
    };
    for payload in [refund(None), refund(Some("150"))] {
        same::<BatchPayload>(&payload);
    }
    let mut permit2 = deposit.clone();
    permit2["deposit"]["authorization"] = json!({"permit2Authorization": {
        "from": channel["payer"], "permitted": {"token": channel["token"], "amount": "200000"},
        "spender": Address([4; 20]).to_string(), "nonce": "9", "deadline": "1795174451",
        "witness": {"channelId": deposit["voucher"]["channelId"]}, "signature": "0x",
    }});
    same::<BatchPayload>(&permit2);

    let mut both = permit2.clone();
    both["deposit"]["authorization"]["erc3009Authorization"] =
        deposit["deposit"]["authorization"]["erc3009Authorization"].clone();
    for (what, payload) in [
        ("two authorizations", both),
        ("refund of nonsense", refund(Some("-1"))),
        ("no type", json!({"channelConfig": channel, "voucher": deposit["voucher"]})),
        ("a claim is not a payment", json!({"type": "claim", "claims": []})),
        ("no channel", json!({"type": "voucher", "voucher": deposit["voucher"]})),
        ("a number for an amount", {
            let mut payload = deposit.clone();
            payload["voucher"]["maxClaimableAmount"] = json!(20_000);
            payload
        }),
        ("a text for a delay", {
            let mut payload = deposit.clone();
            payload["channelConfig"]["withdrawDelay"] = json!("900");
            payload
        }),
        ("a short channel id", {
            let mut payload = deposit.clone();
            payload["voucher"]["channelId"] = json!("0xcc");
            payload
        }),
    ] {
        assert_eq!(BatchPayload::from_value(&payload), None, "{what}");
    }
}

proptest! {
    #[test]
    fn any_member_is_read_or_refused(member in 0usize..6, text in "\\PC{0,80}") {
        let mut payload = vector(FLOWS[0])["steps"][1]["decoded"]["payment-signature"]["payload"].clone();
        let pointer = ["/type", "/channelConfig/payer", "/channelConfig/salt", "/voucher/maxClaimableAmount",
            "/deposit/amount", "/deposit/authorization/erc3009Authorization/validBefore"][member];
        *payload.pointer_mut(pointer).unwrap() = json!(text);
        let _ = BatchPayload::from_value(&payload);
    }
}
