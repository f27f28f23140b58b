//! LND's REST interface.

use std::time::Duration;

use ::http::Method;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::time::{Instant, timeout_at};
use wire::l402::Preimage;
use wire::{base64, hex};

use super::bolt11::Returned;
use super::number::Count;
use super::payment::{Order, Ordered, PAY_S, PAY_TIME_MAX};
use super::port::{About, InvoiceState, Network, NodeError, Outgoing, Settled, Wanted};
use super::rest::{Reply, Rest, printable};
use crate::http::Lines;

/// How long after a settlement others may follow in the same answer.
const GATHER: Duration = Duration::from_millis(100);
/// Settlements in one answer.
const SETTLED_MAX: usize = 256;
/// Invoices that are looked through for settlements when nobody knows where to begin.
const LATEST: u32 = 100;
/// `NOT_FOUND`, in the numbers of gRPC.
const NOT_FOUND: i64 = 5;

/// An LND node. Its macaroon is in every request.
#[derive(Debug)]
pub(super) struct Lnd(pub Rest);

#[derive(Deserialize)]
struct Created {
    r_hash: String,
    payment_request: String,
}

/// Of an invoice, without its preimage (L402-70).
#[derive(Deserialize)]
struct Invoice {
    r_hash: String,
    state: State,
    settle_date: Count,
    settle_index: Count,
    amt_paid_msat: Count,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
enum State {
    #[serde(rename = "OPEN")]
    Open,
    #[serde(rename = "SETTLED")]
    Settled,
    #[serde(rename = "CANCELED")]
    Cancelled,
    #[serde(rename = "ACCEPTED")]
    Accepted,
}

#[derive(Deserialize)]
struct Invoices {
    invoices: Vec<Invoice>,
}

/// A line of a stream.
#[derive(Deserialize)]
struct Event<T> {
    result: Option<T>,
    error: Option<StreamError>,
}

#[derive(Deserialize)]
struct StreamError {
    #[serde(alias = "grpc_code")]
    code: Option<i64>,
    message: Option<String>,
}

/// Of a payment by the node.
#[derive(Deserialize)]
struct Payment {
    status: Status,
    payment_preimage: String,
    fee_msat: Count,
    failure_reason: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
enum Status {
    #[serde(rename = "SUCCEEDED")]
    Succeeded,
    #[serde(rename = "FAILED")]
    Failed,
    #[serde(rename = "IN_FLIGHT", alias = "INITIATED", alias = "UNKNOWN")]
    UnderWay,
}

#[derive(Deserialize)]
struct Info {
    identity_pubkey: String,
    chains: Vec<Chain>,
}

#[derive(Deserialize)]
struct Chain {
    network: String,
}

#[derive(Deserialize)]
struct Balance {
    remote_balance: Amount,
}

#[derive(Deserialize)]
struct Amount {
    msat: Count,
}

impl Lnd {
    pub(super) async fn create(&self, wanted: &Wanted<'_>, amount_msat: u64) -> Result<Returned, NodeError> {
        let body = json!({
            "value_msat": amount_msat.to_string(),
            "memo": wanted.description,
            "expiry": wanted.expiry_s.to_string(),
        });
        let created: Created = self.0.post("/v1/invoices", &body).await?.read()?;
        let payment_hash = hash(&created.r_hash).ok_or(NodeError::Lied("payment hash"))?;
        Ok(Returned { bolt11: created.payment_request, payment_hash })
    }

    pub(super) async fn look_up(&self, payment_hash: &[u8; 32]) -> Result<InvoiceState, NodeError> {
        let path = format!("/v1/invoice/{}", hex::encode(payment_hash));
        let invoice: Invoice = self.0.get(&path).await?.read()?;
        if hash(&invoice.r_hash) != Some(*payment_hash) {
            return Err(NodeError::Lied("payment hash"));
        }
        Ok(match invoice.state {
            State::Settled => InvoiceState::Settled {
                at_s: Some(invoice.settle_date.0).filter(|at_s| *at_s > 0),
                msat: invoice.amt_paid_msat.0,
            },
            State::Open | State::Accepted => InvoiceState::Unpaid,
            State::Cancelled => InvoiceState::Cancelled,
        })
    }

