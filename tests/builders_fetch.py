"""A node's stores without its processes: series that were received, and jobs that wait for inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydicom import dcmread

from dicomnode.config import Config, load_config
from dicomnode.fetching import Fetcher
from dicomnode.gather import list_arrivals
from dicomnode.peer import Peer
from storage import catalog, jobs
from storage.database import Database
from storage.instance_files import InstanceFiles
from storage.job_rows import Need
from storage.jobs import Job
from tests.builders_retrieve import OURS
from tests.builders_standing import new_job

NODE = """
[node]
data_folder = "../var"
[peers.pacs]
ae_title = "{ae_title}"
host = "127.0.0.1"
port = {port}
may = ["store"]
"""


class Holding:
    """Stores, and what was told to the audit."""

    def __init__(self, database: Database, folder: Path, peer: Peer | None = None, rules: str = "") -> None:
        self.database, self.files = database, InstanceFiles(folder / "files")
        self.told: list[tuple[str, str, Mapping[str, Any]]] = []
        config = folder / "config"
        config.mkdir()
        address = {"ae_title": "PACS", "port": 1} if peer is None else {"ae_title": peer.ae_title, "port": peer.port}
        (config / "node.toml").write_text(NODE.format(**address))
        (config / "rules.toml").write_text(rules)
        self.config: Config = load_config(config)

    def tell(self, event: str, peer: str, details: Mapping[str, Any]) -> None:
        """The audit's ear."""
        self.told.append((event, peer, details))

    def fetcher(self) -> Fetcher:
        """Who fetches."""
        return Fetcher(ae_title=OURS, files=self.files, maximum_bytes=1 << 30, happened=self.tell)

    def receive(self, paths: Sequence[Path]) -> str:
        """The series of these files is here and closed; its UID."""
        for path in paths:
            self.files.keep_arrival(str(dcmread(path).SOPInstanceUID), [path.read_bytes()])
        self.list()
        return str(dcmread(paths[0]).SeriesInstanceUID)

    def list(self, *, close: bool = True) -> None:
        """What arrived is in the catalogue; every series that is open is closed."""
        list_arrivals(self.database, self.files, peer_of=lambda title: title)
        with self.database.begin() as connection:
            for one in catalog.open_series(connection) if close else ():
                catalog.close_series(
                    connection,
                    one.series_instance_uid,
                    generation=one.generation,
                    instance_count=one.instance_count,
                    because="test",
                    now=datetime.now(UTC),
                )

    def job(self, series_instance_uid: str, definition: Mapping[str, Any], *, limit_s: float = 60.0) -> Job:
        """A job on the series that needs one more, as `ct`."""
        with self.database.begin() as connection:
            series = catalog.get_series(connection, series_instance_uid)
            wanted = new_job(
                key=f"ct for {series_instance_uid}",
                series_instance_uid=series_instance_uid,
                study_instance_uid=series.study_instance_uid,
                source_sop_instance_uids=tuple(catalog.instance_uids(connection, series_instance_uid)),
                created_at=datetime.now(UTC),
                needs=(Need("ct", definition, limit_s),),
            )
            return jobs.add_job(connection, wanted)[0]
