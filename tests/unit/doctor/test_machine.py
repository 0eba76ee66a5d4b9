from __future__ import annotations

from pathlib import Path

import pytest

from fruits_cli.doctor import machine
from fruits_cli.doctor.findings import Verdict
from fruits_cli.doctor.machine import WeightsFacts

OK, FAILING = Verdict.OK, Verdict.FAILING


@pytest.mark.parametrize(
    ("version", "verdict"), [((3, 10), FAILING), ((3, 11), OK), ((3, 12), OK), ((3, 13), FAILING)]
)
def test_two_pythons_can_run_the_job(version: tuple[int, int], verdict: Verdict) -> None:
    assert machine.python(version).verdict is verdict


def test_missing_packages_are_named() -> None:
    assert machine.packages({"pyspark": "3.5.9", "openvino": None}).said == "openvino is missing."
    assert machine.packages({"pyspark": "3.5.9"}).said == "pyspark 3.5.9"


@pytest.mark.parametrize(
    ("facts", "verdict", "words"),
    [
        (WeightsFacts("random", is_here=False), OK, "random"),
        (WeightsFacts("imagenet", is_here=True), OK, "downloaded already"),
        (WeightsFacts("imagenet", is_here=False), OK, "the first run downloads them"),
        (
            WeightsFacts("imagenet", is_here=False, trouble="timed out"),
            FAILING,
            "cannot be downloaded: timed out.",
        ),
        (WeightsFacts("my.h5", is_here=True), OK, "my.h5"),
        (WeightsFacts("my.h5", is_here=False), FAILING, "The file my.h5 cannot be read."),
    ],
)
def test_weights_are_here_or_can_be_had(facts: WeightsFacts, verdict: Verdict, words: str) -> None:
    found = machine.weights(facts)

    assert found.verdict is verdict
    assert words in found.said


@pytest.mark.parametrize(
    ("free_gib", "is_writable", "said", "verdict"),
    [
        (1.9, True, "1.9 GiB free in /data, 2 are wanted.", FAILING),
        (2.0, True, "2.0 GiB free in /data, 2 are wanted", OK),
        (99.0, False, "/data cannot be written.", FAILING),
    ],
)
def test_a_disk_has_room_and_lets_us_write(
    free_gib: float, is_writable: bool, said: str, verdict: Verdict
) -> None:
    found = machine.disk("cache", Path("/data"), free_gib, is_writable=is_writable)

    assert (found.name, found.said, found.verdict) == ("disk, cache", said, verdict)
