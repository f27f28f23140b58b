use super::{BYTES_MAX, CAVEAT_BYTES_MAX, CAVEATS_MAX, Macaroon, MacaroonError as E};
use crate::{base64, hex};
use proptest::prelude::*;
use serde_json::Value;

fn vectors() -> Vec<Value> {
    let file: Value =
        serde_json::from_str(include_str!("../../../../specs/vectors/l402/macaroons.json")).unwrap();
    file["macaroons"].as_array().unwrap().clone()
}

fn text<'a>(row: &'a Value, member: &str) -> &'a str {
    row[member].as_str().unwrap()
}

/// Bytes of two other libraries decode to the same macaroon; minting and attenuating give their signature.
#[test]
fn l402_20_21_23_macaroons_of_other_libraries() {
    let rows = vectors();
    assert_eq!(rows.len(), 16);
    for row in &rows {
        let name = text(row, "name");
        let root_key = hex::decode_array(text(row, "root_key")).unwrap();
        let identifier = hex::decode(text(row, "identifier")).unwrap();
        let mut minted = Macaroon::mint(&root_key, &identifier, row["location"].as_str().map(str::as_bytes));
        for caveat in row["caveats"].as_array().unwrap() {
            minted.add_caveat(caveat.as_str().unwrap().as_bytes()).unwrap();
        }
        assert_eq!(hex::encode(&minted.signature), text(row, "signature"), "{name}");
        assert_eq!(minted.chain(&root_key).last(), Some(&minted.signature), "{name}");

        for library in ["v2_hex_pymacaroons", "v2_hex_js_macaroon"] {
            let Some(bytes) = row[library].as_str() else { continue };
            let bytes = hex::decode(bytes).unwrap();
            let decoded = Macaroon::decode(&bytes).unwrap();
            assert_eq!(decoded.encode(), bytes, "{name} {library}");
            assert_eq!(decoded.identifier, minted.identifier, "{name} {library}");
            assert_eq!(decoded.caveats, minted.caveats, "{name} {library}");
            assert_eq!(decoded.signature, minted.signature, "{name} {library}");
        }
        let standard = base64::decode_any(text(row, "b64_std"), 4096).unwrap();
        assert_eq!(standard, hex::decode(text(row, "v2_hex_pymacaroons")).unwrap(), "{name}");
        assert_eq!(base64::decode_url(text(row, "b64_url_nopad"), 4096).unwrap(), standard, "{name}");
    }
}

#[test]
fn another_root_key_gives_another_chain() {
    let mut macaroon = Macaroon::mint(&[1; 32], b"id", None);
    macaroon.add_caveat(b"a=1").unwrap();
    assert_eq!(macaroon.chain(&[1; 32]).len(), 2);
    assert_eq!(macaroon.chain(&[1; 32])[1], macaroon.signature);
    assert_ne!(macaroon.chain(&[2; 32])[1], macaroon.signature);
}

#[test]
fn l402_20_22_decode_table() {
    let signature = "ab".repeat(32);
    let with = |middle: &str| format!("{middle}0620{signature}");
    for (rule, bytes, expected) in [
        ("L402-20 shortest", with("0202016100 00"), Ok(())),
        ("L402-21 empty location", with("02 0100 020161 00 00"), Ok(())),
        ("L402-21 caveat with location", with("02 020161 00 0101 78 020162 00 00"), Ok(())),
        ("L402-20 version 1", with("01 020161 00 00"), Err(E::Version)),
        ("L402-20 V1 packet text", "4d4441794d".to_owned(), Err(E::Version)),
        ("nothing", String::new(), Err(E::Version)),
        ("L402-20 no identifier", with("02 00 00"), Err(E::Malformed)),
        ("L402-20 two identifiers", with("02 020161 020162 00 00"), Err(E::Malformed)),
        ("L402-20 location behind identifier", with("02 020161 0100 00 00"), Err(E::Malformed)),
        ("L402-20 two locations", with("02 0100 0100 020161 00 00"), Err(E::Malformed)),
        ("L402-20 padded length", with("02 02810061 00 00"), Err(E::NotMinimal)),
        ("L402-20 huge length", "0202ffffffff0f".to_owned(), Err(E::Malformed)),
        ("L402-20 length beyond the end", "02020561".to_owned(), Err(E::Malformed)),
        ("L402-20 no end of caveats", with("02 020161 00"), Err(E::Malformed)),
        ("L402-20 short signature", format!("02 020161 00 00 061f{}", "ab".repeat(31)), Err(E::Malformed)),
        ("L402-20 long signature", format!("02 020161 00 00 0621{}", "ab".repeat(33)), Err(E::Malformed)),
        ("L402-20 trailing end mark", format!("{}00", with("02 020161 00 00")), Err(E::Malformed)),
        ("L402-22 empty verification id", with("02 020161 00 020162 0400 00 00"), Err(E::ThirdParty)),
        ("L402-22 verification id", with("02 020161 00 020162 040178 00 00"), Err(E::ThirdParty)),
        ("L402-20 caveat without identifier", with("02 020161 00 0400 00 00"), Err(E::Malformed)),
    ] {
        let bytes = hex::decode(&bytes.replace(' ', "")).unwrap();
        assert_eq!(Macaroon::decode(&bytes).map(|_| ()), expected, "{rule}");
    }
}

