//! Sessions on a payment channel: `tempo`/`session` (mpp.md sections 10.5 and 11, specs/vouchers.md).
//!
//! A session is a channel, and its account. A voucher's step is a deposit into that account, on disk before anything is
//! served on it (ENG-1); calls draw on it as on any other, several at a time (ENG-7). The channel is kept as those of x402
//! are ([`crate::channels`]), under the rules of the one engine ([`proof::voucher`]).
//!
//! A request's path: [`presented`] (is the payload one of ours, and its voucher genuine; CPU only), [`receive`] (the
//! voucher is accepted, then a call is made) or [`manage`] (it is accepted, or the channel is filled or closed, and no
//! upstream is asked). [`opening`] looks at a channel that has no record, [`closing`] ends one, [`chain`] sends what moves
//! money there, [`collector`] does so behind the requests. [`snapshot`] tells a payer who has lost count where his channel
//! stands.

mod chain;
mod closing;
mod collector;
mod manage;
mod opening;
mod presented;
mod receive;
mod snapshot;
mod told;

pub(crate) use collector::run;
pub(crate) use manage::{is_managed, manage};
pub(crate) use presented::{Presented, read};
pub(crate) use receive::receive;
pub(crate) use snapshot::Shown;
pub(crate) use told::offer;

use std::num::NonZeroU32;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ledger::Book;
use proof::voucher::evm::{Descriptor, Escrow, Protocol};
use proof::voucher::{Lower, Rules, Signed, Step, Withdrawal};
use rails::EvmNode;
use serde::{Deserialize, Serialize};
use store::{ChannelKind, Promise, Reader, StoreError};
use tokio::sync::Mutex;
use wire::hex;
use wire::x402::Address;

use crate::channels::{self, Channels, Kind, Unit};
use crate::config;

/// Vouchers of one session in a second, and at once: a fast model with small steps wants some in a row (ENG-6).
const VOUCHERS_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();
const VOUCHERS_AT_ONCE: NonZeroU32 = NonZeroU32::new(30).unwrap();
/// What a payer has to wait on the chain for his money, in seconds: the time we have to take what is owed.
const GRACE_S: u64 = 900;

/// Channels of Tempo's contracts.
#[derive(Debug)]
pub(crate) struct Tempo;

/// What a channel is made of, as its record has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Made {
    version: u8,
    chain_id: u64,
    escrow: Address,
    payer: Address,
    payee: Address,
    operator: Address,
    token: Address,
    #[serde(with = "bytes32")]
    salt: [u8; 32],
    authorized_signer: Address,
    #[serde(with = "bytes32")]
    expiring_nonce_hash: [u8; 32],
}

type Slot = channels::Slot<Tempo>;
type Kept = channels::Kept<Tempo>;

impl Kind for Tempo {
    const KIND: ChannelKind = ChannelKind::Session;
    type Config = Made;
    type Signature = [u8; 65];

    fn read(promise: &Promise) -> Option<[u8; 65]> {
        Some(*proof::secp::Signature::parse(&promise.signature).ok()?.as_bytes())
    }

    fn write(signed: &Signed<[u8; 65]>) -> Promise {
        let signature = hex::encode_0x(&signed.signature);
        Promise { max_claimable: signed.max_claimable, signature, expires_at: 0 }
    }
}

impl Made {
    fn of(escrow: &Escrow, channel: &Descriptor) -> Self {
        let Descriptor { payer, payee, operator, token, salt, authorized_signer, expiring_nonce_hash } =
            *channel;
        let version = match escrow.protocol() {
            Protocol::TempoV1 | Protocol::Evm => 1,
            Protocol::TempoV2 => 2,
        };
        let (chain_id, escrow) = (escrow.chain_id(), *escrow.contract());
        Self {
            version,
            chain_id,
            escrow,
            payer,
            payee,
            operator,
            token,
            salt,
            authorized_signer,
            expiring_nonce_hash,
        }
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor {
            payer: self.payer,
            payee: self.payee,
            operator: self.operator,
            token: self.token,
            salt: self.salt,
            authorized_signer: self.authorized_signer,
            expiring_nonce_hash: self.expiring_nonce_hash,
        }
    }

    fn escrow(&self) -> Escrow {
        let protocol = if self.version == 2 { Protocol::TempoV2 } else { Protocol::TempoV1 };
        Escrow::new(protocol, self.chain_id, self.escrow)
    }
}

/// What sessions share.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(crate) channels: Channels<Tempo>,
    rate: DefaultKeyedRateLimiter<[u8; 32]>,
    /// Our transactions have an order: one is written and sent at a time.
    sending: Mutex<()>,
}

impl Sessions {
    /// As [`Channels::open`].
    pub(crate) fn open(reader: &Reader, book: &Book) -> Result<Self, StoreError> {
        let channels = Channels::open(reader, book)?;
        Ok(Self {
            channels,
            rate: RateLimiter::keyed(Quota::per_second(VOUCHERS_PER_SECOND).allow_burst(VOUCHERS_AT_ONCE)),
            sending: Mutex::new(()),
        })
    }
}

/// What one configuration makes of it.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) rules: config::Tempo,
    pub(crate) node: EvmNode,
}

impl Terms {
    const fn unit(&self) -> Unit {
        Unit { asset: self.rules.asset, decimals: self.rules.decimals }
    }

    /// In base units, rounded up.
    fn units(&self, amount: money::Amount) -> u128 {
        let Unit { asset, decimals } = self.unit();
        money::atomic_from_ledger_up(amount, asset.exponent(), decimals).unwrap_or(u128::MAX)
    }

    /// What is asked of a voucher (ENG-2).
    fn voucher_rules(&self) -> Rules {
        let least = self.units(self.rules.min_delta);
        let step = Step::AtLeast { least, lower: Lower::Refused };
        Rules { step, withdrawal: Withdrawal::Ends, withdraw_delay: GRACE_S }
    }
}

/// Sums that stand as `0x` and hexadecimal digits.
mod bytes32 {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use wire::hex;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode_0x(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode_0x_array(&text).map_err(|_| de::Error::custom("not 32 bytes of hexadecimal"))
    }
}
