//! What operations do: they ask for room, fill it, and end.

use std::collections::{BTreeMap, BTreeSet};

use hoist_domain::{
    Digest, Error, Eviction, EvictionReason, OperationId, Outcome, Priority, Reason, SegmentName,
    SegmentState,
};
use hoist_planner::cache::{Holder, Identity, Reservation, Reserved, Sealing, complete, identify, reserve};
use hoist_planner::{Event, finish, schedule, submit};

use crate::histories::{Client, History, LIMITS, places};
use crate::world::{MODELS, bytes_of, digest, facts, model_id, report, spec, submission, want};

/// More than operations at a time: in each somebody has what another waits for.
const ROUNDS: usize = 2 * LIMITS.active_operations;

impl History {
    pub(crate) fn submit(&mut self, model: usize, component: Option<usize>, priority: Priority) {
        let places = places(model, component);
        let names: Vec<&str> = component.into_iter().map(|_| MODELS[model][places[0]].0).collect();
        let id = self.fresh();
        let submission = submission(id, spec(model, &names, priority));
        let Ok(submitted) = self.decide(|state| submit(state, &submission, self.now(), &LIMITS)) else {
            return;
        };
        self.apply(&submitted.events);
        let events = self.decide(|state| schedule(state, self.now()));
        self.apply(&events);
        if self.clients.iter().all(|client| client.id != submitted.operation) {
            self.clients.push(Client {
                id: submitted.operation,
                model,
                priority,
                components: places,
                contents: self.models[model].contents.clone(),
                found: BTreeSet::new(),
                named: BTreeSet::new(),
            });
        }
    }

    pub(crate) fn reserve(&mut self, number: usize, budget: u64, with_wants: bool) {
        let Some(client) = self.clients.get(number) else { return };
        let entry = &self.models[client.model];
        let is_known = |place: &usize| {
            let said = entry.known.contains(place) && entry.contents == client.contents && entry.is_listed;
            said || client.found.contains(place)
        };
        let places = client.components.iter().filter(|_| with_wants);
        let wants = places.map(|place| want(client.model, *place, client.contents[*place], is_known(place)));
        let ask = Reservation {
            operation: client.id,
            model: model_id(client.model),
            priority: client.priority,
            parts: wants.collect(),
            facts: facts(budget, &self.open),
        };
        let answer = self.decide(|state| reserve(state, &ask, self.now()));
        let (events, answer) = answer;
        if self.state.operation(ask.operation).unwrap().cancel_requested {
            assert_eq!(answer.as_ref().map_err(Error::reason).unwrap_err(), Reason::OperationCancelled);
            self.apply(&events);
            self.seen.insert("refused as it is cancelled");
            return;
        }
        let expected = self.naive.expect_reserve(&ask);
        // Not what it wants itself.
        let mut evictable = self.naive.evictable(&self.open, ask.priority);
        evictable.retain(|digest, _| ask.parts.iter().all(|want| want.name != SegmentName::Content(*digest)));
        let most: u64 = evictable.values().sum();
        let reserved = match answer {
            Ok(reserved) => reserved,
            Err(error) => {
                assert_eq!(error.reason(), Reason::RamExhausted, "{error}");
                assert!(expected.over > most, "refused: {} over, {most} evictable; {error}", expected.over);
                self.apply(&events);
                self.naive.statistics.refusals += 1;
                self.seen.insert("refused");
                return;
            }
        };
        assert!(expected.over <= most, "{} over, {most} evictable, and it was granted", expected.over);
        assert_eq!(reserved.present, expected.present);
        assert_eq!(reserved.fill, expected.fill);
        assert_eq!(reserved.awaited, expected.awaited);
        self.enough(&reserved.victims, expected.over, &evictable);
        self.note_reserved(&ask, &reserved);
        let room = Eviction { reason: EvictionReason::Room, beneficiary: Some(ask.model) };
        self.naive.reserve(&ask, &reserved, room);
        self.apply(&events);
        let fills = self.state.cache().filled_by(ask.operation).next().is_some();
        assert!(!fills || self.naive.used() <= budget, "over the budget after a reservation");
        let (events, again) = self.decide(|state| reserve(state, &ask, self.now()));
        let again = again.unwrap();
        assert_eq!((&again.fill, &again.victims), (&Vec::new(), &Vec::new()), "reserved again");
        let is_want =
            |event: &Event| matches!(event, Event::SegmentWanted { interest, .. } if !interest.is_use);
        assert!(events.iter().all(is_want), "reserved again: {events:?}");
        self.seen.insert("reserved again");
    }

