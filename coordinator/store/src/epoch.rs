//! The epoch file: the newest epoch, apart from the database.
//!
//! Called by the opening. Workers refuse an epoch older than one they have seen, so the count must not start again
//! when the database is lost. One line of text: `hoist-epoch 1 <epoch> <checksum>`.

use hoist_domain::Epoch;

use crate::checksum::checksum;
use crate::disk::{Disk, EPOCH};
use crate::fault::Fault;

const MARK: &str = "hoist-epoch 1";

/// What the epoch file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EpochFile {
    Missing,
    /// There, and not to be believed: this directory has been used before.
    Damaged,
    Good(Epoch),
}

impl EpochFile {
    /// The newest epoch that the file proves.
    pub(crate) fn seen(self) -> Epoch {
        match self {
            Self::Good(epoch) => epoch,
            Self::Missing | Self::Damaged => Epoch(0),
        }
    }
}

pub(crate) fn read(disk: &dyn Disk) -> Result<EpochFile, Fault> {
    let Some(bytes) = disk.read(EPOCH)? else { return Ok(EpochFile::Missing) };
    Ok(decode(&bytes).map_or(EpochFile::Damaged, EpochFile::Good))
}

pub(crate) fn write(disk: &dyn Disk, epoch: Epoch) -> Result<(), Fault> {
    let line = encode(epoch);
    disk.replace(EPOCH, &mut |file| file.write_all(line.as_bytes()))
}

fn encode(epoch: Epoch) -> String {
    let sum = u64::from_be_bytes(checksum(&[MARK.as_bytes(), &epoch.0.to_le_bytes()]));
    format!("{MARK} {epoch} {sum:016x}\n")
}

fn decode(bytes: &[u8]) -> Option<Epoch> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (epoch, _) = text.strip_prefix(MARK)?.strip_prefix(' ')?.split_once(' ')?;
    let epoch = Epoch(epoch.parse().ok()?);
    (text == encode(epoch)).then_some(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_epoch_file_is_not_believed() {
        let good = encode(Epoch(41)).into_bytes();
        assert_eq!(decode(&good), Some(Epoch(41)));
        for bit in 0..good.len() * 8 {
            let mut damaged = good.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&damaged), None, "bit {bit}");
        }
        assert_eq!(decode(b""), None);
    }
}
