"""What is in RAM, used by transformers and diffusers: by a path, and by tensors without a copy.

Run by `make test-torch`; skipped where these are not installed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hoist

from .conftest import Server

os.environ["HF_HUB_OFFLINE"] = "1"
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
diffusers = pytest.importorskip("diffusers")

Makes = Callable[[Path], Any]


def _gpt() -> Any:  # noqa: ANN401
    config = transformers.GPT2Config(
        n_embd=64, n_layer=3, n_head=4, vocab_size=500, bos_token_id=1, eos_token_id=2
    )
    return transformers.GPT2LMHeadModel(config)


def _one_file(folder: Path) -> Any:  # noqa: ANN401
    model = _gpt()
    model.save_pretrained(folder)
    return model


def _in_shards(folder: Path) -> Any:  # noqa: ANN401
    model = _gpt()
    model.save_pretrained(folder, max_shard_size="150KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    return model


def _pickled(folder: Path) -> Any:  # noqa: ANN401
    model = _gpt()
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return model


def _vae(folder: Path) -> Any:  # noqa: ANN401
    model = diffusers.AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        norm_num_groups=8,
    )
    model.save_pretrained(folder)
    return model


def _same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype, name
        assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("make", [_one_file, _in_shards, _pickled, _vae])
def test_a_library_loads_what_is_in_ram(server: Server, tmp_path: Path, make: Makes) -> None:
    folder = server.models / "model"
    folder.mkdir()
    model = make(folder)
    expected = model.state_dict()
    with hoist.connect(server.endpoint) as client:
        client.scan()
        (component,) = client.cache("model").components

        # As the library's own file: nothing but its name is told by it.
        place = tmp_path / "place"
        place.mkdir()
        shutil.copy(folder / "config.json", place)
        name = "model" if make is not _vae else "diffusion_pytorch_model"
        (place / f"{name}.safetensors").symlink_to(component.path)
        _same(type(model).from_pretrained(place).state_dict(), expected)

        # As tensors of a model that has no memory of its own for them.
        with client.open("model", framework="torch").only() as tensors:
            with torch.device("meta"):
                empty = _empty(model)
            told = empty.load_state_dict(tensors.state_dict(), strict=False, assign=True)
            assert not told.unexpected_keys
            if hasattr(empty, "tie_weights"):
                empty.tie_weights()
            _same(empty.state_dict(), expected)
            used = {each.data_ptr() for each in empty.state_dict().values()}
            copied = [name for name, each in tensors.items() if each.data_ptr() not in used]
            # Of two that are tied one is dropped.
            assert set(copied) <= {"lm_head.weight"}


def _empty(model: Any) -> Any:  # noqa: ANN401
    """The same architecture, made where the caller says."""
    if isinstance(model, diffusers.ModelMixin):
        return type(model).from_config(model.config)
    return type(model)(model.config)
