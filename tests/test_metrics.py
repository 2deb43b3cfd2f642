"""What the figures of chapter 3 rest on: the numbers agree with scikit-learn and with paper."""

import json
import subprocess
import sys
from math import comb
from statistics import NormalDist

import numpy as np
import pytest

from fer_utils import metrics
from fer_utils.metrics.calibration import kept_faces
from fer_utils.plotting import confusion as draw
from fer_utils.plotting import confusion_words as words

CLASSES = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")


def fake(n=400, seed=0, k=7, sharpness=1.0):
    """Labels and probabilities of a network that is right about half the time."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), labels] += 1.3
    raised = np.exp(sharpness * logits)
    return labels, raised / raised.sum(axis=1, keepdims=True)


# A world whose true matrix is known: shares of 3,600 faces, unequal classes, Disgust rare.
RATES = 0.6 * np.eye(7) + 0.4 / 7
RATES[2, [2, 4, 6]] = [0.20, 0.46, 0.157]
POPULATION = RATES * np.array([0.14, 0.015, 0.15, 0.24, 0.17, 0.115, 0.17])[:, None]
POPULATION /= POPULATION.sum()


def votes_like(labels, seed=0, strength=4.0, unsure=0.5):
    """Ten votes a face (n, 10), FER+'s columns, mostly for the label."""
    names = ["Neutral", "Happy", "Surprise", "Sad", "Angry", "Disgust", "Fear"]
    column = np.array([names.index(name) for name in CLASSES])
    rng = np.random.default_rng(seed)
    weight = rng.gamma(unsure, size=(len(labels), 10)) + 1e-6
    weight[np.arange(len(labels)), column[labels]] += strength
    return rng.multinomial(10, weight / weight.sum(axis=1, keepdims=True))


def test_imports_with_numpy_alone():
    code = (
        "import sys; from fer_utils import metrics; "
        "assert not {'pandas', 'sklearn', 'scipy', 'torch'} & set(sys.modules), 'too much'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- agreement with scikit-learn ---------------------------------------------------------------


@pytest.mark.parametrize("missing", [None, 2])
def test_scores_agree_with_scikit_learn(missing):
    from sklearn import metrics as oracle

    labels, probabilities = fake()
    if missing is not None:  # neither labelled nor ever predicted
        keep = labels != missing
        labels, probabilities = labels[keep], probabilities[keep].copy()
        probabilities[:, missing] = 0
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    answers = probabilities.argmax(axis=1)
    found = metrics.summary(labels, probabilities, CLASSES)
    expected = {
        "accuracy": oracle.accuracy_score(labels, answers),
        "balanced_accuracy": oracle.balanced_accuracy_score(labels, answers),
        "macro_f1": oracle.f1_score(labels, answers, average="macro"),
        "mcc": oracle.matthews_corrcoef(labels, answers),
        "kappa": oracle.cohen_kappa_score(labels, answers),
        "nll": oracle.log_loss(labels, probabilities, labels=range(7)),
        "brier": oracle.brier_score_loss(labels, probabilities, labels=range(7)),
        "top2": oracle.top_k_accuracy_score(labels, probabilities, k=2, labels=range(7)),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


def test_matrix_and_classes_agree_with_scikit_learn():
    from sklearn import metrics as oracle

    labels, probabilities = fake(seed=3)
    answers = probabilities.argmax(axis=1)
    matrix = metrics.confusion_matrix(labels, answers, 7)
    assert (matrix == oracle.confusion_matrix(labels, answers, labels=range(7))).all()
    table = metrics.per_class(matrix, CLASSES, draws=50)
    expected = oracle.precision_recall_fscore_support(labels, answers, labels=range(7))
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(table[name], values, atol=1e-12)


def test_wilson_and_mcnemar_agree_with_scipy():
    from scipy import stats

    for x, n in ((0, 55), (1, 55), (13, 55), (55, 55), (400, 879)):
        told = stats.binomtest(x, n).proportion_ci(0.95, method="wilson")
        np.testing.assert_allclose(metrics.wilson(x, n), (told.low, told.high), atol=1e-9)
    for b, c in ((0, 0), (3, 10), (12, 5), (40, 41)):
        expected = stats.binomtest(b, b + c).pvalue if b + c else 1
        assert metrics.sign_test(b, c) == pytest.approx(expected, abs=1e-12)


# --- examples worked by hand ------------------------------------------------------------------


def test_scores_of_a_small_matrix_by_hand():
    # 10 faces; recall 4/5 and 3/5, precision 4/6 and 3/4, chance agreement (5·6 + 5·4)/100 = 1/2
    found = metrics.scores([[4, 1], [2, 3]])
    assert found["accuracy"] == pytest.approx(0.7)
    assert found["balanced_accuracy"] == pytest.approx(0.7)
    assert found["macro_f1"] == pytest.approx((8 / 11 + 6 / 9) / 2)
    assert found["kappa"] == pytest.approx((0.7 - 0.5) / 0.5)
    assert found["mcc"] == pytest.approx((4 * 3 - 1 * 2) / np.sqrt(6 * 4 * 5 * 5))


def test_probability_scores_by_hand():
    labels = np.array([0, 1, 2, 0])
    p = np.array([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.7, 0.2, 0.1], [0.9, 0.05, 0.05]])
    found = metrics.probability_scores(labels, p, bins=2)
    assert found["nll"] == pytest.approx(-np.log(0.6 * 0.4 * 0.1 * 0.9) / 4)
    brier = (0.16 + 0.09 + 0.01) + (0.25 + 0.36 + 0.01) + (0.49 + 0.04 + 0.81) + (0.01 + 0.005)
    assert found["brier"] == pytest.approx(brier / 4)
    assert found["top2"] == 0.75
    # bins (0, ½] and (½, 1]: one face of confidence .5, wrong; three of .6 + .7 + .9, two right
    assert found["ece"] == pytest.approx((0.5 + abs(2 - 2.2)) / 4)


def test_pairs_by_hand():
    matrix = [[8, 2, 0], [1, 9, 0], [0, 10, 10]]
    table = metrics.pairs(matrix, ("a", "b", "c")).set_index(["first", "second"])
    assert table.loc[("b", "c"), "confusability"] == pytest.approx((0 / 10 + 10 / 20) / 2)
    assert table.loc[("b", "c"), "asymmetry"] == pytest.approx(-0.5)
    assert table.loc[("a", "b"), "faces"] == 3
    assert table.loc[("a", "b"), "asymmetry"] == pytest.approx(0.1)
    assert list(table["rank"]) == [1, 2, 3]


def test_holm_by_hand():
    np.testing.assert_allclose(metrics.holm([0.04, 0.01, 0.03]), [0.06, 0.03, 0.06])
    np.testing.assert_allclose(metrics.holm([0.5, 0.6]), [1, 1])


def test_risk_coverage_by_hand_with_a_tie():
    labels = np.array([0, 0, 1, 1])
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.8, 0.2], [0.6, 0.4]])  # right, right, wrong, wrong
    np.testing.assert_allclose(
        metrics.risk_coverage(labels, p, [0.25, 0.5, 0.75, 1]), [0, 0.25, 1 / 3, 0.5]
    )  # of the two equally sure faces one is wrong: each counts as half a mistake


