//! What holds for any table, known or not.

mod support;

use std::collections::BTreeSet;

use hoist_identify::Identification;
use proptest::prelude::*;
use support::Model;

/// Names made of the words that the rules look for, so that random tables come near to real ones.
fn name() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "model",
        "diffusion_model",
        "input_blocks",
        "0",
        "1",
        "4",
        "attn2",
        "to_k",
        "weight",
        "lora_down",
        "lora_A",
        "first_stage_model",
        "decoder",
        "conv_in",
        "text_model",
        "encoder",
        "layers",
        "double_blocks",
        "img_attn",
        "alpha",
        "lokr_w1",
        "conditioner",
        "embedders",
        "text_encoders",
        "clip_l",
        "transformer",
        "vae",
        "слой",
        "..",
        "",
    ]);
    prop_oneof![prop::collection::vec(word, 0..8).prop_map(|words| words.join(".")), ".{0,40}"]
}

fn table() -> impl Strategy<Value = Model> {
    let shape = prop::collection::vec(prop_oneof![0..5000_u64, Just(u64::MAX)], 0..6);
    prop::collection::vec((name(), shape), 0..60).prop_map(|tensors| {
        let mut model = Model::default();
        for (name, shape) in tensors {
            model.tensor(&name, &shape);
        }
        model
    })
}

fn is_whole(model: &Model, answer: &Identification) {
    let counted: u64 = answer.components.iter().map(|component| component.tensors).sum();
    assert_eq!(counted, model.tensors.len() as u64, "{answer:#?}");
    let names: BTreeSet<_> = answer.components.iter().map(|component| &component.name).collect();
    assert_eq!(names.len(), answer.components.len(), "{answer:#?}");
    assert!((0.0..=1.0).contains(&answer.confidence));
}

proptest! {
    #[test]
    fn any_table_is_answered_and_every_tensor_is_in_one_component(model in table(), path in ".{0,30}") {
        let model = Model { path, ..model };
        is_whole(&model, &model.identify());
    }

    #[test]
    fn order_does_not_matter(seed in any::<u64>(), case in any::<prop::sample::Index>()) {
        let cases = support::cases();
        let (name, _, model) = case.get(&cases);
        let before = model.identify();
        let mut shuffled = model.clone();
        let mut state = seed | 1;
        for at in (1..shuffled.tensors.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.tensors.swap(at, usize::try_from(state >> 33).unwrap() % (at + 1));
        }
        prop_assert_eq!(before, shuffled.identify(), "{}", name);
    }

    #[test]
    fn an_unrelated_key_never_makes_another_sure_answer(key in "[a-z]{3,9}\\.[a-z]{3,9}", case in any::<prop::sample::Index>()) {
        let cases = support::cases();
        let (name, _, model) = case.get(&cases);
        let before = model.identify();
        let mut more = model.clone();
        more.tensor(&key, &[3, 5]);
        let after = more.identify();
        is_whole(&more, &after);
        if before.confidence >= 0.9 && after.confidence >= 0.9 {
            prop_assert_eq!((before.model_type, before.base), (after.model_type, after.base), "{}", name);
        }
    }

    #[test]
    fn any_configuration_and_metadata_are_taken(json in ".{0,200}", key in "[a-z_.]{0,20}", value in ".{0,60}") {
        let mut model = Model::default();
        for path in ["config.json", "model_index.json", "adapter_config.json"] {
            model.configs.insert(path.into(), json.clone());
        }
        for key in [key.as_str(), "modelspec.architecture", "ss_base_model_version", "modelspec.resolution"] {
            model.metadata.insert(key.into(), value.clone());
        }
        is_whole(&model, &model.identify());
    }
}

#[test]
fn every_case_is_whole() {
    for (_, _, model) in support::cases() {
        is_whole(&model, &model.identify());
    }
}
