//! Requests that are refused: each gets the right status and code, a body that says what happened to the
//! money, and no call upstream.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use farthing_tests::facilitator::{Facilitator, PAY_TO};
use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::payer::{BASE_SEPOLIA, Payment, TEST, Wallet, challenge, encode, fresh_nonce, now_s};
use farthing_tests::refused::assert_refused;
use farthing_tests::upstream::Upstream;
use proof::credit_key::{attenuate, mint};
use proof::{EpochState, MasterKey, MasterKeys};
use serde_json::{Value, json};
use wire::credit_key::{CreditKey, Mode};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

fn ask() -> Value {
    json!({"model": "m", "max_tokens": 1000, "messages": [{"role": "user", "content": "hi"}]})
}

/// A gateway with both rails; whatever a test does, nothing may go up, settle, or be written.
struct Scene {
    upstream: Upstream,
    facilitator: Facilitator,
    gateway: Gateway,
}

impl Scene {
    fn new(more: &str) -> Self {
        let upstream = Upstream::friendly();
        let facilitator = Facilitator::start([]);
        let rails = Facilitator::rails(&[facilitator.address]);
        let gateway = Gateway::start(upstream.address, &format!("{rails}{more}"));
        Self { upstream, facilitator, gateway }
    }

    fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        http::post(self.gateway.address, path, fields, &ask())
    }

    fn assert_nothing_moved(&self, entries: usize) {
        assert_eq!(self.upstream.hits(), 0, "an upstream call");
        assert_eq!(self.facilitator.settles().len(), 0, "a settlement");
        assert_eq!(self.gateway.books().entries.len(), entries, "an entry in the journal");
    }
}

