//! Calls that do not wait for their payment: a ceiling of which the metered amount is settled after the call, and a whole
//! payment that settles while it runs (X402-15, X402-17, X402-21; attacks A3, A4, A11).
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::io::{Read as _, Write as _};
use std::iter::repeat_n;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use farthing_tests::crowd::at_once;
use farthing_tests::facilitator::{Conduct, Facilitator, Reply, failure};
use farthing_tests::gateway::{Gateway, PATIENCE, nano, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::payer::{BASE_SEPOLIA, Payment, Wallet, challenge, decode};
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, ask, assert_unknown};
use farthing_tests::upstream::{FRIENDLY_COST, STREAM_HEAD, Upstream, friendly_answer, plain};
use proof::receipt;
use serde_json::{Value, json};

/// What a friendly call costs, in atomic units of a token with six decimals.
const FRIENDLY_ATOMIC: u128 = 30;

/// A gateway with a scripted facilitator.
struct Scene {
    upstream: Upstream,
    facilitator: Facilitator,
    gateway: Gateway,
}

impl Scene {
    /// Offers `upto` before `exact`.
    fn upto(upstream: Upstream, plan: impl IntoIterator<Item = Conduct>, more: &str) -> Self {
        Self::of(upstream, plan, &format!(", schemes: [upto, exact]{more}"), "")
    }

    /// Offers `exact`, and waits for nobody's settlement.
    fn after(upstream: Upstream, plan: impl IntoIterator<Item = Conduct>) -> Self {
        Self::of(upstream, plan, ", settle: after", "")
    }

    fn of(upstream: Upstream, plan: impl IntoIterator<Item = Conduct>, keys: &str, sections: &str) -> Self {
        Self::of_patience(upstream, plan, keys, sections, "1s")
    }

    /// With so much time for each settlement.
    fn of_patience(
        upstream: Upstream,
        plan: impl IntoIterator<Item = Conduct>,
        keys: &str,
        sections: &str,
        patience: &str,
    ) -> Self {
        let facilitator = Facilitator::start(plan);
        let rails = Facilitator::rails_with(&[facilitator.address], keys);
        let rails = rails.replace("settle_timeout: 1s", &format!("settle_timeout: {patience}"));
        let gateway = Gateway::start(upstream.address, &format!("{rails}{sections}"));
        let scene = Self { upstream, facilitator, gateway };
        if keys.contains("upto") {
            // What the facilitator calls itself is asked in the background.
            wait_for("the offer of a ceiling", || scene.offers(&ask(), "upto").then_some(()));
        }
        scene
    }

    fn offers(&self, body: &Value, scheme: &str) -> bool {
        let answer = http::post(self.gateway.address, CHAT, &[], body);
        challenge(&answer)["accepts"].as_array().unwrap().iter().any(|offer| offer["scheme"] == scheme)
    }

    /// A permit for as much as this request may cost.
    fn ceiling(&self, wallet: u8, body: &Value) -> Payment {
        let answer = http::post(self.gateway.address, CHAT, &[], body);
        assert_refused(&answer, 402, "payment_required", "nothing_taken");
        Wallet::new(wallet).permit(&answer, |offer| offer["scheme"] == "upto")
    }

    /// An authorisation of the usual kind.
    fn exact(&self, wallet: u8, body: &Value) -> Payment {
        let answer = http::post(self.gateway.address, CHAT, &[], body);
        let exact = |offer: &Value| offer["scheme"] == "exact" && offer["network"] == BASE_SEPOLIA;
        let challenge = challenge(&answer);
        let accepted = challenge["accepts"].as_array().unwrap().iter().find(|offer| exact(offer)).unwrap();
        let payload = Wallet::new(wallet).evm_payload(accepted, |_| {});
        Payment { payload, accepted: accepted.clone(), resource: challenge["resource"].clone() }
    }

    fn pay(&self, payment: &Payment, body: &Value) -> Answer {
        http::post(self.gateway.address, CHAT, &[("payment-signature", &payment.v2())], body)
    }

    /// Pays and reads until `wanted` has come; the connection goes on.
    fn pay_and_read_until(&self, payment: &Payment, headers: &[(&str, &str)], wanted: &str) -> Reading {
        let signature = payment.v2();
        let fields =
            [&[("payment-signature", signature.as_str()), ("connection", "close")], headers].concat();
        let mut stream = TcpStream::connect(self.gateway.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(http::posted(self.gateway.address, CHAT, &fields, &streamed()).as_bytes()).unwrap();
        let mut reading = Reading { stream, seen: Vec::new() };
        reading.until(wanted);
        reading
    }

    fn account(&self, wallet: u8, payment: &Payment) -> String {
        Wallet::new(wallet).account(payment)
    }

    fn wait_for_deposits(&self, count: usize) {
        wait_for("deposits", || (self.gateway.books().count("deposit") == count).then_some(()));
    }

    /// What the receipt of a call says of its payment.
    fn payment_of(&self, answer: &Answer) -> Value {
        let key = answer.must("farthing-key");
        let id = answer.must("farthing-receipt");
        let signed =
            http::get(self.gateway.address, &format!("/farthing/receipts/{id}"), &[("x-api-key", key)]);
        assert_eq!(signed.status, 200, "{}", signed.text());
        let keys = http::get(self.gateway.address, "/.well-known/farthing-keys.json", &[]);
        let keys: wire::jws::Jwks = serde_json::from_slice(&keys.body).unwrap();
        let facts: Value = receipt::verify(&signed.text(), &keys).unwrap();
        facts["payment"].clone()
    }

    /// A copy of the store has nothing wrong.
    fn assert_in_order(&self) {
        let backup = self.gateway.folder().join("copy.redb");
        let _ = std::fs::remove_file(&backup);
        self.gateway.operator(&["backup", "--to", &backup.display().to_string()]);
        let report = store::check(&backup, &store::CheckOptions::new(farthing_tests::payer::now_s() * 1000));
        assert_eq!(report.unwrap().findings, []);
    }
}

/// An answer on its way.
struct Reading {
    stream: TcpStream,
    seen: Vec<u8>,
}

impl Reading {
    fn until(&mut self, wanted: &str) {
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&self.seen).contains(wanted) {
            let count = self.stream.read(&mut buffer).unwrap();
            assert!(count > 0, "ended before {wanted}: {}", String::from_utf8_lossy(&self.seen));
            self.seen.extend_from_slice(&buffer[..count]);
        }
    }

