//! The report: tables for people, raw figures for machines, a plot for each table.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::goals::{Goal, Verdict};
use crate::machine::Machine;
use crate::metric::{Metric, median};
use crate::peers::{CLAIMS, LEFT_OUT};
use crate::reasons::Reasons;
use crate::scenarios::{NGINX, NGINX_ASKS, PAID, PLAIN};
use crate::svg;
use crate::table::{Against, Line, Spread, Table};

/// Everything a run has to say.
pub(crate) struct Report<'a> {
    pub(crate) command: &'a str,
    pub(crate) method: &'a str,
    pub(crate) machine: &'a Machine,
    pub(crate) tables: &'a [Table],
    pub(crate) judged: &'a [(&'a Goal, Verdict)],
    pub(crate) reasons: &'a Reasons,
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
        let Self { command, method, machine, tables, judged, reasons, commands } = self;
        let mut text = "# What being paid costs, measured\n\n".to_owned();
        for sentence in headline(tables) {
            let _ = writeln!(text, "{sentence}");
        }
        let _ = writeln!(text, "\n`{command}` at {}. {method}\n\n{machine}\n", machine.commit);
        text.push_str("## Goals\n\n| | goal | what | value | bound |\n|---|---|---|---|---|\n");
        for (goal, verdict) in *judged {
            let (word, value) = match verdict {
                Verdict::Met(value) => ("met", format!("{value:.2}")),
                Verdict::Missed(value) => ("**missed**", format!("{value:.2}")),
                Verdict::Skipped(why) => ("skipped", why.clone()),
            };
            let (name, what) = (goal.name, goal.what());
            let _ = writeln!(text, "| {word} | {name} | {what} | {value} | {} {} |", goal.bound, goal.unit);
        }
        text.push_str(&missed(judged, reasons));
        for table in *tables {
            let _ = write!(text, "\n{}", markdown(table));
        }
        text.push_str(&noise(tables));
        text.push_str("\n## What others leave out\n\n| | what it does not do |\n|---|---|\n");
        for (names, what) in LEFT_OUT {
            let _ = writeln!(text, "| {names} | {what} |");
        }
        text.push_str("\n## What others say of themselves\n\nNot measured here; as published.\n\n| product | claim | source |\n|---|---|---|\n");
        for (product, claim, source) in CLAIMS {
            let _ = writeln!(text, "| {product} | {claim} | {source} |");
        }
        text.push_str("\n## Command lines\n\nFrom the root of the repository.\n\n```text\n");
        for command in *commands {
            let _ = writeln!(text, "{command}");
        }
        text.push_str("```\n");
        text
    }
}

/// The figures that a reader came for, in sentences; those that were not measured are left out.
fn headline(tables: &[Table]) -> Vec<String> {
    let cost = |row: &str| -> Option<f64> {
        let table = tables.iter().find(|table| table.id == "cost")?;
        Some(Spread::of(&table.line(row)?.figures(Metric::CpuMicros))?.middle)
    };
    let mut sentences = Vec::new();
    if let Some((paid, plain)) = cost(PAID).zip(cost(PLAIN)) {
        sentences.push(format!(
            "**A call that is paid with a credit key takes {paid:.1} us of CPU in the gateway; the same call, passed on for nothing, takes \
             {plain:.1}: {:.2} times as much.** That is all of it: key, budgets, a limit of calls a minute, meter, record on disk.",
            paid / plain
        ));
    }
    if let Some((passed, asked)) = cost(NGINX).zip(cost(NGINX_ASKS)) {
        sentences.push(format!(
            "nginx passes the call on for {passed:.1} us, and for {asked:.1} when it asks a checker of keys first."
        ));
    }
    if let Some(unpaid) = cost("ours, 402") {
        sentences.push(format!("A request without a payment is answered with 402 for {unpaid:.1} us."));
    }
    if let Some(exact) = cost("ours, x402 exact on the test rail") {
        sentences.push(format!(
            "A call that brings an x402 payment of its own, checked here and on disk before the upstream is asked, takes {exact:.1} us."
        ));
    }
    sentences
}

