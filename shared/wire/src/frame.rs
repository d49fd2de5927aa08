//! [`WatchFrame`]: a `WatchResponse` whose parts are already encoded.
//!
//! On the wire a message field and a bytes field look the same, so the two types are interchangeable there. The
//! server encodes a delta or a snapshot chunk once and every watcher's stream copies the bytes; ten thousand
//! watchers cost ten thousand small copies, not ten thousand encodings.

use bytes::Bytes;
use prost::Message;

use crate::v1;

/// Wire twin of `hoist.api.v1.WatchResponse`; the tags are that message's. Exactly one field is set.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct WatchFrame {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub snapshot: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub snapshot_end: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub delta: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub mark: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub progress: Option<Bytes>,
}

impl WatchFrame {
    /// An encoded `SnapshotChunk`.
    #[must_use]
    pub fn of_snapshot(chunk: Bytes) -> Self {
        Self { snapshot: Some(chunk), ..Self::default() }
    }

    #[must_use]
    pub fn of_snapshot_end(end: &v1::SnapshotEnd) -> Self {
        Self { snapshot_end: Some(end.encode_to_vec().into()), ..Self::default() }
    }

    /// An encoded `Delta`.
    #[must_use]
    pub fn of_delta(delta: Bytes) -> Self {
        Self { delta: Some(delta), ..Self::default() }
    }

    #[must_use]
    pub fn of_mark(mark: &v1::Mark) -> Self {
        Self { mark: Some(mark.encode_to_vec().into()), ..Self::default() }
    }

    #[must_use]
    pub fn of_progress(sample: &v1::ProgressSample) -> Self {
        Self { progress: Some(sample.encode_to_vec().into()), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::watch_response::Event;

    #[test]
    fn a_frame_is_a_watch_response_on_the_wire() {
        let position = Some(v1::Position { epoch: 3, revision: 9 });
        let chunk = v1::SnapshotChunk {
            resources: vec![v1::Resource { name: "machine".into(), position, value: None }],
        };
        let end = v1::SnapshotEnd { position, resources: 1 };
        let delta = v1::Delta { position, changes: vec![v1::Change::default()] };
        let mark = v1::Mark { position };
        let progress = v1::ProgressSample { operations: vec![v1::OperationProgress::default()] };
        for (frame, event) in [
            (WatchFrame::of_snapshot(chunk.encode_to_vec().into()), Event::Snapshot(chunk)),
            (WatchFrame::of_snapshot_end(&end), Event::SnapshotEnd(end)),
            (WatchFrame::of_delta(delta.encode_to_vec().into()), Event::Delta(delta)),
            (WatchFrame::of_mark(&mark), Event::Mark(mark)),
            (WatchFrame::of_progress(&progress), Event::Progress(progress)),
        ] {
            let decoded = v1::WatchResponse::decode(frame.encode_to_vec().as_slice()).unwrap();
            assert_eq!(decoded.event, Some(event));
        }
    }
}
