//! `store`, `tokens` and `receipts`: what lasts, and the keys of the gateway itself.

use std::path::PathBuf;

use ::store::{Durability, Exposure};

use super::secret::KeySource;
use super::section::{Context, Keys, Section};
use super::value;
use super::yaml::{Kind, Node};

/// The embedded store.
#[derive(Clone, Debug)]
pub struct Store {
    /// Its folder; default `farthing` under the XDG data folder.
    pub path: PathBuf,
    /// When charges are on disk: behind the answer under a cap, or before its last byte.
    pub durability: Durability,
    /// What a call owes that a crash has cut off.
    pub crash_charge: CrashCharge,
}

/// What a call owes that the upstream had accepted when the gateway died (LED-26).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CrashCharge {
    /// Nothing.
    #[default]
    None,
    /// Its input, estimated as for a client that left before the first token.
    InputOnly,
}

/// Keys that sign and check macaroons (SEC-51).
#[derive(Clone, Debug)]
pub struct Tokens {
    /// At least one that signs; epochs are unique and ascending.
    pub master_keys: Vec<MasterKey>,
    /// The same for L402 tokens alone; without it they have keys derived from those.
    pub l402_keys: Option<Vec<MasterKey>>,
}

/// Root key of a token = HMAC(master key of its epoch, identifier).
#[derive(Clone, Debug)]
pub struct MasterKey {
    /// Epoch named in a token's identifier.
    pub epoch: u16,
    /// The key.
    pub key: KeySource,
    /// Old tokens verify, new ones are signed by another epoch.
    pub verify_only: bool,
}

const STORE_KEYS: Keys = Keys::new(&["kind", "path", "durability", "exposure", "crash_charge"], &[]);
const EXPOSURE_KEYS: Keys = Keys::new(&["per_account", "total", "delay"], &[]);
const TOKEN_KEYS: Keys = Keys::secret(&["master_keys", "l402_keys"], &["holder"]);
const MASTER_KEYS: Keys = Keys::secret(&["epoch", "key", "verify_only"], &[]);
const RECEIPT_KEYS: Keys = Keys::secret(&["key"], &[]);

pub(super) fn read(top: &Section<'_>) -> Store {
    let section = top.section("store", STORE_KEYS);
    let path = section.as_ref().and_then(|section| section.value("path", value::some_text));
    if let Some(section) = &section {
        section.only("kind", "embedded");
    }
    let durability = section.as_ref().map_or(Durability::default(), read_durability);
    let crash_charge = section.as_ref().and_then(|section| read_crash_charge(section, durability));
    Store {
        path: path.map_or_else(|| default_path(top), |path| top.context.path(&path)),
        durability,
        crash_charge: crash_charge.unwrap_or_default(),
    }
}

fn read_crash_charge(store: &Section<'_>, durability: Durability) -> Option<CrashCharge> {
    let found = store.value("crash_charge", |text| match text {
        "none" => Ok(CrashCharge::None),
        "input_only" => Ok(CrashCharge::InputOnly),
        _ => Err(format!("\"{text}\" is neither none nor input_only")),
    })?;
    if durability != Durability::Sync {
        store.complain(
            "crash_charge",
            "store.crash_charge needs durability: sync: else no call is on disk before it ends",
        );
    }
    Some(found)
}

fn read_durability(store: &Section<'_>) -> Durability {
    let sync = store.value("durability", |text| match text {
        "group" => Ok(false),
        "sync" => Ok(true),
        _ => Err(format!("\"{text}\" is neither group nor sync")),
    });
    let caps = store.section("exposure", EXPOSURE_KEYS);
    if sync == Some(true) {
        if caps.is_some() {
            store.complain("exposure", "store.exposure has no effect with durability: sync");
        }
        return Durability::Sync;
    }
    let mut exposure = Exposure::default();
    if let Some(caps) = caps {
        exposure.per_account = caps.value("per_account", value::some_usd).unwrap_or(exposure.per_account);
        exposure.total = caps.value("total", value::some_usd).unwrap_or(exposure.total);
        exposure.delay = caps.value("delay", value::duration).unwrap_or(exposure.delay);
    }
    Durability::Capped(exposure)
}

/// `$XDG_DATA_HOME/farthing`, else `~/.local/share/farthing`.
fn default_path(top: &Section<'_>) -> PathBuf {
    let context = top.context;
    let absolute =
        |variable: &str| (context.env)(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
    data.map(|data| data.join("farthing")).unwrap_or_else(|| {
        top.complain("store", "store.path: neither XDG_DATA_HOME nor HOME is set; say where the store lives");
        PathBuf::new()
    })
}

pub(super) fn read_tokens(top: &Section<'_>, store: &Store) -> Tokens {
    let generated = || MasterKey {
        epoch: 1,
        key: KeySource::Generated(store.path.join("master-1.key")),
        verify_only: false,
    };
    let section = top.section("tokens", TOKEN_KEYS);
    let written = |list| section.as_ref().and_then(|section| read_master_keys(section, list));
    Tokens {
        master_keys: written("master_keys").unwrap_or_else(|| vec![generated()]),
        l402_keys: written("l402_keys"),
    }
}

fn read_master_keys(tokens: &Section<'_>, list: &str) -> Option<Vec<MasterKey>> {
    let node = tokens.get(list)?;
    let Kind::List(items) = &node.kind else {
        node.hide_scalars(&tokens.context.report);
        tokens.complain(list, format!("tokens.{list} must be a list, not {}", node.what()));
        return None;
    };
    let read = |(at, item)| read_master_key(tokens.context, list, at, item);
    let mut keys: Vec<MasterKey> = items.iter().enumerate().filter_map(read).collect();
    if keys.len() < items.len() {
        return None;
    }
    keys.sort_by_key(|key| key.epoch);
    for pair in keys.windows(2) {
        if let [first, second] = pair
            && first.epoch == second.epoch
        {
            tokens.complain(list, format!("tokens.{list}: epoch {} stands twice", first.epoch));
        }
    }
    if keys.iter().all(|key| key.verify_only) {
        tokens.complain(list, format!("tokens.{list}: no key may sign; one must not be verify_only"));
    }
    Some(keys)
}

fn read_master_key<'a>(context: &'a Context<'a>, list: &str, at: usize, item: &'a Node) -> Option<MasterKey> {
    let path = format!("tokens.{list}[{at}]");
    let section = Section::open(context, &path, item, MASTER_KEYS)?;
    let epoch = section.required("epoch", |text| {
        let number = value::count(text)?;
        u16::try_from(number).map_err(|_| format!("\"{text}\" is more than 65535"))
    });
    let verify_only = section.value("verify_only", value::flag).unwrap_or(false);
    let Some(key) = section.get("key") else {
        section.missing(format!("{path} needs \"key\""));
        return None;
    };
    let key = context.secret32(&section.path_of("key"), key)?;
    Some(MasterKey { epoch: epoch?, key: KeySource::Given(key), verify_only })
}

pub(super) fn read_receipt_key(top: &Section<'_>, store: &Store) -> KeySource {
    let generated = || KeySource::Generated(store.path.join("receipt.key"));
    let Some(section) = top.section("receipts", RECEIPT_KEYS) else { return generated() };
    let Some(node) = section.get("key") else { return generated() };
    section.context.secret32("receipts.key", node).map_or_else(generated, KeySource::Given)
}
