//! A small file system in memory that only those who enter see: it is gone with the test, whatever happens to that.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::process;

/// A tmpfs over a directory, in a mount namespace of its own.
#[derive(Debug)]
pub struct SmallDisk {
    keeper: Child,
    at: PathBuf,
}

impl SmallDisk {
    /// Lies over the directory, for those who enter. Needs root, or user namespaces for everybody.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn over(mebibytes: u32, at: &Path) -> Result<Self> {
        let script = r#"mount -t tmpfs -o "size=$2m,mode=0700" hoist-test "$1" && echo mounted && exec cat"#;
        let mut keeper = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            keeper.args(["--user", "--map-root-user"]);
        }
        keeper.args(["--mount", "sh", "-c", script, "sh"]).arg(at).arg(mebibytes.to_string());
        // It ends when its input does: when this test does.
        let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().context("it is piped")?).read_line(&mut line)?;
        ensure!(line == "mounted\n", "needs root, or user namespaces for everybody");
        Ok(Self { keeper, at: at.to_owned() })
    }

    /// The words before a command that make it run where the file system is seen.
    #[must_use]
    pub fn entering(&self) -> Vec<String> {
        let mut words = vec!["nsenter".to_owned(), "--mount".to_owned(), "--target".to_owned()];
        words.push(self.keeper.id().to_string());
        if !rustix::process::geteuid().is_root() {
            words.extend(["--user".to_owned(), "--preserve-credentials".to_owned()]);
        }
        words
    }

    /// The directory as it is seen inside, from here.
    #[must_use]
    pub fn inside(&self) -> PathBuf {
        let root = process::directory(self.keeper.id()).join("root");
        root.join(self.at.strip_prefix("/").unwrap_or(&self.at))
    }

    /// Takes every last byte.
    ///
    /// # Errors
    /// When something else than that happens.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.inside().join("filler"))?;
        for size in [64 << 10, 1] {
            let bytes = vec![b'x'; size];
            let full = std::iter::repeat_with(|| file.write_all(&bytes)).find_map(Result::err);
            ensure!(full.is_some_and(|error| error.kind() == ErrorKind::StorageFull));
        }
        Ok(())
    }

    /// Undoes [`Self::fill`].
    ///
    /// # Errors
    /// When it was not filled.
    pub fn make_room(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.inside().join("filler"))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
