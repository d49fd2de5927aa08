//! A real `hoist serve` in private directories: the runtime directory on tmpfs, port 0, everything removed at the
//! end.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

/// The `hoist` binary under test: `HOIST_BINARY`, or the one that cargo built beside this test.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn binary() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "how CI names the binary under test")]
    if let Some(named) = std::env::var_os("HOIST_BINARY") {
        return named.into();
    }
    let me = std::env::current_exe().unwrap_or_default();
    // target/<profile>/deps/<test> or target/<profile>/<bin>
    let found =
        me.ancestors().skip(1).take(2).map(|directory| directory.join("hoist")).find(|path| path.is_file());
    found
        .expect("no hoist binary beside this test: run `cargo build -p hoist-cli` first, or set HOIST_BINARY")
}

/// Directories that outlive the servers started in them.
#[derive(Debug)]
pub struct Sandbox {
    state: tempfile::TempDir,
    runtime: tempfile::TempDir,
    /// Flags for every server started here.
    pub flags: Vec<String>,
    /// Environment for every server started here, beside a minimal one.
    pub environment: Vec<(String, String)>,
}

impl Sandbox {
    /// Fresh directories.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn new() -> Result<Self> {
        Self::on(Path::new("/dev/shm"))
    }

    /// The same, with the runtime directory on this tmpfs.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn on(tmpfs: &Path) -> Result<Self> {
        let runtime = tempfile::Builder::new().prefix("hoist-test-").tempdir_in(tmpfs)?;
        Ok(Self { state: tempfile::tempdir()?, runtime, flags: Vec::new(), environment: Vec::new() })
    }

    /// With servers that know the models of this folder, and find out no digests: that would go on while something is
    /// measured.
    ///
    /// # Errors
    /// When the folder is not there.
    pub fn serving(mut self, models: &Path) -> Result<Self> {
        let models = models.canonicalize().with_context(|| models.display().to_string())?;
        self.flags.extend(["--models".to_owned(), models.display().to_string()]);
        self.environment.push(("HOIST_CATALOG_DIGEST".to_owned(), "false".to_owned()));
        Ok(self)
    }

    #[must_use]
    pub fn state_dir(&self) -> &Path {
        self.state.path()
    }

    #[must_use]
    pub fn runtime_dir(&self) -> &Path {
        self.runtime.path()
    }

    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime.path().join("hoist.sock")
    }

    /// The command that starts a server here; change it before it is spawned.
    #[must_use]
    pub fn command(&self) -> Command {
        self.command_under(&[])
    }

    /// The same, run by another program: `strace -f ...`.
    #[must_use]
    pub fn command_under(&self, wrapper: &[&str]) -> Command {
        let mut words = wrapper.iter();
        let mut command = match words.next() {
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(binary());
                command
            }
            None => Command::new(binary()),
        };
        command.arg("serve").arg("--state-dir").arg(self.state_dir());
        command.arg("--runtime-dir").arg(self.runtime_dir()).args(&self.flags);
        // Nothing of the developer's own configuration reaches a test.
        for name in ["XDG_CONFIG_HOME", "HF_HOME", "HF_HUB_CACHE"] {
            command.env_remove(name);
        }
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"HOIST_") {
                command.env_remove(name);
            }
        }
        // A worker takes a while to start; tests of workers say so.
        command.env("HOIST_WORKERS_START", "false");
        command.env("HOME", self.state_dir()).envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts a server and waits until it serves.
    ///
    /// # Errors
    /// When it ends before that; the error holds what it wrote.
    pub fn start(&self) -> Result<Server> {
        Server::spawn(self.command())
    }
}

/// A running server. Dropped, it is killed.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pub socket: PathBuf,
    /// The real TCP address, if there is one.
    pub listen: Option<String>,
    stderr: Option<std::thread::JoinHandle<String>>,
}

impl Server {
    /// Starts a command and waits for its `ready` line.
    ///
    /// # Errors
    /// When it ends before that.
    pub fn spawn(mut command: Command) -> Result<Self> {
        let mut child = command.spawn().context("cannot start the server")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let mut log = child.stderr.take().context("no stderr")?;
        let stderr = std::thread::Builder::new().name("server log".into()).spawn(move || {
            let mut text = Vec::new();
            // Read to the end, so that a full pipe never holds the server up.
            let _ = log.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        })?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let mut server = Self { child, socket: PathBuf::new(), listen: None, stderr: Some(stderr) };
        let Some((socket, listen)) =
            line.trim_end().strip_prefix("ready socket=").and_then(|rest| rest.split_once(" listen="))
        else {
            let (status, log) = server.finish()?;
            bail!("the server did not start ({status}): {log}");
        };
        server.socket = socket.into();
        server.listen = (listen != "-").then(|| listen.to_owned());
        Ok(server)
    }

    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let raw = i32::try_from(self.child.id())?;
        let process = rustix::process::Pid::from_raw(raw).context("no process id")?;
        Ok(rustix::process::kill_process(process, signal)?)
    }

    /// SIGKILL, and what it wrote to stderr.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(mut self) -> Result<String> {
        let _ = self.child.kill();
        Ok(self.finish()?.1)
    }

    /// SIGTERM, then waits for the end.
    ///
    /// # Errors
    /// When it cannot be signalled or waited for.
    pub fn terminate(mut self) -> Result<(ExitStatus, String)> {
        self.signal(rustix::process::Signal::TERM)?;
        self.finish()
    }

    /// Waits for the end by itself.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(mut self) -> Result<(ExitStatus, String)> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(ExitStatus, String)> {
        let status = self.child.wait()?;
        let log = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Ok((status, log))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
