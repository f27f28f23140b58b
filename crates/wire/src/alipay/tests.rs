//! Whatever arrives is a value or an error.

use proptest::prelude::*;
use serde_json::Value;

use super::{Answer, Fen, Method, NOTICE_BYTES_MAX, NoticeError as E, OwnNumber, Said, SignedNotice};
use crate::form::FormError;

const METHODS: [Method; 5] =
    [Method::Precreate, Method::Query, Method::Close, Method::Refund, Method::RefundQuery];

#[test]
fn alipay_3_an_answer_stands_under_the_name_of_its_call() {
    for method in METHODS {
        let expected = format!("{}_response", method.name().replace('.', "_"));
        assert_eq!(method.answer(), expected);
    }
}

/// RAIL-1: what is signed is cut out as it came, escapes and space and all.
#[test]
fn rail_1_what_is_signed_is_not_written_anew() {
    let file = include_str!("../../../../specs/vectors/rails/alipay_openapi_v2_response.json");
    let file: Value = serde_json::from_str(file).unwrap();
    let cases = file["cases"].as_array().unwrap().iter().filter(|case| case["verify"] == "pass");
    let mut seen = 0;
    for case in cases {
        let body = case["body"].as_str().unwrap();
        let name = case["response_key"].as_str().unwrap();
        let Some(method) =
            METHODS.into_iter().find(|method| [method.answer(), "error_response"].contains(&name))
        else {
            continue;
        };
        let answer = Answer::read(body, method).unwrap();
        assert_eq!(answer.signed, case["signed_substring"].as_str().unwrap());
        assert_eq!(answer.sign, case["sign"].as_str().unwrap());
        seen += 1;
    }
    assert_eq!(seen, 4);
    let odd = r#" { "sign" : "a\/b=" , "alipay_trade_close_response" : { "a" : "\u0022}{\\" , "b":1.50 } } "#;
    let answer = Answer::read(odd, Method::Close).unwrap();
    assert_eq!((answer.signed, answer.sign.as_str()), (r#"{ "a" : "\u0022}{\\" , "b":1.50 }"#, "a/b="));
}

#[test]
fn alipay_5_texts_to_verify_are_those_of_the_sdk() {
    let file = include_str!("../../../../specs/vectors/rails/alipay_notify.json");
    let file: Value = serde_json::from_str(file).unwrap();
    for case in file["cases"].as_array().unwrap() {
        let (name, body) = (case["name"].as_str().unwrap(), case["body"].as_str().unwrap().as_bytes());
        match (name, SignedNotice::read(body)) {
            ("missing_sign", read) => assert_eq!(read.map(drop), Err(E::Unsigned)),
            ("sign_type_downgrade_RSA", read) => assert_eq!(read.map(drop), Err(E::Algorithm)),
            // What was signed is not what came.
            ("tampered_amount" | "tampered_status" | "extra_param", read) => {
                assert_ne!(
                    read.unwrap().string_to_verify(),
                    case["string_to_sign"].as_str().unwrap(),
                    "{name}"
                );
            }
            (_, read) => {
                assert_eq!(
                    read.unwrap().string_to_verify(),
                    case["string_to_sign"].as_str().unwrap(),
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn rail_7_notices_are_bounded_and_plain() {
    let read = |body: &str| SignedNotice::read(body.as_bytes()).map(drop);
    let long = "a".repeat(NOTICE_BYTES_MAX);
    let many: String = (0..128).map(|n| format!("&f{n}=")).collect();
    for (body, expected) in [
        ("sign_type=RSA2&sign=x".to_owned(), Ok(())),
        (format!("{long}b"), Err(E::TooLong)),
        (long, Err(E::Algorithm)),
        (format!("sign_type=RSA2&sign=x{many}"), Err(E::Form(FormError::TooMany(128)))),
        ("sign_type=RSA2&sign=x&sign=y".to_owned(), Err(E::Form(FormError::Twice))),
        ("sign_type=RSA2&sign=x&a=%ff".to_owned(), Err(E::Form(FormError::Encoding))),
        ("sign_type=rsa2&sign=x".to_owned(), Err(E::Algorithm)),
        ("sign_type=RSA2&sign=".to_owned(), Err(E::Unsigned)),
        (String::new(), Err(E::Algorithm)),
    ] {
        assert_eq!(read(&body), expected, "{body:.60}");
    }
    let empty = SignedNotice::read(b"b=&sign_type=RSA2&a=1&sign=x").unwrap();
    assert_eq!(empty.string_to_verify(), "a=1&b=", "what is empty is signed too");
}

/// Any mark of a refund is enough, with something in it or not: what it repeats of the payment never credits twice.
#[test]
fn alipay_5_each_mark_of_a_refund_is_one() {
    let trade = "sign_type=RSA2&sign=x&app_id=a&seller_id=s&out_trade_no=n&trade_no=t&trade_status=TRADE_SUCCESS&total_amount=1.00";
    let open = |more: &str| SignedNotice::read(format!("{trade}{more}").as_bytes()).unwrap().open();
    assert_eq!(open("").unwrap().refund, None);
    for mark in ["refund_fee=0.50", "gmt_refund=2026-11-20 11:00:00.123", "out_biz_no=rf_1", "out_biz_no="] {
        assert!(open(&format!("&{mark}")).unwrap().refund.is_some(), "{mark}");
    }
    for (field, name) in [
        ("app_id=a", "app_id"),
        ("seller_id=s", "seller_id"),
        ("out_trade_no=n", "out_trade_no"),
        ("trade_no=t", "trade_no"),
        ("trade_status=TRADE_SUCCESS", "trade_status"),
        ("total_amount=1.00", "total_amount"),
    ] {
        let without = SignedNotice::read(trade.replace(&format!("&{field}"), "").as_bytes()).unwrap();
        assert_eq!(without.open(), Err(E::Field(name)));
    }
}

fn everything_of(answer: &Answer<'_>) {
    let number = OwnNumber::new("n").unwrap();
    let _ = (answer.precreated(&number), answer.queried(&number), answer.closed(&number));
    let _ = (answer.refunded(&number), answer.refund_queried(&number, &number));
}

proptest! {
    #[test]
    fn any_text_is_an_answer_or_an_error(text in "\\PC{0,80}") {
        for method in METHODS {
            let _ = Answer::read(&text, method).map(|answer| everything_of(&answer));
        }
    }

    #[test]
    fn any_object_is_an_answer_that_says_something(body in "[\\[\\]{}:,\"a0-9.\\\\u-]{0,48}", code in "[0-9]{0,6}") {
        for body in [body.clone(), format!("{{\"code\":\"{code}\",\"out_trade_no\":\"n\",\"x\":{body}}}")] {
            let text = format!("{{\"alipay_trade_close_response\":{body},\"sign\":\"x\"}}");
            let Ok(answer) = Answer::read(&text, Method::Close) else { continue };
            prop_assert_eq!(answer.signed, body.as_str());
            everything_of(&answer);
            if answer.closed(&OwnNumber::new("n").unwrap()) == Said::Done(()) {
                prop_assert_eq!(code.as_str(), "10000");
            }
        }
    }

    #[test]
    fn any_bytes_are_a_notice_or_an_error(body in proptest::collection::vec(any::<u8>(), 0..80), fen in 1..=Fen::MAX) {
        if let Ok(notice) = SignedNotice::read(&body) {
            let _ = notice.open();
        }
        let sum = Fen::new(fen).unwrap();
        let body = [b"sign_type=RSA2&sign=x&total_amount=", sum.to_string().as_bytes(), b"&", &body].concat();
        if let Ok(notice) = SignedNotice::read(&body) {
            let _ = (notice.string_to_verify(), notice.open());
        }
    }
}
