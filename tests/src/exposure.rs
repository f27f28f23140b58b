//! Looks for a secret in whatever it might have leaked into, in the forms it might have there.

/// Forms of a secret: as it is, as base64 in both alphabets at each alignment, as hex in both cases.
pub fn forms(secret: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut forms = vec![("raw".to_owned(), secret.to_vec())];
    for alphabet in [STANDARD, URL] {
        for shift in 0..3 {
            let shifted = [vec![0; shift], secret.to_vec()].concat();
            let text = base64(&shifted, alphabet);
            // Characters that other bytes before or behind the secret have a part in.
            let first = [0, 2, 3][shift];
            let whole = (shift + secret.len()) * 8 / 6;
            forms.push((format!("base64 at {shift}"), text[first..whole].to_vec()));
        }
    }
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    forms.push(("hex".to_owned(), hex.as_bytes().to_vec()));
    forms.push(("HEX".to_owned(), hex.to_ascii_uppercase().into_bytes()));
    forms
}

/// The form in which `secret` stands in `hay`, if it does.
pub fn found(hay: &[u8], secret: impl AsRef<[u8]>) -> Option<String> {
    forms(secret.as_ref())
        .into_iter()
        .find(|(_, form)| crate::socket::find(hay, form).is_some())
        .map(|(name, _)| name)
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> Vec<u8> {
    let mut text = Vec::new();
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..=group.len() {
            text.push(alphabet[usize::try_from(bits >> (18 - 6 * place) & 63).unwrap()]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{STANDARD, base64, found};

    #[test]
    fn every_form_is_found_and_nothing_else() {
        let secret = "canary-0123456789-abcdef";
        for before in ["", "a", "ab", "abc"] {
            let text = format!("{before}{secret}behind");
            assert_eq!(found(text.as_bytes(), secret).as_deref(), Some("raw"));
            let encoded = base64(text.as_bytes(), STANDARD);
            assert!(found(&encoded, secret).unwrap().starts_with("base64"), "{before}");
        }
        assert_eq!(base64(b"any carnal pleas", STANDARD), b"YW55IGNhcm5hbCBwbGVhcw");
        assert_eq!(
            found(b"63616e6172792d303132333435363738392d616263646566", secret).as_deref(),
            Some("hex")
        );
        assert_eq!(found(b"canary-0123456789-abcdeg", secret), None);
    }
}
