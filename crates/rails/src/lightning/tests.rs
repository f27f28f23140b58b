//! What the port promises, node by node.

mod nwc;
mod test_node;
