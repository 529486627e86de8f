"""Every block and command of README, docs and cards says what is true: it runs, or its names and values exist.

Python blocks of a page run one after the other in one namespace, as a reader would type them, beside those commands of
the page that take seconds (``RUN``). Other commands are taken apart: verb, flags, recipe and keys, fields of requests.
What a comment behind ``print(…)`` shows up to an ellipsis is what is printed.
Names of a reader's own (my-voice, CHECKPOINT) stand for exports of this repository (``STAND_INS``).
"""

import argparse
import contextlib
import io
import json
import math
import os
import re
from importlib import import_module
from pathlib import Path
from typing import Annotated

import pytest
from pages import NAMES, PAGES, ROOT, anchors, blocks, commands, options_of
from pydantic import TypeAdapter
from unisono import cli, plugin
from unisono.cli.generate import request_flags
from unisono.errors import RecipeError

STAND_INS = {
    **dict.fromkeys(("my-voice", "letters-voice", "voice"), "checkpoints/tts-en"),
    **dict.fromkeys(("my-vocoder", "other-vocoder", "third-vocoder"), "checkpoints/tts-en/components/vocoder"),
    **dict.fromkeys(("my-codec", "CHECKPOINT"), "checkpoints/codec-en"),
    **dict.fromkeys(("my-ar", "base"), "checkpoints/text-ar-shakespeare"),
    **dict.fromkeys(("my-mdlm", "my-model"), "checkpoints/text-mdlm-shakespeare"),
    **dict.fromkeys(("my-motion", "move"), "checkpoints/motion-bandai"),
    **dict.fromkeys(("my-tokenizer", "tokenizer"), "checkpoints/motion-bandai/components/tokenizer"),
    "my-lifter": "checkpoints/motion-lifter",
    "matcher": "checkpoints/motion-bandai/components/matcher",
    "my-soundstorm": "checkpoints/soundstorm-en",
    **dict.fromkeys(("my-gmlm", "my-gmlm-levels"), "checkpoints/gmlm-digits"),
    "GRVQ": "checkpoints/gmlm-digits/components/codec",
    "LISTENER": "checkpoints/gmlm-digits/components/listener",
}
RUN = ("generate", "batch", "codec", "recipes", "plugins", "models", "package", "new-plugin")
"""Verbs whose commands are run; the others train, measure a corpus, or need one."""

SLOW = {"README.md", "docs/text-to-motion.md", "docs/text-decoding.md"}

SETUP = {
    "docs/deer.md": "import torch\nx = torch.randn(2, 12, 8)",
    "docs/codec.md": "import torch\nwave, lengths = torch.zeros(2, 9600), torch.tensor([9600, 4800])",
    "docs/codec-files.md": (
        "import torch, unisono\ncodec = unisono.load('CHECKPOINT').model\n"
        "chunks_of_waves = [torch.zeros(1, 4800)] * 2\nchunks_of_tokens = [codec.encode(torch.zeros(1, 9600))]"
    ),
    "docs/duration.md": (
        "import torch\nfrom unisono.duration import (Aligner, beta_binomial_prior, binarisation_loss,"
        " forward_sum_loss, ramp, search)\nstep = 2500\naligner = Aligner(16, 80)\nembedded = torch.randn(2, 5, 16)\n"
        "mel = torch.randn(2, 30, 80)\ntext_lengths, mel_lengths = torch.tensor([5, 3]), torch.tensor([30, 21])"
    ),
    "docs/picture-codecs.md": "from PIL import Image\nImage.linear_gradient('L').resize((72, 72)).save('picture.png')",
    "docs/text-decoding.md": "def allowed(text):\n    return True",
}
"""What a reader has beside the page: names that its Python blocks take as given."""

