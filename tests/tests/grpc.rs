//! gRPC upstreams: every kind of call streams, ends with its status, and costs exactly what it should.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

use std::time::Duration;

use ::http::HeaderValue;
use farthing_tests::gateway::{Gateway, free_address, wait_for};
use farthing_tests::grpc_peer::{Call, Ended, GrpcClient, GrpcServer, run};
use farthing_tests::http;
use farthing_tests::lightning::{Offered, TEST_NODE};
use farthing_tests::payer::{TEST, Wallet};
use farthing_tests::tls::Authority;
use farthing_tests::upstream::{FRIENDLY_COST, KEY};
use serde_json::json;

const CREDIT: i64 = 1_000_000_000;
/// What a call at the usual price costs.
const FEE: i64 = 1_000_000;

/// What the server does, by the name of the method.
async fn script(mut call: Call) {
    let path = call.head.uri.path().to_owned();
    match path.as_str() {
        "/t.T/Unary" => {
            let asked = call.messages.next().await.unwrap();
            let (pipe, mut more) = call.answer(&[("x-model", "big"), ("set-cookie", "a=b")]);
            assert_eq!(more.next().await, None);
            pipe.message(asked.to_uppercase());
            pipe.trailers(&[
                ("grpc-status", "0"),
                ("grpc-message", "fine"),
                ("x-took", "3"),
                ("set-cookie", "a"),
            ]);
        }
        "/t.T/Collect" => {
            let all = call.messages.rest().await;
            let (pipe, _) = call.answer(&[]);
            pipe.message(all.join("+"));
            pipe.trailers(&[("grpc-status", "0")]);
        }
        "/t.T/Spread" => {
            let asked = call.messages.next().await.unwrap();
            let (pipe, _) = call.answer(&[]);
            for word in asked.split(' ') {
                pipe.message(word);
            }
            pipe.trailers(&[("grpc-status", "0")]);
        }
        "/t.T/Talk" => {
            let (pipe, mut messages) = call.answer(&[]);
            while let Some(message) = messages.next().await {
                pipe.message(format!("re: {message}"));
            }
            pipe.trailers(&[("grpc-status", "0")]);
        }
        "/t.T/Empty" => {
            let (pipe, _) = call.answer(&[]);
            pipe.trailers(&[("grpc-status", "0")]);
        }
        "/t.T/Refuses" => call.only_trailers(&[("grpc-status", "5"), ("grpc-message", "no such thing")]),
        "/t.T/Forbids" => call.only_trailers(&[("grpc-status", "16"), ("grpc-message", "bad key")]),
        "/t.T/Asks" => call.only_trailers(&[
            ("grpc-status", "13"),
            ("grpc-message", "payment required"),
            ("www-authenticate", "L402 macaroon=\"a\", invoice=\"b\""),
        ]),
        "/t.T/TellsKey" => {
            let (pipe, _) = call.answer(&[]);
            pipe.message("so far");
            pipe.trailers(&[("grpc-status", "2"), ("grpc-message", &format!("bad {KEY}"))]);
        }
        "/t.T/FailsLate" => {
            let (pipe, _) = call.answer(&[]);
            pipe.message("half");
            pipe.trailers(&[("grpc-status", "10"), ("grpc-message", "aborted")]);
        }
        "/t.T/NoTrailers" => {
            let (pipe, _) = call.answer(&[]);
            pipe.message("and?");
        }
        "/t.T/NoTrailersAtAll" => drop(call.answer(&[])),
        "/t.T/Huge" => {
            let (pipe, _) = call.answer(&[]);
            pipe.message("x");
            let long = "y".repeat(40 * 1024);
            pipe.trailers(&[("grpc-status", "0"), ("x-huge", &long)]);
        }
        "/t.T/HugeFirst" => {
            let (pipe, _) = call.answer(&[]);
            pipe.message("x");
            let long = "y".repeat(40 * 1024);
            pipe.trailers(&[("x-huge", &long), ("grpc-status", "0")]);
        }
        "/t.T/Resets" => {
            let (pipe, _) = call.answer(&[]);
            pipe.message("one");
            // What was sent must be out, or the reset overtakes it.
            tokio::time::sleep(Duration::from_millis(100)).await;
            pipe.reset();
        }
        "/t.T/Rejects" | "/t.T/Breaks" => {
            let (pipe, mut messages) = call.answer(&[]);
            messages.next().await.unwrap();
            if path == "/t.T/Breaks" {
                return pipe.reset();
            }
            pipe.trailers(&[("grpc-status", "3"), ("grpc-message", "bad frame")]);
        }
        "/t.T/Floods" => {
            let (pipe, _messages) = call.answer(&[]);
            let piece = bytes::Bytes::from(vec![0; 64 * 1024]);
            for _ in 0..64 {
                pipe.bytes(piece.clone());
            }
            pipe.closed().await;
        }
        "/t.T/Unavailable" => drop(call.answer_with(503, &[])),
        "/v1/chat/completions" => {
            let body = json!({"id": "c", "model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"},
                "finish_reason": "stop"}], "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}});
            let (pipe, _) = call.answer(&[("content-type", "application/json"), ("grpc-status", "0")]);
            pipe.bytes(body.to_string());
            pipe.trailers(&[("x-trailer", "dropped")]);
        }
        "/t.T/Never" => std::future::pending().await,
        "/t.T/Waits" => {
            let (pipe, _messages) = call.answer(&[]);
            pipe.message("here");
            pipe.closed().await;
        }
        other => panic!("{other}"),
    }
}

