"""A peer is asked and told over real associations; who does not answer, refuses or knows no commitment is said so."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from dicomnode.commitment_call import ask_commitment, tell_commitment
from dicomnode.errors import NoAssociation, PeerUnreachable
from dicomnode.peer import Peer
from dicomnode.tls import TlsIdentity
from storage.references import Reference, Report
from tests.builders_commitment import CommittingPeer
from tests.builders_tls import Authority

ONE = Reference("1.2.840.10008.5.1.4.1.1.2", "1.2.3.1")


def asked(peer: Peer, *, is_reported: bool = False, identity: TlsIdentity | None = None) -> None:
    def hear(information: Dataset) -> int:
        raise AssertionError("nobody reports here")

    ask_commitment(
        peer, "2.25.1", [ONE], ae_title="DICOMNODE", identity=identity, hear=hear, is_reported=lambda: is_reported
    )


def test_a_peer_is_asked_and_the_association_ends_when_its_time_is_over() -> None:
    pacs = CommittingPeer(commitment_wait_s=0.2)
    with pacs.listening():
        asked(pacs.peer)
    assert pacs.taken == {"2.25.1": [ONE]}


def test_a_peer_that_refuses_the_request_is_asked_again_later_unless_it_has_reported() -> None:
    pacs = CommittingPeer(commitment_wait_s=0.0)
    pacs.action_status = 0x0213
    with pacs.listening():
        with pytest.raises(PeerUnreachable, match="answered the request for storage commitment with 0x0213"):
            asked(pacs.peer)
        asked(pacs.peer, is_reported=True)


def test_a_peer_is_told_in_the_providers_role() -> None:
    scanner = CommittingPeer()
    report = Report("2.25.1", (ONE,), ())
    with scanner.listening():
        tell_commitment(scanner.peer, report, ae_title="DICOMNODE", identity=None)
        scanner.report_status = 0x0110
        with pytest.raises(PeerUnreachable, match="0x0110"):
            tell_commitment(scanner.peer, report, ae_title="DICOMNODE", identity=None)
    assert scanner.heard == {"2.25.1": report}


def test_nobody_there_breaks_the_lane_and_a_peer_without_commitment_does_not() -> None:
    pacs = CommittingPeer()
    with pytest.raises(NoAssociation, match="cannot be reached"):
        asked(pacs.peer)
    entity = AE("ARCHIVE")
    entity.add_supported_context(Verification)
    server = entity.start_server(("127.0.0.1", pacs.port), block=False)
    try:
        with pytest.raises(PeerUnreachable, match="does not take Storage Commitment") as fault:
            asked(pacs.peer)
        assert not isinstance(fault.value, NoAssociation)
    finally:
        server.shutdown()


@pytest.mark.parametrize("known", [False, True], ids=["no [tls] table", "files that are none"])
def test_a_peer_over_tls_is_never_called_without(known: bool, tmp_path: Path) -> None:
    pacs = CommittingPeer(tls=True)
    identity = TlsIdentity(tmp_path / "c.pem", tmp_path / "k.pem", tmp_path / "a.pem") if known else None
    with pacs.listening(), pytest.raises(NoAssociation, match="TLS"):
        tell_commitment(pacs.peer, Report("2.25.1", (ONE,), ()), ae_title="DICOMNODE", identity=identity)
    assert pacs.heard == {}


@pytest.mark.parametrize("name", ["localhost", "elsewhere"])
def test_over_tls_a_peer_is_asked_and_told_when_its_certificate_bears_its_name(authority: Authority, name: str) -> None:
    pacs = CommittingPeer(certified=authority.certified("pacs"), tls_name=name, commitment_wait_s=0.0)
    ours, report = authority.certified("node").identity, Report("2.25.1", (ONE,), ())
    with pacs.listening():
        if name == "elsewhere":
            with pytest.raises(NoAssociation):
                asked(pacs.peer, identity=ours)
            with pytest.raises(NoAssociation):
                tell_commitment(pacs.peer, report, ae_title="DICOMNODE", identity=ours)
        else:
            asked(pacs.peer, identity=ours)
            tell_commitment(pacs.peer, report, ae_title="DICOMNODE", identity=ours)
    known = name == "localhost"
    assert (pacs.taken, pacs.heard) == (({"2.25.1": [ONE]}, {"2.25.1": report}) if known else ({}, {}))
