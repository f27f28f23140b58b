//! What we and a relay say to each other: JSON arrays whose first element is a word (NIP-01, NIP-42).

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::event::Event;

/// What a relay says. Nothing of it is believed that the wallet did not sign.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FromRelay {
    /// Somebody's event, for one of our subscriptions.
    Event(Event),
    /// What it thinks of an event of ours.
    Verdict {
        /// The event.
        id: String,
        /// Whether it passes it on.
        accepted: bool,
        /// Why not.
        reason: String,
    },
    /// All events that it had kept have been sent.
    EndOfKept(String),
    /// A subscription is over.
    Closed {
        /// Which.
        subscription: String,
        /// Why.
        reason: String,
    },
    /// It wants to know who we are (NIP-42).
    Challenge(String),
    /// Notices, and what we do not know.
    Other,
}

impl FromRelay {
    /// Reads one message.
    pub(super) fn read(text: &str) -> Self {
        Self::known(text).unwrap_or(Self::Other)
    }

    fn known(text: &str) -> Option<Self> {
        let parts: Vec<&RawValue> = serde_json::from_str(text).ok()?;
        let part = |at: usize| parts.get(at).map(|part| part.get());
        let word = |at: usize| serde_json::from_str::<String>(part(at)?).ok();
        Some(match word(0)?.as_str() {
            "EVENT" => Self::Event(serde_json::from_str(part(2)?).ok()?),
            "OK" => Self::Verdict {
                id: word(1)?,
                accepted: serde_json::from_str(part(2)?).ok()?,
                reason: word(3).unwrap_or_default(),
            },
            "EOSE" => Self::EndOfKept(word(1)?),
            "CLOSED" => Self::Closed { subscription: word(1)?, reason: word(2).unwrap_or_default() },
            "AUTH" => Self::Challenge(word(1)?),
            _ => Self::Other,
        })
    }
}

/// Passes an event on.
pub(super) fn publish(event: &Event) -> String {
    json!(["EVENT", event]).to_string()
}

/// Shows who we are.
pub(super) fn authenticate(event: &Event) -> String {
    json!(["AUTH", event]).to_string()
}

/// Asks for events that pass one of the filters, kept ones and new ones.
pub(super) fn subscribe(subscription: &str, filters: &[Value]) -> String {
    let mut request = vec![json!("REQ"), json!(subscription)];
    request.extend_from_slice(filters);
    Value::Array(request).to_string()
}

#[cfg(test)]
mod tests {
    use super::FromRelay as F;

    #[test]
    fn messages_table() {
        let verdict =
            |accepted, reason: &str| F::Verdict { id: "ab".into(), accepted, reason: reason.into() };
        for (text, expected) in [
            (r#"["OK","ab",true,""]"#, verdict(true, "")),
            (r#"["OK","ab",true]"#, verdict(true, "")),
            (r#"["OK","ab",false,"blocked: no"]"#, verdict(false, "blocked: no")),
            (r#"["OK","ab","true",""]"#, F::Other),
            (r#"["OK"]"#, F::Other),
            (r#"["EOSE","info"]"#, F::EndOfKept("info".into())),
            (
                r#"["CLOSED","info","error: x"]"#,
                F::Closed { subscription: "info".into(), reason: "error: x".into() },
            ),
            (r#"["AUTH","challenge"]"#, F::Challenge("challenge".into())),
            (r#"["NOTICE","hello"]"#, F::Other),
            (r#"["EVENT","info",{"kind":1}]"#, F::Other),
            (r#"["EVENT","info"]"#, F::Other),
            (r#"{"EVENT":1}"#, F::Other),
            ("[]", F::Other),
            ("[1]", F::Other),
            ("", F::Other),
        ] {
            assert_eq!(F::read(text), expected, "{text}");
        }
    }
}
