"""Faces crossed with networks: the spread is that of new faces and new networks."""

import numpy as np
import pytest
from scipy.stats import friedmanchisquare

from fer_utils import metrics


def test_the_spread_is_that_of_a_new_sample_of_networks_and_faces():
    """Networks, faces and single scores vary with known sd; the mean's variance follows."""
    rng, networks, faces = np.random.default_rng(0), 3, 80
    between, within, rest = 0.3, 1.0, 0.5
    true = between**2 / networks + within**2 / faces + rest**2 / networks / faces
    spread = []
    for _ in range(300):
        values = rng.normal(0, between, (networks, 1)) + rng.normal(0, within, (1, faces))
        values = values + rng.normal(0, rest, (networks, faces))
        spread.append(metrics.crossed_means(values, 500).var())
    # without the widening for three networks the ratio would be 0.77; 300 trials: ± 0.07
    assert 0.9 < np.mean(spread) / true < 1.2


def test_with_one_network_it_is_the_bootstrap_over_faces():
    values = np.random.default_rng(1).random((1, 4, 30))
    _, of_faces = metrics.crossed_draws(1, 30)
    assert np.allclose(metrics.crossed_means(values), values[0] @ of_faces.T)
    mean, lo, hi = metrics.crossed_interval(values)
    assert np.allclose(mean, values[0].mean(1)) and (lo < mean).all() and (mean < hi).all()


def test_weights_sum_to_one_and_equal_values_have_no_spread():
    for weights in metrics.crossed_draws(3, 10):
        assert np.allclose(weights.sum(1), 1)
    assert np.allclose(metrics.crossed_means(np.full((3, 2, 10), 0.25)), 0.25)


def test_a_face_without_a_score_is_left_out():
    values = np.array([[1.0, 3.0, np.nan, np.nan], [2.0, 4.0, np.nan, np.nan]])
    mean, lo, hi = metrics.crossed_interval(values)
    assert mean == 2.5 and 0.79 < lo < hi < 4.21  # √2 × the networks’ ± 0.5 about 1.5 … 3.5
    half = np.full((2, 3, 40), 0.1, np.float16)
    assert metrics.crossed_interval(half)[0] == pytest.approx(float(np.float16(0.1)))


@pytest.mark.parametrize("values", [np.ones(3), np.ones((0, 3)), np.full((2, 3), np.nan)])
def test_nothing_to_average_is_refused(values):
    with pytest.raises(ValueError, match=r"expected|no face"):
        metrics.crossed_means(values)


def test_concordance_by_hand_and_as_friedman_has_it():
    assert metrics.concordance([[1, 2, 3], [10, 20, 30]]) == 1
    assert metrics.concordance([[1, 2, 3], [3, 2, 1]]) == 0
    # ranks 1 2 3, 1 2 3, 2 1 3: sums 4 5 9, squares about 6: 1 + 1... = 14; 12·14 / (9·24)
    assert metrics.concordance([[1, 2, 3], [1, 2, 3], [2, 1, 3]]) == pytest.approx(7 / 9)
    table = np.random.default_rng(2).integers(0, 5, (4, 6)).astype(float)
    chi2 = friedmanchisquare(*table.T).statistic  # W = χ² / (k (m − 1)), ties corrected
    assert metrics.concordance(table) == pytest.approx(chi2 / (4 * 5))
    assert np.isnan(metrics.concordance(np.ones((2, 3))))
    with pytest.raises(ValueError, match="at least 2 judges"):
        metrics.concordance([[1, 2, 3]])


def answers(seed, networks=3, n=200, k=4):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    p = rng.dirichlet(np.ones(k), (networks, n)) + 0.2 * np.eye(k)[labels]
    return labels, p / p.sum(2, keepdims=True)


def test_scores_of_several_networks_are_the_mean_of_each_ones():
    labels, p = answers(0)
    found = metrics.crossed_scores(labels, p)
    each = [metrics.summary(labels, one, "abcd") for one in p]
    assert set(found) == set(each[0]) - {"n", "accuracy_interval"}
    for name, (mean, sd, lo, hi) in found.items():
        values = [one[name] for one in each]
        assert mean == pytest.approx(np.mean(values)) and sd == pytest.approx(
            np.std(values, ddof=1)
        )
        assert np.isnan([lo, hi]).all() if name == "ece" else lo < mean < hi
    hits = (p.argmax(2) == labels).astype(float)
    lo, hi = metrics.crossed_interval(hits[:, None])[1:]
    assert found["accuracy"][2:] == pytest.approx((lo[0], hi[0]))


def test_scores_of_one_network_are_bootstrapped_over_faces_alone():
    labels, p = answers(1, networks=1, n=400)
    found, matrix = (
        metrics.crossed_scores(labels, p),
        metrics.confusion_matrix(labels, p[0].argmax(1), 4),
    )
    for name, (value, lo, hi) in metrics.bootstrap_scores(matrix).items():
        mean, sd, low, high = found[name]
        assert mean == pytest.approx(value) and np.isnan(sd)
        assert (low, high) == pytest.approx((lo, hi), abs=0.12 * (hi - lo))  # 2,000 draws
    same = metrics.crossed_scores(labels, np.concatenate([p, p]))
    assert same["mcc"][1] == 0 and same["nll"][2:] == pytest.approx(found["nll"][2:])
