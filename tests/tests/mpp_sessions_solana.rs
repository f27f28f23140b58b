//! Sessions of the `Payment` scheme on payment channels of Solana (specs/vouchers.md, "Solana"): from the channel's opening to
//! its end on the chain, what is refused between, and what a kill leaves.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::io::Write as _;

use farthing_tests::gateway::{Gateway, nano, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::mpp::{call, challenges, credential, receipt};
use farthing_tests::payer::now_s;
use farthing_tests::refused::assert_refused;
use farthing_tests::session::manage;
use farthing_tests::socket::{Socket, find};
use farthing_tests::solana_channels::{Node, Payer, Status, Trick, asked};
use farthing_tests::solana_session::{amount, fresh, gateway, payee};
use farthing_tests::upstream::{FRIENDLY_COST, STREAM_HEAD, Upstream};
use serde_json::{Value, json};
use wire::mpp::{Challenge, Credential};
use wire::x402::base58;

const CHAT: &str = "/v1/chat/completions";
/// Half a dollar.
const DEPOSIT: u64 = 500_000;
/// What a friendly call costs, in units of the token.
const COST: u64 = FRIENDLY_COST as u64 / 1000;
/// What a payer has at first.
const PURSE: u64 = 1_000_000_000;
/// Settles nothing by itself, and looks at the chain as rarely as a test may wait.
const QUIET: &str = ", claim_idle: 1h, claim_above: 1000 USD, look_every: 1h";

fn ask(text: &str) -> Value {
    json!({"model": "m", "max_tokens": 1000, "messages": [{"role": "user", "content": text}]})
}

struct Stage {
    upstream: Upstream,
    node: Node,
    gateway: Gateway,
}

impl Stage {
    fn new(own: &str) -> Self {
        Self::before(Upstream::friendly(), own, "")
    }

    fn before(upstream: Upstream, own: &str, more: &str) -> Self {
        let node = Node::start();
        let gateway = gateway(upstream.address, &node, own, more);
        Self { upstream, node, gateway }
    }

    fn challenge(&self) -> Challenge {
        fresh(&self.gateway, CHAT, &ask("hi"))
    }

    fn call(&self, credential: &Credential, text: &str) -> Answer {
        call(&self.gateway, CHAT, credential, &ask(text))
    }

    fn manage(&self, credential: &Credential) -> Answer {
        manage(self.gateway.address, CHAT, credential)
    }

    /// A payer whose channel holds the usual deposit.
    fn opened(&self, number: u8) -> Payer {
        let mut payer = self.node.payer(number, 1);
        let opened = self.manage(&payer.open(&self.challenge(), DEPOSIT));
        assert_eq!(opened.status, 200, "{}", opened.text());
        payer
    }

    /// The same, who has paid one call.
    fn payer(&self, number: u8) -> Payer {
        let payer = self.opened(number);
        let challenge = self.challenge();
        let answer = self.call(&payer.voucher(&challenge, amount(&challenge)), "hi");
        assert_eq!(answer.status, 200, "{}", answer.text());
        payer
    }

    /// What was accepted, and what of it is not used, as the books have it.
    fn sums(&self, payer: &Payer) -> (u64, u64) {
        let rows = self.gateway.operator(&["ledger", "channels"])["channels"].clone();
        let row = rows.as_array().unwrap().iter().find(|row| row["account"] == payer.account()).unwrap();
        let units = |name: &str| u64::try_from(nano(&row[name]["amount"])).unwrap() / 1000;
        (units("charged"), units("unused"))
    }

    fn done(&self) -> Vec<&'static str> {
        self.node.ledger().done.clone()
    }

    /// What the payee has of the mint.
    fn earned(&self) -> u64 {
        self.node.ledger().tokens(&payee()).unwrap_or(0)
    }

    /// Whether everybody is paid: after a while even the account is cleared away.
    fn is_over(&self, payer: &Payer) -> bool {
        let channel = self.node.channel(&payer.id());
        channel.is_none_or(|channel| channel.status == Status::Distributed)
    }

    fn assert_clean(&self) {
        assert_eq!(self.gateway.operator(&["fsck"])["clean"], json!(true));
    }
}

/// Every problem of a session has one of the core's types, and a fresh challenge with it.
#[track_caller]
fn assert_problem(answer: &Answer, problem: &str, reason: &str) {
    assert_eq!(answer.status, 402, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["type"], format!("https://paymentauth.org/problems/{problem}"), "{body}");
    assert_eq!(
        (&body["money"], &body["error"]["reason"]),
        (&json!("nothing_taken"), &json!(reason)),
        "{body}"
    );
    assert!(answer.headers.iter().any(|(name, _)| name == "www-authenticate"), "{body}");
}

