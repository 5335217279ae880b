"""The one door to S3: objects are written once, read whole and checked; every wait has an end."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from storage.errors import ObjectUnfit, StoreAway

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Store

T = TypeVar("T")
LARGE_BYTES = 64 << 20
CONNECT_S, REQUEST_S, LARGE_REQUEST_S, REMOVE_S = 5, 30, 1200, 5
RETRIES, RETRY_S = 2, 15
REGION = "us-east-1"
SHA256 = "sha256"
"""The name under which an object says the SHA-256 of its bytes (x-amz-meta-sha256)."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where objects lie and who we are there.

    endpoint "": that of AWS; access_key_id "": what AWS's own variables, web identity or the machine's role give.
    """

    name: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    allow_http: bool = False
    access_key_id: str = field(default="", repr=False)
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Fetched:
    """An object's bytes and the store's own name for them (ETag)."""

    content: bytes
    mark: str | None


class ObjectStore:
    """A bucket under a prefix; any thread may use it. Raises StoreAway for a store that does not do what is asked."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._client = _client(bucket, request_s=REQUEST_S, retries=RETRIES)
        self._large_client = _client(bucket, request_s=LARGE_REQUEST_S, retries=RETRIES)
        self._remover = _client(bucket, request_s=REMOVE_S, retries=0)
        self._one_large, self._proving = threading.Lock(), threading.Lock()
        self._proven = False

    def create(self, key: str, content: bytes) -> tuple[bool, str | None]:
        """Whether the object was made, and its mark; False when there is one of that key: it stays as it is."""
        self.prove()
        if len(content) >= LARGE_BYTES:
            with self._one_large:  # so that a few large ones never take the machine's memory together
                return self._create(self._large_client, key, content)
        return self._create(self._client, key, content)

    def replace(self, key: str, content: bytes) -> None:
        """The object has these bytes, whatever it had before."""
        import obstore

        attributes = {SHA256: hashlib.sha256(content).hexdigest()}
        self._asked(lambda: obstore.put(self._client, key, content, attributes=attributes, use_multipart=False))

    def fetch(self, key: str, *, unless: str = "") -> Fetched | None:
        """The object; None when its mark is still `unless`. Raises FileNotFoundError when there is no such object.

        Its length and, where it says one, its SHA-256 are checked: damaged bytes are never given, but ObjectUnfit.
        """
        import obstore
        from obstore.exceptions import NotModifiedError

        def get() -> Fetched | None:
            try:
                # The client with the long limit: a read of any length; what stalls is ended by its read limit.
                found = obstore.get(self._large_client, key, options={"if_none_match": unless} if unless else {})
                content = bytes(found.bytes())
            except NotModifiedError:
                return None
            said = found.attributes.get(SHA256, "")
            if len(content) != found.meta["size"] or (said and hashlib.sha256(content).hexdigest() != said):
                raise ObjectUnfit(f"object {key} came with other bytes than were put there; look at the store")
            return Fetched(content, found.meta["e_tag"])

        return self._asked(get)

    def remove(self, keys: Sequence[str]) -> None:
        """No object has one of these keys. One short try: its caller may hold others up meanwhile."""
        import obstore

        if keys:
            self._asked(lambda: obstore.delete(self._remover, list(keys)))

    def prove(self) -> None:
        """The store answers, and it refuses to write over what is there; found out once, before anything is put."""
        if self._proven:
            return
        with self._proving:
            if self._proven:
                return
            key = f"probe/{uuid.uuid4().hex}"
            self._create(self._client, key, b"probe")
            overwritten, _ = self._create(self._client, key, b"other")
            self.remove([key])
            if overwritten:
                raise StoreAway(
                    "the object store writes over what is there (no If-None-Match): it cannot keep first copies safe; "
                    "use another store or leave [store] out"
                )
            self._proven = True

    def _create(self, client: S3Store, key: str, content: bytes) -> tuple[bool, str | None]:
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        attributes = {SHA256: hashlib.sha256(content).hexdigest()}

        def put() -> tuple[bool, str | None]:
            try:
                made = obstore.put(client, key, content, attributes=attributes, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return False, None
            return True, made["e_tag"]

        try:
            return self._asked(put)
        except FileNotFoundError as fault:
            raise StoreAway(f"there is no bucket {self._bucket.name} in the object store") from fault

    def _asked(self, ask: Callable[[], T]) -> T:
        """What the store answers; every fault of it is StoreAway, in one line, but for an object that is not there."""
        from obstore.exceptions import BaseError

        try:
            return ask()
        except FileNotFoundError as fault:
            if "NoSuchBucket" in str(fault):
                raise StoreAway(f"there is no bucket {self._bucket.name} in the object store") from fault
            raise
        except BaseError as fault:
            first = next(iter(str(fault).splitlines()), "")
            raise StoreAway(f"the object store does not do it ({type(fault).__name__}): {first[:300]}") from fault


def _client(bucket: Bucket, *, request_s: float, retries: int) -> S3Store:
    from obstore.store import S3Store

    config: S3Config = {"region": bucket.region or REGION}
    # What is left out is taken from AWS's own variables.
    if bucket.endpoint:
        config["endpoint"] = bucket.endpoint
    if bucket.access_key_id:
        config["access_key_id"] = bucket.access_key_id
        config["secret_access_key"] = bucket.secret_access_key
    if bucket.session_token:
        config["session_token"] = bucket.session_token
    return S3Store(
        bucket.name,
        prefix=bucket.prefix or None,
        config=config,
        client_options={
            "allow_http": bucket.allow_http,
            "connect_timeout": timedelta(seconds=CONNECT_S),
            "read_timeout": timedelta(seconds=min(REQUEST_S, request_s)),
            "timeout": timedelta(seconds=request_s),
        },
        retry_config={
            "max_retries": retries,
            "retry_timeout": timedelta(seconds=RETRY_S),
            "backoff": {
                "init_backoff": timedelta(milliseconds=200),
                "max_backoff": timedelta(seconds=3),
                "base": 2,
            },
        },
    )
