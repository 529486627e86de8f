"""Length regulators: from token vectors and durations to frames, each in its own way.

Every regulator returns (frames [b, t, *d], Alignment). They differ in what a frame is made of:

    repeat       the one token it lies in                        FastSpeech, FastPitch, VITS
    uniform      the same, all tokens equally long               ZipVoice, unit upsampling
    box          tokens by the time they share with it           differentiable; CIF (Paraformer)
    gaussian     tokens by the distance of their centres         EATS, Non-Attentive Tacotron
    learned      tokens by a small network of the distances      Parallel Tacotron 2
    filler_pad   token i at frame i, and a filler from there on  E2-TTS, F5-TTS

Letters: b batch, s tokens, t frames, *d any trailing dimensions.
"""

import math

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from unisono.duration.alignment import Alignment
from unisono.duration.rounding import round_durations
from unisono.errors import UnisonoError


def repeat(
    x: Shaped[Tensor, "b s *d"],
    durations: Shaped[Tensor, "b s"],
    lengths: Int[Tensor, " b"] | None = None,
    **rounding,
) -> tuple[Shaped[Tensor, "b t *d"], Alignment]:
    """Each token as often as its duration says (FastSpeech, arXiv:1905.09263).

    Fractional durations, and any `rounding` argument (speed, total, min_frames ...), go through
    `round_durations` first.
    """
    if rounding or durations.dtype.is_floating_point:
        durations = round_durations(durations, lengths, **rounding)
    alignment = Alignment.from_durations(durations, lengths)
    return alignment.expand(x), alignment


def uniform(
    x: Shaped[Tensor, "b s *d"], lengths: Int[Tensor, " b"], tgt_lengths: Int[Tensor, " b"]
) -> tuple[Shaped[Tensor, "b t *d"], Alignment]:
    """Each token for an equal share of the target, in whole frames."""
    alignment = Alignment.uniform(lengths, tgt_lengths, num_tokens=x.shape[1])
    return alignment.expand(x), alignment


def box(
    x: Float[Tensor, "b s *d"],
    durations: Shaped[Tensor, "b s"],
    lengths: Int[Tensor, " b"] | None = None,
    *,
    total: Int[Tensor, " b"] | None = None,
    tail: float = 0.0,
) -> tuple[Float[Tensor, "b t *d"], Alignment]:
    """Each frame is the mean of the tokens in it, weighted by overlap; gradients reach durations.

    With durations below 1 (the weights of a sigmoid) this is continuous integrate-and-fire
    (arXiv:1905.11235): `x` are acoustic frames, the result are tokens, and a token fires whenever
    the running sum passes a whole number.

    Args:
        total: exact number of output frames; durations are scaled to it (CIF's scaling strategy in
            training).
        tail: a last frame that is covered by less than this is dropped. 0 keeps every residue, so
            that nothing of `x` is lost; Paraformer fires at 0.55.
    """
    alignment = Alignment.from_durations(durations.double(), lengths)
    sums = alignment.durations.sum(1)
    if total is not None:
        total = total.to(sums.device)
        if ((sums <= 0) & (total > 0)).any():
            row = int(((sums <= 0) & (total > 0)).nonzero()[0])
            raise UnisonoError(
                f"durations of item {row} sum to 0 and cannot be scaled to {int(total[row])}",
                code="empty",
                path="durations",
                value=0,
            )
        scaled = alignment.durations * (total / sums.clamp(min=1e-12))[:, None]
        alignment = Alignment.from_durations(scaled, lengths, total)
    elif tail > 0:
        # A millionth of a frame is rounding, not a residue.
        fired = (sums.detach() + 1 - tail + 1e-6).floor().long()
        fired = torch.minimum(fired, alignment.tgt_lengths)
        alignment = Alignment.from_durations(alignment.durations, lengths, fired)
    return alignment.expand(x), alignment


