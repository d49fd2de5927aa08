//! What stops a start: one clear line that says what to do, an exit code that is not 0, and nothing else touched.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::Result;
use hoist_tests::{Sandbox, Server, connect};
use hoist_wire::v1;

/// Runs a start that must fail; its exit code and what it said, without log lines.
fn refused(mut command: Command) -> Result<(i32, String)> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.stdout.is_empty(), "it said it was ready");
    assert!(!said.contains("panic"), "{said}");
    let lines = said.lines().filter(|line| !line.contains(" INFO ")).collect::<Vec<_>>().join("\n");
    Ok((output.status.code().unwrap_or(-1), lines))
}

fn with(sandbox: &Sandbox, flags: &[&str]) -> Result<(i32, String)> {
    let mut command = sandbox.command();
    command.args(flags);
    refused(command)
}

#[track_caller]
fn assert_says(said: &(i32, String), code: i32, parts: &[&str]) {
    assert_eq!(said.0, code, "{}", said.1);
    for part in parts {
        assert!(said.1.contains(part), "`{part}` is missing in: {}", said.1);
    }
}

#[test]
fn every_mistake_in_the_settings_is_told_at_once_with_its_place() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let file = sandbox.state_dir().join("hoist.toml");
    let text =
        "stat_dir = \"x\"\n[watch]\nhistory_events = \"many\"\nstreams = 0\n[shutdown]\ngrace = \"1h\"\n";
    std::fs::write(&file, text)?;
    let file = file.display().to_string();
    let mut command = sandbox.command();
    command.args(["--config", &file]).env("HOIST_LOG_FORMAT", "xml");
    let said = refused(command)?;
    let at = |line: usize| format!("{file}:{line}: ");
    assert_says(
        &said,
        2,
        &[
            &format!("{}stat_dir: no such setting, did you mean state_dir?", at(1)),
            &format!("{}watch.history_events: ", at(3)),
            &format!("{}watch.streams: must be at least 1", at(4)),
            &format!("{}shutdown.grace: must be at most 10s", at(6)),
            "HOIST_LOG_FORMAT",
        ],
    );
    assert_says(&with(&sandbox, &["--config", "/nonexistent/hoist.toml"])?, 2, &["/nonexistent/hoist.toml"]);
    assert_says(&with(&sandbox, &["--bogus"])?, 2, &["--bogus", "--help"]);
    assert_says(&with(&sandbox, &["--log-format", "xml"])?, 2, &["--log-format", "human", "json"]);
    Ok(())
}

#[test]
fn an_address_that_is_taken_unsafe_or_nonsense_is_refused() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    assert_says(&with(&sandbox, &["--listen", &address])?, 4, &[&address, "taken", "another port"]);
    for open in ["0.0.0.0:0", "[::]:0"] {
        assert_says(
            &with(&sandbox, &["--listen", open])?,
            4,
            &["refusing to listen", "loopback", "127.0.0.1"],
        );
    }
    assert_says(&with(&sandbox, &["--listen", "seven"])?, 4, &["host:port", "127.0.0.1:7070"]);
    assert!(!sandbox.socket().exists(), "a refused start leaves no socket");
    Ok(())
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_and_a_file_are_not() -> Result<()> {
    let sandbox = Sandbox::new()?;
    sandbox.start()?.kill()?;
    assert!(sandbox.socket().exists(), "SIGKILL leaves the socket behind");
    let server = sandbox.start()?;

    let other = Sandbox::new()?;
    let mut command = other.command();
    command.arg("--socket").arg(sandbox.socket());
    assert_says(&refused(command)?, 4, &["another server answers", "--socket"]);
    connect(&server.socket).await?.state().get_status(v1::GetStatusRequest::default()).await?;

    let file = other.runtime_dir().join("precious");
    std::fs::write(&file, "mine")?;
    let mut command = other.command();
    command.arg("--socket").arg(&file);
    assert_says(&refused(command)?, 4, &["is not a socket", "--socket"]);
    assert_eq!(std::fs::read(&file)?, b"mine");
    Ok(())
}

#[tokio::test]
async fn a_second_server_on_one_state_directory_is_refused_and_names_the_first() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let server = sandbox.start()?;
    let mut command = sandbox.command();
    command.arg("--socket").arg(sandbox.runtime_dir().join("second.sock"));
    assert_says(&refused(command)?, 4, &["in use", &server.process_id().to_string()]);
    let status = connect(&server.socket).await?.state().get_status(v1::GetStatusRequest::default()).await?;
    assert!(status.into_inner().status.is_some());
    Ok(())
}

#[test]
fn a_directory_that_is_not_ours_alone_is_refused() -> Result<()> {
    let sandbox = Sandbox::new()?;
    std::fs::set_permissions(sandbox.runtime_dir(), std::fs::Permissions::from_mode(0o777))?;
    assert_says(&with(&sandbox, &[])?, 4, &["the runtime directory", "0700", "--runtime-dir"]);
    std::fs::set_permissions(sandbox.runtime_dir(), std::fs::Permissions::from_mode(0o700))?;
    let file = sandbox.runtime_dir().join("file");
    std::fs::write(&file, "")?;
    let nested = Sandbox::new()?;
    let mut command = Command::new(hoist_tests::binary());
    command.arg("serve").arg("--runtime-dir").arg(nested.runtime_dir()).arg("--state-dir").arg(&file);
    assert_says(&refused(command)?, 4, &["the state directory", "--state-dir"]);
    let mut command = Command::new(hoist_tests::binary());
    command.args(["serve", "--state-dir", "/proc/hoist", "--runtime-dir"]).arg(nested.runtime_dir());
    assert_says(&refused(command)?, 4, &["the state directory", "/proc/hoist", "--state-dir"]);
    Ok(())
}

#[test]
fn the_server_maps_no_cuda_and_no_torch() -> Result<()> {
    let server: Server = Sandbox::new()?.start()?;
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", server.process_id()))?;
    for library in ["cuda", "torch", "nvidia"] {
        assert!(!maps.contains(library), "{library} is mapped");
    }
    Ok(())
}
