//! A bounded, inflated copy of a compressed answer, for the meter only (MTR-16, MTR-17).
//!
//! We ask for `identity`; some upstreams compress anyway. The client gets their bytes unchanged.

use std::io::Write as _;

use flate2::write::{MultiGzDecoder, ZlibDecoder};

/// Input goes to the inflater in blocks of this size at fixed offsets, so that what it makes of the
/// bytes, bound included, does not depend on how the network cut them (MTR-1).
const BLOCK_BYTES: usize = 512;

/// An answer may inflate to this much, plus [`RATIO_MAX`] times what came in. Event streams reach
/// about 25 to 1; deflate itself stops at 1032 to 1, which only a bomb comes near.
const FREE_BYTES: u64 = 1 << 20;
const RATIO_MAX: u64 = 64;

/// Encodings stacked on one another that we follow (reference item 34).
const LAYERS_MAX: usize = 2;

/// What became of a compressed answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Readable so far.
    Good,
    /// It grows beyond the bound: opaque from here on.
    OverLimit,
    /// Not what its header says.
    Broken,
}

enum Coder {
    Gzip(MultiGzDecoder<Vec<u8>>),
    Zlib(ZlibDecoder<Vec<u8>>),
}

struct Layer {
    coder: Coder,
    block: Vec<u8>,
    bytes_in: u64,
    bytes_out: u64,
}

/// The inflater of one answer.
pub(crate) struct Inflate {
    layers: Vec<Layer>,
    state: State,
}

impl Inflate {
    /// For a `content-encoding` value: `None` when there is nothing to undo, an error when it names
    /// something we cannot undo.
    pub(crate) fn new(encoding: Option<&str>) -> Result<Option<Self>, UnknownEncoding> {
        let mut layers = Vec::new();
        for name in encoding.unwrap_or_default().split(',').map(str::trim).rev() {
            let coder = match name.to_ascii_lowercase().as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => Coder::Gzip(MultiGzDecoder::new(Vec::new())),
                "deflate" => Coder::Zlib(ZlibDecoder::new(Vec::new())),
                _ => return Err(UnknownEncoding),
            };
            layers.push(Layer { coder, block: Vec::with_capacity(BLOCK_BYTES), bytes_in: 0, bytes_out: 0 });
        }
        if layers.len() > LAYERS_MAX {
            return Err(UnknownEncoding);
        }
        Ok((!layers.is_empty()).then_some(Self { layers, state: State::Good }))
    }

    /// Inflates a piece into `out`.
    pub(crate) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.state == State::Good {
            self.state = run(&mut self.layers, bytes, false, out);
        }
    }

    /// Inflates what was waiting for its block to fill.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) {
        if self.state == State::Good {
            self.state = run(&mut self.layers, b"", true, out);
        }
    }

    pub(crate) const fn state(&self) -> State {
        self.state
    }
}

impl std::fmt::Debug for Inflate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inflate({} layers, {:?})", self.layers.len(), self.state)
    }
}

/// A content encoding the meter cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnknownEncoding;

fn run(layers: &mut [Layer], bytes: &[u8], last: bool, out: &mut Vec<u8>) -> State {
    let Some((layer, inner)) = layers.split_first_mut() else {
        out.extend_from_slice(bytes);
        return State::Good;
    };
    let mut rest = bytes;
    while !rest.is_empty() {
        let room = BLOCK_BYTES - layer.block.len();
        let (now, later) = rest.split_at(rest.len().min(room));
        layer.block.extend_from_slice(now);
        rest = later;
        if layer.block.len() == BLOCK_BYTES {
            match layer.inflate(inner, out) {
                State::Good => {}
                bad @ (State::OverLimit | State::Broken) => return bad,
            }
        }
    }
    if !last {
        return State::Good;
    }
    match layer.inflate(inner, out) {
        State::Good => run(inner, b"", true, out),
        bad @ (State::OverLimit | State::Broken) => bad,
    }
}

