//! Who may come in: room for one more call, credentials, the limits of source and account, and whether a
//! payment is genuine. Cheapest first; nothing here moves money.

use std::sync::Arc;

use http::HeaderMap;
use ledger::{Account, AccountId};
use money::{Amount, Asset};
use tracing::field;

use crate::call::{Arrived, Worker};
use crate::challenge::{Ask, challenge};
use crate::credential::Presented;
use crate::extensions;
use crate::extensions::sign_in::{self, Opened};
use crate::gate::Gate;
use crate::idempotency::{self, Asked, Naming};
use crate::limits::{Running, Slot};
use crate::payer::{Credit, HoldTerms, Payer};
use crate::payments::{self, Delivery, Verified};
use crate::quote::Quote;
use crate::refusal::{Code, Facts, Refusal};
use crate::snapshot::Snapshot;
use crate::till::Till;

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
    let presented: Presented = read(&arrived.head.headers).inspect_err(|_: &Refusal| {
        limiters.count_invalid(arrived.source);
    })?;
    if presented.is_empty() {
        limiters.admit_unpaid(arrived.source)?;
    }
    Ok(presented)
}

/// The payer behind the credit key, if there is one and it is good.
pub(crate) fn key_payer(
    worker: &Worker,
    arrived: &Arrived,
    presented: &Presented,
) -> Result<Option<Payer>, Refusal> {
    let Some(text) = &presented.key else { return Ok(None) };
    let verified = worker.known.verify(&worker.gate, text, arrived.now.seconds());
    worker.gate.metrics.proof("key", if verified.is_ok() { "good" } else { "bad" });
    let key = verified.inspect_err(|_| arrived.snapshot.limiters.count_invalid(arrived.source))?;
    let payer = Payer::of_key(&worker.gate, key);
    let span = tracing::Span::current();
    span.record("protocol", payer.protocol);
    span.record("payer", field::display(payer.account.id()));
    Ok(Some(payer))
}

/// Who pays, as far as that is known without a payment.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) payer: Option<Payer>,
    /// The call that is counted for the payer's account.
    pub(crate) running: Option<Running>,
    /// Why a wallet could not sign in. A payment would help.
    pub(crate) refused: Option<Refusal>,
}

/// The holder of the credit key, or the wallet that signs in. A key or a payment beside a sign-in decides alone, and
/// the sign-in is not used up.
pub(crate) fn known(worker: &Worker, arrived: &Arrived, presented: &Presented) -> Result<Known, Refusal> {
    if let Some(payer) = key_payer(worker, arrived, presented)? {
        let running = account(arrived, payer.account.id())?;
        return Ok(Known { payer: Some(payer), running: Some(running), refused: None });
    }
    let answer = sign_in::answered(&arrived.snapshot, &arrived.head.headers);
    let Some(answer) = answer.filter(|_| presented.is_empty()) else { return Ok(Known::default()) };
    match sign_in::open(&worker.gate, &arrived.snapshot, arrived.source, answer, arrived.now) {
        Ok(Opened { payer, running }) => {
            let span = tracing::Span::current();
            span.record("protocol", payer.protocol);
            span.record("payer", field::display(payer.account.id()));
            Ok(Known { payer: Some(payer), running: Some(running), refused: None })
        }
        Err(refusal) if refusal.is_payable() => Ok(Known { refused: Some(refusal), ..Known::default() }),
        Err(refusal) => Err(refusal),
    }
}

/// Counts a call of an account in, until the guard goes.
pub(crate) fn account(arrived: &Arrived, id: AccountId) -> Result<Running, Refusal> {
    arrived.snapshot.limiters.account(id).admit()
}

/// A genuine payment that may be brought in.
pub(crate) struct Paying {
    pub(crate) verified: Verified,
    pub(crate) delivery: Delivery,
    /// Of the account that the payment itself names; none where a key has counted already.
    pub(crate) running: Option<Running>,
}

