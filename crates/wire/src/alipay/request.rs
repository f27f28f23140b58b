//! A call: its parameters, the text that is signed of them, the form that is sent.

use std::borrow::Cow;

use super::{Method, SIGN_TYPE, signed_text};
use crate::{form, rfc3339};

/// Beijing is eight hours ahead of UTC, all year.
const BEIJING_S: u64 = 8 * 3_600;

/// One call before it is signed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who asks.
    pub app_id: &'a str,
    /// What for.
    pub method: Method,
    /// When, in Unix seconds.
    pub now_s: u64,
    /// Where notices of the trade go; some calls have none.
    pub notify_url: Option<&'a str>,
    /// `biz_content`, as it is signed and sent.
    pub content: &'a str,
}

/// The parameters of a call, in the order they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params<'a>(Vec<(&'a str, Cow<'a, str>)>);

impl<'a> Request<'a> {
    /// None beyond the year 9999.
    #[must_use]
    pub fn params(&self) -> Option<Params<'a>> {
        let mut fields = vec![
            ("method", self.method.name().into()),
            ("app_id", self.app_id.into()),
            ("charset", "utf-8".into()),
            ("version", "1.0".into()),
            ("sign_type", SIGN_TYPE.into()),
            ("timestamp", beijing_time(self.now_s)?.into()),
        ];
        fields.extend(self.notify_url.map(|url| ("notify_url", url.into())));
        fields.push(("biz_content", self.content.into()));
        Some(Params(fields))
    }
}

impl Params<'_> {
    fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_ref()))
    }

    /// What the signature is over: all that has a value, `sign_type` too.
    #[must_use]
    pub fn string_to_sign(&self) -> String {
        signed_text(self.fields().filter(|(name, value)| *name != "sign" && !value.is_empty()))
    }

    /// The body that is sent, with the signature in base64.
    #[must_use]
    pub fn form(&self, sign: &str) -> String {
        let fields: Vec<(&str, &str)> = self.fields().chain([("sign", sign)]).collect();
        form::encode(&fields)
    }
}

/// `2026-11-20 10:28:47`; none beyond the year 9999.
fn beijing_time(unix_s: u64) -> Option<String> {
    let text = rfc3339::format(unix_s.checked_add(BEIJING_S)?)?;
    Some(format!("{} {}", text.get(..10)?, text.get(11..19)?))
}

#[cfg(test)]
mod tests {
    use super::{Params, Request, beijing_time};
    use crate::alipay::{Method, OwnNumber, Query};
    use serde_json::Value;

    fn vector() -> Value {
        let text = include_str!("../../../../specs/vectors/rails/alipay_openapi_v2_request.json");
        serde_json::from_str(text).unwrap()
    }

    /// Requests of the official SDK: the same text to sign and the same form, letter by letter.
    #[test]
    fn alipay_2_requests_of_the_sdk() {
        let file = vector();
        let cases = file["cases"].as_array().unwrap();
        for case in cases {
            let params = case["params"].as_object().unwrap();
            // The order in which the SDK has sent them.
            let names =
                case["form_body"].as_str().unwrap().split('&').map(|pair| pair.split_once('=').unwrap().0);
            let names = names.filter(|name| *name != "sign");
            let params = Params(names.map(|name| (name, params[name].as_str().unwrap().into())).collect());
            let sign = case["sign"].as_str().unwrap();
            assert_eq!(params.string_to_sign(), case["string_to_sign"].as_str().unwrap());
            assert_eq!(params.form(sign), case["form_body"].as_str().unwrap());
        }
        assert_eq!(cases.len(), 8);
    }

    /// The whole of a request that we make is what the SDK makes of the same.
    #[test]
    fn alipay_2_a_request_of_ours_is_the_sdks() {
        let file = vector();
        let cases = file["cases"].as_array().unwrap();
        let case = cases.iter().find(|case| case["method"] == "alipay.trade.query").unwrap();
        let content = Query(&OwnNumber::new("topup_01J0000000000000000000001").unwrap()).json();
        let now_s = crate::rfc3339::parse("2026-11-20T10:28:47+08:00").unwrap();
        let request = Request {
            app_id: "2021000000000001",
            method: Method::Query,
            now_s,
            notify_url: None,
            content: &content,
        };
        let params = request.params().unwrap();
        assert_eq!(params.string_to_sign(), case["string_to_sign"].as_str().unwrap());
        assert_eq!(params.form(case["sign"].as_str().unwrap()), case["form_body"].as_str().unwrap());
        let noted = Request { notify_url: Some("https://a.example/n"), ..request }.params().unwrap();
        assert!(noted.string_to_sign().contains("&notify_url=https://a.example/n&sign_type=RSA2&"));
    }

    #[test]
    fn alipay_2_what_is_empty_is_not_signed() {
        let params =
            Params(vec![("b", "2".into()), ("sign", "x".into()), ("a", "".into()), ("B", "1".into())]);
        assert_eq!(params.string_to_sign(), "B=1&b=2");
    }

    #[test]
    fn times_are_those_of_beijing() {
        assert_eq!(beijing_time(1_795_140_000).unwrap(), "2026-11-20 10:00:00");
        assert_eq!(beijing_time(1_798_732_800).unwrap(), "2027-01-01 00:00:00");
        assert_eq!(beijing_time(u64::MAX), None);
    }
}
