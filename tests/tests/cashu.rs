//! Ecash of a Cashu mint (NUT-24) before a mint that does what the test says; a real one is in `cargo xtask interop`.
#![expect(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use std::net::SocketAddr;

use farthing_tests::crowd;
use farthing_tests::gateway::{Gateway, free_address, nano, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::mint::{Conduct, Mint, rails};
use farthing_tests::payer::{Wallet, challenge};
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, ask, assert_unknown};
use farthing_tests::upstream::{FRIENDLY_COST, Upstream};
use serde_json::{Value, json};
use store::{CheckOptions, check};
use wire::cashu::{PaymentRequest, Token};

/// A satoshi at the price of these tests, nano units.
const SAT: i64 = 1_000_000;

struct Scene {
    upstream: Upstream,
    mint: Mint,
    gateway: Gateway,
}

impl Scene {
    fn of(plan: impl IntoIterator<Item = Conduct>) -> Self {
        Self::before(Mint::start(plan))
    }

    fn before(mint: Mint) -> Self {
        let upstream = Upstream::friendly();
        let gateway = Gateway::start(upstream.address, &mint.rails());
        offered(&gateway);
        Self { upstream, mint, gateway }
    }

    fn pay(&self, token: &Token) -> Answer {
        pay(self.gateway.address, token, &ask())
    }

    fn reason(&self, token: &str) -> (u16, String, String) {
        let answer = http::post(self.gateway.address, CHAT, &[("x-cashu", token)], &ask());
        let said = answer.json();
        let reason = said["error"]["reason"].as_str().unwrap_or_default().to_owned();
        (answer.status, answer.code(), reason)
    }

    /// Satoshi that are held, and that are not decided.
    fn held(&self) -> (u64, u64) {
        let shown = self.gateway.operator(&["cashu", "show"]);
        let sum = |what: &str| {
            shown["mints"].as_array().unwrap().iter().map(|mint| mint[what].as_u64().unwrap()).sum()
        };
        (sum("held"), sum("undecided"))
    }

