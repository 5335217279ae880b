"""The door to S3: written once, checked when read, every fault in one kind and one line."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from storage import object_store
from storage.errors import ObjectUnfit, StorageFull, StoreAway
from storage.object_store import Bucket, ObjectStore
from tests.builders_store import S3Server, put_behind_its_back


@pytest.fixture
def bucket(s3_server: S3Server) -> Bucket:
    return s3_server.bucket()


def test_an_object_is_made_once_and_the_first_one_stays(bucket: Bucket) -> None:
    store = ObjectStore(bucket)
    assert store.create("instances/a", b"first") == (True, store.create("instances/b", b"first")[1])
    assert store.create("instances/a", b"second") == (False, None)
    found = store.fetch("instances/a")
    assert found is not None and found.content == b"first"


def test_what_did_not_change_is_not_fetched_again(bucket: Bucket) -> None:
    store = ObjectStore(bucket)
    _, mark = store.create("a", b"first")
    assert mark and store.fetch("a", unless=mark) is None
    store.replace("a", b"second")
    found = store.fetch("a", unless=mark)
    assert found is not None and found.content == b"second"


def test_damaged_bytes_are_never_given(bucket: Bucket) -> None:
    store = ObjectStore(bucket)
    store.create("a", b"first")
    put_behind_its_back(bucket, "a", b"f1rst", said=b"first")
    with pytest.raises(ObjectUnfit, match="other bytes than were put"):
        store.fetch("a")


def test_a_large_object_goes_and_comes_whole(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "LARGE_BYTES", 1 << 20)
    store, content = ObjectStore(bucket), bytes(range(256)) * (12 << 12)
    assert store.create("a", content)[0]
    found = store.fetch("a")
    assert found is not None and found.content == content


def test_removing_is_harmless_twice_and_what_is_not_there_says_so(bucket: Bucket) -> None:
    store = ObjectStore(bucket)
    store.create("a", b"first")
    for _ in range(2):
        store.remove(["a", "never there"])
    with pytest.raises(FileNotFoundError):
        store.fetch("a")


def test_a_store_that_is_away_is_said_in_one_line_without_its_keys_and_works_once_it_is_back(
    s3_server: S3Server, bucket: Bucket
) -> None:
    store = ObjectStore(bucket)
    s3_server.stop()
    try:
        with pytest.raises(StoreAway) as raised:
            store.create("a", b"first")
    finally:
        s3_server.start()
    assert "\n" not in str(raised.value) and "test-secret" not in str(raised.value)
    assert isinstance(raised.value, StorageFull)  # what waits for room waits for the store as well
    assert store.create("a", b"first")[0]


def test_a_store_that_answers_nothing_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch, bucket: Bucket) -> None:
    monkeypatch.setattr(object_store, "REQUEST_S", 1)
    monkeypatch.setattr(object_store, "RETRIES", 0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = ObjectStore(replace(bucket, endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}"))
        with pytest.raises(StoreAway):
            store.create("a", b"first")


def test_a_missing_bucket_is_never_taken_for_a_missing_instance(bucket: Bucket) -> None:
    store = ObjectStore(replace(bucket, name="nobody-made-this"))
    with pytest.raises(StoreAway, match="no bucket nobody-made-this"):
        store.create("a", b"first")
    with pytest.raises(StoreAway, match="no bucket nobody-made-this"):
        store.fetch("a")


def test_a_store_that_writes_over_what_is_there_is_refused_before_anything_is_put() -> None:
    server = S3Server(hears_conditions=False).start()
    try:
        store = ObjectStore(server.bucket())
        with pytest.raises(StoreAway, match="writes over what is there"):
            store.create("a", b"first")
        with pytest.raises(FileNotFoundError):
            store.fetch("a")
    finally:
        server.stop()


def test_http_needs_to_be_allowed(bucket: Bucket) -> None:
    with pytest.raises(StoreAway):
        ObjectStore(replace(bucket, allow_http=False)).create("a", b"first")


def test_what_a_bucket_says_of_itself_holds_no_secret(bucket: Bucket) -> None:
    assert "test-secret" not in repr(bucket)
