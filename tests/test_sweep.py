"""``unisono sweep``: a voice by time alone, motions by their measures; wrong input is one sentence and exit code 2."""

import json
import shutil

import pytest
from refused import refused
from unisono.cli import main
from unisono.cli.sweep import split
from unisono.errors import RequestError


@pytest.fixture
def command(capfd, monkeypatch, tmp_path):
    """Return a function that runs ``unisono sweep …`` in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*argv: object):
        capfd.readouterr()
        code = main(["sweep", *map(str, argv)])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def motions(tmp_path_factory):
    """An export of a tiny motion model with random weights, and the folder of clips that it was made for."""
    import torch
    from unisono.export import load_component, save_export
    from unisono.recipe import Recipe
    from unisono_motion.corpus.data import ClipData, ClipOptions
    from unisono_motion.corpus.figures import make_figure

    folder = tmp_path_factory.mktemp("motions")
    lines = []
    for number in range(10):
        motion = make_figure(number)
        motion.save(folder / "clips" / f"{number}.bvh")
        lines.append(f"{number}.bvh|{motion.caption}\n")
    (folder / "clips" / "captions.csv").write_text("".join(lines))
    data = ClipData(
        str(folder / "clips" / "captions.csv"),
        clips=ClipOptions(fps=20.0, mirror=False),
        crop_frames=None,
        val_size=4,
    )
    data.prepare(progress=False)
    read = Recipe.read("motion/mmm-tiny")
    model = read.build_model(data.describe())
    for role, where in read.components.items():
        model.attach(role, load_component(type(model), role, where, model.facts))
    with torch.no_grad():
        model.net.to_logits.weight.mul_(20)
    model.attach("matcher", Recipe.read("motion/matcher-tiny").build_model(data.describe()).eval())
    return save_export(model.eval(), folder / "export"), folder / "clips" / "captions.csv"


def test_motions_are_measured_and_evaluations_counted(command, motions, tmp_path):
    export, clips = motions
    options = ("--limit=3", "--repeats=2", "--guidance-scale=1", "--sampler=maskgit")
    code, out, _ = command(export, clips, "--num_steps=1,2,4", *options)
    assert code == 0
    assert "FID ↓" in out and "R-precision top 3 ↑" in out and "cheapest" in out
    kept = json.loads((tmp_path / "sweep.json").read_text())
    assert [row["evaluations"] for row in kept["points"]] == [1, 2, 4]
    assert kept["facts"]["requests"] == 3 and kept["facts"]["held out"] == "yes"
    for row in kept["points"]:
        assert row["measures"]["FID"]["mean"] >= 0
        assert 0 <= row["measures"]["R-precision top 3"]["mean"] <= 1
        assert row["real_time_factor"]["min"] > 0
    assert (tmp_path / "sweep.png").read_bytes()[:4] == b"\x89PNG"


def test_guidance_doubles_the_evaluations_and_samplers_are_swept(command, motions, tmp_path):
    export, clips = motions
    options = ("--limit=2", "--repeats=2", "--num_steps=2", "--json=a/b.json", "--plot=b.png")
    assert command(export, "--guidance_scale=1,3", "--sampler", "maskgit,halton", clips, *options)[0] == 0
    kept = json.loads((tmp_path / "a" / "b.json").read_text())
    found = {(*row["setting"].values(), row["evaluations"]) for row in kept["points"]}
    assert found == {(1, "maskgit", 2), (1, "halton", 2), (3, "maskgit", 4), (3, "halton", 4)}
    assert (tmp_path / "b.png").exists()


def test_a_voice_is_timed(command, voice_export, tmp_path):
    code, out, _ = command(voice_export, "--pace=1,2", "--repeats=2", "--text=So it goes, and goes.")
    assert code == 0
    assert "pace=2" in out and "FID" not in out
    kept = json.loads((tmp_path / "sweep.json").read_text())
    assert kept["facts"]["requests"] == 1
    assert {row["evaluations"] for row in kept["points"]} == {None}
    assert all(row["real_time_factor"]["min"] > 0 for row in kept["points"])
    assert command(voice_export, "--pace=1,2", "--repeats=2")[0] == 0
    assert json.loads((tmp_path / "sweep.json").read_text())["facts"]["requests"] == 2  # its previews


WRONG = {
    "unknown field": (["--num_step=1,2"], "unknown flag --num_step"),
    "empty list": (["--pace="], "--pace= has an empty value: write --pace=VALUE,VALUE"),
    "empty value": (["--pace=1,,2"], "--pace=1,,2 has an empty value"),
    "nothing swept": (["--pace=1"], "nothing to sweep: give a field several values"),
    "out of range": (["--pace=1,9"], "pace=9"),
    "no number": (["--pace=1,fast"], "pace='fast'"),
    "twice": (["--pace=1,1"], "given twice"),
    "a seed": (["--pace=1,2", "--seed=1,2"], "seed is drawn anew"),
    "one repeat": (["--pace=1,2", "--repeats=1"], "repeats=1 must be at least 2"),
    "two corpora": (["a", "b", "--pace=1,2"], "'b' is one corpus too many"),
    "a corpus without measures": (["a", "--pace=1,2"], "has no measure to sweep for 'fastpitch'"),
    "text and corpus": (["a", "--pace=1,2", "--text=x"], "--text does not go with a corpus"),
    "no kind of picture": (["--pace=1,2", "--plot=x.nonsense"], "cannot draw into 'x.nonsense': end it in one of"),
    "nowhere to write": (["--pace=1,2", "--json=/dev/null/x.json"], "cannot write '/dev/null/x.json'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input(command, voice_export, case):
    arguments, sentence = WRONG[case]
    code, _, err = command(voice_export, *arguments)
    lines = [line for line in err.splitlines() if line.strip()]
    assert code == 2 and len(lines) == 1, err
    assert lines[0].startswith("unisono: ") and sentence in lines[0]


def test_a_motion_model_without_its_matcher_says_how_to_give_one(command, motions, tmp_path):
    export, clips = motions
    bare = shutil.copytree(export, tmp_path / "bare")
    shutil.rmtree(bare / "components" / "matcher")
    code, _, err = command(bare, clips, "--num_steps=1,2")
    assert code == 2 and "matcher" in err


def test_lists_are_split_outside_of_brackets():
    assert split("num_steps", "1, 2,4") == ["1", "2", "4"]
    assert split("keep", "[[0,1]],[[0,1],[2,3]]") == ["[[0,1]]", "[[0,1],[2,3]]"]
    with refused(RequestError, "empty"):
        split("num_steps", "1,")
