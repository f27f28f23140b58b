//! What the port promises, node by node.

mod bolt11;
mod creating;
mod fake;
mod looking_up;
mod nwc;
mod paying;
mod settling;
mod test_node;
