from __future__ import annotations

import io
import random
import subprocess
import sys
from functools import reduce

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from spark_job import pca
from spark_job.pca import PcaModel, Sums

Floats = npt.NDArray[np.float64]


def separated(n: int, d: int, *, offset: float = 0.0, seed: int = 0) -> Floats:
    """Rows whose covariance has clearly separated eigenvalues."""
    dice = np.random.default_rng(seed)
    turned, _ = np.linalg.qr(dice.normal(size=(d, d)))
    return dice.normal(size=(n, d)) * 0.7 ** np.arange(d) * 10 @ turned + offset


def fitted(rows: npt.NDArray[np.floating], blocks: int = 7, **options: object) -> PcaModel:
    parts = [pca.sums_of([part], rows.shape[1]) for part in np.array_split(rows, blocks)]
    return pca.fit(reduce(Sums.__add__, parts), **options)  # type: ignore[arg-type]


def reference(rows: Floats, k: int) -> tuple[PCA, Floats, Floats]:
    """scikit-learn's model, and its components and projections under our rule of signs."""
    model = PCA(n_components=k, svd_solver="full").fit(rows)
    signs = np.sign([row[np.abs(row).argmax()] for row in model.components_])[:, None]
    return model, model.components_ * signs, model.transform(rows) * signs.T


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize(("n", "d", "k"), [(200, 24, 12), (40, 24, 24), (12, 24, 11), (2, 24, 1)])
def test_the_fit_equals_scikit_learns_full_solver(n: int, d: int, k: int, offset: float) -> None:
    rows = separated(n, d, offset=offset)

    model = fitted(rows, k=k)

    theirs, components, projected = reference(rows, k)
    ratio = theirs.explained_variance_ratio_
    assert np.abs(model.explained_variance_ratio - ratio).max() < 1e-9
    assert np.abs(model.explained_variance - theirs.explained_variance_).max() < 1e-6
    assert np.abs(model.components - components).max() < 1e-6
    exact = (rows - model.mean) / model.scale @ model.components.T
    assert np.abs(exact - projected).max() < 1e-6
    assert model.project(rows).dtype == np.float32
    assert np.abs(model.project(rows) - projected).max() < 1e-4


def test_the_fit_equals_scikit_learns_with_1280_features() -> None:
    rows = separated(300, 60, seed=5)
    wide = np.concatenate([rows, np.zeros((300, 1220))], axis=1).astype(np.float32)

    model = fitted(wide, k=20)

    theirs, components, projected = reference(wide.astype(np.float64), 20)
    assert np.abs(model.explained_variance_ratio - theirs.explained_variance_ratio_).max() < 1e-9
    assert np.abs(model.components - components).max() < 1e-6
    assert np.abs(model.project(wide) - projected).max() < 1e-4


def test_standardized_rows_equal_scikit_learns_scaler() -> None:
    rows = separated(150, 10) * 10.0 ** np.arange(-5, 5)
    scaled = StandardScaler().fit_transform(rows) * np.sqrt(149 / 150)

    model = fitted(rows, k=10, standardize=True)

    theirs, _, projected = reference(scaled, 10)
    assert np.abs(model.explained_variance_ratio - theirs.explained_variance_ratio_).max() < 1e-9
    assert np.abs(model.project(rows) - projected).max() < 1e-4
    assert model.explained_variance.sum() == pytest.approx(10)


@pytest.mark.parametrize("offset", [1e6, -1e8])
def test_huge_offsets_do_not_drown_the_variance(offset: float) -> None:
    rows = separated(100, 8)

    far, near = fitted(rows + offset, k=4), fitted(rows, k=4)

    assert np.abs(far.explained_variance_ratio - near.explained_variance_ratio).max() < 1e-9
    assert np.abs(far.components - near.components).max() < 1e-6


def test_the_order_of_merging_does_not_matter() -> None:
    rows = separated(500, 12, offset=50)
    parts = [pca.sums_of([part], 12) for part in np.array_split(rows, 200)]
    shuffled = random.Random(4).sample(parts, len(parts))
    halves = reduce(Sums.__add__, parts[:90]) + reduce(Sums.__add__, parts[90:])

    models = [
        pca.fit(s, k=6)
        for s in (reduce(Sums.__add__, parts), reduce(Sums.__add__, shuffled), halves)
    ]

    for other in models[1:]:
        assert np.abs(other.components - models[0].components).max() < 1e-10
        assert np.abs(other.explained_variance / models[0].explained_variance - 1).max() < 1e-10


