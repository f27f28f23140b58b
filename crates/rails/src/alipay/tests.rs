//! What is believed of an answer and of a notice, without any network.

use std::time::Duration;

use serde_json::Value;
use wire::alipay::{AnswerError, Fen, Method, OwnNumber, Refunded, TradeStatus, TurnedAway};

use super::{Alipay, NoVerdict, Notice, NoticeRefused as N, Outcome};
use crate::dial::{Dialer, Origin};
use crate::rsa2::{SigningKey, VerifyingKey};

const TRADE: &str = "topup_01J0000000000000000000001";
const TRADE_NO: &str = "2026112022001401230500000001";

fn vector(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn key(name: &str) -> SigningKey {
    let keys = vector(include_str!("../../../../specs/vectors/rails/alipay_keys.json"));
    SigningKey::read(keys[name]["private_pkcs8_der_b64"].as_str().unwrap()).unwrap()
}

fn alipay(platform_keys: Vec<VerifyingKey>) -> Alipay {
    Alipay {
        origin: Origin { tls: false, host: "127.0.0.1".to_owned(), port: 1 },
        path: "/gateway.do".to_owned(),
        app_id: "2021000000000001".to_owned(),
        seller_id: "2088000000000099".to_owned(),
        key: key("alipay_app"),
        platform_keys,
        notify_url: None,
        dialer: Dialer::new(&[], Duration::from_secs(1)).unwrap(),
        time_max: Duration::from_secs(1),
    }
}

fn ours() -> Alipay {
    alipay(vec![key("alipay_platform").verifying()])
}

fn number(text: &str) -> OwnNumber {
    OwnNumber::new(text).unwrap()
}

/// An answer that Alipay has signed.
fn signed(method: Method, body: &str) -> String {
    let sign = key("alipay_platform").sign(body).unwrap();
    format!(r#"{{"{}":{body},"sign":"{sign}"}}"#, method.answer())
}

/// The official SDK's verdict on whole answers is ours (RAIL-1, RAIL-2).
#[test]
fn alipay_3_answers_of_the_vector() {
    let file = vector(include_str!("../../../../specs/vectors/rails/alipay_openapi_v2_response.json"));
    let mut seen = (0, 0);
    for case in file["cases"].as_array().unwrap() {
        let (body, name) = (case["body"].as_str().unwrap(), case["response_key"].as_str().unwrap());
        let (alipay, trade) = (ours(), number(TRADE));
        let outcome = match name {
            "alipay_trade_precreate_response" => {
                let outcome = alipay.judged(Method::Precreate, body.as_bytes(), |a| a.precreated(&trade));
                kind(&outcome, |qr| qr.code == "https://qr.alipay.com/bax00000000000000000000")
            }
            "alipay_trade_query_response" => {
                let outcome = alipay.judged(Method::Query, body.as_bytes(), |a| a.queried(&trade));
                kind(&outcome, |trade| {
                    trade.trade_no == TRADE_NO && trade.status.is_paid() && trade.fen.get() == 3600
                })
            }
            "alipay_trade_refund_response" => {
                let outcome = alipay.judged(Method::Refund, body.as_bytes(), |a| a.refunded(&trade));
                kind(&outcome, |refund| refund.moved)
            }
            "error_response" => {
                kind(&alipay.judged(Method::Query, body.as_bytes(), |a| a.queried(&trade)), |_| false)
            }
            // A call that we do not make: the answer to no call of ours.
            _ => {
                let outcome = alipay.judged(Method::Query, body.as_bytes(), |a| a.queried(&trade));
                assert_eq!(outcome, Outcome::Unknown(NoVerdict::Malformed(AnswerError::OtherCall)));
                continue;
            }
        };
        let expected = match (case["verify"].as_str().unwrap(), name) {
            ("pass", "error_response") => "turned away",
            ("pass", _) => "decided",
            _ => "forged",
        };
        assert_eq!(outcome, expected, "{name}");
        seen = if expected == "forged" { (seen.0, seen.1 + 1) } else { (seen.0 + 1, seen.1) };
    }
    assert_eq!(seen, (4, 4));
}

fn kind<T>(outcome: &Outcome<T>, is_right: impl Fn(&T) -> bool) -> &'static str {
    match outcome {
        Outcome::Decided(value) if is_right(value) => "decided",
        Outcome::Decided(_) => "wrong",
        Outcome::Refused(_) => "refused",
        Outcome::Unknown(NoVerdict::Forged) => "forged",
        Outcome::Unknown(NoVerdict::TurnedAway(_)) => "turned away",
        Outcome::Unknown(_) => "unknown",
    }
}

/// What a signed answer means (RAIL-15): only what is decided is called decided or refused.
#[test]
fn alipay_4_what_codes_mean() {
    let alipay = ours();
    let done = format!(r#"{{"code":"10000","out_trade_no":"{TRADE}"}}"#);
    let said = |code: &str, sub: &str| format!(r#"{{"code":"{code}","msg":"x","sub_code":"{sub}"}}"#);
    for (body, expected) in [
        (done.clone(), "decided"),
        (done.replace(TRADE, "topup_2"), "unknown"),
        (done.replace("\"10000\"", "10000"), "unknown"),
        (said("40004", "ACQ.TRADE_STATUS_ERROR"), "refused"),
        (said("40004", "ACQ.SYSTEM_ERROR"), "unknown"),
        (said("40004", "aop.ACQ.SYSTEM_ERROR"), "unknown"),
        (said("40004", "ACQ.DISCORDANT_REPEAT_REQUEST"), "unknown"),
        (said("40004", ""), "unknown"),
        (said("20000", "isp.unknow-error"), "unknown"),
        (said("20000", "ACQ.TRADE_STATUS_ERROR"), "unknown"),
        (said("40002", "isv.invalid-signature"), "turned away"),
        (said("40005", "isv.call-limited"), "turned away"),
        (said("10003", "x"), "unknown"),
        (said("90000", "x"), "unknown"),
        ("{}".to_owned(), "unknown"),
        (r#"{"code":"10000","code":"10000"}"#.to_owned(), "unknown"),
    ] {
        let whole = signed(Method::Close, &body);
        let outcome = alipay.judged(Method::Close, whole.as_bytes(), |answer| answer.closed(&number(TRADE)));
        assert_eq!(kind(&outcome, |()| true), expected, "{body}");
    }
    // What stands under error_response is of no trade.
    for body in [done, said("40004", "ACQ.TRADE_STATUS_ERROR")] {
        let error = signed(Method::Close, &body).replace(Method::Close.answer(), "error_response");
        let outcome = alipay.judged(Method::Close, error.as_bytes(), |answer| answer.closed(&number(TRADE)));
        assert_eq!(outcome, Outcome::Unknown(NoVerdict::Undecided), "{body}");
    }
    let odd = signed(Method::Close, &said("40002", "isv.<b>\\u0007 odd"));
    let outcome = alipay.judged(Method::Close, odd.as_bytes(), |answer| answer.closed(&number(TRADE)));
    let why = TurnedAway { code: "40002".to_owned(), sub_code: "isv.bodd".to_owned() };
    assert_eq!(outcome, Outcome::Unknown(NoVerdict::TurnedAway(why)));
}

/// Nothing that is not signed, or not an answer to this very call, is a verdict.
#[test]
fn alipay_3_what_is_no_answer() {
    let alipay = ours();
    let body = format!(r#"{{"code":"10000","out_trade_no":"{TRADE}"}}"#);
    let good = signed(Method::Close, &body);
    let outcome = |text: &str| alipay.judged(Method::Close, text.as_bytes(), |a| a.closed(&number(TRADE)));
    assert_eq!(outcome(&good), Outcome::Decided(()));
    assert_eq!(
        outcome(&good.replace(":{", ": \n{")),
        Outcome::Decided(()),
        "space around the object is not signed"
    );
    let malformed = |why| Outcome::Unknown(NoVerdict::Malformed(why));
    let unsigned = format!(r#"{{"{}":{body}}}"#, Method::Close.answer());
    let twice = good.replacen('{', &format!(r#"{{"{}":{body},"#, Method::Close.answer()), 1);
    let both = good.replacen('{', &format!(r#"{{"error_response":{body},"#), 1);
    let many =
        good.replacen('{', &format!("{{{}", (0..8).map(|n| format!("\"m{n}\":1,")).collect::<String>()), 1);
    for (text, expected) in [
        (good.replace("\"code\":", "\"code\": "), Outcome::Unknown(NoVerdict::Forged)),
        (good.replace("10000", "10001"), Outcome::Unknown(NoVerdict::Forged)),
        (unsigned.clone(), malformed(AnswerError::Unsigned)),
        (
            unsigned.replacen('}', "},\"sign\":\"\"", 1).replace("\"\"}}", "\"\"}"),
            malformed(AnswerError::Unsigned),
        ),
        (twice, malformed(AnswerError::Shape)),
        (both, malformed(AnswerError::OtherCall)),
        (many, malformed(AnswerError::Shape)),
        (signed(Method::Query, &body), malformed(AnswerError::OtherCall)),
        (String::new(), malformed(AnswerError::Shape)),
        ("[]".to_owned(), malformed(AnswerError::Shape)),
        ("<html>".to_owned(), malformed(AnswerError::Shape)),
        (format!("{good} {good}"), malformed(AnswerError::Shape)),
    ] {
        assert_eq!(outcome(&text), expected, "{text}");
    }
    assert_eq!(
        alipay.judged(Method::Close, b"\xff", |a| a.closed(&number(TRADE))),
        Outcome::Unknown(NoVerdict::Forged)
    );
}

/// RAIL-18: accepted is not moved, and what has moved is what was asked about.
#[test]
fn alipay_6_when_a_refund_has_moved() {
    let alipay = ours();
    let (trade, refund) = (number(TRADE), number("rf_1"));
    let refunded = |more: &str| {
        let body = format!(r#"{{"code":"10000","out_trade_no":"{TRADE}"{more}}}"#);
        alipay.judged(Method::Refund, signed(Method::Refund, &body).as_bytes(), |answer| {
            answer.refunded(&trade)
        })
    };
    let moved = |moved, fen: Option<u64>| {
        Outcome::Decided(Refunded { moved, fen: fen.map(|fen| Fen::new(fen).unwrap()) })
    };
    assert_eq!(refunded(r#","fund_change":"Y","refund_fee":"50.00""#), moved(true, None));
    assert_eq!(refunded(r#","fund_change":"N""#), moved(false, None));
    assert_eq!(refunded(""), moved(false, None));
    let queried = |body: &str| {
        let whole = signed(Method::RefundQuery, body);
        alipay.judged(Method::RefundQuery, whole.as_bytes(), |answer| answer.refund_queried(&trade, &refund))
    };
    let numbers = format!(r#""out_trade_no":"{TRADE}","out_request_no":"rf_1""#);
    for (body, expected) in [
        (
            format!(
                r#"{{"code":"10000",{numbers},"refund_amount":"12.34","refund_status":"REFUND_SUCCESS"}}"#
            ),
            moved(true, Some(1234)),
        ),
        (format!(r#"{{"code":"10000",{numbers}}}"#), moved(false, None)),
        (format!(r#"{{"code":"10000",{numbers},"refund_status":"REFUND_PROCESSING"}}"#), moved(false, None)),
        (r#"{"code":"10000","msg":"Success"}"#.to_owned(), moved(false, None)),
        (
            r#"{"code":"10000","refund_status":"REFUND_SUCCESS"}"#.to_owned(),
            Outcome::Unknown(NoVerdict::Undecided),
        ),
        (
            format!(r#"{{"code":"10000",{numbers},"refund_status":"REFUND_SUCCESS"}}"#)
                .replace("rf_1", "rf_2"),
            Outcome::Unknown(NoVerdict::Undecided),
        ),
        (
            format!(r#"{{"code":"10000",{numbers},"refund_amount":"12.345"}}"#),
            Outcome::Unknown(NoVerdict::Undecided),
        ),
    ] {
        assert_eq!(queried(&body), expected, "{body}");
    }
}

/// RAIL-5 up to where our part of it ends: each case of the vector, by what we make of it.
#[test]
fn alipay_5_notices_of_the_vector() {
    let file = vector(include_str!("../../../../specs/vectors/rails/alipay_notify.json"));
    let cases = file["cases"].as_array().unwrap();
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let got = ours().notice(case["body"].as_str().unwrap().as_bytes());
        let got = match &got {
            Ok(notice) if notice.refund.is_some() => "a refund",
            Ok(notice) if !notice.status.is_paid() => "not paid",
            Ok(notice) if notice.fen.get() != 3600 => "another sum",
            Ok(_) => "credits",
            Err(N::Foreign) => "foreign",
            Err(N::Forged) => "forged",
            Err(N::Malformed(_)) => "malformed",
            Err(N::Unreadable(_)) => "unreadable",
        };
        let expected = match name {
            "success" | "finished" => "credits",
            "wait_buyer_pay" => "not paid",
            "refund_event" | "closed_after_full_refund" => "a refund",
            "tampered_amount" | "tampered_status" | "extra_param" => "forged",
            "missing_sign" | "sign_type_downgrade_RSA" => "malformed",
            "wrong_app_id" | "wrong_seller" => "foreign",
            "amount_mismatch" => "another sum",
            _ => panic!("a case that nobody has thought about: {name}"),
        };
        assert_eq!(got, expected, "{name}");
    }
    assert_eq!(cases.len(), 13);
}

#[test]
fn alipay_5_what_a_notice_tells() {
    let file = vector(include_str!("../../../../specs/vectors/rails/alipay_notify.json"));
    let body = |name: &str| {
        let case = file["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
        case["body"].as_str().unwrap().to_owned()
    };
    let paid = Notice {
        app_id: "2021000000000001".to_owned(),
        seller_id: "2088000000000099".to_owned(),
        out_trade_no: number(TRADE),
        trade_no: TRADE_NO.to_owned(),
        status: TradeStatus::Success,
        fen: Fen::new(3600).unwrap(),
        refund: None,
    };
    assert_eq!(ours().notice(body("success").as_bytes()), Ok(paid));
    let refund = ours().notice(body("refund_event").as_bytes()).unwrap().refund.unwrap();
    assert_eq!(refund.out_request_no, Some(number("rf_1")));
    assert!(refund.total.is_some());
}

/// RAIL-19: whoever rolls the platform's key believes the old one and the new one for a while.
#[test]
fn rail_19_two_platform_keys_at_once() {
    let file = vector(include_str!("../../../../specs/vectors/rails/alipay_notify.json"));
    let body = file["cases"][0]["body"].as_str().unwrap().as_bytes();
    let (old, new) = (key("alipay_platform").verifying(), key("alipay_app").verifying());
    for (keys, is_believed) in [
        (vec![old.clone()], true),
        (vec![new.clone(), old.clone()], true),
        (vec![old, new.clone()], true),
        (vec![new], false),
        (vec![], false),
    ] {
        assert_eq!(alipay(keys).notice(body).is_ok(), is_believed);
    }
}

#[test]
fn nothing_secret_is_printed() {
    let shown = format!("{:?}", ours());
    assert!(shown.contains("SigningKey(RSA, 256 bytes, hidden)") && !shown.contains("MII"), "{shown}");
}
