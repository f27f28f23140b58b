//! Payments by the node: paid with proof, failed for certain, or unknown.

use std::sync::atomic::{AtomicBool, Ordering};

use super::bolt11::without_amount;
use super::fake::{Asked, Does, Fake, Kind, Made, NOW_S, made, wanted};
use super::shapes::{cln_list, cln_paid, lnbits_sent, lnd_payment, phoenixd_sent};
use crate::lightning::Sent;

/// Answers each path of a node with what stands here for it.
type Answers = fn(&Asked, &Made) -> Option<Does>;

fn says(status: u16, body: impl Into<String>) -> Option<Does> {
    Some(Does::Says(status, body.into()))
}

pub(super) const PAID: &str = "paid 1234";
pub(super) const UNKNOWN: &str = "unknown";

pub(super) fn told(sent: &Sent) -> String {
    match sent {
        Sent::Paid { fee_msat, .. } => format!("paid {fee_msat}"),
        Sent::Failed(reason) => format!("failed: {reason}"),
        Sent::Unknown => UNKNOWN.to_owned(),
    }
}

/// Whether this asks what the node knows of a payment.
pub(super) fn looks(kind: Kind, asked: &Asked) -> bool {
    match kind {
        Kind::Lnd => asks(asked, "/v2/router/track/"),
        Kind::Cln => asks(asked, "/v1/listpays"),
        Kind::Phoenixd => asks(asked, "/payments/outgoingbyhash/"),
        Kind::LnBits => asked.method == "GET" && !asks(asked, "/api/v1/payments/fee-reserve"),
    }
}

/// That it knows nothing.
pub(super) fn absent(kind: Kind) -> Does {
    match kind {
        Kind::Lnd => {
            Does::Says(404, r#"{"error":{"code":5,"message":"payment isn't initiated"}}"#.to_owned())
        }
        Kind::Cln => Does::Says(201, r#"{"pays":[]}"#.to_owned()),
        Kind::Phoenixd => Does::Says(404, "Not found".to_owned()),
        Kind::LnBits => Does::Says(404, r#"{"detail":"Payment does not exist."}"#.to_owned()),
    }
}

/// A node that answers so, once it has said that it knows nothing of the payment.
fn answering(kind: Kind, one: &Made, answers: Answers) -> Fake {
    let (ours, asked_before) = (one.clone(), AtomicBool::new(false));
    Fake::start(move |asked| {
        if looks(kind, asked) && !asked_before.swap(true, Ordering::SeqCst) {
            return absent(kind);
        }
        answers(asked, &ours).unwrap_or(Does::Hangup)
    })
}

async fn check(kind: Kind, case: &str, answers: Answers, expected: &str) -> Vec<String> {
    let one = made(&wanted(), NOW_S);
    let fake = answering(kind, &one, answers);
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
        assert!(lines[1].ends_with("/v1/xpay"), "{case}: {lines:?}");
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
        assert_eq!(lines[1], "POST /below/payinvoice", "{case}");
    }
}

/// phoenixd takes no limit, and LNbits has its own: an order that could cost too much is never given.
#[tokio::test]
async fn limits_that_cannot_be_told_are_kept_before() {
    let one = made(&wanted(), NOW_S);
    let fake = answering(Kind::Phoenixd, &one, |_, _| None);
    let sent = fake.node(Kind::Phoenixd).pay(&one.bolt11, 4_084).await;
    assert_eq!(told(&sent), "failed: the node takes no limit for fees, and may pay more than is allowed");
    assert!(fake.lines().is_empty(), "nothing was asked");
    assert_eq!(told(&fake.node(Kind::Phoenixd).pay(&one.bolt11, 4_085).await), UNKNOWN);

    let fake = answering(Kind::LnBits, &one, |_, _| says(200, r#"{"fee_reserve":5001}"#));
    let sent = fake.node(Kind::LnBits).pay(&one.bolt11, 5_000).await;
    assert_eq!(told(&sent), "failed: LNbits may pay more for the way than is allowed");
    let fake = answering(Kind::LnBits, &one, |_, _| None);
    let sent = fake.node(Kind::LnBits).pay(&one.bolt11, 5_000).await;
    assert_eq!(told(&sent), "failed: LNbits does not say what the way may cost");
    assert_eq!(fake.lines().len(), 2);
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

/// MPP 10.2: what goes back goes to an invoice that leaves its amount open, so the node is told it; and told nothing where
/// the invoice names it.
#[tokio::test]
async fn mpp_29_an_amount_that_the_invoice_leaves_open_is_told_to_the_node() {
    let (open, named) = (without_amount(), made(&wanted(), NOW_S));
    for (kind, path, expected) in [
        (Kind::Lnd, "/v2/router/send", r#""amt_msat":"9000""#),
        (Kind::Cln, "/v1/xpay", r#""amount_msat":9000"#),
        (Kind::Phoenixd, "/payinvoice", "amountSat=9"),
    ] {
        for (one, amount_msat, is_told) in [(&open, 9_000, true), (&named, 21_001, false)] {
            let fake = answering(kind, one, |_, _| None);
            let sent = fake.node(kind).pay_amount(&one.bolt11, amount_msat, 5_000).await;
            assert_eq!(told(&sent), UNKNOWN, "{kind:?}: it hung up");
            let asked = fake.asked();
            let order = asked.iter().find(|asked| asks(asked, path)).unwrap();
            assert_eq!(order.body.contains(expected), is_told, "{kind:?}: {}", order.body);
        }
    }
    let fake = Fake::start(|_| Does::Hangup);
    for (kind, one, amount_msat, expected) in [
        (Kind::Lnd, &named, 21_000, "failed: invoice names another amount"),
        (Kind::Lnd, &open, 0, "failed: nothing to pay"),
        (Kind::Lnd, &named, 0, "failed: nothing to pay"),
    ] {
        let sent = fake.node(kind).pay_amount(&one.bolt11, amount_msat, 5_000).await;
        assert_eq!(told(&sent), expected);
    }
    assert_eq!(told(&fake.node(Kind::Lnd).pay(&open.bolt11, 5_000).await), "failed: invoice names no amount");
    assert!(fake.lines().is_empty(), "nobody was asked");
    for (kind, amount_msat, expected) in [
        (Kind::LnBits, 9_000, "failed: LNbits pays no invoice that leaves its amount to the payer"),
        (Kind::Phoenixd, 9_001, "failed: phoenixd pays whole satoshi only"),
    ] {
        let fake = answering(kind, &open, |_, _| None);
        let sent = fake.node(kind).pay_amount(&open.bolt11, amount_msat, 5_000).await;
        assert_eq!(told(&sent), expected, "{kind:?}");
    }
}
