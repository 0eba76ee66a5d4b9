"""The tunnel's questions to a cluster of fleets, as the embedded AWS answers them."""

from __future__ import annotations

import json
import signal
import socket
import urllib.request
import uuid
from contextlib import contextmanager, suppress

import pytest
from botocore.exceptions import ClientError

from fruits_cli.aws.answers import parse_cluster
from fruits_cli.aws.ec2 import AwsAccess
from fruits_cli.cloud.clusters import SshRule
from fruits_cli.errors import ClusterNotFound
from fruits_cli.tunnel.cluster_access import SshPort
from tests.integration.commands.test_tunnel_ssh import first_answer, running
from tests.support.paths import ROOT
from tests.support.rehearsed import until
from tests.support.ssh_servers import free_port, is_listening, new_key

# A page takes its usual port where that is free: no other test may take it meanwhile.
pytestmark = pytest.mark.xdist_group("tunnel")

SPARK_JOB = """
from pyspark.sql import SparkSession
spark = SparkSession.builder.appName("counts pears").getOrCreate()
assert spark.range(7).count() == 7
spark.stop()
"""


def access_to(aws, cluster_id):
    def clients(service, *, region=None, once=False):
        return aws.client(service)

    cluster = parse_cluster(aws.cluster(cluster_id))
    return AwsAccess(clients, "eu-west-3", cluster, own_addresses=lambda: ("127.0.0.1",))


def make_cluster(aws, **instances):
    """A standing cluster with a security group for SSH, as create-cluster makes it."""
    name = f"pears-{uuid.uuid4().hex[:8]}"
    (vpc,) = aws.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    group = aws.ec2.create_security_group(
        GroupName=f"fruits-{name}-ssh",
        Description="SSH",
        VpcId=vpc["VpcId"],
        TagSpecifications=[
            {
                "ResourceType": "security-group",
                "Tags": [{"Key": "fruits:launch-id", "Value": name}],
            }
        ],
    )
    request = aws.request(keep_alive=True, Name=f"fruits-{name}")
    request["Tags"] = [{"Key": "fruits:name", "Value": name}]
    request["Instances"] |= {"AdditionalMasterSecurityGroups": [group["GroupId"]], **instances}
    made = aws.emr.run_job_flow(**request)["JobFlowId"]
    aws.await_state(made, "WAITING")
    return made


@pytest.fixture
def cluster_id(aws):
    return make_cluster(aws)


def test_the_primary_of_a_fleet_is_the_instance_that_ec2_knows(aws, cluster_id):
    primary = access_to(aws, cluster_id).primary()

    (reservation,) = aws.ec2.describe_instances(InstanceIds=[primary.instance_id])["Reservations"]
    (instance,) = reservation["Instances"]
    # Amazon's name of it belongs to a stranger.
    assert primary.public_name.startswith("127.0.0.")
    assert primary.private_name == instance["PrivateDnsName"]
    assert primary.private_address == instance["PrivateIpAddress"]
    assert primary.networks == ("172.31.0.0/16",)


def test_port_22_follows_the_machine_in_the_clusters_group(aws, cluster_id):
    access = access_to(aws, cluster_id)
    access.add_ssh_rule(SshRule("198.51.100.0/24", "office"))
    access.add_ssh_rule(SshRule("203.0.113.9/32", "mine"))

    SshPort(access, source=None, note="mine", tell=lambda line: None).open()

    assert sorted(access.ssh_rules(), key=lambda rule: rule.cidr) == [
        SshRule("127.0.0.1/32", "mine"),
        SshRule("198.51.100.0/24", "office"),
    ]


def test_a_cluster_that_was_terminated_is_gone(aws, cluster_id):
    access = access_to(aws, cluster_id)
    access.require_live()
    aws.emr.terminate_job_flows(JobFlowIds=[cluster_id])

    with pytest.raises(ClusterNotFound, match=f"Cluster {cluster_id} (is ending|has ended)"):
        access.require_live()


