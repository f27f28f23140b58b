//! What we send and what we believe, judged by Alipay's own SDK, which `cargo xtask interop --only alipay` starts as a
//! gateway at `ALIPAY_URL`.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::time::Duration;

use http::Method;
use rails::alipay::{Alipay, NoVerdict, Order, Outcome};
use rails::dial::{Dialer, Origin};
use rails::rsa2::{SigningKey, VerifyingKey};
use rails::{Answer, Exchange};
use serde_json::{Value, json};
use wire::alipay::{Fen, OwnNumber, Refunded, TradeStatus};

const TIME_MAX: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 64 * 1024;

fn origin() -> Origin {
    let url = std::env::var("ALIPAY_URL").unwrap();
    let (host, port) = url.strip_prefix("http://").unwrap().split_once(':').unwrap();
    Origin { tls: false, host: host.to_owned(), port: port.parse().unwrap() }
}

fn alipay() -> Alipay {
    let keys: Value =
        serde_json::from_str(include_str!("../../../specs/vectors/rails/alipay_keys.json")).unwrap();
    Alipay {
        origin: origin(),
        path: "/gateway.do".to_owned(),
        app_id: "2021000000000001".to_owned(),
        seller_id: "2088000000000099".to_owned(),
        key: SigningKey::read(keys["alipay_app"]["private_pkcs8_der_b64"].as_str().unwrap()).unwrap(),
        platform_keys: vec![
            VerifyingKey::read(keys["alipay_platform"]["public_spki_pem"].as_str().unwrap()).unwrap(),
        ],
        notify_url: Some("https://gw.example/notify?a=1&b=2".to_owned()),
        dialer: Dialer::new(&[], TIME_MAX).unwrap(),
        time_max: TIME_MAX,
    }
}

async fn ask(method: Method, path: &str, body: String) -> String {
    let origin = origin();
    let exchange = Exchange {
        origin: &origin,
        method,
        path,
        body: body.into(),
        time_max: TIME_MAX,
        answer_bytes_max: ANSWER_BYTES_MAX,
    };
    let Answer { status, body, .. } = exchange.run(&Dialer::new(&[], TIME_MAX).unwrap()).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!(status, 200, "{text}");
    text
}

async fn calls() -> Value {
    serde_json::from_str(&ask(Method::GET, "/__calls", String::new()).await).unwrap()
}

fn number(text: &str) -> OwnNumber {
    OwnNumber::new(text).unwrap()
}

async fn made(alipay: &Alipay, text: &str) -> OwnNumber {
    let out_trade_no = number(text);
    let order = Order {
        out_trade_no: &out_trade_no,
        fen: Fen::new(3600).unwrap(),
        subject: "预付费额度 \"36\" &=+% \\ /",
        payable: Duration::from_secs(1_800),
    };
    assert!(matches!(alipay.precreate(&order).await, Outcome::Decided(qr) if qr.code.ends_with(text)));
    out_trade_no
}

#[tokio::test]
#[ignore = "needs Alipay's SDK: cargo xtask interop --only alipay"]
async fn the_sdk_takes_our_calls() {
    let (alipay, before) = (alipay(), calls().await);
    let trade = made(&alipay, "topup_1").await;
    let Outcome::Decided(paid) = alipay.query(&trade).await else { panic!("it is there") };
    assert_eq!((paid.status, paid.fen.get()), (TradeStatus::Success, 3600));
    let Outcome::Refused(why) = alipay.query(&number("topup_none")).await else { panic!("it is not there") };
    assert!(why.is_no_such_trade());
    let refund = number("rf_1");
    let fen = Fen::new(1234).unwrap();
    let moved = |fen| Outcome::Decided(Refunded { moved: true, fen });
    assert_eq!(alipay.refund(&trade, &refund, fen, "unused credit & more").await, moved(None));
    assert_eq!(alipay.refund_query(&trade, &refund).await, moved(Some(fen)));
    assert_eq!(alipay.close(&trade).await, Outcome::Decided(()));
    let after = calls().await;
    assert_eq!(after["refused"], before["refused"]);
    assert_eq!(after["taken"].as_u64().unwrap() - before["taken"].as_u64().unwrap(), 6);
    let stranger = Alipay { app_id: "2021000000000002".to_owned(), key: other_key(), ..alipay };
    assert!(matches!(stranger.query(&trade).await, Outcome::Unknown(NoVerdict::Malformed(_))));
    assert_eq!(
        calls().await,
        json!({"taken": after["taken"], "refused": after["refused"].as_u64().unwrap() + 1})
    );
}

/// A key that nobody here knows as the app's.
fn other_key() -> SigningKey {
    let keys: Value =
        serde_json::from_str(include_str!("../../../specs/vectors/rails/alipay_keys.json")).unwrap();
    SigningKey::read(keys["alipay_platform"]["private_pkcs8_der_b64"].as_str().unwrap()).unwrap()
}

#[tokio::test]
#[ignore = "needs Alipay's SDK: cargo xtask interop --only alipay"]
async fn what_the_sdk_refuses_is_no_verdict() {
    let alipay = alipay();
    let trade = made(&alipay, "altered_1").await;
    assert_eq!(alipay.query(&trade).await, Outcome::Unknown(NoVerdict::Forged));
}

#[tokio::test]
#[ignore = "needs Alipay's SDK: cargo xtask interop --only alipay"]
async fn notices_are_judged_as_the_sdk_does() {
    let alipay = alipay();
    made(&alipay, "topup_2").await;
    let notice = ask(Method::GET, "/notice?topup_2", String::new()).await;
    let read = alipay.notice(notice.as_bytes()).unwrap();
    assert_eq!((read.out_trade_no.as_str(), read.fen.get()), ("topup_2", 3600));
    for body in [
        notice.clone(),
        notice.replace('+', "%20"),
        notice.replace("36.00", "360.00"),
        notice.replace("TRADE_SUCCESS", "TRADE_FINISHED"),
        notice.replace("body=&", ""),
        notice.replace("&sign=", "&sign=A"),
        notice.replace("app_id=2021000000000001", "app_id=2021000000000002"),
        format!("{notice}&more=1"),
        notice.split_once("&sign=").unwrap().0.to_owned(),
    ] {
        let verdict = ask(Method::POST, "/verdict", body.clone()).await;
        assert_eq!(verdict, alipay.notice(body.as_bytes()).is_ok().to_string(), "{body}");
    }
}
