//! NIP-04: AES-256-CBC with the bare point of ECDH as its key. It hides no length and has no MAC: what is opened is
//! trusted because the event around it is signed. For wallets that know nothing newer.

use aes::Aes256;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use zeroize::Zeroizing;

/// What stands between the text and the vector.
const VECTOR: &str = "?iv=";

/// Seals a text with a vector that is used once.
pub(super) fn seal(shared_x: &[u8; 32], vector: &[u8; 16], text: &str) -> String {
    let cipher = cbc::Encryptor::<Aes256>::new(shared_x.into(), vector.into());
    let sealed = cipher.encrypt_padded_vec::<Pkcs7>(text.as_bytes());
    format!("{}{VECTOR}{}", STANDARD.encode(sealed), STANDARD.encode(vector))
}

/// Opens what the other side sealed.
pub(super) fn open(shared_x: &[u8; 32], payload: &str) -> Option<Zeroizing<String>> {
    let (sealed, vector) = payload.split_once(VECTOR)?;
    let sealed = STANDARD.decode(sealed).ok()?;
    let vector: [u8; 16] = STANDARD.decode(vector).ok()?.try_into().ok()?;
    let cipher = cbc::Decryptor::<Aes256>::new(shared_x.into(), &vector.into());
    let text = Zeroizing::new(cipher.decrypt_padded_vec::<Pkcs7>(&sealed).ok()?);
    std::str::from_utf8(&text).ok().map(|text| Zeroizing::new(text.to_owned()))
}
