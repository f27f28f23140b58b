//! The process is killed, at chosen points and at any: what was acknowledged is there afterwards, nothing is
//! accepted twice, and nobody is charged for more than he was told.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use farthing_tests::gateway::{Gateway, nano, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::payer::{Payment, TEST, Wallet};
use farthing_tests::refused::assert_refused;
use farthing_tests::upstream::{FRIENDLY_COST, STREAM_HEAD, Upstream, friendly_answer};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn ask(text: &str) -> Value {
    json!({"model": "m", "max_tokens": 1000, "messages": [{"role": "user", "content": text}]})
}

fn try_post(gateway: std::net::SocketAddr, fields: &[(&str, &str)], body: &Value) -> Option<Answer> {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(fields);
    let answer = http::try_request(gateway, "POST", CHAT, &all, body.to_string().as_bytes())?;
    // A body that was cut off by the kill is no answer.
    let whole = answer.header("content-length").is_none_or(|length| length == answer.body.len().to_string());
    whole.then_some(answer)
}

/// Killed while it streams: nothing of the call is charged, nothing stays held.
#[test]
fn kill_while_streaming_charges_nothing() {
    let upstream = Upstream::start(|_, stream| {
        let part = r#"data: {"choices":[{"index":0,"delta":{"content":"word"}}]}"#;
        let _ = stream.write_all(format!("{STREAM_HEAD}{part}\n\n").as_bytes());
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    let mut gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let (address, mut body) = (gateway.address, ask("hi"));
    body["stream"] = json!(true);
    let fields = key.clone();
    let call = std::thread::spawn(move || try_post(address, &[("x-api-key", &fields)], &body));
    wait_for("the call to be held", || (gateway.balance(&key).1 > 0).then_some(()));
    wait_for("the call to go up", || (upstream.hits() == 1).then_some(()));
    gateway.crash_and_restart();
    let cut = call.join().unwrap();
    assert!(cut.is_none_or(|answer| !answer.text().contains("[DONE]")));
    assert_eq!(gateway.balance(&key), (1_000_000_000, 0));
    assert_eq!(gateway.books().entries.len(), 1);
}

/// Killed between the deposit and the answer: the deposit was durable before the upstream was called, and
/// opens the call it was made for, once, without a second settlement.
#[test]
fn kill_after_the_deposit_keeps_it_for_the_same_request() {
    let hangs = AtomicBool::new(true);
    let upstream = Upstream::start(move |request, stream| {
        if hangs.swap(false, Ordering::SeqCst) {
            let _ = std::io::copy(stream, &mut std::io::sink());
        }
        let _ = stream.write_all(&friendly_answer(request));
    });
    let mut gateway = Gateway::start(upstream.address, "");
    let offered = http::post(gateway.address, CHAT, &[], &ask("hi"));
    let payment = Wallet::new(1).pay(&offered, TEST);
    let (address, header) = (gateway.address, payment.v2());
    let call = std::thread::spawn(move || try_post(address, &[("payment-signature", &header)], &ask("hi")));
    wait_for("the call to go up", || (upstream.hits() == 1).then_some(()));
    gateway.crash_and_restart();
    assert!(call.join().unwrap().is_none());
    let books = gateway.books();
    assert_eq!((books.count("deposit"), books.count("capture")), (1, 0));

    let fields = [("payment-signature", payment.v2())];
    let fields = [(fields[0].0, fields[0].1.as_str())];
    let elsewhere = http::post(gateway.address, CHAT, &fields, &ask("ho"));
    assert_refused(&elsewhere, 403, "verification_failed", "nothing_taken");
    let served = http::post(gateway.address, CHAT, &fields, &ask("hi"));
    assert_eq!(served.status, 200, "{}", served.text());
    assert_eq!(served.header("farthing-key"), None, "whoever replays a public proof gets no key");
    let books = gateway.books_after(1);
    assert_eq!((books.count("deposit"), books.count("capture")), (1, 1));
    assert_eq!(upstream.hits(), 2);
    // The change is the payer's, who reaches it by paying again: same account, new key.
    let offered = http::post(gateway.address, CHAT, &[], &ask("again"));
    let payment = Wallet::new(1).pay(&offered, TEST);
    let paid = http::post(gateway.address, CHAT, &[("payment-signature", &payment.v2())], &ask("again"));
    assert_eq!(
        gateway.settled_balance(paid.must("farthing-key")),
        nano(&json!(served.must("farthing-balance").trim_end_matches(" TEST"))) + hold(&served)
            - FRIENDLY_COST
            + payment.nano()
            - FRIENDLY_COST
    );
}

fn hold(answer: &Answer) -> i64 {
    nano(&json!(answer.must("farthing-hold").trim_end_matches(" TEST")))
}

/// What clients have seen, written down as it happened.
#[derive(Default)]
struct Seen {
    /// Calls with the key that were begun, and that were answered whole.
    begun: AtomicUsize,
    answered: AtomicUsize,
    /// Payments that were ever presented, and the first whole answer to each.
    presented: AtomicUsize,
    settled: Mutex<Vec<(Payment, Value)>>,
    stop: AtomicBool,
}

/// Ends the clients, also when the test fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

const KILLS: usize = 20;
const CALLERS: usize = 4;
const PAYERS: usize = 2;

/// Twenty kills under load.
#[test]
fn twenty_kills_lose_no_deposit_and_charge_nobody_twice() {
    let upstream = Upstream::friendly();
    let mut gateway = Gateway::start(upstream.address, "");
    let new = gateway.operator(&["key", "new", "--credit", "100 TEST"]);
    let (key, account) = (new["key"].as_str().unwrap(), new["account"].as_str().unwrap());
    let (seen, address) = (Seen::default(), gateway.address);
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| call_until_stopped(address, key, &seen));
        }
        for number in 0..PAYERS {
            let wallet = Wallet::new(u8::try_from(number + 1).unwrap());
            let seen = &seen;
            scope.spawn(move || pay_until_stopped(address, &wallet, number, seen));
        }
        let _stop = StopAtEnd(&seen.stop);
        for kill in 0..KILLS {
            std::thread::sleep(Duration::from_millis(15 + (kill as u64 * 13) % 40));
            gateway.crash_and_restart();
            if kill % 5 != 4 {
                continue;
            }
            // The books close, and hold what was acknowledged before they were read.
            let (settled, answered) =
                (seen.settled.lock().unwrap().len(), seen.answered.load(Ordering::SeqCst));
            let books = gateway.books();
            assert!(books.count("deposit") > settled, "{} of {settled}", books.count("deposit") - 1);
            assert!(books.charged(account) > 0 || answered < 100, "nothing was ever charged");
        }
    });
    let settled = seen.settled.into_inner().unwrap();
    let (begun, answered) = (seen.begun.into_inner(), seen.answered.into_inner());
    assert!(answered > KILLS && settled.len() > KILLS, "{answered} calls, {} payments", settled.len());
    let left = gateway.settled_balance(key);
    let books = wait_for("memory and journal to agree", || {
        let books = gateway.books();
        (books.balance(account) == left).then_some(books)
    });
    // Nobody pays for what he did not ask for, and a kill loses what one batch may hold.
    let charged = books.charged(account);
    assert_eq!(charged % FRIENDLY_COST, 0);
    let charges = usize::try_from(charged / FRIENDLY_COST).unwrap();
    assert!(charges <= begun, "{charges} charges for {begun} calls");
    assert!(answered - charges.min(answered) <= KILLS * 32, "{charges} charges for {answered} answers");
    // One deposit for each payment that was ever acknowledged; none for what was never presented.
    let deposits = books.count("deposit") - 1;
    let presented = seen.presented.into_inner();
    assert!(
        (settled.len()..=presented).contains(&deposits),
        "{deposits} of {} and {presented}",
        settled.len()
    );
    assert_presented_again(&gateway, &upstream, &settled);
    let after = gateway.books();
    assert_eq!(after.count("deposit") - 1, deposits, "a proof was accepted twice");
}

