"""Wrong input: one clear sentence that names the value and the fix, exit code 2, no traceback."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from unisono.cli import main

RATE = 22050


@pytest.fixture
def complaint(capfd) -> Callable[..., str]:
    """Return a function that runs a command which must fail, and returns its one sentence."""

    def run(*argv: object) -> str:
        capfd.readouterr()
        code = main([str(item) for item in argv])
        err = capfd.readouterr().err
        lines = [line for line in err.splitlines() if line.strip()]
        assert code == 2, err
        assert len(lines) == 1, err
        assert lines[0].startswith("unisono: ")
        assert "Traceback" not in err
        assert len(lines[0]) < 600
        return lines[0].removeprefix("unisono: ")

    return run


@pytest.fixture
def said(capfd) -> Callable[..., str]:
    """Return a function that runs a command which must succeed, and returns what it printed."""

    def run(*argv: object) -> str:
        capfd.readouterr()
        code = main([str(item) for item in argv])
        captured = capfd.readouterr()
        assert code == 0, captured.err
        return captured.out

    return run


def matches(sentence: str, *parts: str) -> None:
    for part in parts:
        assert part in sentence, sentence


# ---- requests ----------------------------------------------------------------------------------

REQUESTS = {
    "empty": (["--text="], "the text '' is empty", "give at least one word"),
    "blank": (["  \n\t "], "is empty", "give at least one word"),
    "punctuation": (["?! … —"], "'?! … —' holds punctuation only", "give at least one word"),
    "no text": ([], "text is required"),
    "emoji": (["Hello 🎉 world"], "'🎉' (U+1F389 PARTY POPPER)", "remove it, or spell it out"),
    "only an emoji": (
        ["🎉"],
        "the text '🎉' holds neither letters nor digits",
        "give at least one word",
    ),
    "another script": (
        ["Hello мир"],
        "'м' (U+043C CYRILLIC SMALL LETTER EM)",
        "'en-us'",
        "spell it out",
    ),
    "symbol": (["a ☃ b"], "'☃' (U+2603 SNOWMAN)", "spell it out"),
    "control character": (["a \x07 b"], "U+0007", "remove it"),
    "pace 0": (["Hello", "--pace=0"], "pace=0: input should be greater than or equal to 0.25"),
    "pace negative": (
        ["Hello", "--pace", "-1"],
        "pace=-1: input should be greater than or equal to 0.25",
    ),
    "pace nan": (["Hello", "--pace=nan"], "pace='nan': input should be a finite number"),
    "pace .nan": (["Hello", "--pace=.nan"], "pace=nan: input should be a finite number"),
    "pace inf": (["Hello", "--pace=.inf"], "pace=inf: input should be"),
    "pace too high": (["Hello", "--pace=5"], "pace=5: input should be less than or equal to 4"),
    "pace a word": (["Hello", "--pace=fast"], "pace='fast': input should be a valid number"),
    "pace a riddle": (["Hello", "--pace=["], "--pace=[ is not a number, a word or a list"),
    "speaker": (
        ["Hello", "--speaker=katleen"],
        "unknown speaker 'katleen'",
        "did you mean 'kathleen'?",
    ),
    "speaker far off": (["Hello", "--speaker=zz"], "unknown speaker 'zz'", "known: kathleen, lj"),
    "speaker a number": (["Hello", "--speaker=1"], "unknown speaker '1'", "known: kathleen, lj"),
    "shift": (
        ["Hello", "--pitch-shift=13"],
        "pitch_shift=13: input should be less than or equal to 12",
    ),
    "range": (["Hello", "--pitch-range=-0.1"], "pitch_range=-0.1: input should be greater"),
    "energy": (
        ["Hello", "--energy=-13"],
        "energy=-13: input should be greater than or equal to -12",
    ),
    "seed": (["Hello", "--seed=-1"], "seed=-1: input should be greater than or equal to 0"),
    "word paces": (
        ["Hello you", "--word-paces=[1]"],
        "word_paces has 1 numbers, the text has 2 words: give one per word",
    ),
    "word pace 0": (
        ["Hello you", "--word-paces=[1, 0]"],
        "word_paces holds 0.0: each must be from 0.25 to 4",
    ),
    "unknown flag": (
        ["Hello", "--pich-shift=2"],
        "unknown flag --pich_shift",
        "did you mean 'pitch_shift'?",
    ),
    "flag without value": (["Hello", "--pace"], "--pace has no value: write --pace=VALUE"),
    "two texts": (
        ["Hello", "world"],
        "'world' is one text too many: put a text with spaces in quotes",
    ),
    "batch size": (["Hello", "--batch-size=0"], "--batch-size 0 must be at least 1"),
    "device": (["Hello", "--device=gpu9"], "device 'gpu9' cannot be used", "take 'cpu'"),
    "component": (["Hello", "--component=vocoder"], "--component 'vocoder' is not ROLE=WHERE"),
    "component role": (
        ["Hello", "--component=vocodr=griffin-lim"],
        "no component 'vocodr'",
        "did you mean 'vocoder'?",
    ),
    "component place": (["Hello", "--component=vocoder=/nowhere"], "no export at '/nowhere'"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_requests(complaint, voice_export, tmp_path, name):
    arguments, *parts = REQUESTS[name]
    output = tmp_path / "x.wav"
    matches(complaint("generate", voice_export, *arguments, "-o", output), *parts)
    assert not output.exists()


def test_a_place_for_the_output(complaint, voice_export, tmp_path):
    matches(
        complaint("generate", voice_export, "Hello"), "where should the output go?", "-o out.wav"
    )
    matches(
        complaint("generate", voice_export, "Hello", "-o", tmp_path / "x.wave"),
        "'.wave'",
        "use one of .wav, .flac",
    )
    matches(
        complaint("generate", voice_export, "Hello", "-o", tmp_path / "x"),
        "a file without suffix",
        "use one of",
    )
    (tmp_path / "file").write_text("")
    matches(
        complaint("generate", voice_export, "Hello", "-o", tmp_path / "file" / "x.wav"),
        "cannot write",
        "another place",
    )
    picture = tmp_path / "x.nonsense"
    matches(
        complaint("generate", voice_export, "Hello", "-o", tmp_path / "x.wav", "--plot", picture),
        "--plot",
        "x.nonsense",
        "cannot be written",
    )


def test_many_texts(complaint, voice_export, tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("Hello\n")
    matches(complaint("generate", voice_export, "--input", lines), "--input needs --output-dir DIR")
    many = ("generate", voice_export, "--input", lines, "--output-dir", tmp_path / "out")
    matches(complaint(*many, "--suffix=.wave"), "'.wave'", "use one of .wav")
    matches(complaint(*many, "--suffix=flac"), "0001flac", "use one of .wav")
    matches(complaint(*many, "Hello"), "'Hello' does not go with --input")
    matches(complaint(*many, "-o", "x.wav"), "-o does not go with --input")
    matches(complaint(*many, "--pce=2"), "unknown flag --pce", "did you mean 'pace'?")
    lines.unlink()
    matches(complaint(*many), "--input", "lines.txt", "cannot be read as UTF-8 text")
    lines.write_bytes(b"caf\xe9\n")
    matches(complaint(*many), "--input", "lines.txt", "cannot be read as UTF-8 text")


def test_twenty_thousand_characters_are_spoken(said, voice_export, tmp_path):
    text = ("The ship left at dawn, and nobody waved. " * 500)[:20_000]
    said("generate", voice_export, text, "--pace=4", "-o", tmp_path / "long.flac")
    assert soundfile.info(tmp_path / "long.flac").duration > 100


# ---- recordings --------------------------------------------------------------------------------


def tone(path: Path, seconds: float = 1.0, rate: int = RATE, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.3 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, np.stack([wave * (0.5 if c else 1) for c in range(channels)], 1), rate)
    return path


def truncated(path: Path) -> Path:
    data = tone(path).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def zero_length(path: Path) -> Path:
    return tone(path, seconds=0)


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def not_audio(path: Path) -> Path:
    path.write_text("once upon a time")
    return path


RECORDINGS = {
    truncated: ("truncated: its header promises", "copy it again"),
    zero_length: ("holds no samples", "record it again or take it off the list"),
    empty: ("is empty (0 bytes)", "copy it again"),
    not_audio: ("cannot be read as audio", "convert it to wav, flac or ogg"),
    lambda path: path: ("no such audio file", "check the path"),
}


@pytest.mark.parametrize("make", RECORDINGS, ids=lambda f: f.__name__)
def test_recordings_to_a_vocoder(complaint, vocoder_export, tmp_path, make):
    path = make(tmp_path / "in.wav")
    matches(
        complaint("generate", vocoder_export, path, "-o", tmp_path / "x.wav"),
        "in.wav",
        *RECORDINGS[make],
    )


def test_a_stereo_recording_of_another_rate_is_heard(said, vocoder_export, tmp_path):
    path = tone(tmp_path / "stereo.wav", seconds=2, rate=44100, channels=2)
    said("generate", vocoder_export, path, "-o", tmp_path / "x.wav")
    info = soundfile.info(tmp_path / "x.wav")
    assert (info.samplerate, info.channels) == (RATE, 1)
    assert info.duration == pytest.approx(2, abs=0.02)


AUDIT = ("data", "audit", "tts/fastspeech-ljspeech", "--no-progress", "--data.num_processes=1")


@pytest.fixture
def corpus(tmp_path) -> Path:
    folder = tmp_path / "corpus"
    for index in range(3):
        tone(folder / "wavs" / f"good{index}.wav")
    (folder / "metadata.csv").write_text(
        "".join(f"good{i}|Sentence number {i}.\n" for i in range(3))
    )
    return folder


def test_bad_recordings_are_dropped_with_their_reasons(said, corpus):
    truncated(corpus / "wavs" / "cut.wav")
    zero_length(corpus / "wavs" / "none.wav")
    not_audio(corpus / "wavs" / "text.wav")
    tone(corpus / "wavs" / "stereo.wav", rate=44100, channels=2)
    with (corpus / "metadata.csv").open("a") as file:
        file.write(
            "".join(
                f"{name}|Some other words, {name}.\n" for name in ("cut", "none", "text", "stereo")
            )
        )
        file.write("good0b|🎉\n")
    tone(corpus / "wavs" / "good0b.wav")
    report = corpus / "audit.json"
    said(*AUDIT, f"--data.root={corpus}", f"--json={report}")
    audit = json.loads(report.read_text())
    assert audit["kept"] == 4
    reasons = {item["id"]: (item["reason"], item["detail"]) for item in audit["dropped"]}
    assert set(reasons) == {"cut", "none", "text", "good0b"}
    assert "truncated" in " ".join(reasons["cut"])
    assert "no samples" in " ".join(reasons["none"])
    assert "🎉" in " ".join(reasons["good0b"])


def test_a_corpus_of_bad_recordings_only(complaint, corpus):
    for index in range(3):
        truncated(corpus / "wavs" / f"good{index}.wav")
    matches(
        complaint(*AUDIT, f"--data.root={corpus}"),
        "no usable recording in",
        "corpus",
        "3 unreadable",
    )


MANIFESTS = {
    "no column": (
        "id,audio,words\n1,wavs/good0.wav,Hello\n",
        "line 1: no column 'text'",
        "name it 'text'",
    ),
    "no file": (
        "audio,text\nwavs/gone.wav,Hello\n",
        "line 2: audio file",
        "gone.wav does not exist",
        "remove the line",
    ),
    "no fields": (
        "audio,text\nwavs/good0.wav\n",
        "line 2: 1 fields, the header has 2 (audio, text)",
    ),
    "no rows": ("audio,text\n", "lists no utterances"),
    "twice": (
        "audio,text\nwavs/good0.wav,A\nwavs/good0.wav,B\n",
        "line 3",
        "stands on line 2 already",
        "remove one",
    ),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests(complaint, corpus, name):
    content, *parts = MANIFESTS[name]
    (corpus / "table.csv").write_text(content)
    matches(complaint(*AUDIT, f"--data.root={corpus / 'table.csv'}"), "table.csv", *parts)


def test_places_without_a_corpus(complaint, tmp_path):
    matches(
        complaint(*AUDIT, f"--data.root={tmp_path / 'gone'}"),
        "gone: no such folder or file; check data.root",
    )
    matches(
        complaint(*AUDIT, f"--data.root={tmp_path}"), "no metadata.csv in it", "LJSpeech layout"
    )


def test_an_unknown_language(complaint, corpus):
    sentence = complaint(*AUDIT, f"--data.root={corpus}", "--data.language=xx-klingon")
    matches(sentence, "'xx-klingon'", "language")


# ---- recipes -----------------------------------------------------------------------------------

TINY = "tts/fastspeech-tiny"
RECIPES = {
    "name": (
        ["tts/quickstrat"],
        "no recipe 'tts/quickstrat'",
        "did you mean 'tts/quickstart'?",
        "unisono recipes",
    ),
    "file": (["gone.yaml"], "recipe file 'gone.yaml' does not exist"),
    "plugin": (["nope/tiny"], "no recipe 'nope/tiny'", "unisono recipes lists them"),
    "section": ([TINY, "--modle.dim=3"], "unknown section 'modle'", "did you mean 'model'?"),
    "key": (
        [TINY, "--model.encoder_layer=3"],
        "unknown key model.encoder_layer",
        "did you mean 'encoder_layers'?",
    ),
    "trainer key": (
        [TINY, "--trainer.max_step=3"],
        "unknown key trainer.max_step",
        "did you mean 'max_steps'?",
    ),
    "nested key": ([TINY, "--data.mel.hop=3"], "unknown key data.mel.hop"),
    "type": ([TINY, "--model.dim=wide"], "model.dim=wide must be of type int"),
    "type of a list": ([TINY, "--optim.betas=[a, b]"], "optim.betas", "must be of type", "float"),
    "size": ([TINY, "--model.dim=-4"], "cannot be built from the model section", "check its sizes"),
    "choice": ([TINY, "--model.mel_loss=l3"], "model.mel_loss=l3 must be one of 'mse', 'l1'"),
    "seed": ([TINY, "--seed=-1"], "seed=-1 must be a whole number"),
    "missing root": (["tts/fastspeech-ljspeech"], "data.root is required", "--data.root=VALUE"),
    "model name": (
        [TINY, "--model.name=tts/fastspech"],
        "no model 'fastspech'",
        "did you mean 'fastspeech'?",
    ),
    "data name": (
        [TINY, "--data.name=tts/speach"],
        "no data set 'speach'",
        "did you mean 'speech'?",
    ),
    "plugin of a model": (
        [TINY, "--model.name=ttx/fastspeech"],
        "no plugin 'ttx' is installed",
        "did you mean 'tts'?",
    ),
    "component role": (
        [TINY, "--components.vocodr=griffin-lim"],
        "unknown component 'vocodr'",
        "did you mean 'vocoder'?",
    ),
    "component place": ([TINY, "--components.vocoder=/nowhere"], "no export at '/nowhere'"),
    "no value": ([TINY, "--model.dim"], "--model.dim has no value: write --model.dim=value"),
    "not a flag": (
        [TINY, "model.dim=3"],
        "'model.dim=3' is not an override: write --section.key=value",
    ),
    "value in the way": ([TINY, "--model.dim.x=3"], "dim is a value, not a section"),
    "limit": (
        [TINY, "--run.ema_decay=1"],
        "run.ema_decay=1",
        "must be from 0 up to, not including, 1",
    ),
    "resume": ([TINY, "--resume=/nowhere"], "no training checkpoint under '/nowhere'"),
    "one of many types": (
        [TINY, "--trainer.precision=16-mixd"],
        "trainer.precision=16-mixd must be one of",
        "'16-mixed'",
    ),
    "a type or none": (
        [TINY, "--trainer.max_epochs=x"],
        "trainer.max_epochs=x must be one of: int, null",
    ),
    "batch size": ([TINY, "--data.batch_size=0"], "batch_size=0 must be at least 1"),
    "strategy": ([TINY, "--trainer.strategy=dpp"], "trainer: ", "strategy='dpp'"),
    "steps": ([TINY, "--trainer.max_steps=-5"], "trainer: ", "max_steps", "-5"),
    "devices": ([TINY, "--trainer.accelerator=cpu", "--trainer.devices=0"], "devices=0"),
    "share of batches": ([TINY, "--trainer.limit_val_batches=-1"], "for limit_val_batches"),
    "init from": ([TINY, "--run.init_from=/nowhere"], "'/nowhere'"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes(complaint, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    arguments, *parts = RECIPES[name]
    small = ["--data.num_sentences=4", "--data.num_processes=1"] if arguments[0] == TINY else []
    matches(complaint("train", *arguments, *small, "--dry-run", "--no-progress"), *parts)


RECIPE_FILES = {
    "broken": ("model: {name: tts/fastpitch", "is not valid YAML"),
    "twice": ("seed: 1\nseed: 2\n", "mine.yaml: key 'seed' is given twice (line 2)"),
    "a list": ("- model\n", "a recipe is a mapping with the sections model, data"),
    "empty": ("", "a recipe is a mapping with the sections model, data"),
    "no model": ("data: {name: tts/espeak}\n", "model.name is required"),
    "model a word": ("model: tts/fastpitch\ndata: {name: tts/espeak}\n", "model.name is required"),
    "section a word": (
        "model: {name: tts/fastpitch}\ndata: {name: tts/espeak}\noptim: adam\n",
        "optim",
    ),
    "components a word": (
        "model: {name: tts/fastpitch}\ndata: {name: tts/espeak}\ncomponents: x\n",
        "components",
    ),
    "python": (
        "model: !!python/object/apply:os.mkdir [executed]\n",
        "mine.yaml is not valid YAML",
        "os.mkdir",
    ),
    "not text": ("\x00\x01", "is not valid YAML"),
}


@pytest.mark.parametrize("name", RECIPE_FILES)
def test_recipe_files(complaint, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    content, *parts = RECIPE_FILES[name]
    Path("mine.yaml").write_text(content)
    matches(complaint("train", "mine.yaml", "--dry-run"), *parts)
    assert not Path("executed").exists()


# ---- checkpoints -------------------------------------------------------------------------------


def info(**changes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "unisono.json"
        content = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))

    return change


def facts(**changes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        own = {**json.loads((folder / "unisono.json").read_text())["facts"], **changes}
        info(facts={k: v for k, v in own.items() if v is not ...})(folder)

    return change


def write(name: str, content: str | bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = content.encode() if isinstance(content, str) else content
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)

    return change


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(share: float, name: str = "model.safetensors") -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(share * len(data))])

    return change


def recipe(**model) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = yaml.safe_load((folder / "recipe.yaml").read_text())
        content["model"] |= model
        (folder / "recipe.yaml").write_text(yaml.safe_dump(content))

    return change


def link(name: str, target: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        moved = folder.parent / "moved"
        shutil.move(folder / target, moved)
        (folder / name).symlink_to(moved)

    return change


EVIL = "model: !!python/object/apply:os.mkdir [executed]\n"
AGAIN, FETCH = "export it again", "fetch the export again"
CHECKPOINTS = {
    "weights cut": (cut(0.7), "model.safetensors' is truncated or not safetensors", FETCH),
    "weights cut to nothing": (cut(0), "model.safetensors' is truncated or not safetensors", FETCH),
    "weights a pickle": (
        write("model.safetensors", b"\x80\x04."),
        "is truncated or not safetensors",
        FETCH,
    ),
    "weights missing": (remove("model.safetensors"), "has no model.safetensors", FETCH),
    "vocoder cut": (
        cut(0.7, "components/vocoder/model.safetensors"),
        "vocoder/model.safetensors' is truncated",
        FETCH,
    ),
    "weights of another": (
        lambda f: shutil.copy(f / "components/vocoder/model.safetensors", f / "model.safetensors"),
        "does not fit recipe.yaml",
        "belong to different exports",
    ),
    "another size": (recipe(dim=16), "does not fit recipe.yaml", "of another shape"),
    "unknown plugin": (
        info(plugin="sing", model="sing/choir"),
        "'sing'",
        "no plugin 'sing' is installed",
    ),
    "unknown model": (
        info(model="tts/fastpich"),
        "has no model 'fastpich'",
        "did you mean 'fastpitch'?",
    ),
    "plugin and model": (
        info(model="codec/vocos"),
        "names the plugin 'tts' and the model 'codec/vocos'",
        AGAIN,
    ),
    "newer API": (info(api="1.99"), "needs plugin API 1.99, this is 1.0: upgrade unisono"),
    "another API": (info(api="0.9"), "needs plugin API 0.9, this is 1.0: upgrade the plugin"),
    "API a number": (info(api=1.0), "needs 'api' as a string, it has 1.0", AGAIN),
    "API a word": (info(api="one"), "api 'one' is not of the form '1.0'"),
    "newer format": (info(format=2), "has export format 2, this version reads 1: upgrade unisono"),
    "no format": (info(format=...), "has export format None", AGAIN),
    "no plugin": (info(plugin=...), "needs 'plugin' as a string, it has None", AGAIN),
    "plugin a number": (info(plugin=5), "needs 'plugin' as a string, it has 5", AGAIN),
    "facts a list": (info(facts=[1]), "needs 'facts' as an object, it has [1]", AGAIN),
    "facts without symbols": (
        facts(symbols=...),
        "do not describe a tts/fastpitch",
        "symbols",
        AGAIN,
    ),
    "facts with a strange mel": (
        facts(mel_spec={"hop": 3}),
        "do not describe",
        "a mel spec has no field 'hop'",
        AGAIN,
    ),
    "facts of nobody": (facts(speakers=["a"]), "do not describe a tts/fastpitch", AGAIN),
    "JSON broken": (
        write("unisono.json", '{"format": 1,'),
        "unisono.json' is not valid JSON",
        FETCH,
    ),
    "JSON not text": (
        write("unisono.json", b"\xff\xfe\x00"),
        "unisono.json' is not valid JSON",
        FETCH,
    ),
    "JSON a list": (write("unisono.json", "[]"), "holds a list, not an object", FETCH),
    "JSON missing": (remove("unisono.json"), "is not an export: it has no unisono.json"),
    "recipe missing": (remove("recipe.yaml"), "has no recipe.yaml", FETCH),
    "recipe broken": (write("recipe.yaml", "model: ["), "recipe.yaml' is not plain YAML", FETCH),
    "recipe a list": (write("recipe.yaml", "- 1"), "is not a recipe with a section 'model'", FETCH),
    "recipe model a word": (
        write("recipe.yaml", "model: x"),
        "is not a recipe with a section 'model'",
        FETCH,
    ),
    "recipe with python": (write("recipe.yaml", EVIL), "recipe.yaml' is not plain YAML", FETCH),
    "recipe key": (recipe(dims=3), "unknown key model.dims", "did you mean 'dim'?"),
    "recipe type": (recipe(dim="wide"), "model.dim=wide must be of type int"),
    **{
        f"holds {name}": (
            write(name, "x"),
            f"holds '{Path(name).name}'",
            "only numbers and text: remove that file",
        )
        for name in (
            "model.ckpt",
            "pytorch_model.bin",
            "model.pt",
            "extra.pkl",
            "hook.py",
            "components/vocoder/x.pth",
        )
    },
    "vocoder a link": (
        link("components/vocoder", "components/vocoder"),
        "vocoder' is a link",
        "copy the folder there",
    ),
    "components a link": (
        link("components", "components"),
        "components' is a link",
        "copy the folder there",
    ),
    "unknown component": (
        lambda f: shutil.copytree(f / "components/vocoder", f / "components/vocodr"),
        "holds a component 'vocodr'",
        "did you mean 'vocoder'?",
    ),
    "component elsewhere": (
        info(builtin_components={"vocoder": "../elsewhere"}),
        "names '../elsewhere' as its vocoder",
        "griffin-lim",
        AGAIN,
    ),
    "component role with dots": (
        info(builtin_components={"../x": "griffin-lim"}),
        "holds a component '../x'",
        AGAIN,
    ),
    "builtins a list": (info(builtin_components=["vocoder"]), "builtin_components", AGAIN),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(complaint, voice_export, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    change, *parts = CHECKPOINTS[name]
    folder = shutil.copytree(voice_export, tmp_path / "voice")
    change(folder)
    sentence = complaint("generate", folder, "Hello", "-o", tmp_path / "x.wav")
    matches(sentence, str(folder), *parts)
    assert not list(tmp_path.rglob("executed"))
    assert not (tmp_path / "x.wav").exists()


def test_what_is_no_export_at_all(complaint, voice_run, tmp_path):
    def generate(path):
        return complaint("generate", path, "Hello", "-o", tmp_path / "x.wav")

    matches(generate(tmp_path / "gone"), "no export at", "gone", "the folder does not exist")
    matches(generate(voice_run), "is not an export", "unisono export RUN DEST")
    matches(
        generate(voice_run / "checkpoints" / "last.ckpt"),
        "is not an export",
        "unisono export RUN DEST",
    )
    matches(generate(tmp_path), "is not an export: it has no unisono.json")


def test_places_that_cannot_be_written(complaint, voice_run, voice_export, corpus, tmp_path):
    (tmp_path / "file").write_text("mine")
    inside = tmp_path / "file" / "x"
    parts = "cannot write", str(inside), "choose another place"
    small = ("--data.num_sentences=4", "--data.num_processes=1", "--no-progress")
    matches(complaint("train", TINY, *small, f"--run.dir={inside}"), *parts)
    matches(complaint("recipes", "copy", TINY, inside), *parts)
    matches(complaint("export", voice_run, inside), *parts)
    matches(complaint("evaluate", voice_export, corpus, "--json", inside), *parts)
    matches(complaint(*AUDIT, f"--data.root={corpus}", "--json", inside), *parts)
    assert (tmp_path / "file").read_text() == "mine"


def test_an_export_replaces_nothing_but_an_export(complaint, voice_run, tmp_path):
    precious = tmp_path / "home" / "diary.txt"
    precious.parent.mkdir()
    precious.write_text("mine")
    matches(complaint("export", voice_run, precious), "is a file: an export is a folder")
    matches(complaint("export", voice_run, precious.parent), "not empty", "--overwrite")
    matches(
        complaint("export", voice_run, precious.parent, "--overwrite"),
        "is not an export, so it is not overwritten",
    )
    assert precious.read_text() == "mine"


def test_a_limit_below_one(complaint, voice_export, corpus):
    matches(complaint("evaluate", voice_export, corpus, "--limit=-3"), "--limit -3 must be")


def test_exporting_what_is_no_run(complaint, voice_run, tmp_path):
    matches(complaint("export", tmp_path, tmp_path / "out"), "no training checkpoint under")
    data = (voice_run / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(data[: len(data) // 2])
    matches(
        complaint("export", tmp_path / "cut.ckpt", tmp_path / "out"),
        "cut.ckpt' cannot be read weights-only (truncated",
    )
    other = ("--component", "vocoder=/nowhere")
    matches(complaint("export", voice_run, tmp_path / "out", *other), "no export at '/nowhere'")
    metrics = ("--metrics", tmp_path / "none.json")
    matches(
        complaint("export", voice_run, tmp_path / "out", *metrics),
        "--metrics",
        "is not a readable JSON file",
    )
    assert not (tmp_path / "out").exists()
