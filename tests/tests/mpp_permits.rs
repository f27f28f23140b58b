//! `evm`/`charge` of the `Payment` scheme by Permit2: the gateway sends the permit to the chain itself, serves what the chain
//! shows, and takes nothing twice (specs/mpp.md). The chain is a stand-in; that of `cargo xtask interop` is anvil.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use farthing_tests::crowd::at_once;
use farthing_tests::facilitator::{Facilitator, PAY_TO};
use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::mpp::{Permission, asked, call, challenges, receipt, with_rules};
use farthing_tests::payer::{BASE_SEPOLIA, Wallet, fresh_nonce, now_s};
use farthing_tests::permit_chain::{PermitChain, SENDER, SENDER_KEY, Trick};
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, ask};
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};
use proof::eip712::{ChargeSpelling, keccak256};
use serde_json::{Value, json};
use wire::hex;
use wire::mpp::{Challenge, Credential};
use wire::x402::{Address, contracts};

/// 1000 USDC.
const FUNDS: u128 = 1_000_000_000;

struct Stage {
    upstream: Upstream,
    facilitator: Facilitator,
    chain: PermitChain,
    gateway: Gateway,
    wallet: Wallet,
}

impl Stage {
    fn new() -> Self {
        Self::with("", [])
    }

    /// With more keys of `rails.x402`, and a node that does this.
    fn with(x402: &str, tricks: impl IntoIterator<Item = Trick>) -> Self {
        let tricks: Vec<Trick> = tricks.into_iter().collect();
        let (upstream, facilitator, chain) =
            (Upstream::friendly(), Facilitator::start([]), PermitChain::start());
        let rails = Facilitator::rails_with(&[facilitator.address], x402);
        // Only a node that holds something back has to be given up soon.
        let patience = if tricks.is_empty() { "5s" } else { "1s" };
        let rails = rails.replace("settle_timeout: 1s", &format!("settle_timeout: {patience}"));
        let node = format!("rpc: \"http://{}/\"", chain.address);
        let rules =
            format!("{{ evm: {{ \"{BASE_SEPOLIA}\": {{ key: \"${{env:SENDER_KEY}}\", {node} }} }} }}");
        let gateway = Gateway::start_in(upstream.address, &with_rules(&rails, &rules), &[SENDER_KEY]);
        let wallet = Wallet::new(1);
        chain.fund(wallet.address(), FUNDS);
        chain.state().tricks.extend(tricks);
        Self { upstream, facilitator, chain, gateway, wallet }
    }

    fn challenge(&self) -> Challenge {
        challenge(&http::post(self.gateway.address, CHAT, &[], &ask()))
    }

    /// A permit for the usual call, not presented yet.
    fn signed(&self) -> Credential {
        self.wallet.permit_charge(&self.challenge())
    }

    fn pay(&self, shown: &Credential) -> Answer {
        call(&self.gateway, CHAT, shown, &ask())
    }

    fn pay_until_served(&self, shown: &Credential) -> Answer {
        wait_for("the permit to be served", || Some(self.pay(shown)).filter(|answer| answer.status == 200))
    }

    fn account(&self, shown: &Credential) -> String {
        let token = asked(&shown.challenge).currency.parse().unwrap();
        hex::encode(&proof::account_id::evm(BASE_SEPOLIA, &self.wallet.address(), &token))
    }

    /// Served from one transfer of all that was asked, which is in the books once.
    #[track_caller]
    fn assert_served_once(&self, shown: &Credential, answer: &Answer) {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let amount: u128 = asked(&shown.challenge).amount.parse().unwrap();
        let pay_to: Address = PAY_TO.parse().unwrap();
        assert_eq!(self.chain.state().moved, [(self.wallet.address(), pay_to, amount)]);
        let books = self.gateway.books_after(1);
        assert_eq!((self.upstream.hits(), books.count("deposit"), books.count("capture")), (1, 1, 1));
        let paid = i64::try_from(amount).unwrap() * 1000;
        assert_eq!(books.balance(&self.account(shown)), paid - FRIENDLY_COST);
        assert_eq!(self.facilitator.settles().len(), 0, "no facilitator knows of it");
    }

