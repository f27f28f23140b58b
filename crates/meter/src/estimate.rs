//! Tokens where nothing was reported (MTR-24, MTR-25, MTR-26). They are counted by whoever has a tokenizer; without
//! one they follow from the bytes.

/// Bytes per token where nothing was counted. English and most languages have more bytes per
/// token (4.0 to 5.7), code and JSON fewer (2.6 to 3.6); always rounded up.
const BYTES_PER_TOKEN: u64 = 4;

/// A factor of one.
const ONE_BP: u32 = 10_000;

/// What was counted for an estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Tokens of the request's texts, framing and media aside.
    pub input: Option<u64>,
    /// Tokens of a sample of the answer's text, and how many bytes that is.
    pub output: Option<(u64, u64)>,
    /// What a family's own tokenizer makes of one of these tokens, in basis points.
    pub factor_bp: u32,
}

impl Counted {
    /// Nobody counted anything.
    pub const NOTHING: Self = Self { input: None, output: None, factor_bp: ONE_BP };

    /// Tokens of the request's texts as its model counts them, where they were counted.
    #[must_use]
    pub fn raised_input(&self) -> Option<u64> {
        self.input.map(|tokens| self.raised(tokens.into()))
    }

    /// Tokens of a request with so many bytes of text, as JSON.
    pub(crate) fn input_tokens(&self, bytes: u64) -> u64 {
        self.raised_input().unwrap_or_else(|| bytes.div_ceil(BYTES_PER_TOKEN))
    }

    /// Tokens of so many bytes generated: all of them counted where the sample is all there is, else in its ratio.
    pub(crate) fn output_tokens(&self, bytes: u64) -> u64 {
        match self.output {
            Some((tokens, sample)) if sample > 0 => {
                self.raised((u128::from(bytes) * u128::from(tokens)).div_ceil(sample.into()))
            }
            Some(_) | None => bytes.div_ceil(BYTES_PER_TOKEN),
        }
    }

    fn raised(&self, tokens: u128) -> u64 {
        let raised = tokens.saturating_mul(self.factor_bp.into()).div_ceil(ONE_BP.into());
        u64::try_from(raised).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::Counted;

    #[test]
    fn counted_table() {
        let plain = Counted::NOTHING;
        let claude = Counted { input: Some(10), output: Some((3, 12)), factor_bp: 12_500 };
        let counted = Counted { factor_bp: 10_000, ..claude };
        for (case, counted, input, output) in [
            ("MTR-25 by bytes", plain, 3, 3),
            ("MTR-24 all of it counted", counted, 10, 3),
            ("MTR-26 a factor, rounded up", claude, 13, 4),
            ("MTR-25 nothing in the sample", Counted { output: Some((0, 0)), ..plain }, 3, 3),
        ] {
            assert_eq!((counted.input_tokens(12), counted.output_tokens(12)), (input, output), "{case}");
        }
        assert_eq!(counted.output_tokens(100), 25, "the ratio of the sample");
        assert_eq!(counted.output_tokens(101), 26, "rounded up");
        let most = Counted { output: Some((u64::MAX, 1)), ..claude };
        assert_eq!(most.output_tokens(u64::MAX), u64::MAX, "no overflow");
    }
}
