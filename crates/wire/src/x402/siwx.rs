//! The extension `sign-in-with-x`: a wallet shows that it is the payer of before, without paying again.
//!
//! The challenge names the terms; the header `SIGN-IN-WITH-X` brings them back with a signature over a text that is
//! built from them (EIP-4361, and the same for Solana). Whether it is genuine is `proof::siwx`'s matter.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::header::{self, HeaderError};

/// The extension's id.
pub const ID: &str = "sign-in-with-x";
/// The header that answers it.
pub const SIGN_IN_WITH_X: &str = "sign-in-with-x";
/// The one version of the text.
pub const VERSION: &str = "1";
/// Most resources a text lists.
pub const RESOURCES_MAX: usize = 16;

/// What the challenge says, for every chain alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// Host that asks, with its port if it has one.
    pub domain: String,
    /// What is to be opened.
    pub uri: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// [`VERSION`].
    pub version: String,
    /// Used once.
    pub nonce: String,
    /// RFC 3339.
    pub issued_at: String,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// The server's own reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What else is opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<String>>,
}

/// A chain whose wallets may answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SupportedChain {
    /// CAIP-2.
    pub chain_id: String,
    /// How its wallets sign.
    #[serde(rename = "type")]
    pub signature_type: SignatureType,
    /// A hint for wallets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature_scheme: Option<String>,
}

/// How a wallet signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureType {
    /// An Ethereum account, over the text as a personal message.
    Eip191,
    /// A Solana account, over the text as it stands.
    Ed25519,
}

/// The challenge, as it stands in `extensions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Challenge {
    /// The terms.
    pub info: Info,
    /// Who may answer.
    pub supported_chains: Vec<SupportedChain>,
}

/// The answer, as the header carries it: one object of the terms' members and its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The terms that were signed.
    #[serde(flatten)]
    pub info: Info,
    /// By whom, and how.
    #[serde(flatten)]
    pub signer: Signer,
}

/// The answer's own members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signer {
    /// CAIP-2.
    pub chain_id: String,
    /// How it was signed.
    #[serde(rename = "type")]
    pub signature_type: SignatureType,
    /// Who signed: `0x` and 40 digits, or base58.
    pub address: String,
    /// A hint, never decisive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature_scheme: Option<String>,
    /// `0x` and 65 bytes, or base58 of 64.
    pub signature: String,
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Read twice over: what serde makes of `flatten` would name floats, which the core has none of.
        let object = Value::deserialize(deserializer)?;
        let info = Info::deserialize(&object).map_err(serde::de::Error::custom)?;
        let signer = Signer::deserialize(&object).map_err(serde::de::Error::custom)?;
        Ok(Self { info, signer })
    }
}

impl Answer {
    /// Reads the header.
    ///
    /// # Errors
    /// [`HeaderError`]
    pub fn parse(value: &str) -> Result<Self, HeaderError> {
        header::decode(value)
    }

    /// Writes the header.
    #[must_use]
    pub fn to_header(&self) -> String {
        header::encode(self)
    }

    /// The text under the signature. `None`: a member could be read as more than one line, or the list is too long.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        let Info { domain, uri, statement, version, nonce, issued_at, .. } = &self.info;
        let resources = self.info.resources.as_deref().unwrap_or_default();
        let optional = [
            ("Expiration Time", &self.info.expiration_time),
            ("Not Before", &self.info.not_before),
            ("Request ID", &self.info.request_id),
        ];
        let members = [domain, uri, version, nonce, issued_at, &self.signer.address, &self.signer.chain_id];
        let present = optional.iter().filter_map(|(_, value)| value.as_ref()).chain(statement);
        let mut all = members.into_iter().chain(present).chain(resources);
        if resources.len() > RESOURCES_MAX || !all.all(|member| one_line(member)) {
            return None;
        }
        let (kind, reference) = match self.signer.signature_type {
            SignatureType::Eip191 => ("Ethereum", self.signer.chain_id.strip_prefix("eip155:")?),
            SignatureType::Ed25519 => ("Solana", self.signer.chain_id.strip_prefix("solana:")?),
        };
        let mut lines = vec![
            format!("{domain} wants you to sign in with your {kind} account:"),
            self.signer.address.clone(),
            String::new(),
        ];
        match (statement, self.signer.signature_type) {
            (Some(statement), _) => lines.extend([statement.clone(), String::new()]),
            // Where the statement would be, Ethereum's grammar leaves its line empty, Solana's leaves it out.
            (None, SignatureType::Eip191) => lines.push(String::new()),
            (None, SignatureType::Ed25519) => {}
        }
        lines.extend([
            format!("URI: {uri}"),
            format!("Version: {version}"),
            format!("Chain ID: {reference}"),
            format!("Nonce: {nonce}"),
            format!("Issued At: {issued_at}"),
        ]);
        lines.extend(
            optional.into_iter().filter_map(|(name, value)| Some(format!("{name}: {}", value.as_ref()?))),
        );
        if !resources.is_empty() {
            lines.push("Resources:".to_owned());
            lines.extend(resources.iter().map(|resource| format!("- {resource}")));
        }
        Some(lines.join("\n"))
    }
}

