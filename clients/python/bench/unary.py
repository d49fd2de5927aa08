"""What one call costs through the client, beside plain grpcio to a server that does nothing.

    hoist-bench --echo echo.sock &
    python bench/unary.py --endpoint unix:///path/hoist.sock --echo unix:echo.sock

`hoist-bench` runs it for the whole table. The two sides take turns, a round each; the empty call carries 200
bytes in each direction.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable

import grpc
from google.protobuf.wrappers_pb2 import StringValue

import hoist

# The empty server answers GetStatus with the first field that it was sent, and a StringValue is one field.
ECHO_METHOD = "/hoist.api.v1.StateService/GetStatus"
ECHO_BYTES = 200


def one_round(call: Callable[[], object], calls: int) -> tuple[float, float]:
    """p50 and p99 in microseconds."""
    took = []
    for _ in range(calls):
        begun = time.perf_counter_ns()
        call()
        took.append((time.perf_counter_ns() - begun) / 1000)
    took.sort()
    return took[math.ceil(calls * 0.5) - 1], took[math.ceil(calls * 0.99) - 1]


def echo_call(target: str) -> Callable[[], object]:
    """An empty call as grpcio makes it without anything around it."""
    channel = grpc.insecure_channel(target, options=[("grpc.default_authority", "localhost")])
    call = channel.unary_unary(
        ECHO_METHOD,
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )
    request = StringValue(value="x" * ECHO_BYTES)
    return lambda: call(request, timeout=10.0)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--endpoint", required=True, help="the Hoist server")
    arguments.add_argument("--echo", required=True, help="the empty server: unix:///path")
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--calls", type=int, default=3_000, help="in each round, on each side")
    arguments.add_argument("--json", action="store_true", help="every round, for hoist-bench")
    given = arguments.parse_args()
    with hoist.connect(given.endpoint) as client:
        sides = {"status": client.status, "echo": echo_call(given.echo)}
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for call in sides.values():
            one_round(call, given.calls)
        for _ in range(given.rounds):
            for name, call in sides.items():
                figures[name].append(one_round(call, given.calls))
    if given.json:
        columns = {name: list(zip(*rounds, strict=True)) for name, rounds in figures.items()}
        print(json.dumps({name: {"p50": p50, "p99": p99} for name, (p50, p99) in columns.items()}))
        return
    for name, rounds in figures.items():
        p50, p99 = (statistics.median(values) for values in zip(*rounds, strict=True))
        print(f"{name:8} p50 {p50:7.1f} us   p99 {p99:7.1f} us")
    ratios = [ours[0] / peer[0] for ours, peer in zip(figures["status"], figures["echo"], strict=True)]
    print(f"ratio of p50 {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
