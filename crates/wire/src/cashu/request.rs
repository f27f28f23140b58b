//! What a 402 asks for: `X-Cashu: creqA...` (NUT-18).

use super::cbor::Writer;
use crate::base64;

/// A request for payment in band: it names no transport, and no lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRequest<'a> {
    /// At least so much.
    pub amount: u64,
    /// In this unit.
    pub unit: &'a str,
    /// Of one of these mints.
    pub mints: &'a [String],
}

impl PaymentRequest<'_> {
    /// The header's value. Padded, as the published examples are: deployed wallets read both.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut written = Writer::default().map(3).text("a").unsigned(self.amount);
        written = written.text("u").text(self.unit).text("m").list(self.mints.len());
        for mint in self.mints {
            written = written.text(mint);
        }
        format!("creqA{}", base64::encode_url_padded(&written.finish()))
    }
}

#[cfg(test)]
mod tests {
    use super::PaymentRequest;

    /// The bytes were written out by hand: {"a": 21, "u": "sat", "m": ["https://mint.example"]}.
    #[test]
    fn cashu_3_what_a_402_says() {
        let mints = ["https://mint.example".to_owned()];
        let request = PaymentRequest { amount: 21, unit: "sat", mints: &mints };
        let text = request.encode();
        let expected = b"\xa3\x61a\x15\x61u\x63sat\x61m\x81\x74https://mint.example";
        let bytes = crate::base64::decode_any(text.strip_prefix("creqA").unwrap_or_default(), 200);
        assert_eq!(bytes.as_deref(), Ok(expected.as_slice()));
    }
}
