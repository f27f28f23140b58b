//! The signer's side: what is going to be signed, and the fields that say so.

use super::{BaseError, MessageSignature, Request};
use crate::base64;
use crate::structured_field::{BareItem, InnerList, Item, Parameters};

/// What a signer decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned {
    /// What is signed, in order: `@path`, or `signature-agent;key="webbot"` for a member of a dictionary.
    pub components: Vec<String>,
    /// Unix seconds.
    pub created: u64,
    /// Unix seconds.
    pub expires: u64,
    /// Makes the signature one of its own.
    pub nonce: Option<String>,
    /// What the signature is for.
    pub tag: String,
}

/// A signature that lacks its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft(MessageSignature);

/// The values of the two fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// `Signature-Input`
    pub input: String,
    /// `Signature`
    pub signature: String,
}

impl Unsigned {
    /// The draft of a signature by the key that `keyid` names.
    ///
    /// # Errors
    /// [`BaseError::Unread`] for a component that nobody could sign, or one that stands twice.
    pub fn draft(&self, label: &str, keyid: &str, alg: &str) -> Result<Draft, BaseError> {
        let items: Option<Vec<Item>> = self.components.iter().map(|text| component(text)).collect();
        let string = |text: &str| BareItem::String(text.to_owned());
        let time =
            |seconds: u64| i64::try_from(seconds).map(BareItem::Integer).map_err(|_| BaseError::Unread);
        let mut parameters = vec![
            ("created".to_owned(), time(self.created)?),
            ("expires".to_owned(), time(self.expires)?),
            ("keyid".to_owned(), string(keyid)),
            ("alg".to_owned(), string(alg)),
        ];
        parameters.extend(self.nonce.as_ref().map(|nonce| ("nonce".to_owned(), string(nonce))));
        parameters.push(("tag".to_owned(), string(&self.tag)));
        let list = InnerList { items: items.ok_or(BaseError::Unread)?, parameters: Parameters(parameters) };
        let draft = MessageSignature::new(label.to_owned(), &list, Vec::new());
        draft.map(Draft).map_err(|_| BaseError::Unread)
    }
}

impl Draft {
    /// The bytes to sign.
    ///
    /// # Errors
    /// [`BaseError`] where the request lacks something that is to be signed.
    pub fn base(&self, request: &Request<'_>) -> Result<String, BaseError> {
        self.0.base(request)
    }

    /// The bytes to sign where it is a directory of `authority` that is signed.
    ///
    /// # Errors
    /// [`BaseError::Unread`] for anything but what directories sign.
    pub fn directory_base(&self, authority: &str) -> Result<String, BaseError> {
        self.0.directory_base(authority, None)
    }

    /// The fields, with the signature in.
    #[must_use]
    pub fn fields(&self, signature: &[u8]) -> Fields {
        let (label, params) = (&self.0.label, &self.0.params);
        Fields {
            input: format!("{label}={params}"),
            signature: format!("{label}=:{}:", base64::encode_std(signature)),
        }
    }
}

fn component(text: &str) -> Option<Item> {
    match text.split_once(';') {
        None => Some(Item { bare: BareItem::String(text.to_owned()), parameters: Parameters::default() }),
        Some((name, parameters)) => Item::parse(&format!("\"{name}\";{parameters}")).ok(),
    }
}
