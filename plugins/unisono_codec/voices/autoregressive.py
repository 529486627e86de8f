"""The price of one token at a time: a parallel model's own network, read from left to right with a cache.

*Which network it is*: the same blocks and the same weights as the masked model's, with three changes that make it
causal. Attention sees only what came before; the depthwise convolution looks back and not to both sides; and a frame
of q tokens is read q times, the first time without any of its tokens and then with one more each time (a frame's
partial sum is what the masked network reads as well). Keys, values and the convolution's last inputs are kept, so that
each evaluation computes one position. A prompt that is attended to across is read once, as in the masked model.

It was never trained to do so: *what it says is noise*, and only evaluations and time are worth reading. They are those
of any autoregressive model of this shape, since neither depends on the weights.

Shapes: b batch, t codec frames, q streams, n = t · q tokens, d channels.
"""

import time
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from unisono.nn.attention import attend, split_parts
from unisono.nn.rotary import rotate, rotation


@dataclass(frozen=True)
class OneByOne:
    """What came out, evaluations of the network, and the seconds that they took."""

    tokens: Int[Tensor, "b t q"]
    evaluations: int
    seconds: float


class LeftToRight:
    """Conformer blocks read from left to right, one position of ``num_positions`` at a time.

    ``memory`` is a ``gmlm.Memory``, for blocks that look at a prompt.
    """

    def __init__(self, blocks: Any, head_dim: int, batch: int, num_positions: int, memory: Any = None):
        weight = next(blocks.parameters())
        self.blocks, self.memory = list(blocks), memory
        self.places = rotation(torch.arange(num_positions), head_dim, device=weight.device)
        self.place = 0
        heads = self.blocks[0].num_heads
        room = (len(self.blocks), 2, batch, heads, num_positions, head_dim)
        self.kept = torch.zeros(room, device=weight.device, dtype=weight.dtype)
        past = self.blocks[0].depthwise.kernel_size[0] - 1
        self.near = torch.zeros(
            len(self.blocks), batch, heads * head_dim, past, device=weight.device, dtype=weight.dtype
        )

    def __call__(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Read the next position."""
        x, place = x[:, None], self.place
        here = self.places.part(place, place + 1)
        for number, block in enumerate(self.blocks):
            x = x + 0.5 * block.before(x)
            q, k, v = split_parts(block.qkv(block.attention_norm(x)), block.num_heads)
            self.kept[number, 0, :, :, place] = rotate(k, here)[:, :, 0]
            self.kept[number, 1, :, :, place] = v[:, :, 0]
            keys, values = self.kept[number, :, :, :, : place + 1]
            x = x + block.attention_out(attend(rotate(q, here), keys, values))
            if self.memory is not None:
                x = block.look(x, self.memory.keys[:, number], self.memory.values[:, number], self.memory.mask)
            near = torch.cat([self.near[number], block.gated(x).mT], -1)
            self.near[number] = near[..., 1:]
            conv = block.depthwise
            x = x + block.convolved(F.conv1d(near, conv.weight, conv.bias, groups=conv.groups).mT)
            x = block.norm(x + 0.5 * block.after(x))
        self.place += 1
        return x[:, 0]


@torch.no_grad()
def one_by_one(
    blocks: Any,
    embedding: Any,
    heads: Any,
    condition: Float[Tensor, "b t d"],
    *,
    seed: int = 0,
    temperature: float = 1.0,
    memory: Any = None,
) -> OneByOne:
    """Decode t · q tokens one after the other with a masked model's network; see this module for what it is.

    ``blocks`` are its Conformer blocks, ``embedding`` and ``heads`` its ``TokenEmbedding`` and ``TokenHeads``,
    ``condition`` what it adds to the tokens of each frame.
    """
    (b, t, _), q = condition.shape, heads.num_streams
    device = condition.device
    generator = torch.Generator(device).manual_seed(seed)
    start = time.perf_counter()
    network = LeftToRight(blocks, condition.shape[2] // blocks[0].num_heads, b, t * q, memory)
    tokens = torch.zeros(b, t, q, dtype=torch.int64, device=device)
    known = torch.zeros(b, 1, q, dtype=torch.bool, device=device)
    for frame in range(t):
        known[:] = False
        for stream in range(q):
            x = network((embedding(tokens[:, frame : frame + 1], known) + condition[:, frame : frame + 1])[:, 0])
            logits = F.linear(x, heads.weight[stream], heads.bias[stream]).float()
            if temperature:
                chance = (logits / temperature).softmax(-1)
                tokens[:, frame, stream] = torch.multinomial(chance, 1, generator=generator)[:, 0]
            else:
                tokens[:, frame, stream] = logits.argmax(-1)
            known[:, :, stream] = True
    return OneByOne(tokens, t * q, time.perf_counter() - start)
