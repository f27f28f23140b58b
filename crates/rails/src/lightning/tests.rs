//! What the port promises, node by node.

mod test_node;
