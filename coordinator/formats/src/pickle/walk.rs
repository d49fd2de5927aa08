//! From the value at the root to named tensors: the path of keys that leads to each one.
//!
//! Shared and cyclic values are the norm: every container is entered once, at its first path; a tensor is listed at
//! every path. The walk keeps its own stack, of bounded depth, and names are only spelt out for tensors.

use std::collections::HashMap;

use crate::{Finding, FindingKind, limits};

use super::heap::{Cursor, Heap, Node, Value};

/// The tensors of a stream, by name, in its order.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// Names, and indices into [`Heap::tensors`].
    pub(crate) tensors: Vec<(Box<str>, u32)>,
    pub(crate) findings: Vec<Finding>,
}

/// What the last part of a path is.
#[derive(Clone, Copy)]
enum Segment {
    None,
    Key(Value),
    Position(usize),
}

struct Frame {
    node: usize,
    /// How its parent leads to it.
    segment: Segment,
    cursor: Cursor,
    /// Items already taken, for those without keys.
    position: usize,
    shape: Shape,
    /// Values within, shared ones counted as often as they are reached.
    expanded: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `is_state`: the attributes of an object, where a module keeps its parts in three dicts of their own.
    Keyed {
        is_state: bool,
    },
    Listed,
    /// The state comes first, the arguments after it.
    Object {
        state: Value,
    },
}

struct Walker<'h, 'a> {
    heap: &'h Heap<'a>,
    frames: Vec<Frame>,
    /// For each node what it expands to; 0 for those never entered.
    expanded: Vec<u64>,
    at_name: HashMap<Box<str>, usize>,
    name_bytes_left: usize,
    walk: Walk,
}

/// Lists the tensors that can be reached from `root`. `stream_bytes` bounds what names may take.
pub(crate) fn walk(heap: &Heap<'_>, root: Value, stream_bytes: usize) -> Walk {
    let mut walker = Walker {
        heap,
        frames: Vec::new(),
        expanded: vec![0; heap.node_count()],
        at_name: HashMap::new(),
        name_bytes_left: stream_bytes.saturating_mul(limits::PICKLE_MEMORY_FACTOR).saturating_add(1 << 20),
        walk: Walk::default(),
    };
    let expanded = walker.run(root);
    let natural = (heap.node_count() as u64).saturating_mul(limits::PICKLE_MEMORY_FACTOR as u64);
    if expanded > limits::PICKLE_EXPANDED.saturating_add(natural) {
        walker.find("its values refer to each other so often that, written out, they would fill any memory");
    }
    walker.walk
}

impl Walker<'_, '_> {
    fn find(&mut self, message: &str) {
        if self.walk.findings.iter().all(|known| known.message != message) {
            self.walk.findings.push(Finding::corrupt(FindingKind::Pickle, message));
        }
    }

    /// What the root expands to.
    fn run(&mut self, root: Value) -> u64 {
        let mut total = self.visit(root, Segment::None, false);
        while let Some(frame) = self.frames.last_mut() {
            let was_state = matches!(frame.shape, Shape::Object { .. });
            if let Some((child, segment)) = frame.next(self.heap) {
                let expanded = self.visit(child, segment, was_state);
                if let Some(frame) = self.frames.last_mut() {
                    frame.expanded = frame.expanded.saturating_add(expanded);
                }
                continue;
            }
            let Some(done) = self.frames.pop() else { break };
            if let Some(slot) = self.expanded.get_mut(done.node) {
                *slot = done.expanded;
            }
            match self.frames.last_mut() {
                Some(parent) => parent.expanded = parent.expanded.saturating_add(done.expanded),
                None => total = done.expanded,
            }
        }
        total
    }

    /// Lists a tensor, enters a container for the first time, or just counts. What it expands to, if that is known.
    fn visit(&mut self, value: Value, segment: Segment, is_state: bool) -> u64 {
        let (Some(index), Some(node)) = (value.index(), self.heap.node(value)) else { return 1 };
        let shape = match node {
            Node::Tensor(tensor) => {
                self.list(tensor, segment);
                return 1;
            }
            Node::Dict(_) => Shape::Keyed { is_state },
            Node::List(_) | Node::Tuple(_) | Node::Set(_) => Shape::Listed,
            Node::Object(object) => match self.heap.object(object) {
                Some(object) => Shape::Object { state: object.state },
                None => return 1,
            },
            _ => return 1,
        };
        match self.expanded.get_mut(index) {
            Some(known) if *known == 0 => *known = 1,
            known => return known.map_or(1, |known| *known),
        }
        if self.frames.len() >= limits::PICKLE_DEPTH {
            self.find("its containers are nested deeper than any reader would follow");
            return 1;
        }
        self.frames.push(Frame {
            node: index,
            segment,
            cursor: self.cursor(value),
            position: 0,
            shape,
            expanded: 1,
        });
        0
    }

