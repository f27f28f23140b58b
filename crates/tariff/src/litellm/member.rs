//! What a member's name means: an item, then how long a cache entry lives, then the length of the prompt, then the
//! tier.

use crate::rates::Item;

/// Names of tiers as suffixes.
const TIERS: [&str; 5] = ["flex", "priority", "balanced", "ultrafast", "batches"];

/// Longest prompt of which a member may speak, in thousands of tokens.
const THOUSANDS_MAX: u64 = 100_000;

/// What a member prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An item, at some length and tier.
    Rate(Place),
    /// The call.
    PerCall,
    /// A second, heard or made.
    Second,
    /// An image of the prompt.
    ImageIn,
    /// A character, read or written.
    Character,
    /// Cache reads, by their older name.
    CacheHit,
    /// Tokens of films in the prompt, which are counted with the others.
    VideoIn,
    /// Something that the meter does not count.
    Uncounted,
}

/// Where in a tariff a rate belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) item: Item,
    /// Prompts of more tokens than this; zero for all.
    pub(super) over: u64,
    pub(super) tier: Option<&'static str>,
}

const STEMS: [(&str, Item); 9] = [
    ("input_cost_per_token", Item::Input),
    ("output_cost_per_token", Item::Output),
    ("cache_read_input_token_cost", Item::CacheRead),
    ("cache_creation_input_token_cost", Item::CacheWrite),
    ("output_cost_per_reasoning_token", Item::Reasoning),
    ("input_cost_per_audio_token", Item::AudioIn),
    ("output_cost_per_audio_token", Item::AudioOut),
    ("input_cost_per_image_token", Item::ImageIn),
    ("output_cost_per_image_token", Item::ImageOut),
];

/// The meaning of a member; `None` where it is no price that we know.
pub(super) fn kind_of(name: &str) -> Option<Kind> {
    Some(match name {
        "input_cost_per_query" | "input_cost_per_request" => Kind::PerCall,
        "input_cost_per_second" | "output_cost_per_second" => Kind::Second,
        "input_cost_per_image" => Kind::ImageIn,
        "output_cost_per_image" => Kind::Rate(Place { item: Item::Image, over: 0, tier: None }),
        "input_cost_per_character" | "output_cost_per_character" => Kind::Character,
        "input_cost_per_token_cache_hit" => Kind::CacheHit,
        "input_cost_per_pixel"
        | "output_cost_per_pixel"
        | "ocr_cost_per_page"
        | "ocr_cost_per_credit"
        | "annotation_cost_per_page"
        | "input_cost_per_audio_per_second"
        | "input_cost_per_video_per_second"
        | "output_cost_per_video_per_second"
        | "output_cost_per_video_token" => Kind::Uncounted,
        "input_cost_per_video_token" => Kind::VideoIn,
        _ => return by_stem(name).or_else(|| priced_by_size(name)),
    })
}

fn by_stem(name: &str) -> Option<Kind> {
    STEMS.iter().find_map(|(stem, item)| place(*item, name.strip_prefix(stem)?)).map(Kind::Rate)
}

/// Images of some size (`output_cost_per_image_2K`): the size that was made is not known here.
fn priced_by_size(name: &str) -> Option<Kind> {
    let size = name.strip_prefix("output_cost_per_image_")?;
    size.starts_with(|first: char| first.is_ascii_digit()).then_some(Kind::Uncounted)
}

fn place(stem: Item, suffix: &str) -> Option<Place> {
    let (item, rest) = match (stem, suffix.strip_prefix("_above_1hr"), suffix.strip_prefix("_above_12hr")) {
        (Item::CacheWrite, Some(rest), _) => (Item::CacheWrite1h, rest),
        (Item::CacheWrite, _, Some(rest)) => (Item::CacheWrite12h, rest),
        _ => (stem, suffix),
    };
    let (over, rest) = match rest.strip_prefix("_above_") {
        Some(length) => {
            let (thousands, rest) = length.split_once("k_tokens")?;
            let digits = !thousands.is_empty() && thousands.bytes().all(|byte| byte.is_ascii_digit());
            let thousands = thousands.parse().ok().filter(|_| digits)?;
            ((1..=THOUSANDS_MAX).contains(&thousands).then_some(thousands * 1000)?, rest)
        }
        None => (0, rest),
    };
    let tier = match rest.strip_prefix('_') {
        Some(tier) => Some(*TIERS.iter().find(|known| **known == tier)?),
        None if rest.is_empty() => None,
        None => return None,
    };
    Some(Place { item, over, tier })
}

#[cfg(test)]
mod tests {
    use super::{Kind, Place, kind_of};
    use crate::rates::Item;

    #[test]
    fn names_table() {
        let rate = |item, over, tier| Some(Kind::Rate(Place { item, over, tier }));
        for (name, expected) in [
            ("input_cost_per_token", rate(Item::Input, 0, None)),
            ("output_cost_per_token_flex", rate(Item::Output, 0, Some("flex"))),
            (
                "output_cost_per_token_above_272k_tokens_priority",
                rate(Item::Output, 272_000, Some("priority")),
            ),
            ("cache_creation_input_token_cost_above_1hr", rate(Item::CacheWrite1h, 0, None)),
            ("cache_creation_input_token_cost_above_200k_tokens", rate(Item::CacheWrite, 200_000, None)),
            (
                "cache_creation_input_token_cost_above_12hr_above_272k_tokens_flex",
                rate(Item::CacheWrite12h, 272_000, Some("flex")),
            ),
            ("cache_read_input_token_cost_batches", rate(Item::CacheRead, 0, Some("batches"))),
            ("input_cost_per_image_token", rate(Item::ImageIn, 0, None)),
            ("input_cost_per_image", Some(Kind::ImageIn)),
            ("output_cost_per_image", rate(Item::Image, 0, None)),
            ("input_cost_per_token_cache_hit", Some(Kind::CacheHit)),
            ("output_cost_per_pixel", Some(Kind::Uncounted)),
            ("output_cost_per_image_2K", Some(Kind::Uncounted)),
            ("output_cost_per_image_token_batches", rate(Item::ImageOut, 0, Some("batches"))),
            ("output_cost_per_image_above_2K", None),
            ("input_cost_per_token_above_1hr", None),
            ("input_cost_per_token_above_k_tokens", None),
            ("input_cost_per_token_above_0k_tokens", None),
            ("input_cost_per_token_above_99999999999999999999k_tokens", None),
            ("input_cost_per_token_above_128k_tokens_above_256k_tokens", None),
            ("input_cost_per_token_gold", None),
            ("input_cost_per_tokens", None),
            ("cache_read_input_audio_token_cost", None),
            ("rpm", None),
        ] {
            assert_eq!(kind_of(name), expected, "{name}");
        }
    }
}
