from __future__ import annotations

import http.client
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fruits_cli import rehearsal
from fruits_cli.errors import MachineError
from fruits_cli.rehearsal.state import Rehearsal, write_state


def ask(aws, method, path, **headers):
    host, port = aws.rehearsal.endpoint.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


def test_nobody_without_the_key_is_answered(aws):
    signed = "AWS4-HMAC-SHA256 Credential=AKIAOTHER/20260101/eu-west-3/{}/aws4_request"

    assert ask(aws, "GET", "/").status == 403
    assert ask(aws, "GET", f"/{aws.bucket}/x").status == 403
    assert ask(aws, "POST", "/", Authorization=signed.format("elasticmapreduce")).status == 403
    assert ask(aws, "POST", "/moto-api/reset").status == 403


def test_another_host_name_is_not_answered(aws):
    scope = f"{aws.rehearsal.key}/20260101/eu-west-3/s3/aws4_request"
    signed = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}"}

    assert ask(aws, "GET", "/", **signed).status == 200
    assert ask(aws, "GET", "/", Host="evil.example", **signed).status == 403


def test_web_pages_get_no_permission(aws):
    response = ask(aws, "OPTIONS", "/", Origin="https://evil.example")

    assert response.getheader("Access-Control-Allow-Origin") is None


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux' list of sockets")
def test_only_loopback_is_listened_on_and_spoken_to(aws):
    inodes = _socket_inodes(aws.rehearsal.pid)
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    lines += Path("/proc/net/tcp6").read_text().splitlines()[1:]
    ours = [line.split() for line in lines if line.split()[9] in inodes]

    addresses = {address.split(":")[0] for fields in ours for address in fields[1:3]}

    # 00000000 is the peer of a listening socket.
    assert "0100007F" in addresses
    assert addresses <= {"0100007F", "00000000"}
    assert not any(fields[1].startswith("00000000") for fields in ours)


def _socket_inodes(pid):
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(link))
        except FileNotFoundError:
            continue
        if target:
            found.add(target[1])
    return found


def test_a_second_start_finds_the_first_and_the_file_is_private(tmp_path, account_at):
    first = account_at(tmp_path).rehearsal

    second = rehearsal.start(tmp_path)

    assert second == first == rehearsal.find(tmp_path)
    assert stat.S_IMODE((tmp_path / "rehearsal.json").stat().st_mode) == 0o600


def test_a_second_terminal_reaches_it_by_the_environment_alone(aws):
    environ = rehearsal.environ_beside(
        aws.rehearsal, {"PATH": os.environ["PATH"], "AWS_PROFILE": "mine"}
    )
    code = "import boto3; print(boto3.client('s3').list_buckets()['Buckets'][0]['Name'])"

    told = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )

    assert told.stdout.strip() == aws.bucket


def test_a_server_outlives_the_process_that_started_it(tmp_path, account_at):
    code = "import sys, pathlib, fruits_cli.rehearsal as r; r.start(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(tmp_path)], check=True)

    assert rehearsal.find(tmp_path) is not None
    assert rehearsal.stop(tmp_path)


def test_a_temporary_server_ends_with_the_process_that_started_it(tmp_path, wait_until):
    code = (
        "import os, sys, pathlib, signal, fruits_cli.rehearsal as r;"
        "r.start(pathlib.Path(sys.argv[1]), ends_with_us=True); print('up', flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )

    told = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True)

    assert told.stdout == b"up\n"
    wait_until(lambda: rehearsal.find(tmp_path) is None)


def test_a_server_that_cannot_start_names_its_log(tmp_path):
    with pytest.raises(MachineError) as caught:
        rehearsal.start(tmp_path, minutes_per_second=0)

    assert "server.log" in caught.value.hint


def test_a_clean_stop_leaves_no_state_behind(tmp_path, account_at):
    account_at(tmp_path)

    assert rehearsal.stop(tmp_path)
    assert not rehearsal.stop(tmp_path)
    assert rehearsal.find(tmp_path) is None
    assert {path.name for path in tmp_path.iterdir()} <= {"lock", "server.log", "logs"}


def test_what_a_killed_server_left_is_stale(tmp_path, account_at, wait_until):
    killed = account_at(tmp_path).rehearsal
    os.kill(killed.pid, signal.SIGKILL)
    wait_until(lambda: rehearsal.find(tmp_path) is None)

    fresh = account_at(tmp_path).rehearsal

    assert fresh.pid != killed.pid
    assert fresh.key != killed.key


def test_a_state_file_without_a_server_is_stale(tmp_path):
    write_state(tmp_path, Rehearsal(1, "http://127.0.0.1:1", "eu-west-3", {}))

    assert rehearsal.find(tmp_path) is None
    assert not rehearsal.stop(tmp_path)


def test_importing_the_package_loads_neither_boto3_nor_moto():
    code = "import sys, fruits_cli.rehearsal; print({'boto3', 'moto', 'numpy'} & set(sys.modules))"

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "set()"
