"""Images a second into our node and into DCMTK's storescp, Orthanc and pynetdicom's storescp, pair by pair.

DCMTK's storescu sends 512x512 CT in 1, 4 and 8 streams (TCP_NODELAY=1 for every DCMTK program and for Orthanc). Each
round starts every receiver once, in turning order and with an empty folder; the ratios are those of the same round,
and the table gives their medians. Our node is `dicomnode run` as a process, with its catalogue at work: it syncs each
instance before it answers; DCMTK and pynetdicom do not (Orthanc's SQLite does). Each rate is what the senders see;
`drained` is when the last image was in our catalogue, in seconds after the last answer. CPU is that of all processes
of a receiver together, until then. Run it alone: whatever else runs is measured with it.

    .venv/bin/python benchmarks/ingest.py                                 # everything, about 5 minutes
    .venv/bin/python benchmarks/ingest.py --quick                         # storescp and node only, about a minute
    .venv/bin/python benchmarks/ingest.py --only "node" "Orthanc" --streams 4 --rounds 9
    .venv/bin/python benchmarks/ingest.py --json ingest.json --markdown ingest.md
    .venv/bin/python benchmarks/ingest.py --only node --database postgresql+psycopg://node@db.example/empty
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from pydicom import dcmread
from pydicom.uid import generate_uid

from benchmarks.ingest_receivers import ASSOCIATIONS, NODELAY, RECEIVERS, REFERENCE, USUAL, Running, our_node, serve
from tests.builders_dicom import write_ct_series
from tests.builders_receive import RawPeer, encoded_data_set, fragment, p_data, sop_instance_uid_of, store_command
from tests.peers import NODE_AE, SCANNER_AE, program

TICKS = os.sysconf("SC_CLK_TCK")
DRAIN_S = 120.0


@dataclass(frozen=True)
class Run:
    """What one receiver did with one portion of images."""

    images_s: float
    cpu_ms: float
    drained_s: float | None
    peak_mib: float


@dataclass
class Row:
    """A line of the table: medians over the rounds."""

    streams: int
    receiver: str
    images_s: float
    ratio: float
    cpu_ms: float
    cpu_ratio: float
    drained_s: float | None
    peak_mib: float
    runs: list[Run] = field(default_factory=list)


def make_images(folder: Path, count: int) -> list[Path]:
    """So many CT images of 512x512 in a series of their own."""
    (first,) = write_ct_series(folder / "first", slices=1, rows=512, columns=512)
    dataset = dcmread(first)
    made = []
    for number in range(count):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(prefix="1.2.826.0.1.1.")
        dataset.InstanceNumber = number + 1
        dataset.ImagePositionPatient = [-256, -256, 1.25 * number]
        made.append(folder / f"{number:05}.dcm")
        dataset.save_as(made[-1])
    return made


def family(process_id: int) -> list[int]:
    """A process and those that descend from it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [process_id]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def cpu_s(process_id: int) -> float:
    """CPU seconds of a process and all that descend from it, those that have ended included."""
    ticks = 0
    for one in family(process_id):
        try:
            ticks += sum(map(int, Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[11:15]))
        except OSError:
            continue
    return ticks / TICKS


def memory_mib(process_id: int, what: str) -> float:
    """VmRSS or VmHWM (the peak) of one process."""
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(what)).split()[1]) / 1024


def receiving_process(running: Running) -> int:
    """The process that holds the associations."""
    return running.process_id if running.node is None else running.node.processes().get("receive", running.process_id)


def wait_until_idle(process_id: int) -> None:
    """What a receiver does after its start (workers import their libraries) is not counted with the images."""
    before = cpu_s(process_id)
    for _ in range(30):
        time.sleep(0.4)
        now = cpu_s(process_id)
        if now - before < 0.06:
            return
        before = now


