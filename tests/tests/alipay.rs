//! Alipay's QR pay over loopback: what we sign is good, what we are told is believed only as far as it is signed, and
//! what is not known is asked again under the same number.
#![expect(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use farthing_tests::alipay::{
    APP_ID, Alipay as Platform, Conduct, PATH, Refund, SELLER_ID, app_key, platform_key,
};
use rails::alipay::{Alipay, NoVerdict, NoticeRefused, Order, Outcome};
use rails::dial::{Dialer, Origin};
use rails::rsa2::{SigningKey, VerifyingKey};
use wire::alipay::{Fen, OwnNumber, Refunded, Refusal, TradeStatus, TurnedAway};

const PRECREATE: &str = "alipay.trade.precreate";
const REFUND: &str = "alipay.trade.refund";

/// Longer than any machine needs; where no answer comes, a short one.
const TIME_MAX: Duration = Duration::from_secs(20);
const TIME_MAX_SHORT: Duration = Duration::from_millis(400);

fn asking(address: SocketAddr, time_max: Duration) -> Alipay {
    Alipay {
        origin: Origin { tls: false, host: address.ip().to_string(), port: address.port() },
        path: PATH.to_owned(),
        app_id: APP_ID.to_owned(),
        seller_id: SELLER_ID.to_owned(),
        key: SigningKey::read(&app_key()).unwrap(),
        platform_keys: vec![VerifyingKey::read(&platform_key()).unwrap()],
        notify_url: Some("https://gw.example/farthing/notify?a=1".to_owned()),
        dialer: Dialer::new(&[], TIME_MAX).unwrap(),
        time_max,
    }
}

fn number(text: &str) -> OwnNumber {
    OwnNumber::new(text).unwrap()
}

fn fen(fen: u64) -> Fen {
    Fen::new(fen).unwrap()
}

async fn precreate(alipay: &Alipay, out_trade_no: &OwnNumber, sum: u64) -> Outcome<String> {
    let subject = "预付费额度 \"36\" &=+%";
    let order = Order { out_trade_no, fen: fen(sum), subject, payable: Duration::from_secs(1_800) };
    match alipay.precreate(&order).await {
        Outcome::Decided(qr) => Outcome::Decided(qr.code),
        Outcome::Refused(refusal) => Outcome::Refused(refusal),
        Outcome::Unknown(why) => Outcome::Unknown(why),
    }
}

fn refused<T>(sub_code: &str) -> Outcome<T> {
    Outcome::Refused(Refusal { sub_code: sub_code.to_owned() })
}

fn refund(moved: bool, sum: Option<u64>) -> Outcome<Refunded> {
    Outcome::Decided(Refunded { moved, fen: sum.map(fen) })
}

/// ALIPAY-2, ALIPAY-4, ALIPAY-6: one trade from its code to its refund.
#[tokio::test]
async fn alipay_2_a_trade_lives() {
    let platform = Platform::start();
    let alipay = asking(platform.address, TIME_MAX);
    let trade = number("topup_1");
    assert_eq!(
        precreate(&alipay, &trade, 3600).await,
        Outcome::Decided("https://qr.alipay.com/topup_1".to_owned())
    );
    let kept = platform.trades()["topup_1"].clone();
    assert_eq!((kept.fen, kept.subject.as_str()), (3600, "预付费额度 \"36\" &=+%"));
    assert_eq!(kept.notify_url.as_deref(), Some("https://gw.example/farthing/notify?a=1"));

    let Outcome::Refused(why) = alipay.query(&trade).await else { panic!("nobody has scanned it") };
    assert!(why.is_no_such_trade());
    assert_eq!(alipay.close(&trade).await, refused("ACQ.TRADE_NOT_EXIST"));
    platform.scan("topup_1");
    let Outcome::Decided(seen) = alipay.query(&trade).await else { panic!("it is there") };
    assert_eq!((seen.status, seen.fen, seen.status.is_paid()), (TradeStatus::WaitBuyerPay, fen(3600), false));
    platform.pay("topup_1");
    let Outcome::Decided(paid) = alipay.query(&trade).await else { panic!("it is paid") };
    assert_eq!((paid.status, paid.trade_no == seen.trade_no), (TradeStatus::Success, true));
    assert_eq!(alipay.close(&trade).await, refused("ACQ.TRADE_STATUS_ERROR"));
    assert_eq!(precreate(&alipay, &trade, 3600).await, refused("ACQ.TRADE_HAS_SUCCESS"));

    platform.plan(REFUND, Conduct::MovesLater);
    let part = number("rf_1");
    assert_eq!(alipay.refund_query(&trade, &part).await, refund(false, None), "nobody has asked for it");
    assert_eq!(alipay.refund(&trade, &part, fen(1234), "unused credit").await, refund(false, None));
    assert_eq!(alipay.refund_query(&trade, &part).await, refund(false, None), "accepted is not moved");
    platform.move_refunds();
    assert_eq!(alipay.refund_query(&trade, &part).await, refund(true, Some(1234)));
    let too_much = alipay.refund(&trade, &number("rf_2"), fen(3600), "all").await;
    assert_eq!(too_much, refused("ACQ.REFUND_AMT_NOT_EQUAL_TOTAL"));
    let rest = alipay.refund(&trade, &number("rf_3"), fen(2366), "the rest").await;
    assert_eq!(rest, refund(true, None));

    let other = number("topup_2");
    assert!(matches!(precreate(&alipay, &other, 1).await, Outcome::Decided(_)));
    platform.scan("topup_2");
    assert_eq!(alipay.close(&other).await, Outcome::Decided(()));
    let Outcome::Decided(closed) = alipay.query(&other).await else { panic!("it is there") };
    assert_eq!(closed.status, TradeStatus::Closed);
    assert_eq!(platform.unsigned(), 0, "every call was signed, judged by arithmetic that is not ours");
}

