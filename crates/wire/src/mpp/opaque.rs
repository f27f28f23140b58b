//! What our challenges carry so that nothing needs to be stored (MPP-5).

use serde_json::Value;

use super::challenge::{RequestError, decode_object, encode_canonical};
use crate::json_text;

/// What `opaque` holds: everything the verifier needs and the client must not change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opaque {
    /// `ep`, first half: raised by a restore from backup, so that older challenges are dead.
    pub store_epoch: u64,
    /// `ep`, second half: the epoch of the master key that bound the id.
    pub key_epoch: u16,
    /// `rt`: the route it was given for.
    pub route: String,
    /// `px`: which prices were asked.
    pub prices: String,
    /// `q`: the quote, where one was given.
    pub quote: Option<String>,
    /// `cr`: what paying it is credited with, in ledger units, where its amount is in something else.
    pub credit: Option<i64>,
}

/// Why an `opaque` is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("opaque is not one of this server")]
pub struct OpaqueError;

impl Opaque {
    /// The text of the parameter.
    #[must_use]
    pub fn encode(&self) -> String {
        // Members stand in their canonical order.
        encode_canonical(&json_text::object(|members| {
            let epoch = format!("{}.{}", self.store_epoch, self.key_epoch);
            let credit = self.credit.map(|credit| credit.to_string());
            members.some_text("cr", credit.as_deref());
            members.text("ep", &epoch);
            members.text("px", &self.prices);
            members.some_text("q", self.quote.as_deref());
            members.text("rt", &self.route);
        }))
    }

    /// Reads the parameter. Until the id is checked it says only with which key to check it.
    ///
    /// # Errors
    /// [`OpaqueError`]
    pub fn decode(text: &str) -> Result<Self, OpaqueError> {
        let object = decode_object(text).map_err(|_: RequestError| OpaqueError)?;
        let member = |name: &str| object.get(name).and_then(Value::as_str).ok_or(OpaqueError);
        let (store, key) = member("ep")?.split_once('.').ok_or(OpaqueError)?;
        Ok(Self {
            store_epoch: store.parse().map_err(|_| OpaqueError)?,
            key_epoch: key.parse().map_err(|_| OpaqueError)?,
            route: member("rt")?.to_owned(),
            prices: member("px")?.to_owned(),
            quote: object.contains_key("q").then(|| member("q").map(ToOwned::to_owned)).transpose()?,
            credit: object
                .contains_key("cr")
                .then(|| member("cr")?.parse().map_err(|_| OpaqueError))
                .transpose()?,
        })
    }
}