    #[track_caller]
    fn assert_nothing_sent(&self, what: &str) {
        assert_eq!(self.chain.state().sent.len(), 0, "{what}");
        assert_eq!((self.upstream.hits(), self.gateway.books().entries.len()), (0, 0), "{what}");
    }
}

fn challenge(answer: &Answer) -> Challenge {
    assert_eq!(answer.status, 402, "{}", answer.text());
    let found = challenges(answer).into_iter().find(|challenge| challenge.method == "evm");
    found.unwrap()
}

#[track_caller]
fn assert_problem(answer: &Answer, problem: &str, reason: &str) {
    assert_eq!(answer.status, 402, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["type"], format!("https://paymentauth.org/problems/{problem}"), "{body}");
    assert_eq!(body["error"]["reason"], reason, "{body}");
    assert_eq!(body["money"], "nothing_taken", "{body}");
    assert!(challenges(answer).iter().any(|challenge| challenge.method == "evm"), "{body}");
}

#[track_caller]
fn assert_unknown(answer: &Answer) {
    assert_refused(answer, 503, "settlement_unknown", "unknown");
    assert!(answer.header("retry-after").is_some());
    assert_eq!(answer.header("www-authenticate"), None, "nobody pays twice");
}

/// What the challenge says, whichever other way there is in the same token.
#[test]
fn a_challenge_names_who_sends_the_permit() {
    let stage = Stage::new();
    let both = wait_for("the facilitator's offer", || {
        let request = asked(&stage.challenge());
        let types = request.method_details.credential_types.clone().unwrap();
        (types == ["authorization", "permit2"]).then_some(request)
    });
    assert_eq!(both.method_details.spender.as_deref(), Some(SENDER));
    assert_eq!(both.method_details.permit2_address, Some(contracts::PERMIT2.to_string()));
    // Where no scheme of x402 is one transfer of the token, permits are all that is taken.
    let alone = asked(&Stage::with(", schemes: [permit2]", []).challenge());
    assert_eq!(alone.method_details.credential_types.as_deref(), Some(&["permit2".to_owned()][..]));
    // One token is one challenge.
    let unpaid = http::post(stage.gateway.address, CHAT, &[], &ask());
    assert_eq!(challenges(&unpaid).iter().filter(|challenge| challenge.method == "evm").count(), 1);
    assert_eq!(stage.chain.state().sent.len(), 0);
}

/// MPP-18, MPP-19: in either spelling of the type, one transfer, one deposit, one charge, a receipt that names the
/// transaction; shown again it is told the same, for another request it is refused.
#[test]
fn mpp_18_a_permit_is_sent_served_and_told() {
    for spelling in ChargeSpelling::ALL {
        let stage = Stage::new();
        let shown = stage.wallet.permit_charge_with(&stage.challenge(), |signs| signs.spelling = spelling);
        let answer = stage.pay(&shown);
        stage.assert_served_once(&shown, &answer);
        let told = receipt(&answer).unwrap();
        assert_eq!((told.method.as_str(), told.status.as_str()), ("evm", "success"));
        let raw = hex::decode(stage.chain.state().sent[0].strip_prefix("0x").unwrap()).unwrap();
        assert_eq!(told.reference, hex::encode_0x(&keccak256(&raw)));
        assert!(answer.header("farthing-key").is_some());
        let again = stage.pay(&shown);
        assert_eq!((again.status, again.header("farthing-key")), (200, None), "{}", again.text());
        let mut other = ask();
        other["messages"][0]["content"] = json!("another question");
        let refused = call(&stage.gateway, CHAT, &shown, &other);
        assert_refused(&refused, 403, "verification_failed", "nothing_taken");
        stage.assert_served_once(&shown, &answer);
        assert_eq!(stage.gateway.operator(&["fsck"])["clean"], json!(true));
        let log = stage.gateway.log();
        let secret = shown.payload["signature"].as_str().unwrap();
        assert!(!log.contains(&secret[2..]) && !log.contains(SENDER_KEY.1), "no secret is logged");
    }
}

