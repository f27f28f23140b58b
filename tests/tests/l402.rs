//! A payment over Lightning: what is offered, what is credited, and what a token is good for.

use std::sync::atomic::{AtomicUsize, Ordering};

use farthing_tests::crowd::at_once;
use farthing_tests::gateway::{Gateway, nano};
use farthing_tests::http;
use farthing_tests::lightning::{Offered, TEST_NODE, TOOL, call, offered, with_tool};
use farthing_tests::refused::assert_refused;
use farthing_tests::scene::{CHAT, ask};
use farthing_tests::socket::Socket;
use farthing_tests::upstream::{FRIENDLY_COST, Upstream, friendly_answer, plain};
use serde_json::json;
use std::io::Write as _;

/// What a call of the tool costs, in nano units.
const CENT: i64 = 10_000_000;

/// L402-1, L402-2, L402-60: one line, first of its kind; its invoice is for what the call may cost, the token over its
/// payment hash says the same.
#[test]
fn l402_1_2_60_a_challenge_has_an_invoice_and_its_token() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, TEST_NODE);
    let answer = http::post(gateway.address, CHAT, &[], &ask());
    assert_refused(&answer, 402, "payment_required", "nothing_taken");
    assert_eq!(answer.must("cache-control"), "no-store");
    assert!(answer.must("access-control-expose-headers").contains("WWW-Authenticate"));
    let offer = Offered::of(&answer);
    let line = answer.must("www-authenticate");
    assert_eq!(
        line,
        format!(
            "L402 macaroon=\"{0}\", invoice=\"{1}\", version=\"0\", token=\"{0}\"",
            offer.token, offer.invoice
        )
    );
    let (invoice, terms) = (offer.decoded(), offer.terms());
    assert_eq!(invoice.payment_hash, offer.decoded_token().identifier().payment_hash.0);
    let need = farthing_tests::gateway::nano(&answer.json()["error"]["need"]);
    assert_eq!(terms.credit.units(), need);
    assert_eq!(invoice.amount_msat, Some(terms.amount_msat));
    assert_eq!(
        terms.amount_msat,
        u64::try_from(need).unwrap().div_ceil(1000),
        "100,000 USD: 1000 nano-dollars a millisatoshi"
    );
    assert_eq!(upstream.hits(), 0);
    assert_eq!(gateway.books().entries.len(), 0, "nothing is stored for a challenge");
}

/// The first time a payment is shown it is a deposit; then its token draws what calls cost, until nothing is left.
#[test]
fn a_token_draws_down_its_payment() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, TEST_NODE);
    let offer = offered(gateway.address, CHAT, &ask());
    let credit = offer.terms().credit.units();
    let first = call(gateway.address, CHAT, &offer.paid(), &ask());
    assert_eq!(first.status, 200, "{}", first.text());
    let key = first.must("farthing-key").to_owned();
    assert_eq!(gateway.settled_balance(&key), credit - FRIENDLY_COST);
    let mut calls = 1;
    let refused = loop {
        let again = call(gateway.address, CHAT, &offer.paid(), &ask());
        if again.status != 200 {
            break again;
        }
        assert!(again.header("farthing-key").is_none(), "a key is handed out once");
        calls += 1;
        assert_eq!(gateway.settled_balance(&key), credit - calls * FRIENDLY_COST);
        assert!(calls < 1000);
    };
    assert_refused(&refused, 402, "insufficient_balance", "nothing_taken");
    assert!(Offered::find(&refused).is_some(), "how to go on");
    let books = gateway.books_after(usize::try_from(calls).unwrap());
    assert_eq!(books.count("deposit"), 1);
    assert_eq!(i64::try_from(upstream.hits()).unwrap(), calls);
}

/// Reference items 5 and 14: where each call costs the same a token is good for one, whoever shows it how often.
#[test]
fn a_token_of_a_fixed_price_is_good_for_one_call() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, &with_tool(""));
    let offer = offered(gateway.address, TOOL, &json!({}));
    assert_eq!(offer.terms().credit.units(), CENT);
    let named = [("authorization", offer.paid()), ("idempotency-key", "one".to_owned())];
    let named: Vec<_> = named.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let first = http::post(gateway.address, TOOL, &named, &json!({}));
    assert_eq!(first.status, 200, "{}", first.text());
    let key = first.must("farthing-key").to_owned();
    assert_eq!(gateway.settled_balance(&key), 0);
    let again = call(gateway.address, TOOL, &offer.paid(), &json!({"other": true}));
    assert_refused(&again, 403, "verification_failed", "nothing_taken");
    assert_eq!(again.json()["error"]["reason"], "token_used");
    // Whoever names his request is told again what became of it.
    let told = http::post(gateway.address, TOOL, &named, &json!({}));
    assert_eq!((told.status, told.text()), (200, first.text()));
    assert_eq!(upstream.hits(), 1);
    let books = gateway.books_after(1);
    assert_eq!((books.count("deposit"), books.count("capture")), (1, 1));
}

