//! How the most lenient server may read a path: percent triplets decoded, as often as there are any, letters in one
//! case, empty ends of segments dropped. A request that is sold as one thing and may be read as another is not sold.

use std::borrow::Cow;

use crate::wall::decoded;

/// Triplets within triplets that are followed.
const DECODED_MAX: usize = 4;

/// The loosest reading of a path that passed the wall. `None`: it could be read as one with other segments than it shows.
pub(crate) fn reading(path: &str) -> Option<String> {
    let segments = path.split('/').skip(1).map(segment).collect::<Option<Vec<_>>>()?;
    let last = segments.len().checked_sub(1)?;
    let mut read = String::with_capacity(path.len());
    for (place, segment) in segments.iter().enumerate() {
        if segment.is_empty() && place < last {
            return None;
        }
        if !segment.is_empty() {
            read.push('/');
            read.push_str(segment);
        }
    }
    Some(read)
}

fn segment(text: &str) -> Option<String> {
    let mut bytes = Cow::Borrowed(text.as_bytes());
    for _ in 0..DECODED_MAX {
        let Some(next) = std::str::from_utf8(&bytes).ok().and_then(decoded) else { break };
        if *next == *bytes {
            break;
        }
        bytes = Cow::Owned(next);
    }
    let plain = String::from_utf8_lossy(&bytes).trim().to_ascii_lowercase();
    let is_several = plain.contains(['/', '\\', ';', '\0']) || plain == "." || plain == "..";
    (!is_several).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::reading;

    #[test]
    fn what_a_lenient_server_reads() {
        for (path, expected) in [
            ("/tools/one", Some("/tools/one")),
            ("/Tools/O%6eE", Some("/tools/one")),
            ("/tools/o%256ee", Some("/tools/one")),
            ("/tools/o%25256ee/", Some("/tools/one")),
            ("/tools/one%20", Some("/tools/one")),
            ("/tools/100%25", Some("/tools/100%")),
            ("/tools/...", Some("/tools/...")),
            ("/", Some("")),
            ("/tools/%252e%252e/x", None),
            ("/tools/a%252fb", None),
            ("/tools/a%3bb", None),
            ("/tools/%20/x", None),
            ("/tools/%2500", None),
        ] {
            assert_eq!(reading(path).as_deref(), expected, "{path}");
        }
    }
}
