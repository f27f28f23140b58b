//! `offer-receipt`: what we promise and what we delivered, under our signature (X402-36).

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use proof::secp::SecretKey;
use proof::{receipt, x402_attest};
use serde_json::{Map, Value, json};
use wire::x402::offer_receipt::{Delivered, ID, Offer, Offers, Receipt, VERSION};
use wire::x402::{SettlementResponse, header as x402, network, v2};

use super::switched_on;
use crate::challenge::{Ask, quote_end};
use crate::clock::Now;
use crate::config;
use crate::gate::Gate;
use crate::payments::PaymentResult;
use crate::snapshot::Snapshot;

/// Who signs: the receipt key, or an EVM account of the operator's.
#[derive(Debug)]
pub(super) enum Signer {
    ReceiptKey,
    Account(SecretKey),
}

impl Signer {
    pub(super) fn new(config: Option<&config::OfferReceipt>) -> Self {
        let key = config.and_then(|config| SecretKey::from_bytes(config.key.as_ref()?.expose()).ok());
        key.map_or(Self::ReceiptKey, Self::Account)
    }
}

/// Signs a payload for whoever reads it with the keys of [`did_document`].
fn sign<T: x402_attest::Attested>(
    gate: &Gate,
    snapshot: &Snapshot,
    payload: T,
    place: Option<u64>,
) -> Option<wire::x402::offer_receipt::Signed<T>> {
    let kid;
    let signer = match &snapshot.terms.signer {
        Signer::ReceiptKey => {
            kid = key_id(gate, snapshot);
            x402_attest::Signer::Jws { key: &gate.keys.receipt, kid: &kid }
        }
        Signer::Account(key) => x402_attest::Signer::Eip712(key),
    };
    x402_attest::sign(signer, payload, place).ok()
}

/// An offer for every entry, with the end of its quote. Entries are JSON.
pub(super) fn promised(
    gate: &Gate,
    snapshot: &Snapshot,
    ask: &Ask<'_>,
    accepts: &[String],
    now: Now,
) -> Option<Offers> {
    let url = ask.url(snapshot);
    let offers = (0..).zip(accepts).filter_map(|(place, entry)| {
        let entry: v2::PaymentRequirements = serde_json::from_str(entry).ok()?;
        sign(gate, snapshot, Offer::of_v2(&entry, &url, Some(quote_end(now))), Some(place))
    });
    let offers: Vec<_> = offers.collect();
    (!offers.is_empty()).then_some(Offers { offers })
}

/// Confirms what was paid for and delivered, in the results that say what became of a payment.
#[derive(Clone)]
pub(crate) struct Notary {
    gate: Arc<Gate>,
    snapshot: Arc<Snapshot>,
    resource_url: String,
}

impl Notary {
    /// For answers at this path and query; none where nothing is signed.
    pub(crate) fn of(gate: &Arc<Gate>, snapshot: &Arc<Snapshot>, target: &str) -> Option<Self> {
        switched_on(snapshot)?.offer_receipt.as_ref()?;
        let resource_url = format!("{}{target}", snapshot.public_url);
        Some(Self { gate: Arc::clone(gate), snapshot: Arc::clone(snapshot), resource_url })
    }

    /// Adds a receipt to the results in the head of an answer.
    pub(crate) fn confirm_in(&self, headers: &mut HeaderMap) {
        for name in [x402::PAYMENT_RESPONSE, x402::X_PAYMENT_RESPONSE] {
            if let Some(value) = headers.get(name).and_then(|value| self.confirmed(value)) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }

    /// Adds one to a result that is known when the answer has ended.
    pub(crate) fn confirm_late(self, result: PaymentResult) -> PaymentResult {
        Box::pin(async move {
            let (name, value) = result.await?;
            let value = self.confirmed(&value).unwrap_or(value);
            Some((name, value))
        })
    }

    /// The same result with a receipt. None: it says that nothing moved, or it would not fit.
    fn confirmed(&self, result: &HeaderValue) -> Option<HeaderValue> {
        let mut said: SettlementResponse = x402::decode(result.to_str().ok()?).ok()?;
        let config = switched_on(&self.snapshot)?.offer_receipt.as_ref()?;
        let payer = said.payer.clone().filter(|_| said.success)?;
        let hash = Some(said.transaction.clone()).filter(|hash| config.transaction && !hash.is_empty());
        let payload = Receipt {
            issued_at: Now::read().seconds(),
            network: network::caip2_from_v1(&said.network).unwrap_or(&said.network).to_owned(),
            payer,
            resource_url: self.resource_url.clone(),
            transaction: hash,
            version: VERSION,
        };
        let receipt = sign(&self.gate, &self.snapshot, payload, None)?;
        let entry = json!({"info": Delivered { receipt }});
        said.extensions.get_or_insert_default().insert(ID.to_owned(), entry);
        let text = x402::encode(&said);
        HeaderValue::from_str(&text).ok().filter(|_| text.len() <= x402::EMIT_BYTES_MAX)
    }
}

/// `did:web` of our public host: a port's colon is written `%3A`.
fn did(snapshot: &Snapshot) -> String {
    format!("did:web:{}", snapshot.terms.domain.replace(':', "%3A"))
}

/// The receipt key's name, as signatures carry it. Behind the `#` stands its name at `/.well-known/farthing-keys.json`.
fn key_id(gate: &Gate, snapshot: &Snapshot) -> String {
    format!("{}#{}", did(snapshot), receipt::kid(&gate.keys.receipt.verifying_key()))
}

/// `/.well-known/did.json`: whose signatures speak for this host.
pub(crate) fn did_document(gate: &Gate, snapshot: &Snapshot) -> Option<Value> {
    switched_on(snapshot)?.offer_receipt.as_ref()?;
    let did = did(snapshot);
    let key = key_id(gate, snapshot);
    let jwk = gate.keys.jwks().keys.into_iter().next()?;
    let mut method = Map::new();
    method.insert("id".into(), key.clone().into());
    method.insert("type".into(), "JsonWebKey2020".into());
    method.insert("controller".into(), did.clone().into());
    method.insert("publicKeyJwk".into(), serde_json::to_value(jwk).ok()?);
    let (mut methods, mut ids) = (vec![Value::Object(method)], vec![Value::from(key)]);
    if let Signer::Account(account) = &snapshot.terms.signer {
        let id = format!("{did}#offers");
        methods.push(json!({
            "id": id, "type": "EcdsaSecp256k1RecoveryMethod2020", "controller": did,
            "blockchainAccountId": format!("eip155:1:{}", account.address()),
        }));
        ids.push(id.into());
    }
    Some(json!({
        "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/suites/jws-2020/v1"],
        "id": did, "verificationMethod": methods, "assertionMethod": ids,
    }))
}
