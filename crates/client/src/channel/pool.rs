//! The channels of one folder, and which of them pays a call.
//!
//! A channel serves one call at a time (X402-24), so calls at the same time take different channels. A channel is
//! held under a lock until the head of the answer is here; one whose call has no known end is held by that call's
//! pending payment.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wire::x402::batch::{ChannelState, ResponseExtra};

use super::{Channel, Correction, Draw, Drawn, Kept, VERSION, deposit_size};
use crate::folder::{self, FileError, Folder};
use crate::offer::{ChannelTerms, Terms};
use crate::payment::PaymentError;
use crate::pending;
use crate::{Request, Wallet};
use proof::x402_batch::payer::Contradiction;

/// Most channels with one seller: as many calls at the same time, and as many deposits.
const POOL_MAX: usize = 8;
/// Most files looked at.
const FILES_MAX: usize = 1_000;
/// How long another command may look at a channel whose payment we send again.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// What paying an offer from a channel takes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A channel is open and has enough.
    Open,
    /// So much, in atomic units, goes into a channel first.
    Deposit(u128),
    /// The least that helps, in atomic units, is more than may be deposited.
    TooDear(u128),
    /// All channels with this seller have calls on their way.
    Busy,
    /// The wallet has no key for the network.
    NoKey,
    /// Neither the offer nor a node names a blockhash.
    NoBlockhash,
}

/// A channel under its lock, kept whole whenever it changes.
#[derive(Debug)]
pub(crate) struct Held {
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
    pub(crate) channel: Channel,
}

