//! Where settings come from: the file, the environment and the flags, read once and handed over as values.
//!
//! `main` calls [`Sources::from_process`]; tests build [`Sources`] by hand. Nothing else reads the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, ConfigErrors};

/// A larger file is refused unread: a configuration is a few kilobytes, and the path may name a disk.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// Variables with this prefix are settings.
pub(super) const ENV_PREFIX: &str = "HOIST_";

/// A configuration file that was read.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// As the user wrote it; shown in errors.
    pub path: PathBuf,
    pub text: String,
}

/// A flag that the user gave.
#[derive(Clone, PartialEq, Eq)]
pub struct FlagValue {
    /// The setting it sets.
    pub key: &'static str,
    pub value: String,
    /// As the user knows it, `--state-dir`; shown in errors.
    pub flag: &'static str,
}

/// Everything that can set something, the weakest first. Of two flags for one key the later counts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sources {
    pub file: Option<ConfigFile>,
    /// The whole names, `HOIST_STATE_DIR`.
    pub environment: BTreeMap<String, String>,
    pub flags: Vec<FlagValue>,
}

impl Sources {
    /// Reads the file and the `HOIST_` variables of this process. A file that is named must exist: a caller that
    /// falls back to a default place looks whether it is there.
    ///
    /// # Errors
    /// The file cannot be read, is too large or is not UTF-8, or a `HOIST_` variable is not UTF-8.
    pub fn from_process(file: Option<PathBuf>, flags: Vec<FlagValue>) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let mut refuse = |place: String, problem: String| {
            errors.push(ConfigError { place, key: None, problem, accepted: None });
        };
        let file = file.and_then(|path| match read_text(&path) {
            Ok(text) => Some(ConfigFile { path, text }),
            Err(problem) => {
                refuse(path.display().to_string(), problem);
                None
            }
        });
        let mut environment = BTreeMap::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with(ENV_PREFIX)) else { continue };
            match value.into_string() {
                Ok(value) => {
                    environment.insert(name.to_owned(), value);
                }
                Err(_) => refuse(name.to_owned(), "the value is not UTF-8".to_owned()),
            }
        }
        if errors.is_empty() { Ok(Self { file, environment, flags }) } else { Err(errors) }
    }
}

/// The environment of this process as a value, for [`default_dirs`](super::default_dirs). Variables that are not
/// UTF-8 are left out.
#[must_use]
pub fn process_environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn read_text(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(format!("is larger than {MAX_FILE_BYTES} bytes"));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}

/// The values may be secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.environment.keys().collect();
        f.debug_struct("Sources")
            .field("file", &self.file)
            .field("environment", &names)
            .field("flags", &self.flags)
            .finish()
    }
}

/// The text may hold secrets.
impl fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The value may be a secret.
impl fmt::Debug for FlagValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlagValue").field("key", &self.key).field("flag", &self.flag).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_or_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hoist.toml");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Sources::from_process(Some(path.clone()), Vec::new()).map_err(|errors| errors.to_string())
        };
        assert_eq!(read(b"a = 1\n").unwrap().file.unwrap().text, "a = 1\n");
        let largest = vec![b'#'; usize::try_from(MAX_FILE_BYTES).unwrap()];
        assert!(read(&largest).is_ok());
        assert!(
            read(&[&largest[..], b"#"].concat()).unwrap_err().contains("hoist.toml: is larger than 1048576")
        );
        assert!(read(b"a\xff").unwrap_err().ends_with("hoist.toml: is not UTF-8 at byte 1"));
        let missing = Sources::from_process(Some(directory.path().join("none")), Vec::new()).unwrap_err();
        assert!(missing.to_string().contains("none: cannot be opened: "), "{missing}");
        assert!(Sources::from_process(Some(directory.path().to_owned()), Vec::new()).is_err());
    }
}
