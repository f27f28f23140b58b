//! The attack table of x402.md section 13, over the real gateway: one test for each row that no other file has. Which test
//! stands for which row is told in specs/x402.md.

#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use farthing_tests::crowd::at_once;
use farthing_tests::facilitator::{Conduct, Facilitator, Reply, failure};
use farthing_tests::gateway::{Gateway, nano, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::payer::{BASE_SEPOLIA, Payment, TEST, Wallet, challenge, encode};
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, Scene, Signs, ask, pay};
use farthing_tests::socket::Socket;
use farthing_tests::upstream::{FRIENDLY_COST, STREAM_HEAD, Seen, Upstream, friendly_answer, plain};
use serde_json::{Value, json};

const MESSAGES: &str = "/v1/messages";

/// A stream of numbers that is the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// A1: one payment on a thousand requests. The first is held at the facilitator until all others have been told that it is
/// being served.
#[test]
fn a1_one_payment_on_a_thousand_requests() {
    const CLIENTS: usize = 37;
    const EACH: usize = 27;
    for signs in Signs::ALL {
        let open = Arc::new(AtomicBool::new(false));
        let upstream = Upstream::friendly();
        let facilitator = Facilitator::start([Conduct::SettleWhen(Arc::clone(&open))]);
        let rails = Facilitator::rails_with(&[facilitator.address], signs.keys());
        let rails = rails.replace("settle_timeout: 1s", "settle_timeout: 20s");
        let gateway = Gateway::start(upstream.address, &rails);
        let payment = signs.payment(&gateway, 1);
        let first = std::thread::scope(|scope| {
            let first = scope.spawn(|| pay(&gateway, &payment));
            wait_for("the settlement to begin", || (facilitator.settles().len() == 1).then_some(()));
            let refused = AtomicUsize::new(0);
            at_once(CLIENTS, |at| {
                for nth in 0..EACH {
                    // Version 1 has no permits.
                    let is_v1 = signs == Signs::Transfer && (at + nth) % 2 == 0;
                    let answer = if is_v1 {
                        http::post(gateway.address, CHAT, &[("x-payment", &payment.v1())], &ask())
                    } else {
                        pay(&gateway, &payment)
                    };
                    assert_refused(&answer, 409, "in_progress", "first_attempt_decides");
                    refused.fetch_add(1, Ordering::SeqCst);
                }
            });
            assert_eq!(refused.load(Ordering::SeqCst), 999);
            assert_eq!((upstream.hits(), facilitator.settles().len()), (0, 1));
            open.store(true, Ordering::SeqCst);
            first.join().unwrap()
        });
        assert_eq!(first.status, 200, "{}", first.text());
        assert_eq!((upstream.hits(), facilitator.transfers()), (1, 1));
        let books = gateway.books_after(1);
        assert_eq!((books.count("deposit"), books.count("capture")), (1, 1));
    }
}

/// A2: a permit that was served opens nothing more, at once, after a crash and after a restore from a backup that knows it;
/// nor does another payment under its nonce.
#[test]
fn a2_a_served_permit_opens_nothing_again() {
    let mut scene = Scene::signing(Signs::Permit, []);
    scene.assert_served_once(&scene.pay(), "first");
    let wallet = Wallet::new(1);
    let backup = scene.gateway.folder().join("backup.redb").display().to_string();
    scene.gateway.operator(&["backup", "--to", &backup]);
    for step in ["at once", "after a crash", "after a restore"] {
        match step {
            "after a crash" => scene.gateway.crash_and_restart(),
            "after a restore" => {
                scene.gateway.signal(9);
                scene.gateway.wait();
                std::fs::remove_file(scene.gateway.folder().join("store/farthing.redb")).unwrap();
                scene.gateway.operator(&["restore", "--from", &backup]);
                scene.gateway.restart();
            }
            _ => {}
        }
        let again = scene.pay();
        assert_eq!(again.header("farthing-key"), None, "{step}");
        match again.status {
            200 => assert_eq!(again.header("farthing-replayed"), Some("true"), "{step}"),
            _ => assert_refused(&again, 409, "already_served", "captured"),
        }
        // The same nonce signed for another call, at another price.
        let mut dearer = ask();
        dearer["max_tokens"] = json!(2000);
        let offered = http::post(scene.gateway.address, CHAT, &[], &dearer);
        let mut other = wallet.permit(&offered, |offer| offer["network"] == BASE_SEPOLIA);
        let nonce = scene.payment.payload["permit2Authorization"]["nonce"].as_str().unwrap();
        let nonce = wire::x402::uint256::parse(nonce).unwrap();
        other.payload = wallet.permit_payload(&other.accepted, |permit| permit.nonce = nonce);
        let header = other.v2();
        let refused = http::post(scene.gateway.address, CHAT, &[("payment-signature", &header)], &dearer);
        assert_refused(&refused, 403, "verification_failed", "nothing_taken");
        assert_eq!((scene.upstream.hits(), scene.facilitator.transfers()), (1, 1), "{step}");
    }
    assert_eq!(scene.gateway.books().count("deposit"), 1);
}

