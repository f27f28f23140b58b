//! Payments by the node: paid with proof, failed for certain, or unknown.

use std::sync::{Arc, Mutex};

use super::fake::{Asked, Does, Fake, Kind, Made, NOW_S, made, wanted};
use crate::lightning::{NodeError, Outgoing, Sent};

/// Answers each path of a node with what stands here for it.
type Answers = fn(&Asked, &Made) -> Option<Does>;

fn says(status: u16, body: impl Into<String>) -> Option<Does> {
    Some(Does::Says(status, body.into()))
}

fn lnd_payment(made: &Made, status: &str, preimage: &str) -> String {
    format!(
        r#"{{"result":{{"payment_hash":"{}","value":"21","payment_preimage":"{preimage}","value_msat":"21001","payment_request":"{}",
        "status":"{status}","fee":"1","fee_sat":"1","fee_msat":"1234","creation_time_ns":"1","htlcs":[],"payment_index":"3",
        "failure_reason":"FAILURE_REASON_NO_ROUTE"}}}}"#,
        wire::hex::encode(&made.hash),
        made.bolt11
    )
    .replace('\n', "")
        + "\n"
}

fn cln_paid(made: &Made) -> String {
    format!(
        r#"{{"payment_preimage":"{}","amount_msat":21001,"amount_sent_msat":22235,"failed_parts":0,"successful_parts":1}}"#,
        made.preimage
    )
}

fn cln_list(made: &Made, entries: &[&str]) -> String {
    let pays: Vec<String> = entries
        .iter()
        .map(|status| {
            let proof = if *status == "complete" {
                format!(
                    r#","preimage":"{}","amount_msat":21001,"amount_sent_msat":"22235msat""#,
                    made.preimage
                )
            } else {
                String::new()
            };
            format!(
                r#"{{"payment_hash":"{}","status":"{status}","created_at":1{proof}}}"#,
                wire::hex::encode(&made.hash)
            )
        })
        .collect();
    format!(r#"{{"pays":[{}]}}"#, pays.join(","))
}

fn phoenixd_sent(made: &Made, is_paid: bool, completed_at: &str) -> String {
    let preimage = if is_paid { format!("\"{}\"", made.preimage) } else { "null".to_owned() };
    format!(
        r#"{{"type":"outgoing_payment","subType":"lightning","paymentId":"p","paymentHash":"{}","preimage":{preimage},
        "isPaid":{is_paid},"sent":22,"fees":1234,"invoice":"{}","completedAt":{completed_at},"createdAt":1}}"#,
        wire::hex::encode(&made.hash),
        made.bolt11
    )
}

fn lnbits_sent(made: &Made, paid: bool, status: &str, amount: i64) -> String {
    let preimage = if paid { format!("\"{}\"", made.preimage) } else { "null".to_owned() };
    format!(
        r#"{{"paid":{paid},"status":"{status}","preimage":{preimage},"details":{{"payment_hash":"{}","amount":{amount},"fee":-1234,
        "status":"{status}"}}}}"#,
        wire::hex::encode(&made.hash)
    )
}

const PAID: &str = "paid 1234";
const UNKNOWN: &str = "unknown";

fn told(sent: &Sent) -> String {
    match sent {
        Sent::Paid { fee_msat, .. } => format!("paid {fee_msat}"),
        Sent::Failed(reason) => format!("failed: {reason}"),
        Sent::Unknown => UNKNOWN.to_owned(),
    }
}

async fn check(kind: Kind, case: &str, answers: Answers, expected: &str) -> Vec<String> {
    let one = made(&wanted(), NOW_S);
    let ours = one.clone();
    let fake = Fake::start(move |asked| answers(asked, &ours).unwrap_or(Does::Hangup));
    let sent = fake.node(kind).pay(&one.bolt11, 5_000).await;
    if let Sent::Paid { preimage, .. } = &sent {
        assert_eq!(preimage.payment_hash().0, one.hash, "{kind:?}: {case}");
    }
    assert_eq!(told(&sent), expected, "{kind:?}: {case}");
    fake.lines()
}

