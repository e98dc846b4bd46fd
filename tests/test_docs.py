"""The tutorial and the guide to new parts, followed literally: their files written, their commands run."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from segmentation.config import CONF
from tests.conftest import Compose
from tests.made_up import make_run, make_sweep

ROOT = Path(__file__).parent.parent
# Appended to the trainings of the guide: what it shows does not depend on how long or on how much it trains.
SMALL = ("data.limit=8", "lstm.hidden_size=8", "trainer.accelerator=cpu", "callbacks.inspection.images=0")
# Many commands in one process, since torch takes longer to import than they take to run.
DRIVER = """
import importlib, json, runpy, sys
from hydra.core.global_hydra import GlobalHydra
for module, *arguments in json.loads(sys.argv[1]):
    sys.argv = [module, *arguments]
    GlobalHydra.instance().clear()
    runpy.run_path(module) if module.endswith(".py") else importlib.import_module(module).main()
"""


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and content of the fenced blocks of a page in docs/."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)


def write_files(page: str, folder: Path) -> None:
    """Write the files that a page shows: their first line names them, or says which one goes on."""
    for language, text in blocks(page):
        if language in ("python", "yaml"):
            name, continued = re.fullmatch(r"# ([\w/.]+)(, continued)?", text.partition("\n")[0]).groups()  # type: ignore[union-attr]
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text((path.read_text() if continued else "") + text)


def commands(page: str) -> list[list[str]]:
    """The words of each command of a page, without `python`."""
    lines = "".join(text for language, text in blocks(page) if language == "console").splitlines()
    words = [split for line in lines if (split := shlex.split(line, comments=True))]
    assert all(line[0] == "python" for line in words)
    return [line[1:] for line in words]


def python(folder: Path, *words: str) -> None:
    """Run Python in a folder that only this project and what lies there can be imported from."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"


def test_the_guide_to_new_parts_works_as_it_stands(tmp_path: Path) -> None:
    write_files("extending.md", tmp_path)
    called = [line[1:] if line[0] == "-m" else line for line in commands("extending.md")]
    python(tmp_path, "-c", DRIVER, json.dumps([[*line, *SMALL * line[0].endswith("train")] for line in called]))
    used = {path.name: yaml.safe_load((path / ".hydra" / "config.yaml").read_text())
            for path in (tmp_path / "outputs").iterdir() if path.name != "evaluate"}  # fmt: skip
    assert used["backbone"]["backbone"]["args"] == {"stem_width": 32}
    assert used["order"]["lstm"]["order"] == "my_parts.backwards"
    assert used["cell"]["lstm"]["cell"] == "my_parts.Rectified"
    assert used["loss"]["loss"]["epsilon"] == 2
    assert used["data"]["data"]["name"] == "fields"
    for name in used:
        assert json.loads((tmp_path / "outputs" / name / "metrics.json").read_text())["num_images"] > 0
    assert len(list((tmp_path / "outputs" / "evaluate").glob("*/metrics.json"))) == 1


def test_the_commands_of_the_results_compose(compose: Compose) -> None:
    """With every value that they sweep; each writes to a folder of its own, and what is read some training writes."""
    found = commands("results.md")
    folders: list[str] = []
    for words in (line[2:] for line in found if line[:2] == ["-m", "segmentation.train"]):
        folders += [word.split("=")[1] for word in words if word.startswith("hydra.")]
        values = [each_value(word) for word in words if word != "-m" and not word.startswith("hydra.")]
        for turn in range(max(map(len, values))):
            compose(*(those[turn % len(those)] for those in values))
    assert len(set(folders)) == len(folders) > 10
    read = [word.partition(":")[0] for line in found if "segmentation.train" not in line for word in line]
    read = [word for word in read if word.startswith("outputs/") and "=" not in word]
    assert len(read) > 10
    assert all(any(f"{folder}/".startswith(f"{name}/") for folder in folders) for name in read)
    (evaluation,) = (line[2:] for line in found if line[1] == "segmentation.evaluate")
    compose(*evaluation, name="evaluate")


def each_value(word: str) -> list[str]:
    """An override for each value of one that sweeps."""
    name, equals, values = word.partition("=")
    return [word] if values.startswith("[") else [f"{name}{equals}{value}" for value in values.split(",")]


def test_leads_are_paired_by_seed(tmp_path: Path) -> None:
    """Of accuracies of 0.80, 0.81, 0.79 without and 0.82, 0.825, 0.815 with, and of the same less itself."""
    sweep = str(make_sweep(tmp_path / "sweep"))
    make_run(tmp_path / "other", "none", 0, 0.8, files_hash="def")
    found = [
        subprocess.run([sys.executable, str(ROOT / "docs" / "leads.py"), *words], capture_output=True, text=True)
        for words in (
            [f"{sweep}:zigzag", f"{sweep}:none"],
            [f"{sweep}:zigzag", f"{sweep}:none"] * 2,
            [sweep, sweep],
            [f"{sweep}:none", str(tmp_path / "other")],
        )
    ]
    assert found[0].stdout.startswith("pixel_accuracy: +2.00 [+0.76, +3.24], 3 seeds, p 0.020\nmean_iou: +1.00 ")
    assert found[1].stdout.startswith("pixel_accuracy: +0.00 [+0.00, +0.00], 3 seeds")
    assert found[2].returncode == 1
    assert found[2].stderr == f"error: {sweep}: no run, or several of a seed; name a folder with one run of each seed\n"
    assert found[3].stderr.startswith("error: ")
    assert "its files_hash is 'def' instead of 'abc'" in found[3].stderr


@pytest.mark.slow
def test_the_tutorial_works_as_it_stands(tmp_path: Path) -> None:
    write_files("tutorial.md", tmp_path)
    for line in commands("tutorial.md"):
        python(tmp_path, *line)
    rows = json.loads((tmp_path / "outputs" / "shapes" / "report" / "ablation.json").read_text())
    assert [(row["base"], row["other"], row["seeds"]) for row in rows] == [("none", "zigzag", [0, 1, 2])]
    masks = {path.name for path in (tmp_path / "masks").glob("*.png")}
    assert masks == {path.name for path in (tmp_path / "shapes" / "test" / "images").iterdir()}
    assert masks == {path.name for path in (tmp_path / "masks" / "overlays").iterdir()}


def test_the_options_that_readme_tells_of_are_there(compose: Compose) -> None:
    """Each row's first column can be said; every key of the default loss is told of."""
    section = (ROOT / "README.md").read_text().partition("## Options of a training\n")[2].partition("\n## ")[0]
    said = [re.findall("`(.*?)`", line.split(" | ")[0]) for line in section.splitlines() if line.startswith("| `")]
    assert len(said) > 9
    for words in (shlex.split(text) for options in said for text in options):
        compose(*words)
    keys = yaml.safe_load((CONF / "loss" / "cross_entropy.yaml").read_text()).keys() - {"_target_", "ignore_index"}
    assert keys
    assert all(f"`loss.{key}" in section for key in keys)
    for name in ("boundary", "combined"):
        compose(f"loss={name}", "loss.terms.cross_entropy.label_smoothing=0.1")


@pytest.mark.parametrize("page", ["tutorial.md", "extending.md"])
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)", (ROOT / "docs" / page).read_text())
    assert links
    assert all((ROOT / "docs" / link).exists() for link in links)
