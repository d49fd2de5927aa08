"""The calls about models: what is sent, and what the real server answers about a small tree written here."""

from __future__ import annotations

import json
import os
import struct
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import hoist
from hoist import FindingKind, ModelState, ValidationLevel, Verdict, _plans_models
from hoist._plans import Call, Plan
from hoist._proto.v1 import catalog_service_pb2 as catalog

from .conftest import Server

LORA = {
    "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": [4, 768],
    "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": [3072, 4],
}
TABLE = {"table": [16, 16]}


def safetensors(tensors: dict[str, list[int]], fill: float) -> bytes:
    """A file of F32 tensors whose elements are all `fill`."""
    header: dict[str, Any] = {"__metadata__": {"made": "here"}}
    end = 0
    for name, shape in tensors.items():
        start, count = end, 1
        for edge in shape:
            count *= edge
        end += 4 * count
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + struct.pack("<f", fill) * (end // 4)


@pytest.fixture
def catalogued(server: Server, client: hoist.Client) -> hoist.Client:
    for path, content in {
        "loras/portrait.safetensors": safetensors(LORA, 0.5),
        "tables/one.safetensors": safetensors(TABLE, 1.0),
        "tables/two.safetensors": safetensors(TABLE, 1.0),
        "cut.safetensors": safetensors(TABLE, 2.0)[:-100],
    }.items():
        file = server.models / path
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    assert client.scan().models == 4
    return client


def first(plan: Plan[Any]) -> Any:  # noqa: ANN401
    """What is sent first."""
    step = next(plan)
    assert isinstance(step, Call)
    return step.request


def listing(**wishes: Any) -> catalog.ListModelsRequest:  # noqa: ANN401
    given = {
        "type": None,
        "base": None,
        "format": None,
        "tags": None,
        "verdict": None,
        "text": "",
        "filter": "",
    }
    rest = {"order_by": "", "missing": False, "page_size": 7}
    return _plans_models.models_request(**{**given, **rest, **wishes})


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ({}, ""),
        ({"type": "lora"}, 'type = "lora"'),
        ({"type": ["lora", "vae"], "base": "sd*"}, 'type = "lora" OR type = "vae" AND base = sd*'),
        ({"tags": ["a", 'b" OR type:"']}, 'tags:"a" AND tags:"b\\" OR type:\\""'),
        ({"verdict": [Verdict.CORRUPT, "ok"]}, 'verdict = "corrupt" OR verdict = "ok"'),
        ({"format": "gguf", "filter": " size_bytes < 2e9 "}, 'format = "gguf" AND size_bytes < 2e9'),
        ({"tags": "(x)*"}, 'tags:"(x)*"'),
    ],
)
def test_arguments_become_one_filter(wishes: dict[str, Any], expected: str) -> None:
    assert listing(**wishes).filter == expected


