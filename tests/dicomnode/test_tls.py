"""Over TLS a peer is who its certificate says, both ways; whoever cannot show one is refused and keeps nobody out."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dicomnode.peer import Peer
from dicomnode.tls import client_context, server_context
from storage.instance_files import InstanceFiles
from tests.builders_dicom import write_ct_series
from tests.builders_receive import QUICK, RawPeer, Station, encoded_data_set, store_command
from tests.builders_tls import Authority, Certified, peer_over_tls
from tests.peers import program, storescu, wait_until

PEERS = {
    "scanner": Peer(
        name="scanner", ae_title="SCANNER", may=("store",), tls=True, certificate_names=("scanner", "scanner-2")
    ),
    "viewer": Peer(name="viewer", ae_title="VIEWER", may=("store",), tls=True, certificate_names=("viewer",)),
    "old": Peer(name="old", ae_title="OLD", may=("store",)),
}
ABORT = 0x07


@pytest.fixture
def station(tmp_path: Path, authority: Authority) -> Iterator[Station]:
    station = Station(InstanceFiles(tmp_path / "var"), authority=authority, peers=PEERS)
    yield station
    station.receiver.stop(drain_s=5)


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_ct_series(tmp_path_factory.mktemp("ct"), slices=3, rows=256, columns=256)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def reasons(station: Station) -> list[str]:
    return [str(details["reason"]) for event, _, details in station.told if event == "association refused"]


def send(station: Station, files: list[Path], party: Certified, **options: Any) -> int:
    """What storescu ends with when it sends as that party."""
    return storescu(station.tls_port, files, options=party.dcmtk, **options).returncode


# Calling us


@pytest.mark.peer
def test_what_storescu_sends_over_tls_is_kept_byte_for_byte_as_without(
    station: Station, authority: Authority, series: list[Path], tmp_path: Path
) -> None:
    assert send(station, series, authority.certified("scanner")) == 0
    plain = Station(InstanceFiles(tmp_path / "plain"))
    assert storescu(plain.port, series).returncode == 0
    plain.receiver.stop(drain_s=5)
    kept, expected = ({p.name: p.read_bytes() for p in one.files.arrivals()} for one in (station, plain))
    assert kept == expected
    assert len(kept) == len(series)
    wait_until(lambda: "association released" in station.events(), what="the release")


@pytest.mark.peer
def test_an_instance_of_several_megabytes_comes_whole(station: Station, authority: Authority, tmp_path: Path) -> None:
    long = write_ct_series(tmp_path / "long", slices=1, rows=2048, columns=2048)
    assert send(station, long, authority.certified("scanner")) == 0
    (kept,) = station.files.arrivals()
    assert encoded_data_set(kept) == encoded_data_set(long[0])


@pytest.mark.peer
def test_echoscu_is_answered_over_tls(station: Station, authority: Authority) -> None:
    command = [program("echoscu"), *authority.certified("scanner").dcmtk, "-aet", "SCANNER", "-aec", "DICOMNODE"]
    done = subprocess.run([*command, "127.0.0.1", str(station.tls_port)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.peer
def test_sixteen_senders_at_once_are_all_kept_and_limit_and_count_hold_over_both_ports(
    tmp_path: Path, authority: Authority
) -> None:
    station = Station(InstanceFiles(tmp_path / "var"), authority=authority, maximum_associations=17, peers=PEERS)
    party = authority.certified("scanner")
    folders = [write_ct_series(tmp_path / str(number), slices=3, rows=128, columns=128) for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda files: send(station, files, party), folders)) == [0] * 16
    assert len(station.files.arrivals()) == 48
    wait_until(lambda: station.receiver.open_associations == 0, what="the associations ended")
    callers = [station.call() for _ in range(17)]
    assert station.receiver.open_associations == 17
    with pytest.raises(AssertionError, match="PDU 0x03"):
        station.call()
    assert storescu(station.port, folders[0], calling="OLD").returncode != 0
    for caller in callers:
        caller.socket.close()
    station.receiver.stop(drain_s=5)


@pytest.mark.peer
@pytest.mark.parametrize(
    ("party", "reason"),
    [
        ("of another authority", "its certificate is not accepted: unable to get local issuer certificate"),
        ("expired", "its certificate is not accepted: certificate has expired"),
        ("without certificate", "the handshake failed: peer did not return a certificate"),
    ],
)
def test_a_caller_that_our_authorities_do_not_vouch_for_gets_no_association(
    station: Station,
    authority: Authority,
    other_authority: Authority,
    series: list[Path],
    party: str,
    reason: str,
) -> None:
    other = other_authority.certified("scanner")
    options = {
        "of another authority": ["+tls", str(other.key), str(other.certificate), "+cf", str(authority.certificate)],
        "expired": authority.certified("scanner", days=0).dcmtk,
        "without certificate": ["+tla", "+cf", str(authority.certificate)],
    }[party]
    assert storescu(station.tls_port, series, options=options).returncode != 0
    wait_until(lambda: reasons(station), what="the refusal")
    assert reasons(station) == [reason]
    assert station.files.arrivals() == []


@pytest.mark.peer
def test_an_ae_title_with_the_certificate_of_another_is_refused(
    station: Station, authority: Authority, series: list[Path]
) -> None:
    assert send(station, series, authority.certified("scanner"), calling="VIEWER") != 0
    assert send(station, series, authority.certified("scanner-2")) == 0
    (reason,) = reasons(station)
    assert reason == "the certificate shown by 'VIEWER' bears none of its certificate_names"


@pytest.mark.peer
def test_a_peer_of_tls_is_refused_without_it_and_another_may_call_both_ways(
    station: Station, authority: Authority, series: list[Path]
) -> None:
    assert storescu(station.port, series).returncode != 0
    assert reasons(station) == ["'SCANNER' calls without TLS, and node.toml says tls = true"]
    assert storescu(station.port, series, calling="OLD").returncode == 0
    assert send(station, series, authority.certified("scanner"), calling="OLD") == 0


@pytest.mark.peer
def test_tls_on_the_port_without_and_none_on_the_port_with_are_refused(
    station: Station, authority: Authority, series: list[Path]
) -> None:
    assert storescu(station.port, series, options=authority.certified("scanner").dcmtk).returncode != 0
    assert storescu(station.tls_port, series).returncode != 0
    wait_until(lambda: reasons(station), what="the refusal")
    assert send(station, series, authority.certified("scanner")) == 0


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_tls_before_1_2_is_refused(station: Station, authority: Authority, version: ssl.TLSVersion) -> None:
    old = weak_context(authority)
    old.minimum_version = old.maximum_version = version
    old.set_ciphers("ALL:@SECLEVEL=0")
    assert_no_handshake(station, old)


@pytest.mark.parametrize("ciphers", ["AES256-GCM-SHA384", "ECDHE-RSA-AES256-SHA384", "DHE-RSA-AES256-GCM-SHA384"])
def test_ciphers_against_bcp_195_are_refused(station: Station, authority: Authority, ciphers: str) -> None:
    weak = weak_context(authority)
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers(ciphers)
    assert_no_handshake(station, weak)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(station: Station, authority: Authority, version: ssl.TLSVersion) -> None:
    good = client_context(authority.certified("scanner").identity, peer_over_tls(1))
    good.minimum_version = good.maximum_version = version
    with RawPeer(station.tls_port, tls=good) as peer:
        assert isinstance(peer.socket, ssl.SSLSocket)
        assert peer.socket.compression() is None


def weak_context(authority: Authority) -> ssl.SSLContext:
    """A client that takes whatever the server agrees to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    party = authority.certified("scanner")
    context.load_cert_chain(party.certificate, party.key)
    return context


