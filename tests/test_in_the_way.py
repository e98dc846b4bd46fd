"""Files and folders that are not what a command takes them for: each ends in one line that names it."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from segmentation.checkpoints import find_checkpoint, resume_point
from segmentation.data.download import download
from segmentation.data.patterns import Pattern
from segmentation.errors import UserError
from segmentation.faults import describe
from segmentation.sweeps.ledger import Ledger, identity
from segmentation.targets import check_targets
from tests.attempts import attempt
from tests.world import make_world

LONG = "x" * 300
FILES = ("data=folder", "data.classes=[a,b]", "data.splits={{train:null,val:null,test:null}}")
Spoil = Callable[[Path], object]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    make_world(tmp_path)
    return tmp_path


def write(name: str, text: str = "") -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return spoil


def saved(**content: Any) -> Spoil:
    """What a model's run had been told, as its folder says."""
    return write("model/.hydra/config.yaml", yaml.safe_dump(content))


def checkpoint(folder: Path, **content: Any) -> None:
    (folder / "run" / "checkpoints").mkdir(parents=True, exist_ok=True)
    torch.save(content, folder / "run" / "checkpoints" / "last.ckpt")


def begun(folder: Path, choice: str) -> None:
    """A run that was interrupted, and what it says of the cell that it chose."""
    write("run/choice.json", choice)(folder)
    checkpoint(folder)


def folder_for_configuration(folder: Path) -> None:
    (folder / "model" / ".hydra" / "config.yaml").unlink()
    (folder / "model" / ".hydra" / "config.yaml").mkdir()


def with_trainer(folder: Path, trainer: Any) -> None:
    file = folder / "model" / ".hydra" / "config.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"trainer": trainer}))


