from __future__ import annotations

from pathlib import Path

import pyarrow.fs as pafs
import pytest

from spark_job import chunks, files, schema
from spark_job.chunks import Plan
from spark_job.errors import JobError
from spark_job.files import Place
from spark_job.pictures import Picture, pictures_of
from tests.support.datasets import EXTENSIONS, row, write_manifest, write_shard
from tests.support.pictures import jpeg

pytestmark = [
    pytest.mark.usefixtures("s3_here"),
    pytest.mark.filterwarnings("ignore"),
]

Bucket = tuple[pafs.S3FileSystem, str]


def put(bucket: Bucket, key: str, content: bytes) -> None:
    with bucket[0].open_output_stream(f"{bucket[1]}/{key}") as stream:
        stream.write(content)


def put_by_api(bucket: Bucket, key: str) -> None:
    """pyarrow would tidy the key."""
    import boto3

    boto3.client("s3").put_object(Bucket=bucket[1], Key=key, Body=jpeg())


def images(bucket: Bucket, prefix: str = "images") -> Place:
    return files.place(f"s3://{bucket[1]}/{prefix}")


def pictures(place: Place, *, check: bool = False) -> list[Picture]:
    listed = list(place.walk(EXTENSIONS))
    return read(place, listed, check=check)


def read(place: Place, rows: list[files.Found], *, check: bool) -> list[Picture]:
    plan = Plan(place.uri, "folder", place.name, 0, 1, 512, "", "", "", "", "", 96, [])
    return list(pictures_of(plan, place, rows, check=check))


def test_only_pictures_below_the_prefix_are_listed(bucket: Bucket) -> None:
    taken = ["a.jpg", "b/c/d.PNG", "b/e.tiff"]
    for key in (*taken, "notes.txt", "._x.jpg", "b/.h.jpg", "a.jpg.txt"):
        put(bucket, f"images/{key}", b"x")
    for key in ("other/a.jpg", "images2/a.jpg", "a.jpg"):
        put(bucket, key, b"x")
    bucket[0].create_dir(f"{bucket[1]}/images/empty.jpg")

    listed = {found.path: found.size for found in images(bucket).walk(EXTENSIONS)}

    assert listed == dict.fromkeys(taken, 1)


@pytest.mark.parametrize(
    "key", ["tab\t.jpg", "esc\x1b[.jpg", "a\\b.jpg", " sp .jpg", "%2F.jpg", "é.jpg"]
)
def test_a_hostile_key_is_listed_and_read(bucket: Bucket, key: str) -> None:
    put(bucket, f"images/d {key}/{key}", b"here")

    (picture,) = pictures(images(bucket))

    assert (picture.path, picture.label) == (f"d {key}/{key}", f"d {key}")
    assert picture.content == b"here"


def test_a_key_and_a_folder_of_the_same_name_live_together(bucket: Bucket) -> None:
    put_by_api(bucket, "images/a.jpg")
    put_by_api(bucket, "images/a.jpg/b.jpg")

    assert {picture.path for picture in pictures(images(bucket))} == {"a.jpg", "a.jpg/b.jpg"}


@pytest.mark.parametrize("key", ["images//c.jpg", "images/b//c.jpg"])
def test_keys_with_an_empty_folder_name_are_exit_2_and_not_endless(
    bucket: Bucket, tmp_path: Path, key: str
) -> None:
    put_by_api(bucket, "images/a.jpg")
    put_by_api(bucket, key)

    with pytest.raises(JobError, match="have a folder without a name") as error:
        chunks.list_inputs(
            images(bucket), files.place(str(tmp_path)), extensions=EXTENSIONS, slots=2
        )

    assert error.value.exit_code == 2


