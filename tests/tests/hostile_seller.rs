//! The hostile-facilitator battery seen from the payer: sellers that take money and do not say so, say what is not, or
//! ask again. Invariant of each: a call is paid at most once, however often the same command is run (x402.md section
//! 14, attacks A10, A12, A18).
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

use std::collections::HashMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use client::{CallError, Client, Folder, Paid, Patience, Policy, Request, Response, Scheme, Step, Wallet};
use farthing_tests::gateway::{binary, wait_for};
use farthing_tests::upstream::{Seen, Upstream};
use http::Method;
use rails::dial::Dialer;
use serde_json::{Value, json};
use tempfile::TempDir;
use wire::base64::encode_std;
use wire::x402::batch::BatchPayload;
use wire::x402::{decode_payment_signature, v2};

const USDC: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const PAYEE: &str = "0x976EA74026E726554dB657fA54763abd0C3a0aa9";
const OTHER: &str = "0x14dC79964da2C08b23698B3D3cc7Ca32193d9955";
const NETWORK: &str = "eip155:84532";
/// Atomic units of USDC.
const PRICE: u128 = 10_000;
const DEPOSIT: u128 = 40_000;
/// What an honest seller charges of a price.
const USED: u128 = 1_858;
const LONG: Duration = Duration::from_secs(20);
/// Where nothing is going to be answered.
const SHORT: Duration = Duration::from_secs(1);
const WAYS: [Scheme; 4] = [Scheme::Exact, Scheme::Permit2, Scheme::Upto, Scheme::Batch];

/// What a seller does with a payment.
type Conduct = dyn Fn(&Sale, &mut TcpStream) + Send + Sync;

/// One payment that arrived.
struct Sale {
    way: Scheme,
    payment: v2::PaymentPayload,
    /// How many came before it.
    number: usize,
}

/// A seller that asks for money in one way, and does with it what the test says until it becomes honest.
struct Seller {
    server: Upstream,
    honest: Arc<Mutex<bool>>,
}

impl Seller {
    fn open(way: Scheme, conduct: impl Fn(&Sale, &mut TcpStream) + Send + Sync + 'static) -> Self {
        Self::asking(way, json!({}), conduct)
    }