def test_two_voters_by_hand():
    # one face, votes 7 anger, 2 fear, 1 contempt, label Angry, answer Fear
    votes = np.zeros((1, 10), int)
    votes[0, [4, 6, 7]] = 7, 2, 1
    found = metrics.vote_aggregates(votes, [0], [2], ["PrivateTest"], CLASSES)
    part = metrics.votes_of(found, "PrivateTest", metrics.confusion_matrix([0], [2], 7))
    joint = part["voters"].sum(axis=0)
    assert joint[0, 0] == pytest.approx(7 * 6 / 90)
    assert joint[0, 2] == joint[2, 0] == pytest.approx(7 * 2 / 90)
    assert joint[7, 7] == 0 and joint.sum() == pytest.approx(1)
    np.testing.assert_allclose(metrics.vote_rows(part)[0], [0.7, 0, 0.2, 0, 0, 0, 0, 0.1])
    assert metrics.voter_confusion(part)[0, 2] == pytest.approx(14 / (42 + 14))
    told = metrics.agreement(part)
    assert [told[who][0] for who in ("prediction", "label", "voter")] == pytest.approx(
        [0.2, 0.7, (42 + 2) / 90]
    )
    row = metrics.mistakes(part).iloc[0]
    assert (row["with_network"], row["with_label"], row["neither"]) == (0, 1, 0)


def test_divergence_of_same_and_of_disjoint_rows():
    assert metrics.divergence([1, 2, 0], [2, 4, 0]) == pytest.approx(0)
    assert metrics.divergence([1, 0], [0, 3]) == pytest.approx(1)


def test_mcnemar_counts_who_alone_is_right():
    labels, ours, theirs = [0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0], [0, 1, 2, 1, 0, 1, 1]
    # ours alone right on faces 1, 2, 4; theirs alone on 5, 6; two-sided exact p of 3 : 2 is 1
    assert metrics.mcnemar(labels, ours, theirs) == (3, 2, 1.0)
    assert metrics.mcnemar([0] * 6, [0] * 6, [1] * 6) == (6, 0, 2 / 64)


