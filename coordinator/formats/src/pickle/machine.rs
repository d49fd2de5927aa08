//! The machine itself: a stack, marks, a memo, and one step an opcode.

use crate::{Finding, FindingKind, Verdict, limits};

use super::globals::Global;
use super::heap::{Chain, Heap, Node, Value};
use super::input::Input;
use super::{Dialect, Fault, Step, sweep, text};

/// What a stream came to.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    pub(crate) heap: Heap<'a>,
    /// What is on top of the stack at STOP.
    pub(crate) root: Value,
    /// Bytes up to and with STOP, or up to the opcode at fault.
    pub(crate) length: usize,
    pub(crate) fault: Option<Fault>,
    /// What is odd about the way it is written.
    pub(crate) findings: Vec<Finding>,
    /// Powerful globals beyond the fault.
    pub(crate) beyond: Vec<Global>,
    /// Checkpoints within it: tensors that were pickled on their own.
    pub(crate) nested: Vec<Vec<u8>>,
}

pub(super) struct Machine<'a> {
    pub(super) input: Input<'a>,
    pub(super) heap: Heap<'a>,
    pub(super) dialect: Dialect,
    pub(super) nested: Vec<Vec<u8>>,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: Vec<Value>,
    findings: Vec<Finding>,
}

/// Follows the stream at the beginning of `bytes` to its STOP; what follows that is not looked at.
pub(crate) fn run(bytes: &[u8], dialect: Dialect) -> Pickle<'_> {
    let mut machine = Machine {
        input: Input::new(bytes),
        heap: Heap::new(bytes),
        dialect,
        nested: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        findings: Vec::new(),
    };
    loop {
        let at = machine.input.at();
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => {
                if !machine.stack.is_empty() || !machine.marks.is_empty() {
                    machine.note(Verdict::Suspicious, "it leaves values behind, as no pickler does");
                }
                let length = machine.input.at();
                return machine.end(root, length, None);
            }
            Err(fault) => return machine.end(Value::NONE, at, Some(fault)),
        }
    }
}

