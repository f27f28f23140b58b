//! The power goes while charges are in the log: what is no longer at risk is not lost.

use std::thread;
use std::time::{Duration, Instant};

use ledger::{Account, AccountId, AccountRef, Kind};
use money::Amount;
use store::{Durability, Exposure, Op, Options, Store, Submitted};

use crate::cuts::{findings, quietly};
use crate::full::{capture, commit, deposit};
use crate::seeds;
use crate::support::business::ASSET;
use crate::support::dice::Dice;
use crate::support::platter::{Fault, Platter};
use crate::support::verdict::books_in_order;

/// LED-25: a charge counts as at risk until it is in the log, and from then on it is there whatever happens: whether the
/// database has it by the time the power goes, is being given it, or was not yet.
#[test]
fn a_charge_that_is_no_longer_at_risk_survives_a_power_cut() {
    let exposure =
        Exposure { per_account: Amount::MAX, total: Amount::MAX, delay: Duration::from_secs(3600) };
    let options =
        Options { durability: Durability::Capped(exposure), reserve_bytes: 0, ..Options::new([7; 16]) };
    let (mut charges, mut kept_in_log) = (0, 0);
    for seed in 0..seeds() / 4 {
        let (platter, mut dice) = (Platter::default(), Dice::new(seed));
        let account = AccountRef::from(Account::new(AccountId([1; 16]), ASSET, Amount::ZERO, Amount::ZERO));
        let mut written = 0;
        commit(&Store::open_media(platter.media(), options).unwrap(), deposit([3; 32], 1_000)).unwrap();
        for _ in 0..3 {
            let store = Store::open_media(platter.media(), options).unwrap();
            for _ in 0..1 + dice.below(4) {
                for _ in 0..1 + dice.below(5) {
                    let risk = Some((account.clone(), Amount::from_units(1)));
                    assert!(matches!(store.submit(charge(&mut dice), risk), Ok(Submitted::Behind)));
                    written += 1;
                }
                if dice.one_in(4) {
                    // Somebody waits: the database takes in what the log has.
                    drop(store.submit(Op::Flush, None).unwrap());
                }
                until_durable(&store);
            }
            let in_database = captures(&store);
            // More is under way when it goes, and may be there or not.
            platter.set_fault(Some(Fault::Cut { at: 1 + dice.below(30) }));
            let under_way = dice.below(3) as usize;
            for _ in 0..under_way {
                let risk = Some((account.clone(), Amount::from_units(1)));
                let _ = store.submit(charge(&mut dice), risk);
            }
            let _ = quietly(|| drop(store));
            platter.power_up(&mut dice);
            assert_eq!(findings(&platter), vec![], "seed {seed}");
            let store = Store::open_media(platter.media(), options).unwrap();
            let found = captures(&store);
            assert!((written..=written + under_way).contains(&found), "seed {seed}: {found} of {written}");
            kept_in_log += written - in_database;
            written = found;
        }
        charges += written;
    }
    println!("powercut: kind=log charges={charges} only_in_the_log={kept_in_log} lost=0");
    assert!(kept_in_log > 0, "nothing was tried");
}

fn charge(dice: &mut Dice) -> Op {
    let mut op = capture(dice);
    if let Op::Capture { facts, .. } = &mut op {
        *facts = b"{}".to_vec();
    }
    op
}

fn until_durable(store: &Store) {
    let start = Instant::now();
    while store.at_risk() != Amount::ZERO {
        assert!(start.elapsed() < Duration::from_secs(20), "charges stay at risk");
        thread::yield_now();
    }
}

fn captures(store: &Store) -> usize {
    books_in_order(store.reader()).iter().filter(|entry| entry.draft.kind == Kind::Capture).count()
}
