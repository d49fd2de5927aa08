//! The arena of one stream: every value that it builds, addressed by index, accounted to the byte.

use std::collections::HashMap;

use hoist_domain::Dtype;

use crate::limits;

use super::globals::Global;
use super::{Dialect, Fault, Step};

/// A value: small ones are in it, others are a place in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value(u32);

/// A range of bytes or items. 32 bits suffice: a stream has at most [`limits::PICKLE_BYTES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    length: u32,
}

/// A container's items: a list of runs, for it may grow after others did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chain {
    /// One more than the index of the first run; 0 when there is none.
    first: u32,
    last: u32,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    items: Span,
    /// As in [`Chain`].
    next: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Node {
    Int(i64),
    Float(f64),
    /// An integer beyond 64 bits: little-endian bytes in the stream.
    Long(Span),
    /// Text as it stands in the stream.
    Text(Span),
    /// Text that had to be decoded.
    Decoded(Span),
    Bytes(Span),
    Tuple(Span),
    List(Chain),
    /// Keys and values in turn.
    Dict(Chain),
    Set(Chain),
    Global(u32),
    Storage(u32),
    Tensor(u32),
    Object(u32),
}

/// A storage as a persistent id describes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawStorage {
    pub(crate) class: StorageClass,
    pub(crate) key: Value,
    /// Elements; bytes for an untyped storage.
    pub(crate) elements: Value,
    /// Part of another storage: only in very old files.
    pub(crate) is_view: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StorageClass {
    Of(Dtype),
    Untyped,
    /// A class that is not a storage of torch: reported with its name.
    Unknown,
}

impl RawStorage {
    pub(crate) const fn element_bytes(&self) -> u64 {
        match self.class {
            StorageClass::Of(dtype) => dtype.block_bits() / 8,
            StorageClass::Untyped | StorageClass::Unknown => 1,
        }
    }
}

/// A tensor as it was asked to be rebuilt; nothing of it is checked yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawTensor {
    /// Into [`Heap::storages`].
    pub(crate) storage: u32,
    pub(crate) offset: Value,
    pub(crate) size: Value,
    pub(crate) stride: Value,
    /// The name of the element type, where it is not the storage's.
    pub(crate) dtype: Option<Value>,
}

/// What a call made that has no meaning here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object {
    pub(crate) callee: Value,
    pub(crate) arguments: Value,
    pub(crate) state: Value,
}

#[derive(Debug)]
pub(crate) struct Heap<'a> {
    stream: &'a [u8],
    nodes: Vec<Node>,
    items: Vec<Value>,
    runs: Vec<Run>,
    decoded: String,
    pub(crate) globals: Vec<Global>,
    pub(crate) storages: Vec<RawStorage>,
    pub(crate) tensors: Vec<RawTensor>,
    objects: Vec<Object>,
    global_index: HashMap<Box<str>, u32>,
    budget: usize,
}

const SMALL_INT: u32 = 1 << 31;

impl Value {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const TRUE: Self = Self(1);
    pub(crate) const FALSE: Self = Self(2);
    pub(crate) const EMPTY_TUPLE: Self = Self(3);
    /// No value: what a memo holds where nothing was put.
    pub(crate) const UNSET: Self = Self(u32::MAX);
    const FIRST_NODE: u32 = 4;

    /// The arena's index; none for values that are not in it.
    pub(crate) fn index(self) -> Option<usize> {
        let index = Some(self.0).filter(|raw| raw & SMALL_INT == 0)?.checked_sub(Self::FIRST_NODE)?;
        usize::try_from(index).ok()
    }
}

impl Span {
    pub(crate) fn new(start: usize, length: usize) -> Step<Self> {
        match (u32::try_from(start), u32::try_from(length)) {
            (Ok(start), Ok(length)) => Ok(Self { start, length }),
            _ => Err(Fault::Breaks("the stream is too long")),
        }
    }

    fn of<T>(self, all: &[T]) -> &[T] {
        let start = self.start as usize;
        all.get(start..start.saturating_add(self.length as usize)).unwrap_or_default()
    }
}

