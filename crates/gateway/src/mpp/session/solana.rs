//! Channels of Solana's program (specs/vouchers.md "Solana").

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proof::SigningKey;
use proof::ed25519;
use proof::solana::transaction;
use proof::voucher::solana::{SolanaSignature, VoucherError, verify};
use proof::voucher::solana_channel::{Asked, Descriptor, NotOurs, Program};
use proof::voucher::{Channel, Closing, Signed};
use proof::x402_svm::token_account::TokenProgram;
use rails::{AtAddress, Recent, Secret, SolanaNode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use wire::mpp::problem::SessionProblem;
use wire::mpp::solana::{
    ChannelAccount, ED25519, Open, SessionDetails, SessionPayload, SessionRequest, SignedVoucher, Status,
};
use wire::mpp::{Problem, SESSION, payload};
use wire::x402::base58;
use wire::x402::svm::TRANSACTION_BYTES_MAX;

use super::chain::{By, Calls, Ending, Ends, NotWritten, Seen, Unchecked, Who, Written};
use super::presented::{self, Action, elsewhere, malformed, sum};
use super::{Presented, Signature, Terms, told};
use crate::clock::Now;
use crate::config::{self, MppMethod};
use crate::gate::Gate;
use crate::mpp::{Demand, Echo, Offer, refused};
use crate::refusal::Refusal;

/// How often a node is asked for what payers sign their transactions over. It counts for about a minute, and what is left
/// of that is theirs to sign and send in.
const RECENT_EVERY_S: u64 = 10;
/// Older is told to nobody.
const RECENT_MAX_S: u64 = 30;
/// How often it is looked whether one is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Characters of the longest transaction that a chain takes.
const TRANSACTION_CHARS_MAX: usize = TRANSACTION_BYTES_MAX.div_ceil(3) * 4;

/// Its channels, as they are opened and ended here.
#[derive(Debug)]
pub(crate) struct Solana {
    pub(super) rules: config::Solana,
    pub(super) node: SolanaNode,
    /// What was last told of the chain, and when (Unix seconds).
    recent: Mutex<Option<(Recent, u64)>>,
}

/// What a channel is made of, as its record has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Made {
    /// CAIP-2.
    network: String,
    #[serde(with = "key")]
    program: [u8; 32],
    #[serde(with = "key")]
    treasury: [u8; 32],
    #[serde(with = "key")]
    payer: [u8; 32],
    #[serde(with = "key")]
    payee: [u8; 32],
    #[serde(with = "key")]
    mint: [u8; 32],
    #[serde(with = "key")]
    authorized_signer: [u8; 32],
    salt: u64,
    open_slot: u64,
    grace_s: u32,
}

impl Made {
    pub(super) const fn payer(&self) -> &[u8; 32] {
        &self.payer
    }

    pub(super) const fn grace_s(&self) -> u64 {
        self.grace_s as u64
    }

    pub(super) const fn program(&self) -> Program {
        Program { address: self.program, treasury: self.treasury, token: TokenProgram::Token }
    }

    const fn descriptor(&self) -> Descriptor {
        Descriptor {
            payer: self.payer,
            payee: self.payee,
            mint: self.mint,
            authorized_signer: self.authorized_signer,
            salt: self.salt,
            open_slot: self.open_slot,
        }
    }
}

/// Credentials.
impl Solana {
    pub(crate) const fn new(rules: config::Solana, node: SolanaNode) -> Self {
        Self { rules, node, recent: Mutex::new(None) }
    }

