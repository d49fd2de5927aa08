//! What every device does with a segment that is still being filled: it copies what is there, or nothing.

use hoist_domain::{Bytes, Dtype, ReplicaId};
use hoist_segment::Filling;
use uuid::Uuid;

use super::{Opener, PLENTY, Patience, Segments, Written, fill, forever, is_all_there, load_of, variety};
use crate::device::{Ahead, Load, Stopped, Unloaded};

pub(super) fn every_behaviour(open: Opener<'_>) {
    what_is_copied_while_it_is_filled_is_what_it_comes_to_be(open);
    what_was_copied_of_another_file_is_not_taken_for_it(open);
    what_was_begun_is_given_back_to_the_byte(open);
}

/// The same tensors with other bytes.
fn others(written: &[Written]) -> Vec<Written> {
    let other = |(name, dtype, shape, data): &Written| {
        let data = data.iter().map(|byte| if *dtype == Dtype::Bool { *byte } else { !byte }).collect();
        (name.clone(), *dtype, shape.clone(), data)
    };
    written.iter().map(other).collect()
}

fn ahead_of(load: &Load, filling: &Filling, there: u64) -> Ahead {
    Ahead { id: load.id, path: filling.path().unwrap(), there: Bytes(there) }
}

fn what_is_copied_while_it_is_filled_is_what_it_comes_to_be(open: Opener<'_>) {
    let (mut segments, mut device, written) = (Segments::new(), open(PLENTY), variety());
    let before = device.memory();
    let (filling, layout) = segments.begin(&written);
    let load = load_of(1, filling.path().unwrap());
    let wrong = others(&written);
    // Up to here it is right each time, and behind it wrong: what is not there yet may be anything.
    for there in [layout.length() / 3, layout.length() / 3 + 1, layout.length() * 2 / 3 + 77] {
        fill(&filling, &layout, &wrong);
        for placed in layout.tensors() {
            let (.., data) = written.iter().find(|(name, ..)| *name == *placed.name).unwrap();
            let right = usize::try_from(there.saturating_sub(placed.offset).min(placed.length)).unwrap();
            filling.write_at(0, placed.offset, &data[..right]).unwrap();
        }
        let begun = device.ahead(&ahead_of(&load, &filling, there), &mut forever()).unwrap();
        assert_eq!(begun.unwrap_or_default(), device.memory().used, "{:?}", device.memory());
        assert_eq!((device.tensors(load.id), device.read(load.id, "scalar", 0, 4)), (Vec::new(), None));
        assert!(device.share(load.id).is_err(), "nothing of it can be used");
    }
    fill(&filling, &layout, &written);
    let path = segments.seal(filling, 1);
    let load = Load { path, ..load };
    device.load(&load, &mut forever()).unwrap();
    is_all_there(&*device, load.id, &written);
    device.unload(load.id).unwrap();
    assert_eq!(device.memory(), before);
}

fn what_was_copied_of_another_file_is_not_taken_for_it(open: Opener<'_>) {
    let (mut segments, mut device, written) = (Segments::new(), open(PLENTY), variety());
    let (given_up, layout) = segments.begin(&written);
    fill(&given_up, &layout, &others(&written));
    let load = load_of(1, given_up.path().unwrap());
    device.ahead(&ahead_of(&load, &given_up, layout.length()), &mut forever()).unwrap();
    drop(given_up);
    let gone = Ahead { id: load.id, path: load.path.clone(), there: Bytes(layout.length()) };
    device.ahead(&gone, &mut forever()).unwrap();
    // By the same name as before the other one had it, and once more in the middle of it.
    let (filling, _) = segments.begin(&written);
    fill(&filling, &layout, &written);
    let other = Load { id: ReplicaId(Uuid::from_u128(2)), ..load.clone() };
    device.ahead(&ahead_of(&other, &filling, layout.length() / 2), &mut forever()).unwrap();
    let path = segments.seal(filling, 1);
    for load in [Load { path: path.clone(), ..load }, Load { path: path.clone(), ..other }] {
        device.load(&load, &mut forever()).unwrap();
        is_all_there(&*device, load.id, &written);
    }
}

fn what_was_begun_is_given_back_to_the_byte(open: Opener<'_>) {
    let (segments, mut device, written) = (Segments::new(), open(PLENTY), variety());
    let before = device.memory();
    let (filling, layout) = segments.begin(&written);
    fill(&filling, &layout, &written);
    let load = load_of(1, filling.path().unwrap());
    let half = ahead_of(&load, &filling, layout.length() / 2);
    // Nobody knows of what was given up before it was begun.
    if device.ahead(&half, &mut Patience(1)) == Err(Stopped::NotWanted) {
        assert_eq!((device.memory(), device.unload(load.id)), (before, None));
    }
    if device.ahead(&half, &mut forever()).unwrap().is_some() {
        let begun = device.memory();
        let all = ahead_of(&load, &filling, layout.length());
        assert_eq!(device.ahead(&all, &mut Patience(1)), Err(Stopped::NotWanted));
        assert_eq!(device.memory(), begun, "what was there stays");
        let unloaded = device.unload(load.id).unwrap();
        assert_eq!(unloaded, Unloaded { expected: begun.used, returned: begun.used });
    }
    assert_eq!((device.memory(), device.unload(load.id)), (before, None));
    // Of what is desired no more, and whose segment is gone, nothing is begun.
    drop(filling);
    device.ahead(&half, &mut forever()).unwrap();
    device.unload(load.id);
    assert_eq!(device.memory(), before);
}
