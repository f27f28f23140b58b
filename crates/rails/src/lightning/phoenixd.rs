//! phoenixd: whole satoshi, forms in, JSON out.

use serde::Deserialize;
use wire::hex;
use wire::l402::Preimage;

use super::bolt11::Returned;
use super::number::Count;
use super::payment::{Order, Ordered, PAY_TIME_MAX};
use super::polling::{self, Found, Polled};
use super::port::{About, InvoiceState, Network, NodeError, Outgoing, Settled, Wanted};
use super::recent::Recent;
use super::rest::Rest;

/// Settlements in one answer.
const PAGE: usize = 100;
/// What phoenixd pays its peer for finding a way, at most: 4 sat and 0.4 %.
const FEE_BASE_MSAT: u64 = 4_000;
const FEE_MILLIONTHS: u128 = 4_000;

/// A phoenixd. Its password is in every request.
#[derive(Debug)]
pub(super) struct Phoenixd {
    pub rest: Rest,
    pub told: Recent,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    payment_hash: String,
    serialized: String,
}

/// Of an incoming payment, without its preimage (L402-70). Times are milliseconds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Incoming {
    payment_hash: String,
    is_paid: bool,
    #[serde(default)]
    is_expired: bool,
    received_sat: Count,
    completed_at: Option<u64>,
}

