//! The coordinator's settings: this struct, and the one place where keys, defaults and bounds stand.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hoist_domain::{Bytes, DeviceSpec};
use hoist_planner::Limits;
use hoist_runtime::LogFormat;
use hoist_runtime::config::{
    ConfigErrors, Entry, Reader, SettingValue as _, Sources, current_uid, default_dirs, process_environment,
};
use hoist_runtime::machine;

use hoist_catalog::Links;

use crate::cache::CacheSettings;
use crate::catalog::CatalogSettings;
use crate::control::HistoryLimits;

/// `HOIST_` variables that are not settings of the server.
const OTHER_VARIABLES: [&str; 4] = ["HOIST_ENDPOINT", "HOIST_CONFIG", "HOIST_BINARY", "HOIST_LIBTORCH"];

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Settings {
    pub state_dir: PathBuf,
    pub runtime_dir: PathBuf,
    pub socket: PathBuf,
    /// `host:port` on loopback; unset: the Unix socket alone.
    pub listen: Option<String>,
    pub log_format: LogFormat,
    pub log_filter: String,
    pub limits: Limits,
    pub history: HistoryLimits,
    pub listener: ListenerLimits,
    pub watches: usize,
    pub shutdown_grace: Duration,
    pub export_interval: Duration,
    pub catalog: CatalogSettings,
    pub cache: CacheSettings,
    pub workers: WorkerSettings,
}

/// Which workers this server starts.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// None where it is to start none.
    pub devices: Vec<DeviceSpec>,
    /// Unset: there is none beside this program.
    pub binary: Option<PathBuf>,
    /// After the first failure of one.
    pub restart_delay: Duration,
    /// How long one stays without a server.
    pub alone_limit: Duration,
}

/// Bounds on what strangers can make the listener hold. tonic's own defaults have none of them.
#[derive(Clone, Copy, Debug)]
pub struct ListenerLimits {
    /// Connections on all listeners together; the Unix socket keeps [`Self::reserved_connections`] of them.
    pub connections: usize,
    pub reserved_connections: usize,
    pub streams_per_connection: u32,
    /// Unary calls in flight.
    pub calls: usize,
    /// From accept to the first request; also from the headers of a request to the end of its message.
    pub first_request: Duration,
    /// A TCP connection without an open call for so long is closed.
    pub idle: Duration,
    pub keepalive_interval: Duration,
    pub keepalive_timeout: Duration,
}

/// Settings, where each came from, and what was odd about the sources.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub entries: Vec<Entry>,
    pub warnings: Vec<String>,
}

impl Settings {
    /// Reads all settings from their sources.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(sources: Sources) -> Result<Loaded, ConfigErrors> {
        let environment = process_environment();
        let dirs = default_dirs(&environment, current_uid());
        let home = environment.get("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        let mut r = Reader::new(sources, &OTHER_VARIABLES);
        let state_dir = r.read(
            "state_dir",
            dirs.state_dir,
            "what must survive a restart: names, tags and notes of models, operations, request ids, figures",
        );
        let state_dir = whole(&mut r, "state_dir", &state_dir, home.as_deref());
        let runtime_dir =
            r.read("runtime_dir", dirs.runtime_dir, "the socket, and the weights in RAM; belongs on tmpfs");
        let runtime_dir = whole(&mut r, "runtime_dir", &runtime_dir, home.as_deref());
        let socket = r.read("socket", runtime_dir.join("hoist.sock"), "path of the Unix socket");
        let socket = whole(&mut r, "socket", &socket, home.as_deref());
        let listen = r.read(
            "listen",
            None::<String>,
            "loopback host:port for gRPC over TCP, port 0 for any; unset: Unix socket only",
        );
        let settings = Settings {
            state_dir,
            runtime_dir,
            socket,
            listen,
            log_format: r.read("log.format", LogFormat::Human, "human or json"),
            log_filter: r.read("log.filter", "info,notify=warn".to_owned(), "level, or target=level pairs"),
            limits: Limits {
                request_ids: count(
                    &mut r,
                    "limits.request_ids",
                    100_000,
                    "request ids kept at the same time",
                ),
                active_operations: count(
                    &mut r,
                    "limits.active_operations",
                    1_000,
                    "operations pending or running at the same time",
                ),
                retention: r.read(
                    "limits.retention",
                    Duration::from_secs(24 * 3600),
                    "how long request ids and finished operations are kept",
                ),
            },
            history: HistoryLimits {
                events: count(&mut r, "watch.history_events", 100_000, "changes kept for watches to resume"),
                bytes: usize::try_from(
                    r.read("watch.history_bytes", Bytes::mib(48), "memory for those changes at most").0,
                )
                .unwrap_or(usize::MAX),
                age: r.read("watch.history_age", Duration::from_secs(600), "older changes are dropped"),
            },
            watches: count(&mut r, "watch.streams", 12_000, "watches open at the same time"),
            listener: listener(&mut r),
            shutdown_grace: r.read(
                "shutdown.grace",
                Duration::from_secs(5),
                "how long running operations may go on after a request to stop",
            ),
            export_interval: r.read(
                "store.export_interval",
                Duration::from_secs(300),
                "how often the store is copied to an export, if it changed",
            ),
            catalog: catalog(&mut r, &environment, home.as_deref()),
            cache: cache(&mut r),
            workers: workers(&mut r, home.as_deref()),
        };
        settings.check(&mut r);
        let warnings = r.warnings();
        let mut entries = r.finish()?;
        // As they are in force, so that whoever asks the server need not know where it was started.
        for (key, path) in [
            ("state_dir", &settings.state_dir),
            ("runtime_dir", &settings.runtime_dir),
            ("socket", &settings.socket),
        ] {
            if let Some(entry) = entries.iter_mut().find(|entry| entry.key == key) {
                entry.value = path.to_toml();
            }
        }
        Ok(Loaded { settings, entries, warnings })
    }