    fn finish(mut self) -> Answer {
        self.stream.read_to_end(&mut self.seen).unwrap();
        http::parse(&self.seen).unwrap()
    }
}

fn streamed() -> Value {
    let mut body = ask();
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    body
}

/// Answers when `open` is set, and not before.
fn waiting(open: &Arc<AtomicBool>) -> Upstream {
    let open = Arc::clone(open);
    Upstream::start(move |request, stream| {
        wait_for("the upstream to be let go", || open.load(Ordering::SeqCst).then_some(()));
        let _ = stream.write_all(&friendly_answer(request));
    })
}

fn flag() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(false))
}

fn set(flag: &AtomicBool) {
    flag.store(true, Ordering::SeqCst);
}

fn trailer(answer: &Answer, name: &str) -> Option<String> {
    answer.trailers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

/// What a body of `/settle` asks for, and what was accepted.
fn amounts(settle: &[u8]) -> (String, String) {
    let body: Value = serde_json::from_slice(settle).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&body["paymentRequirements"]["amount"]), text(&body["paymentPayload"]["accepted"]["amount"]))
}

/// The ceiling is signed, what was metered is settled, and the receipt tells.
#[test]
fn x402_17_upto_settles_what_was_metered() {
    let scene = Scene::upto(Upstream::friendly(), [], "");
    let payment = scene.ceiling(1, &ask());
    let ceiling = payment.accepted["amount"].as_str().unwrap().to_owned();
    let answer = scene.pay(&payment, &ask());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("payment-response"), None, "nothing was settled when the head went out");
    scene.wait_for_deposits(1);
    let settles = scene.facilitator.settles();
    assert_eq!(settles.len(), 1);
    assert_eq!(amounts(&settles[0]), (FRIENDLY_ATOMIC.to_string(), ceiling));
    assert_eq!((scene.facilitator.moved(), scene.facilitator.verifies().len()), (FRIENDLY_ATOMIC, 1));
    let books = scene.gateway.books();
    assert_eq!((books.count("deposit"), books.count("capture")), (1, 1));
    assert_eq!(books.balance(&scene.account(1, &payment)), 0);
    let paid = scene.payment_of(&answer);
    assert_eq!((&paid["scheme"], &paid["settlement"]["state"]), (&json!("upto"), &json!("settled")));
    assert_eq!(paid["settlement"]["result"]["amount"], FRIENDLY_ATOMIC.to_string());
    assert_eq!(nano(&paid["settlement"]["deposited"]["amount"]), FRIENDLY_COST);
    assert_eq!(paid["settlement"]["transaction"], payment.transaction());
    // The same permit again: the same answer, and nothing more is taken.
    let again = scene.pay(&payment, &ask());
    assert_eq!((again.status, again.header("farthing-replayed")), (200, Some("true")));
    assert_eq!((scene.upstream.hits(), scene.facilitator.settles().len()), (1, 1));
    scene.assert_in_order();
}

/// A charge that is no whole atomic unit is settled rounded up, and the rest is the payer's.
#[test]
fn what_is_settled_is_rounded_up_to_atomic_units() {
    let prices = "prices: { \"*\": { input: 0.15 USD/Mtok, output: 0.6 USD/Mtok } }\n";
    let scene = Scene::of(Upstream::friendly(), [], ", schemes: [upto]", prices);
    let payment = scene.ceiling(1, &ask());
    assert_eq!(scene.pay(&payment, &ask()).status, 200);
    scene.wait_for_deposits(1);
    // 10 x 150 + 5 x 600 nano.
    let books = scene.gateway.books();
    assert_eq!(books.charged(&scene.account(1, &payment)), 4_500);
    assert_eq!((scene.facilitator.moved(), books.balance(&scene.account(1, &payment))), (5, 500));
}

/// Tokens flow before anything is settled; the trailer waits for the settlement.
#[test]
fn x402_17_a_trailer_tells_what_was_settled() {
    let settle = flag();
    let plan = [Conduct::SettleWhen(Arc::clone(&settle))];
    let scene = Scene::of_patience(Upstream::friendly(), plan, ", schemes: [upto, exact]", "", "5s");
    let payment = scene.ceiling(1, &streamed());
    let reading = scene.pay_and_read_until(&payment, &[("te", "trailers")], "[DONE]");
    assert_eq!(scene.gateway.books().count("deposit"), 0);
    set(&settle);
    let answer = reading.finish();
    assert!(answer.must("trailer").contains("payment-response"), "{:?}", answer.headers);
    let said = decode(&trailer(&answer, "payment-response").unwrap());
    assert_eq!((&said["success"], &said["amount"]), (&json!(true), &json!("30")));
    assert_eq!(said["transaction"], payment.transaction());
    assert_eq!(trailer(&answer, "farthing-charge").as_deref(), Some("0.000030000 USDC"));
    assert_eq!(trailer(&answer, "farthing-balance").as_deref(), Some("0.000000000 USDC"));
}

