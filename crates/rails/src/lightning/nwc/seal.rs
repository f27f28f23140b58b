//! What we and the wallet write to each other is sealed. The wallet says how, in its info event.

use secp256k1::{Keypair, Parity, PublicKey, XOnlyPublicKey, ecdh};
use zeroize::Zeroizing;

use super::{nip04, nip44};
use crate::random;

/// How a text is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lightning) enum Scheme {
    /// NIP-44 version 2.
    Nip44,
    /// NIP-04, which an info event without the tag means.
    Nip04,
}

/// The keys that we share with the wallet. No `Debug`: both are secrets.
pub(in crate::lightning) struct Seal {
    point: Zeroizing<[u8; 32]>,
    conversation: Zeroizing<[u8; 32]>,
}

impl Scheme {
    /// The better of those that an `encryption` tag lists; none where we know none of them.
    pub(in crate::lightning) fn of_tag(tag: Option<&str>) -> Option<Self> {
        let lists =
            |scheme: &Self| tag.unwrap_or("nip04").split_whitespace().any(|name| name == scheme.name());
        [Self::Nip44, Self::Nip04].into_iter().find(lists)
    }

    /// Its name in tags.
    pub(in crate::lightning) const fn name(self) -> &'static str {
        match self {
            Self::Nip44 => "nip44_v2",
            Self::Nip04 => "nip04",
        }
    }
}

impl Seal {
    /// Never none: the key of the conversation is made of keys that are good.
    pub(in crate::lightning) fn new(ours: &Keypair, theirs: XOnlyPublicKey) -> Option<Self> {
        let theirs = PublicKey::from_x_only_public_key(theirs, Parity::Even);
        let shared = Zeroizing::new(ecdh::shared_secret_point(&theirs, &ours.secret_key()));
        let point = Zeroizing::new(*shared.first_chunk::<32>()?);
        let conversation = nip44::conversation_key(&point)?;
        Some(Self { point, conversation })
    }

    /// None without randomness, and for a text that is too long.
    pub(in crate::lightning) fn seal(&self, scheme: Scheme, text: &str) -> Option<String> {
        match scheme {
            Scheme::Nip44 => nip44::seal(&self.conversation, &random::bytes()?, text),
            Scheme::Nip04 => Some(nip04::seal(&self.point, &random::bytes()?, text)),
        }
    }

    /// None for what was not sealed in this way with these keys.
    pub(in crate::lightning) fn open(&self, scheme: Scheme, payload: &str) -> Option<Zeroizing<String>> {
        match scheme {
            Scheme::Nip44 => nip44::open(&self.conversation, payload),
            Scheme::Nip04 => nip04::open(&self.point, payload),
        }
    }
}

#[cfg(test)]
mod tests;
