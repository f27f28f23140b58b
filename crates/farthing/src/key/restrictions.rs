//! What a key may not do, in words of the command line, as caveats (`specs/credit-keys.md`).

use std::time::{SystemTime, UNIX_EPOCH};

use crate::operator::spaced;

/// Restrictions of a key that is made or narrowed.
#[derive(Debug, clap::Args)]
pub(crate) struct Restrictions {
    /// End of its life: 30s, 10m, 12h, 7d from now, or @1900000000
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// Of no use before: 10m from now, or @1900000000
    #[arg(long, value_name = "TIME")]
    not_before: Option<String>,
    /// Most it may ever spend, with all keys made of it: 0.50usd, or with a name of yours, research=0.50usd
    #[arg(long, value_name = "[ID=]AMOUNT")]
    budget: Vec<String>,
    /// Most one call may cost: 0.02usd
    #[arg(long, value_name = "AMOUNT")]
    max_call: Option<String>,
    /// Models it may use: deepseek-*,gpt-6
    #[arg(long, value_name = "NAMES")]
    models: Option<String>,
    /// Routes it may use, by name
    #[arg(long, value_name = "NAMES")]
    routes: Option<String>,
    /// Public key that must sign each request, as `farthing key holder new` prints it: ed25519:...
    #[arg(long, value_name = "PUBLIC")]
    holder: Option<String>,
}

impl Restrictions {
    /// The caveats, in the order of the options.
    pub(crate) fn caveats(&self) -> Result<Vec<String>, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?.as_secs();
        let mut caveats = Vec::new();
        for (name, text) in [("expires", &self.expires), ("not_before", &self.not_before)] {
            if let Some(text) = text {
                caveats.push(format!("{name}={}", time(text, now)?));
            }
        }
        for text in &self.budget {
            caveats.push(budget(text)?);
        }
        if let Some(text) = &self.max_call {
            caveats.push(format!("per_call={}", money(text)?));
        }
        for (name, text) in [("models", &self.models), ("routes", &self.routes)] {
            caveats.extend(text.as_ref().map(|text| format!("{name}={text}")));
        }
        if let Some(text) = &self.holder {
            let public = text.strip_prefix("ed25519:").unwrap_or(text);
            caveats.push(format!("holder=ed25519:{public}"));
        }
        Ok(caveats)
    }
}

/// Two budgets of one key count apart by their ids: without a name of its own a budget gets a random one.
fn budget(text: &str) -> Result<String, String> {
    let (id, amount) = match text.split_once('=') {
        Some((id, amount)) => (id.to_owned(), amount),
        None => {
            let mut id = [0u8; 8];
            getrandom::fill(&mut id).map_err(|error| error.to_string())?;
            (wire::hex::encode(&id), text)
        }
    };
    Ok(format!("budget={id}:{}", money(amount)?))
}

fn money(text: &str) -> Result<String, String> {
    let parsed = money::parse_money(&spaced(text));
    let (amount, asset) = parsed.map_err(|error| format!("amount \"{text}\": {error}"))?;
    Ok(format!("{asset}:{}", amount.units()))
}

/// Unix seconds: `@1900000000`, or so long from now.
pub(crate) fn time(text: &str, now_s: u64) -> Result<u64, String> {
    let bad = || format!("time \"{text}\": write 30s, 10m, 12h, 7d or @1900000000");
    if let Some(at) = text.strip_prefix('@') {
        return at.parse().map_err(|_| bad());
    }
    let unit = text.chars().last().ok_or_else(bad)?;
    let factor: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(bad()),
    };
    let count: u64 = text.strip_suffix(unit).unwrap_or_default().parse().map_err(|_| bad())?;
    count.checked_mul(factor).and_then(|long| now_s.checked_add(long)).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::{Restrictions, budget, time};

    fn none() -> Restrictions {
        Restrictions {
            expires: None,
            not_before: None,
            budget: Vec::new(),
            max_call: None,
            models: None,
            routes: None,
            holder: None,
        }
    }

    #[test]
    fn options_become_caveats() {
        let all = Restrictions {
            expires: Some("@1900000000".into()),
            not_before: Some("@1800000000".into()),
            budget: vec!["team=0.50usd".into(), "a=1 TEST".into()],
            max_call: Some("0.02 USD".into()),
            models: Some("deepseek-*,gpt-6".into()),
            routes: Some("chat".into()),
            holder: Some("ed25519:abc".into()),
        };
        assert_eq!(
            all.caveats().unwrap(),
            [
                "expires=1900000000",
                "not_before=1800000000",
                "budget=team:USD:500000000",
                "budget=a:TEST:1000000000",
                "per_call=USD:20000000",
                "models=deepseek-*,gpt-6",
                "routes=chat",
                "holder=ed25519:abc",
            ]
        );
        assert_eq!(none().caveats(), Ok(Vec::new()));
        assert_eq!(
            Restrictions { holder: Some("abc".into()), ..none() }.caveats().unwrap(),
            ["holder=ed25519:abc"]
        );
    }

    #[test]
    fn times_and_amounts() {
        for (text, expected) in [
            ("@5", Some(5)),
            ("30s", Some(1030)),
            ("2m", Some(1120)),
            ("1h", Some(4600)),
            ("1d", Some(87_400)),
            ("", None),
            ("1", None),
            ("h", None),
            ("1hh", None),
            ("-1h", None),
            ("1é", None),
            ("99999999999999999d", None),
        ] {
            assert_eq!(time(text, 1000).ok(), expected, "{text}");
        }
        for bad in ["0.5", "x=1", "1 XYZ", "0.0000000001usd"] {
            assert!(budget(bad).is_err(), "{bad}");
        }
        let (one, two) = (budget("1usd").unwrap(), budget("1usd").unwrap());
        assert!(one != two && one.ends_with(":USD:1000000000"), "{one}");
    }
}
