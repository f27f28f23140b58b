//! `exact` on Solana: one transaction that moves the price and nothing else, signed by the payer and not by who pays its
//! fee (X402-33).
//!
//! A transaction lives as long as the blockhash in it: the one that the offer names, else one of a node that the caller
//! names. The node is asked for nothing else, and believed for nothing else.

use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::{Signer as _, SigningKey};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use proof::x402_svm::token_account::{self, TokenProgram};
use proof::x402_svm::{self, SvmToken};
use wire::hex;
use wire::x402::base58;
use wire::x402::svm::SvmPayload;

use crate::Target;
use crate::challenge::Challenge;
use crate::client::Client;
use crate::connection::Outgoing;
use crate::offer::{Offer, Terms, Way};
use crate::payment::PaymentError;

/// USDC where stock clients know it: network, mint.
pub(crate) const USDC: [(&str, &str); 2] = [
    ("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"),
    ("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"),
];
/// Its decimal places.
pub(crate) const DECIMALS: u8 = 6;
/// How long a node may take, and how much it may say.
const NODE_TIME_MAX: Duration = Duration::from_secs(10);
const NODE_BYTES_MAX: usize = 16 * 1024;
/// Longest memo that is asked for.
const MEMO_BYTES_MAX: usize = 256;
/// By when no transaction of now can be taken any more: a blockhash lives for 60 to 90 seconds, and ours may be new.
pub(crate) const LIFE_S: u64 = 150;

const COMPUTE_BUDGET: &str = "ComputeBudget111111111111111111111111111111";
const MEMO: &str = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr";
/// What the transfer and a memo take at most, and a price that is next to nothing: as deployed clients write them.
const UNITS: u32 = 20_000;
const PRICE: u64 = 1;

/// What a transaction that pays an offer must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SolanaTerms {
    /// What is paid, and whose account gets it.
    pub token: Arc<SvmToken>,
    /// Who pays the fee.
    pub fee_payer: [u8; 32],
    /// What the memo must say, if the seller wants one of his own.
    pub memo: Option<String>,
    /// Bounds the transaction's life; `None` until somebody names one.
    pub blockhash: Option<[u8; 32]>,
}

impl SolanaTerms {
    /// From the texts of an offer; `None` where one is missing or malformed.
    pub(crate) fn read(
        network: &str,
        mint: &str,
        pay_to: &str,
        member: impl Fn(&str) -> Option<String>,
    ) -> Option<Self> {
        let token = SvmToken::new(network, key(mint)?, key(pay_to)?)?;
        let memo = member("memo");
        if memo.as_ref().is_some_and(|memo| memo.len() > MEMO_BYTES_MAX) {
            return None;
        }
        Some(Self {
            token: Arc::new(token),
            fee_payer: key(&member("feePayer")?)?,
            memo,
            blockhash: match member("recentBlockhash") {
                Some(text) => Some(key(&text)?),
                None => None,
            },
        })
    }

    fn offer(&self, amount: u64, max_timeout_s: u64) -> x402_svm::Offer {
        let (token, memo) = (Arc::clone(&self.token), self.memo.clone());
        x402_svm::Offer { token, amount, fee_payer: self.fee_payer, memo, max_timeout_s, quote: None }
    }
}

/// Signs the transfer, and checks it as a seller will. `chance` tells two payments of the same price apart.
pub(crate) fn sign(
    terms: &Terms,
    solana: &SolanaTerms,
    payer: &SigningKey,
    chance: &[u8; 16],
) -> Result<SvmPayload, PaymentError> {
    let unanswerable = PaymentError::Unanswerable;
    let amount = u64::try_from(terms.atomic).map_err(|_| unanswerable)?;
    let message = message(solana, &payer.verifying_key().to_bytes(), amount, chance).ok_or(unanswerable)?;
    // Two places for signatures; that of the fee payer stays empty.
    let mut transaction = vec![2];
    transaction.extend([0; 64]);
    transaction.extend(payer.sign(&message).to_bytes());
    transaction.extend(message);
    let payload = SvmPayload::from_bytes(&transaction);
    x402_svm::verify(&solana.offer(amount, terms.max_timeout_s), &payload)
        .map_err(|_| PaymentError::SelfCheck)?;
    Ok(payload)
}

