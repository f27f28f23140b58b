use std::sync::Arc;

use super::voucher::{self, SvmVoucherError};
use super::{Offer, SvmError as E, SvmToken, verify, verify_v1, verify_v2};
use crate::quote::{QuoteKey, QuoteScope};
use crate::x402_echo;
use crate::x402_exact::{Binding, ExactError};
use ed25519_dalek::{Signer as _, SigningKey};
use money::{Amount, Asset};
use proptest::prelude::*;
use serde_json::Value;
use wire::hex;
use wire::x402::svm::{SvmPayload, SvmVoucher, Transaction, TransactionError};
use wire::x402::{base58, decode_payment_signature, v1, v2};

/// Where the message starts in the captured transaction, and where its instructions do.
const MESSAGE: usize = 1 + 2 * 64;
const INSTRUCTIONS: usize = MESSAGE + 4 + 1 + 8 * 32 + 32;

fn flow() -> Value {
    serde_json::from_str(include_str!("../../../../specs/vectors/x402/v2_exact_svm.json")).unwrap()
}

fn captured() -> v2::PaymentPayload {
    let flow = flow();
    let header = flow["steps"][1]["request"]["headers"]["payment-signature"].as_str().unwrap();
    decode_payment_signature(header).unwrap()
}

fn payload() -> SvmPayload {
    SvmPayload::from_value(&captured().payload).unwrap()
}

fn key(text: &str) -> [u8; 32] {
    base58::decode_array(text).unwrap()
}

fn payer() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn offer() -> Offer {
    let token = SvmToken::new(
        "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1",
        key("4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"),
        key("2KW2XRd9kwqet15Aha2oK3tYvd3nWbTFH1MBiRAv1BE1"),
    );
    Offer {
        token: Arc::new(token.unwrap()),
        amount: 10_000,
        fee_payer: key("J2xccRtuG43drESLYznHhLhQkLTdfepcKYbiQ9BsJVaf"),
        memo: None,
        max_timeout_s: 300,
        quote: None,
    }
}

/// The captured transaction with its bytes changed, signed again by its payer.
fn signed(change: impl Fn(&mut Vec<u8>)) -> SvmPayload {
    let mut bytes = payload().transaction().unwrap().to_bytes();
    change(&mut bytes);
    let signature = payer().sign(&bytes[MESSAGE..]).to_bytes();
    bytes[65..MESSAGE].copy_from_slice(&signature);
    SvmPayload::from_bytes(&bytes)
}

#[test]
fn the_captured_payment_is_genuine() {
    let sent = captured();
    let quotes = QuoteKey::new(&[3; 32]);
    let scope = QuoteScope { request: &[7; 32], tariff_version: "t1", asset: Asset::Usd, store_epoch: 1 };
    let url = sent.resource.clone().unwrap().url;
    let binding = Binding { key: &quotes, scope, ceiling: Amount::from_units(1), resource_url: &url };
    let offers = [Offer { amount: 9_999, ..offer() }, offer()];
    let (found, payment) = verify_v2(&sent, &offers, &binding, 1).unwrap();
    assert_eq!(*found, offer());
    assert_eq!(payment.payer, payer().verifying_key().to_bytes());
    assert_eq!(serde_json::to_value(payment.to_wire()).unwrap(), sent.payload);
    let written = serde_json::to_value(offer().requirements_v2()).unwrap();
    assert_eq!(written, flow()["steps"][0]["decoded"]["payment-required"]["accepts"][0]);

    let asked = Offer { quote: Some("q1.private".into()), ..offer() }.requirements_v2();
    let request = x402_echo::facilitator_request(asked, &payment.to_wire(), sent.resource.clone(), 10_000);
    assert_eq!(serde_json::to_value(request).unwrap(), flow()["facilitator"][1]["request"]);

    // The same as version 1 is the same payment.
    let requirements = offer().requirements_v1(&url, "", "").unwrap();
    let as_v1 = |network: &str| v1::PaymentPayload {
        x402_version: 1,
        scheme: requirements.scheme.clone(),
        network: network.to_owned(),
        payload: sent.payload.clone(),
    };
    assert_eq!(requirements.network, "solana-devnet");
    assert_eq!(verify_v1(&as_v1("solana-devnet"), &offers).unwrap().1, payment);
    assert_eq!(verify_v1(&as_v1("solana"), &offers), Err(E::Terms(ExactError::WrongNetwork)));
}

/// X402-1, X402-33: the key is made of the message, so another signature over it is the same payment.
#[test]
fn x402_33_one_message_has_one_key() {
    let one = verify(&offer(), &payload()).unwrap();
    assert_eq!(verify(&offer(), &signed(|_| {})).unwrap().deposit_key, one.deposit_key);
    let other = verify(&offer(), &signed(|bytes| bytes[INSTRUCTIONS - 1] ^= 1)).unwrap();
    assert_ne!(other.deposit_key, one.deposit_key, "another blockhash is another payment");
    assert_eq!(other.account, one.account);
}

