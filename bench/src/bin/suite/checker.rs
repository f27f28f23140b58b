//! What stands behind nginx with `auth_request`: the same check of a key and the same debit as ours, by the same code, in a
//! process of its own. It keeps nothing on disk and meters nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::header::AUTHORIZATION;
use hyper::{Request, Response, StatusCode};
use ledger::{AccountId, AccountRef, Book, Reserve};
use money::{Amount, Asset};
use proof::{EpochState, MasterKey, MasterKeys, credit_key};
use wire::credit_key::{CreditKey, Mode};

use crate::serve::{Answer, Speaks, serve};

/// What one call costs.
const PRICE: Amount = Amount::from_units(1_000_000);
/// Threads, as the gateway has.
const THREADS: usize = 2;

fn masters() -> Result<MasterKeys, String> {
    let master = MasterKey { epoch: 1, state: EpochState::Mint, secret: [0x42; 32].into() };
    MasterKeys::new([master]).map_err(|error| error.to_string())
}

/// A key that it takes.
pub(crate) fn key() -> Result<String, String> {
    let masters = masters()?;
    let caveats = ["expires=1900000000".to_owned()];
    credit_key::mint(&masters, Mode::Test, [1; 16], [2; 16], &caveats).map_err(|error| error.to_string())
}

struct Checker {
    masters: MasterKeys,
    book: Book,
    /// Keys that were checked before, with what they draw on.
    known: RwLock<HashMap<String, Known>>,
}

type Known = (AccountRef, Option<u64>);

/// Serves until the process ends: 200 or 401, without a body.
pub(crate) fn be(addresses: [SocketAddr; THREADS]) -> Result<(), String> {
    let checker = Checker { masters: masters()?, book: Book::default(), known: RwLock::default() };
    let checker = Arc::new(checker);
    let threads = addresses.map(|address| {
        let checker = Arc::clone(&checker);
        thread::spawn(move || {
            let checker = Rc::new(checker);
            serve(address, Speaks::default(), move |request| {
                let checker = Rc::clone(&checker);
                async move { answer(&checker, &request) }
            });
        })
    });
    for thread in threads {
        thread.join().map_err(|_| "a thread of the checker ended".to_owned())?;
    }
    Ok(())
}

fn answer<B>(checker: &Checker, request: &Request<B>) -> Response<Answer> {
    let key =
        request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let mut response = Answer::whole("text/plain", "");
    if key.and_then(|key| checker.charge(key)).is_none() {
        *response.status_mut() = StatusCode::UNAUTHORIZED;
    }
    response
}

impl Checker {
    fn charge(&self, key: &str) -> Option<()> {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let known = self.known.read().ok()?.get(key).cloned();
        let (account, expires) = match known {
            Some(known) => known,
            None => self.check(key, now_s)?,
        };
        if expires.is_some_and(|until| now_s >= until) {
            return None;
        }
        let wanted = Reserve { account: &account, budgets: &[], amount: PRICE, beyond: Amount::ZERO };
        self.book.reserve(wanted).ok()?.finish(PRICE).map(drop)
    }

    fn check(&self, key: &str, now_s: u64) -> Option<Known> {
        let parsed = CreditKey::parse(key).ok()?;
        let verified = credit_key::verify(&self.masters, Mode::Test, &parsed, now_s).ok()?;
        let account =
            self.book.deposit(AccountId(verified.account), Asset::Test, Amount::from_units(i64::MAX / 2));
        let known = (account, verified.expires);
        self.known.write().ok()?.insert(key.to_owned(), known.clone());
        Some(known)
    }
}
