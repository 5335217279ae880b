"""What a receiver tells reaches the node in its order, and a node that does not listen holds up nobody."""

from __future__ import annotations

import fcntl
import os
import threading
from typing import Any

import pytest

from dicomnode.channel import Message, Teller, listen


def heard_from(descriptor: int) -> list[Message]:
    """Everything that is told until the other end closes, without the bare news that something arrived."""
    messages: list[Message] = []
    listen(descriptor, messages.append)
    assert {"arrived": True} in messages
    return [message for message in messages if message != {"arrived": True}]


def row(number: int, event: str = "conflict", **details: Any) -> Message:
    return {"event": event, "peer": "scanner", "details": {"instances_kept": number, **details}}


def test_everything_told_is_heard_in_its_order_also_what_is_told_last() -> None:
    hears, tells = os.pipe()
    teller = Teller(tells)
    teller.say({"answers": 7})
    for number in range(500):
        teller.happened("conflict", "scanner", {"instances_kept": number})
    teller.end(within_s=20)
    os.close(tells)
    assert heard_from(hears) == [{"answers": 7}, *map(row, range(500))]


def test_telling_never_waits_for_a_node_that_stands_still_and_no_count_is_lost() -> None:
    hears, tells = os.pipe()
    fcntl.fcntl(tells, fcntl.F_SETPIPE_SZ, 4096)
    teller = Teller(tells, most_waiting=50)
    for _ in range(2000):  # nobody reads: far more than pipe and queue hold; a teller that waited would hang here
        teller.happened("association released", "scanner", {"instances_kept": 3, "reason": "x" * 100})
    messages: list[Message] = []
    reader = threading.Thread(target=lambda: messages.extend(heard_from(hears)))
    reader.start()
    teller.end(within_s=20)
    os.close(tells)
    reader.join(20)
    assert sum(one["details"]["instances_kept"] for one in messages) == 6000
    sums = [one["details"] for one in messages if "happenings" in one["details"]]
    assert sums and "reason" not in sums[0]
    assert sum(one["details"].get("happenings", 1) for one in messages) == 2000


def test_a_line_of_a_process_that_was_killed_in_the_middle_of_it_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    hears, tells = os.pipe()
    os.write(tells, b'{"arrived": true}\n{"answers": 1}\n{"event": "conf')
    os.close(tells)
    assert heard_from(hears) == [{"answers": 1}]
    assert "no message" in caplog.text


def test_whatever_a_peer_wrote_stays_on_its_line() -> None:
    hears, tells = os.pipe()
    teller = Teller(tells)
    teller.happened("conflict", "scanner", {"reason": 'a\nb\u2028"\udc80'})
    teller.end(within_s=20)
    os.close(tells)
    assert heard_from(hears)[0]["details"] == {"reason": 'a\nb\u2028"\udc80'}


def test_a_node_that_is_gone_is_no_fault() -> None:
    hears, tells = os.pipe()
    os.close(hears)
    teller = Teller(tells)
    teller.happened("conflict", "scanner", {})
    teller.end(within_s=20)
    os.close(tells)
