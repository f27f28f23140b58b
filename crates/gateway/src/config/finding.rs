//! What is wrong with a configuration file, where, and how it is shown (UX-32).

use std::cell::RefCell;
use std::fmt;

/// A place in the file: line and column from 1, length in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Line, from 1; 0 when the finding is about the whole file.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters to underline.
    pub length: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub span: Span,
    /// What is wrong and the likely meaning. Never holds a secret.
    pub message: String,
    /// The source line with secrets blanked out; `None` when there is no line to show.
    pub source: Option<String>,
}

/// Everything that is wrong with one file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file's name as it was given.
    pub file: String,
    /// At least one finding.
    pub findings: Vec<Finding>,
}

impl ConfigErrors {
    /// `farthing.yaml:31:7 unknown key ...`, one line per finding, without source lines.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.findings.iter().map(|finding| self.line(finding))
    }

    fn line(&self, finding: &Finding) -> String {
        let Span { line, column, .. } = finding.span;
        match line {
            0 => format!("{}: {}", self.file, finding.message),
            _ => format!("{}:{line}:{column} {}", self.file, finding.message),
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.line(finding))?;
            if let Some(source) = &finding.source {
                let lead = source.chars().take(finding.span.column.saturating_sub(1));
                // A tab keeps its width, so that the marks stand under the text.
                let lead: String = lead.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                write!(f, "\n    {source}\n    {lead}{}", "^".repeat(finding.span.length.max(1)))?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Longest source line that is shown: a longer one is no line a person wrote.
const SOURCE_CHARS_MAX: usize = 200;

/// Collects findings while a file is read, so that one run shows them all.
#[derive(Default)]
pub(super) struct Report {
    found: RefCell<Vec<(Span, String)>>,
    hidden: RefCell<Vec<Span>>,
}

impl Report {
    pub(super) fn add(&self, span: Span, message: impl Into<String>) {
        self.found.borrow_mut().push((span, message.into()));
    }

    /// Blanks this place out wherever its line is shown.
    pub(super) fn hide(&self, span: Span) {
        self.hidden.borrow_mut().push(span);
    }

    /// Never shows this line.
    pub(super) fn hide_line(&self, line: usize) {
        self.hide(Span { line, column: 1, length: usize::MAX - 1 });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    pub(super) fn into_errors(self, file: &str, text: &str) -> ConfigErrors {
        let hidden = self.hidden.into_inner();
        let mut found = self.found.into_inner();
        found.sort();
        found.dedup();
        let findings = found
            .into_iter()
            .map(|(span, message)| Finding { span, message, source: source_line(text, span, &hidden) })
            .collect();
        ConfigErrors { file: file.to_owned(), findings }
    }
}

fn source_line(text: &str, span: Span, hidden: &[Span]) -> Option<String> {
    let line = text.lines().nth(span.line.checked_sub(1)?)?;
    let whole = |h: &Span| h.line == span.line && h.length == usize::MAX - 1;
    if line.chars().count() > SOURCE_CHARS_MAX || hidden.iter().any(whole) {
        return None;
    }
    let is_hidden = |column: usize| {
        hidden.iter().any(|h| h.line == span.line && (h.column..h.column + h.length).contains(&column))
    };
    let shown = line.chars().enumerate().map(|(at, c)| if is_hidden(at + 1) { '*' } else { c });
    Some(shown.collect::<String>().trim_end().to_owned())
}
