//! A call that may run: money set aside, the request passed on, the charge attached to the answer.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use hyper::upgrade::OnUpgrade;
use ledger::AccountRef;
use tokio::time::Instant;

use crate::admission::{self, Brings};
use crate::answered::{About, Answered, says_out_of_credit};
use crate::body::GateBody;
use crate::call::{Arrived, Worker};
use crate::cashu;
use crate::challenge::{Ask, challenge};
use crate::charge::{Charge, Guards};
use crate::clock::Now;
use crate::config::Route;
use crate::epilogue::Epilogue;
use crate::exchange::Rest;
use crate::extensions::offers::Notary;
use crate::forwarding::{Waits, forward};
use crate::idempotency::Attempt;
use crate::journalled::Journalled;
use crate::lightning::{self, TokenUse};
use crate::limits::{Running, Slot};
use crate::mpp::{Told, processor, session};
use crate::open_hold::OpenHold;
use crate::passing::ChargedBody;
use crate::payer::{HoldTerms, Payer, SpendLimits};
use crate::payments::{self, Arrival, Brought, Delivery, Deposit, Promise, Spends};
use crate::quote::{Fitted, Quote};
use crate::refusal::{Code, Money, Refusal};
use crate::sending::RequestStream;
use crate::session::Session;
use crate::snapshot::Snapshot;
use crate::tunnel::{Coverage, Tunnel};
use crate::upstream::{RequestBody, is_out_of_credit_by_head};

/// A call that is paid for, or free, and about to go up.
pub(crate) struct Serving {
    pub(crate) worker: Rc<Worker>,
    pub(crate) arrived: Box<Arrived>,
    pub(crate) route: Arc<Route>,
    pub(crate) quote: Box<Quote>,
    /// What of the request is still to come.
    pub(crate) rest: Rest,
    pub(crate) payer: Option<Payer>,
    /// Calls that are left of those that the route gives away, where this is one.
    pub(crate) given: Option<u32>,
    /// The challenge of the `Payment` scheme that it was paid by, for the receipt.
    pub(crate) told: Option<Told>,
    /// What the call may be asked for again by; of a payment, once that is in.
    pub(crate) attempt: Option<Attempt>,
    pub(crate) running: Option<Running>,
    pub(crate) slot: Slot,
}

impl Serving {
    /// Whether nobody pays for it, and nobody may ask for it again.
    pub(crate) fn is_nobodys(&self) -> bool {
        self.payer.is_none() && self.given.is_none() && self.attempt.is_none() && self.quote.is_free()
    }

    /// Claim, settle, deposit; then the call draws on it.
    pub(crate) async fn bring_in_and_serve(
        self: Box<Self>,
        brings: Brings,
        delivery: Delivery,
    ) -> Result<Response<GateBody>, Refusal> {
        let (gate, snapshot) = (&self.worker.gate, &self.arrived.snapshot);
        let protocol = brings.protocol();
        // Boxed, each: there is room for the one that comes, not for the largest.
        let (token, arrival) = match brings {
            Brings::Payment(verified) => {
                (None, Box::pin(payments::receive(gate, snapshot, *verified, delivery)).await)
            }
            Brings::Ecash(paid) => (None, Box::pin(cashu::receive(gate, snapshot, *paid, delivery)).await),
            Brings::Granted(granted) => {
                (None, Box::pin(processor::receive(gate, snapshot, *granted, delivery)).await)
            }
            Brings::Lightning(door, spends) => {
                let arrival = Box::pin(lightning::receive(gate, snapshot, &door, delivery, spends)).await;
                (door.into_token(), arrival)
            }
            Brings::LightningSession(act) => {
                (None, Box::pin(lightning::act(gate, snapshot, *act, delivery)).await)
            }
            Brings::Session(presented) => {
                (None, Box::pin(session::receive(gate, snapshot, *presented, delivery)).await)
            }
        };
        match arrival {
            Ok(Arrival::Answered(before)) => {
                let answer = before.answer(&self.worker.gate, &self.route.name);
                answer.map(|answer| answer.map(GateBody::whole))
            }
            Ok(Arrival::Deposited(deposit)) => Box::pin(self.deposited(deposit, token, protocol)).await,
            Ok(Arrival::Promised(promise)) => Box::pin(self.promised(promise, protocol)).await,
            Ok(Arrival::Refunded(headers)) => Ok(refunded(headers)),
            Ok(Arrival::Done(answer)) => Ok(answer.map(GateBody::whole)),
            Err(refusal) => {
                admission::count_refused(&self.arrived, &refusal);
                Err(self.payable(refusal).await)
            }
        }
    }

