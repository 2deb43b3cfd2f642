"""What the figures of chapter 3 rest on: the numbers agree with scikit-learn and with paper."""

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from fer_utils import data, metrics
from fer_utils.metrics import annotators, calibration
from fer_utils.plotting import confusion as draw
from fer_utils.plotting import text
from fer_utils.runs import Run

CLASSES = data.EMOTIONS
CLAIM = (("Fear", "Sad"), ("Fear", "Neutral"))


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


def test_imports_neither_torch_nor_a_second_of_statistics():
    code = (
        "import sys; from fer_utils import metrics; "
        "assert not {'sklearn', 'scipy.stats', 'torch'} & set(sys.modules), 'too much'"
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
    table = metrics.per_class(matrix, CLASSES)
    expected = oracle.precision_recall_fscore_support(labels, answers, labels=range(7))
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(table[name], values, atol=1e-12)


def test_wilsons_interval_is_scipys():
    for x, n in ((0, 55), (1, 55), (13, 55), (55, 55), (400, 879)):
        told = stats.binomtest(x, n).proportion_ci(0.95, method="wilson")
        np.testing.assert_allclose(metrics.wilson(x, n), (told.low, told.high), atol=1e-9)


# --- examples worked by hand ------------------------------------------------------------------


def test_holm_by_hand():
    np.testing.assert_allclose(metrics.holm([0.04, 0.01, 0.03]), [0.06, 0.03, 0.06])
    np.testing.assert_allclose(metrics.holm([0.5, 0.6]), [1, 1])


def test_divergence_of_same_and_of_disjoint_rows():
    assert metrics.divergence([1, 2, 0], [2, 4, 0]) == pytest.approx(0)
    assert metrics.divergence([1, 0], [0, 3]) == pytest.approx(1)


def test_mcnemar_counts_who_alone_is_right():
    labels, ours, theirs = [0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0], [0, 1, 2, 1, 0, 1, 1]
    # ours alone right on faces 1, 2, 4; theirs alone on 5, 6; two-sided exact p of 3 : 2 is 1
    assert metrics.mcnemar(labels, ours, theirs) == (3, 2, 1.0)
    assert metrics.mcnemar([0] * 6, [0] * 6, [1] * 6) == (6, 0, 2 / 64)


def test_a_side_is_favoured_where_the_sign_test_says_so():
    assert metrics.favoured(15, 5) == "first" and metrics.favoured(5, 15) == "second"
    assert metrics.sign_test(14, 6) > 0.05 and metrics.favoured(14, 6) == "neither"
    assert metrics.sign_test(0, 0) == 1 and metrics.favoured(0, 0) == "neither"


def test_disagreement_is_that_of_the_closest_and_the_furthest_two():
    assert metrics.disagreement([[0, 1, 2, 0], [0, 1, 2, 1], [0, 0, 0, 1]]) == (0.25, 0.75)
    assert metrics.disagreement([[0, 1]]) == (0, 0)


def test_cells_are_the_difference_of_shares_with_mcnemars_p_among_all_cells():
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
    change, found = metrics.paired_cells(labels, ours, theirs, 3)
    np.testing.assert_allclose(found.ravel(), metrics.holm(expected.ravel()))
    assert found.min() < 1
    a, b = (metrics.shares(metrics.confusion_matrix(labels, x, 3)) for x in (ours, theirs))
    np.testing.assert_allclose(change, a - b, atol=1e-15)


def test_intervals_of_classes_are_wilsons_and_the_bootstraps():
    matrix = np.array([[30, 10, 0], [5, 55, 0], [0, 0, 0]])
    table = metrics.per_class(matrix, "abc")
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


def test_pairs_by_hand_with_their_order():
    matrix = np.array([[900, 20, 80], [600, 400, 0], [0, 45, 555]])
    table = metrics.pairs(matrix, "abc").set_index(["first", "second"])
    assert list(table.index) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert table["rank"].tolist() == [1, 2, 3]
    names = ["first_as_second", "second_as_first", "confusability"]
    assert table.loc[("a", "b"), names].tolist() == pytest.approx([0.02, 0.6, 0.31])
    # a–b leads significantly; 4 % against 3.75 %: too close with so few faces
    assert table["below"].tolist() == [(), (1,), (1,)]
    assert metrics.pairs(matrix * 100, "abc")["below"].tolist() == [(), (1,), (1, 2)]


def test_two_pairs_that_share_a_row_differ_less_surely_than_independent_ones():
    # b is taken for a (45 %) or for c (35 %): sd of the difference √(.79/n), so z is 1.6 and 3.4
    for n, below in ((200, [(), ()]), (900, [(), (1,)])):
        row = [round(0.45 * n), round(0.2 * n), round(0.35 * n)]
        table = metrics.pairs(np.array([[10**6, 0, 0], row, [0, 0, 10**6]]), "abc")
        assert table["below"].tolist()[:2] == below


def test_a_claim_by_hand():
    table = metrics.pairs(np.array([[900, 20, 80], [600, 400, 0], [0, 45, 555]]), "abc")
    said = metrics.claim(table, [("b", "a")])
    assert said["verdict"] == "holds" and said["rows"]["first"].tolist() == ["a"]
    assert metrics.claim(table, [("a", "b"), ("a", "c")])["verdict"] == "open"
    said = metrics.claim(table, [("a", "c")])
    assert said["verdict"] == "fails" and said["above"]["second"].tolist() == ["b"]
    assert metrics.claim(table, [("a", "x")])["verdict"] == "untestable"


def votes_of_three(cells):
    """Arrays (votes, labels, predicted, classes) of cells (label, prediction, votes, faces)."""
    votes, labels, predicted = [], [], []
    for label, answer, counts, faces in cells:
        row = [*counts, *[0] * (9 - len(counts)), 10 - sum(counts)]
        votes += [row] * faces
        labels += [label] * faces
        predicted += [answer] * faces
    return np.array(votes), np.array(labels), np.array(predicted), ("Neutral", "Happy", "Surprise")


SOME = [
    (0, 0, (9, 1, 0), 50), (0, 1, (2, 8, 0), 6), (0, 1, (7, 3, 0), 3), (0, 1, (5, 5, 0), 1),
    (1, 0, (6, 4, 0), 2), (1, 1, (0, 5, 4), 18), (2, 2, (0, 0, 10), 20), (2, 1, (0, 0, 3), 1),
]  # fmt: skip


def test_the_crowds_answer_is_the_plurality_of_ten_columns():
    votes = np.zeros((5, 10), int)
    votes[0, [4, 6, 7]] = 4, 3, 3  # anger
    votes[1, [4, 6]] = 5, 5  # a tie
    votes[2, [0, 7]] = 4, 6  # contempt
    votes[3, [0, 7, 8, 9]] = 4, 2, 2, 2  # neutral: the other answers do not stand together
    votes[4, [1, 2]] = 7, 3
    assert metrics.crowd_answer(votes).tolist() == [0, -1, -1, 6, 3]
    assert metrics.crowd_answer(votes).tolist() == data.plurality(votes).tolist()
    assert metrics.crowd_answer(votes, ("Neutral", "Angry")).tolist() == [1, -1, -1, 0, -1]
    assert metrics.clear_majority(votes).tolist() == [False, False, False, False, True]
    assert annotators.votes_by_class(votes, ("Angry", "Fear"))[0].tolist() == [4, 3, 3]


def test_two_voters_by_hand():
    # one face, votes 7 anger, 2 fear, 1 contempt, label Angry, answer Fear
    votes = np.zeros((1, 10), int)
    votes[0, [4, 6, 7]] = 7, 2, 1
    np.testing.assert_allclose(metrics.vote_rows(votes, [0])[0], [0.7, 0, 0.2, 0, 0, 0, 0, 0.1])
    told = metrics.agreement(votes, [0], [2])["value"]
    assert told.tolist() == pytest.approx([0.2, 0.7, (42 + 2) / 90, 0.2 - 44 / 90])


def test_agreement_is_the_mean_over_faces_with_its_normal_interval():
    labels, p = fake(50)
    votes, answers = votes_like(labels), p.argmax(axis=1)
    share = annotators.votes_by_class(votes)[np.arange(50), labels] / 10
    row = metrics.agreement(votes, labels, answers).loc["label"]
    half = 1.959964 * share.std() / np.sqrt(50)
    assert row.tolist() == pytest.approx([share.mean(), share.mean() - half, share.mean() + half])


def test_mistakes_by_hand():
    table = metrics.mistakes(*votes_of_three(SOME))
    columns = ["mistakes", "with_network", "with_label", "with_nobody"]
    assert table.loc[0, ["first", "second", "mistakes"]].tolist() == ["all", "all", 13]
    row = table.loc[1]
    assert [row["first"], row["second"], *row[columns]] == ["Neutral", "Happy", 12, 8, 3, 1]
    # of 60 Neutral faces the crowd calls 6 Happy, of 20 Happy ones 2 Neutral
    assert row["expected"] == pytest.approx((10 * 6 / 10 + 2 * 2 / 2) / 12)
    # three of ten for surprise, seven for 'no face'
    assert table.loc[2, columns].tolist() == [1, 0, 0, 1] and len(table) == 3


def test_readings_by_hand():
    found = metrics.readings(*votes_of_three(SOME))
    assert found["faces"].to_dict() == {"every": 101, "decided": 99, "clear": 81, "confirmed": 91}
    wrong = {"every": 13, "decided": 11, "clear": 11, "confirmed": 3}
    for name, row in found.iterrows():
        n = row["faces"]
        assert row["network"] == pytest.approx(1 - wrong[name] / n)
        expected = np.ravel(metrics.wilson(n - wrong[name], n))
        assert row[["lo", "hi"]].tolist() == pytest.approx(expected)
    # the crowd names another class on 6 + 2 faces, and on 2 none
    assert found["crowd"].tolist() == pytest.approx([91 / 101, 91 / 99, 73 / 81, 1])
    # decided: both are right, or wrong, but on 3 faces where the crowd alone is right
    assert found.loc["decided", "p"] == metrics.sign_test(0, 3)
    assert set(found["favoured"]) == {"neither"}
    for answer, votes, side in ((0, (1, 9, 0), "first"), (1, (9, 1, 0), "second")):
        found = metrics.readings(*votes_of_three([(0, answer, votes, 20)]))
        assert found.loc["decided", "favoured"] == side


def test_of_faces_that_are_not_there_nothing_is_known():
    found = metrics.readings(*votes_of_three([(0, 0, (5, 5, 0), 3)]))  # undecided, all of them
    row = found.loc["decided"]
    assert row[["faces", "lo", "hi", "p", "favoured"]].tolist() == [0, 0, 1, 1, "neither"]
    assert np.isnan(row["network"]) and np.isnan(row["crowd"])


def test_people_give_the_label_more_or_less_often_by_how_it_is_counted():
    votes, labels, _, classes = votes_of_three(SOME)
    found = metrics.label_agreement(votes, labels, classes)
    shares = [(50 * 0.9 + 6 * 0.2 + 3 * 0.7 + 0.5) / 60, (2 * 0.4 + 18 * 0.5) / 20, 20.3 / 21]
    faces = np.array([60, 20, 21])
    assert found["value"].tolist() == pytest.approx(
        [np.mean(shares), faces @ shares / 101, 91 / 101, 91 / 99]
    )
    assert found["faces"].tolist() == [101, 101, 101, 99]


def test_the_divergence_of_many_faces_is_that_of_their_rows():
    cells = [
        (0, 0, (6, 4, 0), 4000), (0, 1, (8, 2, 0), 4000),
        (1, 0, (6, 4, 0), 1500), (1, 1, (2, 8, 0), 2500),
    ]  # fmt: skip
    table = metrics.people_and_network(*votes_of_three(cells), draws=200)
    # people say 0.7 : 0.3 of the first and 0.35 : 0.65 of the second, the network 1 : 1 and 3 : 5
    for name, answers, people in (("Neutral", (4, 4), (7, 3)), ("Happy", (3, 5), (7, 13))):
        row = table.loc[name]
        assert row["divergence"] == pytest.approx(metrics.divergence(answers, people), abs=5e-4)
        assert row["lo"] <= row["divergence"] <= row["hi"]
    assert table["faces"].tolist() == [8000, 4000]
    assert table.loc["Neutral", "lo"] > 0.01 and table.loc["Happy", "divergence"] < 0.002


def test_the_divergence_is_unbiased_where_votes_and_answers_are_of_the_same_faces():
    """People lean to the network's answer on each face, so their rows vary together."""
    rng, found = np.random.default_rng(0), []
    truth = metrics.divergence([0.5, 0.5], [0.68, 0.32])
    for _ in range(60):
        answers = rng.integers(0, 2, 60)
        first = np.where(answers == 0, rng.binomial(10, 0.96, 60), rng.binomial(10, 0.4, 60))
        cells = [(0, a, (v, 10 - v, 0), 1) for a, v in zip(answers, first, strict=True)]
        table = metrics.people_and_network(*votes_of_three(cells), draws=200)
        found.append(table.loc["Neutral", "divergence"])
    # 0.024 bits; 0.019 where votes and answers are drawn apart
    assert np.mean(found) == pytest.approx(truth, abs=3.5 * np.std(found) / np.sqrt(60))


def test_the_gap_of_a_pair_is_that_of_voters_and_network():
    # a voter takes either for the other in 4 of 10; the network Neutral for Happy in one of four
    cells = [(0, 0, (6, 4, 0), 300), (0, 1, (6, 4, 0), 100), (1, 1, (4, 6, 0), 400),
             (2, 2, (0, 0, 10), 50)]  # fmt: skip
    table = metrics.pair_gaps(*votes_of_three(cells)).set_index(["first", "second"])
    row = table.loc[("Neutral", "Happy")]
    assert row["voters"] == pytest.approx(0.4) and row["network"] == pytest.approx(0.125)
    assert row["gap"] == pytest.approx(row["voters"] - row["network"])
    assert table.index[0] == ("Neutral", "Happy") and (table.iloc[1:]["gap"] == 0).all()


def test_the_votes_of_faces_are_found_by_their_row():
    votes = np.random.default_rng(0).multinomial(10, [0.1] * 10, 3).astype(np.uint8)
    stored = {"row": np.array([7, 3, 5]), "votes": votes}
    assert metrics.votes_of(stored, [5, 7]).tolist() == votes[[2, 0]].tolist()
    with pytest.raises(ValueError, match="face 4 has no votes"):
        metrics.votes_of(stored, [3, 4])


def test_the_real_run_ships_the_votes_of_the_faces_that_it_predicted():
    run = Run.load("fer2013")
    stored = run.read("votes")
    assert "MIT License" in str(stored["notice"]) and stored["votes"].dtype == np.uint8
    votes = metrics.votes_of(stored, run.predictions.query("split == 'PrivateTest'")["row"])
    assert metrics.clear_majority(votes).sum() == 2720
    assert (metrics.crowd_answer(votes, run.classes) >= 0).sum() == 3350


def test_reliability_by_hand(monkeypatch):
    labels = [0, 1, 0, 0, 1]
    p = [[0.9, 0.1], [0.8, 0.2], [0.55, 0.45], [0.6, 0.4], [0.4, 0.6]]
    with monkeypatch.context() as patch:
        patch.setattr(calibration, "BINS", 2)
        table = metrics.reliability(labels, p)  # .55, .6, .6 and .8, .9
    assert table["faces"].tolist() == [3, 2]
    assert table["confidence"].tolist() == pytest.approx([1.75 / 3, 0.85])
    assert table["accuracy"].tolist() == pytest.approx([1, 0.5])
    low, high = metrics.wilson([3, 1], [3, 2])
    np.testing.assert_allclose(table[["lo", "hi"]], np.transpose([low, high]))
    assert len(metrics.reliability(labels, p)) == 5  # not more bins than faces


def test_the_null_band_holds_a_calibrated_network_and_no_other():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(7), 1500)
    inside = 0
    for _ in range(40):
        drawn = (p.cumsum(axis=1) < rng.random((1500, 1))).sum(axis=1)
        found = metrics.calibration_error(drawn, p, draws=300)
        inside += found["null_lo"] <= found["ece"] <= found["null_hi"]
    assert inside >= 34  # 38 ± 1.4 of 40 expected
    assert found["ece"] == calibration.probability_scores(drawn, p)["ece"]
    for power, verdict in ((2.5, "overconfident"), (1 / 3, "underconfident")):
        bent = p**power / (p**power).sum(axis=1, keepdims=True)
        assert metrics.calibration_error(drawn, bent)["verdict"] == verdict
    half = np.array([[0.6, 0.4], [0.9, 0.1]]).repeat(500, axis=0)  # right on 75 % of each
    found = metrics.calibration_error(np.tile([0, 0, 0, 1], 250), half)
    assert found["verdict"] == "miscalibrated" and found["ece"] == pytest.approx(0.15)
    calibrated = metrics.calibration_error(*fake(1500, sharpness=1.3))
    assert calibrated["verdict"] == "calibrated" and calibrated["null_lo"] > 0


