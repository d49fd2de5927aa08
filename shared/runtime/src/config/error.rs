//! What is wrong with the configuration: all of it at once, one line each.
//!
//! The reader collects, `main` prints and stops. A line says where (file and line, variable or flag), which key, what
//! is wrong and what would be accepted; it never holds a secret.

use std::fmt;

/// More than this many problems are only counted. A file of a megabyte can hold a hundred thousand.
const MAX_LISTED: usize = 100;

/// One problem, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// `hoist.toml:12`, `HOIST_STATE_DIR` or `--state-dir`; the file alone if it cannot be read.
    pub place: String,
    /// Absent if the problem is not about one key.
    pub key: Option<String>,
    pub problem: String,
    /// What to write in its place, if that can be said.
    pub accepted: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.problem)?;
        if let Some(accepted) = &self.accepted {
            write!(f, "; accepted: {accepted}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with the configuration. Its text is one line for each problem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors {
    listed: Vec<ConfigError>,
    unlisted: usize,
}

impl ConfigErrors {
    #[must_use]
    pub fn listed(&self) -> &[ConfigError] {
        &self.listed
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Whether another problem would only be counted.
    pub(super) const fn is_full(&self) -> bool {
        self.listed.len() >= MAX_LISTED
    }

    pub(super) fn push(&mut self, error: ConfigError) {
        if self.is_full() {
            self.unlisted = self.unlisted.saturating_add(1);
        } else {
            self.listed.push(error);
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.listed.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        if self.unlisted > 0 {
            write!(f, "\nand {} more", self.unlisted)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
