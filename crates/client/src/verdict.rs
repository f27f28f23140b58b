//! What an answer says about the payment that came with the request (x402.md section 4, H1 to H12).

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use wire::x402::batch::ResponseExtra;
use wire::x402::offer_receipt::{Receipt, Signed};
use wire::x402::{SettlementResponse, network};

use crate::attested;
use crate::challenge::Said;

/// What happened to the money of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Paid {
    /// No payment was signed. A credit key, if one was sent, was charged as its receipt says.
    Nothing,
    /// The payment was taken.
    Taken {
        /// `0.02 TEST to ...`
        what: String,
        /// As the seller reports it; empty if it does not.
        transaction: String,
    },
    /// The seller may take what the call turns out to cost, and has not said yet how much that is.
    Promised {
        /// `up to 0.02 USDC to ...`
        what: String,
    },
    /// The seller did not take the payment, but could until then. The same request sends it again.
    Kept {
        /// `0.02 TEST to ...`
        what: String,
        /// Unix seconds.
        valid_before: u64,
    },
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The payment was taken: by an answer, or as a deposit although the answer failed.
    Taken(Settled),
    /// Nobody can say yet. The same payment again, after a while.
    Unknown { after: Option<Duration> },
    /// Not taken, says the seller. Never signed anew for this call (H12).
    Refused,
}

/// What a result says, as far as it speaks of the network that we paid on. All of it is a stranger's claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Fit for a terminal; empty if there is none.
    pub(crate) transaction: String,
    /// As it stands there; `None` if it is absent or empty.
    pub(crate) amount: Option<String>,
    pub(crate) payer: Option<String>,
    /// Of a channel; `None` if absent or malformed.
    pub(crate) channel: Option<Box<ResponseExtra>>,
    /// That it was delivered, under the seller's signature.
    pub(crate) receipt: Option<Box<Signed<Receipt>>>,
}

/// The result in the head or in the trailers of an answer.
pub(crate) fn result(headers: &HeaderMap, paid_on: &str) -> Option<Settled> {
    let settled = settlement(headers).filter(|settled| settled.success && on(settled, paid_on))?;
    Some(Settled {
        transaction: crate::printable(&settled.transaction),
        amount: settled.amount.filter(|amount| !amount.is_empty()),
        payer: settled.payer,
        channel: settled.extra.as_ref().and_then(ResponseExtra::from_extra).map(Box::new),
        receipt: attested::delivered(settled.extensions.as_ref()).map(Box::new),
    })
}

/// Reads an answer to a payment. `said` is what the body of a failed one says.
pub(crate) fn read(status: StatusCode, headers: &HeaderMap, said: &Said, paid_on: &str) -> Verdict {
    let settled = result(headers, paid_on);
    if status.is_success() || said.code == "already_served" {
        return Verdict::Taken(settled.unwrap_or_default());
    }
    // A 402 that also claims the money is believed only if it gives a key to what it took.
    let believed = status != StatusCode::PAYMENT_REQUIRED || headers.contains_key("farthing-key");
    if let Some(settled) = settled.filter(|_| believed) {
        return Verdict::Taken(settled);
    }
    if is_undecided(status) {
        return Verdict::Unknown { after: retry_after(headers) };
    }
    Verdict::Refused
}

/// An answer that does not say what became of the call.
pub(crate) fn is_undecided(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 409 | 425 | 429 | 500..=599)
}

impl Settled {
    /// That an invoice was paid.
    pub(crate) fn of_invoice(payment_hash: &str) -> Self {
        Self { transaction: payment_hash.to_owned(), ..Self::default() }
    }
}

