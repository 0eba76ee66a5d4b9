from tests.support.one_machine import machine, machine_cache
from tests.support.spark_runs import java, run_job
from tests.support.ssh_fixtures import key_file, openssh, ssh_server, state_home

__all__ = [
    "java",
    "key_file",
    "machine",
    "machine_cache",
    "openssh",
    "run_job",
    "ssh_server",
    "state_home",
]