def send(running: Running, images: list[Path], streams: int) -> Run:
    """What a receiver did with the images."""
    os.sync()  # what an earlier receiver left in memory is not written in this one's time
    before_s, before_listed = cpu_s(running.process_id), running.listed() if running.listed else 0
    command = [program("storescu"), "-aet", SCANNER_AE, "-aec", NODE_AE, "127.0.0.1", str(running.port)]
    begun = time.monotonic()
    senders = [
        subprocess.Popen([*command, *map(str, images[number::streams])], env=NODELAY) for number in range(streams)
    ]
    try:
        answers = [sender.wait(300) for sender in senders]
    finally:
        for sender in senders:
            if sender.poll() is None:
                sender.kill()
    ended = time.monotonic()
    assert answers == [0] * streams, f"storescu said {answers}"
    drained_s = None
    if running.listed is not None:
        while running.listed() - before_listed < len(images):
            assert time.monotonic() - ended < DRAIN_S, f"not every image was in the catalogue after {DRAIN_S:g} s"
            time.sleep(0.02)
        drained_s = time.monotonic() - ended
    time.sleep(0.2)  # until forked children are waited for
    return Run(
        len(images) / (ended - begun),
        (cpu_s(running.process_id) - before_s) / len(images) * 1000,
        drained_s,
        memory_mib(receiving_process(running), "VmHWM"),
    )


def memory_at_many(folder: Path, image: Path) -> float:
    """MiB of the node's receiving process while so many associations are each in the middle of an image."""
    content, uid = encoded_data_set(image), sop_instance_uid_of(image)
    pieces = [content[at : at + 100_000] for at in range(0, len(content), 100_000)]
    with our_node(folder) as running, ExitStack() as open_ones:
        peers = [open_ones.enter_context(RawPeer(running.port)) for _ in range(ASSOCIATIONS)]
        for number, peer in enumerate(peers):
            own = f"{uid[:50]}.{number}".encode().ljust(len(uid), b"0")[: len(uid)]
            peer.send(p_data(fragment(3, store_command(own.decode()))))
            for piece in pieces[:-1]:
                peer.send(p_data(fragment(0, piece.replace(uid.encode(), own))))
        time.sleep(1.0)
        found = memory_mib(receiving_process(running), "VmRSS")
        for peer in peers:
            peer.send(p_data(fragment(2, pieces[-1])))
        statuses = {peer.read_status() for peer in peers}
        assert statuses == {0}, f"the node answered {statuses}"
    return found


