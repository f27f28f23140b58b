//! Credentials of `tempo`/`session`, and the challenge that they answer.

use proof::secp::SignatureError;
use proof::voucher::Signed;
use proof::voucher::evm::{Descriptor, Protocol, VoucherError};
use rails::Secret;
use serde_json::{Map, Value};
use wire::hex;
use wire::mpp::problem::SessionProblem;
use wire::mpp::tempo::{
    self, SessionDetails, SessionPayload, SessionProtocol, SessionRequest, SessionSnapshot,
};
use wire::mpp::{SESSION, payload};
use wire::x402::Address;

use super::{Made, Tempo};
use crate::config::{self, MppMethod};
use crate::gate::Gate;
use crate::mpp::session::chain::{self, Unchecked};
use crate::mpp::session::presented::{self, Action, elsewhere, malformed, sum};
use crate::mpp::session::{self, Presented, Signature, Terms, snapshot, told};
use crate::mpp::{Demand, Echo, Offer, refused};
use crate::refusal::Refusal;

/// Longest transaction that is passed on for a payer, in characters.
const TRANSACTION_CHARS_MAX: usize = 8 * 1024;

impl Tempo {
    pub(in crate::mpp::session) fn read(
        &self,
        terms: &Terms,
        gate: &Gate,
        echo: &Echo,
    ) -> Result<Presented, Refusal> {
        self.is_ours(&echo.request)?;
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
        let is_here = |made: &session::Made| match made {
            session::Made::Tempo(made) => made.escrow() == self.rules.escrow,
            session::Made::Solana(_) => false,
        };
        if stored.as_ref().is_some_and(|made| !is_here(made)) {
            return Err(elsewhere("escrow"));
        }
        let told = descriptor.as_ref().map(|descriptor| self.described(&id, descriptor)).transpose()?;
        if self.rules.escrow.protocol() == Protocol::TempoV2 && told.is_none() {
            return Err(malformed("descriptor"));
        }
        // Of a channel that we know it is never the payload that says who signs (MPP-31); of another one that is bound
        // by its id.
        let made = stored.or(told.map(session::Made::Tempo));
        let check = |sent: &str, signature: &str| {
            let voucher = Unchecked { sum: sum(sent)?, signature: Secret::new(signature), expires_at: 0 };
            presented::voucher(terms, &id, made.as_ref(), voucher)
        };
        let action = match payload {
            SessionPayload::Open(open) => {
                let voucher = check(&open.cumulative_amount, &open.signature)?;
                let transaction = self.transaction(&open.kind, open.transaction)?;
                Action::Open { transaction, voucher: Some(voucher) }
            }
            SessionPayload::TopUp(more) => {
                sum(&more.additional_deposit)?;
                Action::TopUp { transaction: self.transaction(&more.kind, more.transaction)? }
            }
            SessionPayload::Voucher(sent) => {
                Action::Voucher(check(&sent.cumulative_amount, &sent.signature)?)
            }
            SessionPayload::Close(sent) => Action::Close(check(&sent.cumulative_amount, &sent.signature)?),
        };
        let method = MppMethod::Tempo;
        Ok(Presented { method, id, made, action, challenge_id: echo.challenge.id.clone() })
    }

    /// Whether the challenge was made for channels as they are opened here now.
    fn is_ours(&self, request: &Map<String, Value>) -> Result<(), Refusal> {
        let request: SessionRequest = payload::read(request).map_err(|_| presented::another())?;
        let (rules, details) = (&self.rules, &request.method_details);
        let escrow = details.escrow_contract.as_deref().and_then(|text| text.parse().ok());
        let same = request.currency.parse() == Ok(rules.token)
            && request.recipient.parse() == Ok(rules.pay_to)
            && escrow == Some(*rules.escrow.contract())
            && details.chain_id == Some(rules.escrow.chain_id())
            && details.session_protocol.unwrap_or(SessionProtocol::V1) == protocol(&self.rules);
        if same { Ok(()) } else { Err(presented::another()) }
    }

