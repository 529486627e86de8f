"""Published models: LLaDA, Dream, Fast-dLLM v2, Llama and Qwen2 from folders in Hugging Face's layout.

::

    folder/
        config.json                          sizes, by each family's names
        model.safetensors                    or several, with model.safetensors.index.json
        tokenizer.json                       read by the library tokenizers
        tokenizer_config.json                not needed
        *.py                                 never looked at

``from_transformers`` returns the model; ``unisono.load`` calls it for a folder or a hub id, and
``unisono.export.save_export`` makes an export of it. No code but this is run and no pickle opened. Weights stay in
the type in which they lie on disk.

What is not read: other kinds of blocks than Llama's, scaled rotary angles, sliding windows, heads of another width
than the model's divided by their number; each is refused by name.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from unisono.arguments import build, check_arguments
from unisono.errors import CheckpointError, DataError

from unisono_text.corpus.tokenizer import Tokenizer
from unisono_text.models.large import Dream, FastDLLM, LargeSizes, LLaDA
from unisono_text.models.llama import Llama

MASKS: dict[str, str] = {"llada": "<|mdm_mask|>", "Dream": "<|mask|>", "Fast_dLLM_Qwen": "|<MASK>|"}
CHATS = {
    "llada": {
        "before": "<|startoftext|><|start_header_id|>user<|end_header_id|>\n\n",
        "between": "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "after": "<|eot_id|>",
    },
    "Dream": {
        "before": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
        "between": "<|im_end|>\n<|im_start|>assistant\n",
        "after": "<|im_end|>",
    },
    "Fast_dLLM_Qwen": {
        "before": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
        "between": "<|im_end|>\n<|im_start|>assistant\n",
        "after": "<|im_end|>",
    },
}
CHATS["qwen2"] = CHATS["Dream"]
"""What stands around a question, as the instruction-tuned models were trained with: for ``chat`` in a request."""


def from_transformers(folder: str | Path) -> Any:
    """Return the model of a folder; raises ``CheckpointError`` for what is missing, not built here, or does not fit."""
    folder = Path(folder)
    config = _read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in _KINDS:
        known = ", ".join(_KINDS)
        raise CheckpointError(
            f"{str(folder)!r} is a model of type {kind!r}: from_transformers reads {known}",
            code="unsupported",
            path=folder / "config.json",
            value=kind,
        )
    name, target, read, names = _KINDS[kind]
    state = _read_weights(folder)
    kinds = {value.dtype for value in state.values() if value.is_floating_point()}
    if len(kinds) != 1 or (weights := str(next(iter(kinds))).removeprefix("torch.")) not in _TYPES:
        raise CheckpointError(
            f"{str(folder)!r} has weights of {sorted(map(str, kinds))}: one of {', '.join(_TYPES)}",
            code="unsupported",
            path=folder,
            value=sorted(map(str, kinds)),
        )
    try:
        sizes = {**read(config), "kind": weights}
        tokenizer, mask = _read_tokenizer(folder, config, kind)
        sizes["mask_token"] = mask
        context = int(config.get("max_sequence_length") or config["max_position_embeddings"])
    except KeyError as error:
        raise CheckpointError(
            f"{str(folder / 'config.json')!r} lacks {error}: fetch it again",
            code="missing",
            path=folder / "config.json",
            value=str(error.args[0]),
        ) from None
    arguments: dict[str, Any] = {"network": asdict(LargeSizes(**sizes))}
    if target is FastDLLM:
        arguments["block_size"] = int(config.get("bd_size") or 32)
    values = check_arguments(target, arguments, "model", str(folder))
    facts = {**tokenizer.to_facts(), "context": context, "sample_texts": []}
    chat = CHATS.get(kind)
    if chat and len(tokenizer.encode(chat["between"], special=True)) < len(tokenizer.encode(chat["between"])):
        facts["chat"] = chat  # its special tokens are there
    if target is FastDLLM:
        facts["context"] = context // arguments["block_size"] * arguments["block_size"]
    try:
        with torch.device("meta"):  # nothing is allocated or drawn that would be replaced
            model = build(target, values, "model", str(folder))
            model.build(facts)
    except DataError as error:
        raise CheckpointError(f"{str(folder)!r}: {error}", code=error.code, path=folder, value=error.value) from error
    model.recipe = {"model": {"name": name, **values}, "seed": 0}
    own = model.state_dict()
    weights_of = {f"net.{names(key)}": value for key, value in state.items() if not key.endswith(_LEFT_OUT)}
    if sizes["tied"]:
        weights_of.pop("net.own_head.weight", None)
    wrong = sorted(weights_of.keys() ^ own.keys()) or [k for k in own if own[k].shape != weights_of[k].shape]
    if wrong:
        raise CheckpointError(
            f"{str(folder)!r}: {len(wrong)} weights do not fit its config (first: {wrong[0]!r}): fetch both again",
            code="shape",
            path=folder,
            value=wrong,
        )
    model.load_state_dict(weights_of, assign=True)
    return model.eval()


_TYPES = ("float32", "bfloat16", "float16")
_LEFT_OUT = ("rotary_emb.inv_freq",)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{str(path.parent)!r} has no {path.name}: fetch it again", code="missing", path=path
        ) from None
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(
            f"{str(path)!r} cannot be read ({error}): fetch it again", code="damaged", path=path
        ) from None
    if not isinstance(made, dict):
        raise CheckpointError(f"{str(path)!r} holds no object: fetch it again", code="format", path=path)
    return made


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """All weights, of one file or of several that an index names."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    index = folder / "model.safetensors.index.json"
    files = ["model.safetensors"]
    named: dict[str, str] = {}
    if index.is_file():
        named = _read_json(index).get("weight_map") or {}
        given = list(named.values()) if isinstance(named, dict) else []
        files = sorted({name for name in given if isinstance(name, str)})
        if (
            not files
            or not all(isinstance(name, str) for name in given)
            or any(Path(name).name != name or not name.endswith(".safetensors") for name in files)
        ):
            raise CheckpointError(
                f"{str(index)!r} names no safetensors beside it: fetch it again", code="damaged", path=index
            )
    state: dict[str, Tensor] = {}
    for name in files:
        try:
            state |= load_file(folder / name)
        except FileNotFoundError:
            pickles = sorted(path.name for path in folder.glob("*.bin"))
            hint = f"; {pickles[0]} is a pickle, which is not opened" if pickles else ""
            raise CheckpointError(
                f"{str(folder)!r} has no {name}: fetch it again{hint}", code="missing", path=folder / name
            ) from None
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(
                f"{str(folder / name)!r} cannot be read ({error}): fetch it again", code="damaged", path=folder / name
            ) from None
    if missing := sorted(named.keys() - state.keys()):
        raise CheckpointError(
            f"{str(folder)!r} lacks {len(missing)} weights of its index (first: {missing[0]!r})",
            code="missing",
            path=folder,
            value=missing,
        )
    return state


