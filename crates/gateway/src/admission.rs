//! Who may come in: room for one more call, credentials, the limits of source and account, and whether a
//! payment is genuine. Cheapest first; nothing here moves money.

mod known;

use std::sync::Arc;

use http::{HeaderMap, header};
use ledger::{Account, AccountId, AccountRef};
use money::{Amount, Asset};
use wire::cashu::Token;

use crate::call::{Arrived, Worker};
use crate::cashu::{self, Paid};
use crate::challenge::{Ask, challenge};
use crate::channels;
use crate::config::{Route, RoutePrice};
use crate::credential::Presented;
use crate::extensions;
use crate::free_calls;
use crate::gate::Gate;
use crate::idempotency::{self, Asked, Naming};
use crate::lightning::{self, Act, Door};
use crate::limits::{Running, Slot};
use crate::mpp::processor::Granted;
use crate::mpp::{self, Proven, session};
use crate::payer::{Credit, HoldTerms, Payer};
use crate::payments::{self, Delivery, Spends, Verified};
use crate::quote::Quote;
use crate::refusal::{Code, Facts, Refusal};
use crate::snapshot::Snapshot;
use crate::till::Till;

pub(crate) use known::{Known, key_payer, known, paid_token};

/// Room for one more call, in memory and in the journal's queue.
pub(crate) fn slot(gate: &Gate, snapshot: &Snapshot) -> Result<Slot, Refusal> {
    if gate.is_draining() {
        return Err(Refusal::new(Code::Draining, "This gateway is about to stop.").retry_after(5));
    }
    if !gate.store.is_healthy() {
        let detail = "The gateway cannot record charges now.";
        return Err(Refusal::new(Code::StoreUnavailable, detail).retry_after(30));
    }
    let limit = snapshot.config.server.limits.in_flight;
    let busy = || Refusal::new(Code::Overloaded, "This gateway has too many calls at once.").retry_after(1);
    // A call that could not be recorded must not begin (LED-28).
    if !gate.store.has_room(limit.min(store::QUEUE_MAX / 2)) {
        return Err(busy());
    }
    gate.in_flight.take(limit).ok_or_else(busy)
}

/// What the request pays with, as far as its source may still try.
pub(crate) fn credentials(worker: &Worker, arrived: &Arrived) -> Result<Presented, Refusal> {
    let limiters = &arrived.snapshot.limiters;
    limiters.admit_proof(arrived.source)?;
    let read = |headers: &HeaderMap| {
        let presented = Presented::read(headers)?;
        if presented.malformed {
            limiters.count_invalid(arrived.source);
            worker.gate.metrics.proof("x402", "unread");
        }
        Ok(presented)
    };
    let mut presented: Presented = read(&arrived.head.headers).inspect_err(|_: &Refusal| {
        limiters.count_invalid(arrived.source);
    })?;
    if arrived.snapshot.cashu.is_none() {
        // Foreign, as a bearer string is that is not ours.
        presented.ecash = None;
    }
    // Where these are not taken nobody looks for them: they are as foreign.
    if arrived.snapshot.config.rails.l402.is_some() {
        presented.token = lightning::is_shown(&arrived.head.headers);
    }
    if arrived.snapshot.mpp.is_some() {
        presented.mpp = arrived.mpp.take(&arrived.head.headers).transpose();
    }
    if matches!(presented.mpp, Some(Err(_))) {
        limiters.count_invalid(arrived.source);
        worker.gate.metrics.proof(mpp::PROTOCOL, "unread");
    }
    presented.take_mpp().inspect_err(|_| limiters.count_invalid(arrived.source))?;
    // An agent that is known has limits of its own (IDN-34).
    if presented.is_empty() && arrived.identity.agent().is_none() {
        limiters.admit_unpaid(arrived.source)?;
    }
    Ok(presented)
}

