//! From the words on the command line to a [`Cli`]: what only some verbs say about the common flags, and the refusal
//! of flags that would change nothing. `main` calls it; the flags themselves stand in `args`.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _};

use super::Cli;

/// What every client verb takes. Whatever talks to no server takes none of it.
const COMMON: [&str; 4] = ["endpoint", "json", "timeout", "color"];
/// The flags that `hoist config` shares with `hoist serve`.
const OF_SERVE: [&str; 9] = [
    "state_dir",
    "runtime_dir",
    "socket",
    "listen",
    "ram_budget",
    "config",
    "log_format",
    "log_filter",
    "no_workers",
];

/// Reads a command line, the program's name first.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(tags_to_remove(words.into_iter().collect()))?;
    refuse_what_changes_nothing(&mut command, &matches)?;
    Cli::from_arg_matches(&matches)
}

/// `hoist tag NAME -old` with `-old` as a flag: clap would take either all hyphens of that verb for values or none.
fn tags_to_remove(words: Vec<OsString>) -> Vec<OsString> {
    let takes_value = |word: &OsString| COMMON.iter().any(|id| *id != "json" && *word == *format!("--{id}"));
    let mut is_value = false;
    let verb = words.iter().skip(1).position(|word| {
        let is_flag = word.as_encoded_bytes().starts_with(b"-");
        let is_verb = !is_value && !is_flag;
        is_value = !is_value && takes_value(word);
        is_verb
    });
    let Some(verb) = verb.map(|index| index + 1).filter(|&at| words.get(at).is_some_and(|w| w == "tag"))
    else {
        return words;
    };
    // What follows `--` is no flag; that a tag which begins with a minus is to be taken away holds there, too.
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let rewritten = words.into_iter().enumerate().map(|(at, word)| match word.to_str() {
        Some(text)
            if (verb + 1..end).contains(&at)
                && text.len() > 1
                && text.starts_with('-')
                && !text.starts_with("--")
                && text != "-h" =>
        {
            OsString::from(format!("--remove={}", text.trim_start_matches('-')))
        }
        _ => word,
    });
    rewritten.collect()
}

/// The description of the command line, as the help shows it.
pub(super) fn command() -> Command {
    let mut command = Cli::command();
    // This hands the common flags to the verbs; only then can a verb say something else about them.
    command.build();
    let hide = |verb: Command| {
        verb.mut_args(|arg| if is_common(arg.get_id().as_str()) { arg.hide(true) } else { arg })
    };
    command
        .mut_subcommand("serve", hide)
        .mut_subcommand("completions", hide)
        .mut_subcommand("shutdown", |verb| timeout_means(verb, "How long to wait for the end [default: 30s]"))
        .mut_subcommand("ops", |ops| {
            ops.mut_subcommand("wait", |verb| {
                timeout_means(verb, "How long to wait for the end, for instance 30s [default: for ever]")
            })
        })
}

fn is_common(id: &str) -> bool {
    COMMON.contains(&id)
}

fn timeout_means(verb: Command, what: &'static str) -> Command {
    // Not `mut_arg`, which moves the flag and leaves what was built pointing at its neighbour.
    verb.mut_args(|arg| if arg.get_id() == "timeout" { arg.help(what) } else { arg })
}

/// What clap says is wrong, in one line, without the usage below it.
pub(crate) fn what_is_wrong(told: &clap::Error) -> String {
    if told.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "there is no command".to_owned();
    }
    let text = told.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = first.trim_start_matches("error:").split_whitespace().collect();
    words.join(" ")
}

/// A flag that is taken and ignored would let somebody believe that it did something.
fn refuse_what_changes_nothing(command: &mut Command, matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some((verb, given)) = matches.subcommand() else { return Ok(()) };
    let (idle, why): (&[&str], &str) = match verb {
        "serve" => (&COMMON, "`hoist serve` takes none of the options of the client verbs"),
        "completions" => (&COMMON, "`hoist completions` prints a script and talks to nobody"),
        "config" if given.get_flag("offline") => {
            (&["endpoint", "timeout"], "with --offline no server is asked; leave one of the two out")
        }
        "config" => {
            (&OF_SERVE, "what the running server was started with is shown; add --offline to try flags")
        }
        _ => return Ok(()),
    };
    let on_the_command_line = |id: &&&str| {
        given.try_contains_id(id).is_ok() && given.value_source(id) == Some(ValueSource::CommandLine)
    };
    let Some(flag) = idle.iter().find(on_the_command_line) else { return Ok(()) };
    let message = format!("--{} has no effect here: {why}", flag.replace('_', "-"));
    let verb = command.find_subcommand_mut(verb).cloned();
    Err(verb.as_ref().unwrap_or(command).clone().error(ErrorKind::ArgumentConflict, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Cli, ErrorKind> {
        parse(line.split(' ').map(OsString::from)).map_err(|told| told.kind())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_tag_with_a_minus_is_taken_away_and_flags_stay_flags() {
        for line in ["hoist tag x +a -b c --json", "hoist --json --endpoint unix:///tag tag x +a c -b"] {
            let cli = read(line).unwrap();
            assert!(cli.common.json, "{line}");
            let crate::args::Verb::Tag(args) = cli.verb else { panic!("{line}") };
            assert_eq!(
                (args.name.as_str(), args.add, args.remove),
                ("x", vec!["+a".into(), "c".into()], vec!["b".into()])
            );
        }
        assert_eq!(read("hoist tag -h").map(|_| ()), Err(ErrorKind::DisplayHelp));
        assert_eq!(read("hoist show tag -b").map(|_| ()), Err(ErrorKind::UnknownArgument));
    }

    #[test]
    fn a_flag_that_would_change_nothing_is_refused() {
        for line in [
            "hoist serve --json",
            "hoist --json serve",
            "hoist serve --endpoint unix:///x",
            "hoist completions bash --timeout 1s",
            "hoist config --state-dir x",
            "hoist config --config x",
            "hoist config --offline --endpoint unix:///x",
        ] {
            assert_eq!(read(line).map(|_| ()), Err(ErrorKind::ArgumentConflict), "{line}");
        }
        for line in
            ["hoist serve --state-dir x", "hoist config --json", "hoist config --offline --json --listen x"]
        {
            assert!(read(line).is_ok(), "{line}");
        }
    }
}
