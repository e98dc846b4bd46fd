"""The statistics against worked examples, and by simulation: how often they claim what is not there."""

import itertools

import numpy as np
import pytest

from segmentation.analysis.bootstrap import find_units, image_bootstrap
from segmentation.analysis.metrics import metric, scores
from segmentation.analysis.statistics import (
    decide,
    holm,
    mean_and_spread,
    paired_difference,
    seeds_needed,
    sign_flip,
)

SWEEPS = 2000


def test_paired_difference_by_hand() -> None:
    # Student's sleep data (1908): the ten differences, their t = 4.0621, p = 0.002833, interval 0.7001 to 2.4599.
    result = paired_difference([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    assert result.mean == pytest.approx(1.58)
    assert result.spread == pytest.approx(1.2300, abs=1e-4)
    assert [result.low, result.high] == pytest.approx([0.7001, 2.4599], abs=1e-4)
    assert result.p_value == pytest.approx(0.002833, abs=1e-6)
    assert result.excludes_zero


def test_too_little_to_say_anything() -> None:
    one = paired_difference([0.3])
    assert (one.mean, one.low, one.high, one.p_value, one.excludes_zero) == (0.3, None, None, None, False)
    assert paired_difference([0.1, 0.1]).low == pytest.approx(0.1)
    assert not paired_difference([-1.0, 1.0]).excludes_zero
    assert mean_and_spread([2.0]) == (2.0, None)
    assert sign_flip([0.3]) == (1.0, 1.0)


def test_sign_flip_counts_every_assignment() -> None:
    assert sign_flip([1, 2, 3, 4, 5]) == (0.0625, 0.0625)
    values = np.array([1.0, -2.0, 3.5, 0.5, 2.0, -0.25])
    signs = np.array(list(itertools.product([1, -1], repeat=6)))
    as_far = np.abs((signs * values).mean(1)) >= abs(values.mean()) - 1e-12
    assert sign_flip(values.tolist()).p_value == pytest.approx(as_far.mean())


def test_darwins_maize() -> None:
    # Fisher (1935) went through all 32,768 assignments of signs to Darwin's fifteen differences: 1,726 are as far.
    maize = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    assert sign_flip(maize).p_value == pytest.approx(1726 / 32768)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_seeds_needed_as_in_tables_of_power() -> None:
    # Cohen's effects of 1, 0.5 and 0.2 at 80 % power, two-sided 5 %: 10, 34 and 199 pairs.
    assert [seeds_needed(effect, 1) for effect in (1.0, -0.5, 0.2)] == [10, 34, 199]
    assert seeds_needed(0.001, 1) is None
    assert seeds_needed(0.0, 1) is None
    # By numerical integration 2 pairs have powers of 0.20 and 0.46, 3 of 0.98 and 1; scipy's other tail is no number.
    assert [seeds_needed(effect, 1, alpha=0.01) for effect in (11.67, 27.34)] == [3, 3]


def test_an_interval_leaves_out_zero_exactly_where_the_corrected_p_value_is_small() -> None:
    rng = np.random.default_rng(1)
    claims = 0
    for _ in range(300):
        family = rng.normal(rng.uniform(0, 2), 1, (rng.integers(1, 6), 4)).tolist()
        for decision in decide(family):
            assert decision.adjusted_p is not None
            assert decision.corrected.excludes_zero == (decision.adjusted_p < 0.05)
            claims += decision.corrected.excludes_zero
    assert claims > 30
    assert [decision.family for decision in decide([[0.1], [0.1, 0.2]])] == [1, 1]


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_single_pair_without_effect_is_claimed_in_five_percent(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    claimed = sum(decide([rng.normal(0, 1, seeds).tolist()])[0].corrected.excludes_zero for _ in range(SWEEPS))
    assert 0.035 <= claimed / SWEEPS <= 0.065


def test_a_family_without_effect_claims_one_in_at_most_five_percent() -> None:
    rng = np.random.default_rng(7)
    claimed = 0
    for _ in range(SWEEPS):
        base = rng.normal(0, 1, 5)  # all cells are compared with one, so their differences depend on one another
        family = [(rng.normal(0, 1, 5) - base).tolist() for _ in range(4)]
        claimed += any(decision.corrected.excludes_zero for decision in decide(family))
    assert claimed / SWEEPS <= 0.065


def test_intervals_cover_the_true_difference() -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(SWEEPS):
        result = paired_difference(rng.normal(0.4, 1, 5).tolist())
        assert result.low is not None
        assert result.high is not None
        covered += result.low <= 0.4 <= result.high
    assert covered / SWEEPS == pytest.approx(0.95, abs=0.015)


def test_units_are_videos_then_blocks_then_images() -> None:
    names = [f"{index % 6}_{index}" for index in range(18)]
    many = find_units(names, "([^_]+)_")
    assert (many.number, many.other_videos, many.words) == (6, True, "6 videos")
    assert many.of_image[0] == many.of_image[6] != many.of_image[1]
    few = find_units([f"{index // 9}_{index}" for index in range(18)], "([^_]+)_")
    assert (few.number, few.other_videos) == (6, False)  # 4 + 4 + 1 frames of each of two videos
    assert few.of_image.tolist() == [0] * 4 + [1] * 4 + [2] + [3] * 4 + [4] * 4 + [5]
    assert find_units(names, None).number == 18


def test_bootstrap_covers_the_difference_between_two_networks() -> None:
    """Images differ in how hard they are; both networks see the same ones, so only their difference matters."""
    rng = np.random.default_rng(3)
    covered, trials = 0, 200
    for _ in range(trials):
        hard = rng.uniform(0.3, 0.9, 40)
        gain = rng.normal(0.02, 0.05, 40)
        counts = [[np.array([[round(1000 * share), 1000 - round(1000 * share)], [0, 0]]) for share in part]
                  for part in (hard, hard + gain)]  # fmt: skip
        units = find_units([str(index) for index in range(40)], None)
        spread = image_bootstrap([np.array(counts[0])], [np.array(counts[1])], units, "pixel_accuracy", draws=400)
        covered += spread.low <= 0.02 <= spread.high
    assert 0.9 <= covered / trials <= 0.98


def test_metrics_of_many_matrices_are_those_of_each() -> None:
    confusions = np.random.default_rng(0).integers(0, 50, (3, 4, 4))
    confusions[1, 2] = 0
    for name in ("pixel_accuracy", "mean_iou", "mean_accuracy", "mean_dice"):
        single = [scores(confusion, list("abcd"))[name] for confusion in confusions]
        assert metric(name, confusions).tolist() == pytest.approx(single)