    /// `changes` are members of its offers that are other than usual once somebody has paid.
    fn asking(
        way: Scheme,
        changes: Value,
        conduct: impl Fn(&Sale, &mut TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let conduct: Arc<Conduct> = Arc::new(conduct);
        let honest = Arc::new(Mutex::new(false));
        let (is_honest, paid) = (Arc::clone(&honest), AtomicUsize::new(0));
        let server = Upstream::start(move |request, stream| {
            let Some(value) = request.header("payment-signature") else {
                let mut offer = offer(way);
                if paid.load(Ordering::SeqCst) > 0 {
                    for (name, value) in changes.as_object().unwrap() {
                        offer[name] = value.clone();
                    }
                }
                say(stream, 402, &[("payment-required", challenge("pay", &offer))], "{}");
                return;
            };
            let payment = decode_payment_signature(value).unwrap();
            let sale = Sale { way, payment, number: paid.fetch_add(1, Ordering::SeqCst) };
            if *is_honest.lock().unwrap() { serve(&sale, stream) } else { conduct(&sale, stream) }
        });
        Self { server, honest }
    }

    fn become_honest(&self) {
        *self.honest.lock().unwrap() = true;
    }

    /// Serves one call well, and from then on does what the test says. What that call cost is not the next one's.
    fn serve_first(&self, payer: &Payer) {
        self.become_honest();
        payer.run_with(&self.url(), "first").unwrap();
        *self.honest.lock().unwrap() = false;
    }

    fn url(&self) -> String {
        format!("http://{}/v1/chat", self.server.address)
    }

    fn headers(&self) -> Vec<String> {
        let value = |seen: &Seen| seen.header("payment-signature").map(str::to_owned);
        self.server.seen().iter().filter_map(value).collect()
    }

    /// The most that can be taken for calls with everything that was signed, and the most that can be put into
    /// channels: each nonce moves once, and of a channel the highest promise counts.
    fn exposure(&self) -> (u128, u128) {
        let (mut moved, mut promised, mut deposits) = (HashMap::new(), HashMap::new(), HashMap::new());
        for value in self.headers() {
            let payload = decode_payment_signature(&value).unwrap().payload;
            if let Some(batch) = BatchPayload::from_value(&payload) {
                let voucher = batch.voucher();
                let highest = promised.entry(voucher.channel_id).or_insert(0);
                *highest = voucher.max_claimable_amount.max(*highest);
                if let BatchPayload::Deposit { deposit, .. } = &batch {
                    deposits.insert(payload["deposit"]["authorization"].to_string(), deposit.amount);
                }
                continue;
            }
            let (nonce, amount) = match payload.get("permit2Authorization") {
                Some(permit) => (&permit["nonce"], &permit["permitted"]["amount"]),
                None => (&payload["authorization"]["nonce"], &payload["authorization"]["value"]),
            };
            let amount: u128 = amount.as_str().unwrap().parse().unwrap();
            moved.insert(nonce.as_str().unwrap().to_owned(), amount);
        }
        let calls = moved.values().sum::<u128>() + promised.values().sum::<u128>();
        (calls, deposits.values().sum())
    }

    /// The invariant.
    fn assert_paid_once(&self, situation: &str) {
        self.assert_paid_once_after(0, situation);
    }

    /// The same, after calls that cost so much.
    fn assert_paid_once_after(&self, before: u128, situation: &str) {
        let (calls, deposits) = self.exposure();
        assert_eq!(calls, before + PRICE, "{situation}: what can be taken for one call");
        assert!(deposits <= DEPOSIT, "{situation}: {deposits} put in");
    }
}

fn offer(way: Scheme) -> Value {
    let mut extra = json!({"name": "USDC", "version": "2"});
    let scheme = match way {
        Scheme::Exact => "exact",
        Scheme::Permit2 => {
            extra["assetTransferMethod"] = json!("permit2");
            "exact"
        }
        Scheme::Upto => {
            extra["assetTransferMethod"] = json!("permit2");
            extra["facilitatorAddress"] = json!(OTHER);
            "upto"
        }
        Scheme::Batch => {
            extra["receiverAuthorizer"] = json!(OTHER);
            extra["withdrawDelay"] = json!(900);
            extra["minDeposit"] = json!(DEPOSIT.to_string());
            "batch-settlement"
        }
        Scheme::L402 => unreachable!("an invoice stands in no x402 offer"),
    };
    json!({"scheme": scheme, "network": NETWORK, "amount": PRICE.to_string(), "asset": USDC, "payTo": PAYEE,
           "maxTimeoutSeconds": 300, "extra": extra})
}

fn challenge(error: &str, offer: &Value) -> String {
    let required = json!({"x402Version": 2, "error": error, "accepts": [offer]});
    encode_std(required.to_string().as_bytes())
}

fn say(stream: &mut TcpStream, status: u16, headers: &[(&str, String)], body: &str) {
    let mut text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let _ = stream.write_all(format!("{text}\r\n{body}").as_bytes());
}

/// A result as an honest seller gives it, with members of `changes` in their place.
fn result(sale: &Sale, changes: Value) -> (&'static str, String) {
    let mut told =
        json!({"success": true, "transaction": format!("0x{}", "ab".repeat(32)), "network": NETWORK});
    match sale.way {
        Scheme::Exact | Scheme::Permit2 | Scheme::L402 => {}
        Scheme::Upto => told["amount"] = json!("1858"),
        Scheme::Batch => {
            let batch = BatchPayload::from_value(&sale.payment.payload).unwrap();
            let state = json!({"channelId": sale.payment.payload["voucher"]["channelId"],
                "balance": DEPOSIT.to_string(), "totalClaimed": "0", "withdrawRequestedAt": 0, "refundNonce": "0",
                "chargedCumulativeAmount": (batch.voucher().max_claimable_amount - PRICE + USED).to_string()});
            told["extra"] = json!({"chargedAmount": "1858", "channelState": state});
        }
    }
    if let Value::Object(changes) = changes {
        told.as_object_mut().unwrap().extend(changes);
    }
    ("payment-response", encode_std(told.to_string().as_bytes()))
}

fn serve(sale: &Sale, stream: &mut TcpStream) {
    say(stream, 200, &[result(sale, json!({}))], "served");
}

/// One wallet, and the command as a new process would run it each time.
struct Payer {
    home: TempDir,
    doubts: Mutex<Vec<String>>,
    /// How long it waits for an answer: long enough for a busy machine, unless silence is what is tested.
    waits: Mutex<Duration>,
}

impl Payer {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        Wallet::create(&home.path().join("wallet.json")).unwrap();
        Self { home, doubts: Mutex::default(), waits: Mutex::new(LONG) }
    }