    /// A channel as a payload describes it: the id is its hash, and it pays us.
    fn described(&self, id: &[u8; 32], descriptor: &tempo::Descriptor) -> Result<Made, Refusal> {
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
        let rules = &self.rules;
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

    pub(in crate::mpp::session) fn genuine(
        &self,
        terms: &Terms,
        id: &[u8; 32],
        made: &Made,
        voucher: &Unchecked,
    ) -> Result<Signed<Signature>, Refusal> {
        let signer = made.descriptor().signer();
        let signed = self.rules.escrow.verify(id, voucher.sum, voucher.signature.expose(), &signer);
        let signed = signed.map_err(|error| match error {
            VoucherError::TooWide => malformed("cumulative_amount"),
            VoucherError::Signature(SignatureError::WrongSigner) => told::other_signer(terms),
            VoucherError::Signature(
                SignatureError::Hex
                | SignatureError::Length(_)
                | SignatureError::Range
                | SignatureError::HighS
                | SignatureError::RecoveryByte(_)
                | SignatureError::NoKey,
            ) => {
                let detail = "The voucher's signature is not one that the channel's contract would take.";
                refused(terms.problem(SessionProblem::InvalidSignature), "signature", detail)
            }
        })?;
        Ok(Signed { max_claimable: signed.max_claimable, signature: Signature::Evm(signed.signature) })
    }

    /// A transaction that is passed on as it is. What it did is read from the chain, not from it; one that does not even
    /// name our contract is nobody's business here.
    fn transaction(&self, kind: &str, text: String) -> Result<String, Refusal> {
        let digits = text.strip_prefix("0x").unwrap_or_default();
        let is_hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let fits = text.len() <= TRANSACTION_CHARS_MAX;
        let contract = hex::encode(self.rules.escrow.contract().as_bytes());
        let names_it = || digits.to_ascii_lowercase().contains(&contract);
        if kind == "transaction" && is_hex && fits && names_it() {
            return Ok(text);
        }
        Err(malformed("transaction"))
    }

    /// What is asked of a payer who wants to pay by vouchers: enough for this call to begin, and some to go on.
    pub(in crate::mpp::session) async fn offer(&self, terms: &Terms, demand: &Demand<'_>) -> Offer {
        let begins = terms.units(demand.ask.begins).max(1);
        let deposit = terms.units(terms.rules.suggested_deposit).max(begins);
        let (begins, deposit) = (begins.to_string(), deposit.to_string());
        let request = match snapshot::of(demand, terms, self).await {
            None => self.asked.fill(&[&begins, &deposit]),
            Some(stands) => payload::canonical(&request(&self.rules, &begins, &deposit, Some(stands))),
        };
        Offer { method: MppMethod::Tempo, intent: SESSION, request, expires_at_s: None, credit: None }
    }
}

const fn protocol(rules: &config::Tempo) -> SessionProtocol {
    match rules.escrow.protocol() {
        Protocol::TempoV2 => SessionProtocol::V2,
        Protocol::TempoV1 | Protocol::Evm => SessionProtocol::V1,
    }
}

/// What a session asks for, and where a channel stands that it goes on with.
pub(super) fn request(
    rules: &config::Tempo,
    amount: &str,
    deposit: &str,
    stands: Option<SessionSnapshot>,
) -> SessionRequest {
    let (operator, least) = (rules.operator(), chain::units(&rules.terms, rules.terms.min_delta));
    SessionRequest {
        amount: amount.to_owned(),
        unit_type: Some("request".to_owned()),
        suggested_deposit: Some(deposit.to_owned()),
        currency: rules.token.to_string(),
        recipient: rules.pay_to.to_string(),
        method_details: SessionDetails {
            escrow_contract: Some(rules.escrow.contract().to_string()),
            chain_id: Some(rules.escrow.chain_id()),
            channel_id: None,
            min_voucher_delta: (least > 0).then(|| least.to_string()),
            operator: (operator != Address::ZERO).then(|| operator.to_string()),
            session_protocol: Some(protocol(rules)),
            fee_payer: None,
            session_snapshot: stands,
        },
    }
}
