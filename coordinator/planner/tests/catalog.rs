//! Random histories of the catalog against a list of models that is searched from end to end.
//!
//! After every step the two are compared, and so are the indexes with a search of everything. What must hold whatever
//! happens is asserted beside it, from what was there before: a path has one model, an id keeps what people wrote, a
//! missing file costs nothing that they wrote, what is seen again as it is known changes nothing.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests are tests, and a failed check is a panic"
)]

#[path = "catalog/naive.rs"]
mod naive;
#[path = "catalog/steps.rs"]
mod steps;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use hoist_domain::{
    Digest, Epoch, FoundModel, Machine, MachineState, Model, ModelContent, ModelId, ModelNotes, ModelPath,
    ModelState, Observation, Position, Revision, Validation, Verdict, WallTime,
};
use hoist_planner::{Decision, Event, Examination, State, delete_model, edit, examined, observe};
use naive::Naive;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestRunner};
use steps::{Look, PATHS, Sight, Step, content, step};
use uuid::Uuid;

/// Histories in CI; `HOIST_SOAK` multiplies them.
const HISTORIES: u32 = 3 * 1_000;

struct History {
    state: State,
    naive: Naive,
    now: WallTime,
    /// Every model there ever was, and one that there never was.
    ids: Vec<ModelId>,
    seen: BTreeSet<&'static str>,
}

impl History {
    fn new() -> Self {
        let machine = Machine {
            state: MachineState::Serving,
            version: String::new(),
            process_id: 1,
            started_at: WallTime(0),
            measurements: Vec::new(),
        };
        let start = Position { epoch: Epoch(1), revision: Revision(0) };
        let state = State::restore(start, machine, [], [], []);
        let ids = vec![ModelId(Uuid::from_u128(u128::MAX))];
        Self { state, naive: Naive::default(), now: WallTime(0), ids, seen: BTreeSet::new() }
    }

    fn id(&self, index: u8) -> ModelId {
        self.ids[usize::from(index) % self.ids.len()]
    }

    fn step(&mut self, step: Step) {
        self.now = WallTime(self.now.0 + 1);
        let before: BTreeMap<ModelId, Model> = self.models();
        match step {
            Step::Observe(sights) => self.observe(&sights, &before),
            Step::Edit { id, etag, alias, text } => self.edit(self.id(id), etag, alias, text),
            Step::Delete { id, etag } => self.delete(self.id(id), etag),
            Step::Examine { id, of, digests, verdict } => {
                self.examine(self.id(id), of, &digests, verdict, &before);
            }
        }
        self.compare();
    }

    fn models(&self) -> BTreeMap<ModelId, Model> {
        self.state.models().iter().map(|model| (model.id, Model::clone(model))).collect()
    }

    fn apply(&mut self, events: &Decision) {
        let revision = self.state.position().revision;
        let delta = self.state.apply(events);
        assert_eq!(delta.is_some(), !events.is_empty());
        assert_eq!(self.state.position().revision.0, revision.0 + u64::from(delta.is_some()));
    }

    fn observation(&mut self, sight: &Sight) -> Observation {
        match sight {
            Sight::Seen { look, moved_from } => {
                // Of a model that may not be there, or not there any more.
                let moved_from = moved_from.map(|(id, is_there)| {
                    let id = self.id(id);
                    let at = self.state.models().get(id).map(|model| model.path.clone());
                    let elsewhere = ModelPath::new(Path::new("/elsewhere"));
                    (id, if is_there { at.unwrap_or(elsewhere) } else { elsewhere })
                });
                let new_id = ModelId(Uuid::from_u128(self.ids.len() as u128));
                self.ids.push(new_id);
                let path = ModelPath::new(Path::new(PATHS[look.path]));
                let path_name = path.text().as_ref().into();
                let content = Arc::new(content(*look));
                Observation::Found(Box::new(FoundModel { path, path_name, content, moved_from, new_id }))
            }
            Sight::SeenAgain(id) => self.found_at(self.id(*id), None),
            Sight::Moved { id, path } => {
                self.found_at(self.id(*id), Some(ModelPath::new(Path::new(PATHS[*path]))))
            }
            Sight::Overwritten(id) => Observation::Overwritten { id: self.id(*id) },
            Sight::Gone { id, path } => {
                let id = self.id(*id);
                let at = self.state.models().get(id).map(|model| model.path.clone());
                let stale = path.map(|path| ModelPath::new(Path::new(PATHS[path])));
                let path = stale.or(at).unwrap_or_else(|| ModelPath::new(Path::new("/nowhere")));
                Observation::Gone { id, path }
            }
        }
    }

