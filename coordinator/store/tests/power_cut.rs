//! A power cut leaves the last acknowledged commit, or the one in flight, and nothing else.
#![expect(clippy::panic, reason = "helpers of tests are tests")]

mod support;

use hoist_domain::Epoch;
use hoist_store::simulate::{SimulatedDisk, open_simulated};
use hoist_store::{ExportHeader, Exporter, Opened, Recovery, Store};
use support::{Random, Rows, apply, as_map, as_rows, scattered, seeds};

/// What must be there after a cut: the acknowledged rows, or those of the commit that was in flight.
#[derive(Default)]
struct Expected {
    epoch: Epoch,
    revision: u64,
    rows: Rows,
    in_flight: Option<Rows>,
}

impl Expected {
    fn check(&mut self, opened: &Opened, seed: u64) {
        assert_eq!(opened.recovery, Recovery::Clean, "seed {seed}");
        assert!(opened.epoch > self.epoch, "seed {seed}: epoch {} after {}", opened.epoch, self.epoch);
        self.epoch = opened.epoch;
        if opened.revision.0 == self.revision + 1 {
            self.rows = self.in_flight.take().unwrap_or_else(|| panic!("seed {seed}: a commit nobody made"));
            self.revision += 1;
        }
        assert_eq!(opened.revision.0, self.revision, "seed {seed}");
        assert_eq!(opened.service_time.0, self.revision * 10, "seed {seed}");
        assert_eq!(as_map(&opened.rows), self.rows, "seed {seed}");
        self.in_flight = None;
    }

    /// Commits until the machine stops, or enough has been done.
    fn work(&mut self, store: &mut dyn Store, exporter: &mut dyn Exporter, random: &mut Random) {
        for _ in 0..12 {
            let batch = scattered(random, self.revision + 1);
            let mut after = self.rows.clone();
            apply(&mut after, &batch);
            if store.commit(&batch).is_err() {
                self.in_flight = Some(after);
                return;
            }
            self.revision += 1;
            self.rows = after;
            if random.below(8) == 0 {
                let header = ExportHeader { revision: batch.revision, service_time: batch.service_time };
                // Fails when the machine is off, which the next commit notices.
                exporter.export(header, &mut as_rows(&self.rows)).ok();
            }
        }
    }
}

#[test]
fn an_acknowledged_commit_survives_every_power_cut() {
    let mut in_flight_landed = 0;
    let mut cut_in_flight = 0;
    for seed in 0..seeds(1_000) {
        let mut random = Random::new(seed);
        let disk = SimulatedDisk::new();
        let mut expected = Expected::default();
        for life in 0..3 {
            if random.below(4) == 0 {
                // A cut while opening, or soon after.
                disk.stop_after(random.below(40));
            }
            if let Ok((mut store, mut exporter, opened)) = open_simulated(&disk) {
                let before = expected.revision;
                cut_in_flight += u64::from(expected.in_flight.is_some());
                expected.check(&opened, seed);
                in_flight_landed += expected.revision - before;
                disk.stop_after(random.below(120));
                expected.work(store.as_mut(), exporter.as_mut(), &mut random);
                if random.below(4) != 0 {
                    // The rest are closed, so that a cut can hit the closing.
                    disk.power_cut(seed * 8 + life);
                }
            }
            disk.power_cut(seed * 8 + 4 + life);
        }
        let (_, _, opened) = open_simulated(&disk).unwrap();
        expected.check(&opened, seed);
    }
    // Otherwise the cuts miss what they are for.
    assert!(cut_in_flight > 0 && in_flight_landed > 0 && in_flight_landed < cut_in_flight);
}
