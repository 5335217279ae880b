"""Images a second out of our sender, DCMTK's storescu and pynetdicom's, to storescp and Orthanc, pair by pair.

    .venv/bin/python benchmarks/delivery.py --rounds 3

Each round sends 512x512 CT to every peer by every sender, in turning order, to a peer started anew with an empty
folder; ratios are those of the same round, and the tables give medians. `Nagle`: the peer and storescu as they come;
`TCP_NODELAY`: both with TCP_NODELAY=1 in their environment (ours and pynetdicom's set what they set). Time runs from
the first file to the release of the association: imports are left out, and so is the start of storescu's process.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pydicom import dcmread
from pydicom.uid import generate_uid
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.builders_dicom import write_ct_series
from tests.peers import PACS_AE, Orthanc, _listens, free_port, program, wait_until

OURS, DCMTK, PYNETDICOM = "ours", "storescu", "pynetdicom"
SENDERS = (OURS, DCMTK, PYNETDICOM)
PEERS = {
    "storescp --fork, Nagle": ("storescp", False),
    "storescp --fork, TCP_NODELAY": ("storescp", True),
    "Orthanc, Nagle": ("Orthanc", False),
    "Orthanc, TCP_NODELAY": ("Orthanc", True),
}
AIMS = {
    "storescp --fork, Nagle": {PYNETDICOM: 2.5, DCMTK: 1.0},
    "storescp --fork, TCP_NODELAY": {DCMTK: 1.5},
    "Orthanc, Nagle": {PYNETDICOM: 2.5, DCMTK: 1.0},
    "Orthanc, TCP_NODELAY": {},
}
Measured = tuple[float, float]
"""(images a second, CPU milliseconds an image of the sender)"""


class Broke(Exception):
    """A sender did not get every answer."""


def environment(*, no_delay: bool) -> dict[str, str]:
    """Ours, with or without what makes DCMTK send at once."""
    kept = {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}
    return {**kept, "TCP_NODELAY": "1"} if no_delay else kept


def send_ours(port: int, files: list[Path]) -> None:
    from dicomnode.outgoing import outbound, store_instances
    from dicomnode.peer import Peer
    from storage.deliveries import LedgerState

    def send() -> int:
        peer = Peer(name="pacs", ae_title=PACS_AE, host="127.0.0.1", port=port)
        answers = store_instances(peer, [outbound(path) for path in files], ae_title="BENCH")
        return sum(one.state is LedgerState.DONE for one in answers)

    print_measured(send, len(files))


def send_by_pynetdicom(port: int, files: list[Path]) -> None:
    """What its storescu application does: every file is read as a data set and sent."""
    from pydicom.uid import ExplicitVRLittleEndian
    from pynetdicom import AE
    from pynetdicom.sop_class import CTImageStorage

    def send() -> int:
        entity = AE("BENCH")
        entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        association = entity.associate("127.0.0.1", port, ae_title=PACS_AE)
        done = sum(association.send_c_store(dcmread(path)).get("Status") == 0 for path in files)
        association.release()
        return done

    print_measured(send, len(files))


def print_measured(send, count: int) -> None:  # type: ignore[no-untyped-def]
    begun, begun_cpu = time.perf_counter(), time.process_time()
    done = send()
    took_s, took_cpu_s = time.perf_counter() - begun, time.process_time() - begun_cpu
    assert done == count, f"{done} of {count} were taken"
    print(json.dumps([count / took_s, took_cpu_s / count * 1000]))


def send_by_storescu(port: int, files: list[Path], *, no_delay: bool) -> Measured:
    command = [program("storescu"), "-aet", "BENCH", "-aec", PACS_AE, "127.0.0.1", str(port)]
    start_s = _start_s()
    took_s, cpu_s = _timed([*command, *map(str, files)], no_delay=no_delay)
    return len(files) / (took_s - start_s), cpu_s / len(files) * 1000


@functools.cache
def _start_s() -> float:
    """The least that a start of storescu takes: more would be subtracted in its favour whenever the machine is busy."""
    return min(_timed([program("storescu"), "--version"], no_delay=True)[0] for _ in range(10))


def _timed(command: list[str], *, no_delay: bool) -> Measured:
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=environment(no_delay=no_delay), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    took_s = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{command[0]} ended with {process.returncode}"
    return took_s, usage.ru_utime + usage.ru_stime


@contextmanager
def listening(kind: str, folder: Path, *, no_delay: bool) -> Iterator[int]:
    """The port of a peer that was started for this and is ended afterwards."""
    if kind == "Orthanc":
        orthanc = Orthanc(folder / "orthanc", no_delay=no_delay)
        try:
            orthanc.start()
            yield orthanc.dicom_port
        finally:
            orthanc.stop()
        return
    port, received = free_port(), folder / "received"
    received.mkdir()
    process = subprocess.Popen(
        [program("storescp"), "--fork", "-od", str(received), str(port)],
        env=environment(no_delay=no_delay),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: _listens(port), seconds=20, what="storescp listening")
        yield port
    finally:
        process.terminate()
        process.wait(30)


def run_once(sender: str, peer: str, files: list[Path], folder: Path) -> Measured:
    """One sender to one peer."""
    folder = Path(tempfile.mkdtemp(dir=folder.parent))  # nothing is removed before the end: see ingest.py
    os.sync()
    kind, no_delay = PEERS[peer]
    with listening(kind, folder, no_delay=no_delay) as port:
        if sender == DCMTK:
            return send_by_storescu(port, files, no_delay=no_delay)
        done = subprocess.run(
            [
                *(sys.executable, __file__, "--send", sender, "--port", str(port)),
                *("--images-in", str(files[0].parent), "--images", str(len(files))),
            ],
            capture_output=True,
            text=True,
            timeout=600,
        )
        if done.returncode != 0:
            raise Broke(f"{sender} to {peer}:\n{done.stderr}")
        rate, milliseconds = json.loads(done.stdout)
        return rate, milliseconds


def run_until_whole(sender: str, peer: str, files: list[Path], folder: Path, broken: list[str]) -> Measured:
    """As `run_once`; pynetdicom loses answers under load: such a run is counted in `broken` and done again."""
    for _ in range(4):
        try:
            return run_once(sender, peer, files, folder)
        except Broke as fault:
            if sender != PYNETDICOM:
                raise
            broken.append(str(fault))
    raise Broke(broken[-1])


def make_images(folder: Path, count: int) -> list[Path]:
    """So many CT images of 512x512 with UIDs of their own."""
    (first,) = write_ct_series(folder / "first", slices=1, rows=512, columns=512)
    dataset = dcmread(first)
    (folder / "images").mkdir()
    made = []
    for number in range(count):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(prefix="1.2.826.0.1.1.")
        dataset.InstanceNumber = number + 1
        made.append(folder / "images" / f"{number:05}.dcm")
        dataset.save_as(made[-1])
    return made


def ratio(found: list[Measured], other: list[Measured]) -> float:
    """Median of the ratios of the same rounds."""
    return statistics.median(one[0] / two[0] for one, two in zip(found, other, strict=True))


def as_markdown(found: dict[str, dict[str, list[Measured]]], about: str) -> str:
    """The tables, ready for benchmarks/README.md."""
    lines = [
        about,
        "",
        "| peer | " + " | ".join(f"{one}, img/s" for one in SENDERS) + " | of storescu | of pynetdicom |",
    ]
    lines.append("| --- " * 6 + "|")
    for peer, by in found.items():
        rates = " | ".join(f"{statistics.median(rate for rate, _ in by[one]):.0f}" for one in SENDERS)
        ratios = []
        for other in (DCMTK, PYNETDICOM):
            aim = AIMS[peer].get(other)
            ratios.append(f"{ratio(by[OURS], by[other]):.2f}" + (f" (aim {aim:g})" if aim else ""))
        lines.append(f"| {peer} | {rates} | {' | '.join(ratios)} |")
    lines += ["", "| CPU ms an image, sender | " + " | ".join(SENDERS) + " |", "| --- " * 4 + "|"]
    for peer, by in found.items():
        cpu = " | ".join(f"{statistics.median(ms for _, ms in by[one]):.2f}" for one in SENDERS)
        lines.append(f"| {peer} | {cpu} |")
    return "\n".join(lines)


def machine() -> str:
    """What it ran on: nothing that names the machine."""
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())  # fmt: skip
    return f"{os.cpu_count()} x {model}, Python {platform.python_version()}"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each pair runs (default %(default)s)")
    parser.add_argument("--images", type=int, default=300, help="images a run; a third of it where Nagle is on")
    parser.add_argument("--quick", action="store_true", help="one round of 60 images, to see that it works")
    parser.add_argument("--only", nargs="+", default=list(PEERS), choices=list(PEERS), help="these peers only")
    parser.add_argument("--json", type=Path, help="where every single figure is written, too")
    parser.add_argument("--folder", type=Path, help="where to work (default: the system's folder for such files)")
    parser.add_argument("--send", choices=[OURS, PYNETDICOM], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--images-in", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.send:
        files = sorted(options.images_in.iterdir())[: options.images]
        (send_ours if options.send == OURS else send_by_pynetdicom)(options.port, files)
        return
    rounds, images = (1, 60) if options.quick else (options.rounds, options.images)
    found: dict[str, dict[str, list[Measured]]] = {peer: {one: [] for one in SENDERS} for peer in options.only}
    broken: list[str] = []
    columns = (TextColumn("{task.description:45}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as name,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        files = make_images(Path(name), images)
        task = progress.add_task("", total=rounds * len(options.only) * len(SENDERS))
        for turn in range(rounds):
            for peer in options.only:
                few = files if PEERS[peer][1] else files[: max(20, images // 3)]
                for sender in SENDERS[turn % 3 :] + SENDERS[: turn % 3]:
                    progress.update(task, description=f"{sender} to {peer}")
                    found[peer][sender].append(run_until_whole(sender, peer, few, Path(name) / "run", broken))
                    progress.advance(task)
    about = (
        f"{images} images, {rounds} rounds, load {os.getloadavg()[0]:.1f}, {machine()}, {datetime.now(UTC):%Y-%m-%d}"
    )
    print(as_markdown(found, about))
    print(f"\nRuns of pynetdicom that lost an answer and were done again: {len(broken)}.")
    if options.json:
        options.json.write_text(json.dumps({"about": about, "found": found, "broken": len(broken)}, indent=1))


if __name__ == "__main__":
    main()
