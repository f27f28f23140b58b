//! What a facilitator's catalogue makes of our entry: for the operator's log, never relayed (X402-37).

use wire::x402::bazaar::{self, Listing};

/// Longest text of a catalogue that is logged, in characters.
const TEXT_CHARS_MAX: usize = 160;

/// Logs the word on our entry, if there is one.
pub(super) fn log(facilitator: &str, said: Option<&str>) {
    let listing = said.and_then(|text| bazaar::listing(text).ok()).flatten();
    if let Some((status, reason)) = listing.map(told) {
        tracing::info!(facilitator, status, reason, "a catalogue says what became of an entry of ours");
    }
}

/// Its words, short and in one line.
fn told(listing: Listing) -> (String, String) {
    let plain = |text: String| -> String {
        let letters = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
        letters.take(TEXT_CHARS_MAX).collect()
    };
    (plain(listing.status), plain(listing.rejected_reason.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use wire::x402::bazaar::Listing;

    use super::{TEXT_CHARS_MAX, told};

    /// X402-37: hostile text makes neither a line of its own nor a long one.
    #[test]
    fn x402_37_a_word_is_short_and_in_one_line() {
        let long = "x".repeat(1000);
        let listing = Listing { status: "a\nb\u{1b}[2J".into(), rejected_reason: Some(long) };
        let (status, reason) = told(listing);
        assert_eq!((status.as_str(), reason.len()), ("a b [2J", TEXT_CHARS_MAX));
    }
}
