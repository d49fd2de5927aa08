"""A server that knows of leases alone and does as a test says, to see what the client makes of it."""

from __future__ import annotations

import json
import queue
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from hoist import _methods
from hoist._enums import Code
from hoist._proto.v1 import lease_service_pb2 as lease
from hoist._proto.v1 import operation_pb2
from hoist._proto.v1 import state_service_pb2 as state

PATIENCE_SECONDS = 30.0
# What a test may tell a stream: the reason of a revocation, or to end it without a word.
DROP = object()

# A header's tensors: name, dtype, shape, bytes.
Tensor = tuple[str, str, list[int], bytes]


def written(path: Path, tensors: list[Tensor]) -> list[lease.TensorPlace]:
    """Writes a safetensors file, its data on a page as the server does, and tells where everything is."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, dtype, shape, content in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(content)]}
        end += len(content)
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % 4096)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(content for *_, content in tensors))
    data = 8 + len(text)
    return [
        lease.TensorPlace(
            name=name,
            dtype=dtype,
            shape=shape,
            offset=data + header[name]["data_offsets"][0],
            size_bytes=len(content),
        )
        for name, dtype, shape, content in tensors
    ]


class FakeLessor:
    """LeaseService.Acquire over a socket in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.endpoint = f"unix://{folder}/fake.sock"
        self.components: list[lease.LeasedComponent] = []
        self.progress: list[operation_pb2.Progress | None] = []
        self.grace_seconds = 30
        self.grants = True
        """False: it takes requests and never answers."""
        self.may_grant = threading.Event()
        """Cleared: it waits until it is set, after it has told of progress."""
        self.may_grant.set()
        self.refusal: tuple[Code, str] | None = None
        self.requests: list[lease.AcquireRequest] = []
        self.known: set[str] = set()
        """Leases that can be taken up again."""
        self.asking = 0
        """Streams that are open, granted or not."""
        self._streams: dict[str, queue.SimpleQueue[object]] = {}
        self._changed = threading.Condition()
        self._server: grpc.Server | None = None
        self.start()

    def add(self, component: str, tensors: list[Tensor], *, table: bool = True, prefix: str = "") -> Path:
        """A component whose file has these tensors."""
        path = self.folder / f"{component}.safetensors"
        places = written(path, tensors)
        self._add(component, path, places if table else [], [], prefix)
        return path

    def add_raw(self, component: str, files: dict[str, bytes]) -> Path:
        """A component that is kept as files."""
        path = self.folder / component
        path.mkdir()
        for name, content in files.items():
            (path / name).write_bytes(content)
        self._add(component, path, [], list(files), "")
        return path

    def _add(
        self, name: str, path: Path, tensors: list[lease.TensorPlace], files: list[str], prefix: str
    ) -> None:
        added = lease.LeasedComponent(type=name, tensors=tensors, files=files)
        added.component.component = name
        added.component.segment = f"segments/{name}"
        added.component.path = str(path)
        added.component.prefix = prefix
        self.components.append(added)

    def start(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(16))
        handlers = {
            _methods.ACQUIRE.path: grpc.stream_stream_rpc_method_handler(
                self._acquire, lease.AcquireRequest.FromString, _serialized
            ),
            _methods.GET_STATUS.path: grpc.unary_unary_rpc_method_handler(
                lambda *_: state.GetStatusResponse(), state.GetStatusRequest.FromString, _serialized
            ),
        }
        self._server.add_generic_rpc_handlers([_Handlers(handlers)])
        assert self._server.add_insecure_port(self.endpoint)
        self._server.start()

    def stop(self) -> None:
        """As a crash would: the streams break, the leases stay known."""
        if self._server is not None:
            self._server.stop(None).wait()
            self._server = None

    @property
    def held(self) -> set[str]:
        """Leases whose stream is open."""
        with self._changed:
            return set(self._streams)

    def tell(self, word: object) -> None:
        """To all who hold a lease: a reason to revoke it, or DROP."""
        with self._changed:
            for each in self._streams.values():
                each.put(word)

    def wait(self, until: Callable[[], bool]) -> None:
        """Until something about requests or streams is so."""
        with self._changed:
            assert self._changed.wait_for(until, PATIENCE_SECONDS)

    def _acquire(
        self, requests: Iterator[lease.AcquireRequest], context: grpc.ServicerContext
    ) -> Iterator[lease.AcquireResponse]:
        first = next(requests)
        said: queue.SimpleQueue[object] = queue.SimpleQueue()
        over = threading.Event()
        context.add_callback(over.set)
        context.add_callback(lambda: said.put(DROP))
        threading.Thread(target=_exhaust, args=(requests, said), daemon=True).start()
        with self._changed:
            self.requests.append(first)
            self.asking += 1
            self._changed.notify_all()
        try:
            yield from self._answers(first, said, over, context)
        finally:
            with self._changed:
                self.asking -= 1
                self._changed.notify_all()

    def _answers(
        self,
        first: lease.AcquireRequest,
        said: queue.SimpleQueue[object],
        over: threading.Event,
        context: grpc.ServicerContext,
    ) -> Iterator[lease.AcquireResponse]:
        if first.lease and first.lease not in self.known:
            _abort(context, Code.NOT_FOUND, "LEASE_UNKNOWN")
        if self.refusal is not None:
            _abort(context, *self.refusal)
        for each in self.progress:
            yield lease.AcquireResponse(progress=lease.AcquireProgress(progress=each))
        if not self.grants:
            # As one that hangs: it does not even notice a half-close.
            over.wait()
            return
        assert self.may_grant.wait(PATIENCE_SECONDS)
        name = first.lease or f"leases/{len(self.requests)}"
        with self._changed:
            self.known.add(name)
            self._streams[name] = said
            self._changed.notify_all()
        try:
            yield self._granted(name, first)
            word = said.get()
            if isinstance(word, str):
                yield lease.AcquireResponse(revoked=lease.Revoked(reason=word))
        finally:
            with self._changed:
                del self._streams[name]
                self._changed.notify_all()

    def _granted(self, name: str, request: lease.AcquireRequest) -> lease.AcquireResponse:
        wanted = set(request.components)
        answer = lease.AcquireResponse(request_id=request.request_id)
        answer.granted.lease.name = name
        answer.granted.lease.model = "models/m"
        answer.granted.grace.seconds = self.grace_seconds
        for each in self.components:
            if not wanted or each.component.component in wanted:
                answer.granted.components.append(each)
        return answer


def _exhaust(requests: Iterator[lease.AcquireRequest], said: queue.SimpleQueue[object]) -> None:
    """Notices the half-close."""
    try:
        for _ in requests:
            pass
    except grpc.RpcError:
        pass
    said.put(DROP)


def _abort(context: grpc.ServicerContext, code: Code, reason: str) -> None:
    status = status_pb2.Status(code=code_pb2.Code.Value(code.value), message=reason.lower())
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="hoist.dev"))
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(grpc.StatusCode[code.value], reason.lower())


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, handlers: dict[str, Any]) -> None:
        self._handlers = handlers

    def service(self, details: grpc.HandlerCallDetails) -> Any:  # noqa: ANN401
        return self._handlers.get(details.method)
