//! What is left of a balance goes back over Lightning: once, within its bounds, and whatever the node tells or does not
//! tell, the books close.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::thread;

use farthing_tests::accountant::ACCOUNTANTS;
use farthing_tests::gateway::{Gateway, nano, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::lightning::{call, offered};
use farthing_tests::paying_node::{
    Does, MACAROON, PayingNode, Stands, invoice_made_at, invoice_of_holder, preimage_of,
};
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, ask};
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};
use lightning_invoice::Currency;
use rails::lightning::{Wanted, bolt11, test_node};
use serde_json::{Value, json};

const REFUND: &str = "/farthing/refund";
const BOUNDS: &str = "max: 1 USD, per_day: 10 USD, min: 0.001 USD, fee_max: 1%";
/// What one deposit brings, and what is left of it after a call.
const DEPOSIT: i64 = 50_000_000;
const LEFT: i64 = DEPOSIT - FRIENDLY_COST;
/// Nano-dollars of a millisatoshi.
const PER_MSAT: i64 = 1000;

/// A gateway with a node that pays, and a holder with a balance that came in over Lightning.
struct Scene {
    _upstream: Upstream,
    node: PayingNode,
    gateway: Gateway,
    key: String,
    account: String,
}

impl Scene {
    fn new(plan: impl IntoIterator<Item = Does>) -> Self {
        Self::within(BOUNDS, plan)
    }

    fn within(bounds: &str, plan: impl IntoIterator<Item = Does>) -> Self {
        let upstream = Upstream::friendly();
        let node = PayingNode::start(plan);
        let gateway = Gateway::start_in(upstream.address, &node.rails(bounds), &[("LND_MACAROON", MACAROON)]);
        let offer = offered(gateway.address, CHAT, &ask());
        let served = call(gateway.address, CHAT, &offer.paid(), &ask());
        assert_eq!(served.status, 200, "{}", served.text());
        let key = served.must("farthing-key").to_owned();
        assert_eq!(gateway.settled_balance(&key), LEFT);
        let balance = http::get(gateway.address, "/farthing/balance", &[("x-api-key", &key)]).json();
        let account = balance["account"].as_str().unwrap().to_owned();
        gateway.books_after(1);
        Self { _upstream: upstream, node, gateway, key, account }
    }

    fn hand_in(&self, invoice: &str) -> Answer {
        hand_in(&self.gateway, &self.key, invoice)
    }

    /// What became of an invoice, once that is known.
    fn decided(&self, invoice: &str) -> Answer {
        let hash = hash_of(invoice);
        wait_for("the refund to be decided", || {
            let rows = self.gateway.office().ask(&json!({"command": "ledger-payouts"}))?;
            let rows = rows["payouts"].as_array().unwrap().clone();
            rows.iter()
                .any(|row| row["payment_hash"] == hash.as_str() && row["state"] != "open")
                .then_some(())
        });
        self.hand_in(invoice)
    }

    /// Balance, and what is set aside for refunds; every entry is balanced and every rule of the books holds.
    #[track_caller]
    fn assert_books(&self, balance: i64, set_aside: i64, what: &str) {
        let books = self.gateway.books();
        assert_eq!(books.balance(&self.account), balance, "{what}");
        let payable = ledger::Chart::RefundPayable.id().to_string();
        assert_eq!(books.balance(&payable), set_aside, "{what}");
        let clearing = ledger::Chart::RailClearing("lightning".into()).id().to_string();
        let gone = i64::try_from(self.node.paid_msat()).unwrap() * PER_MSAT;
        // What left the node is what left the books, as long as nothing is under way.
        if set_aside == 0 {
            assert_eq!(books.balance(&clearing), gone - DEPOSIT, "{what}");
        }
        let backup = self.gateway.folder().join(format!("backup-{}", books.entries.len()));
        let _ = std::fs::remove_file(&backup);
        let made = self.gateway.command(&["backup", "--to", backup.to_str().unwrap()]);
        assert!(made.status.success(), "{what}: {}", String::from_utf8_lossy(&made.stderr));
        let checked = self.gateway.command(&["fsck", "--store", backup.to_str().unwrap()]);
        assert!(checked.status.success(), "{what}: {}", String::from_utf8_lossy(&checked.stdout));
    }
}

