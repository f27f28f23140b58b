//! Challenges as a payer reads them out of `WWW-Authenticate` (MPP-6).
//!
//! A challenge that cannot be read is left out; it never breaks the others, and no parameter of one scheme passes into
//! the next challenge.

use super::challenge::{Challenge, TEXT_BYTES_MAX, is_intent_name, is_method_name};
use super::{SCHEME, digest};
use crate::authenticate::{self, LINE_BYTES_MAX};
use crate::{base64, rfc3339};

/// Most lines that are looked into.
pub const LINES_MAX: usize = 32;
/// Most challenges that are taken from one answer.
pub const OFFERS_MAX: usize = 32;

/// The challenges of all lines, in their order, whose `request` is a JSON object.
#[must_use]
pub fn challenges<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Vec<Challenge> {
    let mut offers = parse(lines);
    offers.retain(Challenge::is_answerable);
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
    (seen.iter().any(|name| name == "realm") && challenge.is_whole()).then_some(challenge)
}

fn is_base64url(text: &str) -> bool {
    base64::decode_url_any_padding(text, TEXT_BYTES_MAX).is_ok()
}

impl Challenge {
    /// Whether a client can answer it.
    pub(super) fn is_answerable(&self) -> bool {
        self.is_whole() && self.request_object().is_ok()
    }

    /// Whether each parameter is what it should be, `request` aside.
    fn is_whole(&self) -> bool {
        let is_named = !self.id.is_empty()
            && is_method_name(&self.method)
            && is_intent_name(&self.intent)
            && (1..=TEXT_BYTES_MAX).contains(&self.request.len());
        let is_timed = self.expires.as_deref().is_none_or(|expires| rfc3339::parse(expires).is_some());
        let is_bound = self.digest.as_deref().is_none_or(digest::is_shaped)
            && self.opaque.as_deref().is_none_or(is_base64url);
        // Another field could be one that means something else to the server, or to a proxy.
        let is_sendable = self.alternate_field().is_none() || self.wants_payment_authorization();
        is_named && is_timed && is_bound && is_sendable
    }

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
