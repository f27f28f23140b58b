//! The hold of a stream grows while the stream runs, and a stream that nobody pays for any more ends as one that
//! reached its length, with the bill (MTR-35).

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use farthing_tests::gateway::{Gateway, PATIENCE, nano, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::socket::Socket;
use farthing_tests::upstream::{STREAM_HEAD, Upstream, plain};
use proof::credit_key::attenuate;
use serde_json::{Value, json};

/// Sixteen tokens at a time, so that a test sees many steps.
const SMALL_STEPS: &str = "metering: { hold: { step: 16, default_output: 16, min_output: 4 } }\n";
/// Ten tokens of text, as an estimate counts them.
const TEN_TOKENS: &str = "0123456789012345678901234567890123456789";
/// Nano a token of output costs at the usual price.
const OUTPUT: i64 = 4_000;

fn chat_event() -> String {
    format!(
        "data: {{\"id\":\"c-1\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{TEN_TOKENS}\"}}}}]}}\n\n"
    )
}

fn message_event() -> String {
    format!(
        "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
         \"delta\":{{\"type\":\"text_delta\",\"text\":\"{TEN_TOKENS}\"}}}}\n\n"
    )
}

fn open_ended() -> Value {
    json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "go on and on"}]})
}

/// An upstream that never stops by itself.
fn endless() -> Upstream {
    Upstream::start(|_, stream| {
        let _ = stream.write_all(STREAM_HEAD.as_bytes());
        while stream.write_all(chat_event().as_bytes()).is_ok() {}
    })
}

fn post(gateway: &Gateway, path: &str, key: &str, body: &Value) -> Answer {
    http::post(gateway.address, path, &[("authorization", &format!("Bearer {key}"))], body)
}

/// The data of every event.
fn events(answer: &Answer) -> Vec<Value> {
    let text = answer.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| data.into())).collect()
}

/// The note of ours, and what it says was charged.
fn note(events: &[Value]) -> (Value, i64) {
    let note = events.iter().find_map(|event| event.get("farthing")).cloned().unwrap_or_default();
    let charged = nano(&note["charged"]["amount"]);
    (note, charged)
}

#[test]
fn a_hold_grows_step_by_step_while_its_stream_runs() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let upstream = Upstream::start(move |_, stream| {
        stream.write_all(STREAM_HEAD.as_bytes()).unwrap();
        for _ in 0..4 {
            released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            stream.write_all(chat_event().as_bytes()).unwrap();
        }
        let usage = json!({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 40, "total_tokens": 50}});
        stream.write_all(format!("data: {usage}\n\ndata: [DONE]\n\n").as_bytes()).unwrap();
    });
    let gateway = Gateway::start(upstream.address, SMALL_STEPS);
    let key = gateway.key("1 TEST");
    let body = json!({"model": "m", "max_tokens": 1000, "stream": true, "messages": []}).to_string();
    let mut socket = Socket::connect(gateway.address);
    socket.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        gateway.address,
        body.len()
    ));
    let first = wait_for("the first step", || Some(gateway.balance(&key).1).filter(|held| *held > 0));
    assert!(first < 100 * OUTPUT, "not the whole limit of 1000 tokens is held: {first}");
    let mut held = vec![first];
    for _ in 0..3 {
        release.send(()).unwrap();
        let last = held[held.len() - 1];
        // After 10 tokens 16 are held and 20 asked for; each event of ten leads to another step, or not.
        let now = wait_for("the event", || {
            let seen = socket.read_until(TEN_TOKENS);
            socket.got.clear();
            seen.then(|| gateway.balance(&key).1)
        });
        assert!(now >= last);
        held.push(now);
    }
    assert_eq!(held[3] - held[0], 2 * 16 * OUTPUT, "30 tokens are held for by 48: {held:?}");
    release.send(()).unwrap();
    assert!(socket.read_until("[DONE]"));
    assert_eq!(gateway.settled_balance(&key), 1_000_000_000 - 10 * 1_000 - 40 * OUTPUT);
}

#[test]
fn a_stream_without_limit_ends_where_the_balance_does() {
    let upstream = endless();
    let gateway = Gateway::start(upstream.address, SMALL_STEPS);
    let body = open_ended();
    let base = {
        // The endless answer of a rich payer would not end: ask for the price only.
        let refused = http::post(gateway.address, "/v1/chat/completions", &[], &body);
        nano(&refused.json()["error"]["need"]) - 16 * OUTPUT
    };
    let credit = base + 100 * OUTPUT;
    let key = gateway.key(&format!("0.{credit:09} TEST"));
    let answer = post(&gateway, "/v1/chat/completions", &key, &body);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("farthing-clamped"), None, "the upstream was given no limit");
    assert!(!String::from_utf8_lossy(&upstream.seen()[0].body).contains("max_tokens"));
    let events = events(&answer);
    let (note, charged) = note(&events);
    assert_eq!((&note["code"], &note["estimated"]), (&json!("insufficient_balance"), &json!(true)));
    let last = &events[events.len() - 2];
    assert_eq!((&last["choices"][0]["finish_reason"], &last["id"]), (&json!("length"), &json!("c-1")));
    assert_eq!(events[events.len() - 1], "[DONE]");
    assert!(events.iter().all(|event| event.get("error").is_none()));
    let texts = events.iter().filter(|event| event["choices"][0]["delta"]["content"] == TEN_TOKENS).count();
    let delivered = i64::try_from(texts).unwrap() * 10;
    assert!((100..=130).contains(&delivered), "{delivered} tokens for a balance of 100");
    let input = i64::try_from(body.to_string().len().div_ceil(4)).unwrap() + 3;
    let cost = input * 1_000 + delivered * OUTPUT;
    assert_eq!(charged, cost.min(credit), "the bill is what was delivered");
    assert_eq!(gateway.settled_balance(&key), credit - charged);
    let books = gateway.books_after(1);
    assert_eq!(books.count("capture"), 1);
}