impl Held {
    /// Signs what pays a call, and keeps the channel. Only then may it be sent.
    pub(crate) fn draw(&mut self, draw: &Draw<'_>, wallet: &Wallet) -> Kept<Result<Drawn, PaymentError>> {
        match self.channel.draw(draw, wallet) {
            Ok(drawn) => self.save().map(|()| Ok(drawn)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// What the result of a call says, if it adds up.
    pub(crate) fn settle(
        &mut self,
        amount: u128,
        deposited: u128,
        told: &ResponseExtra,
    ) -> Kept<Result<u128, Contradiction>> {
        let charged = self.channel.settle(amount, deposited, told);
        self.save().map(|()| charged)
    }

    /// What a corrective challenge says, if our own signature bears it out.
    pub(crate) fn correct(
        &mut self,
        told: &ChannelState,
        deposit: u128,
    ) -> Kept<Result<Correction, Contradiction>> {
        let corrected = self.channel.correct(told, deposit);
        self.save().map(|()| corrected)
    }

    /// What was signed never left. It stays a promise on the paper, which the next one contains.
    pub(crate) fn release(&mut self) -> Kept<()> {
        self.channel.in_flight = None;
        self.save()
    }

    /// The voucher was refused, says the seller. It stays a promise that he holds, which the next one contains.
    pub(crate) fn refuse(&mut self) -> Kept<()> {
        self.channel.refused = self.channel.forget_call();
        self.save()
    }

    /// So much was given back, says the seller, and so the channel stands.
    pub(crate) fn refunded(&mut self, amount: u128, told: Option<&ChannelState>) -> Kept<()> {
        self.channel.refunded(amount, told);
        self.save()
    }

    fn save(&self) -> Kept<()> {
        let bytes = serde_json::to_vec_pretty(&self.channel).map_err(|_| folder::malformed(&self.path))?;
        folder::replace(&self.path, &bytes)
    }
}

/// All channels that are kept.
///
/// # Errors
/// The folder, or a file in it, cannot be read.
pub fn list(folder: &Folder) -> Result<Vec<Channel>, FileError> {
    let paths = paths(&folder.channels_folder())?;
    Ok(paths.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// The channel of this name.
///
/// # Errors
/// As [`list`].
pub fn find(folder: &Folder, name: &str) -> Result<Option<Channel>, FileError> {
    Ok(list(folder)?.into_iter().find(|channel| channel.name() == name))
}

/// Where paying an offer from a channel stands, without holding one. `most` is what may be deposited.
pub(crate) fn standing(
    folder: &Folder,
    request: &Request,
    (terms, channel): (&Terms, &ChannelTerms),
    wallet: &Wallet,
    most: u128,
) -> Kept<Standing> {
    let origin = &request.target.origin_text();
    let mut count = 0_usize;
    let mut least: Option<u128> = None;
    for path in paths(&folder.channels_folder())? {
        let Some(kept) = read(&path)?.filter(|kept| kept.serves(origin, channel, wallet)) else { continue };
        if kept.stopped.is_some() {
            continue;
        }
        count += 1;
        let Some(held) = lock(&path)?.map(|lock| reopen(&path, lock, folder)).transpose()?.flatten() else {
            continue;
        };
        if held.channel.would_repeat(terms.atomic, request) {
            continue;
        }
        let missing = held.channel.missing(terms.atomic);
        if missing == 0 {
            return Ok(Standing::Open);
        }
        least = Some(least.map_or(missing, |least| least.min(missing)));
    }
    let Some(missing) = least.or_else(|| (count < POOL_MAX).then_some(terms.atomic)) else {
        return Ok(Standing::Busy);
    };
    Ok(match deposit_size(channel, terms.atomic, missing, most) {
        Some(deposit) => Standing::Deposit(deposit),
        None => Standing::TooDear(missing.max(channel.min_deposit.unwrap_or_default())),
    })
}

/// Holds the channel that pays a call: one that has enough, else the one that misses least, else a new one. `None`
/// if that takes a deposit other than `deposit`: another call was quicker.
pub(crate) fn hold(
    folder: &Folder,
    request: &Request,
    (terms, channel): (&Terms, &ChannelTerms),
    wallet: &Wallet,
    deposit: u128,
    salt: [u8; 32],
) -> Kept<Option<Held>> {
    let origin = &request.target.origin_text();
    let fits = |held: &Held| {
        let missing = held.channel.missing(terms.atomic);
        let enough = if deposit == 0 { missing == 0 } else { 0 < missing && missing <= deposit };
        enough && !held.channel.would_repeat(terms.atomic, request)
    };
    let mut count = 0_usize;
    for path in paths(&folder.channels_folder())? {
        let Some(kept) = read(&path)?.filter(|kept| kept.serves(origin, channel, wallet)) else { continue };
        if kept.stopped.is_some() {
            continue;
        }
        count += 1;
        let Some(lock) = lock(&path)? else { continue };
        if let Some(held) = reopen(&path, lock, folder)?.filter(fits) {
            return Ok(Some(held));
        }
    }
    if deposit == 0 || count >= POOL_MAX || deposit < terms.atomic {
        return Ok(None);
    }
    let fresh = Channel::fresh(origin, channel, wallet, salt);
    let path = path_of(folder, &fresh.name());
    let Some(lock) = lock(&path)? else { return Ok(None) };
    Ok(Some(Held { path, _lock: lock, channel: fresh }))
}

/// Holds the channel that a pending payment draws on, or one that a person names. `None` if it is not there, or stays
/// in use.
pub(crate) async fn hold_named(folder: &Folder, name: &str) -> Kept<Option<Held>> {
    let path = path_of(folder, name);
    for _ in 0..LOCK_TRIES {
        if let Some(lock) = lock(&path)? {
            let channel = read(&path)?;
            return Ok(channel.map(|channel| Held { path, _lock: lock, channel }));
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
    Ok(None)
}

/// A channel that nobody holds, unless a payment that was left behind does.
fn reopen(path: &Path, lock: File, folder: &Folder) -> Kept<Option<Held>> {
    let Some(mut channel) = read(path)? else { return Ok(None) };
    if let Some(flight) = &channel.in_flight {
        if pending::is_left(&folder.pending_folder(), &flight.request, &flight.ticket)? {
            return Ok(None);
        }
        // It was never sent, or its end could not be noted.
        channel.forget_call();
    }
    Ok(Some(Held { path: path.to_owned(), _lock: lock, channel }))
}

fn read(path: &Path) -> Kept<Option<Channel>> {
    let Some(bytes) = folder::read(path)? else { return Ok(None) };
    let channel: Channel = serde_json::from_slice(&bytes).map_err(|_| folder::malformed(path))?;
    // A file under another name than its channel's was not written by us.
    let named = path.file_stem().and_then(|stem| stem.to_str()) == Some(channel.name().as_str());
    if channel.version != VERSION || !named { Err(folder::malformed(path)) } else { Ok(Some(channel)) }
}

/// Takes the lock of a channel; `None` if somebody has it. The lock's file stays: the channel's own is replaced.
fn lock(path: &Path) -> Kept<Option<File>> {
    let path = path.with_extension("lock");
    folder::make_folder(&path)?;
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(&path).map_err(folder::failed(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(folder::failed(&path)(error)),
    }
}

fn path_of(folder: &Folder, name: &str) -> PathBuf {
    folder.channels_folder().join(format!("{name}.json"))
}

/// The channels' files, in the order of their names, so that every command looks at them alike.
fn paths(folder: &Path) -> Kept<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(folder::failed(folder))?,
    };
    let json = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json");
    let mut paths: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(json).take(FILES_MAX).collect();
    paths.sort();
    Ok(paths)
}
