"""bootstrap.sh, run for real: a folder plays the node, the embedded AWS its S3 and its EMR."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.node_folder import SCRIPT, NodeFolder, full_disk, pip_wheel
from tests.support.wheels import pure_wheel

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None or shutil.which("systemctl") is None,
    reason="systemd is not on this machine",
)


class Wheelhouse:
    """A lock and its wheels in the embedded S3."""

    def __init__(self, aws, folder: Path) -> None:
        folder.mkdir()
        self._aws, self.folder, self._wheels = aws, folder, [pip_wheel(folder)]
        self.key = f"wheels/{uuid.uuid4().hex}/"

    def add(self, name: str, source: str = "") -> Path:
        wheel = pure_wheel(self.folder, name, source=source)
        self._wheels.append(wheel)
        return wheel

    def send(self, *, imports: str = "fig") -> list[str]:
        """The arguments of bootstrap.sh."""
        lines = [f"# imports: {imports}"]
        for wheel in self._wheels:
            name, version = wheel.name.split("-")[:2]
            digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
            lines.append(f"{name}=={version} --hash=sha256:{digest}")
            self._aws.put(self.key + wheel.name, wheel.read_bytes())
        lock = "\n".join(lines) + "\n"
        uri = self._aws.put(f"{self.key}lock.txt", lock)
        self.digest = hashlib.sha256(lock.encode()).hexdigest()[:32]
        folder = uri.removesuffix("lock.txt")
        return ["--digest", self.digest, "--wheels", folder, "--region", "eu-west-3"]

    def lose(self, name: str) -> None:
        self._aws.s3.delete_object(Bucket=self._aws.bucket, Key=self.key + name)


@pytest.fixture
def node(aws, tmp_path: Path) -> NodeFolder:
    return NodeFolder(tmp_path / "node", aws.rehearsal.environ)


@pytest.fixture
def wheelhouse(aws, tmp_path: Path) -> Wheelhouse:
    return Wheelhouse(aws, tmp_path / "shelf")


needs_shellcheck = pytest.mark.skipif(
    shutil.which("shellcheck") is None, reason="shellcheck is not on this machine"
)


def complaints(script: Path | str) -> str:
    return subprocess.run(
        ["shellcheck", script], capture_output=True, text=True, check=False
    ).stdout


@needs_shellcheck
def test_the_script_is_clean() -> None:
    assert complaints(SCRIPT) == ""


def test_a_node_gets_the_python_of_the_lock_and_a_second_run_does_nothing(
    node: NodeFolder, wheelhouse: Wheelhouse
) -> None:
    wheelhouse.add("fig", "kind = 'fruit'\n")
    args = wheelhouse.send()

    first = node.boot(*args)

    venv = node.opt / wheelhouse.digest
    assert (first.returncode, first.stderr) == (0, ""), first.stdout
    said = node.run(str(venv / "bin/python"), "-c", "import fig, sys; print(fig.kind, sys.prefix)")
    assert said.stdout == f"fruit {venv}\n"
    assert node.run(str(venv / "bin/pip"), "--version").returncode == 0
    assert node.left_over() == []

    node.command("aws", "exit 1")
    again = node.boot(*args)

    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == f"{venv} is there already.\n"


def test_two_layers_make_one_python(aws, node: NodeFolder, tmp_path: Path) -> None:
    base, more = Wheelhouse(aws, tmp_path / "base"), Wheelhouse(aws, tmp_path / "more")
    base.add("fig")
    first = base.send()
    more._wheels.clear()
    more.add("pear")
    second = more.send(imports="pear")
    text = b"".join(
        aws.s3.get_object(Bucket=aws.bucket, Key=f"{one.key}lock.txt")["Body"].read()
        for one in (base, more)
    )
    digest = hashlib.sha256(text).hexdigest()[:32]

    made = node.boot("--digest", digest, *first[2:], *second[2:4])

    assert made.returncode == 0, made.stderr
    python = node.opt / digest / "bin" / "python"
    assert node.run(str(python), "-c", "import fig, pear").returncode == 0


Damage = Callable[[NodeFolder, Wheelhouse], None]


def broken(node: NodeFolder, wheelhouse: Wheelhouse) -> None:
    wheel = wheelhouse.folder / "fig-1.0-py3-none-any.whl"
    wheelhouse._aws.put(wheelhouse.key + wheel.name, wheel.read_bytes()[:-1])


def without_python(node: NodeFolder, wheelhouse: Wheelhouse) -> None:
    node.has_python(None)
    node.command("dnf", "echo 'Error: Unable to find a match: python3.11'; exit 1")


def refused(node: NodeFolder, wheelhouse: Wheelhouse) -> None:
    node.command("aws", "echo 'fatal error: (403) Forbidden' >&2; exit 1")


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (broken, "the wheel fig-1.0-py3-none-any.whl is broken: its sha256 is not in the lock."),
        (
            lambda node, house: house.lose("fig-1.0-py3-none-any.whl"),
            "the wheel of fig==1.0 is not in {folder}.",
        ),
        (lambda node, house: house.lose("lock.txt"), "{folder}/lock.txt is not in the bucket."),
        (
            without_python,
            "python3.11 is not on this node, and dnf did not install it: "
            "Error: Unable to find a match: python3.11",
        ),
        (refused, "{folder}/lock.txt could not be fetched: fatal error: (403) Forbidden"),
    ],
    ids=["broken wheel", "missing wheel", "missing lock", "no python3.11", "refusal"],
)
def test_what_goes_wrong_is_one_line_and_a_failed_node(
    node: NodeFolder, wheelhouse: Wheelhouse, damage: Damage, line: str
) -> None:
    wheelhouse.add("fig")
    args = wheelhouse.send()
    damage(node, wheelhouse)

    ended = node.boot(*args)

    told = line.format(folder=args[3].rstrip("/"))
    assert (ended.returncode, ended.stderr) == (1, f"bootstrap.sh: {told}\n")
    assert not (node.opt / wheelhouse.digest).exists()
    assert node.left_over() == []


def test_a_lock_that_is_not_the_one_that_was_planned_is_refused(
    node: NodeFolder, wheelhouse: Wheelhouse
) -> None:
    wheelhouse.add("fig")
    args = wheelhouse.send()

    ended = node.boot("--digest", "0" * 32, *args[2:])

    assert ended.returncode == 1
    assert ended.stderr.endswith(f"is not that of {'0' * 32}.\n")


def test_a_package_that_cannot_be_imported_fails_the_node(
    node: NodeFolder, wheelhouse: Wheelhouse
) -> None:
    wheelhouse.add("fig", "raise ImportError('libfruit.so.1: cannot open shared object file')\n")

    ended = node.boot(*wheelhouse.send())

    assert (ended.returncode, ended.stderr) == (
        1,
        "bootstrap.sh: the packages cannot be imported: "
        "ImportError: libfruit.so.1: cannot open shared object file\n",
    )
    assert list(node.opt.iterdir()) == []


def test_a_python_that_dnf_brings_is_used(node: NodeFolder, wheelhouse: Wheelhouse) -> None:
    wheelhouse.add("fig")
    place = node.root / "usr/bin/python3.11"
    place.rename(node.root / "kept")
    node.command("dnf", f"echo $@ >> {node.root}/dnf.log; cp {node.root}/kept {place}")

    ended = node.boot(*wheelhouse.send())

    assert ended.returncode == 0, ended.stderr
    assert (node.root / "dnf.log").read_text() == "install -y --quiet python3.11\n"


@pytest.mark.parametrize("place", ["opt", "mnt/tmp"])
def test_a_full_disk_is_named(node: NodeFolder, wheelhouse: Wheelhouse, place: str) -> None:
    disk = node.root / place
    disk.mkdir(exist_ok=True)
    under = full_disk(disk, "6m")
    if under is None:
        pytest.skip("this machine lets nobody mount a small disk")
    # 8 MiB that no file system packs.
    wheelhouse.add("fig", "# " + "".join(f"{n:x}" for n in range(1_500_000)))

    ended = node.boot(*wheelhouse.send(), under=under)

    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stderr.endswith(f": no space left on the disk of {disk}\n")


@pytest.mark.parametrize("args", [["--digest", "d"], ["--digest"], ["--prefix", "x"]])
def test_arguments_that_are_not_enough_are_refused(node: NodeFolder, args: list[str]) -> None:
    ended = node.boot(*args)

    assert ended.returncode == 1
    assert ended.stderr.startswith("bootstrap.sh: ")


@pytest.fixture
def timed(node: NodeFolder, wheelhouse: Wheelhouse) -> list[str]:
    """The arguments of a bootstrap that has a lifetime, on a node that has its Python already."""
    wheelhouse.add("fig")
    args = wheelhouse.send()
    python = node.opt / wheelhouse.digest
    python.mkdir(parents=True)
    (python / "lock.txt").touch()
    return [*args, "--max-lifetime-min", "240"]


@needs_systemd
def test_the_primary_node_has_a_timer_that_systemd_accepts(
    node: NodeFolder, wheelhouse: Wheelhouse
) -> None:
    node.is_primary("j-1ABC")
    wheelhouse.add("fig")

    booted = node.boot(*wheelhouse.send(), "--max-lifetime-min", "240")

    assert booted.returncode == 0, booted.stderr
    units = node.root / "etc/systemd/system"
    timer = (units / "fruits-lifetime.timer").read_text()
    assert "OnBootSec=240min\n" in timer
    assert (units / "timers.target.wants/fruits-lifetime.timer").is_symlink()
    span = subprocess.run(["systemd-analyze", "timespan", "240min"], capture_output=True, text=True)
    assert "Human: 4h" in span.stdout
    shutil.copytree("/usr/lib/systemd/system", node.root / "usr/lib/systemd/system", symlinks=True)
    checked = subprocess.run(
        ["systemd-analyze", f"--root={node.root}", "verify", "fruits-lifetime.timer"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


@needs_systemd
def test_the_timer_is_set_once(node: NodeFolder, timed: list[str]) -> None:
    node.is_primary("j-1ABC")
    node.boot(*timed)
    timer = node.root / "etc/systemd/system/fruits-lifetime.timer"
    before = timer.stat().st_mtime_ns

    again = node.boot(*timed[:-1], "10")

    assert again.returncode == 0, again.stderr
    assert timer.stat().st_mtime_ns == before


def test_other_nodes_have_no_timer(node: NodeFolder, timed: list[str]) -> None:
    node.is_primary("j-1ABC")
    (node.root / "mnt/var/lib/info/instance.json").write_text('{"isMaster": false}')

    assert node.boot(*timed).returncode == 0
    assert not (node.root / "etc").exists()


@pytest.fixture
def ender(node: NodeFolder, timed: list[str]) -> str:
    """The program that the timer starts, on a primary node without its cluster's id."""
    node.is_primary(None)
    node.command("systemctl", "exit 0")
    assert node.boot(*timed).returncode == 0
    return str(node.root / "usr/local/sbin/fruits-end-cluster")


