"""The conformance kit finds what is wrong: each model of a sick plugin breaks one promise."""

import json
import os
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from refused import refused
from unisono import cli
from unisono import plugin as plugins
from unisono.errors import PluginError
from unisono.media import Audio, Segment
from unisono.scaffold import new_plugin
from unisono.testing import Check, CheckFailed, all_checks, checks, processes, promises, run
from unisono.testing.check import ensure
from unisono.testing.compare import distance, numbers
from unisono.testing.kit import outcome

TESTS = Path(__file__).parents[1]
SLOW = ("two_processes_equal_one", "two_shards_equal_one", "fresh_process_gives_the_same")  # each starts others
FOUND = {
    "base_names_are_kept[framed]": "name-shadowed",
    "base_names_are_kept[stepped]": "name-shadowed",
    "base_names_are_kept[taken]": "name-shadowed",
    "gradient_reaches_every_parameter[deaf]": "no-gradient",
    "resumed_equals_uninterrupted[forgetful]": "resumed-differs",
    "alone_equals_in_a_batch[leaky]": "batch-differs",
    "alone_equals_in_a_batch[unpadded]": "padding-untested",
    "same_seed_same_output[moody]": "seed-not-kept",
    "another_seed_another_output[stubborn]": "seed-ignored",
    "another_seed_another_output[deafened]": "generator-ignored",
    "another_seed_another_output[fickle]": "not-deterministic",
    "global_randomness_is_left_alone[moody]": "global-randomness-changed",
    "global_randomness_is_left_alone[fidgety]": "global-randomness-changed",
    "nothing_executable_is_kept[talkative]": "export-private",
    "unknown_names_are_refused[lenient]": "name-accepted",
    "steps_are_told[silent]": "steps-silent",
    "constructors_are_typed[sick]": "argument-open",
    "evaluators_can_be_called[sick]": "signature",
    "output_is_what_it_says[infinite]": "output-not-finite",
    "output_is_what_it_says[late]": "times-wrong",
    "output_is_what_it_says[mute]": "no-preview",
    "output_is_what_it_says[framed]": "TypeError",
    "output_is_what_it_says[odd]": "suffix-unwritable",
    "every_listed_request_is_served[crashing]": "request-raises",
    "a_stream_is_the_whole[blank]": "stream-differs",
    "what_is_given_stands[forgetting]": "given-changed",
    "what_is_given_stands[redrawn]": "given-not-frozen",
    "evaluations_are_counted[uncounted]": "evaluations-uncounted",
    "evaluations_are_counted[flat]": "evaluations-uncounted",
    "evaluations_are_counted[drifting]": "evaluations-uncounted",
    "tiny_recipe_trains[untrained]": "RecipeError",
    "two_processes_equal_one[lopsided]": "processes-differ",
    "two_shards_equal_one[scribbling]": "shards-differ",
    "fresh_process_gives_the_same[homesick]": "process-differs",
}


@pytest.fixture(scope="module")
def sick(tmp_path_factory) -> dict[str, Check]:
    """The checks of the sick plugin by id; it is installed for this module's tests only."""
    site = tmp_path_factory.mktemp("site")
    package = site / "unisono_sick"
    (package / "recipes").mkdir(parents=True)
    for file in (TESTS / "core/sick/unisono_sick").glob("*.py"):
        (package / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    (package / "recipes/__init__.py").touch()
    hum = new_plugin("hum", "duration", site)
    tiny = (hum / "unisono_hum/recipes/hum-tiny.yaml").read_text(encoding="utf-8")
    tiny = tiny.replace("name: hum/letters", "name: sick/letters").replace("  kernel_size: 3\n", "")
    info = site / "unisono_sick-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: unisono-sick\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\nsick = unisono_sick:plugin\n")
    with pytest.MonkeyPatch.context() as patch:
        for folder in (hum, site):
            patch.syspath_prepend(folder)
        path = os.pathsep.join([str(site), str(hum), os.environ.get("PYTHONPATH", "")])
        patch.setenv("PYTHONPATH", path.rstrip(os.pathsep))
        for name in import_module("unisono_sick").NAMES:
            if name != "Untrained":
                recipe = tiny.replace("name: hum/hum", f"name: sick/{name.lower()}")
                (package / f"recipes/{name.lower()}-tiny.yaml").write_text(recipe, encoding="utf-8")
        plugins.discover.cache_clear()
        yield {check.id: check for check in all_checks("sick")}
    plugins.discover.cache_clear()


@pytest.mark.parametrize("model", ["healthy", "random"])
def test_the_healthy_ones_keep_every_promise(sick, model):
    found = [outcome(check) for check in sick.values() if check.of == model and check.name not in SLOW]
    assert len(found) == len(promises.OF_MODEL) - len(SLOW)
    assert not [(end.check.id, end.reason, end.where) for end in found if end.state != "passed"]


@pytest.mark.parametrize(("check", "code"), FOUND.items(), ids=FOUND)
def test_a_broken_promise_is_found(sick, check, code):
    found = outcome(sick[check])
    assert (found.state, found.code) == ("failed", code), (found.reason, found.where)


