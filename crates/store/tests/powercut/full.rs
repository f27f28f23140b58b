//! A disk that fills up: nothing new is begun, what is in flight is recorded from the reserve, and with room
//! again the store goes on (LED-27).

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ledger::{Account, AccountId, AccountRef, Chart, Kind, leg_asset};
use money::Amount;
use store::{Committed, Media, Op, Options, Room, Store, StoreError, Submitted};

use crate::support::business::{ASSET, History, draft, payment};
use crate::support::dice::Dice;
use crate::support::platter::{Fault, Platter, PlatterReserve};
use crate::support::verdict::{books_in_order, judge};
use crate::{business, work};

const PAYER: AccountId = AccountId([1; 16]);
const RESERVE_BYTES: u64 = 1 << 20;
/// Set by the test that runs this program again in a mount of its own.
const FOLDER: &str = "FARTHING_SMALL_FOLDER";

fn options() -> Options {
    Options { reserve_bytes: RESERVE_BYTES, ..Options::new([7; 16]) }
}

pub(crate) fn commit(store: &Store, op: Op) -> Result<Committed, StoreError> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(store.commit(op))
}

fn post(dice: &mut Dice) -> Op {
    let rail = Chart::RailClearing("operator".into());
    let entry = draft(Kind::Deposit, dice.bytes(), [0; 32], &[(rail.id(), -1), (PAYER, 1)]);
    Op::Post { entry, names: vec![rail] }
}

pub(crate) fn deposit(key: [u8; 32], units: i64) -> Op {
    let payment = payment(PAYER, units);
    let rail = Chart::RailClearing(payment.rail.clone());
    let mut id = [0; 16];
    id.copy_from_slice(&key[..16]);
    let entry = draft(Kind::Deposit, id, key, &[(rail.id(), -units), (PAYER, units)]);
    Op::Deposit { key, payment, entry }
}

/// A call with facts of some size, so that the disk fills in reasonable time.
pub(crate) fn capture(dice: &mut Dice) -> Op {
    let id = dice.bytes();
    let entry = draft(Kind::Capture, id, [0; 32], &[(PAYER, -1), (Chart::UsageClearing.id(), 1)]);
    let income = Some(Chart::Usage("m".into()));
    let facts = vec![b' '; 2000];
    Op::Capture { id, entry: Some(entry), facts, served: None, settles: None, income, idempotent: Vec::new() }
}

/// Captures one by one until the store has no more room than `room`; how many were recorded.
fn fill(store: &Store, dice: &mut Dice, room: Room) -> u64 {
    let mut recorded = 0;
    while store.room() as u8 != room as u8 {
        assert!(recorded < 100_000, "the disk does not fill");
        match commit(store, capture(dice)) {
            Ok(_) => recorded += 1,
            Err(error) => assert_eq!((error, store.room()), (StoreError::DiskFull, Room::None)),
        }
    }
    recorded
}

fn wait_for_room(store: &Store) {
    let start = Instant::now();
    while store.room() != Room::Ample {
        assert!(start.elapsed() < Duration::from_secs(20), "no room is found");
        // Whoever comes is what makes the writer look.
        let _ = commit(store, Op::Flush);
        thread::sleep(Duration::from_millis(1));
    }
}

/// Fills the disk under an open store, and makes room again.
fn fill_and_recover(store: &Store, make_full: impl FnOnce(), make_room: impl FnOnce()) -> (u64, u64) {
    let mut dice = Dice::new(3);
    let (asked, later) = ([1; 32], [2; 32]);
    commit(store, deposit([3; 32], 1_000_000)).unwrap();
    commit(store, Op::Intent { key: asked, payment: payment(PAYER, 50) }).unwrap();
    make_full();
    let ample = fill(store, &mut dice, Room::InFlight);
    // Nothing is begun, and nothing of it is written.
    let intent = Op::Intent { key: later, payment: payment(PAYER, 50) };
    assert_eq!(commit(store, intent.clone()), Err(StoreError::DiskFull));
    assert_eq!(commit(store, deposit(later, 50)), Err(StoreError::DiskFull));
    assert_eq!(commit(store, post(&mut dice)), Err(StoreError::DiskFull));
    assert_eq!(store.reader().payment(&later).unwrap(), None);
    // What a rail has done, what a call has used and what an operator takes back is recorded.
    commit(store, deposit(asked, 50)).unwrap();
    commit(store, Op::Revoke { id: [9; 16], time_ms: 1 }).unwrap();
    let from_reserve = fill(store, &mut dice, Room::None);
    assert!(from_reserve > 0);
    // Now nothing at all, and nobody is left waiting.
    assert_eq!(commit(store, capture(&mut dice)), Err(StoreError::DiskFull));
    let account = AccountRef::from(Account::new(PAYER, ASSET, Amount::ZERO, Amount::ZERO));
    let refused = store.submit(capture(&mut dice), Some((account, Amount::from_units(1))));
    let refused = refused.unwrap_err();
    assert_eq!(refused.why, StoreError::DiskFull);
    assert!(matches!(*refused.op, Op::Capture { .. }), "it is given back");
    assert!(!store.has_room(1) && store.is_healthy());
    make_room();
    wait_for_room(store);
    commit(store, intent).unwrap();
    let entries = books_in_order(store.reader());
    let captures = entries.iter().filter(|entry| entry.draft.kind == Kind::Capture).count() as u64;
    assert_eq!(
        captures,
        ample + from_reserve,
        "a charge was recorded that was refused, or the other way round"
    );
    let balances = store.reader().balances().unwrap();
    let of_payer = balances.iter().find(|row| (row.account, row.asset) == (PAYER, leg_asset(ASSET))).unwrap();
    assert_eq!(of_payer.amount.units(), 1_000_050 - captures as i64);
    (ample, from_reserve)
}

