//! What models are on devices, beside what they are in RAM: sums of each tensor, computed on either side.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use hoist_catalog::{DigestedTensor, digest_of_tensors};
use hoist_domain::{Digest, Error, Placement, Reason, Replica, ReplicaState, ResourceName, Result, Sum};
use hoist_planner::residency::must_exist;
use hoist_segment::Opened;
use hoist_wire::v1::verified_replica::Verdict;
use hoist_wire::{cache as cached, residency as wire, v1};
use tokio_util::sync::CancellationToken;

use super::Api;
use super::call::Call;

/// Bytes that are read at once.
const PIECE: usize = 8 << 20;

/// Names that an answer has of tensors that differ.
const MOST_NAMES: usize = 100;

impl Api {
    pub(super) async fn verify(
        &self,
        call: &Call<v1::VerifyReplicasRequest>,
    ) -> Result<v1::VerifyReplicasResponse> {
        let message = &call.message;
        let device = wire::read_device("device_id", &message.device_id)?;
        if let Some(device) = device {
            must_exist(&self.control.view().state, Placement::On(device))?;
        }
        let model = self.named(&message.name).await?;
        let view = self.control.view();
        let is_meant = |one: &&Arc<Replica>| {
            one.state == ReplicaState::Active
                && one.models.contains(&model.id)
                && device.is_none_or(|device| device == one.device)
        };
        let replicas: Vec<Arc<Replica>> =
            view.state.residency().replicas().filter(is_meant).cloned().collect();
        if replicas.is_empty() {
            let place = device.map_or_else(|| "any device".to_owned(), |device| device.to_string());
            let error = Error::new(Reason::ResourceNotFound, format!("{} is not on {place}", model.name()));
            return Err(error.with("model", ResourceName::Model(model.id)));
        }
        let stopping = |_| Error::new(Reason::Draining, "the server is stopping");
        let _turn = Arc::clone(&self.verify_turns).acquire_owned().await.map_err(stopping)?;
        let mut verified = Vec::with_capacity(replicas.len());
        for replica in replicas {
            verified.push(self.verified(&replica).await?);
        }
        Ok(v1::VerifyReplicasResponse { request_id: call.id.to_string(), replicas: verified })
    }

    async fn verified(&self, replica: &Replica) -> Result<v1::VerifiedReplica> {
        let answer = v1::VerifiedReplica {
            replica: ResourceName::Replica(replica.id).to_string(),
            device_id: replica.device.to_string(),
            segment: cached::segment_name(replica.digest),
            models: replica.models.iter().map(|model| ResourceName::Model(*model).to_string()).collect(),
            ..v1::VerifiedReplica::default()
        };
        let not_compared = |reason: String| v1::VerifiedReplica {
            verdict: Verdict::NotCompared.into(),
            reason,
            ..answer.clone()
        };
        if let Some(dtype) = replica.dtype {
            return Ok(not_compared(format!("it was converted to {dtype}: in RAM it is something else")));
        }
        let Some(path) = self.cache.shelf()?.path_of(replica.digest) else {
            return Ok(not_compared("it is not in RAM: `hoist cache` it, and ask again".to_owned()));
        };
        let digest = replica.digest;
        // Who asked may be gone before it is done.
        let stop = CancellationToken::new();
        let _goes_on = stop.clone().drop_guard();
        let expected = self.tasks.run_blocking("sums", move || sums(&path, digest, &stop)).await;
        let expected = expected.map_err(|panicked| Error::new(Reason::Internal, panicked.to_string()))?;
        let expected = match expected {
            Ok(Some(expected)) => expected,
            Ok(None) => {
                let reason = "what is in RAM is not what its digest says: unload it, `hoist evict` it, and load it again";
                let (verdict, reason) = (Verdict::SegmentDamaged.into(), reason.to_owned());
                return Ok(v1::VerifiedReplica { verdict, reason, ..answer });
            }
            Err(error) => return Ok(not_compared(format!("its segment cannot be read: {error}"))),
        };
        let found = match self.fleet.sums(replica.device, replica.id).await {
            Ok(found) => found,
            Err(error) => return Ok(not_compared(error.message().to_owned())),
        };
        Ok(compared(answer, &expected, &found))
    }
}

/// What of both sides differs, or is on one alone.
fn compared(
    answer: v1::VerifiedReplica,
    expected: &BTreeMap<String, u64>,
    found: &BTreeMap<String, u64>,
) -> v1::VerifiedReplica {
    let names = expected.keys().chain(found.keys().filter(|name| !expected.contains_key(*name)));
    let wrong: Vec<&String> = names.filter(|name| expected.get(*name) != found.get(*name)).collect();
    let verdict = if wrong.is_empty() { Verdict::Equal } else { Verdict::Different };
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    v1::VerifiedReplica {
        verdict: verdict.into(),
        tensors: count(expected.len()),
        wrong: wrong.iter().take(MOST_NAMES).map(|name| (*name).clone()).collect(),
        wrong_count: count(wrong.len()),
        ..answer
    }
}

/// Of each tensor of a segment, or each file as it is. None: they are not those of its digest. Of files as they are that is not
/// looked at: what they are called in their model goes into it.
fn sums(path: &Path, digest: Digest, stop: &CancellationToken) -> io::Result<Option<BTreeMap<String, u64>>> {
    let opened = Opened::open(path, digest)?;
    let is_of_tensors = path.extension().is_some_and(|extension| extension == "safetensors");
    let mut buffer = vec![0; PIECE];
    let (mut sums, mut digested) = (BTreeMap::new(), Vec::new());
    for (file, placed) in opened.tensors() {
        let (mut sum, mut at, mut hasher) = (Sum::default(), 0, blake3::Hasher::new());
        while at < placed.length {
            if stop.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let length = usize::try_from(placed.length - at).unwrap_or(usize::MAX).min(PIECE);
            let piece = buffer.get_mut(..length).unwrap_or_default();
            opened.read(file, placed.offset.saturating_add(at), piece)?;
            sum.add(piece);
            if is_of_tensors {
                hasher.update(piece);
            }
            at += length as u64;
        }
        sums.insert(placed.name.to_string(), sum.finish());
        let (name, dtype, shape) = (&*placed.name, placed.dtype, &*placed.shape);
        digested.push(DigestedTensor { name, dtype, shape, hash: *hasher.finalize().as_bytes() });
    }
    let is_right = !is_of_tensors || digest_of_tensors(digested) == digest;
    Ok(is_right.then_some(sums))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_and_what_is_on_one_side_alone_is_wrong() {
        let of = |sums: &[(&str, u64)]| sums.iter().map(|(name, sum)| ((*name).to_owned(), *sum)).collect();
        let both = |expected: &[(&str, u64)], found: &[(&str, u64)]| {
            compared(v1::VerifiedReplica::default(), &of(expected), &of(found))
        };
        let equal = both(&[("a", 1), ("b", 2)], &[("b", 2), ("a", 1)]);
        assert_eq!((equal.verdict(), equal.tensors, equal.wrong_count), (Verdict::Equal, 2, 0));
        let other = both(&[("a", 1), ("b", 2), ("c", 3)], &[("a", 1), ("b", 3), ("d", 3)]);
        assert_eq!((other.verdict(), other.wrong_count), (Verdict::Different, 3));
        assert_eq!(other.wrong, ["b", "c", "d"]);
    }
}
