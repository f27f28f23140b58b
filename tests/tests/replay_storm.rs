//! One proof in 64 copies at once, no two of them the same bytes: one settlement, one deposit, one call, also
//! across restarts. `FARTHING_ROUNDS` says how often, 2 unless it is set (`cargo xtask replay-storm`).
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use farthing_tests::crowd::at_once;
use farthing_tests::facilitator::{Conduct, Facilitator};
use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::payer::{BASE_SEPOLIA, Payment, TEST, Wallet};
use farthing_tests::refused::assert_refused;
use farthing_tests::spelling::spellings;
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn ask(text: &str) -> Value {
    json!({"model": "m", "max_tokens": 1000, "messages": [{"role": "user", "content": text}]})
}

/// What stands around a proof that is shown again and again.
struct Scene {
    upstream: Upstream,
    facilitator: Facilitator,
    gateway: Gateway,
}

impl Scene {
    fn of(plan: impl IntoIterator<Item = Conduct>) -> Self {
        let upstream = Upstream::friendly();
        let facilitator = Facilitator::start(plan);
        // Longer than anything that is waited for here.
        let rails =
            Facilitator::rails(&[facilitator.address]).replace("settle_timeout: 1s", "settle_timeout: 30s");
        let gateway = Gateway::start(upstream.address, &rails);
        Self { upstream, facilitator, gateway }
    }

    fn payment(&self, body: &Value, wallet: &Wallet, network: &str) -> Payment {
        let offered = http::post(self.gateway.address, CHAT, &[], body);
        assert_refused(&offered, 402, "payment_required", "nothing_taken");
        wallet.pay(&offered, network)
    }

    /// Every spelling at once.
    fn storm(&self, payment: &Payment, body: &Value) -> Vec<Answer> {
        let copies = spellings(payment);
        at_once(copies.len(), |at| {
            let (name, value) = &copies[at];
            http::post(self.gateway.address, CHAT, &[(*name, value.as_str())], body)
        })
    }

    /// What was asked upstream with this body.
    fn hits(&self, body: &Value) -> usize {
        let sent = body.to_string();
        self.upstream.seen().iter().filter(|seen| seen.body == sent.as_bytes()).count()
    }

    /// Settlements of this payment that were asked for, and transfers.
    fn settlements(&self, payment: &Payment) -> usize {
        let nonce = payment.payload["authorization"]["nonce"].as_str().unwrap();
        let settles = self.facilitator.settles();
        // In the spelling of whichever copy came first.
        let is_of = |body: &Vec<u8>| String::from_utf8_lossy(body).to_ascii_lowercase().contains(nonce);
        settles.into_iter().filter(is_of).count()
    }
}

/// Answers to copies of one proof: at most one of them is fresh, and nobody is asked to pay again.
fn count_fresh(answers: &[Answer]) -> usize {
    let fresh = answers.iter().filter(|answer| {
        let replayed = answer.header("farthing-replayed").is_some();
        assert!(
            !replayed || answer.header("farthing-key").is_none(),
            "a proof that others have seen opens nothing"
        );
        match answer.status {
            200 => !replayed,
            _ if answer.code() == "in_progress" => {
                assert_refused(answer, 409, "in_progress", "first_attempt_decides");
                assert!(answer.header("retry-after").is_some());
                false
            }
            _ => {
                assert_refused(answer, 409, "already_served", "captured");
                false
            }
        }
    });
    fresh.count()
}

fn rounds() -> usize {
    std::env::var("FARTHING_ROUNDS").map_or(2, |text| text.parse().unwrap())
}

#[test]
fn one_proof_in_64_spellings_is_served_once_across_restarts() {
    let mut scene = Scene::of([]);
    for round in 0..rounds() {
        for network in [TEST, BASE_SEPOLIA] {
            let body = ask(&format!("{network} {round}"));
            let wallet = Wallet::new(u8::try_from(round % 200 + 1).unwrap());
            let payment = scene.payment(&body, &wallet, network);
            let first = scene.storm(&payment, &body);
            assert_eq!(count_fresh(&first), 1, "{network}");
            let key = first.iter().find_map(|answer| answer.header("farthing-key")).unwrap().to_owned();
            wait_for("the call to be written down", || {
                count_fresh(&scene.storm(&payment, &body)[..1]);
                (scene.gateway.balance(&key).1 == 0).then_some(())
            });
            // Once with SIGKILL, once as an operator does it.
            for signal in [9, 15] {
                scene.gateway.signal(signal);
                scene.gateway.wait();
                scene.gateway.restart();
                assert_eq!(count_fresh(&scene.storm(&payment, &body)), 0, "{network}");
            }
            // No copy opens another request.
            for answer in scene.storm(&payment, &ask("another request")) {
                match answer.code().as_str() {
                    "in_progress" => assert_refused(&answer, 409, "in_progress", "first_attempt_decides"),
                    _ => assert_refused(&answer, 403, "verification_failed", "nothing_taken"),
                }
            }
            assert_eq!(scene.hits(&body), 1, "{network}");
            assert_eq!(scene.settlements(&payment), usize::from(network != TEST), "{network}");
            let books = scene.gateway.books_after(2 * round + 1);
            let calls = books.count("deposit");
            assert_eq!(
                (calls, books.count("capture")),
                (2 * round + 1 + usize::from(network != TEST), calls)
            );
        }
    }
    assert_eq!(scene.upstream.hits(), 2 * rounds());
    assert_eq!(usize::try_from(scene.facilitator.transfers()).unwrap(), rounds());
}

