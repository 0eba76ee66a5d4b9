from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from fruits_cli.config import JobConfig
from fruits_cli.dataset.digests import DigestCache
from fruits_cli.dataset.listing import Listed, list_pictures
from fruits_cli.dataset.manifest import DatasetManifest, parse_manifest
from fruits_cli.dataset.shards import PackedShard, pack, shard_name
from fruits_cli.errors import MachineError, UsageError
from tests.support.descriptors import no_more_files
from tests.support.packing import pack_on_disk
from tests.support.paths import ROOT

EXTENSIONS = JobConfig().extensions
MIB = 2**20
HOSTILE = [
    b"with space.jpg",
    "pêche à l'été.jpg".encode(),
    b"quotes'\".jpg",
    b"#%*[]\\:.jpg",
    b"new\nline.jpg",
    b"esc\x1b[31m.jpg",
    b"[bold]x[.jpg",
    b"n" * 246 + b".jpg",
    b"not utf-8 \xff\xc3.jpg",
    b"upper.JPG",
    "桃.Png".encode(),
]


def draw(folder: Path, names: Sequence[str | bytes]) -> None:
    for name in names:
        file = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "wb") as stream:
            stream.write(b"bytes of " + os.fsencode(name))


def names(count: int) -> list[str]:
    return [f"Kiwi {number % 20}/{number}_100.jpg" for number in range(count)]


def later_ns() -> int:
    return time.time_ns() + 10**9


def paths(folder: Path) -> list[str]:
    return [picture.path for picture in list_pictures(folder, EXTENSIONS)]


def packed(folder: Path, target: Path, **options: Any) -> tuple[DatasetManifest, list[PackedShard]]:
    return pack_on_disk(folder, target, extensions=EXTENSIONS, **options)


def built(shards: Sequence[PackedShard]) -> int:
    return sum(shard.file is not None for shard in shards)


def rows(target: Path) -> list[dict[str, Any]]:
    manifest = parse_manifest((target / "dataset.json").read_text(), origin="dataset.json")
    return [
        row for shard in manifest.shards for row in pq.read_table(target / shard.name).to_pylist()
    ]


def assert_no_name_lies(target: Path) -> None:
    for file in target.glob("*.parquet"):
        content = pq.read_table(file).to_pylist()
        assert file.name == shard_name(
            (row["path"], row["label"], row["sha256"], row["length"]) for row in content
        )
        for row in content:
            if row["content"] is not None:
                assert row["length"] == len(row["content"])
                assert row["sha256"] == hashlib.sha256(row["content"]).hexdigest()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    draw(folder, names(2600))
    return folder


def test_a_dataset_holds_every_picture_with_its_label_and_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    draw(folder, ["Kiwi/1.jpg", "top.png", "deep/er/Plum/2.TIFF"])

    manifest, _ = packed(folder, tmp_path / "set")

    assert [(row["path"], row["label"]) for row in rows(tmp_path / "set")] == [
        ("Kiwi/1.jpg", "Kiwi"),
        ("deep/er/Plum/2.TIFF", "Plum"),
        ("top.png", "pictures"),
    ]
    assert rows(tmp_path / "set")[0]["content"] == b"bytes of Kiwi/1.jpg"
    assert manifest.pictures == 3
    assert_no_name_lies(tmp_path / "set")


def test_a_shard_has_five_columns_and_content_as_it_is(pictures: Path, tmp_path: Path) -> None:
    manifest, _ = packed(pictures, tmp_path / "set")

    largest = max(manifest.shards, key=lambda shard: shard.pictures)
    seen = pq.ParquetFile(tmp_path / "set" / largest.name)
    types = {field.name: str(field.type) for field in seen.schema_arrow}
    assert types == {
        "path": "string",
        "label": "string",
        "sha256": "string",
        "length": "int64",
        "content": "binary",
    }
    content = seen.metadata.row_group(0).column(4)
    assert content.compression == "UNCOMPRESSED"
    assert content.statistics is None
    assert "PLAIN_DICTIONARY" not in content.encodings
    assert "RLE_DICTIONARY" not in content.encodings
    groups = [seen.metadata.row_group(n).num_rows for n in range(seen.num_row_groups)]
    assert set(groups[:-1]) == {256}
    assert groups[-1] <= 256