class Progress:
    """A bar on standard error."""

    def __init__(self, steps: int) -> None:
        self._steps, self._done, self._begun = steps, 0, time.monotonic()

    def step(self, what: str) -> None:
        """One more is done; `what` comes next."""
        part = self._done / self._steps
        spent = time.monotonic() - self._begun
        left = f", {spent / part - spent:.0f} s left" if part > 0.02 else ""
        bar = "#" * round(30 * part)
        print(f"\r\033[K[{bar:<30}] {100 * part:3.0f} %{left}  {what}", end="", file=sys.stderr, flush=True)
        self._done += 1

    def end(self) -> None:
        """The line is free again."""
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """Where and when this was measured; no name of the machine."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    memory = Path("/proc/meminfo").read_text().split()[1]
    kept = subprocess.run(["stat", "-f", "-c", "%T", tempfile.gettempdir()], capture_output=True, text=True).stdout
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cpu": f"{os.cpu_count()} x {cpu.partition(':')[2].strip()}",
        "memory_gib": round(int(memory) / 2**20, 1),
        "disk": kept.strip(),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "load": round(os.getloadavg()[0], 2),
    }


def measure(options: argparse.Namespace, folder: Path) -> tuple[list[Row], float | None]:
    """The rows of the table, and the memory at many associations."""
    names = [REFERENCE, *(name for name in options.only if name != REFERENCE)]
    progress = Progress(options.rounds * len(names) * len(options.streams) + 2)
    progress.step("making images")
    portions = {streams: make_images(folder / f"images-{streams}", options.images) for streams in options.streams}
    found: dict[tuple[int, str], list[Run]] = {}
    for turn in range(options.rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            # Nothing is removed before the end: ext4 passes over every inode that was freed lately, one by one.
            run_folder = folder / f"run-{turn}-{names.index(name)}"
            run_folder.mkdir()
            os.sync()  # what receivers without fsync left in memory is not written at the next one's expense
            with RECEIVERS[name](run_folder, options.database) as running:
                wait_until_idle(running.process_id)
                for streams in options.streams:
                    if options.database:  # what an earlier run left there is not listed twice
                        portions[streams] = make_images(folder / f"images-{streams}", options.images)
                    images = portions[streams]
                    os.sync()
                    progress.step(f"round {turn + 1} of {options.rounds}: {name}, {streams} streams")
                    found.setdefault((streams, name), []).append(send(running, images, streams))
    memory = None
    if any(name.startswith("node") for name in names):
        progress.step(f"memory at {ASSOCIATIONS} associations")
        memory = memory_at_many(folder / "many", portions[options.streams[0]][0])
    progress.end()
    return [row_of(streams, name, found) for streams in options.streams for name in names], memory


def row_of(streams: int, name: str, found: dict[tuple[int, str], list[Run]]) -> Row:
    """The medians of one receiver; ratios are taken in each round first."""
    runs = found[streams, name]
    pairs = list(zip(runs, found[streams, REFERENCE], strict=True))
    drained = [run.drained_s for run in runs if run.drained_s is not None]
    return Row(
        streams,
        name,
        statistics.median(run.images_s for run in runs),
        statistics.median(ours.images_s / theirs.images_s for ours, theirs in pairs),
        statistics.median(run.cpu_ms for run in runs),
        statistics.median(ours.cpu_ms / theirs.cpu_ms for ours, theirs in pairs),
        statistics.median(drained) if drained else None,
        max(run.peak_mib for run in runs),
        runs,
    )


def markdown(rows: list[Row], memory: float | None, where: dict[str, Any], options: argparse.Namespace) -> str:
    """The table, with where and when it was measured."""
    lines = [
        f"{where['date']}, {where['cpu']}, {where['memory_gib']} GiB, {where['disk']}, {where['system']}, load "
        f"{where['load']} before. {options.images} CT images of 512x512 a run, median of {options.rounds} paired runs.",
        "",
        f"| streams | receiver | images/s | of {REFERENCE} | CPU ms an image | of its CPU | drained s | peak MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        drained = "" if row.drained_s is None else f"{row.drained_s:.2f}"
        lines.append(
            f"| {row.streams} | {row.receiver} | {row.images_s:.0f} | {row.ratio:.2f} | {row.cpu_ms:.2f} | "
            f"{row.cpu_ratio:.2f} | {drained} | {row.peak_mib:.0f} |"
        )
    if memory is not None:
        lines += ["", f"The receiving process holds {memory:.0f} MiB with {ASSOCIATIONS} associations amid an image."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="paired runs (default: 5; with --quick 2)")
    parser.add_argument("--images", type=int, help="images of each run (default: 300; with --quick 150)")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 8], help="senders at once (default: 1 4 8)")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(RECEIVERS),
        metavar="RECEIVER",
        help=f"receivers beside {REFERENCE}, some of: {'; '.join(map(repr, RECEIVERS))} (default: the first six)",
    )
    parser.add_argument("--quick", action="store_true", help=f"{REFERENCE} and node only, few and short rounds")
    parser.add_argument("--database", default="", help="URL of an empty database for the node (default: SQLite)")
    parser.add_argument("--folder", type=Path, help="where to work (default: the system's folder for such files)")
    parser.add_argument("--json", type=Path, help="a file for every single run as JSON")
    parser.add_argument("--markdown", type=Path, help="a file for the table, which is printed in any case")
    parser.add_argument("--serve", choices=["fast", "plain"], help=argparse.SUPPRESS)
    parser.add_argument("--no-fsync", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.folder, durable=not options.no_fsync)
        return
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.images = options.images or (150 if options.quick else 300)
    options.only = options.only or (["node"] if options.quick else USUAL)
    where = machine()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        rows, memory = measure(options, Path(name))
    table = markdown(rows, memory, where, options)
    print(table)
    if options.markdown:
        options.markdown.write_text(table)
    if options.json:
        content = {"machine": where, "rows": [asdict(row) for row in rows], "memory_at_64_associations_mib": memory}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
