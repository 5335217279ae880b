"""A real S3 interface for tests: moto's server on loopback, with a bucket for each test."""

from __future__ import annotations

import hashlib
import logging
import threading
import urllib.request
import uuid
from dataclasses import dataclass
from typing import Any

from storage.object_store import Bucket
from tests.builders import peer_is_missing


@dataclass
class S3Server:
    """moto's S3 in this process; what it holds outlives `stop` and is there again after `start`.

    hears_conditions: False is a store that does not know If-None-Match on a PUT, as old ones do not.
    """

    port: int = 0
    hears_conditions: bool = True
    server: Any = None

    def start(self) -> S3Server:
        """It answers, at the same port as before."""
        try:
            from moto.server import DomainDispatcherApplication, create_backend_app
            from werkzeug.serving import make_server
        except ImportError:
            peer_is_missing("moto[server] is not installed (PyPI): the object store cannot be tested")
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        moto = DomainDispatcherApplication(create_backend_app)

        def answer(environ: dict[str, Any], start_response: Any) -> Any:
            if not self.hears_conditions and environ["REQUEST_METHOD"] == "PUT":
                environ.pop("HTTP_IF_NONE_MATCH", None)
            return moto(environ, start_response)

        self.server = make_server("127.0.0.1", self.port, answer, threaded=True)
        self.port = int(self.server.server_port)
        threading.Thread(target=self.server.serve_forever, name="s3", daemon=True).start()
        return self

    def stop(self) -> None:
        """Nobody answers at its port."""
        self.server.shutdown()
        self.server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bucket(self) -> Bucket:
        """A new, empty bucket."""
        name = f"test-{uuid.uuid4().hex}"
        with urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{name}", method="PUT"), timeout=10):
            pass
        return Bucket(
            name,
            prefix="site/node",
            endpoint=self.endpoint,
            region="us-east-1",
            allow_http=True,
            access_key_id="test",
            secret_access_key="test-secret",
        )


def put_behind_its_back(bucket: Bucket, key: str, content: bytes, *, said: bytes) -> None:
    """An object with these bytes that says the SHA-256 of others: as a damaged disk would give it."""
    import obstore
    from obstore.store import S3Store

    client = S3Store(
        bucket.name,
        prefix=bucket.prefix,
        endpoint=bucket.endpoint,
        region=bucket.region,
        access_key_id=bucket.access_key_id,
        secret_access_key=bucket.secret_access_key,
        client_options={"allow_http": True},
    )
    obstore.put(client, key, content, attributes={"sha256": hashlib.sha256(said).hexdigest()})