impl<'a> Machine<'a> {
    fn end(self, root: Value, length: usize, fault: Option<Fault>) -> Pickle<'a> {
        let rest = self.input.bytes().get(length..).unwrap_or_default();
        let beyond = if fault.is_some() { sweep::powerful_names(rest, self.dialect) } else { Vec::new() };
        Pickle { heap: self.heap, root, length, fault, findings: self.findings, beyond, nested: self.nested }
    }

    /// Keeps what is odd: a handful, for a stream can be odd in every byte. A malicious one is always kept.
    pub(super) fn note(&mut self, verdict: Verdict, message: &str) {
        let at = self.input.at() as u64;
        if self.findings.iter().all(|known| known.message != message) {
            self.findings.push(Finding::new(FindingKind::Pickle, verdict, message).at(at));
        }
    }

    /// One opcode; the root value if it was STOP.
    fn step(&mut self) -> Step<Option<Value>> {
        let opcode = self.input.byte()?;
        match opcode {
            b'.' => return self.pop().map(Some),
            0x80 => {
                if self.input.byte()? > 5 {
                    return Err(Fault::Breaks("its protocol is not known"));
                }
            }
            0x95 => self.input.frame()?,
            b'N' | 0x88 | 0x89 | b'F' | b'G' | b'I' | b'J' | b'K' | b'L' | b'M' | 0x8a | 0x8b => {
                self.number(opcode)?
            }
            b'S' | b'T' | b'U' | b'V' | b'X' | 0x8c | 0x8d | b'B' | b'C' | 0x8e | 0x96 => {
                self.string(opcode)?
            }
            b'(' | b'0' | b'1' | b'2' | b'g' | b'h' | b'j' | b'p' | b'q' | b'r' | 0x94 => {
                self.shuffle(opcode)?
            }
            b']'
            | b'}'
            | b')'
            | 0x8f
            | b'a'
            | b'e'
            | b's'
            | b'u'
            | 0x90
            | b'l'
            | b'd'
            | b't'
            | 0x85..=0x87
            | 0x91 => {
                self.collect(opcode)?;
            }
            b'c' | b'i' | b'o' | b'R' | b'b' | b'P' | b'Q' | 0x81..=0x84 | 0x92 | 0x93 => {
                self.import(opcode)?
            }
            0x97 | 0x98 => return Err(Fault::Breaks("it expects buffers beside it")),
            _ => return Err(Fault::Breaks("it has an unknown opcode")),
        }
        Ok(None)
    }

    pub(super) fn push(&mut self, value: Value) -> Step {
        if self.stack.len() >= limits::PICKLE_STACK {
            return Err(Fault::Breaks("its stack grows beyond the limit"));
        }
        self.stack.push(value);
        Ok(())
    }

    /// The top value; like Python, not from below a mark.
    pub(super) fn pop(&mut self) -> Step<Value> {
        let floor = self.marks.last().copied().unwrap_or_default();
        if self.stack.len() <= floor {
            return Err(Fault::Breaks("it takes from an empty stack"));
        }
        self.stack.pop().ok_or(Fault::Breaks("it takes from an empty stack"))
    }

    fn top(&mut self) -> Step<Value> {
        let value = self.pop()?;
        self.stack.push(value);
        Ok(value)
    }

    /// Everything above the last mark.
    pub(super) fn pop_to_mark(&mut self) -> Step<Vec<Value>> {
        let mark = self.marks.pop().ok_or(Fault::Breaks("it looks for a mark that was never set"))?;
        // Not `split_off`, which would copy the capacity with it.
        Ok(self.stack.drain(mark.min(self.stack.len())..).collect())
    }

    fn number(&mut self, opcode: u8) -> Step {
        let value = match opcode {
            b'N' => Value::NONE,
            0x88 => Value::TRUE,
            0x89 => Value::FALSE,
            b'G' => {
                let float = self.input.array().map(f64::from_be_bytes)?;
                self.heap.add(Node::Float(float))?
            }
            b'F' => {
                let float = line_text(self.input.line()?)?.trim().parse();
                self.heap.add(Node::Float(float.map_err(|_| Fault::Breaks("a number is not one"))?))?
            }
            b'J' => {
                let int = self.input.i32()?;
                self.heap.int(int.into())?
            }
            b'K' => {
                let int = self.input.byte()?;
                self.heap.int(int.into())?
            }
            b'M' => {
                let int = self.input.u16()?;
                self.heap.int(int.into())?
            }
            b'I' | b'L' => self.decimal()?,
            _ => self.long(opcode)?,
        };
        self.push(value)
    }

    fn decimal(&mut self) -> Step<Value> {
        let start = self.input.at();
        let line = line_text(self.input.line()?)?.trim();
        match line {
            "00" => return Ok(Value::FALSE),
            "01" => return Ok(Value::TRUE),
            _ => {}
        }
        let digits = line.strip_suffix('L').unwrap_or(line);
        if let Ok(int) = digits.parse() {
            return self.heap.int(int);
        }
        if !digits.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()) || digits.is_empty() {
            return Err(Fault::Breaks("a number is not one"));
        }
        let span = super::heap::Span::new(start, line.len())?;
        self.heap.add(Node::Long(span))
    }

    /// Little-endian two's complement of any length.
    fn long(&mut self, opcode: u8) -> Step<Value> {
        let span = if opcode == 0x8a { self.input.span8()? } else { self.input.signed_span32()? };
        let node = self.heap.add(Node::Long(span))?;
        let bytes = self.heap.as_bytes(node).unwrap_or_default();
        if bytes.len() > 8 {
            return Ok(node);
        }
        let fill = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [fill; 8];
        wide.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.heap.int(i64::from_le_bytes(wide))
    }

    fn string(&mut self, opcode: u8) -> Step {
        let value = match opcode {
            b'S' | b'V' => {
                let line = self.input.line()?;
                let decoded = if opcode == b'S' { text::quoted(line) } else { text::unicode(line) };
                self.heap.add_decoded(&decoded.ok_or(Fault::Breaks("a text is not well-formed"))?)?
            }
            _ => {
                let span = match opcode {
                    b'U' | 0x8c | b'C' => self.input.span8()?,
                    b'X' | b'B' => self.input.span32()?,
                    b'T' => self.input.signed_span32()?,
                    _ => self.input.span64()?,
                };
                let is_text = matches!(opcode, b'T' | b'U' | b'X' | 0x8c | 0x8d);
                self.heap.add(if is_text { Node::Text(span) } else { Node::Bytes(span) })?
            }
        };
        self.push(value)
    }

    /// Marks, the memo, and moving values about.
    fn shuffle(&mut self, opcode: u8) -> Step {
        match opcode {
            b'(' => {
                if self.marks.len() >= limits::PICKLE_STACK {
                    return Err(Fault::Breaks("its stack grows beyond the limit"));
                }
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' if self.marks.last() == Some(&self.stack.len()) => self.pop_to_mark().map(drop),
            b'0' => self.pop().map(drop),
            b'1' => self.pop_to_mark().map(drop),
            b'2' => {
                let top = self.top()?;
                self.push(top)
            }
            b'g' | b'h' | b'j' => {
                let index = self.memo_index(opcode)?;
                let value = self.memo.get(index).copied().filter(|value| *value != Value::UNSET);
                self.push(value.ok_or(Fault::Breaks("it recalls what it never memorised"))?)
            }
            _ => {
                let index = if opcode == 0x94 { self.memo.len() } else { self.memo_index(opcode)? };
                self.memorise(index)
            }
        }
    }

    fn memo_index(&mut self, opcode: u8) -> Step<usize> {
        let index = match opcode {
            b'h' | b'q' => self.input.byte()?.into(),
            b'j' | b'r' => self.input.u32()?,
            _ => {
                let line = line_text(self.input.line()?)?.trim().parse();
                line.map_err(|_| Fault::Breaks("a memo's index is not a number"))?
            }
        };
        usize::try_from(index).map_err(|_| Fault::Breaks("a memo's index is beyond the stream's length"))
    }

    /// Picklers count from 0 or 1, so an index beyond the stream's length is nobody's.
    fn memorise(&mut self, index: usize) -> Step {
        let top = self.top()?;
        if index > self.input.bytes().len() {
            return Err(Fault::Breaks("a memo's index is beyond the stream's length"));
        }
        if index >= self.memo.len() {
            self.heap.charge((index + 1 - self.memo.len()) * size_of::<Value>())?;
            self.memo.resize(index + 1, Value::UNSET);
        }
        if let Some(slot) = self.memo.get_mut(index) {
            *slot = top;
        }
        Ok(())
    }

    fn collect(&mut self, opcode: u8) -> Step {
        match opcode {
            b']' | b'}' | 0x8f => {
                let empty = self.heap.add(empty(opcode))?;
                self.push(empty)
            }
            b')' => self.push(Value::EMPTY_TUPLE),
            b'a' => {
                let item = self.pop()?;
                self.add_to_top(&[item], false)
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.add_to_top(&[key, value], true)
            }
            b'e' | 0x90 | b'u' => {
                let items = self.pop_to_mark()?;
                self.add_to_top(&items, opcode == b'u')
            }
            0x85..=0x87 => {
                let mut items = [Value::NONE; 3];
                let count = usize::from(opcode - 0x84);
                for slot in items.iter_mut().take(count).rev() {
                    *slot = self.pop()?;
                }
                let tuple = self.heap.add_tuple(items.get(..count).unwrap_or_default())?;
                self.push(tuple)
            }
            b't' => {
                let items = self.pop_to_mark()?;
                let tuple = self.heap.add_tuple(&items)?;
                self.push(tuple)
            }
            _ => {
                let items = self.pop_to_mark()?;
                let container = self.heap.add(empty(opcode))?;
                self.push(container)?;
                self.add_to_top(&items, opcode == b'd')
            }
        }
    }

    /// Adds to the container on top. Objects swallow what they are given: their classes are not known.
    fn add_to_top(&mut self, items: &[Value], in_pairs: bool) -> Step {
        let container = self.top()?;
        if in_pairs && !items.len().is_multiple_of(2) {
            return Err(Fault::Breaks("a key has no value"));
        }
        match self.heap.node(container) {
            Some(Node::Dict(_)) if in_pairs => self.heap.extend(container, items),
            Some(Node::List(_) | Node::Set(_)) if !in_pairs => self.heap.extend(container, items),
            Some(Node::Object(_)) => Ok(()),
            _ => Err(Fault::Breaks("it adds items to a value that has none")),
        }
    }
}

/// The empty container that an opcode makes, or fills.
fn empty(opcode: u8) -> Node {
    match opcode {
        b'}' | b'd' => Node::Dict(Chain::default()),
        0x8f | 0x91 => Node::Set(Chain::default()),
        _ => Node::List(Chain::default()),
    }
}

fn line_text(line: &[u8]) -> Step<&str> {
    str::from_utf8(line).map_err(|_| Fault::Breaks("a line is not text"))
}
