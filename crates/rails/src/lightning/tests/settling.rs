//! Settlements as they come: late, twice, out of order, or not at all.

use super::fake::{Does, Fake, Kind, WAIT};
use super::shapes::lnd_invoice;
use crate::lightning::{NodeError, Settled};

fn settled(number: u8, msat: u64, cursor: u64) -> Settled {
    Settled { payment_hash: [number; 32], msat, cursor }
}

fn event(number: u8, state: &str, msat: u64, index: u64) -> String {
    format!("{{\"result\":{}}}\n", lnd_invoice(&[number; 32], state, msat, index))
}

/// LND's stream tells of open invoices too, and its lines come in any pieces.
#[tokio::test]
async fn lnd_tells_line_by_line() {
    let whole =
        [event(1, "OPEN", 0, 0), event(2, "SETTLED", 2000, 8), "\n".to_owned(), event(3, "SETTLED", 3000, 9)];
    let whole = whole.concat();
    let bytes: Vec<String> = whole.chars().map(String::from).collect();
    let (left, right) = whole.split_at(whole.len() / 3);
    for pieces in [vec![whole.clone()], bytes, vec![left.to_owned(), right.to_owned()]] {
        let fake = Fake::start(move |_| Does::Streams(pieces.clone()));
        let told = fake.node(Kind::Lnd).next_settled(7).await.unwrap();
        assert_eq!(told, [settled(2, 2000, 8), settled(3, 3000, 9)]);
        assert_eq!(fake.lines(), ["GET /below/v1/invoices/subscribe?settle_index=7"]);
    }
}

/// Twice, and out of order: it is passed on as it comes, and the asker goes on from the greatest.
#[tokio::test]
async fn lnd_may_repeat_itself() {
    let events = [event(3, "SETTLED", 3000, 9), event(2, "SETTLED", 2000, 8), event(3, "SETTLED", 3000, 9)];
    let fake = Fake::start(move |_| Does::Streams(events.to_vec()));
    let told = fake.node(Kind::Lnd).next_settled(7).await.unwrap();
    assert_eq!(told, [settled(3, 3000, 9), settled(2, 2000, 8), settled(3, 3000, 9)]);
}