/// Each payment again, for its own request and for another: no new deposit, and the upstream is called at
/// most once more, for a call whose end was lost with the process.
fn assert_presented_again(gateway: &Gateway, upstream: &Upstream, settled: &[(Payment, Value)]) {
    for round in 0..2 {
        for (payment, body) in settled {
            let header = payment.v2();
            let fields = [("payment-signature", header.as_str())];
            let other = http::post(gateway.address, CHAT, &fields, &ask("another request"));
            assert!(other.status == 403 || other.status == 409, "{}", other.text());
            let answer = wait_for("the call before to be written down", || {
                let answer = http::post(gateway.address, CHAT, &fields, body);
                (answer.code() != "in_progress").then_some(answer)
            });
            match answer.status {
                200 if round > 0 => assert_eq!(answer.header("farthing-replayed"), Some("true")),
                200 => {}
                _ => assert_refused(&answer, 409, "already_served", "captured"),
            }
        }
    }
    let mut hits: HashMap<Vec<u8>, usize> = HashMap::new();
    for seen in upstream.seen() {
        *hits.entry(seen.body).or_default() += 1;
    }
    for (_, body) in settled {
        let count = hits.get(body.to_string().as_bytes()).copied().unwrap_or_default();
        assert!((1..=KILLS).contains(&count), "{count} calls for {body}");
    }
}

fn call_until_stopped(gateway: std::net::SocketAddr, key: &str, seen: &Seen) {
    while !seen.stop.load(Ordering::SeqCst) {
        seen.begun.fetch_add(1, Ordering::SeqCst);
        match try_post(gateway, &[("x-api-key", key)], &ask("hi")) {
            Some(answer) => {
                assert_eq!(answer.status, 200, "{}", answer.text());
                seen.answered.fetch_add(1, Ordering::SeqCst);
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Pays again and again; a payment whose answer was lost is presented until it is answered.
fn pay_until_stopped(gateway: std::net::SocketAddr, wallet: &Wallet, number: usize, seen: &Seen) {
    let mut round = 0;
    while !seen.stop.load(Ordering::SeqCst) {
        round += 1;
        let body = ask(&format!("payer {number} round {round}"));
        let Some(offered) = try_post(gateway, &[], &body) else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        let payment = wallet.pay(&offered, TEST);
        seen.presented.fetch_add(1, Ordering::SeqCst);
        let answer = wait_for("an answer to a payment", || {
            try_post(gateway, &[("payment-signature", &payment.v2())], &body)
                .filter(|answer| answer.code() != "in_progress")
        });
        if answer.status != 200 {
            assert_refused(&answer, 409, "already_served", "captured");
        }
        std::thread::sleep(Duration::from_millis(10));
        seen.settled.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((payment, body));
    }
}
