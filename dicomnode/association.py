"""An association that we opened, whatever is asked over it: its message numbers, and how it ends."""

from __future__ import annotations

import contextlib
import time
from typing import NoReturn

from dicomnode.call import Call, Patience
from dicomnode.errors import AssociationBroken
from dicomnode.fast_pdu import PduFault, longest_fragment
from dicomnode.negotiation import (
    ABORT,
    ABORT_BY_US,
    LONGEST_TO_US,
    RELEASE_REQUEST,
    RELEASE_RESPONSE,
    RELEASE_RP,
    RELEASE_RQ,
    abort,
)


class OpenedAssociation:
    """One association, for one thread at a time. After a fault it is aborted and `is_open` no more."""

    def __init__(self, call: Call, *, patience: Patience) -> None:
        self.where, self.contexts = call.where, call.agreed.contexts
        """contexts: the offers that the peer took -> their presentation contexts."""
        self.is_open = True
        self._wire, self._patience = call.wire, patience
        self._longest = longest_fragment(call.agreed.maximum_length)
        self._message_id = 0

    def release(self) -> None:
        """Ended in order (PS3.8 7.2); a peer that does not answer in time is left."""
        if not self.is_open:
            return
        self.is_open = False
        ends_at = time.monotonic() + self._patience.release_s
        with contextlib.suppress(OSError, PduFault):
            self._wire.send([RELEASE_REQUEST])
            while (left_s := ends_at - time.monotonic()) > 0:
                kind, _ = self._wire.read_pdu(longest=LONGEST_TO_US, within_s=left_s)
                if kind == RELEASE_RQ:  # both ask at once (PS3.8 7.2.2.7)
                    self._wire.send([RELEASE_RESPONSE])
                elif kind in (RELEASE_RP, ABORT):
                    break
        self._wire.close()

    def abort(self) -> None:
        """Ended at once; harmless when it has ended."""
        if self.is_open:
            self.is_open = False
            with contextlib.suppress(OSError):
                self._wire.send_last(ABORT_BY_US)
        self._wire.close()

    def _next_id(self) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id

    def _ended(self, kind: int, body: bytes, what: str) -> NoReturn:
        """Raises what a PDU means that came in the place of data: AssociationBroken, or PduFault for one that may not.

        what: was asked, in words.
        """
        if kind == ABORT:
            raise AssociationBroken(f"{self.where} aborted the association at {what} ({abort(body)})")
        if kind == RELEASE_RQ:
            with contextlib.suppress(OSError):
                self._wire.send([RELEASE_RESPONSE])
            self.is_open = False
            raise AssociationBroken(f"{self.where} asked to release the association before it answered {what}")
        raise PduFault(f"a PDU of type 0x{kind:02X}")