    fn run(&self, url: &str) -> Result<(Response, Vec<u8>), CallError> {
        self.run_with(url, "x")
    }

    fn run_with(&self, url: &str, body: &str) -> Result<(Response, Vec<u8>), CallError> {
        let wallet = self.home.path().join("wallet.json");
        let waits = *self.waits.lock().unwrap();
        let patience = Patience {
            head_max: waits,
            idle_max: waits,
            replays: if waits == LONG { 2 } else { 1 },
            wait_min: Duration::from_millis(1),
            wait_max: Duration::from_millis(50),
        };
        let client = Client::new(
            Dialer::new(&[], Duration::from_secs(5)).unwrap(),
            Policy::up_to(client::parse_cap("0.05usd").unwrap()),
        )
        .with_patience(patience)
        .with_wallet(Wallet::load(&wallet).unwrap())
        .with_folder(Folder::beside(&wallet));
        // A host that misbehaves is left alone after a while; here it is to be tried as often as it takes.
        let host = "127.0.0.1".parse().unwrap();
        let file = self.home.path().join("budget.json");
        client::Budget::change(&file, |budget| budget.reset(&host)).unwrap();
        let request = Request::new(Method::POST, url).unwrap().body(body.to_owned());
        let mut see = |step: Step<'_>| {
            if let Step::Doubt(doubt) = step {
                self.doubts.lock().unwrap().push(doubt.to_owned());
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut response = client.call(&request, &mut see).await?;
            let mut whole = Vec::new();
            while let Ok(Some(chunk)) = response.body.chunk().await {
                whole.extend_from_slice(&chunk);
                if whole.len() > 64 * 1024 {
                    break;
                }
            }
            client.finish(&mut response, &mut see);
            Ok((response, whole))
        })
    }

    fn doubts(&self) -> usize {
        self.doubts.lock().unwrap().len()
    }
}

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    Served,
    Unknown,
    Refused,
}

fn what(run: Result<(Response, Vec<u8>), CallError>) -> Run {
    match run {
        Ok(_) => Run::Served,
        Err(CallError::Unknown { .. }) => Run::Unknown,
        Err(CallError::Refused { .. } | CallError::VoucherRefused { .. }) => Run::Refused,
        Err(error) => panic!("{error}"),
    }
}

/// Runs the same command against a seller that misbehaves, twice, and then against the same one that has become
/// honest: the call is served in the end, and was signed for once.
fn survives(
    situation: &str,
    expected: Run,
    ways: &[Scheme],
    conduct: impl Fn(&Sale, &mut TcpStream) + Clone + Send + Sync + 'static,
) {
    survives_waiting(LONG, situation, expected, ways, conduct);
}

