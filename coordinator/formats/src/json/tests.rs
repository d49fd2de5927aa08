use super::*;

fn skipped(text: &str) -> Result<usize> {
    let mut json = Reader::new(text.as_bytes());
    json.skip()?;
    assert_eq!(json.rest().unwrap(), "");
    Ok(json.position())
}

fn refused(text: &str) -> bool {
    let mut json = Reader::new(text.as_bytes());
    matches!(json.skip(), Err(Fault::Syntax { .. })) || json.rest().is_ok_and(|rest| !rest.is_empty())
}

#[test]
fn every_beginning_of_a_text_is_a_cut_and_not_a_fault() {
    let text = "{\"a\\u00e9\\ud83d\\ude00é\":[1,-2.5e+3,true,false,null,\"x\\n\",{},[]],\"b\":{\"c\":0}}";
    for end in 0..text.len() {
        let mut json = Reader::new(&text.as_bytes()[..end]);
        assert_eq!(json.skip(), Err(Fault::Cut), "{end}");
    }
    assert_eq!(skipped(text), Ok(text.len()));
}

#[test]
fn what_the_grammar_does_not_know_is_refused() {
    for text in [
        "[1,]",
        "[,1]",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "{a:1}",
        "{'a':1}",
        "[01]",
        "[-]",
        "[1.]",
        "[.5]",
        "[1e]",
        "[+1]",
        "[NaN]",
        "[Infinity]",
        "[nul ]",
        "[\"\\x\"]",
        "[\"\\u12g4\"]",
        "[\"a\nb\"]",
        "[1 2]",
        "[1]]",
        "{\"a\":1}x",
        "[tru]",
        "{1:2}",
        "{\"a\":}",
        "]",
        "// c\n1",
    ] {
        assert!(refused(text), "{text}");
    }
}

#[test]
fn half_of_a_surrogate_pair_is_refused_and_a_pair_is_one_character() {
    for text in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\ud800""#, r#""\ud800x""#, r#""\ud800\n""#] {
        assert!(refused(text), "{text}");
    }
    assert_eq!(Reader::new(br#""\ud83d\ude00\u0000""#).string().unwrap(), "\u{1f600}\0");
}

#[test]
fn numbers_are_exact_or_other() {
    for (text, number) in [
        ("0", Number::Unsigned(0)),
        ("18446744073709551615", Number::Unsigned(u64::MAX)),
        ("18446744073709551616", Number::Other),
        ("-1", Number::Other),
        ("1.0", Number::Other),
        ("1e3", Number::Other),
    ] {
        assert_eq!(Reader::new(format!("{text} ").as_bytes()).number(), Ok(number), "{text}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_met_where_they_are() {
    let mut json = Reader::new(b"[1,\"\xff\"]");
    let mut items = json.array().unwrap();
    assert!(json.item(&mut items).unwrap());
    assert_eq!(json.number(), Ok(Number::Unsigned(1)));
    assert!(json.item(&mut items).unwrap());
    assert_eq!(json.string(), Err(Fault::Syntax { at: 4, why: "not UTF-8" }));
    assert!(Reader::new(b"\"\xc0\xaf\"").string().is_err());
    assert_eq!(Reader::new(b"\"\xc3").string(), Err(Fault::Cut));
}

#[test]
fn depth_is_bounded_and_costs_no_stack() {
    assert!(refused(&"[".repeat(200_000)));
    let deepest = format!("{}1{}", "[{\"a\":".repeat(32), "}]".repeat(32));
    assert!(skipped(&deepest).is_ok());
}

#[test]
fn strings_without_escapes_are_slices_of_the_text() {
    for length in 0..40 {
        let name = "é".repeat(length);
        let text = format!("\"{name}\"");
        assert!(matches!(Reader::new(text.as_bytes()).string(), Ok(Cow::Borrowed(read)) if read == name));
        let text = format!("\"{name}\\n{name}\"");
        assert_eq!(Reader::new(text.as_bytes()).string().unwrap(), format!("{name}\n{name}"));
        assert!(refused(&format!("\"{name}\u{1}\"")));
    }
}
