//! Ends of sessions on Solana (specs/vouchers.md, "Solana"): by SIGKILL at any point of them, by a payer who closes alone, and
//! by a key that is not the payer's. What a session is between is in `mpp_sessions_solana.rs`.

use ed25519_dalek::SigningKey;
use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::mpp::{call, receipt};
use farthing_tests::session::manage;
use farthing_tests::solana_channels::{Node, Payer, Status, Terms};
use farthing_tests::solana_session::{amount, fresh, gateway, payee};
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};
use serde_json::{Value, json};
use wire::mpp::{Challenge, Credential};
use wire::x402::svm::Transaction;

const CHAT: &str = "/v1/chat/completions";
/// Half a dollar.
const DEPOSIT: u64 = 500_000;
/// What a friendly call costs, in units of the token.
const COST: u64 = FRIENDLY_COST.unsigned_abs() / 1000;
/// What a payer has at first.
const PURSE: u64 = 1_000_000_000;
/// Looks at the chain as often as it can.
const WATCHED: &str = ", claim_idle: 1h, claim_above: 1000 USD, look_every: 1s";

/// A call of few tokens, so that few of them use a promise up.
fn ask(text: &str) -> Value {
    json!({"model": "m", "max_tokens": 20, "messages": [{"role": "user", "content": text}]})
}

struct Stage {
    node: Node,
    gateway: Gateway,
    challenge: Challenge,
}

impl Stage {
    fn new() -> Self {
        let node = Node::start();
        let gateway = gateway(Upstream::friendly().address, &node, WATCHED, "");
        let challenge = fresh(&gateway, CHAT, &ask("hi"));
        Self { node, gateway, challenge }
    }

    fn manage(&self, credential: &Credential) -> Answer {
        manage(self.gateway.address, CHAT, credential)
    }

    fn call(&self, credential: &Credential, text: &str) -> Answer {
        call(&self.gateway, CHAT, credential, &ask(text))
    }