/// Each missed goal with its reason, where one was written down.
fn missed(judged: &[(&Goal, Verdict)], reasons: &Reasons) -> String {
    let mut text = String::new();
    for (goal, verdict) in judged {
        let Verdict::Missed(value) = verdict else { continue };
        if text.is_empty() {
            text.push_str("\n## Goals that were missed\n");
        }
        let why = reasons.why(goal.name).unwrap_or("No reason has been written down.");
        let Goal { name, bound, unit, .. } = goal;
        let _ = write!(text, "\n**{name}**: {value:.2} {unit} where {bound} was to be reached. {why}\n");
    }
    text
}

fn markdown(table: &Table) -> String {
    let mut text = format!("## {}\n\n{}\n\n", table.title, table.about);
    if svg::bars(table).is_some() {
        let _ = writeln!(text, "![{}](plots/{}.svg)\n", table.title, table.id);
    }
    let columns = columns(table);
    let reference = Reference::of(table);
    text.push_str("| |");
    for metric in &columns {
        let _ = write!(text, " {} |", metric.label());
    }
    text.push_str(&reference.as_ref().map(Reference::title).unwrap_or_default());
    let count = columns.len() + usize::from(reference.is_some());
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(count));
    for line in &table.lines {
        let _ = write!(text, "| {} |", line.name);
        if let Err(why) = &line.measured {
            let why = why.lines().next().unwrap_or_default();
            let _ = writeln!(text, " not measured: {why} |{}", " |".repeat(count.saturating_sub(1)));
            continue;
        }
        for metric in &columns {
            let _ = write!(text, " {} |", spread(&line.figures(*metric), metric.digits()));
        }
        let _ = writeln!(text, "{}", reference.as_ref().map(|over| over.cell(line)).unwrap_or_default());
    }
    text
}

/// The columns that say something: beside the first, those that are not nothing in every row.
fn columns(table: &Table) -> Vec<Metric> {
    let says = |metric: &Metric| {
        let shown = |figure: &f64| {
            format!("{figure:.*}", metric.digits()).contains(|digit| ('1'..='9').contains(&digit))
        };
        table.lines.iter().any(|line| line.figures(*metric).iter().any(shown))
    };
    let first = table.columns.iter().take(1);
    first.chain(table.columns.iter().skip(1).filter(|metric| says(metric))).copied().collect()
}

/// What the last column tells a row's first figure against.
struct Reference<'t> {
    metric: Metric,
    name: &'t str,
    figures: Vec<f64>,
    is_ratio: bool,
}

impl<'t> Reference<'t> {
    /// The first row. None where that was not measured: another is no reference.
    fn of(table: &'t Table) -> Option<Self> {
        let is_ratio = match table.against {
            Against::Ratio => true,
            Against::Added => false,
            Against::Nothing => return None,
        };
        let (metric, line) = (*table.columns.first()?, table.lines.first()?);
        let figures = line.figures(metric);
        (!figures.is_empty()).then(|| Self { metric, name: &line.name, figures, is_ratio })
    }

    fn title(&self) -> String {
        let label = self.metric.label();
        let Self { name, is_ratio, .. } = self;
        if *is_ratio { format!(" {label}, x `{name}` |") } else { format!(" {label}, more than `{name}` |") }
    }

    fn cell(&self, line: &Line) -> String {
        let pairs = line.figures(self.metric).into_iter().zip(&self.figures);
        if self.is_ratio {
            format!(" {} |", spread(&pairs.map(|(own, over)| own / over).collect::<Vec<_>>(), 2))
        } else {
            let added: Vec<f64> = pairs.map(|(own, over)| own - over).collect();
            format!(" {} |", spread(&added, self.metric.digits()))
        }
    }
}

/// How far the same row was apart in the rounds of this run.
fn noise(tables: &[Table]) -> String {
    let mut text = "\n## How much of it is noise\n\nHow far the rounds of a row lie apart, most less least, in hundredths of their median: of each \
        table's first row, which the others are told against, of the middle row, and of the one that is widest apart. What differs by less \
        says nothing.\n\n| table | figure | first row | its spread | middle row | widest row |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for table in tables {
        let Some(metric) = table.columns.first() else { continue };
        let percent = |line: &Line| {
            let Spread { least, middle, most } = Spread::of(&line.figures(*metric))?;
            (line.figures(*metric).len() > 1 && middle > 0.0).then(|| (most - least) / middle * 100.0)
        };
        let all: Vec<(&str, f64)> =
            table.lines.iter().filter_map(|line| Some((line.name.as_str(), percent(line)?))).collect();
        let (Some(first), Some((name, widest))) =
            (table.lines.first(), all.iter().max_by(|one, other| one.1.total_cmp(&other.1)))
        else {
            continue;
        };
        let own = percent(first).map_or_else(|| "-".to_owned(), |percent| format!("{percent:.0} %"));
        let middle = median(all.iter().map(|(_, percent)| *percent));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {own} | {middle:.0} % | {widest:.0} %: {name} |",
            table.title,
            metric.label(),
            first.name
        );
    }
    text
}

