//! The shapes of CBOR (RFC 8949) that tokens and payment requests are made of: whole numbers, text, bytes, lists and
//! maps of a stated length. A library reads all of CBOR; these few are shorter than their use of one would be, and
//! what is refused is seen here.

/// Not the CBOR we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CborError;

type Read<T> = Result<T, CborError>;

const UNSIGNED: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

/// Reads one document from its start. Nothing is reserved for a length before its bytes are there.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Nothing stands behind the document.
    pub(super) const fn end(&self) -> Read<()> {
        if self.0.is_empty() { Ok(()) } else { Err(CborError) }
    }

    pub(super) fn unsigned(&mut self) -> Read<u64> {
        self.of(UNSIGNED)
    }

    pub(super) fn text(&mut self) -> Read<&'a str> {
        let length = self.of(TEXT)?;
        std::str::from_utf8(self.take(length)?).map_err(|_| CborError)
    }

    pub(super) fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = self.of(BYTES)?;
        self.take(length)
    }

    /// How many items follow.
    pub(super) fn list(&mut self) -> Read<u64> {
        self.of(LIST)
    }

    /// How many pairs follow.
    pub(super) fn map(&mut self) -> Read<u64> {
        self.of(MAP)
    }

    /// Passes one item over, whatever it is: without recursion, and not more items than there are bytes.
    pub(super) fn skip(&mut self) -> Read<()> {
        let mut left: u64 = 1;
        while left > 0 {
            left -= 1;
            let (major, number) = self.head()?;
            let inner = match major {
                BYTES | TEXT => {
                    self.take(number)?;
                    0
                }
                LIST => number,
                MAP => number.checked_mul(2).ok_or(CborError)?,
                TAG => 1,
                // A whole number, or a simple value or float, whose bytes the head has read.
                _ => 0,
            };
            left = left.checked_add(inner).ok_or(CborError)?;
            if usize::try_from(left).is_err() || usize::try_from(left).is_ok_and(|left| left > self.0.len()) {
                return Err(CborError);
            }
        }
        Ok(())
    }

    fn of(&mut self, wanted: u8) -> Read<u64> {
        match self.head()? {
            (major, number) if major == wanted => Ok(number),
            _ => Err(CborError),
        }
    }

    /// Major type and number of an item. Lengths that are not stated (31) are refused.
    fn head(&mut self) -> Read<(u8, u64)> {
        let [first] = self.array()?;
        let number = match first & 0x1f {
            small @ 0..=23 => small.into(),
            24 => u8::from_be_bytes(self.array()?).into(),
            25 => u16::from_be_bytes(self.array()?).into(),
            26 => u32::from_be_bytes(self.array()?).into(),
            27 => u64::from_be_bytes(self.array()?),
            _ => return Err(CborError),
        };
        Ok((first >> 5, number))
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(CborError)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn take(&mut self, length: u64) -> Read<&'a [u8]> {
        let length = usize::try_from(length).map_err(|_| CborError)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CborError)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// Writes one document, each number in its shortest form.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn map(mut self, pairs: usize) -> Self {
        self.head(MAP, length(pairs));
        self
    }

    pub(super) fn list(mut self, items: usize) -> Self {
        self.head(LIST, length(items));
        self
    }

    pub(super) fn text(mut self, text: &str) -> Self {
        self.head(TEXT, length(text.len()));
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.head(BYTES, length(bytes.len()));
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn unsigned(mut self, number: u64) -> Self {
        self.head(UNSIGNED, number);
        self
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    fn head(&mut self, major: u8, number: u64) {
        let first = major << 5;
        if let Ok(byte) = u8::try_from(number) {
            match byte {
                0..=23 => self.0.push(first | byte),
                24.. => self.0.extend_from_slice(&[first | 24, byte]),
            }
        } else if let Ok(short) = u16::try_from(number) {
            self.0.push(first | 25);
            self.0.extend_from_slice(&short.to_be_bytes());
        } else if let Ok(word) = u32::try_from(number) {
            self.0.push(first | 26);
            self.0.extend_from_slice(&word.to_be_bytes());
        } else {
            self.0.push(first | 27);
            self.0.extend_from_slice(&number.to_be_bytes());
        }
    }
}

/// Nothing in memory is longer.
fn length(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{CborError, Reader, Writer};
    use proptest::prelude::*;

    /// Appendix A of RFC 8949.
    #[test]
    fn numbers_in_every_width() {
        for (bytes, number) in [
            (&[0x00][..], 0),
            (&[0x17], 23),
            (&[0x18, 0x18], 24),
            (&[0x18, 0x64], 100),
            (&[0x19, 0x03, 0xe8], 1000),
            (&[0x1a, 0x00, 0x0f, 0x42, 0x40], 1_000_000),
            (&[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], u64::MAX),
        ] {
            assert_eq!(Reader::new(bytes).unsigned(), Ok(number));
            assert_eq!(Writer::default().unsigned(number).finish(), bytes);
        }
    }

    #[test]
    fn what_is_not_read() {
        for bytes in [&[][..], &[0x20], &[0xf6], &[0x1c], &[0x1f], &[0x61], &[0x5f, 0xff], &[0x18]] {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.unsigned(), Err(CborError), "{bytes:02x?}");
        }
        assert_eq!(Reader::new(&[0x61, 0xff]).text(), Err(CborError));
        assert_eq!(
            Reader::new(&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).bytes(),
            Err(CborError)
        );
    }

    #[test]
    fn anything_can_be_passed_over() {
        for bytes in [
            &[0xf7][..],
            &[0xf5],
            &[0x20],
            &[0xfb, 0x3f, 0xf1, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a],
            &[0xc1, 0x1a, 0x51, 0x4b, 0x67, 0xb0],
            &[0x83, 0x01, 0x82, 0x02, 0x03, 0x82, 0x04, 0x05],
            &[0xa2, 0x61, 0x61, 0x01, 0x61, 0x62, 0x82, 0x02, 0x03],
        ] {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.skip().and_then(|()| reader.end()), Ok(()), "{bytes:02x?}");
        }
        // More items than bytes.
        for bytes in
            [&[0x82, 0x01][..], &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], &[0x9f, 0xff]]
        {
            assert_eq!(Reader::new(bytes).skip(), Err(CborError), "{bytes:02x?}");
        }
        // As deep as it is long.
        let mut deep = vec![0x81; 100_000];
        deep.push(0);
        assert_eq!(Reader::new(&deep).skip(), Ok(()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_item_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Reader::new(&bytes).skip();
        }

        #[test]
        fn what_is_written_is_read(number: u64, text in "\\PC{0,40}", bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let written = Writer::default().list(3).unsigned(number).text(&text).bytes(&bytes).finish();
            let mut reader = Reader::new(&written);
            prop_assert_eq!(reader.list(), Ok(3));
            prop_assert_eq!(reader.unsigned(), Ok(number));
            prop_assert_eq!(reader.text().unwrap(), text.as_str());
            prop_assert_eq!(reader.bytes().unwrap(), bytes.as_slice());
            prop_assert_eq!(reader.end(), Ok(()));
        }
    }
}