/// A2: one Permit2 nonce is one payment, under `exact` and under `upto`, whichever comes first.
#[test]
fn a2_one_permit_nonce_as_exact_and_as_upto() {
    for first in [Signs::Permit, Signs::Ceiling] {
        let second = if first == Signs::Permit { Signs::Ceiling } else { Signs::Permit };
        let upstream = Upstream::friendly();
        let facilitator = Facilitator::start([]);
        let rails = Facilitator::rails_with(&[facilitator.address], ", schemes: [permit2, upto]");
        let gateway = Gateway::start(upstream.address, &rails);
        let payment = first.payment(&gateway, 1);
        let nonce = payment.payload["permit2Authorization"]["nonce"].as_str().unwrap();
        let nonce = wire::x402::uint256::parse(nonce).unwrap();
        let mut other = second.payment(&gateway, 1);
        other.payload = Wallet::new(1).permit_payload(&other.accepted, |permit| permit.nonce = nonce);
        assert_eq!(pay(&gateway, &payment).status, 200, "{first:?}");
        wait_for("the settlement", || (facilitator.transfers() == 1).then_some(()));
        let again = wait_for("the first call to be written down", || {
            Some(pay(&gateway, &other)).filter(|answer| answer.refusal() != "in_progress")
        });
        // The same request under the same nonce: its own answer again, and no second call.
        match again.status {
            200 => assert_eq!(again.header("farthing-replayed"), Some("true"), "{first:?}"),
            status => assert!([402, 403, 409].contains(&status), "{first:?}: {}", again.text()),
        }
        assert_eq!((upstream.hits(), facilitator.transfers()), (1, 1), "{first:?}");
        assert_eq!(gateway.books_after(1).count("deposit"), 1);
    }
}

/// A4: the payer spends the nonce, or moves his money, between the check and the settlement. The money comes first:
/// nobody works for nothing.
#[test]
fn a4_cancelled_between_check_and_settlement() {
    for (signs, code) in [
        (Signs::Transfer, "invalid_exact_evm_nonce_already_used"),
        (Signs::Transfer, "invalid_exact_evm_insufficient_balance"),
        (Signs::Permit, "permit2_invalid_nonce"),
        (Signs::Permit, "permit2_insufficient_balance"),
    ] {
        let scene = Scene::signing(signs, [Conduct::Only(failure(code))]);
        assert_refused(&scene.pay(), 402, "settlement_failed", "nothing_taken");
        assert_eq!((scene.upstream.hits(), scene.facilitator.transfers()), (0, 0), "{code}");
        let books = scene.gateway.books();
        assert_eq!((books.count("deposit"), books.count("capture")), (0, 0), "{code}");
    }
}

/// A5: a payment for one route, model or body opens no other. Version 2 is bound to its request; version 1 names no
/// request, and is taken for what it is worth: once, and never for more than was paid.
#[test]
fn a5_a_payment_for_one_request_opens_no_other() {
    let upstream = Upstream::friendly();
    let facilitator = Facilitator::start([]);
    let rails = Facilitator::rails_with(&[facilitator.address], ", schemes: [exact, permit2]");
    let prices = "prices: { m: { input: 1 USD/Mtok, output: 4 USD/Mtok }, dear: { input: 2 USD/Mtok, output: 9 USD/Mtok } }\n";
    let gateway = Gateway::start(upstream.address, &format!("{rails}{prices}"));
    let call = |model: &str, text: &str, tokens: u64| json!({"model": model, "max_tokens": tokens, "messages": [{"role": "user", "content": text}]});
    let requests = [
        (CHAT, call("m", "hi", 1000)),
        (CHAT, call("m", "ho", 1000)),
        (CHAT, call("m", "hi", 900)),
        (CHAT, call("dear", "hi", 1000)),
        (MESSAGES, call("m", "hi", 1000)),
        (MESSAGES, call("dear", "hi", 1000)),
    ];
    let offers: Vec<Answer> =
        requests.iter().map(|(path, body)| http::post(gateway.address, path, &[], body)).collect();
    let wallet = Wallet::new(1);
    let by_permit = |offer: &Value| offer["extra"]["assetTransferMethod"] == "permit2";
    let mut served = 0;
    for (at, offered) in offers.iter().enumerate() {
        let payments =
            [wallet.pay(offered, TEST), wallet.pay(offered, BASE_SEPOLIA), wallet.permit(offered, by_permit)];
        for payment in &payments {
            for (path, body) in requests.iter().enumerate().filter(|(to, _)| *to != at).map(|(_, to)| to) {
                let answer = http::post(gateway.address, path, &[("payment-signature", &payment.v2())], body);
                assert_eq!(answer.json()["money"], "nothing_taken", "{at} {path} {body}: {}", answer.text());
                assert_eq!(answer.status, 402, "{at} {path} {body}: {}", answer.text());
            }
        }
        assert_eq!((upstream.hits(), facilitator.transfers()), (served, 0));
        // Version 1: it may pay another call of the very same price, and no dearer one; and it pays one.
        let payment = &payments[0];
        let mut opened = 0;
        for (to, (path, body)) in requests.iter().enumerate().filter(|(to, _)| *to != at) {
            let header = payment.v1();
            let answer = wait_for("a call of before to be written down", || {
                let answer = http::post(gateway.address, path, &[("x-payment", &header)], body);
                (answer.refusal() != "in_progress").then_some(answer)
            });
            if answer.status == 200 {
                opened += 1;
                let asked = Wallet::new(9).pay(&offers[to], TEST).nano();
                assert_eq!(asked, payment.nano(), "{at} for {to}");
                let charged = payment.nano() - gateway.settled_balance(answer.must("farthing-key"));
                assert!(charged <= payment.nano());
            } else {
                assert_eq!(answer.json()["money"], "nothing_taken", "{}", answer.text());
            }
        }
        assert!(opened <= 1, "{at} opened {opened}");
        served += opened;
        assert_eq!(upstream.hits(), served);
    }
    assert_eq!(gateway.books_after(served).count("deposit"), served);
}