fn config(upstream: &GrpcServer, routes: &str, more: &str) -> String {
    format!(
        "upstreams: {{ t: {{ url: \"http://{}\", protocol: grpc, metadata: [x-session], auth: {{ bearer: \"${{env:UPSTREAM_KEY}}\" }}{more} }} }}\nroutes: [ {routes} ]\n",
        upstream.address
    )
}

const PER_CALL: &str = "{ match: { path: /t.T/** }, upstream: t, price: { per_call: 0.001 USD } }";

fn selling(upstream: &GrpcServer, routes: &str, more: &str) -> Gateway {
    Gateway::start(upstream.address, &config(upstream, routes, more))
}

struct Stage {
    upstream: GrpcServer,
    gateway: Gateway,
    key: String,
    bearer: String,
}

impl Stage {
    fn new(routes: &str, more: &str) -> Self {
        let upstream = GrpcServer::start(script);
        let gateway = selling(&upstream, routes, more);
        let key = gateway.key("1 TEST");
        let bearer = format!("Bearer {key}");
        Self { upstream, gateway, key, bearer }
    }

    fn spent(&self) -> i64 {
        CREDIT - self.gateway.settled_balance(&self.key)
    }
}

/// GRPC-1, GRPC-2: messages pass while they come, in all four kinds of call; each costs its price once.
#[test]
fn grpc_1_2_calls_of_every_kind_stream_and_are_paid() {
    let stage = Stage::new(PER_CALL, "");
    run(async {
        let client = GrpcClient::connect(stage.gateway.address).await;
        let paid = [("authorization", stage.bearer.as_str())];
        let fields =
            [paid[0], ("x-session", "s1"), ("x-other", "no"), ("grpc-timeout", "20S"), ("cookie", "no")];
        let ended = client.unary("/t.T/Unary", &fields, "hello").await;
        assert_eq!((ended.status(), ended.messages.as_slice()), (("0", "fine"), &["HELLO".to_owned()][..]));
        assert_eq!(ended.trailers["x-took"], "3");
        assert_eq!(ended.trailers["farthing-charge"], "0.001000000 TEST");
        assert!(!ended.trailers.contains_key("set-cookie") && !ended.head.contains_key("set-cookie"));
        let seen = stage.upstream.seen().pop().unwrap();
        let up = |name: &str| seen.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(up("authorization"), Some(format!("Bearer {KEY}")));
        assert_eq!(up("x-session").as_deref(), Some("s1"));
        assert_eq!(up("grpc-timeout").as_deref(), Some("20S"));
        assert_eq!(up("te").as_deref(), Some("trailers"));
        assert_eq!((up("x-other"), up("cookie"), up("accept-encoding")), (None, None, None));

        let (pipe, answer) = client.begin("/t.T/Collect", &paid);
        for word in ["a", "b", "c"] {
            pipe.message(word);
        }
        drop(pipe);
        assert_eq!(answer.await.unwrap().messages.rest().await, ["a+b+c"]);
        assert_eq!(client.unary("/t.T/Spread", &paid, "x y z").await.messages, ["x", "y", "z"]);

        // Each side waits for the other: nothing may wait for the end of anything.
        let (pipe, answer) = client.begin("/t.T/Talk", &paid);
        let mut answer = answer.await.unwrap();
        for word in ["one", "two", "s"] {
            pipe.message(word);
            assert_eq!(answer.messages.next().await.unwrap(), format!("re: {word}"));
        }
        drop(pipe);
        assert_eq!(answer.messages.next().await, None);
        assert_eq!(answer.messages.trailers["grpc-status"], "0");
        assert_eq!(client.unary("/t.T/Empty", &paid, "").await.status(), ("0", ""));
    });
    assert_eq!(stage.spent(), 5 * FEE);
    let books = stage.gateway.books_after(5);
    assert!(books.entries.iter().all(|entry| entry["estimated"] != true));
    // One connection of each thread carries all of its calls.
    assert!(stage.upstream.connections() <= 2, "{}", stage.upstream.connections());
}

