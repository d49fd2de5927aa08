//! The verbs about models, as they are written. Nothing here acts.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use hoist_domain::{ModelFormat, ModelType, WallTime};
use hoist_runtime::config::parse_duration;
use hoist_wire::v1;

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Words that must all occur in the name, tags, title, description or path
    #[arg(value_name = "TEXT")]
    pub(crate) text: Vec<String>,

    /// Only this type: lora, checkpoint, vae ...; may be repeated, `*` at an end stands for anything
    #[arg(long = "type", value_name = "TYPE", value_parser = model_type)]
    pub(crate) types: Vec<String>,

    /// Only for this base: sdxl, sd-1.5, flux.1, llama ...; may be repeated, `*` at an end stands for anything
    #[arg(long = "base", value_name = "BASE")]
    pub(crate) bases: Vec<String>,

    /// Only in this format: safetensors, gguf, diffusers ...; may be repeated
    #[arg(long = "format", value_name = "FORMAT", value_parser = model_format)]
    pub(crate) formats: Vec<String>,

    /// Only with this tag; repeated, with all of them
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,

    /// Only with this verdict; may be repeated
    #[arg(long = "verdict", value_name = "VERDICT", value_enum, ignore_case = true)]
    pub(crate) verdicts: Vec<Verdict>,

    /// Only what also passes this filter in the manner of AIP-160: `size_bytes < 2e9 AND NOT tags:*`
    #[arg(long, value_name = "FILTER", default_value = "", hide_default_value = true)]
    pub(crate) filter: String,

    /// Only written to since then: 7d, 12h (so long ago) or 2026-11-01
    #[arg(long, value_name = "SINCE", value_parser = since)]
    pub(crate) newer: Option<String>,

    /// Only not written to since then
    #[arg(long, value_name = "SINCE", value_parser = since)]
    pub(crate) older: Option<String>,

    /// Order by name, size, params, type, base, path, modified or discovered; `-size` has the largest first
    #[arg(long, value_name = "KEY", default_value = "name", value_parser = order, allow_hyphen_values = true)]
    pub(crate) sort: String,

    /// The most to show [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,

    /// Also models whose files are missing
    #[arg(long)]
    pub(crate) all: bool,

    /// Also show format, time of the last change, tags and path
    #[arg(short, long)]
    pub(crate) long: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verdict {
    Ok,
    Suspicious,
    Incomplete,
    Corrupt,
    Rejected,
    Malicious,
}

impl Verdict {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Suspicious => "suspicious",
            Self::Incomplete => "incomplete",
            Self::Corrupt => "corrupt",
            Self::Rejected => "rejected",
            Self::Malicious => "malicious",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Name, alias, file name, path, or the start of a component's digest
    #[arg(value_name = "NAME", required = true, value_parser = name())]
    pub(crate) names: Vec<String>,

    /// Also the table of tensors
    #[arg(long)]
    pub(crate) tensors: bool,
}

#[derive(Debug, Default, Args)]
pub(crate) struct ScanArgs {
    /// Files or folders at or below the roots [default: all roots]
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,

    /// Wait for the end and tell what was found; Ctrl-C cancels the scan
    #[arg(long)]
    pub(crate) wait: bool,

    /// Also read the headers of what has not changed
    #[arg(long)]
    pub(crate) reread: bool,

    /// How many folders deep to look below each path; 1 is the folder itself [default: all the way]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) depth: Option<u32>,

    /// Also look at every byte of what is found, as `hoist validate` does
    #[arg(long)]
    pub(crate) validate: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DigestArgs {
    /// Which models, at once and at full speed [default: all that have components without a digest, at idle priority]
    #[arg(value_name = "NAME", value_parser = name())]
    pub(crate) names: Vec<String>,

    /// Print the operation's name and return
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Which models, named as for `hoist show`
    #[arg(value_name = "NAME", required_unless_present = "all", value_parser = name())]
    pub(crate) names: Vec<String>,

    /// Every byte of all models, one after the other: tells how many are damaged, and exits with 0 whatever they are
    #[arg(long, conflicts_with_all = ["names", "device", "sha256", "checksums", "strict"])]
    pub(crate) all: bool,

    /// How closely to look
    // The headers were read when the model was found, and `hoist ls` tells what they said: who asks for more means more.
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = Level::Full, ignore_case = true)]
    pub(crate) level: Level,

    /// With --level compatibility: the device [default: cpu:0]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,

    /// What the SHA-256 of the file should be, for a model that is one file
    #[arg(long, value_name = "HEX")]
    pub(crate) sha256: Option<String>,

    /// Tell the SHA-256 of every file, also where nothing is known to compare it with
    #[arg(long)]
    pub(crate) checksums: bool,

    /// Fail for `suspicious` too
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// The headers, again: instant
    Header,
    /// Every byte: checksums, digests, values that are not finite
    Full,
    /// Whether a device can take it
    Compatibility,
}

