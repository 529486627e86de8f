"""Captions as tokens, and both encoders."""

import importlib.util

import pytest
import torch
from refused import refused
from unisono.data import words_of
from unisono.errors import MissingExtra, RecipeError, RequestError
from unisono.nn.captions import MAX_WORDS, ClipTextEncoder, SmallTextEncoder, Vocabulary, make_text_encoder
from unisono_motion.models.caption_encoders import read_caption

WORDS = ["a", "person", "walks", "waves"]


@pytest.fixture
def encoder() -> SmallTextEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SmallTextEncoder(WORDS, 16, 1, 2, 0.0).eval()


def test_words_are_lower_case_without_signs_and_accents():
    assert words_of("A naïve Person — WALKS, then doesn’t!") == ["a", "naive", "person", "walks", "then", "doesn't"]
    assert words_of("?! …") == []


@pytest.mark.parametrize(
    ("caption", "code", "names"),
    [
        ("", "empty", "''"),
        (" \n", "empty", "''"),
        ("…!", "empty", "'…!' has no word: say what the motion shows"),
        ("walk " * 5000, "limit", ["5000", str(MAX_WORDS)]),
        ("walk" * 1000, "limit", ["4000 letters", "24"]),
    ],
)
def test_a_caption_that_cannot_be_read_is_refused(caption, code, names):
    with refused(RequestError, code, "text", names=names) as error:
        read_caption(caption)
    assert len(str(error.value)) < 200


def test_known_words_are_one_token_and_others_are_spelled():
    vocabulary = Vocabulary(WORDS)
    known = vocabulary.encode(["a", "person", "walks"])
    assert len(known) == len(set(known)) == 3
    assert len(vocabulary.encode(["person", "jumps"])) == 1 + 5
    assert vocabulary.encode(["walks"], spell=[True]) == [vocabulary.ids[letter] for letter in "walks"]
    assert vocabulary.encode(["мир"]) == [0, 0, 0]  # other scripts are read as unknown letters
    assert vocabulary.encode(["a"]) != [vocabulary.ids["a"]]  # the word is not the letter


def test_vocabulary_counts_captions():
    captions = ["a person walks", "a person runs", "a a a cat"]
    assert Vocabulary.of_captions(captions, min_count=2).words == ["a", "person"]
    assert Vocabulary.of_captions(captions, min_count=3).words == ["a"]


def test_a_caption_alone_is_the_caption_in_a_batch(encoder):
    captions = ["a person walks", "waves", "an extraordinary person walks and waves"]
    words, mask, sentences = encoder.read(captions)
    for row, caption in enumerate(captions):
        own, _, sentence = encoder.read([caption])
        torch.testing.assert_close(sentences[row], sentence[0])
        torch.testing.assert_close(words[row, : own.shape[1]], own[0])
        assert not words[row, own.shape[1] :].any()
        assert mask[row].sum() == own.shape[1]


def test_order_and_words_matter(encoder):
    *_, sentences = encoder.read(["a person walks", "walks a person", "a person waves"])
    gaps = torch.pdist(sentences)
    assert (gaps > 1e-3).all()


def test_spelling_while_training_is_drawn_from_the_seeds_alone(encoder):
    captions = [["a", "person", "walks"]] * 400
    tokens, mask = encoder.tokenize(captions, 0.25, seeds=range(400))
    again, _ = encoder.tokenize(captions, 0.25, seeds=range(400))
    alone, _ = encoder.tokenize(captions[:1], 0.25, seeds=[7])
    assert torch.equal(tokens, again)
    assert torch.equal(alone[0], tokens[7, : alone.shape[1]])
    # "walks" is spelled in a quarter of 400 captions: binomial, standard deviation 0.022
    share = (tokens == encoder.vocabulary.ids["w"]).any(1).float().mean().item()
    assert share == pytest.approx(0.25, abs=0.07)
    assert (mask.sum(1) >= 3).all()


def test_an_encoder_is_chosen_by_name():
    assert isinstance(make_text_encoder("small", WORDS, 16, 1, 2, 0.0), SmallTextEncoder)
    for name in ("large", "clip:"):
        with refused(RecipeError, "unknown", "model.text_encoder", names=["'small'", "'clip:'"]):
            make_text_encoder(name, WORDS, 16, 1, 2, 0.0)


def test_clip_without_transformers_says_what_to_install(monkeypatch):
    monkeypatch.setattr("unisono.nn.captions.find_spec", lambda name: None)
    with refused(MissingExtra, "dependency", "transformers", names='pip install "unisono[clip]"'):
        make_text_encoder("clip:openai/clip-vit-base-patch32", [], 16, 1, 2, 0.0)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    """A CLIP text tower with random weights and a tokenizer of letters, saved as the real one is."""
    if importlib.util.find_spec("transformers") is None:
        pytest.skip('transformers is not installed: pip install "unisono[clip]"')
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("clip")
    pieces = {piece: i for i, piece in enumerate(["<pad>", "<s>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(pieces, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(folder)
    config = CLIPTextConfig(
        vocab_size=len(pieces),
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPTextModel(config).save_pretrained(folder)
    return folder


def test_clip_reads_captions_and_stays_frozen_and_out_of_the_weights(clip_folder):
    encoder = make_text_encoder(f"clip:{clip_folder}", [], 16, 1, 2, 0.0)
    assert isinstance(encoder, ClipTextEncoder)
    words, mask, sentences = encoder.read(["a person walks", "waves"])
    assert words.shape == (2, 5, 16)
    assert mask.sum(1).tolist() == [5, 3]
    alone, _, sentence = encoder.read(["waves"])
    torch.testing.assert_close(words[1, :3], alone[0])
    torch.testing.assert_close(sentences[1], sentence[0])
    assert sorted(encoder.state_dict()) == ["sentence.bias", "sentence.weight", "words.bias", "words.weight"]
    sentences.sum().backward()
    assert not any(p.requires_grad for p in encoder._tower[0].parameters())


def test_clip_from_nowhere_is_one_sentence(tmp_path):
    if importlib.util.find_spec("transformers") is None:
        pytest.skip('transformers is not installed: pip install "unisono[clip]"')
    with refused(RecipeError, "format", "model.text_encoder", value=f"clip:{tmp_path}"):
        make_text_encoder(f"clip:{tmp_path}", [], 16, 1, 2, 0.0)