/// GRPC-3: refusals are trailers, and nothing goes up.
#[test]
fn grpc_3_refusals_are_in_grpcs_words() {
    let stage = Stage::new(PER_CALL, "");
    let poor = format!("Bearer {}", stage.gateway.key("0.0001 TEST"));
    run(async {
        let client = GrpcClient::connect(stage.gateway.address).await;
        let wrong = "Bearer fk_test_AgImRksB";
        for (path, fields, status, code) in [
            ("/t.T/Unary", vec![], ("13", "payment required"), "payment_required"),
            (
                "/t.T/Unary",
                vec![("authorization", poor.as_str())],
                ("13", "payment required"),
                "insufficient_balance",
            ),
            (
                "/t.T/Unary",
                vec![("authorization", wrong)],
                ("16", "This credit key is not one of ours. Nothing was taken."),
                "key_unknown",
            ),
            (
                "/u.U/Unary",
                vec![],
                ("12", "Nothing is sold at this path. Nothing was taken."),
                "route_not_found",
            ),
            (
                "/t.T/Unary",
                vec![("authorization", &stage.bearer), ("idempotency-key", "a")],
                ("13", "An Idempotency-Key cannot stand for a request that is a stream. Nothing was taken."),
                "bad_request",
            ),
        ] {
            let ended = client.unary(path, &fields, "hello").await;
            assert_eq!(ended.status(), status, "{code}");
            assert_eq!((ended.told("farthing-code"), ended.told("farthing-money")), (code, "nothing_taken"));
            assert!(ended.trailers.is_empty() && ended.messages.is_empty());
            assert_eq!(ended.told("content-type"), "application/grpc");
            assert_eq!(
                ended.head.contains_key("payment-required"),
                status.0 == "13" && code != "bad_request"
            );
        }
    });
    // What is no gRPC is refused in HTTP's words.
    let key = [("x-api-key", stage.key.as_str())];
    let plain = http::post(stage.gateway.address, "/t.T/Unary", &key, &json!({}));
    assert_eq!((plain.status, plain.code().as_str()), (400, "bad_request"));
    assert_eq!(http::get(stage.gateway.address, "/t.T/Unary", &key).status, 405);
    assert_eq!((stage.upstream.seen().len(), stage.spent()), (0, 0));
}

/// GRPC-4, GRPC-5: what fails before a message is free, what fails behind one is the route's policy; what the upstream says of
/// this gateway is no payer's.
#[test]
fn grpc_4_5_6_failures_and_what_they_cost() {
    let routes = "{ match: { path: /t.T/** }, upstream: t, price: { per_call: 0.001 USD } }";
    let lenient = "{ match: { path: /t.T/** }, upstream: t, price: { per_call: 0.001 USD }, metering: { on_upstream_error: { after_output: free } } }";
    let refused = "The upstream refused this gateway.";
    for (routes, fee) in [(routes, FEE), (lenient, 0)] {
        let stage = Stage::new(routes, "");
        let mut owed = 0;
        for (method, status, messages, cost) in [
            ("Refuses", ("5", "no such thing"), 0, 0),
            ("Forbids", ("14", refused), 0, 0),
            ("Asks", ("14", refused), 0, 0),
            ("NoTrailersAtAll", ("2", "The upstream ended without a status."), 0, 0),
            ("Unavailable", ("", ""), 0, 0),
            ("FailsLate", ("10", "aborted"), 1, fee),
            ("NoTrailers", ("2", "The upstream ended without a status."), 1, fee),
            ("Resets", ("14", "The upstream broke off."), 1, fee),
            // Beyond what is read of trailers nothing of them counts.
            ("Huge", ("0", ""), 1, FEE),
            ("HugeFirst", ("2", "The upstream ended without a status."), 1, fee),
            ("TellsKey", ("13", "The answer was cut off."), 1, fee),
        ] {
            let ended = run(async {
                let client = GrpcClient::connect(stage.gateway.address).await;
                client.unary(&format!("/t.T/{method}"), &[("authorization", &stage.bearer)], "").await
            });
            if method != "Unavailable" {
                assert_eq!(ended.status(), status, "{method}");
            }
            assert_eq!(ended.messages.len(), messages, "{method}");
            assert!(!format!("{ended:?}").contains(KEY) && !ended.head.contains_key("www-authenticate"));
            owed += cost;
            assert_eq!(stage.spent(), owed, "{method}");
        }
        stage.gateway.books_after(usize::try_from(owed / FEE).unwrap());
    }
}