/// RAIL-15: whatever is lost on the way is unknown, and the same call again finds one trade and one refund.
#[tokio::test]
async fn rail_15_what_is_lost_is_asked_again_under_the_same_number() {
    for (conduct, expected) in [
        (Conduct::ActsInSilence, NoVerdict::NoAnswer),
        (Conduct::ActsAndFails, NoVerdict::Status(500)),
        (Conduct::ActsUnsigned, NoVerdict::Malformed(wire::alipay::AnswerError::Unsigned)),
        (Conduct::ActsUnderAnotherKey, NoVerdict::Forged),
        (Conduct::ActsAndDoubts, NoVerdict::Undecided),
        (Conduct::Silence, NoVerdict::NoAnswer),
        (Conduct::Doubts, NoVerdict::Undecided),
        (Conduct::Redirects, NoVerdict::Status(302)),
        (Conduct::Floods, NoVerdict::NoAnswer),
    ] {
        let platform = Platform::start();
        let is_silent = matches!(conduct, Conduct::ActsInSilence | Conduct::Silence);
        let alipay = asking(platform.address, TIME_MAX);
        let lost = if is_silent { asking(platform.address, TIME_MAX_SHORT) } else { alipay.clone() };
        let (trade, request) = (number("topup_1"), number("rf_1"));
        platform.plan(PRECREATE, conduct);
        assert_eq!(precreate(&lost, &trade, 3600).await, Outcome::Unknown(expected.clone()), "{conduct:?}");
        assert!(matches!(precreate(&alipay, &trade, 3600).await, Outcome::Decided(_)), "{conduct:?}");
        platform.pay("topup_1");
        platform.plan(REFUND, conduct);
        let unknown = lost.refund(&trade, &request, fen(100), "x").await;
        assert_eq!(unknown, Outcome::Unknown(expected), "{conduct:?}");
        assert!(
            matches!(alipay.refund(&trade, &request, fen(100), "x").await, Outcome::Decided(_)),
            "{conduct:?}"
        );
        assert_eq!(alipay.refund_query(&trade, &request).await, refund(true, Some(100)), "{conduct:?}");
        let trades = platform.trades();
        assert_eq!(trades.len(), 1, "{conduct:?}");
        assert_eq!(trades["topup_1"].refunds["rf_1"], Refund { fen: 100, moved: true }, "{conduct:?}");
        assert!(platform.asked().iter().all(|asked| asked.target == PATH), "a redirect was followed");
    }
    let nobody = farthing_tests::gateway::free_address();
    let outcome = asking(nobody, TIME_MAX).query(&number("topup_1")).await;
    assert_eq!(outcome, Outcome::Unknown(NoVerdict::NotSent));
}

/// A number that was used for another sum is no verdict about this one.
#[tokio::test]
async fn rail_15_a_number_means_one_sum() {
    let platform = Platform::start();
    let alipay = asking(platform.address, TIME_MAX);
    let (trade, request) = (number("topup_1"), number("rf_1"));
    assert!(matches!(precreate(&alipay, &trade, 3600).await, Outcome::Decided(_)));
    assert_eq!(precreate(&alipay, &trade, 3601).await, refused("ACQ.CONTEXT_INCONSISTENT"));
    platform.pay("topup_1");
    assert_eq!(alipay.refund(&trade, &request, fen(100), "x").await, refund(true, None));
    assert_eq!(
        alipay.refund(&trade, &request, fen(100), "x").await,
        refund(false, None),
        "it changes nothing again"
    );
    assert_eq!(alipay.refund(&trade, &request, fen(200), "x").await, Outcome::Unknown(NoVerdict::Undecided));
    assert_eq!(platform.trades()["topup_1"].refunded(), 100);
}

