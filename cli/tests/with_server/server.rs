//! A `hoist serve` in directories of its own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A `hoist serve` and its directories. Dropped, it is killed.
pub(crate) struct Server {
    directory: TempDir,
    /// A device that it starts a worker for, as on its command line.
    device: Option<&'static str>,
    pub(crate) process: Child,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// With what `fill` puts into its folder of models.
    pub(crate) fn start_with(fill: impl FnOnce(&Path)) -> Self {
        Self::start_set(fill, "false", None)
    }

    /// The same, with a worker for `cpu:0=SIZE`. It is the one beside the binary: `make test` builds both.
    pub(crate) fn start_worked(fill: impl FnOnce(&Path), device: &'static str) -> Self {
        Self::start_set(fill, "false", Some(device))
    }

    /// The same, reading digests by itself.
    pub(crate) fn start_digesting(fill: impl FnOnce(&Path)) -> Self {
        Self::start_set(fill, "true", None)
    }

    fn start_set(fill: impl FnOnce(&Path), digest: &str, device: Option<&'static str>) -> Self {
        let directory = tempfile::Builder::new().prefix("hoist-cli-").tempdir_in("/dev/shm").unwrap();
        std::fs::create_dir(directory.path().join("models")).unwrap();
        fill(&directory.path().join("models"));
        let process = Self::spawn(&directory, digest, device);
        Self { directory, device, process }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn spawn_again(&self) -> Child {
        Self::spawn(&self.directory, "false", self.device)
    }

    /// With paths relative to its directory, which is not that of the tests.
    fn spawn(directory: &TempDir, digest: &str, device: Option<&str>) -> Child {
        let mut process = command()
            .args(["serve", "--state-dir", "state", "--runtime-dir", "run", "--models", "models"])
            .args(device.into_iter().flat_map(|device| ["--worker", device]))
            // What is read only when it is asked for is the same in each run.
            .env("HOIST_CATALOG_DIGEST", digest)
            .env("HOIST_WORKERS_START", if device.is_some() { "true" } else { "false" })
            // What a test leaves when its server is killed.
            .env("HOIST_WORKERS_ALONE_LIMIT", "5s")
            .current_dir(directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let socket = directory.path().join("run/hoist.sock");
        assert_eq!(line, format!("ready socket={} listen=-\n", socket.display()));
        process
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}/run/hoist.sock", self.directory.path().display())
    }

    pub(crate) fn hoist(&self, args: &[&str]) -> Output {
        command().args(args).args(["--endpoint", &self.endpoint()]).output().unwrap()
    }

    /// What a verb that succeeds prints with `--json`.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let output = self.hoist(&[args, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The binary, deaf to the settings of whoever runs the tests.
pub(crate) fn command() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("hoist"));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"HOIST_") {
            command.env_remove(name);
        }
    }
    command.env_remove("XDG_CONFIG_HOME").env("HOME", "/nonexistent");
    command
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