fn hash_of(invoice: &str) -> String {
    wire::hex::encode(&bolt11::decode(invoice).unwrap().payment_hash)
}

fn hand_in(gateway: &Gateway, key: &str, invoice: &str) -> Answer {
    http::post(gateway.address, REFUND, &[("x-api-key", key)], &json!({ "invoice": invoice }))
}

#[track_caller]
fn assert_paid(answer: &Answer, amount_msat: u64, fee_msat: u64) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = answer.json();
    assert_eq!((&told["state"], &told["amount_msat"]), (&json!("paid"), &json!(amount_msat)));
    assert_eq!(told["fee_msat"], fee_msat);
    let charged = i64::try_from(amount_msat + fee_msat).unwrap() * PER_MSAT;
    assert_eq!(nano(&told["charged"]["amount"]), charged);
}

fn reason(answer: &Answer) -> Value {
    let body = answer.json();
    let inner = if body["error"]["reason"].is_null() { &body["reason"] } else { &body["error"]["reason"] };
    inner.clone()
}

/// Paid at the rate of the deposit, the fee as it was; the same invoice again is told the same.
#[test]
fn a_refund_is_paid_once_and_told_again() {
    let scene = Scene::new([Does::Pays(7)]);
    let invoice = invoice_of_holder(40_000, 600);
    let paid = scene.hand_in(&invoice);
    assert_paid(&paid, 40_000, 7);
    assert_eq!(paid.must("cache-control"), "no-store");
    let left = LEFT - 40_007 * PER_MSAT;
    assert_eq!(nano(&paid.json()["balance"]["amount"]), left);
    for again in [invoice.clone(), invoice.to_uppercase(), format!("lightning:{invoice}")] {
        assert_paid(&scene.hand_in(&again), 40_000, 7);
    }
    let orders = scene.node.orders();
    assert_eq!(orders.len(), 1);
    assert_eq!(
        (orders[0]["fee_limit_msat"].as_str(), orders[0]["payment_request"].as_str()),
        (Some("400"), Some(invoice.as_str()))
    );
    assert_eq!(scene.gateway.balance(&scene.key), (left, 0));
    scene.assert_books(left, 0, "paid");
    let books = scene.gateway.books();
    assert_eq!((books.count("deposit"), books.count("refund")), (1, 2));
    let fee = ledger::Chart::RailFee("lightning".into()).id().to_string();
    let passed_on = ledger::Chart::FeesPassedOn.id().to_string();
    assert_eq!((books.balance(&fee), books.balance(&passed_on)), (-7 * PER_MSAT, 7 * PER_MSAT));
    // The accounts have their names, and the exports know them.
    let exported = scene.gateway.command(&["export", "--format", "csv"]);
    let csv = String::from_utf8(exported.stdout).unwrap();
    for name in [
        "refund_payable,liabilities:refund-payable",
        "rail_clearing:lightning,assets:psp:lightning",
        "rail_fee:lightning,expenses:psp-fee",
        "fees_passed_on,income:fees-passed-on",
    ] {
        assert!(csv.contains(name), "{name}: {csv}");
    }
    for accountant in ACCOUNTANTS {
        let Some(program) = accountant.find() else { continue };
        let journal = scene.gateway.folder().join(accountant.name);
        let path = journal.to_str().unwrap();
        let exported = scene.gateway.command(&["export", "--format", accountant.format, "--out", path]);
        assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
        let said = accountant.judge(&program, &journal);
        assert!(said.status.success(), "{}: {}", accountant.name, String::from_utf8_lossy(&said.stderr));
    }
    let keys = http::get(scene.gateway.address, "/.well-known/farthing-keys.json", &[]).json();
    let public = keys["keys"][0]["x"].as_str().unwrap();
    let journal = scene.gateway.folder().join("journal.jsonl");
    let journal = journal.to_str().unwrap();
    scene.gateway.operator(&["ledger", "head"]);
    let exported = scene.gateway.command(&["export", "--format", "jsonl", "--out", journal]);
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    for words in [vec!["verify", "--key", public], vec!["verify", "--journal", journal, "--key", public]] {
        let verified = scene.gateway.command(&words);
        assert!(verified.status.success(), "{words:?}: {}", String::from_utf8_lossy(&verified.stdout));
    }
    let log = scene.gateway.log();
    assert!(!log.contains(&invoice) && !log.contains(&preimage_of(&invoice)) && !log.contains(MACAROON));
    assert!(!scene.gateway.store_file().contains(&preimage_of(&invoice)));
    // What is left can be spent, and is no longer enough for another one as large.
    let served = http::post(scene.gateway.address, CHAT, &[("x-api-key", &scene.key)], &ask());
    assert_eq!(served.status, 200, "{}", served.text());
    let second = scene.hand_in(&invoice_of_holder(10_000, 600));
    assert_refused(&second, 400, "bad_request", "nothing_taken");
    assert_eq!(reason(&second), "above_deposits", "with its fee: {}", second.text());
}

