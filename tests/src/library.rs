//! A folder of models with a real server that looks at it, and a watcher that sees what the server says of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hoist_wire::longrunning::Operation;
use hoist_wire::longrunning::operation::Result as Outcome;
use hoist_wire::v1;
use hoist_wire::v1::resource::Value;
use prost::Message;
use tonic::{Status, Streaming};

use crate::{Channels, Mirror, Sandbox, Server, connect, request_id};

/// How long anything here may take. Only a test that fails waits for so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A root for models beside the directories of a server.
#[derive(Debug)]
pub struct Library {
    pub sandbox: Sandbox,
    root: tempfile::TempDir,
}

impl Library {
    /// An empty root on tmpfs. The server looks when it is asked, and finds out no digests, unless the test says otherwise.
    ///
    /// # Errors
    /// When the directories cannot be made.
    pub fn new() -> Result<Self> {
        let root = tempfile::Builder::new().prefix("hoist-test-").tempdir_in("/dev/shm")?;
        let sandbox = Sandbox::new()?;
        let mut library = Self { sandbox, root };
        library.serve_root(&library.root());
        library.set("CATALOG_FOLLOW", "false");
        library.set("CATALOG_DIGEST", "false");
        library.set("CATALOG_RESCAN_INTERVAL", "1h");
        Ok(library)
    }

    /// The same, with a server that is told of changes by the kernel.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn followed() -> Result<Self> {
        let mut library = Self::new()?;
        library.set("CATALOG_FOLLOW", "true");
        Ok(library)
    }

    /// Sets a setting, by the rest of its variable's name.
    pub fn set(&mut self, name: &str, value: &str) {
        let name = format!("HOIST_{name}");
        self.sandbox.environment.retain(|(known, _)| *known != name);
        self.sandbox.environment.push((name, value.to_owned()));
    }

    /// One more root.
    pub fn serve_root(&mut self, path: &Path) {
        self.sandbox.flags.extend(["--models".to_owned(), path.display().to_string()]);
    }

    /// The root, without links.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.root.path().canonicalize().expect("the root is there")
    }

    #[must_use]
    pub fn path(&self, below: &str) -> PathBuf {
        self.root().join(below)
    }

    /// Writes a file and the folders that it needs.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, below: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        std::fs::write(&path, bytes)?;
        Ok(path)
    }

    /// Writes a safetensors file of one tensor of so many bytes, all of them a hole: however many that are, they take no
    /// room, and reading them takes time.
    ///
    /// # Errors
    /// The file system's.
    pub fn sparse(&self, below: &str, bytes: u64) -> Result<PathBuf> {
        let header = format!(r#"{{"w":{{"dtype":"U8","shape":[{bytes}],"data_offsets":[0,{bytes}]}}}}"#);
        let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
        let path = self.write(below, &file)?;
        std::fs::File::options().write(true).open(&path)?.set_len(file.len() as u64 + bytes)?;
        Ok(path)
    }

    /// Starts a server that has looked once.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn open(&self) -> Result<Open> {
        Open::to(self.sandbox.start()?).await
    }
}

/// A server, a connection to it, and a watch of everything.
#[derive(Debug)]
pub struct Open {
    pub server: Server,
    pub at: Channels,
    pub watch: Watcher,
}

impl Open {
    /// Connects, and waits until the first look is over.
    ///
    /// # Errors
    /// When that does not happen.
    pub async fn to(server: Server) -> Result<Self> {
        let at = connect(&server.socket).await?;
        let watch = Watcher::of(&at).await?;
        let mut open = Self { server, at, watch };
        // One look at a time: this one ends after the first.
        open.scan(v1::ScanModelsRequest::default()).await?;
        open.watch.catch_up(&open.at.clone()).await?;
        Ok(open)
    }

    /// Looks, waits for the end, and for the watch to have seen what came of it.
    ///
    /// # Errors
    /// As the server refuses, or how the operation failed.
    pub async fn scan(&mut self, request: v1::ScanModelsRequest) -> Result<v1::ScanModelsResponse, Status> {
        let request = v1::ScanModelsRequest { wait_for: waiting(), request_id: request_id(), ..request };
        let operation = self.at.catalog().scan_models(request).await?.into_inner();
        let report = result(operation)?;
        let at = self.at.clone();
        self.watch.catch_up(&at).await.map_err(|error| Status::unknown(format!("{error:#}")))?;
        Ok(report)
    }

    /// Looks at all roots.
    ///
    /// # Errors
    /// As [`Self::scan`].
    pub async fn look(&mut self) -> Result<v1::ScanModelsResponse, Status> {
        self.scan(v1::ScanModelsRequest::default()).await
    }

    /// Waits until the watch knows of no segment.
    ///
    /// # Errors
    /// As [`Watcher::until`].
    pub async fn until_no_segments(&mut self) -> Result<()> {
        self.watch.until("an empty cache", |mirror| mirror.count("segments/") == 0).await
    }

    /// Validates a model, and waits for the end.
    ///
    /// # Errors
    /// As the server refuses, or how the operation failed.
    pub async fn validate(
        &self,
        name: &str,
        level: v1::ValidationLevel,
    ) -> Result<v1::ValidateModelResponse, Status> {
        let name = name.to_owned();
        self.validate_as(v1::ValidateModelRequest { name, level: level.into(), ..Default::default() }).await
    }

