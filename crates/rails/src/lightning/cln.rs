//! Core Lightning's CLNRest: each method of its RPC is a path.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use wire::hex;
use wire::l402::Preimage;

use super::bolt11::Returned;
use super::number::Count;
use super::payment::{Order, Ordered, PAY_S, PAY_TIME_MAX};
use super::port::{About, InvoiceState, Network, NodeError, Outgoing, Settled, Wanted};
use super::rest::{Reply, Rest};

/// Settlements in one answer, each of which is a question.
const SETTLED_MAX: usize = 64;
/// `INVOICE_WAIT_TIMED_OUT`.
const WAIT_TIMED_OUT: i64 = 904;

/// A Core Lightning node. Its rune is in every request.
#[derive(Debug)]
pub(super) struct Cln(pub Rest);

#[derive(Deserialize)]
struct Created {
    bolt11: String,
    payment_hash: String,
}

#[derive(Deserialize)]
struct Invoices {
    invoices: Vec<Invoice>,
}

/// Of an invoice, without its preimage (L402-70).
#[derive(Deserialize)]
struct Invoice {
    payment_hash: String,
    status: InvoiceStatus,
    pay_index: Option<u64>,
    paid_at: Option<u64>,
    amount_received_msat: Option<Count>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum InvoiceStatus {
    Unpaid,
    Paid,
    Expired,
}

/// What `xpay` and `pay` say in the same words.
#[derive(Deserialize)]
struct Paid {
    payment_preimage: String,
    amount_msat: Count,
    amount_sent_msat: Count,
    /// Of `pay` only: `complete`, `pending` or `failed`.
    status: Option<PayStatus>,
}

#[derive(Deserialize)]
struct Pays {
    pays: Vec<Pay>,
}

#[derive(Deserialize)]
struct Pay {
    status: PayStatus,
    preimage: Option<String>,
    amount_msat: Option<Count>,
    amount_sent_msat: Option<Count>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PayStatus {
    Pending,
    Failed,
    Complete,
}

#[derive(Deserialize)]
struct Info {
    id: String,
    network: String,
}

#[derive(Deserialize)]
struct Channels {
    channels: Vec<Channel>,
}

#[derive(Deserialize)]
struct Channel {
    state: String,
    peer_connected: bool,
    receivable_msat: Option<Count>,
}

impl Cln {
    pub(super) async fn create(&self, wanted: &Wanted<'_>, amount_msat: u64) -> Result<Returned, NodeError> {
        let body = json!({
            "amount_msat": amount_msat,
            "label": wanted.label,
            "description": wanted.description,
            "expiry": wanted.expiry_s,
        });
        let created: Created = self.0.post("/v1/invoice", &body).await?.read()?;
        let payment_hash =
            hex::decode_array(&created.payment_hash).map_err(|_| NodeError::Lied("payment hash"))?;
        Ok(Returned { bolt11: created.bolt11, payment_hash })
    }

    pub(super) async fn look_up(&self, payment_hash: &[u8; 32]) -> Result<InvoiceState, NodeError> {
        let wanted = hex::encode(payment_hash);
        let found: Invoices =
            self.0.post("/v1/listinvoices", &json!({"payment_hash": wanted})).await?.read()?;
        let Some(invoice) = found.invoices.first() else {
            return Err(NodeError::Refused("unknown invoice".to_owned()));
        };
        if !invoice.payment_hash.eq_ignore_ascii_case(&wanted) {
            return Err(NodeError::Lied("payment hash"));
        }
        Ok(match invoice.status {
            InvoiceStatus::Paid => InvoiceState::Settled {
                at_s: invoice.paid_at,
                msat: invoice.amount_received_msat.ok_or(NodeError::Lost)?.0,
            },
            InvoiceStatus::Unpaid => InvoiceState::Unpaid,
            InvoiceStatus::Expired => InvoiceState::Cancelled,
        })
    }

