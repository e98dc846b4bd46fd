"""The minimal cells against their definition in a plain loop, in both forms and directions; and scans in chunks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segmentation.choice import CANDIDATES
from segmentation.errors import UserError
from segmentation.models import lstm, recurrence
from segmentation.models.chunks import scan_in_chunks
from segmentation.models.minimal import MinGRU, MinLSTM
from segmentation.models.recurrence import Solver, fastest, in_parallel, in_turn, linear_recurrence
from segmentation.models.spatial_lstm import SpatialLSTM
from segmentation.train import train
from tests.conftest import Compose
from tests.settings import LSTM

LENGTHS = (1, 2, 3, 4, 5, 6, 7, 16, 33)
CELLS: list[Any] = [lstm.LSTM, nn.GRU, MinLSTM, MinGRU]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("solve", [in_turn, in_parallel])
@pytest.mark.parametrize("length", LENGTHS)
def test_both_forms_are_the_recurrence(length: int, solve: Solver, reverse: bool) -> None:
    decay, drive, start = numbers(length, 2, seed=1).sigmoid(), numbers(length, 2), numbers(2, seed=2)
    states: dict[int, Tensor] = {}
    state = start
    for step in reversed(range(length)) if reverse else range(length):
        state = states[step] = decay[step] * state + drive[step]
    expected = torch.stack([states[step] for step in range(length)])
    torch.testing.assert_close(
        linear_recurrence(decay, drive, start, reverse=reverse, solve=solve), expected, rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("solve", [in_turn, in_parallel])
@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_gradients_of_the_recurrence(length: int, solve: Solver, reverse: bool) -> None:
    inputs = numbers(length, 2, seed=1), numbers(length, 2), numbers(2, seed=2)
    assert torch.autograd.gradcheck(lambda *x: linear_recurrence(*x, reverse=reverse, solve=solve), inputs)


def test_a_cpu_takes_wide_steps_in_turn_and_narrow_ones_in_parallel() -> None:
    assert fastest(torch.zeros(3, 1, recurrence.WIDE)) is in_turn
    assert fastest(torch.zeros(3, 1, recurrence.WIDE - 1)) is in_parallel
    assert fastest(torch.zeros(3, 1, recurrence.WIDE, device="meta")) is in_parallel


def by_definition(cell: Any, sequences: Tensor) -> Tensor:
    """The cell's formula, one step, one direction and one layer at a time."""
    for layer in range(cell.num_layers):
        directions = []
        for ending in ("", "_reverse"):
            weight, bias = (getattr(cell, f"{kind}_ih_l{layer}{ending}") for kind in ("weight", "bias"))
            state, states = torch.zeros(()), []
            for step in (sequences.flip(1) if ending else sequences).unbind(1):
                first, *middle, candidate = (step @ weight.T + bias).chunk(cell.parts, -1)
                forget = first.sigmoid()
                take = middle[0].sigmoid() if middle else 1 - forget
                state = (forget * state + take * candidate) / (forget + take)
                states.append(state)
            stacked = torch.stack(states, 1)
            directions.append(stacked.flip(1) if ending else stacked)
        sequences = torch.cat(directions, -1)
    return sequences


@pytest.mark.parametrize("wide", [0, 10**9], ids=["in turn", "in parallel"])
@pytest.mark.parametrize("cell", [MinLSTM, MinGRU])
def test_minimal_cells_are_their_formula(cell: Any, wide: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrence, "WIDE", wide)
    torch.manual_seed(0)
    module = cell(3, 4, num_layers=2, batch_first=True, bidirectional=True).double()
    sequences = numbers(2, 9, 3)
    states, last = module(sequences)
    torch.testing.assert_close(states, by_definition(module, sequences))
    assert torch.equal(last[2], states[:, -1, :4])  # of the last layer: forward ends at the end,
    assert torch.equal(last[3], states[:, 0, 4:])  # and backward at the beginning


@pytest.mark.parametrize("cell", [MinLSTM, MinGRU])
def test_long_memory_survives_low_precision(cell: Any) -> None:
    """The gates may be computed in bf16; a state that decays by less than bf16 can tell must decay all the same."""
    torch.manual_seed(0)
    module = cell(1, 1)
    with torch.no_grad():
        for value in module.parameters():
            value.zero_()
        module.bias_ih_l0[0] = 8.0  # keeps 0.9997 of the state, which bf16 would round to 1
        module.bias_ih_l0[1] = -8.0  # the minimal LSTM's second gate takes in the rest
        module.bias_ih_l0[-1] = 1.0
    with torch.autocast("cpu", torch.bfloat16):
        states = module(torch.zeros(1, 4000, 1))[0]
    assert 0.5 < states[0, -1] < 0.99


