"""The stream that is a lease, and the thread that stays with it.

Asking runs in the caller's thread; when the lease is granted, a thread takes over. It refers to nothing
that the caller has, so that a lease which nobody refers to ends (`Hold`). Of everything here `release` alone
may be called by a finalizer, which runs in any thread at any time: it waits for no lock, which is why
requests are in a SimpleQueue.

After a fork the child shares the connection with its parent and must not write to it: all of this does
nothing in another process than the one that made it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from hoist import _methods
from hoist._enums import Code
from hoist._errors import Error, TimedOut, closed
from hoist._lease import LeaseState
from hoist._proto.v1 import lease_service_pb2 as lease
from hoist._types import Progress

# Closing waits this long for the server's word that the lease is gone, so that what comes next finds it gone.
# One round trip, as a rule; the bound is for a server that hangs.
GOODBYE_SECONDS = 2.0
# The server keeps the deadline. This much later the client gives up on a server that does not.
LATE_SECONDS = 1.0

_LOG = logging.getLogger("hoist")

Failed = Callable[[grpc.RpcError, str | None], Error]


class LeaseStream:
    """One lease on the wire: `acquire` it, then `close` or `release` it."""

    def __init__(self, channel: grpc.Channel, error: Failed, state: LeaseState) -> None:
        self._open = channel.stream_stream(
            _methods.ACQUIRE.path,
            request_serializer=_methods.ACQUIRE.request.SerializeToString,
            response_deserializer=_methods.ACQUIRE.response.FromString,
        )
        self._error = error
        self.state = state
        self._pid = os.getpid()
        self._call: Any = None
        # What the stream sends; None half-closes it, which ends the lease.
        self._requests: queue.SimpleQueue[lease.AcquireRequest | None] = queue.SimpleQueue()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.closed = False
        self._limit = math.inf
        self._late = False

    @property
    def is_open(self) -> bool:
        """Whether it takes a place on its connection, or will again."""
        return not self.closed and not self.state.over

    def acquire(self, on_progress: Callable[[Progress], object] | None, limit: float | None) -> lease.Granted:
        """Returns once the lease is granted, raises why it is not."""
        try:
            with self._within(limit):
                while (granted := self.state.granted) is None:
                    self._start()
                    if (lost := self._read(on_progress)) is not None:
                        self._pause(self._judge(lost))
            # What came beside the grant has ended it, or will: it must not be had.
            self._go_on()
        except BaseException:
            self.release()
            raise
        self._thread = threading.Thread(target=self._follow, name="hoist-lease", daemon=True)
        self._thread.start()
        return granted

    def release(self) -> None:
        """Ends the lease, without waiting for the server's word."""
        self.closed = True
        if os.getpid() != self._pid:
            return
        self._wake.put(None)
        self._requests.put(None)
        if self.state.granted is None and self._call is not None:
            # Nothing is half-done by this: an answer may be long in coming.
            self._call.cancel()

    def close(self) -> None:
        """Ends the lease. When it returns the server has let go of it, unless the server hangs."""
        self.release()
        self.join(time.monotonic() + GOODBYE_SECONDS)

    def join(self, end: float) -> None:
        """Waits for the end of what `release` ended; at the latest until `end` by the monotonic clock."""
        # In a child of a fork the thread has ended.
        if self._thread is None or self._thread is threading.current_thread():
            return
        self._thread.join(max(0.0, end - time.monotonic()))
        if self._thread.is_alive():
            self._call.cancel()

    @contextlib.contextmanager
    def _within(self, limit: float | None) -> Iterator[None]:
        """Ends the stream when time is over; what follows knows for certain whether it was."""
        if limit is None:
            yield
            return
        self._limit = limit
        timer = threading.Timer(limit + LATE_SECONDS, self._expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def _go_on(self) -> None:
        """Raises if nobody waits any more."""
        if self._late:
            text = f"not granted after {self._limit:g} s, and the server does not answer"
            raise TimedOut(text, code=Code.DEADLINE_EXCEEDED, request_id=self.state.request_id)
        if self.closed:
            raise closed()

    def _start(self) -> None:
        self._go_on()
        self._requests = queue.SimpleQueue()
        self._requests.put(self.state.request())
        try:
            self._call = self._open(iter(self._requests.get, None))
        except ValueError:
            # How grpc refuses a channel that another thread has closed since.
            raise closed() from None
        if self.closed or self._late:
            # `release` or `_expire` ran before there was a stream to end.
            self._requests.put(None)
            self._call.cancel()

    def _next(self) -> lease.AcquireResponse | Error:
        """One message, or why there is none."""
        try:
            answer: lease.AcquireResponse = next(self._call)
            return answer
        except StopIteration:
            return Error("the stream ended without a reason", code=Code.UNAVAILABLE)
        except grpc.RpcError as failure:
            return self._error(failure, self.state.request_id)

    def _read(self, on_progress: Callable[[Progress], object] | None) -> Error | None:
        """Reads until the lease is granted, or up to the end of the stream."""
        for answer in self._answers():
            progress = self.state.feed(answer)
            if self.state.granted is not None:
                return None
            if progress is not None and on_progress is not None:
                on_progress(progress)
        return self._end

    def _answers(self) -> Iterator[lease.AcquireResponse]:
        while not isinstance(answer := self._next(), Error):
            yield answer
        self._end = answer
        # Ends the thread in which grpc waits for requests.
        self._requests.put(None)

    def _judge(self, lost: Error) -> float:
        """Seconds until the next try. Raises if there is none."""
        self._go_on()
        delay = self.state.ended(lost)
        assert delay is not None, "before it was granted an end is raised"
        return delay

    def _expire(self) -> None:
        self._late = True
        self._wake.put(None)
        if (call := self._call) is not None:
            call.cancel()

    def _pause(self, seconds: float) -> None:
        """Waits, but not beyond `release` or `_expire`."""
        with contextlib.suppress(queue.Empty):
            self._wake.get(timeout=seconds)

    def _follow(self) -> None:
        """What the thread does: hears of the end, and takes the lease up again while that may succeed."""
        try:
            while True:
                for answer in self._answers():
                    self.state.feed(answer)
                if self.closed or (delay := self.state.ended(self._end)) is None:
                    break
                self._pause(delay)
                if self.closed:
                    break
                self._start()
        except Exception as error:
            # Whatever it was: a lease that nobody watches must not look held.
            self.state.fail(error)
        finally:
            self._requests.put(None)
        self._tell()

    def _tell(self) -> None:
        granted, state = self.state.granted, self.state
        if self.closed or granted is None or not state.over:
            return
        why = f"revoked: {state.revoked}" if state.revoked is not None else f"lost: {state.lost}"
        _LOG.warning("%s on %s is %s", granted.lease.name, granted.lease.model, why)


class Hold:
    """A lease that somebody uses. It ends when it is closed, and when nobody refers to it any more."""

    def __init__(self, stream: LeaseStream) -> None:
        self._stream = stream
        self._finalizer = weakref.finalize(self, stream.release)

    @property
    def state(self) -> LeaseState:
        return self._stream.state

    @property
    def closed(self) -> bool:
        """By its user, or with the client that made it."""
        return self._stream.closed

    @property
    def held(self) -> bool:
        return self.state.held and not self.closed

    def close(self) -> None:
        self._finalizer.detach()
        self._stream.close()
