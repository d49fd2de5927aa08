//! Where a process keeps its things when nobody says otherwise.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Places by default. Nothing is created or looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultDirs {
    /// The store: survives a reboot.
    pub state_dir: PathBuf,
    /// The weights: memory, gone at a reboot.
    pub runtime_dir: PathBuf,
    pub config_file: PathBuf,
}

/// The places of the XDG base directories, or those of a system service if there is no home.
#[must_use]
pub fn default_dirs(env: &BTreeMap<String, String>, uid: u32) -> DefaultDirs {
    let state_home =
        absolute(env, "XDG_STATE_HOME").or_else(|| Some(absolute(env, "HOME")?.join(".local/state")));
    let config_home =
        absolute(env, "XDG_CONFIG_HOME").or_else(|| Some(absolute(env, "HOME")?.join(".config")));
    DefaultDirs {
        state_dir: state_home.map_or_else(|| PathBuf::from("/var/lib/hoist"), |home| home.join("hoist")),
        // Not XDG_RUNTIME_DIR: that tmpfs is small, and removed when its user logs out.
        runtime_dir: PathBuf::from(format!("/dev/shm/hoist-{uid}")),
        config_file: config_home
            .map_or_else(|| PathBuf::from("/etc/hoist/hoist.toml"), |home| home.join("hoist/hoist.toml")),
    }
}

/// The user this process acts as, for [`default_dirs`].
#[must_use]
pub fn current_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The specification says that a relative path counts as none.
fn absolute(env: &BTreeMap<String, String>, name: &str) -> Option<PathBuf> {
    let path = Path::new(env.get(name)?);
    path.is_absolute().then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs(env: &[(&str, &str)]) -> [String; 2] {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let dirs = default_dirs(&env, 1000);
        assert_eq!(dirs.runtime_dir, Path::new("/dev/shm/hoist-1000"));
        [dirs.state_dir, dirs.config_file].map(|path| path.to_string_lossy().into_owned())
    }

    #[test]
    fn places_follow_xdg_then_home_then_the_system() {
        assert_eq!(
            dirs(&[("HOME", "/home/a"), ("XDG_STATE_HOME", "/s"), ("XDG_CONFIG_HOME", "/c")]),
            ["/s/hoist", "/c/hoist/hoist.toml"]
        );
        let home = ["/home/a/.local/state/hoist", "/home/a/.config/hoist/hoist.toml"];
        assert_eq!(dirs(&[("HOME", "/home/a")]), home);
        assert_eq!(dirs(&[("HOME", "/home/a"), ("XDG_STATE_HOME", ""), ("XDG_CONFIG_HOME", "rel")]), home);
        assert_eq!(dirs(&[]), ["/var/lib/hoist", "/etc/hoist/hoist.toml"]);
    }
}
