//! What a mint says and is asked, in JSON (NUT-01, 02, 03, 06, 07, 09). Members we do not use are ignored.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::keyset::{KeysetId, Point};
use crate::json;

/// Most keysets of a mint that are looked at.
pub const KEYSETS_MAX: usize = 256;
/// Most keys of a keyset: one for each power of two, and some.
pub const KEYS_MAX: usize = 128;

/// `GET /v1/info`, what of it concerns us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Info {
    /// What the mint can do, by the number of the NUT.
    #[serde(default)]
    pub nuts: BTreeMap<String, serde_json::Value>,
}

impl Info {
    /// Whether it says that it supports a NUT whose entry is `{"supported": true}`.
    #[must_use]
    pub fn supports(&self, nut: &str) -> bool {
        self.nuts.get(nut).and_then(|entry| entry.get("supported")).and_then(serde_json::Value::as_bool)
            == Some(true)
    }
}

/// `GET /v1/keysets`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Keysets {
    /// All that the mint has ever used.
    pub keysets: Vec<KeysetInfo>,
}

/// A keyset without its keys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct KeysetInfo {
    /// Its name.
    pub id: String,
    /// What its coins are counted in.
    pub unit: String,
    /// Whether it signs.
    pub active: bool,
    /// Thousandths of a unit for each coin spent.
    #[serde(default)]
    pub input_fee_ppk: Option<u64>,
    /// Unix seconds, if it ends.
    #[serde(default)]
    pub final_expiry: Option<u64>,
}

/// `GET /v1/keys/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Keys {
    /// The one asked for.
    pub keysets: Vec<KeysetKeys>,
}

/// The keys of a keyset.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct KeysetKeys {
    /// Its name.
    pub id: String,
    /// What its coins are counted in.
    pub unit: String,
    /// Amount -> public key.
    pub keys: BTreeMap<String, String>,
}

impl KeysetKeys {
    /// The keys by amount; none where one is no key, or there are too many.
    #[must_use]
    pub fn by_amount(&self) -> Option<BTreeMap<u64, Point>> {
        if self.keys.len() > KEYS_MAX {
            return None;
        }
        let pair = |(amount, key): (&String, &String)| {
            let amount: u64 = amount.parse().ok().filter(|amount| *amount > 0)?;
            Some((amount, Point::parse(key)?))
        };
        let keys: BTreeMap<_, _> = self.keys.iter().map(pair).collect::<Option<_>>()?;
        (keys.len() == self.keys.len()).then_some(keys)
    }
}

/// A coin that is spent, as a mint takes it: without the blinding factor, by which it would know the coin again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// In units.
    pub amount: u64,
    /// Whole name of its keyset.
    pub id: String,
    /// What was signed.
    pub secret: String,
    /// The signature.
    #[serde(rename = "C")]
    pub signature: String,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Input({} of {}, secret hidden)", self.amount, self.id)
    }
}

/// A coin that is to be signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlindedMessage {
    /// In units.
    pub amount: u64,
    /// Whole name of the keyset that is to sign it.
    pub id: String,
    /// What is signed.
    #[serde(rename = "B_")]
    pub blinded: String,
}

/// `POST /v1/swap`: spends the inputs for signatures of the outputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// What is given.
    pub inputs: Vec<Input>,
    /// What is wanted.
    pub outputs: Vec<BlindedMessage>,
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Swapped {
    /// One for each output, in the same order.
    pub signatures: Vec<BlindSignature>,
}

/// A signature of an output.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BlindSignature {
    /// In units.
    pub amount: u64,
    /// Keyset that signed.
    pub id: String,
    /// The signature.
    #[serde(rename = "C_")]
    pub signature: String,
    /// Evidence that it was made with the key of this amount (NUT-12).
    #[serde(default)]
    pub dleq: Option<BlindDleq>,
}

/// Evidence as the mint gives it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BlindDleq {
    /// Challenge, hexadecimal.
    pub e: String,
    /// Response, hexadecimal.
    pub s: String,
}

/// `POST /v1/restore`: which of these outputs were signed?
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restore<'a> {
    /// What may have been signed.
    pub outputs: &'a [BlindedMessage],
}

