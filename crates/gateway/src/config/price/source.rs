//! `prices.sources`: catalogues of other people.

use std::fmt;
use std::path::PathBuf;

use crate::config::section::{Keys, Section};
use crate::config::url::{BaseUrl, Scheme};
use crate::config::value;
use crate::config::yaml::Kind;

/// How a catalogue is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The price map of LiteLLM.
    LiteLlm,
    /// `models.dev/api.json`.
    ModelsDev,
    /// Our own, as JSON: what `prices` can say, in a file of its own.
    Farthing,
}

/// Where a catalogue is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file of this machine.
    File(PathBuf),
    /// Elsewhere: only the bytes of the pinned hash are taken.
    Url(BaseUrl),
}

/// A catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceSource {
    /// Its format.
    pub format: Format,
    /// Where it is.
    pub place: Place,
    /// The provider whose models are read, under their own names; all where absent.
    pub provider: Option<String>,
    /// SHA-256 that its bytes must have.
    pub sha256: Option<[u8; 32]>,
}

impl fmt::Display for PriceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File(path) => write!(f, "{}", path.display()),
            Place::Url(url) => write!(f, "{url}"),
        }
    }
}

const KEYS: Keys = Keys::new(&["format", "path", "url", "sha256", "provider"], &["every"]);

pub(super) fn read(prices: &Section<'_>) -> Vec<PriceSource> {
    let Some(node) = prices.get("sources") else { return Vec::new() };
    let Kind::List(items) = &node.kind else {
        prices.complain("sources", format!("prices.sources must be a list, not {}", node.what()));
        return Vec::new();
    };
    let read = |(at, item): (usize, &_)| {
        let path = format!("prices.sources[{at}]");
        read_one(&Section::open(prices.context, &path, item, KEYS)?)
    };
    items.iter().enumerate().filter_map(read).collect()
}

fn read_one(source: &Section<'_>) -> Option<PriceSource> {
    let format = source.required("format", |text| match text {
        "litellm" => Ok(Format::LiteLlm),
        "models.dev" => Ok(Format::ModelsDev),
        "farthing" => Ok(Format::Farthing),
        _ => Err(format!("\"{text}\" is none of litellm, models.dev, farthing")),
    });
    let sha256 = source.value("sha256", |text| {
        wire::hex::decode_array::<32>(text).map_err(|_| "a SHA-256 is 64 hex digits".to_owned())
    });
    let path = source.value("path", value::some_text);
    let url = source.value("url", BaseUrl::parse);
    let place = match (path, url) {
        (Some(path), None) => Place::File(source.context.path(&path)),
        (None, Some(url)) => {
            if url.scheme == Scheme::Http && !url.is_loopback() {
                source.complain("url", format!("{}.url: only https leaves this machine", source.path));
            }
            if source.get("sha256").is_none() {
                source.missing(format!(
                    "{} needs \"sha256\": prices of elsewhere are taken as they were looked at, or not at all",
                    source.path
                ));
            }
            Place::Url(url)
        }
        (Some(_), Some(_)) => {
            source.complain("url", format!("{} has a path and a url", source.path));
            return None;
        }
        (None, None) => {
            if source.get("path").is_none() && source.get("url").is_none() {
                source.missing(format!("{} needs \"path\" or \"url\"", source.path));
            }
            return None;
        }
    };
    let (format, provider) = (format?, source.value("provider", value::some_text));
    if format == Format::Farthing && provider.is_some() {
        source.complain("provider", format!("{}.provider: this format has no providers", source.path));
    }
    Some(PriceSource { format, place, provider, sha256 })
}