/// `median [least-most]`
fn spread(figures: &[f64], digits: usize) -> String {
    let Some(Spread { least, middle, most }) = Spread::of(figures) else { return "-".to_owned() };
    let [least, middle, most] = [least, middle, most].map(|figure| format!("{figure:.digits$}"));
    if least == most { middle } else { format!("{middle} [{least}-{most}]") }
}

#[cfg(test)]
mod tests {
    use super::{markdown, missed, noise};
    use crate::goals::{Bound, Goal, Of, Verdict, cell};
    use crate::metric::{Metric, Sample};
    use crate::reasons::Reasons;
    use crate::table::{Against, Line, Table};

    fn table(against: Against) -> Table {
        let line = |name: &str, rounds: &[f64]| Line {
            name: name.to_owned(),
            measured: Ok(rounds
                .iter()
                .map(|figure| Sample::from([(Metric::CpuMicros, *figure), (Metric::HelperMicros, 0.04)]))
                .collect()),
        };
        let lines = vec![
            line("one", &[10.0, 10.0, 10.0]),
            line("other", &[20.0, 30.0, 25.0]),
            Line::skipped("gone", "not installed\nmore of it"),
        ];
        let columns = &[Metric::CpuMicros, Metric::HelperMicros];
        Table { id: "t", title: "T", about: "About.", columns, against, lines }
    }

    /// A column without figures goes, a row without them stays, and the last column is against the first row.
    #[test]
    fn tables() {
        let told = |against| markdown(&table(against)).lines().skip(6).collect::<Vec<_>>().join("\n");
        assert_eq!(
            told(Against::Ratio),
            "| | CPU us/answer | CPU us/answer, x `one` |\n|---|---|---|\n| one | 10.0 | 1.00 |\n\
             | other | 25.0 [20.0-30.0] | 2.50 [2.00-3.00] |\n| gone | not measured: not installed | |"
        );
        assert_eq!(
            told(Against::Added),
            "| | CPU us/answer | CPU us/answer, more than `one` |\n|---|---|---|\n| one | 10.0 | 0.0 |\n\
             | other | 25.0 [20.0-30.0] | 15.0 [10.0-20.0] |\n| gone | not measured: not installed | |"
        );
        assert!(told(Against::Nothing).starts_with("| | CPU us/answer |\n|---|---|\n| one | 10.0 |\n"));
        // Another row is no reference.
        let mut without = table(Against::Ratio);
        without.lines.swap(0, 2);
        assert!(!markdown(&without).contains("x `"), "{}", markdown(&without));
    }

    #[test]
    fn spreads_are_told() {
        let told = noise(&[table(Against::Ratio)]);
        assert!(told.ends_with("| T | CPU us/answer | one | 0 % | 40 % | 40 %: other |\n"), "{told}");
    }

    #[test]
    fn a_missed_goal_has_its_reason_or_is_said_to_have_none() {
        let goal = |name| Goal {
            name,
            of: Of::Figure(cell("t", "one", Metric::CpuMicros)),
            bound: Bound::AtMost(1.0),
            unit: "us",
            is_tail: false,
        };
        let (known, unknown) = (goal("paid-cpu-over-plain"), goal("unheard-of"));
        let reasons = Reasons::of("# Of it\n\n## paid-cpu-over-plain\n\nBecause.\n");
        let judged =
            [(&known, Verdict::Missed(2.0)), (&unknown, Verdict::Missed(3.0)), (&known, Verdict::Met(1.0))];
        assert_eq!(
            missed(&judged, &reasons),
            "\n## Goals that were missed\n\n**paid-cpu-over-plain**: 2.00 us where <=1 was to be reached. Because.\n\n\
             **unheard-of**: 3.00 us where <=1 was to be reached. No reason has been written down.\n"
        );
        assert_eq!(missed(&judged[2..], &reasons), "");
    }
}
