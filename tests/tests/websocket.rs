//! WebSockets through the gateway: paid at the handshake, carried as they are, charged when they end, for what was used.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use ::http::HeaderMap;
use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::grpc_peer::run;
use farthing_tests::http;
use farthing_tests::lightning::{Offered, TEST_NODE};
use farthing_tests::payer::{TEST, Wallet};
use farthing_tests::refused::assert_refused;
use farthing_tests::tls::Authority;
use farthing_tests::upstream::{KEY, Upstream};
use farthing_tests::web_socket::{Talk, WebSocketServer, open, open_over};
use tokio_tungstenite::tungstenite::Message;

const CREDIT: i64 = 1_000_000_000;

/// 1000 nano-dollars a millisecond and 20 a byte up, with a fee and a least that are more than a call here uses.
const USE: &str = "{ per_call: 0.1 USD, min: 0.2 USD, per_second: 0.001 USD, per_byte_in: 0.02 USD/MB, hold: { time: 60s, bytes: 1MB } }";

async fn script(path: String, mut talk: Talk) {
    match path.as_str() {
        "/echo" | "/bytes" | "/time" | "/short" | "/free" | "/idle" => {
            while let Some(message) = talk.hear().await {
                let Message::Text(text) = message else { panic!("no text") };
                if text == "close" {
                    return talk.close(4000).await;
                }
                if text == "vanish" {
                    return;
                }
                if text == "key" {
                    talk.say(&format!("before {KEY} after")).await;
                    continue;
                }
                talk.say(&text).await;
            }
        }
        "/flood" => {
            let piece = "x".repeat(1000);
            while futures_util::SinkExt::send(&mut talk.0, Message::text(piece.clone())).await.is_ok() {}
        }
        "/gone" | "/dead" => {}
        "/used" | "/lenient" => drop(talk.hear().await),
        "/late" => tokio::time::sleep(Duration::from_millis(1300)).await,
        other => panic!("{other}"),
    }
}

struct Stage {
    upstream: WebSocketServer,
    gateway: Gateway,
    key: String,
}

impl Stage {
    fn new(more: &str) -> Self {
        let upstream = WebSocketServer::start(script);
        let route = |path: &str, price: &str| {
            format!("{{ match: {{ path: {path} }}, upstream: ws, websocket: true, price: {price} }}")
        };
        let routes = [
            route("/echo", "{ per_call: 0.001 USD }"),
            route("/gone", "{ per_call: 0.001 USD }"),
            route("/refused", "{ per_call: 0.001 USD }"),
            route("/busy", "{ per_call: 0.001 USD }"),
            route("/bytes", "{ per_byte_in: 0.02 USD/MB, per_byte_out: 0.05 USD/MB, hold: 1kB }"),
            route("/flood", "{ per_byte_out: 0.05 USD/MB, hold: 10kB }"),
            route("/time", "{ per_second: 0.001 USD, hold: 60s }"),
            route("/short", "{ per_second: 0.1 USD, hold: 1s }"),
            route("/idle", "{ per_second: 0.001 USD, hold: 10s }"),
            route("/free", "free"),
            route("/used", USE),
            route("/dead", USE),
            route("/lenient", &format!("{USE}, metering: {{ on_upstream_error: {{ after_output: free }} }}")),
            route("/late", "{ per_second: 0.001 USD, hold: 1s }"),
            "{ match: { path: /plain }, upstream: ws, price: { per_call: 0.001 USD } }".to_owned(),
        ];
        let gateway = Gateway::start(
            upstream.address,
            &format!(
                "upstreams: {{ ws: {{ url: \"http://{}\", dialect: raw, auth: {{ bearer: \"${{env:UPSTREAM_KEY}}\" }}, timeouts: {{ stream_idle: 4s }} }} }}\nroutes: [ {} ]\n{more}",
                upstream.address,
                routes.join(", ")
            ),
        );
        let key = gateway.key("1 TEST");
        Self { upstream, gateway, key }
    }

    async fn open(&self, path: &str) -> (Talk, HeaderMap) {
        let bearer = format!("Bearer {}", self.key);
        open(self.gateway.address, path, &[("authorization", &bearer)]).await.unwrap()
    }

