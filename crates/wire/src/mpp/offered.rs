//! Challenges as a payer reads them out of `WWW-Authenticate` (MPP-6).
//!
//! A challenge that cannot be read is left out; it never breaks the others, and no parameter of one scheme passes into
//! the next challenge.

use super::SCHEME;
use super::challenge::{Challenge, TEXT_BYTES_MAX, is_intent_name, is_method_name};
use crate::authenticate::{self, LINE_BYTES_MAX};
use crate::rfc3339;

/// Most lines that are looked into.
pub const LINES_MAX: usize = 32;
/// Most challenges that are taken from one answer.
pub const OFFERS_MAX: usize = 32;

/// The challenges of all lines, in their order, whose `request` is a JSON object.
#[must_use]
pub fn challenges<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Vec<Challenge> {
    let mut offers = parse(lines);
    offers.retain(|challenge| challenge.request_object().is_ok());
    offers
}

/// The challenges whose parameters stand as they should, whatever `request` holds.
pub(crate) fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Vec<Challenge> {
    let lines = lines.into_iter().take(LINES_MAX).filter(|line| line.len() <= LINE_BYTES_MAX);
    lines.flat_map(authenticate::challenges).filter_map(|found| read(&found)).take(OFFERS_MAX).collect()
}

fn read(found: &authenticate::Challenge) -> Option<Challenge> {
    if !found.scheme.eq_ignore_ascii_case(SCHEME) || found.is_cut_off {
        return None;
    }
    let mut challenge = Challenge::default();
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in &found.params {
        let name = name.to_ascii_lowercase();
        // Twice the same parameter: two readers would see two challenges.
        if seen.contains(&name) {
            return None;
        }
        challenge.set(&name, text(value));
        seen.push(name);
    }
    let is_whole = !challenge.id.is_empty()
        && seen.iter().any(|name| name == "realm")
        && is_method_name(&challenge.method)
        && is_intent_name(&challenge.intent)
        && (1..=TEXT_BYTES_MAX).contains(&challenge.request.len());
    let is_timed = challenge.expires.as_deref().is_none_or(|expires| rfc3339::parse(expires).is_some());
    (is_whole && is_timed).then_some(challenge)
}

impl Challenge {
    /// Unknown names are ignored.
    fn set(&mut self, name: &str, value: String) {
        match name {
            "id" => self.id = value,
            "realm" => self.realm = value,
            "method" => self.method = value,
            "intent" => self.intent = value,
            "request" => self.request = value,
            "expires" => self.expires = Some(value),
            "digest" => self.digest = Some(value),
            "opaque" => self.opaque = Some(value),
            "description" => self.description = Some(value),
            "header" => self.header = Some(value),
            _ => {}
        }
    }
}

/// UTF-8 where it is that, else each byte as its character: what is displayed may be either, and what is bound is ASCII.
fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| bytes.iter().copied().map(char::from).collect())
}
