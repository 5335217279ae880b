"""Associations that wait for the next delivery to the same peer: opened once, used again, released when idle."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType

from dicomnode.call import Patience
from dicomnode.negotiation import Offer
from dicomnode.peer import Peer
from dicomnode.requestor import OutgoingAssociation
from dicomnode.tls import TlsIdentity

IDLE_S = 5.0
"""Peers end idle associations after 30 to 60 s; and some count every open one."""
Key = tuple[str, Peer]


class Lines:
    """The associations that one process keeps open to its destinations; safe for many threads."""

    def __init__(
        self, *, identity: TlsIdentity | None = None, patience: Patience | None = None, idle_s: float = IDLE_S
    ) -> None:
        """identity: who we are over TLS; idle_s: how long an association waits for its next delivery."""
        self.identity, self.patience, self._idle_s = identity, patience or Patience(), idle_s
        self._lock = threading.Lock()
        self._idle: dict[Key, list[tuple[float, OutgoingAssociation]]] = {}
        self._closed = False
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def take(self, peer: Peer, *, ae_title: str, offers: frozenset[Offer]) -> OutgoingAssociation:
        """An association for these offers: one that waits, or a new one. It comes back by `give_back`.

        Raises NoAssociation and PeerRejected as OutgoingAssociation.open.
        """
        kept, dropped = None, []
        with self._lock:
            waiting = self._idle.pop((ae_title, peer), [])
            while waiting and kept is None:
                _, one = waiting.pop()  # the one that was used last
                if offers <= one.offers and not offers.isdisjoint(one.contexts) and one.can_go_on:
                    kept = one
                else:
                    dropped.append(one)
            if waiting:
                self._idle[ae_title, peer] = waiting
        _release(dropped)
        return kept or self.open(peer, ae_title=ae_title, offers=offers)

    def open(self, peer: Peer, *, ae_title: str, offers: frozenset[Offer]) -> OutgoingAssociation:
        """A new association, whatever waits."""
        return OutgoingAssociation.open(
            peer, ae_title=ae_title, offers=offers, identity=self.identity, patience=self.patience
        )

    def give_back(self, association: OutgoingAssociation, peer: Peer, *, ae_title: str) -> None:
        """It waits for the next delivery; where as many wait as the peer may have, it is released."""
        kept = False
        with self._lock:
            waiting = self._idle.setdefault((ae_title, peer), [])
            if association.is_open and self._idle_s > 0 and not self._closed and len(waiting) < peer.associations:
                waiting.append((time.monotonic() + self._idle_s, association))
                kept = True
                self._look_later(self._idle_s)
        if not kept:
            _release([association])

    def close(self) -> None:
        """What waits is released; what is in use is released when it comes back."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            over = [one for waiting in self._idle.values() for _, one in waiting]
            self._idle.clear()
        _release(over)

    def _look_later(self, wait_s: float) -> None:
        if self._timer is None and not self._closed:
            self._timer = threading.Timer(wait_s, self._release_idle)
            self._timer.daemon = True
            self._timer.start()

    def _release_idle(self) -> None:
        """Those that waited long enough are released; while others wait, it looks again."""
        now = time.monotonic()
        with self._lock:
            self._timer = None
            over = [one for waiting in self._idle.values() for ends_at, one in waiting if ends_at <= now]
            self._idle = {
                key: left
                for key, waiting in self._idle.items()
                if (left := [(ends_at, one) for ends_at, one in waiting if ends_at > now])
            }
            if self._idle:
                self._look_later(min(ends_at for waiting in self._idle.values() for ends_at, _ in waiting) - now)
        _release(over)


def _release(associations: Sequence[OutgoingAssociation]) -> None:
    for one in associations:
        if one.can_go_on:
            one.release()
        else:
            one.abort()