/// ENG-1, MPP-18: the channel is opened by the payer's own transaction and nothing is served on that; a call draws on its
/// voucher, and receipts say where the session stands.
#[test]
fn eng_1_a_session_is_opened_and_paid_by_vouchers() {
    let stage = Stage::new(QUIET);
    let first = stage.challenge();
    let request = asked(&first);
    let details = &request.method_details;
    assert_eq!(request.recipient, base58::encode(&payee()));
    assert_eq!((details.network.as_str(), details.grace_period_seconds), ("localnet", Some(900)));
    assert_eq!(
        (request.suggested_deposit.as_deref(), request.minimum_deposit.as_deref()),
        (Some("1000000"), Some("10000"))
    );
    let mut payer = stage.node.payer(0x21, 1);
    let step = amount(&first);
    // No voucher comes with it: whatever else does, no call is made.
    let opening = payer.open(&first, DEPOSIT);
    for _ in 0..2 {
        let opened = stage.call(&opening, "call 0");
        assert_eq!(opened.status, 200, "{}", opened.text());
        let told = receipt(&opened).unwrap();
        assert_eq!((told.method.as_str(), told.intent.as_deref()), ("solana", Some("session")));
        assert_eq!(
            (told.channel_id.as_deref(), told.reference),
            (Some(payer.channel().as_str()), payer.channel())
        );
        assert_eq!((told.accepted_cumulative.as_deref(), told.spent.as_deref()), (Some("0"), Some("0")));
        assert_eq!(told.idle_timeout_seconds, Some(2_592_000));
        assert_eq!(opened.json()["deposit"], DEPOSIT.to_string());
    }
    assert_eq!((stage.upstream.hits(), stage.done()), (0, vec!["open"]));
    for n in 0..=3 {
        let answer = stage.call(&payer.voucher(&first, step + n * COST), &format!("call {n}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(receipt(&answer).unwrap().accepted_cumulative, Some((step + n * COST).to_string()));
        assert_eq!(answer.header("farthing-key"), None, "what is left is the channel's");
    }
    let books = stage.gateway.books_after(4);
    assert_eq!((books.count("deposit"), books.count("capture")), (4, 4));
    assert_eq!(stage.sums(&payer), (step + 3 * COST, step - COST));
    assert_eq!(books.charged(&payer.account()), 4 * FRIENDLY_COST);
    assert_eq!(stage.done(), ["open"], "vouchers cost the chain nothing");
    assert_eq!(stage.upstream.hits(), 4);
    stage.assert_clean();
}

/// ENG-2, ENG-6: what is not taken, and that it costs nothing.
#[test]
fn eng_2_vouchers_that_are_not_taken() {
    let stage = Stage::new(", claim_idle: 1h, look_every: 1h, min_delta: 0.0001 USD");
    let payer = stage.payer(0x23);
    let (accepted, unused) = stage.sums(&payer);
    let fresh = stage.challenge();
    assert_eq!(asked(&fresh).method_details.min_voucher_delta.as_deref(), Some("100"));
    let next = accepted + 1000;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut payload = payer.vouched("voucher", next, 0);
        change(&mut payload);
        credential(fresh.clone(), None, payload)
    };
    let until = |end_s: u64| payer.voucher_until(&fresh, next, end_s.cast_signed());
    let stranger = stage.node.payer(0x99, 1);
    let failed = "verification-failed";
    for (what, credential, problem, reason) in [
        ("lower", payer.voucher(&fresh, accepted - 1), failed, "delta"),
        ("too small a step", payer.voucher(&fresh, accepted + 99), failed, "delta"),
        ("more than is there", payer.voucher(&fresh, DEPOSIT + 1), failed, "deposit"),
        ("over", until(now_s() - 1), failed, "voucher_expired"),
        ("over before a payer had to wait", until(now_s() + 890), failed, "voucher_expired"),
        (
            "somebody else's",
            with(&|payload| {
                payload["voucher"]["signer"] = json!(base58::encode(&stranger.address()));
            }),
            failed,
            "signer",
        ),
        (
            "another sum",
            with(&|payload| payload["voucher"]["voucher"]["cumulativeAmount"] = json!("100001")),
            failed,
            "signer",
        ),
        (
            "another end",
            with(&|payload| payload["voucher"]["voucher"]["expiresAt"] = json!(now_s() + 100_000)),
            failed,
            "signer",
        ),
        (
            "no signature",
            with(&|payload| payload["voucher"]["signature"] = json!("111")),
            failed,
            "signature",
        ),
        (
            "another kind of signature",
            with(&|payload| payload["voucher"]["signatureType"] = json!("secp256r1")),
            "malformed-credential",
            "signature_type",
        ),
        (
            "of two channels",
            with(&|payload| payload["voucher"]["voucher"]["channelId"] = json!(base58::encode(&[7; 32]))),
            "malformed-credential",
            "channel_id",
        ),
        (
            "no number",
            with(&|payload| payload["voucher"]["voucher"]["cumulativeAmount"] = json!("1e3")),
            "malformed-credential",
            "amount",
        ),
        (
            "for an operator to sign",
            credential(fresh.clone(), None, json!({"action": "use", "channelId": payer.channel()})),
            failed,
            "use",
        ),
        (
            "of a payer who proves himself",
            with(&|payload| payload["authentication"] = json!({"type": "proof"})),
            "malformed-credential",
            "authentication",
        ),
    ] {
        println!("{what}");
        for answer in [stage.call(&credential, what), stage.manage(&credential)] {
            assert_problem(&answer, problem, reason);
        }
    }
    // Nothing of what was accepted before was lost by it, and an end that is late enough is none.
    assert_eq!(stage.sums(&payer), (accepted, unused));
    assert_eq!(stage.call(&until(now_s() + 100_000), "ends later").status, 200);
    assert_eq!(stage.upstream.hits(), 2);
}

/// ENG-2, reference item 15: the accepted voucher again changes nothing; for the same request it has the stored outcome, for
/// another it draws on what is left. Alone, it says where the session stands.
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
    let header = again.to_value();
    let head = http::request(stage.gateway.address, "HEAD", CHAT, &[("authorization", &header)], b"");
    for alone in [head, stage.manage(&again)] {
        assert_eq!((alone.status, stage.upstream.hits()), (200, 3), "{}", alone.text());
        assert_eq!(receipt(&alone).unwrap().accepted_cumulative, Some((accepted + 2 * COST).to_string()));
    }
    assert_eq!(stage.sums(&payer), (accepted + 2 * COST, unused));
    stage.assert_clean();
}