def test_paired_differences_have_the_spread_that_theory_gives():
    labels, p = fake(2000)
    _, q = fake(2000, seed=9)
    ours, theirs = p.argmax(axis=1), np.where(labels % 2, p.argmax(axis=1), q.argmax(axis=1))
    table = metrics.paired_scores(labels, ours, theirs, 7, draws=4000)
    for column, answers in (("ours", ours), ("theirs", theirs)):
        for name, value in metrics.scores(metrics.confusion_matrix(labels, answers, 7)).items():
            assert table.loc[name, column] == pytest.approx(value)
    np.testing.assert_allclose(table["difference"], table["ours"] - table["theirs"])
    b, c, _ = metrics.mcnemar(labels, ours, theirs)
    half = 1.96 * np.sqrt(b + c - (b - c) ** 2 / 2000) / 2000
    row = table.loc["accuracy"]
    found = [row["difference"] - row["lo"], row["hi"] - row["difference"]]
    assert found == pytest.approx([half, half], rel=0.1)


def test_a_cells_p_is_mcnemars_among_all_cells():
    labels, p = fake(300, k=3)
    _, q = fake(300, seed=9, k=3)
    ours, theirs = p.argmax(axis=1), q.argmax(axis=1)
    expected = np.empty((3, 3))
    for label in range(3):
        for answer in range(3):
            own = labels == label
            here = (own & (ours == answer) & (theirs != answer)).sum()
            there = (own & (theirs == answer) & (ours != answer)).sum()
            expected[label, answer] = metrics.sign_test(here, there)
    _, found = metrics.paired_cells(labels, ours, theirs, 3)
    np.testing.assert_allclose(found.ravel(), metrics.holm(expected.ravel()))
    assert found.min() < 1


def test_intervals_of_classes_are_wilsons_and_the_bootstraps():
    matrix = np.array([[30, 10, 0], [5, 55, 0], [0, 0, 0]])
    table = metrics.per_class(matrix, "abc", draws=4000)
    lo, hi = metrics.wilson([30, 55], [40, 60])
    np.testing.assert_allclose(table[["recall_lo", "recall_hi"]][:2], np.transpose([lo, hi]))
    lo, hi = metrics.wilson([30, 55], [35, 65])
    np.testing.assert_allclose(table[["precision_lo", "precision_hi"]][:2], np.transpose([lo, hi]))
    assert table["support"].tolist() == [40, 60, 0] and table["predicted"].tolist() == [35, 65, 0]
    assert table["f1"].iloc[:2].tolist() == pytest.approx([60 / 75, 110 / 125])
    # the spread of F1 = 2x / (2x + w) with x right and w wrong of 100 faces, by the delta method
    for row, right, wrong in ((table.loc["a"], 30, 15), (table.loc["b"], 55, 15)):
        slopes = np.array([2 * wrong, -2 * right]) / (2 * right + wrong) ** 2
        counts = np.array([right, wrong])
        sd = np.sqrt(slopes @ (np.diag(counts) - np.outer(counts, counts) / 100) @ slopes)
        assert (row["f1_hi"] - row["f1_lo"]) / 2 == pytest.approx(1.96 * sd, rel=0.1)
        assert row["f1_lo"] < row["f1"] < row["f1_hi"]
    assert np.isnan(table.loc["c", ["recall", "precision", "f1"]].astype(float)).all()
    assert table.loc["c", ["recall_lo", "f1_lo", "recall_hi", "f1_hi"]].tolist() == [0, 0, 1, 1]


def test_intervals_and_order_of_pairs_by_hand():
    matrix = np.array([[900, 20, 80], [600, 400, 0], [0, 45, 555]])
    table = metrics.pairs(matrix, "abc").set_index(["first", "second"])
    assert list(table.index) == [("a", "b"), ("a", "c"), ("b", "c")]
    row, (p, q) = table.loc[("a", "b")], (20 / 1000, 600 / 1000)
    (p_lo, p_hi), (q_lo, q_hi) = metrics.wilson(20, 1000), metrics.wilson(600, 1000)
    assert row["confusability"] == pytest.approx(0.31)
    assert row["lo"] == pytest.approx(0.31 - np.hypot(p - p_lo, q - q_lo) / 2)
    assert row["hi"] == pytest.approx(0.31 + np.hypot(p_hi - p, q_hi - q) / 2)
    assert row["asymmetry_lo"] == pytest.approx(p - q - np.hypot(p - p_lo, q_hi - q))
    assert row["asymmetry_hi"] == pytest.approx(p - q + np.hypot(p_hi - p, q - q_lo))
    # a–b leads for sure; 4 % against 3.75 %: too close with so few faces
    assert table["below"].tolist() == [(), (1,), (1,)]
    assert table["best_rank"].tolist() == [1, 2, 2] and table["worst_rank"].tolist() == [1, 3, 3]
    sure = metrics.pairs(matrix * 100, "abc")
    assert sure["below"].tolist() == [(), (1,), (1, 2)] and sure["worst_rank"].tolist() == [1, 2, 3]


