//! ONNX: one protobuf message that holds a graph, whose initializers are the tensors.
//!
//! Who calls: [`crate::inspect`]. Written by hand, because a generated reader would take all weights into memory. Walked
//! with a stack of its own: a graph lies in an attribute of a node of a graph, as deep as a file likes. It must never
//! open external data; it names it ([`crate::companions`]).

mod tensor;
mod wire;

use crate::layout::drop_duplicates;
use crate::metadata::Keeper;
use crate::{Finding, FindingKind, Format, Inspection, Place, Result, Source, limits};
use wire::{FILE_END, Field, Payload, Stop, Wire};

/// Messages within messages. Loops in branches in loops: real models have two or three levels of four messages each.
const DEPTH: usize = 128;

/// Versions of the format itself. The newest is 13; new ones come about once a year.
const IR_VERSIONS: std::ops::RangeInclusive<u64> = 1..=64;

/// From this one on a model says which operators it is written in.
const OPSET_SINCE: u64 = 3;

/// A text that is kept of the model: its producer, the domain of its operators.
const TEXT_BYTES: usize = 4096;

/// The messages that lead to initializers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
}

/// Reads the structure of an ONNX file, over its weights.
///
/// # Errors
/// The file system's.
pub fn inspect<S: Source + ?Sized>(source: &S) -> Result<Inspection> {
    let mut walk = Walk {
        wire: Wire::new(source),
        inspection: Inspection::new(Format::Onnx),
        keeper: Keeper::new(),
        ir_version: None,
        graphs: 0,
        opsets: 0,
    };
    let outcome = walk.run();
    let size = source.size();
    let finding = match outcome {
        Err(Stop::Io(error)) => return Err(error),
        Err(Stop::Broken(why)) => {
            Some(Finding::corrupt(FindingKind::Header, format!("not an ONNX model: {why}")))
        }
        // What does not begin like a model is not a part of one.
        Err(Stop::Cut) | Ok(()) if walk.ir_version.is_none() => {
            Some(Finding::corrupt(FindingKind::Header, "not an ONNX model: no version of the format"))
        }
        Err(Stop::Cut) => Some(cut(size, "within the model")),
        // Graph and operators come late: a file that ends between two fields ends before one of them.
        Ok(()) if walk.graphs == 0 => Some(cut(size, "before the graph")),
        Ok(()) if walk.opsets == 0 && walk.ir_version >= Some(OPSET_SINCE) => {
            Some(cut(size, "before the operators"))
        }
        Ok(()) => None,
    };
    let mut inspection = walk.inspection;
    inspection.header_bytes = walk.wire.read();
    if let Some(finding) = finding {
        inspection.find(finding);
    }
    // Branches of one node may name their tensors alike; only a model without them has one space of names.
    if walk.graphs == 1 {
        drop_duplicates(&mut inspection);
    }
    within(&mut inspection, size);
    Ok(inspection)
}

fn cut(size: u64, whence: &str) -> Finding {
    Finding::corrupt(FindingKind::Partial, format!("the file ends {whence}, after {size} bytes")).at(size)
}

/// A file that shrank while it was read must not leave places beyond its end.
fn within(inspection: &mut Inspection, size: u64) {
    for tensor in &mut inspection.tensors {
        if let Place::Extent { offset, length } = tensor.place
            && offset.checked_add(length).is_none_or(|end| end > size)
        {
            tensor.place = Place::Unmapped;
        }
    }
}

struct Walk<'s, S: ?Sized> {
    wire: Wire<'s, S>,
    inspection: Inspection,
    keeper: Keeper,
    ir_version: Option<u64>,
    graphs: u64,
    opsets: u64,
}