/// The token that bought the balance may take it back, as it was sold and not narrowed.
#[test]
fn the_token_of_a_payment_may_take_back_what_is_left() {
    let scene = Scene::new([Does::Pays(0)]);
    let offer = offered(scene.gateway.address, CHAT, &ask());
    let served = call(scene.gateway.address, CHAT, &offer.paid(), &ask());
    assert_eq!(served.status, 200, "{}", served.text());
    let invoice = json!({ "invoice": invoice_of_holder(40_000, 600) });
    let narrowed = offer.narrowed(&["services=farthing:0"]);
    let refused = http::post(scene.gateway.address, REFUND, &[("authorization", &narrowed)], &invoice);
    assert_refused(&refused, 403, "key_forbidden", "nothing_taken");
    let paid = http::post(scene.gateway.address, REFUND, &[("authorization", &offer.paid())], &invoice);
    assert_paid(&paid, 40_000, 0);
    assert_eq!(scene.gateway.balance(&scene.key), (LEFT, 0), "another one's balance");
}

/// FIN-33: a bonus is not paid out: it is used last, and what came over Lightning before it.
#[test]
fn fin_33_what_was_given_does_not_go_back_over_lightning() {
    let scene = Scene::new([Does::Pays(0)]);
    assert_paid(&scene.hand_in(&invoice_of_holder(40_000, 600)), 40_000, 0);
    let code = scene.gateway.operator(&["code", "new", "1 TEST"]);
    let headers = [("x-api-key", scene.key.as_str())];
    let code = json!({"code": code["codes"][0]});
    let given = http::post(scene.gateway.address, "/farthing/topup/codes", &headers, &code);
    assert_eq!(given.status, 200, "{}", given.text());
    // Ten thousand msat of the deposit have not gone back, but a call has used some of them.
    let refused = scene.hand_in(&invoice_of_holder(9_900, 600));
    assert_refused(&refused, 400, "bad_request", "nothing_taken");
    assert_eq!(reason(&refused), "above_deposits", "{}", refused.text());
    scene.assert_books(LEFT - 40_000 * PER_MSAT + 1_000_000_000, 0, "given");
}

