//! What a stream gets that nobody pays for, and what its client is told when it ends.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::mpsc;

use farthing_tests::gateway::{Gateway, PATIENCE, nano, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::upstream::{KEY, STREAM_HEAD, Upstream, plain};
use proof::credit_key::attenuate;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
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

fn open_ended() -> Value {
    json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "go on and on"}]})
}

/// As [`open_ended`], by a client that wants the usage chunk for itself.
fn asked_usage() -> Value {
    let mut body = open_ended();
    body["stream_options"] = json!({"include_usage": true});
    body
}

fn fields(key: &str) -> [(String, String); 1] {
    [("x-api-key".to_owned(), key.to_owned())]
}

fn try_post(gateway: &Gateway, key: &str, body: &Value) -> Option<Answer> {
    let fields = fields(key);
    let fields = [(fields[0].0.as_str(), fields[0].1.as_str()), ("content-type", "application/json")];
    http::try_request(gateway.address, "POST", CHAT, &fields, body.to_string().as_bytes())
}

fn post(gateway: &Gateway, key: &str, body: &Value) -> Answer {
    try_post(gateway, key, body).unwrap()
}

/// What is held at first for 16 tokens of output, less these.
fn input_hold(gateway: &Gateway, body: &Value) -> i64 {
    let refused = http::post(gateway.address, CHAT, &[], body);
    nano(&refused.json()["error"]["need"]) - 16 * OUTPUT
}

/// A key whose account covers the input and so many tokens of output.
fn key_for(gateway: &Gateway, body: &Value, tokens: i64) -> (String, i64) {
    let credit = input_hold(gateway, body) + tokens * OUTPUT;
    (gateway.key(&format!("0.{credit:09} TEST")), credit)
}

/// The data of every event.
fn events(answer: &Answer) -> Vec<Value> {
    let text = answer.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| data.into())).collect()
}

/// A stream that was cut ends in the words of its dialect, and every line of it is one.
#[track_caller]
fn assert_cut_whole(answer: &Answer) {
    let text = answer.text();
    let told = answer.header("content-length").map(|length| length.parse().unwrap());
    assert!(
        told.is_none_or(|told: usize| told == answer.body.len()),
        "{told:?} bytes were announced: {text}"
    );
    let events = events(answer);
    let last = events.iter().find(|event| event.get("farthing").is_some());
    let last = last.unwrap_or_else(|| panic!("no last words: {text}"));
    assert_eq!(last["farthing"]["code"], "insufficient_balance", "{text}");
    assert_eq!(last["choices"][0]["finish_reason"], "length", "{text}");
    assert_eq!(events[events.len() - 1], "[DONE]", "{text}");
    for line in text.lines() {
        assert!(line.is_empty() || line.starts_with("data: "), "{line:?} is no line of an event stream");
    }
}

/// MTR-35: an upstream may say how long its stream is. The one that we end is of another length.
#[test]
fn a_stream_of_known_length_is_cut_like_any_other() {
    let upstream = Upstream::start(|_, stream| {
        let body = chat_event().repeat(60);
        let _ = stream.write_all(&plain(200, "text/event-stream", &body));
    });
    let gateway = Gateway::start(upstream.address, SMALL_STEPS);
    let body = asked_usage();
    let (key, credit) = key_for(&gateway, &body, 100);
    let answer = post(&gateway, &key, &body);
    assert_cut_whole(&answer);
    assert!(gateway.settled_balance(&key) < credit);
    gateway.books_after(1);
}

/// MTR-35, SEC-31: what waits because it may begin the upstream's key is of an event that the client does not
/// get, when the stream is cut before it.
#[test]
fn a_cut_stream_ends_with_whole_events_where_a_key_is_watched_for() {
    for body in [open_ended(), asked_usage()] {
        let upstream = Upstream::start(|_, stream| {
            let _ = stream.write_all(STREAM_HEAD.as_bytes());
            // In one write, and its last byte could begin the key.
            let begun = KEY.chars().next().unwrap();
            let text = chat_event().repeat(14);
            let _ = stream.write_all(format!("{text}data: {{\"x\":\"{begun}").as_bytes());
            let _ = std::io::copy(stream, &mut std::io::sink());
        });
        let gateway = Gateway::start(upstream.address, SMALL_STEPS);
        let (key, _) = key_for(&gateway, &body, 100);
        assert_cut_whole(&post(&gateway, &key, &body));
    }
}

/// SEC-31: the end mark does not let go of the first half of the upstream's key.
#[test]
fn no_byte_of_the_upstreams_key_comes_down_behind_the_end_mark() {
    let (first, second) = KEY.split_at(20);
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let upstream = Upstream::start(move |_, stream| {
        let _ = stream.write_all(format!("{STREAM_HEAD}{}data: [DONE]\n\n{first}", chat_event()).as_bytes());
        released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        let _ = stream.write_all(second.as_bytes());
    });
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| try_post(&gateway, &key, &open_ended()));
        // The end mark has been passed on when the call is charged.
        wait_for("the charge", || (gateway.books().count("capture") == 1).then_some(()));
        release.send(()).unwrap();
        let answer = answer.join().unwrap();
        assert!(!answer.is_some_and(|answer| answer.text().contains(first)), "the key came down");
    });
}