/// A voucher that is accepted and not enough for the call stays the payer's, who is told what lacks.
#[test]
fn a_call_that_the_session_does_not_cover_says_what_lacks() {
    let stage = Stage::new(QUIET);
    let (payer, fresh) = (stage.opened(0x33), stage.challenge());
    let step = amount(&fresh);
    let answer = stage.call(&payer.voucher(&fresh, 1), "hi");
    assert_eq!((answer.status, answer.code().as_str()), (402, "insufficient_balance"), "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["type"], "https://paymentauth.org/problems/payment-insufficient", "{body}");
    assert_eq!(
        (&body["requiredTopUp"], &body["money"]),
        (&json!((step - 1).to_string()), &json!("deposit_kept")),
        "{body}"
    );
    assert_eq!(stage.sums(&payer), (1, 1));
    assert_eq!(stage.call(&payer.voucher(&fresh, step), "hi").status, 200);
}

/// The deposit is raised by the payer's transaction, once, however often it is shown.
#[test]
fn a_top_up_raises_what_may_be_vouched_for() {
    let stage = Stage::new(QUIET);
    let payer = stage.payer(0x26);
    let fresh = stage.challenge();
    let over = payer.voucher(&fresh, DEPOSIT + 1000);
    assert_problem(&stage.manage(&over), "verification-failed", "deposit");
    let more = payer.top_up(&fresh, 2000);
    for _ in 0..2 {
        let answer = stage.manage(&more);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["deposit"], (DEPOSIT + 2000).to_string());
        assert!(receipt(&answer).unwrap().tx_hash.is_some());
    }
    assert_eq!(stage.node.channel(&payer.id()).unwrap().deposit, DEPOSIT + 2000);
    assert_eq!(stage.call(&over, "more").status, 200);
    assert_eq!((stage.upstream.hits(), stage.done()), (2, vec!["open", "topUp"]));
}

