//! What stands behind the sellers: an upstream and a facilitator that answer at once. They run in this process, on
//! threads of their own, so that their work is in nobody's figure.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio::time::{Interval, MissedTickBehavior};

use crate::payments::NETWORK;

/// Events of a streamed answer, and the time between two: the first comes at once, the last after about a second.
pub(crate) const EVENTS: u32 = 20;
const EVENT_PAUSE: Duration = Duration::from_millis(50);

const ANSWER: &str = r#"{"id":"c-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Ten words are said here, so that there is something."},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#;
const EVENT: &str = "data: {\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
const LAST_EVENTS: &str = "data: {\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":20,\"total_tokens\":30}}\n\ndata: [DONE]\n\n";

/// Starts an upstream on a thread that ends with the process: a chat completion, streamed if asked for.
pub(crate) fn start_upstream(address: SocketAddr) {
    thread::spawn(move || serve(address, |request| async { upstream(request).await }));
}

/// Serves as the upstream on the thread that calls, until the process ends.
pub(crate) fn be_upstream(address: SocketAddr) {
    serve(address, |request| async { upstream(request).await });
}

/// Starts a facilitator on a thread that ends with the process. What it is asked to settle is settled.
pub(crate) fn start_facilitator(address: SocketAddr) {
    let chain = Arc::new(Mutex::new(HashMap::new()));
    thread::spawn(move || {
        serve(address, move |request| {
            let chain = Arc::clone(&chain);
            async move { facilitator(&chain, request).await }
        });
    });
}

/// A body that is there, or comes event by event.
enum Answer {
    Whole(Option<Bytes>),
    Events { left: u32, pace: Interval },
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Events { left: 0, .. } => Poll::Ready(None),
            Self::Events { left, pace } => {
                ready!(pace.poll_tick(context));
                *left -= 1;
                let event = if *left == 0 { LAST_EVENTS } else { EVENT };
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(event.as_bytes())))))
            }
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Whole(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                hyper::body::SizeHint::with_exact(u64::try_from(length).unwrap_or(0))
            }
            Self::Events { .. } => hyper::body::SizeHint::default(),
        }
    }
}

fn whole(content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(Some(bytes.into())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Serves on one thread until the process ends.
fn serve<F, Fut>(address: SocketAddr, answer: F)
where
    F: Fn(Request<Incoming>) -> Fut + 'static,
    Fut: Future<Output = Response<Answer>> + 'static,
{
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime for {address}: {error}");
            return;
        }
    };
    let answer = Rc::new(answer);
    let accept = async move {
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => listener,
            Err(error) => {
                eprintln!("cannot listen on {address}: {error}");
                return;
            }
        };
        while let Ok((stream, _)) = listener.accept().await {
            let answer = Rc::clone(&answer);
            tokio::task::spawn_local(async move {
                // Without it an answer waits for the peer's delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                let service = service_fn(move |request| {
                    let answered = answer(request);
                    async move { Ok::<_, Infallible>(answered.await) }
                });
                // A client that hangs up is none of our business.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    };
    LocalSet::new().block_on(&runtime, accept);
}

async fn read(request: Request<Incoming>) -> Bytes {
    request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default()
}

async fn upstream(request: Request<Incoming>) -> Response<Answer> {
    let body = read(request).await;
    if memmem::find(&body, br#""stream":true"#).is_none() {
        return whole("application/json", ANSWER);
    }
    let mut pace = tokio::time::interval(EVENT_PAUSE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut response = Response::new(Answer::Events { left: EVENTS, pace });
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

/// How often the facilitator was asked to verify or to settle.
pub(crate) fn facilitator_calls() -> usize {
    FACILITATOR_CALLS.load(Ordering::Relaxed)
}

static FACILITATOR_CALLS: AtomicUsize = AtomicUsize::new(0);

/// Deposited and not claimed, by channel.
type Chain = Mutex<HashMap<String, u128>>;

async fn facilitator(chain: &Chain, request: Request<Incoming>) -> Response<Answer> {
    let path = request.uri().path().to_owned();
    let body = read(request).await;
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    if path != "/supported" {
        FACILITATOR_CALLS.fetch_add(1, Ordering::Relaxed);
    }
    let answer = match path.as_str() {
        "/supported" => supported(),
        "/verify" => verified(chain, &asked),
        _ => settled(chain, &asked),
    };
    whole("application/json", answer.to_string())
}

fn supported() -> Value {
    let kind = |scheme| json!({"x402Version": 2, "scheme": scheme, "network": NETWORK});
    let signer = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";
    json!({
        "kinds": [kind("exact"), kind("upto"), kind("batch-settlement")],
        "extensions": [],
        "signers": {"eip155:*": [signer]},
    })
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn payer(asked: &Value) -> &str {
    let payload =
        ["/paymentPayload/payload/authorization/from", "/paymentPayload/payload/channelConfig/payer"];
    payload.iter().map(|path| text(asked, path)).find(|payer| !payer.is_empty()).unwrap_or_default()
}

/// What a channel holds, with the deposit that is asked about.
fn channel(asked: &Value, balance: u128) -> Value {
    json!({
        "channelId": text(asked, "/paymentPayload/payload/voucher/channelId"),
        "balance": balance.to_string(),
        "totalClaimed": "0",
        "withdrawRequestedAt": 0,
        "refundNonce": "0",
    })
}

fn balance(chain: &Chain, asked: &Value, settles: bool) -> u128 {
    let id = text(asked, "/paymentPayload/payload/voucher/channelId").to_ascii_lowercase();
    let deposit = text(asked, "/paymentPayload/payload/deposit/amount").parse().unwrap_or(0);
    let mut chain = chain.lock().unwrap_or_else(PoisonError::into_inner);
    let balance = chain.get(&id).copied().unwrap_or(0) + deposit;
    if settles {
        chain.insert(id, balance);
    }
    balance
}

fn is_channel(asked: &Value) -> bool {
    asked.pointer("/paymentPayload/payload/channelConfig").is_some()
}

fn verified(chain: &Chain, asked: &Value) -> Value {
    let mut answer = json!({"isValid": true, "payer": payer(asked)});
    if is_channel(asked)
        && let Some(answer) = answer.as_object_mut()
    {
        answer.insert("extra".to_owned(), channel(asked, balance(chain, asked, false)));
    }
    answer
}

fn settled(chain: &Chain, asked: &Value) -> Value {
    // The hash of a transfer is made from what nobody else has: its nonce, or its salt.
    let payload = "/paymentPayload/payload";
    let unique = ["/authorization/nonce", "/deposit/authorization/erc3009Authorization/salt"]
        .map(|path| text(asked, &format!("{payload}{path}")));
    let transaction = unique.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    let mut answer = json!({
        "success": true,
        "transaction": transaction,
        "network": text(asked, "/paymentRequirements/network"),
        "payer": payer(asked),
        "amount": text(asked, "/paymentRequirements/amount"),
    });
    if is_channel(asked)
        && let Some(answer) = answer.as_object_mut()
    {
        let state = channel(asked, balance(chain, asked, true));
        answer.insert(
            "amount".to_owned(),
            asked.pointer("/paymentPayload/payload/deposit/amount").cloned().unwrap_or_default(),
        );
        answer.insert("extra".to_owned(), json!({ "channelState": state }));
    }
    answer
}
