//! What the port promises, node by node.

mod bolt11;
mod test_node;
