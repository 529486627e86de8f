"""Plugins: found by metadata, imported on use, and one that is broken stops nothing but itself."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from refused import refused
from unisono import PLUGIN_API, Plugin, cli
from unisono import plugin as plugins
from unisono.errors import PluginError, RecipeError, RequestError
from unisono.recipe import Recipe

MAJOR, MINOR = map(int, PLUGIN_API.split("."))
GOOD = "from unisono import Plugin\nplugin = Plugin(name={name!r}, api={api!r}, summary='made up'{more})\n"


@pytest.fixture(autouse=True)
def fresh_discovery(monkeypatch):
    monkeypatch.delenv(plugins.ALLOW_LIST, raising=False)
    plugins.discover.cache_clear()
    yield
    plugins.discover.cache_clear()


@pytest.fixture
def install(tmp_path, monkeypatch) -> Callable[..., None]:
    """Return a function that installs a distribution with one plugin, as pip would leave it."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(
        name: str,
        source: str | None = None,
        *,
        api: str = PLUGIN_API,
        more: str = "",
        distribution: str | None = None,
        version: str = "1.2.3",
        module: str | None = None,
    ) -> None:
        distribution = distribution or f"unisono-{name}"
        module = module or f"made_up_{name}"
        (tmp_path / f"{module}.py").write_text(source or GOOD.format(name=name, api=api, more=more))
        info = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{name} = {module}:plugin\n")
        monkeypatch.delitem(sys.modules, module, raising=False)
        plugins.discover.cache_clear()

    return install


def reason(name: str, code: str, path: str = "", **fields: Any) -> str:
    """Ask for a broken plugin; its error must name plugin, distribution and version, and leave others alone."""
    with refused(PluginError, code, path or name, **fields) as caught:
        plugins.get(name)
    states = {state.found.name: state for state in plugins.states()}
    assert not states[name].ok and states[name].reason == str(caught.value)
    assert states["tts"].ok and states["codec"].ok
    assert plugins.get("tts").name == "tts"
    return str(caught.value)


def test_a_plugin_is_found_by_its_entry_point(install):
    install("toy", more=", models={'toy': 'collections:OrderedDict'}")
    assert plugins.discover()["toy"].identity == ("toy", "unisono-toy", "1.2.3")
    assert plugins.get("toy").summary == "made up"
    assert plugins.resolve("toy/toy", "models").__name__ == "OrderedDict"
    assert "made_up_toy" in sys.modules


def test_discovery_imports_nothing(install):
    install("toy")
    assert "toy" in plugins.discover()
    assert "made_up_toy" not in sys.modules


@pytest.mark.parametrize(
    ("source", "code", "path", "value", "names"),
    [
        ("import a_package_that_is_missing", "failed", "toy", None, "ModuleNotFoundError: No module named 'a_package"),
        ("1 / 0", "failed", "toy", None, ["ZeroDivisionError", "repair or uninstall"]),
        ("raise SystemError('no')", "failed", "toy", None, "SystemError: no"),
        ("def", "failed", "toy", None, "SyntaxError"),
        ("other = 1", "failed", "toy", None, "AttributeError"),
        ("plugin = {'name': 'toy'}", "type", "toy", "made_up_toy:plugin", ["dict", "unisono.Plugin"]),
        (GOOD.format(name="boy", api=PLUGIN_API, more=""), "conflict", "toy", "boy", "'boy'"),
        (GOOD.format(name="toy", api="one", more=""), "format", "api", "one", "'1.0'"),
        (GOOD.format(name="toy", api=f"{MAJOR + 1}.0", more=""), "version", "api", f"{MAJOR + 1}.0", "upgrade unisono"),
        (
            *(GOOD.format(name="toy", api=f"{MAJOR}.{MINOR + 1}", more=""), "version"),
            *("api", f"{MAJOR}.{MINOR + 1}", [f"this is {PLUGIN_API}", "upgrade unisono"]),
        ),
        (GOOD.format(name="toy", api="0.9", more=""), "version", "api", "0.9", "upgrade the plugin"),
    ],
)
def test_a_broken_plugin_says_who_it_is_why_and_what_helps(install, source, code, path, value, names):
    install("toy", source)
    said = reason("toy", code, path, value=value, names=names)
    for part in ("'toy'", "unisono-toy", "1.2.3"):
        assert part in said, said


