"""The command `dicomnode export`: stored series into a folder, as stored or de-identified for research."""

from __future__ import annotations

import getpass
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from dicomnode.answers import plain
from dicomnode.cli_options import CONFIG, ConfigOption, JsonOption, console, opened_database, print_json
from dicomnode.config import Config, load_config
from dicomnode.deidentify.burned_in import PixelPolicy
from dicomnode.deidentify.profile import Option
from dicomnode.deidentify.secret import Secret, make_key, read_key
from dicomnode.errors import ConfigFault
from dicomnode.export_papers import ExportFault

if TYPE_CHECKING:
    from dicomnode.export import Exported
    from dicomnode.rules import Rule

KEY_FILE = "export.key"


class Retain(StrEnum):
    """What a de-identified export keeps."""

    SAFE_PRIVATE = Option.SAFE_PRIVATE.value
    UIDS = Option.UIDS.value
    DEVICE = Option.DEVICE.value
    INSTITUTION = Option.INSTITUTION.value
    PATIENT = Option.PATIENT.value
    FULL_DATES = Option.FULL_DATES.value
    MODIFIED_DATES = Option.MODIFIED_DATES.value


class Clean(StrEnum):
    """What a de-identified export cleans where it would remove."""

    DESCRIPTORS = Option.DESCRIPTORS.value
    STRUCTURED = Option.STRUCTURED.value


def export(
    output: Annotated[Path, typer.Argument(help="New folder for the files and manifest.json; never written over.")],
    series: Annotated[list[str] | None, typer.Option(help="Series Instance UID; may be given again.")] = None,
    study: Annotated[list[str] | None, typer.Option(help="Study Instance UID; may be given again.")] = None,
    rule: Annotated[
        list[str] | None, typer.Option(help="Name of a rule: every received series that meets it; may be given again.")
    ] = None,
    deidentify: Annotated[
        bool, typer.Option("--deidentify", help="By the Basic Profile of PS3.15 Annex E, for research only.")
    ] = False,
    retain: Annotated[list[Retain] | None, typer.Option(help="Keep this; may be given again.")] = None,
    clean: Annotated[
        list[Clean] | None, typer.Option(help="Clean this, where it would be removed; may be given again.")
    ] = None,
    burned_in: Annotated[
        PixelPolicy,
        typer.Option(
            help="Images whose pixels may show names: refuse them, allow those whose header does not say, all."
        ),
    ] = PixelPolicy.REFUSE,
    key: Annotated[
        Path | None,
        typer.Option(help="File of the key of the pseudonyms; absent: export.key in data_folder, made at first use."),
    ] = None,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make the file of --key: a new set of pseudonyms.")
    ] = False,
    key_list: Annotated[
        Path | None, typer.Option(help="New CSV file, outside OUTPUT: who every pseudonym stands for.")
    ] = None,
    dicomdir: Annotated[bool, typer.Option("--dicomdir", help="With a DICOMDIR.")] = False,
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Copy stored series into a new folder: as they are stored, or de-identified for research. Nothing stored changes.

    De-identified, the same patient, study and UID have the same pseudonyms in every export with the same key; nobody
    can tell whose they are without it. Pixels are not changed: look at them before you give them away. Exit code 1:
    something was left out.

    [dim]dicomnode export /tmp/copy --study 1.2.840.113619.2.55
    dicomnode export /data/trial --rule chest --deidentify --retain modified-dates --retain patient-characteristics
    dicomnode export /data/trial2 --series 1.2.3 --deidentify --key trial2.key --new-key --key-list trial2.csv[/dim]
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from dicomnode.deidentify.instance import Policy
    from dicomnode.export import Order
    from dicomnode.export import export as export_files
    from dicomnode.export_choice import choose
    from dicomnode.places import open_places

    settings = load_config(config, relative_to=config)
    options = frozenset(Option(one.value) for one in [*(retain or ()), *(clean or ())])
    _refuse_contradictions(
        options, deidentify=deidentify, keys=key is not None or new_key or key_list is not None, dicomdir=dicomdir
    )
    errors = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with opened_database(config) as database:
        with database.read() as connection:
            chosen = choose(connection, series=series or (), studies=study or (), rules=_rules(settings, rule or ()))
        policy = Policy(options, _key(settings, key, output, new=new_key), burned_in) if deidentify else None
        order = Order(chosen, output, policy, key_list, dicomdir, _who())
        with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
            task = bar.add_task("exporting", total=None)
            done = export_files(
                database,
                open_places(settings).files,
                order,
                progress=lambda now, total: bar.update(task, completed=now, total=total),
            )
    if as_json:
        print_json(
            {
                "output": str(output),
                "instances": done.instances,
                "not_exported": [{"sop_instance_uid": uid, "reason": reason} for uid, reason in done.refused],
                "warnings": done.warnings,
                "manifest_sha256": done.manifest_sha256,
            }
        )
    else:
        _show(done, output, deidentified=deidentify)
    sys.exit(1 if done.refused else 0)


def _show(done: Exported, output: Path, *, deidentified: bool) -> None:
    how = "de-identified" if deidentified else "as they are stored"
    console.print(f"{done.instances} instances {how} in {plain(str(output))}", soft_wrap=True)
    for warning, count in sorted(done.warnings.items()):
        console.print(f"[bold red]WARNING[/bold red] {count} instances: {plain(warning)}", soft_wrap=True)
    if done.refused:
        table = Table("not exported", "because")
        for uid, reason in done.refused:
            table.add_row(uid, plain(reason))
        console.print(table)
    if deidentified:
        console.print("Pixels are as they were: look for names and faces in them before you give them away.")


def _rules(settings: Config, names: list[str] | tuple[str, ...]) -> list[Rule]:
    """The rules of these names; ConfigFault names one that is not there or is for derived series."""
    known = {one.name: one for one in settings.rules}
    for name in names:
        if name not in known:
            raise ConfigFault(settings.folder / "rules.toml", name, f"there are {', '.join(known) or 'no rules'}")
        if known[name].after:
            raise ConfigFault(settings.folder / "rules.toml", name, "is for derived series: name their series instead")
    return [known[name] for name in names]


def _key(settings: Config, path: Path | None, output: Path, *, new: bool) -> Secret:
    """The key of the pseudonyms. A key that was named is never made unasked: a slip would give other pseudonyms."""
    if path is not None and path.resolve().is_relative_to(output.resolve()):
        raise ExportFault("the key leads back to the patients: keep it outside the exported folder")
    if new:
        if path is None:
            raise ExportFault("--new-key needs --key FILE: the node's own key is never replaced")
        return make_key(path)
    if path is not None:
        return read_key(path)
    own = settings.data_folder / KEY_FILE
    return read_key(own) if own.exists() else make_key(own)


def _who() -> str:
    """The user of the machine who asks; a container may know none by name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _refuse_contradictions(options: frozenset[Option], *, deidentify: bool, keys: bool, dicomdir: bool) -> None:
    if not deidentify and (options or keys):
        raise ExportFault("--retain, --clean, --key, --new-key and --key-list belong to --deidentify")
    if {Option.FULL_DATES, Option.MODIFIED_DATES} <= options:
        raise ExportFault("--retain full-dates and --retain modified-dates exclude each other")
    if deidentify and dicomdir and not options & {Option.FULL_DATES, Option.MODIFIED_DATES}:
        raise ExportFault("a DICOMDIR needs study dates: add --retain modified-dates, or leave --dicomdir out")
