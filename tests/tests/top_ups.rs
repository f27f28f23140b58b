//! Balance that is bought by order: each payment is credited once, whatever is lost, doubled or killed; a code is called up
//! once; what is left goes back once, in proportion.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::thread;

use farthing_tests::accountant::ACCOUNTANTS;
use farthing_tests::alipay::{Alipay, Conduct, app_key, signed_notice};
use farthing_tests::gateway::{Gateway, nano, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, ask};
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};
use ledger::Chart;
use money::Asset;
use serde_json::{Value, json};

const ORDERS: &str = "/farthing/topup/orders";
const CODES: &str = "/farthing/topup/codes";
const HOOK: &str = "/farthing/hooks/alipay";
const QUERY: &str = "alipay.trade.query";
const REFUND: &str = "alipay.trade.refund";
const REFUND_QUERY: &str = "alipay.trade.fastpay.refund.query";
/// What 36.00 yuan are at 0.139, in nano units.
const CREDIT: i64 = 5_004_000_000;
const FEN: i64 = 10_000_000;
/// Nobody is asked in the time of a test: only notices credit.
const QUIET: &str = "reconcile_every: 10m";
/// Asked at once and again.
const KEEN: &str = "reconcile_every: 50ms";

/// A gateway that sells balance over Alipay, and a holder of an empty account.
struct Scene {
    _upstream: Upstream,
    alipay: Alipay,
    gateway: Gateway,
    key: String,
    account: String,
}

impl Scene {
    fn new(rules: &str) -> Self {
        Self::within(rules, "refunds: { window: 7d, unused_only: false }")
    }

    fn within(rules: &str, refunds: &str) -> Self {
        let (upstream, alipay) = (Upstream::friendly(), Alipay::start());
        let app = alipay.rules();
        let app = app.trim_end_matches(" }");
        let more = format!(
            "rails: {{ test: {{}}, alipay: {app}, notify_base: \"http://{{address}}\" }} }}\n\
             top_up: {{ exchange: {{ CNY: 0.139 USD }}, {rules} }}\n{refunds}\n"
        );
        let gateway = Gateway::start_in(upstream.address, &more, &[("ALIPAY_KEY", &app_key())]);
        let new = gateway.operator(&["key", "new"]);
        let text = |name: &str| new[name].as_str().unwrap().to_owned();
        Self { _upstream: upstream, alipay, key: text("key"), account: text("account"), gateway }
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        http::post(self.gateway.address, path, &[("x-api-key", &self.key)], body)
    }

    fn get(&self, path: &str) -> Answer {
        http::get(self.gateway.address, path, &[("x-api-key", &self.key)])
    }

    /// An order of 36 yuan that can be paid.
    fn order(&self) -> String {
        let answer = self.post(ORDERS, &yuan("36.00"));
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["order"].as_str().unwrap().to_owned()
    }

    /// One that was paid, and credited by its notice.
    fn bought(&self) -> String {
        let order = self.order();
        self.alipay.pay(&order);
        assert_eq!(self.notify(&self.alipay.notice(&order)), "success");
        order
    }

    fn notify(&self, notice: &str) -> String {
        let answer = notify(&self.gateway, notice);
        assert_eq!((answer.status, answer.must("content-type")), (200, "text/plain"), "{}", answer.text());
        answer.text()
    }

