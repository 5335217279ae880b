"""Beside the river: room is made, monitors and systemd are told the truth, and nothing of it is on by itself."""

from __future__ import annotations

import http.client
import json
import os
import queue
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from dicomnode.config import Config, load_config
from dicomnode.errors import ConfigFault
from dicomnode.upkeep import Life, Upkeep, answers_at
from storage import audit, catalog, promises
from storage.database import Database
from storage.instance_files import InstanceFiles
from storage.references import Reference
from tests.builders_dicom import write_ct_series
from tests.builders_standing import instance
from tests.peers import NODE_AE, SCANNER_AE, RunningNode, free_port, wait_until

LIFE = Life(processes=lambda: {"work-0": True}, associations=lambda: 0, threads=lambda: True, port=lambda: 0)
LIMIT_KIB = 200 * 1024


def config(folder: Path, *, node: str = "", retention: str = "") -> Config:
    """A config with these lines in its tables."""
    (folder / "config").mkdir(exist_ok=True)
    (folder / "config" / "node.toml").write_text(
        f'[node]\ndata_folder = "../var"\n{node}\n[peers.scanner]\nae_title = "SCANNER"\nmay = ["store"]\n'
        f"[retention]\n{retention}\n"
    )
    (folder / "config" / "rules.toml").write_text("")
    return load_config(folder / "config")


def receive(database: Database, files: InstanceFiles, series: str, *, days_ago: float) -> None:
    """A closed series of one instance that no rule wanted."""
    at = datetime.now(UTC) - timedelta(days=days_ago)
    one = instance(1, series=series)
    files.keep_arrival(one.sop_instance_uid, [b"bytes"])
    with database.begin() as connection:
        catalog.add_instances(connection, [catalog.Instance(**{**as_dict(one), "received_at": at})])
        catalog.close_series(connection, series, generation=1, instance_count=1, because="all here", now=at)
    os.utime(files.settle(one.sop_instance_uid), (at.timestamp(), at.timestamp()))


def as_dict(one: catalog.Instance) -> dict[str, object]:
    return {name: getattr(one, name) for name in catalog.Instance.__slots__}


def upkeep(folder: Path, database: Database, settings: Config, life: Life = LIFE) -> Upkeep:
    return Upkeep(lambda: settings, database, InstanceFiles(folder / "var"), life)


def series_of(database: Database) -> list[str]:
    with database.read() as connection:
        return [one.series_instance_uid for one in catalog.list_series(connection)]


def test_nothing_is_removed_unless_the_administrator_says_so(tmp_path: Path, database: Database) -> None:
    receive(database, InstanceFiles(tmp_path / "var"), "1.1", days_ago=10_000)
    assert upkeep(tmp_path, database, config(tmp_path)).sweep() == 0
    assert series_of(database) == ["1.1"]


def test_requests_for_commitment_are_forgotten_after_their_days_and_never_while_they_are_open(
    tmp_path: Path, database: Database
) -> None:
    at = datetime.now(UTC) - timedelta(days=31)
    with database.begin() as connection:
        for peer in ("told", "waiting"):
            promises.open_promise(connection, peer, "2.25.1", [Reference("1.2", "1.2.3")], report_at=at, now=at)
        promises.finish_promise(connection, promises.get_promise(connection, 1), now=at)
    assert upkeep(tmp_path, database, config(tmp_path)).forget_commitments() == 0
    assert upkeep(tmp_path, database, config(tmp_path, retention="commitment_days = 30")).forget_commitments() == 1
    with database.read() as connection:
        assert [one.peer for one in promises.list_promises(connection)] == ["waiting"]


def test_a_sweep_removes_what_has_been_kept_its_days_and_tells_the_audit(tmp_path: Path, database: Database) -> None:
    files = InstanceFiles(tmp_path / "var")
    receive(database, files, "1.1", days_ago=31)
    receive(database, files, "1.2", days_ago=29)
    assert upkeep(tmp_path, database, config(tmp_path, retention="keep_days = 30")).sweep() == 1
    assert series_of(database) == ["1.2"] and not files.places_of("1.1.1")[0].exists()
    with database.read() as connection:
        (row,) = audit.entries(connection, series_instance_uid="1.1")
    assert row.event == "removed" and row.details["instances"] == 1


def test_the_command_shows_what_would_go_and_removes_nothing(tmp_path: Path) -> None:
    settings = config(tmp_path, retention="keep_days = 30")
    files = InstanceFiles(settings.data_folder)
    database = Database.open(settings.database_url)
    database.migrate()
    receive(database, files, "1.1", days_ago=31)
    command = [sys.executable, "-m", "dicomnode", "retention", "--config", str(settings.folder)]
    shown = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, timeout=60).stdout
    (family,) = json.loads(shown)
    assert (family["series_instance_uid"], family["instances"], family["delivered"]) == ("1.1", 1, False)
    table = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "1.1" in table and "done with since" in table
    assert series_of(database) == ["1.1"] and files.places_of("1.1.1")[0].exists()
    database.close()


def test_no_room_means_that_nothing_more_is_received(tmp_path: Path, database: Database) -> None:
    assert not upkeep(tmp_path, database, config(tmp_path, retention="low_watermark_gb = 1e9")).has_room()
    assert upkeep(tmp_path, database, config(tmp_path, retention="low_watermark_gb = 0")).has_room()


