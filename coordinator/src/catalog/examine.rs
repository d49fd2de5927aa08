//! Close looks: digests and validations. Bytes are read apart from everything else; what they say goes to the owner.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hoist_catalog::{Examine, Pace, ReadFailure, Roots, Wanted};
use hoist_domain::{
    Bytes, Digest, DigestReport, DigestSpec, Error, Model, ModelContent, ModelState, PathProblem, Reason,
    ResourceName, Result, ScanReport, ScanSpec, ValidateSpec, Validation, ValidationLevel, ValidationReport,
};
use hoist_planner::Examination;
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::compatibility::{self, DeviceFacts};
use super::digesting::{bytes_of, in_batches, is_below};
use super::look::tops;
use super::{Catalog, known};
use crate::operations::ProgressCell;

impl Catalog {
    /// Reads models' bytes and keeps the digests of their components.
    ///
    /// # Errors
    /// STORE_READONLY, DRAINING; what is wrong with single models is in the report.
    pub async fn digest(
        &self,
        spec: &DigestSpec,
        progress: &Arc<ProgressCell>,
        stop: &CancellationToken,
    ) -> Result<DigestReport> {
        progress.set_phase("reading models");
        let began = self.0.clock.monotonic();
        let is_background = spec.models.is_empty();
        let wanted = self.wanted(spec);
        progress.set_total(wanted.iter().map(|model| bytes_of(model)).sum());
        let total = wanted.len() as u64;
        progress.set_items(0, total);
        let roots = self.open_roots().await;
        let mut report = DigestReport::default();
        let mut done = 0;
        for batch in in_batches(wanted) {
            done += batch.len() as u64;
            self.digest_batch(batch, &roots, is_background, progress, stop, &mut report).await?;
            progress.set_items(done, total);
            if stop.is_cancelled() {
                break;
            }
        }
        report.took = self.0.clock.monotonic().saturating_sub(began);
        Ok(report)
    }

    /// The models whose bytes are to be read. Those that somebody named in the order of paths: neighbours on disk, mostly.
    /// Unasked the smallest first: a terabyte, of holes or not, holds nobody back but the next larger. What is found
    /// meanwhile has its turn when all of these were read, so that the large ones have theirs.
    fn wanted(&self, spec: &DigestSpec) -> Vec<Arc<Model>> {
        let reachable = self.reachable();
        let view = self.0.control.view();
        let models = view.state.models();
        let mut wanted: Vec<Arc<Model>> = if spec.models.is_empty() {
            let digesting = self.digesting();
            let wants = |model: &&Arc<Model>| digesting.wants(model) && is_below(&reachable, model);
            models.iter().filter(wants).map(Arc::clone).collect()
        } else {
            spec.models.iter().filter_map(|id| models.get(*id)).map(Arc::clone).collect()
        };
        wanted.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        if spec.models.is_empty() {
            wanted.sort_by_key(|model| bytes_of(model));
        }
        wanted
    }

    async fn digest_batch(
        &self,
        batch: Vec<Arc<Model>>,
        roots: &Arc<Roots>,
        is_background: bool,
        progress: &Arc<ProgressCell>,
        stop: &CancellationToken,
        report: &mut DigestReport,
    ) -> Result<()> {
        let (opened, cell) = (Arc::clone(roots), Arc::clone(progress));
        let models = batch.clone();
        let read = self.apart("digest", stop, move |flag| {
            let read = || {
                models.iter().map(|model| digests_of(&opened, model, &cell, flag, is_background)).collect()
            };
            if is_background { at_low_priority(read) } else { read() }
        });
        let read: Vec<Result<Digested, ReadFailure>> = read.await?;
        let mut found = Vec::new();
        for (model, result) in batch.into_iter().zip(read) {
            let components = model.content.components.len();
            match result {
                Ok(Digested { digests, of }) => {
                    // Other bytes than were recorded, in a file that nobody touched: for a validation to judge.
                    let is_believed = !model.content.vouches_for(&of);
                    let (same, other): (Vec<_>, Vec<_>) =
                        digests.into_iter().partition(|(number, digest)| {
                            let known =
                                model.content.components.get(*number).and_then(|component| component.digest);
                            is_believed || known.is_none_or(|known| known == *digest)
                        });
                    if !other.is_empty() {
                        let message = "its bytes are not those that were read before, though it was not written to: \
                                       validate it in full";
                        problem(report, &model, message.to_owned());
                    }
                    let digests = same;
                    report.components += digests.len() as u64;
                    report.models += u64::from(digests.len() == components);
                    if digests.len() < components {
                        self.digesting().give_up(&model);
                    }
                    let of = Arc::new(of);
                    found.push(Examination { id: model.id, of, digests, validation: None });
                }
                Err(ReadFailure::Stopped) if model.state != ModelState::Available => {
                    problem(report, &model, "its files are not there".to_owned());
                }
                Err(ReadFailure::Stopped) => {}
                Err(failure) => {
                    // A root that is not there says nothing about what is below it.
                    if roots.of(model.path.as_path()).is_some() {
                        self.digesting().give_up(&model);
                    }
                    problem(report, &model, failure.message());
                }
            }
        }
        report.bytes = Bytes(progress.done());
        self.0.control.examined(found).await
    }

