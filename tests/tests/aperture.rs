//! What the field's first L402 proxy does not do well, as a list of what we do (l402.md section 16). Points that other tests show
//! are in the table of specs/l402.md.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use farthing_tests::gateway::{Gateway, nano, wait_for};
use farthing_tests::http;
use farthing_tests::lightning::{Offered, TEST_NODE, call, offered};
use farthing_tests::payer::{TEST, Wallet, challenge};
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, ask};
use farthing_tests::socket::Socket;
use farthing_tests::upstream::{FRIENDLY_COST, STREAM_HEAD, Upstream, friendly_answer};
use serde_json::json;

/// Nothing but the budget of invoices bounds what is asked.
const OPEN_DOORS: &str = "limits: { unpaid: { per_ip: 4000000000/min }, invalid_proofs: { per_ip: 4000000000/min, burst: 4000000 }, default: { rpm: 100000, concurrent: 1000 } }\n";

/// A hundred thousand unpaid requests: as many as 10,000 a second make in 10 seconds. Invoices stay within their budget, memory
/// stays where it was, nothing is written, and whoever has paid is served meanwhile.
#[test]
fn weak_spot_1_2_a_flood_of_unpaid_requests_makes_few_invoices_and_no_rows() {
    const REQUESTS: usize = 100_000;
    const BATCH: usize = 50;
    let upstream = Upstream::friendly();
    let rails = "rails: { test: {}, l402: { test: {}, price: { usd_per_btc: 100000 }, deposit: 0.1 USD, mint: { per_second: 5, burst: 20, per_source_per_second: 1000, per_source_burst: 1000 } } }\n";
    let gateway = Gateway::start(upstream.address, &format!("{OPEN_DOORS}{rails}"));
    let paid = offered(gateway.address, CHAT, &ask());
    assert_eq!(call(gateway.address, CHAT, &paid.paid(), &ask()).status, 200);
    gateway.books_after(1);
    let rows = gateway.books().entries.len();
    let flood = |requests: usize| {
        let body = ask().to_string();
        let one = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nvia: 1.1 x\r\n\r\n{body}",
            gateway.address,
            body.len()
        );
        let mut socket = Socket::connect(gateway.address);
        let mut with_invoice = 0;
        for _ in 0..requests / BATCH {
            assert!(socket.send(one.repeat(BATCH)));
            for _ in 0..BATCH {
                let answer = socket.answer().unwrap();
                assert_eq!(answer.status, 402);
                with_invoice += usize::from(Offered::find(&answer).is_some());
            }
        }
        with_invoice
    };
    // What buffers and tables take, they take once.
    flood(REQUESTS / 20);
    let (before, file) = (gateway.resident(), gateway.store_file().len());
    let begun = Instant::now();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let floods: Vec<_> = (0..4).map(|_| scope.spawn(|| flood(REQUESTS / 4))).collect();
        let payer = scope.spawn(|| {
            let mut served = 0;
            while !done.load(Ordering::SeqCst) {
                let answer = call(gateway.address, CHAT, &paid.paid(), &ask());
                assert!(answer.status == 200 || answer.code() == "insufficient_balance", "{}", answer.text());
                served += usize::from(answer.status == 200);
                std::thread::sleep(Duration::from_millis(20));
            }
            served
        });
        let made: usize = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
        done.store(true, Ordering::SeqCst);
        assert!(payer.join().unwrap() > 0, "whoever has paid is served");
        let most = 20 + 5 * (usize::try_from(begun.elapsed().as_secs()).unwrap() + 2);
        assert!(made <= most, "{made} invoices, {most} allowed");
    });
    let counted = gateway.counted("farthing_invoices_total{outcome=\"made\"}");
    assert!(counted < 5 * (i64::try_from(begun.elapsed().as_secs()).unwrap() + 60), "{counted}");
    let grown = gateway.resident().saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes more");
    gateway.books_after(upstream.hits());
    let books = gateway.books();
    let paid_calls = books.count("capture");
    assert!(books.entries.len() <= rows + 2 * paid_calls, "only calls that were paid for left rows");
    assert_eq!(books.count("deposit"), 1);
    assert!(gateway.store_file().len() <= file + (8 << 20));
}