impl<'a> Heap<'a> {
    pub(crate) fn new(stream: &'a [u8]) -> Self {
        let budget = stream
            .len()
            .saturating_mul(limits::PICKLE_MEMORY_FACTOR)
            .saturating_add(limits::PICKLE_MEMORY_FLOOR);
        Self {
            stream,
            nodes: Vec::new(),
            items: Vec::new(),
            runs: Vec::new(),
            decoded: String::new(),
            globals: Vec::new(),
            storages: Vec::new(),
            tensors: Vec::new(),
            objects: Vec::new(),
            global_index: HashMap::new(),
            budget,
        }
    }

    /// Takes memory from what this stream may have.
    pub(crate) fn charge(&mut self, bytes: usize) -> Step {
        let left = self.budget.checked_sub(bytes);
        self.budget = left.ok_or(Fault::Breaks("its objects take far more memory than its bytes"))?;
        Ok(())
    }

    pub(crate) fn add(&mut self, node: Node) -> Step<Value> {
        self.charge(size_of::<Node>())?;
        let raw = u32::try_from(self.nodes.len()).ok().and_then(|index| index.checked_add(Value::FIRST_NODE));
        let raw = raw.filter(|raw| raw & SMALL_INT == 0).ok_or(Fault::Breaks("it has too many objects"))?;
        self.nodes.push(node);
        Ok(Value(raw))
    }

    pub(crate) fn int(&mut self, int: i64) -> Step<Value> {
        match u32::try_from(int).ok().filter(|small| *small < SMALL_INT - 1) {
            Some(small) => Ok(Value(SMALL_INT | small)),
            None => self.add(Node::Int(int)),
        }
    }

    pub(crate) fn add_decoded(&mut self, text: &str) -> Step<Value> {
        self.charge(text.len())?;
        let span = Span::new(self.decoded.len(), text.len())?;
        self.decoded.push_str(text);
        self.add(Node::Decoded(span))
    }

    pub(crate) fn add_tuple(&mut self, items: &[Value]) -> Step<Value> {
        if items.is_empty() {
            return Ok(Value::EMPTY_TUPLE);
        }
        let span = self.add_items(items)?;
        self.add(Node::Tuple(span))
    }

    fn add_items(&mut self, items: &[Value]) -> Step<Span> {
        self.charge(size_of_val(items))?;
        let span = Span::new(self.items.len(), items.len())?;
        self.items.extend_from_slice(items);
        Ok(span)
    }

    /// Judges a global once: a stream can name one in every line. Where module and name part is kept apart, for they
    /// are judged apart.
    pub(crate) fn add_global(&mut self, module: &str, name: &str, dialect: Dialect) -> Step<Value> {
        let key = format!("{}:{module}{name}", module.len());
        if let Some(index) = self.global_index.get(&*key) {
            return self.add(Node::Global(*index));
        }
        if self.globals.len() >= limits::GLOBALS {
            return Err(Fault::Breaks("it imports more names than any checkpoint has"));
        }
        self.charge(size_of::<Global>() + 2 * key.len() + size_of::<(Box<str>, u32)>())?;
        let index = index_of(self.globals.len())?;
        self.globals.push(Global::new(module, name, dialect));
        self.global_index.insert(key.into(), index);
        self.add(Node::Global(index))
    }

    pub(crate) fn add_storage(&mut self, storage: RawStorage) -> Step<Value> {
        self.charge(size_of::<RawStorage>())?;
        let node = self.add(Node::Storage(index_of(self.storages.len())?))?;
        self.storages.push(storage);
        Ok(node)
    }

    pub(crate) fn add_tensor(&mut self, tensor: RawTensor) -> Step<Value> {
        self.charge(size_of::<RawTensor>())?;
        let node = self.add(Node::Tensor(index_of(self.tensors.len())?))?;
        self.tensors.push(tensor);
        Ok(node)
    }

    pub(crate) fn add_object(&mut self, callee: Value, arguments: Value) -> Step<Value> {
        self.charge(size_of::<Object>())?;
        let node = self.add(Node::Object(index_of(self.objects.len())?))?;
        self.objects.push(Object { callee, arguments, state: Value::NONE });
        Ok(node)
    }

