//! The grammar of `WWW-Authenticate`, as a payer reads it.
//!
//! ```text
//! WWW-Authenticate: 1#( scheme [ 1*SP 1#( name BWS "=" BWS ( word / quoted-string ) ) ] )      RFC 9110 section 11
//! ```
//! Proxies and `fetch` join lines with commas, so challenges of several schemes stand in one. What is no grammar is
//! passed over up to the next comma: one seller's slip does not hide another protocol's offer. Beyond the grammar,
//! `\uXXXX` in a quoted string is the UTF-16 code unit, as SDKs of MPP write what no header carries.

/// Longest line that is looked into, in bytes.
pub const LINE_BYTES_MAX: usize = 32 * 1024;

/// One challenge of any scheme, its parameters in their order. Nothing here is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// The name of the scheme in the letter case it came in; empty where parameters came without one.
    pub scheme: String,
    /// Names in the letter case they came in, values without quotes and escapes.
    pub params: Vec<(String, Vec<u8>)>,
    /// The last value has no closing quote.
    pub is_cut_off: bool,
}

/// The challenges of one line. The caller bounds it by [`LINE_BYTES_MAX`].
#[must_use]
pub fn challenges(line: &[u8]) -> Vec<Challenge> {
    let (mut found, mut current) = (Vec::new(), Challenge::default());
    let mut rest = line;
    loop {
        let is_first = rest.len() == line.len();
        let behind = after(rest, |byte| is_space(byte) || byte == b',');
        let is_element = is_first || rest[..rest.len() - behind.len()].contains(&b',');
        rest = behind;
        let behind = after(rest, is_word);
        let word = ascii(&rest[..rest.len() - behind.len()]);
        if word.is_empty() {
            // Nothing of the grammar: what another protocol has there is passed over up to the next comma, and what
            // follows belongs to no challenge.
            found.push(std::mem::take(&mut current));
            rest = after(rest, |byte| byte != b',');
            if rest.is_empty() {
                break;
            }
            continue;
        }
        if let Some(value) = after(behind, is_space).strip_prefix(b"=") {
            let (value, behind) = read_value(after(value, is_space));
            match value {
                Some(value) => current.params.push((word, value)),
                None => current.is_cut_off = true,
            }
            rest = behind;
        } else {
            found.push(std::mem::take(&mut current));
            // A word inside an element is no scheme, and what follows it belongs to none.
            current.scheme = if is_element { word } else { String::new() };
            rest = behind;
        }
    }
    found.push(current);
    found.retain(|challenge| !challenge.scheme.is_empty());
    found
}

/// A value, quoted or not, and what comes behind it; `None` when its quote never closes.
fn read_value(from: &[u8]) -> (Option<Vec<u8>>, &[u8]) {
    let Some(mut rest) = from.strip_prefix(b"\"") else {
        let behind = after(from, |byte| !is_space(byte) && byte != b',');
        return (Some(from[..from.len() - behind.len()].to_vec()), behind);
    };
    let mut value = Vec::new();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'"' => return (Some(value), rest),
            b'\\' => rest = read_escaped(rest, &mut value),
            _ => value.push(byte),
        }
    }
    (None, &[])
}

/// Reads what a backslash stands before, and returns what comes behind it.
fn read_escaped<'a>(from: &'a [u8], value: &mut Vec<u8>) -> &'a [u8] {
    let Some((unit, behind)) = code_unit(from) else {
        let Some((&byte, behind)) = from.split_first() else { return from };
        value.push(byte);
        return behind;
    };
    let low = behind.strip_prefix(b"\\").and_then(code_unit);
    let pair = low.and_then(|(low, behind)| Some((one_letter(&[unit, low])?, behind)));
    let (letter, behind) = pair.unwrap_or_else(|| (one_letter(&[unit]).unwrap_or('\u{fffd}'), behind));
    value.extend(letter.encode_utf8(&mut [0; 4]).bytes());
    behind
}

/// `uXXXX`
fn code_unit(from: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, behind) = from.strip_prefix(b"u")?.split_at_checked(4)?;
    let digits =
        std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    Some((u16::from_str_radix(digits, 16).ok()?, behind))
}

fn one_letter(units: &[u16]) -> Option<char> {
    let mut letters = char::decode_utf16(units.iter().copied());
    letters.next()?.ok().filter(|_| letters.next().is_none())
}

fn after(bytes: &[u8], skip: impl Fn(u8) -> bool) -> &[u8] {
    let skipped = bytes.iter().take_while(|byte| skip(**byte)).count();
    &bytes[skipped..]
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// `tchar` of RFC 9110.
pub(crate) const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

fn ascii(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::challenges;
    use proptest::prelude::*;

    /// `scheme(name=value name=value)`, with `!` behind a challenge that is cut off.
    fn shown(line: &str) -> String {
        let shown = challenges(line.as_bytes()).into_iter().map(|challenge| {
            let params = challenge
                .params
                .iter()
                .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)));
            let end = if challenge.is_cut_off { "!" } else { "" };
            format!("{}({}){end}", challenge.scheme, params.collect::<Vec<_>>().join(" "))
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn read_table() {
        for (what, line, expected) in [
            ("one", r#"A x="1", y=2"#, "A(x=1 y=2)"),
            ("two in one line", r#"A x="1",B y="2""#, "A(x=1) B(y=2)"),
            ("empty elements", r#" , A x="1" ,, , B y="2", "#, "A(x=1) B(y=2)"),
            ("spaces around the sign", "A x = \"1\"\t,\ty\t=\t2", "A(x=1 y=2)"),
            ("no comma between parameters", r#"A x="1" y="2""#, "A(x=1 y=2)"),
            ("token68", r#"Negotiate YII=, A x="1""#, "Negotiate(YII=) A(x=1)"),
            ("token68 with a solidus", r#"Negotiate YI/I==, A x="1""#, "Negotiate() A(x=1)"),
            ("a scheme alone", "A, B", "A() B()"),
            ("separators in quotes", r#"A x="B y=\"2\", C", z="=""#, r#"A(x=B y="2", C z==)"#),
            ("parameters without a scheme", r#"x="1", A y="2""#, "A(y=2)"),
            ("a word inside an element", r#"A x="1" B y="2", C z="3""#, "A(x=1) C(z=3)"),
            ("no grammar", r#"A x="1", {"error": "y"}, w="2", B z="3""#, "A(x=1) B(z=3)"),
            ("never closed", r#"A x="1", B y="2"#, "A(x=1) B()!"),
            ("closed by an escape", r#"A x="1\""#, "A()!"),
            ("ends in an escape", r#"A x="1\"#, "A()!"),
            ("code units", r#"A x="\u20ac\ud83d\ude00\u0022\u00e9""#, "A(x=€😀\"é)"),
            (
                "half a pair",
                r#"A x="\ud83d!", y="\ud83d\u0041", z="\ude00""#,
                "A(x=\u{fffd}! y=\u{fffd}A z=\u{fffd})",
            ),
            ("no code unit", r#"A x="\u20a", y="\u+123", z="\U0041""#, "A(x=u20a y=u+123 z=U0041)"),
            ("nothing", "", ""),
        ] {
            assert_eq!(shown(line), expected, "{what}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = challenges(&bytes);
        }

        #[test]
        fn text_of_the_grammar_too(line in "[A-Ba-b =,\"\\\\u0-3]{0,80}") {
            for challenge in challenges(line.as_bytes()) {
                prop_assert!(!challenge.scheme.is_empty());
            }
        }
    }
}