def assert_no_handshake(station: Station, context: ssl.SSLContext) -> None:
    with pytest.raises(OSError), RawPeer(station.tls_port, tls=context):
        pass
    wait_until(lambda: reasons(station), what="the refusal")


def test_a_renewed_certificate_is_shown_to_the_next_caller_and_open_associations_stay(
    station: Station, authority: Authority, other_authority: Authority
) -> None:
    with station.call() as before:
        party = other_authority.certified("node")
        station.receiver.renew_tls(server_context(party.identity, clients_required=True))
        renewed = client_context(other_authority.certified("scanner").identity, peer_over_tls(station.tls_port))
        with RawPeer(station.tls_port, tls=renewed):
            pass
        with pytest.raises(OSError):
            station.call()
        before.send(b"\x05\0\0\0\0\x04\0\0\0\0")
        assert before.read_pdu()[0] == 0x06


# Those that do not begin


def test_silence_half_a_hello_and_garbage_end_at_their_time_while_others_are_served(
    tmp_path: Path, authority: Authority
) -> None:
    before = open_files()
    station = Station(InstanceFiles(tmp_path / "var"), authority=authority, deadlines=QUICK)
    hello = client_hello()
    beginnings = {
        "silence": b"",
        "half a ClientHello": hello[: len(hello) // 2],
        "garbage": b"\x16" + bytes(range(200)),
    }
    callers = {name: RawPeer(station.tls_port, associate=False) for name in beginnings}
    for name, octets in beginnings.items():
        callers[name].send(octets)
    with station.call():
        assert station.receiver.open_associations == 1
    for caller in callers.values():
        caller.ends()
        caller.socket.close()
    wait_until(lambda: len(reasons(station)) == 3, what="a row for each reason")
    assert len(set(reasons(station))) == 3
    station.receiver.stop(drain_s=5)
    wait_until(lambda: open_files() <= before, what="every connection closed")


def client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    speaker = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        speaker.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("octets", [b"", b"\x16"], ids=["silent", "in the handshake"])
def test_who_does_not_begin_does_not_keep_the_node_from_stopping(station: Station, octets: bytes) -> None:
    with RawPeer(station.tls_port, associate=False) as caller:
        caller.send(octets)
        stopping = threading.Thread(target=station.receiver.stop, kwargs={"drain_s": 5})
        stopping.start()
        assert caller.ends() == -1
        stopping.join(20)
        assert not stopping.is_alive()
    assert reasons(station) == []


def test_probes_of_a_load_balancer_leave_nothing_and_are_not_told(station: Station) -> None:
    station.call().socket.close()
    wait_until(lambda: station.receiver.open_associations == 0, what="the association ended")
    files = open_files()
    for _ in range(100):
        socket.create_connection(("127.0.0.1", station.tls_port), timeout=20).close()
    wait_until(lambda: open_files() <= files, what="the sockets of the probes closed")
    assert reasons(station) == []


def test_who_fails_again_and_again_is_told_once_a_minute(station: Station) -> None:
    for _ in range(5):
        with RawPeer(station.tls_port, associate=False) as caller:
            caller.send(b"GET / HTTP/1.1\r\n\r\n")
            assert caller.ends() == -1
    assert reasons(station) == ["the handshake failed: http request"]


def test_half_a_record_in_the_middle_of_a_pdu_is_a_stall(tmp_path: Path, authority: Authority) -> None:
    station = Station(InstanceFiles(tmp_path / "var"), authority=authority, deadlines=QUICK)
    with station.call() as peer:
        peer.send_fragment(3, store_command("1.2.3"))
        os.write(peer.socket.fileno(), b"\x17\x03\x03\x20\x00" + bytes(100))
        assert peer.ends() == ABORT
    wait_until(lambda: station.receiver.open_associations == 0, what="the end")
    station.receiver.stop(drain_s=5)


def test_what_was_changed_on_the_way_ends_the_association(station: Station) -> None:
    with station.call() as peer:
        os.write(peer.socket.fileno(), b"\x17\x03\x03\x00\x40" + bytes(64))
        assert peer.ends() in (ABORT, -1)
    with station.call():
        pass
