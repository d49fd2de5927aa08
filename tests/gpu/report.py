"""What steps tell, and how people and programs read it: rows, one table, one JSON file, the exit code."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TextIO


class Verdict(str, Enum):
    """How a row ended."""

    OK = "ok"
    FACT = "fact"
    MISSED = "missed"
    FAILED = "failed"
    UNTESTED = "not tested"


@dataclass(frozen=True)
class Row:
    """One result of a step."""

    step: str
    result: str
    figure: str
    target: str
    verdict: Verdict
    numbers: dict[str, Any] = field(default_factory=dict)


class Told:
    """Where the process of a step writes its rows, each as soon as it is known."""

    def __init__(self, step: str, sink: TextIO) -> None:
        self._step = step
        self._sink = sink
        self.now = "its begin"

    def _write(self, what: dict[str, Any]) -> None:
        self._sink.write(json.dumps(what) + "\n")
        self._sink.flush()

    def _row(self, result: str, figure: str, target: str, verdict: Verdict, numbers: dict[str, Any]) -> None:
        self._write({"row": asdict(Row(self._step, result, figure, target, verdict, numbers))})

    def doing(self, what: str) -> None:
        """Said when the step does not end, or not well."""
        self.now = what
        self._write({"doing": what})

    def fact(self, result: str, figure: str, **numbers: Any) -> None:  # noqa: ANN401
        self._row(result, figure, "", Verdict.FACT, numbers)

    def untested(self, result: str, why: str) -> None:
        self._row(result, why, "", Verdict.UNTESTED, {})

    def holds(self, result: str, is_so: bool, figure: str, target: str = "", **numbers: Any) -> bool:  # noqa: ANN401
        """What must be so."""
        self._row(result, figure, target, Verdict.OK if is_so else Verdict.FAILED, numbers)
        return is_so

    def reaches(self, result: str, is_so: bool, figure: str, target: str, **numbers: Any) -> None:  # noqa: ANN401
        """What is to be so fast."""
        self._row(result, figure, target, Verdict.OK if is_so else Verdict.MISSED, numbers)


def read(path: Path) -> tuple[list[Row], str]:
    """What a step has told, and what it was doing last."""
    rows, doing = [], ""
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            said = json.loads(line)
        except ValueError:
            # It was killed while it wrote.
            continue
        if "row" in said:
            rows.append(Row(**{**said["row"], "verdict": Verdict(said["row"]["verdict"])}))
        doing = said.get("doing", doing)
    return rows, doing


def exit_code(rows: Iterable[Row]) -> int:
    verdicts = {row.verdict for row in rows}
    if Verdict.FAILED in verdicts:
        return 1
    return 3 if Verdict.MISSED in verdicts else 0


# What does not fit into a column is cut in the table; the JSON has all of it.
_WIDEST = {"step": 8, "result": 44, "figure": 92, "target": 24}


def _cut(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def table(rows: list[Row]) -> str:
    """One line a row; what failed stands below in full."""
    heads = [*_WIDEST, "verdict"]
    cells = [
        [_cut(getattr(row, head), _WIDEST[head]) for head in _WIDEST] + [row.verdict.value] for row in rows
    ]
    widths = [max(len(line[at]) for line in [heads, *cells]) for at in range(len(heads))]
    lines = [heads, ["-" * width for width in widths], *cells]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    failed = [row for row in rows if row.verdict is Verdict.FAILED]
    if failed:
        text += ["", "FAILED:", *(f"- {row.step}: {row.result}: {row.figure}" for row in failed)]
    missed = [row for row in rows if row.verdict is Verdict.MISSED]
    if missed:
        text += [
            "",
            "MISSED:",
            *(f"- {row.step}: {row.result}: {row.figure} (target: {row.target})" for row in missed),
        ]
    untested = [row for row in rows if row.verdict is Verdict.UNTESTED]
    if untested:
        text += ["", "NOT TESTED:", *(f"- {row.step}: {row.result}: {row.figure}" for row in untested)]
    return "\n".join(text)


def counted(rows: list[Row]) -> str:
    """How many of each."""
    return ", ".join(f"{sum(row.verdict is each for row in rows)} {each.value}" for each in Verdict)


def as_json(facts: dict[str, Any], rows: list[Row]) -> str:
    return json.dumps({"facts": facts, "rows": [asdict(row) for row in rows]}, indent=1) + "\n"
