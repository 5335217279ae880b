"""Queries and retrievals from our node, Orthanc and DCMTK's dcmqrscp, each with the same 10,000 instances, in turns.

    .venv/bin/python benchmarks/query.py --rounds 5
    .venv/bin/python benchmarks/query.py --rows 100000      # ours alone, with so many rows in its catalogue

Queries come from our own requestor over one association, so that every server has the same fast client: milliseconds
from the request to the last answer. C-MOVE goes to DCMTK's storescp --ignore, C-GET comes from getscu --ignore: 300 CT
of 512x512, images a second of the whole command. Every server and tool has TCP_NODELAY=1. Ratios are those of the same
round; the table gives medians.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from pydicom.dataset import Dataset
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dicomnode.call import Patience
from dicomnode.dialogue import Ask, Dialogue
from dicomnode.peer import Peer
from tests.builders_dicom import write_ct_series
from tests.builders_query import PATIENT_FIND, STUDY_FIND, Archive, keys
from tests.peers import NODE_AE, PACS_AE, Orthanc, RunningNode, _listens, free_port, program, storescp, wait_until

STUDIES, SLICES, RETRIEVED = 33, 300, 300
BIG, BIG_SERIES = "1.2.826.0.1.9.999", "1.2.826.0.1.9.999.1"
OURS, ORTHANC, DCMQRSCP = "ours", "Orthanc", "dcmqrscp"
QRSCP_AE, QRSCP_MOST = "QRSCP", 7_800
"""dcmqrscp's index ends at 32 MB: it gets the first 26 studies and the one that is retrieved."""
WARM_UP = 3
"""Rounds before those that count: our receiving processes import what answers when it is first asked for."""
QUIET = {**os.environ, "TCP_NODELAY": "1"}
Milliseconds = float


def study_uid(number: int) -> str:
    return f"1.2.826.0.1.9.{number}"


def write_files(folder: Path) -> list[Path]:
    """33 studies of 300 small CT and one of 300 of 512x512."""
    files: list[Path] = []
    for number in track(range(STUDIES), "writing 10,000 instances"):
        name = f"{('Smith', 'Jones', 'Müller')[number % 3]}^Number {number}"
        more: dict[str, Any] = {
            "PatientName": name,
            "PatientID": f"P{number}",
            "StudyDate": f"2024{number % 12 + 1:02d}01",
        }
        uid = study_uid(number)
        options: dict[str, Any] = {
            "study_instance_uid": uid,
            "series_instance_uid": f"{uid}.1",
            "rows": 16,
            "columns": 16,
        }
        files += write_ct_series(folder / str(number), slices=SLICES, **options, **more)
    options = {"study_instance_uid": BIG, "series_instance_uid": BIG_SERIES, "rows": 512, "columns": 512}
    return files + write_ct_series(folder / "big", slices=RETRIEVED, PatientName="Big^One", PatientID="BIG", **options)


def questions() -> dict[str, tuple[str, Dataset, int]]:
    """What is asked: information model, identifier, how many answers there must be."""
    told = {"StudyInstanceUID": "", "StudyDate": "", "PatientID": "", "AccessionNumber": "", "StudyDescription": ""}
    counts = {"ModalitiesInStudy": "", "NumberOfStudyRelatedSeries": "", "NumberOfStudyRelatedInstances": ""}
    image = {"SOPInstanceUID": "", "InstanceNumber": "", "SOPClassUID": "", "Rows": "", "ImagePositionPatient": ""}
    above = {"StudyInstanceUID": study_uid(7), "SeriesInstanceUID": f"{study_uid(7)}.1"}
    by_date = {**told, **counts, "StudyDate": "20240101-20240601"}
    series = {"StudyInstanceUID": study_uid(7), "SeriesInstanceUID": "", "Modality": ""}
    return {
        "study by Patient ID": (STUDY_FIND, keys("STUDY", **{**told, "PatientID": "P7"}, PatientName=""), 1),
        "studies by name, Smith*": (STUDY_FIND, keys("STUDY", **told, PatientName="Smith*"), 11),
        "studies by date, with counts": (STUDY_FIND, keys("STUDY", **by_date), 19),
        "series of a study": (STUDY_FIND, keys("SERIES", **series), 1),
        "images of a series, 300": (STUDY_FIND, keys("IMAGE", **above, **image), SLICES),
    }


def ask(port: int, title: str, model: str, identifier: Dataset, expected: int) -> Milliseconds:
    """One query over an association that is open already."""
    peer = Peer(name="server", ae_title=title, host="127.0.0.1", port=port)
    with Dialogue.open(peer, model, ae_title="VIEWER", patience=Patience()) as dialogue:
        list(dialogue.ask(Ask.FIND, model, identifier))  # what is done once for a server is done now
        begun = time.perf_counter()
        answers = list(dialogue.ask(Ask.FIND, model, identifier))
        took = time.perf_counter() - begun
    found = sum(not one.is_last for one in answers)
    at_least = 1 if title == QRSCP_AE else expected  # it does not hold everything
    assert at_least <= found <= expected and answers[-1].status == 0, (
        f"{title}: {found} answers, status 0x{answers[-1].status:04X}"
    )
    return took * 1000


