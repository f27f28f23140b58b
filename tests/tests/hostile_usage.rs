//! Upstreams and clients that lie about usage, or try to drown the meter: no bill goes beyond what is held or there,
//! no other stream waits, and memory stays in its bounds.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http;
use farthing_tests::socket::Socket;
use farthing_tests::spoken::{estimate, tokens};
use farthing_tests::upstream::{FRIENDLY_COST, STREAM_HEAD, Upstream, friendly_answer, plain};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const CREDIT: i64 = 1_000_000_000;
const MIB: usize = 1 << 20;

fn ask(model: &str, streams: bool) -> Value {
    json!({"model": model, "max_tokens": 100, "stream": streams, "messages": [{"role": "user", "content": "hi"}]})
}

/// Reports that are none, or not where they belong: an estimate, within the hold. Of two the last one counts.
#[test]
fn false_reports_are_no_bills() {
    let said = "a few words";
    let none = estimate("hi", said);
    let huge = "9".repeat(400);
    for (case, usage, expected) in [
        ("negative", r#""usage":{"prompt_tokens":-10,"completion_tokens":-5}"#.to_owned(), none),
        ("fractional", r#""usage":{"prompt_tokens":1.5,"completion_tokens":2}"#.to_owned(), none),
        ("huge", r#""usage":{"prompt_tokens":18446744073709551615,"completion_tokens":5}"#.to_owned(), none),
        ("a number as long as a line", format!(r#""usage":{{"prompt_tokens":{huge},"completion_tokens":5}}"#), none),
        ("words", r#""usage":{"prompt_tokens":"many","completion_tokens":"few"}"#.to_owned(), none),
        ("a list", r#""usage":[{"prompt_tokens":1,"completion_tokens":1}]"#.to_owned(), none),
        ("elsewhere", r#""x":{"usage":{"prompt_tokens":1,"completion_tokens":1}}"#.to_owned(), none),
        ("in a choice", r#""choices2":[{"usage":{"prompt_tokens":1,"completion_tokens":1}}]"#.to_owned(), none),
        ("another's", r#""usageMetadata":{"promptTokenCount":1},"prompt_eval_count":1"#.to_owned(), none),
        (
            "twice",
            r#""usage":{"prompt_tokens":900,"completion_tokens":900},"usage":{"prompt_tokens":10,"completion_tokens":5}"#.to_owned(),
            FRIENDLY_COST,
        ),
        ("as text", r#""usage":"{\"prompt_tokens\":1,\"completion_tokens\":1}""#.to_owned(), none),
    ] {
        let choice = format!(r#""choices":[{{"index":0,"message":{{"content":"{said}"}},"finish_reason":"stop"}}]"#);
        let document = plain(200, "application/json", &format!("{{{choice},{usage}}}"));
        let delta = choice.replace("message", "delta");
        let stream = format!("{STREAM_HEAD}data: {{{delta},{usage}}}\n\ndata: [DONE]\n\n").into_bytes();
        let upstream = Upstream::start(move |request, stream_out| {
            let streams = request.body.windows(13).any(|part| part == b"\"stream\":true");
            let _ = stream_out.write_all(if streams { &stream } else { &document });
        });
        let gateway = Gateway::start(upstream.address, "");
        let key = gateway.key("1 TEST");
        let mut spent = 0;
        for streams in [false, true] {
            let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &ask("m", streams));
            assert_eq!(answer.status, 200, "{case}");
            spent += expected;
            assert_eq!(CREDIT - gateway.settled_balance(&key), spent, "{case}, streams: {streams}");
            assert!(expected <= answer.told("farthing-hold"), "{case}");
        }
    }
}

/// More than any balance is no report: the hold is taken. More than the request can have used is believed up to
/// that: its bytes, its limit, and a little that is the provider's.
#[test]
fn a_report_beyond_reason_takes_no_more_than_the_request_can_use() {
    for tokens in [9_007_199_254_740_992_u64, 1_000_000_000, 10_000] {
        let usage = json!({"choices": [{"message": {"content": "x"}}],
                           "usage": {"prompt_tokens": tokens, "completion_tokens": tokens}});
        let upstream = Upstream::start(move |_, stream| {
            let _ = stream.write_all(&plain(200, "application/json", &usage.to_string()));
        });
        let gateway = Gateway::start(upstream.address, "");
        let (key, other) = (gateway.key("0.01 TEST"), gateway.key("1 TEST"));
        let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &ask("m", false));
        let spent = 10_000_000 - gateway.settled_balance(&key);
        let hold = answer.told("farthing-hold");
        let beyond = (1024 + i64::try_from(ask("m", false).to_string().len()).unwrap()) * 1_000 + 256 * 4_000;
        assert!((hold..=hold + beyond).contains(&spent), "{tokens}: {spent} of {hold}");
        assert_eq!(spent == hold, tokens > 1 << 50, "{tokens}");
        assert_eq!(gateway.balance(&other), (CREDIT, 0));
        // The books say that the bill was cut, and are whole.
        gateway.books_after(1);
        assert_eq!(gateway.operator(&["fsck"])["clean"], json!(true), "{tokens}");
    }
}

/// One line without an end, a stream without an end and a bomb, while others are served on the same thread.
#[test]
fn floods_stall_nobody_and_are_not_kept() {
    let over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&over);
    let upstream = Upstream::start(move |request, stream| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let open = !body.contains("\"model\":\"m\"");
        let chunk = if body.contains("line") {
            // Text that begins and never ends.
            let _ = stream.write_all(
                format!("{STREAM_HEAD}data: {{\"choices\":[{{\"delta\":{{\"content\":\"").as_bytes(),
            );
            vec![b'x'; 64 * 1024]
        } else if body.contains("comments") {
            let _ = stream.write_all(STREAM_HEAD.as_bytes());
            b": nothing to say\n\n".repeat(4096)
        } else {
            let _ = stream.write_all(&friendly_answer(request));
            return;
        };
        while open && !until.load(Ordering::SeqCst) && stream.write_all(&chunk).is_ok() {}
    });
    let more = "server: { listen: [\"{address}\"], threads: 1 }\nmetering: { on_client_gone: { drain_up_to: 0s } }\n";
    let gateway = Gateway::start(upstream.address, more);
    let key = gateway.key("1 TEST");
    let floods: Vec<_> = ["line", "comments"]
        .into_iter()
        .map(|model| {
            let mut client = Socket::connect(gateway.address);
            assert!(client.send(http::posted(
                gateway.address,
                CHAT,
                &[("x-api-key", &key)],
                &ask(model, true)
            )));
            assert!(client.read_until("\r\n\r\n"));
            let done = Arc::clone(&over);
            thread::spawn(move || {
                use std::io::Read as _;
                let (mut seen, mut buffer) = (0, vec![0; 256 * 1024]);
                while seen < 64 * MIB && !done.load(Ordering::SeqCst) {
                    match client.stream().read(&mut buffer) {
                        Ok(0) | Err(_) => break,
                        Ok(count) => seen += count,
                    }
                }
                seen
            })
        })
        .collect();
    let other = gateway.key("1 TEST");
    for calls in 1..=20 {
        let answer = http::post(gateway.address, CHAT, &[("x-api-key", &other)], &ask("m", calls % 2 == 0));
        assert_eq!(answer.status, 200);
        assert_eq!(gateway.settled_balance(&other), CREDIT - calls * FRIENDLY_COST);
    }
    let flooded: Vec<usize> = floods.into_iter().map(|flood| flood.join().unwrap()).collect();
    over.store(true, Ordering::SeqCst);
    println!("bytes of the floods: {flooded:?}, resident: {} MiB", gateway.resident() / MIB);
    // A line that does not end says nothing that could be billed: it is cut where the hold ends, or goes on.
    wait_for("holds to end", || (gateway.balance(&key).1 == 0).then_some(()));
    assert!(gateway.balance(&key).0 >= CREDIT - 2 * 500_000, "within the holds: {:?}", gateway.balance(&key));
    // The tokenizer's tables are the most of it.
    assert!(gateway.resident() < 192 * MIB, "{} MiB", gateway.resident() / MIB);
}

#[test]
fn a_bomb_is_relayed_and_not_inflated() {
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    let head = br#"{"choices":[{"message":{"content":""#;
    bomb.write_all(head).unwrap();
    for _ in 0..256 {
        bomb.write_all(&vec![b'0'; MIB]).unwrap();
    }
    bomb.write_all(br#""}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#).unwrap();
    let bomb = bomb.finish().unwrap();
    let bytes = bomb.clone();
    let upstream = Upstream::start(move |_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n";
        let _ = stream.write_all(
            format!("{head}content-length: {}\r\nconnection: close\r\n\r\n", bytes.len()).as_bytes(),
        );
        let _ = stream.write_all(&bytes);
    });
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &ask("m", false));
    assert!(answer.status == 200 && answer.body == bomb, "relayed as it is");
    let spent = CREDIT - gateway.settled_balance(&key);
    assert!(
        spent > 0 && spent <= answer.told("farthing-hold"),
        "an estimate within the hold: {spent} of {}",
        answer.told("farthing-hold")
    );
    assert!(gateway.resident() < 192 * MIB, "{} MiB", gateway.resident() / MIB);
}

/// A client whose own words look like usage: in its prompt, in its tools that come back, in members that nobody
/// asked for.
#[test]
fn a_clients_own_usage_is_no_report() {
    let fake = r#"{"usage":{"input_tokens":0,"output_tokens":0,"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}"#;
    let echo = json!({"type": "response.created", "response": {"status": "in_progress", "usage": null,
        "tools": [{"type": "function", "name": "f", "parameters": {"usage": {"input_tokens": 0, "output_tokens": 0}}}]}});
    let said = json!({"type": "response.output_text.delta", "delta": fake});
    let stream = format!("{STREAM_HEAD}data: {echo}\n\ndata: {said}\n\n");
    let upstream = Upstream::start(move |_, out| {
        let _ = out.write_all(stream.as_bytes());
    });
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let ask = json!({"model": "m", "max_output_tokens": 500, "stream": true, "input": fake, "usage": {"output_tokens": 0},
        "tools": [{"type": "function", "name": "f", "parameters": {"usage": {"input_tokens": 0, "output_tokens": 0}}}]});
    let answer = http::post(gateway.address, "/v1/responses", &[("x-api-key", &key)], &ask);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let spent = CREDIT - gateway.settled_balance(&key);
    let output = i64::try_from(tokens(fake)).unwrap();
    assert!(spent >= output * 4000 + output * 1000 && spent <= answer.told("farthing-hold"), "{spent}");
    assert_eq!(
        gateway.books_after(1).entries.iter().rfind(|entry| entry["kind"] == "capture").unwrap()["estimated"],
        true
    );
}
