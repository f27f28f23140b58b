//! A request on its way up, until the head of its answer is there.

use std::time::Duration;

use http::Response;
use tokio::time::Instant;

use crate::call::{Arrived, Worker};
use crate::exchange::Exchange;
use crate::quote::Quote;
use crate::refusal::{Code, Refusal};
use crate::sending::Sending;
use crate::upstream::{NotReady, Outgoing, Ready, RequestBody, SendError, UpstreamBody, grpc, websocket};

/// How long a head is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    /// Without anything happening.
    pub(crate) patience: Duration,
    /// When the client has left.
    pub(crate) drain: Duration,
    /// Altogether, where something else ends then.
    pub(crate) whole: Option<Duration>,
}

/// Sends the request, at the moment `asked`. Nothing of it goes twice.
pub(crate) async fn forward(
    worker: &Worker,
    arrived: &Arrived,
    quote: &Quote,
    body: RequestBody,
    waits: Waits,
    asked: Instant,
) -> Result<Response<UpstreamBody>, Refusal> {
    let upstream = &quote.upstream;
    let target = upstream.target(&arrived.target);
    let secret = upstream.auth.as_ref().map(|(name, value)| (name, value));
    let (way, client) = (&upstream.way, &arrived.head.headers);
    let outgoing = Outgoing::new(&arrived.head.method, target, &way.host, client, secret, body);
    let ready = match quote.exchange {
        Exchange::Document => way.ready(outgoing),
        Exchange::Grpc => outgoing.into_request().map_err(NotReady::Http).map(|mut request| {
            grpc::add_metadata(request.headers_mut(), client, &upstream.metadata);
            Ready::Mapped(Box::new(request))
        }),
        Exchange::WebSocket => outgoing.into_request().map_err(NotReady::Http).map(|mut request| {
            websocket::add_handshake(request.headers_mut(), client);
            Ready::Mapped(Box::new(request))
        }),
    };
    let ready = ready.map_err(|_| Refusal::new(Code::BadRequest, "The request cannot be passed on."))?;
    let answering = async {
        match (quote.exchange, ready) {
            (Exchange::WebSocket, Ready::Mapped(request)) => Box::pin(worker.pool.open(way, *request)).await,
            (Exchange::Document | Exchange::Grpc | Exchange::WebSocket, ready) => {
                worker.pool.send(way, ready, asked.into_std()).await
            }
        }
    };
    let sending = quote.sending.as_ref();
    let answered = tokio::select! {
        answered = answering => Some(answered),
        () = too_long(sending, waits, arrived.snapshot.config.server.timeouts.call, asked) => None,
        // Nobody owes what the upstream has not accepted (MTR-27), and nobody waits for it (MTR-30).
        () = arrived.client.given_up(waits.drain) => {
            return Err(Refusal::new(Code::UpstreamTimeout, "The client left before the upstream answered."));
        }
    };
    worker.gate.metrics.upstream_took(asked.elapsed().as_secs_f64());
    // What the client did not send is not the upstream's fault.
    let fault = sending.and_then(Sending::fault);
    match (answered, fault) {
        (Some(Ok(response)), _) => Ok(response),
        (Some(Err(_)) | None, Some(fault)) => Err(fault.refusal()),
        (Some(Err(error)), None) => {
            let detail = match &error {
                SendError::Connect(_) => "The upstream cannot be reached.",
                SendError::Closed(_) => "The upstream closed without an answer.",
            };
            tracing::warn!(call = %arrived.call, error = &error as &dyn std::error::Error, upstream = %upstream.name, "upstream failed");
            Err(Refusal::new(Code::UpstreamFailed, detail))
        }
        (None, None) => {
            worker.pool.distrust(&upstream.way);
            Err(Refusal::new(Code::UpstreamTimeout, "The upstream did not answer in time."))
        }
    }
}

/// Ends when the head has been waited for long enough. While a request goes up, that it does is a sign of life.
async fn too_long(sending: Option<&Sending>, waits: Waits, call: Duration, asked: Instant) {
    let Some(sending) = sending else { return tokio::time::sleep_until(asked + waits.patience).await };
    let whole = waits.whole.map_or(call, |whole| whole.min(call));
    let silent_or_over = async {
        tokio::select! {
            () = sending.silent(waits.patience) => {}
            () = tokio::time::sleep_until(asked + whole) => {}
        }
    };
    Box::pin(silent_or_over).await;
}
