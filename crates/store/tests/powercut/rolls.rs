//! The power goes while entries move into a segment: every entry is in the store or in a file, and in order.

use std::path::Path;
use std::sync::{Arc, Mutex};

use store::{CheckOptions, Options, Report, Store, check};

use crate::cuts::quietly;
use crate::support::business::{History, NOW_MS};
use crate::support::dice::Dice;
use crate::support::platter::{Fault, Platter};
use crate::{business, seeds, work};

/// Checks what is on the disk, with the segments of `folder`.
fn checked(platter: &Platter, folder: &Path) -> Report {
    platter.put_into(folder);
    let segments = folder.join("segments");
    let segments = segments.exists().then_some(segments);
    check(folder, &CheckOptions { undecided_ms_max: u64::MAX, segments, ..CheckOptions::new(NOW_MS) })
        .unwrap()
}

#[test]
fn a_power_cut_while_entries_move_loses_none() {
    let (mut cuts, mut steps) = (0, 0);
    for seed in 0..seeds() / 8 {
        let mut dice = Dice::new(seed);
        let (platter, folder) = (Platter::default(), tempfile::tempdir().unwrap());
        let history = Arc::new(Mutex::new(History::default()));
        let options = Options { reserve_bytes: 0, ..Options::new([7; 16]) };
        let business = business(&platter, &history, options).unwrap();
        work(&business, &mut dice, 10, 12);
        drop(business);
        // With everything that was still on its way.
        let store = Store::open_media(platter.media(), options).unwrap();
        let head = store.reader().unsigned_head(0).unwrap();
        drop(store);
        for _ in 0..2 {
            platter.set_fault(Some(Fault::Cut { at: 1 + dice.below(150) }));
            let through = dice.below(head.size + 1);
            let rolled = quietly(|| {
                let store = Store::open_media(platter.media(), options).ok()?;
                store.roll(through, &folder.path().join("segments")).ok()?
            });
            cuts += u32::from(platter.has_met_fault());
            steps += u32::from(rolled.is_ok_and(|rolled| rolled.is_some()));
            platter.power_up(&mut dice);
            let report = checked(&platter, folder.path());
            assert_eq!(report.findings, vec![], "seed {seed}");
            assert_eq!((report.last_lsn, report.root), (head.size, head.root), "seed {seed}");
        }
        // The rest moves when it is asked for again.
        let store = Store::open_media(platter.media(), options).unwrap();
        store.roll(u64::MAX, &folder.path().join("segments")).unwrap();
        assert_eq!(store.reader().checkpoint().unwrap().lsn, head.size, "seed {seed}");
        drop(store);
        let report = checked(&platter, folder.path());
        assert_eq!(
            (report.findings, report.first_lsn, report.last_lsn),
            (vec![], 1, head.size),
            "seed {seed}"
        );
    }
    println!("powercut: kind=roll cuts={cuts} moved={steps} lost=0");
    assert!(cuts > 0 && steps > 0);
}