def test_naming_a_recipe_or_model_of_a_broken_plugin_gives_its_reason(install):
    install("toy", "1 / 0")
    with refused(PluginError, "failed", "toy", names=["unisono-toy 1.2.3", "ZeroDivisionError"]):
        Recipe.read("toy/toy-tiny")
    with refused(PluginError, "failed", "toy", names=["unisono-toy 1.2.3", "ZeroDivisionError"]):
        plugins.resolve("toy/toy", "models")
    assert Recipe.read("codec/vocos-tiny").model["name"] == "codec/vocos"


def test_a_name_claimed_twice_belongs_to_nobody(install):
    install("toy", distribution="first-toy", module="toy_one")
    install("toy", distribution="second-toy", version="4.5", module="toy_two")
    reason("toy", "conflict", names=["first-toy 1.2.3", "second-toy 4.5", "uninstall one"])


def test_a_built_in_cannot_be_replaced_silently(install):
    install("tts", distribution="other-tts")
    with refused(PluginError, "conflict", "tts", names="other-tts 1.2.3 and unisono"):
        plugins.get("tts")


def test_a_model_that_cannot_be_imported_names_the_extra(install):
    install("toy", more=", models={'toy': 'a_package_that_is_missing:X', 'gone': 'json:Gone'}, extra='toy'")
    with refused(
        PluginError, "dependency", "toy", value="a_package_that_is_missing:X", names=["1.2.3", "unisono[toy]"]
    ):
        plugins.resolve("toy/toy", "models")
    with refused(PluginError, "failed", "toy", value="json:Gone"):
        plugins.resolve("toy/gone", "models")


def test_unknown_names_are_answered_with_the_nearest():
    with refused(PluginError, "unknown", "tt", names="'tts'"):
        plugins.get("tt")
    with refused(PluginError, "unknown", "tts.models", value="fastpich", names="fastpitch"):
        plugins.resolve("tts/fastpich", "models")
    with refused(PluginError, "format", value="fastpitch", names="plugin/name"):
        plugins.resolve("fastpitch", "models")


@pytest.mark.parametrize(
    ("value", "names"),
    [("tts", ["tts"]), ("codec, tts", ["codec", "tts"]), ("", []), (" , ", []), ("unheard-of", [])],
)
def test_the_allow_list_limits_what_is_found(monkeypatch, value, names):
    monkeypatch.setenv(plugins.ALLOW_LIST, value)
    plugins.discover.cache_clear()
    assert sorted(plugins.discover()) == names
    if "codec" not in names:
        with refused(PluginError, "unknown", "codec", names=plugins.ALLOW_LIST):
            plugins.get("codec")
        with refused(RecipeError, "unknown", "recipe", value="codec/vocos-tiny"):
            Recipe.read("codec/vocos-tiny")


def test_the_manifest_cannot_be_changed_and_takes_names_only():
    with pytest.raises(AttributeError):
        plugins.get("tts").name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        Plugin("toy", "1.0", "made up")  # type: ignore[misc]


