//! `hoist segments`: what is in RAM, and who uses it.

use hoist_domain::Bytes;
use hoist_wire::v1;
use serde_json::Value;

use crate::args::SegmentsArgs;
use crate::client::{Client, request_id};
use crate::error::Result;
use crate::exit::Exit;
use crate::output::cache::{segment_status, short_segment, state_tone, state_words};
use crate::output::results::plural;
use crate::output::table::{Table, Toned};
use crate::output::{Tone, text};
use crate::verbs::{Session, list, names};

/// Segments, and their count and size on all pages together.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) segments: Vec<v1::SegmentStatus>,
    total_bytes: u64,
}

impl Listed {
    /// The one of this name.
    pub(crate) fn find(&self, name: &str) -> Option<&v1::SegmentStatus> {
        let is_it = |it: &v1::SegmentStatus| it.segment.as_ref().is_some_and(|segment| segment.name == name);
        self.segments.iter().find(|it| is_it(it))
    }
}

/// All pages of the segments of this model, or of all where it is empty.
pub(crate) async fn pages(client: &Client, name: &str) -> Result<Listed> {
    let mut listed = Listed::default();
    let mut page_token = String::new();
    loop {
        let request = v1::ListSegmentsRequest {
            request_id: request_id(),
            name: name.to_owned(),
            page_size: i32::try_from(list::PAGE).unwrap_or(i32::MAX),
            page_token,
        };
        let id = request.request_id.clone();
        let page = client.call(Some(&id), client.cache().list_segments(request)).await?;
        listed.total_bytes = page.total_bytes;
        listed.segments.extend(page.segments);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(listed);
        }
    }
}

pub(crate) async fn run(session: &Session, args: &SegmentsArgs) -> Result<Exit> {
    let client = session.connect().await?;
    let name = args.name.as_ref().map(|name| names::model(name)).transpose()?.unwrap_or_default();
    let listed = pages(&client, &name).await?;
    let out = session.out;
    if out.json {
        out.value(&listed.segments.iter().map(segment_status).collect::<Value>())?;
        return Ok(Exit::Done);
    }
    if listed.segments.is_empty() {
        out.note(match &args.name {
            Some(name) => {
                format!("nothing of {0} is in RAM: `hoist cache {0}` brings it there", text::one_line(name))
            }
            None => "nothing is in RAM: `hoist cache NAME` brings a model there".to_owned(),
        });
        return Ok(Exit::Done);
    }
    let header = ["DIGEST", "TYPE", "SIZE", "STATE", "PRIORITY", "LEASES", "PIN", "IDLE", "USES", "USED BY"];
    let mut table = Table::new(header).spare(&[4, 8, 7, 1, 5]);
    for it in &listed.segments {
        let segment = it.segment.clone().unwrap_or_default();
        table.row([
            Toned(Tone::Dim, short_segment(&segment.name).unwrap_or("-").to_owned()),
            segment.r#type.as_str().into(),
            Bytes(segment.size_bytes).to_string().into(),
            Toned(state_tone(segment.state), state_words(&segment)),
            text::priority(segment.priority).into(),
            if it.leases > 0 { Toned(Tone::Strong, it.leases.to_string()) } else { "-".into() },
            if it.pinned { Toned(Tone::Strong, "yes".to_owned()) } else { "-".into() },
            it.idle.as_ref().map_or_else(|| "-".to_owned(), |idle| text::span(text::wire_span(idle))).into(),
            it.uses.to_string().into(),
            used_by(it).into(),
        ]);
    }
    table.print(out)?;
    let count = u64::try_from(listed.segments.len()).unwrap_or(u64::MAX);
    out.note(format_args!("{}, {}", plural(count, "segment"), Bytes(listed.total_bytes)));
    Ok(Exit::Done)
}

/// The first that it was cached for, and how many others have it: `sdxl:vae +3`.
pub(crate) fn used_by(it: &v1::SegmentStatus) -> String {
    let first = it.users.iter().find(|user| user.cached).or_else(|| it.users.first());
    let Some(first) = first else { return "no known model".to_owned() };
    let name = text::one_line(&format!("{}:{}", first.display_name, first.component));
    match it.user_count.saturating_sub(1) {
        0 => name,
        others => format!("{name} +{others}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_user_is_one_that_it_was_cached_for() {
        let user = |name: &str, cached: bool| v1::SegmentUser {
            display_name: name.into(),
            component: "vae".into(),
            cached,
            ..Default::default()
        };
        let mut it = v1::SegmentStatus::default();
        assert_eq!(used_by(&it), "no known model");
        (it.users, it.user_count) = (vec![user("a", false)], 1);
        assert_eq!(used_by(&it), "a:vae");
        (it.users, it.user_count) = (vec![user("a", false), user("b", true)], 140);
        assert_eq!(used_by(&it), "b:vae +139");
    }
}