    fn state(&self, order: &str) -> String {
        let answer = self.get(&format!("{ORDERS}/{order}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["state"].as_str().unwrap().to_owned()
    }

    fn wait_for_state(&self, order: &str, state: &str) {
        wait_for("the order's state", || (self.state(order) == state).then_some(()));
    }

    fn refund(&self, order: &str) -> Answer {
        self.post(&format!("{ORDERS}/{order}/refund"), &json!({}))
    }

    fn refund_id(&self, order: &str) -> String {
        let answer = self.refund(order);
        assert!([200, 202].contains(&answer.status), "{}", answer.text());
        answer.json()["refund"].as_str().unwrap().to_owned()
    }

    fn refund_state(&self, order: &str) -> String {
        let answer = self.get(&format!("{ORDERS}/{order}/refund"));
        assert!([200, 202].contains(&answer.status), "{}", answer.text());
        answer.json()["state"].as_str().unwrap().to_owned()
    }

    fn call(&self) {
        let served = self.post(CHAT, &ask());
        assert_eq!(served.status, 200, "{}", served.text());
    }

    fn balance(&self) -> i64 {
        self.gateway.settled_balance(&self.key)
    }

    /// Balance, what Alipay has for us in fen, and what waits in suspense; the books close and the store is in order.
    #[track_caller]
    fn assert_books(&self, balance: i64, fen: i64, suspense: i64) {
        let books = self.gateway.books();
        let of = |chart: Chart| books.balance(&chart.id().to_string());
        assert_eq!(books.balance(&self.account), balance);
        assert_eq!(of(Chart::RailClearing("alipay".into())), -fen * FEN, "at Alipay");
        assert_eq!(of(Chart::Suspense), suspense * FEN, "in suspense");
        assert_eq!(of(Chart::Fx(Asset::Cny)), (fen - suspense) * FEN, "exchanged");
        let backup = self.gateway.folder().join(format!("backup-{}", books.entries.len()));
        let _ = std::fs::remove_file(&backup);
        let made = self.gateway.command(&["backup", "--to", backup.to_str().unwrap()]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let checked = self.gateway.command(&["fsck", "--store", backup.to_str().unwrap()]);
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
}

fn yuan(amount: &str) -> Value {
    json!({"rail": "alipay", "amount": amount, "currency": "CNY"})
}

fn notify(gateway: &Gateway, notice: &str) -> Answer {
    let form = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
    http::request(gateway.address, "POST", HOOK, &form, notice.as_bytes())
}

fn reason(answer: &Answer) -> Value {
    answer.json()["error"]["reason"].clone()
}

/// A QR order is paid and credited once, with its bonus, in books that other people's tools accept; a code gives its balance
/// once; and neither the code's bonus nor the order's is ever refunded (FIN-14, FIN-30, FIN-32, FIN-33, FIN-64).
#[test]
fn r20_asian_rails_and_codes() {
    let scene = Scene::new(&format!("bonus: 5%, {QUIET}"));
    let made = scene.post(ORDERS, &yuan("36.00"));
    assert_eq!((made.status, made.must("cache-control")), (201, "no-store"), "{}", made.text());
    let told = made.json();
    let order = told["order"].as_str().unwrap().to_owned();
    assert_eq!(told["amount"], json!({"amount": "36.00", "currency": "CNY"}));
    assert_eq!((nano(&told["credit"]["amount"]), &told["credit"]["currency"]), (CREDIT, &json!("TEST")));
    assert_eq!(nano(&told["bonus"]["amount"]), CREDIT / 20);
    let qr = format!("https://qr.alipay.com/{order}");
    assert_eq!(told["action"], json!({"type": "qr", "code": qr}));
    assert_eq!(
        told["refund_policy"],
        json!({"window_s": 604_800, "unused_only": false}),
        "told before it is paid"
    );
    let trade = &scene.alipay.trades()[&order];
    assert_eq!((trade.fen, scene.alipay.unsigned()), (3600, 0));
    assert_eq!((scene.state(&order), scene.balance()), ("open".into(), 0));

    scene.alipay.pay(&order);
    assert_eq!(scene.balance(), 0, "paid, and nobody has told us");
    let notice = scene.alipay.notice(&order);
    assert_eq!(scene.alipay.deliver(scene.gateway.address, &order, &notice).text(), "success");
    let whole = CREDIT + CREDIT / 20;
    assert_eq!((scene.state(&order), scene.balance()), ("credited".into(), whole));
    assert_eq!(scene.get(&format!("{ORDERS}/{order}")).json()["action"], json!({"type": "none"}));

    // Somebody else's order is nobody's.
    let other = scene.gateway.key("1 TEST");
    let as_other = [("x-api-key", other.as_str())];
    let hidden = http::get(scene.gateway.address, &format!("{ORDERS}/{order}"), &as_other);
    assert_refused(&hidden, 404, "receipt_not_found", "nothing_taken");
    let keyless = http::post(scene.gateway.address, ORDERS, &[], &yuan("36.00"));
    assert_refused(&keyless, 401, "key_unknown", "nothing_taken");

    // Codes: once, for whoever is first, and told again to him.
    let codes = scene.gateway.operator(&["code", "new", "0.5 TEST", "--count", "2", "--label", "spring"]);
    let code = codes["codes"][0].as_str().unwrap().to_owned();
    let keys = [scene.key.as_str(), other.as_str()];
    let call_up = |number: usize| {
        let headers = [("x-api-key", keys[number % 2])];
        http::post(scene.gateway.address, CODES, &headers, &json!({"code": code.to_uppercase()}))
    };
    let answers: Vec<Answer> = thread::scope(|scope| {
        let call_up = &call_up;
        let callers: Vec<_> = (0..32).map(|number| scope.spawn(move || call_up(number))).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    let (first, second): (Vec<_>, Vec<_>) =
        answers.iter().enumerate().partition::<Vec<_>, _>(|(number, _)| number % 2 == 0);
    let is_had = |answers: &[(usize, &Answer)]| answers.iter().all(|(_, answer)| answer.status == 200);
    let is_ours = is_had(&first);
    assert_ne!(is_ours, is_had(&second), "one account has had it");
    for (_, refused) in if is_ours { second } else { first } {
        assert_refused(refused, 400, "bad_request", "nothing_taken");
        assert_eq!(reason(refused), "code_unknown");
    }
    let had = if is_ours { 500_000_000 } else { 0 };
    assert_eq!(scene.balance(), whole + had);
    assert_eq!(scene.gateway.settled_balance(&other), 1_500_000_000 - had);
    for bad in [code.as_str(), "fc-0000", &codes["codes"][1].as_str().unwrap().replace('f', "0")] {
        let refused =
            http::post(scene.gateway.address, CODES, &[("x-api-key", "fk_no")], &json!({"code": bad}));
        assert_eq!(refused.status, 401, "{}", refused.text());
    }
    let bought = scene.post(CODES, &json!({"code": codes["codes"][1]}));
    assert_eq!(bought.status, 200, "{}", bought.text());
    let given = had + 500_000_000;
    assert_eq!(nano(&bought.json()["balance"]["amount"]), whole + given);
    let listed = scene.gateway.operator(&["code", "list"]);
    assert_eq!(listed["codes"].as_array().unwrap().len(), 2);
    assert!(listed["codes"].as_array().unwrap().iter().all(|row| row["account"].is_string()));
    let kept = [scene.gateway.store_file(), scene.gateway.log(), listed.to_string()].concat();
    let digits = code.trim_start_matches("fc").replace('-', "");
    assert!(!kept.contains(&code) && !kept.contains(&digits), "a code is kept nowhere");

    // The bonus is used last; what goes back is the purchase alone, and its bonus is revoked.
    scene.call();
    let refund = scene.refund_id(&order);
    scene.gateway.operator(&["topup", "approve", &refund]);
    wait_for("the refund", || (scene.refund_state(&order) == "moved").then_some(()));
    assert_eq!(scene.balance(), given, "the codes stay, and cannot go back");
    let left = CREDIT - FRIENDLY_COST;
    let back = 3600 * left / CREDIT;
    let trade = &scene.alipay.trades()[&order];
    assert_eq!(i64::try_from(trade.refunded()).unwrap(), back);
    scene.assert_books(given, 3600 - back, 0);
    let promo = scene.gateway.books().balance(&Chart::Promo.id().to_string());
    assert_eq!(promo, -1_000_000_000, "both codes, and no bonus of the order");
    for accountant in ACCOUNTANTS {
        let Some(program) = accountant.find() else { continue };
        let journal = scene.gateway.folder().join(accountant.name);
        let path = journal.to_str().unwrap();
        let exported = scene.gateway.command(&["export", "--format", accountant.format, "--out", path]);
        assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
        let said = accountant.judge(&program, &journal);
        assert!(said.status.success(), "{}: {}", accountant.name, String::from_utf8_lossy(&said.stderr));
    }
}

/// FIN-5, FIN-11: what cannot be sold is refused before the rail hears of it.
#[test]
fn orders_have_bounds_and_names() {
    let scene = Scene::new("max: 50 USD, reconcile_every: 10m");
    for (body, why) in [
        (yuan("35.97"), "below_min"),
        (yuan("359.72"), "above_max"),
        (yuan("36.001"), "amount"),
        (yuan("-36.00"), "amount"),
        (yuan("1e3"), "amount"),
        (json!({"rail": "alipay", "amount": "36.00", "currency": "USD"}), "currency"),
        (json!({"rail": "wechat", "amount": "36.00", "currency": "CNY"}), "rail_unknown"),
    ] {
        let refused = scene.post(ORDERS, &body);
        assert_refused(&refused, 400, "bad_request", "nothing_taken");
        assert_eq!(reason(&refused), why, "{body}");
    }
    assert_refused(&scene.post(ORDERS, &json!({"rail": 1})), 400, "bad_body", "nothing_taken");
    assert_eq!(scene.alipay.trades().len(), 0);
    let named = |amount: &str| {
        let headers = [("x-api-key", scene.key.as_str()), ("idempotency-key", "my order")];
        http::post(scene.gateway.address, ORDERS, &headers, &yuan(amount))
    };
    // No code came of the first try, which the rail did not answer: the same request again is the same order.
    scene.alipay.plan("alipay.trade.precreate", Conduct::ActsAndFails);
    assert_refused(&named("36.00"), 503, "facilitator_failed", "nothing_taken");
    let first = named("36.00");
    let again = named("36.00");
    assert_eq!((first.status, first.json()), (again.status, again.json()));
    assert_eq!(scene.alipay.trades().len(), 1);
    assert_refused(&named("37.00"), 422, "idempotency_mismatch", "nothing_taken");
    // Each account has so many that can be paid.
    for _ in 1..16 {
        scene.order();
    }
    assert_refused(&scene.post(ORDERS, &yuan("36.00")), 429, "rate_limited", "nothing_taken");
    scene.assert_books(0, 0, 0);
}

/// A lost notice is found by asking, also after a kill between the payment and our credit; whatever comes twice, at once or
/// out of order credits once; and what was not paid never does (FIN-22, FIN-24, RAIL-12, RAIL-15).
#[test]
fn r21_webhook_lost_or_doubled() {
    let mut scene = Scene::new(KEEN);
    // Lost, and then found twice.
    let lost = scene.order();
    scene.alipay.pay(&lost);
    scene.wait_for_state(&lost, "credited");
    assert_eq!(scene.notify(&scene.alipay.notice(&lost)), "success", "late");
    assert_eq!(scene.balance(), CREDIT);
    // Paid while nobody is there to hear of it.
    let unheard = scene.order();
    scene.gateway.signal(9);
    scene.alipay.pay(&unheard);
    scene.gateway.wait();
    scene.gateway.restart();
    scene.wait_for_state(&unheard, "credited");
    assert_eq!(scene.balance(), 2 * CREDIT);
    // Told, and killed before anybody could know whether it was written.
    let cut = scene.order();
    scene.alipay.pay(&cut);
    let notice = scene.alipay.notice(&cut);
    thread::scope(|scope| {
        let gateway = &scene.gateway;
        for _ in 0..8 {
            scope.spawn(|| http::try_request(gateway.address, "POST", HOOK, &[], notice.as_bytes()));
        }
        gateway.signal(9);
    });
    scene.gateway.wait();
    scene.gateway.restart();
    scene.wait_for_state(&cut, "credited");
    assert_eq!(scene.notify(&notice), "success");
    assert_eq!(scene.balance(), 3 * CREDIT);
    // Scanned and never paid: asked about, and never credited.
    let unpaid = scene.order();
    scene.alipay.scan(&unpaid);
    let before = scene.alipay.calls(QUERY);
    wait_for("two questions", || (scene.alipay.calls(QUERY) >= before + 2).then_some(()));
    assert_eq!(scene.notify(&scene.alipay.notice(&unpaid)), "success", "that it waits");
    scene.alipay.set(&unpaid, "TRADE_CLOSED");
    scene.wait_for_state(&unpaid, "closed");
    assert_eq!(scene.notify(&scene.alipay.notice(&unpaid)), "success", "that it is over");
    assert_eq!(scene.balance(), 3 * CREDIT);
    scene.assert_books(3 * CREDIT, 3 * 3600, 0);
}

/// FIN-20, FIN-21, RAIL-9, RAIL-11, RAIL-13: a thousand notices of a few payments, doubled, shuffled, among them refunds and strangers, while
/// the rail is asked as well.
#[test]
fn a_thousand_notices_credit_each_payment_once() {
    let scene = Scene::new(KEEN);
    let orders: Vec<String> = (0..10).map(|_| scene.order()).collect();
    for order in &orders {
        scene.alipay.pay(order);
    }
    let notices: Vec<String> = (0..1000)
        .map(|number| {
            let order = &orders[number * 7 % orders.len()];
            match number % 5 {
                0 => scene.alipay.refund_notice(order, "0123456789abcdef0123456789abcdef"),
                _ => scene.alipay.notice(order),
            }
        })
        .collect();
    thread::scope(|scope| {
        for part in notices.chunks(125) {
            let gateway = &scene.gateway;
            scope.spawn(move || {
                part.iter().for_each(|notice| assert_eq!(notify(gateway, notice).text(), "success"))
            });
        }
    });
    assert!(orders.iter().all(|order| scene.state(order) == "credited"));
    assert_eq!(scene.balance(), 10 * CREDIT);
    assert_eq!(scene.gateway.books().count("deposit"), 10);
    scene.assert_books(10 * CREDIT, 36_000, 0);
}

/// RAIL-5, FIN-10: a good signature is no credit.
#[test]
fn what_was_not_asked_for_credits_nothing() {
    let scene = Scene::new(QUIET);
    let order = scene.order();
    scene.alipay.pay(&order);
    let fields = |changes: &[(&str, &str)]| {
        let notice = scene.alipay.notice(&order);
        let mut fields: Vec<(String, String)> = wire::form::decode(notice.as_bytes(), 64).unwrap();
        fields.retain(|(name, _)| name != "sign" && name != "sign_type");
        for (name, value) in changes {
            let field = fields.iter_mut().find(|(known, _)| known == name).unwrap();
            field.1 = (*value).to_owned();
        }
        let fields: Vec<(&str, String)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        signed_notice(&fields)
    };
    for (what, notice, word) in [
        ("another app", fields(&[("app_id", "2021000000000002")]), "success"),
        ("another seller", fields(&[("seller_id", "2088000000000098")]), "success"),
        ("no order", fields(&[("out_trade_no", "00112233445566778899aabbccddeeff")]), "failure"),
        ("no id of ours", fields(&[("out_trade_no", "order_1")]), "success"),
        ("not signed", "app_id=1&sign_type=RSA2&sign=".to_owned(), "failure"),
        ("tampered", scene.alipay.notice(&order).replace("36.00", "36.01"), "failure"),
    ] {
        assert_eq!(scene.notify(&notice), word, "{what}");
        assert_eq!((scene.state(&order), scene.balance()), ("open".into(), 0), "{what}");
    }
    let large = format!("a={}", "x".repeat(64 * 1024));
    assert_refused(&notify(&scene.gateway, &large), 413, "body_too_large", "nothing_taken");
    scene.assert_books(0, 0, 0);
    // Less than was asked for, in a genuine notice: it waits for the operator, and the whole sum does not come after it.
    assert_eq!(scene.notify(&fields(&[("total_amount", "0.01")])), "success");
    assert_eq!(scene.notify(&scene.alipay.notice(&order)), "success");
    assert_eq!((scene.state(&order), scene.balance()), ("payment_under_review".into(), 0));
    scene.assert_books(0, 1, 1);
    // A second payment of an order that was credited.
    let twice = scene.bought();
    let notice = scene.alipay.notice(&twice);
    let trade = scene.alipay.trades()[&twice].trade_no.clone().unwrap();
    let mut second: Vec<(String, String)> = wire::form::decode(notice.as_bytes(), 64).unwrap();
    second.retain(|(name, _)| name != "sign" && name != "sign_type");
    let second: Vec<(&str, String)> =
        second.iter().map(|(name, value)| (name.as_str(), value.replace(&trade, "20261122001"))).collect();
    assert_eq!(scene.notify(&signed_notice(&second)), "success");
    assert_eq!((scene.state(&twice), scene.balance()), ("credited".into(), CREDIT));
    let listed = scene.gateway.operator(&["topup", "list"]);
    let why: Vec<&Value> = listed["parked"].as_array().unwrap().iter().map(|row| &row["why"]).collect();
    assert!(
        why.len() == 2 && why.contains(&&json!("excess")) && why.contains(&&json!("other_amount")),
        "{why:?}"
    );
    scene.assert_books(CREDIT, 3600 + 3600 + 1, 3600 + 1);
    assert!(scene.gateway.log().contains("ALARM"));
}

/// FIN-13, RAIL-12: an order that was scanned and not paid is closed at its end, at the rail too.
#[test]
fn an_order_ends() {
    let scene = Scene::new("order_ttl: 1s, reconcile_every: 50ms");
    let order = scene.order();
    scene.alipay.scan(&order);
    scene.wait_for_state(&order, "closed");
    assert_eq!(scene.alipay.trades()[&order].status, "TRADE_CLOSED");
    scene.assert_books(0, 0, 0);
}

/// FIN-31, FIN-34, RAIL-15, RAIL-18: what is left goes back in proportion, asked for, agreed to and moved once each, whatever
/// the rail does not say and whoever is killed meanwhile.
#[test]
fn r24_top_up_refund() {
    let mut scene = Scene::new(QUIET);
    let order = scene.bought();
    scene.call();
    scene.call();
    let left = CREDIT - 2 * FRIENDLY_COST;
    assert_eq!(scene.balance(), left);
    let back = 3600 * left / CREDIT;
    // Asked for many times at once: one request, one sum set aside.
    let answers: Vec<Answer> = thread::scope(|scope| {
        let senders: Vec<_> = (0..16).map(|_| scope.spawn(|| scene.refund(&order))).collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    let told: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 202).collect();
    // Who asks while another one holds the balance is told to ask again.
    assert!(!told.is_empty() && answers.iter().all(|answer| [202, 409].contains(&answer.status)));
    let asked = told[0].json();
    assert!(told.iter().all(|answer| answer.json() == asked));
    assert_eq!((&asked["state"], &asked["order"]), (&json!("requested"), &json!(order)));
    assert_eq!(
        asked["amount"],
        json!({"amount": format!("{}.{:02}", back / 100, back % 100), "currency": "CNY"})
    );
    assert_eq!(nano(&asked["credit"]["amount"]), left);
    let refund = asked["refund"].as_str().unwrap().to_owned();
    assert_eq!((scene.balance(), scene.alipay.calls(REFUND)), (0, 0), "nobody has agreed");
    let spent = scene.post(CHAT, &ask());
    assert_refused(&spent, 402, "insufficient_balance", "nothing_taken");

    // Agreed to; the rail moves it and its answer is lost, and we are killed before we hear.
    scene.alipay.plan(REFUND, Conduct::ActsInSilence);
    let approved = scene.gateway.operator(&["topup", "approve", &refund]);
    assert_eq!(approved["done"], "approved");
    wait_for("the rail to be asked", || (scene.alipay.calls(REFUND) == 1).then_some(()));
    scene.gateway.crash_and_restart();
    wait_for("the refund", || (scene.refund_state(&order) == "moved").then_some(()));
    assert_eq!(scene.gateway.operator(&["topup", "approve", &refund])["done"], "already approved");
    let trade = scene.alipay.trades()[&order].clone();
    assert_eq!((trade.refunds.len(), i64::try_from(trade.refunded()).unwrap()), (1, back));
    assert!(scene.alipay.calls(REFUND_QUERY) >= 1, "what became of it is asked before it is asked for again");
    assert_eq!(scene.refund_id(&order), refund, "asked for once more, it is the same one");
    assert!(!scene.gateway.command(&["topup", "reject", &refund]).status.success());
    // Its notice, which repeats that the trade is paid, credits nothing.
    assert_eq!(scene.notify(&scene.alipay.refund_notice(&order, &refund)), "success");
    assert_eq!(scene.balance(), 0);
    scene.assert_books(0, 3600 - back, 0);
    let books = scene.gateway.books();
    assert_eq!((books.count("deposit"), books.count("refund")), (1, 2));
    assert_eq!(books.balance(&Chart::RefundPayable.id().to_string()), 0);
}

/// FIN-35: accepted is not moved, and what is refused is balance again.
#[test]
fn a_refund_that_does_not_move_is_given_back() {
    let scene = Scene::new(QUIET);
    let later = scene.bought();
    scene.alipay.plan(REFUND, Conduct::MovesLater);
    let refund = scene.refund_id(&later);
    scene.gateway.operator(&["topup", "approve", &refund]);
    wait_for("the rail to be asked again", || (scene.alipay.calls(REFUND_QUERY) >= 1).then_some(()));
    assert_eq!((scene.refund_state(&later), scene.balance()), ("approved".into(), 0));
    scene.alipay.move_refunds();
    wait_for("the refund", || (scene.refund_state(&later) == "moved").then_some(()));
    // The operator does not agree: it can be asked for again.
    let order = scene.bought();
    let first = scene.refund_id(&order);
    assert_eq!(scene.gateway.operator(&["topup", "reject", &first])["done"], "rejected");
    assert_eq!(scene.gateway.operator(&["topup", "reject", &first])["done"], "already rejected");
    assert_eq!((scene.refund_state(&order), scene.balance()), ("rejected".into(), CREDIT));
    let second = scene.refund_id(&order);
    assert_ne!(first, second);
    // The rail refuses: the trade is too old for it.
    scene.alipay.set(&order, "TRADE_FINISHED");
    scene.gateway.operator(&["topup", "approve", &second]);
    wait_for("the refund", || (scene.refund_state(&order) == "failed").then_some(()));
    assert_eq!(scene.balance(), CREDIT);
    scene.call();
    scene.assert_books(CREDIT - FRIENDLY_COST, 3600, 0);
}

/// FIN-30: what was told before the payment holds.
#[test]
fn a_policy_holds_and_a_narrowed_key_takes_nothing_out() {
    let scene = Scene::within(QUIET, "refunds: { window: 7d }");
    let order = scene.bought();
    let narrowed =
        scene.gateway.operator(&["key", "new", "--account", &scene.account, "--max-call", "1 TEST"]);
    let narrowed = [("x-api-key", narrowed["key"].as_str().unwrap())];
    let path = format!("{ORDERS}/{order}/refund");
    let refused = http::post(scene.gateway.address, &path, &narrowed, &json!({}));
    assert_refused(&refused, 403, "key_forbidden", "nothing_taken");
    scene.call();
    let refused = scene.refund(&order);
    assert_refused(&refused, 400, "bad_request", "nothing_taken");
    assert_eq!(reason(&refused), "used");
    let unpaid = scene.order();
    assert_eq!(reason(&scene.refund(&unpaid)), "not_credited");
    assert_refused(
        &scene.refund("00112233445566778899aabbccddeeff"),
        404,
        "receipt_not_found",
        "nothing_taken",
    );
    let never = Scene::within(QUIET, "");
    let order = never.bought();
    assert_eq!(reason(&never.refund(&order)), "window_over");
}
