"""A pipeline for benchmarks only: next to nothing, or a real one inside, with the stages of its worker clocked.

`end_to_end.py` puts this folder beside the product's pipelines for the node that it starts, and for no other.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from inference.errors import SettingsInvalid
from inference.pipeline import Card, Outcome, Pipeline, build_pipeline
from inference.volume import Unit, Volume

CLOCK_FILE = "DICOMNODE_BENCH_CLOCK"
"""Environment variable: where each job's figures go, one JSON line a job."""
STAGES = {
    "headers": "dicomnode.produce:planned_stacks",
    "load": "dicomnode.produce:load_stack",
    "pipeline": "dicomnode.produce:run_pipeline",
    "derive": "dicomnode.derive:_instance",
    "gate": "dicomnode.gate.output_gate:InstanceGate.check",
    "keep": "storage.instance_files:InstanceFiles.keep_derived",
    "passport": "dicomnode.work:_with_passports",
    "ledger": "dicomnode.work:_finish",
}
"""Stage -> the function that does it. `gate` lies within `derive`; `keep` runs in threads beside it."""
_spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
_clocked: list[bool] = []


def build(settings: Mapping[str, Any]) -> Pipeline:
    """The pipeline named by the setting `of`; without one the source as it is."""
    if set(settings) - {"of"}:
        raise SettingsInvalid("of", "there is one setting: of")
    if "work" in sys.argv and CLOCK_FILE in os.environ and not _clocked:
        _clocked.append(True)
        _clock_stages()
    inner = str(settings.get("of", ""))
    return Inside(build_pipeline(inner, {})) if inner else Nothing()


class Nothing:
    """Gives the source."""

    card = Card(
        name="clocked",
        version="1.0.0",
        ordinal=98,
        label="clocked",
        purpose="Nothing is changed.",
        token="CLOCKED",
        modality="CT",
        takes=frozenset({Unit.HU}),
        makes=Unit.HU,
        method="none",
        intended_use="Benchmarks of the node.",
    )

    def run(self, source: Volume) -> Outcome:
        """The source as it is."""
        return Outcome(source)


class Inside:
    """Runs another pipeline under this one's name."""

    def __init__(self, inner: Pipeline) -> None:
        self._inner = inner
        self.card = replace(inner.card, name="clocked", settings={"of": inner.card.name})

    def run(self, source: Volume) -> Outcome:
        """What the other makes of it."""
        return self._inner.run(source)


def _clock_stages() -> None:
    for stage, place in STAGES.items():
        _replace(place, functools.partial(_clocked_call, stage))
    _replace("dicomnode.work:do_job", _clocked_job)


def _replace(place: str, clock: Callable[..., Any]) -> None:
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *classes, name = path.split(".")
    for one in classes:
        owner = getattr(owner, one)
    function = getattr(owner, name)

    @functools.wraps(function)
    def timed(*arguments: Any, **named: Any) -> Any:
        return clock(function, *arguments, **named)

    setattr(owner, name, timed)


def _clocked_call(stage: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    wall, cpu = time.perf_counter(), time.thread_time()
    try:
        return function(*arguments, **named)
    finally:
        spent = _spent[stage]
        spent[0] += time.perf_counter() - wall
        spent[1] += time.thread_time() - cpu


def _clocked_job(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """The whole job, with the CPU of all its threads."""
    _spent.clear()
    began, wall, cpu = time.time(), time.perf_counter(), time.process_time()
    try:
        return function(*arguments, **named)
    finally:
        whole = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        stages = {name: {"wall_s": spent[0], "cpu_s": spent[1]} for name, spent in _spent.items()}
        with Path(os.environ[CLOCK_FILE]).open("a", encoding="ascii") as file:
            file.write(json.dumps({"began": began, "ended": time.time(), "job": whole, "stages": stages}) + "\n")