/// GRPC-4: what went up and the time cost, where an upstream that had opened the call fails before any message: else whoever
/// can make it fail would use it for nothing. One that fails at once is free.
#[test]
fn grpc_4_what_was_used_is_paid_though_nothing_came() {
    let price = "price: { per_call: 0.1 USD, min: 0.2 USD, per_second: 0.001 USD, per_byte_in: 0.02 USD/MB, hold: 60s }";
    let sold = format!("{{ match: {{ path: /t.T/** }}, upstream: t, {price} }}");
    let lenient =
        sold.replace("hold: 60s }", "hold: 60s }, metering: { on_upstream_error: { after_output: free } }");
    for (routes, is_paid) in [(&sold, true), (&lenient, false)] {
        let stage = Stage::new(routes, "");
        let paid = [("authorization", stage.bearer.as_str())];
        let mut spent = 0;
        for (method, status) in
            [("Rejects", ("3", "bad frame")), ("Breaks", ("14", "The upstream broke off."))]
        {
            let start = std::time::Instant::now();
            run(async {
                let client = GrpcClient::connect(stage.gateway.address).await;
                let (pipe, answer) = client.begin(&format!("/t.T/{method}"), &paid);
                let mut answer = answer.await.unwrap();
                pipe.message("z".repeat(995));
                assert_eq!(answer.messages.rest().await, Vec::<String>::new());
                let trailers = &answer.messages.trailers;
                assert_eq!(
                    (&trailers["grpc-status"], &trailers["grpc-message"]),
                    (&status.0.parse().unwrap(), &status.1.parse().unwrap())
                );
            });
            let most = i64::try_from(start.elapsed().as_millis()).unwrap() * 1000;
            let now = stage.spent();
            let time = now - spent - 1000 * 20;
            match is_paid {
                true => assert!((0..=most).contains(&time) && time % 1000 == 0, "{method}: {time}"),
                false => assert_eq!(now, 0),
            }
            spent = now;
        }
        run(async {
            let client = GrpcClient::connect(stage.gateway.address).await;
            for method in ["Refuses", "Forbids", "NoTrailersAtAll"] {
                let (pipe, answer) = client.begin(&format!("/t.T/{method}"), &paid);
                let mut answer = answer.await.unwrap();
                answer.messages.rest().await;
                drop(pipe);
            }
        });
        assert_eq!(stage.spent(), spent, "nothing went up since the call was open");
        stage.gateway.books_after(if is_paid { 2 } else { 0 });
    }
}