/// LED-11, MTR-36: an upstream may answer with a document, or with a coding nobody asked for, although it was
/// asked for a stream. No more of it comes down than is held for.
#[test]
fn an_answer_that_cannot_be_cut_within_is_broken_off_where_the_money_ends() {
    const TOKENS: usize = 5_000;
    let text = "word".repeat(TOKENS);
    let document = json!({
        "id": "c-1", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": TOKENS, "total_tokens": TOKENS + 10},
    });
    let zipped = {
        let stream = format!("{}data: [DONE]\n\n", chat_event().repeat(500));
        let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        zip.write_all(stream.as_bytes()).unwrap();
        zip.finish().unwrap()
    };
    let answers = [
        plain(200, "application/json", &document.to_string()),
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{document}").into(),
        [
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n".to_vec(),
            zipped,
        ]
        .concat(),
    ];
    for (place, answer) in answers.into_iter().enumerate() {
        let upstream = Upstream::start(move |_, stream| {
            let _ = stream.write_all(&answer);
        });
        let gateway = Gateway::start(upstream.address, SMALL_STEPS);
        let body = open_ended();
        let (key, credit) = key_for(&gateway, &body, 100);
        let answer = try_post(&gateway, &key, &body);
        let got = answer.map_or(0, |answer| answer.body.len());
        assert!(got < 100 * 4 * 5, "{place}: {got} bytes for 100 tokens");
        let left = gateway.settled_balance(&key);
        assert!((0..credit).contains(&left), "{place}: {left} of {credit}");
        // An event, or a piece, is read before it is known to be beyond.
        let overrun = gateway.counted("farthing_overrun_loss_nano_total{asset=\"TEST\"}");
        assert!(overrun <= 64 * OUTPUT, "{place}: {overrun}");
        gateway.books_after(1);
    }
}

/// A document for which the money is there comes down whole, whatever was asked for.
#[test]
fn a_document_that_is_paid_for_comes_down_whole() {
    const TOKENS: usize = 500;
    let text = "word".repeat(TOKENS);
    let document = json!({
        "id": "c-1", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": TOKENS, "total_tokens": TOKENS + 10},
    });
    let expected = document.clone();
    let upstream = Upstream::start(move |_, stream| {
        let _ = stream.write_all(&plain(200, "application/json", &document.to_string()));
    });
    let gateway = Gateway::start(upstream.address, SMALL_STEPS);
    let key = gateway.key("1 TEST");
    assert_eq!(post(&gateway, &key, &open_ended()).json(), expected);
    assert_eq!(gateway.settled_balance(&key), 1_000_000_000 - 10 * 1_000 - 500 * OUTPUT);
}

/// What a key or an account allows one call to cost holds for a stream too, although what the model thinks
/// unseen is only known from its report.
#[test]
fn a_stream_costs_no_more_than_one_call_may() {
    let upstream = Upstream::start(|request, stream| {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        // It thinks for as long as it may, and says little.
        let tokens = body["max_tokens"].as_u64().unwrap_or(100_000);
        let usage = json!({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": tokens,
            "total_tokens": tokens + 10, "completion_tokens_details": {"reasoning_tokens": tokens - 10}}});
        let text = format!("{STREAM_HEAD}{}data: {usage}\n\ndata: [DONE]\n\n", chat_event());
        let _ = stream.write_all(text.as_bytes());
    });
    let limits = "limits: { default: { spend: { per_call: 0.002 USD } } }\n";
    let by_account = Gateway::start(upstream.address, &format!("{SMALL_STEPS}{limits}"));
    let by_key = Gateway::start(upstream.address, SMALL_STEPS);
    let keys = [by_account.key("1 TEST"), attenuate(&by_key.key("1 TEST"), "per_call=TEST:2000000").unwrap()];
    for (gateway, key) in [&by_account, &by_key].into_iter().zip(keys) {
        assert_eq!(post(gateway, &key, &open_ended()).status, 200);
        let charged = 1_000_000_000 - gateway.settled_balance(&key);
        assert!((1_500_000..=2_000_000).contains(&charged), "{charged}");
    }
}

/// A model that thinks unseen tells so in its first report; from then on its streams are held for whole, and as
/// many run at once as can be paid for.
#[test]
fn what_is_thought_unseen_is_held_for() {
    const CALLS: usize = 16;
    const THOUGHT: i64 = 10_000;
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let upstream = Upstream::start(move |request, stream| {
        let _ = stream.write_all(STREAM_HEAD.as_bytes());
        released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        let asked: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let tokens = THOUGHT.min(asked["max_tokens"].as_i64().unwrap());
        let usage = json!({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": tokens + 10}});
        let _ = stream.write_all(format!("{}data: {usage}\n\ndata: [DONE]\n\n", chat_event()).as_bytes());
    });
    let gateway = Gateway::start(upstream.address, SMALL_STEPS);
    let mut body = open_ended();
    body["max_tokens"] = json!(THOUGHT);
    let rich = gateway.key("1 TEST");
    release.send(()).unwrap();
    assert_eq!(post(&gateway, &rich, &body).status, 200);
    // Enough for one such call and not for two.
    let key = gateway.key("0.050000000 TEST");
    let served = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..CALLS).map(|_| scope.spawn(|| post(&gateway, &key, &body).status)).collect();
        (0..CALLS).for_each(|_| release.send(()).unwrap());
        calls.into_iter().map(|call| call.join().unwrap()).filter(|status| *status == 200).count()
    });
    assert!(served >= 1);
    assert!(gateway.settled_balance(&key) >= 0);
    assert_eq!(
        gateway.counted("farthing_overrun_loss_nano_total{asset=\"TEST\"}"),
        0,
        "{served} calls served"
    );
}
