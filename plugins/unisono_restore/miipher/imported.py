"""Imported: speech encoders of ``transformers`` (HuBERT, wav2vec 2.0, WavLM, w2v-BERT 2.0), for who has the files.

A folder in their layout (``config.json``, ``model.safetensors``, ``preprocessor_config.json``) is the component
``encoder`` as it is; Sidon (arXiv:2509.17052) takes 8 of the 24 layers of ``facebook/w2v-bert-2.0``. Only safetensors
are opened. Waves of one length are heard together, others one by one: what these models do over a whole item
(normalisation, attention) would see the padding.

A feature every 320 samples at 16 kHz; sound is padded, so that there are as many as begun hops, each of which lies
around its feature's window.

Shapes: b batch, n samples, t features, d channels.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.errors import CheckpointError, MissingExtra
from unisono_sound.encoder import Adapt, Features, FeatureSpec, check_layer

__all__ = ["TransformersEncoder", "read_encoder"]

RATE, HOP = 16000, 320
FIELDS = {"hubert": 400, "wav2vec2": 400, "wavlm": 400, "wav2vec2-bert": 560}
"""Samples that a feature's window has, by the type of the model."""


def read_encoder(folder: str | Path) -> "TransformersEncoder":
    """Return the encoder of a folder in ``transformers``' layout.

    Raises ``MissingExtra`` without ``transformers``, ``CheckpointError`` where the folder cannot be read.
    """
    from safetensors import SafetensorError

    try:
        from transformers import AutoFeatureExtractor, AutoModel
    except ImportError as error:
        raise MissingExtra("transformers", "hubert") from error
    try:
        model = AutoModel.from_pretrained(str(folder), use_safetensors=True, local_files_only=True)
        front_end = AutoFeatureExtractor.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"{str(folder)!r} cannot be read as a speech encoder ({error}): fetch config.json, model.safetensors and "
            "preprocessor_config.json again",
            code="damaged",
            path=str(folder),
        ) from None
    return TransformersEncoder(model, front_end)


class TransformersEncoder(nn.Module):
    """An ``unisono_sound.encoder.Encoder`` around a model of ``transformers`` and its feature extractor."""

    def __init__(self, model: Any, front_end: Any):
        super().__init__()
        self.model, self.front_end = model.eval(), front_end
        self.kind = model.config.model_type
        self.recipe = {"model": {"name": f"transformers/{self.kind}"}}
        self.facts: dict[str, Any] = {}

    @property
    def feature_spec(self) -> FeatureSpec:
        """50 features a second."""
        config = self.model.config
        return FeatureSpec(RATE, HOP, config.hidden_size, config.num_hidden_layers)

    def features(
        self,
        wave: Float[Tensor, "b n"],
        lengths: Int[Tensor, " b"] | None = None,
        layer: int | None = None,
        adapt: Adapt | None = None,
    ) -> Features:
        """Return the features of waves; see ``unisono_sound.encoder``."""
        layers = self.model.encoder.layers
        check_layer(layer, len(layers))
        counts = [wave.shape[1]] * len(wave) if lengths is None else lengths.tolist()
        if len(set(counts)) == 1:
            made = [*self._heard(wave[:, : counts[0]], layer, adapt)]
        else:
            made = [self._heard(row[None, :count], layer, adapt)[0] for row, count in zip(wave, counts, strict=True)]
        found = torch.tensor([len(item) for item in made], device=wave.device)
        return Features(nn.utils.rnn.pad_sequence(made, batch_first=True), found)

    def _heard(self, wave: Float[Tensor, "b n"], layer: int | None, adapt: Adapt | None) -> Float[Tensor, "b t d"]:
        count = max(1, -(-wave.shape[1] // HOP))
        around = FIELDS[self.kind] - HOP
        wave = F.pad(wave, (around // 2, count * HOP - wave.shape[1] + around - around // 2))
        given = self.front_end(list(wave.detach().float().cpu().numpy()), sampling_rate=RATE, return_tensors="pt")
        name = "input_features" if self.kind == "wav2vec2-bert" else "input_values"
        heard: dict[int, Tensor] = {}
        layers = self.model.encoder.layers
        handles = [
            part.register_forward_hook(_hook(number, adapt, heard), with_kwargs=True)
            for number, part in enumerate(layers)
        ]
        try:
            final = self.model(given[name].to(wave.device)).last_hidden_state
        finally:
            for handle in handles:
                handle.remove()
        return final if layer is None else heard[layer - 1]


def _hook(number: int, adapt: Adapt | None, heard: dict[int, Tensor]) -> Any:
    """Return a hook that adds to a layer's output what ``adapt`` says of its input, and notes the sum."""

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        x = args[0] if args else kwargs["hidden_states"]
        made = output[0] if isinstance(output, tuple) else output
        if adapt is not None:
            made = made + adapt(number, x)
        heard[number] = made
        return (made, *output[1:]) if isinstance(output, tuple) else made

    return hook