/// `fixed_price: draw`: the payment is drawn on there as well, and the deposit may be for many calls.
#[test]
fn an_operator_may_let_tokens_of_fixed_prices_draw() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, &with_tool(", fixed_price: draw, deposit: 0.03 USD"));
    let offer = offered(gateway.address, TOOL, &json!({}));
    assert_eq!(offer.terms().credit.units(), 3 * CENT);
    let mut key = String::new();
    for left in [2, 1, 0] {
        let answer = call(gateway.address, TOOL, &offer.paid(), &json!({}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        key = answer.header("farthing-key").unwrap_or(&key).to_owned();
        assert_eq!(gateway.settled_balance(&key), left * CENT);
    }
    let refused = call(gateway.address, TOOL, &offer.paid(), &json!({}));
    assert_refused(&refused, 402, "insufficient_balance", "nothing_taken");
    assert_eq!(gateway.books_after(3).count("deposit"), 1);
}

/// An upstream that fails takes nothing: the payment is in, and the same token pays for the next try.
#[test]
fn an_upstream_that_fails_takes_nothing() {
    let hits = AtomicUsize::new(0);
    let upstream = Upstream::start(move |request, stream| {
        let answer = match hits.fetch_add(1, Ordering::SeqCst) {
            0 => plain(500, "application/json", "{}"),
            1 => return,
            _ => friendly_answer(request),
        };
        let _ = stream.write_all(&answer);
    });
    for (path, body, cost) in [(TOOL, json!({}), CENT), (CHAT, ask(), FRIENDLY_COST)] {
        let gateway = Gateway::start(upstream.address, &with_tool(""));
        let offer = offered(gateway.address, path, &body);
        let credit = offer.terms().credit.units();
        let served = (0..4).find_map(|_| {
            let answer = call(gateway.address, path, &offer.paid(), &body);
            if let Some(key) = answer.header("farthing-key") {
                assert_eq!(
                    gateway.settled_balance(key),
                    if answer.status == 200 { credit - cost } else { credit }
                );
            }
            (answer.status == 200).then_some(answer)
        });
        assert!(served.is_some(), "{path}");
        let books = gateway.books_after(1);
        assert_eq!((books.count("deposit"), books.count("capture")), (1, 1), "{path}");
    }
}

/// L402-59: money follows the payment. One call is paid for; 64 show it at once, as eight differently narrowed tokens.
#[test]
fn l402_59_however_a_payment_is_shown_it_pays_once() {
    for more in ["", ", fixed_price: draw"] {
        let upstream = Upstream::friendly();
        let gateway = Gateway::start(upstream.address, &with_tool(more));
        let offer = offered(gateway.address, TOOL, &json!({}));
        let tokens: Vec<String> =
            (0..8).map(|nth| offer.narrowed(&[&format!("expires={}", 4_000_000_000_u64 + nth)])).collect();
        let good = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for nth in 0..64 {
                let (gateway, token, good) = (&gateway, &tokens[nth % 8], &good);
                scope.spawn(move || {
                    let answer = call(gateway.address, TOOL, token, &json!({"nth": nth}));
                    match answer.status {
                        200 => {
                            good.fetch_add(1, Ordering::SeqCst);
                            assert!(
                                answer.header("farthing-key").is_none(),
                                "a narrowed token gets no key to all"
                            );
                        }
                        402 | 403 | 409 => {}
                        other => panic!("{other}: {}", answer.text()),
                    }
                });
            }
        });
        assert_eq!(good.into_inner(), 1, "{more}");
        assert_eq!(upstream.hits(), 1);
        let books = gateway.books_after(1);
        assert_eq!((books.count("deposit"), books.count("capture")), (1, 1));
    }
}