fn asks(asked: &Asked, path: &str) -> bool {
    asked.target.starts_with(&format!("/below{path}"))
}

#[tokio::test]
async fn lnd_pays() {
    const SEND: &str = "/v2/router/send";
    const TRACK: &str = "/v2/router/track/";
    const EXISTS: &str = r#"{"error":{"code":6,"message":"invoice is already paid","details":[]}}"#;
    const ABSENT: &str = r#"{"error":{"code":5,"message":"payment isn't initiated","details":[]}}"#;
    let cases: [(&str, Answers, &str); 11] = [
        ("at once", |_, made| says(200, lnd_payment(made, "SUCCEEDED", &made.preimage)), PAID),
        (
            "after a while",
            |_, made| {
                let lines = [lnd_payment(made, "INITIATED", ""), lnd_payment(made, "IN_FLIGHT", "")];
                Some(Does::Streams([lines.concat(), lnd_payment(made, "SUCCEEDED", &made.preimage)].to_vec()))
            },
            PAID,
        ),
        (
            "no way",
            |_, made| says(200, lnd_payment(made, "FAILED", &"00".repeat(32))),
            "failed: FAILURE_REASON_NO_ROUTE",
        ),
        ("without proof", |_, made| says(200, lnd_payment(made, "SUCCEEDED", &"00".repeat(32))), UNKNOWN),
        (
            "paid before",
            |asked, made| {
                if asks(asked, TRACK) {
                    return Some(Does::Streams(vec![lnd_payment(made, "SUCCEEDED", &made.preimage)]));
                }
                says(409, EXISTS)
            },
            PAID,
        ),
        (
            "under way since before",
            |asked, made| {
                if asks(asked, TRACK) {
                    return Some(Does::Streams(vec![lnd_payment(made, "IN_FLIGHT", "")]));
                }
                says(409, EXISTS)
            },
            UNKNOWN,
        ),
        (
            "refused, never begun",
            |asked, _| {
                if asks(asked, TRACK) {
                    return says(404, ABSENT);
                }
                says(500, r#"{"error":{"code":2,"message":"permission denied"}}"#)
            },
            "failed: permission denied",
        ),
        (
            "refused, and silent afterwards",
            |asked, _| asks(asked, SEND).then(|| Does::Says(500, "{}".to_owned())),
            UNKNOWN,
        ),
        (
            "hangs up, and has not heard of it",
            |asked, _| {
                if asks(asked, TRACK) { says(404, ABSENT) } else { Some(Does::Hangup) }
            },
            UNKNOWN,
        ),
        (
            "hangs up, and has paid",
            |asked, made| {
                if asks(asked, TRACK) {
                    says(200, lnd_payment(made, "SUCCEEDED", &made.preimage))
                } else {
                    Some(Does::Hangup)
                }
            },
            PAID,
        ),
        ("ends without an end", |_, made| says(200, lnd_payment(made, "IN_FLIGHT", "")), UNKNOWN),
    ];
    for (case, answers, expected) in cases {
        let lines = check(Kind::Lnd, case, answers, expected).await;
        assert_eq!(lines.iter().filter(|line| line.contains(SEND)).count(), 1, "{case}: ordered once");
    }
}

#[tokio::test]
async fn cln_pays() {
    let cases: [(&str, Answers, &str); 9] = [
        ("xpay", |_, made| says(201, cln_paid(made)), PAID),
        (
            "pay, at an old node",
            |asked, made| {
                if asks(asked, "/v1/xpay") {
                    says(404, r#"{"code":-32601,"message":"Unknown command 'xpay'"}"#)
                } else {
                    says(201, cln_paid(made).replace("failed_parts", r#"status":"complete","parts"#))
                }
            },
            PAID,
        ),
        (
            "pay that is pending",
            |asked, made| {
                if asks(asked, "/v1/xpay") {
                    says(404, "{}")
                } else {
                    says(201, cln_paid(made).replace("failed_parts", r#"status":"pending","parts"#))
                }
            },
            UNKNOWN,
        ),
        (
            "no way",
            |asked, made| {
                if asks(asked, "/v1/listpays") {
                    says(201, cln_list(made, &["failed", "failed"]))
                } else {
                    says(500, r#"{"code":205,"message":"No path found"}"#)
                }
            },
            "failed: No path found",
        ),
        (
            "never begun",
            |asked, made| {
                if asks(asked, "/v1/listpays") {
                    says(201, cln_list(made, &[]))
                } else {
                    says(500, r#"{"code":207,"message":"Invoice has expired"}"#)
                }
            },
            "failed: Invoice has expired",
        ),
        (
            "a part may still arrive",
            |asked, made| {
                if asks(asked, "/v1/listpays") {
                    says(201, cln_list(made, &["failed", "pending"]))
                } else {
                    says(500, r#"{"code":209,"message":"Timed out"}"#)
                }
            },
            UNKNOWN,
        ),
        (
            "an attempt failed, another did not",
            |asked, made| {
                if asks(asked, "/v1/listpays") {
                    says(201, cln_list(made, &["failed", "complete", "pending"]))
                } else {
                    says(500, r#"{"code":219,"message":"Already paid"}"#)
                }
            },
            PAID,
        ),
        ("a rune that may not list", |_, _| says(403, r#"{"code":1502,"message":"Not permitted"}"#), UNKNOWN),
        (
            "without proof",
            |_, made| says(201, cln_paid(made).replace(&made.preimage, &"00".repeat(32))),
            UNKNOWN,
        ),
    ];
    for (case, answers, expected) in cases {
        let lines = check(Kind::Cln, case, answers, expected).await;
        assert!(lines[0].ends_with("/v1/xpay"), "{case}: {lines:?}");
    }
}

#[tokio::test]
async fn phoenixd_pays() {
    const SENT: &str = "/payments/outgoingbyhash/";
    fn paid(made: &Made) -> Option<Does> {
        says(
            200,
            format!(
                r#"{{"recipientAmountSat":22,"routingFeeSat":1,"paymentId":"p","paymentHash":"{}","paymentPreimage":"{}"}}"#,
                wire::hex::encode(&made.hash),
                made.preimage
            ),
        )
    }
    fn failed() -> Option<Does> {
        says(200, r#"{"paymentHash":null,"offerId":null,"reason":"this invoice has already been paid"}"#)
    }
    let cases: [(&str, Answers, &str); 7] = [
        (
            "with its fee to the millisatoshi",
            |asked, made| {
                if asks(asked, SENT) { says(200, phoenixd_sent(made, true, "2")) } else { paid(made) }
            },
            PAID,
        ),
        (
            "with its fee in satoshi",
            |asked, made| if asks(asked, SENT) { None } else { paid(made) },
            "paid 1000",
        ),
        (
            "paid before",
            |asked, made| {
                if asks(asked, SENT) { says(200, phoenixd_sent(made, true, "2")) } else { failed() }
            },
            PAID,
        ),
        (
            "failed",
            |asked, made| {
                if asks(asked, SENT) { says(200, phoenixd_sent(made, false, "2")) } else { failed() }
            },
            "failed: this invoice has already been paid",
        ),
        (
            "never begun",
            |asked, _| if asks(asked, SENT) { says(404, "Not found") } else { failed() },
            "failed: this invoice has already been paid",
        ),
        (
            "under way",
            |asked, made| {
                if asks(asked, SENT) { says(200, phoenixd_sent(made, false, "null")) } else { failed() }
            },
            UNKNOWN,
        ),
        (
            "another 404 tells nothing",
            |asked, _| {
                if asks(asked, SENT) { says(404, "Unknown endpoint (check api doc)") } else { failed() }
            },
            UNKNOWN,
        ),
    ];
    for (case, answers, expected) in cases {
        let lines = check(Kind::Phoenixd, case, answers, expected).await;
        assert_eq!(lines[0], "POST /below/payinvoice", "{case}");
    }
}

/// phoenixd takes no limit, and LNbits has its own: an order that could cost too much is never given.
#[tokio::test]
async fn limits_that_cannot_be_told_are_kept_before() {
    let one = made(&wanted(), NOW_S);
    let fake = Fake::start(|_| Does::Hangup);
    let sent = fake.node(Kind::Phoenixd).pay(&one.bolt11, 4_084).await;
    assert_eq!(told(&sent), "failed: phoenixd takes no limit for fees, and its own is higher");
    assert!(fake.lines().is_empty(), "nothing was sent");
    assert_eq!(told(&fake.node(Kind::Phoenixd).pay(&one.bolt11, 4_085).await), UNKNOWN);

    let fake = Fake::start(|_| Does::Says(200, r#"{"fee_reserve":5001}"#.to_owned()));
    let sent = fake.node(Kind::LnBits).pay(&one.bolt11, 5_000).await;
    assert_eq!(told(&sent), "failed: LNbits may pay more for the way than is allowed");
    let fake = Fake::start(|_| Does::Silence);
    let sent = fake.node(Kind::LnBits).pay(&one.bolt11, 5_000).await;
    assert_eq!(told(&sent), "failed: LNbits does not say what the way may cost");
    assert_eq!(fake.lines().len(), 1);
}

#[tokio::test]
async fn lnbits_pays() {
    /// What comes before each order.
    fn reserve(asked: &Asked) -> Option<Does> {
        let asks_first = asks(asked, "/api/v1/payments/fee-reserve?invoice=lnbcrt");
        asks_first.then(|| Does::Says(200, r#"{"fee_reserve":2000}"#.to_owned()))
    }
    fn refused() -> Option<Does> {
        says(520, r#"{"detail":"Insufficient balance.","status":"failed"}"#)
    }
    let cases: [(&str, Answers, &str); 7] = [
        (
            "at once",
            |asked, made| {
                reserve(asked).or_else(|| match asked.method.as_str() {
                    "POST" => says(201, r#"{"payment_hash":"h","checking_id":"c","status":"success"}"#),
                    _ => says(200, lnbits_sent(made, true, "success", -21_001)),
                })
            },
            PAID,
        ),
        (
            "still pending",
            |asked, made| {
                reserve(asked).or_else(|| match asked.method.as_str() {
                    "POST" => says(201, r#"{"payment_hash":"h","checking_id":"c","status":"pending"}"#),
                    _ => says(200, lnbits_sent(made, false, "pending", -21_001)),
                })
            },
            UNKNOWN,
        ),
        (
            "too poor",
            |asked, _| {
                reserve(asked).or_else(|| match asked.method.as_str() {
                    "POST" => refused(),
                    _ => says(404, r#"{"detail":"Payment does not exist."}"#),
                })
            },
            "failed: Insufficient balance.",
        ),
        (
            "tried and failed",
            |asked, made| {
                reserve(asked).or_else(|| match asked.method.as_str() {
                    "POST" => says(520, r#"{"detail":"Payment failed: no route","status":"failed"}"#),
                    _ => says(200, lnbits_sent(made, false, "failed", -21_001)),
                })
            },
            "failed: Payment failed: no route",
        ),
        (
            "paid before",
            |asked, made| {
                reserve(asked).or_else(|| match asked.method.as_str() {
                    "POST" => says(520, r#"{"detail":"Payment already paid.","status":"success"}"#),
                    _ => says(200, lnbits_sent(made, true, "success", -21_001)),
                })
            },
            PAID,
        ),
        (
            "an invoice of its own, not paid by it",
            |asked, made| {
                reserve(asked).or_else(|| match asked.method.as_str() {
                    "POST" => refused(),
                    _ => says(200, lnbits_sent(made, false, "pending", 21_001)),
                })
            },
            "failed: Insufficient balance.",
        ),
        ("hangs up", |asked, _| reserve(asked), UNKNOWN),
    ];
    for (case, answers, expected) in cases {
        let lines = check(Kind::LnBits, case, answers, expected).await;
        assert_eq!(lines.iter().filter(|line| line.starts_with("POST")).count(), 1, "{case}: ordered once");
    }
}

/// What is ordered, in each node's words: with a limit for the fee where the node takes one.
#[tokio::test]
async fn each_kind_is_ordered_in_its_own_words() {
    let bodies: Arc<Mutex<Vec<String>>> = Arc::default();
    for kind in Kind::ALL {
        let ours = Arc::clone(&bodies);
        let fake = Fake::start(move |asked| {
            if asked.method == "POST" {
                ours.lock().unwrap().push(asked.body.clone());
            }
            Does::Says(200, r#"{"fee_reserve":0}"#.to_owned())
        });
        let one = made(&wanted(), NOW_S);
        assert_eq!(told(&fake.node(kind).pay(&one.bolt11, 5_000).await), UNKNOWN);
        let body = bodies.lock().unwrap().drain(..).next().unwrap().replace(&one.bolt11, "I");
        assert_eq!(
            body,
            match kind {
                Kind::Lnd => {
                    r#"{"fee_limit_msat":"5000","no_inflight_updates":true,"payment_request":"I","timeout_seconds":60}"#
                }
                Kind::Cln => r#"{"invstring":"I","maxfee":5000,"retry_for":60}"#,
                Kind::Phoenixd => "invoice=I",
                Kind::LnBits => r#"{"bolt11":"I","out":true}"#,
            }
        );
    }
}

#[tokio::test]
async fn nothing_is_sent_for_what_is_no_order() {
    let mainnet = include_str!("../../../../../specs/vectors/l402/invoices.json");
    let mainnet: serde_json::Value = serde_json::from_str(mainnet).unwrap();
    let text = |index: usize| mainnet["invoices"][index]["bolt11"].as_str().unwrap().to_owned();
    for kind in Kind::ALL {
        let fake = Fake::start(|_| Does::Hangup);
        for bolt11 in [String::new(), "lnbcrt1".to_owned(), text(0), text(3)] {
            assert!(
                matches!(fake.node(kind).pay(&bolt11, 5_000).await, Sent::Failed(_)),
                "{kind:?}: {bolt11}"
            );
        }
        assert!(fake.lines().is_empty(), "{kind:?}");
    }
}

/// An unreachable node was ordered nothing.
#[tokio::test]
async fn a_node_that_is_not_there() {
    let one = made(&wanted(), NOW_S);
    for kind in [Kind::Lnd, Kind::Cln, Kind::Phoenixd] {
        let mut fake = Fake::start(|_| Does::Hangup);
        fake.origin.port = 1;
        let node = fake.node(kind);
        assert_eq!(
            told(&node.pay(&one.bolt11, 5_000).await),
            "failed: the node cannot be reached",
            "{kind:?}"
        );
        assert!(matches!(node.outgoing(&one.bolt11).await, Err(NodeError::NotAsked)), "{kind:?}");
        assert_eq!(node.create_invoice(&wanted(), NOW_S).await, Err(NodeError::NotAsked), "{kind:?}");
    }
}

/// Later, what became of an order: a claim without proof is not an end.
#[tokio::test]
async fn what_became_of_an_order() {
    let one = made(&wanted(), NOW_S);
    let proofless = |made: &Made, body: String| body.replace(&made.preimage, &"00".repeat(32));
    for (kind, body) in [
        (Kind::Lnd, lnd_payment(&one, "SUCCEEDED", &one.preimage)),
        (Kind::Cln, cln_list(&one, &["complete"])),
        (Kind::Phoenixd, phoenixd_sent(&one, true, "2")),
        (Kind::LnBits, lnbits_sent(&one, true, "success", -21_001)),
    ] {
        let (said, unproved) = (body.clone(), proofless(&one, body));
        let fake = Fake::start(move |_| Does::Says(200, said.clone()));
        let known = fake.node(kind).outgoing(&one.bolt11).await.unwrap();
        assert!(matches!(known, Outgoing::Paid { fee_msat: 1234, .. }), "{kind:?}: {known:?}");
        let fake = Fake::start(move |_| Does::Says(200, unproved.clone()));
        let known = fake.node(kind).outgoing(&one.bolt11).await.unwrap();
        assert!(matches!(known, Outgoing::UnderWay), "{kind:?}: {known:?}");
    }
}
