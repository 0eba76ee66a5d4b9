from tests.support.one_machine import fruits, machine, machine_cache, s3_here
from tests.support.ssh_fixtures import key_file, openssh, ssh_server, state_home

__all__ = [
    "fruits",
    "key_file",
    "machine",
    "machine_cache",
    "openssh",
    "s3_here",
    "ssh_server",
    "state_home",
]
