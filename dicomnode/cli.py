"""The command `dicomnode`: what an administrator types."""

from __future__ import annotations

import json
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from dicomnode.answers import family_as_json, job_as_json, plain
from dicomnode.cli_audit import audit
from dicomnode.cli_conformance import conformance
from dicomnode.cli_explain import explain
from dicomnode.cli_export import export
from dicomnode.cli_lanes import lanes
from dicomnode.cli_options import CONFIG, ConfigOption, JsonOption, console, opened_database, print_json
from dicomnode.cli_promises import promises
from dicomnode.cli_query import query, retrieve
from dicomnode.cli_replay import replay
from dicomnode.cli_scale import upload, workers
from dicomnode.config import load_config
from dicomnode.config_words import describe
from dicomnode.errors import ConfigFault, NodeFault
from dicomnode.logs import log_to_stderr
from storage.errors import StorageFault

if TYPE_CHECKING:
    pass

app = typer.Typer(
    help="A DICOM node between scanner and PACS: series come in over C-STORE, rules send them to pipelines, the "
    "derived series go to the PACS, and everything is audited.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
errors = Console(stderr=True)
app.command()(audit)
app.command()(lanes)
app.command()(promises)
app.command()(workers)
app.command()(upload)
app.command()(replay)
app.command()(explain)
app.command()(conformance)
app.command()(export)
app.command()(query)
app.command()(retrieve)


def main() -> None:
    """The command line; a fault the administrator can mend ends it with one clear line and exit code 1."""
    try:
        app()
    except (NodeFault, StorageFault, OSError) as fault:
        errors.print(f"[red]dicomnode:[/red] {plain(str(fault))}", soft_wrap=True)
        sys.exit(1)


@app.command()
def run(config: ConfigOption = CONFIG, verbose: Annotated[bool, typer.Option("--verbose", "-v")] = False) -> None:
    """Run the node until SIGTERM or Ctrl-C; SIGHUP reads the config again.

    [dim]dicomnode run --config /etc/dicomnode[/dim]
    """
    settings = load_config(config)
    log_to_stderr(logging.DEBUG if verbose else settings.node.log_level, settings.node.log_format)
    from dicomnode.node import Node

    node = Node(settings)
    signal.signal(signal.SIGTERM, lambda *_: node.ask_to_stop())
    signal.signal(signal.SIGINT, lambda *_: node.ask_to_stop())
    signal.signal(signal.SIGHUP, lambda *_: node.ask_to_reload())
    node.start()
    devices = ", ".join(worker.device for worker in settings.workers)
    print(
        f"dicomnode ready: {settings.node.ae_title} on {settings.node.host}:{node.port}, "
        f"{len(settings.rules)} rules, workers: {devices}, data in {settings.data_folder}",
        flush=True,
    )
    node.wait()
    node.stop()
    print("dicomnode stopped", flush=True)


@app.command()
def check(config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Read the config as `run` would, say what it means, and look whether the node could start.

    [dim]dicomnode check --config /etc/dicomnode[/dim]
    """
    from dicomnode.start_conditions import start_conditions

    settings = load_config(config)
    conditions = list(start_conditions(settings))
    lines = [*describe(settings), *((what, finding) for what, finding, _ in conditions)]
    if as_json:
        print_json([{"what": what, "finding": finding} for what, finding in lines])
    else:
        console.print(f"{settings.folder}: no mistakes", soft_wrap=True)
        table = Table("what", "finding")
        for what, finding in lines:
            table.add_row(plain(what), plain(finding))
        console.print(table)
    if not all(good for _, _, good in conditions):
        raise NodeFault("the config has no mistakes, but the node could not start now: see above")


@app.command()
def echo(
    peer: Annotated[str, typer.Argument(help="A peer's name in node.toml, e.g. pacs.")],
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Ask a peer with C-ECHO whether it hears us.

    [dim]dicomnode echo pacs[/dim]
    """
    from dicomnode.outgoing import echo_peer

    settings = load_config(config)
    if peer not in settings.peers:
        raise ConfigFault(settings.folder / "node.toml", f"peers.{peer}", f"there are {', '.join(settings.peers)}")
    took_ms = echo_peer(settings.peers[peer], ae_title=settings.node.ae_title, identity=settings.tls) * 1000
    if as_json:
        print_json({"peer": peer, "answered": True, "milliseconds": round(took_ms, 1)})
    else:
        console.print(f"{peer} ({settings.peers[peer].ae_title}) answered in {took_ms:.0f} ms")


@app.command()
def jobs(
    series: Annotated[str, typer.Argument(help="Only jobs of this Series Instance UID.")] = "",
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(help="How many, newest first.")] = 50,
) -> None:
    """Show what is waiting, running, delivered, refused and failed, and why.

    [dim]dicomnode jobs
    dicomnode jobs --json | jq '.[] | select(.state == "failed")'[/dim]
    """
    from storage import deliveries
    from storage import jobs as job_store

    with opened_database(config) as database, database.read() as connection:
        found = job_store.list_jobs(connection, series_instance_uid=series or None, limit=limit)
        rows = [(job, deliveries.job_deliveries(connection, job.id)) for job in found]
    if as_json:
        print_json([job_as_json(job, sent) for job, sent in rows])
        return
    table = Table("job", "state", "pipeline", "series", "to", "since", "reason")
    for job, sent in rows:
        lanes = "\n".join(f"{one.destination}: {one.state}" for one in sent) or ", ".join(job.destinations)
        code = f"{job.reason_code}: " if job.reason_code else ""
        why = (
            f"{code}{job.reason}"
            if job.reason
            else "\n".join(f"{one.destination}: {one.reason}" for one in sent if one.reason)
        )
        table.add_row(
            str(job.id), job.state, job.pipeline, job.series_instance_uid, lanes,
            job.created_at.astimezone().strftime("%m-%d %H:%M:%S"), plain(why),
        )  # fmt: skip
    console.print(table)


@app.command()
def requeue(
    job: Annotated[int, typer.Argument(help="The job's number in `dicomnode jobs`.")],
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Give a failed or refused job another try; what was derived is only sent again where it is missing.

    [dim]dicomnode requeue 17[/dim]
    """
    from dicomnode.bell import DISPATCH_ROOM, Bell
    from dicomnode.requeue import requeue_job

    with opened_database(config) as database:
        moved = requeue_job(database, job)
    Bell(load_config(config).data_folder).ring(DISPATCH_ROOM)
    if as_json:
        print_json({"id": moved.id, "state": moved.state})
    else:
        console.print(f"job {moved.id} is {moved.state} again; a running node takes it within a second")


@app.command()
def retention(config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Show what the next retention sweep of a running node would remove, and change nothing.

    [dim]dicomnode retention[/dim]
    """
    from dicomnode.upkeep import families_to_go
    from storage.disk_room import free_bytes

    settings = load_config(config)
    with opened_database(config) as database, database.read() as connection:
        planned = families_to_go(connection, settings.retention, free=free_bytes(settings.data_folder))
    if as_json:
        print_json([family_as_json(family, because) for family, because in planned])
        return
    table = Table("series", "derived", "instances", "MB", "done with since", "because")
    for one, because in planned:
        since = one.done_at.astimezone().strftime("%Y-%m-%d %H:%M")
        sizes = str(len(one.members) - 1), str(one.instance_count), f"{one.size_bytes / 1e6:.0f}"
        table.add_row(one.series_instance_uid, *sizes, since, because)
    console.print(table if planned else "nothing would be removed now")


@app.command()
def passport(
    series: Annotated[str, typer.Argument(help="Series Instance UID of a derived series.")],
    output: Annotated[
        Path | None, typer.Option(help="File to write, best called NAME.passport.json; absent: standard output.")
    ] = None,
    config: ConfigOption = CONFIG,
) -> None:
    """Give the passport of a derived series: what it was made of and by what, held by the audit's hash chain.

    [dim]dicomnode passport 2.25.1234 --output 1234.passport.json[/dim]
    """
    from dicomnode.passport import exported_passport
    from dicomnode.places import open_passports
    from storage import audit as record

    settings = load_config(config)
    with opened_database(config) as database, database.read() as connection:
        rows = [
            entry
            for entry in record.entries(connection, series_instance_uid=series)
            if entry.event == "derived" and entry.details.get("derived_series_instance_uid") == series
        ]
    if not rows:
        raise NodeFault(f"this node has derived no series {series}")
    kept = open_passports(settings).read(series, str(rows[-1].details["passport_sha256"]))
    text = exported_passport(json.loads(kept), rows[-1])
    if output is None:
        print(text)
    else:
        output.write_text(text + "\n", encoding="ascii")
        console.print(f"{output}: put it beside the series' files and run `dicomnode verify` on the folder")


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="Folder with derived series, as files; passports may lie there too.")],
    sources: Annotated[
        list[Path] | None, typer.Option(help="Folder with the source series, when they lie elsewhere.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hold derived series to every rule the node holds itself to, as acceptance test at a site; no node is needed.

    Exit code 0: every rule is met; 1: one is missed; 2: sources or derived series are missing, so not all was asked.

    [dim]dicomnode verify export/
    dicomnode verify from_pacs/ --sources originals/ --json[/dim]
    """
    from rich.progress import Progress

    from dicomnode.verify.folder import verify_folder
    from dicomnode.verify.report import verification_as_json, verification_table

    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("verifying", total=None)
        found = verify_folder(
            folder,
            sources=sources or (),
            progress=lambda done, steps: bar.update(task, completed=done, total=steps),
        )
    if as_json:
        print(verification_as_json(found))
    else:
        console.print(verification_table(found))
    sys.exit(found.exit_code)


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for the pictures and the page.")] = Path("demo-output"),
    seed: Annotated[int, typer.Option(help="Another seed makes other phantoms.")] = 7,
) -> None:
    """Show the whole river on this machine: phantoms in, derived series in a stand-in PACS, pictures and figures.

    [dim]dicomnode demo --output demo-output[/dim]
    """
    from dicomnode.demo import run_demo

    sys.exit(run_demo(output, seed=seed, console=console))


@app.command(hidden=True)
def receive(
    config: ConfigOption,
    executor: Annotated[str, typer.Option()],
    place: Annotated[int, typer.Option()],
    tell_fd: Annotated[int, typer.Option()],
    headcount_fd: Annotated[int, typer.Option()],
    listen_fd: Annotated[int | None, typer.Option()] = None,
    tls_fd: Annotated[int | None, typer.Option()] = None,
    relative_to: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """A receiving process of a running node."""
    from dicomnode.receiver import ReceivingProcess

    settings = load_config(config, relative_to=relative_to)
    log_to_stderr(settings.node.log_level, settings.node.log_format)
    process = ReceivingProcess(
        settings, relative_to=relative_to or config, place=place, tell_fd=tell_fd, headcount_fd=headcount_fd
    )
    process.run(executor, listen_fd=listen_fd, tls_fd=tls_fd)


@app.command(hidden=True)
def work(
    config: ConfigOption,
    executor: Annotated[str, typer.Option()],
    relative_to: Annotated[Path | None, typer.Option()] = None,
    device: str = "auto",
) -> None:
    """A worker process of a running node."""
    from dicomnode.worker import run_worker

    settings = load_config(config, relative_to=relative_to)
    log_to_stderr(settings.node.log_level, settings.node.log_format)
    run_worker(settings, relative_to=relative_to or config, executor_id=executor, device=device)


@app.command(hidden=True)
def send(
    config: ConfigOption,
    executor: Annotated[str, typer.Option()],
    relative_to: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """The sending process of a running node."""
    from dicomnode.worker import run_sender

    settings = load_config(config, relative_to=relative_to)
    log_to_stderr(settings.node.log_level, settings.node.log_format)
    run_sender(settings, executor_id=executor)
