//! Facts of a call as they are kept: the members of a JSON object, packed (PERF-38).
//!
//! Each call that is charged writes some fifty members, into the log and into the journal, and hardly anybody reads them: so
//! their names are numbers, what is usually digits or hex is bytes, and the JSON is made for who asks.
//!
//! Bytes: 1 (u8), then members up to the end. A member is the number of its name (u8), the kind of its value (u8), the
//! value. Numbers are seven bits a byte, lowest first, the highest bit says that more follow; what has no fixed length
//! is behind its length as such a number. An object's members end with 0; each object of an array is behind a 1, and 0
//! ends the array. What begins with any other byte is JSON itself: facts of before schema 10, and rare ones.

use std::borrow::Cow;

use ledger::{AccountId, asset_of_code, leg_asset};
use money::{Amount, Asset};
use serde_json::{Map, Value, json};

/// First byte of packed facts.
const PACKED: u8 = 1;
const END: u8 = 0;
const MORE: u8 = 1;
/// Facts of a call are three deep.
const DEPTH_MAX: usize = 8;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const NUMBER: u8 = 3;
const DIGITS: u8 = 4;
const TEXT: u8 = 5;
const ID: u8 = 6;
const MONEY: u8 = 7;
const OBJECT: u8 = 8;
const OBJECTS: u8 = 9;
const JSON: u8 = 10;
const CALL_ID: u8 = 11;

macro_rules! facts {
    ($($number:literal $fact:ident $name:literal,)*) => {
        /// What a fact is called.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Fact {
            $(#[doc = concat!("`", $name, "`")] $fact = $number,)*
        }

        /// The name behind a number.
        const fn name_of(number: u8) -> Option<&'static str> {
            match number {
                $($number => Some($name),)*
                _ => None,
            }
        }
    };
}

// A number stays what it is: it is on disk. The next one is 64.
facts! {
    1 Call "call", 2 Account "account", 3 KeyId "key_id", 4 Protocol "protocol", 5 Route "route",
    6 Upstream "upstream", 7 Model "model", 8 Dialect "dialect", 9 Status "status", 10 Usage "usage",
    11 Basis "basis", 12 Terminal "terminal", 13 Estimated "estimated", 14 Lines "lines", 15 Bucket "bucket",
    16 Quantity "quantity", 17 RateFemtoUsd "rate_femto_usd", 18 CostFemtoUsd "cost_femto_usd", 19 Unpriced "unpriced",
    20 CappedAt "capped_at", 21 MarkupBp "markup_bp", 22 MaxTokensSet "max_tokens_set", 23 HeldFirst "held_first",
    24 Held "held", 25 Charged "charged", 26 Overrun "overrun", 27 AvailableAfter "available_after",
    28 PriceVersion "price_version", 29 Payment "payment", 30 Agent "agent", 31 StartedMs "started_ms",
    32 FinishedMs "finished_ms", 33 InputUncached "input_uncached", 34 CacheRead "cache_read", 35 CacheWrite "cache_write",
    36 CacheWrite5m "cache_write_5m", 37 CacheWrite30m "cache_write_30m", 38 CacheWrite1h "cache_write_1h",
    39 CacheWrite12h "cache_write_12h", 40 InputTotal "input_total", 41 OutputTotal "output_total",
    42 Reasoning "reasoning", 43 AudioIn "audio_in", 44 AudioOut "audio_out", 45 ImageIn "image_in",
    46 ImageOut "image_out", 47 TotalOnly "total_only", 48 WebSearchRequests "web_search_requests", 49 Images "images",
    50 Characters "characters", 51 SecondsMilli "seconds_milli", 52 ResponseBytes "response_bytes", 53 Calls "calls",
    54 ServiceTier "service_tier", 55 InferenceGeo "inference_geo", 56 Speed "speed",
}

/// Facts on their way into bytes.
///
/// ```
/// use store::{Fact, Facts};
///
/// let mut facts = Facts::default();
/// facts.text(Fact::Model, "m");
/// facts.object(Fact::Usage, |usage| usage.number(Fact::Calls, 300));
/// let kept = facts.into_bytes();
/// assert_eq!(kept.len(), 12);
/// assert_eq!(*store::facts_json(&kept).unwrap(), br#"{"model":"m","usage":{"calls":300}}"#[..]);
/// ```
#[derive(Debug)]
pub struct Facts(Vec<u8>);

impl Default for Facts {
    fn default() -> Self {
        // What those of most calls take.
        let mut bytes = Vec::with_capacity(448);
        bytes.push(PACKED);
        Self(bytes)
    }
}

impl Facts {
    /// As they are kept.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// A string.
    pub fn text(&mut self, fact: Fact, value: &str) {
        self.sized(fact, TEXT, value);
    }

    /// An id, whose JSON is its hex.
    pub fn id(&mut self, fact: Fact, id: &[u8; 16]) {
        self.named(fact, ID);
        self.0.extend_from_slice(id);
    }

