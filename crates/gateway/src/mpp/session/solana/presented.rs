//! Credentials of `solana`/`session`, and the challenge that they answer.

use proof::ed25519;
use proof::voucher::Signed;
use proof::voucher::solana::{VoucherError, verify};
use proof::voucher::solana_channel::Descriptor;
use rails::Secret;
use serde_json::{Map, Value};
use wire::mpp::problem::SessionProblem;
use wire::mpp::solana::{ED25519, Open, SessionDetails, SessionPayload, SessionRequest, SignedVoucher};
use wire::mpp::{Problem, SESSION, payload};
use wire::x402::base58;

use super::{Made, Solana, TRANSACTION_CHARS_MAX, id_of};
use crate::clock::Now;
use crate::config::{self, ChannelTerms, MppMethod};
use crate::gate::Gate;
use crate::mpp::session::chain::{self, Unchecked};
use crate::mpp::session::presented::{self, Action, elsewhere, malformed, sum};
use crate::mpp::session::{self, Presented, Signature, Terms, told};
use crate::mpp::{Demand, Echo, Offer, refused};
use crate::refusal::Refusal;

impl Solana {
    pub(in crate::mpp::session) fn read(
        &self,
        terms: &Terms,
        gate: &Gate,
        echo: &Echo,
    ) -> Result<Presented, Refusal> {
        let request = self.is_ours(&echo.request)?;
        // Who signs the vouchers himself proves nothing else.
        if echo.payload.contains_key("authentication") {
            return Err(malformed("authentication"));
        }
        let payload: SessionPayload = payload::read(&echo.payload).map_err(|_| malformed("payload"))?;
        let channel_id = match &payload {
            SessionPayload::Open(open) => &open.channel_id,
            SessionPayload::Voucher { channel_id, .. }
            | SessionPayload::Use { channel_id }
            | SessionPayload::TopUp { channel_id, .. }
            | SessionPayload::Close { channel_id, .. } => channel_id,
        };
        let id = base58::decode_array(channel_id).map_err(|_| malformed("channel_id"))?;
        let stored = gate.sessions.channels.find(&id).map(|slot| slot.config.clone());
        let is_here = |made: &session::Made| match made {
            session::Made::Solana(made) => self.takes(made),
            session::Made::Tempo(_) => false,
        };
        if stored.as_ref().is_some_and(|made| !is_here(made)) {
            return Err(elsewhere("channel"));
        }
        let check = |sent: &SignedVoucher, made: Option<&session::Made>| {
            let voucher = unchecked(terms, &id, sent, made)?;
            presented::voucher(terms, &id, made, voucher)
        };
        let of_client = |voucher: Option<SignedVoucher>| voucher.ok_or_else(|| malformed("voucher"));
        let (made, action) = match payload {
            SessionPayload::Open(open) => {
                let told = self.described(terms, &id, &request, &echo.payload, &open)?;
                let transaction = self.transaction(&id, open.transaction)?;
                (stored.or(Some(session::Made::Solana(told))), Action::Open { transaction, voucher: None })
            }
            SessionPayload::Voucher { voucher, .. } => {
                let action = Action::Voucher(check(&voucher, stored.as_ref())?);
                (stored, action)
            }
            SessionPayload::Close { voucher, .. } => {
                let action = Action::Close(check(&of_client(voucher)?, stored.as_ref())?);
                (stored, action)
            }
            SessionPayload::TopUp { additional_amount, transaction, .. } => {
                sum(&additional_amount)?;
                (stored, Action::TopUp { transaction: self.transaction(&id, transaction)? })
            }
            SessionPayload::Use { .. } => {
                let detail = "Vouchers are signed by their payer here: send one.";
                return Err(refused(Problem::VerificationFailed, "use", detail));
            }
        };
        let method = MppMethod::Solana;
        Ok(Presented { method, id, made, action, challenge_id: echo.challenge.id.clone() })
    }

