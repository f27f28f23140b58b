//! What a call costs, once it is over.

use money::{Amount, AmountError, Femto, Rate};
use tariff::{Item, Rates, Tariff, Terms};

use crate::ceiling::{TOKENS_PER_MESSAGE, call_fee};
use crate::dialect::Dialect;
use crate::estimate::Counted;
use crate::meter::Metered;
use crate::request::RequestFacts;
use crate::usage::{Basis, Terminal, Usage};

/// Tokens of an image, a sound or a file where nothing was reported: what a full-size picture takes.
const ESTIMATE_TOKENS_PER_MEDIA: u64 = 1600;

/// Tokens of an image that was made and not reported: a large one of the best quality.
const ESTIMATE_TOKENS_PER_IMAGE: u64 = 6240;

/// Bytes of a second of sound whose length was not reported: 32 kbit/s, which most uploads exceed.
const ESTIMATE_SOUND_BYTES_PER_SECOND: u64 = 4000;

/// What is priced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// Prompt tokens at the full rate.
    Input,
    /// Prompt tokens from a cache.
    CacheRead,
    /// Prompt tokens written to a cache, of no lifetime with a price of its own.
    CacheWrite,
    /// Those kept for an hour.
    CacheWrite1h,
    /// Those kept for twelve hours.
    CacheWrite12h,
    /// Generated tokens.
    Output,
    /// Reasoning tokens, where they have a price of their own.
    Reasoning,
    /// Tokens of sound in the prompt, where they have a price of their own; likewise below.
    AudioIn,
    /// Tokens of sound in the answer.
    AudioOut,
    /// Tokens of images in the prompt.
    ImageIn,
    /// Tokens of images in the answer.
    ImageOut,
    /// Tokens of an unknown kind.
    TotalOnly,
    /// Searches.
    WebSearch,
    /// Images made.
    Image,
    /// Characters spoken.
    Character,
    /// Milliseconds of sound or of the call.
    Millisecond,
    /// Bytes of the answer.
    ResponseByte,
    /// Bytes of the request.
    RequestByte,
    /// The call itself; its rate is the fee.
    Call,
    /// Femto-USD that were missing to the least a call costs.
    Minimum,
}

impl Bucket {
    /// The name on receipts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::CacheRead => "cache_read",
            Self::CacheWrite => "cache_write",
            Self::CacheWrite1h => "cache_write_1h",
            Self::CacheWrite12h => "cache_write_12h",
            Self::Output => "output",
            Self::Reasoning => "reasoning",
            Self::AudioIn => "audio_in",
            Self::AudioOut => "audio_out",
            Self::ImageIn => "image_in",
            Self::ImageOut => "image_out",
            Self::TotalOnly => "total_only",
            Self::WebSearch => "web_search",
            Self::Image => "image",
            Self::Character => "character",
            Self::Millisecond => "millisecond",
            Self::ResponseByte => "response_byte",
            Self::RequestByte => "request_byte",
            Self::Call => "call",
            Self::Minimum => "minimum",
        }
    }

    /// Whether its units are generated tokens (true) or tokens of the prompt (false); `None` for what is not
    /// counted in tokens of one side.
    #[must_use]
    pub const fn is_output(self) -> Option<bool> {
        match self {
            Self::Output | Self::Reasoning | Self::AudioOut | Self::ImageOut => Some(true),
            Self::Input
            | Self::CacheRead
            | Self::CacheWrite
            | Self::CacheWrite1h
            | Self::CacheWrite12h
            | Self::AudioIn
            | Self::ImageIn => Some(false),
            Self::TotalOnly
            | Self::WebSearch
            | Self::Image
            | Self::Character
            | Self::Millisecond
            | Self::ResponseByte
            | Self::RequestByte
            | Self::Call
            | Self::Minimum => None,
        }
    }
}

/// One line of a bill: `quantity * rate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// What.
    pub bucket: Bucket,
    /// How many.
    pub quantity: u64,
    /// Femto-USD for each.
    pub rate: Rate,
}

/// The bill of one call. The lines sum to `femto`, which is rounded up once (MTR-43).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The exact cost.
    pub femto: Femto,
    /// The cost in nano-USD, rounded up: what to capture.
    pub nano: Amount,
    /// Whether any quantity was estimated. Receipts and journal must say so (MTR-28).
    pub estimated: bool,
    /// The lines, without those of quantity zero.
    pub lines: Vec<Line>,
}

