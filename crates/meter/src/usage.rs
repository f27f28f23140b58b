//! The normal form of a usage report: disjoint buckets (MTR-5).

use crate::count::Count;

/// What one call used. Every count is an `Option`: absent is not zero (MTR-6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens at the full rate.
    pub input_uncached: Option<u64>,
    /// Prompt tokens served from a cache.
    pub cache_read: Option<u64>,
    /// Prompt tokens written to a cache, whatever their lifetime.
    pub cache_write: Option<u64>,
    /// The part of `cache_write` that lives for 5 minutes, where reported; likewise below.
    pub cache_write_5m: Option<u64>,
    /// The part that lives for 30 minutes.
    pub cache_write_30m: Option<u64>,
    /// The part that lives for an hour.
    pub cache_write_1h: Option<u64>,
    /// The part that lives for 12 hours.
    pub cache_write_12h: Option<u64>,
    /// `input_uncached + cache_read + cache_write`.
    pub input_total: Option<u64>,
    /// Everything generated, reasoning included.
    pub output_total: Option<u64>,
    /// The part of `output_total` that was reasoning.
    pub reasoning: Option<u64>,
    /// The part of the input that was audio.
    pub audio_in: Option<u64>,
    /// The part of the output that was audio.
    pub audio_out: Option<u64>,
    /// The part of the input that was images.
    pub image_in: Option<u64>,
    /// The part of the output that was images.
    pub image_out: Option<u64>,
    /// A total without its split.
    pub total_only: Option<u64>,
    /// Searches the provider ran, priced one by one.
    pub web_search_requests: Option<u64>,
    /// Images that were made.
    pub images: Option<u64>,
    /// Characters of the text that was to be spoken.
    pub characters: Option<u64>,
    /// Milliseconds of sound, or of the call where time is the unit.
    pub seconds_milli: Option<u64>,
    /// Bytes of the answer's body, where they are the unit.
    pub response_bytes: Option<u64>,
    /// Calls, where the call itself is the unit.
    pub calls: Option<u64>,
    /// The tier the answer was served at; `None` for the standard one (reference item 26).
    pub service_tier: Option<String>,
    /// Where the provider ran the call, if it says.
    pub inference_geo: Option<String>,
    /// The speed the provider ran the call at, if it says.
    pub speed: Option<String>,
    /// What the call cost at its provider, as decimal text, if it says: a cost, no price (MTR-53).
    pub upstream_cost_usd: Option<String>,
}

/// What a bill rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The provider's final report.
    Reported,
    /// A cumulative or one-sided report that does not cover the whole answer.
    ReportedPartial,
    /// A total without its split.
    ReportedTotalOnly,
    /// Output without input.
    ReportedOutputOnly,
    /// Units that we counted ourselves.
    Counted,
    /// Nothing trustworthy was reported.
    Estimate,
    /// The job goes on in the background: nothing can be captured yet.
    Pending,
    /// Nothing billable.
    None,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// One whole document.
    Complete,
    /// The stream's `[DONE]`.
    Done,
    /// `response.completed`.
    Completed,
    /// `response.incomplete`.
    Incomplete,
    /// `message_stop`.
    MessageStop,
    /// The end of a stream whose last word is why generation stopped.
    FinishReasonStop,
    /// The upstream said that it failed.
    Error,
    /// Cut off: reset, or JSON that never closed.
    Truncated,
    /// The client left first.
    ClientGone,
    /// The stream ended cleanly, but without its end mark.
    EofWithoutDone,
    /// Opaque to the meter: a bound was reached or an encoding is unknown.
    MeterLimit,
    /// A background job was accepted.
    Pending,
}

/// Something about a report that a person should look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// Zero output was reported, yet output arrived (MTR-6).
    SuspiciousZero,
    /// A part was larger than its whole and was cut to it (MTR-9).
    Inconsistent,
    /// A sub-count was no count and was dropped (reference item 33).
    BadSubCount,
    /// A total was no count: the whole report is void (MTR-8).
    InvalidReport,
    /// An event or document could not be read and was passed over.
    Opaque,
    /// A bound of the parser was reached (MTR-16).
    OverLimit,
}

/// The anomalies of one answer, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anomalies(Vec<Anomaly>);

impl Anomalies {
    pub(crate) fn add(&mut self, anomaly: Anomaly) {
        if !self.has(anomaly) {
            self.0.push(anomaly);
        }
    }

    /// Whether this one was seen.
    #[must_use]
    pub fn has(&self, anomaly: Anomaly) -> bool {
        self.0.contains(&anomaly)
    }

    /// All that were seen.
    pub fn iter(&self) -> impl Iterator<Item = Anomaly> + '_ {
        self.0.iter().copied()
    }
}

/// Members of a usage object, under whatever names a dialect has for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Input,
    Output,
    Total,
    CacheRead,
    /// Cache reads at another place, which wins.
    CacheHit,
    CacheWrite,
    Write5m,
    Write30m,
    Write1h,
    Write12h,
    Reasoning,
    /// Reasoning that is not part of `Output`.
    Thoughts,
    /// Input that is not part of `Input`.
    ToolInput,
    AudioIn,
    AudioOut,
    ImageIn,
    ImageOut,
    /// Milliseconds of sound.
    Millis,
    WebSearch,
}