/// The same for a payer who waits so long for an answer.
fn survives_waiting(
    waits: Duration,
    situation: &str,
    expected: Run,
    ways: &[Scheme],
    conduct: impl Fn(&Sale, &mut TcpStream) + Clone + Send + Sync + 'static,
) {
    // A channel pays its first call with a deposit, and every later one with a voucher alone.
    let opened = ways.iter().filter(|way| **way == Scheme::Batch).map(|way| (way, true));
    for (way, opened) in ways.iter().map(|way| (way, false)).chain(opened) {
        let seller = Seller::open(*way, conduct.clone());
        let payer = Payer::new();
        let situation = format!("{situation}, {way}, opened before: {opened}");
        let before = if opened { USED } else { 0 };
        if opened {
            seller.serve_first(&payer);
        }
        *payer.waits.lock().unwrap() = waits;
        for run in 0..2 {
            assert_eq!(what(payer.run(&seller.url())), expected, "{situation}, run {run}");
            seller.assert_paid_once_after(before, &situation);
        }
        seller.become_honest();
        *payer.waits.lock().unwrap() = LONG;
        let (response, body) = payer.run(&seller.url()).unwrap();
        assert!(matches!(response.paid, Paid::Taken { .. }), "{situation}: {:?}", response.paid);
        assert_eq!(body, b"served", "{situation}");
        seller.assert_paid_once_after(before, &format!("{situation}, served"));
        let headers = seller.headers();
        let ours = &headers[usize::from(opened)..];
        // A refused voucher is signed again: of the same sum, and under the header's other random members.
        if !opened || expected == Run::Unknown {
            assert!(ours.iter().all(|value| *value == ours[0]), "{situation}: the same bytes");
        }
        assert_eq!(payer.doubts(), 0, "{situation}");
    }
}

#[test]
fn h01_money_moves_and_nothing_is_answered() {
    survives_waiting(SHORT, "silence", Run::Unknown, &WAYS, |_, _| thread::sleep(Duration::from_secs(3)));
}

