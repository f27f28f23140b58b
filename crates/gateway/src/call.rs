//! One request, top to bottom.

use std::cell::OnceCell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use http::{Method, Request, Response, request};
use hyper::body::Incoming;
use tracing::Instrument;

use crate::accept::Underway;
use crate::admission;
use crate::aftercare::Aftercare;
use crate::body::GateBody;
use crate::call_id::CallId;
use crate::call_log::{CallLog, Noted};
use crate::clock::Now;
use crate::endpoints::{self, Endpoint};
use crate::exchange::{Exchange, Received};
use crate::extensions::sign_in;
use crate::forwarded;
use crate::gate::Gate;
use crate::idempotency::{self, Begun};
use crate::identity::{self, Identity};
use crate::lightning::KnownTokens;
use crate::limits::Source;
use crate::mpp::{Decoded, session};
use crate::payer::KnownKeys;
use crate::presence::Presence;
use crate::quote::Quote;
use crate::refusal::{Code, Money, Reader, Refusal};
use crate::serving::Serving;
use crate::snapshot::Snapshot;
use crate::upstream::Pool;
use crate::wall;

/// What one thread has for itself.
pub(crate) struct Worker {
    pub(crate) gate: Arc<Gate>,
    pub(crate) pool: Pool,
    pub(crate) known: KnownKeys,
    pub(crate) tokens: KnownTokens,
    pub(crate) aftercare: Rc<Aftercare>,
    pub(crate) log: Rc<CallLog>,
}

/// A request whose head has passed the wall.
pub(crate) struct Arrived {
    pub(crate) call: CallId,
    /// What the log is to say of it.
    pub(crate) noted: Rc<Noted>,
    pub(crate) source: Source,
    /// Number of its connection.
    pub(crate) connection: u64,
    /// Whether a proxy that the operator trusts has sent it.
    pub(crate) is_forwarded: bool,
    pub(crate) head: request::Parts,
    pub(crate) path: String,
    pub(crate) target: String,
    pub(crate) now: Now,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) client: Rc<Presence>,
    /// Who signed it, as far as its route wants to know.
    pub(crate) identity: Identity,
    /// Its credential of the `Payment` scheme.
    pub(crate) mpp: Decoded,
    /// The channel that it has shown a genuine voucher of; filled when that was checked.
    pub(crate) session: OnceCell<session::Shown>,
}

/// Answers one request, whatever it is.
pub(crate) async fn answer(
    worker: Rc<Worker>,
    peer: SocketAddr,
    request: Request<Incoming>,
    underway: Underway,
) -> Response<GateBody> {
    let now = Now::read();
    let call = CallId::begun(now);
    // For who looks closer: the line that each call has needs no span.
    let span = tracing::debug_span!("call", id = %call);
    let reader = Reader::of(&request);
    let noted = Rc::new(Noted::new(Rc::clone(&worker.log), call));
    let handling = handle(worker, call, now, Rc::clone(&noted), peer, underway.connection(), request);
    let handled = handling.instrument(span).await.inspect_err(|refusal| noted.refused(refusal.code()));
    let response = handled.unwrap_or_else(|refusal| refusal.told_to(reader, call).map(GateBody::whole));
    response.map(|body| body.with(underway))
}

async fn handle(
    worker: Rc<Worker>,
    call: CallId,
    now: Now,
    noted: Rc<Noted>,
    peer: SocketAddr,
    connection: u64,
    request: Request<Incoming>,
) -> Result<Response<GateBody>, Refusal> {
    let gate = Arc::clone(&worker.gate);
    let snapshot = gate.snapshot.load_full();
    let server = &snapshot.config.server;
    let target = wall::check(&request, |host| server.allows_host(host), snapshot.bounds())?;
    let (path, target) = (target.path.to_owned(), target.to_text());
    let client = forwarded::client(peer.ip(), request.headers(), &server.trusted_proxies);
    let source = Source::of(client);
    let is_forwarded = forwarded::is_trusted(&server.trusted_proxies, peer.ip());
    let (head, body) = request.into_parts();
    let (client, identity) = (Rc::default(), Identity::default());
    // Boxed, because it is handed on a few times, and each of them is room in the call.
    let arrived = Box::new(Arrived {
        call,
        noted,
        source,
        connection,
        is_forwarded,
        head,
        path,
        target,
        now,
        snapshot,
        client,
        identity,
        mpp: Decoded::default(),
        session: OnceCell::new(),
    });
    let outcome = match endpoints::find(&arrived.path) {
        // Boxed, so that calls have no room for what is not one.
        Some(endpoint) => Box::pin(endpoints::answer(&worker, &arrived, endpoint, body)).await,
        None if endpoints::is_for_refund(&arrived) => {
            Box::pin(endpoints::answer(&worker, &arrived, Endpoint::Refund, body)).await
        }
        None if session::is_managed(&arrived, &body) => Box::pin(session::manage(&worker, &arrived)).await,
        None => paid_call(worker, arrived, body).await,
    };
    if let Err(refusal) = &outcome {
        gate.metrics.refused(refusal.code());
    }
    outcome
}

