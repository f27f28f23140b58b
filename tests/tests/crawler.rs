//! Agents that are known and have an account: a price in a signed header is debited, once (IDN-20 to IDN-25).
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use farthing_tests::gateway::Gateway;
use farthing_tests::http::Answer;
use farthing_tests::payer::now_s;
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::ask;
use farthing_tests::signer::{Call, Signer, unsigned};
use farthing_tests::upstream::{FRIENDLY_COST, Upstream, friendly_answer, plain};
use proof::identity::Tag;
use serde_json::json;
use wire::message_signature::Unsigned;

/// A page costs a cent.
const PAGE: &str = "/pages/one";
const CHAT: &str = "/v1/chat/completions";
const EXACT: &str = "crawler-exact-price";
const MAX: &str = "crawler-max-price";
const CENT: i64 = 10_000_000;
const WHOLE: i64 = 1_000_000_000;

/// A gateway that sells pages and chats to an agent with an account.
struct Stage {
    upstream: Upstream,
    gateway: Gateway,
    agent: Signer,
    /// Of the agent's account, to look at its balance.
    key: String,
}

impl Stage {
    fn new() -> Self {
        Self::before(Upstream::friendly(), "", "1 TEST")
    }

    fn before(upstream: Upstream, more: &str, credit: &str) -> Self {
        let address = upstream.address;
        let (agent, poor) = (Signer::new(41), Signer::new(42));
        let sold = format!(
            "upstreams: {{ raw: {{ url: \"http://{address}\", dialect: raw }}, openai: {{ url: \"http://{address}\", dialect: openai }} }}\n\
             routes: [{{ name: page, match: {{ method: [GET, POST], path: /pages/** }}, upstream: raw, price: {{ per_call: 0.01 USD }}, identity: observe }}, \
                      {{ name: chat, match: {{ method: POST, path: /v1/chat/completions }}, upstream: openai, price: by_model, identity: observe }}]\n{more}"
        );
        let identity = |account: &str| {
            format!(
                "identity: {{ keyring: [{{ name: crawler, x: {}, account: {account} }}, {{ name: poor, x: {} }}] }}\n",
                agent.x(),
                poor.x()
            )
        };
        let nobody = identity(&"0".repeat(32));
        let gateway = Gateway::start(address, &format!("{sold}{nobody}"));
        // The operator opens an account, and names it.
        let made = gateway.operator(&["key", "new", "--credit", credit]);
        let text = std::fs::read_to_string(gateway.config()).unwrap();
        let named = text.replace(&nobody, &identity(made["account"].as_str().unwrap()));
        assert_ne!(text, named);
        std::fs::write(gateway.config(), named).unwrap();
        gateway.operator(&["reload"]);
        Self { upstream, gateway, agent, key: made["key"].as_str().unwrap().to_owned() }
    }

    fn page(&self) -> Call {
        Call::get(self.gateway.address, PAGE)
    }

    fn chat(&self) -> Call {
        Call::post(self.gateway.address, CHAT, &ask())
    }

    /// Accepts a price, signed.
    fn offer(&self, call: Call, field: &str, price: &str) -> Call {
        let call = call.with(field, price);
        self.agent.signed(Tag::WebBotAuth, &["@authority", "@path", field], call)
    }

    fn send(&self, call: &Call) -> Answer {
        call.send(self.gateway.address)
    }

    #[track_caller]
    fn assert_balance(&self, expected: i64) {
        assert_eq!(self.gateway.settled_balance(&self.key), expected);
    }
}

#[track_caller]
fn assert_error(answer: &Answer, status: u16, error: &str) {
    assert_eq!((answer.status, answer.must("crawler-error")), (status, error), "{}", answer.text());
    assert_eq!(answer.json()["money"], "nothing_taken");
    assert_eq!(answer.header("crawler-charged"), None);
}

