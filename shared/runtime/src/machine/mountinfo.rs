//! The mount table, `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::{FactError, read, under};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The directory of the filesystem that is mounted; `/` unless it is a part of one.
    pub root: PathBuf,
    pub mount_point: PathBuf,
    /// As the kernel names it: `tmpfs`, `ext4`.
    pub filesystem: String,
    /// The device or the remote path; often meaningless.
    pub source: String,
    /// Those of the mount, then those of the filesystem, each once.
    pub options: Vec<String>,
}

impl Mount {
    /// The value of an option, which is empty for one without a value: `huge` in `huge=always`, `noswap`.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find_map(|option| match option.split_once('=') {
            Some((key, value)) => (key == name).then_some(value),
            None => (option == name).then_some(""),
        })
    }
}

/// The mounts, in the order in which they were made. Lines that make no sense are left out, because one odd mount must
/// not hide the others.
pub(super) fn mounts(root: &Path) -> Result<Vec<Mount>, FactError> {
    let path = under(root, "/proc/self/mountinfo");
    let bytes = read(&path)?;
    let mounts: Vec<Mount> = bytes.split(|byte| *byte == b'\n').filter_map(parse).collect();
    if mounts.is_empty() {
        return Err(FactError::Malformed { path, problem: "no line of it is a mount" });
    }
    Ok(mounts)
}

/// `36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/root rw,errors=continue`: any number of fields may
/// stand before the dash.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let root = path(fields.nth(3)?);
    let mount_point = path(fields.next()?);
    let mount_options = text(fields.next()?);
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let filesystem = text(fields.next()?);
    let source = text(fields.next()?);
    let filesystem_options = text(fields.next()?);
    let mut options: Vec<String> = Vec::new();
    for option in mount_options.split(',').chain(filesystem_options.split(',')) {
        if !option.is_empty() && !options.iter().any(|seen| seen == option) {
            options.push(option.to_owned());
        }
    }
    Some(Mount { root, mount_point, filesystem, source, options })
}

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

/// The kernel writes space, tab, newline and backslash as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'\\').then(|| after.get(..3)).flatten().and_then(octal);
        plain.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    plain
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Tree;

    #[test]
    fn mounts_are_read_whatever_stands_between() {
        let table = "\
25 24 0:23 / /dev/shm rw,nosuid - tmpfs tmpfs rw,size=24684096k,huge=always,noswap
garbage
36 35 98:0 /mnt1 /a\\040b\\134 rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw,errors=continue
27 1 254:0 / / ro
\\9 \\40
";
        let tree = Tree::new(&[("/proc/self/mountinfo", table)]);
        let [shm, other] = mounts(tree.root()).unwrap().try_into().unwrap();
        assert_eq!(shm.mount_point, Path::new("/dev/shm"));
        assert_eq!(shm.options, ["rw", "nosuid", "size=24684096k", "huge=always", "noswap"]);
        assert_eq!(
            [shm.option("huge"), shm.option("noswap"), shm.option("hug")],
            [Some("always"), Some(""), None]
        );
        assert_eq!(
            other,
            Mount {
                root: PathBuf::from("/mnt1"),
                mount_point: PathBuf::from("/a b\\"),
                filesystem: "ext3".to_owned(),
                source: "/dev/root".to_owned(),
                options: ["rw", "noatime", "errors=continue"].map(str::to_owned).to_vec(),
            }
        );
    }

    #[test]
    fn a_table_without_a_mount_is_malformed() {
        for bytes in [&b""[..], b"\n\n", b"\xff\xfe - - -", b"1 2 3 4 5"] {
            let tree = Tree::new(&[]);
            tree.write("/proc/self/mountinfo", bytes);
            assert!(matches!(mounts(tree.root()), Err(FactError::Malformed { .. })));
        }
        assert!(matches!(mounts(Tree::new(&[]).root()), Err(FactError::Read { .. })));
    }
}