def gaussian(
    x: Float[Tensor, "b s *d"],
    durations: Shaped[Tensor, "b s"],
    lengths: Int[Tensor, " b"] | None = None,
    *,
    sigma: float | Float[Tensor, "b s"] = 1.0,
) -> tuple[Float[Tensor, "b t *d"], Alignment]:
    """Each frame is a mean of all tokens, by normal densities around the tokens' centres.

        w[t, s] ∝ N(t + 1/2; c_s - d_s / 2, σ_s²)

    A constant `sigma` in frames is the upsampling of EATS (arXiv:2006.03575); one per token,
    predicted by the model, is that of Non-Attentive Tacotron (arXiv:2010.04301); a sigma that is a
    vanishing part of the duration is `repeat`. Tokens of duration 0 get no weight.
    Fractional durations give as many frames as their rounded total, at least one.
    """
    exact = Alignment.from_durations(durations.double(), lengths)
    sigma = torch.as_tensor(sigma, dtype=torch.float64, device=x.device).expand_as(exact.durations)
    present = exact.durations > 0
    if (~(sigma > 0) & present).any():
        raise UnisonoError(
            f"sigma={sigma[~(sigma > 0) & present][0].item()} must be above 0",
            code="range",
            path="sigma",
            value=sigma[~(sigma > 0) & present][0].item(),
        )
    centres, tgt_lengths = _centres(exact)
    sigma = torch.where(present, sigma, 1.0)[:, None]
    z = (centres - (exact.ends - exact.durations / 2)[:, None]) / sigma
    logits = -0.5 * z.square() - sigma.log()
    return _soft(x, logits, present, durations, exact.src_lengths, tgt_lengths)


def filler_pad(
    x: Float[Tensor, "b s *d"],
    lengths: Int[Tensor, " b"],
    tgt_lengths: Int[Tensor, " b"],
    filler: Float[Tensor, "*d"],
) -> tuple[Float[Tensor, "b t *d"], Alignment]:
    """Token i at frame i, then `filler` up to the target's length (E2-TTS, arXiv:2406.18009).

    The filler is one more token of the alignment, and takes the frames that are left.
    """
    left = tgt_lengths - lengths
    if (left < 0).any():
        row = int((left < 0).nonzero()[0])
        raise UnisonoError(
            f"item {row} has {int(lengths[row])} tokens but only {int(tgt_lengths[row])} frames to put them in",
            code="limit",
            path="tgt_lengths",
            value=int(tgt_lengths[row]),
        )
    b, s = x.shape[:2]
    token = torch.arange(s + 1, device=x.device)
    durations = (token < lengths[:, None]).long()
    durations[torch.arange(b, device=x.device), lengths] = left
    alignment = Alignment.from_durations(durations, lengths + 1)
    padded = torch.cat([x, x.new_zeros(b, 1, *x.shape[2:])], dim=1)
    here = (token == lengths[:, None]).reshape(b, s + 1, *[1] * (x.ndim - 2))
    return alignment.expand(torch.where(here, filler, padded)), alignment


class LearnedUpsampling(nn.Module):
    """Lets a small network decide what each frame takes from each token.

    Of every frame and token, the distances to the token's start and end (in frames) and features
    of the token's neighbourhood go through two small networks (Parallel Tacotron 2,
    arXiv:2103.14574):

        W = softmax_s(MLP(S, E, Conv(V)))  [b, t, s]      C = MLP'(S, E, Conv'(V))  [b, t, s, p]
        O = W V + (Σ_s W[t, s] C[t, s]) A

    The distances are divided by `scale` frames, which the paper does not do: raw distances reach
    the hundreds and saturate the Swish. Train it on known durations, or on those of `search`.
    """

    def __init__(
        self,
        channels: int,
        features: int = 8,
        hidden: int = 16,
        auxiliary: int = 2,
        scale: float = 10.0,
    ):
        super().__init__()
        self.scale = scale
        self.weight_features = nn.Conv1d(channels, features, 3, padding=1)
        self.auxiliary_features = nn.Conv1d(channels, features, 3, padding=1)
        self.weight = nn.Sequential(
            *(nn.Linear(features + 2, hidden), nn.SiLU()),
            *(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1)),
        )
        self.auxiliary = nn.Sequential(
            *(nn.Linear(features + 2, hidden), nn.SiLU(), nn.Linear(hidden, auxiliary)),
        )
        self.out = nn.Linear(auxiliary, channels, bias=False)

    def forward(
        self,
        x: Float[Tensor, "b s d"],
        durations: Shaped[Tensor, "b s"],
        lengths: Int[Tensor, " b"] | None = None,
    ) -> tuple[Float[Tensor, "b t d"], Alignment]:
        exact = Alignment.from_durations(durations.double(), lengths)
        centres, tgt_lengths = _centres(exact)
        distances = [centres - exact.starts[:, None], exact.ends[:, None] - centres]
        distances = (torch.stack(distances, dim=-1) / self.scale).to(x.dtype)
        masked = (x * exact.src_mask[..., None]).transpose(1, 2)

        def inputs(features: nn.Conv1d) -> Tensor:
            near = features(masked).transpose(1, 2)[:, None].expand(-1, len(centres), -1, -1)
            return torch.cat([distances, near], dim=-1)

        logits = self.weight(inputs(self.weight_features))[..., 0]
        y, alignment = _soft(x, logits.double(), exact.src_mask, durations, exact.src_lengths, tgt_lengths)
        terms = self.auxiliary(inputs(self.auxiliary_features))
        mixed = torch.einsum("bts,btsp->btp", alignment.matrix().to(terms), terms)
        return y + self.out(mixed) * alignment.tgt_mask[..., None], alignment


