//! Reads one map of the file: known keys are handed out, every other key is a finding (UX-28).

use std::io;
use std::path::{Path, PathBuf};

use super::finding::{Report, Span};
use super::yaml::{Key, Kind, Node};
use super::{FileBytes, Mode};

/// What every section needs to read itself.
pub(super) struct Context<'a> {
    pub(super) report: Report,
    pub(super) mode: Mode,
    /// Folder of the configuration file: relative paths start here.
    pub(super) folder: PathBuf,
    /// Names under `upstreams`, well written or not: one mistake is one finding.
    pub(super) upstreams: Vec<String>,
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    pub(super) read: &'a dyn Fn(&Path) -> io::Result<FileBytes>,
}

impl Context<'_> {
    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.folder.join(text)
    }
}

/// The keys a section has.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    /// Read by this version.
    pub(super) known: &'static [&'static str],
    /// Planned, and refused until they work: a knob that does nothing is worse than none.
    pub(super) later: &'static [&'static str],
    /// Unknown keys may be misspelt secrets, so their values are never shown.
    pub(super) secret: bool,
}

impl Keys {
    pub(super) const fn new(known: &'static [&'static str], later: &'static [&'static str]) -> Self {
        Self { known, later, secret: false }
    }

    pub(super) const fn secret(known: &'static [&'static str], later: &'static [&'static str]) -> Self {
        Self { known, later, secret: true }
    }
}

/// Two lists of keys as one.
pub(super) const fn joined<const N: usize>(
    one: &[&'static str],
    other: &[&'static str],
) -> [&'static str; N] {
    let mut all = [""; N];
    let mut at = 0;
    while at < N {
        all[at] = if at < one.len() { one[at] } else { other[at - one.len()] };
        at += 1;
    }
    all
}

/// One map of the file and the dotted path that leads to it.
pub(super) struct Section<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) path: String,
    /// Where a finding about the map itself points.
    pub(super) span: Span,
    entries: &'a [(Key, Node)],
    /// A key here is unknown or planned: what seems to be missing may stand under that name.
    misnamed: bool,
}

impl<'a> Section<'a> {
    /// Opens a map with a closed set of keys.
    pub(super) fn open(context: &'a Context<'a>, path: &str, node: &'a Node, keys: Keys) -> Option<Self> {
        if keys.secret && matches!(node.kind, Kind::Scalar(_) | Kind::List(_)) {
            node.hide_scalars(&context.report);
        }
        let mut section = Self::open_any(context, path, node)?;
        for (key, value) in section.entries {
            section.misnamed |= !section.check(key, value, keys);
        }
        Some(section)
    }

    /// Opens a map whose keys are names the operator chose.
    pub(super) fn open_any(context: &'a Context<'a>, path: &str, node: &'a Node) -> Option<Self> {
        let entries: &[(Key, Node)] = match &node.kind {
            Kind::Map(entries) => entries,
            Kind::Null => &[],
            Kind::Scalar(_) | Kind::List(_) => {
                let message = format!("{} must be a map of keys, not {}", named(path), node.what());
                context.report.add(node.span, message);
                return None;
            }
        };
        Some(Self { context, path: path.to_owned(), span: node.span, entries, misnamed: false })
    }

    /// Whether the key is one that we read.
    fn check(&self, key: &Key, value: &Node, keys: Keys) -> bool {
        if keys.known.contains(&key.text.as_str()) {
            return true;
        }
        if keys.secret {
            value.hide_scalars(&self.context.report);
        }
        let place = if self.path.is_empty() { "at the top".to_owned() } else { format!("in {}", self.path) };
        let message = if keys.later.contains(&key.text.as_str()) {
            format!("\"{}\" {place} is not supported yet", key.text)
        } else {
            let hint = suggestion(&key.text, keys.known.iter().copied());
            format!("unknown key \"{}\" {place}{hint}", key.text)
        };
        self.context.report.add(key.span, message);
        false
    }

