//! The crate `o402`: a gateway in Rust that sells over x402.

use std::process::Command;

use super::{Behind, Found, Peer, install};
use crate::payments::{NETWORK, PAY_TO};
use crate::places::Places;
use crate::process::{Server, free_address};

const VERSION: &str = "0.1.5";

/// Starts it as a seller and as a mere proxy; builds it from the registry where that has not been done, which takes many
/// minutes.
pub(crate) fn o402(behind: Behind, may_build: bool, places: &Places) -> [Found; 2] {
    [("o402", true), ("o402 without payment", false)]
        .map(|(name, sells)| (name, start(name, sells, behind, may_build, places)))
}

fn start(
    name: &'static str,
    sells: bool,
    Behind { upstream, facilitator }: Behind,
    may_build: bool,
    places: &Places,
) -> Result<Peer, String> {
    let binary = places.kept.join("o402/bin/o402");
    if !binary.exists() {
        if !may_build {
            return Err("not installed; --build-o402 builds it once, which takes many minutes".to_owned());
        }
        let mut cargo = Command::new("nice");
        cargo.args(["-n", "10", "cargo", "install", "o402", "--locked", "--version", VERSION, "--root"]);
        cargo.arg(places.kept.join("o402")).arg("--target-dir").arg(places.kept.join("o402-build"));
        install(&mut cargo, "o402", places)?;
    }
    let address = free_address()?;
    let text = format!(
        r#"[server]
bind = "{address}"
base_url = "http://{address}"

[payment]
enabled = {sells}

[payment.facilitator]
url = "http://{facilitator}"

[payment.pay_to]
"eip155:*" = "{PAY_TO}"

[[payment.accepts]]
scheme = "exact"
network = "{NETWORK}"
asset = "usdc"
transfer_method = "eip3009"

[pricing.default]
scheme = "exact"
price = "0.001"
request_floor = "0.00001"
input_per_million = "1"
output_per_million = "4"
cached_input_per_million = "1"
reasoning_per_million = "4"
ceiling_multiplier = "1.0"
max_ceiling = "5.00"
max_input_tokens = 128000
default_max_output_tokens = 4096

[[upstreams]]
name = "mock"
base_url = "http://{upstream}"
api_key = "sk-nobody"
"#
    );
    let config = places.write(&format!("{name}.toml"), &text)?;
    let mut serve = Command::new(binary);
    serve.arg("serve").arg("--config").arg(config).current_dir(&places.run);
    let server = Server::start(name, &serve, &places.log(name), address)?;
    Ok(Peer { name, address, server })
}
