//! What became of our invoices, and what nodes say of themselves, in the shapes that nodes write.

use super::fake::{Does, Fake, Kind, made, wanted};
use super::shapes::lnd_invoice;
use crate::lightning::{About, InvoiceState, Network, NodeError};

const HASH: [u8; 32] = [0xa9; 32];
/// A secret that no answer may carry on.
const PREIMAGE: &str = "5dd460dcbf1508705dd460dcbf1508705dd460dcbf1508705dd460dcbf150870";

fn hex() -> String {
    wire::hex::encode(&HASH)
}

fn cln_invoice(status: &str) -> String {
    let paid = if status == "paid" {
        format!(
            r#","pay_index":1,"amount_received_msat":"22000msat","paid_at":1790000042,"payment_preimage":"{PREIMAGE}""#
        )
    } else {
        String::new()
    };
    format!(
        r#"{{"invoices":[{{"label":"farthing-1","bolt11":"lnbcrt1","payment_hash":"{}","amount_msat":21001,
        "status":"{status}","description":"farthing","expires_at":1790000300,"created_index":2{paid}}}]}}"#,
        hex()
    )
}

fn phoenixd_payment(is_paid: bool, is_expired: bool) -> String {
    let completed = if is_paid { "1790000042123" } else { "null" };
    format!(
        r#"{{"type":"incoming_payment","subType":"lightning","paymentHash":"{}","preimage":"{PREIMAGE}","externalId":"farthing-1",
        "description":"farthing","invoice":"lnbcrt1","isPaid":{is_paid},"isExpired":{is_expired},"requestedSat":22,
        "receivedSat":22,"fees":0,"payerNote":null,"payerKey":null,"expiresAt":1790000300000,"completedAt":{completed},
        "createdAt":1790000000000}}"#,
        hex()
    )
}

fn lnbits_payment(paid: bool, status: &str, amount: i64) -> String {
    format!(
        r#"{{"paid":{paid},"status":"{status}","preimage":"{PREIMAGE}","details":{{"checking_id":"c","payment_hash":"{}",
        "wallet_id":"w","amount":{amount},"fee":0,"bolt11":"lnbcrt1","status":"{status}","preimage":"{PREIMAGE}",
        "updated_at":"2026-09-21T14:14:02.5+00:00","extra":{{}}}}}}"#,
        hex()
    )
}

