//! What Alipay answers to a call: the part that is signed, cut out as it came, and what it says.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Method;
use crate::json;

/// Members beside each other in an answer, at most.
const MEMBERS_MAX: usize = 8;
/// Longest code that is passed on.
const CODE_BYTES_MAX: usize = 64;
/// What an answer that is about no call in particular stands under.
const ERROR: &str = "error_response";

/// An answer taken apart. Nothing in it is believed before its signature is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The very bytes that the signature is over (RAIL-1).
    pub signed: &'a str,
    /// The signature, base64.
    pub sign: String,
    /// It stands under `error_response`, and so is of no trade: whatever it says, nothing is done and nothing refused.
    is_error: bool,
}

/// Why a text is no answer to the call. Holds no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Not one JSON object of few members, each once.
    #[error("not the JSON object that an answer is")]
    Shape,
    /// No answer to this call, or more than one.
    #[error("not one answer to this call")]
    OtherCall,
    /// Alipay signs no answer to an app that it does not know, or whose signature it could not check.
    #[error("not signed: is app_id right, and does Alipay have the app's public key?")]
    Unsigned,
}

/// What a signed answer says about the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said<T> {
    /// It is done, and this came of it.
    Done(T),
    /// Alipay has decided against it, for this reason.
    Refused(Refusal),
    /// The call was not looked into: what it is about stands as before, whatever that is.
    TurnedAway(TurnedAway),
    /// It may be done or not: to be asked about (RAIL-15).
    Unknown,
}

/// Why Alipay has decided against a call: its `sub_code`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `ACQ.TRADE_NOT_EXIST`; never shown to a payer (RAIL-20).
    pub sub_code: String,
}

/// Why Alipay did not look into a call: mostly something that the operator has to put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnedAway {
    /// `40002`
    pub code: String,
    /// `isv.invalid-signature`
    pub sub_code: String,
}

impl Refusal {
    /// Whether there is no such trade: nobody has scanned its code yet, or it was never made.
    #[must_use]
    pub fn is_no_such_trade(&self) -> bool {
        self.sub_code == "ACQ.TRADE_NOT_EXIST"
    }
}

/// What every answer has.
#[derive(Deserialize)]
struct Coded {
    code: String,
    #[serde(default)]
    sub_code: String,
}

impl<'a> Answer<'a> {
    /// Takes an answer apart. The caller bounds its length.
    ///
    /// # Errors
    /// [`AnswerError`]: what became of the call is not known.
    pub fn read(text: &'a str, method: Method) -> Result<Self, AnswerError> {
        let Members(members) = serde_json::from_str(text).map_err(|_| AnswerError::Shape)?;
        let of = |name: &str| members.iter().find(|(known, _)| known == name).map(|(_, value)| value.get());
        let (signed, is_error) = match (of(method.answer()), of(ERROR)) {
            (Some(signed), None) => (signed, false),
            (None, Some(signed)) => (signed, true),
            (None, None) | (Some(_), Some(_)) => return Err(AnswerError::OtherCall),
        };
        let sign = of("sign").ok_or(AnswerError::Unsigned)?;
        let sign: String = serde_json::from_str(sign).map_err(|_| AnswerError::Shape)?;
        if sign.is_empty() {
            return Err(AnswerError::Unsigned);
        }
        Ok(Self { signed, sign, is_error })
    }

    /// What it says, once its signature is genuine. `read` makes a value of an answer to a call that is done; none where
    /// it is no answer to what was asked for.
    pub fn said<T: for<'de> Deserialize<'de>, U>(&self, read: impl FnOnce(T) -> Option<U>) -> Said<U> {
        let body = json::parse_strict(self.signed.as_bytes()).ok();
        let Some((coded, body)) = body.and_then(|body| Some((Coded::deserialize(&body).ok()?, body))) else {
            return Said::Unknown;
        };
        let Coded { code, sub_code } = coded;
        match code.as_str() {
            "10000" if !self.is_error => {
                T::deserialize(body).ok().and_then(read).map_or(Said::Unknown, Said::Done)
            }
            "40004" if !self.is_error && !is_undecided(&sub_code) => {
                Said::Refused(Refusal { sub_code: shown(&sub_code) })
            }
            "20001" | "40001" | "40002" | "40003" | "40005" | "40006" if !is_undecided(&sub_code) => {
                Said::TurnedAway(TurnedAway { code, sub_code: shown(&sub_code) })
            }
            // 20000 says itself that nothing is known, and a code of tomorrow says nothing to us.
            _ => Said::Unknown,
        }
    }
}

/// Whether a reason leaves open what was done: a failure inside of Alipay, or a number that was used for something else.
fn is_undecided(sub_code: &str) -> bool {
    sub_code.is_empty()
        || sub_code.ends_with("SYSTEM_ERROR")
        || sub_code.ends_with("unknow-error")
        || sub_code == "ACQ.DISCORDANT_REPEAT_REQUEST"
}

/// A code as it may stand in a log.
fn shown(code: &str) -> String {
    let fits = |letter: &char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
    code.chars().filter(fits).take(CODE_BYTES_MAX).collect()
}

/// The members of an object, each as it is written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Raw)
    }
}

struct Raw;

impl<'de> Visitor<'de> for Raw {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut members: Vec<(String, &'de RawValue)> = Vec::new();
        while let Some((name, value)) = object.next_entry::<String, &'de RawValue>()? {
            if members.len() == MEMBERS_MAX || members.iter().any(|(known, _)| *known == name) {
                return Err(serde::de::Error::custom("too many members, or one twice"));
            }
            members.push((name, value));
        }
        Ok(Members(members))
    }
}
