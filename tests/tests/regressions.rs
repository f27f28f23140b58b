//! What went wrong elsewhere, by the name of the report (reference ledger.md, section 10). Those that are
//! about load are in `storm.rs`, those about a proof shown twice in `replay.rs` and `replay_storm.rs`.

use std::io::Write as _;
use std::time::{Duration, Instant};

use farthing_tests::by_hand::Call;
use farthing_tests::crowd::at_once;
use farthing_tests::gateway::{Gateway, PATIENCE, nano};
use farthing_tests::http;
use farthing_tests::refused::assert_refused;
use farthing_tests::socket::Socket;
use farthing_tests::spoken::{Ending, Owed, Talk};
use farthing_tests::stand::{CREDIT, Stand};
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};
use proof::credit_key::attenuate;
use serde_json::{Value, json};

/// A route of each kind, one of them sold by the call.
const ROUTES: &str = "\
upstreams: { openai: { url: \"http://{upstream}\", dialect: openai }, claude: { url: \"http://{upstream}\", dialect: anthropic }, \
tool: { url: \"http://{upstream}\", dialect: raw } }
routes:
  - { match: { method: POST, path: /v1/chat/completions }, upstream: openai, price: by_model }
  - { match: { method: POST, path: /v1/completions }, upstream: openai, price: by_model }
  - { match: { method: POST, path: /v1/responses }, upstream: openai, price: by_model }
  - { match: { method: POST, path: /v1/embeddings }, upstream: openai, price: by_model }
  - { match: { method: POST, path: /v1/messages }, upstream: claude, price: by_model }
  - { match: { method: POST, path: /tool }, upstream: tool, price: { per_call: 0.001 USD } }
";