HAS_PYTHON = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A folder as a reader has it: the exports under their own names, recordings, a clip, lines of text."""
    import numpy as np
    import soundfile

    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    for name, target in STAND_INS.items():
        (tmp_path / name).symlink_to(ROOT / target)
    time = np.arange(2 * 22050) / 22050
    buzz = sum(np.sin(2 * np.pi * 110 * k * time) / k for k in range(1, 9)) * 0.1 * (1 + np.sin(6 * time))
    for name in ("recording.wav", "somebody.wav", "in.wav"):
        soundfile.write(name, buzz, 22050)
    Path("lines.txt").write_text("One line.\nAnother.\n", encoding="utf-8")
    Path("requests.jsonl").write_text('{"text": "One line.", "speaker": "lj", "pace": 1.1}\n', encoding="utf-8")
    return tmp_path


@pytest.fixture
def clip(reader):
    import unisono

    unisono.load("checkpoints/motion-bandai")("a person walks", seconds=4, num_steps=1).save("clip.bvh")


def marked(page: Path):
    marks = [pytest.mark.slow] if NAMES[page] in SLOW else []
    return pytest.param(page, id=NAMES[page], marks=marks)


@pytest.mark.parametrize("page", [marked(page) for page in HAS_PYTHON])
@pytest.mark.filterwarnings("ignore")
def test_the_blocks_of_a_page_run(page, reader, request, monkeypatch):
    shown = blocks(page)
    if any("clip.bvh" in block.text for block in shown if not block.not_run):
        request.getfixturevalue("clip")
    monkeypatch.syspath_prepend(reader)
    space: dict = {}
    exec(compile(SETUP.get(NAMES[page], ""), f"setup of {NAMES[page]}", "exec"), space)
    for block in shown:
        if block.not_run or block.source:
            continue
        if block.language == "python":
            first = block.text.split("\n", 1)[0]
            if match := re.fullmatch(r"# (\w+\.py)", first):
                (reader / match[1]).write_text(block.text, encoding="utf-8")
            code = compile("\n" * block.line + block.text, NAMES[page], "exec")
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(code, space)
            for said in re.findall(r"^ *print\(.*\)  # (.+?)[, ]*…$", block.text, re.MULTILINE):
                assert said in printed.getvalue(), f"{block.place}: prints {printed.getvalue()!r}, not {said!r}"
        for words, output in commands(block):
            if words[0] == "unisono" and words[1] in RUN and words[1:3] != ["codec", "import"]:
                assert run(words[1:]) == int(bool(output and output[0].startswith("unisono: "))), block.place


def run(words: list[str]) -> int:
    """Run a command in this process and return its exit code."""
    with contextlib.suppress(SystemExit), open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        return cli.main(words)
    return 0


# ---- commands, taken apart -------------------------------------------------------------------------

NEW = {"sketch", "note-rows", "beep"}
"""Plugins that `unisono new-plugin` makes on the pages, which nobody has installed here."""


def names(words: list[str]) -> set[str]:
    """The plugins and models that the words behind a verb name."""
    if words[1:2] == ["new-plugin"]:
        return set()
    return {word.partition("/")[0].removeprefix("my-") for word in words[2:]}


SHELL = [
    pytest.param(block, words, output, id=f"{block.place}-{index}")
    for page in PAGES
    for block in blocks(page)
    for index, (words, output) in enumerate(commands(block))
    if words and words[0] == "unisono" and not (names(words) & NEW)  # test_packaging types those
]


def parser_of(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"unisono {verb}", conflict_handler="resolve", exit_on_error=False)
    own = f"unisono.cli.{verb.replace('-', '_')}"
    module = import_module(own) if verb in cli.VERBS else plugin.verb_module(verb)
    module.add_arguments(parser)
    return parser


def request_of(export: str):
    """The request of the model in an export, under a reader's name for it."""
    path = ROOT / STAND_INS.get(export, export)
    if not path.is_dir():  # a model's name
        path = ROOT / "checkpoints" / export
    assert path.is_dir(), f"{export} is no export of this repository, and STAND_INS has no name for it"
    info = json.loads((path / "unisono.json").read_text(encoding="utf-8"))
    return plugin.resolve(info["model"], "models").Request


def check_value(kind, field: str, value) -> None:
    """Raise where a field of a request cannot have a value, whatever its other fields are."""
    about = kind.model_fields[field]
    TypeAdapter(Annotated[(about.annotation, *about.metadata, field)]).validate_python(value)