/// GRPC-7: by bytes both ways, to the byte, and by time.
#[test]
fn grpc_7_bytes_and_seconds_are_counted() {
    let routes = [
        "{ match: { path: /t.T/Talk }, upstream: t, body: 1MiB, price: { per_byte_in: 0.02 USD/MB, per_byte_out: 0.05 USD/MB, hold: 1MiB } }",
        "{ match: { path: /t.T/Spread }, upstream: t, price: { per_byte_out: 1 USD/MB, hold: 20B } }",
        "{ match: { path: /t.T/Waits }, upstream: t, price: { per_second: 0.001 USD, hold: 1s } }",
    ];
    let stage = Stage::new(&routes.join(", "), "");
    let paid = [("authorization", stage.bearer.as_str())];
    run(async {
        let client = GrpcClient::connect(stage.gateway.address).await;
        let (pipe, answer) = client.begin("/t.T/Talk", &paid);
        let mut answer = answer.await.unwrap();
        // Both bounds are held for: what the route takes and what is sold at most.
        assert_eq!(answer.head.headers["farthing-hold"], "0.073400320 TEST");
        let long = "x".repeat(300_000);
        pipe.message(&long);
        assert_eq!(answer.messages.next().await.unwrap().len(), 300_004);
        drop(pipe);
        answer.messages.rest().await;
        assert_eq!(answer.messages.trailers["grpc-status"], "0");
        let call = answer.head.headers["farthing-request-id"].to_str().unwrap();
        let told = stage.gateway.operator(&["explain", call]);
        assert_eq!(told["agrees"], true, "{told}");
    });
    let talked = 20 * 300_005 + 50 * 300_009;
    assert_eq!(stage.spent(), talked);
    run(async {
        let client = GrpcClient::connect(stage.gateway.address).await;
        let cut = client.unary("/t.T/Spread", &paid, "aaaa bbbb cccc dddd").await;
        assert_eq!(cut.messages, ["aaaa", "bbbb"]);
        assert_eq!(cut.status().0, "8");
    });
    assert_eq!(stage.spent(), talked + 20 * 1000);
    run(async {
        let client = GrpcClient::connect(stage.gateway.address).await;
        let cut = client.unary("/t.T/Waits", &paid, "").await;
        assert_eq!((cut.messages.len(), cut.status().0), (1, "4"));
    });
    assert_eq!(stage.spent(), talked + 20 * 1000 + 1_000_000, "a second and no more");
}