def test_no_rows_add_nothing() -> None:
    some = pca.sums_of([separated(5, 3)], 3)

    for both in (some + pca.no_sums(3), pca.no_sums(3) + some, pca.sums_of([], 3) + some):
        assert both.n == 5
        assert np.array_equal(both.scatter, some.scatter)
    empty = pca.no_sums(3) + pca.sums_of([np.empty((0, 3))], 3)
    assert empty.n == 0


def test_adding_leaves_the_parts_as_they_were() -> None:
    left, right = (pca.sums_of([separated(5, 3, seed=seed)], 3) for seed in (1, 2))
    before = left.scatter.copy(), right.scatter.copy(), left.mean.copy()

    assert (left + right).n == 10
    after = left.scatter, right.scatter, left.mean
    assert all(np.array_equal(b, a) for b, a in zip(before, after, strict=True))


def test_blocks_longer_than_one_step_are_summed_whole() -> None:
    rows = separated(5000, 4, offset=3).astype(np.float32)

    sums = pca.sums_of([rows], 4)

    assert sums.n == 5000
    assert np.allclose(sums.scatter / 4999, np.cov(rows.astype(np.float64).T), rtol=1e-10)


def test_the_largest_loading_of_each_component_is_positive() -> None:
    for seed in range(5):
        model = fitted(separated(60, 9, seed=seed), k=9)

        largest = np.abs(model.components).argmax(axis=1)
        assert (model.components[np.arange(9), largest] > 0).all()


def test_the_same_rows_give_the_same_bytes() -> None:
    rows = separated(80, 16)

    assert fitted(rows, k=5).npz() == fitted(rows, k=5).npz()


def test_components_are_orthonormal_and_variances_fall() -> None:
    model = fitted(separated(90, 10), k=10)

    assert np.allclose(model.components @ model.components.T, np.eye(10), atol=1e-12)
    assert (np.diff(model.explained_variance) <= 0).all()
    assert model.explained_variance_ratio.sum() == pytest.approx(1, abs=1e-12)


def test_constant_columns_have_no_loading_and_keep_scale_1() -> None:
    rows = separated(40, 6)
    rows[:, 2], rows[:, 4] = 0.1, 1e7

    plain, scaled = fitted(rows, k=4), fitted(rows, k=4, standardize=True)

    assert np.abs(plain.components[:, [2, 4]]).max() < 1e-9
    assert scaled.scale[[2, 4]].tolist() == [1, 1]
    assert np.abs(scaled.components[:, [2, 4]]).max() < 1e-6
    assert np.isfinite(scaled.project(rows)).all()
    assert scaled.explained_variance.sum() == pytest.approx(4)


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("options", [{"k": 1}, {"variance": 0.9}, {}])
def test_rows_without_any_variance_give_finite_numbers(
    options: dict[str, float], standardize: bool
) -> None:
    rows = np.full((6, 5), 0.3, np.float32)

    model = fitted(rows, blocks=2, standardize=standardize, **options)

    assert np.isfinite(model.components).all()
    assert np.abs(model.project(rows)).max() < 1e-6
    assert np.abs(model.explained_variance).max() < 1e-12


def test_two_rows_have_one_component_with_all_the_variance() -> None:
    rows = separated(2, 7)

    model = fitted(rows, blocks=1)

    assert model.k == 1
    assert model.explained_variance_ratio[0] == pytest.approx(1, abs=1e-12)
    assert model.project(rows).sum() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("n", "d", "k"), [(200, 80, 50), (30, 80, 29), (51, 80, 50), (200, 8, 8)])
def test_an_unset_k_is_50_or_the_most_possible(n: int, d: int, k: int) -> None:
    assert fitted(separated(n, d)).k == k


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99, 0.999999, 1.0])
@pytest.mark.parametrize(("n", "d"), [(100, 12), (9, 12), (2, 12)])
def test_a_share_of_variance_takes_the_fewest_components_that_reach_it(
    share: float, n: int, d: int
) -> None:
    rows = separated(n, d)

    model = fitted(rows, variance=share, blocks=1)

    full = np.cumsum(PCA(svd_solver="full").fit(rows).explained_variance_ratio_)
    reached = full[model.k - 1]
    assert reached >= share - 1e-9
    assert model.k == 1 or full[model.k - 2] < share
    assert model.explained_variance_ratio.sum() == pytest.approx(reached, abs=1e-9)


def test_one_fit_gives_every_k_the_same_first_components() -> None:
    rows = separated(60, 10)

    few, many = fitted(rows, k=3), fitted(rows, k=8)

    assert np.array_equal(few.components, many.components[:3])
    assert np.array_equal(few.explained_variance_ratio, many.explained_variance_ratio[:3])


