"""Llama and Qwen2 in Hugging Face's layout: the logits of ``transformers``, decoded and tuned as text/ar is."""

import json

import pytest
import tokenizers
import torch
import transformers
import unisono
from refused import refused
from safetensors.torch import save_file
from unisono.errors import CheckpointError, DataError
from unisono.export import load, save_export
from unisono.recipe import Recipe
from unisono.train.warm_start import warm_start
from unisono_text.corpus.data import ToyData
from unisono_text.lossless.look_ahead import PaSS
from unisono_text.lossless.medusa import Medusa
from unisono_text.lossless.request import ContinueRequest
from unisono_text.models.llama import Llama
from unisono_text.models.published import from_transformers

ROWS, CONTEXT = 304, 48
SIZES = dict(
    vocab_size=ROWS, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=CONTEXT, rms_norm_eps=1e-6, attention_dropout=0.0,
)  # fmt: skip
CHAT = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")


def folder_of(kind, place, tied=False, **more):
    """A folder as such a model is published, of random weights; and the model of ``transformers`` that has them."""
    made = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config}[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = transformers.AutoModelForCausalLM.from_config(made(**SIZES, tie_word_embeddings=tied))
        for name, parameter in theirs.named_parameters():
            parameter.data.add_((0.3 if "bias" in name or "norm" in name else 0.1) * torch.randn(parameter.shape))
    bare = tokenizers.Tokenizer(tokenizers.models.BPE())
    bare.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = tokenizers.decoders.ByteLevel()
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False)
    bare.train_from_iterator(["the cat sat on the mat; the dog did not"] * 3, trainer)
    bare.add_special_tokens(sorted(CHAT))
    place.mkdir()
    end = bare.token_to_id("<|endoftext|>")
    config = {
        "model_type": kind, **SIZES, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": tied,
        "bos_token_id": end, "eos_token_id": end, "pad_token_id": end,
    }  # fmt: skip
    config = {name: value for name, value in {**config, **more}.items() if value != "left out"}
    (place / "config.json").write_text(json.dumps(config))
    bare.save(str(place / "tokenizer.json"))
    state = {k: v.clone() for k, v in theirs.state_dict().items() if not (tied and k == "lm_head.weight")}
    save_file(state, place / "model.safetensors")
    return place, theirs.eval()


@pytest.mark.parametrize(("kind", "tied"), [("llama", False), ("qwen2", False), ("qwen2", True)])
@torch.no_grad()
def test_the_logits_are_those_of_transformers(kind, tied, tmp_path):
    folder, theirs = folder_of(kind, tmp_path / kind, tied)
    model = from_transformers(folder)
    tokens = torch.randint(0, model.vocabulary, (2, 20), generator=torch.Generator().manual_seed(1))
    own = theirs(input_ids=tokens).logits[..., : model.vocabulary]
    torch.testing.assert_close(model.predict(tokens), own, rtol=1e-4, atol=1e-4)
    assert model.vocabulary < ROWS and (model.facts.chat is not None) == (kind == "qwen2")
    # Of texts, decoded here and there, the likeliest.
    read = unisono.load(save_export(model, tmp_path / "export"))
    prompt = model.tokenizer.encode("the cat")
    ids = [model.start_id, *prompt]
    while len(ids) < 20 and (len(ids) < 2 + len(prompt) or ids[-1] != model.special["eos"]):
        ids.append(int(theirs(input_ids=torch.tensor([ids])).logits[0, -1, : model.vocabulary].argmax()))
    made = read("the cat", length=20 - 1 - len(prompt), temperature=0.0)
    assert [model.start_id, *made.tokens] == ids[: 1 + len(made.tokens)]
    for decoding in ("jacobi", "ngram"):
        assert read("the cat", length=20 - 1 - len(prompt), temperature=0.0, decoding=decoding).text == made.text


@pytest.mark.parametrize(
    ("code", "path", "value", "kind", "more"),
    [
        ("unsupported", "attention_bias", True, "llama", dict(attention_bias=True)),
        ("unsupported", "mlp_bias", True, "llama", dict(mlp_bias=True)),
        ("unsupported", "head_dim", 16, "llama", dict(head_dim=16)),
        ("unsupported", "use_sliding_window", True, "qwen2", dict(use_sliding_window=True)),
        ("missing", "bos_token_id", None, "qwen2", dict(bos_token_id="left out")),
        ("unsupported", "rope_scaling", {"rope_type": "llama3"}, "llama", dict(rope_scaling={"rope_type": "llama3"})),
    ],
)
def test_what_is_not_built_is_refused(code, path, value, kind, more, tmp_path):
    folder, _ = folder_of(kind, tmp_path / "folder", **more)
    with refused(CheckpointError, code, path, value=value):
        from_transformers(folder)


