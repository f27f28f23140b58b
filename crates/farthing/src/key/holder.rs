//! `farthing key holder`: the key pair that requests are signed with, for a credit key that demands it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use std::time::{SystemTime, UNIX_EPOCH};

use client::{Folder, IdentityKey};
use proof::identity::Origin;
use rails::directory::{MEDIA_TYPE, PATH};
use serde_json::{Value, json};

/// How long a directory is good: the longest that verifiers here take.
const LIFE_S: u64 = 24 * 3600;

/// `farthing key holder ...`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum HolderCommand {
    /// Make a key pair, in a file that only you can read: farthing key holder new
    New(HolderArgs),
    /// Show the public half: farthing key holder show
    Show(HolderArgs),
    /// Make the signed key directory of an agent, for its web server: farthing key holder directory agent.example
    ///
    /// The answer at /.well-known/http-message-signatures-directory has to have these fields and this body. It is good for
    /// a day: make it anew before that.
    Directory {
        /// Host of the directory, with its port where that is not 443
        authority: String,
        #[command(flatten)]
        args: HolderArgs,
    },
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
        HolderCommand::Directory { authority, args } => args.file().and_then(|file| {
            let key = IdentityKey::load(&file).map_err(|error| error.to_string())?;
            directory(&key, authority)
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

/// What an agent's web server answers with (IDN-16).
fn directory(key: &IdentityKey, authority: &str) -> Result<Value, String> {
    let is_named = Origin::parse(&format!("https://{authority}"))
        .is_some_and(|origin| origin.as_str() == format!("https://{authority}"));
    if !is_named {
        return Err(format!("{authority}: write the host as its visitors do, like agent.example"));
    }
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?.as_secs();
    let made = key.directory(authority, now_s, now_s.saturating_add(LIFE_S));
    let made = made.ok_or("the clock is out of range")?;
    Ok(json!({
        "path": PATH,
        "headers": {
            "content-type": MEDIA_TYPE, "cache-control": "public, max-age=300",
            "signature-input": made.input, "signature": made.signature,
        },
        "body": made.body,
        "expires": now_s.saturating_add(LIFE_S),
    }))
}

fn document(file: &Path, key: &IdentityKey) -> Value {
    json!({"file": file.display().to_string(), "holder": key.holder(), "thumbprint": key.thumbprint()})
}
