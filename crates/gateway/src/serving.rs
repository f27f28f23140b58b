//! A call that may run: money set aside, the request passed on, the charge attached to the answer.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use ledger::AccountRef;
use meter::Head;
use money::{Amount, Asset};
use wire::l402::grpc::GRPC_STATUS;

use crate::admission::{self, Brings};
use crate::body::GateBody;
use crate::call::{Arrived, Worker};
use crate::call_id::CallId;
use crate::cashu;
use crate::challenge::{Ask, challenge};
use crate::charge::{Charge, Guards};
use crate::clock::Now;
use crate::config::{Route, RoutePrice};
use crate::epilogue::{Epilogue, TRAILERS, TRAILERS_OF_A_CRAWL, TRAILERS_OF_A_PROMISE};
use crate::exchange::{Exchange, Rest};
use crate::extensions::offers::Notary;
use crate::forwarding::{Waits, forward};
use crate::idempotency::Attempt;
use crate::identity;
use crate::journalled::Journalled;
use crate::lightning::{self, TokenUse};
use crate::limits::{Running, Slot};
use crate::mpp::{Paid, Told, processor, session};
use crate::open_hold::OpenHold;
use crate::passing::ChargedBody;
use crate::payer::{HoldTerms, Payer, SpendLimits};
use crate::payments::{self, Arrival, Brought, Delivery, Deposit, Promise, Spends};
use crate::quote::{Fitted, Quote};
use crate::refusal::{Code, Money, Refusal};
use crate::sending::{RequestStream, Sending};
use crate::session::Session;
use crate::snapshot::Snapshot;
use crate::tape::Tape;
use crate::tunnel::{Coverage, Tunnel};
use crate::upstream::grpc::GrpcEnd;
use crate::upstream::{AnswerHead, RequestBody, is_out_of_credit};