    /// The payment is in: the payer is whose account it went to.
    async fn deposited(
        mut self: Box<Self>,
        mut deposit: Box<Deposit>,
        token: Option<TokenUse>,
        protocol: &'static str,
    ) -> Result<Response<GateBody>, Refusal> {
        self.pays(deposit.account.clone(), token, deposit.session.take(), protocol);
        self.attempt = deposit.attempt.take();
        let (headers, is_drawn) = (deposit.headers.clone(), deposit.drawing.is_some());
        // A token that may be shown again was brought in by whoever showed it first.
        let was_in = deposit.spends != Spends::Once && !deposit.is_new;
        let served = self.serve(Some(Brought::Deposit(deposit))).await;
        // Whatever happens next, the payer learns that he has paid and how to reach what is left. A voucher is not
        // charged where nothing was served; what came into its channel is there.
        served.map_err(|refusal| {
            let is_in = (!is_drawn && !was_in) || !headers.is_empty();
            let money = if is_in { Money::DepositKept } else { Money::NothingTaken };
            headers.iter().fold(refusal.money(money), |refusal, (name, value)| {
                refusal.header(name.clone(), value.clone())
            })
        })
    }

    /// The payment is to come: the payer is whose account it will go to.
    async fn promised(
        mut self: Box<Self>,
        mut promise: Box<Promise>,
        protocol: &'static str,
    ) -> Result<Response<GateBody>, Refusal> {
        self.pays(promise.account.clone(), None, None, protocol);
        self.attempt = promise.attempt.take();
        if !promise.is_whole() {
            // Nothing is taken before the call has cost something.
            return self.serve(Some(Brought::Promise(promise))).await;
        }
        let headers = promise.headers.clone();
        // It settles whatever happens next. Where that is known the payer was told so; else the same request finds out.
        self.serve(Some(Brought::Promise(promise))).await.map_err(|refusal| {
            let money =
                if refusal.code() == Code::SettlementFailed { Money::NothingTaken } else { Money::Unknown };
            headers.iter().fold(refusal.money(money), |refusal, (name, value)| {
                refusal.header(name.clone(), value.clone())
            })
        })
    }

    fn pays(
        &mut self,
        account: AccountRef,
        token: Option<TokenUse>,
        session: Option<Rc<Session>>,
        protocol: &'static str,
    ) {
        self.arrived.snapshot.limiters.paid(self.arrived.source);
        let key = self.payer.take().and_then(|payer| payer.key);
        // Into the account of a key only a whole token goes, which limits nothing.
        let token = token.filter(|_| key.is_none());
        let payer = Payer { account, key, token, session, protocol };
        self.arrived.noted.payer(&payer);
        self.payer = Some(payer);
    }

    async fn payable(&self, refusal: Refusal) -> Refusal {
        payable(&self.worker, &self.arrived, &self.quote, refusal).await
    }

    fn hold(&self, brought: Option<&Brought>) -> Result<Option<(OpenHold, Fitted)>, Refusal> {
        let Some(payer) = self.payer.as_ref().filter(|_| !self.quote.is_free()) else { return Ok(None) };
        let snapshot = &self.arrived.snapshot;
        let terms = HoldTerms {
            credit: brought.and_then(Brought::promise).map(Promise::credit),
            limits: self.limits(payer),
            may_clamp: snapshot.config.metering.fit_to_balance,
            now_s: self.arrived.now.seconds(),
        };
        let held = payer.hold(&self.worker.gate, &self.quote, terms);
        let session = payer.session.as_deref();
        let (hold, fitted) = held.map_err(|refusal| match session {
            Some(session) if refusal.code() == Code::InsufficientBalance => {
                let lacks = self.quote.begins().minus(payer.account.available()).unwrap_or_default();
                session.short(refusal, lacks)
            }
            Some(_) | None => refusal,
        })?;
        // Behind the hold: whoever ends a session looks for holds after he has said so, and one of the two sees the other.
        match session.filter(|session| !session.is_open()) {
            Some(session) => Err(session.over()),
            None => Ok(Some((OpenHold::new(hold, &self.worker.gate), fitted))),
        }
    }