#[test]
fn payment_that_cannot_be_read_gets_a_fresh_challenge() {
    let scene = Scene::new("");
    let payment = Wallet::new(1).pay(&scene.post(CHAT, &[]), TEST);
    let (v1, v2) = (payment.v1(), payment.v2());
    let other_version = |version: u64| {
        let mut value = farthing_tests::payer::decode(&v2);
        value["x402Version"] = json!(version);
        encode(&value)
    };
    let no_payload = encode(&json!({"x402Version": 2, "accepted": payment.accepted}));
    let deep = wire::base64::encode_std(format!("{}{}", "[".repeat(3000), "]".repeat(3000)).as_bytes());
    let twice = wire::base64::encode_std(br#"{"x402Version":2,"x402Version":2}"#);
    for (what, name, value) in [
        ("not base64", "payment-signature", "%%%".to_owned()),
        ("not base64 v1", "x-payment", "%%%".to_owned()),
        ("empty", "payment-signature", String::new()),
        ("not JSON", "payment-signature", wire::base64::encode_std(b"hello")),
        ("an array", "x-payment", encode(&json!([]))),
        ("no members", "payment-signature", encode(&json!({}))),
        ("no payload", "payment-signature", no_payload),
        ("deep", "payment-signature", deep),
        ("a member twice", "payment-signature", twice),
        ("cut", "payment-signature", v2[..v2.len() / 2].to_owned()),
        ("v1 in the header of v2", "payment-signature", v1.clone()),
        ("v2 in the header of v1", "x-payment", v2.clone()),
        ("version 3", "payment-signature", other_version(3)),
        ("version 1", "payment-signature", other_version(1)),
    ] {
        for path in [CHAT, MESSAGES] {
            let answer = scene.post(path, &[(name, &value)]);
            assert_refused(&answer, 402, "malformed_credential", "nothing_taken");
            assert_eq!(challenge(&answer)["accepts"].as_array().map(Vec::len), Some(2), "{what}");
        }
    }
    scene.assert_nothing_moved(0);
}

#[test]
fn foreign_credentials_are_no_credentials() {
    let scene = Scene::new("");
    for fields in [
        vec![],
        vec![("authorization", "Bearer sk-1234")],
        vec![("authorization", "Basic dXNlcjpwYXNz")],
        vec![("authorization", "Nonsense")],
        vec![("x-api-key", "sk-ant-1234")],
        vec![("payment-identifier", "1")],
    ] {
        for path in [CHAT, MESSAGES] {
            assert_refused(&scene.post(path, &fields), 402, "payment_required", "nothing_taken");
        }
    }
    scene.assert_nothing_moved(0);
}

#[test]
fn two_credentials_are_ambiguous() {
    let scene = Scene::new("");
    let payment = Wallet::new(1).pay(&scene.post(CHAT, &[]), TEST);
    let (key, other) = (scene.gateway.key("1 TEST"), scene.gateway.key("1 TEST"));
    let (v1, v2, bearer) = (payment.v1(), payment.v2(), format!("Bearer {key}"));
    for fields in [
        [("payment-signature", v2.as_str()), ("x-payment", v1.as_str())],
        [("authorization", bearer.as_str()), ("x-api-key", other.as_str())],
        [("api-key", key.as_str()), ("x-goog-api-key", other.as_str())],
    ] {
        assert_refused(&scene.post(CHAT, &fields), 400, "ambiguous_credentials", "nothing_taken");
    }
    for name in ["payment-signature", "x-payment", "x-api-key"] {
        assert_refused(&scene.post(CHAT, &[(name, "a"), (name, "a")]), 400, "bad_request", "nothing_taken");
    }
    for query in [format!("key={key}"), format!("api_key={key}"), format!("a=b&access_token={key}")] {
        let answer = scene.post(&format!("{CHAT}?{query}"), &[]);
        assert_refused(&answer, 400, "bad_request", "nothing_taken");
        assert!(!answer.text().contains(&key), "echoed");
    }
    assert!(!scene.gateway.log().contains(&key), "logged");
    scene.assert_nothing_moved(2);
}

#[test]
fn oversized_headers() {
    let scene = Scene::new("");
    let over = "A".repeat(16 * 1024 + 1);
    for name in ["payment-signature", "x-payment", "x-api-key", "authorization"] {
        assert_refused(&scene.post(CHAT, &[(name, &over)]), 431, "header_too_large", "nothing_taken");
    }
    let block = "A".repeat(40 * 1024);
    let answer = scene.post(CHAT, &[("x-filler", &block)]);
    assert_eq!((answer.status, answer.body.len()), (431, 0));
    scene.assert_nothing_moved(0);
}

/// Before its MAC verifies every bad key gets the same words: whoever guesses learns nothing.
#[test]
fn bad_keys_are_unknown_and_all_alike() {
    let scene = Scene::new("");
    let key = scene.gateway.key("1 TEST");
    let parsed = CreditKey::parse(&key).unwrap();
    let foreign = MasterKey { epoch: parsed.id().epoch, state: EpochState::Mint, secret: [7; 32].into() };
    let foreign = MasterKeys::new([foreign]).unwrap();
    let id = parsed.id();
    let forged = |mode| mint(&foreign, mode, id.account, id.key_id, &[]).unwrap();
    let narrowed = attenuate(&key, "expires=4000000000").unwrap();
    let mut altered = narrowed.clone().into_bytes();
    let middle = altered.len() / 2;
    altered[middle] = if altered[middle] == b'A' { b'B' } else { b'A' };
    let other_prefix = key.replace("fk_test_", "fk_live_");
    let cut = key[..key.len() - 4].to_owned();
    let mut bodies = Vec::new();
    for (what, bad) in [
        ("foreign", forged(Mode::Test)),
        ("of the other mode", other_prefix),
        ("foreign and of the other mode", forged(Mode::Live)),
        ("altered", String::from_utf8(altered).unwrap()),
        ("cut", cut),
        ("garbage", "fk_test_%%%".to_owned()),
        ("nothing", "fk_test_".to_owned()),
    ] {
        for path in [CHAT, MESSAGES, "/farthing/topup"] {
            assert_refused(&scene.post(path, &[("x-api-key", &bad)]), 401, "key_unknown", "nothing_taken");
        }
        let answer = scene.post(CHAT, &[("authorization", &format!("Bearer {bad}"))]);
        let mut body = answer.json();
        body["request_id"] = Value::Null;
        body["instance"] = Value::Null;
        assert!(!answer.text().contains(&bad), "{what}: echoed");
        bodies.push(body);
    }
    assert!(bodies.windows(2).all(|two| two[0] == two[1]), "{bodies:?}");
    assert_eq!(scene.gateway.balance(&key), (1_000_000_000, 0), "the key itself is fine");
    scene.assert_nothing_moved(1);
}

#[test]
fn key_whose_time_or_caveats_do_not_hold() {
    let scene = Scene::new("");
    let key = scene.gateway.key("1 TEST");
    let narrow = |caveat: &str| attenuate(&key, caveat).unwrap_or_else(|error| panic!("{caveat}: {error}"));
    let holder = proof::SigningKey::from_bytes(&[5; 32]).verifying_key();
    let holder = wire::base64::encode_url(holder.as_bytes());
    for (caveat, status, code) in [
        (format!("expires={}", now_s() - 1), 401, "key_expired"),
        (format!("not_before={}", now_s() + 100), 403, "key_forbidden"),
        ("models=gpt-*".to_owned(), 403, "key_forbidden"),
        ("routes=/v1/messages".to_owned(), 403, "key_forbidden"),
        ("per_call=TEST:1000".to_owned(), 403, "key_forbidden"),
        ("budget=a:TEST:1000".to_owned(), 402, "over_token_budget"),
        (format!("holder=ed25519:{holder}"), 401, "holder_proof_missing"),
    ] {
        let answer = scene.post(CHAT, &[("x-api-key", &narrow(&caveat))]);
        assert_refused(&answer, status, code, "nothing_taken");
    }
    // Widening is no error of ours to write, and refused when shown.
    let mut widened = CreditKey::parse(&narrow("models=gpt-*")).unwrap();
    widened.add_caveat(b"models=*").unwrap();
    let mut unheard = CreditKey::parse(&key).unwrap();
    unheard.add_caveat(b"colour=red").unwrap();
    for bad in [widened, unheard] {
        let answer = scene.post(CHAT, &[("x-api-key", &bad.to_text())]);
        assert_refused(&answer, 401, "key_unknown", "nothing_taken");
    }
    scene.assert_nothing_moved(1);
}

/// One member of a payment after the other is wrong, on both rails and in both versions.
#[test]
fn wrong_terms_are_refused_and_the_proof_stays_good() {
    let scene = Scene::new("");
    let offered = scene.post(CHAT, &[]);
    for network in [TEST, BASE_SEPOLIA] {
        let wallet = Wallet::new(1);
        let good = wallet.pay(&offered, network);
        let amount: u64 = good.accepted["amount"].as_str().unwrap().parse().unwrap();
        let accepted = |member: &str, value: Value| {
            let mut payment = good.clone();
            *payment.accepted.pointer_mut(member).unwrap() = value;
            payment
        };
        let signed = |value: u64, to: Option<&str>, after: u64, before: u64| {
            let mut payment = good.clone();
            payment.payload = if network == TEST {
                wallet.test_payload(&good.accepted, |transfer| {
                    transfer.value = value;
                    transfer.to = to.map_or(transfer.to, |_| [1; 32]);
                    (transfer.valid_after, transfer.valid_before) = (after, before);
                })
            } else {
                wallet.evm_payload(&good.accepted, |transfer| {
                    transfer.value = u128::from(value);
                    transfer.to = to.map_or(transfer.to, |to| to.parse().unwrap());
                    (transfer.valid_after, transfer.valid_before) = (after, before);
                })
            };
            payment
        };
        let far = now_s() + 300;
        let other = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
        let text = |n: u64| json!(n.to_string());
        let mut no_quote = good.clone();
        no_quote.accepted["extra"].as_object_mut().unwrap().remove("quote");
        let mut elsewhere = good.clone();
        elsewhere.resource["url"] = json!(format!("http://{}/v1/responses", scene.gateway.address));
        for (what, payment, code, v1_too) in [
            ("network", accepted("/network", json!("eip155:8453")), "wrong_network", false),
            ("scheme", accepted("/scheme", json!("upto")), "wrong_network", false),
            (
                "asset",
                accepted("/asset", json!("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913")),
                "wrong_asset",
                false,
            ),
            ("payee in the echo", accepted("/payTo", json!(other)), "wrong_payee", false),
            ("amount in the echo, less", accepted("/amount", text(amount - 1)), "proof_underpaid", false),
            ("amount in the echo, more", accepted("/amount", text(amount + 1)), "proof_invalid", false),
            ("timeout in the echo", accepted("/maxTimeoutSeconds", json!(100_000)), "proof_invalid", false),
            ("no quote", no_quote, "quote_expired", false),
            ("altered quote", accepted("/extra/quote", json!("q1.AAAA")), "quote_expired", false),
            ("another resource", elsewhere, "proof_invalid", false),
            ("payee", signed(amount, Some(other), 0, far), "wrong_payee", true),
            ("less", signed(amount - 1, None, 0, far), "proof_underpaid", true),
            ("more", signed(amount + 1, None, 0, far), "proof_invalid", true),
            ("nothing", signed(0, None, 0, far), "proof_underpaid", true),
            ("over", signed(amount, None, 0, now_s() - 1), "proof_expired", true),
            ("too late to settle", signed(amount, None, 0, now_s() + 3), "proof_expired", true),
            ("not yet", signed(amount, None, now_s() + 100, far), "proof_invalid", true),
        ] {
            let answer = scene.post(CHAT, &[("payment-signature", &payment.v2())]);
            assert_eq!(answer.code(), code, "{network} {what}: {}", answer.text());
            assert_refused(&answer, 402, code, "nothing_taken");
            if v1_too {
                let answer = scene.post(CHAT, &[("x-payment", &payment.v1())]);
                assert_refused(&answer, 402, code, "nothing_taken");
            }
        }
        scene.assert_nothing_moved(0);
    }
    // After all that the payment itself is still good.
    let good = Wallet::new(1).pay(&offered, TEST);
    let mut bad = good.clone();
    bad.accepted["amount"] = json!("1");
    assert_eq!(scene.post(CHAT, &[("payment-signature", &bad.v2())]).status, 402);
    assert_eq!(scene.post(CHAT, &[("payment-signature", &good.v2())]).status, 200);
}

#[test]
fn odd_signatures_are_refused_before_anyone_is_asked() {
    let scene = Scene::new("");
    let offered = scene.post(CHAT, &[]);
    let good = Wallet::new(1).pay(&offered, BASE_SEPOLIA);
    let bytes: Vec<u8> =
        wire::hex::decode_0x_array::<65>(good.payload["signature"].as_str().unwrap()).unwrap().into();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        json!(wire::hex::encode_0x(&bytes))
    };
    let odd_v = |v: u8| with(&move |bytes| bytes[64] = v);
    for (what, signature) in [
        ("high s", with(&|bytes| high_s(bytes))),
        (
            "high s, other v",
            with(&|bytes| {
                high_s(bytes);
                bytes[64] ^= 7;
            }),
        ),
        ("v 0 or 1", odd_v(bytes[64] - 27)),
        ("the other v", odd_v(55 - bytes[64])),
        ("v 29", odd_v(29)),
        ("compact", with(&|bytes| bytes.truncate(64))),
        ("longer", with(&|bytes| bytes.push(0))),
        ("zero", with(&|bytes| bytes.fill(0))),
        ("another byte", with(&|bytes| bytes[10] ^= 1)),
        ("nothing", json!("0x")),
        ("text", json!("0xzz")),
    ] {
        let mut payment = good.clone();
        payment.payload["signature"] = signature;
        for (name, value) in [("payment-signature", payment.v2()), ("x-payment", payment.v1())] {
            let answer = scene.post(CHAT, &[(name, &value)]);
            assert_eq!(answer.code(), "proof_invalid", "{what}: {}", answer.text());
            assert_refused(&answer, 402, "proof_invalid", "nothing_taken");
        }
    }
    // By somebody else, and with a key that signs anything.
    let stranger = Wallet::new(2).pay(&offered, TEST);
    let mut stolen = Wallet::new(1).pay(&offered, TEST);
    stolen.payload["signature"] = stranger.payload["signature"].clone();
    let mut weak = stranger.clone();
    weak.payload["authorization"]["from"] = json!("00".repeat(32));
    for payment in [stolen, weak] {
        let answer = scene.post(CHAT, &[("payment-signature", &payment.v2())]);
        assert_refused(&answer, 402, "proof_invalid", "nothing_taken");
    }
    scene.assert_nothing_moved(0);
}