/// Another process on the same store knows the payment: it is a deposit once.
#[test]
fn a_payment_is_known_after_a_crash() {
    let upstream = Upstream::friendly();
    let mut gateway = Gateway::start(upstream.address, TEST_NODE);
    let offer = offered(gateway.address, CHAT, &ask());
    let credit = offer.terms().credit.units();
    let first = call(gateway.address, CHAT, &offer.paid(), &ask());
    let key = first.must("farthing-key").to_owned();
    assert_eq!(gateway.settled_balance(&key), credit - FRIENDLY_COST);
    gateway.books_after(1);
    gateway.crash_and_restart();
    let second = call(gateway.address, CHAT, &offer.paid(), &ask());
    assert_eq!(second.status, 200, "{}", second.text());
    assert!(second.header("farthing-key").is_none());
    assert_eq!(gateway.settled_balance(&key), credit - 2 * FRIENDLY_COST);
    assert_eq!(gateway.books_after(2).count("deposit"), 1);
}

/// Whoever has a key adds a payment to its account in the request that it pays for; a token of that payment opens
/// nothing by itself then.
#[test]
fn a_payment_beside_a_key_goes_into_the_account_of_the_key() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, TEST_NODE);
    let key = gateway.key("0.000001 TEST");
    let offer = offered(gateway.address, CHAT, &ask());
    let credit = offer.terms().credit.units();
    let both = |authorization: &str| {
        let fields = [("authorization", authorization), ("x-api-key", key.as_str())];
        http::post(gateway.address, CHAT, &fields, &ask())
    };
    let narrowed = both(&offer.narrowed(&["per_call=TEST:5000000"]));
    assert_refused(&narrowed, 403, "key_forbidden", "nothing_taken");
    assert_eq!(narrowed.json()["error"]["reason"], "token_narrowed");
    assert_eq!(gateway.settled_balance(&key), 1000);
    let first = both(&offer.paid());
    assert_eq!(first.status, 200, "{}", first.text());
    assert!(first.header("farthing-key").is_none());
    assert_eq!(gateway.settled_balance(&key), 1000 + credit - FRIENDLY_COST);
    assert_eq!(both(&offer.paid()).status, 200);
    assert_eq!(gateway.settled_balance(&key), 1000 + credit - 2 * FRIENDLY_COST);
    let alone = call(gateway.address, CHAT, &offer.paid(), &ask());
    assert_refused(&alone, 403, "verification_failed", "nothing_taken");
    assert_eq!(alone.json()["error"]["reason"], "deposited_elsewhere");
    assert_eq!(gateway.books_after(2).count("deposit"), 2, "the operator's and the payer's");
}

/// Reference item 13: two payments in one request pay for nothing.
#[test]
fn l402_15_two_payments_in_one_request_are_refused() {
    let upstream = Upstream::friendly();
    let rails = TEST_NODE.replace("rails: {", "rails: { test: {},");
    let gateway = Gateway::start(upstream.address, &rails);
    let (one, other) = (offered(gateway.address, CHAT, &ask()), offered(gateway.address, CHAT, &ask()));
    let unpaid = http::post(gateway.address, CHAT, &[], &ask());
    let x402 = farthing_tests::payer::Wallet::new(1).pay(&unpaid, farthing_tests::payer::TEST).v2();
    let (one, other) = (one.paid(), other.paid());
    for fields in [
        [("authorization", one.as_str()), ("authorization", other.as_str())],
        [("authorization", one.as_str()), ("payment-signature", x402.as_str())],
    ] {
        let answer = http::post(gateway.address, CHAT, &fields, &ask());
        assert_refused(&answer, 400, "ambiguous_credentials", "nothing_taken");
    }
    // Each alone is as good as before.
    assert_eq!(call(gateway.address, CHAT, &one, &ask()).status, 200);
    assert_eq!(http::post(gateway.address, CHAT, &[("payment-signature", &x402)], &ask()).status, 200);
    assert_eq!(gateway.books_after(2).count("deposit"), 2);
}