/// A6: a cheap quote and a bigger body. Whatever two requests are taken, and whatever the upstream says was used: nothing is
/// charged that was not paid.
#[test]
fn a6_no_pair_of_bodies_is_charged_more_than_was_paid() {
    let upstream = Upstream::start(|request, stream| {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        // All that was asked for, and the input as long as it is.
        let (output, input) = (body["max_tokens"].as_u64().unwrap(), request.body.len());
        let text = format!(
            r#"{{"object":"chat.completion","choices":[{{"index":0,"message":{{"content":"a"}}}}],"usage":{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{}}}}}"#,
            u64::try_from(input).unwrap() + output
        );
        let _ = stream.write_all(&plain(200, "application/json", &text));
    });
    let gateway = Gateway::start(upstream.address, "");
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut served = 0;
    for round in 0..60 {
        let mut body = || {
            let text = "word ".repeat(1 + numbers.below(60));
            json!({"model": "m", "max_tokens": 1 + numbers.below(2000), "n": 1 + numbers.below(2),
                   "messages": [{"role": "user", "content": text}]})
        };
        let (quoted, sent) = (body(), body());
        let offered = http::post(gateway.address, CHAT, &[], &quoted);
        let wallet = Wallet::new(u8::try_from(round + 1).unwrap());
        for (payment, is_v1) in [(wallet.pay(&offered, TEST), true), (wallet.pay(&offered, TEST), false)] {
            let (v1, v2) = (payment.v1(), payment.v2());
            let field = if is_v1 { ("x-payment", v1.as_str()) } else { ("payment-signature", v2.as_str()) };
            let answer = http::post(gateway.address, CHAT, &[field], &sent);
            if answer.status != 200 {
                assert_eq!(answer.status, 402, "{}", answer.text());
                assert_eq!(answer.json()["money"], "nothing_taken", "{}", answer.text());
                // The payment is as good as before, for what it was made for.
                assert_eq!(http::post(gateway.address, CHAT, &[field], &quoted).status, 200);
            }
            served += 1;
        }
        let account = {
            let payment = wallet.pay(&offered, TEST);
            let payer = payment.payload["authorization"]["from"].as_str().unwrap().to_owned();
            wire::hex::encode(&proof::account_id::test(&wire::hex::decode_array(&payer).unwrap()))
        };
        let books = gateway.books_after(served);
        assert!(books.balance(&account) >= 0, "{quoted} {sent}");
        assert_eq!(gateway.counted(r#"farthing_overrun_loss_nano_total{asset="TEST"}"#), 0);
    }
}

/// A13: a facilitator that never answers, and payments that wait for it: who pays from a balance is served meanwhile.
#[test]
fn a13_a_slow_facilitator_stalls_nobody_else() {
    const WAITING: usize = 40;
    let upstream = Upstream::friendly();
    let open = Arc::new(AtomicBool::new(false));
    let facilitator = Facilitator::start((0..WAITING).map(|_| Conduct::SettleWhen(Arc::clone(&open))));
    let rails = Facilitator::rails(&[facilitator.address]);
    let rails = rails.replace("settle_timeout: 1s", "settle_timeout: 20s, settle_at_once: 64");
    let gateway = Gateway::start(upstream.address, &rails);
    let key = gateway.key("1 TEST");
    let payments: Vec<Payment> =
        (0..WAITING).map(|n| Signs::Transfer.payment(&gateway, u8::try_from(n + 1).unwrap())).collect();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = payments.iter().map(|payment| scope.spawn(|| pay(&gateway, payment))).collect();
        wait_for("all to be asked", || (facilitator.settles().len() == WAITING).then_some(()));
        for _ in 0..100 {
            let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &ask());
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        // The other rail is none of its business either.
        let offered = http::post(gateway.address, CHAT, &[], &ask());
        let other = Wallet::new(99).pay(&offered, TEST);
        assert_eq!(pay(&gateway, &other).status, 200);
        assert_eq!(upstream.hits(), 101);
        open.store(true, Ordering::SeqCst);
        assert!(waiting.into_iter().all(|call| call.join().unwrap().status == 200));
    });
    assert_eq!(facilitator.transfers(), u32::try_from(WAITING).unwrap());
}

