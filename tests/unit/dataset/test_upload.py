import hashlib
import os
from pathlib import Path

import pytest
from PIL import Image

from fruits_cli.dataset.digests import DigestCache
from fruits_cli.dataset.listing import require_pictures
from fruits_cli.dataset.manifest import DATASET_FILE, parse_manifest
from fruits_cli.dataset.upload import Tally, dataset_name, send_dataset, send_raw
from fruits_cli.errors import CloudError, UsageError
from fruits_cli.s3uri import S3Uri
from fruits_cli.screen import Progress
from tests.support.fakes import FakeAws, FakeStorage
from tests.support.scenes import pictures
from tests.support.worlds import BUCKET

TARGET = S3Uri(BUCKET, "fruits/datasets/Test/")
ENDINGS = ("jpg", "png")


@pytest.fixture
def storage() -> FakeStorage:
    made = FakeAws().storage
    made.create_bucket(BUCKET)
    return made


def sent(storage: FakeStorage, folder: Path, *, raw: bool = False) -> tuple[Tally, list[Progress]]:
    storage.puts.clear()
    tally, totals = Tally(), require_pictures(folder, ENDINGS)
    if raw:
        states = send_raw(folder, totals, TARGET, storage, extensions=ENDINGS, tally=tally)
    else:
        digests = DigestCache(None)
        states = send_dataset(
            folder, totals, TARGET, storage, extensions=ENDINGS, digests=digests, tally=tally
        )
    return tally, list(states)


def test_a_folder_becomes_shards_and_the_manifest_comes_last(
    storage: FakeStorage, tmp_path: Path
) -> None:
    tally, states = sent(storage, pictures(tmp_path / "Test"))

    assert storage.puts[-1] == TARGET.key + DATASET_FILE
    found = storage.fetch_bytes(TARGET / DATASET_FILE)
    assert found is not None
    manifest = parse_manifest(found.content, origin="it")
    assert manifest.pictures == tally.pictures == 6
    for shard in manifest.shards:
        assert storage.stored_sha256(TARGET / shard.name) == bytes.fromhex(shard.sha256)
    assert (states[-1].done, states[-1].total) == (6, 6)


def test_an_unchanged_folder_sends_nothing(storage: FakeStorage, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "Test")
    sent(storage, folder)

    tally, states = sent(storage, folder)

    assert storage.puts == []
    assert (tally.files_sent, tally.kept_pictures) == (0, 6)
    assert states[-1].done == 6


@pytest.mark.parametrize("change", ["added", "removed", "changed"])
def test_one_picture_more_less_or_other_sends_few_shards(
    storage: FakeStorage, tmp_path: Path, change: str
) -> None:
    folder = pictures(tmp_path / "Test", 40)
    sent(storage, folder)
    file = folder / "fig" / ("new.png" if change == "added" else "7.png")
    if change == "removed":
        file.unlink()
    else:
        Image.new("RGB", (8, 8), (1, 2, 3)).save(file)

    tally, _ = sent(storage, folder)

    assert 1 <= tally.files_sent <= 2
    assert storage.puts[-1].endswith(DATASET_FILE)


class _Breaking(FakeStorage):
    """A network that fails at the manifest."""

    def put_bytes(self, content: bytes, uri: S3Uri, *, sha256: bytes | None = None) -> None:
        if uri.key.endswith(DATASET_FILE):
            raise CloudError("no network")
        super().put_bytes(content, uri, sha256=sha256)


def test_an_interrupted_upload_sends_no_shard_twice(tmp_path: Path) -> None:
    aws = FakeAws()
    broken = _Breaking(aws.clock)
    broken.create_bucket(BUCKET)
    folder = pictures(tmp_path / "Test")
    with pytest.raises(CloudError):
        sent(broken, folder)
    aws.storage.objects, aws.storage.buckets = broken.objects, broken.buckets

    tally, _ = sent(aws.storage, folder)

    assert tally.files_sent == 0
    assert aws.storage.puts == [TARGET.key + DATASET_FILE]


def test_a_shard_whose_object_is_broken_is_sent_again(storage: FakeStorage, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "Test")
    sent(storage, folder)
    (shard,) = (one for one in storage.list_objects(TARGET) if one.uri.key.endswith("parquet"))
    storage.put_bytes(b"half", shard.uri)

    tally, _ = sent(storage, folder)

    assert tally.files_sent == 1


def test_raw_keeps_the_layout_and_sends_what_changed(storage: FakeStorage, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "Test")
    os.utime(folder / "fig" / "1.png", (0, 0))
    for file in folder.rglob("*.png"):
        os.utime(file, (0, 0))

    first, _ = sent(storage, folder, raw=True)
    again, _ = sent(storage, folder, raw=True)
    Image.new("RGB", (9, 9)).save(folder / "fig" / "1.png")
    third, _ = sent(storage, folder, raw=True)

    assert first.files_sent == 6
    assert again.files_sent == 0
    assert third.files_sent == 1
    found = storage.fetch_bytes(TARGET / "fig/1.png")
    assert found is not None
    digest = hashlib.sha256(found.content).digest()
    assert digest == hashlib.sha256((folder / "fig" / "1.png").read_bytes()).digest()


def test_the_first_failure_of_many_sendings_is_raised(tmp_path: Path) -> None:
    storage = FakeAws().storage

    with pytest.raises(CloudError, match="There is no bucket"):
        sent(storage, pictures(tmp_path / "Test", 30), raw=True)


@pytest.mark.parametrize(
    ("folder", "configured", "name"),
    [
        ("Test", None, "Test"),
        ("my fruits (2)", None, "my-fruits-2"),
        ("été", None, "t"),
        ("Test", "pears", "pears"),
    ],
)
def test_a_dataset_is_named_by_its_folder_unless_configured(
    tmp_path: Path, folder: str, configured: str | None, name: str
) -> None:
    assert dataset_name(tmp_path / folder, configured) == name


def test_a_configured_name_that_is_no_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot name a dataset"):
        dataset_name(tmp_path, "../x")
