//! HTTP message signatures (RFC 9421): `Signature-Input` and `Signature` read, and the bytes that a signature is over built
//! from the request.
//!
//! Only the part that requests need: no responses, no `;sf`, `;bs`, `;req`, `;tr`. Which key may sign what, and until when, is
//! decided in `proof::identity`. Rules are those of `specs/identity.md`.

mod base;
mod directory;
mod draft;

pub use base::{BaseError, Request};
pub use directory::read_directory;
pub use draft::{Draft, Fields, Unsigned};

use std::fmt;

use crate::structured_field::{
    BareItem, Dictionary, InnerList, Item, Member, Parameters, StructuredFieldError,
};

/// Longest `Signature-Input`, and longest `Signature`, all lines of each together.
pub const FIELD_BYTES_MAX: usize = 8 * 1024;
/// Signatures of one request.
pub const LABELS_MAX: usize = 4;
/// Components of one signature.
pub const COMPONENTS_MAX: usize = 16;

/// One signature of a request, read and not verified.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageSignature {
    /// Free to choose: it says nothing.
    pub label: String,
    /// What is signed, in order.
    pub components: Vec<Component>,
    /// When the signature was made, in Unix seconds.
    pub created: Option<u64>,
    /// Valid while now is below, in Unix seconds.
    pub expires: Option<u64>,
    /// Names the key.
    pub keyid: Option<String>,
    /// Names the algorithm.
    pub alg: Option<String>,
    /// Makes the signature one of its own.
    pub nonce: Option<String>,
    /// What the signature is for.
    pub tag: Option<String>,
    /// Of whatever length the algorithm makes them.
    pub signature: Vec<u8>,
    /// The value of `@signature-params`, in canonical form.
    params: String,
}

/// One thing of a request that is signed: `"@path"`, `"content-digest"`, `"signature-agent";key="webbot"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// In lower case; what is no field begins with `@`.
    pub name: String,
    /// The member of a dictionary, where not the whole field is meant.
    pub key: Option<String>,
    /// As it stands in the list.
    item: Item,
}

/// Why the fields hold no signatures (IDN-6). Holds no values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// `Signature` without `Signature-Input`, or the reverse.
    #[error("one of Signature and Signature-Input is missing")]
    Alone,
    /// Longer than [`FIELD_BYTES_MAX`], or more than [`LABELS_MAX`] signatures or [`COMPONENTS_MAX`] components.
    #[error("more or longer signatures than are read")]
    TooLarge,
    /// Not dictionaries of the right shape.
    #[error("not two dictionaries of signatures")]
    Malformed,
    /// The labels of the two fields differ.
    #[error("the fields have different labels")]
    Labels,
    /// A component stands twice, or is the list of parameters itself.
    #[error("a component that may not stand there")]
    Component,
}

/// Reads the signatures of a request from the lines of its two fields. None where it has neither field.
///
/// # Errors
/// [`SignatureError`]
pub fn read(inputs: &[&[u8]], signatures: &[&[u8]]) -> Result<Vec<MessageSignature>, SignatureError> {
    read_within(inputs, signatures, Bounds { field_bytes: FIELD_BYTES_MAX, labels: LABELS_MAX })
}

/// How much of a message is read.
#[derive(Clone, Copy)]
struct Bounds {
    field_bytes: usize,
    labels: usize,
}

fn read_within(
    inputs: &[&[u8]],
    signatures: &[&[u8]],
    bounds: Bounds,
) -> Result<Vec<MessageSignature>, SignatureError> {
    if inputs.is_empty() && signatures.is_empty() {
        return Ok(Vec::new());
    }
    let (inputs, signatures) = (dictionary(inputs, bounds)?, dictionary(signatures, bounds)?);
    match (inputs.0.is_empty(), signatures.0.is_empty()) {
        (false, false) => {}
        (true, true) => return Err(SignatureError::Malformed),
        (true, false) | (false, true) => return Err(SignatureError::Alone),
    }
    if inputs.0.len() != signatures.0.len() {
        return Err(SignatureError::Labels);
    }
    let with_bytes = |(label, member): (String, Member)| {
        let Member::InnerList(list) = member else { return Err(SignatureError::Malformed) };
        let Member::Item(item) = signatures.get(&label).ok_or(SignatureError::Labels)? else {
            return Err(SignatureError::Malformed);
        };
        let BareItem::Bytes(bytes) = &item.bare else { return Err(SignatureError::Malformed) };
        MessageSignature::new(label, &list, bytes.clone())
    };
    inputs.0.into_iter().map(with_bytes).collect()
}