    /// Whether the challenge was made for channels as they are opened here now.
    fn is_ours(&self, request: &Map<String, Value>) -> Result<SessionRequest, Refusal> {
        let request: SessionRequest = payload::read(request).map_err(|_| presented::another())?;
        let (rules, details) = (&self.rules, &request.method_details);
        let is = |text: &str, key: &[u8; 32]| base58::decode_array(text) == Ok(*key);
        let same = is(&request.currency, &rules.mint)
            && is(&request.recipient, &rules.payee)
            && is(&details.channel_program, &rules.program.address)
            && details.network == rules.network.name();
        if same { Ok(request) } else { Err(presented::another()) }
    }

    /// A channel as its `open` describes it: its address is made of that, and it would pay us. What is wrong with it is
    /// said before anybody's money moves; whether it stands so on the chain is looked at there.
    fn described(
        &self,
        terms: &Terms,
        id: &[u8; 32],
        request: &SessionRequest,
        payload: &Map<String, Value>,
        open: &Open,
    ) -> Result<Made, Refusal> {
        let rules = &self.rules;
        let key = |text: &str| base58::decode_array::<32>(text).map_err(|_| malformed("key"));
        let number = |text: &str| u64::try_from(sum(text)?).map_err(|_| malformed("amount"));
        // A wrong one would go unnoticed: the chain finds it by itself.
        if open.bump.is_some() {
            return Err(malformed("bump"));
        }
        let channel = Descriptor {
            payer: key(&open.payer)?,
            payee: key(&open.payee)?,
            mint: key(&open.mint)?,
            authorized_signer: key(&open.authorized_signer)?,
            salt: number(&open.salt)?,
            open_slot: number(&open.open_slot)?,
        };
        if rules.program.channel_id(&channel) != Some(*id) {
            return Err(elsewhere("channel_id"));
        }
        if channel.payee != rules.payee {
            return Err(elsewhere("payee"));
        }
        if channel.mint != rules.mint {
            return Err(elsewhere("mint"));
        }
        if !ed25519::is_usable(&channel.authorized_signer) {
            return Err(elsewhere("signer"));
        }
        if !open.distribution_splits.is_empty() {
            return Err(elsewhere("shares"));
        }
        if open.grace_period_seconds < rules.grace_s {
            return Err(elsewhere("grace"));
        }
        // It may be offered to choose from, and is not.
        if payload.contains_key("idleTimeoutSeconds") {
            return Err(elsewhere("idle_timeout"));
        }
        let told = request.method_details.recent_slot.as_deref().map(number).transpose()?;
        if told.is_some_and(|slot| channel.open_slot > slot) {
            return Err(elsewhere("open_slot"));
        }
        if u128::from(number(&open.deposit_amount)?) < terms.units(terms.rules.min_deposit) {
            return Err(told::too_little());
        }
        Ok(self.of(&channel, open.grace_period_seconds))
    }

    /// A transaction that is passed on as it is. What it did is read from the chain, not from it; one that does not even name
    /// the channel and its program is nobody's business here.
    fn transaction(&self, id: &[u8; 32], text: String) -> Result<String, Refusal> {
        let bytes = wire::base64::decode_any(&text, TRANSACTION_CHARS_MAX).unwrap_or_default();
        let names = |key: &[u8; 32]| bytes.windows(key.len()).any(|part| part == key);
        if names(&self.rules.program.address) && names(id) && id_of(&text).is_some() {
            return Ok(text);
        }
        Err(malformed("transaction"))
    }

    /// What is asked of a payer who wants to pay by vouchers: enough for this call to begin, and some to go on. None while
    /// nobody says what a transaction could be signed over.
    pub(in crate::mpp::session) fn offer(&self, terms: &Terms, demand: &Demand<'_>) -> Option<Offer> {
        let latest = &demand.gate.sessions.latest;
        let recent = latest.get(self.rules.network, demand.arrived.now.seconds())?;
        let begins = terms.units(demand.ask.begins).max(1);
        let suggested = terms.units(terms.rules.suggested_deposit).max(begins).max(minimum(&terms.rules));
        let [begins, suggested] = [begins, suggested].map(|sum| sum.to_string());
        let (blockhash, slot) = (base58::encode(&recent.blockhash), recent.slot.to_string());
        Some(Offer {
            method: MppMethod::Solana,
            intent: SESSION,
            request: self.asked.fill(&[&begins, &suggested, &blockhash, &slot]),
            expires_at_s: None,
            credit: None,
        })
    }
}