/// Who does not ask for a trailer does not wait for a settlement.
#[test]
fn nobody_waits_for_a_settlement_unasked() {
    let settle = flag();
    let scene = Scene::upto(Upstream::friendly(), [Conduct::SettleWhen(Arc::clone(&settle))], "");
    let payment = scene.ceiling(1, &streamed());
    let answer = scene.pay(&payment, &streamed());
    assert_eq!((answer.status, answer.trailers.len()), (200, 0));
    assert_eq!(scene.payment_of(&answer)["settlement"], json!({"state": "pending"}));
    set(&settle);
    scene.wait_for_deposits(1);
    assert_eq!(scene.payment_of(&answer)["settlement"]["state"], "settled");
}

/// UX-11: the bill as a comment that no SDK trips over, before the end that SDKs stop at.
#[test]
fn x402_17_a_comment_tells_what_was_settled() {
    let scene = Scene::upto(Upstream::friendly(), [], "");
    let payment = scene.ceiling(1, &streamed());
    let fields = [("payment-signature", payment.v2()), ("farthing-stream-receipt", "comment".to_owned())];
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = http::post(scene.gateway.address, CHAT, &fields, &streamed());
    let text = answer.text();
    let at = text.find(": farthing ").unwrap_or_else(|| panic!("{text}"));
    assert!(text.find("five words").unwrap() < at && at < text.find("data: [DONE]").unwrap(), "{text}");
    let line = text[at..].lines().next().unwrap();
    assert!(line.contains("charge=0.000030000_USDC"), "{line}");
    assert!(line.contains(&format!("receipt={}", answer.must("farthing-receipt"))), "{line}");
    let result = line.split_once("payment-response=").unwrap().1;
    assert_eq!(decode(result)["amount"], "30");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
}

/// A call that costs nothing settles nothing, and says so.
#[test]
fn x402_17_nothing_used_is_no_transaction() {
    let free = Upstream::start(|_, stream| {
        let body = r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}"#;
        let _ = stream.write_all(&plain(200, "application/json", body));
    });
    let scene = Scene::upto(free, [], "");
    let payment = scene.ceiling(1, &ask());
    let fields = [("payment-signature", payment.v2()), ("te", "trailers".to_owned())];
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = http::post(scene.gateway.address, CHAT, &fields, &ask());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let said = decode(&trailer(&answer, "payment-response").unwrap());
    assert_eq!((&said["success"], &said["transaction"]), (&json!(true), &json!("")));
    assert_eq!(said["amount"], "0");
    assert_eq!(scene.payment_of(&answer)["settlement"]["state"], "nothing_to_settle");
    assert_eq!((scene.facilitator.settles().len(), scene.gateway.books().entries.len()), (0, 0));
}

/// A11: refused after it was served, a payment is owed; who owes gets nothing on a promise, until a deposit makes it good.
#[test]
fn a11_who_owes_promises_nothing_until_it_is_made_good() {
    let mut scene = Scene::upto(Upstream::friendly(), [Conduct::Only(failure("insufficient_funds"))], "");
    let payment = scene.ceiling(1, &ask());
    let answer = scene.pay(&payment, &ask());
    assert_eq!(answer.status, 200, "{}", answer.text());
    wait_for("the debt", || (scene.gateway.metric("farthing_debtors") == 1).then_some(()));
    assert_eq!(scene.payment_of(&answer)["settlement"]["state"], "refused");
    assert!(scene.gateway.log().contains("ALARM: a payment was refused after its call was served"));
    let owed = scene.gateway.operator(&["ledger", "intents"])["owed"].clone();
    assert_eq!((&owed[0]["state"], &owed[0]["promised"]), (&json!("owed"), &json!(true)));
    assert_eq!(nano(&owed[0]["amount"]["amount"]), FRIENDLY_COST);
    let account = scene.account(1, &payment);
    assert_eq!(scene.gateway.books().balance(&account), -FRIENDLY_COST);
    scene.assert_in_order();
    for round in ["before a restart", "after it"] {
        let other = scene.ceiling(1, &ask());
        let refused = scene.pay(&other, &ask());
        assert_refused(&refused, 402, "insufficient_balance", "nothing_taken");
        assert_eq!(refused.json()["error"]["limit_source"], "debt", "{round}: {}", refused.text());
        // His own answer is still his.
        let kept = scene.pay(&payment, &ask());
        assert!(kept.status == 200 || kept.refusal() == "already_served", "{round}: {}", kept.text());
        // Others are served.
        let others = scene.ceiling(2, &ask());
        assert_eq!(scene.pay(&others, &ask()).status, 200, "{round}");
        if round == "before a restart" {
            wait_for("the other's settlement", || (scene.facilitator.transfers() == 1).then_some(()));
            scene.gateway.crash_and_restart();
            wait_for("the offer of a ceiling", || scene.offers(&ask(), "upto").then_some(()));
        }
    }
    // A deposit makes it good, with what the call on it costs.
    let deposit = scene.exact(1, &ask());
    let answer = scene.pay(&deposit, &ask());
    assert!(answer.status == 200 || answer.code() == "insufficient_balance", "{}", answer.text());
    let served = i64::from(answer.status == 200);
    if served == 0 {
        // The debt took so much of it that the rest does not cover the call.
        assert_eq!(answer.json()["money"], "deposit_kept");
        let more = scene.exact(1, &ask());
        assert_eq!(scene.pay(&more, &ask()).status, 200);
    }
    let last = scene.ceiling(1, &ask());
    assert_eq!(scene.pay(&last, &ask()).status, 200, "made good");
    assert_eq!(scene.gateway.metric("farthing_debtors"), 0);
    scene.assert_in_order();
}

