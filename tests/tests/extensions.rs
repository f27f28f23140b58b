//! x402 extensions: named payments (X402-34), sign-in with a wallet (X402-35, A24), signed offers and receipts (X402-36,
//! A18), discovery (X402-37); and the header they share with the offers (X402-5).
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use farthing_tests::channel::{AUTHORIZER, Channel, ChannelFacilitator};
use farthing_tests::facilitator::{Conduct, Facilitator, PAY_TO};
use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::payer::{BASE_SEPOLIA, Payment, Wallet, challenge, decode, encode, now_s};
use farthing_tests::refused::assert_refused;
use farthing_tests::upstream::{FRIENDLY_COST, Upstream, plain};
use proof::x402_attest::{self, AttestError, Attested, Trusted};
use serde_json::{Value, json};
use wire::x402::Address;
use wire::x402::offer_receipt::{Offer, Receipt};
use wire::x402::v2::PaymentRequirements;

const CHAT: &str = "/v1/chat/completions";
const SIGN_IN: &str = "/farthing/sign-in";
const NAME: &str = "pay_0123456789abcdef";

fn ask(text: &str) -> Value {
    json!({"model": "m", "max_tokens": 1000, "messages": [{"role": "user", "content": text}]})
}

/// A gateway that is paid through a facilitator, before a friendly upstream.
struct Scene {
    upstream: Upstream,
    facilitator: Facilitator,
    gateway: Gateway,
}

impl Scene {
    fn new() -> Self {
        Self::with("", "")
    }

    /// With more settings under `rails.x402`, and more sections.
    fn with(x402: &str, more: &str) -> Self {
        Self::of([], x402, more)
    }

    fn of(plan: impl IntoIterator<Item = Conduct>, x402: &str, more: &str) -> Self {
        let upstream = Upstream::friendly();
        let facilitator = Facilitator::start(plan);
        let gateway = Gateway::start(upstream.address, &rails(&facilitator, x402, more));
        Self { upstream, facilitator, gateway }
    }

    fn post(&self, headers: &[(&str, &str)], text: &str) -> Answer {
        http::post(self.gateway.address, CHAT, headers, &ask(text))
    }

    /// A 402, and the wallet's payment for it.
    fn offered(&self, wallet: &Wallet, text: &str) -> (Value, Payment) {
        let answer = self.post(&[], text);
        assert_refused(&answer, 402, "payment_required", "nothing_taken");
        (challenge(&answer), wallet.pay(&answer, BASE_SEPOLIA))
    }

    /// Pays for a call with a fresh payment of this name.
    fn pay_as(&self, wallet: u8, name: &str, text: &str) -> Answer {
        let (challenge, payment) = self.offered(&Wallet::new(wallet), text);
        let payment = payment.v2_with(&named(&challenge, name));
        self.post(&[("payment-signature", &payment)], text)
    }

    /// The same, once the call before it has been written down.
    fn pay_again_as(&self, wallet: u8, name: &str, text: &str) -> Answer {
        wait_for("the call before to be written down", || {
            let answer = self.pay_as(wallet, name, text);
            (answer.refusal() != "in_progress").then_some(answer)
        })
    }

    /// Pays once, and throws the key away.
    fn paid(&self, wallet: u8) -> Payment {
        let (_, payment) = self.offered(&Wallet::new(wallet), "first");
        let answer = self.post(&[("payment-signature", &payment.v2())], "first");
        assert_eq!(answer.status, 200, "{}", answer.text());
        wait_for("the call to be charged", || {
            let books = self.gateway.books();
            (books.count("capture") > 0).then_some(())
        });
        payment
    }

    /// The terms of a sign-in, from a 402.
    fn terms(&self) -> Value {
        let answer = self.post(&[], "terms");
        challenge(&answer)["extensions"]["sign-in-with-x"].clone()
    }

    fn sign_in(&self, answer: &Value) -> Answer {
        self.post(&[("sign-in-with-x", &encode(answer))], "signed in")
    }

    fn key(&self, answer: &Value) -> Answer {
        http::post(self.gateway.address, SIGN_IN, &[("sign-in-with-x", &encode(answer))], &json!({}))
    }
}

fn rails(facilitator: &Facilitator, x402: &str, more: &str) -> String {
    format!(
        "rails: {{ x402: {{ networks: {{ \"{BASE_SEPOLIA}\": {{ asset: USDC, pay_to: \"{PAY_TO}\" }} }}, \
         facilitators: [\"http://{}\"], settle_timeout: 5s{x402} }} }}\n{more}",
        facilitator.address
    )
}

/// What a stock client brings back: everything that was declared, with its own name in it.
fn named(challenge: &Value, name: &str) -> Value {
    let mut extensions = challenge["extensions"].clone();
    extensions["payment-identifier"]["info"]["id"] = json!(name);
    extensions
}

#[track_caller]
fn reason(answer: &Answer) -> String {
    answer.json()["error"]["reason"].as_str().unwrap_or_default().to_owned()
}

#[track_caller]
fn assert_replayed(again: &Answer, first: &Answer) {
    assert_eq!((again.status, again.header("farthing-replayed")), (200, Some("true")), "{}", again.text());
    assert_eq!(
        (&again.body, again.header("farthing-receipt")),
        (&first.body, first.header("farthing-receipt"))
    );
    assert_eq!(again.header("farthing-key"), None);
}

// payment-identifier

#[test]
fn x402_34_a_named_payment_is_paid_once() {
    let scene = Scene::new();
    let (challenge, _) = scene.offered(&Wallet::new(1), "a");
    assert_eq!(challenge["extensions"]["payment-identifier"], json!({"info": {"required": false}}));
    let first = scene.pay_as(1, NAME, "a");
    assert_eq!(first.status, 200, "{}", first.text());
    // Another signature, as stock clients make one for every try; the name says that it is the same payment.
    let again = scene.pay_again_as(1, NAME, "a");
    assert_replayed(&again, &first);
    assert_eq!((scene.upstream.hits(), scene.facilitator.transfers()), (1, 1));
    // Another name is another payment, and so is one without.
    assert_eq!(scene.pay_as(1, "pay_fedcba9876543210", "a").header("farthing-replayed"), None);
    assert_eq!((scene.upstream.hits(), scene.facilitator.transfers()), (2, 2));
}

