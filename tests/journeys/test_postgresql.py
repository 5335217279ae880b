"""The same river on PostgreSQL: one line in node.toml, and the same promises."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders_database import address, create_database, postgresql_server
from tests.builders_dicom import write_ct_series
from tests.builders_stream import (
    CountingPacs,
    Scanner,
    assert_everything_was_delivered_once,
    assert_nothing_was_lost,
)
from tests.peers import Orthanc, RunningNode, storescu, wait_until

pytestmark = pytest.mark.peer


def test_the_river_runs_on_postgresql_and_survives_the_death_of_its_processes(
    database_url: str, pacs: Orthanc, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = make_node(pacs.dicom_port, database=database_url).start()
    for number in range(4):
        files = write_ct_series(tmp_path / str(number), slices=6, rows=256, columns=256)
        assert storescu(node.port, files).returncode == 0
    os.kill(node.processes()["work"], signal.SIGKILL)
    node.kill()
    node.start()
    jobs = node.wait_for_jobs({"delivered"}, count=4)
    held = pacs.series()
    assert {job["derived_series_instance_uid"] for job in jobs} == set(held)
    assert all(len(one["instances"]) == 6 for one in held.values())
    verified = node.command("audit", "verify")
    assert verified.returncode == 0, verified.stderr
    assert not (node.folder / "var" / "node.sqlite").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop_at_once", "kill"])
def test_postgresql_itself_dies_and_comes_back_in_a_stream_and_nobody_need_do_anything(
    how: str, counting_pacs: CountingPacs, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    with postgresql_server() as server:
        url = address(create_database(server.url, "CREATE DATABASE {name}")).replace(":@", "@")
        node = make_node(counting_pacs.port, database=url, quiet_seconds=300.0).start()
        scanner = Scanner(node.port, tmp_path / "sources").start()
        for _ in range(2):
            so_many = len(scanner.completed) + 3
            wait_until(lambda so_many=so_many: len(scanner.completed) >= so_many, what="a stream")
            getattr(server, how)()
            promised, heard = len(scanner.acknowledged), scanner.not_now.copy()
            # A file is durable without a database: the scanner hears success all the while.
            wait_until(lambda promised=promised: len(scanner.acknowledged) >= promised + 12, what="success meanwhile")
            assert scanner.not_now == heard
            server.start()
        wait_until(lambda so_many=so_many: len(scanner.completed) >= so_many + 5, what="a stream")
        scanner.finish()
        assert node.process is not None and node.process.poll() is None
        assert_everything_was_delivered_once(node, scanner, counting_pacs)
        assert_nothing_was_lost(node, scanner)
        assert node.stop() == 0


def test_a_job_that_computes_while_postgresql_restarts_is_done_once_and_its_node_keeps_its_place(
    counting_pacs: CountingPacs, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    with postgresql_server() as server:
        url = address(create_database(server.url, "CREATE DATABASE {name}")).replace(":@", "@")
        node = make_node(counting_pacs.port, database=url).start()
        assert storescu(node.port, write_ct_series(tmp_path / "long", slices=40, rows=512, columns=512)).returncode == 0
        wait_until(lambda: [job for job in node.jobs() if job["state"] == "running"], what="the job running")
        server.stop_at_once()
        server.start()
        (job,) = node.wait_for_jobs({"delivered"}, count=1)
        # The locks by which processes know each other lived in the sessions that ended: none may be taken for dead.
        assert job["attempts"] == 1, node.log()[-3000:]
        second = RunningNode(node.folder, counting_pacs.port, database=url)
        second.write_config()
        answer = second.command("run")
        assert answer.returncode == 1 and "another node runs on it" in answer.stderr, answer.stderr
        assert len(counting_pacs.held) == 40 and set(counting_pacs.stored.values()) == {1}