/// A3, X402-39: fifty authorisations on money for one: what is served stays within that money and the operator's limit.
#[test]
fn a3_many_authorisations_on_one_balance_are_served_within_the_limit() {
    // As dear as its ceiling: 1000 output tokens.
    let dear = Upstream::start(|_, stream| {
        let body = r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"words"},"finish_reason":"length"}],"usage":{"prompt_tokens":10,"completion_tokens":1000,"total_tokens":1010}}"#;
        let _ = stream.write_all(&plain(200, "application/json", body));
    });
    let cost = 10 * 1_000 + 1000 * 4_000;
    let limit = 20_000_000;
    let scene = Scene::upto(dear, [], ", optimistic_max: 0.02 USD");
    scene.facilitator.fund(u128::try_from(cost).unwrap() / 1000);
    let payments: Vec<Payment> = (0..50).map(|_| scene.ceiling(1, &ask())).collect();
    let answers = at_once(50, |at| scene.pay(&payments[at], &ask()));
    let served = i64::try_from(answers.iter().filter(|answer| answer.status == 200).count()).unwrap();
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        match answer.code().as_str() {
            "rate_limited" => assert_eq!(answer.json()["error"]["limit_source"], "promises"),
            "insufficient_balance" => assert_eq!(answer.json()["error"]["limit_source"], "debt"),
            other => panic!("{other}: {}", answer.text()),
        }
    }
    assert!(served >= 1 && served * cost <= cost + limit, "{served} calls of {cost}");
    wait_for("every settlement to be decided", || {
        (scene.gateway.metric("farthing_intents_open") == 0 && scene.gateway.metric("farthing_debtors") == 1)
            .then_some(())
    });
    let books = scene.gateway.books();
    let account = scene.account(1, &payments[0]);
    assert_eq!((books.charged(&account), books.balance(&account)), (served * cost, cost - served * cost));
    assert!(-books.balance(&account) <= limit);
    assert_eq!(scene.facilitator.transfers(), 1);
    scene.assert_in_order();
}

/// A4: the payer moves his money away while the call runs. What that can cost is bounded, and it happens once.
#[test]
fn a4_money_that_leaves_during_the_call_is_a_debt() {
    let open = flag();
    let scene = Scene::upto(waiting(&open), [], "");
    let payment = scene.ceiling(1, &ask());
    let (address, header) = (scene.gateway.address, payment.v2());
    let call =
        std::thread::spawn(move || http::post(address, CHAT, &[("payment-signature", &header)], &ask()));
    wait_for("the upstream to be asked", || (scene.upstream.hits() == 1).then_some(()));
    scene.facilitator.fund(0);
    set(&open);
    assert_eq!(call.join().unwrap().status, 200);
    wait_for("the debt", || (scene.gateway.metric("farthing_debtors") == 1).then_some(()));
    assert_eq!(scene.gateway.books().balance(&scene.account(1, &payment)), -FRIENDLY_COST);
    let another = scene.ceiling(1, &ask());
    assert_refused(&scene.pay(&another, &ask()), 402, "insufficient_balance", "nothing_taken");
    assert_eq!((scene.upstream.hits(), scene.facilitator.transfers()), (1, 0));
}

/// X402-42: what the facilitator finds wanting is not served; what it does not answer neither.
#[test]
fn x402_42_a_ceiling_is_served_only_when_the_facilitator_finds_it_good() {
    let scene = Scene::upto(Upstream::friendly(), [], "");
    let said = |code: &str| Reply::Says(200, json!({"isValid": false, "invalidReason": code}).to_string());
    for (reply, status, code) in [
        (said("permit2_allowance_required"), 412, "permit2_allowance_required"),
        (said("permit2_insufficient_balance"), 402, "settlement_failed"),
        (Reply::Hangup, 503, "facilitator_failed"),
    ] {
        scene.facilitator.opine(reply);
        let payment = scene.ceiling(1, &ask());
        let refused = scene.pay(&payment, &ask());
        assert_eq!((refused.status, refused.code().as_str()), (status, code), "{}", refused.text());
        assert_eq!(refused.json()["money"], "nothing_taken");
    }
    assert_eq!((scene.upstream.hits(), scene.facilitator.settles().len()), (0, 0));
    // Nothing of them is open any more.
    let payment = scene.ceiling(1, &ask());
    assert_eq!(scene.pay(&payment, &ask()).status, 200);
}

/// A ceiling above the limit is not offered, and a balance is not topped up by one.
#[test]
fn x402_21_no_more_is_offered_than_may_be_open() {
    let scene = Scene::upto(Upstream::friendly(), [], ", optimistic_max: 0.01 USD");
    let mut large = ask();
    large["max_tokens"] = 10_000.into();
    assert!(
        !scene.offers(&large, "upto") || {
            let ceiling = scene.ceiling(1, &large);
            ceiling.nano() <= 10_000_000
        }
    );
    let top_up = http::post(scene.gateway.address, "/farthing/topup?amount=0.005", &[], &json!({}));
    let schemes = challenge(&top_up)["accepts"].clone();
    assert!(schemes.as_array().unwrap().iter().all(|offer| offer["scheme"] == "exact"), "{schemes}");
}