@needs_shellcheck
def test_the_program_that_the_timer_starts_is_clean(ender: str) -> None:
    assert complaints(ender) == ""


def test_what_the_timer_does_can_be_told_without_doing_it(node: NodeFolder, ender: str) -> None:
    node.is_primary("j-1ABC")
    node.command("aws", "exit 1")

    told = node.run(ender, "--dry-run")

    ask = "aws emr terminate-clusters --region eu-west-3 --cluster-ids j-1ABC"
    assert (told.returncode, told.stdout) == (0, f"{ask} || shutdown -h now\n")
    assert not (node.root / "shutdown.log").exists()


def test_the_timer_ends_its_own_cluster(aws, node: NodeFolder, ender: str) -> None:
    cluster_id = aws.launch(keep_alive=True)
    aws.await_state(cluster_id, "WAITING")
    node.is_primary(cluster_id)

    ended = node.run(ender)

    assert ended.returncode == 0, ended.stderr
    aws.await_end(cluster_id)
    assert not (node.root / "shutdown.log").exists()


@pytest.mark.parametrize("cluster_id", ["j-1ABC", None], ids=["refused", "unknown"])
def test_where_emr_does_not_end_the_cluster_the_primary_node_goes_down(
    node: NodeFolder, ender: str, cluster_id: str | None
) -> None:
    node.is_primary(cluster_id)
    node.command("aws", "exit 254")

    node.run(ender)

    assert (node.root / "shutdown.log").read_text() == "-h now\n"
