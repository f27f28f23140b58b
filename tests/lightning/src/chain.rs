//! What the chain is asked for besides what the nodes ask it: blocks.

use std::time::Duration;

use ldk_node::bitcoin::Address;
use serde_json::{Value, json};

use crate::Fallible;

pub const USER: &str = "farthing";

/// A bitcoind on loopback.
pub struct Chain {
    pub port: u16,
    pub password: String,
    client: reqwest::Client,
}

impl Chain {
    pub fn new(port: u16, password: String) -> Fallible<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        Ok(Self { port, password, client })
    }

    /// Mines blocks that pay to `address`.
    pub async fn mine(&self, blocks: u32, address: &Address) -> Fallible<()> {
        self.call("generatetoaddress", json!([blocks, address.to_string()])).await.map(drop)
    }

    /// How many transactions wait for a block.
    pub async fn waiting(&self) -> Fallible<usize> {
        Ok(self.call("getrawmempool", json!([])).await?.as_array().map_or(0, Vec::len))
    }

    async fn call(&self, method: &str, params: Value) -> Fallible<Value> {
        let request = self
            .client
            .post(format!("http://127.0.0.1:{}/", self.port))
            .basic_auth(USER, Some(&self.password))
            .json(&json!({"jsonrpc": "1.0", "id": "farthing", "method": method, "params": params}));
        let mut answer: Value = request.send().await?.json().await?;
        match answer["error"].take() {
            Value::Null => Ok(answer["result"].take()),
            error => Err(format!("{method}: {error}").into()),
        }
    }
}