/// Whoever hands one invoice in 32 times at once has it paid once.
#[test]
fn one_invoice_at_once_is_one_payment() {
    let scene = Scene::new([Does::PaysLate(300)]);
    let invoice = invoice_of_holder(40_000, 600);
    let answers: Vec<Answer> = thread::scope(|scope| {
        let senders: Vec<_> = (0..32).map(|_| scope.spawn(|| scene.hand_in(&invoice))).collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    for answer in &answers {
        assert!([200, 202].contains(&answer.status), "{} {}", answer.status, answer.text());
    }
    assert_paid(&scene.decided(&invoice), 40_000, 0);
    assert_eq!(scene.node.orders().len(), 1);
    scene.assert_books(LEFT - 40_000 * PER_MSAT, 0, "32 at once");
}

/// Two invoices at once: one at a time, and together no more than there is.
#[test]
fn another_invoice_waits_for_the_first() {
    let scene = Scene::new([Does::SaysNothing, Does::Pays(0)]);
    let (first, second) = (invoice_of_holder(20_000, 600), invoice_of_holder(20_000, 600));
    let answer = thread::scope(|scope| {
        let waiting = scope.spawn(|| scene.hand_in(&first));
        wait_for("the order", || (scene.node.orders().len() == 1).then_some(()));
        let refused = scene.hand_in(&second);
        assert_refused(&refused, 409, "in_progress", "nothing_taken");
        assert_eq!(reason(&refused), "another_refund_open");
        scene.assert_books(LEFT - 20_200 * PER_MSAT, 20_200 * PER_MSAT, "set aside");
        assert_eq!(scene.gateway.balance(&scene.key).0, LEFT - 20_200 * PER_MSAT);
        scene.node.ends(&first, Stands::Paid(1));
        // The operator need not wait for the node to find its words.
        let hash = hash_of(&first);
        let busy = scene.gateway.command(&["ledger", "resolve", &hash, "--refused"]);
        assert!(!busy.status.success(), "the node is being asked");
        waiting.join().unwrap()
    });
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    assert_eq!(answer.json()["state"], "open");
    assert_eq!(scene.node.orders().len(), 1);
}

/// What cannot be paid is refused before anything moves, and the node hears of none of it.
#[test]
fn what_cannot_be_paid_is_refused_untouched() {
    let scene = Scene::within("max: 0.03 USD, per_day: 0.03 USD, min: 0.002 USD", []);
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let ours = test_node::mint(
        &Wanted { amount_msat: 20_000, description: "own", expiry_s: 600, label: "l" },
        now_s,
    );
    let vectors =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../specs/vectors/l402/invoices.json"));
    let vectors: Value = serde_json::from_str(&vectors.unwrap()).unwrap();
    let open =
        vectors["invoices"].as_array().unwrap().iter().find(|one| one["amount_msat"].is_null()).unwrap();
    for (what, invoice, expected) in [
        ("own invoice", ours.unwrap(), "invoice_of_ours"),
        ("expired", invoice_made_at(now_s - 900, 20_000, 600, Currency::Regtest), "invoice_expires_too_soon"),
        (
            "half a minute left",
            invoice_made_at(now_s, 20_000, 30, Currency::Regtest),
            "invoice_expires_too_soon",
        ),
        (
            "a month",
            invoice_made_at(now_s, 20_000, 30 * 86_400, Currency::Regtest),
            "invoice_expires_too_late",
        ),
        ("mainnet", invoice_made_at(now_s, 20_000, 600, Currency::Bitcoin), "invoice_of_another_network"),
        ("no amount", open["bolt11"].as_str().unwrap().to_owned(), "invoice_without_amount"),
        ("no invoice", "lnbcrt1qqq".to_owned(), "invoice_unreadable"),
        ("dust", invoice_of_holder(1_999, 600), "below_min"),
        ("above the most", invoice_of_holder(29_710, 600), "above_max"),
        ("above what came in", invoice_of_holder(49_506, 600), "above_deposits"),
    ] {
        let refused = scene.hand_in(&invoice);
        assert_refused(&refused, 400, "bad_request", "nothing_taken");
        assert_eq!(reason(&refused), expected, "{what}: {}", refused.text());
    }
    // Money that came in another way does not go back this way.
    let granted = scene.gateway.key("1 TEST");
    let refused = hand_in(&scene.gateway, &granted, &invoice_of_holder(20_000, 600));
    assert_eq!(reason(&refused), "above_deposits");
    // Who has nothing makes us read nothing.
    let nobody = http::post(scene.gateway.address, REFUND, &[], &json!({"invoice": "lnbcrt1qqq"}));
    assert_refused(&nobody, 401, "key_unknown", "nothing_taken");
    let large = json!({"invoice": "l".repeat(9000)});
    let refused = http::post(scene.gateway.address, REFUND, &[("x-api-key", &scene.key)], &large);
    assert_refused(&refused, 413, "body_too_large", "nothing_taken");
    for body in [json!({}), json!({"invoice": 5}), json!({"invoice": "x", "amount": 1}), json!([])] {
        let refused = http::post(scene.gateway.address, REFUND, &[("x-api-key", &scene.key)], &body);
        assert_refused(&refused, 400, "bad_body", "nothing_taken");
    }
    assert_eq!(scene.node.orders(), Vec::<Value>::new());
    scene.assert_books(LEFT, 0, "refused");
}

/// Nobody takes out what was lent to him.
#[test]
fn a_narrowed_key_takes_nothing_out() {
    let scene = Scene::new([Does::Pays(0)]);
    let whole = wire::credit_key::CreditKey::parse(&scene.key).unwrap();
    let id = "A".repeat(22);
    for caveat in [
        format!("budget={id}:TEST:1000000000"),
        "expires=9999999".to_owned(),
        "expires=1890000000".to_owned(),
        "models=*".to_owned(),
        "per_call=TEST:5".to_owned(),
    ] {
        let mut key = whole.clone();
        key.add_caveat(caveat.as_bytes()).unwrap();
        let refused = hand_in(&scene.gateway, &key.to_text(), &invoice_of_holder(20_000, 600));
        assert!([401, 403].contains(&refused.status), "{caveat}: {}", refused.text());
    }
    assert_eq!(scene.node.orders().len(), 0);
    assert_paid(&scene.hand_in(&invoice_of_holder(20_000, 600)), 20_000, 0);
}

/// A way that costs more than it may is no way: the balance is whole again, and the same invoice stays refused.
#[test]
fn a_fee_above_its_cap_is_not_paid() {
    let scene = Scene::new([Does::Pays(401), Does::Pays(400)]);
    let invoice = invoice_of_holder(40_000, 600);
    for _ in 0..2 {
        let failed = scene.hand_in(&invoice);
        assert_refused(&failed, 503, "facilitator_failed", "nothing_taken");
        assert_eq!(reason(&failed), "not_paid");
        assert!(failed.text().contains("NO_ROUTE"), "{}", failed.text());
    }
    assert_eq!(scene.node.orders().len(), 1);
    scene.assert_books(LEFT, 0, "failed");
    assert_eq!(scene.gateway.balance(&scene.key), (LEFT, 0));
    let second = invoice_of_holder(40_000, 600);
    assert_paid(&scene.hand_in(&second), 40_000, 400);
    scene.assert_books(LEFT - 40_400 * PER_MSAT, 0, "paid");
    assert_eq!(scene.gateway.books().count("refund"), 4);
}

/// More than the balance: a part of the deposit was spent.
#[test]
fn what_was_spent_does_not_go_back() {
    let scene = Scene::new([]);
    // 49 000 msat and their fee came in, and 30 000 nano-dollars of them are spent.
    let refused = scene.hand_in(&invoice_of_holder(49_480, 600));
    assert_refused(&refused, 400, "bad_request", "nothing_taken");
    assert_eq!(reason(&refused), "above_balance", "{}", refused.text());
    assert_eq!(scene.node.orders().len(), 0);
    scene.assert_books(LEFT, 0, "refused");
}

/// A lost answer keeps the money set aside until the node tells, restarts or not; nothing is paid in its place.
#[test]
fn a_lost_answer_is_looked_up_and_never_paid_again() {
    for (restarts, stands) in
        [(false, Stands::Paid(5)), (false, Stands::Failed), (true, Stands::Paid(5)), (true, Stands::Failed)]
    {
        let what = format!("restart {restarts}, {stands:?}");
        let mut scene = Scene::new([Does::LosesTheAnswer, Does::Pays(0)]);
        let invoice = invoice_of_holder(40_000, 600);
        let open = scene.hand_in(&invoice);
        assert_eq!((open.status, &open.json()["state"]), (202, &json!("open")), "{what}");
        let set_aside = 40_400 * PER_MSAT;
        assert_eq!(nano(&open.json()["held"]["amount"]), set_aside);
        wait_for("a look", || (scene.node.looks() > 1).then_some(()));
        if restarts {
            scene.gateway.crash_and_restart();
            let before = scene.node.looks();
            wait_for("a look after the restart", || (scene.node.looks() > before).then_some(()));
        }
        scene.assert_books(LEFT - set_aside, set_aside, &what);
        assert_eq!(scene.gateway.balance(&scene.key), (LEFT - set_aside, 0), "{what}");
        let other = invoice_of_holder(1_000, 600);
        assert_refused(&scene.hand_in(&other), 409, "in_progress", "nothing_taken");
        let rows = scene.gateway.operator(&["ledger", "payouts"]);
        assert_eq!(
            (&rows["payouts"][0]["state"], rows["payouts"].as_array().unwrap().len()),
            (&json!("open"), 1)
        );
        wait_for("the gauge", || (scene.gateway.metric("farthing_payouts_open") == 1).then_some(()));
        scene.node.ends(&invoice, stands);
        let ended = scene.decided(&invoice);
        let left = if stands == Stands::Failed {
            assert_refused(&ended, 503, "facilitator_failed", "nothing_taken");
            LEFT
        } else {
            assert_paid(&ended, 40_000, 5);
            LEFT - 40_005 * PER_MSAT
        };
        assert_eq!(scene.node.orders().len(), 1, "{what}");
        scene.assert_books(left, 0, &what);
        assert_eq!(scene.gateway.balance(&scene.key), (left, 0), "{what}");
        assert_paid(&scene.hand_in(&other), 1_000, 0);
    }
}

/// Killed while the node pays: the intent was on disk, and the node is asked what became of it.
#[test]
fn killed_while_the_node_pays() {
    for stands in [Stands::Paid(2), Stands::Failed] {
        let mut scene = Scene::new([Does::SaysNothing]);
        let invoice = invoice_of_holder(40_000, 600);
        let (address, key) = (scene.gateway.address, scene.key.clone());
        let body = json!({ "invoice": invoice }).to_string();
        let sender = thread::spawn(move || {
            let fields = [("content-type", "application/json"), ("x-api-key", key.as_str())];
            http::try_request(address, "POST", REFUND, &fields, body.as_bytes())
        });
        wait_for("the order", || (scene.node.orders().len() == 1).then_some(()));
        scene.node.ends(&invoice, stands);
        scene.gateway.crash_and_restart();
        assert!(sender.join().unwrap().is_none());
        let ended = scene.decided(&invoice);
        let left = match stands {
            Stands::Paid(fee) => {
                assert_paid(&ended, 40_000, fee);
                LEFT - (40_000 + i64::try_from(fee).unwrap()) * PER_MSAT
            }
            Stands::Failed | Stands::UnderWay => LEFT,
        };
        assert_eq!(scene.node.orders().len(), 1);
        scene.assert_books(left, 0, "after the kill");
        assert_eq!(scene.gateway.balance(&scene.key), (left, 0));
    }
}

/// Killed wherever it happens to be: nothing is paid twice, nothing is lost, and the account can go on.
#[test]
fn killed_at_any_moment() {
    let mut scene = Scene::new((0..64).map(|place| match place % 3 {
        0 => Does::Pays(1),
        1 => Does::PaysLate(15),
        _ => Does::Fails,
    }));
    for round in 0..8u64 {
        let invoice = invoice_of_holder(2_000, 600);
        let (address, key) = (scene.gateway.address, scene.key.clone());
        let body = json!({ "invoice": &invoice }).to_string();
        let sender = thread::spawn(move || {
            let fields = [("content-type", "application/json"), ("x-api-key", key.as_str())];
            http::try_request(address, "POST", REFUND, &fields, body.as_bytes())
        });
        thread::sleep(std::time::Duration::from_millis(round * 6));
        scene.gateway.crash_and_restart();
        let _ = sender.join().unwrap();
        let known = scene.gateway.operator(&["ledger", "payouts"]);
        let hash = hash_of(&invoice);
        let rows = known["payouts"].as_array().unwrap();
        let is_known = rows.iter().any(|row| row["payment_hash"] == hash.as_str());
        let was_ordered =
            scene.node.orders().iter().any(|order| order["payment_request"] == invoice.as_str());
        assert!(is_known || !was_ordered, "the node was asked for what nobody has written down");
        if is_known && !was_ordered {
            // Its order may still come as far as anybody knows; only the operator, or time, can tell.
            wait_for("the node not to be asked", || {
                let said = scene.gateway.command(&["ledger", "resolve", &hash, "--refused", "--json"]);
                let error = String::from_utf8(said.stderr).unwrap();
                assert!(said.status.success() || error.contains("right now"), "{error}");
                said.status.success().then_some(())
            });
        }
        if is_known {
            scene.decided(&invoice);
        }
    }
    let books = scene.gateway.books();
    let left = books.balance(&scene.account);
    assert_eq!(left, LEFT - i64::try_from(scene.node.paid_msat()).unwrap() * PER_MSAT);
    scene.assert_books(left, 0, "after eight kills");
    assert_eq!(scene.gateway.balance(&scene.key), (left, 0));
}

/// Where the node never tells, its operator knows: by the preimage, or because he has looked.
#[test]
fn the_operator_decides_what_the_node_never_tells() {
    let scene = Scene::new([Does::LosesTheAnswer, Does::LosesTheAnswer]);
    let invoice = invoice_of_holder(20_000, 600);
    assert_eq!(scene.hand_in(&invoice).status, 202);
    let settled = |invoice: &str, preimage: &str| {
        wait_for("the node not to be asked", || {
            let said = scene.gateway.command(&[
                "ledger",
                "resolve",
                &hash_of(invoice),
                "--settled",
                preimage,
                "--json",
            ]);
            let error = String::from_utf8(said.stderr).unwrap();
            (!error.contains("right now")).then(|| (said.status.success(), error))
        })
    };
    let (done, error) = settled(&invoice, &"ab".repeat(32));
    assert!(!done && error.contains("not the preimage"), "{error}");
    assert_eq!(settled(&invoice, &preimage_of(&invoice)), (true, String::new()));
    assert_eq!(settled(&invoice, &preimage_of(&invoice)), (true, String::new()), "again");
    let told = scene.hand_in(&invoice).json();
    assert_eq!(
        (&told["state"], &told["fee_msat"]),
        (&json!("paid"), &json!(200)),
        "the most it may have cost"
    );
    let second = invoice_of_holder(20_000, 600);
    assert_eq!(scene.hand_in(&second).status, 202);
    let refused = wait_for("the node not to be asked", || {
        let said = scene.gateway.command(&["ledger", "resolve", &hash_of(&second), "--refused", "--json"]);
        said.status.success().then_some(said)
    });
    assert!(String::from_utf8(refused.stdout).unwrap().contains("refused"));
    assert_eq!(scene.gateway.balance(&scene.key), (LEFT - 20_200 * PER_MSAT, 0));
    assert_eq!(scene.gateway.books().count("refund"), 4);
}

/// A refund of which nobody told how it ended is the business of the node that was asked to pay: the word of another one,
/// to which the configuration has changed, neither gives the balance back nor takes it.
#[test]
fn another_node_decides_nothing() {
    for says in [None, Some(Stands::Failed), Some(Stands::Paid(0))] {
        let mut scene = Scene::new([Does::LosesTheAnswer, Does::LosesTheAnswer]);
        let other = PayingNode::start([]);
        let configured = std::fs::read_to_string(scene.gateway.config()).unwrap();
        let moved = configured.replace(&scene.node.address.to_string(), &other.address.to_string());
        assert_ne!(moved, configured);
        for is_back in [true, false] {
            let (books, balance) = (scene.gateway.books(), scene.gateway.balance(&scene.key));
            let invoice = invoice_of_holder(20_000, 600);
            if let Some(stands) = says {
                other.ends(&invoice, stands);
            }
            let (hash, set_aside) = (hash_of(&invoice), 20_200 * PER_MSAT);
            assert_eq!(scene.hand_in(&invoice).status, 202);
            std::fs::write(scene.gateway.config(), &moved).unwrap();
            scene.gateway.operator(&["reload"]);
            let row = wait_for("the operator to be asked", || {
                let rows = scene.gateway.operator(&["ledger", "payouts"]);
                let rows = rows["payouts"].as_array().unwrap().clone();
                rows.into_iter()
                    .find(|row| row["payment_hash"] == hash.as_str() && row["needs_operator"] == true)
            });
            assert_eq!(row["state"], "open", "{says:?}");
            let alarms = scene
                .gateway
                .log()
                .lines()
                .filter(|line| line.contains("ALARM") && line.contains(&hash))
                .count();
            assert_eq!(alarms, 1, "{says:?}");
            assert_eq!(other.looks(), 0, "{says:?}: it was asked what it cannot know");
            assert_eq!(scene.hand_in(&invoice).json()["state"], "open");
            assert_eq!(scene.gateway.balance(&scene.key).0, balance.0 - set_aside);
            let payable = ledger::Chart::RefundPayable.id().to_string();
            assert_eq!(scene.gateway.books().balance(&payable) - books.balance(&payable), set_aside);
            scene.node.ends(&invoice, Stands::Paid(3));
            let fee_msat = if is_back {
                // It is configured again, and tells.
                std::fs::write(scene.gateway.config(), &configured).unwrap();
                scene.gateway.crash_and_restart();
                3
            } else {
                let preimage = preimage_of(&invoice);
                scene.gateway.operator(&["ledger", "resolve", &hash, "--settled", &preimage]);
                200
            };
            assert_paid(&scene.decided(&invoice), 20_000, fee_msat);
        }
        assert_eq!((scene.node.orders().len(), other.orders().len(), other.looks()), (2, 0, 0));
    }
}

/// What may go back in a day is counted over everybody, and over restarts.
#[test]
fn a_day_has_its_bound() {
    let bounds = "max: 0.03 USD, per_day: 0.04 USD, min: 0.001 USD, fee_max: 1%";
    let mut scene = Scene::within(bounds, [Does::Pays(0), Does::Fails, Does::Pays(0)]);
    assert_paid(&scene.hand_in(&invoice_of_holder(20_000, 600)), 20_000, 0);
    // What failed counts for nothing.
    assert_eq!(scene.hand_in(&invoice_of_holder(15_000, 600)).status, 503);
    scene.gateway.crash_and_restart();
    let refused = scene.hand_in(&invoice_of_holder(20_000, 600));
    assert_refused(&refused, 429, "rate_limited", "nothing_taken");
    assert!(refused.must("retry-after").parse::<u32>().unwrap() <= 86_400);
    assert_paid(&scene.hand_in(&invoice_of_holder(15_000, 600)), 15_000, 0);
    scene.assert_books(LEFT - 35_000 * PER_MSAT, 0, "one day");
}

/// Off by default: nothing goes back over Lightning, and the endpoint is what it was.
#[test]
fn without_bounds_nothing_goes_back() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, farthing_tests::lightning::TEST_NODE);
    let offer = offered(gateway.address, CHAT, &ask());
    let served = call(gateway.address, CHAT, &offer.paid(), &ask());
    let refused = hand_in(&gateway, served.must("farthing-key"), &invoice_of_holder(20_000, 600));
    assert_ne!(refused.status, 200, "{}", refused.text());
    assert_eq!(gateway.books().count("refund"), 0);
}
