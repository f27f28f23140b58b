//! The process is killed again and again under load, at any moment, while its clients write down every answer
//! they get (T5). After each kill, with nothing on its way: what was acknowledged is there, no proof was taken
//! twice, nobody was charged for what he did not ask for, and what is missing of the charges is within the cap.
//! `FARTHING_KILLS` says how often, 10 unless it is set (`cargo xtask crashloop`).
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Scope;
use std::time::Duration;

use farthing_tests::books::Books;
use farthing_tests::caller::Caller;
use farthing_tests::facilitator::Facilitator;
use farthing_tests::gateway::{Gateway, nano, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::office::Office;
use farthing_tests::payer::{BASE_SEPOLIA, TEST, Wallet, decode};
use farthing_tests::refused::assert_refused;
use farthing_tests::turns::Turns;
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const TOP_UP: &str = "/farthing/topup?amount=0.01";
/// Kills of one store: what is checked after each of them is the whole journal.
const KILLS_PER_STORE: usize = 25;
/// Calls with a key at the same time.
const CALLERS: usize = 6;

/// Charges that one kill may lose in the capped mode, in nano units: ten calls, of which seven on one account.
const CAP: i64 = 10 * FRIENDLY_COST;
const CAPPED: &str = "store: { path: \"{folder}/store\", exposure: { per_account: 0.00021 USD, total: 0.0003 USD, delay: 5ms } }\n";
const SYNC: &str = "store: { path: \"{folder}/store\", durability: sync }\n";

fn kills() -> usize {
    std::env::var("FARTHING_KILLS").map_or(10, |text| text.parse().unwrap())
}

/// Kills so often, with a new store now and then, and says what was seen.
fn crashloop(mode: &str, store: &str, kills: usize, cap: i64) {
    let mut all = Figures::default();
    let mut left = kills;
    while left > 0 {
        let now = left.min(KILLS_PER_STORE);
        all.add(&one_store(store, now, cap));
        left -= now;
        println!("crashloop: mode={mode} kills={} cap_nano={cap} {all}", kills - left);
    }
}

/// LED-25, LED-26: behind the answer, but never more than the cap.
#[test]
fn killed_under_load_it_loses_no_more_than_the_cap() {
    crashloop("capped", CAPPED, kills(), CAP);
}

/// LED-26: `durability: sync` loses nothing.
#[test]
fn killed_under_load_it_loses_nothing_when_in_sync() {
    crashloop("sync", SYNC, kills().div_ceil(2), 0);
}

/// What there was to lose, and what was lost.
#[derive(Default)]
struct Figures {
    /// Plain calls that were answered whole; payments, named calls, grants, keys and revocations acknowledged.
    calls: usize,
    payments: usize,
    named: usize,
    grants: usize,
    keys: usize,
    /// Charges that clients were told and the journal has not, and the most that one kill took.
    lost_nano: i64,
    worst_nano: i64,
    /// Entries of all journals.
    entries: usize,
}

impl Figures {
    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.payments += other.payments;
        self.named += other.named;
        self.grants += other.grants;
        self.keys += other.keys;
        self.lost_nano += other.lost_nano;
        self.worst_nano = self.worst_nano.max(other.worst_nano);
        self.entries += other.entries;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, payments, named, grants, keys, lost_nano, worst_nano, entries } = self;
        write!(
            f,
            "calls={calls} payments={payments} named={named} grants={grants} keys={keys} entries={entries} lost_a=0 doubles=0 \
             lost_b_nano={lost_nano} worst_kill_nano={worst_nano}"
        )
    }
}

/// What clients were told, written down as it happened.
#[derive(Default)]
struct Told {
    /// Calls on the callers' account that were begun.
    begun: AtomicUsize,
    /// Ids of plain calls that were answered whole: whoever has the answer knows what it cost him.
    answered: Mutex<HashSet<String>>,
    /// Payments that were presented, acknowledged or not.
    presented: AtomicUsize,
    /// What must happen once, and was acknowledged.
    once: Mutex<Vec<Once>>,
    /// Operator's grants that were acknowledged: entry id and nano units.
    granted: Mutex<Vec<(String, i64)>>,
    /// Keys that were handed out with a credit of 0.001, and keys that were revoked.
    keys: Mutex<Vec<String>>,
    revoked: Mutex<Vec<String>>,
}

/// A request that may arrive many times and must be carried out once: it brings a payment, or a name.
struct Once {
    fields: Vec<(&'static str, String)>,
    path: &'static str,
    body: Value,
    /// Kills before it was first sent; then, between that and its answer.
    kills: usize,
    /// The transaction of its payment, as the journal names it.
    reference: Option<String>,
    /// Id of the call. A top-up calls nothing.
    call: Option<String>,
}

impl Once {
    fn is_payment(&self) -> bool {
        self.fields.iter().any(|(name, _)| *name == "payment-signature")
    }