    fn check(&self, r: &mut Reader) {
        let positive = [
            ("limits.request_ids", self.limits.request_ids),
            ("limits.active_operations", self.limits.active_operations),
            ("watch.history_events", self.history.events),
            ("watch.streams", self.watches),
            ("listener.connections", self.listener.connections),
            ("listener.calls", self.listener.calls),
        ];
        for (key, value) in positive {
            r.check(key, value > 0, "must be at least 1");
        }
        let l = &self.listener;
        r.check("listener.streams_per_connection", l.streams_per_connection > 0, "must be at least 1");
        r.check(
            "listener.reserved_connections",
            l.reserved_connections < l.connections,
            "must be less than listener.connections",
        );
        r.check("shutdown.grace", self.shutdown_grace <= MAX_GRACE, "must be at most 10s");
        r.check("limits.retention", self.limits.retention >= Duration::from_secs(60), "must be at least 1m");
        r.check("watch.history_bytes", self.history.bytes >= LEAST_HISTORY, "must be at least 1MiB");
        r.check("watch.history_age", self.history.age >= Duration::from_secs(1), "must be at least 1s");
        let is_address = self.listen.as_deref().is_none_or(is_address);
        r.check("listen", is_address, "is not host:port, for instance 127.0.0.1:7070 or [::1]:7070");
        for (key, interval) in [
            ("listener.first_request", l.first_request),
            ("listener.idle", l.idle),
            ("listener.keepalive_interval", l.keepalive_interval),
            ("listener.keepalive_timeout", l.keepalive_timeout),
            ("store.export_interval", self.export_interval),
        ] {
            r.check(key, interval >= Duration::from_millis(100), "must be at least 100ms");
        }
        let name_bytes = self.socket.file_name().map_or(0, std::ffi::OsStr::len);
        // It is bound under a name of its own first, which may be the longer one.
        let socket_bytes = self.socket.as_os_str().len() + BIND_NAME.saturating_sub(name_bytes);
        r.check(
            "socket",
            socket_bytes <= MAX_SOCKET_PATH,
            "must be at most 107 bytes long, a limit of the kernel; use a shorter directory",
        );
    }
}

/// A stop never takes longer than this: what supervisors allow by default is not much more.
pub const MAX_GRACE: Duration = Duration::from_secs(10);

/// One delta is what one batch of commands has changed, and has to fit, or every watch is too slow for it.
const LEAST_HISTORY: usize = 1 << 20;

/// Whether it looks like `host:port`. Whether there is such a host is found out when it is bound.
fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let is_host = match host.strip_prefix('[') {
            Some(ip) => ip.strip_suffix(']').is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()),
            None => !host.is_empty() && !host.contains(':'),
        };
        is_host && port.parse::<u16>().is_ok()
    })
}

/// `sun_path` holds 108 bytes with the final zero.
const MAX_SOCKET_PATH: usize = 107;

/// A dot and a process id of at most seven digits.
const BIND_NAME: usize = 8;

