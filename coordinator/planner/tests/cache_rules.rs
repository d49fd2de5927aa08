//! Rules of the cache, each as a sentence.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests are tests")]

#[path = "cache_rules/held.rs"]
mod held;
#[path = "cache_rules/setting.rs"]
mod setting;
#[path = "cache_rules/together.rs"]
mod together;
#[path = "segments/world.rs"]
mod world;

use hoist_domain::{ModelConfig, Priority, Reason, SegmentState};
use hoist_planner::cache::{Identity, Reservation, reserve};
use hoist_planner::{Event, finish};
use setting::World;
use std::collections::BTreeSet;
use world::{bytes_of, content_name, digest, facts, model_id, source_name, want};

/// Contents of the models' components.
const VAE: u8 = 3;
const TEXT: u8 = 4;

#[test]
fn a_segment_shared_by_two_cached_models_stays_when_one_is_evicted() {
    let mut world = World::new();
    world.cache(0, 1);
    world.cache(1, 1);
    assert_eq!(world.state.cache().saved(), bytes_of(VAE));
    let kept = Some("model 1 shares it, and is cached".to_owned());
    assert_eq!(world.evict(Some(0), &[]), [(digest(VAE), kept)]);
    assert_eq!(world.segment(VAE).unwrap().wanted_by, BTreeSet::from([model_id(1)]));
    assert_eq!(world.evict(Some(1), &[]), [(digest(VAE), None)]);
    assert!(!world.is_sealed(VAE));
}

#[test]
fn a_component_that_was_let_go_by_its_name_does_not_keep_what_others_share() {
    let mut world = World::new();
    world.cache(0, 1);
    world.cache(1, 1);
    assert!(world.evict(Some(0), &["vae"])[0].1.is_some());
    assert_eq!(world.evict(Some(1), &["vae"]), [(digest(VAE), None)]);
}

#[test]
fn of_two_equal_components_the_other_keeps_its_models_interest() {
    let mut world = World::new();
    world.cache(2, 1);
    world.cache(0, 1);
    assert!(world.evict(Some(2), &["text"])[0].1.is_some());
    assert!(world.segment(VAE).unwrap().wanted_by.contains(&model_id(2)), "text_2 is the same");
}

#[test]
fn a_zombie_counts_until_it_is_freed_and_its_content_can_be_cached_again() {
    let mut world = World::new();
    let bytes = bytes_of(VAE).0;
    world.cache(0, 1);
    world.evict(Some(0), &[]);
    assert_eq!(world.used(), 0, "free in a moment");
    world.leave(VAE);
    assert_eq!((world.used(), world.segment(VAE).unwrap().is_zombie), (bytes, true));
    assert_eq!(world.going(0), [], "nothing can be done about it");
    let operation = world.begin(0, &["vae"], Priority::Normal);
    let reserved = world.reserve(operation, 0, &[(1, VAE, true)]);
    assert_eq!(reserved.fill, [(0, source_name(0, 1))], "its name is taken");
    world.fill(operation, &[(source_name(0, 1), VAE)]);
    assert_eq!(world.used(), 2 * bytes, "both copies are there");
    assert!(world.is_sealed(VAE));
    world.free(VAE, 5);
    assert_eq!(world.used(), 2 * bytes - 5);
    world.free(VAE, bytes - 5);
    assert_eq!(world.used(), bytes);
    assert!(world.is_sealed(VAE), "the new one stays");
}

#[test]
fn the_end_of_a_zombie_is_not_the_end_of_the_copy_that_goes_meanwhile() {
    let mut world = World::new();
    world.cache(0, 1);
    world.evict(Some(0), &[]);
    world.leave(VAE);
    let operation = world.begin(0, &["vae"], Priority::Normal);
    world.reserve(operation, 0, &[(1, VAE, true)]);
    world.fill(operation, &[(source_name(0, 1), VAE)]);
    world.finish(operation, 0);
    world.evict(Some(0), &[]);
    world.free(VAE, bytes_of(VAE).0);
    assert_eq!(world.segment(VAE).unwrap().state, SegmentState::Evicting, "its file still has its name");
    world.gone(VAE);
    assert!(world.segment(VAE).is_none());
}