    fn send(&self, caller: &mut Caller, body: &Value) -> Option<Answer> {
        let fields: Vec<(&str, &str)> =
            self.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        caller.try_post(self.path, &fields, body)
    }
}

/// Kills a gateway with a store of its own so often while everybody works, and checks all there is to check
/// after each kill.
fn one_store(store: &str, kills: usize, cap: i64) -> Figures {
    let (upstream, facilitator) = (Upstream::friendly(), Facilitator::start([]));
    let more = format!("{}{store}", Facilitator::rails(&[facilitator.address]));
    let mut gateway = Gateway::start(upstream.address, &more);
    let new = gateway.operator(&["key", "new", "--credit", "1000 TEST"]);
    let text = |name: &str| new[name].as_str().unwrap().to_owned();
    let (key, account) = (text("key"), text("account"));
    let (told, turns, killed) = (Told::default(), Turns::default(), AtomicUsize::new(0));
    let shared = Shared { upstream, facilitator, key, account, told, turns, killed };
    let (mut missing, mut figures) = (HashSet::new(), Figures::default());
    std::thread::scope(|scope| {
        shared.employ(scope, &gateway);
        let _home = shared.turns.home_at_the_end();
        for kill in 0..kills {
            shared.wait_for_work();
            // When exactly it dies differs from kill to kill.
            std::thread::sleep(Duration::from_micros((kill as u64 * 7919) % 40_000));
            gateway.signal(9);
            gateway.wait();
            let _pause = shared.turns.pause();
            shared.killed.fetch_add(1, Ordering::SeqCst);
            // It reads the whole file, which takes long where nothing is optimised.
            if !cfg!(debug_assertions) || kill + 1 == kills {
                assert_eq!(gateway.operator(&["fsck"])["clean"], json!(true));
            }
            gateway.restart();
            let books = gateway.books();
            shared.check(&gateway, &books);
            let lost = shared.told.lost(&books, &mut missing);
            assert!(
                lost <= cap,
                "one kill lost {lost} of charges that clients had been told, the cap is {cap}"
            );
            figures.lost_nano += lost;
            figures.worst_nano = figures.worst_nano.max(lost);
        }
    });
    shared.present_again(&gateway);
    let books = gateway.books();
    shared.check(&gateway, &books);
    shared.told.count(&books, &mut figures);
    figures
}

/// All that stands around the gateway, and what was said.
struct Shared {
    upstream: Upstream,
    facilitator: Facilitator,
    /// The callers' account.
    key: String,
    account: String,
    told: Told,
    turns: Turns,
    killed: AtomicUsize,
}

impl Shared {
    /// Puts everybody to work.
    fn employ<'s>(&'s self, scope: &'s Scope<'s, '_>, gateway: &Gateway) {
        let (address, office) = (gateway.address, gateway.office());
        for number in 0..CALLERS {
            scope.spawn(move || call(address, &self.key, number % 2 == 0, &self.told, &self.turns));
        }
        let payers =
            [(TEST, CHAT), (TEST, CHAT), (BASE_SEPOLIA, CHAT), (TEST, TOP_UP), (BASE_SEPOLIA, TOP_UP)];
        for (number, (network, path)) in (1..).zip(payers) {
            let wallet = Wallet::new(number);
            scope.spawn(move || {
                self.ask_until_answered(address, |caller, round| {
                    let body = ask(&format!("payer {number} round {round}"));
                    let payment = wallet.pay(&caller.try_post(path, &[], &body)?, network);
                    self.told.presented.fetch_add(1, Ordering::SeqCst);
                    Some(once(vec![("payment-signature", payment.v2())], path, body))
                });
            });
        }
        scope.spawn(move || {
            self.ask_until_answered(address, |_, round| {
                self.told.begun.fetch_add(1, Ordering::SeqCst);
                let fields =
                    vec![("x-api-key", self.key.clone()), ("idempotency-key", format!("name-{round}"))];
                Some(once(fields, CHAT, ask(&format!("named {round}"))))
            });
        });
        scope.spawn(move || operate(&office, &self.account, &self.told, &self.turns));
    }

    /// Makes one request after the other; one whose answer was lost is sent until it is answered.
    fn ask_until_answered(&self, address: SocketAddr, make: impl Fn(&mut Caller, usize) -> Option<Once>) {
        let (mut caller, mut round, mut pending) = (Caller::new(address), 0, None::<Once>);
        self.turns.work(|| {
            let kills = self.killed.load(Ordering::SeqCst);
            let Some(once) = pending.take() else {
                round += 1;
                pending = make(&mut caller, round).map(|once| Once { kills, ..once });
                return;
            };
            let answer = once.send(&mut caller, &once.body);
            let decided =
                answer.filter(|a| !["in_progress", "settlement_unknown"].contains(&a.refusal().as_str()));
            match decided {
                Some(answer) => self.told.once.lock().unwrap().push(answered(once, &answer, kills)),
                None => {
                    pending = Some(once);
                    rest();
                }
            }
        });
    }

