//! What stands below the flags in each help text: what cannot be guessed from them, and examples to copy.
//!
//! A paragraph is one line here: clap breaks it where the terminal ends, and a line broken twice cannot be read.

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0 done, 1 failed, 2 usage, 3 not found, 4 refused (state, quota, in use,
  permission), 5 no server answers, 6 timed out";

pub(super) const SERVE: &str = "\
Every setting can also stand in the file, or in a variable: `limits.request_ids` is HOIST_LIMITS_REQUEST_IDS. \
`hoist config --offline` lists them all.

Examples:
  hoist serve
  hoist serve --listen 127.0.0.1:7070 --log-format json
  hoist serve --config hoist.toml --state-dir ./state";

pub(super) const STATUS: &str = "\
With --json: one object, or for several names an array in the order of the names.

Examples:
  hoist status
  hoist status 9f3a61c0 conditions/STORE_REBUILT
  hoist status --json | jq .machine.uptime_seconds";

pub(super) const WATCH: &str = "\
A broken connection is made again, and the watch goes on where it was; where the server no longer knows that, it \
starts over with a snapshot.

With --json each line is an event: `snapshot` holds all there is, `added`, `modified` and `removed` follow, each with \
its position. `more` counts the changes of the same position that still come: go on from a position (--from) only \
after the one with 0.

Examples:
  hoist watch --kind operation --progress
  hoist watch --state running --state failed --json
  hoist watch --once --json | jq '.resources[].name'";

pub(super) const OPS: &str = "\
Examples:
  hoist ops
  hoist ops --filter 'state = running' --json
  hoist ops list --limit 10
  hoist ops wait 9f3a61c0 --timeout 30s";

pub(super) const OPS_SHOW: &str = "Example:\n  hoist ops show 9f3a61c0";

pub(super) const OPS_WAIT: &str =
    "Examples:\n  hoist ops wait 9f3a61c0\n  hoist ops wait 9f3a61c0 --timeout 30s --json";

pub(super) const OPS_CANCEL: &str = "Example:\n  hoist ops cancel 9f3a61c0";

pub(super) const OPS_DELETE: &str = "Example:\n  hoist ops delete 9f3a61c0";

pub(super) const CONFIG: &str = "\
The flags of `hoist serve` are for --offline: they show what a server started with them would run with.

Examples:
  hoist config
  hoist config --offline --config hoist.toml
  hoist config --json | jq '.[] | select(.origin != \"default\")'";

pub(super) const DOCTOR: &str = "\
Examples:
  hoist doctor
  hoist doctor --json | jq '.[] | select(.result != \"ok\")'
  hoist doctor --probe --bytes 4GiB --kind disk-read";

pub(super) const SHUTDOWN: &str = "\
Examples:
  hoist shutdown && hoist serve
  hoist shutdown --grace 0s --no-wait";

pub(super) const COMPLETIONS: &str = "\
Examples:
  hoist completions bash > ~/.local/share/bash-completion/completions/hoist
  hoist completions zsh > \"${fpath[1]}/_hoist\"";
