"""EnCodec and DAC: the published architectures by name, and weights in ``transformers``' format.

``EncodecCodec`` (``codec/encodec``; Défossez et al., arXiv:2210.13438) and ``DacCodec`` (``codec/dac``; Kumar et al.,
arXiv:2306.06546) are ``ResidualCodec`` with other defaults. ``from_transformers`` reads a folder with ``config.json``
and ``model.safetensors``, as ``EncodecModel.save_pretrained`` and ``DacModel.save_pretrained`` write it, into these
modules: the same tokens and the same sound, and no code but this is run, no pickle opened. ``transformers`` itself is
not needed.

What is read: EnCodec's causal models of one channel (24 kHz, 32 kHz); not the one of 48 kHz, which sees both channels
and the whole of a second at once. Weight norm is folded. Differences: a recording is padded by zeros to whole token
frames, where EnCodec mirrors its end, so that the last frame of other lengths may differ.

Shapes: none of its own.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from unisono.arguments import build, check_arguments
from unisono.errors import CheckpointError
from unisono_sound.signal import MelSpec

from unisono_codec.codecs.codec import Codec
from unisono_codec.codecs.rvq import (
    GAME,
    OBJECTIVE,
    CodebookSpec,
    FactorisedSizes,
    Game,
    LevelSizes,
    Objective,
    ResidualCodec,
)
from unisono_codec.codecs.waveform import WaveformSizes

ENCODEC = WaveformSizes(
    channels=32,
    strides=(2, 4, 5, 8),
    activation="elu",
    last_kernel=(7, 7),
    residual_kernel=3,
    dilations=(1,),
    compress=2,
    shortcut=True,
    lstm_layers=2,
    causal=True,
    padding="reflect",
    tanh=False,
)
"""EnCodec at 24 kHz."""

DAC = WaveformSizes(channels=64, strides=(2, 4, 8, 8), decoder_channels=1536)
"""DAC at 44.1 kHz."""


class EncodecCodec(ResidualCodec):
    """EnCodec: causal convolutions, LSTM, codebooks that follow by moving averages.

    Args:
        waveform, latent_dim, codebook, objective, game: as of ``ResidualCodec``.
    """

    flat: ClassVar[dict[str, str]] = {field.name: f"codebook.{field.name}" for field in fields(LevelSizes)}

    def __init__(
        self,
        *,
        waveform: WaveformSizes = ENCODEC,
        latent_dim: int = 128,
        codebook: LevelSizes = LevelSizes(num_levels=32, level_dropout=1.0),  # noqa: B008
        objective: Objective = OBJECTIVE,
        game: Game = GAME,
    ):
        super().__init__(
            encoder="waveform",
            decoder="waveform",
            waveform=waveform,
            latent_dim=latent_dim,
            codebook=CodebookSpec(codes="average", **asdict(codebook)),
            objective=objective,
            game=game,
        )


class DacCodec(ResidualCodec):
    """DAC: Snake, dilated residual units, factorised codes looked up by angle.

    Args:
        waveform, latent_dim, codebook, objective, game: as of ``ResidualCodec``.
    """

    flat: ClassVar[dict[str, str]] = {field.name: f"codebook.{field.name}" for field in fields(FactorisedSizes)}

    def __init__(
        self,
        *,
        waveform: WaveformSizes = DAC,
        latent_dim: int = 1024,
        codebook: FactorisedSizes = FactorisedSizes(num_levels=9, dead_below=0.0),  # noqa: B008
        objective: Objective = OBJECTIVE,
        game: Game = GAME,
    ):
        super().__init__(
            encoder="waveform",
            decoder="waveform",
            waveform=waveform,
            latent_dim=latent_dim,
            codebook=CodebookSpec(**asdict(codebook)),
            objective=objective,
            game=game,
        )


def from_transformers(source: Any) -> Codec:
    """Return the codec of a folder in ``transformers``' format, or of an ``EncodecModel`` or ``DacModel``.

    ``unisono.export.save_export`` makes an export of it. Raises ``CheckpointError`` for another kind of model, for
    options that are not built here, and for weights that do not fit.
    """
    config, state = _read(source)
    kind = config.get("model_type")
    if kind not in _KINDS:
        message = f"{_named(source)} is a model of type {kind!r}: from_transformers reads encodec and dac"
        raise CheckpointError(message, code="unsupported", path=_named(source), value=kind)
    name, target, arguments, renamed = _KINDS[kind]
    try:
        given, rate = arguments(config), int(config["sampling_rate"])
        weights = renamed(config, _folded(state))
    except KeyError as error:
        message = f"{_named(source)} lacks {error}: save it again with transformers"
        raise CheckpointError(message, code="missing", path=_named(source), value=error.args[0]) from None
    values = check_arguments(target, given, "model", _named(source))
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)  # all that is drawn is replaced
        model = build(target, values, "model", _named(source))
        model.build({"mel_spec": MelSpec(sample_rate=rate, f_max=min(8000.0, rate / 2)).to_dict()})
    model.recipe = {"model": {"name": name, **values}, "seed": 0}
    own = model.state_dict()
    wrong = sorted(weights.keys() ^ own.keys()) or [k for k in own if own[k].shape != weights[k].shape]
    if wrong:
        message = (
            f"{_named(source)}: {len(wrong)} weights do not fit its config (first: {wrong[0]!r}): fetch both again"
        )
        raise CheckpointError(message, code="shape", path=_named(source), value=wrong)
    model.load_state_dict(weights)
    return model.eval()


def _named(source: Any) -> str:
    return repr(str(source)) if isinstance(source, str | Path) else f"a {type(source).__name__}"


def _read(source: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not isinstance(source, str | Path):
        return source.config.to_dict(), source.state_dict()
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(source)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        state = load_file(folder / "model.safetensors")
    except FileNotFoundError as error:
        name = Path(str(error.filename or "model.safetensors")).name
        message = (
            f"{str(folder)!r} has no {name}: give a folder with "
            "config.json and model.safetensors, as save_pretrained writes it"
        )
        raise CheckpointError(message, code="missing", path=folder / name) from None
    except (ValueError, OSError, RecursionError, SafetensorError) as error:
        raise CheckpointError(
            f"{str(folder)!r} cannot be read ({error}): fetch it again", code="damaged", path=folder
        ) from None
    if not isinstance(config, dict):
        raise CheckpointError(
            f"{str(folder)!r}: config.json holds no object: fetch it again", code="format", path=folder / "config.json"
        )
    return config, {name: value.float() for name, value in state.items()}


def _folded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put weights that are kept as length and direction together."""
    made = dict(state)
    for length, direction in (
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ):
        for name in [n for n in state if n.endswith("." + length)]:
            stem = name.removesuffix(length)
            made[f"{stem}weight"] = torch.ops.aten._weight_norm(made.pop(f"{stem}{direction}"), made.pop(name), 0)
    return made


