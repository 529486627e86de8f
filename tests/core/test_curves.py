"""``unisono curves``: what was logged is what is drawn."""

import time

import pytest
from torch.utils.tensorboard import SummaryWriter
from unisono.cli import main
from unisono.errors import CheckpointError
from unisono.recipe import Recipe
from unisono.train.curves import draw_curves, read_curves, select_curves


def write(folder, tag, points):
    """Log some values as a run does."""
    with SummaryWriter(str(folder)) as writer:
        for step, value in points:
            writer.add_scalar(tag, value, step)


@pytest.fixture
def runs(tmp_path):
    """Two runs of one recipe and one of another."""
    write(tmp_path / "ar" / "0001", "train/loss", [(0, 9.0)])
    write(tmp_path / "ar" / "0002", "train/loss", [(0, 4.0), (10, 2.0), (20, 1.0)])
    write(tmp_path / "ar" / "0002", "val/loss", [(20, 1.5)])
    write(tmp_path / "mdlm" / "0001", "train/loss", [(0, 5.0), (20, 2.5)])
    return tmp_path


def test_a_curve_is_what_was_logged(runs):
    curve = read_curves(runs / "ar" / "0002")["train/loss"]
    assert (curve.run, curve.steps, curve.values) == ("ar/0002", [0, 10, 20], [4.0, 2.0, 1.0])


def test_the_newest_of_numbered_runs_is_read(runs):
    assert read_curves(runs / "ar") == read_curves(runs / "ar" / "0002")


def test_of_a_step_logged_twice_the_later_value_counts(tmp_path):
    write(tmp_path / "0001", "train/loss", [(0, 4.0), (10, 3.0)])
    time.sleep(1.1)  # files are read in the order of their names, which begin with the second
    write(tmp_path / "0001", "train/loss", [(10, 2.0), (20, 1.0)])
    assert read_curves(tmp_path / "0001")["train/loss"].values == [4.0, 2.0, 1.0]


def test_each_panel_has_the_lines_of_the_runs_that_logged_it(runs):
    chosen = select_curves([read_curves(runs / name) for name in ("ar", "mdlm")])
    panels = draw_curves(chosen).axes
    assert [panel.get_ylabel() for panel in panels] == ["train/loss", "val/loss"]
    drawn = {line.get_label(): (line.get_xdata().tolist(), line.get_ydata().tolist()) for line in panels[0].lines}
    assert drawn == {"ar/0002": ([0, 10, 20], [4.0, 2.0, 1.0]), "mdlm/0001": ([0, 20], [5.0, 2.5])}
    assert [line.get_label() for line in panels[1].lines] == ["ar/0002"]


def test_the_command_draws_a_picture(runs, capsys, monkeypatch):
    monkeypatch.chdir(runs)
    assert main(["curves", "ar", "mdlm", "-o", "both.png", "--tag", "train/loss"]) == 0
    assert "mdlm/0001  train/loss  2.5000 at step 20" in capsys.readouterr().out
    assert (runs / "both.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["nowhere"], "no training log under 'nowhere'"),
        (["ar", "--tag", "train/los"], "did you mean 'train/loss'?"),
        (["ar", "-o", "x.nonsense"], "cannot draw into 'x.nonsense'"),
        (["other"], "no run logged train/loss or val/loss: give --tag; there is lr"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(runs, argv, told, capsys, monkeypatch):
    monkeypatch.chdir(runs)
    write(runs / "other" / "0001", "lr", [(0, 1.0)])
    assert main(["curves", *argv]) == 2
    assert told in capsys.readouterr().err


def test_runs_that_logged_nothing_wanted_are_told_what_there_is(runs):
    with pytest.raises(CheckpointError, match="there is nothing"):
        select_curves([{}])


def test_a_young_run_says_what_to_wait_for(tmp_path):
    """One that prepares its data, one before its first logged step, and one that logged no loss yet."""
    run = tmp_path / "runs" / "x" / "0003"
    run.mkdir(parents=True)
    for where in (run, run.parent):
        with pytest.raises(CheckpointError, match="logged nothing yet: it prepares its data"):
            read_curves(where)
    recipe = Recipe.read("codec/vocos-tiny", ["--trainer.log_every_n_steps=7"])
    (run / "recipe.yaml").write_text(recipe.to_yaml())
    for _ in range(2):
        for where in (run, run.parent):
            with pytest.raises(CheckpointError, match=r"after trainer\.log_every_n_steps=7 steps"):
                read_curves(where)
        SummaryWriter(str(run)).close()  # Lightning's logger opens its file before there is a value
