//! `application/x-www-form-urlencoded`, both ways.

/// Why bytes are no form. Holds no part of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// More fields than the caller reads.
    #[error("more than {0} fields")]
    TooMany(usize),
    /// A per cent sign without two hexadecimal digits.
    #[error("a per cent sign without two hexadecimal digits")]
    Escape,
    /// Not UTF-8 once it is decoded.
    #[error("not UTF-8")]
    Encoding,
    /// One name stands twice: two readers could see two values.
    #[error("a name stands twice")]
    Twice,
}

/// Writes fields. Names may have brackets, which services read as they are.
#[must_use]
pub fn encode(fields: &[(&str, &str)]) -> String {
    let mut body = String::new();
    for (name, value) in fields {
        if !body.is_empty() {
            body.push('&');
        }
        body.push_str(name);
        body.push('=');
        push_escaped(value, &mut body);
    }
    body
}

/// Reads at most `fields_max` fields, decoded once, in their order. The caller bounds the length.
///
/// # Errors
/// [`FormError`]: looser readers would make different things of the same bytes.
pub fn decode(body: &[u8], fields_max: usize) -> Result<Vec<(String, String)>, FormError> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        if fields.len() == fields_max {
            return Err(FormError::TooMany(fields_max));
        }
        let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let name = unescaped(&pair[..end])?;
        if fields.iter().any(|(known, _)| *known == name) {
            return Err(FormError::Twice);
        }
        fields.push((name, unescaped(pair.get(end + 1..).unwrap_or_default())?));
    }
    Ok(fields)
}

fn push_escaped(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                out.push('%');
                out.push_str(&crate::hex::encode(&[byte]).to_ascii_uppercase());
            }
        }
    }
}

fn unescaped(text: &[u8]) -> Result<String, FormError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (digits, behind) = rest.split_at_checked(2).ok_or(FormError::Escape)?;
                let digits = std::str::from_utf8(digits).map_err(|_| FormError::Escape)?;
                let [byte] = crate::hex::decode_array::<1>(digits).map_err(|_| FormError::Escape)?;
                bytes.push(byte);
                rest = behind;
            }
            _ => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| FormError::Encoding)
}

#[cfg(test)]
mod tests {
    use super::{FormError as E, decode, encode};
    use proptest::prelude::*;

    #[test]
    fn forms_are_escaped() {
        let form = encode(&[("amountSat", "22"), ("description", "a b&c=d/é"), ("externalId", "x")]);
        assert_eq!(form, "amountSat=22&description=a+b%26c%3Dd%2F%C3%A9&externalId=x");
    }

    #[test]
    fn decode_table() {
        let fields = |fields: &[(&str, &str)]| {
            Ok(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        for (body, expected) in [
            ("", fields(&[])),
            ("a=1&b=%2b+%e9%a2%84", fields(&[("a", "1"), ("b", "+ 预")])),
            ("decoded=%2525&once", fields(&[("decoded", "%25"), ("once", "")])),
            ("a=1=2&&b=", fields(&[("a", "1=2"), ("b", "")])),
            ("a=1&%61=2", Err(E::Twice)),
            ("a=%2", Err(E::Escape)),
            ("a=%zz", Err(E::Escape)),
            ("a=%\u{e9}1", Err(E::Escape)),
            ("a=%e9", Err(E::Encoding)),
            ("a=1&b=2&c=3&d=4", Err(E::TooMany(3))),
        ] {
            assert_eq!(decode(body.as_bytes(), 3), expected, "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_fields_or_an_error(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&body, 8);
        }

        #[test]
        fn what_we_write_reads_back(value in any::<String>()) {
            let body = encode(&[("a", &value), ("b", "")]);
            let expected = vec![("a".to_owned(), value), ("b".to_owned(), String::new())];
            prop_assert_eq!(decode(body.as_bytes(), 2), Ok(expected));
        }
    }
}