/// MPP-23, X402-1: a nonce of Permit2 is one payment, by whichever protocol it comes.
#[test]
fn mpp_23_one_permit_funds_through_one_door() {
    let nonce = fresh_nonce();
    let is_permit = |offer: &Value| offer["extra"]["assetTransferMethod"] == "permit2";
    let by_x402 = |stage: &Stage, body: &Value| {
        let unpaid = wait_for("the facilitator's offer", || {
            let unpaid = http::post(stage.gateway.address, CHAT, &[], body);
            let offers = farthing_tests::payer::challenge(&unpaid)["accepts"].as_array().unwrap().clone();
            offers.iter().any(is_permit).then_some(unpaid)
        });
        let mut payment = stage.wallet.permit(&unpaid, is_permit);
        payment.payload = stage.wallet.permit_payload(&payment.accepted, |permit| permit.nonce = nonce);
        http::post(stage.gateway.address, CHAT, &[("payment-signature", &payment.v2())], body)
    };
    let by_mpp = |stage: &Stage| {
        stage.wallet.permit_charge_with(&stage.challenge(), |signs| signs.permit.nonce = nonce)
    };
    let mut other = ask();
    other["messages"][0]["content"] = json!("another question");

    let stage = Stage::with(", schemes: [permit2]", []);
    let shown = by_mpp(&stage);
    stage.assert_served_once(&shown, &stage.pay(&shown));
    assert_refused(&by_x402(&stage, &other), 403, "verification_failed", "nothing_taken");
    assert_eq!(stage.facilitator.settles().len(), 0);

    let stage = Stage::with(", schemes: [permit2]", []);
    assert_eq!(by_x402(&stage, &other).status, 200);
    let refused = stage.pay(&by_mpp(&stage));
    assert_refused(&refused, 403, "verification_failed", "nothing_taken");
    assert_eq!((stage.chain.state().sent.len(), stage.upstream.hits()), (0, 1));
}

/// What does not pay costs nobody anything: refused before a transaction is written.
#[test]
fn mpp_13_7_a_permit_pays_for_its_challenge() {
    let stage = Stage::new();
    let stranger = Address([7; 20]);
    type Change = fn(&mut Permission);
    let rows: [(&str, Change, &str, &str); 6] = [
        (
            "another spender",
            |signs| signs.permit.spender = contracts::EXACT_PROXY,
            "verification-failed",
            "signer_mismatch",
        ),
        (
            "another challenge",
            |signs| signs.challenge_hash = [1; 32],
            "verification-failed",
            "challenge_hash",
        ),
        (
            "another payee",
            |signs| signs.permit.to = Address([7; 20]),
            "verification-failed",
            "payee_mismatch",
        ),
        (
            "another token",
            |signs| signs.permit.token = Address([7; 20]),
            "verification-failed",
            "asset_not_offered",
        ),
        ("too little", |signs| signs.permit.amount -= 1, "payment-insufficient", "value_below_amount"),
        (
            "too late",
            |signs| signs.permit.deadline = now_s() + 20,
            "payment-expired",
            "valid_before_too_near",
        ),
    ];
    for (what, change, problem, reason) in rows {
        let shown = stage.wallet.permit_charge_with(&stage.challenge(), change);
        let answer = stage.pay(&shown);
        let said = answer.json()["error"]["reason"].clone();
        assert_eq!((what, &said), (what, &json!(reason)));
        assert_problem(&answer, problem, reason);
    }
    let mut nobody = stage.signed();
    nobody.source = None;
    assert_problem(&stage.pay(&nobody), "malformed-credential", "no_source");
    let mut another = stage.signed();
    another.source = Some(format!("did:pkh:{BASE_SEPOLIA}:{stranger}"));
    assert_eq!(stage.pay(&another).status, 402);
    stage.assert_nothing_sent("nothing of these is sent");
}

