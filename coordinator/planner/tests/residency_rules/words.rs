//! What a worker may say of what was asked for, and when.

use hoist_domain::{Bytes, Placement, ReplicaState};
use hoist_planner::residency::{Heard, Removal};

use crate::setting::{Setting, ask, device, wanted};

/// A worker follows an earlier word, loses what a later one desires again, tells that, and then takes the later one: it speaks of a
/// replica that is known to be gone. It is honest; whoever has taken the newest word and does so is not.
#[test]
fn what_was_desired_again_before_its_end_was_heard_is_no_lie() {
    let mut setting = Setting::new(&[("cuda:0", 10)]);
    let on = Placement::On(device("cuda:0"));
    setting.loads(ask(wanted(1, &[(1, 3)]), on), 1).unwrap();
    let id = setting.state.residency().replicas().next().unwrap().id;
    let waiting = setting.seen(id, ReplicaState::Waiting);
    let gone = Removal { id, expected: Bytes(3), returned: Bytes(3) };
    let taken = setting.generation("cuda:0");
    assert_eq!(setting.says_of("cuda:0", taken, Vec::new(), vec![gone]), Heard::Applied);
    assert!(setting.generation("cuda:0") > taken, "it is not desired any more");
    assert_eq!(setting.says_of("cuda:0", taken, vec![waiting.clone()], Vec::new()), Heard::Applied);
    assert!(!setting.state.residency().is_wanted(id), "and nobody wants it for that");
    assert!(setting.state.residency().desired(device("cuda:0")).is_empty());
    let newest = setting.generation("cuda:0");
    assert_eq!(setting.says_of("cuda:0", newest, Vec::new(), vec![gone]), Heard::Applied);
    assert!(setting.state.residency().replica(id).is_none());
    let heard = setting.says_of("cuda:0", newest, vec![waiting], Vec::new());
    assert!(matches!(&heard, Heard::Lie(why) if why.contains("never asked for")), "{heard:?}");
}
