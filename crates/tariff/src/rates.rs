//! The rates of one call, flat: what every thing that is counted costs.

use money::{Amount, Rate};

/// What has a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// Prompt tokens.
    Input,
    /// Generated tokens.
    Output,
    /// Prompt tokens served from a cache.
    CacheRead,
    /// Prompt tokens written to a cache, of no lifetime with a rate of its own.
    CacheWrite,
    /// Those kept for an hour.
    CacheWrite1h,
    /// Those kept for twelve hours.
    CacheWrite12h,
    /// Reasoning tokens.
    Reasoning,
    /// Tokens of sound in the prompt.
    AudioIn,
    /// Tokens of sound in the answer.
    AudioOut,
    /// Tokens of images in the prompt.
    ImageIn,
    /// Tokens of images in the answer.
    ImageOut,
    /// One image made.
    Image,
    /// One character spoken.
    Character,
    /// One second.
    Second,
    /// One byte of the answer.
    ResponseByte,
    /// One search that the provider ran, with a context of the usual size.
    WebSearch,
    /// The same with a small context.
    WebSearchLow,
    /// The same with a large context.
    WebSearchHigh,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Of text, sound or pictures.
    Token,
    /// One that was made.
    Image,
    /// One that was spoken.
    Character,
    /// Of sound, or of the call.
    Second,
    /// Of the answer.
    Byte,
    /// One that the provider ran.
    Search,
}

impl Unit {
    /// Its name in lists of prices.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Image => "image",
            Self::Character => "character",
            Self::Second => "second",
            Self::Byte => "byte",
            Self::Search => "search",
        }
    }
}

impl Item {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 18] = [
        Self::Input,
        Self::Output,
        Self::CacheRead,
        Self::CacheWrite,
        Self::CacheWrite1h,
        Self::CacheWrite12h,
        Self::Reasoning,
        Self::AudioIn,
        Self::AudioOut,
        Self::ImageIn,
        Self::ImageOut,
        Self::Image,
        Self::Character,
        Self::Second,
        Self::ResponseByte,
        Self::WebSearch,
        Self::WebSearchLow,
        Self::WebSearchHigh,
    ];

    /// Its name in lists of prices.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::CacheRead => "cache_read",
            Self::CacheWrite => "cache_write",
            Self::CacheWrite1h => "cache_write_1h",
            Self::CacheWrite12h => "cache_write_12h",
            Self::Reasoning => "reasoning",
            Self::AudioIn => "audio_in",
            Self::AudioOut => "audio_out",
            Self::ImageIn => "image_in",
            Self::ImageOut => "image_out",
            Self::Image => "image",
            Self::Character => "character",
            Self::Second => "second",
            Self::ResponseByte => "response_byte",
            Self::WebSearch => "web_search",
            Self::WebSearchLow => "web_search_low",
            Self::WebSearchHigh => "web_search_high",
        }
    }

    /// The item of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|item| item.name() == name)
    }

    /// What one of it is.
    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Self::Input
            | Self::Output
            | Self::CacheRead
            | Self::CacheWrite
            | Self::CacheWrite1h
            | Self::CacheWrite12h
            | Self::Reasoning
            | Self::AudioIn
            | Self::AudioOut
            | Self::ImageIn
            | Self::ImageOut => Unit::Token,
            Self::Image => Unit::Image,
            Self::Character => Unit::Character,
            Self::Second => Unit::Second,
            Self::ResponseByte => Unit::Byte,
            Self::WebSearch | Self::WebSearchLow | Self::WebSearchHigh => Unit::Search,
        }
    }

    /// Whether it counts tokens. Multipliers apply to these only (reference item 31).
    #[must_use]
    pub const fn is_token(self) -> bool {
        matches!(self.unit(), Unit::Token)
    }

    /// Whose rate it has where it has none of its own: never none, never a cheaper one by silence.
    #[must_use]
    pub const fn parent(self) -> Option<Self> {
        match self {
            Self::CacheRead | Self::CacheWrite | Self::AudioIn | Self::ImageIn => Some(Self::Input),
            Self::CacheWrite1h | Self::CacheWrite12h => Some(Self::CacheWrite),
            Self::Reasoning | Self::AudioOut | Self::ImageOut => Some(Self::Output),
            Self::WebSearchLow | Self::WebSearchHigh => Some(Self::WebSearch),
            Self::Input
            | Self::Output
            | Self::Image
            | Self::Character
            | Self::Second
            | Self::ResponseByte
            | Self::WebSearch => None,
        }
    }

    /// A rate of it as people write it: exact, and read back by [`money::parse_rate`].
    #[must_use]
    pub fn price(self, rate: Rate) -> String {
        let (exponent, unit) = match self.unit() {
            Unit::Token => (9, "USD/Mtok"),
            Unit::Character => (9, "USD/Mchar"),
            Unit::Byte => (6, "USD/GB"),
            Unit::Image | Unit::Second | Unit::Search => (15, "USD"),
        };
        format!("{} {unit}", decimal(rate.femto(), exponent))
    }
}

