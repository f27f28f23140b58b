//! Text that is the same each time but in a few places: what a challenge says of one way to pay.
//!
//! A template is made by writing the real thing once, with a [`MARKS`] where something will differ; so it cannot say
//! anything else than what is written without it. Filling it is copying.

use std::fmt;
use std::ops::Range;

use crate::base64;

/// What stands for a value while a template is made. Unicode keeps these code points free for such use: they are in no
/// text that anybody exchanges, and JSON writes them as they are.
pub const MARKS: [&str; 4] = ["\u{fdd0}", "\u{fdd1}", "\u{fdd2}", "\u{fdd3}"];

/// Text with holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Without its holes.
    text: String,
    /// Where they are, in their order, and which value goes into each.
    holes: Vec<(usize, usize)>,
}

impl Template {
    /// Makes holes of the first marks, `count` of them: value `n` goes where `MARKS[n]` stands. `None`: one of these
    /// stands nowhere, or twice, or there are not so many.
    #[must_use]
    pub fn new(marked: &str, count: usize) -> Option<Self> {
        let mut holes = Vec::with_capacity(count);
        for (value, mark) in MARKS.get(..count)?.iter().enumerate() {
            let mut places = marked.match_indices(mark);
            holes.push((places.next()?.0, value));
            if places.next().is_some() {
                return None;
            }
        }
        holes.sort_unstable();
        let (mut text, mut rest) = (String::with_capacity(marked.len()), 0);
        for (place, value) in &mut holes {
            text.push_str(marked.get(rest..*place)?);
            rest = *place + MARKS.get(*value)?.len();
            *place = text.len();
        }
        text.push_str(marked.get(rest..)?);
        Some(Self { text, holes })
    }

    /// The text with `values` in its holes. A value more than there are holes is left out.
    #[must_use]
    pub fn fill(&self, values: &[&str]) -> String {
        let bytes = self.text.len() + values.iter().map(|value| value.len()).sum::<usize>();
        let mut filled = String::with_capacity(bytes);
        let (mut rest, mut written) = (self.text.as_str(), 0);
        for (place, value) in &self.holes {
            // Places stand in their order, each at the end of a character.
            let (text, behind) = rest.split_at_checked(place - written).unwrap_or((rest, ""));
            filled.push_str(text);
            filled.push_str(values.get(*value).copied().unwrap_or_default());
            (rest, written) = (behind, *place);
        }
        filled.push_str(rest);
        filled
    }
}

/// Text in base64 with blanks, each of which takes so many bytes whatever is filled in: only the groups of three bytes that a
/// blank touches are encoded anew.
///
/// It is made of the real thing, with a [`Blank`] written where something will differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base64Template {
    text: Vec<u8>,
    encoded: Vec<u8>,
    /// Where they are, and which value goes into each.
    blanks: Vec<(Range<usize>, usize)>,
}

/// What stands for a value of `bytes` bytes while such a template is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blank {
    /// Which value it is: less than there are [`MARKS`].
    pub value: usize,
    /// At least as long as a mark.
    pub bytes: usize,
}

impl fmt::Display for Blank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = MARKS.get(self.value).copied().unwrap_or_default();
        write!(f, "{mark}{:_<1$}", "", self.bytes.saturating_sub(mark.len()))
    }
}

impl Base64Template {
    /// Finds these blanks, wherever and however often they are in `text`. `None`: one would end beyond it.
    #[must_use]
    pub fn new(text: String, all: &[Blank]) -> Option<Self> {
        let mut blanks = Vec::new();
        for blank in all {
            let places = text.match_indices(MARKS.get(blank.value)?);
            blanks.extend(places.map(|(place, _)| (place..place + blank.bytes, blank.value)));
        }
        let text = text.into_bytes();
        let are_within = blanks.iter().all(|(place, _)| place.end <= text.len());
        are_within.then(|| Self { encoded: base64::encode_std(&text).into_bytes(), text, blanks })
    }

