//! Many clients at the same money: what was there is spent once, to the unit, and no counter drifts from the
//! journal (T3).
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use farthing_tests::books::Books;
use farthing_tests::caller::Caller;
use farthing_tests::crowd::at_once;
use farthing_tests::gateway::{Gateway, nano, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::kept::{self, CHUNKED_STREAM, Kept, Then};
use farthing_tests::payer::{TEST, Wallet};
use farthing_tests::refused::assert_refused;
use farthing_tests::upstream::{FRIENDLY_COST, Seen};
use proof::credit_key::attenuate;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
/// Connections.
const CLIENTS: usize = 64;

/// A short call: it holds a little more than [`FRIENDLY_COST`], streamed or not, because both are of one length.
fn ask(streamed: bool) -> Value {
    let content = if streamed { "hi!" } else { "hi" };
    json!({"model": "m", "max_tokens": 5, "stream": streamed, "messages": [{"role": "user", "content": content}]})
}

/// An upstream on connections that are used again, which reports what `usage` says of a request.
fn reporting(usage: impl Fn(&Value) -> (i64, i64) + Send + Sync + 'static) -> Kept {
    Kept::start(move |request, stream| {
        let _ = std::io::Write::write_all(stream, &answer(request, &usage));
        Then::Keep
    })
}

fn answer(request: &Seen, usage: &impl Fn(&Value) -> (i64, i64)) -> Vec<u8> {
    let asked: Value = serde_json::from_slice(&request.body).unwrap();
    let (input, output) = usage(&asked);
    let anthropic = request.target == MESSAGES;
    let document = if anthropic {
        json!({"type": "message", "content": [{"type": "text", "text": "hello"}], "stop_reason": "end_turn",
               "usage": {"input_tokens": input, "output_tokens": output}})
    } else {
        json!({"object": "chat.completion", "choices": [{"index": 0, "message": {"content": "hello"}}],
               "usage": {"prompt_tokens": input, "completion_tokens": output}})
    };
    if asked["stream"] != true {
        let body = document.to_string();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
        return format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes();
    }
    let events = if anthropic {
        vec![
            json!({"type": "message_start", "message": {"usage": {"input_tokens": input, "output_tokens": 1}}}).to_string(),
            json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hello"}}).to_string(),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": output}})
                .to_string(),
            json!({"type": "message_stop"}).to_string(),
        ]
    } else {
        vec![
            json!({"choices": [{"index": 0, "delta": {"content": "hello"}}]}).to_string(),
            json!({"choices": [], "usage": document["usage"]}).to_string(),
            "[DONE]".to_owned(),
        ]
    };
    let body: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    [CHUNKED_STREAM.as_bytes(), &kept::chunk(body.as_bytes()), b"0\r\n\r\n"].concat()
}

/// Holds by bytes, whatever balance is there: with less, tokens would be counted where it is short, and these upstreams
/// report more than there are.
const BY_BYTES: &str = "metering: { hold: { input: bytes } }\n";

/// What a call of [`ask`] holds.
fn hold() -> i64 {
    let upstream = reporting(|_| (1, 1));
    let gateway = Gateway::start(upstream.address, BY_BYTES);
    let key = gateway.key("1 TEST");
    let held = [true, false].map(|streamed| {
        let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &ask(streamed));
        nano(&json!(answer.must("farthing-hold").trim_end_matches(" TEST")))
    });
    assert_eq!(held[0], held[1]);
    held[0]
}

/// A gateway whose calls cost exactly what they hold, so that the order in which they end does not matter:
/// as many of them are covered as the amount says, in any interleaving.
struct Exact {
    gateway: Gateway,
    upstream: Kept,
    cost: i64,
}

impl Exact {
    fn start(more: &str) -> Self {
        let cost = hold();
        let upstream = reporting(move |_| ((cost - 20_000) / 1000, 5));
        let gateway = Gateway::start(upstream.address, &format!("{BY_BYTES}{more}"));
        Self { gateway, upstream, cost }
    }

    fn worth(&self, calls: usize) -> i64 {
        self.cost * i64::try_from(calls).unwrap()
    }

    fn account(&self, units: i64) -> (String, String) {
        let new = self.gateway.operator(&["key", "new", "--credit", &decimal(units)]);
        let text = |name: &str| new[name].as_str().unwrap().to_owned();
        (text("key"), text("account"))
    }