/// Whether a request waits to be asked for its body (RFC 9110 section 10.1.1) and is not going to be: it shows nothing that
/// pays, and what it costs is known without (PERF-34). A body that comes unasked is taken in: to close on it would take the
/// answer away from whoever is still sending.
pub(crate) fn is_refused_unread(
    arrived: &Arrived,
    route: &Route,
    presented: &Presented,
    known: &Known,
) -> bool {
    let expects = arrived.head.headers.get(header::EXPECT);
    expects.is_some_and(|expects| expects.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        && matches!(route.price, RoutePrice::PerCall(_))
        && route.freebies.is_none()
        && presented.is_empty()
        && known.is_nobody()
        && arrived.identity.is_nobody()
}

/// Counts a call of an account in, until the guard goes.
pub(crate) fn account(gate: &Gate, arrived: &Arrived, id: AccountId) -> Result<Running, Refusal> {
    arrived.snapshot.limiters.call_of(&gate.book, id)
}

/// What brings money.
pub(crate) enum Brings {
    /// A payment that is to be settled.
    Payment(Box<Verified>),
    /// Ecash that is to be swapped.
    Ecash(Box<Paid>),
    /// What a processor is to charge.
    Granted(Box<Granted>),
    /// One that was settled before it was shown.
    Lightning(Box<Door>, Spends),
    /// A session over Lightning opens, is topped up or ends.
    LightningSession(Box<Act>),
    /// What is wanted of a session on a channel.
    Session(Box<session::Presented>),
}

impl Brings {
    pub(crate) fn protocol(&self) -> &'static str {
        match self {
            Self::Payment(verified) => verified.protocol(),
            Self::Ecash(_) => cashu::PROTOCOL,
            Self::Granted(_) => mpp::PROTOCOL,
            Self::Lightning(door, _) => door.protocol(),
            Self::LightningSession(_) => mpp::PROTOCOL,
            Self::Session(_) => mpp::PROTOCOL,
        }
    }

    /// Where it goes when no key names an account.
    pub(crate) fn account(&self) -> AccountId {
        match self {
            Self::Payment(verified) => verified.account(),
            Self::Ecash(paid) => paid.account(),
            Self::Granted(granted) => granted.account(),
            Self::Lightning(door, _) => door.account(),
            Self::LightningSession(act) => act.account(),
            Self::Session(presented) => channels::account_of(&presented.id),
        }
    }

    /// Whether it came before, and is told what became of it whatever its payer may by now.
    fn is_known(&self, gate: &Gate) -> Result<bool, Refusal> {
        match self {
            Self::Payment(verified) => verified.is_known(gate),
            Self::Ecash(paid) => Ok(paid.is_known),
            Self::Granted(granted) => granted.is_known(gate),
            Self::Lightning(..) | Self::LightningSession(_) | Self::Session(_) => Ok(false),
        }
    }

    /// What it would bring; none where that stays where it is.
    fn incoming(&self) -> Option<(Amount, Asset)> {
        match self {
            Self::Payment(verified) => verified.brings(),
            Self::Ecash(paid) => Some(paid.brings()),
            Self::Granted(granted) => Some(granted.brings()),
            Self::Lightning(door, _) => door.incoming(),
            Self::LightningSession(act) => act.incoming(),
            // What it adds is said by where its channel stands; whether the call can run, by the hold.
            Self::Session(_) => None,
        }
    }

    /// Counts the call for the account that is paid into. A token's is counted already.
    fn running(&self, gate: &Gate, arrived: &Arrived) -> Result<Option<Running>, Refusal> {
        match self {
            Self::Payment(_)
            | Self::Ecash(_)
            | Self::Granted(_)
            | Self::LightningSession(_)
            | Self::Session(_) => account(gate, arrived, self.account()).map(Some),
            Self::Lightning(door, _) => match **door {
                Door::Token(_) => Ok(None),
                Door::Challenge(_) => account(gate, arrived, self.account()).map(Some),
            },
        }
    }
}