/// One paid call. Each step is the module of that name; each `?` is a refusal.
async fn paid_call(
    worker: Rc<Worker>,
    mut arrived: Box<Arrived>,
    body: Incoming,
) -> Result<Response<GateBody>, Refusal> {
    let slot = admission::slot(&worker.gate, &arrived.snapshot)?;
    let route = arrived.snapshot.route(&arrived.head.method, &arrived.path)?;
    let route = Arc::clone(route);
    arrived.noted.route(&route);
    let exchange = Exchange::of(&route);
    let naming = exchange.naming(&arrived.head.headers)?;
    arrived.identity = identity::identify(&worker, &arrived, &route)?;
    let presented = admission::credentials(&worker, &arrived)?;
    let mut known = admission::known(&worker, &arrived, &presented)?;
    let Received { body, rest } = if admission::is_refused_unread(&arrived, &route, &presented, &known) {
        Received::nothing()
    } else {
        exchange.receive(body, &arrived, &route).await?
    };
    let content = exchange.content(&body);
    let signed = std::mem::take(&mut arrived.identity);
    arrived.identity = signed.with_body(&worker.gate, &arrived, &route, content)?;
    let (gate, snapshot) = (&worker.gate, &arrived.snapshot);
    let group = known.payer.as_ref().and_then(|payer| gate.group(payer.account.id()));
    let headers = &arrived.head.headers;
    let mut quote = Quote::of(snapshot, &route, &arrived.target, headers, body.clone(), group, arrived.now)?;
    quote.follow(&gate.unseen);
    known.permit(gate, &arrived, &route, &quote, content)?;
    let funds = || known.payer.as_ref().map(|payer| payer.funds(gate, snapshot, arrived.now.seconds()));
    quote.count_tokens(gate, &snapshot.config.metering, funds).await;
    arrived.noted.quote(quote.ceiling);
    let naming = arrived.identity.names_debit(naming);
    let asked = admission::asked(&arrived, &presented, &known, &quote, naming, &body);
    let given = admission::free_call(&worker, &arrived, &route, &presented, &known, &quote);
    let paying = match given {
        Some(_) => None,
        None if admission::needs_no_payment(&presented, &known, &quote) => None,
        None => admission::payment(&worker, &arrived, presented, &mut known, &quote, asked, &body).await?,
    };
    let payer = known.payer.take();
    // A request with a payment begins when it is sure whose the payment is.
    let begins = asked.zip(payer.as_ref()).filter(|_| paying.is_none());
    let begun = begins.map(|(asked, payer)| {
        idempotency::begin(gate, snapshot.dedupe(), payer.account.id(), asked, arrived.now)
    });
    let attempt = match begun.transpose()? {
        None => None,
        Some(Begun::Runs(attempt)) => Some(attempt),
        Some(Begun::Ended(before)) => {
            return before.answer(gate, &route.name).map(|answer| answer.map(GateBody::whole));
        }
    };
    let worker_too = Rc::clone(&worker);
    let (signed_in, now) = (sign_in::wallet(payer.as_ref()), arrived.now);
    let (running, told) = (known.running.take(), known.told.take());
    // Boxed, because it is handed on a few times, and each of them is room in the call.
    let mut serving = Box::new(Serving {
        worker: worker_too,
        arrived,
        route,
        quote,
        rest,
        payer,
        given,
        told,
        attempt,
        running,
        slot,
    });
    if paying.is_none() && serving.is_nobodys() {
        // Boxed: who is refused before has no room for it.
        return Box::pin(serving.serve(None)).await;
    }
    // From here on money moves: a client that hangs up must not stop it halfway.
    let (call, waiting) = (serving.arrived.call, serving.arrived.client.waiting());
    let had_payment = paying.is_some();
    let serve: Pin<Box<dyn Future<Output = _>>> = match paying {
        None => Box::pin(serving.serve(None).instrument(tracing::Span::current())),
        Some(paying) => {
            serving.running = paying.running.or(serving.running);
            // What others do with a payment is told with the call that it is for.
            let span = tracing::info_span!("call", id = %call);
            Box::pin(serving.bring_in_and_serve(paying.brings, paying.delivery).instrument(span))
        }
    };
    let answer = worker.aftercare.outliving(serve).await.unwrap_or_else(|error| {
        tracing::error!(%call, %error, "a call was cut short");
        let money = if had_payment { Money::Unknown } else { Money::NothingTaken };
        Err(Refusal::new(Code::Internal, "The gateway failed while serving this call.").money(money))
    });
    waiting.answered();
    sign_in::hand_out(&worker.gate, signed_in, now, answer)
}

/// The methods an endpoint of ours takes.
pub(crate) fn only(arrived: &Arrived, methods: &[Method]) -> Result<(), Refusal> {
    if methods.contains(&arrived.head.method) {
        return Ok(());
    }
    Err(Refusal::new(Code::MethodNotAllowed, "This endpoint does not take this method."))
}