/// The twin of a signature: n - s.
fn high_s(bytes: &mut [u8]) {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba,
        0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
    ];
    let mut borrow = 0;
    for at in (0..32).rev() {
        let difference = i16::from(ORDER[at]) - i16::from(bytes[32 + at]) - borrow;
        borrow = i16::from(difference < 0);
        bytes[32 + at] = u8::try_from(difference.rem_euclid(256)).unwrap_or_default();
    }
}

#[test]
fn payment_for_another_route_or_a_bigger_call_is_refused() {
    let scene = Scene::new("");
    let payment = Wallet::new(1).pay(&scene.post(CHAT, &[]), TEST);
    // Same price, other route: the quote names the route.
    let other = scene.post(MESSAGES, &[("payment-signature", &payment.v2())]);
    assert_eq!(other.status, 402);
    assert!(["quote_expired", "proof_invalid"].contains(&other.code().as_str()), "{}", other.text());
    // A6: a cheap quote and a bigger call.
    let mut big = ask();
    big["max_tokens"] = json!(100_000);
    for (name, value) in [("payment-signature", payment.v2()), ("x-payment", payment.v1())] {
        let answer = http::post(scene.gateway.address, CHAT, &[(name, &value)], &big);
        assert_refused(&answer, 402, "proof_underpaid", "nothing_taken");
    }
    scene.assert_nothing_moved(0);
}

