//! Starts that cannot be: each ends with a line that says what is wrong and what to do, an exit code, and nothing
//! left behind or taken away.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hoist_runtime::Clock;
use hoist_tests::{Sandbox, Server, connect};
use hoist_wire::v1;

const USAGE: i32 = 2;
const REFUSED: i32 = 4;

/// C6: how long a second server may take to find out that it is one.
const SECOND: Duration = Duration::from_secs(1);

/// What a server said that did not start, without its log.
struct Refusal {
    code: i32,
    lines: Vec<String>,
}

impl Refusal {
    fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if !line.is_empty() {
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(line.is_empty(), "it said `{line}`: {said}");
        assert!(!said.contains("panic"), "{said}");
        // Log lines begin with a time.
        let is_log = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit());
        let lines = said.lines().filter(|line| !is_log(line)).map(str::to_owned).collect();
        Self { code: output.status.code().unwrap_or_else(|| panic!("{}", output.status)), lines }
    }

    /// One line, with everything that it must tell.
    fn tells(&self, code: i32, parts: &[&str]) {
        let Self { code: found, lines } = self;
        assert_eq!(*found, code, "{lines:?}");
        let [line] = lines.as_slice() else { panic!("one line, not {lines:?}") };
        for part in ["error: "].iter().chain(parts) {
            assert!(line.contains(part), "`{part}` is not in {line:?}");
        }
    }
}

/// A server in these directories.
fn in_directories(state: &Path, runtime: &Path) -> Command {
    let mut command = Command::new(hoist_tests::binary());
    command.arg("serve").arg("--state-dir").arg(state).arg("--runtime-dir").arg(runtime);
    command.arg("--no-workers");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn with(sandbox: &Sandbox, flags: &[&str]) -> Command {
    let mut command = sandbox.command();
    command.args(flags);
    command
}

#[test]
fn everything_that_is_wrong_with_a_configuration_is_told_at_once() {
    let sandbox = Sandbox::new().unwrap();
    let file = sandbox.state_dir().join("hoist.toml");
    let text = r#"
listen = 7
[watch]
history_event = 3
streams = 0
history_bytes = "0"
[listener]
calls = -1
first_request = "soon"
[limits]
retention = "1s"
"#;
    std::fs::write(&file, text).unwrap();
    let path = file.display().to_string();
    let mut command = with(&sandbox, &["--config", &path]);
    command.env("HOIST_LOG_FORMAT", "xml");
    let refusal = Refusal::of(command);
    assert_eq!(refusal.code, USAGE);
    let by_variable = "HOIST_LOG_FORMAT: log.format: \"xml\" is not a log format; accepted: ";
    assert!(refusal.lines.iter().any(|line| line.contains(by_variable)), "{:?}", refusal.lines);
    let expected = [
        (2, "listen: found the integer 7; accepted: a string"),
        (6, "watch.history_bytes: must be at least 1MiB"),
        (8, "listener.calls: -1 is out of range; accepted: a whole number"),
        (9, "listener.first_request: \"soon\" is not a duration; accepted: a whole number and a unit"),
        (5, "watch.streams: must be at least 1"),
        (11, "limits.retention: must be at least 1m"),
        (4, "watch.history_event: no such setting, did you mean watch.history_events?"),
    ];
    assert_eq!(refusal.lines.len(), expected.len() + 1, "{:?}", refusal.lines);
    for (number, problem) in expected {
        let told = format!("{path}:{number}: {problem}");
        assert!(
            refusal.lines.iter().any(|line| line.contains(&told)),
            "{told} is not in {:?}",
            refusal.lines
        );
    }
    // Nothing was opened for that.
    assert_eq!(std::fs::read_dir(sandbox.state_dir()).unwrap().count(), 1);
}

#[test]
fn a_configuration_that_cannot_be_read_is_named() {
    let sandbox = Sandbox::new().unwrap();
    let file = sandbox.state_dir().join("hoist.toml");
    let path = file.display().to_string();
    let config = ["--config", path.as_str()];
    Refusal::of(with(&sandbox, &config)).tells(USAGE, &[&path, "cannot be opened", "No such file"]);
    std::fs::write(&file, "x = [").unwrap();
    Refusal::of(with(&sandbox, &config)).tells(USAGE, &[&format!("{path}:1: "), "unclosed array"]);
    std::fs::write(&file, b"\xff").unwrap();
    Refusal::of(with(&sandbox, &config)).tells(USAGE, &[&path, "is not UTF-8 at byte 0"]);
}

#[test]
fn a_value_from_a_flag_or_the_environment_is_named_by_where_it_came_from() {
    let mut sandbox = Sandbox::new().unwrap();
    let long = sandbox.runtime_dir().join("x".repeat(120)).display().to_string();
    for (flags, parts) in [
        (["--log-format", "xml"], ["--log-format: log.format: \"xml\"", "accepted: \"human\" or \"json\""]),
        (["--log-filter", "a=b=c"], ["log.filter: `a=b=c`", "accepted: "]),
        (["--socket", &long], ["--socket: socket: ", "at most 107 bytes"]),
    ] {
        Refusal::of(with(&sandbox, &flags)).tells(USAGE, &parts);
    }
    sandbox.environment.push(("HOIST_SHUTDOWN_GRACE".into(), "1h".into()));
    let parts = ["HOIST_SHUTDOWN_GRACE: shutdown.grace: must be at most 10s"];
    Refusal::of(sandbox.command()).tells(USAGE, &parts);
}

#[test]
fn an_unknown_flag_or_argument_is_shown_with_the_usage() {
    let sandbox = Sandbox::new().unwrap();
    for wrong in ["--fly", "extra"] {
        let refusal = Refusal::of(with(&sandbox, &[wrong]));
        assert_eq!(refusal.code, USAGE);
        let said = refusal.lines.join("\n");
        assert!(said.starts_with(&format!("error: unexpected argument '{wrong}'")), "{said}");
        assert!(said.contains("Usage: hoist serve") && said.contains("--help"), "{said}");
    }
}

#[test]
fn an_address_that_is_taken_open_to_others_or_none_is_refused() {
    let sandbox = Sandbox::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let listen = |address: &str| Refusal::of(with(&sandbox, &["--listen", address]));
    // Found out before anything is opened.
    for none in ["nowhere", "127.0.0.1", ":x", ":1", "127.0.0.1:65536", "::1:80", "[::1:80"] {
        listen(none).tells(USAGE, &["--listen: listen: is not host:port, for instance 127.0.0.1:7070"]);
    }
    assert_eq!(std::fs::read_dir(sandbox.state_dir()).unwrap().count(), 0, "opened for nothing");
    listen(&address).tells(REFUSED, &[&address, "is taken by another program: choose another port"]);
    for open in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7070"] {
        listen(open).tells(REFUSED, &["refusing to listen on", open, "use 127.0.0.1 or [::1]"]);
    }
    assert!(!sandbox.socket().exists(), "a refusal leaves no socket");
}

