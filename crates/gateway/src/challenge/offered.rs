//! The offers of x402 in a challenge, version 2 in a header and version 1 in the body (X402-6).
//!
//! What they say is written once per till ([`crate::till`]); here amounts and quote go into it, unless it was asked for a
//! moment ago ([`super::rendering`], PERF-33).

use std::sync::Arc;

use http::HeaderValue;
use serde_json::Value;
use wire::base64;
use wire::json_text::{self, escaped};
use wire::x402::{header as x402, v2};

use super::rendering::{ISSUED_AT, NONCE, QUOTE, Rendering, Varying, Wanted};
use super::{Ask, quote_end};
use crate::clock::Now;
use crate::extensions::{self, Declared, discovery, sign_in};
use crate::gate::Gate;
use crate::snapshot::Snapshot;
use crate::till::{Asking, MIME_TYPE};

/// What a challenge has besides its offers and extensions, in bytes: enough to be written in one piece of memory.
const FRAME_BYTES: usize = 128;
/// What stands around each of these: the name of an extension, a comma.
const PART_BYTES: usize = 32;

/// Our offers, as a challenge says them.
pub(crate) struct Offered {
    /// As entries of x402 v1, for a body: each is JSON.
    pub(crate) entries: Arc<[String]>,
    /// As x402 v2, in the header that carries it.
    pub(crate) header: HeaderValue,
    /// Whether there is any.
    pub(crate) is_any: bool,
}

impl Offered {
    /// The offers for `ask`, for a payer who is told `error`. What nobody settles is not offered (X402-41).
    pub(crate) fn new(
        gate: &Gate,
        snapshot: &Snapshot,
        ask: &Ask<'_>,
        error: &'static str,
        now: Now,
    ) -> Self {
        let tills = snapshot.tills.iter().enumerate().filter(|(_, till)| ask.through.includes(till));
        let open = tills.filter_map(|(place, till)| {
            gate.directory.offered(till, snapshot.facilitators.as_ref()).map(|named| (place, named))
        });
        let wanted = Wanted::of(ask, error, open.collect(), now);
        let [nonce, issued_at] =
            if sign_in::is_on(snapshot) { sign_in::fresh(gate, snapshot, now) } else { Default::default() };
        let (nonce, issued_at) = (nonce.as_str(), issued_at.as_str());
        let written = |varying: Varying<'_>| Written::new(gate, snapshot, ask, &wanted, varying, now);
        let kept = snapshot.renderings.get(&wanted, || {
            let [quote, nonce, issued_at] = [QUOTE, NONCE, ISSUED_AT].map(|blank| blank.to_string());
            // What is asked of everybody alike is quoted alike as long as that lasts.
            let quote = if ask.priced_by_body { quote } else { ask.quote(gate, quote_end(now)) };
            let blanks = Varying { quote: &quote, nonce: &nonce, issued_at: &issued_at };
            let Written { required, entries, is_any } = written(blanks);
            Rendering::new(&wanted, required, entries, is_any)
        });
        if let Some(kept) = kept {
            let quote = if ask.priced_by_body { ask.quote(gate, quote_end(now)) } else { String::new() };
            if let Some(header) = kept.header(Varying { quote: &quote, nonce, issued_at }) {
                return Self {
                    entries: Arc::clone(&kept.entries),
                    header: value(header),
                    is_any: kept.is_any,
                };
            }
        }
        let quote = ask.quote(gate, quote_end(now));
        let Written { required, entries, is_any } = written(Varying { quote: &quote, nonce, issued_at });
        Self { entries, header: value(base64::encode_std(required.as_bytes()).into_bytes()), is_any }
    }

    /// The same as values: what goes into `accepts` of version 1, and all of version 2.
    pub(crate) fn values(&self) -> (Value, Value) {
        // What we have written is JSON.
        let entries = self.entries.iter().map(|text| serde_json::from_str::<Value>(text).unwrap_or_default());
        let required = self.header.to_str().ok().and_then(|text| base64::decode_std(text).ok());
        let required = required.and_then(|json| serde_json::from_slice(&json).ok());
        (entries.collect(), required.unwrap_or_default())
    }
}

fn value(base64: Vec<u8>) -> HeaderValue {
    HeaderValue::try_from(base64).unwrap_or(HeaderValue::from_static(""))
}

/// What a challenge says, written.
struct Written {
    /// As x402 v2: JSON.
    required: String,
    /// As entries of x402 v1.
    entries: Arc<[String]>,
    is_any: bool,
}