    /// Until it has come to something since the last kill.
    fn wait_for_work(&self) {
        let answered = || self.told.answered.lock().unwrap().len();
        let before = answered();
        wait_for("calls to be answered", || (answered() > before + CALLERS).then_some(()));
    }

    /// All of class A that was acknowledged is there, once; nobody paid for what he did not ask for; memory is
    /// what the journal says.
    fn check(&self, gateway: &Gateway, books: &Books) {
        self.told.check(books);
        let charged = books.charged(&self.account);
        assert_eq!(charged % FRIENDLY_COST, 0, "a call was charged for something else than it was");
        let charges = usize::try_from(charged / FRIENDLY_COST).unwrap();
        assert!(charges <= self.told.begun.load(Ordering::SeqCst), "{charges} charges");
        assert_eq!(gateway.balance(&self.key), (books.balance(&self.account), 0));
        if let Some(key) = self.told.keys.lock().unwrap().last() {
            assert_eq!(gateway.balance(key), (1_000_000, 0));
        }
        for key in self.told.revoked.lock().unwrap().iter().rev().take(3) {
            let answer = http::post(gateway.address, CHAT, &[("x-api-key", key)], &ask("hi"));
            assert_refused(&answer, 401, "key_revoked", "nothing_taken");
        }
        // What a facilitator moved is a deposit, but for payments that their payers still ask about.
        let deposits = references(books).filter(|reference| reference.starts_with("0x")).count();
        let transfers = usize::try_from(self.facilitator.transfers()).unwrap();
        assert!((deposits..=deposits + 2).contains(&transfers), "{transfers} transfers, {deposits} deposits");
    }

    /// Each of them again, for its own request and for another: no new deposit, and no new call.
    fn present_again(&self, gateway: &Gateway) {
        let (deposits, hits) = (gateway.books().count("deposit"), self.upstream.hits());
        let mut caller = Caller::new(gateway.address);
        let all = self.told.once.lock().unwrap();
        for once in all.iter() {
            let elsewhere = once.send(&mut caller, &ask("another request")).unwrap();
            match (once.is_payment(), once.path) {
                // A top-up has no body that could be another.
                (true, TOP_UP) => {}
                (true, _) => assert_refused(&elsewhere, 403, "verification_failed", "nothing_taken"),
                (false, _) => assert_refused(&elsewhere, 422, "idempotency_mismatch", "nothing_taken"),
            }
            let again = once.send(&mut caller, &once.body).unwrap();
            match again.status {
                200 => assert!(
                    once.path == TOP_UP || again.header("farthing-replayed").is_some(),
                    "{}",
                    once.body
                ),
                _ => assert_refused(&again, 409, "already_served", "captured"),
            }
        }
        assert_eq!(gateway.books().count("deposit"), deposits, "a proof was taken twice");
        assert_eq!(self.upstream.hits(), hits, "a call was made twice");
        // While its answer was lost a call may have been made once for each process that lived then.
        let mut calls: HashMap<Vec<u8>, usize> = HashMap::new();
        for seen in self.upstream.seen() {
            *calls.entry(seen.body).or_default() += 1;
        }
        for once in all.iter().filter(|once| once.path == CHAT) {
            let count = calls.get(once.body.to_string().as_bytes()).copied().unwrap_or_default();
            assert!(
                (1..=1 + once.kills).contains(&count),
                "{count} calls in {} kills: {}",
                once.kills,
                once.body
            );
        }
    }
}

