"""Passports are whole or not there, private, and never under a name that somebody else chose."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from storage.errors import StorageFull
from storage.passport_files import PassportFiles

UID = "2.25.123"


def test_a_passport_is_read_back_as_it_was_kept(tmp_path: Path) -> None:
    passports = PassportFiles(tmp_path)
    path = passports.keep(UID, "ab", '{"a": 1}')
    assert passports.read(UID, "ab") == '{"a": 1}'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_another_passport_of_the_series_lies_beside_the_first_and_the_same_one_again_is_harmless(
    tmp_path: Path,
) -> None:
    passports = PassportFiles(tmp_path)
    passports.keep(UID, "01", "first")
    passports.keep(UID, "02", "second")
    passports.keep(UID, "01", "first")
    assert (passports.read(UID, "01"), passports.read(UID, "02")) == ("first", "second")
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


def test_a_series_without_a_passport_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        PassportFiles(tmp_path).read(UID, "ab")


def test_a_uid_is_never_a_path(tmp_path: Path) -> None:
    path = PassportFiles(tmp_path).keep("../../etc/passwd", "../..", "x")
    assert (tmp_path / "passports") in path.parents


def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passports = PassportFiles(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFull):
        passports.keep(UID, "ab", "x")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
