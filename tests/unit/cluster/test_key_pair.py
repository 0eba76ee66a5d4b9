"""Key pairs against the fake AWS and a real folder: made once, repaired, never overwritten."""

import stat
from pathlib import Path
from typing import Any

import pytest

from fruits_cli.cluster.key_pair import KeyPair, make_key_pair
from fruits_cli.commands.init import change_project
from fruits_cli.errors import AccessDenied, MachineError, UsageError
from fruits_cli.screen import Screen
from fruits_cli.tunnel.keys import load_fingerprints, new_private_key
from tests.support.fakes import FakeAws, FakeRights
from tests.support.worlds import config

NAME = "fruits-pears"


class _Failing(FakeRights):
    """EC2 at the moment of the import: it refuses, or somebody presses Ctrl-C."""

    failure: BaseException = KeyboardInterrupt()

    def import_key(self, key_name: str, public: bytes) -> bool:
        raise self.failure


class _Overtaken(FakeRights):
    """Another machine imports its own key just before we do."""

    def import_key(self, key_name: str, public: bytes) -> bool:
        self.keys[key_name] = "c29tZWJvZHkgZWxzZXM="
        return super().import_key(key_name, public)


def made(aws: FakeAws, home: Path, **cluster: Any) -> KeyPair:
    wanted = config(cluster={"name": "pears", **cluster})
    return make_key_pair(wanted, aws.cloud, environ={"HOME": str(home)})


def aws_with(rights: FakeRights) -> FakeAws:
    aws = FakeAws()
    aws.rights, aws.preflight.keys = rights, rights.keys
    return aws


def file_in(home: Path, content: str) -> Path:
    file = home / ".ssh" / f"{NAME}.pem"
    file.parent.mkdir(mode=0o700)
    file.write_text(content)
    file.chmod(0o600)
    return file


def modes(file: Path) -> tuple[int, int]:
    folder = file.parent
    return stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(file.stat().st_mode)


def test_a_new_pair_is_private_here_and_public_there(tmp_path: Path) -> None:
    aws = FakeAws()

    pair = made(aws, tmp_path)

    assert pair == KeyPair(NAME, tmp_path / ".ssh" / f"{NAME}.pem", "eu-west-3", is_new=True)
    assert modes(pair.file) == (0o700, 0o600)
    assert load_fingerprints(pair.file) == {aws.rights.keys[NAME].rstrip("=")}


def test_a_second_call_finds_both_and_changes_nothing(tmp_path: Path) -> None:
    aws = FakeAws()
    first = made(aws, tmp_path)
    before, shown = first.file.read_bytes(), dict(aws.rights.keys)

    second = made(aws, tmp_path)

    assert not second.is_new
    assert second.summary() == f"Key pair {NAME} exists in eu-west-3, and {first.file} is its key."
    assert (second.file.read_bytes(), aws.rights.keys) == (before, shown)


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), AccessDenied("No.")])
def test_what_fails_between_file_and_import_is_repaired_with_the_same_key(
    tmp_path: Path, failure: BaseException
) -> None:
    rights = _Failing()
    rights.failure = failure
    with pytest.raises(type(failure)):
        made(aws_with(rights), tmp_path)
    before = (tmp_path / ".ssh" / f"{NAME}.pem").read_bytes()

    pair = made(FakeAws(), tmp_path)

    assert pair.is_new
    assert pair.file.read_bytes() == before


def test_a_pair_without_its_file_cannot_be_used_and_nothing_is_written(tmp_path: Path) -> None:
    aws = FakeAws()
    aws.rights.keys[NAME] = "c29tZWJvZHkgZWxzZXM="

    with pytest.raises(MachineError) as refused:
        made(aws, tmp_path)

    file = tmp_path / ".ssh" / f"{NAME}.pem"
    assert str(refused.value) == (
        f"EC2 has a key pair {NAME} in eu-west-3, but {file} is not on this machine."
    )
    assert f"aws ec2 delete-key-pair --key-name {NAME} --region eu-west-3" in refused.value.hint
    assert not file.exists()


def test_a_file_of_another_pair_is_told_and_kept(tmp_path: Path) -> None:
    aws, text = FakeAws(), new_private_key()
    aws.rights.keys[NAME] = "c29tZWJvZHkgZWxzZXM="
    file = file_in(tmp_path, text)

    with pytest.raises(UsageError) as refused:
        made(aws, tmp_path)

    assert str(refused.value) == (
        f"{file} is not the key of the key pair {NAME} that EC2 has in eu-west-3."
    )
    assert file.read_text() == text


def test_a_pair_imported_by_another_machine_meanwhile_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not the key of the key pair"):
        made(aws_with(_Overtaken()), tmp_path)


def test_a_file_that_is_no_key_or_open_to_others_is_never_imported(tmp_path: Path) -> None:
    aws, file = FakeAws(), file_in(tmp_path, "")

    with pytest.raises(UsageError, match="is not a private key"):
        made(aws, tmp_path)
    file.chmod(0o644)
    with pytest.raises(UsageError, match=r"open to other users \(mode 0644\)"):
        made(aws, tmp_path)

    assert aws.rights.keys == {}
    assert file.read_text() == ""


def test_a_link_to_nowhere_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / f"{NAME}.pem").symlink_to(tmp_path / "elsewhere")
    aws = FakeAws()

    with pytest.raises(MachineError, match="cannot be written: File exists"):
        made(aws, tmp_path)

    assert not (tmp_path / "elsewhere").exists()
    assert aws.rights.keys == {}


def test_a_home_that_cannot_hold_the_file_leaves_no_pair(tmp_path: Path) -> None:
    (tmp_path / ".ssh").write_text("a file in the folder's place")
    aws = FakeAws()

    with pytest.raises(MachineError) as refused:
        made(aws, tmp_path)

    assert str(refused.value).startswith(f"The key file {tmp_path / '.ssh' / NAME}.pem cannot be")
    assert refused.value.hint == "No key pair was made."
    assert aws.rights.keys == {}


@pytest.mark.parametrize(
    ("former", "changes"),
    [
        ("", True),
        (f'[cluster]\nkey_name = "{NAME}"\n', True),
        (f'[cluster]\nkey_name = "{NAME}"\n[tunnel]\nkey_file = "/h/k.pem"\n', False),
    ],
    ids=["nothing", "one of two", "both"],
)
def test_the_lines_of_a_pair_are_written_unless_they_are_there(
    tmp_path: Path, former: str, changes: bool
) -> None:
    (tmp_path / "fruits.toml").write_text(former)
    pair = KeyPair(NAME, Path("/h/k.pem"), "eu-west-3", is_new=True)

    outcome = change_project(
        {}, config(), Screen(), folder=tmp_path, environ={}, make_key=lambda _: pair
    )

    assert outcome.lines[-1].endswith("was changed." if changes else "says so already.")
    assert (tmp_path / "fruits.toml").read_text() == (
        f'[cluster]\nkey_name = "{NAME}"\n[tunnel]\nkey_file = "/h/k.pem"\n'
    )
