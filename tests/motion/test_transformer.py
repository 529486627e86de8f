"""What the networks see and what they do not."""

import pytest
import torch
from unisono.nn.transformer import Block
from unisono_motion.models.sizes import TransformerSizes
from unisono_motion.models.transformer import Condition, MaskedTransformer, ResidualTransformer

V, T, D = 7, 6, 16
SIZES = TransformerSizes(dim=D, num_layers=2, num_heads=4, dropout=0.0)
LENGTH = torch.tensor([6, 4, 1])


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def condition(batch: int = 3, words: int = 4) -> Condition:
    mask = torch.arange(words) < torch.tensor([4, 2, 1])[:batch, None]
    return Condition(
        torch.randn(batch, words, D) * mask[..., None],
        mask,
        torch.randn(batch, D),
        LENGTH[:batch],
        torch.tensor([True, False, True])[:batch],
        torch.tensor([True, True, False])[:batch],
    )


def canvas(num_streams: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randint(0, V, (3, T, num_streams)), torch.rand(3, T, num_streams) < 0.5


def test_attention_of_a_block_is_the_formula():
    block = Block(D, 1, 0.0).eval()
    x, mask = torch.randn(1, 3, D), torch.tensor([[True, True, False]])
    q, k, v = block.qkv(block.self_norm(x)).chunk(3, -1)
    weights = (q @ k.mT / D**0.5)[..., :2].softmax(-1)
    x1 = x + block.self_out(weights @ v[:, :2])
    x2 = x1 + block.feed_out(torch.nn.functional.gelu(block.feed_in(block.feed_norm(x1))))
    torch.testing.assert_close(block(x, mask), x2)


@pytest.mark.parametrize("num_streams", [1, 2])
def test_padding_changes_nothing_and_what_is_not_known_is_not_seen(num_streams):
    net = MaskedTransformer(V, num_streams, SIZES).eval()
    tokens, known = canvas(num_streams)
    cond = condition()
    logits = net(tokens, known, cond)
    assert logits.shape == (3, T, num_streams, V)
    garbage = torch.where(known, tokens, (tokens + 3) % V)
    beyond = torch.arange(T)[None, :, None] >= LENGTH[:, None, None]
    other = net(torch.where(beyond, 0, garbage), known ^ beyond, cond)
    for row, length in enumerate(LENGTH.tolist()):
        torch.testing.assert_close(other[row, :length], logits[row, :length])
        alone = net(tokens[row : row + 1, :length], known[row : row + 1, :length], cond.rows(torch.tensor([row])))
        torch.testing.assert_close(alone[0], logits[row, :length])


@pytest.mark.parametrize("name", ["words", "sentence", "length", "begins", "ends", "tokens", "known"])
def test_everything_that_is_told_is_heard(name):
    net = MaskedTransformer(V, 2, SIZES).eval()
    tokens, known = canvas(2)
    known[0, :3] = True
    cond = condition()
    before = net(tokens, known, cond)[0]
    if name == "tokens":
        tokens = tokens.clone()
        tokens[0, 1] = (tokens[0, 1] + 1) % V
    elif name == "known":
        known = known.clone()
        known[0, 1] = False
    else:
        values = getattr(cond, name)
        changed = ~values if values.dtype == torch.bool else values - 1
        cond = Condition(**{**vars(cond), name: changed})
    after = net(tokens, known, cond)[0]
    assert (after - before)[:5].abs().max() > 1e-3


def test_forgetting_takes_the_caption_and_nothing_else():
    net = MaskedTransformer(V, 1, SIZES).eval()
    tokens, known = canvas(1)
    one, two = condition(), condition()
    every = torch.ones(3, dtype=torch.bool)
    torch.testing.assert_close(net(tokens, known, one, every), net(tokens, known, two, every))
    mixed = net(tokens, known, one, torch.tensor([True, False, True]))
    torch.testing.assert_close(mixed[1], net(tokens, known, one)[1])
    assert (net(tokens, known, one)[0] - net(tokens, known, one, every)[0]).abs().max() > 1e-3


@pytest.mark.parametrize("num_parts", [1, 2])
def test_a_level_sees_the_levels_below_it_and_no_other(num_parts):
    net = ResidualTransformer(V, num_parts, 4, SIZES).eval()
    tokens = torch.randint(0, V, (3, T, num_parts, 4))
    level, cond = torch.tensor([1, 3, 2]), condition()
    logits = net(tokens, level, cond)
    assert logits.shape == (3, T, num_parts, V)
    below = torch.arange(4) < level[:, None, None, None]
    torch.testing.assert_close(net(torch.where(below, tokens, (tokens + 1) % V), level, cond), logits)
    other = net(torch.where(below, (tokens + 1) % V, tokens), level, cond)
    assert ((other - logits).abs().amax((1, 2, 3)) > 1e-3).all()
    for row in range(3):
        index = torch.tensor([row])
        alone = net(tokens[index], level[index], cond.rows(index))
        torch.testing.assert_close(alone[0], logits[row])
