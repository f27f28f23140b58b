//! Our own rows, and the official suite read in place.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{BareItem, Dictionary, InnerList, Item, List, Member, Parameters, StructuredFieldError as E};
use crate::base64;
use crate::third_party_vectors::read;

/// Files of the suite, and how many cases each has.
const SUITE: [(&str, usize); 10] = [
    ("binary", 15),
    ("dictionary", 26),
    ("item", 5),
    ("key-generated", 640),
    ("list", 11),
    ("number", 37),
    ("param-dict", 14),
    ("param-list", 20),
    ("string", 14),
    ("token", 6),
];

/// As many members as the suite's containers may have.
const MANY: usize = 1024;

/// The suite's own notation of a value, and its canonical text.
fn parsed(kind: &str, text: &str) -> Result<(Value, String), E> {
    Ok(match kind {
        "item" => {
            let read = Item::parse(text)?;
            (item(&read), read.to_text())
        }
        "list" => {
            let read = List::parse(text, MANY)?;
            (read.0.iter().map(member).collect(), read.to_text())
        }
        "dictionary" => {
            let read = Dictionary::parse(text, MANY)?;
            (read.0.iter().map(|(name, of)| json!([name, member(of)])).collect(), read.to_text())
        }
        other => panic!("{other}"),
    })
}

fn member(of: &Member) -> Value {
    match of {
        Member::Item(of) => item(of),
        Member::InnerList(InnerList { items, parameters: of }) => {
            json!([items.iter().map(item).collect::<Value>(), parameters(of)])
        }
    }
}

fn item(of: &Item) -> Value {
    json!([bare(&of.bare), parameters(&of.parameters)])
}

fn parameters(of: &Parameters) -> Value {
    of.0.iter().map(|(name, value)| json!([name, bare(value)])).collect()
}

fn bare(of: &BareItem) -> Value {
    match of {
        BareItem::Integer(number) => json!(number),
        // Compared as text: the suite writes a float, and there are none here.
        BareItem::Decimal(_) => serde_json::from_str(&of.to_string()).unwrap(),
        BareItem::String(text) => json!(text),
        BareItem::Token(word) => json!({"__type": "token", "value": word}),
        BareItem::Bytes(bytes) => json!({"__type": "binary", "value": base32(bytes)}),
        BareItem::Boolean(truth) => json!(truth),
    }
}

/// RFC 4648 base32, as the suite writes bytes.
fn base32(bytes: &[u8]) -> String {
    let groups = bytes.chunks(5).map(|chunk| {
        let mut group = [0; 8];
        group[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(group);
        let used = (chunk.len() * 8).div_ceil(5);
        (0..8).map(move |at| match at < used {
            true => char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[(bits >> (35 - 5 * at)) as usize & 31]),
            false => '=',
        })
    });
    groups.flatten().collect()
}

#[test]
fn the_official_suite_is_read_and_written() {
    for (name, count) in SUITE {
        let Some(file) = read(&format!("crypto/structured-fields/{name}")) else { return };
        let cases = file.as_array().unwrap();
        assert_eq!(cases.len(), count, "{name}");
        for case in cases {
            let lines: Vec<&str> =
                case["raw"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
            let (what, text) = (format!("{name}: {}", case["name"]), lines.join(", "));
            let read = parsed(case["header_type"].as_str().unwrap(), &text);
            if case["must_fail"] == true {
                assert!(read.is_err(), "{what}");
                continue;
            }
            // What may fail and is no canonical text: base64 without its padding or with bits left over is refused.
            if case["can_fail"] == true && read.is_err() {
                assert!(
                    ["\"bad padding\"", "\"non-zero pad bits\""].iter().any(|name| what.ends_with(name)),
                    "{what}"
                );
                continue;
            }
            let (value, written) = read.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(value, case["expected"], "{what}");
            let canonical = case.get("canonical").unwrap_or(&case["raw"]);
            let canonical: Vec<&str> =
                canonical.as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
            assert_eq!(written, canonical.join(", "), "{what}");
        }
    }
}

#[test]
fn values_of_newer_kinds_and_too_many_members_are_refused() {
    for (text, expected) in [
        ("@1659578233", Err(E::Malformed(0))),
        ("%\"f%c3%bc\"", Err(E::Malformed(0))),
        ("\"\u{e9}\"", Err(E::Malformed(1))),
        ("a, b, c", Err(E::TooMany)),
        ("a, b", Ok(2)),
        ("a, b\t", Ok(2)),
        ("a, b,\t", Err(E::Malformed(6))),
        ("", Ok(0)),
    ] {
        assert_eq!(List::parse(text, 2).map(|list| list.0.len()), expected, "{text}");
    }
    let items = |count: usize| format!("({})", ["1"].repeat(count).join(" "));
    assert!(List::parse(&items(256), 1).is_ok());
    assert_eq!(List::parse(&items(257), 1), Err(E::TooMany));
    let parameters = |count: usize| (0..count).map(|at| format!(";p{at}")).collect::<String>();
    assert!(Item::parse(&format!("1{}", parameters(256))).is_ok());
    assert_eq!(Item::parse(&format!("1{}", parameters(257))), Err(E::TooMany));
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic_and_what_is_written_reads_the_same(text in "[ -~\t]{0,60}") {
        if let Ok(read) = Dictionary::parse(&text, 64) {
            prop_assert_eq!(Dictionary::parse(&read.to_text(), 64), Ok(read));
        }
        if let Ok(read) = List::parse(&text, 64) {
            prop_assert_eq!(List::parse(&read.to_text(), 64), Ok(read));
        }
    }

    #[test]
    fn bytes_and_strings_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..40), text in "[ -~]{0,40}") {
        for bare in [BareItem::Bytes(bytes.clone()), BareItem::String(text.clone())] {
            let item = Item { bare, parameters: Parameters::default() };
            prop_assert_eq!(Item::parse(&item.to_text()), Ok(item));
        }
    }

    #[test]
    fn base32_is_that_of_the_suite(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
        prop_assert_eq!(base32(&bytes).len(), bytes.len().div_ceil(5) * 8);
        prop_assert_eq!(base64::decode_std(&base64::encode_std(&bytes)).unwrap(), bytes);
    }
}