    /// So many calls in all on 64 connections. Each is served, or refused for lack of money with `code`.
    /// Returns how many were served.
    fn storm(&self, calls: usize, code: &str, key_of: impl Fn(usize) -> String + Sync) -> usize {
        let before = self.upstream.hits();
        let served = AtomicUsize::new(0);
        at_once(CLIENTS, |client| {
            let (mut caller, key) = (Caller::new(self.gateway.address), key_of(client));
            for call in 0..calls.div_ceil(CLIENTS) {
                let answer =
                    caller.post(CHAT, &[("x-api-key", &key)], &ask((client + call).is_multiple_of(2)));
                if answer.status == 200 {
                    served.fetch_add(1, Ordering::SeqCst);
                } else {
                    assert_refused(&answer, 402, code, "nothing_taken");
                }
                assert_not_negative(&answer);
            }
        });
        let served = served.into_inner();
        assert_eq!(self.upstream.hits() - before, served, "what was served went up, and nothing else");
        served
    }
}

fn decimal(units: i64) -> String {
    format!("{}.{:09} TEST", units / 1_000_000_000, units % 1_000_000_000)
}

fn assert_not_negative(answer: &Answer) {
    let balance = answer.header("farthing-balance").unwrap_or("0");
    assert!(!balance.starts_with('-'), "{balance}");
}

/// No balance of a payer's was ever below zero, whatever came in which order.
fn assert_never_below_zero(books: &Books, account: &str) {
    for entry in &books.entries {
        for leg in entry["legs"].as_array().unwrap().iter().filter(|leg| leg["account"] == account) {
            assert!(nano(&leg["balance_after"]["amount"]) >= 0, "{entry}");
        }
    }
}

/// T3: balance for exactly K calls, ten times as many on 64 connections: K are served.
#[test]
fn balance_for_k_calls_serves_k() {
    const K: usize = 200;
    let exact = Exact::start("");
    let (key, account) = exact.account(exact.worth(K));
    assert_eq!(exact.storm(10 * K, "insufficient_balance", |_| key.clone()), K);
    assert_eq!(exact.gateway.settled_balance(&key), 0);
    let books = exact.gateway.books_after(K);
    assert_eq!((books.balance(&account), books.charged(&account)), (0, exact.worth(K)));
    assert_never_below_zero(&books, &account);
}

/// T3: the same for every budget on a chain of keys: the tightest decides, for all that spend from it.
#[test]
fn budget_for_k_calls_serves_k() {
    const K: usize = 100;
    let exact = Exact::start("");
    let (root, account) = exact.account(exact.worth(10 * K));
    let budget = |key: &str, name: &str, calls: usize| {
        attenuate(key, &format!("budget={name}:TEST:{}", exact.worth(calls))).unwrap()
    };
    // One budget for all; then children of it with room of their own; then children that have less together.
    let tight = budget(&root, "tight", K);
    assert_eq!(exact.storm(10 * K, "over_token_budget", |_| tight.clone()), K);
    let parent = budget(&root, "parent", K);
    let wide = |client: usize| budget(&parent, &format!("wide{}", client % 8), K);
    assert_eq!(exact.storm(10 * K, "over_token_budget", wide), K);
    let parent = budget(&root, "roomy", 8 * K);
    let narrow = |client: usize| budget(&parent, &format!("narrow{}", client % 8), K / 10);
    assert_eq!(exact.storm(10 * K, "over_token_budget", narrow), 8 * (K / 10));
    let calls = 2 * K + 8 * (K / 10);
    assert_eq!(exact.gateway.settled_balance(&root), exact.worth(10 * K - calls));
    assert_eq!(exact.gateway.books_after(calls).charged(&account), exact.worth(calls));
}

/// Keys and balances were cached for each worker, and each let through what its own copy covered. One gateway
/// stands here for the several of the report: four threads of it, each with its own cache of verified keys,
/// share the balances. Several processes at one balance are not covered by this.
#[test]
fn litellm_34732() {
    const K: usize = 64;
    let exact = Exact::start("server: { listen: [\"{address}\"], threads: 4 }\n");
    let (key, _) = exact.account(exact.worth(K));
    // Every thread has seen the key while there was money.
    for _ in 0..CLIENTS {
        exact.gateway.balance(&key);
    }
    assert_eq!(exact.storm(10 * K, "insufficient_balance", |_| key.clone()), K);
    assert_eq!(exact.gateway.settled_balance(&key), 0);
}

