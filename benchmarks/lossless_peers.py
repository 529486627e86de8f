"""Peers for benchmarks/lossless.py: the same weights as a Llama of ``transformers``, and its own ways of decoding.

`text/ar` is Llama's network without a difference but its extra embedding row, so that its weights become one; the two
are compared before anything is measured. All of it decodes one text at a time, as assisted generation does.
"""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def as_llama(model: Any) -> Any:
    """Return a text/ar's weights as a ``LlamaForCausalLM``; raises SystemExit where its logits are others."""
    import transformers

    net, vocabulary = model.net, model.vocabulary
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=net.dim,
        intermediate_size=net.layers[0].feed_out.in_features,
        num_hidden_layers=net.num_layers,
        num_attention_heads=net.num_heads,
        num_key_value_heads=net.num_heads,
        max_position_embeddings=model.context + 1,
        rms_norm_eps=torch.finfo(torch.float32).eps,
        rope_parameters={"rope_type": "default", "rope_theta": net.rope_base},
        bos_token_id=model.start_id,
        eos_token_id=model.special["eos"],
        pad_token_id=0,
    )
    llama: Any = transformers.LlamaForCausalLM(config)
    llama.model.embed_tokens = nn.Embedding(net.vocabulary_in, net.dim)
    with torch.no_grad():
        llama.model.embed_tokens.weight.copy_(net.embedding.weight)
        llama.model.norm.weight.copy_(net.norm.weight)
        llama.lm_head.weight.copy_(net.head.weight)
        for mine, its in zip(net.layers, llama.model.layers, strict=True):
            q, k, v = mine.qkv.weight.chunk(3)
            for name, weight in (("q_proj", q), ("k_proj", k), ("v_proj", v), ("o_proj", mine.attention_out.weight)):
                getattr(its.self_attn, name).weight.copy_(weight)
            gate, up = mine.feed_in.weight.chunk(2)
            for name, weight in (("gate_proj", gate), ("up_proj", up), ("down_proj", mine.feed_out.weight)):
                getattr(its.mlp, name).weight.copy_(weight)
            its.input_layernorm.weight.copy_(mine.attention_norm.weight)
            its.post_attention_layernorm.weight.copy_(mine.feed_norm.weight)
        llama.eval()
        llama.to(model.device)
        tokens = torch.arange(min(vocabulary, 32), device=model.device)[None]
        off = float((llama(input_ids=tokens).logits - model.net(tokens)).abs().amax())
    if off > 1e-3:
        raise SystemExit(f"the weights as a Llama of transformers give other logits, by {off:.2g}")
    return llama


class Counted:
    """Counts a network's evaluations and positions, those with fewer layers (early exit) apart."""

    def __init__(self, model: Any):
        self.whole = model.config.num_hidden_layers
        self.model = model
        model.register_forward_pre_hook(self._see, with_kwargs=True)
        self.reset()

    def reset(self) -> None:
        self.full = self.full_positions = self.part = self.part_positions = 0

    def _see(self, module: Any, args: Any, given: dict[str, Any]) -> None:
        tokens: Tensor = given["input_ids"] if "input_ids" in given else args[0]
        if self.model.config.num_hidden_layers == self.whole:
            self.full, self.full_positions = self.full + 1, self.full_positions + tokens.numel()
        else:
            self.part, self.part_positions = self.part + 1, self.part_positions + tokens.numel()


class Foreign:
    """A causal model of ``transformers`` with its tokenizer, as far as the benchmark asks a text/ar."""

    def __init__(self, folder: str, draft: str | None, device: str):
        import transformers

        def network(name: str) -> Any:
            made: Any = transformers.AutoModelForCausalLM.from_pretrained(name)
            return made.eval().to(device)

        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model, self.draft = network(folder), None if draft is None else network(draft)
        self.context = int(getattr(self.model.config, "max_position_embeddings", 2048))
        self.end = self.model.config.eos_token_id

    @torch.no_grad()
    def score(self, texts: list[str], prompts: list[str]) -> Tensor:
        """Return the nats of each text after its prompt."""
        found = []
        for text, prompt in zip(texts, prompts, strict=True):
            given, ids = self.tokenizer.encode(prompt), self.tokenizer.encode(prompt + text)
            tokens = torch.tensor([ids], device=self.model.device)
            law = self.model(input_ids=tokens).logits[0].double().log_softmax(-1)
            each = law[:-1].gather(1, tokens[0, 1:, None])[:, 0]
            found.append(-each[len(given) - 1 :].sum())
        return torch.stack(found)


Run = Callable[[list[int]], tuple[list[int], tuple[int, int, int, int]]]


def peers(model: Any, draft: Any | None, length: int, temperature: float, top_p: float | None) -> dict[str, Run]:
    """Return ways to continue a prompt's ids with a text/ar's weights as a Llama; see `ways`."""
    small = None if draft is None else as_llama(draft)
    methods = ["plain", "ngram", *(["coupled"] if small is not None else [])]
    found = ways(as_llama(model), small, methods, length, model.context + 1, model.special["eos"], temperature, top_p)
    return {name if name.startswith("transformers") else f"{name}, on that network": run for name, run in found.items()}


def ways(
    target: Any,
    small: Any | None,
    methods: list[str],
    length: int,
    context: int,
    end: int | None,
    temperature: float,
    top_p: float | None,
) -> dict[str, Run]:
    """Return ways to continue a prompt's ids: tokens, and evaluations and positions of target and draft.

    First this library's methods on a network of transformers, then ``generate`` of transformers and its own methods.
    """
    import transformers
    from unisono_text.lossless import CATALOGUE, TransformersNetwork, generate

    transformers.utils.logging.set_verbosity_error()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    networks = TransformersNetwork(target), None if small is None else TransformersNetwork(small)
    counts, small_counts = Counted(target), None if small is None else Counted(small)
    drawn: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        drawn = {"do_sample": True, "temperature": temperature, "top_p": top_p or 1.0, "top_k": 0}

    def theirs(**given: Any) -> Any:
        def run(prompt: list[int]) -> Any:
            counts.reset()
            if small_counts is not None:
                small_counts.reset()
            ids = torch.tensor([prompt], device=target.device)
            room = min(length, context - len(prompt))
            torch.manual_seed(1)
            with torch.inference_mode(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                out = target.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=room, **drawn, **given)
            own = (counts.part, counts.part_positions)
            if small_counts is not None and "assistant_model" in given:
                own = (small_counts.full, small_counts.full_positions)
            return out[0, len(prompt) :].tolist(), (counts.full, counts.full_positions, *own)

        return run

    def ours(decoding: str) -> Any:
        def run(prompt: list[int]) -> Any:
            room = min(length, context - len(prompt))
            drafted: dict[str, Any] = {"draft": networks[1]} if CATALOGUE[decoding].role == "draft" else {}
            out = generate(
                networks[0], [prompt], decoding,
                max_new_tokens=room, temperature=temperature, top_p=top_p, seed=1, end=end, **drafted,
            )  # fmt: skip
            made = out.tokens[0, len(prompt) : int(out.length[0])].tolist()
            return made, (out.nfe, out.positions, out.draft_nfe, out.draft_positions)

        return run

    found: dict[str, Run] = {decoding: ours(decoding) for decoding in methods}
    found |= {
        "transformers: generate": theirs(),
        "transformers: prompt look-up": theirs(prompt_lookup_num_tokens=8),
        "transformers: early exit": theirs(assistant_early_exit=max(1, counts.whole // 2)),
    }
    if small is not None:
        found["transformers: assisted"] = theirs(assistant_model=small)
    return found
