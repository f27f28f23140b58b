//! The breaker: a host that refuses payments again and again, or raises its price out of the blue, is paid
//! nothing more for a while, or until somebody has looked.

use money::Amount;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use wire::hex;

use super::{Host, nano};
use crate::Request;

/// So many failures in a row, with nothing served between them ...
pub(super) const FAILURES_MAX: usize = 3;
/// ... within this time ...
const FAILURES_WITHIN_S: u64 = 600;
/// ... pause payments for this long.
const PAUSE_S: u64 = 600;
/// A price more than so many times the last one for a request of the same shape stops payments. What varies
/// within a shape, the length of a body and tariffs by the hour of the day, stays below it.
const PRICE_FACTOR_MAX: i64 = 5;
/// Most shapes whose last price is remembered; the oldest go first.
const PRICES_MAX: usize = 256;
/// A longer body is not looked into.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Why nothing is paid to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Stop {
    /// Payments that were refused or left open, in a row. A pause.
    Failures {
        /// Unix seconds.
        until: u64,
    },
    /// A price jumped. Until somebody says that it is right.
    Price {
        /// What it was.
        #[serde(rename = "last_nano", with = "nano")]
        last: Amount,
        /// What was asked.
        #[serde(rename = "asked_nano", with = "nano")]
        asked: Amount,
    },
}

/// The breaker of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Breaker {
    /// Unix seconds of the failures since something was served; at most [`FAILURES_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    failures: Vec<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stop: Option<Stop>,
}

/// What a price is compared by: a digest of host, method, path, and what of the body tells one kind of call
/// from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Shape(String);

/// The last prices, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Prices(Vec<Known>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    shape: Shape,
    host: Host,
    #[serde(rename = "price_nano", with = "nano")]
    price: Amount,
}

impl Breaker {
    /// Forgets what is over.
    pub(super) fn roll(&mut self, now_unix_s: u64) {
        self.failures.retain(|at| at.saturating_add(FAILURES_WITHIN_S) > now_unix_s);
        if let Some(Stop::Failures { until }) = self.stop
            && until <= now_unix_s
        {
            self.stop = None;
        }
    }

    pub(super) const fn stop(&self) -> Option<Stop> {
        self.stop
    }

    pub(super) fn fail(&mut self, now_unix_s: u64) {
        self.failures.push(now_unix_s);
        if self.failures.len() >= FAILURES_MAX {
            self.failures.clear();
            let until = now_unix_s.saturating_add(PAUSE_S);
            // A jump of the price stays what must be looked at.
            self.stop.get_or_insert(Stop::Failures { until });
        }
    }

    pub(super) fn jump(&mut self, last: Amount, asked: Amount) -> Stop {
        *self.stop.insert(Stop::Price { last, asked })
    }

    pub(super) fn serve(&mut self) {
        self.failures.clear();
    }

    pub(super) const fn is_idle(&self) -> bool {
        self.failures.is_empty() && self.stop.is_none()
    }
}

impl Shape {
    /// Of a request. Of a JSON body count the members that are numbers, words or yes and no (`model`,
    /// `max_tokens`, `size` ...); of everything only the magnitude of its length.
    pub(crate) fn of(host: &Host, request: &Request) -> Self {
        let path = request.target.path();
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let magnitude = request.body.len().checked_ilog2().unwrap_or_default();
        let mut hasher = Sha256::new();
        for field in [
            host.as_str(),
            request.method.as_str(),
            path,
            &magnitude.to_string(),
            &telling(&request.body).unwrap_or_default(),
        ] {
            hasher.update(u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(field);
        }
        Self(hex::encode(hasher.finalize().get(..8).unwrap_or_default()))
    }

    /// The same, of what an invoice buys: credit for several calls, beside which the price of one is no measure.
    pub(crate) fn of_invoice(self) -> Self {
        Self(format!("{}-l402", self.0))
    }
}

/// The telling members of a JSON body, in the order of their names.
fn telling(body: &[u8]) -> Option<String> {
    const WORD_BYTES_MAX: usize = 64;
    if body.len() > BODY_BYTES_MAX {
        return None;
    }
    let Ok(Value::Object(mut members)) = serde_json::from_slice(body) else { return None };
    members.retain(|_, value| match value {
        Value::Number(_) | Value::Bool(_) => true,
        Value::String(text) => text.len() <= WORD_BYTES_MAX && !text.contains(char::is_whitespace),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    });
    Some(Value::Object(members).to_string())
}

impl Prices {
    /// The last price, if this one is out of all proportion to it.
    pub(super) fn jump(&self, shape: &Shape, price: Amount) -> Option<Amount> {
        let known = self.0.iter().find(|known| known.shape == *shape)?;
        let bound = known.price.units().saturating_mul(PRICE_FACTOR_MAX);
        (price.units() > bound).then_some(known.price)
    }

