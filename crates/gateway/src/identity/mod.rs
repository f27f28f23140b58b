//! Who signs requests, apart from who pays for them: an input to policy, never money (`specs/identity.md`).
//!
//! The head of a request is looked at before its credentials are (IDN-4); where the body is signed too, the verdict waits for
//! it. What is verified here attaches to the call: to its limits, receipt and log. Nothing here leads to a deposit.

mod crawl;
mod directories;
mod holder;
mod keyring;
mod nonces;
mod signed;

pub(crate) use crawl::{Crawl, PROTOCOL as CRAWL, charged, debited_otherwise, tell_charged, tell_price};
pub(crate) use directories::{fetch, settings};
pub(crate) use holder::check as check_holder;
pub(crate) use keyring::Keyring;
pub(crate) use nonces::Nonces;
pub(crate) use signed::Content;

use std::cell::Cell;
use std::rc::Rc;

use ledger::AccountId;
use proof::identity::{AHEAD_MAX_S, Ambiguous, NonceClaim, Origin, Profile, Proven, Tag, pick};
use wire::message_signature::MessageSignature;

use crate::call::{Arrived, Worker};
use crate::config::{Route, RouteIdentity};
use crate::gate::Gate;
use crate::idempotency::Naming;
use crate::limits::Running;
use crate::refusal::{Code, Facts, Refusal};
use crate::snapshot::Snapshot;
use keyring::{NoKey, Signer};
use nonces::Claimed;

/// Longest validity of a signature of Visa TAP, and of one that debits an account.
const WINDOW_S: u64 = 480;

/// What the signatures of a request say. `Default` says nothing: nobody signed, or nobody looks.
#[derive(Default)]
pub(crate) struct Identity {
    agents: Vec<Rc<Agent>>,
    /// Signatures that stand and vouch for a body that is not here yet.
    waiting: Vec<Waiting>,
    fault: Option<Fault>,
    /// Whether the request asks for, or may be told, the price for crawlers (IDN-24).
    pub(crate) is_crawler: bool,
    /// What its signature accepts to pay.
    pub(crate) crawl: Option<Crawl>,
    /// The holder's key that has proven itself.
    proven_holder: Cell<Option<[u8; 32]>>,
}

/// One who signed, and what is known of him (IDN-14).
#[derive(Debug)]
pub(crate) struct Agent {
    /// As the operator calls him.
    pub(crate) name: Option<String>,
    pub(crate) origin: Option<Origin>,
    pub(crate) thumbprint: String,
    pub(crate) tag: Tag,
    /// What the operator lets him spend from.
    pub(crate) account: Option<AccountId>,
    /// His call is counted until it ends (IDN-34).
    #[expect(dead_code, reason = "held for what its drop does")]
    running: Running,
}

/// A signature that stands, before its nonce is used up.
struct Waiting {
    signer: Signer,
    thumbprint: String,
    tag: Tag,
    claim: Option<NonceClaim>,
    created_s: u64,
}

/// Why a signature does not count (IDN-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It is bad.
    Invalid(&'static str),
    /// It cannot be judged, for now or here.
    Unverified(&'static str, Option<u32>),
}

/// The states of a request (IDN-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Absent,
    Verified,
    Invalid(&'static str),
    Unverified(&'static str, Option<u32>),
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Verified => "verified",
            Self::Invalid(_) => "invalid",
            Self::Unverified(..) => "unverified",
        }
    }
}

/// Looks at who signed the head of a request, where its route wants to know.
///
/// # Errors
/// The route requires a signature that is good, or the agent is blocked, or calls too often; or a crawler's price is not
/// one that can be taken. No payment would help, and none was looked at.
pub(crate) fn identify(worker: &Worker, arrived: &Arrived, route: &Route) -> Result<Identity, Refusal> {
    let snapshot = &arrived.snapshot;
    let headers = &arrived.head.headers;
    if route.identity == RouteIdentity::Off || snapshot.config.identity.is_none() {
        return Ok(Identity::default());
    }
    let price = crawl::Asked::read(headers)?;
    let mut identity = Identity::default();
    if signed::is_signed(headers) {
        identity.verify(&worker.gate, arrived, price.as_ref())?;
    }
    identity.is_crawler |= price.is_some();
    identity.one_account()?;
    if identity.waiting.is_empty() {
        identity.note(&worker.gate, arrived);
    }
    if price.is_some() {
        identity.accept()?;
    }
    identity.satisfies(route.identity)?;
    Ok(identity)
}

impl Identity {
    /// The key whose holder has proven himself for this request.
    pub(crate) fn holder(&self) -> Option<[u8; 32]> {
        self.proven_holder.get()
    }

