//! Which keys sign the receipts of an origin: remembered at first sight (`trust.json`).

use std::collections::BTreeMap;
use std::path::Path;

use crate::folder::{self, FileError};

/// By origin: names of keys, which are thumbprints of the keys themselves.
type Content = BTreeMap<String, Vec<String>>;

/// Whether `kid` may sign for this origin. At first sight every published key is remembered.
pub(crate) fn check(file: &Path, origin: &str, kid: &str, published: &[String]) -> Result<bool, FileError> {
    let content: Content = folder::load(file)?;
    if let Some(known) = content.get(origin) {
        return Ok(known.iter().any(|known| known == kid));
    }
    folder::update(file, |content: &mut Content| {
        let known = content.entry(origin.to_owned()).or_insert_with(|| published.to_vec());
        known.iter().any(|known| known == kid)
    })
}

/// Whether `kid` may sign for this origin, without learning anything. `None` for an origin never seen.
pub(crate) fn known(file: &Path, origin: &str, kid: &str) -> Result<Option<bool>, FileError> {
    let content: Content = folder::load(file)?;
    Ok(content.get(origin).map(|known| known.iter().any(|known| known == kid)))
}

#[cfg(test)]
mod tests {
    use super::{check, known};

    #[test]
    fn the_first_keys_stay() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trust.json");
        let published = ["a".to_owned(), "b".to_owned()];
        for (origin, kid, expected) in [
            ("https://x", "a", true),
            ("https://x", "b", true),
            ("https://x", "c", false),
            ("https://y", "c", false),
        ] {
            assert_eq!(check(&file, origin, kid, &published).unwrap(), expected, "{origin} {kid}");
        }
        for (origin, kid, expected) in
            [("https://x", "a", Some(true)), ("https://x", "c", Some(false)), ("https://z", "a", None)]
        {
            assert_eq!(known(&file, origin, kid).unwrap(), expected, "{origin} {kid}");
        }
    }
}
