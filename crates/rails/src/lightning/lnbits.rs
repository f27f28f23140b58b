//! LNbits: whole satoshi, one path for what comes and what goes, whatever node is behind it.

use serde::Deserialize;
use serde_json::json;
use wire::hex;
use wire::l402::Preimage;

use super::bolt11::Returned;
use super::number::Count;
use super::payment::{Order, Ordered, PAY_TIME_MAX};
use super::polling::{self, Found, Polled};
use super::port::{InvoiceState, NodeError, Outgoing, Settled, Wanted};
use super::recent::Recent;
use super::rest::{Reply, Rest};
use wire::form;

/// Payments in one answer.
const PAGE: usize = 100;

/// A wallet of LNbits. Its key is in every request.
#[derive(Debug)]
pub(super) struct LnBits {
    pub rest: Rest,
    pub told: Recent,
}

/// Releases name the invoice one way or the other, or both.
#[derive(Deserialize)]
struct Created {
    payment_hash: String,
    bolt11: Option<String>,
    payment_request: Option<String>,
}

/// Of an incoming payment, without its preimage (L402-70).
#[derive(Deserialize)]
struct Incoming {
    paid: bool,
    status: Option<String>,
    details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    payment_hash: String,
    /// Millisatoshi; below zero for what went out.
    amount: i64,
}

#[derive(Deserialize)]
struct Listed {
    payment_hash: String,
    amount: i64,
    status: Option<String>,
    updated_at: Option<String>,
}

/// Of a payment that went out.
#[derive(Deserialize)]
struct Paid {
    paid: bool,
    status: Option<String>,
    preimage: Option<String>,
    details: Option<Cost>,
}

#[derive(Deserialize)]
struct Cost {
    amount: i64,
    /// Millisatoshi, below zero.
    fee: i64,
}

#[derive(Deserialize)]
struct FeeReserve {
    fee_reserve: Count,
}

impl LnBits {
    pub(super) async fn create(&self, wanted: &Wanted<'_>, amount_msat: u64) -> Result<Returned, NodeError> {
        let body = json!({
            "out": false,
            "unit": "sat",
            "amount": amount_msat / 1000,
            "memo": wanted.description,
            "expiry": wanted.expiry_s,
        });
        let created: Created = self.rest.post("/api/v1/payments", &body).await?.read()?;
        let bolt11 = created.bolt11.or(created.payment_request).ok_or(NodeError::Lied("invoice"))?;
        let payment_hash =
            hex::decode_array(&created.payment_hash).map_err(|_| NodeError::Lied("payment hash"))?;
        Ok(Returned { bolt11, payment_hash })
    }

    pub(super) async fn look_up(&self, payment_hash: &[u8; 32]) -> Result<InvoiceState, NodeError> {
        let found: Incoming = self.find(payment_hash).await?.read()?;
        // Without details it is not a payment of this wallet.
        let details = found.details.ok_or_else(|| NodeError::Refused("unknown invoice".to_owned()))?;
        if hex::decode_array(&details.payment_hash) != Ok(*payment_hash) {
            return Err(NodeError::Lied("payment hash"));
        }
        let is_ours = details.amount > 0;
        Ok(match (found.paid, found.status.as_deref()) {
            (true, _) => InvoiceState::Settled { at_s: None, msat: details.amount.unsigned_abs() },
            (false, Some("failed")) if is_ours => InvoiceState::Cancelled,
            (false, _) => InvoiceState::Unpaid,
        })
    }

    /// The cursor is the microsecond of the last change.
    pub(super) async fn next_settled(&self, cursor: u64) -> Result<Vec<Settled>, NodeError> {
        polling::next_settled(self, &self.told, self.rest.wait, cursor).await
    }

