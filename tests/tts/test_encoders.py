"""The encoder of Glow-TTS: alone against in a padded batch, and its beginning."""

import math

import pytest
import torch
from unisono_tts.encoders import EncoderSizes, Prenet, TextEncoder

SIZES = EncoderSizes(dim=12, num_layers=2, num_heads=2, filter_dim=20, window=2)
LENGTHS = torch.tensor([9, 4, 1])
MASK = torch.arange(9) < LENGTHS[:, None]


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        yield


def test_alone_is_in_a_batch():
    encoder = TextEncoder(7, SIZES).double().eval()
    torch.nn.init.normal_(encoder.prenet.out.weight)
    symbols = torch.randint(7, (3, 9))
    together = encoder(symbols, MASK)
    assert not together[~MASK].any()
    for row, length in enumerate(LENGTHS.tolist()):
        alone = encoder(symbols[row : row + 1, :length], None)
        torch.testing.assert_close(together[row : row + 1, :length], alone, atol=1e-12, rtol=0)


def test_convolutions_begin_as_nothing():
    prenet, x = Prenet(8, 5, 3, 0.5), torch.randn(2, 6, 8)
    assert torch.equal(prenet(x, None), x)


def test_halves_make_the_whole_and_symbols_begin_at_unit_scale():
    encoder = TextEncoder(4000, EncoderSizes(num_layers=1)).eval()
    symbols = torch.arange(4000)[None, :512]
    torch.testing.assert_close(encoder.blocks(encoder.embed(symbols, None), None), encoder(symbols, None))
    assert math.isclose(encoder.embed(symbols, None).std().item(), 1.0, rel_tol=0.02)


def test_published_size():
    """192 wide: 6 blocks, 3 convolutions; 7.2 million weights beside the embedding, by hand."""
    encoder = TextEncoder(1, EncoderSizes())
    d, f = 192, 768
    attention = 4 * (d * d + d) + 2 * 9 * (d // 2)
    convolutions = (d * f * 3 + f) + (f * d * 3 + d)
    prenet = 3 * (d * d * 5 + d + 2 * d) + d * d + d
    assert sum(p.numel() for p in encoder.parameters()) == d + prenet + 6 * (attention + convolutions + 4 * d)