    /// A known model's files at its place or at another one, as a look finds them: without digests.
    fn found_at(&mut self, id: ModelId, elsewhere: Option<ModelPath>) -> Observation {
        let Some(model) = self.state.models().get(id).cloned() else {
            return Observation::Gone { id, path: ModelPath::new(Path::new("/nowhere")) };
        };
        // It may have gone in the same look, and then this one is new.
        let new_id = ModelId(Uuid::from_u128(self.ids.len() as u128));
        self.ids.push(new_id);
        let mut content = ModelContent::clone(&model.content);
        content.components.iter_mut().for_each(|component| component.digest = None);
        content.is_touched = false;
        let path = elsewhere.clone().unwrap_or_else(|| model.path.clone());
        Observation::Found(Box::new(FoundModel {
            path_name: path.text().as_ref().into(),
            path,
            content: Arc::new(content),
            moved_from: elsewhere.map(|_| (id, model.path.clone())),
            new_id,
        }))
    }

    fn observe(&mut self, sights: &[Sight], before: &BTreeMap<ModelId, Model>) {
        let observations: Vec<Observation> = sights.iter().map(|sight| self.observation(sight)).collect();
        let (events, changes) = observe(&self.state, &observations, self.now);
        let expected = self.naive.observe(&observations, self.now);
        assert_eq!(changes, expected, "{observations:?}");
        let counted = changes.added + changes.changed + changes.moved + changes.missing;
        assert_eq!(counted, events.len() as u64, "each change is counted once");
        self.apply(&events);
        let after = self.models();
        for (id, was) in before {
            match after.get(id) {
                Some(is) => {
                    assert_eq!((&was.notes, was.discovered_at), (&is.notes, is.discovered_at), "{id}");
                    self.see(was.path != is.path && was.notes.is_some(), "moved with notes");
                    // Of several looks at once, only the last can be seen from here.
                    if observations.len() == 1 {
                        self.keeps_what_bytes_say(was, is);
                    }
                }
                None => assert!(was.notes.is_none(), "a look at the disk forgot what people wrote of {id}"),
            }
        }
        // Whatever was claimed: the last word on a path that was seen is a model there.
        for (number, observation) in observations.iter().enumerate() {
            let Observation::Found(found) = observation else { continue };
            let later = &observations[number + 1..];
            let is_spoken_of = |other: &Observation| match other {
                Observation::Gone { path, .. } => *path == found.path,
                Observation::Overwritten { .. } => false,
                Observation::Found(other) => {
                    other.moved_from.as_ref().is_some_and(|(_, from)| *from == found.path)
                }
            };
            if !later.iter().any(is_spoken_of) {
                let at = self.state.models().at(&found.path);
                assert!(at.is_some_and(|model| model.state == ModelState::Available), "{found:?}");
            }
        }
        // Seen once more, what was seen last at each path changes nothing.
        let settled: Vec<Observation> = after.values().filter_map(seen_as_it_is).collect();
        assert_eq!(observe(&self.state, &settled, self.now).0, Vec::new(), "an equal look changed something");
        self.see(changes.added > 0, "added");
        self.see(changes.changed > 0, "changed");
        self.see(changes.moved > 0, "moved");
        self.see(changes.missing > 0 && after.len() < before.len(), "forgotten");
        let missing = |models: &BTreeMap<ModelId, Model>| {
            models.values().filter(|model| model.state == ModelState::Missing).count()
        };
        self.see(missing(&after) > missing(before), "missing");
        self.see(missing(&after) < missing(before), "back");
        let displaced = |models: &BTreeMap<ModelId, Model>, has_notes| {
            let is =
                |model: &&Model| model.state == ModelState::Displaced && model.notes.is_some() == has_notes;
            models.values().filter(is).count()
        };
        self.see(displaced(&after, true) > displaced(before, true), "displaced with notes");
        self.see(displaced(&after, true) < displaced(before, true), "found elsewhere");
        self.see(displaced(&after, false) < displaced(before, false), "displaced for good");
        self.see(events.is_empty(), "nothing new");
    }

