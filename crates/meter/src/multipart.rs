//! Forms of uploads, `multipart/form-data`, read strictly.
//!
//! Decoders of forms disagree about everything that is not canonical, so the upstream might see another model
//! than the one that was priced. What is not written the one way that all of them read alike is refused.

use std::ops::Range;

use memchr::memmem;

/// Most parts of one form.
const PARTS_MAX: usize = 64;

/// Longest headers of one part.
const HEADERS_BYTES_MAX: usize = 1024;

/// One part of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    /// Its name, without the `[]` that lists have.
    pub(crate) name: &'a str,
    /// Whether it is a file.
    pub(crate) is_file: bool,
    /// Where its content stands in the body.
    pub(crate) span: Range<usize>,
}

/// Whether a `content-type` says that the body is such a form.
pub(crate) fn is_form(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("multipart/form-data")
}

/// The parts of a form; `None` where it is not written canonically.
pub(crate) fn parts<'a>(content_type: &str, body: &'a [u8]) -> Option<Vec<Part<'a>>> {
    let delimiter = format!("--{}", boundary(content_type)?);
    let mut starts = memmem::find_iter(body, delimiter.as_bytes());
    if starts.next() != Some(0) {
        return None;
    }
    let mut parts = Vec::new();
    let mut from = delimiter.len();
    for start in starts {
        // Each delimiter but the first stands at the beginning of a line, and nowhere else.
        let end = start.checked_sub(2).filter(|end| body.get(*end..start) == Some(b"\r\n"))?;
        parts.push(part(body, from, end)?);
        from = start + delimiter.len();
        if parts.len() > PARTS_MAX {
            return None;
        }
    }
    let tail = body.get(from..)?;
    (matches!(tail, b"--" | b"--\r\n") && !parts.is_empty()).then_some(parts)
}

/// The part whose delimiter ends at `from`.
fn part(body: &[u8], from: usize, end: usize) -> Option<Part<'_>> {
    let text = body.get(from..end)?.strip_prefix(b"\r\n")?;
    let head_bytes = memmem::find(text, b"\r\n\r\n").filter(|bytes| *bytes <= HEADERS_BYTES_MAX)?;
    let head = std::str::from_utf8(text.get(..head_bytes)?).ok()?;
    let mut disposition = None;
    for line in head.split("\r\n") {
        let (name, value) = line.split_once(':')?;
        if name.is_empty()
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            || value.contains(char::is_control)
        {
            return None;
        }
        match name.to_ascii_lowercase().as_str() {
            "content-disposition" if disposition.is_none() => disposition = Some(read_disposition(value)?),
            "content-type" | "content-length" => {}
            _ => return None,
        }
    }
    let (name, is_file) = disposition?;
    Some(Part { name, is_file, span: from + 2 + head_bytes + 4..end }).filter(|part| part.span.start <= end)
}

/// `form-data; name="x"; filename="y"`: the name, and whether there is a file's.
fn read_disposition(value: &str) -> Option<(&str, bool)> {
    let mut rest = value.trim_start().strip_prefix("form-data")?;
    let (mut name, mut is_file) = (None, false);
    while !rest.is_empty() {
        let (key, quoted) = rest.strip_prefix(';')?.trim_start().split_once("=")?;
        let (value, after) = match quoted.strip_prefix('"') {
            Some(text) => text.split_once('"')?,
            // `filename*=UTF-8''x` has no quotes.
            None => quoted.split_at(quoted.find(';').unwrap_or(quoted.len())),
        };
        match key {
            "name" if name.is_none() => name = Some(value),
            "filename" | "filename*" => is_file = true,
            _ => return None,
        }
        rest = after;
    }
    let name = name?;
    let name = name.strip_suffix("[]").unwrap_or(name);
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    plain.then_some((name, is_file))
}

/// The one `boundary` of a content type.
fn boundary(content_type: &str) -> Option<&str> {
    let mut found = content_type.split(';').skip(1).map(str::trim).filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then_some(value)
    });
    let value = found.next().filter(|_| found.next().is_none())?;
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+' | b'=' | b'\'');
    ((1..=70).contains(&value.len()) && value.bytes().all(plain)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::parts;

    const TYPE: &str = "multipart/form-data; boundary=x-1";

    fn names(content_type: &str, body: &str) -> Option<Vec<String>> {
        let parts = parts(content_type, body.as_bytes())?;
        let show = |part: &super::Part<'_>| {
            format!("{}{}={}", part.name, if part.is_file { "*" } else { "" }, &body[part.span.clone()])
        };
        Some(parts.iter().map(show).collect())
    }

    #[test]
    fn forms_table() {
        let model = "--x-1\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n";
        let file = "--x-1\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n\r\nAB\n\r\n";
        let whole = format!("{model}{file}--x-1--\r\n");
        let expected = Some(vec!["model=m".to_owned(), "file*=\r\nAB\n".to_owned()]);
        assert_eq!(names(TYPE, &whole), expected);
        assert_eq!(names("Multipart/Form-Data;charset=utf-8; Boundary=\"x-1\"", &whole), expected);
        let list = "--x-1\r\nContent-Disposition: form-data; name=\"image[]\"; filename*=UTF-8''x\r\n\r\n\r\n--x-1--";
        assert_eq!(names(TYPE, list), Some(vec!["image*=".to_owned()]));
        for (case, body) in [
            ("no end", model.to_owned()),
            ("no parts", "--x-1--\r\n".to_owned()),
            ("preamble", format!("\r\n{whole}")),
            ("epilogue", format!("{whole}more")),
            ("bare line feed before a delimiter", whole.replace("m\r\n--x-1", "m\n--x-1")),
            ("delimiter within a line", whole.replace("AB", "A--x-1B")),
            ("a boundary that begins alike", whole.replace("AB", "\r\n--x-12\r\n")),
            ("bare line feeds in headers", whole.replacen("\"\r\n\r\n", "\"\n\n", 1)),
            ("folded header", whole.replacen("form-data; ", "form-data;\r\n ", 1)),
            (
                "two dispositions",
                whole.replacen("\r\n\r\nm", "\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\nm", 1),
            ),
            ("an encoding", whole.replacen("\r\n\r\nm", "\r\nContent-Transfer-Encoding: base64\r\n\r\nm", 1)),
            ("name twice", whole.replacen("\"model\"", "\"model\"; name=\"n\"", 1)),
            ("extended name", whole.replacen("name=", "name*=", 1)),
            ("name with an escape", whole.replacen("model", "mo\\\"del", 1)),
            ("name without quotes is read", whole.replacen("\"model\"", "mo del", 1)),
            ("no name", whole.replacen("; name=\"model\"", "", 1)),
        ] {
            assert_eq!(names(TYPE, &body), None, "{case}");
        }
        for content_type in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=x-1; boundary=y",
            "multipart/form-data; boundary=\"x-1\\\"\"",
        ] {
            assert_eq!(names(content_type, &whole), None, "{content_type}");
        }
    }
}
