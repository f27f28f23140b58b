//! The four forms of RSA keys, as far as they have to be told apart: how long a key is, and where its PKCS#1 form stands.

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
/// `rsaEncryption` with its parameter, which is null.
const RSA: [u8; 13] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// A key in its PKCS#1 form.
pub(super) struct Pkcs1<'a> {
    pub(super) der: &'a [u8],
    pub(super) bits: usize,
}

/// A private key: PKCS#8, or PKCS#1 itself. Only its head is looked at.
pub(super) fn private(der: &[u8]) -> Option<Pkcs1<'_>> {
    let rest = behind_version(whole(SEQUENCE, der)?)?;
    let Some((algorithm, rest)) = element(SEQUENCE, rest) else {
        let (modulus, _) = element(INTEGER, rest)?;
        return Some(Pkcs1 { der, bits: bits(modulus) });
    };
    let (inner, _) = element(OCTET_STRING, rest)?;
    let (modulus, _) = element(INTEGER, behind_version(whole(SEQUENCE, inner)?)?)?;
    (algorithm == RSA).then(|| Pkcs1 { der: inner, bits: bits(modulus) })
}

/// A public key: X.509's `SubjectPublicKeyInfo`, or PKCS#1 itself.
pub(super) fn public(der: &[u8]) -> Option<Pkcs1<'_>> {
    let body = whole(SEQUENCE, der)?;
    let Some((algorithm, rest)) = element(SEQUENCE, body) else {
        let (modulus, rest) = element(INTEGER, body)?;
        let exponent = whole(INTEGER, rest)?;
        let is_key = exponent.last().is_some_and(|byte| byte % 2 == 1);
        return is_key.then(|| Pkcs1 { der, bits: bits(modulus) });
    };
    let (unused_bits, inner) = whole(BIT_STRING, rest)?.split_first()?;
    let is_plain = algorithm == RSA && *unused_bits == 0 && inner.first() == Some(&SEQUENCE);
    // What stands inside of it is PKCS#1, and not one more of these.
    let holds_number = whole(SEQUENCE, inner)?.first() == Some(&INTEGER);
    if is_plain && holds_number { public(inner) } else { None }
}

/// Private keys of both forms begin with version 0; a public one begins with its modulus.
fn behind_version(body: &[u8]) -> Option<&[u8]> {
    let (version, rest) = element(INTEGER, body)?;
    (version == [0]).then_some(rest)
}

/// The content of an element that is all there is.
fn whole(tag: u8, bytes: &[u8]) -> Option<&[u8]> {
    let (content, rest) = element(tag, bytes)?;
    rest.is_empty().then_some(content)
}

/// The content of the first element, and what stands behind it.
fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [found, length, rest @ ..] = bytes else { return None };
    let (length, rest) = match (length, rest) {
        (0..=0x7f, rest) => (usize::from(*length), rest),
        (0x81, [length, rest @ ..]) => (usize::from(*length), rest),
        (0x82, [high, low, rest @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    if *found == tag { rest.split_at_checked(length) } else { None }
}

/// Of a number that may have a zero before it.
fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let rest = &number[zeros..];
    let leading = rest.first().map_or(0, |byte| byte.leading_zeros());
    (rest.len() * 8).saturating_sub(usize::try_from(leading).unwrap_or(0))
}
