//! The client pays invoices: once, within cap and budget, and what they bought goes back to whoever sold it.
//!
//! At 100000 USD a bitcoin a satoshi is 0.001 USD.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::seller::{Payer, Reply, Seen, Seller, challenge, fresh_key, now, post, problem, test_offer};
use crate::budget::{Budget, Limits, SpanCap};
use crate::{
    BudgetError, CallError, Client, FeeMax, Lightning, LightningFile, NodeSettings, Paid, PolicyError,
    PriceSettings, Request, Step, Unpayable,
};
use http::Method;
use rails::dial::Dialer;
use rails::lightning::{Wanted, test_node};
use serde_json::{Value, json};
use wire::hex;
use wire::l402::Preimage;

fn quiet(_: Step<'_>) {}

fn ok() -> Reply {
    Reply::Answer(200, vec![], b"done".to_vec())
}

fn wallet(fee_sat: u64, usd_per_btc: Option<&str>) -> Lightning {
    let price = usd_per_btc.map(|usd| PriceSettings::Fixed { usd_per_btc: usd.to_owned() });
    let fee_max = FeeMax { ppm: 0, sat: fee_sat };
    let file = LightningFile::new(NodeSettings::Test {}, None, price, fee_max).unwrap();
    let dialer = Dialer::new(&[], std::time::Duration::from_secs(5)).unwrap();
    Lightning::open(&file, &dialer).unwrap()
}

fn with_lightning(client: Client) -> Client {
    client.with_lightning(wallet(0, Some("100000")))
}

/// Somebody who pays at most so much a call.
fn payer(max: &str) -> Payer {
    let payer = Payer::new(max);
    Payer { client: with_lightning(payer.client), home: payer.home }
}

fn again(payer: &Payer) -> Client {
    with_lightning(payer.again("0.05usd"))
}

fn invoice(sat: u64, expires_in_s: u32, made_at: u64) -> String {
    let label = "test";
    let wanted = Wanted { amount_msat: sat * 1000, description: "test", expiry_s: expires_in_s, label };
    test_node::mint(&wanted, made_at).unwrap()
}

fn line(token: &str, invoice: &str) -> (&'static str, String) {
    ("www-authenticate", format!(r#"L402 macaroon="{token}", invoice="{invoice}""#))
}

/// A 402 for so many satoshi.
fn ask(token: &str, sat: u64) -> Reply {
    Reply::Answer(402, vec![line(token, &invoice(sat, 300, now()))], b"{}".to_vec())
}

/// An invoice of the recorded ones, by its place.
fn recorded(place: usize) -> String {
    let file: Value =
        serde_json::from_str(include_str!("../../../../specs/vectors/l402/invoices.json")).unwrap();
    file["invoices"][place]["bolt11"].as_str().unwrap().to_owned()
}

/// Scheme, token and preimage that a request shows.
fn proof(seen: &Seen) -> Option<(String, String, Preimage)> {
    let (scheme, rest) = seen.header("authorization")?.split_once(' ')?;
    let (token, preimage) = rest.split_once(':')?;
    Some((scheme.to_owned(), token.to_owned(), Preimage::parse(preimage).unwrap()))
}

fn tokens(seller: &Seller) -> Vec<Option<String>> {
    seller.seen().iter().map(|seen| proof(seen).map(|(_, token, _)| token)).collect()
}

fn shown(names: &[Option<&str>]) -> Vec<Option<String>> {
    names.iter().map(|name| name.map(str::to_owned)).collect()
}

/// Paid, used and held today, in nano-dollars.
fn spent(payer: &Payer) -> (i64, i64, i64) {
    let mut budget = Budget::load(&payer.home.path().join("budget.json")).unwrap();
    let (_, spent, _) = budget.lines(now())[0].spent[1];
    (spent.paid.units(), spent.used.units(), budget.held().1.counted().units())
}

#[tokio::test]
async fn l402_91_92_an_invoice_is_paid_and_its_token_serves_again() {
    let made = Arc::new(Mutex::new(String::new()));
    let last = Arc::clone(&made);
    let seller = Seller::open(move |seen, _| match proof(seen) {
        Some(_) => ok(),
        None => {
            let fresh = invoice(20, 300, now());
            fresh.clone_into(&mut last.lock().unwrap());
            // As old sellers send it; the token is nothing that we could read.
            let value = format!(r#"LSAT invoice={fresh}, token="eyJ9.~_-,x""#);
            let cart = ("www-authenticate", "Payment id=\"x\"".to_owned());
            Reply::Answer(402, vec![cart, ("www-authenticate", value)], b"pay".to_vec())
        }
    })
    .await;
    let payer = payer("0.05usd");
    let mut steps = Vec::new();
    let mut see = |step: Step<'_>| match step {
        Step::PayingInvoice { offer, fee_max_msat, .. } => {
            steps.push(format!("{} {} {}", offer.scheme(), offer.amount(), fee_max_msat));
        }
        Step::InvoicePaid { fee_msat, .. } => steps.push(format!("fee {fee_msat}")),
        Step::TokenSaved => steps.push("kept".to_owned()),
        Step::Request { .. }
        | Step::Challenge(_)
        | Step::Paying { .. }
        | Step::Token { .. }
        | Step::TokenRefused { .. }
        | Step::Resuming { .. }
        | Step::Waiting { .. }
        | Step::Response { .. }
        | Step::KeySaved
        | Step::Warning(_)
        | Step::Doubt(_)
        | Step::Receipt(_) => {}
    };
    let response = payer.client.call(&post(&seller.url("/a?q=1"), "x"), &mut see).await.unwrap();
    let hash = test_node::preimage_of(&made.lock().unwrap()).unwrap().payment_hash().to_string();
    let Paid::Taken { what, transaction } = response.paid else { panic!() };
    assert!(what.starts_with("20 sat (0.02 USD) over Lightning to 03"), "{what}");
    assert_eq!(transaction, hash);
    assert_eq!(steps, ["l402 20000 0", "fee 0", "kept"]);
    let (scheme, token, preimage) = proof(&seller.seen()[1]).unwrap();
    assert_eq!((scheme.as_str(), token.as_str()), ("LSAT", "eyJ9.~_-,x"));
    assert_eq!(preimage.payment_hash().to_string(), hash);
    assert!(payer.pending().is_empty());
    assert_eq!(spent(&payer), (20_000_000, 20_000_000, 0));

    // Another process, another query: the same token, and nothing is paid.
    let response = again(&payer).call(&post(&seller.url("/a?q=2"), "y"), &mut quiet).await.unwrap();
    assert_eq!(response.paid, Paid::Nothing);
    assert_eq!(tokens(&seller), shown(&[None, Some(&token), Some(&token)]));
    assert_eq!(spent(&payer), (20_000_000, 20_000_000, 0));
}

/// L402-92: nothing of this is paid, and each says why.
#[tokio::test]
async fn l402_92_what_is_not_paid() {
    let week_ago = now() - 7 * 86_400;
    let damaged = |text: String| {
        let (start, last) = text.split_at(text.len() - 1);
        format!("{start}{}", if last == "q" { "p" } else { "q" })
    };
    let offer = |invoice: &str| vec![line("AgE=", invoice)];
    for (what, lines, expected) in [
        ("expired", offer(&invoice(20, 300, week_ago)), "the invoice has expired"),
        ("about to expire", offer(&invoice(20, 8, now())), "about to"),
        (
            "of the main chain",
            offer(&recorded(0)),
            "the invoice is of mainnet, the Lightning wallet is on regtest",
        ),
        ("of a test chain", offer(&recorded(2)), "the invoice is of testnet"),
        ("no invoice", offer("lnbcrt1"), "not a BOLT11 invoice"),
        ("a damaged one", offer(&damaged(invoice(20, 300, now()))), "invoice"),
        ("above the cap", offer(&invoice(51, 300, now())), "costs 0.051 USD, the cap is 0.05 USD"),
        ("more than there is", offer(&recorded(5)), "costs 123.456789 USD"),
        (
            "a token that breaks out",
            vec![("www-authenticate", r#"L402 token="a\" X: y", invoice="lnbcrt1""#.to_owned())],
            "no token that can be sent back",
        ),
        (
            "two invoices",
            vec![("www-authenticate", "L402 token=a, invoice=lnbc1, invoice=lnbc2".to_owned())],
            "contradicts itself",
        ),
    ] {
        let seller = Seller::open(move |_, _| {
            // What the body says of a price is not believed.
            let body = json!({"price_sats": 1, "amount": "0.00001"}).to_string();
            Reply::Answer(402, lines.clone(), body.into_bytes())
        })
        .await;
        let payer = payer("0.05usd");
        let error = payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, CallError::Policy(_)), "{what}: {text}");
        assert!(text.contains(expected) && text.contains("nothing was paid"), "{what}: {text}");
        assert_eq!(seller.seen().len(), 1, "{what}");
        assert!(payer.pending().is_empty(), "{what}");
        assert_eq!(spent(&payer), (0, 0, 0), "{what}");
    }
}

#[tokio::test]
async fn l402_92_without_a_wallet_or_a_price_nothing_is_paid() {
    let seller = Seller::open(|_, _| ask("AgE=", 20)).await;
    let request = post(&seller.url("/"), "x");
    let plain = Payer::new("0.05usd");
    let error = plain.client.call(&request, &mut quiet).await.unwrap_err().to_string();
    assert!(error.contains("no Lightning wallet is set: farthing wallet lightning set"), "{error}");
    let blind = Payer::new("0.05usd");
    let client = blind.client.with_lightning(wallet(0, None));
    let quote = client.quote(&request, &mut quiet).await.unwrap().challenge.unwrap();
    assert_eq!(quote.offers[0].terms, Err(Unpayable::NoPrice));
    let error = client.call(&request, &mut quiet).await.unwrap_err().to_string();
    assert!(error.contains("no price of bitcoin is known"), "{error}");
}

/// The highest fee counts before, and what the way did cost afterwards.
#[tokio::test]
async fn l402_92_the_fee_is_within_cap_and_budget() {
    let seller = Seller::open(|seen, _| proof(seen).map_or_else(|| ask("AgE=", 20), |_| ok())).await;
    let request = post(&seller.url("/"), "x");
    let plain = Payer::new("0.05usd");
    let payer = Payer { client: plain.client.with_lightning(wallet(31, Some("100000"))), home: plain.home };
    let error = payer.client.call(&request, &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::Policy(PolicyError::OverCap { .. })), "{error}");
    let client = payer.again("0.05usd").with_lightning(wallet(30, Some("100000")));
    let file = payer.home.path().join("budget.json");
    let cap = |text: &str| {
        let cap: SpanCap = text.parse().unwrap();
        Budget::change(&file, |budget| budget.set(None, Limits::default().with(cap), now()))
            .unwrap()
            .unwrap();
    };
    cap("0.049usd/day");
    let error = client.call(&request, &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::Budget(BudgetError::Over(_))), "{error}");
    cap("0.05usd/day");
    client.call(&request, &mut quiet).await.unwrap();
    assert_eq!(spent(&payer), (20_000_000, 20_000_000, 0), "the test node asks no fee");
}

/// The price is asked for when an invoice is offered; what gives none pays nothing.
#[tokio::test]
async fn l402_92_a_price_that_a_service_tells_holds_the_cap() {
    for (told, expected) in [
        (r#"{"data":{"amount":"100000.00"}}"#, Some(20_000_000)),
        (r#"{"data":{"amount":90000.5}}"#, Some(18_000_100)),
        (r#"{"data":{"amount":"0"}}"#, None),
        (r#"{"data":{}}"#, None),
        ("<html>", None),
    ] {
        let service = Seller::open(move |_, _| Reply::Answer(200, vec![], told.as_bytes().to_vec())).await;
        let seller = Seller::open(|seen, _| proof(seen).map_or_else(|| ask("AgE=", 20), |_| ok())).await;
        let price =
            PriceSettings::Read { url: service.url("/price?k=secret"), pointer: "/data/amount".to_owned() };
        let fee_max = FeeMax { ppm: 0, sat: 0 };
        let file = LightningFile::new(NodeSettings::Test {}, None, Some(price), fee_max).unwrap();
        assert!(!file.shown().unwrap().to_string().contains("secret"));
        let dialer = Dialer::new(&[], std::time::Duration::from_secs(5)).unwrap();
        let plain = Payer::new("0.05usd");
        let client = plain.client.with_lightning(Lightning::open(&file, &dialer).unwrap());
        let payer = Payer { client, home: plain.home };
        let done = payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await;
        assert_eq!(done.is_ok(), expected.is_some(), "{told}");
        assert_eq!(spent(&payer).0, expected.unwrap_or(0), "{told}");
        assert_eq!(service.seen().len(), 1);
    }
}

/// At a seller with receipts a token is money that was not used yet: a call with it is held to cap and budget.
#[tokio::test]
async fn l402_94_what_is_left_of_a_token_is_within_cap_and_budget() {
    let seller = Seller::open(|seen, _| match proof(seen) {
        None => ask("AgE=", 20),
        Some(_) => {
            let receipt = ("farthing-receipt", "req_1".to_owned());
            Reply::Answer(200, vec![receipt], b"done".to_vec())
        }
    })
    .await;
    let payer = payer("0.05usd");
    let request = |body: &str| post(&seller.url("/"), body);
    payer.client.call(&request("1"), &mut quiet).await.unwrap();
    assert_eq!(spent(&payer), (20_000_000, 20_000_000, 20_000_000), "until its receipt says less");
    payer.client.call(&request("2"), &mut quiet).await.unwrap();
    assert_eq!(spent(&payer), (20_000_000, 40_000_000, 40_000_000));
    // More than the cap of this call could be taken: the price is asked first, and it is above the cap.
    let narrow = with_lightning(payer.again("0.01usd"));
    let error = narrow.call(&request("3"), &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::Policy(PolicyError::OverCap { .. })), "{error}");
    let file = payer.home.path().join("budget.json");
    let cap: SpanCap = "0.05usd/day".parse().unwrap();
    Budget::change(&file, |budget| budget.set(None, Limits::default().with(cap), now())).unwrap().unwrap();
    let error = payer.client.call(&request("4"), &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::Budget(BudgetError::Over(_))), "{error}");
    assert_eq!(tokens(&seller), shown(&[None, Some("AgE="), Some("AgE="), None]));
    assert_eq!(spent(&payer), (20_000_000, 40_000_000, 40_000_000));
}

/// 402 for ever: one payment, and the same proof however often the command is repeated.
#[tokio::test]
async fn l402_93_a_seller_that_was_paid_and_asks_again_is_not_paid_again() {
    let seller = Seller::open(|_, number| ask(&format!("token{number}"), 20)).await;
    let payer = payer("0.05usd");
    let request = post(&seller.url("/"), "x");
    for _ in 0..2 {
        let error = again(&payer).call(&request, &mut quiet).await.unwrap_err();
        let CallError::TokenRefused { paid, seconds, .. } = &error else { panic!("{error}") };
        assert!(paid.starts_with("20 sat (0.02 USD)"), "{paid}");
        assert!(
            *seconds > 3000 && error.to_string().contains("was paid, and the seller answered 402"),
            "{error}"
        );
    }
    assert_eq!(tokens(&seller), shown(&[None, Some("token0"), Some("token0")]));
    assert_eq!(spent(&payer), (20_000_000, 20_000_000, 20_000_000));
    // When its time is over another one may be paid for; the test does not wait that long.
    let [name] = &payer.pending()[..] else { panic!() };
    let path = payer.home.path().join("pending").join(name);
    let mut content: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    content["valid_before"] = json!(now() - 61);
    fs::write(&path, content.to_string()).unwrap();
    let error = again(&payer).call(&request, &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::TokenRefused { .. }), "{error}");
    assert_eq!(tokens(&seller)[3..], shown(&[None, Some("token3")]));
    assert!(
        !payer.home.path().join("tokens.json").exists(),
        "what serves nothing is not kept for other calls"
    );
}

#[tokio::test]
async fn l402_93_a_lost_answer_shows_the_same_proof_again() {
    let seller = Seller::open(|seen, number| match proof(seen) {
        None => ask("AgE=", 20),
        Some(_) if number <= 4 => Reply::HangUp,
        Some(_) if number == 5 => problem(503, "busy", vec![("retry-after", "0".into())]),
        Some(_) => ok(),
    })
    .await;
    let payer = payer("0.05usd");
    let request = post(&seller.url("/"), "x");
    let error = payer.client.call(&request, &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::Unknown { .. }), "{error}");
    again(&payer).call(&request, &mut quiet).await.unwrap();
    assert_eq!(seller.seen().len(), 7);
    let shown: Vec<Option<String>> =
        seller.seen().iter().map(|seen| seen.header("authorization").map(str::to_owned)).collect();
    assert!(shown[0].is_none() && shown[1].is_some() && shown[1..].iter().all(|value| *value == shown[1]));
    // A seller like us knows by this that it is one call.
    let names: Vec<Option<String>> =
        seller.seen().iter().map(|seen| seen.header("idempotency-key").map(str::to_owned)).collect();
    assert!(names[1].is_some() && names[1..].iter().all(|name| *name == names[1]));
    assert_eq!(spent(&payer), (20_000_000, 20_000_000, 0));
}

/// A run that was killed between writing the invoice down and paying it, or before it noted the preimage.
async fn interrupted(seller: &Seller, payer: &Payer) -> (Request, PathBuf) {
    let request = post(&seller.url("/"), "x");
    let challenge = payer.client.quote(&request, &mut quiet).await.unwrap().challenge.unwrap();
    let choice = payer.client.choose(&request, &challenge).unwrap();
    let crate::Way::Invoice(terms) = &choice.terms.way else { panic!() };
    let reserved = payer.client.reserve_payment(&request, &choice).unwrap();
    let sending = payer.client.intend(&request, &choice, terms, reserved.as_ref(), None, &mut quiet).unwrap();
    (request, sending.pending.path().to_owned())
}

#[tokio::test]
async fn l402_93_an_interrupted_payment_is_looked_up_and_no_other_invoice_is_paid() {
    let seller = Seller::open(|seen, number| match proof(seen) {
        None => ask(&format!("token{number}"), 20),
        Some(_) => ok(),
    })
    .await;
    let payer = payer("0.05usd");
    let (request, path) = interrupted(&seller, &payer).await;
    let before = fs::metadata(&path).unwrap().len();
    let mut resumed = 0;
    let mut see = |step: Step<'_>| resumed += usize::from(matches!(step, Step::Resuming { .. }));
    // The cap of now is not asked: it counts already, and this is how its answer is reached.
    payer.again("0.001usd").with_lightning(wallet(0, None)).call(&request, &mut see).await.unwrap();
    assert_eq!(resumed, 1);
    assert_eq!(tokens(&seller), shown(&[None, Some("token0")]));
    assert_eq!(spent(&payer), (20_000_000, 20_000_000, 0));
    assert!(payer.pending().is_empty() && before > 0);
}

/// What one wallet has begun no other goes on with: both could pay.
#[tokio::test]
async fn l402_93_another_wallet_does_not_go_on() {
    let seller = Seller::open(|_, _| ask("AgE=", 20)).await;
    let payer = payer("0.05usd");
    let (request, path) = interrupted(&seller, &payer).await;
    let error = payer.again("0.05usd").call(&request, &mut quiet).await.unwrap_err();
    assert!(error.to_string().contains("no Lightning wallet is set any more"), "{error}");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace(r#""wallet": "test""#, r#""wallet": "lnd https://old.example""#)).unwrap();
    let error = again(&payer).call(&request, &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::Unknown { .. }), "{error}");
    assert!(error.to_string().contains("another Lightning wallet, lnd https://old.example"), "{error}");
    assert_eq!(tokens(&seller), shown(&[None]));
    assert_eq!(payer.pending().len(), 1);
}

/// A preimage that was cut off while it was written is none: the wallet gives it again.
#[tokio::test]
async fn l402_93_a_torn_preimage_is_asked_for_again() {
    let seller = Seller::open(|seen, number| match proof(seen) {
        None => ask("AgE=", 20),
        Some(_) if number <= 4 => Reply::HangUp,
        Some(_) => ok(),
    })
    .await;
    let payer = payer("0.05usd");
    let request = post(&seller.url("/"), "x");
    let error = payer.client.call(&request, &mut quiet).await.unwrap_err();
    let CallError::Unknown { path, .. } = error else { panic!("{error}") };
    let (_, _, preimage) = proof(&seller.seen()[1]).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let whole = hex::encode(preimage.as_bytes());
    let torn = format!("{}{}", &whole[..20], "0".repeat(44));
    assert!(text.contains(&whole));
    fs::write(&path, text.replace(&whole, &torn)).unwrap();
    again(&payer).call(&request, &mut quiet).await.unwrap();
    let sent = proof(seller.seen().last().unwrap()).unwrap().2;
    assert_eq!(sent.as_bytes(), preimage.as_bytes());
}

/// The wallet says no: nothing was paid, nothing counts, and the next run begins anew.
#[tokio::test]
async fn l402_93_what_the_wallet_did_not_pay_is_not_spent() {
    let seller = Seller::open(|seen, number| match (proof(seen), number) {
        (Some(_), _) => ok(),
        // Of the test chain, and of no test node.
        (None, 0) => Reply::Answer(402, vec![line("AgE=", &recorded(1))], vec![]),
        (None, _) => ask("AgF=", 4),
    })
    .await;
    let payer = payer("0.05usd");
    let request = post(&seller.url("/"), "x");
    let error = payer.client.call(&request, &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::NotPaid { .. }), "{error}");
    assert!(error.to_string().contains("not an invoice of the test node; nothing was paid"), "{error}");
    assert_eq!((spent(&payer), payer.pending().len()), ((0, 0, 0), 0));
    again(&payer).call(&request, &mut quiet).await.unwrap();
    assert_eq!(tokens(&seller), shown(&[None, None, Some("AgF=")]));
}