/// GRPC-8: a request that is a stream has bounds of size and time.
#[test]
fn grpc_8_a_request_stays_within_its_bounds() {
    let server = "server: { listen: [\"{address}\"], threads: 1, timeouts: { body: 1s } }\n";
    let upstream = GrpcServer::start(script);
    let routes = "{ match: { path: /t.T/** }, upstream: t, body: 1000B, price: { per_call: 0.001 USD } }";
    let more = ", timeouts: { first_byte: 2s, stream_idle: 1s }";
    let gateway = Gateway::start(upstream.address, &format!("{server}{}", config(&upstream, routes, more)));
    let key = gateway.key("1 TEST");
    let bearer = format!("Bearer {key}");
    let paid = [("authorization", bearer.as_str())];
    run(async {
        let client = GrpcClient::connect(gateway.address).await;
        // Before the answer: refused, and free.
        let (pipe, answer) = client.begin("/t.T/Collect", &paid);
        pipe.bytes(vec![0; 1001]);
        let refused = answer.await.unwrap();
        assert_eq!(refused.head.headers["farthing-code"], "body_too_large");
        drop(pipe);
        // Nothing at all.
        let (pipe, answer) = client.begin("/t.T/Collect", &paid);
        assert_eq!(answer.await.unwrap().head.headers["farthing-code"], "request_timeout");
        drop(pipe);
        // Begun, and then nothing from either side.
        let (pipe, answer) = client.begin("/t.T/Collect", &paid);
        pipe.message("a");
        assert_eq!(answer.await.unwrap().head.headers["farthing-code"], "upstream_timeout");
        drop(pipe);
    });
    assert_eq!(CREDIT - gateway.settled_balance(&key), 0);
    run(async {
        let client = GrpcClient::connect(gateway.address).await;
        // A client that goes on sending is alive, although the answer takes its time.
        let (pipe, answer) = client.begin("/t.T/Collect", &paid);
        for _ in 0..5 {
            pipe.message("a");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        drop(pipe);
        assert_eq!(answer.await.unwrap().messages.rest().await, ["a+a+a+a+a"]);
        // During the answer: it was given, and is charged; so is one in which both fall silent.
        let (pipe, answer) = client.begin("/t.T/Talk", &paid);
        pipe.message("a");
        let mut answer = answer.await.unwrap();
        assert_eq!(answer.messages.next().await.unwrap(), "re: a");
        pipe.bytes(vec![0; 1001]);
        assert_eq!(answer.messages.rest().await, Vec::<String>::new());
        assert_eq!(answer.messages.trailers["grpc-status"], "8");
        let silent = client.unary("/t.T/Waits", &paid, "").await;
        assert_eq!(silent.status(), ("14", "The upstream broke off."));
    });
    assert_eq!(CREDIT - gateway.settled_balance(&key), 3 * FEE);
}

/// GRPC-9: who leaves ends the call upstream too; before an answer for nothing, behind one at its price.
#[test]
fn grpc_9_a_client_that_leaves_ends_it() {
    let stage = Stage::new(PER_CALL, "");
    let paid = [("authorization", stage.bearer.as_str())];
    run(async {
        let client = GrpcClient::connect(stage.gateway.address).await;
        let (pipe, answer) = client.begin("/t.T/Never", &paid);
        pipe.message("a");
        let waiting = tokio::time::timeout(Duration::from_millis(300), answer).await;
        assert!(waiting.is_err());
        drop(pipe);
    });
    assert_eq!(stage.spent(), 0);
    run(async {
        let client = GrpcClient::connect(stage.gateway.address).await;
        let (_pipe, answer) = client.begin("/t.T/Waits", &paid);
        let mut answer = answer.await.unwrap();
        assert_eq!(answer.messages.next().await.unwrap(), "here");
        assert_eq!(stage.gateway.metric("farthing_holds_open"), 1);
    });
    assert_eq!(stage.spent(), FEE);
}

/// GRPC-10: the connection is shared, replaced when it is gone, and never trusted without its certificate.
#[test]
fn grpc_10_connections_are_shared_verified_and_replaced() {
    let ours = Authority::new("ours");
    let theirs = Authority::new("theirs");
    let (here, dead) = (free_address(), free_address());
    let serve = |at, authority: &Authority, protocol: &str| {
        GrpcServer::start_with(at, Some(authority.issue("localhost").server(&[protocol])), script)
    };
    let good = serve(here, &ours, "h2");
    let strange = serve(free_address(), &theirs, "h2");
    let mute = serve(free_address(), &ours, "http/1.1");
    let root = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(root.path(), ours.pem()).unwrap();
    let at = |name: &str, port: u16, scheme: &str| {
        let ca =
            if scheme == "https" { format!(", ca: \"{}\"", root.path().display()) } else { String::new() };
        format!("{name}: {{ url: \"{scheme}://localhost:{port}\", protocol: grpc{ca} }}")
    };
    let upstreams = [
        at("good", good.address.port(), "https"),
        at("strange", strange.address.port(), "https"),
        at("mute", mute.address.port(), "https"),
        at("dead", dead.port(), "http"),
    ];
    let route = |name: &str, method: &str| {
        format!("{{ match: {{ path: /t.T/{method} }}, upstream: {name}, price: {{ per_call: 0.001 USD }} }}")
    };
    let routes =
        [route("good", "Unary"), route("strange", "Collect"), route("mute", "Spread"), route("dead", "Talk")];
    let gateway = Gateway::start(
        here,
        &format!(
            "server: {{ listen: [\"{{address}}\"], threads: 1 }}\nupstreams: {{ {} }}\nroutes: [ {} ]\n",
            upstreams.join(", "),
            routes.join(", ")
        ),
    );
    let key = gateway.key("1 TEST");
    let bearer = format!("Bearer {key}");
    let paid = [("authorization", bearer.as_str())];
    run(async {
        let client = GrpcClient::connect(gateway.address).await;
        for _ in 0..3 {
            assert_eq!(client.unary("/t.T/Unary", &paid, "a").await.messages, ["A"]);
        }
        for path in ["/t.T/Collect", "/t.T/Spread", "/t.T/Talk"] {
            let refused = client.unary(path, &paid, "a").await;
            assert_eq!(
                refused.status(),
                ("14", "The upstream cannot be reached. Nothing was taken."),
                "{path}"
            );
            assert_eq!(refused.told("farthing-code"), "upstream_failed");
        }
    });
    assert_eq!(good.connections(), 1);
    assert_eq!((strange.seen().len(), mute.seen().len()), (0, 0), "nothing was sent");
    assert_eq!(CREDIT - gateway.settled_balance(&key), 3 * FEE);
    // What was not there comes to be there.
    let late = GrpcServer::start_with(dead, None, script);
    run(async {
        let client = GrpcClient::connect(gateway.address).await;
        assert_eq!(client.unary("/t.T/Talk", &paid, "a").await.messages, ["re: a"]);
    });
    assert_eq!((late.connections(), CREDIT - gateway.settled_balance(&key)), (1, 4 * FEE));
}

/// Any API may stand behind HTTP/2: its requests are whole, and its answers metered, as ever.
#[test]
fn grpc_10_other_apis_over_the_same_connection() {
    let upstream = GrpcServer::start(script);
    let gateway = Gateway::start(
        upstream.address,
        &format!(
            "server: {{ listen: [\"{{address}}\"], threads: 1 }}\nupstreams: {{ o: {{ url: \"http://{}\", protocol: h2, dialect: openai }} }}\n",
            upstream.address
        ),
    );
    let key = gateway.key("1 TEST");
    let ask = json!({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]});
    for calls in 1..4 {
        let answer = http::post(gateway.address, "/v1/chat/completions", &[("x-api-key", &key)], &ask);
        assert_eq!((answer.status, answer.json()["usage"]["total_tokens"].as_u64()), (200, Some(15)));
        assert!(answer.trailers.is_empty() && answer.header("grpc-status").is_none());
        assert_eq!(CREDIT - gateway.settled_balance(&key), calls * FRIENDLY_COST);
    }
    assert_eq!(upstream.connections(), 1);
    let seen = upstream.seen().pop().unwrap();
    assert!(seen.headers.contains_key("content-length") && !seen.headers.contains_key("te"));
}

