//! What was to be reached, and whether it was. Nothing here fails a build: time is the machine's (PERF-15).

use std::fmt;

use crate::metric::{Metric, median};
use crate::table::{Spread, Table};

/// What is compared with the bound.
pub(crate) enum Of {
    /// Figure of one row over that of another, round by round.
    Ratio(Cell, Cell),
    /// Figure of one row less that of another, round by round: what is added.
    Added(Cell, Cell),
    /// The figure of a row.
    Figure(Cell),
    /// How much more, in percent.
    Raised(Cell, Cell),
}

/// A figure in a table.
#[derive(Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) table: &'static str,
    pub(crate) row: &'static str,
    pub(crate) metric: Metric,
}

/// A cell, in few letters.
pub(crate) const fn cell(table: &'static str, row: &'static str, metric: Metric) -> Cell {
    Cell { table, row, metric }
}

/// How far it may go.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// One goal.
pub(crate) struct Goal {
    pub(crate) name: &'static str,
    pub(crate) of: Of,
    pub(crate) bound: Bound,
    pub(crate) unit: &'static str,
    /// Whether it is a tail latency, which means nothing where the baseline itself is noisier than the bound.
    pub(crate) is_tail: bool,
}

/// How a goal ended.
pub(crate) enum Verdict {
    Met(f64),
    Missed(f64),
    Skipped(String),
}

impl Goal {
    /// Judges by what was measured.
    pub(crate) fn judge(&self, tables: &[Table]) -> Verdict {
        let figures = |cell: &Cell| -> Result<Vec<f64>, String> {
            let table = tables.iter().find(|table| table.id == cell.table);
            let line = table.and_then(|table| table.line(cell.row));
            let line = line.ok_or_else(|| format!("`{}` was not run", cell.row))?;
            if let Err(why) = &line.measured {
                return Err(format!("{}: {}", cell.row, why.lines().next().unwrap_or_default()));
            }
            Ok(line.figures(cell.metric)).and_then(|figures| match figures.len() {
                0 => Err(format!("{} has no {}", cell.row, cell.metric.label())),
                _ => Ok(figures),
            })
        };
        let pairs = |one: &Cell,
                     over: &Cell,
                     with: fn(f64, f64) -> f64|
         -> Result<(Vec<f64>, Option<Spread>), String> {
            let (one, over) = (figures(one)?, figures(over)?);
            let baseline = Spread::of(&over);
            Ok((one.iter().zip(&over).map(|(one, over)| with(*one, *over)).collect(), baseline))
        };
        let found = match &self.of {
            Of::Ratio(one, over) => pairs(one, over, |one, over| one / over),
            Of::Added(one, over) => pairs(one, over, |one, over| one - over),
            Of::Raised(one, over) => pairs(one, over, |one, over| (one / over - 1.0) * 100.0),
            Of::Figure(one) => figures(one).map(|figures| (figures, None)),
        };
        let (figures, baseline) = match found {
            Ok(found) => found,
            Err(why) => return Verdict::Skipped(why),
        };
        let value = median(figures);
        let is_met = match self.bound {
            Bound::AtMost(bound) => value <= bound,
            Bound::AtLeast(bound) => value >= bound,
        };
        if is_met {
            return Verdict::Met(value);
        }
        let noise = baseline.filter(|_| self.is_tail).and_then(|baseline| self.noise(baseline));
        match noise {
            Some(noise) => Verdict::Skipped(format!(
                "{value:.2} {}: the baseline alone spreads over {noise:.2}, more than the bound",
                self.unit
            )),
            None => Verdict::Missed(value),
        }
    }

    /// What it is about, in the words of the tables.
    pub(crate) fn what(&self) -> String {
        let figure = |cell: &Cell| format!("{} of `{}`", cell.metric.label(), cell.row);
        match &self.of {
            Of::Ratio(one, over) => format!("{} over that of `{}`", figure(one), over.row),
            Of::Added(one, over) => format!("{} less that of `{}`", figure(one), over.row),
            Of::Raised(one, over) => format!("{} above that of `{}`", figure(one), over.row),
            Of::Figure(one) => figure(one),
        }
    }

