//! Signatures of a key directory: of an answer, over whom it was asked of and perhaps over its body.
//!
//! The drafts sign `"@authority"`; what is deployed adds `;req`, since an answer has no authority of its own. Both are read.

use super::{Bounds, MessageSignature, SignatureError, read_within};
use crate::message_signature::BaseError;
use crate::structured_field::BareItem;

/// A directory's keys, each of which signs it.
const BOUNDS: Bounds = Bounds { field_bytes: 16 * 1024, labels: 32 };

/// Reads the signatures of a directory from the lines of its two fields: as many as a directory may have keys.
///
/// # Errors
/// [`SignatureError`]
pub fn read_directory(
    inputs: &[&[u8]],
    signatures: &[&[u8]],
) -> Result<Vec<MessageSignature>, SignatureError> {
    read_within(inputs, signatures, BOUNDS)
}

impl MessageSignature {
    /// The bytes under the signature of a directory that `authority` was asked for. `digest` is the answer's `Content-Digest`.
    ///
    /// # Errors
    /// [`BaseError`]: something else is signed, or a digest that the answer does not have.
    pub fn directory_base(&self, authority: &str, digest: Option<&str>) -> Result<String, BaseError> {
        let mut base = String::new();
        for component in &self.components {
            let parameters = &component.item.parameters.0;
            let value = match (component.name.as_str(), parameters.as_slice()) {
                ("@authority", []) => authority,
                ("@authority", [(name, BareItem::Boolean(true))]) if name == "req" => authority,
                ("content-digest", []) => digest.ok_or(BaseError::Missing)?,
                _ => return Err(BaseError::Unread),
            };
            for part in [component.item.to_text().as_str(), ": ", value, "\n"] {
                base.push_str(part);
            }
        }
        base.push_str("\"@signature-params\": ");
        base.push_str(&self.params);
        Ok(base)
    }

    /// Whether a directory's signature says whom it was asked of.
    #[must_use]
    pub fn names_authority(&self) -> bool {
        self.components.iter().any(|component| component.name == "@authority")
    }
}

#[cfg(test)]
mod tests {
    use super::read_directory;
    use crate::message_signature::BaseError;

    fn base(components: &str) -> Result<String, BaseError> {
        let input = format!("s=({components});created=1;tag=\"t\"");
        let signatures = read_directory(&[input.as_bytes()], &[b"s=:AAAA:"]).unwrap();
        signatures[0].directory_base("agent.example", Some("sha-256=:AA==:"))
    }

    #[test]
    fn idn_16_what_a_directory_signs() {
        let tail = ";created=1;tag=\"t\"";
        for (components, expected) in [
            (r#""@authority""#, Ok(r#""@authority": agent.example"#)),
            (r#""@authority";req"#, Ok(r#""@authority";req: agent.example"#)),
            (
                r#""@authority";req "content-digest""#,
                Ok("\"@authority\";req: agent.example\n\"content-digest\": sha-256=:AA==:"),
            ),
            (r#""@authority";sf"#, Err(BaseError::Unread)),
            (r#""@authority";req=?0"#, Err(BaseError::Unread)),
            (r#""@authority" "content-type""#, Err(BaseError::Unread)),
            (r#""@status""#, Err(BaseError::Unread)),
        ] {
            let expected =
                expected.map(|lines| format!("{lines}\n\"@signature-params\": ({components}){tail}"));
            assert_eq!(base(components), expected, "{components}");
        }
    }

    /// A request has four at most, a directory one for each key.
    #[test]
    fn a_directory_may_have_a_signature_for_each_of_its_keys() {
        let fields = |count: usize| {
            let labels = (0..count).map(|at| format!("s{at}"));
            let inputs: Vec<String> =
                labels.clone().map(|label| format!("{label}=(\"@authority\");created=1")).collect();
            let signatures: Vec<String> = labels.map(|label| format!("{label}=:AAAA:")).collect();
            read_directory(&[inputs.join(", ").as_bytes()], &[signatures.join(", ").as_bytes()])
        };
        assert_eq!(fields(32).unwrap().len(), 32);
        assert!(fields(33).is_err());
    }
}
