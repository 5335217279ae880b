"""Processes of one machine wake each other through named pipes: what waits is begun at once, polling or not."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

LOG = logging.getLogger(__name__)
FOLDER = "bells"
DISPATCH_ROOM = "dispatch"
"""Rung when something has ended or is to be looked for; the rooms of the others are their queues."""


class Bell:
    """The bells of a data folder. A ring that nobody hears is no loss: everyone who listens also looks now and then."""

    def __init__(self, data_folder: Path) -> None:
        self._folder = data_folder / FOLDER

    def ring(self, room: str) -> None:
        """Whoever listens for that room on this machine wakes up; never waits and never raises."""
        for pipe in self._folder.glob(f"{room}.*"):
            try:
                descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as fault:
                if fault.errno != errno.ENXIO:  # ENXIO: nobody listens
                    LOG.debug("bell: %s cannot be rung: %s", pipe.name, fault)
                continue
            try:
                if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                    os.write(descriptor, b"!")
            except OSError:  # full: it has been rung often enough
                LOG.debug("bell: %s is full", pipe.name)
            finally:
                os.close(descriptor)

    def listen(self, room: str, name: str, heard: Callable[[], None]) -> None:
        """`heard` is called, in a thread of its own, at each ring for the room; two processes need two names.

        A folder that takes no named pipes is said so once: it is then looked for work by polling only.
        """
        pipe = self._folder / f"{room}.{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not pipe.is_fifo():
                os.mkfifo(pipe, 0o600)
            # For writing too: without a writer a read would give the end of the file instead of waiting.
            descriptor = os.open(pipe, os.O_RDWR | os.O_CLOEXEC)
        except OSError as fault:
            LOG.warning("bell: %s cannot be listened to (%s): what waits is found by polling", pipe, fault.strerror)
            return

        def wait() -> None:
            while os.read(descriptor, 4096):
                heard()

        threading.Thread(target=wait, name=f"bell {room}", daemon=True).start()
