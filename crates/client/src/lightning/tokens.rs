//! L402 tokens that were paid for (`tokens.json`), by origin. Token and preimage are the money: mode 0600, shown to
//! nobody, sent to the origin they came from and to no other.
//!
//! What a token opens is its seller's to say, and most do not: one that was bought for a path, or has served there, is
//! tried there first, else the newest of the origin. Where it was refused it is not tried again.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use http::header::AUTHORIZATION;
use http::{HeaderValue, StatusCode};
use money::Amount;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wire::hex;
use wire::l402::{Offered, PaymentHash, Preimage, Scheme};
use zeroize::Zeroize as _;

use crate::call::Credential;
use crate::folder::{self, FileError};

const VERSION: u8 = 1;
/// A longer path is known by its digest.
const PATH_BYTES_MAX: usize = 256;
/// Most paths that a token is known to open, and most where it was refused. One that was refused more often is good for
/// its own paths only.
const PATHS_MAX: usize = 32;
/// What is kept at most; the oldest go first.
const TOKENS_MAX: usize = 512;
const BYTES_MAX: usize = 512 * 1024;

/// A token that was paid for. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    /// The payment hash.
    name: String,
    scheme: String,
    token: String,
    preimage: String,
    /// Unix seconds.
    bought_at: u64,
    /// Nano-dollars.
    worth: i64,
    /// Calls have receipts, so what they take is known call by call; else all of it counted when it was paid.
    metered: bool,
    /// Where it was bought for, or has served.
    paths: Vec<String>,
    /// Where its seller did not want it.
    refused: Vec<String>,
}

/// `tokens.json`
#[derive(Default, Serialize, Deserialize)]
struct Content {
    #[serde(default)]
    version: u8,
    /// By origin, oldest first.
    #[serde(default)]
    tokens: BTreeMap<String, Vec<Token>>,
}

