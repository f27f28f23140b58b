//! Ends of sessions on Solana (specs/vouchers.md, "Solana"): by SIGKILL at any point of them, by a payer who closes alone, and
//! by a key that is not the payer's. What a session is between is in `mpp_sessions_solana.rs`.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use ed25519_dalek::SigningKey;
use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::mpp::{call, receipt};
use farthing_tests::payer::now_s;
use farthing_tests::session::manage;
use farthing_tests::solana_channels::{Node, Payer, Status, Terms, Trick};
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

/// What a dear call costs, and what its payer promises.
const DEAR_COST: u64 = 900_000;
const DOLLAR: u64 = 1_000_000;

/// A call that costs so much.
fn dear() -> Value {
    json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]})
}

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
        Self::with(WATCHED, "")
    }

    /// Here one call costs nearly all of a dollar.
    fn dear() -> Self {
        Self::with(WATCHED, "prices: { \"*\": { input: 1 USD/Mtok, output: 179998 USD/Mtok } }\n")
    }

    fn with(own: &str, more: &str) -> Self {
        let node = Node::start();
        let gateway = gateway(Upstream::friendly().address, &node, own, more);
        let challenge = fresh(&gateway, CHAT, &ask("hi"));
        Self { node, gateway, challenge }
    }

    /// A payer who has promised all of his dollar, and used what one dear call costs of it.
    fn promiser(&self, number: u8) -> Payer {
        let mut payer = self.node.payer(number, 1);
        let now = fresh(&self.gateway, CHAT, &dear());
        assert_eq!(self.manage(&payer.open(&now, DOLLAR)).status, 200);
        let answer = call(&self.gateway, CHAT, &payer.voucher(&self.challenge, DOLLAR), &dear());
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.gateway.books_after(1);
        payer
    }

    /// His channel has ended, and everybody has what is his.
    #[track_caller]
    fn assert_paid_out(&self, payer: &Payer, earned: u64, tokens: u64) {
        wait_for("the channel to be paid out", || self.is_over(payer).then_some(()));
        wait_for("the end to be written", || self.is_ended(payer).then_some(()));
        assert_eq!((self.earned(), payer.tokens()), (earned, tokens));
    }

    /// The same, and the books say what the chain does.
    #[track_caller]
    fn assert_over(&self, payer: &Payer, earned: u64, tokens: u64) {
        self.assert_paid_out(payer, earned, tokens);
        let books = self.gateway.books();
        let cleared = books.named("rail_clearing:mpp-session:");
        assert_eq!(cleared, -1000 * i64::try_from(earned).unwrap(), "what the books say came in");
        self.assert_clean();
    }

    /// Whether the record knows what was taken in all, which is what was charged then.
    fn is_ended(&self, payer: &Payer) -> bool {
        let rows = self.gateway.operator(&["ledger", "channels"])["channels"].clone();
        let row =
            rows.as_array().unwrap().iter().find(|row| row["account"] == payer.account()).unwrap().clone();
        row["closing"] == json!(true) && row["claimed"] == row["on_chain"] && row["claimed"] == row["charged"]
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

/// ENG-4, ENG-5: a payer who asks for his money on the chain, and has used one promise up and a part of the next: by the least
/// that covers it just what he used is taken. He gets the rest.
#[test]
fn eng_4_5_a_payer_who_closes_alone_pays_what_he_used() {
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
    let used = calls * COST;
    assert_eq!((stage.earned(), payer.tokens()), (used, PURSE - used), "{calls} calls were made");
    assert_eq!(stage.node.ledger().published, [first + step]);
    assert_eq!(stage.node.ledger().done, ["open", "requestClose", "settleAndSeal", "distribute"]);
    assert_reason(&stage.call(&payer.voucher(&stage.challenge, first + 2 * step), "late"), "closing");
    stage.assert_clean();
}

/// ENG-4, ENG-5: a payer who promises much at once, uses most of it, and withdraws: no promise is used up by then. We are paid
/// what he used, and not a unit beyond it.
#[test]
fn eng_4_5_a_payer_who_promises_much_and_withdraws_pays_what_he_used() {
    let stage = Stage::dear();
    let payer = stage.promiser(0x71);
    assert_eq!(payer.request_close(), Ok(()));
    stage.assert_over(&payer, DEAR_COST, PURSE - DEAR_COST);
    assert_eq!(stage.node.ledger().published, [DOLLAR]);
    assert!(!stage.gateway.log().contains("ALARM"), "{}", stage.gateway.log());
    assert_eq!(stage.gateway.books().balance(&payer.account()), 0);
}

/// The same, killed after any of the questions that such an end asks its node: what is taken and what goes back is done once.
#[test]
fn eng_4_5_a_forced_end_that_is_killed_at_any_point_happens_once() {
    for questions in 0..8_usize {
        let mut stage = Stage::dear();
        let payer = stage.promiser(0x72);
        let before = stage.node.questions();
        assert_eq!(payer.request_close(), Ok(()));
        wait_for("so many questions", || (stage.node.questions() >= before + questions).then_some(()));
        stage.gateway.signal(9);
        stage.gateway.wait();
        stage.gateway.restart();
        stage.assert_over(&payer, DEAR_COST, PURSE - DEAR_COST);
        let done = stage.node.ledger().done.clone();
        assert_eq!(
            done,
            ["open", "requestClose", "settleAndSeal", "distribute"],
            "after {questions} questions"
        );
    }
}

/// MPP-22: the end stands on the chain and nobody has heard of it, not even who sent it: he was killed. What the channel's account
/// says then is what the promise brought, and not what is left of it.
#[test]
fn mpp_22_an_end_that_nobody_has_heard_of_is_looked_for() {
    let mut stage = Stage::dear();
    let payer = stage.promiser(0x73);
    stage.node.ledger().tricks.push_back(Trick::RunThenFail);
    assert_eq!(payer.request_close(), Ok(()));
    wait_for("the end on the chain", || stage.is_over(&payer).then_some(()));
    stage.gateway.signal(9);
    stage.gateway.wait();
    assert_eq!(stage.node.channel(&payer.id()).unwrap().settled, DOLLAR);
    stage.gateway.restart();
    stage.assert_over(&payer, DEAR_COST, PURSE - DEAR_COST);
}

/// MPP-22: one that was lost on its way is signed anew when its time is over, and not before.
#[test]
fn mpp_22_an_end_that_was_lost_is_signed_anew() {
    let stage = Stage::dear();
    let payer = stage.promiser(0x74);
    stage.node.ledger().tricks.push_back(Trick::Lose);
    assert_eq!(payer.request_close(), Ok(()));
    wait_for("it to be sent", || stage.node.ledger().tricks.is_empty().then_some(()));
    assert!(!stage.is_over(&payer));
    stage.node.ledger().advance(151);
    stage.assert_over(&payer, DEAR_COST, PURSE - DEAR_COST);
}

/// Anybody may show a promise to the chain that he has seen on its way there: then it brings us nothing more, so nothing goes
/// back by its transaction. What was taken beyond what was used stays the payer's here, and the books close.
#[test]
fn eng_4_a_promise_that_somebody_else_has_shown_is_not_given_back_twice() {
    let stage = Stage::dear();
    let payer = stage.promiser(0x75);
    stage.node.ledger().tricks.push_back(Trick::Hold);
    let close = payer.close(&stage.challenge, DOLLAR);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| stage.manage(&close));
        wait_for("it to be sent", || stage.node.ledger().tricks.is_empty().then_some(()));
        assert_eq!(payer.settle(DOLLAR), Ok(()));
        stage.node.ledger().land_held();
        let _ = asked.join().unwrap();
    });
    stage.assert_over(&payer, DOLLAR, PURSE - DOLLAR);
    let done = stage.node.ledger().done.clone();
    assert_eq!(done, ["open", "settle", "settleAndSeal", "distribute"]);
    let books = stage.gateway.books();
    assert_eq!(books.charged(&payer.account()), 1000 * DEAR_COST.cast_signed(), "no more is income");
    assert_eq!(books.balance(&payer.account()), 1000 * (DOLLAR - DEAR_COST).cast_signed());
    assert!(stage.gateway.log().contains("took more than was decided"), "{}", stage.gateway.log());
}