    fn keeps_what_bytes_say(&mut self, was: &Model, is: &Model) {
        let bytes = |model: &Model| {
            let identity = model.content.files[0].identity;
            (identity.inode, identity.size, identity.modified_ns)
        };
        let is_same = bytes(was) == bytes(is);
        let kept = if is_same { was.validation.clone() } else { None };
        assert_eq!(is.validation, kept, "a validation is of the bytes it was made of");
        for component in &is.content.components {
            let same = was.content.components.iter().find(|old| old.name == component.name);
            let digest = same.and_then(|old| old.digest).filter(|_| is_same);
            assert_eq!(component.digest, digest, "a digest is of the bytes it was made of");
        }
        let has_digest = |model: &Model| model.content.components.iter().any(|c| c.digest.is_some());
        self.see(is_same && was.content != is.content && has_digest(is), "digest kept");
        self.see(is.content.is_touched, "digest in doubt");
        self.see(!is_same && has_digest(was), "digest dropped");
        self.see(!is_same && was.validation.is_some(), "validation dropped");
    }

    fn edit(&mut self, id: ModelId, etag: Option<u64>, alias: Option<u8>, text: u8) {
        let notes = ModelNotes {
            // What a caller says about the edition is not believed.
            edition: 77,
            aliases: alias.map(|alias| format!("alias {alias}")).into_iter().collect(),
            description: if text == 0 { String::new() } else { format!("text {text}") },
            ..ModelNotes::default()
        };
        let etag = etag.map(|etag| etag.to_string());
        let decided = edit(&self.state, id, etag.as_deref(), notes.clone());
        let expected = self.naive.edit(id, etag.as_deref(), notes);
        match (decided, expected) {
            (Ok(events), Ok(changed)) => {
                assert_eq!(!events.is_empty(), changed, "an edit that says nothing new is no change");
                self.apply(&events);
                self.see(changed, "edited");
                self.see(!changed, "edited in vain");
            }
            (Err(error), Err(reason)) => {
                assert_eq!(error.reason(), reason);
                self.see(true, reason.as_str());
            }
            (decided, expected) => panic!("{decided:?}, where {expected:?} is due"),
        }
    }

    fn delete(&mut self, id: ModelId, etag: Option<u64>) {
        let etag = etag.map(|etag| etag.to_string());
        let decided = delete_model(&self.state, id, etag.as_deref());
        match (decided, self.naive.delete(id, etag.as_deref())) {
            (Ok(events), Ok(())) => {
                assert_eq!(events, vec![Event::ModelForgotten { id }]);
                self.apply(&events);
                self.see(true, "deleted");
            }
            (Err(error), Err(reason)) => assert_eq!(error.reason(), reason),
            (decided, expected) => panic!("{decided:?}, where {expected:?} is due"),
        }
    }

    fn examine(
        &mut self,
        id: ModelId,
        of: Option<Look>,
        digests: &[(usize, u8)],
        verdict: Option<bool>,
        before: &BTreeMap<ModelId, Model>,
    ) {
        let known = before.get(&id).map(|model| ModelContent::clone(&model.content));
        let is_stale = of.is_some();
        let Some(of) = of.map(content).or(known) else { return };
        let digests: Vec<_> =
            digests.iter().map(|(number, digest)| (*number, Digest([*digest; 32]))).collect();
        let validation = verdict.map(|is_ok| Validation {
            verdict: if is_ok { Verdict::Ok } else { Verdict::Corrupt },
            findings: Box::default(),
            at: self.now,
        });
        let examination = Examination { id, of: Arc::new(of), digests, validation };
        let changed = self.naive.examine(&examination);
        let events = examined(&self.state, examination);
        assert_eq!(!events.is_empty(), changed);
        self.apply(&events);
        self.see(changed, "examined");
        self.see(is_stale && !changed, "examined too late");
    }

