"""The receivers that ingest.py compares, each started in a folder of its own and ended at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicomnode.peer import Peer
from dicomnode.receive import Receiver
from storage import catalog
from storage.database import Database
from storage.instance_files import InstanceFiles
from tests.peers import NODE_AE, SCANNER_AE, Orthanc, RunningNode, _listens, free_port, program, wait_until

NODELAY = {**os.environ, "TCP_NODELAY": "1"}
REFERENCE = "storescp --fork"
ASSOCIATIONS = 64


@dataclass
class Running:
    """A receiver that listens. listed: how many images its catalogue has, where it has one that we can ask."""

    port: int
    process_id: int
    listed: Callable[[], int] | None = None
    node: RunningNode | None = None


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
        maximum_associations=ASSOCIATIONS,
        maximum_pdu=131072,
        idle_s=60,
        receive_path="plain" if path == "plain" else "fast",
    )
    print(receiver.start("127.0.0.1", 0), flush=True)
    sys.stdin.read()
    receiver.stop(drain_s=5)


@contextmanager
def our_receiver(path: str, folder: Path, *, durable: bool = True) -> Iterator[Running]:
    program_file = Path(__file__).with_name("ingest.py")
    command = [sys.executable, str(program_file), "--serve", path, "--folder", str(folder / "var")]
    process = subprocess.Popen(
        command + ([] if durable else ["--no-fsync"]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield Running(int(process.stdout.readline()), process.pid)
    finally:
        process.stdin.close()
        process.wait(30)


@contextmanager
def our_node(folder: Path, database: str = "", *, receivers: int = 1, path: str = "fast") -> Iterator[Running]:
    """`dicomnode run`; no series becomes whole meanwhile."""
    node = RunningNode(
        folder / "node",
        free_port(),
        rules="",
        more_node=f'receive_path = "{path}"\nreceivers = {receivers}',
        quiet_seconds=600,
        database=database,
    )
    node.start()
    assert node.process is not None
    opened = Database.open(database or f"sqlite:///{node.folder / 'var' / 'node.sqlite'}")

    def listed() -> int:
        with opened.read() as connection:
            return sum(series.instance_count for series in catalog.list_series(connection))

    try:
        yield Running(node.port, node.process.pid, listed, node)
    finally:
        opened.close()
        node.stop()


@contextmanager
def command_line(folder: Path, make: Callable[[int, Path], list[str]]) -> Iterator[Running]:
    port, received = free_port(), folder / "received"
    received.mkdir()
    process = subprocess.Popen(make(port, received), env=NODELAY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _listens(port), seconds=20, what="the receiver listening")
        yield Running(port, process.pid)
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def orthanc(folder: Path) -> Iterator[Running]:
    one = Orthanc(folder / "orthanc").start()
    assert one.process is not None
    try:
        yield Running(one.dicom_port, one.process.pid)
    finally:
        one.stop()


@contextmanager
def storescp(folder: Path, *options: str) -> Iterator[Running]:
    words = [program("storescp"), "--fork", *options]
    with command_line(folder, lambda port, received: [*words, "-od", str(received), str(port)]) as running:
        yield running


@contextmanager
def pynetdicom(folder: Path) -> Iterator[Running]:
    words = [sys.executable, "-m", "pynetdicom", "storescp"]
    more = ["-q", "--max-pdu", "131072"]
    with command_line(folder, lambda port, received: [*words, str(port), *more, "-od", str(received)]) as running:
        yield running


RECEIVERS: dict[str, Callable[[Path, str], Any]] = {
    REFERENCE: lambda folder, database: storescp(folder),
    "node": our_node,
    "node, 2 receivers": lambda folder, database: our_node(folder, database, receivers=2),
    "receiver alone, no fsync": lambda folder, database: our_receiver("fast", folder, durable=False),
    "Orthanc": lambda folder, database: orthanc(folder),
    "pynetdicom storescp": lambda folder, database: pynetdicom(folder),
    "receiver alone": lambda folder, database: our_receiver("fast", folder),
    "receiver alone, plain": lambda folder, database: our_receiver("plain", folder),
    "node, plain": lambda folder, database: our_node(folder, database, path="plain"),
    "storescp --fork -pdu 131072": lambda folder, database: storescp(folder, "-pdu", "131072"),
}
USUAL = list(RECEIVERS)[:6]