impl From<Level> for v1::ValidationLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Header => Self::Header,
            Level::Full => Self::Full,
            Level::Compatibility => Self::Compatibility,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct VerdictsArgs {
    /// Also models that nothing is wrong with
    #[arg(long)]
    pub(crate) all: bool,

    /// Also models whose files are missing
    #[arg(long)]
    pub(crate) missing: bool,

    /// Only models that pass this filter, as for `hoist ls`
    #[arg(long, value_name = "FILTER", default_value = "", hide_default_value = true)]
    pub(crate) filter: String,

    /// Whole names, paths, and everything that was found, in place of the worst alone
    #[arg(short, long)]
    pub(crate) long: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ComponentsArgs {
    /// Only components of this type: vae, text_encoder ...
    #[arg(long = "type", value_name = "TYPE", value_parser = one_type)]
    pub(crate) component_type: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DupesArgs {
    #[command(flatten)]
    pub(crate) components: ComponentsArgs,

    /// Whole digests, and all models of each component
    #[arg(short, long)]
    pub(crate) long: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// The model, named as for `hoist show`
    #[arg(value_name = "NAME", value_parser = name())]
    pub(crate) name: String,

    /// All words after the name are tags: to add (`portrait` or `+portrait`) and to take away (`-old`); without any, its
    /// tags are shown
    #[arg(value_name = "TAG")]
    pub(crate) add: Vec<String>,

    // `-old` is rewritten to this before the line is read.
    /// A tag to take away, as `-TAG`; may be repeated
    #[arg(long, value_name = "TAG", allow_hyphen_values = true)]
    pub(crate) remove: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct EditArgs {
    /// The model, named as for `hoist show`
    #[arg(value_name = "MODEL", value_parser = name())]
    pub(crate) model: String,

    /// What to call it, in place of what its path says
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Another name to address it by; may be repeated. Replaces all that it had
    #[arg(long = "alias", value_name = "ALIAS")]
    pub(crate) aliases: Vec<String>,

    /// What it is, in prose
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,

    /// The licence it is under
    #[arg(long, value_name = "TEXT", visible_alias = "license")]
    pub(crate) licence: Option<String>,

    /// Where it came from
    #[arg(long, value_name = "TEXT")]
    pub(crate) source: Option<String>,

    /// Anything else
    #[arg(long, value_name = "TEXT")]
    pub(crate) notes: Option<String>,

    /// What it is, where identification is wrong
    #[arg(long = "type", value_name = "TYPE", value_parser = one_type)]
    pub(crate) model_type: Option<String>,

    /// What it is made for, where identification is wrong: sdxl, flux.1, llama ...
    #[arg(long, value_name = "BASE")]
    pub(crate) base: Option<String>,

    /// Take --base though neither Hoist nor any model here knows that word
    #[arg(long, requires = "base")]
    pub(crate) any_base: bool,

    /// Where to load it when a request does not say
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,

    /// You vouch for the code in it
    #[arg(long, conflicts_with = "no_trusted")]
    pub(crate) trusted: bool,

    /// Nobody vouches for the code in it
    #[arg(long)]
    pub(crate) no_trusted: bool,

    /// Empty this, so that what the files say holds again; may be repeated
    #[arg(long, value_name = "FIELD", value_enum, ignore_case = true)]
    pub(crate) clear: Vec<Field>,
}

/// What can be emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Field {
    Name,
    #[value(alias = "aliases")]
    Alias,
    Tags,
    Description,
    #[value(alias = "license")]
    Licence,
    Source,
    Notes,
    Type,
    Base,
    Device,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Which models, named as for `hoist show`
    #[arg(value_name = "NAME", required_unless_present = "missing", value_parser = name())]
    pub(crate) names: Vec<String>,

    /// All models whose files have gone, with what people wrote about them
    #[arg(long, conflicts_with_all = ["names", "files"])]
    pub(crate) missing: bool,

    /// Also remove their files from the disk
    #[arg(long)]
    pub(crate) files: bool,

    /// Do not ask: neither before files or what people wrote are removed, nor with --missing
    #[arg(short, long)]
    pub(crate) yes: bool,

    /// Only tell what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What a model is called. A path need not be text: as it is shown it is found, too.
pub(super) fn name() -> impl TypedValueParser<Value = String> {
    OsStringValueParser::new().map(|name| name.to_string_lossy().into_owned())
}

/// A time as a filter reads it, from how long ago it is or from the day.
fn since(text: &str) -> Result<String, String> {
    if parse_duration(text).is_ok() {
        return Ok(format!("now-{}", text.replace(' ', "")));
    }
    match WallTime::parse(text) {
        Some(_) => Ok(format!("\"{text}\"")),
        None => Err("write how long ago it is, for instance 7d or 12h, or the day, 2026-11-01".to_owned()),
    }
}

/// A type as the server writes it: people write `text-encoder` and `LoRA`, too.
fn one_type(text: &str) -> Result<String, String> {
    let word = text.to_ascii_lowercase().replace('-', "_");
    word.parse::<ModelType>().map(|known| known.to_string()).map_err(|error| error.message().to_owned())
}

fn model_type(text: &str) -> Result<String, String> {
    if text.starts_with('*') || text.ends_with('*') { Ok(text.replace('-', "_")) } else { one_type(text) }
}

fn model_format(text: &str) -> Result<String, String> {
    let word = text.to_ascii_lowercase().replace('_', "-");
    if word.starts_with('*') || word.ends_with('*') {
        return Ok(word);
    }
    word.parse::<ModelFormat>().map(|known| known.to_string()).map_err(|error| error.message().to_owned())
}

/// An order as the server reads it: `-size`, `size:desc` and `size desc` are the same.
fn order(text: &str) -> Result<String, String> {
    let (key, descending) = match text.strip_prefix('-') {
        Some(key) => (key, true),
        None => match text.split_once([':', ' ']) {
            Some((key, "desc")) => (key, true),
            Some((key, "asc")) => (key, false),
            Some(_) => return Err("write a key, and `-` before it for the other direction".to_owned()),
            None => (text, false),
        },
    };
    let field = match key {
        "name" | "display_name" => "display_name",
        "size" | "bytes" | "size_bytes" => "size_bytes",
        "params" | "parameter_count" => "parameter_count",
        "modified" | "modify_time" => "modify_time",
        "discovered" | "discover_time" => "discover_time",
        "type" | "base" | "path" => key,
        _ => return Err("use name, size, params, type, base, path, modified or discovered".to_owned()),
    };
    Ok(if descending { format!("{field} desc") } else { field.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_may_be_written_in_three_ways() {
        for text in ["-size", "size:desc", "size desc", "-bytes"] {
            assert_eq!(order(text).unwrap(), "size_bytes desc", "{text}");
        }
        assert_eq!(order("modified").unwrap(), "modify_time");
        assert_eq!(order("name:asc").unwrap(), "display_name");
        for text in ["", "-", "colour", "size:down", "--size"] {
            assert!(order(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_is_so_long_ago_or_a_day() {
        assert_eq!(since("7d").unwrap(), "now-7d");
        assert_eq!(since("12 h").unwrap(), "now-12h");
        assert_eq!(since("2026-11-01").unwrap(), "\"2026-11-01\"");
        for text in ["", "7", "-7d", "yesterday", "2026-13-01"] {
            assert!(since(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_type_may_be_written_as_people_do_and_a_wrong_one_is_answered_with_the_right_ones() {
        assert_eq!(model_type("LoRA").unwrap(), "lora");
        assert_eq!(model_type("text-encoder").unwrap(), "text_encoder");
        assert_eq!(model_type("*encoder").unwrap(), "*encoder");
        assert!(model_type("lorra").unwrap_err().contains("lora"));
        assert_eq!(model_format("torch_zip").unwrap(), "torch-zip");
        assert!(model_format("banana").unwrap_err().contains("safetensors"));
    }
}