    fn spent(&self) -> i64 {
        CREDIT - self.gateway.settled_balance(&self.key)
    }

    /// The journal agrees, and every bill comes out the same when it is computed again.
    fn close(&self, calls: usize) {
        let books = self.gateway.books_after(calls);
        for entry in books.entries.iter().filter(|entry| entry["kind"] == "capture") {
            assert_ne!(entry["estimated"], true, "{entry}");
        }
    }
}

/// WS-1, WS-2: the handshake is paid as any call, and passed on field by field; what follows is both sides' own.
#[test]
fn ws_1_2_a_conversation_is_carried_and_charged_once() {
    let stage = Stage::new("");
    run(async {
        let bearer = format!("Bearer {}", stage.key);
        let fields = [
            ("authorization", bearer.as_str()),
            ("sec-websocket-protocol", "chat"),
            ("sec-websocket-extensions", "x-made-up"),
            ("origin", "http://evil.test"),
            ("cookie", "a=b"),
            ("x-other", "no"),
        ];
        let (mut talk, head) = open(stage.gateway.address, "/echo", &fields[..1]).await.unwrap();
        assert_eq!(head["farthing-hold"], "0.001000000 TEST");
        assert!(head.contains_key("farthing-receipt") && !head.contains_key("set-cookie"));
        // One letter of the upstream's key at the end keeps nothing waiting.
        for text in ["hello", "s", "sk-", ""] {
            talk.say(text).await;
            assert_eq!(talk.heard().await, text);
        }
        let long = "y".repeat(3_000_000);
        talk.say(&long).await;
        assert_eq!(talk.heard().await.len(), long.len());
        let ping = Message::Ping(vec![1, 2, 3].into());
        futures_util::SinkExt::send(&mut talk.0, ping).await.unwrap();
        assert_eq!(talk.next().await.unwrap().unwrap(), Message::Pong(vec![1, 2, 3].into()));
        assert_eq!(stage.gateway.metric("farthing_holds_open"), 1);
        talk.close(1000).await;
        let _ = open(stage.gateway.address, "/echo", &fields).await;
        let (_, up) = stage.upstream.seen().pop().unwrap();
        assert_eq!(up["authorization"], format!("Bearer {KEY}"));
        assert_eq!(
            (&up["sec-websocket-protocol"], &up["sec-websocket-extensions"]),
            (&"chat".parse().unwrap(), &"x-made-up".parse().unwrap())
        );
        assert_eq!(
            (&up["connection"], &up["upgrade"]),
            (&"Upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
        for name in ["origin", "cookie", "x-other"] {
            assert!(!up.contains_key(name), "{name}");
        }
    });
    assert_eq!(stage.spent(), 2_000_000);
    stage.close(2);
}

/// WS-1: what is no handshake, and what is not paid, goes nowhere.
#[test]
fn ws_1_refused_before_anything_goes_up() {
    let stage = Stage::new("");
    let address = stage.gateway.address;
    let poor = format!("Bearer {}", stage.gateway.key("0.0001 TEST"));
    run(async {
        let unpaid = open(address, "/echo", &[]).await.err().unwrap();
        assert_eq!(unpaid.status(), 402);
        assert!(unpaid.headers().contains_key("payment-required"));
        let short = open(address, "/echo", &[("authorization", &poor)]).await.err().unwrap();
        assert_eq!(short.status(), 402);
    });
    let key = ("x-api-key", stage.key.as_str());
    let handshake = [
        key,
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let changed = |name: &'static str, value: &'static str| {
        let mut fields = handshake.to_vec();
        fields.retain(|(known, _)| *known != name);
        fields.push((name, value));
        fields
    };
    for fields in [
        vec![key],
        changed("upgrade", "h2c"),
        changed("connection", "keep-alive"),
        changed("sec-websocket-version", "8"),
        changed("sec-websocket-key", "short"),
        changed("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZTE="),
    ] {
        let refused = http::get(address, "/echo", &fields);
        assert_refused(&refused, 400, "bad_request", "nothing_taken");
        assert_eq!(refused.header("sec-websocket-version"), Some("13"));
    }
    let named = [&handshake[..], &[("idempotency-key", "a")]].concat();
    assert_refused(&http::get(address, "/echo", &named), 400, "bad_request", "nothing_taken");
    assert_eq!(http::request(address, "POST", "/echo", &handshake, b"").status, 405);
    assert_eq!((stage.upstream.seen().len(), stage.spent()), (0, 0));
    // Elsewhere an upgrade is nothing: the call is answered as any other.
    let upstream = Upstream::start(|request, stream| {
        assert!(request.header("upgrade").is_none() && request.header("sec-websocket-key").is_none());
        let _ = stream.write_all(&farthing_tests::upstream::plain(200, "text/plain", "plain"));
    });
    let plain = Gateway::start(
        upstream.address,
        &format!(
            "upstreams: {{ u: {{ url: \"http://{}\", dialect: raw }} }}\nroutes: [ {{ match: {{ path: /plain }}, upstream: u, price: free }} ]\n",
            upstream.address
        ),
    );
    let answer = http::get(plain.address, "/plain", &handshake[1..]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "plain"));
}

/// WS-3: only a 101 that is one opens anything; everything else is an answer, and free.
#[test]
fn ws_3_what_opens_nothing_costs_nothing() {
    let stage = Stage::new("");
    run(async {
        let bearer = format!("Bearer {}", stage.key);
        for (path, status) in [("/refused", 502), ("/busy", 503)] {
            let answer =
                open(stage.gateway.address, path, &[("authorization", &bearer)]).await.err().unwrap();
            assert_eq!(answer.status(), status, "{path}");
        }
    });
    assert_eq!(stage.spent(), 0);
    let accept = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    let telling = format!("{accept}sec-websocket-protocol: {KEY}\r\n");
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned(),
        format!("HTTP/1.1 101 X\r\nupgrade: other\r\nconnection: upgrade\r\n{accept}\r\n"),
        format!("HTTP/1.1 101 X\r\nupgrade: websocket\r\n{accept}\r\n"),
        "HTTP/1.1 101 X\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n".to_owned(),
        format!("HTTP/1.1 101 X\r\nupgrade: websocket\r\nconnection: upgrade\r\n{telling}\r\n"),
        "nonsense\r\n\r\n".to_owned(),
    ] {
        let answer = head.clone();
        let upstream = Upstream::start(move |_, stream| {
            let _ = stream.write_all(answer.as_bytes());
        });
        let gateway = Gateway::start(
            upstream.address,
            &format!(
                "upstreams: {{ u: {{ url: \"http://{}\", dialect: raw, auth: {{ bearer: \"${{env:UPSTREAM_KEY}}\" }} }} }}\nroutes: [ {{ match: {{ path: /x }}, upstream: u, websocket: true, price: {{ per_call: 0.001 USD }} }} ]\n",
                upstream.address
            ),
        );
        let key = gateway.key("1 TEST");
        let bearer = format!("Bearer {key}");
        let answer = run(open(gateway.address, "/x", &[("authorization", &bearer)])).err().unwrap();
        assert_eq!(answer.status(), 502, "{head}");
        assert_eq!(gateway.settled_balance(&key), CREDIT, "{head}");
    }
}

/// WS-4: bytes are counted each way, to the byte, whoever ends it.
#[test]
fn ws_4_bytes_are_counted_both_ways() {
    let stage = Stage::new("");
    run(async {
        let (mut talk, head) = stage.open("/bytes").await;
        // A thousand of each.
        assert_eq!(head["farthing-hold"], "0.000070000 TEST");
        for _ in 0..20 {
            talk.say(&"z".repeat(1000)).await;
            assert_eq!(talk.heard().await.len(), 1000);
        }
        drop(talk);
        wait_for("the hold to end", || (stage.gateway.metric("farthing_holds_open") == 0).then_some(()));
        stage.gateway.books_after(1);
        let told = stage.gateway.operator(&["explain", head["farthing-request-id"].to_str().unwrap()]);
        assert_eq!(told["agrees"], true, "{told}");
    });
    // A client's frame has a head of 8 bytes at that length, a server's one of 4.
    assert_eq!(stage.spent(), 20 * (1008 * 20 + 1004 * 50));
    stage.close(1);
}

/// WS-5: the hold grows while the balance lasts; then the client is told, the upstream let go, and nothing is owed.
#[test]
fn ws_5_a_connection_ends_with_its_balance() {
    let stage = Stage::new("");
    let (flood, short) = (stage.gateway.key("0.001 TEST"), stage.gateway.key("0.15 TEST"));
    run(async {
        let bearer = format!("Bearer {flood}");
        let (mut talk, _) =
            open(stage.gateway.address, "/flood", &[("authorization", &bearer)]).await.unwrap();
        let mut heard = 0;
        let code = loop {
            match talk.next().await {
                Some(Ok(Message::Text(text))) => heard += text.len(),
                Some(Ok(Message::Close(frame))) => break frame.map(|frame| u16::from(frame.code)),
                // Cut within a frame.
                Some(Err(_)) | None => break None,
                Some(Ok(other)) => panic!("{other}"),
            }
        };
        // 20,000 bytes are paid: 19 frames of 1004 and a part of the next.
        assert_eq!((heard, code), (19_000, None));
    });
    assert_eq!(stage.gateway.settled_balance(&flood), 0);
    run(async {
        let bearer = format!("Bearer {short}");
        let start = Instant::now();
        let (mut talk, head) =
            open(stage.gateway.address, "/short", &[("authorization", &bearer)]).await.unwrap();
        assert_eq!(head["farthing-hold"], "0.100000000 TEST");
        let talking = async {
            loop {
                match talk.next().await {
                    Some(Ok(Message::Close(frame))) => break frame.map(|frame| u16::from(frame.code)),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break None,
                }
            }
        };
        assert_eq!(talking.await, Some(1008));
        assert!(start.elapsed() >= Duration::from_millis(1400), "{:?}", start.elapsed());
    });
    assert_eq!(stage.gateway.settled_balance(&short), 0, "a second and a half, to the millisecond");
    assert_eq!(stage.gateway.metric("farthing_holds_expired_total"), 0);
    // Both ends are let go.
    wait_for("the connections to end", || (stage.gateway.metric("farthing_connections") == 0).then_some(()));
    stage.close(2);
}

/// WS-5: seconds are those for which it was open, by the millisecond.
#[test]
fn ws_5_time_is_charged_by_the_millisecond() {
    let stage = Stage::new("");
    let start = Instant::now();
    run(async {
        let (mut talk, head) = stage.open("/time").await;
        assert_eq!(head["farthing-hold"], "0.060000000 TEST");
        let opened = Instant::now();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            talk.say("on").await;
            talk.heard().await;
        }
        assert!(opened.elapsed() >= Duration::from_millis(600));
        talk.close(1000).await;
    });
    let most = i64::try_from(start.elapsed().as_millis()).unwrap() * 1000;
    let spent = stage.spent();
    assert!((600_000..=most).contains(&spent), "{spent} of {most}");
    assert_eq!(spent % 1000, 0, "whole milliseconds");
    stage.close(1);
}

