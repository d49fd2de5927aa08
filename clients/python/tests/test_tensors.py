"""Tensors over a file's memory: their values, that nothing is copied, and how long the memory stays."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hoist
from hoist import _frameworks

from .fake_lessor import FakeLessor, Tensor

needs_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="torch is not installed")

# Every element type that safetensors has and one of the libraries knows, widest first as in a segment.
PLAIN: list[Tensor] = [
    ("c64", "C64", [2], struct.pack("<4f", 1, 2, 3, 4)),
    ("f64", "F64", [1], struct.pack("<d", 1.5)),
    ("i64", "I64", [2], struct.pack("<2q", -1, 2**62)),
    ("u64", "U64", [1], struct.pack("<Q", 2**63)),
    ("f32", "F32", [2, 3], struct.pack("<6f", *range(6))),
    ("i32", "I32", [1], struct.pack("<i", -7)),
    ("u32", "U32", [1], struct.pack("<I", 2**31)),
    ("f16", "F16", [2], struct.pack("<2e", 0.5, -2)),
    ("i16", "I16", [1], struct.pack("<h", -3)),
    ("u16", "U16", [1], struct.pack("<H", 65535)),
    ("bool", "BOOL", [3], b"\1\0\1"),
    ("i8", "I8", [2], struct.pack("<2b", -1, 1)),
    ("u8", "U8", [2, 2], b"\1\2\3\4"),
    ("scalar", "U8", [], b"\x2a"),
    ("empty", "F32", [0, 5], b""),
]
SMALL: list[Tensor] = [
    ("bf16", "BF16", [2], struct.pack("<2H", 0x3FC0, 0xC000)),
    ("e4m3", "F8_E4M3", [2], b"\x3c\xc0"),
    ("e5m2", "F8_E5M2", [2], b"\x3e\xc0"),
    ("e8m0", "F8_E8M0", [1], b"\x80"),
]
EXPECTED: dict[str, Any] = {
    "c64": [1 + 2j, 3 + 4j],
    "f64": [1.5],
    "i64": [-1, 2**62],
    "u64": [2**63],
    "f32": [[0, 1, 2], [3, 4, 5]],
    "i32": [-7],
    "u32": [2**31],
    "f16": [0.5, -2],
    "i16": [-3],
    "u16": [65535],
    "bool": [True, False, True],
    "i8": [-1, 1],
    "u8": [[1, 2], [3, 4]],
    "scalar": 42,
    "empty": [],
    "bf16": [1.5, -2],
    "e4m3": [1.5, -2],
    "e5m2": [1.5, -2],
    "e8m0": [2],
}


@pytest.fixture
def client(lessor: FakeLessor) -> Iterator[hoist.Client]:
    with hoist.connect(lessor.endpoint) as connected:
        yield connected


def mapped(path: str | Path) -> list[tuple[int, int]]:
    """Where a file is in this process's memory."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    ranges = [line.split()[0].split("-") for line in lines if line.endswith(str(path))]
    return [(int(begin, 16), int(end, 16)) for begin, end in ranges]


def within(path: str, address: int) -> bool:
    return any(begin <= address < end for begin, end in mapped(path))


@pytest.mark.parametrize("table", [True, False], ids=["table", "header"])
def test_numpy_has_every_value_without_a_copy(lessor: FakeLessor, client: hoist.Client, table: bool) -> None:
    lessor.add("all", [*PLAIN, *SMALL], table=table)
    with client.open("m", "all", framework="numpy") as tensors:
        assert list(tensors) == [name for name, *_ in [*PLAIN, *SMALL]]
        for name, _, shape, content in [*PLAIN, *SMALL]:
            array = tensors[name]
            assert (list(array.shape), array.tobytes()) == (shape, content)
            assert array.astype(complex).tolist() == EXPECTED[name]
            assert not content or within(tensors.path, array.__array_interface__["data"][0])
            assert not content or not array.flags.writeable
        info = tensors.info("f32")
        assert (info.name, info.dtype, info.shape, info.component) == ("f32", "F32", (2, 3), "all")
        assert tensors.nbytes == sum(len(content) for *_, content in [*PLAIN, *SMALL])
        assert tensors.metadata == {"format": "pt"}
        del array


@needs_torch
def test_torch_has_every_value_without_a_copy(lessor: FakeLessor, client: hoist.Client) -> None:
    torch: Any = importlib.import_module("torch")
    lessor.add("all", [*PLAIN, *SMALL])
    with client.open("m", "all") as tensors:
        for name, _, shape, content in [*PLAIN, *SMALL]:
            tensor = tensors[name]
            assert isinstance(tensor, torch.Tensor)
            assert list(tensor.shape) == shape
            if content:
                assert bytes(tensor.reshape(-1).view(torch.uint8).numpy()) == content
                assert within(tensors.path, tensor.data_ptr())
        # What is more than two to the 53rd as a float is not the same.
        for name in ("i64", "u64", "f32", "bool", "scalar"):
            assert tensors[name].tolist() == EXPECTED[name]
        for name in ("bf16", "e4m3", "e5m2"):
            assert tensors[name].float().tolist() == EXPECTED[name]