@pytest.fixture(scope="module")
def data():
    made = ToyData(num_items=16, context=32)
    made.prepare(progress=False)
    return made


NETWORK = dict(dim=16, num_layers=2, num_heads=4, kv_heads=2, filter_dim=24, biased=True)


def model_of(name, data, seed=1, adapters=None, tied=True, **more):
    raw = {"model": {"name": name, "network": {**NETWORK, "tied": tied}, **more}, "data": {"name": "text/toy"}}
    return Recipe.from_dict({**raw, "seed": seed, "adapters": adapters or {}}).build_model(data.describe())


def test_a_network_without_room_for_the_start_is_refused(data):
    vocabulary = data.describe()["vocabulary"]
    with refused(DataError, "range", "model.network.rows", value=vocabulary - 1):
        model = Llama()
        model.network = type(model.network)(**NETWORK, rows=vocabulary - 1)
        model.build(data.describe())


@pytest.mark.parametrize("tied", [True, False])
def test_it_is_a_base_of_pass_and_medusa(data, tied):
    base = model_of("text/llama", data, tied=tied).eval()
    with torch.no_grad():
        for parameter in base.net.parameters():
            parameter.mul_(4 if parameter.dim() == 2 else 1)
    for kind, decoding, arguments in ((PaSS, "pass", {"ahead": 2}), (Medusa, "medusa", {"heads": 2})):
        model = kind(dim=16, **arguments)
        model.build(data.describe())
        model.attach("base", base)
        for temperature in (0.0, 1.0):
            given = dict(text="Ada", length=12, temperature=temperature)
            (plain,) = base.synthesize([ContinueRequest(**given)])
            (made,) = model.synthesize([ContinueRequest(**given, decoding=decoding)])
            assert made.text == plain.text
        batch = data.collate([{**data.train_set.item(i, torch.Generator()), "row": i} for i in range(4)])
        model.train().losses(batch)["loss"].backward()


@pytest.mark.parametrize(
    ("name", "more", "train", "tuned"),
    [
        ("text/llama", {"noise": {"span": 3, "share": 1.0}}, [], "noise"),
        ("text/llama-space", {"masks": {"count": 2, "places": 4}}, ["masks.*"], "masks"),
        ("text/llama-space", {"masks": {"count": 2, "places": 4, "alpha": 0.02}}, ["masks.*"], "units"),
    ],
)
def test_it_is_tuned_by_adapters(data, name, more, train, tuned, tmp_path):
    base = model_of("text/llama", data).eval()
    source = save_export(base, tmp_path / "base")
    model = model_of(name, data, 2, {"rank": 2, "alpha": 4.0, "train": train}, **more)
    warm_start(model, str(source))
    tokens = torch.tensor([data.tokenizer.encode("Ada has 3 red coins.")])
    with torch.no_grad():
        torch.testing.assert_close(model.eval().predict(tokens), base.predict(tokens))
    batch = data.collate([{**data.train_set.item(i, torch.Generator()), "row": i} for i in range(8)])
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.03)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        parts = model.train().losses(batch)
        parts["loss"].backward()
        optimizer.step()
        losses.append(float(parts["loss"].detach()))
    assert losses[-1] < losses[0]
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)
    again = load(save_export(model.eval(), tmp_path / "tuned")).model
    assert again.facts.tuned == (tuned,)
    given = dict(text="Ada", length=12, temperature=1.0)
    (plain,) = again.synthesize([ContinueRequest(**given)])
    for decoding in ("jacobi", "pass") if train else ("jacobi",):
        assert again.synthesize([ContinueRequest(**given, decoding=decoding)])[0].text == plain.text
    if not train:
        return
    with refused(CheckpointError, "shape", "run.init_from", names="masks.weight"):
        warm_start(model_of(name, data, 2, {"rank": 2}, **more), str(source))


def test_its_graph_is_given_ids_that_its_embedding_has(data):
    model = model_of("text/llama", data).eval()
    assert model.net.embedding.num_embeddings == model.vocabulary  # no row for a mask: a text begins behind bos
    step = model.graph_modules().modules["step"]
    for example in step.examples:
        torch.testing.assert_close(step.module(*example), step.reference(*example)[0])