fn once(fields: Vec<(&'static str, String)>, path: &'static str, body: Value) -> Once {
    Once { fields, path, body, kills: 0, reference: None, call: None }
}

/// What its answer says of a request.
fn answered(once: Once, answer: &Answer, kills: usize) -> Once {
    if answer.status != 200 {
        assert_refused(answer, 409, "already_served", "captured");
    }
    let settled = once.is_payment().then(|| decode(answer.must("payment-response")));
    Once {
        reference: settled.map(|settled| settled["transaction"].as_str().unwrap().to_owned()),
        call: (once.path == CHAT).then(|| call_of(answer)),
        kills: kills - once.kills,
        ..once
    }
}

/// References of deposits that came by a rail.
fn references(books: &Books) -> impl Iterator<Item = &str> {
    let deposits = books.entries.iter().filter(|entry| entry["kind"] == "deposit");
    deposits.map(|entry| entry["reference"].as_str().unwrap()).filter(|reference| *reference != "operator")
}

impl Told {
    /// Everything that was acknowledged is there, once.
    fn check(&self, books: &Books) {
        let mut paid = HashSet::new();
        assert!(references(books).all(|reference| paid.insert(reference)), "a payment is two deposits");
        assert!(paid.len() <= self.presented.load(Ordering::SeqCst), "deposits that nobody made");
        let ids: HashMap<&str, &Value> =
            books.entries.iter().map(|entry| (entry["id"].as_str().unwrap(), entry)).collect();
        for once in self.once.lock().unwrap().iter() {
            let (reference, call) = (once.reference.as_deref(), once.call.as_deref());
            assert!(reference.is_none_or(|reference| paid.contains(reference)), "{reference:?} is gone");
            assert!(call.is_none_or(|call| ids.contains_key(call)), "the charge of {call:?} is gone");
        }
        for (id, amount) in self.granted.lock().unwrap().iter() {
            let granted = ids.get(id.as_str()).and_then(|entry| entry["legs"].as_array());
            let is_there =
                |legs: &Vec<Value>| legs.iter().any(|leg| nano(&leg["amount"]["amount"]) == *amount);
            assert!(granted.is_some_and(is_there), "the grant {id} is gone");
        }
    }

    fn count(&self, books: &Books, figures: &mut Figures) {
        let once = self.once.lock().unwrap();
        figures.calls = self.answered.lock().unwrap().len();
        figures.payments = once.iter().filter(|once| once.is_payment()).count();
        figures.named = once.len() - figures.payments;
        figures.grants = self.granted.lock().unwrap().len();
        figures.keys = self.keys.lock().unwrap().len() + 2 * self.revoked.lock().unwrap().len();
        figures.entries = books.entries.len();
    }

    /// What clients were charged as far as they know, and the journal does not, since the last look.
    fn lost(&self, books: &Books, missing: &mut HashSet<String>) -> i64 {
        let captures = books.entries.iter().filter(|entry| entry["kind"] == "capture");
        let written: HashSet<&str> = captures.map(|entry| entry["id"].as_str().unwrap()).collect();
        let before = missing.len();
        for id in self.answered.lock().unwrap().iter() {
            if !written.contains(id.as_str()) {
                missing.insert(id.clone());
            }
        }
        // What is lost stays lost: nobody is charged late.
        assert!(missing.iter().all(|id| !written.contains(id.as_str())));
        i64::try_from(missing.len() - before).unwrap() * FRIENDLY_COST
    }
}

fn ask(text: &str) -> Value {
    json!({"model": "m", "max_tokens": 1000, "messages": [{"role": "user", "content": text}]})
}

/// Calls with the key, one after the other.
fn call(address: SocketAddr, key: &str, streamed: bool, told: &Told, turns: &Turns) {
    let mut caller = Caller::new(address);
    let mut body = ask("hi");
    body["stream"] = json!(streamed);
    turns.work(|| {
        told.begun.fetch_add(1, Ordering::SeqCst);
        let Some(answer) = caller.try_post(CHAT, &[("x-api-key", key)], &body) else { return rest() };
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(told.answered.lock().unwrap().insert(call_of(&answer)));
    });
}

/// Id of the call an answer belongs to, as the journal has it.
fn call_of(answer: &Answer) -> String {
    answer.must("farthing-receipt").strip_prefix("req_").unwrap().to_owned()
}

/// While nobody listens there is nothing to be gained by asking at once again.
fn rest() {
    std::thread::sleep(Duration::from_millis(1));
}

/// Grants, new keys and revocations, one after the other; each is asked for until it is answered.
fn operate(office: &Office, account: &str, told: &Told, turns: &Turns) {
    let mut round = 0;
    turns.work(|| {
        let id = format!("grant {round}");
        let amount = 1_000 + round;
        let grant = json!({"command": "credit", "account": account, "id": id,
                           "amount": format!("0.{amount:09} TEST")});
        // The same grant again is the same: its id says so.
        let Some(answer) = office.ask(&grant) else { return rest() };
        round += 1;
        told.granted.lock().unwrap().push((answer["id"].as_str().unwrap().to_owned(), amount));
        let new = json!({"command": "key-new", "credit": "0.001 TEST"});
        let Some(kept) = office.ask(&new) else { return };
        told.keys.lock().unwrap().push(kept["key"].as_str().unwrap().to_owned());
        let Some(revoked) = office.ask(&new) else { return };
        let revoke = json!({"command": "key-revoke", "key": revoked["key_id"]});
        if office.ask(&revoke).is_some() {
            told.revoked.lock().unwrap().push(revoked["key"].as_str().unwrap().to_owned());
        }
    });
}