#[test]
fn every_cut_is_refused() {
    let mut macaroon = Macaroon::mint(&[1; 32], b"identifier", Some(b"lsat"));
    macaroon.add_caveat(b"expires=1").unwrap();
    let bytes = macaroon.encode();
    for end in 0..bytes.len() {
        assert!(Macaroon::decode(&bytes[..end]).is_err(), "{end} of {} bytes", bytes.len());
    }
}

#[test]
fn l402_13_limits_hold_both_ways() {
    let mut macaroon = Macaroon::mint(&[1; 32], b"id", None);
    let before = macaroon.clone();
    assert_eq!(macaroon.add_caveat(&[b'a'; CAVEAT_BYTES_MAX + 1]), Err(E::CaveatTooLong(513)));
    assert_eq!(macaroon, before);
    for _ in 0..CAVEATS_MAX {
        macaroon.add_caveat(b"a=1").unwrap();
    }
    assert_eq!(macaroon.add_caveat(b"a=1"), Err(E::TooManyCaveats));
    assert_eq!(Macaroon::decode(&macaroon.encode()), Ok(macaroon.clone()));
    macaroon.caveats.push(b"a=1".to_vec());
    assert_eq!(Macaroon::decode(&macaroon.encode()), Err(E::TooManyCaveats));

    let mut long = Macaroon::mint(&[1; 32], b"id", None);
    let refused = loop {
        if let Err(error) = long.add_caveat(&[b'a'; CAVEAT_BYTES_MAX]) {
            break error;
        }
    };
    assert!(matches!(refused, E::TooLong(2049..)));
    assert!(long.encode().len() <= BYTES_MAX);
    long.caveats.push(vec![b'a'; CAVEAT_BYTES_MAX]);
    assert!(matches!(Macaroon::decode(&long.encode()), Err(E::TooLong(_))));
    let one_long = Macaroon { caveats: vec![vec![b'a'; CAVEAT_BYTES_MAX + 1]], ..before };
    assert_eq!(Macaroon::decode(&one_long.encode()), Err(E::CaveatTooLong(513)));
}

#[test]
fn l402_23_debug_prints_sizes_only() {
    let macaroon = Macaroon::mint(&[1; 32], b"secretish", None);
    assert_eq!(format!("{macaroon:?}"), "Macaroon(9 identifier bytes, 0 caveats)");
}

proptest! {
    #[test]
    fn any_bytes_are_a_macaroon_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let _ = Macaroon::decode(&bytes);
    }

    /// One changed byte anywhere: refused, or read as something else. Never a panic, never the same.
    #[test]
    fn a_changed_byte_is_noticed(index in 0usize..205, to in any::<u8>()) {
        let mut bytes = hex::decode(text(&vectors()[2], "v2_hex_pymacaroons")).unwrap();
        let original = Macaroon::decode(&bytes).unwrap();
        let changed = bytes[index] != to;
        bytes[index] = to;
        prop_assert_eq!(Macaroon::decode(&bytes).as_ref() != Ok(&original), changed);
    }

    #[test]
    fn what_we_write_reads_back(
        identifier in proptest::collection::vec(any::<u8>(), 0..300),
        location in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
        caveats in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..90), 0..16),
    ) {
        let mut macaroon = Macaroon::mint(&[7; 32], &identifier, location.as_deref());
        for caveat in &caveats {
            macaroon.add_caveat(caveat).unwrap();
        }
        prop_assert_eq!(Macaroon::decode(&macaroon.encode()), Ok(macaroon));
    }
}