    /// The id of a call, whose JSON is as the answer's header has it.
    pub fn call_id(&mut self, fact: Fact, id: &[u8; 16]) {
        self.named(fact, CALL_ID);
        self.0.extend_from_slice(id);
    }

    /// A number.
    pub fn number(&mut self, fact: Fact, value: u64) {
        self.named(fact, NUMBER);
        self.put(value.into());
    }

    /// A number whose JSON is a string: it may be more than readers of JSON take for a number.
    pub fn digits(&mut self, fact: Fact, value: u128) {
        self.named(fact, DIGITS);
        self.put(value);
    }

    /// An amount, whose JSON is an object of its decimal and its currency.
    pub fn money(&mut self, fact: Fact, amount: Amount, asset: Asset) {
        self.named(fact, MONEY);
        self.0.extend_from_slice(&amount.units().to_be_bytes());
        self.0.extend_from_slice(&leg_asset(asset).to_be_bytes());
    }

    /// `true` or `false`.
    pub fn flag(&mut self, fact: Fact, value: bool) {
        self.named(fact, if value { TRUE } else { FALSE });
    }

    /// `null`.
    pub fn null(&mut self, fact: Fact) {
        self.named(fact, NULL);
    }

    /// What is JSON already.
    pub fn json(&mut self, fact: Fact, json: &str) {
        self.sized(fact, JSON, json);
    }

    /// An object.
    pub fn object(&mut self, fact: Fact, fill: impl FnOnce(&mut Self)) {
        self.named(fact, OBJECT);
        fill(self);
        self.0.push(END);
    }

    /// An array of objects.
    pub fn objects<T>(
        &mut self,
        fact: Fact,
        all: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut Self, T),
    ) {
        self.named(fact, OBJECTS);
        for item in all {
            self.0.push(MORE);
            fill(self, item);
            self.0.push(END);
        }
        self.0.push(END);
    }

    fn named(&mut self, fact: Fact, kind: u8) {
        self.0.extend_from_slice(&[fact as u8, kind]);
    }

    fn sized(&mut self, fact: Fact, kind: u8, value: &str) {
        self.named(fact, kind);
        self.put(value.len() as u128);
        self.0.extend_from_slice(value.as_bytes());
    }

    fn put(&mut self, value: u128) {
        let mut rest = value;
        while rest > 0x7f {
            self.0.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        self.0.push(rest.to_le_bytes()[0]);
    }
}

/// The JSON of facts as they are kept; none for packed ones that are damaged.
#[must_use]
pub fn facts_json(kept: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some((&PACKED, mut members)) = kept.split_first() else { return Some(Cow::Borrowed(kept)) };
    let mut object = Map::new();
    while !members.is_empty() {
        let (name, value) = member(&mut members, 0)??;
        object.insert(name.to_owned(), value);
    }
    serde_json::to_vec(&object).ok().map(Cow::Owned)
}

/// The next member; the inner none is the end of its object.
#[expect(clippy::option_option, reason = "damaged, at its end, a member")]
fn member(bytes: &mut &[u8], depth: usize) -> Option<Option<(&'static str, Value)>> {
    let [number] = fixed(bytes)?;
    if number == END {
        return Some(None);
    }
    let name = name_of(number)?;
    let [kind] = fixed(bytes)?;
    let value = match kind {
        NULL => Value::Null,
        FALSE => false.into(),
        TRUE => true.into(),
        NUMBER => u64::try_from(varied(bytes)?).ok()?.into(),
        DIGITS => varied(bytes)?.to_string().into(),
        TEXT => text(bytes)?.into(),
        ID => AccountId(fixed(bytes)?).to_string().into(),
        CALL_ID => format!("req_{}", AccountId(fixed(bytes)?)).into(),
        MONEY => {
            let amount = Amount::from_units(i64::from_be_bytes(fixed(bytes)?));
            let (asset, _) = asset_of_code(u16::from_be_bytes(fixed(bytes)?))?;
            json!({"amount": amount.decimal(asset), "currency": asset.name()})
        }
        OBJECT => object(bytes, depth + 1)?,
        OBJECTS => {
            let mut all = Vec::new();
            loop {
                match fixed(bytes)? {
                    [MORE] => all.push(object(bytes, depth + 1)?),
                    [END] => break all.into(),
                    _ => return None,
                }
            }
        }
        JSON => serde_json::from_str(text(bytes)?).ok()?,
        _ => return None,
    };
    Some(Some((name, value)))
}

fn object(bytes: &mut &[u8], depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    let mut object = Map::new();
    while let Some((name, value)) = member(bytes, depth)? {
        object.insert(name.to_owned(), value);
    }
    Some(object.into())
}

fn varied(bytes: &mut &[u8]) -> Option<u128> {
    let (mut value, mut bits) = (0_u128, 0);
    loop {
        let [byte] = fixed(bytes)?;
        let part = u128::from(byte & 0x7f);
        // What does not fit is no number of ours.
        value |= part.checked_shl(bits).filter(|shifted| shifted >> bits == part)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
        bits += 7;
    }
}

