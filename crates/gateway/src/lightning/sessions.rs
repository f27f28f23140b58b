//! Sessions over Lightning (MPP 10.2): an account that a payment has opened, that further payments fill up while it is drawn
//! on, and whose rest goes back to the invoice that it was opened with (MPP-28, MPP-29).
//!
//! What a session has is the balance of its account; its record says what came in and how it ends. Here is every record in
//! memory; [`super::acts`] is what payers do with them, [`super::closing`] how they end.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use ledger::{AccountId, AccountRef, Book};
use money::{Amount, Asset};
use store::{LightningSession, Op, Reader, SessionDeposit, SessionWrite, Store, StoreError};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::mpp;
use crate::payer::Payer;
use crate::session::{Deposited, Kind, Lightning, Session, Standing};

/// A session in memory.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Payment hash of the invoice that opened it.
    pub(super) id: [u8; 32],
    pub(super) account: AccountRef,
    pub(super) standing: Arc<Standing<Deposited>>,
    record: Mutex<LightningSession>,
    /// When something was last asked of it.
    used: std::sync::Mutex<Instant>,
}

/// Every session that is remembered.
#[derive(Debug, Default)]
pub(crate) struct Sessions(DashMap<[u8; 32], Arc<Slot>>);

impl Sessions {
    /// Brings the sessions to where the journal ended. The balances are in the book already.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], also for a row that cannot be read: its session would open anew.
    pub(crate) fn open(reader: &Reader, book: &Book) -> Result<Self, StoreError> {
        let sessions = Self::default();
        for (id, record) in reader.lightning_sessions()? {
            let damaged = || StoreError::Unavailable("a session cannot be read".into());
            let slot = Slot::new(id, record, book).ok_or_else(damaged)?;
            sessions.0.insert(id, Arc::new(slot));
        }
        Ok(sessions)
    }

    pub(super) fn find(&self, id: &[u8; 32]) -> Option<Arc<Slot>> {
        self.0.get(id).map(|found| Arc::clone(&found))
    }

    pub(super) fn add(&self, slot: Slot) -> Arc<Slot> {
        Arc::clone(&self.0.entry(slot.id).or_insert(Arc::new(slot)))
    }

    pub(super) fn all(&self) -> Vec<Arc<Slot>> {
        self.0.iter().map(|slot| Arc::clone(&slot)).collect()
    }

    pub(super) fn forget(&self, id: &[u8; 32]) {
        self.0.remove(id);
    }
}

impl Slot {
    /// None: its asset is not known here, or its account holds another one.
    pub(super) fn new(id: [u8; 32], record: LightningSession, book: &Book) -> Option<Self> {
        let (account, asset) = (AccountId(record.account), Asset::from_code(record.asset)?);
        if !book.fix_asset(account, asset) {
            return None;
        }
        Some(Self {
            id,
            account: book.account(account, asset),
            standing: Arc::new(Standing::new(stands(&record))),
            record: Mutex::new(record),
            used: std::sync::Mutex::new(Instant::now()),
        })
    }

    pub(super) async fn lock(&self) -> MutexGuard<'_, LightningSession> {
        self.record.lock().await
    }

    /// None while somebody has it.
    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, LightningSession>> {
        self.record.try_lock().ok()
    }

    /// Writes where the session stands from now on, and what comes in by it; then it stands there in memory too.
    ///
    /// # Errors
    /// [`StoreError`]: it stands where it stood.
    ///
    /// # Cancel safety
    /// None: dropped midway, disk and memory may differ.
    pub(super) async fn write(
        &self,
        store: &Store,
        record: &mut LightningSession,
        next: LightningSession,
        deposit: Option<SessionDeposit>,
    ) -> Result<(), StoreError> {
        write(store, self.id, next.clone(), deposit).await?;
        self.standing.set(stands(&next));
        *record = next;
        Ok(())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.standing.get().closed
    }

    /// Something is asked of it.
    pub(super) fn touch(&self) {
        *self.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
    }

    /// Whether nothing was asked of it for so long, and nothing runs.
    pub(super) fn is_idle(&self, idle: Duration) -> bool {
        if self.account.held() > Amount::ZERO {
            self.touch();
        }
        self.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner).elapsed() >= idle
    }

    /// What a call of it draws on.
    pub(super) fn payer(&self, challenge_id: &str, grace: Duration) -> Payer {
        Payer {
            account: self.account.clone(),
            key: None,
            token: None,
            session: Some(Rc::new(self.session(challenge_id, grace))),
            protocol: mpp::PROTOCOL,
        }
    }

    /// As one of its calls sees it.
    pub(super) fn session(&self, challenge_id: &str, grace: Duration) -> Session {
        let (id, standing) = (wire::hex::encode(&self.id), Arc::clone(&self.standing));
        Session {
            challenge_id: challenge_id.to_owned(),
            grace,
            payer: None,
            kind: Kind::Lightning(Lightning { id, standing }),
        }
    }
}

/// As [`Slot::write`], for a session that is not in memory yet.
///
/// # Errors
/// [`StoreError`]
pub(super) async fn write(
    store: &Store,
    id: [u8; 32],
    session: LightningSession,
    deposit: Option<SessionDeposit>,
) -> Result<(), StoreError> {
    let write = SessionWrite { id, session, deposit };
    store.commit(Op::LightningSession(Box::new(write))).await.map(drop)
}

const fn stands(record: &LightningSession) -> Deposited {
    Deposited {
        msat: record.msat,
        credit: Amount::from_units(record.credit),
        closed: record.closing.is_some(),
    }
}