/// WS-6: whoever ends it, and however: the charge is the same, and both sides learn of it.
#[test]
fn ws_6_every_end_settles() {
    let stage = Stage::new("");
    let mut owed = 0;
    let mut settles = |what: &str, cost: i64| {
        owed += cost;
        assert_eq!(stage.spent(), owed, "{what}");
    };
    run(async {
        let (mut talk, _) = stage.open("/echo").await;
        talk.say("close").await;
        assert_eq!(talk.closed_with().await, Some(4000));
    });
    settles("the upstream closes", 1_000_000);
    run(async {
        let (mut talk, _) = stage.open("/echo").await;
        talk.say("a").await;
        talk.heard().await;
        talk.say("vanish").await;
        assert_eq!(talk.closed_with().await, Some(1011));
    });
    settles("the upstream vanishes behind a message", 1_000_000);
    run(async {
        let (mut talk, _) = stage.open("/gone").await;
        assert_eq!(talk.closed_with().await, Some(1011));
    });
    settles("the upstream vanishes before any message", 0);
    run(async {
        let (mut talk, _) = stage.open("/echo").await;
        talk.say("key").await;
        let said = talk.next().await;
        assert!(!matches!(said, Some(Ok(Message::Text(_)))), "{said:?}");
    });
    settles("the upstream tells its key at once", 0);
    run(async { drop(stage.open("/echo").await) });
    settles("the client vanishes", 1_000_000);
    let start = Instant::now();
    run(async {
        let (mut talk, _) = stage.open("/idle").await;
        assert_eq!(talk.closed_with().await, Some(1001));
        assert!(start.elapsed() >= Duration::from_secs(4));
    });
    let before = owed;
    let idle = stage.spent() - before;
    let most = i64::try_from(start.elapsed().as_millis()).unwrap() * 1000;
    assert!((4_000_000..=most).contains(&idle), "{idle}");
    run(async {
        let (mut talk, head) = open(stage.gateway.address, "/free", &[]).await.unwrap();
        assert!(!head.contains_key("farthing-hold"));
        talk.say("for nothing").await;
        assert_eq!(talk.heard().await, "for nothing");
        talk.close(1000).await;
    });
    assert_eq!(stage.spent(), before + idle);
    stage.close(4);
}

