"""Everything that keeps something, opened: the database, and where instances and passports lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dicomnode.config import Config
from dicomnode.errors import ConfigFault
from dicomnode.places import open_places
from storage import query_rows
from storage.database import Database
from storage.instance_files import InstanceFiles
from storage.passport_files import PassportFiles


@dataclass(frozen=True, slots=True)
class Stores:
    """Where everything is kept, opened."""

    database: Database
    files: InstanceFiles
    folder: Path
    passports: PassportFiles

    @classmethod
    def open(cls, config: Config) -> Stores:
        """The database migrated to what this version needs, and where instances and passports lie."""
        folder = config.data_folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        database = Database.open(config.database_url)
        database.migrate()
        query_rows.fill_missing(database)
        places = open_places(config)
        return cls(database, places.files, folder, places.passports)

    @staticmethod
    def look(config: Config) -> Database:
        """The database of a node that has run, for reading: nothing is made and nothing migrated."""
        if not config.node.database and not (config.data_folder / "node.sqlite").is_file():
            raise ConfigFault(
                config.folder / "node.toml", "node.data_folder", f"no node has run yet with {config.data_folder}"
            )
        return Database.open(config.database_url)
