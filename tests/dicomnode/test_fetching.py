"""A series comes from Orthanc and DCMTK by C-MOVE and by C-GET, byte for byte, and a refusal is said in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicomnode.contexts import ACCEPTED_STORAGE
from dicomnode.dialogue import Answer
from dicomnode.errors import AssociationBroken, NoAssociation, PeerRejected, PeerUnreachable
from dicomnode.fetching import Fetcher, How, offers_for, outcome
from dicomnode.finding import Finder, FoundInstance, FoundSeries
from dicomnode.peer import Peer
from dicomnode.question import Question
from storage.instance_files import InstanceFiles
from tests.builders_dicom import write_ct_series
from tests.builders_receive import Station, element, fragment, p_data
from tests.builders_requestor import HANG_UP, HASTY, Heard, ScriptedPeer
from tests.builders_retrieve import OURS, as_peer, dcmqrscp, give, introduce
from tests.builders_tls import Authority
from tests.peers import Orthanc, free_port

JPEG_LS = "1.2.840.10008.1.2.4.80"
CT = "1.2.840.10008.5.1.4.1.1.2"


def fetcher(files: InstanceFiles, told: list[tuple[str, str, Mapping[str, Any]]] | None = None, **more: Any) -> Fetcher:
    def happened(event: str, peer: str, details: Mapping[str, Any]) -> None:
        if told is not None:
            told.append((event, peer, details))

    return Fetcher(ae_title=OURS, files=files, maximum_bytes=1 << 30, happened=happened, **more)


class Site:
    """A peer that holds a compressed CT, and our receiver that it knows."""

    def __init__(self, holder: Holder, station: Station) -> None:
        self.peer, self.station, self.sources = holder.peer, station, holder.sources
        holder.meet(station)
        with Finder(self.peer, ae_title=OURS) as finder:
            (self.series,) = finder.series(Question(modality=("CT",)))
            self.instances = finder.instances(self.series)


@dataclass
class Holder:
    """A peer that holds the sources, and how it comes to know where we listen."""

    peer: Peer
    sources: list[Path]
    meet: Callable[[Station], object]


@pytest.fixture(scope="module", params=["orthanc", "dcmtk"])
def holder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holder]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "orthanc":
        sources = write_ct_series(folder / "made", slices=5, transfer_syntax_uid=JPEG_LS)
        orthanc = Orthanc(folder / "orthanc").start()
        give(orthanc, sources, "-xt")
        yield Holder(as_peer(orthanc), sources, lambda station: introduce(orthanc, station.port))
        orthanc.stop()
    else:  # which gives only what is stored in the first transfer syntax that it is offered
        sources = write_ct_series(folder / "made", slices=5)
        port = free_port()
        with dcmqrscp(folder / "qrscp", sources, node_port=port) as peer:
            yield Holder(peer, sources, lambda station: station.receiver.start("127.0.0.1", port))


@pytest.fixture
def site(holder: Holder, tmp_path: Path) -> Iterator[Site]:
    known = {"pacs": Peer(name="pacs", ae_title=holder.peer.ae_title, may=("store",))}
    station = Station(InstanceFiles(tmp_path / "files"), peers=known)
    yield Site(holder, station)
    station.receiver.stop(drain_s=1)


@pytest.mark.peer
@pytest.mark.parametrize("how", ["move", "get"])
def test_a_series_comes_as_it_is_stored_and_its_progress_is_told(site: Site, how: How) -> None:
    steps: list[tuple[int, int | None]] = []
    one = fetcher(site.station.files)
    done = one.fetch(site.peer, site.series, site.instances, how=how, progress=lambda *step: steps.append(step))
    assert (done.completed, done.failed) == (5, 0)
    arrived = site.station.files.arrivals()
    assert len(arrived) == 5
    stored = {source.SOPInstanceUID: source for source in map(dcmread, site.sources)}
    for path in arrived:
        came = dcmread(path)
        assert came.file_meta.SourceApplicationEntityTitle == site.peer.ae_title, "the sweep knows who it came from"
        assert came.file_meta.TransferSyntaxUID == stored[came.SOPInstanceUID].file_meta.TransferSyntaxUID
        assert came.PixelData == stored[came.SOPInstanceUID].PixelData
    assert max(step[0] for step in steps) in (4, 5) and steps[-1][1] == 5


@pytest.mark.peer
@pytest.mark.parametrize("how", ["move", "get"])
def test_only_the_instances_that_are_asked_for_come(site: Site, how: How) -> None:
    fetcher(site.station.files).fetch(site.peer, site.series, site.instances[1:3], how=how, whole=False)
    came = {str(dcmread(path).SOPInstanceUID) for path in site.station.files.arrivals()}
    assert came == {one.sop_instance_uid for one in site.instances[1:3]}


@pytest.mark.peer
def test_what_comes_twice_is_kept_once(site: Site) -> None:
    for _ in range(2):
        assert fetcher(site.station.files).fetch(site.peer, site.series, site.instances, how="get").completed == 5
    assert len(site.station.files.arrivals()) == 5


@pytest.mark.peer
def test_other_content_under_a_known_uid_is_refused_and_told(site: Site) -> None:
    told: list[tuple[str, str, Mapping[str, Any]]] = []
    first = site.instances[0]
    site.station.files.keep_arrival(first.sop_instance_uid, [b"something else"])
    done = fetcher(site.station.files, told).fetch(site.peer, site.series, site.instances, how="get")
    assert (done.completed, done.failed) == (4, 1)
    assert [(event, details["sop_instance_uid"]) for event, _, details in told] == [
        ("conflict", first.sop_instance_uid)
    ]
    assert site.station.files.path_of(first.sop_instance_uid).read_bytes() == b"something else"


@pytest.mark.peer
def test_a_peer_that_cannot_reach_us_is_a_fault(site: Site) -> None:
    site.station.receiver.stop(drain_s=1)
    try:
        done = fetcher(site.station.files).fetch(site.peer, site.series, site.instances, how="move")
    except (PeerRejected, PeerUnreachable):
        return
    assert done.completed == 0 and done.failed > 0


@pytest.mark.peer
def test_over_tls_a_series_is_found_and_fetched_by_who_can_prove_who_he_is(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    ours, theirs = authority.certified("node").identity, authority.certified("pacs")
    settings = {
        "DicomTlsEnabled": True,
        "DicomTlsPrivateKey": str(theirs.key),
        "DicomTlsCertificate": str(theirs.certificate),
        "DicomTlsTrustedCertificates": str(theirs.authority),
        "DicomTlsRemoteCertificateRequired": True,
    }
    orthanc = Orthanc(tmp_path / "orthanc", more=settings).start()
    try:
        introduce(orthanc, free_port())
        sources = write_ct_series(tmp_path / "made", slices=3)
        give(orthanc, sources, *theirs.dcmtk)
        peer = as_peer(orthanc).model_copy(update={"tls": True, "tls_name": "localhost"})
        files = InstanceFiles(tmp_path / "files")
        with Finder(peer, ae_title=OURS, identity=ours) as finder:
            (series,) = finder.series(Question(modality=("CT",)))
            instances = finder.instances(series)
        done = fetcher(files, identity=ours).fetch(peer, series, instances, how="get")
        stranger = Authority(tmp_path / "strangers", "Another CA").certified("node").identity
        with pytest.raises(NoAssociation, match="cannot be called over TLS"):
            Finder(peer, ae_title=OURS, identity=stranger)
        with pytest.raises(NoAssociation, match=r"node.toml has no \[tls\] table"):
            Finder(peer, ae_title=OURS)
    finally:
        orthanc.stop()
    assert (done.completed, done.failed) == (3, 0)
    stored = {str(source.SOPInstanceUID): source.PixelData for source in map(dcmread, sources)}
    assert {str(came.SOPInstanceUID): came.PixelData for came in map(dcmread, files.arrivals())} == stored


def test_a_peer_that_may_not_store_is_not_asked_to(tmp_path: Path) -> None:
    peer = Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=1)
    with pytest.raises(PeerRejected, match='may not "store"'):
        fetcher(InstanceFiles(tmp_path)).fetch(peer, SERIES, [], how="move")


SERIES = FoundSeries({}, {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3", "Modality": "CT"})
CT_EXPLICIT = 1
"""The first presentation context that is offered."""
INSTANCES = [FoundInstance("1.2.3.4", CT)]


@pytest.mark.parametrize(
    ("status", "fault", "words"),
    [
        (0xA801, PeerRejected, "enter our AE title, host and port"),
        (0x0124, PeerRejected, "allow our AE title"),
        (0xA702, PeerUnreachable, "tried again"),
        (0xC000, PeerRejected, "knows and reaches us"),
    ],
)
def test_a_refusal_of_c_move_says_what_to_do(tmp_path: Path, status: int, fault: type[Exception], words: str) -> None:
    with ScriptedPeer(lambda heard: heard.done(status)) as scripted, pytest.raises(fault, match=words):
        peer = scripted.peer.model_copy(update={"may": ("store",)})
        fetcher(InstanceFiles(tmp_path), patience=HASTY).fetch(peer, SERIES, INSTANCES, how="move")


def stored(sop_instance_uid: bytes, data_set: bytes) -> list[bytes]:
    """A C-STORE of a peer in the middle of our C-GET, and then its last answer."""
    uid = sop_instance_uid + b"\0" * (len(sop_instance_uid) % 2)
    body = element(0x0002, CT.encode() + b"\0") + element(0x0100, b"\x01\0") + element(0x0110, b"\x07\0")
    body += element(0x0700, b"\0\0") + element(0x0800, b"\x01\0") + element(0x1000, uid)
    command = element(0x0000, len(body).to_bytes(4, "little")) + body
    return [p_data(fragment(3, command, context_id=CT_EXPLICIT)), p_data(fragment(2, data_set, context_id=CT_EXPLICIT))]


def data_set_of(series: bytes) -> bytes:
    """Explicit VR: class, instance 1.2.3.4, study 1.2 and the series."""

    def uid(group: int, number: int, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return (
            group.to_bytes(2, "little")
            + number.to_bytes(2, "little")
            + b"UI"
            + len(value).to_bytes(2, "little")
            + value
        )

    head = uid(8, 0x16, CT.encode()) + uid(8, 0x18, b"1.2.3.4")
    return head + uid(0x20, 0x0D, b"1.2") + uid(0x20, 0x0E, series) + b"\x20\0\x13\0IS\x02\x001 "


def test_an_instance_of_another_series_is_not_kept(tmp_path: Path) -> None:
    asked: list[Heard] = []

    def answer(heard: Heard) -> list[bytes]:
        asked.append(heard)
        if len(asked) == 1:
            return stored(b"1.2.3.4", data_set_of(b"1.2.9"))
        return asked[0].done()

    files = InstanceFiles(tmp_path)
    told: list[tuple[str, str, Mapping[str, Any]]] = []
    with ScriptedPeer(answer) as scripted:
        done = fetcher(files, told, patience=HASTY).fetch(scripted.peer, SERIES, INSTANCES, how="get")
        answered = scripted.heard[1]
    assert (done.completed, done.failed) == (0, 1)
    assert files.arrivals() == []
    assert answered.command[0x0900] == b"\x00\xa9", "the peer hears that it was not taken"
    assert "another series" in told[0][2]["reason"]


def test_a_peer_that_hangs_up_in_the_middle_of_an_instance_leaves_nothing_behind(tmp_path: Path) -> None:
    def answer(heard: Heard) -> list[bytes]:
        whole = stored(b"1.2.3.4", data_set_of(b"1.2.3"))
        return [whole[0], p_data(fragment(0, data_set_of(b"1.2.3"), context_id=CT_EXPLICIT))]

    files = InstanceFiles(tmp_path)
    with ScriptedPeer(answer) as scripted, pytest.raises(AssociationBroken):
        fetcher(files, patience=HASTY).fetch(scripted.peer, SERIES, INSTANCES, how="get")
    assert files.arrivals() == [] and not list((tmp_path / "incoming").iterdir())


def test_a_peer_that_hangs_up_is_a_fault(tmp_path: Path) -> None:
    with ScriptedPeer(lambda heard: HANG_UP) as scripted, pytest.raises(AssociationBroken, match="closed"):
        fetcher(InstanceFiles(tmp_path), patience=HASTY).fetch(scripted.peer, SERIES, INSTANCES, how="get")


def test_c_get_offers_every_transfer_syntax_that_fits_one_association() -> None:
    assert len(offers_for({CT})) == 18
    assert len(offers_for(set(ACCEPTED_STORAGE[:20]))) == 120
    assert {uid for uid, _ in offers_for({""}, "PT")} == set(ACCEPTED_STORAGE[6:9])
    assert {uid for uid, _ in offers_for(set())} == set(ACCEPTED_STORAGE)
    with pytest.raises(PeerRejected, match="does not keep"):
        offers_for({"1.2.3"})


def test_part_of_a_series_is_a_count_and_not_a_fault_of_the_whole() -> None:
    assert outcome("there", Answer(0x0000), asked_for=5).completed == 5, "a peer need not count"
    assert outcome("there", Answer(0xB000, completed=3, failed=2)).failed == 2
    assert outcome("there", Answer(0xA702, completed=3)).failed == 1
