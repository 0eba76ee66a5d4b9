import hashlib

import pytest

from fruits_cli.cloud.clusters import BootstrapAction, Cluster, ClusterState
from fruits_cli.cloud.layout import Places
from fruits_cli.config import Engine
from fruits_cli.errors import UsageError
from fruits_cli.job.node_python import (
    Lock,
    NodePython,
    Pin,
    bootstrap_action,
    interpreter_on,
    script_place,
)
from fruits_cli.s3uri import S3Uri
from tests.support.worlds import BUCKET, LOCK, PYTHON

PLACES = Places(BUCKET, "fruits")
MORE = Lock(f"# imports: keras\nkeras==3.15.1 --hash=sha256:{'7' * 64}\n")
BOTH = NodePython(Engine.TENSORFLOW, (LOCK, MORE), "#!/usr/bin/env bash\n")


def live(**tags: str) -> Cluster:
    return Cluster("j-1", "fruits-pears", ClusterState.WAITING, tags=tags)


def test_a_lock_is_its_pins_and_its_digest() -> None:
    assert LOCK.pins == (Pin("numpy", "2.4.6", "5" * 64),)
    assert LOCK.digest == hashlib.sha256(LOCK.text.encode()).hexdigest()[:32]


def test_one_layers_python_has_the_digest_of_its_lock() -> None:
    assert PYTHON.digest == LOCK.digest
    assert PYTHON.interpreter == f"/opt/fruits/{LOCK.digest}/bin/python"


def test_a_second_layer_is_another_python_beside_the_first_ones_wheels() -> None:
    action = bootstrap_action(BOTH, PLACES, region="eu-west-3", lifetime_min=240)

    assert BOTH.digest not in (LOCK.digest, MORE.digest)
    assert action.args == (
        "--digest", BOTH.digest, "--region", "eu-west-3",
        "--wheels", f"s3://{BUCKET}/fruits/wheels/{LOCK.digest}/",
        "--wheels", f"s3://{BUCKET}/fruits/wheels/{MORE.digest}/",
        "--max-lifetime-min", "240",
    )  # fmt: skip


def test_the_script_is_found_by_what_it_says() -> None:
    action = bootstrap_action(PYTHON, PLACES, region="eu-west-3", lifetime_min=240)
    digest = hashlib.sha256(PYTHON.script.encode()).hexdigest()[:32]

    assert isinstance(action, BootstrapAction)
    assert action.script == script_place(PYTHON, PLACES)
    assert action.script == S3Uri(BUCKET, f"fruits/bootstrap/{digest}/bootstrap.sh")


@pytest.mark.parametrize("engine", Engine)
def test_a_cluster_with_both_engines_runs_either(engine: Engine) -> None:
    assert interpreter_on(live(**BOTH.tags), engine) == BOTH.interpreter


def test_a_cluster_of_an_older_version_keeps_its_own_python() -> None:
    cluster = live(**{"fruits:python": "openvino/0ld"})

    assert interpreter_on(cluster, Engine.OPENVINO) == "/opt/fruits/0ld/bin/python"


def test_a_cluster_without_tensorflow_refuses_that_engine() -> None:
    with pytest.raises(UsageError, match=r"j-1 was made for openvino: its Python has no Tens") as e:
        interpreter_on(live(**PYTHON.tags), Engine.TENSORFLOW)

    assert e.value.hint == (
        'Give --engine openvino; or, with engine = "tensorflow" in fruits.toml, '
        "fruits create-cluster --name OTHER makes one that has it."
    )


def test_a_cluster_without_a_python_of_ours_is_refused() -> None:
    with pytest.raises(UsageError, match="j-1 was made without a Python for the job"):
        interpreter_on(live(), Engine.OPENVINO)