/// A11: killed before the call has ended, nothing is charged and the permit is as good as new.
#[test]
fn a11_killed_before_the_end_nothing_is_charged() {
    let open = flag();
    let mut scene = Scene::upto(waiting(&open), [], "");
    let payment = scene.ceiling(1, &ask());
    let (address, header) = (scene.gateway.address, payment.v2());
    let call = std::thread::spawn(move || {
        let fields = [("content-type", "application/json"), ("payment-signature", header.as_str())];
        http::try_request(address, "POST", CHAT, &fields, ask().to_string().as_bytes())
    });
    wait_for("the upstream to be asked", || (scene.upstream.hits() == 1).then_some(()));
    scene.gateway.crash_and_restart();
    assert!(call.join().unwrap().is_none());
    set(&open);
    assert_eq!((scene.gateway.books().entries.len(), scene.facilitator.settles().len()), (0, 0));
    wait_for("the offer of a ceiling", || scene.offers(&ask(), "upto").then_some(()));
    assert_eq!(scene.pay(&payment, &ask()).status, 200);
    scene.wait_for_deposits(1);
    assert_eq!((scene.facilitator.transfers(), scene.facilitator.moved()), (1, FRIENDLY_ATOMIC));
    scene.assert_in_order();
}

/// A11: killed when calls are charged and some of their settlements wait for their turn, others for an answer: all of
/// them settle once.
#[test]
fn a11_killed_before_and_after_sending_every_charge_is_settled_once() {
    let settle = flag();
    let plan = repeat_n(Conduct::SettleWhen(Arc::clone(&settle)), 8);
    // Nobody's turn ends while the others are paid.
    let keys = ", schemes: [upto], settle_at_once: 4";
    let mut scene = Scene::of_patience(Upstream::friendly(), plan, keys, "", "5s");
    let payments: Vec<(u8, Payment)> =
        (1..=8).map(|wallet| (wallet, scene.ceiling(wallet, &ask()))).collect();
    for (_, payment) in &payments {
        assert_eq!(scene.pay(payment, &ask()).status, 200);
    }
    let asked = wait_for("a payee's turns to be taken", || {
        let asked = scene.facilitator.settles().len();
        (asked >= 4).then_some(asked)
    });
    assert!(asked < 8, "bounded per payee: {asked}");
    assert_eq!(scene.gateway.books().count("capture"), 8);
    scene.gateway.crash_and_restart();
    set(&settle);
    scene.facilitator.behave();
    scene.wait_for_deposits(8);
    let books = scene.gateway.books();
    for (wallet, payment) in &payments {
        assert_eq!(books.balance(&scene.account(*wallet, payment)), 0, "{wallet}");
    }
    assert_eq!((scene.facilitator.transfers(), scene.facilitator.moved()), (8, 8 * FRIENDLY_ATOMIC));
    // X402-15: whoever was asked twice was asked the same.
    let mut settles = scene.facilitator.settles();
    settles.sort();
    settles.dedup();
    assert_eq!(settles.len(), 8);
    scene.assert_in_order();
}

/// With every charge on disk before its answer: the input of a call that is cut off is owed, and settled once.
#[test]
fn a11_a_call_that_is_cut_off_settles_its_input() {
    let open = flag();
    let begun = Arc::clone(&open);
    let upstream = Upstream::start(move |_, stream| {
        let _ = stream.write_all(STREAM_HEAD.as_bytes());
        let _ = stream.write_all(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"five\"}}]}\n\n");
        wait_for("the upstream to be let go", || begun.load(Ordering::SeqCst).then_some(()));
    });
    let store = "store: { path: \"{folder}/store\", durability: sync, crash_charge: input_only }\n";
    let mut scene = Scene::of(upstream, [], ", schemes: [upto]", store);
    let payment = scene.ceiling(1, &streamed());
    let reading = scene.pay_and_read_until(&payment, &[], "five");
    scene.gateway.crash_and_restart();
    drop(reading);
    set(&open);
    scene.wait_for_deposits(1);
    let books = scene.gateway.books();
    let account = scene.account(1, &payment);
    let charged = books.charged(&account);
    assert!(charged > 0 && charged < payment.nano(), "{charged}");
    let moved = i64::try_from(scene.facilitator.moved()).unwrap() * 1000;
    assert!((0..1000).contains(&(moved - charged)), "{moved} for {charged}");
    assert_eq!((books.balance(&account), scene.facilitator.transfers()), (moved - charged, 1));
    // It was charged: the same permit does not pay again.
    wait_for("the offer of a ceiling", || scene.offers(&ask(), "upto").then_some(()));
    let again = scene.pay(&payment, &streamed());
    assert_eq!(again.code(), "already_served", "{}", again.text());
    scene.assert_in_order();
}

