//! What strangers can do to the listeners, and what the owner can do all the same.

#![expect(
    clippy::unwrap_used,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use hoist_domain::Reason;
use hoist_runtime::Clock;
use hoist_tests::soak::{rounds, seeds};
use hoist_tests::{Channels, Random, Sandbox, Server, connect, process, raw};
use hoist_wire::longrunning::ListOperationsRequest;
use hoist_wire::status::Failure;
use hoist_wire::v1;
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse,
};
use tower::{Service, ServiceExt};

/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

const GET_STATUS: &str = "/hoist.api.v1.StateService/GetStatus";

/// S5: the owner is answered within this, whatever strangers do.
const OWNER: Duration = Duration::from_secs(1);

/// On TCP too, with these variables.
fn on_tcp(variables: &[(&str, &str)]) -> Sandbox {
    let mut sandbox = Sandbox::new().unwrap();
    sandbox.flags.extend(["--listen".to_owned(), "127.0.0.1:0".to_owned()]);
    sandbox
        .environment
        .extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    sandbox
}

fn tcp_address(server: &Server) -> &str {
    server.listen.as_deref().unwrap()
}

async fn status(at: &Channels) -> Result<v1::Status, Status> {
    let answer = at.state().get_status(v1::GetStatusRequest::default()).await?;
    Ok(answer.into_inner().status.unwrap())
}

/// The server lives, and nothing in it has panicked.
async fn is_sound(server: &Server) {
    let status = status(&connect(&server.socket).await.unwrap()).await.unwrap();
    assert_eq!(status.machine.unwrap().conditions, []);
}

fn is_quiet(log: &str) -> bool {
    !log.contains("ERROR") && !log.contains("panic")
}

/// Reads until the server closes the connection.
async fn closed(mut stream: impl tokio::io::AsyncRead + Unpin) {
    let mut bytes = [0; 1024];
    let end = async { while matches!(stream.read(&mut bytes).await, Ok(count) if count > 0) {} };
    tokio::time::timeout(Duration::from_secs(10), end).await.expect("the server keeps the connection");
}

/// N7.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_asks_for_nothing_is_closed_and_others_do_not_notice() {
    const EACH: usize = 100;
    let sandbox = on_tcp(&[("HOIST_LISTENER_FIRST_REQUEST", "500ms")]);
    let server = sandbox.start().unwrap();
    let at = connect(&server.socket).await.unwrap();
    let mut watch = at.state().watch(v1::WatchRequest::default()).await.unwrap().into_inner();
    let over_tcp = Channels::tcp(tcp_address(&server)).await.unwrap();
    status(&over_tcp).await.unwrap();
    let before = process::open_files(server.process_id()).unwrap();

    // Nothing at all; half a preface; a connection that is set up, and no request on it.
    let openings: [&[u8]; 3] = [b"", &PREFACE[..10], &[PREFACE, SETTINGS].concat()];
    let clock = Clock::system();
    let begun = clock.monotonic();
    let mut silent = JoinSet::new();
    for opening in openings {
        for _ in 0..rounds(EACH) {
            let mut stream = TcpStream::connect(tcp_address(&server)).await.unwrap();
            stream.write_all(opening).await.unwrap();
            silent.spawn(closed(stream));
        }
        let mut stream = UnixStream::connect(&server.socket).await.unwrap();
        stream.write_all(opening).await.unwrap();
        silent.spawn(closed(stream));
    }
    let asked = clock.monotonic();
    status(&over_tcp).await.unwrap();
    status(&connect(&server.socket).await.unwrap()).await.unwrap();
    assert!(clock.monotonic() - asked <= OWNER);
    silent.join_all().await;
    println!("all closed after {:?}", clock.monotonic() - begun);

    // Connections that have asked for something stay, however long they are quiet then.
    status(&over_tcp).await.unwrap();
    status(&at).await.unwrap();
    let left = process::open_files(server.process_id()).unwrap();
    assert!(left <= before + 1, "{before} descriptors before, {left} after");
    assert!(watch.message().await.unwrap().is_some());
    is_sound(&server).await;
}