/// L402-10 to L402-16: wherever a client can put it, however it spells it; foreign words beside it are passed over. Nothing of it
/// reaches the upstream.
#[test]
fn l402_10_15_16_a_credential_is_found_wherever_clients_put_it() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, TEST_NODE);
    let offer = offered(gateway.address, CHAT, &ask());
    let (paid, wrapped) = (offer.paid(), offer.credential().to_wrapped());
    let (lsat, lower) = (paid.replacen("L402", "LSAT", 1), paid.replacen("L402", "l402", 1));
    let upper = {
        let (token, preimage) = paid.rsplit_once(':').unwrap();
        format!("{token}:{}", preimage.to_uppercase())
    };
    let bearer = format!("Bearer {wrapped}");
    let hex = {
        let mut token = offer.decoded_token();
        let preimage = wire::hex::encode(offer.preimage().as_bytes());
        token.add_caveat(format!("preimage={preimage}").as_bytes()).unwrap();
        wire::hex::encode(&token.macaroon().encode())
    };
    let foreign = ("authorization", "Bearer sk-foreign");
    for fields in [
        vec![("authorization", paid.as_str())],
        vec![("authorization", lsat.as_str())],
        vec![("authorization", lower.as_str())],
        vec![("authorization", upper.as_str())],
        vec![("authorization", lsat.as_str()), ("authorization", paid.as_str())],
        vec![foreign, ("authorization", paid.as_str())],
        vec![("authorization", bearer.as_str())],
        vec![("x-api-key", wrapped.as_str())],
        vec![("api-key", wrapped.as_str())],
        vec![("x-goog-api-key", wrapped.as_str())],
        vec![("macaroon", hex.as_str())],
        vec![("grpc-metadata-macaroon", hex.as_str())],
        vec![("token", hex.as_str())],
    ] {
        let answer = http::post(gateway.address, CHAT, &fields, &ask());
        assert_eq!(answer.status, 200, "{fields:?}: {}", answer.text());
    }
    let secrets = [offer.token.clone(), wire::hex::encode(offer.preimage().as_bytes()), wrapped, hex];
    for seen in upstream.seen() {
        let text = format!("{seen:?}");
        assert!(secrets.iter().all(|secret| !text.contains(secret.as_str())), "{text}");
    }
    let log = gateway.log();
    assert!(secrets.iter().all(|secret| !log.contains(secret.as_str())));
    for fields in [vec![foreign], vec![("token", "of something else")]] {
        let answer = http::post(gateway.address, CHAT, &fields, &ask());
        assert_refused(&answer, 402, "payment_required", "nothing_taken");
    }
    assert_eq!(gateway.books_after(13).count("deposit"), 1);
}

/// Balance can be bought alone; a token opens what its payment has left.
#[test]
fn a_top_up_over_lightning() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, TEST_NODE);
    let answer = http::post(gateway.address, "/farthing/topup?amount=0.25", &[], &json!({}));
    assert_refused(&answer, 402, "payment_required", "nothing_taken");
    let offer = Offered::of(&answer);
    assert_eq!(offer.terms().credit.units(), 250_000_000);
    let balance =
        |credential: &str| http::get(gateway.address, "/farthing/balance", &[("authorization", credential)]);
    assert_eq!(balance(&offer.paid()).status, 401, "nothing has come in yet");
    let topped = call(gateway.address, "/farthing/topup?amount=0.25", &offer.paid(), &json!({}));
    assert_eq!(topped.status, 200, "{}", topped.text());
    assert_eq!(nano(&topped.json()["deposited"]["amount"]), 250_000_000);
    let key = topped.must("farthing-key").to_owned();
    assert_eq!(gateway.settled_balance(&key), 250_000_000);
    assert_eq!(nano(&balance(&offer.paid()).json()["balance"]["amount"]), 250_000_000);
    let served = call(gateway.address, CHAT, &offer.paid(), &ask());
    assert_eq!(served.status, 200, "{}", served.text());
    assert_eq!(gateway.settled_balance(&key), 250_000_000 - FRIENDLY_COST);
    // The same token again brings nothing in, and says so.
    let again = call(gateway.address, "/farthing/topup?amount=0.25", &offer.paid(), &json!({}));
    assert_eq!((again.status, again.header("farthing-key")), (200, None), "{}", again.text());
    assert_eq!(nano(&again.json()["deposited"]["amount"]), 0);
    assert_eq!(nano(&again.json()["balance"]["amount"]), 250_000_000 - FRIENDLY_COST);
    assert_eq!(gateway.books_after(1).count("deposit"), 1);
}

/// A token that is in costs its holder nothing: its account has so many looks a minute, at the top-up as elsewhere.
#[test]
fn sec_48_a_token_that_is_in_tops_up_no_end_of_times() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, TEST_NODE);
    let offer = Offered::of(&http::post(gateway.address, "/farthing/topup", &[], &json!({})));
    let request = format!(
        "POST /farthing/topup HTTP/1.1\r\nhost: {}\r\nauthorization: {}\r\ncontent-length: 0\r\n\r\n",
        gateway.address,
        offer.paid()
    );
    assert_eq!(call(gateway.address, "/farthing/topup", &offer.paid(), &json!({})).status, 200);
    // Six thousand a minute, and some more while they are asked for.
    let refused = at_once(4, |_| {
        let mut socket = Socket::connect(gateway.address);
        (0..4000).find_map(|_| {
            assert!(socket.send(&request));
            socket.answer().filter(|answer| answer.status != 200)
        })
    });
    let refused = refused.into_iter().flatten().next().unwrap();
    assert_refused(&refused, 429, "rate_limited", "nothing_taken");
    let stranger = Offered::of(&http::post(gateway.address, "/farthing/topup", &[], &json!({})));
    assert_eq!(call(gateway.address, "/farthing/topup", &stranger.paid(), &json!({})).status, 200);
}