    /// Looks into a model, as closely as asked.
    ///
    /// # Errors
    /// RESOURCE_NOT_FOUND, SOURCE_CHANGED, SOURCE_TRUNCATED, SOURCE_UNREADABLE, SOURCE_UNRESPONSIVE.
    pub async fn validate(
        &self,
        spec: &ValidateSpec,
        progress: &Arc<ProgressCell>,
        stop: &CancellationToken,
    ) -> Result<ValidationReport> {
        let began = self.0.clock.monotonic();
        let model = self.0.control.view().state.models().get(spec.model).cloned().ok_or_else(|| {
            let name = ResourceName::Model(spec.model);
            Error::new(Reason::ResourceNotFound, format!("{name} is not in the catalog any more"))
                .with("name", name)
        })?;
        let mut report = match spec.level {
            ValidationLevel::Header => self.validate_header(&model, progress, stop).await?,
            ValidationLevel::Full => {
                progress.set_total(bytes_of(&model));
                self.validate_full(&model, spec, progress, stop).await?
            }
            ValidationLevel::Compatibility => self.validate_compatibility(&model, spec, stop).await?,
        };
        report.took = self.0.clock.monotonic().saturating_sub(began);
        Ok(report)
    }

    /// Looks at every byte of all models at or below these paths; all models if there are none. How many, and how many
    /// of them are not sound.
    ///
    /// # Errors
    /// STORE_READONLY, DRAINING. What is wrong with single models is kept with them.
    pub async fn validate_below(
        &self,
        spec: &ScanSpec,
        progress: &Arc<ProgressCell>,
        stop: &CancellationToken,
    ) -> Result<(u64, u64)> {
        let (roots, view, asked) = (self.open_roots().await, self.0.control.view(), spec.paths.clone());
        let resolved = self.apart("paths", stop, move |_| tops(&roots, &asked, view.state.models()));
        let mut tops: Vec<PathBuf> = resolved.await??;
        if spec.paths.is_empty() {
            tops = self.reachable();
        }
        let is_meant = |model: &&Arc<Model>| {
            let at = model.path.as_path();
            model.state == ModelState::Available
                && tops.iter().filter_map(|top| at.strip_prefix(top).ok()).any(|below| {
                    // A file is seen in its folder; what is several files is a folder itself.
                    let depth = below.components().count() + usize::from(!model.content.is_file());
                    spec.max_depth
                        .is_none_or(|most| u32::try_from(depth).is_ok_and(|depth| depth.max(1) <= most))
                })
        };
        let view = self.0.control.view();
        let mut models: Vec<Arc<Model>> =
            view.state.models().iter().filter(is_meant).map(Arc::clone).collect();
        drop(view);
        models.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        let total = models.len() as u64;
        progress.set_done(0);
        progress.set_total(models.iter().fold(0, |sum: u64, model| sum.saturating_add(bytes_of(model))));
        let (mut done, mut validated, mut damaged) = (0, 0, 0);
        for model in models {
            progress.set_items(done, total);
            if stop.is_cancelled() {
                break;
            }
            let spec = ValidateSpec {
                model: model.id,
                level: ValidationLevel::Full,
                device: String::new(),
                sha256: String::new(),
                checksums: false,
            };
            match self.validate_full(&model, &spec, progress, stop).await {
                Ok(report) => {
                    damaged += u64::from(report.verdict != hoist_domain::Verdict::Ok);
                    validated += 1;
                }
                Err(error) if matches!(error.reason(), Reason::StoreReadonly | Reason::Draining) => {
                    return Err(error);
                }
                // It changed under the reader: whoever follows the disk looks again.
                Err(error) => tracing::info!(model = %model.path, %error, "a model could not be validated"),
            }
            done += 1;
        }
        Ok((validated, damaged))
    }