/// A genuine payment that may be brought in.
pub(crate) struct Paying {
    pub(crate) brings: Brings,
    pub(crate) delivery: Delivery,
    /// Of the account that the payment itself names; none where a key has counted already.
    pub(crate) running: Option<Running>,
}

/// A request that something is going to be charged for, as it may be asked again. None: nothing is remembered
/// of it, and no hash is spent on what pays nothing.
pub(crate) fn asked(
    arrived: &Arrived,
    presented: &Presented,
    known: &Known,
    quote: &Quote,
    naming: Naming,
    body: &[u8],
) -> Option<Asked> {
    let pays = known.payer.is_some()
        || known.brings.is_some()
        || presented.payment.is_some()
        || presented.ecash.is_some()
        || matches!(presented.mpp, Some(Ok(_)));
    (pays && !quote.is_free()).then(|| {
        let fingerprint = idempotency::fingerprint(&arrived.head.method, &arrived.target, body);
        Asked { naming, fingerprint }
    })
}

/// A call that the route gives away to who shows no credential at all: how many are left then. None: it is to be paid.
pub(crate) fn free_call(
    worker: &Worker,
    arrived: &Arrived,
    route: &Route,
    presented: &Presented,
    known: &Known,
    quote: &Quote,
) -> Option<u32> {
    if !presented.is_empty() || !known.is_nobody() || quote.is_free() {
        return None;
    }
    let left = worker.gate.free_calls.give(&worker.gate, route, arrived.source, arrived.now)?;
    worker.gate.metrics.proof(free_calls::PROTOCOL, "given");
    arrived.noted.protocol(free_calls::PROTOCOL);
    Some(left)
}

/// Whether a request shows no payment, and needs none: a key pays for it, or it costs nothing.
pub(crate) fn needs_no_payment(presented: &Presented, known: &Known, quote: &Quote) -> bool {
    let is_shown = presented.has_payment() || presented.malformed || known.brings.is_some();
    !is_shown && (known.payer.is_some() || quote.is_free())
}

/// Checks the payment of a request; without one, whether a key or nothing at all is enough.
pub(crate) async fn payment(
    worker: &Worker,
    arrived: &Arrived,
    presented: Presented,
    known: &mut Known,
    quote: &Quote,
    asked: Option<Asked>,
    body: &[u8],
) -> Result<Option<Paying>, Refusal> {
    let (gate, snapshot) = (&worker.gate, &arrived.snapshot);
    let payer = known.payer.as_ref();
    let head = &arrived.head;
    let ask = Ask::of(snapshot, quote, &head.method, &arrived.target, body).with_head(&head.headers);
    if let Some(asked) = asked {
        let _ = ask.fingerprint.set(asked.fingerprint);
    }
    // Boxed, as all is here that is waited for: who is told what to pay has no room for the rest in his call, nor a payer for
    // what others pay with.
    let unpaid = async |refusal| Box::pin(challenge(gate, arrived, &ask, refusal)).await;
    let purchase = Purchase { gate, arrived, ask: &ask, quote };
    if let Some((token, spends)) = known.brings.take() {
        let door = Box::new(Door::Token(token));
        return Box::pin(purchase.paying(Brings::Lightning(door, spends), payer, asked)).await.map(Some);
    }
    if let Some(token) = presented.ecash {
        let paid = Box::pin(ecash(worker, arrived, token, &ask)).await?;
        return Box::pin(purchase.paying(Brings::Ecash(Box::new(paid)), payer, asked)).await.map(Some);
    }
    match presented.mpp {
        // What costs nothing takes nothing.
        Some(Ok(credential)) if !quote.is_free() => {
            let (proven, told) = Box::pin(mpp::verify(worker, arrived, *credential, &ask)).await?;
            let paying = match proven {
                Proven::Opens if payer.is_none() => return Err(unpaid(undecodable()).await),
                Proven::Opens => None,
                Proven::Draws(_) if payer.is_some() => return Err(two_balances()),
                Proven::Draws(payer) => {
                    known.running = Some(snapshot.limiters.call(&payer.account)?);
                    known.payer = Some(*payer);
                    None
                }
                Proven::Brings(brings) => Some(Box::pin(purchase.paying(brings, payer, asked)).await?),
            };
            known.told = Some(told);
            return Ok(paying);
        }
        Some(Err(error)) if payer.is_none() && !quote.is_free() => {
            return Err(unpaid(mpp::undecodable(error)).await);
        }
        Some(Ok(_) | Err(_)) | None => {}
    }
    let Some(payment) = presented.payment else {
        return match payer {
            None if presented.malformed => Err(unpaid(undecodable()).await),
            None if quote.is_free() => Ok(None),
            None => {
                let refused = known.refused.clone();
                Err(unpaid(refused.unwrap_or_else(|| payment_required(quote, &snapshot.tills))).await)
            }
            Some(_) => Ok(None),
        };
    };
    let verified = Box::new(Box::pin(verify(worker, arrived, payment, &ask)).await?);
    let account_id = payer.map_or_else(|| verified.account(), |payer| payer.account.id());
    let name = extensions::named(gate, snapshot, &ask, &verified, account_id)?;
    let asked = asked.map(|asked| name.map_or(asked, |name| asked.paid_as(name)));
    Box::pin(purchase.paying(Brings::Payment(verified), payer, asked)).await.map(Some)
}