impl Layer {
    fn inflate(&mut self, inner: &mut [Self], out: &mut Vec<u8>) -> State {
        let written = match &mut self.coder {
            Coder::Gzip(coder) => coder.write_all(&self.block).and_then(|()| coder.flush()),
            Coder::Zlib(coder) => coder.write_all(&self.block).and_then(|()| coder.flush()),
        };
        self.bytes_in += self.block.len() as u64;
        self.block.clear();
        let inflated = std::mem::take(match &mut self.coder {
            Coder::Gzip(coder) => coder.get_mut(),
            Coder::Zlib(coder) => coder.get_mut(),
        });
        self.bytes_out += inflated.len() as u64;
        if self.bytes_out > FREE_BYTES + RATIO_MAX * self.bytes_in {
            return State::OverLimit;
        }
        match (run(inner, &inflated, false, out), written) {
            (State::Good, Err(_)) => State::Broken,
            (state, _) => state,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::{Inflate, State};

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut coder = GzEncoder::new(Vec::new(), Compression::best());
        coder.write_all(bytes).unwrap();
        coder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut coder = ZlibEncoder::new(Vec::new(), Compression::best());
        coder.write_all(bytes).unwrap();
        coder.finish().unwrap()
    }

    fn inflate(encoding: &str, body: &[u8], size: usize) -> (State, Vec<u8>) {
        let (mut inflate, mut out) = (Inflate::new(Some(encoding)).unwrap().unwrap(), Vec::new());
        body.chunks(size).for_each(|chunk| inflate.feed(chunk, &mut out));
        inflate.end(&mut out);
        (inflate.state(), out)
    }

    #[test]
    fn encodings_table() {
        let text = b"data: hello\n\n".as_slice();
        let twice = [gzip(text), gzip(text)].concat();
        for (rule, encoding, body, expected) in [
            ("MTR-17 gzip", "gzip", gzip(text), text.to_vec()),
            ("MTR-17 odd case and identity", "identity, X-GZip", gzip(text), text.to_vec()),
            ("MTR-17 several members", "gzip", twice, text.repeat(2)),
            ("MTR-17 deflate", "deflate", zlib(text), text.to_vec()),
            (
                "item 34 two layers, the last one named was put on last",
                "deflate, gzip",
                gzip(&zlib(text)),
                text.to_vec(),
            ),
        ] {
            for size in [1, 7, body.len()] {
                assert_eq!(inflate(encoding, &body, size), (State::Good, expected.clone()), "{rule}");
            }
        }
        let cut = &gzip(&text.repeat(1000))[..40];
        assert_eq!(inflate("gzip", cut, 3).0, State::Good, "MTR-17 what is cut is no lie yet");
        assert_eq!(inflate("gzip", b"data: no gzip at all", 3).0, State::Broken);
    }

    #[test]
    fn unknown_encodings_are_opaque() {
        for encoding in ["br", "zstd", "gzip, br", "gzip, gzip, gzip"] {
            assert!(Inflate::new(Some(encoding)).is_err(), "{encoding}");
        }
        for encoding in [None, Some(""), Some("identity")] {
            assert!(Inflate::new(encoding).unwrap().is_none(), "{encoding:?}");
        }
    }

    /// MTR-16: a bound on what comes out, and MTR-1: the same at any chunking, also near the bound.
    #[test]
    fn the_bound_does_not_depend_on_chunks() {
        let bomb = gzip(&vec![b' '; 4 << 20]);
        assert_eq!(inflate("gzip", &bomb, bomb.len()).0, State::OverLimit);
        let mut noise = 1u32;
        let mut states = Vec::new();
        for spaces in (1_100_000..1_160_000).step_by(1500) {
            let mut body = vec![b' '; spaces];
            body.extend((0..2000).map(|_| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                noise.to_be_bytes()[0]
            }));
            let body = gzip(&body);
            let whole = inflate("gzip", &body, body.len());
            assert!(inflate("gzip", &body, 5) == whole, "{spaces} spaces");
            states.push(whole.0);
        }
        assert!(
            states.contains(&State::Good) && states.contains(&State::OverLimit),
            "the bound lies between"
        );
    }
}
