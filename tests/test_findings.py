"""What a report claims of made-up sweeps whose answer is known."""

import json
from pathlib import Path

import pytest

from segmentation.analysis.cells import find_cells, find_pairs
from segmentation.analysis.context import context_or_capacity
from segmentation.analysis.findings import Finding, as_row, images_sentence, judge, sentence
from segmentation.analysis.runs import find_runs
from tests.made_up import CLASSES, COLOURS, TARGETS, make_run

SEEDS = 5
NOISE = (0.001, -0.002, 0.0005, 0.002, -0.0015)  # of each seed, in accuracy


def study(folder: Path, **gains: float) -> list[Finding]:
    """Five seeds of each network, with these gains in accuracy over none, and findings of its pairs."""
    for name, gain in {"none": 0.0, **gains}.items():
        for seed in range(SEEDS):
            noise = NOISE[(seed + len(name)) % SEEDS]
            make_run(folder / f"{name}{seed}", name, seed, 0.8 + gain + noise, lstm_parameters=1000 + len(name))
    return judge(find_pairs(find_cells(find_runs(folder)[0])))


def test_an_lstm_is_compared_with_none_and_with_its_controls(tmp_path: Path) -> None:
    findings = study(tmp_path, zigzag=0.03, mlp=0.01)
    compared = [(finding.pair.base.label, finding.pair.other.label) for finding in findings]
    assert compared == [("none", "zigzag"), ("none", "mlp"), ("mlp", "zigzag")]
    assert {finding.decision.family for finding in findings} == {3}


def test_a_large_gain_is_claimed_and_a_small_one_is_not(tmp_path: Path) -> None:
    large = study(tmp_path / "large", zigzag=0.03)[0]
    assert large.claimed
    assert "more than chance (p < 0.001)" in sentence(large)
    small = study(tmp_path / "small", zigzag=0.0005)[0]
    assert not small.claimed
    assert "not to be told from chance" in sentence(small)
    assert f"5 seeds are too few to say anything of a difference this size; {small.needed} would do" in sentence(small)
    assert small.needed is not None
    assert small.needed > SEEDS


def test_one_seed_is_too_few(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "none", 0, 0.8)
    make_run(tmp_path / "b", "zigzag", 0, 0.9)
    (finding,) = judge(find_pairs(find_cells(find_runs(tmp_path)[0])))
    assert "too few to say anything" in sentence(finding)
    assert not finding.claimed
    assert finding.needed is None


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        (
            {"zigzag": 0.03, "mlp": 0.001, "conv": 0.01, "frozen": 0.01, "shuffle": 0.02},
            "its gain is context from further away, learnt, in an order of neighbours, and not capacity.",
        ),
        (
            {"zigzag": 0.03, "mlp": 0.001},
            "its gain is context, and not capacity; whether it must be learnt and in an order of neighbours, "
            "lstm=frozen and lstm=shuffle would tell.",
        ),
        ({"zigzag": 0.03, "mlp": 0.001, "shuffle": 0.01}, "whether it must be learnt, lstm=frozen would tell."),
        ({"zigzag": 0.03, "mlp": 0.001, "conv": 0.03}, "capacity alone does not explain its gain"),
        ({"zigzag": 0.03, "mlp": 0.03}, "capacity explains its gain as well"),
        ({"zigzag": 0.02, "mlp": 0.05}, "It is behind mlp, so capacity explains"),
        ({"zigzag": 0.0, "mlp": 0.0}, "nothing yet to explain"),
    ],
)
def test_context_or_capacity(gains: dict[str, float], said: str, tmp_path: Path) -> None:
    (text,) = context_or_capacity(study(tmp_path, **gains))
    assert said in text
    assert "(no context, 1.00 of its parameters)" in text


def test_a_control_of_fewer_parameters_tells_nothing_of_capacity(tmp_path: Path) -> None:
    study(tmp_path, zigzag=0.03, mlp=0.001, conv=0.01)
    for file in tmp_path.glob("mlp*/metrics.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"lstm_parameters": 32}))
    for file in tmp_path.glob("zigzag*/metrics.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"lstm_parameters": 100}))
    for file in tmp_path.glob("conv*/metrics.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"lstm_parameters": 104}))
    (text,) = context_or_capacity(judge(find_pairs(find_cells(find_runs(tmp_path)[0]))))
    assert "mlp has not as many parameters, so this does not tell capacity from context" in text
    assert "0.32 of its parameters" in text


def test_two_controls_of_one_kind_are_told_apart(tmp_path: Path) -> None:
    study(tmp_path, zigzag=0.03, mlp=0.001)
    for seed in range(SEEDS):
        make_run(tmp_path / f"pooled{seed}", "mlp", seed, 0.81 + NOISE[seed], lstm_parameters=1003,
                 config={"lstm": {"_target_": TARGETS["mlp"], "order": "zigzag", "stride": 16}})  # fmt: skip
        (tmp_path / f"pooled{seed}/.hydra/overrides.yaml").write_text("- lstm=mlp\n- lstm.stride=16\n")
    (text,) = context_or_capacity(judge(find_pairs(find_cells(find_runs(tmp_path)[0]))))
    assert "mlp lstm.stride=16" in text
    assert "(no context" in text.partition("mlp lstm.stride=16")[2]
    assert "ahead of mlp and mlp lstm.stride=16, so its gain is context, and not capacity" in text


@pytest.mark.parametrize("order", ["[rows, columns]", "shuffle"])
def test_a_control_that_scans_in_another_order_tells_nothing(order: str, tmp_path: Path) -> None:
    study(tmp_path, zigzag=0.03, mlp=0.001, frozen=0.001)
    for file in tmp_path.glob("frozen*/.hydra/config.yaml"):
        file.write_text(file.read_text().replace("order: zigzag", f"order: {order}"))
    (text,) = context_or_capacity(judge(find_pairs(find_cells(find_runs(tmp_path)[0]))))
    assert "frozen scans in another order than the LSTM" in text
    assert "lstm.order (match=renet: ReNet's)" in text


def test_without_controls_nothing_is_said_of_capacity(tmp_path: Path) -> None:
    assert context_or_capacity(study(tmp_path, zigzag=0.03)) == []


def test_images_and_seeds_are_told_apart(tmp_path: Path) -> None:
    (finding,) = study(tmp_path, zigzag=0.03)
    text = images_sentence(finding)
    assert "drawn anew from 4 images" in text
    assert "between seeds" in text
    assert "between such draws" in text
    row = as_row(finding)
    assert row["images"]["speaks_for_other_videos"]
    assert row["sign_flip_smallest_p"] == 0.0625
    assert row["claimed"] == finding.claimed
    assert len(row["mean_accuracy"]["delta"]) == SEEDS
    for run in finding.pair.base.runs:
        (run.folder / "confusion.npz").unlink()
    (finding,) = judge([finding.pair])
    assert finding.images is None
    assert images_sentence(finding) == ""


def test_few_videos_speak_for_themselves_only(tmp_path: Path) -> None:
    data = {"name": "toy", "classes": CLASSES, "colours": COLOURS, "ignore_index": 255, "group": "(i)"}
    for name, accuracy in (("none", 0.8), ("zigzag", 0.9)):
        for seed in range(2):
            make_run(tmp_path / f"{name}{seed}", name, seed, accuracy, config={"data": data})
    (finding,) = judge(find_pairs(find_cells(find_runs(tmp_path)[0])))
    assert "2 blocks of 2 consecutive frames from 1 video" in images_sentence(finding)
    assert "speaks for these videos only" in images_sentence(finding)