fn text<'b>(bytes: &mut &'b [u8]) -> Option<&'b str> {
    let length = usize::try_from(varied(bytes)?).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    std::str::from_utf8(text).ok()
}

fn fixed<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use money::{Amount, Asset};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{Fact, Facts, facts_json};

    fn read(kept: &[u8]) -> Option<Value> {
        facts_json(kept).and_then(|json| serde_json::from_slice(&json).ok())
    }

    fn facts() -> Facts {
        let mut facts = Facts::default();
        facts.call_id(Fact::Call, &[0xab; 16]);
        facts.id(Fact::Account, &[0xcd; 16]);
        facts.null(Fact::KeyId);
        facts.text(Fact::Model, "m\u{e4}\"\n");
        facts.object(Fact::Usage, |usage| {
            usage.number(Fact::InputUncached, 0);
            usage.number(Fact::OutputTotal, u64::MAX);
        });
        facts.flag(Fact::Estimated, true);
        facts.flag(Fact::Unpriced, false);
        facts.objects(Fact::Lines, [("in", 127), ("out", 128)], |line, (bucket, quantity)| {
            line.text(Fact::Bucket, bucket);
            line.number(Fact::Quantity, quantity);
        });
        facts.digits(Fact::CostFemtoUsd, u128::MAX);
        facts.money(Fact::Charged, Amount::from_units(-1_500_000_000), Asset::Usd);
        facts.json(Fact::Payment, r#"{"rail":"test","n":[1,{}]}"#);
        facts.objects(Fact::Agent, [(); 0], |_, ()| {});
        facts
    }

    #[test]
    fn what_was_packed_reads_as_json() {
        let expected = json!({
            "call": format!("req_{}", "ab".repeat(16)), "account": "cd".repeat(16), "key_id": null, "model": "m\u{e4}\"\n",
            "usage": {"input_uncached": 0, "output_total": u64::MAX},
            "estimated": true, "unpriced": false,
            "lines": [{"bucket": "in", "quantity": 127}, {"bucket": "out", "quantity": 128}],
            "cost_femto_usd": u128::MAX.to_string(),
            "charged": {"amount": "-1.500000000", "currency": "USD"},
            "payment": {"rail": "test", "n": [1, {}]}, "agent": [],
        });
        assert_eq!(read(&facts().into_bytes()), Some(expected));
    }

    /// Facts of older schemas, and those that are written as JSON.
    #[test]
    fn json_stays_json() {
        for kept in [&b"{}"[..], br#"{"model":"m"}"#, b"", b"\x02x"] {
            assert_eq!(facts_json(kept).as_deref(), Some(kept));
        }
        assert_eq!(read(&Facts::default().into_bytes()), Some(json!({})));
    }

    /// Their numbers are on disk.
    #[test]
    fn names_have_the_numbers_they_had() {
        for (fact, number, name) in [
            (Fact::Call, 1, "call"),
            (Fact::Usage, 10, "usage"),
            (Fact::Charged, 25, "charged"),
            (Fact::FinishedMs, 32, "finished_ms"),
            (Fact::Speed, 56, "speed"),
        ] {
            assert_eq!((fact as u8, super::name_of(number)), (number, Some(name)));
        }
        assert_eq!((super::name_of(0), super::name_of(57)), (None, None));
    }

    #[test]
    fn what_is_cut_or_nested_too_deep_is_damaged() {
        let kept = facts().into_bytes();
        // A cut between two members cannot be seen; their row has a length of its own.
        let whole = (1..kept.len()).filter(|end| facts_json(&kept[..*end]).is_some()).count();
        assert_eq!(whole, 12);
        fn nest(facts: &mut Facts, depth: usize) {
            if depth > 0 {
                facts.object(Fact::Usage, |inner| nest(inner, depth - 1));
            }
        }
        for (depth, is_read) in [(8, true), (9, false)] {
            let mut facts = Facts::default();
            nest(&mut facts, depth);
            assert_eq!(read(&facts.into_bytes()).is_some(), is_read, "{depth}");
        }
        // An end where no object is open, a name and a kind that are none, a number of more than 128 bits.
        for damaged in [&[1, 0][..], &[1, 200, 0], &[1, 7, 77], &[&[1, 9, 4][..], &[0xff; 19], &[1]].concat()]
        {
            assert_eq!(facts_json(damaged), None, "{damaged:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_json_or_damaged(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(json) = facts_json(&[&[1][..], &bytes].concat()) {
                prop_assert!(serde_json::from_slice::<Value>(&json).is_ok());
            }
        }

        #[test]
        fn numbers_come_back(number in any::<u128>()) {
            let mut facts = Facts::default();
            facts.digits(Fact::CostFemtoUsd, number);
            prop_assert_eq!(read(&facts.into_bytes()).unwrap(), json!({"cost_femto_usd": number.to_string()}));
        }
    }
}
