"""A peer is known by its AE title, its networks and what it may do."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from dicomnode.contexts import LOSSLESS_OF
from dicomnode.peer import Compression, Peer


def peer(**more: Any) -> Peer:
    return Peer(**{"name": "scanner", "ae_title": "SCANNER", **more})


@pytest.mark.parametrize("title", ["A", "SCANNER 1", "x" * 16])
def test_an_ae_title_of_the_standard_is_taken(title: str) -> None:
    assert peer(ae_title=title).ae_title == title


@pytest.mark.parametrize("title", ["", "x" * 17, " SCANNER", "SCANNER ", "A\\B", "SCÄNNER", "A\nB", "   "])
def test_an_ae_title_against_the_standard_is_refused(title: str) -> None:
    with pytest.raises(ValidationError, match="AE title"):
        peer(ae_title=title)


@pytest.mark.parametrize(
    "wrong", [{"may": ["delete"]}, {"port": "104"}, {"port": 70000}, {"tls": 1}, {"certificate_names": [""]}]
)
def test_unknown_rights_keys_and_kinds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        peer(**wrong)


def test_a_peer_is_reachable_only_with_host_and_port() -> None:
    assert peer(host="10.0.0.1", port=104).reachable
    assert not peer(host="10.0.0.1").reachable
    assert not peer(port=104).reachable


def test_a_peer_without_networks_may_call_from_anywhere() -> None:
    assert peer().calls_from("203.0.113.9")


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("10.1.3.3", False),
        ("192.0.2.7", True),
        ("fd00::1", False),
        ("", False),
        ("scanner.local", False),
    ],
)
def test_a_peer_with_networks_may_call_only_from_them(address: str, allowed: bool) -> None:
    assert peer(networks=["10.1.2.0/24", "192.0.2.7"]).calls_from(address) is allowed


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="expected a network"):
        peer(networks=["10.1.2.0/33"])


def test_over_tls_a_peer_is_known_by_any_of_its_names_in_either_case_or_by_every_name_when_it_has_none() -> None:
    assert peer(tls=True).shows(frozenset())
    known = peer(tls=True, certificate_names=["CT1.hospital.example", "10.1.2.3"])
    assert known.shows(frozenset({"other", "ct1.hospital.example"}))
    assert not known.shows(frozenset({"xct1.hospital.example", "hospital.example"}))
    assert not known.shows(frozenset())


def test_the_certificate_of_a_peer_that_we_call_bears_its_host_or_another_name() -> None:
    assert peer(host="10.1.2.3").certificate_host == "10.1.2.3"
    assert peer(host="10.1.2.3", tls_name="pacs.example").certificate_host == "pacs.example"


def test_a_peer_that_is_to_commit_must_be_one_that_can_be_called() -> None:
    assert peer(commitment=True, host="10.1.2.3", port=104).commitment
    for place in ({}, {"host": "10.1.2.3"}, {"port": 104}):
        with pytest.raises(ValidationError, match="commitment = true needs host and port"):
            peer(commitment=True, **place)


def test_a_peer_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        peer().port = 1  # type: ignore[misc]


def test_a_peer_wishes_one_of_the_lossless_compressions_or_none() -> None:
    assert peer().compression == "none"
    assert peer(compression="jpeg-ls").compression == "jpeg-ls"
    with pytest.raises(ValidationError):
        peer(compression="jpeg")


def test_every_wish_a_peer_may_have_can_be_met() -> None:
    assert set(get_args(Compression)) == {"none", *LOSSLESS_OF}
