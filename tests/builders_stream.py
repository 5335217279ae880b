"""A scanner that never stops storing and remembers what it was promised, and a PACS that counts what it gets."""

from __future__ import annotations

import hashlib
import itertools
import random
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification

from storage import catalog
from storage.database import Database
from storage.instance_files import InstanceFiles
from tests.builders_dicom import write_ct_series
from tests.builders_receive import RawPeer, encoded_data_set, store_command
from tests.peers import PACS_AE, RunningNode, free_port

COMMAND, LAST = 1, 2
RELEASE = struct.pack(">BBI", 5, 0, 4) + bytes(4)
PART = 16_000
PATIENT_S = 150.0


def store(peer: RawPeer, sop_instance_uid: str, content: bytes) -> int:
    """The status of one C-STORE over an open association."""
    peer.send_fragment(COMMAND | LAST, store_command(sop_instance_uid))
    for at in range(0, len(content), PART):
        peer.send_fragment(LAST if at + PART >= len(content) else 0, content[at : at + PART])
    return peer.read_status()


@dataclass
class Scanner:
    """Stores series after series; whatever is not answered with success is stored again, as scanners do."""

    port: int
    folder: Path
    slices: int = 4
    rows: int = 64
    pause_s: float = 0.5
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    """SOP Instance UID -> data set, of each instance that was answered 0x0000."""
    completed: dict[str, list[str]] = field(default_factory=dict)
    """Series Instance UID -> its SOP Instance UIDs, of each series that was sent whole."""
    not_now: Counter[str] = field(default_factory=Counter)
    """What was heard or felt instead of success."""
    faults: list[str] = field(default_factory=list)
    """What no sender should ever hear."""

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Scanner:
        """It sends from now on."""
        self._thread.start()
        return self

    def finish(self) -> None:
        """The series that has begun is sent to its end, and no other begins."""
        self._stop.set()
        self._thread.join(PATIENT_S)
        assert not self._thread.is_alive(), f"the node does not take what is sent: {self.not_now}"
        assert self.faults == []

    def _run(self) -> None:
        for number in itertools.count():
            self.send_series(number)
            if self._stop.wait(self.pause_s):
                return

    def send_series(self, number: int) -> str:
        """The Series Instance UID of a new series, every instance of which has been acknowledged."""

        def announce(k: int, dataset: Any) -> None:  # so that it is whole by evidence, however long a kill takes
            dataset.ImagesInAcquisition = self.slices

        place = self.folder / str(number)
        files = write_ct_series(place, slices=self.slices, rows=self.rows, columns=self.rows, each=announce)
        headers = [dcmread(path, stop_before_pixels=True) for path in files]
        waiting = [(str(one.SOPInstanceUID), encoded_data_set(path)) for one, path in zip(headers, files, strict=True)]
        while waiting:
            try:
                self._send(waiting)
            except (OSError, AssertionError) as fault:  # no connection, no association, no answer: not now
                self.not_now[type(fault).__name__] += 1
                time.sleep(0.1)
        self.completed[headers[0].SeriesInstanceUID] = [str(one.SOPInstanceUID) for one in headers]
        return str(headers[0].SeriesInstanceUID)

    def _send(self, waiting: list[tuple[str, bytes]]) -> None:
        """As many as are taken over one association."""
        with RawPeer(self.port) as peer:
            while waiting:
                uid, content = waiting[0]
                status = store(peer, uid, content)
                if status == 0x0000:
                    self.acknowledged[uid] = content
                    waiting.pop(0)
                else:
                    if status & 0xFF00 != 0xA700:
                        self.faults.append(f"{uid} was answered 0x{status:04X}")
                    self.not_now[f"0x{status:04X}"] += 1
                    time.sleep(0.1)
            peer.send(RELEASE)
            peer.read_pdu()


@dataclass
class CountingPacs:
    """A PACS that keeps what it gets, counts each instance, and answers as it is told."""

    port: int = field(default_factory=free_port)
    answer: Callable[[str], int] = lambda uid: 0x0000
    """SOP Instance UID -> status."""

    def __post_init__(self) -> None:
        self.stored: Counter[str] = Counter()
        self.held: dict[str, tuple[str, str]] = {}
        """SOP Instance UID -> (Series Instance UID, SHA-256 of the data set)."""
        self.changed: list[str] = []
        """Instances that came again with other content."""
        self._entity = AE(PACS_AE)
        self._entity.supported_contexts = AllStoragePresentationContexts
        self._entity.add_supported_context(Verification)

    def start(self) -> CountingPacs:
        """It listens on its port."""
        self._entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._on_store)]
        )
        return self

    def stop(self) -> None:
        """It is gone, with every open association; what it holds stays."""
        self._entity.shutdown()
        deadline = time.monotonic() + PATIENT_S
        while left := self._entity.active_associations:  # an abort amid a request can be lost in pynetdicom
            assert time.monotonic() < deadline, "an association does not end"
            for association in left:
                association.dul.socket.close()
                association.abort()

    def _on_store(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        status = self.answer(uid)
        if status == 0x0000:
            content = hashlib.sha256(event.request.DataSet.getvalue()).hexdigest()
            known = self.held.setdefault(uid, (str(event.dataset.SeriesInstanceUID), content))
            self.stored[uid] += 1
            if known[1] != content:
                self.changed.append(uid)
        return status

    def series(self) -> dict[str, set[str]]:
        """Series Instance UID -> SOP Instance UIDs."""
        found: dict[str, set[str]] = {}
        for uid, (series_uid, _) in self.held.items():
            found.setdefault(series_uid, set()).add(uid)
        return found


def assert_nothing_was_lost(node: RunningNode, scanner: Scanner) -> None:
    """Every instance that was answered 0x0000 is in the catalogue, and its file holds what was sent."""
    database = Database.open(node.database or f"sqlite:///{node.folder / 'var' / 'node.sqlite'}")
    files = InstanceFiles(node.folder / "var")
    with database.read() as connection:
        known = catalog.known_instances(connection, list(scanner.acknowledged))
    database.close()
    assert known == set(scanner.acknowledged)
    for uid, content in scanner.acknowledged.items():
        assert encoded_data_set(files.path_of(uid)) == content, f"{uid} is not what was sent"


def assert_everything_was_delivered_once(node: RunningNode, scanner: Scanner, pacs: CountingPacs) -> None:
    """Each series that was sent has one job, delivered, and the PACS holds its one derived series and no other."""
    jobs = node.wait_for_jobs({"delivered"}, count=len(scanner.completed), seconds=PATIENT_S)
    assert sorted(job["series_instance_uid"] for job in jobs) == sorted(scanner.completed)
    assert {job["generation"] for job in jobs} == {1}
    held = pacs.series()
    assert set(held) == {job["derived_series_instance_uid"] for job in jobs}
    assert {len(found) for found in held.values()} == {scanner.slices}
    assert pacs.changed == []
    verified = node.command("audit", "verify")
    assert verified.returncode == 0, verified.stderr


def moments(
    count: int, *, shortest_s: float, longest_s: float, seed: int | None = None
) -> tuple[random.Random, list[float]]:
    """A source of chance that says its seed when a test fails, and so many pauses."""
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    print(f"seed {seed}")
    chance = random.Random(seed)
    return chance, [chance.uniform(shortest_s, longest_s) for _ in range(count)]