#[test]
fn what_was_read_gets_its_name_when_its_like_has_lost_it() {
    for is_opened in [false, true] {
        let mut world = World::new();
        world.cache(0, 1);
        let operation = world.begin(1, &["vae"], Priority::Normal);
        world.reserve(operation, 1, &[(1, VAE, false)]);
        world.evict(Some(0), &[]);
        let found = [(source_name(1, 1), VAE)];
        assert_eq!(world.identify(operation, &found), [Identity::Awaited], "its file still has its name");
        if is_opened {
            world.leave(VAE);
        } else {
            world.gone(VAE);
        }
        world.fill(operation, &found);
        world.finish(operation, 1);
        let left = if is_opened { bytes_of(VAE).0 } else { 0 };
        assert_eq!(world.used(), bytes_of(VAE).0 + left);
        assert_eq!(world.evict(Some(1), &[]), [(digest(VAE), None)]);
        world.gone(VAE);
        assert_eq!(world.segment(VAE).map(|segment| segment.is_zombie), is_opened.then_some(true));
    }
}

#[test]
fn what_is_on_its_way_out_is_awaited() {
    let mut world = World::new();
    world.cache(0, 1);
    world.evict(Some(0), &[]);
    let operation = world.begin(0, &["vae"], Priority::Normal);
    assert_eq!(world.reserve(operation, 0, &[(1, VAE, true)]).awaited, [(0, content_name(VAE))]);
    world.gone(VAE);
    assert_eq!(world.reserve(operation, 0, &[(1, VAE, true)]).fill, [(0, content_name(VAE))]);
}

#[test]
fn what_was_read_waits_for_another_that_fills_the_same() {
    for is_given_up in [false, true] {
        let mut world = World::new();
        let knowing = world.begin(0, &["vae"], Priority::Normal);
        world.reserve(knowing, 0, &[(1, VAE, true)]);
        let unknowing = world.begin(1, &["vae"], Priority::Normal);
        world.reserve(unknowing, 1, &[(1, VAE, false)]);
        let found = [(source_name(1, 1), VAE)];
        assert_eq!(world.identify(unknowing, &found), [Identity::Awaited]);
        assert_eq!(world.used(), 2 * bytes_of(VAE).0, "both have their room");
        if is_given_up {
            world.finish(knowing, 0);
            world.fill(unknowing, &found);
        } else {
            world.fill(knowing, &[(content_name(VAE), VAE)]);
            world.finish(knowing, 0);
            assert_eq!(world.identify(unknowing, &found), [Identity::Equal]);
            assert_eq!(world.going(0), [], "it is held by who has read the same");
            assert_eq!(world.state.cache().statistics().shared, bytes_of(VAE));
        }
        world.finish(unknowing, 1);
        assert_eq!(world.used(), bytes_of(VAE).0);
        assert_eq!(world.going(0), [digest(VAE)]);
        let knew = if is_given_up { None } else { Some(model_id(0)) };
        let both: BTreeSet<_> = knew.into_iter().chain([model_id(1)]).collect();
        assert_eq!(world.segment(VAE).unwrap().wanted_by, both);
    }
}

#[test]
fn who_waits_for_a_source_waits_for_its_content_once_that_has_its_name() {
    let mut world = World::new();
    let one = world.begin(0, &["vae"], Priority::Normal);
    world.reserve(one, 0, &[(1, VAE, false)]);
    let other = world.begin(0, &[], Priority::Normal);
    assert_eq!(world.reserve(other, 0, &[(1, VAE, false)]).awaited, [(0, source_name(0, 1))]);
    assert_eq!(world.identify(one, &[(source_name(0, 1), VAE)]), [Identity::New]);
    assert_eq!(world.state.cache().segment(source_name(0, 1)), None);
    assert_eq!(world.state.cache().filler(content_name(VAE)), Some(one));
    world.seal(one, &[VAE]);
    world.finish(one, 0);
    assert_eq!(world.going(0), [], "the other has waited for it");
}

