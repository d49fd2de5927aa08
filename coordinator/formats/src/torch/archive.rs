//! Zips: checkpoints, TorchScript programs, exported programs, and zips that are none of these.

use std::collections::{HashMap, HashSet};

use crate::pickle::{Dialect, Pickle, Standing, run};
use crate::zip::{Archive, Content, Entry, Method, Opened, open, read_entry};
use crate::{Finding, FindingKind, Format, Result, Source, Verdict, limits};

use super::report::Report;
use super::streams::{Allowance, Bounds, follow, keep_scalars};
use super::tensors::{Listing, Storage, add_all};
use super::{Within, nested};

/// The newest file version that torch has written; it refuses newer ones itself.
const NEWEST_VERSION: u64 = 10;
/// `version` and `byteorder` are a word each.
const RECORD_BYTES: u64 = 64;

/// Reads the directory, every pickle in the archive, and the two small records beside it.
pub(super) fn inspect<S: Source + ?Sized>(source: &S, within: Within, report: &mut Report) -> Result<()> {
    report.set_format(Format::Zip);
    let archive = match open(source)? {
        Opened::Archive(archive) => archive,
        Opened::Refused(finding) => {
            report.find(finding);
            return Ok(());
        }
    };
    report.read(archive.header_bytes);
    let layout = Layout::of(&archive);
    report.set_format(layout.format);
    report.find_all(archive.findings.iter().cloned());
    if layout.has_rivals {
        let message = "the archive has several checkpoints: which one counts is up to the reader";
        report.find(Finding::new(FindingKind::Zip, Verdict::Suspicious, message));
    }
    let order = if layout.main.is_some() { layout.records(source, report)? } else { Order::Little };
    layout.pickles(source, &archive, order, report)?;
    if layout.format == Format::TorchExport && within == Within::File {
        nested::inspect(source, &archive, report)?;
    }
    Ok(())
}

/// The byte order of the storages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

/// What the entries' names say.
struct Layout<'a> {
    format: Format,
    /// The folder that everything of torch's is in.
    root: &'a str,
    by_name: HashMap<&'a str, &'a Entry>,
    /// Names that more than one entry has.
    repeated: HashSet<&'a str>,
    main: Option<&'a str>,
    /// More than one `data.pkl`, in several folders.
    has_rivals: bool,
}

impl<'a> Layout<'a> {
    fn of(archive: &'a Archive) -> Self {
        let mut by_name = HashMap::with_capacity(archive.entries.len());
        let mut repeated = HashSet::new();
        for entry in &archive.entries {
            if by_name.insert(&*entry.name, entry).is_some() {
                repeated.insert(&*entry.name);
            }
        }
        let names = || archive.entries.iter().map(|entry| &*entry.name);
        // torch takes the folder of the first entry.
        let root = names().next().and_then(|name| name.split_once('/')).map_or("", |(root, _)| root);
        let is_main = |name: &&str| *name == "data.pkl" || name.ends_with("/data.pkl");
        let main = by_name
            .get_key_value(&*format!("{root}/data.pkl"))
            .map(|(name, _)| *name)
            .or_else(|| names().find(is_main));
        let rivals: HashSet<&str> = names().filter(is_main).collect();
        let is_export = |name: &str| {
            name.ends_with("/archive_format")
                || name == "archive_format"
                || name.ends_with("serialized_exported_program.json")
        };
        let format = if names().any(|name| name.ends_with("/constants.pkl") || name.contains("/code/")) {
            Format::Torchscript
        } else if names().any(is_export) {
            Format::TorchExport
        } else if main.is_some() {
            Format::TorchZip
        } else {
            Format::Zip
        };
        Self { format, root, by_name, repeated, main, has_rivals: rivals.len() > 1 }
    }