/// A call that costs a cent whatever its body, and the gateway that sells it.
fn fixed_price(upstream: &Upstream) -> Gateway {
    let routes = "routes: [{ name: tool, match: { method: POST, path: \"/tool/**\" }, upstream: openai, price: { per_call: 0.01 USD } }, \
                  { name: chat, match: { method: POST, path: /v1/chat/completions }, upstream: openai, price: by_model }]";
    Gateway::start(upstream.address, &format!("rails: {{ test: {{}} }}\n{routes}\n"))
}

/// X402-16, PERF-34: what costs the same with any body is quoted for none in particular.
#[test]
fn x402_16_a_fixed_price_is_quoted_whatever_the_body() {
    let upstream = Upstream::friendly();
    let gateway = fixed_price(&upstream);
    let asked = http::post(gateway.address, "/tool/a", &[], &json!({"of": 1}));
    let payment = Wallet::new(1).pay(&asked, TEST).v2();
    let paid = |path: &str, of: u8| {
        http::post(gateway.address, path, &[("payment-signature", &payment)], &json!({"of": of}))
    };
    let elsewhere = paid("/tool/b", 1);
    assert_eq!(elsewhere.status, 402);
    assert!(["quote_expired", "proof_invalid"].contains(&elsewhere.code().as_str()), "{}", elsewhere.text());
    assert_eq!(paid("/tool/a", 2).status, 200);
    // It was served for that body, and for no other.
    assert_refused(&paid("/tool/a", 1), 403, "verification_failed", "nothing_taken");
    assert_eq!(upstream.hits(), 1);
}

