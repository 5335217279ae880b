"""What an administrator types to put a node on several machines."""

from __future__ import annotations

from pathlib import Path

from storage.file_cache import FileCache
from storage.instance_files import InstanceFiles, file_name
from storage.object_files import ObjectFiles
from storage.object_store import ObjectStore
from tests.builders_store import S3Server
from tests.builders_typed import dicomnode


def write(folder: Path, store: str = "") -> Path:
    (folder / "node.toml").write_text(f'[node]\ndata_folder = "var"\n{store}')
    (folder / "rules.toml").write_text("")
    return folder


def test_workers_on_their_own_say_what_they_lack(tmp_path: Path) -> None:
    said = dicomnode("workers", "--config", str(write(tmp_path)))
    assert said.returncode == 1 and "need PostgreSQL" in said.stderr and "Traceback" not in said.stderr


def test_upload_needs_a_store(tmp_path: Path) -> None:
    said = dicomnode("upload", "--config", str(write(tmp_path)))
    assert said.returncode == 1 and "name a store first" in said.stderr


def test_upload_moves_what_was_kept_before_there_was_a_store(tmp_path: Path, s3_server: S3Server) -> None:
    before = InstanceFiles(tmp_path / "var")
    for number in range(3):
        before.keep_derived(f"1.2.{number}", b"data")
    bucket = s3_server.bucket()
    (tmp_path / "keys").write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    (tmp_path / "keys").chmod(0o600)
    store = (
        f'[store]\nurl = "s3://{bucket.name}/{bucket.prefix}"\nendpoint = "{bucket.endpoint}"\nallow_http = true\n'
        'credentials_file = "keys"\n'
    )
    said = dicomnode("upload", "--config", str(write(tmp_path, store)))
    assert said.returncode == 0 and "3 instances moved" in said.stdout, said.stderr
    name = file_name("1.2.0")
    assert not (tmp_path / "var" / "instances" / name[:2] / name).exists()
    cache = FileCache(tmp_path / "elsewhere" / "cache", limit_bytes=10**6, in_use_s=0)
    assert ObjectFiles(tmp_path / "elsewhere", ObjectStore(bucket), cache).path_of("1.2.0").read_bytes() == b"data"
