"""LLaDA, Dream and Fast-dLLM in Hugging Face's layout: the same logits as ``transformers``, and no code of theirs."""

import json

import pytest
import tokenizers
import torch
import transformers
import unisono
from refused import ANYTHING, refused
from safetensors.torch import load_file, save_file
from unisono.errors import CheckpointError, RecipeError
from unisono.export import save_export
from unisono_text.models.large import Dream, FastDLLM, LargeSizes, LLaDA
from unisono_text.models.published import CHATS, MASKS, from_transformers

ROWS, CONTEXT = 304, 48
QWEN = dict(
    vocab_size=ROWS, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=CONTEXT, rms_norm_eps=1e-6, attention_dropout=0.0,
)  # fmt: skip
TO_LLADA = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "q_proj",
    "self_attn.k_proj": "k_proj",
    "self_attn.v_proj": "v_proj",
    "self_attn.o_proj": "attn_out",
    "post_attention_layernorm": "ff_norm",
    "mlp.gate_proj": "ff_proj",
    "mlp.up_proj": "up_proj",
    "mlp.down_proj": "ff_out",
}
KINDS = ("llada", "Dream", "Fast_dLLM_Qwen")


def table_of(kind):
    """A byte-level tokenizer with the family's special tokens, the mask among them."""
    bare = tokenizers.Tokenizer(tokenizers.models.BPE())
    bare.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = tokenizers.decoders.ByteLevel()
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False)
    bare.train_from_iterator(["the cat sat on the mat; the dog did not"] * 3, trainer)
    marks = {"<|endoftext|>", MASKS[kind]}
    for part in CHATS[kind].values():
        marks |= {f"<|{piece.split('|>')[0]}|>" for piece in part.split("<|")[1:]}
    bare.add_special_tokens(sorted(marks))
    return bare


def folder_of(kind, place, shards=1, kind_of_weights=torch.float32, **more):
    """A folder as such a model is published, of random weights; and the model of ``transformers`` that has them."""
    tied = bool(more.pop("tied", False))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "llada":
            theirs = transformers.LlamaForCausalLM(
                transformers.LlamaConfig(**{**QWEN, "rms_norm_eps": 1e-5}, rope_theta=500000.0)
            )
        else:
            theirs = transformers.Qwen2ForCausalLM(
                transformers.Qwen2Config(**QWEN, rope_theta=1e6, tie_word_embeddings=tied)
            )
        for name, parameter in theirs.named_parameters():
            spread = 0.3 if "bias" in name or "norm" in name else 0.1
            parameter.data.add_(spread * torch.randn(parameter.shape))
    theirs = theirs.to(kind_of_weights).eval()
    state = {k: v.clone() for k, v in theirs.state_dict().items() if not (tied and k == "lm_head.weight")}
    bare = table_of(kind)
    ids = dict(eos_token_id=bare.token_to_id("<|endoftext|>"), pad_token_id=bare.token_to_id("<|endoftext|>"))
    config = {"model_type": kind, "auto_map": {"AutoModel": "modeling.Model"}, **ids}
    if kind == "llada":
        outer = {"model.embed_tokens": "model.transformer.wte", "model.norm": "model.transformer.ln_f"}
        renamed = {}
        for name, value in state.items():
            part = name.removesuffix(".weight")
            if part in outer:
                part = outer[part]
            elif part == "lm_head":
                part = "model.transformer.ff_out"
            else:
                number, _, inner = part.removeprefix("model.layers.").partition(".")
                part = f"model.transformer.blocks.{number}.{TO_LLADA[inner]}"
            renamed[f"{part}.weight"] = value
        state = renamed
        config |= dict(
            d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, mlp_hidden_size=48, embedding_size=ROWS, vocab_size=ROWS,
            rope_theta=500000.0, rms_norm_eps=1e-5, max_sequence_length=CONTEXT, block_type="llama",
            layer_norm_type="rms", activation_type="silu", rope=True, alibi=False, weight_tying=False,
            mask_token_id=bare.token_to_id(MASKS[kind]),
        )  # fmt: skip
    else:
        config |= {**QWEN, "rope_theta": 1e6, "hidden_act": "silu", "tie_word_embeddings": tied}
        if kind == "Dream":
            config["mask_token_id"] = bare.token_to_id(MASKS[kind])
        else:
            config["bd_size"] = 8
    config |= more
    place.mkdir()
    (place / "config.json").write_text(json.dumps(config))
    (place / "modeling.py").write_text("raise SystemExit('this must not run')")
    bare.save(str(place / "tokenizer.json"))
    names = sorted(state)
    if shards == 1:
        save_file(state, place / "model.safetensors")
    else:
        weight_map = {}
        for number in range(shards):
            file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
            part = {name: state[name] for name in names[number::shards]}
            save_file(part, place / file)
            weight_map |= dict.fromkeys(part, file)
        (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return place, theirs


def theirs_said(theirs, tokens, visible):
    """Their logits under a mask of ours."""
    dtype = next(theirs.parameters()).dtype
    hidden = torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)
    with torch.no_grad():
        return theirs(input_ids=tokens, attention_mask=hidden[None, None], use_cache=False).logits


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_transformers(kind, tmp_path):
    folder, theirs = folder_of(kind, tmp_path / "model", shards=3)
    model = unisono.load(folder).model
    assert type(model) is {"llada": LLaDA, "Dream": Dream, "Fast_dLLM_Qwen": FastDLLM}[kind]
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 280, (2, 20), generator=generator)
    tokens[:, 5:9] = model.mask_id
    place = torch.arange(20)
    visible = torch.ones(20, 20, dtype=torch.bool)
    if kind == "Fast_dLLM_Qwen":
        visible = place[:, None] // 8 >= place // 8
    with torch.no_grad():
        ours = model.predict(tokens)
    wanted = theirs_said(theirs, tokens, visible)
    if kind != "llada":  # each is said one place before
        wanted = torch.cat([wanted[:, :1], wanted[:, :-1]], 1)
    kept = [i for i in range(model.vocabulary) if i != model.mask_id]
    torch.testing.assert_close(ours[..., kept], wanted[..., kept], rtol=1e-4, atol=2e-4)
    assert bool((ours[..., model.mask_id] == -torch.inf).all()) and ours.shape[-1] == model.vocabulary < ROWS


