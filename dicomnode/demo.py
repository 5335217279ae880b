"""The demonstration: phantoms through the whole river on this machine, with figures, pictures and a page."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import SecondaryCaptureImageStorage
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from dicomnode.demo_page import Picture, write_page
from dicomnode.demo_wait import DemoFailed, wait_for_series
from dicomnode.outgoing import outbound, store_instances
from dicomnode.passport import exported_passport
from dicomnode.peer import Peer
from dicomnode.phantoms import Phantom, write_phantoms
from dicomnode.receive import Receiver
from dicomnode.verify.folder import verify_folder
from storage import audit, deliveries, jobs
from storage.database import Database
from storage.instance_files import InstanceFiles
from storage.jobs import State
from storage.ledger import LedgerState
from storage.passport_files import PassportFiles

NODE_TOML = """
[node]
host = "127.0.0.1"
port = {port}
data_folder = "../node"
quiet_seconds = 60.0
[peers.scanner]
ae_title = "SCANNER"
may = ["store"]
[peers.pacs]
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs_port}
[pipelines.ct_metal_artifact_reduction]
method = "nmar"  # the phantom's pixels are coarser than those that the network of prior_net knows
also = ["segmentation", "measurement_report", "text_report", "key_images", "banner"]
"""
RULES_TOML = """
[[rules]]
name = "CT with metal"
when = 'Modality == "CT" && SeriesDescription.matches("(?i)metal|implant|hip|dental")'
run = "ct_metal_artifact_reduction"
send_to = ["pacs"]
[[rules]]
name = "low-dose CT"
when = 'Modality == "CT" && SeriesDescription.matches("(?i)low.?dose")'
run = "ct_denoising"
send_to = ["pacs"]
[[rules]]
name = "PET without attenuation correction"
when = 'Modality == "PT" && !("ATTN" in CorrectedImage)'
run = "pet_to_ct"
send_to = ["pacs"]
"""
COMPLAINT = re.compile(r" (WARNING|ERROR|CRITICAL) ")
NO_CORRECTION_HU = -1000.0
"""What a PET scanner assumes that corrects for no attenuation: air everywhere."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What became of one phantom."""

    phantom: Phantom
    pipeline: str
    state: str
    reason: str
    series_instance_uid: str
    derived_series_instance_uid: str
    instances: int
    seconds: float
    psnr_before_db: float
    psnr_after_db: float
    picture: Picture | None


def run_demo(output: Path, *, seed: int, console: Console) -> int:
    """0 when every phantom's derived series lies in the stand-in PACS; writes pictures and page to `output`."""
    begun = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with tempfile.TemporaryDirectory(prefix="dicomnode-demo-") as name, Progress(*columns, console=console) as progress:
        folder = Path(name)
        with _step(progress, "making phantoms: a CT with metal, a NAC PET, a low-dose CT"):
            phantoms = write_phantoms(folder / "scanner", seed)
        with _stand_in_pacs(folder / "pacs") as pacs, _running_node(folder, pacs.port, progress) as node:
            sent_at = {}
            for phantom in phantoms:
                with _step(progress, f"sending {phantom.name}: {len(phantom.files)} instances by C-STORE"):
                    _send(phantom, node.port)
                    sent_at[_series_uid(phantom)] = time.time()
            with _step(progress, "waiting for the derived series") as tell:
                sent = {_series_uid(phantom): len(phantom.files) for phantom in phantoms}
                wait_for_series(folder / "node", sent, log=node.log, tell=tell, alive=node.lives)
            shown = [_shown(phantom, folder / "node", pacs.files, sent_at) for phantom in phantoms]
            rows = _audit_rows(folder / "node")
            with _step(progress, "verifying what the PACS holds, rule by rule"):
                _export_passports(folder / "node", folder / "passports")
                verification = verify_folder(folder / "pacs", sources=[folder / "scanner", folder / "passports"])
            key_images = list(_key_images(pacs.files))
    _print(shown, console)
    pictures = [one.picture for one in shown if one.picture is not None]
    page = write_page(output, pictures, _facts(shown), key_images=key_images)
    (output / "figures.json").write_text(json.dumps(_facts(shown), indent=2), encoding="utf-8")
    images = sum(count for _, count in verification.series)
    console.print(
        f"verify: {images} derived images and {verification.companions} objects beside them held to "
        f"{len(verification.rules)} rules: {verification.verdict}"
    )
    console.print(f"audit: {rows} rows, the hash chain is whole")
    console.print(f"page with pictures: {page}")
    console.print(f"done in {time.monotonic() - begun:.0f} s")
    return 0 if all(one.state == State.DELIVERED for one in shown) and verification.exit_code == 0 else 1


