//! How a value, and what the store says about itself, lies in the database.
//!
//! Called by the engine, which writes, and by the inspection and the salvage, which read. Decoding must never
//! trust a byte: whatever the checksum does not vouch for is `None`.
//!
//! A value is `checksum (8) | epoch (8) | revision (8) | value`, integers little-endian; the checksum covers the
//! table and the key as well, so a row that turns up under a foreign key is not believed. The position is that of
//! the commit that wrote the row: it decides between a salvaged row and the export's.

use hoist_domain::{Epoch, Position, Revision, ServiceTime};
use redb::TableDefinition;

use crate::checksum::{CHECKSUM_BYTES, checksum};
use crate::{Row, Table};

pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Key of the schema record: version (4 bytes), checksum. This record's form may never change, because a build
/// must be able to read the version of any later one.
pub(crate) const SCHEMA_KEY: &str = "schema";
/// Key of the [`Head`].
pub(crate) const HEAD_KEY: &str = "head";

pub(crate) fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.as_str())
}

/// A row and the position of the commit that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) row: Row,
    pub(crate) written: Position,
}

/// What the newest commit said about the whole store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) epoch: Epoch,
    pub(crate) revision: Revision,
    pub(crate) service_time: ServiceTime,
}

pub(crate) fn encode_value(table: Table, key: &[u8], written: Position, value: &[u8]) -> Vec<u8> {
    let epoch = written.epoch.0.to_le_bytes();
    let revision = written.revision.0.to_le_bytes();
    let sum = checksum(&[table.as_str().as_bytes(), key, &epoch, &revision, value]);
    [sum.as_slice(), &epoch, &revision, value].concat()
}

pub(crate) fn decode_value(table: Table, key: &[u8], framed: &[u8]) -> Option<Stored> {
    let (sum, rest) = framed.split_first_chunk::<CHECKSUM_BYTES>()?;
    let (epoch, rest) = rest.split_first_chunk::<8>()?;
    let (revision, value) = rest.split_first_chunk::<8>()?;
    if *sum != checksum(&[table.as_str().as_bytes(), key, epoch, revision, value]) {
        return None;
    }
    Some(Stored {
        row: Row { table, key: key.to_vec(), value: value.to_vec() },
        written: Position {
            epoch: Epoch(u64::from_le_bytes(*epoch)),
            revision: Revision(u64::from_le_bytes(*revision)),
        },
    })
}

pub(crate) fn encode_schema(version: u32) -> Vec<u8> {
    let version = version.to_le_bytes();
    let sum = checksum(&[SCHEMA_KEY.as_bytes(), &version]);
    [version.as_slice(), &sum].concat()
}

pub(crate) fn decode_schema(record: &[u8]) -> Option<u32> {
    let (version, sum) = record.split_first_chunk::<4>()?;
    (sum == checksum(&[SCHEMA_KEY.as_bytes(), version])).then(|| u32::from_le_bytes(*version))
}

impl Head {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut record =
            [self.epoch.0.to_le_bytes(), self.revision.0.to_le_bytes(), self.service_time.0.to_le_bytes()]
                .concat();
        let sum = checksum(&[HEAD_KEY.as_bytes(), &record]);
        record.extend_from_slice(&sum);
        record
    }

    pub(crate) fn decode(record: &[u8]) -> Option<Self> {
        let (fields, sum) = record.split_at_checked(24)?;
        if sum != checksum(&[HEAD_KEY.as_bytes(), fields]) {
            return None;
        }
        let (epoch, rest) = fields.split_first_chunk::<8>()?;
        let (revision, rest) = rest.split_first_chunk::<8>()?;
        let (service_time, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            epoch: Epoch(u64::from_le_bytes(*epoch)),
            revision: Revision(u64::from_le_bytes(*revision)),
            service_time: ServiceTime(u64::from_le_bytes(*service_time)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: Position = Position { epoch: Epoch(3), revision: Revision(70) };

    #[test]
    fn every_single_bit_of_a_frame_is_vouched_for() {
        let framed = encode_value(Table::Requests, b"key", WRITTEN, b"value");
        assert_eq!(decode_value(Table::Requests, b"key", &framed).unwrap().row.value, b"value");
        for bit in 0..framed.len() * 8 {
            let mut damaged = framed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_value(Table::Requests, b"key", &damaged), None, "bit {bit}");
        }
        for length in 0..framed.len() {
            assert_eq!(decode_value(Table::Requests, b"key", &framed[..length]), None);
        }
    }

    #[test]
    fn a_row_is_believed_only_under_its_own_table_and_key() {
        let framed = encode_value(Table::Requests, b"key", WRITTEN, b"value");
        assert_eq!(decode_value(Table::Operations, b"key", &framed), None);
        assert_eq!(decode_value(Table::Requests, b"kez", &framed), None);
    }

    #[test]
    fn damaged_meta_records_are_not_believed() {
        let head = Head { epoch: Epoch(1), revision: Revision(2), service_time: ServiceTime(3) };
        for (record, good) in [(head.encode(), true), (encode_schema(7), false)] {
            for bit in 0..record.len() * 8 {
                let mut damaged = record.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Head::decode(&damaged), None);
                assert_eq!(decode_schema(&damaged), None);
            }
            assert_eq!(Head::decode(&record), good.then_some(head));
        }
        assert_eq!(decode_schema(&encode_schema(7)), Some(7));
    }
}
