//! How a worker's stream does: when it was heard, and how fast it answers. Of this moment; nothing of it is in the state.

use std::collections::VecDeque;
use std::time::Duration;

use hoist_domain::{DeviceId, Generation};

use super::Fleet;
use super::session::Who;

/// Answers whose time is remembered.
const MOST_LATENCIES: usize = 256;

/// What was seen of a stream so far.
#[derive(Debug)]
pub(super) struct Beats {
    session: u64,
    heard_at: Duration,
    answered: u64,
    /// What was told and is not answered yet, and when.
    asked: VecDeque<(u64, Duration)>,
    latencies: VecDeque<Duration>,
}

/// How a worker's stream does now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// Since how long nothing was heard of it.
    pub staleness: Duration,
    /// The last number of what is desired that it has answered; 0: none on this stream.
    pub answered: u64,
    /// From telling what is desired to the answer, the last ones, the oldest first.
    pub latencies: Vec<Duration>,
}

impl Fleet {
    /// How the stream of a device's worker does; none: there is none.
    #[must_use]
    pub fn pulse(&self, id: DeviceId) -> Option<Pulse> {
        let now = self.0.clock.monotonic();
        self.0.pulses.get(&id).map(|beats| Pulse {
            staleness: now.saturating_sub(beats.heard_at),
            answered: beats.answered,
            latencies: beats.latencies.iter().copied().collect(),
        })
    }

    /// A stream speaks for a worker from now on.
    pub(super) fn begins(&self, who: Who) {
        let heard_at = self.0.clock.monotonic();
        // How fast it was stays known when one stream takes the place of another.
        let latencies = self.0.pulses.remove(&who.id).map(|(_, beats)| beats.latencies).unwrap_or_default();
        let beats = Beats { session: who.session, heard_at, answered: 0, asked: VecDeque::new(), latencies };
        self.0.pulses.insert(who.id, beats);
    }

    pub(super) fn ends(&self, who: Who) {
        self.0.pulses.remove_if(&who.id, |_, beats| beats.session == who.session);
    }

    pub(super) fn heard(&self, who: Who) {
        let now = self.0.clock.monotonic();
        self.beats(who, |beats| beats.heard_at = now);
    }

    /// It was told what is desired, in this number.
    pub(super) fn told(&self, who: Who, number: u64) {
        let now = self.0.clock.monotonic();
        self.beats(who, |beats| {
            beats.asked.push_back((number, now));
            if beats.asked.len() > MOST_LATENCIES {
                beats.asked.pop_front();
            }
        });
    }

    /// It has answered that.
    pub(super) fn answered(&self, who: Who, answers: Generation) {
        let now = self.0.clock.monotonic();
        let epoch = self.0.control.view().state.position().epoch;
        if answers.epoch != epoch {
            return;
        }
        self.beats(who, |beats| {
            beats.answered = answers.number;
            while let Some((_, asked)) = beats.asked.pop_front_if(|(number, _)| *number <= answers.number) {
                beats.latencies.push_back(now.saturating_sub(asked));
                if beats.latencies.len() > MOST_LATENCIES {
                    beats.latencies.pop_front();
                }
            }
        });
    }

    /// Since how long something is desired that it has not answered.
    pub(super) fn unanswered(&self, who: Who) -> Option<Duration> {
        let now = self.0.clock.monotonic();
        let beats = self.0.pulses.get(&who.id).filter(|beats| beats.session == who.session)?;
        beats.asked.front().map(|(_, asked)| now.saturating_sub(*asked))
    }

    fn beats(&self, who: Who, change: impl FnOnce(&mut Beats)) {
        if let Some(mut beats) = self.0.pulses.get_mut(&who.id).filter(|beats| beats.session == who.session) {
            change(&mut beats);
        }
    }

    /// Ends the streams of these devices' workers, or of all: they come back at once, and tell everything. Which streams they
    /// were.
    #[must_use]
    pub fn reset(&self, only: Option<DeviceId>) -> Vec<(DeviceId, u64)> {
        let sessions = self.0.pulses.iter().filter(|beats| only.is_none_or(|only| only == *beats.key()));
        let mut sessions: Vec<(DeviceId, u64)> =
            sessions.map(|beats| (*beats.key(), beats.session)).collect();
        sessions.sort_unstable();
        sessions.retain(|(_, session)| match self.0.sessions.get(session) {
            Some(ends) => {
                ends.reset.cancel();
                true
            }
            None => false,
        });
        sessions
    }

    /// Whether this stream is there still.
    #[must_use]
    pub fn has_session(&self, session: u64) -> bool {
        self.0.sessions.contains_key(&session)
    }
}