@contextmanager
def _step(progress: Progress, text: str) -> Iterator[Callable[[str], None]]:
    task = progress.add_task(text, total=None)
    yield lambda now: progress.update(task, description=f"{text}: {now}")
    progress.update(task, total=1, completed=1)


@dataclass(frozen=True, slots=True)
class StandInPacs:
    """A C-STORE provider on a free port that keeps what it gets."""

    port: int
    files: InstanceFiles


@contextmanager
def _stand_in_pacs(folder: Path) -> Iterator[StandInPacs]:
    """Our own receive room in the part of a PACS."""
    files = InstanceFiles(folder)
    receiver = Receiver(
        ae_title="PACS",
        peers={"node": Peer(name="node", ae_title="DICOMNODE", may=("store",))},
        files=files,
        arrived=threading.Event(),
        happened=lambda event, peer, details: None,
        maximum_associations=8,
        maximum_pdu=131072,
        idle_s=60,
    )
    port = receiver.start("127.0.0.1", 0)
    try:
        yield StandInPacs(port, files)
    finally:
        receiver.stop(drain_s=2)


@dataclass(frozen=True, slots=True)
class RunningNode:
    """`dicomnode run`: the port it listens on, its process, and the file it logs to."""

    port: int
    process: subprocess.Popen[str]
    log: Path

    def lives(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None


@contextmanager
def _running_node(folder: Path, pacs_port: int, progress: Progress) -> Iterator[RunningNode]:
    """`dicomnode run` with a config made here; what it complained of is shown at the end."""
    config, log = folder / "config", folder / "node.log"
    config.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (config / "node.toml").write_text(NODE_TOML.format(port=port, pacs_port=pacs_port), encoding="utf-8")
    (config / "rules.toml").write_text(RULES_TOML, encoding="utf-8")
    command = [sys.executable, "-m", "dicomnode", "run", "--config", str(config)]
    with _step(progress, "starting the node: dicomnode run"), log.open("wb") as words:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=words, text=True)
        assert process.stdout is not None
        if "ready" not in process.stdout.readline():
            raise DemoFailed(f"the node did not start (exit code {process.wait(30)}):\n{log.read_text()}")
    try:
        yield RunningNode(port, process, log)
    finally:
        with _step(progress, "stopping the node"):
            process.terminate()
            process.wait(120)
        for line in log.read_text(errors="replace").splitlines():
            if COMPLAINT.search(line):
                progress.console.print(f"node: {line}", markup=False, soft_wrap=True)


def _send(phantom: Phantom, port: int) -> None:
    node = Peer(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=port)
    instances = [outbound(path) for path in phantom.files]
    answers = list(store_instances(node, instances, ae_title="SCANNER"))
    if any(answer.state is not LedgerState.DONE for answer in answers):
        raise DemoFailed(f"the node did not take {phantom.name}: {answers}")


@contextmanager
def _reading(folder: Path) -> Iterator[Any]:
    database = Database.open(f"sqlite:///{folder / 'node.sqlite'}")
    try:
        with database.read() as connection:
            yield connection
    finally:
        database.close()


def _export_passports(folder: Path, exported: Path) -> None:
    """The passport of every derived series, as `dicomnode passport` would write it."""
    exported.mkdir()
    kept = PassportFiles(folder)
    with _reading(folder) as connection:
        rows = [entry for entry in audit.entries(connection) if entry.event == "derived"]
    for number, row in enumerate(rows):
        details = row.details
        text = kept.read(str(details["derived_series_instance_uid"]), str(details["passport_sha256"]))
        (exported / f"{number}.passport.json").write_text(exported_passport(json.loads(text), row), encoding="ascii")


