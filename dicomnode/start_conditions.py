"""What the node needs of this machine before it starts, asked without changing anything."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from dicomnode.config import Config
from dicomnode.errors import ConfigFault
from dicomnode.stores import Stores
from storage.disk_room import free_bytes
from storage.errors import StorageFault
from storage.object_store import ObjectStore


def start_conditions(config: Config) -> Iterator[tuple[str, str, bool]]:
    """What is asked, what was found, and whether the node could start so."""
    tls = config.tls
    ports = [] if tls is not None and tls.only else [config.node.port]
    for port in [*ports, *([tls.port] if tls is not None and tls.port else [])]:
        try:
            bind(config.node.host, port)
            yield f"port {port}", "free", True
        except OSError as fault:
            yield f"port {port}", f"not free ({fault.strerror}): is a node running already?", False
    existing = next(folder for folder in (config.data_folder, *config.data_folder.parents) if folder.is_dir())
    yield f"disk of {config.data_folder}", f"{free_bytes(existing) / 1e9:.1f} GB free", True
    try:
        database = Stores.look(config)
        with database.read():
            yield "database answers", "yes", True
        database.close()
    except ConfigFault:
        yield "database answers", "made at the first start", True
    except StorageFault as fault:
        yield "database answers", str(fault), False
    if config.bucket is not None:
        try:
            ObjectStore(config.bucket).prove()
            yield "object store answers", "yes, and keeps first copies", True
        except StorageFault as fault:
            yield "object store answers", str(fault), False


def bind(host: str, port: int) -> None:
    """Raises OSError when the port cannot be had; nobody can connect meanwhile, because nothing listens."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