    fn see(&mut self, is_seen: bool, what: &'static str) {
        if is_seen {
            self.seen.insert(what);
        }
    }

    /// Everything, and every index, against the list.
    fn compare(&self) {
        let models = self.state.models();
        let found: Vec<Model> = models.iter().map(|model| Model::clone(model)).collect();
        let mut due = self.naive.models.clone();
        due.sort_by_key(|model| model.id);
        assert_eq!(found, due);
        assert_eq!((models.len(), models.is_empty()), (due.len(), due.is_empty()));
        let holds = |model: &&Model| model.state != ModelState::Displaced;
        let paths: BTreeSet<&Path> = due.iter().filter(holds).map(|model| model.path.as_path()).collect();
        assert_eq!(paths.len(), due.iter().filter(holds).count(), "two models at one path");
        for path in PATHS.map(|path| ModelPath::new(Path::new(path))) {
            let at = due.iter().filter(holds).find(|model| model.path == path).map(|model| model.id);
            assert_eq!(models.at(&path).map(|model| model.id), at, "{path}");
            let mut below: Vec<_> =
                due.iter().filter(|model| model.path.as_path().starts_with(path.as_path())).collect();
            let place = |model: &Model| (model.path.clone(), !holds(&model), model.id);
            below.sort_by_key(|model| place(model));
            let found: Vec<&Model> = models.below(&path).map(Arc::as_ref).collect();
            assert_eq!(found, below, "below {path}");
        }
        for inode in 0..5 {
            let of: Vec<_> =
                due.iter().filter(|model| model.content.files[0].identity.inode == inode).collect();
            let found: Vec<&Model> = models.of_file(1, inode).map(Arc::as_ref).collect();
            assert_eq!(found, of, "of file {inode}");
        }
        for (position, model) in models.with_position() {
            assert!(position <= self.state.position(), "{} was changed in the future", model.id);
        }
    }
}

fn seen_as_it_is(model: &Model) -> Option<Observation> {
    (model.state == ModelState::Available).then(|| {
        Observation::Found(Box::new(FoundModel {
            path: model.path.clone(),
            path_name: Arc::clone(&model.path_name),
            content: Arc::clone(&model.content),
            moved_from: None,
            new_id: ModelId(Uuid::from_u128(u128::MAX - 1)),
        }))
    })
}

/// `HOIST_SOAK` is read here and nowhere else in this crate's catalog.
fn histories() -> u32 {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test is its own edge; only the number of rounds depends on it"
    )]
    let factor = std::env::var("HOIST_SOAK");
    HISTORIES.saturating_mul(factor.ok().and_then(|text| text.parse().ok()).unwrap_or(1))
}

/// What the histories must have come across, taken together: what never happens is not tested.
const EVERYTHING: [&str; 23] = [
    "added",
    "changed",
    "moved",
    "moved with notes",
    "forgotten",
    "missing",
    "back",
    "displaced with notes",
    "found elsewhere",
    "displaced for good",
    "digest in doubt",
    "nothing new",
    "digest kept",
    "digest dropped",
    "validation dropped",
    "edited",
    "edited in vain",
    "RESOURCE_NOT_FOUND",
    "ETAG_MISMATCH",
    "FIELD_INVALID",
    "deleted",
    "examined",
    "examined too late",
];

#[test]
fn the_catalog_is_what_a_list_of_models_would_be_after_every_step() {
    let config = ProptestConfig {
        cases: histories(),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    };
    let seen = RefCell::new(BTreeSet::new());
    let outcome = TestRunner::new(config).run(&prop::collection::vec(step(), 1..60), |steps| {
        let mut history = History::new();
        for step in steps {
            history.step(step);
        }
        seen.borrow_mut().append(&mut history.seen);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    assert_eq!(seen.take(), BTreeSet::from(EVERYTHING));
}
