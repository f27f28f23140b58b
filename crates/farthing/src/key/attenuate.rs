//! `farthing key attenuate`: a weaker key of one that is held. No gateway, no store, no network.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use client::Secret;
use proof::caveat::Widened;
use proof::credit_key::{self, AttenuateError, KeyError};
use serde_json::{Value, json};
use wire::credit_key::CreditKey;

use super::restrictions::Restrictions;

/// Where the key is looked for last.
const VARIABLE: &str = "FARTHING_KEY";

/// `farthing key attenuate`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The key comes from --key-file, else from standard input, else from FARTHING_KEY: never from an \
    argument, which everybody on the machine can read. The new key alone goes to standard output; --json adds the \
    link of each restriction, by which the operator can revoke that branch and nothing else."
)]
pub(crate) struct AttenuateArgs {
    /// File with the key in it; `-` is standard input
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    restrictions: Restrictions,
}

pub(super) fn run(args: &AttenuateArgs, json: bool) -> ExitCode {
    match held(args).and_then(|key| narrowed(&key, &args.restrictions.caveats()?)) {
        Ok(made) => {
            if json {
                println!("{}", made.document());
            } else {
                println!("{}", made.key.expose());
            }
            ExitCode::SUCCESS
        }
        Err(error) => crate::complain(&error),
    }
}

/// A narrowed key, with the name of each point that was added to its chain.
struct Narrowed {
    key: Secret,
    added: Vec<(String, [u8; 16])>,
}

impl Narrowed {
    fn document(&self) -> Value {
        let added: Vec<Value> = self.added.iter().map(|(caveat, link)| row(caveat, link)).collect();
        let link = self.added.last().map(|(_, link)| wire::hex::encode(link));
        json!({"key": self.key.expose(), "link": link, "added": added,
               "note": "every budget above this key is charged too; `key revoke LINK` ends it with all that is made of it"})
    }
}

fn row(caveat: &str, link: &[u8; 16]) -> Value {
    json!({"caveat": caveat, "link": wire::hex::encode(link)})
}

/// The key that is narrowed.
fn held(args: &AttenuateArgs) -> Result<Secret, String> {
    match &args.key_file {
        Some(path) if path.as_os_str() != "-" => {
            let text =
                std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let text = Secret::new(text);
            Ok(Secret::new(text.expose().trim().to_owned()))
        }
        Some(_) => super::from_stdin(),
        None => of_surroundings(),
    }
}

/// What is piped in goes before what happens to be set: it was meant for this command.
fn of_surroundings() -> Result<Secret, String> {
    if !std::io::stdin().is_terminal() {
        let piped = super::from_stdin()?;
        if !piped.expose().is_empty() {
            return Ok(piped);
        }
    }
    let set = std::env::var(VARIABLE).map(Secret::new);
    set.map_err(|_| format!("no key: pipe it in, name a file with --key-file, or set {VARIABLE}"))
}

fn narrowed(key: &Secret, caveats: &[String]) -> Result<Narrowed, String> {
    if caveats.is_empty() {
        return Err(
            "nothing to narrow: say --expires, --budget, --max-call, --models, --routes or --holder".into()
        );
    }
    let parse = |text: &str| CreditKey::parse(text).map_err(|error| format!("not a credit key: {error}"));
    parse(key.expose())?;
    let mut made = Narrowed { key: key.clone(), added: Vec::new() };
    for caveat in caveats {
        let text = credit_key::attenuate(made.key.expose(), caveat)
            .map_err(|error| refused(&made.key, caveat, &error))?;
        made.key = Secret::new(text);
        made.added.push((caveat.clone(), credit_key::last_link(&parse(made.key.expose())?)));
    }
    Ok(made)
}

