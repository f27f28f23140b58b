//! What an operator decides about one account: on disk before it counts, and counting at once (LED-5, LED-8).

use farthing_tests::gateway::{Gateway, nano};
use farthing_tests::http::{self, Answer};
use farthing_tests::refused::assert_refused;
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

struct Desk {
    gateway: Gateway,
    key: String,
    account: String,
    _upstream: Upstream,
}

impl Desk {
    fn new(credit: &[&str]) -> Self {
        let upstream = Upstream::friendly();
        let gateway = Gateway::start(upstream.address, "");
        let made = gateway.operator(&[&["key", "new"], credit].concat());
        let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
        let (key, account) = (text("key"), text("account"));
        Self { gateway, key, account, _upstream: upstream }
    }

    fn call(&self) -> Answer {
        let ask = json!({"model": "m", "max_tokens": 100, "messages": []});
        http::post(self.gateway.address, CHAT, &[("x-api-key", &self.key)], &ask)
    }

    fn set(&self, words: &[&str]) -> Value {
        self.gateway.operator(&[&["account", "set", &self.account], words].concat())
    }

    fn show(&self) -> Value {
        self.gateway.operator(&["account", "show", &self.account])
    }

    /// Why a change was refused.
    fn refused(&self, words: &[&str]) -> String {
        let output = self.gateway.command(&[&["account", "set", &self.account], words].concat());
        assert!(!output.status.success(), "{words:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// LED-5: below zero only as far as the operator allows, and not one unit further; through a crash.
#[test]
fn a_credit_line_is_spent_and_no_more() {
    let mut desk = Desk::new(&[]);
    assert_refused(&desk.call(), 402, "insufficient_balance", "nothing_taken");
    let shown = desk.set(&["--overdraft", "0.00045test"]);
    assert_eq!(shown["overdraft"]["amount"], "0.000450000", "{shown}");
    // Whatever a call holds: it is spent to within one call, and never passed.
    let served = (0..).take_while(|_| desk.call().status == 200).count();
    let floor = -450_000;
    let spent = -i64::try_from(served).unwrap_or_default() * FRIENDLY_COST;
    assert!(served > 0 && spent >= floor, "{served}");
    assert_eq!(desk.gateway.settled_balance(&desk.key), spent);
    // Whoever has been shown a charge finds it on disk; before that a crash may lose it.
    desk.show();
    desk.gateway.crash_and_restart();
    assert_refused(&desk.call(), 402, "insufficient_balance", "nothing_taken");
    desk.set(&["--overdraft", "0.001 TEST"]);
    assert_eq!(desk.call().status, 200);
    assert_eq!(desk.gateway.settled_balance(&desk.key), spent - FRIENDLY_COST);
    desk.set(&["--overdraft", "none"]);
    assert_refused(&desk.call(), 402, "insufficient_balance", "nothing_taken");
    assert_eq!(nano(&desk.show()["balance"]["amount"]), spent - FRIENDLY_COST);
    for (words, why) in [
        (["--overdraft", "5 EUR"], "holds TEST"),
        (["--overdraft", "5"], "amount"),
        (["--per-day", "much"], "amount"),
    ] {
        assert!(desk.refused(&words).contains(why), "{words:?}: {}", desk.refused(&words));
    }
}

/// LED-8: a frozen account calls nobody, and what comes in stays.
#[test]
fn frozen_it_takes_deposits_and_no_call() {
    let mut desk = Desk::new(&["--credit", "1 TEST"]);
    assert_eq!(desk.call().status, 200);
    assert_eq!(desk.set(&["--freeze"])["state"], "frozen");
    assert_refused(&desk.call(), 403, "account_frozen", "nothing_taken");
    desk.gateway.operator(&["credit", &desk.account, "1 TEST"]);
    desk.gateway.crash_and_restart();
    assert_refused(&desk.call(), 403, "account_frozen", "nothing_taken");
    assert_eq!(desk.set(&["--unfreeze"])["state"], "open");
    assert_eq!(desk.call().status, 200);
    assert_eq!(desk.gateway.settled_balance(&desk.key), 2_000_000_000 - 2 * FRIENDLY_COST);
}

/// LED-8: only an empty account closes, whether or not a gateway runs.
#[test]
fn only_an_empty_account_closes() {
    let mut desk = Desk::new(&["--credit", "0.00003 TEST"]);
    assert!(desk.refused(&["--close"]).contains("0.00003 available"), "{}", desk.refused(&["--close"]));
    assert_eq!(desk.show()["state"], "open");
    desk.gateway.signal(15);
    desk.gateway.wait();
    assert!(desk.refused(&["--close"]).contains("has a balance"), "{}", desk.refused(&["--close"]));
    desk.gateway.restart();
    let empty = Desk::new(&[]);
    empty.set(&["--overdraft", "1 TEST"]);
    assert!(empty.refused(&["--close"]).contains("credit line 1"), "{}", empty.refused(&["--close"]));
    assert_eq!(empty.set(&["--overdraft", "none", "--close"])["state"], "closed");
    assert_refused(&empty.call(), 403, "account_frozen", "nothing_taken");
    assert!(
        empty.gateway.command(&["account", "set", &empty.account, "--close", "--freeze"]).status.code()
            == Some(2)
    );
}

/// What is not named stays; all of it outlives the process.
#[test]
fn limits_are_kept_apart_and_kept() {
    let mut desk = Desk::new(&["--credit", "1 TEST"]);
    desk.set(&["--per-day", "20usd"]);
    desk.set(&["--per-call", "0.0001 TEST"]);
    let shown = desk.set(&["--overdraft", "5usd"]);
    let said = |shown: &Value| {
        ["per_day", "per_call", "overdraft"].map(|name| shown[name]["amount"].as_str().map(str::to_owned))
    };
    let limits = ["20.000000000", "0.000100000", "5.000000000"].map(|text| Some(text.to_owned()));
    assert_eq!(said(&shown), limits);
    // It counts at once: a call that would hold more than it may cost does not run.
    let refused = desk.call();
    assert_refused(&refused, 403, "key_forbidden", "nothing_taken");
    desk.gateway.crash_and_restart();
    assert_eq!(said(&desk.show()), limits);
    assert_refused(&desk.call(), 403, "key_forbidden", "nothing_taken");
    desk.set(&["--per-call", "none"]);
    assert_eq!(desk.call().status, 200);
    desk.gateway.signal(15);
    desk.gateway.wait();
    assert_eq!(desk.set(&["--per-day", "none"])["per_day"], Value::Null);
    assert_eq!(desk.show()["overdraft"]["amount"], "5.000000000");
}
