//! The way from the machine's memory to a card, as the kernel knows it: how much its link carries, and which memory is near.

use std::fs;
use std::path::Path;

use hoist_domain::Bytes;

/// Where the kernel shows its devices.
pub(crate) const DEVICES: &str = "/sys/bus/pci/devices";

/// What a card's link carries, bytes a second at most: the lesser of what the card and the port above it are made for. What the link is
/// at now says nothing: it sleeps when nothing is copied. 0: the kernel does not say.
pub(crate) fn carries(devices: &Path, bus: &str) -> Bytes {
    let Ok(card) = fs::canonicalize(devices.join(bus.to_lowercase())) else { return Bytes(0) };
    let ends = [Some(&*card), card.parent()];
    let read = |end: &Path, what: &str| fs::read_to_string(end.join(what)).ok();
    let least = |what: &str, value: &dyn Fn(&str) -> Option<u64>| {
        ends.iter().flatten().filter_map(|end| value(&read(end, what)?)).min()
    };
    let (speed, width) = (least("max_link_speed", &lane), least("max_link_width", &lanes));
    Bytes(speed.zip(width).map_or(0, |(speed, width)| speed.saturating_mul(width)))
}

/// Which node of the machine's memory is near a card.
pub(crate) fn near(devices: &Path, bus: &str) -> Option<u32> {
    let path = devices.join(bus.to_lowercase()).join("numa_node");
    // -1: the machine has but one.
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// `32.0 GT/s PCIe`: bytes a second of one lane. Of ten bits eight are payload up to 5 GT/s, of 130 bits 128 above.
fn lane(text: &str) -> Option<u64> {
    let number = text.split_whitespace().next()?;
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    let (whole, tenths): (u64, u64) = (whole.parse().ok()?, tenths.get(..1)?.parse().ok()?);
    let bits = whole.checked_mul(10)?.checked_add(tenths)?.checked_mul(100_000_000)?;
    Some(if whole > 5 { bits / 130 * 128 / 8 } else { bits / 10 * 8 / 8 })
}

/// `16`; more than there are means that the kernel does not know.
fn lanes(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|lanes| (1..=32).contains(lanes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_carries_what_its_weaker_end_does() {
        let home = tempfile::tempdir().unwrap();
        let port = home.path().join("port");
        let card = port.join("0000:3b:00.0");
        fs::create_dir_all(&card).unwrap();
        let devices = home.path().join("devices");
        fs::create_dir(&devices).unwrap();
        symlink(&card, devices.join("0000:3b:00.0")).unwrap();
        let carried = || carries(&devices, "0000:3B:00.0").0;
        assert_eq!((carried(), near(&devices, "0000:3B:00.0")), (0, None), "nothing is said");
        fs::write(card.join("max_link_speed"), "32.0 GT/s PCIe\n").unwrap();
        fs::write(card.join("max_link_width"), "16\n").unwrap();
        assert_eq!(carried() / 1_000_000_000, 63, "of a port that says nothing");
        fs::write(port.join("max_link_speed"), "8.0 GT/s PCIe\n").unwrap();
        fs::write(port.join("max_link_width"), "255\n").unwrap();
        assert_eq!(carried() / 100_000_000, 157);
        fs::write(port.join("max_link_speed"), "2.5 GT/s PCIe\n").unwrap();
        fs::write(port.join("max_link_width"), "4\n").unwrap();
        assert_eq!(carried(), 1_000_000_000);
        for (said, node) in [("-1\n", None), ("1\n", Some(1))] {
            fs::write(card.join("numa_node"), said).unwrap();
            assert_eq!(near(&devices, "0000:3B:00.0"), node);
        }
    }

    #[test]
    fn what_the_kernel_does_not_know_is_not_known() {
        for said in ["", "Unknown", "GT/s", "x.y GT/s", "99999999999999999999 GT/s"] {
            assert_eq!(lane(said), None, "{said}");
        }
        assert_eq!(lane("16 GT/s").unwrap() / 1_000_000, 1_969);
        assert_eq!(lane("5.0 GT/s PCIe"), Some(500_000_000));
    }
}