/// The least that a channel is opened with.
fn minimum(terms: &ChannelTerms) -> u128 {
    chain::units(terms, terms.min_deposit).max(1)
}

/// What a session asks for: an amount, a deposit, and what a transaction is signed over.
pub(super) fn request(
    rules: &config::Solana,
    [amount, deposit, blockhash, slot]: [&str; 4],
) -> SessionRequest {
    let least = chain::units(&rules.terms, rules.terms.min_delta);
    SessionRequest {
        amount: amount.to_owned(),
        unit_type: Some("request".to_owned()),
        suggested_deposit: Some(deposit.to_owned()),
        minimum_deposit: Some(minimum(&rules.terms).to_string()),
        currency: base58::encode(&rules.mint),
        recipient: base58::encode(&rules.payee),
        method_details: SessionDetails {
            network: rules.network.name().to_owned(),
            channel_program: base58::encode(&rules.program.address),
            recent_blockhash: Some(blockhash.to_owned()),
            recent_slot: Some(slot.to_owned()),
            decimals: Some(rules.terms.decimals),
            token_program: Some(rules.program.token.address().to_owned()),
            min_voucher_delta: (least > 0).then(|| least.to_string()),
            grace_period_seconds: Some(rules.grace_s),
            ..SessionDetails::default()
        },
    }
}

impl Made {
    /// Checks a voucher. It has to be good for as long as its payer waits for his money at least: what is owed is taken
    /// in that time.
    pub(in crate::mpp::session) fn genuine(
        &self,
        terms: &Terms,
        id: &[u8; 32],
        voucher: &Unchecked,
    ) -> Result<Signed<Signature>, Refusal> {
        let good_until_s = Now::read().seconds().saturating_add(self.grace_s());
        let Unchecked { sum, signature, expires_at } = voucher;
        let signer = &self.authorized_signer;
        let signed = verify(id, *sum, *expires_at, signature.expose(), signer, good_until_s);
        let signed = signed.map_err(|error| match error {
            VoucherError::TooWide => malformed("cumulative_amount"),
            VoucherError::WrongSigner => told::other_signer(terms),
            VoucherError::Encoding => {
                let detail = "The voucher's signature is not base58 of 64 bytes.";
                refused(terms.problem(SessionProblem::InvalidSignature), "signature", detail)
            }
            VoucherError::Expired => {
                let detail = "The voucher ends before anything could be taken by it: sign one that ends later, or never.";
                refused(Problem::VerificationFailed, "voucher_expired", detail)
            }
        })?;
        Ok(Signed { max_claimable: signed.max_claimable, signature: Signature::Solana(signed.signature) })
    }
}

/// A voucher as it travels, still to be checked.
fn unchecked(
    terms: &Terms,
    id: &[u8; 32],
    sent: &SignedVoucher,
    made: Option<&session::Made>,
) -> Result<Unchecked, Refusal> {
    if sent.signature_type != ED25519 {
        return Err(malformed("signature_type"));
    }
    if base58::decode_array(&sent.voucher.channel_id) != Ok(*id) {
        return Err(malformed("channel_id"));
    }
    // What it says of its signer is not believed; a client that says somebody else has mixed up its keys.
    if let Some(session::Made::Solana(made)) = made
        && base58::decode_array(&sent.signer) != Ok(made.authorized_signer)
    {
        return Err(told::other_signer(terms));
    }
    Ok(Unchecked {
        sum: sum(&sent.voucher.cumulative_amount)?,
        signature: Secret::new(sent.signature.as_str()),
        expires_at: sent.voucher.expires_at.unwrap_or(0),
    })
}
