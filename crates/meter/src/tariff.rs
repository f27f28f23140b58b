//! What a model costs, and which model a name means.

use money::{Amount, Rate};
use sha2::{Digest as _, Sha256};

/// The price of one model, in femto-USD per token unless said otherwise. A price of zero is a price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelPrice {
    /// Prompt tokens.
    pub input: Rate,
    /// Generated tokens.
    pub output: Rate,
    /// Prompt tokens served from a cache; the input rate where absent.
    pub cache_read: Option<Rate>,
    /// Prompt tokens written to a cache; the input rate where absent.
    pub cache_write: Option<Rate>,
    /// Those kept for an hour; the plain write rate where absent.
    pub cache_write_1h: Option<Rate>,
    /// Those kept for twelve hours; the plain write rate where absent.
    pub cache_write_12h: Option<Rate>,
    /// Reasoning tokens: replaces the output rate for them, and is never added to it.
    pub reasoning: Option<Rate>,
    /// One search that the provider ran.
    pub web_search: Option<Rate>,
    /// The call itself, in nano-USD.
    pub per_call: Option<Amount>,
    /// The model's own limit on output tokens.
    pub max_output_tokens: Option<u64>,
    /// One image made. Where it has a price, the tokens of the output have none.
    pub image: Option<Rate>,
    /// One character spoken.
    pub character: Option<Rate>,
    /// One second of sound heard, or of the call where time is its unit; charged by the millisecond.
    pub second: Option<Rate>,
    /// One byte of the answer.
    pub response_byte: Option<Rate>,
    /// The longest a call or its sound may be, in seconds: needed for the hold where time is the unit.
    pub max_seconds: Option<u64>,
    /// The most bytes an answer may have: needed for the hold where bytes are the unit.
    pub max_response_bytes: Option<u64>,
}

impl ModelPrice {
    /// The rate of cache reads.
    #[must_use]
    pub fn cache_read_rate(&self) -> Rate {
        self.cache_read.unwrap_or(self.input)
    }

    /// The rate of cache writes of no particular lifetime (reference item 32).
    #[must_use]
    pub fn cache_write_rate(&self) -> Rate {
        self.cache_write.unwrap_or(self.input)
    }

    /// The dearest rate a prompt token may have (MTR-32).
    #[must_use]
    pub fn dearest_input(&self, caching: bool) -> Rate {
        let read = self.input.max(self.cache_read_rate());
        if !caching {
            return read;
        }
        let long = [self.cache_write_1h, self.cache_write_12h];
        long.into_iter().flatten().fold(read.max(self.cache_write_rate()), Ord::max)
    }

    /// The dearest rate a generated token may have.
    #[must_use]
    pub fn dearest_output(&self) -> Rate {
        self.reasoning.map_or(self.output, |reasoning| reasoning.max(self.output))
    }

    /// The rate of a millisecond, rounded up: no price of a second is finer than 1000 femto-USD.
    #[must_use]
    pub fn millisecond_rate(&self) -> Option<Rate> {
        self.second.map(|rate| Rate::from_femto(rate.femto().div_ceil(1000)))
    }

    /// Every field in a fixed order, for the book's version.
    fn digest_into(&self, hash: &mut Sha256) {
        let rate = |rate: Rate| Some(rate.femto());
        for field in [
            rate(self.input),
            rate(self.output),
            self.cache_read.and_then(rate),
            self.cache_write.and_then(rate),
            self.cache_write_1h.and_then(rate),
            self.cache_write_12h.and_then(rate),
            self.reasoning.and_then(rate),
            self.web_search.and_then(rate),
            self.per_call.map(|amount| amount.units().cast_unsigned()),
            self.max_output_tokens,
            self.image.and_then(rate),
            self.character.and_then(rate),
            self.second.and_then(rate),
            self.response_byte.and_then(rate),
            self.max_seconds,
            self.max_response_bytes,
        ] {
            hash.update([u8::from(field.is_some())]);
            hash.update(field.unwrap_or_default().to_be_bytes());
        }
    }
}

/// Why a price list cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceBookError {
    /// One name, two prices.
    #[error("model `{0}` is priced twice")]
    Duplicate(String),
    /// A model needs a name.
    #[error("a price has no model")]
    NoName,
    /// A fee below zero would pay the payer.
    #[error("model `{0}` has a negative fee")]
    NegativeFee(String),
}

/// The prices of all models, as one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceBook {
    /// Sorted by name.
    exact: Vec<(String, ModelPrice)>,
    /// Names with `*`; the most specific first.
    globs: Vec<(String, ModelPrice)>,
    version: String,
}

