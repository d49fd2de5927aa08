//! Every row of the key table, from `cases.txt`, and what looks like another, from `cases-alike.txt`.

mod support;

use hoist_identify::Identification;

fn check(expected: &str, answer: &Identification) -> Result<(), String> {
    let mut words = expected.split_whitespace();
    let (kind, base) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    // What it must not be taken for: to be named with doubt is allowed.
    if let Some(mistaken) = base.strip_prefix('~') {
        let is_mistaken = answer.base.as_str() == mistaken && answer.confidence >= 0.9;
        if is_mistaken || answer.model_type.as_str() != kind {
            return Err(format!("is {} {}", answer.model_type, answer.base));
        }
    } else if answer.model_type.as_str() != kind || answer.base.as_str() != base {
        return Err(format!("is {} {}", answer.model_type, answer.base));
    }
    for word in words {
        let met = match word.split_once(':') {
            None => (answer.confidence >= 0.9) == (word == "sure"),
            Some(("v", flavour)) => answer.variant.split('+').any(|known| known == flavour),
            Some(("c", candidate)) => answer.candidates.iter().any(|base| base.as_str() == candidate),
            Some(("p", prediction)) => answer.prediction.is_some_and(|p| format!("{p:?}") == prediction),
            Some(("k", component)) => answer.components.iter().any(|known| known.name == component),
            Some(_) => false,
        };
        if !met {
            return Err(format!("`{word}` is not met"));
        }
    }
    Ok(())
}

#[test]
fn every_row_of_the_key_table_is_answered() {
    let cases = support::cases();
    assert!(cases.len() > 70, "{}", cases.len());
    let failed: Vec<String> = cases
        .iter()
        .filter_map(|(name, expected, model)| {
            let answer = model.identify();
            let why = check(expected, &answer).err()?;
            Some(format!("{name}: expected {expected}, {why}\n{answer:#?}"))
        })
        .collect();
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn an_undecided_base_is_never_sure_and_a_sure_one_shows_why() {
    for (name, _, model) in support::cases() {
        let answer = model.identify();
        assert!(answer.candidates.is_empty() || answer.confidence < 0.9, "{name}");
        assert!(answer.confidence < 0.9 || !answer.evidence.is_empty(), "{name}");
        if answer.base.as_str() != "unknown" && !answer.candidates.is_empty() {
            assert_eq!(answer.candidates.first(), Some(&answer.base), "{name}");
        }
    }
}

#[test]
fn every_base_that_is_answered_is_a_known_word() {
    let unknown: Vec<String> = support::cases()
        .into_iter()
        .flat_map(|(_, _, model)| {
            let answer = model.identify();
            answer.candidates.into_iter().chain([answer.base]).map(|base| base.to_string())
        })
        .filter(|base| !hoist_domain::BaseModel::known().contains(&base.as_str()))
        .collect();
    assert!(unknown.is_empty(), "people could not say them of another model: {unknown:?}");
}
