//! What a stream would import, and what to think of it.
//!
//! A name on the allow-list is needed; one that is not is inert, and at least suspicious. The lists of powerful names
//! only decide whether to say malicious.

use super::Dialect;
use super::known::{
    self, POWERFUL_ANYWHERE, POWERFUL_MODULES, POWERFUL_NAMES, POWERFUL_PATHS, Role, TAME, TAME_BUILTINS,
};

/// A global that a stream names.
#[derive(Debug)]
pub(crate) struct Global {
    /// `module.name`, by Python 3's names.
    pub(crate) name: Box<str>,
    pub(crate) standing: Standing,
    pub(super) role: Role,
}

/// What naming a global says about a stream. Ordered by how bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Tensors and plain values need it.
    Needed,
    /// A layer class of torch: a whole module was pickled. It stays inert here; its weights can be read.
    Layer,
    /// On no list.
    Unknown,
    /// It can run code, or reach what does.
    Powerful,
}

impl Global {
    pub(super) fn new(module: &str, name: &str, dialect: Dialect) -> Self {
        let module = modern(module);
        let full = format!("{module}.{}", modern_name(module, name));
        let (role, standing) = judge(module, name, &full, dialect);
        Self { name: full.into(), standing, role }
    }
}

/// Python 3's name of a module that Python 2 pickled.
fn modern(module: &str) -> &str {
    match module {
        "__builtin__" => "builtins",
        "copy_reg" => "copyreg",
        "UserDict" | "UserList" | "UserString" => "collections",
        other => other,
    }
}

fn modern_name<'a>(module: &str, name: &'a str) -> &'a str {
    match (module, name) {
        ("builtins", "xrange") => "range",
        ("builtins", "unicode") => "str",
        ("builtins", "long") => "int",
        _ => name,
    }
}

fn judge(module: &str, name: &str, full: &str, dialect: Dialect) -> (Role, Standing) {
    if let Some(role) = known::role_of(full) {
        return (role, Standing::Needed);
    }
    if dialect == Dialect::Script {
        if let Some(role) = known::script_role(full) {
            return (role, Standing::Needed);
        }
        if full.starts_with("__torch__.") {
            return (Role::Inert, Standing::Needed);
        }
    }
    match full {
        "torch.storage._load_from_bytes" => (Role::LoadBytes, Standing::Unknown),
        _ if is_powerful(module, name, full) => (Role::Inert, Standing::Powerful),
        _ if is_layer(module, name) => (Role::Inert, Standing::Layer),
        _ => (Role::Inert, Standing::Unknown),
    }
}

/// A class of `torch.nn.modules`, named directly: attributes of one are not layers.
fn is_layer(module: &str, name: &str) -> bool {
    let is_word = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    module.strip_prefix("torch.nn.modules.").is_some_and(is_word)
        && is_word(name)
        && name.starts_with(|first: char| first.is_ascii_uppercase())
}

fn is_powerful(module: &str, name: &str, full: &str) -> bool {
    if TAME.has(full) {
        return false;
    }
    let root = module.split('.').next().unwrap_or_default();
    if root == "builtins" {
        let is_error = |name: &str| ["Error", "Exception", "Warning"].iter().any(|end| name.ends_with(end));
        return !TAME_BUILTINS.has(name) && (name.contains('.') || !is_error(name));
    }
    // A path is on the list itself or lies below one that is.
    let mut prefixes = full.match_indices('.').filter_map(|(at, _)| full.get(..at));
    POWERFUL_MODULES.has(root)
        || POWERFUL_PATHS.has(full)
        || prefixes.any(|path| POWERFUL_PATHS.has(path))
        || module.split('.').any(|part| POWERFUL_ANYWHERE.has(part))
        || reaches_power(name)
}

/// The name may be a path of attributes: from any module to those it imported, and through any object to all others.
fn reaches_power(name: &str) -> bool {
    let is_path = name.contains('.');
    name.split('.').any(|part| {
        let bare = part.trim_start_matches('_');
        POWERFUL_ANYWHERE.has(bare)
            || POWERFUL_NAMES.has(part)
            || (is_path && POWERFUL_MODULES.has(bare))
            || (part.starts_with("__") && !matches!(part, "__newobj__" | "__newobj_ex__"))
    })
}