/// Limit, price, transfer, memo, in the order that facilitators want.
fn message(solana: &SolanaTerms, payer: &[u8; 32], amount: u64, chance: &[u8; 16]) -> Option<Vec<u8>> {
    let (token, mint) = (&solana.token, *solana.token.mint());
    let program = key(TokenProgram::Token.address())?;
    let (budget, memo) = (key(COMPUTE_BUDGET)?, key(MEMO)?);
    let source = token_account::derive(payer, TokenProgram::Token, &mint)?;
    let destination = *token.destination(TokenProgram::Token);
    // Signers, then accounts that are written to, then the others, each in the order of their texts.
    let (mut written, mut read) = (vec![source, destination], vec![mint, program, budget, memo]);
    written.sort_by_key(|key| base58::encode(key));
    read.sort_by_key(|key| base58::encode(key));
    let keys: Vec<[u8; 32]> = [solana.fee_payer, *payer].into_iter().chain(written).chain(read).collect();
    let place = |key: &[u8; 32]| {
        keys.iter().position(|known| known == key).and_then(|place| u8::try_from(place).ok())
    };

    let mut limit = vec![2];
    limit.extend(UNITS.to_le_bytes());
    let mut price = vec![3];
    price.extend(PRICE.to_le_bytes());
    let mut transfer = vec![12];
    transfer.extend(amount.to_le_bytes());
    transfer.push(DECIMALS);
    let accounts = [place(&source)?, place(&mint)?, place(&destination)?, place(payer)?];
    let said = solana.memo.clone().unwrap_or_else(|| hex::encode(chance));
    let instructions: [(u8, &[u8], &[u8]); 4] = [
        (place(&budget)?, &[], &limit),
        (place(&budget)?, &[], &price),
        (place(&program)?, &accounts, &transfer),
        (place(&memo)?, &[], said.as_bytes()),
    ];
    // Version 0: two signers, one of whom is only read, four keys at the end that are only read.
    let mut message = vec![0x80, 2, 1, 4, u8::try_from(keys.len()).ok()?];
    message.extend(keys.as_flattened());
    message.extend(solana.blockhash?);
    message.push(u8::try_from(instructions.len()).ok()?);
    for (program, accounts, data) in instructions {
        message.push(program);
        message.push(u8::try_from(accounts.len()).ok()?);
        message.extend(accounts);
        length(&mut message, data.len());
        message.extend(data);
    }
    // No lookup tables.
    message.push(0);
    Some(message)
}

/// Seven bits a byte, lowest first. Nothing here is longer than two bytes' worth.
fn length(message: &mut Vec<u8>, length: usize) {
    let low = u8::try_from(length & 0x7f).unwrap_or_default();
    match u8::try_from(length >> 7) {
        Ok(0) => message.push(low),
        Ok(high) => message.extend([low | 0x80, high]),
        Err(_) => message.push(low),
    }
}

impl Client {
    /// Names a blockhash in the offers that have none, where the caller has named a node. Without one they are not
    /// payable, and other offers may be.
    pub(crate) async fn name_blockhash(&self, challenge: &mut Challenge) {
        let Some(node) = &self.solana_node else { return };
        let incomplete = |offer: &Offer| match offer.terms.as_ref().map(|terms| &terms.way) {
            Ok(Way::Solana(solana)) => solana.blockhash.is_none(),
            Ok(Way::Transfer(_) | Way::Permit { .. } | Way::Channel(_) | Way::Invoice(_)) | Err(_) => false,
        };
        if !challenge.offers.iter().any(incomplete) {
            return;
        }
        let Some(blockhash) = self.latest_blockhash(node).await else { return };
        for offer in &mut challenge.offers {
            if let Ok(Terms { way: Way::Solana(solana), .. }) = &mut offer.terms {
                solana.blockhash = solana.blockhash.or(Some(blockhash));
            }
        }
    }

    async fn latest_blockhash(&self, node: &Target) -> Option<[u8; 32]> {
        let question =
            r#"{"jsonrpc":"2.0","id":1,"method":"getLatestBlockhash","params":[{"commitment":"confirmed"}]}"#;
        let json = HeaderValue::from_static("application/json");
        let outgoing = Outgoing {
            method: Method::POST,
            target: node,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, json)]),
            body: question.into(),
            secret: false,
            trailers: false,
            signer: None,
        };
        let answer = outgoing.send(&self.dialer, (NODE_TIME_MAX, NODE_TIME_MAX)).await.ok()?;
        let body = answer.body.collect(NODE_BYTES_MAX).await.ok()?;
        let document = wire::json::parse_strict(&body).ok()?;
        key(document["result"]["value"]["blockhash"].as_str()?)
    }
}

fn key(text: &str) -> Option<[u8; 32]> {
    base58::decode_array(text).ok()
}

