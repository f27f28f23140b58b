//! What challenges said lately, for whoever asks for the same (PERF-33).
//!
//! All that a challenge says is decided by what is asked for and by the second, but for the nonce that a wallet signs, and for
//! the quote where the body decides that. So it is kept with blanks for these: a memory of a few texts, and of nobody who asks.
//! They go with their configuration.

use std::borrow::Cow;
use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use http::Method;
use money::Amount;
use wire::template::{Base64Template, Blank, MARKS};

use super::{Ask, Through, quote_end};
use crate::clock::Now;
use crate::till::Named;

/// Texts that are kept at most ...
const PLACES: usize = 64;
/// ... and the longest path and query of one: each offer says it.
const TARGET_BYTES_MAX: usize = 512;

/// Everything that decides what a challenge of one configuration says, but for what a [`Varying`] has.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Wanted<'a> {
    method: Cow<'a, Method>,
    target: Cow<'a, str>,
    description: Cow<'a, str>,
    tariff: Cow<'a, str>,
    pub(super) error: &'static str,
    ceiling: Amount,
    fits_within: Option<Amount>,
    through: Through,
    discovery: bool,
    priced_by_body: bool,
    ends_at_s: u64,
    /// The tills that offers are made for now, each by its place, and in whose name.
    pub(super) open: Vec<(usize, Named)>,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(ask: &Ask<'a>, error: &'static str, open: Vec<(usize, Named)>, now: Now) -> Self {
        Self {
            method: Cow::Borrowed(ask.method),
            target: Cow::Borrowed(ask.target),
            description: Cow::Borrowed(ask.description),
            tariff: Cow::Borrowed(ask.tariff),
            error,
            ceiling: ask.ceiling,
            fits_within: ask.fits_within,
            through: ask.through,
            discovery: ask.discovery,
            priced_by_body: ask.priced_by_body,
            ends_at_s: quote_end(now),
            open,
        }
    }

    /// Whether it may be kept: it is short, and holds nothing that would be taken for a blank.
    fn may_be_kept(&self) -> bool {
        let has_mark = |text: &str| MARKS.iter().any(|mark| text.contains(mark));
        self.target.len() <= TARGET_BYTES_MAX && !has_mark(&self.target) && !has_mark(&self.description)
    }

    fn into_owned(self) -> Wanted<'static> {
        Wanted {
            method: Cow::Owned(self.method.into_owned()),
            target: Cow::Owned(self.target.into_owned()),
            description: Cow::Owned(self.description.into_owned()),
            tariff: Cow::Owned(self.tariff.into_owned()),
            ..self
        }
    }
}

/// By what tells most of them apart: each request pays for it.
impl Hash for Wanted<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { method, target, description, error, ceiling, .. } = self;
        (method.as_str(), target, description, error, ceiling).hash(state);
    }
}

/// What differs between two challenges that ask for the same.
#[derive(Clone, Copy)]
pub(crate) struct Varying<'a> {
    pub(crate) quote: &'a str,
    /// The two of a sign-in.
    pub(crate) nonce: &'a str,
    pub(crate) issued_at: &'a str,
}

/// Blanks for these.
pub(super) const QUOTE: Blank = Blank { value: 0, bytes: proof::quote::QUOTE_BYTES };
pub(super) const NONCE: Blank = Blank { value: 1, bytes: proof::siwx::NONCE_BYTES };
pub(super) const ISSUED_AT: Blank = Blank { value: 2, bytes: wire::rfc3339::TEXT_BYTES };

/// What one challenge says.
pub(super) struct Rendering {
    wanted: Wanted<'static>,
    /// As x402 v2.
    required: Base64Template,
    /// Entries of x402 v1, each as JSON.
    pub(super) entries: Arc<[String]>,
    /// Whether anything is offered.
    pub(super) is_any: bool,
}

impl Rendering {
    /// Keeps a challenge that was written with blanks.
    pub(super) fn new(
        wanted: &Wanted<'_>,
        required: String,
        entries: Arc<[String]>,
        is_any: bool,
    ) -> Option<Self> {
        let required = Base64Template::new(required, &[QUOTE, NONCE, ISSUED_AT])?;
        Some(Self { wanted: wanted.clone().into_owned(), required, entries, is_any })
    }

    /// The value of the header. `None`: something is longer or shorter than it always is.
    pub(super) fn header(&self, varying: Varying<'_>) -> Option<Vec<u8>> {
        self.required.fill(&[varying.quote, varying.nonce, varying.issued_at])
    }
}