def _read_tokenizer(folder: Path, config: dict[str, Any], kind: str) -> tuple[Tokenizer, int | None]:
    """The tokenizer, its special tokens by the config's ids, and the mask's id, None where the kind has none."""
    path = folder / "tokenizer.json"
    try:
        table = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{str(path)!r} cannot be read ({error}): fetch it again", code="damaged", path=path
        ) from None
    except OSError:
        raise CheckpointError(
            f"{str(folder)!r} has no {path.name}, which says what its tokens read", code="missing", path=path
        ) from None
    try:
        Tokenizer.from_json(table)
        from tokenizers import Tokenizer as Bare

        bare = Bare.from_str(table)
        special = {role: _named(bare, config.get(f"{role}_token_id")) for role in ("pad", "bos", "eos")}
        tokenizer = Tokenizer.from_json(table, **special)
    except DataError as error:
        raise CheckpointError(f"{str(path)!r}: {error}", code=error.code, path=path, value=error.value) from None
    if kind not in MASKS:
        if special["bos"] is None:
            raise CheckpointError(
                f"{str(folder)!r}: config.json has no bos_token_id, which stands before a text: add the id of a token",
                code="missing",
                path="bos_token_id",
            )
        return tokenizer, None
    mask = config.get("mask_token_id")
    if mask is None:
        mask = bare.token_to_id(MASKS[kind])
    if mask is None:
        raise CheckpointError(
            f"{str(folder)!r}: config.json has no mask_token_id, and the tokenizer no token {MASKS[kind]!r}",
            code="missing",
            path="mask_token_id",
        )
    return tokenizer, int(mask)


def _named(bare: Any, number: Any) -> str | None:
    """The token of an id, of a list of ids the first one's."""
    first = number[0] if isinstance(number, list) and number else number
    return None if first is None or isinstance(first, list) else bare.id_to_token(int(first))


def _only(config: dict[str, Any], wanted: dict[str, tuple[Any, ...]]) -> None:
    for key, values in wanted.items():
        if config.get(key, values[0]) not in values:
            raise CheckpointError(
                f"a model with {key}={config[key]!r} is not built here, only {values[0]!r}",
                code="unsupported",
                path=key,
                value=config[key],
            )


