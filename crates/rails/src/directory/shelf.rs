//! What is known of one origin, and when it is asked again (IDN-17). Times are Unix seconds, and given.

use std::sync::Arc;

use proof::identity::AgentKey;
use proof::identity::directory::ListedKey;

use super::fetch::Fetched;

/// A directory is kept so long at least, and at most, whatever it says.
const LIFE_S_MIN: u64 = 5 * 60;
const LIFE_S_MAX: u64 = 24 * 3600;
/// How long the last good copy is used when no newer one can be had.
const KEPT_S_MAX: u64 = 24 * 3600;
/// After a failure nobody is asked for so long, which doubles ...
const PAUSE_S: u64 = 60;
/// ... up to this.
const PAUSE_S_MAX: u64 = 3600;
/// A key that a known directory does not have leads to one question in so long.
const UNKNOWN_KEY_S: u64 = 60;

/// What is known of an origin.
#[derive(Clone, Debug, Default)]
pub(super) struct Shelf {
    good: Option<Good>,
    /// Failures since the last success.
    failures: u32,
    /// When it was asked last.
    asked_s: u64,
    /// Not asked before.
    pause_until_s: u64,
}

/// The last good copy.
#[derive(Clone, Debug)]
struct Good {
    keys: Arc<[ListedKey]>,
    refresh_s: u64,
    drop_s: u64,
}

/// What an origin's shelf says to a key's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The key; whether the directory is to be asked again beside.
    Key(Arc<AgentKey>, bool),
    /// There is no such key, and nobody is asked for it before then.
    Absent(u64),
    /// There is none yet: the directory is to be asked.
    Nothing,
}

impl Shelf {
    pub(super) fn look(&self, keyid: &str, now_s: u64) -> Look {
        let good = self.good.as_ref().filter(|good| now_s < good.drop_s);
        let named = good.and_then(|good| {
            let is_meant = |listed: &&ListedKey| listed.key.is_named(keyid) && listed.is_in_force(now_s);
            Some((good.keys.iter().find(is_meant)?, good.refresh_s))
        });
        if let Some((listed, refresh_s)) = named {
            return Look::Key(Arc::clone(&listed.key), now_s >= refresh_s.max(self.pause_until_s));
        }
        // A directory that lacks the key may just have got it.
        let patient_s = if good.is_some() { self.asked_s.saturating_add(UNKNOWN_KEY_S) } else { 0 };
        let until_s = self.pause_until_s.max(patient_s);
        if now_s >= until_s { Look::Nothing } else { Look::Absent(until_s) }
    }

    /// The same with a newer copy, or with one more failure.
    pub(super) fn after(&self, outcome: Option<&Fetched>, now_s: u64) -> Self {
        match outcome {
            Some(fetched) => {
                let life_s = fetched.max_age_s.unwrap_or(LIFE_S_MIN).clamp(LIFE_S_MIN, LIFE_S_MAX);
                let good = Good {
                    keys: fetched.keys.as_slice().into(),
                    refresh_s: now_s.saturating_add(life_s / 5 * 4),
                    drop_s: now_s.saturating_add(KEPT_S_MAX),
                };
                Self { good: Some(good), failures: 0, asked_s: now_s, pause_until_s: 0 }
            }
            None => {
                let pause_s = 2_u64.saturating_pow(self.failures).saturating_mul(PAUSE_S).min(PAUSE_S_MAX);
                let good = self.good.clone().filter(|good| now_s < good.drop_s);
                Self {
                    good,
                    failures: self.failures.saturating_add(1),
                    asked_s: now_s,
                    pause_until_s: now_s.saturating_add(pause_s),
                }
            }
        }
    }

    /// Whether nothing would be lost by forgetting it.
    pub(super) fn is_spent(&self, now_s: u64) -> bool {
        now_s >= self.pause_until_s && !self.has_keys(now_s)
    }

    pub(super) fn has_keys(&self, now_s: u64) -> bool {
        self.good.as_ref().is_some_and(|good| now_s < good.drop_s)
    }

