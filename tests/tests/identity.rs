//! Agents that sign their requests: who is recognised, who is not, and what that changes (IDN-2 to IDN-5, IDN-10 to IDN-14,
//! IDN-33 to IDN-37).

use std::io::Write as _;
use std::sync::{Mutex, mpsc};

use farthing_tests::gateway::{Gateway, PATIENCE, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::http2::Http2;
use farthing_tests::payer::{TEST, Wallet, now_s};
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::ask;
use farthing_tests::signer::{Call, Signer, unsigned};
use farthing_tests::socket::Socket;
use farthing_tests::upstream::{FRIENDLY_COST, STREAM_HEAD, Upstream};
use proof::identity::Tag;
use serde_json::{Value, json};
use wire::message_signature::Unsigned;

/// A route for each demand, all to the same upstream.
const ROUTES: &str = r#"routes: [
  { name: off, match: { method: POST, path: /off/v1/chat/completions }, upstream: raw, price: { per_call: 0.01 USD } },
  { name: observe, match: { method: POST, path: /observe/v1/chat/completions }, upstream: raw, price: { per_call: 0.01 USD }, identity: observe },
  { name: require, match: { method: POST, path: /require/v1/chat/completions }, upstream: raw, price: { per_call: 0.01 USD }, identity: require },
  { name: payer, match: { method: POST, path: /payer/v1/chat/completions }, upstream: raw, price: { per_call: 0.01 USD }, identity: { require: payer } },
  { name: chat, match: { method: POST, path: /v1/chat/completions }, upstream: openai, price: by_model, identity: observe } ]
"#;
const OFF: &str = "/off/v1/chat/completions";
const OBSERVE: &str = "/observe/v1/chat/completions";
const REQUIRE: &str = "/require/v1/chat/completions";
const PAYER: &str = "/payer/v1/chat/completions";
const CHAT: &str = "/v1/chat/completions";
const CENT: i64 = 10_000_000;
const WHOLE: i64 = 1_000_000_000;

fn configured(upstream: &Upstream, identity: &str) -> String {
    let address = upstream.address;
    format!(
        "upstreams: {{ raw: {{ url: \"http://{address}\", dialect: raw }}, openai: {{ url: \"http://{address}\", dialect: openai }} }}\n\
         {ROUTES}identity: {identity}\n"
    )
}

/// A gateway that knows one agent by his key alone.
fn knowing(upstream: &Upstream, agent: &Signer) -> Gateway {
    let identity = format!("{{ keyring: [{{ name: known, x: {} }}] }}", agent.x());
    Gateway::start(upstream.address, &configured(upstream, &identity))
}

/// Makes a call to a path, signed or not.
type Signs<'c> = &'c dyn Fn(&str) -> Call;

fn wba(agent: &Signer, call: Call) -> Call {
    agent.signed(Tag::WebBotAuth, &["@authority", "@path"], call)
}

#[track_caller]
fn assert_reason(answer: &Answer, code: &str, reason: &str) {
    assert_refused(answer, 401, code, "nothing_taken");
    assert_eq!(answer.json()["error"]["reason"], reason, "{}", answer.text());
}

