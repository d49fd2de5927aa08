"""Where the server is: the forms of an endpoint, and how the channel to it is set up."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

import grpc

VARIABLE = "HOIST_ENDPOINT"

# A page of 1,000 failed operations carries each error twice, about 6 KB a time: too much for grpc's 4 MiB.
MAX_RECEIVE_BYTES = 32 << 20

# grpc begins to drop trailers at random above 8 KiB. An error's details are at most about 8 KiB in base64,
# and its message at most 3 KiB percent-encoded.
MAX_METADATA_BYTES = 32 << 10

# While the server restarts, grpc itself pauses between connects, by default for up to two minutes; calls fail
# at once meanwhile. These keep it in step with our own back-off.
FIRST_RECONNECT_MS = 100
LAST_RECONNECT_MS = 2_000

# A server that hangs, or a peer that vanished, ends the call after about half a minute.
KEEPALIVE_MS = 20_000
KEEPALIVE_TIMEOUT_MS = 10_000


# The kernel's field holds 108 bytes with the final zero; grpc fails on a longer path with a riddle.
MAX_SOCKET_PATH = 107


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint, parsed."""

    url: str
    """As people write it."""
    target: str
    """As grpc wants it."""
    local: bool
    """Whether it is a Unix socket."""

    def options(self) -> list[tuple[str, int | str]]:
        """How the channel is set up."""
        options: list[tuple[str, int | str]] = [
            ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
            ("grpc.max_metadata_size", MAX_METADATA_BYTES),
            ("grpc.initial_reconnect_backoff_ms", FIRST_RECONNECT_MS),
            ("grpc.max_reconnect_backoff_ms", LAST_RECONNECT_MS),
            ("grpc.keepalive_time_ms", KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            # A quiet watch sends nothing; without this the pings stop after two.
            ("grpc.http2.max_pings_without_data", 0),
            # Else equal channels of a process, of other clients too, share one connection and what it takes.
            ("grpc.use_local_subchannel_pool", 1),
            # The server is on this machine or beside it; a proxy from the environment would only break that.
            ("grpc.enable_http_proxy", 0),
        ]
        if self.local:
            # grpc sends the percent-encoded path as :authority, which servers refuse with PROTOCOL_ERROR.
            options.append(("grpc.default_authority", "localhost"))
        return options

    def channel(self) -> grpc.Channel:
        """A connection of its own, for calls that block."""
        return grpc.insecure_channel(self.target, options=self.options())


def default_url() -> str:
    """The socket that `hoist serve` opens unless told otherwise."""
    return f"unix:///dev/shm/hoist-{os.getuid()}/hoist.sock"


def resolve(given: str | None) -> Endpoint:
    """The endpoint to use: what was given, else the environment's, else the default."""
    if given is not None:
        return parse(given, "endpoint")
    if from_environment := os.environ.get(VARIABLE):
        return parse(from_environment, VARIABLE)
    return parse(default_url(), "endpoint")


def parse(url: str, origin: str) -> Endpoint:
    """Raises ValueError, which names `origin`, for anything but the two forms; TypeError for no text."""
    forms = "use unix:///path/to/hoist.sock or http://host:port"
    if not isinstance(url, str):
        raise TypeError(f"{origin} must be a string, not {url!r}: {forms}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{origin} {url!r}: {error}; {forms}") from None
    plain = not parts.query and not parts.fragment
    if parts.scheme == "unix" and plain and not parts.netloc and len(parts.path) > 1:
        if (length := len(os.fsencode(parts.path))) > MAX_SOCKET_PATH:
            raise ValueError(
                f"{origin} {url!r}: the path is {length} bytes long, "
                f"the kernel takes {MAX_SOCKET_PATH}; {forms}"
            )
        return Endpoint(url, f"unix://{parts.path}", local=True)
    if parts.scheme == "http" and plain and parts.hostname and port is not None and parts.path in ("", "/"):
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return Endpoint(url, f"dns:///{host}:{port}", local=False)
    raise ValueError(f"{origin} {url!r} is not an endpoint: {forms}")
