"""Names and descriptions leave the node byte for byte as they came, in every character set (G8, K1-K5)."""

from __future__ import annotations

import logging
import subprocess
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import FileDataset, dcmread
from pydicom.dataelem import RawDataElement

from dicomnode.headers import UNDECODED, read_header
from dicomnode.recode import recoded
from tests.builders_dicom import card_for, derived_datasets, write_ct_series, write_mr_series, write_pet_series
from tests.builders_texts import CHINESE, TEXTS, UNDECLARED, with_texts
from tests.validators import dcmtk, errors

NAMES = ("PatientName", "ReferringPhysicianName")
TEXT_KEYWORDS = ("PatientID", "StudyDescription", "InstitutionName")
IMPLICIT = "1.2.840.10008.1.2"


def series(folder: Path, name: str) -> list[Path]:
    """Three CT slices whose patient, study and series are named in one character set."""
    text = TEXTS[name]
    texts = {
        **dict.fromkeys(NAMES, text.name),
        **dict.fromkeys(TEXT_KEYWORDS, text.name),
        "SeriesDescription": text.name,
    }
    return [with_texts(path, text.declared, texts) for path in write_ct_series(folder, slices=3)]


def kept(dataset: FileDataset, keyword: str) -> bytes | None:
    """An element's bytes, padding included; None when it is absent."""
    element = dataset.get_item(keyword)
    if element is None:
        return None
    assert isinstance(element, RawDataElement), keyword
    return element.value


def written(folder: Path, made: list[FileDataset]) -> list[Path]:
    paths = [folder / f"derived-{number}.dcm" for number in range(len(made))]
    for path, dataset in zip(paths, made, strict=True):
        dataset.save_as(path)
    return paths


@pytest.mark.parametrize("name", TEXTS)
def test_a_derived_series_has_the_bytes_of_its_source(tmp_path: Path, name: str) -> None:
    paths = series(tmp_path, name)
    source = dcmread(paths[0])
    made = derived_datasets(paths, card_for("CT"))
    assert len(made) == 3
    for dataset in made:
        assert dataset.get("SpecificCharacterSet") == source.get("SpecificCharacterSet")
        for keyword in (*NAMES, *TEXT_KEYWORDS):
            assert kept(dataset, keyword) == TEXTS[name].name, keyword
        description = kept(dataset, "SeriesDescription")
        assert description is not None and description.isascii() and b"\x1b" not in description
        assert b"(AI)" in description


@pytest.mark.peer
@pytest.mark.parametrize("name", TEXTS)
def test_dcmtk_reads_the_same_text_in_the_source_and_in_what_is_derived(tmp_path: Path, name: str) -> None:
    paths = series(tmp_path, name)
    derived = written(tmp_path, derived_datasets(paths, card_for("CT")))
    asked = [word for keyword in (*NAMES, *TEXT_KEYWORDS, "SpecificCharacterSet") for word in ("+P", keyword)]
    for conversion in (["+U8"], []):  # without: the bytes, for sets that this DCMTK cannot convert
        before, after = (
            subprocess.run([dcmtk("dcmdump"), *conversion, *asked, str(path)], capture_output=True, timeout=60)
            for path in (paths[0], derived[0])
        )
        # What is derived names its source's equipment, so its institution, once more in an item.
        lines = [{line.strip() for line in done.stdout.splitlines()} for done in (before, after)]
        assert lines[0] == lines[1] and before.returncode == after.returncode
        assert conversion or len(lines[0]) >= 5


@pytest.mark.parametrize("name", ["Chinese", "chrH32", "chrX2", "undeclared"])
@pytest.mark.parametrize("write", [write_pet_series, write_mr_series])
def test_pet_and_mr_series_keep_the_bytes_too(tmp_path: Path, name: str, write: object) -> None:
    text = TEXTS[name]
    made_paths = write(tmp_path, slices=2)  # type: ignore[operator]
    paths = [with_texts(path, text.declared, {"PatientName": text.name}) for path in made_paths]
    for dataset in derived_datasets(paths, card_for(str(dcmread(paths[0]).Modality))):
        assert kept(dataset, "PatientName") == text.name


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_recoded_for_a_peer_keeps_the_bytes_of_what_was_derived(tmp_path: Path, name: str) -> None:
    derived = written(tmp_path, derived_datasets(series(tmp_path, name), card_for("CT")))
    sent = dcmread(BytesIO(recoded(derived[0], IMPLICIT)))
    for keyword in (*NAMES, *TEXT_KEYWORDS):
        assert kept(sent, keyword) == TEXTS[name].name


@pytest.mark.parametrize("name", sorted(set(TEXTS) - {"undeclared"}))
def test_a_rule_and_the_catalogue_see_the_text(tmp_path: Path, name: str) -> None:
    values = read_header(series(tmp_path, name)[0]).values
    assert values["PatientName"] and "\ufffd" not in values["PatientName"] and "\x1b" not in values["PatientName"]
    assert UNDECODED not in values


def test_the_catalogue_keeps_the_bytes_of_what_it_cannot_read_for_certain(tmp_path: Path) -> None:
    values = read_header(series(tmp_path / "a", "undeclared")[0]).values
    assert values["PatientName"] == "Müller^Jörg"
    assert bytes.fromhex(values[UNDECODED]["PatientName"]) == UNDECLARED.name
    assert bytes.fromhex(values[UNDECODED]["PatientID"]) == UNDECLARED.name
    (path,) = write_ct_series(tmp_path / "b", slices=1)
    with_texts(path, b"ISO_IR 192", {"PatientName": UNDECLARED.name, "PatientID": b"ID1 "})
    values = read_header(path).values
    assert "\ufffd" in values["PatientName"] and values["PatientID"] == "ID1"
    assert values[UNDECODED] == {"PatientName": UNDECLARED.name.hex()}


def test_chinese_names_are_catalogued_as_they_are_read(tmp_path: Path) -> None:
    values = read_header(series(tmp_path, "Chinese")[0]).values
    assert values["PatientName"] == "Zhang^XiaoDong=张^小东="
    assert CHINESE.name.startswith(b"Zhang")


@pytest.mark.parametrize("name", ["Chinese", "undeclared", "chrX2"])
def test_no_name_is_logged_on_the_way(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    paths = series(tmp_path, name)
    read_header(paths[0])
    recoded(written(tmp_path, derived_datasets(paths, card_for("CT")))[0], IMPLICIT)
    for part in ("Zhang", "XiaoDong", "Wang", "ller^J", TEXTS[name].name.hex()):
        assert part not in caplog.text


def test_dciodvfy_finds_no_fault_in_what_is_derived_from_declared_names(tmp_path: Path) -> None:
    derived = written(tmp_path, derived_datasets(series(tmp_path, "chrX1"), card_for("CT")))
    assert errors(derived[0]) == []
