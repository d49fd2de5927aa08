//! Checkpoints without a zip: five pickles in a row and then the storages; or just a pickle.

use std::collections::{HashMap, HashSet};

use crate::pickle::{Dialect, Heap, Pickle, Value, run};
use crate::{Finding, FindingKind, Format, Result, Source, Verdict, limits, read_at_most};

use super::report::Report;
use super::streams::{Allowance, Bounds, follow, keep_scalars, may_be_pickle};
use super::tensors::{Listing, Storage, add_all, storage_key};

/// `0x1950a86a20f9469cfc6c`, as a little-endian number and as protocol 0 writes it.
const MAGIC: &[u8] = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
const MAGIC_TEXT: &[u8] = b"119547037146038801333356L";
const PROTOCOL: i64 = 1001;
/// Most checkpoints' pickles fit; each further attempt reads four times as much.
const FIRST_READ_BYTES: u64 = 1 << 20;

/// Reads the pickles at the beginning of the file, and whatever follows them.
pub(super) fn inspect<S: Source + ?Sized>(source: &S, report: &mut Report) -> Result<()> {
    let bytes = read_pickles(source)?;
    report.read(bytes.len() as u64);
    let first = follow(&bytes, Dialect::Python, Bounds::File, "the pickle", report);
    if !is_magic(&first) {
        return plain(source, &bytes, &first, report);
    }
    report.set_format(Format::TorchLegacy);
    let mut rest = Streams { bytes: &bytes, at: first.length };
    let Some(protocol) = rest.next("the protocol", report) else { return Ok(()) };
    if protocol.heap.as_int(protocol.root) != Some(PROTOCOL) {
        report.find(Finding::corrupt(
            FindingKind::Metadata,
            "its protocol is not 1001, the only one there was",
        ));
    }
    if rest.next("the system's description", report).is_none() {
        return Ok(());
    }
    let Some(object) = rest.next("the checkpoint's pickle", report) else { return Ok(()) };
    keep_scalars(&object, report);
    let Some(keys) = rest.next("the list of storages", report) else {
        add_all(&object, Listing::Named, |_| Storage::Unreadable, report);
        return Ok(());
    };
    let (storages, end) = lay_out(source, &object.heap, &keys, rest.at as u64, report)?;
    let storage_of = |key: &str| match (storages.get(key), end) {
        (Some((offset, length)), _) => Storage::Plain { offset: *offset, length: *length },
        (None, Some(_)) => Storage::Missing,
        (None, None) => Storage::Unreadable,
    };
    add_all(&object, Listing::Named, storage_of, report);
    if let Some(end) = end.filter(|end| *end < source.size()) {
        let tail = read_at_most(source, end, limits::PICKLE_BYTES)?;
        follow_tail(&tail, report);
    }
    Ok(())
}

/// As much of the beginning as the pickles need. Storages follow them, which may be gigabytes.
fn read_pickles<S: Source + ?Sized>(source: &S) -> Result<Vec<u8>> {
    let mut length = FIRST_READ_BYTES;
    loop {
        let bytes = read_at_most(source, 0, length)?;
        if length >= limits::PICKLE_BYTES || bytes.len() as u64 == source.size() || !is_cut(&bytes) {
            return Ok(bytes);
        }
        length *= 4;
    }
}

/// Whether the pickles need more bytes than these.
fn is_cut(bytes: &[u8]) -> bool {
    let mut at = 0;
    for stream in 0..5 {
        let pickle = run(bytes.get(at..).unwrap_or_default(), Dialect::Python);
        match pickle.fault {
            // Beyond a broken rule the rest is swept for imports, so it is wanted too.
            Some(_) => return true,
            None if stream == 0 && !is_magic(&pickle) => return false,
            None => at += pickle.length,
        }
    }
    false
}

fn is_magic(pickle: &Pickle<'_>) -> bool {
    matches!(pickle.heap.as_bytes(pickle.root), Some(MAGIC | MAGIC_TEXT))
}

/// The streams after the first one.
struct Streams<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Streams<'a> {
    /// The next one, if it came to its end.
    fn next(&mut self, what: &str, report: &mut Report) -> Option<Pickle<'a>> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let pickle = follow(rest, Dialect::Python, Bounds::File, what, report);
        self.at += pickle.length;
        pickle.fault.is_none().then_some(pickle)
    }
}