def _llada_sizes(config: dict[str, Any]) -> dict[str, Any]:
    _only(
        config,
        {
            "block_type": ("llama",),
            "layer_norm_type": ("rms",),
            "activation_type": ("silu",),
            "rope": (True,),
            "alibi": (False,),
            "include_bias": (False,),
            "attention_layer_norm": (False,),
            "scale_logits": (False,),
            "input_emb_norm": (False,),
            "multi_query_attention": (None, False),
            "clip_qkv": (None,),
        },
    )
    return {
        "dim": config["d_model"],
        "num_layers": config["n_layers"],
        "num_heads": config["n_heads"],
        "kv_heads": config.get("n_kv_heads") or config["n_heads"],
        "filter_dim": config.get("mlp_hidden_size") or config["mlp_ratio"] * config["d_model"],
        "rows": config.get("embedding_size") or config["vocab_size"],
        "rope_base": float(config.get("rope_theta", 10000.0)),
        "norm_eps": float(config.get("rms_norm_eps", 1e-5)),
        "biased": bool(config.get("include_qkv_bias", False)),
        "tied": bool(config.get("weight_tying", False)),
    }


def _qwen_sizes(config: dict[str, Any]) -> dict[str, Any]:
    _only(config, {"hidden_act": ("silu",), "use_sliding_window": (False, None)})
    # transformers 5 keeps the base among the parameters of the scaling
    angles = {**(config.get("rope_parameters") or {}), **(config.get("rope_scaling") or {})}
    if angles.get("rope_type", angles.get("type", "default")) != "default":
        raise CheckpointError(
            f"a model with scaled rotary angles ({angles}) is not built here",
            code="unsupported",
            path="rope_scaling",
            value=angles,
        )
    width = config["hidden_size"] // config["num_attention_heads"]
    if config.get("head_dim") not in (None, width):
        raise CheckpointError(
            f"a model with heads of {config['head_dim']} is not built here, only of {width}: hidden_size over "
            "num_attention_heads",
            code="unsupported",
            path="head_dim",
            value=config["head_dim"],
        )
    return {
        "dim": config["hidden_size"],
        "num_layers": config["num_hidden_layers"],
        "num_heads": config["num_attention_heads"],
        "kv_heads": config.get("num_key_value_heads") or config["num_attention_heads"],
        "filter_dim": config["intermediate_size"],
        "rows": config["vocab_size"],
        "rope_base": float(config.get("rope_theta") or angles.get("rope_theta") or 10000.0),
        "norm_eps": float(config.get("rms_norm_eps", 1e-6)),
        "biased": bool(config.get("attention_bias", True)),
        "tied": bool(config.get("tie_word_embeddings", False)),
    }


def _llama_sizes(config: dict[str, Any]) -> dict[str, Any]:
    _only(config, {"attention_bias": (False,), "mlp_bias": (False,), "pretraining_tp": (1, None)})
    return {**_qwen_sizes(config), "biased": False}


def _renaming(outer: dict[str, str], blocks: str, inner: dict[str, str]) -> Callable[[str], str]:
    """Names of a family as names here; what is not known keeps its own, and is reported."""

    def rename(name: str) -> str:
        if name in outer:
            return outer[name]
        if name.startswith(blocks):
            number, _, rest = name.removeprefix(blocks).partition(".")
            part, _, last = rest.rpartition(".")
            return f"layers.{number}.{inner.get(part, part)}.{last}"
        return name

    return rename


_LLADA = _renaming(
    {
        "model.transformer.wte.weight": "embedding.weight",
        "model.transformer.ln_f.weight": "norm.weight",
        "model.transformer.ff_out.weight": "own_head.weight",
    },
    "model.transformer.blocks.",
    {
        "attn_norm": "attention_norm",
        "q_proj": "query",
        "k_proj": "key",
        "v_proj": "value",
        "attn_out": "attention_out",
        "ff_norm": "feed_norm",
        "ff_proj": "gate",
        "up_proj": "up",
        "ff_out": "feed_out",
    },
)
_QWEN = _renaming(
    {
        "model.embed_tokens.weight": "embedding.weight",
        "model.norm.weight": "norm.weight",
        "lm_head.weight": "own_head.weight",
    },
    "model.layers.",
    {
        "input_layernorm": "attention_norm",
        "self_attn.q_proj": "query",
        "self_attn.k_proj": "key",
        "self_attn.v_proj": "value",
        "self_attn.o_proj": "attention_out",
        "post_attention_layernorm": "feed_norm",
        "mlp.gate_proj": "gate",
        "mlp.up_proj": "up",
        "mlp.down_proj": "feed_out",
    },
)
_KINDS: dict[str, tuple[str, Any, Callable[[dict[str, Any]], dict[str, Any]], Callable[[str], str]]] = {
    "llada": ("text/llada", LLaDA, _llada_sizes, _LLADA),
    "Dream": ("text/dream", Dream, _qwen_sizes, _QWEN),
    "Fast_dLLM_Qwen": ("text/fastdllm", FastDLLM, _qwen_sizes, _QWEN),
    "qwen2": ("text/llama", Llama, _qwen_sizes, _QWEN),
    "llama": ("text/llama", Llama, _llama_sizes, _QWEN),
}