/// Reads an answer to the proof of a paid invoice. The money is gone whatever it says: the question is whether the call
/// was served, so that nothing else is to be paid for it.
pub(crate) fn of_proof(status: StatusCode, headers: &HeaderMap, said: &Said, payment_hash: &str) -> Verdict {
    // A key to what it took says that it was taken, as does an answer that speaks of the call and not of the payment.
    let taken = || Verdict::Taken(Settled::of_invoice(payment_hash));
    if headers.contains_key("farthing-key") || said.code == "already_served" {
        return taken();
    }
    match status.as_u16() {
        401..=403 => Verdict::Refused,
        _ if is_undecided(status) => Verdict::Unknown { after: retry_after(headers) },
        _ => taken(),
    }
}

fn settlement(headers: &HeaderMap) -> Option<SettlementResponse> {
    let names = [wire::x402::header::PAYMENT_RESPONSE, wire::x402::header::X_PAYMENT_RESPONSE];
    let value = names.iter().find_map(|name| headers.get(*name))?;
    wire::x402::decode(value.to_str().ok()?).ok()
}

fn on(settled: &SettlementResponse, paid_on: &str) -> bool {
    network::caip2_from_v1(&settled.network).unwrap_or(&settled.network) == paid_on
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::{Settled, Verdict as V, read};
    use crate::challenge::Said;
    use http::{HeaderMap, StatusCode};
    use serde_json::json;
    use std::time::Duration;
    use wire::base64::encode_std;

    #[test]
    fn verdicts() {
        let taken = || V::Taken(Settled { transaction: "0xabc".into(), ..Settled::default() });
        let unknown = |seconds: Option<u64>| V::Unknown { after: seconds.map(Duration::from_secs) };
        for (situation, status, code, settled, others, expected) in [
            ("served", 200, "", Some(true), vec![], taken()),
            ("served, no report", 200, "", None, vec![], V::Taken(Settled::default())),
            ("upstream failed, deposit kept", 502, "upstream_failed", Some(true), vec![], taken()),
            (
                "settlement unknown",
                503,
                "settlement_unknown",
                None,
                vec![("retry-after", "7")],
                unknown(Some(7)),
            ),
            ("date in Retry-After", 503, "", None, vec![("retry-after", "Fri, 31 Dec 1999")], unknown(None)),
            ("a proxy in between", 502, "", None, vec![], unknown(None)),
            ("in flight", 409, "in_progress", None, vec![("retry-after", "1")], unknown(Some(1))),
            ("used up", 409, "already_served", None, vec![], V::Taken(Settled::default())),
            ("busy", 429, "rate_limited", None, vec![], unknown(None)),
            ("failed for certain", 402, "settlement_failed", Some(false), vec![], V::Refused),
            ("H12 takes it and asks again", 402, "payment_required", Some(true), vec![], V::Refused),
            (
                "deposited, too little",
                402,
                "insufficient_balance",
                Some(true),
                vec![("farthing-key", "fk")],
                taken(),
            ),
            ("replay", 403, "verification_failed", None, vec![], V::Refused),
            ("redirect", 307, "", None, vec![("location", "http://x/")], V::Refused),
            ("bad request", 400, "bad_body", None, vec![], V::Refused),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(success) = settled {
                let report = json!({"success": success, "transaction": "0xabc", "network": "base-sepolia"});
                headers
                    .insert("payment-response", encode_std(report.to_string().as_bytes()).parse().unwrap());
            }
            for (name, value) in others {
                headers.insert(name, value.parse().unwrap());
            }
            let said = Said { code: code.into(), ..Said::default() };
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(read(status, &headers, &said, "eip155:84532"), expected, "{situation}");
        }
    }

    #[test]
    fn a_report_about_another_network_says_nothing() {
        let mut headers = HeaderMap::new();
        let report = json!({"success": true, "transaction": "0xabc", "network": "eip155:1"});
        headers.insert("payment-response", encode_std(report.to_string().as_bytes()).parse().unwrap());
        let verdict = read(StatusCode::BAD_GATEWAY, &headers, &Said::default(), "eip155:84532");
        assert_eq!(verdict, V::Unknown { after: None });
    }
}