    fn count(&self, kind: &str) -> usize {
        let shown = self.gateway.operator(&["ledger", "show", "--limit", "100"]);
        shown["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == kind).count()
    }

    /// Ends the gateway and looks at its books.
    #[track_caller]
    fn assert_books(mut self) {
        self.gateway.signal(15);
        self.gateway.wait();
        let options = CheckOptions::new(u64::MAX / 2);
        let report = check(&self.gateway.folder().join("store"), &options).unwrap();
        assert_eq!(report.findings, vec![]);
    }
}

fn pay(gateway: SocketAddr, token: &Token, body: &Value) -> Answer {
    http::post(gateway, CHAT, &[("x-cashu", &token.encode())], body)
}

/// The request for payment, once the mint has told its keysets.
fn offered(gateway: &Gateway) -> String {
    wait_for("the request for payment", || {
        let answer = http::post(gateway.address, CHAT, &[], &ask());
        answer.header("x-cashu").map(str::to_owned)
    })
}

/// CASHU-3, CASHU-5, CASHU-13: asked, paid, served, credited, and the rest is reached by the key.
#[test]
fn cashu_a_token_pays_for_a_call_and_its_rest_stays() {
    let scene = Scene::of([]);
    let answer = http::post(scene.gateway.address, CHAT, &[], &ask());
    assert_refused(&answer, 402, "payment_required", "nothing_taken");
    let mints = [scene.mint.url()];
    let request = PaymentRequest { amount: 20, unit: "sat", mints: &mints };
    assert_eq!(answer.must("x-cashu"), request.encode(), "0.02 USD at 100,000 USD a bitcoin");
    assert!(answer.must("access-control-expose-headers").contains("X-Cashu"));

    let token = scene.mint.token(&[1, 4, 16]);
    let paid = scene.pay(&token);
    assert_eq!(paid.status, 200, "{}", paid.text());
    let key = paid.must("farthing-key").to_owned();
    assert_eq!(scene.gateway.settled_balance(&key), 21 * SAT - FRIENDLY_COST);
    assert_eq!((scene.mint.swaps(), scene.held(), scene.upstream.hits()), (1, (21, 0), 1));
    let upstream = &scene.upstream.seen()[0];
    assert!(upstream.headers.iter().all(|(_, value)| !value.contains("cashuB")), "ecash stays here");
    let log = scene.gateway.log();
    assert!(token.proofs.iter().all(|proof| !log.contains(&proof.secret)), "and out of the log");
    // The key buys the next call without a mint.
    let next =
        http::post(scene.gateway.address, CHAT, &[("authorization", &format!("Bearer {key}"))], &ask());
    assert_eq!((next.status, scene.mint.asked("/v1/swap")), (200, 1));
    scene.assert_books();
}

/// CASHU-12, CASHU-13: a token is public once it was swapped.
#[test]
fn cashu_a_token_opens_nothing_a_second_time() {
    let scene = Scene::of([]);
    let token = scene.mint.token(&[4, 16, 32]);
    let first = scene.pay(&token);
    assert_eq!(first.status, 200, "{}", first.text());
    let again = scene.pay(&token);
    assert_eq!((again.status, &again.body), (200, &first.body), "the same request is told the same");
    assert_eq!(again.header("farthing-key"), None);
    let other = json!({"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "other"}]});
    assert_refused(&pay(scene.gateway.address, &token, &other), 403, "verification_failed", "nothing_taken");
    // The same coins in another order are the same token; fewer, or with one more, are another.
    let turned = Token { proofs: token.proofs.iter().rev().cloned().collect(), ..token.clone() };
    assert_eq!(scene.pay(&turned).status, 200);
    let part = Token { proofs: token.proofs[2..].to_vec(), ..token.clone() };
    assert_refused(&scene.pay(&part), 403, "verification_failed", "nothing_taken");
    let mixed =
        Token { proofs: [&token.proofs[..1], &scene.mint.token(&[64]).proofs].concat(), ..token.clone() };
    assert_refused(&scene.pay(&mixed), 403, "verification_failed", "nothing_taken");
    assert_eq!((scene.mint.asked("/v1/swap"), scene.upstream.hits(), scene.count("deposit")), (1, 1, 1));
    scene.assert_books();
}

/// CASHU-12: however many bring it at once.
#[test]
fn cashu_one_of_many_at_once_is_served() {
    let scene = Scene::of([]);
    let token = scene.mint.token(&[32]);
    let statuses = crowd::at_once(16, |_| scene.pay(&token).status);
    assert!(statuses.iter().all(|status| [200, 409].contains(status)), "{statuses:?}");
    assert_eq!((scene.mint.swaps(), scene.upstream.hits(), scene.count("deposit")), (1, 1, 1));
    scene.assert_books();
}

/// CASHU-6: NUT-24 wants 400, and no mint is asked.
#[test]
fn cashu_what_was_not_asked_for_is_400() {
    let scene = Scene::of([]);
    let good = scene.mint.token(&[32]);
    let of = |change: &dyn Fn(&mut Token)| {
        let mut token = good.clone();
        change(&mut token);
        token.encode()
    };
    let lock = r#"["P2PK",{"nonce":"0a","data":"02","tags":[]}]"#;
    for (token, reason) in [
        (of(&|token| token.mint = "http://127.0.0.1:9".to_owned()), "cashu_mint"),
        (of(&|token| token.mint = "not a url".replace(' ', "-")), "cashu_mint"),
        (of(&|token| token.unit = "usd".to_owned()), "cashu_unit"),
        (of(&|token| token.proofs[0].secret = lock.to_owned()), "cashu_lock"),
        (scene.mint.token(&[1, 2, 16]).encode(), "cashu_amount"),
        (
            of(&|token| token.proofs[0].keyset = wire::cashu::KeysetId::parse("00aaaaaaaaaaaaaa").unwrap()),
            "cashu_keyset",
        ),
    ] {
        assert_eq!(scene.reason(&token), (400, "bad_request".to_owned(), reason.to_owned()));
    }
    assert_eq!(scene.reason("cashuBnonsense").1, "malformed_credential");
    let two = [("x-cashu", good.encode()), ("payment-signature", "e30=".to_owned())];
    let two: Vec<(&str, &str)> = two.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let undecodable = http::post(scene.gateway.address, CHAT, &two, &ask());
    assert_eq!(undecodable.status, 200, "a line that cannot be read is passed over: {}", undecodable.text());
    assert_eq!(scene.mint.asked("/v1/swap"), 1);
    let twice = [("x-cashu", "cashuA"), ("x-cashu", "cashuB")];
    assert_refused(
        &http::post(scene.gateway.address, CHAT, &twice, &ask()),
        400,
        "bad_request",
        "nothing_taken",
    );
}

/// CASHU-7, CASHU-11: what its mint does not take is free again, and nothing is credited.
#[test]
fn cashu_what_the_mint_refuses_was_not_taken() {
    let scene = Scene::of([]);
    let spent = scene.mint.token(&[32]);
    scene.mint.spend(&spent);
    assert_eq!(scene.reason(&spent.encode()), (402, "settlement_failed".into(), "token_spent".into()));
    // Another coin under a signature: without evidence only the mint can tell, with it we can.
    let mut forged = scene.mint.token(&[32]);
    forged.proofs[0].signature = scene.mint.token(&[32]).proofs[0].signature;
    let asked = scene.mint.asked("/v1/swap");
    assert_eq!(scene.reason(&forged.encode()), (402, "proof_invalid".into(), "cashu_dleq".into()));
    assert_eq!(scene.mint.asked("/v1/swap"), asked, "nobody had to be asked");
    forged.proofs[0].dleq = None;
    assert_eq!(
        scene.reason(&forged.encode()),
        (402, "settlement_failed".into(), "mint_refused_10001".into())
    );
    let challenge = scene.pay(&forged);
    assert_refused(&challenge, 402, "settlement_failed", "nothing_taken");
    assert!(challenge.header("x-cashu").is_some(), "how to pay instead");
    assert_eq!((scene.held(), scene.count("deposit"), scene.upstream.hits()), ((0, 0), 0, 0));
    scene.assert_books();
}

/// CASHU-11: while somebody else spends it.
#[test]
fn cashu_a_token_that_is_stolen_meanwhile_was_not_taken() {
    let scene = Scene::of([Conduct::Steals]);
    let token = scene.mint.token(&[32]);
    assert_eq!(scene.reason(&token.encode()), (402, "settlement_failed".into(), "token_spent".into()));
    assert_eq!((scene.held(), scene.count("deposit"), scene.upstream.hits()), ((0, 0), 0, 0));
    scene.assert_books();
}

/// CASHU-11: a busy mint leaves the token as it was.
#[test]
fn cashu_a_busy_mint_leaves_the_token_alone() {
    let scene = Scene::of([Conduct::Busy]);
    let token = scene.mint.token(&[32]);
    assert_refused(&scene.pay(&token), 503, "facilitator_failed", "nothing_taken");
    assert_eq!(scene.pay(&token).status, 200);
    assert_eq!((scene.mint.swaps(), scene.held()), (1, (32, 0)));
    scene.assert_books();
}

/// CASHU-11: an answer that was lost is found again, and nothing is taken or credited twice.
#[test]
fn cashu_a_lost_answer_is_found_again() {
    for lost in [Conduct::SwapThenSilence, Conduct::Silence, Conduct::Fails] {
        let scene = Scene::of([lost]);
        let token = scene.mint.token(&[4, 32]);
        assert_unknown(&scene.pay(&token));
        let served = wait_for("the payment to be served", || {
            let answer = scene.pay(&token);
            (!["in_progress", "settlement_unknown"].contains(&answer.refusal().as_str())).then_some(answer)
        });
        assert_eq!(served.status, 200, "{lost:?}: {}", served.text());
        assert_eq!((scene.mint.swaps(), scene.held(), scene.upstream.hits()), (1, (36, 0), 1), "{lost:?}");
        assert_eq!(scene.count("deposit"), 1, "{lost:?}");
        let bodies = scene.mint.swap_bodies();
        assert!(bodies.iter().all(|body| *body == bodies[0]), "{lost:?}: the identical body");
        scene.assert_books();
    }
}

/// CASHU-11: nobody has to come back for it.
#[test]
fn cashu_an_unknown_swap_is_resolved_by_itself() {
    let scene = Scene::of([Conduct::SwapThenSilence]);
    assert_unknown(&scene.pay(&scene.mint.token(&[32])));
    wait_for("the deposit", || (scene.count("deposit") == 1).then_some(()));
    assert_eq!((scene.mint.swaps(), scene.held(), scene.upstream.hits()), (1, (32, 0), 0));
    scene.assert_books();
}

/// CASHU-7, CASHU-11: a mint that contradicts itself is not believed, and is asked again until it makes sense.
#[test]
fn cashu_a_lying_mint_is_not_believed() {
    let lies =
        [Conduct::LiesAboutAmounts, Conduct::LiesAboutKeys, Conduct::GivesNoEvidence, Conduct::GivesLess];
    for lie in lies {
        let scene = Scene::of([lie]);
        scene.mint.remember(false);
        let token = scene.mint.token(&[4, 32]);
        assert_unknown(&scene.pay(&token));
        assert_eq!((scene.held(), scene.count("deposit"), scene.upstream.hits()), ((0, 36), 0, 0), "{lie:?}");
        assert!(scene.gateway.log().contains("ALARM"), "{lie:?}");
        // Nor is the operator's word coins of ours.
        let open = scene.gateway.operator(&["ledger", "intents"]);
        let key = open["intents"][0]["deposit_key"].as_str().unwrap().to_owned();
        let decided = scene.gateway.command(&["ledger", "resolve", &key, "--settled", "0xabc"]);
        assert!(!decided.status.success(), "{lie:?}");
        assert!(!open.to_string().contains(&token.proofs[0].secret), "{lie:?}: nobody reads coins there");
        scene.mint.remember(true);
        wait_for("the truth", || (scene.held() == (36, 0)).then_some(()));
        // Coins are on disk before their deposit is.
        let served = wait_for("the deposit", || {
            let answer = scene.pay(&token);
            (answer.refusal() != "settlement_unknown").then_some(answer)
        });
        assert_eq!(served.status, 200, "{lie:?}: {}", served.text());
        scene.assert_books();
    }
}

/// CASHU-9, CASHU-11: a kill at the worst moment.
#[test]
fn cashu_a_crash_loses_no_coin() {
    let mut scene = Scene::of([Conduct::SwapThenSilence]);
    let token = scene.mint.token(&[2, 32]);
    let (address, encoded) = (scene.gateway.address, token.encode());
    let caller = std::thread::spawn(move || {
        http::try_request(
            address,
            "POST",
            CHAT,
            &[("x-cashu", &encoded), ("content-type", "application/json")],
            ask().to_string().as_bytes(),
        )
    });
    wait_for("the swap", || (scene.mint.swaps() == 1).then_some(()));
    scene.gateway.crash_and_restart();
    let _ = caller.join();
    let served = wait_for("the payment to be served", || {
        let answer = scene.pay(&token);
        (!["in_progress", "settlement_unknown", "facilitator_failed"].contains(&answer.refusal().as_str()))
            .then_some(answer)
    });
    assert_eq!(served.status, 200, "{}", served.text());
    assert_eq!(served.header("farthing-key"), None, "whoever shows it a second time may be anybody");
    assert_eq!(
        (scene.mint.swaps(), scene.held(), scene.upstream.hits(), scene.count("deposit")),
        (1, (34, 0), 1, 1)
    );
    scene.assert_books();
}

/// CASHU-14: the operator gets the money out, once, and can look at it again.
#[test]
fn cashu_what_is_held_can_be_taken_out() {
    let mut scene = Scene::of([]);
    for amounts in [&[32][..], &[1, 64]] {
        assert_eq!(scene.pay(&scene.mint.token(amounts)).status, 200);
    }
    let taken = scene.gateway.operator(&["cashu", "export"]);
    assert_eq!((taken["amount"].as_u64(), taken["unit"].as_str()), (Some(97), Some("sat")));
    let tokens = |document: &Value| -> Vec<Token> {
        document["tokens"]
            .as_array()
            .unwrap()
            .iter()
            .map(|text| Token::parse(text.as_str().unwrap()).unwrap())
            .collect()
    };
    let money = tokens(&taken);
    assert_eq!(money.iter().map(Token::amount).sum::<u64>(), 97);
    money.iter().for_each(|token| scene.mint.assert_money(token));
    assert_eq!(scene.held(), (0, 0));
    let refused = scene.gateway.command(&["cashu", "export"]);
    assert!(!refused.status.success() && refused.stdout.is_empty(), "nothing is shown as new a second time");
    // Nor after a crash; what a broken pipe swallowed is shown once more.
    scene.gateway.crash_and_restart();
    let export = taken["export"].as_str().unwrap();
    let again = scene.gateway.operator(&["cashu", "export", "--again", export]);
    assert_eq!(tokens(&again), money);
    let shown = scene.gateway.operator(&["cashu", "show"]);
    assert_eq!(shown["exports"][0]["amount"], 97);
    assert_eq!(shown["exports"][0]["export"], export);
    // Without a gateway the store is opened itself.
    scene.gateway.signal(15);
    scene.gateway.wait();
    assert_eq!(tokens(&scene.gateway.operator(&["cashu", "export", "--again", export])), money);
}

/// CASHU-10: the fee of the mint is the payer's, and is asked for.
#[test]
fn cashu_the_fee_of_the_mint_is_asked_for() {
    let scene = Scene::before(Mint::start_at(([127, 0, 0, 1], 0).into(), 500, []));
    let mints = [scene.mint.url()];
    let request = PaymentRequest { amount: 28, unit: "sat", mints: &mints };
    assert_eq!(offered(&scene.gateway), request.encode(), "20, and 16 coins at half a satoshi");
    let paid = scene.pay(&scene.mint.token(&[4, 8, 16]));
    assert_eq!(paid.status, 200, "{}", paid.text());
    // Three coins at half a satoshi cost two.
    assert_eq!(scene.held(), (26, 0));
    assert_eq!(scene.gateway.settled_balance(paid.must("farthing-key")), 26 * SAT - FRIENDLY_COST);
    // Twenty-one of one satoshi each would leave ten.
    let dust = scene.mint.token(&[1; 21]);
    assert_eq!(scene.reason(&dust.encode()), (400, "bad_request".into(), "cashu_amount".into()));
    scene.assert_books();
}

/// CASHU-4: a mint that does not answer is not offered, and is as soon as it does.
#[test]
fn cashu_a_mint_that_is_away_is_not_offered() {
    let upstream = Upstream::friendly();
    let address = free_address();
    let gateway = Gateway::start(upstream.address, &rails(&format!("http://{address}")));
    let answer = http::post(gateway.address, CHAT, &[], &ask());
    assert_refused(&answer, 503, "facilitator_failed", "nothing_taken");
    assert_eq!(answer.header("x-cashu"), None);
    let mint = Mint::start_at(address, 0, []);
    offered(&gateway);
    assert_eq!(pay(gateway.address, &mint.token(&[32]), &ask()).status, 200);
}

/// CASHU-15: what nobody can tell from money counts for its source before its points are computed; a token that has paid is
/// told what became of it.
#[test]
fn cashu_what_cannot_be_told_is_counted() {
    let (upstream, address) = (Upstream::friendly(), free_address());
    let mut more = rails(&format!("http://{address}"));
    let limits = |unpaid: u32| {
        format!(
            "limits: {{ unpaid: {{ per_ip: {unpaid}/min }}, invalid_proofs: {{ per_ip: 1/min, burst: 1 }} }}\n"
        )
    };
    more.push_str(&limits(100_000));
    let mut gateway = Gateway::start(upstream.address, &more);
    let mint = Mint::start_at(address, 0, []);
    offered(&gateway);
    let token = mint.token(&[32]);
    assert_eq!(pay(gateway.address, &token, &ask()).status, 200);
    // From now on the mint is one that nobody has heard of.
    let elsewhere = free_address();
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    let text = text.replace(&address.to_string(), &elsewhere.to_string());
    std::fs::write(gateway.config(), text.replace(&limits(100_000), &limits(3))).unwrap();
    gateway.signal(15);
    gateway.wait();
    gateway.restart();
    let made_up = || Token { mint: format!("http://{elsewhere}"), ..mint.token(&[4; 20]) };
    let spent = Token { mint: format!("http://{elsewhere}"), ..token };
    for _ in 0..2 {
        let answer = pay(gateway.address, &made_up(), &ask());
        assert_refused(&answer, 503, "facilitator_failed", "nothing_taken");
        // One that has paid gives back what it took.
        for _ in 0..3 {
            assert_eq!(pay(gateway.address, &spent, &ask()).code(), "already_served");
        }
    }
    let refused: Vec<Answer> = (0..4).map(|_| pay(gateway.address, &made_up(), &ask())).collect();
    let refused = refused.iter().filter(|answer| answer.status == 429).collect::<Vec<_>>();
    assert!(refused.len() >= 2, "{refused:?}");
    for answer in refused {
        assert_refused(answer, 429, "rate_limited", "nothing_taken");
        assert!(answer.header("retry-after").is_some());
    }
    // It was no bad proof: whoever has money is let in.
    let key = gateway.key("1 TEST");
    let bearer = [("authorization", format!("Bearer {key}"))];
    let bearer = bearer.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(http::post(gateway.address, CHAT, &bearer, &ask()).status, 200);
}

/// CASHU-15: a mint that has told its keysets and is away now cannot tell either; that it is away is found out where a swap is
/// not taken.
#[test]
fn cashu_tokens_of_a_mint_that_left_are_counted() {
    let (upstream, mint) = (Upstream::friendly(), Mint::start([Conduct::Busy]));
    let limits = |unpaid: u32| format!("limits: {{ unpaid: {{ per_ip: {unpaid}/min }} }}\n");
    let gateway = Gateway::start(upstream.address, &(mint.rails() + &limits(100_000)));
    offered(&gateway);
    assert_refused(
        &pay(gateway.address, &mint.token(&[32]), &ask()),
        503,
        "facilitator_failed",
        "nothing_taken",
    );
    mint.leave();
    wait_for("the mint to be missed", || gateway.log().contains("a mint cannot be paid").then_some(()));
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    std::fs::write(gateway.config(), text.replace(&limits(100_000), &limits(2))).unwrap();
    gateway.signal(1);
    wait_for("the new limits", || gateway.log().contains("configuration reloaded").then_some(()));
    let codes: Vec<String> =
        (0..4).map(|_| pay(gateway.address, &mint.token(&[32]), &ask()).code()).collect();
    assert_eq!(codes[..2], ["settlement_unknown", "settlement_unknown"], "{codes:?}");
    assert!(codes[2..].contains(&"rate_limited".to_owned()), "{codes:?}");
}

/// CASHU-3, CASHU-13: one request for payment among the other offers, and one payment in a request.
#[test]
fn cashu_stands_beside_other_offers_and_pays_alone() {
    let (upstream, mint) = (Upstream::friendly(), Mint::start([]));
    let gateway = Gateway::start(upstream.address, &mint.rails().replace("cashu:", "test: {}, cashu:"));
    offered(&gateway);
    let answer = http::post(gateway.address, CHAT, &[], &ask());
    assert_eq!(challenge(&answer)["accepts"].as_array().unwrap().len(), 1);
    assert!(answer.header("x-cashu").is_some());
    let (token, other) = (mint.token(&[32]).encode(), Wallet::new(1).pay(&answer, "farthing:test").v2());
    let both = [("x-cashu", token.as_str()), ("payment-signature", other.as_str())];
    let refused = http::post(gateway.address, CHAT, &both, &ask());
    assert_refused(&refused, 400, "ambiguous_credentials", "nothing_taken");
    assert_eq!((mint.swaps(), upstream.hits()), (0, 0));
    for one in both {
        assert_eq!(http::post(gateway.address, CHAT, &[one], &ask()).status, 200);
    }
}

/// CASHU-13: ecash beside a key is a top-up of its account, and so is ecash at the top-up.
#[test]
fn cashu_ecash_tops_up() {
    let scene = Scene::of([]);
    let key = scene.gateway.key("0.001 TEST");
    let bearer = format!("Bearer {key}");
    let token = scene.mint.token(&[32]).encode();
    let headers = [("x-cashu", token.as_str()), ("authorization", bearer.as_str())];
    let answer = http::post(scene.gateway.address, CHAT, &headers, &ask());
    assert_eq!((answer.status, answer.header("farthing-key")), (200, None), "{}", answer.text());
    assert_eq!(scene.gateway.settled_balance(&key), 33 * SAT - FRIENDLY_COST);
    let token = scene.mint.token(&[2, 8]).encode();
    let target = "/farthing/topup?amount=0.01";
    let headers = [("x-cashu", token.as_str()), ("authorization", bearer.as_str())];
    let topped = http::request(scene.gateway.address, "POST", target, &headers, b"");
    assert_eq!(topped.status, 400, "the usual deposit is 20: {}", topped.text());
    let token = scene.mint.token(&[4, 16]).encode();
    let headers = [("x-cashu", token.as_str()), ("authorization", bearer.as_str())];
    let topped = http::request(scene.gateway.address, "POST", target, &headers, b"");
    assert_eq!(topped.status, 200, "{}", topped.text());
    assert_eq!(nano(&topped.json()["balance"]["amount"]), 53 * SAT - FRIENDLY_COST);
    scene.assert_books();
}
