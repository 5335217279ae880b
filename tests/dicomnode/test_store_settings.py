"""The [store] table: every mistake is named, and no credential stands in node.toml or in a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicomnode.config import Config, load_config
from dicomnode.config_words import describe
from dicomnode.errors import ConfigFault

RULES = ""
NOBODY: dict[str, str] = {}
SOMEBODY = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


def load(folder: Path, store: str, environment: dict[str, str] | None = None) -> Config:
    (folder / "node.toml").write_text(f'[node]\ndata_folder = "var"\n[store]\n{store}\n')
    (folder / "rules.toml").write_text(RULES)
    return load_config(folder, environment=SOMEBODY if environment is None else environment)


def credentials(folder: Path, text: str, mode: int = 0o600) -> None:
    path = folder / "credentials"
    path.write_text(text)
    path.chmod(mode)


def test_without_the_table_instances_lie_in_the_data_folder(tmp_path: Path) -> None:
    config = load(tmp_path, "", NOBODY)
    assert config.bucket is None and ("store", "instances lie in data_folder") in describe(config)


def test_one_line_names_a_bucket_of_aws(tmp_path: Path) -> None:
    bucket = load(tmp_path, 'url = "s3://hospital-images/node/1"', NOBODY).bucket
    assert bucket is not None
    assert (bucket.name, bucket.prefix, bucket.endpoint, bucket.access_key_id) == ("hospital-images", "node/1", "", "")


def test_a_store_of_ones_own_with_credentials_from_a_file(tmp_path: Path) -> None:
    credentials(tmp_path, "[default]\naws_access_key_id = node\naws_secret_access_key = s%cret\n")
    config = load(
        tmp_path,
        'url = "s3://images"\nendpoint = "https://minio:9000"\nregion = "here"\ncredentials_file = "credentials"',
        NOBODY,
    )
    bucket = config.bucket
    assert bucket is not None and (bucket.access_key_id, bucket.secret_access_key) == ("node", "s%cret")
    assert (bucket.endpoint, bucket.region, bucket.prefix) == ("https://minio:9000", "here", "")
    assert "s%cret" not in repr(config) + repr(describe(config))


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ('url = "http://minio/bucket"', "expected nothing"),
        ('url = "s3://bucket/../other"', "expected nothing"),
        ('url = "s3://BUCKET"', "expected nothing"),
        ('url = "s3://images"\nendpoint = "https://user:word@minio"', "without user, password"),
        ('url = "s3://images"\nendpoint = "http://minio:9000"', "allow_http = true"),
        ('url = "s3://images"\nsecret_access_key = "x"', "unknown key"),
        ('url = "s3://images"\ncredentials_file = "nowhere"', "cannot be read"),
        ("cache_gb = 0.0", "cache_gb"),
    ],
)
def test_a_mistake_is_named_with_its_key(tmp_path: Path, store: str, said: str) -> None:
    with pytest.raises(ConfigFault) as raised:
        load(tmp_path, store)
    assert (
        said in str(raised.value)
        and "store" in str(raised.value)
        and "word" not in str(raised.value).replace("password", "")
    )


def test_a_store_of_ones_own_needs_somebody_to_be(tmp_path: Path) -> None:
    store = 'url = "s3://images"\nendpoint = "https://minio:9000"'
    with pytest.raises(ConfigFault, match="AWS_ACCESS_KEY_ID"):
        load(tmp_path, store, NOBODY)
    assert load(tmp_path, store, SOMEBODY).bucket is not None


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("[default]\naws_access_key_id = a\naws_secret_access_key = sesame\n", 0o640, "open to others"),
        ("[default]\naws_access_key_id = a\n", 0o600, "needs aws_access_key_id and aws_secret_access_key"),
        ("sesame\n", 0o600, "not written as AWS's tools write it"),
    ],
)
def test_credentials_that_others_may_read_or_that_lack_something_are_refused_without_being_quoted(
    tmp_path: Path, text: str, mode: int, said: str
) -> None:
    credentials(tmp_path, text, mode)
    with pytest.raises(ConfigFault, match=said) as raised:
        load(tmp_path, 'url = "s3://images"\ncredentials_file = "credentials"')
    assert "sesame" not in str(raised.value)


def test_a_missing_package_is_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigFault, match=r"dicom-ai-node\[s3\]"):
        load(tmp_path, 'url = "s3://images"')
    assert load(tmp_path, "").bucket is None