#[test]
fn x402_34_a_used_name_takes_nothing_for_anything_else() {
    let scene = Scene::new();
    assert_eq!(scene.pay_as(1, NAME, "a").status, 200);
    let other = scene.pay_again_as(1, NAME, "another question");
    assert_refused(&other, 409, "id_conflict", "nothing_taken");
    assert_eq!(other.header("x-should-retry"), Some("false"));
    assert_eq!((scene.upstream.hits(), scene.facilitator.transfers()), (1, 1));
    // The name is one of the payer: somebody else's is another, and he is told nothing of the first.
    let stranger = scene.pay_as(2, NAME, "a");
    assert_eq!((stranger.status, stranger.header("farthing-replayed")), (200, None), "{}", stranger.text());
    assert_eq!((scene.upstream.hits(), scene.facilitator.transfers()), (2, 2));
}

/// In flight the first decides; after a kill the receipt is still there.
#[test]
fn x402_34_a_name_is_in_use_while_its_payment_settles_and_after_a_kill() {
    let open = Arc::new(AtomicBool::new(false));
    let mut scene = Scene::of([Conduct::SettleWhen(Arc::clone(&open))], "", "");
    let first = thread::scope(|scope| {
        let paying = scope.spawn(|| scene.pay_as(1, NAME, "a"));
        wait_for("the payment to be on its way", || (!scene.facilitator.settles().is_empty()).then_some(()));
        let second = scene.pay_as(1, NAME, "a");
        assert_refused(&second, 409, "in_progress", "first_attempt_decides");
        assert_refused(&scene.pay_as(1, NAME, "b"), 409, "id_conflict", "nothing_taken");
        open.store(true, Ordering::SeqCst);
        paying.join().unwrap()
    });
    assert_eq!(first.status, 200, "{}", first.text());
    assert_replayed(&scene.pay_again_as(1, NAME, "a"), &first);
    scene.gateway.crash_and_restart();
    let after = scene.pay_as(1, NAME, "a");
    assert_refused(&after, 409, "already_served", "captured");
    assert_eq!(after.header("farthing-receipt"), first.header("farthing-receipt"));
    assert_refused(&scene.pay_as(1, NAME, "b"), 409, "id_conflict", "nothing_taken");
    assert_eq!((scene.upstream.hits(), scene.facilitator.transfers()), (1, 1));
}

