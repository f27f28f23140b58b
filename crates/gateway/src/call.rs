//! One request, top to bottom.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header, request};
use hyper::body::Incoming;
use meter::{Head, Meter, Sdk};
use money::Asset;
use tracing::{Instrument, field};

use crate::accept::Underway;
use crate::body::{self, GateBody};
use crate::call_id::CallId;
use crate::challenge::{Ask, challenge};
use crate::charge::{Aftercare, Charge, ChargedBody, Guards, TRAILERS, Tape};
use crate::clock::Now;
use crate::config::Route;
use crate::credential::Presented;
use crate::endpoints;
use crate::gate::Gate;
use crate::limits::Source;
use crate::payer::{KnownKeys, Payer};
use crate::payments::{self, Arrival, Delivery, Deposit};
use crate::quote::Quote;
use crate::refusal::{Code, Money, Refusal};
use crate::snapshot::{Snapshot, Upstream};
use crate::upstream::{AnswerHead, KeySearch, Pool, SendError, answer_head, build};
use crate::wall;

/// What one thread has for itself.
pub(crate) struct Worker {
    pub(crate) gate: Arc<Gate>,
    pub(crate) pool: Pool,
    pub(crate) known: KnownKeys,
    pub(crate) aftercare: Rc<Aftercare>,
}

/// A request whose head has passed the wall.
pub(crate) struct Arrived {
    pub(crate) call: CallId,
    pub(crate) source: Source,
    pub(crate) head: request::Parts,
    pub(crate) path: String,
    pub(crate) target: String,
    pub(crate) now: Now,
    pub(crate) snapshot: Arc<Snapshot>,
}

/// Answers one request, whatever it is.
pub(crate) async fn answer(
    worker: Rc<Worker>,
    peer: SocketAddr,
    request: Request<Incoming>,
    underway: Underway,
) -> Response<GateBody> {
    let call = CallId::fresh();
    let span = tracing::info_span!(
        "call", id = %call, route = field::Empty, protocol = field::Empty, payer = field::Empty,
        quote = field::Empty, captured = field::Empty
    );
    let sdk = meter::Dialect::from_path(request.uri().path()).map_or(Sdk::OpenAi, meter::Dialect::sdk);
    let handled = handle(worker, call, peer, request).instrument(span).await;
    let response = handled.unwrap_or_else(|refusal| refusal.response(sdk, call).map(GateBody::whole));
    response.map(|body| body.with(underway))
}

