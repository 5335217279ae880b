"""A config folder is read whole or refused whole, and every mistake is named with its file, line and key."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from dicomnode.config import Config, load_config
from dicomnode.config_words import describe
from dicomnode.errors import ConfigFault

ROOT = Path(__file__).parents[2]

NODE = """\
[node]
ae_title = "DICOMNODE"
host = "127.0.0.1"
port = 11112
data_folder = "../var"
database = ""                  # empty: SQLite in data_folder; else postgresql+psycopg://user@host/db
quiet_seconds = 5.0
[peers.scanner]
ae_title = "SCANNER"
may = ["store"]
[peers.pacs]
ae_title = "ORTHANC"
host = "127.0.0.1"
port = 4242
may = ["store", "query", "retrieve"]
[[workers]]
device = "auto"                # cuda:0, cpu
[pipelines.ct_metal_artifact_reduction]
method = "nmar"
"""
RULES = """\
[[rules]]
name = "CT with metal"
when = '''Modality == "CT" && "ORIGINAL" in ImageType && SeriesDescription.matches("(?i)metal|implant|hip|dental")'''
run = "ct_metal_artifact_reduction"
send_to = ["pacs"]
priority = "routine"           # stat, routine, low
"""


def folder_with(tmp_path: Path, node: str = NODE, rules: str = RULES) -> Path:
    folder = tmp_path / "config"
    folder.mkdir(exist_ok=True)
    (folder / "node.toml").write_text(node)
    (folder / "rules.toml").write_text(rules)
    return folder


def load(tmp_path: Path, node: str = NODE, rules: str = RULES, **environment: str) -> Config:
    return load_config(folder_with(tmp_path, node, rules), environment=environment)


def fault(tmp_path: Path, node: str = NODE, rules: str = RULES, **environment: str) -> str:
    with pytest.raises(ConfigFault) as caught:
        load(tmp_path, node, rules, **environment)
    return str(caught.value)


def test_the_form_of_the_issue_works(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert (config.node.ae_title, config.node.port, config.node.quiet_seconds) == ("DICOMNODE", 11112, 5.0)
    assert set(config.peers) == {"scanner", "pacs"}
    assert config.peers["pacs"].reachable
    assert not config.peers["scanner"].reachable
    assert config.peers["pacs"].may == ("store", "query", "retrieve")
    assert [worker.device for worker in config.workers] == ["auto"]
    assert config.pipelines["ct_metal_artifact_reduction"].settings == {"method": "nmar"}
    (rule,) = config.rules
    assert (rule.run, rule.send_to, rule.priority, rule.stop) == (
        "ct_metal_artifact_reduction",
        ("pacs",),
        "routine",
        False,
    )
    assert config.warnings == ()


def test_relative_paths_start_at_the_config_folder(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.data_folder == tmp_path / "var"
    assert config.database_url == f"sqlite:///{tmp_path}/var/node.sqlite"
    assert config.engine_database_url == f"sqlite:///{tmp_path}/var/engine.sqlite"


def test_loading_changes_nothing_on_the_disk(tmp_path: Path) -> None:
    load(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["config", "node.toml", "rules.toml"]


def test_little_is_needed_and_the_rest_has_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, '[peers.scanner]\nae_title = "SCANNER"\nmay = ["store"]\n', "")
    assert config.node.ae_title == "DICOMNODE"
    assert [worker.device for worker in config.workers] == ["auto"]
    assert config.warnings == ("there are no rules: series are received and nothing is done with them",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('port = 11112', 'prot = 11112', "node.toml:4: node.prot: unknown key; did you mean port?"),
        ('port = 11112', 'port = "11112"', "node.toml:4: node.port: should be a valid integer, not '11112'"),
        ('port = 11112', 'port = 99999', "node.toml:4: node.port: should be less than or equal to 65535, not 99999"),
        ('[peers.pacs]', '[peer.pacs]', "node.toml:11: peer: unknown key; did you mean peers?"),
        ('"store", "query"', '"stroe", "query"', "node.toml:15: peers.pacs.may[1]: should be 'store', 'query' or"),
        ('ae_title = "ORTHANC"', 'ae_title = "A TITLE THAT IS TOO LONG"', "ae_title: an AE title has 1 to 16"),
        ('ae_title = "ORTHANC"', '', "peers.pacs.ae_title: is missing: How the peer calls itself"),
        ('ae_title = "ORTHANC"', 'ae_title = "SCANNER"', "peers.pacs.ae_title: SCANNER is also the AE title of peer"),
        ('device = "auto"', 'device = "gpu"', "node.toml:17: workers[1].device: should match"),
        ('[pipelines.ct_metal_artifact_reduction]', '[pipelines.ct_metal]', "ct_metal: there is no such pipe"),
        ('method = "nmar"', 'methode = "nmar"', "node.toml:19: pipelines.ct_metal_artifact_reduction.methode: "),
        ('method = "nmar"', 'method = "best"', "node.toml:19: pipelines.ct_metal_artifact_reduction.method: "),
        ('method = "nmar"', 'limit_s = 0', "pipelines.ct_metal_artifact_reduction.limit_s: should be greater than 0"),
        ('quiet_seconds = 5.0', 'quiet_seconds = inf', "node.quiet_seconds: should be a finite number"),
        ('quiet_seconds = 5.0', 'retry_first_s = 900', "retry_longest_s is shorter than retry_first_s"),
        ('database = ""', 'database = "mysql://x/y"', "node.database: expected nothing (SQLite in data"),
        ('[node]', '[node', "node.toml:1: not TOML"),
    ],
)  # fmt: skip
def test_a_mistake_in_node_toml_names_file_line_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert message in fault(tmp_path, NODE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Modality ==", "Modalty ==", "in rule 'CT with metal': Modalty: is not a DICOM keyword; did you mean M"),
        ("Modality ==", "PixelData ==", "rules.toml:3: rules[1].when: in rule 'CT with metal': PixelData: cannot"),
        ("|dental", "|(dental", "is not a regular expression that can be used: unclosed group"),
        ('run = "ct_metal_', 'run = "ct_mettal_', "rules.toml:4: rules[1].run: there is no pipeline 'ct_mettal_"),
        ('["pacs"]', '["pasc"]', "toml:5: rules[1].send_to: there is no peer 'pasc' in node.toml; did you mean pa"),
        ('["pacs"]', '["scanner"]', "nothing can be sent to 'scanner': give it host and port in node.toml"),
        ('["pacs"]', '["pacs", "pacs"]', "rules.toml:5: rules[1].send_to: names a peer twice"),
        ('["pacs"]', '[]', "must name at least one peer"),
        ('run = "ct_metal_artifact_reduction"', '', "rules[1].run: is missing: The pipeline to run"),
        ('run = "ct_metal_artifact_reduction"', 'run = ""', 'a rule that holds (run = "") sends nothing'),
        ('priority = "routine"', 'priority = "urgent"', "rules[1].priority: should be 'stat', 'routine' or 'low'"),
        ('priority = "routine"', 'prority = "low"', "toml:6: rules[1].prority: unknown key; did you mean priority?"),
        ('priority = "routine"', 'from = ["ct9"]', "rules.toml:6: rules[1].from: there is no peer 'ct9'"),
        ('priority = "routine"', 'stop = 1', "rules[1].stop: should be a valid boolean, not 1"),
        ("[[rules]]", "[[rule]]", "rules.toml:1: rule: unknown key; did you mean rules?"),
    ],
)  # fmt: skip
def test_a_mistake_in_rules_toml_names_file_rule_and_word(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert message in fault(tmp_path, rules=RULES.replace(old, new))


def test_two_rules_of_one_name_are_refused(tmp_path: Path) -> None:
    message = fault(tmp_path, rules=RULES + RULES)
    assert "rules.toml:8: rules[2].name: another rule is called 'CT with metal' already" in message


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    node, rules = NODE.replace("port = 4242", "prt = 4242"), RULES.replace("priority", "prio").replace("name", "nmae")
    message = fault(tmp_path, node, rules)
    for part in ("node.toml:14: peers.pacs.prt", "rules.toml:6: rules[1].prio", "rules[1].name: is missing"):
        assert part in message
    rules = RULES.replace("Modality", "Modalty").replace('"pacs"', '"pasc"')
    message = fault(tmp_path, NODE.replace("nmar", "best"), rules)
    assert all(part in message for part in ("Modalty", "pasc", "method"))


def test_a_missing_file_or_folder_is_said(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    (folder / "rules.toml").unlink()
    with pytest.raises(ConfigFault, match=r"rules\.toml: the file is missing"):
        load_config(folder)
    with pytest.raises(ConfigFault, match="no such config folder"):
        load_config(tmp_path / "nowhere")


def test_a_file_that_is_not_text_is_said(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    (folder / "rules.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigFault, match="not UTF-8"):
        load_config(folder)


POSTGRESQL = NODE.replace('database = ""', 'database = "postgresql+psycopg://node@db.local/dicom"')


def test_the_database_password_comes_from_the_environment_and_is_shown_nowhere(tmp_path: Path) -> None:
    config = load(tmp_path, POSTGRESQL, DICOMNODE_DATABASE_PASSWORD="p@ss/wörd")
    assert config.database_url == "postgresql+psycopg://node:p%40ss%2Fw%C3%B6rd@db.local/dicom"
    assert config.engine_database_url == config.database_url
    assert "p@ss" not in repr(config) + str(describe(config))


def with_password_file(tmp_path: Path, mode: int, content: str = "secret\nmore\n") -> str:
    path = folder_with(tmp_path) / "password"
    path.write_text(content)
    path.chmod(mode)
    return POSTGRESQL.replace("quiet_seconds = 5.0", 'database_password_file = "password"')


def test_the_database_password_comes_from_a_private_file(tmp_path: Path) -> None:
    config = load(tmp_path, with_password_file(tmp_path, 0o400), DICOMNODE_DATABASE_PASSWORD="other")
    assert config.database_url == "postgresql+psycopg://node:secret@db.local/dicom"
    assert config.warnings == ()


@pytest.mark.parametrize("mode", [0o444, 0o604, 0o660, 0o666])
def test_a_password_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    message = fault(tmp_path, with_password_file(tmp_path, mode))
    assert "node.database_password_file" in message
    assert "chmod 0400" in message
    assert "secret" not in message


def test_a_password_file_that_its_group_can_read_is_a_warning(tmp_path: Path) -> None:
    (warning,) = load(tmp_path, with_password_file(tmp_path, 0o440)).warnings
    assert "group" in warning


def test_an_empty_or_missing_password_file_is_refused(tmp_path: Path) -> None:
    node = with_password_file(tmp_path, 0o400, "")
    assert "is empty" in fault(tmp_path, node)
    (tmp_path / "config" / "password").unlink()
    assert "cannot be read" in fault(tmp_path, node)


def test_a_password_in_node_toml_is_refused_and_not_repeated(tmp_path: Path) -> None:
    message = fault(tmp_path, POSTGRESQL.replace("node@db", "node:geheim@db"))
    assert "a password does not stand in node.toml" in message
    assert "geheim" not in message


def test_a_password_without_a_user_is_refused(tmp_path: Path) -> None:
    node = POSTGRESQL.replace("node@db.local", "db.local")
    assert "no user" in fault(tmp_path, node, DICOMNODE_DATABASE_PASSWORD="x")


def test_a_time_limit_of_a_pipeline_goes_before_the_nodes(tmp_path: Path) -> None:
    assert load(tmp_path).limit_s("ct_metal_artifact_reduction") == 3600
    config = load(tmp_path, NODE + "limit_s = 90\n")
    assert config.limit_s("ct_metal_artifact_reduction") == 90
    assert config.pipelines["ct_metal_artifact_reduction"].settings == {"method": "nmar"}
    assert config.limit_s("another") == 3600


def test_a_pipeline_that_a_rule_runs_needs_no_table(tmp_path: Path) -> None:
    config = load(tmp_path, NODE.partition("[pipelines")[0])
    assert config.pipelines["ct_metal_artifact_reduction"].settings == {}
    assert config.pipelines["ct_metal_artifact_reduction"].card.name == "ct_metal_artifact_reduction"


def test_a_hold_rule_and_a_rule_for_one_peer_are_read(tmp_path: Path) -> None:
    hold = "[[rules]]\nname = \"QA\"\nwhen = '''QualityControlImage == \"YES\"'''\nrun = \"\"\n"
    config = load(tmp_path, rules=hold + RULES + 'from = ["scanner"]\n')
    assert [rule.holds for rule in config.rules] == [True, False]
    assert config.rules[1].from_peers == ("scanner",)


CHAIN = (
    RULES
    + """
