//! `Accept-Payment`: which offers a client can pay, and which it likes better (MPP-20).
//!
//! ```text
//! Accept-Payment = 1#( ( method / "*" ) "/" ( intent / "*" ) *( OWS ";" OWS parameter ) )
//! ```
//! Of the ranges that cover an offer the most specific one counts: a named method beats a wildcard, then a named
//! intent. Its `q`, in thousandths, ranks the offer; 0 forbids it.

use super::challenge::{is_intent_name, is_method_name};

/// Longest header that is read.
pub const VALUE_BYTES_MAX: usize = 4 * 1024;
/// Most ranges that are read.
pub const RANGES_MAX: usize = 64;

/// A header that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptPayment {
    ranges: Vec<Range>,
}

/// One element; `None` is the wildcard.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    method: Option<String>,
    intent: Option<String>,
    /// 0 to 1000.
    quality: u16,
}

impl AcceptPayment {
    /// Reads a header; `None` when it is malformed, and is then to be ignored as a whole.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        if value.len() > VALUE_BYTES_MAX {
            return None;
        }
        let ranges = value.split(',').take(RANGES_MAX + 1).map(Range::parse).collect::<Option<Vec<_>>>()?;
        (ranges.len() <= RANGES_MAX).then_some(Self { ranges })
    }

    /// How much an offer is liked, 1 to 1000; `None` when it is not accepted.
    #[must_use]
    pub fn quality(&self, method: &str, intent: &str) -> Option<u16> {
        let covering = self.ranges.iter().filter(|range| range.covers(method, intent));
        // Of two equally specific ones the first counts.
        let best =
            covering.reduce(|best, range| if range.weight() > best.weight() { range } else { best })?;
        (best.quality > 0).then_some(best.quality)
    }

    /// The places of the accepted offers, best first; of equals the server's order stays.
    #[must_use]
    pub fn rank<'a>(&self, offers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<usize> {
        let offers = offers.into_iter().enumerate();
        let accepted = offers.filter_map(|(at, (method, intent))| Some((self.quality(method, intent)?, at)));
        let mut ranked: Vec<_> = accepted.collect();
        ranked.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
        ranked.into_iter().map(|(_, at)| at).collect()
    }
}

impl Range {
    fn parse(element: &str) -> Option<Self> {
        let mut parts = element.split(';').map(|part| part.trim_matches([' ', '\t']));
        let (method, intent) = parts.next()?.split_once('/')?;
        let named = |name: &str, is_name: fn(&str) -> bool| match name {
            "*" => Some(None),
            _ => is_name(name).then(|| Some(name.to_owned())),
        };
        let (method, intent) = (named(method, is_method_name)?, named(intent, is_intent_name)?);
        let mut quality = 1000;
        for parameter in parts {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if name.trim_end().eq_ignore_ascii_case("q") {
                quality = thousandths(value.trim_start())?;
            }
        }
        Some(Self { method, intent, quality })
    }

    fn covers(&self, method: &str, intent: &str) -> bool {
        self.method.as_deref().is_none_or(|named| named == method)
            && self.intent.as_deref().is_none_or(|named| named == intent)
    }

    const fn weight(&self) -> (bool, bool) {
        (self.method.is_some(), self.intent.is_some())
    }
}

/// `qvalue` of RFC 9110: `0` or `1`, with at most three digits behind the point.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let fraction: u16 = digits.then(|| format!("{fraction:0<3}"))?.parse().ok()?;
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(1000),
        _ => None,
    }
}
