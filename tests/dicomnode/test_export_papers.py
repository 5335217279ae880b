"""The papers of an export: files of their own that are never written over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dicomnode.deidentify.instance import Policy
from dicomnode.deidentify.profile import Action
from dicomnode.deidentify.secret import Secret
from dicomnode.export_papers import ExportFault, Manifest, Written, told, write_anew


def test_a_paper_is_written_once_for_its_owner(tmp_path: Path) -> None:
    write_anew(tmp_path / "one", b"1")
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ExportFault, match="not written over"):
        write_anew(tmp_path / "one", b"2")
    assert (tmp_path / "one").read_bytes() == b"1"


def test_the_manifest_lists_series_and_says_what_was_not_done() -> None:
    manifest = Manifest(Policy(frozenset(), Secret(b"k" * 32)))
    manifest.written += [Written(f"{one}.dcm", "1", "1.1", f"1.1.{one}", "0" * 64) for one in range(2)]
    manifest.written.append(Written("3.dcm", "1", "1.2", "1.2.1", "0" * 64, ("careful",)))
    manifest.done["PatientName", Action.EMPTY] += 3
    manifest.refused["its pixels may name the patient"] += 2
    said = json.loads(manifest.as_json())
    assert [len(one["instances"]) for one in said["series"]] == [2, 1]
    assert said["series"][1]["instances"][0]["warnings"] == ["careful"]
    assert said["deidentified"]["done"] == [{"attribute": "PatientName", "action": "emptied", "times": 3}]
    assert said["not_exported"] == {"its pixels may name the patient": 2}
    assert "faces" in said["deidentified"]["not_done"]


def test_an_export_as_stored_says_that_it_is_not_de_identified() -> None:
    assert json.loads(Manifest(None).as_json())["deidentified"] is False


def test_warnings_are_counted() -> None:
    assert told([("a", "b"), ("a",), ()]) == {"a": 2, "b": 1}
