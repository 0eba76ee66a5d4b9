from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fruits_cli.config import JobConfig
from fruits_cli.dataset.listing import Totals, count_pictures, list_pictures
from fruits_cli.errors import UsageError
from spark_job import files

EXTENSIONS = JobConfig().extensions


def draw(folder: Path, names: Sequence[str | bytes]) -> None:
    for name in names:
        file = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "wb") as stream:
            stream.write(b"bytes of " + os.fsencode(name))


def paths(folder: Path) -> list[str]:
    return [picture.path for picture in list_pictures(folder, EXTENSIONS)]


def test_rows_are_sorted_by_path(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    draw(folder, ["a.jpg", "a/1.jpg", "a b/1.jpg", "a-b.jpg", "a0/1.jpg", "Z/1.jpg", "é/1.jpg"])

    assert paths(folder) == sorted(paths(folder))
    assert len(paths(folder)) == 7


def test_a_label_that_is_not_utf8_is_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    draw(folder, [b"K\xfcwi/1.jpg"])

    assert [picture.label for picture in list_pictures(folder, EXTENSIONS)] == [r"K\xfcwi"]


def test_folders_with_equal_written_names_are_walked_as_one(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    draw(folder, [b"\xff/b.jpg", rb"\xff/a.jpg", rb"\xff/c.jpg", b"\xff/c.jpg"])

    listed = list(list_pictures(folder, EXTENSIONS))

    assert [picture.path[-5:] for picture in listed] == ["a.jpg", "b.jpg", "c.jpg", "c.jpg"]
    assert [picture.has_twin for picture in listed] == [False, False, True, True]


@pytest.fixture
def odd_folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "pictures"
    draw(folder, ["a/1.jpg", ".hidden/2.jpg", "folder.jpg/3.jpg", "a/text.txt", "a/._4.jpg"])
    draw(tmp_path / "elsewhere", ["5.jpg"])
    (folder / "empty").mkdir()
    (folder / "a" / "loop").symlink_to(folder)
    (folder / "a" / "self").symlink_to(".")
    (folder / "up").symlink_to(tmp_path)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "broken.jpg").symlink_to("nowhere.jpg")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    (folder / "broken").symlink_to("nowhere")
    (folder / "link.jpg").symlink_to("a/1.jpg")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "link to pipe.jpg").symlink_to("pipe.jpg")
    (folder / "device.jpg").symlink_to(os.devnull)
    with socket.socket(socket.AF_UNIX) as door:
        here = os.open(folder, os.O_RDONLY)
        door.bind(f"/proc/self/fd/{here}/socket.jpg")
        os.close(here)
        yield folder


def test_links_are_followed_but_not_in_circles(odd_folder: Path) -> None:
    assert paths(odd_folder) == [
        ".hidden/2.jpg",
        "a/1.jpg",
        "broken.jpg",
        "circle.jpg",
        "folder.jpg/3.jpg",
        "link.jpg",
        "linked/5.jpg",
    ]


def test_a_link_is_labelled_by_the_folder_that_it_is_in(odd_folder: Path) -> None:
    labels = {picture.path: picture.label for picture in list_pictures(odd_folder, EXTENSIONS)}

    assert (labels["linked/5.jpg"], labels["link.jpg"]) == ("linked", "pictures")


def test_a_folder_a_thousand_deep_is_walked(tmp_path: Path) -> None:
    place = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(os.open("deep.jpg", os.O_CREAT, dir_fd=place))
    os.close(place)

    try:
        assert [len(path) for path in paths(tmp_path)] == [2 * 1200 + len("deep.jpg")]
    finally:
        # Too deep for the recursion of shutil.rmtree, with which pytest would remove it.
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


@pytest.mark.parametrize("name", ["absent", "file.jpg", "circle"])
def test_something_that_is_not_a_folder_is_refused_by_name(tmp_path: Path, name: str) -> None:
    draw(tmp_path, ["file.jpg"])
    (tmp_path / "circle").symlink_to("circle")

    with pytest.raises(UsageError, match=f"{name} cannot be listed"):
        paths(tmp_path / name)


def test_counting_takes_the_listing_alone(odd_folder: Path) -> None:
    assert count_pictures(odd_folder, EXTENSIONS) == Totals(7, 16 + 22 + 25 + 16 + 14)


def test_the_job_finds_the_same_pictures(odd_folder: Path) -> None:
    draw(
        odd_folder, [b"not utf-8 \xff.jpg", rb"alike \xff.jpg", b"alike \xff.jpg", "new\nline.JPG"]
    )

    found = files.place(str(odd_folder)).walk(EXTENSIONS)

    assert sorted(picture.path for picture in found) == paths(odd_folder)
