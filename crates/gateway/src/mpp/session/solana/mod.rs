//! Channels of Solana's program (specs/vouchers.md "Solana"): what they are made of, and what their chain says of them.
//! [`presented`] reads credentials, [`taking`] takes what is owed and ends them, [`recent`] keeps what payers sign over.

mod presented;
mod recent;
mod taking;

pub(super) use recent::Latest;
pub(crate) use recent::keep_recent;

use std::io;

use proof::SigningKey;
use proof::solana::transaction;
use proof::voucher::solana_channel::{Asked, Descriptor, NotOurs, Program};
use proof::x402_svm::token_account::TokenProgram;
use rails::{AtAddress, SolanaNode};
use serde::{Deserialize, Serialize};
use wire::mpp::solana::{ChannelAccount, Status};
use wire::template::{MARKS, Template};
use wire::x402::base58;
use wire::x402::svm::TRANSACTION_BYTES_MAX;

use super::chain::{NotWritten, Seen, Who, Written};
use super::presented::elsewhere;
use super::told;
use crate::clock::Now;
use crate::config;
use crate::mpp;
use crate::refusal::Refusal;

/// Characters of the longest transaction that a chain takes.
const TRANSACTION_CHARS_MAX: usize = TRANSACTION_BYTES_MAX.div_ceil(3) * 4;

/// Its channels, as they are opened and ended here.
#[derive(Debug)]
pub(crate) struct Solana {
    pub(crate) rules: config::Solana,
    pub(crate) node: SolanaNode,
    /// What a payer is asked.
    asked: Template,
}

/// What a channel is made of, as its record has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Made {
    /// CAIP-2.
    network: String,
    #[serde(with = "key")]
    program: [u8; 32],
    #[serde(with = "key")]
    treasury: [u8; 32],
    #[serde(with = "key")]
    payer: [u8; 32],
    #[serde(with = "key")]
    payee: [u8; 32],
    #[serde(with = "key")]
    mint: [u8; 32],
    #[serde(with = "key")]
    authorized_signer: [u8; 32],
    salt: u64,
    open_slot: u64,
    grace_s: u32,
}

impl Made {
    pub(super) const fn payer(&self) -> &[u8; 32] {
        &self.payer
    }

    pub(super) const fn grace_s(&self) -> u64 {
        self.grace_s as u64
    }

    pub(super) const fn program(&self) -> Program {
        Program { address: self.program, treasury: self.treasury, token: TokenProgram::Token }
    }

    const fn descriptor(&self) -> Descriptor {
        Descriptor {
            payer: self.payer,
            payee: self.payee,
            mint: self.mint,
            authorized_signer: self.authorized_signer,
            salt: self.salt,
            open_slot: self.open_slot,
        }
    }
}

impl Solana {
    pub(crate) fn new(rules: &config::Solana, node: SolanaNode) -> io::Result<Self> {
        let asked = mpp::written(&presented::request(rules, MARKS), MARKS.len())?;
        Ok(Self { rules: rules.clone(), node, asked })
    }

    /// Whether a channel is on the chain of our node.
    pub(super) fn keeps(&self, made: &Made) -> bool {
        made.network == self.rules.network.caip2()
    }

    pub(super) async fn seen(&self, program: &[u8; 32], id: &[u8; 32]) -> Option<Seen> {
        Some(match self.node.channel(program, id).await? {
            AtAddress::Channel(account) => stands(account, Now::read().seconds()),
            // What is left at the address of a channel that was cleared away, or somebody's gift to it.
            AtAddress::Nothing | AtAddress::Other => {
                Seen { deposit: 0, settled: 0, close_requested_at: 0, finalized: false, who: Who::Unsaid }
            }
        })
    }

    /// Whether a channel that we know is one that is taken under these rules.
    fn takes(&self, made: &Made) -> bool {
        let rules = &self.rules;
        self.keeps(made)
            && made.program() == rules.program
            && (made.payee, made.mint) == (rules.payee, rules.mint)
    }

    /// What a channel is made of that its chain tells of: who opened it has chosen all of that.
    pub(super) fn made(&self, id: &[u8; 32], seen: &Seen) -> Result<Made, Refusal> {
        let Who::Account(account) = &seen.who else { return Err(told::unseen()) };
        let rules = &self.rules;
        let asked = Asked { payee: rules.payee, mint: rules.mint, grace_s: rules.grace_s };
        let channel = rules.program.check(id, account, &asked).map_err(|error| {
            elsewhere(match error {
                NotOurs::Address => "channel_id",
                NotOurs::Payee => "payee",
                NotOurs::Mint => "mint",
                NotOurs::Shares => "shares",
                NotOurs::Grace(_) => "grace",
                NotOurs::Signer => "signer",
            })
        })?;
        Ok(self.of(&channel, account.grace_s))
    }

    pub(super) async fn write(&self, calls: &[transaction::Call]) -> Result<Written, NotWritten> {
        let recent = self.node.recent().await.ok_or(NotWritten::Unable)?;
        let key = SigningKey::from_bytes(self.rules.key.expose());
        let signed = transaction::sign(calls, &recent.blockhash, &key).map_err(|_| NotWritten::Unable)?;
        Ok(Written { hash: signed.id, raw: signed.raw, counts_until: recent.last_height })
    }

    fn of(&self, channel: &Descriptor, grace_s: u32) -> Made {
        let Descriptor { payer, payee, mint, authorized_signer, salt, open_slot } = *channel;
        let Program { address: program, treasury, token: _ } = self.rules.program;
        let network = self.rules.network.caip2().to_owned();
        Made { network, program, treasury, payer, payee, mint, authorized_signer, salt, open_slot, grace_s }
    }
}

/// A channel as its account says. One that was sealed is as good as asked back: nothing more is taken by vouchers.
fn stands(account: Box<ChannelAccount>, now_s: u64) -> Seen {
    let (close_requested_at, finalized) = match account.status {
        Status::Open => (0, false),
        Status::Closing => (u64::try_from(account.closing_since).unwrap_or(0).max(1), false),
        Status::Sealed => (now_s, false),
        Status::Distributed => (0, true),
    };
    Seen {
        deposit: account.deposit.into(),
        settled: account.settled.into(),
        close_requested_at,
        finalized,
        who: Who::Account(account),
    }
}

/// What a transaction is found by: the first of its signatures.
pub(super) fn id_of(transaction: &str) -> Option<String> {
    let bytes = wire::base64::decode_any(transaction, TRANSACTION_CHARS_MAX).ok()?;
    let (count, rest) = bytes.split_first()?;
    let first = rest.first_chunk::<64>().filter(|_| (1..=127).contains(count))?;
    Some(base58::encode(first))
}

/// Keys and addresses, in base58.
mod key {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use wire::x402::base58;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base58::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        base58::decode_array(&text).map_err(|_| de::Error::custom("not 32 bytes of base58"))
    }
}
