"""The `[store]` table of node.toml: where instances lie, and who we are there."""

from __future__ import annotations

import configparser
import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dicomnode.config_faults import TomlFile
from dicomnode.errors import ConfigFault
from storage.object_store import Bucket

URL = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(/[A-Za-z0-9][A-Za-z0-9_.-]{0,63}){0,8})/?"
)
ENDPOINT = re.compile(r"https?://[A-Za-z0-9.\[\]:_-]+/?")
SECTION = "default"
KEYS = {
    "access_key_id": "aws_access_key_id",
    "secret_access_key": "aws_secret_access_key",
    "session_token": "aws_session_token",
}
OTHER_WAYS = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


class StoreSettings(BaseModel):
    """The `[store]` table of node.toml: where instances lie."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    url: str = Field(
        default="",
        description="Empty: instances lie in data_folder; else s3://bucket/prefix: they lie in an object store that "
        "speaks S3, where other machines find them. What arrives is durable in data_folder first.",
    )
    endpoint: str = Field(
        default="", description="https://host:port of a store other than AWS (MinIO, Ceph ...); empty: AWS."
    )
    region: str = Field(default="", pattern=r"^[a-z0-9-]*$", description="Region of the bucket; empty: us-east-1.")
    allow_http: bool = Field(
        default=False, description="true: endpoint may be http://: images then cross the network unencrypted."
    )
    credentials_file: str = Field(
        default="",
        description="File with aws_access_key_id and aws_secret_access_key under [default], as AWS's own tools write "
        "it; relative to the config folder; mode 0400 or 0600. Empty: the environment (AWS_ACCESS_KEY_ID ...) or the "
        "machine's role.",
    )
    cache_gb: float = Field(
        default=20.0,
        gt=0,
        description="Room in data_folder for copies of what is in the store; the least recently used go first. What a "
        "running job may still read stays: give it the room of an hour's images.",
    )

    @field_validator("url")
    @classmethod
    def _is_a_bucket(cls, value: str) -> str:
        if value and not URL.fullmatch(value):
            raise ValueError("expected nothing (files in data_folder) or s3://bucket/prefix")
        return value

    @field_validator("endpoint")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value and not ENDPOINT.fullmatch(value):
            raise ValueError("expected https://host:port, without user, password or path")
        return value

    @model_validator(mode="after")
    def _is_encrypted(self) -> StoreSettings:
        if self.endpoint.startswith("http://") and not self.allow_http:
            raise ValueError("endpoint is http://: write https://, or say allow_http = true")
        return self


def read_bucket(
    file: TomlFile,
    settings: StoreSettings,
    folder: Path,
    environment: Mapping[str, str] | None,
    faults: list[ConfigFault],
) -> Bucket | None:
    """The bucket that [store] names, with the credentials found; None where instances lie in data_folder."""
    found = URL.fullmatch(settings.url)
    if found is None:
        return None
    if importlib.util.find_spec("obstore") is None:
        reason = 'an object store needs the package obstore: pip install "dicom-ai-node[s3]"'
        faults.append(file.fault(("store", "url"), reason))
    keys: dict[str, str] = {}
    if settings.credentials_file:
        keys = _keys_of(file, folder / settings.credentials_file, faults)
    elif settings.endpoint:
        words = os.environ if environment is None else environment
        if not (words.get("AWS_ACCESS_KEY_ID") and words.get("AWS_SECRET_ACCESS_KEY")) and not any(
            words.get(name) for name in OTHER_WAYS
        ):
            reason = (
                "nobody says who we are there: give credentials_file, or AWS_ACCESS_KEY_ID and the secret beside it"
            )
            faults.append(file.fault(("store", "credentials_file"), reason))
    return Bucket(
        name=found["bucket"],
        prefix=found["prefix"].strip("/"),
        endpoint=settings.endpoint.rstrip("/"),
        region=settings.region,
        allow_http=settings.allow_http,
        **keys,
    )


def _keys_of(file: TomlFile, path: Path, faults: list[ConfigFault]) -> dict[str, str]:
    location = ("store", "credentials_file")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        mode = path.stat().st_mode
        parser.read_string(path.read_text(encoding="utf-8"))
        found = {ours: parser.get(SECTION, theirs, fallback="").strip() for ours, theirs in KEYS.items()}
    except (OSError, UnicodeDecodeError) as fault:
        faults.append(file.fault(location, f"{path} cannot be read: {fault}"))
        return {}
    except configparser.Error as fault:  # whose words quote the file
        faults.append(file.fault(location, f"{path} is not written as AWS's tools write it ({type(fault).__name__})"))
        return {}
    if mode & 0o037 or mode & 0o240 == 0o240:  # 0440 is how systemd hands a credential to its unit alone
        faults.append(file.fault(location, f"{path} is open to others (mode {mode & 0o777:04o}); chmod 0600 it"))
    if not (found["access_key_id"] and found["secret_access_key"]):
        faults.append(file.fault(location, f"{path} needs {KEYS['access_key_id']} and {KEYS['secret_access_key']}"))
    return found


def store_in_words(settings: StoreSettings) -> str:
    """Where instances lie."""
    if not settings.url:
        return "instances lie in data_folder"
    where = f" at {settings.endpoint}" if settings.endpoint else ""
    unencrypted = ", unencrypted" if settings.endpoint.startswith("http://") else ""
    return (
        f"instances lie in {settings.url}{where}{unencrypted}; copies of up to {settings.cache_gb:g} GB in data_folder"
    )
