//! One event to many watchers: how long, with how much memory, beside tonic alone, and beside watchers that never
//! read.

use std::time::Duration;

use anyhow::Result;

use super::crowd::{Crowd, Order, Reply};
use super::figures::{Rounds, mib, millis, per_mille};
use super::report::{Row, Target};
use super::{Options, process, start, start_echo};

/// What a client library opens on one connection before it opens another.
const PER_CONNECTION: u32 = 250;

/// Events before those that count.
const WARM_UP: u32 = 5;

/// What every watcher gets a snapshot of; some of them are deleted to cause events.
const RESOURCES: u32 = 1_000;

/// Memory is read, and events are caused, once the server has nothing left to do.
const SETTLE: Duration = Duration::from_secs(1);

/// C3, R9: ten thousand watchers.
pub(super) async fn many(options: &Options) -> Result<Vec<Row>> {
    let watchers = options.pick(10_000, 1_000);
    let events = options.pick(100, 20);
    let (_sandbox, server) = start(RESOURCES)?;
    let mut crowd = Crowd::of(&server.socket)?;
    tokio::time::sleep(SETTLE).await;
    let idle = process::resident_bytes(server.process_id())?;
    let opened = crowd.tell(Order::Open { watchers, per_connection: PER_CONNECTION }).await?;
    tokio::time::sleep(SETTLE).await;
    let open = process::resident_bytes(server.process_id())?;
    for number in 0..WARM_UP {
        crowd.tell(Order::Event { number }).await?;
    }
    let mut replies = Vec::new();
    for number in WARM_UP..WARM_UP + events {
        replies.push(crowd.tell(Order::Event { number }).await?);
    }
    let after = process::resident_bytes(server.process_id())?;
    let mut last: Vec<Duration> = replies.iter().map(|reply| reply.last).collect();
    let above = Rounds::of(&[open, after].map(|now| mib(now.saturating_sub(idle))));
    let each = Rounds::each(&replies, |reply| millis(reply.last));
    let p99 = Rounds { median: millis(per_mille(&mut last, 990)), ..each };
    Ok(vec![
        Row::once(format!("{watchers} watchers: memory above idle"), "MiB", above.most)
            .target(Target::AtMost(128.0))
            .note(format!(
                "idle {:.1} MiB; {:.1} MiB above it when opened, {:.1} after {events} events",
                mib(idle),
                mib(open.saturating_sub(idle)),
                mib(after.saturating_sub(idle))
            )),
        Row::new(format!("{watchers} watchers: p99 of the last one's delay"), "ms", p99)
            .target(Target::AtMost(250.0))
            .note(format!(
                "{events} events; from the call, so the commit is in it; median {:.1} ms",
                each.median
            )),
        Row::new(
            format!("{watchers} watchers: p99 over all of an event's delays"),
            "ms",
            Rounds::each(&replies, |reply| millis(reply.p99)),
        ),
        Row::once(
            format!("{watchers} watchers: opening all, each with its snapshot"),
            "ms",
            millis(opened.last),
        ),
    ])
}

/// One side of the comparison with tonic alone.
struct Side {
    crowd: Crowd,
    process: u32,
    caught_up: Vec<Burst>,
    live: Vec<Burst>,
    /// Processor time of a burst that nobody watches: the calls and, on our side, the commits.
    unwatched: Vec<Duration>,
}

/// Some events to all watchers.
struct Burst {
    per_second: f64,
    /// Of the server, for one event delivered to one watcher; nanoseconds.
    processor: f64,
}

type Bursts = fn(&Side) -> &[Burst];

impl Side {
    async fn tell(&mut self, order: Order) -> Result<(Reply, Duration)> {
        let spent = process::processor_time(self.process)?;
        let reply = self.crowd.tell(order).await?;
        Ok((reply, process::processor_time(self.process)?.saturating_sub(spent)))
    }
}

const WATCHERS: u32 = 100;

/// A hundred watchers beside the same under tonic alone: events that lie ready, then events as they happen.
pub(super) async fn beside_bare(options: &Options) -> Result<Vec<Row>> {
    let (per_connection, callers) = (25, 64);
    let events = options.pick(5_000, 1_000);
    let rounds = options.rounds();
    let (_sandbox, server) = start(events * (rounds + 1) * 2)?;
    let (_place, echo) = start_echo()?;
    let mut sides = Vec::new();
    for at in [&server, &echo] {
        let (crowd, process) = (Crowd::of(&at.socket)?, at.process_id());
        let (caught_up, live, unwatched) = (Vec::new(), Vec::new(), Vec::new());
        sides.push(Side { crowd, process, caught_up, live, unwatched });
    }
    let delivered = f64::from(WATCHERS) * f64::from(events);
    let burst = |last: Duration, spent: Duration| Burst {
        per_second: delivered / last.as_secs_f64(),
        processor: spent.as_secs_f64() * 1e9 / delivered,
    };
    let mut firsts = (0..).step_by(usize::try_from(events)?);
    let mut next = || Order::Burst { first: firsts.next().unwrap_or(u32::MAX), events, callers };
    for round in 0..=rounds {
        let order = next();
        for side in &mut sides {
            let (_, unwatched) = side.tell(order).await?;
            let (reply, spent) = side.tell(Order::CatchUp { watchers: WATCHERS, per_connection }).await?;
            if round > 0 {
                side.unwatched.push(unwatched);
                side.caught_up.push(burst(reply.last, spent));
            }
        }
    }
    for side in &mut sides {
        side.tell(Order::Open { watchers: WATCHERS, per_connection }).await?;
    }
    for round in 0..=rounds {
        let order = next();
        for side in &mut sides {
            let (reply, spent) = side.tell(order).await?;
            if round > 0 {
                let unwatched = Rounds::each(&side.unwatched, Duration::as_secs_f64).median;
                let spent = spent.saturating_sub(Duration::try_from_secs_f64(unwatched).unwrap_or_default());
                side.live.push(burst(reply.last, spent));
            }
        }
    }
    let [ours, bare] = sides.as_slice() else { anyhow::bail!("two sides") };
    Ok(compare(ours, bare, events))
}