/// LND's stream tells nothing of before when it is asked from 0: what the list has comes first.
#[tokio::test]
async fn lnd_from_the_beginning() {
    let list = format!(
        r#"{{"invoices":[{},{},{}],"last_index_offset":"3"}}"#,
        lnd_invoice(&[1; 32], "SETTLED", 1000, 1),
        lnd_invoice(&[2; 32], "OPEN", 0, 0),
        lnd_invoice(&[3; 32], "SETTLED", 3000, 2),
    );
    let fake = Fake::start(move |_| Does::Says(200, list.clone()));
    let told = fake.node(Kind::Lnd).next_settled(0).await.unwrap();
    assert_eq!(told, [settled(1, 1000, 1), settled(3, 3000, 2)]);
    assert_eq!(fake.lines(), ["GET /below/v1/invoices?reversed=true&num_max_invoices=100"]);

    let fake = Fake::start(|asked| {
        if asked.target.contains("subscribe") {
            Does::Streams(vec![event(1, "SETTLED", 1000, 1)])
        } else {
            Does::Says(200, r#"{"invoices":[]}"#.to_owned())
        }
    });
    assert_eq!(fake.node(Kind::Lnd).next_settled(0).await.unwrap(), [settled(1, 1000, 1)]);
}

/// Nothing came: that is no error, and the asker may ask again at once. LND does not even begin to answer before there
/// is an event; one that is none does not end the wait.
#[tokio::test]
async fn nothing_came() {
    type Case = (Kind, fn() -> Does);
    let cases: [Case; 4] = [
        (Kind::Lnd, || Does::Silence),
        (Kind::Lnd, || Does::Streams(vec![event(1, "OPEN", 0, 0)])),
        (Kind::Phoenixd, || Does::Says(200, "[]".to_owned())),
        (Kind::LnBits, || Does::Says(200, "[]".to_owned())),
    ];
    for (kind, does) in cases {
        let fake = Fake::start(move |_| does());
        let asked_at = std::time::Instant::now();
        assert_eq!(fake.node(kind).next_settled(7).await, Ok(Vec::new()), "{kind:?}");
        if kind == Kind::Lnd {
            assert!(asked_at.elapsed() >= WAIT, "it waited");
        }
    }
}

/// A stream that ends at once must not be asked again at once: it is an error, after which the asker rests.
#[tokio::test]
async fn lnd_that_breaks_off() {
    let refused = |reason: &str| Err(NodeError::Refused(reason.to_owned()));
    type Case = (&'static str, fn() -> Does, Result<Vec<Settled>, NodeError>);
    let cases: [Case; 8] = [
        ("ends", || Does::Says(200, String::new()), Err(NodeError::Lost)),
        ("hangs up", || Does::Hangup, Err(NodeError::Lost)),
        ("half a line", || Does::Half, Err(NodeError::Lost)),
        ("flood", || Does::Flood, Err(NodeError::Lost)),
        ("not JSON", || Does::Says(200, "<html>\n".to_owned()), Err(NodeError::Lost)),
        (
            "no",
            || Does::Says(500, r#"{"error":{"code":2,"message":"permission denied"}}"#.to_owned()),
            refused("permission denied"),
        ),
        (
            "no, halfway",
            || Does::Streams(vec!["{\"error\":{\"grpc_code\":2,\"message\":\"going down\"}}\n".to_owned()]),
            refused("going down"),
        ),
        ("tells, and ends", || Does::Says(200, event(2, "SETTLED", 2000, 8)), Ok(vec![settled(2, 2000, 8)])),
    ];
    for (case, does, expected) in cases {
        let fake = Fake::start(move |_| does());
        assert_eq!(fake.node(Kind::Lnd).next_settled(7).await, expected, "{case}");
    }
}

#[tokio::test]
async fn cln_is_asked_until_it_has_no_more() {
    let fake = Fake::start(|asked| {
        let body = asked.json();
        let after = body["lastpay_index"].as_u64().unwrap();
        if after == 9 {
            assert_eq!(body["timeout"], 0, "only the first question waits");
            return Does::Says(500, r#"{"code":904,"message":"Timed out","data":null}"#.to_owned());
        }
        let number = after + 1;
        let hash = wire::hex::encode(&[u8::try_from(number).unwrap(); 32]);
        Does::Says(
            201,
            format!(
                r#"{{"label":"l","bolt11":"lnbcrt1","payment_hash":"{hash}","amount_msat":1000,
            "status":"paid","pay_index":{number},"amount_received_msat":{number}000,"paid_at":1790000042,
            "payment_preimage":"{hash}","description":"d","expires_at":1790000300}}"#
            ),
        )
    });
    let told = fake.node(Kind::Cln).next_settled(7).await.unwrap();
    assert_eq!(told, [settled(8, 8000, 8), settled(9, 9000, 9)]);
    let asked = fake.asked();
    assert_eq!(asked[0].json()["timeout"], 1);
    assert_eq!(fake.lines(), ["POST /below/v1/waitanyinvoice"; 3]);
}

#[tokio::test]
async fn cln_with_nothing_and_with_nonsense() {
    type Case = (&'static str, u16, String, Result<Vec<Settled>, NodeError>);
    let paid = |pay_index: u64| {
        format!(
            r#"{{"payment_hash":"{}","status":"paid","pay_index":{pay_index},"amount_received_msat":1}}"#,
            "11".repeat(32)
        )
    };
    let cases: [Case; 4] = [
        ("nothing came", 500, r#"{"code":904,"message":"Timed out"}"#.to_owned(), Ok(Vec::new())),
        (
            "no",
            401,
            r#"{"code":1501,"message":"Not authorized"}"#.to_owned(),
            Err(NodeError::Refused("Not authorized".to_owned())),
        ),
        ("an old one", 201, paid(7), Err(NodeError::Lost)),
        ("nonsense", 201, "{}".to_owned(), Err(NodeError::Lost)),
    ];
    for (case, status, body, expected) in cases {
        let fake = Fake::start(move |_| Does::Says(status, body.clone()));
        assert_eq!(fake.node(Kind::Cln).next_settled(7).await, expected, "{case}");
    }
}

fn phoenixd_entry(number: u8, at_ms: u64) -> String {
    format!(
        r#"{{"subType":"lightning","paymentHash":"{}","preimage":"{}","isPaid":true,"isExpired":false,"receivedSat":{number},
        "fees":0,"completedAt":{at_ms},"createdAt":1}}"#,
        wire::hex::encode(&[number; 32]),
        "5d".repeat(32)
    )
}

fn lnbits_entry(number: u8, amount: i64, status: &str, at: &str) -> String {
    format!(
        r#"{{"checking_id":"c","payment_hash":"{}","wallet_id":"w","amount":{amount},"fee":0,"bolt11":"lnbcrt1",
        "status":"{status}","preimage":"{}","updated_at":"{at}","extra":{{}}}}"#,
        wire::hex::encode(&[number; 32]),
        "5d".repeat(32)
    )
}

