"""How often chance alone would make a claim in a sweep over folds, by simulation."""

import numpy as np
import pytest

from segmentation.analysis.statistics import decide, paired_difference

SWEEPS = 2000


def test_pooled_seeds_claim_in_five_percent_where_every_run_as_a_seed_claims_far_more() -> None:
    """Two networks alike, trained at 5 seeds on 5 folds: a seed's trainings start alike, and a fold's see the same
    images, so their differences depend on one another.
    """
    rng = np.random.default_rng(5)
    pooled = single = 0
    for _ in range(SWEEPS):
        fold = rng.normal(0, 1, 5)
        differences = (fold - fold.mean())[None] + rng.normal(0, 1, (5, 1)) + rng.normal(0, 1, (5, 5))
        pooled += decide([differences.mean(1).tolist()])[0].corrected.excludes_zero
        single += decide([differences.ravel().tolist()])[0].corrected.excludes_zero
    assert 0.035 <= pooled / SWEEPS <= 0.065
    assert single / SWEEPS > 0.1


@pytest.mark.parametrize("folds", [3, 5, 10])
def test_the_interval_over_folds_allows_for_shared_training_images(folds: int) -> None:
    """Differences that correlate by the share of a fold in all images, as the correction supposes."""
    rng = np.random.default_rng(folds)
    common = rng.normal(0, np.sqrt(1 / folds), (SWEEPS, 1))
    differences = common + rng.normal(0, np.sqrt(1 - 1 / folds), (SWEEPS, folds))
    missed = {
        overlap: np.mean([paired_difference(row, overlap=overlap).excludes_zero for row in differences.tolist()])
        for overlap in (0.0, 1 / (folds - 1))
    }
    assert missed[0.0] > 0.08
    assert 0.035 <= missed[1 / (folds - 1)] <= 0.065


def test_seeds_do_not_speak_for_other_images_and_folds_do() -> None:
    """Two networks alike over all data sets, of which each favours one of them: at all seeds, so that seeds cannot see
    it. The seeds' means in each fold then hold their noise as well, for which the correction makes the interval wide.
    """
    rng = np.random.default_rng(9)
    seeds = folds = 0
    for _ in range(SWEEPS):
        images = rng.normal(0, np.sqrt(0.2)) + rng.normal(0, np.sqrt(0.8), 5)
        differences = images[None] + rng.normal(0, 1, (5, 5))
        seeds += paired_difference(differences.mean(1).tolist()).excludes_zero
        folds += paired_difference(differences.mean(0).tolist(), overlap=1 / 4).excludes_zero
    assert seeds / SWEEPS > 0.3  # which is why the sentence says of which images it speaks
    assert folds / SWEEPS <= 0.06
