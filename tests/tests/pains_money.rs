//! What hurts with other gateways when money is involved, as tests by the names of metering.md section 13. Those that
//! stand elsewhere, beside tests of their kind, are named at the end.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use farthing_tests::exposure::found;
use farthing_tests::facilitator::Facilitator;
use farthing_tests::gateway::{Gateway, nano};
use farthing_tests::http;
use farthing_tests::payer::{BASE_SEPOLIA, Wallet};
use farthing_tests::refused::assert_refused;
use farthing_tests::spoken::{Ending, Owed, Talk};
use farthing_tests::stand::{CREDIT, HELD_MAX, Stand};
use farthing_tests::upstream::{FRIENDLY_COST, KEY, Upstream, plain};
use ledger::{AccountId, Book, Reserve};
use money::{Amount, Asset};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn ask(text: &str) -> Value {
    json!({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": text}]})
}

/// Whatever ends a call, what was held for it is there again within a second: the client goes, the upstream breaks
/// off or falls silent, the time of the call is over, the process is told to stop or killed, its code panics.
#[test]
fn r08_holds_never_leak() {
    let mut stand = Stand::new(
        "metering: { on_client_gone: { drain_up_to: 0s } }\nserver: { listen: [\"{address}\"], threads: 2, \
         timeouts: { stream_idle: 400ms, first_byte: 800ms, call: 1500ms, drain: 100ms } }\n",
    );
    let talk = Talk::chat();
    let (client, call) = stand.hear(&talk, 1);
    drop(client);
    call.wait_until_left();
    stand.settles("the client goes", Duration::ZERO, talk.owed(1, Ending::Left));
    let (_client, call) = stand.hear(&talk, 1);
    call.reset();
    stand.settles("the upstream breaks off", Duration::ZERO, talk.owed(1, Ending::Broken));
    let silent = stand.hear(&talk, 1);
    stand.settles("the upstream falls silent", Duration::from_millis(400), talk.owed(1, Ending::Broken));
    drop(silent);
    let silent = stand.ask(&talk);
    stand.settles("the upstream never answers", Duration::from_millis(800), Owed::NOTHING);
    drop(silent);
    // A word now and then, for ever: the deadline of the hold.
    let (mut client, mut call) = stand.ask(&talk);
    call.send(talk.head());
    let start = Instant::now();
    while stand.gateway.metric("farthing_holds_open") > 0 {
        call.chunk(": still here\n\n");
        std::thread::sleep(Duration::from_millis(50));
        assert!(start.elapsed() < Duration::from_millis(1500) + 2 * HELD_MAX, "held beyond its deadline");
    }
    client.read_to_end();

    stand.gateway.books();

    // Told to stop, and killed: the next process has nothing on hold. Who is cut off by a stop owes the input; who is
    // cut off by a kill owes nothing. Nothing else ends these calls meanwhile.
    let mut stand = Stand::new(
        "server: { listen: [\"{address}\"], threads: 2, timeouts: { stream_idle: 60s, drain: 100ms } }\n",
    );
    for (signal, owes) in [(15, true), (9, false)] {
        let before = stand.gateway.settled_balance(&stand.key);
        let in_flight = stand.hear(&talk, 0);
        let held = stand.held();
        assert!(held > 0);
        stand.gateway.signal(signal);
        stand.gateway.wait();
        drop(in_flight);
        stand.gateway.restart();
        assert_eq!((stand.held(), stand.gateway.metric("farthing_holds_open")), (0, 0), "signal {signal}");
        let spent = before - stand.gateway.balance(&stand.key).0;
        assert!(
            if owes { spent > 0 && spent < held } else { spent == 0 },
            "signal {signal}: {spent} of {held}"
        );
    }
    stand.gateway.books();

    let (book, id) = (Book::default(), AccountId([1; 16]));
    book.restore(id, Asset::Usd, Amount::from_units(CREDIT));
    let account = book.account(id, Asset::Usd);
    let panics = || {
        let wanted =
            Reserve { account: &account, budgets: &[], amount: Amount::from_units(7), beyond: Amount::ZERO };
        let hold = book.reserve(wanted);
        assert!(hold.is_err(), "the panic that is meant");
    };
    std::thread::scope(|scope| assert!(scope.spawn(panics).join().is_err()));
    assert_eq!((account.held(), account.available()), (Amount::ZERO, Amount::from_units(CREDIT)));
}

/// A call that is paid from a balance asks nobody: the rail hears of the deposit, and of nothing after it.
#[test]
fn r13_no_remote_call_on_balance_path() {
    let upstream = Upstream::friendly();
    let facilitator = Facilitator::start([]);
    let rails = Facilitator::rails(&[facilitator.address]);
    let config = format!("{rails}limits: {{ default: {{ rpm: 100000, concurrent: 1000 }} }}\n");
    let gateway = Gateway::start(upstream.address, &config);
    let target = "/farthing/topup?amount=0.5";
    let payment = Wallet::new(1).pay(&http::request(gateway.address, "POST", target, &[], b""), BASE_SEPOLIA);
    let paid = http::request(gateway.address, "POST", target, &[("payment-signature", &payment.v2())], b"");
    assert_eq!(paid.status, 200, "{}", paid.text());
    let key = paid.must("farthing-key").to_owned();
    assert_eq!(facilitator.settles().len(), 1);
    let asked = facilitator.seen().len();
    for stream in [false, true].into_iter().cycle().take(40) {
        let mut body = ask("hi");
        body["stream"] = stream.into();
        assert_eq!(http::post(gateway.address, CHAT, &[("x-api-key", &key)], &body).status, 200);
    }
    gateway.books_after(40);
    assert_eq!(facilitator.seen().len(), asked, "{:?}", facilitator.seen().last());
    assert_eq!(upstream.hits(), 40);
}

fn account_of(gateway: &Gateway, key: &str) -> String {
    let bearer = format!("Bearer {key}");
    let told = http::get(gateway.address, "/farthing/balance", &[("authorization", &bearer)]).json();
    told["account"].as_str().unwrap().to_owned()
}

/// No secret stands in the log (at its most talkative), the store or a refusal; and the key that all credit keys are
/// made from can be changed while those of before go on, for as long as the operator says.
#[test]
fn r23_secrets_never_in_clear() {
    let upstream = Upstream::friendly();
    let folder = tempfile::tempdir().unwrap();
    for epoch in [1u8, 2] {
        master(&folder.path().join(format!("{epoch}.key")), epoch);
    }
    let epochs = |keys: &str| {
        format!(
            "tokens: {{ master_keys: [{}] }}",
            keys.replace("{keys}", &folder.path().display().to_string())
        )
    };
    let first = epochs(r#"{ epoch: 1, key: "file:{keys}/1.key" }"#);
    let grace = epochs(
        r#"{ epoch: 2, key: "file:{keys}/2.key" }, { epoch: 1, key: "file:{keys}/1.key", verify_only: true }"#,
    );
    let second = epochs(r#"{ epoch: 2, key: "file:{keys}/2.key" }"#);
    let mut gateway = Gateway::start_in(upstream.address, &format!("{first}\n"), &[("RUST_LOG", "trace")]);
    let old = gateway.key("1 TEST");
    let call = |gateway: &Gateway, key: &str| {
        http::post(gateway.address, CHAT, &[("x-api-key", key)], &ask("canary-prompt-5b1f"))
    };
    assert_eq!(call(&gateway, &old).status, 200);
    gateway.books_after(1);

    let turn = |gateway: &mut Gateway, from: &str, to: &str| {
        let text = std::fs::read_to_string(gateway.config()).unwrap();
        assert!(text.contains(from));
        std::fs::write(gateway.config(), text.replace(from, to)).unwrap();
        gateway.signal(15);
        assert!(gateway.wait().success());
        gateway.restart();
    };
    turn(&mut gateway, &first, &grace);
    assert_eq!(call(&gateway, &old).status, 200, "grace");
    let account = account_of(&gateway, &old);
    let made = gateway.operator(&["key", "new", "--account", &account]);
    let new = made["key"].as_str().unwrap().to_owned();
    assert_eq!(call(&gateway, &new).status, 200);
    gateway.books_after(3);
    turn(&mut gateway, &grace, &second);
    let refused = call(&gateway, &old);
    assert_refused(&refused, 401, "key_unknown", "nothing_taken");
    assert_eq!(call(&gateway, &new).status, 200, "the same account, by a key of today");
    assert_eq!(gateway.settled_balance(&new), CREDIT - 4 * FRIENDLY_COST);

    let stranger = format!("{}AAAAAA", &old[..old.len() - 6]);
    let told = [call(&gateway, &stranger).text(), refused.text(), gateway.log(), gateway.store_file()];
    let signature = wire::hex::encode(&[1; 32]);
    for (what, secret) in [
        ("a key", old.as_str()),
        ("a key", &new),
        ("the upstream's key", KEY),
        ("a prompt", "canary-prompt-5b1f"),
        ("a master key", &signature),
    ] {
        for (place, text) in ["a refusal", "a refusal", "the log", "the store"].iter().zip(&told) {
            assert_eq!(found(text.as_bytes(), secret), None, "{what} stands in {place}");
        }
    }
}

fn master(path: &std::path::Path, byte: u8) {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(wire::hex::encode(&[byte; 32]).as_bytes()).unwrap();
}

/// What is exported adds up to what the journal has, and the journal to what the provider says it served: call by
/// call, and model by model.
#[test]
fn r25_export_and_reconcile() {
    let served = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&served);
    let upstream = Upstream::start(move |request, stream| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let mut log = log.lock().unwrap();
        let (input, output) = (10 + log.len() as u64, 3 * log.len() as u64 + 1);
        log.push((body["model"].as_str().unwrap_or_default().to_owned(), input, output));
        let text = json!({"object": "chat.completion", "choices": [{"index": 0, "message": {"content": "a"}}],
                          "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output}});
        let _ = stream.write_all(&plain(200, "application/json", &text.to_string()));
    });
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let mut calls = Vec::new();
    for model in ["m", "n", "m", "o", "n", "m"] {
        let mut body = ask("hi");
        body["model"] = model.into();
        let answer = http::post(gateway.address, CHAT, &[("x-api-key", &key)], &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        calls.push(answer.must("farthing-request-id").to_owned());
    }
    let books = gateway.books_after(calls.len());
    // The provider's file: one line a call.
    let file = served.lock().unwrap().clone();
    let mut by_model: BTreeMap<String, i64> = BTreeMap::new();
    for (call, (model, input, output)) in calls.iter().zip(&file) {
        let told = gateway.operator(&["explain", call]);
        assert_eq!((&told["model"], &told["agrees"]), (&json!(model), &json!(true)));
        assert_eq!(
            (&told["usage"]["input_total"], &told["usage"]["output_total"]),
            (&json!(input), &json!(output))
        );
        let cost = i64::try_from(input * 1000 + output * 4000).unwrap();
        assert_eq!(nano(&told["charged"]["amount"]), cost);
        *by_model.entry(format!("usage:{model}")).or_default() += cost;
    }
    // The journal, as the operator's ledger shows it and as each export tells it.
    let shown = books.entries.iter().flat_map(|entry| entry["legs"].as_array().unwrap());
    assert_eq!(
        income(shown.map(|leg| (
            leg["name"].as_str().unwrap_or_default().to_owned(),
            leg["amount"]["amount"].clone()
        ))),
        by_model
    );
    let export = |format: &str| {
        let output = gateway.command(&["export", "--format", format]);
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let csv = export("csv");
    let columns: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    let at = |name: &str| columns.iter().position(|column| *column == name).unwrap();
    let rows: Vec<Vec<&str>> = csv.lines().skip(1).map(|line| line.split(',').collect()).collect();
    assert_eq!(
        income(rows.iter().map(|row| (row[at("name")].to_owned(), json!(row[at("amount")])))),
        by_model
    );
    let lines: Vec<Value> =
        export("jsonl").lines().skip(1).filter_map(|line| serde_json::from_str(line).ok()).collect();
    let legs = lines.iter().filter_map(|line| line["legs"].as_array()).flatten();
    assert_eq!(
        income(legs.map(|leg| (leg["name"].as_str().unwrap_or_default().to_owned(), leg["amount"].clone()))),
        by_model
    );
    let spent: i64 = by_model.values().sum();
    assert_eq!(gateway.settled_balance(&key), CREDIT - spent);
}

/// Sums of the income of each model.
fn income(legs: impl Iterator<Item = (String, Value)>) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for (name, amount) in legs.filter(|(name, _)| name.starts_with("usage:")) {
        *sums.entry(name).or_default() += nano(&amount);
    }
    sums
}