def test_asymmetry_has_fishers_exact_p_among_all_pairs():
    """All tables of the same margins that are no likelier than the one seen."""
    matrix = np.array([[90, 4, 6], [9, 180, 11], [2, 14, 84]])
    expected = []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        (n, m), (x, y) = (matrix[i].sum(), matrix[j].sum()), (matrix[i, j], matrix[j, i])
        ways = [comb(n, a) * comb(m, x + y - a) for a in range(x + y + 1)]
        expected.append(sum(w for w in ways if w <= ways[x]) / sum(ways))
    table = metrics.pairs(matrix, "abc").sort_values(["first", "second"])
    np.testing.assert_allclose(table["asymmetry_p"], metrics.holm(expected))
    assert min(expected) < 0.02 and max(expected) == 1


def test_a_claim_by_hand():
    table = metrics.pairs(np.array([[900, 20, 80], [600, 400, 0], [0, 45, 555]]), "abc")
    said = metrics.claim(table, [("b", "a")])
    assert said["verdict"] == "holds" and said["leaders"]["first"].tolist() == ["a"]
    assert metrics.claim(table, [("a", "b"), ("a", "c")])["verdict"] == "open"
    said = metrics.claim(table, [("a", "c")])
    assert said["verdict"] == "fails" and said["above"]["second"].tolist() == ["b"]
    assert metrics.claim(table, [("a", "x")])["verdict"] == "untestable"


def votes_of_three(cells, k=3):
    """What ``votes_of`` gives for cells (label, prediction, votes of three classes, faces)."""
    names, column = ("Neutral", "Happy", "Surprise"), slice(0, k)
    votes, labels, predicted = [], [], []
    for label, answer, counts, faces in cells:
        row = np.zeros(10, int)
        row[column] = counts
        row[9] = 10 - sum(counts)
        votes += [row] * faces
        labels += [label] * faces
        predicted += [answer] * faces
    part = metrics.vote_aggregates(np.array(votes), labels, predicted, ["Test"] * len(votes), names)
    return metrics.votes_of(part, "Test", metrics.confusion_matrix(labels, predicted, k))


def test_mistakes_and_readings_by_hand():
    part = votes_of_three([
        (0, 0, (9, 1, 0), 50), (0, 1, (2, 8, 0), 6), (0, 1, (7, 3, 0), 3), (0, 1, (5, 5, 0), 1),
        (1, 0, (6, 4, 0), 2), (1, 1, (0, 5, 4), 18), (2, 2, (0, 0, 10), 20), (2, 1, (0, 0, 3), 1),
    ])  # fmt: skip
    table = metrics.mistakes(part).set_index(["first", "second"])
    row = table.loc[("Neutral", "Happy")]
    assert row[["mistakes", "with_network", "with_label", "neither"]].tolist() == [12, 8, 3, 1]
    assert row["share"] == pytest.approx(8 / 12)
    assert [row["lo"], row["hi"]] == pytest.approx([float(v) for v in metrics.wilson(8, 12)])
    # of 60 Neutral faces the crowd calls 6 Happy, of 20 Happy ones 2 Neutral
    assert row["expected"] == pytest.approx((10 * 6 / 60 + 2 * 2 / 20) / 12)
    row = table.loc[("Happy", "Surprise")]  # three of ten for surprise, seven for none of them
    assert row[["mistakes", "with_network", "with_label", "neither"]].tolist() == [1, 0, 0, 1]
    assert table.loc[("all", "all"), "mistakes"] == 13 and len(table) == 3

    by = metrics.accuracy_by_agreement(part).set_index("votes")
    assert by.loc[5, ["faces", "accuracy"]].tolist() == [19, pytest.approx(18 / 19)]
    assert by.loc[3, ["faces", "accuracy"]].tolist() == [1, 0]
    assert by.index.tolist() == [3, 5, 6, 7, 8, 9, 10]
    low, high = metrics.wilson(18, 19)
    assert by.loc[5, ["lo", "hi"]].tolist() == pytest.approx([float(low), float(high)])

    told = metrics.error_readings(part)
    assert told["label"][0] == pytest.approx(13 / 101) and told["label"][3] == 101
    assert told["label_sure"][::3] == (pytest.approx(11 / 81), 81)  # 50 + 6 + 3 + 2 + 20
    assert told["label_confirmed"][::3] == (pytest.approx(3 / 91), 91)  # 50 + 3 + 18 + 20
    # against the crowd, where it has a plurality: 50 + 6 + 2 + 18 + 20 right, 3 wrong
    assert told["crowd"][::3] == (pytest.approx(3 / 99), 99)
    assert told["label"][1:3] == pytest.approx([float(v) for v in metrics.wilson(13, 101)])


