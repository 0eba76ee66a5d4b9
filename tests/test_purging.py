"""Purging against the fake AWS: what is stuck is said, and a second run goes on."""

from pathlib import Path

import pytest
from fakes import FakeAws
from worlds import config

from fruits_cli.ending import Ending
from fruits_cli.errors import CloudError
from fruits_cli.ledger import Ledger
from fruits_cli.plan import foundation_names
from fruits_cli.purging import purge_account
from fruits_cli.session import Session
from fruits_cli.ui import Screen


def purged(aws: FakeAws, folder: Path) -> list[str]:
    session = Session(Screen(), Ledger(folder), aws.cloud, aws.clock)
    return purge_account(config(), Ending(yes=True), session, lambda _: aws.cloud).lines


def test_what_cannot_be_removed_is_said_and_the_rest_goes_all_the_same(tmp_path: Path) -> None:
    aws, names = FakeAws(), foundation_names(config(), keep_alive=True)
    aws.rights.made |= {names.instance_role, names.service_role}
    aws.remains.stuck.add(names.instance_role)

    with pytest.raises(CloudError, match=f"Not removed: role {names.instance_role}"):
        purged(aws, tmp_path)

    assert aws.rights.made == {names.instance_role}
    aws.remains.stuck.clear()
    assert "Removed: 1." in purged(aws, tmp_path)[0]
    assert aws.rights.made == set()


def test_nothing_left_is_no_error(tmp_path: Path) -> None:
    assert purged(FakeAws(), tmp_path)[-1] == "Nothing is left to remove."
