//! The lists: what tensors need, and what nothing honest in a checkpoint needs.
//!
//! The first list decides: it is that of torch's own `weights_only` reader, and numpy's arrays, which hold scalars of a
//! training run. The others only tell how bad a name outside it is, so they may be incomplete without harm: what they
//! miss is suspicious still.

use std::collections::HashSet;
use std::sync::OnceLock;

use hoist_domain::Dtype;

/// What calling a global means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    RebuildTensor,
    /// The element type is an argument.
    RebuildTypedTensor,
    RebuildParameter,
    RebuildFromType,
    Mapping,
    Tuple,
    Set,
    Storage(Option<Dtype>),
    /// Text to bytes, for protocols that have no bytes.
    Encode,
    /// A tensor pickled within a pickle: its bytes are a checkpoint of their own.
    LoadBytes,
    /// A TorchScript list with a type: the list.
    FirstArgument,
    Inert,
}

/// A list of words. A stream can name a million globals, and each is looked up in all of them.
pub(super) struct Words {
    text: &'static str,
    set: OnceLock<HashSet<&'static str>>,
}

impl Words {
    const fn new(text: &'static str) -> Self {
        Self { text, set: OnceLock::new() }
    }

    pub(super) fn has(&self, word: &str) -> bool {
        self.set.get_or_init(|| self.text.split_ascii_whitespace().collect()).contains(word)
    }
}

/// Globals with a meaning, and harmless classes without: `module.name`.
pub(super) fn role_of(full: &str) -> Option<Role> {
    Some(match full {
        "torch._utils._rebuild_tensor"
        | "torch._utils._rebuild_tensor_v2"
        | "torch._utils._rebuild_qtensor" => Role::RebuildTensor,
        "torch._utils._rebuild_tensor_v3" => Role::RebuildTypedTensor,
        "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => {
            Role::RebuildParameter
        }
        "torch._tensor._rebuild_from_type_v2" | "torch._utils._rebuild_from_type_v2" => Role::RebuildFromType,
        "collections.OrderedDict" | "collections.Counter" | "collections.defaultdict" | "builtins.dict" => {
            Role::Mapping
        }
        "torch.Size" | "builtins.tuple" => Role::Tuple,
        "builtins.set" | "builtins.frozenset" | "builtins.list" => Role::Set,
        "torch.storage.UntypedStorage"
        | "torch.UntypedStorage"
        | "torch.storage.TypedStorage"
        | "torch.TypedStorage" => Role::Storage(None),
        "_codecs.encode" => Role::Encode,
        _ if INERT.has(full) => Role::Inert,
        _ => return storage(full).or_else(|| inert_family(full).then_some(Role::Inert)),
    })
}

static INERT: Words = Words::new(
    "\
    builtins.bool builtins.bytearray builtins.bytes builtins.complex builtins.float builtins.int \
    builtins.range builtins.slice builtins.str collections.deque numpy._core.multiarray._reconstruct \
    numpy._core.multiarray.scalar numpy._core.numeric._frombuffer numpy.core.multiarray._reconstruct \
    numpy.core.multiarray.scalar numpy.core.numeric._frombuffer numpy.dtype numpy.ndarray torch.Tensor \
    torch._utils._rebuild_device_tensor_from_cpu_tensor torch._utils._rebuild_device_tensor_from_numpy \
    torch._utils._rebuild_meta_tensor_no_storage torch._utils._rebuild_nested_tensor \
    torch._utils._rebuild_sparse_tensor torch._utils._rebuild_wrapper_subclass torch.channels_last \
    torch.contiguous_format torch.device torch.jagged torch.nn.parameter.Buffer torch.nn.parameter.Parameter \
    torch.per_channel_affine torch.per_channel_affine_float_qparams torch.per_channel_symmetric \
    torch.per_tensor_affine torch.per_tensor_symmetric torch.preserve_format torch.serialization._get_layout \
    torch.sparse_bsc torch.sparse_bsr torch.sparse_coo torch.sparse_csc torch.sparse_csr torch.strided",
);

