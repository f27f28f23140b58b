//! An agent that runs away with `farthing curl` is stopped by the budget on its own machine (UX-14, pain r18),
//! whatever the gateway would still sell it.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use farthing_tests::gateway::{Gateway, binary, wait_for};
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};
use money::{Amount, Asset};
use serde_json::Value;

const BODY: &str =
    r#"{"model":"m","max_tokens":100,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
/// One of the same shape and other bytes, so another payment.
const OTHER: &str =
    r#"{"model":"m","max_tokens":100,"stream":true,"messages":[{"role":"user","content":"ho"}]}"#;
/// Over the cap, the budget, or not approved.
const OVER: Option<i32> = Some(5);
/// Each call without a key deposits this much.
const DEPOSITS: &str = "rails: { test: { deposit: 0.01 USD } }\n";

/// A machine that agents run on: one home, one wallet, one budget.
struct Machine {
    home: tempfile::TempDir,
    key: Option<String>,
}

/// What a command did.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    said: String,
}

impl Machine {
    /// Not in the last minute of an hour: a window that ends amid a test is empty again, and rightly so.
    fn new() -> Self {
        let of_hour = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % 3_600;
        if of_hour >= 3_540 {
            thread::sleep(Duration::from_secs(3_600 - of_hour));
        }
        let machine = Self { home: tempfile::tempdir().unwrap(), key: None };
        machine.run(&["wallet", "new"]);
        machine
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(words).env_clear().env("HOME", self.home.path());
        command.envs(self.key.iter().map(|key| ("FARTHING_KEY", key)));
        command
    }

    fn run(&self, words: &[&str]) -> Done {
        let output = self.command(words).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Done { code: output.status.code(), out: text(output.stdout), said: text(output.stderr) }
    }

    fn budget(&self, words: &[&str]) -> Value {
        let done = self.run(&[&["budget"], words].concat());
        assert_eq!(done.code, Some(0), "{words:?}: {done:?}");
        serde_json::from_str(&done.out).unwrap()
    }

    /// Pays anew each time: no key is kept that the next call could use.
    fn pay(&self, url: &str, body: &str) -> Done {
        self.run(&["curl", "--no-save-key", "--json", body, url])
    }

    /// So many agents at once, each of which tries so often. Every exit code that came.
    fn runaway(&self, agents: usize, tries: usize, url: &str) -> Vec<Option<i32>> {
        let agent = || (0..tries).map(|_| self.pay(url, BODY).code).collect::<Vec<_>>();
        thread::scope(|scope| {
            let agents: Vec<_> = (0..agents).map(|_| scope.spawn(agent)).collect();
            agents.into_iter().flat_map(|agent| agent.join().unwrap()).collect()
        })
    }

    fn spent(&self, host: &str, window: &str) -> (String, String) {
        let document = self.budget(&["show"]);
        let rows = document["windows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["host"] == host && row["window"] == window).unwrap();
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        (text("paid"), text("used"))
    }
}

fn chat(gateway: &Gateway) -> String {
    format!("http://{}/v1/chat/completions", gateway.address)
}

/// The same gateway by its other name, so as another host.
fn chat_at_localhost(gateway: &Gateway) -> String {
    format!("http://localhost:{}/v1/chat/completions", gateway.address.port())
}

fn count(codes: &[Option<i32>], code: Option<i32>) -> usize {
    codes.iter().filter(|known| **known == code).count()
}

#[test]
fn r18_client_caps_stop_a_runaway() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, DEPOSITS);
    let machine = Machine::new();
    machine.budget(&["set", "0.05usd/day"]);

    let codes = machine.runaway(6, 3, &chat(&gateway));
    assert_eq!((count(&codes, Some(0)), count(&codes, OVER)), (5, 13), "{codes:?}");
    assert_eq!((gateway.books().count("deposit"), upstream.hits()), (5, 5), "the cap is 0.05 USD");
    // What the calls cost was little, and what left the wallet is the whole cap.
    assert_eq!(machine.spent("*", "day"), ("0.05".into(), "0.00015".into()));

    let refused = machine.pay(&chat(&gateway), OTHER);
    let (code, said) = (refused.code, refused.said);
    assert_eq!(code, OVER, "{said}");
    for part in ["costs 0.01 USD", "0.05 USD a day for all hosts together", "0 USD of it left", "00:00 UTC"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let asked = machine.run(&["curl", "--dry-run", "--json", OTHER, &chat(&gateway)]);
    assert_eq!(asked.code, OVER, "it can be told before: {asked:?}");
    machine.budget(&["set", "0.06usd/day"]);
    assert_eq!(machine.pay(&chat(&gateway), OTHER).code, Some(0));
    assert_eq!(machine.pay(&chat(&gateway), OTHER).code, OVER);
    assert_eq!(gateway.books().count("deposit"), 6);
}

