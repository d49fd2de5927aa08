//! The JSON of a safetensors header, entry by entry.
//!
//! A fault in what an entry says costs that entry; a fault in the JSON ends the reading. It must never keep an entry
//! whose sizes do not agree: everything behind it computes with them.

use hoist_domain::{Dtype, excerpt};

use crate::json::{Fault, Kind, Number, Reader};
use crate::layout::elements;
use crate::metadata::Keeper;
use crate::{Finding, FindingKind, Inspection, Place, Tensor, Verdict, limits};

type Result<T> = std::result::Result<T, Fault>;

/// Reads the header into an inspection. The extents of its tensors are relative to the data.
pub(super) struct Table<'a> {
    json: Reader<'a>,
    pub(super) inspection: Inspection,
    /// Whether every entry so far was kept.
    pub(super) complete: bool,
    keeper: Keeper,
    metadata_seen: bool,
    /// The shape and the offsets that are being read: kept, to grow once.
    shape: Vec<u64>,
    offsets: Vec<u64>,
}

/// What an entry said of a tensor, each where it said something that can be used.
#[derive(Default)]
struct Entry {
    dtype: Option<Dtype>,
    shape: Option<()>,
    extent: Option<(u64, u64)>,
}

/// The fields of an entry, in a set of bits: each may be there once.
#[derive(Clone, Copy)]
enum Field {
    Dtype = 1,
    Shape = 2,
    Extent = 4,
}

impl<'a> Table<'a> {
    pub(super) fn new(header: &'a [u8], inspection: Inspection) -> Self {
        Self {
            json: Reader::new(header),
            inspection,
            complete: true,
            keeper: Keeper::new(),
            metadata_seen: false,
            shape: Vec::new(),
            offsets: Vec::new(),
        }
    }

    /// Reads to the end, or to the first fault of the JSON.
    pub(super) fn read(&mut self) -> Result<()> {
        let mut members = self.json.object()?;
        while let Some(key) = self.json.key(&mut members)? {
            if key == "__metadata__" {
                self.metadata()?;
            } else if self.inspection.tensors.len() == limits::TENSORS {
                return self.too_many();
            } else {
                self.entry(&key)?;
            }
        }
        let at = self.json.position();
        match self.json.rest()?.bytes().position(|byte| byte != b' ') {
            Some(padding) => Err(Fault::Syntax { at: at + padding, why: "only spaces may follow the table" }),
            None => Ok(()),
        }
    }

    fn too_many(&mut self) -> Result<()> {
        let message = format!("more than {} tensors", limits::TENSORS);
        self.inspection.find(Finding::corrupt(FindingKind::Header, message));
        self.complete = false;
        Ok(())
    }

