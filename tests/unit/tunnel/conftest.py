from tests.support.ssh_fixtures import key_file, openssh, ssh_server, state_home

__all__ = ["key_file", "openssh", "ssh_server", "state_home"]