@pytest.mark.parametrize("missing", ["nothing", "/no-such-bucket-at-all"])
def test_images_that_are_not_on_s3_are_exit_2(bucket: Bucket, tmp_path: Path, missing: str) -> None:
    uri = f"s3:/{missing}" if missing.startswith("/") else f"s3://{bucket[1]}/{missing}"

    with pytest.raises(JobError) as error:
        chunks.list_inputs(
            files.place(uri), files.place(str(tmp_path)), extensions=EXTENSIONS, slots=2
        )

    assert error.value.exit_code == 2
    assert error.value.message == f"The images {uri} cannot be read: this does not exist."


def test_pictures_changed_or_removed_since_the_listing_are_rejected(bucket: Bucket) -> None:
    for name in ("changed.jpg", "gone.jpg", "kept.jpg"):
        put(bucket, f"images/{name}", b"old")
    place = images(bucket)
    rows = sorted(place.walk(EXTENSIONS), key=lambda found: found.path)
    put(bucket, "images/changed.jpg", b"newer")
    bucket[0].delete_file(f"{bucket[1]}/images/gone.jpg")

    for check in (False, True):
        seen = {picture.path: picture.refusal for picture in read(place, rows, check=check)}

        assert seen.pop("kept.jpg") is None
        assert {path: why.error for path, why in seen.items() if why} == {
            "changed.jpg": schema.CHANGED,
            "gone.jpg": schema.CHANGED,
        }


def test_a_dataset_on_s3_gives_its_pictures_in_order(bucket: Bucket, tmp_path: Path) -> None:
    rows = [row(f"a/{n}.jpg", "a", b"%d" % n) for n in range(300)]
    write_manifest(tmp_path / "data", [write_shard(tmp_path / "data", rows)])
    pafs.copy_files(
        str(tmp_path / "data"),
        f"{bucket[1]}/images",
        source_filesystem=pafs.LocalFileSystem(),
        destination_filesystem=bucket[0],
    )
    output = files.place(f"s3://{bucket[1]}/runs/r1")

    listing = chunks.list_inputs(images(bucket), output, extensions=EXTENSIONS, slots=2)

    assert (listing.kind, listing.pictures) == ("dataset", 300)
    inputs = chunks.Inputs(output, listing.rows_per_chunk)
    rows_of = [row for chunk in range(listing.chunks) for row in inputs.of(chunk)]
    plan = Plan("", "dataset", "data", 300, 1, 1, "", "", "", "", "", 96, [])
    contents = [p.content for p in pictures_of(plan, images(bucket), rows_of, check=False)]
    assert contents == [b"%d" % n for n in range(300)]


def test_writing_listing_and_removing_a_folder(bucket: Bucket) -> None:
    place = images(bucket, "runs/r1")
    place.write("pca/0.parquet", b"one")
    place.write("pca/1.parquet", b"three")
    place.write("manifest.json", b"{}")

    assert place.list("pca") == {"0.parquet": 3, "1.parquet": 5}
    place.remove("pca")
    place.remove("manifest.json")
    place.remove("nothing")

    assert place.list("pca") == {}
    assert not place.exists("manifest.json")


def test_an_upload_that_fails_halfway_leaves_no_object(bucket: Bucket) -> None:
    place = images(bucket, "runs/r1")

    def half() -> None:
        with place.writing("a.txt") as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()

    assert not place.exists("a.txt")


def test_a_file_is_put_and_read_by_one_request_each(
    bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    content = bytes(3 * 2**20)
    with caplog.at_level("INFO", logger="werkzeug"):
        images(bucket).write("some/file", content)
        assert images(bucket).read("some/file") == content

    told = [record.getMessage() for record in caplog.records if record.name == "werkzeug"]
    verbs = [verb for line in told for verb in ("PUT", "POST", "GET") if f"{verb} /" in line]
    # Beside the size, which pyarrow asks for first.
    assert verbs == ["PUT", "GET"]


def test_a_file_that_is_not_there_is_told_as_such(bucket: Bucket) -> None:
    with pytest.raises(FileNotFoundError):
        images(bucket).read("some/file")