/// WS-6: an upstream that fails before it said anything costs what went up and the time, and nothing where nothing was used:
/// else whoever can make it fail would use it for nothing.
#[test]
fn ws_6_what_was_used_is_paid_though_nothing_came() {
    let stage = Stage::new("");
    let breaks_off = |path: &str, words: &str| {
        let start = Instant::now();
        let call = run(async {
            let (mut talk, head) = stage.open(path).await;
            if !words.is_empty() {
                talk.say(words).await;
            }
            assert_eq!(talk.closed_with().await, Some(1011), "{path}");
            head["farthing-request-id"].to_str().unwrap().to_owned()
        });
        (call, i64::try_from(start.elapsed().as_millis()).unwrap() * 1000)
    };
    breaks_off("/dead", "");
    assert_eq!(stage.spent(), 0, "at once");
    breaks_off("/lenient", &"z".repeat(1000));
    assert_eq!(stage.spent(), 0, "the operator does not want it");
    let (call, most) = breaks_off("/used", &"z".repeat(1000));
    let used = stage.spent();
    let time = used - 1008 * 20;
    assert!((0..=most).contains(&time) && time % 1000 == 0, "{used}");
    stage.gateway.books_after(1);
    let told = stage.gateway.operator(&["explain", &call]);
    assert_eq!((&told["agrees"], &told["terminal"]), (&true.into(), &"truncated".into()), "{told}");
    let buckets: Vec<_> = told["lines"].as_array().unwrap().iter().map(|line| &line["bucket"]).collect();
    assert!(buckets.iter().all(|bucket| ["millisecond", "request_byte"].contains(&bucket.as_str().unwrap())));
    // Nothing went up, and it stood for longer than the first step.
    let (_, most) = breaks_off("/late", "");
    let late = stage.spent() - used;
    assert!((1_300_000..=most).contains(&late), "{late} of {most}");
    stage.close(2);
}

