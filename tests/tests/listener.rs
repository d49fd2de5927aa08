//! What strangers and crowds can do to the listeners, and what the owner on the Unix socket still can.

#![expect(clippy::disallowed_methods, reason = "a test waits for processes beside its runtime")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hoist_tests::{Channels, Sandbox, Server, connect, request_id};
use hoist_wire::status::Failure;
use hoist_wire::v1;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// A server on TCP too, with some settings.
fn serve(settings: &str) -> Result<(Sandbox, Server, String)> {
    let mut sandbox = Sandbox::new()?;
    let file = sandbox.state_dir().join("hoist.toml");
    std::fs::write(&file, settings)?;
    let file = file.display().to_string();
    sandbox.flags.extend(["--config".to_owned(), file, "--listen".to_owned(), "127.0.0.1:0".to_owned()]);
    let server = sandbox.start()?;
    let address = server.listen.clone().context("no TCP address")?;
    Ok((sandbox, server, address))
}

async fn answers(client: &Channels) -> Result<()> {
    let status = client.state().get_status(v1::GetStatusRequest::default()).await?;
    ensure!(status.into_inner().status.is_some());
    Ok(())
}

/// Blocks until the other side closes.
fn closed(mut connection: TcpStream, patience: Duration) -> Result<()> {
    connection.set_read_timeout(Some(patience))?;
    let mut rest = Vec::new();
    // A reset is a close too.
    match connection.read_to_end(&mut rest) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => anyhow::bail!("still open"),
        _ => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_ask_nothing_are_closed_and_cost_others_nothing() -> Result<()> {
    let (_sandbox, server, address) = serve("[listener]\nfirst_request = \"500ms\"\n")?;
    let silent: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(&address)).collect::<Result<_, _>>()?;
    let talking = connect(&server.socket).await?;
    let over_tcp = Channels::tcp(&address).await?;
    answers(&talking).await?;
    answers(&over_tcp).await?;
    tokio::task::spawn_blocking(move || {
        silent.into_iter().try_for_each(|connection| closed(connection, Duration::from_secs(20)))
    })
    .await??;
    // Those that did ask are still open.
    answers(&talking).await?;
    answers(&over_tcp).await?;
    Ok(())
}

#[tokio::test]
async fn bytes_that_are_no_http2_hurt_nobody() -> Result<()> {
    let (_sandbox, server, address) = serve("")?;
    let garbage: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        &[0; 4096],
    ];
    for bytes in garbage {
        let mut connection = TcpStream::connect(&address)?;
        connection.write_all(bytes)?;
        tokio::task::spawn_blocking(move || closed(connection, Duration::from_secs(20))).await??;
        answers(&Channels::tcp(&address).await?).await?;
    }
    answers(&connect(&server.socket).await?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_that_takes_all_descriptors_leaves_the_owner_a_place() -> Result<()> {
    let mut sandbox = Sandbox::new()?;
    sandbox.flags.extend(["--listen".to_owned(), "127.0.0.1:0".to_owned()]);
    let plain = sandbox.command();
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -n 128; exec \"$0\" \"$@\""]).arg(plain.get_program()).args(plain.get_args());
    limited.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    limited.env("HOME", sandbox.state_dir());
    let server = Server::spawn(limited)?;
    let address = server.listen.clone().context("no TCP address")?;
    let before = cpu_seconds(server.process_id())?;
    let flood: Vec<TcpStream> = (0..400).filter_map(|_| TcpStream::connect(&address).ok()).collect();
    for _ in 0..20 {
        answers(&connect(&server.socket).await?).await?;
    }
    let spent = cpu_seconds(server.process_id())? - before;
    ensure!(spent < 2.0, "{spent} s of processor time for a flood that does nothing");
    drop(flood);
    answers(&connect(&server.socket).await?).await
}

