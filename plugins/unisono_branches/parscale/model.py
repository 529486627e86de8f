"""branches/parscale: bytes predicted by P streams of one network, whose outputs are mixed.

Chen et al., 2025 (arXiv:2505.10475): computation in parallel instead of more weights; see `streams`. A stream costs
about a forward pass, which a machine that waits for memory takes side by side. Differences: a small network over bytes,
trained whole from scratch, instead of a language model of billions of weights; decoded by `unisono.verify`.

Shapes: b batch, t tokens, v vocabulary.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from unisono import Model, Text
from unisono.batching import Progress, grouped
from unisono.errors import RecipeError, RequestError
from unisono.model import OnStep
from unisono.verify import Prefix, autoregressive, decode

from unisono_branches.corpus.facts import ByteFacts
from unisono_branches.network.sizes import NetworkSizes
from unisono_branches.parscale.request import ByteRequest
from unisono_branches.parscale.streams import StreamCache, Streams

START = 256
"""Stands before the first byte of a row; bytes are the tokens below it."""


class ParScale(Model):
    """Streams over bytes.

    Args:
        network: sizes of the transformer.
        num_streams: P; 1 is the plain network.
        prefix_length: places of a stream's prefix.
        smoothing: of the streams' weights, in [0, 1).

    Attributes:
        evaluations: of the network so far, each of a whole batch and of all streams.
        rounds: the same: none goes on beside another.
    """

    Media: ClassVar[type[Text]] = Text
    Facts: ClassVar[type[ByteFacts]] = ByteFacts
    facts: ByteFacts
    Request: ClassVar[type[ByteRequest]] = ByteRequest
    pipeline_tag: ClassVar[str] = "text-generation"
    salt: ClassVar[str] = "parscale"

    def __init__(
        self,
        *,
        network: NetworkSizes = NetworkSizes(),  # noqa: B008
        num_streams: int = 4,
        prefix_length: int = 48,
        smoothing: float = 0.01,
    ):
        super().__init__()
        for name, value, least, most in (
            ("num_streams", num_streams, 1, 64),
            ("prefix_length", prefix_length, 1, 4096),
        ):
            if not least <= value <= most:
                message = f"model.{name}={value} must be from {least} to {most}"
                raise RecipeError(message, code="range", path=f"model.{name}", value=value)
        if not 0 <= smoothing < 1:
            raise RecipeError(
                f"model.smoothing={smoothing} must be in [0, 1)", code="range", path="model.smoothing", value=smoothing
            )
        self.sizes, self.num_streams = network, num_streams
        self.prefix_length, self.smoothing = prefix_length, smoothing
        self.evaluations: int = 0
        self.rounds: int = 0

    def build(self, facts: Mapping[str, Any]) -> None:
        super().build(facts)
        self.streams = Streams(
            START + 1,
            self.sizes,
            num_streams=self.num_streams,
            prefix_length=self.prefix_length,
            smoothing=self.smoothing,
        )

    def cost(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t"]:
        """Return the negative log-likelihood of each byte, in nats."""
        before = F.pad(tokens[:, :-1], (1, 0), value=START)
        logits = self.streams(before, dropout=self.sizes.dropout if self.training else 0.0)[..., :START]
        return F.cross_entropy(logits.float().flatten(0, 1), tokens.flatten(), reduction="none").view_as(tokens)

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        cost = self.cost(batch["tokens"])
        loss = self.global_mean(cost, torch.ones_like(cost, dtype=torch.bool))
        return {"loss": loss, "bits_per_byte": loss.detach() / torch.log(torch.tensor(2.0, device=loss.device))}

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"bytes": batch["tokens"].numel()}

    def read(
        self,
        tokens: Int[Tensor, "b n"],
        positions: Int[Tensor, "b n"],
        visible: Bool[Tensor, "b n n"],
        cache: Any,
    ) -> Float[Tensor, "b n v"]:
        """Return the logits of what follows each token, as `unisono.verify.Target` asks for them."""
        if cache is None:
            return self.streams(tokens, positions, visible)[..., :START]
        folded = visible.repeat(self.num_streams, 1, 1)
        return self.streams(tokens, positions, cache.folded.mask(folded), cache.folded)[..., :START]

    def synthesize(
        self,
        requests: Sequence[ByteRequest],
        generator: torch.Generator | None = None,
        on_step: OnStep | None = None,
    ) -> list[Text]:
        """Go on from each prompt; what is not UTF-8 reads as ``�``.

        Raises ``RequestError`` where prompt and length are beyond the model's context.
        """
        prompts = [list(request.text.encode("utf-8", "replace")) for request in requests]
        for request, prompt in zip(requests, prompts, strict=True):
            if len(prompt) + request.length > self.facts.context:
                raise RequestError(
                    f"{len(prompt)} bytes of the prompt and length={request.length} are beyond the model's context of "
                    f"{self.facts.context}: shorten one of them",
                    code="limit",
                    path="length",
                    value=request.length,
                )
        seeds = [self.seed_of(request, generator) for request in requests]
        progress = Progress(on_step, sum(request.length for request in requests))
        texts: dict[int, Text] = {}
        numbers = range(len(requests))
        for batch in grouped(numbers, lambda at: (len(prompts[at]) + requests[at].length, requests[at].temperature)):
            finished = progress.done

            def tell(prefix: Prefix, finished: int = finished) -> None:
                progress.to(finished + int((prefix.length - prefix.start).sum()))

            longest = max(len(prompts[at]) for at in batch)
            rows = torch.tensor([[START, *prompts[at], *[0] * (longest - len(prompts[at]))] for at in batch])
            network: Any = self.read  # reads a StreamCache, while a network in general reads any
            out = decode(
                network,
                rows.to(self.device),
                autoregressive(),
                1 + len(prompts[batch[0]]) + requests[batch[0]].length,
                seeds=[seeds[at] for at in batch],
                lengths=torch.tensor([1 + len(prompts[at]) for at in batch], device=self.device),
                temperature=requests[batch[0]].temperature,
                cache=partial(StreamCache, num_streams=self.num_streams, device=self.device),
                on_step=tell,
            )
            self.evaluations += out.nfe
            self.rounds += out.nfe
            for row, at in enumerate(batch):
                texts[at] = _text(prompts[at], out.tokens[row, 1:].tolist())
        progress.finish()
        return [texts[at] for at in numbers]

    def preview_requests(self) -> list[ByteRequest]:
        room = self.facts.context - 16
        return [self.Request(text=text, length=min(room, 24 + 4 * n)) for n, text in enumerate(self.facts.sample_texts)]

    def check_requests(self) -> list[ByteRequest]:
        return [
            *super().check_requests(),
            self.Request(length=2),
            self.Request(text="a", length=self.facts.context - 1),
        ]

    def given_parts(self, request: ByteRequest, made: Text) -> list[tuple[Any, Any]]:
        given = tuple(request.text.encode("utf-8", "replace"))
        return [(given, made.tokens[: len(given)])]


def _text(prompt: list[int], tokens: list[int]) -> Text:
    """A text of bytes; each was settled in a step of its own."""
    order = [-1] * len(prompt) + list(range(len(tokens) - len(prompt)))
    pieces = tuple(bytes([token]).decode("utf-8", "replace") for token in tokens)
    said = {"prompt_tokens": len(prompt), "steps": len(tokens) - len(prompt)}
    return Text(bytes(tokens).decode("utf-8", "replace"), tuple(tokens), pieces, tuple(order), said)
