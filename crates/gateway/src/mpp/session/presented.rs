//! A credential of a session as it arrives: one of ours, and its voucher genuine. CPU only; where the channel stands is not
//! looked at yet.

use std::sync::Arc;

use proof::secp::SignatureError;
use proof::voucher::Signed;
use proof::voucher::evm::{Descriptor, Protocol, VoucherError};
use rails::Secret;
use wire::hex;
use wire::mpp::problem::SessionProblem;
use wire::mpp::tempo::{self, SessionPayload, SessionProtocol, SessionRequest};
use wire::mpp::{Problem, payload};
use wire::x402::Address;

use super::{Made, Shown, Terms};
use crate::gate::Gate;
use crate::mpp::{Echo, refused};
use crate::refusal::Refusal;

/// Longest transaction that is passed on for a payer, in characters.
const TRANSACTION_CHARS_MAX: usize = 8 * 1024;
/// Digits of the largest sum.
const SUM_DIGITS_MAX: usize = 39;

/// A genuine credential.
#[derive(Clone, Debug)]
pub(crate) struct Presented {
    pub(crate) id: [u8; 32],
    /// What the channel is made of; none where only its contract can tell.
    pub(super) made: Option<Made>,
    pub(super) action: Action,
    pub(crate) challenge_id: String,
}

/// What its payer wants.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Open { transaction: String, voucher: Voucher },
    TopUp { transaction: String },
    Voucher(Voucher),
    Close(Voucher),
}

/// A voucher. It is checked when somebody can tell who has to have signed it.
#[derive(Clone, Debug)]
pub(super) enum Voucher {
    Genuine(Signed<[u8; 65]>),
    /// The channel's contract has to be asked who signs for it.
    Unchecked {
        sum: u128,
        signature: Secret,
    },
}

impl Presented {
    /// Whether it pays for a call: the others are about the channel alone.
    pub(crate) const fn may_pay(&self) -> bool {
        matches!(self.action, Action::Open { .. } | Action::Voucher(_))
    }

    /// The channel that a genuine voucher was shown of, and its sum.
    pub(crate) const fn shown(&self) -> Option<Shown> {
        match &self.action {
            Action::Open { voucher: Voucher::Genuine(signed), .. }
            | Action::Voucher(Voucher::Genuine(signed))
            | Action::Close(Voucher::Genuine(signed)) => {
                Some(Shown { id: self.id, sum: signed.max_claimable })
            }
            Action::Open { voucher: Voucher::Unchecked { .. }, .. }
            | Action::Voucher(Voucher::Unchecked { .. })
            | Action::Close(Voucher::Unchecked { .. })
            | Action::TopUp { .. } => None,
        }
    }
}

/// Reads a credential and checks its voucher.
///
/// # Errors
/// Nothing was claimed.
pub(crate) fn read(gate: &Arc<Gate>, terms: &Terms, echo: &Echo) -> Result<Presented, Refusal> {
    is_ours(terms, &echo.request)?;
    let payload: SessionPayload = payload::read(&echo.payload).map_err(|_| malformed("payload"))?;
    let (channel_id, descriptor) = match &payload {
        SessionPayload::Open(open) => (&open.channel_id, &open.descriptor),
        SessionPayload::TopUp(more) => (&more.channel_id, &more.descriptor),
        SessionPayload::Voucher(voucher) | SessionPayload::Close(voucher) => {
            (&voucher.channel_id, &voucher.descriptor)
        }
    };
    let id = hex::decode_0x_array(channel_id).map_err(|_| malformed("channel_id"))?;
    let stored = gate.sessions.channels.find(&id).map(|slot| slot.config.clone());
    // Vouchers are signed for one contract: the one that keeps the channel could not be shown those for another.
    if stored.as_ref().is_some_and(|made| made.escrow() != terms.rules.escrow) {
        return Err(elsewhere("escrow"));
    }
    let told = descriptor.as_ref().map(|descriptor| described(terms, &id, descriptor)).transpose()?;
    if terms.rules.escrow.protocol() == Protocol::TempoV2 && told.is_none() {
        return Err(malformed("descriptor"));
    }
    // Of a channel that we know it is never the payload that says who signs (MPP-31); of another one that is bound by
    // its id.
    let made = stored.or(told);
    let check = |sum: &str, signature: &str| voucher(terms, &id, made.as_ref(), sum, signature);
    let action = match payload {
        SessionPayload::Open(open) => {
            let voucher = check(&open.cumulative_amount, &open.signature)?;
            Action::Open { transaction: transaction(terms, &open.kind, open.transaction)?, voucher }
        }
        SessionPayload::TopUp(more) => {
            sum(&more.additional_deposit)?;
            Action::TopUp { transaction: transaction(terms, &more.kind, more.transaction)? }
        }
        SessionPayload::Voucher(sent) => Action::Voucher(check(&sent.cumulative_amount, &sent.signature)?),
        SessionPayload::Close(sent) => Action::Close(check(&sent.cumulative_amount, &sent.signature)?),
    };
    Ok(Presented { id, made, action, challenge_id: echo.challenge.id.clone() })
}