    /// They may go, are enough, and none could be spared.
    pub(crate) fn enough(&self, victims: &[Digest], over: u64, evictable: &BTreeMap<Digest, u64>) {
        let bytes: Vec<u64> = victims.iter().map(|victim| evictable[victim]).collect();
        let freed: u64 = bytes.iter().sum();
        assert_eq!(victims.iter().collect::<BTreeSet<_>>().len(), victims.len());
        assert!(freed >= over && bytes.iter().all(|one| freed - one < over), "{bytes:?} for {over}");
    }

    fn note_reserved(&mut self, ask: &Reservation, reserved: &Reserved) {
        let mut note = |is_so: bool, what| {
            if is_so {
                self.seen.insert(what);
            }
        };
        note(!reserved.present.is_empty(), "found present");
        note(!reserved.awaited.is_empty(), "awaited");
        let zombies = &self.naive.zombies;
        let is_beside = |name: &SegmentName, want: &SegmentName| {
            name != want && want.digest().is_some_and(|digest| zombies.contains_key(&digest))
        };
        note(
            reserved.fill.iter().any(|(place, name)| is_beside(name, &ask.parts[*place].name)),
            "filled beside a zombie",
        );
        note(!reserved.victims.is_empty(), "room made");
        note(!reserved.victims.is_empty() && ask.parts.is_empty(), "room made for what is being filled");
        let is_over = self.naive.used() > ask.facts.budget.0;
        note(is_over && reserved.fill.is_empty() && !ask.parts.is_empty(), "room not needed");
    }

    /// An operation has read what it fills, and asks what of it is new; what it has to wait for it asks for again.
    pub(crate) fn identify(&mut self, number: usize, is_reversed: bool, odd: Option<u8>, is_learned: bool) {
        let Some(client) = self.clients.get_mut(number) else { return };
        let (id, of) = (client.id, client.model);
        let filled =
            self.naive.fillers.iter().filter(|(name, by)| **by == id && !client.named.contains(name));
        let filled: Vec<SegmentName> = filled.map(|(name, _)| *name).collect();
        let mut found = Vec::new();
        for name in filled {
            let content = match name {
                SegmentName::Content(digest) => digest.0[0] - 1,
                SegmentName::Source { component, .. } => {
                    let place = usize::try_from(component).unwrap();
                    if client.found.insert(place) {
                        client.contents[place] = odd.unwrap_or(client.contents[place]);
                    }
                    client.contents[place]
                }
            };
            found.push((name, digest(content)));
        }
        if is_reversed {
            found.reverse();
        }
        if is_learned && self.models[of].contents == client.contents {
            let found = client.found.clone();
            self.models[of].known.extend(found);
            self.list(of);
        }
        let (events, identities) = self.decide(|state| identify(state, id, &found, self.now()));
        self.apply(&events);
        assert_eq!(identities.len(), found.len());
        for ((from, digest), identity) in found.into_iter().zip(identities) {
            let name = SegmentName::Content(digest);
            self.note_identified(from, digest, id);
            assert_eq!(self.naive.identify(id, from, digest), identity, "{from} is {digest}");
            match identity {
                Identity::New => drop(self.clients[number].named.insert(name)),
                Identity::Equal => {
                    let held = (name, Holder::Operation(id));
                    assert!(self.naive.holds.contains(&held), "{name} is needed, and not held");
                    self.note_shared(name);
                }
                Identity::Awaited => assert_eq!(self.naive.fillers.get(&from), Some(&id)),
            }
        }
    }

