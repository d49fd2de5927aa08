//! A value that must not reach a log, an error or a terminal.
//!
//! Configuration wraps tokens and keys in [`Secret`]; whoever truly needs the value asks for it with
//! [`Secret::expose`], which is easy to find in a review. It hides the value from formatting and from nothing else:
//! memory is neither locked nor wiped.

use std::fmt;

/// What is shown in place of a secret, here and in the listing of the configuration.
pub const REDACTED: &str = "<redacted>";

/// Prints `<redacted>` whatever it holds. Not `PartialEq`: comparing secrets needs constant time.
#[derive(Clone, Default)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, to be used and not shown.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_format_shows_a_secret() {
        let secret = Secret::new("hunter2");
        for shown in [format!("{secret}"), format!("{secret:?}"), format!("{:#?}", Some(&secret))] {
            assert!(shown.contains(REDACTED) && !shown.contains("hunter2"), "{shown}");
        }
        assert_eq!(*secret.expose(), "hunter2");
    }
}
