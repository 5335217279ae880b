"""The key of an export's pseudonyms, and what follows from it: UIDs, patient pseudonyms and date shifts.

The same key gives the same pseudonyms in every export; without it nobody can tell which original one belongs to.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from base64 import b32encode
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from dicomnode.errors import NodeFault
from storage.folder_sync import sync_folder

KEY_BYTES = 32
LONGEST_SHIFT_DAYS = 3650


class KeyFault(NodeFault):
    """The file of the key cannot be used; name another, or correct who may read it."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A key, and what is made with it."""

    key: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """By this two exports show that they were made with the same key; it says nothing about the key."""
        return self._digest("fingerprint").hex()[:16]

    def uid(self, original: str) -> str:
        """The UID that stands for this one (PS3.5 B.2)."""
        return f"2.25.{UUID(bytes=self._digest('uid', original)[:16], version=4).int}"

    def pseudonym(self, *person: str) -> str:
        """The identifier that stands for a patient, who is known by the same words in every study."""
        return "P" + b32encode(self._digest("patient", *person)[:10]).decode("ascii")

    def days_earlier(self, *person: str) -> int:
        """By how many days all dates of a patient are moved into the past: 1 to 3650."""
        return 1 + int.from_bytes(self._digest("days", *person)[:8]) % LONGEST_SHIFT_DAYS

    def _digest(self, use: str, *words: str) -> bytes:
        message = "".join(f"{len(word.encode())}:{word}" for word in (use, *words))
        return hmac.new(self.key, message.encode(), hashlib.sha256).digest()


def make_key(path: Path) -> Secret:
    """A new key, durable in a file that only its owner can read; raises KeyFault where a file is already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise KeyFault(f"{path} is there already; use it without --new-key, or name another file") from None
    key = secrets.token_bytes(KEY_BYTES)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.hex().encode("ascii") + b"\n")
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)  # a key that a power cut takes away would take its pseudonyms along
    return Secret(key)


def read_key(path: Path) -> Secret:
    """The key of a file; raises KeyFault where there is none, others may read it, or it is none of ours."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            text = file.read(4096)
    except FileNotFoundError:
        raise KeyFault(f"{path} is not there; `--new-key` makes it, for a new set of pseudonyms") from None
    if mode & 0o077:
        raise KeyFault(f"{path} is open to others (mode {mode:04o}); chmod 0600 it")
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyFault(f"{path} holds no key: `--new-key` writes {2 * KEY_BYTES} hexadecimal digits")
    return Secret(key)
