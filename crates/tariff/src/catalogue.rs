//! What becomes of a price list that is read: prices, and what was passed over.

use crate::book::Entry;

/// Largest list that is read.
pub const CATALOGUE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Longest name of a model.
const NAME_BYTES_MAX: usize = 256;

/// A price list that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// The prices.
    pub entries: Vec<Entry>,
    /// Models that have no price here although the list names them.
    pub skipped: Vec<Skipped>,
}

/// A model that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its name in the list.
    pub model: String,
    /// Why.
    pub reason: SkipReason,
}

/// Why a model was passed over: it is not sold, rather than sold at half its price.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// The name cannot be one.
    #[error("the name is empty, too long or a pattern")]
    Name,
    /// The list has two prices for it.
    #[error("it stands there twice, with two prices")]
    Twice,
    /// A member stands twice: readers disagree about which one counts.
    #[error("`{0}` stands there twice")]
    MemberTwice(String),
    /// A member that decides the price cannot be read.
    #[error("`{0}` is not what it should be")]
    Member(String),
    /// There is no price for something that calls use.
    #[error("there is no price for {0}")]
    Unpriced(&'static str),
    /// The price is for something that is not counted here.
    #[error("`{0}` is a price for something that is not counted here")]
    Uncounted(String),
    /// A kind of model that is not sold here.
    #[error("models for `{0}` are not metered here")]
    Mode(String),
}

/// Why a whole list cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// Larger than [`CATALOGUE_BYTES_MAX`].
    #[error("the price list has more than {CATALOGUE_BYTES_MAX} bytes")]
    TooLarge,
    /// Not one JSON object.
    #[error("the price list is not one JSON object")]
    NotAnObject,
    /// No model in it has a price that can be used.
    #[error("the price list has no usable price")]
    Empty,
}

/// The text of a list, where it may be one.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, CatalogueError> {
    if bytes.len() > CATALOGUE_BYTES_MAX {
        return Err(CatalogueError::TooLarge);
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|_| CatalogueError::NotAnObject)
}

/// A pattern is the operator's to write: in somebody else's list it would price models that the list does not know.
fn is_name(model: &str) -> bool {
    !model.is_empty() && model.len() <= NAME_BYTES_MAX && !model.contains('*')
}

impl Catalogue {
    /// Takes a model in, or notes why not.
    pub(crate) fn take(&mut self, model: String, read: Result<Entry, SkipReason>) {
        match read.and_then(|entry| if is_name(&entry.model) { Ok(entry) } else { Err(SkipReason::Name) }) {
            Ok(entry) => self.entries.push(entry),
            Err(reason) => {
                let model = model.chars().take(NAME_BYTES_MAX).collect();
                self.skipped.push(Skipped { model, reason });
            }
        }
    }

    /// The catalogue without models that stand there twice with different prices, sorted by name.
    pub(crate) fn settled(mut self) -> Result<Self, CatalogueError> {
        self.entries.sort_by(|a, b| (&a.model, a.since_ms).cmp(&(&b.model, b.since_ms)));
        self.entries.dedup();
        let twice = |pair: &[Entry]| pair[0].model == pair[1].model && pair[0].since_ms == pair[1].since_ms;
        let mut doubled: Vec<_> =
            self.entries.windows(2).filter(|pair| twice(pair)).map(|pair| pair[0].model.clone()).collect();
        doubled.dedup();
        self.entries.retain(|entry| doubled.binary_search(&entry.model).is_err());
        let skipped = doubled.into_iter().map(|model| Skipped { model, reason: SkipReason::Twice });
        self.skipped.extend(skipped);
        if self.entries.is_empty() { Err(CatalogueError::Empty) } else { Ok(self) }
    }
}