    /// The table that it is judged by.
    pub(crate) const fn table(&self) -> &'static str {
        match &self.of {
            Of::Ratio(one, _) | Of::Added(one, _) | Of::Raised(one, _) | Of::Figure(one) => one.table,
        }
    }

    /// How far the baseline spreads, in the unit of the bound, where that is beyond it.
    fn noise(&self, baseline: Spread) -> Option<f64> {
        let bound = match self.bound {
            Bound::AtMost(bound) | Bound::AtLeast(bound) => bound,
        };
        let spread = baseline.most - baseline.least;
        let noise = match &self.of {
            Of::Added(..) | Of::Figure(_) => spread,
            Of::Ratio(..) => spread / baseline.middle,
            Of::Raised(..) => spread / baseline.middle * 100.0,
        };
        (noise > bound).then_some(noise)
    }

    /// `met NAME value bound`
    pub(crate) fn line(&self, verdict: &Verdict) -> String {
        let Self { name, bound, unit, .. } = self;
        match verdict {
            Verdict::Met(value) => format!("met {name} {value:.2} {bound} {unit}").trim_end().to_owned(),
            Verdict::Missed(value) => {
                format!("missed {name} {value:.2} {bound} {unit}").trim_end().to_owned()
            }
            Verdict::Skipped(why) => format!("skipped {name} - {bound} {unit} ({why})").replace("  ", " "),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(bound) => write!(f, "<={bound}"),
            Self::AtLeast(bound) => write!(f, ">={bound}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bound, Goal, Of, cell};
    use crate::metric::{Metric, Sample};
    use crate::table::{Against, Line, Table};

    const ONE: super::Cell = cell("t", "one", Metric::P99Micros);
    const OVER: super::Cell = cell("t", "over", Metric::P99Micros);

    fn table(one: &[f64], over: &[f64]) -> Table {
        let line = |name: &str, figures: &[f64]| Line {
            name: name.to_owned(),
            measured: Ok(figures.iter().map(|figure| Sample::from([(Metric::P99Micros, *figure)])).collect()),
        };
        let lines = vec![line("one", one), line("over", over), Line::skipped("gone", "not installed")];
        Table { id: "t", title: "", about: "", columns: &[], against: Against::Nothing, lines }
    }

    fn told(of: Of, bound: Bound, is_tail: bool, table: Table) -> String {
        let goal = Goal { name: "goal", of, bound, unit: "us", is_tail };
        goal.line(&goal.judge(&[table]))
    }

    #[test]
    fn verdicts() {
        let quiet = || table(&[110.0, 130.0, 120.0], &[100.0, 100.0, 100.0]);
        let most = Bound::AtMost;
        for (of, bound, is_tail, table, expected) in [
            (Of::Ratio(ONE, OVER), most(1.2), false, quiet(), "met goal 1.20 <=1.2 us"),
            (Of::Ratio(ONE, OVER), most(1.1), false, quiet(), "missed goal 1.20 <=1.1 us"),
            (Of::Ratio(ONE, OVER), Bound::AtLeast(1.1), false, quiet(), "met goal 1.20 >=1.1 us"),
            (Of::Added(ONE, OVER), most(19.0), true, quiet(), "missed goal 20.00 <=19 us"),
            (Of::Raised(ONE, OVER), most(20.0), true, quiet(), "met goal 20.00 <=20 us"),
            (Of::Figure(ONE), most(100.0), false, quiet(), "missed goal 120.00 <=100 us"),
            (
                Of::Added(ONE, OVER),
                most(19.0),
                true,
                self::table(&[120.0, 140.0, 160.0], &[90.0, 100.0, 110.0]),
                "skipped goal - <=19 us (40.00 us: the baseline alone spreads over 20.00, more than the bound)",
            ),
            (
                Of::Ratio(cell("t", "gone", Metric::P99Micros), OVER),
                most(1.0),
                false,
                quiet(),
                "skipped goal - <=1 us (gone: not installed)",
            ),
            (
                Of::Figure(cell("t", "nobody", Metric::P99Micros)),
                most(1.0),
                false,
                quiet(),
                "skipped goal - <=1 us (`nobody` was not run)",
            ),
        ] {
            assert_eq!(told(of, bound, is_tail, table), expected);
        }
    }
}