    /// Opens a payer's channel, by a challenge of now.
    fn open(&self, payer: &mut Payer) {
        let now = fresh(&self.gateway, CHAT, &ask("hi"));
        let answer = self.manage(&payer.open(&now, DEPOSIT));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    fn earned(&self) -> u64 {
        self.node.ledger().tokens(&payee()).unwrap_or_default()
    }

    fn is_over(&self, payer: &Payer) -> bool {
        self.node.channel(&payer.id()).is_none_or(|channel| channel.status == Status::Distributed)
    }

    #[track_caller]
    fn assert_clean(&self) {
        assert_eq!(self.gateway.operator(&["fsck"])["clean"], json!(true));
    }
}

#[track_caller]
fn assert_reason(answer: &Answer, reason: &str) {
    let body = answer.json();
    assert_eq!((answer.status, &body["error"]["reason"]), (402, &json!(reason)), "{body}");
    assert_eq!(body["money"], "nothing_taken", "{body}");
}

/// ENG-1, ENG-4: killed after any of the questions that an end asks its node, before its transaction was written down, when it
/// was sent, or when it was done and nobody knew: the same request brings it to its end, once, and everybody is paid exactly.
#[test]
fn eng_1_4_an_end_that_is_killed_at_any_point_happens_once() {
    let mut stage = Stage::new();
    for questions in 0..6_usize {
        let mut payer = stage.node.payer(0x50 + u8::try_from(questions).unwrap(), 1);
        stage.open(&mut payer);
        let answer = stage.call(&payer.voucher(&stage.challenge, amount(&stage.challenge)), "hi");
        assert_eq!(answer.status, 200, "{}", answer.text());
        stage.gateway.books_after(questions + 1);
        let (earned, done) = (stage.earned(), stage.node.ledger().done.len());
        let close = payer.close(&stage.challenge, COST);
        let (address, header) = (stage.gateway.address, close.to_value());
        let before = stage.node.questions();
        let asked = std::thread::spawn(move || {
            http::try_request(address, "POST", CHAT, &[("authorization", &header)], b"")
        });
        wait_for("so many questions", || {
            let is_so_far = stage.node.questions() >= before + questions || asked.is_finished();
            is_so_far.then_some(())
        });
        stage.gateway.signal(9);
        stage.gateway.wait();
        let _ = asked.join().unwrap();
        stage.gateway.restart();
        let ended = wait_for("the end", || Some(stage.manage(&close)).filter(|answer| answer.status == 200));
        assert!(receipt(&ended).unwrap().tx_hash.is_some(), "after {questions} questions");
        assert_eq!(
            (stage.earned(), payer.tokens()),
            (earned + COST, PURSE - COST),
            "after {questions} questions"
        );
        let done = stage.node.ledger().done[done..].to_vec();
        assert_eq!(done, ["settleAndSeal", "distribute"], "after {questions} questions");
        assert_eq!(stage.gateway.books().balance(&payer.account()), 0);
        stage.assert_clean();
    }
}

/// ENG-5: a payer who asks for his money on the chain: the highest promise that is used up is taken at once, to the unit, and
/// nothing of the one after it. He gets the rest.
#[test]
fn eng_5_a_payer_who_closes_alone_pays_what_is_used_up() {
    let stage = Stage::new();
    let mut payer = stage.node.payer(0x61, 1);
    stage.open(&mut payer);
    let step = amount(&stage.challenge);
    let first = step.div_ceil(COST) * COST;
    let calls = first / COST + 1;
    for n in 0..calls {
        // A call needs room for more than it uses.
        let sum = if (calls - n) * COST <= step + COST { first + step } else { first };
        let answer = stage.call(&payer.voucher(&stage.challenge, sum), &format!("{n}"));
        assert_eq!(answer.status, 200, "call {n} of {calls}: {}", answer.text());
    }
    stage.gateway.books_after(usize::try_from(calls).unwrap());
    assert_eq!(payer.request_close(), Ok(()));
    wait_for("the channel to be paid out", || stage.is_over(&payer).then_some(()));
    assert_eq!((stage.earned(), payer.tokens()), (first, PURSE - first), "{calls} calls were made");
    assert_eq!(stage.node.ledger().done, ["open", "requestClose", "settleAndSeal", "distribute"]);
    assert_reason(&stage.call(&payer.voucher(&stage.challenge, first + 2 * step), "late"), "closing");
    stage.assert_clean();
}

/// Whose key signs the vouchers is named when the channel is opened: nobody else's counts, the payer's own neither, and the
/// end is taken by it.
#[test]
fn a_channel_may_name_another_signer() {
    let stage = Stage::new();
    let mut payer = stage.node.payer(0x62, 1);
    let (own, other) = (payer.voucher_key.clone(), SigningKey::from_bytes(&[0x77; 32]));
    payer.voucher_key = other.clone();
    stage.open(&mut payer);
    let step = amount(&stage.challenge);
    payer.voucher_key = own;
    assert_reason(&stage.call(&payer.voucher(&stage.challenge, step), "hi"), "signer");
    payer.voucher_key = other;
    assert_eq!(stage.call(&payer.voucher(&stage.challenge, step), "hi").status, 200);
    stage.gateway.books_after(1);
    let closed = stage.manage(&payer.close(&stage.challenge, COST));
    assert_eq!(closed.status, 200, "{}", closed.text());
    assert_eq!((stage.earned(), payer.tokens()), (COST, PURSE - COST));
}

/// X402-30: a channel that was opened behind our back is what its account says. One whose payer would not wait long enough is
/// none of ours, whatever its vouchers promise.
#[test]
fn x402_30_a_channel_that_nobody_was_asked_about() {
    let stage = Stage::new();
    let opened = |number: u8, grace_s: u32| {
        let mut payer = stage.node.payer(number, 1);
        let terms = Terms { grace_s, ..payer.terms(payee(), DEPOSIT) };
        let transaction = Transaction::parse(&payer.open_transaction(&terms)).unwrap();
        assert_eq!(stage.node.ledger().send(&transaction), Ok(()));
        payer
    };
    let step = amount(&stage.challenge);
    let short = opened(0x63, 899);
    assert_reason(&stage.call(&short.voucher(&stage.challenge, step), "hi"), "grace");
    let good = opened(0x64, 900);
    let answer = stage.call(&good.voucher(&stage.challenge, step), "hi");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(receipt(&answer).unwrap().accepted_cumulative, Some(step.to_string()));
}
