//! `exact` on Solana through a facilitator: checked here as far as a seller can, settled there, credited once (X402-33).

#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Mutex;

use farthing_tests::gateway::Gateway;
use farthing_tests::http;
use farthing_tests::payer::{Payment, challenge, decode, encode, offer};
use farthing_tests::refused::assert_refused;
use farthing_tests::solana::SolanaWallet;
use farthing_tests::upstream::{Seen, Upstream, plain};
use serde_json::{Value, json};
use wire::x402::base58;

const CHAT: &str = "/v1/chat/completions";
const DEVNET: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";
const PAY_TO: &str = "2KW2XRd9kwqet15Aha2oK3tYvd3nWbTFH1MBiRAv1BE1";

/// A facilitator that pays fees from one key, and sees each message of a transaction once.
struct FeePayer {
    server: Upstream,
}

impl FeePayer {
    fn start(number: u8) -> Self {
        let key = base58::encode(&[number; 32]);
        let sent: Mutex<Vec<Value>> = Mutex::default();
        let server = Upstream::start(move |request: &Seen, stream: &mut TcpStream| {
            let answer = match request.target.as_str() {
                "/settle" => settle(&sent, &request.body),
                _ => {
                    json!({"kinds": [{"x402Version": 2, "scheme": "exact", "network": DEVNET, "extra": {"feePayer": key}}],
                            "extensions": [], "signers": {}})
                }
            };
            let _ = stream.write_all(&plain(200, "application/json", &answer.to_string()));
        });
        Self { server }
    }

    fn settles(&self) -> usize {
        self.server.seen().iter().filter(|seen| seen.target == "/settle").count()
    }
}

fn settle(sent: &Mutex<Vec<Value>>, body: &[u8]) -> Value {
    let body: Value = serde_json::from_slice(body).unwrap();
    let transaction = &body["paymentPayload"]["payload"]["transaction"];
    let mut sent = sent.lock().unwrap();
    assert!(!sent.contains(transaction), "sent twice");
    sent.push(transaction.clone());
    let signature = base58::encode(&[u8::try_from(sent.len()).unwrap(); 64]);
    json!({"success": true, "transaction": signature, "network": DEVNET})
}

fn gateway(upstream: &Upstream, facilitators: &[&FeePayer]) -> Gateway {
    let urls: Vec<String> =
        facilitators.iter().map(|one| format!("\"http://{}\"", one.server.address)).collect();
    let rails = format!(
        "rails: {{ test: {{}}, x402: {{ networks: {{ \"{DEVNET}\": {{ pay_to: \"{PAY_TO}\" }} }}, facilitators: [{}] }} }}\n",
        urls.join(", ")
    );
    Gateway::start(upstream.address, &rails)
}

fn ask() -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100})
}

/// The challenge, once the facilitator has told who pays the fees.
fn unpaid(gateway: &Gateway) -> Value {
    farthing_tests::gateway::wait_for("an offer on Solana", || {
        let challenge = challenge(&http::post(gateway.address, CHAT, &[], &ask()));
        let offers = challenge["accepts"].as_array().unwrap().clone();
        offers.iter().any(|offer| offer["network"] == DEVNET).then_some(challenge)
    })
}

fn paid(challenge: &Value, wallet: &SolanaWallet, less: u64) -> Payment {
    let accepted = offer(challenge, DEVNET);
    let amount: u64 = accepted["amount"].as_str().unwrap().parse().unwrap();
    let payload = wallet.payload(&accepted, amount - less);
    Payment { payload, accepted, resource: challenge["resource"].clone() }
}

#[test]
fn x402_svm_exact_is_settled_once_and_its_change_stays() {
    let upstream = Upstream::friendly();
    let facilitator = FeePayer::start(9);
    let gateway = gateway(&upstream, &[&facilitator]);
    let payment = paid(&unpaid(&gateway), &SolanaWallet::new(7), 0);
    let answer = http::post(gateway.address, CHAT, &[("payment-signature", &payment.v2())], &ask());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let result = decode(answer.must("payment-response"));
    assert_eq!((&result["success"], &result["network"]), (&json!(true), &json!(DEVNET)));
    assert_eq!(result["transaction"], base58::encode(&[1; 64]));
    assert_eq!(result["payer"], base58::encode(&SolanaWallet::new(7).address()));
    let balance = gateway.settled_balance(answer.must("farthing-key"));
    assert_eq!(balance, payment.nano() - 30_000);
    // The same transaction again, also as version 1, is the same payment.
    for (name, value) in [("payment-signature", payment.v2()), ("x-payment", payment.v1())] {
        let again = http::post(gateway.address, CHAT, &[(name, &value)], &ask());
        assert_eq!((again.status, again.header("farthing-replayed")), (200, Some("true")), "{name}");
    }
    let other = json!({"model": "m", "messages": [{"role": "user", "content": "ho"}], "max_tokens": 100});
    let elsewhere = http::post(gateway.address, CHAT, &[("payment-signature", &payment.v2())], &other);
    assert_refused(&elsewhere, 403, "verification_failed", "nothing_taken");
    assert_eq!((facilitator.settles(), upstream.hits()), (1, 1));
}

