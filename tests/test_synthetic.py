"""The synthetic faces: reproducible, and their truth is true."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from fer_utils import synthetic
from fer_utils.data import EMOTIONS, SPLITS, Faces
from fer_utils.synthetic import MARK, PARTS, PRESETS, Preset

PURE = Preset(intensity=(1, 1), cross_talk=0, drop_out=0)
CLEAN = replace(PRESETS["default"], mark=None)


@pytest.fixture(scope="module")
def some():
    return synthetic.faces(70)


def same(a, b):
    assert a.checksum() == b.checksum()
    for name in ("split", "votes", "action_units", "masks"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_faces_have_the_declared_shapes(some):
    assert isinstance(some, Faces)
    assert (some.images.dtype, some.images.shape) == (np.uint8, (70, 48, 48))
    assert (some.masks.dtype, some.masks.shape) == (bool, (70, 4, 48, 48))
    assert (some.action_units.dtype, some.action_units.shape) == (np.float32, (70, 15))
    assert some.labels.dtype == np.int64
    assert (some.votes.sum(1) == 10).all() and (some.votes >= 0).all()


@pytest.mark.parametrize(
    "preset, checksum",
    [
        ("default", "6657c303ffeb556ee67d772549f3f1067a5deabbf1c1870b487828339a23a8ee"),
        ("hard", "8aa560d2928327e98771e03dc316f944097ac034c4146268fa29dd941fa7d0b6"),
        ("shortcut", "063408955d2bf1cd7c0840a6900ccd4253047c37bf569de9d06d382ec12e2e9a"),
    ],
)
def test_faces_stay_the_same_to_the_bit(preset, checksum):
    # the committed run was trained on them; another picture would be another data set
    drawn, digest = synthetic.faces(70, seed=5, preset=preset), hashlib.sha256()
    for name in ("images", "labels", "votes", "masks", "action_units"):
        digest.update(getattr(drawn, name).tobytes())
    assert digest.hexdigest() == checksum


def test_a_face_does_not_depend_on_how_many_are_drawn(some):
    same(synthetic.faces(61)[:61], some[:61])
    same(synthetic.faces(5), some[:5])


def test_seeds_give_other_people_with_the_same_labels(some):
    other = synthetic.faces(70, seed=1)
    np.testing.assert_array_equal(other.labels, some.labels)
    differing = (other.images != some.images).mean((1, 2))
    assert differing.min() > 0.5


def test_threads_do_not_change_a_pixel(some):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(before, 2))
        same(synthetic.faces(28), some[:28])
    finally:
        torch.set_num_threads(before)


@pytest.mark.whole
def test_another_kind_of_cpu_draws_the_same_grey_levels(some, tmp_path):
    path = tmp_path / "faces.npy"
    code = (
        "import sys, numpy, torch; from fer_utils.synthetic import faces;"
        "assert torch.backends.cpu.get_cpu_capability() == 'DEFAULT';"
        "numpy.save(sys.argv[1], faces(70).images)"
    )
    settings = {"ATEN_CPU_CAPABILITY": "default", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 X86_V3"}
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(path)],
        env=os.environ | settings,
        check=True,
    )
    np.testing.assert_array_equal(np.load(path), some.images)


def test_seventy_faces_in_a_row_hold_every_class_once_in_each_test_split(some):
    for split in SPLITS[1:]:
        assert sorted(some.of(split).labels) == list(range(7))
    assert (some.split == "Training").mean() == 0.8


def test_faces_at_full_intensity_show_their_class_action_units_and_no_others():
    full = synthetic.faces(14, preset=PURE)
    np.testing.assert_allclose(full.action_units, synthetic.PROTOTYPES[full.labels], atol=2**-12)


def test_every_action_unit_moves_pixels_and_belongs_to_one_part():
    assert sorted(unit for units in PARTS.values() for unit in units) == list(
        synthetic.ACTION_UNITS
    )
    still = synthetic.faces(14)[6::7]
    for unit, column in synthetic.COLUMN.items():
        moved = np.zeros_like(still.action_units)
        moved[:, column] = 1
        change = synthetic.difference_map(synthetic.rerender(still, action_units=moved), unit)
        assert (change > 8).sum((1, 2)).min() >= 4, unit


def test_drawing_again_with_its_own_action_units_changes_nothing(some):
    same(synthetic.rerender(some[30:70]), some[30:70])
    neutral = synthetic.faces(14, preset=PURE)[6::7]
    assert synthetic.difference_map(neutral, list(synthetic.ACTION_UNITS)).max() == 0


@pytest.mark.parametrize("part", PARTS)
def test_masks_hold_what_the_part_s_action_units_change(some, part):
    rest = synthetic.rerender(some, part)
    k = list(PARTS).index(part)
    mask = some.masks[:, k] | rest.masks[:, k]
    change = synthetic.difference_map(some, part)
    assert change[mask].sum() > 0.93 * change.sum()
    # what lies outside is paint too thin for the mask: 1/64 of the grey scale
    assert change[~mask].max() <= 255 / 64 + 1
    others = [i for i in range(4) if i != k]
    np.testing.assert_array_equal(some.masks[:, others], rest.masks[:, others])


def test_masks_are_small_and_where_the_parts_are(some):
    share = some.masks.mean((0, 2, 3))
    assert (share > 0.03).all() and (share < 0.12).all()
    height = (some.masks * np.arange(48)[:, None]).sum((2, 3)) / some.masks.sum((2, 3)).clip(1)
    assert (np.diff(height.mean(0)) > 3).all()  # brows above eyes above nose above mouth


def test_something_in_the_way_hides_the_part_from_its_mask(monkeypatch):
    def wall(c, p, x, y, xf, yf):
        c.hide(torch.ones_like(x), 0.5)

    monkeypatch.setattr("fer_utils.synthetic.drawing.in_the_way", wall)
    assert not synthetic.faces(7).masks.any()


def test_windows_of_drawing_lose_no_paint(some, monkeypatch):
    everywhere = [(part, -9, 9) for part, _, _ in synthetic.drawing.REACH]
    monkeypatch.setattr("fer_utils.synthetic.drawing.REACH", everywhere)
    full = synthetic.rerender(some, action_units=np.ones_like(some.action_units))
    monkeypatch.undo()
    same(synthetic.rerender(some, action_units=np.ones_like(some.action_units)), full)


def test_the_planted_mark_gives_one_class_away_and_changes_nothing_else(some):
    marked = synthetic.faces(70, preset="shortcut")
    change = marked.images != some.images
    outside = np.ones((48, 48), bool)
    outside[MARK] = False
    assert not change[:, outside].any()
    carriers = change.any((1, 2))
    sad = some.labels == EMOTIONS.index(PRESETS["shortcut"].mark)
    assert not carriers[~sad].any()
    assert 0.8 < carriers[sad].mean() <= 1


def test_annotators_divide_about_as_people_did_on_fer2013():
    # FER+: the plurality holds .74 of a face's votes on average; .02 contempt, .05 unknown
    index = np.arange(1400)
    preset = PRESETS["default"]
    units = synthetic.draw_action_units(0, index, preset)
    votes = synthetic.draw_votes(units, 0, index, preset)
    assert 0.65 < votes.max(1).mean() / 10 < 0.85
    rare = votes[:, 7:].mean(0) / 10
    assert (rare > 0.002).all() and (rare < 0.08).all()
    plurality = votes[:, :7].argmax(1)
    called = np.array([EMOTIONS.index(name) for name in synthetic.VOTED])[plurality]
    assert 0.85 < (called == index % 7).mean() < 0.97


def test_log_posterior_follows_bayes_rule_on_a_case_done_by_hand():
    # one AU12 of 0.5 and nothing else, fixed intensity 0.5, no drop-out, cross-talk 0.1:
    # Happy expects 6 and 12 at 0.5, 25 at 0.3; Neutral expects nothing
    preset = Preset(intensity=(0.5, 0.5), cross_talk=0.1, drop_out=0)
    units = np.zeros((1, 15))
    units[0, synthetic.COLUMN[12]] = 0.5
    log_p = synthetic.log_posterior(units, preset)[0]
    log_phi = -0.5 * np.log(2 * np.pi) - np.log(0.1)
    below = torch.special.log_ndtr(torch.tensor([-5.0, -3.0], dtype=torch.float64)).numpy()
    happy = log_phi + below.sum()
    neutral = log_phi - 12.5 + 2 * np.log(0.5)
    expected = happy - neutral
    measured = log_p[EMOTIONS.index("Happy")] - log_p[EMOTIONS.index("Neutral")]
    assert measured == pytest.approx(expected, abs=1e-9)


def test_an_observers_error_comes_on_top_of_the_cross_talk():
    # independent errors of .3 and .4 are one of .5
    units = np.random.default_rng(0).random((5, 15))
    added = synthetic.log_posterior(units, Preset(cross_talk=0.3), perception=0.4)
    np.testing.assert_allclose(added, synthetic.log_posterior(units, Preset(cross_talk=0.5)))


def test_posteriors_of_the_generator_are_calibrated():
    # 1400 faces: the mean largest posterior and the share it gets right agree within 4 sd
    hard = synthetic.faces(1, preset="hard").preset
    index = np.arange(1400)
    labels = index % 7
    units = synthetic.draw_action_units(3, index, hard)
    p = np.exp(synthetic.log_posterior(units, hard))
    np.testing.assert_allclose(p.sum(1), 1)
    right = (p.argmax(1) == labels).mean()
    assert abs(right - p.max(1).mean()) < 4 * np.sqrt(right * (1 - right) / 1400)


def test_the_harder_preset_overlaps_more(some):
    hard = synthetic.bayes_accuracy(synthetic.faces(70, preset="hard"))
    assert hard < synthetic.bayes_accuracy(some) - 0.03 < 0.97


def test_selecting_keeps_what_draws_a_face_again(some):
    test = some.of("PublicTest")
    np.testing.assert_array_equal(test.index, np.arange(8, 70, 10))
    same(synthetic.rerender(test), test)
    assert len(some[3]) == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"n": 0}, "n=0: expected a whole number, 1 or above"),
        ({"n": 2.5}, "n=2.5"),
        ({"n": 7, "seed": -1}, "seed=-1: expected a whole number, 0 or above"),
        ({"n": 7, "preset": "easy"}, "preset='easy': expected default, hard, shortcut"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments, complaint):
    with pytest.raises(ValueError) as error:
        synthetic.faces(**arguments)
    assert complaint in str(error.value) and "\n" not in str(error.value)


def test_an_action_unit_may_be_any_kind_of_whole_number(some):
    one, other = (synthetic.difference_map(some[:7], unit) for unit in (12, np.int64(12)))
    np.testing.assert_array_equal(one, other)


def test_unknown_parts_units_and_foreign_faces_are_refused(some):
    with pytest.raises(ValueError, match="no action unit, part or class 'ear'"):
        synthetic.difference_map(some[:1], "ear")
    with pytest.raises(ValueError, match="no action unit, part or class 3"):
        synthetic.difference_map(some[:1], (1, 3))
    with pytest.raises(ValueError, match="only SyntheticFaces"):
        synthetic.rerender(Faces(some.images[:1], some.labels[:1], some.split[:1]))
    with pytest.raises(ValueError, match=r"action_units: \(1, 3\)"):
        synthetic.rerender(some[:1], action_units=np.zeros((1, 3)))
