//! `offer-receipt`: what we promise and what we delivered, under our signature (X402-36).

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

/// An offer for every entry, with the end of its quote.
pub(super) fn promised(
    gate: &Gate,
    snapshot: &Snapshot,
    ask: &Ask<'_>,
    accepts: &[v2::PaymentRequirements],
    now: Now,
) -> Option<Offers> {
    let url = ask.url(snapshot);
    let offers = (0..).zip(accepts).filter_map(|(place, entry)| {
        sign(gate, snapshot, Offer::of_v2(entry, &url, Some(quote_end(now))), Some(place))
    });
    let offers: Vec<_> = offers.collect();
    (!offers.is_empty()).then_some(Offers { offers })
}

/// Adds a receipt to what a payer is told of his payment, if receipts are signed here and it fits the header.
pub(crate) fn attach(
    gate: &Gate,
    snapshot: &Snapshot,
    said: &mut SettlementResponse,
    resource_url: &str,
    now: Now,
) {
    let Some(config) = switched_on(snapshot).and_then(|on| on.offer_receipt.as_ref()) else { return };
    let (true, Some(payer)) = (said.success, &said.payer) else { return };
    let payload = Receipt {
        issued_at: now.seconds(),
        network: network::caip2_from_v1(&said.network).unwrap_or(&said.network).to_owned(),
        payer: payer.clone(),
        resource_url: resource_url.to_owned(),
        transaction: Some(said.transaction.clone()).filter(|hash| config.transaction && !hash.is_empty()),
        version: VERSION,
    };
    let Some(receipt) = sign(gate, snapshot, payload, None) else { return };
    let before = said.extensions.clone();
    let entry = json!({"info": Delivered { receipt }});
    said.extensions.get_or_insert_default().insert(ID.to_owned(), entry);
    if x402::encode(said).len() > x402::EMIT_BYTES_MAX {
        said.extensions = before;
    }
}

/// Adds a receipt to an answer that was paid for and is one.
pub(crate) fn delivered(
    gate: &Gate,
    snapshot: &Snapshot,
    headers: &mut HeaderMap,
    resource_url: &str,
    now: Now,
) {
    if switched_on(snapshot).is_none_or(|on| on.offer_receipt.is_none()) {
        return;
    }
    for name in [x402::PAYMENT_RESPONSE, x402::X_PAYMENT_RESPONSE] {
        let written = headers.get(name).and_then(|value| value.to_str().ok());
        let Some(mut said) = written.and_then(|text| x402::decode(text).ok()) else { continue };
        attach(gate, snapshot, &mut said, resource_url, now);
        if let Ok(value) = HeaderValue::from_str(&x402::encode(&said)) {
            headers.insert(HeaderName::from_static(name), value);
        }
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