@needs_torch
def test_torch_packs_two_elements_of_four_bits(lessor: FakeLessor, client: hoist.Client) -> None:
    lessor.add("four", [("f4", "F4", [2, 4], b"\1\2\3\4")])
    with client.open("m", "four", framework="torch") as tensors:
        assert tuple(tensors["f4"].shape) == (2, 2)


@needs_torch
def test_torch_may_write_to_what_is_its_own(lessor: FakeLessor, client: hoist.Client) -> None:
    path = lessor.add("one", [("w", "F32", [2], struct.pack("<2f", 1, 2))])
    before = path.read_bytes()
    with client.open("m", "one", framework="torch", writable=True) as tensors:
        tensors["w"].mul_(2)
        assert tensors["w"].tolist() == [2, 4]
    assert path.read_bytes() == before


def test_what_is_written_stays_here_and_only_when_asked_for(lessor: FakeLessor, client: hoist.Client) -> None:
    path = lessor.add("one", [("w", "U8", [2], b"\1\2")])
    before = path.read_bytes()
    with client.open("m", "one", framework="numpy") as tensors, pytest.raises(ValueError, match="read-only"):
        tensors["w"][0] = 9
    with client.open("m", "one", framework="numpy", writable=True) as tensors:
        tensors["w"][0] = 9
        assert tensors["w"].tolist() == [9, 2]
    assert path.read_bytes() == before


@pytest.mark.parametrize("framework", ["numpy", pytest.param("torch", marks=needs_torch)])
def test_the_memory_stays_as_long_as_a_tensor_does(
    lessor: FakeLessor, client: hoist.Client, framework: _frameworks.Framework
) -> None:
    content = bytes(range(256)) * 64
    path = lessor.add("big", [("w", "U8", [128, 128], content)])
    tensors = client.open("m", "big", framework=framework)
    kept = tensors["w"][3:5]
    tensors.close()
    with pytest.raises(ValueError, match="'big' are closed"):
        tensors["w"]
    with pytest.raises(ValueError, match="closed"):
        tensors.state_dict()
    del tensors
    gc.collect()
    assert lessor.held == set()
    path.unlink()
    assert bytes(kept.reshape(-1).tolist()) == content[3 * 128 : 5 * 128]
    assert mapped(f"{path} (deleted)")
    del kept
    gc.collect()
    assert not mapped(f"{path} (deleted)")


def test_closing_unmaps_at_once_what_nobody_uses(lessor: FakeLessor, client: hoist.Client) -> None:
    path = lessor.add("one", [("w", "U8", [2], b"\1\2")])
    tensors = client.open("m", "one", framework="numpy")
    assert tensors["w"].tolist() == [1, 2]
    assert mapped(path)
    tensors.close()
    assert not mapped(path)


def test_a_mapping_of_names(lessor: FakeLessor, client: hoist.Client) -> None:
    lessor.add("vae", PLAIN, prefix="first_stage_model.")
    with client.open("m", "vae", framework="numpy") as tensors:
        assert "f32" in tensors
        assert "nobody" not in tensors
        assert tensors.get("nobody") is None
        with pytest.raises(KeyError, match=r"'nobody' is no tensor") as missing:
            tensors["nobody"]
        assert missing.value.args == ("nobody",)
        with pytest.raises(KeyError, match="did you mean 'f32'"):
            tensors.info("ff32")
        with pytest.raises(KeyError, match=r"without the prefix 'first_stage_model\.': ask for 'i16'"):
            tensors["first_stage_model.i16"]
        assert len(tensors) == len(PLAIN) == len(dict(tensors))
        assert tensors.prefix == "first_stage_model."
        assert tensors.state_dict().keys() == tensors.keys()
        whole = tensors.state_dict(prefix=True)
        assert whole["first_stage_model.i16"].tolist() == [-3]
        assert len(whole) == len(PLAIN)
        assert (tensors.component, tensors.type, tensors.segment) == ("vae", "vae", "segments/vae")
        assert repr(tensors) == "<Tensors 'vae' segments/vae held>"
    assert repr(tensors) == "<Tensors 'vae' segments/vae closed>"


def test_a_name_without_the_prefix_that_was_kept_is_answered_with_the_whole(
    lessor: FakeLessor, client: hoist.Client
) -> None:
    lessor.add("vae", [("model.w", "U8", [2], b"\1\2")])
    with client.open("m", "vae", framework="numpy") as tensors:
        with pytest.raises(KeyError, match=r"as in the model's files: ask for 'model\.w'"):
            tensors["w"]
        with pytest.raises(KeyError) as missing:
            tensors["v"]
        assert pickle.loads(pickle.dumps(missing.value)).args == ("v",)


def test_what_is_kept_as_files_has_no_tensors_and_says_so(lessor: FakeLessor, client: hoist.Client) -> None:
    folder = lessor.add_raw("model", {"q4.gguf": b"GGUF"})
    with client.open("m", "model") as tensors:
        assert (tensors.files, len(tensors), tensors.metadata, tensors.nbytes) == (("q4.gguf",), 0, {}, 0)
        assert (Path(tensors.path) / tensors.files[0]).read_bytes() == b"GGUF"
        assert Path(tensors.path) == folder
        with pytest.raises(TypeError, match=r"no tensors but files, q4\.gguf, in /"):
            tensors["w"]