    fn entry(&self, below_root: &str) -> Option<&'a Entry> {
        self.by_name.get(&*format!("{}/{below_root}", self.root)).copied()
    }

    /// Checks `version` and `byteorder`.
    fn records<S: Source + ?Sized>(&self, source: &S, report: &mut Report) -> Result<Order> {
        let metadata = |message: String| Finding::corrupt(FindingKind::Metadata, message);
        match self.entry(".data/version").or_else(|| self.entry("version")) {
            None => report.find(metadata("the archive has no `version`: torch would not open it".to_owned())),
            Some(entry) => {
                if let Some(text) = self.record(source, entry, report)? {
                    match text.trim().parse::<u64>() {
                        Ok(1..=NEWEST_VERSION) => {}
                        Ok(version) => report.find(metadata(format!("file version {version} is not known"))),
                        Err(_) => report.find(metadata("the file version is no number".to_owned())),
                    }
                }
            }
        }
        let Some(entry) = self.entry("byteorder") else { return Ok(Order::Little) };
        Ok(match self.record(source, entry, report)?.as_deref() {
            Some("little") | None => Order::Little,
            Some("big") => {
                let message = "its numbers are big-endian: they are described, and not loaded from here";
                report.find(Finding::new(FindingKind::Unsupported, Verdict::Ok, message));
                Order::Big
            }
            Some(other) => {
                report.find(metadata(format!("the byte order is `{}`", hoist_domain::excerpt(other))));
                Order::Little
            }
        })
    }

    fn record<S: Source + ?Sized>(
        &self,
        source: &S,
        entry: &Entry,
        report: &mut Report,
    ) -> Result<Option<String>> {
        Ok(match read_entry(source, entry, RECORD_BYTES)? {
            Content::Whole(bytes) => {
                report.read(bytes.len() as u64);
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
            Content::Refused(finding) => {
                report.find(finding);
                None
            }
            Content::Unreadable => None,
        })
    }

    /// Follows every pickle in the archive; only the first `data.pkl` and TorchScript's constants name tensors. A frozen
    /// program keeps its weights among the constants; in any other one constants are part of the code.
    fn pickles<S: Source + ?Sized>(
        &self,
        source: &S,
        archive: &Archive,
        order: Order,
        report: &mut Report,
    ) -> Result<()> {
        let is_script = self.format == Format::Torchscript;
        let dialect = if is_script { Dialect::Script } else { Dialect::Python };
        let constants = format!("{}/constants.pkl", self.root);
        let mut allowance = Allowance::new();
        let mut bytes_left = limits::PICKLE_BYTES;
        let mut main = self.main;
        let mut constants_bytes = None;
        for entry in archive.entries.iter().filter(|entry| is_pickle(&entry.name)) {
            if !allowance.take(report) {
                break;
            }
            let bytes = match read_entry(source, entry, bytes_left)? {
                Content::Whole(bytes) => bytes,
                Content::Refused(finding) => {
                    report.find(finding);
                    continue;
                }
                Content::Unreadable => continue,
            };
            bytes_left -= bytes.len() as u64;
            report.read(bytes.len() as u64);
            if self.repeated.contains(&*entry.name) {
                report.find_all(hidden_payload(&bytes, dialect, &entry.name));
            }
            let shown = format!("`{}`", hoist_domain::excerpt(&entry.name));
            let pickle = follow(&bytes, dialect, Bounds::Entry, &shown, report);
            if main == Some(&*entry.name) {
                main = None;
                keep_scalars(&pickle, report);
                self.tensors(&pickle, Listing::Named, order, report);
            }
            let rest = (bytes.len() - pickle.length) as u64;
            if pickle.fault.is_none() && rest > 0 {
                let message = format!("{shown} goes on for {rest} bytes after its STOP");
                report.find(Finding::new(FindingKind::Pickle, Verdict::Suspicious, message));
            }
            if is_script && *entry.name == *constants {
                constants_bytes = Some(bytes);
            }
        }
        if let Some(bytes) = constants_bytes {
            let listing = if report.tensor_count() == 0 { Listing::Constants } else { Listing::CheckedOnly };
            self.tensors(&run(&bytes, dialect), listing, order, report);
        }
        Ok(())
    }

    fn tensors(&self, pickle: &Pickle<'_>, listing: Listing, order: Order, report: &mut Report) {
        let folder = if listing == Listing::Named { "data" } else { "constants" };
        let storage_of = |key: &str| match self.entry(&format!("{folder}/{key}")) {
            None => Storage::Missing,
            Some(entry) => match (entry.method, entry.data_offset) {
                (Method::Stored, Some(offset)) if !entry.encrypted && entry.bytes == entry.packed_bytes => {
                    match order {
                        Order::Little => Storage::Plain { offset, length: entry.bytes },
                        Order::Big => Storage::Opaque { length: entry.bytes },
                    }
                }
                (Method::Deflated, Some(_)) if !entry.encrypted => Storage::Opaque { length: entry.bytes },
                _ => Storage::Unreadable,
            },
        };
        add_all(pickle, listing, storage_of, report);
    }
}

fn is_pickle(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|extension| {
        extension.eq_ignore_ascii_case("pkl") || extension.eq_ignore_ascii_case("pickle")
    })
}

/// A payload in one of two entries of one name: a scanner that takes the other sees nothing.
fn hidden_payload(bytes: &[u8], dialect: Dialect, name: &str) -> Option<Finding> {
    let pickle = run(bytes, dialect);
    let mut globals = pickle.heap.globals.iter().chain(&pickle.beyond);
    globals.any(|global| global.standing == Standing::Powerful).then(|| {
        let message = format!(
            "a pickle that can run code hides behind the repeated name `{}`",
            hoist_domain::excerpt(name)
        );
        Finding::new(FindingKind::Zip, Verdict::Malicious, message)
    })
}
