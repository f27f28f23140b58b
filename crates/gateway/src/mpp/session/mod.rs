//! Sessions on a payment channel: `tempo`/`session` and `solana`/`session` (mpp.md sections 10.5, 10.6 and 11,
//! specs/vouchers.md).
//!
//! A session is a channel, and its account. A voucher's step is a deposit into that account, on disk before anything is
//! served on it (ENG-1); calls draw on it as on any other, several at a time (ENG-7). The channel is kept as those of x402
//! are ([`crate::channels`]), under the rules of the one engine ([`proof::voucher`]).
//!
//! A request's path: [`presented`] (is the payload one of ours, and its voucher genuine; CPU only), [`receive`] (the
//! voucher is accepted, then a call is made) or [`manage`] (it is accepted, or the channel is filled or closed, and no
//! upstream is asked). [`opening`] looks at a channel that has no record, [`closing`] ends one, [`sending`] sends what moves
//! money there, [`collector`] does so behind the requests. [`snapshot`] tells a payer who has lost count where his channel
//! stands.
//!
//! None of these knows a chain. What differs is in [`chain`], which knows both by what [`tempo`] and [`solana`] say.

mod chain;
mod closing;
mod collector;
mod manage;
mod opening;
mod presented;
mod receive;
mod room;
mod sending;
mod snapshot;
mod solana;
mod tempo;
mod told;

pub(crate) use chain::{Chain, Terms};
pub(crate) use collector::run;
pub(crate) use manage::{is_managed, manage};
pub(crate) use presented::Presented;
pub(crate) use receive::receive;
pub(crate) use snapshot::Shown;
pub(crate) use solana::{Solana, keep_recent};
pub(crate) use tempo::Tempo;

use std::num::NonZeroU32;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ledger::Book;
use proof::voucher::Signed;
use proof::voucher::solana::SolanaSignature;
use serde::{Deserialize, Serialize};
use store::{ChannelKind, Promise, Reader, StoreError};
use tokio::sync::Mutex;
use wire::hex;
use wire::x402::base58;

use room::Openings;

use crate::channels::{self, Channels, Kind};

/// Vouchers of one session in a second, and at once: a fast model with small steps wants some in a row (ENG-6).
const VOUCHERS_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();
const VOUCHERS_AT_ONCE: NonZeroU32 = NonZeroU32::new(30).unwrap();

/// Channels of sessions.
#[derive(Debug)]
pub(crate) struct OfSessions;

/// What a channel is made of, as its record has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Made {
    Tempo(tempo::Made),
    Solana(solana::Made),
}

/// What is signed with a sum.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signature {
    Evm([u8; 65]),
    Solana(SolanaSignature),
}

type Slot = channels::Slot<OfSessions>;
type Kept = channels::Kept<OfSessions>;

impl Kind for OfSessions {
    const KIND: ChannelKind = ChannelKind::Session;
    type Config = Made;
    type Signature = Signature;

    fn read(promise: &Promise) -> Option<Signature> {
        if promise.signature.starts_with("0x") {
            return Some(Signature::Evm(*proof::secp::Signature::parse(&promise.signature).ok()?.as_bytes()));
        }
        let bytes = base58::decode_array(&promise.signature).ok()?;
        Some(Signature::Solana(SolanaSignature { bytes, expires_at: promise.expires_at }))
    }

    fn write(signed: &Signed<Signature>) -> Promise {
        let (signature, expires_at) = match &signed.signature {
            Signature::Evm(bytes) => (hex::encode_0x(bytes), 0),
            Signature::Solana(signature) => (base58::encode(&signature.bytes), signature.expires_at),
        };
        Promise { max_claimable: signed.max_claimable, signature, expires_at }
    }
}

impl Signature {
    /// Unix second at which the chain takes nothing by it any more; none where it does not end.
    fn ends_at(&self) -> Option<u64> {
        match self {
            Self::Evm(_) => None,
            Self::Solana(signature) => u64::try_from(signature.expires_at).ok().filter(|end| *end > 0),
        }
    }

    /// Whether the chain still takes something by it.
    fn is_good(&self, now_s: u64) -> bool {
        self.ends_at().is_none_or(|end| end > now_s)
    }
}

impl Made {
    /// The channel's name, as its method writes that.
    fn name(&self, id: &[u8; 32]) -> String {
        match self {
            Self::Tempo(_) => hex::encode_0x(id),
            Self::Solana(_) => base58::encode(id),
        }
    }