fn dictionary(lines: &[&[u8]], bounds: Bounds) -> Result<Dictionary, SignatureError> {
    if lines.iter().map(|line| line.len() + 2).sum::<usize>() > bounds.field_bytes + 2 {
        return Err(SignatureError::TooLarge);
    }
    let text = base::joined(lines).ok_or(SignatureError::Malformed)?;
    Dictionary::parse(&text, bounds.labels).map_err(|error| match error {
        StructuredFieldError::TooMany => SignatureError::TooLarge,
        StructuredFieldError::Malformed(_) => SignatureError::Malformed,
    })
}

impl MessageSignature {
    fn new(label: String, list: &InnerList, signature: Vec<u8>) -> Result<Self, SignatureError> {
        if list.items.len() > COMPONENTS_MAX {
            return Err(SignatureError::TooLarge);
        }
        let mut components: Vec<Component> = Vec::with_capacity(list.items.len());
        for item in &list.items {
            let component = Component::new(item)?;
            if component.name == "@signature-params" || components.contains(&component) {
                return Err(SignatureError::Component);
            }
            components.push(component);
        }
        let of = &list.parameters;
        Ok(Self {
            label,
            components,
            created: time(of, "created")?,
            expires: time(of, "expires")?,
            keyid: text(of, "keyid")?,
            alg: text(of, "alg")?,
            nonce: text(of, "nonce")?,
            tag: text(of, "tag")?,
            signature,
            params: list.to_text(),
        })
    }

    /// Whether something is signed, by its name; a member of a dictionary stands for no whole field.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        self.components.iter().any(|component| component.name == name && component.key.is_none())
    }

    /// What of a field is signed: the whole of it, or a member.
    pub fn covered<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s Component> {
        self.components.iter().filter(move |component| component.name == name)
    }

    /// The bytes under the signature, of this request (IDN-7, IDN-8).
    ///
    /// # Errors
    /// [`BaseError`]: the request lacks something that is signed, or something is signed that we do not read.
    pub fn base(&self, request: &Request<'_>) -> Result<String, BaseError> {
        base::build(&self.components, &self.params, request)
    }
}

/// Prints what the signature is for: nonces and signatures belong in no log (IDN-37).
impl fmt::Debug for MessageSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageSignature(tag {:?}, {} components)", self.tag, self.components.len())
    }
}

impl Component {
    fn new(item: &Item) -> Result<Self, SignatureError> {
        let name = item.as_str().ok_or(SignatureError::Malformed)?;
        let is_name = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(SignatureError::Malformed);
        }
        let key = match item.parameters.get("key") {
            None => None,
            Some(key) => Some(key.as_str().ok_or(SignatureError::Malformed)?.to_owned()),
        };
        Ok(Self { name: name.to_owned(), key, item: item.clone() })
    }

    /// Whether it is named in a way that we read: alone, or with `key` and nothing else.
    fn is_read(&self) -> bool {
        self.item.parameters.0.len() == usize::from(self.key.is_some())
    }
}

fn time(parameters: &Parameters, name: &str) -> Result<Option<u64>, SignatureError> {
    let Some(value) = parameters.get(name) else { return Ok(None) };
    let seconds = value.as_integer().and_then(|seconds| u64::try_from(seconds).ok());
    seconds.map(Some).ok_or(SignatureError::Malformed)
}

fn text(parameters: &Parameters, name: &str) -> Result<Option<String>, SignatureError> {
    let Some(value) = parameters.get(name) else { return Ok(None) };
    value.as_str().map(|text| Some(text.to_owned())).ok_or(SignatureError::Malformed)
}

#[cfg(test)]
mod tests;