impl Token {
    pub(crate) fn new(
        offered: &Offered,
        preimage: &Preimage,
        worth: Amount,
        metered: bool,
        bought_at: u64,
    ) -> Self {
        Self {
            name: preimage.payment_hash().to_string(),
            scheme: offered.scheme().name().to_owned(),
            token: offered.token().to_owned(),
            preimage: hex::encode(preimage.as_bytes()),
            bought_at,
            worth: worth.units(),
            metered,
            paths: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// The payment hash, which is no secret.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The most that a call can take of it and that has not counted yet.
    pub(crate) const fn uncounted(&self) -> Amount {
        if self.metered { Amount::from_units(self.worth) } else { Amount::ZERO }
    }

    /// What is sent; `None` if the file holds something that is no token.
    pub(crate) fn credential(&self) -> Option<Credential> {
        let preimage = Preimage::parse(&self.preimage).ok()?;
        let scheme = Scheme::parse(&self.scheme)?;
        let genuine = PaymentHash::parse(&self.name) == Ok(preimage.payment_hash());
        // The invoice is spent; any text stands for it.
        let offered = Offered::new(scheme, &self.token, "spent").ok().filter(|_| genuine)?;
        credential(&offered, &preimage)
    }

    fn opens(&self, path: &str) -> bool {
        self.paths.iter().any(|known| known == path)
    }

    fn may_open(&self, path: &str) -> bool {
        self.refused.len() < PATHS_MAX && !self.refused.iter().any(|known| known == path)
    }

    /// About how much of the file it takes.
    fn weight(&self) -> usize {
        let paths = self.paths.iter().chain(&self.refused).map(|path| path.len() + 16);
        self.token.len() + paths.sum::<usize>() + 512
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.token.zeroize();
        self.preimage.zeroize();
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, opens {:?})", self.name, self.paths)
    }
}

/// The header that shows a payment; `None` if it cannot stand in one.
pub(super) fn credential(offered: &Offered, preimage: &Preimage) -> Option<Credential> {
    let mut value = HeaderValue::try_from(offered.credential(preimage)).ok()?;
    value.set_sensitive(true);
    Some((AUTHORIZATION, value))
}

/// The token to try for a request: one that opens its path, else the newest that may.
pub(crate) fn find(file: &Path, origin: &str, path: &str) -> Result<Option<Token>, FileError> {
    let content: Content = folder::load(file)?;
    let path = known_as(path);
    let Some(tokens) = content.tokens.get(origin) else { return Ok(None) };
    let opens = tokens.iter().rev().find(|token| token.opens(&path));
    Ok(opens.or_else(|| tokens.iter().rev().find(|token| token.may_open(&path))).cloned())
}

/// Keeps a token that was bought for a path.
pub(crate) fn save(file: &Path, origin: &str, path: &str, mut token: Token) -> Result<(), FileError> {
    token.paths.push(known_as(path));
    folder::update(file, |content: &mut Content| {
        content.version = VERSION;
        let tokens = content.tokens.entry(origin.to_owned()).or_default();
        tokens.retain(|known| known.name != token.name);
        tokens.push(token);
        content.shrink();
    })
}

/// A token has served at a path.
pub(crate) fn served(file: &Path, origin: &str, path: &str, token: &Token) -> Result<(), FileError> {
    let path = known_as(path);
    if token.opens(&path) {
        return Ok(());
    }
    change(file, origin, &token.name, |token| {
        if token.paths.len() < PATHS_MAX {
            token.paths.push(path);
        }
        true
    })
}

/// A token was refused at a path. 402 where it had opened says that it is used up: it is forgotten. Anything else says
/// that it is none for this path.
pub(crate) fn refused(
    file: &Path,
    origin: &str,
    path: &str,
    token: &Token,
    status: StatusCode,
) -> Result<(), FileError> {
    let path = known_as(path);
    change(file, origin, &token.name, |token| {
        if token.opens(&path) && status == StatusCode::PAYMENT_REQUIRED {
            return false;
        }
        token.paths.retain(|known| *known != path);
        if token.refused.len() < PATHS_MAX {
            token.refused.push(path);
        }
        true
    })
}

/// Changes one token; `false` forgets it.
fn change(
    file: &Path,
    origin: &str,
    name: &str,
    change: impl FnOnce(&mut Token) -> bool,
) -> Result<(), FileError> {
    folder::update(file, |content: &mut Content| {
        content.version = VERSION;
        let Some(tokens) = content.tokens.get_mut(origin) else { return };
        let Some(place) = tokens.iter().position(|token| token.name == name) else { return };
        if !change(&mut tokens[place]) {
            tokens.remove(place);
        }
        content.shrink();
    })
}

impl Content {
    /// Forgets the oldest where there are too many.
    fn shrink(&mut self) {
        loop {
            self.tokens.retain(|_, tokens| !tokens.is_empty());
            let all = || self.tokens.values().flatten();
            if all().count() <= TOKENS_MAX && all().map(Token::weight).sum::<usize>() <= BYTES_MAX {
                return;
            }
            let oldest =
                self.tokens.values_mut().min_by_key(|tokens| tokens.first().map(|token| token.bought_at));
            match oldest {
                Some(tokens) => drop(tokens.remove(0)),
                None => return,
            }
        }
    }
}

/// What a path is kept as: without its query, and not endless.
fn known_as(path: &str) -> String {
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    if path.len() <= PATH_BYTES_MAX {
        return path.to_owned();
    }
    format!("sha256:{}", hex::encode(&Sha256::digest(path)))
}

#[cfg(test)]
mod tests {
    use super::{BYTES_MAX, PATHS_MAX, Token, find, refused, save, served};
    use http::StatusCode;
    use money::Amount;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use wire::l402::offered::TOKEN_BYTES_MAX;
    use wire::l402::{Offered, Preimage, Scheme};

    const HERE: &str = "https://a.example";

    fn token(seed: u8, text: &str) -> Token {
        let offered = Offered::new(Scheme::Lsat, text, "lnbc1").unwrap();
        Token::new(&offered, &Preimage::new([seed; 32]), Amount::from_units(5), true, u64::from(seed))
    }

