//! The upstream: answers at once, as OpenAI or as Anthropic, whole or event by event. It runs in the process of the
//! benchmark on a thread of its own, so that its work is in nobody's figure and its clock is that of who reads.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, Response};
use memchr::memmem;
use serde_json::Value;
use tokio::time::MissedTickBehavior;

use crate::pinning;
use crate::serve::{Answer, Speaks, read, serve};

const COMPLETION: &str = r#"{"id":"c-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Ten words are said here, so that there is something."},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#;
const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"Ten words are said here, so that there is something."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":10}}"#;
const LAST_EVENTS: &str = "data: {\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":20,\"total_tokens\":30}}\n\ndata: [DONE]\n\n";

/// Stands before the time in an event.
pub(crate) const CLOCK_MARK: &[u8] = b"\"content\":\"t=";

/// Starts it on a thread that ends with the process.
pub(crate) fn start(address: SocketAddr, speaks: Speaks) {
    thread::spawn(move || {
        pinning::upstream();
        be(address, speaks);
    });
}

/// Serves on the thread that calls, until the process ends.
pub(crate) fn be(address: SocketAddr, speaks: Speaks) {
    serve(address, speaks, answer);
}

/// Microseconds since this process first asked.
pub(crate) fn clock_micros() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Some 170 bytes, as most events of a chat are, with the time at which it was made.
fn event() -> Bytes {
    let now = clock_micros();
    format!(
        "data: {{\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"t={now} \"}},\"logprobs\":null,\"finish_reason\":null}}]}}\n\n"
    )
    .into()
}

/// The body of a request that asks for so many events, so far apart.
pub(crate) fn streamed_call(events: u32, pause: Duration) -> String {
    format!(
        r#"{{"model":"m","max_tokens":4096,"stream":true,"events":{events},"pause_ms":{},"messages":[{{"role":"user","content":"What does it cost to be paid for one call, and how would one know?"}}]}}"#,
        pause.as_millis()
    )
}

async fn answer(request: Request<Incoming>) -> Response<Answer> {
    let is_message = request.uri().path().ends_with("/messages");
    let body = read(request).await;
    if memmem::find(&body, br#""stream":true"#).is_none() {
        return Answer::whole("application/json", if is_message { MESSAGE } else { COMPLETION });
    }
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let number = |name| asked.get(name).and_then(Value::as_u64);
    let events = number("events").and_then(|events| u32::try_from(events).ok()).unwrap_or(20).max(1);
    let pause = Duration::from_millis(number("pause_ms").unwrap_or(50).max(1));
    let mut pace = tokio::time::interval(pause);
    // A late event moves those behind it: none are sent together.
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Answer::of("text/event-stream", Answer::Events { left: events + 1, pace, event, last: LAST_EVENTS })
}