#[cfg(test)]
mod tests {
    use super::{LIFE_S, SolanaTerms, sign};
    use crate::Wallet;
    use crate::challenge::Challenge;
    use crate::offer::{Offer, Way};
    use crate::payment::{Chance, Payment};
    use crate::unpayable::Unpayable;
    use proof::SigningKey;
    use proof::secp::SecretKey;
    use serde_json::{Value, json};
    use wire::base64::decode_any;
    use wire::hex;
    use wire::x402::base58;
    use wire::x402::svm::SvmPayload;

    fn flow() -> Value {
        serde_json::from_str(include_str!("../../../specs/vectors/x402/v2_exact_svm.json")).unwrap()
    }

    /// The captured offer, with the blockhash that its payer asked a node for.
    fn offer(changes: &Value) -> Offer {
        let sent = captured().transaction().unwrap();
        let mut entry = flow()["steps"][0]["decoded"]["payment-required"]["accepts"][0].clone();
        entry["extra"]["recentBlockhash"] = json!(base58::encode(&sent.message.recent_blockhash));
        for (name, value) in changes.as_object().unwrap() {
            entry["extra"][name] = value.clone();
        }
        Offer::v2(serde_json::from_value(entry).unwrap())
    }

    fn captured() -> SvmPayload {
        SvmPayload::from_value(&flow()["steps"][1]["decoded"]["payment-signature"]["payload"]).unwrap()
    }

    fn payer() -> SigningKey {
        SigningKey::from_bytes(&hex::decode_array(flow()["payer"]["ed25519Seed"].as_str().unwrap()).unwrap())
    }

    fn solana(offer: &Offer) -> &SolanaTerms {
        match &offer.terms.as_ref().unwrap().way {
            Way::Solana(solana) => solana,
            Way::Transfer(_) | Way::Permit { .. } | Way::Channel(_) | Way::Invoice(_) => panic!(),
        }
    }

    /// X402-33: byte for byte what a deployed client signed.
    #[test]
    fn x402_33_the_captured_transaction_is_what_we_sign() {
        let offer = offer(&json!({}));
        let terms = offer.terms.as_ref().unwrap();
        assert_eq!((terms.price.units(), terms.asset.name()), (10_000_000, "USDC"));
        let memo = captured().transaction().unwrap().message.instructions[3].data.clone();
        let chance = hex::decode_array(std::str::from_utf8(&memo).unwrap()).unwrap();
        assert_eq!(sign(terms, solana(&offer), &payer(), &chance), Ok(captured()));
    }

    #[test]
    fn a_memo_of_the_sellers_and_long_ones() {
        for memo in ["order 7".to_owned(), "m".repeat(127), "m".repeat(128), "m".repeat(256)] {
            let offer = offer(&json!({"memo": memo}));
            let payload = sign(offer.terms.as_ref().unwrap(), solana(&offer), &payer(), &[1; 16]).unwrap();
            let message = payload.transaction().unwrap().message;
            assert_eq!(message.instructions[3].data, memo.as_bytes());
        }
    }

    #[test]
    fn offers_that_lack_something_are_not_paid() {
        for (changes, expected) in [
            (json!({"recentBlockhash": "0OIl"}), Unpayable::Members),
            (json!({"feePayer": null}), Unpayable::Members),
            (json!({"memo": "m".repeat(257)}), Unpayable::Members),
        ] {
            assert_eq!(offer(&changes).terms, Err(expected), "{changes}");
        }
    }

    #[test]
    fn a_wallet_without_the_key_pays_nothing_there() {
        let offer = offer(&json!({}));
        let challenge = Challenge {
            offers: vec![offer.clone()],
            resource: None,
            extensions: None,
            refusal: crate::Said::default(),
        };
        let evm = || SecretKey::parse(&"5a".repeat(32)).unwrap();
        let chance = Chance { nonce: [1; 32], name: [2; 16] };
        let terms = offer.terms.as_ref().unwrap();
        let without = Wallet::from_keys(evm(), SigningKey::from_bytes(&[1; 32]));
        assert!(Payment::sign(&challenge, &offer, terms, &without, &chance, 1_000).is_err());
        let with = Wallet::from_keys(evm(), SigningKey::from_bytes(&[1; 32])).with_solana(payer());
        let payment = Payment::sign(&challenge, &offer, terms, &with, &chance, 1_000).unwrap();
        assert_eq!(payment.valid_before, 1_000 + LIFE_S);
        let sent = wire::x402::decode_payment_signature(payment.expose_value()).unwrap();
        let transaction = sent.payload["transaction"].as_str().unwrap();
        assert_eq!(decode_any(transaction, 2_000).map(|bytes| bytes.len()), Ok(496));
    }
}