    fn found(file: &Path, origin: &str, path: &str) -> Option<String> {
        let token = find(file, origin, path).unwrap()?;
        let (_, value) = token.credential().unwrap();
        Some(value.to_str().unwrap().split_once(':').unwrap().0.to_owned())
    }

    #[test]
    fn l402_94_a_token_is_tried_where_it_opens_and_else_the_newest() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("tokens.json");
        assert_eq!(found(&file, HERE, "/a"), None);
        save(&file, HERE, "/a?q=1", token(1, "one")).unwrap();
        save(&file, HERE, "/b", token(2, "two")).unwrap();
        let (one, two) = (Some("LSAT one".to_owned()), Some("LSAT two".to_owned()));
        assert_eq!(found(&file, HERE, "/a?q=2"), one);
        assert_eq!(found(&file, HERE, "/b"), two);
        assert_eq!(found(&file, HERE, "/c"), two, "the newest");
        for elsewhere in
            ["https://b.example", "http://a.example", "https://a.example:444", "https://a.example.b"]
        {
            assert_eq!(found(&file, elsewhere, "/a"), None, "{elsewhere}");
        }
        served(&file, HERE, "/c", &token(1, "one")).unwrap();
        assert_eq!(found(&file, HERE, "/c"), one, "the one that has served there");
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn l402_94_402_is_used_up_and_403_is_not_for_this_path() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("tokens.json");
        save(&file, HERE, "/a", token(1, "one")).unwrap();
        let one = token(1, "one");
        let (pay, no) = (StatusCode::PAYMENT_REQUIRED, StatusCode::FORBIDDEN);
        refused(&file, HERE, "/b", &one, pay).unwrap();
        assert_eq!(found(&file, HERE, "/b"), None, "402 elsewhere says nothing of its own path");
        assert!(found(&file, HERE, "/a").is_some());
        refused(&file, HERE, "/a", &one, no).unwrap();
        assert_eq!(found(&file, HERE, "/a"), None);
        assert!(found(&file, HERE, "/c").is_some(), "403 says nothing of other paths");
        served(&file, HERE, "/c", &one).unwrap();
        refused(&file, HERE, "/c", &one, pay).unwrap();
        assert_eq!(found(&file, HERE, "/d"), None, "used up");
        assert!(!std::fs::read_to_string(&file).unwrap().contains("one"));
        save(&file, HERE, "/a", token(2, "two")).unwrap();
        for n in 0..PATHS_MAX {
            refused(&file, HERE, &format!("/{n}"), &token(2, "two"), no).unwrap();
        }
        assert_eq!(found(&file, HERE, "/new"), None, "not tried for ever");
        assert!(found(&file, HERE, "/a").is_some());
    }

    #[test]
    fn l402_94_the_oldest_go_first_and_the_file_stays_readable() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("tokens.json");
        let count = u8::try_from(BYTES_MAX / TOKEN_BYTES_MAX).unwrap() + 8;
        let path = format!("/{}", "p".repeat(8000));
        for seed in 1..=count {
            let origin = format!("https://{seed}.example");
            save(&file, &origin, &path, token(seed, &"t".repeat(TOKEN_BYTES_MAX))).unwrap();
        }
        assert!(std::fs::metadata(&file).unwrap().len() < 2 * u64::try_from(BYTES_MAX).unwrap());
        assert!(found(&file, &format!("https://{count}.example"), &path).is_some());
        assert_eq!(found(&file, "https://1.example", &path), None);
    }

    #[test]
    fn l402_95_what_pays_is_not_shown_and_a_damaged_one_not_sent() {
        let token = token(0x5a, "secret-token");
        let shown = format!("{token:?}");
        assert!(!shown.contains("secret-token") && !shown.contains("5a5a"));
        let mut damaged = token.clone();
        damaged.preimage = "5b".repeat(32);
        assert!(token.credential().is_some() && damaged.credential().is_none());
    }
}