@pytest.mark.parametrize(("block", "words", "output"), SHELL)
def test_a_command_can_be_typed(block, words, output):
    from unisono.cli.tune import split_ranges
    from unisono.recipe import Recipe, all_recipes
    from unisono.tune.ranges import fitted

    _, verb, *rest = words
    assert verb in {**cli.VERBS, **cli.plugin_verbs()}, f"there is no verb {verb!r}"
    rest = [word for word in rest if word not in ("…",)]
    if "--help" in rest:
        rest.remove("--help")
        args, free = parser_of(verb).parse_known_args(rest)
        return
    args, free = parser_of(verb).parse_known_args(rest)
    refused = next((line for line in output if line.startswith("unisono: ")), "")
    if verb in ("train", "data", "tune", "assemble"):
        name = args.recipe
        ranges, free = split_ranges(free) if verb == "tune" else ({}, free)
        assert name.endswith(".yaml") or name in all_recipes(), f"there is no recipe {name}"
        if name.endswith(".yaml"):
            name = name.removesuffix(".yaml").replace("-", "/", 1)
        try:
            fitted(Recipe.read(name, free), ranges or {"seed": "1..2"})
        except RecipeError as error:
            assert f"unisono: {error}" == refused, f"{block.place}: {error}"
        else:
            assert not refused
    elif verb in ("generate", "batch"):
        fields, _ = request_flags(request_of(args.checkpoint), free)
        for field, value in fields.items():
            check_value(request_of(args.checkpoint), field, value)
    elif verb == "sweep":
        kind = request_of(args.checkpoint)
        for flag in free:
            name, _, values = flag.removeprefix("--").partition("=")
            assert name.replace("-", "_") in kind.model_fields, f"the request of {args.checkpoint} has no {name}"
            for value in values.split(","):
                given, _ = request_flags(kind, [f"--{name}={value}"])
                check_value(kind, *next(iter(given.items())))
    else:
        assert not free, f"{verb} takes no {free}"
    if verb == "recipes" and getattr(args, "name", None):
        assert args.name in all_recipes()
    for word in words[2:]:
        path = word.partition("=")[2] or word
        if path.startswith("checkpoints/"):
            assert (ROOT / path).exists(), f"{path} does not exist"


# ---- synopses, paths, anchors, figures -------------------------------------------------------------