# --- several networks on the same faces ---------------------------------------------------------


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


def test_a_face_without_a_score_is_left_out():
    values = np.array([[1.0, 3.0, np.nan, np.nan], [2.0, 4.0, np.nan, np.nan]])
    mean, lo, hi = metrics.crossed_interval(values)
    assert mean == 2.5 and 0.79 < lo < hi < 4.21  # √2 × the networks' ± 0.5 about 1.5 … 3.5
    with pytest.raises(ValueError, match="no face"):
        metrics.crossed_means(np.full((2, 3), np.nan))


def several(seed, networks=3, n=200, k=4):
    """Labels (n,) and probabilities (networks, n, k) of networks a little better than chance."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    p = rng.dirichlet(np.ones(k), (networks, n)) + 0.2 * np.eye(k)[labels]
    return labels, p / p.sum(2, keepdims=True)


def test_scores_of_several_networks_are_the_mean_of_each_ones():
    labels, p = several(0)
    found = metrics.crossed_scores(labels, p)
    each = [metrics.summary(labels, one, "abcd") for one in p]
    assert set(found) == set(each[0]) - {"n", "accuracy_interval"}
    for name, (mean, sd, lo, hi) in found.items():
        values = [one[name] for one in each]
        assert [mean, sd] == pytest.approx([np.mean(values), np.std(values, ddof=1)])
        assert np.isnan([lo, hi]).all() if name == "ece" else lo < mean < hi
    hits = (p.argmax(2) == labels).astype(float)
    lo, hi = metrics.crossed_interval(hits[:, None])[1:]
    assert found["accuracy"][2:] == pytest.approx((lo[0], hi[0]))


def test_bounds_of_scores_stay_where_scores_can_be():
    labels = np.arange(200) % 4
    p = np.full((3, 200, 4), 1e-9) + np.eye(4)[labels]
    p[2, :80] = np.roll(p[2, :80], 1, axis=1)  # two of three networks know all
    found = metrics.crossed_scores(labels, p / p.sum(2, keepdims=True))
    assert found["accuracy"][3] == 1 and found["kappa"][3] == 1 and found["nll"][2] == 0


def test_scores_of_one_network_are_bootstrapped_over_faces_alone():
    labels, p = several(1, networks=1, n=400)
    found = metrics.crossed_scores(labels, p)
    matrix = metrics.confusion_matrix(labels, p[0].argmax(1), 4)
    many = np.concatenate([metrics.resampled(matrix, seed) for seed in range(5)])
    drawn = metrics.scores(many)
    for name, value in metrics.scores(matrix).items():
        mean, sd, low, high = found[name]
        lo, hi = np.quantile(drawn[name], [0.025, 0.975])
        assert mean == pytest.approx(float(value)) and np.isnan(sd)
        assert (low, high) == pytest.approx((lo, hi), abs=0.12 * (hi - lo))  # 2,000 draws
    same = metrics.crossed_scores(labels, np.concatenate([p, p]))
    assert same["mcc"][1] == 0 and same["nll"][2:] == pytest.approx(found["nll"][2:])


def test_pairs_of_several_networks_are_the_mean_of_each_ones():
    labels, p = several(2)
    predicted = p.argmax(axis=2)
    table = metrics.crossed_pairs(labels, predicted, "abcd")
    assert table["confusability"].is_monotonic_decreasing and len(table) == 6
    own = [metrics.pairs(metrics.confusion_matrix(labels, one, 4), "abcd") for one in predicted]
    for index, one in enumerate(own):
        for row in one.itertuples():
            mine = table[(table["first"] == row.first) & (table["second"] == row.second)].iloc[0]
            assert mine["ranks"][index] == row.rank
            assert mine["each"][index] == pytest.approx(row.confusability)
    assert table["confusability"].tolist() == pytest.approx(list(map(np.mean, table["each"])))
    assert table["confusability"].between(table["lo"], table["hi"], "neither").all()
    # one network: each direction's rate has the binomial spread, its faces being drawn again
    first = metrics.crossed_pairs(labels, predicted[:1], "abcd").iloc[0]
    i, j = ("abcd".index(first[side]) for side in ("first", "second"))
    share = metrics.shares(metrics.confusion_matrix(labels, predicted[0], 4))
    n = np.bincount(labels)
    spread = sum(share[a, b] * (1 - share[a, b]) / n[a] for a, b in ((i, j), (j, i)))
    width = first["hi"] - first["lo"]
    assert width == pytest.approx(1.96 * np.sqrt(spread), rel=0.12)


# --- coverage, by simulation -----------------------------------------------------------------


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
        # no pair is put significantly below one that it truly equals or exceeds
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
        (lambda y, p: (y + 0.5, p), "not class indices"),
        (lambda y, p: (y, np.where(np.arange(10)[:, None] == 4, np.nan, p)), r"\[4\] are \[nan"),
        (lambda y, p: (y, np.log(p)), r"\[0\] are \[-.*apply softmax"),
        (lambda y, p: (y, p * 1.1), "summing to 1; apply softmax"),
    ],
)
def test_bad_probabilities_are_refused(change, message):
    labels, p = change(*fake(10))
    with pytest.raises(ValueError, match=message):
        metrics.summary(labels, p, CLASSES)


def test_other_refusals_name_the_value():
    one = np.ones((1, 10), int)
    for votes, says in (
        (one[:, :9], r"int64 \(1, 9\): expected counts, a column each of neutral"),
        (one / 2, r"float64 \(1, 10\): expected counts"),
        (-one, "expected counts"),
        (np.eye(10, dtype=int)[:1], r"votes\[0\] sum to 1"),
    ):
        with pytest.raises(ValueError, match=says):
            annotators.votes_by_class(votes)
    with pytest.raises(ValueError, match="no column of votes stands for 'Bored'"):
        annotators.votes_by_class(one, ("Bored", *CLASSES[1:]))
    with pytest.raises(ValueError, match="differ in length"):
        metrics.confusion_matrix([0, 1], [0], 2)
    with pytest.raises(ValueError, match="differ in length"):
        metrics.mcnemar([0, 1], [0, 1], [0])
    for of in (metrics.scores, metrics.beats_guessing):
        with pytest.raises(ValueError, match="matrix is empty"):
            of(np.zeros((7, 7), int))
    with pytest.raises(ValueError, match="labels of type <U5 are not class indices"):
        metrics.confusion_matrix(["Angry"], [0], 7)


def test_nan_stands_only_where_nothing_can_be_known():
    # class 1 has no face, class 2 is never predicted
    matrix = np.array([[5, 1, 0], [0, 0, 0], [4, 0, 0]])
    table = metrics.per_class(matrix, "abc")
    unknown = table.isna()
    assert unknown.loc["b", "recall"] and unknown.loc["c", "precision"] and unknown.sum().sum() == 2
    assert tuple(table.loc["b", ["recall_lo", "recall_hi"]]) == (0, 1)
    assert list(metrics.pairs(matrix, "abc")[["first", "second"]].iloc[0]) == ["a", "c"]
    single = metrics.scores([[3, 0], [0, 0]])
    assert single["mcc"] == single["kappa"] == 0 and single["balanced_accuracy"] == 1
    assert text.said(*table.loc["b", ["recall", "recall_lo", "recall_hi"]]) == "–"


def test_summary_goes_into_json_as_it_is():
    labels, p = fake(50)
    found = metrics.summary(labels, p.astype(np.float32), CLASSES)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    lo, hi = found["accuracy_interval"]
    assert lo < found["accuracy"] < hi and found["n"] == 50


# --- verdicts and figures follow the numbers ----------------------------------------------------


def test_the_verdict_is_withheld_where_nothing_can_be_said():
    matrix = np.eye(7, dtype=int) * 60 + 10
    assert metrics.beats_guessing(matrix)
    assert not metrics.beats_guessing(np.ones((7, 7), int))
    matrix[CLASSES.index("Fear")] = 0
    assert metrics.claim(metrics.pairs(matrix, CLASSES), CLAIM)["verdict"] == "untestable"
    assert metrics.pairs(np.diag([9, 0, 0]), "abc").empty
    assert metrics.unanimous(["fails", "fails"]) == "fails"
    assert metrics.unanimous(["fails", "holds"]) == "open"


def test_lists_and_shares_as_text():
    assert text.listed([]) == "none" and text.listed("a") == "a"
    assert text.listed("abc") == "a, b and c" and text.listed("ab", last="or") == "a or b"
    assert text.said_percent(0.412, 0.391, 0.433) == "41 % [39, 43]"


@pytest.mark.whole
def test_figures_are_drawn_for_a_network_that_knows_nothing():
    labels, _ = fake(30)
    labels[labels == 1] = 0
    p = np.full((30, 7), 1 / 7)
    answers = p.argmax(axis=1)
    matrix = metrics.confusion_matrix(labels, answers, 7)
    votes = votes_like(labels)
    voters = metrics.vote_rows(votes, labels)[:, :-1]
    pairs = metrics.crossed_pairs(labels, answers[None], CLASSES)
    curves = {"run": dict.fromkeys(CLASSES, (np.ones(2), np.arange(2)))}
    figures = [
        draw.plot_matrices(matrix, CLASSES),
        draw.plot_pairs(pairs, CLAIM, (voters + voters.T) / 2, CLASSES),
        draw.plot_difference(*metrics.paired_cells(labels, answers, answers, 7), CLASSES),
        draw.plot_precision_recall(curves, dict.fromkeys(CLASSES[:2], 0.1)),
        draw.plot_calibration({"run": metrics.reliability(labels, p)}),
        draw.plot_people(metrics.shares(matrix), voters, CLASSES),
        draw.plot_mistakes(metrics.mistakes(votes, labels, answers)),
    ]
    for figure in figures:
        figure.draw_without_rendering()