def test_a_disk_that_cannot_be_asked_has_no_room(tmp_path: Path, database: Database) -> None:
    keeper = upkeep(tmp_path, database, config(tmp_path))
    (tmp_path / "var").rename(tmp_path / "gone")
    assert not keeper.has_room()


def test_room_that_would_be_made_too_late_is_a_mistake_of_the_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigFault, match="make_room_gb must be more than low_watermark_gb"):
        config(tmp_path, retention="make_room_gb = 5\nlow_watermark_gb = 5")


def test_a_monitor_port_that_is_taken_is_said_to_be_so(tmp_path: Path, database: Database) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        keeper = upkeep(tmp_path, database, config(tmp_path, node=f"http_port = {taken.getsockname()[1]}"))
        with pytest.raises(ConfigFault, match=r"node\.http_port: cannot listen on"):
            keeper.start()


def test_no_port_is_open_where_none_is_asked_for(tmp_path: Path, database: Database) -> None:
    keeper = upkeep(tmp_path, database, config(tmp_path))
    keeper.start()
    assert keeper._monitor is None
    keeper.stop()


def test_systemd_hears_as_long_as_the_threads_of_the_river_live(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    lives = [True]
    life = Life(processes=dict, associations=lambda: 0, threads=lambda: lives[0], port=lambda: 0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "100000")
        keeper = upkeep(tmp_path, database, config(tmp_path), life)
        keeper.start()
        assert systemd.recv(64) == systemd.recv(64) == b"WATCHDOG=1"
        lives[0] = False
        systemd.settimeout(1)
        with pytest.raises(TimeoutError):
            while True:  # what was on its way, then silence
                systemd.recv(64)
        keeper.stop()


def test_the_engine_is_told_to_forget_what_ended_a_week_ago(tmp_path: Path, database: Database) -> None:
    asked: queue.Queue[datetime] = queue.Queue()

    def forget(before: datetime) -> int:
        asked.put(before)
        return 3

    settings = config(tmp_path)
    keeper = Upkeep(lambda: settings, database, InstanceFiles(tmp_path / "var"), LIFE, forget_runs=forget)
    keeper.start()
    before = asked.get(timeout=30)
    keeper.stop()
    assert timedelta(days=7) <= datetime.now(UTC) - before < timedelta(days=7, minutes=5)


def test_a_port_answers_only_while_somebody_listens() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        assert answers_at("127.0.0.1", port) and answers_at("0.0.0.0", port)
    assert not answers_at("127.0.0.1", port) and not answers_at("127.0.0.1", 0)


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[RunningNode, int, socket.socket]]:
    """A running node with a monitor port, JSON logs and a stand-in of systemd."""
    port = free_port()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        more = f'http_port = {port}\nlog_format = "json"'
        running = RunningNode(tmp_path, free_port(), rules="", more_node=more).start()
        yield running, port, systemd
        if running.process is not None and running.process.poll() is None:
            running.kill()


def ask(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def figures(port: int) -> dict[str, float]:
    """Name{labels} -> value."""
    families = text_string_to_metric_families(ask(port, "/metrics")[1])
    return {f"{one.name}{sorted(one.labels.values())}": one.value for family in families for one in family.samples}


def test_a_running_node_is_alive_ready_and_counts_what_it_receives(
    watched: tuple[RunningNode, int, socket.socket], tmp_path: Path
) -> None:
    node, port, systemd = watched
    assert systemd.recv(64) == b"READY=1"
    assert ask(port, "/healthz") == (200, "alive\n")
    wait_until(lambda: ask(port, "/readyz")[0] == 200, what="the node ready")
    scanner = AE(SCANNER_AE)
    scanner.add_requested_context(CTImageStorage, "1.2.840.10008.1.2.1")
    association = scanner.associate("127.0.0.1", node.port, ae_title=NODE_AE)
    assert association.is_established
    for path in write_ct_series(tmp_path / "source", slices=3):
        assert association.send_c_store(dcmread(path)).Status == 0x0000
    counted = wait_until(
        lambda: (found := figures(port)).get("dicomnode_received_instances_total['scanner']") == 3 and found,
        what="three instances counted",
    )
    assert counted["dicomnode_received_bytes_total['scanner']"] > 0 and counted["dicomnode_associations_open[]"] == 1
    assert counted["dicomnode_database_up[]"] == 1 and counted["process_resident_memory_bytes[]"] < LIMIT_KIB * 1024
    association.release()
    before = node.processes()["send"]
    os.kill(before, 9)
    wait_until(lambda: node.processes().get("send") not in (None, before), what="the sender running again")
    wait_until(lambda: ask(port, "/readyz")[0] == 200, what="the node ready again")
    wait_until(lambda: figures(port).get("dicomnode_happenings_total['process restarted']") == 1, what="it counted")
    assert node.stop() == 0
    assert systemd.recv(64) == b"STOPPING=1"
    lines = [line for line in node.log().splitlines() if line.strip()]
    assert all(set(json.loads(line)) >= {"time", "level", "room", "message"} for line in lines)