/// `units x 10^-exponent` without trailing zeros.
fn decimal(units: u64, exponent: u32) -> String {
    let scale = 10u64.pow(exponent);
    let width = exponent as usize;
    let text = format!("{}.{:0width$}", units / scale, units % scale);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What a call costs, in femto-USD for each token, character, byte, second, image or search. A rate of zero is a
/// price; one that is absent follows from another where [`Item::parent`] says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
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
    /// Tokens of sound in the prompt; the input rate where absent.
    pub audio_in: Option<Rate>,
    /// Tokens of sound in the answer; the output rate where absent.
    pub audio_out: Option<Rate>,
    /// Tokens of images in the prompt; the input rate where absent.
    pub image_in: Option<Rate>,
    /// Tokens of images in the answer; the output rate where absent.
    pub image_out: Option<Rate>,
    /// One image made. Where it has a price, the tokens of the output have none.
    pub image: Option<Rate>,
    /// One character spoken.
    pub character: Option<Rate>,
    /// One second of sound heard, or of the call where time is its unit; charged by the millisecond.
    pub second: Option<Rate>,
    /// One byte of the answer.
    pub response_byte: Option<Rate>,
    /// One search that the provider ran, with a context of the usual size.
    pub web_search: Option<Rate>,
    /// One with a small context; as `web_search` where absent.
    pub web_search_low: Option<Rate>,
    /// One with a large context; as `web_search` where absent.
    pub web_search_high: Option<Rate>,
    /// The call itself, in nano-USD.
    pub per_call: Option<Amount>,
    /// The model's own limit on the tokens of a prompt.
    pub max_input_tokens: Option<u64>,
    /// The model's own limit on output tokens.
    pub max_output_tokens: Option<u64>,
    /// The longest a call or its sound may be, in seconds: needed for the hold where time is the unit.
    pub max_seconds: Option<u64>,
    /// The most bytes an answer may have: needed for the hold where bytes are the unit.
    pub max_response_bytes: Option<u64>,
}

impl Rates {
    /// The rate of an item, where it has one of its own.
    #[must_use]
    pub const fn own(&self, item: Item) -> Option<Rate> {
        match item {
            Item::Input => Some(self.input),
            Item::Output => Some(self.output),
            Item::CacheRead => self.cache_read,
            Item::CacheWrite => self.cache_write,
            Item::CacheWrite1h => self.cache_write_1h,
            Item::CacheWrite12h => self.cache_write_12h,
            Item::Reasoning => self.reasoning,
            Item::AudioIn => self.audio_in,
            Item::AudioOut => self.audio_out,
            Item::ImageIn => self.image_in,
            Item::ImageOut => self.image_out,
            Item::Image => self.image,
            Item::Character => self.character,
            Item::Second => self.second,
            Item::ResponseByte => self.response_byte,
            Item::WebSearch => self.web_search,
            Item::WebSearchLow => self.web_search_low,
            Item::WebSearchHigh => self.web_search_high,
        }
    }