# Command, what is done to its folder, further words, and what its line says.
MISTAKES: dict[str, tuple[str, Spoil, tuple[str, ...], str]] = {
    "root is a file": ("check_data", write("x"), (*FILES, "data.root={}/x"),
                       "data.root={}/x: a file and not a folder"),
    "root has a long name": ("check_data", lambda _: None, (*FILES, f"data.root={{}}/{LONG}"),
                             "File name too long; rename it, or choose"),
    "list has a long name": ("check_data", lambda _: None, ("data=camvid", "data.root={}", f"data.splits.train={LONG}"),
                             "File name too long; rename it, or choose"),
    "sheet is a folder": ("check_data", lambda folder: (folder / "check" / "contact.png").mkdir(parents=True), (),
                          "contact.png: Is a directory; a folder stands where a file should be"),
    "result is a folder": ("check_data", lambda folder: (folder / "check" / "check.json").mkdir(parents=True), (),
                           "check.json: Is a directory; a folder stands where a file should be"),
    "results below a file": ("check_data", write("check"), (), "a file stands where a folder should be"),
    "one side of a scene": ("check_data", lambda _: None, ("data.reader.size=[352]",), "data.reader.size=[352]: give"),
    "half a pixel": ("check_data", lambda _: None, ("data.reader.size=[32.5,48]",), "data.reader.size=[32.5, 48]: giv"),
    "endless scenes": ("check_data", lambda _: None, ("data.reader.size=[100000000000,48]",), "data.reader.size=["),
    "seed below 0": ("check_data", lambda _: None, ("data.reader.seed=-1",), "data.reader.seed=-1: give a whole"),
    "no seed": ("check_data", lambda _: None, ("data.reader.seed=null",), "data.reader.seed="),
    "a switch for a number": ("check_data", lambda _: None, ("data.splits.train=true",), "data.splits.train=True"),
    "run is a file": ("train", write("run"), (), "/run: File exists; a file stands where a folder should be"),
    "run has a long name": ("train", lambda _: None, (f"output={{}}/{LONG}",), "File name too long; rename it, or"),
    "lock is a folder": ("train", lambda folder: (folder / "run" / ".lock").mkdir(parents=True), (), "Is a directory"),
    "checkpoint is a folder": ("train", lambda _: None, ("ckpt={}",), "ckpt={}: no such file"),
    "checkpoint is empty": ("train", write("x.ckpt"), ("ckpt={}/x.ckpt",), "x.ckpt: not a checkpoint"),
    "checkpoint of no tensors": ("train", lambda folder: checkpoint(folder, state_dict={"a": 3}), ("ckpt=auto",),
                                 "last.ckpt: not a checkpoint"),
    "history is empty": ("train", write("run/history.json"), ("train=false", "ckpt={}/in/picture.png"),
                         "history.json: no JSON"),
    "history of another kind": ("train", write("run/history.json", "[3]"), ("train=false", "ckpt={}/in/picture.png"),
                                "history.json: not the history of a run"),
    "choice is empty": ("train", lambda folder: begun(folder, ""),
                        ("ckpt=auto", "lstm.cell=auto"), "choice.json: no JSON"),
    "choice of no cell": ("train", lambda folder: begun(folder, "{}"),
                          ("ckpt=auto", "lstm.cell=auto"), "choice.json: names none of"),
    "configuration is empty": ("evaluate", write("model/.hydra/config.yaml"), (), "config.yaml: not a configuration"),
    "configuration is a folder": ("evaluate", folder_for_configuration, (), "config.yaml is not there"),
    "data is a number": ("evaluate", saved(data=3), (), "config.yaml: does not say which data the run had"),
    "data is nothing": ("evaluate", saved(data=None), (), "config.yaml: does not say which data the run had"),
    "data of another release": ("evaluate", saved(data={"nope": 3}), (), "config.yaml: does not say which data"),
    "trainer of no precision": ("evaluate", lambda folder: with_trainer(folder, {"precision": [1]}), (), "precision"),
    "model is empty": ("evaluate", write("model/model.json"), (), "model.json: no JSON"),
    "weights are empty": ("evaluate", write("model/model.safetensors"), (), "model.safetensors: does not hold"),
    "model has a long name": ("evaluate", lambda _: None, (f"model={{}}/{LONG}",), "File name too long; rename it, or"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_not_what_it_should_be_is_named(mistake: str, world: Path) -> None:
    command, spoil, words, said = MISTAKES[mistake]
    spoil(world)
    line = attempt(command, [word.format(world) for word in words], world, fresh=False)
    assert line is not None
    assert said.format(world) in line


@pytest.mark.parametrize("trainer", [3, {}, None, {"precision": "32"}])
def test_a_run_that_says_little_of_its_trainer_is_evaluated(trainer: Any, world: Path) -> None:
    with_trainer(world, trainer)
    assert attempt("evaluate", [], world) is None


def test_a_run_folder_that_is_a_file_is_named_before_torch_is_imported(tmp_path: Path) -> None:
    write("x")(tmp_path)
    command = [sys.executable, "-m", "segmentation.check_data", f"hydra.run.dir={tmp_path}/x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == (
        f"error: {tmp_path}/x: File exists; a file stands where a folder should be; choose another folder\n"
    )


@pytest.mark.parametrize(("which", "named"), [("train/b", True), ("train", True), (".", False)])
def test_a_folder_that_may_not_be_read_is_named_and_not_left_out(
    which: str, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a folder need not be searched, that it lets pass through is enough."""
    for city in ("a", "b"):
        write(f"train/{city}/1.png")(tmp_path)
    assert len(Pattern(tmp_path, "{split}/*/{name}.png", "train").find()) == 2
    closed = tmp_path / which
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed)  # root may read everything
    if not named:
        assert len(Pattern(tmp_path, "{split}/*/{name}.png", "train").find()) == 2
        return
    with pytest.raises(PermissionError) as caught:
        Pattern(tmp_path, "{split}/*/{name}.png", "train").find()
    assert describe(caught.value) == f"{closed}: Permission denied; get the permission, or choose another folder"


@pytest.mark.parametrize("number", [errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP])
def test_errors_of_names_have_a_cure(number: int) -> None:
    assert (describe(OSError(number, os.strerror(number), "/x")) or "").startswith(f"/x: {os.strerror(number)}; ")


def test_a_target_whose_annotations_cannot_be_read_is_no_error_of_ours() -> None:
    check_targets({"loss": {"_target_": "segmentation.train.build_task", "settings": {}, "data": 1}})


def test_a_checkpoint_that_says_nothing_of_its_training_is_named(tmp_path: Path) -> None:
    task, file = torch.nn.Linear(1, 1), tmp_path / "x.ckpt"
    without: list[dict[str, Any]] = [{}, {"loops": 3}, {"loops": {"fit_loop": {}}}]
    for loops in without:
        torch.save({"state_dict": task.state_dict(), "optimizer_states": [], **loops}, file)
        with pytest.raises(UserError, match=f"{file}: not as a training leaves it"):
            resume_point(task, {}, file, tmp_path)


@pytest.mark.parametrize("files", ["x", 3, ["x"], {"url": "x"}])
def test_archives_that_are_no_list_are_named(files: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.source\.files: give a list of archives"):
        download({"files": files}, str(tmp_path), "x")


def test_a_torn_neighbour_does_not_keep_a_run_from_going_on(tmp_path: Path) -> None:
    config = yaml.safe_dump({"seed": 1})
    for name, text in (("a", config), ("b", ""), ("c", config)):
        write(f"day/{name}/.hydra/config.yaml", text)(tmp_path)
        write(f"day/{name}/checkpoints/last.ckpt")(tmp_path)
    (tmp_path / "day/a/checkpoints/last.ckpt").unlink()
    found = find_checkpoint("auto", tmp_path / "day" / "a", train=True)
    assert found == (tmp_path / "day" / "c", tmp_path / "day" / "c" / "checkpoints" / "last.ckpt")


def test_a_sweep_goes_on_beside_a_job_killed_over_its_configuration(tmp_path: Path) -> None:
    config = {"seed": 1}
    write("0/.hydra/config.yaml")(tmp_path)
    write("1/.hydra/config.yaml", yaml.safe_dump(config))(tmp_path)
    write("2/.hydra/config.yaml", "a: [")(tmp_path)
    (tmp_path / "ledger.jsonl").write_text("3\n[]\n" + json.dumps({"event": "failed"}) + "\n")
    assert Ledger(tmp_path).folders() == {identity(config): "1"}
