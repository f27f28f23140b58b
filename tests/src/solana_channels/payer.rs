//! A payer by sessions of Solana: opens a channel, signs vouchers, fills and closes it. He builds and signs his transactions
//! himself.

use std::sync::{Arc, Mutex};

use ed25519_dalek::{Signer as _, SigningKey};
use proof::solana::address;
use proof::solana::transaction::{self, Call};
use proof::x402_svm::token_account::ASSOCIATED_TOKEN;
use serde_json::{Value, json};
use wire::mpp::solana::SessionRequest;
use wire::mpp::{Challenge, Credential, payload};
use wire::x402::base58;
use wire::x402::svm::{SvmPayload, Transaction};

use super::ledger::{Failure, Key, Ledger};
use super::{ED25519, INSTRUCTIONS, MINT, RENT, SYSTEM, channel_program, key, tokens};
use crate::mpp::credential;

/// What he has for fees.
const LAMPORTS: u64 = 1_000_000_000;
/// A thousand dollars.
const TOKENS: u64 = 1_000_000_000;
/// What he waits for his money, unless a challenge asks for another time.
const GRACE_S: u32 = 900;

/// A payer with one channel.
pub struct Payer {
    ledger: Arc<Mutex<Ledger>>,
    key: SigningKey,
    /// Who signs his vouchers: himself, unless a test says otherwise.
    pub voucher_key: SigningKey,
    /// What he waits for his money.
    pub grace_s: Option<u32>,
    /// Who gets parts of what the payee is paid, with their hundredths of a per cent.
    pub shares: Vec<(Key, u16)>,
    salt: u64,
    id: Option<Key>,
}

/// What a channel is opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Who is paid.
    pub payee: Key,
    /// What he puts in.
    pub deposit: u64,
    /// What he waits for his money.
    pub grace_s: u32,
    /// Where the chain stood for him.
    pub slot: u64,
    /// What the transaction is signed over.
    pub blockhash: Key,
}

/// What a challenge asks for by vouchers.
pub fn asked(challenge: &Challenge) -> SessionRequest {
    payload::read(&challenge.request_object().unwrap()).unwrap()
}

/// How an instruction uses an account: whether it signs, whether it is changed.
type Use = (Key, bool, bool);

const fn read(key: Key) -> Use {
    (key, false, false)
}

const fn written(key: Key) -> Use {
    (key, false, true)
}

const fn signs(key: Key) -> Use {
    (key, true, true)
}

impl Payer {
    pub(super) fn new(ledger: Arc<Mutex<Ledger>>, number: u8, salt: u64) -> Self {
        let key = SigningKey::from_bytes(&[number; 32]);
        let owner = key.verifying_key().to_bytes();
        {
            let mut ledger = ledger.lock().unwrap();
            ledger.give(owner, LAMPORTS);
            ledger.give_tokens(owner, TOKENS);
        }
        let voucher_key = key.clone();
        Self { ledger, key, voucher_key, grace_s: None, shares: Vec::new(), salt, id: None }
    }

    /// His address.
    pub fn address(&self) -> Key {
        self.key.verifying_key().to_bytes()
    }

    /// Who signs his vouchers.
    pub fn signer(&self) -> Key {
        self.voucher_key.verifying_key().to_bytes()
    }

    /// What he has of the mint.
    pub fn tokens(&self) -> u64 {
        self.ledger.lock().unwrap().tokens(&self.address()).unwrap()
    }

    /// The id of his channel.
    pub fn id(&self) -> Key {
        self.id.unwrap()
    }

    /// The same as it is written.
    pub fn channel(&self) -> String {
        base58::encode(&self.id())
    }

    /// The account that the gateway has for it.
    pub fn account(&self) -> String {
        wire::hex::encode(&self.id()[..16])
    }

    /// Opens a channel with so much in it. No voucher comes with it.
    pub fn open(&mut self, challenge: &Challenge, deposit: u64) -> Credential {
        let payload = self.opening(challenge, deposit);
        credential(challenge.clone(), None, payload)
    }

