//! The prices as a page: one file, no script, nothing fetched.

use std::fmt::Write as _;

use serde_json::Value;

const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<title>Prices</title>
<style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin: 0 0 2rem }
th, td { text-align: left; padding: .35rem .75rem; border-bottom: 1px solid #8884; vertical-align: top }
td.amount, th.amount { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
tr.case td { font-size: .9em; padding-left: 2rem }
small { opacity: .75; overflow-wrap: anywhere }
</style>
<h1>Prices</h1>
";

/// Buckets whose price is shown for a million of them.
const BY_THE_MILLION: [&str; 3] = ["token", "character", "byte"];

/// The page of a document of prices.
pub(super) fn render(document: &Value) -> String {
    let mut out = HEAD.to_owned();
    // Writing to a String does not fail.
    let _ = writeln!(
        out,
        "<p>In US dollars, as of {}. A call is charged for what it used, summed exactly and rounded up once to a \
         billionth of a dollar.</p>",
        text(&document["at"])
    );
    table(&mut out, "Models", "model", &document["models"]);
    table(&mut out, "Every other model whose name fits", "model", &document["patterns"]);
    table(&mut out, "By the call", "route", &document["routes"]);
    let _ = writeln!(
        out,
        "<p><small>Version {}. The same for programs: this address with \
                           <code>Accept: application/json</code>.</small></p>\n</html>",
        text(&document["version"])
    );
    out
}

fn table(out: &mut String, title: &str, named: &str, rows: &Value) {
    let Some(rows) = rows.as_array().filter(|rows| !rows.is_empty()) else { return };
    let _ = writeln!(
        out,
        "<h2>{title}</h2>\n<table>\n<thead><tr><th scope=\"col\">{}</th><th scope=\"col\">for</th>\
         <th scope=\"col\" class=\"amount\">USD</th></tr></thead>",
        if named == "model" { "Model" } else { "Route" }
    );
    for row in rows {
        let mut name = format!("<b>{}</b>", text(&row[named]));
        if row["same_as"].is_string() {
            let _ = write!(name, "<br><small>as {}</small>", text(&row["same_as"]));
        }
        if row["since"].is_string() {
            let _ = write!(name, "<br><small>since {}</small>", text(&row["since"]));
        }
        out.push_str("<tbody>\n");
        rates(out, &name, &row["rates"]);
        for case in row["otherwise"].as_array().into_iter().flatten() {
            let when = text(&case["when"]);
            match case["times"].as_str() {
                Some(factor) => {
                    let _ = writeln!(
                        out,
                        "<tr class=\"case\"><td>{when}</td><td>tokens</td><td class=\"amount\">x {factor}</td></tr>"
                    );
                }
                None => rates(out, &format!("<small>{when}</small>"), &case["rates"]),
            }
        }
        out.push_str("</tbody>\n");
    }
    out.push_str("</table>\n");
}

/// The first row bears the name, the others follow under it.
fn rates(out: &mut String, name: &str, rates: &Value) {
    let rates = rates.as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = rates.len().max(1);
    for (at, rate) in rates.iter().enumerate() {
        let head = if at == 0 { format!("<td rowspan=\"{rows}\">{name}</td>") } else { String::new() };
        let (unit, amount) = shown(rate);
        let bucket = text(&rate["bucket"]).replace('_', " ");
        let _ = writeln!(out, "<tr>{head}<td>{bucket}, {unit}</td><td class=\"amount\">{amount}</td></tr>");
    }
}

/// Small units by the million, exact: the point moves six places.
fn shown(rate: &Value) -> (String, String) {
    let (unit, amount) = (text(&rate["unit"]), text(&rate["amount"]));
    if !BY_THE_MILLION.contains(&unit.as_str()) {
        return (format!("each {unit}"), amount);
    }
    let (whole, fraction) = amount.split_once('.').unwrap_or((&amount, ""));
    let padded = format!("{fraction:0<6}");
    let (moved, rest) = padded.split_at(6);
    let whole = format!("{whole}{moved}");
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let amount = if rest.is_empty() { whole.to_owned() } else { format!("{whole}.{rest}") };
    (format!("million {unit}s"), amount)
}

/// Text that stands in a page as it is.
fn text(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::{render, shown};
    use serde_json::json;

    #[test]
    fn small_units_are_shown_by_the_million() {
        for (unit, amount, expected) in [
            ("token", "0.0000001", ("million tokens", "0.1")),
            ("token", "0.0000012", ("million tokens", "1.2")),
            ("token", "0.00000000000000100001", ("million tokens", "0.00000000100001")),
            ("token", "0", ("million tokens", "0")),
            ("token", "0.000015", ("million tokens", "15")),
            ("token", "2", ("million tokens", "2000000")),
            ("image", "0.04", ("each image", "0.04")),
        ] {
            let (unit, amount) = shown(&json!({"unit": unit, "amount": amount}));
            assert_eq!((unit.as_str(), amount.as_str()), expected);
        }
    }

    /// A name out of somebody's list is text, whatever it says.
    #[test]
    fn names_are_text() {
        let page = render(
            &json!({"models": [{"model": "<script>alert(1)</script>&\"", "rates": [{"bucket": "input", "unit": "token", "amount": "0.1"}]}]}),
        );
        assert!(
            !page.contains("<script>") && page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;")
        );
    }
}
