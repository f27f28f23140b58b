//! Sessions of the `Payment` scheme on payment channels (specs/vouchers.md): from the channel's opening to its end on the
//! chain, and what is refused between. Killed at any point: `mpp_session_kill.rs`.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use farthing_tests::crowd::at_once;
use farthing_tests::gateway::{Gateway, nano, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::mpp::{call, challenge, credential, receipt};
use farthing_tests::refused::assert_refused;
use farthing_tests::reserve::{CHAIN, Ended, Reserve, Trick, escrow_v1};
use farthing_tests::session::{Payer, asked, gateway, manage};
use farthing_tests::socket::Socket;
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};
use proof::voucher::evm::{Escrow, Protocol};
use serde_json::{Value, json};
use wire::hex;
use wire::mpp::tempo::{Descriptor, SessionProtocol, SessionSnapshot};
use wire::mpp::{Challenge, Credential};
use wire::x402::Address;

const CHAT: &str = "/v1/chat/completions";
/// Half a dollar.
const DEPOSIT: u128 = 500_000;
/// What a friendly call costs, in units of the token.
const COST: u128 = FRIENDLY_COST as u128 / 1000;
/// Settles nothing by itself, and looks at the chain as rarely as a test may wait.
const QUIET: &str = ", claim_idle: 1h, claim_above: 1000 USD, look_every: 1h";

fn ask(text: &str) -> Value {
    json!({"model": "m", "max_tokens": 1000, "messages": [{"role": "user", "content": text}]})
}

struct Stage {
    upstream: Upstream,
    reserve: Reserve,
    gateway: Gateway,
}

impl Stage {
    fn new(own: &str) -> Self {
        Self::before(Upstream::friendly(), own)
    }

    fn before(upstream: Upstream, own: &str) -> Self {
        let reserve = Reserve::start();
        let gateway = gateway(upstream.address, &reserve, own, "");
        Self { upstream, reserve, gateway }
    }

    fn challenge(&self) -> Challenge {
        let unpaid = http::post(self.gateway.address, CHAT, &[], &ask("hi"));
        assert_eq!(unpaid.status, 402, "{}", unpaid.text());
        challenge(&unpaid, "tempo")
    }

    fn call(&self, credential: &Credential, text: &str) -> Answer {
        call(&self.gateway, CHAT, credential, &ask(text))
    }

    fn manage(&self, credential: &Credential) -> Answer {
        manage(self.gateway.address, CHAT, credential)
    }

    /// A payer whose channel holds the usual deposit and has paid one call.
    fn payer(&self, number: u8) -> Payer {
        let mut payer = Payer::new(number, 1);
        let challenge = self.challenge();
        let credential = payer.open(&challenge, DEPOSIT, amount(&challenge));
        let answer = self.call(&credential, "hi");
        assert_eq!(answer.status, 200, "{}", answer.text());
        payer
    }

    /// What was accepted, and what of it is not used, as the books have it.
    fn sums(&self, payer: &Payer) -> (u128, u128) {
        let rows = self.gateway.operator(&["ledger", "channels"])["channels"].clone();
        let row = rows.as_array().unwrap().iter().find(|row| row["account"] == payer.account()).unwrap();
        let units = |name: &str| u128::try_from(nano(&row[name]["amount"])).unwrap() / 1000;
        (units("charged"), units("unused"))
    }
}

/// What a challenge asks a voucher to add.
fn amount(challenge: &Challenge) -> u128 {
    asked(challenge).amount.parse().unwrap()
}

#[track_caller]
fn assert_problem(answer: &Answer, status: u16, problem: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["type"], format!("https://paymentauth.org/problems/{problem}"), "{body}");
    assert_eq!(body["money"], "nothing_taken", "{body}");
    assert_eq!(answer.headers.iter().any(|(name, _)| name == "www-authenticate"), status == 402, "{body}");
}