/// PERF-34: whoever waits with his body is told the price before he sends it, where that is known.
#[test]
fn perf_34_a_body_that_decides_nothing_is_not_asked_for() {
    let upstream = Upstream::friendly();
    let gateway = fixed_price(&upstream);
    let first_line = |path: &str| {
        let mut socket = TcpStream::connect(gateway.address).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\
             expect: 100-continue\r\n\r\n",
            gateway.address
        );
        socket.write_all(head.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line).unwrap();
        line
    };
    assert_eq!(first_line("/tool/a"), "HTTP/1.1 402 Payment Required\r\n");
    assert_eq!(first_line(CHAT), "HTTP/1.1 100 Continue\r\n");
    assert_eq!(upstream.hits(), 0);
}

#[test]
fn replayed_nonce_under_new_terms_is_a_replay() {
    let scene = Scene::new("");
    let offered = scene.post(CHAT, &[]);
    let (wallet, nonce) = (Wallet::new(1), fresh_nonce());
    let sign = |answer: &Answer| {
        let mut payment: Payment = wallet.pay(answer, TEST);
        payment.payload = wallet.test_payload(&payment.accepted, |transfer| transfer.nonce = nonce);
        payment
    };
    let served = scene.post(CHAT, &[("payment-signature", &sign(&offered).v2())]);
    assert_eq!(served.status, 200, "{}", served.text());
    scene.gateway.settled_balance(served.must("farthing-key"));
    let mut other = ask();
    other["max_tokens"] = json!(500);
    let offered = http::post(scene.gateway.address, CHAT, &[], &other);
    let header = sign(&offered).v2();
    let refused = wait_for("the first call to be written down", || {
        let answer = http::post(scene.gateway.address, CHAT, &[("payment-signature", &header)], &other);
        (answer.status != 409).then_some(answer)
    });
    assert_refused(&refused, 403, "verification_failed", "nothing_taken");
    assert_eq!(scene.upstream.hits(), 1);
    assert_eq!(scene.gateway.books().count("deposit"), 1);
}

