use std::path::PathBuf;
use std::time::Duration;

use hoist_domain::Bytes;

use super::*;
use crate::config::ConfigFile;
use crate::redact::Secret;
use crate::telemetry::LogFormat;

fn sources(
    file: &str,
    environment: &[(&str, &str)],
    flags: &[(&'static str, &str, &'static str)],
) -> Sources {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Sources {
        file: Some(ConfigFile { path: PathBuf::from("hoist.toml"), text: file.to_owned() }),
        environment: environment.iter().map(own).collect(),
        flags: flags
            .iter()
            .map(|(key, value, flag)| FlagValue { key, value: (*value).to_owned(), flag })
            .collect(),
    }
}

#[test]
fn of_every_two_layers_the_later_wins() {
    let layers = [Origin::File, Origin::Environment, Origin::Flag];
    for used in 0..8_u8 {
        let has = |origin: Origin| {
            let place = layers.iter().position(|layer| *layer == origin).unwrap();
            used & (1 << place) != 0
        };
        let file = if has(Origin::File) { "\n[cache]\nbudget_events = 2\n" } else { "" };
        let env: &[_] = if has(Origin::Environment) { &[("HOIST_CACHE_BUDGET_EVENTS", "3")] } else { &[] };
        let flags: &[_] = if has(Origin::Flag) { &[("cache.budget_events", "4", "--budget")] } else { &[] };
        let mut reader = Reader::new(sources(file, env, flags), &[]);
        let value = reader.read("cache.budget_events", 1_u64, "how many");

        let (expected, origin, detail) = match () {
            () if has(Origin::Flag) => (4, Origin::Flag, "--budget"),
            () if has(Origin::Environment) => (3, Origin::Environment, "HOIST_CACHE_BUDGET_EVENTS"),
            () if has(Origin::File) => (2, Origin::File, "hoist.toml:3"),
            () => (1, Origin::Default, "default"),
        };
        assert_eq!(value, expected, "layers {used:03b}");
        let entries = reader.finish().unwrap();
        let entry = Entry {
            key: "cache.budget_events",
            value: expected.to_string(),
            default: "1".to_owned(),
            origin,
            origin_detail: detail.to_owned(),
            description: "how many",
        };
        assert_eq!(entries, [entry]);
    }
}

#[test]
fn the_last_of_two_flags_counts() {
    let flags = [("log.filter", "info", "--log"), ("log.filter", "debug", "--verbose")];
    let mut reader = Reader::new(sources("", &[], &flags), &[]);
    assert_eq!(reader.read("log.filter", String::new(), ""), "debug");
    assert_eq!(reader.finish().unwrap()[0].origin_detail, "--verbose");
}

#[test]
fn all_errors_are_told_at_once_one_a_line() {
    let file = "\
state_dir = 5
budgt = 1
[watch]
history_events = \"many\"
keep = \"10 parsecs\"
drain = \"5s\"
[log]
[lgo]
[cache]
";
    let environment = [("HOIST_BUDGET", "8 gigs"), ("HOIST_STRICT", "yes\nno")];
    let flags = [("log.format", "xml", "--log-format"), ("no.such", "1", "--no-such")];
    let mut reader = Reader::new(sources(file, &environment, &flags), &[]);
    assert_eq!(reader.read("state_dir", PathBuf::from("/s"), ""), PathBuf::from("/s"));
    assert_eq!(reader.read("budget", Bytes::gib(8), ""), Bytes::gib(8));
    assert_eq!(reader.read("watch.history_events", 7_u32, ""), 7);
    let keep = reader.read("watch.keep", Duration::from_secs(1), "");
    let drain = reader.read("watch.drain", Duration::from_secs(10), "");
    assert_eq!(reader.read("log.format", LogFormat::Human, ""), LogFormat::Human);
    assert!(reader.read("strict", true, ""));
    assert_eq!(reader.read("cache", 3_u64, ""), 3);
    reader.check("watch.drain", drain < keep, "must be shorter than watch.keep");
    reader.check("watch.keep", false, "never said: its value could not be read");
    let errors = reader.finish().unwrap_err();
    assert_eq!(
        errors.to_string(),
        "\
hoist.toml:1: state_dir: found the integer 5; accepted: a path
HOIST_BUDGET: budget: \"8 gigs\" is not a size; accepted: a size, for instance 512MiB, 8GiB or a whole number of bytes
hoist.toml:4: watch.history_events: found the string \"many\"; accepted: a whole number from 0 to 4294967295
hoist.toml:5: watch.keep: \"10 parsecs\" is not a duration; accepted: a whole number and a unit, for instance \
\"250ms\", \"10s\", \"5m\" or \"24h\"
--log-format: log.format: \"xml\" is not a log format; accepted: \"human\" or \"json\"
HOIST_STRICT: strict: \"yes\\nno\" is neither; accepted: true or false
hoist.toml:9: cache: found a table; accepted: a whole number from 0 to 18446744073709551615
hoist.toml:6: watch.drain: must be shorter than watch.keep
hoist.toml:2: budgt: no such setting, did you mean budget?
hoist.toml:8: lgo: no such setting
--no-such: no.such: no such setting"
    );
}

