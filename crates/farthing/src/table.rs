//! Answers for a person: one line a fact, one row a record.

use serde_json::Value;

/// Prints an answer: as text on a terminal, as one JSON document into a pipe or where that is asked for.
pub(crate) fn show(value: &Value, json: bool) {
    use std::io::IsTerminal as _;
    if json || !std::io::stdout().is_terminal() { println!("{value}") } else { print(value) }
}

/// Prints a JSON answer as text.
fn print(value: &Value) {
    print!("{}", render(value));
}

fn render(value: &Value) -> String {
    let mut out = String::new();
    let Value::Object(members) = value else { return format!("{}\n", scalar(value)) };
    for (name, member) in members {
        match member {
            Value::Array(rows) => {
                out.push_str(&format!("{name}:\n"));
                for row in rows {
                    out.push_str(&format!("  {}\n", line(row)));
                }
            }
            Value::Object(_) => out.push_str(&format!("{name:<12} {}\n", line(member))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                out.push_str(&format!("{name:<12} {}\n", scalar(member)));
            }
        }
    }
    out
}

fn line(row: &Value) -> String {
    if let (Some(amount), Some(currency)) = (row["amount"].as_str(), row["currency"].as_str()) {
        return format!("{amount} {currency}");
    }
    match row {
        Value::Object(members) => {
            let parts = members.iter().map(|(name, member)| match member {
                Value::Array(rows) => rows.iter().map(|row| format!("\n      {}", line(row))).collect(),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                    format!("{name}={}", line(member))
                }
            });
            parts.collect::<Vec<String>>().join("  ")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => scalar(row),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::render;

    #[test]
    fn facts_and_rows() {
        let text = render(&json!({"lsn": 4, "who": null, "charge": {"amount": "1.5", "currency": "USD"},
                                  "rows": [{"a": 1, "b": "x"}]}));
        assert_eq!(text, "charge       1.5 USD\nlsn          4\nrows:\n  a=1  b=x\nwho          -\n");
    }
}