    /// The payload of that.
    pub fn opening(&mut self, challenge: &Challenge, deposit: u64) -> Value {
        let request = asked(challenge);
        let details = &request.method_details;
        assert_eq!(key(&details.channel_program), channel_program::program());
        assert_eq!(request.currency, MINT);
        let mut terms = self.terms(key(&request.recipient), deposit);
        if let Some(slot) = &details.recent_slot {
            terms.slot = slot.parse().unwrap();
        }
        if let Some(blockhash) = &details.recent_blockhash {
            terms.blockhash = key(blockhash);
        }
        terms.grace_s = self.grace_s.or(details.grace_period_seconds).unwrap_or(GRACE_S);
        let transaction = self.open_transaction(&terms);
        json!({
            "action": "open",
            "channelId": self.channel(),
            "payer": base58::encode(&self.address()),
            "payee": request.recipient,
            "mint": request.currency,
            "authorizedSigner": base58::encode(&self.signer()),
            "salt": self.salt.to_string(),
            "depositAmount": deposit.to_string(),
            "gracePeriodSeconds": terms.grace_s,
            "openSlot": terms.slot.to_string(),
            "transaction": wire::base64::encode_std(&transaction),
        })
    }

    /// What he would open now.
    pub fn terms(&self, payee: Key, deposit: u64) -> Terms {
        let ledger = self.ledger.lock().unwrap();
        Terms { payee, deposit, grace_s: GRACE_S, slot: ledger.slot(), blockhash: ledger.blockhash() }
    }

    /// The transaction that opens a channel, which is his from then on.
    pub fn open_transaction(&mut self, terms: &Terms) -> Vec<u8> {
        let (payer, signer, program) = (self.address(), self.signer(), channel_program::program());
        let (mint, payee) = (key(MINT), terms.payee);
        let (salt, slot) = (self.salt.to_le_bytes(), terms.slot.to_le_bytes());
        let seeds: [&[u8]; 7] = [b"channel", &payer, &payee, &mint, &signer, &salt, &slot];
        let id = address::derive(&seeds, &program).unwrap();
        self.id = Some(id);
        let count = u32::try_from(self.shares.len()).unwrap().to_le_bytes();
        let (deposit, grace) = (terms.deposit.to_le_bytes(), terms.grace_s.to_le_bytes());
        let mut data = [&[1][..], &salt, &deposit, &grace, &slot, &count].concat();
        for (who, bps) in &self.shares {
            data.extend([&who[..], &bps.to_le_bytes()].concat());
        }
        let accounts = [
            signs(payer),
            signs(payer),
            read(payee),
            read(mint),
            read(signer),
            written(id),
            written(tokens::place(&payer)),
            written(tokens::place(&id)),
            read(tokens::program()),
            read(SYSTEM),
            read(key(RENT)),
            read(key(ASSOCIATED_TOKEN)),
            read(address::derive(&[b"event_authority"], &program).unwrap()),
            read(program),
        ];
        self.transaction(&terms.blockhash, &accounts, &data)
    }

    /// Puts more into the channel.
    pub fn top_up(&self, challenge: &Challenge, more: u64) -> Credential {
        let data = [&[3][..], &more.to_le_bytes()].concat();
        let accounts = [
            signs(self.address()),
            written(self.id()),
            written(tokens::place(&self.address())),
            written(tokens::place(&self.id())),
            read(key(MINT)),
            read(tokens::program()),
        ];
        let transaction = self.transaction(&self.blockhash(), &accounts, &data);
        let payload = json!({
            "action": "topUp",
            "channelId": self.channel(),
            "additionalAmount": more.to_string(),
            "transaction": wire::base64::encode_std(&transaction),
        });
        credential(challenge.clone(), None, payload)
    }

    /// Vouches for a sum, without an end.
    pub fn voucher(&self, challenge: &Challenge, sum: u64) -> Credential {
        credential(challenge.clone(), None, self.vouched("voucher", sum, 0))
    }

    /// Vouches for a sum until this second.
    pub fn voucher_until(&self, challenge: &Challenge, sum: u64, expires_at: i64) -> Credential {
        credential(challenge.clone(), None, self.vouched("voucher", sum, expires_at))
    }

    /// Ends the channel by a voucher of this sum.
    pub fn close(&self, challenge: &Challenge, sum: u64) -> Credential {
        credential(challenge.clone(), None, self.vouched("close", sum, 0))
    }

    /// A payload with a voucher.
    pub fn vouched(&self, action: &str, sum: u64, expires_at: i64) -> Value {
        let mut voucher = json!({"channelId": self.channel(), "cumulativeAmount": sum.to_string()});
        if expires_at != 0 {
            voucher["expiresAt"] = json!(expires_at);
        }
        json!({
            "action": action,
            "channelId": self.channel(),
            "voucher": {
                "voucher": voucher,
                "signer": base58::encode(&self.signer()),
                "signature": base58::encode(&self.signature(sum, expires_at)),
                "signatureType": "ed25519",
            },
        })
    }

