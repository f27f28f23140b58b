//! `cashu`: ecash that the gateway holds.

use std::process::ExitCode;

use gateway::admin::Command;

use crate::operator::{Common, carry_out};

/// `farthing cashu ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum CashuCommand {
    /// Show what is held of each mint, and what was taken out.
    Show,
    /// Take out what is held, as tokens for a wallet of yours: farthing cashu export > tokens.json
    ///
    /// Whoever reads a token has the money. It is marked as taken before it is shown; `--again` shows it once more.
    Export {
        /// Of this mint; needed where ecash of several is held.
        #[arg(long, value_name = "URL")]
        mint: Option<String>,
        /// Show an export again, by its id from `cashu show`.
        #[arg(long, value_name = "EXPORT", conflicts_with = "mint")]
        again: Option<String>,
    },
}

pub(crate) fn cashu(command: CashuCommand, common: &Common) -> ExitCode {
    let command = match command {
        CashuCommand::Show => Command::CashuShow,
        CashuCommand::Export { mint, again } => Command::CashuExport { mint, again },
    };
    carry_out(&command, common)
}
