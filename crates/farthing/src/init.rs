//! `farthing init` writes a configuration, `farthing check` validates one and asks the upstreams.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use gateway::PriceList;
use gateway::config::{self, Config, ExampleUpstream, Provider};
use rails::dial::{Dialer, Origin};
use serde_json::json;

/// `farthing init`
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// File to write. Nothing is overwritten.
    #[arg(long, short, default_value = "farthing.yaml")]
    config: PathBuf,
}

/// `farthing check`
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Configuration file.
    #[arg(long, short, default_value = "farthing.yaml")]
    config: PathBuf,
    /// Do not ask the upstreams.
    #[arg(long)]
    offline: bool,
}

pub(crate) fn init(args: &InitArgs) -> ExitCode {
    let found = found_upstreams();
    let text = config::example(&found);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&args.config)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => {
            let file = args.config.display();
            let names: Vec<_> = found.iter().map(|upstream| upstream.name).collect();
            if names.is_empty() {
                println!("wrote {file} for a local Ollama; change its url if yours is elsewhere");
            } else {
                println!("wrote {file} for {}", names.join(", "));
            }
            println!("next:  farthing check --config {file}");
            println!("then:  farthing serve --config {file}");
            ExitCode::SUCCESS
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            crate::complain(&format!("{} is there already: nothing was changed", args.config.display()))
        }
        Err(error) => crate::complain(&format!("{}: {error}", args.config.display())),
    }
}

/// Variables in which people keep their keys, and where the keys are good.
const KEYS: [(Provider, &str, &str); 12] = [
    (Provider::OpenAi, "OPENAI_API_KEY", "https://api.openai.com"),
    (Provider::Anthropic, "ANTHROPIC_API_KEY", "https://api.anthropic.com"),
    (Provider::Gemini, "GEMINI_API_KEY", "https://generativelanguage.googleapis.com"),
    (Provider::DeepSeek, "DEEPSEEK_API_KEY", "https://api.deepseek.com"),
    (Provider::Qwen, "DASHSCOPE_API_KEY", "https://dashscope.aliyuncs.com/compatible-mode"),
    (Provider::Zhipu, "ZAI_API_KEY", "https://api.z.ai/api/paas/v4"),
    (Provider::Doubao, "ARK_API_KEY", "https://ark.cn-beijing.volces.com/api/v3"),
    (Provider::Moonshot, "MOONSHOT_API_KEY", "https://api.moonshot.ai"),
    (Provider::MiniMax, "MINIMAX_API_KEY", "https://api.minimax.io"),
    (Provider::Groq, "GROQ_API_KEY", "https://api.groq.com/openai"),
    (Provider::OpenRouter, "OPENROUTER_API_KEY", "https://openrouter.ai/api"),
    (Provider::Together, "TOGETHER_API_KEY", "https://api.together.xyz"),
];

/// Servers on this machine and the port each usually has.
const LOCAL: [(Provider, u16, &str); 3] = [
    (Provider::Ollama, 11434, "http://127.0.0.1:11434"),
    (Provider::Vllm, 8000, "http://127.0.0.1:8000"),
    (Provider::LlamaCpp, 8080, "http://127.0.0.1:8080"),
];

/// Keys in the environment and servers on their usual ports.
fn found_upstreams() -> Vec<ExampleUpstream<'static>> {
    let has = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let listens = |port: u16| {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
    };
    let upstream = |provider: Provider, url, key_env| ExampleUpstream {
        name: if provider == Provider::LlamaCpp { "llamacpp" } else { provider.name() },
        url,
        provider,
        key_env,
    };
    let known = KEYS.iter().filter(|(_, variable, _)| has(variable));
    let mut found: Vec<_> =
        known.map(|(provider, variable, url)| upstream(*provider, *url, Some(*variable))).collect();
    let local = LOCAL.iter().filter(|(_, port, _)| listens(*port));
    found.extend(local.map(|(provider, _, url)| upstream(*provider, *url, None)));
    found
}

pub(crate) fn check(args: &CheckArgs) -> ExitCode {
    let config = match config::load(&args.config) {
        Ok(config) => config,
        Err(findings) => {
            eprintln!("{findings}");
            return ExitCode::from(crate::CONFIG_INVALID);
        }
    };
    let mut failed = false;
    let mut probes = Vec::new();
    // Lists on this machine are read in any case.
    let elsewhere = config.prices.sources.iter().any(|source| matches!(source.place, config::Place::Url(_)));
    if !args.offline || !elsewhere {
        let prices = crate::block_on(PriceList::load(&config.prices, &config.store.path));
        failed |= prices.is_err();
        probes.push(("prices".to_owned(), prices.map(drop).map_err(|error| error.to_string())));
    }
    if !args.offline {
        crate::block_on(async {
            for (name, outcome) in probe(&config).await {
                failed |= outcome.is_err();
                probes.push((name, outcome));
            }
        });
    }
    if io::IsTerminal::is_terminal(&io::stdout()) {
        println!(
            "{}: valid, {} routes, {} upstreams",
            args.config.display(),
            config.routes.len(),
            config.upstreams.len()
        );
        for (name, outcome) in &probes {
            match outcome {
                Ok(()) => println!("{name}: good"),
                Err(error) => {
                    let hint = if name == "prices" {
                        "look at the file or the address, and at the hash that is pinned"
                    } else {
                        "is it running, and is its url right?"
                    };
                    println!("{name}: {error}\n  hint: {hint}")
                }
            }
        }
    } else {
        let probes: Vec<_> = probes
            .iter()
            .map(|(name, outcome)| json!({"probe": name, "ok": outcome.is_ok(), "error": outcome.as_ref().err()}))
            .collect();
        println!("{}", json!({"valid": true, "routes": config.routes.len(), "probes": probes}));
    }
    if failed { ExitCode::from(crate::FINDINGS) } else { ExitCode::SUCCESS }
}

/// Connects to each upstream and facilitator, TLS included. No request is sent, so no key leaves and nothing is billed.
async fn probe(config: &Config) -> Vec<(String, Result<(), String>)> {
    let upstreams = config.upstreams.values().map(|upstream| {
        (format!("upstream {}", upstream.name), &upstream.url, upstream.ca.as_slice(), upstream.connect)
    });
    let facilitators = config.rails.x402.iter().flat_map(|x402| &x402.facilitators);
    let patience = config.server.timeouts.connect;
    let none: &[_] = &[];
    let facilitators =
        facilitators.map(|url| (format!("facilitator {}", url.authority()), url, none, patience));
    let mut outcomes = Vec::new();
    for (name, url, ca, patience) in upstreams.chain(facilitators) {
        let tls = url.scheme == config::Scheme::Https;
        let origin = Origin { tls, host: url.host.clone(), port: url.port };
        let outcome = match Dialer::new(ca, patience) {
            Ok(dialer) => dialer.dial(&origin).await.map(drop).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        outcomes.push((name, outcome));
    }
    outcomes
}