#[test]
fn x402_34_a_name_that_is_asked_for_is_given_and_well_formed() {
    let scene = Scene::with(", payment_identifier: required", "");
    let (challenge, payment) = scene.offered(&Wallet::new(1), "a");
    assert_eq!(challenge["extensions"]["payment-identifier"], json!({"info": {"required": true}}));
    let unnamed = challenge["extensions"].clone();
    for (sent, expected) in [
        (("payment-signature", payment.v2()), "payment_identifier_missing"),
        (("payment-signature", payment.v2_with(&unnamed)), "payment_identifier_missing"),
        (("x-payment", payment.v1()), "payment_identifier_missing"),
        (("payment-signature", payment.v2_with(&named(&challenge, "short"))), "payment_identifier_malformed"),
    ] {
        let answer = scene.post(&[(sent.0, &sent.1)], "a");
        assert_refused(&answer, 400, "bad_request", "nothing_taken");
        assert_eq!(reason(&answer), expected);
    }
    assert_eq!((scene.upstream.hits(), scene.facilitator.transfers()), (0, 0));
    let answer = scene.post(&[("payment-signature", &payment.v2_with(&named(&challenge, NAME)))], "a");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// The key names the request, the identifier the payment: either finds the outcome.
#[test]
fn x402_34_two_names_are_one_call() {
    let scene = Scene::new();
    let wallet = Wallet::new(1);
    let send = |extensions: fn(&Value) -> Value, key: Option<&str>, text: &str| {
        let (challenge, payment) = scene.offered(&wallet, text);
        let payment = payment.v2_with(&extensions(&challenge));
        let mut headers = vec![("payment-signature", payment.as_str())];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        scene.post(&headers, text)
    };
    let by_name = |challenge: &Value| named(challenge, NAME);
    let bare = |challenge: &Value| challenge["extensions"].clone();
    let first = send(by_name, Some("key-1"), "a");
    assert_eq!(first.status, 200, "{}", first.text());
    let written = wait_for("the call to be written down", || {
        let answer = send(bare, Some("key-1"), "a");
        (answer.refusal() != "in_progress").then_some(answer)
    });
    assert_replayed(&written, &first);
    assert_replayed(&send(by_name, None, "a"), &first);
    assert_replayed(&send(by_name, Some("key-2"), "a"), &first);
    assert_refused(&send(bare, Some("key-1"), "b"), 422, "idempotency_mismatch", "nothing_taken");
    assert_refused(&send(by_name, Some("key-3"), "b"), 409, "id_conflict", "nothing_taken");
    assert_eq!((scene.upstream.hits(), scene.facilitator.transfers()), (1, 1));
}

/// A name holds for a voucher too: the channel stands where it stood. Wishing for one's money back needs no name.
#[test]
fn x402_34_a_named_voucher_is_charged_once() {
    const DEPOSIT: u128 = 500_000;
    let (upstream, chain) = (Upstream::friendly(), ChannelFacilitator::start());
    let rails = chain.rails("").replacen("batch:", "payment_identifier: required, batch:", 1);
    let gateway = Gateway::start_in(upstream.address, &rails, &[AUTHORIZER]);
    let mut channel = Channel::new(0x51, 0);
    let post = |header: &str| http::post(gateway.address, CHAT, &[("payment-signature", header)], &ask("a"));
    let unpaid = || http::post(gateway.address, CHAT, &[], &ask("a"));
    let named_as = |unpaid: &Answer, header: &str, name: &str| {
        let mut payment = decode(header);
        payment["extensions"] = named(&challenge(unpaid), name);
        encode(&payment)
    };
    let told = unpaid();
    let opening = channel.pays(&told, Some(DEPOSIT));
    assert_refused(&post(&opening), 400, "bad_request", "nothing_taken");
    let first = post(&named_as(&told, &opening, NAME));
    assert_eq!(first.status, 200, "{}", first.text());
    channel.learns(&first, DEPOSIT);
    let charged = channel.charged;
    // The next voucher under the same name is not taken: the answer is that of the first.
    let again = wait_for("the call to be written down", || {
        let told = unpaid();
        let again = post(&named_as(&told, &channel.pays(&told, None), NAME));
        (!["in_progress", "channel_busy"].contains(&again.refusal().as_str())).then_some(again)
    });
    assert_replayed(&again, &first);
    assert_eq!(again.header("payment-response"), first.header("payment-response"));
    let told = unpaid();
    let next = post(&named_as(&told, &channel.pays(&told, None), "pay_fedcba9876543210"));
    assert_eq!((next.status, next.header("farthing-replayed")), (200, None), "{}", next.text());
    channel.learns(&next, 0);
    assert!(channel.charged > charged);
    assert_eq!((upstream.hits(), chain.count("deposit")), (2, 1));
    let refunded = post(&channel.asks_back(&unpaid(), None));
    assert_eq!(refunded.status, 200, "{}", refunded.text());
}

#[test]
fn x402_10_an_echo_of_an_extension_may_add_and_not_change() {
    let scene = Scene::new();
    let (challenge, payment) = scene.offered(&Wallet::new(1), "a");
    let declared = &challenge["extensions"];
    let changed = |pointer: &str, value: Value| {
        let mut extensions = declared.clone();
        *extensions.pointer_mut(pointer).unwrap() = value;
        extensions
    };
    for altered in [
        changed("/payment-identifier/info/required", json!(true)),
        changed("/payment-identifier/info", json!({"id": NAME})),
        changed("/payment-identifier", json!({})),
        changed("/sign-in-with-x/info/domain", json!("evil.example")),
        changed("/sign-in-with-x/info/uri", json!("https://evil.example/")),
    ] {
        let answer = scene.post(&[("payment-signature", &payment.v2_with(&altered))], "a");
        assert_refused(&answer, 402, "proof_invalid", "nothing_taken");
        assert_eq!(reason(&answer), "extension_echo_mismatch", "{altered}");
    }
    assert_eq!((scene.upstream.hits(), scene.facilitator.transfers()), (0, 0));
    // Added members, strangers' extensions and an older nonce are fine.
    let mut added = changed("/sign-in-with-x/info/nonce", json!("0"));
    added["stranger"] = json!({"info": {}});
    added["payment-identifier"]["info"]["more"] = json!(1);
    let answer = scene.post(&[("payment-signature", &payment.v2_with(&added))], "a");
    assert_eq!(answer.status, 200, "{}", answer.text());
    // What was settled is told whatever comes back with it now.
    let broken = changed("/payment-identifier", json!({}));
    let again = wait_for("the call to be written down", || {
        let again = scene.post(&[("payment-signature", &payment.v2_with(&broken))], "a");
        (again.refusal() != "in_progress").then_some(again)
    });
    assert_replayed(&again, &answer);
}

// sign-in-with-x

/// Item 5: the way to a payer's change without his credit key.
#[test]
fn x402_35_a_wallet_that_paid_opens_its_balance() {
    let scene = Scene::new();
    let (wallet, payment) = (Wallet::new(1), scene.paid(1));
    let terms = scene.terms();
    let chains = json!([{"chainId": BASE_SEPOLIA, "type": "eip191"}]);
    assert_eq!((&terms["supportedChains"], &terms["info"]["version"]), (&chains, &json!("1")));
    assert_eq!(terms["info"]["domain"], scene.gateway.address.to_string());
    assert_eq!(terms["info"]["uri"], format!("http://{}{CHAT}", scene.gateway.address));

    let signed = wallet.sign_in(&terms, BASE_SEPOLIA);
    let answer = scene.sign_in(&signed);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let key = answer.must("farthing-key");
    let left = payment.nano() - 2 * FRIENDLY_COST;
    assert_eq!(scene.gateway.settled_balance(key), left);
    // The key draws on it without a further signature, and no money has moved but the first.
    assert_eq!(scene.post(&[("x-api-key", key)], "third").status, 200);
    assert_eq!(scene.gateway.settled_balance(key), left - FRIENDLY_COST);
    assert_eq!((scene.upstream.hits(), scene.facilitator.transfers()), (3, 1));
    // Neither is for anybody else.
    let signature = signed["signature"].as_str().unwrap();
    for text in [scene.gateway.store_file(), scene.gateway.log()] {
        assert!(!text.contains(key) && !text.contains(signature));
    }
    assert!(scene.upstream.seen().iter().all(|seen| seen.header("sign-in-with-x").is_none()));
}

#[test]
fn x402_35_a_key_is_had_without_a_call() {
    let scene = Scene::new();
    let (wallet, payment) = (Wallet::new(1), scene.paid(1));
    let bare = http::post(scene.gateway.address, SIGN_IN, &[], &json!({}));
    assert_eq!((bare.status, bare.code().as_str()), (402, "payment_required"), "{}", bare.text());
    let asked = challenge(&bare);
    assert_eq!(asked["accepts"], json!([]), "nothing is to be paid");
    let url = format!("http://{}{SIGN_IN}", scene.gateway.address);
    assert_eq!(asked["extensions"]["sign-in-with-x"]["info"]["uri"], url.as_str());
    let terms = http::get(scene.gateway.address, SIGN_IN, &[]);
    assert_eq!((terms.status, terms.header("cache-control")), (200, Some("no-store")));
    for terms in [&asked["extensions"]["sign-in-with-x"], &terms.json(), &scene.terms()] {
        let answer = scene.key(&wallet.sign_in(terms, BASE_SEPOLIA));
        assert_eq!(
            (answer.status, answer.header("cache-control")),
            (200, Some("no-store")),
            "{}",
            answer.text()
        );
        let body = answer.json();
        assert_eq!(body["account"], wallet.account(&payment));
        assert_eq!(body["balance"]["amount"], nano(payment.nano() - FRIENDLY_COST));
        let key = body["key"].as_str().unwrap();
        assert_eq!(scene.gateway.balance(key).0, payment.nano() - FRIENDLY_COST);
    }
    assert_eq!(scene.upstream.hits(), 1);
}

fn nano(units: i64) -> String {
    format!("{}.{:09}", units / 1_000_000_000, units % 1_000_000_000)
}

/// A24: shown twice, for another host, old, of the future, by another wallet, by another signature of the same wallet.
#[test]
fn x402_35_a24_a_sign_in_that_is_not_for_us_now_opens_nothing() {
    let scene = Scene::new();
    scene.paid(1);
    let wallet = Wallet::new(1);
    let host = scene.gateway.address.to_string();
    let signed_with = |member: &str, value: Value| {
        let mut terms = scene.terms();
        terms["info"][member] = value;
        wallet.sign_in(&terms, BASE_SEPOLIA)
    };
    let at = |seconds: u64| json!(wire::rfc3339::format(seconds).unwrap());
    let altered = |member: &str, value: Value| {
        let mut answer = wallet.sign_in(&scene.terms(), BASE_SEPOLIA);
        answer[member] = value;
        answer
    };
    let good = wallet.sign_in(&scene.terms(), BASE_SEPOLIA);
    let first = scene.sign_in(&good);
    assert_eq!(first.status, 200, "{}", first.text());
    // Other spellings of a signature that is good: v counted from 0, and no v at all.
    let respelt = |spell: fn(&str) -> String| {
        let mut answer = wallet.sign_in(&scene.terms(), BASE_SEPOLIA);
        answer["signature"] = json!(spell(answer["signature"].as_str().unwrap()));
        answer
    };
    let from_zero =
        respelt(|text| format!("{}{}", &text[..130], if text.ends_with("1b") { "00" } else { "01" }));
    let compact = respelt(|text| text[..130].to_owned());
    let elsewhere = wallet.sign_in(&scene.terms(), "eip155:8453");
    for (what, answer, expected) in [
        ("the same header twice", good, "invalid_siwx_nonce"),
        ("another host", signed_with("domain", json!("evil.example")), "invalid_siwx_domain_mismatch"),
        (
            "a longer host",
            signed_with("domain", json!(format!("{host}.evil"))),
            "invalid_siwx_domain_mismatch",
        ),
        ("another origin", signed_with("uri", json!("http://evil.example/")), "invalid_siwx_uri_mismatch"),
        ("old", signed_with("issuedAt", at(now_s() - 301)), "invalid_siwx_issued_at_too_old"),
        ("of the future", signed_with("issuedAt", at(now_s() + 100)), "invalid_siwx_issued_at_in_future"),
        ("over", signed_with("expirationTime", at(now_s() - 1)), "invalid_siwx_expired"),
        ("a nonce of its own", signed_with("nonce", json!("5a".repeat(32))), "invalid_siwx_nonce"),
        ("a chain that is not ours", elsewhere, "invalid_siwx_unsupported_chain"),
        (
            "another wallet's name",
            altered("address", json!(Wallet::new(2).address())),
            "invalid_siwx_signature",
        ),
        ("another text", altered("statement", json!("Give me the key")), "invalid_siwx_signature"),
        ("v from 0", from_zero, "invalid_siwx_signature"),
        ("no v", compact, "invalid_siwx_malformed_signature"),
    ] {
        let called = scene.sign_in(&answer);
        assert_refused(&called, 402, "proof_invalid", "nothing_taken");
        let asked = scene.key(&answer);
        assert_eq!((asked.status, asked.code().as_str()), (402, "proof_invalid"), "{what}: {}", asked.text());
        for refused in [&called, &asked] {
            assert_eq!(reason(refused), expected, "{what}");
            assert_eq!(refused.header("farthing-key"), None, "{what}");
            // Whoever meant well gets what he needs for the next try.
            assert!(
                challenge(refused)["extensions"]["sign-in-with-x"]["info"]["nonce"].is_string(),
                "{what}"
            );
        }
    }
    for header in ["", "?", "e30=", "bnVsbA=="] {
        let answer = scene.post(&[("sign-in-with-x", header)], "a");
        assert_refused(&answer, 402, "malformed_credential", "nothing_taken");
    }
    let twice = encode(&wallet.sign_in(&scene.terms(), BASE_SEPOLIA));
    let answer = scene.post(&[("sign-in-with-x", &twice), ("sign-in-with-x", &twice)], "a");
    assert_refused(&answer, 400, "bad_request", "nothing_taken");
    let answer = http::request(
        scene.gateway.address,
        "POST",
        CHAT,
        &[("sign-in-with-x", &"A".repeat(20_000)), ("content-type", "application/json")],
        ask("a").to_string().as_bytes(),
    );
    assert_eq!(answer.status, 431, "{}", answer.text());
    assert_eq!(scene.upstream.hits(), 2);
}

/// The nonces of a process die with it, used or not.
#[test]
fn x402_35_a24_a_restart_forgets_what_was_handed_out() {
    let mut scene = Scene::new();
    scene.paid(1);
    let wallet = Wallet::new(1);
    let (used, unused) =
        (wallet.sign_in(&scene.terms(), BASE_SEPOLIA), wallet.sign_in(&scene.terms(), BASE_SEPOLIA));
    assert_eq!(scene.sign_in(&used).status, 200);
    wait_for("the second charge", || (scene.gateway.books().count("capture") == 2).then_some(()));
    scene.gateway.crash_and_restart();
    for answer in [used, unused] {
        let refused = scene.sign_in(&answer);
        assert_refused(&refused, 402, "proof_invalid", "nothing_taken");
        assert_eq!(reason(&refused), "invalid_siwx_nonce");
    }
    assert_eq!(scene.sign_in(&wallet.sign_in(&scene.terms(), BASE_SEPOLIA)).status, 200);
}

/// At once, from many sides: one of them.
#[test]
fn x402_35_a24_one_answer_sent_at_once_opens_once() {
    let scene = Scene::new();
    scene.paid(1);
    let header = encode(&Wallet::new(1).sign_in(&scene.terms(), BASE_SEPOLIA));
    let send =
        |_| http::post(scene.gateway.address, SIGN_IN, &[("sign-in-with-x", &header)], &json!({})).status;
    let mut statuses = farthing_tests::crowd::at_once(32, send);
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (200, [402; 31].as_slice()));
}