    /// Those of the account, and what a crawler's signature accepts.
    fn limits(&self, payer: &Payer) -> SpendLimits {
        let config = &self.arrived.snapshot.config;
        let limits = self.worker.gate.spend_limits(payer.account.id(), &config.limits);
        self.arrived.identity.crawl.as_ref().map_or(limits, |crawl| crawl.limited(limits))
    }

    /// Reserve, forward, attach the charge to the answer.
    pub(crate) async fn serve(
        self: Box<Self>,
        mut brought: Option<Brought>,
    ) -> Result<Response<GateBody>, Refusal> {
        let held = match self.hold(brought.as_ref()) {
            Ok(held) => held,
            Err(refusal) => return Err(Box::pin(self.payable(refusal)).await),
        };
        let Self { worker, arrived, route, quote, rest, payer, given, told, attempt, running, slot } = *self;
        let (gate, upstream) = (&worker.gate, Arc::clone(&quote.upstream));
        let guards = Guards { running, slot };
        let (hold, fitted) = held.unzip();
        let (clamp, growth, coverage) = match fitted {
            Some(fitted) => (fitted.clamp, fitted.growth, quote.coverage(fitted.most)),
            None => (given.and_then(|_| quote.given_limit()), None, None),
        };
        let open = Journalled::begin(gate, arrived.call, hold.as_deref(), arrived.now).await;
        let journalled = open.map_err(|error| payments::store_refusal(&error))?;
        let asked = Instant::now();
        let (body, client) = outgoing(rest, &quote, clamp, &arrived.snapshot);
        let waits = waits(&quote, brought.as_ref());
        let mut response = forward(&worker, &arrived, &quote, body, waits, asked).await?;
        let is_out = match is_out_of_credit_by_head(upstream.provider, response.status()) {
            Some(is_out) => is_out,
            None => Box::pin(says_out_of_credit(&mut response, waits.patience)).await,
        };
        let mut answer = Answered::look(gate, arrived.call, &quote, response, is_out)?;
        let status = answer.status;
        if let Some(brought) = &mut brought {
            match Box::pin(brought.at_head(status)).await {
                Ok(said) => answer.headers.extend(said),
                Err(refusal) => return Err(Box::pin(payable(&worker, &arrived, &quote, refusal)).await),
            }
        }
        let notary = status.is_success().then(|| Notary::of(gate, &arrived.snapshot, &arrived.target));
        let notary = notary.flatten();
        if let Some(notary) = &notary {
            notary.confirm_in(&mut answer.headers);
        }
        let charged = payer.as_ref().zip(hold.as_ref());
        let is_crawl = arrived.identity.crawl.is_some();
        let is_promised = brought.as_ref().is_some_and(|brought| brought.promise().is_some());
        answer.tell(&About {
            call: arrived.call,
            quote: &quote,
            clamp,
            given,
            held: charged.map(|(payer, hold)| (payer, hold.amount())),
            brought: brought.as_ref(),
            told: told.as_ref(),
            is_crawl,
        });
        let epilogue = charged.map_or_else(Epilogue::default, |(payer, _)| {
            Epilogue::wanted(&arrived.head.headers, &answer.headers, status.is_success(), payer)
        });
        epilogue.announce(&mut answer.headers, is_promised, is_crawl);
        let is_remembered = brought.is_some() || attempt.is_some();
        let (time_max, streams) = (quote.time_max(), quote.exchange.streams());
        let mut charge = Box::new(Charge {
            gate: Arc::clone(gate),
            call: arrived.call,
            client: arrived.client,
            policy: route.policy,
            route,
            payer,
            agent: arrived.identity.agent().map(Rc::clone),
            is_given: given.is_some(),
            clamp,
            hold,
            journalled,
            growth,
            exhausted: None,
            waits: None,
            tape: is_remembered.then(|| answer.tape(&quote, arrived.snapshot.dedupe().body_bytes_max)),
            attempt,
            notary,
            key_watch: upstream
                .key_search
                .as_ref()
                .map(|key| if streams { key.watch_talk() } else { key.watch() }),
            opened_at: answer.opened_at(&quote),
            vain: None,
            grpc: answer.grpc_end(&quote).map(Box::new),
            meter: answer.meter(&quote),
            asked,
            // An error costs nothing, however long it is.
            bytes_left: quote.bytes_max().filter(|_| status.is_success()),
            time_max: coverage.as_ref().map_or(time_max, Coverage::time),
            status,
            deadline: deadline(asked, time_max, &arrived.snapshot, brought.as_ref()),
            expired: false,
            started: arrived.now,
            noted: arrived.noted,
            guards,
            ended: false,
            stopped: None,
            quote,
            brought,
        });
        if status.is_success()
            && let Err(error) = charge.journal_input().await
        {
            charge.abandon();
            return Err(payments::store_refusal(&error));
        }
        let idle = upstream.stream_idle;
        if let Some((client, upstream)) = client.zip(answer.connection()) {
            let tunnel = Tunnel { client, upstream: upstream?, charge, coverage, idle };
            return Ok(answer.into_response().map(|_| GateBody::tunnel(tunnel)));
        }
        let (head, body) = answer.into_response().into_parts();
        let body = ChargedBody::new(body, charge, epilogue, idle, Rc::clone(&worker.aftercare));
        let mut body = Box::new(body);
        body.begun().await.map_err(|error| payments::store_refusal(&error))?;
        Ok(Response::from_parts(head, GateBody::charged(body)))
    }
}

