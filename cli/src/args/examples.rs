//! What stands below the flags in each help text: what cannot be guessed from them, and examples to copy.
//!
//! A paragraph is one line here: clap breaks it where the terminal ends, and a line broken twice cannot be read.

pub(super) const FIRST_STEPS: &str = "\
First steps:
  hoist serve --models DIR   in a terminal of its own
  hoist ls                   what it found
  hoist show NAME            one of them: what it is, and why
  hoist verdicts             what is wrong with which
  hoist cache NAME           into RAM, for every process of this machine
  hoist load NAME            onto a device
  hoist ls --help            filters, and examples; every command has some

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

pub(super) const LS: &str = "\
Repeated, --type, --base, --format and --verdict mean \"one of\", --tag means \"all of\". A base with a question mark \
cannot be told from others by its files: `hoist show` names them.

Fields for --filter: name, display_name, path, state, format, type, base, variant, candidates, confidence, \
prediction_type, resolution, title, tensor_count, parameter_count, size_bytes, dtypes, components, verdict, \
verdict_kind, tags, aliases, description, licence, source, notes, digest, discover_time, modify_time, validate_time. \
What a table shows as NAME is display_name; name is models/ID, which never changes. Compare with = != < <= > >= and : \
(\"has\" for lists, \"contains\" for text, `:*` \"is set\"), join with AND, OR, NOT. Sizes are 2e9, 2GB or 1.5GiB; \
counts are 350M or 7B. Times are 2026-11-01, \
2026-11-01T12:00:00Z or now-7d.

Models of one name are shown with the end of their path, which names them, too. Equals of an order are in the order of \
paths, in either direction.

Examples:
  hoist ls
  hoist ls anime --type lora --base sdxl
  hoist ls --tag portrait --sort -size --limit 10
  hoist ls --newer 7d --sort -modified
  hoist ls --filter 'size_bytes > 2e9 AND NOT tags:*'
  hoist ls --filter 'display_name:portrait OR discover_time > now-1d'
  hoist ls --verdict corrupt --verdict malicious
  hoist ls --json | jq -r '.[] | select(.type == \"lora\") | .path'";

pub(super) const SHOW: &str = "\
With --json: one object, or for several names an array in the order of the names.

Examples:
  hoist show sd_xl_base
  hoist show ./loras/portrait.safetensors --tensors
  hoist show sd_xl_base --json | jq .evidence";

pub(super) const SCAN: &str = "\
Examples:
  hoist scan --wait
  hoist scan ./models/loras --wait
  hoist ops wait \"$(hoist scan)\"";

pub(super) const VALIDATE: &str = "\
Exit code 1 when a model is incomplete, corrupt, rejected or malicious, or when the device cannot take it; \
`suspicious` is told and passes, except with --strict. What a full look finds is kept: `hoist verdicts` lists it.

Examples:
  hoist validate sd_xl_base
  hoist validate --all
  hoist validate sd_xl_base --level header
  hoist validate sd_xl_base --sha256 31e35c80fc4829d14f90153f4c74cd59c90b779f6afe05a74cd6120b893f7e5b
  hoist validate sd_xl_base --level compatibility --device cpu:0";

pub(super) const VERDICTS: &str = "\
READ says how closely: `headers`, or `all` bytes, as `hoist validate` does; with --missing also that the files are \
`missing`.

Examples:
  hoist verdicts
  hoist verdicts --long
  hoist verdicts --filter 'type = lora'
  hoist verdicts --json | jq -r '.[] | select(.verdict == \"malicious\") | .path'";

pub(super) const DIGEST: &str = "\
Examples:
  hoist digest sd_xl_base
  hoist digest --no-wait";

pub(super) const DUPES: &str = "\
Components are equal when their digests are: `hoist digest` reads the bytes of those that have none yet.

Examples:
  hoist dupes
  hoist dupes --type vae --long
  hoist dupes --json | jq .saved_bytes";

pub(super) const COMPONENTS: &str = "\
Examples:
  hoist components
  hoist components --type text-encoder --json";

pub(super) const ROOTS: &str = "Example:\n  hoist roots";

pub(super) const TAG: &str = "\
One model at a time: what follows its name are tags, also where a model is called so.

Examples:
  hoist tag sd_xl_base +portrait -old
  hoist tag sd_xl_base portrait studio
  hoist tag sd_xl_base";

pub(super) const EDIT: &str = "\
A base that neither Hoist nor any model here knows is taken for a slip, unless --any-base says that it is meant.

Examples:
  hoist edit sd_xl_base --alias base --description 'for the studio'
  hoist edit odd_file --type lora --base sdxl
  hoist edit odd_file --base our-own-unet --any-base
  hoist edit sd_xl_base --clear alias --clear type";

pub(super) const RM: &str = "\
Without --files a model that is still on the disk comes back with the next scan. What people wrote about it is \
gone either way, so that is asked about first. What has notes and no files any more is kept, in case they come back: --missing forgets all of that.

Examples:
  hoist rm old_lora
  hoist rm --missing --dry-run
  hoist rm --missing --yes
  hoist rm old_lora --files
  hoist rm old_lora older_lora --files --yes";

pub(super) const CACHE: &str = "\
Several models are asked for at once and share the disk by their priorities. HOW says what each component took: `resident` was \
there, `read` came from the disk, `shared` came from the disk and was equal to something that was there. Whatever the number of \
names, with --json they are an array; one that failed has an `error`. The exit code is the worst.

Without a name the cache as a whole is shown, as by `hoist cache-policy`: how large it is, how full and how good.

Examples:
  hoist cache sd_xl_base
  hoist cache sd_xl_base --component vae --component unet
  hoist cache sd_xl_base:vae style_lora --priority high
  hoist cache half_downloaded --allow incomplete
  hoist ops wait \"$(hoist cache sd_xl_base --no-wait)\"
  hoist cache sd_xl_base --json | jq -r '.[].components[].path'
  hoist cache --json | jq .statistics.hit_rate";

pub(super) const EVICT: &str = "\
Several models are judged together: what only they share goes, too. What another cached model shares, what is pinned and what is leased stays: the table says which and why. Exit code 4 when \
something that was named stays and nothing went, 3 when a name is nobody's. With --json: one object, however many names there are. `hoist leases` and `hoist segments` say who holds it.

Examples:
  hoist evict sd_xl_base
  hoist evict sd_xl_base style_lora
  hoist evict sd_xl_base:vae --dry-run
  hoist evict segments/31e35c80fc48
  hoist evict --all
  hoist evict --all --dry-run --json | jq .freed_bytes";

pub(super) const PIN: &str = "\
Pins add up: a component that is pinned after another is pinned beside it, and `hoist unpin` takes each away again. Pinning reads nothing: what is not in RAM yet stays once it is cached. It outlasts restarts of the server, as far as the memory \
does.

Examples:
  hoist pin sd_xl_base && hoist cache sd_xl_base
  hoist pin sd_xl_base --component vae";

pub(super) const UNPIN: &str = "\
Examples:
  hoist unpin sd_xl_base
  hoist unpin sd_xl_base:vae";

pub(super) const SEGMENTS: &str = "\
A segment is one component in RAM, whichever models have it. IDLE is the time since its last use, `-` when there was none since the start of the server; USES is how often it was used since then. A narrow terminal does without some columns; --json has all. The start of its digest names it: `hoist status segments/DIGEST`.

Examples:
  hoist segments
  hoist segments sd_xl_base
  hoist segments --json | jq '[.[] | select(.leases == 0) | .bytes] | add'";

pub(super) const CACHE_POLICY: &str = "\
Changes outlast restarts and hold at once: a smaller budget evicts what is over it. Of a model only --idle-ttl and --priority can \
be set; `default` gives it the cache's again.

Examples:
  hoist cache-policy
  hoist cache-policy --budget 40GiB --idle-ttl 1h
  hoist cache-policy --budget auto --eviction lru
  hoist cache-policy sd_xl_base --priority high
  hoist cache-policy sd_xl_base --idle-ttl default
  hoist cache-policy --json | jq .budget_bytes";

pub(super) const PATH: &str = "\
A row per component: its name, its file, and what its keys began with in the model's own files and begin with no more. On a \
terminal it is a table; elsewhere there is no header, and tabs stand between the columns. What was kept as it is has a folder for its \
path. Nothing holds the files once this ends: `hoist pin` keeps them, `hoist hold` does while a command runs.

Examples:
  hoist path sd_xl_base
  hoist path sd_xl_base:vae | cut -f2
  hoist path sd_xl_base:vae style_lora --json | jq -r '.[].path'";

pub(super) const HOLD: &str = "\
For each component HOIST_PATH_MODEL_COMPONENT is the path of its file, with both names in capitals: HOIST_PATH_SD_XL_BASE_VAE. \
HOIST_PATH_COMPONENT, as HOIST_PATH_VAE, is there where only one file is called so. The exit code is the command's; 127 where there \
is no such command, 126 where it cannot be run. A server that is started anew is asked for the same lease again. What is held on a card has \
no file: `client.attach` of the Python package has its memory.

Examples:
  hoist hold sd_xl_base:vae -- sh -c 'python decode.py --vae \"$HOIST_PATH_VAE\"'
  hoist hold sd_xl_base style_lora -- ./render.sh
  hoist hold sd_xl_base -- sleep 1d
  hoist hold sd_xl_base --device cuda:0 -- ./render.sh";

pub(super) const LEASES: &str = "\
`awaited` leases were held when the server was started anew; they end soon unless their holders come back.

Examples:
  hoist leases
  hoist leases --json | jq '.[].holder'
  hoist leases revoke 9f3a61c0 --reason 'the memory is needed'";

pub(super) const LEASES_REVOKE: &str = "\
Examples:
  hoist leases revoke 9f3a61c0
  hoist leases revoke 9f3a61c0 --reason 'the memory is needed'";

pub(super) const LOAD: &str = "\
Of several names it is one operation on one device: all of it is loaded, or nothing. HOW says what each component took: `resident` was \
on the device, `loaded` was brought there. What was loaded comes back by itself after its worker, or the server, has ended; `hoist unload` \
ends that. With --json: one object. Exit code 4 when the device has no room: `hoist plan` says what would make some.

Examples:
  hoist load sd_xl_base
  hoist load sd_xl_base --device cuda:0 --dtype BF16
  hoist load sd_xl_base:vae style_lora --place pack
  hoist load sd_xl_base --force --priority high
  hoist ops wait \"$(hoist load sd_xl_base --no-wait)\"
  hoist load sd_xl_base --json | jq -r '.components[].replica'";

pub(super) const UNLOAD: &str = "\
EXPECTED is what a component took of its device, RETURNED what the device has more since it is gone. What another model shares is `kept`. \
Exit code 4 when somebody has leased it: --force takes it off all the same. With --json: one object, however many names there are.

Examples:
  hoist unload sd_xl_base
  hoist unload sd_xl_base:vae style_lora --device cuda:0
  hoist unload sd_xl_base --force
  hoist unload sd_xl_base --json | jq .returned_bytes";

pub(super) const PLAN: &str = "\
NEEDED is what the load would take of a device beyond what is there, THERE what of it is there already. With --force, what would have to \
go is named. Exit code 4 when it would be refused, with the reason that `hoist load` would be refused with.

Examples:
  hoist plan sd_xl_base
  hoist plan sd_xl_base style_lora --device cuda:0 --dtype BF16
  hoist plan sd_xl_base --force
  hoist plan sd_xl_base --estimate
  hoist plan sd_xl_base --json | jq -r '.refusal_reason // .device_id'";

pub(super) const REPLICAS: &str = "\
A replica is one component on one device, whichever models have it. Its id, in whole or in part, names it: `hoist status replicas/ID`.

Examples:
  hoist replicas
  hoist replicas sd_xl_base
  hoist replicas --device cuda:0 --json | jq '[.[] | .own_bytes] | add'";

pub(super) const VERIFY: &str = "\
What was converted on its way is not compared, and neither is what is not in RAM any more: `hoist cache NAME` first. A worker that is \
loading answers after it.

Examples:
  hoist verify sd_xl_base
  hoist verify sd_xl_base --device cuda:0 --json";

pub(super) const DEVICES: &str = "\
A device is `open` as long as its worker is there. A worker that ends is started again; one that keeps failing is \
`quarantined`, with its last words: mend what they name, then `hoist uncordon` starts it once more. MODELS is how many have a component there.

Examples:
  hoist devices
  hoist devices cpu:0
  hoist devices --json | jq '.[].free_bytes'";

pub(super) const CORDON: &str = "\
What is on the device stays and can be used; what would be loaded there is refused, or goes elsewhere. `hoist devices` shows it.

Examples:
  hoist cordon cuda:1
  hoist cordon cuda:1 --reason 'new driver tonight'";

pub(super) const UNCORDON: &str = "\
Examples:
  hoist uncordon cuda:1
  hoist uncordon cuda:1 --json | jq -r .state";

pub(super) const SYNC: &str = "\
AGREEMENT is the part of the time in which what was asked for and what is there were the same, or differed for no longer than the pace \
allows. HEARD is when a device's worker was last heard of, DRIFT what was there and nobody had asked for, ANSWERED which of the numbered \
desires its worker has answered. What reads as a device is one: a model that is called so is named by its path. A pace outlasts restarts. \
Exit code 6 when both sides do not agree after --wait.

Examples:
  hoist sync
  hoist sync cuda:0 --window 1h
  hoist sync sd_xl_base
  hoist sync --diagnose
  hoist sync --reset --wait 10s
  hoist sync sd_xl_base --pace background
  hoist sync sd_xl_base --pace default
  hoist sync --json | jq .overall.agreement";

pub(super) const STATUS: &str = "\
Of a model it is told where each component is: in RAM, and on which devices. `unknown` is what a worker that is not heard of had last. \
With --json: one object, or for several names an array in the order of the names.

Examples:
  hoist status
  hoist status 9f3a61c0 conditions/STORE_REBUILT
  hoist status sd_xl_base
  hoist status segments/31e35c80fc48 leases/9f3a61c0
  hoist status sd_xl_base --json | jq -r '.model_status.loaded_on[]'
  hoist status --json | jq .machine.uptime_seconds";

pub(super) const WATCH: &str = "\
A broken connection is made again, and the watch goes on where it was; where the server no longer knows that, it \
starts over with a snapshot.

With --json each line is an event: `snapshot` holds all there is, `added`, `modified` and `removed` follow, each with \
its position. `more` counts the changes of the same position that still come: go on from a position (--from) only \
after the one with 0.

Examples:
  hoist watch --kind operation --progress
  hoist watch --kind model
  hoist watch --kind segment --kind lease
  hoist watch --kind replica --kind model
  hoist watch --state running --state failed --json
  hoist watch --once --json | jq '.resources[].name'";

pub(super) const OPS: &str = "\
Examples:
  hoist ops
  hoist ops --all
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
Segments stay in RAM for the next server; what frees them is told at the end: to remove their directory. `hoist evict --all` \
before frees what nobody uses.

Examples:
  hoist shutdown && hoist serve
  hoist shutdown --grace 0s --no-wait";

pub(super) const COMPLETIONS: &str = "\
Examples:
  hoist completions bash > ~/.local/share/bash-completion/completions/hoist
  hoist completions zsh > \"${fpath[1]}/_hoist\"";