    /// What a debit of this request is remembered by, beside what it calls itself (IDN-22).
    pub(crate) fn names_debit(&self, naming: Naming) -> Naming {
        self.crawl.as_ref().map_or(naming, |crawl| naming.debited_by(crawl.name()))
    }

    /// The one who signed, if the signature counts.
    pub(crate) fn agent(&self) -> Option<&Rc<Agent>> {
        self.agents.first().filter(|_| self.state() == State::Verified)
    }

    /// Whether nobody has signed, and no price was named.
    pub(crate) fn is_nobody(&self) -> bool {
        self.state() == State::Absent && !self.is_crawler
    }

    fn state(&self) -> State {
        match self.fault {
            Some(Fault::Invalid(why)) => State::Invalid(why),
            _ if !self.agents.is_empty() || !self.waiting.is_empty() => State::Verified,
            Some(Fault::Unverified(why, after)) => State::Unverified(why, after),
            None => State::Absent,
        }
    }

    /// A bad signature outweighs one that is not judged.
    fn is_faulty(&mut self, fault: Fault) {
        match (self.fault, fault) {
            (Some(Fault::Invalid(_)), _) => {}
            (None | Some(Fault::Unverified(..)), fault) => self.fault = Some(fault),
        }
    }

    fn verify(
        &mut self,
        gate: &Gate,
        arrived: &Arrived,
        price: Option<&crawl::Asked>,
    ) -> Result<(), Refusal> {
        let Ok(found) = signed::signatures(&arrived.head.headers) else {
            self.is_faulty(Fault::Invalid("malformed"));
            return Ok(());
        };
        for tag in [Tag::WebBotAuth, Tag::AgentPayer, Tag::AgentBrowser] {
            match pick(&found, tag) {
                Ok(None) => {}
                Err(Ambiguous(_)) => self.is_faulty(Fault::Invalid("ambiguous")),
                Ok(Some(signature)) => {
                    self.is_crawler |= tag == Tag::WebBotAuth;
                    let price = price.filter(|_| tag == Tag::WebBotAuth);
                    if let Err(fault) = self.verify_one(gate, arrived, tag, signature, price)? {
                        self.is_faulty(fault);
                    }
                }
            }
        }
        Ok(())
    }

    /// One signature: cheap checks, then the key, then the curve, and only then its nonce (IDN-11).
    fn verify_one(
        &mut self,
        gate: &Gate,
        arrived: &Arrived,
        tag: Tag,
        signature: &MessageSignature,
        price: Option<&crawl::Asked>,
    ) -> Result<Result<(), Fault>, Refusal> {
        let snapshot = &arrived.snapshot;
        let profile = profile(snapshot, tag, price);
        let examined =
            signed::as_signed(arrived, |request| profile.examine(signature, request, arrived.now.seconds()));
        let unproven = match examined {
            Ok(unproven) => unproven,
            Err(refused) if refused.is_bad() => return Ok(Err(Fault::Invalid(refused.name()))),
            Err(refused) => return Ok(Err(Fault::Unverified(refused.name(), None))),
        };
        let agent = unproven.agent.as_ref();
        let signer =
            snapshot.keyring.find(tag, &unproven.keyid, agent, &gate.agent_keys, arrived.now.seconds());
        let signer = match signer {
            Ok(signer) => signer,
            Err(NoKey { retry_after_s }) => return Ok(Err(Fault::Unverified("key_unknown", retry_after_s))),
        };
        // From here on it costs curve work (SEC-47).
        snapshot.limiters.admit_proof(arrived.source)?;
        let covers_digest = unproven.covers_digest;
        let proven = match unproven.prove(&signer.key) {
            Ok(proven) => proven,
            Err(refused) => {
                snapshot.limiters.count_invalid(arrived.source);
                return Ok(Err(Fault::Invalid(refused.name())));
            }
        };
        if is_blocked(snapshot, &proven.thumbprint, signer.origin.as_ref()) {
            return Err(Refusal::new(Code::AgentBlocked, "This agent is not served here."));
        }
        let Proven { thumbprint, created_s, nonce, tag } = proven;
        // What debits an account is remembered by the debit itself, on disk (IDN-22).
        let (claim, debit) = if price.is_some() { (None, nonce) } else { (nonce, None) };
        if let (Some(price), Some(debit)) = (price, debit) {
            self.crawl = Some(Crawl::new(*price, signer.account, &debit));
        }
        let waiting = Waiting { signer, thumbprint, tag, claim, created_s };
        if covers_digest {
            self.waiting.push(waiting);
            return Ok(Ok(()));
        }
        self.take_in(gate, arrived, waiting)
    }