async fn handle(
    worker: Rc<Worker>,
    call: CallId,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<GateBody>, Refusal> {
    let gate = Arc::clone(&worker.gate);
    let snapshot = gate.snapshot.load_full();
    let server = &snapshot.config.server;
    let target = wall::check(&request, |host| server.allows_host(host), snapshot.bounds())?;
    let (path, target) = (target.path.to_owned(), target.to_text());
    let source = Source::of(peer.ip());
    let (head, body) = request.into_parts();
    let incoming = Arrived { call, source, head, path, target, now: Now::read(), snapshot };
    let outcome = match endpoints::find(&incoming.path) {
        Some(endpoint) => endpoints::answer(&worker, &incoming, endpoint).await,
        None => paid_call(worker, incoming, body).await,
    };
    if let Err(refusal) = &outcome {
        let code = refusal.code();
        gate.metrics.request("refused", code.name());
        tracing::info!(code = code.name(), status = code.status().as_u16(), "refused");
    }
    outcome
}

/// One paid call. Each step is the module of that name; each `?` is a refusal.
async fn paid_call(
    worker: Rc<Worker>,
    incoming: Arrived,
    body: Incoming,
) -> Result<Response<GateBody>, Refusal> {
    let (gate, snapshot) = (&worker.gate, &incoming.snapshot);
    let slot = admit(gate, snapshot)?;
    let route = snapshot.route(&incoming.head.method, &incoming.path)?.clone();
    tracing::Span::current().record("route", route.name.as_str());
    let (presented, undecodable) = match read_credentials(&worker, &incoming) {
        Ok(presented) => (presented, None),
        Err(refusal) if refusal.code() == Code::MalformedCredential => (Presented::default(), Some(refusal)),
        Err(refusal) => return Err(refusal),
    };
    let key_payer = key_payer(&worker, &incoming, &presented)?;
    let take = body::Take {
        max: route.body_bytes,
        opaque: snapshot.dialect(&route, &incoming.path) == meter::Dialect::Raw,
        time_max: snapshot.config.server.timeouts.body,
    };
    let body = body::read(body, &incoming.head.headers, take).await?;
    let quote = Quote::of(snapshot, &route, &incoming.path, body.clone())?;
    tracing::Span::current().record("quote", quote.ceiling.units());
    let ask = Ask::of(snapshot, &quote, &incoming.head.method, &incoming.target);
    let unpaid = |refusal| challenge(gate, snapshot, &ask, refusal, incoming.now);
    if let Some(refusal) = undecodable {
        return Err(unpaid(refusal));
    }
    if let Some(payer) = &key_payer {
        payer.permits(&route, &quote, incoming.now.seconds())?;
    }
    let payment = match presented.payment {
        Some(payment) => {
            let protocol = payment.protocol();
            let fingerprint = payments::fingerprint(&incoming.head.method, &incoming.target, &body);
            tracing::Span::current().record("protocol", protocol);
            let verified = payments::verify(gate, snapshot, payment, &ask, &fingerprint, incoming.now);
            gate.metrics.proof(protocol, if verified.is_ok() { "good" } else { "bad" });
            let verified = verified.map_err(|refusal| {
                snapshot.limiters.count_invalid(incoming.source);
                if refusal.is_payable() { unpaid(refusal) } else { refusal }
            })?;
            Some((verified, protocol, Delivery { payer: key_payer.clone(), fingerprint, now: incoming.now }))
        }
        None if key_payer.is_none() && !quote.is_free() => {
            return Err(unpaid(payment_required(&quote, &snapshot.tills)));
        }
        None => None,
    };
    let serving = Serving { worker: Rc::clone(&worker), incoming, route, quote, payer: key_payer, slot };
    // From here on money moves: a client that hangs up must not stop it halfway.
    let span = tracing::Span::current();
    let task = tokio::task::spawn_local(
        async move {
            match payment {
                None => serving.serve(None).await,
                Some((verified, protocol, delivery)) => {
                    let (gate, snapshot) = (&serving.worker.gate, &serving.incoming.snapshot);
                    match payments::receive(gate, snapshot, verified, delivery).await {
                        Ok(Arrival::Answered(answer)) => Ok(answer.map(GateBody::whole)),
                        Ok(Arrival::Deposited(deposit)) => serving.deposited(deposit, protocol).await,
                        Err(refusal) => Err(serving.after_settlement(refusal)),
                    }
                }
            }
        }
        .instrument(span),
    );
    task.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a call was cut short");
        Err(Refusal::new(Code::Internal, "The gateway failed while serving this call."))
    })
}

fn admit(gate: &Gate, snapshot: &Snapshot) -> Result<crate::limits::Slot, Refusal> {
    if gate.is_draining() {
        return Err(Refusal::new(Code::Draining, "This gateway is about to stop.").retry_after(5));
    }
    if !gate.store.is_healthy() {
        return Err(
            Refusal::new(Code::StoreUnavailable, "The gateway cannot record charges now.").retry_after(30)
        );
    }
    let limit = snapshot.config.server.limits.in_flight;
    let busy = || Refusal::new(Code::Overloaded, "This gateway has too many calls at once.").retry_after(1);
    // A call that could not be recorded must not begin (LED-28).
    if !gate.store.has_room(limit.min(store::QUEUE_MAX / 2)) {
        return Err(busy());
    }
    gate.in_flight.take(limit).ok_or_else(busy)
}

fn read_credentials(worker: &Worker, incoming: &Arrived) -> Result<Presented, Refusal> {
    let limiters = &incoming.snapshot.limiters;
    limiters.admit_proof(incoming.source)?;
    let presented = Presented::read(&incoming.head.headers).inspect_err(|refusal| {
        limiters.count_invalid(incoming.source);
        worker.gate.metrics.proof("unread", refusal.code().name());
    })?;
    if presented.is_empty() {
        limiters.admit_unpaid(incoming.source)?;
    }
    Ok(presented)
}