/// What a lenient server behind us may make of a target: the route it would take.
fn leniently(target: &str) -> String {
    let path = target.split(['?', '#']).next().unwrap();
    let mut decoded = path.to_owned();
    for _ in 0..3 {
        let bytes = decoded.as_bytes();
        let mut next = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let digits = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
            let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            match byte {
                Some(byte) if bytes[at] == b'%' => {
                    next.push(byte);
                    at += 3;
                }
                _ => {
                    next.push(bytes[at]);
                    at += 1;
                }
            }
        }
        decoded = String::from_utf8_lossy(&next).into_owned();
    }
    let decoded = decoded.replace('\\', "/").to_ascii_lowercase();
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment.split(';').next().unwrap().trim() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

/// A14: no spelling of a path is priced as one thing and read by the server behind as another. Fuzzed; where a request is
/// forwarded, what arrives is what was sent, and even the most lenient reading of it is the route that was paid for.
#[test]
fn a14_the_price_is_that_of_the_bytes_forwarded() {
    let upstream = Upstream::friendly();
    let routes = "routes: [\
        { name: cheap, match: { method: POST, path: \"/cheap/**\" }, upstream: openai, price: { per_call: 0.001 USD } }, \
        { name: one, match: { method: POST, path: \"/tools/one\" }, upstream: openai, price: { per_call: 0.001 USD } }, \
        { name: dear, match: { method: POST, path: \"/dear/**\" }, upstream: openai, price: { per_call: 0.1 USD } }, \
        { name: all, match: { method: POST, path: \"/tools/**\" }, upstream: openai, price: { per_call: 0.1 USD } }]\n";
    let gateway = Gateway::start(upstream.address, routes);
    let key = gateway.key("1000 TEST");
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let parts = [
        "/",
        "//",
        "/./",
        "/../",
        "/%2e/",
        "/%2e%2e/",
        "/%2E./",
        "/.%2e/",
        "%2f",
        "%2F",
        "%5c",
        "\\",
        ";",
        ";a=b",
        "/;/",
        "%3b",
        "/cheap",
        "/CHEAP",
        "/dear",
        "/Dear",
        "/%64ear",
        "/tools",
        "/one",
        "/two",
        "/o%6ee",
        "?x=/dear",
        "?/../dear",
        "#/dear",
        "%00",
        "%0a",
        "%252e%252e",
        "%252f",
        "/..;/",
        "/.;/",
        "x",
        "%",
        "%zz",
        "\u{e9}",
        "%c3%a9",
        "%c0%ae",
        "/..%00/",
        "/.../",
        "%20",
        "+",
        "&",
        "=",
        "@",
        ":",
    ];
    let price_of = |path: &str| -> Option<i64> {
        let rest = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
        match path {
            "/tools/one" => Some(1_000_000),
            _ if rest("/cheap") => Some(1_000_000),
            _ if rest("/dear") => Some(100_000_000),
            _ if rest("/tools") => Some(100_000_000),
            _ => None,
        }
    };
    let mut targets: BTreeSet<String> = BTreeSet::from(
        [
            "/cheap/x",
            "/dear/x",
            "/tools/one",
            "/tools/two",
            "/cheap/../dear/x",
            "/cheap/%2e%2e/dear/x",
            "/dear/x?y=1",
        ]
        .map(str::to_owned),
    );
    while targets.len() < 1500 {
        let start = *numbers.of(&["/cheap", "/dear", "/tools/one", "/tools", "/cheap/x", ""]);
        let rest: String = (0..1 + numbers.below(4)).map(|_| *numbers.of(&parts)).collect();
        let target = format!("{start}{rest}");
        if target.starts_with('/') && !target.contains(' ') {
            targets.insert(target);
        }
    }
    let mut forwarded = 0;
    let mut balance = gateway.settled_balance(&key);
    for target in &targets {
        let (hits, fields) = (upstream.hits(), [("x-api-key", key.as_str())]);
        let Some(answer) = http::try_request(gateway.address, "POST", target, &fields, b"{}") else {
            assert_eq!(upstream.hits(), hits, "{target}");
            continue;
        };
        let seen = upstream.seen().split_off(hits);
        if seen.is_empty() {
            assert_ne!(answer.status, 200, "{target}");
            continue;
        }
        forwarded += 1;
        assert_eq!(seen.len(), 1, "{target}");
        // A fragment is no part of a request; the rest arrives as it was sent.
        assert_eq!(seen[0].target, target.split('#').next().unwrap(), "{target}");
        let after = gateway.settled_balance(&key);
        let path = seen[0].target.split('?').next().unwrap();
        let expected = price_of(&leniently(path)).or_else(|| price_of(path));
        assert_eq!(Some(balance - after), expected, "{target} is read as {}", leniently(&seen[0].target));
        balance = after;
    }
    assert!(forwarded >= 100, "{forwarded}");
}