    /// The item whose rate is charged for this one: itself, or the nearest it follows from.
    #[must_use]
    pub const fn charged_as(&self, item: Item) -> Item {
        let mut at = item;
        while self.own(at).is_none() {
            match at.parent() {
                Some(parent) => at = parent,
                None => return at,
            }
        }
        at
    }

    /// The rate that is charged for an item; `None` where it is not priced.
    #[must_use]
    pub const fn rate(&self, item: Item) -> Option<Rate> {
        self.own(self.charged_as(item))
    }

    /// The rate that is charged for an item; free where it is not priced.
    #[must_use]
    pub fn rate_or_free(&self, item: Item) -> Rate {
        self.rate(item).unwrap_or(Rate::FREE)
    }

    /// Gives an item a rate of its own.
    pub const fn set(&mut self, item: Item, rate: Rate) {
        match item {
            Item::Input => self.input = rate,
            Item::Output => self.output = rate,
            Item::CacheRead => self.cache_read = Some(rate),
            Item::CacheWrite => self.cache_write = Some(rate),
            Item::CacheWrite1h => self.cache_write_1h = Some(rate),
            Item::CacheWrite12h => self.cache_write_12h = Some(rate),
            Item::Reasoning => self.reasoning = Some(rate),
            Item::AudioIn => self.audio_in = Some(rate),
            Item::AudioOut => self.audio_out = Some(rate),
            Item::ImageIn => self.image_in = Some(rate),
            Item::ImageOut => self.image_out = Some(rate),
            Item::Image => self.image = Some(rate),
            Item::Character => self.character = Some(rate),
            Item::Second => self.second = Some(rate),
            Item::ResponseByte => self.response_byte = Some(rate),
            Item::WebSearch => self.web_search = Some(rate),
            Item::WebSearchLow => self.web_search_low = Some(rate),
            Item::WebSearchHigh => self.web_search_high = Some(rate),
        }
    }

    /// The dearest rate a prompt token may have (MTR-32). `caching`: it may be written to a cache. `media`: it may be
    /// of a sound or an image.
    #[must_use]
    pub fn dearest_input(&self, caching: bool, media: bool) -> Rate {
        // What is absent follows from the input, or from a plain write to a cache, as Item::parent says.
        let mut dearest = self.input.max(self.cache_read.unwrap_or(self.input));
        if caching {
            let write = self.cache_write.unwrap_or(self.input);
            let (hour, half_day) =
                (self.cache_write_1h.unwrap_or(write), self.cache_write_12h.unwrap_or(write));
            dearest = dearest.max(write).max(hour).max(half_day);
        }
        if media {
            let (sound, image) = (self.audio_in.unwrap_or(self.input), self.image_in.unwrap_or(self.input));
            dearest = dearest.max(sound).max(image);
        }
        dearest
    }

    /// The dearest rate a generated token may have.
    #[must_use]
    pub fn dearest_output(&self) -> Rate {
        let own = [self.reasoning, self.audio_out, self.image_out];
        own.into_iter().flatten().fold(self.output, Rate::max)
    }

    /// The rate of a millisecond, rounded up: no price of a second is finer than 1000 femto-USD.
    #[must_use]
    pub fn millisecond_rate(&self) -> Option<Rate> {
        self.second.map(|rate| Rate::from_femto(rate.femto().div_ceil(1000)))
    }

    /// The dearer of two for every item, as charged.
    #[must_use]
    pub fn dearer(&self, other: &Self) -> Self {
        let mut dearer = *self;
        for item in Item::ALL {
            if self.own(item).is_none() && other.own(item).is_none() {
                continue;
            }
            if let Some(rate) = self.rate(item).max(other.rate(item)) {
                dearer.set(item, rate);
            }
        }
        dearer
    }
}

#[cfg(test)]
mod tests {
    use super::{Item, Rates};
    use money::{Rate, parse_rate};

    #[test]
    fn items_have_one_name_each() {
        for item in Item::ALL {
            assert_eq!(Item::from_name(item.name()), Some(item));
        }
        assert_eq!(Item::from_name("tokens"), None);
    }