/// A file that is no checkpoint of torch's: one pickle, and whatever stands after it.
fn plain<S: Source + ?Sized>(
    source: &S,
    bytes: &[u8],
    pickle: &Pickle<'_>,
    report: &mut Report,
) -> Result<()> {
    if pickle.fault.is_some() && pickle.heap.globals.is_empty() && bytes.first() != Some(&0x80) {
        report.find(Finding::corrupt(FindingKind::Header, "it is neither a zip nor a pickle"));
        return Ok(());
    }
    report.set_format(Format::RawPickle);
    keep_scalars(pickle, report);
    add_all(pickle, Listing::Named, |_| Storage::Missing, report);
    if pickle.fault.is_none() && (pickle.length as u64) < source.size() {
        let tail = read_at_most(source, pickle.length as u64, limits::PICKLE_BYTES)?;
        follow_tail(&tail, report);
    }
    Ok(())
}

/// Bytes where a file should end: more pickles would be read by whoever asks for more.
fn follow_tail(mut tail: &[u8], report: &mut Report) {
    let message = "there are bytes after the end of the checkpoint";
    report.find(Finding::new(FindingKind::Data, Verdict::Suspicious, message));
    let mut allowance = Allowance::new();
    while may_be_pickle(tail) && allowance.take(report) {
        let pickle = follow(tail, Dialect::Python, Bounds::Entry, "a pickle after the end", report);
        if pickle.fault.is_some() {
            break;
        }
        tail = tail.get(pickle.length..).unwrap_or_default();
    }
}

type Places = HashMap<String, (u64, u64)>;

/// Goes through the storages in the order of the keys: a count of elements, then the elements. The end is none if a
/// storage's length cannot be told, or is past the file's.
fn lay_out<S: Source + ?Sized>(
    source: &S,
    heap: &Heap<'_>,
    keys: &Pickle<'_>,
    start: u64,
    report: &mut Report,
) -> Result<(Places, Option<u64>)> {
    let mut wanted: HashMap<String, (u64, Option<u64>)> = HashMap::new();
    for storage in heap.storages.iter().filter(|storage| !storage.is_view) {
        if let Some(key) = storage_key(heap, storage.key) {
            let elements = heap.as_int(storage.elements).and_then(|elements| u64::try_from(elements).ok());
            wanted.insert(key, (storage.element_bytes(), elements));
        }
    }
    let mut places = Places::new();
    let mut seen = HashSet::new();
    let mut at = start;
    let mut cursor = keys.heap.items_of(keys.root);
    while let Some(key) = keys.heap.next_item(&mut cursor) {
        let Some((key, (element_bytes, elements))) = lookup(&keys.heap, key, &wanted) else {
            report.find(Finding::corrupt(FindingKind::Data, "a storage is listed that no tensor has").at(at));
            return Ok((places, Some(source.size())));
        };
        if !seen.insert(key.clone()) {
            report.find(Finding::corrupt(FindingKind::Data, "a storage is listed twice").at(at));
            return Ok((places, None));
        }
        let count = read_at_most(source, at, 8)?;
        let Some(count) = count.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else {
            report.find(Finding::corrupt(FindingKind::Partial, "a storage's length is cut").at(at));
            return Ok((places, None));
        };
        if Some(count) != elements {
            let message = format!("a storage has {count} elements, which is not what the pickle says");
            report.find(Finding::corrupt(FindingKind::Data, message).at(at));
            return Ok((places, None));
        }
        let length = count.checked_mul(element_bytes);
        let end = length.and_then(|length| at.checked_add(8)?.checked_add(length));
        let (Some(length), Some(end)) = (length, end.filter(|end| *end <= source.size())) else {
            report.find(Finding::corrupt(FindingKind::Partial, "a storage is cut").at(at));
            return Ok((places, None));
        };
        places.insert(key, (at + 8, length));
        report.read(8);
        at = end;
    }
    if wanted.keys().any(|key| !places.contains_key(key)) {
        report.find(Finding::corrupt(FindingKind::Data, "a tensor's storage is not in the list").at(start));
    }
    Ok((places, Some(at)))
}

fn lookup(
    heap: &Heap<'_>,
    key: Value,
    wanted: &HashMap<String, (u64, Option<u64>)>,
) -> Option<(String, (u64, Option<u64>))> {
    let key = storage_key(heap, key)?;
    let found = *wanted.get(&key)?;
    Some((key, found))
}