#[test]
fn x402_svm_what_is_not_our_offer_asks_nobody() {
    let upstream = Upstream::friendly();
    let facilitator = FeePayer::start(9);
    let gateway = gateway(&upstream, &[&facilitator]);
    let challenge = unpaid(&gateway);
    let wallet = SolanaWallet::new(7);
    let mut elsewhere = paid(&challenge, &wallet, 0);
    elsewhere.accepted["payTo"] = json!(base58::encode(&[5; 32]));
    elsewhere.payload = {
        let amount = elsewhere.accepted["amount"].as_str().unwrap().parse().unwrap();
        wallet.payload(&elsewhere.accepted, amount)
    };
    elsewhere.accepted["payTo"] = json!(PAY_TO);
    let mut fees = paid(&challenge, &wallet, 0);
    let mut accepted = fees.accepted.clone();
    accepted["extra"]["feePayer"] = json!(base58::encode(&[8; 32]));
    fees.payload = wallet.payload(&accepted, accepted["amount"].as_str().unwrap().parse().unwrap());
    for (what, payment, code) in [
        ("less", paid(&challenge, &wallet, 1), "proof_underpaid"),
        ("to somebody else", elsewhere, "wrong_payee"),
        ("another fee payer", fees, "proof_invalid"),
    ] {
        let answer = http::post(gateway.address, CHAT, &[("payment-signature", &payment.v2())], &ask());
        assert_eq!(answer.status, 402, "{what}: {}", answer.text());
        assert_refused(&answer, 402, code, "nothing_taken");
    }
    assert_eq!((facilitator.settles(), upstream.hits()), (0, 0));
}

/// X402-41, X402-44: only who pays the fees of an offer can settle it.
#[test]
fn x402_svm_goes_to_the_facilitator_that_the_offer_names() {
    let upstream = Upstream::friendly();
    let (first, second) = (FeePayer::start(9), FeePayer::start(10));
    let gateway = gateway(&upstream, &[&first, &second]);
    let challenge = unpaid(&gateway);
    let named = offer(&challenge, DEVNET)["extra"]["feePayer"].clone();
    let payment = paid(&challenge, &SolanaWallet::new(7), 0);
    let answer = http::post(gateway.address, CHAT, &[("payment-signature", &payment.v2())], &ask());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let by_first = named == base58::encode(&[9; 32]);
    assert_eq!((first.settles(), second.settles()), if by_first { (1, 0) } else { (0, 1) });
}

/// A wallet there opens its balance as one on an EVM chain does; a stranger's opens nothing.
#[test]
fn x402_35_a_solana_wallet_signs_in() {
    let upstream = Upstream::friendly();
    let facilitator = FeePayer::start(9);
    let gateway = gateway(&upstream, &[&facilitator]);
    let wallet = SolanaWallet::new(7);
    let payment = paid(&unpaid(&gateway), &wallet, 0);
    assert_eq!(
        http::post(gateway.address, CHAT, &[("payment-signature", &payment.v2())], &ask()).status,
        200
    );
    let send = |wallet: &SolanaWallet| {
        let terms = http::get(gateway.address, "/farthing/sign-in", &[]).json();
        assert_eq!(terms["supportedChains"], json!([{"chainId": DEVNET, "type": "ed25519"}]));
        let header = encode(&wallet.sign_in(&terms, DEVNET));
        http::post(gateway.address, CHAT, &[("sign-in-with-x", &header)], &ask())
    };
    let answer = send(&wallet);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(gateway.settled_balance(answer.must("farthing-key")), payment.nano() - 60_000);
    let refused = send(&SolanaWallet::new(8));
    assert_refused(&refused, 402, "payment_required", "nothing_taken");
    assert_eq!(refused.header("farthing-key"), None);
    assert_eq!((facilitator.settles(), upstream.hits()), (1, 2));
}