def test_numpy_alone_projects_new_rows_from_the_file() -> None:
    rows, new = separated(60, 10), separated(4, 10, seed=9)
    model = fitted(rows, k=3, standardize=True)
    script = """
import io, sys
import numpy as np
content = sys.stdin.buffer.read()
size = int.from_bytes(content[:8], "big")
new = np.load(io.BytesIO(content[8:8 + size]), allow_pickle=False)
with np.load(io.BytesIO(content[8 + size:]), allow_pickle=False) as saved:
    out = (new - saved["mean"]) / saved["scale"] @ saved["components"].T
assert "spark_job" not in sys.modules
sys.stdout.buffer.write(out.tobytes())
"""
    packed = io.BytesIO()
    np.save(packed, new)
    size = len(packed.getvalue()).to_bytes(8, "big")

    child = subprocess.run(
        [sys.executable, "-c", script],
        input=size + packed.getvalue() + model.npz(),
        capture_output=True,
        check=True,
    )

    projected = np.frombuffer(child.stdout).reshape(4, 3)
    assert np.abs(projected - model.project(new)).max() < 1e-4


def test_the_file_holds_float64_arrays_of_the_documented_shapes() -> None:
    model = fitted(separated(60, 10), k=3)

    with np.load(io.BytesIO(model.npz()), allow_pickle=False) as saved:
        shapes = {name: saved[name].shape for name in saved.files}
        kinds = {saved[name].dtype for name in saved.files}

    assert shapes == {
        "mean": (10,),
        "scale": (10,),
        "components": (3, 10),
        "explained_variance": (3,),
        "explained_variance_ratio": (3,),
    }
    assert kinds == {np.dtype(np.float64)}


@pytest.mark.parametrize("distinct", [1, 2, 5, 9])
def test_few_rows_with_repetitions_give_orthonormal_components(distinct: int) -> None:
    rows = np.tile(separated(distinct, 64, offset=3.0), (20 // distinct + 1, 1))[:20]

    model = fitted(rows, k=15)

    assert np.abs(model.components @ model.components.T - np.eye(15)).max() < 1e-9
    theirs = PCA(n_components=15, svd_solver="full").fit(rows)
    assert np.abs(model.explained_variance - theirs.explained_variance_).max() < 1e-9
    # Directions beyond the rank explain nothing and project to nothing.
    assert np.abs(model.project(rows)[:, distinct:]).max(initial=0) < 1e-6


def test_both_ways_to_the_eigenvectors_agree_at_the_width_of_the_job() -> None:
    rows = separated(641, 40, seed=2)
    wide = (
        np.concatenate([rows, np.zeros((641, 1240))], axis=1)
        @ np.linalg.qr(np.random.default_rng(1).normal(size=(1280, 1280)))[0]
    )

    few, many = fitted(wide[:640], k=20), fitted(np.concatenate([wide[:640]] * 3), k=20)

    assert np.abs(few.components - many.components).max() < 1e-8
    assert np.abs(few.explained_variance_ratio - many.explained_variance_ratio).max() < 1e-12


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_sums_without_some_rows_are_those_of_the_others(offset: float) -> None:
    rows = separated(400, 24, offset=offset)
    every, some = pca.sums_of([rows], 24), pca.sums_of([rows[50:200]], 24)

    left = every - some

    others = pca.sums_of([rows[:50], rows[200:]], 24)
    assert left.n == others.n == 250
    assert np.abs(left.mean - others.mean).max() < 1e-11
    assert np.abs(left.scatter - others.scatter).max() < 1e-7
    assert every - pca.no_sums(24) is every


def test_a_thousand_changes_leave_the_sums_those_of_their_rows() -> None:
    rows = separated(3000, 24, offset=10.0)
    sums = pca.sums_of([rows[:1000]], 24)

    for n in range(1000):
        sums = sums - pca.sums_of([rows[n : n + 1]], 24)
        sums = sums + pca.sums_of([rows[1000 + n : 1001 + n]], 24)

    expected = pca.sums_of([rows[1000:2000]], 24)
    assert sums.n == 1000
    assert np.abs(sums.mean - expected.mean).max() < 1e-11
    assert np.abs(sums.scatter - expected.scatter).max() < 1e-6


def test_sums_come_back_from_their_file_bit_for_bit() -> None:
    sums = pca.sums_of([separated(90, 24, offset=3.0)], 24)

    again = pca.load_sums(sums.npz())

    assert again.n == 90
    np.testing.assert_array_equal(again.mean, sums.mean)
    np.testing.assert_array_equal(np.triu(again.scatter), np.triu(sums.scatter))
    np.testing.assert_array_equal(again.scatter, again.scatter.T)
