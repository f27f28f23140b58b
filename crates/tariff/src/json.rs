//! JSON read as it is written: numbers stay text, members keep their order, and nothing is recursed into that is not
//! asked for.

use std::fmt;

use money::{Decimal, Rate};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Most members of an object and most elements of an array.
const MEMBERS_MAX: usize = 100_000;

/// The members of an object, in their order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    if members.len() == MEMBERS_MAX {
                        return Err(A::Error::custom("too many members"));
                    }
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Read).map(Self)
    }
}

/// The elements of an array.
struct Elements<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = list.next_element()? {
                    if elements.len() == MEMBERS_MAX {
                        return Err(A::Error::custom("too many elements"));
                    }
                    elements.push(element);
                }
                Ok(elements)
            }
        }
        deserializer.deserialize_seq(Read).map(Self)
    }
}

/// The members of a document that is one object.
pub(crate) fn document(text: &str) -> Option<Vec<(String, &RawValue)>> {
    serde_json::from_str::<Members<'_>>(text).ok().map(|members| members.0)
}

/// The members of an object; `None` if it is none.
pub(crate) fn object(value: &RawValue) -> Option<Vec<(String, &RawValue)>> {
    document(value.get())
}

/// The elements of an array; `None` if it is none.
pub(crate) fn array(value: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str::<Elements<'_>>(value.get()).ok().map(|elements| elements.0)
}

/// A string; `None` if it is none.
pub(crate) fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// Whether it says nothing.
pub(crate) fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// A number that is not negative, by its text; `None` if it is none or beyond what we hold.
pub(crate) fn number(value: &RawValue) -> Option<Decimal> {
    Decimal::parse(value.get()).ok()
}

/// A whole number, also where it is written as `256000.0`.
pub(crate) fn whole(value: &RawValue) -> Option<u64> {
    number(value)?.exact(0).and_then(|units| u64::try_from(units).ok())
}

/// A rate in units of 10^-`places` USD, rounded half-even once (MTR-42): 15 for prices of one, 9 for prices of a
/// million.
pub(crate) fn rate(value: &RawValue, places: u32) -> Option<Rate> {
    number(value)?.round_half_even(places).and_then(|femto| u64::try_from(femto).ok()).map(Rate::from_femto)
}

/// The first name that stands twice.
pub(crate) fn twice<'a>(members: &'a [(String, &RawValue)]) -> Option<&'a str> {
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}
