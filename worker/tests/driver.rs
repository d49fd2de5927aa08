//! The driver against every history of what is desired: in the end there is what was desired last, and every byte is accounted for.

#![expect(
    clippy::unwrap_used,
    reason = "the lint spares only functions marked as tests, not what they share"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hoist_domain::{Bytes, Dtype, Epoch, Generation, ReplicaFailure, ReplicaId, ReplicaState};
use hoist_runtime::{Clock, OnError, Shutdown, Tasks};
use hoist_worker::fake::{Fake, Mishap, Script};
use hoist_worker::policy::{Desired, Wanted};
use hoist_worker::suite::{self, Segments};
use hoist_worker::{Shared, View, drive};
use proptest::prelude::*;
use uuid::Uuid;

/// What nothing here may take.
const PATIENCE: Duration = Duration::from_secs(20);

const CONTENTS: u8 = 4;

/// Room for three of the four.
const CAPACITY: Bytes = Bytes(3 * (4_096 + 8_192) + 4_096);

/// One set: which replicas, by number, and whether their segments are complete; then whether it is waited for.
type Set = (Vec<(u8, bool)>, bool);

fn sets() -> impl Strategy<Value = Vec<Set>> {
    let set = prop::collection::btree_map(0..12_u8, prop::bool::weighted(0.9), 0..5);
    prop::collection::vec((set.prop_map(|set| set.into_iter().collect()), any::<bool>()), 1..12)
}

fn mishaps() -> impl Strategy<Value = Vec<Option<Mishap>>> {
    let failure = ReplicaFailure::Device("as scripted".to_owned());
    prop::collection::vec(prop_oneof![5 => Just(None), 1 => Just(Some(Mishap::Fail(failure)))], 0..20)
}

fn wanted(paths: &[PathBuf], (number, is_sealed): (u8, bool)) -> Wanted {
    let content = number % CONTENTS;
    Wanted {
        id: ReplicaId(Uuid::from_u128(number.into())),
        digest: suite::digest(content + 1),
        path: paths.get(usize::from(content)).unwrap().clone(),
        is_sealed,
        dtype: None,
    }
}

/// Whether there is nothing left to do for this set.
fn is_settled(view: &View, desired: &Desired) -> bool {
    let states: BTreeMap<ReplicaId, ReplicaState> =
        view.replicas.values().map(|replica| (replica.id, replica.state)).collect();
    let is_done = |wanted: &Wanted| match states.get(&wanted.id) {
        // One that was loaded stays so, whatever is said of its segment later.
        Some(ReplicaState::Active | ReplicaState::Failed) => true,
        Some(ReplicaState::Waiting | ReplicaState::Loading) => !wanted.is_sealed,
        _ => false,
    };
    view.answers == Some(desired.generation)
        && states.len() == desired.replicas.len()
        && desired.replicas.iter().all(is_done)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_there_in_the_end_is_what_was_desired_last(sets in sets(), mishaps in mishaps()) {
        let mut segments = Segments::new();
        let tensor = |content: u8| ("w".to_owned(), Dtype::U8, vec![8_192], suite::bytes(8_192, content.into()));
        let paths: Vec<PathBuf> =
            (0..CONTENTS).map(|content| segments.tensors(content + 1, &[tensor(content)])).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (shared, script) = (Shared::new(Clock::system()), Script::default());
            script.next_loads(mishaps);
            let (driver, id) = (shared.clone(), "cuda:0".parse().unwrap());
            let tasks = Tasks::new(Shutdown::new());
            let driving = tasks.spawn_thread("driver", OnError::Log, move || {
                drive(Box::new(move || Ok(Box::new(Fake::new(id, CAPACITY, script)))), &driver)
            });
            let mut views = shared.views();
            let mut last = Desired { generation: Generation { epoch: Epoch(1), number: 0 }, replicas: Vec::new() };
            for (set, is_awaited) in sets {
                let generation = Generation { number: last.generation.number + 1, ..last.generation };
                let replicas = set.into_iter().map(|one| wanted(&paths, one)).collect();
                last = Desired { generation, replicas };
                shared.take(last.clone(), Epoch(1)).unwrap();
                for (nth, wanted) in (1..).zip(&last.replicas) {
                    shared.filled(wanted.digest, "/nowhere/.filling-1".into(), Bytes::mib(8 * nth));
                }
                if is_awaited {
                    let settled = views.wait_for(|view| is_settled(view, &last));
                    drop(tokio::time::timeout(PATIENCE, settled).await.unwrap().unwrap());
                }
            }
            let settled = views.wait_for(|view| is_settled(view, &last));
            let view = tokio::time::timeout(PATIENCE, settled).await.unwrap().unwrap().clone();
            let there: u64 = view.replicas.values().map(|replica| replica.own.0).sum();
            assert_eq!(view.memory.used.0, there, "{view:?}");
            assert!(there <= CAPACITY.0);
            for replica in view.replicas.values() {
                assert_eq!(replica.state == ReplicaState::Failed, replica.failure.is_some(), "{replica:?}");
                let takes = matches!(replica.state, ReplicaState::Active | ReplicaState::Loading);
                assert_eq!(takes, replica.own.0 > 0, "{replica:?}");
            }
            assert!(view.removed.iter().all(|removed| removed.expected == removed.returned));
            assert!(view.removed.iter().zip(1..).all(|(removed, number)| removed.number == number), "each once, in order");
            shared.end();
            driving.unwrap().join().await;
            assert_eq!(views.borrow().memory.used, Bytes(0), "it ends with nothing");
        });
    }
}
