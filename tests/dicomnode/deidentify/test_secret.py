"""Pseudonyms: the same with the same key, unlike with another, and a key that only its owner reads."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.deidentify.secret import KeyFault, Secret, make_key, read_key

ONE, OTHER = Secret(b"1" * 32), Secret(b"2" * 32)


@given(st.text("0123456789.", min_size=1, max_size=64))
def test_a_uid_has_one_pseudonym_that_is_a_valid_uuid_derived_uid(uid: str) -> None:
    made = ONE.uid(uid)
    assert made == Secret(b"1" * 32).uid(uid) != OTHER.uid(uid)
    assert made.startswith("2.25.")
    assert len(made) <= 64
    assert UUID(int=int(made[5:])).version == 4


def test_unlike_uids_have_unlike_pseudonyms() -> None:
    assert len({ONE.uid(f"1.2.{number}") for number in range(5000)}) == 5000


def test_patients_differ_by_issuer_and_keys_and_borders_between_words_count() -> None:
    assert ONE.pseudonym("A", "1") != ONE.pseudonym("B", "1")
    assert ONE.pseudonym("A", "1") != OTHER.pseudonym("A", "1")
    assert ONE.pseudonym("A1", "") != ONE.pseudonym("A", "1")
    assert ONE.uid("1") != ONE.pseudonym("1")


@given(st.text(max_size=64))
def test_dates_move_back_by_one_day_to_ten_years(person: str) -> None:
    assert 1 <= ONE.days_earlier(person) <= 3650


def test_a_key_is_made_once_for_its_owner_only_and_read_again(tmp_path: Path) -> None:
    made = make_key(tmp_path / "keys" / "one.key")
    assert (tmp_path / "keys" / "one.key").stat().st_mode & 0o777 == 0o600
    assert read_key(tmp_path / "keys" / "one.key") == made
    assert make_key(tmp_path / "two.key") != made
    with pytest.raises(KeyFault, match="is there already"):
        make_key(tmp_path / "two.key")


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    make_key(tmp_path / "one.key")
    (tmp_path / "one.key").chmod(0o640)
    with pytest.raises(KeyFault, match="chmod 0600"):
        read_key(tmp_path / "one.key")


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 64, b"0" * 62])
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one.key").write_bytes(content)
    (tmp_path / "one.key").chmod(0o600)
    with pytest.raises(KeyFault, match="holds no key"):
        read_key(tmp_path / "one.key")


def test_a_key_that_is_not_there_is_not_made_silently(tmp_path: Path) -> None:
    with pytest.raises(KeyFault, match="--new-key"):
        read_key(tmp_path / "none.key")


def test_a_key_is_never_printed() -> None:
    assert "1111" not in repr(ONE)
    assert len(ONE.fingerprint) == 16