/// User and system time of a process.
fn cpu_seconds(process: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after_name = stat.rsplit_once(')').context("malformed stat")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks =
        |index: usize| -> Result<f64> { Ok(fields.get(index).context("short stat")?.parse::<f64>()?) };
    // The kernel counts in hundredths of a second on every machine it shows to user space.
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

#[tokio::test]
async fn what_is_too_large_or_not_known_is_refused_by_name() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let server = sandbox.start()?;
    let client = connect(&server.socket).await?;
    let huge = v1::GetStatusRequest { name: "x".repeat((4 << 20) + 1), ..Default::default() };
    let error = client.state().get_status(huge).await.expect_err("a message above the limit");
    assert_eq!(error.code(), Code::OutOfRange, "{error}");

    let many = v1::BatchGetStatusRequest { names: vec!["machine".into(); 1_001], ..Default::default() };
    let error = Failure::from(&client.state().batch_get_status(many).await.expect_err("too many names"));
    assert_eq!((error.code, error.reason.as_str()), (Code::InvalidArgument, "FIELD_INVALID"));

    let request = v1::ProbeMachineRequest { kinds: vec![1, 77], ..Default::default() };
    let status = client.admin().probe_machine(request).await.expect_err("an unknown enum value");
    let details = tonic_types::StatusExt::get_error_details(&status);
    let field =
        details.bad_request().and_then(|bad| bad.field_violations.first()).context("no field")?.field.clone();
    assert_eq!((status.code(), field.as_str()), (Code::InvalidArgument, "kinds[1]"));

    let request = v1::GetStatusRequest { request_id: "me".into(), ..Default::default() };
    let error = Failure::from(&client.state().get_status(request).await.expect_err("not a UUID"));
    assert_eq!((error.code, error.reason.as_str()), (Code::InvalidArgument, "REQUEST_ID_INVALID"));

    let mut raw = tonic::client::Grpc::new(client.channel.clone());
    raw.ready().await?;
    let path = http::uri::PathAndQuery::from_static("/hoist.api.v1.StateService/Nothing");
    let codec = tonic_prost::ProstCodec::<v1::GetStatusRequest, v1::GetStatusResponse>::default();
    let error = raw
        .unary(tonic::Request::new(v1::GetStatusRequest::default()), path, codec)
        .await
        .expect_err("a method that does not exist");
    let error = Failure::from(&error);
    assert_eq!((error.code, error.reason.as_str()), (Code::Unimplemented, "METHOD_UNKNOWN"));
    answers(&client).await
}

#[tokio::test]
async fn over_tcp_nobody_stops_the_server() -> Result<()> {
    let (_sandbox, server, address) = serve("")?;
    let client = Channels::tcp(&address).await?;
    let request = v1::ShutdownRequest { request_id: request_id(), grace: None };
    let error = Failure::from(&client.admin().shutdown(request).await.expect_err("no identity, no shutdown"));
    assert_eq!((error.code, error.reason.as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));
    answers(&connect(&server.socket).await?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_capacity_calls_are_shed_with_advice_and_health_still_answers() -> Result<()> {
    let (_sandbox, server, _) = serve("[listener]\ncalls = 2\n[watch]\nstreams = 3\n")?;
    let client = connect(&server.socket).await?;
    let mut watches = Vec::new();
    for _ in 0..3 {
        watches.push(client.state().watch(v1::WatchRequest::default()).await?);
    }
    let error = client.state().watch(v1::WatchRequest::default()).await.expect_err("a fourth watch");
    let error = Failure::from(&error);
    assert_eq!((error.code, error.reason.as_str()), (Code::ResourceExhausted, "WATCHES_EXHAUSTED"));
    assert!(error.retry_after.is_some());

    let calls = (0..500).map(|_| {
        let mut state = client.state();
        let names = vec!["machine".to_owned(); 1_000];
        async move { state.batch_get_status(v1::BatchGetStatusRequest { names, ..Default::default() }).await }
    });
    let mut health = HealthClient::new(connect(&server.socket).await?.channel);
    let (answered, checked) = tokio::join!(
        futures_util::future::join_all(calls),
        health.check(HealthCheckRequest { service: String::new() })
    );
    checked.context("health was refused")?;
    let mut shed = 0;
    for error in answered.into_iter().filter_map(Result::err) {
        let error = Failure::from(&error);
        assert_eq!((error.code, error.reason.as_str()), (Code::ResourceExhausted, "OVERLOADED"));
        assert!(error.retry_after.is_some());
        shed += 1;
    }
    // Two at a time on two cores: of five hundred at once some must have found no place.
    assert!(shed > 0, "nothing was shed");
    answers(&client).await
}

#[tokio::test]
async fn reflection_and_health_show_every_service() -> Result<()> {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let (_sandbox, server, address) = serve("")?;
    for client in [connect(&server.socket).await?, Channels::tcp(&address).await?] {
        let request = tonic_reflection::pb::v1::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut answers = ServerReflectionClient::new(client.channel.clone())
            .server_reflection_info(tokio_stream::iter([request]))
            .await?
            .into_inner();
        let Some(MessageResponse::ListServicesResponse(listed)) =
            answers.message().await?.context("no answer")?.message_response
        else {
            anyhow::bail!("not a list");
        };
        let mut services: Vec<String> = listed.service.into_iter().map(|service| service.name).collect();
        services.retain(|name| !name.starts_with("grpc."));
        services.sort();
        assert_eq!(
            services,
            ["google.longrunning.Operations", "hoist.api.v1.AdminService", "hoist.api.v1.StateService"]
        );
        let health = HealthClient::new(client.channel)
            .check(HealthCheckRequest { service: String::new() })
            .await?
            .into_inner();
        assert_eq!(health.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
    }
    Ok(())
}
