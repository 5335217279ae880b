"""From the last C-STORE of a CT series to the first derived one at the PACS, and what the node itself spends a slice.

    .venv/bin/python benchmarks/end_to_end.py --rounds 5
    .venv/bin/python benchmarks/end_to_end.py --rounds 3 --pipeline ct_metal_artifact_reduction --quiet-close

Each round starts `dicomnode run` anew, with its data in a folder of its own; DCMTK's storescu sends a 512x512 CT and
DCMTK's storescp is the PACS. The series says how many images it has (ImagesInAcquisition), so that it is whole by
evidence; with --quiet-close it does not, and is whole after quiet_seconds of silence. Without --pipeline the pipeline
gives its source back: what is left is the node's own. All figures are medians of the rounds; `overhead` is the job but
for its pipeline. Stages are clocked inside the worker (see pipelines/clocked.py): `gate` lies within `derive`, and
`keep` runs in threads beside it, so that the stages add up to more than the job. The series begins to be sent when the
job is derived as a whole: the gate's last rules are of the series.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from pydicom import dcmread
from rich.console import Console
from rich.progress import Progress, TaskID

from storage.instance_files import InstanceFiles
from tests.builders_dicom import write_ct_series
from tests.peers import RunningNode, free_port, storescp, storescu

PIPELINES = Path(__file__).parent / "pipelines"
RULE = """
[[rules]]
name = "every CT"
when = 'Modality == "CT"'
run = "clocked"
send_to = ["pacs"]
"""
MOMENTS = ("series closed", "job began", "derived", "first at the PACS", "last at the PACS")
STAGES = ("headers", "load", "pipeline", "derive", "gate", "keep", "passport", "ledger")
TICKS = os.sysconf("SC_CLK_TCK")
Figures = dict[str, float]


def phantom(slices: int, size: int, *, metal_slices: int) -> np.ndarray:
    """HU (slices, rows, columns) int16: an ellipse with two bones and noise; metal with streaks in some slices."""
    j, i = np.mgrid[0:size, 0:size]
    y, x = (j - size / 2) / size, (i - size / 2) / size
    clean = np.full((size, size), -1000, np.float32)
    clean[(x / 0.42) ** 2 + (y / 0.30) ** 2 < 1] = 40
    for side in (-0.2, 0.2):
        clean[((x - side) / 0.07) ** 2 + (y / 0.09) ** 2 < 1] = 700
    streaked = _streaked(clean, x, y) if metal_slices else clean
    rng = np.random.default_rng(1)
    stack = np.empty((slices, size, size), np.int16)
    first = (slices - metal_slices) // 2
    for k in range(slices):
        base = streaked if first <= k < first + metal_slices else clean
        stack[k] = np.clip(base + rng.normal(0, 10, base.shape), -1024, 3071)
    return stack


def _streaked(clean: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    from inference.physics.ct_simulation import simulate_metal_ct

    metal = np.zeros((1, *clean.shape), bool)
    for side in (-0.2, 0.2):
        metal[0] |= ((x - side) / 0.03) ** 2 + (y / 0.03) ** 2 < 1
    return simulate_metal_ct(clean[None], metal, metal="cobalt_chromium", spacing_mm=0.8, seed=1)[0]


@contextmanager
def beside_the_pipelines(folder: Path) -> Iterator[Path]:
    """Python processes started now know the pipeline `clocked`; given is the file that its figures go to."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        f"import inference.pipelines\ninference.pipelines.__path__.append({str(PIPELINES)!r})\n", encoding="utf-8"
    )
    before, clock = dict(os.environ), folder / "clock.jsonl"
    paths = [str(folder), str(Path(__file__).parents[1]), *filter(None, [before.get("PYTHONPATH")])]
    os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "DICOMNODE_BENCH_CLOCK": str(clock)}
    try:
        yield clock
    finally:
        os.environ.clear()
        os.environ |= before