/// Whether the challenge was made for channels as they are opened here now.
fn is_ours(terms: &Terms, request: &serde_json::Map<String, serde_json::Value>) -> Result<(), Refusal> {
    let invalid = |reason| {
        let detail = "The challenge is not for channels as they are taken here now.";
        refused(Problem::InvalidChallenge, reason, detail)
    };
    let request: SessionRequest = payload::read(request).map_err(|_| invalid("request"))?;
    let rules = &terms.rules;
    let protocol = match rules.escrow.protocol() {
        Protocol::TempoV2 => SessionProtocol::V2,
        Protocol::TempoV1 | Protocol::Evm => SessionProtocol::V1,
    };
    let details = &request.method_details;
    let escrow = details.escrow_contract.as_deref().and_then(|text| text.parse().ok());
    let same = request.currency.parse() == Ok(rules.token)
        && request.recipient.parse() == Ok(rules.pay_to)
        && escrow == Some(*rules.escrow.contract())
        && details.chain_id == Some(rules.escrow.chain_id())
        && details.session_protocol.unwrap_or(SessionProtocol::V1) == protocol;
    if same { Ok(()) } else { Err(invalid("request")) }
}

/// A channel as a payload describes it: the id is its hash, and it pays us.
fn described(terms: &Terms, id: &[u8; 32], descriptor: &tempo::Descriptor) -> Result<Made, Refusal> {
    let address = |text: &str| text.parse::<Address>().map_err(|_| malformed("descriptor"));
    let word = |text: &str| hex::decode_0x_array(text).map_err(|_| malformed("descriptor"));
    let channel = Descriptor {
        payer: address(&descriptor.payer)?,
        payee: address(&descriptor.payee)?,
        operator: address(&descriptor.operator)?,
        token: address(&descriptor.token)?,
        salt: word(&descriptor.salt)?,
        authorized_signer: address(&descriptor.authorized_signer)?,
        expiring_nonce_hash: word(&descriptor.expiring_nonce_hash)?,
    };
    let rules = &terms.rules;
    if rules.escrow.channel_id(&channel) != *id {
        return Err(elsewhere("channel_id"));
    }
    if channel.payee != rules.pay_to {
        return Err(elsewhere("payee"));
    }
    if channel.token != rules.token {
        return Err(elsewhere("token"));
    }
    if channel.operator != rules.operator() {
        return Err(elsewhere("operator"));
    }
    Ok(Made::of(&rules.escrow, &channel))
}

fn voucher(
    terms: &Terms,
    id: &[u8; 32],
    made: Option<&Made>,
    amount: &str,
    signature: &str,
) -> Result<Voucher, Refusal> {
    let sum = sum(amount)?;
    let Some(made) = made else { return Ok(Voucher::Unchecked { sum, signature: Secret::new(signature) }) };
    genuine(terms, id, made, sum, signature).map(Voucher::Genuine)
}

impl Voucher {
    /// The voucher of a channel whose maker is known by now.
    pub(super) fn checked(
        self,
        terms: &Terms,
        id: &[u8; 32],
        made: &Made,
    ) -> Result<Signed<[u8; 65]>, Refusal> {
        match self {
            Self::Genuine(signed) => Ok(signed),
            Self::Unchecked { sum, signature } => genuine(terms, id, made, sum, signature.expose()),
        }
    }
}

fn genuine(
    terms: &Terms,
    id: &[u8; 32],
    made: &Made,
    sum: u128,
    signature: &str,
) -> Result<Signed<[u8; 65]>, Refusal> {
    let signer = made.descriptor().signer();
    terms.rules.escrow.verify(id, sum, signature, &signer).map_err(|error| match error {
        VoucherError::TooWide => malformed("cumulative_amount"),
        VoucherError::Signature(SignatureError::WrongSigner) => {
            let detail = "The voucher was signed by somebody else, or for something else.";
            refused(Problem::Session(SessionProblem::SignerMismatch), "signer", detail)
        }
        VoucherError::Signature(
            SignatureError::Hex
            | SignatureError::Length(_)
            | SignatureError::Range
            | SignatureError::HighS
            | SignatureError::RecoveryByte(_)
            | SignatureError::NoKey,
        ) => {
            let detail = "The voucher's signature is not one that the channel's contract would take.";
            refused(Problem::Session(SessionProblem::InvalidSignature), "signature", detail)
        }
    })
}

fn sum(text: &str) -> Result<u128, Refusal> {
    let is_number =
        !text.is_empty() && text.len() <= SUM_DIGITS_MAX && text.bytes().all(|b| b.is_ascii_digit());
    let number = is_number.then(|| text.parse().ok()).flatten();
    number.ok_or_else(|| malformed("amount"))
}

/// A transaction that is passed on as it is. What it did is read from the chain, not from it; one that does not even name our
/// contract is nobody's business here.
fn transaction(terms: &Terms, kind: &str, text: String) -> Result<String, Refusal> {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    let is_hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let fits = text.len() <= TRANSACTION_CHARS_MAX;
    let contract = hex::encode(terms.rules.escrow.contract().as_bytes());
    let names_it = || digits.to_ascii_lowercase().contains(&contract);
    if kind == "transaction" && is_hex && fits && names_it() {
        return Ok(text);
    }
    Err(malformed("transaction"))
}

fn malformed(reason: &'static str) -> Refusal {
    refused(Problem::MalformedCredential, reason, "The payload is none of this method.")
}

fn elsewhere(reason: &'static str) -> Refusal {
    refused(Problem::VerificationFailed, reason, "The channel is not one that pays us as our challenge says.")
}