/// GRPC-10: who does not read what he pays for holds up nobody else: calls have room on their connection, and where it is full
/// there is another.
#[test]
fn grpc_10_who_does_not_read_stalls_nobody() {
    let server = "server: { listen: [\"{address}\"], threads: 1 }\n";
    let limits = "limits: { default: { rpm: 100000, concurrent: 1000 } }\n";
    let upstream = GrpcServer::start(script);
    let gateway =
        Gateway::start(upstream.address, &format!("{server}{limits}{}", config(&upstream, PER_CALL, "")));
    let bearer = format!("Bearer {}", gateway.key("1 TEST"));
    let paid = [("authorization", bearer.as_str())];
    run(async {
        let mut unread = Vec::new();
        for _ in 0..7 {
            let client = GrpcClient::connect(gateway.address).await;
            for _ in 0..20 {
                let (pipe, answer) = client.begin("/t.T/Floods", &paid);
                unread.push((pipe, answer.await.unwrap()));
            }
        }
        let other = GrpcClient::connect(gateway.address).await;
        let start = std::time::Instant::now();
        // For as long as it takes to fill whatever can be filled.
        while start.elapsed() < Duration::from_secs(3) {
            assert_eq!(other.unary("/t.T/Unary", &paid, "a").await.messages, ["A"]);
        }
        assert_eq!((unread.len(), upstream.connections()), (140, 2));
    });
}

/// GRPC-10: an upstream that dies in a call, and one that comes back.
#[test]
fn grpc_10_an_upstream_may_die_and_come_back() {
    use std::sync::mpsc;
    let address = free_address();
    // A server whose connections can be cut: behind a plain pipe of bytes.
    let behind = GrpcServer::start(script);
    let (cut, cuts) = mpsc::channel::<()>();
    let target = behind.address;
    std::thread::spawn(move || {
        run(async move {
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let mut up = tokio::net::TcpStream::connect(target).await.unwrap();
                let is_cut = async {
                    while cuts.try_recv().is_err() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut tcp, &mut up) => {}
                    () = is_cut => {}
                }
            }
        });
    });
    let routes = PER_CALL;
    let gateway = Gateway::start(
        address,
        &format!(
            "server: {{ listen: [\"{{address}}\"], threads: 1 }}\nupstreams: {{ t: {{ url: \"http://{address}\", protocol: grpc }} }}\nroutes: [ {routes} ]\n"
        ),
    );
    let key = gateway.key("1 TEST");
    let bearer = format!("Bearer {key}");
    let paid = [("authorization", bearer.as_str())];
    run(async {
        let client = GrpcClient::connect(gateway.address).await;
        assert_eq!(client.unary("/t.T/Unary", &paid, "a").await.messages, ["A"]);
        let (pipe, answer) = client.begin("/t.T/Waits", &paid);
        let mut answer = answer.await.unwrap();
        assert_eq!(answer.messages.next().await.unwrap(), "here");
        let (unanswered, never) = client.begin("/t.T/Never", &paid);
        unanswered.message("a");
        let seen = || behind.seen().iter().any(|head| head.uri.path() == "/t.T/Never");
        while !seen() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cut.send(()).unwrap();
        assert_eq!(answer.messages.rest().await, Vec::<String>::new());
        assert_eq!(answer.messages.trailers["grpc-status"], "14");
        let never = never.await.unwrap();
        assert_eq!(never.head.headers["farthing-code"], "upstream_failed");
        drop((pipe, unanswered));
        assert_eq!(client.unary("/t.T/Unary", &paid, "b").await.messages, ["B"]);
    });
    assert_eq!(behind.connections(), 2);
    assert_eq!(CREDIT - gateway.settled_balance(&key), 3 * FEE);
    wait_for("the books", || (gateway.metric("farthing_holds_open") == 0).then_some(()));
}

