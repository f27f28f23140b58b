//! Calls that are paid from payment channels: x402 `batch-settlement` (X402-22 to X402-32, attacks A20 and A21).
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use farthing_tests::channel::{AUTHORIZER, Channel, ChannelFacilitator, Trick, amount, batch_offer};
use farthing_tests::gateway::{Gateway, nano, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::payer::{BASE_SEPOLIA, challenge, decode, now_s};
use farthing_tests::refused::assert_refused;
use farthing_tests::upstream::{FRIENDLY_COST, Upstream, friendly_answer, plain};
use serde_json::{Value, json};
use wire::x402::batch::BatchPayload;

const CHAT: &str = "/v1/chat/completions";
/// Half a dollar.
const DEPOSIT: u128 = 500_000;
const MISMATCH: &str = "invalid_batch_settlement_evm_cumulative_amount_mismatch";

fn ask(text: &str) -> Value {
    json!({"model": "m", "max_tokens": 1000, "messages": [{"role": "user", "content": text}]})
}

fn unpaid(gateway: &Gateway, body: &Value) -> Answer {
    let answer = http::post(gateway.address, CHAT, &[], body);
    assert_eq!(answer.status, 402, "{}", answer.text());
    assert!(answer.must("payment-required").len() < 2048);
    answer
}

fn send(gateway: &Gateway, header: &str, body: &Value) -> Answer {
    http::post(gateway.address, CHAT, &[("payment-signature", header)], body)
}

/// Pays a call from a channel, and takes in what it cost.
#[track_caller]
fn pay(gateway: &Gateway, channel: &mut Channel, add: Option<u128>, body: &Value) -> (Answer, u128) {
    let header = channel.pays(&unpaid(gateway, body), add);
    let answer = send(gateway, &header, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let charge = channel.learns(&answer, add.unwrap_or(0));
    (answer, charge)
}

/// What a corrective challenge says of the channel.
#[track_caller]
fn corrected(answer: &Answer, error: &str) -> Value {
    assert_eq!(answer.status, 402, "{}", answer.text());
    assert_eq!(answer.header("payment-response"), None, "stock clients do not look at the challenge then");
    assert_eq!(answer.json()["money"], "nothing_taken");
    assert!(answer.must("payment-required").len() < 2048, "{}", answer.must("payment-required").len());
    assert_eq!(challenge(answer)["error"], error);
    batch_offer(answer)["extra"].clone()
}

/// What is still the payer's of what was charged.
fn carry(gateway: &Gateway, account: &str) -> i64 {
    gateway.books().balance(account)
}

/// X402-22, X402-26, X402-28: a deposit, then vouchers that cost no question to anybody.
#[test]
fn x402_22_26_28_a_deposit_pays_for_many_calls_and_vouchers_ask_nobody() {
    let (upstream, chain) = (Upstream::friendly(), ChannelFacilitator::start());
    let gateway = chain.gateway(upstream.address, "");
    let mut channel = Channel::new(0x21, 0);
    let offer = batch_offer(&unpaid(&gateway, &ask("call 0")));
    assert_eq!(offer["extra"]["withdrawDelay"], 900);
    assert_eq!(offer["extra"]["minDeposit"], "200000");
    assert_eq!(offer["extra"]["name"], "USDC");

    let (first, charge) = pay(&gateway, &mut channel, Some(DEPOSIT), &ask("call 0"));
    assert_eq!(charge, amount(&offer), "the head charges the whole amount");
    let said = decode(first.must("payment-response"));
    assert_eq!(said["amount"], DEPOSIT.to_string(), "the deposit, not the charge");
    assert_eq!(said["transaction"].as_str().unwrap().len(), 66);
    assert_eq!(first.header("farthing-key"), None, "what is left is the channel's");
    assert_eq!(chain.asked(), ["verify", "deposit"]);
    let account = channel.account(&offer);
    let atomic = |nano: i64| u128::try_from(nano).unwrap() / 1000;
    let mut used = FRIENDLY_COST;
    for call in 1..=3 {
        let left = charge_left(&gateway, &channel, &account);
        let body = ask(&format!("call {call}"));
        let asked = amount(&batch_offer(&unpaid(&gateway, &body)));
        let (answer, charge) = pay(&gateway, &mut channel, None, &body);
        used += FRIENDLY_COST;
        assert_eq!(charge, asked - left, "what was not used lowers the next charge");
        let said = decode(answer.must("payment-response"));
        assert_eq!((&said["transaction"], &said["amount"]), (&json!(""), &json!("")));
    }
    assert_eq!(chain.asked(), ["verify", "deposit"], "vouchers ask nobody");
    let books = gateway.books_after(4);
    assert_eq!((books.count("deposit"), books.count("capture")), (4, 4));
    assert_eq!(books.charged(&account), used);
    assert_eq!(channel.charged - atomic(books.balance(&account)), atomic(used), "charged less carry is used");
    assert_eq!(upstream.hits(), 4);
    // More money into the same channel.
    pay(&gateway, &mut channel, Some(DEPOSIT), &ask("call 4"));
    assert_eq!(chain.asked(), ["verify", "deposit", "verify", "deposit"]);
    assert_eq!(chain.channel(&channel.id(&offer)).balance, 2 * DEPOSIT);
    let used = gateway.books_after(5).charged(&account);
    let rows = gateway.operator(&["ledger", "channels"])["channels"].clone();
    assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
    assert_eq!((&rows[0]["account"], &rows[0]["refund_open"]), (&json!(account), &json!(false)));
    assert_eq!(nano(&rows[0]["on_chain"]["amount"]), i64::try_from(2 * DEPOSIT).unwrap() * 1000);
    assert_eq!(nano(&rows[0]["charged"]["amount"]) - nano(&rows[0]["unused"]["amount"]), used);
}

/// The carry in atomic units.
fn charge_left(gateway: &Gateway, channel: &Channel, account: &str) -> u128 {
    let left = u128::try_from(carry(gateway, account)).unwrap() / 1000;
    assert!(left <= channel.charged);
    left
}

/// X402-28: a stream says in its head what was charged, and what it did not use is the next carry.
#[test]
fn x402_28_a_stream_is_charged_at_its_head() {
    let (upstream, chain) = (Upstream::friendly(), ChannelFacilitator::start());
    let gateway = chain.gateway(upstream.address, "");
    let mut channel = Channel::new(0x22, 0);
    let mut body = ask("stream this");
    body["stream"] = json!(true);
    let (answer, charge) = pay(&gateway, &mut channel, Some(DEPOSIT), &body);
    assert!(answer.text().contains("[DONE]"));
    let account = channel.account(&batch_offer(&unpaid(&gateway, &body)));
    let books = gateway.books_after(1);
    assert_eq!(books.balance(&account), i64::try_from(charge).unwrap() * 1000 - FRIENDLY_COST);
    let (_, second) = pay(&gateway, &mut channel, None, &ask("and on"));
    assert!(second > 0 && channel.charged == charge + second);
}

/// X402-29: whoever does not continue from where the channel stands is told where that is, and pays then.
#[test]
fn x402_29_a_payer_who_lost_count_is_corrected() {
    let (upstream, chain) = (Upstream::friendly(), ChannelFacilitator::start());
    let gateway = chain.gateway(upstream.address, "");
    let mut channel = Channel::new(0x23, 0);
    pay(&gateway, &mut channel, Some(DEPOSIT), &ask("one"));
    pay(&gateway, &mut channel, None, &ask("two"));
    // A voucher from the beginning, one that promises too much, and a lower one than was accepted.
    let body = ask("three");
    let asked = unpaid(&gateway, &body);
    let offer = batch_offer(&asked);
    let mut put_right = asked.clone();
    for max in [1, channel.charged + amount(&offer) + 1, channel.charged - 1] {
        let header = channel.header(&asked, &channel.payload(&offer, max, None));
        put_right = send(&gateway, &header, &body);
        let extra = corrected(&put_right, MISMATCH);
        assert_eq!(extra["channelState"]["chargedCumulativeAmount"], channel.charged.to_string());
        assert_eq!(extra["channelState"]["balance"], DEPOSIT.to_string());
        let signed: u128 = extra["voucherState"]["signedMaxClaimable"].as_str().unwrap().parse().unwrap();
        assert!(signed >= channel.charged);
        let newest = channel.voucher(&offer, signed);
        assert_eq!(extra["voucherState"]["signature"], newest.signature, "the payer's own, to believe it by");
    }
    // Beyond what is there.
    let mut rich = Channel::new(0x23, 0);
    (rich.charged, rich.balance) = (channel.charged, channel.balance);
    let header = rich.header(&asked, &rich.payload(&offer, DEPOSIT + 1, None));
    assert_eq!(send(&gateway, &header, &body).status, 402);
    assert_eq!(upstream.hits(), 2);
    // Stock clients go on with the challenge they had first; the one that put them right can be paid as well.
    let answer = send(&gateway, &channel.pays(&put_right, None), &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(chain.asked(), ["verify", "deposit"]);
}

/// A call takes time here, until it is let go.
fn slow(go: &Arc<AtomicBool>) -> Upstream {
    let go = Arc::clone(go);
    Upstream::start(move |request, stream| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        if body["messages"][0]["content"].as_str().is_some_and(|text| text.starts_with("slow")) {
            wait_for("the moment to answer", || go.load(Ordering::SeqCst).then_some(()));
        }
        let _ = stream.write_all(&friendly_answer(request));
    })
}

/// A21, X402-24: a hundred calls at once on one channel: one runs at a time, and what is charged is what was served.
#[test]
fn a21_a_hundred_vouchers_at_once_on_one_channel() {
    let go = Arc::new(AtomicBool::new(false));
    let (upstream, chain) = (slow(&go), ChannelFacilitator::start());
    let gateway = chain.gateway(upstream.address, "");
    let mut channel = Channel::new(0x24, 0);
    pay(&gateway, &mut channel, Some(DEPOSIT), &ask("first"));
    let calls: Vec<(String, Value)> = (0..100)
        .map(|call| {
            let body = ask(&format!("slow {call}"));
            (channel.pays(&unpaid(&gateway, &body), None), body)
        })
        .collect();
    let mut other = Channel::new(0x24, 1);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let tasks: Vec<_> =
            calls.iter().map(|(header, body)| scope.spawn(|| send(&gateway, header, body))).collect();
        wait_for("all but one to be refused", || {
            let done = tasks.iter().filter(|task| task.is_finished()).count();
            (done == 99).then_some(())
        });
        // Another channel of the same payer is not in the way.
        pay(&gateway, &mut other, Some(DEPOSIT), &ask("beside"));
        go.store(true, Ordering::SeqCst);
        tasks.into_iter().map(|task| task.join().unwrap()).collect()
    });
    let (served, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!((served.len(), refused.len()), (1, 99));
    for answer in &refused {
        assert_eq!((answer.status, answer.must("retry-after")), (409, "1"), "{}", answer.text());
        assert_eq!(answer.header("payment-response"), None);
        let error = &answer.json()["error"];
        assert_eq!(error["reason"], "invalid_batch_settlement_evm_channel_busy", "{error}");
    }
    channel.learns(&served[0], 0);
    let offer = batch_offer(&unpaid(&gateway, &ask("x")));
    let books = gateway.books_after(3);
    assert_eq!(upstream.hits(), 3);
    assert_eq!(books.charged(&channel.account(&offer)), 2 * FRIENDLY_COST);
    assert_eq!(books.charged(&other.account(&offer)), FRIENDLY_COST);
    // The channel is free again.
    pay(&gateway, &mut channel, None, &ask("next"));
}

/// X402-25: an upstream that fails before its answer costs nothing, and the same voucher is good again.
#[test]
fn x402_25_a_call_that_was_not_answered_costs_nothing() {
    type Failure = (&'static str, u16, fn() -> Vec<u8>);
    let failures: [Failure; 3] = [
        ("500", 500, || plain(500, "application/json", r#"{"error":{"message":"broken"}}"#)),
        ("401", 502, || plain(401, "application/json", "{}")),
        ("reset before the head", 502, Vec::new),
    ];
    for (number, (what, status, failure)) in failures.into_iter().enumerate() {
        let fails = Arc::new(AtomicBool::new(false));
        let failing = Arc::clone(&fails);
        let upstream = Upstream::start(move |request, stream| {
            let bytes =
                if failing.swap(false, Ordering::SeqCst) { failure() } else { friendly_answer(request) };
            let _ = stream.write_all(&bytes);
        });
        let chain = ChannelFacilitator::start();
        let gateway = chain.gateway(upstream.address, "");
        let mut channel = Channel::new(0x25, u8::try_from(number).unwrap());
        // With the deposit: that is in, and the voucher is not charged.
        fails.store(true, Ordering::SeqCst);
        let body = ask("one");
        let asked = unpaid(&gateway, &body);
        let header = channel.pays(&asked, Some(DEPOSIT));
        let failed = send(&gateway, &header, &body);
        assert_eq!(failed.status, status, "{what}: {}", failed.text());
        assert_eq!(channel.learns(&failed, DEPOSIT), 0, "{what}");
        // Without: nothing happened at all.
        fails.store(true, Ordering::SeqCst);
        let header = channel.pays(&asked, None);
        let failed = send(&gateway, &header, &body);
        assert_eq!((failed.status, failed.header("payment-response")), (status, None), "{what}");
        if status == 502 {
            assert_eq!(failed.json()["money"], "nothing_taken", "{what}");
        }
        let account = channel.account(&batch_offer(&asked));
        assert_eq!((carry(&gateway, &account), gateway.books().count("deposit")), (0, 0), "{what}");
        let served = send(&gateway, &header, &body);
        assert_eq!(served.status, 200, "{what}: {}", served.text());
        channel.learns(&served, 0);
        let books = gateway.books_after(1);
        assert_eq!((books.count("deposit"), books.charged(&account)), (1, FRIENDLY_COST), "{what}");
        assert_eq!(chain.count("deposit"), 1, "{what}");
    }
}

/// Reference item 15: the same voucher for the same request is the same call; for another one it draws on the carry.
#[test]
fn the_same_voucher_again_is_the_same_call_or_draws_on_what_is_left() {
    let (upstream, chain) = (Upstream::friendly(), ChannelFacilitator::start());
    let gateway = chain.gateway(upstream.address, "");
    let mut channel = Channel::new(0x26, 0);
    let body = ask("one");
    let first_header = channel.pays(&unpaid(&gateway, &body), Some(DEPOSIT));
    let first = send(&gateway, &first_header, &body);
    channel.learns(&first, DEPOSIT);
    for _ in 0..2 {
        let again = send(&gateway, &first_header, &body);
        assert_eq!(
            (again.status, again.header("farthing-replayed")),
            (200, Some("true")),
            "{}",
            again.text()
        );
        assert_eq!(again.body, first.body);
        assert_eq!(again.header("payment-response"), first.header("payment-response"));
    }
    assert_eq!(upstream.hits(), 1);
    // A smaller request fits into what is left; its voucher is the one that was accepted last.
    let mut small = ask("two");
    small["max_tokens"] = json!(300);
    let asked = unpaid(&gateway, &small);
    let offer = batch_offer(&asked);
    let header = channel.header(&asked, &channel.payload(&offer, channel.charged, None));
    let drawn = send(&gateway, &header, &small);
    assert_eq!(drawn.status, 200, "{}", drawn.text());
    assert_eq!(channel.learns(&drawn, 0), 0, "nothing more is charged");
    // Which is told again as well.
    let again = send(&gateway, &header, &small);
    assert_eq!((again.status, again.header("farthing-replayed")), (200, Some("true")));
    // A larger one does not.
    let body = ask("three");
    let asked = unpaid(&gateway, &body);
    let header = channel.header(&asked, &channel.payload(&batch_offer(&asked), channel.charged, None));
    corrected(&send(&gateway, &header, &body), MISMATCH);
    assert_eq!(upstream.hits(), 2);
    let books = gateway.books_after(2);
    assert_eq!((books.count("deposit"), books.charged(&channel.account(&offer))), (1, 2 * FRIENDLY_COST));
}

/// Reference item 40: the payer of a channel has no key, and reads his receipts by a voucher that nobody else can have.
#[test]
fn a_channels_receipt_is_its_payers() {
    let (upstream, chain) = (Upstream::friendly(), ChannelFacilitator::start());
    let gateway = chain.gateway(upstream.address, "");
    let (mut channel, mut other) = (Channel::new(0x2d, 0), Channel::new(0x2e, 0));
    let (first, _) = pay(&gateway, &mut channel, Some(DEPOSIT), &ask("one"));
    pay(&gateway, &mut other, Some(DEPOSIT), &ask("two"));
    gateway.books_after(2);
    let path = format!("/farthing/receipts/{}", first.must("farthing-receipt"));
    let asked = unpaid(&gateway, &ask("three"));
    let shows = |header: &str| http::get(gateway.address, &path, &[("payment-signature", header)]);
    let signed = shows(&channel.pays(&asked, None));
    assert_eq!(signed.status, 200, "{}", signed.text());
    let payload = wire::base64::decode_url(signed.text().split('.').nth(1).unwrap(), 16 * 1024).unwrap();
    let receipt: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(receipt["payment"]["rail"], format!("x402-batch:{BASE_SEPOLIA}"), "{receipt}");
    // Another channel's payer, a stranger's signature, and nobody.
    assert_refused(&shows(&other.pays(&asked, None)), 404, "receipt_not_found", "nothing_taken");
    let mut forged = channel.payload(&batch_offer(&asked), channel.charged + 1, None);
    if let BatchPayload::Voucher { voucher, .. } = &mut forged {
        voucher.max_claimable_amount += 1;
    }
    assert_refused(&shows(&channel.header(&asked, &forged)), 401, "key_unknown", "nothing_taken");
    assert_refused(&http::get(gateway.address, &path, &[]), 401, "key_unknown", "nothing_taken");
    assert_eq!(chain.count("deposit"), 2, "nothing is asked of anybody by it");
}

/// A call that the carry pays whole charges nothing, so the next voucher may be the same one: for the same request it is
/// the same call, told again and made once; for another it is another.
#[test]
fn what_the_carry_pays_is_made_once_for_one_request() {
    let (upstream, chain) = (Upstream::friendly(), ChannelFacilitator::start());
    let gateway = chain.gateway(upstream.address, "");
    let mut channel = Channel::new(0x2c, 0);
    pay(&gateway, &mut channel, Some(DEPOSIT), &ask("one"));
    let small = |text: &str| {
        let mut body = ask(text);
        body["max_tokens"] = json!(20);
        body
    };
    let mut hits = 1;
    for (text, replayed) in [("two", false), ("two", true), ("three", false), ("three", true), ("two", true)]
    {
        let asked = unpaid(&gateway, &small(text));
        let answer = send(&gateway, &channel.pays(&asked, None), &small(text));
        assert_eq!(answer.status, 200, "{text}: {}", answer.text());
        assert_eq!(answer.header("farthing-replayed").is_some(), replayed, "{text}");
        assert_eq!(channel.learns(&answer, 0), 0, "nothing more is charged");
        hits += usize::from(!replayed);
        assert_eq!(upstream.hits(), hits, "{text}");
    }
}

/// A20: killed after the head, nothing is lost and nothing comes back: the next voucher continues.
#[test]
fn a20_a_kill_after_the_head_loses_nothing() {
    for durability in ["durability: group", "durability: sync, crash_charge: input_only"] {
        let chain = ChannelFacilitator::start();
        // The head and a beginning, then nothing.
        let upstream = Upstream::start(|request, stream| {
            let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            let bytes = if body["messages"][0]["content"] == "cut" {
                beginning("five words").into_bytes()
            } else {
                friendly_answer(request)
            };
            let _ = stream.write_all(&bytes);
            let _ = std::io::copy(stream, &mut std::io::sink());
        });
        let store = format!("store: {{ path: \"{{folder}}/store\", {durability} }}\n{}", chain.rails(""));
        let mut gateway = Gateway::start_in(upstream.address, &store, &[AUTHORIZER]);
        let mut channel = Channel::new(0x27, 0);
        pay(&gateway, &mut channel, Some(DEPOSIT), &ask("one"));
        let mut body = ask("cut");
        body["stream"] = json!(true);
        let asked = unpaid(&gateway, &body);
        let (offer, header) = (batch_offer(&asked), channel.pays(&asked, None));
        http::leave_after(gateway.address, CHAT, &[("payment-signature", &header)], &body, "five words");
        gateway.crash_and_restart();
        // The charge stands; what is not charged for the call that was cut off is the payer's.
        let account = channel.account(&offer);
        let asked = unpaid(&gateway, &body);
        let wrong = channel.header(&asked, &channel.payload(&batch_offer(&asked), channel.charged + 1, None));
        let extra = corrected(&send(&gateway, &wrong, &body), MISMATCH);
        let charged: u128 =
            extra["channelState"]["chargedCumulativeAmount"].as_str().unwrap().parse().unwrap();
        assert!(charged > channel.charged, "{durability}");
        let books = gateway.books();
        assert_eq!(books.count("deposit"), 2, "{durability}: the head's charge was on disk");
        let all = i64::try_from(charged).unwrap() * 1000;
        assert_eq!(books.balance(&account), all - books.charged(&account), "{durability}");
        let cut_off = if durability.contains("sync") { 2 } else { 1 };
        assert_eq!(books.count("capture"), cut_off, "the input is owed where that is on disk");
        // The payer who saw the head goes on from it.
        channel.charged = charged;
        let longer = "next, and so much longer than before that what is left does not cover it ".repeat(20);
        pay(&gateway, &mut channel, None, &ask(&longer));
        assert_eq!(gateway.books_after(cut_off + 1).count("deposit"), 3, "{durability}");
        assert_eq!(chain.asked(), ["verify", "deposit"]);
        gateway.signal(15);
        gateway.wait();
        let found = store::check(&gateway.folder().join("store"), &store::CheckOptions::new(now_s() * 1000));
        assert_eq!(found.unwrap().findings, vec![], "{durability}");
    }
}

/// A stream that begins so and does not end.
fn beginning(text: &str) -> String {
    let head = farthing_tests::upstream::STREAM_HEAD;
    format!("{head}data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
}

/// A20, X402-25: who lost the head asks for the same call with the same voucher, and gets it without paying again.
#[test]
fn a20_a_call_that_a_kill_cut_off_is_made_again_for_the_same_voucher() {
    let chain = ChannelFacilitator::start();
    let cut = Arc::new(AtomicBool::new(true));
    let cuts = Arc::clone(&cut);
    let upstream = Upstream::start(move |request, stream| {
        if cuts.swap(false, Ordering::SeqCst) {
            let _ = stream.write_all(beginning("cut off").as_bytes());
            let _ = std::io::copy(stream, &mut std::io::sink());
        } else {
            let _ = stream.write_all(&friendly_answer(request));
        }
    });
    let mut gateway = chain.gateway(upstream.address, "");
    let mut channel = Channel::new(0x28, 0);
    let mut body = ask("cut");
    body["stream"] = json!(true);
    let asked = unpaid(&gateway, &body);
    let header = channel.pays(&asked, Some(DEPOSIT));
    http::leave_after(gateway.address, CHAT, &[("payment-signature", &header)], &body, "cut off");
    gateway.crash_and_restart();
    let served = send(&gateway, &header, &body);
    assert_eq!(served.status, 200, "{}", served.text());
    channel.learns(&served, DEPOSIT);
    let books = gateway.books_after(1);
    assert_eq!((books.count("deposit"), books.count("capture")), (1, 1));
    assert_eq!((upstream.hits(), chain.count("deposit")), (2, 1));
    pay(&gateway, &mut channel, None, &ask("next"));
}

/// X402-14, H1, H2: money that went into a channel without an answer is not sent again, and pays then.
#[test]
fn a_deposit_of_unknown_end_is_settled_once() {
    for (number, trick) in [Trick::ActThenFail, Trick::Fail].into_iter().enumerate() {
        let (upstream, chain) = (Upstream::friendly(), ChannelFacilitator::start());
        let gateway = chain.gateway(upstream.address, "");
        let mut channel = Channel::new(0x29, u8::try_from(number).unwrap());
        let body = ask("one");
        let asked = unpaid(&gateway, &body);
        let header = channel.pays(&asked, Some(DEPOSIT));
        chain.trick("deposit", trick);
        let unsure = send(&gateway, &header, &body);
        assert_eq!((unsure.status, unsure.code().as_str()), (503, "settlement_unknown"), "{}", unsure.text());
        assert_eq!(unsure.json()["money"], "unknown");
        let served = wait_for("the deposit to be found", || {
            let answer = send(&gateway, &header, &body);
            (answer.status == 200).then_some(answer)
        });
        channel.learns(&served, DEPOSIT);
        assert_eq!(chain.channel(&channel.id(&batch_offer(&asked))).balance, DEPOSIT);
        assert_eq!(upstream.hits(), 1);
        let books = gateway.books_after(1);
        assert_eq!((books.count("deposit"), books.count("capture")), (1, 1));
    }
}

/// X402-15, A10: a deposit on its way is found again though its offer is over: nobody is asked for another one.
#[test]
fn a10_a_deposit_on_its_way_outlives_its_offer() {
    let (upstream, chain) = (Upstream::friendly(), ChannelFacilitator::start());
    let gateway = chain.gateway(upstream.address, "");
    let mut channel = Channel::new(0x34, 0);
    let body = ask("one");
    let asked = unpaid(&gateway, &body);
    let header = channel.pays(&asked, Some(DEPOSIT));
    chain.trick("deposit", Trick::ActThenFail);
    assert_eq!(send(&gateway, &header, &body).code(), "settlement_unknown");
    // Another price: the quote in the payment is none of ours any more.
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    assert!(text.contains("input: 1 USD/Mtok"));
    std::fs::write(gateway.config(), text.replace("input: 1 USD/Mtok", "input: 2 USD/Mtok")).unwrap();
    gateway.operator(&["reload"]);
    let offer = batch_offer(&unpaid(&gateway, &body));
    assert_ne!(amount(&offer), amount(&batch_offer(&asked)));
    let told = wait_for("the deposit to be found", || {
        let answer = send(&gateway, &header, &body);
        (answer.status != 503).then_some(answer)
    });
    let extra = corrected(&told, MISMATCH);
    assert_eq!(extra["channelState"]["balance"], DEPOSIT.to_string(), "his money is there");
    assert_eq!(chain.channel(&channel.id(&offer)).balance, DEPOSIT);
    channel.balance = DEPOSIT;
    pay(&gateway, &mut channel, None, &body);
}

/// What would not settle, or would not pay for the call, is refused before money moves.
#[test]
fn a_deposit_that_would_be_in_vain_is_not_made() {
    let (upstream, chain) = (Upstream::friendly(), ChannelFacilitator::start());
    let gateway = chain.gateway(upstream.address, "");
    let channel = Channel::new(0x2a, 0);
    let body = ask("one");
    let asked = unpaid(&gateway, &body);
    let offer = batch_offer(&asked);
    // Below the minimum; a voucher beside it that does not start at zero.
    let small = channel.header(&asked, &channel.payload(&offer, amount(&offer), Some(199_999)));
    let reason = |answer: &Answer| answer.json()["error"]["reason"].as_str().unwrap().to_owned();
    let refused = send(&gateway, &small, &body);
    assert_eq!(reason(&refused), "invalid_batch_settlement_evm_deposit_below_min_deposit");
    let wrong = channel.header(&asked, &channel.payload(&offer, amount(&offer) + 1, Some(DEPOSIT)));
    corrected(&send(&gateway, &wrong, &body), MISMATCH);
    // A signature of somebody else under the deposit; a channel that pays somebody else.
    let BatchPayload::Deposit { channel_config, voucher, mut deposit } =
        channel.payload(&offer, amount(&offer), Some(DEPOSIT))
    else {
        panic!()
    };
    deposit.amount += 1;
    let forged = channel.header(&asked, &BatchPayload::Deposit { channel_config, voucher, deposit });
    assert_eq!(send(&gateway, &forged, &body).status, 402);
    assert_eq!(chain.count("deposit"), 0);
    assert_eq!((upstream.hits(), gateway.books().entries.len()), (0, 0));
}

/// X402-30: without a record, the channel stands where it was claimed on the chain.
#[test]
fn x402_30_a_lost_record_starts_from_the_chain() {
    let (upstream, chain) = (Upstream::friendly(), ChannelFacilitator::start());
    let first = chain.gateway(upstream.address, "");
    let mut channel = Channel::new(0x2b, 0);
    pay(&first, &mut channel, Some(DEPOSIT), &ask("one"));
    let offer = batch_offer(&unpaid(&first, &ask("x")));
    drop(first);
    let id = wire::hex::encode(&channel.id(&offer));
    chain.contract().channels.get_mut(&id).unwrap().claimed = 7;
    // Another gateway with the same key and no store.
    let gateway = chain.gateway(upstream.address, "");
    let body = ask("two");
    let asked = unpaid(&gateway, &body);
    let extra = corrected(&send(&gateway, &channel.pays(&asked, None), &body), MISMATCH);
    assert_eq!(extra["channelState"]["chargedCumulativeAmount"], "7");
    assert!(extra["voucherState"].is_null(), "there is none to show");
    channel.charged = 7;
    pay(&gateway, &mut channel, None, &body);
    // A channel that is not there is none, and nobody who cannot look says otherwise.
    let stranger = Channel::new(0x2c, 0);
    assert_eq!(send(&gateway, &stranger.pays(&asked, None), &body).status, 402);
    chain.contract().silent = true;
    let unseen = send(&gateway, &stranger.pays(&asked, None), &body);
    assert_eq!((unseen.status, unseen.json()["money"].as_str()), (503, Some("nothing_taken")));
    assert_eq!(upstream.hits(), 2);
}

/// X402-31: what is owed is claimed when it is much, and when the channel is idle; many in one claim, then settled.
#[test]
fn x402_31_what_is_owed_is_claimed_and_settled() {
    let (upstream, chain) = (Upstream::friendly(), ChannelFacilitator::start());
    let gateway = chain.gateway(upstream.address, ", claim_idle: 1s");
    let mut channels: Vec<Channel> = (0..3).map(|salt| Channel::new(0x2d, salt)).collect();
    // A claim of several that is refused is made one by one: the others do not wait for a bad one.
    chain.trick("claim", Trick::Refuse("invalid_batch_settlement_evm_claim_simulation_failed"));
    for channel in &mut channels {
        pay(&gateway, channel, Some(DEPOSIT), &ask("one"));
    }
    let offer = batch_offer(&unpaid(&gateway, &ask("x")));
    let used = u128::try_from(FRIENDLY_COST / 1000).unwrap();
    let claimed = || channels.iter().map(|channel| chain.channel(&channel.id(&offer)).claimed).sum::<u128>();
    wait_for("all to be claimed and settled", || {
        (claimed() == 3 * used && chain.contract().settled == 3 * used).then_some(())
    });
    assert!(chain.count("claim") <= 4, "{:?}", chain.asked());
    // Only what was metered, once: nothing more comes while nothing is used.
    let asked = chain.asked().len();
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(chain.asked().len(), asked, "{:?}", chain.asked());
    // The channels go on from where they stood.
    for channel in &mut channels {
        pay(&gateway, channel, None, &ask("two"));
    }
}

/// X402-31: much is claimed at once, and a claim of unknown end takes nothing twice.
#[test]
fn x402_31_a_claim_is_sent_until_it_is_through() {
    let (upstream, chain) = (Upstream::friendly(), ChannelFacilitator::start());
    chain.trick("claim", Trick::Fail);
    chain.trick("claim", Trick::ActThenFail);
    chain.trick("settle", Trick::Fail);
    let gateway = chain.gateway(upstream.address, ", claim_above: 0.00001 USD");
    let mut channel = Channel::new(0x2e, 0);
    pay(&gateway, &mut channel, Some(DEPOSIT), &ask("one"));
    let used = u128::try_from(FRIENDLY_COST / 1000).unwrap();
    wait_for("the claim to be through", || (chain.contract().settled == used).then_some(()));
    assert_eq!(
        chain.count("claim"),
        2,
        "the second got through and was seen by looking: {:?}",
        chain.asked()
    );
    // A20: what a claim has shown to everybody opens nothing.
    let body = ask("two");
    let asked = unpaid(&gateway, &body);
    let offer = batch_offer(&asked);
    let published = chain.contract().published.clone();
    for max in published {
        let header = channel.header(&asked, &channel.payload(&offer, max, None));
        let extra = corrected(&send(&gateway, &header, &body), MISMATCH);
        assert!(extra["voucherState"].is_null(), "nor is the newest voucher shown for it");
    }
    assert_eq!(upstream.hits(), 1);
    pay(&gateway, &mut channel, None, &body);
}

/// A20, A21: many channels at once, claimed from while they are used: of each what was charged is what was used and what
/// is left, the chain gets what was used, and nothing is in two places.
#[test]
fn a20_a21_channels_are_claimed_from_while_they_are_used() {
    const CHANNELS: u8 = 6;
    const CALLS: i64 = 8;
    let (upstream, chain) = (Upstream::friendly(), ChannelFacilitator::start());
    let gateway = chain.gateway(upstream.address, ", claim_above: 0 USD");
    let channels: Vec<Channel> = std::thread::scope(|scope| {
        let pays = |salt: u8| {
            let mut channel = Channel::new(0x37, salt);
            for call in 0..CALLS {
                let mut body = ask(&format!("call {call} on {salt}"));
                body["stream"] = json!(call % 2 == 1);
                pay(&gateway, &mut channel, (call == 0).then_some(DEPOSIT), &body);
            }
            channel
        };
        let tasks: Vec<_> = (0..CHANNELS).map(|salt| scope.spawn(move || pays(salt))).collect();
        tasks.into_iter().map(|task| task.join().unwrap()).collect()
    });
    let offer = batch_offer(&unpaid(&gateway, &ask("x")));
    let books = gateway.books_after(usize::from(CHANNELS) * 8);
    let used = CALLS * FRIENDLY_COST;
    for channel in &channels {
        let account = channel.account(&offer);
        assert_eq!(books.charged(&account), used);
        assert_eq!(i64::try_from(channel.charged).unwrap() * 1000, used + books.balance(&account));
    }
    let used = u128::try_from(used / 1000).unwrap();
    wait_for("everything that was used to be claimed", || {
        channels.iter().all(|channel| chain.channel(&channel.id(&offer)).claimed == used).then_some(())
    });
    assert_eq!(upstream.hits(), usize::from(CHANNELS) * 8);
    assert_eq!(chain.count("verify"), usize::from(CHANNELS), "one for each deposit");
    assert!(!gateway.log().contains("ALARM"), "{}", gateway.log());
}

/// A20, X402-31: a payer who withdraws is claimed from at once, at each step of his channel's life; and what leaves
/// pays for nothing.
#[test]
fn a20_a_withdrawal_calls_for_a_claim_before_it_is_through() {
    let chain = ChannelFacilitator::start();
    let upstream = Upstream::friendly();
    let mut gateway = chain.gateway(upstream.address, "");
    let used = u128::try_from(FRIENDLY_COST / 1000).unwrap();
    let mut channel = Channel::new(0x2f, 0);
    pay(&gateway, &mut channel, Some(DEPOSIT), &ask("one"));
    let body = ask("two");
    let offer = batch_offer(&unpaid(&gateway, &body));
    let id = channel.id(&offer);
    let text = wire::hex::encode(&id);
    chain.contract().channels.get_mut(&text).unwrap().withdraw_requested_at = now_s();
    // The record is from before the withdrawal; a kill, and the next look finds it.
    gateway.signal(9);
    gateway.wait();
    age_mirrors(&gateway);
    gateway.restart();
    wait_for("the claim", || (chain.channel(&id).claimed == used).then_some(()));
    let refused = send(&gateway, &channel.pays(&unpaid(&gateway, &body), None), &body);
    assert_eq!(refused.json()["error"]["reason"], "invalid_batch_settlement_evm_cumulative_exceeds_balance");
    assert_eq!(upstream.hits(), 1);
}

/// Makes every view of the chain one of long ago, as if the gateway had been off.
fn age_mirrors(gateway: &Gateway) {
    let store = store::Store::open(&gateway.folder().join("store"), store::Options::new([7; 16])).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (id, mut channel) in store.reader().channels().unwrap() {
        channel.mirror.synced_at_s = 0;
        let write = store::ChannelWrite { id, channel, payment: None, entry: None, begins: true };
        runtime.block_on(store.commit(store::Op::Channel(Box::new(write)))).unwrap();
    }
}

/// X402-23: an old view of the chain decides nothing; where nobody can look, nothing is taken.
#[test]
fn x402_23_an_old_view_is_looked_at_before_a_voucher_is_taken() {
    let (upstream, chain) = (Upstream::friendly(), ChannelFacilitator::start());
    let mut gateway = chain.gateway(upstream.address, "");
    let mut channel = Channel::new(0x30, 0);
    pay(&gateway, &mut channel, Some(DEPOSIT), &ask("one"));
    chain.contract().silent = true;
    gateway.signal(9);
    gateway.wait();
    age_mirrors(&gateway);
    gateway.restart();
    let body = ask("two");
    let header = channel.pays(&unpaid(&gateway, &body), None);
    let refused = send(&gateway, &header, &body);
    assert_eq!((refused.status, refused.code().as_str()), (503, "facilitator_failed"), "{}", refused.text());
    assert_eq!(upstream.hits(), 1);
    chain.contract().silent = false;
    let served = send(&gateway, &header, &body);
    assert_eq!(served.status, 200, "{}", served.text());
    channel.learns(&served, 0);
}

/// X402-22, X402-23: with a node of the operator's own, that is asked, and of a withdrawal only what leaves is gone.
#[test]
fn x402_23_a_node_of_the_operator_is_asked_in_place_of_a_facilitator() {
    let (upstream, chain) = (Upstream::friendly(), ChannelFacilitator::start());
    let mut gateway = Gateway::start_in(upstream.address, &chain.rails_with_node(""), &[AUTHORIZER]);
    let mut channel = Channel::new(0x35, 0);
    pay(&gateway, &mut channel, Some(DEPOSIT), &ask("one"));
    let offer = batch_offer(&unpaid(&gateway, &ask("x")));
    let id = channel.id(&offer);
    {
        let mut contract = chain.contract();
        let there = contract.channels.get_mut(&wire::hex::encode(&id)).unwrap();
        (there.withdraw_requested_at, there.withdrawing) = (now_s(), DEPOSIT / 2);
    }
    gateway.signal(9);
    gateway.wait();
    age_mirrors(&gateway);
    gateway.restart();
    let used = u128::try_from(FRIENDLY_COST / 1000).unwrap();
    wait_for("the claim", || (chain.channel(&id).claimed == used).then_some(()));
    // What stays pays on; what leaves does not.
    pay(&gateway, &mut channel, None, &ask("two"));
    let body = ask("three");
    let asked = unpaid(&gateway, &body);
    assert!(channel.charged + amount(&batch_offer(&asked)) < DEPOSIT / 2, "or this shows nothing");
    let mut long = body.clone();
    long["max_tokens"] = json!(70_000);
    let asked = unpaid(&gateway, &long);
    let sum = channel.charged + amount(&batch_offer(&asked));
    assert!((DEPOSIT / 2..DEPOSIT).contains(&sum), "{sum}");
    let refused = send(&gateway, &channel.pays(&asked, None), &long);
    assert_eq!(refused.json()["error"]["reason"], "invalid_batch_settlement_evm_cumulative_exceeds_balance");
    assert_eq!(chain.count("verify"), 1, "for the deposit, and for nothing else: {:?}", chain.asked());
    // A refund of unknown end is found by its number.
    chain.trick("refund", Trick::ActThenFail);
    assert_eq!(ask_back(&gateway, &channel, None).code(), "settlement_unknown");
    let done = ask_back(&gateway, &channel, None);
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(chain.channel(&id).refund_nonce, 1);
    // A node that is silent says nothing, and nobody else is asked.
    chain.contract().silent = true;
    let stranger = Channel::new(0x36, 0);
    let unseen = send(&gateway, &stranger.pays(&unpaid(&gateway, &body), None), &body);
    assert_eq!((unseen.status, unseen.code().as_str()), (503, "facilitator_failed"));
}

/// Asks for money back as stock clients do: with `GET`, where they have paid or at the place for it.
fn ask_back_at(gateway: &Gateway, path: &str, channel: &Channel, amount: Option<u128>) -> Answer {
    let probe = http::get(gateway.address, path, &[]);
    assert_eq!(probe.status, 402, "{}", probe.text());
    let header = channel.asks_back(&probe, amount);
    http::get(gateway.address, path, &[("payment-signature", &header)])
}

fn ask_back(gateway: &Gateway, channel: &Channel, amount: Option<u128>) -> Answer {
    ask_back_at(gateway, "/farthing/refund", channel, amount)
}

/// X402-22, X402-26: what was not used goes back, the carry with it, once.
#[test]
fn a_refund_gives_back_what_was_not_used() {
    let (upstream, chain) = (Upstream::friendly(), ChannelFacilitator::start());
    let gateway = chain.gateway(upstream.address, "");
    let unread = http::get(gateway.address, "/farthing/refund", &[("payment-signature", "?")]);
    assert_eq!((unread.status, unread.code().as_str()), (402, "malformed_credential"), "{}", unread.text());
    let mut channel = Channel::new(0x31, 0);
    pay(&gateway, &mut channel, Some(DEPOSIT), &ask("one"));
    let offer = batch_offer(&unpaid(&gateway, &ask("x")));
    let (id, account) = (channel.id(&offer), channel.account(&offer));
    let used = u128::try_from(FRIENDLY_COST / 1000).unwrap();

    // A part, in place of a call: nothing is asked of the upstream.
    let body = ask("give back");
    let header = channel.asks_back(&unpaid(&gateway, &body), Some(100_000));
    let part = send(&gateway, &header, &body);
    assert_eq!(part.status, 200, "{}", part.text());
    let said = decode(part.must("payment-response"));
    assert_eq!((&said["success"], &said["amount"]), (&json!(true), &json!("100000")), "{said}");
    assert!(said["extra"]["chargedAmount"].is_null());
    assert_eq!(said["extra"]["channelState"]["balance"], (DEPOSIT - 100_000).to_string());
    channel.balance -= 100_000;
    // The same wish again is the same refund.
    let again = ask_back(&gateway, &channel, Some(100_000));
    assert_eq!(decode(again.must("payment-response"))["transaction"], said["transaction"]);
    assert_eq!((chain.count("refund"), chain.channel(&id).balance), (1, DEPOSIT - 100_000));
    pay(&gateway, &mut channel, None, &ask("two"));

    // More than there is, and of a wrong sum.
    let refused = ask_back(&gateway, &channel, Some(DEPOSIT));
    corrected(&refused, "invalid_batch_settlement_evm_refund_amount_invalid");
    channel.charged += 1;
    corrected(&ask_back(&gateway, &channel, None), MISMATCH);
    channel.charged -= 1;

    // Everything: of the channel only what was metered stays.
    let all = ask_back_at(&gateway, CHAT, &channel, None);
    assert_eq!(all.status, 200, "{}", all.text());
    let said = decode(all.must("payment-response"));
    assert_eq!(said["amount"], (DEPOSIT - 100_000 - 2 * used).to_string());
    let left = chain.channel(&id);
    assert_eq!((left.balance, left.claimed, left.refund_nonce), (2 * used, 2 * used, 2));
    let books = gateway.books_after(2);
    assert_eq!((books.balance(&account), books.count("refund")), (0, 1));
    assert_eq!(books.charged(&account), 2 * FRIENDLY_COST);
    wait_for("what the refund claimed to be moved", || (chain.contract().settled == 2 * used).then_some(()));
    // Nothing is left, and the channel can be filled again.
    (channel.charged, channel.balance) = (2 * used, 2 * used);
    let refused = ask_back(&gateway, &channel, None);
    corrected(&refused, "invalid_batch_settlement_evm_refund_no_balance");
    pay(&gateway, &mut channel, Some(DEPOSIT), &ask("three"));
    assert_eq!(upstream.hits(), 3);
}

/// A refund without an answer is not made twice: the chain counts them, and that is asked.
#[test]
fn a_refund_of_unknown_end_is_made_once() {
    for (number, trick) in [Trick::ActThenFail, Trick::Fail].into_iter().enumerate() {
        let (upstream, chain) = (Upstream::friendly(), ChannelFacilitator::start());
        let mut gateway = chain.gateway(upstream.address, "");
        let mut channel = Channel::new(0x32, u8::try_from(number).unwrap());
        pay(&gateway, &mut channel, Some(DEPOSIT), &ask("one"));
        let offer = batch_offer(&unpaid(&gateway, &ask("x")));
        let (id, account) = (channel.id(&offer), channel.account(&offer));
        chain.trick("refund", trick);
        let unsure = ask_back(&gateway, &channel, None);
        assert_eq!((unsure.status, unsure.code().as_str()), (503, "settlement_unknown"), "{}", unsure.text());
        // Also over a kill.
        gateway.crash_and_restart();
        let done = wait_for("the refund", || {
            let answer = ask_back(&gateway, &channel, None);
            (answer.status == 200).then_some(answer)
        });
        let used = u128::try_from(FRIENDLY_COST / 1000).unwrap();
        assert_eq!(decode(done.must("payment-response"))["amount"], (DEPOSIT - used).to_string());
        let left = chain.channel(&id);
        assert_eq!((left.balance, left.refund_nonce), (used, 1), "{trick:?}");
        assert_eq!(gateway.books().balance(&account), 0);
    }
}

/// A channel pays for calls by itself: not beside a key, and not for balance.
#[test]
fn a_channel_pays_for_calls_only() {
    let (upstream, chain) = (Upstream::friendly(), ChannelFacilitator::start());
    let gateway = chain.gateway(upstream.address, "");
    let channel = Channel::new(0x33, 0);
    let body = ask("one");
    let header = channel.pays(&unpaid(&gateway, &body), Some(DEPOSIT));
    let key = gateway.operator(&["key", "new"])["key"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {key}");
    let fields = [("payment-signature", header.as_str()), ("authorization", bearer.as_str())];
    let refused = http::post(gateway.address, CHAT, &fields, &body);
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (400, "ambiguous_credentials"),
        "{}",
        refused.text()
    );
    let top_up = http::request(gateway.address, "POST", "/farthing/topup", &[], b"");
    let offers = challenge(&top_up)["accepts"].clone();
    assert!(offers.as_array().unwrap().iter().all(|offer| offer["scheme"] == "exact"), "{offers}");
    let sold = http::get(gateway.address, "/farthing/refund", &[]);
    let header = channel.pays(&sold, None);
    let refused = http::get(gateway.address, "/farthing/refund", &[("payment-signature", &header)]);
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!((chain.asked().len(), upstream.hits()), (0, 0));
}
