//! The bundled client pays the real gateway over Lightning, as a person runs it: with the test node, and through an LND
//! that answers well, badly or not at all.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client::{
    CallError, Client, FeeMax, Folder, Lightning, LightningFile, NodeSettings, Paid, Patience, Policy,
    PriceSettings, Request, Step, parse_cap,
};
use farthing_tests::gateway::{Gateway, binary};
use farthing_tests::lightning::{TEST_NODE, TOOL, with_tool};
use farthing_tests::lnd::{Conduct, Door, Lnd, MACAROON};
use farthing_tests::scene::CHAT;
use farthing_tests::upstream::{Upstream, plain};
use http::Method;
use rails::dial::Dialer;
use rails::lightning::{Network, Wanted, test_node};
use serde_json::Value;
use wire::hex;

const ASK: &str = r#"{"model":"m","max_tokens":1000,"messages":[{"role":"user","content":"hi"}]}"#;
/// At 100000 USD a bitcoin a satoshi is a tenth of a cent.
const PRICE: &str = "100000";

/// A gateway that is paid over Lightning only, and somebody's machine.
struct Stand {
    upstream: Upstream,
    gateway: Gateway,
    home: tempfile::TempDir,
}

/// What a command did.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    said: String,
}

impl Stand {
    fn new(rails: &str) -> Self {
        let upstream = Upstream::friendly();
        let gateway = Gateway::start(upstream.address, rails);
        let stand = Self { upstream, gateway, home: tempfile::tempdir().unwrap() };
        let fees = ["--fee-percent", "0", "--fee-sat", "0"];
        let done =
            stand.run(&[&["wallet", "lightning", "set", "test", "--usd-per-btc", PRICE][..], &fees].concat());
        assert_eq!(done.code, Some(0), "{done:?}");
        stand
    }

    fn run(&self, words: &[&str]) -> Done {
        let mut command = Command::new(binary());
        command.args(words).env_clear().env("HOME", self.home.path());
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Done { code: status.code(), out: text(stdout), said: text(stderr) }
    }

    fn curl(&self, path: &str, words: &[&str]) -> Done {
        let url = format!("http://{}{path}", self.gateway.address);
        let body = if path == CHAT { ASK } else { "{}" };
        self.run(&[&["curl", "--json", body], words, &[&url]].concat())
    }

    /// Paid and used of the day, in nano-dollars.
    fn spent(&self) -> (i64, i64) {
        let shown: Value = serde_json::from_str(&self.run(&["budget", "show"]).out).unwrap();
        let rows = shown["windows"].as_array().unwrap();
        let day = rows.iter().find(|row| row["host"] == "*" && row["window"] == "day").unwrap();
        let nano = |name: &str| {
            let text = day[name].as_str().unwrap();
            let (whole, part) = text.split_once('.').unwrap_or((text, ""));
            format!("{whole}{part:0<9}").parse().unwrap()
        };
        (nano("paid"), nano("used"))
    }

    fn deposits(&self) -> usize {
        self.gateway.books().count("deposit")
    }
}