    /// Pays, if what LNbits sets aside for the way is within the limit: it takes none itself.
    pub(super) async fn order(&self, order: &Order<'_>) -> Ordered {
        if order.leaves_amount {
            return Ordered::Never("LNbits pays no invoice that leaves its amount to the payer".to_owned());
        }
        let query = form::encode(&[("invoice", order.bolt11)]);
        let reserve = self.rest.get(&format!("/api/v1/payments/fee-reserve?{query}")).await;
        match reserve.and_then(|reply| reply.read::<FeeReserve>()) {
            Ok(FeeReserve { fee_reserve }) if fee_reserve.0 <= order.max_fee_msat => {}
            Ok(_) => return Ordered::Never("LNbits may pay more for the way than is allowed".to_owned()),
            Err(_) => return Ordered::Never("LNbits does not say what the way may cost".to_owned()),
        }
        let body = json!({"out": true, "bolt11": order.bolt11});
        let answer = self.rest.post_within("/api/v1/payments", &body, PAY_TIME_MAX).await;
        match answer {
            // Releases differ in what they tell here, and it may be under way still: the payment itself tells.
            Ok(reply) if matches!(reply.status, 200 | 201) => {
                match self.outgoing(&order.payment_hash).await {
                    Ok(Outgoing::Paid { preimage, fee_msat }) => Ordered::Paid { preimage, fee_msat },
                    Ok(Outgoing::Failed(_) | Outgoing::UnderWay | Outgoing::Absent) | Err(_) => Ordered::Lost,
                }
            }
            Ok(reply) => Ordered::of(reply.read::<Created>().err().unwrap_or(NodeError::Lost)),
            Err(error) => Ordered::of(error),
        }
    }

    pub(super) async fn outgoing(&self, payment_hash: &[u8; 32]) -> Result<Outgoing, NodeError> {
        let reply = self.find(payment_hash).await?;
        if reply.status == 404 && reply.reason() == "Payment does not exist." {
            return Ok(Outgoing::Absent);
        }
        let payment: Paid = reply.read()?;
        let preimage = payment.preimage.as_deref().and_then(|text| Preimage::parse(text).ok());
        Ok(match (payment.details, payment.paid, preimage) {
            (None, _, _) => Outgoing::Absent,
            // An invoice of this wallet, which nobody has asked it to pay.
            (Some(Cost { amount, .. }), _, _) if amount >= 0 => Outgoing::Absent,
            (Some(cost), true, Some(preimage)) => {
                Outgoing::Paid { preimage, fee_msat: cost.fee.unsigned_abs() }
            }
            (Some(_), false, _) if payment.status.as_deref() == Some("failed") => {
                Outgoing::Failed("the payment failed".to_owned())
            }
            (Some(_), true | false, _) => Outgoing::UnderWay,
        })
    }

    async fn find(&self, payment_hash: &[u8; 32]) -> Result<Reply, NodeError> {
        self.rest.get(&format!("/api/v1/payments/{}", hex::encode(payment_hash))).await
    }
}

impl Polled for LnBits {
    const UNITS_PER_SECOND: u64 = 1_000_000;
    const PAGE: usize = PAGE;

    /// LNbits cannot be asked for what has changed since: a page goes back as far as it goes.
    async fn page(&self, _since: u64, offset: usize) -> Result<Vec<Found>, NodeError> {
        let order = "sortby=updated_at&direction=desc&status=success";
        let path = format!("/api/v1/payments?{order}&limit={PAGE}&offset={offset}");
        let payments: Vec<Listed> = self.rest.get(&path).await?.read()?;
        payments.iter().map(Listed::found).collect()
    }
}

impl Listed {
    fn found(&self) -> Result<Found, NodeError> {
        let at = self.updated_at.as_deref().and_then(micros).ok_or(NodeError::Lost)?;
        let is_settled = self.amount > 0 && self.status.as_deref() == Some("success");
        let payment_hash = hex::decode_array(&self.payment_hash).ok().filter(|_| is_settled);
        let settled = payment_hash.map(|payment_hash| Settled {
            payment_hash,
            msat: self.amount.unsigned_abs(),
            cursor: at,
        });
        Ok(Found { at, settled })
    }
}

/// Unix microseconds of a time as Python writes it: with its offset, or without one in UTC.
fn micros(text: &str) -> Option<u64> {
    let moment = match text.parse::<jiff::Timestamp>() {
        Ok(moment) => moment,
        Err(_) => jiff::tz::TimeZone::UTC.to_timestamp(text.parse::<jiff::civil::DateTime>().ok()?).ok()?,
    };
    u64::try_from(moment.as_microsecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::micros;

    #[test]
    fn times_as_python_writes_them() {
        for (text, expected) in [
            ("2026-09-21T14:13:20.000001+00:00", Some(1_790_000_000_000_001)),
            ("2026-09-21T14:13:20Z", Some(1_790_000_000_000_000)),
            ("2026-09-21T16:13:20+02:00", Some(1_790_000_000_000_000)),
            ("2026-09-21T14:13:20.5", Some(1_790_000_000_500_000)),
            ("2026-09-21 14:13:20", Some(1_790_000_000_000_000)),
            ("1790000000", None),
            ("", None),
            ("1969-12-31T23:59:59Z", None),
        ] {
            assert_eq!(micros(text), expected, "{text}");
        }
    }
}
