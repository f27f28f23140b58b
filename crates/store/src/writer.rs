//! The one thread that writes.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ledger::{Draft, Entry, Leg};
use money::Amount;
use redb::{Database, ReadableTable, Table, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use crate::read::unavailable;
use crate::tables::{
    BALANCES, BY_ID, FACTS, JOURNAL, KEYS, META, META_EPOCH, META_LAST_HASH, META_NEXT_LSN, META_STORE_ID,
    PAYMENTS, REVOKED, balance_key,
};
use crate::{Committed, Op, Outcome, Payment, PaymentState, Reader, StoreError};

/// Writes that may wait. Beyond it callers are told to come back (LED-28).
pub const QUEUE_MAX: usize = 16 * 1024;
/// Writes that share one sync at most.
const BATCH_MAX: usize = 1024;

type Answer = Result<Committed, StoreError>;

struct Job {
    op: Op,
    answer: Option<oneshot::Sender<Answer>>,
}

/// The store. Cloning shares it; dropping the last clone writes what still waits and closes the file.
#[derive(Clone, Debug)]
pub struct Store {
    // First, so that the writer has let go of the file when the reader does.
    writer: Arc<Handle>,
    reader: Reader,
    failed: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Handle {
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the writer was reported where it happened.
            let _ = thread.join();
        }
    }
}