/// WS-6: a gateway that stops says so at once, and settles.
/// L402-44: who is let in by a key is let out with it.
#[test]
fn ws_6_a_tunnel_ends_when_its_key_is_revoked() {
    let stage = Stage::new("");
    run(async {
        let (mut talk, _) = stage.open("/time").await;
        talk.say("hello").await;
        assert_eq!(talk.heard().await, "hello");
        let made = stage.gateway.operator(&["key", "new", "--credit", "1 TEST"]);
        stage.gateway.operator(&["key", "revoke", made["key_id"].as_str().unwrap()]);
        let account = stage.gateway.operator(&["key", "inspect", &stage.key])["account"].clone();
        talk.say("another's key").await;
        assert_eq!(talk.heard().await, "another's key");
        stage.gateway.operator(&["key", "revoke", account.as_str().unwrap()]);
        assert_eq!(talk.closed_with().await, Some(1008));
    });
    // Looked at each second: what the time until then costs is charged, and nothing stays held.
    let books = stage.gateway.books_after(1);
    assert_eq!(books.count("capture"), 1);
}

#[test]
fn ws_6_a_gateway_that_stops_closes_its_tunnels() {
    let mut stage = Stage::new("");
    run(async {
        let (mut talk, _) = stage.open("/echo").await;
        talk.say("a").await;
        talk.heard().await;
        stage.gateway.signal(15);
        assert_eq!(talk.closed_with().await, Some(1001));
    });
    assert_eq!(stage.gateway.wait().code(), Some(0));
    stage.gateway.restart();
    assert_eq!(stage.spent(), 1_000_000);
}