/// A credential of some kind, spoiled somewhere.
fn spoiled(numbers: &mut Numbers, good: &str) -> String {
    let mut bytes: Vec<u8> = good.bytes().collect();
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
        match numbers.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, *numbers.of(b"A/+=-_. ,{\"~")),
            2 => bytes[at] = *numbers.of(b"AQgwz09+/-_=!\x7f\xff"),
            3 => {
                bytes.remove(at);
            }
            _ => bytes.extend_from_within(..at),
        }
        if bytes.is_empty() {
            bytes.push(b'A');
        }
    }
    bytes.retain(|byte| !matches!(byte, b'\r' | b'\n'));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A15, X402-12: no error on the way of a payment ends in a call. A16: and none costs a facilitator anything.
#[test]
fn a15_a16_garbage_is_never_forwarded_and_asks_nobody() {
    let upstream = Upstream::friendly();
    let facilitator = Facilitator::start([]);
    let rails = Facilitator::rails_with(&[facilitator.address], ", schemes: [exact, permit2]");
    let gateway = Gateway::start(upstream.address, &rails);
    let offered = http::post(gateway.address, CHAT, &[], &ask());
    let by_permit = |offer: &Value| offer["extra"]["assetTransferMethod"] == "permit2";
    let wallet = Wallet::new(1);
    let payments =
        [wallet.pay(&offered, TEST), wallet.pay(&offered, BASE_SEPOLIA), wallet.permit(&offered, by_permit)];
    let key = gateway.key("1 TEST");
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    let mut refused = 0;
    for round in 0..1500 {
        let payment = numbers.of(&payments).clone();
        let mut alters_terms = false;
        let value = match numbers.below(4) {
            // The text of the header.
            0 => spoiled(&mut numbers, &payment.v2()),
            // The JSON in it.
            1 => {
                let text =
                    json!({"x402Version": 2, "resource": payment.resource, "accepted": payment.accepted,
                                  "payload": payment.payload})
                    .to_string();
                wire::base64::encode_std(spoiled(&mut numbers, &text).as_bytes())
            }
            // A value of it.
            2 => {
                let mut payment = payment;
                let places = [
                    "/payload/signature",
                    "/payload/authorization/value",
                    "/payload/authorization/nonce",
                    "/payload/permit2Authorization/nonce",
                    "/payload/permit2Authorization/permitted/amount",
                    "/payload/permit2Authorization/witness/to",
                    "/accepted/amount",
                    "/accepted/extra",
                    "/accepted/payTo",
                ];
                let mut whole = json!({"x402Version": 2, "resource": payment.resource.take(),
                                       "accepted": payment.accepted.take(), "payload": payment.payload.take()});
                alters_terms = true;
                let values =
                    [json!(null), json!(""), json!("0"), json!(7), json!([]), json!({}), json!("0x00")];
                let there: Vec<&str> =
                    places.into_iter().filter(|place| whole.pointer(place).is_some()).collect();
                *whole.pointer_mut(there[numbers.below(there.len())]).unwrap() = numbers.of(&values).clone();
                encode(&whole)
            }
            // Bombs.
            _ => {
                let depth = 1 + numbers.below(3000);
                let text = format!("{}{}", "{\"x402Version\":".repeat(depth), "}".repeat(depth));
                wire::base64::encode_std(text.as_bytes())
            }
        };
        let name =
            *numbers.of(&["payment-signature", "x-payment", "authorization", "sign-in-with-x", "x-api-key"]);
        let value = if name == "x-api-key" { spoiled(&mut numbers, &key) } else { value };
        // What says the same of the money is no garbage, whatever else it says.
        let says = wire::base64::decode_any(&value, 64 * 1024).ok().unwrap_or_default();
        let says: Value = serde_json::from_slice(&says).unwrap_or_default();
        if value == key || payments.iter().any(|payment| payment.payload == says["payload"]) && !alters_terms
        {
            continue;
        }
        // A header may be refused before there is an answer to it.
        if let Some(answer) = http::try_request(
            gateway.address,
            "POST",
            CHAT,
            &[("content-type", "application/json"), (name, &value)],
            ask().to_string().as_bytes(),
        ) {
            assert!((400..500).contains(&answer.status), "{round} {name} {value}: {}", answer.text());
            refused += 1;
        }
        assert_eq!((upstream.hits(), facilitator.settles().len()), (0, 0), "{round} {name} {value}");
    }
    assert!(refused > 1000, "{refused}");
    assert_eq!((facilitator.settles().len(), facilitator.verifies().len()), (0, 0));
    // The key's own.
    assert_eq!(gateway.books().count("deposit"), 1);
    // The gateway is well, and so are the payments.
    for payment in &payments {
        assert_eq!(pay(&gateway, payment).status, 200);
    }
}

