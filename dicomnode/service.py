"""What a receiving process answers beside C-ECHO and C-STORE: services, and the right that each asks of its caller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from dicomnode.peer import Peer, Right

if TYPE_CHECKING:
    from pynetdicom.presentation import PresentationContext

    from dicomnode.config import Config
    from dicomnode.late_database import LateDatabase
    from storage.instance_files import InstanceFiles

NOT_AUTHORISED = 0x0124
"""PS3.7 C.5.19: refused, not authorised."""

Happening = Callable[[str, str, Mapping[str, Any]], None]
"""Told of what the audit must know: (event, peer, details)."""
Who = Callable[[Any], Peer]
"""An open association -> the peer that called."""
Handler = tuple[Any, ...]
"""(pynetdicom event, function) or (event, function, further arguments): as pynetdicom binds them."""


class Service(Protocol):
    """One service class that peers may use on the node's port."""

    def contexts(self) -> Sequence[PresentationContext]:
        """The presentation contexts it accepts; no two services share an abstract syntax."""

    def handlers(self, who: Who) -> Sequence[Handler]:
        """What answers its requests; of an event that wants an answer there is one handler in all."""

    def end(self) -> None:
        """Nothing is asked of it any more: what it still has to tell the audit is told."""


@dataclass(frozen=True, slots=True)
class Means:
    """What the services of one receiving process work with. config: as it is now, read again at SIGHUP."""

    config: Callable[[], Config]
    database: LateDatabase
    files: InstanceFiles
    happened: Happening


class Rights:
    """Who may ask for what; each refusal is told once an association."""

    def __init__(self, who: Who, happened: Happening) -> None:
        self._who, self._happened = who, happened
        self._told: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def peer_with(self, right: Right, association: Any) -> Peer | None:
        """The caller, when it has the right; None: answer NOT_AUTHORISED, the refusal has been told."""
        peer = self._who(association)
        if right in peer.may:
            return peer
        with self._lock:
            told = self._told.setdefault(association, set())
            first = right not in told
            told.add(right)
        if first:
            self._happened(
                f"{right} refused", peer.name, {"reason": f'"{right}" is not in what {peer.name} may (node.toml)'}
            )
        return None