    /// Before it is told what it is.
    fn note_identified(&mut self, from: SegmentName, digest: Digest, id: OperationId) {
        let name = SegmentName::Content(digest);
        let known = self.naive.segments.get(&name);
        let is_own = self.naive.fillers.get(&name) == Some(&id);
        let what = match known.map(|segment| (segment.state, segment.is_zombie)) {
            _ if from == name => "known before it was read",
            None => "named",
            Some((SegmentState::Sealed, _)) => "equal to what is complete",
            Some((SegmentState::Filling, _)) if is_own => "equal to its own",
            Some((SegmentState::Filling, _)) => "named after another",
            Some((_, true)) => "named beside a zombie",
            Some((_, false)) => "named after what goes",
        };
        self.seen.insert(what);
    }

    fn note_shared(&mut self, name: SegmentName) {
        if self.naive.segments[&name].wanted_by.len() > 1 {
            self.seen.insert("cached for two");
        }
    }

    /// What has its name is complete.
    pub(crate) fn seal(&mut self, number: usize) {
        let Some(client) = self.clients.get_mut(number) else { return };
        let id = client.id;
        let sealing = |digest: Digest| Sealing { digest, bytes: bytes_of(digest.0[0] - 1) };
        let named = std::mem::take(&mut client.named).into_iter();
        let sealings: Vec<Sealing> = named.filter_map(SegmentName::digest).map(sealing).collect();
        let events = self.decide(|state| complete(state, id, &sealings, self.now()));
        assert_eq!(events.len(), sealings.len());
        self.apply(&events);
        for sealing in &sealings {
            self.seen.insert("sealed");
            self.naive.seal(sealing);
            self.note_shared(SegmentName::Content(sealing.digest));
        }
        assert_eq!(self.decide(|state| complete(state, id, &sealings, self.now())), [], "sealed again");
    }

    pub(crate) fn end(&mut self, number: usize, outcome: u8) {
        let Some(client) = self.clients.get(number) else { return };
        let (id, of) = (client.id, model_id(client.model));
        let error = |reason| Error::new(reason, "an end");
        let outcome = match outcome {
            0 => Outcome::Failed(error(Reason::Internal)),
            1 => Outcome::Cancelled(error(Reason::OperationCancelled)),
            _ => report(of),
        };
        if self.naive.fillers.values().any(|by| *by == id) {
            self.seen.insert("abandoned");
        }
        let events = self.decide(|state| finish(state, id, outcome.clone(), self.now()));
        self.apply(&events);
        self.naive.end(id);
        assert_eq!(self.state.cache().filled_by(id).next(), None, "it has ended");
        self.clients.retain(|client| client.id != id);
        let events = self.decide(|state| schedule(state, self.now()));
        self.apply(&events);
        if let Some(ended) = self.ended.replace(id) {
            assert_eq!(self.decide(|state| finish(state, ended, outcome.clone(), self.now())), []);
            self.seen.insert("reported by one that has ended");
        }
    }

    /// With room enough everybody comes to an end, whoever waits for whom.
    pub(crate) fn come_to_an_end(&mut self) {
        for _ in 0..ROUNDS {
            while !self.outs.is_empty() {
                self.out(false);
            }
            for number in (0..self.clients.len()).rev() {
                self.go_on(number);
            }
            if self.clients.is_empty() {
                break;
            }
        }
        self.agree();
        assert!(self.clients.is_empty(), "{} wait for each other", self.clients.len());
    }

    /// As an executor does: it asks for everything, fills its own, and then waits.
    fn go_on(&mut self, number: usize) {
        let id = self.clients[number].id;
        if self.state.operation(id).unwrap().cancel_requested {
            return self.end(number, 1);
        }
        let is_filling = |history: &Self| history.naive.fillers.values().any(|by| *by == id);
        if !is_filling(self) {
            self.reserve(number, u64::MAX, true);
        }
        self.identify(number, false, None, false);
        self.seal(number);
        let client = &self.clients[number];
        let is_there = |place: &usize| {
            let digest = digest(client.contents[*place]);
            let held = (SegmentName::Content(digest), Holder::Operation(id));
            self.naive.sealed(digest).is_some() && self.naive.holds.contains(&held)
        };
        if !is_filling(self) && client.components.iter().all(is_there) {
            self.end(number, 2);
        }
    }
}
