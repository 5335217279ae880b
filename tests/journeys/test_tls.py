"""TLS both ways: a series in over TLS from DCMTK, a derived series out over TLS to DCMTK, and certificates renewed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.builders_dicom import write_ct_series
from tests.builders_tls import Authority
from tests.peers import RunningNode, free_port, storescp, storescu, wait_until

pytestmark = pytest.mark.peer

RULES = """
[[rules]]
name = "every CT"
when = 'Modality == "CT"'
run = "ct_denoising"
send_to = ["archive"]
"""
PEERS = """
[peers.ct]
ae_title = "CT1"
may = ["store"]
tls = true
certificate_names = ["ct1"]
[peers.archive]
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = {archive}
tls = true
tls_name = "archive"
"""


def test_a_series_goes_in_and_its_derived_one_out_over_tls_and_renewed_certificates_hold_from_the_next_call(
    make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "authority")  # its own: the files are written over
    files, party = write_ct_series(tmp_path / "ct", slices=4, rows=32, columns=32), authority.certified("ct1")
    archive, tls_port, received = free_port(), free_port(), tmp_path / "archive"
    received.mkdir()
    identity = authority.certified("node")
    table = f"{identity.toml}port = {tls_port}\nonly = true\n"
    node = make_node(free_port(), rules=RULES, more=table + PEERS.format(archive=archive))
    with storescp(archive, *authority.certified("archive").dcmtk, "--output-directory", str(received)):
        node.start()
        assert storescu(tls_port, files, calling="CT1", options=party.dcmtk).returncode == 0
        node.wait_for_jobs({"delivered"}, count=1)
    assert len(list(received.iterdir())) == len(files)
    assert all("DERIVED" in dcmread(path).ImageType for path in received.iterdir())
    assert [path for path in (node.folder / "var").rglob("*") if path.lstat().st_mode & 0o077] == []
    assert storescu(tls_port, files, calling="CT1", options=authority.certified("ct2").dcmtk).returncode != 0
    assert storescu(tls_port, files, calling="SCANNER").returncode != 0
    assert storescu(node.port, files, calling="SCANNER").returncode != 0  # nobody listens there

    renewed = Authority(tmp_path / "renewed", "Next Year's CA")
    fresh, caller = renewed.certified("node"), renewed.certified("ct1")
    identity.key.write_bytes(fresh.key.read_bytes())
    identity.certificate.write_bytes(fresh.certificate.read_bytes())
    identity.authority.write_bytes(fresh.authority.read_bytes())
    assert node.process is not None
    node.process.send_signal(signal.SIGHUP)
    wait_until(
        lambda: storescu(tls_port, files, calling="CT1", options=caller.dcmtk).returncode == 0,
        what="the new certificate in force",
    )
    assert storescu(tls_port, files, calling="CT1", options=party.dcmtk).returncode != 0
    for reason in ("bears none of its certificate_names", "its certificate is not accepted"):
        wait_until(lambda reason=reason: told(node, reason), seconds=20, what=reason)


def told(node: RunningNode, reason: str) -> bool:
    refused = [entry["details"] for entry in node.audit() if entry["event"] == "association refused"]
    return any(reason in str(details) for details in refused)
