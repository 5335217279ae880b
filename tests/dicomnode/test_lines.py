"""An association is opened once for several deliveries, replaced when its peer ended it, and never kept for long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage

from dicomnode.lines import Lines
from dicomnode.requestor import OutgoingAssociation
from tests.builders_requestor import HASTY, ScriptedPeer
from tests.peers import wait_until

CT, MR = (CTImageStorage, ExplicitVRLittleEndian), (MRImageStorage, ExplicitVRLittleEndian)
BOTH = frozenset({CT, MR})


@pytest.fixture
def pacs() -> Iterator[ScriptedPeer]:
    with ScriptedPeer() as one:
        yield one


@pytest.fixture
def lines() -> Iterator[Lines]:
    with Lines(patience=HASTY) as kept:
        yield kept


def take(
    lines: Lines, pacs: ScriptedPeer, offers: frozenset[tuple[str, str]] = BOTH, **peer: object
) -> OutgoingAssociation:
    return lines.take(pacs.peer.model_copy(update=peer), ae_title="DICOMNODE", offers=offers)


def give_back(lines: Lines, pacs: ScriptedPeer, *associations: OutgoingAssociation, **peer: object) -> None:
    for one in associations:
        lines.give_back(one, pacs.peer.model_copy(update=peer), ae_title="DICOMNODE")


def test_what_came_back_serves_again_when_it_offers_enough(lines: Lines, pacs: ScriptedPeer) -> None:
    first = take(lines, pacs)
    give_back(lines, pacs, first)
    second = take(lines, pacs, frozenset({MR}))
    assert second is first and pacs.associations == 1
    give_back(lines, pacs, second)
    third = take(lines, pacs, frozenset({MR, (CTImageStorage, ImplicitVRLittleEndian)}))
    assert third is not first and not first.is_open
    wait_until(lambda: (pacs.associations, pacs.released) == (2, 1), seconds=30, what="the first was released")
    third.release()


def test_two_at_once_have_one_each_and_as_many_stay_as_the_peer_may_have(lines: Lines, pacs: ScriptedPeer) -> None:
    taken = [take(lines, pacs, associations=2) for _ in range(3)]
    assert len(set(map(id, taken))) == 3
    give_back(lines, pacs, *taken, associations=2)
    assert [one.is_open for one in taken] == [True, True, False]
    assert take(lines, pacs, associations=2) is taken[1]


def test_one_that_its_peer_ended_is_not_given_out(lines: Lines, pacs: ScriptedPeer) -> None:
    first = take(lines, pacs)
    give_back(lines, pacs, first)
    pacs.hang_up()
    wait_until(lambda: not first.can_go_on, seconds=30, what="the end was seen")
    second = take(lines, pacs)
    assert second is not first and second.can_go_on
    second.release()


def test_idle_ones_are_released_soon_and_in_order(pacs: ScriptedPeer) -> None:
    with Lines(patience=HASTY, idle_s=0.2) as lines:
        taken = [take(lines, pacs, associations=8) for _ in range(3)]
        give_back(lines, pacs, *taken, associations=8)
        wait_until(lambda: pacs.released == 3, seconds=30, what="three were released")
        assert not any(one.is_open for one in taken)


def test_the_end_releases_what_waits_and_what_comes_back_later(pacs: ScriptedPeer) -> None:
    with Lines(patience=HASTY) as lines:
        early, late = take(lines, pacs), take(lines, pacs)
        give_back(lines, pacs, early)
    assert not early.is_open and late.is_open
    give_back(lines, pacs, late)
    assert not late.is_open and pacs.released == 2


def test_another_address_of_ours_or_theirs_is_another_line(lines: Lines, pacs: ScriptedPeer) -> None:
    first = take(lines, pacs)
    give_back(lines, pacs, first)
    other = lines.take(pacs.peer, ae_title="OTHER", offers=BOTH)
    renamed = take(lines, pacs, ae_title="PACS2")
    assert first is not other and first is not renamed and pacs.associations == 3
    other.release()
    renamed.release()
