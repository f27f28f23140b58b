//! What all threads share. Everything here is atomic, immutable or swapped whole; what is looked up by
//! name is in sharded maps, whose read locks last for one look.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use ledger::{AccountId, AccountRef, AccountState, Book, asset_of_code};
use money::{Amount, Asset};
use rails::directory::Directories;
use store::{AccountMode, AccountSettings, Store, StoreError};

use crate::cashu::Mints;
use crate::channels::{Batch, Channels};
use crate::claims::Claims;
use crate::clock::Now;
use crate::config::RateLimits;
use crate::estimate::Estimator;
use crate::estimates::Estimates;
use crate::extensions::sign_in::SignIns;
use crate::facilitators::{Directory, Health};
use crate::free_calls::FreeCalls;
use crate::identity::{self, Nonces};
use crate::keys::Keys;
use crate::lightning::{Claiming, Invoices, Sessions as LightningSessions};
use crate::limits::Slots;
use crate::mpp::session::Sessions;
use crate::payer::{SpendLimits, usual_asset};
use crate::payouts::Payouts;
use crate::price_list::PriceList;
use crate::promises::{Promises, signer};
use crate::replays::Replays;
use crate::resolver::Unsettled;
use crate::retention::Retention;
use crate::retries::Retries;
use crate::session::Arrivals;
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;
use crate::top_ups::TopUps;
use crate::unseen::Unseen;

/// The gateway, less its sockets.
pub(crate) struct Gate {
    pub(crate) snapshot: ArcSwap<Snapshot>,
    /// Prices that were read and that somebody has yet to look at (MTR-52).
    pub(crate) pending: ArcSwapOption<PriceList>,
    pub(crate) keys: Keys,
    pub(crate) book: Book,
    pub(crate) store: Store,
    pub(crate) store_epoch: u64,
    pub(crate) claims: Arc<Claims>,
    pub(crate) claiming: Claiming,
    pub(crate) invoices: Arc<Invoices>,
    pub(crate) channels: Channels<Batch>,
    pub(crate) sessions: Sessions,
    pub(crate) lightning_sessions: LightningSessions,
    pub(crate) mints: Mints,
    pub(crate) replays: Replays,
    pub(crate) retries: Arc<Retries>,
    pub(crate) sign_ins: SignIns,
    pub(crate) unsettled: Unsettled,
    pub(crate) promises: Arc<Promises>,
    pub(crate) payouts: Payouts,
    pub(crate) top_ups: TopUps,
    /// Streams that wait for money.
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) free_calls: FreeCalls,
    pub(crate) retention: Retention,
    pub(crate) revoked: ArcSwap<HashSet<[u8; 16]>>,
    /// What the operator has set for single accounts.
    settings: ArcSwap<HashMap<AccountId, AccountSettings>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) unseen: Unseen,
    pub(crate) estimates: Estimates,
    pub(crate) estimator: Estimator,
    pub(crate) in_flight: Arc<Slots>,
    pub(crate) directory: Directory,
    pub(crate) health: Arc<Health>,
    /// When this process began to take requests: what was signed before may have been used (IDN-11).
    pub(crate) started: Now,
    pub(crate) nonces: Nonces,
    /// Keys of agents' directories.
    pub(crate) agent_keys: Arc<Directories>,
    draining: AtomicBool,
    /// Runs what must outlive a connection: settlements' records, outcomes.
    pub(crate) background: tokio::runtime::Handle,
}

