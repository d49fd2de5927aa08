//! Reads that go through all models: some ten milliseconds each where there are a hundred thousand. They are done apart
//! from the threads that everything else waits on, and as many at a time as there are processors.

use std::sync::Arc;

use hoist_domain::{Error, Model, Position, Reason, Result};

use super::Api;
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

    /// The model that a name means.
    pub(super) async fn named(&self, name: &str) -> Result<Arc<Model>> {
        self.named_at(name).await.map(|(model, _)| model)
    }

    /// The same, with the state in which it does.
    pub(super) async fn named_at(&self, name: &str) -> Result<(Arc<Model>, Position)> {
        // Its own name is found without a search.
        if name.starts_with("models/") {
            return found(&self.control.view(), name);
        }
        let name = name.to_owned();
        self.over_all(move |api| found(&api.control.view(), &name)).await
    }
}

fn found(view: &View, name: &str) -> Result<(Arc<Model>, Position)> {
    find(view.state.models(), name).map(|model| (Arc::clone(model), view.state.position()))
}