/// A request that was answered before, or whose name is another's, brings nothing in; of two that are the same one does, and gets
/// the key.
#[test]
fn a_request_that_does_not_run_brings_nothing_in() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, TEST_NODE);
    let key = gateway.key("1 TEST");
    let named = |authorization: &str, body: &serde_json::Value| {
        let fields =
            [("authorization", authorization), ("x-api-key", key.as_str()), ("idempotency-key", "name")];
        http::post(gateway.address, CHAT, &fields, body)
    };
    let by_key = [("x-api-key", key.as_str()), ("idempotency-key", "name")];
    assert_eq!(http::post(gateway.address, CHAT, &by_key, &ask()).status, 200);
    let balance = gateway.settled_balance(&key);
    let offer = offered(gateway.address, CHAT, &ask());
    let told_again = named(&offer.paid(), &ask());
    assert_eq!(told_again.status, 200, "{}", told_again.text());
    let mut other = ask();
    other["max_tokens"] = json!(7);
    assert_refused(&named(&offer.paid(), &other), 422, "idempotency_mismatch", "nothing_taken");
    assert_eq!(gateway.settled_balance(&key), balance, "the payment is still its payer's");
    assert_eq!(call(gateway.address, CHAT, &offer.paid(), &ask()).status, 200);
    // At once, under one name: whoever is first is paid for, and has the key.
    let offer = offered(gateway.address, CHAT, &ask());
    let paid = offer.paid();
    let answers = at_once(8, |_| {
        let fields = [("authorization", paid.as_str()), ("idempotency-key", "both")];
        http::post(gateway.address, CHAT, &fields, &ask())
    });
    let keys = answers
        .iter()
        .filter_map(|answer| answer.header("farthing-key"))
        .collect::<std::collections::HashSet<_>>();
    assert_eq!(keys.len(), 1, "one key, handed out");
    for answer in &answers {
        assert!([200, 409].contains(&answer.status), "{}", answer.text());
    }
}

/// A payment does not go where it could not be spent: into an account that is frozen, or by a key that does not cover the call.
#[test]
fn a_payment_is_not_moved_to_where_it_cannot_be_spent() {
    let upstream = Upstream::friendly();
    let gateway = Gateway::start(upstream.address, TEST_NODE);
    let made = gateway.operator(&["key", "new", "--credit", "1 TEST"]);
    let (key, account) = (made["key"].as_str().unwrap(), made["account"].as_str().unwrap());
    let tight = proof::credit_key::attenuate(key, "per_call=TEST:10").unwrap();
    let offer = offered(gateway.address, CHAT, &ask());
    let both = |key: &str| {
        let paid = offer.paid();
        http::post(gateway.address, CHAT, &[("authorization", paid.as_str()), ("x-api-key", key)], &ask())
    };
    assert_refused(&both(&tight), 403, "key_forbidden", "nothing_taken");
    gateway.operator(&["account", "set", account, "--freeze"]);
    assert_refused(&both(key), 403, "account_frozen", "nothing_taken");
    assert_eq!(gateway.books().count("deposit"), 1, "the operator's alone");
    assert_eq!(call(gateway.address, CHAT, &offer.paid(), &ask()).status, 200);
}

/// Words of L402 where nothing is sold so: the request is unpaid like any, and counted like any.
#[test]
fn a_token_is_foreign_where_lightning_is_not_taken() {
    let upstream = Upstream::friendly();
    let limits = "limits: { unpaid: { per_ip: 3/min }, default: { rpm: 100000, concurrent: 1000 } }\n";
    let gateway = Gateway::start(upstream.address, limits);
    let answers: Vec<u16> =
        (0..6).map(|_| call(gateway.address, CHAT, "L402 nothing:", &ask()).status).collect();
    assert_eq!((answers[0], answers[5]), (402, 429), "{answers:?}");
}
