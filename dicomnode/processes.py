"""The node's other processes: started, watched, started again when they die, ended with the node."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

LOG = logging.getLogger(__name__)
QUICK_DEATH_S, LONGEST_PAUSE_S = 20.0, 30.0


@dataclass(slots=True)
class Child:
    """One process of the node. `executor_id` is its name in the jobs and in the lock.

    nice: how much it stands back behind the others when cores are short (nice(2)).
    descriptors: open files of the node that it has too, under the same numbers.
    hear: called on a thread of its own, for each life anew, with the descriptor from which what the child tells can
    be read; the child hears of its end of the pipe by `--tell-fd`. It must read to the end and close it.
    """

    executor_id: str
    arguments: tuple[str, ...]
    nice: int = 0
    descriptors: tuple[int, ...] = ()
    hear: Callable[[int], None] | None = None
    longest_pause_s: float = LONGEST_PAUSE_S
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    began_at: datetime | None = None
    quick_deaths: int = 0
    start_after: float = 0.0


class Processes:
    """Keeps a set of child processes alive; each is told by the end of its standard input that the node is gone."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = {child.executor_id: child for child in children}
        self._stopping = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """All children run."""
        for child in self._children.values():
            self._spawn(child)

    def tend(self) -> list[str]:
        """Children that died are started again, after a pause when they die quickly; gives what was noticed."""
        noticed: list[str] = []
        with self._lock:
            if self._stopping:
                return noticed
            for child in self._children.values():
                if child.process is None:
                    if time.monotonic() >= child.start_after:
                        self._spawn(child)
                    continue
                if (code := child.process.poll()) is None:
                    continue
                lived = time.monotonic() - child.started_at
                child.quick_deaths = child.quick_deaths + 1 if lived < QUICK_DEATH_S else 0
                # A first quick death is an accident; the next ones wait 1, 2, 4 ... 30 s.
                pause = min(2.0 ** (child.quick_deaths - 2), child.longest_pause_s) if child.quick_deaths > 1 else 0.0
                child.process, child.start_after = None, time.monotonic() + pause
                noticed.append(f"{child.executor_id} ended ({describe_exit(code)}) and starts again in {pause:g} s")
                if pause == 0.0:
                    self._spawn(child)
        return noticed

    def began_at(self, executor_id: str) -> datetime | None:
        """When that child began its present life; None when it is not ours or not running."""
        child = self._children.get(executor_id)
        return None if child is None or child.process is None else child.began_at

    def kill(self, executor_id: str) -> bool:
        """That child ends now, whatever it does; `tend` starts it again. False when it is not ours or not running."""
        child = self._children.get(executor_id)
        if child is None or child.process is None or child.process.poll() is not None:
            return False
        child.process.kill()
        child.process.wait()
        return True

    def send_signal(self, number: signal.Signals) -> None:
        """Every running child gets the signal."""
        for child in self._children.values():
            if child.process is not None and child.process.poll() is None:
                child.process.send_signal(number)

    def stop(self, *, drain_s: float) -> None:
        """Children finish what they do within `drain_s` seconds; who does not is killed, and goes on at next start."""
        with self._lock:
            self._stopping = True
        self.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + drain_s
        for child in self._children.values():
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                LOG.warning("processes: %s did not end in %.0f s and is killed", child.executor_id, drain_s)
                child.process.kill()
                child.process.wait()

    def process_ids(self) -> dict[str, int]:
        """Executor id -> operating system process id of those running."""
        return {name: child.process.pid for name, child in self._children.items() if child.process is not None}

    def _spawn(self, child: Child) -> None:
        if child.hear is None:
            self._start(child, *child.arguments)
            return
        hears, tells = os.pipe()
        try:
            self._start(child, *child.arguments, "--tell-fd", str(tells), beside=(tells,))
        except OSError:
            os.close(hears)
            raise
        finally:
            os.close(tells)
        threading.Thread(target=child.hear, args=(hears,), name=f"hear {child.executor_id}", daemon=True).start()

    def _start(self, child: Child, *arguments: str, beside: tuple[int, ...] = ()) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "dicomnode", *arguments],
            stdin=subprocess.PIPE,
            start_new_session=True,
            pass_fds=(*child.descriptors, *beside),
        )
        if child.nice:
            # It has one thread yet; those it will make stand back as this one does (setpriority(2), Notes).
            os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + child.nice)
        child.process, child.started_at, child.began_at = process, time.monotonic(), datetime.now(UTC)


def describe_exit(code: int) -> str:
    """An exit code in words."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def end_with_parent() -> None:
    """This process ends at once when the node that started it is gone, so that the next node can take its place."""

    def wait_for_end_of_input() -> None:
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=wait_for_end_of_input, name="end-with-parent", daemon=True).start()