/// A request that something is going to be charged for, as it may be asked again. None: nothing is remembered
/// of it, and no hash is spent on what pays nothing.
pub(crate) fn asked(
    arrived: &Arrived,
    presented: &Presented,
    payer: Option<&Payer>,
    quote: &Quote,
    naming: Naming,
    body: &[u8],
) -> Option<Asked> {
    let pays = payer.is_some() || presented.payment.is_some();
    (pays && !quote.is_free()).then(|| {
        let fingerprint = idempotency::fingerprint(&arrived.head.method, &arrived.target, body);
        Asked { naming, fingerprint }
    })
}

/// Checks the payment of a request; without one, whether a key or nothing at all is enough.
pub(crate) fn payment(
    worker: &Worker,
    arrived: &Arrived,
    presented: Presented,
    known: &Known,
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
    let unpaid = |refusal| challenge(gate, snapshot, &ask, refusal, arrived.now);
    let Some(payment) = presented.payment else {
        return match payer {
            None if presented.malformed => Err(unpaid(undecodable())),
            None if !quote.is_free() => {
                let refused = known.refused.clone();
                Err(unpaid(refused.unwrap_or_else(|| payment_required(quote, &snapshot.tills))))
            }
            Some(_) | None => Ok(None),
        };
    };
    let fingerprint = *ask.fingerprint();
    let verified = verify(worker, arrived, payment, &ask)?;
    let account_id = payer.map_or_else(|| verified.account(), |payer| payer.account.id());
    let name = extensions::named(gate, snapshot, &ask, &verified, account_id)?;
    let asked = asked.map(|asked| name.map_or(asked, |name| asked.paid_as(name)));
    let running = match payer {
        Some(_) => None,
        None => Some(account(arrived, verified.account())?),
    };
    runs_with(gate, arrived, &verified, payer, quote)
        .map_err(|refusal| if refusal.lacks_offers() { unpaid(refusal) } else { refusal })?;
    let delivery = Delivery { payer: payer.cloned(), fingerprint, asked, for_call: true, now: arrived.now };
    Ok(Some(Paying { verified, delivery, running }))
}

/// Whether the call could run with the payment in: a limit of key or account that would refuse it then refuses it before
/// money moves. What is owed is no such limit: a deposit makes it good.
fn runs_with(
    gate: &Gate,
    arrived: &Arrived,
    verified: &Verified,
    payer: Option<&Payer>,
    quote: &Quote,
) -> Result<(), Refusal> {
    let Some((most, asset)) = verified.brings().filter(|_| !quote.is_free()) else { return Ok(()) };
    let id = payer.map_or_else(|| verified.account(), |payer| payer.account.id());
    let empty = || Arc::new(Account::new(id, asset, Amount::ZERO, Amount::ZERO));
    let account = match payer {
        None => gate.book.find(id, asset).unwrap_or_else(empty),
        Some(payer) if payer.account.asset() == asset => Arc::clone(&payer.account),
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
    match (Payer { account, key, protocol: verified.protocol() }).would_hold(gate, quote, terms) {
        Ok(_) => Ok(()),
        // What came before is told what became of it.
        Err(_) if verified.is_known(gate)? => Ok(()),
        Err(refusal) => Err(refusal),
    }
}

/// Checks a payment against our offers for `ask`, and counts it for its source where it is bad.
pub(crate) fn verify(
    worker: &Worker,
    arrived: &Arrived,
    payment: crate::credential::Payment,
    ask: &Ask<'_>,
) -> Result<Verified, Refusal> {
    let (gate, snapshot) = (&worker.gate, &arrived.snapshot);
    let protocol = payment.protocol();
    tracing::Span::current().record("protocol", protocol);
    let verified = payments::verify(gate, snapshot, payment, ask, arrived.now);
    let verified = verified.and_then(|verified| {
        extensions::check_echo(gate, snapshot, ask, &verified)?;
        Ok(verified)
    });
    gate.metrics.proof(protocol, if verified.is_ok() { "good" } else { "bad" });
    verified.map_err(|refusal| {
        snapshot.limiters.count_invalid(arrived.source);
        if refusal.lacks_offers() { challenge(gate, snapshot, ask, refusal, arrived.now) } else { refusal }
    })
}

/// A payment header was there that is none.
pub(crate) fn undecodable() -> Refusal {
    Refusal::new(Code::MalformedCredential, "The payment header cannot be decoded.")
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