#[test]
fn r18_a_credit_key_is_stopped_too() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let made = gateway.operator(&["key", "new", "--credit", "1 TEST", "--budget", "1 TEST"]);
    let mut machine = Machine::new();
    machine.key = made["key"].as_str().map(str::to_owned);
    machine.budget(&["set", "0.0006usd/hour"]);

    // While one call holds what is left the others wait for nothing: they are refused.
    let codes = machine.runaway(4, 4, &chat(&gateway));
    let served = count(&codes, Some(0));
    assert!(served >= 1 && served + count(&codes, OVER) == 16, "{codes:?}");
    // Alone, an agent gets the rest, down to where its worst case does not fit any more.
    let codes = machine.runaway(1, 20, &chat(&gateway));
    let served = served + count(&codes, Some(0));
    assert_eq!(codes.last(), Some(&OVER), "{codes:?}");
    let spent = 1_000_000_000 - gateway.settled_balance(machine.key.as_ref().unwrap());
    assert_eq!((spent, upstream.hits()), (i64::try_from(served).unwrap() * FRIENDLY_COST, served));
    assert!((FRIENDLY_COST..=600_000).contains(&spent), "{spent}");
    let used = Amount::from_units(spent).short(Asset::Usd);
    assert_eq!(machine.spent("*", "hour"), ("0".into(), used), "receipts say what it was");
    let said = machine.pay(&chat(&gateway), BODY).said;
    assert!(said.contains("needs more than is left: the budget is 0.0006 USD an hour"), "{said}");
}

/// The key that came with a deposit draws on what was counted when it was paid.
#[test]
fn the_change_of_a_deposit_is_spent_within_the_same_budget() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, DEPOSITS);
    let machine = Machine::new();
    machine.budget(&["set", "0.01usd/day"]);
    for _ in 0..4 {
        let done = machine.run(&["curl", "--json", BODY, &chat(&gateway)]);
        assert_eq!(done.code, Some(0), "{done:?}");
    }
    assert_eq!((gateway.books().count("deposit"), upstream.hits()), (1, 4));
    assert_eq!(machine.spent("*", "day"), ("0.01".into(), "0.00012".into()));
    // What costs nothing counts nothing.
    for path in ["/farthing/balance", "/v1/models"] {
        let done = machine.run(&["curl", &format!("http://{}{path}", gateway.address)]);
        assert_eq!(done.code, Some(0), "{done:?}");
    }
    assert_eq!(machine.spent("*", "day"), ("0.01".into(), "0.00012".into()));
    // A top-up leaves the wallet, and is not used yet.
    machine.budget(&["set", "0.5usd/day"]);
    let top_up = format!("http://{}/farthing/topup?amount=0.2", gateway.address);
    let done = machine.run(&["curl", "--max", "1usd", "-X", "POST", &top_up]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(machine.spent("*", "day"), ("0.21".into(), "0.00012".into()));
    let done = machine.run(&["curl", "--json", BODY, &chat(&gateway)]);
    assert_eq!((done.code, gateway.books().count("deposit")), (Some(0), 2), "{done:?}");
}

#[test]
fn caps_and_allow_list_are_per_host() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, DEPOSITS);
    let machine = Machine::new();
    let (here, localhost) = (chat(&gateway), chat_at_localhost(&gateway));
    machine.budget(&["set", "0.02usd/hour", "--host", "127.0.0.1"]);
    machine.budget(&["set", "0.03usd/day"]);
    let codes: Vec<_> = (0..3).map(|_| machine.pay(&here, BODY).code).collect();
    assert_eq!(codes, [Some(0), Some(0), OVER]);
    let refused = machine.pay(&here, BODY).said;
    assert!(refused.contains("0.02 USD an hour for 127.0.0.1, 0 USD of it left"), "{refused}");
    let other = machine.pay(&localhost, BODY);
    assert_eq!(other.code, Some(0), "the other host has room: {other:?}");
    assert!(machine.pay(&localhost, BODY).said.contains("0.03 USD a day for all hosts together"));

    machine.budget(&["clear"]);
    machine.budget(&["allow", "localhost"]);
    let refused = machine.pay(&here, BODY);
    assert!(refused.code == OVER && refused.said.contains("budget allow 127.0.0.1"), "{refused:?}");
    assert_eq!(machine.pay(&localhost, BODY).code, Some(0));
    machine.budget(&["set", "--max-call", "0.009usd", "--host", "localhost"]);
    let refused = machine.pay(&localhost, BODY);
    assert!(refused.said.contains("0.009 USD a call for localhost"), "{refused:?}");
    machine.budget(&["set", "--max-call", "1usd", "--approve-above", "0.001usd", "--host", "localhost"]);
    let refused = machine.pay(&localhost, BODY);
    assert!(refused.code == OVER && refused.said.contains("needs approval"), "{refused:?}");
    let approved = machine.run(&["curl", "--no-save-key", "--yes", "--json", BODY, &localhost]);
    assert_eq!(approved.code, Some(0), "{approved:?}");
    assert_eq!(gateway.books().count("deposit"), 5, "no refused call paid");
}