/// What an estimate has to go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EstimateBasis {
    /// Bytes of the request body.
    pub body_bytes: u64,
    /// Messages in it.
    pub messages: u64,
    /// Images, sounds and files in it.
    pub media_parts: u64,
    /// The part of `body_bytes` that they take.
    pub media_bytes: u64,
    /// The limit on output tokens the upstream was given, per answer.
    pub max_output: Option<u64>,
    /// How many answers.
    pub choices: u64,
    /// Tokens, where somebody counted them.
    pub counted: Counted,
}

impl EstimateBasis {
    /// From the request; `max_output` is the limit after clamping.
    #[must_use]
    pub const fn new(facts: &RequestFacts, body_bytes: u64, max_output: Option<u64>) -> Self {
        Self {
            body_bytes,
            messages: facts.messages,
            media_parts: facts.media_parts,
            media_bytes: facts.media_bytes,
            max_output,
            choices: facts.choices,
            counted: Counted::NOTHING,
        }
    }
}

/// What chooses the rates of a call besides its request and its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallTerms<'a> {
    /// When it began, in milliseconds since 1970 (MTR-49).
    pub started_ms: i64,
    /// The service tier that it asks for.
    pub service_tier: Option<&'a str>,
    /// The region that the operator has configured for the upstream.
    pub region: Option<&'a str>,
}

/// Why there is no bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChargeError {
    /// The job goes on in the background: keep the hold.
    #[error("the call has not ended")]
    Pending,
    /// The price is for characters or time that the meter was not told of.
    #[error("what the price is for was not counted")]
    Uncounted,
    /// Beyond any balance: the report is not to be trusted (MTR-43).
    #[error("the charge is out of range")]
    OutOfRange,
}

impl From<AmountError> for ChargeError {
    fn from(_: AmountError) -> Self {
        Self::OutOfRange
    }
}

/// The bill of one call.
///
/// Nothing is charged where the upstream failed before it gave any output (reference item 27).
/// After that the last report counts, and where it is silent an estimate of what was delivered
/// (reference item 47). Input is owed once the upstream accepted the call (MTR-27).
///
/// # Errors
/// [`ChargeError`].
pub fn charge(
    tariff: &Tariff,
    metered: &Metered,
    request: &EstimateBasis,
    call: &CallTerms<'_>,
) -> Result<Charge, ChargeError> {
    if metered.basis == Basis::Pending {
        return Err(ChargeError::Pending);
    }
    let mut bill = Bill { femto: Femto::ZERO, lines: Vec::new() };
    if is_free(metered) {
        return bill.total(false);
    }
    if is_uncounted(tariff.base(), metered) {
        return Err(ChargeError::Uncounted);
    }
    let (usage, estimated) = quantities(tariff.base(), metered, request);
    let terms = terms(metered, &usage, call);
    let mut price = tariff.rates(&terms).rates;
    if terms.service_tier.is_none() && call.service_tier.is_some() {
        // The answer does not say which tier it was served at: not the cheaper one by silence.
        price = price.dearer(&tariff.rates(&Terms { service_tier: call.service_tier, ..terms }).rates);
    }
    let price = &price;
    let fee = u64::try_from(call_fee(price)?.units()).map_err(|_| ChargeError::OutOfRange)?;
    bill.add(Bucket::Call, u64::from(fee > 0), Rate::from_femto(fee))?;
    bill.add_input(price, &usage)?;
    bill.add_output(price, &usage)?;
    bill.add_units(price, &usage)?;
    bill.total(estimated)
}

/// What the answer said, and what stands beside it. The tokens of a prompt whose parts are not known are all there
/// are.
fn terms<'a>(metered: &'a Metered, usage: &'a Usage, call: &CallTerms<'a>) -> Terms<'a> {
    let input = usage.input_total.or(usage.input_uncached).or(usage.total_only);
    Terms {
        at_ms: call.started_ms,
        input_total: input.unwrap_or(0),
        // What was said without a report counts as well.
        service_tier: usage.service_tier.as_deref().or(metered.service_tier.as_deref()),
        inference_geo: usage.inference_geo.as_deref(),
        speed: usage.speed.as_deref(),
        region: call.region,
        ..Terms::default()
    }
}