def test_pandas_reads_a_shard_as_pyarrow_does(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    draw(folder, ["a/1.jpg", "a/2.jpg"])
    manifest, _ = packed(folder, tmp_path / "set")

    file = tmp_path / "set" / manifest.shards[0].name

    assert pd.read_parquet(file).to_dict("records") == pq.read_table(file).to_pylist()


def test_the_manifest_tells_size_and_digest_of_each_file(pictures: Path, tmp_path: Path) -> None:
    manifest, _ = packed(pictures, tmp_path / "set")

    stored = json.loads((tmp_path / "set" / "dataset.json").read_text())
    assert (stored["format"], stored["version"]) == ("fruits-dataset", 1)
    assert stored["pictures"] == manifest.pictures == 2600
    for shard in stored["shards"]:
        content = (tmp_path / "set" / shard["name"]).read_bytes()
        assert len(content) == shard["bytes"]
        assert hashlib.sha256(content).hexdigest() == shard["sha256"]


def test_two_walks_give_the_same_dataset(pictures: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "pictures"
    draw(copy, list(reversed(names(2600))))

    packed(pictures, tmp_path / "one")
    packed(copy, tmp_path / "two")

    one, two = ((tmp_path / name / "dataset.json").read_text() for name in ("one", "two"))
    assert one == two


def test_an_unchanged_folder_builds_nothing(pictures: Path, tmp_path: Path) -> None:
    first, _ = packed(pictures, tmp_path / "set")

    second, shards = packed(pictures, tmp_path / "set")

    assert built(shards) == 0
    assert first == second


def test_one_picture_added_builds_at_most_two_shards(pictures: Path, tmp_path: Path) -> None:
    packed(pictures, tmp_path / "set")

    draw(pictures, ["Kiwi 7/5_101.jpg"])
    _, shards = packed(pictures, tmp_path / "set")

    assert 1 <= built(shards) <= 2
    assert_no_name_lies(tmp_path / "set")


def test_one_picture_removed_builds_at_most_two_shards(pictures: Path, tmp_path: Path) -> None:
    packed(pictures, tmp_path / "set")

    (pictures / "Kiwi 7" / "47_100.jpg").unlink()
    _, shards = packed(pictures, tmp_path / "set")

    assert 1 <= built(shards) <= 2


def test_one_picture_changed_builds_one_shard(pictures: Path, tmp_path: Path) -> None:
    packed(pictures, tmp_path / "set", digests=DigestCache(tmp_path / "d", clock_ns=later_ns))

    (pictures / "Kiwi 7" / "47_100.jpg").write_bytes(b"other")
    digests = DigestCache(tmp_path / "d", clock_ns=later_ns)
    _, shards = packed(pictures, tmp_path / "set", digests=digests)

    assert built(shards) == 1
    assert b"other" in [row["content"] for row in rows(tmp_path / "set")]


def test_the_same_size_and_time_do_not_hide_a_change(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    draw(folder, ["a/1.jpg"])
    digests = DigestCache(tmp_path / "d", clock_ns=later_ns)
    packed(folder, tmp_path / "set", digests=digests)
    file = folder / "a" / "1.jpg"
    before = file.stat()

    file.write_bytes(file.read_bytes()[::-1])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    _, shards = packed(folder, tmp_path / "set", digests=DigestCache(tmp_path / "d"))

    assert built(shards) == 1


def test_a_shard_that_was_lost_is_built_again(pictures: Path, tmp_path: Path) -> None:
    manifest, _ = packed(pictures, tmp_path / "set")
    (tmp_path / "set" / manifest.shards[0].name).unlink()

    again, shards = packed(pictures, tmp_path / "set")

    assert built(shards) == 1
    assert again == manifest


@pytest.mark.slow
def test_22688_small_pictures_give_at_least_ten_shards(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    draw(folder, names(22_688))

    manifest, _ = packed(folder, tmp_path / "set")

    assert len(manifest.shards) >= 10
    assert manifest.pictures == 22_688
    assert max(shard.pictures for shard in manifest.shards) <= 2048


def test_a_shard_ends_after_a_picture_that_says_so_or_at_2048(
    pictures: Path, tmp_path: Path
) -> None:
    manifest, _ = packed(pictures, tmp_path / "set")

    assert [shard.pictures for shard in manifest.shards] == [460, 2048, 92]
    for shard in manifest.shards[:-1]:
        *within, last = pq.read_table(tmp_path / "set" / shard.name)["path"].to_pylist()
        ends = [int(hashlib.sha256(path.encode()).hexdigest(), 16) % 1024 == 0 for path in within]
        assert not any(ends)
        is_end = int(hashlib.sha256(last.encode()).hexdigest(), 16) % 1024 == 0
        assert is_end or shard.pictures == 2048


def test_a_shard_holds_at_most_64_mib(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, size in enumerate([16, 16, 16, 16, 16, 17, 16]):
        os.truncate(os.open(folder / f"{number}.jpg", os.O_CREAT | os.O_WRONLY), size * MIB)

    manifest, shards = packed(folder, tmp_path / "set")

    # A picture of more than 16 MiB has a shard for itself.
    assert [shard.pictures for shard in manifest.shards] == [4, 1, 1, 1]
    assert max(shard.content_bytes for shard in shards) <= 64 * MIB


def test_a_picture_beyond_128_mib_is_a_row_without_content(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    draw(folder, ["a.jpg"])
    os.truncate(folder / "a.jpg", 128 * MIB + 1)

    _, shards = packed(folder, tmp_path / "set")

    (row,) = rows(tmp_path / "set")
    assert (row["length"], row["sha256"], row["content"]) == (128 * MIB + 1, "too_large", None)
    assert [unread.reason for unread in shards[0].unreadable] == ["It is larger than 128 MiB."]


def test_hostile_names_arrive_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    draw(folder, [*HOSTILE, *(b"[/bold]/" + name for name in HOSTILE)])

    packed(folder, tmp_path / "set")

    expected = [name.decode("utf-8", "backslashreplace") for name in HOSTILE]
    expected += [f"[/bold]/{name}" for name in expected]
    assert [row["path"] for row in rows(tmp_path / "set")] == sorted(expected)
    assert r"not utf-8 \xff\xc3.jpg" in expected
    assert_no_name_lies(tmp_path / "set")


def test_pictures_with_equal_written_names_are_kept_without_content(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    draw(folder, [b"\xff.jpg", rb"\xff.jpg", b"other.jpg"])

    _, shards = packed(folder, tmp_path / "set")

    there = rows(tmp_path / "set")
    seen = [(row["path"], row["content"]) for row in there]
    assert [row["sha256"] for row in there[:2]] == ["name", "name"]
    assert seen == [
        (r"\xff.jpg", None),
        (r"\xff.jpg", None),
        ("other.jpg", b"bytes of other.jpg"),
    ]
    assert {unread.path for shard in shards for unread in shard.unreadable} == {r"\xff.jpg"}


def test_a_link_that_leads_nowhere_is_a_row_without_content(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    draw(folder, ["a.jpg"])
    (folder / "broken.jpg").symlink_to("nowhere.jpg")
    (folder / "circle.jpg").symlink_to("circle.jpg")

    _, shards = packed(folder, tmp_path / "set")

    assert {unread.path: unread.reason for unread in shards[0].unreadable} == {
        "broken.jpg": "No such file or directory.",
        "circle.jpg": "Too many levels of symbolic links.",
    }
    lengths = {row["path"]: row["length"] for row in rows(tmp_path / "set")}
    assert lengths == {"a.jpg": 14, "broken.jpg": 0, "circle.jpg": 0}


def test_a_folder_without_a_matching_picture_is_refused(tmp_path: Path) -> None:
    draw(tmp_path / "pictures", ["a/readme.txt", ".jpg", "jpg"])

    with pytest.raises(UsageError, match="There are no pictures in") as refused:
        packed(tmp_path / "pictures", tmp_path / "set")

    assert "jpg, jpeg, png" in refused.value.hint
    assert not (tmp_path / "set").exists()


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()

    with pytest.raises(UsageError, match="There are no pictures in"):
        packed(tmp_path / "pictures", tmp_path / "set")


def test_a_file_that_vanishes_after_it_was_listed_is_a_row_without_content(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "pictures"
    draw(folder, [f"{number:05}.jpg" for number in range(2100)])

    shards = pack(folder, into=tmp_path / "set", extensions=EXTENSIONS, known={})
    first = next(shards)
    (folder / "02099.jpg").unlink()
    rest = list(shards)

    unread = [u for shard in rest for u in shard.unreadable]
    assert [(u.path, u.reason) for u in unread] == [("02099.jpg", "No such file or directory.")]
    assert sum(shard.shard.pictures for shard in [first, *rest]) == 2100


class _Meddler(DigestCache):
    """Changes a file after it was listed and looked up, before it is read."""

    def __init__(self, cache: Path | None, file: Path, content: bytes) -> None:
        super().__init__(cache, clock_ns=later_ns)
        self._file, self._content = file, content

    def load(self, pictures: Sequence[Listed]) -> dict[str, str]:
        known = super().load(pictures)
        self._file.write_bytes(self._content)
        return known


@pytest.mark.parametrize("content", [b"", b"short", b"grown" * 1000], ids=len)
def test_a_file_that_changes_while_packing_gives_the_name_of_what_is_packed(
    tmp_path: Path, content: bytes
) -> None:
    folder, target = tmp_path / "pictures", tmp_path / "set"
    draw(folder, ["a/1.jpg", "a/2.jpg"])
    changing = folder / "a" / "2.jpg"
    packed(folder, tmp_path / "before", digests=DigestCache(tmp_path / "d", clock_ns=later_ns))

    packed(folder, target, digests=_Meddler(tmp_path / "d", changing, content))

    assert rows(target)[1]["content"] == content
    assert_no_name_lies(target)


def test_a_pipe_in_the_place_of_a_picture_does_not_block(tmp_path: Path) -> None:
    class Plumber(DigestCache):
        def load(self, pictures: Sequence[Listed]) -> dict[str, str]:
            (folder / "1.jpg").unlink()
            os.mkfifo(folder / "1.jpg")
            return super().load(pictures)

    folder = tmp_path / "pictures"
    draw(folder, ["1.jpg"])

    _, shards = packed(folder, tmp_path / "set", digests=Plumber(None))

    assert [u.reason for u in shards[0].unreadable] == ["It is not a regular file."]


def test_shards_come_one_by_one_and_may_be_taken_away(pictures: Path, tmp_path: Path) -> None:
    seen = []
    for shard in pack(pictures, into=tmp_path / "set", extensions=EXTENSIONS, known={}):
        assert shard.file is not None
        assert list((tmp_path / "set").iterdir()) == [shard.file]
        shard.file.unlink()
        seen.append(shard.shard)

    again = pack(
        pictures,
        into=tmp_path / "set",
        extensions=EXTENSIONS,
        known={shard.name: shard for shard in seen},
    )

    assert [shard.file for shard in again] == [None] * len(seen)


def test_a_packing_that_was_stopped_keeps_what_it_read(pictures: Path, tmp_path: Path) -> None:
    cache = DigestCache(tmp_path / "d", clock_ns=later_ns)
    shards = pack(pictures, into=tmp_path / "set", extensions=EXTENSIONS, known={}, digests=cache)
    first = next(shards)
    shards.close()  # type: ignore[attr-defined]

    listed = list(list_pictures(pictures, EXTENSIONS))[: first.shard.pictures]
    known = DigestCache(tmp_path / "d").load(listed)

    assert len(known) == first.shard.pictures


def test_digests_of_pictures_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    draw(folder, ["a/1.jpg", "b/1.jpg", "c/1.jpg"])
    packed(folder, tmp_path / "set", digests=DigestCache(tmp_path / "d", clock_ns=later_ns))
    listed = list(list_pictures(folder, EXTENSIONS))

    (folder / "a" / "1.jpg").unlink()
    (folder / "c" / "1.jpg").unlink()
    packed(folder, tmp_path / "set", digests=DigestCache(tmp_path / "d", clock_ns=later_ns))

    assert list(DigestCache(tmp_path / "d").load(listed)) == ["b/1.jpg"]


def test_a_picture_touched_just_now_is_read_again_next_time(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    draw(folder, ["a/1.jpg"])
    listed = list(list_pictures(folder, EXTENSIONS))
    touched_ns = (folder / "a" / "1.jpg").stat().st_ctime_ns

    digests = DigestCache(tmp_path / "d", clock_ns=lambda: touched_ns)
    packed(folder, tmp_path / "set", digests=digests)

    assert DigestCache(tmp_path / "d").load(listed) == {}


@pytest.mark.parametrize("content", [b"this is no database" * 100, b""], ids=["foreign", "empty"])
def test_a_damaged_digest_file_is_made_anew(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "pictures"
    draw(folder, ["a/1.jpg"])
    (tmp_path / "d").write_bytes(content)

    packed(folder, tmp_path / "set", digests=DigestCache(tmp_path / "d", clock_ns=later_ns))

    assert len(DigestCache(tmp_path / "d").load(list(list_pictures(folder, EXTENSIONS)))) == 1


def test_packing_continues_where_digests_cannot_be_kept(tmp_path: Path) -> None:
    draw(tmp_path / "pictures", ["a/1.jpg"])
    (tmp_path / "file").touch()

    manifest, _ = packed(
        tmp_path / "pictures", tmp_path / "set", digests=DigestCache(tmp_path / "file" / "d")
    )

    assert manifest.pictures == 1


# What needs another user, or a look at the files that a process opens, happens in a child.
_CHILD = """
import json, os, sys, time
from pathlib import Path
import pyarrow.parquet, pydantic, sqlite3, json.decoder
from tests.support.descriptors import no_more_files
from tests.support.packing import pack_on_disk
from fruits_cli.dataset.digests import DigestCache
from fruits_cli.errors import FruitsError

folder, target, cache = map(Path, sys.argv[1:4])
if os.getuid() == 0 and sys.argv[4] == "nobody":
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
opened = []
sys.addaudithook(lambda event, given: opened.append(str(given[0])) if event == "open" else None)
shards = []
try:
    _, shards = pack_on_disk(folder, target, extensions=("jpg",),
                  digests=DigestCache(cache, clock_ns=lambda: time.time_ns() + 10**9))
    message = ""
except FruitsError as error:
    message = str(error)
print(json.dumps({
    "read": [name for name in opened if name.startswith(str(folder)) and name.endswith(".jpg")],
    "built": sum(shard.file is not None for shard in shards),
    "unreadable": [[u.path, u.reason] for shard in shards for u in shard.unreadable],
    "error": message,
}))
"""


def packed_in_child(folder: Path, *, user: str) -> dict[str, Any]:
    places = (folder / "pictures", folder / "set", folder / "digests")
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *map(str, places), user],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return dict(json.loads(done.stdout))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    # pytest's own temporary folders are closed to other users.
    with tempfile.TemporaryDirectory(prefix="fruits-test-") as name:
        os.chmod(name, 0o777)
        draw(Path(name) / "pictures", ["a/1.jpg", "a/2.jpg", "b/3.jpg"])
        yield Path(name)


def test_an_unchanged_folder_is_listed_and_not_read_again(open_folder: Path) -> None:
    first = packed_in_child(open_folder, user="self")
    second = packed_in_child(open_folder, user="self")
    (open_folder / "pictures" / "a" / "2.jpg").write_bytes(b"changed")
    third = packed_in_child(open_folder, user="self")

    assert (len(first["read"]), first["built"]) == (3, 1)
    assert (len(second["read"]), second["built"]) == (0, 0)
    assert (len(third["read"]), third["built"]) == (3, 1)


def test_a_file_without_permission_is_a_row_without_content(open_folder: Path) -> None:
    (open_folder / "pictures" / "a" / "2.jpg").chmod(0)

    seen = packed_in_child(open_folder, user="nobody")

    assert seen["unreadable"] == [["a/2.jpg", "Permission denied."]]
    (row,) = (row for row in rows(open_folder / "set") if row["content"] is None)
    assert (row["path"], row["length"], row["sha256"]) == ("a/2.jpg", 16, "")


def test_one_unreadable_file_does_not_have_the_others_read_again(open_folder: Path) -> None:
    (open_folder / "pictures" / "a" / "2.jpg").chmod(0)
    packed_in_child(open_folder, user="nobody")

    again = packed_in_child(open_folder, user="nobody")

    assert [Path(name).name for name in again["read"]] == ["2.jpg"]
    assert again["built"] == 0


def test_a_folder_that_cannot_be_listed_is_named(open_folder: Path) -> None:
    (open_folder / "pictures" / "b").chmod(0)

    seen = packed_in_child(open_folder, user="nobody")

    (open_folder / "pictures" / "b").chmod(0o755)
    assert seen["error"].endswith("pictures/b cannot be listed: Permission denied.")


def test_a_target_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    draw(tmp_path / "pictures", ["a/1.jpg"])
    (tmp_path / "file").touch()

    with pytest.raises((MachineError, UsageError), match="file"):
        packed(tmp_path / "pictures", tmp_path / "file" / "set")


def test_a_machine_without_a_free_descriptor_packs_no_picture_as_unreadable(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("1.jpg", "2.jpg"):
        with (tmp_path / "data" / name).open("wb") as file:
            # Each has a shard for itself.
            file.truncate(17 * MIB)
    shards = pack(tmp_path / "data", into=tmp_path, extensions=EXTENSIONS, known={})
    next(shards)

    with no_more_files(), pytest.raises(MachineError, match=r"2\.jpg could not be read: Too many"):
        next(shards)