    /// Who filled it, as his chain writes that.
    fn payer(&self) -> String {
        match self {
            Self::Tempo(made) => made.payer().to_string(),
            Self::Solana(made) => base58::encode(made.payer()),
        }
    }

    fn has_payer_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tempo(made), Self::Tempo(other)) => made.payer() == other.payer(),
            (Self::Solana(made), Self::Solana(other)) => made.payer() == other.payer(),
            (Self::Tempo(_), Self::Solana(_)) | (Self::Solana(_), Self::Tempo(_)) => false,
        }
    }

    /// What a payer has to wait on the chain for his money, in seconds: the time we have to take what is owed.
    const fn grace_s(&self) -> u64 {
        match self {
            Self::Tempo(_) => tempo::GRACE_S,
            Self::Solana(made) => made.grace_s(),
        }
    }
}

/// What sessions share.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(crate) channels: Channels<OfSessions>,
    rate: DefaultKeyedRateLimiter<[u8; 32]>,
    /// The same for top-ups: each is a transaction that a node is asked about.
    top_ups: DefaultKeyedRateLimiter<[u8; 32]>,
    openings: Openings,
    sending: Sending,
    latest: solana::Latest,
}

/// Our transactions have an order: one of a chain is written and sent at a time.
#[derive(Debug, Default)]
struct Sending {
    tempo: Mutex<()>,
    solana: Mutex<()>,
}

impl Sessions {
    /// As [`Channels::open`].
    pub(crate) fn open(reader: &Reader, book: &Book) -> Result<Self, StoreError> {
        let channels = Channels::open(reader, book)?;
        Ok(Self {
            channels,
            rate: RateLimiter::keyed(Quota::per_second(VOUCHERS_PER_SECOND).allow_burst(VOUCHERS_AT_ONCE)),
            top_ups: RateLimiter::keyed(Quota::per_second(VOUCHERS_PER_SECOND)),
            openings: Openings::default(),
            sending: Sending::default(),
            latest: solana::Latest::default(),
        })
    }

    const fn sending(&self, terms: &Terms) -> &Mutex<()> {
        match terms.chain {
            Chain::Tempo(_) => &self.sending.tempo,
            Chain::Solana(_) => &self.sending.solana,
        }
    }
}

#[cfg(test)]
mod tests {
    use proof::voucher::Signed;
    use proof::voucher::solana::SolanaSignature;
    use serde_json::json;
    use store::Promise;

    use super::{Made, OfSessions, Signature};
    use crate::channels::Kind as _;

    /// Records of both chains, the first as it was written before there was a second.
    #[test]
    fn records_are_read_as_they_were_written() {
        let address = |digit: &str| format!("0x{}", digit.repeat(40));
        let word = |digit: &str| format!("0x{}", digit.repeat(64));
        let tempo = json!({
            "version": 2, "chainId": 42431, "escrow": address("1"), "payer": address("2"), "payee": address("3"),
            "operator": address("0"), "token": address("4"), "salt": word("5"), "authorizedSigner": address("0"),
            "expiringNonceHash": word("6"),
        });
        let key = "CHNLxYvVA28MJP9PrFuDXccuoGXAx7jBacfLEkahyGsX";
        let solana = json!({
            "network": "solana:localnet", "program": key, "treasury": key, "payer": key, "payee": key, "mint": key,
            "authorizedSigner": key, "salt": u64::MAX, "openSlot": 400_000_000, "graceS": 900,
        });
        for (record, is_tempo) in [(tempo, true), (solana, false)] {
            let made: Made = serde_json::from_value(record.clone()).unwrap();
            assert_eq!(matches!(made, Made::Tempo(_)), is_tempo, "{record}");
            assert_eq!(serde_json::to_value(&made).unwrap(), record);
        }
        assert!(serde_json::from_value::<Made>(json!({"salt": "0x00"})).is_err());
    }

    #[test]
    fn promises_are_read_as_they_were_written() {
        let evm = Signature::Evm({
            let mut bytes = [1; 65];
            bytes[64] = 27;
            bytes
        });
        let solana = Signature::Solana(SolanaSignature { bytes: [2; 64], expires_at: 1_800_000_000 });
        for (signature, ends_at) in [(evm, None), (solana, Some(1_800_000_000))] {
            let promise = OfSessions::write(&Signed { max_claimable: 7, signature });
            let read = OfSessions::read(&promise).unwrap();
            assert!(read == signature);
            assert_eq!(read.ends_at(), ends_at);
        }
        let damaged = Promise { max_claimable: 7, signature: "0l".to_owned(), expires_at: 0 };
        assert!(OfSessions::read(&damaged).is_none());
    }
}