#[test]
fn two_that_turn_out_to_be_equal_are_one_in_any_order() {
    for (is_known, is_first) in [(false, true), (true, true), (true, false)] {
        let mut world = World::new();
        let operation = world.begin(2, &[], Priority::Normal);
        world.reserve(operation, 2, &[(1, VAE, false), (2, VAE, is_known)]);
        assert_eq!(world.used(), 2 * bytes_of(VAE).0, "reserved as if nothing were equal");
        let other = if is_known { content_name(VAE) } else { source_name(2, 2) };
        let mut found = [(source_name(2, 1), VAE), (other, VAE)];
        let mut expected = [Identity::New, Identity::Equal];
        if is_known {
            // What is known has its name already.
            expected.reverse();
        }
        if !is_first {
            found.reverse();
            expected.reverse();
        }
        assert_eq!(world.identify(operation, &found), expected);
        assert_eq!(world.used(), bytes_of(VAE).0, "one is enough");
        world.seal(operation, &[VAE]);
        world.finish(operation, 2);
        assert_eq!(world.used(), bytes_of(VAE).0);
    }
}

#[test]
fn two_that_are_equal_to_what_is_there_leave_it_what_mattered_most_to_either() {
    let mut world = World::new();
    let operation = world.begin(2, &[], Priority::Normal);
    world.reserve(operation, 2, &[(1, VAE, false), (2, VAE, false)]);
    world.cache(0, 1);
    let waiting = world.begin(2, &["text"], Priority::High);
    let ask = Reservation {
        operation: waiting,
        model: model_id(2),
        priority: Priority::High,
        parts: vec![want(2, 1, VAE, false)],
        facts: facts(1_000, &world.open),
    };
    let (events, _) = reserve(&world.state, &ask, world.now);
    world.apply(&events);
    let found = [(source_name(2, 1), VAE), (source_name(2, 2), VAE)];
    assert_eq!(world.identify(operation, &found), [Identity::Equal, Identity::Equal]);
    assert_eq!(world.segment(VAE).unwrap().priority, Priority::High);
    assert_eq!(world.state.cache().statistics().shared.0, 2 * bytes_of(VAE).0);
}

#[test]
fn who_needs_no_room_is_not_refused_for_want_of_it() {
    let mut world = World::new();
    world.cache(0, 1);
    world.cache(0, 2);
    let operation = world.begin(1, &["vae"], Priority::Normal);
    let (events, reserved) = world.ask(operation, 1, &[(1, VAE, true)], 5);
    let reserved = reserved.unwrap();
    assert_eq!((reserved.present, reserved.victims), (vec![0], vec![]), "the machine has less memory by now");
    world.apply(&events);
    let reserved = world.ask(operation, 1, &[], 5).1.unwrap();
    assert_eq!(reserved.victims, [], "nothing of it is being filled");
}

#[test]
fn who_fills_gives_way_for_what_is_reserved_when_it_is_asked_again() {
    let mut world = World::new();
    world.cache(0, 2);
    let operation = world.begin(1, &["vae"], Priority::Normal);
    world.reserve(operation, 1, &[(1, VAE, true)]);
    let reserved = world.ask(operation, 1, &[], bytes_of(VAE).0).1.unwrap();
    assert_eq!(reserved.victims, [digest(TEXT)]);
    let (events, refused) = world.ask(operation, 1, &[], 1);
    let refused = refused.unwrap_err();
    assert_eq!((refused.reason(), events), (Reason::RamExhausted, vec![Event::RoomRefused]));
    // Nothing is asked for anew: what is missing is what it has over and above the budget.
    let over = bytes_of(VAE).0 + bytes_of(TEXT).0 - 1;
    let said = format!("{over} B more are needed for what is being filled");
    assert!(refused.to_string().contains(&said), "{refused}");
}

#[test]
fn only_a_want_of_room_counts_as_a_refusal() {
    let mut world = World::new();
    let operation = world.begin(0, &["vae"], Priority::Normal);
    world.finish(operation, 0);
    let (events, refused) = world.ask(operation, 0, &[(1, VAE, true)], 1);
    assert_eq!((refused.unwrap_err().reason(), events), (Reason::OperationCancelled, vec![]));
    let operation = world.begin(0, &["vae"], Priority::Normal);
    let (events, refused) = world.ask(operation, 0, &[(1, VAE, true)], 1);
    assert_eq!(refused.unwrap_err().reason(), Reason::RamExhausted);
    world.apply(&events);
    assert_eq!(world.state.cache().statistics().refusals, 1);
}

