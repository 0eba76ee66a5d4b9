from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from fruits_cli.errors import UsageError
from fruits_cli.tunnel.keys import load_fingerprints, load_keys, load_public_line, new_private_key

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
LOCK = BestAvailableEncryption(b"secret")


def written(
    folder: Path,
    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey,
    form: PrivateFormat,
    lock: KeySerializationEncryption | None = None,
) -> Path:
    file = folder / "key.pem"
    file.write_bytes(private.private_bytes(Encoding.PEM, form, lock or NoEncryption()))
    file.chmod(0o600)
    return file


@pytest.mark.parametrize(
    ("private", "form", "kind"),
    [
        pytest.param(RSA, PrivateFormat.TraditionalOpenSSL, "ssh-rsa", id="RSA as EC2 makes it"),
        pytest.param(RSA, PrivateFormat.OpenSSH, "ssh-rsa", id="RSA of OpenSSH"),
        pytest.param(RSA, PrivateFormat.PKCS8, "ssh-rsa", id="RSA of OpenSSL"),
        pytest.param(
            Ed25519PrivateKey.generate(), PrivateFormat.OpenSSH, "ssh-ed25519", id="Ed25519"
        ),
        pytest.param(
            Ed25519PrivateKey.generate(), PrivateFormat.PKCS8, "ssh-ed25519", id="Ed25519 PKCS8"
        ),
        pytest.param(
            ec.generate_private_key(ec.SECP256R1()),
            PrivateFormat.OpenSSH,
            "ecdsa-sha2-nistp256",
            id="ECDSA",
        ),
    ],
)
def test_keys_of_every_usual_form_are_read(
    tmp_path: Path,
    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey,
    form: PrivateFormat,
    kind: str,
) -> None:
    [key] = load_keys(written(tmp_path, private, form))

    assert key.get_name() == kind


@pytest.mark.parametrize(
    "before", [b"\n\n", b"Bag Attributes\n    friendlyName: me\nKey Attributes: <none>\n"]
)
def test_text_before_a_key_is_skipped(tmp_path: Path, before: bytes) -> None:
    file = written(tmp_path, RSA, PrivateFormat.PKCS8)
    plain = load_public_line(file)

    file.write_bytes(before + file.read_bytes())

    assert load_public_line(file) == plain


def test_a_key_of_putty_names_the_command_that_converts_it(tmp_path: Path) -> None:
    file = tmp_path / "key.ppk"
    file.write_text("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n")
    file.chmod(0o600)

    with pytest.raises(UsageError, match="is in PuTTY's format") as refused:
        load_keys(file)

    assert refused.value.hint.startswith(f"puttygen {file} -O private-openssh -o key.pem")


def test_a_public_key_is_recognised_whatever_its_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    file = tmp_path / "key.pub"
    file.write_text(load_public_line(written(tmp_path, RSA, PrivateFormat.OpenSSH)))
    file.chmod(0o644)

    with pytest.raises(UsageError, match="is a public key") as refused:
        load_keys(file)

    assert "without .pub" in refused.value.hint


def test_a_public_key_that_was_cut_is_a_public_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    file = tmp_path / "key.pub"
    file.write_text("ssh-rsa AAAAB\n")

    with pytest.raises(UsageError, match="is a public key"):
        load_keys(file)


@pytest.mark.parametrize(
    "certificate", [b"garbage", b"ssh-ed25519-cert-v01@openssh.com AAAA x", b"\xff", None], ids=str
)
def test_a_broken_certificate_beside_a_key_is_named(
    tmp_path: Path, certificate: bytes | None
) -> None:
    file = written(tmp_path, Ed25519PrivateKey.generate(), PrivateFormat.OpenSSH)
    beside = tmp_path / "key.pem-cert.pub"
    if certificate is None:
        beside.mkdir()
    else:
        beside.write_bytes(certificate)

    with pytest.raises(UsageError, match=r"certificate .*key\.pem-cert\.pub of the key"):
        load_keys(file)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="only Linux has /dev/zero")
def test_a_device_without_end_is_no_key() -> None:
    with pytest.raises(UsageError, match="/dev/zero"):
        load_keys(Path("/dev/zero"))


@pytest.mark.parametrize(
    "form",
    [PrivateFormat.TraditionalOpenSSL, PrivateFormat.OpenSSH, PrivateFormat.PKCS8],
)
def test_a_locked_key_names_the_agent(tmp_path: Path, form: PrivateFormat) -> None:
    with pytest.raises(UsageError, match="locked by a passphrase") as locked:
        load_keys(written(tmp_path, RSA, form, LOCK))

    assert locked.value.hint.startswith("ssh-add ")


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x00\xff" * 100])
def test_a_file_that_is_not_a_key_is_reported(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(content)
    file.chmod(0o600)

    with pytest.raises(UsageError, match="is not a private key"):
        load_keys(file)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o755])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = written(tmp_path, RSA, PrivateFormat.OpenSSH)
    file.chmod(mode)

    with pytest.raises(UsageError, match=f"mode {mode:04o}") as refused:
        load_keys(file)

    assert refused.value.hint == f"chmod 600 {file}"


def test_a_folder_and_nothing_at_all_are_no_key(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError):
            load_keys(path)


def shell(command: str) -> str:
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    return done.stdout.strip()


# The commands are those of the EC2 user guide, verify the fingerprint of a key pair.
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_an_rsa_key_has_the_prints_that_ec2_shows(tmp_path: Path) -> None:
    file = written(tmp_path, RSA, PrivateFormat.TraditionalOpenSSL)
    made = f"openssl pkcs8 -in {file} -inform PEM -outform DER -topk8 -nocrypt | openssl sha1 -c"
    imported = f"openssl rsa -in {file} -pubout -outform DER | openssl md5 -c"

    prints = load_fingerprints(file)

    assert {shell(made).split()[-1], shell(imported).split()[-1]} < prints


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
def test_an_ed25519_key_has_the_print_that_ssh_keygen_shows(tmp_path: Path) -> None:
    file = written(tmp_path, Ed25519PrivateKey.generate(), PrivateFormat.OpenSSH)

    shown = shell(f"ssh-keygen -l -f {file}").split()[1]

    assert load_fingerprints(file) == {shown.removeprefix("SHA256:")}


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
def test_a_key_of_ours_is_one_of_openssh_and_tells_its_public_half(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text(new_private_key())
    file.chmod(0o600)

    assert load_public_line(file) == shell(f"ssh-keygen -y -f {file}")
    assert [key.get_name() for key in load_keys(file)] == ["ssh-ed25519"]


def test_two_keys_of_ours_are_never_the_same() -> None:
    assert new_private_key() != new_private_key()
