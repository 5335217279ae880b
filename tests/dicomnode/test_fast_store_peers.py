"""Senders of other makers, right and faulty, hear the same from both receive paths."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from storage.instance_files import InstanceFiles
from tests.builders_dicom import write_ct_series
from tests.builders_receive import Station
from tests.peers import Orthanc, program, storescu, wait_until

pytestmark = pytest.mark.peer


@pytest.fixture(params=["fast", "plain"])
def station(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Station]:
    station = Station(InstanceFiles(tmp_path / "var"), receive_path=request.param)
    yield station
    station.receiver.stop(drain_s=5)
    assert list((tmp_path / "var" / "incoming").iterdir()) == []


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_ct_series(tmp_path_factory.mktemp("ct"), slices=6, rows=256, columns=256)


def kept(station: Station) -> dict[str, bytes]:
    """SOP Instance UID -> pixels of what was kept."""
    found = [dcmread(path) for path in station.files.arrivals()]
    return {dataset.SOPInstanceUID: dataset.PixelData for dataset in found}


def pixels(series: list[Path]) -> dict[str, bytes]:
    return {dataset.SOPInstanceUID: dataset.PixelData for dataset in map(dcmread, series)}


def run(name: str, *arguments: object, nodelay: bool = True) -> subprocess.CompletedProcess[str]:
    """A DCMTK program that calls as SCANNER."""
    command = [program(name), "-aet", "SCANNER", "-aec", "DICOMNODE", *map(str, arguments)]
    environment = {**os.environ, **({"TCP_NODELAY": "1"} if nodelay else {})}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def test_a_series_of_storescu_is_kept_whole(station: Station, series: list[Path]) -> None:
    assert storescu(station.port, series).returncode == 0
    assert kept(station) == pixels(series)
    wait_until(lambda: "association released" in station.events(), what="the release")


def test_a_sender_with_nagle_on_is_served_as_well(station: Station, series: list[Path]) -> None:
    assert run("storescu", "127.0.0.1", station.port, *series, nodelay=False).returncode == 0
    assert kept(station) == pixels(series)


def test_a_sender_with_tiny_pdus_is_served_as_well(station: Station, series: list[Path]) -> None:
    assert storescu(station.port, series, options=["--max-send-pdu", "4096"]).returncode == 0
    assert kept(station) == pixels(series)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_any_transfer_syntax_of_storescu_is_kept(station: Station, tmp_path: Path, syntax: str) -> None:
    files = write_ct_series(tmp_path / "other", slices=2, transfer_syntax_uid=syntax)
    option = {ImplicitVRLittleEndian: "-xi", ExplicitVRBigEndian: "-xb", DeflatedExplicitVRLittleEndian: "-xd"}[syntax]
    assert storescu(station.port, files, options=[option]).returncode == 0
    assert {dcmread(path).file_meta.TransferSyntaxUID for path in station.files.arrivals()} == {syntax}
    assert len(station.files.arrivals()) == 2


def test_an_abort_after_the_last_instance_loses_nothing_that_was_answered(station: Station, series: list[Path]) -> None:
    storescu(station.port, series, options=["--abort"])
    wait_until(lambda: "association aborted" in station.events(), what="the abort")
    assert kept(station) == pixels(series)


def test_repeated_instances_are_success_and_kept_once(station: Station, series: list[Path]) -> None:
    sent = storescu(station.port, series, options=["--repeat", "3"])
    assert sent.returncode == 0
    assert kept(station) == pixels(series)
    wait_until(lambda: "association released" in station.events(), what="the release")
    assert sum(details["instances_kept"] for event, _, details in station.told) == 3 * len(series)


def test_invented_uids_are_kept_as_instances_of_their_own(station: Station, series: list[Path]) -> None:
    assert storescu(station.port, series, options=["+II", "+IR", "2", "--repeat", "2"]).returncode == 0
    assert len(kept(station)) == 2 * len(series)


def test_an_echo_with_every_transfer_syntax_in_128_contexts_is_answered(station: Station) -> None:
    done = run("echoscu", "-v", "--propose-ts", 38, "--propose-pc", 128, "127.0.0.1", station.port)
    assert done.returncode == 0, done.stderr
    assert "Success" in done.stdout + done.stderr


def test_dcmsend_is_served(station: Station, series: list[Path]) -> None:
    done = run("dcmsend", "-v", "127.0.0.1", station.port, *series)
    assert done.returncode == 0, done.stderr
    assert kept(station) == pixels(series)


def test_gdcmscu_is_served(station: Station, series: list[Path]) -> None:
    # Its exit status says nothing: version 3.0.21 ends with an abort after it has released, with DCMTK's storescp too.
    calling = ["--aetitle", "SCANNER", "--call", "DICOMNODE", "-D", "127.0.0.1", str(station.port)]
    files = [word for path in series for word in ("-i", str(path))]
    subprocess.run([program("gdcmscu"), "--store", *files, *calling], capture_output=True, timeout=60)
    assert kept(station) == pixels(series)
    wait_until(lambda: "association released" in station.events(), what="the release")


def test_a_conflict_is_told_to_storescu(station: Station, series: list[Path], tmp_path: Path) -> None:
    changed = dcmread(series[0])
    changed.SeriesDescription = "changed"
    changed.save_as(tmp_path / "changed.dcm")
    assert storescu(station.port, series[:1]).returncode == 0
    told = storescu(station.port, [tmp_path / "changed.dcm"], options=["-v"])
    assert re.search("0x0?111|Duplicate", told.stdout + told.stderr)
    assert "conflict" in station.events()


def test_several_senders_at_once_are_all_kept(station: Station, tmp_path: Path) -> None:
    all_files = [write_ct_series(tmp_path / str(number), slices=4, rows=128, columns=128) for number in range(4)]
    command = [program("storescu"), "-aet", "SCANNER", "-aec", "DICOMNODE", "127.0.0.1", str(station.port)]
    senders = [subprocess.Popen([*command, *map(str, files)]) for files in all_files]
    assert [sender.wait(60) for sender in senders] == [0] * 4
    assert kept(station) == {uid: data for files in all_files for uid, data in pixels(files).items()}


def test_orthanc_as_sender_is_served(station: Station, series: list[Path], tmp_path: Path) -> None:
    orthanc = Orthanc(tmp_path / "orthanc").start()

    def post(path: str, content: bytes, method: str = "POST") -> bytes:
        address = f"http://127.0.0.1:{orthanc.http_port}{path}"
        asked = urllib.request.Request(address, data=content, method=method)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return bytes(answer.read())

    try:
        uploaded = [json.loads(post("/instances", path.read_bytes()))["ID"] for path in series]
        modality = {"AET": "DICOMNODE", "Host": "127.0.0.1", "Port": station.port, "LocalAet": "SCANNER"}
        post("/modalities/node", json.dumps(modality).encode(), "PUT")
        wanted = {"Resources": uploaded, "LocalAet": "SCANNER"}
        post("/modalities/node/store", json.dumps(wanted).encode())
    finally:
        orthanc.stop()
    assert kept(station) == pixels(series)
