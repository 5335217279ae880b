"""The commands of a deployment on several machines: `dicomnode workers` and `dicomnode upload`."""

from __future__ import annotations

import signal
from socket import gethostname
from typing import Annotated

import typer

from dicomnode.cli_options import CONFIG, ConfigOption, console
from dicomnode.config import load_config
from dicomnode.errors import ConfigFault
from dicomnode.logs import log_to_stderr


def workers(
    config: ConfigOption = CONFIG,
    name: Annotated[
        str, typer.Option(help="This machine's name among all that work; absent: its host name.", show_default=False)
    ] = "",
    shared_folder: Annotated[
        bool,
        typer.Option("--shared-folder", help="data_folder is the node's own, on a file system both machines have."),
    ] = False,
) -> None:
    """Run the workers of node.toml on a machine beside the node: they take jobs from the same PostgreSQL.

    [dim]dicomnode workers --config /etc/dicomnode[/dim]
    """
    from dicomnode.crew import Crew, refuse_what_is_not_shared

    settings = load_config(config, relative_to=config)  # the certificates of [tls] stay on the node's machine
    log_to_stderr(settings.node.log_level, settings.node.log_format)
    refuse_what_is_not_shared(settings, shared_folder=shared_folder)
    crew = Crew(settings, name=name or gethostname())
    signal.signal(signal.SIGTERM, lambda *_: crew.ask_to_stop())
    signal.signal(signal.SIGINT, lambda *_: crew.ask_to_stop())
    signal.signal(signal.SIGHUP, lambda *_: crew.ask_to_reload())
    crew.run()


def upload(config: ConfigOption = CONFIG) -> None:
    """Move instances that lie in data_folder from before there was a [store] into it; also while the node runs.

    [dim]dicomnode upload --config /etc/dicomnode[/dim]
    """
    from dicomnode.places import open_places
    from storage.object_files import ObjectFiles

    settings = load_config(config)
    files = open_places(settings).files
    if not isinstance(files, ObjectFiles):
        raise ConfigFault(
            settings.folder / "node.toml", "store.url", "instances lie in data_folder: name a store first"
        )
    moved = sum(files.upload(one) for one in files.left_here())
    console.print(f"{moved} instances moved to {settings.store.url}; none is left in {settings.data_folder}/instances")
