"""Motion transformer: sees a caption and a partly known sequence of motion tokens.

MMM (Pinyoanuntapong et al., arXiv:2312.03596, §3.3): self-attention over the tokens with the sentence in front,
cross-attention to the words, a token distribution at every position. Differences: words are attended to in every
block; blocks normalise first; several streams (body parts) are summed per frame and each has its own output; the
number of frames, and whether the sequence begins and ends with the clip, are told in front as well, so that a
window of a longer motion is not taken for a whole one; there is neither an end token nor a padding token.

Shapes: b batch, t frames of tokens, q streams, w words, d channels, v codebook. Masks are True where kept.
"""

from dataclasses import dataclass, fields

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from unisono.nn.fft import position_code, sinusoids
from unisono.nn.transformer import Block

from unisono_motion.models.sizes import TransformerSizes


@dataclass(frozen=True)
class Condition:
    """What a sequence of tokens depends on.

    ``words`` [b, w, d] with ``mask`` and ``sentence`` [b, d] are the caption; ``length`` [b] is in frames of
    tokens; ``begins`` and ``ends`` [b] say whether the sequence has the clip's beginning and end.
    """

    words: Float[Tensor, "b w d"]
    mask: Bool[Tensor, "b w"]
    sentence: Float[Tensor, "b d"]
    length: Int[Tensor, " b"]
    begins: Bool[Tensor, " b"]
    ends: Bool[Tensor, " b"]

    def rows(self, index: Int[Tensor, " n"]) -> "Condition":
        """Some rows, in any order."""
        return Condition(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


class Conditioner(nn.Module):
    """Turns a caption into a memory of words, and the sentence with the sequence's place into one vector in front.

    ``forget`` [b] drops a row's caption: what is left is the unconditional model that guidance needs.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.nothing = nn.Parameter(0.02 * torch.randn(dim))
        self.place = nn.Embedding(4, dim)
        self.length = nn.Linear(dim, dim)

    def forward(
        self, condition: Condition, forget: Bool[Tensor, " b"] | None = None
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b w d"], Bool[Tensor, "b w"]]:
        """Return the vector in front, and the memory with the sentence (or nothing) before the words."""
        sentence, mask = condition.sentence, condition.mask
        if forget is not None:
            sentence = torch.where(forget[:, None], self.nothing.to(sentence.dtype), sentence)
            mask = mask & ~forget[:, None]
        memory = torch.cat([sentence[:, None], condition.words.to(sentence.dtype)], dim=1)
        kept = F.pad(mask, (1, 0), value=True)
        place = self.place(condition.begins.long() + 2 * condition.ends.long())
        dim = sentence.shape[1]
        angles = position_code(condition.length, dim)
        return sentence + place + self.length(angles.to(sentence.dtype)), memory, kept


class ConditionedStack(nn.Module):
    """Blocks over embedded frames, with the condition in front and at their side; what both networks share."""

    def __init__(self, sizes: TransformerSizes):
        super().__init__()
        dim = self.dim = sizes.dim
        self.conditioner = Conditioner(dim)
        self.blocks = nn.ModuleList(
            Block(dim, sizes.num_heads, sizes.dropout, cross=True) for _ in range(sizes.num_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(
        self, x: Float[Tensor, "b t d"], condition: Condition, forget: Bool[Tensor, " b"] | None
    ) -> Float[Tensor, "b t d"]:
        front, memory, memory_mask = self.conditioner(condition, forget)
        t = x.shape[1]
        x = x + sinusoids(t, self.dim, x.device).to(x.dtype)
        x = self.dropout(torch.cat([front[:, None].to(x.dtype), x], dim=1))
        mask = F.pad(torch.arange(t, device=x.device) < condition.length[:, None], (1, 0), value=True)
        for block in self.blocks:
            x = block(x, mask, memory, memory_mask)
        return self.norm(x)[:, 1:]


class MaskedTransformer(nn.Module):
    """Predicts every token of a partly known sequence, all streams of a frame at once.

    ::

        caption ─ conditioner ─┬─ front ──┐
                               └─ memory ─│──────────┐
        tokens, known ─ Σ over streams ───┴─ block × num_layers ─ norm ─ a linear per stream ─ logits

    Args:
        codebook_size: tokens of each stream.
        num_streams: tokens per frame.
    """

    def __init__(self, codebook_size: int, num_streams: int, sizes: TransformerSizes):
        super().__init__()
        dim = sizes.dim
        self.codebook_size, self.num_streams = codebook_size, num_streams
        self.embedding = nn.Embedding(num_streams * (codebook_size + 1), dim)
        nn.init.normal_(self.embedding.weight, std=0.5)
        self.stack = ConditionedStack(sizes)
        self.to_logits = nn.Linear(dim, num_streams * codebook_size)

    def forward(
        self,
        tokens: Int[Tensor, "b t q"],
        known: Bool[Tensor, "b t q"],
        condition: Condition,
        forget: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b t q v"]:
        """Return the logits of every token. Frames from a row's ``length`` on are padding: seen by nobody.

        What is not known is embedded as a vector of its own, one for each stream.
        """
        ids = torch.where(known, tokens, self.codebook_size)
        ids = ids + torch.arange(self.num_streams, device=ids.device) * (self.codebook_size + 1)
        x = self.stack(self.embedding(ids).sum(2), condition, forget)
        return rearrange(self.to_logits(x), "b n (q v) -> b n q v", q=self.num_streams)


class ResidualTransformer(nn.Module):
    """MoMask's second network (Guo et al., arXiv:2312.00063, §3.3): a level's tokens from all levels below it.

    ::

        caption ─ conditioner ─┬─ front ──┐
                               └─ memory ─│──────────────┐
        Σ of levels 0 … j − 1, level j ───┴─ block × num_layers ─ norm ─ linear ─ · embeddings of level j ─ logits

    Level j sees the levels below it whole, and is given in one step. A level's embedding, as input of those above
    it, is its output as well. Differences: the parts of the body are summed, as in the base network, and each has
    its own output; published, level j's output shares weights with its input through a projection.

    Args:
        codebook_size: tokens of each level.
        num_parts: parts of the body, with ``num_levels`` each.
    """

    def __init__(self, codebook_size: int, num_parts: int, num_levels: int, sizes: TransformerSizes):
        super().__init__()
        dim = sizes.dim
        self.codebook_size, self.num_parts, self.num_levels, self.dim = codebook_size, num_parts, num_levels, dim
        self.embedding = nn.Embedding(num_parts * num_levels * codebook_size, dim)
        nn.init.normal_(self.embedding.weight, std=0.5)
        self.level = nn.Embedding(num_levels - 1, dim)
        self.stack = ConditionedStack(sizes)
        self.to_code = nn.Linear(dim, num_parts * dim)
        self.bias = nn.Parameter(torch.zeros(num_parts, num_levels - 1, codebook_size))

    def forward(
        self,
        tokens: Int[Tensor, "b t p l"],
        level: Int[Tensor, " b"],
        condition: Condition,
        forget: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b t p v"]:
        """Return the logits of each row's own ``level``, from 1 on; tokens of that level and above are not read."""
        sizes = (self.num_parts, self.num_levels)
        table = torch.arange(self.num_parts * self.num_levels, device=tokens.device).view(sizes)
        below = torch.arange(self.num_levels, device=tokens.device) < level[:, None]
        embedded = self.embedding(tokens + table * self.codebook_size)
        x = (embedded * below[:, None, None, :, None]).sum((2, 3)) + self.level(level - 1)[:, None]
        code = self.to_code(self.stack(x, condition, forget)).unflatten(-1, (self.num_parts, self.dim))
        output = self.embedding.weight.unflatten(0, (*sizes, self.codebook_size))[:, level].to(code.dtype)
        logits = torch.einsum("btpd,pbvd->btpv", code, output) * self.dim**-0.5
        return logits + self.bias[:, level - 1].transpose(0, 1)[:, None].to(code.dtype)
