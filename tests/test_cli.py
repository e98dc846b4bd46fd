"""A user's mistake ends in one line that names it and what would be right, before anything heavy is imported."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from segmentation.config import SCHEMAS
from segmentation.registering import register
from segmentation.usage import usage


def run(*arguments: str, command: str = "train") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"segmentation.{command}", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def own_lines(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if not line.startswith("import time:")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["backbone=resnet5"], "backbone=resnet5: no such choice; did you mean 'resnet50'"),
        (["backbon=resnet50"], "backbon: no such key; did you mean 'backbone'"),
        (["data=camvid", "data.rot=x"], "data.rot: no such key; did you mean 'data.root'"),
        (["lstm.order_args.seed=1"], "lstm.order_args.seed: no such key"),
        (["lstm.order_args.seed=1"], "To add it, write +lstm.order_args.seed=..."),
        (["trainer.max_epoch=3"], "did you mean 'trainer.max_epochs'"),
        (["seed=first"], "seed: Value 'first' of type 'str' could not be converted to Integer"),
        (["data.mean=${seed}"], "data.mean: Invalid value assigned: int is not"),
        (["data.splits=${seed}"], "data.splits: Cannot assign int to"),
        (["lstm.hidden_size=big"], "lstm.hidden_size: Value 'big'"),
        (["data=folder", "data.root=/tmp/a(b"], "quote its value twice"),
        (["-m", "lstm=none,zigzak"], "lstm=zigzak: no such choice; did you mean 'zigzag'"),
    ],
)
def test_mistake_is_one_line_before_torch(arguments: list[str], said: str) -> None:
    done = run(*arguments)
    lines = own_lines(done.stderr)
    assert done.returncode == 1
    assert len(lines) == 1, done.stderr[-2000:]
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert not any(line.endswith("| torch") for line in done.stderr.splitlines())


def test_mistake_answers_fast() -> None:
    start = time.perf_counter()
    command = [sys.executable, "-m", "segmentation.train", "backbone=resnet5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert time.perf_counter() - start < 5  # 1 s on an idle machine; tests share theirs
    assert done.stderr.startswith("error: backbone=resnet5: no such choice")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["backbone.name=resnet5"], "resnet50"),
        (["+optimizer.args.lrr=1"], "optimizer"),
        (
            ["+loss.label_smooth=1"],
            "loss.label_smooth: segmentation.losses.CrossEntropy takes no such argument; did you",
        ),
        (["optimizer.name=AdamV"], "did you mean 'Adam'"),
        (["trainer.precision=bf61"], "trainer.precision=bf61"),
        (["lstm.order=zigzagg"], "zigzag"),
        (["lstm.cell=lstmm"], "lstm"),
        (["ckpt=nowhere.ckpt"], "ckpt=nowhere.ckpt: no such file"),
    ],
)
def test_mistake_in_a_name_is_one_line(
    arguments: list[str], said: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("run")
    done = run(*arguments, f"hydra.run.dir={folder}", "data.splits={train:4,val:2,test:2}", "trainer.accelerator=cpu")
    lines = own_lines(done.stderr)
    assert done.returncode == 1
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert said in lines[-1]
    assert "Traceback" not in done.stderr


def test_missing_value_that_another_stands_for_is_named() -> None:
    done = run("data=coco", "data.root=.")
    assert own_lines(done.stderr) == ["error: data.classes: not set; add data.classes=..."]


def test_missing_value_is_named() -> None:
    done = run("input=x.png", command="predict")
    assert own_lines(done.stderr) == ["error: model: not set; add model=..."]


def test_data_that_would_spoil_a_training_end_in_1(tmp_path: Path) -> None:
    for split, colour in (("train", 0), ("val", 1)):
        for kind, mode in (("images", "RGB"), ("masks", "L")):
            (tmp_path / split / kind).mkdir(parents=True)
            Image.new(mode, (8, 6), colour).save(tmp_path / split / kind / f"{split}.png")
    words = ("data=folder", "data.classes=[no,yes]", f"data.root={tmp_path}", f"hydra.run.dir={tmp_path / 'out'}")
    assert run(*words, command="check_data").returncode == 0
    Image.new("L", (8, 6), 2).save(tmp_path / "val" / "masks" / "val.png")
    done = run(*words, command="check_data")
    assert done.returncode == 1
    assert own_lines(done.stderr) == [
        "error: data: 1 of the findings would make a training or its figures wrong; see above"
    ]


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_help_names_groups_choices_and_keys(name: str) -> None:
    register()
    text = usage(name)
    assert f"python -m segmentation.{name}" in text
    if name in ("train", "benchmark"):
        assert re.search(r"lstm= .* zigzag", text)
        assert "  max_epochs: 30" in text
    if name == "benchmark":
        assert re.search(r"benchmark= .*cpu gpu quick", text)
    assert "override" not in text.split("keys and their defaults")[0]


def test_a_reader_of_the_help_may_leave() -> None:
    command = [sys.executable, "-m", "segmentation.train", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("words", ["--help", "backbone=resnet5", "--cfg job", "data.sizes=3"])
def test_answers_within_a_second_and_a_half(words: str) -> None:
    taken = []
    for _ in range(3):
        start = time.monotonic()
        subprocess.run([sys.executable, "-m", "segmentation.train", *words.split()], capture_output=True, check=False)
        taken.append(time.monotonic() - start)
    assert min(taken) < 1.5


@pytest.mark.slow
def test_the_first_step_comes_within_twelve_seconds(tmp_path: Path) -> None:
    words = ["trainer.fast_dev_run=true", "trainer.accelerator=cpu", "test=false", f"hydra.run.dir={tmp_path}"]
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "segmentation.train", *words], capture_output=True, check=True)
    assert time.monotonic() - start < 12  # a step of training and one of validation included


REFUSE = """
import socket, sys

def refuse(*_):
    sys.stderr.write("a connection\\n")
    raise OSError("a connection")

socket.socket.connect = socket.getaddrinfo = refuse
"""


def test_a_training_asks_nobody(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(REFUSE)  # before anything else is imported
    words = ["trainer.fast_dev_run=true", "trainer.accelerator=cpu", "data.size=[32,64]", "backbone.name=test_resnet",
             "data.splits={train:4,val:2,test:2}", "data.batch_size=2", f"hydra.run.dir={tmp_path}/run"]  # fmt: skip
    silenced = {"NO_ALBUMENTATIONS_UPDATE", "HF_HUB_OFFLINE"}  # by the tests themselves
    environment = {key: value for key, value in os.environ.items() if key not in silenced}
    done = subprocess.run(
        [sys.executable, "-m", "segmentation.train", *words],
        capture_output=True,
        text=True,
        check=True,
        env=environment | {"PYTHONPATH": str(tmp_path)},
    )
    assert "a connection" not in done.stderr
    asked = subprocess.run(
        [sys.executable, "-c", "import urllib.request as u; u.urlopen('http://localhost')"],
        capture_output=True,
        text=True,
        check=False,
        env=environment | {"PYTHONPATH": str(tmp_path)},
    )
    assert "a connection" in asked.stderr  # or the test could not fail