/// An answer of HTTP with the head of one of gRPC, for what reads challenges.
fn as_http(ended: &Ended) -> http::Answer {
    let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
    let headers = ended.head.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    http::Answer { status: 402, headers, body: Vec::new(), trailers: Vec::new() }
}

/// GRPC-11: a payment that was made for a call pays for it once, whatever is sent behind it.
#[test]
fn grpc_11_a_payment_stands_for_method_and_target() {
    let stage = Stage::new(PER_CALL, "");
    let quoted = http::request(
        stage.gateway.address,
        "POST",
        "/farthing/quote?path=/t.T/Unary",
        &[],
        b"some body, which does not matter",
    );
    assert_eq!(quoted.json()["ceiling"]["amount"], "0.001000000");
    let payment = Wallet::new(7).pay(&quoted, TEST).v2();
    let paid = [("payment-signature", payment.as_str())];
    run(async {
        let client = GrpcClient::connect(stage.gateway.address).await;
        let first = client.unary("/t.T/Unary", &paid, "hello").await;
        assert_eq!((first.status().0, first.messages.as_slice()), ("0", &["HELLO".to_owned()][..]));
        assert!(first.head.contains_key("farthing-key"));
        for (path, message, code) in
            [("/t.T/Unary", "hello", "already_served"), ("/t.T/Unary", "other", "already_served")]
        {
            let again = client.unary(path, &paid, message).await;
            assert_eq!((again.told("farthing-code"), again.told("farthing-money")), (code, "captured"));
            assert!(again.messages.is_empty());
        }
        let elsewhere = client.unary("/t.T/Collect", &paid, "hello").await;
        assert!(elsewhere.messages.is_empty() && !elsewhere.told("farthing-code").is_empty());
    });
    assert_eq!(stage.upstream.seen().len(), 1);
    let books = stage.gateway.books_after(1);
    assert_eq!((books.count("deposit"), books.count("capture")), (2, 1));
}

/// L402-2: a call is refused with a challenge in its trailers, paid over Lightning, and made; what is left pays for the next.
#[test]
fn l402_2_a_grpc_call_is_paid_over_lightning() {
    let rails = TEST_NODE.replace("test: {},", "test: {}, deposit: 0.001 USD,");
    let upstream = GrpcServer::start(script);
    // Ten bytes a call, of fifteen that are held for.
    let routes = "{ match: { path: /t.T/** }, upstream: t, price: { per_byte_out: 10 USD/MB, hold: 15B } }";
    let gateway = Gateway::start(upstream.address, &format!("{rails}{}", config(&upstream, routes, "")));
    run(async {
        let client = GrpcClient::connect(gateway.address).await;
        let unpaid = client.unary("/t.T/Unary", &[], "hello").await;
        assert_eq!(unpaid.status(), ("13", "payment required"));
        let paid = Offered::of(&as_http(&unpaid)).paid();
        let paid = [("authorization", paid.as_str())];
        for _ in 0..9 {
            let ended = client.unary("/t.T/Unary", &paid, "hello").await;
            assert_eq!((ended.status().0, ended.messages.len()), ("0", 1), "{ended:?}");
            assert_eq!(ended.trailers["farthing-charge"], "0.000100000 TEST");
        }
        let empty = client.unary("/t.T/Unary", &paid, "hello").await;
        assert_eq!(
            (empty.status(), empty.told("farthing-code")),
            (("13", "payment required"), "insufficient_balance")
        );
        assert!(Offered::find(&as_http(&empty)).is_some());
        let seen = upstream.seen();
        assert!(seen.iter().all(|head| head.headers["authorization"] == format!("Bearer {KEY}")));
        assert_eq!(seen.len(), 9);
    });
    let books = gateway.books_after(9);
    assert_eq!((books.count("deposit"), books.count("capture")), (1, 9));
}