/// ENG-4: the chain gives no part of a promise. What one of more than was used brings too much goes back in the same
/// transaction; everybody is paid at once, and after that nothing is taken any more.
#[test]
fn eng_4_a_session_ends_exact() {
    let stage = Stage::new(QUIET);
    let payer = stage.payer(0x27);
    let (accepted, unused) = stage.sums(&payer);
    let fresh = stage.challenge();
    assert_problem(&stage.manage(&payer.close(&fresh, COST - 1)), "verification-failed", "below_spent");
    assert_eq!(stage.sums(&payer), (accepted, unused), "nothing has ended by it");
    let close = payer.close(&fresh, accepted);
    let answer = stage.manage(&close);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = receipt(&answer).unwrap();
    assert_eq!((told.spent, told.accepted_cumulative), (Some(COST.to_string()), Some(accepted.to_string())));
    assert_eq!((stage.earned(), payer.tokens()), (COST, PURSE - COST));
    // Asked again it is told the same, and nothing is sent.
    assert_eq!(receipt(&stage.manage(&close)).unwrap().tx_hash, told.tx_hash);
    assert_eq!(stage.done(), ["open", "settleAndSeal", "distribute"]);
    for credential in [payer.voucher(&fresh, accepted + 1000), payer.voucher(&fresh, accepted)] {
        for answer in [stage.call(&credential, "late"), stage.manage(&credential)] {
            assert_problem(&answer, "verification-failed", "closing");
        }
    }
    let books = stage.gateway.books();
    assert_eq!((books.balance(&payer.account()), books.count("refund")), (0, 1));
    assert_eq!(stage.upstream.hits(), 1);
    stage.assert_clean();
}

/// A channel that nothing was used of is closed by a voucher of nothing, and everything goes back.
#[test]
fn eng_4_a_session_without_a_call_gives_everything_back() {
    let stage = Stage::new(QUIET);
    let payer = stage.opened(0x28);
    let answer = stage.manage(&payer.close(&stage.challenge(), 0));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!((stage.earned(), payer.tokens()), (0, PURSE));
    stage.assert_clean();
}

/// What a channel has to be is asked before its payer's transaction is passed on, of what its payload says, and once more of
/// what stands on the chain.
#[test]
fn eng_6_channels_that_do_not_pay_us() {
    let stage = Stage::new(", channels_per_payer: 1, min_deposit: 0.05 USD, look_every: 1h");
    let fresh = stage.challenge();
    let opening = |change: &dyn Fn(&mut Value)| {
        let mut payload = stage.node.payer(0x2c, 1).opening(&fresh, DEPOSIT);
        change(&mut payload);
        credential(fresh.clone(), None, payload)
    };
    let slot: u64 = asked(&fresh).method_details.recent_slot.unwrap().parse().unwrap();
    let named = |name: &'static str, value: Value| move |payload: &mut Value| payload[name] = value.clone();
    for (what, credential, problem, reason) in [
        (
            "another payee",
            opening(&named("payee", json!(base58::encode(&[9; 32])))),
            "verification-failed",
            "channel_id",
        ),
        ("another salt", opening(&named("salt", json!("2"))), "verification-failed", "channel_id"),
        (
            "a later slot",
            opening(&named("openSlot", json!((slot + 1).to_string()))),
            "verification-failed",
            "channel_id",
        ),
        ("a bump", opening(&named("bump", json!(255))), "malformed-credential", "bump"),
        ("a short wait", opening(&named("gracePeriodSeconds", json!(899))), "verification-failed", "grace"),
        ("shares", opening(&named("distributionSplits", json!([{}]))), "verification-failed", "shares"),
        (
            "an idle time",
            opening(&named("idleTimeoutSeconds", json!(60))),
            "verification-failed",
            "idle_timeout",
        ),
        (
            "too little",
            opening(&named("depositAmount", json!("49999"))),
            "payment-insufficient",
            "min_deposit",
        ),
        (
            "no transaction",
            opening(&named("transaction", json!("AQ=="))),
            "malformed-credential",
            "transaction",
        ),
        (
            "somebody else's transaction",
            opening(&named(
                "transaction",
                stage.node.payer(0x2d, 1).opening(&fresh, DEPOSIT)["transaction"].clone(),
            )),
            "malformed-credential",
            "transaction",
        ),
    ] {
        println!("{what}");
        assert_problem(&stage.manage(&credential), problem, reason);
    }
    assert!(stage.done().is_empty(), "nothing of it was passed on");
    // Only so many channels that nobody knows are looked at in a second.
    let patiently = |credential: &Credential| {
        wait_for("a look", || {
            let answer = stage.manage(credential);
            (answer.json()["error"]["reason"] != "unknown_channels").then_some(answer)
        })
    };
    // The payload says what was asked for, the transaction does not.
    type Change = fn(&mut Payer);
    let changes: [(&str, Change); 2] = [
        ("grace", |payer| payer.grace_s = Some(899)),
        ("shares", |payer| payer.shares = vec![([9; 32], 100)]),
    ];
    for (salt, (reason, change)) in (10..).zip(changes) {
        let mut payer = stage.node.payer(0x2e, salt);
        change(&mut payer);
        let mut payload = payer.opening(&fresh, DEPOSIT);
        payload["gracePeriodSeconds"] = json!(900);
        let answer = patiently(&credential(fresh.clone(), None, payload));
        assert_problem(&answer, "verification-failed", reason);
    }
    let mut poor = stage.node.payer(0x2f, 1);
    let mut payload = poor.opening(&fresh, 49_999);
    payload["depositAmount"] = json!("50000");
    let answer = patiently(&credential(fresh.clone(), None, payload));
    assert_problem(&answer, "payment-insufficient", "min_deposit");
    // A second channel of one payer is not opened for him.
    let first = stage.node.payer(0x30, 1).open(&fresh, DEPOSIT);
    assert_eq!(patiently(&first).status, 200);
    let opened = stage.done();
    let second = stage.node.payer(0x30, 2).open(&fresh, DEPOSIT);
    let refused = patiently(&second);
    assert_refused(&refused, 429, "rate_limited", "nothing_taken");
    assert_eq!(refused.json()["error"]["reason"], "channels");
    assert_eq!(stage.done(), opened, "his transaction was not passed on");
    // There is no such channel.
    let mut nobody = stage.node.payer(0x31, 1);
    let _ = nobody.opening(&fresh, DEPOSIT);
    assert_problem(&patiently(&nobody.voucher(&fresh, 1000)), "verification-failed", "channel");
    assert_eq!(stage.upstream.hits(), 0);
}