/// What a server spends in one second, which is long enough for a loop that does not rest to show.
async fn spent_in_a_second(server: &Server) -> Duration {
    let before = process::processor_time(server.process_id()).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    process::processor_time(server.process_id()).unwrap() - before
}

/// S5, of one core.
const IDLE: Duration = Duration::from_millis(50);

/// A server that may open so many files.
fn start_with_files(sandbox: &Sandbox, files: u32) -> Server {
    let script = format!("ulimit -n {files} && exec \"$@\"");
    Server::spawn(sandbox.command_under(&["sh", "-c", &script, "sh"])).unwrap()
}

/// N6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_on_tcp_does_not_keep_the_owner_out() {
    const FLOOD: usize = 400;
    hoist_runtime::machine::raise_nofile();
    let sandbox = on_tcp(&[]);
    let server = start_with_files(&sandbox, 96);
    let before = connect(&server.socket).await.unwrap();
    status(&before).await.unwrap();
    let mut flood = Vec::new();
    for _ in 0..FLOOD {
        // Refused by a full queue is as good as accepted.
        if let Ok(stream) = TcpStream::connect(tcp_address(&server)).await {
            flood.push(stream);
        }
    }
    let clock = Clock::system();
    for _ in 0..8 {
        let asked = clock.monotonic();
        let owner = connect(&server.socket).await.unwrap();
        status(&owner).await.unwrap();
        let took = clock.monotonic() - asked;
        assert!(took <= OWNER, "{took:?}");
    }
    status(&before).await.unwrap();
    let spent = spent_in_a_second(&server).await;
    println!(
        "{} connections, {} descriptors, {spent:?} in a second",
        flood.len(),
        process::open_files(server.process_id()).unwrap()
    );
    assert!(spent <= IDLE, "{spent:?}");
    drop(flood);
    // Room again, as soon as the server has seen the ends of those connections.
    let mut again = tokio::time::interval(Duration::from_millis(50));
    while Channels::tcp(tcp_address(&server)).await.is_err() {
        again.tick().await;
    }
    assert!(is_quiet(&server.kill().unwrap()));
}

/// N6, at the very end of the descriptors: even so few that the places for connections do not fit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_descriptors_rests_and_comes_back() {
    const FILES: u32 = 20;
    const FLOOD: usize = 40;
    hoist_runtime::machine::raise_nofile();
    // It has 13 of its own, and promises 10 to connections.
    let sandbox = on_tcp(&[]);
    let server = start_with_files(&sandbox, FILES);
    let before = connect(&server.socket).await.unwrap();
    status(&before).await.unwrap();
    let mut flood = Vec::new();
    for _ in 0..FLOOD {
        flood.push(UnixStream::connect(&server.socket).await.unwrap());
    }
    let spent = spent_in_a_second(&server).await;
    assert!(spent <= IDLE, "{spent:?}");
    let open = process::open_files(server.process_id()).unwrap();
    assert!(open >= usize::try_from(FILES).unwrap(), "not exhausted: the test shows nothing");
    status(&before).await.unwrap();
    drop(flood);
    let owner = connect(&server.socket).await.unwrap();
    status(&owner).await.unwrap();
    let log = server.kill().unwrap();
    let warned = log.lines().filter(|line| line.contains("cannot accept connections")).count();
    // Once when it begins; it begins anew after each connection that did get in.
    assert!((1..=FLOOD).contains(&warned) && is_quiet(&log), "{log}");
}