    pub(super) fn read(&self, terms: &Terms, gate: &Gate, echo: &Echo) -> Result<Presented, Refusal> {
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
        let is_here = |made: &super::Made| match made {
            super::Made::Solana(made) => self.takes(made),
            super::Made::Tempo(_) => false,
        };
        if stored.as_ref().is_some_and(|made| !is_here(made)) {
            return Err(elsewhere("channel"));
        }
        let check = |sent: &SignedVoucher, made: Option<&super::Made>| {
            let voucher = unchecked(terms, &id, sent, made)?;
            presented::voucher(terms, &id, made, voucher)
        };
        let of_client = |voucher: Option<SignedVoucher>| voucher.ok_or_else(|| malformed("voucher"));
        let (made, action) = match payload {
            SessionPayload::Open(open) => {
                let told = self.described(terms, &id, &request, &echo.payload, &open)?;
                let transaction = self.transaction(&id, open.transaction)?;
                (stored.or(Some(super::Made::Solana(told))), Action::Open { transaction, voucher: None })
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

    /// Whether a channel that we know is one that is taken under these rules.
    fn takes(&self, made: &Made) -> bool {
        let rules = &self.rules;
        self.keeps(made)
            && made.program() == rules.program
            && (made.payee, made.mint) == (rules.payee, rules.mint)
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

    fn of(&self, channel: &Descriptor, grace_s: u32) -> Made {
        let Descriptor { payer, payee, mint, authorized_signer, salt, open_slot } = *channel;
        let Program { address: program, treasury, token: _ } = self.rules.program;
        let network = self.rules.network.caip2().to_owned();
        Made { network, program, treasury, payer, payee, mint, authorized_signer, salt, open_slot, grace_s }
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
    pub(super) fn offer(&self, terms: &Terms, demand: &Demand<'_>) -> Option<Offer> {
        let rules = &self.rules;
        let recent = self.recent(demand.arrived.now.seconds())?;
        let begins = terms.units(demand.ask.begins).max(1);
        let minimum = terms.units(terms.rules.min_deposit).max(1);
        let suggested = terms.units(terms.rules.suggested_deposit).max(begins).max(minimum);
        let least = terms.units(terms.rules.min_delta);
        let request = SessionRequest {
            amount: begins.to_string(),
            unit_type: Some("request".to_owned()),
            suggested_deposit: Some(suggested.to_string()),
            minimum_deposit: Some(minimum.to_string()),
            currency: base58::encode(&rules.mint),
            recipient: base58::encode(&rules.payee),
            method_details: SessionDetails {
                network: rules.network.name().to_owned(),
                channel_program: base58::encode(&rules.program.address),
                recent_blockhash: Some(base58::encode(&recent.blockhash)),
                recent_slot: Some(recent.slot.to_string()),
                decimals: Some(terms.rules.decimals),
                token_program: Some(rules.program.token.address().to_owned()),
                min_voucher_delta: (least > 0).then(|| least.to_string()),
                grace_period_seconds: Some(rules.grace_s),
                ..SessionDetails::default()
            },
        };
        Some(Offer {
            method: MppMethod::Solana,
            intent: SESSION,
            request: payload::write(&request),
            expires_at_s: None,
            credit: None,
        })
    }
}

/// What its chain says.
impl Solana {
    /// Whether a channel is on the chain of our node.
    pub(super) fn keeps(&self, made: &Made) -> bool {
        made.network == self.rules.network.caip2()
    }

    pub(super) async fn seen(&self, program: &[u8; 32], id: &[u8; 32]) -> Option<Seen> {
        Some(match self.node.channel(program, id).await? {
            AtAddress::Channel(account) => stands(account, Now::read().seconds()),
            // What is left at the address of a channel that was cleared away, or somebody's gift to it.
            AtAddress::Nothing | AtAddress::Other => {
                Seen { deposit: 0, settled: 0, close_requested_at: 0, finalized: false, who: Who::Unsaid }
            }
        })
    }

    /// What a channel is made of that its chain tells of: who opened it has chosen all of that.
    pub(super) fn made(&self, id: &[u8; 32], seen: &Seen) -> Result<Made, Refusal> {
        let Who::Account(account) = &seen.who else { return Err(told::unseen()) };
        let rules = &self.rules;
        let asked = Asked { payee: rules.payee, mint: rules.mint, grace_s: rules.grace_s };
        let channel = rules.program.check(id, account, &asked).map_err(|error| {
            elsewhere(match error {
                NotOurs::Address => "channel_id",
                NotOurs::Payee => "payee",
                NotOurs::Mint => "mint",
                NotOurs::Shares => "shares",
                NotOurs::Grace(_) => "grace",
                NotOurs::Signer => "signer",
            })
        })?;
        Ok(self.of(&channel, account.grace_s))
    }

    pub(super) async fn write(&self, calls: &[transaction::Call]) -> Result<Written, NotWritten> {
        let recent = self.node.recent().await.ok_or(NotWritten::Unable)?;
        let key = SigningKey::from_bytes(self.rules.key.expose());
        let signed = transaction::sign(calls, &recent.blockhash, &key).map_err(|_| NotWritten::Unable)?;
        Ok(Written { hash: signed.id, raw: signed.raw, counts_until: recent.last_height })
    }

    /// What a payer's transaction may be signed over now. None: nobody has said for too long.
    fn recent(&self, now_s: u64) -> Option<Recent> {
        let (recent, at_s) = (*self.recent.lock().unwrap_or_else(PoisonError::into_inner))?;
        (now_s.saturating_sub(at_s) <= RECENT_MAX_S).then_some(recent)
    }

    /// Asks for it, where the one that is known grows old.
    async fn refresh(&self) {
        let now_s = Now::read().seconds();
        let known = *self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_some_and(|(_, at_s)| now_s.saturating_sub(at_s) < RECENT_EVERY_S) {
            return;
        }
        match self.node.recent().await {
            Some(recent) => {
                *self.recent.lock().unwrap_or_else(PoisonError::into_inner) = Some((recent, now_s));
            }
            None => tracing::debug!("the node does not say what a transaction is signed over"),
        }
    }
}

/// Keeps what payers sign over: no challenge waits for a node. Works for as long as the process lives.
pub(crate) async fn keep_recent(gate: Arc<Gate>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let snapshot = gate.snapshot.load_full();
        let terms = snapshot.mpp.as_ref().and_then(|desk| desk.session(MppMethod::Solana));
        if let Some(super::Chain::Solana(solana)) = terms.map(|terms| &terms.chain) {
            solana.refresh().await;
        }
    }
}

/// A channel as its account says. One that was sealed is as good as asked back: nothing more is taken by vouchers.
fn stands(account: Box<ChannelAccount>, now_s: u64) -> Seen {
    let (close_requested_at, finalized) = match account.status {
        Status::Open => (0, false),
        Status::Closing => (u64::try_from(account.closing_since).unwrap_or(0).max(1), false),
        Status::Sealed => (now_s, false),
        Status::Distributed => (0, true),
    };
    Seen {
        deposit: account.deposit.into(),
        settled: account.settled.into(),
        close_requested_at,
        finalized,
        who: Who::Account(account),
    }
}

/// A voucher as it travels, still to be checked.
fn unchecked(
    terms: &Terms,
    id: &[u8; 32],
    sent: &SignedVoucher,
    made: Option<&super::Made>,
) -> Result<Unchecked, Refusal> {
    if sent.signature_type != ED25519 {
        return Err(malformed("signature_type"));
    }
    if base58::decode_array(&sent.voucher.channel_id) != Ok(*id) {
        return Err(malformed("channel_id"));
    }
    // What it says of its signer is not believed; a client that says somebody else has mixed up its keys.
    if let Some(super::Made::Solana(made)) = made
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

/// What is called.
impl Made {
    /// Checks a voucher. It has to be good for as long as its payer waits for his money at least: what is owed is taken
    /// in that time.
    pub(super) fn genuine(
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

    /// Takes a promise, and pays the payee what it brings: taking alone only moves a mark.
    pub(super) async fn settle(
        &self,
        solana: &Solana,
        id: &[u8; 32],
        promise: &Signed<Signature>,
    ) -> Option<Calls> {
        let account = self.account(solana, id).await??;
        let (program, channel) = (self.program(), self.descriptor());
        let mut calls = program.settle(&channel, id, &ed25519_of(promise)?)?;
        calls.extend(program.pay(&channel, id, account.rent_payer)?);
        Some(Calls::Solana(calls))
    }

    /// Where it stands decides what is called: nothing is taken any more of one that was sealed, by whomever.
    pub(super) async fn end(
        &self,
        solana: &Solana,
        id: &[u8; 32],
        promise: Option<&Signed<Signature>>,
        now_s: u64,
    ) -> Option<Ending> {
        // A node that was behind may not see it yet, and one that has ended was taken from as was decided, or the next look
        // tells.
        let Some(account) = self.account(solana, id).await? else { return Some(Ending::Impossible) };
        let (program, channel, rent) = (self.program(), self.descriptor(), account.rent_payer);
        let settled = u128::from(account.settled);
        let over = |calls: Option<_>| Some(Ending::By { calls: Calls::Solana(calls?), taken: settled });
        match account.status {
            Status::Distributed => Some(Ending::Over { taken: settled }),
            Status::Sealed => over(program.pay(&channel, id, rent)),
            Status::Closing if self.has_waited(&account, now_s) => {
                let pay = program.pay(&channel, id, rent)?;
                over(Some([vec![program.seal(id)], pay].concat()))
            }
            Status::Open | Status::Closing => {
                let promise = promise.filter(|promise| promise.max_claimable > settled);
                let signed = match promise {
                    Some(promise) => Some(ed25519_of(promise)?),
                    None => None,
                };
                let calls = program.close(&channel, id, rent, signed.as_ref())?;
                let taken = promise.map_or(settled, |promise| promise.max_claimable);
                Some(Ending::By { calls: Calls::Solana(calls), taken })
            }
        }
    }

    /// Whether its payer has waited for as long as he has to: from then on nothing is taken.
    const fn has_waited(&self, account: &ChannelAccount, now_s: u64) -> bool {
        let since = if account.closing_since > 0 { account.closing_since.cast_unsigned() } else { 0 };
        now_s >= since.saturating_add(account.grace_s as u64)
    }

    /// None: the node does not say; then none: there is no channel.
    async fn account(&self, solana: &Solana, id: &[u8; 32]) -> Option<Option<Box<ChannelAccount>>> {
        Some(match solana.node.channel(&self.program, id).await? {
            AtAddress::Channel(account) => Some(account),
            AtAddress::Nothing | AtAddress::Other => None,
        })
    }
}

/// The program gives no part of a promise: a channel ends by one of just what was used, or by none if that was taken before.
/// What a payer who withdraws has signed no such promise for is lost.
pub(super) fn ends(
    terms: &Terms,
    channel: &Channel<Signature>,
    by: &By,
    now_s: u64,
) -> Result<Ends, Refusal> {
    let taken = channel.mirror.total_claimed;
    match by {
        By::Voucher(signed) => {
            let closing =
                channel.close(signed.max_claimable).map_err(|error| told::not_closed(terms, error))?;
            if closing.capture == taken {
                Ok(Ends { closing, promise: None })
            } else if closing.capture == signed.max_claimable {
                Ok(Ends { closing, promise: Some(*signed) })
            } else {
                Err(told::not_in_part(&closing))
            }
        }
        By::UsedUp => {
            let is_good =
                |promise: &Signed<Signature>| promise.signature.ends_at().is_none_or(|end| end > now_s);
            let promise = channel.settleable().filter(is_good);
            let capture = promise.map_or(taken, |promise| promise.max_claimable);
            let refund = channel.mirror.balance.saturating_sub(capture);
            Ok(Ends { closing: Closing { capture, refund }, promise })
        }
    }
}

fn ed25519_of(promise: &Signed<Signature>) -> Option<Signed<SolanaSignature>> {
    match promise.signature {
        Signature::Solana(signature) => Some(Signed { max_claimable: promise.max_claimable, signature }),
        Signature::Evm(_) => None,
    }
}

/// What a transaction is found by: the first of its signatures.
pub(super) fn id_of(transaction: &str) -> Option<String> {
    let bytes = wire::base64::decode_any(transaction, TRANSACTION_CHARS_MAX).ok()?;
    let (count, rest) = bytes.split_first()?;
    let first = rest.first_chunk::<64>().filter(|_| (1..=127).contains(count))?;
    Some(base58::encode(first))
}

/// Keys and addresses, in base58.
mod key {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use wire::x402::base58;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base58::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        base58::decode_array(&text).map_err(|_| de::Error::custom("not 32 bytes of base58"))
    }
}
