//! Proofs that are worth more than the short run that `test` makes of them: the same tests, with more seeds,
//! kills or cases.

use std::fmt::Write as _;

use crate::outcome::Outcome;
use crate::step::cargo;
use crate::test::counted;

/// A command that runs tests.
pub(crate) struct Proof {
    /// Of the command.
    pub(crate) name: &'static str,
    about: &'static str,
    /// How much of it there can be.
    amount: Option<Amount>,
    /// Arguments of `cargo test --release`, for each run.
    runs: &'static [&'static [&'static str]],
}

/// A number that a test reads from its environment.
struct Amount {
    option: &'static str,
    variable: &'static str,
    /// What the bars of the specification ask for.
    full: &'static str,
}

/// Every proof, in the order of its usage text.
pub(crate) const PROOFS: [Proof; 7] = [
    Proof {
        name: "ledger-model",
        about: "accounts and holds: every interleaving of three threads; random sequences against a naive model, in memory and over the store",
        amount: Some(Amount { option: "--cases", variable: "FARTHING_CASES", full: "100000" }),
        runs: &[
            LOOM,
            &["--package", "ledger", "--features", "shuttle", "--test", "shuttle"],
            &["--package", "ledger", "--test", "model"],
            &["--package", "store", "--test", "model"],
        ],
    },
    Proof {
        name: "powercut",
        about: "the store on a disk that loses its power, its space, its writes",
        amount: Some(Amount { option: "--seeds", variable: "FARTHING_SEEDS", full: "10000" }),
        runs: &[&["--package", "store", "--test", "powercut"]],
    },
    Proof {
        name: "crashloop",
        about: "the process killed under load, against what its clients were told",
        amount: Some(Amount { option: "--kills", variable: "FARTHING_KILLS", full: "1000" }),
        runs: &[&["--package", "farthing-tests", "--test", "crashloop"]],
    },
    Proof {
        name: "sessionloop",
        about: "a session's stream of 2,000 tokens, a voucher for every hundred, killed at any point of it",
        amount: Some(Amount { option: "--kills", variable: "FARTHING_KILLS", full: "500" }),
        runs: &[&["--package", "farthing-tests", "--test", "mpp_session_kill"]],
    },
    Proof {
        name: "replay-storm",
        about: "one proof in 64 spellings at once, across kills, restarts and a restore",
        amount: Some(Amount { option: "--rounds", variable: "FARTHING_ROUNDS", full: "100" }),
        runs: &[&["--package", "farthing-tests", "--test", "replay_storm"]],
    },
    Proof {
        name: "tamper",
        about: "every entry of a real store changed in every way: fsck and verify must name it",
        amount: Some(Amount { option: "--calls", variable: "FARTHING_TAMPER", full: "24" }),
        runs: &[&["--package", "farthing-tests", "--test", "tamper"]],
    },
    Proof {
        name: "cancel-matrix",
        about: "the client gone and the upstream failed at every index of every kind of answer",
        amount: None,
        runs: &[&["--package", "farthing-tests", "--test", "cancel_matrix"]],
    },
];

/// Every interleaving, with atomics that the model checker schedules.
pub(crate) const LOOM: &[&str] = &["--package", "ledger", "--features", "loom", "--test", "loom"];

/// The proof of this name.
pub(crate) fn find(name: &str) -> Option<&'static Proof> {
    PROOFS.iter().find(|proof| proof.name == name)
}

/// Lines for the usage text.
pub(crate) fn usage() -> String {
    let mut text = String::new();
    for Proof { name, about, amount, .. } in &PROOFS {
        let option = amount.as_ref().map_or(String::new(), |Amount { option, full, .. }| {
            format!(" [{option} N]    {full} unless told")
        });
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {name}{option}\n          {about}");
    }
    text
}

impl Proof {
    /// Runs it. `None`: these are not its arguments.
    pub(crate) fn run(&self, args: &[String]) -> Option<Outcome> {
        let setting = match (&self.amount, args) {
            (None, []) => None,
            (Some(amount), []) => Some((amount.variable, amount.full)),
            (Some(amount), [option, number]) if *option == amount.option => {
                number.parse::<u64>().ok().filter(|number| *number > 0)?;
                Some((amount.variable, number.as_str()))
            }
            (None | Some(_), _) => return None,
        };
        let run = |arguments: &&[&str]| {
            let test = arguments.last().copied().unwrap_or_default();
            tests(&format!("{}: {test}", self.name), arguments, setting)
        };
        Some(self.runs.iter().map(run).fold(Outcome::default(), Outcome::plus))
    }
}

/// Tests in release, where they are fast, with what they print.
pub(crate) fn tests(name: &str, arguments: &[&str], setting: Option<(&str, &str)>) -> Outcome {
    let mut command = cargo(&["test", "--release", "--locked"]);
    command.args(arguments).args(["--", "--nocapture"]).envs(setting);
    counted(name, &mut command)
}

#[cfg(test)]
mod tests {
    use super::{PROOFS, find, usage};

    #[test]
    fn only_its_own_arguments_are_taken() {
        let run = |name: &str, args: &[&str]| {
            let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            find(name).map(|proof| proof.run(&args).is_some())
        };
        assert_eq!(run("no-such-proof", &[]), None);
        for wrong in
            [["--seeds", "10"].as_slice(), &["--kills"], &["--kills", "0"], &["--kills", "x"], &["10"]]
        {
            assert_eq!(run("crashloop", wrong), Some(false), "{wrong:?}");
        }
        assert_eq!(run("cancel-matrix", &["--rounds", "1"]), Some(false));
    }

    #[test]
    fn usage_names_each() {
        let text = usage();
        assert!(PROOFS.iter().all(|proof| text.contains(&format!("  {}", proof.name))), "{text}");
    }
}