/// IDN-20, IDN-23, IDN-24: the table of section 6 at a fixed price.
#[test]
fn idn_23_a_fixed_price() {
    let stage = Stage::new();
    let unsigned = stage.send(&stage.page());
    assert_refused(&unsigned, 402, "payment_required", "nothing_taken");
    assert_eq!(unsigned.header("crawler-price"), None, "IDN-24: only for whoever signs");
    let asks = stage.agent.signed(Tag::WebBotAuth, &["@authority"], stage.page());
    let priced = stage.send(&asks);
    assert_refused(&priced, 402, "payment_required", "nothing_taken");
    assert_eq!(priced.must("crawler-price"), "USD 0.01");
    assert!(priced.header("payment-required").is_some(), "beside the other doors");

    for (field, price) in
        [(EXACT, "USD 0.01"), (EXACT, "USD 0.010000000"), (MAX, "USD 0.01"), (MAX, "USD 0.5")]
    {
        let answer = stage.send(&stage.offer(stage.page(), field, price));
        assert_eq!(answer.status, 200, "{field} {price}: {}", answer.text());
        assert_eq!(answer.must("crawler-charged"), "USD 0.01");
    }
    stage.assert_balance(WHOLE - 4 * CENT);
    for (field, price, status, error) in [
        (EXACT, "USD 0.010000001", 402, "InvalidCrawlerExactPrice"),
        (EXACT, "USD 0.009999999", 402, "InvalidCrawlerExactPrice"),
        (MAX, "USD 0.009999999", 402, "InvalidCrawlerMaxPrice"),
        (MAX, "USD 0.0", 402, "InvalidCrawlerMaxPrice"),
        (EXACT, "USD 1", 400, "InvalidCrawlerPriceValue"),
        (EXACT, "EUR 0.01", 400, "InvalidCrawlerPriceValue"),
        (MAX, "USD 0.0000000001", 400, "InvalidCrawlerPriceValue"),
    ] {
        let answer = stage.send(&stage.offer(stage.page(), field, price));
        assert_error(&answer, status, error);
        if status == 402 {
            assert_eq!(answer.must("crawler-price"), "USD 0.01");
            assert!(answer.header("payment-required").is_some());
        }
    }
    let both = stage.page().with(EXACT, "USD 0.01").with(MAX, "USD 0.01");
    assert_error(&stage.send(&both), 400, "ConflictingPriceHeaders");
    stage.assert_balance(WHOLE - 4 * CENT);
    assert_eq!(stage.upstream.hits(), 4);
    // IDN-5: the upstream learns nothing of it.
    for seen in stage.upstream.seen() {
        let ours = |name: &str| name.starts_with("crawler") || name.starts_with("signature");
        assert!(!seen.headers.iter().any(|(name, _)| ours(name)), "{:?}", seen.headers);
    }
}

/// IDN-21, IDN-22: a price that is not signed is anybody's promise.
#[test]
fn idn_21_only_a_signed_price_counts() {
    let stage = Stage::new();
    let priced = || stage.page().with(MAX, "USD 0.01");
    let over = Unsigned {
        created: now_s() - 60,
        expires: now_s(),
        ..unsigned(Tag::WebBotAuth, &["@authority", MAX])
    };
    let bare = Unsigned { nonce: None, ..unsigned(Tag::WebBotAuth, &["@authority", MAX]) };
    let signs = |components: &[&str]| stage.agent.signed(Tag::WebBotAuth, components, priced());
    let raised = stage.offer(stage.page(), MAX, "USD 0.001").altered(MAX, Some("USD 0.01"));
    for (what, call, status, error) in [
        ("not signed at all", priced(), 400, "StrongAuthRequired"),
        ("price not signed", signs(&["@authority", "@path"]), 400, "InvalidSignature"),
        ("price raised afterwards", raised, 400, "InvalidSignature"),
        ("no nonce", stage.agent.sign(&bare, priced()), 400, "InvalidSignature"),
        ("over", stage.agent.sign(&over, priced()), 400, "InvalidSignature"),
        (
            "signed for something else",
            stage.agent.signed(Tag::AgentPayer, &["@authority", "@path", MAX], priced()),
            400,
            "InvalidSignature",
        ),
        (
            "an agent without an account",
            Signer::new(42).signed(Tag::WebBotAuth, &["@authority", MAX], priced()),
            403,
            "PaymentFailed",
        ),
        (
            "an agent that nobody knows",
            Signer::new(43).signed(Tag::WebBotAuth, &["@authority", MAX], priced()),
            401,
            "StrongAuthRequired",
        ),
    ] {
        let answer = stage.send(&call);
        assert_error(&answer, status, error);
        assert_eq!(stage.upstream.hits(), 0, "{what}");
    }
    let with_key = stage.offer(stage.page().with("x-api-key", &stage.key), MAX, "USD 0.01");
    assert_refused(&stage.send(&with_key), 400, "ambiguous_credentials", "nothing_taken");
    stage.assert_balance(WHOLE);
}

/// IDN-22: one signature debits once, also when it comes again after a restart, and only for the request it was for.
#[test]
fn idn_22_a_signature_debits_once() {
    let mut stage = Stage::new();
    let call = stage.agent.signed(Tag::WebBotAuth, &["@authority", MAX], stage.page().with(MAX, "USD 0.01"));
    let first = stage.send(&call);
    assert_eq!(first.status, 200, "{}", first.text());
    let again = stage.send(&call);
    assert_eq!((again.status, again.text()), (200, first.text()), "the same answer");
    let mut elsewhere = call.clone();
    elsewhere.target = "/pages/two".into();
    assert_error(&stage.send(&elsewhere), 400, "InvalidSignature");
    stage.assert_balance(WHOLE - CENT);
    assert_eq!(stage.gateway.books_after(1).count("capture"), 1);
    stage.gateway.crash_and_restart();
    let answer = stage.send(&call);
    assert_refused(&answer, 409, "already_served", "captured");
    assert_eq!(answer.must("farthing-receipt"), first.must("farthing-receipt"));
    assert_error(&stage.send(&elsewhere), 400, "InvalidSignature");
    stage.assert_balance(WHOLE - CENT);
    assert_eq!(stage.upstream.hits(), 1);
}