/// The upstream fails before its first chunk, on every kind of endpoint, streamed or not. Elsewhere the hold
/// was given back on one endpoint of three: here nothing stays held, nothing is charged, and nobody is asked to
/// pay again.
#[test]
fn otari_128() {
    const PATHS: [&str; 6] = [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/embeddings",
        "/v1/messages",
        "/tool",
    ];
    let error = |status: u16, body: &str| {
        format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let usage = r#"{"usage":{"prompt_tokens":9,"completion_tokens":9,"total_tokens":18}}"#;
    let failures: [(&str, u16, String); 9] = [
        ("hangs up", 502, String::new()),
        ("half a head", 502, "HTTP/1.1 200 OK\r\ncontent-".into()),
        ("no key of ours", 502, error(401, r#"{"error":{"message":"bad key"}}"#)),
        ("bad request", 400, error(400, r#"{"error":{"message":"bad","code":"x"}}"#)),
        ("too many requests", 429, error(429, r#"{"error":{"message":"slow down"}}"#)),
        ("error", 500, error(500, r#"{"error":{"message":"x"}}"#)),
        ("error with usage", 500, error(500, usage)),
        ("overloaded", 529, error(529, r#"{"type":"error","error":{"type":"overloaded_error"}}"#)),
        (
            "head, then nothing",
            200,
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9\r\n\r\n".into(),
        ),
    ];
    let mut stand = Stand::new(ROUTES);
    for (what, status, bytes) in failures {
        for path in PATHS {
            for streamed in [false, true] {
                let body = json!({"model": "m", "max_tokens": 1000, "stream": streamed, "input": "hi",
                                  "messages": [{"role": "user", "content": "hi"}]});
                let what = format!("{what}, {path}, streamed: {streamed}");
                let (mut client, mut call) = stand.send(path, &body);
                assert!(stand.held() > 0, "{what}");
                call.send(&bytes);
                drop(call);
                if let Some(answer) = client.answer() {
                    assert_eq!(answer.status, status, "{what}: {}", answer.text());
                    if status == 502 {
                        assert_refused(&answer, 502, "upstream_failed", "nothing_taken");
                    }
                } else {
                    assert_eq!(status, 200, "{what}");
                }
                stand.settles(&what, Duration::ZERO, Owed::NOTHING);
            }
        }
    }
    stand.close();
}

/// Ends a call and says what it comes to.
type WayToEnd = fn(&Stand, &Talk) -> Owed;

/// Reservations that some ways to end a call never gave back were counted as spend: budgets ran out that
/// nobody had used. Here a budget survives every way to end a call, and is then worth what is left of it.
#[test]
fn litellm_27639() {
    let mut stand = Stand::new(
        "metering: { hold: { fit_to_balance: false, input: bytes }, on_client_gone: { drain_up_to: 0s } }\n",
    );
    let talk = Talk::chat();
    // What the worst of these calls holds at least, so that a few leaks would be seen.
    let held = {
        let asked = stand.ask(&talk);
        let held = stand.held();
        leave(asked);
        stand.settles("a look at the hold", Duration::ZERO, Owed::NOTHING);
        held
    };
    let ends: [(&str, WayToEnd); 5] = [
        ("left before the head", |stand, talk| {
            leave(stand.ask(talk));
            Owed::NOTHING
        }),
        ("left before the first event", |stand, talk| {
            leave(stand.hear(talk, 0));
            talk.owed(0, Ending::Left)
        }),
        ("left midway", |stand, talk| {
            leave(stand.hear(talk, 2));
            talk.owed(2, Ending::Left)
        }),
        ("reset before the head", |stand, talk| {
            let (_client, call) = stand.ask(talk);
            call.reset();
            Owed::NOTHING
        }),
        ("reset midway", |stand, talk| {
            let (_client, call) = stand.hear(talk, 2);
            call.reset();
            talk.owed(2, Ending::Broken)
        }),
    ];
    let once: i64 = [talk.owed(0, Ending::Left), talk.owed(2, Ending::Left), talk.owed(2, Ending::Broken)]
        .iter()
        .map(|owed| owed.nano)
        .sum();
    const ROUNDS: i64 = 6;
    // Exactly what they cost, one call more, and not one unit for anything that was not given back.
    let limit = ROUNDS * once + held;
    let own = stand.key.clone();
    stand.key = attenuate(&own, &format!("budget=agent:TEST:{limit}")).unwrap();
    assert!(held > ROUNDS * once, "one leak of {held} would use the budget up");
    for _ in 0..ROUNDS {
        for (what, end) in ends {
            let owed = end(&stand, &talk);
            stand.settles(what, Duration::ZERO, owed);
        }
    }
    let (mut client, mut call) = stand.ask(&talk);
    assert_eq!(stand.held(), held, "the last call has all of it");
    answer_whole(&talk, &mut call);
    assert_eq!(client.answer().unwrap().status, 200);
    stand.settles("the last call", Duration::ZERO, Owed::REPORTED);
    let refused = http::post(stand.gateway.address, talk.path, &[("x-api-key", &stand.key)], &talk.body);
    assert_refused(&refused, 402, "over_token_budget", "nothing_taken");
    stand.close();
}

/// Counters drifted above the books under disconnects and timeouts, and only a restart put them right. Here
/// memory and journal say the same before a restart, and after it.
#[test]
fn litellm_30460() {
    let mut stand = Stand::new(
        "metering: { on_client_gone: { drain_up_to: 0s } }\nserver: { listen: [\"{address}\"], threads: 2, \
         timeouts: { stream_idle: 1s, first_byte: 2s } }\n",
    );
    for talk in [Talk::chat(), Talk::messages()] {
        for heard in [0, 2] {
            leave(stand.hear(&talk, heard));
            stand.settles("left", Duration::ZERO, talk.owed(heard, Ending::Left));
            let silent = stand.hear(&talk, heard);
            stand.settles("silent", Duration::from_secs(1), talk.owed(heard, Ending::Broken));
            drop(silent);
        }
        let silent = stand.ask(&talk);
        stand.settles("silent from the start", Duration::from_secs(2), Owed::NOTHING);
        drop(silent);
    }
    stand.close();
    let before = stand.gateway.balance(&stand.key);
    assert_eq!(before, (CREDIT - stand.owes(), 0));
    assert_eq!(stand.gateway.metric(r#"farthing_charge_nano_total{asset="TEST"}"#), stand.owes());
    stand.gateway.crash_and_restart();
    assert_eq!(stand.gateway.balance(&stand.key), before);
    stand.close();
}

/// Agents that cancel midway and try again at once pinned the counter above the real spend. Here 64 of them
/// do, on a balance that covers a few holds at a time: soon all of it is there again.
#[test]
fn litellm_30522() {
    const AGENTS: usize = 64;
    const TRIES: usize = 6;
    let talk = Talk::chat();
    let (head, first) = (talk.head(), talk.pieces[0].text.clone() + &talk.pieces[1].text);
    let upstream = Upstream::start(move |_, stream| {
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&farthing_tests::kept::chunk(first.as_bytes()));
        // Until the gateway lets go.
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    let gateway = Gateway::start(upstream.address, "metering: { on_client_gone: { drain_up_to: 0s } }\n");
    // A hold is about 0.0041.
    let key = gateway.key("0.05 TEST");
    let request = http::posted(gateway.address, talk.path, &[("x-api-key", &key)], &talk.body);
    let start = Instant::now();
    at_once(AGENTS, |_| {
        for _ in 0..TRIES {
            let mut client = Socket::connect(gateway.address);
            // Whoever has no luck waits for as long as the storm of all the others may take.
            loop {
                client.send(&request);
                assert!(client.read_until("\r\n\r\n"));
                // Held, or refused on a connection that goes on.
                if client.has("HTTP/1.1 200") {
                    break;
                }
                client.answer();
                assert!(start.elapsed() < 2 * PATIENCE, "others let nothing go");
                std::thread::sleep(Duration::from_millis(5));
            }
            assert!(client.read_until(&talk.pieces[1].mark));
        }
    });
    let balance = gateway.settled_balance(&key);
    let owed = talk.owed(2, Ending::Left).nano * i64::try_from(AGENTS * TRIES).unwrap();
    assert_eq!(balance, 50_000_000 - owed);
    assert_eq!(gateway.metric("farthing_holds_open"), 0);
    gateway.books_after(AGENTS * TRIES);
}

/// A model that may write 128k tokens, a balance that does not cover them: the call is clamped and served, and
/// pays for what it used.
#[test]
fn bike4mind_1929() {
    let upstream = Upstream::friendly();
    let prices = "prices: { \"*\": { input: 1 USD/Mtok, output: 4 USD/Mtok, max_output: 128000 } }\n";
    let gateway = Gateway::start(upstream.address, prices);
    for streamed in [false, true] {
        for asked in [Some(128_000), None] {
            // 128,000 tokens would be 0.512.
            let key = gateway.key("0.01 TEST");
            let mut body =
                json!({"model": "m", "stream": streamed, "messages": [{"role": "user", "content": "hi"}]});
            if let Some(asked) = asked {
                body["max_tokens"] = json!(asked);
            }
            let answer = http::post(gateway.address, "/v1/chat/completions", &[("x-api-key", &key)], &body);
            assert_eq!(answer.status, 200, "{asked:?}: {}", answer.text());
            let held = nano(&json!(answer.must("farthing-hold").trim_end_matches(" TEST")));
            assert!(held <= 10_000_000, "{held}");
            assert_eq!(gateway.settled_balance(&key), 10_000_000 - FRIENDLY_COST);
            let sent: Value = serde_json::from_slice(&upstream.seen().last().unwrap().body).unwrap();
            // What is not set aside in steps while it streams is bounded before it starts.
            if let Some(limit) = sent["max_tokens"].as_u64() {
                assert!(limit <= 128_000, "{limit}");
            }
        }
    }
    gateway.books_after(4);
}

/// Every report that must be a test is one, but for `lago_6103`: it is about an auto top-up, and there is none
/// yet.
#[test]
fn every_named_regression_is_a_test() {
    const NAMED: [&str; 21] = [
        "anthropic_92642",
        "aws_x402_40",
        "bike4mind_1929",
        "bindu_520",
        "blnk_171",
        "blnk_181",
        "cala_776",
        "double_entry_114",
        "litellm_26672",
        "litellm_27639",
        "litellm_30460",
        "litellm_30522",
        "litellm_33325",
        "litellm_34732",
        "litellm_34733",
        "litellm_40050",
        "litellm_6288",
        "otari_128",
        "x402_1805",
        "x402_2801",
        "x402_3401",
    ];
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut sources = String::new();
    let mut folders =
        vec![root.join("tests/tests"), root.join("crates/ledger/src"), root.join("crates/store/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                sources.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    for name in NAMED {
        let test = format!("    #[test]\n    fn {name}() {{");
        assert!(
            sources.replace("\n#[test]\nfn", "\n    #[test]\n    fn").contains(&test),
            "{name} is no test"
        );
    }
}

/// The client goes, and the upstream learns of it.
fn leave((client, call): (Socket, Call)) {
    drop(client);
    call.wait_until_left();
}

fn answer_whole(talk: &Talk, call: &mut Call) {
    call.send(talk.head());
    talk.pieces.iter().for_each(|piece| call.chunk(&piece.text));
    call.send("0\r\n\r\n");
}