/// LED-23: an answer that is lost is asked for again, with the same bytes, until it comes.
#[test]
fn an_unclear_settlement_of_what_was_metered_is_resolved() {
    let mut scene = Scene::upto(Upstream::friendly(), [Conduct::MoveThen(Reply::Hangup)], "");
    scene.facilitator.next(Conduct::Only(failure("invalid_upto_evm_transaction_failed")));
    let payment = scene.ceiling(1, &ask());
    let fields = [("payment-signature", payment.v2()), ("te", "trailers".to_owned())];
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = http::post(scene.gateway.address, CHAT, &fields, &ask());
    assert_eq!(answer.status, 200);
    assert_eq!(trailer(&answer, "payment-response"), None, "nobody knows yet");
    let state = scene.payment_of(&answer)["settlement"]["state"].clone();
    assert!(["pending", "unknown"].contains(&state.as_str().unwrap()), "{state}");
    // A refusal now may speak of the second attempt: no debt.
    wait_for("a second question", || (scene.facilitator.settles().len() >= 2).then_some(()));
    assert_eq!(scene.gateway.metric("farthing_debtors"), 0);
    scene.gateway.crash_and_restart();
    scene.wait_for_deposits(1);
    let settles = scene.facilitator.settles();
    assert!(settles.len() >= 3 && settles.windows(2).all(|pair| pair[0] == pair[1]), "X402-15");
    assert_eq!((scene.facilitator.transfers(), scene.facilitator.moved()), (1, FRIENDLY_ATOMIC));
    assert_eq!(scene.gateway.books().balance(&scene.account(1, &payment)), 0);
    scene.assert_in_order();
}

