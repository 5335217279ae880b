"""Where instances and passports lie, as node.toml says; without a database, so that a receiving process can open it."""

from __future__ import annotations

from dataclasses import dataclass

from dicomnode.config import Config
from storage.file_cache import FileCache
from storage.instance_files import InstanceFiles
from storage.object_files import ObjectFiles, ObjectPassports
from storage.object_store import ObjectStore
from storage.passport_files import PassportFiles


@dataclass(frozen=True, slots=True)
class Places:
    """What is kept as files or objects, opened. store: None where everything lies in data_folder."""

    files: InstanceFiles
    passports: PassportFiles
    store: ObjectStore | None = None


def open_passports(config: Config) -> PassportFiles:
    """Where passports lie."""
    return PassportFiles(config.data_folder) if config.bucket is None else ObjectPassports(ObjectStore(config.bucket))


def open_places(config: Config) -> Places:
    """In data_folder, or in the object store of [store]; nobody is asked yet whether that answers."""
    folder = config.data_folder
    if config.bucket is None:
        return Places(InstanceFiles(folder), open_passports(config))
    store = ObjectStore(config.bucket)
    # A job may open what it asked for as late as its limit allows.
    longest_s = max([config.node.pipeline_limit_s, *(one.limit_s for one in config.pipelines.values())])
    cache = FileCache(folder / "cache", limit_bytes=int(config.store.cache_gb * 1e9), in_use_s=longest_s)
    cache.sweep_parts()
    return Places(ObjectFiles(folder, store, cache), ObjectPassports(store), store)