/// What a payment is to buy.
struct Purchase<'a> {
    gate: &'a Arc<Gate>,
    arrived: &'a Arrived,
    ask: &'a Ask<'a>,
    quote: &'a Quote,
}

impl Purchase<'_> {
    /// A genuine payment whose call could run.
    async fn paying(
        &self,
        brings: Brings,
        payer: Option<&Payer>,
        asked: Option<Asked>,
    ) -> Result<Paying, Refusal> {
        let Self { gate, arrived, ask, quote } = self;
        let running = if payer.is_some() { None } else { brings.running(gate, arrived)? };
        match runs_with(gate, arrived, &brings, payer, quote) {
            Ok(()) => {}
            // What came before is told what became of it.
            Err(_) if brings.is_known(gate)? => {}
            Err(refusal) if refusal.lacks_offers() => {
                return Err(Box::pin(challenge(gate, arrived, ask, refusal)).await);
            }
            Err(refusal) => return Err(refusal),
        }
        let (payer, fingerprint, now) = (payer.cloned(), *ask.fingerprint(), arrived.now);
        let delivery = Delivery { payer, fingerprint, asked, for_call: true, now };
        Ok(Paying { brings, delivery, running })
    }
}

/// Whether the call could run with the payment in: a limit of key or account that would refuse it then refuses it before
/// money moves. What is owed is no such limit: a deposit makes it good.
fn runs_with(
    gate: &Gate,
    arrived: &Arrived,
    brings: &Brings,
    payer: Option<&Payer>,
    quote: &Quote,
) -> Result<(), Refusal> {
    let incoming = brings.incoming().filter(|_| !quote.is_free());
    let Some((most, asset)) = incoming else { return Ok(()) };
    let (id, protocol) =
        (payer.map_or_else(|| brings.account(), |payer| payer.account.id()), brings.protocol());
    let empty = || AccountRef::from(Account::new(id, asset, Amount::ZERO, Amount::ZERO));
    let account = match payer {
        None => gate.book.find(id, asset).unwrap_or_else(empty),
        Some(payer) if payer.account.asset() == asset => payer.account.clone(),
        // Whether it may come in at all is asked of it first.
        Some(_) => return Ok(()),
    };
    let config = &arrived.snapshot.config;
    let owed = account.available().negated().unwrap_or(Amount::ZERO).max(Amount::ZERO);
    let beyond = Amount::from_units(most.units().saturating_add(owed.units()));
    let terms = HoldTerms {
        credit: Some(Credit { most, beyond }),
        limits: gate.spend_limits(id, &config.limits),
        may_clamp: config.metering.fit_to_balance,
        now_s: arrived.now.seconds(),
    };
    let key = payer.and_then(|payer| payer.key.clone());
    Payer { account, key, token: None, session: None, protocol }.would_hold(gate, quote, terms).map(|_| ())
}

