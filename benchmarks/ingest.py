"""Instances a second into our receiver and into DCMTK's storescp, Orthanc and pynetdicom's storescp, run by run.

    .venv/bin/python benchmarks/ingest.py --rounds 5

DCMTK's storescu sends 512x512 CT in 1, 4 and 8 streams (TCP_NODELAY=1 for every DCMTK program and for Orthanc). Each
round runs every receiver once, in turning order and with an empty folder; the ratios are those of the same round, and
the table gives their medians. Ours syncs each instance before it answers, the others do not (Orthanc's SQLite does).
`receiver` is the receiving room alone, `node` is `dicomnode run` with its catalogue at work beside it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pydicom import dcmread
from pydicom.uid import generate_uid

from dicomnode.peer import Peer
from dicomnode.receive import Receiver
from storage.instance_files import InstanceFiles
from tests.builders_dicom import write_ct_series
from tests.peers import NODE_AE, SCANNER_AE, Orthanc, RunningNode, _listens, free_port, program, wait_until

TICKS = os.sysconf("SC_CLK_TCK")
NODELAY = {**os.environ, "TCP_NODELAY": "1"}
REFERENCE = "storescp --fork"
Running = tuple[int, int]
"""(port, process id of what holds it)"""


def serve(path: str, folder: Path, *, durable: bool) -> None:
    """The receiving room alone, until its standard input ends."""
    if not durable:
        os.fsync = os.fdatasync = lambda descriptor: None
    receiver = Receiver(
        ae_title=NODE_AE,
        peers={"scanner": Peer(name="scanner", ae_title=SCANNER_AE, may=("store",))},
        files=InstanceFiles(folder),
        arrived=threading.Event(),
        happened=lambda event, peer, details: None,
        maximum_associations=64,
        maximum_pdu=131072,
        idle_s=60,
        receive_path="plain" if path == "plain" else "fast",
    )
    print(receiver.start("127.0.0.1", 0), flush=True)
    sys.stdin.read()
    receiver.stop(drain_s=5)


@contextmanager
def our_receiver(path: str, folder: Path, *, durable: bool = True) -> Iterator[Running]:
    command = [sys.executable, __file__, "--serve", path, "--folder", str(folder / "var")]
    process = subprocess.Popen(
        command + ([] if durable else ["--no-fsync"]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield int(process.stdout.readline()), process.pid
    finally:
        process.stdin.close()
        process.wait(30)


@contextmanager
def our_node(path: str, folder: Path) -> Iterator[Running]:
    node = RunningNode(folder / "node", free_port(), rules="", more_node=f'receive_path = "{path}"', quiet_seconds=600)
    node.start()
    assert node.process is not None
    try:
        yield node.port, node.process.pid
    finally:
        node.stop()


@contextmanager
def command_line(folder: Path, make: Callable[[int, Path], list[str]]) -> Iterator[Running]:
    port, received = free_port(), folder / "received"
    received.mkdir()
    process = subprocess.Popen(make(port, received), env=NODELAY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _listens(port), seconds=20, what="the receiver listening")
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def orthanc(folder: Path) -> Iterator[Running]:
    one = Orthanc(folder / "orthanc").start()
    assert one.process is not None
    try:
        yield one.dicom_port, one.process.pid
    finally:
        one.stop()


def storescp(folder: Path, *options: str) -> AbstractContextManager[Running]:
    return command_line(
        folder, lambda port, received: [program("storescp"), "--fork", *options, "-od", str(received), str(port)]
    )


RECEIVERS: dict[str, Callable[[Path], AbstractContextManager[Running]]] = {
    REFERENCE: storescp,
    "storescp --fork -pdu 131072": lambda folder: storescp(folder, "-pdu", "131072"),
    "receiver fast": lambda folder: our_receiver("fast", folder),
    "receiver fast, no fsync": lambda folder: our_receiver("fast", folder, durable=False),
    "receiver plain": lambda folder: our_receiver("plain", folder),
    "node fast": lambda folder: our_node("fast", folder),
    "node plain": lambda folder: our_node("plain", folder),
    "Orthanc": orthanc,
    "pynetdicom storescp": lambda folder: command_line(
        folder,
        lambda port, received: [
            *(sys.executable, "-m", "pynetdicom", "storescp", str(port), "-q", "-od", str(received)),
            *("--max-pdu", "131072"),
        ],
    ),
}


def make_images(folder: Path, count: int) -> list[Path]:
    """So many CT images of 512x512 with UIDs of their own."""
    (first,) = write_ct_series(folder / "first", slices=1, rows=512, columns=512)
    dataset = dcmread(first)
    made = []
    for number in range(count):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(prefix="1.2.826.0.1.1.")
        dataset.InstanceNumber = number + 1
        made.append(folder / f"{number:05}.dcm")
        dataset.save_as(made[-1])
    return made


def cpu_s(process_id: int) -> float:
    """CPU seconds of a process and its children that have ended."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def peak_mib(process_id: int) -> float:
    """Peak resident memory of a process."""
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def run_once(name: str, images: list[Path], streams: int, folder: Path) -> tuple[float, float, float]:
    """Images a second, CPU milliseconds an image and peak MiB of one receiver."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.sync()  # what an earlier receiver left in memory is not written in this one's time
    with RECEIVERS[name](folder) as (port, process_id):
        before_s = cpu_s(process_id)
        begun = time.monotonic()
        command = [program("storescu"), "-aet", SCANNER_AE, "-aec", NODE_AE, "127.0.0.1", str(port)]
        senders = [
            subprocess.Popen([*command, *map(str, images[number::streams])], env=NODELAY) for number in range(streams)
        ]
        answers = [sender.wait(300) for sender in senders]
        took_s = time.monotonic() - begun
        assert answers == [0] * streams, f"{name}: storescu said {answers}"
        time.sleep(0.2)  # until forked children are waited for
        return len(images) / took_s, (cpu_s(process_id) - before_s) / len(images) * 1000, peak_mib(process_id)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--only", nargs="+", default=list(RECEIVERS), choices=list(RECEIVERS))
    parser.add_argument("--serve", choices=["fast", "plain"], help=argparse.SUPPRESS)
    parser.add_argument("--no-fsync", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where to work (default: the system's folder for such files)")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.folder, durable=not options.no_fsync)
        return
    names = [REFERENCE, *(name for name in options.only if name != REFERENCE)]
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        images = make_images(folder / "images", options.images)
        print(f"load {os.getloadavg()[0]:.2f}, {options.images} images, {options.rounds} rounds", flush=True)
        print("| streams | receiver | img/s | of storescp --fork | CPU ms an image | peak MiB |")
        print("| --- | --- | --- | --- | --- | --- |")
        for streams in options.streams:
            found: dict[str, list[tuple[float, float, float]]] = {one: [] for one in names}
            for turn in range(options.rounds):
                for one in names[turn % len(names) :] + names[: turn % len(names)]:
                    found[one].append(run_once(one, images, streams, folder / "run"))
            for one in names:
                rate, milliseconds, mib = (statistics.median(column) for column in zip(*found[one], strict=True))
                pairs = zip(found[one], found[REFERENCE], strict=True)
                ratio = statistics.median(ours[0] / theirs[0] for ours, theirs in pairs)
                print(f"| {streams} | {one} | {rate:.0f} | {ratio:.2f} | {milliseconds:.2f} | {mib:.0f} |", flush=True)


if __name__ == "__main__":
    main()
