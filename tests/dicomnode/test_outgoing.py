"""A series arrives byte for byte and every instance has its answer, whatever the peer does in between."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
)
from pynetdicom import AE, evt

from dicomnode.errors import AssociationBroken, NoAssociation, PeerUnreachable
from dicomnode.lines import Lines
from dicomnode.outgoing import Outbound, echo_peer, outbound, store_instances
from dicomnode.peer import Peer
from storage.instance_files import InstanceFiles
from storage.ledger import LedgerState, Result
from tests.builders_dicom import write_ct_series
from tests.builders_receive import Station, encoded_data_set
from tests.builders_requestor import ABORT_PDU, HANG_UP, HASTY, Heard, ScriptedPeer
from tests.peers import PACS_AE, Orthanc, free_port, storescp

MANY = 1000


def sent(peer: Peer, instances: Sequence[Outbound], lines: Lines | None = None) -> list[Result]:
    return list(store_instances(peer, instances, ae_title="SCANNER", lines=lines))


def all_done(results: Sequence[Result]) -> bool:
    return bool(results) and all(result.state is LedgerState.DONE for result in results)


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six CT slices."""
    return write_ct_series(tmp_path_factory.mktemp("ct"), slices=6)


@pytest.fixture
def instances(series: list[Path]) -> list[Outbound]:
    return [outbound(path) for path in series]


@contextmanager
def dcmtk(folder: Path, *options: str) -> Iterator[tuple[Peer, Path]]:
    """storescp, and the folder where it keeps what it got as it got it."""
    port, inbox = free_port(), folder / "inbox"
    inbox.mkdir()
    with storescp(port, *options, "-od", str(inbox), "--bit-preserving"):
        yield Peer(name="pacs", ae_title="STORESCP", host="127.0.0.1", port=port), inbox


def data_sets(paths: Sequence[Path]) -> list[bytes]:
    return sorted(map(encoded_data_set, paths))


@pytest.mark.peer
@pytest.mark.parametrize("options", [(), ("--max-pdu", "4096"), ("--max-pdu", "131072"), ("--fork",)], ids=str)
def test_dcmtk_keeps_the_bytes_that_we_keep(
    tmp_path: Path, series: list[Path], instances: list[Outbound], options: tuple[str, ...]
) -> None:
    with dcmtk(tmp_path, *options) as (peer, inbox):
        assert all_done(sent(peer, instances))
        assert 0 < echo_peer(peer, ae_title="SCANNER") < 10
    assert data_sets(list(inbox.iterdir())) == data_sets(series)


@pytest.mark.peer
@pytest.mark.parametrize("held", [JPEGLSLossless, DeflatedExplicitVRLittleEndian], ids=["JPEG-LS", "deflated"])
def test_what_is_stored_compressed_arrives_as_it_is(tmp_path: Path, held: str) -> None:
    paths = write_ct_series(tmp_path / "ct", slices=2, transfer_syntax_uid=held)
    with dcmtk(tmp_path, "+xa") as (peer, inbox):
        assert all_done(sent(peer, [outbound(path) for path in paths]))
    assert data_sets(list(inbox.iterdir())) == data_sets(paths)


@pytest.mark.peer
def test_dcmtk_that_takes_only_implicit_vr_gets_it_with_the_same_pixels(
    tmp_path: Path, series: list[Path], instances: list[Outbound]
) -> None:
    with dcmtk(tmp_path, "+xi") as (peer, inbox):
        assert all_done(sent(peer, instances))
    got = {one.SOPInstanceUID: one for one in map(dcmread, inbox.iterdir())}
    for path in series:
        source = dcmread(path)
        assert got[source.SOPInstanceUID].file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
        assert got[source.SOPInstanceUID].PixelData == source.PixelData


@pytest.mark.peer
@pytest.mark.parametrize("option", ["--abort-after", "--abort-during"])
def test_dcmtk_that_aborts_at_every_image_is_unreachable_and_said_so(
    tmp_path: Path, instances: list[Outbound], option: str
) -> None:
    with (
        dcmtk(tmp_path, option) as (peer, _),
        pytest.raises(AssociationBroken, match=r"STORESCP at 127\.0\.0\.1.*instance"),
    ):
        sent(peer, instances)


