from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from spark_job import files
from spark_job.files import Found, Place

ENDINGS = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff")
HOSTILE = [
    b"with space.jpg",
    b" leading and trailing .jpg",
    "pêche à l'été.jpg".encode(),
    "pe\u0302che.jpg".encode(),
    "桃 🍑.png".encode(),
    b"quotes'\".jpg",
    b"#%*[]\\:?&=+.jpg",
    b"%41%2F.jpg",
    b"new\nline.jpg",
    b"tab\tcr\r.jpg",
    b"esc\x1b[31m.jpg",
    b"[/bold]".replace(b"/", b"\\") + b"[red].jpg",
    b"n" * 246 + b".jpg",
    b"\xff\xfe not utf-8 \xc3.jpg",
    b"\\xff.jpg",
    b"\\x41 \\xZZ \\x.jpg",
    b"\\xc3\\xa9\xc3\xa9\xc3.jpg",
    b"~.jpg",
    b"-rf.jpg",
    b"file:.jpg",
    b"s3:.jpg",
]


def write(folder: Path, name: bytes, content: bytes = b"x") -> None:
    file = os.path.join(os.fsencode(folder), name)
    os.makedirs(os.path.dirname(file), exist_ok=True)
    with open(file, "wb") as stream:
        stream.write(content)


def found(folder: Path) -> dict[str, Found]:
    listed = list(files.place(str(folder)).walk(ENDINGS))
    paths = {file.path: file for file in listed}
    assert len(paths) == len(listed)
    return paths


def test_only_listed_endings_of_any_case_are_pictures(tmp_path: Path) -> None:
    taken = ["a.jpg", "b.JPG", "c.JpEg", "d.png", "e.webp", "f.bmp", "g.gif", "h.tif", "i.TIFF"]
    left = ["a.jpg.txt", "jpg", "b", "c.jpgx", "d.heic", "._a.jpg", ".jpg", ".hidden.png", "a.jpg~"]
    for name in taken + left:
        write(tmp_path, name.encode())

    assert sorted(found(tmp_path)) == sorted(taken)


def test_pictures_in_folders_of_any_depth_and_directly_in_the_given_one(tmp_path: Path) -> None:
    names = ["top.jpg", "a/1.jpg", "a/b/c/d/e/f/2.jpg", ".dotted/3.jpg", "x.jpg/4.jpg"]
    for name in names:
        write(tmp_path, name.encode())
    (tmp_path / "empty" / "er.jpg").mkdir(parents=True)

    assert sorted(found(tmp_path)) == sorted(names)


def test_size_and_time_are_those_of_the_file(tmp_path: Path) -> None:
    write(tmp_path, b"a.jpg", b"12345")
    os.utime(tmp_path / "a.jpg", ns=(1, 1_600_000_000_123_456_789))

    assert found(tmp_path)["a.jpg"] == Found("a.jpg", 5, 1_600_000_000_123_456_789)


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_a_hostile_name_leads_back_to_its_file(tmp_path: Path, name: bytes) -> None:
    for below in (b"", b"in/", b"d" + name + b"/"):
        write(tmp_path, below + name, below + b"content")

    listed = found(tmp_path)

    contents = set()
    for path in listed:
        on_disk = files.on_disk(str(tmp_path), path)
        contents.add(files.read_local(on_disk, limit=999)[0])
        assert path.encode().decode() == path
    assert contents == {b"content", b"in/content", b"d" + name + b"/content"}


def test_all_hostile_names_live_together(tmp_path: Path) -> None:
    for name in HOSTILE:
        write(tmp_path, name, name)

    for path in found(tmp_path):
        name = files.on_disk(str(tmp_path), path)
        assert files.read_local(name, limit=999)[0] == os.path.basename(name)


def test_bytes_that_are_not_utf8_are_written_in_hexadecimal(tmp_path: Path) -> None:
    write(tmp_path, b"caf\xe9\xff.jpg")

    assert list(found(tmp_path)) == [r"caf\xe9\xff.jpg"]


def test_two_files_that_are_written_alike_are_both_refused(tmp_path: Path) -> None:
    write(tmp_path, b"caf\xe9.jpg")
    write(tmp_path, rb"caf\xe9.jpg")

    listed = list(files.place(str(tmp_path)).walk(ENDINGS))

    assert [file.path for file in listed] == [r"caf\xe9.jpg"] * 2
    with pytest.raises(files.AmbiguousName, match="Two files are written"):
        files.on_disk(str(tmp_path), r"caf\xe9.jpg")


def test_a_folder_that_is_not_utf8_above_a_literal_escape(tmp_path: Path) -> None:
    write(tmp_path, b"d\xe9/" + rb"caf\xe9.jpg", b"here")

    (path,) = found(tmp_path)

    assert files.read_local(files.on_disk(str(tmp_path), path), limit=9)[0] == b"here"