def test_the_list_shows_each_plugin_with_its_reason_and_strict_fails(install, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    assert cli.main(["plugins", "--strict"]) == 0
    install("toy", "1 / 0")
    assert cli.main(["plugins"]) == 0
    assert cli.main(["plugins", "--strict"]) == 1
    printed = capsys.readouterr().out
    assert "ZeroDivisionError" in printed and "unisono-toy" in printed and "codec" in printed


def test_on_the_command_line_a_broken_plugin_is_one_sentence_and_exit_code_2(install, capsys):
    install("toy", "1 / 0")
    assert cli.main(["train", "toy/toy-tiny"]) == 2
    assert cli.main(["check", "toy"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 2 and all(line.startswith("unisono: plugin 'toy' (unisono-toy 1.2.3)") for line in said)


# ---- verbs -------------------------------------------------------------------------------------

VERB = """
def add_arguments(parser):
    parser.add_argument("times", type=int)


def run(args, rest):
    from unisono.errors import RequestError

    if args.times < 1:
        raise RequestError(f"times={args.times} must be at least 1")
    print("hum " * args.times)
    return None if args.times == 1 else 3
"""
OFFERS = ", verbs={{{verb!r}: unisono.Verb({module!r}, 'hum a tune, and no more')}}"


@pytest.fixture
def install_verb(install, tmp_path):
    """Return a function that installs a plugin with a verb, and the verb's module, which says so when imported."""

    def make(name: str = "toy", verb: str = "hum", source: str = VERB) -> None:
        module = f"made_up_{name}_verb"
        (tmp_path / f"{module}.py").write_text(source)
        sys.modules.pop(module, None)
        more = OFFERS.format(verb=verb, module=module)
        install(name, "import unisono\n" + GOOD.format(name=name, api=PLUGIN_API, more=more))

    return make


def test_a_plugin_brings_a_verb(install_verb, capsys):
    install_verb()
    assert cli.main(["hum", "1"]) == 0
    assert capsys.readouterr().out == "hum \n"
    assert cli.main(["hum", "2"]) == 3
    assert cli.main(["hum", "0"]) == 2
    assert capsys.readouterr().err == "unisono: times=0 must be at least 1\n"
    for wrong in (["hum", "one"], ["hum", "1", "--loud"], ["hum"], ["hmm"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(wrong)
        assert stop.value.code == 2
    assert "unknown argument '--loud'; see unisono hum --help" in capsys.readouterr().err


def test_help_lists_a_plugins_verb_without_importing_its_module(install_verb, capsys):
    install_verb()
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "hum a tune, and no more" in capsys.readouterr().out
    assert "made_up_toy_verb" not in sys.modules
    with pytest.raises(SystemExit):
        cli.main(["hum", "--help"])
    shown = capsys.readouterr().out
    assert shown.startswith("usage: unisono hum") and "Hum a tune, and no more." in shown
    assert cli.main(["plugins"]) == 0
    assert "unisono hum" in " ".join(capsys.readouterr().out.split())


def test_a_core_verb_does_not_ask_the_plugins(install, capsys):
    install("toy", "raise SystemExit('imported')")
    with pytest.raises(SystemExit) as stop:
        cli.main(["export", "--help"])
    assert stop.value.code == 0


@pytest.mark.parametrize(
    ("verb", "code"), [("train", "exists"), ("Hum", "format"), ("--hum", "format"), ("", "format"), ("1st", "format")]
)
def test_a_verb_that_cannot_be_is_refused(install_verb, verb, code):
    install_verb(verb=verb)
    reason("toy", code, "toy.verbs", value=verb, names=[repr(verb), "give it another name"])


def test_a_verb_of_two_plugins_is_neithers(install_verb, capsys):
    install_verb("one")
    install_verb("two")
    assert cli.main(["hum", "1"]) == 2
    said = capsys.readouterr().err
    for part in ("the verb 'hum' is claimed by", "'one' (unisono-one", "'two' (unisono-two", "uninstall one"):
        assert part in said
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "claimed by the plugins one and two" in capsys.readouterr().out
    assert cli.main(["plugins", "--strict"]) == 0


def test_a_verb_whose_module_is_broken_says_whose_it_is(install_verb, capsys):
    install_verb(source="import a_package_that_is_missing")
    assert cli.main(["hum", "1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("unisono: plugin 'toy' (unisono-toy 1.2.3): 'made_up_toy_verb' cannot be imported")


def test_a_broken_plugin_takes_no_verb_from_the_others(install, install_verb, capsys):
    install_verb()
    install("bad", "1 / 0")
    assert cli.main(["hum", "1"]) == 0
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert "hum a tune" in capsys.readouterr().out


def test_an_editable_install_that_is_seen_twice_is_one_plugin(tmp_path):
    """The metadata of one distribution may lie on the path twice, as in a checkout with an egg-info."""
    folders = []
    for name in ("a", "b"):
        info = tmp_path / name / "unisono_toy-1.2.3.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: unisono-toy\nVersion: 1.2.3\n")
        (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\ntoy = made_up_toy:plugin\n")
        folders.append(str(info.parent))
    code = f"import sys; sys.path[:0] = {folders}\nfrom unisono import plugin\nprint(plugin.discover()['toy'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(tmp_path))
    assert done.stdout.count("made_up_toy:plugin") == 1


READER = """
import json
import torch
from unisono import Model, Plugin
from unisono.media import Text


class Hummer(Model):
    Media = Text


def read(folder):
    model = Hummer()
    model.build({{"from": folder.name}})
    model.recipe = {{"model": {{"name": "{name}/hummer"}}}}
    return model


plugin = Plugin(name="{name}", api="{api}", summary="made up", importers={{"hummer": "made_up_{name}:read"}})
"""


TIMES = """
from unisono import Plugin
from unisono.media import TimesFormat
FORMAT = TimesFormat(lambda times, options: f"{{times.length}} {name}")
plugin = Plugin(name={name!r}, api={api!r}, summary='made up', times={{'.Lab': 'made_up_{name}:FORMAT'}})
"""


def test_a_plugin_writes_times_of_any_medium(install, monkeypatch):
    from unisono.media import Segment, Times, TimesWriter

    times = Times((Segment("a", 0, 1),), 8, 8)
    with refused(RequestError, "unsupported", ".lab", value=".lab"):
        TimesWriter.of(".lab")
    install("toy", TIMES.format(name="toy", api=PLUGIN_API))
    writer = TimesWriter.of(".lab")  # by small letters, too
    assert (writer.suffix, writer.content(times)) == (".Lab", b"8 toy") and ".Lab" in plugins.times_suffixes()
    install("boy", TIMES.format(name="boy", api=PLUGIN_API))
    with refused(PluginError, "conflict", "times", value=".Lab", names=["'boy'", "'toy'"]):
        TimesWriter.of(".lab")
    monkeypatch.setenv(plugins.ALLOW_LIST, "toy,tts,codec")  # two that name the same are no conflict
    plugins.discover.cache_clear()
    assert TimesWriter.of(".lab").content(times) == b"8 toy" and TimesWriter.of(".srt").suffix == ".srt"
    monkeypatch.setenv(plugins.ALLOW_LIST, "")
    plugins.discover.cache_clear()
    with refused(RequestError, "unsupported", "x", names="no plugin that is installed writes any"):
        TimesWriter.of(".srt", path="x")


def test_times_that_point_nowhere_are_listed(install, capsys):
    install("toy", GOOD.format(name="toy", api=PLUGIN_API, more=", times={'.a': 'nowhere:X', '.b': 'json:dumps'}"))
    assert cli.main(["plugins", "--strict"]) == 1
    told = capsys.readouterr()
    assert "toy: times: '.b' points at json:dumps, a function and no TimesFormat" in told.out + told.err


def test_a_plugin_reads_another_layout(install, tmp_path):
    from unisono import load
    from unisono.errors import CheckpointError

    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "hummer"}')
    with refused(CheckpointError, "unknown", "config.json", value="hummer"):
        load(folder)
    install("toy", READER.format(name="toy", api=PLUGIN_API))
    synth = load(folder)
    assert synth.model.facts == {"from": "theirs"} and synth.info["imported"] == "hummer" and not synth.model.training
    install("boy", READER.format(name="boy", api=PLUGIN_API))
    with refused(CheckpointError, "conflict", "config.json", value="hummer", names=["'boy'", "'toy'"]):
        load(folder)
    (folder / "config.json").write_text('["hummer"]')
    with refused(CheckpointError, "format", "config.json"):
        load(folder)
