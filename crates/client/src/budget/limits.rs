//! The caps of one host, or of all together.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use money::Amount;
use serde::{Deserialize, Serialize};

use super::nano;
use super::window::Span;
use crate::policy::{CapError, parse_cap};
use crate::{Policy, Target};

/// Longest name of a host that DNS allows.
const HOST_BYTES_MAX: usize = 253;

/// Whom caps are for: the name in the URL, without its port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Host(String);

/// Text that names no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a host, such as api.example.com")]
pub struct HostError;

/// Caps; what is `None` has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Of one call.
    #[serde(rename = "call_nano", default, skip_serializing_if = "Option::is_none", with = "nano::option")]
    pub call: Option<Amount>,
    /// Of an hour.
    #[serde(rename = "hour_nano", default, skip_serializing_if = "Option::is_none", with = "nano::option")]
    pub hour: Option<Amount>,
    /// Of a day.
    #[serde(rename = "day_nano", default, skip_serializing_if = "Option::is_none", with = "nano::option")]
    pub day: Option<Amount>,
    /// Above this a call needs a yes.
    #[serde(
        rename = "approve_above_nano",
        default,
        skip_serializing_if = "Option::is_none",
        with = "nano::option"
    )]
    pub approve_above: Option<Amount>,
}

/// A cap of a window, as people write it: `1usd/day`, `0.2 USD/hour`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanCap {
    /// At most so much
    pub amount: Amount,
    /// in each.
    pub span: Span,
}

/// A cap of a window that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpanCapError {
    /// Nothing we count by.
    #[error("needs /hour or /day, such as 1usd/day")]
    Span,
    /// Not an amount.
    #[error(transparent)]
    Amount(#[from] CapError),
}

impl Host {
    /// Of a URL.
    ///
    /// # Errors
    /// [`HostError`] for one that is longer than DNS allows.
    pub(crate) fn of(target: &Target) -> Result<Self, HostError> {
        let name = target.origin().host.trim_end_matches('.');
        // An address is one host, however it is spelled.
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(Self(address.to_string()));
        }
        if name.is_empty() || name.len() > HOST_BYTES_MAX {
            return Err(HostError);
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Host {
    type Err = HostError;

    /// Reads a name as a URL would have it; a port, a path or a scheme is refused.
    fn from_str(text: &str) -> Result<Self, HostError> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<Ipv6Addr>() {
            return Ok(Self(address.to_string()));
        }
        if text.contains([':', '/', '?', '#']) {
            return Err(HostError);
        }
        Self::of(&Target::parse(&format!("https://{text}")).map_err(|_| HostError)?)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SpanCap {
    type Err = SpanCapError;

    fn from_str(text: &str) -> Result<Self, SpanCapError> {
        let (amount, span) = text.rsplit_once('/').ok_or(SpanCapError::Span)?;
        let span = match span.trim() {
            "hour" | "h" => Span::Hour,
            "day" | "d" => Span::Day,
            _ => return Err(SpanCapError::Span),
        };
        Ok(Self { amount: parse_cap(amount)?, span })
    }
}

impl Limits {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The cap of a window.
    #[must_use]
    pub const fn of(&self, span: Span) -> Option<Amount> {
        match span {
            Span::Hour => self.hour,
            Span::Day => self.day,
        }
    }

    /// With the cap of a window.
    #[must_use]
    pub const fn with(mut self, cap: SpanCap) -> Self {
        match cap.span {
            Span::Hour => self.hour = Some(cap.amount),
            Span::Day => self.day = Some(cap.amount),
        }
        self
    }

    /// With each cap that `newer` names in place of ours.
    pub(super) fn renewed(self, newer: Self) -> Self {
        Self {
            call: newer.call.or(self.call),
            hour: newer.hour.or(self.hour),
            day: newer.day.or(self.day),
            approve_above: newer.approve_above.or(self.approve_above),
        }
    }

    /// A policy that is no wider than these caps.
    pub(super) fn narrow(&self, policy: Policy) -> Policy {
        let least = |ours: Option<Amount>, theirs: Amount| ours.map_or(theirs, |ours| ours.min(theirs));
        Policy {
            max: least(self.call, policy.max),
            approve_above: least(self.approve_above, policy.approve_above),
            ..policy
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Host, HostError, SpanCap, SpanCapError};
    use crate::budget::Span;
    use crate::policy::CapError;

    #[test]
    fn host_table() {
        for (text, expected) in [
            ("api.example.com", Some("api.example.com")),
            ("API.Example.com.", Some("api.example.com")),
            ("127.0.0.1", Some("127.0.0.1")),
            ("::1", Some("::1")),
            ("[0:0::1]", Some("::1")),
            ("localhost:80", None),
            ("localhost:443", None),
            ("https://api.example.com", None),
            ("api.example.com/v1", None),
            ("a@b", None),
            ("", None),
        ] {
            let host = text.parse::<Host>();
            assert_eq!(host.as_ref().map(Host::as_str), expected.ok_or(&HostError), "{text}");
        }
    }

    #[test]
    fn span_cap_table() {
        for (text, expected) in [
            ("1usd/day", Ok((1_000_000_000, Span::Day))),
            ("0.2 USD/hour", Ok((200_000_000, Span::Hour))),
            ("0usd/h", Ok((0, Span::Hour))),
            ("1usd", Err(SpanCapError::Span)),
            ("1usd/week", Err(SpanCapError::Span)),
            ("1/day", Err(SpanCapError::Amount(CapError::Unit))),
        ] {
            let cap = text.parse::<SpanCap>().map(|cap| (cap.amount.units(), cap.span));
            assert_eq!(cap, expected, "{text}");
        }
    }
}
