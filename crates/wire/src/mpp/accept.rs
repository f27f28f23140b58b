//! `Accept-Payment`: which offers a client can pay, and which it likes better (MPP-20).
//!
//! ```text
//! Accept-Payment = 1#( ( method / "*" ) "/" ( intent / "*" ) *( OWS ";" OWS [ name BWS "=" BWS value ] ) )
//! ```
//! Of the ranges that cover an offer the most specific one counts: a named method beats a wildcard, then a named
//! intent, then the higher `q`. That, in thousandths, ranks the offer; 0 forbids it.

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
        let elements = value.split(',').map(str::trim).filter(|element| !element.is_empty());
        let ranges = elements.take(RANGES_MAX + 1).map(Range::parse).collect::<Option<Vec<_>>>()?;
        (1..=RANGES_MAX).contains(&ranges.len()).then_some(Self { ranges })
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
        let mut parts = element.split(';').map(str::trim);
        let (method, intent) = parts.next()?.split_once('/')?;
        let (method, intent) = (wildcard_or(method, is_method)?, wildcard_or(intent, is_intent)?);
        let mut quality = 1000;
        for parameter in parts.filter(|part| !part.is_empty()) {
            let (name, value) = parameter.split_once('=')?;
            let (name, value) = (name.trim(), value.trim());
            let is_name = !name.is_empty() && name.bytes().all(is_parameter);
            if !is_name || value.is_empty() || value.contains(char::is_whitespace) {
                return None;
            }
            if name.eq_ignore_ascii_case("q") {
                quality = thousandths(value)?;
            }
        }
        Some(Self { method, intent, quality })
    }

    fn covers(&self, method: &str, intent: &str) -> bool {
        self.method.as_deref().is_none_or(|named| named == method)
            && self.intent.as_deref().is_none_or(|named| named == intent)
    }

    const fn weight(&self) -> (bool, bool, u16) {
        (self.method.is_some(), self.intent.is_some(), self.quality)
    }
}

/// `None` inside is the wildcard.
fn wildcard_or(name: &str, allowed: fn(u8) -> bool) -> Option<Option<String>> {
    if name == "*" {
        return Some(None);
    }
    (!name.is_empty() && name.bytes().all(allowed)).then(|| Some(name.to_owned()))
}

const fn is_intent(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

const fn is_method(byte: u8) -> bool {
    is_intent(byte) || matches!(byte, b':' | b'_')
}

const fn is_parameter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
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