impl Written {
    fn new(
        gate: &Gate,
        snapshot: &Snapshot,
        ask: &Ask<'_>,
        wanted: &Wanted<'_>,
        varying: Varying<'_>,
        now: Now,
    ) -> Self {
        let url = ask.url(snapshot);
        let (shown_url, description) = (escaped(&url), escaped(ask.description));
        let (mut accepts, mut entries) = (Vec::new(), Vec::new());
        for (place, named) in &wanted.open {
            let Some(till) = snapshot.tills.get(*place) else { continue };
            let Some(amount) = till.asked(ask.deposit(till)) else { continue };
            let amount = amount.to_string();
            let asking = Asking {
                amount: &amount,
                named,
                quote: varying.quote,
                url: &shown_url,
                description: &description,
            };
            accepts.extend(till.entry_v2(asking));
            entries.extend(till.entry_v1(asking));
        }
        let is_any = !accepts.is_empty();
        let mut resource = v2::ResourceInfo {
            url: url.clone(),
            description: Some(ask.description.to_owned()),
            mime_type: Some(MIME_TYPE.to_owned()),
            ..v2::ResourceInfo::default()
        };
        if ask.discovery {
            discovery::name_service(snapshot, &mut resource);
        }
        let extensions = extensions::declared(gate, snapshot, ask, &accepts, &shown_url, varying, now);
        let required = Required { error: wanted.error, resource, accepts, extensions }.fitted();
        Self { required, entries: entries.into(), is_any }
    }
}

/// [`v2::PaymentRequired`] in parts, some of which may be given up.
struct Required<'a> {
    error: &'a str,
    resource: v2::ResourceInfo,
    /// Each is JSON.
    accepts: Vec<String>,
    /// The most useful first.
    extensions: Vec<Declared>,
}

impl Required<'_> {
    /// The challenge, short enough for its header. Some intermediaries cut long headers: better less in it than a broken
    /// one (X402-5). First goes the description, then extensions, the least useful first, then offers from the back.
    fn fitted(mut self) -> String {
        loop {
            let text = self.text();
            let is_short = text.len().div_ceil(3) * 4 <= x402::EMIT_BYTES_MAX;
            if is_short || !self.gives_up() {
                return text;
            }
        }
    }

    /// Leaves out what is missed least of what is left. False: it can do without nothing more.
    fn gives_up(&mut self) -> bool {
        if self.resource.description.take().is_some() {
            return true;
        }
        if let Some(last) = self.extensions.iter().rposition(|declared| !declared.is_kept) {
            self.extensions.remove(last);
            return true;
        }
        self.accepts.len() > 1 && self.accepts.pop().is_some()
    }

    fn text(&self) -> String {
        // Texts and lists of texts: writing them cannot fail.
        let resource = serde_json::to_string(&self.resource).unwrap_or_default();
        let parts = self.accepts.iter().chain(self.extensions.iter().map(|declared| &declared.entry));
        let bytes = parts.map(|part| part.len() + PART_BYTES).sum::<usize>() + resource.len();
        json_text::object_of(bytes + FRAME_BYTES, |members| {
            members.number("x402Version", v2::VERSION.into());
            members.text("error", self.error);
            members.json("resource", &resource);
            members.array("accepts", self.accepts.iter().map(String::as_str));
            if self.extensions.is_empty() {
                return;
            }
            members.object("extensions", |members| {
                self.extensions.iter().for_each(|declared| members.json(declared.id, &declared.entry));
            });
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use wire::x402::v2;

    use super::Required;
    use crate::extensions::Declared;

    fn declared(id: &'static str, bytes: usize, is_kept: bool) -> Declared {
        Declared { id, entry: format!("{{\"a\":\"{}\"}}", "x".repeat(bytes)), is_kept }
    }

    /// What is left of a challenge with a description, offers and extensions of such sizes.
    fn left(description: usize, offers: &[usize], extensions: Vec<Declared>) -> (bool, usize, Vec<String>) {
        let resource = v2::ResourceInfo {
            url: "http://h/p".to_owned(),
            description: Some("d".repeat(description)),
            ..v2::ResourceInfo::default()
        };
        let accepts = offers.iter().map(|bytes| format!("\"{}\"", "o".repeat(*bytes))).collect();
        let text = Required { error: "payment_required", resource, accepts, extensions }.fitted();
        let value: Value = serde_json::from_str(&text).unwrap();
        let names = value["extensions"].as_object().map(|all| all.keys().cloned().collect());
        let is_described = value["resource"].get("description").is_some();
        (is_described, value["accepts"].as_array().unwrap().len(), names.unwrap_or_default())
    }

    /// X402-5: a header of 2047 bytes holds 1533 of JSON.
    #[test]
    fn x402_5_what_is_missed_least_goes_first() {
        let both = || vec![declared("a", 300, true), declared("b", 300, false)];
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (description, offers, extensions, expected) in [
            (100, [300, 300].as_slice(), both(), (true, 2, names(&["a", "b"]))),
            (300, &[300, 300], both(), (false, 2, names(&["a", "b"]))),
            (300, &[450, 450], both(), (false, 2, names(&["a"]))),
            (300, &[450, 450, 450], both(), (false, 2, names(&["a"]))),
            (0, &[2000, 2000], Vec::new(), (false, 1, names(&[]))),
            (0, &[], Vec::new(), (true, 0, names(&[]))),
        ] {
            let told = format!("{description} {offers:?}");
            assert_eq!(left(description, offers, extensions), expected, "{told}");
        }
    }
}