@pytest.fixture
def key_file(aws, tmp_path):
    """The private half of the key pair `pears` of the embedded EC2."""
    key = new_key(tmp_path / "pears.pem")
    with suppress(ClientError):
        aws.ec2.delete_key_pair(KeyName="pears")
    line = f"ssh-ed25519 {key.get_base64()} pears"
    aws.ec2.import_key_pair(KeyName="pears", PublicKeyMaterial=line.encode())
    return tmp_path / "pears.pem"


@pytest.fixture
def open_cluster(aws, key_file):
    """A standing cluster that `fruits tunnel` may enter."""
    return make_cluster(aws, Ec2KeyName="pears")


@contextmanager
def tunnel_to(aws, cluster_id, key_file, folder):
    """`fruits tunnel`, as a user of the rehearsal starts it."""
    own = {"PATH": str(folder / "no-browser"), "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    environ = {**aws.rehearsal.environ, **own, "XDG_STATE_HOME": str(folder / "state")}
    words = ["tunnel", "--cluster", cluster_id, "--port", str(free_port())]
    words += ["--key-file", str(key_file), "--output", "json"]
    with running(words, environ, folder) as process:
        yield process


def cidrs_of(aws, cluster_id):
    return [rule.cidr for rule in access_to(aws, cluster_id).ssh_rules()]


def page_text(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read().decode()


def test_the_tunnel_shows_the_history_server_with_what_the_step_ran(
    aws, open_cluster, key_file, make_step, tmp_path
):
    step = make_step(aws.put("code/main.py", SPARK_JOB))
    added = aws.emr.add_job_flow_steps(JobFlowId=open_cluster, Steps=[step])
    aws.await_step(open_cluster, added["StepIds"][0], "COMPLETED")

    with tunnel_to(aws, open_cluster, key_file, tmp_path) as process:
        answer = first_answer(process)
        opened = cidrs_of(aws, open_cluster)
        history = answer["pages"]["spark"]
        until(lambda: "counts pears" in page_text(f"{history}api/v1/applications"))
        (found,) = json.loads(page_text(f"{history}api/v1/applications"))
        page = page_text(f"{history}history/{found['id']}/jobs/")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        told = process.stderr.read()

    assert opened == ["127.0.0.1/32"]
    assert cidrs_of(aws, open_cluster) == []
    assert "counts pears" in page
    assert "is not known yet" not in told
    assert "JupyterHub's password was not set" in told
    assert not is_listening(answer["socks_port"])
    assert {"jupyterhub", "yarn"} <= set(answer["silent"])


def test_the_tunnel_ends_with_its_rehearsed_cluster(aws, open_cluster, key_file, tmp_path):
    with tunnel_to(aws, open_cluster, key_file, tmp_path) as process:
        first_answer(process)
        aws.emr.terminate_job_flows(JobFlowIds=[open_cluster])

        assert process.wait(60) == 1
        assert f"Error: Cluster {open_cluster} " in process.stderr.read()


def test_a_rehearsed_node_takes_its_own_key_alone(aws, open_cluster, key_file, tmp_path):
    new_key(tmp_path / "stranger")

    with tunnel_to(aws, open_cluster, tmp_path / "stranger", tmp_path) as process:
        assert process.wait(60) == 1
        told = process.stderr.read()

    assert "refuses the key for user hadoop" in told
    assert cidrs_of(aws, open_cluster) == []


def test_port_22_of_a_rehearsed_node_is_asked_of_its_security_group(aws, open_cluster):
    primary = access_to(aws, open_cluster).primary()
    port = int(aws.rehearsal.environ["FRUITS_TUNNEL_SSH_PORT"])

    def banner():
        with socket.create_connection((primary.public_name, port), timeout=60) as connection:
            return connection.recv(100)

    assert banner() == b""
    access_to(aws, open_cluster).add_ssh_rule(SshRule("127.0.0.1/32", "mine"))
    assert banner().startswith(b"SSH-2.0-")


def test_two_rehearsed_clusters_have_addresses_of_their_own(aws, open_cluster, cluster_id):
    names = {access_to(aws, each).primary().public_name for each in (open_cluster, cluster_id)}

    assert len(names) == 2
    assert all(name.startswith("127.0.0.") for name in names)
