//! The credential of a request, decoded once: to see what the request is, then to pay by.

use std::cell::Cell;

use http::{HeaderMap, HeaderName, header};
use wire::mpp::{Credential, CredentialError};

const PAYMENT_AUTHORIZATION: HeaderName = HeaderName::from_static("payment-authorization");

/// What the credential of a request turned out to be, once somebody has looked.
#[derive(Default)]
pub(crate) struct Decoded(Cell<Option<Read>>);

type Read = Result<Option<Box<Credential>>, CredentialError>;

impl Decoded {
    /// Looks at the credential, if there is one that can be read. It stays for whoever takes it.
    pub(super) fn look<T>(&self, headers: &HeaderMap, at: impl FnOnce(Option<&Credential>) -> T) -> T {
        let read = self.take(headers);
        let told = at(read.as_ref().ok().and_then(Option::as_deref));
        self.0.set(Some(read));
        told
    }

    /// Takes it (MPP-13).
    ///
    /// # Errors
    /// As [`Credential::read`].
    pub(crate) fn take(&self, headers: &HeaderMap) -> Read {
        self.0.take().unwrap_or_else(|| read(headers))
    }
}

/// Only these lines can have one.
fn read(headers: &HeaderMap) -> Read {
    let names = [header::AUTHORIZATION, PAYMENT_AUTHORIZATION];
    let lines = names.iter().flat_map(|name| headers.get_all(name).iter().map(move |value| (name, value)));
    Ok(Credential::read(lines.map(|(name, value)| (name.as_str(), value.as_bytes())))?.map(Box::new))
}