impl<S: Source + ?Sized> Walk<'_, S> {
    fn run(&mut self) -> wire::Result<()> {
        let mut around = vec![(Message::Model, FILE_END)];
        while let Some((message, end)) = around.last().copied() {
            match self.wire.field(end)? {
                None => {
                    around.pop();
                }
                Some(field) => {
                    if let Some(inner) = self.take(message, field)? {
                        if around.len() == DEPTH {
                            return Err(Stop::Broken(format!(
                                "more than {DEPTH} messages within each other"
                            )));
                        }
                        around.push(inner);
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes what is wanted of a field; a message to go into is given back.
    fn take(&mut self, message: Message, field: Field) -> wire::Result<Option<(Message, u64)>> {
        if !is_of_its_type(message, field) {
            let why = format!("field {} of {message:?} is of another type", field.number);
            return Err(Stop::Broken(why));
        }
        let payload = field.payload;
        match (message, field.number, payload) {
            (Message::Model, 1, Payload::Varint(version)) => self.version(version)?,
            (Message::Model, 2, _) => self.keep_text("producer_name", payload)?,
            (Message::Model, 3, _) => self.keep_text("producer_version", payload)?,
            (Message::Model, 8, Payload::Bytes { end, .. }) => self.opset(end)?,
            (Message::Model, 14, Payload::Bytes { end, .. }) => self.property(end)?,
            (Message::Model, 7, Payload::Bytes { end, .. })
            | (Message::Attribute, 6 | 11, Payload::Bytes { end, .. }) => {
                self.graphs += 1;
                return Ok(Some((Message::Graph, end)));
            }
            (Message::Graph, 1, Payload::Bytes { end, .. }) => return Ok(Some((Message::Node, end))),
            (Message::Node, 5, Payload::Bytes { end, .. }) => return Ok(Some((Message::Attribute, end))),
            (Message::Graph, 5, Payload::Bytes { end, .. }) => {
                if self.inspection.tensors.len() == limits::TENSORS {
                    return Err(Stop::Broken(format!("more than {} tensors", limits::TENSORS)));
                }
                tensor::read(&mut self.wire, end, &mut self.inspection)?;
            }
            _ => self.wire.skip(payload)?,
        }
        Ok(None)
    }

    fn version(&mut self, version: u64) -> wire::Result<()> {
        if !IR_VERSIONS.contains(&version) {
            return Err(Stop::Broken(format!("version {version} of the format")));
        }
        self.ir_version = Some(version);
        self.keeper.keep(&mut self.inspection, "ir_version", &version.to_string());
        Ok(())
    }

    fn keep_text(&mut self, key: &str, payload: Payload) -> wire::Result<()> {
        if let Some(text) = self.wire.text(payload, TEXT_BYTES)? {
            self.keeper.keep(&mut self.inspection, key, &text);
        }
        Ok(())
    }

    /// A set of operators and its version; the standard one has no name.
    fn opset(&mut self, end: u64) -> wire::Result<()> {
        let (mut domain, mut version) = (String::new(), 0);
        while let Some(field) = self.wire.field(end)? {
            match (field.number, field.payload) {
                (1, payload) => domain = self.wire.text(payload, TEXT_BYTES)?.unwrap_or_default(),
                (2, Payload::Varint(number)) => version = number,
                (_, payload) => self.wire.skip(payload)?,
            }
        }
        let domain = if domain.is_empty() { "ai.onnx" } else { &domain };
        self.keeper.keep(&mut self.inspection, &format!("opset.{domain}"), &version.to_string());
        self.opsets += 1;
        Ok(())
    }

    fn property(&mut self, end: u64) -> wire::Result<()> {
        let (mut key, mut value) = (None, None);
        while let Some(field) = self.wire.field(end)? {
            match field.number {
                1 => key = self.wire.text(field.payload, TEXT_BYTES)?,
                2 => value = self.wire.text(field.payload, limits::METADATA_VALUE_BYTES)?,
                _ => self.wire.skip(field.payload)?,
            }
        }
        if let (Some(key), Some(value)) = (key, value) {
            self.keeper.keep(&mut self.inspection, &key, &value);
        }
        Ok(())
    }
}

/// Whether a field has the wire type that its message gives it. Fields of numbers not known here may come with newer
/// versions, and are read over.
const fn is_of_its_type(message: Message, field: Field) -> bool {
    let bytes = matches!(field.payload, Payload::Bytes { .. });
    let varint = matches!(field.payload, Payload::Varint(_));
    match (message, field.number) {
        (Message::Model, 1 | 5) | (Message::Attribute, 3 | 20) => varint,
        (Message::Model, 2..=8 | 14 | 20 | 25 | 26)
        | (Message::Graph, 1 | 2 | 5 | 10..=16)
        | (Message::Node, 1..=9)
        | (Message::Attribute, 1 | 4..=6 | 9..=11 | 13 | 14 | 21..=23) => bytes,
        (Message::Attribute, 2) => matches!(field.payload, Payload::Fixed(4)),
        // Repeated numbers, packed or one by one.
        (Message::Attribute, 7) => bytes || matches!(field.payload, Payload::Fixed(4)),
        (Message::Attribute, 8) => bytes || varint,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
