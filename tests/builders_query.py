"""An archive that answers on a free port, and DCMTK's and pynetdicom's ways to ask it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE

from dicomnode.config import load_config
from dicomnode.gather import list_arrivals
from dicomnode.late_database import LateDatabase
from dicomnode.query_retrieve_scp import QueryRetrieve
from dicomnode.service import Means
from dicomnode.stores import Stores
from storage.instance_files import InstanceFiles
from tests.builders_receive import Station
from tests.builders_tls import Authority
from tests.peers import program

PATIENT_FIND, PATIENT_MOVE, PATIENT_GET = (f"1.2.840.10008.5.1.4.1.2.1.{last}" for last in "123")
STUDY_FIND, STUDY_MOVE, STUDY_GET = (f"1.2.840.10008.5.1.4.1.2.2.{last}" for last in "123")
PEERS = """
[peers.viewer]
ae_title = "VIEWER"
host = "127.0.0.1"
port = {port}
may = ["store", "query", "retrieve"]
{more}
[peers.scanner]
ae_title = "SCANNER"
may = ["store"]
[peers.pacs]
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs_port}
may = ["store"]
"""


class Archive:
    """A node's stores with a receiver that answers queries; what it tells the audit is in `station.told`."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 1,
        pacs_port: int = 1,
        more: str = "",
        receive_path: str = "fast",
        authority: Authority | None = None,
        files: InstanceFiles | None = None,
    ) -> None:
        """port, pacs_port: where viewer and pacs listen; more: keys of the viewer; files: in the place of a disk's."""
        config = folder / "config"
        config.mkdir(parents=True, exist_ok=True)
        text = '[node]\ndata_folder = "../var"\n' + PEERS.format(port=port, pacs_port=pacs_port, more=more)
        (config / "node.toml").write_text(text)
        (config / "rules.toml").write_text("")
        self.config = load_config(config)
        self.stores = Stores.open(self.config)
        self.files = files or self.stores.files
        self.database = LateDatabase(lambda: self.config.database_url)
        told: list[tuple[str, str, Mapping[str, Any]]] = []
        means = Means(lambda: self.config, self.database, self.files, lambda *happening: told.append(happening))
        self.station = Station(
            self.files,
            peers=self.config.peers,
            services=(QueryRetrieve(means),),
            receive_path=receive_path,
            authority=authority,
        )
        self.told = told
        self.port = self.station.port

    def keep(self, paths: Sequence[Path]) -> list[Path]:
        """The instances of these files are received and listed."""
        for path in paths:
            uid = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
            self.files.keep_arrival(uid, [path.read_bytes()])
        list_arrivals(self.stores.database, self.files, peer_of=str.lower)
        return list(paths)

    def close(self) -> None:
        """It answers no more."""
        self.station.receiver.stop(drain_s=5)
        self.database.close()
        self.stores.database.close()


@contextmanager
def archive(folder: Path, **options: Any) -> Iterator[Archive]:
    """An archive that is closed with the block."""
    opened = Archive(folder, **options)
    try:
        yield opened
    finally:
        opened.close()


def keys(level: str, **asked: Any) -> Dataset:
    """An identifier; empty texts are return keys."""
    dataset = Dataset()
    dataset.QueryRetrieveLevel = level
    for keyword, value in asked.items():
        setattr(dataset, keyword, value)
    return dataset


def find(
    port: int, asked: Dataset, *, model: str = STUDY_FIND, calling: str = "VIEWER", syntax: str | None = None
) -> tuple[list[Dataset], Dataset]:
    """The answers of a C-FIND and its last status."""
    entity = AE(calling)
    entity.add_requested_context(model, *([syntax] if syntax else []))
    association = entity.associate("127.0.0.1", port, ae_title="DICOMNODE")
    assert association.is_established
    answers, last = [], Dataset()
    for status, identifier in association.send_c_find(asked, model):
        last = status
        if status.Status in (0xFF00, 0xFF01):
            answers.append(identifier)
    association.release()
    return answers, last


def dcmtk(name: str, port: int, *options: str, calling: str = "VIEWER") -> str:
    """What DCMTK's findscu, movescu or getscu printed; it must have ended well."""
    found = shutil.which(name, path="/usr/bin:/usr/local/bin") or program(name)  # pynetdicom has tools of these names
    done = subprocess.run(
        [found, "-d", "-aet", calling, "-aec", "DICOMNODE", *options, "127.0.0.1", str(port)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        env={**os.environ, "TCP_NODELAY": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def statuses(words: str) -> list[int]:
    """The statuses of the responses that a DCMTK tool printed."""
    return [int(one, 16) for one in re.findall(r"DIMSE Status\s*: 0x([0-9a-f]{4})", words)]
