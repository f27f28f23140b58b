//! Permit2, `upto` and channels against a seller that checks what it gets as a real one does.

use std::sync::Arc;

use proof::x402_batch::{self, Mirror, Verdict as Held};
use proof::x402_permit2::{self, Spends};
use serde_json::{Value, json};
use wire::x402::batch::{BatchPayload, ResponseExtra};
use wire::x402::{self, Permit2Payload, SettlementResponse, v2};

use super::seller::{PAYEE, Payer, Reply, Seen, Seller, TOKEN, fresh_key, now, papers, post, till};
use crate::budget::{Budget, Limits, SpanCap, Spent};
use crate::{CallError, Channel, Folder, Paid, Scheme, Step, channels, now_unix_s, parse_cap};
use proof::x402_exact::EvmToken;

const NETWORK: &str = "eip155:84532";
const AUTHORIZER: &str = "0x14dC79964da2C08b23698B3D3cc7Ca32193d9955";

fn quiet(_: Step<'_>) {}

fn token() -> Arc<EvmToken> {
    Arc::new(EvmToken::new(NETWORK, TOKEN.parse().unwrap(), "USDC", "2").unwrap())
}

fn permit_offer(spends: Spends) -> x402_permit2::Offer {
    x402_permit2::Offer {
        token: token(),
        pay_to: PAYEE.parse().unwrap(),
        amount: 20_000,
        spends,
        max_timeout_s: 300,
        margin_s: 200,
        quote: None,
    }
}

fn upto() -> x402_permit2::Offer {
    permit_offer(Spends::Upto { facilitator: AUTHORIZER.parse().unwrap() })
}

pub(super) fn batch_offer(amount: u128) -> x402_batch::Offer {
    x402_batch::Offer {
        token: token(),
        receiver: PAYEE.parse().unwrap(),
        receiver_authorizer: AUTHORIZER.parse().unwrap(),
        withdraw_delay: 900,
        min_deposit: Some(40_000),
        amount,
        max_timeout_s: 3_600,
        quote: Some("q".into()),
    }
}

pub(super) fn challenge_of(
    status: u16,
    error: &str,
    accepts: Vec<v2::PaymentRequirements>,
    extensions: Option<Value>,
) -> Reply {
    let required = v2::PaymentRequired {
        x402_version: 2,
        error: Some(error.to_owned()),
        resource: None,
        accepts,
        extensions: extensions.map(|value| value.as_object().unwrap().clone()),
    };
    Reply::Answer(status, vec![("payment-required", x402::encode(&required))], b"{}".to_vec())
}

pub(super) fn payment(seen: &Seen) -> Option<v2::PaymentPayload> {
    seen.header("payment-signature").map(|value| x402::decode_payment_signature(value).unwrap())
}

fn result(amount: Option<&str>, extra: Option<ResponseExtra>) -> (&'static str, String) {
    let told = SettlementResponse {
        success: true,
        transaction: "0xabc".into(),
        network: NETWORK.into(),
        amount: amount.map(str::to_owned),
        extra: extra.map(|extra| extra.to_extra()),
        ..SettlementResponse::default()
    };
    ("payment-response", x402::encode(&told))
}

/// Paid, used and held today, in micro-dollars.
pub(super) fn spent(payer: &Payer) -> (i64, i64, i64) {
    let mut budget = Budget::load(&payer.home.path().join("budget.json")).unwrap();
    let (_, Spent { paid, used }, _) = budget.lines(now_unix_s())[0].spent[1];
    (paid.units() / 1_000, used.units() / 1_000, budget.held().1.counted().units() / 1_000)
}

pub(super) fn kept(payer: &Payer) -> Vec<Channel> {
    channels(&Folder::beside(&payer.home.path().join("wallet.json"))).unwrap()
}

fn limit(payer: &Payer, cap: &str) {
    let limits = Limits::default().with(cap.parse::<SpanCap>().unwrap());
    let file = payer.home.path().join("budget.json");
    Budget::change(&file, |budget| budget.set(None, limits, now_unix_s())).unwrap().unwrap();
}

/// X402-34 beside: the payment has a name, the same one as often as it is sent.
#[tokio::test]
async fn exact_by_permit2_is_signed_for_the_proxy_and_named() {
    let offer = permit_offer(Spends::Exact);
    let seller = Seller::open(move |seen, number| {
        let Some(payment) = payment(seen) else {
            let extensions = json!({"payment-identifier": {"info": {"required": true}, "schema": {}}});
            return challenge_of(402, "pay", vec![offer.requirements_v2()], Some(extensions));
        };
        let payload = Permit2Payload::from_value(&payment.payload).unwrap();
        x402_permit2::verify(&offer, &payload, now()).unwrap();
        let name = wire::x402::payment_identifier::name(payment.extensions.as_ref(), true).unwrap();
        assert_eq!(name.unwrap().len(), 32);
        assert_eq!(payment.extensions.unwrap()["payment-identifier"]["schema"], json!({}));
        if number == 1 { Reply::HangUp } else { Reply::Answer(200, vec![result(None, None)], vec![]) }
    })
    .await;
    let payer = Payer::new("0.05usd");
    let response = payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
    assert!(matches!(&response.paid, Paid::Taken { what, .. } if what.starts_with("0.02 USDC to ")));
    let payments = seller.payments();
    assert_eq!(payments.len(), 2);
    assert_eq!(payments[0], payments[1]);
    assert_eq!(spent(&payer), (20_000, 20_000, 0));
}

#[tokio::test]
async fn a_missing_allowance_is_explained_and_the_same_permit_is_sent_once_it_is_there() {
    for spends in [Spends::Exact, Spends::Upto { facilitator: AUTHORIZER.parse().unwrap() }] {
        let offer = permit_offer(spends);
        let mut allowed = false;
        let seller = Seller::open(move |seen, number| {
            allowed |= number > 1;
            match seen.payment() {
                None => challenge_of(402, "pay", vec![offer.requirements_v2()], None),
                Some(_) if allowed => Reply::Answer(200, vec![result(Some("20000"), None)], vec![]),
                Some(_) => {
                    challenge_of(412, "permit2_allowance_required", vec![offer.requirements_v2()], None)
                }
            }
        })
        .await;
        let payer = Payer::new("0.05usd");
        let request = post(&seller.url("/"), "x");
        let error = payer.client.call(&request, &mut quiet).await.unwrap_err();
        let CallError::Allowance(missing) = &error else { panic!("{error}") };
        assert_eq!(
            (missing.token.as_str(), missing.permit2.as_str()),
            (TOKEN, "0x000000000022D473030F116dDEE9F6B43aC78BA3")
        );
        assert!(error.to_string().contains("nothing was paid"), "{error}");
        assert_eq!(payer.pending().len(), 1);
        // Approved by now: the permit that was signed is the one that is taken.
        payer.again("0.05usd").call(&request, &mut quiet).await.unwrap();
        let payments = seller.payments();
        assert_eq!((payments.len(), payer.pending().len()), (2, 0));
        assert_eq!(payments[0], payments[1]);
    }
}

#[tokio::test]
async fn upto_counts_the_ceiling_until_the_result_says_what_was_taken() {
    let offer = upto();
    let seller = Seller::open(move |seen, _| {
        let Some(payment) = payment(seen) else {
            return challenge_of(402, "pay", vec![offer.requirements_v2()], None);
        };
        let payload = Permit2Payload::from_value(&payment.payload).unwrap();
        x402_permit2::verify(&offer, &payload, now()).unwrap();
        assert_eq!(seen.header("te"), Some("trailers"));
        let told = match seen.path.as_str() {
            "/buffered" => vec![result(Some("1858"), None)],
            "/more" => vec![result(Some("20001"), None)],
            "/garbage" => vec![result(Some("-1"), None)],
            _ => vec![],
        };
        Reply::Answer(200, told, b"done".to_vec())
    })
    .await;
    for (path, counted, doubts) in [
        ("/buffered", (1_858, 1_858, 0), 0),
        ("/silent", (20_000, 20_000, 20_000), 0),
        ("/more", (20_000, 20_000, 20_000), 1),
        ("/garbage", (20_000, 20_000, 20_000), 1),
    ] {
        let payer = Payer::new("0.05usd");
        limit(&payer, "0.03usd/day");
        let mut seen_doubts = 0;
        let mut see = |step: Step<'_>| seen_doubts += usize::from(matches!(step, Step::Doubt(_)));
        let request = post(&seller.url(path), "x");
        let mut response = payer.client.call(&request, &mut see).await.unwrap();
        while response.body.chunk().await.unwrap().is_some() {}
        payer.client.finish(&mut response, &mut see);
        assert_eq!((spent(&payer), seen_doubts), (counted, doubts), "{path}");
        // What is not known to be free is not spent again.
        let next = payer.again("0.05usd").call(&post(&seller.url("/silent"), "y"), &mut quiet).await;
        assert_eq!(next.is_ok(), path == "/buffered", "{path}");
    }
}

/// The gateway streams, so what was taken comes behind the last byte.
#[tokio::test]
async fn upto_reads_the_result_from_the_trailers() {
    let offer = upto();
    let seller = Seller::open(move |seen, _| match seen.payment() {
        None => challenge_of(402, "pay", vec![offer.requirements_v2()], None),
        Some(_) => Reply::Trailers(b"tokens".to_vec(), result(Some("1858"), None)),
    })
    .await;
    let payer = Payer::new("0.05usd");
    let mut response = payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
    assert!(matches!(&response.paid, Paid::Promised { what } if what.starts_with("up to 0.02 USDC to ")));
    assert_eq!(spent(&payer), (20_000, 20_000, 20_000));
    while response.body.chunk().await.unwrap().is_some() {}
    payer.client.finish(&mut response, &mut quiet);
    assert!(matches!(&response.paid, Paid::Taken { what, .. } if what.starts_with("0.001858 USDC to ")));
    assert_eq!(spent(&payer), (1_858, 1_858, 0));
}

/// A signed receipt says it where nothing else does: `facts` charges 415.6 micro-dollars, of which whole ones move.
#[tokio::test]
async fn upto_reads_the_receipt_where_nothing_else_says_it() {
    let offer = upto();
    let seller = Seller::open(move |seen, _| {
        if let Some(paper) = papers(seen, &till(), &till()) {
            return paper;
        }
        match seen.payment() {
            None => challenge_of(402, "pay", vec![offer.requirements_v2()], None),
            Some(_) => Reply::Answer(
                200,
                vec![("farthing-receipt", "req_1".into()), ("farthing-key", fresh_key(1))],
                vec![],
            ),
        }
    })
    .await;
    let payer = Payer::new("0.05usd");
    let mut response = payer.client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
    payer.client.finish(&mut response, &mut quiet);
    assert_eq!(spent(&payer), (20_000, 20_000, 20_000));
    payer.client.receipt(response.receipt.as_ref().unwrap(), &mut quiet).await.unwrap();
    assert_eq!(spent(&payer), (416, 415, 0));
}

/// An honest seller of channels, with the gateway's own checks. `books` are the channels as it keeps them.
#[derive(Clone, Default)]
pub(super) struct Till {
    pub(super) books: Arc<std::sync::Mutex<std::collections::BTreeMap<[u8; 32], x402_batch::Channel>>>,
}

impl Till {
    /// Serves one call of `amount`, which uses `used`.
    pub(super) fn serve(&self, seen: &Seen, amount: u128, used: u128) -> Reply {
        let offer = batch_offer(amount);
        let Some(payment) = payment(seen) else {
            return challenge_of(402, "pay", vec![offer.requirements_v2()], None);
        };
        let payload = BatchPayload::from_value(&payment.payload).unwrap();
        let voucher = x402_batch::verify(&offer, payload.channel_config(), payload.voucher()).unwrap();
        let mut books = self.books.lock().unwrap();
        let channel =
            books.entry(voucher.channel_id).or_insert_with(|| x402_batch::Channel::opened(mirror()));
        if let BatchPayload::Deposit { deposit, .. } = &payload {
            x402_batch::deposit::verify(&offer, &voucher, deposit, now()).unwrap();
            *channel = channel.with_deposit(deposit.amount);
        }
        if let BatchPayload::Refund { amount, .. } = &payload {
            let refund = channel.refund(&voucher, *amount).unwrap();
            channel.mirror.balance -= refund.amount;
            let extra = ResponseExtra {
                charged_amount: None,
                channel_state: Some(channel.state(voucher.channel_id)),
                voucher_state: None,
            };
            return Reply::Answer(200, vec![result(Some(&refund.amount.to_string()), Some(extra))], vec![]);
        }
        match channel.accept(&voucher, amount, now()) {
            Held::Accepted(acceptance) => {
                let before = channel.charged;
                *channel = channel.charge_metered(&acceptance, used);
                let extra = ResponseExtra {
                    charged_amount: Some(channel.charged - before),
                    channel_state: Some(channel.state(voucher.channel_id)),
                    voucher_state: None,
                };
                Reply::Answer(200, vec![result(Some(""), Some(extra))], b"done".to_vec())
            }
            Held::Corrective { error, voucher: shows } => {
                let state = channel.state(voucher.channel_id);
                let shown = channel.voucher_state().filter(|_| shows);
                let accepts = vec![offer.corrective_v2(&state, shown.as_ref())];
                challenge_of(402, error.scheme_code().unwrap(), accepts, None)
            }
            Held::Refused(error) => challenge_of(402, error.scheme_code().unwrap(), vec![], None),
        }
    }
}

fn mirror() -> Mirror {
    Mirror {
        balance: 0,
        total_claimed: 0,
        withdrawing: 0,
        withdraw_requested_at: 0,
        refund_nonce: [0; 32],
        synced_at_s: now(),
    }
}

#[tokio::test]
async fn a_channel_is_opened_once_and_pays_call_after_call() {
    let books = Till::default();
    let serving = books.clone();
    let seller = Seller::open(move |seen, _| serving.serve(seen, 10_000, 1_858)).await;
    let payer = Payer::new("0.05usd");
    for (number, counted) in [(1, (40_000, 1_858, 0)), (2, (40_000, 3_716, 0)), (3, (40_000, 5_574, 0))] {
        let request = post(&seller.url("/v1/chat"), &number.to_string());
        let response = payer.again("0.05usd").call(&request, &mut quiet).await.unwrap();
        assert!(
            matches!(&response.paid, Paid::Taken { what, .. } if what.starts_with("0.001858 USDC from channel 0x")),
            "{:?}",
            response.paid
        );
        assert_eq!(spent(&payer), counted, "what left the wallet is the deposit, what was used is metered");
    }
    let [channel] = &kept(&payer)[..] else { panic!() };
    assert_eq!((channel.charged, channel.balance, channel.is_in_flight()), (5_574, 40_000, false));
    assert_eq!(channel.signed.as_ref().unwrap().max_claimable_amount, 13_716);
    assert_eq!(channel.free(), 26_284);
    let kinds: Vec<Value> =
        seller.seen().iter().filter_map(payment).map(|payment| payment.payload["type"].clone()).collect();
    assert_eq!(kinds, ["deposit", "voucher", "voucher"]);
    assert!(payer.pending().is_empty());
    // It runs dry: what is missing is put in, at least what the seller wants.
    for number in 4..30 {
        payer.client.call(&post(&seller.url("/"), &number.to_string()), &mut quiet).await.unwrap();
    }
    let [channel] = &kept(&payer)[..] else { panic!() };
    assert_eq!((channel.charged, channel.balance), (29 * 1_858, 80_000));
    assert_eq!(books.books.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_deposit_is_within_cap_and_budget_or_is_not_made() {
    let serving = Till::default();
    let seller = Seller::open(move |seen, _| serving.serve(seen, 10_000, 1_858)).await;
    let url = seller.url("/");
    for (max, deposit, budget, expected) in [
        ("0.03usd", None, None, Some("needs 0.04 USD put in at least, --deposit allows 0.03 USD")),
        ("0.03usd", Some("0.04usd"), None, None),
        ("0.04usd", None, None, None),
        ("0.05usd", Some("0.03usd"), None, Some("--deposit allows 0.03 USD")),
        (
            "0.05usd",
            None,
            Some("0.039usd/day"),
            Some("the channel needs 0.04 USD put in: the budget is 0.039 USD a day"),
        ),
        ("0.009usd", Some("0.04usd"), None, Some("the cap is 0.009 USD")),
    ] {
        let payer = Payer::new(max);
        if let Some(cap) = budget {
            limit(&payer, cap);
        }
        let mut client = payer.again(max);
        client.policy.deposit_max = deposit.map(|text| parse_cap(text).unwrap());
        let answer = client.call(&post(&url, "x"), &mut quiet).await;
        match (answer, expected) {
            (Ok(_), None) => assert_eq!(spent(&payer), (40_000, 1_858, 0)),
            (Err(error), Some(expected)) => {
                assert!(error.to_string().contains(expected), "{max} {deposit:?} {budget:?}: {error}");
                assert!(kept(&payer).is_empty() && payer.pending().is_empty());
            }
            (answer, expected) => panic!("{answer:?} instead of {expected:?}"),
        }
    }
}

/// The order among offers, and what a caller's own list makes of it.
#[tokio::test]
async fn an_open_channel_goes_first_and_a_list_of_schemes_decides() {
    let serving = Till::default();
    let exact = super::seller::usdc_offer(10_000);
    let seller = Seller::open(move |seen, _| {
        let scheme = payment(seen).map(|payment| payment.accepted.scheme);
        match scheme.as_deref() {
            None => {
                let accepts = vec![
                    upto().requirements_v2(),
                    batch_offer(10_000).requirements_v2(),
                    exact.requirements_v2(),
                ];
                challenge_of(402, "pay", accepts, None)
            }
            Some("batch-settlement") => serving.serve(seen, 10_000, 1_858),
            Some(_) => Reply::Answer(200, vec![], vec![]),
        }
    })
    .await;
    let payer = Payer::new("0.05usd");
    let mut number = 0;
    for (schemes, deposit, expected) in [
        (vec![], None, "exact"),
        (vec![Scheme::Upto, Scheme::Exact], None, "upto"),
        (vec![Scheme::Batch, Scheme::Exact], None, "batch-settlement"),
        (vec![], None, "batch-settlement"),
        (vec![Scheme::Exact], None, "exact"),
    ] {
        let mut client = payer.again("0.05usd");
        client.policy.schemes = (!schemes.is_empty()).then_some(schemes);
        client.policy.deposit_max = deposit;
        number += 1;
        client.call(&post(&seller.url("/"), &number.to_string()), &mut quiet).await.unwrap();
        let last = seller.seen().last().and_then(payment).unwrap();
        assert_eq!(last.accepted.scheme, expected, "call {number}");
    }
    let other = Payer::new("0.05usd");
    let mut client = other.again("0.05usd");
    client.policy.deposit_max = Some(parse_cap("0.04usd").unwrap());
    client.call(&post(&seller.url("/"), "x"), &mut quiet).await.unwrap();
    assert_eq!(kept(&other).len(), 1, "whoever names a deposit wants a channel");
}

/// X402-24: calls at the same time take channels of their own, and no voucher is signed twice.
#[tokio::test]
async fn calls_at_the_same_time_take_channels_of_their_own() {
    let books = Till::default();
    let serving = books.clone();
    let seller = Seller::open(move |seen, _| serving.serve(seen, 10_000, 1_858)).await;
    let payer = Payer::new("0.05usd");
    let url = seller.url("/");
    let together = tokio::task::LocalSet::new();
    let calls: Vec<_> = (0..6)
        .map(|number| {
            let client = payer.again("0.05usd");
            let request = post(&url, &number.to_string());
            together.spawn_local(async move {
                // A loser of the race for a channel has paid nothing, and tries again.
                loop {
                    match client.call(&request, &mut |_| {}).await {
                        Err(CallError::ChannelTaken) => tokio::task::yield_now().await,
                        other => return other.map(drop),
                    }
                }
            })
        })
        .collect();
    together.await;
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let kept = kept(&payer);
    assert!((1..=6).contains(&kept.len()));
    let charged: u128 = kept.iter().map(|channel| channel.charged).sum();
    assert_eq!(charged, 6 * 1_858);
    let theirs: u128 = books.books.lock().unwrap().values().map(|channel| channel.charged).sum();
    assert_eq!(theirs, charged);
}

/// X402-29: a channel that is behind its seller is put right once, as far as our own signature goes.
#[tokio::test]
async fn x402_29_a_channel_that_is_behind_is_put_right_and_pays() {
    let books = Till::default();
    let serving = books.clone();
    // The second call is charged, and refused with something that says nothing of it.
    let seller = Seller::open(move |seen, _| {
        let reply = serving.serve(seen, 10_000, 1_858);
        let lie = &seen.body[..] == b"2" && seen.payment().is_some();
        if lie { challenge_of(402, "later", vec![], None) } else { reply }
    })
    .await;
    let payer = Payer::new("0.05usd");
    let call = |body: &str| {
        let (client, request) = (payer.again("0.05usd"), post(&seller.url("/"), body));
        async move { client.call(&request, &mut |_| {}).await }
    };
    call("1").await.unwrap();
    let error = call("2").await.unwrap_err();
    assert!(matches!(error, CallError::VoucherRefused { .. }), "{error}");
    let response = call("3").await.unwrap();
    assert_eq!(response.status, 200);
    let [channel] = &kept(&payer)[..] else { panic!() };
    assert_eq!((channel.charged, channel.stopped.as_deref()), (5_574, None));
    assert_eq!(seller.payments().len(), 4, "one call took two vouchers");
    assert_eq!(books.books.lock().unwrap().values().next().unwrap().charged, 5_574);
    assert!(payer.pending().is_empty());
}

/// A process that ends between signing and sending leaves nothing that binds; one that ends after sending does.
#[tokio::test]
async fn a_voucher_that_was_left_is_sent_again_and_its_channel_serves_no_other_call() {
    let serving = Till::default();
    let mut lost = true;
    let seller = Seller::open(move |seen, number| {
        let reply = serving.serve(seen, 10_000, 1_858);
        let payment = payment(seen);
        // The second call is served, and its answer is lost, as often as it is asked for within one run.
        if payment.is_some() && &seen.body[..] == b"2" && lost {
            lost = number < 6;
            return Reply::HangUp;
        }
        reply
    })
    .await;
    let payer = Payer::new("0.05usd");
    let call = |body: &str| {
        let (client, request) = (payer.again("0.05usd"), post(&seller.url("/"), body));
        async move { client.call(&request, &mut |_| {}).await }
    };
    call("1").await.unwrap();
    let error = call("2").await.unwrap_err();
    assert!(matches!(error, CallError::Unknown { .. }), "{error}");
    let [channel] = &kept(&payer)[..] else { panic!() };
    assert!(channel.is_in_flight());
    // Another call opens another channel; the first one is held by the payment that was left.
    call("3").await.unwrap();
    assert_eq!(kept(&payer).len(), 2);
    // The same command sends the same voucher. This seller keeps no answers, so it corrects; it says that this very
    // call was charged, and so it is not paid again.
    let before: Vec<String> = seller.payments();
    let error = call("2").await.unwrap_err();
    assert!(matches!(error, CallError::VoucherRefused { .. }), "{error}");
    let after = seller.payments();
    assert_eq!(after.len(), before.len() + 1);
    assert!(before.contains(after.last().unwrap()), "the same bytes");
    let charged: u128 = kept(&payer).iter().map(|channel| channel.charged).sum();
    assert_eq!(charged, 3 * 1_858);
    assert!(kept(&payer).iter().all(|channel| !channel.is_in_flight() && channel.stopped.is_none()));
}

/// Killed between the two files, or the payment's file was removed by hand: the channel is free again, and what the call
/// may have cost is remembered until the seller says it.
#[tokio::test]
async fn a_channel_whose_payment_is_gone_goes_on() {
    let serving = Till::default();
    let seller = Seller::open(move |seen, _| {
        let reply = serving.serve(seen, 10_000, 1_858);
        let lost = &seen.body[..] == b"2" && seen.payment().is_some();
        if lost { Reply::HangUp } else { reply }
    })
    .await;
    let payer = Payer::new("0.05usd");
    let call = |body: &str| {
        let (client, request) = (payer.again("0.05usd"), post(&seller.url("/"), body));
        async move { client.call(&request, &mut |_| {}).await }
    };
    call("1").await.unwrap();
    call("2").await.unwrap_err();
    assert!(kept(&payer)[0].is_in_flight());
    for name in payer.pending() {
        std::fs::remove_file(payer.home.path().join("pending").join(name)).unwrap();
    }
    call("3").await.unwrap();
    let [channel] = &kept(&payer)[..] else { panic!() };
    assert_eq!(
        (channel.charged, channel.is_in_flight(), channel.stopped.as_deref()),
        (3 * 1_858, false, None)
    );
}

/// What cannot be read may be anything, also a channel that must not sign.
#[tokio::test]
async fn a_damaged_channel_file_stops_payments_from_channels() {
    let serving = Till::default();
    let seller = Seller::open(move |seen, _| serving.serve(seen, 10_000, 1_858)).await;
    let payer = Payer::new("0.05usd");
    payer.client.call(&post(&seller.url("/"), "1"), &mut quiet).await.unwrap();
    let folder = Folder::beside(&payer.home.path().join("wallet.json")).channels_folder();
    let path = folder.join(format!("{}.json", kept(&payer)[0].name()));
    let whole = std::fs::read_to_string(&path).unwrap();
    // Another salt is another channel, and so another name.
    let salt = &whole[whole.find("\"salt\": \"0x").unwrap() + 11..][..10];
    for damaged in [
        whole.replace(salt, "0000000000"),
        whole[..40].to_owned(),
        whole.replace("\"version\": 1", "\"version\": 2"),
    ] {
        std::fs::write(&path, damaged).unwrap();
        let error = payer.again("0.05usd").call(&post(&seller.url("/"), "2"), &mut quiet).await.unwrap_err();
        assert!(matches!(error, CallError::File(_)), "{error}");
    }
    assert_eq!(seller.payments().len(), 1);
}