/// IDN-2, IDN-3, IDN-13: each state on each route.
#[test]
fn idn_2_3_each_state_on_each_route() {
    let upstream = Upstream::friendly();
    let (agent, stranger) = (Signer::new(31), Signer::new(32));
    let gateway = knowing(&upstream, &agent);
    let key = gateway.key("1 TEST");
    let to = |target: &str| Call::post(gateway.address, target, &ask()).with("x-api-key", &key);
    let tap = |tag: Tag, target: &str| agent.signed(tag, &["@authority", "@path"], to(target));
    let bad = |target: &str| {
        let mut call = wba(&agent, to(target));
        call.method = "POST".into();
        call.altered("signature", Some(&format!("s1=:{}:", wire::base64::encode_std(&[1; 64]))))
    };
    let rsa = |target: &str| {
        let call = wba(&agent, to(target));
        let input = call.headers.iter().find(|(name, _)| name == "signature-input").unwrap().1.clone();
        call.altered("signature-input", Some(&input.replace("ed25519", "rsa-pss-sha512")))
    };
    let named = |target: &str| {
        let call = to(target).with("signature-agent", "a=\"https://agent.example\"");
        stranger.signed(Tag::WebBotAuth, &["@authority", "signature-agent;key=\"a\""], call)
    };
    let mut served = 0;
    let cases: [(&str, Signs<'_>, Option<&str>, Option<&str>); 9] = [
        ("absent", &to, Some("signature_missing"), Some("signature_missing")),
        ("Web Bot Auth", &|target| wba(&agent, to(target)), None, Some("signature_missing")),
        ("TAP, browsing", &|target| tap(Tag::AgentBrowser, target), None, Some("signature_missing")),
        ("TAP, paying", &|target| tap(Tag::AgentPayer, target), None, None),
        (
            "a holder's",
            &|target| tap(Tag::Holder, target),
            Some("signature_missing"),
            Some("signature_missing"),
        ),
        ("bad", &bad, Some("signature_invalid"), Some("signature_invalid")),
        ("not judged", &rsa, Some("signature_unverified"), Some("signature_unverified")),
        (
            "not known",
            &|target| wba(&stranger, to(target)),
            Some("signature_unverified"),
            Some("signature_unverified"),
        ),
        (
            "of a directory that is not asked",
            &named,
            Some("signature_unverified"),
            Some("signature_unverified"),
        ),
    ];
    for (what, call, on_require, on_payer) in cases {
        for (target, expected) in [(OFF, None), (OBSERVE, None), (REQUIRE, on_require), (PAYER, on_payer)] {
            let answer = call(target).send(gateway.address);
            match expected {
                Some(code) => assert_refused(&answer, 401, code, "nothing_taken"),
                None => {
                    assert_eq!(answer.status, 200, "{what} at {target}: {}", answer.text());
                    served += 1;
                }
            }
        }
    }
    assert_eq!(upstream.hits(), served);
    assert_eq!(gateway.settled_balance(&key), WHOLE - i64::try_from(served).unwrap() * CENT);
    // IDN-5: the signature covers our name, and would be false there.
    for seen in upstream.seen() {
        let leaked = |name: &str| name.starts_with("signature") || name == "content-digest";
        assert!(!seen.headers.iter().any(|(name, _)| leaked(name)), "{:?}", seen.headers);
    }
}

/// IDN-4: an identity that fails uses up no payment, and is no reason to pay (IDN-3).
#[test]
fn idn_4_a_failing_identity_uses_up_no_payment() {
    let upstream = Upstream::friendly();
    let agent = Signer::new(31);
    let gateway = knowing(&upstream, &agent);
    let unpaid = wba(&agent, Call::post(gateway.address, REQUIRE, &ask())).send(gateway.address);
    assert_eq!(unpaid.status, 402, "{}", unpaid.text());
    let payment = Wallet::new(1).pay(&unpaid, TEST);
    let paid = |call: Call| call.with("payment-signature", &payment.v2()).send(gateway.address);
    let bare = || Call::post(gateway.address, REQUIRE, &ask());
    assert_refused(&paid(bare()), 401, "signature_missing", "nothing_taken");
    let over =
        Unsigned { created: now_s() - 60, expires: now_s(), ..unsigned(Tag::WebBotAuth, &["@authority"]) };
    assert_reason(&paid(agent.sign(&over, bare())), "signature_invalid", "expired");
    assert_eq!(gateway.books().count("deposit"), 0);
    let answer = paid(wba(&agent, bare()));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!((upstream.hits(), gateway.books_after(1).count("deposit")), (1, 1));
}

/// IDN-10, IDN-11: replays, in this process and in the next; a forger cannot burn another's nonce.
#[test]
fn idn_11_a_signature_counts_once() {
    let upstream = Upstream::friendly();
    let (agent, forger) = (Signer::new(31), Signer::new(32));
    let mut gateway = knowing(&upstream, &agent);
    let key = gateway.key("1 TEST");
    let address = gateway.address;
    let bare = || Call::post(address, REQUIRE, &ask()).with("x-api-key", &key);
    let created = now_s() + 1;
    let own = Unsigned { created, ..unsigned(Tag::WebBotAuth, &["@authority", "@path"]) };
    let genuine = agent.sign(&own, bare());
    // The forger has seen the nonce, and signs in the agent's name.
    let forged = forger.sign(&own, bare());
    let input = forged.headers.iter().find(|(name, _)| name == "signature-input").unwrap().1.clone();
    let forged =
        forged.altered("signature-input", Some(&input.replace(&forger.thumbprint(), &agent.thumbprint())));
    assert_reason(&forged.send(address), "signature_invalid", "signature");
    assert_eq!(genuine.send(address).status, 200, "the victim's nonce is still his");
    assert_reason(&genuine.send(address), "signature_invalid", "nonce_used");
    assert_eq!(gateway.books_after(1).count("capture"), 1);
    wait_for("the second of the signature to pass", || (now_s() > created).then_some(()));
    gateway.crash_and_restart();
    let answer = genuine.send(address);
    assert_reason(&answer, "signature_unverified", "signed_before_restart");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(wba(&agent, bare()).send(address).status, 200);
    assert_eq!(gateway.settled_balance(&key), WHOLE - 2 * CENT);
}

/// IDN-7: signed for one host of ours, shown at another.
#[test]
fn idn_7_a_signature_is_for_one_host() {
    let upstream = Upstream::friendly();
    let agent = Signer::new(31);
    let identity = format!("{{ keyring: [{{ name: known, x: {} }}] }}", agent.x());
    let more = "server: { listen: [\"{address}\"], threads: 1, hosts: [one.test, two.test] }\n";
    let gateway = Gateway::start(upstream.address, &format!("{}{more}", configured(&upstream, &identity)));
    let key = gateway.key("1 TEST");
    let at = |host: &str| {
        let mut call = Call::post(gateway.address, REQUIRE, &ask()).with("x-api-key", &key);
        call.host = host.into();
        call
    };
    let mut moved = wba(&agent, at("one.test"));
    assert_eq!(wba(&agent, at("two.test")).send(gateway.address).status, 200);
    moved.host = "two.test".into();
    assert_reason(&moved.send(gateway.address), "signature_invalid", "signature");
    moved.host = "ONE.test".into();
    assert_eq!(moved.send(gateway.address).status, 200, "hosts have no case, and the nonce was not burned");
    let mut with_port = wba(&agent, at("one.test"));
    with_port.host = "one.test:80".into();
    assert_eq!(with_port.send(gateway.address).status, 200, "the usual port says nothing");
    let mut other_port = wba(&agent, at("one.test"));
    other_port.host = "one.test:81".into();
    assert_reason(&other_port.send(gateway.address), "signature_invalid", "signature");
}

/// IDN-7 over HTTP/2, where the host is no field.
#[test]
fn idn_7_the_host_of_http2_is_signed_too() {
    let upstream = Upstream::friendly();
    let agent = Signer::new(31);
    let gateway = knowing(&upstream, &agent);
    let key = gateway.key("1 TEST");
    let connection = Http2::connect(gateway.address);
    let bare = || Call::post(gateway.address, REQUIRE, &ask()).with("x-api-key", &key);
    assert_eq!(connection.call(&wba(&agent, bare())).head(), 200);
    assert_eq!(connection.call(&bare()).head(), 401);
    let mut moved = wba(&agent, bare());
    moved.host = format!("localhost:{}", gateway.address.port());
    assert_eq!(connection.call(&moved).head(), 401, "another name of ours, and not the one that was signed");
    assert_eq!(upstream.hits(), 1);
}

/// IDN-35: of a payer that is blocked nothing is claimed.
#[test]
fn idn_35_a_blocked_payer_pays_nothing() {
    let upstream = Upstream::friendly();
    let probe = Gateway::start(upstream.address, &configured(&upstream, "{}"));
    let pay = |gateway: &Gateway, wallet: u8| {
        let bare = || Call::post(gateway.address, OFF, &ask());
        let payment = Wallet::new(wallet).pay(&bare().send(gateway.address), TEST);
        (bare().with("payment-signature", &payment.v2()).send(gateway.address), payment)
    };
    let (served, payment) = pay(&probe, 1);
    assert_eq!(served.status, 200, "{}", served.text());
    let payer = payment.payload["authorization"]["from"].as_str().unwrap().to_ascii_uppercase();
    drop(probe);
    let gateway =
        Gateway::start(upstream.address, &configured(&upstream, &format!("{{ block: [\"{payer}\"] }}")));
    let (refused, _) = pay(&gateway, 1);
    assert_refused(&refused, 403, "agent_blocked", "nothing_taken");
    assert_eq!((upstream.hits(), gateway.books().count("deposit")), (1, 0));
    assert_eq!(pay(&gateway, 2).0.status, 200, "everybody else");
}

/// IDN-12: who signs the digest of a body signs the body; one that was exchanged burns no nonce.
#[test]
fn idn_12_a_signed_digest_is_compared() {
    let upstream = Upstream::friendly();
    let agent = Signer::new(31);
    let gateway = knowing(&upstream, &agent);
    let key = gateway.key("1 TEST");
    let call = Call::post(gateway.address, REQUIRE, &ask()).with("x-api-key", &key).with_digest();
    let signed = agent.signed(Tag::WebBotAuth, &["@authority", "content-digest"], call);
    let mut exchanged = signed.clone();
    exchanged.body = b"{}".to_vec();
    assert_reason(&exchanged.send(gateway.address), "signature_invalid", "content_digest");
    assert_eq!(signed.send(gateway.address).status, 200);
    assert_reason(&signed.send(gateway.address), "signature_invalid", "nonce_used");
    // One that is there and not signed proves nothing, and is nobody's business.
    let unsigned_digest =
        Call::post(gateway.address, REQUIRE, &ask()).with("x-api-key", &key).with("content-digest", "x");
    assert_eq!(wba(&agent, unsigned_digest).send(gateway.address).status, 200);
}

/// IDN-37: the log and the receipt name the agent, and nothing that could be used again.
#[test]
fn idn_37_receipt_and_log_name_the_agent() {
    let upstream = Upstream::friendly();
    let agent = Signer::new(31);
    let origin = "https://agent.example";
    let identity = format!("{{ keyring: [{{ name: known, x: {}, origin: \"{origin}\" }}] }}", agent.x());
    let gateway = Gateway::start(upstream.address, &configured(&upstream, &identity));
    let key = gateway.key("1 TEST");
    let call = || Call::post(gateway.address, CHAT, &ask()).with("x-api-key", &key);
    // Both dialects; a directory that is not his makes him somebody else (IDN-14).
    let old = call().with("signature-agent", "\"https://agent.example\"");
    let new = call().with("signature-agent", "webbot=\"https://agent.example/\"");
    let other = call().with("signature-agent", "\"https://other.example\"");
    let components = ["@authority", "signature-agent"];
    let signed = agent.signed(Tag::WebBotAuth, &components, old);
    let calls = [
        (signed.clone(), Some(origin)),
        (agent.signed(Tag::WebBotAuth, &["@authority", "signature-agent;key=\"webbot\""], new), Some(origin)),
        (agent.signed(Tag::WebBotAuth, &components, other), None),
        (call(), None),
    ];
    for (call, expected) in calls {
        let answer = call.send(gateway.address);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let target = format!("/farthing/receipts/{}", answer.must("farthing-receipt"));
        let receipt = http::get(gateway.address, &target, &[("x-api-key", &key)]);
        let payload = wire::jws::split(&receipt.text()).unwrap().payload;
        let receipt: Value = serde_json::from_slice(&payload).unwrap();
        let who = &receipt["agent"];
        assert_eq!(who["origin"].as_str(), expected, "{receipt}");
        if expected.is_some() {
            assert_eq!((&who["name"], &who["tag"]), (&json!("known"), &json!("web-bot-auth")));
            assert_eq!(who["thumbprint"], agent.thumbprint());
        } else {
            assert!(who.is_null(), "{receipt}");
        }
    }
    let log = wait_for("the line of the last call", || {
        let log = gateway.log();
        (log.matches("\"message\":\"call\"").count() == 4).then_some(log)
    });
    assert!(log.contains(&agent.thumbprint()) && log.contains("\"identity\":\"verified\""));
    for name in ["signature", "signature-input"] {
        let value = &signed.headers.iter().find(|(known, _)| known == name).unwrap().1;
        let (_, secret) = value.split_once('=').unwrap();
        assert!(!log.contains(secret) && !gateway.store_file().contains(secret), "{name}");
    }
    assert_eq!(gateway.settled_balance(&key), WHOLE - 4 * FRIENDLY_COST);
}

/// IDN-34: an agent has limits of its own, whatever it pays with, and is not counted with its neighbours.
#[test]
fn idn_34_an_agent_has_limits_of_its_own() {
    let upstream = Upstream::friendly();
    let (few, many, third) = (Signer::new(31), Signer::new(32), Signer::new(33));
    let identity = format!(
        "{{ keyring: [{{ name: few, x: {}, limits: {{ rpm: 2 }} }}, {{ name: many, x: {} }}, {{ name: third, x: {}, limits: {{ rpm: 2 }} }}] }}",
        few.x(),
        many.x(),
        third.x()
    );
    let limits = "limits: { unpaid: { per_ip: 1/min }, default: { rpm: 1000, concurrent: 100 } }\n";
    let gateway = Gateway::start(upstream.address, &format!("{}{limits}", configured(&upstream, &identity)));
    let bare = || Call::post(gateway.address, OBSERVE, &ask());
    let statuses =
        |agent: &Signer| (0..4).map(|_| wba(agent, bare()).send(gateway.address).status).collect::<Vec<_>>();
    assert_eq!(statuses(&few), [402, 402, 429, 429]);
    assert_eq!(statuses(&many), [402; 4], "by who asks, not by the address");
    // Whoever repeats another's signature fills none of his limits.
    let once = wba(&third, bare());
    let repeated: Vec<u16> = (0..5).map(|_| once.send(gateway.address).status).collect();
    assert_eq!(repeated[0], 402);
    assert_eq!(wba(&third, bare()).send(gateway.address).status, 402, "{repeated:?}");
    let unsigned: Vec<u16> = (0..3).map(|_| bare().send(gateway.address).status).collect();
    assert_eq!(unsigned, [429; 3], "the address has used up its own");
}

/// IDN-35: a block counts for the next call, and for a running stream at the next step of its hold.
#[test]
fn idn_35_a_blocked_agent_gets_nothing_more() {
    const TEN_TOKENS: &str = "0123456789012345678901234567890123456789";
    let event =
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{TEN_TOKENS}\"}}}}]}}\n\n");
    let (release, released) = mpsc::channel::<usize>();
    let released = Mutex::new(released);
    let upstream = Upstream::start(move |_, stream| {
        let _ = stream.write_all(STREAM_HEAD.as_bytes());
        for _ in 0..2 {
            let count = released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            // The gateway hangs up in the midst of the second.
            let _ = stream.write_all(event.repeat(count).as_bytes());
        }
    });
    let agent = Signer::new(31);
    let known =
        |block: &str| format!("{{ keyring: [{{ name: known, x: {} }}], block: [{block}] }}", agent.x());
    let steps = "metering: { hold: { step: 16, default_output: 16, min_output: 4 } }\n";
    let gateway = Gateway::start(upstream.address, &format!("{}{steps}", configured(&upstream, &known(""))));
    let key = gateway.key("1 TEST");
    let body = json!({"model": "m", "stream": true, "messages": []});
    let call = wba(&agent, Call::post(gateway.address, CHAT, &body).with("x-api-key", &key));
    let mut socket = Socket::connect(gateway.address);
    socket.send(call.bytes());
    release.send(1).unwrap();
    assert!(socket.read_until(TEN_TOKENS), "{}", String::from_utf8_lossy(&socket.got));
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    let blocked = text.replace(&known(""), &known(&agent.thumbprint()));
    assert_ne!(text, blocked);
    std::fs::write(gateway.config(), blocked).unwrap();
    gateway.operator(&["reload"]);
    let refused = wba(&agent, Call::post(gateway.address, OBSERVE, &ask()).with("x-api-key", &key));
    assert_refused(&refused.send(gateway.address), 403, "agent_blocked", "nothing_taken");
    socket.got.clear();
    release.send(50).unwrap();
    assert!(socket.read_until("[DONE]"), "{}", String::from_utf8_lossy(&socket.got));
    let said = String::from_utf8_lossy(&socket.got).into_owned();
    assert!(said.contains("key_revoked"), "{said}");
    assert!(said.matches(TEN_TOKENS).count() <= 8, "{said}");
    let (balance, _) = gateway.balance(&key);
    assert!(balance < WHOLE, "what was delivered is charged, and the key is as good as before");
}

