//! A wallet on Solana: builds and signs what `exact` asks for there.

use ed25519_dalek::{Signer as _, SigningKey};
use proof::x402_svm::token_account::{self, TokenProgram};
use serde_json::{Value, json};
use wire::x402::base58;
use wire::x402::siwx::Answer;
use wire::x402::svm::SvmPayload;

use crate::payer::fresh_nonce;

const COMPUTE_BUDGET: &str = "ComputeBudget111111111111111111111111111111";
const MEMO: &str = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr";

/// Keys of one payer.
pub struct SolanaWallet(SigningKey);

impl SolanaWallet {
    /// The wallet of this number.
    pub fn new(number: u8) -> Self {
        Self(SigningKey::from_bytes(&[number; 32]))
    }

    /// Its address.
    pub fn address(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Answers the terms of a sign-in.
    pub fn sign_in(&self, terms: &Value, network: &str) -> Value {
        let signer = json!({"chainId": network, "type": "ed25519", "address": base58::encode(&self.address()), "signature": "1"});
        let mut answer = Answer {
            info: serde_json::from_value(terms["info"].clone()).unwrap(),
            signer: serde_json::from_value(signer).unwrap(),
        };
        let text = answer.message().unwrap();
        answer.signer.signature = base58::encode(&self.0.sign(text.as_bytes()).to_bytes());
        json!(answer)
    }

    /// The payload for an offer that is paid so many atomic units: signed by us, and not yet by the fee payer.
    pub fn payload(&self, accepted: &Value, amount: u64) -> Value {
        let key = |text: &str| base58::decode_array::<32>(text).unwrap();
        let named = |member: &Value| key(member.as_str().unwrap());
        let (mint, fee_payer) = (named(&accepted["asset"]), named(&accepted["extra"]["feePayer"]));
        let account = |owner: &[u8; 32]| token_account::derive(owner, TokenProgram::Token, &mint).unwrap();
        let token = key(TokenProgram::Token.address());
        let destination = account(&named(&accepted["payTo"]));
        // Two signers, of whom the second is not written to; two accounts that are, four that are not.
        let keys = [
            fee_payer,
            self.address(),
            account(&self.address()),
            destination,
            mint,
            token,
            key(COMPUTE_BUDGET),
            key(MEMO),
        ];
        let mut transfer = vec![12];
        transfer.extend(amount.to_le_bytes());
        transfer.push(6);
        let memo = wire::hex::encode(&fresh_nonce()[16..]);
        let instructions: [(u8, &[u8], &[u8]); 4] = [
            (6, &[], &[2, 0x20, 0x4e, 0, 0]),
            (6, &[], &[3, 1, 0, 0, 0, 0, 0, 0, 0]),
            (5, &[2, 4, 3, 1], &transfer),
            (7, &[], memo.as_bytes()),
        ];
        let mut message = vec![0x80, 2, 1, 4, u8::try_from(keys.len()).unwrap()];
        message.extend(keys.concat());
        message.extend([0xbb; 32]);
        message.push(u8::try_from(instructions.len()).unwrap());
        for (program, accounts, data) in instructions {
            message.extend([program, u8::try_from(accounts.len()).unwrap()]);
            message.extend(accounts);
            message.push(u8::try_from(data.len()).unwrap());
            message.extend(data);
        }
        message.push(0);
        let signature = self.0.sign(&message).to_bytes();
        let bytes = [&[2][..], &[0; 64], &signature, &message].concat();
        json!(SvmPayload::from_bytes(&bytes))
    }
}