/// Looks at ecash that is to pay for `ask`, and counts it for its source where it does not.
pub(crate) async fn ecash(
    worker: &Worker,
    arrived: &Arrived,
    token: Token,
    ask: &Ask<'_>,
) -> Result<Paid, Refusal> {
    let gate = &worker.gate;
    arrived.noted.protocol(cashu::PROTOCOL);
    let paid = cashu::verify(gate, arrived, token, ask);
    gate.metrics.proof(cashu::PROTOCOL, if paid.is_ok() { "good" } else { "bad" });
    match paid {
        Ok(paid) => Ok(paid),
        Err(refusal) => {
            // Where the mint cannot be asked, its payer is not to blame, and was counted as one who pays nothing.
            if !matches!(refusal.code(), Code::FacilitatorFailed | Code::RateLimited) {
                arrived.snapshot.limiters.count_invalid(arrived.source);
            }
            let lacks = refusal.lacks_offers();
            Err(if lacks { Box::pin(challenge(gate, arrived, ask, refusal)).await } else { refusal })
        }
    }
}

/// Checks a payment against our offers for `ask`, and counts it for its source where it is bad.
pub(crate) async fn verify(
    worker: &Worker,
    arrived: &Arrived,
    payment: crate::credential::Payment,
    ask: &Ask<'_>,
) -> Result<Verified, Refusal> {
    let (gate, snapshot) = (&worker.gate, &arrived.snapshot);
    let protocol = payment.protocol();
    arrived.noted.protocol(protocol);
    let verified = payments::verify(gate, snapshot, payment, ask, arrived.now);
    let verified = verified.and_then(|verified| {
        extensions::check_echo(gate, snapshot, ask, &verified)?;
        Ok(verified)
    });
    gate.metrics.proof(protocol, if verified.is_ok() { "good" } else { "bad" });
    match verified {
        Ok(verified) => Ok(verified),
        Err(refusal) => {
            snapshot.limiters.count_invalid(arrived.source);
            let lacks = refusal.lacks_offers();
            Err(if lacks { Box::pin(challenge(gate, arrived, ask, refusal)).await } else { refusal })
        }
    }
}

/// A payment header was there that is none.
pub(crate) fn undecodable() -> Refusal {
    Refusal::new(Code::MalformedCredential, "The payment header cannot be decoded.")
}

/// A session has a balance of its own, and so has a key: which of them should pay?
pub(crate) fn two_balances() -> Refusal {
    let detail = "A session pays from its own balance: leave the credit key away.";
    Refusal::new(Code::AmbiguousCredentials, detail)
}

/// Counts a payment that the rail refused for its source: a signature costs nothing, asking a facilitator about it
/// does, and whoever signs them can have a new wallet for each.
pub(crate) fn count_refused(arrived: &Arrived, refusal: &Refusal) {
    if matches!(refusal.code(), Code::SettlementFailed | Code::Permit2AllowanceRequired) {
        arrived.snapshot.limiters.count_invalid(arrived.source);
    }
}

fn payment_required(quote: &Quote, tills: &[Till]) -> Refusal {
    let asset = tills.first().map_or(Asset::Usd, |till| till.asset);
    let need = quote.offered.short(asset);
    let facts = Facts { need: Some((quote.offered, asset)), ..Facts::default() };
    let detail = format!("This call needs a payment or a credit key; it costs at most {need} {asset}.");
    Refusal::new(Code::PaymentRequired, detail).facts(facts)
}