@pytest.mark.peer
def test_dcmtk_that_refuses_is_no_association(tmp_path: Path, instances: list[Outbound]) -> None:
    with dcmtk(tmp_path, "--refuse") as (peer, _), pytest.raises(NoAssociation, match="rejected permanently"):
        sent(peer, instances)


@pytest.mark.peer
@pytest.mark.parametrize("option", ["--sleep-during", "--sleep-after"])
def test_dcmtk_that_takes_its_time_gets_it(tmp_path: Path, instances: list[Outbound], option: str) -> None:
    with dcmtk(tmp_path, option, "1") as (peer, inbox):
        assert all_done(sent(peer, instances[:2]))
        assert len(list(inbox.iterdir())) == 2


@pytest.mark.peer
def test_orthanc_gives_back_what_it_got(tmp_path: Path, series: list[Path], instances: list[Outbound]) -> None:
    orthanc = Orthanc(tmp_path / "orthanc").start()
    try:
        peer = Peer(name="pacs", ae_title=PACS_AE, host="127.0.0.1", port=orthanc.dicom_port)
        assert all_done(sent(peer, instances))
        assert data_sets(orthanc.download(tmp_path / "back")) == data_sets(series)
    finally:
        orthanc.stop()


def test_our_own_receiver_keeps_the_bytes(tmp_path: Path, series: list[Path], instances: list[Outbound]) -> None:
    files = InstanceFiles(tmp_path / "var")
    station = Station(files)
    peer = Peer(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=station.port)
    try:
        assert all_done(sent(peer, instances))
    finally:
        station.receiver.stop(drain_s=5)
    kept = list((tmp_path / "var").rglob("*.dcm"))
    assert data_sets(kept) == data_sets(series)


def test_pynetdicom_reads_the_same_data_sets(series: list[Path], instances: list[Outbound]) -> None:
    entity, got = AE("PACS"), {}
    entity.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)

    def on_store(event: evt.Event) -> int:
        got[str(event.request.AffectedSOPInstanceUID)] = event.encoded_dataset(include_meta=False)
        return 0x0000

    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    peer = Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=server.server_address[1])
    try:
        assert all_done(sent(peer, instances))
    finally:
        entity.shutdown()
    assert sorted(got.values()) == data_sets(series)


def test_one_association_serves_delivery_after_delivery(instances: list[Outbound]) -> None:
    with ScriptedPeer() as pacs:
        with Lines(patience=HASTY) as lines:
            for one in instances:
                assert all_done(sent(pacs.peer, [one], lines))
            assert pacs.associations == 1 and pacs.released == 0
        assert pacs.released == 1
    assert [heard.command[0x0110] for heard in pacs.heard] == [bytes((n, 0)) for n in range(1, 7)]


def test_several_deliveries_at_once_share_the_associations_and_mix_nothing_up(instances: list[Outbound]) -> None:
    with ScriptedPeer() as pacs, Lines() as lines, ThreadPoolExecutor(4) as threads:
        peer = pacs.peer.model_copy(update={"associations": 4})
        results = list(threads.map(lambda _: sent(peer, instances, lines), range(20)))
        assert pacs.associations <= 4 and len(pacs.heard) == 20 * len(instances)
    uids = [one.sop_instance_uid for one in instances]
    assert all(all_done(one) and [each.sop_instance_uid for each in one] == uids for one in results)


@pytest.mark.parametrize("ends", ["before", "at the first image"])
def test_a_peer_that_ended_the_association_meanwhile_is_called_again_unnoticed(
    instances: list[Outbound], ends: str
) -> None:
    answers: list[Callable[[Heard], Sequence[bytes]]] = []
    with ScriptedPeer(lambda heard: (answers.pop(0) if answers else Heard.done)(heard)) as pacs, Lines() as lines:
        assert all_done(sent(pacs.peer, instances[:2], lines))
        if ends == "before":
            pacs.hang_up()
        else:
            answers.append(lambda heard: HANG_UP)
        assert all_done(sent(pacs.peer, instances[2:], lines))
        assert pacs.associations == 2


