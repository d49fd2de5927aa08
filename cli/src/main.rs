//! The `hoist` binary. Parses the command line, runs one verb, and turns how it ended into an exit code; it holds
//! nothing else, so that everything that can go wrong is a value until it gets here.

mod args;
mod client;
mod error;
mod exit;
mod output;
mod verbs;

use std::process::ExitCode;

use crate::error::Error;
use crate::exit::Exit;
use crate::output::Out;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    // A line that cannot be read may ask for JSON all the same.
    let asks_for_json = words.iter().any(|word| word == "--json");
    let cli = match args::parse(words) {
        Ok(cli) => cli,
        Err(told) => return clap_says(&told, asks_for_json),
    };
    let out = Out::new(&cli.common);
    match verbs::run(cli, out) {
        Ok(exit) => exit.into(),
        // Whoever reads has seen enough: `hoist watch | head -1` is not a failure.
        Err(Error::Stdout(cause)) if cause.kind() == std::io::ErrorKind::BrokenPipe => Exit::Done.into(),
        Err(error) => {
            out.report(&error);
            error.exit().into()
        }
    }
}

/// Help and version go to stdout and are no failure; everything else clap has to say is a usage error.
fn clap_says(told: &clap::Error, asks_for_json: bool) -> ExitCode {
    // Nobody is left to tell when this cannot be written.
    let _ = told.print();
    if !told.use_stderr() {
        return Exit::Done.into();
    }
    if asks_for_json {
        output::say_json(&Error::usage(args::what_is_wrong(told), None));
    }
    Exit::Usage.into()
}