#[tokio::test]
async fn l402_94_a_used_up_token_is_paid_anew_within_the_budget() {
    let used = Arc::new(Mutex::new(0));
    let count = Arc::clone(&used);
    let seller = Seller::open(move |seen, number| {
        let Some((_, token, _)) = proof(seen) else { return ask(&format!("token{number}"), 20) };
        let mut used = count.lock().unwrap();
        *used += 1;
        // Each token is good for two calls.
        if token == "token0" && *used > 2 { ask("token3", 20) } else { ok() }
    })
    .await;
    let payer = payer("0.05usd");
    let file = payer.home.path().join("budget.json");
    let cap: SpanCap = "0.05usd/day".parse().unwrap();
    Budget::change(&file, |budget| budget.set(None, Limits::default().with(cap), now())).unwrap().unwrap();
    let mut refused = 0;
    for body in ["1", "2", "3", "4"] {
        let mut see = |step: Step<'_>| refused += usize::from(matches!(step, Step::TokenRefused { .. }));
        again(&payer).call(&post(&seller.url("/"), body), &mut see).await.unwrap();
    }
    let (first, second) = (Some("token0"), Some("token3"));
    assert_eq!(tokens(&seller), shown(&[None, first, first, first, second, second]));
    assert_eq!((refused, spent(&payer)), (1, (40_000_000, 40_000_000, 0)));
    let kept = fs::read_to_string(payer.home.path().join("tokens.json")).unwrap();
    assert!(!kept.contains("token0") && kept.contains("token3"));
    // The third would be above the cap of the day.
    fs::remove_file(payer.home.path().join("tokens.json")).unwrap();
    let error = again(&payer).call(&post(&seller.url("/"), "5"), &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::Budget(BudgetError::Over(_))), "{error}");
    assert_eq!(seller.seen().len(), 7);
}