/// N9.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_above_the_limit_is_refused_without_being_taken_in() {
    const LIMIT: usize = 4 << 20;
    let sandbox = on_tcp(&[]);
    let server = sandbox.start().unwrap();
    let at = Channels::tcp(tcp_address(&server)).await.unwrap();
    status(&at).await.unwrap();
    // An unknown field, so that the content does not matter.
    let message = |bytes: usize| {
        let head = [&[0x7a][..], &{
            let mut length = Vec::new();
            prost::encoding::encode_varint(bytes as u64, &mut length);
            length
        }]
        .concat();
        [head, vec![0; bytes]].concat()
    };
    let largest = message(LIMIT - 5);
    assert_eq!(largest.len(), LIMIT);
    let post = |bytes: Bytes| raw::post(&at.channel, GET_STATUS, bytes);
    assert_eq!(post(raw::frame(&largest)).await.unwrap().code(), Code::Ok);

    let before = process::peak_bytes(server.process_id()).unwrap();
    for round in 0..rounds(8) {
        let refused = post(raw::frame(&message(LIMIT - 4))).await.unwrap();
        assert!(matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted), "{round}: {refused:?}");
    }
    // The length alone is enough to be refused.
    for claimed in [LIMIT + 1, 1 << 30, 0xffff_ffff] {
        let head = [&[0][..], &u32::try_from(claimed).unwrap().to_be_bytes(), b"little"].concat();
        let refused = post(head.into()).await.unwrap();
        assert!(
            matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted),
            "{claimed}: {refused:?}"
        );
        assert!(Failure::from(&refused).is(Reason::RequestTooLarge), "{refused:?}");
    }
    // 64 MiB of zeros in 64 KiB, if anybody unpacked them.
    let bomb = v1::GetStatusRequest { name: "\0".repeat(64 << 20), ..Default::default() };
    let refused = at.state().send_compressed(CompressionEncoding::Gzip).get_status(bomb).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented, "{refused:?}");
    assert!(Failure::from(&refused).is(Reason::EncodingUnsupported), "{refused:?}");
    let grown = process::peak_bytes(server.process_id()).unwrap() - before;
    println!("the server grew by {} KiB", grown >> 10);
    assert!(grown <= 8 << 20, "{grown} bytes");
    is_sound(&server).await;
    assert!(is_quiet(&server.kill().unwrap()));
}

/// Every method that takes one message and gives one, with a message that it takes.
fn unary_methods() -> Vec<(&'static str, Vec<u8>)> {
    let id = "6b0e6f0e-7f0a-4c5e-9d53-0f5a3f1d2c4b";
    let names = vec!["machine".to_owned(), format!("operations/{id}")];
    vec![
        (GET_STATUS, v1::GetStatusRequest { name: "machine".into(), ..Default::default() }.encode_to_vec()),
        (
            "/hoist.api.v1.StateService/BatchGetStatus",
            v1::BatchGetStatusRequest { request_id: id.into(), names, ..Default::default() }.encode_to_vec(),
        ),
        (
            "/hoist.api.v1.AdminService/GetConfig",
            v1::GetConfigRequest { request_id: id.into() }.encode_to_vec(),
        ),
        (
            "/hoist.api.v1.AdminService/ProbeMachine",
            v1::ProbeMachineRequest { kinds: vec![1, 2], bytes: 1, ..Default::default() }.encode_to_vec(),
        ),
        (
            "/google.longrunning.Operations/ListOperations",
            ListOperationsRequest { filter: "done = true".into(), page_size: 7, ..Default::default() }
                .encode_to_vec(),
        ),
        (
            "/google.longrunning.Operations/CancelOperation",
            hoist_wire::longrunning::CancelOperationRequest { name: format!("operations/{id}") }
                .encode_to_vec(),
        ),
        (
            "/google.longrunning.Operations/DeleteOperation",
            hoist_wire::longrunning::DeleteOperationRequest { name: format!("operations/{id}") }
                .encode_to_vec(),
        ),
        ("/grpc.health.v1.Health/Check", HealthCheckRequest { service: "x".into() }.encode_to_vec()),
    ]
}