/// Why this caveat cannot be added. Nothing is printed but this: half a narrowing is no key to hand out.
fn refused(key: &Secret, caveat: &str, error: &AttenuateError) -> String {
    let why = match error {
        AttenuateError::Refused(KeyError::Widened(Widened(name))) => {
            let last = CreditKey::parse(key.expose()).ok().and_then(|key| {
                let texts = key
                    .macaroon()
                    .caveats
                    .iter()
                    .rev()
                    .map(|known| String::from_utf8_lossy(known).into_owned());
                let named = format!("{name}=");
                texts.into_iter().find(|known| known.starts_with(&named))
            });
            let last = last.map_or_else(String::new, |known| format!(" (it has `{known}`)"));
            format!("it would allow more than the key does{last}, and a key only ever gets weaker")
        }
        AttenuateError::Refused(KeyError::SeveralAssets) => {
            "the key's amounts are in another asset, and nothing is converted".to_owned()
        }
        error @ (AttenuateError::Key(_) | AttenuateError::Refused(_) | AttenuateError::Limit(_)) => {
            error.to_string()
        }
    };
    format!("`{caveat}` cannot be added: {why}. No key was made.")
}

#[cfg(test)]
mod tests {
    use client::Secret;
    use proof::{EpochState, MasterKey, MasterKeys, credit_key};
    use wire::credit_key::{CreditKey, Mode};

    use super::narrowed;

    fn masters() -> MasterKeys {
        MasterKeys::new([MasterKey { epoch: 7, state: EpochState::Mint, secret: [0x42; 32].into() }]).unwrap()
    }

    fn key(caveats: &[&str]) -> Secret {
        let caveats: Vec<String> = caveats.iter().map(|&caveat| caveat.into()).collect();
        Secret::new(credit_key::mint(&masters(), Mode::Test, [1; 16], [2; 16], &caveats).unwrap())
    }

    /// L402-43, L402-44: the links that are told are those that the gateway looks for.
    #[test]
    fn what_is_made_is_genuine_and_its_links_are_told() {
        let made = narrowed(&key(&[]), &["budget=a:USD:5".into(), "expires=1900000000".into()]).unwrap();
        let parsed = CreditKey::parse(made.key.expose()).unwrap();
        let verified = credit_key::verify(&masters(), Mode::Test, &parsed, 1_800_000_000).unwrap();
        let told: Vec<_> = made.added.iter().map(|(_, link)| *link).collect();
        assert_eq!(told, verified.links[1..]);
        assert_eq!(verified.budgets[0].link, told[0]);
    }

    /// L402-51, KEY-2: nothing is made that widens, and the reason names what stands in the way.
    #[test]
    fn a_widening_is_refused_with_its_reason() {
        for (has, asked, why) in [
            ("models=deepseek-*", "models=gpt-*", "it has `models=deepseek-*`"),
            ("models=a", "models=a,b", "allow more"),
            ("expires=1000", "expires=1001", "it has `expires=1000`"),
            ("not_before=1000", "not_before=999", "allow more"),
            ("per_call=USD:5", "per_call=USD:6", "allow more"),
            ("routes=chat", "routes=chat,embeddings", "it has `routes=chat`"),
            ("budget=a:USD:5", "budget=b:TEST:1", "another asset"),
            ("expires=1000", "colour=blue", "unknown caveat"),
            ("expires=1000", "holder=ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "malformed"),
            ("expires=1000", "ip=1.2.3.4", "reserved"),
        ] {
            let error = narrowed(&key(&[has]), &[asked.into()]).err().unwrap_or_default();
            assert!(error.contains(why) && error.ends_with("No key was made."), "{asked}: {error}");
        }
        assert!(narrowed(&key(&[]), &[]).err().unwrap_or_default().contains("nothing to narrow"));
        let error = narrowed(&Secret::new("sk-1".into()), &["expires=1".into()]).err().unwrap_or_default();
        assert!(error.starts_with("not a credit key"), "{error}");
    }

    /// A budget is no widening however large: it counts beside those above it.
    #[test]
    fn a_larger_budget_below_a_smaller_one_is_made_and_bounded_by_it() {
        let made = narrowed(&key(&["budget=a:USD:5"]), &["budget=b:USD:500".into()]).unwrap();
        let parsed = CreditKey::parse(made.key.expose()).unwrap();
        let verified = credit_key::verify(&masters(), Mode::Test, &parsed, 0).unwrap();
        assert_eq!(verified.budgets.iter().map(|budget| budget.limit.units()).collect::<Vec<_>>(), [5, 500]);
    }
}
