"""Paraformer: all units of a transcript in one pass (Gao et al., arXiv:2206.08317; v2, An et al., arXiv:2409.17746).

Version 1 is ``predictor: cif``, version 2 ``predictor: ctc``. Training has two passes: the first reads acoustic
embeddings alone and has no gradient; of its errors, ``glance`` are shown as true tokens at random places, and the
second pass learns the others (the core's ``Glancing``). The loss is::

    L = c · CTC + (1 − c) · cross entropy + w · |N − Σα| + r · MWER        c = .3, w = 1 (cif only), r = 0

each per unit. What differs from FunASR's: the cross entropy counts the tokens that stay hidden, as in GLAT, where its
code counts all; v2 has the same weights as v1, and keeps the sampler, without which refinement is not learnt.
Validation goes by the inference path: neither the true number of tokens nor any true token is given.

Refinement (``steps`` above 1) is the core's masked decoding: of the tokens, the surest are settled in each pass, and
the decoder reads them in the next one.

Shapes: b batch, t steps, v units with the blank, u units, d channels, k hypotheses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from unisono.errors import RecipeError
from unisono.masked import Canvas, Glancing, Greedy, Layout, MaxProb, Plan, Scheduled, Strategy, cosine, decode

from unisono_asr.models.ctc import CTC, greedy_hypotheses
from unisono_asr.models.mwer import mwer_loss
from unisono_asr.models.posteriors import Hypothesis, Posteriors
from unisono_asr.networks.augment import SpecAugment
from unisono_asr.networks.branchformer import EncoderSizes
from unisono_asr.networks.ctc import forced, greedy
from unisono_asr.networks.decoder import Decoder, DecoderSizes, Reader
from unisono_asr.networks.predictors import PREDICTORS, Acoustic, Predictor


@dataclass(frozen=True, kw_only=True)
class ParaformerObjective:
    """Weights of the losses.

    ctc: CTC's; the cross entropy has the rest to 1.
    smoothing: of the labels.
    count: of the error of the number of tokens, with CIF.
    glance: tokens that are shown, as a share of the first pass' errors; 0 has one pass.
    mwer: of the expected number of wrong units over ``hypotheses`` (minimum word error rate); 0 leaves it out. It is
        for the last part of a training.
    hypotheses, mwer_share: how many are made of the likeliest one, each by losing its tokens with this probability to
        the runners-up.
    """

    ctc: float = 0.3
    smoothing: float = 0.1
    count: float = 1.0
    glance: float = 0.4
    mwer: float = 0.0
    hypotheses: int = 4
    mwer_share: float = 0.1

    def __post_init__(self):
        for name in ("ctc", "smoothing", "glance", "mwer_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise _wrong(name, getattr(self, name), "must be from 0 to 1")
        for name in ("count", "mwer"):
            if getattr(self, name) < 0:
                raise _wrong(name, getattr(self, name), "must be at least 0")
        if self.hypotheses < 2:
            raise _wrong("hypotheses", self.hypotheses, "must be at least 2, so that one is better than another")


class Paraformer(CTC):
    """CTC, and a decoder that reads all tokens at once.

    ::

        mel ─ encoder ─┬─ Linear ─ CTC
                       ├─ predictor ─ acoustic embeddings [b, u, d] ─ (known tokens shown) ─┐
                       └──────────────── memory ───────────────── bidirectional decoder ────┴─ units

    Args:
        encoder, augment: as in ``asr/ctc``.
        decoder: its sizes.
        predictor: ``ctc`` (version 2) or ``cif`` (version 1), as in ``networks.predictors``.
        objective: weights of the losses.
    """

    def __init__(
        self,
        *,
        encoder: EncoderSizes = EncoderSizes(),  # noqa: B008
        decoder: DecoderSizes = DecoderSizes(),  # noqa: B008
        predictor: Literal["ctc", "cif"] = "ctc",
        objective: ParaformerObjective = ParaformerObjective(),
        augment: SpecAugment = SpecAugment(),  # noqa: B008
    ):
        super().__init__(encoder=encoder, augment=augment)
        if encoder.dim % decoder.num_heads:
            message = f"model.decoder.num_heads={decoder.num_heads} must divide model.encoder.dim={encoder.dim}"
            raise RecipeError(message, code="value", path="model.decoder.num_heads", value=decoder.num_heads)
        self.decoder_sizes, self.predictor_name, self.objective = decoder, predictor, objective

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build also the predictor and the decoder."""
        super().build(facts)
        dim, num_units = self.encoder_sizes.dim, len(self.facts.units)
        self.predictor: Predictor = PREDICTORS[self.predictor_name](dim, num_units)
        self.decoder = Decoder(dim, num_units, self.decoder_sizes)

    def layout(self, num_tokens: int) -> Layout:
        """Tokens in a row, each any unit but the blank."""
        whole = Layout.sequence(num_tokens, len(self.facts.units))
        return replace(whole, vocab=torch.tensor([1, len(self.facts.units)]).repeat(num_tokens, 1))

    # ---- training ------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return the losses of training, each per unit.

        In validation ``loss`` is CTC's, ``error`` and ``count_error`` are those of what the decoder reads, and
        ``ctc_error`` that of CTC.
        """
        heard = self.heard_in(batch)
        if not self.training:
            own = self.errors(self.decode(heard), batch)
            of_ctc = self.errors(greedy_hypotheses(heard), batch, "ctc_")
            return {"loss": self.ctc(heard, batch), **own, "ctc_error": of_ctc["ctc_error"]}
        lengths = batch["target_lengths"]
        batch = batch | {"targets": batch["targets"][:, : int(lengths.max())]}  # a shard's rows may all be short
        weights, targets = self.objective, batch["targets"]
        acoustic = self.predictor.guided(heard.memory, heard.log_probs, heard.lengths, targets, lengths)
        reader = Reader(self.decoder, acoustic, heard.memory, heard.lengths)
        seeds = self.row_seeds(batch)
        hidden, logits = self.second_pass(reader, batch, seeds)
        entropy = F.cross_entropy(
            logits[..., 1:].float().transpose(1, 2),
            (targets - 1).where(acoustic.mask, 0),
            reduction="none",
            label_smoothing=weights.smoothing,
        )
        parts = {"ctc": self.ctc(heard, batch), "ce": self.global_mean(entropy, hidden)}
        parts["loss"] = weights.ctc * parts["ctc"] + (1 - weights.ctc) * parts["ce"]
        if acoustic.count is not None:
            parts["count"] = self.per_unit((acoustic.count - lengths).abs().float(), batch)
            parts["loss"] = parts["loss"] + weights.count * parts["count"]
        if weights.mwer:
            loss = mwer_loss(logits[..., 1:], targets - 1, lengths, weights.hypotheses, weights.mwer_share, seeds)
            parts["mwer"] = self.per_unit(loss, batch)
            parts["loss"] = parts["loss"] + weights.mwer * parts["mwer"]
        return parts

    def second_pass(self, reader: Reader, batch: dict[str, Any], seeds: list[int]) -> tuple[Tensor, Tensor]:
        """Return the tokens [b, u] that stay hidden, and the logits [b, u, v] of a pass that reads the others.

        The first pass decides how many are shown; no gradient goes through it.
        """
        targets, lengths = batch["targets"], batch["target_lengths"]
        canvas = Canvas.blank(self.layout(targets.shape[1]), seeds, lengths, targets.device)
        hidden = canvas.masked
        if self.objective.glance:
            with torch.no_grad():
                first = reader(canvas.tokens, canvas.known)
            shown = Glancing(self.objective.glance)(canvas, targets, first)
            canvas, hidden = shown.canvas, shown.weights > 0
        return hidden, reader(canvas.tokens, canvas.known)

    # ---- listening -----------------------------------------------------------------------------

    @torch.no_grad()
    def decode(self, heard: Posteriors, steps: int = 1) -> list[Hypothesis]:
        """Read all tokens at once, and again for each of ``steps`` above 1, the surest ones settled.

        A token's confidence is its probability in the pass that settled it. Its steps are those of CTC's path: the
        likeliest one with ``predictor: ctc``, the one that is forced to read the tokens with ``cif``; where that needs
        more steps than there are, tokens share the recording evenly.
        """
        acoustic = self.predictor.free(heard.memory, heard.log_probs, heard.lengths)
        if not acoustic.embeddings.shape[1]:
            return [Hypothesis((), (), ())] * len(acoustic.lengths)
        tokens, confidences = self.read(acoustic, heard, steps)
        spans = self._spans(tokens, acoustic, heard)
        return [
            Hypothesis(tuple(tokens[row, :count].tolist()), tuple(confidences[row, :count].tolist()), spans[row])
            for row, count in enumerate(acoustic.lengths.tolist())
        ]

    def read(self, acoustic: Acoustic, heard: Posteriors, steps: int) -> tuple[Tensor, Float[Tensor, "b u"]]:
        """Return tokens [b, u] and the probability of each in the pass that settled it."""
        reader = Reader(self.decoder, acoustic, heard.memory, heard.lengths)
        size = acoustic.embeddings.shape[1]
        canvas = Canvas.blank(self.layout(size), [0] * len(acoustic.lengths), acoustic.lengths, heard.memory.device)
        sure = torch.zeros(canvas.tokens.shape, device=heard.memory.device)
        settled = canvas.known

        def watch(now: Canvas) -> None:
            nonlocal settled, sure
            assert reader.logits is not None
            found = reader.logits[..., 1:].float().softmax(-1).gather(2, (now.tokens - 1).clamp(min=0)[..., None])
            sure = torch.where(now.known & ~settled, found[..., 0], sure)
            settled = now.known

        strategy = Strategy(Plan(Scheduled(steps, cosine)), MaxProb(), draw=Greedy(), name="refine")
        return decode(reader, canvas, strategy, watch).tokens, sure

    def _spans(self, tokens: Tensor, acoustic: Acoustic, heard: Posteriors) -> list[tuple[tuple[int, int], ...]]:
        if self.predictor_name == "ctc":
            path = greedy(heard.log_probs, heard.lengths)
            return [tuple(path.spans(row)) for row in range(len(tokens))]
        found = []
        for row, (count, size) in enumerate(zip(acoustic.lengths.tolist(), heard.lengths.tolist(), strict=True)):
            own = tokens[row : row + 1, :count]
            if count + int((own[:, 1:] == own[:, :-1]).sum()) > size:
                edges = [place * size // count for place in range(count + 1)]
                found.append(tuple((start, max(stop, start + 1)) for start, stop in pairwise(edges)))
                continue
            part = slice(row, row + 1)
            path = forced(heard.log_probs[part, :size], heard.lengths[part], own, acoustic.lengths[part])
            found.append(tuple(path.spans(0)))
        return found


def _wrong(name: str, value: Any, why: str) -> RecipeError:
    path = f"model.objective.{name}"
    return RecipeError(f"{path}={value} {why}", code="range", path=path, value=value)