/// What is on its way when the agent is killed counts as spent, and is on the disk before it goes.
#[test]
fn a_killed_agent_has_spent_what_it_sent() {
    let upstream = Upstream::start(|_, _| thread::park());
    let gateway = Gateway::start(upstream.address, DEPOSITS);
    let machine = Machine::new();
    machine.budget(&["set", "0.01usd/day"]);
    let mut agent = machine.command(&["curl", "--json", BODY, &chat(&gateway)]);
    let mut agent: Child = agent.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the paid call", || (upstream.hits() > 0).then_some(()));
    agent.kill().unwrap();
    agent.wait().unwrap();
    let refused = machine.pay(&chat(&gateway), OTHER);
    assert_eq!(refused.code, OVER, "{refused:?}");
    assert!(refused.said.contains("0.01 USD held for calls whose end is not known"), "{refused:?}");
    assert_eq!(machine.budget(&["show"])["held"]["calls"], 1);
    assert_eq!(gateway.books().count("deposit"), 1);
}

#[test]
fn a_price_that_jumps_stops_until_somebody_looks() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "rails: { test: { deposit: 0.002 USD } }\n");
    let machine = Machine::new();
    assert_eq!(machine.pay(&chat(&gateway), BODY).code, Some(0));
    let config = std::fs::read_to_string(gateway.config()).unwrap();
    std::fs::write(gateway.config(), config.replace("0.002 USD", "0.02 USD")).unwrap();
    gateway.operator(&["reload"]);

    let refused = machine.pay(&chat(&gateway), OTHER);
    assert_eq!(refused.code, OVER, "{refused:?}");
    assert!(refused.said.contains("one of 0.002 USD it asked 0.02 USD"), "{refused:?}");
    assert_eq!(machine.budget(&["show"])["stopped"][0]["why"], "price");
    assert_eq!(machine.pay(&chat(&gateway), OTHER).code, OVER, "and stays so");
    assert_eq!(gateway.books().count("deposit"), 1);
    machine.budget(&["reset", "--host", "127.0.0.1"]);
    assert_eq!(machine.pay(&chat(&gateway), OTHER).code, Some(0));
    assert_eq!(gateway.books().count("deposit"), 2);
}

/// A key in a header of the request itself would go past every cap.
#[test]
fn a_key_past_the_budget_is_not_sent() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, "");
    let field = format!("Authorization: Bearer {}", gateway.key("1 TEST"));
    let machine = Machine::new();
    let call = || machine.run(&["curl", "-H", &field, "--json", BODY, &chat(&gateway)]);
    assert_eq!(call().code, Some(0), "without a budget it is the caller's business");
    machine.budget(&["set", "1usd/day"]);
    let refused = call();
    assert!(refused.code == OVER && refused.said.contains("FARTHING_KEY"), "{refused:?}");
    assert_eq!(upstream.hits(), 1);
}

#[test]
fn a_budget_that_cannot_be_read_pays_nothing() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, DEPOSITS);
    let machine = Machine::new();
    machine.budget(&["set", "1usd/day"]);
    let file: &Path = &machine.home.path().join(".config/farthing/budget.json");
    std::fs::write(file, "{}").unwrap();
    let refused = machine.pay(&chat(&gateway), BODY);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert_eq!((gateway.books().count("deposit"), upstream.hits()), (0, 0));
    for words in [["budget", "set", "1usd"], ["budget", "set", "1usd/week"], ["budget", "allow", "a:80"]] {
        assert_eq!(machine.run(&words).code, Some(2), "{words:?}");
    }
}
