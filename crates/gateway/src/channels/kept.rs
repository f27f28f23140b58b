//! A channel between what is on disk of it and the engine of `proof::voucher`.
//!
//! What was charged and not used is nowhere in the record: it is the balance of the channel's account (X402-28), so
//! that a charge, its end and a crash between them can never leave two answers.

use std::fmt::Debug;

use money::{Amount, Asset};
use proof::voucher::{Channel, Mirror, Signed};
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::{ChannelKind, ChannelMirror, Promise};
use wire::hex;
use wire::x402::batch::{ChannelConfig, Voucher};

/// What the channels of one kind have of their own.
pub(crate) trait Kind: Debug + 'static {
    const KIND: ChannelKind;
    /// What a channel is made of, as its record has it.
    type Config: Clone + Debug + Serialize + DeserializeOwned + Send + Sync;
    /// What is signed with a sum, and by what.
    type Signature: Copy + Send + Sync;

    fn read(promise: &Promise) -> Option<Self::Signature>;
    fn write(signed: &Signed<Self::Signature>) -> Promise;
}

/// Channels of x402 `batch-settlement`.
#[derive(Debug)]
pub(crate) struct Batch;

impl Kind for Batch {
    const KIND: ChannelKind = ChannelKind::Batch;
    type Config = ChannelConfig;
    type Signature = [u8; 65];

    fn read(promise: &Promise) -> Option<[u8; 65]> {
        Some(*proof::secp::Signature::parse(&promise.signature).ok()?.as_bytes())
    }

    fn write(signed: &Signed<[u8; 65]>) -> Promise {
        let signature = hex::encode_0x(&signed.signature);
        Promise { max_claimable: signed.max_claimable, signature, expires_at: 0 }
    }
}

/// A channel as it was last written down.
#[derive(Clone, Debug)]
pub(crate) struct Kept<K: Kind> {
    /// The hash of `config` on its chain.
    pub(crate) id: [u8; 32],
    pub(crate) config: K::Config,
    pub(crate) record: store::Channel,
}

/// How a channel's sums are counted in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) asset: Asset,
    /// Decimal places of the token's atomic unit.
    pub(crate) decimals: u32,
}

impl Unit {
    /// Whole atomic units in `amount`, the rest left; nothing of what is below zero.
    pub(crate) fn whole(self, amount: Amount) -> u128 {
        let up = money::atomic_from_ledger_up(amount.max(Amount::ZERO), self.asset.exponent(), self.decimals);
        let up = up.unwrap_or(0);
        match self.ledger(up) {
            Some(worth) if worth > amount => up.saturating_sub(1),
            Some(_) | None => up,
        }
    }

    /// What `atomic` units are in the ledger; none beyond its range.
    pub(crate) fn ledger(self, atomic: u128) -> Option<Amount> {
        money::ledger_from_atomic_down(atomic, self.asset.exponent(), self.decimals).ok()
    }
}

impl<K: Kind> Kept<K> {
    /// Reads a row. None: it was written by something else.
    pub(crate) fn read(id: [u8; 32], record: store::Channel) -> Option<Self> {
        let config = serde_json::from_value(record.config.clone()).ok()?;
        Asset::from_code(record.asset)?;
        let mut promises = record.newest.iter().chain(&record.earlier);
        promises.all(|promise| K::read(promise).is_some()).then_some(Self { id, config, record })
    }

    /// A channel that no record is left of: what the chain says is where it stands (X402-30).
    pub(crate) fn opened(
        id: [u8; 32],
        config: K::Config,
        network: &str,
        unit: Unit,
        mirror: Mirror,
    ) -> Option<Self> {
        let opened = Channel::<K::Signature>::opened(mirror);
        let record = store::Channel {
            kind: K::KIND,
            network: network.to_owned(),
            config: serde_json::to_value(&config).ok()?,
            asset: unit.asset.code(),
            decimals: unit.decimals,
            charged: opened.charged,
            accepted: opened.accepted,
            newest: None,
            earlier: Vec::new(),
            published: Vec::new(),
            published_floor: 0,
            mirror: written(&mirror),
            used_ms: 0,
            era: 0,
            refunding: None,
            refunded: None,
            closing: None,
            taking: None,
        };
        Some(Self { id, config, record })
    }

    pub(crate) fn unit(&self) -> Unit {
        // The code was read before.
        let asset = Asset::from_code(self.record.asset).unwrap_or(Asset::Usdc);
        Unit { asset, decimals: self.record.decimals }
    }

    /// The channel with so much charged and not used, and no call in flight.
    pub(crate) fn channel(&self, carry: u128) -> Channel<K::Signature> {
        let record = &self.record;
        let signed = |promise: &Promise| {
            Some(Signed { max_claimable: promise.max_claimable, signature: K::read(promise)? })
        };
        Channel {
            charged: record.charged,
            carry,
            in_flight: 0,
            accepted: record.accepted,
            newest: record.newest.as_ref().and_then(signed),
            earlier: record.earlier.iter().filter_map(signed).collect(),
            closing: record.closing.is_some(),
            published: record.published.clone(),
            published_floor: record.published_floor,
            mirror: read(&record.mirror),
        }
    }

    /// The record of a channel that has moved on.
    pub(crate) fn moved(&self, channel: &Channel<K::Signature>) -> store::Channel {
        store::Channel {
            charged: channel.charged,
            accepted: channel.accepted,
            newest: channel.newest.as_ref().map(K::write),
            earlier: channel.earlier.iter().map(K::write).collect(),
            published: channel.published.clone(),
            published_floor: channel.published_floor,
            mirror: written(&channel.mirror),
            ..self.record.clone()
        }
    }
}

impl Kept<Batch> {
    /// The newest promise, as it travelled.
    pub(crate) fn newest(&self) -> Option<Voucher> {
        self.record.newest.as_ref().map(|promise| Voucher {
            channel_id: self.id,
            max_claimable_amount: promise.max_claimable,
            signature: promise.signature.clone(),
        })
    }
}

const fn read(mirror: &ChannelMirror) -> Mirror {
    Mirror {
        balance: mirror.balance,
        total_claimed: mirror.total_claimed,
        withdrawing: mirror.withdrawing,
        withdraw_requested_at: mirror.withdraw_requested_at,
        refund_nonce: mirror.refund_nonce,
        synced_at_s: mirror.synced_at_s,
    }
}

const fn written(mirror: &Mirror) -> ChannelMirror {
    ChannelMirror {
        balance: mirror.balance,
        total_claimed: mirror.total_claimed,
        withdrawing: mirror.withdrawing,
        withdraw_requested_at: mirror.withdraw_requested_at,
        refund_nonce: mirror.refund_nonce,
        synced_at_s: mirror.synced_at_s,
    }
}

#[cfg(test)]
mod tests {
    use money::{Amount, Asset};

    use super::Unit;

    /// Six places on the chain, nine here: what is below an atomic unit stays with the payer, on his account.
    #[test]
    fn only_whole_units_are_carried() {
        let unit = Unit { asset: Asset::Usdc, decimals: 6 };
        for (nano, atomic) in [(0, 0), (1, 0), (999, 0), (1000, 1), (1001, 1), (1_999_999, 1999), (-5, 0)] {
            assert_eq!(unit.whole(Amount::from_units(nano)), atomic, "{nano}");
        }
        assert_eq!(unit.ledger(1999), Some(Amount::from_units(1_999_000)));
        assert_eq!(unit.ledger(u128::MAX), None);
        let fine = Unit { asset: Asset::Usdc, decimals: 18 };
        assert_eq!(fine.whole(Amount::from_units(7)), 7_000_000_000);
    }
}