def retrieve(port: int, title: str, tool: str, *options: str) -> float:
    """Images a second of movescu or getscu."""
    study = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={BIG}")
    command = [tool, "-v", "-aet", "VIEWER", "-aec", title, *study, *options, "127.0.0.1", str(port)]
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=QUIET, timeout=300)
    took = time.perf_counter() - begun
    told = done.stdout + done.stderr
    assert done.returncode == 0 and "Success" in told, f"{title}: {told[-2000:]}"
    return RETRIEVED / took


def send(port: int, title: str, files: list[Path]) -> None:
    for first in range(0, len(files), 1000):
        command = [program("storescu"), "-aet", "VIEWER", "-aec", title, "127.0.0.1", str(port)]
        subprocess.run([*command, *map(str, files[first : first + 1000])], check=True, env=QUIET, capture_output=True)


@contextmanager
def our_node(folder: Path, viewer_port: int, files: list[Path]) -> Iterator[tuple[int, str]]:
    viewer = f'[peers.viewer]\nae_title = "VIEWER"\nhost = "127.0.0.1"\nport = {viewer_port}\n'
    viewer += 'may = ["store", "query", "retrieve"]\n'
    node = RunningNode(folder, 1, rules="", more=viewer, quiet_seconds=5).start()
    try:
        send(node.port, NODE_AE, files)
        every = keys("STUDY", StudyInstanceUID=BIG, NumberOfStudyRelatedInstances="")
        wait_until(lambda: counted(node.port, every) == RETRIEVED, seconds=300, what="everything being listed")
        yield node.port, NODE_AE
    finally:
        node.stop()


def counted(port: int, identifier: Dataset) -> int:
    peer = Peer(name="server", ae_title=NODE_AE, host="127.0.0.1", port=port)
    with Dialogue.open(peer, STUDY_FIND, ae_title="VIEWER") as dialogue:
        answers = list(dialogue.ask(Ask.FIND, STUDY_FIND, identifier))
    return sum(int(one.identifier.NumberOfStudyRelatedInstances) for one in answers if one.identifier is not None)


@contextmanager
def orthanc(folder: Path, viewer_port: int, files: list[Path]) -> Iterator[tuple[int, str]]:
    server = Orthanc(folder).start()
    try:
        viewer = json.dumps({"AET": "VIEWER", "Host": "127.0.0.1", "Port": viewer_port}).encode()
        address = f"http://127.0.0.1:{server.http_port}/modalities/viewer"
        urllib.request.urlopen(urllib.request.Request(address, viewer, method="PUT"), timeout=10).close()
        send(server.dicom_port, PACS_AE, files)
        yield server.dicom_port, PACS_AE
    finally:
        server.stop()


@contextmanager
def dcmqrscp(folder: Path, viewer_port: int, files: list[Path]) -> Iterator[tuple[int, str]]:
    port = free_port()
    (folder / "db").mkdir(parents=True)
    (folder / "dcmqrscp.cfg").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nviewer = (VIEWER, 127.0.0.1, {viewer_port})\nHostTable END\n"
        f"VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\n{QRSCP_AE} {folder / 'db'} RW (200, 100gb) ANY\nAETable END\n"
    )
    process = subprocess.Popen([program("dcmqrscp"), "-c", str(folder / "dcmqrscp.cfg")], env=QUIET)
    try:
        wait_until(lambda: _listens(port), seconds=20, what="dcmqrscp listening")
        send(port, QRSCP_AE, files[:QRSCP_MOST] + files[-RETRIEVED:])
        yield port, QRSCP_AE
    finally:
        process.terminate()
        process.wait(30)


SERVERS: dict[str, Callable[..., Any]] = {OURS: our_node, ORTHANC: orthanc, DCMQRSCP: dcmqrscp}


def compare(folder: Path, rounds: int, servers: list[str]) -> dict[str, dict[str, list[float]]]:
    """What was measured -> server -> a figure for each round."""
    files = write_files(folder / "files")
    viewer_port = free_port()
    figures: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        stack.enter_context(storescp(viewer_port, "--ignore", "-aet", "VIEWER", "--max-pdu", "131072"))
        places = {}
        for name in servers:
            Console().print(f"filling {name}")
            places[name] = stack.enter_context(SERVERS[name](folder / name, viewer_port, files))
        tasks: dict[str, Callable[[int, str], float]] = {
            f"{what}, ms": functools.partial(ask, model=model, identifier=identifier, expected=expected)
            for what, (model, identifier, expected) in questions().items()
        }
        tasks["C-MOVE, images/s"] = lambda port, title: retrieve(port, title, program("movescu"), "-aem", "VIEWER")
        tasks["C-GET, images/s"] = lambda port, title: retrieve(port, title, "/usr/bin/getscu", "--ignore")
        for number in track(range(-WARM_UP, rounds), "measuring"):
            for what, task in tasks.items():
                for name in servers[number % len(servers) :] + servers[: number % len(servers)]:
                    figure = task(*places[name])
                    if number >= 0:
                        figures.setdefault(what, {}).setdefault(name, []).append(figure)
    return figures


