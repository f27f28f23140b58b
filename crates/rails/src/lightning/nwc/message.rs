//! What is asked of a wallet and what it answers (NIP-47). Preimages of our own invoices are not read (L402-70): no type
//! here has room for one, but for that of a payment that the wallet made for us.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wire::hex;
use wire::l402::Preimage;

use crate::lightning::port::{InvoiceState, Network, NodeError};
use crate::lightning::rest::printable;

/// A question.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "method", content = "params", rename_all = "snake_case")]
pub(super) enum Request<'a> {
    /// An invoice, please.
    MakeInvoice {
        /// Millisatoshi.
        amount: u64,
        /// What the payer sees.
        description: &'a str,
        /// Seconds.
        expiry: u32,
    },
    /// What became of an invoice, or of a payment.
    LookupInvoice {
        /// In hexadecimal.
        payment_hash: String,
    },
    /// Pay this.
    PayInvoice {
        /// BOLT11.
        invoice: &'a str,
        /// Millisatoshi, where the invoice leaves that to the payer.
        #[serde(skip_serializing_if = "Option::is_none")]
        amount: Option<u64>,
    },
    /// Who are you.
    GetInfo {},
}

/// Why an answer holds no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Not an answer to this question.
    Malformed(&'static str),
    /// The wallet says no.
    Refused {
        /// What kind of no.
        code: Code,
        /// In its words, printable.
        reason: String,
    },
}

/// What kind of no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// It knows no such invoice or payment.
    NotFound,
    /// It looked at the question and has done nothing: too fast, too poor, not allowed, not built.
    Declined,
    /// A payment ended badly.
    PaymentFailed,
    /// Anything may have happened.
    Unclear,
}

/// The result of `make_invoice`.
#[derive(Debug, Deserialize)]
pub(super) struct Made {
    pub(super) invoice: String,
    payment_hash: Option<String>,
}

/// The result of `lookup_invoice`, and the body of a notification.
#[derive(Debug, Deserialize)]
pub(super) struct Looked {
    #[serde(rename = "type")]
    direction: Option<String>,
    state: Option<String>,
    payment_hash: Option<String>,
    amount: Option<u64>,
    settled_at: Option<u64>,
}

/// The result of `pay_invoice`, and that of `lookup_invoice` for a payment that the wallet made.
#[derive(Deserialize)]
pub(super) struct Proof {
    preimage: Option<String>,
    fees_paid: Option<u64>,
}

/// The result of `get_info`.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    pubkey: Option<String>,
    network: Option<String>,
}

/// Where a payment stands, by its wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not decided.
    Open,
    /// Decided: the money has moved.
    Settled,
    /// Decided: it will not.
    Over,
}

#[derive(Deserialize)]
struct Response<'a> {
    result_type: Option<String>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Notification<'a> {
    notification_type: String,
    #[serde(borrow)]
    notification: &'a RawValue,
}

impl Request<'_> {
    /// Its name.
    pub(super) const fn method(&self) -> &'static str {
        match self {
            Self::MakeInvoice { .. } => "make_invoice",
            Self::LookupInvoice { .. } => "lookup_invoice",
            Self::PayInvoice { .. } => "pay_invoice",
            Self::GetInfo {} => "get_info",
        }
    }

    /// Reads the answer to it.
    pub(super) fn result<T: DeserializeOwned>(&self, answer: &str) -> Result<T, Failure> {
        let malformed = Failure::Malformed("answer");
        let response: Response<'_> = serde_json::from_str(answer).map_err(|_| malformed.clone())?;
        if let Some(Refusal { code, message }) = response.error {
            let reason = printable(&format!("{code}: {message}"));
            return Err(Failure::Refused { code: Code::of(&code), reason });
        }
        // Some wallets leave the type out; one that is there is right.
        if response.result_type.is_some_and(|named| named != self.method()) {
            return Err(Failure::Malformed("result_type"));
        }
        let result = response.result.ok_or_else(|| malformed.clone())?;
        serde_json::from_str(result.get()).map_err(|_| malformed)
    }
}

