//! What the offers of a till say, written once per configuration: of an offer only amount, quote and what is asked for
//! differ from one request to the next (PERF-33).
//!
//! What is written is what [`super::Offer`] says, which is what payments are held against.

use std::io;

use serde_json::Value;
use wire::template::{MARKS, Template};
use wire::x402::{Address, base58};

use super::{Named, Offer, Till};
use crate::mpp;

/// The media type of what is sold, as challenges name it.
pub(crate) const MIME_TYPE: &str = "application/json";

/// The texts of one till.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// The entry of x402 v2: amount, quote, who has to settle.
    v2: Option<Template>,
    /// The entry of v1, where there is one: amount, URL, description, who has to settle.
    v1: Option<Template>,
    /// The request of the `Payment` scheme's `evm`, where it is paid so: amount.
    evm: Option<Template>,
}

impl Said {
    /// Writes the offers of a till with marks where they differ.
    pub(super) fn of(till: &Till) -> io::Result<Self> {
        // Any will do: what it is called is marked.
        let named = match Named::member(till) {
            None => Named::Nobody,
            Some("feePayer") => Named::Svm([0; 32]),
            Some(_) => Named::Evm(Address::ZERO),
        };
        let offer = till.offer_of(0, &named, Some(MARKS[1].to_owned()));
        Ok(Self {
            v2: offer.as_ref().map(|offer| v2(till, offer)).transpose()?,
            v1: offer.as_ref().and_then(|offer| v1(till, offer)).transpose()?,
            evm: mpp::evm_request(till, MARKS[0]).map(|request| mpp::written(&request, 1)).transpose()?,
        })
    }
}

fn v2(till: &Till, offer: &Offer) -> io::Result<Template> {
    let mut entry = offer.requirements_v2();
    entry.amount = MARKS[0].to_owned();
    let member = Named::member(till).zip(entry.extra.as_mut());
    let is_named = member.is_some();
    if let Some((member, extra)) = member {
        extra.insert(member.to_owned(), Value::from(MARKS[2]));
    }
    template(&serde_json::to_string(&entry)?, if is_named { 3 } else { 2 })
}

fn v1(till: &Till, offer: &Offer) -> Option<io::Result<Template>> {
    let mut entry = offer.requirements_v1(MARKS[1], MARKS[2], MIME_TYPE)?;
    entry.max_amount_required = MARKS[0].to_owned();
    let member = Named::member(till).zip(entry.extra.as_mut());
    let is_named = member.is_some();
    if let Some((member, extra)) = member {
        extra.insert(member.to_owned(), Value::from(MARKS[3]));
    }
    let text = serde_json::to_string(&entry).map_err(io::Error::from);
    Some(text.and_then(|text| template(&text, if is_named { 4 } else { 3 })))
}

fn template(marked: &str, holes: usize) -> io::Result<Template> {
    Template::new(marked, holes).ok_or_else(|| io::Error::other("an offer has characters that no text has"))
}

/// What an offer asks for, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    /// Atomic units, in digits.
    pub(crate) amount: &'a str,
    pub(crate) named: &'a Named,
    pub(crate) quote: &'a str,
    /// Escaped, as the next.
    pub(crate) url: &'a str,
    pub(crate) description: &'a str,
}

impl Till {
    /// The entry of x402 v2; none where this is not offered so.
    pub(crate) fn entry_v2(&self, asking: Asking<'_>) -> Option<String> {
        let Asking { amount, named, quote, .. } = asking;
        Some(self.said.v2.as_ref()?.fill(&[amount, quote, &named.text()]))
    }

    /// The entry of x402 v1; none where version 1 has no such thing.
    pub(crate) fn entry_v1(&self, asking: Asking<'_>) -> Option<String> {
        let Asking { amount, named, url, description, .. } = asking;
        Some(self.said.v1.as_ref()?.fill(&[amount, url, description, &named.text()]))
    }

    /// The request of `evm`/`charge`, canonical.
    pub(crate) fn evm_charge(&self, amount: u128) -> Option<String> {
        Some(self.said.evm.as_ref()?.fill(&[&amount.to_string()]))
    }
}

impl Named {
    fn text(&self) -> String {
        match self {
            Self::Nobody => String::new(),
            Self::Evm(address) => address.to_string(),
            Self::Svm(key) => base58::encode(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use money::Amount;
    use serde_json::Value;
    use wire::json_text::escaped;
    use wire::mpp::payload;
    use wire::x402::Address;

    use super::{Asking, MIME_TYPE};
    use crate::mpp;
    use crate::till::{Method, Named, Till, of_config};

    fn tills() -> Vec<Till> {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("authorizer.key");
        std::fs::write(&key, "3f".repeat(31) + "40\n").unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let text = format!(
            "mode: test\nupstreams: {{ a: {{ url: http://127.0.0.1:1, dialect: openai }} }}\n\
             prices: {{ \"*\": {{ per_call: 1 USD }} }}\nrails:\n  test: {{}}\n  x402:\n    \
             facilitators: http://127.0.0.1:1\n    schemes: [exact, permit2, upto, batch-settlement]\n    \
             batch: {{ authorizer_key: \"${{file:{}}}\" }}\n    networks:\n      \
             \"eip155:84532\": {{ pay_to: \"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed\" }}\n      \
             \"solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1\": {{ pay_to: \"9xAXssX9j7vuK99c7cFwqbixzL3bFrzPy9PUhCtDPAYJ\" }}\n",
            key.display()
        );
        let file = folder.path().join("farthing.yaml");
        std::fs::write(&file, text).unwrap();
        let config = crate::config::load(&file).unwrap_or_else(|errors| panic!("{errors}"));
        of_config(&config, [7; 32]).unwrap()
    }

    /// PERF-33: what is filled in says what payments are held against, whatever stands in it.
    #[test]
    fn a_filled_offer_is_the_offer() {
        let tills = tills();
        assert_eq!(tills.len(), 6);
        for till in tills {
            let named = match &till.method {
                Method::Upto { .. } => Named::Evm(Address([9; 20])),
                Method::Solana { .. } => Named::Svm([9; 32]),
                Method::Test { .. }
                | Method::Transfer { .. }
                | Method::Permit2 { .. }
                | Method::Channel { .. }
                | Method::Submitted { .. }
                | Method::Lightning
                | Method::Cashu => Named::Nobody,
            };
            let amount = till.asked(Amount::from_units(20_000_001)).unwrap();
            let (quote, url, description) = ("q1.abc", "http://h/a?b=\"c\"", "model \\ \u{1} é");
            let digits = amount.to_string();
            let asking = Asking {
                amount: &digits,
                named: &named,
                quote,
                url: &escaped(url),
                description: &escaped(description),
            };
            let offer = till.offer_of(amount, &named, Some(quote.to_owned())).unwrap();
            let expected = serde_json::to_string(&offer.requirements_v2()).unwrap();
            assert_eq!(till.entry_v2(asking), Some(expected), "{}", till.rail);
            let expected = offer.requirements_v1(url, description, MIME_TYPE);
            let expected = expected.map(|entry| serde_json::to_string(&entry).unwrap());
            assert_eq!(till.entry_v1(asking), expected, "{}", till.rail);
            let expected = mpp::evm_request(&till, &digits).map(|request| payload::canonical(&request));
            assert_eq!(till.evm_charge(amount), expected, "{}", till.rail);
            let is_json = till.entry_v2(asking).map(|text| serde_json::from_str::<Value>(&text).is_ok());
            assert_eq!(is_json, Some(true));
        }
    }
}