def test_padding_is_not_seen(tmp_path):
    model = from_transformers(folder_of("llada", tmp_path / "model")[0])
    tokens = torch.arange(12)[None] + 40
    inside = torch.arange(12)[None] < 8
    with torch.no_grad():
        padded, alone = model.predict(tokens, inside)[:, :8], model.predict(tokens[:, :8])
    torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_made_and_an_export_of_it_gives_the_same(kind, tmp_path):
    synth = unisono.load(folder_of(kind, tmp_path / "model")[0])
    request = dict(text="the cat", length=9, num_steps=4, temperature=0.0)
    made = synth(request)
    assert made.text.startswith("the cat") and len(made.tokens) <= 16 + 9
    kept = save_export(synth.model, tmp_path / "export")
    again = unisono.load(kept)
    assert again(request).text == made.text
    assert again.model.facts["chat"] == CHATS[kind]
    assert {path.suffix for path in kept.iterdir()} == {".json", ".yaml", ".safetensors", ".md"}


@pytest.mark.parametrize("kind_of_weights", [torch.bfloat16, torch.float16])
def test_half_precision_stays_what_it_is(kind_of_weights, tmp_path):
    folder, theirs = folder_of("Dream", tmp_path / "model", kind_of_weights=kind_of_weights)
    model = from_transformers(folder)
    assert {parameter.dtype for parameter in model.parameters()} == {kind_of_weights}
    tokens = torch.arange(16)[None] + 30
    with torch.no_grad():
        ours = model.predict(tokens).float()
    wanted = theirs_said(theirs, tokens, torch.ones(16, 16, dtype=torch.bool)).float()
    wanted = torch.cat([wanted[:, :1], wanted[:, :-1]], 1)[..., : model.vocabulary]
    kept = [i for i in range(model.vocabulary) if i != model.mask_id]
    apart = (ours - wanted)[..., kept].abs().max() / wanted.abs().max()
    assert float(apart) < (0.03 if kind_of_weights == torch.bfloat16 else 0.004)  # 8 and 11 bits
    name = str(kind_of_weights).removeprefix("torch.")
    kept_as = save_export(model, tmp_path / "export", dtype=name)
    assert {v.dtype for v in load_file(kept_as / "model.safetensors").values()} == {kind_of_weights}
    again = unisono.load(kept_as).model
    assert {parameter.dtype for parameter in again.parameters()} == {kind_of_weights}
    with torch.no_grad():
        assert torch.equal(again.predict(tokens).float(), ours)


