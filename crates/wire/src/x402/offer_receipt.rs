//! The extension `offer-receipt`: offers and receipts under the seller's signature.
//!
//! Members stand in the order of their names, as RFC 8785 wants what a JWS signs. Signing and checking are
//! `proof::x402_attest`'s work.

use serde::{Deserialize, Serialize};

use super::{network, v1, v2};

/// The extension's id.
pub const ID: &str = "offer-receipt";
/// The one version of the payloads.
pub const VERSION: u64 = 1;

/// What a seller promises. Networks are CAIP-2, version 1 or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// Atomic units, decimal.
    pub amount: String,
    /// Contract, mint or currency.
    pub asset: String,
    /// CAIP-2.
    pub network: String,
    /// Who is paid.
    pub pay_to: String,
    /// What is for sale.
    pub resource_url: String,
    /// `exact`, ...
    pub scheme: String,
    /// Unix seconds; absent and 0 alike: no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<u64>,
    /// [`VERSION`].
    pub version: u64,
}

/// What a seller confirms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Unix seconds.
    pub issued_at: u64,
    /// CAIP-2.
    pub network: String,
    /// Who paid.
    pub payer: String,
    /// What was bought.
    pub resource_url: String,
    /// Absent and empty alike: not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// [`VERSION`].
    pub version: u64,
}

/// A payload with its signature. `accept_index` is not signed: offers are matched by their members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "format", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum Signed<T> {
    /// Compact JWS, with the payload inside.
    Jws {
        /// Place in `accepts`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accept_index: Option<u64>,
        /// The JWS.
        signature: String,
    },
    /// EIP-712, with the payload beside.
    Eip712 {
        /// Place in `accepts`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accept_index: Option<u64>,
        /// What is signed.
        payload: T,
        /// `0x` and 65 bytes.
        signature: String,
    },
}

/// `info` of a challenge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offers {
    /// One per entry of `accepts` that is promised.
    pub offers: Vec<Signed<Offer>>,
}

/// `info` of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// Under the seller's signature.
    pub receipt: Signed<Receipt>,
}

impl Offer {
    /// The promise of a version 2 entry.
    #[must_use]
    pub fn of_v2(entry: &v2::PaymentRequirements, resource_url: &str, valid_until: Option<u64>) -> Self {
        Self {
            amount: entry.amount.clone(),
            asset: entry.asset.clone(),
            network: entry.network.clone(),
            pay_to: entry.pay_to.clone(),
            resource_url: resource_url.to_owned(),
            scheme: entry.scheme.clone(),
            valid_until,
            version: VERSION,
        }
    }

    /// Whether it promises this version 2 entry for this resource.
    #[must_use]
    pub fn promises_v2(&self, entry: &v2::PaymentRequirements, resource_url: &str) -> bool {
        *self == Self::of_v2(entry, resource_url, self.valid_until)
    }

    /// Whether it promises this version 1 entry: inside, its network has the name of version 2.
    #[must_use]
    pub fn promises_v1(&self, entry: &v1::PaymentRequirements) -> bool {
        network::caip2_from_v1(&entry.network) == Some(self.network.as_str())
            && self.scheme == entry.scheme
            && self.amount == entry.max_amount_required
            && self.asset == entry.asset
            && self.pay_to == entry.pay_to
            && self.resource_url == entry.resource
    }
}

#[cfg(test)]
mod tests {
    use super::{Delivered, Offer, Offers, Receipt, Signed};
    use crate::{json, jws};
    use serde_json::{Value, json};

    fn vector() -> Value {
        serde_json::from_str(include_str!("../../../../specs/vectors/x402/offer_receipt_vectors.json"))
            .unwrap()
    }

    fn same<T: serde::Serialize + serde::de::DeserializeOwned>(value: &Value) -> T {
        let object: T = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&object).unwrap(), *value);
        object
    }

    #[test]
    fn the_vectors_objects_read_and_write() {
        let file = vector();
        for name in ["offerEip712", "offerJws"] {
            same::<Signed<Offer>>(&file[name]);
        }
        for name in ["receiptEip712", "receiptJws"] {
            same::<Signed<Receipt>>(&file[name]);
        }
        same::<Offers>(&json!({"offers": [file["offerJws"], file["offerEip712"]]}));
        same::<Delivered>(&json!({"receipt": file["receiptJws"]}));
    }

    /// What a JWS of the reference signs is what we would sign, byte for byte.
    #[test]
    fn payloads_are_canonical() {
        let file = vector();
        let payload = |name: &str| {
            let text = file[name]["signature"].as_str().unwrap();
            jws::split(text).unwrap().payload
        };
        let offer: Offer = serde_json::from_value(json::parse_strict(&payload("offerJws")).unwrap()).unwrap();
        assert_eq!(serde_json::to_vec(&offer).unwrap(), payload("offerJws"));
        assert_eq!(serde_json::to_value(offer).unwrap(), file["offerEip712"]["payload"]);
        let receipt: Receipt =
            serde_json::from_value(json::parse_strict(&payload("receiptJws")).unwrap()).unwrap();
        assert_eq!(serde_json::to_vec(&receipt).unwrap(), payload("receiptJws"));
        assert_eq!(serde_json::to_value(receipt).unwrap(), file["receiptEip712"]["payload"]);
    }

    #[test]
    fn an_offer_is_matched_by_its_members() {
        let url = "https://api.example.com/v1/chat/completions";
        let offer: Offer = serde_json::from_value(vector()["offerEip712"]["payload"].clone()).unwrap();
        let entry = crate::x402::v2::PaymentRequirements {
            scheme: "upto".into(),
            network: "eip155:84532".into(),
            amount: "20000".into(),
            asset: offer.asset.clone(),
            pay_to: offer.pay_to.clone(),
            max_timeout_seconds: 300,
            extra: None,
        };
        assert!(offer.promises_v2(&entry, url));
        assert!(!offer.promises_v2(&entry, "https://api.example.com/"));
        let (payee, token) = (entry.pay_to.clone(), entry.asset.clone());
        for other in [
            crate::x402::v2::PaymentRequirements { amount: "20001".into(), ..entry.clone() },
            crate::x402::v2::PaymentRequirements { scheme: "exact".into(), ..entry.clone() },
            crate::x402::v2::PaymentRequirements { network: "eip155:8453".into(), ..entry.clone() },
            crate::x402::v2::PaymentRequirements { pay_to: token, ..entry.clone() },
            crate::x402::v2::PaymentRequirements { asset: payee, ..entry.clone() },
        ] {
            assert!(!offer.promises_v2(&other, url), "{other:?}");
        }
        let as_v1 = |network: &str| crate::x402::v1::PaymentRequirements {
            scheme: "upto".into(),
            network: network.into(),
            max_amount_required: "20000".into(),
            resource: url.into(),
            description: String::new(),
            mime_type: String::new(),
            output_schema: None,
            pay_to: offer.pay_to.clone(),
            max_timeout_seconds: 300,
            asset: offer.asset.clone(),
            extra: None,
        };
        assert!(offer.promises_v1(&as_v1("base-sepolia")));
        assert!(!offer.promises_v1(&as_v1("base")));
    }

    #[test]
    fn other_shapes_are_refused() {
        for value in [
            json!({"format": "jws"}),
            json!({"format": "eip712", "signature": "0x"}),
            json!({"format": "cose", "signature": "0x"}),
            json!({"signature": "0x"}),
        ] {
            assert!(serde_json::from_value::<Signed<Offer>>(value.clone()).is_err(), "{value}");
        }
    }
}