    /// The cursor is Core Lightning's pay index; 0 is before the first payment that the node ever got.
    pub(super) async fn next_settled(&self, cursor: u64) -> Result<Vec<Settled>, NodeError> {
        let mut settled: Vec<Settled> = Vec::new();
        while settled.len() < SETTLED_MAX {
            let after = settled.last().map_or(cursor, |last| last.cursor);
            let wait = if settled.is_empty() { self.0.wait } else { Duration::ZERO };
            match self.settled_after(after, wait).await {
                Ok(Some(one)) => settled.push(one),
                Ok(None) => break,
                Err(error) if settled.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(settled)
    }

    async fn settled_after(&self, index: u64, wait: Duration) -> Result<Option<Settled>, NodeError> {
        let body = json!({"lastpay_index": index, "timeout": wait.as_secs()});
        let reply = self.0.post_within("/v1/waitanyinvoice", &body, wait + self.0.time_max).await?;
        if reply.code() == Some(WAIT_TIMED_OUT) {
            return Ok(None);
        }
        let invoice: Invoice = reply.read()?;
        let cursor = invoice.pay_index.filter(|found| *found > index).ok_or(NodeError::Lost)?;
        Ok(Some(Settled {
            payment_hash: hex::decode_array(&invoice.payment_hash).map_err(|_| NodeError::Lost)?,
            msat: invoice.amount_received_msat.ok_or(NodeError::Lost)?.0,
            cursor,
        }))
    }

    /// `xpay`, or `pay` where the node is too old to know it.
    pub(super) async fn order(&self, order: &Order<'_>) -> Ordered {
        let body = asked("invstring", order);
        let answer = self.0.post_within("/v1/xpay", &body, PAY_TIME_MAX).await;
        match answer {
            Ok(reply) if reply.status == 404 => self.order_from_pay(order).await,
            answer => ordered(answer),
        }
    }

    async fn order_from_pay(&self, order: &Order<'_>) -> Ordered {
        let body = asked("bolt11", order);
        ordered(self.0.post_within("/v1/pay", &body, PAY_TIME_MAX).await)
    }

    /// There is an entry for each attempt: one that is complete, or may still be, says more than one that failed.
    pub(super) async fn outgoing(&self, payment_hash: &[u8; 32]) -> Result<Outgoing, NodeError> {
        let body = json!({"payment_hash": hex::encode(payment_hash)});
        let found: Pays = self.0.post("/v1/listpays", &body).await?.read()?;
        let with = |status| found.pays.iter().find(move |pay| pay.status == status);
        if let Some(pay) = with(PayStatus::Complete) {
            return Ok(pay.outgoing());
        }
        Ok(match (with(PayStatus::Pending), with(PayStatus::Failed)) {
            (Some(_), _) => Outgoing::UnderWay,
            (None, Some(_)) => Outgoing::Failed("the payment failed".to_owned()),
            (None, None) => Outgoing::Absent,
        })
    }

    pub(super) async fn about(&self) -> Result<About, NodeError> {
        let info: Info = self.0.post("/v1/getinfo", &json!({})).await?.read()?;
        let channels: Option<Channels> =
            self.0.post("/v1/listpeerchannels", &json!({})).await.ok().and_then(|reply| reply.read().ok());
        Ok(About {
            node_key: hex::decode_array(&info.id).ok(),
            network: network(&info.network),
            can_receive_msat: channels.as_ref().map(Channels::can_receive_msat),
        })
    }
}

impl Pay {
    fn outgoing(&self) -> Outgoing {
        let preimage = self.preimage.as_deref().and_then(|text| Preimage::parse(text).ok());
        match preimage {
            Some(preimage) => {
                Outgoing::Paid { preimage, fee_msat: fee(self.amount_msat, self.amount_sent_msat) }
            }
            None => Outgoing::UnderWay,
        }
    }
}

impl Channels {
    fn can_receive_msat(&self) -> u64 {
        let open = self.channels.iter().filter(|one| one.peer_connected && one.state == "CHANNELD_NORMAL");
        open.filter_map(|one| one.receivable_msat).fold(0, |sum, room| sum.saturating_add(room.0))
    }
}

/// What both commands are told; they call the invoice differently.
fn asked(invoice: &str, order: &Order<'_>) -> Value {
    let mut body = json!({invoice: order.bolt11, "maxfee": order.max_fee_msat, "retry_for": PAY_S});
    if order.leaves_amount {
        body["amount_msat"] = order.amount_msat.into();
    }
    body
}

fn ordered(answer: Result<Reply, NodeError>) -> Ordered {
    match answer.and_then(|reply| reply.read::<Paid>()) {
        Ok(paid) => match (Preimage::parse(&paid.payment_preimage), paid.status) {
            (Ok(preimage), Some(PayStatus::Complete) | None) => {
                let fee_msat = fee(Some(paid.amount_msat), Some(paid.amount_sent_msat));
                Ordered::Paid { preimage, fee_msat }
            }
            (_, Some(PayStatus::Failed)) => Ordered::Answered("the payment failed".to_owned()),
            (Ok(_), Some(PayStatus::Pending)) | (Err(_), _) => Ordered::Lost,
        },
        Err(error) => Ordered::of(error),
    }
}

fn fee(amount: Option<Count>, sent: Option<Count>) -> u64 {
    sent.unwrap_or_default().0.saturating_sub(amount.unwrap_or_default().0)
}

fn network(name: &str) -> Option<Network> {
    match name {
        "bitcoin" => Some(Network::Mainnet),
        "testnet" | "testnet4" => Some(Network::Testnet),
        "signet" => Some(Network::Signet),
        "regtest" => Some(Network::Regtest),
        _ => None,
    }
}
