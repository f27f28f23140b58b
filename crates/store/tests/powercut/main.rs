//! The store on a medium that fails: power cuts at random, errors at every operation (ledger.md 6.4, T4).
//!
//! `FARTHING_SEEDS` sets how many disks lose their power; from 1,000 on, errors are tried at every operation
//! of their script and not only at some. Each test prints one line of figures.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

mod cuts;
mod faults;
mod full;
mod log;
mod rolls;
#[path = "../support/mod.rs"]
mod support;

use std::sync::{Arc, Mutex};

use store::{Options, Store};
use support::business::{Business, History};
use support::dice::Dice;
use support::platter::Platter;

/// The seeds of a short run.
const SEEDS: u64 = 200;

fn seeds() -> u64 {
    Dice::from_env("FARTHING_SEEDS", SEEDS)
}

/// A process on this disk, if the store opens.
fn business(platter: &Platter, history: &Arc<Mutex<History>>, options: Options) -> Option<Business> {
    let store = Store::open_media(platter.media(), options).ok()?;
    Business::open(store, Arc::clone(history)).ok()
}

fn work(business: &Business, dice: &mut Dice, steps: u64, at_once: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(business.work(dice, steps, at_once));
}
