mod caps;
mod gathering;
mod income;
mod log;
mod tree;

use std::io;
use std::sync::{Arc, RwLock};

use ledger::{AccountId, Chart, Draft, Entry, Flags, Kind, LegDraft, leg_asset};
use money::{Amount, Asset};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use crate::{Durability, Media, Op, Options, Outcome, Payment, PaymentState, Promised, Store, StoreError};

const PAYER: AccountId = AccountId([9; 16]);
const KEY: [u8; 32] = [5; 32];

fn draft(id: u8, kind: Kind, from: AccountId, to: AccountId, units: i64) -> Draft {
    let leg = |account, units| LegDraft {
        asset: leg_asset(Asset::Test),
        account,
        amount: Amount::from_units(units),
    };
    Draft {
        kind,
        flags: Flags::default(),
        time_ms: 1,
        id: [id; 16],
        key: [0; 32],
        reference: String::new(),
        corrects: [0; 16],
        price_version: 0,
        cost_femto: 0,
        legs: vec![leg(from, -units), leg(to, units)],
    }
}

fn deposit(id: u8, units: i64) -> Draft {
    draft(id, Kind::Deposit, Chart::RailClearing("test".into()).id(), PAYER, units)
}

fn post(entry: Draft) -> Op {
    Op::Post { entry, names: vec![] }
}

/// A call that took `units` from [`PAYER`], income of model `m`.
fn capture(id: u8, units: i64) -> Op {
    Op::Capture {
        id: [id; 16],
        entry: Some(draft(id, Kind::Capture, PAYER, Chart::UsageClearing.id(), units)),
        facts: b"{}".to_vec(),
        served: None,
        settles: None,
        income: Some(Chart::Usage("m".into())),
        idempotent: Vec::new(),
    }
}

fn payment() -> Payment {
    Payment {
        state: PaymentState::Intent,
        fingerprint: [1; 32],
        account: PAYER.0,
        asset: Asset::Test.code(),
        amount: 100,
        rail: "test".into(),
        payer: "ab".into(),
        reference: String::new(),
        created_ms: 1,
        valid_before_s: 2,
        outcome: None,
        received_msat: None,
        promised: false,
        attempt: None,
    }
}

fn balance(store: &Store) -> i64 {
    let rows = store.reader().balances().unwrap();
    rows.iter().find(|row| row.account == PAYER).map_or(0, |row| row.amount.units())
}

fn opened(folder: &tempfile::TempDir) -> Store {
    Store::open(folder.path(), Options::new([1; 16])).unwrap()
}

/// LED-16, X402-14.
#[tokio::test]
async fn one_payment_is_deposited_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&folder);
    let intent = Op::Intent { key: KEY, payment: payment() };
    store.commit(intent.clone()).await.unwrap();
    assert_eq!(store.commit(intent).await, Err(StoreError::Conflict));
    let settled = Op::Deposit { key: KEY, payment: payment(), entry: deposit(1, 100) };
    assert_eq!(store.commit(settled).await.unwrap().lsn, 1);
    let again = Op::Deposit { key: KEY, payment: payment(), entry: deposit(2, 100) };
    assert_eq!(store.commit(again).await, Err(StoreError::Conflict));
    assert_eq!(store.commit(Op::Refused { key: KEY }).await, Err(StoreError::Conflict));
    assert_eq!(balance(&store), 100);
}

/// LED-23, LED-17.
#[tokio::test]
async fn an_unknown_payment_stays_taken_and_a_refused_one_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&folder);
    store.commit(Op::Intent { key: KEY, payment: payment() }).await.unwrap();
    store.commit(Op::Unknown { key: KEY }).await.unwrap();
    assert_eq!(store.reader().payment(&KEY).unwrap().unwrap().state, PaymentState::Unknown);
    assert_eq!(store.reader().unsettled().unwrap().len(), 1);
    let intent = Op::Intent { key: KEY, payment: payment() };
    assert_eq!(store.commit(intent.clone()).await, Err(StoreError::Conflict));
    store.commit(Op::Refused { key: KEY }).await.unwrap();
    assert_eq!(store.commit(intent).await.unwrap().lsn, 0);
}

