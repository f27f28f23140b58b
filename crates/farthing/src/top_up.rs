//! `topup` and `code`: balance that is sold by order, what of it goes back, and balance for codes.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use gateway::admin::Command;

use crate::key::time;
use crate::operator::{Common, carry_out, spaced};

/// `farthing topup ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum TopUpCommand {
    /// Show the orders, those that are open or wait for you first, and payments that were not what was asked for.
    List,
    /// Show the refunds that holders ask for, those that wait for your word first.
    Refunds,
    /// Agree to a refund: its rail is asked to move the money, until it says whether it has.
    Approve {
        /// Refund, 32 hex digits.
        refund: String,
    },
    /// Do not agree: the holder has his balance back.
    Reject {
        /// Refund, 32 hex digits.
        refund: String,
    },
}

/// `farthing code ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum CodeCommand {
    /// Make codes, each good for so much balance, once: farthing code new 5usd --count 20 > codes.json
    ///
    /// Whoever has a code has its balance. They are shown this once and stored nowhere.
    New {
        /// What each is good for: 5usd
        amount: String,
        /// How many.
        #[arg(long, default_value_t = 1)]
        count: u32,
        /// What you call them.
        #[arg(long, default_value = "")]
        label: String,
        /// End of their life: 12h, 30d from now, or @1900000000
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
    },
    /// Show the codes that were made, by the beginning of their hashes, and who has called them up.
    List,
}

pub(crate) fn top_up(command: TopUpCommand, common: &Common) -> ExitCode {
    let command = match command {
        TopUpCommand::List => Command::TopUpList,
        TopUpCommand::Refunds => Command::TopUpRefunds,
        TopUpCommand::Approve { refund } => Command::TopUpDecide { refund, approve: true },
        TopUpCommand::Reject { refund } => Command::TopUpDecide { refund, approve: false },
    };
    carry_out(&command, common)
}

pub(crate) fn code(command: CodeCommand, common: &Common) -> ExitCode {
    let command = match command {
        CodeCommand::New { amount, count, label, expires } => {
            let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            match expires.map(|text| time(&text, now_s)).transpose() {
                Ok(expires_s) => Command::CodeNew { credit: spaced(&amount), count, label, expires_s },
                Err(problem) => return crate::complain(&problem),
            }
        }
        CodeCommand::List => Command::CodeList,
    };
    carry_out(&command, common)
}