def test_symbolic_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write(tmp_path, b"in/a/1.jpg")
    write(tmp_path, b"out/2.jpg")
    images = tmp_path / "in"
    (images / "self").symlink_to(".")
    (images / "a" / "up").symlink_to("..")
    (images / "a" / "other").symlink_to(tmp_path / "out")
    (tmp_path / "out" / "back").symlink_to(images / "a")
    (images / "3.jpg").symlink_to("a/1.jpg")

    paths = sorted(found(images))

    assert {"a/1.jpg", "a/other/2.jpg", "3.jpg"} <= set(paths)
    assert all(path.count("/") < 6 for path in paths)
    assert not any(path.startswith("self/") for path in paths)


def test_links_that_lead_nowhere_are_pictures_that_are_gone(tmp_path: Path) -> None:
    write(tmp_path, b"file")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "broken.jpg").symlink_to("nothing")
    (tmp_path / "through.jpg").symlink_to("file/below")
    (tmp_path / "loop").symlink_to("loop")

    assert sorted(found(tmp_path)) == ["broken.jpg", "loop.jpg", "through.jpg"]


def test_pipes_and_sockets_are_no_pictures(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to("pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "s.jpg"))

        assert sorted(found(tmp_path)) in ([], ["link.jpg"])


def test_a_pipe_in_the_place_of_a_picture_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")

    with pytest.raises(OSError, match="not a regular file"):
        files.read_local(os.fsencode(tmp_path / "pipe.jpg"), limit=9)


def test_a_folder_in_the_place_of_a_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"not a regular file|directory"):
        files.read_local(os.fsencode(tmp_path), limit=9)


def test_no_more_than_the_limit_is_read(tmp_path: Path) -> None:
    write(tmp_path, b"a.jpg", b"12345")

    assert files.read_local(os.fsencode(tmp_path / "a.jpg"), limit=3)[:2] == (b"123", 5)


def test_a_large_folder_is_walked_as_a_stream(tmp_path: Path) -> None:
    for number in range(2000):
        write(tmp_path, b"%d.jpg" % number)

    walking = files.place(str(tmp_path)).walk(ENDINGS)

    assert isinstance(walking, Iterator)
    assert len({file.path for file in walking}) == 2000


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    place = files.place(str(tmp_path))
    place.write("deep/a.txt", b"old")

    def half() -> None:
        with place.writing("deep/a.txt") as stream:
            stream.write(b"new")
            assert place.read("deep/a.txt") == b"old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()

    assert place.read("deep/a.txt") == b"old"
    assert place.list("deep") == {"a.txt": 3}


def test_listing_and_removing_what_is_absent_is_fine(tmp_path: Path) -> None:
    place = files.place(str(tmp_path))

    place.remove("nothing")

    assert place.list("nothing") == {}
    assert not place.exists("nothing")


def test_removing_a_folder_takes_all_below_it(tmp_path: Path) -> None:
    place = files.place(str(tmp_path))
    place.write("a/b/c.txt", b"c")
    place.write("d.txt", b"d")

    place.remove("a")
    place.remove("d.txt")

    assert list(tmp_path.iterdir()) == []


def test_a_relative_folder_has_a_name(tmp_path: Path) -> None:
    assert files.place(".").name == Path.cwd().name
    assert files.place(f"{tmp_path}/x/..").name == tmp_path.name
    assert files.place(f"{tmp_path}/").name == tmp_path.name


def test_a_download_is_whole_or_absent(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"weights")

    files.download(source.as_uri(), tmp_path / "copy")
    with pytest.raises(OSError, match="nothing"):
        files.download((tmp_path / "nothing").as_uri(), tmp_path / "none")

    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy", "source"]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")
def test_what_may_not_be_read_is_listed_all_the_same(tmp_path: Path) -> None:
    write(tmp_path, b"in/shut.jpg")
    write(tmp_path, b"in/open.jpg")
    write(tmp_path, b"closed/far.jpg")
    (tmp_path / "in" / "shut.jpg").chmod(0)
    (tmp_path / "in" / "behind.jpg").symlink_to(tmp_path / "closed" / "far.jpg")
    (tmp_path / "closed").chmod(0o700)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)

    assert as_nobody(files.place(str(tmp_path / "in"))) == "behind.jpg open.jpg shut.jpg"


def as_nobody(place: Place) -> str:
    """What a process without rights sees in `place`, told through a pipe."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            told = " ".join(sorted(file.path for file in place.walk(ENDINGS)))
        except OSError as error:
            told = repr(error)
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        told = stream.read()
    os.waitpid(child, 0)
    return told


def test_a_file_that_is_a_symlink_to_a_device_is_never_read(tmp_path: Path) -> None:
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")

    for path in found(tmp_path):
        with pytest.raises(OSError, match="not a regular file"):
            files.read_local(files.on_disk(str(tmp_path), path), limit=9)