#[test]
fn streams_at_once_share_a_balance_and_never_overdraw_it() {
    const CALLS: usize = 8;
    let (begun, written) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&written);
    let upstream = Upstream::start(move |_, stream| {
        begun.fetch_add(1, Ordering::SeqCst);
        // The first must not have spent everything before the last has begun.
        wait_for("all calls", || (begun.load(Ordering::SeqCst) == CALLS).then_some(()));
        let _ = stream.write_all(STREAM_HEAD.as_bytes());
        while stream.write_all(chat_event().as_bytes()).is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let gateway = Gateway::start(upstream.address, SMALL_STEPS);
    let key = gateway.key("0.020000000 TEST");
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..CALLS)
            .map(|_| scope.spawn(|| post(&gateway, "/v1/chat/completions", &key, &open_ended())))
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let mut charged = 0;
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
        charged += note(&events(answer)).1;
    }
    let left = gateway.settled_balance(&key);
    assert!(left >= 0);
    assert_eq!(charged, 20_000_000 - left);
    gateway.books_after(CALLS);
    // Their connections are closed: nobody writes for nothing any more.
    let mut before = written.load(Ordering::SeqCst);
    wait_for("the upstream to be hung up on", || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        let now = written.load(Ordering::SeqCst);
        (std::mem::replace(&mut before, now) == now).then_some(())
    });
}

#[test]
fn a_message_ends_in_the_words_of_its_dialect() {
    const HEAD: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m-1\",\"model\":\"m\",\
        \"usage\":{\"input_tokens\":20,\"output_tokens\":1}}}\n\n\
        event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let upstream = Upstream::start(move |request, stream| {
        if request.target != "/v1/messages" {
            let usage = json!({"prompt_tokens": 10, "completion_tokens": 150, "total_tokens": 160});
            let answer = json!({"choices": [{"message": {"content": "hi"}}], "usage": usage}).to_string();
            stream.write_all(&plain(200, "application/json", &answer)).unwrap();
            return;
        }
        stream.write_all(format!("{STREAM_HEAD}{HEAD}").as_bytes()).unwrap();
        released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        while stream.write_all(message_event().as_bytes()).is_ok() {}
    });
    let gateway = Gateway::start(upstream.address, SMALL_STEPS);
    let key = gateway.key("0.001000000 TEST");
    let mut body = open_ended();
    body["max_tokens"] = json!(180);
    let answer = std::thread::scope(|scope| {
        let streamed = scope.spawn(|| post(&gateway, "/v1/messages", &key, &body));
        wait_for("the stream to be held for", || (gateway.balance(&key).1 > 0).then_some(()));
        // Another call spends what was left when the stream began.
        let other = json!({"model": "m", "max_tokens": 150, "messages": []});
        assert_eq!(post(&gateway, "/v1/chat/completions", &key, &other).status, 200);
        release.send(()).unwrap();
        streamed.join().unwrap()
    });
    assert_eq!(answer.status, 200, "{}", answer.text());
    let events = events(&answer);
    let (note, charged) = note(&events);
    assert_eq!(note["code"], "insufficient_balance");
    let [stop, delta, end] = &events[events.len() - 3..] else { panic!("{events:?}") };
    assert_eq!((&stop["type"], &stop["index"]), (&json!("content_block_stop"), &json!(0)));
    assert_eq!(delta["delta"]["stop_reason"], "max_tokens");
    assert_eq!(end["type"], "message_stop");
    let left = gateway.settled_balance(&key);
    assert!(left >= 0);
    assert_eq!(charged, 1_000_000 - 10 * 1_000 - 150 * OUTPUT - left);
}

#[test]
fn a_budget_ends_a_stream_too() {
    let upstream = endless();
    let gateway = Gateway::start(upstream.address, SMALL_STEPS);
    let key = gateway.key("1 TEST");
    let tight = attenuate(&key, "budget=b1:TEST:1000000").unwrap();
    let answer = post(&gateway, "/v1/chat/completions", &tight, &open_ended());
    let (note, charged) = note(&events(&answer));
    assert_eq!(note["code"], "over_token_budget");
    assert!(charged <= 1_000_000, "{charged}");
    assert_eq!(gateway.settled_balance(&key), 1_000_000_000 - charged);
}