/// A limit was checked against the spend that one replica had seen. Here four threads of one gateway see the
/// same: a budget written into a key, and the same budget by its other children.
#[test]
fn litellm_33325() {
    const K: usize = 64;
    let exact = Exact::start("server: { listen: [\"{address}\"], threads: 4 }\n");
    let (root, _) = exact.account(exact.worth(10 * K));
    let limited = attenuate(&root, &format!("budget=models:TEST:{}", exact.worth(K))).unwrap();
    let child = |client: usize| attenuate(&limited, &format!("models=m,n{client}")).unwrap();
    assert_eq!(exact.storm(10 * K, "over_token_budget", child), K);
    assert_eq!(exact.gateway.settled_balance(&root), exact.worth(9 * K));
}

/// A counter that was lost (there with its cache) read as zero, and a spent budget let everything through.
/// Here it is the process that is replaced, in the middle of a storm: the budget is what the journal says.
#[test]
fn litellm_26672() {
    const K: usize = 60;
    let mut exact = Exact::start("");
    let (root, account) = exact.account(exact.worth(10 * K));
    let limited = attenuate(&root, &format!("budget=daily:TEST:{}", exact.worth(K))).unwrap();
    let mut served = 0;
    for calls in [K / 3, K / 3, 10 * K, K] {
        served += exact.storm_at_most(calls, &limited);
        exact.gateway.signal(15);
        assert!(exact.gateway.wait().success());
        exact.gateway.restart();
    }
    assert_eq!(served, K);
    assert_eq!(exact.gateway.books().charged(&account), exact.worth(K));
}

impl Exact {
    fn storm_at_most(&self, calls: usize, key: &str) -> usize {
        self.storm(calls, "over_token_budget", |_| key.to_owned())
    }
}

/// A budget was checked before a call and charged after it, so that calls at the same time all passed. Here 64
/// are in flight at once, each of them answered only when all have been decided.
#[test]
fn litellm_6288() {
    const K: usize = 16;
    let cost = hold();
    let decided = std::sync::Arc::new(AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&decided);
    let upstream = Kept::start(move |request, stream| {
        count.fetch_add(1, Ordering::SeqCst);
        wait_for("all to be decided", || (count.load(Ordering::SeqCst) >= CLIENTS).then_some(()));
        let _ = std::io::Write::write_all(stream, &answer(request, &|_| (1, 5)));
        Then::Keep
    });
    let gateway = Gateway::start(upstream.address, BY_BYTES);
    let key = gateway.key(&decimal(cost * i64::try_from(K).unwrap()));
    let answers = at_once(CLIENTS, |_| {
        let answer = Caller::new(gateway.address).post(CHAT, &[("x-api-key", &key)], &ask(true));
        if answer.status != 200 {
            decided.fetch_add(1, Ordering::SeqCst);
        }
        answer
    });
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), K);
    assert_eq!(upstream.hits(), K);
}

/// An account is drained under load by calls that cost far more than they hold: what it shows is never below
/// zero, and once it is empty nothing is served.
#[test]
fn anthropic_92642() {
    let upstream = reporting(|_| (10, 200));
    let gateway = Gateway::start(upstream.address, "");
    let new = gateway.operator(&["key", "new", "--credit", "0.05 TEST"]);
    let (key, account) = (new["key"].as_str().unwrap(), new["account"].as_str().unwrap());
    let over = AtomicBool::new(false);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let (balance, held) = gateway.balance(key);
                assert!(balance >= 0 && held >= 0, "{balance} {held}");
            }
        });
        let answers = at_once(CLIENTS, |_| {
            let mut caller = Caller::new(gateway.address);
            let mut one = || caller.post(MESSAGES, &[("x-api-key", key)], &ask(false));
            (0..8).map(|_| one()).collect::<Vec<_>>()
        });
        over.store(true, Ordering::SeqCst);
        answers.into_iter().flatten().collect()
    });
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(served, upstream.hits());
    assert!((61..answers.len()).contains(&served), "{served}");
    for answer in &answers {
        assert_not_negative(answer);
        if answer.status != 200 {
            assert_refused(answer, 402, "insufficient_balance", "nothing_taken");
        }
    }
    let left = gateway.settled_balance(key);
    assert!((0..100_000).contains(&left), "{left}");
    let refused = http::post(gateway.address, MESSAGES, &[("x-api-key", key)], &ask(false));
    assert_refused(&refused, 402, "insufficient_balance", "nothing_taken");
    let books = gateway.books_after(served);
    assert_eq!((books.balance(account), books.charged(account)), (left, 50_000_000 - left));
    assert_never_below_zero(&books, account);
    // What they used beyond that is the operator's loss, and counted.
    let used = i64::try_from(served).unwrap() * 810_000;
    assert_eq!(
        gateway.metric(r#"farthing_overrun_loss_nano_total{asset="TEST"}"#),
        used - books.charged(account)
    );
}

