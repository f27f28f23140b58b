//! Secrets: referenced from the file, never written in it (UX-30, SEC-50).

use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::section::Context;
use super::yaml::{Kind, Node};

/// Longest secret we read, in bytes.
const SECRET_BYTES_MAX: usize = 16 * 1024;

/// A secret text, such as an upstream's key. `Debug` says nothing; memory is wiped on drop.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself, to be put on the wire and nowhere else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// 32 secret bytes: a master key or an Ed25519 seed.
#[derive(Clone)]
pub struct Secret32(Zeroizing<[u8; 32]>);

impl Secret32 {
    /// Wraps a key.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads a key file: 32 raw bytes, or 64 hex digits with an optional line end.
    #[must_use]
    pub fn decode(content: &[u8]) -> Option<Self> {
        if let Ok(bytes) = <[u8; 32]>::try_from(content) {
            return Some(Self::new(bytes));
        }
        let digits = content.trim_ascii_end();
        if digits.len() != 64 {
            return None;
        }
        let mut bytes = Zeroizing::new([0u8; 32]);
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (hex_digit(*pair.first()?)?, hex_digit(*pair.get(1)?)?);
            *byte = high << 4 | low;
        }
        Some(Self(bytes))
    }

    /// The text of a key file: 64 hex digits with a line end.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(65));
        for byte in self.0.iter() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
        }
        text.push('\n');
        text
    }

    /// The key itself.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Keys that stand in public test data or are no keys at all (X402-49).
    fn is_public(&self) -> bool {
        // RFC 8032 7.1 test 1, RFC 9421 B.1.4.
        const PUBLISHED: [[u8; 32]; 2] = [
            [
                0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c,
                0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae,
                0x7f, 0x60,
            ],
            [
                0x9f, 0x83, 0x62, 0xf8, 0x7a, 0x48, 0x4a, 0x95, 0x4e, 0x6e, 0x74, 0x0c, 0x5b, 0x4c, 0x0e,
                0x84, 0x22, 0x91, 0x39, 0xa2, 0x0a, 0xa8, 0xab, 0x56, 0xff, 0x66, 0x58, 0x6f, 0x6a, 0x7d,
                0x29, 0xc5,
            ],
        ];
        const COUNTING: [u8; 8] = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
        let key = self.expose();
        let repeats = key.iter().all(|byte| Some(byte) == key.first());
        repeats || key.chunks(8).all(|part| part == COUNTING) || PUBLISHED.contains(key)
    }
}

impl fmt::Debug for Secret32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret32(hidden)")
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    u8::try_from(char::from(byte).to_digit(16)?).ok()
}

/// Where a key of the gateway comes from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// Named by the operator and read.
    Given(Secret32),
    /// A file in the store's folder; `serve` creates it with mode 0600 when it is not there.
    Generated(PathBuf),
}

