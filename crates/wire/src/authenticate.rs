//! The grammar of `WWW-Authenticate`, as a payer reads it.
//!
//! ```text
//! WWW-Authenticate: 1#( scheme [ 1*SP 1#( name BWS "=" BWS ( word / quoted-string ) ) ] )      RFC 9110 section 11
//! ```
//! Proxies and `fetch` join lines with commas, so challenges of several schemes stand in one. What is no grammar is
//! passed over up to the next comma: one seller's slip does not hide another protocol's offer.

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
        rest = after(rest, |byte| is_space(byte) || byte == b',');
        let behind = after(rest, is_word);
        let word = ascii(&rest[..rest.len() - behind.len()]);
        if word.is_empty() {
            // Nothing of the grammar: what another protocol has there is passed over up to the next comma.
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
            current.scheme = word;
            rest = behind;
        }
    }
    found.push(current);
    found.retain(|challenge| !challenge.scheme.is_empty());
    found
}

/// A value, quoted or not, and what comes behind it; `None` when its quote never closes.
fn read_value(from: &[u8]) -> (Option<Vec<u8>>, &[u8]) {
    let Some(quoted) = from.strip_prefix(b"\"") else {
        let behind = after(from, |byte| !is_space(byte) && byte != b',');
        return (Some(from[..from.len() - behind.len()].to_vec()), behind);
    };
    let mut value = Vec::new();
    let mut bytes = quoted.iter().copied().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return (Some(value), &quoted[at + 1..]),
            b'\\' => value.extend(bytes.next().map(|(_, escaped)| escaped)),
            _ => value.push(byte),
        }
    }
    (None, &[])
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