def test_the_divergence_of_many_faces_is_that_of_their_rows():
    part = votes_of_three([
        (0, 0, (6, 4, 0), 4000), (0, 1, (8, 2, 0), 4000),
        (1, 0, (6, 4, 0), 1500), (1, 1, (2, 8, 0), 2500),
    ])  # fmt: skip
    table = metrics.people_and_network(part, draws=400)
    # people say 0.7 : 0.3 of the first and 0.35 : 0.65 of the second, the network 1 : 1 and 3 : 5
    for name, answers, people in (("Neutral", (4, 4), (7, 3)), ("Happy", (3, 5), (7, 13))):
        row = table.loc[name]
        assert row["divergence"] == pytest.approx(metrics.divergence(answers, people), abs=5e-4)
        assert row["lo"] <= row["divergence"] <= row["hi"]
    assert table["faces"].tolist() == [8000, 4000]
    assert table.loc["Neutral", "lo"] > 0.01 and table.loc["Happy", "divergence"] < 0.002
    even = votes_of_three([(0, 0, (10, 0, 0), 35), (0, 1, (0, 10, 0), 15)])
    low, value = metrics.people_and_network(even).loc["Neutral", ["lo", "divergence"]]
    assert low == 0 and value < 0.005  # the network answers as the people do, and few faces


def test_agreement_has_the_normal_interval_of_a_mean():
    part = votes_of_three([(0, 0, (8, 2, 0), 30), (0, 1, (5, 5, 0), 20)])
    told, values = metrics.agreement(part), np.repeat([0.8, 0.5], [30, 20])
    half = NormalDist().inv_cdf(0.975) * values.std() / np.sqrt(50)
    expected = values.mean() + half * np.array([0, -1, 1])
    np.testing.assert_allclose(told["prediction"], expected)
    np.testing.assert_allclose(told["label"], expected)
    voter = np.repeat([(8 * 7 + 2 * 1) / 90, 2 * 5 * 4 / 90], [30, 20])
    assert told["voter"][0] == pytest.approx(voter.mean())
    gap = values - voter
    half = NormalDist().inv_cdf(0.975) * gap.std() / np.sqrt(50)
    np.testing.assert_allclose(
        told["prediction_minus_voter"], gap.mean() + half * np.array([0, -1, 1]), atol=1e-9
    )


def test_bootstrapped_probability_scores_spread_as_theory_says():
    labels, p = fake(1500)
    found = metrics.bootstrap_probabilities(labels, p, draws=1500, coverage=(0.3, 1.0))
    plain = metrics.probability_scores(labels, p)
    own = -np.log(p[np.arange(1500), labels])
    brier = ((p - np.eye(7)[labels]) ** 2).sum(axis=1)
    for name, values in (("nll", own), ("brier", brier)):
        value, lo, hi = found[name]
        half = 1.96 * values.std() / np.sqrt(1500)
        assert value == pytest.approx(values.mean()) and (lo + hi) / 2 == pytest.approx(
            value, abs=half / 5
        )
        assert (hi - lo) / 2 == pytest.approx(half, rel=0.1)
    value, lo, hi = found["ece"]
    assert value == pytest.approx(plain["ece"]) and 0 <= lo < hi and lo < value
    wrong = (p.argmax(axis=1) != labels).astype(float)
    value, lo, hi = (v[1] for v in found["risk"])
    assert value == pytest.approx(wrong.mean())
    assert (hi - lo) / 2 == pytest.approx(1.96 * wrong.std() / np.sqrt(1500), rel=0.1)
    surest = np.argsort(-p.max(axis=1))[:450]
    assert found["risk"][0][0] == pytest.approx(wrong[surest].mean())
    assert found["risk"][1][0] < found["risk"][0][0] < found["risk"][2][0] < found["risk"][1][1]


def test_reliability_by_hand():
    labels = [0, 1, 0, 0, 1]
    p = [[0.9, 0.1], [0.8, 0.2], [0.55, 0.45], [0.6, 0.4], [0.4, 0.6]]
    table = metrics.reliability(labels, p, bins=4)  # of (½, ¾] three, of (¾, 1] two
    assert table["faces"].tolist() == [3, 2]
    assert table["confidence"].tolist() == pytest.approx([1.75 / 3, 0.85])
    assert table["accuracy"].tolist() == pytest.approx([1, 0.5])
    low, high = metrics.wilson([3, 1], [3, 2])
    np.testing.assert_allclose(table[["lo", "hi"]], np.transpose([low, high]))
    np.testing.assert_allclose(metrics.tempered([[0.8, 0.2]], 0.5), [[16 / 17, 1 / 17]])
    for coverage in (0, 1.01):
        with pytest.raises(ValueError, match=r"expected shares in \(0, 1\]"):
            kept_faces(coverage, 10)
    assert kept_faces([0.01, 0.25, 1], 10).tolist() == [1, 2, 10]