def test_every_check_of_a_model_finds_something():
    named = {check.partition("[")[0] for check in FOUND}
    assert {function.__name__ for function in promises.OF_MODEL} <= named


@pytest.mark.parametrize("model", ["moody", "fidgety", "silent", "homesick"])
def test_and_no_other_promise_is_blamed(sick, model):
    for name in ("tiny_recipe_trains", "gradient_reaches_every_parameter", "unknown_names_are_refused"):
        sick[f"{name}[{model}]"]()


def test_a_manifest_that_loads_torch_is_found(tmp_path, sick, monkeypatch):
    heavy = tmp_path / "unisono_heavy.py"
    heavy.write_text(
        "import torch\nfrom unisono import Plugin\n"
        "plugin = Plugin(name='heavy', api='1.0', summary='', models={'x': 'y:z'})\n"
    )
    info = tmp_path / "unisono_heavy-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: unisono-heavy\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\nheavy = unisono_heavy:plugin\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))
    plugins.discover.cache_clear()
    with pytest.raises(CheckFailed, match="'torch'"):  # the module by name
        all_checks("heavy")[0]()
    plugins.discover.cache_clear()


# ---- which checks there are, and how they are told ---------------------------------------------


def test_every_model_has_every_check(sick):
    names = {check.name for check in sick.values()}
    of_plugin, of_model = len(promises.OF_PLUGIN), len(promises.OF_MODEL)
    assert len(names) == of_plugin + of_model == 24
    assert len(sick) == of_plugin + of_model * len(plugins.get("sick").models)
    assert all(check.promise.endswith(".") for check in sick.values())


def test_expected_failures_are_strict_and_known(sick):
    params = checks("sick", expected_failures={"steps_are_told[silent]": "it never learnt to"})
    marks = {param.id: param.marks for param in params}
    (mark,) = [mark for mark in marks["steps_are_told[silent]"] if mark.name != "xdist_group"]
    assert mark.name == "xfail" and mark.kwargs == {"reason": "it never learnt to", "strict": True}
    assert not [mark for mark in marks["steps_are_told[healthy]"] if mark.name != "xdist_group"]
    with refused(
        PluginError, "unknown", "expected_failures", value="step_are_told[silent]", names="steps_are_told[silent]"
    ):
        checks("sick", expected_failures={"step_are_told[silent]": ""})
    with refused(PluginError, "unknown", "sik", names="sick"):
        checks("sik")


def made_up(name: str, error: Exception | None) -> Check:
    def call() -> None:
        if error is not None:
            raise error

    return Check(name, "toy", "It is made up.", call)


@pytest.mark.parametrize(
    ("outcomes", "code", "last"),
    [
        ([None, None], 0, "toy: 2 run, 0 skipped, 2 in total; 0 failed"),
        ([None, CheckFailed("it is not so", "made-up")], 1, "toy: 2 run, 0 skipped, 2 in total; 1 failed"),
        ([None, ZeroDivisionError("oh")], 1, "toy: 2 run, 0 skipped, 2 in total; 1 failed"),
        ([None, "skip"], 1, "toy: 1 run, 1 skipped, 2 in total; 0 failed"),
    ],
)
def test_the_command_counts_what_ran_and_fails_for_less(monkeypatch, capsys, outcomes, code, last):
    from unisono.testing import kit

    monkeypatch.setenv("COLUMNS", "20")  # nothing is cut at any width
    errors = [kit.Skipped("not here") if item == "skip" else item for item in outcomes]
    made = [made_up(f"check_{i}", error) for i, error in enumerate(errors)]
    monkeypatch.setattr(kit, "all_checks", lambda name: made)
    monkeypatch.setattr("unisono.testing.all_checks", lambda name: made)
    assert cli.main(["check", "toy"]) == code
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == last
    for item in errors:
        assert item is None or str(item) in printed


def test_a_failure_is_told_once_with_its_place(sick, monkeypatch, capsys):
    from unisono.testing import kit

    names = ("tiny_recipe_trains[untrained]", "gradient_reaches_every_parameter[untrained]", "steps_are_told[silent]")
    chosen = [sick[name] for name in names]
    monkeypatch.setattr(kit, "all_checks", lambda name: chosen)
    monkeypatch.setattr("unisono.testing.all_checks", lambda name: chosen)
    assert cli.main(["check", "sick"]) == 1
    printed = capsys.readouterr().out
    assert "\nfailed tiny_recipe_trains[untrained], gradient_reaches_every_parameter[untrained]\n" in printed
    assert printed.count("no recipe 'sick/untrained-tiny'") == 1
    (line,) = [line for line in printed.splitlines() if "on_step was never called" in line]
    file, number, _ = line.strip().split(":", 2)
    assert file == "unisono_sick/models.py"
    source = (TESTS / "core/sick/unisono_sick/models.py").read_text(encoding="utf-8").splitlines()
    assert source[int(number) - 1].strip().startswith("def synthesize")
    assert source.index('    """Progress is never told."""') < int(number)