/// Whether the answer costs nothing whatever its price: the upstream failed before any output, or the call is
/// free by its nature.
#[must_use]
pub fn is_free(metered: &Metered) -> bool {
    let failed = metered.upstream_error && metered.before_output;
    // A body that ends cleanly with nothing in it is a failure that does not say so; what the first event of
    // a stream reported of the input is no report of an answer.
    let unreported = metered.usage.is_none() || metered.basis == Basis::ReportedPartial;
    let empty = metered.terminal == Terminal::Complete && metered.body_bytes == 0;
    if empty && metered.dialect == Dialect::OpenAiSpeech {
        return true;
    }
    let silent =
        (metered.terminal == Terminal::EofWithoutDone || empty) && metered.before_output && unreported;
    metered.basis == Basis::None || failed || silent
}

/// The reported usage, completed by estimates where it is silent, and whether that was needed.
fn quantities(price: &Rates, metered: &Metered, request: &EstimateBasis) -> (Usage, bool) {
    let mut usage = metered.usage.clone().unwrap_or_default();
    if usage.total_only.is_some() || is_counted(price, metered, &usage) {
        return (usage, false);
    }
    let mut estimated = false;
    if let (Some(images), Basis::Counted) = (usage.images, metered.basis) {
        // Sold by the token, and none were reported.
        let each = price.max_output_tokens.unwrap_or(ESTIMATE_TOKENS_PER_IMAGE);
        usage.output_total = Some(images.saturating_mul(each));
    }
    if metered.dialect == Dialect::OpenAiImages
        && price.image.is_some()
        && usage.images.is_none()
        && !metered.before_output
    {
        // Something was given that could not be counted, or only its previews: those that were asked for.
        usage.images = Some(request.choices);
        estimated = true;
    }
    if metered.dialect == Dialect::OpenAiAudio && price.second.is_some() {
        // Sold by the second, and none were reported.
        let sound = request.media_bytes.saturating_mul(1000).div_ceil(ESTIMATE_SOUND_BYTES_PER_SECOND);
        usage.seconds_milli = Some(sound);
        estimated = true;
    }
    if usage.input_total.is_none() {
        usage.input_uncached = Some(estimate_input(request));
        estimated = true;
    }
    match (usage.output_total, metered.basis) {
        (None, _) => {
            usage.output_total = Some(limited(delivered_tokens(metered, request), request));
            estimated = true;
        }
        (Some(output), Basis::ReportedPartial) if metered.unreported_bytes > 0 => {
            // The report stops before the answer did: it is a floor, and what came after is added.
            let since = request.counted.output_tokens(metered.unreported_bytes);
            usage.output_total = Some(limited(output.saturating_add(since), request).max(output));
            estimated = true;
        }
        (Some(_), _) => {}
    }
    (usage, estimated)
}

/// Whether a unit that only the caller can tell is priced and was not told: it must not come out as free.
fn is_uncounted(price: &Rates, metered: &Metered) -> bool {
    let lacks = |count: fn(&Usage) -> Option<u64>| metered.usage.as_ref().and_then(count).is_none();
    let spoken = metered.dialect == Dialect::OpenAiSpeech && price.character.is_some();
    let timed = metered.dialect == Dialect::Raw && price.second.is_some();
    (spoken && lacks(|usage| usage.characters)) || (timed && lacks(|usage| usage.seconds_milli))
}

/// Whether the units that were counted or reported are what the price is for.
fn is_counted(price: &Rates, metered: &Metered, usage: &Usage) -> bool {
    if metered.dialect == Dialect::OpenAiAudio {
        return usage.seconds_milli.is_some() && price.second.is_some();
    }
    let priced = metered.dialect != Dialect::OpenAiImages || price.image.is_some();
    metered.basis == Basis::Counted && priced
}

fn estimate_input(request: &EstimateBasis) -> u64 {
    let framing = request.messages.saturating_mul(TOKENS_PER_MESSAGE);
    let text = request.counted.input_tokens(request.body_bytes.saturating_sub(request.media_bytes));
    let media = request.media_parts.saturating_mul(ESTIMATE_TOKENS_PER_MEDIA);
    text.saturating_add(media).saturating_add(framing)
}

fn delivered_tokens(metered: &Metered, request: &EstimateBasis) -> u64 {
    if metered.dialect.is_embedding() {
        return 0;
    }
    // Framing never counts (MTR-25), but of an opaque body its size is all that is known.
    if metered.opaque {
        return Counted::NOTHING.output_tokens(metered.body_bytes);
    }
    request.counted.output_tokens(metered.output_bytes())
}

