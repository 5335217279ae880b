"""Where a job can stand and what can move it: the state machine, printed as the standard prints its own."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DERIVED = "derived"  # the derived series is on our disk; an outage of a PACS never repeats the inference
    SENDING = "sending"
    DELIVERED = "delivered"
    REFUSED = "refused"  # not failed: the pipeline could not be honest and says why
    FAILED = "failed"
    SUPERSEDED = "superseded"


class Event(StrEnum):
    """What moves a job."""

    CLAIM = "claim"
    FINISH = "finish"
    REFUSE = "refuse"
    RETRY = "retry"
    INTERRUPT = "interrupt"  # its worker was told to stop: the same run goes on at the next start
    GIVE_UP = "give up"
    REQUEUE = "requeue"
    SUPERSEDE = "supersede"
    RESEND = "resend"
    REVIVE = "revive"  # a newer generation asks for the very same work


TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.WAITING, Event.CLAIM): State.RUNNING,
    (State.RUNNING, Event.CLAIM): State.RUNNING,  # claimed again after a crash
    (State.RUNNING, Event.FINISH): State.DERIVED,
    (State.RUNNING, Event.REFUSE): State.REFUSED,
    (State.WAITING, Event.REFUSE): State.REFUSED,
    (State.RUNNING, Event.RETRY): State.WAITING,
    (State.RUNNING, Event.INTERRUPT): State.WAITING,
    (State.RUNNING, Event.GIVE_UP): State.FAILED,
    (State.WAITING, Event.GIVE_UP): State.FAILED,
    (State.DERIVED, Event.CLAIM): State.SENDING,
    (State.SENDING, Event.CLAIM): State.SENDING,
    (State.DERIVED, Event.FINISH): State.DELIVERED,
    (State.SENDING, Event.FINISH): State.DELIVERED,
    (State.DERIVED, Event.GIVE_UP): State.FAILED,
    (State.SENDING, Event.GIVE_UP): State.FAILED,
    (State.FAILED, Event.REQUEUE): State.WAITING,
    (State.REFUSED, Event.REQUEUE): State.WAITING,
    (State.FAILED, Event.RESEND): State.DERIVED,  # only where a derived series exists
    (State.DELIVERED, Event.RESEND): State.DERIVED,  # a further destination has joined
    (State.WAITING, Event.SUPERSEDE): State.SUPERSEDED,
    (State.RUNNING, Event.SUPERSEDE): State.SUPERSEDED,
    (State.DERIVED, Event.SUPERSEDE): State.SUPERSEDED,
    (State.REFUSED, Event.SUPERSEDE): State.SUPERSEDED,
    (State.FAILED, Event.SUPERSEDE): State.SUPERSEDED,
    (State.SUPERSEDED, Event.REVIVE): State.WAITING,
}
ON_THE_WAY = (State.DERIVED, State.SENDING)
"""Derived, and not yet everywhere it is to go."""
OVER = frozenset({State.DELIVERED, State.REFUSED, State.FAILED, State.SUPERSEDED})