    pub(super) fn learn(&mut self, shape: &Shape, host: &Host, price: Amount) {
        self.0.retain(|known| known.shape != *shape);
        // After something free any price would be a jump.
        if price == Amount::ZERO {
            return;
        }
        self.0.push(Known { shape: shape.clone(), host: host.clone(), price });
        let surplus = self.0.len().saturating_sub(PRICES_MAX);
        self.0.drain(..surplus);
    }

    pub(super) fn forget(&mut self, host: &Host) {
        self.0.retain(|known| known.host != *host);
    }
}

#[cfg(test)]
mod tests {
    use super::{Breaker, FAILURES_WITHIN_S, PAUSE_S, PRICES_MAX, Prices, Shape, Stop};
    use crate::Request;
    use crate::budget::Host;
    use http::Method;
    use money::Amount;

    fn nano(units: i64) -> Amount {
        Amount::from_units(units)
    }

    #[test]
    fn three_failures_in_a_row_are_a_pause() {
        let late = FAILURES_WITHIN_S;
        for (situation, served_after, times, expected) in [
            ("in a row", None, [0, 1, 2], Some(Stop::Failures { until: 2 + PAUSE_S })),
            ("something was served between", Some(1), [0, 1, 2], None),
            ("too far apart", None, [0, 1, late], None),
            ("just within", None, [0, 1, late - 1], Some(Stop::Failures { until: late - 1 + PAUSE_S })),
        ] {
            let mut breaker = Breaker::default();
            for (index, at) in times.into_iter().enumerate() {
                breaker.roll(at);
                breaker.fail(at);
                if served_after == Some(index) {
                    breaker.serve();
                }
            }
            assert_eq!(breaker.stop(), expected, "{situation}");
            breaker.roll(late + PAUSE_S - 2);
            breaker.roll(late + 2 * PAUSE_S);
            assert!(breaker.is_idle(), "{situation}: a pause ends by itself");
        }
        let mut breaker = Breaker::default();
        let stop = breaker.jump(nano(1), nano(9));
        (0..9).for_each(|at| breaker.fail(at));
        breaker.roll(u64::MAX);
        assert_eq!(breaker.stop(), Some(stop), "a price waits for a person");
    }

    #[test]
    fn price_table() {
        let host: Host = "a.example".parse().unwrap();
        let shape = Shape("s".into());
        for (situation, known, asked, expected) in [
            ("nothing known", vec![], i64::MAX, None),
            ("five times is dear", vec![10], 50, None),
            ("more is a jump", vec![10], 51, Some(10)),
            ("the last one counts", vec![10, 2], 11, Some(2)),
            ("nothing follows from a gift", vec![10, 0], 51, None),
            ("no overflow", vec![i64::MAX], i64::MAX, None),
        ] {
            let mut prices = Prices::default();
            for price in known {
                prices.learn(&shape, &host, nano(price));
            }
            assert_eq!(prices.jump(&shape, nano(asked)).map(Amount::units), expected, "{situation}");
        }
        let mut prices = Prices::default();
        for number in 0..PRICES_MAX + 5 {
            prices.learn(&Shape(number.to_string()), &host, nano(1));
        }
        assert_eq!(prices.0.len(), PRICES_MAX);
        prices.forget(&host);
        assert!(prices.0.is_empty());
    }

    #[test]
    fn shapes_tell_kinds_of_calls_apart() {
        let shape = |url: &str, body: &'static str| {
            let request = Request::new(Method::POST, url).unwrap().body(body);
            Shape::of(&Host::of(request.target()).unwrap(), &request)
        };
        let url = "https://a.example/v1?x=1";
        let base = shape(url, r#"{"model":"m","n":1,"messages":["hello you"]}"#);
        for (situation, url, body, same) in [
            ("another text", url, r#"{"model":"m","n":1,"messages":["other txt"]}"#, true),
            ("another order", url, r#"{"n":1,"model":"m","messages":["hello you"]}"#, true),
            (
                "another query and port",
                "https://a.example:8/v1?y",
                r#"{"model":"m","n":1,"messages":["hello you"]}"#,
                true,
            ),
            ("another model", url, r#"{"model":"x","n":1,"messages":["hello you"]}"#, false),
            ("another number", url, r#"{"model":"m","n":4,"messages":["hello you"]}"#, false),
            (
                "a far longer text",
                url,
                r#"{"model":"m","n":1,"messages":["hello you and all the others"]}"#,
                true,
            ),
            (
                "another path",
                "https://a.example/v2",
                r#"{"model":"m","n":1,"messages":["hello you"]}"#,
                false,
            ),
        ] {
            assert_eq!(shape(url, body) == base, same, "{situation}");
        }
        let long: &'static str = Box::leak("x".repeat(4096).into_boxed_str());
        assert_ne!(shape(url, "x"), shape(url, long), "of everything the magnitude counts");
    }
}