/// A call that is paid for, or free, and about to go up.
pub(crate) struct Serving {
    pub(crate) worker: Rc<Worker>,
    pub(crate) arrived: Arrived,
    pub(crate) route: Arc<Route>,
    pub(crate) quote: Quote,
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
        let (token, arrival) = match brings {
            Brings::Payment(verified) => (None, payments::receive(gate, snapshot, *verified, delivery).await),
            Brings::Ecash(paid) => (None, cashu::receive(gate, snapshot, *paid, delivery).await),
            Brings::Granted(granted) => (None, processor::receive(gate, snapshot, *granted, delivery).await),
            Brings::Lightning(door, spends) => {
                let arrival = lightning::receive(gate, snapshot, &door, delivery, spends).await;
                (door.into_token(), arrival)
            }
            Brings::LightningSession(act) => (None, lightning::act(gate, snapshot, *act, delivery).await),
            Brings::Session(presented) => {
                (None, session::receive(gate, snapshot, *presented, delivery).await)
            }
        };
        match arrival {
            Ok(Arrival::Answered(before)) => {
                let answer = before.answer(&self.worker.gate, &self.route.name);
                answer.map(|answer| answer.map(GateBody::whole))
            }
            Ok(Arrival::Deposited(deposit)) => self.deposited(deposit, token, protocol).await,
            Ok(Arrival::Promised(promise)) => self.promised(promise, protocol).await,
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
        let upstream = Arc::clone(&self.quote.upstream);
        let held = match self.hold(brought.as_ref()) {
            Ok(held) => held,
            Err(refusal) => return Err(self.payable(refusal).await),
        };
        let Self { worker, arrived, route, quote, rest, payer, given, told, attempt, running, slot } = *self;
        let gate = &worker.gate;
        let guards = Guards { running, slot };
        let (hold, fitted) = held.unzip();
        let (clamp, growth, coverage) = match fitted {
            Some(fitted) => (fitted.clamp, fitted.growth, quote.coverage(fitted.most)),
            None => (given.and_then(|_| quote.given_limit()), None, None),
        };
        let open = Journalled::begin(gate, arrived.call, hold.as_deref(), arrived.now).await;
        let journalled = open.map_err(|error| payments::store_refusal(&error))?;
        let asked = tokio::time::Instant::now();
        // A head that comes when its call can be settled no more would be a gift.
        let settled_by = |promise: &Promise| promise.time_max(Now::read());
        let time_max = brought.as_ref().and_then(Brought::promise).and_then(settled_by);
        let patience = time_max.map_or(upstream.first_byte, |most| most.min(upstream.first_byte));
        let drain = if quote.exchange.streams() { Duration::ZERO } else { route.policy.drain };
        let waits = Waits { patience, drain, whole: time_max };
        let (body, client) = outgoing(rest, &quote, clamp, &arrived.snapshot);
        let response = forward(&worker, &arrived, &quote, body, waits).await?;
        let (mut parts, mut upstream_body) = response.into_parts();
        let looking = is_out_of_credit(upstream.provider, parts.status, &mut upstream_body);
        if tokio::time::timeout(patience, looking).await.unwrap_or(false) {
            gate.metrics.out_of_credit(&upstream.name);
            tracing::error!(call = %arrived.call, upstream = %upstream.name, "ALARM: the upstream says that this gateway's credit there is used up");
            return Err(Refusal::new(Code::UpstreamFailed, "The upstream refused this gateway."));
        }
        let AnswerHead::Relay(mut headers) = quote.exchange.answer_head(&parts, &upstream) else {
            tracing::warn!(call = %arrived.call, status = parts.status.as_u16(), upstream = %upstream.name, "answer of the upstream withheld");
            return Err(Refusal::new(Code::UpstreamFailed, "The upstream refused this gateway."));
        };
        let status = quote.exchange.counted_as(parts.status);
        // An answer of gRPC that is nothing but trailers has opened nothing.
        let is_open = status.is_success()
            && !(quote.exchange == Exchange::Grpc && parts.headers.contains_key(GRPC_STATUS));
        let opened_at = quote.sending.as_ref().filter(|_| is_open).map(Sending::bytes);
        let text = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let meter = quote.meter(Head {
            status: status.as_u16(),
            content_type: text(header::CONTENT_TYPE),
            content_encoding: text(header::CONTENT_ENCODING),
            hide_usage_chunk: quote.hides_usage(),
        });
        if let Some(brought) = &mut brought {
            match Box::pin(brought.at_head(status)).await {
                Ok(said) => headers.extend(said),
                Err(refusal) => return Err(payable(&worker, &arrived, &quote, refusal).await),
            }
        }
        let notary = status.is_success().then(|| Notary::of(gate, &arrived.snapshot, &arrived.target));
        let notary = notary.flatten();
        if let Some(notary) = &notary {
            notary.confirm_in(&mut headers);
        }
        let charged = payer.as_ref().filter(|_| hold.is_some()).map(|payer| payer.account.asset());
        tell(&mut headers, arrived.call, &quote, clamp);
        if let Some(left) = given {
            headers.insert(HeaderName::from_static("farthing-free-calls-left"), HeaderValue::from(left));
        }
        if let (Some(asset), Some(hold), Some(payer)) = (charged, &hold, &payer) {
            tell_money(&mut headers, asset, hold.amount(), payer, status.is_success(), arrived.call);
            if let Some(told) = &told {
                told.tell(
                    &mut headers,
                    status,
                    &paid_by(brought.as_ref(), payer, hold.amount(), arrived.call),
                );
            }
        }
        let is_crawl = arrived.identity.crawl.is_some();
        if let (true, true, RoutePrice::PerCall(_)) = (is_crawl, status.is_success(), &route.price) {
            identity::tell_charged(&mut headers, quote.ceiling);
        }
        let is_promised = brought.as_ref().is_some_and(|brought| brought.promise().is_some());
        let epilogue = charged.map_or_else(Epilogue::default, |_| {
            Epilogue::wanted(&arrived.head.headers, &headers, status.is_success(), payer.as_ref())
        });
        if epilogue.trailers {
            let names = match (is_promised, is_crawl) {
                (true, _) => TRAILERS_OF_A_PROMISE,
                (false, true) => TRAILERS_OF_A_CRAWL,
                (false, false) => TRAILERS,
            };
            headers.insert(header::TRAILER, HeaderValue::from_static(names));
        }
        let mut response = Response::new(());
        *response.status_mut() = parts.status;
        *response.headers_mut() = headers;
        let (time_max, quote_bytes_max) = (quote.time_max(), quote.bytes_max());
        let (streams, quote_is_grpc) = (quote.exchange.streams(), quote.exchange == Exchange::Grpc);
        let tape = || match streams {
            true => Tape::without_body(without_key(&response)),
            false => Tape::new(without_key(&response), arrived.snapshot.dedupe().body_bytes_max),
        };
        let timeout = arrived.snapshot.config.server.timeouts.call;
        let left = brought.as_ref().and_then(Brought::promise).and_then(settled_by);
        let deadline = tokio::time::Instant::now() + left.map_or(timeout, |most| most.min(timeout));
        let mut charge = Box::new(Charge {
            gate: Arc::clone(gate),
            call: arrived.call,
            client: arrived.client,
            policy: route.policy,
            route,
            payer,
            agent: arrived.identity.agent().map(Rc::clone),
            is_given: given.is_some(),
            quote,
            clamp,
            hold,
            journalled,
            growth,
            exhausted: None,
            waits: None,
            tape: (brought.is_some() || attempt.is_some()).then(tape),
            brought,
            attempt,
            notary,
            key_watch: upstream
                .key_search
                .as_ref()
                .map(|key| if streams { key.watch_talk() } else { key.watch() }),
            opened_at,
            vain: None,
            grpc: quote_is_grpc.then(|| GrpcEnd::of_head(&parts.headers)),
            meter,
            asked,
            // An error costs nothing, however long it is.
            bytes_left: quote_bytes_max.filter(|_| status.is_success()),
            time_max: coverage.as_ref().map_or(time_max, Coverage::time),
            status,
            deadline: time_max.map_or(deadline, |most| deadline.min(asked + most)),
            expired: false,
            started: arrived.now,
            noted: arrived.noted,
            guards,
            ended: false,
            stopped: None,
            priced: None,
        });
        if charge.status.is_success()
            && let Err(error) = charge.journal_input().await
        {
            charge.abandon();
            return Err(payments::store_refusal(&error));
        }
        if let (Some(client), true) = (client, parts.status == StatusCode::SWITCHING_PROTOCOLS) {
            let upstream_side = parts.extensions.remove::<OnUpgrade>().ok_or_else(refused_upgrade)?;
            let idle = upstream.stream_idle;
            let tunnel = Tunnel { client, upstream: upstream_side, charge, coverage, idle };
            return Ok(response.map(|()| GateBody::tunnel(tunnel)));
        }
        let aftercare = Rc::clone(&worker.aftercare);
        let mut body = ChargedBody::new(upstream_body, charge, epilogue, upstream.stream_idle, aftercare);
        body.landed_if_empty().await.map_err(|error| payments::store_refusal(&error))?;
        Ok(response.map(|()| GateBody::charged(body)))
    }
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

fn refused_upgrade() -> Refusal {
    Refusal::new(Code::UpstreamFailed, "The upstream did not open the connection.")
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

/// What is known of the call when its answer begins.
fn tell(headers: &mut HeaderMap, call: CallId, quote: &Quote, clamp: Option<u64>) {
    const REQUEST_ID: HeaderName = HeaderName::from_static("farthing-request-id");
    const PRICE: HeaderName = HeaderName::from_static("farthing-price");
    headers.insert(REQUEST_ID, call.header());
    let version = quote.tariff.get(..12).unwrap_or_default();
    if let Ok(version) = HeaderValue::from_str(version) {
        headers.insert(PRICE, version);
    }
    if let Some(Ok(limit)) = clamp.map(|limit| HeaderValue::from_str(&format!("max_tokens={limit}"))) {
        headers.insert("farthing-clamped", limit);
    }
}

/// What a receipt of the `Payment` scheme says that the call was paid by.
fn paid_by(brought: Option<&Brought>, payer: &Payer, held: Amount, call: CallId) -> Paid {
    let reference = match (&payer.session, brought) {
        (Some(session), _) => session.reference().to_owned(),
        (None, Some(Brought::Deposit(deposit))) => deposit.reference.clone(),
        (None, Some(Brought::Promise(_)) | None) => call.to_string(),
    };
    let (balance, asset, now) = (payer.account.available(), payer.account.asset(), Now::read());
    let session = payer.session.as_ref();
    let session = session.map(|session| session.receipt_of_head(&payer.account, now.seconds()));
    Paid { reference, call: Some(call), held: Some(held), balance, asset, session, now }
}

fn tell_money(
    headers: &mut HeaderMap,
    asset: Asset,
    held: Amount,
    payer: &Payer,
    success: bool,
    call: CallId,
) {
    let available = payer.account.available();
    for (name, amount) in [("farthing-hold", held), ("farthing-balance", available)] {
        if let Ok(value) = HeaderValue::from_str(&format!("{} {asset}", amount.decimal(asset))) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    if success {
        headers.insert("farthing-receipt", call.header());
    }
}

/// A stored answer never holds a key (reference item 38).
fn without_key(response: &Response<()>) -> Response<()> {
    let mut stored = response.clone();
    stored.headers_mut().remove("farthing-key");
    stored.headers_mut().remove(header::TRAILER);
    stored.headers_mut().insert("farthing-replayed", HeaderValue::from_static("true"));
    stored
}
