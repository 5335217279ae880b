"""The statement's presentation contexts, rejections and limits are those of a receiver, asked of one."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from dicomnode.conformance import network
from dicomnode.contexts import ACCEPTED_STORAGE, accepted_contexts
from dicomnode.peer import Peer
from dicomnode.query_retrieve_scp import SERVICES
from dicomnode.receive import Receiver
from storage.instance_files import InstanceFiles
from tests.builders_routed import config_of


def test_every_context_that_a_receiver_accepts_is_told() -> None:
    text = network.acceptor_contexts()
    for context in (*accepted_contexts(), *network.node_services()):
        assert f"| {context.abstract_syntax} |" in text
    assert {str(one.abstract_syntax) for one in network.node_services()} >= {
        uid for one in SERVICES.values() for uid in one
    }


def test_a_class_is_user_or_provider_as_the_contexts_say() -> None:
    rows = {line.split(" | ")[1]: line.split(" | ")[2:] for line in network.overview().splitlines()[2:]}
    assert rows["1.2.840.10008.1.1"] == ["yes", "yes |"]
    assert rows["1.2.840.10008.5.1.4.1.1.2"] == ["yes", "yes |"]
    assert rows["1.2.840.10008.5.1.4.1.1.481.5"] == ["when retrieved", "yes |"]
    assert {*ACCEPTED_STORAGE} <= {*rows}


def test_every_rejection_of_a_receiver_is_told_with_its_codes(tmp_path: Path) -> None:
    peers = {
        "plain": Peer(name="plain", ae_title="PLAIN", networks=("10.0.0.0/8",)),
        "secure": Peer(name="secure", ae_title="SECURE", tls=True, certificate_names=("scanner",)),
    }
    has_room, has_place = True, True
    receiver = Receiver(
        ae_title="NODE",
        peers=peers,
        files=InstanceFiles(tmp_path),
        arrived=threading.Event(),
        happened=lambda event, peer, details: None,
        maximum_associations=1,
        maximum_pdu=16384,
        idle_s=1,
        has_room=lambda: has_room,
        has_place=lambda: has_place,
    )
    told = {codes for codes, _ in network.REJECTIONS}
    asked = [
        ("PLAIN", "OTHER", "10.1.1.1", None),
        ("NOBODY", "NODE", "10.1.1.1", None),
        ("PLAIN", "NODE", "192.168.1.1", None),
        ("SECURE", "NODE", "10.1.1.1", None),
        ("SECURE", "NODE", "10.1.1.1", frozenset({"other"})),
    ]
    met = {receiver._refusal(*one)[:3] for one in asked}  # type: ignore[index]
    has_room = False
    met.add(receiver._refusal("PLAIN", "NODE", "10.1.1.1", None)[:3])  # type: ignore[index]
    has_room, has_place = True, False
    met.add(receiver._refusal("PLAIN", "NODE", "10.1.1.1", None)[:3])  # type: ignore[index]
    assert met == told


def test_limits_are_the_defaults_or_those_of_the_node(tmp_path: Path) -> None:
    assert "| associations accepted at once (`maximum_associations`) | 64 |" in network.limits(None)
    config = config_of(tmp_path)
    changed = config.node.model_copy(update={"maximum_associations": 7})
    assert "(`maximum_associations`) | 7 |" in network.limits(replace(config, node=changed))


def test_what_is_proposed_is_told_with_its_transfer_syntaxes_in_their_order() -> None:
    text = network.requestor_contexts()
    assert "| CT Image Storage | SCU | Explicit VR Little Endian, Implicit VR Little Endian, JPEG-LS Lossless" in text
    assert "| Enhanced SR Storage | SCU | Explicit VR Little Endian, Implicit VR Little Endian |" in text
    assert "Study Root Query/Retrieve Information Model - FIND" in text


def test_every_level_tells_its_keys() -> None:
    text = network.query_keys()
    for level, key in (("PATIENT", "PatientID"), ("STUDY", "StudyInstanceUID"), ("SERIES", "SeriesInstanceUID")):
        assert f"| {level} | {key} |" in text
    assert "ModalitiesInStudy" in text and "NumberOfStudyRelatedInstances" in text