/// IDN-23: where usage decides, the price is a ceiling, and what was debited is told at the end.
#[test]
fn idn_23_a_metered_price_is_a_ceiling() {
    let stage = Stage::new();
    let exact = stage.send(&stage.offer(stage.chat(), EXACT, "USD 0.01"));
    assert_error(&exact, 402, "InvalidCrawlerExactPrice");
    let worst = exact.must("crawler-price").to_owned();
    assert!(worst.starts_with("USD 0.00"), "{worst}");
    let enough = stage.send(&stage.offer(stage.chat(), MAX, &worst));
    assert_eq!(enough.status, 200, "{}", enough.text());
    assert_eq!(enough.header("crawler-charged"), None, "not known at the head");
    stage.assert_balance(WHOLE - FRIENDLY_COST);
    let held: i64 = enough.told("farthing-hold");
    assert!(held >= FRIENDLY_COST, "{held}");

    let body = json!({"model": "m", "max_tokens": 1000, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let stream = Call::post(stage.gateway.address, CHAT, &body).with("te", "trailers");
    let answer = stage.send(&stage.offer(stream, MAX, "USD 0.01"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let charged = ": crawler-charged: USD 0.00003";
    assert!(answer.text().contains(charged), "{}", answer.text());
    let trailer = answer.trailers.iter().find(|(name, _)| name == "crawler-charged");
    assert_eq!(trailer.map(|(_, value)| value.as_str()), Some("USD 0.00003"));
    stage.assert_balance(WHOLE - 2 * FRIENDLY_COST);
    assert_eq!(stage.gateway.books_after(2).count("capture"), 2);
}

/// IDN-23: less output for less money only where the operator allows that.
#[test]
fn idn_23_output_is_lowered_where_that_is_allowed() {
    for (fits, status) in [("true", 200), ("false", 402)] {
        let stage = Stage::before(
            Upstream::friendly(),
            &format!("metering: {{ hold: {{ fit_to_balance: {fits} }} }}\n"),
            "1 TEST",
        );
        let body =
            json!({"model": "m", "max_tokens": 10_000, "messages": [{"role": "user", "content": "hi"}]});
        let call = Call::post(stage.gateway.address, CHAT, &body);
        let answer = stage.send(&stage.offer(call, MAX, "USD 0.01"));
        assert_eq!(answer.status, status, "{}", answer.text());
        if status == 402 {
            assert_error(&answer, 402, "InvalidCrawlerMaxPrice");
            assert!(answer.must("crawler-price") > "USD 0.04");
            stage.assert_balance(WHOLE);
        } else {
            assert!(answer.told("farthing-hold") <= CENT);
            assert!(answer.must("farthing-clamped").starts_with("max_tokens="));
            stage.assert_balance(WHOLE - FRIENDLY_COST);
        }
    }
}

/// IDN-25: an upstream that fails costs nothing, and the same signature may be tried again.
#[test]
fn idn_25_nothing_is_debited_for_a_failure() {
    let works = std::sync::Arc::new(AtomicBool::new(false));
    let state = std::sync::Arc::clone(&works);
    let upstream = Upstream::start(move |request, stream| {
        let answer = match state.load(Ordering::SeqCst) {
            true => friendly_answer(request),
            false => plain(500, "text/plain", "no"),
        };
        let _ = stream.write_all(&answer);
    });
    let stage = Stage::before(upstream, "", "1 TEST");
    let call = stage.offer(stage.page(), EXACT, "USD 0.01");
    let failed = stage.send(&call);
    assert_eq!((failed.status, failed.header("crawler-charged")), (500, None), "{}", failed.text());
    stage.assert_balance(WHOLE);
    works.store(true, Ordering::SeqCst);
    let answer = stage.send(&call);
    assert_eq!((answer.status, answer.must("crawler-charged")), (200, "USD 0.01"));
    stage.assert_balance(WHOLE - CENT);
}

/// The balance is what it is: an agent whose account does not cover a call is told so, and no other account pays.
#[test]
fn an_account_that_does_not_cover_a_call_pays_nothing() {
    let stage = Stage::before(Upstream::friendly(), "", "0.009999999 TEST");
    for field in [EXACT, MAX] {
        assert_error(&stage.send(&stage.offer(stage.page(), field, "USD 0.01")), 403, "PaymentFailed");
    }
    assert_eq!((stage.upstream.hits(), stage.gateway.books().count("capture")), (0, 0));
    stage.assert_balance(CENT - 1);
}