/// ALIPAY-1: what the app has not signed is not done, and that is our fault and not the payer's.
#[tokio::test]
async fn alipay_1_another_key_of_ours_is_turned_away() {
    let platform = Platform::start();
    let keys: serde_json::Value =
        serde_json::from_str(include_str!("../../specs/vectors/rails/alipay_keys.json")).unwrap();
    let other = keys["alipay_platform"]["private_pkcs8_der_b64"].as_str().unwrap();
    let alipay = Alipay { key: SigningKey::read(other).unwrap(), ..asking(platform.address, TIME_MAX) };
    let why = |sub_code: &str| {
        Outcome::Unknown(NoVerdict::TurnedAway(TurnedAway {
            code: "40002".to_owned(),
            sub_code: sub_code.to_owned(),
        }))
    };
    assert_eq!(precreate(&alipay, &number("topup_1"), 3600).await, why("isv.invalid-signature"));
    let alipay = Alipay { app_id: "2021000000000002".to_owned(), ..asking(platform.address, TIME_MAX) };
    assert_eq!(precreate(&alipay, &number("topup_1"), 3600).await, why("isv.invalid-app-id"));
    assert!(platform.trades().is_empty());
    assert_eq!((platform.unsigned(), platform.calls(PRECREATE)), (2, 0));
}

/// ALIPAY-5, RAIL-3: notices as they come, and what becomes of them on the way.
#[tokio::test]
async fn alipay_5_notices() {
    let platform = Platform::start();
    let alipay = asking(platform.address, TIME_MAX);
    let trade = number("topup_1");
    assert!(matches!(precreate(&alipay, &trade, 3600).await, Outcome::Decided(_)));
    platform.pay("topup_1");
    let paid = platform.notice("topup_1");
    let read = alipay.notice(paid.as_bytes()).unwrap();
    assert_eq!(
        (read.out_trade_no.as_str(), read.fen, read.status),
        ("topup_1", fen(3600), TradeStatus::Success)
    );
    assert_eq!(read.refund, None);
    let Outcome::Decided(queried) = alipay.query(&trade).await else { panic!("it is paid") };
    assert_eq!(queried.trade_no, read.trade_no, "notice and query name one payment");

    assert_eq!(alipay.refund(&trade, &number("rf_1"), fen(100), "x").await, refund(true, None));
    let back = alipay.notice(platform.refund_notice("topup_1", "rf_1").as_bytes()).unwrap();
    assert_eq!(back.status, TradeStatus::Success, "it repeats what the payment said");
    let mark = back.refund.unwrap();
    assert_eq!((mark.out_request_no, mark.total), (Some(number("rf_1")), Some(fen(100))));

    let malformed =
        |notice: &str| matches!(alipay.notice(notice.as_bytes()), Err(NoticeRefused::Malformed(_)));
    assert!(malformed(&paid.replace("RSA2", "RSA")), "the algorithm is pinned");
    assert!(malformed(&format!("{paid}&total_amount=0.01")), "no field stands twice");
    assert!(malformed(&format!("{paid}{}", "&a=".repeat(40_000))), "bounded before anything is computed");
    for changed in [
        paid.replace("36.00", "360.00"),
        paid.replace("&body=", ""),
        paid.replace("topup_1", "topup_2"),
        format!("{paid}&more=1"),
    ] {
        assert_eq!(alipay.notice(changed.as_bytes()), Err(NoticeRefused::Forged), "{changed}");
    }
    let same = paid.replace('+', "%20");
    assert_eq!(alipay.notice(same.as_bytes()), alipay.notice(paid.as_bytes()), "one escape or the other");
    for (name, value, expected) in [
        ("app_id", "2021000000000002", "a genuine notice of another merchant"),
        ("seller_id", "2088000000000098", "a genuine notice of another merchant"),
        ("trade_status", "TRADE_PENDING", "trade_status is absent or not what it has to be"),
        ("total_amount", "36.001", "total_amount is more than two decimals"),
        ("trade_no", "", "trade_no is absent or not what it has to be"),
    ] {
        let mut fields: Vec<(&str, String)> = vec![
            ("app_id", APP_ID.to_owned()),
            ("seller_id", SELLER_ID.to_owned()),
            ("out_trade_no", "topup_1".to_owned()),
            ("trade_no", "2026".to_owned()),
            ("trade_status", "TRADE_SUCCESS".to_owned()),
            ("total_amount", "36.00".to_owned()),
        ];
        let notice = farthing_tests::alipay::signed_notice(&fields);
        assert!(alipay.notice(notice.as_bytes()).is_ok());
        fields.iter_mut().find(|(known, _)| *known == name).unwrap().1 = value.to_owned();
        let notice = farthing_tests::alipay::signed_notice(&fields);
        let refused = alipay.notice(notice.as_bytes()).unwrap_err();
        assert!(refused.to_string().contains(expected), "{name}: {refused}");
        assert!(refused.is_final(), "sent again it would be the same");
    }
    assert!(!NoticeRefused::Forged.is_final());
}
