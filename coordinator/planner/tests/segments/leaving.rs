//! What goes: asked for, idle, because there is less memory; and what becomes of it.

use std::collections::{BTreeMap, BTreeSet};

use hoist_domain::{Bytes, Digest, Eviction, EvictionReason, Priority, SegmentName, SegmentState, Veto};
use hoist_planner::Event;
use hoist_planner::cache::{Facts, evict, shrink};

use crate::histories::{History, places};
use crate::world::{CONTENTS, MODELS, digest, eviction, facts, model_id};

impl History {
    pub(crate) fn evict(&mut self, number: Option<usize>, component: Option<usize>, is_dry: bool) {
        let places = number.map_or(Vec::new(), |number| places(number, component));
        let asked = number.map(model_id);
        let names: Vec<&str> = number
            .filter(|_| component.is_some())
            .map_or(Vec::new(), |number| places.iter().map(|place| MODELS[number][*place].0).collect());
        let ask = eviction(number, &names, &self.open);
        let (events, told) = self.decide(|state| evict(state, &ask, self.now()));
        let before = self.state.clone();
        if !is_dry {
            self.apply(&events);
        }
        let mut expected = Vec::new();
        for content in 0..CONTENTS {
            let digest = digest(content);
            let name = SegmentName::Content(digest);
            let Some(segment) = self.naive.segments.get(&name).cloned() else { continue };
            let model = asked.map(|id| self.naive.models.get(&id));
            let is_asked = match model {
                None => true,
                Some(None) => false,
                Some(Some(model)) => {
                    let parts = places.iter().map(|place| &model.content.components[*place]);
                    let is_former = component.is_none() && segment.wanted_by.contains(&model.id);
                    is_former || parts.into_iter().any(|part| part.digest == Some(digest))
                }
            };
            if !is_asked || segment.state == SegmentState::Evicting {
                continue;
            }
            let others = segment.wanted_by.iter().filter(|other| Some(**other) != asked);
            let is_shared =
                asked.is_some() && others.into_iter().any(|other| self.naive.models.contains_key(other));
            let kept = match self.naive.veto(digest, &self.open) {
                Some(Veto::Filling) => Some("kept: filling"),
                Some(Veto::Leased) => Some("kept: leased"),
                Some(Veto::Pinned) => Some("kept: pinned"),
                Some(Veto::Open) => Some("kept: open"),
                None => is_shared.then_some("kept: shared"),
            };
            self.seen.insert(kept.unwrap_or(if is_dry { "evicted dry" } else { "evicted" }));
            expected.push((digest, segment.bytes, kept.is_some()));
            if is_dry {
                continue;
            }
            // What stays for others alone is not this model's any more, unless another part of it is that.
            let is_let_go = kept == Some("kept: shared");
            if let Some(model) =
                model.flatten().filter(|model| is_let_go && segment.wanted_by.contains(&model.id))
            {
                let parts = model.content.components.iter().enumerate();
                let mut unasked = parts.filter(|(place, _)| !places.contains(place));
                if !unasked.any(|(_, part)| part.digest == Some(digest)) {
                    let id = model.id;
                    self.naive.segments.get_mut(&name).unwrap().wanted_by.remove(&id);
                    if component.is_some() {
                        self.seen.insert("component let go");
                    }
                }
            }
            if kept.is_none() {
                self.naive.evict(digest, Eviction { reason: EvictionReason::Asked, beneficiary: None });
            }
        }
        let told: Vec<_> = told.iter().map(|one| (one.digest, one.bytes, one.kept.is_some())).collect();
        assert_eq!(told, expected);
        if is_dry {
            assert_eq!(before.position(), self.state.position());
        }
    }

    pub(crate) fn out(&mut self, is_opened: bool) {
        let Some((digest, bytes)) = self.outs.pop_front() else { return };
        let still_open = is_opened.then_some(bytes);
        self.seen.insert(if is_opened { "left by those who have it open" } else { "out" });
        self.open.remove(&digest);
        self.apply(&[Event::SegmentOut { digest, still_open }]);
        self.naive.out(digest, still_open);
    }

    pub(crate) fn free(&mut self, zombie: usize, part: Option<u64>) {
        let zombies: Vec<(Digest, u64)> =
            self.naive.zombies.iter().map(|(of, bytes)| (*of, *bytes)).collect();
        if zombies.is_empty() {
            return;
        }
        let (digest, bytes) = zombies[zombie % zombies.len()];
        let bytes = part.map_or(bytes, |part| part.min(bytes));
        self.apply(&[Event::ZombieFreed { digest, freed: Bytes(bytes) }]);
        self.naive.free(digest, bytes);
        self.seen.insert(if self.naive.zombies.contains_key(&digest) { "freed in part" } else { "freed" });
    }

    pub(crate) fn shrink(&mut self, budget: u64) {
        let facts: Facts = facts(budget, &self.open);
        let answer = self.decide(|state| shrink(state, &facts, self.now()));
        let mut others = self.naive.evictable(&self.open, Priority::Critical);
        let expired: BTreeMap<Digest, u64> =
            others.extract_if(.., |digest, _| self.naive.is_expired(*digest)).collect();
        let over = (self.naive.used() - expired.values().sum::<u64>()).saturating_sub(budget);
        let (events, shortage) = match answer {
            Ok(events) => (events, None),
            Err((events, shortage)) => (events, Some(shortage)),
        };
        let (mut idle, mut pressed) = (Vec::new(), Vec::new());
        for event in &events {
            let Event::SegmentEvicting { digest, eviction, .. } = event else { panic!("{event:?}") };
            let victims = match *eviction {
                Eviction { reason: EvictionReason::Idle, beneficiary: None } => &mut idle,
                Eviction { reason: EvictionReason::Pressure, beneficiary: None } => &mut pressed,
                other => panic!("{other:?}"),
            };
            victims.push(*digest);
            self.naive.evict(*digest, *eviction);
        }
        assert_eq!(idle, expired.keys().copied().collect::<Vec<_>>(), "what was idle for too long goes");
        let most: u64 = others.values().sum();
        assert_eq!(shortage.is_some(), over > most);
        match shortage {
            None => self.enough(&pressed, over, &others),
            Some(shortage) => {
                assert_eq!(pressed.iter().collect::<BTreeSet<_>>(), others.keys().collect());
                assert_eq!(shortage.evictable, Bytes(most));
                self.seen.insert("tight");
            }
        }
        for (is_so, what) in [(!idle.is_empty(), "idle"), (!pressed.is_empty(), "pressure")] {
            if is_so {
                self.seen.insert(what);
            }
        }
        self.apply(&events);
        let (Ok(again) | Err((again, _))) = self.decide(|state| shrink(state, &facts, self.now()));
        assert_eq!(again, [], "shrunk again");
    }
}