def test_a_head_that_is_the_embedding(tmp_path):
    folder, theirs = folder_of("Dream", tmp_path / "model", tied=True)
    model = from_transformers(folder)
    tokens = torch.arange(10)[None] + 30
    wanted = theirs_said(theirs, tokens, torch.ones(10, 10, dtype=torch.bool))
    with torch.no_grad():
        ours = model.predict(tokens)
    torch.testing.assert_close(ours[:, 1:, :200], wanted[:, :-1, :200], rtol=1e-4, atol=2e-4)


def test_a_mask_in_a_text_is_plain_characters(tmp_path):
    model = from_transformers(folder_of("llada", tmp_path / "model")[0])
    ids = model.tokenizer.encode(f"a {MASKS['llada']} b")
    assert model.mask_id not in ids and model.tokenizer.decode(ids) == f"a {MASKS['llada']} b"
    assert model.mask_id in model.tokenizer.encode(MASKS["llada"], special=True)


def broken(place, **changes):
    folder, _ = folder_of("llada", place)
    config = json.loads((folder / "config.json").read_text())
    for key, value in changes.items():
        config.pop(key) if value is None else config.update({key: value})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("code", "path", "value", "changes"),
    [
        ("unsupported", "block_type", "sequential", dict(block_type="sequential")),
        ("unsupported", "alibi", True, dict(alibi=True)),
        ("missing", "config.json", "d_model", dict(d_model=None)),
        ("shape", "model", ANYTHING, dict(n_layers=3)),
        ("shape", "model", ANYTHING, dict(embedding_size=ROWS + 1)),
        ("range", "model", 100, dict(embedding_size=100)),
        ("missing", "config.json", "max_position_embeddings", dict(max_sequence_length=None)),
        ("unknown", "config.json", "gpt9", dict(model_type="gpt9")),
        ("format", "config.json", ANYTHING, dict(model_type=None)),
    ],
)
def test_what_does_not_fit_is_one_sentence(code, path, value, changes, tmp_path):
    with refused(CheckpointError, code, path, value=value):
        unisono.load(broken(tmp_path / "model", **changes))


def test_files_that_are_missing_or_damaged_are_named(tmp_path):
    folder = broken(tmp_path / "a")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with refused(CheckpointError, "missing", "model.safetensors", names="pytorch_model.bin is a pickle"):
        unisono.load(folder)
    folder = broken(tmp_path / "b")
    (folder / "model.safetensors").write_bytes(b"nonsense")
    with refused(CheckpointError, "damaged", "model.safetensors"):
        unisono.load(folder)
    folder = broken(tmp_path / "c")
    (folder / "tokenizer.json").unlink()
    with refused(CheckpointError, "missing", "tokenizer.json"):
        unisono.load(folder)
    folder = broken(tmp_path / "d")
    for wrong in ([], {"x": 1}, {"x": ["a"]}, "x"):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": wrong}))
        with refused(CheckpointError, "damaged", "model.safetensors.index.json"):
            unisono.load(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "../other.safetensors"}}))
    with refused(CheckpointError, "damaged", "model.safetensors.index.json"):
        unisono.load(folder)
    folder = broken(tmp_path / "e")
    (folder / "config.json").write_text("{")
    with refused(CheckpointError, "format", "config.json"):
        unisono.load(folder)


def test_wrong_sizes_are_refused():
    for code, name, value, given in (
        ("shape", "num_heads", 32, dict(kv_heads=3)),
        ("shape", "dim", 4100, dict(dim=4100)),
        ("range", "num_layers", 0, dict(num_layers=0)),
        ("range", "rope_base", 0.5, dict(rope_base=0.5)),
        ("range", "norm_eps", 0.0, dict(norm_eps=0.0)),
    ):
        with refused(RecipeError, code, f"model.network.{name}", value=value, names=f"{name}={value}"):
            LargeSizes(**given)


def test_a_shifted_model_refuses_a_cache(tmp_path):
    model = from_transformers(folder_of("Dream", tmp_path / "model")[0])
    with pytest.raises(ValueError, match="predict without a cache"):
        model.predict(torch.zeros(1, 3, dtype=torch.int64), None, None, object())
    assert not model.remembers