    /// Uses up the nonce, and counts the call for its agent: in this order, so that who repeats another's signature
    /// fills none of his limits.
    fn take_in(
        &mut self,
        gate: &Gate,
        arrived: &Arrived,
        waiting: Waiting,
    ) -> Result<Result<(), Fault>, Refusal> {
        let Waiting { signer, thumbprint, tag, claim, created_s } = waiting;
        if let Some(claim) = claim {
            if created_s <= gate.started.seconds() {
                return Ok(Err(Fault::Unverified("signed_before_restart", Some(1))));
            }
            match gate.nonces.claim(claim, arrived.now.seconds()) {
                Claimed::Fresh => {}
                Claimed::Seen => return Ok(Err(Fault::Invalid("nonce_used"))),
                Claimed::Over => return Ok(Err(Fault::Invalid("expired"))),
                Claimed::Full => return Ok(Err(Fault::Unverified("nonces_full", Some(1)))),
            }
        }
        self.agents.push(Rc::new(counted(&arrived.snapshot, signer, thumbprint, tag)?));
        Ok(Ok(()))
    }

    /// The body is here, or will never be: signatures that vouch for it count from now on, or not at all (IDN-12).
    ///
    /// # Errors
    /// As [`identify`].
    pub(crate) fn with_body(
        mut self,
        gate: &Gate,
        arrived: &Arrived,
        route: &Route,
        content: Content<'_>,
    ) -> Result<Self, Refusal> {
        let headers = &arrived.head.headers;
        if self.waiting.is_empty() {
            return Ok(self);
        }
        for waiting in std::mem::take(&mut self.waiting) {
            let taken = match content.is_vouched_for(headers) {
                true => self.take_in(gate, arrived, waiting)?,
                false => Err(Fault::Invalid("content_digest")),
            };
            if let Err(fault) = taken {
                self.is_faulty(fault);
            }
        }
        self.note(gate, arrived);
        if self.crawl.is_some() && self.agent().is_none() {
            return Err(crawl::invalid_signature());
        }
        self.satisfies(route.identity)?;
        Ok(self)
    }

    /// Two agents of two accounts: nobody could say whose call it is (IDN-33).
    fn one_account(&self) -> Result<(), Refusal> {
        let here = self.agents.iter().filter_map(|agent| agent.account);
        let mut accounts = here.chain(self.waiting.iter().filter_map(|waiting| waiting.signer.account));
        let first = accounts.next();
        if accounts.all(|account| Some(account) == first) {
            return Ok(());
        }
        let detail = "The request is signed by agents of two accounts.";
        Err(Refusal::new(Code::AmbiguousCredentials, detail).facts(because("two_accounts")))
    }

    /// Log and counters (IDN-37): never a signature or a nonce.
    fn note(&self, gate: &Gate, arrived: &Arrived) {
        let state = self.state();
        arrived.noted.identity(state.name(), self.agent());
        if signed::is_signed(&arrived.head.headers) {
            gate.metrics.proof("identity", state.name());
        }
        if let State::Invalid(why) | State::Unverified(why, _) = state {
            tracing::info!(call = %arrived.call, state = state.name(), why, "the signature does not count");
        }
    }

    /// IDN-2, IDN-3
    fn satisfies(&self, demand: RouteIdentity) -> Result<(), Refusal> {
        let missing = |detail: &'static str| Refusal::new(Code::SignatureMissing, detail);
        let wants_payer = match demand {
            RouteIdentity::Off | RouteIdentity::Observe => return Ok(()),
            RouteIdentity::Require => false,
            RouteIdentity::RequirePayer => true,
        };
        match self.state() {
            State::Absent => Err(missing("This route takes requests that an agent has signed (RFC 9421).")),
            State::Verified => {
                let here = self.agents.iter().map(|agent| agent.tag);
                let mut tags = here.chain(self.waiting.iter().map(|waiting| waiting.tag));
                if wants_payer && !tags.any(|tag| tag == Tag::AgentPayer) {
                    return Err(missing("This route takes requests signed with the tag agent-payer-auth."));
                }
                Ok(())
            }
            State::Invalid(why) => {
                let detail = "The signature of this request does not count.";
                Err(Refusal::new(Code::SignatureInvalid, detail).facts(because(why)))
            }
            State::Unverified(why, after) => {
                let detail = "The signature of this request cannot be verified here now.";
                let refusal = Refusal::new(Code::SignatureUnverified, detail).facts(because(why));
                Err(match after {
                    Some(after) => refusal.retry_after(after),
                    None => refusal,
                })
            }
        }
    }