/// A request that calls can use a promise up with: it sets little aside beyond what it costs.
fn small(n: u64) -> Value {
    json!({"model": "m", "max_tokens": 20, "messages": [{"role": "user", "content": format!("{n}")}]})
}

/// Makes calls until the first promise is used up, and a second one is not: the sum of the first, and what was used.
fn use_up(stage: &Stage, payer: &Payer, fresh: &Challenge, first: impl Fn(u64) -> Credential) -> (u64, u64) {
    let step = amount(fresh);
    assert!(step < 10 * COST, "few calls use it up: {step}");
    // Whole calls, so that it is used up when the next has come.
    let sum = step.div_ceil(COST) * COST;
    let mut credential = first(sum);
    let calls = sum / COST + 1;
    for n in 0..calls {
        // A call needs room for more than it uses.
        if n > 0 {
            credential = payer.voucher(fresh, sum + step);
        }
        let answer = call(&stage.gateway, CHAT, &credential, &small(n));
        assert_eq!(answer.status, 200, "call {n} of {calls}: {}", answer.text());
    }
    stage.gateway.books_after(usize::try_from(calls).unwrap());
    (sum, calls * COST)
}

/// What was settled of a channel, once anything is.
fn settled(stage: &Stage, payer: &Payer) -> u64 {
    let settled = || stage.node.channel(&payer.id()).map(|channel| channel.settled);
    wait_for("a settlement", || settled().filter(|sum| *sum > 0))
}

/// ENG-5: what is used up is settled when it is time, and paid; who reads the voucher on the chain can do nothing with it.
/// What was settled is not taken again by the end.
#[test]
fn eng_5_what_is_owed_is_settled_and_paid() {
    let stage = Stage::new(", claim_idle: 1h, claim_above: 0 USD, look_every: 1h");
    let (fresh, payer) = (fresh(&stage.gateway, CHAT, &small(0)), stage.opened(0x2a));
    let (first, used) = use_up(&stage, &payer, &fresh, |sum| payer.voucher(&fresh, sum));
    // One more voucher, now that the first is used up.
    assert_eq!(stage.manage(&payer.voucher(&fresh, first + 2 * amount(&fresh))).status, 200);
    let settled = settled(&stage, &payer);
    assert!(
        settled >= first && settled <= used,
        "{settled} of {used}: a promise that is used up, and no other"
    );
    assert_eq!((stage.earned(), payer.tokens()), (settled, PURSE - DEPOSIT), "what is settled is paid");
    let published = stage.node.ledger().published.clone();
    assert_eq!(published, [settled]);
    let shown = payer.voucher(&fresh, settled);
    assert_problem(&stage.call(&shown, "read on the chain"), "verification-failed", "delta");
    let closed = stage.manage(&payer.close(&fresh, used));
    assert_eq!(closed.status, 200, "{}", closed.text());
    assert_eq!((stage.earned(), payer.tokens()), (used, PURSE - used));
    stage.assert_clean();
}

