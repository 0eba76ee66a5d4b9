from tests.support.one_machine import machine, machine_cache
from tests.support.rehearsed import (
    account_at,
    aws,
    make_fleet,
    make_step,
    refusal,
    shared_aws,
    wait_until,
)
from tests.support.ssh_fixtures import state_home

__all__ = [
    "account_at",
    "aws",
    "machine",
    "machine_cache",
    "make_fleet",
    "make_step",
    "refusal",
    "shared_aws",
    "state_home",
    "wait_until",
]