# --- invariances --------------------------------------------------------------------------------


def test_confusion_rows_sum_to_class_counts():
    labels, p = fake()
    matrix = metrics.confusion_matrix(labels, p.argmax(axis=1), 7)
    assert (matrix.sum(axis=1) == np.bincount(labels, minlength=7)).all()


def test_permuted_classes_give_the_same_pairs_votes_and_verdict():
    labels, p = fake(seed=5)
    order = np.array([3, 0, 6, 2, 5, 1, 4])
    new = np.argsort(order)
    votes = votes_like(labels)
    found = []
    for y, q, names in (
        (labels, p, CLASSES),
        (new[labels], p[:, order], tuple(np.array(CLASSES)[order])),
    ):
        matrix = metrics.confusion_matrix(y, q.argmax(axis=1), 7)
        table = metrics.pairs(matrix, names)
        part = metrics.vote_aggregates(votes, y, q.argmax(axis=1), ["PublicTest"] * len(y), names)
        part = metrics.votes_of(part, "PublicTest", matrix)
        best = {
            frozenset(pair): rest
            for *pair, rest in table[["first", "second", "confusability"]].to_numpy()
        }
        found.append((best, metrics.agreement(part), words.labels_or_network(part)))
    assert found[0][0] == pytest.approx(found[1][0])
    assert found[0][1]["prediction"] == pytest.approx(found[1][1]["prediction"])
    assert found[0][2] == found[1][2]


def test_temperature_undoes_a_planted_one_and_changes_no_answer():
    labels, p = fake(4000, sharpness=2.6)
    # the true posterior of this world is softmax(1.3 x): shifts of 1.3 under unit noise
    warmth = metrics.temperature(labels, p)
    assert warmth == pytest.approx(2.6 / 1.3, rel=0.05)
    cooled = metrics.tempered(p, warmth)
    assert (cooled.argmax(axis=1) == p.argmax(axis=1)).all()
    assert metrics.probability_scores(labels, cooled)["ece"] < 0.03
    assert metrics.TEMPERATURES[0] < metrics.temperature([0, 1], [[0.5, 0.5]] * 2) < 20.01


def test_a_fit_is_not_better_than_itself():
    labels, p = fake()
    answers = p.argmax(axis=1)
    table = metrics.paired_scores(labels, answers, answers, 7, draws=50)
    assert (table[["difference", "lo", "hi"]] == 0).all(axis=None)
    assert metrics.mcnemar(labels, answers, answers) == (0, 0, 1.0)
    change, p_cells = metrics.paired_cells(labels, answers, answers, 7)
    assert not change.any() and (p_cells == 1).all()


def test_paired_cells_are_the_difference_of_the_row_shares():
    labels, p = fake()
    _, q = fake(seed=9)
    ours, theirs = p.argmax(axis=1), q.argmax(axis=1)
    change, _ = metrics.paired_cells(labels, ours, theirs, 7)
    a, b = (metrics.shares(metrics.confusion_matrix(labels, x, 7)) for x in (ours, theirs))
    np.testing.assert_allclose(change, a - b, atol=1e-15)


def test_copies_are_found_pixel_by_pixel():
    images = np.random.default_rng(0).integers(0, 256, (6, 48, 48), dtype=np.uint8)
    images[4] = images[1]
    images[5] = images[3]  # a copy within the test splits is not one of Training
    split = np.array(["Training"] * 3 + ["PublicTest", "PrivateTest", "PrivateTest"])
    assert metrics.copies(images, split)["row"].tolist() == [4]


# --- coverage, by simulation -----------------------------------------------------------------


def test_wilson_covers_frequent_cells_and_rare_ones_better_than_percentiles():
    from scipy.stats import binom

    for n, p in ((55, 0.2), (500, 0.03), (500, 0.1), (880, 0.5)):  # n p ≥ 10
        x = np.arange(n + 1)
        lo, hi = metrics.wilson(x, n)
        assert 0.93 <= binom.pmf(x, n, p)[(lo <= p) & (p <= hi)].sum() <= 0.97
    x = np.arange(56)
    lo, hi = metrics.wilson(x, 55)
    covered = [binom.pmf(x, 55, p)[(lo <= p) & (p <= hi)].sum() for p in (0.005, 0.01, 0.02)]
    assert covered == pytest.approx([0.97, 0.90, 0.98], abs=0.01)  # percentiles: .24, .42, .67


def test_bootstrap_of_composite_scores_covers_the_truth():
    rng, truth = np.random.default_rng(1), metrics.scores(POPULATION)
    inside = dict.fromkeys(truth, 0)
    for seed in range(150):
        matrix = rng.multinomial(3600, POPULATION.ravel()).reshape(7, 7)
        found = metrics.bootstrap_scores(matrix, draws=300, seed=seed)
        for name in truth:
            inside[name] += found[name][1] <= truth[name] <= found[name][2]
    # 95 % of 150 is 142.5 ± 2.7; four standard deviations are left to luck
    assert all(131 <= count <= 150 for count in inside.values()), inside


