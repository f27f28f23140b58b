//! Bodies as HTML forms have them.

/// `application/x-www-form-urlencoded`. Names may have brackets, which services read as they are.
pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let mut body = String::new();
    for (name, value) in fields {
        if !body.is_empty() {
            body.push('&');
        }
        body.push_str(name);
        body.push('=');
        encode(value, &mut body);
    }
    body
}

fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                out.push('%');
                out.push_str(&wire::hex::encode(&[byte]).to_ascii_uppercase());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::form;

    #[test]
    fn forms_are_escaped() {
        let form = form(&[("amountSat", "22"), ("description", "a b&c=d/é"), ("externalId", "x")]);
        assert_eq!(form, "amountSat=22&description=a+b%26c%3Dd%2F%C3%A9&externalId=x");
    }
}