/// numpy's number types and their descriptors; torch's old names for tensors of one type.
fn inert_family(full: &str) -> bool {
    const NUMBERS: &[&str] = &[
        "bool",
        "bool_",
        "complex128",
        "complex64",
        "float16",
        "float32",
        "float64",
        "int16",
        "int32",
        "int64",
        "int8",
        "str_",
        "uint16",
        "uint32",
        "uint64",
        "uint8",
    ];
    if let Some(name) = full.strip_prefix("numpy.") {
        let descriptor = name.strip_prefix("dtypes.").and_then(|class| class.strip_suffix("DType"));
        return NUMBERS.contains(&name)
            || descriptor.is_some_and(|class| class.bytes().all(|b| b.is_ascii_alphanumeric()));
    }
    let Some(name) = full.strip_prefix("torch.") else { return false };
    let typed = name.strip_prefix("cuda.").unwrap_or(name);
    let typed = typed.strip_prefix("sparse.").unwrap_or(typed);
    let is_tensor_class =
        typed.strip_suffix("Tensor").is_some_and(|class| STORAGES.iter().any(|(known, _)| *known == class));
    is_tensor_class || dtype_named(name).is_some() || OTHER_DTYPES.has(name)
}

const STORAGES: &[(&str, Dtype)] = &[
    ("Float", Dtype::F32),
    ("Half", Dtype::F16),
    ("BFloat16", Dtype::Bf16),
    ("Double", Dtype::F64),
    ("Long", Dtype::I64),
    ("Int", Dtype::I32),
    ("Short", Dtype::I16),
    ("Char", Dtype::I8),
    ("Byte", Dtype::U8),
    ("Bool", Dtype::Bool),
    ("ComplexFloat", Dtype::C64),
    ("ComplexDouble", Dtype::C128),
    ("QInt8", Dtype::I8),
    ("QUInt8", Dtype::U8),
    ("QInt32", Dtype::I32),
    ("QUInt4x2", Dtype::U8),
    ("QUInt2x4", Dtype::U8),
];

fn storage(full: &str) -> Option<Role> {
    let name = full.strip_prefix("torch.")?;
    let name = name.strip_prefix("cuda.").or_else(|| name.strip_prefix("storage.")).unwrap_or(name);
    let class = name.strip_suffix("Storage")?;
    STORAGES.iter().find(|(known, _)| *known == class).map(|(_, dtype)| Role::Storage(Some(*dtype)))
}

/// The element type with this name in torch, where it is one that a tensor table can hold.
pub(crate) fn dtype_named(name: &str) -> Option<Dtype> {
    Some(match name {
        "float32" | "float" => Dtype::F32,
        "float16" | "half" => Dtype::F16,
        "bfloat16" => Dtype::Bf16,
        "float64" | "double" => Dtype::F64,
        "int64" | "long" => Dtype::I64,
        "int32" | "int" | "qint32" => Dtype::I32,
        "int16" | "short" => Dtype::I16,
        "int8" | "qint8" => Dtype::I8,
        "uint8" | "quint8" | "quint4x2" | "quint2x4" | "bits8" => Dtype::U8,
        "uint16" | "bits16" => Dtype::U16,
        "uint32" => Dtype::U32,
        "uint64" => Dtype::U64,
        "bool" => Dtype::Bool,
        "complex64" | "cfloat" => Dtype::C64,
        "complex128" | "cdouble" => Dtype::C128,
        "float8_e4m3fn" => Dtype::F8E4m3,
        "float8_e5m2" => Dtype::F8E5m2,
        "float8_e4m3fnuz" => Dtype::F8E4m3Fnuz,
        "float8_e5m2fnuz" => Dtype::F8E5m2Fnuz,
        "float8_e8m0fnu" => Dtype::F8E8m0,
        _ => return None,
    })
}

static OTHER_DTYPES: Words = Words::new(
    "\
    bits1x8 bits2x4 bits4x2 complex32 float4_e2m1fn_x2 int1 int2 int3 int4 int5 int6 int7 uint1 uint2 uint3 \
    uint4 uint5 uint6 uint7",
);

/// What TorchScript's own pickler writes beside the classes of its archive.
pub(super) fn script_role(full: &str) -> Option<Role> {
    match full.strip_prefix("torch.jit._pickle.")? {
        "build_boollist" | "build_doublelist" | "build_intlist" | "build_tensorlist" | "restore_type_tag" => {
            Some(Role::FirstArgument)
        }
        "build_tensor_from_id" => Some(Role::Inert),
        _ => None,
    }
}

/// Built-in names that are only data, if odd in a checkpoint. All others can be made to run something.
pub(super) static TAME_BUILTINS: Words = Words::new(
    "\
    Ellipsis NotImplemented NoneType abs basestring hash hex len long max min object print property round \
    sorted sum super unicode xrange",
);

/// Data classes within modules that are otherwise dangerous.
pub(super) static TAME: Words = Words::new(
    "\
    encodings.utf_8.encode multiprocessing.context.DefaultContext optparse.Values pathlib.Path \
    threading.local unittest.mock.Mock",
);

