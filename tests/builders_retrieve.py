"""Peers that hold series and give them: Orthanc that knows us, and DCMTK's dcmqrscp."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dicomnode.peer import Peer
from tests.peers import PACS_AE, Orthanc, free_port, program, storescu, wait_until

OURS = "DICOMNODE"

QRSCP = """\
NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
node = (DICOMNODE, 127.0.0.1, {node_port})
scanner = (SCANNER, 127.0.0.1, 104)
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
QRSCP {folder} RW (200, 1024mb) ANY
AETable END
"""


def as_peer(orthanc: Orthanc, *, may: tuple[str, ...] = ("store",)) -> Peer:
    """Orthanc as node.toml would name it."""
    return Peer(name="pacs", ae_title=PACS_AE, host="127.0.0.1", port=orthanc.dicom_port, may=may)  # type: ignore[arg-type]


def introduce(orthanc: Orthanc, port: int) -> None:
    """Orthanc knows our AE title at that port: it answers our questions and can send to us."""
    told = json.dumps({"AET": OURS, "Host": "127.0.0.1", "Port": port}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{orthanc.http_port}/modalities/node", method="PUT", data=told)
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()


def give(orthanc: Orthanc, files: Sequence[Path], *options: str) -> None:
    """Orthanc holds the files."""
    sent = storescu(orthanc.dicom_port, files, calling="SCANNER", called=PACS_AE, options=options)
    assert sent.returncode == 0, sent.stderr


@contextmanager
def dcmqrscp(folder: Path, files: Sequence[Path], *, node_port: int) -> Iterator[Peer]:
    """DCMTK's query/retrieve server, which holds the files and knows us at that port."""
    port = free_port()
    (folder / "held").mkdir(parents=True)
    config = folder / "dcmqrscp.cfg"
    config.write_text(QRSCP.format(port=port, node_port=node_port, folder=folder / "held"))
    process = subprocess.Popen(
        [program("dcmqrscp"), "-c", str(config)],
        cwd=folder,
        env={**os.environ, "TCP_NODELAY": "1"},
    )
    try:
        wait_until(
            lambda: storescu(port, files, calling="SCANNER", called="QRSCP").returncode == 0,
            seconds=20,
        )
        yield Peer(name="qrscp", ae_title="QRSCP", host="127.0.0.1", port=port, may=("store",))
    finally:
        process.kill()
        process.wait()
