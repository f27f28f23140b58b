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
