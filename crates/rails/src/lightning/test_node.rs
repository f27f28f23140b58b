//! The `test` node: real signed regtest invoices for play money, without a server and without state.
//!
//! Whoever has an invoice can derive its preimage, so every wallet callback, the demo and our own client pay it with
//! [`preimage_of`]. The signing key is public too. None of it is worth anything: `mode: live` has no such node.

use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use lightning_invoice::{Currency, InvoiceBuilder, PaymentSecret};
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use wire::l402::{PaymentHash, Preimage};

use super::bolt11::{self, Decoded};
use super::port::{Network, Wanted};
use crate::random;

/// Signs test invoices. Public on purpose: a test key.
const NODE_SECRET: [u8; 32] = *b"farthing's public lightning key!";
/// Domain of preimages.
const PREIMAGE: &[u8] = b"farthing/test-preimage/1";
/// Blocks before the end that the last hop wants: what nodes usually say.
const FINAL_CLTV: u64 = 18;

/// Who signs test invoices.
#[must_use]
pub fn node_key() -> [u8; 33] {
    // Never fails: the secret is a constant, and a test reads it.
    secret().map_or([0; 33], |secret| PublicKey::from_secret_key(&Secp256k1::new(), &secret).serialize())
}

/// What paying this invoice gives: none for an invoice of a real node.
#[must_use]
pub fn preimage_of(bolt11: &str) -> Option<Preimage> {
    let invoice = bolt11::decode(bolt11).ok()?;
    opened(&invoice)
}

/// The preimage of a test invoice, if it is one.
pub(super) fn opened(invoice: &Decoded) -> Option<Preimage> {
    if invoice.network != Network::Regtest || invoice.payee != node_key() {
        return None;
    }
    let preimage = preimage(&invoice.payment_secret?);
    (preimage.payment_hash() == PaymentHash(invoice.payment_hash)).then_some(preimage)
}

/// A fresh invoice. None without randomness, and for what no invoice can hold.
#[must_use]
pub fn mint(wanted: &Wanted<'_>, now_s: u64) -> Option<String> {
    let payment_secret: [u8; 32] = random::bytes()?;
    let PaymentHash(payment_hash) = preimage(&payment_secret).payment_hash();
    let key = secret()?;
    let invoice = InvoiceBuilder::new(Currency::Regtest)
        .amount_milli_satoshis(wanted.amount_msat)
        .description(wanted.description.to_owned())
        .payment_hash(sha256::Hash::from_byte_array(payment_hash))
        .payment_secret(PaymentSecret(payment_secret))
        .duration_since_epoch(Duration::from_secs(now_s))
        .min_final_cltv_expiry_delta(FINAL_CLTV)
        .expiry_time(Duration::from_secs(u64::from(wanted.expiry_s)))
        .basic_mpp()
        .build_signed(|hash| Secp256k1::new().sign_ecdsa_recoverable(hash, &key));
    invoice.ok().map(|invoice| invoice.to_string())
}

fn preimage(payment_secret: &[u8; 32]) -> Preimage {
    Preimage::new(Sha256::new().chain_update(PREIMAGE).chain_update(payment_secret).finalize().into())
}

fn secret() -> Option<SecretKey> {
    SecretKey::from_slice(&NODE_SECRET).ok()
}