    /// The text with `values` in its blanks, in base64 as [`base64::encode_std`] writes it. `None`: a value is missing, or
    /// has not the length of its blank.
    #[must_use]
    pub fn fill(&self, values: &[&str]) -> Option<Vec<u8>> {
        let mut text = self.text.clone();
        for (place, value) in &self.blanks {
            let (blank, value) = (text.get_mut(place.clone())?, values.get(*value)?.as_bytes());
            if blank.len() != value.len() {
                return None;
            }
            blank.copy_from_slice(value);
        }
        let mut encoded = self.encoded.clone();
        for (place, _) in &self.blanks {
            let (first, end) = (place.start / 3, place.end.div_ceil(3));
            let bytes = text.get(first * 3..text.len().min(end * 3))?;
            base64::encode_std_into(bytes, encoded.get_mut(first * 4..end * 4)?)?;
        }
        Some(encoded)
    }
}

#[cfg(test)]
mod tests {
    use super::{Base64Template, Blank, MARKS, Template};
    use crate::base64;
    use proptest::prelude::*;

    #[test]
    fn values_go_where_their_marks_stood() {
        let [a, b, ..] = MARKS;
        let template = Template::new(&format!("é{b}{a}, "), 2).unwrap();
        assert_eq!(template.fill(&["one", "two"]), "étwoone, ");
        assert_eq!(template.fill(&["one", "two", "three"]), "étwoone, ");
        assert_eq!(Template::new("all of it", 0).unwrap().fill(&[]), "all of it");
    }

    #[test]
    fn a_mark_stands_once() {
        let [a, b, ..] = MARKS;
        assert_eq!(Template::new("none", 1), None);
        assert_eq!(Template::new(&format!("{a}{a}"), 1), None);
        assert_eq!(Template::new(&format!("{b}{b}{a}"), 2), None);
        assert_eq!(Template::new(&MARKS.concat(), MARKS.len() + 1), None, "more holes than marks");
    }

    #[test]
    fn a_blank_is_as_long_as_what_goes_into_it() {
        assert_eq!(Blank { value: 1, bytes: 5 }.to_string(), "\u{fdd1}__");
        let blank = Blank { value: 0, bytes: 4 };
        let template = Base64Template::new(format!("{blank}, "), &[blank]).unwrap();
        assert_eq!(template.fill(&["four"]), Some(base64::encode_std(b"four, ").into_bytes()));
        assert_eq!((template.fill(&["three"]), template.fill(&[])), (None, None));
        assert_eq!(Base64Template::new(MARKS[0].to_owned(), &[blank]), None, "it would end beyond the text");
        assert_eq!(Base64Template::new(String::new(), &[blank]).unwrap().fill(&[]), Some(Vec::new()));
    }

    proptest! {
        /// The same as encoding all of it, wherever blanks begin and end.
        #[test]
        fn filling_in_base64_is_encoding_the_text(
            parts in proptest::array::uniform4("[a-zé\"]{0,12}"),
            values in proptest::array::uniform2("[A-Z]{3,9}"),
        ) {
            let blank = |value: usize| Blank { value, bytes: values[value].len() };
            let (one, other) = (blank(0), blank(1));
            let [a, b, c, d] = parts;
            let template = Base64Template::new(format!("{a}{one}{b}{other}{c}{one}{d}"), &[one, other]).unwrap();
            let [first, second] = &values;
            let text = format!("{a}{first}{b}{second}{c}{first}{d}");
            prop_assert_eq!(template.fill(&[first, second]), Some(base64::encode_std(text.as_bytes()).into_bytes()));
        }

        /// The same as replacing each mark.
        #[test]
        fn filling_is_replacing(
            parts in proptest::array::uniform3("[a-zé\"]{0,12}"),
            values in proptest::array::uniform2("[A-Z€]{0,8}"),
        ) {
            let [a, b, ..] = MARKS;
            let marked = format!("{}{b}{}{a}{}", parts[0], parts[1], parts[2]);
            let expected = marked.replace(a, &values[0]).replace(b, &values[1]);
            let template = Template::new(&marked, 2).unwrap();
            prop_assert_eq!(template.fill(&[&values[0], &values[1]]), expected);
        }
    }
}
