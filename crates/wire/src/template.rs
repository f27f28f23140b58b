//! Text that is the same each time but in a few places: what a challenge says of one way to pay.
//!
//! A template is made by writing the real thing once, with a [`MARKS`] where something will differ; so it cannot say
//! anything else than what is written without it. Filling it is copying.

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

#[cfg(test)]
mod tests {
    use super::{MARKS, Template};
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

    proptest! {
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
