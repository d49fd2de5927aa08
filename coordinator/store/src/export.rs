//! The export: all rows as of one revision, readable without a database.
//!
//! Written by the exporter when the owner asks, read by the opening when the database is damaged. It is believed as
//! a whole or not at all: reading must never return rows of a file whose trailer does not match.
//!
//! `HOISTEXP | schema (4) | epoch (8) | revision (8) | service time (8)`, then for each row `1 | table | key |
//! value`, each of the three as `length (4) | bytes`, then `0 | row count (8) | BLAKE3 of all before (32)`.
//! Integers are little-endian. A later schema keeps the first twelve bytes.

use std::collections::BTreeMap;
use std::io::{self, Write};

use hoist_domain::{Epoch, Position, Revision, ServiceTime};

use crate::disk::{Disk, EXPORT};
use crate::fault::Fault;
use crate::frame::Head;
use crate::{OLDEST_SCHEMA, Row, SCHEMA_VERSION, Table};

const MAGIC: &[u8; 8] = b"HOISTEXP";
const ROW: u8 = 1;
const END: u8 = 0;
const TRAILER_BYTES: usize = 32;

/// Rows by table and key.
pub(crate) type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// What a good export holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Export {
    pub(crate) head: Head,
    pub(crate) rows: Rows,
}

impl Export {
    pub(crate) fn position(&self) -> Position {
        Position { epoch: self.head.epoch, revision: self.head.revision }
    }
}

/// What the export file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExportFile {
    Missing,
    /// Torn, or not an export.
    Damaged,
    /// Written by a newer build.
    Newer(u32),
    Good(Export),
}

pub(crate) fn read(disk: &dyn Disk) -> Result<ExportFile, Fault> {
    let Some(bytes) = disk.read(EXPORT)? else { return Ok(ExportFile::Missing) };
    Ok(decode(&bytes))
}

pub(crate) fn encode(
    head: Head,
    rows: &mut dyn Iterator<Item = Row>,
    file: &mut dyn Write,
) -> io::Result<()> {
    let mut hasher = blake3::Hasher::new();
    let mut put = |bytes: &[u8]| {
        hasher.update(bytes);
        file.write_all(bytes)
    };
    put(MAGIC)?;
    put(&SCHEMA_VERSION.to_le_bytes())?;
    put(&head.epoch.0.to_le_bytes())?;
    put(&head.revision.0.to_le_bytes())?;
    put(&head.service_time.0.to_le_bytes())?;
    let mut count = 0_u64;
    for row in rows {
        put(&[ROW])?;
        for part in [row.table.as_str().as_bytes(), &row.key, &row.value] {
            let length = u32::try_from(part.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
            put(&length.to_le_bytes())?;
            put(part)?;
        }
        count += 1;
    }
    put(&[END])?;
    put(&count.to_le_bytes())?;
    let trailer = hasher.finalize();
    file.write_all(trailer.as_bytes())
}

fn decode(bytes: &[u8]) -> ExportFile {
    let Some((body, trailer)) =
        bytes.len().checked_sub(TRAILER_BYTES).and_then(|at| bytes.split_at_checked(at))
    else {
        return ExportFile::Damaged;
    };
    if blake3::hash(body) != *trailer {
        return ExportFile::Damaged;
    }
    match read_schema(body) {
        Some(version) if version > SCHEMA_VERSION => ExportFile::Newer(version),
        Some(version) if version >= OLDEST_SCHEMA => {
            decode_body(body).map_or(ExportFile::Damaged, ExportFile::Good)
        }
        _ => ExportFile::Damaged,
    }
}

fn read_schema(body: &[u8]) -> Option<u32> {
    let (schema, _) = body.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    Some(u32::from_le_bytes(*schema))
}

fn decode_body(body: &[u8]) -> Option<Export> {
    let mut rest = body.get(MAGIC.len() + 4..)?;
    let head = Head {
        epoch: Epoch(take_u64(&mut rest)?),
        revision: Revision(take_u64(&mut rest)?),
        service_time: ServiceTime(take_u64(&mut rest)?),
    };
    let mut rows = Rows::new();
    let mut count = 0_u64;
    loop {
        let (mark, after) = rest.split_first()?;
        rest = after;
        if *mark == END {
            break;
        }
        let name = take_part(&mut rest)?;
        let table = Table::ALL.into_iter().find(|table| table.as_str().as_bytes() == name)?;
        let key = take_part(&mut rest)?.to_vec();
        let value = take_part(&mut rest)?.to_vec();
        rows.insert((table, key), value);
        count += 1;
    }
    (take_u64(&mut rest)? == count && rest.is_empty()).then_some(Export { head, rows })
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    let (number, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(u64::from_le_bytes(*number))
}

fn take_part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (part, after) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *rest = after;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Head, Vec<u8>) {
        let head = Head { epoch: Epoch(2), revision: Revision(9), service_time: ServiceTime(77) };
        let row = |table, key: &[u8]| Row { table, key: key.to_vec(), value: b"some value".to_vec() };
        let rows = [row(Table::Operations, b"a"), row(Table::Operations, b""), row(Table::Requests, b"a")];
        let mut bytes = Vec::new();
        encode(head, &mut rows.into_iter(), &mut bytes).unwrap();
        (head, bytes)
    }

    #[test]
    fn an_export_reads_back() {
        let (head, bytes) = sample();
        let ExportFile::Good(export) = decode(&bytes) else { panic!("not good") };
        assert_eq!(export.head, head);
        assert_eq!(export.rows.len(), 3);
        assert_eq!(export.rows[&(Table::Requests, b"a".to_vec())], b"some value");
    }

    #[test]
    fn a_torn_or_flipped_export_is_not_believed() {
        let (_, bytes) = sample();
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), ExportFile::Damaged, "{length} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&damaged), ExportFile::Damaged, "bit {bit}");
        }
    }

    #[test]
    fn a_newer_export_is_told_from_a_damaged_one() {
        let (_, bytes) = sample();
        let mut body = bytes[..bytes.len() - TRAILER_BYTES].to_vec();
        body[8..12].copy_from_slice(&(SCHEMA_VERSION + 1).to_le_bytes());
        let trailer = blake3::hash(&body);
        body.extend_from_slice(trailer.as_bytes());
        assert_eq!(decode(&body), ExportFile::Newer(SCHEMA_VERSION + 1));
    }
}
