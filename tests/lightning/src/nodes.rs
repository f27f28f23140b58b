//! The nodes, and the channel between them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ldk_node::bitcoin::Network;
use ldk_node::config::Config;
use ldk_node::lightning::ln::msgs::SocketAddress;
use ldk_node::{Builder, ChannelDetails, Node};

use crate::Fallible;
use crate::book::Book;
use crate::chain::{Chain, USER};

const CHANNEL_SAT: u64 = 10_000_000;
/// Half of it: so both can pay.
const PUSHED_MSAT: u64 = CHANNEL_SAT / 2 * 1000;
/// From then on what a block has made can be spent.
const BLOCKS_TO_RIPEN: u32 = 101;
const BLOCKS_TO_OPEN: u32 = 6;
const TIME_MAX: Duration = Duration::from_secs(120);

/// A node with what became of its invoices and payments.
pub struct Lightning {
    pub node: Arc<Node>,
    pub book: Arc<Book>,
}

impl Lightning {
    /// Starts a node whose keys come from `seed`, known to everybody: its money is worth nothing.
    pub fn start(
        name: &str,
        seed: u8,
        folder: &Path,
        chain: &Chain,
        peer_port: Option<u16>,
    ) -> Fallible<Self> {
        // Channels without anchors need no reserve on the chain, which the payee does not have.
        let config = Config { anchor_channels_config: None, ..Config::default() };
        let mut builder = Builder::from_config(config);
        builder.set_network(Network::Regtest);
        builder.set_entropy_seed_bytes([seed; 64]);
        builder.set_storage_dir_path(folder.join(name).display().to_string());
        let host = "127.0.0.1".to_owned();
        builder.set_chain_source_bitcoind_rpc(host, chain.port, USER.to_owned(), chain.password.clone());
        if let Some(port) = peer_port {
            builder.set_listening_addresses(vec![address(port)])?;
        }
        let node = Arc::new(builder.build()?);
        node.start()?;
        let book = Arc::new(Book::new());
        let (events, entered) = (Arc::clone(&node), Arc::clone(&book));
        // Ends with the process.
        std::thread::spawn(move || {
            loop {
                entered.take(events.wait_next_event());
                if let Err(error) = events.event_handled() {
                    eprintln!("an event is not kept: {error}");
                }
            }
        });
        Ok(Self { node, book })
    }

    pub fn channel(&self) -> Option<ChannelDetails> {
        self.node.list_channels().pop()
    }

    fn is_ready(&self) -> bool {
        self.channel().is_some_and(|channel| channel.is_usable)
    }
}

/// Gives the payer money on the chain, opens the channel and waits until both can use it.
pub async fn open_channel(payer: &Lightning, payee: &Lightning, chain: &Chain) -> Fallible<()> {
    let started = Instant::now();
    let purse = payer.node.onchain_payment().new_address()?;
    chain.mine(1, &purse).await?;
    // Whose these are does not matter: so that the payer has one output, which alone pays for the channel.
    let elsewhere = payee.node.onchain_payment().new_address()?;
    chain.mine(BLOCKS_TO_RIPEN, &elsewhere).await?;
    until("the payer's money to ripen", async || {
        synced(payer).await?;
        Ok(payer.node.list_balances().spendable_onchain_balance_sats > CHANNEL_SAT)
    })
    .await?;

    let peer =
        payee.node.listening_addresses().and_then(|mut all| all.pop()).ok_or("the payee listens nowhere")?;
    payer.node.open_channel(payee.node.node_id(), peer, CHANNEL_SAT, Some(PUSHED_MSAT), None)?;
    until("the channel to be on its way", async || Ok(chain.waiting().await? > 0)).await?;
    chain.mine(BLOCKS_TO_OPEN, &elsewhere).await?;
    until("the channel", async || {
        synced(payer).await?;
        synced(payee).await?;
        Ok(payer.is_ready() && payee.is_ready())
    })
    .await?;
    println!("channel of {CHANNEL_SAT} sat ready in {} ms", started.elapsed().as_millis());
    Ok(())
}

/// Has the node read the chain now.
async fn synced(lightning: &Lightning) -> Fallible<()> {
    let node = Arc::clone(&lightning.node);
    Ok(tokio::task::spawn_blocking(move || node.sync_wallets()).await??)
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> Fallible<bool>) -> Fallible<()> {
    let deadline = Instant::now() + TIME_MAX;
    while !is_so().await? {
        if Instant::now() > deadline {
            return Err(format!("waited {} s for {what}", TIME_MAX.as_secs()).into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn address(port: u16) -> SocketAddress {
    SocketAddress::TcpIpV4 { addr: [127, 0, 0, 1], port }
}