    /// His signature under a sum.
    pub fn signature(&self, sum: u64, expires_at: i64) -> [u8; 64] {
        self.voucher_key.sign(&self.message(sum, expires_at)).to_bytes()
    }

    fn message(&self, sum: u64, expires_at: i64) -> Vec<u8> {
        [&[0x56, 0x01], &self.id()[..], &sum.to_le_bytes(), &expires_at.to_le_bytes()].concat()
    }

    /// Asks for his money on the chain.
    ///
    /// # Errors
    /// Why the chain does not hear him.
    pub fn request_close(&self) -> Result<(), Failure> {
        self.send(&[signs(self.address()), written(self.id())], &[5])
    }

    /// Shows a promise of his to the chain himself, which anybody may who has seen it.
    ///
    /// # Errors
    /// Why nothing is taken by it.
    pub fn settle(&self, sum: u64) -> Result<(), Failure> {
        let message = self.message(sum, 0);
        let places: [u16; 7] = [48, u16::MAX, 16, u16::MAX, 112, 50, u16::MAX];
        let places = places.map(u16::to_le_bytes);
        let (signer, signature) = (self.signer(), self.signature(sum, 0));
        let data = [&[1, 0][..], places.as_flattened(), &signer, &signature, &message].concat();
        let written = |key| transaction::Account::written(key);
        let calls = [
            Call { program: key(ED25519), accounts: Vec::new(), data },
            Call {
                program: channel_program::program(),
                accounts: vec![written(self.id()), transaction::Account::read(key(INSTRUCTIONS))],
                data: vec![2],
            },
        ];
        let raw = transaction::sign(&calls, &self.blockhash(), &self.key).unwrap().raw;
        let transaction = SvmPayload { transaction: raw }.transaction().unwrap();
        self.ledger.lock().unwrap().send(&transaction)
    }

    /// Says that he has waited long enough.
    ///
    /// # Errors
    /// Why the chain thinks otherwise.
    pub fn seal(&self) -> Result<(), Failure> {
        self.send(&[written(self.id())], &[6])
    }

    /// Takes what was not taken from him.
    ///
    /// # Errors
    /// Why he may not.
    pub fn withdraw(&self) -> Result<(), Failure> {
        let accounts = [
            signs(self.address()),
            written(self.id()),
            written(tokens::place(&self.id())),
            written(tokens::place(&self.address())),
            read(key(MINT)),
            read(tokens::program()),
        ];
        self.send(&accounts, &[8])
    }

    /// Sends a call of the program.
    fn send(&self, accounts: &[Use], data: &[u8]) -> Result<(), Failure> {
        let bytes = self.transaction(&self.blockhash(), accounts, data);
        self.ledger.lock().unwrap().send(&Transaction::parse(&bytes).unwrap())
    }

    fn blockhash(&self) -> Key {
        self.ledger.lock().unwrap().blockhash()
    }

    /// A transaction with one call of the program, that he pays for and nobody else has to sign.
    fn transaction(&self, blockhash: &Key, accounts: &[Use], data: &[u8]) -> Vec<u8> {
        let mut keys = vec![self.address()];
        for is_written in [true, false] {
            for (key, _, _) in accounts.iter().filter(|(_, _, written)| *written == is_written) {
                if !keys.contains(key) {
                    keys.push(*key);
                }
            }
        }
        let program = channel_program::program();
        if !keys.contains(&program) {
            keys.push(program);
        }
        let is_changed = |key: &Key| {
            *key == self.address() || accounts.iter().any(|(each, _, written)| each == key && *written)
        };
        let only_read = keys.iter().filter(|key| !is_changed(key)).count();
        let byte = |number: usize| u8::try_from(number).unwrap();
        let place = |key: &Key| byte(keys.iter().position(|each| each == key).unwrap());
        let mut message = vec![1, 0, byte(only_read), byte(keys.len())];
        message.extend(keys.as_flattened());
        message.extend(blockhash);
        message.extend([1, place(&program), byte(accounts.len())]);
        message.extend(accounts.iter().map(|(key, _, _)| place(key)));
        message.extend(length(data.len()));
        message.extend(data);
        [&[1][..], &self.key.sign(&message).to_bytes(), &message].concat()
    }
}

/// Seven bits a byte, lowest first.
fn length(number: usize) -> Vec<u8> {
    match number {
        0..=0x7f => vec![u8::try_from(number).unwrap()],
        _ => vec![u8::try_from(number & 0x7f).unwrap() | 0x80, u8::try_from(number >> 7).unwrap()],
    }
}
