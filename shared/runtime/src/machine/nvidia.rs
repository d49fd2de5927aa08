//! NVIDIA devices, as far as they show without opening one: opening may wake a driver for seconds.

use std::fs::read_dir;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::{read_text, under};

/// What the machine shows of its NVIDIA devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nvidia {
    /// `/dev/nvidia0` and so on, by number.
    pub devices: Vec<DeviceNode>,
    /// The first line of the driver's version file; `None` if no driver is loaded.
    pub driver: Option<String>,
}

/// A device file. What its permissions say: a container's own device rules show only when it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNode {
    pub number: u32,
    pub path: PathBuf,
    pub is_readable: bool,
    /// CUDA opens a device for both.
    pub is_writable: bool,
}

/// A machine without any has no devices and no driver, which is no error.
#[must_use]
pub fn nvidia(root: &Path) -> Nvidia {
    let version = read_text(&under(root, "/proc/driver/nvidia/version")).ok();
    let first_line = version.and_then(|text| text.lines().next().map(|line| line.trim().to_owned()));
    Nvidia { devices: device_nodes(&under(root, "/dev")), driver: first_line.filter(|line| !line.is_empty()) }
}

fn device_nodes(directory: &Path) -> Vec<DeviceNode> {
    let Ok(entries) = read_dir(directory) else { return Vec::new() };
    let mut nodes: Vec<DeviceNode> =
        entries.flatten().filter_map(|entry| device_node(&entry.path())).collect();
    nodes.sort_by_key(|node| node.number);
    nodes
}

/// `None` unless the name is `nvidia` and a number: `nvidiactl` and `nvidia-uvm` are not devices to count.
fn device_node(path: &Path) -> Option<DeviceNode> {
    let digits = path.file_name()?.to_str()?.strip_prefix("nvidia")?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(DeviceNode {
        number: digits.parse().ok()?,
        is_readable: access(path, Access::READ_OK).is_ok(),
        is_writable: access(path, Access::WRITE_OK).is_ok(),
        path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Tree;

    #[test]
    fn only_numbered_nodes_are_devices_and_they_are_in_order() {
        let names =
            ["nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm", "nvidia", "nvidia+1", "nvidia99999999999"];
        let tree = Tree::new(&[("/proc/driver/nvidia/version", "NVRM version: 570.1\nGCC version: 12\n")]);
        for name in names {
            tree.write(&format!("/dev/{name}"), "");
        }
        let found = nvidia(tree.root());
        assert_eq!(found.driver.as_deref(), Some("NVRM version: 570.1"));
        let numbers: Vec<_> =
            found.devices.iter().map(|node| (node.number, node.is_readable, node.is_writable)).collect();
        assert_eq!(numbers, [(2, true, true), (10, true, true)]);
    }

    #[test]
    fn a_machine_without_devices_is_no_error() {
        assert_eq!(nvidia(Tree::new(&[]).root()), Nvidia::default());
        let dangling = Tree::new(&[("/dev/null", ""), ("/proc/driver/nvidia/version", "\n")]);
        std::os::unix::fs::symlink("/nonexistent", dangling.root().join("dev/nvidia0")).unwrap();
        let found = nvidia(dangling.root());
        assert_eq!(found.driver, None);
        assert_eq!((found.devices[0].is_readable, found.devices[0].is_writable), (false, false));
    }
}
