"""What no parser survives is answered, put aside with its reason, and the node stays up, also after a restart."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from tests.builders_dicom import write_ct_series
from tests.builders_receive import RawPeer, encoded_data_set, sop_instance_uid_of, store_command
from tests.peers import RunningNode, free_port, wait_until


def nested(depth: int) -> bytes:
    """Request Attributes Sequence in Request Attributes Sequence in ..., all of undefined length."""
    begin = struct.pack("<HH2sHL", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 2**32 - 1
    )
    end = struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return begin * depth + end * depth


def send(port: int, path: Path, *, depth: int = 0) -> int:
    """The status of a slice whose pixels come after so deep a sequence."""
    content = encoded_data_set(path)
    pixels = content.index(b"\xe0\x7f\x10\x00")
    with RawPeer(port) as peer:
        peer.send_fragment(3, store_command(sop_instance_uid_of(path)))
        peer.send_fragment(2, content[:pixels] + (nested(depth) if depth else b"") + content[pixels:])
        return peer.read_status()


def test_a_sequence_nested_thousands_deep_is_put_aside_and_the_node_stays_up_also_after_a_restart(
    make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = make_node(free_port(), rules="", quiet_seconds=0.5).start()
    first, second, good, later = write_ct_series(tmp_path / "source", slices=4, rows=16, columns=16)

    def quarantined() -> list[str]:
        return [str(row["details"]["reason"]) for row in node.audit() if row["event"] == "quarantined"]

    def closed() -> int:
        return sum(row["event"] == "series closed" for row in node.audit())

    assert send(node.port, first, depth=3000) == 0x0000
    assert send(node.port, good) == 0x0000
    wait_until(lambda: quarantined() and closed(), what="the good one being listed, the bad one put aside")
    assert "nested too deeply" in quarantined()[0]

    assert send(node.port, second, depth=3000) == 0x0000
    node.kill()
    node.start()
    wait_until(lambda: len(quarantined()) == 2, what="the bad one being found again and put aside")
    assert send(node.port, later) == 0x0000
    wait_until(lambda: closed() == 2, what="the series being whole once more")
    put_aside = [path for path in (node.folder / "var" / "quarantine").iterdir() if path.suffix == ".dcm"]
    assert len(put_aside) == 2
    assert all("nested" in path.with_name(f"{path.name}.reason.txt").read_text() for path in put_aside)
    assert not list((node.folder / "var" / "arrivals").glob("*.part"))