    /// Every entry, in the order of the file.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a Key, &'a Node)> + use<'a> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// The value of a key, if it stands there and is not null.
    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        let node = self.node(key)?;
        (!matches!(node.kind, Kind::Null)).then_some(node)
    }

    /// The value of a key, null too: `test:` alone switches a rail on.
    pub(super) fn node(&self, key: &str) -> Option<&'a Node> {
        self.entries.iter().find(|(k, _)| k.text == key).map(|(_, value)| value)
    }

    /// The dotted path of a key here.
    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// A map below this one; absent reads like an empty one.
    pub(super) fn section(&self, key: &str, keys: Keys) -> Option<Section<'a>> {
        Section::open(self.context, &self.path_of(key), self.get(key)?, keys)
    }

    /// One value through its parser; a bad one is a finding and reads like an absent one.
    pub(super) fn value<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        scalar(self.context, &self.path_of(key), self.get(key)?, parse)
    }

    /// As [`Section::value`], and absent is a finding too.
    pub(super) fn required<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        if self.get(key).is_none() {
            self.missing(format!("{} needs \"{key}\"", named(&self.path)));
            return None;
        }
        self.value(key, parse)
    }

    /// A finding about something that is not here, unless a key of this map is unknown: then that
    /// is the finding.
    pub(super) fn missing(&self, message: impl Into<String>) {
        if !self.misnamed {
            self.context.report.add(self.span, message);
        }
    }

    /// A list of values, or one value alone.
    pub(super) fn values<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<(Span, T)>> {
        let node = self.get(key)?;
        let path = self.path_of(key);
        let items = match &node.kind {
            Kind::List(items) => items.as_slice(),
            Kind::Null | Kind::Scalar(_) | Kind::Map(_) => std::slice::from_ref(node),
        };
        let read = |item: &Node| Some((item.span, scalar(self.context, &path, item, &parse)?));
        Some(items.iter().filter_map(read).collect())
    }

    /// A key that has a single meaning in this version: any other value is not supported yet.
    pub(super) fn only(&self, key: &str, value: &str) {
        let same = |text: &str| {
            if text == value {
                return Ok(());
            }
            Err(format!("{text} is not supported yet; this version has {value} only"))
        };
        let _ = self.value(key, same);
    }

    /// A finding about the value of a key here, or about the map when the key is absent.
    pub(super) fn complain(&self, key: &str, message: impl Into<String>) {
        let span = self.node(key).map_or(self.span, |node| node.span);
        self.context.report.add(span, message);
    }
}

/// One scalar through its parser.
pub(super) fn scalar<T>(
    context: &Context<'_>,
    path: &str,
    node: &Node,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    let result = match &node.kind {
        Kind::Scalar(text) => parse(text),
        Kind::Null | Kind::List(_) | Kind::Map(_) => {
            Err(format!("expected a single value, not {}", node.what()))
        }
    };
    match result {
        Ok(value) => Some(value),
        Err(why) => {
            context.report.add(node.span, format!("{path}: {why}"));
            None
        }
    }
}

fn named(path: &str) -> &str {
    if path.is_empty() { "the file" } else { path }
}

/// `; did you mean "output"?` when one of the names is near enough.
pub(super) fn suggestion<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> String {
    let near = names
        .map(|name| (distance(text, name), name))
        .filter(|(far, name)| *far <= 2 && *far < name.chars().count().max(2))
        .min_by_key(|(far, _)| *far);
    near.map(|(_, name)| format!("; did you mean \"{name}\"?")).unwrap_or_default()
}

/// Edits between two words: insert, delete, replace, or swap of neighbours.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    if left.len().abs_diff(right.len()) > 2 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, r) in right.iter().enumerate() {
            let mut best = (row[j] + usize::from(l != r)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && left[i - 1] == *r && *l == right[j - 1] {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::suggestion;

    #[test]
    fn suggestions_are_near_or_absent() {
        let names = ["input", "output", "cache_read", "rpm"];
        for (text, expected) in [
            ("ouput", "; did you mean \"output\"?"),
            ("inptu", "; did you mean \"input\"?"),
            ("cache-read", "; did you mean \"cache_read\"?"),
            ("rmp", "; did you mean \"rpm\"?"),
            ("windows", ""),
            ("x", ""),
        ] {
            assert_eq!(suggestion(text, names.into_iter()), expected, "{text}");
        }
    }
}