/// The time in which a promise can still be settled, where that is what pays: a head that comes later would be a gift.
fn settled_within(brought: Option<&Brought>) -> Option<Duration> {
    brought.and_then(Brought::promise)?.time_max(Now::read())
}

/// How long the head of an answer is waited for.
fn waits(quote: &Quote, brought: Option<&Brought>) -> Waits {
    let (whole, usual) = (settled_within(brought), quote.upstream.first_byte);
    let patience = whole.map_or(usual, |most| most.min(usual));
    let drain = if quote.exchange.streams() { Duration::ZERO } else { quote.route.policy.drain };
    Waits { patience, drain, whole }
}

/// When the hold of a call expires.
fn deadline(
    asked: Instant,
    time_max: Option<Duration>,
    snapshot: &Snapshot,
    brought: Option<&Brought>,
) -> Instant {
    let timeout = snapshot.config.server.timeouts.call;
    let left = settled_within(brought).map_or(timeout, |most| most.min(timeout));
    let deadline = Instant::now() + left;
    time_max.map_or(deadline, |most| deadline.min(asked + most))
}

/// The body that goes up, and what becomes of the client's connection where that is a tunnel.
fn outgoing(
    rest: Rest,
    quote: &Quote,
    clamp: Option<u64>,
    snapshot: &Snapshot,
) -> (RequestBody, Option<OnUpgrade>) {
    match (rest, &quote.sending) {
        (Rest::Body(incoming), Some(sending)) => {
            let first_max = snapshot.config.server.timeouts.body;
            let stream = RequestStream::new(incoming, sending.clone(), first_max);
            (RequestBody::Stream(Box::new(stream)), None)
        }
        (Rest::Tunnel(client), _) => (RequestBody::whole(Bytes::new()), Some(client)),
        (Rest::Nothing | Rest::Body(_), _) => (RequestBody::whole(quote.rewritten(clamp)), None),
    }
}

/// What a payment would help gets our offers; what was refused for another reason must not.
async fn payable(worker: &Worker, arrived: &Arrived, quote: &Quote, refusal: Refusal) -> Refusal {
    if !refusal.lacks_offers() {
        return refusal;
    }
    let (snapshot, body) = (&arrived.snapshot, quote.body());
    let ask = Ask::of(snapshot, quote, &arrived.head.method, &arrived.target, &body)
        .with_head(&arrived.head.headers);
    Box::pin(challenge(&worker.gate, arrived, &ask, refusal)).await
}

/// Money went back, and nothing was asked of an upstream.
pub(crate) fn refunded(headers: HeaderMap) -> Response<GateBody> {
    let mut response = Response::new(GateBody::whole(Bytes::from_static(b"{\"refunded\":true}")));
    response.headers_mut().extend(headers);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