#[test]
fn a_path_that_holds_a_file_is_refused_and_the_file_kept() {
    let sandbox = Sandbox::new().unwrap();
    std::fs::write(sandbox.socket(), "mine").unwrap();
    let path = sandbox.socket().display().to_string();
    let parts = [path.as_str(), "is not a socket: remove it, or choose another --socket"];
    Refusal::of(sandbox.command()).tells(REFUSED, &parts);
    assert_eq!(std::fs::read(sandbox.socket()).unwrap(), b"mine");
    let parts = ["cannot bind the socket /nonexistent/s", "choose a --socket in a directory"];
    Refusal::of(with(&sandbox, &["--socket", "/nonexistent/s"])).tells(REFUSED, &parts);
}

#[test]
fn a_directory_that_cannot_be_written_or_is_open_to_others_is_refused() {
    let sandbox = Sandbox::new().unwrap();
    let file = sandbox.state_dir().join("file");
    std::fs::write(&file, "mine").unwrap();
    for path in [file.as_path(), &file.join("below"), Path::new("/proc/hoist")] {
        let tells = |what: &str, flag: &str, command: Command| {
            let cannot = format!("cannot use the {what} directory {}", path.display());
            Refusal::of(command).tells(REFUSED, &[&cannot, &format!("choose another with {flag}")]);
        };
        tells("state", "--state-dir", in_directories(path, sandbox.runtime_dir()));
        let fresh = sandbox.state_dir().join("fresh");
        tells("runtime", "--runtime-dir", in_directories(&fresh, path));
        assert!(!fresh.exists(), "a start that fails takes away the directory that it made");
    }
    for (directory, flag) in [(sandbox.state_dir(), "--state-dir"), (sandbox.runtime_dir(), "--runtime-dir")]
    {
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o777)).unwrap();
        let parts = ["open to others", "must be yours with mode 0700", flag];
        Refusal::of(sandbox.command()).tells(REFUSED, &parts);
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o700)).unwrap();
    }
    assert_eq!(std::fs::read(file).unwrap(), b"mine");
}

