"""A folder whose names become durable together: those who wait at the same moment share one fsync."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """The names in the folder are durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Round:
    """One fsync and those who wait for it; it counts as failed until it has succeeded."""

    def __init__(self) -> None:
        self.led = False
        self.ended = threading.Event()
        self.fault: OSError | None = OSError(errno.EIO, "the fsync of a folder did not end")


class FolderSync:
    """The fsync of one folder, shared by the threads of this process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._joining, self._syncing = threading.Lock(), threading.Lock()
        self._next = _Round()

    def sync(self) -> None:
        """Every name given before this call is durable. Raises OSError to all who shared a failed fsync.

        Only an fsync that begins after the call counts. A failed one is never tried again for those who waited: the
        kernel reports a lost write once, so that a second fsync could succeed with the name lost.
        """
        with self._joining:
            mine = self._next
            leads = not mine.led
            mine.led = True
        if leads:
            with self._syncing:  # while one runs, who comes joins the round that waits here
                with self._joining:
                    self._next = _Round()
                try:
                    sync_folder(self._folder)
                    mine.fault = None
                except OSError as fault:
                    mine.fault = fault
                finally:
                    mine.ended.set()
        else:
            mine.ended.wait()
        if mine.fault is not None:
            raise OSError(mine.fault.errno, mine.fault.strerror) from mine.fault
