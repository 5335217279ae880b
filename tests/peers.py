"""Peers of other makers for the journeys: Orthanc as PACS, DCMTK as scanner, and our own node as a process."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dicomnode.answers import entry_as_json, job_as_json
from storage import audit, deliveries, jobs
from storage.database import Database
from tests.builders import peer_is_missing
from tests.peers_config import NODE_TOML, RULES_TOML

NODE_AE, PACS_AE, SCANNER_AE = "DICOMNODE", "ORTHANC", "SCANNER"


def program(name: str) -> str:
    """The path of a program of another maker: missing it fails in CI and skips elsewhere."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        peer_is_missing(f"{name} is not installed (Debian packages dcmtk, orthanc and libgdcm-tools)")
    return found


def free_port() -> int:
    """A loopback port that nobody listens to, not given twice, nor by the kernel nor by another xdist worker.

    The kernel's own choice (port 0) could go to somebody's outgoing connection before we listen on it.
    """
    while True:
        port = next(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is no listener
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _port_numbers() -> Iterator[int]:
    """Ports below those of outgoing connections, from a stretch that is this xdist worker's own."""
    first, last = 10_240, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert last - first > 800, f"outgoing connections begin at port {last}: there is no room for servers below"
    stretch = (last - first) // 8
    first += stretch * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 8)
    begin = random.SystemRandom().randrange(stretch)  # another pytest of this machine begins elsewhere
    return itertools.cycle(first + (begin + step) % stretch for step in range(stretch))


_PORTS = _port_numbers()