/// N10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_message_are_refused() {
    let sandbox = on_tcp(&[]);
    let server = sandbox.start().unwrap();
    let at = Channels::tcp(tcp_address(&server)).await.unwrap();
    let nested: Vec<u8> = std::iter::repeat_n(0x0b, 100_000).collect();
    // A string that is not UTF-8; a number where a string belongs; a length beyond the end; a varint without one;
    // a field number of zero; a group without an end; groups in groups; a wire type that does not exist.
    let malformed: [&[u8]; 8] = [
        &[0x0a, 2, 0xff, 0xfe],
        &[0x08, 1],
        &[0x0a, 0x7f, b'x'],
        &[0xff; 11],
        &[0x02, 0],
        &[0x0b],
        &nested,
        &[0x0e],
    ];
    for bytes in malformed {
        for (path, _) in unary_methods() {
            let refused = raw::post(&at.channel, path, raw::frame(bytes)).await.unwrap();
            let shown = bytes.get(..16).unwrap_or(bytes);
            assert_eq!(refused.code(), Code::InvalidArgument, "{path} with {shown:x?}: {refused:?}");
            let failure = Failure::from(&refused);
            assert!(failure.is(Reason::RequestMalformed), "{path} with {shown:x?}: {refused:?}");
        }
    }
    // No message, half a frame, a frame of another kind, a frame that is compressed in no known way, two messages.
    for bytes in [
        &b""[..],
        &[0, 0, 0],
        &[0, 0, 0, 0, 9, 1],
        &[7, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0],
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        for (path, _) in unary_methods() {
            // Health takes messages until there are no more, and looks at the first.
            if path.contains("Health") {
                continue;
            }
            let refused = raw::post(&at.channel, path, Bytes::copy_from_slice(bytes)).await.unwrap();
            assert_eq!(refused.code(), Code::InvalidArgument, "{path} with {bytes:x?}: {refused:?}");
            assert!(
                Failure::from(&refused).is(Reason::RequestMalformed),
                "{path} with {bytes:x?}: {refused:?}"
            );
        }
    }
    is_sound(&server).await;
    assert!(is_quiet(&server.kill().unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bytes_make_a_handler_panic() {
    let sandbox = on_tcp(&[]);
    let server = sandbox.start().unwrap();
    let at = Channels::tcp(tcp_address(&server)).await.unwrap();
    let methods = unary_methods();
    for seed in seeds(300) {
        let mut random = Random::new(seed);
        let (path, message) = random.pick(&methods).unwrap();
        let mut message = message.clone();
        for _ in 0..=random.below(4) {
            let byte = u8::try_from(random.below(256)).unwrap();
            match random.below(3) {
                0 if !message.is_empty() => {
                    let at = random.index(message.len());
                    message.splice(at..=at, [byte]);
                }
                1 => message.insert(random.index(message.len() + 1), byte),
                _ => message.truncate(random.index(message.len() + 1)),
            }
        }
        let answer = raw::post(&at.channel, path, raw::frame(&message)).await.unwrap();
        let is_known = !matches!(answer.code(), Code::Unknown | Code::Unavailable | Code::Cancelled);
        let is_sane = is_known && !answer.message().contains("defect of Hoist");
        assert!(is_sane, "seed {seed}, {path} with {message:x?}: {answer:?}");
    }
    is_sound(&server).await;
    assert!(is_quiet(&server.kill().unwrap()));
}

fn fields(status: &Status) -> Vec<String> {
    use tonic::Code::InvalidArgument;
    use tonic_types::StatusExt;
    assert_eq!(status.code(), InvalidArgument, "{status:?}");
    let details = status.get_error_details();
    let violations = &details.bad_request().expect("a BadRequest").field_violations;
    violations.iter().map(|violation| violation.field.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_is_not_known_is_named_by_its_path() {
    let sandbox = on_tcp(&[]);
    let server = sandbox.start().unwrap();
    let at = Channels::tcp(tcp_address(&server)).await.unwrap();
    let probe = v1::ProbeMachineRequest { kinds: vec![1, 99], ..Default::default() };
    assert_eq!(fields(&at.admin().probe_machine(probe).await.unwrap_err()), ["kinds[1]"]);
    let filter = v1::WatchFilter { operation_states: vec![-7], ..Default::default() };
    let watch = v1::WatchRequest { filter: Some(filter), ..Default::default() };
    assert_eq!(fields(&at.state().watch(watch).await.unwrap_err()), ["filter.operation_states[0]"]);
    let mask = prost_types::FieldMask { paths: vec!["machine.fly".into()] };
    let get = v1::GetStatusRequest { field_mask: Some(mask), ..Default::default() };
    assert_eq!(fields(&at.state().get_status(get).await.unwrap_err()), ["field_mask.paths[0]"]);
    let batch = v1::BatchGetStatusRequest { names: vec!["machine".into(); 1_001], ..Default::default() };
    assert_eq!(fields(&at.state().batch_get_status(batch).await.unwrap_err()), ["names"]);
    let get = v1::GetStatusRequest { request_id: "me".into(), ..Default::default() };
    let refused = at.state().get_status(get).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(Failure::from(&refused).is(Reason::RequestIdInvalid), "{refused:?}");
    for path in ["/hoist.api.v1.StateService/Fly", "/hoist.api.v2.StateService/GetStatus", "/"] {
        let unknown = raw::post(&at.channel, path, raw::frame(b"")).await.unwrap();
        assert_eq!(unknown.code(), Code::Unimplemented);
        assert!(Failure::from(&unknown).is(Reason::MethodUnknown), "{unknown:?}");
    }
}

/// A call whose message never comes to its end.
async fn unfinished(at: Channels) -> anyhow::Result<Status> {
    let never = futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>();
    raw::post_body(&at.channel, GET_STATUS, &[], tonic::body::Body::new(StreamBody::new(never))).await
}

/// N11.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn above_its_capacity_the_server_refuses_at_once_and_stays_visible() {
    const CAPACITY: usize = 4;
    let capacity = CAPACITY.to_string();
    let sandbox = on_tcp(&[
        ("HOIST_LISTENER_CALLS", &capacity),
        ("HOIST_WATCH_STREAMS", &capacity),
        ("HOIST_LISTENER_FIRST_REQUEST", "10m"),
    ]);
    let server = sandbox.start().unwrap();
    let at = Channels::tcp(tcp_address(&server)).await.unwrap();
    status(&at).await.unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..10 * CAPACITY {
        calls.spawn(unfinished(at.clone()));
    }
    // All but those that have a place are refused.
    for _ in 0..9 * CAPACITY {
        let refused = calls.join_next().await.unwrap().unwrap().unwrap();
        let failure = Failure::from(&refused);
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
        assert!(failure.is(Reason::Overloaded) && failure.retry_after.is_some(), "{refused:?}");
    }
    let clock = Clock::system();
    let mut took = Vec::new();
    let owner = connect(&server.socket).await.unwrap();
    for _ in 0..rounds(100) {
        let asked = clock.monotonic();
        assert!(Failure::from(&status(&owner).await.unwrap_err()).is(Reason::Overloaded));
        took.push(clock.monotonic() - asked);
        let mut health = HealthClient::new(owner.channel.clone());
        let health = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert_eq!(health.status(), ServingStatus::Serving);
    }
    took.sort();
    println!("refused after {:?} at the median, {:?} at most", took[took.len() / 2], took[took.len() - 1]);
    assert!(took[took.len() / 2] <= Duration::from_millis(50), "{took:?}");
    // Watches have places of their own, and those have an end as well.
    let mut watches = Vec::new();
    let refused = loop {
        match at.state().watch(v1::WatchRequest::default()).await {
            Ok(watch) => watches.push(watch),
            Err(refused) => break Failure::from(&refused),
        }
    };
    assert_eq!((watches.len(), refused.code), (CAPACITY, Code::ResourceExhausted));
    assert!(refused.is(Reason::WatchesExhausted) && refused.retry_after.is_some(), "{refused:?}");

    assert_eq!(calls.len(), CAPACITY);
    calls.shutdown().await;
    // The server hears of it in its own time; until then, do as it says.
    let failure = loop {
        match status(&owner).await {
            Ok(_) => break None,
            Err(refused) => match Failure::from(&refused).retry_after {
                Some(delay) => tokio::time::sleep(delay).await,
                None => break Some(refused),
            },
        }
    };
    assert!(failure.is_none(), "{failure:?}");
    assert!(is_quiet(&server.kill().unwrap()));
}

/// N7 and N11 together: what never arrives must not keep others out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_message_never_arrives_gives_its_place_back() {
    const CAPACITY: usize = 4;
    let (capacity, patience) = (CAPACITY.to_string(), "300ms");
    let sandbox = on_tcp(&[("HOIST_LISTENER_CALLS", &capacity), ("HOIST_LISTENER_FIRST_REQUEST", patience)]);
    let server = sandbox.start().unwrap();
    let at = Channels::tcp(tcp_address(&server)).await.unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..CAPACITY {
        calls.spawn(unfinished(at.clone()));
    }
    let refused = tokio::time::timeout(Duration::from_secs(5), calls.join_all()).await;
    for refused in refused.expect("they keep their places for ever") {
        let refused = refused.unwrap();
        assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused:?}");
        assert!(Failure::from(&refused).is(Reason::DeadlineExceeded), "{refused:?}");
    }
    // Neither the connection nor the owner has to suffer for it.
    status(&at).await.unwrap();
    status(&connect(&server.socket).await.unwrap()).await.unwrap();
    assert!(is_quiet(&server.kill().unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_owner_may_stop_the_server() {
    let sandbox = on_tcp(&[]);
    let server = sandbox.start().unwrap();
    let at = Channels::tcp(tcp_address(&server)).await.unwrap();
    let refused = at.admin().shutdown(v1::ShutdownRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(Failure::from(&refused).is(Reason::PermissionDenied), "{refused:?}");
    status(&at).await.unwrap();
    let owner = connect(&server.socket).await.unwrap();
    owner.admin().shutdown(v1::ShutdownRequest::default()).await.unwrap();
    assert!(server.wait().unwrap().0.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_says_that_the_server_drains_before_it_is_gone() {
    let sandbox = on_tcp(&[]);
    let server = sandbox.start().unwrap();
    let at = connect(&server.socket).await.unwrap();
    let mut health = HealthClient::new(at.channel.clone());
    let mut health = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    server.signal(rustix::process::Signal::TERM).unwrap();
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    // It is the last word, and the server does not wait for whoever listens.
    assert!(!matches!(health.message().await, Ok(Some(_))));
    let (status, log) = server.wait().unwrap();
    assert!(status.success() && is_quiet(&log), "{status}: {log}");
    assert!(!log.contains("WARN"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_lists_every_service_on_every_listener() {
    let sandbox = on_tcp(&[]);
    let server = sandbox.start().unwrap();
    for at in [connect(&server.socket).await.unwrap(), Channels::tcp(tcp_address(&server)).await.unwrap()] {
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let request = ServerReflectionRequest { message_request, ..Default::default() };
        let mut reflection = ServerReflectionClient::new(at.channel.clone());
        let answers = reflection.server_reflection_info(tokio_stream::once(request)).await.unwrap();
        let answer = answers.into_inner().message().await.unwrap().unwrap();
        let Some(MessageResponse::ListServicesResponse(listed)) = answer.message_response else {
            panic!("{answer:?}");
        };
        let listed: BTreeSet<String> = listed.service.into_iter().map(|service| service.name).collect();
        for set in [hoist_wire::FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET] {
            for file in prost_types::FileDescriptorSet::decode(set).unwrap().file {
                for service in &file.service {
                    let name = format!("{}.{}", file.package(), service.name());
                    assert!(listed.contains(&name), "{name} is not in {listed:?}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_http2_is_shown_the_door() {
    let sandbox = on_tcp(&[]);
    let server = sandbox.start().unwrap();
    let at = Channels::tcp(tcp_address(&server)).await.unwrap();
    status(&at).await.unwrap();
    let get = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let tls = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 512]].concat();
    let mut strangers = vec![get, tls];
    for seed in seeds(40) {
        let mut random = Random::new(seed);
        let noise = (0..random.below(8_192)).map(|_| u8::try_from(random.below(256)).unwrap());
        // Half of them begin well.
        let begin = if seed % 2 == 0 { [PREFACE, SETTINGS].concat() } else { Vec::new() };
        strangers.push(begin.into_iter().chain(noise).collect());
    }
    let mut connections = JoinSet::new();
    for bytes in strangers {
        let mut stream = TcpStream::connect(tcp_address(&server)).await.unwrap();
        connections.spawn(async move {
            // It may be closed before all of this is sent.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            closed(stream).await;
        });
    }
    connections.join_all().await;
    status(&at).await.unwrap();
    is_sound(&server).await;
    assert!(is_quiet(&server.kill().unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_grpc_is_refused_as_http() {
    let sandbox = on_tcp(&[]);
    let server = sandbox.start().unwrap();
    let at = Channels::tcp(tcp_address(&server)).await.unwrap();
    let ask = |method: &str, content_type: &str| {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://localhost{GET_STATUS}"))
            .header("content-type", content_type)
            .body(tonic::body::Body::new(http_body_util::Full::new(raw::frame(b""))))
            .unwrap();
        let mut channel = at.channel.clone();
        async move { channel.ready().await.unwrap().call(request).await.unwrap() }
    };
    for (method, content_type, expected) in [
        ("POST", "application/grpc", 200),
        ("POST", "application/grpc+proto", 200),
        ("GET", "application/grpc", 405),
        ("PUT", "application/grpc", 405),
        ("POST", "text/plain", 415),
        ("POST", "application/grpc-web", 415),
    ] {
        let answer = ask(method, content_type).await;
        assert_eq!(answer.status().as_u16(), expected, "{method} {content_type}");
        if expected != 200 {
            let refused = Status::from_header_map(answer.headers()).unwrap();
            assert!(Failure::from(&refused).is(Reason::RequestMalformed), "{refused:?}");
        }
    }
    is_sound(&server).await;
}

/// A client whose streams are granted so little that no answer fits, until it reads.
async fn reading_nothing(server: &Server) -> Channels {
    let address = format!("http://{}", tcp_address(server));
    let endpoint = tonic::transport::Endpoint::try_from(address).unwrap().initial_stream_window_size(1);
    Channels { channel: endpoint.connect().await.unwrap() }
}

/// N11, for answers: what nobody takes is in memory, so it counts until it is taken, and not for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_not_taken_keeps_its_place_until_its_connection_is_closed() {
    const CAPACITY: usize = 4;
    let (capacity, patience) = (CAPACITY.to_string(), "2s");
    let sandbox = on_tcp(&[("HOIST_LISTENER_CALLS", &capacity), ("HOIST_LISTENER_FIRST_REQUEST", patience)]);
    let server = sandbox.start().unwrap();
    let owner = connect(&server.socket).await.unwrap();
    let at = reading_nothing(&server).await;
    let mut unread = Vec::new();
    for _ in 0..CAPACITY {
        let request = http::Request::post(format!("http://localhost{GET_STATUS}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(tonic::body::Body::new(http_body_util::Full::new(raw::frame(b""))))
            .unwrap();
        let mut channel = at.channel.clone();
        // The headers come; the message cannot.
        unread.push(channel.ready().await.unwrap().call(request).await.unwrap());
    }
    let refused = status(&owner).await.unwrap_err();
    assert!(Failure::from(&refused).is(Reason::Overloaded), "{refused:?}");
    let clock = Clock::system();
    let begun = clock.monotonic();
    while status(&owner).await.is_err() {
        assert!(clock.monotonic() - begun < Duration::from_secs(10), "its places are lost");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(unread);
    is_sound(&server).await;
    assert!(is_quiet(&server.kill().unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_ends_on_tcp_and_one_with_an_open_call_does_not() {
    let sandbox = on_tcp(&[("HOIST_LISTENER_IDLE", "500ms")]);
    let server = sandbox.start().unwrap();
    let busy = Channels::tcp(tcp_address(&server)).await.unwrap();
    let soon = Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 });
    let request = v1::WatchRequest { mark_interval: soon, ..Default::default() };
    let mut watch = busy.state().watch(request).await.unwrap().into_inner();
    let owner = connect(&server.socket).await.unwrap();
    status(&owner).await.unwrap();
    let before = process::open_files(server.process_id()).unwrap();
    let idle = Channels::tcp(tcp_address(&server)).await.unwrap();
    status(&idle).await.unwrap();
    assert!(process::open_files(server.process_id()).unwrap() > before);
    let mut looks = tokio::time::interval(Duration::from_millis(100));
    while process::open_files(server.process_id()).unwrap() > before {
        looks.tick().await;
        assert!(watch.message().await.unwrap().is_some());
    }
    // A client that comes back notices nothing.
    status(&idle).await.unwrap();
    status(&owner).await.unwrap();
    assert!(watch.message().await.unwrap().is_some());
    assert!(is_quiet(&server.kill().unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_make_room_and_busy_ones_do_not() {
    const CONNECTIONS: usize = 6;
    let sandbox = on_tcp(&[
        ("HOIST_LISTENER_CONNECTIONS", &CONNECTIONS.to_string()),
        ("HOIST_LISTENER_RESERVED_CONNECTIONS", "2"),
    ]);
    let server = sandbox.start().unwrap();
    let mut busy = Vec::new();
    // All places of TCP, and those of the owner.
    for number in 0..CONNECTIONS {
        let over_tcp = number < CONNECTIONS - 2;
        let at = if over_tcp {
            Channels::tcp(tcp_address(&server)).await.unwrap()
        } else {
            connect(&server.socket).await.unwrap()
        };
        status(&at).await.unwrap();
        if over_tcp && number > 0 {
            let watch = at.state().watch(v1::WatchRequest::default()).await.unwrap().into_inner();
            busy.push((at, watch));
        } else {
            // Stays open at the client's end; nothing is asked for on it.
            std::mem::forget(at);
        }
    }
    // The one on TCP that is idle makes room, for one after the other.
    for _ in 0..3 {
        let newcomer = Channels::tcp(tcp_address(&server)).await.unwrap();
        status(&newcomer).await.unwrap();
        std::mem::forget(newcomer);
    }
    for _ in 0..8 {
        let owner = connect(&server.socket).await.unwrap();
        status(&owner).await.unwrap();
        std::mem::forget(owner);
    }
    for (_, watch) in &mut busy {
        assert!(watch.message().await.unwrap().is_some());
    }
    assert!(is_quiet(&server.kill().unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_ends_at_its_deadline() {
    let sandbox = on_tcp(&[]);
    let server = sandbox.start().unwrap();
    let at = Channels::tcp(tcp_address(&server)).await.unwrap();
    // By its header alone: tonic's client would end it by itself.
    let message = v1::WatchRequest::default().encode_to_vec();
    let body = tonic::body::Body::new(http_body_util::Full::new(raw::frame(&message)));
    let clock = Clock::system();
    let begun = clock.monotonic();
    let watch =
        raw::post_body(&at.channel, "/hoist.api.v1.StateService/Watch", &[("grpc-timeout", "300m")], body);
    let ended = tokio::time::timeout(Duration::from_secs(5), watch).await.expect("it goes on").unwrap();
    assert_eq!(ended.code(), Code::DeadlineExceeded, "{ended:?}");
    assert!(Failure::from(&ended).is(Reason::DeadlineExceeded), "{ended:?}");
    assert!(clock.monotonic() - begun >= Duration::from_millis(300));
    let status = status(&at).await.unwrap();
    assert_eq!(status.machine.unwrap().watch_streams, 0);
}
