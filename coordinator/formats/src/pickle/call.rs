//! Imports and calls: what a stream asks of the outside, answered from a short list.
//!
//! Nothing is ever called. A global on the list is rebuilt as data; any other call makes an object that remembers its
//! arguments, so that tensors within can still be listed.

use crate::{Verdict, limits};

use super::heap::{Chain, Node, RawStorage, RawTensor, StorageClass, Value};
use super::known::Role;
use super::machine::Machine;
use super::{Fault, Step};

impl Machine<'_> {
    pub(super) fn import(&mut self, opcode: u8) -> Step {
        let made = match opcode {
            b'c' => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                self.global(module, name)?
            }
            0x93 => self.stack_global()?,
            b'i' => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                let class = self.global(module, name)?;
                let arguments = self.pop_to_mark()?;
                let arguments = self.heap.add_tuple(&arguments)?;
                self.call(class, arguments)?
            }
            b'o' => {
                let items = self.pop_to_mark()?;
                let (class, arguments) = items.split_first().ok_or(Fault::Breaks("it calls nothing"))?;
                let arguments = self.heap.add_tuple(arguments)?;
                self.call(*class, arguments)?
            }
            b'R' | 0x81 => {
                let arguments = self.pop()?;
                let callee = self.pop()?;
                self.call(callee, arguments)?
            }
            0x92 => {
                let named = self.pop()?;
                let arguments = self.pop()?;
                let callee = self.pop()?;
                let object = self.call(callee, arguments)?;
                self.build(object, named);
                object
            }
            b'b' => {
                let state = self.pop()?;
                let object = self.pop()?;
                self.build(object, state);
                object
            }
            b'P' => {
                self.input.line()?;
                return Err(Fault::Breaks("a persistent id is no storage"));
            }
            b'Q' => {
                let id = self.pop()?;
                self.persistent(id)?
            }
            _ => {
                self.input.take(match opcode {
                    0x82 => 1,
                    0x83 => 2,
                    _ => 4,
                })?;
                self.note(
                    Verdict::Suspicious,
                    "it imports by a number that only the reader's machine can resolve",
                );
                self.heap.add_object(Value::NONE, Value::NONE)?
            }
        };
        self.push(made)
    }

    fn stack_global(&mut self) -> Step<Value> {
        let name = self.pop()?;
        let module = self.pop()?;
        let computed = |machine: &Self, value| matches!(machine.heap.node(value), Some(Node::Object(_)));
        if computed(self, name) || computed(self, module) {
            self.note(Verdict::Malicious, "it computes the name of what it imports");
            return self.heap.add_object(module, name);
        }
        let bytes_of = |value| self.heap.as_text(value).map(|text| text.as_bytes().to_vec());
        match (bytes_of(module), bytes_of(name)) {
            (Some(module), Some(name)) => self.global(&module, &name),
            _ => Err(Fault::Breaks("what it imports has no name")),
        }
    }

    /// Records a global; this is all that ever happens to one.
    fn global(&mut self, module: &[u8], name: &[u8]) -> Step<Value> {
        if module.len() + name.len() > limits::GLOBAL_BYTES {
            return Err(Fault::Breaks("a global's name is too long"));
        }
        let (Ok(module), Ok(name)) = (str::from_utf8(module), str::from_utf8(name)) else {
            return Err(Fault::Breaks("a global's name is not text"));
        };
        self.heap.add_global(module, name, self.dialect)
    }

    fn call(&mut self, callee: Value, arguments: Value) -> Step<Value> {
        let role = match self.heap.node(callee) {
            Some(Node::Global(_)) => self.heap.global(callee).map(|global| global.role),
            Some(Node::Object(_)) => None,
            _ => return Err(Fault::Breaks("it calls a value that cannot be called")),
        };
        let Some(given) = self.heap.as_tuple(arguments) else {
            return match self.heap.node(arguments) {
                Some(Node::Object(_)) => self.heap.add_object(callee, arguments),
                _ => Err(Fault::Breaks("the arguments of a call are no tuple")),
            };
        };
        // Copied, for the arena grows below; more arguments than these belong to no call that has a meaning.
        let mut few = [Value::NONE; 7];
        let count = given.len();
        few.iter_mut().zip(given).for_each(|(to, from)| *to = *from);
        match role {
            Some(Role::RebuildFromType) => self.rebuild_from_type(callee, arguments, few, count),
            Some(role) => self.apply(role, callee, arguments, few, count),
            None => self.heap.add_object(callee, arguments),
        }
    }

    /// `(function, type, arguments, state)`: the function is called, the type and the state are a subclass's.
    fn rebuild_from_type(
        &mut self,
        callee: Value,
        arguments: Value,
        few: [Value; 7],
        count: usize,
    ) -> Step<Value> {
        let [function, _, inner, ..] = few;
        let role = self
            .heap
            .global(function)
            .map(|global| global.role)
            .filter(|role| *role != Role::RebuildFromType);
        let (Some(role), Some(given)) = (role, self.heap.as_tuple(inner)) else {
            return self.heap.add_object(callee, arguments);
        };
        if count < 3 {
            return self.heap.add_object(callee, arguments);
        }
        let mut few = [Value::NONE; 7];
        let count = given.len();
        few.iter_mut().zip(given).for_each(|(to, from)| *to = *from);
        self.apply(role, function, inner, few, count)
    }

    fn apply(
        &mut self,
        role: Role,
        callee: Value,
        arguments: Value,
        few: [Value; 7],
        count: usize,
    ) -> Step<Value> {
        let [first, ..] = few;
        match role {
            Role::RebuildTensor if count >= 4 => self.rebuild(few, None),
            Role::RebuildTypedTensor if count >= 7 => {
                let [.., dtype] = few;
                self.rebuild(few, Some(dtype))
            }
            Role::RebuildTensor | Role::RebuildTypedTensor => {
                Err(Fault::Breaks("a tensor lacks its arguments"))
            }
            Role::RebuildParameter | Role::FirstArgument if count >= 1 => Ok(first),
            Role::Mapping => self.mapping(few.get(..count.min(2)).unwrap_or_default()),
            Role::Tuple if count == 0 => Ok(Value::EMPTY_TUPLE),
            Role::Tuple if self.heap.as_tuple(first).is_some() => Ok(first),
            Role::Set | Role::Tuple => self.copy_items(role, first),
            Role::LoadBytes => {
                self.load_bytes(first);
                self.heap.add_object(callee, arguments)
            }
            _ => self.heap.add_object(callee, arguments),
        }
    }

    fn rebuild(
        &mut self,
        [storage, offset, size, stride, ..]: [Value; 7],
        dtype: Option<Value>,
    ) -> Step<Value> {
        match self.heap.node(storage) {
            Some(Node::Storage(storage)) => {
                self.heap.add_tensor(RawTensor { storage, offset, size, stride, dtype })
            }
            Some(Node::Object(_)) => self.heap.add_object(storage, Value::NONE),
            _ => Err(Fault::Breaks("a tensor is rebuilt without a storage")),
        }
    }

    /// `OrderedDict()`, `OrderedDict([(key, value), ...])`, `Counter({...})`, `defaultdict(factory, {...})`.
    fn mapping(&mut self, given: &[Value]) -> Step<Value> {
        let made = self.heap.add(Node::Dict(Chain::default()))?;
        for given in given {
            let is_dict = matches!(self.heap.node(*given), Some(Node::Dict(_)));
            let mut cursor = self.heap.items_of(*given);
            while let Some(item) = self.heap.next_item(&mut cursor) {
                let pair = if is_dict {
                    [Some(item), self.heap.next_item(&mut cursor)]
                } else {
                    let mut pair = self.heap.items_of(item);
                    [self.heap.next_item(&mut pair), self.heap.next_item(&mut pair)]
                };
                if let [Some(key), Some(value)] = pair {
                    self.heap.extend(made, &[key, value])?;
                }
            }
        }
        Ok(made)
    }

    /// A set, list or tuple of what another container holds. Each item is paid for, so repeating this is no way out.
    fn copy_items(&mut self, role: Role, from: Value) -> Step<Value> {
        let made = self.heap.add(if role == Role::Set {
            Node::Set(Chain::default())
        } else {
            Node::List(Chain::default())
        })?;
        let mut cursor = self.heap.items_of(from);
        while let Some(item) = self.heap.next_item(&mut cursor) {
            self.heap.extend(made, &[item])?;
        }
        Ok(made)
    }

    fn build(&mut self, object: Value, state: Value) {
        match self.heap.node(object) {
            Some(Node::Object(index)) => self.heap.set_state(index, state),
            Some(Node::Global(_)) => {
                self.note(Verdict::Suspicious, "it changes a class instead of an object")
            }
            // A dict's attributes (`_metadata`), a parameter's state: no tensors that count.
            _ => {}
        }
    }

    /// `('storage', class, key, location, elements)`; very old files add which storage it is a view of.
    fn persistent(&mut self, id: Value) -> Step<Value> {
        let fault = Fault::Breaks("a persistent id is no storage");
        if let Some(Node::Object(_)) = self.heap.node(id) {
            return self.heap.add_object(id, Value::NONE);
        }
        match self.heap.as_tuple(id) {
            Some(&[kind, class, key, _, elements, ref view @ ..])
                if self.heap.as_text(kind) == Some("storage") =>
            {
                let is_view = view.first().is_some_and(|view| *view != Value::NONE);
                let class = match self.heap.global(class).map(|global| global.role) {
                    Some(Role::Storage(Some(dtype))) => StorageClass::Of(dtype),
                    Some(Role::Storage(None)) => StorageClass::Untyped,
                    Some(_) => StorageClass::Unknown,
                    None => return Err(fault),
                };
                self.heap.add_storage(RawStorage { class, key, elements, is_view })
            }
            // A module whose source stands beside it: `(class, file, source)`. Very old files have them.
            Some(&[kind, class, ..]) if self.heap.as_text(kind) == Some("module") => {
                self.heap.add_object(class, id)
            }
            _ => Err(fault),
        }
    }

    /// Keeps a nested checkpoint to be looked at after this stream. Its bytes may come as Latin-1 text.
    fn load_bytes(&mut self, given: Value) {
        let encoded = match self.heap.node(given) {
            Some(Node::Object(index)) => self.heap.object(index).filter(|object| {
                self.heap.global(object.callee).is_some_and(|global| global.role == Role::Encode)
            }),
            _ => None,
        };
        let bytes = match encoded {
            Some(object) => {
                let text = self.heap.as_tuple(object.arguments).and_then(|given| given.first());
                let text = text.and_then(|text| self.heap.as_text(*text)).unwrap_or_default();
                text.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect()
            }
            None => self.heap.as_bytes(given).map(<[u8]>::to_vec).unwrap_or_default(),
        };
        // The same bytes can be given a million times; copies of them are paid for.
        if self.nested.len() < limits::PICKLES && self.heap.charge(bytes.len()).is_ok() {
            self.nested.push(bytes);
        } else {
            self.note(Verdict::Suspicious, "it holds more pickled tensors than are looked at");
        }
    }
}