/// A spend counter showed twice what was spent. Here thousands of calls of all sorts on 64 connections: the
/// counter, the balances in memory and the journal say the same, to the unit.
#[test]
fn litellm_40050() {
    const ROUNDS: usize = 50;
    let upstream = Kept::start(|request, stream| {
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        let kind = asked["seed"].as_i64().unwrap_or(0);
        let mut bytes = answer(request, &|_| (10 + kind % 7, kind % 5));
        if kind % 9 == 3 {
            // It breaks off in the middle of its answer.
            bytes.truncate(bytes.len() - 40);
        }
        let _ = std::io::Write::write_all(stream, &bytes);
        if kind % 9 == 3 { Then::Close } else { Then::Keep }
    });
    let gateway = Gateway::start(upstream.address, "metering: { on_client_gone: { drain_up_to: 0s } }\n");
    let accounts: Vec<Value> =
        (0..8).map(|_| gateway.operator(&["key", "new", "--credit", "1 TEST"])).collect();
    at_once(CLIENTS, |client| {
        let key = accounts[client % 8]["key"].as_str().unwrap();
        let key = attenuate(key, &format!("budget=c{client}:TEST:900000000")).unwrap();
        let mut caller = Caller::new(gateway.address);
        for round in 0..ROUNDS {
            let kind = client * ROUNDS + round;
            let path = [CHAT, MESSAGES, "/v1/completions"][kind % 3];
            let mut body = ask(kind.is_multiple_of(2));
            (body["seed"], body["prompt"]) = (json!(kind), json!("hi"));
            match kind % 8 {
                // Gone as soon as the answer begins.
                5 => http::leave_after(gateway.address, path, &[("x-api-key", &key)], &body, "HTTP/1.1 200"),
                // Nobody sells this.
                6 => assert_eq!(caller.post(path, &[("x-api-key", &key)], &json!({"model": ""})).status, 400),
                _ => drop(caller.try_post(path, &[("x-api-key", &key)], &body)),
            }
        }
    });
    let left: Vec<i64> =
        accounts.iter().map(|account| gateway.settled_balance(account["key"].as_str().unwrap())).collect();
    let spent = 8_000_000_000 - left.iter().sum::<i64>();
    // Of who has gone before his answer's end it is known a moment later than his balance.
    wait_for("the holds to end", || (gateway.metric("farthing_holds_open") == 0).then_some(()));
    assert_eq!(gateway.metric(r#"farthing_charge_nano_total{asset="TEST"}"#), spent);
    assert_eq!(gateway.counted(r#"farthing_overrun_loss_nano_total{asset="TEST"}"#), 0);
    let whole = |books: &Books| {
        accounts.iter().map(|account| books.charged(account["account"].as_str().unwrap())).sum::<i64>()
            == spent
    };
    let books = wait_for("the charges in the books", || Some(gateway.books()).filter(&whole));
    let mut charged = 0;
    for (account, left) in accounts.iter().zip(left) {
        let id = account["account"].as_str().unwrap();
        assert_eq!(books.balance(id), left);
        charged += books.charged(id);
    }
    assert_eq!(charged, spent);
    assert!(upstream.hits() > CLIENTS * ROUNDS / 2 && spent > 0);
}

/// Agents queued up for one revenue account, which every call wrote. Here 64 of them, each with an account of
/// its own, pay one operator: all their calls land, and none of them writes that account. It is written once per
/// batch, with the sum of the calls that are named (LED-40).
#[test]
fn cala_776() {
    const CALLS: usize = 20;
    let upstream = reporting(|_| (10, 5));
    let gateway = Gateway::start(upstream.address, "");
    let agents: Vec<Value> =
        (0..CLIENTS).map(|_| gateway.operator(&["key", "new", "--credit", "0.01 TEST"])).collect();
    at_once(CLIENTS, |client| {
        let mut caller = Caller::new(gateway.address);
        let key = agents[client]["key"].as_str().unwrap();
        for _ in 0..CALLS {
            let answer = caller.post(CHAT, &[("x-api-key", key)], &ask(client.is_multiple_of(2)));
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    });
    let each = FRIENDLY_COST * i64::try_from(CALLS).unwrap();
    for agent in &agents {
        assert_eq!(gateway.settled_balance(agent["key"].as_str().unwrap()), 10_000_000 - each);
    }
    let books = gateway.books_after(CLIENTS * CALLS);
    for agent in &agents {
        assert_eq!(books.charged(agent["account"].as_str().unwrap()), each);
    }
    let revenue = |entry: &Value| -> Vec<i64> {
        let legs = entry["legs"].as_array().unwrap().iter().filter(|leg| leg["name"] == "usage:m");
        legs.map(|leg| nano(&leg["amount"]["amount"])).collect()
    };
    let mut sums = Vec::new();
    for entry in &books.entries {
        let written = revenue(entry);
        match entry["kind"].as_str().unwrap() {
            "income" => {
                let covered = calls_of(entry, &books);
                assert_eq!(written, [FRIENDLY_COST * i64::try_from(covered).unwrap()], "{entry}");
                sums.push(covered);
            }
            _ => assert_eq!(written, [0; 0], "{entry}"),
        }
    }
    assert_eq!(sums.iter().sum::<usize>(), CLIENTS * CALLS, "each call is in one sum");
    assert!(sums.len() < CLIENTS * CALLS, "one sum for each call is no sum");
}

/// How many calls an income entry covers: those in the range of entries that it names, `lsn 3-17`.
fn calls_of(income: &Value, books: &Books) -> usize {
    let range = income["reference"].as_str().unwrap().strip_prefix("lsn ").unwrap();
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let range = first.parse::<u64>().unwrap()..=last.parse().unwrap();
    let calls = books.entries.iter().filter(|entry| entry["kind"] == "capture");
    calls.filter(|entry| range.contains(&entry["lsn"].as_u64().unwrap())).count()
}

/// Deposits and charges raced on one account, and it went below its floor. Here payments and the operator's
/// grants come in while 32 clients spend all there is: never below zero, nothing lost, nothing counted twice.
#[test]
fn double_entry_114() {
    const DEPOSITS: usize = 12;
    let exact = Exact::start("");
    let gateway = &exact.gateway;
    let (key, account) = exact.account(exact.cost);
    let over = AtomicBool::new(false);
    let (served, paid) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                let mut caller = Caller::new(gateway.address);
                while !over.load(Ordering::SeqCst) {
                    let answer = caller.post(CHAT, &[("x-api-key", &key)], &ask(true));
                    served.fetch_add(usize::from(answer.status == 200), Ordering::SeqCst);
                    assert_not_negative(&answer);
                }
            });
        }
        let granting = scope.spawn(|| {
            for _ in 0..DEPOSITS {
                gateway.operator(&["credit", &account, &decimal(exact.worth(3))]);
            }
        });
        for number in 0..DEPOSITS {
            let wallet = Wallet::new(u8::try_from(number + 1).unwrap());
            let offered = http::post(gateway.address, CHAT, &[], &ask(true));
            let payment = wallet.pay(&offered, TEST);
            let fields = [("x-api-key", key.as_str()), ("payment-signature", &payment.v2())];
            let answer = http::post(gateway.address, CHAT, &fields, &ask(true));
            served.fetch_add(usize::from(answer.status == 200), Ordering::SeqCst);
            paid.fetch_add(usize::try_from(payment.nano()).unwrap(), Ordering::SeqCst);
        }
        granting.join().unwrap();
        over.store(true, Ordering::SeqCst);
    });
    let deposits = i64::try_from(paid.into_inner()).unwrap() + exact.worth(3 * DEPOSITS + 1);
    let served = served.into_inner();
    let left = gateway.settled_balance(&key);
    assert_eq!(left, deposits - exact.worth(served));
    let books = gateway.books_after(served);
    assert_eq!(books.count("deposit"), 2 * DEPOSITS + 1);
    assert_eq!((books.balance(&account), books.charged(&account)), (left, exact.worth(served)));
    assert_never_below_zero(&books, &account);
}