/// What is kept of one configuration.
pub(crate) struct Renderings {
    /// Nobody can know what shares a place with what.
    hasher: RandomState,
    places: Box<[Place]>,
}

#[derive(Default)]
struct Place {
    /// The hash of what was missed here last.
    last: AtomicU64,
    kept: ArcSwapOption<Rendering>,
}

impl Default for Renderings {
    fn default() -> Self {
        let places = (0..PLACES).map(|_| Place::default()).collect();
        Self { hasher: RandomState::new(), places }
    }
}

impl Renderings {
    /// What is kept for `wanted`; made when it is missed twice in a row, so that who asks for something else each time neither
    /// pays for it nor drives out what is wanted.
    pub(super) fn get(
        &self,
        wanted: &Wanted<'_>,
        make: impl FnOnce() -> Option<Rendering>,
    ) -> Option<Arc<Rendering>> {
        let hash = self.hasher.hash_one(wanted);
        let place = self.places.get(usize::try_from(hash % PLACES as u64).ok()?)?;
        let kept = place.kept.load();
        if let Some(kept) = kept.as_ref().filter(|kept| kept.wanted == *wanted) {
            return Some(Arc::clone(kept));
        }
        if place.last.swap(hash, Ordering::Relaxed) != hash || !wanted.may_be_kept() {
            return None;
        }
        let made = make().map(Arc::new);
        place.kept.store(made.clone());
        made
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Method;
    use money::Amount;

    use super::{NONCE, QUOTE, Rendering, Renderings, TARGET_BYTES_MAX, Varying, Wanted};
    use crate::challenge::{Ask, Through};
    use crate::clock::Now;

    fn asked<'a>(target: &'a str, name: &'a str) -> Wanted<'a> {
        let ask = Ask::named(&Method::POST, target, Amount::from_units(7), Through::All, name);
        Wanted::of(&ask, "payment_required", Vec::new(), Now::read())
    }

    fn rendering(wanted: &Wanted<'_>) -> Option<Rendering> {
        Rendering::new(wanted, format!("{QUOTE} {NONCE}"), Arc::default(), false)
    }

    fn is_kept(renderings: &Renderings, wanted: &Wanted<'_>) -> bool {
        renderings.get(wanted, || None).is_some()
    }

    #[test]
    fn perf_33_what_is_asked_for_again_is_kept() {
        let renderings = Renderings::default();
        let wanted = asked("/a", "m");
        assert!(renderings.get(&wanted, || panic!("it was asked for once")).is_none());
        assert!(renderings.get(&wanted, || rendering(&wanted)).is_some());
        assert!(is_kept(&renderings, &wanted));
        let later = Wanted { ends_at_s: wanted.ends_at_s + 10, ..wanted.clone() };
        for other in [asked("/b", "m"), asked("/a", "n"), later] {
            assert!(!is_kept(&renderings, &other));
        }
    }

    /// As many places as there are, whoever asks for whatever.
    #[test]
    fn what_is_asked_for_once_takes_no_place() {
        let renderings = Renderings::default();
        let wanted = asked("/a", "m");
        for _ in 0..2 {
            renderings.get(&wanted, || rendering(&wanted));
        }
        for number in 0..10_000 {
            let target = format!("/{number}");
            let other = asked(&target, "m");
            assert!(renderings.get(&other, || panic!("it was asked for once")).is_none());
        }
        assert!(is_kept(&renderings, &wanted));
    }

    #[test]
    fn what_is_long_or_looks_like_a_blank_is_not_kept() {
        let renderings = Renderings::default();
        let long = format!("/{}", "a".repeat(TARGET_BYTES_MAX));
        let looks_like_one = QUOTE.to_string();
        for wanted in [asked(&long, "m"), asked("/a", &looks_like_one), asked(&looks_like_one, "m")] {
            for _ in 0..3 {
                assert!(renderings.get(&wanted, || rendering(&wanted)).is_none());
            }
        }
    }

    /// Nothing but the blanks is filled in, and nothing in them that does not fit.
    #[test]
    fn a_rendering_says_what_varies() {
        let rendering = rendering(&asked("/a", "m")).unwrap();
        let (quote, nonce) = ("q".repeat(QUOTE.bytes), "n".repeat(NONCE.bytes));
        let filled = rendering.header(Varying { quote: &quote, nonce: &nonce, issued_at: "" });
        let expected = wire::base64::encode_std(format!("{quote} {nonce}").as_bytes());
        assert_eq!(filled, Some(expected.into_bytes()));
        assert_eq!(rendering.header(Varying { quote: "", nonce: &nonce, issued_at: "" }), None);
    }
}
