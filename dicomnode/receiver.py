"""The root of a receiving process: it accepts at the node's port and writes instances, without a database."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from dicomnode.channel import Teller
from dicomnode.commitment_service import CommitmentService
from dicomnode.config import Config, load_config
from dicomnode.errors import ConfigFault, TlsFault
from dicomnode.fast_store import Deadlines
from dicomnode.headcount import Headcount
from dicomnode.late_database import LateDatabase
from dicomnode.places import open_places
from dicomnode.processes import end_with_parent
from dicomnode.query_retrieve_scp import QueryRetrieve
from dicomnode.receive import CONFLICT_STATUS, Receiver
from dicomnode.service import Means, Service
from dicomnode.tls import server_context
from storage.disk_room import free_bytes

LOG = logging.getLogger(__name__)
COUNT_S = 0.25
"""How often the associations that ended leave the count."""
DRAIN_S = 10.0
"""How long open associations may go on after SIGTERM."""
TURN_S = 0.005
"""How long those who have less to do are let first at a connection: several times what waking up takes."""
TELL_S = 2.0
"""How long the last words to the node may take."""


def services(means: Means) -> list[Service]:
    """What is answered on the node's port beside C-ECHO and C-STORE."""
    return [QueryRetrieve(means), CommitmentService(means)]


class FairListener(socket.socket):
    """The node's listening socket, at which those who have fewer associations open are let first."""

    def __init__(self, descriptor: int, go_ahead: Callable[[], None], accepted: Callable[[], None]) -> None:
        """go_ahead: returns when it is our turn; accepted: told of each connection."""
        super().__init__(fileno=descriptor)
        self._go_ahead, self._accepted = go_ahead, accepted

    def accept(self) -> tuple[socket.socket, Any]:
        """As socket.accept; BlockingIOError when another process was faster."""
        self._go_ahead()
        connection = super().accept()
        self._accepted()
        return connection


class ReceivingProcess:
    """One of the processes that accept at the node's port."""

    def __init__(self, config: Config, *, relative_to: Path, place: int, tell_fd: int, headcount_fd: int) -> None:
        """place: which of the receivers it is, from 0."""
        self._config, self._relative_to, self._place = config, relative_to, place
        self._headcount = Headcount(headcount_fd)
        self._headcount.settle(place, 0)
        self._teller = Teller(tell_fd)
        node, files = config.node, open_places(config).files
        database = LateDatabase(lambda: config.database_url)
        means = Means(lambda: self._config, database, files, self._teller.happened)
        self._receiver = Receiver(
            ae_title=node.ae_title,
            peers=config.peers,
            files=files,
            arrived=self._teller.arrived,
            happened=self._teller.happened,
            maximum_associations=node.maximum_associations,
            maximum_pdu=node.maximum_pdu,
            idle_s=node.association_idle_s,
            conflict_status=CONFLICT_STATUS[node.conflict_status],
            has_room=self._has_room,
            has_place=self._has_place,
            receive_path=node.receive_path,
            maximum_instance_bytes=node.maximum_instance_bytes,
            deadlines=Deadlines(node.pdu_stall_s, node.pdu_limit_s, node.negotiation_s),
            services=services(means),
        )

    def run(self, name: str, *, listen_fd: int | None, tls_fd: int | None) -> NoReturn:
        """Accepts until SIGTERM, then lets open associations end; SIGHUP reads peers and certificates again.

        The process ends with the node. listen_fd, tls_fd: listening sockets of the node.
        """
        stop, reload = threading.Event(), threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        signal.signal(signal.SIGINT, lambda *_: stop.set())
        signal.signal(signal.SIGHUP, lambda *_: reload.set())
        end_with_parent()
        if listen_fd is not None:
            self._receiver.serve(self._listener(listen_fd))
        if tls_fd is not None and (tls := self._config.tls) is not None:
            context = server_context(tls, clients_required=tls.clients_required)
            self._receiver.serve(self._listener(tls_fd), tls=context)
        self._teller.say({"answers": os.getpid()})
        LOG.info("%s receives", name)
        while not stop.wait(COUNT_S):
            self._headcount.settle(self._place, self._receiver.open_associations)
            if reload.is_set():
                reload.clear()
                self._reload()
        self._receiver.stop(drain_s=DRAIN_S)
        self._headcount.settle(self._place, 0)
        self._teller.end(within_s=TELL_S)
        logging.shutdown()
        os._exit(0)  # with whatever thread did not end in time

    def _listener(self, descriptor: int) -> socket.socket:
        return FairListener(descriptor, self._let_others_first, lambda: self._headcount.came(self._place))

    def _let_others_first(self) -> None:
        """Whoever has fewer associations open takes the connection in this time, if it has nothing else to do."""
        if self._headcount.is_ahead(self._place, places=self._config.node.receivers):
            time.sleep(TURN_S)

    def _reload(self) -> None:
        try:
            self._config = load_config(self._config.folder, relative_to=self._relative_to)
        except ConfigFault as fault:
            LOG.error("config not reloaded, the old one stays: %s", fault)
            return
        self._receiver.accept_peers(self._config.peers)
        if (tls := self._config.tls) is not None and tls.port:
            try:
                self._receiver.renew_tls(server_context(tls, clients_required=tls.clients_required))
            except TlsFault as fault:
                LOG.error("certificates not read again: %s", fault)

    def _has_room(self) -> bool:
        """Whether the disk has room for more: asked for each new association."""
        try:
            return free_bytes(self._config.data_folder) >= self._config.retention.low_watermark_gb * 1e9
        except OSError as fault:
            LOG.error("receive: the room on the disk cannot be asked for: %s", fault.strerror)
            return False

    def _has_place(self) -> bool:
        """Whether the limit on associations, over all receiving processes, allows one more."""
        held = self._receiver.open_associations
        self._headcount.put(self._place, held)
        there_is = self._headcount.total() < self._config.node.maximum_associations
        if there_is:
            self._headcount.put(self._place, held + 1)  # the others see it before it is open
        return there_is
