//! Price lists of other people: read from a file, or fetched once and kept. What is pinned is taken as it was looked
//! at, or not at all (MTR-52).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use rails::dial::Dialer;
use rails::{Exchange, ExchangeError};
use sha2::{Digest as _, Sha256};

use crate::config::{BaseUrl, Place, PriceSource};
use crate::snapshot::origin;

/// Until a connection stands, and until the whole list is here.
const CONNECT_MAX: Duration = Duration::from_secs(10);
const FETCH_MAX: Duration = Duration::from_secs(60);

/// Why a price list cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueFault {
    /// The file, or the one that keeps what was fetched.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// More than is ever read.
    #[error("it has more than {} bytes", tariff::CATALOGUE_BYTES_MAX)]
    TooLarge,
    /// No answer, or no whole one.
    #[error("cannot be fetched: {0}")]
    Fetch(#[from] ExchangeError),
    /// An answer that is no list. Redirects are not followed.
    #[error("the server answered {0}")]
    Status(u16),
    /// Other bytes than were looked at.
    #[error("its SHA-256 is {found}, not {pinned}: look at what has changed before you take it")]
    Hash {
        /// What the configuration says.
        pinned: String,
        /// What the bytes have.
        found: String,
    },
}

/// The bytes of a source. What is fetched is kept in `folder` under its hash, and is not fetched again.
pub(crate) async fn read(source: &PriceSource, folder: &Path) -> Result<Vec<u8>, CatalogueFault> {
    match &source.place {
        Place::File(path) => checked(read_file(path)?, source.sha256),
        Place::Url(url) => {
            let kept = source.sha256.map(|pin| folder.join("prices").join(wire::hex::encode(&pin)));
            if let Some(kept) = &kept
                && let Ok(bytes) = read_file(kept).and_then(|bytes| checked(bytes, source.sha256))
            {
                return Ok(bytes);
            }
            let bytes = checked(fetch(url).await?, source.sha256)?;
            if let Some(kept) = kept
                && let Err(error) = keep(&kept, &bytes)
            {
                tracing::warn!(path = %kept.display(), %error, "a price list cannot be kept: it will be fetched again");
            }
            Ok(bytes)
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, CatalogueFault> {
    let most = tariff::CATALOGUE_BYTES_MAX as u64;
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(CatalogueFault::TooLarge) } else { Ok(bytes) }
}

fn checked(bytes: Vec<u8>, pin: Option<[u8; 32]>) -> Result<Vec<u8>, CatalogueFault> {
    let found: [u8; 32] = Sha256::digest(&bytes).into();
    match pin {
        Some(pinned) if pinned != found => {
            Err(CatalogueFault::Hash { pinned: wire::hex::encode(&pinned), found: wire::hex::encode(&found) })
        }
        Some(_) | None => Ok(bytes),
    }
}

async fn fetch(url: &BaseUrl) -> Result<Vec<u8>, CatalogueFault> {
    let dialer = Dialer::new(&[], CONNECT_MAX)?;
    let path = if url.base_path.is_empty() { "/" } else { url.base_path.as_str() };
    let exchange = Exchange {
        origin: &origin(url),
        method: Method::GET,
        path,
        body: Bytes::new(),
        time_max: FETCH_MAX,
        answer_bytes_max: tariff::CATALOGUE_BYTES_MAX,
    };
    let answer = exchange.run(&dialer).await?;
    if answer.status == 200 { Ok(answer.body.to_vec()) } else { Err(CatalogueFault::Status(answer.status)) }
}

/// Beside its name first, so that half a list never stands under it.
fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let part: PathBuf = path.with_extension("part");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)
}
