"""What tests of instance files arrange with: Part 10 bytes, and a look at every file."""

from __future__ import annotations

from pathlib import Path

from storage.instance_files import InstanceFiles

UID = "1.2.840.113619.2.55.3"


def part10(data_set: bytes, sender: bytes = b"SCANNER ") -> bytes:
    """A Part 10 file whose File Meta names its sender (0002,0016)."""
    meta = b"\x02\x00\x16\x00AE" + len(sender).to_bytes(2, "little") + sender
    return bytes(128) + b"DICM\x02\x00\x00\x00UL\x04\x00" + len(meta).to_bytes(4, "little") + meta + data_set


def every_file(files: InstanceFiles, tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path / "var")) for path in tmp_path.rglob("*") if path.is_file())
