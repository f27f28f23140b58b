//! The newest tree head we have seen of each gateway (`heads.json`).
//!
//! Whoever takes entries out of a journal, or puts others in, must sign a head that contradicts one that
//! clients remember (LED-41).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::folder::{self, FileError};
use crate::inclusion::SignedHead;

/// What a head means, beside the one that was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The first of this gateway.
    First,
    /// The journal has grown, or was signed again.
    Newer,
    /// The one we know, or one from before it.
    Older,
    /// The gateway was restored from a backup since: what came after the backup may be gone.
    Restored {
        /// Store epoch of the head we knew.
        from: u64,
        /// Store epoch now.
        to: u64,
    },
}

/// Two heads, both signed, that no honest journal has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("ALARM: the gateway contradicts itself: {reason}; both signed heads are evidence, keep them")]
pub struct HeadAlarm {
    /// What is wrong.
    pub reason: String,
    /// The one we had.
    pub known: Box<SignedHead>,
    /// The one that came.
    pub shown: Box<SignedHead>,
}

/// Compares a head with the one that was known.
///
/// # Errors
/// [`HeadAlarm`]
fn compare(known: &SignedHead, shown: &SignedHead) -> Result<Progress, HeadAlarm> {
    let alarm = |reason: String| {
        Err(HeadAlarm { reason, known: Box::new(known.clone()), shown: Box::new(shown.clone()) })
    };
    if known.store_id != shown.store_id {
        return alarm("it shows the journal of another store".to_owned());
    }
    let later = shown.time_ms > known.time_ms;
    if known.epoch != shown.epoch {
        let (from, to) = (known.epoch, shown.epoch);
        return match (shown.epoch > known.epoch, later) {
            (true, _) => Ok(Progress::Restored { from, to }),
            (false, false) => Ok(Progress::Older),
            (false, true) => alarm(format!("it is back in its life before the restore ({to} after {from})")),
        };
    }
    let same_tree = (&known.root, &known.last_hash) == (&shown.root, &shown.last_hash);
    match (shown.size.cmp(&known.size), later) {
        (Ordering::Equal, _) if !same_tree => alarm(format!("two journals of {} entries", shown.size)),
        (Ordering::Less, true) => {
            alarm(format!("{} entries, where there were {} before", shown.size, known.size))
        }
        (Ordering::Less | Ordering::Equal, false) => Ok(Progress::Older),
        // Its clock may have been set back: entries are what counts.
        (Ordering::Equal, true) | (Ordering::Greater, _) => Ok(Progress::Newer),
    }
}

/// By origin.
type Content = BTreeMap<String, SignedHead>;

/// Compares a head, whose signature stands, with the one known of this origin, and remembers the newer.
///
/// # Errors
/// The file cannot be used. The inner result is [`compare`]'s; after an alarm the known head stays.
pub(crate) fn note(
    file: &Path,
    origin: &str,
    shown: &SignedHead,
) -> Result<Result<Progress, HeadAlarm>, FileError> {
    folder::update(file, |content: &mut Content| {
        let Some(known) = content.get(origin) else {
            content.insert(origin.to_owned(), shown.clone());
            return Ok(Progress::First);
        };
        let progress = compare(known, shown)?;
        if matches!(progress, Progress::Newer | Progress::Restored { .. }) {
            content.insert(origin.to_owned(), shown.clone());
        }
        Ok(progress)
    })
}

#[cfg(test)]
mod tests {
    use super::{Progress, compare, note};
    use crate::inclusion::SignedHead;
    use crate::inclusion::tests::Books;

    /// LED-41: what a client remembers convicts a gateway that takes entries back.
    #[test]
    fn heads_that_no_honest_journal_has() {
        let known = Books::of(9).head(7, 5000);
        let head = |size, time_ms| Books::of(9).head(size, time_ms);
        let with = |change: &dyn Fn(&mut SignedHead)| {
            let mut shown = head(8, 6000);
            change(&mut shown);
            shown
        };
        for (what, shown, expected) in [
            ("grown", head(9, 6000), Ok(Progress::Newer)),
            ("the same again", head(7, 5000), Ok(Progress::Older)),
            ("the same, signed later", head(7, 6000), Ok(Progress::Newer)),
            ("an old proof", head(5, 4000), Ok(Progress::Older)),
            ("cut off", head(5, 6000), Err("5 entries")),
            ("cut off by one", head(6, 5001), Err("6 entries")),
            ("grown, by a clock that was set back", head(8, 4000), Ok(Progress::Newer)),
            ("other entries", with(&|h| (h.size, h.root) = (7, "00".repeat(32))), Err("two journals of 7")),
            (
                "another last entry",
                SignedHead { last_hash: "00".repeat(32), ..head(7, 5000) },
                Err("two journals of 7"),
            ),
            ("another store", with(&|h| h.store_id = "00".repeat(16)), Err("another store")),
            ("restored", with(&|h| (h.epoch, h.size) = (2, 3)), Ok(Progress::Restored { from: 1, to: 2 })),
            (
                "an old proof from before a restore",
                with(&|h| (h.epoch, h.time_ms) = (0, 4000)),
                Ok(Progress::Older),
            ),
            ("a restore taken back", with(&|h| h.epoch = 0), Err("before the restore")),
        ] {
            match (compare(&known, &shown), expected) {
                (Ok(progress), Ok(expected)) => assert_eq!(progress, expected, "{what}"),
                (Err(alarm), Err(expected)) => {
                    assert!(alarm.reason.contains(expected), "{what}: {alarm}");
                    assert_eq!((*alarm.known, *alarm.shown), (known.clone(), shown), "{what}");
                }
                (got, expected) => panic!("{what}: {got:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn the_newest_stays_and_an_alarm_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("heads.json");
        let books = Books::of(9);
        let note = |origin: &str, head: &SignedHead| note(&file, origin, head).unwrap();
        assert_eq!(note("https://x", &books.head(5, 1)), Ok(Progress::First));
        assert_eq!(note("https://x", &books.head(7, 3)), Ok(Progress::Newer));
        assert_eq!(note("https://x", &books.head(6, 2)), Ok(Progress::Older));
        assert!(note("https://x", &books.head(6, 4)).is_err());
        assert_eq!(note("https://x", &books.head(7, 3)), Ok(Progress::Older), "7 is still the known one");
        assert_eq!(note("https://y", &books.head(1, 9)), Ok(Progress::First));
    }
}
