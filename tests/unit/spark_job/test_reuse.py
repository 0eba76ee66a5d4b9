from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spark_job import chunks, files, images, reuse, schema
from spark_job.chunks import Plan


def digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def rows(names: str, source: int, chunk: int) -> reuse.Rows:
    return reuse.rows_of([digest(name) for name in names], source, chunk, range(len(names)))


def hits(*parts: reuse.Rows) -> list[tuple[int, int, int, int]]:
    """(chunk of this run, place, source, chunk that it is copied from), sorted."""
    found = [
        (chunk, int(hit["pos"]), int(hit["source"]), int(hit["chunk"]))
        for chunk, part in reuse.matches(parts)
        if chunk >= 0
        for hit in part
    ]
    return sorted(found)


def gone(*parts: reuse.Rows) -> list[tuple[int, int]]:
    """(chunk of the newest run, place) of what is gone, sorted."""
    found = [
        (reuse.gone_key(chunk), int(row["pos"]))
        for chunk, part in reuse.matches(parts)
        if chunk < 0
        for row in part
    ]
    return sorted(found)


def test_a_known_picture_is_a_hit_in_the_newest_run() -> None:
    found = hits(rows("abc", 1, 7), rows("b", 0, 4), rows("xbc", reuse.WANTED, 0))

    assert found == [(0, 1, 0, 4), (0, 2, 1, 7)]


def test_twins_are_copied_from_the_first_of_them_which_owns_them() -> None:
    found = hits(rows("xay", reuse.WANTED, 5), rows("bxx", reuse.WANTED, 2))

    assert found == sorted(
        [
            (2, 1, reuse.OWNER, 2),
            (2, 1, reuse.TWIN, 2),
            (2, 2, reuse.TWIN, 2),
            (5, 0, reuse.TWIN, 2),
        ]
    )


def test_nothing_known_and_nothing_twice_is_no_hit() -> None:
    assert hits(rows("abc", reuse.WANTED, 0)) == []


def test_only_pictures_of_the_newest_run_can_be_gone() -> None:
    found = gone(rows("abc", 0, 3), rows("xyz", 1, 0), rows("b", reuse.WANTED, 0))

    assert found == [(3, 0), (3, 2)]


def test_of_a_doubled_picture_that_is_there_once_the_other_is_gone() -> None:
    assert len(gone(rows("aab", 0, 0), rows("ba", reuse.WANTED, 0))) == 1
    assert len(gone(rows("ab", 0, 0), rows("baab", reuse.WANTED, 0))) == 0


def test_a_picture_that_is_there_more_often_than_in_the_newest_run_is_surplus() -> None:
    found = hits(rows("ab", 0, 1), rows("a", 1, 9), rows("aba", reuse.WANTED, 4))

    copies, surplus = found[:], [hit for hit in found if hit[2] == reuse.SURPLUS]
    assert len(surplus) == 1
    assert surplus[0][1] in (0, 2)
    copies.remove(surplus[0])
    assert copies == [(4, 0, 0, 1), (4, 1, 0, 1), (4, 2, 0, 1)]


def test_what_only_an_older_run_knows_is_no_surplus() -> None:
    found = hits(rows("b", 0, 1), rows("a", 1, 9), rows("aa", reuse.WANTED, 4))

    assert found == [(4, 0, 1, 9), (4, 1, 1, 9)]


def test_a_refused_picture_is_a_hit_and_never_gone() -> None:
    refused = reuse.rows_of([digest("a"), digest("b")], 0, 3, [reuse.REFUSED] * 2)

    assert (7, 0, 0, 3) in hits(refused, rows("b", reuse.WANTED, 7))
    assert gone(refused, rows("b", reuse.WANTED, 7)) == []


@pytest.mark.parametrize("count", [1, 3, 64])
def test_each_digest_is_in_one_bucket(count: int) -> None:
    names = [f"{n}" for n in range(500)]
    one = rows_named(names, 0)
    other = rows_named(names[::-1], 1)

    buckets = [dict(reuse.by_bucket(part, count)) for part in (one, other)]

    assert buckets[0].keys() == buckets[1].keys()
    for number, part in buckets[0].items():
        assert set(part["digest"]) == set(buckets[1][number]["digest"])
    assert sum(len(part) for part in buckets[0].values()) == 500


def rows_named(names: list[str], source: int) -> reuse.Rows:
    return reuse.rows_of([digest(name) for name in names], source, 0, range(len(names)))


def test_a_digest_that_ends_in_zero_bytes_is_itself() -> None:
    ends_in_zero = b"\x01" * 30 + b"\0\0"
    known = reuse.rows_of([ends_in_zero], 0, 3, [0])
    wanted = reuse.rows_of([ends_in_zero], reuse.WANTED, 9, [4])

    assert hits(known, wanted) == [(9, 4, 0, 3)]
    assert np.concatenate([known, wanted])["digest"][0] == wanted["digest"][0]


PLAN = Plan(
    images="in", kind="folder", name="in", pictures=1, chunks=1, rows_per_chunk=1, dataset="",
    fingerprint="model", weights="imagenet",
    engine="openvino", precision="f32", image_size=32, extensions=["jpg"],
)  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [{"fingerprint": "x"}, {"engine": "tensorflow"}, {"precision": "bf16"}, {"image_size": 64}],
)
def test_whatever_changes_features_changes_the_key(other: dict[str, Any]) -> None:
    assert reuse.key_of(replace(PLAN, **other)) != reuse.key_of(PLAN)


def test_a_run_that_decoded_by_other_rules_is_no_source(tmp_path: Path) -> None:
    for name, rules in [("before", images.RULES - 1), ("now", images.RULES)]:
        run = files.place(str(tmp_path / "runs" / name))
        facts = {"run_id": name, "reuse_key": reuse.key_of(PLAN, rules), "versions": {}}
        counts = {"chunks": 1, "features": 1, "rejected": 0}
        run.write(schema.MANIFEST_FILE, json.dumps({**facts, "counts": counts}).encode())
        run.write(chunks.marker_file(0), b"{}")

    found = reuse.find_sources(
        [str(tmp_path / "runs")], reuse.key_of(PLAN), files.place(str(tmp_path / "new"))
    )

    assert [source.run_id for source in found] == ["now"]


@pytest.mark.parametrize("other", [{"images": "x"}, {"name": "x"}, {"extensions": ["png"]}])
def test_where_pictures_come_from_does_not(other: dict[str, Any]) -> None:
    assert reuse.key_of(replace(PLAN, **other)) == reuse.key_of(PLAN)