#[test]
fn requests_that_cannot_be_priced() {
    let scene = Scene::new("prices: { \"known-*\": { input: 1 USD/Mtok, output: 4 USD/Mtok } }\n");
    let key = scene.gateway.key("1 TEST");
    let bearer = format!("Bearer {key}");
    let call = |body: &str| {
        let fields = [("content-type", "application/json"), ("authorization", bearer.as_str())];
        http::request(scene.gateway.address, "POST", CHAT, &fields, body.as_bytes())
    };
    for (body, status, code) in [
        (r#"{"model":"unknown","messages":[]}"#, 404, "model_not_priced"),
        (r#"{"messages":[]}"#, 400, "bad_body"),
        (r#"{"model":"known-1","model":"known-2"}"#, 400, "bad_body"),
        (r#"{"model":"known-1","max_tokens":-1}"#, 400, "bad_body"),
        (r#"{"model":"known-1","max_tokens":1e30}"#, 400, "bad_body"),
        (r#"{"model":"known-1","n":1000000}"#, 400, "bad_body"),
        ("[]", 400, "bad_body"),
        ("{", 400, "bad_body"),
        ("hello", 400, "bad_body"),
    ] {
        let answer = call(body);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{body}: {}", answer.text());
        assert_refused(&answer, status, code, "nothing_taken");
    }
    for (method, path, status, code) in [
        ("POST", "/v1/unknown", 404, "route_not_found"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("GET", "/farthing/nothing", 404, "route_not_found"),
        ("POST", "/v1/../v1/chat/completions", 400, "bad_request"),
        ("POST", "/v1//chat/completions", 400, "bad_request"),
        ("POST", "/V1/chat/completions", 404, "route_not_found"),
    ] {
        let answer = http::request(scene.gateway.address, method, path, &[], b"{}");
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path}: {}", answer.text());
        assert_refused(&answer, status, code, "nothing_taken");
    }
    assert_eq!(scene.gateway.balance(&key), (1_000_000_000, 0));
    scene.assert_nothing_moved(1);
}

/// No default price, no upstream call, no offer to pay for what is not sold.
#[test]
fn r17_unknown_model_refused() {
    let scene = Scene::new("prices: { \"known\": { input: 1 USD/Mtok, output: 4 USD/Mtok } }\n");
    let answer = scene.post(CHAT, &[]);
    assert_refused(&answer, 404, "model_not_priced", "nothing_taken");
    scene.assert_nothing_moved(0);
}

#[test]
fn body_too_large_declared_or_not() {
    let scene = Scene::new("server: { listen: [\"{address}\"], threads: 2, limits: { body: 64KiB } }\n");
    let key = scene.gateway.key("1 TEST");
    let host = scene.gateway.address;
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nx-api-key: {key}\r\n");
    // Declared: refused before a byte of it is sent.
    let declared = http::raw(host, format!("{head}content-length: 1000000000\r\n\r\n").as_bytes()).unwrap();
    assert_refused(&declared, 413, "body_too_large", "nothing_taken");
    let chunk = "10000\r\n".to_owned() + &" ".repeat(0x10000) + "\r\n";
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n");
    let chunked = http::raw(host, chunked.as_bytes()).unwrap();
    assert_refused(&chunked, 413, "body_too_large", "nothing_taken");
    scene.assert_nothing_moved(1);
}

#[test]
fn balance_that_is_too_small_is_told_what_it_would_buy() {
    let scene = Scene::new("");
    // 100 tokens of output at 4 USD/Mtok, and the input: too little to be worth a call.
    let key = scene.gateway.key("0.0005 TEST");
    for path in [CHAT, MESSAGES] {
        let answer = scene.post(path, &[("x-api-key", &key)]);
        assert_refused(&answer, 402, "insufficient_balance", "nothing_taken");
        let body = answer.json();
        let facts = if path == CHAT { &body["error"] } else { &body["error"]["details"] };
        let affordable = facts["affordable_max_tokens"].as_u64().unwrap();
        assert!((90..=125).contains(&affordable), "{affordable}");
        assert_eq!(facts["balance"], "0.000500000");
        assert_eq!(facts["limit_source"], "balance");
        assert_eq!(body["balance"], json!({"amount": "0.000500000", "currency": "TEST"}));
        assert!(facts["need"].as_str().unwrap() > "0.004000000", "{facts}");
        // What it says is affordable is served.
        let mut body = ask();
        body["max_tokens"] = json!(affordable);
        let before = scene.upstream.hits();
        let served = http::post(scene.gateway.address, path, &[("x-api-key", &key)], &body);
        assert_eq!(served.status, 200, "{}", served.text());
        assert_eq!(scene.upstream.hits(), before + 1);
        scene.gateway.settled_balance(&key);
        scene.gateway.operator(&["credit", &account(&key), "0.00003 TEST"]);
    }
}

fn account(key: &str) -> String {
    CreditKey::parse(key).map(|key| wire::hex::encode(&key.id().account)).unwrap_or_default()
}

#[test]
fn offers_name_the_operators_payees() {
    let scene = Scene::new("");
    let offers = challenge(&scene.post(CHAT, &[]))["accepts"].clone();
    assert_eq!(offers[0]["network"], TEST);
    assert_eq!((&offers[1]["network"], &offers[1]["payTo"]), (&json!(BASE_SEPOLIA), &json!(PAY_TO)));
    assert_eq!(offers[1]["extra"]["name"], "USDC");
}
