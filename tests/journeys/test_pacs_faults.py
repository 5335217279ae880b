"""A PACS that is gone, refuses, breaks off, dawdles or rejects: everything is delivered once in the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread

from storage.database import Database
from storage.lanes import Lane, get_lane
from tests.builders_dicom import write_ct_series
from tests.builders_stream import CountingPacs, Scanner, assert_everything_was_delivered_once
from tests.peers import RunningNode, free_port, storescp, storescu, wait_until
from tests.peers_config import RULES_TOML

pytestmark = pytest.mark.peer

BOTH = RULES_TOML.replace('send_to = ["pacs"]', 'send_to = ["archive", "pacs"]')
ARCHIVE = '[peers.archive]\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\nport = {port}\nmay = []\n'
FAULTS = {
    "refuses": ["--refuse"],
    "aborts before its answer": ["--abort-after"],
    "aborts in an instance": ["--abort-during"],
    "dawdles": ["--sleep-during", "1"],
}


def states(node: RunningNode, destination: str) -> list[str]:
    """How the deliveries to that destination stand."""
    return [one["state"] for job in node.jobs() for one in job["deliveries"] if one["destination"] == destination]


def tries(node: RunningNode, destination: str) -> int:
    """How often that destination was tried in vain: deliveries that broke off, and associations never opened."""
    found = [one for job in node.jobs() for one in job["deliveries"] if one["destination"] == destination]
    return sum(int(one["attempts"]) for one in found) + lane_of(node, destination).failures


def lane_of(node: RunningNode, destination: str) -> Lane:
    """How the destination is served now."""
    database = Database.open(f"sqlite:///{node.folder / 'var' / 'node.sqlite'}")
    with database.read() as connection:
        lane = get_lane(connection, destination)
    database.close()
    return lane


def test_a_pacs_that_fails_in_every_way_in_turn_holds_up_nobody_and_gets_everything_once_it_is_mended(
    counting_pacs: CountingPacs, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    port = free_port()
    node = make_node(
        counting_pacs.port, rules=BOTH, more=ARCHIVE.format(port=port), retry_first_s=0.3, retry_longest_s=0.6
    ).start()
    sent = 0
    for name, options in FAULTS.items():
        place = tmp_path / name
        place.mkdir()
        with storescp(port, "-od", str(place), *options):
            sent += 1
            files = write_ct_series(tmp_path / "source" / name, slices=3)
            assert storescu(node.port, files).returncode == 0
            wait_until(lambda sent=sent: states(node, "pacs").count("done") == sent, what=f"the PACS: archive {name}")
            before = tries(node, "archive")
            if name != "dawdles":
                wait_until(lambda before=before: tries(node, "archive") > before, what=f"a try while it {name}")
    mended = tmp_path / "mended"
    mended.mkdir()
    with storescp(port, "-od", str(mended)):
        jobs = node.wait_for_jobs({"delivered"}, count=len(FAULTS))
    assert node.stop() == 0
    wanted = set(counting_pacs.held)
    assert len(wanted) == 3 * len(FAULTS) and len(jobs) == len(FAULTS)
    assert set(counting_pacs.stored.values()) == {1}
    # An instance that was taken but not answered comes again: the archive holds it once, with one content.
    found: dict[str, set[str]] = {}
    for path in [each for place in (mended, *(tmp_path / name for name in FAULTS)) for each in place.iterdir()]:
        dataset = dcmread(path)
        found.setdefault(str(dataset.SOPInstanceUID), set()).add(dataset.PixelData)
    assert set(found) == wanted
    assert all(len(contents) == 1 for contents in found.values())


def test_a_pacs_that_is_gone_for_a_while_gets_every_instance_once(
    counting_pacs: CountingPacs, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = make_node(counting_pacs.port, quiet_seconds=300.0).start()
    scanner = Scanner(node.port, tmp_path / "sources").start()
    for _ in range(2):
        counting_pacs.stop()
        wait_until(lambda: (lane := lane_of(node, "pacs")).broken and lane.failures >= 2, what="tries in vain")
        held = len(counting_pacs.held)
        counting_pacs.start()
        wait_until(lambda held=held: len(counting_pacs.held) >= held + 8, what="deliveries")
    scanner.finish()
    assert_everything_was_delivered_once(node, scanner, counting_pacs)
    twice = [uid for uid, count in counting_pacs.stored.items() if count > 1]
    assert len(twice) <= 2, "only what it took and could not answer may come again"


def test_a_pacs_that_asks_for_time_gets_it_and_then_everything(
    counting_pacs: CountingPacs, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    asked: list[str] = []

    def out_of_resources(uid: str) -> int:
        asked.append(uid)
        return 0xA700

    counting_pacs.answer = out_of_resources
    node = make_node(counting_pacs.port).start()
    assert storescu(node.port, write_ct_series(tmp_path / "source", slices=4)).returncode == 0
    wait_until(lambda: len(asked) >= 8, what="a second try")
    assert {job["state"] for job in node.jobs()} == {"sending"} and counting_pacs.held == {}
    counting_pacs.answer = lambda uid: 0x0000
    node.wait_for_jobs({"delivered"}, count=1)
    assert len(counting_pacs.held) == 4 and set(counting_pacs.stored.values()) == {1}


def test_an_instance_that_the_pacs_rejects_fails_its_job_by_name_and_is_delivered_after_a_requeue(
    counting_pacs: CountingPacs, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    rejected: list[str] = []

    def cannot_understand_one(uid: str) -> int:
        if not rejected:
            rejected.append(uid)
        return 0xC000 if uid == rejected[0] else 0x0000

    counting_pacs.answer = cannot_understand_one
    node = make_node(counting_pacs.port).start()
    assert storescu(node.port, write_ct_series(tmp_path / "source", slices=4)).returncode == 0
    (job,) = node.wait_for_jobs({"failed"}, count=1)
    assert "pacs rejected 1 of 4" in job["reason"]
    assert len(counting_pacs.held) == 3  # the others went on

    counting_pacs.answer = lambda uid: 0x0000
    answer = node.command("requeue", str(job["id"]))
    assert answer.returncode == 0, answer.stderr
    node.wait_for_jobs({"delivered"}, count=1)
    assert len(counting_pacs.held) == 4 and set(counting_pacs.stored.values()) == {1}