/// A price that changes while a long answer streams counts at once, for everybody else; nobody waits for the stream, and the
/// stream keeps its price.
#[test]
fn weak_spot_3_a_price_changes_during_a_stream_and_nobody_waits() {
    static GO_ON: AtomicBool = AtomicBool::new(false);
    let upstream = Upstream::start(|request, stream| {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
        if body["stream"] != true {
            let _ = stream.write_all(&friendly_answer(request));
            return;
        }
        let piece = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
        let _ = stream.write_all(format!("{STREAM_HEAD}{piece}").as_bytes());
        while !GO_ON.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let end = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5}}\n\ndata: [DONE]\n\n";
        let _ = stream.write_all(format!("{piece}{end}").as_bytes());
    });
    let gateway = Gateway::start(upstream.address, TEST_NODE);
    let offer = offered(gateway.address, CHAT, &ask());
    let mut streamed = ask();
    streamed["stream"] = json!(true);
    let text = streamed.to_string();
    let mut socket = Socket::connect(gateway.address);
    socket.send(format!(
        "POST {CHAT} HTTP/1.1\r\nhost: {}\r\nauthorization: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
        gateway.address,
        offer.paid(),
        text.len()
    ));
    assert!(socket.read_until("\"content\":\"a\""));
    let need = |answer: &http::Answer| nano(&answer.json()["error"]["need"]);
    let before = need(&http::post(gateway.address, CHAT, &[], &ask()));
    let config = std::fs::read_to_string(gateway.config()).unwrap();
    std::fs::write(gateway.config(), config.replace("output: 4 USD/Mtok", "output: 40 USD/Mtok")).unwrap();
    gateway.operator(&["reload"]);
    let after = http::post(gateway.address, CHAT, &[], &ask());
    assert!(need(&after) > 9 * before, "{} {before}", need(&after));
    assert_eq!(Offered::of(&after).terms().credit.units(), need(&after));
    GO_ON.store(true, Ordering::SeqCst);
    assert!(socket.read_until("[DONE]"));
    let key = http::parse(&socket.got).map(|answer| answer.must("farthing-key").to_owned());
    let key = key.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(&socket.got).into_owned();
        let rest = text.split_once("farthing-key: ").unwrap().1.to_owned();
        rest.split_once("\r\n").unwrap().0.to_owned()
    });
    let credit = offer.terms().credit.units();
    wait_for("the charge", || (gateway.settled_balance(&key) == credit - FRIENDLY_COST).then_some(()));
}

/// One challenge names every way to pay; clients of each find theirs. What a payment buys is in the currency of the prices, whatever
/// a bitcoin costs.
#[test]
fn weak_spot_9_one_challenge_with_every_rail_and_prices_in_dollars() {
    let upstream = Upstream::friendly();
    let rails = TEST_NODE.replace("rails: {", "rails: { test: {},").replace("mint:", "lsat: true, mint:");
    let gateway = Gateway::start(upstream.address, &rails);
    let unpaid = http::post(gateway.address, CHAT, &[], &ask());
    assert_refused(&unpaid, 402, "payment_required", "nothing_taken");
    let lines: Vec<&str> = unpaid
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("www-authenticate"))
        .map(|(_, value)| value.as_str())
        .collect();
    let schemes: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(schemes, ["LSAT", "L402"]);
    assert_eq!(challenge(&unpaid)["accepts"][0]["network"], TEST);
    let by_x402 = Wallet::new(1).pay(&unpaid, TEST).v2();
    assert_eq!(http::post(gateway.address, CHAT, &[("payment-signature", &by_x402)], &ask()).status, 200);
    let offer = |price: &str| {
        let rails = TEST_NODE.replace("usd_per_btc: 100000", &format!("usd_per_btc: {price}"));
        let gateway = Gateway::start(upstream.address, &rails);
        let terms = offered(gateway.address, CHAT, &ask()).terms();
        (terms.credit.units(), terms.amount_msat)
    };
    let (dear, cheap) = (offer("200000"), offer("50000.5"));
    assert_eq!(dear.0, cheap.0, "the same credit");
    assert!(cheap.1 > 3 * dear.1, "for more sats: {cheap:?} {dear:?}");
}

/// Money, requests, latencies and errors are on the page of metrics; the journal tells of the payment to any tool.
#[test]
fn weak_spot_11_what_happened_is_counted_and_booked() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, TEST_NODE);
    let offer = offered(gateway.address, CHAT, &ask());
    assert_eq!(call(gateway.address, CHAT, &offer.paid(), &ask()).status, 200);
    let guessed = format!("L402 {}:{}", offer.token, "00".repeat(32));
    assert_eq!(call(gateway.address, CHAT, &guessed, &ask()).status, 402);
    gateway.books_after(1);
    for (line, expected) in [
        ("farthing_settlements_total{rail=\"lightning\",state=\"settled\"}", 1),
        ("farthing_proof_total{protocol=\"l402\",verdict=\"good\"}", 1),
        ("farthing_proof_total{protocol=\"l402\",verdict=\"bad\"}", 1),
        ("farthing_charge_nano_total{asset=\"TEST\"}", FRIENDLY_COST),
        ("farthing_upstream_seconds_count", 1),
    ] {
        wait_for(line, || (gateway.counted(line) == expected).then_some(()));
    }
    assert!(gateway.counted("farthing_invoices_total{outcome=\"made\"}") >= 1);
    let output = gateway.command(&["export", "--format", "hledger"]);
    let journal = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(journal.contains("assets:psp:lightning"), "{journal}");
    assert!(journal.contains(&wire::hex::encode(&offer.decoded().payment_hash)), "{journal}");
}

/// What was paid is what can be used: calls run until exactly nothing is left, and then no more.
#[test]
fn weak_spot_12_a_payment_is_used_up() {
    let upstream = Upstream::friendly();
    let routes = "routes: [{ name: tool, match: { method: POST, path: /tool }, upstream: openai, price: { per_call: 0.01 USD } }]\n";
    let rails = TEST_NODE.replace("mint:", "fixed_price: draw, deposit: 0.05 USD, mint:");
    let gateway = Gateway::start(upstream.address, &format!("{routes}{rails}"));
    let offer = offered(gateway.address, "/tool", &json!({}));
    let served = (0..20)
        .take_while(|_| call(gateway.address, "/tool", &offer.paid(), &json!({})).status == 200)
        .count();
    assert_eq!((served, upstream.hits()), (5, 5));
    let balance = http::get(gateway.address, "/farthing/balance", &[("authorization", &offer.paid())]);
    assert_eq!(nano(&balance.json()["balance"]["amount"]), 0);
}