/// A path as it means the same from everywhere: `~/` is the home directory, and what is relative starts where the
/// server was started. Adds an error for a `~` that cannot be read.
fn whole(r: &mut Reader, key: &'static str, path: &Path, home: Option<&Path>) -> PathBuf {
    let at_home = path.strip_prefix("~").ok().and_then(|rest| Some(home?.join(rest)));
    let is_named_home = at_home.is_none() && path.as_os_str().as_encoded_bytes().starts_with(b"~");
    r.check(
        key,
        !is_named_home,
        "only `~/` with HOME set stands for a home directory; write the whole path, or ./~ for a directory of that name",
    );
    let path = at_home.unwrap_or_else(|| path.to_owned());
    match std::path::absolute(&path) {
        Ok(whole) => whole,
        Err(cause) => {
            r.check(key, false, format!("cannot be made absolute: {cause}; write the whole path"));
            path
        }
    }
}

/// Folders in which people's tools keep models, below the home directory.
const USUAL_PLACES: [&str; 5] = [
    ".cache/huggingface/hub",
    "ComfyUI/models",
    "stable-diffusion-webui/models",
    "stable-diffusion-webui/embeddings",
    "models",
];

fn catalog(
    r: &mut Reader,
    environment: &std::collections::BTreeMap<String, String>,
    home: Option<&Path>,
) -> CatalogSettings {
    let named = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let hub = named("HF_HUB_CACHE").or_else(|| named("HF_HOME").map(|home| home.join("hub")));
    let usual = home.iter().flat_map(|home| USUAL_PLACES.map(|place| home.join(place)));
    // Where the replaced system looked: below the folder it was started in.
    let here = std::path::absolute("models").ok();
    let there: Vec<String> = hub
        .into_iter()
        .chain(usual)
        .chain(here)
        .filter(|path| path.is_dir())
        .map(|path| path.display().to_string())
        .collect();
    let roots =
        r.read("models", there, "folders to look for models in; by default the usual places that exist");
    // A list as JSON or TOML writes it would be taken for folders of odd names, and looked at for ever.
    let is_quoted = roots.first().is_some_and(|root| root.starts_with(['[', '"', '{']));
    r.check(
        "models",
        !is_quoted,
        "is not JSON: write folders one after the other, with commas between them: /a,/b",
    );
    let roots = roots.iter().map(|root| whole(r, "models", Path::new(root), home)).collect();
    let links = r.read(
        "catalog.links",
        "roots".to_owned(),
        "where symbolic links may lead: roots (below any root) or anywhere",
    );
    r.check("catalog.links", matches!(links.as_str(), "roots" | "anywhere"), "must be roots or anywhere");
    let settings = CatalogSettings {
        roots,
        links: if links == "anywhere" { Links::Anywhere } else { Links::Roots },
        rescan_interval: r.read(
            "catalog.rescan_interval",
            Duration::from_secs(60),
            "how often the roots are looked at even if nothing tells of a change",
        ),
        follow: r.read("catalog.follow", true, "ask the kernel to tell of changes below the roots"),
        digest: r.read(
            "catalog.digest",
            true,
            "read all models once, at low priority, to know which parts are equal",
        ),
    };
    r.check(
        "catalog.rescan_interval",
        settings.rescan_interval >= Duration::from_secs(1),
        "must be at least 1s",
    );
    settings
}

fn cache(r: &mut Reader) -> CacheSettings {
    let settings = CacheSettings {
        budget: r.read(
            "ram_budget",
            None::<Bytes>,
            "memory for weights at most; unset: what the machine, its control groups and the tmpfs have to spare",
        ),
        reserve: r.read(
            "cache.reserve",
            None::<Bytes>,
            "memory that is left to everybody else; unset: a sixteenth of the machine's, 256 MiB to 4 GiB",
        ),
        is_group_readable: r.read(
            "cache.group_readable",
            false,
            "whether the group of the runtime directory's `segments` may read weights there",
        ),
    };
    r.check("ram_budget", settings.budget.is_none_or(|budget| budget.0 > 0), "must be at least 1");
    settings
}

/// The cards that this machine shows; without any, its own memory.
fn found_devices() -> Vec<String> {
    // By count, not by the names of their files: a container that is given the third card alone has one, and it is the first.
    match machine::nvidia(Path::new("/")).devices.len() {
        0 => vec!["cpu:0".to_owned()],
        count => (0..count).map(|number| format!("cuda:{number}")).collect(),
    }
}

