"""The commands `dicomnode query` and `dicomnode retrieve`: what a peer holds, and how it comes to us."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dicomnode.answers import plain
from dicomnode.cli_options import CONFIG, ConfigOption, JsonOption, console, print_json
from dicomnode.config import Config, load_config
from dicomnode.errors import ConfigFault, NodeFault

if TYPE_CHECKING:
    from dicomnode.fetching import Fetcher, How
    from dicomnode.finding import Finder, FoundSeries
    from dicomnode.peer import Peer
    from dicomnode.question import Question
    from storage.database import Database

errors = Console(stderr=True)
BY = "dicomnode retrieve"
PeerOption = Annotated[str, typer.Argument(help="A peer's name in node.toml, e.g. pacs.")]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What both commands are asked for: the options by which studies and series are found."""

    patient: Annotated[str, typer.Option(help="Patient ID.")] = ""
    name: Annotated[str, typer.Option(help='Patient Name, e.g. "DOE^*".')] = ""
    study: Annotated[str, typer.Option(help="Study Instance UID.")] = ""
    accession: Annotated[str, typer.Option(help="Accession Number.")] = ""
    date: Annotated[
        str, typer.Option(help='Study Date: 2024-05-06, 20240501-20240531, 20240501-, today, "last 3".')
    ] = ""
    modality: Annotated[list[str] | None, typer.Option(help="CT, PT, MR; may be given several times.")] = None
    series: Annotated[str, typer.Option(help="Series Instance UID.")] = ""
    description: Annotated[str, typer.Option(help='Series Description, e.g. "*low dose*".')] = ""

    def question(self) -> Question:
        """The same as it is asked. Raises NodeFault for what cannot be asked."""
        from dicomnode.question import Question

        if self.series and not self.study:
            raise NodeFault("a series is found within its study: give --study with --series")
        try:
            return Question(
                patient_id=self.patient,
                patient_name=self.name,
                study_instance_uid=self.study,
                accession_number=self.accession,
                study_date=self.date,
                modality=tuple(one.upper() for one in self.modality or ()),
                series_instance_uid=self.series,
                series_description=self.description,
            )
        except ValueError as fault:
            raise NodeFault(str(fault)) from fault


