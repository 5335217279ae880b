"""Tables of the statement are Markdown, and nothing in them goes by a bare number."""

from __future__ import annotations

import pytest

from dicomnode.conformance.tables import name_of, table, tag_of, uid_rows
from dicomnode.contexts import ACCEPTED_STORAGE, TRANSFER_SYNTAXES


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert table(("a", "b"), [("x|y", "z")]) == "| a | b |\n| --- | --- |\n| x\\|y | z |\n"


def test_everything_that_is_accepted_has_a_name() -> None:
    rows = uid_rows((*ACCEPTED_STORAGE, *TRANSFER_SYNTAXES))
    assert len(rows) == len(ACCEPTED_STORAGE) + len(TRANSFER_SYNTAXES) and all(name != uid for name, uid in rows)


def test_a_uid_that_nobody_named_is_not_hidden() -> None:
    with pytest.raises(LookupError, match=r"1\.2\.3 has no name"):
        name_of("1.2.3")


def test_tags_are_written_as_the_standard_writes_them() -> None:
    assert tag_of("PatientName") == "(0010,0010)" and tag_of("PixelData") == "(7FE0,0010)" and tag_of("NoSuch") == ""
