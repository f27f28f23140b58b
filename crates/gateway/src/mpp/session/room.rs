//! How many channels a payer may have open (ENG-6): those that are kept, and those that are just being opened.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Openings under way, by payer.
#[derive(Debug, Default)]
pub(super) struct Openings(Mutex<HashMap<String, usize>>);

/// The right to open one more channel, until it goes.
pub(super) struct Opening<'o> {
    of: &'o Openings,
    payer: String,
    /// It counts no more.
    is_over: bool,
}

impl Openings {
    /// Room for one more channel of a payer, of whom `open` are kept. None: he has as many as he may.
    pub(super) fn begin(
        &self,
        payer: String,
        most: usize,
        open: impl FnOnce() -> usize,
    ) -> Option<Opening<'_>> {
        // Counted under the lock: none becomes a kept one between the two numbers.
        let mut rows = self.rows();
        let under_way = rows.get(&payer).copied().unwrap_or_default();
        if open().saturating_add(under_way) >= most {
            return None;
        }
        rows.insert(payer.clone(), under_way.saturating_add(1));
        Some(Opening { of: self, payer, is_over: false })
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opening<'_> {
    /// Keeps the channel: from here on it counts as one of those, and as no opening.
    pub(super) fn kept<T>(mut self, keep: impl FnOnce() -> T) -> T {
        let mut rows = self.of.rows();
        let kept = keep();
        ended(&mut rows, &self.payer);
        self.is_over = true;
        kept
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            ended(&mut self.of.rows(), &self.payer);
        }
    }
}

fn ended(rows: &mut HashMap<String, usize>, payer: &str) {
    if let Some(count) = rows.get_mut(payer) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            rows.remove(payer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::Openings;

    #[test]
    fn eng_6_what_is_being_opened_counts() {
        let openings = Openings::default();
        let begin = |open: usize| openings.begin("a".to_owned(), 3, || open);
        let (first, second) = (begin(1).unwrap(), begin(1).unwrap());
        assert!(begin(1).is_none());
        assert!(openings.begin("b".to_owned(), 3, || 2).is_some(), "another payer");
        drop(first);
        let third = begin(1).unwrap();
        third.kept(|| ());
        assert!(begin(2).is_none(), "one is kept, one more is under way");
        drop(second);
        assert!(begin(2).is_some() && begin(3).is_none());
        assert!(openings.rows().is_empty(), "nothing is remembered");
    }

    /// However many try at once, as many are kept as may be, and no fewer.
    #[test]
    fn eng_6_nobody_gets_one_more_by_being_quick() {
        let (openings, kept) = (Openings::default(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let opening = openings.begin("a".to_owned(), 16, || kept.load(Ordering::SeqCst));
                        let Some(opening) = opening else { continue };
                        opening.kept(|| kept.fetch_add(1, Ordering::SeqCst));
                    }
                });
            }
        });
        assert_eq!(kept.load(Ordering::SeqCst), 16);
    }
}