def test_one_bad_image_does_not_hold_up_the_others(instances: list[Outbound]) -> None:
    bad = instances[1].sop_instance_uid

    def answer(heard: Heard) -> Sequence[bytes]:
        return [ABORT_PDU] if heard.command[0x1000].rstrip(b"\0").decode() == bad else heard.done()

    results: list[Result] = []
    with ScriptedPeer(answer) as pacs:
        with pytest.raises(AssociationBroken, match=f"instance {bad}"):
            results.extend(store_instances(pacs.peer, instances, ae_title="SCANNER"))
        sending = store_instances(pacs.peer, instances, ae_title="SCANNER")
        with pytest.raises(AssociationBroken):
            results.extend(sending)
    tried = [heard.command[0x1000].rstrip(b"\0").decode() for heard in pacs.heard]
    assert tried[:7] == [one.sop_instance_uid for one in (*instances, instances[1])]
    assert {one.sop_instance_uid for one in results} == {one.sop_instance_uid for one in instances} - {bad}
    assert pacs.associations == 4


def test_an_image_that_is_taken_at_the_second_try_is_done(instances: list[Outbound]) -> None:
    answers: list[Any] = [Heard.done, lambda heard: [ABORT_PDU]]
    with ScriptedPeer(lambda heard: (answers.pop(0) if answers else Heard.done)(heard)) as pacs:
        results = sent(pacs.peer, instances)
    assert all_done(results) and len({one.sop_instance_uid for one in results}) == 6
    assert results[-1].sop_instance_uid == instances[1].sop_instance_uid


def test_after_three_breaks_the_peer_is_left_alone(instances: list[Outbound]) -> None:
    with ScriptedPeer(lambda heard: HANG_UP) as pacs:
        with pytest.raises(PeerUnreachable, match="closed the connection"):
            sent(pacs.peer, instances)
        assert pacs.associations == 3 and len(pacs.heard) == 3


def test_a_peer_that_never_answers_is_given_up_in_time(instances: list[Outbound]) -> None:
    with (
        ScriptedPeer(lambda heard: [b""]) as pacs,
        Lines(patience=HASTY) as lines,
        pytest.raises(PeerUnreachable, match="did not answer instance"),
    ):
        sent(pacs.peer, instances, lines)


def test_every_status_comes_through(instances: list[Outbound]) -> None:
    statuses = [0x0000, 0x0111, 0xB006, 0xA700, 0xC123, 0x0122]
    with ScriptedPeer(lambda heard: heard.done(statuses[heard.number - 1])) as pacs:
        results = sent(pacs.peer, instances)
    assert [one.status for one in results] == statuses
    done, warning, waiting, rejected = LedgerState.DONE, LedgerState.WARNING, LedgerState.WAITING, LedgerState.REJECTED
    assert [one.state for one in results] == [done, done, warning, waiting, rejected, rejected]


def test_a_file_that_became_another_instance_is_not_sent_under_the_old_name(tmp_path: Path, series: list[Path]) -> None:
    path = tmp_path / "one.dcm"
    path.write_bytes(series[0].read_bytes())
    one = outbound(path)
    path.write_bytes(series[1].read_bytes())
    with ScriptedPeer() as pacs, pytest.raises(ValueError, match="holds another instance than it did"):
        sent(pacs.peer, [one])
    assert pacs.heard == []


def test_more_than_one_association_can_offer_is_sent_in_several(tmp_path: Path, series: list[Path]) -> None:
    content = series[0].read_bytes()
    places = [content.index(CTImageStorage.encode(), 132)]
    made = []
    for number in range(70):  # two transfer syntaxes each
        other = f"1.2.840.10008.5.1.4.1.9.{number:02}".encode().ljust(len(CTImageStorage) + 1, b"\0")[:26]
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(content[: places[0]] + other + content[places[0] + 26 :])
        made.append(outbound(path))
    assert len({one.sop_class_uid for one in made}) == 70
    with ScriptedPeer() as pacs:
        assert all_done(sent(pacs.peer, made))
        assert pacs.associations == 2 and len(pacs.heard) == 70


BURN = "while True: sum(range(10000))"


def test_under_load_no_response_is_lost(instances: list[Outbound]) -> None:
    """pynetdicom's own sender lost one in five of seven runs of this."""
    burners = [subprocess.Popen([sys.executable, "-c", BURN], env={**os.environ}) for _ in range(3)]
    try:
        many = [instances[number % 6] for number in range(MANY)]
        with ScriptedPeer() as pacs:
            assert all_done(sent(pacs.peer, many))
            assert len(pacs.heard) == MANY and pacs.associations == 1
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
