//! `cargo xtask specs`: which rule of `specs/` stands in which test.
//!
//! A rule is a row of a table in `specs/*.md`: its first cell holds the rule's number (or several),
//! and one cell says `met`. A met rule is named in at least one test; one that is not is a failure,
//! because nothing would notice when it stops being met. Numbers in the code that no table has are
//! listed, not counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::outcome::Outcome;
use crate::{root, step};

/// Families of rule numbers.
const FAMILIES: [&str; 20] = [
    "402", "ALIPAY", "CARD", "CASHU", "DSC", "ENG", "FIN", "GRPC", "IDN", "KEY", "L402", "LED", "MPP", "MTR",
    "PERF", "RAIL", "SEC", "UX", "WS", "X402",
];
/// What a cell says of a rule that the code keeps.
const MET: &str = "met";

/// Prints the map and fails when a met rule has no test.
pub(crate) fn run() -> Outcome {
    let started = Instant::now();
    println!("== specs");
    let held = Map::read(&root()).map(|map| map.print());
    step::report("specs", &held, started)
}

/// Rules and where they stand.
#[derive(Default)]
struct Map {
    /// Rule to whether it is met, of every table.
    rules: BTreeMap<Rule, bool>,
    /// Rules named outside tests.
    cited: BTreeSet<Rule>,
    /// Rules named in tests.
    tested: BTreeSet<Rule>,
}

/// A number such as `X402-10`: the family, then the number, so that 9 stands before 10.
type Rule = (String, u32);

impl Map {
    fn read(root: &Path) -> io::Result<Self> {
        let mut map = Self::default();
        for file in files(&root.join("specs"), &["md"])? {
            map.take_spec(&fs::read_to_string(file)?);
        }
        for folder in ["crates", "tests"] {
            for file in files(&root.join(folder), &["rs", "mjs", "py"])? {
                let text = fs::read_to_string(&file)?;
                map.take_code(file.strip_prefix(root).unwrap_or(&file), &text);
            }
        }
        Ok(map)
    }

    fn take_spec(&mut self, text: &str) {
        for line in text.lines().filter(|line| line.trim_start().starts_with('|')) {
            let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
            let Some((first, others)) = cells.split_first() else { continue };
            let met = others.iter().any(|cell| cell.eq_ignore_ascii_case(MET));
            for rule in rules_in(first) {
                *self.rules.entry(rule).or_default() |= met;
            }
        }
    }

    fn take_code(&mut self, file: &Path, text: &str) {
        let is_test = file.components().any(|part| part.as_os_str() == "tests") || file.ends_with("tests.rs");
        let split = if is_test { 0 } else { text.find("#[cfg(test)]").unwrap_or(text.len()) };
        let (code, tests) = text.split_at(split);
        self.cited.extend(rules_in(code));
        self.tested.extend(rules_in(tests));
        self.tested.extend(tests.split("fn ").skip(1).flat_map(rules_in_name));
    }

    /// Rules that are met and stand in no test.
    fn untested(&self) -> Vec<&Rule> {
        let met = self.rules.iter().filter(|(_, met)| **met).map(|(rule, _)| rule);
        met.filter(|rule| !self.tested.contains(*rule)).collect()
    }

    fn print(&self) -> bool {
        let met = self.rules.values().filter(|met| **met).count();
        println!("{} rules in specs/, {met} met, {} named in tests", self.rules.len(), self.tested.len());
        for (family, number) in self.untested() {
            println!("{family}-{number} is met and stands in no test");
        }
        let unknown: Vec<String> = self
            .cited
            .union(&self.tested)
            .filter(|rule| !self.rules.contains_key(*rule))
            .map(|(family, number)| format!("{family}-{number}"))
            .collect();
        if !unknown.is_empty() {
            println!("named in code, in no table of specs/: {}", unknown.join(" "));
        }
        self.untested().is_empty()
    }
}

/// Every rule number in a text.
fn rules_in(text: &str) -> Vec<Rule> {
    let mut found = Vec::new();
    for (dash, _) in text.match_indices('-') {
        let (before, after) = text.split_at(dash);
        let letters = before.bytes().rev().take_while(u8::is_ascii_alphanumeric).count();
        let family = before.get(before.len() - letters..).unwrap_or_default();
        let digits: String = after.chars().skip(1).take_while(char::is_ascii_digit).collect();
        if let (true, Ok(number)) = (FAMILIES.contains(&family), digits.parse()) {
            found.push((family.to_owned(), number));
        }
    }
    found
}

/// Rule numbers that a test's name begins with: `x402_9_10_what_changes` stands for 9 and 10 of X402.
fn rules_in_name(after_fn: &str) -> Vec<Rule> {
    let name = after_fn.split('(').next().unwrap_or_default();
    let mut words = name.split('_');
    let family = words.next().unwrap_or_default().to_ascii_uppercase();
    if !FAMILIES.contains(&family.as_str()) {
        return Vec::new();
    }
    words.map_while(|word| word.parse().ok()).map(|number| (family.clone(), number)).collect()
}

/// Files with one of these endings below a folder; none when the folder is not there.
fn files(folder: &Path, endings: &[&str]) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            let ending = path.extension().and_then(|ending| ending.to_str());
            if kind.is_dir() && !["target", "node_modules"].iter().any(|name| path.ends_with(name)) {
                folders.push(path);
            } else if kind.is_file() && ending.is_some_and(|ending| endings.contains(&ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Map, rules_in, rules_in_name};

    #[test]
    fn rule_numbers() {
        // Numbers are put together here, so that this test stands in no map.
        let named = |text: &str| rules_in(text).iter().map(|(f, n)| format!("{f}-{n}")).collect::<Vec<_>>();
        assert_eq!(named("SHA-256, UTF-8, XX40-1, item-4"), [""; 0]);
        let numbers = format!("({0}-1, {0}-20b): {0}-3.", "FIN");
        assert_eq!(named(&numbers), [1, 20, 3].map(|number| format!("{}-{number}", "FIN")));
    }

    #[test]
    fn rule_numbers_of_a_name() {
        let numbers = |name: &str| rules_in_name(name).iter().map(|(_, n)| *n).collect::<Vec<_>>();
        assert_eq!(numbers(&format!("{}_9_10_what_changes() {{", "fin")), [9, 10]);
        assert!(numbers("a_8_other() {").is_empty());
    }

    #[test]
    fn a_met_rule_wants_a_test() {
        let rule = |number: u32| format!("{}-{number}", "FIN");
        let mut map = Map::default();
        map.take_spec(&format!(
            "| {} | x | Met |\n| {} | y | later |\nnot a row {}\n",
            rule(1),
            rule(2),
            rule(3)
        ));
        assert_eq!(map.untested().len(), 1);
        map.take_code(Path::new("a/src/b.rs"), &format!("// {}\n", rule(1)));
        assert_eq!(map.untested().len(), 1);
        map.take_code(Path::new("a/src/b.rs"), &format!("fn b() {{}}\n#[cfg(test)]\n// {}\n", rule(1)));
        assert!(map.untested().is_empty());
        let mut map = Map::default();
        map.take_spec(&format!("| {}, {} | x | met | here |\n", rule(1), rule(2)));
        map.take_code(Path::new("tests/tests/c.rs"), &rule(2));
        assert_eq!(map.untested().len(), 1);
    }
}