def _audit_rows(folder: Path) -> int:
    with _reading(folder) as connection:
        return audit.verify(connection)


def _series_uid(phantom: Phantom) -> str:
    return str(dcmread(phantom.files[0], stop_before_pixels=True).SeriesInstanceUID)


def _shown(phantom: Phantom, folder: Path, held: InstanceFiles, sent_at: dict[str, float]) -> Shown:
    """What came back of the phantom, measured against its truth."""
    series_uid = _series_uid(phantom)
    with _reading(folder) as connection:
        job = jobs.list_jobs(connection, series_instance_uid=series_uid)[0]
        ended = [one for one in deliveries.job_deliveries(connection, job.id) if one.over]
    source = _real_values(phantom.files)
    back = {
        str(dataset.SourceImageSequence[0].ReferencedSOPInstanceUID): values
        for path in held.arrivals()
        if dcmread(path, specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID == job.derived_series_instance_uid
        for dataset, values in [_read(path)]
    }
    before = np.stack([values for _, values in source])
    picture, psnr_after_db = None, float("nan")
    starts_from = np.full_like(before, NO_CORRECTION_HU) if job.pipeline == "pet_to_ct" else before
    if len(back) == len(source) and ended:
        after = np.stack([back[uid] for uid, _ in source])
        psnr_after_db = psnr_db(after, phantom.truth, window=phantom.window)
        picture = Picture(phantom.name, before, after, phantom.truth, phantom.window, phantom.source_window)
    took = (job.finished_at.timestamp() if job.finished_at else time.time()) - sent_at[series_uid]
    return Shown(
        phantom, job.pipeline, job.state, job.reason, series_uid, job.derived_series_instance_uid, len(back), took,
        psnr_db(starts_from, phantom.truth, window=phantom.window), psnr_after_db, picture,
    )  # fmt: skip


def _key_images(held: InstanceFiles) -> Iterator[NDArray[np.uint8]]:
    """The key images that the PACS holds, (rows, columns, 3)."""
    for path in held.arrivals():
        dataset = dcmread(path)
        if dataset.SOPClassUID == SecondaryCaptureImageStorage:
            yield dataset.pixel_array


def _read(path: Path) -> tuple[Any, NDArray[np.float32]]:
    dataset = dcmread(path)
    values = dataset.pixel_array.astype(np.float32) * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    return dataset, values


def _real_values(files: Sequence[Path]) -> list[tuple[str, NDArray[np.float32]]]:
    return [(str(dataset.SOPInstanceUID), values) for dataset, values in map(_read, files)]


def psnr_db(values: NDArray[Any], truth: NDArray[Any], *, window: tuple[float, float]) -> float:
    """Peak signal-to-noise ratio in dB of values clipped to a window, whose width is the peak; both on one grid."""
    low, high = window
    error = np.clip(values, low, high).astype(np.float64) - np.clip(truth, low, high)
    mean_square = float(np.mean(error**2))
    return float("inf") if mean_square == 0 else 10 * float(np.log10((high - low) ** 2 / mean_square))


def _print(shown: Sequence[Shown], console: Console) -> None:
    table = Table("phantom", "pipeline", "state", "instances", "seconds", "PSNR before", "PSNR after", "gain")
    for one in shown:
        table.add_row(
            one.phantom.name, one.pipeline, one.state, str(one.instances), f"{one.seconds:.1f}",
            f"{one.psnr_before_db:.1f} dB", f"{one.psnr_after_db:.1f} dB",
            f"{one.psnr_after_db - one.psnr_before_db:+.1f} dB",
        )  # fmt: skip
        if one.reason:
            console.print(f"{one.phantom.name}: {one.reason}")
    console.print(table)


def _facts(shown: Sequence[Shown]) -> list[dict[str, Any]]:
    return [
        {
            "phantom": one.phantom.name,
            "pipeline": one.pipeline,
            "state": str(one.state),
            "instances": one.instances,
            "derived_series_instance_uid": one.derived_series_instance_uid,
            "seconds": round(one.seconds, 2),
            "psnr_before_db": round(one.psnr_before_db, 2),
            "psnr_after_db": round(one.psnr_after_db, 2),
        }
        for one in shown
    ]