/// ENG-5: what is owed and only covered by a promise that ends soon, and is not used up, is taken while it counts: nobody has to
/// withdraw for that.
#[test]
fn eng_5_a_promise_that_ends_is_taken_before_it_does() {
    let stage = Stage::new();
    let mut payer = stage.node.payer(0x76, 1);
    stage.open(&mut payer);
    // A little longer than its payer would have to wait for his money.
    let end_s = (now_s() + 903).cast_signed();
    let answer = stage.call(&payer.voucher_until(&stage.challenge, 400_000, end_s), "hi");
    assert_eq!(answer.status, 200, "{}", answer.text());
    stage.assert_over(&payer, COST, PURSE - COST);
    assert_eq!(stage.node.ledger().done, ["open", "settleAndSeal", "distribute"]);
}

/// A payer who gives his token account away, so that none can be created for him, does not stop the end; what goes back goes
/// where he has opened his channel from.
#[test]
fn eng_5_a_payer_without_an_account_of_his_own_stops_no_end() {
    let stage = Stage::dear();
    let payer = stage.promiser(0x77);
    stage.node.ledger().give_away_tokens(&payer.address(), &[9; 32]);
    assert_eq!(payer.request_close(), Ok(()));
    stage.assert_over(&payer, DEAR_COST, PURSE - DEAR_COST);
}

/// To an account that is frozen nothing goes back. So no promise is shown that is not used up, and the log says what is lost.
#[test]
fn eng_4_from_a_payer_whose_account_is_frozen_nothing_is_taken_too_much() {
    let stage = Stage::dear();
    let payer = stage.promiser(0x78);
    stage.node.ledger().freeze_tokens(&payer.address());
    assert_eq!(payer.request_close(), Ok(()));
    // The rest of his deposit the program gives its treasury.
    stage.assert_paid_out(&payer, 0, PURSE - DOLLAR);
    stage.assert_clean();
    let lost = format!("\"lost\":\"{DEAR_COST}\"");
    assert!(stage.gateway.log().contains(&lost), "{}", stage.gateway.log());
}

/// A channel that nobody uses is ended, as its receipts say: what was used is taken, and its payer has the rest back.
#[test]
fn a_channel_that_nobody_uses_is_ended() {
    let stage = Stage::with(", claim_idle: 1h, claim_above: 1000 USD, look_every: 1h, idle: 3s", "");
    let (mut used, mut unused) = (stage.node.payer(0x79, 1), stage.node.payer(0x7a, 1));
    stage.open(&mut used);
    let answer = stage.call(&used.voucher(&stage.challenge, 400_000), "hi");
    assert_eq!(receipt(&answer).unwrap().idle_timeout_seconds, Some(3), "{}", answer.text());
    stage.open(&mut unused);
    wait_for("both to be paid out", || (stage.is_over(&used) && stage.is_over(&unused)).then_some(()));
    stage.assert_over(&used, COST, PURSE - COST);
    assert_eq!(unused.tokens(), PURSE);
    assert_reason(&stage.call(&unused.voucher(&stage.challenge, 1_000), "late"), "closing");
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
