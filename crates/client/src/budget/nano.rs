//! Amounts in the budget's file: whole billionths of a dollar, never negative.

use money::Amount;
use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

pub(super) fn serialize<S: Serializer>(amount: &Amount, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(amount.units())
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Amount, D::Error> {
    let units = i64::deserialize(deserializer)?;
    if units < 0 { Err(D::Error::custom("negative amount")) } else { Ok(Amount::from_units(units)) }
}

/// The same for an amount that may be missing.
pub(super) mod option {
    use money::Amount;
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    struct Nano(#[serde(with = "super")] Amount);

    pub(in super::super) fn serialize<S: Serializer>(
        amount: &Option<Amount>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match amount {
            Some(amount) => super::serialize(amount, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Amount>, D::Error> {
        Ok(Option::<Nano>::deserialize(deserializer)?.map(|Nano(amount)| amount))
    }
}