/// A grant is taken from its intent on, its payment has a key of its own, and both are forgotten together.
#[tokio::test]
async fn a_grant_becomes_one_payment() {
    const GRANT: [u8; 32] = [9; 32];
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&folder);
    let charged = |grant, id| Op::Charged { grant, key: KEY, payment: payment(), entry: deposit(id, 100) };
    assert_eq!(store.commit(charged(GRANT, 1)).await, Err(StoreError::Conflict), "nobody was asked");
    let intent = Op::Intent { key: GRANT, payment: payment() };
    store.commit(intent.clone()).await.unwrap();
    assert_eq!(store.commit(intent).await, Err(StoreError::Conflict));
    store.commit(charged(GRANT, 1)).await.unwrap();
    let reader = store.reader();
    assert_eq!(reader.payment(&GRANT).unwrap(), None);
    assert_eq!(reader.charged(&GRANT).unwrap(), Some(KEY));
    assert_eq!(reader.payment(&KEY).unwrap().unwrap().state, PaymentState::Settled);
    assert_eq!(store.commit(charged(GRANT, 2)).await, Err(StoreError::Conflict));
    // Another grant whose processor names the same payment brings nothing.
    store.commit(Op::Intent { key: [8; 32], payment: payment() }).await.unwrap();
    assert_eq!(store.commit(charged([8; 32], 2)).await, Err(StoreError::Conflict));
    assert_eq!(balance(&store), 100);

    let week_ms = 7 * 24 * 3_600_000;
    store.commit(Op::Sweep { now_ms: 2 * week_ms }).await.unwrap();
    assert_eq!(reader.charged(&GRANT).unwrap(), Some(KEY), "its call has not ended");
    let outcome = Outcome { status: 200, headers: vec![], call: [2; 16] };
    store.commit(Op::Served { key: KEY, outcome }).await.unwrap();
    store.commit(Op::Sweep { now_ms: 4 * week_ms }).await.unwrap();
    store.commit(Op::Sweep { now_ms: 6 * week_ms }).await.unwrap();
    assert_eq!((reader.payment(&KEY).unwrap(), reader.charged(&GRANT).unwrap()), (None, None));
}

/// LED-25: what was acknowledged is there.
#[tokio::test]
async fn everything_acknowledged_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = opened(&folder);
        store.commit(Op::Deposit { key: KEY, payment: payment(), entry: deposit(1, 100) }).await.unwrap();
        store.submit(capture(2, 30), None).unwrap();
        let outcome = Outcome { status: 200, headers: vec![], call: [2; 16] };
        store.commit(Op::Served { key: KEY, outcome }).await.unwrap();
        store.commit(Op::Revoke { id: [7; 16], time_ms: 3 }).await.unwrap();
    }
    let store = Store::open(folder.path(), Options::new([2; 16])).unwrap();
    let reader = store.reader();
    assert_eq!(balance(&store), 70);
    assert_eq!(reader.store_id().unwrap(), [1; 16]);
    assert_eq!(reader.payment(&KEY).unwrap().unwrap().state, PaymentState::Served);
    assert_eq!(reader.facts(&[2; 16]).unwrap().unwrap(), b"{}");
    assert_eq!(reader.revoked().unwrap(), vec![([7; 16], 3)]);
    // Behind the deposit, the capture and its income.
    assert_eq!(store.commit(post(deposit(3, 1))).await.unwrap().lsn, 4);
}

#[tokio::test]
async fn entries_chain_and_balances_are_their_fold() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&folder);
    for id in 1..=50 {
        store.commit(post(deposit(id, i64::from(id)))).await.unwrap();
    }
    let (mut previous, mut lsn, mut sum) = ([0; 32], 0, 0);
    store
        .reader()
        .each_entry(|entry, bytes| {
            lsn += 1;
            assert_eq!((entry.previous, entry.lsn), (previous, lsn));
            previous = Entry::hash_of(bytes);
            let leg = entry.legs.iter().find(|leg| leg.account == PAYER).unwrap();
            sum += leg.amount.units();
            assert_eq!(leg.balance_after.units(), sum);
        })
        .unwrap();
    assert_eq!((lsn, balance(&store)), (50, sum));
    assert_eq!(store.reader().overview(Some(PAYER), 3).unwrap().0.last().unwrap().lsn, 50);
}

#[tokio::test]
async fn an_unbalanced_entry_changes_nothing_and_does_not_stop_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&folder);
    let mut bad = deposit(1, 10);
    bad.legs[0].amount = Amount::from_units(-9);
    let (bad, good) = tokio::join!(store.commit(post(bad)), store.commit(post(deposit(2, 5))));
    assert!(matches!(bad, Err(StoreError::Entry(_))));
    assert_eq!((good.unwrap().lsn, balance(&store)), (1, 5));
}

/// A charge and the end of the payment it was for are one write.
#[tokio::test]
async fn a_capture_and_its_payment_are_written_together_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&folder);
    store.commit(Op::Deposit { key: KEY, payment: payment(), entry: deposit(1, 100) }).await.unwrap();
    let capture = |key| {
        let Op::Capture { id, entry, facts, income, idempotent, .. } = capture(2, 30) else { unreachable!() };
        let served = Some((key, Outcome { status: 200, headers: vec![], call: [2; 16] }));
        Op::Capture { id, entry, facts, served, settles: None, income, idempotent }
    };
    assert_eq!(store.commit(capture([6; 32])).await, Err(StoreError::Conflict));
    assert_eq!((balance(&store), store.reader().facts(&[2; 16]).unwrap()), (100, None));
    store.commit(capture(KEY)).await.unwrap();
    assert_eq!(balance(&store), 70);
    assert_eq!(store.reader().payment(&KEY).unwrap().unwrap().state, PaymentState::Served);
}

