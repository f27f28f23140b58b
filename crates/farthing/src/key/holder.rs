//! `farthing key holder`: the key pair that requests are signed with, for a credit key that demands it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use client::{Folder, IdentityKey};
use serde_json::{Value, json};

/// `farthing key holder ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum HolderCommand {
    /// Make a key pair, in a file that only you can read: farthing key holder new
    New(HolderArgs),
    /// Show the public half: farthing key holder show
    Show(HolderArgs),
}

/// Which key pair.
#[derive(Debug, clap::Args)]
pub(crate) struct HolderArgs {
    /// File of the key pair [default: ~/.config/farthing/identity.json]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl HolderArgs {
    fn file(&self) -> Result<PathBuf, String> {
        let default = || Folder::of_user().map(|folder| folder.identity_file());
        self.file
            .clone()
            .or_else(default)
            .ok_or_else(|| "no home directory: name a file with --file".to_owned())
    }
}

pub(super) fn run(command: &HolderCommand, json: bool) -> ExitCode {
    let done = match command {
        HolderCommand::New(args) => args.file().and_then(|file| {
            let key = IdentityKey::create(&file).map_err(|error| error.to_string())?;
            Ok(document(&file, &key))
        }),
        HolderCommand::Show(args) => args.file().and_then(|file| {
            let key = IdentityKey::load(&file).map_err(|error| error.to_string())?;
            Ok(document(&file, &key))
        }),
    };
    match done {
        Ok(document) => {
            crate::table::show(&document, json);
            ExitCode::SUCCESS
        }
        Err(error) => crate::complain(&error),
    }
}

fn document(file: &Path, key: &IdentityKey) -> Value {
    json!({"file": file.display().to_string(), "holder": key.holder(), "thumbprint": key.thumbprint()})
}