    async fn validate_header(
        &self,
        model: &Arc<Model>,
        progress: &Arc<ProgressCell>,
        stop: &CancellationToken,
    ) -> Result<ValidationReport> {
        progress.set_phase("reading headers");
        let details = self.read_details(model, stop).await?;
        let mut report = empty_report(model, ValidationLevel::Header);
        report.bytes = Bytes(details.reading.header_bytes);
        let mut findings = details.reading.findings;
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
        set_findings(&mut report, findings);
        Ok(report)
    }

    async fn validate_full(
        &self,
        model: &Arc<Model>,
        spec: &ValidateSpec,
        progress: &Arc<ProgressCell>,
        stop: &CancellationToken,
    ) -> Result<ValidationReport> {
        super::files::has_its_place(model)?;
        progress.set_phase("reading every byte");
        let roots = self.open_roots().await;
        if roots.of(model.path.as_path()).is_none() {
            return Err(super::files::unreachable(model));
        }
        let (wanted, cell) = (Arc::clone(model), Arc::clone(progress));
        let what = Examine {
            known: Some((*model.content).clone()),
            sha256: spec.sha256.clone(),
            checksums: spec.checksums,
        };
        let read = self.apart("validate", stop, move |flag| {
            let pace = Pace { stop: flag, bytes: cell.counter(), is_gentle: false };
            hoist_catalog::examine(&roots, &known::unit_of(&roots, &wanted), &what, pace)
        });
        let examined = read.await?.map_err(|failure| failed(model, &failure))?;
        let mut report = empty_report(model, ValidationLevel::Full);
        report.bytes = Bytes(examined.bytes);
        report.checksums = examined.checksums;
        let kept = Validation {
            verdict: examined.findings.first().map(|finding| finding.verdict).unwrap_or_default(),
            findings: examined.findings.iter().take(Validation::MAX_FINDINGS).cloned().collect(),
            at: self.0.clock.wall(),
        };
        let mut findings = examined.findings;
        findings.extend(examined.mismatch);
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
        set_findings(&mut report, findings);
        // A digest that is recorded stays where nobody touched the file: bytes that differ from it are what was found.
        let stays = model.content.vouches_for(&examined.content);
        let recorded = |number: usize| {
            stays && model.content.components.get(number).is_some_and(|component| component.digest.is_some())
        };
        let digests = examined.digests.into_iter().filter(|(number, _)| !recorded(*number)).collect();
        // What was read, which the catalog may not have seen yet: then nothing of it is kept.
        let of = Arc::new(examined.content);
        self.0
            .control
            .examined(vec![Examination { id: model.id, of, digests, validation: Some(kept) }])
            .await?;
        Ok(report)
    }

    async fn validate_compatibility(
        &self,
        model: &Arc<Model>,
        spec: &ValidateSpec,
        stop: &CancellationToken,
    ) -> Result<ValidationReport> {
        let readable =
            self.read_details(model, stop).await.map(|_| ()).map_err(|error| error.message().to_owned());
        let mut report = empty_report(model, ValidationLevel::Compatibility);
        set_findings(&mut report, model.findings().into_iter().cloned().collect());
        report.compatibility = Some(compatibility::judge(model, cpu(&spec.device)?, readable));
        Ok(report)
    }
}

fn problem(report: &mut DigestReport, model: &Model, message: String) {
    if report.problems.len() < ScanReport::MAX_PROBLEMS {
        report.problems.push(PathProblem { path: model.path.clone(), message });
    } else {
        report.more_problems += 1;
    }
}

