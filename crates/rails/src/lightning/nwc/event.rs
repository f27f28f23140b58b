//! A Nostr event (NIP-01): signed by its author, named by its hash.

use secp256k1::{Keypair, XOnlyPublicKey, schnorr};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wire::hex;

use crate::random;

/// What travels over relays. Every field is somebody's word until [`Event::is_by`] says yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::lightning) struct Event {
    id: String,
    pubkey: String,
    pub(in crate::lightning) created_at: u64,
    pub(in crate::lightning) kind: u16,
    tags: Vec<Vec<String>>,
    pub(in crate::lightning) content: String,
    sig: String,
}

impl Event {
    /// An event of ours. None without randomness.
    pub(in crate::lightning) fn signed(
        keys: &Keypair,
        kind: u16,
        tags: &[&[&str]],
        content: String,
        now_s: u64,
    ) -> Option<Self> {
        let (author, _) = keys.x_only_public_key();
        let mut event = Self {
            id: String::new(),
            pubkey: hex::encode(&author.to_byte_array()),
            created_at: now_s,
            kind,
            tags: tags.iter().map(|tag| tag.iter().map(|&part| part.to_owned()).collect()).collect(),
            content,
            sig: String::new(),
        };
        let id = event.hash()?;
        let signature = schnorr::sign_with_aux_rand(&id, keys, &random::bytes()?);
        event.id = hex::encode(&id);
        event.sig = hex::encode(signature.as_byte_array());
        Some(event)
    }

    /// Whether that author signed it, as it stands here.
    pub(in crate::lightning) fn is_by(&self, author: &XOnlyPublicKey) -> bool {
        let (Some(id), Ok(sig)) = (self.hash(), hex::decode_array(&self.sig)) else { return false };
        self.claims(author)
            && self.id == hex::encode(&id)
            && schnorr::verify(&schnorr::Signature::from_byte_array(sig), &id, author).is_ok()
    }

    /// Whether it says that it is by that author: asked first, being cheap.
    pub(in crate::lightning) fn claims(&self, author: &XOnlyPublicKey) -> bool {
        self.pubkey == hex::encode(&author.to_byte_array())
    }

    /// Its name.
    pub(in crate::lightning) fn id(&self) -> &str {
        &self.id
    }

    /// The first value of the first tag of that name.
    pub(in crate::lightning) fn tag(&self, name: &str) -> Option<&str> {
        let tag = self.tags.iter().find(|tag| tag.first().is_some_and(|first| first == name))?;
        tag.get(1).map(String::as_str)
    }

    /// SHA-256 of what is signed.
    fn hash(&self) -> Option<[u8; 32]> {
        let signed = (0, &self.pubkey, self.created_at, self.kind, &self.tags, &self.content);
        Some(Sha256::digest(serde_json::to_vec(&signed).ok()?).into())
    }
}

#[cfg(test)]
mod tests {
    use secp256k1::{Keypair, XOnlyPublicKey};
    use wire::hex;

    use super::Event;

    fn keys(byte: u8) -> (Keypair, XOnlyPublicKey) {
        let keys = Keypair::from_secret_bytes([byte; 32]).unwrap();
        (keys, keys.x_only_public_key().0)
    }

    #[test]
    fn what_is_signed_is_all_of_it() {
        let (ours, author) = keys(7);
        let tags: &[&[&str]] = &[&["p", "one", "two"], &["e", "x"], &["e", "y"], &["empty"]];
        let text = "a\"b\\\n\u{1}\u{7f}é".to_owned();
        let event = Event::signed(&ours, 23194, tags, text, 1_790_000_000).unwrap();
        assert!(event.is_by(&author) && event.claims(&author));
        assert_eq!((event.tag("p"), event.tag("e"), event.tag("empty")), (Some("one"), Some("x"), None));

        let read: Event = serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
        assert_eq!(read, event);
        let other = Event::signed(&ours, 23194, tags, "other".to_owned(), 1_790_000_000).unwrap();
        let altered: [fn(&mut Event, &Event); 7] = [
            |event, other| event.id.clone_from(&other.id),
            |event, _| event.created_at += 1,
            |event, _| event.kind += 1,
            |event, _| event.tags[1][1].push('x'),
            |event, other| event.content.clone_from(&other.content),
            |event, other| event.sig.clone_from(&other.sig),
            |event, _| event.sig.clear(),
        ];
        for (what, alter) in altered.into_iter().enumerate() {
            let mut forged = event.clone();
            alter(&mut forged, &other);
            assert!(!forged.is_by(&author), "{what}");
        }

        let (foreign, stranger) = keys(8);
        assert!(!event.is_by(&stranger));
        let mut usurped = Event::signed(&foreign, 23194, tags, event.content.clone(), 1_790_000_000).unwrap();
        usurped.pubkey.clone_from(&event.pubkey);
        assert!(usurped.claims(&author) && !usurped.is_by(&author));
    }

    #[test]
    fn events_of_others_are_read() {
        let vectors = include_str!("../../../../../specs/vectors/l402/nwc.json");
        let mut vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
        let event: Event = serde_json::from_value(vectors["event"].take()).unwrap();
        assert_eq!(hex::encode(&event.hash().unwrap()), event.id());
        assert!(event.is_by(&keys(7).1) && !event.is_by(&keys(8).1));
    }
}