/// IDN-33: two agents of two accounts in one request.
#[test]
fn idn_33_two_agents_of_two_accounts_are_ambiguous() {
    let upstream = Upstream::friendly();
    let (one, other) = (Signer::new(31), Signer::new(32));
    let account = |digit: &str| digit.repeat(32);
    let identity = |second: &str| {
        format!(
            "{{ keyring: [{{ name: one, x: {}, account: {} }}, {{ name: other, x: {}, account: {second} }}] }}",
            one.x(),
            account("a"),
            other.x()
        )
    };
    for (second, status) in [("b", 400), ("a", 200)] {
        let gateway = Gateway::start(upstream.address, &configured(&upstream, &identity(&account(second))));
        let key = gateway.key("1 TEST");
        let call = wba(&one, Call::post(gateway.address, OBSERVE, &ask()).with("x-api-key", &key));
        let both = other.signed(Tag::AgentPayer, &["@authority", "@path"], call).send(gateway.address);
        assert_eq!(both.status, status, "{}", both.text());
        if status == 400 {
            assert_refused(&both, 400, "ambiguous_credentials", "nothing_taken");
            assert_eq!(both.json()["error"]["reason"], "two_accounts");
        }
    }
}

/// Covered fields that two readers would read differently: whatever is done to them, nobody is recognised who did not sign
/// just that.
#[test]
fn hostile_fields_are_no_signature() {
    let upstream = Upstream::friendly();
    let agent = Signer::new(31);
    let gateway = knowing(&upstream, &agent);
    let key = gateway.key("1 TEST");
    let call = || {
        let call = Call::post(gateway.address, REQUIRE, &ask()).with("x-api-key", &key).with("x-tool", "one");
        agent.signed(Tag::WebBotAuth, &["@authority", "@path", "x-tool"], call)
    };
    let text = |call: &Call| String::from_utf8(call.bytes()).unwrap();
    let good = text(&call());
    assert_eq!(http::raw(gateway.address, good.as_bytes()).unwrap().status, 200);
    let before = upstream.hits();
    for (what, from, to, statuses) in [
        ("a second line", "x-tool: one\r\n", "x-tool: one\r\nx-tool: two\r\n", [401, 401]),
        ("a second line before", "x-tool: one\r\n", "x-tool: two\r\nx-tool: one\r\n", [401, 401]),
        ("gone", "x-tool: one\r\n", "", [401, 401]),
        ("folded", "x-tool: one\r\n", "x-tool: one\r\n two\r\n", [400, 401]),
        ("space before the colon", "x-tool: one\r\n", "x-tool : one\r\n", [400, 401]),
        ("a byte that is no ASCII", "x-tool: one\r\n", "x-tool: on\u{e9}\r\n", [400, 401]),
        ("another host", "host: ", "host: other.test\r\nx-host: ", [421, 400]),
        ("a second host", "host: ", "host: other.test\r\nhost: ", [400, 421]),
        ("two inputs", "signature-input: ", "signature-input: x=()\r\nsignature-input: ", [401, 401]),
        ("the same label twice", "signature: ", "signature: s0=:AA==:, ", [401, 401]),
        ("an upper-case parameter", ";keyid=", ";keyId=", [401, 401]),
        ("no expiry", ";expires=", ";expired=", [401, 401]),
        ("path with a triplet", "/require/v1", "/require/%761", [404, 401]),
    ] {
        let own = text(&call());
        let altered = own.replacen(from, to, 1);
        assert_ne!(own, altered, "{what}");
        let status = http::raw(gateway.address, altered.as_bytes()).unwrap().status;
        assert!(statuses.contains(&status), "{what}: {status}");
    }
    assert_eq!(upstream.hits(), before);
    // White space around a value says nothing.
    let spaced = text(&call()).replacen("x-tool: one\r\n", "x-tool: \t one \t\r\n", 1);
    assert_eq!(http::raw(gateway.address, spaced.as_bytes()).unwrap().status, 200);
}