def wait_until(question: Callable[[], Any], *, seconds: float = 60.0, what: str = "it") -> Any:
    """The answer, once it is true; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds:g} s"
        time.sleep(0.1)


@dataclass
class Orthanc:
    """An Orthanc on free loopback ports, with its data in `folder`."""

    folder: Path
    dicom_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    no_delay: bool = True
    modalities: dict[str, list[Any]] = field(default_factory=dict)
    """Whom it may call: name -> [AE title, host, port]."""
    more: dict[str, Any] = field(default_factory=dict)
    """Further keys of its configuration."""

    def start(self) -> Orthanc:
        """Orthanc answers on both ports."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "orthanc.json"
        config.write_text(
            json.dumps(
                {
                    "Name": "test",
                    "StorageDirectory": str(self.folder / "db"),
                    "IndexDirectory": str(self.folder / "db"),
                    "DicomAet": PACS_AE,
                    "DicomPort": self.dicom_port,
                    "HttpPort": self.http_port,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    "DicomAlwaysAllowEcho": True,
                    "DicomAlwaysAllowStore": True,
                    "DicomModalities": self.modalities,
                    "Plugins": [],
                    **self.more,
                }
            )
        )
        self.process = subprocess.Popen(
            [program("Orthanc"), str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}
            | ({"TCP_NODELAY": "1"} if self.no_delay else {}),
        )
        wait_until(self._answers, seconds=30, what="Orthanc answering")
        return self

    def _answers(self) -> bool:
        try:
            self.get("/system")
            return True
        except OSError:
            return False

    def get(self, path: str) -> Any:
        """The JSON of a REST path."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as answer:
            return json.loads(answer.read())

    def post(self, path: str, body: object) -> Any:
        """The JSON that a REST path answers to a body: JSON, or bytes as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", content, method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def delete(self, path: str) -> None:
        """What stands at a REST path is removed."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", method="DELETE")
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()

    def series(self) -> dict[str, dict[str, Any]]:
        """Series Instance UID -> {study, instances (SOP Instance UID -> Orthanc's id), tags}."""
        found: dict[str, dict[str, Any]] = {}
        for identifier in self.get("/series"):
            one = self.get(f"/series/{identifier}")
            study = self.get(f"/studies/{one['ParentStudy']}")
            instances = self.get(f"/series/{identifier}/instances")
            found[one["MainDicomTags"]["SeriesInstanceUID"]] = {
                "study": study["MainDicomTags"]["StudyInstanceUID"],
                "tags": one["MainDicomTags"],
                "instances": {each["MainDicomTags"]["SOPInstanceUID"]: each["ID"] for each in instances},
            }
        return found

    def download(self, folder: Path) -> list[Path]:
        """Every instance that Orthanc holds, as files."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for identifier in self.get("/instances"):
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.http_port}/instances/{identifier}/file", timeout=10
            ) as answer:
                paths.append(folder / f"{identifier}.dcm")
                paths[-1].write_bytes(answer.read())
        return paths

    def stop(self) -> None:
        """Orthanc ends."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None


@dataclass
class RunningNode:
    """`dicomnode run` as a process of its own, with config and data in `folder`."""

    folder: Path
    pacs_port: int
    port: int = field(default_factory=free_port)
    host: str = "127.0.0.1"
    quiet_seconds: float = 1.0
    retry_first_s: float = 0.5
    retry_longest_s: float = 2.0
    database: str = ""
    rules: str = RULES_TOML
    more: str = ""
    more_node: str = ""
    process: subprocess.Popen[str] | None = None

    @property
    def config(self) -> Path:
        """The config folder."""
        return self.folder / "config"

    def write_config(self) -> None:
        """node.toml and rules.toml are written anew."""
        self.config.mkdir(parents=True, exist_ok=True)
        values = {key: getattr(self, key) for key in ("host", "port", "pacs_port", "quiet_seconds", "retry_first_s")}
        (self.config / "node.toml").write_text(
            NODE_TOML.format(
                **values,
                retry_longest_s=self.retry_longest_s,
                database=self.database,
                more=self.more,
                more_node=self.more_node,
            )
        )
        (self.config / "rules.toml").write_text(self.rules)

    def start(self) -> RunningNode:
        """The node has said that it is ready."""
        self.write_config()
        log = (self.folder / "node.log").open("a")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dicomnode", "run", "--config", str(self.config)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "ready" in line, f"the node did not start: {line!r}\n{self.log()[-3000:]}"
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        return self

    def log(self) -> str:
        """What the node and its processes wrote to standard error."""
        return (self.folder / "node.log").read_text()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `dicomnode ... --config` and gives what it printed."""
        return subprocess.run(
            [sys.executable, "-m", "dicomnode", *arguments, "--config", str(self.config)],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=Path(__file__).parents[1],
        )

    def verify(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Runs `dicomnode verify`, which needs no config."""
        return subprocess.run(
            [sys.executable, "-m", "dicomnode", "verify", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=Path(__file__).parents[1],
        )

    def jobs(self) -> list[dict[str, Any]]:
        """What `dicomnode jobs --json` would say, read from the database without starting a process."""
        with self._reading() as connection:
            found = jobs.list_jobs(connection)
            return [job_as_json(job, deliveries.job_deliveries(connection, job.id)) for job in found]

    def audit(self, series_instance_uid: str = "") -> list[dict[str, Any]]:
        """What `dicomnode audit --json` would say, oldest first."""
        with self._reading() as connection:
            entries = audit.entries(connection, series_instance_uid=series_instance_uid or None)
            return [entry_as_json(one) for one in entries]

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        database = Database.open(self.database or f"sqlite:///{self.folder / 'var' / 'node.sqlite'}")
        with database.read() as connection:
            yield connection
        database.close()

    def wait_for_jobs(self, states: Iterable[str], *, count: int, seconds: float = 120.0) -> list[dict[str, Any]]:
        """The jobs, once `count` of them are in one of the states and none is in another; superseded ones aside.

        They may take as long as they need, while no `seconds` go by in which nothing changes.
        """
        wanted = set(states)
        unwanted = {"refused", "failed"} - wanted
        seen: list[dict[str, Any]] = []
        deadline = time.monotonic() + seconds
        while True:
            found = [job for job in self.jobs() if job["state"] != "superseded"]
            if len(found) >= count and all(job["state"] in wanted for job in found):
                return found
            if found != seen:
                seen, deadline = found, time.monotonic() + seconds
            assert time.monotonic() < deadline and not any(job["state"] in unwanted for job in found), (
                f"jobs are {[(job['id'], job['state'], job['reason']) for job in found]}\n{self.log()[-2000:]}"
            )
            time.sleep(0.3)

    def processes(self) -> dict[str, int]:
        """The node's processes by role: node, receive, work, send, those after the first receive-1 ... -> id."""
        assert self.process is not None
        found = {"node": self.process.pid}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and f"PPid:\t{self.process.pid}\n" in (entry / "status").read_text():
                    arguments = (entry / "cmdline").read_bytes().split(b"\0")
                    executor = arguments[arguments.index(b"--executor") + 1].decode()
                    found[executor.rpartition("/")[2].removesuffix("-0")] = int(entry.name)
            except (OSError, ValueError):
                continue
        return found

    def kill(self) -> None:
        """kill -9 of the process that holds the port; the others follow by themselves."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit code once it has drained."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(90)


@contextmanager
def storescp(port: int, *options: str) -> Iterator[None]:
    """DCMTK's storescp listens on the port; it is ended at the end, whatever happens."""
    process = subprocess.Popen([program("storescp"), *options, str(port)], env={**os.environ, "TCP_NODELAY": "1"})
    try:
        wait_until(lambda: _listens(port), seconds=20, what="storescp listening")
        yield
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    """Whether somebody listens on the port, without connecting: storescp would count that as an association."""
    rows = [row.split() for kind in ("tcp", "tcp6") for row in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


def storescu(
    port: int, files: Sequence[Path], *, calling: str = SCANNER_AE, called: str = NODE_AE, options: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """DCMTK's storescu sends the files and tells what it was answered."""
    return subprocess.run(
        [program("storescu"), "-aet", calling, "-aec", called, *options, "127.0.0.1", str(port), *map(str, files)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "TCP_NODELAY": "1"},
    )
