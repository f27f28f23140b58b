//! NIP-44 version 2: ECDH, HKDF, padding, ChaCha20, HMAC-SHA256.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit as _, StreamCipher as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

const VERSION: u8 = 2;
/// Version and nonce.
const HEAD_BYTES: usize = 1 + 32;
const MAC_BYTES: usize = 32;
/// With the shortest text: its length and 32 bytes.
const PAYLOAD_BYTES_MIN: usize = HEAD_BYTES + 34 + MAC_BYTES;
/// With the longest text whose length stands in two bytes, in base64. Relays pass on nothing longer.
const PAYLOAD_CHARS_MAX: usize = 87_472;

/// The key of a conversation: of our key with their public key, and the reverse.
pub(super) fn conversation_key(shared_x: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    hmac(b"nip44-v2", &[shared_x])
}

/// Seals a text with a nonce that is used once. None for an empty or an oversized one.
pub(super) fn seal(key: &[u8; 32], nonce: &[u8; 32], text: &str) -> Option<String> {
    let length = u16::try_from(text.len()).ok().filter(|length| *length > 0)?;
    let mut payload = Vec::with_capacity(PAYLOAD_BYTES_MIN + 2 * text.len());
    payload.push(VERSION);
    payload.extend_from_slice(nonce);
    payload.extend_from_slice(&length.to_be_bytes());
    payload.extend_from_slice(text.as_bytes());
    payload.resize(HEAD_BYTES + 2 + padded(text.len()), 0);
    let keys = MessageKeys::of(key, nonce)?;
    keys.cipher()?.apply_keystream(payload.get_mut(HEAD_BYTES..)?);
    let mac = hmac(keys.mac()?, &[payload.get(1..)?])?;
    payload.extend_from_slice(&*mac);
    Some(STANDARD.encode(payload))
}

/// Opens what the other side sealed. None for anything else: nothing tells what is wrong with it.
pub(super) fn open(key: &[u8; 32], payload: &str) -> Option<Zeroizing<String>> {
    if payload.len() > PAYLOAD_CHARS_MAX {
        return None;
    }
    let payload = STANDARD.decode(payload).ok()?;
    if payload.len() < PAYLOAD_BYTES_MIN || *payload.first()? != VERSION {
        return None;
    }
    let (payload, mac) = payload.split_at_checked(payload.len() - MAC_BYTES)?;
    let (nonce, sealed) = payload.get(1..)?.split_first_chunk::<32>()?;
    let keys = MessageKeys::of(key, nonce)?;
    let mut expected = <Hmac<Sha256>>::new_from_slice(keys.mac()?).ok()?;
    expected.update(nonce);
    expected.update(sealed);
    expected.verify_slice(mac).ok()?;

    let mut text = Zeroizing::new(sealed.to_vec());
    keys.cipher()?.apply_keystream(&mut text);
    let (length, rest) = text.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (text, _) = rest.split_at_checked(length)?;
    let is_padded = length > 0 && rest.len() == padded(length);
    is_padded.then_some(())?;
    std::str::from_utf8(text).ok().map(|text| Zeroizing::new(text.to_owned()))
}

/// How long a text is with its padding: 32 bytes at least, then steps of 32, then of an eighth of a power of two.
const fn padded(length: usize) -> usize {
    if length <= 32 {
        return 32;
    }
    let power = length.next_power_of_two();
    let chunk = if power <= 256 { 32 } else { power / 8 };
    length.div_ceil(chunk) * chunk
}

/// What a nonce makes of the key of the conversation: key and nonce of the cipher, key of the MAC.
struct MessageKeys(Zeroizing<[u8; 96]>);

impl MessageKeys {
    /// HKDF-expand.
    fn of(key: &[u8; 32], nonce: &[u8; 32]) -> Option<Self> {
        let first = hmac(key, &[nonce, &[1]])?;
        let second = hmac(key, &[&*first, nonce, &[2]])?;
        let third = hmac(key, &[&*second, nonce, &[3]])?;
        let mut keys = Zeroizing::new([0; 96]);
        for (place, block) in keys.chunks_exact_mut(32).zip([first, second, third]) {
            place.copy_from_slice(&*block);
        }
        Some(Self(keys))
    }

    fn cipher(&self) -> Option<ChaCha20> {
        ChaCha20::new_from_slices(self.0.get(..32)?, self.0.get(32..44)?).ok()
    }

    fn mac(&self) -> Option<&[u8]> {
        self.0.get(44..76)
    }
}

/// HMAC-SHA256 over the parts. Never none: it takes keys of any length.
fn hmac(key: &[u8], parts: &[&[u8]]) -> Option<Zeroizing<[u8; 32]>> {
    let mut mac = <Hmac<Sha256>>::new_from_slice(key).ok()?;
    for part in parts {
        mac.update(part);
    }
    Some(Zeroizing::new(mac.finalize().into_bytes().into()))
}

#[cfg(test)]
mod tests {
    use super::padded;

    #[test]
    fn paddings_table() {
        for (length, expected) in [
            (1, 32),
            (32, 32),
            (33, 64),
            (64, 64),
            (65, 96),
            (256, 256),
            (257, 320),
            (320, 320),
            (321, 384),
            (512, 512),
            (513, 640),
            (1025, 1280),
            (65_535, 65_536),
        ] {
            assert_eq!(padded(length), expected, "{length}");
        }
    }
}