fn compare(ours: &Side, bare: &Side, events: u32) -> Vec<Row> {
    let row = |what: &str, unit, side: Bursts, of: fn(&Burst) -> f64| {
        let (ours, bare) = (side(ours), side(bare));
        Row::new(format!("{WATCHERS} watchers, {what}"), unit, Rounds::each(ours, of))
            .beside(Rounds::each(bare, of), Rounds::ratio(ours, bare, of))
    };
    let (caught_up, live): (Bursts, Bursts) = (|side| &side.caught_up, |side| &side.live);
    let alone = |side: &Side| Rounds::each(&side.unwatched, |spent| millis(*spent)).median;
    vec![
        row("catching up: events delivered", "events/s", caught_up, |burst| burst.per_second)
            .target(Target::RatioAtLeast(0.7))
            .note(format!("{events} events a round lie ready, in the history and in a plain list")),
        row("catching up: server's processor", "ns/delivery", caught_up, |burst| burst.processor),
        row("live: events delivered", "events/s", live, |burst| burst.per_second)
            .note("each event is a call, from one of 64 callers; ours commits each before it is published"),
        row("live: server's processor", "ns/delivery", live, |burst| burst.processor)
            .target(Target::RatioAtMost(1.0 / 0.7))
            .note(format!(
                "without what the same calls cost when nobody watches: {:.0} ms here, {:.0} ms there",
                alone(ours),
                alone(bare)
            )),
    ]
}

/// R10: watchers that never read.
pub(super) async fn never_reading(options: &Options) -> Result<Vec<Row>> {
    let (healthy, stalled) = (1_000, options.pick(1_000, 200));
    let events = options.pick(20, 8);
    let rounds = options.rounds();
    // A snapshot of more than a megabyte: those who do not read it are stuck within it.
    let resources = 8_000;
    let held = held_by_stalled(resources, stalled).await?;
    let (_sandbox, server) = start(resources)?;
    let mut crowd = Crowd::of(&server.socket)?;
    crowd.tell(Order::Open { watchers: healthy, per_connection: PER_CONNECTION }).await?;
    let mut numbers = 0..resources;
    for number in numbers.by_ref().take(10) {
        crowd.tell(Order::Event { number }).await?;
    }
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        alone.push(typical_p99(&mut crowd, &mut numbers, events).await?);
        crowd.tell(Order::Stall { watchers: stalled }).await?;
        tokio::time::sleep(SETTLE).await;
        beside.push(typical_p99(&mut crowd, &mut numbers, events).await?);
        crowd.tell(Order::Release).await?;
        tokio::time::sleep(SETTLE).await;
    }
    // R10: 64 MiB and their HTTP/2 windows, which are what the protocol grants by default.
    let allowed = 64.0 + mib(u64::from(stalled) * 65_535);
    Ok(vec![
        Row::new(
            format!("{healthy} watchers beside {stalled} that never read: p99 of delays"),
            "ms",
            Rounds::of(&beside),
        )
        .beside(Rounds::of(&alone), Rounds::ratio(&beside, &alone, |p99| *p99))
        .target(Target::RatioAtMost(1.2))
        .note("peer: the same watchers alone"),
        Row::once(format!("{stalled} watchers that never read: memory they hold"), "MiB", held)
            .target(Target::AtMost(allowed))
            .note("64 MiB and their windows of 64 KiB"),
    ])
}

/// On a server of their own, that has no memory to use again.
async fn held_by_stalled(resources: u32, stalled: u32) -> Result<f64> {
    let (_sandbox, server) = start(resources)?;
    let mut crowd = Crowd::of(&server.socket)?;
    tokio::time::sleep(SETTLE).await;
    let idle = process::resident_bytes(server.process_id())?;
    crowd.tell(Order::Stall { watchers: stalled }).await?;
    tokio::time::sleep(SETTLE).await;
    Ok(mib(process::resident_bytes(server.process_id())?.saturating_sub(idle)))
}

/// The 99th percentile over some events' delays: each event's own, and of these the median, so that one
/// disturbance of the machine is not what is compared.
async fn typical_p99(
    crowd: &mut Crowd,
    numbers: &mut impl Iterator<Item = u32>,
    events: usize,
) -> Result<f64> {
    let mut delays = Vec::new();
    for number in numbers.take(events) {
        delays.push(millis(crowd.tell(Order::Event { number }).await?.p99));
    }
    Ok(Rounds::of(&delays).median)
}