impl Basis {
    /// The name in journal, receipts and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reported => "reported",
            Self::ReportedPartial => "reported_partial",
            Self::ReportedTotalOnly => "reported_total_only",
            Self::ReportedOutputOnly => "reported_output_only",
            Self::Counted => "counted",
            Self::Estimate => "estimate",
            Self::Pending => "pending",
            Self::None => "none",
        }
    }
}

impl Terminal {
    /// The name in journal, receipts and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Done => "done",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
            Self::MessageStop => "message_stop",
            Self::FinishReasonStop => "finish_reason_stop",
            Self::Error => "error",
            Self::Truncated => "truncated",
            Self::ClientGone => "client_gone",
            Self::EofWithoutDone => "eof_without_done",
            Self::MeterLimit => "meter_limit",
            Self::Pending => "pending",
        }
    }
}

impl Field {
    const ALL: [Self; 19] = [
        Self::Input,
        Self::Output,
        Self::Total,
        Self::CacheRead,
        Self::CacheHit,
        Self::CacheWrite,
        Self::Write5m,
        Self::Write30m,
        Self::Write1h,
        Self::Write12h,
        Self::Reasoning,
        Self::Thoughts,
        Self::ToolInput,
        Self::AudioIn,
        Self::AudioOut,
        Self::ImageIn,
        Self::ImageOut,
        Self::Millis,
        Self::WebSearch,
    ];
}

/// The counts of one report as they were written. Apart from whatever holds them, and only once there is one: most events
/// of a stream report nothing, and each open stream has several places for a report.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts(Option<Box<[Count; Field::ALL.len()]>>);

impl Counts {
    pub(crate) fn get(&self, field: Field) -> Count {
        self.0.as_ref().map_or(Count::Absent, |counts| counts[field as usize])
    }

    pub(crate) fn set(&mut self, field: Field, count: Count) {
        if self.0.is_some() || count != Count::Absent {
            self.0.get_or_insert_default()[field as usize] = count;
        }
    }

    /// Empties it, keeping its room.
    pub(crate) fn clear(&mut self) {
        if let Some(counts) = &mut self.0 {
            **counts = Default::default();
        }
    }

    /// Takes over what a later cumulative report says, member by member (MTR-7).
    pub(crate) fn merge(&mut self, later: &Self) {
        for field in Field::ALL {
            match later.get(field) {
                Count::Absent | Count::Null => {}
                said @ (Count::Bad | Count::Of(_)) => self.set(field, said),
            }
        }
    }

    /// A part of something: at most `room`. A bad one is dropped, its tokens stay in the rest.
    fn part(&self, field: Field, room: u64, anomalies: &mut Anomalies) -> Option<u64> {
        match self.get(field) {
            Count::Absent | Count::Null => None,
            Count::Bad => {
                anomalies.add(Anomaly::BadSubCount);
                None
            }
            Count::Of(count) => {
                if count > room {
                    anomalies.add(Anomaly::Inconsistent);
                }
                Some(count.min(room))
            }
        }
    }
}

/// What a report is worth: usage and which sides of it are known, or `None` if it has no figure.
pub(crate) type Normal = Result<Option<(Usage, Basis)>, Untrusted>;

/// A total in a report is no count (MTR-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Untrusted;

/// A report whose input includes what was read from and written to caches (OpenAI).
pub(crate) fn inclusive(counts: &Counts, anomalies: &mut Anomalies) -> Normal {
    use Field as F;
    let (input, output) = (counts.get(F::Input), counts.get(F::Output));
    if input == Count::Bad || output == Count::Bad {
        return Err(Untrusted);
    }
    let total = counts.get(F::Total).known();
    // The side that is missing follows from the total, if that can be.
    let rest = |known: u64| total.and_then(|total| total.checked_sub(known));
    let (input, output) = match (input.known(), output.known(), total) {
        (None, None, None) => return Ok(None),
        (None, None, Some(total)) => {
            let usage = Usage { total_only: Some(total), ..Usage::default() };
            return Ok(Some((usage, Basis::ReportedTotalOnly)));
        }
        (input, output, _) => (input.or_else(|| rest(output?)), output.or_else(|| rest(input?))),
    };
    let mut usage = Usage { output_total: output, input_total: input, ..Usage::default() };
    if let Some(input) = input {
        let hit = counts.part(F::CacheHit, input, anomalies);
        let read = hit.or_else(|| counts.part(F::CacheRead, input, anomalies)).unwrap_or(0);
        let write = counts.part(F::CacheWrite, input - read, anomalies).unwrap_or(0);
        usage.cache_read = Some(read);
        usage.input_uncached = Some(input - read - write);
        set_writes(&mut usage, write, counts, anomalies);
        usage.audio_in = counts.part(F::AudioIn, input, anomalies);
        let unheard = input - usage.audio_in.unwrap_or(0);
        usage.image_in = counts.part(F::ImageIn, unheard, anomalies);
    }
    set_output_parts(&mut usage, counts, anomalies);
    Ok(Some(known(usage, counts, anomalies)))
}

