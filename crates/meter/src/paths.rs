//! A table of paths, as a tree that a scanner walks down.

/// The keys a table knows at one place, and where they lead.
pub(crate) type Keys<'a> = &'a [(&'static str, usize)];

/// A table of paths, `choices[].delta.content`, as a tree.
#[derive(Debug)]
pub(crate) struct Paths<S> {
    nodes: Vec<Node<S>>,
}

#[derive(Debug)]
struct Node<S> {
    keys: Vec<(&'static str, usize)>,
    element: Option<usize>,
    slot: Option<S>,
    below: Vec<S>,
}

impl<S> Node<S> {
    const fn new() -> Self {
        Self { keys: Vec::new(), element: None, slot: None, below: Vec::new() }
    }
}

impl<S: Copy> Paths<S> {
    /// Reads a table. `.` enters a member, `[]` every element of an array; `$` is the document itself.
    pub(crate) fn new(table: &[(&'static str, S)]) -> Self {
        let mut paths = Self { nodes: vec![Node::new()] };
        for (path, slot) in table {
            if *path == "$" {
                paths.nodes[0].slot = Some(*slot);
                continue;
            }
            let mut node = 0;
            for segment in path.split('.') {
                let key = segment.trim_end_matches("[]");
                paths.nodes[node].below.push(*slot);
                node = paths.add_member(node, key);
                for _ in 0..(segment.len() - key.len()) / 2 {
                    paths.nodes[node].below.push(*slot);
                    node = paths.add_element(node);
                }
            }
            paths.nodes[node].slot = Some(*slot);
        }
        paths
    }

    /// What a node leads to.
    pub(crate) fn slot(&self, node: usize) -> Option<S> {
        self.nodes[node].slot
    }

    /// What the paths through a node lead to.
    pub(crate) fn below(&self, node: usize) -> &[S] {
        &self.nodes[node].below
    }

    /// The keys known at a node.
    pub(crate) fn keys(&self, node: usize) -> Keys<'_> {
        &self.nodes[node].keys
    }

    /// The node of a node's elements.
    pub(crate) fn element(&self, node: usize) -> Option<usize> {
        self.nodes[node].element
    }

    /// The node of a member.
    pub(crate) fn child(&self, parent: usize, key: &[u8]) -> Option<usize> {
        self.nodes[parent].keys.iter().find(|(name, _)| name.as_bytes() == key).map(|(_, node)| *node)
    }

    fn add_member(&mut self, parent: usize, key: &'static str) -> usize {
        if let Some(found) = self.child(parent, key.as_bytes()) {
            return found;
        }
        self.nodes.push(Node::new());
        let new = self.nodes.len() - 1;
        self.nodes[parent].keys.push((key, new));
        new
    }

    fn add_element(&mut self, parent: usize) -> usize {
        if let Some(found) = self.nodes[parent].element {
            return found;
        }
        self.nodes.push(Node::new());
        let new = self.nodes.len() - 1;
        self.nodes[parent].element = Some(new);
        new
    }
}