    /// The price that a crawler accepts, signed by an agent that has an account (IDN-21..23).
    fn accept(&self) -> Result<(), Refusal> {
        match self.state() {
            State::Verified if self.crawl.is_some() => Ok(()),
            State::Absent => Err(crawl::strong_auth_required()),
            // Signed for something else, which debits nothing.
            State::Verified | State::Invalid(_) => Err(crawl::invalid_signature()),
            State::Unverified(why, after) => Err(crawl::unverified(why, after)),
        }
    }
}

impl Agent {
    /// Where the log and a receipt name him.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "name": self.name, "origin": self.origin.as_ref().map(Origin::as_str),
            "thumbprint": self.thumbprint, "tag": self.tag.name(),
        })
    }

    /// Whether the operator has blocked him since (IDN-35).
    pub(crate) fn is_blocked(&self, snapshot: &Snapshot) -> bool {
        is_blocked(snapshot, &self.thumbprint, self.origin.as_ref())
    }
}

impl std::fmt::Display for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let who = self.name.as_deref().or(self.origin.as_ref().map(Origin::as_str)).unwrap_or_default();
        write!(f, "{who} {} {}", self.thumbprint, self.tag.name())
    }
}

fn is_blocked(snapshot: &Snapshot, thumbprint: &str, origin: Option<&Origin>) -> bool {
    snapshot.config.identity.as_ref().is_some_and(|identity| {
        identity.blocked.contains(thumbprint)
            || origin.is_some_and(|origin| identity.blocked.contains(origin.as_str()))
    })
}

/// Whether the operator takes nothing from this address (IDN-35).
pub(crate) fn is_payer_blocked(snapshot: &Snapshot, payer: &str) -> bool {
    let blocked = snapshot.config.identity.as_ref().map(|identity| &identity.blocked);
    let blocked = blocked.filter(|blocked| !blocked.is_empty());
    blocked.is_some_and(|blocked| blocked.contains(payer) || blocked.contains(&payer.to_ascii_lowercase()))
}

/// What a signature with this tag must be like here.
fn profile(snapshot: &Snapshot, tag: Tag, price: Option<&crawl::Asked>) -> Profile<'static> {
    let rules = snapshot.config.identity.as_ref();
    let window_s = rules.map_or(WINDOW_S, |rules| rules.window.as_secs());
    match (tag, price) {
        // A debit is remembered as long as a name for a request is.
        (Tag::WebBotAuth, Some(price)) => {
            let remembered_s = snapshot.dedupe().idempotency_key.as_secs();
            let body_s = snapshot.config.server.timeouts.body.as_secs();
            let window_s = crawl_window_s(window_s, remembered_s, body_s);
            Profile::Crawl { window_s, price_field: price.field() }
        }
        (Tag::WebBotAuth | Tag::Holder, _) => {
            Profile::WebBotAuth { window_s, needs_nonce: rules.is_none_or(|rules| rules.needs_nonce) }
        }
        (Tag::AgentBrowser | Tag::AgentPayer, _) => Profile::VisaTap { window_s: WINDOW_S },
    }
}

/// Longest validity of a signature that debits, where debits are remembered for so long: a signer whose clock is ahead may use
/// it before it was made, and the body of its last use may come that much later.
fn crawl_window_s(window_s: u64, remembered_s: u64, body_s: u64) -> u64 {
    let margin_s = AHEAD_MAX_S.saturating_add(body_s);
    window_s.min(WINDOW_S).min(remembered_s.saturating_sub(margin_s))
}

/// Counts a call of an agent in, until it ends.
fn counted(snapshot: &Snapshot, signer: Signer, thumbprint: String, tag: Tag) -> Result<Agent, Refusal> {
    let limits = snapshot.limiters.agent(&thumbprint, signer.per_minute, signer.concurrent);
    let running = limits.admit()?;
    let Signer { name, origin, account, .. } = signer;
    Ok(Agent { name, origin, thumbprint, tag, account, running })
}

fn because(reason: &'static str) -> Facts {
    Facts { reason: Some(reason.to_owned()), ..Facts::default() }
}

#[cfg(test)]
mod tests {
    use super::crawl_window_s;

    /// IDN-22: no signature outlives the memory of its debit, however far its signer's clock is ahead and however late its
    /// body.
    #[test]
    fn idn_22_a_debit_is_remembered_longer_than_its_signature_lasts() {
        for (window_s, remembered_s, body_s, expected) in [
            (480, 86_400, 60, 480),
            (86_400, 86_400, 60, 480),
            (60, 86_400, 60, 60),
            (480, 570, 60, 480),
            (480, 569, 60, 479),
            (480, 480, 60, 390),
            (480, 60, 60, 0),
        ] {
            let window_s = crawl_window_s(window_s, remembered_s, body_s);
            assert_eq!(window_s, expected, "remembered for {remembered_s} s");
        }
    }
}