/// X402-33, A7: every part of the transaction that matters.
#[test]
fn x402_33_a7_a_transaction_that_does_something_else_is_refused() {
    let at = |offset: usize, byte: u8| signed(move |bytes| bytes[INSTRUCTIONS + offset] = byte);
    // The captured instructions: limit at 1, price at 9, transfer at 21, memo at 38, each `program, accounts, data`.
    let transfer = 21;
    for (what, payload, expected) in [
        ("no limit", at(4, 1), E::Instruction(0)),
        ("limit by another program", at(1, 6), E::Instruction(0)),
        ("no price", at(12, 2), E::Instruction(1)),
        ("price above five lamports", at(17, 1), E::ComputePrice),
        ("plain transfer", at(transfer + 7, 3), E::Instruction(2)),
        ("transfer by another program", at(transfer, 6), E::Instruction(2)),
        ("another mint", at(transfer + 3, 3), E::Terms(ExactError::WrongAsset)),
        ("another destination", at(transfer + 4, 2), E::Terms(ExactError::WrongPayee)),
        ("less", at(transfer + 8, 0x0f), E::Terms(ExactError::Underpaid { paid: 9_999, asked: 10_000 })),
        ("more", at(transfer + 8, 0x11), E::Terms(ExactError::Overpaid { paid: 10_001, asked: 10_000 })),
        ("the fee payer's own tokens", at(transfer + 5, 0), E::FeePayerTouched),
        ("from the fee payer's account", at(transfer + 2, 0), E::FeePayerTouched),
        ("tokens of somebody who did not sign", at(transfer + 5, 2), E::Terms(ExactError::Ed25519)),
        ("memo by another program", at(38, 7), E::Instruction(3)),
        ("lookup tables", signed(|bytes| bytes[495] = 1), E::Transaction(TransactionError::LookupTables)),
    ] {
        assert_eq!(verify(&offer(), &payload), Err(expected), "{what}");
    }
    let other_fee_payer = Offer { fee_payer: [9; 32], ..offer() };
    assert_eq!(verify(&other_fee_payer, &payload()), Err(E::FeePayer));
    let fee_paid = signed(|bytes| bytes[1] = 1);
    assert_eq!(verify(&offer(), &fee_paid), Err(E::FeePayer), "signed by the fee payer already");
    let mut altered = payload().transaction().unwrap();
    altered.signatures[1][0] ^= 1;
    let altered = SvmPayload::from_bytes(&altered.to_bytes());
    assert_eq!(verify(&offer(), &altered), Err(E::Terms(ExactError::Ed25519)));
}

#[test]
fn the_memo_is_the_one_we_asked_for() {
    let sent = "b8c9689733e6e2174e67ef4f00824c36";
    let with = |memo: &str| Offer { memo: Some(memo.to_owned()), ..offer() };
    assert!(verify(&with(sent), &payload()).is_ok());
    assert_eq!(verify(&with("b8"), &payload()), Err(E::Memo));
    let without = signed(|bytes| {
        bytes[INSTRUCTIONS] = 3;
        bytes.drain(INSTRUCTIONS + 38..495);
    });
    assert!(verify(&offer(), &without).is_ok());
    assert_eq!(verify(&with(sent), &without), Err(E::Memo));
    let twice = signed(|bytes| {
        bytes[INSTRUCTIONS] = 5;
        let memo = bytes[INSTRUCTIONS + 38..495].to_vec();
        bytes.splice(495..495, memo);
    });
    assert!(verify(&offer(), &twice).is_ok());
    assert_eq!(verify(&with(sent), &twice), Err(E::Memo));
    let endless = signed(|bytes| {
        bytes[INSTRUCTIONS] = 8;
        let memo = bytes[INSTRUCTIONS + 38..495].repeat(4);
        bytes.splice(495..495, memo);
    });
    assert_eq!(verify(&offer(), &endless), Err(E::InstructionCount(8)));
    let few = signed(|bytes| {
        bytes[INSTRUCTIONS] = 2;
        bytes.drain(INSTRUCTIONS + 21..495);
    });
    assert_eq!(verify(&offer(), &few), Err(E::InstructionCount(2)));
}

/// The accounts that tokens of the captured flow moved between.
#[test]
fn token_accounts_are_derived_as_the_chain_derives_them() {
    let Transaction { message, .. } = payload().transaction().unwrap();
    let mint = *offer().token.mint();
    let token = super::token_account::TokenProgram::Token;
    let source = super::token_account::derive(&payer().verifying_key().to_bytes(), token, &mint);
    assert_eq!(source, Some(message.keys[2]));
    assert_eq!(offer().token.destination(token), &message.keys[3]);
    let other = super::token_account::TokenProgram::Token2022;
    assert_ne!(offer().token.destination(other), &message.keys[3]);
}

#[test]
fn the_vectors_vouchers_are_genuine_until_they_expire() {
    let file: Value =
        serde_json::from_str(include_str!("../../../../specs/vectors/mpp/solana-session-vouchers.json"))
            .unwrap();
    let payer = key(file["public_key_b58"].as_str().unwrap());
    for case in file["cases"].as_array().unwrap() {
        let bytes = hex::decode(case["message_hex"].as_str().unwrap()).unwrap();
        let good = SvmVoucher::from_bytes(&bytes).unwrap();
        let signature = hex::decode_array(case["signature_hex"].as_str().unwrap()).unwrap();
        let check = |voucher: &SvmVoucher, now| voucher::verify(voucher, &payer, &signature, now);
        assert_eq!(check(&good, 1_799_999_999), Ok(()));
        let expected = good.expires_at.map_or(Ok(()), |at| Err(SvmVoucherError::Expired(at)));
        assert_eq!(check(&good, 1_800_000_000), expected);
        assert_eq!(check(&good, u64::MAX), expected);
        for altered in [
            SvmVoucher { channel_id: [0; 32], ..good },
            SvmVoucher { cumulative: good.cumulative ^ 1, ..good },
            SvmVoucher { expires_at: Some(2_000_000_000), ..good },
        ] {
            assert_eq!(check(&altered, 1), Err(SvmVoucherError::Signature));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// No byte of what was signed may change, whoever changes it.
    #[test]
    fn a_changed_byte_is_refused(at in 0usize..496, by in 1u8..=255) {
        let mut bytes = payload().transaction().unwrap().to_bytes();
        bytes[at] ^= by;
        prop_assert!(verify(&offer(), &SvmPayload::from_bytes(&bytes)).is_err());
    }
}
