//! The play: unpaid, paid, streamed, receipted, booked, and once more with the key.

use std::io::Write as _;

use client::{Client, Folder, Policy, Request, Secret, Step, Wallet};
use gateway::admin::Command;
use http::Method;
use rails::dial::Dialer;
use serde_json::{Value, json};

use super::show;
use super::stage::Stage;

/// Plays it through and returns the credit key with the change.
pub(super) async fn play(stage: &Stage) -> Result<Secret, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    show::title();
    let folder = Folder::beside(&stage.agent_folder().join("wallet.json"));
    let wallet = Wallet::create(&folder.wallet_file()).map_err(|error| text(&error))?;
    let dialer = Dialer::new(&[], std::time::Duration::from_secs(5)).map_err(|error| text(&error))?;
    let cap = client::parse_cap("0.05usd").map_err(|error| text(&error))?;
    let agent =
        Client::new(dialer.clone(), Policy::up_to(cap)).with_wallet(wallet).with_folder(folder.clone());

    let question = json!({"model": "play-1", "stream": true, "max_tokens": 64,
                          "messages": [{"role": "user", "content": "What is a farthing?"}]});
    let request = post(&stage.url("/v1/chat/completions"), &question)?;
    let mut scene = show::Scene::new(&question);
    let mut response =
        agent.call(&request, &mut |step| scene.step(&step)).await.map_err(|error| text(&error))?;
    let mut answer = show::Spoken::openai();
    while let Some(chunk) = response.body.chunk().await.map_err(|error| text(&error))? {
        answer.hear(&chunk);
    }
    answer.end();
    let key = response.key.take().ok_or("the answer brought no credit key")?;
    let reference = response.receipt.take().ok_or("the answer named no receipt")?;
    let receipt = agent.receipt(&reference, &mut |_: Step<'_>| {}).await.map_err(|error| text(&error))?;
    show::receipt(&receipt);
    show::ledger(&stage.operator(Command::LedgerShow { account: None, limit: Some(10) }).await?);

    // The change is spent without another payment, as an unmodified SDK would: with the key alone.
    let question = json!({"model": "play-2", "stream": true, "max_tokens": 64,
                          "messages": [{"role": "user", "content": "And once more?"}]});
    show::second(&key, &question);
    // It has no wallet: all it can do is present the key that was kept for this origin.
    let spender = Client::new(dialer, Policy::up_to(cap)).with_folder(folder);
    let request = post(&stage.url("/v1/messages"), &question)?
        .header("anthropic-version", "2023-06-01")
        .map_err(|error| text(&error))?;
    let mut response =
        spender.call(&request, &mut |step| show::brief(&step)).await.map_err(|error| text(&error))?;
    let mut answer = show::Spoken::anthropic();
    while let Some(chunk) = response.body.chunk().await.map_err(|error| text(&error))? {
        answer.hear(&chunk);
    }
    answer.end();
    let reference = response.receipt.take().ok_or("the answer named no receipt")?;
    let receipt = spender.receipt(&reference, &mut |_: Step<'_>| {}).await.map_err(|error| text(&error))?;
    show::receipt(&receipt);
    let balance = get(&spender, &stage.url("/farthing/balance")).await?;
    show::balance(&balance);
    let _ = std::io::stdout().flush();
    Ok(key)
}

fn post(url: &str, body: &Value) -> Result<Request, String> {
    let request = Request::new(Method::POST, url).map_err(|error| error.to_string())?;
    let request = request.header("content-type", "application/json").map_err(|error| error.to_string())?;
    Ok(request.body(body.to_string()))
}

async fn get(client: &Client, url: &str) -> Result<Value, String> {
    let request = Request::new(Method::GET, url).map_err(|error| error.to_string())?;
    let mut response =
        client.call(&request, &mut |_: Step<'_>| {}).await.map_err(|error| error.to_string())?;
    if !response.status.is_success() {
        return Err(format!("{url} answers {}", response.status));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.body.chunk().await.map_err(|error| error.to_string())? {
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(|error| error.to_string())
}
