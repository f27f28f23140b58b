//! A plot of a table's first column: a bar for each row, with the least and the most of its rounds.

use std::fmt::Write as _;

use crate::metric::{Better, Metric};
use crate::table::{Spread, Table};

const BAR: u32 = 18;
const GAP: u32 = 8;
const LABELS: u32 = 340;
const BARS: u32 = 420;
const VALUES: u32 = 90;
const TOP: u32 = 44;

/// Bars that differ by more are drawn to a logarithmic scale: else the short ones could not be told apart.
const LINEAR_MAX: f64 = 50.0;

/// How long the bar of a figure is.
#[derive(Clone, Copy)]
enum Scale {
    Linear {
        most: f64,
    },
    /// From this power of ten on.
    Logarithmic {
        from: f64,
        most: f64,
    },
}

impl Scale {
    fn of(rows: &[(&str, Spread)]) -> Option<Self> {
        let most = rows.iter().map(|(_, spread)| spread.most).reduce(f64::max).filter(|most| *most > 0.0)?;
        let least = rows.iter().map(|(_, spread)| spread.least).reduce(f64::min)?;
        let is_wide = least > 0.0 && most / least > LINEAR_MAX;
        Some(if is_wide {
            Self::Logarithmic { from: 10f64.powf(least.log10().ceil() - 1.0), most }
        } else {
            Self::Linear { most }
        })
    }

    fn length(self, figure: f64) -> f64 {
        f64::from(BARS)
            * match self {
                Self::Linear { most } => figure / most,
                Self::Logarithmic { from, most } => (figure / from).log10() / (most / from).log10(),
            }
    }
}

/// The plot; none of a table without figures, or of counts that one plot cannot show.
pub(crate) fn bars(table: &Table) -> Option<String> {
    let metric = *table.columns.first().filter(|metric| !matches!(metric, Metric::Instructions(_)))?;
    let rows: Vec<(&str, Spread)> = table
        .lines
        .iter()
        .filter_map(|line| Some((line.name.as_str(), Spread::of(&line.figures(metric))?)))
        .collect();
    let scale = Scale::of(&rows)?;
    let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    let (width, height) = (LABELS + BARS + VALUES, TOP + count.saturating_mul(BAR + GAP) + GAP);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n<text x=\"8\" y=\"18\" font-size=\"14\">{}</text>\n\
         <text x=\"8\" y=\"36\" fill=\"#555\">{}</text>\n",
        escaped(table.title),
        escaped(&caption(metric, scale)),
    );
    for (number, (name, spread)) in (0u32..).zip(&rows) {
        let y = TOP + number * (BAR + GAP);
        let x = |figure: f64| f64::from(LABELS) + scale.length(figure);
        let middle = y + BAR / 2;
        let _ = write!(
            text,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{LABELS}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{}\"/>\n\
             <path d=\"M{:.1} {middle}H{:.1}\" stroke=\"#222\" stroke-width=\"2\"/>\n\
             <text x=\"{:.1}\" y=\"{}\">{:.digits$}</text>\n",
            LABELS - 6,
            middle + 4,
            escaped(name),
            scale.length(spread.middle),
            if name.starts_with("ours") { "#2a7" } else { "#9ab" },
            x(spread.least),
            x(spread.most),
            x(spread.most) + 6.0,
            middle + 4,
            spread.middle,
            digits = metric.digits(),
        );
    }
    text.push_str("</svg>\n");
    Some(text)
}

fn caption(metric: Metric, scale: Scale) -> String {
    let wanted = match metric.better() {
        Better::More => "more is better",
        Better::Less => "less is better",
    };
    let scale = match scale {
        Scale::Linear { .. } => String::new(),
        Scale::Logarithmic { from, .. } => format!("; logarithmic, from {from} on"),
    };
    format!("{}, median with least and most of the rounds; {wanted}{scale}", metric.label())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::{Scale, bars};
    use crate::metric::{Metric, Sample};
    use crate::table::{Against, Line, Spread, Table};

    #[test]
    fn a_plot_has_a_bar_for_each_measured_row() {
        let sample = |figure| Sample::from([(Metric::CpuMicros, figure)]);
        let lines = vec![
            Line {
                name: "ours & more".to_owned(),
                measured: Ok(vec![sample(10.0), sample(30.0), sample(20.0)]),
            },
            Line { name: "half".to_owned(), measured: Ok(vec![sample(15.0)]) },
            Line::skipped("gone", "not installed"),
        ];
        let table = Table {
            id: "t",
            title: "A <title>",
            about: "",
            columns: &[Metric::CpuMicros],
            against: Against::Ratio,
            lines,
        };
        let plot = bars(&table).expect("figures");
        assert!(
            plot.contains("A &lt;title&gt;") && plot.contains("ours &amp; more") && !plot.contains("gone")
        );
        // 420 wide for the most, 30.
        assert!(plot.contains("width=\"280.0\"") && plot.contains("width=\"210.0\""), "{plot}");
        assert!(plot.contains("M480.0 53H760.0"), "{plot}");
        let empty = Table { lines: Vec::new(), ..table };
        assert_eq!(bars(&empty), None);
    }

    /// From the power of ten below the least on, so that no bar vanishes.
    #[test]
    fn bars_that_are_far_apart_are_logarithmic() {
        let spread = |figure| Spread { least: figure, middle: figure, most: figure };
        let lengths = |figures: &[f64]| -> Vec<f64> {
            let rows: Vec<_> = figures.iter().map(|figure| ("", spread(*figure))).collect();
            let scale = Scale::of(&rows).unwrap();
            figures.iter().map(|figure| scale.length(*figure)).collect()
        };
        assert_eq!(lengths(&[100.0, 1000.0, 10_000.0]), [140.0, 280.0, 420.0]);
        assert_eq!(lengths(&[10.0, 100.0]), [42.0, 420.0]);
    }
}