impl Gate {
    /// Brings the book to where the journal ended.
    pub(crate) fn open(
        snapshot: Snapshot,
        keys: Keys,
        store: Store,
        background: tokio::runtime::Handle,
    ) -> Result<Self, StoreError> {
        let reader = store.reader();
        let book = Book::default();
        reader.each_balance(|row| {
            match asset_of_code(row.asset) {
                Some((asset, false)) => book.restore(row.account, asset, row.amount),
                Some((asset, true)) => {
                    let spent = Amount::from_units(row.amount.units().saturating_neg());
                    book.restore_spent(row.account, asset, spent);
                }
                None => return Err(StoreError::Unavailable("a balance is in an unknown asset".into())),
            }
            Ok(())
        })?;
        let channels = Channels::open(reader, &book)?;
        let sessions = Sessions::open(reader, &book)?;
        let lightning_sessions = LightningSessions::open(reader, &book)?;
        let revoked = reader.revoked()?.into_iter().map(|(id, _)| id).collect();
        let store_epoch = reader.epoch()?;
        let free_calls = FreeCalls::open(reader, Now::read())?;
        let settings = reader.accounts()?;
        let directory = Directory::default();
        let agent_keys = Arc::new(Directories::new(identity::settings(&snapshot.config)));
        let gate = Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            pending: ArcSwapOption::empty(),
            keys,
            book,
            store,
            store_epoch,
            claims: Arc::default(),
            claiming: Claiming::default(),
            invoices: Arc::default(),
            channels,
            sessions,
            lightning_sessions,
            mints: Mints::default(),
            replays: Replays::default(),
            retries: Arc::default(),
            sign_ins: SignIns::default(),
            unsettled: Unsettled::default(),
            promises: Arc::default(),
            payouts: Payouts::default(),
            top_ups: TopUps::default(),
            arrivals: Arc::default(),
            free_calls,
            retention: Retention::default(),
            revoked: ArcSwap::from_pointee(revoked),
            settings: ArcSwap::default(),
            metrics: Arc::default(),
            unseen: Unseen::default(),
            estimates: Estimates::default(),
            estimator: Estimator::default(),
            in_flight: Slots::new(),
            health: Arc::clone(&directory.health),
            directory,
            started: Now::read(),
            nonces: Nonces::default(),
            agent_keys,
            draining: AtomicBool::new(false),
            background,
        };
        for (id, settings) in settings {
            gate.apply(id, settings);
        }
        gate.remember_promises()?;
        gate.payouts.take_up(&gate, Now::read())?;
        gate.top_ups.take_up(&gate, Now::read())?;
        Ok(gate)
    }

    /// What was promised to an earlier process: what is being settled, and who owes.
    fn remember_promises(&self) -> Result<(), StoreError> {
        let reader = self.store.reader();
        for (key, payment) in reader.unsettled()?.into_iter().filter(|(_, payment)| payment.promised) {
            if let Some(account) = self.account_of(&payment) {
                let payer = signer(&payment.rail, &payment.payer);
                self.promises.take_up(key, account, payer, Amount::from_units(payment.amount));
            }
        }
        let mut debtors = HashSet::new();
        for (_, payment) in reader.owed()? {
            // One that was made good since is forgotten when nothing is open any more.
            let owed = |account: &AccountRef| account.available().negated().unwrap_or(Amount::MAX);
            let account = self.account_of(&payment).filter(|account| owed(account) > Amount::ZERO);
            if let Some(account) = account {
                let is_first = debtors.insert(account.id());
                let amount = if is_first { owed(&account) } else { Amount::ZERO };
                self.promises.owes(&account, signer(&payment.rail, &payment.payer), amount);
            }
        }
        Ok(())
    }

    /// Where a payment goes. None: its asset is not known here.
    pub(crate) fn account_of(&self, payment: &store::Payment) -> Option<AccountRef> {
        Some(self.book.account(AccountId(payment.account), Asset::from_code(payment.asset)?))
    }

    /// Adds a deposit that is already durable; whoever waits for it goes on.
    #[expect(clippy::disallowed_methods, reason = "here it is told to who waits")]
    pub(crate) fn deposit(&self, id: AccountId, asset: Asset, amount: Amount) -> AccountRef {
        let account = self.book.deposit(id, asset, amount);
        self.arrivals.wake(id);
        account
    }

    /// Makes settings of an account, already durable, count on every thread.
    pub(crate) fn apply(&self, id: AccountId, settings: AccountSettings) {
        let account = self.book.find_any(id);
        let account = account.unwrap_or_else(|| self.book.account(id, usual_asset(self.keys.mode)));
        account.set_overdraft(Amount::from_units(settings.overdraft));
        if let Err(not_empty) = account.set_state(state_of(settings.state)) {
            // The store has refused to close it, or it was paid into since.
            tracing::warn!(account = %id, %not_empty, "an account that is to be closed is not empty");
        }
        self.arrivals.wake(id);
        self.settings.rcu(|known| {
            let mut next = HashMap::clone(known);
            next.insert(id, settings.clone());
            next
        });
    }

    /// The group whose prices an account has.
    pub(crate) fn group(&self, id: AccountId) -> Option<String> {
        self.settings.load().get(&id).and_then(|own| own.group.clone())
    }

    /// What the operator lets an account spend: its own settings, else everybody's.
    pub(crate) fn spend_limits(&self, id: AccountId, rules: &RateLimits) -> SpendLimits {
        let settings = self.settings.load();
        let own = settings.get(&id);
        let units = |units: Option<i64>| units.map(Amount::from_units);
        SpendLimits {
            per_call: own.and_then(|own| units(own.per_call)).or(rules.spend_per_call),
            per_day: own.and_then(|own| units(own.per_day)).or(rules.spend_per_day),
        }
    }

    /// Whether any of these ids is revoked: a key, a link of its chain, or its account (L402-44).
    pub(crate) fn is_revoked<'i>(&self, ids: impl IntoIterator<Item = &'i [u8; 16]>) -> bool {
        let revoked = self.revoked.load();
        !revoked.is_empty() && ids.into_iter().any(|id| revoked.contains(id))
    }

    /// Makes a revocation, already durable, count on every thread.
    pub(crate) fn revoke(&self, id: [u8; 16]) {
        self.revoked.rcu(|known| {
            let mut next = HashSet::clone(known);
            next.insert(id);
            next
        });
        // Streams in its name wait for nothing any more.
        self.arrivals.wake_all();
    }

    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
        self.arrivals.wake_all();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Whether paid calls can be taken now.
    pub(crate) fn is_ready(&self) -> bool {
        !self.is_draining() && self.store.is_healthy()
    }
}

const fn state_of(mode: AccountMode) -> AccountState {
    match mode {
        AccountMode::Open => AccountState::Open,
        AccountMode::Frozen => AccountState::Frozen,
        AccountMode::Closed => AccountState::Closed,
    }
}