#[test]
fn what_is_awaited_under_its_source_is_held_once_it_is_there() {
    let mut world = World::new();
    world.cache(0, 1);
    world.evict(Some(0), &[]);
    world.leave(VAE);
    let one = world.begin(0, &["vae"], Priority::Normal);
    world.reserve(one, 0, &[(1, VAE, true)]);
    let other = world.begin(0, &[], Priority::Normal);
    let reserved = world.reserve(other, 0, &[(1, VAE, true)]);
    assert_eq!((reserved.fill, reserved.awaited), (vec![], vec![(0, source_name(0, 1))]));
    world.fill(one, &[(source_name(0, 1), VAE)]);
    world.finish(one, 0);
    assert_eq!(world.going(0), [], "the other has waited for it");
    assert_eq!(world.reserve(other, 0, &[(1, VAE, true)]).present, [0]);
}

#[test]
fn what_is_pinned_open_or_matters_more_makes_no_room() {
    let mut world = World::new();
    for (model, place) in [(0, 0), (0, 1), (0, 2)] {
        world.cache(model, place);
    }
    let pin = |names: &[&str]| ModelConfig {
        is_pinned: true,
        pinned_components: names.iter().map(|name| (*name).to_owned()).collect(),
        ..ModelConfig::default()
    };
    world.configure(0, &pin(&["unet"]));
    world.open.insert(digest(VAE));
    assert_eq!(world.going(0), [digest(TEXT)]);
    let wanted = |world: &World, id| world.ask(id, 1, &[(0, 1, true)], world.used()).1.unwrap_err();
    let id = world.begin(1, &["unet"], Priority::Normal);
    let refused = wanted(&world, id);
    assert_eq!(refused.reason(), Reason::RamExhausted);
    for said in ["40 B pinned", "12 B open in some process", "15 B could be freed"] {
        assert!(refused.to_string().contains(said), "{refused}");
    }
    let high = world.begin(0, &["text"], Priority::High);
    let ask = Reservation {
        operation: high,
        model: model_id(0),
        priority: Priority::High,
        parts: vec![want(0, 2, TEXT, true)],
        facts: facts(1_000, &world.open),
    };
    let (events, _) = reserve(&world.state, &ask, world.now);
    world.apply(&events);
    world.finish(high, 0);
    let refused = wanted(&world, id);
    assert!(refused.to_string().contains("15 B matters more"), "{refused}");
    world.configure(0, &ModelConfig::default());
    world.open.clear();
    let reserved = world.ask(id, 1, &[(0, 1, true)], world.used()).1.unwrap();
    assert_eq!(reserved.victims, [digest(0)], "what matters more stays all the same");
}

#[test]
fn an_operation_holds_what_it_has_found_until_it_ends() {
    let mut world = World::new();
    world.cache(0, 1);
    let operation = world.begin(1, &["vae"], Priority::Normal);
    assert_eq!(world.reserve(operation, 1, &[(1, VAE, true)]).present, [0]);
    assert_eq!(world.going(0), []);
    world.finish(operation, 1);
    assert_eq!(world.going(0), [digest(VAE)]);
    assert_eq!(world.state.cache().statistics().hits, 1, "asked once, however many rounds it takes");
}

#[test]
fn what_an_operation_gives_up_is_free_for_those_who_have_waited() {
    let mut world = World::new();
    let one = world.begin(0, &["vae"], Priority::Normal);
    world.reserve(one, 0, &[(1, VAE, true)]);
    let other = world.begin(1, &["vae"], Priority::Normal);
    assert_eq!(world.reserve(other, 1, &[(1, VAE, true)]).awaited, [(0, content_name(VAE))]);
    let error = hoist_domain::Error::new(Reason::SourceUnreadable, "gone");
    world.apply(&finish(&world.state, one, hoist_domain::Outcome::Failed(error), world.now));
    assert_eq!((world.used(), world.state.cache().segment_count()), (0, 0));
    assert_eq!(world.reserve(other, 1, &[(1, VAE, true)]).fill, [(0, content_name(VAE))]);
}