/// Its answer: of the outputs that were signed, each with its signature at the same place.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Restored {
    /// Those that were.
    pub outputs: Vec<BlindedMessage>,
    /// Their signatures.
    #[serde(default)]
    pub signatures: Vec<BlindSignature>,
}

/// `POST /v1/checkstate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckState {
    /// Points of the coins.
    #[serde(rename = "Ys")]
    pub points: Vec<String>,
}

/// Its answer, in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct States {
    /// One for each.
    pub states: Vec<CoinState>,
}

/// Where one coin stands.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct CoinState {
    /// Its point.
    #[serde(rename = "Y")]
    pub point: String,
    /// What the mint says of it.
    pub state: Standing,
}

/// What a mint may say of a coin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Standing {
    /// It can be spent.
    Unspent,
    /// It is being spent.
    Pending,
    /// It was spent.
    Spent,
}

/// Why a mint did nothing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct MintError {
    /// For a person.
    #[serde(default)]
    pub detail: serde_json::Value,
    /// By the list of NUT errors.
    #[serde(default)]
    pub code: Option<u32>,
}

/// The coins were spent before.
pub const ALREADY_SPENT: u32 = 11_001;
/// Inputs, fee and outputs do not come to the same: the fee is not what we took it for.
pub const UNBALANCED: u32 = 11_005;
/// The keyset signs no more.
pub const KEYSET_INACTIVE: u32 = 12_002;

/// Reads what a mint has answered: each member once, no deeper than is usual.
#[must_use]
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_value(json::parse_strict(bytes).ok()?).ok()
}

/// The name of a keyset as a mint must say it.
#[must_use]
pub fn keyset_id(text: &str) -> Option<KeysetId> {
    KeysetId::parse(text).filter(KeysetId::is_whole)
}

#[cfg(test)]
mod tests {
    use super::{Info, Keys, Keysets, Restored, Standing, States, Swapped, keyset_id, read};

    #[test]
    fn what_mints_say() {
        let info: Info =
            read(br#"{"name":"m","nuts":{"4":{"methods":[],"disabled":false},"9":{"supported":true}}}"#)
                .unwrap();
        assert!(info.supports("9") && !info.supports("4") && !info.supports("7"));
        let id = format!("01{}", "ab".repeat(32));
        let text = format!(
            r#"{{"keysets":[{{"id":"{id}","unit":"sat","active":true,"input_fee_ppk":null,"x":1}}]}}"#
        );
        let keysets: Keysets = read(text.as_bytes()).unwrap();
        assert_eq!((keysets.keysets[0].input_fee_ppk, keysets.keysets[0].final_expiry), (None, None));
        assert!(keyset_id(&id).is_some() && keyset_id(&id[..16]).is_none());
        let states: States = read(br#"{"states":[{"Y":"02","state":"SPENT","witness":null}]}"#).unwrap();
        assert_eq!(states.states[0].state, Standing::Spent);
        assert!(read::<States>(br#"{"states":[{"Y":"02","state":"spent"}]}"#).is_none());
        assert!(read::<Swapped>(br#"{"signatures":[],"signatures":[]}"#).is_none());
        assert_eq!(read::<Restored>(br#"{"outputs":[]}"#).map(|said| said.signatures.len()), Some(0));
    }

    #[test]
    fn keys_are_points_by_amount() {
        let keys = |text: String| read::<Keys>(text.as_bytes()).and_then(|keys| keys.keysets[0].by_amount());
        let key = format!("02{}", "ab".repeat(32));
        let one = |amount: &str, key: &str| {
            keys(format!(r#"{{"keysets":[{{"id":"0","unit":"sat","keys":{{"{amount}":"{key}"}}}}]}}"#))
        };
        assert_eq!(one("9223372036854775808", &key).unwrap().len(), 1);
        assert!(one("0", &key).is_none() && one("-1", &key).is_none() && one("1", "02").is_none());
        let many: Vec<String> = (1..200).map(|amount| format!(r#""{amount}":"{key}""#)).collect();
        assert!(
            keys(format!(r#"{{"keysets":[{{"id":"0","unit":"sat","keys":{{{}}}}}]}}"#, many.join(",")))
                .is_none()
        );
    }
}
