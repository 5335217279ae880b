"""The node's side of receiving: the port, the processes that accept at it, and what they tell."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from dicomnode.channel import Message, listen
from dicomnode.config import IN_FORCE, Config
from dicomnode.errors import ConfigFault, NodeFault
from dicomnode.fast_server import open_listener
from dicomnode.headcount import Headcount
from dicomnode.processes import Child, Processes

LOG = logging.getLogger(__name__)
READY_S = 90.0
"""How long a receiving process may take to its first word; on a busy machine its imports alone take seconds."""
END_S = 20.0
"""How long a receiving process may take to end: its drain, what it aborts, and its last words (15 s), and some more."""
LONGEST_PAUSE_S = 2.0
"""Between two starts of a receiving process that dies quickly: nobody may call in this time."""
PORT_FREE_S = 20.0
"""Those who received for a node that was killed give up its port within this time: at once, save those that were just
begun, which hear of it only when their imports are done, and these take seconds on a busy machine."""

Tell = Callable[[str, str, Mapping[str, Any]], None]
"""Told of what the audit must know: (event, peer, details)."""


class Reception:
    """Holds the port as long as the node runs; `receivers` processes accept at it.

    All of them accept at one socket that the node has opened, not each at one of its own (SO_REUSEPORT): connections
    that wait in a socket's backlog are reset when it is closed, so those of a process that dies would be lost; here
    another takes them, and one that is started again goes on with them. And whoever is idle takes the next
    connection, while SO_REUSEPORT gives it to whom the hash of the addresses says, busy or not.
    """

    def __init__(self, config: Config, *, tell: Tell, arrived: threading.Event) -> None:
        """arrived: set when something was received or told."""
        self._config, self._tell, self._arrived = config, tell, arrived
        self._headcount = Headcount.make()
        self._listeners: list[socket.socket] = []
        self._processes = Processes([])
        self._places: dict[str, int] = {}
        self._answering: dict[str, int] = {}
        self._changed = threading.Condition()
        self.ended = threading.Event()
        """Set when a receiving process has ended: it is time to `tend`."""

    def open(self) -> int:
        """The port that peers call, or the TLS port when that is the only one. Raises ConfigFault when it is taken.

        Connections wait from now on; they are answered by those that `start` starts.
        """
        node, tls = self._config.node, self._config.tls
        descriptors: dict[str, int] = {}
        if tls is None or not tls.only:
            descriptors["--listen-fd"] = self._listen("node.port", node.host, node.port)
        if tls is not None and tls.port:
            descriptors["--tls-fd"] = self._listen("tls.port", node.host, tls.port)
        children = receivers(self._config, {**descriptors, "--headcount-fd": self._headcount.descriptor}, self._hear)
        self._processes = Processes(children)
        self._places = {child.executor_id: place for place, child in enumerate(children)}
        return int(self._listeners[0].getsockname()[1])

    def _listen(self, key: str, host: str, port: int) -> int:
        begun, told = time.monotonic(), False
        while True:
            try:
                self._listeners.append(open_listener(host, port))
                return self._listeners[-1].fileno()
            except OSError as fault:
                waited = time.monotonic() - begun
                if fault.errno == errno.EADDRINUSE and waited < PORT_FREE_S:
                    if waited > 1 and not told:
                        told = True
                        LOG.warning("node: %s:%d is in use; waits up to %.0f s for it", host, port, PORT_FREE_S)
                    time.sleep(0.05)
                    continue
                why = f"cannot listen on {host}:{port} ({fault.strerror}); is another node or program on it?"
                raise ConfigFault(self._config.folder / "node.toml", key, why) from fault

    def start(self) -> None:
        """The receiving processes run; they answer in a moment."""
        self._processes.start()

    def wait_until_answering(self, *, within_s: float = READY_S) -> None:
        """Every receiving process answers. Raises NodeFault when one ends before, or the time does."""
        deadline = time.monotonic() + within_s
        with self._changed:
            while not all(self.living().values()):
                if self.ended.is_set():
                    raise NodeFault("a receiving process ended before it could answer; the log says why")
                if not self._changed.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    late = ", ".join(name for name, lives in self.living().items() if not lives)
                    raise NodeFault(f"{late} did not answer within {within_s:g} s; see the log")

    def tend(self) -> bool:
        """Whether one had died; it runs again, and goes on with the connections that wait."""
        self.ended.clear()
        noticed = self._processes.tend()
        for what in noticed:
            LOG.warning("node: %s", what)
            self._tell("process restarted", "", {"what": what})
        return bool(noticed)

    def send_signal(self, number: signal.Signals) -> None:
        """Every receiving process gets the signal."""
        self._processes.send_signal(number)

    def living(self) -> dict[str, bool]:
        """Which of the receiving processes answer."""
        running = self._processes.process_ids()
        return {name: name in running and self._answering.get(name) == running[name] for name in self._places}

    @property
    def open_associations(self) -> int:
        """How many associations are open now, over all receiving processes."""
        return self._headcount.total()

    def stop(self) -> None:
        """The port is closed; associations that are open may end, then the processes do."""
        for listener in self._listeners:
            listener.close()
        self._processes.stop(drain_s=END_S)

    def _hear(self, name: str, descriptor: int) -> None:
        """What one receiving process tells, from its first word to its end."""
        listen(descriptor, lambda message: self._heard(name, message))
        self._headcount.settle(self._places[name], 0)
        with self._changed:
            self.ended.set()
            self._changed.notify_all()

    def _heard(self, name: str, message: Message) -> None:
        if "event" in message:
            self._tell(str(message["event"]), str(message["peer"]), dict(message["details"]))
        elif "answers" in message:
            with self._changed:
                self._answering[name] = int(message["answers"])
                self._changed.notify_all()
        self._arrived.set()


def receivers(config: Config, descriptors: Mapping[str, int], hear: Callable[[str, int], None]) -> list[Child]:
    """The receiving processes; descriptors: option -> open file that they share with the node."""
    host, in_force = socket.gethostname(), config.data_folder / IN_FORCE
    shared = [word for option, number in descriptors.items() for word in (option, str(number))]
    made = []
    for place in range(config.node.receivers):
        name = f"{host}/receive-{place}"
        folders = ("--config", str(in_force), "--relative-to", str(config.folder))
        made.append(
            Child(
                name,
                ("receive", *folders, "--executor", name, "--place", str(place), *shared),
                descriptors=tuple(descriptors.values()),
                hear=lambda descriptor, name=name: hear(name, descriptor),  # type: ignore[misc]
                longest_pause_s=LONGEST_PAUSE_S,
            )
        )
    return made
