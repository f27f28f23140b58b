use super::{CreditKey, CreditKeyError as E, KeyId, Mode, TEXT_BYTES_MAX};
use crate::base64;
use crate::macaroon::{Macaroon, MacaroonError};
use proptest::prelude::*;

/// The worked example of specs/credit-keys.md.
const PLAIN: &str = "fk_test_AgImRksBAQAHoKGio6SlpqeoqaqrrK2ur8DBwsPExcbHyMnKy8zNzs8AAAYg3SsHebek3FRCDUVBuKcGcxAGEEi8FBQQvBJw6TWsn60";

fn id() -> KeyId {
    KeyId {
        mode: Mode::Test,
        epoch: 7,
        account: std::array::from_fn(|index| 0xa0 + u8::try_from(index).unwrap()),
        key_id: std::array::from_fn(|index| 0xc0 + u8::try_from(index).unwrap()),
    }
}

fn text_of(prefix: &str, identifier: &[u8]) -> String {
    format!("{prefix}{}", base64::encode_url(&Macaroon::mint(&[1; 32], identifier, None).encode()))
}

#[test]
fn the_worked_example_reads_and_writes() {
    assert_eq!(PLAIN.len(), 111);
    let key = CreditKey::parse(PLAIN).unwrap();
    assert_eq!(*key.id(), id());
    assert_eq!(key.to_text(), PLAIN);
    assert_eq!(KeyId::decode(&id().encode()), Some(id()));
}

#[test]
fn refused_table() {
    let identifier = id().encode();
    let altered = |index: usize, to: u8| {
        let mut bytes = identifier;
        bytes[index] = to;
        text_of("fk_test_", &bytes)
    };
    let lightning = [[0; 33], [1; 33]].concat();
    let token = &PLAIN[8..];
    for (rule, text, expected) in [
        ("another SDK's key", "sk-proj-1".to_owned(), E::OtherPrefix),
        ("L402-16 wrapped L402", format!("l402_{token}"), E::OtherPrefix),
        ("prefix in upper case", format!("FK_TEST_{token}"), E::OtherPrefix),
        ("prefix only", "fk_test_".to_owned(), E::Macaroon(MacaroonError::Version)),
        ("L402-12 padded", format!("{PLAIN}="), E::Base64),
        (
            "L402-12 standard alphabet",
            format!("fk_test_{}", token.replace(['-', '_'], "+") + "+/"),
            E::Base64,
        ),
        ("trailing space", format!("{PLAIN} "), E::Base64),
        (
            "L402-13 too long",
            format!("fk_live_{}", "A".repeat(TEXT_BYTES_MAX)),
            E::TooLong(TEXT_BYTES_MAX + 8),
        ),
        ("prefix says live", PLAIN.replace("fk_test_", "fk_live_"), E::Mode),
        ("L402-30 payment hash under fk_", text_of("fk_test_", &lightning), E::Identifier),
        ("L402-30 other kind", altered(0, 0), E::Identifier),
        ("layout 2", altered(2, 2), E::Identifier),
        ("mode 2", altered(3, 2), E::Identifier),
        ("one byte short", text_of("fk_test_", &identifier[..37]), E::Identifier),
        ("one byte more", text_of("fk_test_", &[&identifier[..], &[0]].concat()), E::Identifier),
        ("no macaroon", "fk_test_AAAA".to_owned(), E::Macaroon(MacaroonError::Version)),
    ] {
        assert_eq!(CreditKey::parse(&text).map(|_| ()), Err(expected), "{rule}");
    }
}

#[test]
fn debug_hides_the_signature() {
    let key = CreditKey::parse(PLAIN).unwrap();
    let shown = format!("{key:?}");
    assert!(shown.contains("a0a1a2a3") && shown.contains("signature hidden"), "{shown}");
    assert!(!shown.contains("3SsHebek") && !shown.contains("dd2b07"), "{shown}");
}

proptest! {
    #[test]
    fn any_text_is_a_key_or_an_error(text in "(fk_(live|test)_)?[A-Za-z0-9_=-]{0,160}") {
        let _ = CreditKey::parse(&text);
    }

    /// Cut or altered text is refused, or is some other key: never the same one.
    #[test]
    fn text_is_unambiguous(index in 8usize..111, to in "[A-Za-z0-9_-]") {
        let mut text = PLAIN.to_owned();
        text.replace_range(index..=index, &to);
        let same = text == PLAIN;
        prop_assert_eq!(CreditKey::parse(&text) == CreditKey::parse(PLAIN), same);
        prop_assert!(CreditKey::parse(&PLAIN[..index]).is_err());
    }

    #[test]
    fn ids_round_trip(live in any::<bool>(), epoch in any::<u16>(), account in any::<[u8; 16]>(), key_id in any::<[u8; 16]>()) {
        let mode = if live { Mode::Live } else { Mode::Test };
        let id = KeyId { mode, epoch, account, key_id };
        let key = CreditKey::from_macaroon(Macaroon::mint(&[1; 32], &id.encode(), None)).unwrap();
        prop_assert_eq!(CreditKey::parse(&key.to_text()), Ok(key));
    }
}