    /// Every price that is shown can be written down again.
    #[test]
    fn prices_are_read_back() {
        for item in Item::ALL {
            for femto in [0, 1, 130_000, 150_000_000, 5_000_000_000_000, 18_446_744_073_709_551_615] {
                let rate = Rate::from_femto(femto);
                assert_eq!(parse_rate(&item.price(rate)), Ok(rate), "{item:?}");
            }
        }
        assert_eq!(Item::Input.price(Rate::from_femto(150_000_000)), "0.15 USD/Mtok");
        assert_eq!(Item::WebSearch.price(Rate::from_femto(10_000_000_000_000)), "0.01 USD");
        assert_eq!(Item::ResponseByte.price(Rate::from_femto(50_000)), "0.05 USD/GB");
    }

    /// MTR-32: whichever of them have a rate of their own, and however the others follow.
    #[test]
    fn the_dearest_is_the_dearest_that_is_charged() {
        let items =
            [Item::CacheRead, Item::CacheWrite, Item::CacheWrite1h, Item::CacheWrite12h, Item::AudioIn]
                .into_iter()
                .chain([Item::ImageIn, Item::Reasoning, Item::AudioOut, Item::ImageOut]);
        let items: Vec<_> = items.collect();
        for own in 0..1_u64 << items.len() {
            for base in [0, 5, 99] {
                let rate = Rate::from_femto;
                let mut rates = Rates { input: rate(base), output: rate(base), ..Rates::default() };
                for (place, item) in items.iter().enumerate().filter(|(place, _)| own >> place & 1 == 1) {
                    rates.set(*item, rate(10 + (own ^ place as u64) % 7));
                }
                let of = |items: &[Item]| items.iter().map(|item| rates.rate_or_free(*item)).max().unwrap();
                for (caching, media) in [(false, false), (true, false), (false, true), (true, true)] {
                    let mut charged = vec![Item::Input, Item::CacheRead];
                    charged.extend(items[1..4].iter().filter(|_| caching));
                    charged.extend(items[4..6].iter().filter(|_| media));
                    assert_eq!(rates.dearest_input(caching, media), of(&charged), "{rates:?}");
                }
                let written = [Item::Output, Item::Reasoning, Item::AudioOut, Item::ImageOut];
                assert_eq!(rates.dearest_output(), of(&written), "{rates:?}");
            }
        }
    }

    #[test]
    fn what_is_absent_follows() {
        let rate = |femto| Some(Rate::from_femto(femto));
        let mut rates = Rates { input: Rate::from_femto(2), output: Rate::from_femto(7), ..Rates::default() };
        for (item, expected) in [
            (Item::CacheRead, rate(2)),
            (Item::CacheWrite12h, rate(2)),
            (Item::AudioIn, rate(2)),
            (Item::Reasoning, rate(7)),
            (Item::ImageOut, rate(7)),
            (Item::WebSearchHigh, None),
            (Item::Second, None),
        ] {
            assert_eq!(rates.rate(item), expected, "{item:?}");
        }
        rates.set(Item::CacheWrite, Rate::from_femto(3));
        assert_eq!(rates.rate(Item::CacheWrite1h), rate(3));
        assert_eq!(rates.charged_as(Item::CacheWrite1h), Item::CacheWrite);
        rates.cache_read = rate(0);
        assert_eq!(rates.rate(Item::CacheRead), rate(0), "zero is a price");
    }

    /// A rate that only one side has is compared with what the other side charges.
    #[test]
    fn the_dearer_of_two() {
        let rate = |femto| Some(Rate::from_femto(femto));
        let one = Rates { input: Rate::from_femto(5), cache_write: rate(9), ..Rates::default() };
        let two =
            Rates { input: Rate::from_femto(4), cache_read: rate(1), second: rate(3), ..Rates::default() };
        let dearer = one.dearer(&two);
        assert_eq!(dearer, two.dearer(&one));
        assert_eq!((dearer.input.femto(), dearer.cache_read, dearer.cache_write), (5, rate(5), rate(9)));
        assert_eq!((dearer.second, dearer.image), (rate(3), None));
    }
}
