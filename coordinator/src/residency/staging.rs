//! The part of a load that reads: what is not on its device already comes to RAM, and goes on from there as it comes.

use std::collections::{BTreeMap, BTreeSet};

use hoist_domain::{
    CacheReport, CacheSpec, DeviceId, Digest, Error, ModelId, ModelPart, Reason, ReplicaState, Result,
};
use hoist_planner::residency::Wanted;
use tokio::sync::mpsc;

use super::loading::Run;
use super::{ComponentSize, Sizes};

/// What is on its way to RAM, and what of it is there and held for this load.
struct Coming {
    wanted: Vec<Wanted>,
    held: BTreeSet<Digest>,
}

impl Run<'_> {
    /// Room on a device first, then what is not there already to RAM; what has come there is on its way to the device meanwhile.
    pub(super) async fn stage(&mut self, sizes: &Sizes) -> Result<(Vec<Wanted>, Vec<String>)> {
        let control = &self.loader.0.control;
        let ask = self.ask(sizes.wanted());
        let offer = self.once_it_is_there(|| control.admit(self.operation, ask.clone())).await?;
        self.reasons = Some(offer.reasons);
        let mut coming = Coming { wanted: sizes.wanted(), held: BTreeSet::new() };
        let mut left_out = Vec::new();
        // By model and name.
        let mut found: BTreeMap<(ModelId, Box<str>), Digest> = BTreeMap::new();
        for part in &self.spec.parts {
            let Some(part) = self.absent(part, &sizes.components, offer.device, &mut found) else {
                continue;
            };
            let cached = self.cache(&part, &mut coming).await?;
            self.read.0 = self.read.0.saturating_add(cached.read.0);
            left_out.extend(cached.left_out);
            for component in cached.components {
                self.must_be_as_it_was(&component.name, component.digest)?;
                let is_it = |one: &Wanted| one.model == part.model && one.component == component.name;
                if !sizes.components.iter().any(|one| is_it(&one.wanted)) {
                    let name =
                        self.loader.model(&part).map(|model| model.name().to_owned()).unwrap_or_default();
                    let message = format!("{name} has changed while it was read");
                    return Err(Error::new(Reason::SourceChanged, message));
                }
                found.insert((part.model, component.name), component.digest);
            }
        }
        // What only some of a model was read for has said nothing of the rest.
        left_out
            .extend(sizes.left_out.iter().filter(|one| !left_out.contains(one)).cloned().collect::<Vec<_>>());
        let with_digest = |one: Wanted| {
            let digest = found.get(&(one.model, one.component.clone())).copied();
            digest.map(|digest| Wanted { digest: Some(digest), ..one })
        };
        Ok((sizes.wanted().into_iter().filter_map(with_digest).collect(), left_out))
    }

    /// What of a model is to be read: all that is asked for, but for what can be used on the device already, which is noted. None:
    /// all of it can.
    fn absent(
        &self,
        part: &ModelPart,
        components: &[ComponentSize],
        device: DeviceId,
        found: &mut BTreeMap<(ModelId, Box<str>), Digest>,
    ) -> Option<ModelPart> {
        let view = self.loader.0.control.view();
        let residency = view.state.residency();
        let own = || components.iter().map(|one| &one.wanted).filter(|one| one.model == part.model);
        let is_there = |one: &&Wanted| {
            let replica = one.digest.and_then(|digest| residency.sharing(device, digest, one.dtype));
            replica.is_some_and(|replica| replica.state == ReplicaState::Active)
        };
        let (there, absent): (Vec<&Wanted>, Vec<&Wanted>) =
            own().partition(|one| !self.spec.validate && is_there(one));
        if there.is_empty() {
            return Some(part.clone());
        }
        let digests = there.iter().filter_map(|one| one.digest.map(|digest| (one, digest)));
        found.extend(digests.map(|(one, digest)| ((part.model, one.component.clone()), digest)));
        let components: Vec<Box<str>> = absent.into_iter().map(|one| one.component.clone()).collect();
        (!components.is_empty()).then_some(ModelPart { model: part.model, components })
    }

    /// A model to RAM. Of what is coming, each component has its digest from the moment on at which it is there, and is placed.
    async fn cache(&self, part: &ModelPart, coming: &mut Coming) -> Result<CacheReport> {
        let spec = CacheSpec {
            model: part.model,
            components: part.components.clone(),
            priority: self.spec.priority,
            validate: self.spec.validate,
            allow: self.spec.allow.clone(),
        };
        let (tell, mut told) = mpsc::unbounded_channel::<(Box<str>, Digest)>();
        let arrived = move |name: &str, digest: Digest| drop(tell.send((name.into(), digest)));
        let cache = &self.loader.0.cache;
        // The teller ends with the caching, and with it the placing.
        let caching = async move { cache.cache(&spec, self.operation, self.cell, self.stop, &arrived).await };
        let placing = async {
            while let Some(first) = told.recv().await {
                let mut arrived = vec![first];
                while let Ok(next) = told.try_recv() {
                    arrived.push(next);
                }
                for (name, digest) in arrived {
                    // What is not what it was fails its load once all is read: nobody wants it on a device.
                    if self.must_be_as_it_was(&name, digest).is_err() {
                        continue;
                    }
                    let is_it = |one: &&mut Wanted| one.model == part.model && one.component == name;
                    if let Some(one) = coming.wanted.iter_mut().find(is_it) {
                        one.digest = Some(digest);
                    }
                    coming.held.insert(digest);
                }
                let ask = self.placing(coming.wanted.clone(), false);
                // What cannot be placed now is placed, or refused, when everything is there.
                let _ = self.loader.0.control.place_early(ask, coming.held.clone()).await;
            }
        };
        tokio::join!(caching, placing).0
    }

    /// What is brought back is what was loaded: nobody has asked for what has come in its place.
    fn must_be_as_it_was(&self, component: &str, digest: Digest) -> Result<()> {
        match self.spec.restores.iter().find(|part| *part.component == *component) {
            Some(part) if part.digest != digest => {
                let message =
                    format!("{component} has changed since it was loaded: load it again, or unload it");
                Err(Error::new(Reason::SourceChanged, message))
            }
            _ => Ok(()),
        }
    }
}