/// Between the check of a proof and its settlement others came through with the same proof. Here the
/// facilitator settles only when all 63 others have had their answer: that it is in use.
#[test]
fn x402_3401() {
    let open = Arc::new(AtomicBool::new(false));
    let scene = Scene::of([Conduct::SettleWhen(Arc::clone(&open))]);
    let body = ask("hi");
    let payment = scene.payment(&body, &Wallet::new(1), BASE_SEPOLIA);
    let copies = spellings(&payment);
    let answered = AtomicUsize::new(0);
    let answers = at_once(copies.len(), |at| {
        let (name, value) = &copies[at];
        let answer = http::post(scene.gateway.address, CHAT, &[(*name, value.as_str())], &body);
        if answered.fetch_add(1, Ordering::SeqCst) + 2 == copies.len() {
            open.store(true, Ordering::SeqCst);
        }
        answer
    });
    let (served, others): (Vec<Answer>, Vec<Answer>) =
        answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!((served.len(), others.len()), (1, 63));
    for answer in &others {
        assert_refused(answer, 409, "in_progress", "first_attempt_decides");
    }
    let key = served[0].must("farthing-key");
    assert_eq!(scene.gateway.settled_balance(key), payment.nano() - FRIENDLY_COST);
    assert_eq!((scene.settlements(&payment), scene.facilitator.transfers(), scene.hits(&body)), (1, 1, 1));
    let books = scene.gateway.books_after(1);
    assert_eq!((books.count("deposit"), books.count("capture")), (1, 1));
}

/// Killed while all copies are in flight, before and after the settlement: the payment is made once, and its
/// call is served once from it.
#[test]
fn killed_in_a_storm_it_is_paid_once() {
    let open = Arc::new(AtomicBool::new(false));
    let mut scene = Scene::of([Conduct::SettleWhen(Arc::clone(&open))]);
    let body = ask("hi");
    let payment = scene.payment(&body, &Wallet::new(1), BASE_SEPOLIA);
    let (address, copies) = (scene.gateway.address, spellings(&payment));
    std::thread::scope(|scope| {
        for (name, value) in &copies {
            let text = body.to_string();
            scope.spawn(move || {
                let _ = http::try_request(address, "POST", CHAT, &[(*name, value.as_str())], text.as_bytes());
            });
        }
        // The facilitator has been asked, and moves the money while the gateway is dead.
        wait_for("the settlement", || (scene.settlements(&payment) == 1).then_some(()));
        scene.gateway.signal(9);
        scene.gateway.wait();
        open.store(true, Ordering::SeqCst);
    });
    scene.gateway.restart();
    let answers = wait_for("the payment to be served", || {
        let answers = scene.storm(&payment, &body);
        answers.iter().any(|answer| answer.status == 200).then_some(answers)
    });
    // Some came while it was being found out whether the money had moved.
    let (unsure, decided): (Vec<Answer>, Vec<Answer>) =
        answers.into_iter().partition(|answer| answer.refusal() == "settlement_unknown");
    unsure.iter().for_each(|answer| assert_refused(answer, 503, "settlement_unknown", "unknown"));
    assert_eq!(count_fresh(&decided), 1);
    assert_eq!((scene.facilitator.transfers(), scene.hits(&body)), (1, 1));
    let books = scene.gateway.books_after(1);
    assert_eq!((books.count("deposit"), books.count("capture")), (1, 1));
}

/// LED-19: across a backup and a restore. What the backup knows is served no second time. What came after it is
/// refused by the challenge it names; a copy that names none has its rail asked, which tells of the one transfer:
/// in the restored books it is one deposit, and one of 64 copies is served from it.
#[test]
fn restored_from_a_backup_no_proof_is_settled_twice() {
    let mut scene = Scene::of([]);
    let wallet = Wallet::new(1);
    let paid = |scene: &Scene, text: &str, network: &str| {
        let body = ask(text);
        let payment = scene.payment(&body, &wallet, network);
        assert_eq!(count_fresh(&scene.storm(&payment, &body)), 1, "{text}");
        (payment, body)
    };
    let before = [paid(&scene, "before, test", TEST), paid(&scene, "before, chain", BASE_SEPOLIA)];
    scene.gateway.books_after(2);
    let backup = scene.gateway.folder().join("backup.redb").display().to_string();
    scene.gateway.operator(&["backup", "--to", &backup]);
    let (payment, body) = paid(&scene, "after, chain", BASE_SEPOLIA);
    scene.gateway.books_after(3);

    scene.gateway.signal(9);
    scene.gateway.wait();
    std::fs::remove_file(scene.gateway.folder().join("store/farthing.redb")).unwrap();
    scene.gateway.operator(&["restore", "--from", &backup]);
    scene.gateway.restart();
    for (payment, body) in &before {
        assert_eq!(count_fresh(&scene.storm(payment, body)), 0, "{body}");
        assert_eq!(scene.hits(body), 1, "{body}");
    }
    // Alone: in the storm it may come while another copy is being brought in, or after.
    let (name, value) =
        spellings(&payment).into_iter().find(|(name, _)| *name == "payment-signature").unwrap();
    let named = http::post(scene.gateway.address, CHAT, &[(name, &value)], &body);
    assert_refused(&named, 402, "quote_expired", "nothing_taken");
    let (refused, others): (Vec<_>, Vec<_>) =
        scene.storm(&payment, &body).into_iter().partition(|answer| answer.status == 402);
    refused.iter().for_each(|answer| assert_refused(answer, 402, "quote_expired", "nothing_taken"));
    assert_eq!(count_fresh(&others), 1);
    assert_eq!(scene.facilitator.transfers(), 2, "a payer was charged twice");
    let books = scene.gateway.books_after(3);
    assert_eq!((books.count("deposit"), books.count("capture")), (3, 3));
}