#[tokio::test]
async fn l402_70_invoices_by_their_hash() {
    let settled = |at_s, msat| Ok(InvoiceState::Settled { at_s, msat });
    let at = Some(1_790_000_042);
    let unknown = |reason: &str| Err(NodeError::Refused(reason.to_owned()));
    let lnd = |state| lnd_invoice(&HASH, state, 22_000, 1);
    let cases = [
        (Kind::Lnd, 200, lnd("SETTLED"), settled(at, 22_000)),
        (Kind::Lnd, 200, lnd("OPEN"), Ok(InvoiceState::Unpaid)),
        (Kind::Lnd, 200, lnd("ACCEPTED"), Ok(InvoiceState::Unpaid)),
        (Kind::Lnd, 200, lnd("CANCELED"), Ok(InvoiceState::Cancelled)),
        (Kind::Lnd, 200, lnd("INVENTED"), Err(NodeError::Lost)),
        (Kind::Lnd, 200, lnd_invoice(&[1; 32], "SETTLED", 22_000, 1), Err(NodeError::Lied("payment hash"))),
        (
            Kind::Lnd,
            404,
            r#"{"code":5,"message":"unable to locate invoice"}"#.to_owned(),
            unknown("unable to locate invoice"),
        ),
        (Kind::Cln, 201, cln_invoice("paid"), settled(at, 22_000)),
        (Kind::Cln, 201, cln_invoice("unpaid"), Ok(InvoiceState::Unpaid)),
        (Kind::Cln, 201, cln_invoice("expired"), Ok(InvoiceState::Cancelled)),
        (Kind::Cln, 201, r#"{"invoices":[]}"#.to_owned(), unknown("unknown invoice")),
        (Kind::Cln, 201, cln_invoice("paid").replace(&hex(), PREIMAGE), Err(NodeError::Lied("payment hash"))),
        (Kind::Phoenixd, 200, phoenixd_payment(true, false), settled(at, 22_000)),
        (Kind::Phoenixd, 200, phoenixd_payment(true, true), settled(at, 22_000)),
        (Kind::Phoenixd, 200, phoenixd_payment(false, false), Ok(InvoiceState::Unpaid)),
        (Kind::Phoenixd, 200, phoenixd_payment(false, true), Ok(InvoiceState::Cancelled)),
        (
            Kind::Phoenixd,
            200,
            phoenixd_payment(true, false).replace(&hex(), PREIMAGE),
            Err(NodeError::Lied("payment hash")),
        ),
        (Kind::Phoenixd, 404, "Not found".to_owned(), unknown("Not found")),
        (Kind::LnBits, 200, lnbits_payment(true, "success", 22_000), settled(None, 22_000)),
        (Kind::LnBits, 200, lnbits_payment(true, "success", -22_000), settled(None, 22_000)),
        (Kind::LnBits, 200, lnbits_payment(false, "pending", 22_000), Ok(InvoiceState::Unpaid)),
        (Kind::LnBits, 200, lnbits_payment(false, "failed", 22_000), Ok(InvoiceState::Cancelled)),
        (Kind::LnBits, 200, lnbits_payment(false, "failed", -22_000), Ok(InvoiceState::Unpaid)),
        (
            Kind::LnBits,
            200,
            format!(r#"{{"paid":true,"preimage":"{PREIMAGE}"}}"#),
            unknown("unknown invoice"),
        ),
        (
            Kind::LnBits,
            200,
            lnbits_payment(true, "success", 1).replace(&hex(), PREIMAGE),
            Err(NodeError::Lied("payment hash")),
        ),
        (
            Kind::LnBits,
            404,
            r#"{"detail":"Payment does not exist."}"#.to_owned(),
            unknown("Payment does not exist."),
        ),
    ];
    for (kind, status, body, expected) in cases {
        let said = body.clone();
        let fake = Fake::start(move |_| Does::Says(status, said.clone()));
        let state = fake.node(kind).look_up(&HASH).await;
        assert_eq!(state, expected, "{kind:?}: {body}");
        let line = match kind {
            Kind::Lnd => format!("GET /below/v1/invoice/{}", hex()),
            Kind::Cln => "POST /below/v1/listinvoices".to_owned(),
            Kind::Phoenixd => format!("GET /below/payments/incoming/{}", hex()),
            Kind::LnBits => format!("GET /below/api/v1/payments/{}", hex()),
        };
        assert_eq!(fake.lines(), [line]);
        if kind == Kind::Cln {
            assert_eq!(fake.asked()[0].json()["payment_hash"], hex());
        }
    }
}

#[tokio::test]
async fn silence_is_not_unpaid() {
    for kind in Kind::ALL {
        for does in [|| Does::Silence, || Does::Hangup, || Does::Flood, || Does::Says(503, String::new())] {
            let fake = Fake::start(move |_| does());
            assert_eq!(fake.impatient(kind).look_up(&HASH).await, Err(NodeError::Lost), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn who_the_node_is() {
    let key = format!("02{}", "ab".repeat(32));
    let node_key = wire::hex::decode_array(&key).ok();
    let network = Some(Network::Regtest);
    let about = |can_receive_msat| About { node_key, network, can_receive_msat };
    let refused = r#"{"code":2,"message":"permission denied"}"#.to_owned();
    let lnd = format!(
        r#"{{"version":"0.20","identity_pubkey":"{key}","chains":[{{"chain":"bitcoin","network":"regtest"}}],"uris":[]}}"#
    );
    let balance = r#"{"balance":"5","remote_balance":{"sat":"5000","msat":"5000123"}}"#.to_owned();
    let cln =
        format!(r#"{{"id":"{key}","alias":"x","network":"regtest","blockheight":1,"version":"v26.06"}}"#);
    let channels = r#"{"channels":[{"state":"CHANNELD_NORMAL","peer_connected":true,"receivable_msat":4000000},
        {"state":"CHANNELD_NORMAL","peer_connected":false,"receivable_msat":1},{"state":"ONCHAIN","peer_connected":true},
        {"state":"CHANNELD_NORMAL","peer_connected":true,"receivable_msat":"1000123msat"}]}"#.to_owned();
    let phoenixd = format!(
        r#"{{"nodeId":"{key}","channels":[{{"state":"Normal","channelId":"c","balanceSat":1,
        "inboundLiquiditySat":5000,"capacitySat":9,"fundingTxId":"t"}},{{"state":"Closing"}}],"chain":"regtest",
        "blockHeight":1,"version":"0.8.0"}}"#
    );
    for (kind, first, second, expected) in [
        (Kind::Lnd, lnd.clone(), Some(balance), about(Some(5_000_123))),
        (Kind::Lnd, lnd, Some(refused.clone()), about(None)),
        (Kind::Cln, cln.clone(), Some(channels), about(Some(5_000_123))),
        (Kind::Cln, cln, Some(refused), about(None)),
        (Kind::Phoenixd, phoenixd, None, about(Some(5_000_000))),
        (Kind::LnBits, String::new(), None, About::default()),
    ] {
        let fake = Fake::start(move |asked| {
            let body = if asked.target.ends_with("/getinfo") { Some(&first) } else { second.as_ref() };
            let body = body.unwrap();
            Does::Says(if body.contains("denied") { 500 } else { 200 }, body.clone())
        });
        assert_eq!(fake.node(kind).about().await, Ok(expected), "{kind:?}");
    }
}

/// L402-70: a preimage that a node tells with our own invoice reaches nothing that is kept or printed.
#[tokio::test]
async fn l402_70_no_preimage_of_ours_is_kept() {
    for kind in Kind::ALL {
        let one = made(
            &crate::lightning::Wanted { amount_msat: kind.amount_msat(), ..wanted() },
            super::fake::NOW_S,
        );
        let preimage = one.preimage.clone();
        let fake = Fake::start(move |_| kind.created(&one));
        let node = fake.node(kind);
        let invoice = node.create_invoice(&wanted(), super::fake::NOW_S).await.unwrap();
        let shown = format!("{invoice:?} {node:?}").to_ascii_lowercase();
        assert!(!shown.contains(&preimage), "{kind:?}");
    }
}