    /// The same, asked in full.
    ///
    /// # Errors
    /// As [`Self::validate`].
    pub async fn validate_as(
        &self,
        request: v1::ValidateModelRequest,
    ) -> Result<v1::ValidateModelResponse, Status> {
        let request = v1::ValidateModelRequest { request_id: request_id(), wait_for: waiting(), ..request };
        result(self.at.integrity().validate_model(request).await?.into_inner())
    }

    /// Writes notes about a model.
    ///
    /// # Errors
    /// As the server refuses.
    pub async fn note(&self, name: &str, notes: v1::ModelNotes) -> Result<v1::Model, Status> {
        let request = v1::UpdateModelRequest {
            request_id: request_id(),
            name: name.to_owned(),
            notes: Some(notes),
            ..Default::default()
        };
        let answer = self.at.catalog().update_model(request).await?.into_inner();
        answer.model.ok_or_else(|| Status::unknown("no model"))
    }

    /// Every model that is listed, the missing ones too, in the order of paths.
    ///
    /// # Errors
    /// As the server refuses.
    pub async fn list(&self) -> Result<Vec<v1::Model>, Status> {
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListModelsRequest {
                order_by: "path".to_owned(),
                page_size: 1_000,
                page_token,
                show_missing: true,
                ..Default::default()
            };
            let page = self.at.catalog().list_models(request).await?.into_inner();
            all.extend(page.models);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            page_token = page.next_page_token;
        }
    }
}

/// As long as any operation of a test may take.
#[must_use]
pub fn waiting() -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: 60, nanos: 0 })
}

/// What an operation that has ended came to.
///
/// # Errors
/// How it failed, or that it has not ended.
pub fn result<T: Message + Default>(operation: Operation) -> Result<T, Status> {
    match operation.result {
        Some(Outcome::Response(any)) => {
            T::decode(any.value.as_slice()).map_err(|error| Status::unknown(error.to_string()))
        }
        Some(Outcome::Error(status)) => {
            let details = status.encode_to_vec().into();
            Err(Status::with_details(tonic::Code::from(status.code), status.message, details))
        }
        None => Err(Status::deadline_exceeded(format!("{} has not ended", operation.name))),
    }
}

/// The reason that a refusal gives.
#[must_use]
pub fn reason(status: &Status) -> String {
    hoist_wire::status::Failure::from(status).reason
}

/// Follows a watch of everything.
#[derive(Debug)]
pub struct Watcher {
    stream: Streaming<v1::WatchResponse>,
    pub mirror: Mirror,
}

impl Watcher {
    /// With the snapshot already there.
    ///
    /// # Errors
    /// When the server refuses, or breaks the contract.
    pub async fn of(at: &Channels) -> Result<Self> {
        let stream = at.state().watch(v1::WatchRequest::default()).await?.into_inner();
        let mut watcher = Self { stream, mirror: Mirror::new() };
        watcher.until("the snapshot", |mirror| mirror.position.is_some()).await?;
        Ok(watcher)
    }

    /// Takes messages until something is so.
    ///
    /// # Errors
    /// When that takes too long, or the server breaks the contract.
    pub async fn until(&mut self, what: &str, is_so: impl Fn(&Mirror) -> bool) -> Result<()> {
        let reading = async {
            while !is_so(&self.mirror) {
                let message = self.stream.message().await?.context("a watch ends with a status")?;
                self.mirror.take(message)?;
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(PATIENCE, reading).await {
            Ok(read) => read,
            Err(_) => bail!("{what} did not come: {:#?}", self.models()),
        }
    }

    /// Takes messages until the watch is where the server is now.
    ///
    /// # Errors
    /// As [`Self::until`].
    pub async fn catch_up(&mut self, at: &Channels) -> Result<()> {
        let status = at.state().get_status(v1::GetStatusRequest::default()).await?.into_inner().status;
        let now = status.and_then(|status| status.position).context("a status has a position")?;
        self.until("the present", |mirror| mirror.position.is_some_and(|at| at.revision >= now.revision))
            .await
    }

    /// Models by their path.
    #[must_use]
    pub fn models(&self) -> Vec<&v1::Model> {
        models(&self.mirror)
    }

    #[must_use]
    pub fn at(&self, path: &Path) -> Option<&v1::Model> {
        at(&self.mirror, path)
    }
}

/// Models of a mirror, by their path.
#[must_use]
pub fn models(mirror: &Mirror) -> Vec<&v1::Model> {
    let mut models: Vec<&v1::Model> = mirror
        .resources
        .values()
        .filter_map(|resource| match &resource.value {
            Some(Value::Model(model)) => Some(model),
            _ => None,
        })
        .collect();
    models.sort_by(|one, other| one.path.cmp(&other.path));
    models
}

/// The model at a path.
#[must_use]
pub fn at<'a>(mirror: &'a Mirror, path: &Path) -> Option<&'a v1::Model> {
    models(mirror).into_iter().find(|model| Path::new(&model.path) == path)
}

/// A condition that holds.
#[must_use]
pub fn condition<'a>(mirror: &'a Mirror, kind: &str) -> Option<&'a v1::Condition> {
    match &mirror.resources.get(&format!("conditions/{kind}"))?.value {
        Some(Value::Condition(condition)) => Some(condition),
        _ => None,
    }
}
