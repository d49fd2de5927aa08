//! Test: what `abi` declares is what the vendor's header says, as the C compiler reads it: each function's arguments, each
//! structure's size and places, each constant.

use std::fmt::Write as _;
use std::mem::{offset_of, size_of};
use std::path::Path;
use std::process::Command;

use hoist_worker::standin::INCLUDE;

use super::abi::{self, Access, AllocationFlags, AllocationProperties, Code, Location, attribute};

/// What C calls an argument's type.
fn in_c(rust: &str) -> String {
    if let Some(rest) = rust.strip_prefix("*const ") {
        // The compiler prints what it read: a pointer to a pointer to a constant has its `const` in front all the same.
        return format!("const {}*", in_c(rest));
    }
    if let Some(rest) = rust.strip_prefix("*mut ") {
        return format!("{}*", in_c(rest));
    }
    match rust {
        "c_void" => "void",
        "c_char" => "char",
        "c_int" => "int",
        "c_uint" => "unsigned int",
        "u8" => "unsigned char",
        "u64" => "unsigned long long",
        "usize" => "size_t",
        "Code" => "CUresult",
        "DeviceNumber" => "CUdevice",
        "Uuid" => "CUuuid",
        "Address" => "CUdeviceptr",
        "Allocation" => "CUmemGenericAllocationHandle",
        "AllocationProperties" => "CUmemAllocationProp",
        "Access" => "CUmemAccessDesc",
        "ContextHandle" => "CUcontext",
        "StreamHandle" => "CUstream",
        "EventHandle" => "CUevent",
        other => panic!("no type of C is known for {other}"),
    }
    .to_owned()
}

/// A program that compiles if all of it is so.
fn program() -> String {
    let mut all = "#include <stddef.h>\n#include <cuda.h>\n".to_owned();
    let mut holds = |what: &str, is: String| writeln!(all, "_Static_assert({is}, \"{what}\");").unwrap();
    for (symbol, types) in abi::DECLARED {
        let types: Vec<String> = types.iter().map(|one| in_c(one)).collect();
        let types = if types.is_empty() { "void".to_owned() } else { types.join(", ") };
        holds(symbol, format!("__builtin_types_compatible_p(__typeof__({symbol}), CUresult({types}))"));
    }
    let mut place =
        |of: &str, member: &str, at: usize| holds(member, format!("offsetof({of}, {member}) == {at}"));
    place("CUmemLocation", "type", offset_of!(Location, kind));
    place("CUmemLocation", "id", offset_of!(Location, id));
    place("CUmemAllocationProp", "type", offset_of!(AllocationProperties, kind));
    place("CUmemAllocationProp", "requestedHandleTypes", offset_of!(AllocationProperties, handles));
    place("CUmemAllocationProp", "location", offset_of!(AllocationProperties, location));
    place("CUmemAllocationProp", "win32HandleMetaData", offset_of!(AllocationProperties, windows));
    let flags = offset_of!(AllocationProperties, flags);
    place("CUmemAllocationProp", "allocFlags", flags);
    let mut flag =
        |name: &str, at: usize| place("CUmemAllocationProp", &format!("allocFlags.{name}"), flags + at);
    flag("compressionType", offset_of!(AllocationFlags, compression));
    flag("gpuDirectRDMACapable", offset_of!(AllocationFlags, remote_access));
    flag("usage", offset_of!(AllocationFlags, usage));
    flag("reserved", offset_of!(AllocationFlags, reserved));
    place("CUmemAccessDesc", "location", offset_of!(Access, location));
    place("CUmemAccessDesc", "flags", offset_of!(Access, flags));
    for (of, size) in [
        ("CUmemLocation", size_of::<Location>()),
        ("CUmemAllocationProp", size_of::<AllocationProperties>()),
        ("CUmemAccessDesc", size_of::<Access>()),
        ("CUuuid", size_of::<abi::Uuid>()),
        ("CUresult", size_of::<Code>()),
        ("CUdevice", size_of::<abi::DeviceNumber>()),
        ("CUdeviceptr", size_of::<abi::Address>()),
        ("CUmemGenericAllocationHandle", size_of::<abi::Allocation>()),
    ] {
        holds(of, format!("sizeof({of}) == {size}"));
    }
    for (name, value) in [
        ("CUDA_SUCCESS", Code::SUCCESS.0),
        ("CUDA_ERROR_OUT_OF_MEMORY", Code::OUT_OF_MEMORY.0),
        ("CUDA_ERROR_NO_DEVICE", Code::NO_DEVICE.0),
        ("CUDA_ERROR_NOT_READY", Code::NOT_READY.0),
        ("CU_MEM_LOCATION_TYPE_DEVICE", Location::DEVICE),
        ("CU_MEM_ALLOCATION_TYPE_PINNED", AllocationProperties::PINNED),
        ("CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR", AllocationProperties::FILE_DESCRIPTOR),
        ("CU_MEM_ACCESS_FLAGS_PROT_READWRITE", Access::READ_WRITE),
        ("CU_MEM_ALLOC_GRANULARITY_MINIMUM", abi::GRANULARITY_MINIMUM),
        ("CU_STREAM_NON_BLOCKING", abi::STREAM_NON_BLOCKING),
        ("CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING", abi::EVENT_BLOCKING_WITHOUT_TIME),
        ("CU_MEMHOSTREGISTER_READ_ONLY", abi::REGISTER_READ_ONLY),
        ("CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR", attribute::COMPUTE_MAJOR),
        ("CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR", attribute::COMPUTE_MINOR),
        ("CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED", attribute::MANAGES_VIRTUAL_MEMORY),
        ("CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED", attribute::EXPORTS_DESCRIPTORS),
        ("CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED", attribute::REGISTERS_READ_ONLY),
        ("CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID", attribute::HOST_NUMA_ID),
    ] {
        holds(name, format!("({name}) == {value}u"));
    }
    all
}

/// What the compiler says to it; none: it compiles.
fn compiled(program: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("declared.c");
    std::fs::write(&source, program).unwrap();
    let include = Path::new(INCLUDE);
    assert!(include.join("cuda.h").is_file(), "there is no cuda.h: run `make libtorch`");
    let cc = Command::new("cc")
        .args(["-std=gnu11", "-fsyntax-only", "-I"])
        .arg(include)
        .arg(&source)
        .output()
        .unwrap();
    (!cc.status.success()).then(|| String::from_utf8_lossy(&cc.stderr).into_owned())
}

#[test]
fn what_is_declared_of_the_driver_is_what_its_header_says() {
    assert_eq!(compiled(&program()), None);
}

#[test]
fn a_wrong_declaration_is_seen() {
    let right = program();
    for (a, b) in [
        (
            "CUresult(CUdeviceptr, size_t, size_t, CUmemGenericAllocationHandle, unsigned long long)",
            "CUresult(CUdeviceptr, size_t, unsigned int, CUmemGenericAllocationHandle, unsigned long long)",
        ),
        ("offsetof(CUmemAllocationProp, location) == 8", "offsetof(CUmemAllocationProp, location) == 12"),
        ("(CU_MEMHOSTREGISTER_READ_ONLY) == 8u", "(CU_MEMHOSTREGISTER_READ_ONLY) == 4u"),
        ("cuMemHostRegister_v2", "cuMemHostRegister_v3"),
    ] {
        let wrong = right.replacen(a, b, 1);
        assert!(wrong != right && compiled(&wrong).is_some(), "{a}");
    }
}