@pytest.mark.parametrize("size", [1, 4, 23, 50])
@pytest.mark.parametrize("cell", CELLS)
def test_chunks_change_neither_states_nor_gradients(cell: Any, size: int) -> None:
    torch.manual_seed(0)
    module = cell(3, 4, num_layers=2, batch_first=True, bidirectional=True).double()
    sequences = numbers(2, 23, 3)
    whole, chunked = module(sequences)[0], scan_in_chunks(module, sequences, size)
    torch.testing.assert_close(chunked, whole)
    inputs = [sequences, *module.parameters()]
    for one, other in zip(
        torch.autograd.grad(whole.square().sum(), inputs),
        torch.autograd.grad(chunked.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("cell", ["lstm", "gru", "minlstm", "mingru"])
def test_a_chunk_bounds_what_the_backward_pass_keeps(cell: str) -> None:
    def kept(chunk: int | None) -> int:
        """Bytes of all tensors saved, each storage counted once."""
        torch.manual_seed(0)
        module = SpatialLSTM(4, 16, **LSTM | {"cell": cell, "hidden_size": 8, "chunk": chunk})
        storages: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            result = module(torch.randn(1, 4, 40, 40, requires_grad=True))
        assert result.requires_grad
        return sum(storages.values())

    assert kept(100) < 0.7 * kept(None)


@pytest.mark.parametrize("fastest", CANDIDATES)
def test_auto_takes_the_cell_that_was_measured_to_be_faster(
    fastest: str, tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from segmentation import choice
    from segmentation.analysis.runs import read_run
    from segmentation.models.files import load_model

    measured: list[str] = []

    def pretend(module: Any, maps: Tensor, trainer: Any) -> float:
        (cell,) = [
            name for name, known in (("lstm", lstm.LSTM), ("mingru", MinGRU)) if type(module.scans[0].cell) is known
        ]
        measured.append(cell)
        assert maps.shape[0] == 4
        return 1.0 if cell == fastest else 2.0

    monkeypatch.setattr(choice, "time_step", pretend)
    with caplog.at_level("INFO"):
        scores = train(tiny("lstm.cell=auto", "train=true"))
    assert set(measured) == set(CANDIDATES)
    assert f"lstm.cell=auto: {fastest}" in caplog.text
    network, _ = load_model(tmp_path / "run")
    assert type(network.lstm.scans[0].cell) is {"lstm": lstm.LSTM, "mingru": MinGRU}[fastest]  # type: ignore[union-attr,index]
    config = {"lstm": {"cell": "auto", "order": "zigzag"}, "seed": 0}
    assert read_run(tmp_path / "run", config).config["lstm"]["cell"] == fastest
    measured.clear()
    again = train(tiny("lstm.cell=auto", "train=false"))
    assert measured == []  # what the run began with stays
    assert again == scores
    monkeypatch.undo()
    named = train(tiny(f"lstm.cell={fastest}", f"output={tmp_path / 'named'}"))
    assert named == scores  # trying cells draws none of the run's random numbers


def pretend_to_measure(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each measurement finds the other cell faster than the one before; the list says what was found."""
    from segmentation import choice

    found: list[str] = []

    def measure(*_: Any) -> dict[str, float]:
        found.append(CANDIDATES[len(found) % 2])
        return {cell: 1.0 if cell == found[-1] else 2.0 for cell in CANDIDATES}

    monkeypatch.setattr(choice, "compare", measure)
    return found


def test_a_training_begun_anew_measures_anew(tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from segmentation.analysis.runs import read_run

    found = pretend_to_measure(monkeypatch)
    for _ in range(2):
        train(tiny("lstm.cell=auto"))
    assert found == ["lstm", "mingru"]
    elsewhere = tiny(
        "lstm.cell=auto", "train=false", f"ckpt={tmp_path}/run/checkpoints/best.ckpt", f"output={tmp_path}/other"
    )
    train(elsewhere)  # what the checkpoint's run trained
    assert len(found) == 2
    named = {"lstm": {"cell": "gru", "order": "zigzag"}, "seed": 0}
    assert read_run(tmp_path / "run", named).config["lstm"]["cell"] == "gru"


def test_runs_of_a_sweep_share_a_choice_and_none_needs_none(
    tiny: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = pretend_to_measure(monkeypatch)
    (tmp_path / "ledger.jsonl").touch()
    for job, words in enumerate(["seed=0", "seed=1", "lstm=none", "seed=2"]):
        train(tiny("lstm.cell=auto", "test=false", f"output={tmp_path}/{job}", *words.split()))
    assert found == ["lstm"]
    assert not (tmp_path / "2" / "choice.json").exists()
    train(tiny("lstm.cell=auto", "lstm.order=rows", "test=false", f"output={tmp_path}/4"))
    assert found == ["lstm", "mingru"]  # another scan, another choice


def test_auto_really_measures(tiny: Compose, tmp_path: Path) -> None:
    import json

    train(tiny("lstm.cell=auto", "test=false", "trainer.fast_dev_run=true"))
    written = json.loads((tmp_path / "run" / "choice.json").read_text())
    assert set(written["milliseconds"]) == set(CANDIDATES)
    assert all(value > 0 for value in written["milliseconds"].values())
    assert written["cell"] == min(written["milliseconds"], key=written["milliseconds"].get)


class Scaled(SpatialLSTM):
    """A slot with a key of its own."""

    def __init__(self, channels: int, map_stride: int, *, factor: float, **keywords: Any) -> None:
        super().__init__(channels, map_stride, **keywords)
        self.factor = factor


def test_auto_measures_the_runs_own_module(tiny: Compose, tmp_path: Path) -> None:
    train(tiny("lstm.cell=auto", "lstm._target_=tests.test_cells.Scaled", "+lstm.factor=2", "test=false"))
    assert (tmp_path / "run" / "choice.json").is_file()


class Odd(nn.LSTM):
    """A recurrent network whose parameters have names of their own."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.scale = nn.Parameter(torch.ones(()))


def test_chunks_are_refused_to_a_cell_of_another_kind() -> None:
    words: dict[str, Any] = LSTM | {"cell": "tests.test_cells.Odd", "hidden_size": 8}
    SpatialLSTM(4, 16, **words)
    SpatialLSTM(4, 16, **words | {"cell": "torch.nn.LSTM", "chunk": 4})
    with pytest.raises(
        UserError, match=r"lstm\.chunk=4: splits only lstm, gru, minlstm, mingru, not tests\.test_cells\.Odd"
    ):
        SpatialLSTM(4, 16, **words | {"chunk": 4})


def test_auto_is_for_one_process(tiny: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segmentation.choice.is_first_process", lambda: False)
    with pytest.raises(UserError, match=r"lstm\.cell=auto: several processes"):
        train(tiny("lstm.cell=auto"))