COMMANDS_PAGE = ROOT / "docs/command-line.md"


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_a_synopsis_names_the_flags_that_there_are(verb):
    section = COMMANDS_PAGE.read_text(encoding="utf-8").partition(f"\n## {verb}\n")[2].partition("\n## ")[0]
    parser = parser_of(verb)
    known = {flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                known |= {flag for entry in child._actions for flag in entry.option_strings if flag.startswith("--")}
    synopsis = "\n".join(
        block.text for block in blocks(COMMANDS_PAGE) if block.text in section and block.language == "text"
    )
    invented = options_of(synopsis) - known - {"--section", "--field", "--FIELD", "--help"}
    assert not invented, f"unisono {verb} has no {sorted(invented)}"
    shorter = {
        flag
        for action in parser._actions
        for flag in action.option_strings
        if f"{action.option_strings[0]} " in section
    }
    unsaid = known - options_of(section) - shorter - {"--help", "--component"}
    assert not unsaid, f"command-line.md does not say {sorted(unsaid)} of {verb}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES.get)
def test_links_lead_to_headings(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\(([^)\s#:]*)#([^)\s]+)\)", text):
        other = (page.parent / target).resolve() if target else page
        if other.suffix == ".md":
            assert anchor in anchors(other), f"{NAMES[page]}: {target}#{anchor} is no heading of that page"


@pytest.mark.parametrize("page", PAGES, ids=NAMES.get)
def test_paths_of_the_repository_exist(page):
    text = page.read_text(encoding="utf-8")
    tops = "core|plugins|recipes|tests|docs|checkpoints|benchmarks|tools"
    for path in set(re.findall(rf"`((?:{tops})/[\w./-]+?)`", text)):
        if path == path.lower() or "README" in path:  # MODEL stands for several
            assert (ROOT / path).exists(), f"{NAMES[page]}: {path} does not exist"


def test_the_tree_in_contributing_is_the_tree():
    (tree,) = [block for block in blocks(ROOT / "CONTRIBUTING.md") if block.text.startswith("core/unisono/ ")]
    folder = ""
    for line in tree.text.splitlines():
        indented = line.startswith("    ") and not line.startswith("     ")
        if line.startswith(" ") and not indented:
            continue  # the rest of a comment
        names = re.match(r" *((?:[\w./-]+ )+)", line + " ")[1].split() if indented or line[:1].strip() else []
        named = [name for name in names if name.endswith("/") or "." in name]
        for name in named:
            path = f"{folder}{name}" if indented else name
            assert (ROOT / path).exists(), f"the tree names {path}, which does not exist"
        if not indented and named:
            folder = named[0]


@pytest.mark.parametrize("export", sorted(ROOT.glob("checkpoints/*")), ids=lambda path: path.name)
def test_a_card_tells_what_the_export_holds(export):
    from safetensors import safe_open

    card, info = (export / "README.md").read_text(encoding="utf-8"), json.loads((export / "unisono.json").read_text())
    with safe_open(export / "model.safetensors", "pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    held = sum(math.prod(shape) for shape in shapes.values())
    told = float(re.search(r"([\d.]+) M parameters", card)[1])
    # The file holds buffers too, such as codebooks; weights that only training needs are in neither.
    assert told < held / 1e6 + 0.01, f"the card tells {told} M parameters, the file holds {held / 1e6:.2f} M numbers"
    assert info["parameters"] == pytest.approx(told * 1e6, abs=6e3)
    for name, value in info.get("metrics", {}).items():
        assert f"| {name} | {value} |" in card, f"the card does not tell {name} as unisono.json does"


def test_a_block_that_shows_a_file_is_that_file():
    shown = [block for page in PAGES for block in blocks(page) if block.source]
    assert len(shown) >= 6
    for block in shown:
        assert block.text == (ROOT / block.source).read_text(encoding="utf-8"), f"{block.place} is not {block.source}"


def test_blocks_that_are_not_run_say_why():
    reasons = [block for page in PAGES for block in blocks(page) if block.not_run]
    assert all(len(block.not_run.split()) >= 3 for block in reasons)
    ran = sum(block.language == "python" and not block.not_run for page in PAGES for block in blocks(page))
    assert ran >= 35 and len(SHELL) >= 100


def test_a_block_is_found_with_its_reason(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n<!-- not run: needs a GPU -->\n```python\nx = 1\n```\n\n```python\ny = 2\n```\n")
    assert [(b.text, b.line, b.not_run) for b in blocks(page)] == [("x = 1\n", 4, "needs a GPU"), ("y = 2\n", 8, "")]


@pytest.mark.skipif(not (ROOT / "checkpoints").exists(), reason="a source distribution has no checkpoints")
def test_the_readme_tells_of_each_model_what_its_card_tells():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = {match[1]: match[0] for match in re.finditer(r"^\| \[([\w-]+)\]\(checkpoints/.*$", text, re.MULTILINE)}
    exports = {path.name: path for path in ROOT.glob("checkpoints/*")}
    assert rows.keys() == exports.keys()
    for name, row in rows.items():
        card = (exports[name] / "README.md").read_text(encoding="utf-8")
        _, _, _, size, licence, figure, load, _ = (cell.strip() for cell in row.split("|"))
        megabytes = sum(path.stat().st_size for path in exports[name].rglob("*") if path.is_file()) / 1e6
        parameters, told = size.split(" M, ")
        assert f", {parameters} M parameters" in card
        assert float(told.removesuffix(" MB")) == pytest.approx(megabytes, abs=0.6)
        assert f"| Licence of the weights | {licence}" in card
        assert load == f'`unisono.load("{name}")`'
        numbers = re.findall(r"\d+\.\d+", figure.partition("(autoregressive")[0])  # whose figure is on its own card
        assert numbers and all(number in card for number in numbers), f"{name}: {numbers} are not all on its card"