impl Context<'_> {
    /// A secret text behind a reference. Never shows what stood there instead.
    pub(super) fn secret(&self, path: &str, node: &Node) -> Option<Secret> {
        let bytes = self.secret_bytes(path, node)?;
        let text = std::str::from_utf8(&bytes).map(str::trim_end).unwrap_or_default();
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            self.report.add(node.span, format!("{path}: the secret is empty or not one line of plain text"));
            return None;
        }
        Some(Secret::new(text.to_owned()))
    }

    /// A secret text of several lines behind a reference: a key as PEM. Never shows what stood there instead.
    pub(super) fn secret_lines(&self, path: &str, node: &Node) -> Option<Secret> {
        let bytes = self.secret_bytes(path, node)?;
        let text = std::str::from_utf8(&bytes).map(str::trim).unwrap_or_default();
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) {
            self.report.add(node.span, format!("{path}: the secret is empty or not plain text"));
            return None;
        }
        Some(Secret::new(text.to_owned()))
    }

    /// A 32-byte key behind a reference.
    pub(super) fn secret32(&self, path: &str, node: &Node) -> Option<Secret32> {
        let bytes = self.secret_bytes(path, node)?;
        let Some(key) = Secret32::decode(&bytes) else {
            self.report.add(node.span, format!("{path}: a key is 32 bytes or 64 hex digits"));
            return None;
        };
        if key.is_public() && self.mode == super::Mode::Live {
            self.report
                .add(node.span, format!("{path}: this is a public test key; never use it in mode live"));
            return None;
        }
        Some(key)
    }

    /// The path behind a `file:` reference, mode checked, content left where it is.
    pub(super) fn secret_path(&self, path: &str, node: &Node) -> Option<PathBuf> {
        let found = match self.reference(path, node)? {
            Reference::File(file) => file,
            Reference::Env(_) => {
                self.report.add(node.span, format!("{path}: must be a file, ${{file:/path}}"));
                return None;
            }
        };
        self.file(path, node, &found).map(|_| found)
    }

    fn secret_bytes(&self, path: &str, node: &Node) -> Option<Zeroizing<Vec<u8>>> {
        match self.reference(path, node)? {
            Reference::File(file) => self.file(path, node, &file),
            Reference::Env(variable) => match (self.env)(&variable) {
                Some(value) if !value.is_empty() => Some(Zeroizing::new(value.into_bytes())),
                Some(_) => self.lost(path, node, &format!("the environment variable {variable} is empty")),
                None => self.lost(path, node, &format!("the environment variable {variable} is not set")),
            },
        }
    }

    fn file(&self, path: &str, node: &Node, file: &std::path::Path) -> Option<Zeroizing<Vec<u8>>> {
        let shown = file.display();
        match (self.read)(file) {
            Err(error) => self.lost(path, node, &format!("cannot read {shown}: {}", why_unread(&error))),
            Ok(found) if found.mode & 0o077 != 0 => {
                let mode = found.mode & 0o777;
                self.lost(
                    path,
                    node,
                    &format!("{shown} has mode {mode:04o}, others can read it; chmod 600 it"),
                )
            }
            Ok(found) if found.bytes.is_empty() => self.lost(path, node, &format!("{shown} is empty")),
            Ok(found) if found.bytes.len() > SECRET_BYTES_MAX => {
                self.lost(path, node, &format!("{shown} is too large for a secret"))
            }
            Ok(found) => Some(found.bytes),
        }
    }

    fn lost<T>(&self, path: &str, node: &Node, why: &str) -> Option<T> {
        self.report.add(node.span, format!("{path}: {why}"));
        None
    }

    fn reference(&self, path: &str, node: &Node) -> Option<Reference> {
        let written = match &node.kind {
            Kind::Scalar(text) => Reference::parse(text),
            Kind::Null | Kind::List(_) | Kind::Map(_) => None,
        };
        let Some(reference) = written else {
            node.hide_scalars(&self.report);
            let message =
                "must be a reference, ${env:NAME} or ${file:/path}; a secret never stands in the file";
            return self.lost(path, node, message);
        };
        Some(match reference {
            Reference::File(file) => Reference::File(self.folder.join(file)),
            Reference::Env(variable) => Reference::Env(variable),
        })
    }
}

/// Why a file could not be read, in words without numbers.
pub(super) fn why_unread(error: &std::io::Error) -> String {
    let kind = error.kind();
    if kind == std::io::ErrorKind::NotFound { "there is no such file".to_owned() } else { kind.to_string() }
}

enum Reference {
    Env(String),
    File(PathBuf),
}

impl Reference {
    /// `${env:X}`, `${file:/path}`, and the same without the braces.
    fn parse(text: &str) -> Option<Self> {
        let inner = match text.strip_prefix("${") {
            Some(rest) => rest.strip_suffix('}')?,
            None => text,
        };
        if let Some(variable) = inner.strip_prefix("env:") {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            let good = !variable.is_empty() && variable.bytes().all(fits);
            return good.then(|| Self::Env(variable.to_owned()));
        }
        let file = inner.strip_prefix("file:")?;
        (!file.is_empty()).then(|| Self::File(PathBuf::from(file)))
    }
}

#[cfg(test)]
mod tests {
    use super::Secret32;

    #[test]
    fn keys_are_raw_or_hex() {
        let key = Secret32::new([0xa5; 32]);
        assert_eq!(Secret32::decode(key.encode().as_bytes()).unwrap().expose(), &[0xa5; 32]);
        assert_eq!(Secret32::decode(&[0xa5; 32]).unwrap().expose(), &[0xa5; 32]);
        assert!(Secret32::decode(&[0xa5; 31]).is_none());
        assert!(Secret32::decode("zz".repeat(32).as_bytes()).is_none());
    }

    #[test]
    fn published_keys_are_known() {
        let hex = |text: &str| Secret32::decode(text.as_bytes()).unwrap();
        assert!(hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").is_public());
        assert!(hex("9f8362f87a484a954e6e740c5b4c0e84229139a20aa8ab56ff66586f6a7d29c5").is_public());
        assert!(hex(&"0123456789abcdef".repeat(4)).is_public());
        assert!(hex(&"07".repeat(32)).is_public());
        assert!(!hex(&format!("{}08", "07".repeat(31))).is_public());
    }
}
