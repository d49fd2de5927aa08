//! `hoist completions`: a script for a shell, made from the same description that parses the command line.

use std::io::Write as _;

use clap::CommandFactory as _;

use crate::args::{Cli, CompletionsArgs};
use crate::error::Result;
use crate::exit::Exit;

pub(crate) fn run(args: &CompletionsArgs) -> Result<Exit> {
    // Into memory first: the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hoist", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(Exit::Done)
}