#[tokio::test]
async fn l402_94_a_token_for_another_path_is_dropped_there_only() {
    let seller = Seller::open(|seen, _| match proof(seen) {
        None => ask(&seen.path[1..], 10),
        Some((_, token, _)) if seen.path == format!("/{token}") || seen.path == "/all" => ok(),
        Some(_) if seen.path == "/b" => problem(403, "no", vec![]),
        Some(_) => problem(402, "no", vec![]),
    })
    .await;
    let payer = payer("0.05usd");
    for path in ["/a", "/all", "/b", "/a", "/b"] {
        let response = again(&payer).call(&post(&seller.url(path), "x"), &mut quiet).await.unwrap();
        assert_eq!(response.status, 200, "{path}");
    }
    let (a, b) = (Some("a"), Some("b"));
    // To /b the token of /a went once, then an unpaid question, then what was bought for it.
    assert_eq!(tokens(&seller), shown(&[None, a, a, a, None, b, a, b]));
    assert_eq!(spent(&payer).0, 20_000_000);
}

#[tokio::test]
async fn l402_94_a_token_goes_to_no_other_origin() {
    let seller = Seller::open(|seen, _| proof(seen).map_or_else(|| ask("AgE=", 20), |_| ok())).await;
    let other = Seller::open(|_, _| ok()).await;
    let there = format!("http://127.0.0.1:{}/", other.port);
    let away = Seller::open(move |seen, _| match proof(seen) {
        None => ask("AgF=", 20),
        Some(_) => Reply::Answer(307, vec![("location", there.clone())], vec![]),
    })
    .await;
    let payer = payer("0.05usd");
    payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
    let response = payer.client.call(&post(&away.url("/"), "x"), &mut quiet).await.unwrap();
    assert_eq!(response.status, 307, "not followed");
    assert!(matches!(response.paid, Paid::Taken { .. }), "what was paid was paid");
    assert!(other.seen().is_empty());
    payer.client.call(&post(&other.url("/"), "x"), &mut quiet).await.unwrap();
    assert_eq!(tokens(&other), shown(&[None]));
    let far = Request::new(Method::POST, "http://far.example/").unwrap();
    assert!(payer.client.token_for(&far).unwrap().is_none());
}

