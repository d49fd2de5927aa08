//! Everything that is printed. Stdout carries the answer and nothing else; what is said about it goes to stderr.

pub(crate) mod apart;
pub(crate) mod cache;
pub(crate) mod called;
pub(crate) mod details;
pub(crate) mod devices;
pub(crate) mod json;
pub(crate) mod model;
pub(crate) mod model_page;
pub(crate) mod model_status;
pub(crate) mod plan;
pub(crate) mod progress;
pub(crate) mod replicas;
pub(crate) mod residency;
pub(crate) mod results;
pub(crate) mod sync;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod usage;

use std::io::{IsTerminal as _, Write as _};

use hoist_runtime::config::process_environment;
use serde_json::{Value, json};

use crate::args::{Color, Common};
use crate::error::{Error, Result, code_name};
use crate::exit::Exit;

/// How to print. Decided once, from the command line and from what stdout and stderr are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    pub(crate) json: bool,
    /// Stdout is a terminal.
    terminal: bool,
    stdout_colors: bool,
    stderr_colors: bool,
}

/// What a piece of text says by its look. Never the only thing that says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Strong,
    Dim,
    Good,
    Warning,
    Bad,
}

impl Tone {
    const fn escape(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "\u{1b}[1m",
            Self::Dim => "\u{1b}[2m",
            Self::Good => "\u{1b}[32m",
            Self::Warning => "\u{1b}[33m",
            Self::Bad => "\u{1b}[1;31m",
        }
    }
}

impl Out {
    pub(crate) fn new(common: &Common) -> Self {
        let no_color = process_environment().get("NO_COLOR").is_some_and(|value| !value.is_empty());
        let wanted = |terminal: bool| match common.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && !no_color,
        };
        let terminal = std::io::stdout().is_terminal();
        Self {
            json: common.json,
            terminal,
            stdout_colors: wanted(terminal),
            stderr_colors: wanted(std::io::stderr().is_terminal()),
        }
    }

    /// Columns of the terminal on stdout, if it is one.
    pub(crate) fn width(self) -> Option<u16> {
        if self.terminal { comfy_table::Table::new().width() } else { None }
    }

    /// Prints what belongs to a label; nothing where there is nothing.
    pub(crate) fn row(self, label: &str, value: &str) -> Result<()> {
        if value.is_empty() {
            return Ok(());
        }
        self.line(format_args!("{} {}", self.toned(Tone::Dim, &format!("{label:<11}")), text::plain(value)))
    }

    /// Prints what belongs to a label: a word with its look, and what follows it. `row` takes every escape for somebody's
    /// text, and makes it harmless.
    pub(crate) fn toned_row(self, label: &str, tone: Tone, word: &str, rest: &str) -> Result<()> {
        let label = self.toned(Tone::Dim, &format!("{label:<11}"));
        let word = self.toned(tone, &text::plain(word));
        self.line(format_args!("{label} {word}{}", text::plain(rest)))
    }

    /// Prints a line of the answer.
    pub(crate) fn line(self, text: impl std::fmt::Display) -> Result<()> {
        writeln!(std::io::stdout().lock(), "{text}").map_err(Error::from)
    }

    /// Prints the answer as one JSON value: for reading on a terminal, on one line elsewhere.
    pub(crate) fn value(self, value: &Value) -> Result<()> {
        if self.terminal { self.line(format_args!("{value:#}")) } else { self.line(value) }
    }

    /// Prints one line of a stream of JSON values, at once.
    pub(crate) fn event(self, value: &Value) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{value}")?;
        stdout.flush().map_err(Error::from)
    }

    /// Says something about the answer, on stderr. Not with `--json`: there stderr is for errors.
    pub(crate) fn note(self, text: impl std::fmt::Display) {
        if !self.json {
            self.say(text);
        }
    }

    /// Says something on stderr. A stderr that cannot be written is nothing to fail for.
    pub(crate) fn say(self, text: impl std::fmt::Display) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Text for stdout, with its tone where colours are wanted.
    pub(crate) fn toned(self, tone: Tone, text: &str) -> String {
        toned(self.stdout_colors, tone, text)
    }

    /// Shows why the verb failed.
    pub(crate) fn report(self, error: &Error) {
        let label = |tone, text| toned(self.stderr_colors, tone, text);
        self.say(format_args!("{} {}", label(Tone::Bad, "error:"), text::plain(&error.message())));
        let Error::Told(told) = error else { return };
        if let Some(hint) = &told.hint {
            self.say(format_args!("{} {}", label(Tone::Strong, "hint:"), text::plain(hint)));
        }
        // What is wrong with the command line, or not there, needs no look into the server's log.
        let is_ours = matches!(told.exit, Exit::Usage | Exit::NotFound);
        if let Some(id) = told.request_id.as_ref().filter(|_| !is_ours) {
            self.say(format_args!("{} {}", label(Tone::Dim, "request id:"), text::plain(id)));
        }
        if self.json {
            say_json(error);
        }
    }
}

/// What went wrong, on stderr, for scripts: the last thing that is said there.
pub(crate) fn say_json(error: &Error) {
    let _ = writeln!(std::io::stderr().lock(), "{}", json!({ "error": error_value(error) }));
}

/// An error as scripts read it.
pub(crate) fn error_value(error: &Error) -> Value {
    match error {
        Error::Told(told) => json!({
            "code": code_name(told.code),
            "reason": told.reason,
            "message": told.message,
            "metadata": told.metadata,
            "request_id": told.request_id,
        }),
        Error::Stdout(_) => json!({
            "code": "unknown", "reason": "", "message": error.message(), "metadata": {}, "request_id": null,
        }),
    }
}

fn toned(colors: bool, tone: Tone, text: &str) -> String {
    if !colors || tone == Tone::Plain {
        return text.to_owned();
    }
    format!("{}{text}\u{1b}[0m", tone.escape())
}
