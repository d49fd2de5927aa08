//! What one call costs, beside an empty one: GetStatus of the machine, whole and masked, on both sockets, with one
//! caller and with 32.

use std::time::Duration;

use anyhow::Result;
use hoist_wire::v1;

use super::figures::{Rounds, micros, millis, now};
use super::load::closed_loop;
use super::report::{Row, Target};
use super::{Options, process, start, start_echo, tcp_address};
use crate::{Channels, connect};

/// C1 speaks of a thousand models.
const RESOURCES: u32 = 1_000;

/// Callers share connections as the threads of a few processes would.
const CALLERS: usize = 32;
const CONNECTIONS: usize = 4;

/// What the empty call carries in each direction.
const ECHO_BYTES: usize = 200;

/// One figure of each kind, from one slice.
#[derive(Clone, Copy, Debug)]
struct Round {
    p50: f64,
    p99: f64,
    per_second: f64,
    processor: f64,
}

/// One side of a comparison.
struct Side {
    what: &'static str,
    process: u32,
    connections: Vec<Channels>,
    request: v1::GetStatusRequest,
    rounds: Vec<Round>,
}

impl Side {
    async fn slice(&mut self, callers: usize, length: Duration) -> Result<()> {
        let spent = process::processor_time(self.process)?;
        let end = now() + length;
        let mut slice = closed_loop(callers, |caller| {
            let client = self.connections.iter().cycle().nth(caller).map(Channels::state);
            let request = self.request.clone();
            move || {
                let (mut client, request) = (client.clone()?, request.clone());
                (now() < end).then_some(async move { client.get_status(request).await.map(drop) })
            }
        })
        .await?;
        let spent = process::processor_time(self.process)?.saturating_sub(spent);
        self.rounds.push(Round {
            p50: micros(slice.at(500)),
            p99: millis(slice.at(990)),
            per_second: slice.per_second(),
            processor: micros(spent) / slice.latencies.len() as f64,
        });
        Ok(())
    }
}

pub(super) async fn run(options: &Options) -> Result<Vec<Row>> {
    let (_sandbox, server) = start(RESOURCES)?;
    let (_place, echo) = start_echo()?;
    let mut rows = Vec::new();
    for socket in ["unix", "tcp"] {
        let mut connected: [Vec<Channels>; 2] = [Vec::new(), Vec::new()];
        for (side, at) in connected.iter_mut().zip([&server, &echo]) {
            for _ in 0..CONNECTIONS {
                side.push(match socket {
                    "unix" => connect(&at.socket).await?,
                    _ => Channels::tcp(tcp_address(at)?).await?,
                });
            }
        }
        let [ours, peers] = connected;
        for callers in [1, CALLERS] {
            let side = |what, process, connections: &Vec<Channels>, request| Side {
                what,
                process,
                connections: connections.clone(),
                request,
                rounds: Vec::new(),
            };
            let mut sides = [
                side("echo", echo.process_id(), &peers, echo_request()),
                side("GetStatus", server.process_id(), &ours, status_request(&[])),
                side("GetStatus masked", server.process_id(), &ours, status_request(&["machine.uptime"])),
            ];
            let length = Duration::from_millis(options.pick(500, 150));
            for round in 0..=options.rounds() {
                for side in &mut sides {
                    side.slice(callers, length).await?;
                    if round == 0 {
                        // Connections, caches and the processor's clock get warm.
                        side.rounds.clear();
                    }
                }
            }
            rows.extend(compare(socket, callers, &sides));
        }
    }
    Ok(rows)
}

fn compare(socket: &str, callers: usize, [echo, ours @ ..]: &[Side; 3]) -> Vec<Row> {
    let who = if callers == 1 { "1 caller".to_owned() } else { format!("{callers} callers") };
    let mut rows = Vec::new();
    for side in ours {
        let row = |figure: &str, unit, of: fn(&Round) -> f64| {
            Row::new(
                format!("{}, {socket}, {who}: {figure}", side.what),
                unit,
                Rounds::each(&side.rounds, of),
            )
            .beside(Rounds::each(&echo.rounds, of), Rounds::ratio(&side.rounds, &echo.rounds, of))
        };
        rows.push(row("p50", "us", |r| r.p50).target(Target::RatioAtMost(1.5)));
        // Callers that fill all cores queue, and are stopped in the middle of a time slice: then the empty call's
        // tail is the measure. C1's millisecond beside work is measured in the commit group.
        let tail = if callers == 1 { Target::AtMost(1.0) } else { Target::RatioAtMost(1.5) };
        rows.push(row("p99", "ms", |r| r.p99).target(tail));
        rows.push(row("rate", "calls/s", |r| r.per_second).target(Target::RatioAtLeast(0.7)));
        if callers > 1 {
            rows.push(row("server's processor", "us/call", |r| r.processor));
        }
    }
    rows
}

fn echo_request() -> v1::GetStatusRequest {
    v1::GetStatusRequest { request_id: "x".repeat(ECHO_BYTES), ..v1::GetStatusRequest::default() }
}

fn status_request(paths: &[&str]) -> v1::GetStatusRequest {
    let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    v1::GetStatusRequest {
        request_id: crate::request_id(),
        name: "machine".into(),
        field_mask: (!paths.is_empty()).then_some(prost_types::FieldMask { paths }),
    }
}
