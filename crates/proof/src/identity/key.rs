//! A public key that agents sign with, ready to be used.

use ed25519_dalek::VerifyingKey;

use crate::ed25519;

/// An Ed25519 public key, decompressed once, with the names it goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentKey {
    verifying: VerifyingKey,
    thumbprint: String,
    registered: Option<String>,
}

impl AgentKey {
    /// None where nobody should hold such a key: not on the curve, of small order, or not in its one encoding.
    #[must_use]
    pub fn new(public: &[u8; 32]) -> Option<Self> {
        let verifying = ed25519::usable(public)?;
        Some(Self { verifying, thumbprint: ed25519::thumbprint(public), registered: None })
    }

    /// The same under the name that a registry gave it, beside its thumbprint.
    #[must_use]
    pub fn registered_as(self, id: String) -> Self {
        Self { registered: Some(id), ..self }
    }

    /// Its RFC 7638 thumbprint.
    #[must_use]
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// Whether `keyid` means it.
    #[must_use]
    pub fn is_named(&self, keyid: &str) -> bool {
        self.thumbprint == keyid || self.registered.as_deref() == Some(keyid)
    }

    /// Every `keyid` that means it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [self.thumbprint.as_str()].into_iter().chain(self.registered.as_deref())
    }

    pub(super) const fn verifying(&self) -> &VerifyingKey {
        &self.verifying
    }
}
