import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from fruits_cli.report.variance import components_for, spectrum


def rows(n: int, d: int = 12) -> np.ndarray:
    dice = np.random.default_rng(n)
    return (dice.normal(size=(n, d)) * np.arange(1, d + 1) + 100).astype(np.float32)


@pytest.mark.parametrize("n", [2, 5, 500])
@pytest.mark.parametrize("standardize", [False, True])
def test_shares_are_those_of_scikit_learn(n: int, standardize: bool) -> None:
    data = rows(n)
    blocks = [block for block in (data[:1], data[1:3], data[3:]) if len(block)]

    found = spectrum(blocks, standardize=standardize)

    wide = data.astype(np.float64)
    scaled = StandardScaler().fit_transform(wide) if standardize else wide
    expected = PCA().fit(scaled).explained_variance_ratio_[: n - 1]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_column_without_variance_has_no_share() -> None:
    data = rows(50)
    data[:, 3] = 7

    assert spectrum([data], standardize=True)[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("n", [0, 1])
def test_one_row_has_no_variance(n: int) -> None:
    assert spectrum([rows(n)] if n else [], standardize=False) == []


def test_equal_rows_have_none_either() -> None:
    assert spectrum([np.ones((5, 3), np.float32)], standardize=False) == []


def test_the_number_of_components_for_a_share() -> None:
    ratio = [0.5, 0.3, 0.15, 0.05]

    found = [components_for(ratio, share) for share in (0.5, 0.51, 0.8, 0.95, 1.0)]

    assert found == [1, 2, 2, 3, 4]
    assert components_for(ratio[:2], 0.9) is None
    assert components_for([], 0.5) is None
