from __future__ import annotations

import base64
import stat
import subprocess
from pathlib import Path

import pytest

from fruits_cli.errors import HostKeyRefused, UsageError
from fruits_cli.tunnel.host_keys import (
    HostKey,
    PinFile,
    Verdict,
    judge,
    known_hosts_name,
    parse_console_fingerprints,
    parse_fingerprint,
    state_dir,
)
from tests.support.ssh_servers import new_key

FIRST, SECOND = HostKey("ssh-ed25519", b"first"), HostKey("ssh-rsa", b"second")
CONSOLE = f"""[   12.3] cloud-init[1]: boot
ec2: -----BEGIN SSH HOST KEY FINGERPRINTS-----
ec2: 256 {FIRST.fingerprint} root@ip-10-0-0-7 (ED25519)
ec2: 3072 {SECOND.fingerprint} no comment (RSA)
ec2: -----END SSH HOST KEY FINGERPRINTS-----
login:"""


def judged(key: HostKey, *, pinned: list[HostKey] | None = None, expected: str = "") -> Verdict:
    wanted = frozenset({expected} if expected else ())
    return judge(key, name="j-1", pinned=pinned or [], expected=wanted)


def test_the_fingerprint_is_the_one_that_ssh_keygen_prints(tmp_path: Path) -> None:
    key = new_key(tmp_path / "key")

    ours = HostKey(key.get_name(), key.asbytes()).fingerprint

    assert ours == key.fingerprint
    assert parse_fingerprint(f"{ours}=") == ours


@pytest.mark.parametrize("text", ["", "SHA256:", "MD5:aa:bb", "SHA256:" + "a" * 42, "a" * 43])
def test_an_invalid_fingerprint_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="is not the fingerprint"):
        parse_fingerprint(text)


def test_the_console_tells_the_fingerprints_of_a_whole_block() -> None:
    assert parse_console_fingerprints(CONSOLE) == {FIRST.fingerprint, SECOND.fingerprint}
    assert parse_console_fingerprints(CONSOLE.partition("-----END")[0]) == frozenset()
    assert parse_console_fingerprints("") == frozenset()


def test_an_unknown_key_is_asked_about() -> None:
    assert judged(FIRST) is Verdict.ASK


def test_a_pinned_key_is_trusted_and_any_other_refused() -> None:
    assert judged(FIRST, pinned=[FIRST]) is Verdict.TRUSTED
    with pytest.raises(HostKeyRefused, match=r"^The host key of j-1 has changed: it is SHA256:"):
        judged(SECOND, pinned=[FIRST])


def test_an_expected_fingerprint_replaces_what_was_pinned() -> None:
    assert judged(SECOND, pinned=[FIRST], expected=SECOND.fingerprint) is Verdict.PIN
    with pytest.raises(HostKeyRefused, match="not SHA256:"):
        judged(FIRST, pinned=[FIRST], expected=SECOND.fingerprint)


def test_pins_are_kept_apart_by_name_and_private(tmp_path: Path) -> None:
    pins = PinFile(tmp_path / "fruits" / "known_hosts")

    assert pins.keys("j-1") == []
    pins.pin("j-1", FIRST)
    pins.pin("[10.0.0.7]:2222", SECOND)
    pins.pin("j-1", SECOND)

    assert pins.keys("j-1") == [SECOND]
    assert pins.keys("[10.0.0.7]:2222") == [SECOND]
    assert stat.S_IMODE(pins.path.stat().st_mode) == 0o600


def test_a_damaged_line_is_skipped_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    encoded = base64.b64encode(FIRST.blob).decode()
    file.write_text(f"# mine\nj-1\nj-1 ssh-ed25519 %%%\nj-2 ssh-ed25519 {encoded} comment\n")
    pins = PinFile(file)

    assert pins.keys("j-1") == []
    assert pins.keys("j-2") == [FIRST]
    pins.pin("j-3", SECOND)
    assert file.read_text().startswith("# mine\nj-1\nj-1 ssh-ed25519 %%%\n")


def test_openssh_reads_the_pins(tmp_path: Path) -> None:
    key = new_key(tmp_path / "key")
    pins = PinFile(tmp_path / "known_hosts")
    pins.pin("[127.0.0.1]:2222", HostKey(key.get_name(), key.asbytes()))
    try:
        found = subprocess.run(
            ["ssh-keygen", "-l", "-F", "[127.0.0.1]:2222", "-f", str(pins.path)],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("ssh-keygen is not installed")

    assert key.fingerprint in found.stdout


def test_names_and_places() -> None:
    assert known_hosts_name("a.example", 22) == "a.example"
    assert known_hosts_name("a.example", 2222) == "[a.example]:2222"
    assert state_dir({"XDG_STATE_HOME": "/x"}) == Path("/x/fruits")
    assert state_dir({"HOME": "/home/u"}) == Path("/home/u/.local/state/fruits")