/// An estimate never exceeds what the upstream was allowed to generate (MTR-25).
fn limited(tokens: u64, request: &EstimateBasis) -> u64 {
    let limit = request.max_output.map(|limit| limit.saturating_mul(request.choices.max(1)));
    limit.map_or(tokens, |limit| tokens.min(limit))
}

struct Bill {
    femto: Femto,
    lines: Vec<Line>,
}

impl Bill {
    fn add(&mut self, bucket: Bucket, quantity: u64, rate: Rate) -> Result<(), ChargeError> {
        if quantity > 0 {
            self.femto = self.femto.add_units(quantity, rate)?;
            self.lines.push(Line { bucket, quantity, rate });
        }
        Ok(())
    }

    /// Sounds and images with a price of their own are taken out of what was read in full first, then out of what was
    /// read from and written to caches (reference item 30).
    fn add_input(&mut self, price: &Rates, usage: &Usage) -> Result<(), ChargeError> {
        let (hour, half_day) = (usage.cache_write_1h.unwrap_or(0), usage.cache_write_12h.unwrap_or(0));
        let plain = usage.cache_write.unwrap_or(0).saturating_sub(hour).saturating_sub(half_day);
        let mut parts = [
            (Bucket::Input, usage.input_uncached.unwrap_or(0), Item::Input),
            (Bucket::CacheRead, usage.cache_read.unwrap_or(0), Item::CacheRead),
            (Bucket::CacheWrite, plain, Item::CacheWrite),
            (Bucket::CacheWrite1h, hour, Item::CacheWrite1h),
            (Bucket::CacheWrite12h, half_day, Item::CacheWrite12h),
        ];
        let taken = [
            (Bucket::AudioIn, usage.audio_in.filter(|_| price.audio_in.is_some()), Item::AudioIn),
            (Bucket::ImageIn, usage.image_in.filter(|_| price.image_in.is_some()), Item::ImageIn),
        ]
        .map(|(bucket, quantity, item)| {
            let wanted = quantity.unwrap_or(0);
            let mut rest = wanted;
            for (_, left, _) in &mut parts {
                let part = rest.min(*left);
                *left -= part;
                rest -= part;
            }
            (bucket, wanted - rest, item)
        });
        for (bucket, quantity, item) in parts.iter().chain(&taken).filter(|(_, quantity, _)| *quantity > 0) {
            self.add(*bucket, *quantity, price.rate_or_free(*item))?;
        }
        Ok(())
    }

    fn add_output(&mut self, price: &Rates, usage: &Usage) -> Result<(), ChargeError> {
        // Where images have a price their tokens have none.
        let counted = usage.images.is_some() && price.image.is_some();
        let mut rest = if counted { 0 } else { usage.output_total.unwrap_or(0) };
        let mut own = [
            (Bucket::AudioOut, usage.audio_out, price.audio_out),
            (Bucket::ImageOut, usage.image_out, price.image_out),
            (Bucket::Reasoning, usage.reasoning, price.reasoning),
        ];
        for (_, quantity, rate) in &mut own {
            let part = quantity.filter(|_| rate.is_some()).unwrap_or(0).min(rest);
            *quantity = Some(part);
            rest -= part;
        }
        self.add(Bucket::Output, rest, price.output)?;
        for (bucket, quantity, rate) in own {
            self.add(bucket, quantity.unwrap_or(0), rate.unwrap_or(Rate::FREE))?;
        }
        // Without its split a total has the dearer price of the two, never the cheaper.
        self.add(Bucket::TotalOnly, usage.total_only.unwrap_or(0), price.output.max(price.input))?;
        let searches = usage.web_search_requests.unwrap_or(0);
        self.add(Bucket::WebSearch, searches, price.web_search.unwrap_or(Rate::FREE))
    }

    fn add_units(&mut self, price: &Rates, usage: &Usage) -> Result<(), ChargeError> {
        for (bucket, quantity, rate) in [
            (Bucket::Image, usage.images, price.image),
            (Bucket::Character, usage.characters, price.character),
            (Bucket::Millisecond, usage.seconds_milli, price.millisecond_rate()),
            (Bucket::ResponseByte, usage.response_bytes, price.response_byte),
        ] {
            if let (Some(quantity), Some(rate)) = (quantity, rate) {
                self.add(bucket, quantity, rate)?;
            }
        }
        Ok(())
    }

    fn total(self, estimated: bool) -> Result<Charge, ChargeError> {
        Ok(Charge { femto: self.femto, nano: self.femto.to_nano_up()?, estimated, lines: self.lines })
    }
}