/// A seller that is paid and then busy for ever: its answer is handed on, and what it was paid for stays.
#[tokio::test]
async fn l402_93_a_paid_seller_that_cannot_serve_is_not_paid_again() {
    let seller = Seller::open(|seen, number| match proof(seen) {
        None => ask("AgE=", 20),
        Some(_) if number <= 4 => problem(502, "upstream_failed", vec![("retry-after", "0".into())]),
        Some(_) => ok(),
    })
    .await;
    let payer = payer("0.05usd");
    let response = payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
    assert_eq!(response.status, 502);
    assert!(matches!(response.paid, Paid::Taken { .. }));
    assert!(payer.pending().is_empty());
    again(&payer).call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
    assert_eq!(tokens(&seller)[1..], shown(&[Some("AgE="); 5]));
    assert_eq!(spent(&payer).0, 20_000_000);
}

/// With a key that has too little the payment goes into the key's account: its token opens nothing alone, and is not
/// kept.
#[tokio::test]
async fn l402_94_beside_a_key_the_payment_tops_up_its_account() {
    let seller = Seller::open(|seen, _| {
        let key = seen.header("x-api-key").map(str::to_owned);
        match (proof(seen), key) {
            (Some(_), Some(key)) if key.starts_with("fk_test_") => ok(),
            (Some(_), _) => problem(402, "no key", vec![]),
            (None, _) => ask("AgE=", 20),
        }
    })
    .await;
    let payer = payer("0.05usd");
    let file = payer.home.path().join("keys.json");
    let key = crate::Secret::new(fresh_key(1));
    crate::keyring::save(&file, &seller.url(""), &key, Some(money::Asset::Test)).unwrap();
    payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
    assert!(!payer.home.path().join("tokens.json").exists());
    // One whose account holds something else stays out of it.
    crate::keyring::save(&file, &seller.url(""), &key, Some(money::Asset::Usdc)).unwrap();
    let error = payer.client.call(&post(&seller.url("/"), "y"), &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::TokenRefused { .. }), "{error}");
}