def test_an_error_points_at_the_plugins_own_code(sick):
    found = outcome(sick["every_listed_request_is_served[crashing]"])
    assert found.code == "request-raises" and "colour='red'" in found.reason and "KeyError" in found.reason
    file, number = found.where.rsplit(":", 1)
    line = (TESTS / "core/sick/unisono_sick/models.py").read_text(encoding="utf-8").splitlines()[int(number) - 1]
    assert file == "unisono_sick/models.py" and "request.colour" in line


def test_what_a_run_raised_is_kept_and_raised_again(sick):
    from unisono.testing.model_under_test import once

    class Maker:
        count = 0

        @once
        def made(self):
            self.count += 1
            raise OSError("disk")

    maker = Maker()
    for _ in range(2):
        with pytest.raises(OSError, match="disk"):
            _ = maker.made
    assert maker.count == 1


def test_a_crash_of_a_plugin_is_the_outcome_of_its_check(monkeypatch):
    from unisono.testing import kit

    monkeypatch.setattr(kit, "all_checks", lambda name: [made_up("a", OSError("disk")), made_up("b", None)])
    outcomes = list(run("toy"))
    assert [o.state for o in outcomes] == ["failed", "passed"]
    assert (outcomes[0].reason, outcomes[0].code) == ("OSError: disk", "OSError")


# ---- other processes ---------------------------------------------------------------------------


@pytest.fixture(params=["forked", "started"])
def ways(request, monkeypatch):
    if request.param == "started":  # as elsewhere than on Linux
        monkeypatch.setattr(processes, "_forked", processes._started)


@pytest.mark.usefixtures("ways")
def test_programs_run_in_other_processes_with_what_they_are_given(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    (tmp_path / "shows_itself.py").write_text(
        "import json, os, sys\n"
        "told = [sys.argv[1:], os.getcwd(), os.environ['RANK'], os.getpid(), sys.stdin.read()]\n"
        "json.dump(told, open(sys.argv[1], 'w'))\n"
    )
    programs = [["shows_itself", str(file)] for file in (one, two)]
    processes.other_processes(programs, [{"RANK": "0"}, {"RANK": "1"}], "päper")
    first, second = (json.loads(file.read_text()) for file in (one, two))
    assert first[0] == [str(one)] and second[0] == [str(two)] and (first[2], second[2]) == ("0", "1")
    assert first[1] == second[1] != os.getcwd() and not Path(first[1]).exists()
    assert len({first[3], second[3], os.getpid()}) == 3 and first[4] == "päper"


@pytest.mark.usefixtures("ways")
def test_what_fails_ends_the_others_and_says_why():
    endless = ["http.server", "0", "--bind", "127.0.0.1"]
    for programs, code, said in (
        ([endless, ["unisono", "nonsense"]], 2, "invalid choice"),
        ([["no_such_module"]], 1, "no_such_module"),
    ):
        with pytest.raises(CheckFailed) as caught:
            processes.other_processes(programs, [{}] * len(programs))
        assert caught.value.code == "process-failed" and said in str(caught.value)
        assert caught.value.fields == {"command": ["python", "-m", *programs[-1]], "returned": code}


def test_a_dead_process_that_forks_is_an_error_and_replaced():
    processes.other_processes([["this"]])
    processes._server().kill()
    processes._server().wait()
    with pytest.raises(CheckFailed) as caught:
        processes.other_processes([["this"]])
    assert (caught.value.code, caught.value.fields) == ("fork-server-ended", {"returned": -9})
    processes.other_processes([["this"]])


# ---- outputs as numbers ------------------------------------------------------------------------


def test_media_become_numbers_and_back_to_a_distance():
    wave = np.sin(np.arange(100, dtype=np.float32))[None]
    one = Audio(wave, 8000, (Segment("a", 0.0, 0.5),))
    other = Audio(wave + np.float32(1e-3), 8000, (Segment("a", 0.0, 0.5),))
    assert distance(numbers(one), numbers(one)) == (0.0, "")
    far, where = distance(numbers(one), numbers(other))
    assert where == "output.waveform" and far == pytest.approx(1e-3 / np.abs(wave).max(), rel=1e-3)
    for changed in (
        Audio(wave[:, :99], 8000, one.segments),
        Audio(wave, 8001, one.segments),
        Audio(wave, 8000, (Segment("b", 0.0, 0.5),)),
        Audio(wave, 8000),
    ):
        assert distance(numbers(one), numbers(changed))[0] == float("inf")


def test_what_is_undefined_in_both_is_equal():
    holes = {"x": np.array([1.0, np.nan])}
    assert distance(holes, {"x": np.array([1.0, np.nan])}) == (0.0, "")
    assert distance(holes, {"x": np.array([1.0, 2.0])})[0] == float("inf")
    with pytest.raises(CheckFailed) as caught:
        ensure(False, "so it is", "so", times=3)
    assert (str(caught.value), caught.value.code, caught.value.fields) == ("so it is", "so", {"times": 3})