    /// The cursor is LND's settle index. Asked from 0, LND tells of nothing that was before: so the latest invoices are
    /// looked through first.
    pub(super) async fn next_settled(&self, cursor: u64) -> Result<Vec<Settled>, NodeError> {
        if cursor == 0 {
            let settled = self.latest_settled().await?;
            if !settled.is_empty() {
                return Ok(settled);
            }
        }
        let path = format!("/v1/invoices/subscribe?settle_index={cursor}");
        let until = Instant::now() + self.0.wait;
        // LND's answer begins with the first event: until then not even its head comes.
        let opening = self.0.lines(Method::GET, &path, Bytes::new(), self.0.wait + self.0.time_max);
        let Ok(opened) = timeout_at(until, opening).await else { return Ok(Vec::new()) };
        let mut lines = opened?;
        if lines.status() != 200 {
            return Err(NodeError::Refused(refusal(&mut lines).await?));
        }
        let mut settled = Vec::new();
        while settled.len() < SETTLED_MAX {
            let patience = if settled.is_empty() { until } else { until.min(Instant::now() + GATHER) };
            let line = match timeout_at(patience, lines.next()).await {
                Err(_) => break,
                Ok(Ok(Some(line))) => line,
                Ok(Ok(None) | Err(_)) if settled.is_empty() => return Err(NodeError::Lost),
                Ok(Ok(None) | Err(_)) => break,
            };
            settled.extend(event::<Invoice>(&line)?.and_then(|invoice| invoice.settled()));
        }
        Ok(settled)
    }

    async fn latest_settled(&self) -> Result<Vec<Settled>, NodeError> {
        let path = format!("/v1/invoices?reversed=true&num_max_invoices={LATEST}");
        let latest: Invoices = self.0.get(&path).await?.read()?;
        Ok(latest.invoices.iter().filter_map(Invoice::settled).collect())
    }

    pub(super) async fn order(&self, order: &Order<'_>) -> Ordered {
        let mut body = json!({
            "payment_request": order.bolt11,
            "fee_limit_msat": order.max_fee_msat.to_string(),
            "timeout_seconds": PAY_S,
            "no_inflight_updates": true,
        });
        if order.leaves_amount {
            body["amt_msat"] = order.amount_msat.to_string().into();
        }
        let body = Bytes::from(body.to_string());
        let mut lines = match self.0.lines(Method::POST, "/v2/router/send", body, PAY_TIME_MAX).await {
            Ok(lines) => lines,
            Err(error) => return Ordered::of(error),
        };
        if lines.status() != 200 {
            return refusal(&mut lines).await.map_or(Ordered::Lost, Ordered::Answered);
        }
        loop {
            let payment = match lines.next().await {
                Ok(Some(line)) => event::<Payment>(&line),
                Ok(None) | Err(_) => return Ordered::Lost,
            };
            match payment.map(|payment| payment.map(Payment::outgoing)) {
                Ok(Some(Outgoing::Paid { preimage, fee_msat })) => {
                    return Ordered::Paid { preimage, fee_msat };
                }
                Ok(Some(Outgoing::Failed(reason))) => return Ordered::Answered(reason),
                Ok(Some(Outgoing::UnderWay | Outgoing::Absent) | None) => {}
                Err(error) => return Ordered::of(error),
            }
        }
    }