/// A seller like us gives a key for what is left: it goes first, because it can be narrowed.
#[tokio::test]
async fn l402_94_a_credit_key_that_came_with_it_goes_first() {
    let seller = Seller::open(|seen, _| match seen.header("authorization") {
        None => ask("AgE=", 20),
        Some(value) if value.starts_with("L402 ") => {
            Reply::Answer(502, vec![("farthing-key", fresh_key(1))], b"upstream".to_vec())
        }
        Some(_) => ok(),
    })
    .await;
    let payer = payer("0.05usd");
    let response = payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
    assert_eq!(response.status, 502);
    assert_eq!(spent(&payer), (20_000_000, 0, 0), "paid, and not used yet");
    payer.client.call(&post(&seller.url("/"), "y"), &mut quiet).await.unwrap();
    let last = seller.seen().pop().unwrap();
    let key = last.header("authorization").unwrap().strip_prefix("Bearer ").unwrap().to_owned();
    assert_eq!(super::seller::per_call(&key), ["per_call=TEST:50000000"]);
}

#[tokio::test]
async fn l402_92_the_cheaper_of_transfer_and_invoice_is_paid() {
    for (sat, schemes, expected) in [
        (19, None, "l402"),
        (20, None, "exact"),
        (21, None, "exact"),
        (21, Some(vec![crate::Scheme::L402]), "l402"),
        (19, Some(vec![crate::Scheme::Exact, crate::Scheme::L402]), "exact"),
    ] {
        let seller = Seller::open(move |_, _| {
            let Reply::Answer(status, mut headers, body) = challenge(&[super::seller::usdc_offer(20_000)])
            else {
                unreachable!()
            };
            headers.push(line("dear", &invoice(40, 300, now())));
            headers.push(line("cheap", &invoice(sat, 300, now())));
            Reply::Answer(status, headers, body)
        })
        .await;
        let mut payer = payer("0.05usd");
        payer.client.policy.schemes.clone_from(&schemes);
        let request = post(&seller.url("/"), "x");
        let challenge = payer.client.quote(&request, &mut quiet).await.unwrap().challenge.unwrap();
        let chosen = payer.client.choose(&request, &challenge).unwrap();
        let is_cheapest =
            chosen.offer.scheme() != "l402" || chosen.offer.amount() == (sat * 1000).to_string();
        assert!(chosen.offer.scheme() == expected && is_cheapest, "{sat} {schemes:?}: {:?}", chosen.offer);
    }
}

