//! An x402 facilitator on loopback, of the crates of x402-rs: `POST /verify`, `POST /settle`, `GET /supported`. Listens on
//! 127.0.0.1:PORT and moves money on the chain at RPC_URL.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use axum::Router;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use x402_chain_eip155::chain::config::{Eip155ChainConfig, Eip155ChainConfigInner};
use x402_chain_eip155::chain::{Eip155ChainProvider, Eip155ChainReference};
use x402_chain_eip155::{V1Eip155Exact, V2Eip155Exact, V2Eip155Upto};
use x402_facilitator_local::{FacilitatorLocal, handlers};
use x402_types::chain::{ChainId, ChainProviderOps, ChainRegistry, FromConfig};
use x402_types::scheme::{
    SchemeBlueprints, SchemeConfig, SchemeRegistry, X402SchemeFacilitator, X402SchemeFacilitatorBuilder,
    X402SchemeId,
};

const CHAIN_ID: u64 = 84532;
/// Account 5 of the mnemonic that every development chain starts with: public, worth nothing.
const KEY: &str = "0x8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba";

/// The chain. A registry hands out references, and a scheme wants to keep what it is built on.
struct Chain(Arc<Eip155ChainProvider>);

impl ChainProviderOps for Chain {
    fn signer_addresses(&self) -> Vec<String> {
        self.0.signer_addresses()
    }

    fn chain_id(&self) -> ChainId {
        self.0.chain_id()
    }
}

/// A scheme that is built on our chain.
struct OnChain<S>(S);

impl<S: X402SchemeId> X402SchemeId for OnChain<S> {
    fn x402_version(&self) -> u8 {
        self.0.x402_version()
    }

    fn namespace(&self) -> &str {
        self.0.namespace()
    }

    fn scheme(&self) -> &str {
        self.0.scheme()
    }
}

impl<S: X402SchemeFacilitatorBuilder<Arc<Eip155ChainProvider>>> X402SchemeFacilitatorBuilder<&Chain>
    for OnChain<S>
{
    fn build(
        &self,
        chain: &Chain,
        config: Option<Value>,
    ) -> Result<Box<dyn X402SchemeFacilitator>, Box<dyn Error>> {
        self.0.build(Arc::clone(&chain.0), config)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let inner = json!({"signers": [KEY], "rpc": [{"http": std::env::var("RPC_URL")?}]});
    let inner: Eip155ChainConfigInner = serde_json::from_value(inner)?;
    let config = Eip155ChainConfig { chain_reference: Eip155ChainReference::new(CHAIN_ID), inner };
    let chain = Chain(Arc::new(Eip155ChainProvider::from_config(&config).await?));
    let chains = ChainRegistry::new(HashMap::from([(chain.chain_id(), chain)]));
    let blueprints = SchemeBlueprints::new()
        .and_register(OnChain(V1Eip155Exact))
        .and_register(OnChain(V2Eip155Exact))
        .and_register(OnChain(V2Eip155Upto));
    let schemes: Result<Vec<SchemeConfig>, _> = ["v1-eip155-exact", "v2-eip155-exact", "v2-eip155-upto"]
        .into_iter()
        .map(|id| serde_json::from_value(json!({"id": id, "chains": "eip155:*"})))
        .collect();
    let facilitator = FacilitatorLocal::new(SchemeRegistry::build(chains, blueprints, &schemes?));
    let listener = TcpListener::bind(format!("127.0.0.1:{}", std::env::var("PORT")?)).await?;
    let routes = Router::new().merge(handlers::routes().with_state(Arc::new(facilitator)));
    axum::serve(listener, routes).await?;
    Ok(())
}
