"""A real server for the tests that need one."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

import hoist
from hoist import _cuda_driver

from .fake_lessor import FakeLessor
from .fake_worker import Standin

# Far above what anything here takes; it only ends a test that hangs.
PATIENCE_SECONDS = 60.0

E = TypeVar("E")


class Server:
    """One `hoist serve` with directories of its own, which restarts keep."""

    def __init__(self, binary: str, state: Path, runtime: Path, models: Path) -> None:
        self._state = state
        self.models = models
        self._binary = binary
        self._runtime = runtime
        self._log = state / "stderr"
        # A device that it starts a worker for.
        self.worker = ""
        self._process: subprocess.Popen[bytes] | None = None
        self.tcp = ""

    @property
    def endpoint(self) -> str:
        return f"unix://{self._runtime}/hoist.sock"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server was not started"
        return self._process

    def start(self) -> None:
        """Returns once the server says that it is ready."""
        command: list[str | Path] = [
            self._binary,
            "serve",
            "--state-dir",
            self._state,
            "--runtime-dir",
            self._runtime,
        ]
        command += ["--models", self.models]
        if self.worker:
            command += ["--worker", self.worker]
        command += ["--socket", self._runtime / "hoist.sock", "--listen", "127.0.0.1:0"]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HOIST_")}
        # What is read only when it is asked for is the same in each run.
        clean["HOIST_CATALOG_DIGEST"] = "false"
        clean["HOIST_WORKERS_START"] = "true" if self.worker else "false"
        clean["HOIST_WORKERS_ALONE_LIMIT"] = "5s"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=clean)
        line = self._first_line()
        ready = re.fullmatch(r"ready socket=(\S+) listen=(\S+)\n", line)
        assert ready is not None, f"not a ready line: {line!r}; stderr:\n{self._log.read_text()}"
        assert ready[1] == f"{self._runtime}/hoist.sock"
        self.tcp = f"http://{ready[2]}"

    def kill(self) -> None:
        """As a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()

    def wait(self) -> int:
        """The exit status, once it has ended by itself."""
        return self.process.wait(PATIENCE_SECONDS)

    def _first_line(self) -> str:
        assert self.process.stdout is not None
        descriptor, line = self.process.stdout.fileno(), b""
        end = time.monotonic() + PATIENCE_SECONDS
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
            piece = os.read(descriptor, 4096) if readable else b""
            if not piece:
                break
            line += piece
        return line.decode()


@pytest.fixture
def server(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without workers."""
    with serving(tmp_path, tmp_path_factory) as running:
        running.start()
        yield running


@pytest.fixture
def worked(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a worker for a part of the machine's memory."""
    with serving(tmp_path, tmp_path_factory) as running:
        running.worker = "cpu:0=1GiB"
        running.start()
        yield running


@contextlib.contextmanager
def serving(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that is not started."""
    binary = os.environ.get("HOIST_BINARY")
    if not binary:
        pytest.fail("HOIST_BINARY is unset: set it to the path of a built `hoist`", pytrace=False)
    # A socket's path is limited to 107 bytes, which pytest's own directories may exceed.
    runtime = Path(tempfile.mkdtemp(prefix="hoist-test-", dir="/dev/shm"))
    running = Server(os.path.abspath(binary), tmp_path, runtime, tmp_path_factory.mktemp("models"))
    try:
        yield running
    finally:
        running.kill()
        shutil.rmtree(runtime)


@pytest.fixture
def client(server: Server) -> Iterator[hoist.Client]:
    with hoist.connect(server.endpoint) as connected:
        yield connected


class Relay:
    """Passes bytes between a socket of its own and the server's, until the connections are cut."""

    def __init__(self, endpoint: str, folder: Path) -> None:
        self._server = endpoint.removeprefix("unix://")
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "relay.sock"))
        self._listener.listen()
        self.endpoint = f"unix://{folder}/relay.sock"
        self._run(self._accept)

    def cut(self) -> None:
        """Ends every connection; new ones are accepted."""
        ended, self._open = self._open, []
        for each in ended:
            # Wakes the thread that reads it, which then closes it; it may have done so already.
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads.pop(0).join()
        self._listener.close()
        self.cut()
        for each in self._threads:
            each.join()

    def _run(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._server)
            self._open += [near, far]
            self._run(self._pass, near, far)
            self._run(self._pass, far, near)

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        with source, contextlib.suppress(OSError):
            while piece := source.recv(65536):
                target.sendall(piece)
            target.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def lessor() -> Iterator[FakeLessor]:
    folder = Path(tempfile.mkdtemp(prefix="hoist-fake-", dir="/dev/shm"))
    running = FakeLessor(folder)
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    """One with a short name: a socket's path is limited to 107 bytes, which pytest's own may exceed."""
    made = Path(tempfile.mkdtemp(prefix="hoist-fake-", dir="/dev/shm"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The stand-in for NVIDIA's driver, built."""
    root = Path(__file__).parents[3]
    source = root / "gpu-worker" / "tests" / "driver" / "driver.c"
    headers = root / ".libtorch" / "include-cuda"
    built = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    if not shutil.which("gcc"):
        pytest.skip("there is no gcc to build the stand-in for NVIDIA's driver with")
    if not (headers / "cuda.h").exists():
        pytest.skip(f"there is no cuda.h in {headers}: `make libtorch` fetches it")
    command = ["gcc", "-std=gnu11", "-O1", "-g", "-shared", "-fPIC", "-pthread", "-I", str(headers)]
    subprocess.run([*command, str(source), "-o", str(built)], check=True)
    return str(built)


@pytest.fixture
def standin(library: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Standin]:
    """It is what the client takes for the driver, with nothing begun. Afterwards nothing is left."""
    made = Standin(library)
    made.reset()
    monkeypatch.setattr(_cuda_driver, "LIBRARY", library)
    monkeypatch.setattr(_cuda_driver, "_OPEN", {})
    yield made
    gc.collect()
    left, said = made.counted(), made.library.hoist_standin_last_violation()
    contextless = made.library.hoist_standin_contextless_calls()
    made.reset()
    assert (left, contextless) == (dict.fromkeys(left, 0), 0), said


@pytest.fixture
def relay(server: Server) -> Iterator[Relay]:
    folder = Path(tempfile.mkdtemp(prefix="hoist-relay-", dir="/dev/shm"))
    running = Relay(server.endpoint, folder)
    try:
        yield running
    finally:
        running.close()
        shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def patience(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that hangs fails, instead of the whole run standing still."""
    if request.node.get_closest_marker("integration") is None and "lessor" not in request.fixturenames:
        yield
        return

    def expire(*_: object) -> None:
        raise TimeoutError(f"the test has not ended after {PATIENCE_SECONDS:g} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
