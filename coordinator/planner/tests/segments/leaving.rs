//! What goes: asked for, idle, because there is less memory; and what becomes of it.

use std::collections::{BTreeMap, BTreeSet};

use hoist_domain::{
    Bytes, Digest, Eviction, EvictionReason, ModelId, Priority, SegmentName, SegmentState, Veto,
};
use hoist_planner::Event;
use hoist_planner::cache::{Facts, evict, shrink};

use crate::histories::{History, places};
use crate::world::{CONTENTS, MODELS, digest, eviction, facts, model_id};

impl History {
    pub(crate) fn evict(&mut self, parts: &[(usize, Option<usize>)], content: Option<u8>, is_dry: bool) {
        // Of each model the places that are asked out, and whether they are all by name of the whole.
        let mut asked: BTreeMap<usize, (BTreeSet<usize>, bool)> = BTreeMap::new();
        let mut named: Vec<(usize, Vec<&str>)> = Vec::new();
        for (number, component) in parts {
            let (of_it, is_whole) = asked.entry(*number).or_default();
            let places = places(*number, *component);
            of_it.extend(places.iter().copied());
            *is_whole |= component.is_none();
            let names = places.iter().filter(|_| component.is_some());
            named.push((*number, names.map(|place| MODELS[*number][*place].0).collect()));
        }
        let is_all = asked.is_empty() && content.is_none();
        let segments: BTreeSet<Digest> = content.map(digest).into_iter().collect();
        let named: Vec<(usize, &[&str])> = named.iter().map(|(number, names)| (*number, &**names)).collect();
        let ask = eviction(&named, content.as_slice(), &self.open);
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
            let asks = |(number, (places, is_whole)): (&usize, &(BTreeSet<usize>, bool))| {
                let model = self.naive.models.get(&model_id(*number))?;
                let is_former = *is_whole && segment.wanted_by.contains(&model.id);
                let is_of = |place: &usize| model.content.components[*place].digest == Some(digest);
                (is_former || places.iter().any(is_of)).then(|| (model.clone(), places.clone()))
            };
            let asking: Vec<_> = asked.iter().filter_map(asks).collect();
            let is_named = is_all || segments.contains(&digest);
            if !is_named && asking.is_empty() || segment.state == SegmentState::Evicting {
                continue;
            }
            let asks = |id: &ModelId| asking.iter().any(|(model, _)| model.id == *id);
            let mut others = segment.wanted_by.iter().filter(|id| !asks(id));
            let other = others.find(|id| !is_named && self.naive.models.contains_key(id));
            let kept = match self.naive.veto(digest, &self.open) {
                Some(Veto::Filling) => Some("kept: filling"),
                Some(Veto::Leased) => Some("kept: leased"),
                Some(Veto::Pinned) => Some("kept: pinned"),
                Some(Veto::Open) => Some("kept: open"),
                None => other.map(|other| {
                    let is_named_too = asked.keys().any(|number| model_id(*number) == *other);
                    if is_named_too { "kept: other parts named" } else { "kept: shared" }
                }),
            };
            let together = segment.wanted_by.iter().filter(|id| asks(id)).count() > 1;
            self.seen.insert(match kept {
                Some(kept) => kept,
                None if is_dry => "evicted dry",
                None if !segments.is_empty() && asking.is_empty() => "evicted by its digest",
                None if together => "evicted together",
                None => "evicted",
            });
            expected.push((digest, segment.bytes, kept.is_some()));
            if is_dry {
                continue;
            }
            // What stays for others alone is not these models' any more, unless another part of one is that.
            let is_let_go = matches!(kept, Some("kept: shared" | "kept: other parts named"));
            for (model, places) in asking.iter().filter(|_| is_let_go) {
                let parts = model.content.components.iter().enumerate();
                let mut unasked = parts.filter(|(place, _)| !places.contains(place));
                if segment.wanted_by.contains(&model.id)
                    && !unasked.any(|(_, part)| part.digest == Some(digest))
                {
                    self.naive.segments.get_mut(&name).unwrap().wanted_by.remove(&model.id);
                    if places.len() < model.content.components.len() {
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