def test_ranks_hold_together_and_the_leader_is_found():
    rng, seen = np.random.default_rng(2), 0
    support = (3600 * POPULATION.sum(axis=1)).round().astype(int)
    rates = POPULATION / POPULATION.sum(axis=1, keepdims=True)
    truth = metrics.pairs(rates * 1e9, CLASSES)
    value = truth.set_index(["first", "second"])["confusability"]
    found = []
    for _ in range(40):
        matrix = np.array([rng.multinomial(n, p) for n, p in zip(support, rates, strict=True)])
        table = metrics.pairs(matrix, CLASSES)
        true = value.loc[list(zip(table["first"], table["second"], strict=True))].to_numpy()
        # no pair is said to be surely below one that it truly equals or exceeds
        wrong = [
            true[rank - 1] <= true[place] + 1e-12
            for place, below in enumerate(table["below"])
            for rank in below
        ]
        seen += any(wrong)
        found.append(metrics.claim(table, [("Sad", "Fear")])["verdict"])
    assert seen <= 6  # at most 5 % of 40 expected, 2 ± 1.4
    assert "fails" not in found and found.count("holds") > 25


# --- input that is not as it should be -----------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y, p: (y[:-1], p), r"labels \(9,\), probabilities \(10, 7\)"),
        (lambda y, p: (y, p[:, :6]), "6 columns for 7 classes"),
        (lambda y, p: (y[:0], p[:0]), "no faces to score"),
        (lambda y, p: (np.where(y == y[3], -1, y), p), "is -1, outside 0 … 6"),
        (lambda y, p: (np.full(10, 7), p), r"labels\[0\] is 7, outside"),
        (lambda y, p: (y + 0.5, p), "not class indices"),
        (lambda y, p: (y, np.where(np.arange(10)[:, None] == 4, np.nan, p)), r"\[4, 0\] is nan"),
        (lambda y, p: (y, np.log(p)), "expected 0 to 1"),
        (lambda y, p: (y, p * 1.1), "sum to 1.1, not 1; apply softmax"),
    ],
)
def test_bad_probabilities_are_refused(change, message):
    labels, p = change(*fake(10))
    with pytest.raises(ValueError, match=message):
        metrics.summary(labels, p, CLASSES)


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        (np.ones((5, 9), int), r"votes \(5, 9\): expected \(n, 10\)"),
        (np.ones((4, 10), int), "4 votes, 5 labels"),
        (np.ones((5, 10)), "expected counts"),
        (np.full((5, 10), -1), "none below 0"),
        (np.eye(10, dtype=int)[:5], r"votes\[0\] sum to 1"),
    ],
)
def test_votes_that_are_none_are_refused(votes, message):
    five = np.arange(5)
    with pytest.raises(ValueError, match=message):
        metrics.vote_aggregates(votes, five, five, ["PublicTest"] * 5, CLASSES)


def test_votes_that_do_not_belong_are_refused_or_told():
    labels, p = fake(600)
    answers, split = p.argmax(axis=1), ["PublicTest"] * 600
    votes = votes_like(labels)
    found = metrics.vote_aggregates(votes, labels, answers, split, CLASSES)
    with pytest.raises(ValueError, match="no votes for split 'PrivateTest'"):
        metrics.votes_of(found, "PrivateTest")
    with pytest.raises(ValueError, match="belong to other predictions"):
        metrics.votes_of(found, "PublicTest", metrics.confusion_matrix(labels, labels, 7))
    with pytest.raises(ValueError, match="no column of votes stands for 'Bored'"):
        metrics.vote_aggregates(votes, labels, answers, split, ("Bored", *CLASSES[1:]))
    assert "side" in words.labels_or_network(metrics.votes_of(found, "PublicTest"))
    mixed = np.random.default_rng(0).permutation(votes)
    found = metrics.vote_aggregates(mixed, labels, answers, split, CLASSES)
    told = words.labels_or_network(metrics.votes_of(found, "PublicTest"))
    assert "no better than chance" in told


def test_other_refusals_name_the_value():
    with pytest.raises(ValueError, match="differ in length"):
        metrics.confusion_matrix([0, 1], [0], 2)
    with pytest.raises(ValueError, match="differ in length"):
        metrics.mcnemar([0, 1], [0, 1], [0])
    with pytest.raises(ValueError, match="matrix is empty"):
        metrics.scores(np.zeros((7, 7)))
    with pytest.raises(ValueError, match="coverage"):
        metrics.risk_coverage(*fake(10), [0.0])
    with pytest.raises(ValueError, match="between 0 and trials"):
        metrics.wilson(3, 2)


