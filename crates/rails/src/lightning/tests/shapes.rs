//! What nodes write, with all that nobody reads.

use super::fake::Made;

/// LND writes 64-bit numbers as strings, and every field.
pub(super) fn lnd_invoice(hash: &[u8; 32], state: &str, paid_msat: u64, settle_index: u64) -> String {
    let (hash, preimage) = (wire::base64::encode_std(hash), wire::base64::encode_std(&[0x5d; 32]));
    format!(
        r#"{{"memo":"farthing","r_preimage":"{preimage}","r_hash":"{hash}","value":"21","value_msat":"21001",
        "settled":false,"creation_date":"1790000000","settle_date":"{}","payment_request":"lnbcrt1","description_hash":"",
        "expiry":"300","fallback_addr":"","cltv_expiry":"80","route_hints":[],"private":false,"add_index":"9",
        "settle_index":"{settle_index}","amt_paid":"{paid_msat}","amt_paid_sat":"21","amt_paid_msat":"{paid_msat}",
        "state":"{state}","htlcs":[],"features":{{"9":{{"name":"tlv-onion","is_required":false}}}},"is_keysend":false,
        "payment_addr":"9a7WpqM5zMUzZ0cQ0b1SGlrTjYHzC3sXK2S8Vjw0iCM=","is_amp":false,"amp_invoice_state":{{}}}}"#,
        if state == "SETTLED" { 1_790_000_042 } else { 0 },
    )
    .replace('\n', "")
}

pub(super) fn lnd_payment(made: &Made, status: &str, preimage: &str) -> String {
    format!(
        r#"{{"result":{{"payment_hash":"{}","value":"21","payment_preimage":"{preimage}","value_msat":"21001","payment_request":"{}",
        "status":"{status}","fee":"1","fee_sat":"1","fee_msat":"1234","creation_time_ns":"1","htlcs":[],"payment_index":"3",
        "failure_reason":"FAILURE_REASON_NO_ROUTE"}}}}"#,
        wire::hex::encode(&made.hash),
        made.bolt11
    )
    .replace('\n', "")
        + "\n"
}

pub(super) fn cln_paid(made: &Made) -> String {
    format!(
        r#"{{"payment_preimage":"{}","amount_msat":21001,"amount_sent_msat":22235,"failed_parts":0,"successful_parts":1}}"#,
        made.preimage
    )
}

pub(super) fn cln_list(made: &Made, entries: &[&str]) -> String {
    let pays: Vec<String> = entries
        .iter()
        .map(|status| {
            let proof = if *status == "complete" {
                format!(
                    r#","preimage":"{}","amount_msat":21001,"amount_sent_msat":"22235msat""#,
                    made.preimage
                )
            } else {
                String::new()
            };
            format!(
                r#"{{"payment_hash":"{}","status":"{status}","created_at":1{proof}}}"#,
                wire::hex::encode(&made.hash)
            )
        })
        .collect();
    format!(r#"{{"pays":[{}]}}"#, pays.join(","))
}

pub(super) fn phoenixd_sent(made: &Made, is_paid: bool, completed_at: &str) -> String {
    let preimage = if is_paid { format!("\"{}\"", made.preimage) } else { "null".to_owned() };
    format!(
        r#"{{"type":"outgoing_payment","subType":"lightning","paymentId":"p","paymentHash":"{}","preimage":{preimage},
        "isPaid":{is_paid},"sent":22,"fees":1234,"invoice":"{}","completedAt":{completed_at},"createdAt":1}}"#,
        wire::hex::encode(&made.hash),
        made.bolt11
    )
}

pub(super) fn lnbits_sent(made: &Made, paid: bool, status: &str, amount: i64) -> String {
    let preimage = if paid { format!("\"{}\"", made.preimage) } else { "null".to_owned() };
    format!(
        r#"{{"paid":{paid},"status":"{status}","preimage":{preimage},"details":{{"payment_hash":"{}","amount":{amount},"fee":-1234,
        "status":"{status}"}}}}"#,
        wire::hex::encode(&made.hash)
    )
}