/// Who leaves when the usage has been told pays for that usage: not a floor, not the ceiling.
#[test]
fn a_client_that_leaves_after_the_usage_pays_the_usage() {
    let upstream = Upstream::start(|_, stream| {
        let _ = stream.write_all(STREAM_HEAD.as_bytes());
        let _ = stream.write_all(
            b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"five words are said here\"}}]}\n\n\
              data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15}}\n\n",
        );
        // No end mark: the client is gone before that.
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    let gone = "metering: { on_client_gone: { drain_up_to: 50ms } }\n";
    let scene = Scene::of(upstream, [], ", schemes: [upto]", gone);
    let payment = scene.ceiling(1, &streamed());
    let header = payment.v2();
    let fields = [("payment-signature", header.as_str())];
    http::leave_after(scene.gateway.address, CHAT, &fields, &streamed(), "total_tokens");
    scene.wait_for_deposits(1);
    let books = scene.gateway.books();
    assert_eq!(books.charged(&scene.account(1, &payment)), FRIENDLY_COST);
    assert_eq!(scene.facilitator.moved(), FRIENDLY_ATOMIC);
}

/// The whole payment settles while its tokens flow; what is left of it is balance.
#[test]
fn x402_17_exact_settles_while_the_call_runs() {
    let settle = flag();
    let plan = [Conduct::SettleWhen(Arc::clone(&settle))];
    let scene = Scene::of_patience(Upstream::friendly(), plan, ", settle: after", "", "5s");
    let payment = scene.exact(1, &streamed());
    let mut reading = scene.pay_and_read_until(&payment, &[("te", "trailers")], "five words");
    assert_eq!(scene.gateway.books().count("deposit"), 0, "tokens before money");
    reading.until("[DONE]");
    set(&settle);
    let answer = reading.finish();
    let said = decode(&trailer(&answer, "payment-response").unwrap());
    assert_eq!((&said["success"], &said["transaction"]), (&json!(true), &json!(payment.transaction())));
    scene.wait_for_deposits(1);
    let books = scene.gateway.books();
    assert_eq!(books.balance(&scene.account(1, &payment)), payment.nano() - FRIENDLY_COST);
    assert_eq!((scene.facilitator.transfers(), scene.facilitator.verifies().len()), (1, 1));
    let paid = scene.payment_of(&answer);
    assert_eq!((&paid["scheme"], &paid["settlement"]["state"]), (&json!("exact"), &json!("settled")));
    assert_eq!(nano(&paid["settlement"]["deposited"]["amount"]), payment.nano());
    // The change is there to be spent.
    assert_eq!(scene.gateway.settled_balance(answer.must("farthing-key")), payment.nano() - FRIENDLY_COST);
    let again = scene.pay(&payment, &streamed());
    assert_eq!(again.header("farthing-replayed"), Some("true"));
    scene.assert_in_order();
}

/// What is refused before the upstream has answered serves nothing.
#[test]
fn a_refusal_that_comes_before_the_answer_serves_nothing() {
    let open = flag();
    let scene = Scene::after(waiting(&open), [Conduct::Only(failure("insufficient_funds"))]);
    let payment = scene.exact(1, &ask());
    let (address, header) = (scene.gateway.address, payment.v2());
    let call =
        std::thread::spawn(move || http::post(address, CHAT, &[("payment-signature", &header)], &ask()));
    wait_for("the refusal", || (scene.gateway.metric("farthing_intents_open") == 0).then_some(()));
    wait_for("the upstream to be asked", || (scene.upstream.hits() == 1).then_some(()));
    wait_for("the debt to be noted", || {
        let owed = scene.gateway.operator(&["ledger", "intents"])["owed"].clone();
        (owed.as_array().unwrap().len() == 1).then_some(())
    });
    set(&open);
    let answer = call.join().unwrap();
    assert_refused(&answer, 402, "settlement_failed", "nothing_taken");
    assert_eq!(scene.gateway.books().entries.len(), 0);
    // Nothing is owed for it.
    let another = scene.exact(1, &ask());
    assert_eq!(scene.pay(&another, &ask()).status, 200);
    scene.wait_for_deposits(1);
}

/// Where more than the limit would be open, the money comes first; so it does for who owes.
#[test]
fn x402_21_beyond_the_limit_the_money_comes_first() {
    let keys = ", settle: after, optimistic_max: 0.001 USD";
    let scene = Scene::of(Upstream::friendly(), [], keys, "");
    let payment = scene.exact(1, &ask());
    assert!(payment.nano() > 1_000_000);
    let answer = scene.pay(&payment, &ask());
    assert_eq!(decode(answer.must("payment-response"))["success"], true);
    assert_eq!(scene.gateway.books_after(1).count("deposit"), 1);
}

/// A11: a payment that settles while its call is killed is a deposit, and serves the same request once.
#[test]
fn a11_killed_while_it_settles_the_payment_serves_once() {
    let (open, settle) = (flag(), flag());
    let mut scene = Scene::after(waiting(&open), [Conduct::SettleWhen(Arc::clone(&settle))]);
    let payment = scene.exact(1, &ask());
    let (address, header) = (scene.gateway.address, payment.v2());
    let call = std::thread::spawn(move || {
        let fields = [("content-type", "application/json"), ("payment-signature", header.as_str())];
        http::try_request(address, "POST", CHAT, &fields, ask().to_string().as_bytes())
    });
    wait_for("both to be asked", || {
        (scene.upstream.hits() == 1 && scene.facilitator.settles().len() == 1).then_some(())
    });
    scene.gateway.crash_and_restart();
    assert!(call.join().unwrap().is_none());
    set(&open);
    set(&settle);
    let served = wait_for("the payment to be served", || {
        let answer = scene.pay(&payment, &ask());
        if answer.status == 503 {
            assert_unknown(&answer);
            return None;
        }
        Some(answer)
    });
    assert_eq!(served.status, 200, "{}", served.text());
    let books = scene.gateway.books_after(1);
    assert_eq!((books.count("deposit"), books.count("capture")), (1, 1));
    assert_eq!(books.balance(&scene.account(1, &payment)), payment.nano() - FRIENDLY_COST);
    assert_eq!(scene.facilitator.transfers(), 1);
    scene.assert_in_order();
}

/// X402-44: a facilitator that was never reached, or turned the request away at its door, has done nothing: what is said
/// after that is believed, and where an offer names nobody the next one is asked.
#[test]
fn x402_44_what_nobody_took_is_asked_anew() {
    let away = || Conduct::Only(Reply::Says(400, "<html>".to_owned()));
    let scene = Scene::upto(Upstream::friendly(), [away(), Conduct::Only(failure("insufficient_funds"))], "");
    let payment = scene.ceiling(1, &ask());
    assert_eq!(scene.pay(&payment, &ask()).status, 200);
    wait_for("the debt", || (scene.gateway.metric("farthing_debtors") == 1).then_some(()));
    assert_eq!(scene.facilitator.settles().len(), 2);

    let (first, second) = (Facilitator::start([away()]), Facilitator::start([]));
    let rails = Facilitator::rails_with(&[first.address, second.address], ", settle: after");
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, &rails);
    let scene = Scene { upstream, facilitator: first, gateway };
    let payment = scene.exact(1, &ask());
    assert_eq!(scene.pay(&payment, &ask()).status, 200);
    scene.wait_for_deposits(1);
    assert_eq!((scene.facilitator.settles().len(), second.settles().len()), (1, 1));
    assert_eq!((scene.facilitator.transfers(), second.transfers()), (0, 1));
}

/// LED-11: a report beyond the ceiling takes the ceiling. What is beyond is the operator's loss and nobody's debt.
#[test]
fn a_report_beyond_the_ceiling_takes_the_ceiling() {
    let dear = Upstream::start(|_, stream| {
        let words = "word ".repeat(1100);
        let body = json!({"id": "c", "object": "chat.completion", "model": "m", "choices": [{"index": 0,
            "message": {"role": "assistant", "content": words}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 1100, "total_tokens": 1110}});
        let _ = stream.write_all(&plain(200, "application/json", &body.to_string()));
    });
    let scene = Scene::of(dear, [], ", schemes: [upto]", "");
    let payment = scene.ceiling(1, &ask());
    assert_eq!(scene.pay(&payment, &ask()).status, 200);
    scene.wait_for_deposits(1);
    let books = scene.gateway.books();
    let account = scene.account(1, &payment);
    assert_eq!((books.charged(&account), books.balance(&account)), (payment.nano(), 0));
    assert_eq!(i64::try_from(scene.facilitator.moved()).unwrap() * 1000, payment.nano());
    assert!(scene.gateway.metric("farthing_overrun_loss_nano_total{asset=\"USDC\"}") > 0);
    assert_eq!(scene.gateway.metric("farthing_debtors"), 0);
    scene.assert_in_order();
}

/// MTR-35: a stream without a limit of its own goes as far as was promised for it, not as far as may be open.
#[test]
fn an_open_stream_goes_as_far_as_its_ceiling() {
    let obedient = Upstream::start(|request, stream| {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let limit = body["max_tokens"].as_u64().unwrap_or(1_000_000);
        let usage = json!({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": limit,
            "total_tokens": limit + 10}});
        let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word\"}}]}\n\n";
        let events = event.repeat(usize::try_from(limit).unwrap());
        let _ =
            stream.write_all(format!("{STREAM_HEAD}{events}data: {usage}\n\ndata: [DONE]\n\n").as_bytes());
    });
    let hold = "metering: { hold: { step: 64, default_output: 256, min_output: 4 } }\n";
    let scene = Scene::of(obedient, [], ", schemes: [upto]", hold);
    let mut open = streamed();
    open.as_object_mut().unwrap().remove("max_tokens");
    let payment = scene.ceiling(1, &open);
    let answer = scene.pay(&payment, &open);
    assert_eq!(answer.status, 200, "{}", answer.text());
    scene.wait_for_deposits(1);
    let charged = scene.gateway.books().charged(&scene.account(1, &payment));
    assert!(charged > payment.nano() / 2 && charged <= payment.nano(), "{charged} of {}", payment.nano());
    assert_eq!(scene.gateway.metric("farthing_debtors"), 0);
    scene.assert_in_order();
}

/// A11: refused when its tokens were out already, a whole payment is a debt too. Who owes pays first, and that makes it good.
#[test]
fn a11_exact_that_is_refused_after_its_tokens_is_owed() {
    let refuse = flag();
    let scene = Scene::after(
        Upstream::friendly(),
        [Conduct::OnlyWhen(Arc::clone(&refuse), failure("insufficient_funds"))],
    );
    let payment = scene.exact(1, &streamed());
    let reading = scene.pay_and_read_until(&payment, &[("te", "trailers")], "[DONE]");
    set(&refuse);
    let answer = reading.finish();
    let said = decode(&trailer(&answer, "payment-response").unwrap());
    assert_eq!((&said["success"], &said["errorReason"]), (&json!(false), &json!("insufficient_funds")));
    wait_for("the debt", || (scene.gateway.metric("farthing_debtors") == 1).then_some(()));
    let account = scene.account(1, &payment);
    assert_eq!(scene.gateway.books().balance(&account), -FRIENDLY_COST);
    assert_eq!(scene.payment_of(&answer)["settlement"]["state"], "refused");
    // The key that came with the call opens an account that owes.
    let key = answer.must("farthing-key");
    let on_credit = http::post(scene.gateway.address, CHAT, &[("x-api-key", key)], &ask());
    assert_refused(&on_credit, 402, "insufficient_balance", "nothing_taken");
    let mut small = ask();
    small["max_tokens"] = 10.into();
    let next = scene.exact(1, &small);
    let paid_first = scene.pay(&next, &small);
    assert_eq!(paid_first.status, 200, "{}", paid_first.text());
    assert_eq!(decode(paid_first.must("payment-response"))["success"], true, "settled before it was served");
    scene.assert_in_order();
}

/// X402-15: a facilitator that is at it is asked once more at once, and whoever waits for the result has it.
#[test]
fn x402_15_what_is_pending_is_asked_about_once_more() {
    let pending = Reply::Says(
        200,
        json!({"success": false, "errorReason": "settlement_pending", "transaction": "HASH", "network": "NETWORK"})
            .to_string(),
    );
    let scene = Scene::upto(Upstream::friendly(), [Conduct::MoveThen(pending)], "");
    let payment = scene.ceiling(1, &ask());
    let header = payment.v2();
    let fields = [("payment-signature", header.as_str()), ("te", "trailers")];
    let answer = http::post(scene.gateway.address, CHAT, &fields, &ask());
    let said = decode(&trailer(&answer, "payment-response").unwrap());
    assert_eq!((&said["success"], &said["transaction"]), (&json!(true), &json!(payment.transaction())));
    let settles = scene.facilitator.settles();
    assert_eq!(settles.len(), 2);
    assert_eq!(settles[0], settles[1]);
    assert_eq!((scene.facilitator.transfers(), scene.gateway.books().count("deposit")), (1, 1));
}

/// What a rail has refused and the operator knows better: his word makes it good, once, with and without a gateway.
#[test]
fn the_operator_makes_good_what_is_owed() {
    let mut scene = Scene::upto(
        Upstream::friendly(),
        [Conduct::Only(failure("insufficient_funds")), Conduct::Only(failure("insufficient_funds"))],
        "",
    );
    for running in [true, false] {
        let payment = scene.ceiling(1, &ask());
        assert_eq!(scene.pay(&payment, &ask()).status, 200);
        wait_for("the debt", || (scene.gateway.metric("farthing_debtors") == 1).then_some(()));
        let owed = scene.gateway.operator(&["ledger", "intents"])["owed"].clone();
        let key = owed[0]["deposit_key"].as_str().unwrap().to_owned();
        let refused = scene.gateway.operator(&["ledger", "resolve", &key, "--refused"]);
        assert_eq!(refused["done"], "already refused");
        if !running {
            scene.gateway.signal(15);
            scene.gateway.wait();
        }
        let transaction = format!("0x{}", "ab".repeat(32));
        for done in ["settled", "already settled"] {
            let settled = scene.gateway.operator(&["ledger", "resolve", &key, "--settled", &transaction]);
            assert_eq!(settled["done"], done);
        }
        if !running {
            scene.gateway.restart();
            wait_for("the offer of a ceiling", || scene.offers(&ask(), "upto").then_some(()));
        }
        assert_eq!(scene.gateway.operator(&["ledger", "intents"])["owed"], json!([]));
        assert_eq!(scene.gateway.books().balance(&scene.account(1, &payment)), 0);
    }
    let payment = scene.ceiling(1, &ask());
    assert_eq!(scene.pay(&payment, &ask()).status, 200, "even again");
    wait_for("nobody to owe", || (scene.gateway.metric("farthing_debtors") == 0).then_some(()));
    scene.assert_in_order();
}