/// A17: nothing that was paid for, or is to be paid for, may be kept by a cache in between, whatever the upstream says
/// about that.
#[test]
fn a17_no_answer_is_for_a_shared_cache() {
    let upstream = Upstream::start(|request, stream| {
        let text = String::from_utf8(friendly_answer(request)).unwrap();
        let lines = "\r\ncache-control: public, max-age=86400\r\nexpires: Thu, 01 Jan 2099 00:00:00 GMT\r\nage: 3\r\netag: \"a\"\r\n";
        let text = text.replacen("\r\n", lines, 1);
        let text = if request.body.windows(4).any(|word| word == b"fail") { String::new() } else { text };
        let _ = stream.write_all(text.as_bytes());
    });
    let facilitator = Facilitator::start([
        Conduct::Settle,
        Conduct::Only(failure("insufficient_funds")),
        Conduct::Only(Reply::Hangup),
    ]);
    let gateway = Gateway::start(upstream.address, &Facilitator::rails(&[facilitator.address]));
    let key = gateway.key("1 TEST");
    let mut streamed = ask();
    streamed["stream"] = json!(true);
    let mut failing = ask();
    failing["messages"][0]["content"] = json!("fail");
    let keyed = |body: &Value| http::post(gateway.address, CHAT, &[("x-api-key", &key)], body);
    let payment = Signs::Transfer.payment(&gateway, 1);
    let served = pay(&gateway, &payment);
    let replayed = wait_for("the first call to be written down", || {
        Some(pay(&gateway, &payment)).filter(|a| a.status != 409)
    });
    for (status, answer) in [
        (402, http::post(gateway.address, CHAT, &[], &ask())),
        (200, served),
        (200, replayed),
        (402, pay(&gateway, &Signs::Transfer.payment(&gateway, 2))),
        (503, pay(&gateway, &Signs::Transfer.payment(&gateway, 3))),
        (200, keyed(&ask())),
        (200, keyed(&streamed)),
        (502, keyed(&failing)),
        (200, http::get(gateway.address, "/farthing/balance", &[("x-api-key", &key)])),
        (401, http::post(gateway.address, CHAT, &[("x-api-key", "fk_test_no")], &ask())),
    ] {
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{status} {:?}", answer.headers);
        for name in ["expires", "age", "etag"] {
            assert_eq!(answer.header(name), None, "{status}");
        }
    }
}

/// A19: nobody pays for a payer's gas but his facilitator. We ask for no sponsoring, pass on none that a payer asks for,
/// and a signature that brings a factory to deploy his wallet with (ERC-6492) is none.
#[test]
fn a19_nothing_is_sponsored() {
    for signs in Signs::ALL {
        let scene = Scene::signing(signs, []);
        let unpaid = http::post(scene.gateway.address, CHAT, &[], &ask());
        assert!(!challenge(&unpaid).to_string().contains("GasSponsoring"), "{signs:?}");
        let good = &scene.payment;
        let mut wrapped = good.clone();
        let signature = good.payload["signature"].as_str().unwrap().trim_start_matches("0x");
        let word = |number: u64| format!("{number:064x}");
        let body = [&word(0xfac7), &word(96), &word(128), &word(0), &word(65), signature, &"0".repeat(62)];
        let magic = "6492".repeat(16);
        wrapped.payload["signature"] =
            json!(format!("0x{}{magic}", body.map(|part| part.to_owned()).concat()));
        assert_refused(&pay(&scene.gateway, &wrapped), 402, "proof_invalid", "nothing_taken");
        assert!(scene.facilitator.settles().is_empty() && scene.upstream.hits() == 0, "{signs:?}");
        let asks = json!({"eip2612GasSponsoring": {"info": {"signature": "0x"}}, "erc20ApprovalGasSponsoring": {"info": {}}});
        let header = encode(&json!({"x402Version": 2, "resource": good.resource, "accepted": good.accepted,
                                    "payload": good.payload, "extensions": asks}));
        let answer = http::post(scene.gateway.address, CHAT, &[("payment-signature", &header)], &ask());
        assert_eq!(answer.status, 200, "{signs:?}: {}", answer.text());
        let settles = scene.facilitator.settles();
        let asked = String::from_utf8_lossy(&settles[0]);
        assert!(settles.len() == 1 && !asked.contains("GasSponsoring"), "{asked}");
    }
}

/// A22: hidden reasoning is billed as the provider reports it, under the ceiling, and itemised: the lines of the receipt are
/// the usage and sum to the charge.
#[test]
fn a22_the_receipt_sums_to_the_usage_with_reasoning() {
    let upstream = Upstream::start(|_, stream| {
        let usage = r#"{"prompt_tokens":10,"completion_tokens":700,"total_tokens":710,"completion_tokens_details":{"reasoning_tokens":600}}"#;
        let text = format!(
            r#"{{"object":"chat.completion","choices":[{{"index":0,"message":{{"content":"a"}},"finish_reason":"stop"}}],"usage":{usage}}}"#
        );
        let _ = stream.write_all(&plain(200, "application/json", &text));
    });
    let gateway = Gateway::start(upstream.address, "");
    let offered = http::post(gateway.address, CHAT, &[], &ask());
    let payment = Wallet::new(1).pay(&offered, TEST);
    let served = pay(&gateway, &payment);
    let key = served.must("farthing-key");
    let charged = payment.nano() - gateway.settled_balance(key);
    assert_eq!(charged, 10 * 1000 + 700 * 4000);
    assert!(charged <= payment.nano());
    let id = served.must("farthing-receipt");
    let signed = http::get(gateway.address, &format!("/farthing/receipts/{id}"), &[("x-api-key", key)]);
    let keys = http::get(gateway.address, "/.well-known/farthing-keys.json", &[]);
    let keys: wire::jws::Jwks = serde_json::from_slice(&keys.body).unwrap();
    let facts: Value = proof::receipt::verify(&signed.text(), &keys).unwrap();
    assert_eq!(nano(&facts["charged"]["amount"]), charged);
    assert_eq!((&facts["usage"]["input_total"], &facts["usage"]["output_total"]), (&json!(10), &json!(700)));
    let told = facts["usage"].to_string();
    assert!(told.contains("600"), "the reasoning is told: {told}");
    let femto =
        |rate: &Value| money::Decimal::parse(rate["amount"].as_str().unwrap()).unwrap().exact(15).unwrap();
    let lines = facts["lines"].as_array().unwrap();
    let quantities: u64 = lines.iter().map(|line| line["quantity"].as_u64().unwrap()).sum();
    assert_eq!(quantities, 710);
    let sum: u128 =
        lines.iter().map(|line| u128::from(line["quantity"].as_u64().unwrap()) * femto(&line["rate"])).sum();
    assert_eq!(facts["cost_femto_usd"], sum.to_string());
    assert_eq!(sum.div_ceil(1_000_000), u128::try_from(charged).unwrap());
}