def _encodec_arguments(config: dict[str, Any]) -> dict[str, Any]:
    for key, wanted in (
        ("audio_channels", 1),
        ("normalize", False),
        ("chunk_length_s", None),
        ("norm_type", "weight_norm"),
        ("use_causal_conv", True),
        ("trim_right_ratio", 1.0),
    ):
        if config.get(key, wanted) != wanted:
            message = f"EnCodec with {key}={config[key]!r} is not built here, only {wanted!r}"
            raise CheckpointError(message, code="unsupported", path=key, value=config[key])
    if config["pad_mode"] not in ("reflect", "constant"):
        message = f"EnCodec with pad_mode={config['pad_mode']!r} is not built here: reflect or constant"
        raise CheckpointError(message, code="unsupported", path="pad_mode", value=config["pad_mode"])
    if config.get("codebook_dim") not in (None, config["hidden_size"]):
        message = "EnCodec with codes of another size than its vectors is not built here"
        raise CheckpointError(message, code="unsupported", path="codebook_dim", value=config["codebook_dim"])
    growth = config["dilation_growth_rate"]
    sizes = WaveformSizes(
        channels=config["num_filters"],
        strides=tuple(reversed(config["upsampling_ratios"])),
        activation="elu",
        kernel=config["kernel_size"],
        last_kernel=(config["last_kernel_size"], config["last_kernel_size"]),
        residual_kernel=config["residual_kernel_size"],
        dilations=tuple(growth**j for j in range(config["num_residual_layers"])),
        compress=config["compress"],
        shortcut=config["use_conv_shortcut"],
        lstm_layers=config["num_lstm_layers"],
        causal=True,
        padding="reflect" if config["pad_mode"] == "reflect" else "zeros",
        tanh=False,
        weight_normed=False,
    )
    frame_rate = -(-config["sampling_rate"] // sizes.hop_length)
    bits = (config["codebook_size"] - 1).bit_length()
    return {
        "waveform": _plain(sizes),
        "latent_dim": config["hidden_size"],
        "codebook": {
            "codebook_size": config["codebook_size"],
            "num_levels": int(1000 * config["target_bandwidths"][-1] // (frame_rate * bits)),
        },
    }


def _dac_arguments(config: dict[str, Any]) -> dict[str, Any]:
    sizes = WaveformSizes(
        channels=config["encoder_hidden_size"],
        strides=tuple(config["downsampling_ratios"]),
        decoder_channels=config["decoder_hidden_size"],
        short_odd=True,
        weight_normed=False,
    )
    return {
        "waveform": _plain(sizes),
        "latent_dim": config["encoder_hidden_size"] * 2 ** len(sizes.strides),
        "codebook": {
            "codebook_size": config["codebook_size"],
            "num_levels": config["n_codebooks"],
            "code_dim": config["codebook_dim"],
        },
    }


def _plain(sizes: WaveformSizes) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(sizes).items()}


def _encodec_weights(config: dict[str, Any], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename: their layers are numbered through, activations included."""
    weights: dict[str, Tensor] = {}

    def take(theirs: str, ours: str) -> None:
        for part in ("weight", "bias"):
            weights[f"{ours}.{part}"] = state[f"{theirs}.{part}"]

    def unit(theirs: str, ours: str) -> None:
        take(f"{theirs}.block.1.conv", f"{ours}.wide.conv")
        take(f"{theirs}.block.3.conv", f"{ours}.point.conv")
        if config["use_conv_shortcut"]:
            take(f"{theirs}.shortcut.conv", f"{ours}.beside.conv")

    def memory(theirs: str, ours: str) -> None:
        for name in [n for n in state if n.startswith(f"{theirs}.lstm.")]:
            weights[f"{ours}.lstm.{name.removeprefix(f'{theirs}.lstm.')}"] = state[name]

    units, stages = config["num_residual_layers"], len(config["upsampling_ratios"])
    lstm, per_stage = int(config["num_lstm_layers"] > 0), units + 2
    for side in ("encoder", "decoder"):
        ours, at = f"net.{side}", f"{side}.layers"
        take(f"{at}.0.conv", f"{ours}.first.conv")
        start = 1 if side == "encoder" else 1 + lstm
        for stage in range(stages):
            base = start + stage * per_stage
            # In order of the stage: units, activation, convolution; or activation, convolution, units.
            first_unit, conv = (base, base + units + 1) if side == "encoder" else (base + 2, base + 1)
            shift = 0 if side == "encoder" else 2
            for j in range(units):
                unit(f"{at}.{first_unit + j}", f"{ours}.stages.{stage}.{shift + j}")
            take(f"{at}.{conv}.conv", f"{ours}.stages.{stage}.{units + 1 if side == 'encoder' else 1}.conv")
        end = start + stages * per_stage
        if lstm:
            memory(f"{at}.{end if side == 'encoder' else 1}", f"{ours}.memory")
        take(f"{at}.{end + 1 + (lstm if side == 'encoder' else 0)}.conv", f"{ours}.last.conv")
    for name in [n for n in state if n.endswith(".codebook.embed")]:
        theirs, level = name.removesuffix("embed"), name.split(".")[2]
        ours = f"net.quantizer.levels.{level}"
        weights[f"{ours}.codebook"] = state[name]
        weights[f"{ours}.counts"] = state[f"{theirs}cluster_size"]
        weights[f"{ours}.updates"] = torch.ones((), dtype=torch.int64)
    return weights


def _dac_weights(config: dict[str, Any], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename, and make one-by-one convolutions linear maps."""
    weights: dict[str, Tensor] = {}

    def conv(theirs: str, ours: str) -> None:
        for part in ("weight", "bias"):
            weights[f"{ours}.conv.{part}"] = state[f"{theirs}.{part}"]

    def snake(theirs: str, ours: str) -> None:
        weights[f"{ours}.alpha"] = state[f"{theirs}.alpha"][0]

    def unit(theirs: str, ours: str) -> None:
        snake(f"{theirs}.snake1", f"{ours}.act_in")
        conv(f"{theirs}.conv1", f"{ours}.wide")
        snake(f"{theirs}.snake2", f"{ours}.act_out")
        conv(f"{theirs}.conv2", f"{ours}.point")

    for side, first_unit, act, strided in (("encoder", 0, 3, 4), ("decoder", 2, 0, 1)):
        conv(f"{side}.conv1", f"net.{side}.first")
        for stage in range(len(config["downsampling_ratios"])):
            theirs, ours = f"{side}.block.{stage}", f"net.{side}.stages.{stage}"
            for j in range(3):
                unit(f"{theirs}.res_unit{j + 1}", f"{ours}.{first_unit + j}")
            snake(f"{theirs}.snake1", f"{ours}.{act}")
            conv(f"{theirs}.{'conv1' if side == 'encoder' else 'conv_t1'}", f"{ours}.{strided}")
        snake(f"{side}.snake1", f"net.{side}.act")
        conv(f"{side}.conv2", f"net.{side}.last")
    for level in range(config["n_codebooks"]):
        theirs, ours = f"quantizer.quantizers.{level}", f"net.quantizer.levels.{level}"
        for name, own in (("in_proj", "down"), ("out_proj", "up")):
            weights[f"{ours}.{own}.weight"] = state[f"{theirs}.{name}.weight"][..., 0]
            weights[f"{ours}.{own}.bias"] = state[f"{theirs}.{name}.bias"]
        codes = state[f"{theirs}.codebook.weight"]
        weights[f"{ours}.codes.weight"] = codes
        weights[f"{ours}.counts"] = torch.ones(len(codes))
        weights[f"{ours}.updates"] = torch.ones((), dtype=torch.int64)
    return weights


_KINDS: dict[str, tuple[str, type[Codec], Callable[..., Any], Callable[..., Any]]] = {
    "encodec": ("codec/encodec", EncodecCodec, _encodec_arguments, _encodec_weights),
    "dac": ("codec/dac", DacCodec, _dac_arguments, _dac_weights),
}