pub(crate) fn key_payer(
    worker: &Worker,
    incoming: &Arrived,
    presented: &Presented,
) -> Result<Option<Payer>, Refusal> {
    let Some(text) = &presented.key else { return Ok(None) };
    let verified = worker.known.verify(&worker.gate, text, incoming.now.seconds());
    worker.gate.metrics.proof("key", if verified.is_ok() { "good" } else { "bad" });
    let key = verified.inspect_err(|_| incoming.snapshot.limiters.count_invalid(incoming.source))?;
    let payer = Payer::of_key(&worker.gate, key);
    let span = tracing::Span::current();
    span.record("protocol", payer.protocol);
    span.record("payer", field::display(payer.account.id()));
    Ok(Some(payer))
}

fn payment_required(quote: &Quote, tills: &[crate::snapshot::Till]) -> Refusal {
    let asset = tills.first().map_or(Asset::Usd, |till| till.asset);
    let need = quote.ceiling.short(asset);
    let facts = crate::refusal::Facts { need: Some((quote.ceiling, asset)), ..Default::default() };
    let detail = format!("This call needs a payment or a credit key; it costs at most {need} {asset}.");
    Refusal::new(Code::PaymentRequired, detail).facts(facts)
}

/// A call that is paid for, or free, and about to go up.
struct Serving {
    worker: Rc<Worker>,
    incoming: Arrived,
    route: Route,
    quote: Quote,
    payer: Option<Payer>,
    slot: crate::limits::Slot,
}

impl Serving {
    /// The payment is in: the payer is whose account it went to.
    async fn deposited(
        mut self,
        deposit: Deposit,
        protocol: &'static str,
    ) -> Result<Response<GateBody>, Refusal> {
        let key = self.payer.take().and_then(|payer| payer.key);
        let account = Arc::clone(&deposit.account);
        tracing::Span::current().record("payer", field::display(account.id()));
        self.payer = Some(Payer { account, key, protocol });
        let headers = deposit.headers.clone();
        // Whatever happens next, the payer learns that he has paid and how to reach what is left.
        self.serve(Some(deposit)).await.map_err(|refusal| {
            headers.iter().fold(refusal.money(Money::DepositKept), |refusal, (name, value)| {
                refusal.header(name.clone(), value.clone())
            })
        })
    }

    /// A settlement that was refused for certain may be paid anew; anything else must not be.
    fn after_settlement(&self, refusal: Refusal) -> Refusal {
        if !refusal.is_payable() {
            return refusal;
        }
        let snapshot = &self.incoming.snapshot;
        let ask = Ask::of(snapshot, &self.quote, &self.incoming.head.method, &self.incoming.target);
        challenge(&self.worker.gate, snapshot, &ask, refusal, self.incoming.now)
    }

