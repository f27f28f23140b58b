//! Why goals are missed, as far as somebody has found out: `bench/reasons.md`, a heading for each goal and what is to be said
//! below it. It is written by hand, after a run and its profile.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Reasons by the name of the goal.
pub(crate) struct Reasons(BTreeMap<String, String>);

impl Reasons {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self::of(&text))
    }

    pub(crate) fn of(text: &str) -> Self {
        // What stands before the first heading is about the file.
        let sections = text.split("\n## ").skip(1).filter_map(|section| section.split_once('\n'));
        Self(sections.map(|(goal, why)| (goal.trim().to_owned(), why.trim().to_owned())).collect())
    }

    /// Why this goal is missed.
    pub(crate) fn why(&self, goal: &str) -> Option<&str> {
        self.0.get(goal).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::Reasons;
    use crate::scenarios::GOALS;

    /// A goal that is renamed takes its reason with it.
    #[test]
    fn reasons_are_of_goals() {
        let reasons = Reasons::of(include_str!("../../../reasons.md"));
        for (goal, why) in &reasons.0 {
            assert!(GOALS.iter().any(|known| known.name == goal), "no goal is called {goal}");
            assert!(!why.is_empty(), "{goal}");
        }
        let of_two = Reasons::of("# About\n\n## one\n\nBecause.\nReally.\n\n## other\n\nAlso.\n");
        assert_eq!((of_two.why("one"), of_two.why("other")), (Some("Because.\nReally."), Some("Also.")));
        assert_eq!(of_two.why("about"), None);
    }
}
