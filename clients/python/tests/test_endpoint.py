from __future__ import annotations

import os

import pytest

from hoist import _endpoint


@pytest.mark.parametrize(
    ("url", "target", "local"),
    [
        ("unix:///run/hoist/hoist.sock", "unix:///run/hoist/hoist.sock", True),
        ("http://127.0.0.1:7070", "dns:///127.0.0.1:7070", False),
        ("http://localhost:7070/", "dns:///localhost:7070", False),
        ("http://[::1]:7070", "dns:///[::1]:7070", False),
    ],
)
def test_both_forms_are_understood(url: str, target: str, local: bool) -> None:
    endpoint = _endpoint.parse(url, "endpoint")
    assert (endpoint.url, endpoint.target, endpoint.local) == (url, target, local)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/run/hoist.sock",
        "unix:",
        "unix:///",
        "unix://run/hoist.sock",
        "http://host",
        "http://host:x",
        "http://host:99999",
        "http://host:1/path",
        "http://host:1?x",
        "https://host:1",
        "http://:1",
    ],
)
def test_anything_else_is_refused_with_its_origin_and_the_forms(url: str) -> None:
    with pytest.raises(ValueError, match=r"HOIST_ENDPOINT .*unix:///path.*http://host:port"):
        _endpoint.parse(url, "HOIST_ENDPOINT")


def test_an_argument_beats_the_environment_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOIST_ENDPOINT", raising=False)
    assert _endpoint.resolve(None).url == f"unix:///dev/shm/hoist-{os.getuid()}/hoist.sock"
    monkeypatch.setenv("HOIST_ENDPOINT", "http://host:1")
    assert _endpoint.resolve(None).url == "http://host:1"
    assert _endpoint.resolve("http://host:2").url == "http://host:2"


def test_only_a_unix_socket_needs_another_authority() -> None:
    local = _endpoint.parse("unix:///x", "endpoint").options()
    remote = _endpoint.parse("http://h:1", "endpoint").options()
    assert ("grpc.default_authority", "localhost") in local
    assert "grpc.default_authority" not in dict(remote)


def test_what_is_no_text_and_what_no_socket_can_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match=r"endpoint must be a string, not 7"):
        _endpoint.resolve(7)  # type: ignore[arg-type]
    longest = "unix:///" + "x" * 106
    assert _endpoint.parse(longest, "endpoint").local
    with pytest.raises(ValueError, match="108 bytes long, the kernel takes 107"):
        _endpoint.parse(longest + "x", "endpoint")
