//! Transactions of our own on Solana: calls of programs, one after the other and all or none, under one signature of ours.

use std::collections::BTreeMap;

use ed25519_dalek::{Signer as _, SigningKey};
use wire::base64;
use wire::x402::base58;
use wire::x402::svm::TRANSACTION_BYTES_MAX;

/// A call of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which.
    pub program: [u8; 32],
    /// What it is about, in its order.
    pub accounts: Vec<Account>,
    /// What is called, and with what.
    pub data: Vec<u8>,
}

/// An account of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its address.
    pub key: [u8; 32],
    /// Whether its owner has to have signed: only we sign.
    pub signs: bool,
    /// Whether the call may change it.
    pub is_written: bool,
}

/// A signed transaction, as a node takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedTransaction {
    /// Its bytes, in base64.
    pub raw: String,
    /// Its signature in base58, by which it is found.
    pub id: String,
}

/// Why calls are no transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallsError {
    /// Longer than a chain takes.
    #[error("calls are longer than one transaction")]
    TooLong,
    /// Somebody else would have to sign too.
    #[error("somebody else would have to sign")]
    OtherSigner,
}

impl Account {
    /// One that is only read.
    #[must_use]
    pub const fn read(key: [u8; 32]) -> Self {
        Self { key, signs: false, is_written: false }
    }

    /// One that is changed.
    #[must_use]
    pub const fn written(key: [u8; 32]) -> Self {
        Self { key, signs: false, is_written: true }
    }

    /// One whose owner has to have signed.
    #[must_use]
    pub const fn signing(self) -> Self {
        Self { signs: true, ..self }
    }
}

/// Signs calls as who also pays for them. They count until the chain has forgotten this blockhash.
///
/// # Errors
/// [`CallsError`]
pub fn sign(calls: &[Call], blockhash: &[u8; 32], key: &SigningKey) -> Result<SignedTransaction, CallsError> {
    let message = message(calls, blockhash, key.verifying_key().as_bytes())?;
    let signature = key.sign(&message).to_bytes();
    let bytes = [&[1][..], &signature, &message].concat();
    if bytes.len() > TRANSACTION_BYTES_MAX {
        return Err(CallsError::TooLong);
    }
    Ok(SignedTransaction { raw: base64::encode_std(&bytes), id: base58::encode(&signature) })
}

/// The message that is signed: who pays first, then what is changed, then what is only read, each in the order of its bytes.
fn message(calls: &[Call], blockhash: &[u8; 32], payer: &[u8; 32]) -> Result<Vec<u8>, CallsError> {
    let mut named: BTreeMap<[u8; 32], bool> = BTreeMap::new();
    for call in calls {
        named.entry(call.program).or_default();
        for account in &call.accounts {
            if account.signs && account.key != *payer {
                return Err(CallsError::OtherSigner);
            }
            *named.entry(account.key).or_default() |= account.is_written;
        }
    }
    named.remove(payer);
    let of = |is_written: bool| {
        named.iter().filter(move |(_, written)| **written == is_written).map(|(key, _)| *key)
    };
    let keys: Vec<[u8; 32]> = std::iter::once(*payer).chain(of(true)).chain(of(false)).collect();
    let short = |length: usize| u8::try_from(length).map_err(|_| CallsError::TooLong);
    let place = |key: &[u8; 32]| {
        let place = keys.iter().position(|each| each == key).ok_or(CallsError::OtherSigner)?;
        short(place)
    };
    let mut bytes = vec![1, 0, short(of(false).count())?];
    push_length(&mut bytes, keys.len());
    bytes.extend_from_slice(keys.as_flattened());
    bytes.extend_from_slice(blockhash);
    push_length(&mut bytes, calls.len());
    for call in calls {
        bytes.push(place(&call.program)?);
        push_length(&mut bytes, call.accounts.len());
        for account in &call.accounts {
            bytes.push(place(&account.key)?);
        }
        push_length(&mut bytes, call.data.len());
        bytes.extend_from_slice(&call.data);
    }
    Ok(bytes)
}

/// Seven bits a byte, lowest first.
fn push_length(bytes: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}