def show(figures: dict[str, dict[str, list[float]]], servers: list[str]) -> None:
    """Medians, and how many times better ours is in the same round."""
    table = Table("", *servers, *(f"ours : {name}" for name in servers if name != OURS))
    for what, by_server in figures.items():
        row = [f"{statistics.median(by_server[name]):.1f}" for name in servers]
        for name in servers:
            if name != OURS:
                pairs = zip(by_server[OURS], by_server[name], strict=True)
                ratios = [theirs / ours if what.endswith("ms") else ours / theirs for ours, theirs in pairs]
                row.append(f"{statistics.median(ratios):.2f} x")
        table.add_row(what, *row)
    Console(width=140).print(table)


def many_rows(folder: Path, rows: int, rounds: int) -> None:
    """Ours with so many rows in its catalogue, 300 a series; and the same as studies of one image each."""
    from dicomnode.headers import read_header
    from storage import catalog
    from storage.catalog import Instance

    [file] = write_ct_series(folder / "one", slices=1, rows=8, columns=8)
    header = read_header(file)
    for a_study in (SLICES, 1):
        archive = Archive(folder / f"rows-{a_study}")
        listed: list[Instance] = []
        for number in track(range(rows), f"{rows} rows, {a_study} a study"):
            study, name = (
                number // a_study,
                f"{('Smith', 'Jones', 'Müller')[number // a_study % 3]}^{number // a_study}",
            )
            more = {
                "PatientID": f"P{study}",
                "PatientName": name,
                "StudyDate": f"20{study % 24:02d}{study % 12 + 1:02d}01",
            }
            uids = (f"{study_uid(study)}.1.{number}", header.sop_class_uid, header.transfer_syntax_uid)
            places = (f"{study_uid(study)}.1", study_uid(study), "scanner", datetime.now(UTC), "0" * 64, 500_000)
            more |= {"SOPInstanceUID": uids[0], "SeriesInstanceUID": places[0], "StudyInstanceUID": places[1]}
            listed.append(Instance(*uids, *places, header.values | more))
            if len(listed) == 5000 or number == rows - 1:
                with archive.stores.database.begin() as connection:
                    catalog.add_instances(connection, listed)
                listed.clear()
        told = {"StudyInstanceUID": "", "StudyDate": "", "ModalitiesInStudy": "", "NumberOfStudyRelatedInstances": ""}
        asked: dict[str, tuple[str, Dataset]] = {
            "study by Patient ID": (STUDY_FIND, keys("STUDY", **told, PatientID="P7")),
            "study by UID": (STUDY_FIND, keys("STUDY", **{**told, "StudyInstanceUID": study_uid(7)})),
            "study by name": (STUDY_FIND, keys("STUDY", **told, PatientName="JONES^7")),
            "studies by the beginning of a name and the year": (
                STUDY_FIND,
                keys("STUDY", **{**told, "StudyDate": "20120101-20121231"}, PatientName="Smith^1*"),
            ),
            "study by the end of a name": (STUDY_FIND, keys("STUDY", **told, PatientName="*^7")),
            "patient by Patient ID": (PATIENT_FIND, keys("PATIENT", PatientID="P7", PatientName="")),
        }
        table = Table(f"{rows} instances, {a_study} a study", "answers", "median ms", "slowest ms")
        for what, (model, identifier) in asked.items():
            took: list[float] = []
            found = 0
            peer = Peer(name="server", ae_title=NODE_AE, host="127.0.0.1", port=archive.port)
            with Dialogue.open(peer, model, ae_title="VIEWER") as dialogue:
                for _ in range(rounds + 1):
                    begun = time.perf_counter()
                    found = sum(not one.is_last for one in dialogue.ask(Ask.FIND, model, identifier))
                    took.append((time.perf_counter() - begun) * 1000)
            table.add_row(what, str(found), f"{statistics.median(took[1:]):.1f}", f"{max(took[1:]):.1f}")
        Console(width=140).print(table)
        archive.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--servers", nargs="+", default=list(SERVERS), choices=list(SERVERS))
    parser.add_argument("--rows", type=int, help="measure ours alone with so many rows")
    parser.add_argument("--json", type=Path, help="every figure goes there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.rows:
            many_rows(Path(folder), given.rows, given.rounds)
            return
        figures = compare(Path(folder), given.rounds, given.servers)
    show(figures, given.servers)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