/// Paid or not, with the same status.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    payment_preimage: Option<String>,
    #[serde(default)]
    routing_fee_sat: Count,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OutgoingPayment {
    is_paid: bool,
    preimage: Option<String>,
    fees: Count,
    completed_at: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    node_id: String,
    chain: String,
    channels: Vec<Channel>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Channel {
    inbound_liquidity_sat: Option<Count>,
}

impl Phoenixd {
    pub(super) async fn create(&self, wanted: &Wanted<'_>, amount_msat: u64) -> Result<Returned, NodeError> {
        let (amount, expiry) = ((amount_msat / 1000).to_string(), wanted.expiry_s.to_string());
        let fields = [
            ("amountSat", amount.as_str()),
            ("description", wanted.description),
            ("expirySeconds", expiry.as_str()),
            ("externalId", wanted.label),
        ];
        let reply = self.rest.form("/createinvoice", &fields, self.rest.time_max).await?;
        let created: Created = reply.read()?;
        let payment_hash =
            hex::decode_array(&created.payment_hash).map_err(|_| NodeError::Lied("payment hash"))?;
        Ok(Returned { bolt11: created.serialized, payment_hash })
    }

    pub(super) async fn look_up(&self, payment_hash: &[u8; 32]) -> Result<InvoiceState, NodeError> {
        let wanted = hex::encode(payment_hash);
        let payment: Incoming = self.rest.get(&format!("/payments/incoming/{wanted}")).await?.read()?;
        if !payment.payment_hash.eq_ignore_ascii_case(&wanted) {
            return Err(NodeError::Lied("payment hash"));
        }
        Ok(match payment {
            Incoming { is_paid: true, received_sat, completed_at, .. } => InvoiceState::Settled {
                at_s: completed_at.map(|at_ms| at_ms / 1000),
                msat: received_sat.0.saturating_mul(1000),
            },
            Incoming { is_expired: true, .. } => InvoiceState::Cancelled,
            Incoming { .. } => InvoiceState::Unpaid,
        })
    }

    /// The cursor is the millisecond of the last one.
    pub(super) async fn next_settled(&self, cursor: u64) -> Result<Vec<Settled>, NodeError> {
        polling::next_settled(self, &self.told, self.rest.wait, cursor).await
    }

    /// What phoenixd may pay for the way: it cannot be told a limit.
    pub(super) fn fee_max_msat(amount_msat: u64) -> u64 {
        let share = (u128::from(amount_msat) * FEE_MILLIONTHS).div_ceil(1_000_000);
        u64::try_from(share).unwrap_or(u64::MAX).saturating_add(FEE_BASE_MSAT)
    }

    pub(super) async fn order(&self, order: &Order<'_>) -> Ordered {
        // It counts in whole satoshi.
        if order.leaves_amount && !order.amount_msat.is_multiple_of(1000) {
            return Ordered::Never("phoenixd pays whole satoshi only".to_owned());
        }
        let amount = (order.amount_msat / 1000).to_string();
        let fields = [("invoice", order.bolt11), ("amountSat", amount.as_str())];
        let fields = if order.leaves_amount { &fields[..] } else { &fields[..1] };
        let answer = self.rest.form("/payinvoice", fields, PAY_TIME_MAX).await;
        let told = match answer.and_then(|reply| reply.read::<Told>()) {
            Ok(told) => told,
            Err(error) => return Ordered::of(error),
        };
        let preimage = told.payment_preimage.as_deref().map(Preimage::parse);
        match (preimage, told.reason) {
            (Some(Ok(preimage)), _) => {
                // Its answer names the fee in whole satoshi, the payment itself has it exactly.
                let fee_msat = match self.outgoing(&order.payment_hash).await {
                    Ok(Outgoing::Paid { fee_msat, .. }) => fee_msat,
                    Ok(_) | Err(_) => told.routing_fee_sat.0.saturating_mul(1000),
                };
                Ordered::Paid { preimage, fee_msat }
            }
            (None, Some(reason)) => Ordered::Answered(super::rest::printable(&reason)),
            (Some(Err(_)), _) | (None, None) => Ordered::Lost,
        }
    }

    pub(super) async fn outgoing(&self, payment_hash: &[u8; 32]) -> Result<Outgoing, NodeError> {
        let path = format!("/payments/outgoingbyhash/{}", hex::encode(payment_hash));
        let reply = self.rest.get(&path).await?;
        if reply.status == 404 && reply.body.as_ref() == b"Not found" {
            return Ok(Outgoing::Absent);
        }
        let payment: OutgoingPayment = reply.read()?;
        let preimage = payment.preimage.as_deref().and_then(|text| Preimage::parse(text).ok());
        Ok(match (payment.is_paid, preimage, payment.completed_at) {
            (true, Some(preimage), _) => Outgoing::Paid { preimage, fee_msat: payment.fees.0 },
            (false, _, Some(_)) => Outgoing::Failed("the payment failed".to_owned()),
            (true, None, _) | (false, _, None) => Outgoing::UnderWay,
        })
    }

    pub(super) async fn about(&self) -> Result<About, NodeError> {
        let info: Info = self.rest.get("/getinfo").await?.read()?;
        let room = info.channels.iter().filter_map(|channel| channel.inbound_liquidity_sat);
        let room_sat = room.fold(0_u64, |sum, room| sum.saturating_add(room.0));
        Ok(About {
            node_key: hex::decode_array(&info.node_id).ok(),
            network: network(&info.chain),
            can_receive_msat: Some(room_sat.saturating_mul(1000)),
        })
    }
}

impl Polled for Phoenixd {
    const UNITS_PER_SECOND: u64 = 1000;
    const PAGE: usize = PAGE;

    async fn page(&self, since: u64, offset: usize) -> Result<Vec<Found>, NodeError> {
        let path = format!("/payments/incoming?from={since}&limit={PAGE}&offset={offset}");
        let payments: Vec<Incoming> = self.rest.get(&path).await?.read()?;
        Ok(payments.iter().map(Incoming::found).collect())
    }
}

impl Incoming {
    fn found(&self) -> Found {
        let at = self.completed_at.unwrap_or_default();
        let settled = match hex::decode_array(&self.payment_hash) {
            Ok(payment_hash) if self.is_paid => {
                Some(Settled { payment_hash, msat: self.received_sat.0.saturating_mul(1000), cursor: at })
            }
            Ok(_) | Err(_) => None,
        };
        Found { at, settled }
    }
}

fn network(name: &str) -> Option<Network> {
    match name {
        "mainnet" => Some(Network::Mainnet),
        "testnet" | "testnet3" | "testnet4" => Some(Network::Testnet),
        "regtest" => Some(Network::Regtest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Phoenixd;

    #[test]
    fn what_a_way_may_cost() {
        for (amount_msat, expected) in
            [(0, 4_000), (1, 4_001), (1_000_000, 8_000), (u64::MAX, 73_786_976_294_842_207)]
        {
            assert_eq!(Phoenixd::fee_max_msat(amount_msat), expected, "{amount_msat}");
        }
    }
}