/// A23, X402-7, X402-19: what the server behind says about payments, and what a facilitator says in words, stays here.
#[test]
fn a23_no_foreign_header_and_no_facilitators_words_reach_the_client() {
    let lines = "\r\nsettlement-overrides: {\"amount\":\"1\"}\r\npayment-required: e30=\r\npayment-response: e30=\r\n\
                 x-payment-response: e30=\r\npayment-signature: e30=\r\nextension-responses: e30=\r\nfarthing-key: fk_test_x\r\n";
    let upstream = Upstream::start(move |request, stream| {
        let text = String::from_utf8(friendly_answer(request)).unwrap();
        let _ = stream.write_all(text.replacen("\r\n", lines, 1).as_bytes());
    });
    let words = "the contract at 0xdeadbeef reverted with 0xcafebabe";
    let told = json!({"success": false, "errorReason": format!("invalid_exact_evm_transaction_failed: {words}"),
                      "errorMessage": words, "transaction": "", "network": "NETWORK"});
    let facilitator = Facilitator::start([Conduct::Only(Reply::Says(200, told.to_string()))]);
    let gateway = Gateway::start(upstream.address, &Facilitator::rails(&[facilitator.address]));
    let text_of = |answer: &Answer| {
        let decoded = ["payment-response", "payment-required"]
            .map(|name| answer.header(name).map(|value| farthing_tests::payer::decode(value).to_string()));
        format!("{:?} {} {decoded:?}", answer.headers, answer.text())
    };
    let payment = Signs::Transfer.payment(&gateway, 1);
    let refused = pay(&gateway, &payment);
    assert_refused(&refused, 402, "settlement_failed", "nothing_taken");
    for word in ["0xdeadbeef", "0xcafebabe", "reverted"] {
        assert!(!text_of(&refused).contains(word), "{}", text_of(&refused));
    }
    let served = pay(&gateway, &payment);
    assert_eq!(served.status, 200, "{}", served.text());
    let count = |name: &str| served.headers.iter().filter(|(known, _)| known == name).count();
    assert_eq!((count("payment-response"), count("farthing-key")), (1, 1));
    assert_ne!(served.must("payment-response"), "e30=");
    assert_ne!(served.must("farthing-key"), "fk_test_x");
    let key = served.must("farthing-key").to_owned();
    let keyed = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &ask());
    for name in [
        "settlement-overrides",
        "payment-required",
        "x-payment-response",
        "payment-signature",
        "extension-responses",
    ] {
        assert_eq!((served.header(name), keyed.header(name)), (None, None), "{name}");
    }
    assert_eq!((keyed.header("payment-response"), keyed.header("farthing-key")), (None, None));
    // And what the client says about payments stays here as well.
    for seen in upstream.seen() {
        let known = seen.headers.iter().map(|(name, _)| name.as_str());
        assert_eq!(known.filter(|name| name.contains("payment") || name.contains("x-api-key")).count(), 0);
    }
}

/// A stream whose end waits until it is let go.
fn held_stream(open: &Arc<AtomicBool>) -> Upstream {
    let open = Arc::clone(open);
    Upstream::start(move |_: &Seen, stream: &mut TcpStream| {
        let first = r#"data: {"choices":[{"index":0,"delta":{"content":"five words are said here"}}]}"#;
        let _ = stream.write_all(format!("{STREAM_HEAD}{first}\n\n").as_bytes());
        wait_for("the rest of the stream", || open.load(Ordering::SeqCst).then_some(()));
        let usage =
            r#"data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#;
        let _ = stream.write_all(format!("{usage}\n\ndata: [DONE]\n\n").as_bytes());
    })
}

fn begin(address: SocketAddr, payment: &Payment, body: &Value) -> Socket {
    let mut socket = Socket::connect(address);
    socket.send(http::posted(address, CHAT, &[("payment-signature", &payment.v2())], body));
    assert!(socket.read_until("five words are said here"));
    socket
}