def test_a_type_that_numpy_lacks_is_told_only_when_it_is_asked_for(
    lessor: FakeLessor, client: hoist.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    lessor.add("mixed", [*SMALL, ("f6", "F6_E2M3", [4], b"\1\2\3"), ("u8", "U8", [1], b"\1")])
    monkeypatch.setattr(_frameworks, "_installed", lambda name: name == "numpy")
    with client.open("m", "mixed", framework="auto") as tensors:
        assert tensors["u8"].tolist() == [1]
        with pytest.raises(TypeError, match="BF16 by itself: pip install ml_dtypes"):
            tensors["bf16"]
        with pytest.raises(TypeError, match="F6_E2M3"):
            tensors["f6"]


def test_what_is_not_installed_is_told(
    lessor: FakeLessor, client: hoist.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    lessor.add("one", [("w", "U8", [1], b"\1")])
    monkeypatch.setattr(_frameworks, "_installed", lambda _: False)
    with pytest.raises(ImportError, match="pip install torch"):
        client.open("m", "one", framework="torch")
    assert lessor.requests == [], "before anything is asked for"
    with client.open("m", "one") as tensors:
        assert tensors.info("w").dtype == "U8", "what needs neither works"
        with pytest.raises(ImportError, match="torch or numpy"):
            tensors["w"]


def test_auto_is_torch_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(_frameworks, "_Torch", lambda _: made.append("torch"))
    monkeypatch.setattr(_frameworks, "_Numpy", lambda _: made.append("numpy"))
    for installed in ({"torch", "numpy"}, {"numpy"}):
        monkeypatch.setattr(_frameworks, "_installed", installed.__contains__)
        _frameworks.maker("auto", None)  # type: ignore[arg-type]
    assert made == ["torch", "numpy"]


def test_nothing_is_made_at_opening(lessor: FakeLessor, client: hoist.Client) -> None:
    lessor.add("one", [("w", "U8", [1], b"\1")])
    with client.open("m", "one") as tensors:
        assert (tensors._table, tensors._make, tensors._header) == (None, None, None)
        assert mapped(tensors.path), "but the file is mapped: its name may go"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        struct.pack("<Q", 5) + b"{no}}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 7) + b'{"a":3}',
    ],
)
def test_a_file_that_is_none_of_tensors_is_told(
    lessor: FakeLessor, client: hoist.Client, content: bytes
) -> None:
    lessor.add("bad", [("w", "U8", [1], b"\1")], table=False).write_bytes(content)
    with pytest.raises(hoist.Error, match=r"bad\.safetensors"), client.open("m", "bad") as tensors:
        list(tensors)
    assert lessor.held == set()


@pytest.mark.parametrize("framework", ["numpy", pytest.param("torch", marks=needs_torch)])
def test_a_tensor_that_is_more_or_less_than_its_bytes_is_told(
    lessor: FakeLessor, client: hoist.Client, framework: _frameworks.Framework
) -> None:
    lessor.add(
        "odd", [("less", "U8", [3], b"abcd"), ("more", "U8", [2, 2], b"abc"), ("pad", "U8", [9], b"x" * 9)]
    )
    with client.open("m", "odd", framework=framework) as tensors:
        for name in ("less", "more"):
            with pytest.raises(hoist.Error, match="bytes are no U8 of shape"):
                tensors[name]


def test_a_tensor_beyond_the_file_is_told(lessor: FakeLessor, client: hoist.Client) -> None:
    path = lessor.add("cut", [("w", "U8", [4], b"abcd")])
    path.write_bytes(path.read_bytes()[:-1])
    with client.open("m", "cut") as tensors, pytest.raises(hoist.Error, match="ends behind the end") as error:
        tensors["w"]
    assert error.value.code is hoist.Code.DATA_LOSS


def test_the_reference_reader_reads_the_same(lessor: FakeLessor, client: hoist.Client) -> None:
    reference = pytest.importorskip("safetensors.numpy")
    lessor.add("all", PLAIN)
    with client.open("m", "all", framework="numpy") as tensors:
        theirs = reference.load_file(tensors.path)
        assert theirs.keys() == set(tensors)
        for name, array in tensors.items():
            assert array.dtype == theirs[name].dtype
            assert np.array_equal(array, theirs[name])
            assert array.shape == theirs[name].shape
        del array


def test_a_header_in_any_order_is_read_in_that_of_places(lessor: FakeLessor, client: hoist.Client) -> None:
    path = lessor.add("odd", [("a", "U8", [1], b"a")], table=False)
    header = {
        "second": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]},
        "first": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
    }
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"xy")
    with client.open("m", "odd", framework="numpy") as tensors:
        assert [(name, chr(tensors[name][0])) for name in tensors] == [("first", "x"), ("second", "y")]
        assert tensors.metadata == {}