    fn metadata(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.metadata_seen, true) {
            self.complain(FindingKind::Metadata, "a second `__metadata__`");
            return self.json.skip();
        }
        match self.json.kind()? {
            Kind::Object => {}
            Kind::Word => {
                // The reference reader takes `null` for none at all.
                let verdict = if self.json.word()?.is_none() { Verdict::Ok } else { Verdict::Corrupt };
                self.inspection.find(Finding::new(
                    FindingKind::Metadata,
                    verdict,
                    "`__metadata__` is not a map",
                ));
                return Ok(());
            }
            _ => {
                self.complain(FindingKind::Metadata, "`__metadata__` is not a map");
                return self.json.skip();
            }
        }
        let mut members = self.json.object()?;
        while let Some(key) = self.json.key(&mut members)? {
            if self.json.kind()? != Kind::String {
                self.complain(
                    FindingKind::Metadata,
                    &format!("metadata `{}` is not a string", excerpt(&key)),
                );
                self.json.skip()?;
                continue;
            }
            let value = self.json.string()?;
            if !self.keeper.keep(&mut self.inspection, &key, &value) {
                self.complain(FindingKind::Metadata, &format!("metadata `{}` is there twice", excerpt(&key)));
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: &str) -> Result<()> {
        if self.json.kind()? != Kind::Object {
            self.refuse(name, "its entry is not an object");
            return self.json.skip();
        }
        let mut entry = Entry::default();
        let (mut seen, mut sound) = (0_u8, true);
        let mut members = self.json.object()?;
        while let Some(key) = self.json.key(&mut members)? {
            let field = match &*key {
                "dtype" => Field::Dtype,
                "shape" => Field::Shape,
                "data_offsets" => Field::Extent,
                // The reference reader reads over other fields, so that a newer writer may add some.
                _ => {
                    self.json.skip()?;
                    continue;
                }
            };
            let again = seen & field as u8 != 0;
            seen |= field as u8;
            let problem = if again {
                self.json.skip()?;
                Some(format!("`{key}` is there twice"))
            } else {
                self.field(field, &mut entry)?
            };
            if let Some(problem) = problem {
                self.refuse(name, &problem);
                sound = false;
            }
        }
        if sound {
            self.keep(name, &entry);
        }
        Ok(())
    }

    /// Reads one field; a problem of its content is given back as text.
    fn field(&mut self, field: Field, entry: &mut Entry) -> Result<Option<String>> {
        match field {
            Field::Dtype => {
                if self.json.kind()? != Kind::String {
                    self.json.skip()?;
                    return Ok(Some("its dtype is not a string".to_owned()));
                }
                let text = self.json.string()?;
                entry.dtype = dtype(&text);
                Ok(entry.dtype.is_none().then(|| format!("its dtype `{}` is not known", excerpt(&text))))
            }
            Field::Shape => {
                let problem = numbers(&mut self.json, &mut self.shape, limits::RANK)?;
                entry.shape = Some(());
                Ok(problem.map(|problem| format!("its shape {problem}")))
            }
            Field::Extent => {
                if let Some(problem) = numbers(&mut self.json, &mut self.offsets, 2)? {
                    return Ok(Some(format!("its data_offsets {problem}")));
                }
                if let [begin, end] = *self.offsets
                    && begin <= end
                {
                    entry.extent = Some((begin, end - begin));
                    return Ok(None);
                }
                Ok(Some(format!("its data_offsets {:?} are not a begin and an end", self.offsets)))
            }
        }
    }

    /// Keeps a tensor if what its entry says fits together.
    fn keep(&mut self, name: &str, entry: &Entry) {
        let (Some(dtype), Some(()), Some((offset, length))) = (entry.dtype, entry.shape, entry.extent) else {
            let missing = match (entry.dtype, entry.shape) {
                (None, _) => "it has no dtype",
                (_, None) => "it has no shape",
                _ => "it has no data_offsets",
            };
            return self.refuse(name, missing);
        };
        if name.len() > limits::NAME_BYTES {
            let problem = format!("its name has {} bytes: at most {}", name.len(), limits::NAME_BYTES);
            return self.refuse(name, &problem);
        }
        let Some(bytes) = elements(&self.shape).and_then(|elements| dtype.bytes_of(elements)) else {
            let problem = format!("{dtype} of shape {:?} has no size in whole bytes", self.shape);
            return self.refuse(name, &problem);
        };
        if bytes != length {
            let problem = format!("{dtype} of shape {:?} takes {bytes} bytes, not {length}", self.shape);
            return self.refuse(name, &problem);
        }
        self.inspection.tensors.push(Tensor {
            name: name.into(),
            dtype,
            shape: self.shape.as_slice().into(),
            place: Place::Extent { offset, length },
        });
    }

    fn refuse(&mut self, name: &str, problem: &str) {
        self.complete = false;
        self.inspection.find(Finding::corrupt(FindingKind::Header, problem).tensor(name));
    }

    fn complain(&mut self, kind: FindingKind, problem: &str) {
        self.inspection.find(Finding::corrupt(kind, problem));
    }
}

/// Reads an array of whole numbers; why it is not one is given back as text.
fn numbers(json: &mut Reader<'_>, read: &mut Vec<u64>, most: usize) -> Result<Option<String>> {
    read.clear();
    if json.kind()? != Kind::Array {
        json.skip()?;
        return Ok(Some("is not a list".to_owned()));
    }
    let mut problem = None;
    let mut items = json.array()?;
    while json.item(&mut items)? {
        if json.kind()? != Kind::Number {
            json.skip()?;
            problem = Some("holds something else than numbers".to_owned());
            continue;
        }
        match json.number()? {
            Number::Unsigned(number) if read.len() < most => read.push(number),
            Number::Unsigned(_) => problem = Some(format!("has more than {most} numbers")),
            Number::Other => problem = Some("holds a number that is not whole, or beyond 64 bits".to_owned()),
        }
    }
    Ok(problem)
}

/// The types that the format knows, by its names for them.
fn dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "F32" => Dtype::F32,
        "F16" => Dtype::F16,
        "BF16" => Dtype::Bf16,
        "F64" => Dtype::F64,
        "I64" => Dtype::I64,
        "I32" => Dtype::I32,
        "I16" => Dtype::I16,
        "I8" => Dtype::I8,
        "U8" => Dtype::U8,
        "U16" => Dtype::U16,
        "U32" => Dtype::U32,
        "U64" => Dtype::U64,
        "BOOL" => Dtype::Bool,
        "C64" => Dtype::C64,
        "F8_E4M3" => Dtype::F8E4m3,
        "F8_E5M2" => Dtype::F8E5m2,
        "F8_E4M3FNUZ" => Dtype::F8E4m3Fnuz,
        "F8_E5M2FNUZ" => Dtype::F8E5m2Fnuz,
        "F8_E8M0" => Dtype::F8E8m0,
        "F4" => Dtype::F4,
        "F6_E2M3" => Dtype::F6E2m3,
        "F6_E3M2" => Dtype::F6E3m2,
        _ => return None,
    })
}