/// Killed in the middle of a paid stream: the settlement is in the books, the payment is made once, and the call that it was
/// for is served from it.
#[test]
fn a_kill_in_the_middle_of_a_paid_stream_loses_no_settlement() {
    for signs in Signs::ALL {
        let open = Arc::new(AtomicBool::new(false));
        let upstream = held_stream(&open);
        let facilitator = Facilitator::start([]);
        let rails = Facilitator::rails_with(&[facilitator.address], signs.keys());
        let mut gateway = Gateway::start(upstream.address, &rails);
        let mut body = ask();
        body["stream"] = json!(true);
        let offered = http::post(gateway.address, CHAT, &[], &body);
        let wallet = Wallet::new(1);
        let payment = match signs {
            Signs::Transfer => wallet.pay(&offered, BASE_SEPOLIA),
            Signs::Permit | Signs::Ceiling => {
                wallet.permit(&offered, |offer| offer["network"] == BASE_SEPOLIA)
            }
        };
        let socket = begin(gateway.address, &payment, &body);
        gateway.crash_and_restart();
        drop(socket);
        let books = gateway.books();
        assert_eq!((books.count("deposit"), books.balance(&wallet.account(&payment))), (1, payment.nano()));
        open.store(true, Ordering::SeqCst);
        let served = http::post(gateway.address, CHAT, &[("payment-signature", &payment.v2())], &body);
        assert_eq!(served.status, 200, "{}", served.text());
        assert_eq!(served.header("farthing-key"), None, "the proof is public by now");
        assert_eq!((facilitator.transfers(), facilitator.settles().len()), (1, 1));
        let books = gateway.books_after(1);
        assert_eq!(books.count("deposit"), 1);
        assert_eq!(books.balance(&wallet.account(&payment)), payment.nano() - FRIENDLY_COST);
    }
}

/// A client that leaves after the usage was reported pays for that usage, not for a floor and not for what was held.
#[test]
fn a_payer_who_leaves_after_the_usage_pays_for_that_usage() {
    let leave = Arc::new(AtomicBool::new(false));
    let held = Arc::clone(&leave);
    let upstream = Upstream::start(move |_: &Seen, stream: &mut TcpStream| {
        let text = r#"data: {"choices":[{"index":0,"delta":{"content":"five words are said here"}}]}"#;
        let usage =
            r#"data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#;
        let _ = stream.write_all(format!("{STREAM_HEAD}{text}\n\n{usage}\n\n").as_bytes());
        wait_for("the client to leave", || held.load(Ordering::SeqCst).then_some(()));
    });
    let facilitator = Facilitator::start([]);
    let gateway = Gateway::start(upstream.address, &Facilitator::rails(&[facilitator.address]));
    let mut body = ask();
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let offered = http::post(gateway.address, CHAT, &[], &body);
    let wallet = Wallet::new(1);
    let payment = wallet.pay(&offered, BASE_SEPOLIA);
    let mut socket = begin(gateway.address, &payment, &body);
    assert!(socket.read_until("\"completion_tokens\":5"));
    drop(socket);
    leave.store(true, Ordering::SeqCst);
    let books = gateway.books_after(1);
    assert_eq!(books.balance(&wallet.account(&payment)), payment.nano() - FRIENDLY_COST);
}

/// The ceiling is that of this request: its input as it is, the output it asks for, each answer it asks for. Not of a
/// model's whole window.
#[test]
fn the_ceiling_is_the_requests_own() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let ceiling = |body: &Value| {
        let offered = challenge(&http::post(gateway.address, CHAT, &[], body));
        let offer = farthing_tests::payer::offer(&offered, TEST);
        offer["amount"].as_str().unwrap().parse::<i64>().unwrap()
    };
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = ask();
        change(&mut body);
        ceiling(&body)
    };
    let usual = with(&|_| {});
    assert_eq!(with(&|body| body["max_tokens"] = json!(2000)) - usual, 1000 * 4000);
    let three = with(&|body| body["n"] = json!(3)) - usual;
    assert!(
        (8_000_000..8_010_000).contains(&three),
        "twice the output, and a few more bytes to read: {three}"
    );
    // A letter is at most a token.
    let longer = with(&|body| body["messages"][0]["content"] = json!("word ".repeat(1000))) - usual;
    assert!((1000 * 1000..=5000 * 1000).contains(&longer), "{longer}");
    assert!(usual < 1000 * 4000 + 300 * 1000, "{usual}");
}

/// A header block of 200 KB is cut off, also when it comes with a payment; nobody is asked for anything.
#[test]
fn a_header_of_200_kb_is_cut_off() {
    let scene = Scene::of([]);
    let huge = "A".repeat(200 * 1024);
    for name in ["payment-signature", "x-payment", "x-filler"] {
        let answer = http::try_request(
            scene.gateway.address,
            "POST",
            CHAT,
            &[("payment-signature", &scene.payment.v2()), (name, &huge)],
            ask().to_string().as_bytes(),
        );
        assert!(answer.is_none_or(|answer| (400..500).contains(&answer.status)));
    }
    assert_eq!((scene.upstream.hits(), scene.facilitator.settles().len()), (0, 0));
    scene.assert_served_once(&scene.pay(), "after that");
}
