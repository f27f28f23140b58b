//! `rails.alipay`, right and wrong.

use std::time::Duration;

use rails::rsa2::{SigningKey, VerifyingKey};
use serde_json::Value;

use super::{ALIPAY_KEYS, check};
use crate::config::Alipay;

fn keys() -> Value {
    serde_json::from_str(ALIPAY_KEYS).unwrap()
}

/// The bare base64 that Alipay's console shows.
fn public(name: &str) -> String {
    let pem = keys()[name]["public_spki_pem"].as_str().unwrap().to_owned();
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}

fn with(mode: &str, alipay: &str) -> String {
    format!(
        "mode: {mode}\nserver: {{ hosts: [gw.example] }}\nupstreams: {{ a: {{ url: http://127.0.0.1:8000, dialect: openai }} }}\n\
         prices: {{ \"*\": {{ input: 1 USD/Mtok, output: 2 USD/Mtok }} }}\n\
         rails: {{ alipay: {{ {alipay} }} }}\ntop_up: {{ exchange: {{ CNY: 0.139 USD }} }}\n"
    )
}

fn numbers() -> String {
    "app_id: \"2021000000000001\", seller_id: \"2088000000000099\"".to_owned()
}

/// All that has to be there.
fn minimal() -> String {
    format!("{}, key: \"${{env:ALIPAY_KEY}}\", platform_keys: \"{}\"", numbers(), public("alipay_platform"))
}

fn read(mode: &str, alipay: &str) -> Alipay {
    check(&with(mode, alipay)).unwrap().rails.alipay.unwrap()
}

#[test]
fn every_key_of_alipay_arrives() {
    let plain = read("live", &minimal());
    assert_eq!((plain.app_id.as_str(), plain.seller_id.as_str()), ("2021000000000001", "2088000000000099"));
    assert_eq!(plain.url.to_string(), "https://openapi.alipay.com/gateway.do");
    assert_eq!((plain.notify_base.is_none(), plain.subject.as_str()), (true, "API credit"));
    assert_eq!(plain.time_max, Duration::from_secs(10));
    let private = keys()["alipay_app"]["private_pkcs8_der_b64"].as_str().unwrap().to_owned();
    assert_eq!(plain.key.verifying(), SigningKey::read(&private).unwrap().verifying());
    assert_eq!(plain.platform_keys, [VerifyingKey::read(&public("alipay_platform")).unwrap()]);
    assert_eq!(
        read("test", &minimal()).url.to_string(),
        "https://openapi-sandbox.dl.alipaydev.com/gateway.do"
    );
    let all = format!(
        "{}, key: \"${{file:alipay.pem}}\", platform_keys: [\"{}\", \"{}\"], url: \"http://127.0.0.1:9/gateway.do\", \
         notify_base: \"https://gw.example/x\", subject: 预付费额度, timeout: 3s",
        numbers(),
        public("alipay_platform"),
        public("alipay_platform")
    );
    let all = read("test", &all);
    assert_eq!((all.platform_keys.len(), all.key.verifying()), (2, plain.key.verifying()));
    assert_eq!((all.url.port, all.time_max), (9, Duration::from_secs(3)));
    assert_eq!(all.notify_base.as_ref().unwrap().to_string(), "https://gw.example/x");
    assert_eq!(all.subject, "预付费额度");
    assert!(!format!("{all:?}").contains("MII"));
}

/// ALIPAY-7: keys that cannot do their part, and money of the other kind.
#[test]
fn alipay_7_a_wrong_section_says_what_is_wrong() {
    let swap = |of: &str, by: &str| minimal().replace(of, by);
    let platform = public("alipay_platform");
    for (mode, alipay, wrong) in [
        ("live", numbers(), "needs \"key\": the app's private key"),
        ("live", format!("{}, key: \"${{env:ALIPAY_KEY}}\"", numbers()), "needs \"platform_keys\""),
        ("live", swap("app_id: \"2021000000000001\", ", ""), "needs \"app_id\""),
        ("live", swap("\"2021000000000001\"", "2021"), "not an app_id: 16 digits, in quotes"),
        ("live", swap("\"2088000000000099\"", "\"3088000000000099\""), "16 digits that begin with 2088"),
        ("live", swap("ALIPAY_KEY", "API_KEY"), "rails.alipay.key: is neither base64 nor a PEM file"),
        ("live", swap("${env:ALIPAY_KEY}", &platform), "a secret never stands in the file"),
        ("live", swap("ALIPAY_KEY", "ALIPAY_PUBLIC"), "rails.alipay.key: is a public key"),
        ("live", swap(&platform, "MIIB"), "is no RSA key in a form that we read"),
        ("live", swap(&platform, &public("alipay_app")), "this is the app's own public key"),
        ("live", minimal().replace(&format!("\"{platform}\""), "[]"), "between 1 and 4"),
        ("live", format!("{}, url: \"http://127.0.0.1:9\"", minimal()), "by https in mode live"),
        ("live", format!("{}, url: \"http://alipay.example\"", minimal()), "Alipay is reached by https"),
        (
            "live",
            format!("{}, url: \"https://openapi-sandbox.dl.alipaydev.com/gateway.do\"", minimal()),
            "sandbox exists in mode test only",
        ),
        (
            "test",
            format!("{}, url: \"https://openapi.alipay.com/gateway.do\"", minimal()),
            "real money needs mode live",
        ),
        (
            "live",
            format!("{}, notify_base: \"http://gw.example\"", minimal()),
            "this gateway is reached by https",
        ),
        ("live", format!("{}, subject: a/b", minimal()), "without / = &"),
        ("live", format!("{}, encrypt_key: x", minimal()), "not supported yet"),
        ("live", format!("{}, appid: x", minimal()), "did you mean \"app_id\"?"),
    ] {
        let error = check(&with(mode, &alipay)).map(drop).unwrap_err().to_string();
        assert!(error.contains(wrong), "{wrong}: {error}");
        let private = keys()["alipay_app"]["private_pkcs8_der_b64"].as_str().unwrap()[..40].to_owned();
        assert!(!error.contains(&private), "{error}");
    }
}

#[test]
fn notices_must_get_through_the_wall() {
    let alipay = format!("{}, notify_base: \"https://other.example\"", minimal());
    let errors = check(&with("live", &alipay)).map(|_| ()).unwrap_err().to_string();
    assert!(errors.contains("notices to other.example are turned away"), "{errors}");
}

#[test]
fn balance_needs_its_price() {
    let text = with("live", &minimal());
    let (unpriced, _) = text.split_once("top_up").unwrap();
    let errors = check(unpriced).map(|_| ()).unwrap_err().to_string();
    assert!(errors.contains("rails.alipay needs \"top_up\": what is a yuan as credit?"), "{errors}");
}