/// A list is read again a little behind the cursor. What stands there is told once; what stands after it, whenever it
/// is asked for.
#[tokio::test]
async fn lists_are_read_with_an_overlap() {
    let list = format!(
        "[{},{},{}]",
        phoenixd_entry(3, 90_003),
        phoenixd_entry(2, 90_002),
        phoenixd_entry(1, 90_001)
    );
    let fake = Fake::start(move |_| Does::Says(200, list.clone()));
    let node = fake.node(Kind::Phoenixd);
    let all = [settled(3, 3000, 90_003), settled(2, 2000, 90_002), settled(1, 1000, 90_001)];
    assert_eq!(node.next_settled(0).await.unwrap(), all);
    assert_eq!(node.next_settled(0).await.unwrap(), all, "an answer that was lost");
    assert_eq!(node.next_settled(90_002).await.unwrap(), all[..1], "what is after the cursor, again");
    assert_eq!(
        fake.lines()[2],
        "GET /below/payments/incoming?from=30002&limit=100&offset=0",
        "a minute behind"
    );

    let fresh = fake.node(Kind::Phoenixd);
    assert_eq!(fresh.next_settled(90_003).await.unwrap(), all, "behind the cursor, but never told before");
}

#[tokio::test]
async fn long_lists_are_read_page_by_page() {
    let fake = Fake::start(|asked| {
        let offset: u64 = asked.target.rsplit_once("offset=").unwrap().1.parse().unwrap();
        let count = if offset == 0 { 100 } else { 1 };
        let entries: Vec<String> = (0..count)
            .map(|number| phoenixd_entry(u8::try_from(number + offset).unwrap(), 100_000 - number - offset))
            .collect();
        Does::Says(200, format!("[{}]", entries.join(",")))
    });
    assert_eq!(fake.node(Kind::Phoenixd).next_settled(80_000).await.unwrap().len(), 101);
    assert_eq!(fake.lines().len(), 2);
    assert_eq!(fake.node(Kind::Phoenixd).next_settled(0).await.unwrap().len(), 100, "from 0 the latest page");
}

#[tokio::test]
async fn lnbits_lists_what_went_out_and_what_is_open_too() {
    let now = "2026-09-21T14:13:20.000001+00:00";
    let at = 1_790_000_000_000_001;
    let entries = [
        lnbits_entry(4, 4000, "success", now),
        lnbits_entry(5, -4000, "success", now),
        lnbits_entry(6, 4000, "pending", now),
        lnbits_entry(7, 4000, "success", "2026-09-21T13:13:20+00:00"),
    ];
    let list = format!("[{}]", entries.join(","));
    let fake = Fake::start(move |_| Does::Says(200, list.clone()));
    let told = fake.node(Kind::LnBits).next_settled(at - 5).await.unwrap();
    assert_eq!(told, [settled(4, 4000, at)]);
    let line =
        "GET /below/api/v1/payments?sortby=updated_at&direction=desc&status=success&limit=100&offset=0";
    assert_eq!(fake.lines(), [line]);

    let fake = Fake::start(|_| Does::Says(200, format!("[{}]", lnbits_entry(4, 4000, "success", "soon"))));
    assert_eq!(fake.node(Kind::LnBits).next_settled(5).await, Err(NodeError::Lost), "no time, no cursor");
}
