//! The report: tables for people, raw figures for machines, a plot for each table.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::goals::{Goal, Verdict};
use crate::machine::Machine;
use crate::metric::Metric;
use crate::peers::CLAIMS;
use crate::svg;
use crate::table::{Line, Spread, Table};

/// Everything a run has to say.
pub(crate) struct Report<'a> {
    pub(crate) command: &'a str,
    pub(crate) method: &'a str,
    pub(crate) machine: &'a Machine,
    pub(crate) tables: &'a [Table],
    pub(crate) judged: &'a [(&'a Goal, Verdict)],
    /// How the servers were started.
    pub(crate) commands: &'a [String],
}

impl Report<'_> {
    /// Writes `RESULTS.md`, `results.json` and the plots.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), String> {
        let told = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        let plots = folder.join("plots");
        fs::create_dir_all(&plots).map_err(|error| told(&plots, error))?;
        let mut files = vec![
            (folder.join("RESULTS.md"), self.markdown()),
            (folder.join("results.json"), format!("{:#}\n", self.json())),
        ];
        files.extend(
            self.tables
                .iter()
                .filter_map(|table| Some((plots.join(format!("{}.svg", table.id)), svg::bars(table)?))),
        );
        for (path, content) in files {
            fs::write(&path, content).map_err(|error| told(&path, error))?;
            println!("written {}", path.display());
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let judged = self.judged.iter().map(|(goal, verdict)| goal.line(verdict));
        json!({
            "command": self.command,
            "machine": self.machine,
            "goals": judged.collect::<Vec<_>>(),
            "tables": self.tables.iter().map(Table::json).collect::<Vec<_>>(),
            "servers": self.commands,
        })
    }

    fn markdown(&self) -> String {
        let mut text = format!("# Measured\n\n`{}` at {}\n\n", self.command, self.machine.commit);
        let _ = writeln!(text, "{}\n\n{}\n", self.method, self.machine);
        text.push_str("## Goals\n\n| | goal | value | bound |\n|---|---|---|---|\n");
        for (goal, verdict) in self.judged {
            let (word, value) = match verdict {
                Verdict::Met(value) => ("met", format!("{value:.2}")),
                Verdict::Missed(value) => ("**missed**", format!("{value:.2}")),
                Verdict::Skipped(why) => ("skipped", why.clone()),
            };
            let _ = writeln!(text, "| {word} | {} | {value} | {} {} |", goal.name, goal.bound, goal.unit);
        }
        for table in self.tables {
            let _ = write!(text, "\n{}", markdown(table));
        }
        text.push_str("\n## What others say of themselves\n\nNot measured here; as published.\n\n| product | claim | source |\n|---|---|---|\n");
        for (product, claim, source) in CLAIMS {
            let _ = writeln!(text, "| {product} | {claim} | {source} |");
        }
        text.push_str("\n## Command lines\n\n```text\n");
        for command in self.commands {
            let _ = writeln!(text, "{command}");
        }
        text.push_str("```\n");
        text
    }
}

fn markdown(table: &Table) -> String {
    let reference = table.lines.iter().find(|line| line.measured.is_ok());
    let mut text = format!("## {}\n\n{}\n\n", table.title, table.about);
    if svg::bars(table).is_some() {
        let _ = writeln!(text, "![{}](plots/{}.svg)\n", table.title, table.id);
    }
    text.push_str("| |");
    let first = table.columns.first().copied();
    for metric in table.columns {
        let _ = write!(text, " {} |", metric.label());
    }
    let compared = first.map(|metric| format!(" {} / that of the first row |", metric.label()));
    let _ = writeln!(text, "{}", compared.as_deref().unwrap_or_default());
    text.push_str("|---|");
    text.push_str(&"---|".repeat(table.columns.len() + usize::from(first.is_some())));
    text.push('\n');
    for line in &table.lines {
        let _ = writeln!(text, "| {} |{}", line.name, cells(line, table.columns, reference));
    }
    text
}

fn cells(line: &Line, columns: &[Metric], reference: Option<&Line>) -> String {
    if let Err(why) = &line.measured {
        return format!(" not measured: {} |", why.lines().next().unwrap_or_default());
    }
    let mut text = String::new();
    for metric in columns {
        let _ = write!(text, " {} |", spread(&line.figures(*metric), metric.digits()));
    }
    if let (Some(metric), Some(reference)) = (columns.first(), reference) {
        let over = reference.figures(*metric);
        let ratios: Vec<f64> = line.figures(*metric).iter().zip(over).map(|(own, over)| own / over).collect();
        let _ = write!(text, " {} |", spread(&ratios, 2));
    }
    text
}

/// `median [min-max]`
fn spread(figures: &[f64], digits: usize) -> String {
    match Spread::of(figures) {
        None => "-".to_owned(),
        Some(Spread { least, middle, most }) if least == most => format!("{middle:.digits$}"),
        Some(Spread { least, middle, most }) => {
            format!("{middle:.digits$} [{least:.digits$}-{most:.digits$}]")
        }
    }
}