/// Pays, streams, checks the receipt; the key that came with it pays the next call, narrowed, and its receipt too.
#[test]
fn an_invoice_is_paid_end_to_end_without_another_wallet() {
    let stand = Stand::new(TEST_NODE);
    let done = stand.curl(CHAT, &["--dry-run"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let quote: Value = serde_json::from_str(&done.out).unwrap();
    let offer = &quote["offers"][0];
    assert_eq!((&offer["scheme"], &offer["network"]), (&"l402".into(), &"lightning:regtest".into()));
    assert_eq!((&offer["asset"], &offer["chosen"]), (&"USD".into(), &true.into()));
    assert_eq!((&quote["key_first"], &quote["token_first"]), (&false.into(), &false.into()));

    let done = stand.curl(CHAT, &["-v"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.out.contains("five words are said here"), "{done:?}");
    for said in [
        "< 402",
        "l402 on lightning:regtest",
        "paying invoice",
        "is paid, for a fee of 0 msat",
        "with idempotency-key, authorization",
        "the token is kept",
        "verified",
    ] {
        assert!(done.said.contains(said), "{said}: {done:?}");
    }
    let done = stand.curl(CHAT, &[]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.said.contains("verified"), "{done:?}");
    assert_eq!((stand.upstream.hits(), stand.deposits()), (2, 1));
    let (paid, used) = stand.spent();
    assert_eq!(used, 60_000, "two calls, by their receipts");
    let offered = offer["amount"].as_str().unwrap().trim_start_matches("0.");
    assert_eq!(format!("{paid:09}").trim_end_matches('0'), offered.trim_end_matches('0'));

    let tokens = stand.home.path().join(".config/farthing/tokens.json");
    assert_eq!(fs::metadata(&tokens).unwrap().permissions().mode() & 0o777, 0o600);
    let kept: Value = serde_json::from_slice(&fs::read(&tokens).unwrap()).unwrap();
    let secret =
        kept["tokens"].as_object().unwrap().values().next().unwrap()[0]["preimage"].as_str().unwrap();
    assert!(!done.said.contains(secret) && !stand.gateway.log().contains(secret));
}

/// Without a key it is the token that serves again, until it is used up: then it is paid anew, within the budget.
#[test]
fn a_token_serves_until_it_is_used_up_and_is_paid_anew_within_the_budget() {
    let stand = Stand::new(&with_tool(", fixed_price: draw, deposit: 0.02 USD"));
    assert_eq!(stand.run(&["budget", "set", "0.05usd/day"]).code, Some(0));
    let expected = [
        ("paying invoice", 1, 20_000_000),
        ("with the token of invoice", 1, 20_000_000),
        ("the token is not taken: 402", 2, 40_000_000),
        ("with the token of invoice", 2, 40_000_000),
    ];
    for (number, (said, deposits, paid)) in expected.into_iter().enumerate() {
        let done = stand.curl(TOOL, &["--no-save-key", "-v"]);
        assert_eq!(done.code, Some(0), "call {number}: {done:?}");
        assert!(done.said.contains(said), "call {number}: {done:?}");
        assert!(done.said.contains("verified"), "the token opens the receipt: {done:?}");
        let used = 10_000_000 * (i64::try_from(number).unwrap() + 1);
        assert_eq!((stand.deposits(), stand.spent()), (deposits, (paid, used)), "call {number}");
    }
    // A third deposit would be above the cap of the day.
    let done = stand.curl(TOOL, &["--no-save-key"]);
    assert_eq!(done.code, Some(5), "{done:?}");
    assert!(done.said.contains("the budget is 0.05 USD a day"), "{done:?}");
    assert_eq!((stand.upstream.hits(), stand.deposits(), stand.spent().0), (4, 2, 40_000_000));
}

/// Where a token is good for one call, the next call is paid anew; the gateway's 403 is no reason to stop.
#[test]
fn a_token_for_one_call_is_not_tried_for_ever() {
    let stand = Stand::new(&with_tool(""));
    for number in 1..=3 {
        let done = stand.curl(TOOL, &["--no-save-key"]);
        assert_eq!(done.code, Some(0), "{done:?}");
        assert_eq!((stand.upstream.hits(), stand.deposits()), (number, number));
    }
    assert_eq!(stand.spent(), (30_000_000, 30_000_000));
}

/// A key that is used up is topped up: no second account, and nothing stays behind in the first.
#[test]
fn a_key_that_is_used_up_is_topped_up_over_lightning() {
    let stand = Stand::new(&with_tool(", fixed_price: draw, deposit: 0.015 USD"));
    for number in 1..=3 {
        let done = stand.curl(TOOL, &[]);
        assert_eq!(done.code, Some(0), "call {number}: {done:?}");
    }
    let books = stand.gateway.books_after(3);
    assert_eq!((books.count("deposit"), stand.upstream.hits()), (2, 3));
    assert_eq!(stand.spent(), (30_000_000, 30_000_000));
}

#[test]
fn without_a_price_or_a_wallet_nothing_is_paid() {
    let stand = Stand::new(TEST_NODE);
    let done = stand.run(&["wallet", "lightning", "set", "test"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.out.contains(r#""usd_per_btc":"100000""#), "the price stays: {done:?}");
    assert_eq!(stand.run(&["wallet", "lightning", "remove"]).code, Some(0));
    let done = stand.curl(CHAT, &[]);
    assert_eq!(done.code, Some(5), "{done:?}");
    assert!(done.said.contains("no Lightning wallet is set: farthing wallet lightning set"), "{done:?}");
    assert_eq!(stand.run(&["wallet", "lightning", "set", "test"]).code, Some(0));
    let done = stand.curl(CHAT, &[]);
    assert_eq!(done.code, Some(5), "{done:?}");
    assert!(done.said.contains("no price of bitcoin is known"), "{done:?}");
    assert_eq!((stand.upstream.hits(), stand.deposits()), (0, 0));
}

/// A gateway whose invoices an LND makes, and a wallet that is another LND.
struct Pair {
    upstream: Upstream,
    gateway: Gateway,
    wallet: Lnd,
    home: tempfile::TempDir,
}

impl Pair {
    fn new() -> Self {
        let (till, wallet, upstream) = (Lnd::start(), Lnd::start(), Upstream::friendly());
        let rails = TEST_NODE.replace("test: {}", &till.section("\"${env:TILL_MACAROON}\""));
        let gateway = Gateway::start_in(upstream.address, &rails, &[("TILL_MACAROON", MACAROON)]);
        Self { upstream, gateway, wallet, home: tempfile::tempdir().unwrap() }
    }

    /// As one process sees it: what it knows is on the disk.
    fn client(&self) -> Client {
        let dialer = Dialer::new(&[], Duration::from_secs(5)).unwrap();
        let node = NodeSettings::Lnd { url: self.wallet.url(), macaroon: MACAROON.to_owned(), cert: None };
        let price = PriceSettings::Fixed { usd_per_btc: PRICE.to_owned() };
        let file = LightningFile::new(node, Some(Network::Regtest), Some(price), FeeMax::default()).unwrap();
        let lightning = Lightning::open(&file, &dialer).unwrap();
        let wait = Duration::from_millis(1);
        let patience = Patience { replays: 2, wait_min: wait, wait_max: wait, ..Patience::default() };
        Client::new(dialer, Policy::up_to(parse_cap("0.05usd").unwrap()))
            .with_patience(patience)
            .with_folder(Folder::beside(&self.home.path().join("wallet.json")))
            .with_lightning(lightning)
    }

    fn request(&self) -> Request {
        let url = format!("http://{}{CHAT}", self.gateway.address);
        let request = Request::new(Method::POST, &url).unwrap();
        request.header("content-type", "application/json").unwrap().body(ASK)
    }

    fn call(&self) -> Result<Paid, CallError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let see = &mut |_: Step<'_>| {};
        let response = runtime.block_on(self.client().call(&self.request(), see))?;
        assert_eq!(response.status, 200);
        Ok(response.paid)
    }

    /// Orders, payments, calls served.
    fn counts(&self) -> (usize, usize, usize) {
        (self.wallet.hits(Door::Send), self.wallet.payments(), self.upstream.hits())
    }
}

#[test]
fn an_lnd_pays_for_a_fee_within_bounds() {
    let pair = Pair::new();
    pair.wallet.charge(2_000);
    let Paid::Taken { what, transaction } = pair.call().unwrap() else { panic!() };
    assert!(what.contains("over Lightning to 03"), "{what}");
    assert_eq!(transaction.len(), 64);
    assert_eq!(pair.counts(), (1, 1, 1));
    // The way is dearer than 1 % and 10 sat: nothing is paid, and the next call is free to try again.
    let other = Pair::new();
    other.wallet.charge(10_001);
    let error = other.call().unwrap_err();
    assert!(matches!(error, CallError::NotPaid { .. }), "{error}");
    assert_eq!(other.counts(), (1, 0, 0));
    other.wallet.charge(10_000);
    other.call().unwrap();
    assert_eq!(other.counts(), (2, 1, 1));
}

/// The answer to the order is lost, and the node cannot be asked: nobody knows. The next run asks it about that very
/// invoice, and orders nothing.
#[test]
fn l402_93_a_lost_order_is_looked_up_and_never_paid_twice() {
    for (done, looked_up) in [
        (Conduct::DoesThenHangup, Conduct::Hangup),
        (Conduct::DoesThenHangup, Conduct::Says(500, "{}".to_owned())),
    ] {
        let pair = Pair::new();
        pair.wallet.next(Door::Track, Conduct::Well);
        pair.wallet.next(Door::Send, done);
        pair.wallet.always(Door::Track, looked_up);
        for _ in 0..2 {
            let error = pair.call().unwrap_err();
            assert!(matches!(error, CallError::Unknown { .. }), "{error}");
            assert_eq!(pair.counts(), (1, 1, 0), "one order, however often the command is repeated");
        }
        pair.wallet.behave();
        pair.call().unwrap();
        assert_eq!(pair.counts(), (1, 1, 1));
        assert_eq!(pair.gateway.books().count("deposit"), 1);
        assert_eq!(fs::read_dir(pair.home.path().join("pending")).unwrap().count(), 0);
    }
}

/// The order never arrived, as far as the node knows, and might still: the run that gave it pays nothing else, and the
/// next one orders the very same invoice.
#[test]
fn l402_93_an_order_that_nobody_knows_is_not_replaced() {
    let pair = Pair::new();
    pair.wallet.next(Door::Send, Conduct::Hangup);
    pair.wallet.next(Door::Send, Conduct::Hangup);
    for orders in [1, 2] {
        let error = pair.call().unwrap_err();
        assert!(matches!(error, CallError::Unknown { .. }), "{error}");
        assert!(
            error.to_string().contains("knows nothing of the payment; unless it comes within"),
            "{error}"
        );
        assert_eq!(pair.counts(), (orders, 0, 0));
    }
    pair.call().unwrap();
    assert_eq!(pair.counts(), (3, 1, 1));
    let seen = pair.wallet.seen();
    let orders: Vec<_> = seen
        .iter()
        .filter(|seen| seen.method == "POST")
        .map(|seen| String::from_utf8_lossy(&seen.body).into_owned())
        .collect();
    assert_eq!(orders, vec![orders[0].clone(); 3], "one invoice");
}

/// A wallet that shows a preimage of nothing has proved nothing: none of it is sent, and no other invoice is paid.
#[test]
fn l402_93_a_preimage_that_opens_nothing_is_not_sent() {
    let pair = Pair::new();
    let lie = serde_json::json!({"result": {
        "payment_hash": "00".repeat(32), "payment_preimage": hex::encode(&[7; 32]), "status": "SUCCEEDED",
        "value_msat": "1", "value_sat": "0", "fee_msat": "0", "fee_sat": "0", "payment_request": "",
        "failure_reason": "FAILURE_REASON_NONE", "htlcs": [],
    }});
    pair.wallet.next(Door::Track, Conduct::Well);
    for door in [Door::Send, Door::Track] {
        pair.wallet.always(door, Conduct::Says(200, format!("{lie}\n")));
    }
    for _ in 0..2 {
        let error = pair.call().unwrap_err();
        assert!(matches!(error, CallError::Unknown { .. } | CallError::WalletLied { .. }), "{error}");
    }
    assert_eq!(pair.counts(), (1, 0, 0));
    assert_eq!(pair.gateway.books().entries.len(), 0, "nothing was shown to the seller");
}

/// A seller that shows one invoice for every call is paid for it once: the wallet gives the same preimage again.
#[test]
fn l402_93_an_invoice_that_was_paid_before_costs_nothing_again() {
    let wanted = Wanted { amount_msat: 20_000, description: "", expiry_s: 300, label: "" };
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let invoice = test_node::mint(&wanted, now_s).unwrap();
    let seller = Upstream::start(move |request, stream| {
        let paid = request.header("authorization").is_some_and(|value| value.starts_with("L402 t"));
        let head = format!(
            "HTTP/1.1 402 Payment Required\r\nwww-authenticate: L402 token=t{}, invoice={invoice}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            request.target.len()
        );
        let answer = if paid { plain(200, "text/plain", "served") } else { head.into_bytes() };
        let _ = stream.write_all(&answer);
    });
    let pair = Pair::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for path in ["/a", "/ab"] {
        let request = Request::new(Method::GET, &format!("http://{}{path}", seller.address)).unwrap();
        let client = pair.client();
        runtime.block_on(client.call(&request, &mut |_: Step<'_>| {})).unwrap();
        fs::remove_file(pair.home.path().join("tokens.json")).unwrap();
    }
    assert_eq!((pair.counts().0, pair.counts().1), (1, 1));
}

/// The key to a node comes from a file, is kept in one, and is shown by no command.
#[test]
fn l402_95_the_settings_of_a_node_show_no_key() {
    let stand = Stand::new(TEST_NODE);
    let lnd = Lnd::start();
    // As LND writes it: bytes.
    let file = stand.home.path().join("admin.macaroon");
    fs::write(&file, hex::decode(MACAROON).unwrap()).unwrap();
    let (file, url) = (file.to_str().unwrap(), lnd.url());
    let words =
        ["wallet", "lightning", "set", "lnd", "--url", &url, "--key-file", file, "--network", "regtest"];
    let set = stand.run(&words);
    assert_eq!(set.code, Some(0), "{set:?}");
    let show = stand.run(&["wallet", "lightning", "show"]);
    let check = stand.run(&["wallet", "lightning", "check"]);
    assert_eq!(check.code, Some(0), "{check:?}");
    let found: Value = serde_json::from_str(&check.out).unwrap();
    assert_eq!((&found["network"], &found["usd_per_1000_sat"]), (&"regtest".into(), &"1".into()));
    for done in [&set, &show, &check] {
        assert!(!format!("{done:?}").contains(MACAROON), "{done:?}");
        assert!(done.out.contains(&format!("lnd {url}")), "{done:?}");
    }
    let settings = stand.home.path().join(".config/farthing/lightning.json");
    assert_eq!(fs::metadata(&settings).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&settings).unwrap().contains(MACAROON));
    // A node that is on another chain than the settings say is noticed before anything is paid.
    let words = ["wallet", "lightning", "set", "lnd", "--url", &url, "--key-file", file];
    assert_eq!(stand.run(&words).code, Some(0));
    let check = stand.run(&["wallet", "lightning", "check"]);
    assert_eq!(check.code, Some(1), "{check:?}");
    assert!(check.said.contains("the node is on regtest, the settings say mainnet"), "{check:?}");
    let open = ["wallet", "lightning", "set", "lnd", "--url", "http://node.example", "--key-file", file];
    assert_eq!(stand.run(&open).code, Some(2), "no key goes out in clear text");
}