/// The chain is asked before gas is spent: a nonce, a balance, an allowance, and whether it would work at all.
#[test]
fn who_cannot_pay_costs_no_gas() {
    let stage = Stage::new();
    let payer = stage.wallet.address();
    let shown = stage.signed();
    for (what, change, reason) in [
        (
            "poor",
            (|stage, payer| {
                stage.chain.state().balances.insert(payer, 0);
            }) as fn(&Stage, Address),
            "insufficient_funds",
        ),
        (
            "not allowed",
            |stage, payer| {
                stage.chain.state().allowed.insert(payer, 0);
            },
            "permit2_allowance_required",
        ),
    ] {
        change(&stage, payer);
        assert_problem(&stage.pay(&shown), "verification-failed", reason);
        stage.assert_nothing_sent(what);
        stage.chain.fund(payer, FUNDS);
    }
    // By its own clock it is over already.
    stage.chain.state().ahead_s = 10_000;
    assert_problem(&stage.pay(&shown), "verification-failed", "transaction_would_fail");
    stage.chain.state().ahead_s = 0;
    // A node that says nothing says nothing about the payer.
    stage.chain.state().is_down = true;
    assert_refused(&stage.pay(&shown), 503, "facilitator_failed", "nothing_taken");
    stage.chain.state().is_down = false;
    // More than the operator pays for gas.
    stage.chain.state().gas_price = 101_000_000_000;
    assert_refused(&stage.pay(&shown), 503, "facilitator_failed", "nothing_taken");
    assert!(stage.gateway.log().contains("ALARM: permits cannot be sent"));
    // Nothing to pay for gas with.
    stage.chain.state().gas_price = 1_000_000_000;
    stage.chain.state().coins = 1_000;
    assert_refused(&stage.pay(&shown), 503, "facilitator_failed", "nothing_taken");
    stage.chain.state().coins = u128::MAX;
    stage.assert_nothing_sent("nothing of these is sent");
    // None of it has hurt the permit.
    let answer = stage.pay(&shown);
    stage.assert_served_once(&shown, &answer);
    // Used by whomever.
    let used = stage.wallet.permit_charge_with(&stage.challenge(), |signs| {
        signs.permit.nonce =
            wire::x402::uint256::parse(shown.payload["permit"]["nonce"].as_str().unwrap()).unwrap();
    });
    assert_eq!(stage.pay(&used).status, 200, "the same nonce for the same request is the same payment");
    assert_eq!(stage.chain.state().moved.len(), 1);
}

/// MPP-22: whatever the node says or leaves out, the payer is never asked to pay again, and one transfer is made.
#[test]
fn mpp_22_an_unclear_permit_moves_once() {
    for (what, tricks) in [
        ("its answer was lost", &[Trick::RunThenFail][..]),
        ("it was lost", &[Trick::Fail]),
        ("it was lost twice", &[Trick::Fail, Trick::Fail]),
        ("its place was taken", &[Trick::Outrun]),
    ] {
        let stage = Stage::with("", tricks.iter().copied());
        let shown = stage.signed();
        let first = stage.pay(&shown);
        if first.status != 200 {
            assert_unknown(&first);
        }
        let served = stage.pay_until_served(&shown);
        stage.assert_served_once(&shown, &served);
        let intents = stage.gateway.operator(&["ledger", "intents"]);
        assert_eq!(intents["intents"].as_array().map(Vec::len), Some(0), "{what}");
    }
}