/// A report whose output excludes reasoning, and whose input excludes what tools read (Gemini).
pub(crate) fn thoughts_apart(counts: &Counts, anomalies: &mut Anomalies) -> Normal {
    use Field as F;
    let parts = [F::Input, F::Output, F::Thoughts, F::ToolInput];
    // These are counts of their own, no parts: one bad figure voids the report.
    if parts.iter().any(|field| counts.get(*field) == Count::Bad) {
        return Err(Untrusted);
    }
    let [input, output, thoughts, tools] = parts.map(|field| counts.get(field).known());
    if input.is_none() && output.is_none() && thoughts.is_none() {
        return inclusive(counts, anomalies);
    }
    let mut sums = counts.clone();
    // A report that is there makes its missing counts zero (reference item 26).
    let (output, thoughts) = (output.unwrap_or(0), thoughts.unwrap_or(0));
    sums.set(F::Output, Count::Of(output + thoughts));
    sums.set(F::Reasoning, Count::Of(thoughts));
    sums.set(F::Input, input.map_or(Count::Absent, |input| Count::Of(input + tools.unwrap_or(0))));
    inclusive(&sums, anomalies)
}

/// A report in seconds, where it is not one in tokens.
pub(crate) fn timed(counts: &Counts, anomalies: &mut Anomalies) -> Normal {
    match counts.get(Field::Millis) {
        Count::Bad => Err(Untrusted),
        Count::Of(milli) => {
            Ok(Some((Usage { seconds_milli: Some(milli), ..Usage::default() }, Basis::Reported)))
        }
        Count::Absent | Count::Null => inclusive(counts, anomalies),
    }
}

/// A report whose input excludes what was read from and written to caches (Anthropic).
pub(crate) fn exclusive(counts: &Counts, anomalies: &mut Anomalies) -> Normal {
    use Field as F;
    // These four are counts of their own, no parts: one bad figure voids the report.
    if [F::Input, F::Output, F::CacheRead, F::CacheWrite].iter().any(|f| counts.get(*f) == Count::Bad) {
        return Err(Untrusted);
    }
    let (input, output) = (counts.get(F::Input).known(), counts.get(F::Output).known());
    if input.is_none() && output.is_none() {
        return Ok(None);
    }
    let mut usage = Usage { output_total: output, input_uncached: input, ..Usage::default() };
    if let Some(input) = input {
        let read = counts.get(F::CacheRead).known().unwrap_or(0);
        // The split without its sum: the sum follows.
        let write = counts.get(F::CacheWrite).known().unwrap_or_else(|| {
            let split = [F::Write5m, F::Write1h].map(|field| counts.get(field).known().unwrap_or(0));
            split[0] + split[1]
        });
        usage.cache_read = Some(read);
        usage.input_total = Some(input + read + write);
        set_writes(&mut usage, write, counts, anomalies);
    }
    set_output_parts(&mut usage, counts, anomalies);
    Ok(Some(known(usage, counts, anomalies)))
}

/// Lifetimes that sum above the total are cut to it (reference item 32).
fn set_writes(usage: &mut Usage, write: u64, counts: &Counts, anomalies: &mut Anomalies) {
    let mut room = write;
    let mut lifetime = |field| {
        let part = counts.part(field, room, anomalies);
        room -= part.unwrap_or(0);
        part
    };
    usage.cache_write = Some(write);
    usage.cache_write_5m = lifetime(Field::Write5m);
    usage.cache_write_30m = lifetime(Field::Write30m);
    usage.cache_write_1h = lifetime(Field::Write1h);
    usage.cache_write_12h = lifetime(Field::Write12h);
}

fn set_output_parts(usage: &mut Usage, counts: &Counts, anomalies: &mut Anomalies) {
    if let Some(output) = usage.output_total {
        // A report that is there makes its missing sub-counts zero (reference item 26).
        let reasoning = counts.part(Field::Reasoning, output, anomalies).unwrap_or(0);
        usage.reasoning = Some(reasoning);
        usage.audio_out = counts.part(Field::AudioOut, output - reasoning, anomalies);
        let unheard = output - reasoning - usage.audio_out.unwrap_or(0);
        usage.image_out = counts.part(Field::ImageOut, unheard, anomalies);
    }
}

fn known(mut usage: Usage, counts: &Counts, anomalies: &mut Anomalies) -> (Usage, Basis) {
    usage.web_search_requests = counts.part(Field::WebSearch, u64::MAX, anomalies);
    let basis = match (usage.input_total, usage.output_total) {
        (Some(_), Some(_)) => Basis::Reported,
        (None, _) => Basis::ReportedOutputOnly,
        (_, None) => Basis::ReportedPartial,
    };
    (usage, basis)
}
