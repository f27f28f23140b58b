//! `farthing serve`: the gateway in the foreground.

use std::path::PathBuf;
use std::process::ExitCode;

use gateway::config::{self, Config};
use tracing_subscriber::EnvFilter;

/// `farthing serve`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Configuration file.
    #[arg(long, short, default_value = "farthing.yaml")]
    config: PathBuf,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let config = match config::load(&args.config) {
        Ok(config) => config,
        Err(findings) => {
            eprintln!("{findings}");
            return ExitCode::from(crate::CONFIG_INVALID);
        }
    };
    start_log(&config);
    // Read again under the very name: relative paths in it stay what they were, and a link may point elsewhere by then.
    match gateway::server::run(config, Some(args.config.clone()), |_| {}) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => crate::complain(&error.to_string()),
    }
}

/// Logs go to stderr: pretty for a person, JSON for everything else. `RUST_LOG` chooses what.
pub(crate) fn start_log(config: &Config) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if config.observe.log.is_pretty() {
        builder.compact().init();
    } else {
        builder.json().with_current_span(true).with_span_list(false).init();
    }
}
