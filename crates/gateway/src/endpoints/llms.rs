//! `/llms.txt`: what is sold and how it is paid, in words for a language model that has to write the call.

use super::catalogue::{Operation, protocols};
use super::openapi::title;
use super::{BALANCE, MODELS, PRICES, QUOTE, TOP_UP};
use crate::snapshot::Snapshot;

pub(super) fn render(snapshot: &Snapshot, operations: &[Operation<'_>]) -> String {
    let url = &snapshot.public_url;
    let mut text = format!("# {}\n\n> An API that is paid per call. No account is needed: ", title(snapshot));
    text.push_str("an unpaid request is answered with 402 and every way to pay, and what a payment leaves over stays as balance.\n");
    text.push_str("\n## Operations\n\n");
    for operation in operations {
        let (method, path) = (operation.method, &operation.path);
        text.push_str(&format!("- `{method} {url}{path}`: {}\n", operation.price));
    }
    text.push_str("\n## Paying\n\n");
    let ways = protocols(snapshot).join(", ");
    if !ways.is_empty() {
        text.push_str(&format!(
            "- Send the request, take one offer of the 402 ({ways}), and send the same request again with the payment.\n"
        ));
    }
    text.push_str("- The answer to a request that paid has `Farthing-Key`: a credit key for what is left. Send it as `Authorization: Bearer fk_...` with later calls.\n");
    text.push_str("- A 503 says that it is not known whether money moved: send the same request again, and do not pay anew.\n");
    text.push_str(&format!("- `POST {url}{TOP_UP}?amount=5` buys balance without a call; `GET {url}{BALANCE}` tells what is left.\n"));
    text.push_str(&format!("- `POST {url}{QUOTE}?path=/...` with the body of a call tells what it can cost at most. It is free.\n"));
    text.push_str("\n## Documents\n\n");
    let discovery = &snapshot.config.discovery;
    let documents = [
        (discovery.openapi, "/openapi.json", "OpenAPI, with the offers of each operation"),
        (discovery.price_page, PRICES, "every price, with its hours and conditions"),
        (true, MODELS, "models, with their prices"),
    ];
    for (_, path, what) in documents.into_iter().filter(|(is_there, ..)| *is_there) {
        text.push_str(&format!("- [{path}]({url}{path}): {what}\n"));
    }
    text
}