/// ENG-5: a promise that ends is settled while it counts, whatever it is worth.
#[test]
fn eng_5_a_promise_is_settled_before_it_ends() {
    let stage = Stage::new(", claim_idle: 1h, claim_above: 1000 USD, look_every: 1h");
    let (fresh, payer) = (fresh(&stage.gateway, CHAT, &small(0)), stage.opened(0x36));
    // A little longer than its payer would have to wait for his money.
    let end_s = (now_s() + 905).cast_signed();
    let (first, _) = use_up(&stage, &payer, &fresh, |sum| payer.voucher_until(&fresh, sum, end_s));
    assert_eq!(settled(&stage, &payer), first);
    assert_eq!(stage.earned(), first);
    stage.assert_clean();
}

/// IDN-35: from a payer who is blocked no voucher is taken and no channel is opened; what he has left in one goes back.
#[test]
fn idn_35_a_blocked_payer_gets_what_is_left_and_nothing_else() {
    let stage = Stage::new(QUIET);
    let payer = stage.payer(0x37);
    let (accepted, _) = stage.sums(&payer);
    let text = std::fs::read_to_string(stage.gateway.config()).unwrap();
    let blocked = format!("identity: {{ block: [\"{}\"] }}\n", base58::encode(&payer.address()));
    std::fs::write(stage.gateway.config(), format!("{text}{blocked}")).unwrap();
    stage.gateway.operator(&["reload"]);
    let fresh = stage.challenge();
    let voucher = payer.voucher(&fresh, accepted + amount(&fresh));
    for answer in [stage.call(&voucher, "more"), stage.manage(&voucher)] {
        assert_refused(&answer, 403, "agent_blocked", "nothing_taken");
    }
    let anew = stage.node.payer(0x37, 2).open(&fresh, DEPOSIT);
    assert_refused(&stage.manage(&anew), 403, "agent_blocked", "nothing_taken");
    assert_eq!(stage.done(), ["open"], "his transaction was not passed on");
    assert_eq!(stage.manage(&payer.close(&fresh, COST)).status, 200);
    assert_eq!((stage.earned(), stage.sums(&payer).1), (COST, 0));
    assert_eq!(stage.upstream.hits(), 1);
}

/// ENG-4, ENG-5: a payer who withdraws on the chain signs nothing more. By what he has promised just what he used is taken, at
/// once, and he gets the rest.
#[test]
fn eng_4_5_a_payer_who_withdraws_pays_what_he_used() {
    let stage = Stage::new(", claim_idle: 1h, claim_above: 1000 USD, look_every: 1s");
    let payer = stage.payer(0x2b);
    let (accepted, unused) = stage.sums(&payer);
    assert!(accepted > unused, "a promise that is not used up");
    payer.request_close().unwrap();
    wait_for("the channel to be closed", || stage.is_over(&payer).then_some(()));
    assert_eq!((stage.earned(), payer.tokens()), (COST, PURSE - COST));
    assert!(!stage.gateway.log().contains("ALARM"), "{}", stage.gateway.log());
    let fresh = stage.challenge();
    for answer in [
        stage.call(&payer.voucher(&fresh, accepted + 1000), "late"),
        stage.manage(&payer.voucher(&fresh, accepted + 1000)),
    ] {
        assert_problem(&answer, "verification-failed", "closing");
    }
    assert_eq!(stage.gateway.books().balance(&payer.account()), 0);
    stage.assert_clean();
}

/// A channel that somebody has sealed meanwhile ends all the same, and everybody is paid.
#[test]
fn eng_5_a_channel_that_was_sealed_is_paid_out() {
    let stage = Stage::new(", claim_idle: 1h, claim_above: 1000 USD, look_every: 1h");
    let payer = stage.payer(0x2c);
    payer.request_close().unwrap();
    stage.node.ledger().pass(901);
    payer.seal().unwrap();
    // By now a close of the payer's finds what has happened.
    let answer = stage.manage(&payer.close(&stage.challenge(), COST));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(stage.is_over(&payer));
    assert_eq!((stage.earned(), payer.tokens()), (0, PURSE), "nothing is taken of what was sealed");
    assert!(stage.gateway.log().contains("has withdrawn from his channel"), "{}", stage.gateway.log());
    stage.assert_clean();
}

