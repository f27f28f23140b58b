//! What the port promises, node by node.

mod bolt11;
mod creating;
mod fake;
mod looking_up;
mod nwc;
mod ordering;
mod paying;
mod settling;
mod shapes;
mod test_node;
