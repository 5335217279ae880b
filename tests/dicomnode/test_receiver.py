"""Receiving is done by processes of their own: they share the port, and what one has acknowledged outlives it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from dicomnode.tls import client_context, names_of
from storage import catalog
from storage.database import Database
from tests.builders_dicom import write_ct_series
from tests.builders_receive import (
    RawPeer,
    associate_request,
    encoded_data_set,
    sop_instance_uid_of,
    store_command,
)
from tests.builders_tls import Authority, Certified, peer_over_tls
from tests.peers import RunningNode, free_port, storescu, wait_until

ROOT = Path(__file__).parents[2]
REJECTED = 0x03
RELEASE, RELEASED = b"\x05\0\0\0\0\x04\0\0\0\0", 0x06
PIECE = 131_000
PEERS = 40
"""At most: on a busy machine one receiver can take many before the other is awake."""
MIB = 1 << 20
MOST_RSS = 150 * MIB


@contextmanager
def running(folder: Path, more_node: str, **options: Any) -> Iterator[RunningNode]:
    """A node that is ended with its tests."""
    node = RunningNode(folder, free_port(), rules="", more_node=more_node, **options).start()
    yield node
    if node.process is not None and node.process.poll() is None:
        node.kill()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A node with two receivers; every test leaves both of them alive."""
    with running(tmp_path_factory.mktemp("two"), "receivers = 2\n") as node:
        yield node


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A node with one receiver; every test leaves it alive."""
    with running(tmp_path_factory.mktemp("one"), "receivers = 1\n") as node:
        yield node


def receivers(node: RunningNode) -> dict[str, int]:
    return {role: number for role, number in node.processes().items() if role.startswith("receive")}


def connections(process_id: int) -> int:
    """How many TCP connections the process has: a TCP socket that does not listen."""
    rows = [row.split() for row in Path(f"/proc/{process_id}/net/tcp").read_text().splitlines()[1:]]
    established = {row[9] for row in rows if row[3] == "01"}
    found = 0
    for descriptor in Path(f"/proc/{process_id}/fd").iterdir():
        with suppress(FileNotFoundError):
            found += str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]") in established
    return found


def rss(process_id: int) -> int:
    return int(Path(f"/proc/{process_id}/status").read_text().split("VmRSS:")[1].split()[0]) * 1024


def store(peer: RawPeer, uid: str, content: bytes) -> int:
    peer.send_fragment(3, store_command(uid))
    for at in range(0, len(content), PIECE):
        peer.send_fragment(2 if at + PIECE >= len(content) else 0, content[at : at + PIECE])
    return peer.read_status()


def instances_of(folder: Path, **options: Any) -> list[tuple[str, bytes]]:
    """SOP Instance UID and data set of each slice of a CT."""
    return [(sop_instance_uid_of(file), encoded_data_set(file)) for file in write_ct_series(folder, **options)]


def listed(node: RunningNode, uids: list[str]) -> set[str]:
    """Which of the instances are in the catalogue."""
    database = Database.open(f"sqlite:///{node.folder / 'var' / 'node.sqlite'}")
    with database.read() as connection:
        found = catalog.known_instances(connection, uids)
    database.close()
    return set(found)


def test_a_receiving_process_knows_no_database_and_no_torch() -> None:
    imported = "import sys, dicomnode.receiver, dicomnode.cli"
    code = f"{imported}; sys.exit(bool({{'torch', 'sqlalchemy', 'dbos'}} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_two_receivers_share_the_port_and_the_limit(two: RunningNode) -> None:
    with ExitStack() as stack:
        peers = [stack.enter_context(RawPeer(two.port)) for _ in range(64)]
        held = [connections(one) for one in receivers(two).values()]
        # 32 each, but on a busy machine whoever is awake goes on.
        assert sum(held) == 64 and min(held) >= 8
        with RawPeer(two.port, associate=False) as one_more:
            one_more.send(associate_request())
            assert one_more.read_pdu()[0] == REJECTED
        peers[0].send(RELEASE)
        assert peers[0].read_pdu()[0] == RELEASED

        def is_accepted() -> bool:
            with RawPeer(two.port, associate=False) as next_one:
                next_one.send(associate_request())
                return next_one.read_pdu()[0] != REJECTED

        wait_until(is_accepted, seconds=30, what="a free place being given")


def test_kill_9_of_a_receiver_loses_nothing_that_was_acknowledged_and_the_other_goes_on(
    two: RunningNode, tmp_path: Path
) -> None:
    instances = instances_of(tmp_path / "ct", slices=10 * PEERS)
    acknowledged: list[str] = []
    killed = threading.Event()

    def send(number: int) -> str:
        for position, (uid, content) in enumerate(instances[10 * number : 10 * number + 10]):
            if position == 5 and number == 0:
                os.kill(victim, signal.SIGKILL)
                killed.set()
            try:
                assert store(peers[number], uid, content) == 0x0000
            except (OSError, AssertionError):
                return "broken"
            acknowledged.append(uid)
            if position == 5:
                assert killed.wait(60)
        return "whole"

    before = receivers(two)
    victim = before["receive"]
    lives = two.log().count("receive-0 receives")
    with ExitStack() as stack, ThreadPoolExecutor(PEERS) as pool:
        peers: list[RawPeer] = []
        while len(peers) < 8 or min(map(connections, before.values())) < 2:
            assert len(peers) < PEERS, "a receiver takes no association"
            peers.append(stack.enter_context(RawPeer(two.port)))
        ends = list(pool.map(send, range(len(peers))))
    assert set(ends) == {"broken", "whole"}, ends
    assert len(acknowledged) >= 10 * ends.count("whole")
    wait_until(lambda: listed(two, acknowledged) == set(acknowledged), seconds=30, what="everything being listed")
    wait_until(lambda: two.log().count("receive-0 receives") > lives, seconds=60, what="the dead one being back")
    after = receivers(two)
    assert after["receive"] != victim and after["receive-1"] == before["receive-1"]
    with ExitStack() as stack:
        for _ in range(32):
            stack.enter_context(RawPeer(two.port))
        assert min(connections(one) for one in after.values()) >= 4
    restarted = [row for row in two.audit() if row["event"] == "process restarted"]
    assert any("receive-0 ended (killed by SIGKILL)" in row["details"]["what"] for row in restarted)


def test_a_connection_waits_while_the_only_receiver_is_started_again(one: RunningNode) -> None:
    os.kill(receivers(one)["receive"], signal.SIGKILL)
    with RawPeer(one.port) as peer:  # asks at once, and is answered by the next one
        peer.send(RELEASE)
        assert peer.read_pdu()[0] == RELEASED


def test_half_an_instance_of_a_killed_receiver_does_not_stay_on_the_disk(one: RunningNode, tmp_path: Path) -> None:
    ((uid, content),) = instances_of(tmp_path / "ct", slices=1, rows=512, columns=512)
    incoming = one.folder / "var" / "incoming"
    with RawPeer(one.port) as peer:
        peer.send_fragment(3, store_command(uid))
        for at in range(0, 3 * PIECE, PIECE):
            peer.send_fragment(0, content[at : at + PIECE])
        wait_until(lambda: list(incoming.glob("*.part")), what="the instance being written")
        os.kill(receivers(one)["receive"], signal.SIGKILL)
    wait_until(lambda: not list(incoming.glob("*.part")), seconds=60, what="the half being removed")


def test_sixty_four_associations_in_the_middle_of_a_ct_each_fit_into_150_mib(one: RunningNode, tmp_path: Path) -> None:
    ((uid, content),) = instances_of(tmp_path / "ct", slices=1, rows=512, columns=512)
    with ExitStack() as stack:
        peers = [stack.enter_context(RawPeer(one.port)) for _ in range(64)]
        for peer in peers:
            peer.send_fragment(3, store_command(uid))
            for at in range(0, 3 * PIECE, PIECE):
                peer.send_fragment(0, content[at : at + PIECE])
        incoming = one.folder / "var" / "incoming"

        def all_are_being_written() -> bool:
            sizes = [part.stat().st_size for part in incoming.glob("*.part")]
            return len(sizes) == 64 and min(sizes) >= 2 * PIECE

        wait_until(all_are_being_written, what="64 instances being written")
        used = rss(receivers(one)["receive"])
        assert used < MOST_RSS, f"{used / MIB:.0f} MiB"
        for peer in peers:
            peer.send_fragment(0, content[3 * PIECE : 4 * PIECE])
            peer.send_fragment(2, content[4 * PIECE :])
        assert {peer.read_status() for peer in peers} == {0x0000}


def test_five_thousand_probes_leave_no_memory(two: RunningNode) -> None:

    def knock(times: int) -> dict[str, int]:
        for _ in range(times):
            with socket.create_connection(("127.0.0.1", two.port), timeout=20) as probe:
                probe.shutdown(socket.SHUT_WR)
                assert probe.recv(1) == b""  # so that no more wait than the backlog takes
        time.sleep(0.5)  # the last of them end
        return {role: rss(number) for role, number in receivers(two).items()}

    before = knock(500)
    after = knock(5000)
    # What a probe left in stock pynetdicom, an association of 200 KB or so, would be a thousand MiB.
    assert all(after[role] - before[role] < 4 * MIB for role in before), (before, after)


def test_sigterm_lets_an_open_association_end_and_what_came_last_is_listed(tmp_path: Path) -> None:
    ((uid, content),) = instances_of(tmp_path / "ct", slices=1, rows=512, columns=512)
    with running(tmp_path, "receivers = 2\n") as node, RawPeer(node.port) as peer, ThreadPoolExecutor(1) as pool:
        peer.send_fragment(3, store_command(uid))
        peer.send_fragment(0, content[:PIECE])
        ended = pool.submit(node.stop)
        wait_until(lambda: is_refused(node.port), seconds=20, what="the port being closed")
        for at in range(PIECE, len(content), PIECE):
            peer.send_fragment(2 if at + PIECE >= len(content) else 0, content[at : at + PIECE])
        assert peer.read_status() == 0x0000
        peer.send(RELEASE)
        assert peer.read_pdu()[0] == RELEASED
        assert ended.result(60) == 0
        assert listed(node, [uid]) == {uid}
        assert "association released" in [row["event"] for row in node.audit()]


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_reload_reaches_every_receiver(two: RunningNode) -> None:
    file = two.config / "node.toml"
    before = file.read_text()

    def answers() -> set[int]:
        heard = set()
        for _ in range(4):  # both in turn
            with RawPeer(two.port, associate=False) as peer:
                peer.send(associate_request())
                heard.add(peer.read_pdu()[0])
        return heard

    assert two.process is not None
    for text, expected in ((before.replace('ae_title = "SCANNER"', 'ae_title = "OTHER"'), REJECTED), (before, 0x02)):
        file.write_text(text)
        two.process.send_signal(signal.SIGHUP)
        wait_until(lambda expected=expected: answers() == {expected}, seconds=20, what="both knowing the new peers")


def test_ipv6_is_listened_to(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with running(tmp_path, "", host="::1") as node:
        with socket.create_connection(("::1", node.port), timeout=20) as connection:
            connection.sendall(associate_request())
            assert connection.recv(1) == b"\x02"
        checked = node.command("check")
        assert (
            f"port {node.port}" in checked.stdout and "not free" in checked.stdout and "Traceback" not in checked.stderr
        )


@pytest.mark.peer
def test_every_receiver_accepts_at_the_tls_port_too_and_has_a_renewed_certificate_after_a_reload(
    tmp_path: Path,
) -> None:
    authority, tls_port = Authority(tmp_path / "ca"), free_port()
    ours, scanner = authority.certified("node"), authority.certified("scanner")
    stranger = Authority(tmp_path / "other", "Other CA").certified("scanner")
    files = write_ct_series(tmp_path / "ct", slices=4)
    with running(tmp_path, "receivers = 2\n", more=f"{ours.toml}port = {tls_port}\n") as node:
        assert storescu(node.port, files[:1]).returncode == 0
        assert storescu(tls_port, files[1:2], options=scanner.dcmtk).returncode == 0
        assert storescu(tls_port, files[2:3]).returncode != 0
        assert storescu(tls_port, files[2:3], options=stranger.dcmtk).returncode != 0
        renewed = authority.certified("node", names="DNS:localhost,IP:127.0.0.1,DNS:renewed")
        ours.certificate.write_bytes(renewed.certificate.read_bytes())
        ours.key.write_bytes(renewed.key.read_bytes())
        assert node.process is not None
        node.process.send_signal(signal.SIGHUP)

        def shown() -> set[bool]:
            return {"renewed" in certificate_names(tls_port, scanner) for _ in range(4)}  # both in turn

        wait_until(lambda: shown() == {True}, seconds=20, what="both showing the new certificate")
        assert storescu(tls_port, files[2:3], options=scanner.dcmtk).returncode == 0
        sent = [sop_instance_uid_of(file) for file in files[:3]]
        wait_until(lambda: listed(node, sent) == set(sent), seconds=20, what="everything being listed")
        assert node.stop() == 0


def certificate_names(port: int, caller: Certified) -> frozenset[str]:
    """What the certificate bears that is shown at the port."""
    peer = peer_over_tls(port)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        context = client_context(caller.identity, peer)
        with context.wrap_socket(connection, server_hostname=peer.certificate_host) as secure:
            return names_of(secure.getpeercert())
