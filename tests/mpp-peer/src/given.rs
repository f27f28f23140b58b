//! What the properties are over.

use proptest::prelude::*;
use serde_json::{Map, Value};
use wire::mpp::challenge::encode_object;
use wire::mpp::{Challenge, Credential, Field};

fn text(pattern: &str) -> impl Strategy<Value = String> + use<> {
    proptest::string::string_regex(pattern).unwrap()
}

pub(crate) fn object() -> impl Strategy<Value = Map<String, Value>> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_map(|number| serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number)),
        ".{0,12}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map(".{0,6}", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    proptest::collection::btree_map(".{0,8}", value, 0..5).prop_map(|members| members.into_iter().collect())
}

fn flat() -> impl Strategy<Value = Map<String, Value>> {
    proptest::collection::btree_map(".{0,8}", ".{0,12}".prop_map(Value::from), 0..4)
        .prop_map(|members| members.into_iter().collect())
}

/// A challenge that can be sent, with an id of no key.
pub(crate) fn challenge() -> impl Strategy<Value = Challenge> {
    let bound = (
        text("[A-Za-z0-9_-]{1,43}"),
        text("[ -{}~]{1,20}"),
        text("[a-z][a-z0-9:_-]{0,9}"),
        text("[a-z0-9-]{1,9}"),
        object(),
    );
    let optional = (
        proptest::option::of((0u64..4_000_000_000).prop_map(|at| wire::rfc3339::format(at).unwrap())),
        proptest::option::of(text("sha-256=:?[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")),
        proptest::option::of(flat()),
        proptest::option::of(text("[^\\r\\n]{0,20}")), // theirs does not write a line break
        proptest::option::of(prop_oneof![Just("Payment-Authorization"), Just("payment-authorization")]),
    );
    (bound, optional).prop_map(
        |((id, realm, method, intent, request), (expires, digest, opaque, description, header))| {
            let digest = digest.map(|digest| if digest.contains(':') { digest + ":" } else { digest });
            Challenge {
                id,
                expires,
                digest,
                opaque: opaque.as_ref().map(encode_object),
                description,
                header: header.map(ToOwned::to_owned),
                ..Challenge::new(&realm, &method, &intent, &request)
            }
        },
    )
}

/// A credential, in the field that its challenge asks for.
pub(crate) fn credential() -> impl Strategy<Value = Credential> {
    (challenge(), proptest::option::of(".{0,20}"), object()).prop_map(|(challenge, source, payload)| {
        let field = match challenge.header {
            Some(_) => Field::PaymentAuthorization,
            None => Field::Authorization,
        };
        Credential { challenge, source, payload, field }
    })
}

/// One change of a text that stays text.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Replace(prop::sample::Index, char),
    Insert(prop::sample::Index, char),
    Delete(prop::sample::Index),
    Double(prop::sample::Index, usize),
    Cut(prop::sample::Index),
}

pub(crate) fn changes() -> impl Strategy<Value = Vec<Change>> {
    let at = any::<prop::sample::Index>;
    let letter = || {
        prop_oneof![
            proptest::sample::select(vec![
                ' ', '\t', ',', '"', '\\', '=', '|', ';', ':', '-', '_', '+', '/', 'é', 'P', 'u', '0'
            ]),
            proptest::char::range(' ', '~'),
        ]
    };
    let change = prop_oneof![
        (at(), letter()).prop_map(|(at, letter)| Change::Replace(at, letter)),
        (at(), letter()).prop_map(|(at, letter)| Change::Insert(at, letter)),
        at().prop_map(Change::Delete),
        (at(), 1usize..40).prop_map(|(at, length)| Change::Double(at, length)),
        at().prop_map(Change::Cut),
    ];
    proptest::collection::vec(change, 1..4)
}

pub(crate) fn changed(text: &str, changes: &[Change]) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for change in changes {
        if letters.is_empty() {
            break;
        }
        match change {
            Change::Replace(at, letter) => {
                let at = at.index(letters.len());
                letters[at] = *letter;
            }
            Change::Insert(at, letter) => letters.insert(at.index(letters.len() + 1), *letter),
            Change::Delete(at) => drop(letters.remove(at.index(letters.len()))),
            Change::Double(at, length) => {
                let at = at.index(letters.len());
                let end = (at + length).min(letters.len());
                let part = letters[at..end].to_vec();
                letters.splice(at..at, part);
            }
            Change::Cut(at) => letters.truncate(at.index(letters.len())),
        }
    }
    letters.into_iter().collect()
}