    pub(super) const fn asked_s(&self) -> u64 {
        self.asked_s
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proof::SigningKey;
    use proof::identity::AgentKey;
    use proof::identity::directory::ListedKey;

    use super::{Look, Shelf};
    use crate::directory::fetch::Fetched;

    fn key(seed: u8) -> Arc<AgentKey> {
        Arc::new(AgentKey::new(&SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes()).unwrap())
    }

    fn fetched(seeds: &[u8], max_age_s: Option<u64>) -> Option<Fetched> {
        let listed = |seed: &u8| ListedKey { key: key(*seed), not_before_s: None, not_after_s: None };
        Some(Fetched { keys: seeds.iter().map(listed).collect(), max_age_s })
    }

    /// When a key is found without a word, found and refreshed, and gone.
    #[test]
    fn idn_17_a_copy_is_refreshed_at_four_fifths_and_dropped_after_a_day() {
        let name = key(1).thumbprint().to_owned();
        for (what, max_age_s, refresh_s) in [
            ("nothing said", None, 240),
            ("less than is kept at least", Some(1), 240),
            ("no-store", Some(0), 240),
            ("an hour", Some(3600), 2880),
            ("a week", Some(604_800), 69_120),
        ] {
            let shelf = Shelf::default().after(fetched(&[1], max_age_s).as_ref(), 1000);
            for (after_s, expected) in [
                (0, Look::Key(key(1), false)),
                (refresh_s - 1, Look::Key(key(1), false)),
                (refresh_s, Look::Key(key(1), true)),
                (86_399, Look::Key(key(1), true)),
                (86_400, Look::Nothing),
            ] {
                assert_eq!(shelf.look(&name, 1000 + after_s), expected, "{what} after {after_s} s");
            }
        }
    }

    #[test]
    fn idn_17_failures_pause_and_double_and_the_last_copy_stays_for_a_day() {
        let name = key(1).thumbprint().to_owned();
        let mut shelf = Shelf::default();
        assert_eq!(shelf.look(&name, 1000), Look::Nothing);
        for pause_s in [60, 120, 240, 480, 960, 1920, 3600, 3600] {
            shelf = shelf.after(None, 1000);
            assert_eq!(shelf.look(&name, 1000 + pause_s - 1), Look::Absent(1000 + pause_s));
            assert_eq!(shelf.look(&name, 1000 + pause_s), Look::Nothing);
            assert!(!shelf.is_spent(1000 + pause_s - 1) && shelf.is_spent(1000 + pause_s));
        }
        shelf = shelf.after(fetched(&[1], Some(3600)).as_ref(), 10_000);
        let failed = shelf.after(None, 20_000);
        assert_eq!(failed.look(&name, 20_059), Look::Key(key(1), false), "not asked again at once");
        assert_eq!(failed.look(&name, 20_060), Look::Key(key(1), true));
        assert!(!failed.is_spent(20_060));
        let late = failed.after(None, 96_400);
        assert_eq!(late.look(&name, 96_400 + 119), Look::Absent(96_520), "dropped a day after it was had");
    }

    #[test]
    fn idn_17_an_unknown_key_leads_to_one_question_a_minute() {
        let shelf = Shelf::default().after(fetched(&[1], Some(3600)).as_ref(), 1000);
        let other = key(2);
        assert_eq!(shelf.look(other.thumbprint(), 1059), Look::Absent(1060));
        assert_eq!(shelf.look(other.thumbprint(), 1060), Look::Nothing);
        // Rotated out, and in.
        let rotated = shelf.after(fetched(&[2], Some(3600)).as_ref(), 1060);
        assert_eq!(rotated.look(key(1).thumbprint(), 1061), Look::Absent(1120));
        assert_eq!(rotated.look(other.thumbprint(), 1061), Look::Key(other.clone(), false));
    }

    #[test]
    fn idn_17_a_keys_own_times_are_honoured() {
        let listed = ListedKey { key: key(1), not_before_s: Some(2000), not_after_s: Some(3000) };
        let fetched = Fetched { keys: vec![listed], max_age_s: Some(3600) };
        let shelf = Shelf::default().after(Some(&fetched), 1000);
        let name = key(1).thumbprint().to_owned();
        for (now_s, is_there) in [(1059, false), (1999, false), (2000, true), (2999, true), (3000, false)] {
            assert_eq!(matches!(shelf.look(&name, now_s), Look::Key(..)), is_there, "at {now_s}");
        }
    }
}