    /// Reserve, forward, attach the charge to the answer.
    async fn serve(self, deposit: Option<Deposit>) -> Result<Response<GateBody>, Refusal> {
        let Self { worker, incoming, route, quote, payer, slot } = self;
        let (gate, snapshot) = (&worker.gate, &incoming.snapshot);
        let upstream = snapshot.upstream(&route, &quote.model)?;
        let may_clamp = snapshot.config.metering.fit_to_balance;
        let running = payer.as_ref().map(|payer| snapshot.limiters.account(payer.account.id()).admit());
        let guards = Guards { running: running.transpose()?, slot };
        let held = match &payer {
            Some(payer) if !quote.is_free() => {
                Some(payer.hold(gate, &quote, may_clamp).map_err(|refusal| {
                    if !refusal.is_payable() {
                        return refusal;
                    }
                    let ask = Ask::of(snapshot, &quote, &incoming.head.method, &incoming.target);
                    challenge(gate, snapshot, &ask, refusal, incoming.now)
                })?)
            }
            Some(_) | None => None,
        };
        let (hold, clamp) = held.map_or((None, None), |(hold, fitted)| (Some(hold), fitted.clamp));
        let response = forward(&worker, &incoming, &upstream, quote.rewritten(clamp)).await?;
        let (parts, upstream_body) = response.into_parts();
        let AnswerHead::Relay(mut headers) =
            answer_head(parts.status, &parts.headers, upstream.key_search.as_ref())
        else {
            tracing::warn!(status = parts.status.as_u16(), upstream = %upstream.name, "answer of the upstream withheld");
            return Err(Refusal::new(Code::UpstreamFailed, "The upstream refused this gateway."));
        };
        let text = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let meter = Meter::new(
            quote.dialect,
            Head {
                status: parts.status.as_u16(),
                content_type: text(header::CONTENT_TYPE),
                content_encoding: text(header::CONTENT_ENCODING),
                hide_usage_chunk: quote.hides_usage(),
            },
        );
        if let Some(deposit) = &deposit {
            headers.extend(deposit.headers.clone());
        }
        let charged = payer.as_ref().filter(|_| hold.is_some()).map(|payer| payer.account.asset());
        tell(&mut headers, incoming.call, &quote, clamp);
        if let (Some(asset), Some(hold), Some(payer)) = (charged, &hold, &payer) {
            gate.metrics.hold_opened();
            tell_money(&mut headers, asset, hold.amount(), payer, parts.status.is_success(), incoming.call);
        }
        let wants_trailers = charged.is_some() && takes_trailers(&incoming.head.headers);
        if wants_trailers {
            headers.insert(header::TRAILER, HeaderValue::from_static(TRAILERS));
        }
        let mut response = Response::new(());
        *response.status_mut() = parts.status;
        *response.headers_mut() = headers;
        let charge = Charge {
            gate: Arc::clone(gate),
            call: incoming.call,
            route: route.name,
            upstream: upstream.name.clone(),
            payer,
            quote,
            clamp,
            hold,
            tape: deposit.as_ref().map(|_| Tape::new(without_key(&response))),
            deposit,
            key_watch: upstream.key_search.as_ref().map(KeySearch::watch),
            meter,
            status: parts.status,
            started: incoming.now,
            span: tracing::Span::current(),
            guards,
            ended: false,
        };
        let aftercare = Rc::clone(&worker.aftercare);
        let body = ChargedBody::new(upstream_body, charge, wants_trailers, upstream.stream_idle, aftercare);
        Ok(response.map(|()| GateBody::charged(body)))
    }
}

async fn forward(
    worker: &Worker,
    incoming: &Arrived,
    upstream: &Upstream,
    body: Bytes,
) -> Result<Response<crate::upstream::UpstreamBody>, Refusal> {
    let target = format!("{}{}", upstream.base_path, incoming.target);
    let secret = upstream.auth.as_ref().map(|(name, value)| (name, value));
    let method = incoming.head.method.clone();
    let request = build(method, &target, &upstream.way.authority(), &incoming.head.headers, secret, body);
    let request = request.map_err(|_| Refusal::new(Code::BadRequest, "The request cannot be passed on."))?;
    let asked = std::time::Instant::now();
    let answered = tokio::time::timeout(upstream.first_byte, worker.pool.send(&upstream.way, request)).await;
    worker.gate.metrics.upstream_took(asked.elapsed().as_secs_f64());
    match answered {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => {
            let detail = match &error {
                SendError::Connect(_) => "The upstream cannot be reached.",
                SendError::Closed(_) => "The upstream closed without an answer.",
            };
            tracing::warn!(error = &error as &dyn std::error::Error, upstream = %upstream.name, "upstream failed");
            Err(Refusal::new(Code::UpstreamFailed, detail))
        }
        Err(_) => Err(Refusal::new(Code::UpstreamTimeout, "The upstream did not answer in time.")),
    }
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    let te = headers.get(header::TE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    te.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// What is known of the call when its answer begins.
fn tell(headers: &mut HeaderMap, call: CallId, quote: &Quote, clamp: Option<u64>) {
    headers.insert("farthing-request-id", call.header());
    let version = quote.tariff.get(..12).unwrap_or_default();
    if let Ok(version) = HeaderValue::from_str(version) {
        headers.insert("farthing-price", version);
    }
    if let Some(Ok(limit)) = clamp.map(|limit| HeaderValue::from_str(&format!("max_tokens={limit}"))) {
        headers.insert("farthing-clamped", limit);
    }
}

fn tell_money(
    headers: &mut HeaderMap,
    asset: Asset,
    held: money::Amount,
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

/// The methods an endpoint of ours takes.
pub(crate) fn only(incoming: &Arrived, methods: &[Method]) -> Result<(), Refusal> {
    if methods.contains(&incoming.head.method) {
        return Ok(());
    }
    Err(Refusal::new(Code::MethodNotAllowed, "This endpoint does not take this method."))
}
