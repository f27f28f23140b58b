//! Channels of Tempo's contracts, of both versions (specs/vouchers.md).

use proof::eip712::keccak256;
use proof::evm_transaction::Transaction;
use proof::secp::{SecretKey, SignatureError};
use proof::voucher::evm::{Descriptor, Escrow, Protocol, VoucherError};
use proof::voucher::{Channel, NotTaken, Signed};
use rails::{EvmNode, Parties, Secret};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::ChannelClose;
use wire::hex;
use wire::mpp::problem::SessionProblem;
use wire::mpp::tempo::{self, SessionDetails, SessionPayload, SessionProtocol, SessionRequest};
use wire::mpp::{SESSION, payload};
use wire::x402::Address;

use super::chain::{By, Calls, Ending, Ends, Forced, NotWritten, Seen, Unchecked, Who, Written};
use super::presented::{self, Action, elsewhere, malformed, sum};
use super::{Presented, Signature, Terms, snapshot, told};
use crate::config::{self, MppMethod};
use crate::gate::Gate;
use crate::mpp::{Demand, Echo, Offer, refused};
use crate::refusal::Refusal;

/// What a payer has to wait on the chain for his money, in seconds.
pub(super) const GRACE_S: u64 = 900;
/// Longest transaction that is passed on for a payer, in characters.
const TRANSACTION_CHARS_MAX: usize = 8 * 1024;

/// Its channels, as they are opened and ended here.
#[derive(Debug)]
pub(crate) struct Tempo {
    pub(crate) rules: config::Tempo,
    pub(crate) node: EvmNode,
}

/// What a channel is made of, as its record has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Made {
    version: u8,
    chain_id: u64,
    escrow: Address,
    payer: Address,
    payee: Address,
    operator: Address,
    token: Address,
    #[serde(with = "bytes32")]
    salt: [u8; 32],
    authorized_signer: Address,
    #[serde(with = "bytes32")]
    expiring_nonce_hash: [u8; 32],
}

impl Made {
    fn of(escrow: &Escrow, channel: &Descriptor) -> Self {
        let Descriptor { payer, payee, operator, token, salt, authorized_signer, expiring_nonce_hash } =
            *channel;
        let version = match escrow.protocol() {
            Protocol::TempoV1 | Protocol::Evm => 1,
            Protocol::TempoV2 => 2,
        };
        let (chain_id, escrow) = (escrow.chain_id(), *escrow.contract());
        Self {
            version,
            chain_id,
            escrow,
            payer,
            payee,
            operator,
            token,
            salt,
            authorized_signer,
            expiring_nonce_hash,
        }
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor {
            payer: self.payer,
            payee: self.payee,
            operator: self.operator,
            token: self.token,
            salt: self.salt,
            authorized_signer: self.authorized_signer,
            expiring_nonce_hash: self.expiring_nonce_hash,
        }
    }

    /// The contract that keeps this channel, whichever keeps new ones by now.
    pub(super) fn escrow(&self) -> Escrow {
        let protocol = if self.version == 2 { Protocol::TempoV2 } else { Protocol::TempoV1 };
        Escrow::new(protocol, self.chain_id, self.escrow)
    }

    pub(super) const fn payer(&self) -> &Address {
        &self.payer
    }

    /// Whether channels like it are taken under these rules.
    pub(super) fn is_for(&self, rules: &config::Tempo) -> bool {
        let here = Self::of(&rules.escrow, &self.descriptor());
        *self == here
            && self.payee == rules.pay_to
            && self.token == rules.token
            && self.operator == rules.operator()
    }

    /// As a payload describes it.
    pub(super) fn told(&self) -> tempo::Descriptor {
        tempo::Descriptor {
            payer: self.payer.to_string(),
            payee: self.payee.to_string(),
            operator: self.operator.to_string(),
            token: self.token.to_string(),
            salt: hex::encode_0x(&self.salt),
            authorized_signer: self.authorized_signer.to_string(),
            expiring_nonce_hash: hex::encode_0x(&self.expiring_nonce_hash),
        }
    }