/// What waits for long is paid more for, in the same place: the chain takes one of them.
#[test]
fn what_waits_is_outbid() {
    let stage = Stage::with("", [Trick::Hold; 12]);
    let shown = stage.signed();
    assert_unknown(&stage.pay(&shown));
    let outbid = wait_for("a higher bid", || {
        assert_ne!(stage.pay(&shown).status, 402);
        Some(stage.chain.transactions()).filter(|all| all.len() > 1)
    });
    assert!(
        outbid[1].fee_per_gas * 8 > outbid[0].fee_per_gas * 8 + outbid[0].fee_per_gas,
        "a tenth at least"
    );
    assert_eq!((outbid[0].nonce, &outbid[0].data), (outbid[1].nonce, &outbid[1].data));
    stage.chain.mine();
    let served = stage.pay_until_served(&shown);
    stage.assert_served_once(&shown, &served);
}

/// All that was sent has failed on the chain: then, and only then, nothing moved. The permit is as good as before.
#[test]
fn a_transaction_that_fails_frees_the_permit() {
    let stage = Stage::with("", [Trick::RunTooLate]);
    let shown = stage.signed();
    assert_problem(&stage.pay(&shown), "verification-failed", "transaction_failed");
    assert_eq!((stage.upstream.hits(), stage.gateway.books().entries.len()), (0, 0));
    stage.chain.fund(stage.wallet.address(), FUNDS);
    let answer = stage.pay(&shown);
    stage.assert_served_once(&shown, &answer);
}

/// X402-45 for permits: one whose time is over by the chain's clock and whose nonce is unused is let go.
#[test]
fn a_permit_that_never_moved_is_let_go() {
    let stage = Stage::with("", [Trick::Hold; 12]);
    let shown = stage.signed();
    assert_unknown(&stage.pay(&shown));
    stage.chain.state().ahead_s = 1_000;
    let refused = wait_for("its end", || Some(stage.pay(&shown)).filter(|answer| answer.status == 402));
    assert_eq!(refused.json()["money"], "nothing_taken", "{}", refused.text());
    stage.chain.mine();
    assert_eq!(stage.chain.state().moved, [], "the contract takes it no more");
    assert_eq!(stage.gateway.books().entries.len(), 0);
}

/// MPP-22, LED-23: killed while a transaction is under way, the next process finds it on the chain.
#[test]
fn mpp_22_a_kill_loses_no_permit() {
    let mut stage = Stage::with("", [Trick::Hold]);
    let shown = stage.signed();
    assert_unknown(&stage.pay(&shown));
    stage.gateway.crash_and_restart();
    stage.chain.mine();
    wait_for("the deposit", || (stage.gateway.books().count("deposit") == 1).then_some(()));
    let served = stage.pay_until_served(&shown);
    assert_eq!(served.header("farthing-key"), None, "its proof is public by now");
    stage.assert_served_once(&shown, &served);
}

/// MPP-25: one permit, many copies, one transaction.
#[test]
fn mpp_25_many_copies_are_one_transaction() {
    let stage = Stage::new();
    let shown = stage.signed();
    let answers = at_once(64, |_| stage.pay(&shown));
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    let waits = answers.iter().filter(|answer| answer.status == 409).count();
    assert!(served >= 1 && served + waits == 64, "{served} served, {waits} wait");
    assert_eq!(stage.chain.transactions().len(), 1);
    let answer = answers.iter().find(|answer| answer.header("farthing-key").is_some()).unwrap();
    stage.assert_served_once(&shown, answer);
}

/// Permits of many payers are sent one behind the other, each in a place of its own.
#[test]
fn permits_of_many_payers_do_not_meet() {
    let stage = Stage::new();
    let answers = at_once(8, |number| {
        let wallet = Wallet::new(u8::try_from(number).unwrap() + 40);
        stage.chain.fund(wallet.address(), FUNDS);
        let shown = wallet.permit_charge(&stage.challenge());
        wait_for("its turn", || Some(stage.pay(&shown)).filter(|answer| answer.status == 200))
    });
    assert_eq!(answers.len(), 8);
    let transactions = stage.chain.transactions();
    let places: Vec<u64> = transactions.iter().map(|one| one.nonce).collect();
    assert_eq!(places, (0..8).collect::<Vec<u64>>());
    assert_eq!(stage.chain.state().moved.len(), 8);
}
