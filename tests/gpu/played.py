"""The coordinator that a worker dials, played: it may ask for bytes, and for what a planner would refuse."""

from __future__ import annotations

import contextlib
import functools
import importlib
import queue
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from processes import LOOK_SECONDS, Late, Started, state
from server import WorkerOptions, worker_device, worker_environment, worker_words
from settings import MIB, Settings

# Made by scripts/gpu-bundle of proto/hoist/worker/v1.
wire: Any = importlib.import_module("worker_service_pb2")

SESSION = "hoist.worker.v1.WorkerService"
# As workers count starts of coordinators.
EPOCH = 1
# Neither side takes the other for dead while something large is compared.
SILENCE_SECONDS = 3_600
# A worker answers so many reads at once and more; one at a time would measure the way there and back.
READS_AT_ONCE = 8
PIECE = MIB
REGISTER_SECONDS = 60.0
STEP_SECONDS = 40.0


@dataclass(frozen=True)
class Wanted:
    """A segment that is to be on the device."""

    digest: str
    path: str
    dtype: str = ""


class Played:
    """A worker, and its coordinator."""

    def __init__(self, settings: Settings, folder: Path, name: str, options: WorkerOptions) -> None:
        self._changed = threading.Condition()
        self._says: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers: dict[str, Any] = {}
        self._taken = 0
        self._over = ""
        self.register: Any = None
        self.there: dict[str, Any] = {}
        self.removed: dict[str, Any] = {}
        self.memory: Any = None
        socket = Path(tempfile.mkdtemp(prefix="p-", dir=settings.memory)) / "hoist.sock"
        self._server = self._serve(socket)
        words = [*worker_words(settings, options), "--device", worker_device(settings, options)]
        words += ["--coordinator", f"unix://{socket}", "--alone-limit", "5"]
        self.process = Started(name, words, folder, worker_environment(settings, options))
        self._until("its registration", lambda: self.register is not None, REGISTER_SECONDS)
        # All that it has, once it has heard that it is taken.
        self._until("its first word", lambda: self.memory is not None, REGISTER_SECONDS)

    def _serve(self, socket: Path) -> grpc.Server:
        method = grpc.stream_stream_rpc_method_handler(
            self._session,
            request_deserializer=wire.SessionRequest.FromString,
            response_serializer=wire.SessionResponse.SerializeToString,
        )
        server = grpc.server(ThreadPoolExecutor(4))
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SESSION, {"Session": method})])
        server.add_insecure_port(f"unix:{socket}")
        server.start()
        return server

    def _session(self, says: Iterator[Any], _: grpc.ServicerContext) -> Iterator[Any]:
        threading.Thread(target=self._listen, args=(says,), daemon=True).start()
        while (message := self._says.get()) is not None:
            yield message

    def _listen(self, says: Iterator[Any]) -> None:
        why = "the session is over"
        try:
            for said in says:
                with self._changed:
                    self._hear(said)
                    self._changed.notify_all()
        except Exception as error:
            why = f"the session has broken off: {error!r}"
        with self._changed:
            self._over = why
            self._changed.notify_all()
        self._says.put(None)

    def _hear(self, said: Any) -> None:  # noqa: ANN401
        match said.WhichOneof("message"):
            case "register":
                self.register = said.register
                self._say(registered=self._registered(said.register.version))
            case "observed":
                for gone in said.observed.removed:
                    self.there.pop(gone.replica, None)
                    self.removed[gone.replica] = gone
                self.there |= {one.replica: one for one in said.observed.replicas}
                self.memory = said.observed.memory
                self._say(ack=wire.Ack(observed=said.observed.sequence))
            case "response":
                self._answers[said.response.request_id] = said.response

    def _registered(self, version: Any) -> Any:  # noqa: ANN401
        taken = wire.Registered(version=version, epoch=EPOCH)
        taken.heartbeat_interval.FromSeconds(1)
        taken.progress_interval.FromSeconds(1)
        taken.silence_limit.FromSeconds(SILENCE_SECONDS)
        return taken

    def _say(self, **message: Any) -> None:  # noqa: ANN401
        self._says.put(wire.SessionResponse(**message))

    def _until(self, what: str, holds: Callable[[], object], seconds: float) -> None:
        end = time.monotonic() + seconds
        with self._changed:
            while not holds():
                self.process.must_run(what)
                left = end - time.monotonic()
                if self._over or left <= 0:
                    why = self._over or f"not within {seconds:.0f} s"
                    raise Late(f"{what}: {why}; its process {state(self.process.pid)}")
                # Its end is told by nothing that notifies.
                self._changed.wait(min(left, LOOK_SECONDS))

    # ---- what a step asks ---------------------------------------------------------------------------------

    def want(self, wanted: list[Wanted], seconds: float = STEP_SECONDS) -> list[Any]:
        """Tells the worker to have these and nothing else; what became of each: ACTIVE, or FAILED."""
        self._taken += 1
        replicas = [
            wire.DesiredReplica(
                replica=str(uuid.uuid4()), digest=one.digest, path=one.path, sealed=True, dtype=one.dtype
            )
            for one in wanted
        ]
        handles = [one.replica for one in replicas]
        generation = wire.Generation(epoch=EPOCH, number=self._taken)
        self._say(desired=wire.Desired(generation=generation, replicas=replicas))
        ends = (wire.REPLICA_STATE_ACTIVE, wire.REPLICA_STATE_FAILED)

        def is_settled() -> bool:
            return self.there.keys() == set(handles) and all(one.state in ends for one in self.there.values())

        self._until(f"{len(wanted)} segments on the device, or not", is_settled, seconds)
        return [self.there[handle] for handle in handles]

    def has(self, wanted: list[Wanted], seconds: float = STEP_SECONDS) -> list[Any]:
        """The same, where nothing may fail."""
        there = self.want(wanted, seconds)
        for one in there:
            if one.state != wire.REPLICA_STATE_ACTIVE:
                raise RuntimeError(f"not loaded: {one.failure}")
        return there

    def pieces(
        self, replica: str, tensor: str, size: int, seconds: float = STEP_SECONDS
    ) -> Iterator[tuple[int, Any]]:
        """A tensor as it is on the device, piece by piece: where each begins, and the worker's answer."""
        offsets = iter(range(0, max(size, 1), PIECE))
        asked: deque[tuple[int, str]] = deque()
        while True:
            while len(asked) < READS_AT_ONCE and (offset := next(offsets, None)) is not None:
                read = wire.ReadTensor(replica=replica, tensor=tensor, offset=offset, length=PIECE)
                request = wire.Request(request_id=str(uuid.uuid4()), read_tensor=read)
                self._say(request=request)
                asked.append((offset, request.request_id))
            if not asked:
                return
            offset, request_id = asked.popleft()
            self._until(
                f"bytes of `{tensor}`", functools.partial(self._answers.__contains__, request_id), seconds
            )
            answer = self._answers.pop(request_id)
            if answer.WhichOneof("answer") != "tensor":
                raise RuntimeError(f"`{tensor}` at {offset}: {answer.error}")
            yield offset, answer.tensor

    def close(self) -> None:
        self._says.put(None)
        self.process.close()
        self._server.stop(None)


@contextlib.contextmanager
def playing(settings: Settings, folder: Path, name: str, options: WorkerOptions) -> Iterator[Played]:
    """A worker of its own, for as long as a step needs it."""
    played = Played(settings, folder, name, options)
    try:
        yield played
    finally:
        played.close()