#[test]
fn a_wrong_value_is_an_error_even_under_a_right_one() {
    let mut reader = Reader::new(sources("threads = true", &[("HOIST_THREADS", "4")], &[]), &[]);
    assert_eq!(reader.read("threads", 1_u32, ""), 1);
    let errors = reader.finish().unwrap_err();
    assert_eq!(errors.listed().len(), 1);
    assert!(errors.to_string().starts_with("hoist.toml:1: threads: found true"), "{errors}");
}

#[test]
fn unknown_keys_and_misplaced_tables_are_explained() {
    let file = "watch = 3\n\"log.format\" = \"json\"\nhistory_events = 3\n[state_dir]\nx = 1\n";
    let mut reader = Reader::new(sources(file, &[], &[]), &[]);
    reader.read("state_dir", PathBuf::from("/s"), "");
    reader.read("watch.history_events", 7_u32, "");
    reader.read("log.format", LogFormat::Human, "");
    assert_eq!(
        reader.finish().unwrap_err().to_string(),
        "\
hoist.toml:1: watch: is a table of settings, not a setting
hoist.toml:2: \"log.format\": no such setting, did you mean log.format?
hoist.toml:3: history_events: no such setting, did you mean watch.history_events?
hoist.toml:5: state_dir.x: no such setting, did you mean state_dir?"
    );
}

#[test]
fn a_syntax_error_hides_no_error_of_another_layer() {
    let mut reader = Reader::new(sources("threads = \nunknown = 1\n", &[("HOIST_THREADS", "-1")], &[]), &[]);
    reader.read("threads", 1_u32, "");
    let errors = reader.finish().unwrap_err();
    let places: Vec<_> = errors.listed().iter().map(|error| error.place.as_str()).collect();
    assert_eq!(places, ["hoist.toml:1", "HOIST_THREADS"], "{errors}");
}

#[test]
fn an_unknown_variable_is_a_warning_unless_it_is_someone_elses() {
    let environment =
        [("HOIST_STATEDIR", "/x"), ("HOIST_CONFIG", "c"), ("HOIST_OTHER", "secret"), ("PATH", "/bin")];
    let mut reader = Reader::new(sources("", &environment, &[]), &["HOIST_CONFIG"]);
    reader.read("state_dir", PathBuf::from("/s"), "");
    assert_eq!(
        reader.warnings(),
        ["HOIST_OTHER: no such setting", "HOIST_STATEDIR: no such setting, did you mean HOIST_STATE_DIR?"]
    );
    assert!(reader.finish().is_ok());
}

#[test]
fn no_secret_is_shown_anywhere() {
    let sources = sources("pin = 1234", &[("HOIST_TOKEN", "hunter2")], &[("code", "hunter3", "--code")]);
    let raw = format!("{sources:?}");
    let mut reader = Reader::new(sources, &[]);
    assert_eq!(reader.read_secret("token", String::new(), ""), "hunter2");
    reader.read_secret("code", 0_u64, "");
    let pin: Secret<Option<String>> = reader.read("pin", Secret::default(), "");
    assert!(pin.expose().is_none());
    let debug = format!("{reader:?}");
    let errors = reader.finish().unwrap_err();
    assert_eq!(
        errors.to_string(),
        "\
--code: code: the value cannot be read (it is not shown); accepted: a whole number from 0 to 18446744073709551615
hoist.toml:1: pin: the value cannot be read (it is not shown); accepted: a string, or \"\" for none"
    );
    for text in ["hunter", "1234"] {
        assert!(!debug.contains(text) && !raw.contains(text), "{debug} {raw}");
    }
    assert!(debug.contains(REDACTED));
}

#[test]
fn a_hostile_file_makes_a_bounded_report() {
    let file: String = (0..20_000).map(|index| format!("k{index} = 1\n")).collect();
    let errors = Reader::new(sources(&file, &[], &[]), &[]).finish().unwrap_err();
    assert_eq!(errors.listed().len(), 100);
    assert!(errors.to_string().ends_with("\nand 19900 more"));
}