fn workers(r: &mut Reader, home: Option<&Path>) -> WorkerSettings {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("hoist-worker"));
    let beside = beside.filter(|path| path.is_file());
    let start = r.read("workers.start", true, "whether the server starts workers for devices");
    let named = r.read(
        "workers.devices",
        found_devices(),
        "devices to start workers for, with how much of each may be used: cuda:0=70GiB; unset: the cards there are, else cpu:0",
    );
    let mut devices: Vec<DeviceSpec> = Vec::new();
    for text in named {
        match text.parse::<DeviceSpec>() {
            Ok(spec) => {
                let is_new = devices.iter().all(|known| known.id != spec.id);
                r.check("workers.devices", is_new, format!("names {} twice", spec.id));
                devices.push(spec);
            }
            Err(why) => r.check("workers.devices", false, why),
        }
    }
    let binary = r.read(
        "workers.binary",
        beside,
        "the worker's program; unset: hoist-worker beside this one, if it is there",
    );
    let binary = binary.map(|path| whole(r, "workers.binary", &path, home));
    r.check("workers.binary", binary.as_ref().is_none_or(|path| path.is_file()), "is no file");
    let restart_delay = r.read(
        "workers.restart_delay",
        Duration::from_secs(1),
        "until a worker that has failed is started again; doubled with each time that follows soon, to a minute",
    );
    r.check("workers.restart_delay", restart_delay >= Duration::from_millis(10), "must be at least 10ms");
    let alone_limit = r.read(
        "workers.alone_limit",
        Duration::from_secs(600),
        "how long a worker waits for the next server when this one is killed, in whole seconds",
    );
    r.check("workers.alone_limit", alone_limit >= Duration::from_secs(1), "must be at least 1s");
    WorkerSettings { restart_delay, alone_limit, devices: if start { devices } else { Vec::new() }, binary }
}

fn listener(r: &mut Reader) -> ListenerLimits {
    ListenerLimits {
        connections: count(r, "listener.connections", 4_096, "connections on all listeners together"),
        reserved_connections: count(
            r,
            "listener.reserved_connections",
            64,
            "of those, only for the Unix socket",
        ),
        streams_per_connection: r.read(
            "listener.streams_per_connection",
            256_u32,
            "calls at once on one connection",
        ),
        calls: count(r, "listener.calls", 4_096, "calls in flight on all connections, watches apart"),
        first_request: r.read(
            "listener.first_request",
            Duration::from_secs(10),
            "a connection without a request by then is closed, as is one that does not take an answer by then; \
             a request that is not whole by then is refused",
        ),
        idle: r.read(
            "listener.idle",
            Duration::from_secs(300),
            "a TCP connection on which no call is open for so long is closed",
        ),
        keepalive_interval: r.read(
            "listener.keepalive_interval",
            Duration::from_secs(10),
            "pings on quiet TCP connections",
        ),
        keepalive_timeout: r.read(
            "listener.keepalive_timeout",
            Duration::from_secs(5),
            "a ping unanswered this long closes",
        ),
    }
}

fn count(r: &mut Reader, key: &'static str, default: u32, description: &'static str) -> usize {
    usize::try_from(r.read(key, default, description)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_runtime::config::FlagValue;

    fn load(values: [(&'static str, &str); 2]) -> Result<Loaded, ConfigErrors> {
        let flags = values.map(|(key, value)| FlagValue { key, value: value.to_owned(), flag: "--flag" });
        Settings::load(Sources { flags: flags.to_vec(), ..Default::default() })
    }

    #[test]
    fn paths_mean_the_same_from_everywhere() {
        let loaded = load([("state_dir", "a/./b"), ("runtime_dir", "run")]).unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(loaded.settings.state_dir, here.join("a/b"));
        assert_eq!(loaded.settings.socket, here.join("run/hoist.sock"));
        let shown = loaded.entries.iter().find(|entry| entry.key == "state_dir").unwrap();
        assert_eq!(shown.value, here.join("a/b").to_toml());
    }

    #[test]
    fn a_list_in_json_is_no_folder() {
        for text in ["[]", "[\"/a\", \"/b\"]", "\"/a\""] {
            let refused = load([("models", text), ("runtime_dir", "run")]).unwrap_err().to_string();
            assert!(refused.contains("with commas between them"), "{refused}");
        }
        assert!(load([("models", "./[x],/a"), ("runtime_dir", "run")]).is_ok());
    }

    #[test]
    fn a_tilde_is_the_home_directory_or_refused() {
        let home = process_environment().get("HOME").map(PathBuf::from);
        let loaded = load([("state_dir", "~/hoist"), ("runtime_dir", "/run/~/x")]).unwrap();
        assert_eq!(loaded.settings.state_dir, home.unwrap().join("hoist"));
        assert_eq!(loaded.settings.runtime_dir, Path::new("/run/~/x"));
        let refused = load([("state_dir", "~root/x"), ("runtime_dir", "/run")]).unwrap_err();
        assert!(refused.to_string().starts_with("--flag: state_dir: only `~/`"), "{refused}");
    }
}