#[test]
fn what_is_no_file_under_a_name_of_the_store_is_named_and_nothing_waits_for_it() {
    let sandbox = Sandbox::new().unwrap();
    let epoch = sandbox.state_dir().join("epoch");
    assert!(Command::new("mkfifo").arg(&epoch).status().unwrap().success());
    Refusal::of(sandbox.command()).tells(REFUSED, &["epoch", "not a regular file", "remove it"]);
    std::fs::remove_file(&epoch).unwrap();
    let target = sandbox.runtime_dir().join("mine");
    std::fs::write(&target, "mine").unwrap();
    std::fs::remove_file(sandbox.state_dir().join("lock")).unwrap();
    std::os::unix::fs::symlink(&target, sandbox.state_dir().join("lock")).unwrap();
    Refusal::of(sandbox.command()).tells(REFUSED, &["lock", "not a regular file", "remove it"]);
    assert_eq!(std::fs::read(target).unwrap(), b"mine");
}

/// With so few that some starts fail before the store and one or the other does in it.
#[test]
fn descriptors_that_run_out_are_not_blamed_on_the_disk() {
    let mut in_the_store = 0;
    for limit in 4..16 {
        let sandbox = Sandbox::new().unwrap();
        let wrapped = format!("ulimit -n {limit}; exec \"$@\"");
        let mut command = sandbox.command_under(&["sh", "-c", &wrapped, "sh"]);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        child.kill().ok();
        let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
        assert!(!said.contains("check the disk"), "{limit}: {said}");
        in_the_store += u32::from(said.contains("file descriptors ran out") && said.contains("ulimit -n"));
    }
    assert!(in_the_store > 0, "no start got as far as the store");
}

#[test]
fn a_state_directory_that_is_a_link_to_a_private_one_is_used() {
    let (one, other) = (Sandbox::new().unwrap(), Sandbox::new().unwrap());
    let link = other.state_dir().join("link");
    std::os::unix::fs::symlink(one.state_dir(), &link).unwrap();
    let server = Server::spawn(in_directories(&link, other.runtime_dir())).unwrap();
    assert!(server.terminate().unwrap().0.success());
    assert!(one.state_dir().join("store.redb").exists());
}

/// The first server still answers, at the same position or later.
async fn is_unaffected(first: &Server, since: v1::Position) {
    let at = connect(&first.socket).await.unwrap();
    let status = at.state().get_status(v1::GetStatusRequest::default()).await.unwrap().into_inner();
    let position = status.status.unwrap().position.unwrap();
    assert!(position.epoch == since.epoch && position.revision >= since.revision, "{position:?}");
}

async fn position(server: &Server) -> v1::Position {
    let at = connect(&server.socket).await.unwrap();
    let status = at.state().get_status(v1::GetStatusRequest::default()).await.unwrap().into_inner();
    status.status.unwrap().position.unwrap()
}

/// C6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_in_one_state_directory_is_told_who_is_first() {
    let (one, other) = (Sandbox::new().unwrap(), Sandbox::new().unwrap());
    let first = one.start().unwrap();
    let before = position(&first).await;
    let clock = Clock::system();
    let begun = clock.monotonic();
    let refusal = Refusal::of(in_directories(one.state_dir(), other.runtime_dir()));
    let took = clock.monotonic() - begun;
    let process = format!("in use by process {}", first.process_id());
    refusal.tells(REFUSED, &[&process, "stop it, or give this one another directory"]);
    assert!(took <= SECOND, "{took:?}");
    is_unaffected(&first, before).await;

    // A crash frees the directory: the lock is the kernel's.
    first.kill().unwrap();
    one.start().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_is_answered_is_refused_and_one_that_is_not_is_replaced() {
    let (one, other) = (Sandbox::new().unwrap(), Sandbox::new().unwrap());
    let first = one.start().unwrap();
    let before = position(&first).await;
    let path = first.socket.display().to_string();
    let parts = ["another server answers on", &path, "stop it, or choose another --socket"];
    Refusal::of(with(&other, &["--socket", &path])).tells(REFUSED, &parts);
    is_unaffected(&first, before).await;

    first.kill().unwrap();
    assert!(one.socket().exists(), "a killed server leaves its socket");
    let second = one.start().unwrap();
    let mode = std::fs::metadata(&second.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    position(&second).await;
    let (status, log) = second.terminate().unwrap();
    assert!(status.success(), "{status}: {log}");
    assert!(!one.socket().exists(), "a server that ends takes its socket away");

    // So is one that was never ours.
    drop(UnixListener::bind(one.socket()).unwrap());
    position(&one.start().unwrap()).await;
}
