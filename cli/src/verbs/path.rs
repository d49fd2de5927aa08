//! `hoist path`: where models' components are in RAM, as files that any program can open. Nothing holds them afterwards.

use hoist_wire::v1;
use serde_json::{Value, json};

use crate::args::PathArgs;
use crate::error::Result;
use crate::exit::Exit;
use crate::output::json::set;
use crate::output::table::{Table, Toned};
use crate::output::{Tone, cache as shown, error_value, text};
use crate::verbs::cache::{self, Cached, How};
use crate::verbs::{Session, wanted};

/// What is not in RAM is cached first; of what is, nothing is read. The exit code is the worst.
pub(crate) async fn run(session: &Session, args: &PathArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let named = wanted::resolve_each(&client, &args.names, &[]).await?;
    let (names, wanted): (Vec<String>, Vec<_>) = wanted::once(named).into_iter().unzip();
    let answers = cache::all(session, &client, wanted, &How::default()).await?;
    let out = session.out;
    let done: Vec<&Cached> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    if out.json {
        let failed = |(written, answer): (&String, &Result<Cached>)| {
            answer.as_ref().err().map(|error| json!({ "name": written, "error": error_value(error) }))
        };
        let rows = done.iter().flat_map(|it| it.report.components.iter().map(|one| value(&it.model, one)));
        out.value(&rows.chain(names.iter().zip(&answers).filter_map(failed)).collect::<Value>())?;
    } else if out.width().is_some() {
        table(session, &done)?;
    } else {
        for it in done.iter().flat_map(|it| &it.report.components) {
            out.line(row(it))?;
        }
    }
    for it in &done {
        for line in &it.report.left_out {
            out.note(format_args!("left on the disk: {}", text::one_line(line)));
        }
    }
    let mut exit = Exit::Done;
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        out.report(error);
        exit = exit.max(error.exit());
    }
    Ok(exit)
}

/// What scripts take apart: nothing in it can be taken for a tab or the end of a line.
fn row(it: &v1::CachedComponent) -> String {
    [&it.component, &it.path, &it.prefix].map(|part| text::one_line(part)).join("\t")
}

fn table(session: &Session, done: &[&Cached]) -> Result<()> {
    let out = session.out;
    let several = done.len() > 1;
    let skipped = usize::from(!several);
    let mut table = Table::new(["MODEL", "COMPONENT", "PATH", "STRIPPED PREFIX"].into_iter().skip(skipped));
    let mut is_empty = true;
    for (cached, label) in done.iter().zip(cache::labels(done)) {
        for it in &cached.report.components {
            let cells: [Toned; 4] = [
                text::one_line(&label).into(),
                Toned(Tone::Strong, text::one_line(&it.component)),
                text::one_line(&it.path).into(),
                Toned(Tone::Dim, text::one_line(&it.prefix)),
            ];
            table.row(cells.into_iter().skip(skipped));
            is_empty = false;
        }
    }
    if !is_empty {
        table.print(out)?;
        out.note("nothing holds these files: `hoist pin` keeps them, `hoist hold` does while a command runs");
    }
    Ok(())
}

fn value(model: &v1::Model, it: &v1::CachedComponent) -> Value {
    let mut value = shown::component(it);
    set(&mut value, "id", model.name.clone().into());
    set(&mut value, "name", model.display_name.clone().into());
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_three_columns_whatever_names_hold() {
        let it = v1::CachedComponent {
            component: "vae".into(),
            path: "/dev/shm/a b/x\ny\tz".into(),
            prefix: "first_stage_model.".into(),
            ..Default::default()
        };
        assert_eq!(row(&it), "vae\t/dev/shm/a b/x\u{fffd}y\u{fffd}z\tfirst_stage_model.");
        assert_eq!(row(&v1::CachedComponent::default()), "\t\t");
    }
}