/// ENG-8: a stream that is used up asks for a voucher, waits, and goes on with it.
#[test]
fn eng_8_a_stream_is_vouched_for_step_by_step() {
    const TOKENS: u64 = 2_000;
    let upstream = Upstream::start(|_, stream| {
        let piece = format!(
            "data: {}\n\n",
            json!({"id": "c", "choices": [{"index": 0, "delta": {"content": "word"}}]})
        );
        let usage = json!({"prompt_tokens": 12, "completion_tokens": TOKENS, "total_tokens": TOKENS + 12});
        let usage = json!({"id": "c", "choices": [], "usage": usage});
        let pieces = piece.repeat(usize::try_from(TOKENS).unwrap());
        let _ =
            stream.write_all(format!("{STREAM_HEAD}{pieces}data: {usage}\n\ndata: [DONE]\n\n").as_bytes());
    });
    let small = "metering: { hold: { step: 100, default_output: 100, min_output: 4 } }\n";
    let stage = Stage::before(upstream, QUIET, small);
    let (payer, fresh) = (stage.opened(0x41), stage.challenge());
    let body = json!({"model": "m", "max_tokens": TOKENS, "stream": true, "messages": [{"role": "user", "content": "go"}]});
    let address = stage.gateway.address;
    let mut socket = Socket::connect(address);
    let header = payer.voucher(&fresh, 1_000).to_value();
    assert!(socket.send(http::posted(address, CHAT, &[("authorization", &header)], &body)));
    let mut vouchers = 0;
    while socket.read() {
        if socket.has("data: [DONE]") {
            break;
        }
        let Some(at) = find(&socket.got, b"event: payment-need-voucher\ndata: ") else { continue };
        assert!(socket.read_until("\"deposit\":\""));
        let event = String::from_utf8_lossy(&socket.got[at..]).into_owned();
        let member = |name: &str| {
            let value = event.split(&format!("\"{name}\":\"")).nth(1).unwrap();
            value.split('"').next().unwrap().to_owned()
        };
        assert_eq!(member("channelId"), payer.channel());
        socket.got.clear();
        let wanted = member("requiredCumulative").parse().unwrap();
        let taken = stage.manage(&payer.voucher(&fresh, wanted));
        assert_eq!(taken.status, 200, "{}", taken.text());
        vouchers += 1;
    }
    let text = String::from_utf8_lossy(&socket.got).into_owned();
    assert!(text.contains("event: payment-receipt") && text.contains("idleTimeoutSeconds"), "{text}");
    assert!(vouchers >= 2, "{vouchers} vouchers");
    stage.gateway.books_after(1);
    let (accepted, unused) = stage.sums(&payer);
    let used = accepted - unused;
    assert_eq!(stage.manage(&payer.close(&fresh, used)).status, 200);
    assert_eq!(stage.earned(), used);
}

/// MPP-22: a node that does not answer: nobody is asked to pay again, and the same request later finds out. The same for our
/// own transactions; one that was lost is signed anew when its time is over, and not before.
#[test]
fn mpp_22_a_node_that_says_nothing_is_asked_again() {
    let stage = Stage::new(QUIET);
    let fresh = stage.challenge();
    let mut payer = stage.node.payer(0x2f, 1);
    let open = payer.open(&fresh, DEPOSIT);
    stage.node.ledger().tricks.extend([Trick::Fail, Trick::RunThenFail]);
    for _ in 0..2 {
        assert_refused(&stage.manage(&open), 503, "settlement_unknown", "unknown");
    }
    let answer = stage.manage(&open);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(stage.done(), ["open"]);
    assert_eq!(stage.call(&payer.voucher(&fresh, amount(&fresh)), "hi").status, 200);
    stage.gateway.books_after(1);
    stage.node.ledger().tricks.push_back(Trick::Lose);
    let close = payer.close(&fresh, COST);
    let lost = std::thread::scope(|scope| {
        let asked = scope.spawn(|| stage.manage(&close));
        wait_for("it to be sent", || stage.node.ledger().tricks.is_empty().then_some(()));
        stage.node.ledger().advance(151);
        asked.join().unwrap()
    });
    assert_refused(&lost, 503, "settlement_unknown", "unknown");
    // Meanwhile nothing is taken, and whoever asks again, or the gateway by itself, brings it to its end.
    let ended = wait_for("the end", || Some(stage.manage(&close)).filter(|answer| answer.status == 200));
    assert!(receipt(&ended).unwrap().tx_hash.is_some());
    assert_eq!(stage.done(), ["open", "settleAndSeal", "distribute"]);
    assert_eq!((stage.earned(), payer.tokens()), (COST, PURSE - COST));
    stage.assert_clean();
}