#[test]
fn h02_money_moves_and_the_answer_is_an_error() {
    survives("502", Run::Unknown, &WAYS, |_, stream| say(stream, 502, &[], "bad gateway"));
    survives("502 with a body that claims nothing was taken", Run::Unknown, &WAYS, |_, stream| {
        say(stream, 502, &[], r#"{"code": "upstream_failed", "money": "nothing_taken"}"#);
    });
}

#[test]
fn h03_pending_then_served_or_failed() {
    let pending = r#"{"code": "settlement_unknown", "error": {"reason": "settlement_pending"}}"#;
    for way in WAYS {
        for (fails, expected) in [(false, Run::Served), (true, Run::Refused)] {
            let seller = Seller::open(way, move |sale, stream| match sale.number {
                0 => say(stream, 503, &[("retry-after", "0".into())], pending),
                _ if fails => {
                    say(stream, 402, &[("payment-required", challenge("failed", &offer(sale.way)))], "{}")
                }
                _ => serve(sale, stream),
            });
            let payer = Payer::new();
            assert_eq!(what(payer.run(&seller.url())), expected, "{way}");
            let headers = seller.headers();
            assert_eq!(headers.len(), 2, "{way}: asked once more, and with the same bytes");
            assert_eq!(headers[0], headers[1], "{way}");
            seller.assert_paid_once("pending");
        }
    }
}

/// The payer cannot tell it from H1: only the seller, or the end of the signature's time, can.
#[test]
fn h04_nothing_happens_and_nothing_is_said() {
    survives("hang up", Run::Unknown, &WAYS, |_, _| {});
}

/// The payer's own check comes before anything leaves: what he signs stands whatever a facilitator would say. Here the
/// seller says that it does not, for a good signature.
#[test]
fn h05_a_good_payment_is_called_bad() {
    survives("bad signature", Run::Refused, &WAYS, |sale, stream| {
        let said = challenge("invalid_exact_evm_signature", &offer(sale.way));
        say(stream, 402, &[("payment-required", said)], "{}");
    });
}

#[test]
fn h06_an_invented_transaction_is_served_or_not_and_never_paid_again() {
    for way in WAYS {
        let seller = Seller::open(way, |sale, stream| {
            let invented = result(sale, json!({"transaction": "0xnonsense\u{1b}[2J"}));
            say(stream, 500, &[invented], "no answer for you");
        });
        let payer = Payer::new();
        let (response, _) = payer.run(&seller.url()).unwrap();
        assert_eq!(response.status, 500, "{way}");
        let Paid::Taken { transaction, .. } = &response.paid else { panic!("{way}: {:?}", response.paid) };
        assert!(!transaction.contains('\u{1b}'), "{way}");
        seller.assert_paid_once("invented");
    }
}

#[test]
fn h07_failure_is_claimed_although_the_money_moved() {
    survives("success: false", Run::Refused, &WAYS, |sale, stream| {
        let failed = result(sale, json!({"success": false, "errorReason": "insufficient_funds"}));
        let again = ("payment-required", challenge("settlement_failed", &offer(sale.way)));
        say(stream, 402, &[failed, again], "{}");
    });
}

#[test]
fn h08_a_result_that_contradicts_itself() {
    survives("another network", Run::Unknown, &WAYS, |sale, stream| {
        say(stream, 502, &[result(sale, json!({"network": "eip155:1"}))], "");
    });
    // Served with a result that claims what was never agreed: said aloud, and not believed.
    for (way, lie) in [
        (Scheme::Exact, json!({"amount": "10001"})),
        (Scheme::Exact, json!({"payer": OTHER})),
        (Scheme::Permit2, json!({"amount": "9999"})),
        (Scheme::Upto, json!({"amount": "10001"})),
        (Scheme::Upto, json!({"amount": "all of it"})),
        (Scheme::Batch, json!({"extra": {}})),
        (Scheme::Batch, json!({"extra": {"chargedAmount": "10001"}})),
    ] {
        let claim = lie.clone();
        let seller =
            Seller::open(way, move |sale, stream| say(stream, 200, &[result(sale, claim.clone())], "served"));
        let payer = Payer::new();
        let (_, body) = payer.run(&seller.url()).unwrap();
        assert_eq!((body.as_slice(), payer.doubts()), (&b"served"[..], 1), "{way} {lie}");
        seller.assert_paid_once("contradiction");
    }
}

/// X402-27: a channel whose seller contradicts what was agreed signs nothing more, and is left for a withdrawal.
#[test]
fn h08_a_channel_whose_sums_do_not_add_up_signs_nothing_more() {
    let lies: [fn(&mut Value); 5] = [
        |state| state["channelState"]["channelId"] = json!(format!("0x{}", "11".repeat(32))),
        |state| state["channelState"]["chargedCumulativeAmount"] = json!("1859"),
        |state| state["channelState"]["balance"] = json!("39999"),
        |state| {
            state["chargedAmount"] = json!("10001");
            state["channelState"]["chargedCumulativeAmount"] = json!("10001");
        },
        |state| state["channelState"] = Value::Null,
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let seller = Seller::open(Scheme::Batch, move |sale, stream| {
            let (name, honest) = result(sale, json!({}));
            let mut told: Value = wire::x402::decode(&honest).unwrap();
            lie(&mut told["extra"]);
            say(stream, 200, &[(name, encode_std(told.to_string().as_bytes()))], "served");
        });
        let payer = Payer::new();
        payer.run(&seller.url()).unwrap();
        assert_eq!(payer.doubts(), 1, "lie {number}");
        let folder = Folder::beside(&payer.home.path().join("wallet.json"));
        let [channel] = &client::channels(&folder).unwrap()[..] else { panic!("lie {number}") };
        assert!(channel.stopped.is_some(), "lie {number}");
        seller.become_honest();
        payer.run_with(&seller.url(), "another call").unwrap();
        let drawn: Vec<Value> = seller
            .headers()
            .iter()
            .map(|value| decode_payment_signature(value).unwrap().payload["voucher"]["channelId"].clone())
            .collect();
        assert_ne!(drawn[0], drawn[1], "lie {number}: the next call opens another channel");
    }
}

#[test]
fn h09_floods_drips_redirects_and_garbage_in_the_answer() {
    let elsewhere = Upstream::start(|_, stream| say(stream, 200, &[], "stolen"));
    let target = format!("http://{}/", elsewhere.address);
    for way in WAYS {
        // Not followed: neither payment nor key goes along.
        let target = target.clone();
        let seller = Seller::open(way, move |_, stream| {
            say(stream, 307, &[("location", target.clone())], "");
        });
        let payer = Payer::new();
        for _ in 0..2 {
            let run = payer.run(&seller.url());
            assert!(
                matches!(&run, Ok((response, _)) if response.status == 307)
                    || matches!(run, Err(CallError::VoucherRefused { .. })),
                "{way}"
            );
        }
        seller.assert_paid_once("redirect");
    }
    assert_eq!(elsewhere.hits(), 0);
    survives("garbage for a head", Run::Unknown, &WAYS, |_, stream| {
        let _ = stream.write_all(b"\0\0\0 not http at all\r\n\r\n");
    });
    survives("a head that drips", Run::Unknown, &WAYS, |_, stream| {
        for _ in 0..6 {
            if stream.write_all(b"H").is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    });
    survives("10 MiB of refusal", Run::Refused, &WAYS, |_, stream| {
        let head = "HTTP/1.1 402 X\r\nconnection: close\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
        let block = vec![b' '; 64 * 1024];
        for _ in 0..160 {
            if stream.write_all(&block).is_err() {
                return;
            }
        }
    });
    // Results that cannot be read say nothing, and what was served was served.
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    for body in [deep, r#"{"success":true,"success":false}"#.to_owned(), "\0".to_owned()] {
        let value = encode_std(body.as_bytes());
        survives("an unreadable result beside an error", Run::Unknown, &WAYS, move |_, stream| {
            say(stream, 502, &[("payment-response", value.clone())], "");
        });
    }
}

/// What the seller asks for after it was paid is another offer: the payment that was signed stays the only one.
#[test]
fn h10_the_offer_changes_after_the_payment() {
    for way in WAYS {
        for change in [
            json!({"amount": "20000"}),
            json!({"payTo": OTHER}),
            json!({"network": "eip155:8453"}),
            json!({"scheme": "auth-capture"}),
        ] {
            let other = {
                let mut other = offer(way);
                for (name, value) in change.as_object().unwrap() {
                    other[name] = value.clone();
                }
                other
            };
            let seller = Seller::asking(way, json!({}), move |_, stream| {
                say(stream, 402, &[("payment-required", challenge("pay", &other))], "{}");
            });
            let payer = Payer::new();
            assert_eq!(what(payer.run(&seller.url())), Run::Refused, "{way} {change}");
            assert_eq!(what(payer.run(&seller.url())), Run::Refused, "{way} {change}");
            seller.assert_paid_once("another offer");
        }
    }
}

#[test]
fn h11_a_used_nonce_after_an_unknown_is_no_reason_to_sign_another() {
    for way in WAYS {
        let seller = Seller::open(way, |sale, stream| match sale.number {
            0 => {}
            _ => {
                let said = challenge("invalid_exact_evm_nonce_already_used", &offer(sale.way));
                say(stream, 402, &[("payment-required", said)], "{}");
            }
        });
        let payer = Payer::new();
        for _ in 0..3 {
            assert_eq!(what(payer.run(&seller.url())), Run::Refused, "{way}");
        }
        seller.assert_paid_once("nonce used");
    }
}

#[test]
fn h12_money_is_taken_and_asked_for_again() {
    survives("402 with a result", Run::Refused, &WAYS, |sale, stream| {
        let again = ("payment-required", challenge("pay", &offer(sale.way)));
        say(stream, 402, &[result(sale, json!({})), again], "{}");
    });
}

/// A10: whatever is killed in between, what was sent is on the disk, and is what is sent again.
#[test]
fn a10_a_process_that_is_killed_while_it_waits_pays_once() {
    for way in WAYS {
        let seller = Seller::open(way, |_, _| thread::sleep(Duration::from_secs(5)));
        let payer = Payer::new();
        let wallet = payer.home.path().join("wallet.json").display().to_string();
        let mut child = Command::new(binary())
            .args(["curl", "--max", "0.05usd", "-d", "x", "--wallet", &wallet, &seller.url()])
            .env_clear()
            .spawn()
            .unwrap();
        wait_for("a payment", || (!seller.headers().is_empty()).then_some(()));
        child.kill().unwrap();
        child.wait().unwrap();
        seller.become_honest();
        let (_, body) = payer.run(&seller.url()).unwrap();
        assert_eq!(body, b"served", "{way}");
        let headers = seller.headers();
        assert!(headers.len() == 2 && headers[0] == headers[1], "{way}: the same bytes");
        seller.assert_paid_once("killed");
    }
}

/// H12 in the dress of a correction: the channel's seller charges the voucher, refuses it, and asks for the next.
#[test]
fn h12_a_corrective_challenge_for_the_very_call_is_not_paid() {
    for (told, runs) in [("10000", Run::Refused), ("1858", Run::Refused), ("10001", Run::Refused)] {
        let seller = Seller::open(Scheme::Batch, move |sale, stream| {
            let mut asked = offer(Scheme::Batch);
            asked["extra"]["channelState"] = json!({"channelId": sale.payment.payload["voucher"]["channelId"],
                "balance": DEPOSIT.to_string(), "totalClaimed": "0", "withdrawRequestedAt": 0, "refundNonce": "0",
                "chargedCumulativeAmount": told});
            let code = "invalid_batch_settlement_evm_cumulative_amount_mismatch";
            say(stream, 402, &[("payment-required", challenge(code, &asked))], "{}");
        });
        let payer = Payer::new();
        assert_eq!(what(payer.run(&seller.url())), runs, "{told}");
        seller.assert_paid_once("correction");
        assert_eq!((seller.headers().len(), payer.doubts()), (1, 1), "{told}");
    }
}

/// A challenge may be anything; nothing is signed for one that cannot be read, or that says two things.
#[test]
fn a18_challenges_that_lie_are_not_paid() {
    let signed_for_less = {
        let mut asked = offer(Scheme::Exact);
        let entry: v2::PaymentRequirements = serde_json::from_value(asked.clone()).unwrap();
        let promise = wire::x402::offer_receipt::Offer::of_v2(&entry, "http://shop/", None);
        let key = proof::SigningKey::from_bytes(&[1; 32]);
        let signer = proof::x402_attest::Signer::Jws { key: &key, kid: "did:web:shop#1" };
        let promise = proof::x402_attest::sign(signer, promise, Some(0)).unwrap();
        asked["amount"] = json!("10001");
        let required = json!({"x402Version": 2, "resource": {"url": "http://shop/"}, "accepts": [asked],
                              "extensions": {"offer-receipt": {"info": {"offers": [promise]}}}});
        encode_std(required.to_string().as_bytes())
    };
    let with =
        |accepts: Value| encode_std(json!({"x402Version": 2, "accepts": accepts}).to_string().as_bytes());
    let mut dear = offer(Scheme::Exact);
    dear["amount"] = json!("60000");
    let mut strange = offer(Scheme::Exact);
    strange["asset"] = json!(OTHER);
    let mut for_itself = offer(Scheme::Upto);
    for_itself["extra"]["facilitatorAddress"] = json!("0x0000000000000000000000000000000000000000");
    let mut hasty = offer(Scheme::Batch);
    hasty["extra"]["withdrawDelay"] = json!(1);
    let mut greedy = offer(Scheme::Batch);
    greedy["extra"]["minDeposit"] = json!("50000000");
    for (situation, header) in [
        ("above the cap", with(json!([dear]))),
        ("an unknown token", with(json!([strange]))),
        ("nobody may settle", with(json!([for_itself]))),
        ("a delay that no contract has", with(json!([hasty]))),
        ("a deposit above the cap", with(json!([greedy]))),
        ("a signed offer that promises less", signed_for_less),
        ("no offers", with(json!([]))),
        ("garbage", "!!!".to_owned()),
    ] {
        let server = Upstream::start(move |_, stream| {
            say(stream, 402, &[("payment-required", header.clone())], "{}");
        });
        let payer = Payer::new();
        let error = payer.run(&format!("http://{}/", server.address)).unwrap_err();
        assert!(error.to_string().contains("nothing was paid"), "{situation}: {error}");
        assert!(server.seen().iter().all(|seen| seen.header("payment-signature").is_none()), "{situation}");
        let left = std::fs::read_dir(payer.home.path().join("channels"));
        assert_eq!(left.map_or(0, Iterator::count), 0, "{situation}");
    }
}