def cpu_seconds(process_id: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def one_round(folder: Path, files: Sequence[Path], *, pipeline: str, patience_s: float) -> Figures:
    """A node started, a series sent, what came of it."""
    received = folder / "pacs"
    received.mkdir(parents=True)
    port = free_port()
    settings = f'[pipelines.clocked]\nof = "{pipeline}"\n' if pipeline else ""
    node = RunningNode(folder / "node", port, rules=RULE, more=settings, quiet_seconds=2.0)
    with beside_the_pipelines(folder / "beside") as clock, storescp(port, "-od", str(received), "+xa"):
        node.start()
        try:
            before = {role: cpu_seconds(process_id) for role, process_id in node.processes().items()}
            assert storescu(node.port, files).returncode == 0
            job = node.wait_for_jobs({"delivered"}, count=1, seconds=patience_s)[0]
            cpu = {role: cpu_seconds(number) - before.get(role, 0.0) for role, number in node.processes().items()}
            rows = {row["event"]: datetime.fromisoformat(row["at"]).timestamp() for row in node.audit()}
        finally:
            node.stop()
        clocked = json.loads(clock.read_text(encoding="ascii").splitlines()[0])
    derived = [path.stat().st_mtime for path in received.iterdir()]
    assert len(derived) == len(files), f"{len(derived)} derived instances came for {len(files)} sources"
    assert job["derived_series_instance_uid"] == str(dcmread(next(received.iterdir())).SeriesInstanceUID)
    return figures(last_stored(folder / "node" / "var", files), rows, clocked, derived, cpu, len(files))


def last_stored(data: Path, files: Sequence[Path]) -> float:
    """When the last source instance was written, a few ms before its sender heard success."""
    kept = InstanceFiles(data)
    uids = [str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for path in files]
    return max(kept.path_of(uid).stat().st_mtime for uid in uids)


def figures(
    last: float,
    rows: Mapping[str, float],
    clocked: Mapping[str, dict[str, dict[str, float]]],
    derived: Sequence[float],
    cpu: Mapping[str, float],
    slices: int,
) -> Figures:
    """Seconds after the last C-STORE, and milliseconds a slice."""
    moments = (rows["series closed"], float(clocked["began"]), rows["derived"], min(derived), max(derived))  # type: ignore[arg-type]
    found = {f"{name}, s": moment - last for name, moment in zip(MOMENTS, moments, strict=True)}
    job, stages = clocked["job"], clocked["stages"]
    pipeline = stages["pipeline"]
    found["pipeline, s"] = pipeline["wall_s"]
    found["first at the PACS without the pipeline, s"] = found["first at the PACS, s"] - pipeline["wall_s"]
    for kind in ("wall", "cpu"):
        found[f"overhead {kind}, ms a slice"] = 1e3 * (job[f"{kind}_s"] - pipeline[f"{kind}_s"]) / slices
        for stage in STAGES:
            spent = stages.get(stage, {"wall_s": 0.0, "cpu_s": 0.0})
            found[f"{stage} {kind}, ms a slice"] = 1e3 * spent[f"{kind}_s"] / slices
    for role, seconds in cpu.items():
        found[f"process {role} cpu, ms a slice"] = 1e3 * seconds / slices
    return found


def as_markdown(found: Sequence[Figures], *, heading: str) -> str:
    """The medians of the rounds as tables."""
    names = [name for name in found[0] if all(name in one for one in found)]
    median = {name: statistics.median(one[name] for one in found) for name in names}
    lines = [heading, "", "| after the last C-STORE | s |", "| --- | --- |"]
    lines += [f"| {name} | {median[f'{name}, s']:.2f} |" for name in MOMENTS]
    lines += [f"| the pipeline alone | {median['pipeline, s']:.2f} |"]
    lines += [
        f"| **first at the PACS, without the pipeline** (aim 1.5) | "
        f"**{median['first at the PACS without the pipeline, s']:.2f}** |"
    ]
    lines += ["", "| ms a slice | wall | CPU |", "| --- | --- | --- |"]
    for stage in (*STAGES, "overhead"):
        wall, cpu = (median[f"{stage} {kind}, ms a slice"] for kind in ("wall", "cpu"))
        lines.append(
            f"| **{stage}** (aim 10) | **{wall:.2f}** | **{cpu:.2f}** |"
            if stage == "overhead"
            else f"| {stage} | {wall:.2f} | {cpu:.2f} |"
        )
    lines += [
        f"| process {name.split()[1]}, whole run | | {median[name]:.2f} |"
        for name in names
        if name.startswith("process ")
    ]
    return "\n".join(lines)


def main() -> None:
    """Prints the tables; with --json also all figures of all rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how many nodes are started one after another")
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=512, help="rows and columns")
    parser.add_argument("--pipeline", default="", help="a real pipeline to run; without it the source is given back")
    parser.add_argument("--metal-slices", type=int, default=100, help="slices with metal, when a pipeline runs")
    parser.add_argument("--quiet-close", action="store_true", help="the series does not say how many images it has")
    parser.add_argument("--patience", type=float, default=3600.0, help="seconds that a round may take")
    parser.add_argument("--json", type=Path, help="a file for the figures of every round")
    options = parser.parse_args()
    console = Console(stderr=True)
    found: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="end-to-end-") as name, Progress(console=console) as progress:
        task = progress.add_task("making the series", total=options.rounds)
        files = make_series(Path(name) / "source", options)
        for number in range(options.rounds):
            found.append(measured(Path(name) / str(number), files, options, progress, task))
    closing = "quiet_seconds = 2" if options.quiet_close else "whole by evidence"
    heading = (
        f"{options.slices} slices of {options.size}x{options.size}, {options.pipeline or 'no pipeline to speak of'}, "
        f"{closing}, median of {options.rounds}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"{platform.system()}, {datetime.now(UTC):%Y-%m-%d}"
    )
    print(as_markdown(found, heading=heading))
    if options.json:
        options.json.write_text(json.dumps({"heading": heading, "rounds": found}, indent=2), encoding="utf-8")


def make_series(folder: Path, options: argparse.Namespace) -> list[Path]:
    """The CT that is sent in every round."""
    metal_slices = min(options.metal_slices, options.slices) if options.pipeline else 0
    return write_ct_series(
        folder,
        values=phantom(options.slices, options.size, metal_slices=metal_slices),
        SeriesDescription="Hip implant",
        spacing_mm=(1.0, 0.8, 0.8),
        ImagesInAcquisition=None if options.quiet_close else options.slices,
    )


def measured(
    folder: Path, files: Sequence[Path], options: argparse.Namespace, progress: Progress, task: TaskID
) -> Figures:
    """One round, and its folder gone."""
    progress.update(task, description=f"round {folder.name}")
    begun = time.monotonic()
    try:
        return one_round(folder, files, pipeline=options.pipeline, patience_s=options.patience)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        progress.update(task, advance=1, description=f"round {folder.name} took {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