/// Text that stays in its line.
fn one_line(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::{Answer, Challenge, Info, RESOURCES_MAX, SignatureType};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn vector() -> Value {
        serde_json::from_str(include_str!("../../../../specs/vectors/x402/siwx_vectors.json")).unwrap()
    }

    fn answer(chain: &str) -> Answer {
        Answer::parse(vector()[chain]["header"].as_str().unwrap()).unwrap()
    }

    #[test]
    fn the_vectors_headers_and_texts_are_ours() {
        for chain in ["evm", "solana"] {
            let answer = answer(chain);
            assert_eq!(serde_json::to_value(&answer).unwrap(), vector()[chain]["payload"]);
            assert_eq!(Answer::parse(&answer.to_header()), Ok(answer.clone()));
            assert_eq!(answer.message().unwrap(), vector()[chain]["message"].as_str().unwrap());
        }
    }

    /// What wallets leave out, line by line: Ethereum's grammar and Solana's differ in one.
    #[test]
    fn a_text_without_optional_lines() {
        let bare = |chain: &str| {
            let mut answer = answer(chain);
            let not_before = Some("2026-11-20T10:29:00Z".to_owned());
            answer.info = Info {
                statement: None,
                expiration_time: None,
                resources: Some(vec![]),
                not_before,
                request_id: Some("7".to_owned()),
                ..answer.info
            };
            answer.message().unwrap()
        };
        let tail = "Nonce: a1b2c3d4e5f67890a1b2c3d4e5f67890\nIssued At: 2026-11-20T10:30:00.000Z\n\
                    Not Before: 2026-11-20T10:29:00Z\nRequest ID: 7";
        assert_eq!(
            bare("evm"),
            format!(
                "api.example.com wants you to sign in with your Ethereum account:\n\
                 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266\n\n\n\
                 URI: https://api.example.com/v1/chat/completions\nVersion: 1\nChain ID: 84532\n{tail}"
            )
        );
        assert_eq!(
            bare("solana"),
            format!(
                "api.example.com wants you to sign in with your Solana account:\n\
                 GmaDrppBC7P5ARKV8g3djiwP89vz1jLK23V2GBjuAEGB\n\n\
                 URI: https://api.example.com/v1/chat/completions\nVersion: 1\n\
                 Chain ID: EtWTRABZaYq6iMfeYKouRu166VU2xqa1\n{tail}"
            )
        );
    }

    #[test]
    fn a_member_of_two_lines_is_no_text() {
        let good = serde_json::to_value(answer("evm")).unwrap();
        for (member, value) in [
            ("domain", json!("api.example.com\nURI: https://evil")),
            ("statement", json!("a\r\nb")),
            ("statement", json!("")),
            ("uri", json!("https://api.example.com/\u{0}")),
            ("nonce", json!("")),
            ("requestId", json!("1\n")),
            ("resources", json!(["https://a\n- https://b"])),
            ("resources", json!(vec!["x"; RESOURCES_MAX + 1])),
            ("address", json!("")),
            ("chainId", json!("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1")),
        ] {
            let mut altered = good.clone();
            altered[member] = value.clone();
            let altered: Answer = serde_json::from_value(altered).unwrap();
            assert_eq!(altered.message(), None, "{member} = {value}");
        }
        for (member, value) in [("type", json!("eip1271")), ("nonce", json!(1)), ("signature", json!(null))] {
            let mut altered = good.clone();
            altered[member] = value;
            assert!(serde_json::from_value::<Answer>(altered).is_err(), "{member}");
        }
    }

    #[test]
    fn a_challenge_reads_and_writes() {
        let challenge = json!({
            "info": {"domain": "a", "uri": "https://a/", "version": "1", "nonce": "n", "issuedAt": "t"},
            "supportedChains": [{"chainId": "eip155:1", "type": "eip191"}, {"chainId": "solana:x", "type": "ed25519"}],
        });
        let read: Challenge = serde_json::from_value(challenge.clone()).unwrap();
        assert_eq!(read.supported_chains[1].signature_type, SignatureType::Ed25519);
        assert_eq!(serde_json::to_value(read).unwrap(), challenge);
    }

    proptest! {
        #[test]
        fn any_header_is_an_answer_or_an_error(text in "[A-Za-z0-9+/=]{0,200}") {
            let _ = Answer::parse(&text);
        }

        /// Lines are what they seem: whatever stands in a member, the text has one line for it.
        #[test]
        fn a_text_has_its_lines(statement in "\\PC{1,40}", nonce in "\\PC{1,20}") {
            let mut answer = answer("evm");
            answer.info.statement = Some(statement);
            answer.info.nonce = nonce;
            if let Some(text) = answer.message() {
                prop_assert_eq!(text.split('\n').count(), 13);
            }
        }
    }
}
