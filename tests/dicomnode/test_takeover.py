"""The dead are taken over from, the living never: neither while their database is away nor just after."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from dicomnode import takeover
from dicomnode.takeover import CALM_LOOKS, Takeover, wait_for_lock


@dataclass
class Locks:
    """Locks as a database gives them: all are gone when it was away."""

    held: set[str] = field(default_factory=set)
    life: int = 0

    def take(self, name: str) -> HeldLock | None:
        if name in self.held:
            return None
        self.held.add(name)
        return HeldLock(self, name, self.life)

    def go_away_and_return(self) -> None:
        self.held.clear()
        self.life += 1


@dataclass
class HeldLock:
    locks: Locks
    name: str
    life: int

    def release(self) -> None:
        self.locks.held.discard(self.name)

    def lost(self) -> bool:
        return self.life != self.locks.life


def watching(locks: Locks, busy: set[str], resumed: list[str], name: str = "one") -> Takeover:
    return Takeover(locks.take, name, busy=lambda: busy, resume=resumed.append, every_s=3600)


def test_work_of_the_dead_is_resumed_and_that_of_the_living_and_the_own_is_not() -> None:
    locks, resumed = Locks({"living"}), list[str]()
    watching(locks, {"one", "living", "dead"}, resumed).look()
    assert resumed == ["dead"] and locks.held == {"living", "one"}


def test_a_lock_that_another_has_by_now_ends_the_process_and_one_that_is_free_again_does_not() -> None:
    locks, ended = Locks(), list[str]()
    one = Takeover(
        locks.take, "one", busy=set, resume=ended.append, every_s=3600, superseded=lambda: ended.append("ended")
    )
    locks.go_away_and_return()
    other = locks.take("one")
    assert other is not None
    one.look()
    assert not ended  # who takes over holds it for a moment only
    other.release()
    one.look()
    assert not ended and locks.held == {"one"}
    locks.go_away_and_return()
    assert locks.take("one") is not None
    for _ in range(takeover.LOST_LOOKS):
        one.look()
    assert ended == ["ended"]


def test_after_an_outage_everyone_gets_its_lock_again_before_anyone_is_taken_for_dead() -> None:
    locks, resumed = Locks(), list[str]()
    one = watching(locks, {"one", "two"}, resumed)
    two = watching(locks, {"one", "two"}, resumed, "two")
    locks.go_away_and_return()
    for _ in range(3):  # the other has not looked yet
        one.look()
    two.look()
    assert resumed == [] and locks.held == {"one", "two"}
    for _ in range(2 * CALM_LOOKS):
        one.look()
    assert resumed == []


def test_who_died_in_the_outage_is_taken_over_from_when_the_calm_is_over() -> None:
    locks, resumed = Locks(), list[str]()
    one = watching(locks, {"dead"}, resumed)
    locks.go_away_and_return()
    for _ in range(CALM_LOOKS + 1):
        one.look()
    assert resumed == []
    one.look()
    assert resumed == ["dead"]


def test_a_lock_that_another_holds_for_its_look_is_had_at_the_next() -> None:
    locks = Locks()
    one = watching(locks, set(), [])
    locks.go_away_and_return()
    locks.held.add("one")
    one.look()
    locks.held.clear()
    one.look()
    assert locks.held == {"one"}


def test_a_second_process_of_the_same_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover, "PREDECESSOR_S", 0.0)
    with pytest.raises(RuntimeError, match="another process already runs as one"):
        wait_for_lock(Locks({"one"}).take, "one")
