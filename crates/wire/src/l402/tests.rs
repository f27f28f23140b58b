//! Tables, the vectors of `specs/vectors/l402`, totality.

mod challenge;
mod credential;
mod identifier;
mod offered;

use serde_json::Value;

use super::Token;

fn authorization_vectors() -> Vec<Value> {
    let file: Value =
        serde_json::from_str(include_str!("../../../../specs/vectors/l402/authorization.json")).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn macaroon_vectors() -> Vec<Value> {
    let file: Value =
        serde_json::from_str(include_str!("../../../../specs/vectors/l402/macaroons.json")).unwrap();
    file["macaroons"].as_array().unwrap().clone()
}

/// The vector `three_caveats`: what most cases of `authorization.json` carry.
fn three_caveats() -> (Value, Token) {
    let row = macaroon_vectors().into_iter().find(|row| row["name"] == "three_caveats").unwrap();
    let token = Token::from_base64(row["b64_std"].as_str().unwrap()).unwrap();
    (row, token)
}
