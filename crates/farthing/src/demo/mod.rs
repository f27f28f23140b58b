//! `farthing demo`: the whole exchange on one machine, offline: a pretend upstream, the gateway, and an
//! agent that pays with real signatures and play money.

mod play;
mod show;
mod stage;

use std::process::ExitCode;

use stage::Stage;

/// `farthing demo`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Stay up afterwards, and print lines to copy for curl and for an OpenAI SDK
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    crate::block_on(async {
        let stage = match Stage::set(args.keep).await {
            Ok(stage) => stage,
            Err(error) => return crate::complain(&error),
        };
        let played = play::play(&stage).await;
        let code = match played {
            Ok(key) => {
                if args.keep {
                    show::keep(&stage, &key);
                    stage.until_stopped().await;
                }
                ExitCode::SUCCESS
            }
            Err(error) => crate::complain(&error),
        };
        stage.strike().await;
        code
    })
}
