"""Tensors over memory that is there already, for torch or numpy; over a card's for torch. Nothing is copied.

A tensor keeps the memory: both libraries refer to the object that exported it as long as a tensor does.
"""

from __future__ import annotations

import importlib
import importlib.util
import mmap
import warnings
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from hoist import _cuda
from hoist._enums import Code
from hoist._errors import Error

Framework = Literal["auto", "torch", "numpy"]
_KNOWN = ("auto", "torch", "numpy")

# By the names of safetensors. numpy has those without a dot by itself, the others with ml_dtypes.
_NUMPY = {
    "BOOL": "bool_",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "C128": "complex128",
}
_ML_DTYPES = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}
_TORCH = {**_NUMPY, **_ML_DTYPES, "BOOL": "bool", "F4": "float4_e2m1fn_x2"}
# Elements in one of torch's, where it packs several.
_TORCH_PACKS = {"F4": 2}


class Maker(Protocol):
    """What makes tensors over one piece of memory."""

    def __call__(self, dtype: str, shape: Sequence[int], offset: int, size: int) -> Any: ...  # noqa: ANN401


def checked(framework: Framework) -> Framework:
    """Raises ValueError for another word, ImportError for what is not installed; imports nothing yet."""
    if framework not in _KNOWN:
        raise ValueError(f"framework: {framework!r} is none: use {', '.join(_KNOWN)}")
    if framework != "auto" and not _installed(framework):
        raise ImportError(f"{framework} is not installed: pip install {framework}", name=framework)
    return framework


def maker(framework: Framework, memory: mmap.mmap | _cuda.Memory) -> Maker:
    """Importing torch takes seconds, so it waits until the first tensor is asked for."""
    if isinstance(memory, _cuda.Memory):
        if framework == "numpy":
            raise TypeError("numpy has no arrays on a card: attach with framework='torch'")
        checked("torch")
        return _TorchOnCard(memory)
    if framework == "auto":
        framework = "torch" if _installed("torch") else "numpy"
        if framework == "numpy" and not _installed("numpy"):
            raise ImportError("tensors need torch or numpy: pip install either", name="numpy")
    return _Torch(memory) if framework == "torch" else _Numpy(memory)


def _unfit(dtype: str, shape: Sequence[int], size: int) -> Error:
    return Error(f"{size} bytes are no {dtype} of shape {tuple(shape)}", code=Code.DATA_LOSS)


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


class _Torch:
    def __init__(self, memory: mmap.mmap | _cuda.Memory) -> None:
        self._torch: Any = importlib.import_module("torch")
        self._bytes: Any = self._all_of(memory)
        # All of the memory once for each element type; from there a tensor is one step, 2 us, not 6.
        self._views: dict[str, tuple[Any, int]] = {}

    def __call__(self, dtype: str, shape: Sequence[int], offset: int, size: int) -> Any:  # noqa: ANN401
        view = self._views.get(dtype)
        if view is None:
            view = self._views[dtype] = self._view(dtype)
        whole, width = view
        sizes = list(shape)
        if dtype in _TORCH_PACKS and sizes:
            sizes[-1] //= _TORCH_PACKS[dtype]
        if offset % width:
            return self._unaligned(dtype, offset, size).view(whole.dtype).view(sizes)
        steps, step = [], 1
        for edge in reversed(sizes):
            steps.append(step)
            step *= edge
        if step * width != size:
            raise _unfit(dtype, shape, size)
        return whole.as_strided(sizes, steps[::-1], offset // width)

    def _all_of(self, memory: Any) -> Any:  # noqa: ANN401
        """One tensor of all bytes."""
        with warnings.catch_warnings():
            # It warns of memory that is not writable; the documentation of `open` does, too.
            warnings.simplefilter("ignore")
            return self._torch.frombuffer(memory, dtype=self._torch.uint8)

    def _unaligned(self, dtype: str, offset: int, size: int) -> Any:  # noqa: ANN401
        # Not in a segment, where all is aligned. Elsewhere it takes a copy: torch has no such tensors.
        return self._bytes.narrow(0, offset, size).clone()

    def _view(self, dtype: str) -> tuple[Any, int]:
        kind = getattr(self._torch, _TORCH.get(dtype, ""), None)
        if kind is None:
            raise TypeError(f"torch {self._torch.__version__} has no element type for {dtype}")
        width: int = self._torch.empty(0, dtype=kind).element_size()
        return self._bytes.narrow(0, 0, len(self._bytes) // width * width).view(kind), width


class _TorchOnCard(_Torch):
    """The same over a card's memory: where that would take a copy, it is an error."""

    def __init__(self, memory: _cuda.Memory) -> None:
        super().__init__(memory)
        self._address = memory.address

    def __call__(self, dtype: str, shape: Sequence[int], offset: int, size: int) -> Any:  # noqa: ANN401
        tensor = super().__call__(dtype, shape, offset, size)
        # What is empty is nowhere.
        if size and tensor.data_ptr() != self._address + offset:
            version = self._torch.__version__
            text = f"torch {version} has copied the memory of a card instead of using it where it is"
            raise Error(text, code=Code.INTERNAL)
        return tensor

    def _all_of(self, memory: _cuda.Memory) -> Any:  # noqa: ANN401
        return on_card(self._torch, memory)

    def _unaligned(self, dtype: str, offset: int, size: int) -> Any:  # noqa: ANN401
        text = f"{size} bytes of {dtype} begin at {offset}, where torch can use none without a copy"
        raise Error(text, code=Code.DATA_LOSS)


def on_card(torch: Any, memory: _cuda.Memory) -> Any:  # noqa: ANN401
    """All bytes of a card's memory as one tensor, which keeps the memory. Tests replace this."""
    # torch reads what describes the memory with numpy's help.
    checked("numpy")
    try:
        torch.cuda.init()
    except Exception as error:
        # Of many sorts: that it was built without CUDA is an AssertionError.
        text = f"torch {torch.__version__} cannot use the card: {error}"
        raise Error(text, code=Code.FAILED_PRECONDITION) from error
    # Named by its number: on any other device it would be a copy.
    return torch.as_tensor(memory, device=torch.device("cuda", memory.ordinal))


class _Numpy:
    def __init__(self, memory: mmap.mmap) -> None:
        self._numpy: Any = importlib.import_module("numpy")
        self._memory = memory
        self._dtypes: dict[str, Any] = {}

    def __call__(self, dtype: str, shape: Sequence[int], offset: int, size: int) -> Any:  # noqa: ANN401
        kind = self._dtypes.get(dtype)
        if kind is None:
            kind = self._dtypes[dtype] = self._dtype(dtype)
        array = self._numpy.ndarray(tuple(shape), kind, self._memory, offset)
        if array.nbytes != size:
            raise _unfit(dtype, shape, size)
        return array

    def _dtype(self, name: str) -> Any:  # noqa: ANN401
        if name in _NUMPY:
            return self._numpy.dtype(getattr(self._numpy, _NUMPY[name]))
        if name not in _ML_DTYPES:
            raise TypeError(f"numpy has no element type for {name}")
        if not _installed("ml_dtypes"):
            raise TypeError(
                f"numpy has no element type for {name} by itself: pip install ml_dtypes, "
                'or open it with framework="torch"'
            )
        found = getattr(importlib.import_module("ml_dtypes"), _ML_DTYPES[name], None)
        if found is None:
            raise TypeError(f"this version of ml_dtypes has no element type for {name}: install a newer one")
        return self._numpy.dtype(found)