def with_wanted(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer sees it: with the options of Wanted in the place of its parameter `wanted`."""
    options = inspect.signature(Wanted, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def typed(**given: Any) -> None:
        command(wanted=Wanted(**{name: given.pop(name) for name in options}), **given)

    shown: list[inspect.Parameter] = []
    for one in own.parameters.values():
        shown += options.values() if one.name == "wanted" else [one]
    typed.__signature__ = own.replace(parameters=shown)  # type: ignore[attr-defined]
    typed.__annotations__ = {one.name: one.annotation for one in shown}
    return typed


STUDY_COLUMNS = {
    "patient": "PatientID", "name": "PatientName", "date": "StudyDate", "accession": "AccessionNumber",
    "modalities": "ModalitiesInStudy", "study": "StudyInstanceUID", "description": "StudyDescription",
    "series": "NumberOfStudyRelatedSeries", "images": "NumberOfStudyRelatedInstances",
}  # fmt: skip
SERIES_COLUMNS = {
    "patient": "PatientID", "date": "StudyDate", "modality": "Modality", "no.": "SeriesNumber",
    "series": "SeriesInstanceUID", "description": "SeriesDescription", "images": "NumberOfSeriesRelatedInstances",
}  # fmt: skip


@with_wanted
def query(
    peer: PeerOption,
    wanted: Wanted,
    level: Annotated[str, typer.Option(help="study, series; absent: series where one is asked for.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many rows at most.")] = 200,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Ask a peer with C-FIND which studies or series it holds.

    [dim]dicomnode query pacs --patient 4711
    dicomnode query pacs --date today --modality CT --level series
    dicomnode query pacs --name "DOE^*" --date 20240501-20240531 --json[/dim]
    """
    from dicomnode.finding import Finder

    settings, called = _called(config, peer)
    asked = wanted.question()
    if level not in ("", "study", "series"):
        raise NodeFault(f"--level is study or series, not {level!r}")
    by_series = level == "series" or (not level and bool(wanted.series or wanted.description))
    with _while("asking", as_json), Finder(called, ae_title=settings.node.ae_title, identity=settings.tls) as finder:
        if by_series:
            found = [{**one.study, **one.values} for one in finder.series(asked, most=limit)]
        else:
            found = [dict(one) for one in finder.studies(asked, most=limit)]
    _tell(settings, "queried a peer", called.name, {"level": "SERIES" if by_series else "STUDY", "answers": len(found)})
    if as_json:
        print_json(found)
        return
    columns = SERIES_COLUMNS if by_series else STUDY_COLUMNS
    table = Table(*columns)
    for one in found:
        table.add_row(*(plain(_word(one.get(keyword))) for keyword in columns.values()))
    console.print(table if found else f"{peer} holds nothing of that kind")
    if len(found) >= limit:
        errors.print(f"there may be more than {limit}: narrow the question or raise --limit")


@with_wanted
def retrieve(
    peer: PeerOption,
    wanted: Wanted,
    by_get: Annotated[
        bool, typer.Option("--get", help="C-GET over one association, instead of C-MOVE to the running node.")
    ] = False,
    most: Annotated[int, typer.Option(min=1, help="More series than these are not fetched: narrow it.")] = 50,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Fetch series from a peer; they are received, routed and processed like any other. What is here is not fetched.

    C-MOVE needs the running node, and the peer must know its AE title, host and port; C-GET needs neither.

    [dim]dicomnode retrieve pacs --study 1.2.840.113619.2.55
    dicomnode retrieve pacs --patient 4711 --modality CT --date "last 30"
    dicomnode retrieve pacs --accession A123 --get[/dim]
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from dicomnode.fetching import Fetcher
    from dicomnode.finding import Finder
    from dicomnode.places import open_places
    from dicomnode.stores import Stores

    settings, called = _called(config, peer)
    asked = wanted.question()
    if asked.is_open:
        raise NodeFault("say what to fetch: --patient, --study, --accession, --date, --modality or --series")
    if not by_get:
        _refuse_unless_listening(settings)
    database = Stores.look(settings)
    fetcher = Fetcher(
        ae_title=settings.node.ae_title,
        files=open_places(settings).files,
        maximum_bytes=settings.node.maximum_instance_bytes,
        happened=lambda event, who, details: _tell(settings, event, who, details),
        identity=settings.tls,
    )
    rows: list[dict[str, Any]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bars,
        Finder(called, ae_title=settings.node.ae_title, identity=settings.tls) as finder,
    ):
        found = list(finder.series(asked, most=most + 1))
        if len(found) > most:
            raise NodeFault(f"{peer} holds more than {most} such series; narrow the question or raise --most")
        overall = bars.add_task("series", total=len(found))
        for one in found:
            task = bars.add_task(
                f"{one.values.get('Modality', '')} {one.series_instance_uid[-24:]}", total=one.instances
            )

            def progress(done: int, total: int | None, task: Any = task) -> None:
                bars.update(task, completed=done, total=total or None)

            rows.append(_fetch(fetcher, finder, one, database, "get" if by_get else "move", progress))
            _tell(settings, "series retrieved", called.name, rows[-1])  # at once: who stops the command stops no audit
            bars.update(task, visible=False)
            bars.advance(overall)
    database.close()
    if as_json:
        print_json(rows)
    else:
        table = Table("series", "at the peer", "held before", "fetched", "failed", "remark")
        for row in rows:
            counts = (str(row[key]) for key in ("instances", "held", "fetched", "failed"))
            table.add_row(row["series_instance_uid"], *counts, plain(row["reason"]))
        console.print(table if rows else f"{peer} holds nothing of that kind")
    if any(row["failed"] or row["reason"] for row in rows):
        errors.print("[red]not everything came[/red]; the same command fetches what is missing")
        sys.exit(1)


def _fetch(
    fetcher: Fetcher,
    finder: Finder,
    series: FoundSeries,
    database: Database,
    how: How,
    progress: Callable[[int, int | None], None],
) -> dict[str, Any]:
    """What became of one series; a fault of it is told and does not hold up the others."""
    from dicomnode.bring import bring_series
    from dicomnode.errors import PeerRejected, PeerUnreachable

    row: dict[str, Any] = {
        "study_instance_uid": series.study_instance_uid,
        "series_instance_uid": series.series_instance_uid,
        "how": f"C-{how.upper()}",
    }
    try:
        brought = bring_series(fetcher, finder, series, database, how=how, by=BY, progress=progress)
    except (PeerUnreachable, PeerRejected) as fault:
        return row | {"instances": series.instances, "held": 0, "fetched": 0, "failed": 0, "reason": str(fault)}
    counts = {key: getattr(brought, key) for key in ("instances", "held", "fetched", "failed")}
    return row | counts | {"reason": brought.shortfall}


def _called(folder: Path, name: str) -> tuple[Config, Peer]:
    settings = load_config(folder)
    if name not in settings.peers:
        raise ConfigFault(settings.folder / "node.toml", f"peers.{name}", f"there are {', '.join(settings.peers)}")
    peer = settings.peers[name]
    if not peer.reachable:
        raise ConfigFault(settings.folder / "node.toml", f"peers.{name}", "it cannot be asked: give it host and port")
    return settings, peer


def _refuse_unless_listening(settings: Config) -> None:
    """C-MOVE makes the peer call our port: somebody has to be there."""
    import socket

    port = settings.tls.port if settings.tls is not None and settings.tls.only else settings.node.port
    host = settings.node.host if settings.node.host not in ("0.0.0.0", "::") else "127.0.0.1"
    try:
        socket.create_connection((host, port), timeout=3).close()
    except OSError as fault:
        raise NodeFault(
            f"no node listens on {host}:{port}, to which the peer would send: start `dicomnode run`, or use --get"
        ) from fault


def _tell(settings: Config, event: str, peer: str, details: Mapping[str, Any]) -> None:
    """One row of the audit, where a node has run; a question before the first start leaves none."""
    from dicomnode.stores import Stores
    from storage import audit

    try:
        database = Stores.look(settings)
    except ConfigFault:
        return
    try:
        with database.begin() as connection:
            series = str(details.get("series_instance_uid", ""))
            audit.append(connection, event, series_instance_uid=series, peer=peer, details=details)
    finally:
        database.close()


def _while(what: str, as_json: bool) -> AbstractContextManager[Any]:
    return nullcontext() if as_json or not errors.is_terminal else errors.status(what)


def _word(value: Any) -> str:
    return "" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)