/// ENG-1: what was accepted outlives the process, and an end that was decided is brought about by the next one, once.
#[test]
fn eng_1_eng_5_a_session_survives_its_gateway() {
    let mut stage = Stage::new(", claim_idle: 1h, claim_above: 1000 USD, look_every: 1s");
    let payer = stage.payer(0x30);
    let (accepted, unused) = stage.sums(&payer);
    let fresh = stage.challenge();
    assert_eq!(stage.manage(&payer.voucher(&fresh, accepted + 5000)).status, 200);
    stage.gateway.crash_and_restart();
    // It asks its node anew what can be signed over, and has no challenge before that.
    let fresh = stage.challenge();
    assert_eq!(stage.sums(&payer), (accepted + 5000, unused + 5000));
    assert_problem(&stage.manage(&payer.voucher(&fresh, accepted + 4999)), "verification-failed", "delta");
    let answer = stage.call(&payer.voucher(&fresh, accepted + 6000), "after");
    assert_eq!(answer.status, 200, "{}", answer.text());
    stage.gateway.books_after(2);
    // The node takes nothing while this process lives.
    stage.node.ledger().tricks.extend([Trick::Fail; 64]);
    let close = payer.close(&fresh, 2 * COST);
    let (address, header) = (stage.gateway.address, close.to_value());
    let asked = std::thread::spawn(move || {
        http::try_request(address, "POST", CHAT, &[("authorization", &header)], b"")
    });
    wait_for("a try", || (stage.node.ledger().tricks.len() < 64).then_some(()));
    stage.gateway.signal(9);
    stage.gateway.wait();
    assert!(asked.join().unwrap().is_none());
    assert_eq!(stage.done(), ["open"]);
    stage.node.ledger().tricks.clear();
    stage.gateway.restart();
    wait_for("the end", || (stage.earned() == 2 * COST).then_some(()));
    let again = wait_for("the record", || Some(stage.manage(&close)).filter(|answer| answer.status == 200));
    assert!(receipt(&again).unwrap().tx_hash.is_some());
    assert_eq!(stage.done(), ["open", "settleAndSeal", "distribute"]);
    assert_eq!(stage.gateway.books().balance(&payer.account()), 0);
    assert_eq!(payer.tokens(), PURSE - 2 * COST);
    stage.assert_clean();
}

/// X402-30: state that was lost. The channel is what its chain says it is, also who signs for it.
#[test]
fn a_channel_without_a_record_is_taken_up_by_a_voucher() {
    let stage = Stage::new(QUIET);
    let payer = stage.opened(0x34);
    let other = gateway(stage.upstream.address, &stage.node, QUIET, "");
    let challenge = fresh(&other, CHAT, &ask("hi"));
    let mut stranger = stage.node.payer(0x35, 1);
    let _ = stranger.opening(&challenge, DEPOSIT);
    let step = amount(&challenge);
    let forged = {
        let mut payload = payer.vouched("voucher", step, 0);
        payload["voucher"]["signature"] = json!(base58::encode(&stranger.signature(step, 0)));
        credential(challenge.clone(), None, payload)
    };
    assert_problem(&call(&other, CHAT, &forged, &ask("hi")), "verification-failed", "signer");
    let answer = call(&other, CHAT, &payer.voucher(&challenge, step), &ask("hi"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(receipt(&answer).unwrap().accepted_cumulative, Some(step.to_string()));
    assert_eq!(stage.done(), ["open"]);
}

/// What payers sign over is asked for behind the requests: a flood of them costs the node nothing.
#[test]
fn a_challenge_asks_no_node() {
    let stage = Stage::new(QUIET);
    let details = asked(&stage.challenge()).method_details;
    assert!(details.recent_blockhash.is_some() && details.recent_slot.is_some());
    let questions = stage.node.questions();
    for _ in 0..20 {
        assert_eq!(http::post(stage.gateway.address, CHAT, &[], &ask("hi")).status, 402);
    }
    // It may have been time for the next one.
    assert!(stage.node.questions() <= questions + 1);
}

/// A reload asks no node either: what was told before it is told after it.
#[test]
fn a_reload_knows_what_payers_sign_over() {
    let stage = Stage::new(QUIET);
    let before = asked(&stage.challenge()).method_details.recent_blockhash;
    // From here on the node says nothing.
    let silent = stage.node.ledger();
    stage.gateway.operator(&["reload"]);
    let unpaid = http::post(stage.gateway.address, CHAT, &[], &ask("hi"));
    let offered = challenges(&unpaid).into_iter().find(|challenge| challenge.method == "solana").unwrap();
    assert_eq!(asked(&offered).method_details.recent_blockhash, before);
    drop(silent);
}