/// WS-6: what is open when the process dies owes nothing but what stands on disk (LED-26).
#[test]
fn ws_6_a_crash_leaves_no_hold() {
    for (more, owed) in [
        ("", 0),
        ("store: { path: \"{folder}/store\", durability: sync, crash_charge: input_only }\n", 1_000_000),
    ] {
        let mut stage = Stage::new(more);
        run(async {
            let (mut talk, _) = stage.open("/echo").await;
            talk.say("a").await;
            talk.heard().await;
            stage.gateway.crash_and_restart();
        });
        assert_eq!(stage.spent(), owed, "{more}");
    }
}

/// WS-7: a tunnel counts as a connection of its source and as a call of its account for as long as it is open.
#[test]
fn ws_7_limits_count_open_tunnels() {
    let limits = "limits: { unpaid: { per_ip: 100000/min }, default: { rpm: 100000, concurrent: 2 } }\n";
    let stage = Stage::new(limits);
    run(async {
        let bearer = format!("Bearer {}", stage.key);
        let (one, _) = stage.open("/echo").await;
        let (_two, _) = stage.open("/echo").await;
        let third = open(stage.gateway.address, "/echo", &[("authorization", &bearer)]).await.err().unwrap();
        assert_eq!(third.status(), 429);
        assert!(stage.gateway.metric("farthing_connections") >= 2);
        one.close(1000).await;
        // It counts until both sides have gone, which is a little after its hold has ended.
        let start = Instant::now();
        while let Err(refused) = open(stage.gateway.address, "/echo", &[("authorization", &bearer)]).await {
            assert_eq!(refused.status(), 429);
            assert!(start.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

/// WS-1, GRPC-11: the handshake is paid by whatever pays for a call; a payment opens one tunnel.
#[test]
fn ws_1_a_payment_opens_one_tunnel() {
    let stage = Stage::new("");
    let quoted =
        http::request(stage.gateway.address, "POST", "/farthing/quote?path=/echo&method=GET", &[], b"");
    let payment = Wallet::new(8).pay(&quoted, TEST).v2();
    run(async {
        let paid = [("payment-signature", payment.as_str())];
        let (mut talk, head) = open(stage.gateway.address, "/echo", &paid).await.unwrap();
        assert!(head.contains_key("farthing-key") && head.contains_key("payment-response"));
        // While it is open, and after that.
        let again = open(stage.gateway.address, "/echo", &paid).await.err().unwrap();
        assert_eq!(again.status(), 409);
        talk.say("paid").await;
        assert_eq!(talk.heard().await, "paid");
        talk.close(1000).await;
        wait_for("the hold to end", || (stage.gateway.metric("farthing_holds_open") == 0).then_some(()));
        let again = open(stage.gateway.address, "/echo", &paid).await.err().unwrap();
        assert_eq!(again.status(), 409);
    });
    assert_eq!(stage.upstream.seen().len(), 1);
    let books = stage.gateway.books_after(1);
    assert_eq!((books.count("deposit"), books.count("capture")), (2, 1));
}

/// L402 sells a connection as it sells a call: by the second, until what was paid is used up.
#[test]
fn ws_5_a_connection_paid_over_lightning_ends_with_its_payment() {
    let rails = TEST_NODE.replace("test: {},", "test: {}, deposit: 0.15 USD,");
    let stage = Stage::new(&rails);
    run(async {
        let unpaid = open(stage.gateway.address, "/short", &[]).await.err().unwrap();
        let line = unpaid.headers()["www-authenticate"].to_str().unwrap().to_owned();
        let headers = vec![("www-authenticate".to_owned(), line)];
        let unpaid = http::Answer { status: 402, headers, body: Vec::new(), trailers: Vec::new() };
        let paid = Offered::of(&unpaid).paid();
        let opened = open(stage.gateway.address, "/short", &[("authorization", &paid)]).await;
        let (mut talk, head) = opened.unwrap();
        assert_eq!(head["farthing-hold"], "0.100000000 TEST");
        assert_eq!(talk.closed_with().await, Some(1008));
        let empty = open(stage.gateway.address, "/short", &[("authorization", &paid)]).await.err().unwrap();
        assert_eq!(empty.status(), 402);
    });
    let books = stage.gateway.books_after(1);
    let captured = books.entries.iter().filter(|entry| entry["kind"] == "capture");
    assert_eq!(captured.count(), 1);
}

/// WS-2: within TLS on both sides, and never without the upstream's certificate.
#[test]
fn ws_2_within_tls_on_both_sides() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let files = tempfile::tempdir().unwrap();
    let at = |name: &str| files.path().join(name);
    ours.issue("localhost").write(&at("cert.pem"), &at("key.pem"));
    std::fs::write(at("root.pem"), ours.pem()).unwrap();
    let good = WebSocketServer::start_with(Some(ours.issue("localhost").server(&[])), script);
    let strange = WebSocketServer::start_with(Some(theirs.issue("localhost").server(&[])), script);
    let here = files.path().display();
    let upstream = |name: &str, server: &WebSocketServer| {
        let port = server.address.port();
        format!("{name}: {{ url: \"https://localhost:{port}\", dialect: raw, ca: \"{here}/root.pem\" }}")
    };
    let route = |name: &str, path: &str| {
        format!(
            "{{ match: {{ path: {path} }}, upstream: {name}, websocket: true, price: {{ per_call: 0.001 USD }} }}"
        )
    };
    let gateway = Gateway::start(
        good.address,
        &format!(
            "server: {{ listen: [\"{{address}}\"], threads: 1, hosts: [localhost], tls: {{ cert: {here}/cert.pem, key: \"${{file:{here}/key.pem}}\" }} }}\n\
             upstreams: {{ {}, {} }}\nroutes: [ {}, {} ]\n",
            upstream("good", &good),
            upstream("strange", &strange),
            route("good", "/echo"),
            route("strange", "/gone"),
        ),
    );
    let new = gateway.operator(&["key", "new", "--credit", "1 TEST"]);
    let text = |name: &str| new[name].as_str().unwrap().to_owned();
    let (bearer, account) = (format!("Bearer {}", text("key")), text("account"));
    let host = format!("localhost:{}", gateway.address.port());
    run(async {
        let connect = async || {
            let tcp = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(ours.client(&["http/1.1"]));
            Box::new(connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap())
        };
        let fields = [("authorization", bearer.as_str())];
        let (mut talk, _) = open_over(connect().await, &host, "/echo", &fields).await.unwrap();
        talk.say("sealed").await;
        assert_eq!(talk.heard().await, "sealed");
        talk.close(1000).await;
        let refused = open_over(connect().await, &host, "/gone", &fields).await.err().unwrap();
        assert_eq!(refused.status(), 502);
    });
    assert!(strange.seen().is_empty(), "nothing was sent");
    assert_eq!(gateway.books_after(1).charged(&account), 1_000_000);
}

/// WS-8: over HTTP/2 there is none: the extended CONNECT is not offered, and its handshake is refused.
#[test]
fn ws_8_not_over_http2() {
    let stage = Stage::new("");
    let client = farthing_tests::http2::Http2::connect(stage.gateway.address);
    let mut refused = client.post("/echo", &stage.key, &serde_json::json!({}));
    assert_eq!(refused.head(), 405);
    // Bytes behind a handshake that is refused are not taken for another request of a tunnel.
    let mut raw = std::net::TcpStream::connect(stage.gateway.address).unwrap();
    let head = format!(
        "GET /echo HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\u{81}\u{5}hello",
        stage.gateway.address
    );
    raw.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = raw.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(stage.upstream.seen().len(), 0);
}