/// The one device that this version knows: the machine itself.
fn cpu(name: &str) -> Result<DeviceFacts> {
    let failed =
        |error: hoist_runtime::machine::FactError| Error::new(Reason::ProbeFailed, error.to_string());
    let root = Path::new("/");
    let memory = hoist_runtime::machine::memory(root).map_err(failed)?;
    let groups = hoist_runtime::machine::cgroup_memory(root).map_err(failed)?;
    let limit = groups.iter().filter_map(|group| group.limit).map(|limit| limit.0).min().unwrap_or(u64::MAX);
    let capacity = Bytes(memory.total.0.min(limit));
    Ok(DeviceFacts { name: name.to_owned(), capacity, available: Bytes(memory.available.0.min(capacity.0)) })
}

fn empty_report(model: &Model, level: ValidationLevel) -> ValidationReport {
    ValidationReport {
        model: model.id,
        level,
        verdict: hoist_domain::Verdict::Ok,
        findings: Vec::new(),
        more_findings: 0,
        bytes: Bytes(0),
        took: std::time::Duration::ZERO,
        checksums: Vec::new(),
        compatibility: None,
    }
}

/// Worst first, as they come.
fn set_findings(report: &mut ValidationReport, findings: Vec<hoist_domain::Finding>) {
    report.verdict = findings.first().map(|finding| finding.verdict).unwrap_or_default();
    (report.findings, report.more_findings) = hoist_catalog::first_of(findings);
}

fn failed(model: &Model, failure: &ReadFailure) -> Error {
    let reason = match failure {
        ReadFailure::Truncated(_) => Reason::SourceTruncated,
        ReadFailure::Changed(_) | ReadFailure::Stopped => Reason::SourceChanged,
        ReadFailure::Io(_, error) if is_replaced(error) => Reason::SourceChanged,
        ReadFailure::Io(..) => Reason::SourceUnreadable,
    };
    Error::new(reason, format!("{}: {}", model.name(), failure.message()))
        .with("model", ResourceName::Model(model.id))
}

/// Nothing is there, or something that is no file, or a link out of the roots: storage that answers.
fn is_replaced(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    let kinds = [
        ErrorKind::NotFound,
        ErrorKind::NotADirectory,
        ErrorKind::CrossesDevices,
        // Not a regular file.
        ErrorKind::InvalidInput,
    ];
    kinds.contains(&error.kind()) || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// What was read of a model, and what it was when it was read.
struct Digested {
    digests: Vec<(usize, Digest)>,
    of: ModelContent,
}

fn digests_of(
    roots: &Roots,
    model: &Model,
    cell: &ProgressCell,
    stop: &AtomicBool,
    is_gentle: bool,
) -> Result<Digested, ReadFailure> {
    if model.state != ModelState::Available || stop.load(std::sync::atomic::Ordering::Relaxed) {
        return Err(ReadFailure::Stopped);
    }
    let unit = known::unit_of(roots, model);
    let details = hoist_catalog::details(roots, &unit)
        .map_err(|error| ReadFailure::Io(model.path.as_path().to_owned(), error))?;
    // What was found must be of what is recorded, or the numbers mean other components.
    let same = |one: &hoist_domain::ModelComponent, other: &hoist_domain::ModelComponent| {
        (&one.name, &one.place, &one.prefix) == (&other.name, &other.place, &other.prefix)
    };
    let (now, before) = (&details.content.components, &model.content.components);
    let is_same = now.len() == before.len() && now.iter().zip(before).all(|(one, other)| same(one, other));
    if !is_same || !details.content.has_bytes_of(&model.content) {
        return Err(ReadFailure::Changed(model.path.as_path().to_owned()));
    }
    let pace = Pace { stop, bytes: cell.counter(), is_gentle };
    let contents = hoist_catalog::read_contents(roots, &unit, &details.reading, Wanted::default(), pace)?;
    Ok(Digested { digests: hoist_catalog::digests(&details, &contents), of: details.content })
}

/// Runs on a thread that gives way to everything else, for the processor and for the disk. Priority cannot be taken back without privileges: hence a thread that ends.
fn at_low_priority<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let lowered = || {
            // Both of the calling thread, despite the first's name; a refusal costs nothing but the courtesy.
            let _ = rustix::process::setpriority_process(None, 19);
            let _ = hoist_segment::idle_io_priority();
            work()
        };
        let thread = scope.spawn(lowered);
        match thread.join() {
            Ok(value) => value,
            // As if it had happened here.
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