class IntegrateAndFire:
    """`box` with durations below 1, one chunk at a time: what comes out joined is what `box` gives.

    Between chunks it keeps the fraction of a token that is already integrated, and its vector.

    Args:
        tail: as for `box`: `flush` fires a last token covered by at least this.
    """

    def __init__(self, tail: float = 0.0):
        self.tail = tail
        self.residue = 0.0
        self.vector: Tensor | None = None

    def push(self, x: Float[Tensor, "s d"], weights: Float[Tensor, " s"]) -> Float[Tensor, "n d"]:
        """The tokens that are complete after these frames."""
        if self.vector is not None:
            # The unfinished token comes back as one more frame, of the weight that it has.
            x = torch.cat([self.vector[None] / max(self.residue, 1e-12), x])
            weights = torch.cat([weights.new_tensor([self.residue], dtype=torch.float64), weights])
        y, alignment = box(x[None], weights.double()[None])
        total = float(alignment.durations.sum())
        fired = math.floor(total + 1e-6)
        self.residue = max(total - fired, 0.0)
        self.vector = y[0, fired] if y.shape[1] > fired else torch.zeros_like(x[0])
        return y[0, :fired]

    def flush(self) -> Float[Tensor, "n d"]:
        """The last token, if enough of it is there."""
        if self.vector is None:
            raise UnisonoError("flush before any frame was pushed", code="state", path="flush")
        fires = self.residue > max(self.tail - 1e-6, 1e-6)
        last = self.vector[None][: int(fires)]
        self.vector, self.residue = None, 0.0
        return last


def _centres(exact: Alignment) -> tuple[Float[Tensor, "t 1"], Int[Tensor, " b"]]:
    """Frame centres, and target lengths: rounded totals, at least one frame if there is a token."""
    tgt_lengths = (exact.durations.detach().sum(1) + 0.5).floor().long()
    tgt_lengths = tgt_lengths.clamp(min=1).where(exact.src_lengths > 0, 0)
    num_frames = int(tgt_lengths.max()) if len(tgt_lengths) else 0
    frames = torch.arange(num_frames, device=tgt_lengths.device, dtype=torch.float64)
    return frames[:, None] + 0.5, tgt_lengths


def _soft(
    x: Tensor,
    logits: Float[Tensor, "b t s"],
    present: Tensor,
    durations: Tensor,
    src_lengths: Tensor,
    tgt_lengths: Tensor,
) -> tuple[Tensor, Alignment]:
    """Softmax over the tokens that are present, nothing past the target's end, and the product."""
    # Not -inf: a frame without any token would be NaN, and so would its gradient.
    weights = logits.masked_fill(~present[:, None], -1e30).softmax(-1)
    inside = torch.arange(logits.shape[1], device=x.device) < tgt_lengths[:, None]
    weights = torch.where(inside[..., None] & present[:, None], weights, 0.0)
    alignment = Alignment.from_weights(weights.to(x.dtype), durations, src_lengths, tgt_lengths)
    return alignment.expand(x), alignment