/// LED-27.
#[test]
fn a_full_disk_begins_nothing_and_records_what_is_in_flight_from_the_reserve() {
    let platter = Platter::default();
    let reserve = || Some(Box::new(PlatterReserve(platter.clone())) as Box<dyn store::Reserve>);
    let store = Store::open_media(Media { reserve: reserve(), ..platter.media() }, options()).unwrap();
    let (ample, from_reserve) = fill_and_recover(
        &store,
        || platter.set_capacity(Some(platter.used() + 100_000)),
        || platter.set_capacity(None),
    );
    println!("powercut: kind=disk_full captures={ample} from_reserve={from_reserve}");
    drop(store);
    let used = platter.used();
    drop(Store::open_media(Media { reserve: reserve(), ..platter.media() }, options()).unwrap());
    // The database may give a page back when it is closed, but not as much as the reserve has.
    let given_back = used.checked_sub(platter.used()).expect("the reserve is set aside once");
    assert!(given_back < RESERVE_BYTES, "the reserve is gone: {given_back}");
}

/// LED-25, LED-27: what runs behind a full disk waits for room in memory; a process that ends before that
/// loses no more than the cap.
#[test]
fn charges_behind_a_full_disk_are_at_risk_and_no_more_than_the_cap() {
    let platter = Platter::default();
    let history = Arc::new(Mutex::new(History::default()));
    let options = Options { reserve_bytes: 0, ..options() };
    let mut dice = Dice::new(5);
    let business = business(&platter, &history, options).unwrap();
    work(&business, &mut dice, 20, 6);
    commit(&business.store, Op::Flush).unwrap();
    assert_eq!(business.store.at_risk(), Amount::ZERO);
    platter.set_fault(Some(Fault::Full { at: 1 }));
    let account = AccountRef::from(Account::new(PAYER, ASSET, Amount::ZERO, Amount::ZERO));
    let submit = |dice: &mut Dice| {
        business.store.submit(capture(dice), Some((account.clone(), Amount::from_units(1))))
    };
    // The first one makes the writer find out.
    let mut behind = 0;
    let start = Instant::now();
    let refused = loop {
        match submit(&mut dice) {
            Ok(Submitted::Behind) => behind += 1,
            Ok(Submitted::Wait(_)) => {}
            // The writer had no turn yet.
            Err(refused) if refused.why == StoreError::Full => std::thread::yield_now(),
            Err(refused) => break refused.why,
        }
        assert!(start.elapsed() < Duration::from_secs(60), "a full disk is not found");
    };
    assert_eq!((refused, business.store.is_healthy()), (StoreError::DiskFull, true));
    assert_eq!(business.store.at_risk(), Amount::from_units(behind));
    drop(business);
    platter.set_fault(None);
    let store = Store::open_media(platter.media(), options).unwrap();
    assert_eq!(judge(store.reader(), &mut history.lock().unwrap()).acked, 0);
}

/// The same on a real file system: a tmpfs of a few mebibytes in a mount namespace of its own.
#[test]
fn a_real_disk_that_fills_up() {
    let me = std::env::current_exe().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=12m none \"$FARTHING_SMALL_FOLDER\" && exec \"$0\" \"$@\"";
    let arguments = ["full::on_a_small_file_system", "--exact", "--ignored", "--nocapture"];
    let shell = ["--user", "--map-root-user", "--mount", "sh", "-c", script];
    let can_mount = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none"])
        .arg(folder.path())
        .output()
        .is_ok_and(|output| output.status.success());
    if !can_mount {
        println!("skipped: a real full disk: no mount namespace here");
        return;
    }
    let mut run = Command::new("unshare");
    run.args(shell).arg(me).args(arguments).env(FOLDER, folder.path());
    let output = run.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said.lines().filter(|line| line.contains("powercut:")).for_each(|line| println!("{line}"));
}

#[test]
#[ignore = "run by a_real_disk_that_fills_up, where there is a small file system"]
fn on_a_small_file_system() {
    let folder = std::env::var_os(FOLDER).expect("a folder with a small file system");
    let folder = Path::new(&folder);
    let (store_folder, ballast) = (folder.join("store"), folder.join("ballast"));
    let store = Store::open(&store_folder, options()).unwrap();
    let reserve = || std::fs::metadata(store_folder.join("farthing.reserve")).unwrap().len();
    assert_eq!(reserve(), RESERVE_BYTES);
    let fill = || {
        // Ends with the error that is wanted.
        let _ = std::fs::write(&ballast, vec![7; 16 << 20]);
    };
    let (ample, from_reserve) = fill_and_recover(&store, fill, || std::fs::remove_file(&ballast).unwrap());
    assert_eq!(reserve(), RESERVE_BYTES, "the reserve is whole again");
    println!("powercut: kind=disk_full_tmpfs captures={ample} from_reserve={from_reserve}");
}