#[test]
fn x402_35_a_wallet_that_never_paid_opens_nothing() {
    let scene = Scene::new();
    let payment = scene.paid(1);
    let stranger = Wallet::new(2);
    let answer = stranger.sign_in(&scene.terms(), BASE_SEPOLIA);
    let called = scene.sign_in(&answer);
    assert_refused(&called, 402, "payment_required", "nothing_taken");
    let asked = scene.key(&answer);
    assert_eq!((asked.status, asked.code().as_str()), (402, "payment_required"));
    for refused in [&called, &asked] {
        assert_eq!(reason(refused), "no_account");
        assert_eq!(refused.header("farthing-key"), None);
    }
    // The challenge is one to pay, as stock clients then do; and then the wallet has a balance.
    let paid = stranger.pay(&called, BASE_SEPOLIA);
    assert_eq!(scene.post(&[("payment-signature", &paid.v2())], "signed in").status, 200);
    assert_eq!(scene.key(&stranger.sign_in(&scene.terms(), BASE_SEPOLIA)).status, 200);
    assert_ne!(stranger.account(&paid), Wallet::new(1).account(&payment));
}

/// What does not cover the call asks for a payment, and hands out no key.
#[test]
fn x402_35_an_opened_balance_is_spent_and_not_more() {
    let scene = Scene::new();
    let (wallet, payment) = (Wallet::new(1), scene.paid(1));
    let mut dear = ask("signed in");
    dear["max_tokens"] = json!(200_000);
    dear["n"] = json!(8);
    let header = encode(&wallet.sign_in(&scene.terms(), BASE_SEPOLIA));
    let answer = http::post(scene.gateway.address, CHAT, &[("sign-in-with-x", &header)], &dear);
    assert_refused(&answer, 402, "insufficient_balance", "nothing_taken");
    assert_eq!(answer.header("farthing-key"), None);
    assert_eq!(scene.gateway.books().balance(&wallet.account(&payment)), payment.nano() - FRIENDLY_COST);
}