impl Store {
    /// Opens or creates `folder/farthing.redb`, both readable by their owner only. `fresh_id` names a
    /// store that is created.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the folder or file cannot be used, or another process has it.
    pub fn open(folder: &Path, fresh_id: [u8; 16]) -> Result<Self, StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unavailable)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(folder.join("farthing.redb"))
            .map_err(unavailable)?;
        let db = Arc::new(Database::builder().create_file(file).map_err(unavailable)?);
        let journal = Journal::open(&db, fresh_id)?;
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let failed = Arc::new(AtomicBool::new(false));
        let reader = Reader::new(Arc::clone(&db));
        let writer = Writer { db, journal, failed: Arc::clone(&failed) };
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(jobs))
            .map_err(unavailable)?;
        let writer = Arc::new(Handle { queue: Some(queue), thread: Some(thread) });
        Ok(Self { writer, reader, failed })
    }

    /// Reads what is durable.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Whether writes are still accepted.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !self.failed.load(Ordering::Acquire)
    }

    /// Writes and waits until it is on disk (class A).
    ///
    /// # Errors
    /// [`StoreError`]; after `Unavailable` it is not known whether the write happened.
    ///
    /// # Cancel safety
    /// A dropped future does not take the write back.
    pub async fn commit(&self, op: Op) -> Answer {
        let (answer, done) = oneshot::channel();
        let job = Job { op, answer: Some(answer) };
        self.queue()?.send(job).await.map_err(|_| unavailable("closed"))?;
        done.await.map_err(|_| unavailable("closed"))?
    }

    /// Hands a write to the next batch without waiting (class B).
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::Unavailable`]: it was not taken.
    pub fn submit(&self, op: Op) -> Result<(), StoreError> {
        self.queue()?.try_send(Job { op, answer: None }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => StoreError::Full,
            mpsc::error::TrySendError::Closed(_) => unavailable("closed"),
        })
    }

    /// Whether the queue has room for `calls` more writes.
    #[must_use]
    pub fn has_room(&self, calls: usize) -> bool {
        self.queue().is_ok_and(|queue| queue.capacity() >= calls)
    }

    fn queue(&self) -> Result<&mpsc::Sender<Job>, StoreError> {
        self.writer.queue.as_ref().ok_or_else(|| unavailable("closed"))
    }
}

/// Where the journal goes on.
#[derive(Clone, Copy)]
struct Journal {
    next_lsn: u64,
    last_hash: [u8; 32],
}

impl Journal {
    /// Makes the tables of a new file, or finds where an old one ended.
    fn open(db: &Database, fresh_id: [u8; 16]) -> Result<Self, StoreError> {
        let transaction = db.begin_write().map_err(unavailable)?;
        let journal = {
            let mut meta = transaction.open_table(META).map_err(unavailable)?;
            if meta.get(META_STORE_ID).map_err(unavailable)?.is_none() {
                meta.insert(META_STORE_ID, fresh_id.as_slice()).map_err(unavailable)?;
                meta.insert(META_EPOCH, 1u64.to_be_bytes().as_slice()).map_err(unavailable)?;
            }
            let next = meta.get(META_NEXT_LSN).map_err(unavailable)?;
            let next_lsn = next.and_then(|v| v.value().try_into().ok()).map_or(1, u64::from_be_bytes);
            let last = meta.get(META_LAST_HASH).map_err(unavailable)?;
            let last_hash = last.and_then(|v| v.value().try_into().ok()).unwrap_or([0; 32]);
            transaction.open_table(JOURNAL).map_err(unavailable)?;
            transaction.open_table(BY_ID).map_err(unavailable)?;
            transaction.open_table(FACTS).map_err(unavailable)?;
            transaction.open_table(BALANCES).map_err(unavailable)?;
            transaction.open_table(PAYMENTS).map_err(unavailable)?;
            transaction.open_table(KEYS).map_err(unavailable)?;
            transaction.open_table(REVOKED).map_err(unavailable)?;
            Self { next_lsn, last_hash }
        };
        transaction.commit().map_err(unavailable)?;
        Ok(journal)
    }
}

struct Writer {
    db: Arc<Database>,
    journal: Journal,
    failed: Arc<AtomicBool>,
}

impl Writer {
    /// Takes all that waits, writes it, syncs once, answers; until every [`Store`] is gone.
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while let Some(first) = jobs.blocking_recv() {
            batch.push(first);
            while batch.len() < BATCH_MAX
                && let Ok(next) = jobs.try_recv()
            {
                batch.push(next);
            }
            let done = self.write(&batch);
            if let Err(error) = &done {
                // A failed sync is never tried again: what the kernel dropped would look written (LED-27).
                tracing::error!(%error, "store failed, refusing all writes");
                self.failed.store(true, Ordering::Release);
            }
            for (place, job) in batch.drain(..).enumerate() {
                let answer = match &done {
                    Ok(answers) => answers[place].clone(),
                    Err(error) => Err(error.clone()),
                };
                if let (Err(error), None) = (&answer, &job.answer) {
                    tracing::error!(%error, op = ?job.op, "a write nobody waits for was refused");
                }
                if let Some(sender) = job.answer {
                    // The caller may have gone; the write stands all the same.
                    let _ = sender.send(answer);
                }
            }
            if done.is_err() {
                return;
            }
        }
    }

    fn write(&mut self, batch: &[Job]) -> Result<Vec<Answer>, StoreError> {
        let transaction = self.db.begin_write().map_err(unavailable)?;
        let mut journal = self.journal;
        let answers = {
            let mut tables = Tables::open(&transaction, &mut journal)?;
            let mut answers = Vec::with_capacity(batch.len());
            for job in batch {
                match tables.apply(&job.op) {
                    Err(StoreError::Unavailable(error)) => return Err(StoreError::Unavailable(error)),
                    answer => answers.push(answer),
                }
            }
            answers
        };
        {
            let mut meta = transaction.open_table(META).map_err(unavailable)?;
            meta.insert(META_NEXT_LSN, journal.next_lsn.to_be_bytes().as_slice()).map_err(unavailable)?;
            meta.insert(META_LAST_HASH, journal.last_hash.as_slice()).map_err(unavailable)?;
        }
        transaction.commit().map_err(unavailable)?;
        self.journal = journal;
        Ok(answers)
    }
}

struct Tables<'t> {
    state: &'t mut Journal,
    journal: Table<'t, u64, &'static [u8]>,
    by_id: Table<'t, &'static [u8; 16], u64>,
    facts: Table<'t, &'static [u8; 16], &'static [u8]>,
    balances: Table<'t, &'static [u8; 18], i64>,
    payments: Table<'t, &'static [u8; 32], &'static [u8]>,
    keys: Table<'t, &'static [u8; 16], &'static [u8]>,
    revoked: Table<'t, &'static [u8; 16], u64>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction, state: &'t mut Journal) -> Result<Self, StoreError> {
        Ok(Self {
            state,
            journal: transaction.open_table(JOURNAL).map_err(unavailable)?,
            by_id: transaction.open_table(BY_ID).map_err(unavailable)?,
            facts: transaction.open_table(FACTS).map_err(unavailable)?,
            balances: transaction.open_table(BALANCES).map_err(unavailable)?,
            payments: transaction.open_table(PAYMENTS).map_err(unavailable)?,
            keys: transaction.open_table(KEYS).map_err(unavailable)?,
            revoked: transaction.open_table(REVOKED).map_err(unavailable)?,
        })
    }

    fn apply(&mut self, op: &Op) -> Answer {
        let done = Committed { lsn: 0 };
        match op {
            Op::Intent { key, payment } => {
                if self.payment(key)?.is_some() {
                    return Err(StoreError::Conflict);
                }
                self.put_payment(key, payment, PaymentState::Intent).map(|()| done)
            }
            Op::Unknown { key } => {
                let payment = self.unsettled(key)?;
                self.put_payment(key, &payment, PaymentState::Unknown).map(|()| done)
            }
            Op::Refused { key } => {
                self.unsettled(key)?;
                self.payments.remove(key).map_err(unavailable)?;
                Ok(done)
            }
            Op::Deposit { key, payment, entry } => {
                if self.payment(key)?.is_some_and(|known| is_deposited(known.state)) {
                    return Err(StoreError::Conflict);
                }
                let committed = self.post(entry)?;
                self.put_payment(key, payment, PaymentState::Settled)?;
                Ok(committed)
            }
            Op::Served { key, outcome } => self.serve(key, outcome).map(|()| done),
            Op::Capture { id, entry, facts, served } => {
                if let Some((key, outcome)) = served {
                    self.serve(key, outcome)?;
                }
                let committed = entry.as_ref().map(|entry| self.post(entry)).transpose()?;
                self.facts.insert(id, facts.as_slice()).map_err(unavailable)?;
                Ok(committed.unwrap_or(done))
            }
            Op::Post { entry } => self.post(entry),
            Op::Key { id, record } => {
                let bytes = serde_json::to_vec(record).map_err(unavailable)?;
                self.keys.insert(id, bytes.as_slice()).map_err(unavailable)?;
                Ok(done)
            }
            Op::Revoke { id, time_ms } => {
                self.revoked.insert(id, *time_ms).map_err(unavailable)?;
                Ok(done)
            }
            Op::Flush => Ok(done),
        }
    }

    fn payment(&self, key: &[u8; 32]) -> Result<Option<Payment>, StoreError> {
        let found = self.payments.get(key).map_err(unavailable)?;
        found.map(|bytes| serde_json::from_slice(bytes.value()).map_err(unavailable)).transpose()
    }

    fn unsettled(&self, key: &[u8; 32]) -> Result<Payment, StoreError> {
        self.payment(key)?.filter(|payment| !is_deposited(payment.state)).ok_or(StoreError::Conflict)
    }

    fn put_payment(
        &mut self,
        key: &[u8; 32],
        payment: &Payment,
        state: PaymentState,
    ) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(&Payment { state, ..payment.clone() }).map_err(unavailable)?;
        self.payments.insert(key, bytes.as_slice()).map_err(unavailable)?;
        Ok(())
    }

    fn serve(&mut self, key: &[u8; 32], outcome: &Outcome) -> Result<(), StoreError> {
        let mut payment =
            self.payment(key)?.filter(|known| is_deposited(known.state)).ok_or(StoreError::Conflict)?;
        payment.outcome = Some(outcome.clone());
        self.put_payment(key, &payment, PaymentState::Served)
    }

    /// Puts an entry at the end of the journal. An id that already has one is a conflict.
    fn post(&mut self, draft: &Draft) -> Answer {
        let mut draft = draft.clone().checked()?;
        if self.by_id.get(&draft.id).map_err(unavailable)?.is_some() {
            return Err(StoreError::Conflict);
        }
        let mut legs = Vec::with_capacity(draft.legs.len());
        for leg in draft.legs.drain(..) {
            let key = balance_key(leg.asset, leg.account.0);
            let before = self.balances.get(&key).map_err(unavailable)?.map_or(0, |balance| balance.value());
            let after = before.checked_add(leg.amount.units()).ok_or(StoreError::Conflict)?;
            legs.push(Leg {
                asset: leg.asset,
                account: leg.account,
                amount: leg.amount,
                balance_after: Amount::from_units(after),
            });
        }
        for leg in &legs {
            let key = balance_key(leg.asset, leg.account.0);
            self.balances.insert(&key, leg.balance_after.units()).map_err(unavailable)?;
        }
        let lsn = self.state.next_lsn;
        let id = draft.id;
        let entry = Entry { draft, lsn, legs, previous: self.state.last_hash };
        let bytes = entry.bytes();
        self.journal.insert(lsn, bytes.as_slice()).map_err(unavailable)?;
        self.by_id.insert(&id, lsn).map_err(unavailable)?;
        *self.state = Journal { next_lsn: lsn + 1, last_hash: Entry::hash_of(&bytes) };
        Ok(Committed { lsn })
    }
}

fn is_deposited(state: PaymentState) -> bool {
    match state {
        PaymentState::Settled | PaymentState::Served => true,
        PaymentState::Intent | PaymentState::Unknown => false,
    }
}

#[cfg(test)]
mod tests;