    /// What LND knows: the first line of its stream is how things stand.
    pub(super) async fn outgoing(&self, payment_hash: &[u8; 32]) -> Result<Outgoing, NodeError> {
        let path = format!("/v2/router/track/{}", padded_url(payment_hash));
        let mut lines = self.0.lines(Method::GET, &path, Bytes::new(), self.0.time_max).await?;
        let status = lines.status();
        let line = lines.next().await?.ok_or(NodeError::Lost)?;
        let complaint = Complaint::of(status, &line);
        match complaint {
            Some(Complaint { code: Some(NOT_FOUND), .. }) => Ok(Outgoing::Absent),
            Some(Complaint { reason, .. }) => Err(NodeError::Refused(reason)),
            None => Ok(event::<Payment>(&line)?.ok_or(NodeError::Lost)?.outgoing()),
        }
    }

    pub(super) async fn about(&self) -> Result<About, NodeError> {
        let info: Info = self.0.get("/v1/getinfo").await?.read()?;
        let balance = self.0.get("/v1/balance/channels").await.and_then(|reply| reply.read::<Balance>()).ok();
        Ok(About {
            node_key: hex::decode_array(&info.identity_pubkey).ok(),
            network: info.chains.first().and_then(|chain| network(&chain.network)),
            can_receive_msat: balance.map(|balance| balance.remote_balance.msat.0),
        })
    }
}

impl Invoice {
    fn settled(&self) -> Option<Settled> {
        let payment_hash = (self.state == State::Settled).then(|| hash(&self.r_hash))??;
        Some(Settled { payment_hash, msat: self.amt_paid_msat.0, cursor: self.settle_index.0 })
    }
}

impl Payment {
    /// A payment without its preimage has not been proved, and may still be.
    fn outgoing(self) -> Outgoing {
        match (self.status, Preimage::parse(&self.payment_preimage)) {
            (Status::Succeeded, Ok(preimage)) => Outgoing::Paid { preimage, fee_msat: self.fee_msat.0 },
            (Status::Failed, _) => Outgoing::Failed(printable(&self.failure_reason)),
            (Status::Succeeded, Err(_)) | (Status::UnderWay, _) => Outgoing::UnderWay,
        }
    }
}

impl StreamError {
    fn text(self) -> String {
        printable(self.message.as_deref().unwrap_or("no reason given"))
    }
}

/// What a line tells; none for a line of something else.
fn event<T: for<'de> Deserialize<'de>>(line: &[u8]) -> Result<Option<T>, NodeError> {
    let event: Event<T> = serde_json::from_slice(line).map_err(|_| NodeError::Lost)?;
    match event.error {
        Some(error) => Err(NodeError::Refused(error.text())),
        None => Ok(event.result),
    }
}

/// Why a stream did not begin.
async fn refusal(lines: &mut Lines) -> Result<String, NodeError> {
    let status = lines.status();
    let line = lines.next().await?.unwrap_or_default();
    Ok(Complaint::of(status, &line).map_or_else(|| format!("status {status}"), |complaint| complaint.reason))
}

/// What is wrong, and LND's number for it.
struct Complaint {
    code: Option<i64>,
    reason: String,
}

impl Complaint {
    /// A stream complains inside its first line, or like any other answer.
    fn of(status: u16, line: &Bytes) -> Option<Self> {
        if let Some(error) =
            serde_json::from_slice::<Event<IgnoredAny>>(line).ok().and_then(|event| event.error)
        {
            return Some(Self { code: error.code, reason: error.text() });
        }
        let reply = Reply { status, body: line.clone() };
        (status != 200).then(|| Self { code: reply.code(), reason: reply.reason() })
    }
}

fn hash(text: &str) -> Option<[u8; 32]> {
    base64::decode_any(text, 44).ok()?.try_into().ok()
}

/// 32 bytes as LND takes them in a path.
fn padded_url(bytes: &[u8; 32]) -> String {
    format!("{}=", base64::encode_url(bytes))
}

fn network(name: &str) -> Option<Network> {
    match name {
        "mainnet" => Some(Network::Mainnet),
        "testnet" | "testnet3" | "testnet4" => Some(Network::Testnet),
        "signet" => Some(Network::Signet),
        "regtest" => Some(Network::Regtest),
        _ => None,
    }
}
