"""Captions and ConvNeXt by hand: what is known or spelled, sentences without their padding, gains and masks."""

import pytest
import torch
from refused import refused
from torch.nn import functional as F
from unisono.errors import RecipeError
from unisono.nn.captions import MAX_WORDS, SmallTextEncoder, Vocabulary, make_text_encoder
from unisono.nn.convnext import ConvNeXtBlock


def test_words_that_stand_often_enough_are_known_and_the_rest_is_spelled():
    vocabulary = Vocabulary.of_captions(["a cat", "a cat sat", "a dog dog"], min_count=2)
    assert vocabulary.words == ["a", "cat"]  # "dog" stands twice in one caption
    a, cat, (d, o, g) = vocabulary.ids[" a"], vocabulary.ids[" cat"], (vocabulary.ids[letter] for letter in "dog")
    assert vocabulary.encode(["a", "dog", "cat"]) == [a, d, o, g, cat]
    assert vocabulary.encode(["a", "cat"], [True, False]) == [vocabulary.ids["a"], cat]
    assert vocabulary.encode(["é"]) == [0]


@pytest.mark.parametrize(("share", "spelled"), [(0.0, 0), (1.0, 2000), (0.3, 600)])
def test_a_share_of_the_known_words_is_spelled_from_the_captions_own_seed(share, spelled):
    encoder = SmallTextEncoder(["ab"], 4, 1, 1)
    tokens, mask = encoder.tokenize([["ab"] * 2000, ["ab"]], share, seeds=[7, 8])
    assert int(mask[0].sum()) - 2000 == pytest.approx(spelled, abs=60)  # a spelled one has two letters
    again, _ = encoder.tokenize([["ab"] * 2000], share, seeds=[7])
    assert torch.equal(again[0], tokens[0, : again.shape[1]])


def test_a_sentence_is_the_mean_of_its_own_words():
    torch.manual_seed(0)
    encoder = SmallTextEncoder(["a", "b"], 8, 2, 2).eval()
    words, mask, sentence = encoder.read(["a b a b a", "b"])
    assert mask.sum(1).tolist() == [5, 1] and not words[1, 1:].any()
    for row, count in enumerate((5, 1)):
        torch.testing.assert_close(sentence[row], encoder.to_sentence(words[row, :count].mean(0)))
    alone, _, own = encoder.read(["b"])
    torch.testing.assert_close(own[0], sentence[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(alone[0, 0], words[1, 0], rtol=1e-5, atol=1e-6)
    assert encoder.read(["a " * (MAX_WORDS + 9)])[0].shape[1] == MAX_WORDS


@pytest.mark.parametrize("name", ["large", "clip:", ""])
def test_an_encoder_that_is_none_is_refused(name):
    with refused(RecipeError, "unknown", "model.text_encoder", value=name, names="'small'"):
        make_text_encoder(name, [], 8, 1, 2, 0.0)


def test_a_convnext_block_is_its_formula_with_its_gain():
    block = ConvNeXtBlock(4, 12, kernel_size=3, layer_scale=0.5).double()
    with torch.no_grad():
        block.gain.copy_(torch.tensor([0.5, -2.0, 0.1, 3.0]))
    x = torch.randn(1, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    kernel, padded = block.depthwise.weight[:, 0], F.pad(x[0], (0, 0, 1, 1))  # [d, 3] and [t + 2, d]
    mixed = torch.stack([(padded[t : t + 3] * kernel.T).sum(0) for t in range(6)]) + block.depthwise.bias
    mixed = F.layer_norm(mixed, (4,), block.norm.weight, block.norm.bias, 1e-6)
    expected = x[0] + block.gain * block.project(F.gelu(block.expand(mixed)))
    torch.testing.assert_close(block(x)[0], expected)
    mask = torch.tensor([[True] * 4 + [False] * 2])
    torch.testing.assert_close(block(x, mask)[:, :4], block(x[:, :4])[:, :4])  # padding does not leak in