    /// Adds to a list, dict or set; its older items stay where they are.
    pub(crate) fn extend(&mut self, container: Value, items: &[Value]) -> Step {
        if items.is_empty() {
            return Ok(());
        }
        let start = self.items.len();
        let span = self.add_items(items)?;
        let index = container.index().ok_or(Fault::Breaks("it adds items to a value that has none"))?;
        let next_run = index_of(self.runs.len() + 1)?;
        let Some(Node::List(chain) | Node::Dict(chain) | Node::Set(chain)) = self.nodes.get_mut(index) else {
            return Err(Fault::Breaks("it adds items to a value that has none"));
        };
        let last = chain.last.checked_sub(1).and_then(|last| self.runs.get_mut(last as usize));
        match last {
            Some(run) if run.items.start as usize + run.items.length as usize == start => {
                run.items.length += span.length;
                return Ok(());
            }
            Some(run) => run.next = next_run,
            None => chain.first = next_run,
        }
        chain.last = next_run;
        self.runs.push(Run { items: span, next: 0 });
        self.charge(size_of::<Run>())
    }

    pub(crate) fn set_state(&mut self, object: u32, state: Value) {
        if let Some(object) = self.objects.get_mut(object as usize) {
            object.state = state;
        }
    }

    pub(crate) fn node(&self, value: Value) -> Option<Node> {
        self.nodes.get(value.index()?).copied()
    }

    pub(crate) const fn node_count(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn object(&self, object: u32) -> Option<Object> {
        self.objects.get(object as usize).copied()
    }

    pub(crate) fn global(&self, value: Value) -> Option<&Global> {
        match self.node(value)? {
            Node::Global(index) => self.globals.get(index as usize),
            _ => None,
        }
    }

    pub(crate) fn as_int(&self, value: Value) -> Option<i64> {
        match value {
            Value(raw) if raw & SMALL_INT != 0 => Some(i64::from(raw & !SMALL_INT)),
            Value::TRUE => Some(1),
            Value::FALSE => Some(0),
            _ => match self.node(value)? {
                Node::Int(int) => Some(int),
                _ => None,
            },
        }
    }

    pub(crate) fn as_float(&self, value: Value) -> Option<f64> {
        match self.node(value)? {
            Node::Float(float) => Some(float),
            _ => None,
        }
    }

    pub(crate) fn is_dict(&self, value: Value) -> bool {
        matches!(self.node(value), Some(Node::Dict(_)))
    }

    /// Text; none if it is not, or is not UTF-8.
    pub(crate) fn as_text(&self, value: Value) -> Option<&str> {
        match self.node(value)? {
            Node::Text(span) => str::from_utf8(span.of(self.stream)).ok(),
            Node::Decoded(span) => str::from_utf8(span.of(self.decoded.as_bytes())).ok(),
            _ => None,
        }
    }

    pub(crate) fn as_bytes(&self, value: Value) -> Option<&[u8]> {
        match self.node(value)? {
            Node::Bytes(span) | Node::Text(span) | Node::Long(span) => Some(span.of(self.stream)),
            Node::Decoded(span) => Some(span.of(self.decoded.as_bytes())),
            _ => None,
        }
    }

    pub(crate) fn as_tuple(&self, value: Value) -> Option<&[Value]> {
        match self.node(value) {
            _ if value == Value::EMPTY_TUPLE => Some(&[]),
            Some(Node::Tuple(span)) => Some(span.of(&self.items)),
            _ => None,
        }
    }

    /// A cursor over the items of a tuple or a container, in order.
    pub(crate) fn items_of(&self, value: Value) -> Cursor {
        match self.node(value) {
            Some(Node::Tuple(span)) => Cursor { left: span, next: 0 },
            Some(Node::List(chain) | Node::Dict(chain) | Node::Set(chain)) => {
                Cursor { left: Span::default(), next: chain.first }
            }
            _ => Cursor { left: Span::default(), next: 0 },
        }
    }

    /// The next item under a cursor.
    pub(crate) fn next_item(&self, cursor: &mut Cursor) -> Option<Value> {
        while cursor.left.length == 0 {
            let run = self.runs.get(cursor.next.checked_sub(1)? as usize)?;
            *cursor = Cursor { left: run.items, next: run.next };
        }
        let item = self.items.get(cursor.left.start as usize).copied();
        cursor.left.start += 1;
        cursor.left.length -= 1;
        item
    }
}

/// Where an iteration stands; small enough to keep one for every level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    left: Span,
    next: u32,
}

fn index_of(length: usize) -> Step<u32> {
    u32::try_from(length).map_err(|_| Fault::Breaks("it has too many objects"))
}