@pytest.mark.parametrize(
    ("wishes", "error"),
    [
        ({"type": 3}, TypeError),
        ({"tags": [3]}, TypeError),
        ({"verdict": "bad"}, ValueError),
        ({"text": None}, TypeError),
        ({"missing": "no"}, TypeError),
        ({"page_size": 0}, ValueError),
    ],
)
def test_what_can_never_be_right_is_not_sent(wishes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        listing(**wishes)


def test_paths_are_sent_from_the_root_and_names_as_they_are() -> None:
    assert first(_plans_models.model(Path("x.gguf"), False, False)).name == os.path.abspath("x.gguf")
    assert first(_plans_models.model("x.gguf", False, True)).details
    assert first(_plans_models.scan(["loras"], False, 3, True, None, None)).paths == [
        os.path.abspath("loras")
    ]
    for depth in (0, -1, 1 << 32):
        with pytest.raises(ValueError, match="max_depth"):
            next(_plans_models.scan(None, False, depth, False, None, None))
    for plan in (
        _plans_models.scan("loras", False, None, False, None, None),
        _plans_models.digest("x", None, None),
    ):
        with pytest.raises(TypeError):
            next(plan)


def test_a_name_that_is_no_text_is_sent_as_the_server_shows_it_and_is_refused_elsewhere() -> None:
    odd = os.fsdecode(b"/m/bad\xff\xf0\x90name.pt")
    shown = "/m/bad\ufffd\ufffdname.pt"
    for name in (odd, Path(odd)):
        assert first(_plans_models.model(name, False, False)).name == shown
    for plan in (
        _plans_models.scan([odd], False, None, False, None, None),
        _plans_models.model(os.fsdecode(b"bad\xff"), False, False),
        _plans_models.update_model("x", {"licence": "\udcff"}, {}, None, None, False, None, None),
        _plans_models.digest(["\ud800"], None, None),
    ):
        with pytest.raises(ValueError, match="is not UTF-8"):
            next(plan)
    with pytest.raises(TypeError):
        next(_plans_models.scan([os.fsencode(odd)], False, None, False, None, None))  # type: ignore[list-item]


def test_an_update_sends_only_what_is_given() -> None:
    plan = _plans_models.update_model(
        "x", {"licence": ""}, {"tags": [], "aliases": None}, None, False, True, None, None
    )
    sent = first(plan)
    assert list(sent.update_mask.paths) == ["licence", "tags", "config.trusted"]
    assert sent.any_base
    for nothing in ({}, {"licence": None}):
        with pytest.raises(ValueError, match="nothing to change"):
            next(_plans_models.update_model("x", nothing, {}, None, None, False, None, None))
    with pytest.raises(TypeError):
        next(_plans_models.update_model("x", {}, {"tags": "abc"}, None, None, False, None, None))


@pytest.mark.integration
def test_models_are_listed_and_told_in_full(server: Server, catalogued: hoist.Client) -> None:
    by_pages = list(catalogued.models(order_by="size_bytes desc", page_size=1))
    assert [each.name for each in by_pages] == [each.name for each in catalogued.models(order_by="size desc")]
    assert len(by_pages) == 4
    [lora] = catalogued.models(type="lora", format="safe*", text="PORTRAIT", verdict=Verdict.OK)
    assert lora == by_pages[0] == catalogued.model("portrait")
    assert (lora.state, lora.format, lora.dtypes) == (ModelState.AVAILABLE, "safetensors", {"F32": 2})
    assert lora.path == str(server.models / "loras/portrait.safetensors")
    details = catalogued.model(server.models / "loras/portrait.safetensors", tensors=True).details
    assert details is not None
    assert details.evidence
    assert details.metadata == {"made": "here"}
    assert details.files[0].weights
    assert {each.name: list(each.shape) for each in details.tensors} == LORA
    [cut] = catalogued.models(filter="verdict != ok")
    assert (cut.verdict.loadable, cut.verdict_kind) == (False, cut.findings[0].kind)
    with pytest.raises(hoist.NotFound):
        catalogued.model("nobody")


@pytest.mark.integration
def test_edits_are_kept_and_a_stale_one_is_refused(catalogued: hoist.Client) -> None:
    before = catalogued.model("one")
    after = catalogued.update_model(
        "one", display_name="Table", tags=["b", "a"], trusted=True, etag=before.etag
    )
    assert (after.display_name, after.tags, after.notes.config.trusted) == ("Table", ("a", "b"), True)
    with pytest.raises(hoist.Refused) as refused:
        catalogued.update_model("Table", licence="mine", etag=before.etag)
    assert refused.value.reason == "ETAG_MISMATCH"
    assert catalogued.update_model("Table", display_name="", tags=()).tags == ()
    assert catalogued.model("one").notes.config.trusted


@pytest.mark.integration
def test_a_base_that_nobody_knows_is_refused_unless_it_is_meant(catalogued: hoist.Client) -> None:
    with pytest.raises(hoist.Error, match="Did you mean `sdxl`") as refused:
        catalogued.update_model("one", base_override="sdlx")
    assert refused.value.reason == "FIELD_INVALID"
    assert catalogued.update_model("one", base_override="home-made", any_base=True).base == "home-made"
    assert catalogued.update_model("two", base_override="home-made").base == "home-made"
    assert catalogued.update_model("two", base="sdxl", type="vae").base == "sdxl"
    with pytest.raises(ValueError, match="base_override"):
        catalogued.update_model("two", base="sdxl", base_override="sdxl")
    assert catalogued.update_model("two", base="", type="").base != "sdxl"


@pytest.mark.integration
def test_a_path_that_is_no_text_goes_both_ways(server: Server, catalogued: hoist.Client) -> None:
    file = server.models / os.fsdecode(b"bad\xffname.safetensors")
    file.write_bytes(safetensors(TABLE, 3.0))
    catalogued.scan()
    [found] = catalogued.models(filter='display_name:"bad"')
    assert found.path == str(file)
    assert os.path.exists(found.path)
    for name in (found.path, file, found.display_name):
        assert catalogued.model(name).name == found.name
    with pytest.raises(ValueError, match="paths is not UTF-8"):
        catalogued.scan([file])
    assert catalogued.scan([server.models]).models == 5
    assert catalogued.delete_model(file, files=True).files_deleted == 1
    assert not file.exists()


@pytest.mark.integration
def test_a_model_is_deleted_with_its_files_when_asked(server: Server, catalogued: hoist.Client) -> None:
    file = server.models / "tables/one.safetensors"
    assert catalogued.delete_model("one").files_deleted == 0
    assert file.exists()
    deleted = catalogued.delete_model("two", files=True)
    assert deleted.model is not None
    assert (deleted.model.display_name, deleted.files_deleted) == ("two", 1)
    assert not (server.models / "tables/two.safetensors").exists()


@pytest.mark.integration
def test_results_of_operations_are_values(catalogued: hoist.Client) -> None:
    scan = catalogued.scan(wait=False).result()
    assert (scan.models, scan.damaged, scan.by_type["lora"]) == (4, 1, 1)
    assert scan.took > timedelta()
    read = catalogued.digest(["one", "two"])
    assert (read.models, read.components, read.problems) == (2, 2, ())
    [shared] = catalogued.components(shared=True)
    assert shared.users[0].path == catalogued.model("one").path
    assert (shared.saved_bytes, [user.display_name for user in shared.users]) == (1_024, ["one", "two"])
    assert catalogued.model(shared.users[0].model).components[0].digest == shared.component.digest
    sound = catalogued.validate("portrait", checksums=True)
    assert (sound.verdict, sound.level, len(sound.checksums[0].sha256)) == (
        Verdict.OK,
        ValidationLevel.FULL,
        64,
    )
    wrong = catalogued.validate("portrait", sha256="0" * 64)
    assert (wrong.verdict, wrong.findings[0].kind) == (Verdict.CORRUPT, FindingKind.CHECKSUM)
    fits = catalogued.validate("portrait", "compatibility", device="cpu:0").compatibility
    assert fits is not None
    assert {each.category for each in fits.checks} >= {hoist.CheckCategory.MEMORY}
    looked_up = next(catalogued.operations("KIND = digest_models and state = Succeeded"))
    assert looked_up.result() == read


@pytest.mark.integration
def test_verdicts_and_roots(server: Server, catalogued: hoist.Client) -> None:
    [cut] = catalogued.verdicts()
    assert (cut.display_name, cut.validate_time) == ("cut", None)
    assert len(list(catalogued.verdicts(ok=True, page_size=3))) == 4
    [root] = catalogued.roots()
    assert (root.path, root.available, root.models) == (str(server.models), True, 4)


@pytest.mark.integration
def test_a_watch_tells_of_models(catalogued: hoist.Client) -> None:
    with catalogued.watch(kinds=["model"]) as watch:
        snapshot = next(watch)
        assert isinstance(snapshot, hoist.Snapshot)
        assert len(snapshot.resources) == 4
        catalogued.update_model("portrait", tags=["new"])
        changed = next(watch)
        assert isinstance(changed, hoist.Changed)
        assert isinstance(changed.resource.value, hoist.Model)
        assert changed.resource.value.tags == ("new",)
        # A change carries all of the model, not what changed alone.
        assert changed.resource.value == catalogued.model("portrait")


@pytest.mark.integration
async def test_asyncio_has_the_same(server: Server, catalogued: hoist.Client) -> None:
    async with hoist.aio.connect(server.endpoint) as client:
        assert [each async for each in client.models(page_size=1)] == list(catalogued.models())
        assert (await client.validate("portrait", "header")).verdict is Verdict.OK
        assert (await (await client.scan(wait=False)).result()).models == 4
        assert (await client.update_model("one", tags=["x"])).tags == ("x",)
        assert [each.path async for each in client.verdicts()] == [
            each.path for each in catalogued.verdicts()
        ]
