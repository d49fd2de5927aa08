//! Reads that go through all models: some ten milliseconds each where there are a hundred thousand. They are done apart
//! from the threads that everything else waits on, and as many at a time as there are processors.

use std::sync::Arc;

use hoist_domain::{ContentHash, Error, Model, ModelId, Position, Reason, ResourceName, Result, plural};
use hoist_planner::Answer;
use hoist_wire::v1;

use super::Api;
use super::call::Call;
use crate::catalog::find;
use crate::control::View;

impl Api {
    /// Does such a read.
    pub(super) async fn over_all<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let stopping = |_| Error::new(Reason::Draining, "the server is stopping; connect again");
        let turn = Arc::clone(&self.over_all_turns).acquire_owned().await.map_err(stopping)?;
        let api = self.clone();
        let done = self.tasks.run_blocking("read models", move || {
            let result = read(&api);
            drop(turn);
            result
        });
        done.await.map_err(|panicked| {
            Error::new(
                Reason::Internal,
                format!("the read ended by a defect of Hoist ({panicked}); report it"),
            )
        })?
    }

    /// The published state, and whether more may be found yet. Asked in this order: a look that ends in between has told
    /// the owner all that it saw.
    pub(super) fn view_of_models(&self) -> (Arc<View>, Option<v1::FirstLook>) {
        let is_first = self.catalog.looks_for_the_first_time();
        let view = self.control.view();
        let first_look = is_first.then(|| v1::FirstLook { models: view.state.models().len() as u64 });
        (view, first_look)
    }

    /// The model that a name means.
    pub(super) async fn named(&self, name: &str) -> Result<Arc<Model>> {
        self.named_at(name).await.map(|(model, _)| model)
    }

    /// The models that these mean, all in one state.
    pub(super) async fn all_named(&self, names: Vec<String>) -> Result<Vec<Arc<Model>>> {
        let find = |api: &Self, names: &[String]| {
            let (view, first_look) = api.view_of_models();
            names.iter().map(|name| found_so_far(&view, name, first_look)).collect()
        };
        if names.iter().all(|name| name.starts_with("models/")) {
            return find(self, &names);
        }
        self.over_all(move |api| find(api, &names)).await
    }

    /// The same of one, with the state in which it does.
    pub(super) async fn named_at(&self, name: &str) -> Result<(Arc<Model>, Position)> {
        // Its own name is found without a search.
        if name.starts_with("models/") {
            return self.found(name);
        }
        let name = name.to_owned();
        self.over_all(move |api| api.found(&name)).await
    }

    /// The model that has this id.
    pub(super) fn model(&self, id: ModelId) -> Result<Arc<Model>> {
        self.control.view().state.models().get(id).cloned().ok_or_else(|| {
            let name = ResourceName::Model(id);
            Error::new(Reason::ResourceNotFound, format!("{name} has been deleted meanwhile"))
                .with("name", name)
        })
    }

    /// The model that a change is for, and whether it was made before: then the one that the name meant at that time.
    pub(super) async fn edited<T: Sync>(
        &self,
        call: &Call<T>,
        content: ContentHash,
        name: &str,
    ) -> Result<(Arc<Model>, bool)> {
        match self.repeated(call, content)? {
            Some(Answer::Model(id)) => self.model(id).map(|model| (model, true)),
            _ => self.named(name).await.map(|model| (model, false)),
        }
    }

    fn found(&self, name: &str) -> Result<(Arc<Model>, Position)> {
        let (view, first_look) = self.view_of_models();
        let model = found_so_far(&view, name, first_look)?;
        Ok((model, view.state.position()))
    }
}

/// The model that a name means; a refusal says whether it may be found yet.
pub(super) fn found_so_far(view: &View, name: &str, first_look: Option<v1::FirstLook>) -> Result<Arc<Model>> {
    find(view.state.models(), name).map(Arc::clone).map_err(|error| match first_look {
        Some(look) if error.reason() == Reason::ResourceNotFound => not_yet(&error, look.models),
        _ => error,
    })
}

fn not_yet(error: &Error, models: u64) -> Error {
    let so_far = plural(models, "model");
    let message = format!("{error}; the roots are still being looked at for the first time: {so_far} so far");
    let told = Error::new(error.reason(), message).with("first_look", models);
    error.metadata().iter().fold(told, |told, (key, value)| told.with(key, value))
}