/// ENG-1, MPP-18: the channel is opened by the payer's own transaction, a call draws on the voucher, and the receipt says
/// where the session stands.
#[test]
fn eng_1_a_session_is_opened_and_paid_by_vouchers() {
    let stage = Stage::new(QUIET);
    let first = stage.challenge();
    let request = asked(&first);
    assert_eq!(request.method_details.chain_id, Some(42431));
    assert_eq!(request.suggested_deposit.as_deref(), Some("1000000"));
    let mut payer = Payer::new(0x21, 1);
    let step = amount(&first);
    let answer = stage.call(&payer.open(&first, DEPOSIT, step), "call 0");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = receipt(&answer).unwrap();
    assert_eq!((told.method.as_str(), told.intent.as_deref()), ("tempo", Some("session")));
    assert_eq!(told.channel_id, Some(hex::encode_0x(&payer.id())));
    assert_eq!(told.reference, hex::encode_0x(&payer.id()));
    assert_eq!(told.accepted_cumulative, Some(step.to_string()));
    assert!(answer.must("cache-control").contains("private"));
    assert_eq!(answer.header("farthing-key"), None, "what is left is the channel's");
    assert_eq!(stage.reserve.contract().done, ["open"]);
    for n in 1..=3u128 {
        let answer = stage.call(&payer.voucher(&first, step + n * COST), &format!("call {n}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let books = stage.gateway.books_after(4);
    assert_eq!((books.count("deposit"), books.count("capture")), (4, 4));
    assert_eq!(stage.sums(&payer), (step + 3 * COST, step - COST));
    assert_eq!(books.charged(&payer.account()), 4 * FRIENDLY_COST);
    assert_eq!(stage.reserve.contract().done, ["open"], "vouchers cost the chain nothing");
    assert_eq!(stage.upstream.hits(), 4);
    assert_eq!(stage.gateway.operator(&["fsck"])["clean"], json!(true));
}

/// A stream ends with the receipt of its session.
#[test]
fn mpp_19_a_stream_says_what_it_came_to() {
    let stage = Stage::new(QUIET);
    let payer = stage.payer(0x22);
    let (accepted, _) = stage.sums(&payer);
    let mut body = ask("stream");
    body["stream"] = json!(true);
    let answer = call(&stage.gateway, CHAT, &payer.voucher(&stage.challenge(), accepted + 4_000), &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.text();
    let event = text.split("event: payment-receipt\ndata: ").nth(1).unwrap();
    let (event, rest) = event.split_once("\n\n").unwrap();
    let told: Value = serde_json::from_str(event).unwrap();
    assert_eq!(told["acceptedCumulative"], (accepted + 4_000).to_string());
    assert_eq!((&told["spent"], &told["units"]), (&json!((2 * COST).to_string()), &json!(30)));
    assert!(rest.starts_with("data: [DONE]"), "{rest}");
}

/// ENG-2, ENG-6, MPP-30: what is not taken, and that it costs nothing.
#[test]
fn eng_2_mpp_30_vouchers_that_are_not_taken() {
    let stage = Stage::new(", claim_idle: 1h, look_every: 1h, min_delta: 0.0001 USD");
    let payer = stage.payer(0x23);
    let (accepted, unused) = stage.sums(&payer);
    let fresh = stage.challenge();
    assert_eq!(asked(&fresh).method_details.min_voucher_delta.as_deref(), Some("100"));
    let with = |change: &dyn Fn(&mut Value)| {
        let mut credential = payer.voucher(&fresh, accepted + 1000);
        let mut payload = Value::Object(credential.payload);
        change(&mut payload);
        let Value::Object(members) = payload else { unreachable!() };
        credential.payload = members;
        credential
    };
    let mut high_s = payer.signature(accepted + 1000);
    let s = order_less(high_s[32..64].try_into().unwrap());
    high_s[32..64].copy_from_slice(&s);
    high_s[64] = 55 - high_s[64];
    let mut stranger = Payer::new(0x99, 1);
    stranger.channel = payer.channel;
    for (what, credential, status, problem) in [
        ("lower", payer.voucher(&fresh, accepted - 1), 402, "session/delta-too-small"),
        ("too small a step", payer.voucher(&fresh, accepted + 99), 402, "session/delta-too-small"),
        ("more than is there", payer.voucher(&fresh, DEPOSIT + 1), 402, "session/amount-exceeds-deposit"),
        (
            "high s",
            with(&|payload| payload["signature"] = json!(hex::encode_0x(&high_s))),
            402,
            "session/invalid-signature",
        ),
        (
            "no signature",
            with(&|payload| payload["signature"] = json!("0x")),
            402,
            "session/invalid-signature",
        ),
        ("somebody else's", stranger.voucher(&fresh, accepted + 1000), 402, "session/signer-mismatch"),
        (
            "another sum",
            with(&|payload| payload["cumulativeAmount"] = json!("100001")),
            402,
            "session/signer-mismatch",
        ),
        (
            "no number",
            with(&|payload| payload["cumulativeAmount"] = json!("1e3")),
            402,
            "malformed-credential",
        ),
        (
            "no descriptor",
            with(&|payload| {
                payload.as_object_mut().unwrap().remove("descriptor");
            }),
            402,
            "malformed-credential",
        ),
        (
            "another payee",
            with(&|payload| {
                payload["descriptor"]["payee"] = json!("0x2222222222222222222222222222222222222222")
            }),
            402,
            "verification-failed",
        ),
    ] {
        println!("{what}");
        for answer in [stage.call(&credential, what), stage.manage(&credential)] {
            assert_problem(&answer, status, problem);
        }
    }
    // Nothing of what was accepted before was lost by it, and the compact form is as good as the other.
    assert_eq!(stage.sums(&payer), (accepted, unused));
    let full = payer.signature(accepted + 1000);
    let mut compact: [u8; 64] = full[..64].try_into().unwrap();
    compact[32] |= (full[64] - 27) << 7;
    let credential = with(&|payload| payload["signature"] = json!(hex::encode_0x(&compact)));
    assert_eq!(stage.call(&credential, "compact").status, 200);
    assert_eq!(stage.upstream.hits(), 2);
}

/// The twin of `s`: the group's order less it.
fn order_less(s: [u8; 32]) -> [u8; 32] {
    const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    let mut order: [u8; 32] = hex::decode_array(ORDER).unwrap();
    let mut borrow = 0;
    for (place, less) in order.iter_mut().zip(s).rev() {
        let (first, under) = place.overflowing_sub(less);
        let (second, too) = first.overflowing_sub(borrow);
        (*place, borrow) = (second, u8::from(under || too));
    }
    order
}

/// ENG-2, reference item 15: the accepted voucher again changes nothing; for the same request it has the stored outcome, for
/// another it draws on what is left.
#[test]
fn eng_2_the_accepted_voucher_again() {
    let stage = Stage::new(QUIET);
    let payer = stage.payer(0x24);
    let (accepted, unused) = stage.sums(&payer);
    let again = payer.voucher(&stage.challenge(), accepted + 2 * COST);
    let first = stage.call(&again, "one");
    assert_eq!(first.status, 200, "{}", first.text());
    let replayed = stage.call(&again, "one");
    assert_eq!((replayed.status, replayed.header("farthing-replayed")), (200, Some("true")));
    assert_eq!(stage.upstream.hits(), 2);
    let other = stage.call(&again, "two");
    assert_eq!((other.status, stage.upstream.hits()), (200, 3));
    stage.gateway.books_after(3);
    assert_eq!(stage.sums(&payer), (accepted + 2 * COST, unused));
    // It alone: nothing happens, and the session says where it stands.
    for _ in 0..2 {
        let alone = stage.manage(&again);
        assert_eq!((alone.status, stage.upstream.hits()), (200, 3), "{}", alone.text());
        assert_eq!(receipt(&alone).unwrap().accepted_cumulative, Some((accepted + 2 * COST).to_string()));
    }
    assert_eq!(stage.sums(&payer), (accepted + 2 * COST, unused));
    assert_eq!(stage.gateway.operator(&["fsck"])["clean"], json!(true));
}

/// A voucher alone, by HEAD or without a body, is taken and asks no upstream; without a credential HEAD gets a challenge.
#[test]
fn eng_8_a_voucher_alone_asks_no_upstream() {
    let stage = Stage::new(QUIET);
    let payer = stage.payer(0x25);
    let (accepted, unused) = stage.sums(&payer);
    let bare = http::request(stage.gateway.address, "HEAD", CHAT, &[], b"");
    assert_eq!((bare.status, bare.body.len()), (402, 0));
    let fresh = challenge(&bare, "tempo");
    let header = payer.voucher(&fresh, accepted + 700).to_value();
    let taken = http::request(stage.gateway.address, "HEAD", CHAT, &[("authorization", &header)], b"");
    assert_eq!((taken.status, taken.body.len()), (200, 0));
    let told = receipt(&taken).unwrap();
    assert_eq!(
        (told.accepted_cumulative, told.spent),
        (Some((accepted + 700).to_string()), Some(COST.to_string()))
    );
    let posted = stage.manage(&payer.voucher(&fresh, accepted + 800));
    assert_eq!(posted.status, 200, "{}", posted.text());
    assert_eq!(stage.sums(&payer), (accepted + 800, unused + 800));
    assert_eq!(stage.upstream.hits(), 1);
}

/// The deposit is raised by the payer's transaction, once, however often it is shown.
#[test]
fn a_top_up_raises_what_may_be_vouched_for() {
    let stage = Stage::new(QUIET);
    let mut payer = stage.payer(0x26);
    let fresh = stage.challenge();
    let over = payer.voucher(&fresh, DEPOSIT + 1000);
    assert_problem(&stage.manage(&over), 402, "session/amount-exceeds-deposit");
    let more = payer.top_up(&fresh, 2000);
    for _ in 0..2 {
        let answer = stage.manage(&more);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["deposit"], (DEPOSIT + 2000).to_string());
        assert!(receipt(&answer).unwrap().tx_hash.is_some());
    }
    assert_eq!(stage.reserve.channel(&payer.id()).deposit, DEPOSIT + 2000);
    assert_eq!(stage.call(&over, "more").status, 200);
    // A call is no place for it.
    assert_eq!(
        stage.call(&payer.top_up(&fresh, 1), "more").status,
        200,
        "it is about the channel, whatever came with it"
    );
    assert_eq!(stage.upstream.hits(), 2, "and asks no upstream");
}

/// ENG-4: what was used is taken, not what was promised; the rest goes back; after that nothing is taken any more.
#[test]
fn eng_4_a_session_ends_exact() {
    let stage = Stage::new(QUIET);
    let payer = stage.payer(0x27);
    let (accepted, _) = stage.sums(&payer);
    let fresh = stage.challenge();
    assert_problem(&stage.manage(&payer.close(&fresh, COST - 1)), 402, "verification-failed");
    let close = payer.close(&fresh, accepted);
    let answer = stage.manage(&close);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = receipt(&answer).unwrap();
    assert_eq!(told.spent, Some(COST.to_string()));
    assert_eq!(stage.reserve.ended(&payer.id()), Some(Ended { captured: COST, refunded: DEPOSIT - COST }));
    // Asked again it is told the same, and nothing is sent.
    let again = stage.manage(&close);
    assert_eq!(receipt(&again).unwrap().tx_hash, told.tx_hash);
    assert_eq!(stage.reserve.contract().done, ["open", "close"]);
    for credential in [payer.voucher(&fresh, accepted + 1000), payer.voucher(&fresh, accepted)] {
        for answer in [stage.call(&credential, "late"), stage.manage(&credential)] {
            assert_problem(&answer, 410, "session/channel-finalized");
        }
    }
    let books = stage.gateway.books();
    assert_eq!((books.balance(&payer.account()), books.count("refund")), (0, 1));
    assert_eq!(stage.gateway.operator(&["fsck"])["clean"], json!(true));
    assert_eq!(stage.upstream.hits(), 1);
}

/// IDN-35: from a payer who is blocked no voucher is taken and no channel is opened; what he has left in one goes back.
#[test]
fn idn_35_a_blocked_payer_gets_what_is_left_and_nothing_else() {
    let stage = Stage::new(QUIET);
    let payer = stage.payer(0x29);
    let (accepted, _) = stage.sums(&payer);
    let blocked = format!("identity: {{ block: [\"{}\"] }}\n", payer.address());
    let text = std::fs::read_to_string(stage.gateway.config()).unwrap();
    std::fs::write(stage.gateway.config(), format!("{text}{blocked}")).unwrap();
    stage.gateway.operator(&["reload"]);
    let fresh = stage.challenge();
    let voucher = payer.voucher(&fresh, accepted + amount(&fresh));
    for answer in [stage.call(&voucher, "more"), stage.manage(&voucher)] {
        assert_refused(&answer, 403, "agent_blocked", "nothing_taken");
    }
    assert_eq!(stage.sums(&payer).0, accepted);
    let closed = stage.manage(&payer.close(&fresh, accepted));
    assert_eq!(closed.status, 200, "{}", closed.text());
    assert_eq!(stage.reserve.ended(&payer.id()), Some(Ended { captured: COST, refunded: DEPOSIT - COST }));
    let mut again = Payer::again(payer, 2);
    let opening = again.open(&fresh, DEPOSIT, amount(&fresh));
    assert_refused(&stage.call(&opening, "anew"), 403, "agent_blocked", "nothing_taken");
    assert_eq!(stage.reserve.contract().done, ["open", "close"], "his transaction was not passed on");
    stage.payer(0x2a);
    assert_eq!(stage.upstream.hits(), 2, "everybody else");
}

/// ENG-4: nothing ends under a call.
#[test]
fn eng_4_a_call_that_runs_is_not_closed_under() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let upstream = Upstream::start(move |request, stream| {
        use std::io::Write as _;
        let _ = released.lock().unwrap().recv_timeout(farthing_tests::gateway::PATIENCE);
        let _ = stream.write_all(&farthing_tests::upstream::friendly_answer(request));
    });
    let stage = Stage::before(upstream, QUIET);
    release.send(()).unwrap();
    let payer = stage.payer(0x28);
    let (accepted, _) = stage.sums(&payer);
    let fresh = stage.challenge();
    let (address, header) = (stage.gateway.address, payer.voucher(&fresh, accepted + 10_000).to_value());
    let running =
        std::thread::spawn(move || http::post(address, CHAT, &[("authorization", &header)], &ask("long")));
    wait_for("the call to go up", || (stage.upstream.hits() == 2).then_some(()));
    let close = payer.close(&fresh, accepted + 10_000);
    assert_refused(&stage.manage(&close), 409, "in_progress", "nothing_taken");
    release.send(()).unwrap();
    assert_eq!(running.join().unwrap().status, 200);
    stage.gateway.books_after(2);
    assert_eq!(stage.manage(&close).status, 200);
    assert_eq!(stage.reserve.ended(&payer.id()).unwrap().captured, 2 * COST);
}

/// ENG-7: several calls of one channel at a time, each with its own hold, and what they used is charged once.
#[test]
fn eng_7_calls_of_one_channel_run_side_by_side() {
    let stage = Stage::new(QUIET);
    let payer = stage.payer(0x29);
    let fresh = stage.challenge();
    let credential = payer.voucher(&fresh, 100_000);
    assert_eq!(stage.manage(&credential).status, 200);
    let header = credential.to_value();
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|n| {
                let (address, header) = (stage.gateway.address, &header);
                scope.spawn(move || {
                    http::post(address, CHAT, &[("authorization", header)], &ask(&format!("call {n}"))).status
                })
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 8, "{answers:?}");
    stage.gateway.books_after(9);
    assert_eq!(stage.sums(&payer), (100_000, 100_000 - 9 * COST));
}

/// ENG-5: what is used up is settled when it is time, by a voucher that takes nothing of the payer's and opens nothing to
/// whoever reads it on the chain.
#[test]
fn eng_5_what_is_owed_is_settled() {
    let stage = Stage::new(", claim_idle: 1h, claim_above: 0 USD, look_every: 1h");
    let body = |n: u128| json!({"model": "m", "max_tokens": 20, "messages": [{"role": "user", "content": format!("{n}")}]});
    let fresh = challenge(&http::post(stage.gateway.address, CHAT, &[], &body(0)), "tempo");
    let step = amount(&fresh);
    assert!(step < 10 * COST, "few calls use it up: {step}");
    let mut payer = Payer::new(0x2a, 1);
    // Whole calls, so that the first promise is used up when the second has come.
    let first = step.div_ceil(COST) * COST;
    let mut credential = payer.open(&fresh, DEPOSIT, first);
    let calls = first / COST + 1;
    for n in 0..calls {
        // A call needs room for more than it uses.
        if (calls - n) * COST <= step + COST {
            credential = payer.voucher(&fresh, first + step);
        }
        let answer = call(&stage.gateway, CHAT, &credential, &body(n));
        assert_eq!(answer.status, 200, "call {n} of {calls}: {}", answer.text());
    }
    stage.gateway.books_after(usize::try_from(calls).unwrap());
    // One more voucher, now that the first is used up.
    assert_eq!(stage.manage(&payer.voucher(&fresh, first + 2 * step)).status, 200);
    let settled =
        wait_for("a settlement", || Some(stage.reserve.channel(&payer.id()).settled).filter(|sum| *sum > 0));
    let used = calls * COST;
    assert!(
        settled >= first && settled <= used,
        "{settled} of {used}: a promise that is used up, and no other"
    );
    for published in stage.reserve.contract().published.clone() {
        let shown = payer.voucher(&fresh, published);
        assert_problem(&stage.call(&shown, "read on the chain"), 402, "session/delta-too-small");
    }
    assert_eq!(stage.gateway.operator(&["fsck"])["clean"], json!(true));
}

/// ENG-5: a payer who withdraws on the chain: nothing more is taken, and what he owes is while it is there.
#[test]
fn eng_5_a_payer_who_withdraws_is_noticed() {
    let stage = Stage::new(", claim_idle: 1h, look_every: 1s");
    let payer = stage.payer(0x2b);
    let (accepted, _) = stage.sums(&payer);
    let fresh = stage.challenge();
    stage.reserve.request_close(&payer.id());
    let ended = wait_for("the channel to be closed", || stage.reserve.ended(&payer.id()));
    assert_eq!(ended, Ended { captured: COST, refunded: DEPOSIT - COST });
    let answer = stage.manage(&payer.voucher(&fresh, accepted + 1000));
    assert_problem(&answer, 410, "session/channel-finalized");
    assert_eq!(stage.upstream.hits(), 1);
}

/// ENG-5: another contract keeps new channels by now. What older ones owe is still taken, where they are kept; nothing is
/// accepted for them that could be shown to no contract.
#[test]
fn eng_5_channels_of_an_earlier_contract_are_ended_there() {
    let earlier = Escrow::new(Protocol::TempoV2, CHAIN, Address([0x44; 20]));
    let (upstream, reserve) = (Upstream::friendly(), Reserve::of(earlier));
    let named = format!(", escrow: \"{}\"", earlier.contract());
    let own = format!(", claim_idle: 1h, look_every: 1s{named}");
    let gateway = gateway(upstream.address, &reserve, &own, "");
    let stage = Stage { upstream, reserve, gateway };
    let fresh = stage.challenge();
    let (mut payer, step) = (Payer::at(0x36, earlier), amount(&fresh));
    let answer = stage.call(&payer.open(&fresh, DEPOSIT, step), "hi");
    assert_eq!(answer.status, 200, "{}", answer.text());
    stage.gateway.books_after(1);
    let text = std::fs::read_to_string(stage.gateway.config()).unwrap();
    std::fs::write(stage.gateway.config(), text.replace(&named, "")).unwrap();
    stage.gateway.operator(&["reload"]);
    let late = payer.voucher(&stage.challenge(), step + 1000);
    assert_problem(&stage.manage(&late), 402, "verification-failed");
    stage.reserve.request_close(&payer.id());
    let ended = wait_for("the channel to be closed", || stage.reserve.ended(&payer.id()));
    assert_eq!(ended, Ended { captured: COST, refunded: DEPOSIT - COST });
    assert_eq!(stage.gateway.operator(&["fsck"])["clean"], json!(true));
}

/// IDN-35: of a payer that is blocked nothing is claimed, neither his channel nor a voucher; what he has he may end.
#[test]
fn idn_35_a_blocked_payer_has_no_session() {
    let mut payer = Payer::new(0x37, 1);
    let blocked = |payer: &Payer| format!("identity: {{ block: [\"{}\"] }}\n", payer.address());
    let (upstream, reserve) = (Upstream::friendly(), Reserve::start());
    let gateway = gateway(upstream.address, &reserve, QUIET, &blocked(&payer));
    let stage = Stage { upstream, reserve, gateway };
    let fresh = stage.challenge();
    let step = amount(&fresh);
    let refused = stage.call(&payer.open(&fresh, DEPOSIT, step), "hi");
    assert_refused(&refused, 403, "agent_blocked", "nothing_taken");
    assert!(stage.reserve.contract().done.is_empty(), "nor was his transaction sent");
    let other = stage.payer(0x38);
    let (accepted, _) = stage.sums(&other);
    let text = std::fs::read_to_string(stage.gateway.config()).unwrap();
    std::fs::write(stage.gateway.config(), text.replace(&blocked(&payer), &blocked(&other))).unwrap();
    stage.gateway.operator(&["reload"]);
    let late = stage.manage(&other.voucher(&fresh, accepted + 1000));
    assert_refused(&late, 403, "agent_blocked", "nothing_taken");
    assert_eq!(stage.manage(&other.close(&fresh, accepted)).status, 200);
    let ended = Ended { captured: COST, refunded: DEPOSIT - COST };
    assert_eq!(stage.reserve.ended(&other.id()), Some(ended));
    assert_eq!(stage.upstream.hits(), 1);
}

/// Limits of what a stranger may ask for (ENG-6).
#[test]
fn eng_6_channels_have_a_least_and_payers_a_most() {
    let stage = Stage::new(", channels_per_payer: 2, min_deposit: 0.05 USD");
    let fresh = stage.challenge();
    let mut poor = Payer::new(0x2c, 9);
    let answer = stage.call(&poor.open(&fresh, 49_999, 5_000), "hi");
    assert_problem(&answer, 402, "payment-insufficient");
    // What has nothing to do with our contract is not passed on for anybody.
    let mut elsewhere = poor.open(&fresh, DEPOSIT, 5_000);
    let text = elsewhere.payload["transaction"].as_str().unwrap().replace("4d5050", "4d5051");
    elsewhere.payload.insert("transaction".to_owned(), json!(text));
    assert_problem(&stage.manage(&elsewhere), 402, "malformed-credential");
    let mut nonce_kept = Payer::new(0x2d, 1);
    for salt in 1..=3u8 {
        nonce_kept = Payer::again(nonce_kept, salt);
        let answer = stage.call(&nonce_kept.open(&fresh, DEPOSIT, 5_000), &format!("{salt}"));
        if salt < 3 {
            assert_eq!(answer.status, 200, "{}", answer.text());
        } else {
            assert_refused(&answer, 429, "rate_limited", "nothing_taken");
        }
    }
    assert_eq!(stage.reserve.contract().done, ["open", "open", "open"], "of the third nothing was sent");
    // Ten vouchers of a channel in a second, thirty at once; tried so often that one is too many.
    let payer = stage.payer(0x2e);
    let refused = (1..200u128).find_map(|n| {
        let answer = stage.manage(&payer.voucher(&fresh, 10_000 + n));
        (answer.status != 200).then_some(answer)
    });
    assert_refused(&refused.unwrap(), 429, "rate_limited", "nothing_taken");
}

/// IDN-35: a block reaches a stream that runs at its next hold, and one that waits for money at once, whatever was vouched
/// for before; what was delivered is charged, and the rest stays the payer's.
#[test]
fn idn_35_a_block_ends_streams_that_run() {
    const PIECES: usize = 40;
    // The first is vouched for as a whole, the second is used up after a few pieces.
    for (number, vouched) in [(0x33, 400_000), (0x34, 300)] {
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = std::sync::Mutex::new(released);
        let upstream = Upstream::start(move |_, stream| {
            use std::io::Write as _;
            let _ = stream.write_all(farthing_tests::upstream::STREAM_HEAD.as_bytes());
            for at in 0..PIECES {
                // Ten tokens, as a hold counts them.
                let choice = json!({"index": 0, "delta": {"content": "0123456789".repeat(4)}});
                let piece = json!({"id": "c", "choices": [choice], "at": at});
                if stream.write_all(format!("data: {piece}\n\n").as_bytes()).is_err() {
                    return;
                }
                if at == 4 {
                    let _ = released.lock().unwrap().recv_timeout(farthing_tests::gateway::PATIENCE);
                }
            }
            let usage = json!({"prompt_tokens": 10, "completion_tokens": PIECES * 10, "total_tokens": 0});
            let end = json!({"id": "c", "choices": [], "usage": usage});
            let _ = stream.write_all(format!("data: {end}\n\ndata: [DONE]\n\n").as_bytes());
        });
        let reserve = Reserve::start();
        let steps = "metering: { hold: { step: 16, default_output: 16, min_output: 4 } }\n";
        let gateway = gateway(upstream.address, &reserve, QUIET, steps);
        let stage = Stage { upstream, reserve, gateway };
        let mut payer = Payer::new(number, 1);
        let opening = payer.open(&stage.challenge(), DEPOSIT, vouched).to_value();
        let mut body = ask("stream");
        body.as_object_mut().unwrap().remove("max_tokens");
        body["stream"] = json!(true);
        let mut socket = Socket::connect(stage.gateway.address);
        let headers = [("authorization", opening.as_str())];
        assert!(socket.send(http::posted(stage.gateway.address, CHAT, &headers, &body)));
        assert!(socket.read_until(if vouched > 1_000 { "\"at\":3" } else { "payment-need-voucher" }));
        let text = std::fs::read_to_string(stage.gateway.config()).unwrap();
        let blocked = format!("identity: {{ block: [\"{}\"] }}\n", payer.address());
        std::fs::write(stage.gateway.config(), format!("{text}{blocked}")).unwrap();
        stage.gateway.operator(&["reload"]);
        release.send(()).unwrap();
        let answer = socket.answer().unwrap();
        let told = answer.text();
        assert!(told.contains("payment-receipt") && told.ends_with("data: [DONE]\n\n"), "{told}");
        assert!(told.contains("\"finish_reason\":\"length\"") && !told.contains("\"at\":12"), "{told}");
        let books = stage.gateway.books_after(1);
        let left = i64::try_from(vouched).unwrap() * 1000 - books.charged(&payer.account());
        assert_eq!(books.balance(&payer.account()), left);
        let most = 12 * 10 * 4_000 + 100 * 1_000;
        assert!(books.charged(&payer.account()) <= most, "what was delivered, and no more");
    }
}

/// ENG-6: a payer gets no channel more than he may by opening several at once.
#[test]
fn eng_6_channels_of_a_payer_are_counted_exactly() {
    let stage = Stage::new(", channels_per_payer: 1");
    let fresh = stage.challenge();
    // Of one payer, each another channel; nothing of the one before was sent when the next is signed.
    let openings: Vec<Credential> =
        (1..=8).map(|salt| Payer::new(0x2f, salt).open(&fresh, DEPOSIT, 5_000)).collect();
    let answers = at_once(openings.len(), |at| stage.call(&openings[at], &format!("{at}")).status);
    let of = |status: u16| answers.iter().filter(|answer| **answer == status).count();
    assert_eq!((of(200), of(429)), (1, 7), "{answers:?}");
    assert_eq!(stage.reserve.contract().done, ["open"]);
}

/// ENG-6: each top-up is a question to a node, so they are counted like vouchers: ten of a channel in a second.
#[test]
fn eng_6_top_ups_have_a_rate_of_their_own() {
    let stage = Stage::new(QUIET);
    let mut payer = stage.payer(0x2f);
    let fresh = stage.challenge();
    let more = payer.top_up(&fresh, 1_000);
    assert_eq!(stage.manage(&more).status, 200);
    // The same transaction again is no other top-up, and asks the node all the same.
    let answers = at_once(8, |_| {
        let tries = (0..25).map(|_| stage.manage(&more));
        tries.filter(|answer| answer.status != 200).collect::<Vec<_>>()
    });
    let refused: Vec<_> = answers.into_iter().flatten().collect();
    assert!(!refused.is_empty(), "two hundred were let through");
    for answer in &refused {
        assert_refused(answer, 429, "rate_limited", "nothing_taken");
        assert_eq!(answer.json()["error"]["reason"], "top_ups");
    }
    let (accepted, _) = stage.sums(&payer);
    assert_eq!(
        stage.manage(&payer.voucher(&fresh, accepted + 1_000)).status,
        200,
        "vouchers are another matter"
    );
    assert_eq!(stage.reserve.channel(&payer.id()).deposit, DEPOSIT + 1_000);
}

/// Version 1: a payload says nothing of the channel, its contract does; and its end takes all of a promise, so it needs one of
/// just what was used.
#[test]
fn a_session_of_version_1_from_end_to_end() {
    let (upstream, reserve) = (Upstream::friendly(), Reserve::of(escrow_v1()));
    let own = format!("{QUIET}, protocol: v1, escrow: \"{}\"", escrow_v1().contract());
    let gateway = gateway(upstream.address, &reserve, &own, "");
    let stage = Stage { upstream, reserve, gateway };
    let fresh = stage.challenge();
    assert_eq!(asked(&fresh).method_details.session_protocol, Some(SessionProtocol::V1));
    let mut payer = Payer::at(0x31, escrow_v1());
    let step = amount(&fresh);
    let mut stranger = Payer::at(0x32, escrow_v1());
    let open = payer.open(&fresh, DEPOSIT, step);
    // Whoever knows its id and is not in it opens nothing, before or after it is ours.
    stranger.channel = payer.channel;
    assert_problem(&stage.call(&stranger.voucher(&fresh, step), "hi"), 410, "session/channel-not-found");
    assert_eq!(stage.call(&open, "one").status, 200);
    assert_problem(&stage.call(&stranger.voucher(&fresh, step + 1), "hi"), 402, "session/signer-mismatch");
    assert_eq!(stage.call(&payer.voucher(&fresh, step + COST), "two").status, 200);
    let more = stage.manage(&payer.top_up(&fresh, 1000));
    assert_eq!(more.json()["deposit"], (DEPOSIT + 1000).to_string(), "{}", more.text());
    stage.gateway.books_after(2);
    let whole = stage.manage(&payer.close(&fresh, step + COST));
    assert_problem(&whole, 402, "verification-failed");
    assert_eq!(whole.json()["spent"], (2 * COST).to_string(), "it says which sum to sign");
    assert_eq!(stage.sums(&payer), (step + COST, step - COST), "and nothing has ended by it");
    let exact = stage.manage(&payer.close(&fresh, 2 * COST));
    assert_eq!(exact.status, 200, "{}", exact.text());
    let ended = Ended { captured: 2 * COST, refunded: DEPOSIT + 1000 - 2 * COST };
    assert_eq!(stage.reserve.ended(&payer.id()), Some(ended));
    assert_problem(&stage.manage(&payer.voucher(&fresh, step + 2 * COST)), 410, "session/channel-finalized");
    assert_eq!(stage.gateway.operator(&["fsck"])["clean"], json!(true));
}

/// ENG-4, ENG-5: of version 1 a payer who withdraws is taken from by a promise that he has not used up, because his contract gives
/// no part of one. What he has not used of it stays on his account, and is nobody's income.
#[test]
fn eng_4_5_a_payer_of_version_1_who_withdraws_pays_what_he_used() {
    let (upstream, reserve) = (Upstream::friendly(), Reserve::of(escrow_v1()));
    let own =
        format!(", claim_idle: 1h, look_every: 1s, protocol: v1, escrow: \"{}\"", escrow_v1().contract());
    let gateway = gateway(upstream.address, &reserve, &own, "");
    let stage = Stage { upstream, reserve, gateway };
    let fresh = stage.challenge();
    let mut payer = Payer::at(0x37, escrow_v1());
    let first = amount(&fresh);
    assert_eq!(stage.call(&payer.open(&fresh, DEPOSIT, first), "one").status, 200);
    // Promised, and nothing of it used: the lower one is enough.
    assert_eq!(stage.manage(&payer.voucher(&fresh, first + 50_000)).status, 200);
    stage.gateway.books_after(1);
    stage.reserve.request_close(&payer.id());
    let ended = wait_for("the channel to be closed", || stage.reserve.ended(&payer.id()));
    assert_eq!(ended, Ended { captured: first, refunded: DEPOSIT - first });
    wait_for("the end to be written", || (stage.sums(&payer).0 == first).then_some(()));
    assert_eq!(stage.sums(&payer), (first, first - COST));
    let books = stage.gateway.books();
    assert_eq!(books.charged(&payer.account()), FRIENDLY_COST, "no more is income");
    let nano = |units: u128| 1000 * i64::try_from(units).unwrap();
    assert_eq!(books.balance(&payer.account()), nano(first - COST));
    assert_eq!(books.named("rail_clearing:mpp-session:"), -nano(first), "what the chain gave us");
    let log = stage.gateway.log();
    assert!(log.contains("takes more than was used") && log.contains(&payer.account()), "{log}");
    assert!(!log.contains("ALARM"), "{log}");
    // Nobody draws on it by vouchers; whoever has a key to it does.
    assert_problem(
        &stage.call(&payer.voucher(&fresh, first + 50_000), "late"),
        410,
        "session/channel-finalized",
    );
    let key = stage.gateway.operator(&["key", "new", "--account", &payer.account()])["key"].clone();
    let bearer = format!("Bearer {}", key.as_str().unwrap());
    let body = json!({"model": "m", "max_tokens": 20, "messages": [{"role": "user", "content": "left"}]});
    let answer = http::post(stage.gateway.address, CHAT, &[("authorization", &bearer)], &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(stage.gateway.books_after(2).balance(&payer.account()), nano(first - 2 * COST));
    assert_eq!(stage.gateway.operator(&["fsck"])["clean"], json!(true));
}

/// A voucher that is accepted and not enough for the call stays the payer's, who is told what lacks.
#[test]
fn a_call_that_the_session_does_not_cover_says_what_lacks() {
    let stage = Stage::new(QUIET);
    let fresh = stage.challenge();
    let mut payer = Payer::new(0x33, 1);
    let step = amount(&fresh);
    let answer = stage.call(&payer.open(&fresh, DEPOSIT, 1), "hi");
    assert_eq!((answer.status, answer.code().as_str()), (402, "insufficient_balance"), "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["type"], "https://paymentauth.org/problems/session/insufficient-balance", "{body}");
    assert_eq!(
        (&body["requiredTopUp"], &body["money"]),
        (&json!((step - 1).to_string()), &json!("deposit_kept")),
        "{body}"
    );
    let told = snapshot(&answer).unwrap();
    assert_eq!((told.accepted_cumulative, told.required_cumulative), ("1".to_owned(), step.to_string()));
    assert_eq!(stage.sums(&payer), (1, 1));
    assert_eq!(stage.call(&payer.voucher(&fresh, step), "hi").status, 200);
}

/// Where the challenge of an answer says that its channel stands.
fn snapshot(answer: &Answer) -> Option<SessionSnapshot> {
    asked(&challenge(answer, "tempo")).method_details.session_snapshot
}

/// Whoever names a channel is told its sums, and nothing that would draw on it; no node is asked.
#[test]
fn a_payer_who_forgot_is_told_where_his_channel_stands() {
    let stage = Stage::new(QUIET);
    let payer = stage.payer(0x37);
    stage.gateway.books_after(1);
    let (accepted, unused) = stage.sums(&payer);
    let id = hex::encode_0x(&payer.id());
    let channel = payer.channel.unwrap();
    let naming = |names: &[(&str, &str)]| http::post(stage.gateway.address, CHAT, names, &ask("hi"));
    let questions = stage.reserve.questions();
    let answer = naming(&[("payment-session", &id)]);
    let fresh = challenge(&answer, "tempo");
    let expected = SessionSnapshot {
        channel_id: id.clone(),
        descriptor: Descriptor {
            payer: channel.payer.to_string(),
            payee: channel.payee.to_string(),
            operator: channel.operator.to_string(),
            token: channel.token.to_string(),
            salt: hex::encode_0x(&channel.salt),
            authorized_signer: channel.authorized_signer.to_string(),
            expiring_nonce_hash: hex::encode_0x(&channel.expiring_nonce_hash),
        },
        escrow: asked(&fresh).method_details.escrow_contract.unwrap(),
        chain_id: 42431,
        deposit: DEPOSIT.to_string(),
        settled: "0".to_owned(),
        accepted_cumulative: accepted.to_string(),
        spent: COST.to_string(),
        required_cumulative: (accepted + amount(&fresh) - unused).to_string(),
    };
    assert_eq!(snapshot(&answer), Some(expected));
    let request = Value::Object(fresh.request_object().unwrap()).to_string();
    let newest = hex::encode(&payer.signature(accepted));
    assert!(!request.contains(&newest) && !request.contains("ignature"), "{request}");
    let stranger = hex::encode_0x(&[7; 32]);
    for names in [
        &[][..],
        &[("payment-session", stranger.as_str())],
        &[("payment-session", "0x12")],
        &[("payment-session", id.as_str()), ("payment-session", id.as_str())],
    ] {
        assert_eq!(snapshot(&naming(names)), None, "{names:?}");
    }
    assert_eq!(stage.reserve.questions(), questions);
    // What it says is enough for the call.
    let required = accepted + amount(&fresh) - unused;
    assert_eq!(stage.call(&payer.voucher(&fresh, required), "hi").status, 200);
}

/// A genuine voucher that is not taken is answered with what would be; one that is not genuine, or of a channel that is over,
/// with nothing of that.
#[test]
fn a_voucher_that_is_not_taken_is_put_right() {
    let stage = Stage::new(QUIET);
    let mut payer = stage.payer(0x35);
    let (accepted, _) = stage.sums(&payer);
    let fresh = stage.challenge();
    let lower = snapshot(&stage.call(&payer.voucher(&fresh, accepted - 1), "lower")).unwrap();
    assert_eq!(lower.accepted_cumulative, accepted.to_string());
    // It goes on from what it signed: so it is told to fill the channel up for that.
    let over = DEPOSIT + 1000;
    let too_much = snapshot(&stage.call(&payer.voucher(&fresh, over), "over")).unwrap();
    assert_eq!(
        (too_much.deposit, too_much.required_cumulative, too_much.accepted_cumulative),
        (DEPOSIT.to_string(), over.to_string(), accepted.to_string())
    );
    assert_eq!(stage.manage(&payer.top_up(&fresh, 1000)).status, 200);
    assert_eq!(stage.call(&payer.voucher(&fresh, over), "over").status, 200);
    stage.gateway.books_after(2);
    // Alone nothing is to be bought: what was accepted is all that is required.
    let early = snapshot(&stage.manage(&payer.close(&fresh, 2 * COST - 1))).unwrap();
    assert_eq!(
        (early.accepted_cumulative, early.required_cumulative, early.spent),
        (over.to_string(), over.to_string(), (2 * COST).to_string())
    );
    let mut forged = payer.vouched("voucher", over + 1000);
    forged["signature"] = json!(hex::encode_0x(&payer.signature(over)));
    let forged = credential(fresh.clone(), None, forged);
    assert_eq!(snapshot(&stage.call(&forged, "forged")), None);
    assert_eq!(stage.manage(&payer.close(&fresh, over)).status, 200);
    let id = hex::encode_0x(&payer.id());
    let late = http::post(stage.gateway.address, CHAT, &[("payment-session", &id)], &ask("late"));
    assert_eq!(snapshot(&late), None, "it is over");
}

/// A node that does not answer: nobody is asked to pay again, and the same request later finds out.
#[test]
fn mpp_22_a_node_that_says_nothing_is_asked_again() {
    let stage = Stage::new(QUIET);
    let fresh = stage.challenge();
    let mut payer = Payer::new(0x2f, 1);
    let open = payer.open(&fresh, DEPOSIT, amount(&fresh));
    stage.reserve.contract().tricks.extend([Trick::Fail, Trick::RunThenFail]);
    for _ in 0..2 {
        let answer = stage.call(&open, "hi");
        assert_refused(&answer, 503, "settlement_unknown", "unknown");
    }
    assert_eq!(stage.upstream.hits(), 0);
    let answer = stage.call(&open, "hi");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(stage.reserve.contract().done, ["open"]);
    // The same for its end.
    let (accepted, _) = stage.sums(&payer);
    stage.gateway.books_after(1);
    stage.reserve.contract().tricks.push_back(Trick::RunThenFail);
    let close = payer.close(&fresh, accepted);
    let answer = stage.manage(&close);
    assert_eq!(answer.status, 200, "it is looked for: {}", answer.text());
    assert_eq!(stage.reserve.contract().done, ["open", "close"]);
}

/// What was decided and is not known to be done is done by the next process, once.
#[test]
fn eng_5_an_end_that_was_decided_outlives_its_gateway() {
    let mut stage = Stage::new(", claim_idle: 1h, look_every: 1s");
    let payer = stage.payer(0x34);
    let (accepted, _) = stage.sums(&payer);
    let close = payer.close(&stage.challenge(), accepted);
    // The node takes nothing while this process lives.
    stage.reserve.contract().tricks.extend([Trick::Fail; 64]);
    let (address, header) = (stage.gateway.address, close.to_value());
    let asked = std::thread::spawn(move || {
        http::try_request(address, "POST", CHAT, &[("authorization", &header)], b"")
    });
    wait_for("a try", || (stage.reserve.contract().tricks.len() < 64).then_some(()));
    stage.gateway.signal(9);
    stage.gateway.wait();
    assert!(asked.join().unwrap().is_none());
    assert_eq!(stage.reserve.ended(&payer.id()), None);
    stage.reserve.contract().tricks.clear();
    stage.gateway.restart();
    let ended = wait_for("the end", || stage.reserve.ended(&payer.id()));
    assert_eq!(ended, Ended { captured: COST, refunded: DEPOSIT - COST });
    let again = wait_for("the record", || Some(stage.manage(&close)).filter(|answer| answer.status == 200));
    assert!(receipt(&again).unwrap().tx_hash.is_some());
    assert_eq!(stage.reserve.contract().done, ["open", "close"]);
    assert_eq!(stage.gateway.books().balance(&payer.account()), 0);
    assert_eq!(stage.gateway.operator(&["fsck"])["clean"], json!(true));
}

/// A payer who has withdrawn before anybody could take what he owed: nothing is left to draw on, and the log says what was
/// lost.
#[test]
fn eng_5_a_channel_that_is_gone_is_over() {
    let stage = Stage::new(", claim_idle: 1h, look_every: 1s");
    let payer = stage.payer(0x35);
    let (accepted, _) = stage.sums(&payer);
    let fresh = stage.challenge();
    stage.reserve.contract().channels.remove(&payer.id());
    wait_for("the loss to be named", || {
        stage.gateway.log().contains("has withdrawn from his channel").then_some(())
    });
    assert!(stage.gateway.log().contains(&format!("\"lost\":\"{COST}\"")), "{}", stage.gateway.log());
    let late = payer.voucher(&fresh, accepted + 1000);
    for answer in [stage.call(&late, "late"), stage.manage(&late)] {
        assert_problem(&answer, 410, "session/channel-finalized");
    }
    assert_eq!(stage.gateway.books().balance(&payer.account()), 0, "what he did not use he took himself");
    assert_eq!(stage.gateway.operator(&["fsck"])["clean"], json!(true));
}

/// A session goes on where it stood, on the same store.
#[test]
fn a_session_survives_its_gateway() {
    let mut stage = Stage::new(QUIET);
    let payer = stage.payer(0x30);
    let (accepted, unused) = stage.sums(&payer);
    let fresh = stage.challenge();
    assert_eq!(stage.manage(&payer.voucher(&fresh, accepted + 5000)).status, 200);
    stage.gateway.crash_and_restart();
    assert_eq!(stage.sums(&payer), (accepted + 5000, unused + 5000));
    assert_problem(&stage.manage(&payer.voucher(&fresh, accepted + 4999)), 402, "session/delta-too-small");
    let answer = stage.call(&payer.voucher(&fresh, accepted + 6000), "after");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let close = stage.manage(&payer.close(&fresh, accepted + 6000));
    assert_eq!(close.status, 200, "{}", close.text());
    assert_eq!(stage.reserve.ended(&payer.id()).unwrap().captured, 2 * COST);
}
