//! The bundled client pays the real gateway by every scheme, as a person runs it, and gets back what is his.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::io::Write as _;
use std::process::{Command, Output};

use farthing_tests::facilitator::{Conduct, Facilitator, PAY_TO, failure};
use farthing_tests::gateway::{Gateway, binary, wait_for};
use farthing_tests::http;
use farthing_tests::payer::decode;
use farthing_tests::upstream::{FRIENDLY_COST, Upstream, plain};
use serde_json::{Value, json};
use wire::x402::base58;

const STREAMED: &str =
    r#"{"model":"m","max_tokens":100,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const NETWORK: &str = "eip155:84532";
const DEVNET: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";

const AUTHORIZER_KEY: &str = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a";
const CHANNELS: &str = "schemes: [batch-settlement], \
                        batch: { authorizer_key: \"${env:AUTHORIZER_KEY}\", withdraw_delay: 15m, min_deposit: 0.01 USD }";

/// A gateway that is paid on a chain only, and somebody's machine.
struct Stand {
    upstream: Upstream,
    facilitator: Facilitator,
    gateway: Gateway,
    home: tempfile::TempDir,
}

/// What a command did.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    said: String,
}

impl Stand {
    fn new(keys: &str) -> Self {
        let facilitator = Facilitator::start([]);
        let rails = format!(
            "rails: {{ x402: {{ networks: {{ \"{NETWORK}\": {{ asset: USDC, pay_to: \"{PAY_TO}\" }} }}, \
             facilitators: [\"http://{}\"], settle_timeout: 5s, {keys} }} }}\n",
            facilitator.address
        );
        Self::before(facilitator, &rails)
    }

    fn before(facilitator: Facilitator, rails: &str) -> Self {
        let upstream = Upstream::friendly();
        // The secret of somebody who is nobody: known to these tests alone.
        let gateway = Gateway::start_in(upstream.address, rails, &[("AUTHORIZER_KEY", AUTHORIZER_KEY)]);
        let stand = Self { upstream, facilitator, gateway, home: tempfile::tempdir().unwrap() };
        assert_eq!(stand.run(&["wallet", "new"]).code, Some(0));
        stand
    }

    fn run(&self, words: &[&str]) -> Done {
        let mut command = Command::new(binary());
        command.args(words).env_clear().env("HOME", self.home.path());
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Done { code: status.code(), out: text(stdout), said: text(stderr) }
    }

    fn url(&self) -> String {
        format!("http://{}/v1/chat/completions", self.gateway.address)
    }

    fn curl(&self, words: &[&str]) -> Done {
        self.run(&[&["curl", "--json", STREAMED], words, &[&self.url()]].concat())
    }

    /// Paid and used of the day, in nano-dollars.
    fn spent(&self) -> (i64, i64) {
        let shown: Value = serde_json::from_str(&self.run(&["budget", "show"]).out).unwrap();
        let rows = shown["windows"].as_array().unwrap();
        let day = rows.iter().find(|row| row["host"] == "*" && row["window"] == "day").unwrap();
        let nano = |name: &str| {
            let (whole, part) =
                day[name].as_str().unwrap().split_once('.').unwrap_or((day[name].as_str().unwrap(), ""));
            format!("{whole}{part:0<9}").parse().unwrap()
        };
        (nano("paid"), nano("used"))
    }

    fn deposits(&self, count: usize) {
        wait_for("deposits", || (self.gateway.books().count("deposit") == count).then_some(()));
    }
}

#[test]
fn exact_by_permit2_waits_for_the_allowance_and_is_paid_once() {
    let stand = Stand::new("schemes: [permit2]");
    stand.facilitator.next(Conduct::Only(failure("permit2_allowance_required")));
    let done = stand.curl(&[]);
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(
        done.said.contains("does not let Permit2 move") && done.said.contains("nothing was paid"),
        "{done:?}"
    );
    assert_eq!((stand.upstream.hits(), stand.facilitator.transfers()), (0, 0));
    // Allowed by now: the same command sends the same permit.
    let done = stand.curl(&[]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.said.contains("an earlier run left") && done.said.contains("paid 0.00003 USDC"), "{done:?}");
    let asked = stand.facilitator.settles();
    let sent =
        |body: &Vec<u8>| serde_json::from_slice::<Value>(body).unwrap()["paymentPayload"]["payload"].clone();
    assert_eq!(sent(&asked[0]), sent(&asked[1]));
    assert_eq!((stand.upstream.hits(), stand.facilitator.transfers()), (1, 1));
}