[[rules]]
name = "quieter"
after = "CT with metal"
when = '"MAR" in ImageType'
run = "ct_denoising"
send_to = ["pacs"]
mixed = "split"
uneven = "split"
"""
)


def test_a_rule_can_follow_an_earlier_one_and_say_how_a_series_is_treated(tmp_path: Path) -> None:
    config = load(tmp_path, rules=CHAIN.replace('send_to = ["pacs"]\n', "", 1))
    assert (config.rules[1].after, config.rules[1].mixed, config.rules[1].uneven) == ("CT with metal", "split", "split")
    assert (config.rules[0].after, config.rules[0].mixed, config.rules[0].uneven) == ("", "refuse", "refuse")
    assert "after 'CT with metal'" in dict(describe(config))["rule 2 quieter"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('after = "CT with metal"', 'after = "CT with mettle"', "there is no earlier rule 'CT with mettle'"),
        ('after = "CT with metal"', 'after = "quieter"', "there is no earlier rule 'quieter'"),
        ('after = "CT with metal"', 'after = "CT with metal"\nfrom = ["scanner"]', "is not for received series"),
        ('run = "ct_metal_artifact_reduction"\nsend_to = ["pacs"]', 'run = ""', "holds series back"),
        ('mixed = "split"', 'mixed = "maybe"', "mixed"),
    ],
)
def test_a_chain_of_rules_that_cannot_work_is_a_mistake(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in CHAIN
    assert message in fault(tmp_path, rules=CHAIN.replace(old, new))


def test_what_is_made_beside_the_images_is_named_by_known_words(tmp_path: Path) -> None:
    also = 'method = "nmar"\nalso = ["segmentation", "banner"]'
    config = load(tmp_path, NODE.replace('method = "nmar"', also))
    assert config.pipelines["ct_metal_artifact_reduction"].also == ("segmentation", "banner")
    assert "also" not in config.pipelines["ct_metal_artifact_reduction"].settings
    assert "beside it segmentation, banner" in dict(describe(config))["pipeline ct_metal_artifact_reduction"]
    assert "banner" in fault(tmp_path, NODE.replace('method = "nmar"', 'also = ["bannner"]'))


def test_a_data_folder_that_others_can_look_into_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var").chmod(0o755)
    (warning,) = load(tmp_path).warnings
    assert "open to others (mode 0755)" in warning
    (tmp_path / "var").chmod(0o700)
    assert load(tmp_path).warnings == ()


def test_what_is_unusual_is_a_warning(tmp_path: Path) -> None:
    node = NODE.replace('may = ["store"]', "may = []")
    (warning,) = load(tmp_path, node, RULES + 'from = ["scanner"]\n').warnings
    assert warning == "rule 'CT with metal' is for series from scanner, which may not \"store\""


def test_the_config_in_words_names_everything(tmp_path: Path) -> None:
    words = dict(describe(load(tmp_path)))
    assert words["node"].startswith("DICOMNODE listens on 127.0.0.1:11112")
    assert words["peer pacs"] == "ORTHANC at 127.0.0.1:4242; may store, query, retrieve"
    assert words["peer scanner"] == "SCANNER only calls us; may store"
    assert "baseline" in words["pipeline ct_metal_artifact_reduction"]
    assert "run ct_metal_artifact_reduction, send to pacs, routine" in words["rule 1 CT with metal"]


def test_the_same_files_give_an_equal_config_that_can_go_to_another_process(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert load(tmp_path) == config
    assert pickle.loads(pickle.dumps(config)) == config
    assert load(tmp_path, NODE.replace("11112", "11113")) != config


def test_the_shipped_config_has_no_mistakes() -> None:
    config = load_config(ROOT / "config", environment={})
    assert config.rules[0].holds
    assert config.rules[0].when == 'QualityControlImage == "YES"'
    assert config.warnings == ()


def test_torch_is_not_needed_to_read_a_config(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    program = (
        "import sys; from pathlib import Path; from dicomnode.config import load_config\n"
        f"load_config(Path({str(folder)!r}))\n"
        "assert not {'torch', 'pynetdicom', 'highdicom', 'dbos', 'sqlalchemy'} & set(sys.modules), sorted(sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_instances_are_moved_to_peers_that_listen_by_those_who_may_retrieve(tmp_path: Path) -> None:
    may = 'may = ["store", "query", "retrieve"]\n'
    assert load(tmp_path, NODE.replace(may, may + 'move_to = ["pacs"]\n')).peers["pacs"].move_to == ("pacs",)
    wrong = NODE.replace(may, may + 'move_to = ["pasc", "scanner"]\n')
    assert "no peer 'pasc'; did you mean pacs?" in fault(tmp_path, wrong)
    assert "peer scanner needs host and port" in fault(tmp_path, wrong)
    nobody = NODE.replace('may = ["store"]\n', 'may = ["store"]\nmove_to = ["pacs"]\n')
    assert 'peers.scanner.move_to: means nothing without "retrieve" in may' in fault(tmp_path, nobody)