def test_nan_stands_only_where_nothing_can_be_known():
    # class 1 has no face, class 2 is never predicted
    matrix = np.array([[5, 1, 0], [0, 0, 0], [4, 0, 0]])
    table = metrics.per_class(matrix, "abc", draws=200)
    unknown = table.isna()
    assert unknown.loc["b", "recall"] and unknown.loc["c", "precision"] and unknown.sum().sum() == 2
    assert tuple(table.loc["b", ["recall_lo", "recall_hi"]]) == (0, 1)
    assert list(metrics.pairs(matrix, "abc")[["first", "second"]].iloc[0]) == ["a", "c"]
    single = metrics.scores([[3, 0], [0, 0]])
    assert single["mcc"] == single["kappa"] == 0 and single["balanced_accuracy"] == 1
    assert words.said(*table.loc["b", ["recall", "recall_lo", "recall_hi"]]) == "–"


def test_summary_goes_into_json_as_it_is():
    labels, p = fake(50)
    found = metrics.summary(labels, p.astype(np.float32), CLASSES)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    lo, hi = found["accuracy_interval"]
    assert lo < found["accuracy"] < hi and found["n"] == 50


# --- sentences and figures follow the numbers ---------------------------------------------------


def world(pairs_rates, faces=600):
    """A matrix of seven classes with the named confusions (rate in both directions)."""
    rates = np.eye(7)
    for a, b, rate in pairs_rates:
        i, j = CLASSES.index(a), CLASSES.index(b)
        rates[i, j] = rates[j, i] = rate
    np.fill_diagonal(rates, 0)
    np.fill_diagonal(rates, 1 - rates.sum(axis=1))
    return np.round(faces * rates).astype(int)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([("Fear", "Sad", 0.3), ("Fear", "Neutral", 0.3)], "**holds**"),
        ([("Fear", "Sad", 0.3), ("Sad", "Neutral", 0.3)], "**does not hold**"),
        ([(*pair, 0.2) for pair in (*words.CLAIM, ("Sad", "Neutral"))], "**stays open**"),
    ],
)
def test_the_verdict_follows_the_matrix(rates, expected):
    table = metrics.pairs(world(rates), CLASSES)
    assert expected in words.verdict(table, words.CLAIM)


def test_the_verdict_is_withheld_where_nothing_can_be_said():
    matrix = world([("Fear", "Sad", 0.3)])
    matrix[CLASSES.index("Fear")] = 0
    assert "**cannot be tested**" in words.verdict(metrics.pairs(matrix, CLASSES), words.CLAIM)
    assert "guessing" in words.guessing(np.ones((7, 7), int))
    assert "no mistake" in words.guessing(10 * np.eye(7, dtype=int))
    assert words.guessing(world([("Fear", "Sad", 0.3)])) == ""
    assert "no pair" in words.leaders(metrics.pairs(np.diag([9, 0, 0]), "abc"))


def test_the_blame_follows_the_votes():
    labels, p = fake(800)
    answers = p.argmax(axis=1)
    for crowd, expected in ((labels, "network is wrong more"), (answers, "label is in doubt more")):
        votes = votes_like(crowd, strength=30)
        part = metrics.vote_aggregates(votes, labels, answers, ["PublicTest"] * 800, CLASSES)
        assert expected in words.labels_or_network(metrics.votes_of(part, "PublicTest"))


@pytest.mark.whole
def test_figures_are_drawn_for_a_network_that_knows_nothing():
    labels, _ = fake(30)
    labels[labels == 1] = 0
    p = np.full((30, 7), 1 / 7)
    answers = p.argmax(axis=1)
    matrix = metrics.confusion_matrix(labels, answers, 7)
    votes, split = votes_like(labels), ["PublicTest"] * 30
    part = metrics.vote_aggregates(votes, labels, answers, split, CLASSES)
    part = metrics.votes_of(part, "PublicTest", matrix)
    rows, voters = metrics.vote_rows(part)[:, :-1], metrics.voter_confusion(part)
    sure = metrics.bootstrap_probabilities(labels, p, draws=20, coverage=[0.5, 1])
    table = metrics.reliability(labels, p)
    figures = [
        draw.plot_matrices(matrix, CLASSES),
        draw.plot_pairs(metrics.pairs(matrix, CLASSES), words.CLAIM),
        draw.plot_difference(*metrics.paired_cells(labels, answers, answers, 7), CLASSES),
        draw.plot_calibration(table, table, [0.5, 1], sure["risk"]),
        draw.plot_people(metrics.shares(matrix), rows, voters, CLASSES),
        draw.plot_agreement(metrics.accuracy_by_agreement(part), metrics.mistakes(part)),
    ]
    for figure in figures:
        figure.draw_without_rendering()