    fn cursor(&self, value: Value) -> Cursor {
        match self.heap.node(value) {
            Some(Node::Object(index)) => {
                self.heap.items_of(self.heap.object(index).map_or(Value::NONE, |object| object.arguments))
            }
            _ => self.heap.items_of(value),
        }
    }

    fn list(&mut self, tensor: u32, segment: Segment) {
        if self.walk.tensors.len() >= limits::TENSORS {
            return self.find("it names more tensors than a file may have");
        }
        let Some(name) = self.name(segment) else {
            return self.find("a tensor's name is too long");
        };
        match self.name_bytes_left.checked_sub(name.len()) {
            Some(left) => self.name_bytes_left = left,
            None => return self.find("its tensors' names take far more memory than its bytes"),
        }
        // The same path twice is one place, as it is for Python: the later value stands.
        let next = self.walk.tensors.len();
        let at = *self.at_name.entry(name.clone()).or_insert(next);
        match self.walk.tensors.get_mut(at) {
            Some(known) => known.1 = tensor,
            None => self.walk.tensors.push((name, tensor)),
        }
    }

    /// The path to a child of the innermost frame; none if it is longer than a name may be.
    fn name(&self, last: Segment) -> Option<Box<str>> {
        let mut name = String::new();
        let mut parent: Option<&Frame> = None;
        let mut add = |segment: Segment, parent: Option<&Frame>, is_top: bool| {
            if self.is_wrapper(segment, parent, is_top) {
                return Some(());
            }
            let start = name.len();
            match segment {
                Segment::None => return Some(()),
                Segment::Key(key) => self.spell(key, &mut name)?,
                Segment::Position(position) => name.push_str(&position.to_string()),
            }
            if start > 0 {
                name.insert(start, '.');
            }
            (name.len() <= limits::NAME_BYTES).then_some(())
        };
        for (depth, frame) in self.frames.iter().enumerate() {
            add(frame.segment, parent, depth == 1)?;
            parent = Some(frame);
        }
        add(last, parent, false)?;
        Some(name.into())
    }

    /// Parts of a path that say nothing about a tensor: where a checkpoint keeps its weights beside other things, and
    /// where a module keeps its layers. Without them the names are those of a state dict.
    fn is_wrapper(&self, segment: Segment, parent: Option<&Frame>, is_top: bool) -> bool {
        let Segment::Key(key) = segment else { return false };
        let key = self.heap.as_text(key);
        match parent.map(|parent| parent.shape) {
            Some(Shape::Keyed { is_state: true }) => {
                matches!(key, Some("_modules" | "_parameters" | "_buffers"))
            }
            Some(Shape::Keyed { .. }) => is_top && key == Some("state_dict"),
            _ => false,
        }
    }

    /// A key as Python's `str` would show it.
    fn spell(&self, key: Value, name: &mut String) -> Option<()> {
        match (self.heap.node(key), self.heap.as_int(key)) {
            (Some(Node::Text(_) | Node::Decoded(_) | Node::Bytes(_)), _) => {
                let bytes = self.heap.as_bytes(key).filter(|bytes| bytes.len() <= limits::NAME_BYTES)?;
                name.push_str(&String::from_utf8_lossy(bytes));
            }
            _ if key == Value::TRUE => name.push_str("True"),
            _ if key == Value::FALSE => name.push_str("False"),
            _ if key == Value::NONE => name.push_str("None"),
            (_, Some(int)) => name.push_str(&int.to_string()),
            (Some(Node::Float(float)), _) => name.push_str(&float.to_string()),
            (Some(Node::Global(_)), _) => name.push_str(&self.heap.global(key)?.name),
            // A tuple or an object as a key: its place in the arena tells it from others.
            _ => name.push_str(&format!("<key {}>", key.index().unwrap_or_default())),
        }
        Some(())
    }
}

impl Frame {
    /// The next value within, and how it is reached.
    fn next(&mut self, heap: &Heap<'_>) -> Option<(Value, Segment)> {
        match self.shape {
            Shape::Object { state } => {
                self.shape = Shape::Listed;
                Some((state, Segment::None))
            }
            Shape::Listed => {
                let child = heap.next_item(&mut self.cursor)?;
                self.position += 1;
                Some((child, Segment::Position(self.position - 1)))
            }
            Shape::Keyed { .. } => {
                let key = heap.next_item(&mut self.cursor)?;
                Some((heap.next_item(&mut self.cursor)?, Segment::Key(key)))
            }
        }
    }
}
