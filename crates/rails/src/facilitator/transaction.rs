//! How a chain names a transaction.

use wire::x402::base58;

/// Whether this is a transaction's name on that network: `0x` and 64 hexadecimal digits on EVM chains, base58 of
/// 64 bytes on Solana. Elsewhere we know no shape, and nothing fits.
pub(super) fn is_well_formed(network: &str, text: &str) -> bool {
    match network.split_once(':').map(|(family, _)| family) {
        Some("eip155") => is_evm(text),
        Some("solana") => is_solana(text),
        Some(_) | None => false,
    }
}

/// The first name of a transaction in an answer, wherever it stands: where to look on the chain.
pub(super) fn mentioned(body: &[u8]) -> Option<String> {
    let words = body.split(|byte| !byte.is_ascii_alphanumeric());
    let texts = words.filter_map(|word| std::str::from_utf8(word).ok());
    texts.into_iter().find(|word| is_evm(word) || is_solana(word)).map(str::to_owned)
}

fn is_evm(text: &str) -> bool {
    text.strip_prefix("0x").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// 64 bytes take 64 to 88 characters.
fn is_solana(text: &str) -> bool {
    (64..=88).contains(&text.len()) && base58::decode_array::<64>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{is_well_formed, mentioned};

    const EVM: &str = "0x1af614c04e7140aa6b71a6180b1551f1c872ba5e7fba5d7dafbe14fd151684ae";
    const SOLANA: &str =
        "FEFieQ7wnBRhPDAnYudCbRWatumK9NuiQHFKvGoUc11MBxESFt98SQeA42ZmQweRkjNyrTgjobg6Xiisbw3iLxb";

    #[test]
    fn shape_by_network() {
        let longer = format!("{EVM}0");
        for (network, text, fits) in [
            ("eip155:1", EVM, true),
            ("eip155:1", longer.as_str(), false),
            ("eip155:1", &EVM[2..], false),
            ("eip155:1", SOLANA, false),
            ("eip155:1", "", false),
            ("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", SOLANA, true),
            ("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", EVM, false),
            ("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", &SOLANA[1..], false),
            ("stellar:pubnet", EVM, false),
            ("", EVM, false),
        ] {
            assert_eq!(is_well_formed(network, text), fits, "{network} {text}");
        }
    }

    #[test]
    fn a_name_is_found_wherever_it_stands() {
        for (body, found) in [
            (format!("tx {EVM} seen"), Some(EVM)),
            (format!(r#"{{"a":[{{"b":"{SOLANA}"}}]}}"#), Some(SOLANA)),
            (format!("{EVM}ff"), None),
            ("a".repeat(64 * 1024), None),
            ("0x".to_owned(), None),
        ] {
            assert_eq!(mentioned(body.as_bytes()).as_deref(), found);
        }
    }
}