#[test]
fn x402_35_what_the_operator_has_closed_stays_closed() {
    let scene = Scene::new();
    let (wallet, payment) = (Wallet::new(1), scene.paid(1));
    let account = wallet.account(&payment);
    scene.gateway.operator(&["account", "set", &account, "--freeze"]);
    let signed = || wallet.sign_in(&scene.terms(), BASE_SEPOLIA);
    assert_refused(&scene.sign_in(&signed()), 403, "account_frozen", "nothing_taken");
    assert_refused(&scene.key(&signed()), 403, "account_frozen", "nothing_taken");
    scene.gateway.operator(&["account", "set", &account, "--unfreeze"]);
    assert_eq!(scene.key(&signed()).status, 200);
    scene.gateway.operator(&["key", "revoke", &account]);
    assert_refused(&scene.sign_in(&signed()), 401, "key_revoked", "nothing_taken");
    assert_refused(&scene.key(&signed()), 401, "key_revoked", "nothing_taken");
}

/// A key or a payment beside it decides alone, and the sign-in is not used up.
#[test]
fn x402_35_another_credential_decides_alone() {
    let scene = Scene::new();
    scene.paid(1);
    let header = encode(&Wallet::new(1).sign_in(&scene.terms(), BASE_SEPOLIA));
    let key = scene.gateway.key("1 TEST");
    let answer = scene.post(&[("sign-in-with-x", &header), ("x-api-key", &key)], "a");
    assert_eq!((answer.status, answer.header("farthing-key")), (200, None), "{}", answer.text());
    assert_eq!(scene.gateway.settled_balance(&key), 1_000_000_000 - FRIENDLY_COST);
    let (_, payment) = scene.offered(&Wallet::new(2), "b");
    let answer = scene.post(&[("sign-in-with-x", &header), ("payment-signature", &payment.v2())], "b");
    assert_eq!(answer.status, 200);
    let left = payment.nano() - FRIENDLY_COST;
    assert_eq!(scene.gateway.settled_balance(answer.must("farthing-key")), left, "of who paid");
    let answer = http::post(scene.gateway.address, SIGN_IN, &[("sign-in-with-x", &header)], &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn x402_35_bad_sign_ins_use_up_the_sources_budget() {
    let limits = "limits: { unpaid: { per_ip: 100000/min }, invalid_proofs: { per_ip: 1/min, burst: 3 } }\n";
    let scene = Scene::with("", limits);
    let mut bad = Wallet::new(1).sign_in(&scene.terms(), BASE_SEPOLIA);
    bad["signature"] = json!(format!("0x{}1b", "11".repeat(64)));
    let codes: Vec<String> = (0..6).map(|_| scene.key(&bad).code()).collect();
    assert_eq!(codes[..4], ["proof_invalid"; 4]);
    assert_eq!(codes[4..], ["rate_limited"; 2]);
    assert_refused(&scene.sign_in(&bad), 429, "rate_limited", "nothing_taken");
}

#[test]
fn what_is_switched_off_is_not_there() {
    let scene = Scene::with(", extensions: []", "");
    let (challenge, payment) = scene.offered(&Wallet::new(1), "a");
    assert!(challenge["extensions"].is_null(), "{challenge}");
    assert_eq!(http::get(scene.gateway.address, SIGN_IN, &[]).status, 404);
    assert_eq!(http::get(scene.gateway.address, "/.well-known/did.json", &[]).status, 404);
    let answer = scene.post(&[("sign-in-with-x", "?")], "a");
    assert_refused(&answer, 402, "payment_required", "nothing_taken");
    let extensions = json!({"payment-identifier": {"info": {"id": "?"}}});
    let answer = scene.post(&[("payment-signature", &payment.v2_with(&extensions))], "a");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(decode(answer.must("payment-response"))["extensions"].is_null());
}

// offer-receipt

/// What checks signatures of a gateway, as a stranger would: with the keys that its host names.
struct Reader {
    keys: Vec<(String, [u8; 32])>,
    accounts: Vec<Address>,
}

impl Reader {
    fn of(gateway: &Gateway) -> Self {
        let did = http::get(gateway.address, "/.well-known/did.json", &[]);
        assert_eq!(did.status, 200, "{}", did.text());
        let did = did.json();
        let id = format!("did:web:127.0.0.1%3A{}", gateway.address.port());
        assert_eq!(did["id"], id.as_str());
        let mut reader = Self { keys: Vec::new(), accounts: Vec::new() };
        for method in did["verificationMethod"].as_array().unwrap() {
            assert_eq!(method["controller"], id.as_str());
            assert!(did["assertionMethod"].as_array().unwrap().contains(&method["id"]), "{did}");
            match method["publicKeyJwk"]["x"].as_str() {
                Some(x) => {
                    let key = wire::base64::decode_any(x, 64).unwrap().try_into().unwrap();
                    reader.keys.push((method["id"].as_str().unwrap().to_owned(), key));
                }
                None => {
                    let account = method["blockchainAccountId"].as_str().unwrap();
                    reader.accounts.push(account.strip_prefix("eip155:1:").unwrap().parse().unwrap());
                }
            }
        }
        reader
    }

    fn read<T: Attested + Clone>(&self, signed: &Value) -> Result<T, AttestError> {
        let keys: Vec<(&str, [u8; 32])> = self.keys.iter().map(|(id, key)| (id.as_str(), *key)).collect();
        let signed = serde_json::from_value(signed.clone()).unwrap();
        x402_attest::verify(&signed, &Trusted { keys: &keys, accounts: &self.accounts })
    }
}

/// A18: an offer that was not made here, or not so, does not stand.
#[test]
fn x402_36_a18_offers_and_receipts_are_signed() {
    let scene = Scene::with(", extensions: [offer-receipt]", "");
    let reader = Reader::of(&scene.gateway);
    let url = format!("http://{}{CHAT}", scene.gateway.address);
    let wallet = Wallet::new(1);
    let (challenge, payment) = scene.offered(&wallet, "a");
    let offers = challenge["extensions"]["offer-receipt"]["info"]["offers"].as_array().unwrap();
    let accepts: Vec<PaymentRequirements> = serde_json::from_value(challenge["accepts"].clone()).unwrap();
    assert_eq!((offers.len(), accepts.len()), (1, 1));
    let offer: Offer = reader.read(&offers[0]).unwrap();
    assert!(offer.promises_v2(&accepts[0], &url), "{offer:?}");
    assert!(
        x402_attest::check_time(&offer, now_s()).is_ok()
            && x402_attest::check_time(&offer, now_s() + 301).is_err()
    );
    assert_eq!(offers[0]["acceptIndex"], 0);
    // A false seller's words in between, or his key.
    let text = offers[0]["signature"].as_str().unwrap();
    let parts: Vec<&str> = text.split('.').collect();
    let cheaper = Offer { amount: "1".into(), ..offer.clone() };
    let body = wire::base64::encode_url(&serde_json::to_vec(&cheaper).unwrap());
    let forged = json!({"format": "jws", "signature": format!("{}.{body}.{}", parts[0], parts[2])});
    assert_eq!(reader.read::<Offer>(&forged), Err(AttestError::Signature));
    let elsewhere = Scene::with(", extensions: [offer-receipt]", "");
    assert_eq!(Reader::of(&elsewhere.gateway).read::<Offer>(&offers[0]), Err(AttestError::UnknownKey));

    // A stock client brings the offers back; a fresh challenge would have had others.
    let paid = payment.v2_with(&challenge["extensions"]);
    let answer = scene.post(&[("payment-signature", &paid)], "a");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let header = answer.must("payment-response");
    assert!(header.len() < 2048, "{} bytes", header.len());
    let receipt: Receipt =
        reader.read(&decode(header)["extensions"]["offer-receipt"]["info"]["receipt"]).unwrap();
    assert_eq!(receipt.payer, wallet.address().to_string());
    assert_eq!((receipt.network.as_str(), receipt.resource_url), (BASE_SEPOLIA, url));
    assert_eq!(receipt.transaction, None, "not told unless the operator says so");
    assert!(receipt.issued_at <= now_s() && receipt.issued_at + 60 > now_s());
    // Asked for again, the same receipt.
    let again = wait_for("the call to be written down", || {
        let again = scene.post(&[("payment-signature", &paid)], "a");
        (again.refusal() != "in_progress").then_some(again)
    });
    assert_eq!(again.header("payment-response"), Some(header));

    // Version 1 says the network by its old name outside, and by the new one inside.
    let (_, payment) = scene.offered(&wallet, "b");
    let answer = scene.post(&[("x-payment", &payment.v1())], "b");
    let said = decode(answer.must("x-payment-response"));
    assert_eq!(said["network"], "base-sepolia");
    let receipt: Receipt = reader.read(&said["extensions"]["offer-receipt"]["info"]["receipt"]).unwrap();
    assert_eq!(receipt.network, BASE_SEPOLIA);
}

#[test]
fn x402_36_an_accounts_key_signs_instead_and_names_the_transaction() {
    let more = ", extensions: [offer-receipt], offer_receipt: { key: \"${file:{folder}/offers.key}\", transaction: true }";
    let upstream = Upstream::friendly();
    let facilitator = Facilitator::start([]);
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("offers.key");
    std::fs::write(&key, "5b".repeat(32)).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let rails = rails(&facilitator, &more.replace("{folder}", &folder.path().display().to_string()), "");
    let scene = Scene { gateway: Gateway::start(upstream.address, &rails), upstream, facilitator };
    let reader = Reader::of(&scene.gateway);
    let (challenge, payment) = scene.offered(&Wallet::new(1), "a");
    let offers = &challenge["extensions"]["offer-receipt"]["info"]["offers"];
    assert_eq!(offers[0]["format"], "eip712");
    assert_eq!(reader.read::<Offer>(&offers[0]).unwrap().amount, challenge["accepts"][0]["amount"]);
    let mut cheaper = offers[0].clone();
    cheaper["payload"]["amount"] = json!("1");
    assert_eq!(reader.read::<Offer>(&cheaper), Err(AttestError::UnknownKey));
    let answer = scene.post(&[("payment-signature", &payment.v2())], "a");
    let said = decode(answer.must("payment-response"));
    let receipt: Receipt = reader.read(&said["extensions"]["offer-receipt"]["info"]["receipt"]).unwrap();
    assert_eq!(receipt.transaction.as_deref(), said["transaction"].as_str());
    assert_eq!(scene.upstream.hits(), 1);
}

/// Nothing is confirmed that was not delivered.
#[test]
fn x402_36_no_receipt_for_an_answer_that_failed() {
    let failing = Upstream::start(|_, stream| {
        let _ = stream.write_all(&plain(500, "application/json", "{}"));
    });
    let facilitator = Facilitator::start([]);
    let gateway = Gateway::start(failing.address, &rails(&facilitator, ", extensions: [offer-receipt]", ""));
    let scene = Scene { upstream: failing, facilitator, gateway };
    let (_, payment) = scene.offered(&Wallet::new(1), "a");
    let answer = scene.post(&[("payment-signature", &payment.v2())], "a");
    assert_eq!(answer.status, 500);
    let said = decode(answer.must("payment-response"));
    assert_eq!(said["success"], true);
    assert!(said["extensions"].is_null(), "{said}");
}

/// What is settled after the call is confirmed behind its last byte; and a name holds for a ceiling as for any payment.
#[test]
fn x402_34_x402_36_a_metered_payment_is_named_and_confirmed() {
    let scene = Scene::with(", schemes: [upto], extensions: [payment-identifier, offer-receipt]", "");
    let reader = Reader::of(&scene.gateway);
    let wallet = Wallet::new(1);
    let mut body = ask("a");
    body["stream"] = json!(true);
    let pay = || {
        // Offered as soon as the facilitator has told its name.
        let unpaid = wait_for("an offer", || {
            let unpaid = http::post(scene.gateway.address, CHAT, &[], &body);
            (challenge(&unpaid)["accepts"] != json!([])).then_some(unpaid)
        });
        let payment = wallet.permit(&unpaid, |offer| offer["scheme"] == "upto");
        let header = payment.v2_with(&named(&challenge(&unpaid), NAME));
        http::post(scene.gateway.address, CHAT, &[("payment-signature", &header), ("te", "trailers")], &body)
    };
    let first = pay();
    assert_eq!(first.status, 200, "{}", first.text());
    let trailer = first.trailers.iter().find(|(name, _)| name == "payment-response").unwrap();
    let said = decode(&trailer.1);
    let receipt: Receipt = reader.read(&said["extensions"]["offer-receipt"]["info"]["receipt"]).unwrap();
    assert_eq!(receipt.payer, wallet.address().to_string());
    assert_eq!(said["amount"], (FRIENDLY_COST / 1000).to_string());
    let again = wait_for("the call to be written down", || {
        let again = pay();
        (again.refusal() != "in_progress").then_some(again)
    });
    assert_replayed(&again, &first);
    assert_eq!((scene.upstream.hits(), scene.facilitator.transfers()), (1, 1));
}

// bazaar

const LISTED: &str = ", extensions: [payment-identifier, bazaar], bazaar: { service_name: Farthing, tags: [llm, chat], icon_url: \"https://example.com/i.png\" }";

fn listed_routes() -> String {
    "routes:\n  - name: chat\n    match: { method: POST, path: /v1/chat/completions }\n    upstream: openai\n    price: by_model\n    \
     discovery: { body: '{\"model\": \"m\", \"messages\": []}', output: '{\"choices\": []}' }\n  \
     - name: files\n    match: { method: GET, path: \"/files/**\" }\n    upstream: openai\n    price: { per_call: 0.001 USD }\n    \
     discovery: { template: \"/files/:id\", query: '{\"page\": 1}' }\n"
        .to_owned()
}

#[test]
fn x402_37_a_catalogue_is_told_when_it_asks_and_when_somebody_pays() {
    let scene = Scene::with(LISTED, &listed_routes());
    // A call as any other: the entry would only fill the header.
    let (plain, payment) = scene.offered(&Wallet::new(1), "a");
    assert!(plain["extensions"]["bazaar"].is_null() && plain["resource"]["serviceName"].is_null(), "{plain}");
    let answer = scene.post(&[("payment-signature", &payment.v2_with(&plain["extensions"]))], "a");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let unlisted: Value = serde_json::from_slice(&scene.facilitator.settles()[0]).unwrap();
    assert!(unlisted["paymentPayload"]["extensions"].is_null(), "nothing was brought back: {unlisted}");

    // Asked for, it says how the route is called.
    let asked = scene.post(&[("farthing-extensions", "bazaar")], "b");
    assert_refused(&asked, 402, "payment_required", "nothing_taken");
    let told = challenge(&asked);
    let entry = told["extensions"]["bazaar"].clone();
    assert_eq!(entry["info"]["input"]["method"], "POST");
    assert_eq!(entry["info"]["input"]["body"], json!({"model": "m", "messages": []}));
    assert_eq!(entry["info"]["output"], json!({"type": "json", "example": {"choices": []}}));
    assert!(entry["schema"]["properties"]["input"].is_object());
    assert_eq!(told["resource"]["serviceName"], "Farthing");
    assert_eq!(told["resource"]["tags"], json!(["llm", "chat"]));

    // Who pays with it has it passed on as we wrote it, whatever he adds.
    let mut payment = Wallet::new(1).pay(&asked, BASE_SEPOLIA);
    payment.resource = told["resource"].clone();
    payment.resource["description"] = json!("canary");
    let mut brought = told["extensions"].clone();
    brought["bazaar"]["info"]["more"] = json!("canary");
    brought["bazaar"]["schema"] = json!({"$ref": "https://canary.example"});
    let answer = scene.post(&[("payment-signature", &payment.v2_with(&brought))], "b");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let settled: Value = serde_json::from_slice(&scene.facilitator.settles()[1]).unwrap();
    assert_eq!(settled["paymentPayload"]["extensions"], json!({"bazaar": entry}));
    let resource = &settled["paymentPayload"]["resource"];
    assert_eq!(resource["url"], format!("http://{}{CHAT}", scene.gateway.address));
    assert_eq!(
        (&resource["serviceName"], &resource["iconUrl"]),
        (&json!("Farthing"), &json!("https://example.com/i.png"))
    );
    assert!(!settled.to_string().contains("canary"), "{settled}");
    // Altered, it is refused.
    let payment = Wallet::new(1).pay(&asked, BASE_SEPOLIA);
    brought["bazaar"]["info"]["input"]["method"] = json!("DELETE");
    let answer = scene.post(&[("payment-signature", &payment.v2_with(&brought))], "b");
    assert_refused(&answer, 402, "proof_invalid", "nothing_taken");
    assert_eq!(reason(&answer), "extension_echo_mismatch");
}

#[test]
fn x402_37_a_get_tells_it_unasked() {
    let scene = Scene::with(LISTED, &listed_routes());
    let answer = http::get(scene.gateway.address, "/files/7?page=2", &[]);
    assert_refused(&answer, 402, "payment_required", "nothing_taken");
    let entry = &challenge(&answer)["extensions"]["bazaar"];
    assert_eq!(entry["routeTemplate"], "/files/:id");
    assert_eq!(entry["info"]["input"]["pathParams"], json!({"id": "7"}));
    assert_eq!(entry["info"]["input"]["queryParams"], json!({"page": 1}));
}

/// The catalogue's answer is for the operator's log, without what would make a line of its own.
#[test]
fn x402_37_a_catalogues_answer_is_logged_and_not_relayed() {
    let scene = Scene::with(LISTED, &listed_routes());
    let said = encode(
        &json!({"bazaar": {"status": "rejected", "rejectedReason": "no\necho"}, "other": {"x": "canary"}}),
    );
    scene.facilitator.adds_header("EXTENSION-RESPONSES", &said);
    let (_, payment) = scene.offered(&Wallet::new(1), "a");
    let answer = scene.post(&[("payment-signature", &payment.v2())], "a");
    assert_eq!((answer.status, answer.header("extension-responses")), (200, None), "{}", answer.text());
    let log = scene.gateway.log();
    let line = log.lines().find(|line| line.contains("rejected")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("no echo") || line.contains("no?echo"), "{line}");
    assert!(!log.contains("canary"), "{log}");
}

// The header

/// X402-5: first the description goes, then extensions from the least useful on, then offers; a name that is required
/// stays, because whoever does not see it would pay in vain.
#[test]
fn x402_5_what_does_not_fit_is_left_out_in_order() {
    const ALL: [&str; 3] = ["payment-identifier", "sign-in-with-x", "offer-receipt"];
    let upstream = Upstream::friendly();
    let settles = |at: usize| json!({"x402Version": 2, "scheme": "exact", "network": format!("eip155:{}", 777_000 + at)});
    let kinds = json!({"kinds": (0..5).map(settles).collect::<Vec<_>>(), "extensions": [], "signers": {}});
    let facilitator = Upstream::start(move |_, stream| {
        let _ = stream.write_all(&plain(200, "application/json", &kinds.to_string()));
    });
    let told = |networks: usize| {
        let network = |at: usize| {
            let token = format!(
                "{{ address: \"0x036cbd53842c5426634e7929541ec2318f3dcf{at:02}\", name: \"A token whose name is long\", \
                 version: \"1\", decimals: 6 }}"
            );
            format!("\"eip155:{}\": {{ asset: {token}, pay_to: \"{PAY_TO}\" }}", 777_000 + at)
        };
        let networks: Vec<String> = (0..networks).map(network).collect();
        let rails = format!(
            "rails: {{ x402: {{ networks: {{ {} }}, facilitators: [\"http://{}\"], \
             extensions: [{}], payment_identifier: required }} }}\n",
            networks.join(", "),
            facilitator.address,
            ALL.join(", ")
        );
        let gateway = Gateway::start(upstream.address, &rails);
        let answer = http::post(gateway.address, CHAT, &[], &ask("a"));
        let header = answer.must("payment-required");
        assert!(answer.status == 402 && header.len() < 2048, "{} bytes", header.len());
        let told = decode(header);
        let kept = told["extensions"].as_object().unwrap().len();
        assert!(ALL[..kept].iter().all(|id| told["extensions"][id].is_object()), "{told}");
        (told["resource"]["description"].is_string(), kept, told["accepts"].as_array().unwrap().len())
    };
    let said: Vec<_> = (1..=5).map(told).collect();
    for ((described, kept, offers), networks) in said.iter().zip(1..) {
        assert!(!described || *kept == ALL.len(), "{said:?}");
        assert!(*kept == 1 || *offers == networks, "{said:?}");
    }
    let kept: Vec<usize> = said.iter().map(|(_, kept, _)| *kept).collect();
    assert_eq!((kept[0], kept[4]), (3, 1), "{said:?}");
    assert!(kept.is_sorted_by(|more, less| more >= less), "{said:?}");
    assert!(said[4].2 < 5, "{said:?}");
}
