//! Payment channels, x402 `batch-settlement` on EVM (X402-22 to X402-32): a payer puts money into a channel on the
//! chain once, then each call costs a signature and nobody is asked.
//!
//! A request's path: [`presented`] (is the voucher genuine, for a channel that pays us), [`draw`] (does it continue
//! where the channel stands; the increment is set aside), and, when the upstream has answered, [`drawing`] (charged,
//! on disk, before the answer's head). [`escrow`] brings money into a channel first, [`refund`] gives it back.
//! Behind the requests, [`mirror`] looks at the chain through the facilitators and [`collector`] takes what is owed.

mod answer;
mod collector;
mod draw;
mod drawing;
mod escrow;
mod facilitating;
mod kept;
mod looking;
mod mirror;
mod presented;
mod refund;
mod slot;
mod wait;

use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;
use ledger::{AccountId, Book};
use store::{ChannelKind, Reader, StoreError};

pub(crate) use answer::refusal;
pub(crate) use collector::run;
pub(crate) use draw::{Drawn, receive};
pub(crate) use drawing::Drawing;
pub(crate) use escrow::settled_later;
pub(crate) use kept::{Batch, Kept, Kind, Unit};
pub(crate) use presented::{Offered, Presented, again, shown, verify};

pub(crate) use slot::{Beside, Slot, write};
pub(crate) use wait::Wait;

type BatchKept = Kept<Batch>;
type BatchSlot = Slot<Batch>;

use wire::x402::Address;

use crate::config::{Config, Network};

/// The rail of what is charged on channels of a network.
pub(crate) fn rail(network: &str) -> String {
    ChannelKind::Batch.rail(network)
}

/// The network of such a rail.
pub(crate) fn network_of(rail: &str) -> Option<&str> {
    rail.strip_prefix("x402-batch:")
}

/// The account of a channel: the first half of its id (reference item 37).
pub(crate) fn account_of(id: &[u8; 32]) -> AccountId {
    let mut account = [0; 16];
    account.copy_from_slice(&id[..16]);
    AccountId(account)
}

/// How the sums of channels of a token are counted.
fn unit_of(config: &Config, network: &str, token: &Address) -> Option<Unit> {
    config.rails.x402.as_ref()?.networks.iter().find_map(|known| match known {
        Network::Evm(known) if known.network == network && known.token.address == token.0 => {
            Some(Unit { asset: known.token.asset, decimals: known.token.decimals })
        }
        Network::Evm(_) | Network::Svm(_) => None,
    })
}

/// Looks at channels that we have no record of, in one second: anybody can sign for a channel that does not exist,
/// and each costs a facilitator, or a node, a question.
const UNKNOWN_LOOKS_MAX: u32 = 5;

/// Every channel of a kind that we have a record of.
#[derive(Debug)]
pub(crate) struct Channels<K: Kind> {
    slots: DashMap<[u8; 32], Arc<Slot<K>>>,
    /// Unix second, and looks in it.
    looks: Mutex<(u64, u32)>,
}

impl<K: Kind> Channels<K> {
    /// Brings the channels to where the journal ended. The balances are in the book already.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], also for a row that cannot be read: its channel would start anew.
    pub(crate) fn open(reader: &Reader, book: &Book) -> Result<Self, StoreError> {
        let channels = Self { slots: DashMap::new(), looks: Mutex::default() };
        for (id, record) in reader.channels()?.into_iter().filter(|(_, record)| record.kind == K::KIND) {
            let damaged = || StoreError::Unavailable("a channel cannot be read".into());
            let kept = Kept::read(id, record).ok_or_else(damaged)?;
            channels.add(kept, book).ok_or_else(damaged)?;
        }
        Ok(channels)
    }

    pub(crate) fn find(&self, id: &[u8; 32]) -> Option<Arc<Slot<K>>> {
        self.slots.get(id).map(|found| Arc::clone(&found))
    }

    /// Remembers a channel. None: its account holds another asset.
    pub(crate) fn add(&self, kept: Kept<K>, book: &Book) -> Option<Arc<Slot<K>>> {
        let (id, account, asset) = (kept.id, account_of(&kept.id), kept.unit().asset);
        if !book.fix_asset(account, asset) {
            return None;
        }
        let slot = Arc::new(Slot::new(kept, book.account(account, asset)));
        Some(Arc::clone(&self.slots.entry(id).or_insert(slot)))
    }

    /// Its record is gone.
    pub(crate) fn forget(&self, id: &[u8; 32]) {
        self.slots.remove(id);
    }

    /// Whether a channel that we have no record of may be looked at now.
    pub(crate) fn may_look_for_unknown(&self, now_s: u64) -> bool {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.0 != now_s {
            *looks = (now_s, 0);
        }
        looks.1 += 1;
        looks.1 <= UNKNOWN_LOOKS_MAX
    }

    pub(crate) fn all(&self) -> Vec<Arc<Slot<K>>> {
        self.slots.iter().map(|slot| Arc::clone(&slot)).collect()
    }
}