    pub(super) const fn chain_id(&self) -> u64 {
        self.chain_id
    }
}

/// Credentials.
impl Tempo {
    pub(super) fn read(&self, terms: &Terms, gate: &Gate, echo: &Echo) -> Result<Presented, Refusal> {
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
        let is_here = |made: &super::Made| match made {
            super::Made::Tempo(made) => made.escrow() == self.rules.escrow,
            super::Made::Solana(_) => false,
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
        let made = stored.or(told.map(super::Made::Tempo));
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
            && details.session_protocol.unwrap_or(SessionProtocol::V1) == self.protocol();
        if same { Ok(()) } else { Err(presented::another()) }
    }

    const fn protocol(&self) -> SessionProtocol {
        match self.rules.escrow.protocol() {
            Protocol::TempoV2 => SessionProtocol::V2,
            Protocol::TempoV1 | Protocol::Evm => SessionProtocol::V1,
        }
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

    pub(super) fn genuine(
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
    pub(super) async fn offer(&self, terms: &Terms, demand: &Demand<'_>) -> Offer {
        let rules = &self.rules;
        let begins = terms.units(demand.ask.begins).max(1);
        let (operator, least) = (rules.operator(), terms.units(terms.rules.min_delta));
        let request = SessionRequest {
            amount: begins.to_string(),
            unit_type: Some("request".to_owned()),
            suggested_deposit: Some(terms.units(terms.rules.suggested_deposit).max(begins).to_string()),
            currency: rules.token.to_string(),
            recipient: rules.pay_to.to_string(),
            method_details: SessionDetails {
                escrow_contract: Some(rules.escrow.contract().to_string()),
                chain_id: Some(rules.escrow.chain_id()),
                channel_id: None,
                min_voucher_delta: (least > 0).then(|| least.to_string()),
                operator: (operator != Address::ZERO).then(|| operator.to_string()),
                session_protocol: Some(self.protocol()),
                fee_payer: None,
                session_snapshot: snapshot::of(demand, terms, self).await,
            },
        };
        Offer {
            method: MppMethod::Tempo,
            intent: SESSION,
            request: payload::write(&request),
            expires_at_s: None,
            credit: None,
        }
    }
}

/// What its contracts say.
impl Tempo {
    /// Whether a channel is on the chain of our node.
    pub(super) const fn keeps(&self, made: &Made) -> bool {
        made.chain_id == self.rules.escrow.chain_id()
    }

    pub(super) async fn seen(&self, escrow: &Escrow, id: &[u8; 32]) -> Option<Seen> {
        let seen = self.node.session(escrow, id).await?;
        Some(Seen {
            deposit: seen.deposit,
            settled: seen.settled,
            close_requested_at: seen.close_requested_at,
            finalized: seen.finalized,
            who: seen.parties.map_or(Who::Unsaid, Who::Parties),
        })
    }

    /// What a channel is made of: of version 2 its id has said it, of version 1 the contract does.
    pub(super) fn made(&self, presented: Option<&super::Made>, seen: &Seen) -> Result<Made, Refusal> {
        match (self.rules.escrow.protocol(), presented, &seen.who) {
            (Protocol::TempoV2, Some(super::Made::Tempo(made)), _) => Ok(made.clone()),
            (Protocol::TempoV1 | Protocol::Evm, _, Who::Parties(parties)) => self.told_by_contract(parties),
            (Protocol::TempoV1 | Protocol::TempoV2 | Protocol::Evm, _, _) => Err(told::unseen()),
        }
    }

    /// Who is in a channel whose id is not told apart by its payload.
    fn told_by_contract(&self, parties: &Parties) -> Result<Made, Refusal> {
        let rules = &self.rules;
        if parties.payee != rules.pay_to || parties.token != rules.token {
            return Err(elsewhere("payee"));
        }
        let channel = Descriptor {
            payer: parties.payer,
            payee: parties.payee,
            operator: Address::ZERO,
            token: parties.token,
            salt: [0; 32],
            authorized_signer: parties.authorized_signer,
            expiring_nonce_hash: [0; 32],
        };
        Ok(Made::of(&rules.escrow, &channel))
    }

    pub(super) async fn write(&self, to: &Address, data: &[u8]) -> Result<Written, NotWritten> {
        let rules = &self.rules;
        let fees = self.node.fees(&rules.sender, to, data).await.map_err(NotWritten::Useless)?;
        let fees = fees.ok_or(NotWritten::Unable)?;
        let transaction = Transaction {
            chain_id: rules.escrow.chain_id(),
            nonce: fees.nonce,
            tip_per_gas: fees.fee_per_gas.min(1),
            fee_per_gas: fees.fee_per_gas,
            gas: fees.gas,
            to: *to,
            data: data.to_vec(),
        };
        let key = SecretKey::from_bytes(rules.key.expose()).map_err(|_| NotWritten::Unable)?;
        let signed = transaction.sign(&key).map_err(|_| NotWritten::Unable)?;
        Ok(Written { hash: signed.hash, raw: signed.raw, counts_until: fees.nonce })
    }
}

/// What is called.
impl Made {
    fn calls(&self, data: Vec<u8>) -> Calls {
        Calls::Evm { to: self.escrow, data }
    }

    pub(super) fn settle(&self, id: &[u8; 32], promise: &Signed<Signature>) -> Option<Calls> {
        let signed = evm(promise)?;
        Some(self.calls(self.escrow().settle_call(id, &self.descriptor(), &signed)))
    }

    /// The end of version 2 takes any part of a promise, that of version 1 all of it.
    pub(super) fn ends(&self, terms: &Terms, channel: &Channel<Signature>, by: &By) -> Result<Ends, Refusal> {
        let signed = match by {
            By::Voucher(signed) => *signed,
            By::UsedUp => channel.settleable().ok_or_else(|| told::not_closed(terms, NotTaken::Mismatch))?,
        };
        let closing = channel.close(signed.max_claimable).map_err(|error| told::not_closed(terms, error))?;
        if signed.max_claimable == closing.capture || self.escrow().closes_in_part() {
            Ok(Ends { closing, promise: Some(signed) })
        } else {
            Err(told::not_in_part(&closing))
        }
    }

    pub(super) fn forced(&self, channel: &Channel<Signature>) -> Option<Forced> {
        if !self.escrow().closes_in_part() {
            return Some(Forced::Settle);
        }
        channel.newest.map(|newest| Forced::End(By::Voucher(newest)))
    }

    pub(super) fn end(
        &self,
        id: &[u8; 32],
        closing: &ChannelClose,
        promise: Option<&Signed<Signature>>,
    ) -> Ending {
        let Some(signed) = promise.and_then(evm) else { return Ending::Impossible };
        let data = self.escrow().close_call(id, &self.descriptor(), &signed, closing.capture);
        Ending::By { calls: self.calls(data), taken: closing.capture }
    }
}

fn evm(promise: &Signed<Signature>) -> Option<Signed<[u8; 65]>> {
    match promise.signature {
        Signature::Evm(signature) => Some(Signed { max_claimable: promise.max_claimable, signature }),
        Signature::Solana(_) => None,
    }
}

/// What a transaction is found by.
pub(super) fn hash_of(transaction: &str) -> String {
    let bytes = hex::decode(transaction.strip_prefix("0x").unwrap_or_default()).unwrap_or_default();
    hex::encode_0x(&keccak256(&bytes))
}

/// Sums that stand as `0x` and hexadecimal digits.
mod bytes32 {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use wire::hex;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode_0x(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode_0x_array(&text).map_err(|_| de::Error::custom("not 32 bytes of hexadecimal"))
    }
}