/// Modules that run code, touch files, the network or other processes, or hand out those that do: most of Python's
/// library, and the best known of the rest. What remains of the library only computes, and is merely unknown.
pub(super) static POWERFUL_MODULES: Words = Words::new(
    "\
    IPython _aix_support _ast _asyncio _bootsubprocess _bz2 _compat_pickle _compression _ctypes _curses _dbm \
    _distutils_hack _elementtree _frozen_importlib _frozen_importlib_external _functools _gdbm _imp _lsprof \
    _lzma _msi _multiprocessing _opcode _operator _osx_support _overlapped _pickle _posixshmem \
    _posixsubprocess _py_abc _pyio _pytest _scproxy _signal _sitebuiltins _socket _sqlite3 _ssl _symtable \
    _thread _threading_local _tkinter _tracemalloc _typing _uuid _winapi aiohttp antigravity anydbm ast \
    asynchat asyncio asyncore atexit bastion bdb bz2 cPickle cProfile cStringIO cffi cgi cgitb cloudpickle \
    cmd code codecs codeop commands compileall concurrent configparser contextlib crypt ctypes curses dbm \
    dill dircache dis distutils doctest dummy_thread email encodings ensurepip fabric faulthandler fcntl \
    filecmp fileinput ftplib functools gc genericpath getopt getpass gettext glob grp gzip http httplib \
    httpx idlelib ihooks imaplib imp importlib imputil inspect invoke jinja2 lib2to3 linecache lzma mailbox \
    mailcap marshal mimetypes mmap modulefinder msilib msvcrt multiprocessing netrc new nis nntplib nose nt \
    ntpath nturl2path numba opcode operator optparse os os2 ossaudiodev paramiko pdb pexpect pickle \
    pickletools pip pipes pkg_resources pkgutil platform plistlib plumbum popen2 poplib posix posixpath \
    profile pstats psutil pty pwd py_compile pyclbr pydoc pyexpat pytest readline requests resource rexec \
    riscos rlcompleter runpy select selectors setuptools sh shelve shlex shutil signal site smtpd smtplib \
    socket socketserver spwd sqlite3 ssl subprocess symtable sys sysconfig syslog tabnanny tarfile telnetlib \
    tempfile termios thread threading timeit tkinter trace traceback tracemalloc tty turtle unittest urllib \
    urllib2 uu venv warnings webbrowser whichdb winreg winsound wsgiref xdrlib xml xmlrpc zipapp zipfile \
    zipimport",
);

/// The same for modules within packages.
pub(super) static POWERFUL_PATHS: Words = Words::new(
    "\
    copy._reconstruct io.FileIO io.OpenWrapper io.open io.open_code joblib.load logging.config _io.FileIO \
    _io.open _io.open_code numpy.ctypeslib numpy.distutils numpy.f2py numpy.fromfile numpy.load numpy.memmap \
    numpy.save numpy.testing pandas.eval pandas.read_pickle torch._inductor.codecache torch._sources \
    torch.classes torch.compile torch.distributed.elastic torch.distributed.launch torch.distributed.rpc \
    torch.distributed.run torch.fx torch.hub torch.jit torch.load torch.ops torch.package torch.save \
    torch.serialization.load torch.serialization._load torch.serialization._legacy_load \
    torch.utils.bottleneck torch.utils.collect_env torch.utils.cpp_extension torch.utils.hipify \
    torch.utils.model_zoo types.CodeType types.FunctionType types.LambdaType types.MethodType \
    types.ModuleType tensorflow.python.ops.script_ops keras.utils.get_file uuid._ re.Scanner _sre.compile \
    random._os typing.get_type_hints typing.ForwardRef",
);

/// Modules that are dangerous wherever they turn up within a path, as re-exports and vendored copies do.
pub(super) static POWERFUL_ANYWHERE: Words = Words::new(
    "\
    __builtin__ builtins commands ctypes importlib marshal nt os pickle popen2 posix pty runpy shutil socket \
    subprocess sys webbrowser",
);

/// What functions that run what they are given are called, in any module.
pub(super) static POWERFUL_NAMES: Words = Words::new(
    "\
    __import__ _load _run_code apply attrgetter check_call check_output compile cpp_extension delattr eval \
    exec exec_ exec_module execfile execv execve fork fork_exec getattr getoutput getstatusoutput \
    import_module import_string load_library load_module loads methodcaller open partial popen Popen remove \
    rmtree run run_code run_module run_path runcode runsource runstring setattr spawn startfile system \
    unlink urlopen urlretrieve",
);
