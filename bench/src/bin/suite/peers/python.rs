//! LiteLLM's proxy: two workers, no database, and so no budgets.

use std::process::Command;

use super::{Found, Peer, install, is_made_of, was_made_of};
use crate::places::Places;
use crate::process::{Server, free_address};

/// Whoever asks it shows this.
pub(crate) const MASTER_KEY: &str = "sk-litellm-0123456789abcdef0123456789abcdef";

/// Starts it; installs what its lock file names where that has not been done.
pub(crate) fn litellm(upstream: std::net::SocketAddr, places: &Places) -> Found {
    ("LiteLLM", start(upstream, places))
}

fn start(upstream: std::net::SocketAddr, places: &Places) -> Result<Peer, String> {
    let lock = places.root.join("bench/peers/requirements-litellm.txt");
    let folder = places.kept.join("litellm");
    if !is_made_of(&folder, &lock) {
        install(Command::new("python3").args(["-m", "venv"]).arg(&folder), "venv", places)?;
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--quiet", "--no-deps", "--requirement"]).arg(&lock);
        install(&mut pip, "LiteLLM", places)?;
        was_made_of(&folder, &lock)?;
    }
    let address = free_address()?;
    let config = places.write(
        "litellm.yaml",
        &format!(
            "model_list:\n  - model_name: m\n    litellm_params: {{ model: openai/m, api_base: \"http://{upstream}/v1\", api_key: sk-nobody }}\n\
             litellm_settings: {{ num_retries: 0, callbacks: [], telemetry: false }}\n\
             general_settings: {{ master_key: {MASTER_KEY} }}\n"
        ),
    )?;
    let mut litellm = Command::new(folder.join("bin/litellm"));
    litellm.arg("--config").arg(config).args(["--host", "127.0.0.1", "--num_workers", "2", "--port"]);
    litellm.arg(address.port().to_string());
    // Else it fetches a list of prices.
    litellm.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").env("LITELLM_MODE", "PRODUCTION");
    litellm.env("LITELLM_LOG", "ERROR").env("NO_DOCS", "True");
    let server = Server::start("LiteLLM", &litellm, &places.log("LiteLLM"), address)?;
    Ok(Peer { name: "LiteLLM", address, server })
}