#[test]
fn upto_leaves_the_wallet_what_the_call_cost_and_no_more() {
    let stand = Stand::new("schemes: [upto]");
    // What the facilitator calls itself is asked in the background.
    wait_for("the offer of a ceiling", || {
        let ask: Value = serde_json::from_str(STREAMED).unwrap();
        let answer = http::post(stand.gateway.address, "/v1/chat/completions", &[], &ask);
        let offers = decode(answer.header("payment-required")?)["accepts"].clone();
        offers.as_array()?.iter().any(|offer| offer["scheme"] == "upto").then_some(())
    });
    let done = stand.curl(&["--max", "0.05usd"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.out.contains("five words are said here"), "{done:?}");
    assert!(done.said.contains("paid 0.00003 USDC"), "{done:?}");
    stand.deposits(1);
    let moved = i64::try_from(stand.facilitator.moved()).unwrap() * 1_000;
    assert_eq!(moved, FRIENDLY_COST);
    let (paid, used) = stand.spent();
    assert_eq!((paid, used), (moved, FRIENDLY_COST), "the ceiling is given back to the budget");
}

#[test]
fn a_lost_key_is_got_back_with_the_wallet() {
    let stand = Stand::new("schemes: [exact]");
    let done = stand.curl(&["--max", "0.5usd"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let keys = stand.home.path().join(".config/farthing/keys.json");
    std::fs::remove_file(&keys).unwrap();
    let done = stand.run(&["wallet", "sign-in", &stand.url()]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let document: Value = serde_json::from_str(&done.out).unwrap();
    assert!(document["balance"].as_str().unwrap().ends_with("USDC"), "{document}");
    assert!(keys.exists());
    // And by itself, when a call finds that its key is gone.
    std::fs::remove_file(&keys).unwrap();
    let done = stand.curl(&["--max", "0.5usd"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(keys.exists());
    assert_eq!((stand.facilitator.transfers(), stand.upstream.hits()), (1, 2), "nothing was paid again");
}

/// One deposit, then vouchers that ask no facilitator; streamed calls charge the whole offer at the head, and what was
/// not used is carried over to the next one (X402-28).
#[test]
fn a_channel_pays_streamed_calls_and_gives_back_what_is_left() {
    let stand = Stand::new(CHANNELS);
    for number in 1..=4 {
        let done = stand.curl(&["--no-save-key", "-H", &format!("X-Call: {number}")]);
        assert_eq!(done.code, Some(0), "call {number}: {done:?}");
        assert!(done.out.contains("five words are said here"), "{done:?}");
        wait_for("captures", || (stand.gateway.books().count("capture") == number).then_some(()));
    }
    assert_eq!((stand.facilitator.transfers(), stand.facilitator.moved()), (1, 10_000));
    assert_eq!(stand.facilitator.settles().len(), 1, "three vouchers, no call to anybody");
    let shown: Value = serde_json::from_str(&stand.run(&["wallet", "channels"]).out).unwrap();
    let [channel] = &shown["channels"].as_array().unwrap()[..] else { panic!("{shown}") };
    assert_eq!((&channel["state"], &channel["balance"]), (&Value::from("open"), &Value::from("10000")));
    let charged: u128 = channel["charged"].as_str().unwrap().parse().unwrap();
    // Four calls of 30, and what the last one leaves for the next.
    assert!((4 * 30..1_000).contains(&charged), "{channel}");
    assert_eq!(stand.spent(), (10_000_000, i64::try_from(charged).unwrap() * 1_000));

    let name = channel["channel"].as_str().unwrap();
    let done = stand.run(&["wallet", "refund", name]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let refunded: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(refunded["refunded"], (10_000 - 4 * 30).to_string(), "{refunded}");
    // And the next call puts in anew what it needs.
    let done = stand.curl(&["--no-save-key"]);
    assert_eq!(done.code, Some(0), "{done:?}");
}

/// A call that the carry pays leaves the sum where it is, so the next promise is the same: it is another call all the
/// same, also with the same bytes.
#[test]
fn calls_that_the_carry_pays_are_calls_of_their_own() {
    let stand = Stand::new(CHANNELS);
    assert_eq!(stand.curl(&["--no-save-key"]).code, Some(0));
    let small = r#"{"model":"m","max_tokens":20,"messages":[{"role":"user","content":"hi"}]}"#;
    for number in 2..=4 {
        wait_for("captures", || (stand.gateway.books().count("capture") == number - 1).then_some(()));
        let done = stand.run(&["curl", "--json", small, &stand.url()]);
        assert_eq!((done.code, stand.upstream.hits()), (Some(0), number), "{done:?}");
    }
}

/// X402-36: what the gateway signs is checked by the keys that it publishes, and kept.
#[test]
fn signed_offers_and_receipts_are_checked_and_kept() {
    for signer in ["", ", offer_receipt: { key: \"${env:AUTHORIZER_KEY}\" }"] {
        let stand = Stand::new(&format!("schemes: [exact], extensions: [offer-receipt]{signer}"));
        let done = stand.curl(&["--max", "0.5usd"]);
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.said.contains("signed offer or receipt stands"), "{done:?}");
        let kept = stand.home.path().join(".local/state/farthing/attested");
        let files: Vec<_> = std::fs::read_dir(kept).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [file] = &files[..] else { panic!("{files:?}") };
        let attested: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let format = if signer.is_empty() { "jws" } else { "eip712" };
        assert_eq!(
            (&attested["offer"]["format"], &attested["receipt"]["format"]),
            (&format.into(), &format.into())
        );
    }
}

/// The node is asked for a blockhash and for nothing else; the facilitator sees each transaction once.
#[test]
fn exact_on_solana_is_paid_with_a_nodes_blockhash() {
    let chain = Upstream::start(|request, stream| {
        let said = match request.target.as_str() {
            "/settle" => json!({"success": true, "transaction": base58::encode(&[7; 64]), "network": DEVNET}),
            "/node" => json!({"result": {"value": {"blockhash": base58::encode(&[0xbb; 32])}}}),
            _ => json!({"kinds": [{"x402Version": 2, "scheme": "exact", "network": DEVNET,
                                   "extra": {"feePayer": base58::encode(&[9; 32])}}],
                        "extensions": [], "signers": {}}),
        };
        let _ = stream.write_all(&plain(200, "application/json", &said.to_string()));
    });
    let rails = format!(
        "rails: {{ x402: {{ networks: {{ \"{DEVNET}\": {{ pay_to: \"2KW2XRd9kwqet15Aha2oK3tYvd3nWbTFH1MBiRAv1BE1\" }} }}, \
         facilitators: [\"http://{}\"] }} }}\n",
        chain.address
    );
    let stand = Stand::before(Facilitator::start([]), &rails);
    let node = format!("http://{}/node", chain.address);
    // The offer is there once the facilitator has told who pays the fees.
    wait_for("an offer on Solana", || stand.curl(&["--dry-run"]).out.contains(DEVNET).then_some(()));
    let done = stand.curl(&[]);
    assert!(done.code == Some(5) && done.said.contains("--solana-node"), "{done:?}");
    let done = stand.curl(&["--solana-node", &node]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.said.contains("paid 0.00003 USDC"), "{done:?}");
    let settled = chain.seen().iter().filter(|seen| seen.target == "/settle").count();
    assert_eq!((settled, stand.upstream.hits(), stand.gateway.books().count("deposit")), (1, 1, 1));
}