impl PriceBook {
    /// A book of these prices. `*` in a name stands for any text.
    ///
    /// # Errors
    /// [`PriceBookError`]: the operator has to mend the list.
    pub fn new(prices: impl IntoIterator<Item = (String, ModelPrice)>) -> Result<Self, PriceBookError> {
        let mut all: Vec<_> = prices.into_iter().collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, price) in &all {
            if name.is_empty() {
                return Err(PriceBookError::NoName);
            }
            if price.per_call.is_some_and(|fee| fee < Amount::ZERO) {
                return Err(PriceBookError::NegativeFee(name.clone()));
            }
        }
        if let Some(pair) = all.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(PriceBookError::Duplicate(pair[0].0.clone()));
        }
        let version = version(&all);
        let (mut globs, exact): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| name.contains('*'));
        // The more a pattern says, the more it means; by name among equals, so the order is total.
        globs.sort_by_key(|(name, _)| std::cmp::Reverse(name.bytes().filter(|b| *b != b'*').count()));
        Ok(Self { exact, globs, version })
    }

    /// The price of a model: by its exact name, else by the most specific pattern (MTR-46). `None`
    /// means that the call must be refused, never that it is free (MTR-47).
    #[must_use]
    pub fn lookup(&self, model: &str) -> Option<&ModelPrice> {
        let exact = self.exact.binary_search_by(|(name, _)| name.as_str().cmp(model)).ok();
        let exact = exact.and_then(|at| self.exact.get(at));
        exact.or_else(|| self.globs.iter().find(|(glob, _)| matches(glob, model))).map(|(_, price)| price)
    }

    /// A hash over every name and price: charges name it, so that they can be computed again (MTR-51).
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Every name or pattern and its price, exact names first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ModelPrice)> {
        self.exact.iter().chain(&self.globs).map(|(name, price)| (name.as_str(), price))
    }
}

fn version(sorted: &[(String, ModelPrice)]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"farthing/prices/1");
    for (name, price) in sorted {
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name.as_bytes());
        price.digest_into(&mut hash);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `*` in the pattern can be filled so that it becomes the name. Greedy from the left, which
/// is enough when `*` is the only wildcard.
fn matches(glob: &str, name: &str) -> bool {
    let mut parts = glob.split('*');
    let Some(mut rest) = parts.next().and_then(|head| name.strip_prefix(head)) else {
        return false;
    };
    let parts: Vec<_> = parts.collect();
    let Some((tail, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::{ModelPrice, PriceBook, PriceBookError};
    use money::{Amount, Rate};

    fn price(input: u64) -> ModelPrice {
        ModelPrice { input: Rate::from_femto(input), ..ModelPrice::default() }
    }

    fn book(prices: &[(&str, u64)]) -> Result<PriceBook, PriceBookError> {
        PriceBook::new(prices.iter().map(|(name, input)| ((*name).to_owned(), price(*input))))
    }

    #[test]
    fn lookup_table() {
        let book = book(&[("gpt-*", 1), ("gpt-6", 2), ("gpt-*-mini", 3), ("*", 4), ("a*b*c", 5)]).unwrap();
        for (rule, model, expected) in [
            ("MTR-46 exact before pattern", "gpt-6", 2),
            ("MTR-46 pattern", "gpt-6-luna", 1),
            ("MTR-46 the more specific pattern", "gpt-6-mini", 3),
            ("MTR-46 several stars", "a-b-b-c", 5),
            ("MTR-46 parts do not overlap", "abc", 5),
            ("MTR-46 all", "claude", 4),
            ("MTR-46 case counts", "GPT-6", 4),
        ] {
            assert_eq!(book.lookup(model), Some(&price(expected)), "{rule}");
        }
    }

    #[test]
    fn an_unknown_model_has_no_price() {
        let book = book(&[("gpt-6", 2), ("x*x", 1)]).unwrap();
        for model in ["gpt-6-luna", "gpt", "", "x"] {
            assert_eq!(book.lookup(model), None, "MTR-47 {model}");
        }
    }

    #[test]
    fn a_bad_list_is_refused() {
        assert_eq!(book(&[("a", 1), ("a", 2)]), Err(PriceBookError::Duplicate("a".into())));
        assert_eq!(book(&[("", 1)]), Err(PriceBookError::NoName));
        let fee = ModelPrice { per_call: Some(Amount::from_units(-1)), ..ModelPrice::default() };
        let refused = PriceBook::new([("a".to_owned(), fee)]);
        assert_eq!(refused, Err(PriceBookError::NegativeFee("a".into())));
    }

    #[test]
    fn the_version_is_that_of_the_content() {
        let one = book(&[("a", 1), ("b", 2)]).unwrap();
        assert_eq!(one.version(), book(&[("b", 2), ("a", 1)]).unwrap().version(), "order is no content");
        for other in [&[("a", 1), ("b", 3)][..], &[("a", 1)], &[("a", 1), ("c", 2)]] {
            assert_ne!(one.version(), book(other).unwrap().version());
        }
        let free =
            PriceBook::new([("a".to_owned(), ModelPrice { cache_read: Some(Rate::FREE), ..price(1) })]);
        let absent = book(&[("a", 1)]).unwrap();
        assert_ne!(free.unwrap().version(), absent.version(), "a price of zero is not the same as none");
    }
}