impl Code {
    fn of(code: &str) -> Self {
        match code {
            "NOT_FOUND" => Self::NotFound,
            "PAYMENT_FAILED" => Self::PaymentFailed,
            "RATE_LIMITED"
            | "NOT_IMPLEMENTED"
            | "INSUFFICIENT_BALANCE"
            | "QUOTA_EXCEEDED"
            | "RESTRICTED"
            | "UNAUTHORIZED"
            | "UNSUPPORTED_ENCRYPTION" => Self::Declined,
            _ => Self::Unclear,
        }
    }
}

impl From<Failure> for NodeError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Malformed(field) => Self::Lied(field),
            Failure::Refused { reason, .. } => Self::Refused(reason),
        }
    }
}

impl Made {
    /// The hash that the wallet says the invoice has; `otherwise` where it says none.
    pub(super) fn payment_hash(&self, otherwise: [u8; 32]) -> Result<[u8; 32], NodeError> {
        let Some(hash) = &self.payment_hash else { return Ok(otherwise) };
        hex::decode_array(hash).map_err(|_| NodeError::Lied("payment hash"))
    }
}

impl Looked {
    /// What became of the invoice of that hash.
    pub(super) fn invoice(&self, asked: &[u8; 32]) -> Result<InvoiceState, NodeError> {
        self.is_about(asked, "incoming")?;
        Ok(match self.stage() {
            Stage::Open => InvoiceState::Unpaid,
            Stage::Over => InvoiceState::Cancelled,
            Stage::Settled => {
                let msat = self.amount.filter(|msat| *msat > 0).ok_or(NodeError::Lied("amount"))?;
                InvoiceState::Settled { at_s: self.settled_at.filter(|at_s| *at_s > 0), msat }
            }
        })
    }

    /// Where the payment to the invoice of that hash stands.
    pub(super) fn payment(&self, asked: &[u8; 32]) -> Result<Stage, NodeError> {
        self.is_about(asked, "outgoing")?;
        Ok(self.stage())
    }

    fn is_about(&self, asked: &[u8; 32], direction: &str) -> Result<(), NodeError> {
        let named = self.payment_hash.as_ref().map(|hash| hex::decode_array(hash));
        if named.is_some_and(|hash| hash != Ok(*asked)) {
            return Err(NodeError::Lied("payment hash"));
        }
        if self.direction.as_ref().is_some_and(|named| named != direction) {
            return Err(NodeError::Lied("type"));
        }
        Ok(())
    }

    /// The state has been in the protocol since 2025; before, the time told.
    fn stage(&self) -> Stage {
        match self.state.as_deref() {
            Some("settled") => Stage::Settled,
            Some("expired" | "failed") => Stage::Over,
            None if self.settled_at.is_some_and(|at_s| at_s > 0) => Stage::Settled,
            Some(_) | None => Stage::Open,
        }
    }
}

impl Proof {
    /// The preimage, if it opens that hash, and the fee.
    pub(super) fn of(&self, payment_hash: &[u8; 32]) -> Option<(Preimage, u64)> {
        let preimage = Preimage::new(hex::decode_array(self.preimage.as_ref()?).ok()?);
        (preimage.payment_hash().0 == *payment_hash).then_some((preimage, self.fees_paid.unwrap_or(0)))
    }
}

impl Info {
    /// Who signs the invoices, where the wallet says so.
    pub(super) fn node_key(&self) -> Option<[u8; 33]> {
        hex::decode_array(self.pubkey.as_ref()?).ok()
    }

    /// Its chain, where it says so.
    pub(super) fn network(&self) -> Option<Network> {
        match self.network.as_deref()? {
            "bitcoin" => Some(Network::Mainnet),
            name => name.parse().ok(),
        }
    }
}

/// A payment that came in: its hash and what came.
pub(super) fn received(notification: &str) -> Option<([u8; 32], u64)> {
    let told: Notification<'_> = serde_json::from_str(notification).ok()?;
    if told.notification_type != "payment_received" {
        return None;
    }
    let paid: Looked = serde_json::from_str(told.notification.get()).ok()?;
    let hash = hex::decode_array(paid.payment_hash.as_ref()?).ok()?;
    match paid.invoice(&hash) {
        Ok(InvoiceState::Settled { msat, .. }) => Some((hash, msat)),
        Ok(InvoiceState::Unpaid | InvoiceState::Cancelled) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests;
