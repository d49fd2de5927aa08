//! Several models that are evicted together: one judgement of all of them.

use std::collections::BTreeSet;

use crate::setting::World;
use crate::world::{digest, model_id};
use crate::{TEXT, VAE};

#[test]
fn components_of_several_models_are_judged_together() {
    let mut world = World::new();
    world.cache(0, 1);
    world.cache(1, 1);
    assert_eq!(world.evict_parts(&[(0, &["vae"]), (1, &["vae"])]), [(digest(VAE), None)]);
    assert!(!world.is_sealed(VAE));
}

#[test]
fn a_model_that_is_named_for_other_components_keeps_what_it_shares() {
    let mut world = World::new();
    world.cache(0, 1);
    world.cache(0, 2);
    world.cache(1, 1);
    let kept = Some("model 0 shares it, and is cached".to_owned());
    let told = world.evict_parts(&[(0, &["text"]), (1, &[])]);
    assert_eq!(told, [(digest(VAE), kept), (digest(TEXT), None)]);
    assert_eq!(world.segment(VAE).unwrap().wanted_by, BTreeSet::from([model_id(0)]));
}