/// Who has no other wallet pays invoices and nothing else.
#[tokio::test]
async fn l402_92_a_lightning_wallet_alone_pays_invoices() {
    let seller = Seller::open(|seen, _| {
        if proof(seen).is_some() {
            return ok();
        }
        let Reply::Answer(status, mut headers, body) = challenge(&[test_offer(1_000)]) else {
            unreachable!()
        };
        headers.push(line("AgE=", &invoice(20, 300, now())));
        Reply::Answer(status, headers, body)
    })
    .await;
    let mut payer = payer("0.05usd");
    payer.client.wallet = None;
    payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
    assert_eq!(tokens(&seller), shown(&[None, Some("AgE=")]));
}

/// More header than any challenge needs is no answer.
#[tokio::test]
async fn l402_90_a_huge_header_is_not_read() {
    let seller = Seller::open(|_, _| {
        let value =
            format!("L402 token=\"{}\", invoice=\"{}\"", "a".repeat(10 << 20), invoice(20, 300, now()));
        Reply::Answer(402, vec![("www-authenticate", value)], vec![])
    })
    .await;
    let payer = payer("0.05usd");
    let error = payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap_err();
    assert!(matches!(error, CallError::Network(_)), "{error}");
    assert!(payer.pending().is_empty());
}

#[tokio::test]
async fn l402_95_files_are_private_and_debug_shows_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let seller =
        Seller::open(|seen, _| proof(seen).map_or_else(|| ask("secrettoken", 20), |_| Reply::HangUp)).await;
    let payer = payer("0.05usd");
    let request = post(&seller.url("/"), "x");
    let mut steps = String::new();
    let error =
        payer.client.call(&request, &mut |step| steps.push_str(&format!("{step:?}"))).await.unwrap_err();
    let CallError::Unknown { path, .. } = &error else { panic!("{error}") };
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    let preimage = hex::encode(proof(&seller.seen()[1]).unwrap().2.as_bytes());
    let told = format!("{steps} {error} {error:?} {:?}", payer.client);
    assert!(!told.contains("secrettoken") && !told.contains(&preimage));
    assert!(fs::read_to_string(path).unwrap().contains(&preimage));
}
