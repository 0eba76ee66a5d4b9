import gzip
import tracemalloc

import pytest

from fruits_cli.cloud.clusters import Cluster, ClusterState, ErrorDetail
from fruits_cli.cluster.logs import fetch_logs, readable
from fruits_cli.s3uri import S3Uri
from tests.support.fakes import FakeAws
from tests.support.worlds import BUCKET

ROOT = S3Uri(BUCKET, "fruits/logs/emr/j-1/")
CLUSTER = Cluster(
    "j-1", "fruits-x", ClusterState.WAITING, log_uri=S3Uri(BUCKET, "fruits/logs/emr/")
)
APP, OTHER = "application_17_0001", "application_17_0002"


@pytest.fixture
def aws() -> FakeAws:
    made = FakeAws()
    made.storage.create_bucket(BUCKET)
    return made


def put(aws: FakeAws, name: str, text: str) -> None:
    aws.storage.put_bytes(gzip.compress(text.encode()), ROOT / name)


def test_the_driver_is_the_first_container_of_the_steps_own_application(aws: FakeAws) -> None:
    put(aws, "steps/s-1/stderr.gz", f"Submitted application {APP}")
    for app in (APP, OTHER):
        put(aws, f"containers/{app}/container_{app[12:]}_01_000001/stderr.gz", f"driver of {app}")
        put(aws, f"containers/{app}/container_{app[12:]}_01_000002/stderr.gz", f"worker of {app}")

    logs = fetch_logs(aws.storage, CLUSTER, "s-1", workers=True)

    assert list(logs.driver.values()) == [f"driver of {APP}"]
    assert list(logs.workers.values()) == [f"worker of {APP}"]
    assert next(iter(logs.telling.values())) == f"driver of {APP}"


def test_workers_are_read_only_when_asked_for(aws: FakeAws) -> None:
    put(aws, f"containers/{APP}/container_17_0001_01_000002/stderr.gz", "worker")

    assert fetch_logs(aws.storage, CLUSTER, "s-1", workers=False).workers == {}


def test_only_the_bootstrap_action_that_failed_is_read(aws: FakeAws) -> None:
    for action in (1, 2):
        put(aws, f"node/i-1/bootstrap-actions/{action}/stderr.gz", f"action {action}")
    facts = {"primary-instance-id": "i-1", "bootstrap-action": "2"}
    error = ErrorDetail("BOOTSTRAP_FAILURE_PRIMARY_WITH_NON_ZERO_CODE", "", facts)
    state = ClusterState.TERMINATED_WITH_ERRORS
    cluster = Cluster("j-1", "fruits-x", state, errors=(error,), log_uri=CLUSTER.log_uri)

    logs = fetch_logs(aws.storage, cluster, "", workers=False)

    assert list(logs.bootstrap.values()) == ["action 2"]


def test_a_cluster_without_a_log_folder_has_no_logs(aws: FakeAws) -> None:
    blank = Cluster("j-1", "fruits-x", ClusterState.WAITING)

    assert fetch_logs(aws.storage, blank, "s-1", workers=True).telling == {}


def test_half_of_a_packed_log_is_read_as_far_as_it_goes() -> None:
    packed = gzip.compress(b"line\n" * 10_000)

    assert readable(packed[: len(packed) // 2]).startswith("line\nline\n")


def test_bytes_that_are_no_text_do_not_hide_the_rest() -> None:
    assert readable(b"a\xffb") == "a\N{REPLACEMENT CHARACTER}b"


def test_a_small_file_that_unpacks_to_much_takes_bounded_memory() -> None:
    packed = gzip.compress(b"0" * (256 << 20) + b"the end")
    tracemalloc.start()

    text = readable(packed)

    assert text.endswith("the end")
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