/// X402-15: a charge and the settlement of what was promised for it are one write, and what is refused after that is
/// owed: its key is never free again, until the money comes after all.
#[tokio::test]
async fn a_promise_is_written_with_its_charge_and_is_settled_or_owed() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&folder);
    let promised = |id, units| {
        let Op::Capture { id, entry, facts, income, .. } = capture(id, units) else { unreachable!() };
        let outcome = Some(Outcome { status: 200, headers: vec![], call: id });
        let payment = Payment { amount: units, outcome, ..payment() };
        let settles = Some(Box::new(Promised { key: KEY, payment }));
        Op::Capture { id, entry, facts, served: None, settles, income, idempotent: Vec::new() }
    };
    store.commit(promised(2, 30)).await.unwrap();
    assert_eq!(
        store.commit(promised(3, 30)).await,
        Err(StoreError::Conflict),
        "one authorisation, one charge"
    );
    assert_eq!((balance(&store), store.reader().unsettled().unwrap().len()), (-30, 1));
    store.commit(Op::Refused { key: KEY }).await.unwrap();
    let owed = store.reader().owed().unwrap();
    let [(KEY, owed)] = owed.as_slice() else { panic!("{owed:?}") };
    assert!(owed.promised && owed.state == PaymentState::Owed && owed.outcome.is_some());
    let intent = Op::Intent { key: KEY, payment: payment() };
    for refused in [intent, Op::Unknown { key: KEY }, Op::Refused { key: KEY }, promised(4, 1)] {
        assert_eq!(store.commit(refused).await, Err(StoreError::Conflict));
    }
    let made_good = Op::Deposit { key: KEY, payment: owed.clone(), entry: deposit(5, 30) };
    store.commit(made_good.clone()).await.unwrap();
    assert_eq!(store.commit(made_good).await, Err(StoreError::Conflict));
    assert_eq!((balance(&store), store.reader().owed().unwrap().len()), (0, 0));
    assert_eq!(store.reader().payment(&KEY).unwrap().unwrap().state, PaymentState::Served);
}

/// X402-17: a payment that settles while its call runs, whichever of the two ends first.
#[tokio::test]
async fn a_call_ends_before_its_payment_or_after_it() {
    for call_first in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let store = opened(&folder);
        let running = Payment { promised: true, ..payment() };
        store.commit(Op::Intent { key: KEY, payment: running.clone() }).await.unwrap();
        let Op::Capture { id, entry, facts, income, .. } = capture(2, 30) else { unreachable!() };
        let served = Some((KEY, Outcome { status: 200, headers: vec![], call: [2; 16] }));
        let call = Op::Capture { id, entry, facts, served, settles: None, income, idempotent: Vec::new() };
        let settled = Op::Deposit { key: KEY, payment: running, entry: deposit(1, 100) };
        let ends = if call_first { [call, settled] } else { [settled, call] };
        for end in ends {
            store.commit(end).await.unwrap();
        }
        let found = store.reader().payment(&KEY).unwrap().unwrap();
        assert_eq!((balance(&store), found.state), (70, PaymentState::Served));
        assert_eq!(found.outcome.map(|outcome| outcome.call), Some([2; 16]));
    }
}

#[test]
fn a_second_process_is_kept_out() {
    let folder = tempfile::tempdir().unwrap();
    let _first = opened(&folder);
    assert!(matches!(Store::open(folder.path(), Options::new([2; 16])), Err(StoreError::Unavailable(_))));
}

/// A store whose writer is busy until the gate is opened: what is handed over meanwhile is not on disk.
fn held_up(durability: Durability) -> (Store, Arc<RwLock<()>>) {
    let gate = Arc::new(RwLock::new(()));
    let slow = Slow { inner: InMemoryBackend::new(), gate: Arc::clone(&gate) };
    let options = Options { durability, reserve_bytes: 0, ..Options::new([1; 16]) };
    let media = Media { database: Arc::new(slow), log: None, reserve: None };
    (Store::open_media(media, options).unwrap(), gate)
}

/// Syncs when the gate is open.
#[derive(Debug)]
struct Slow {
    inner: InMemoryBackend,
    gate: Arc<RwLock<()>>,
}

impl StorageBackend for Slow {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let _open = self.gate.read().unwrap();
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}
