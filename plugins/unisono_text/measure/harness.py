"""Harness: text models in EleutherAI's ``lm-eval``, so that standard tasks run on any export.

::

    from lm_eval import simple_evaluate
    from unisono_text.measure.harness import harness_model

    simple_evaluate(model=harness_model("checkpoints/my-model"), tasks=["lambada_openai"])

What the harness asks, and what it is told:

====================  ==============================================================================
loglikelihood         log p(continuation | context), and whether the continuation is the likeliest
loglikelihood_rolling log p(text)
generate_until        what follows a context, up to the first of some strings
====================  ==============================================================================

Of ``text/ar`` the log-likelihood is exact. Of a diffusion model it is the mean of ``num_samples`` samples of a bound,
never above it in expectation: scores of the two kinds do not compare to the last digit, and the answer that a bound
ranks first may be another. Whether a continuation is "greedy" is, for such a model, whether filling it at temperature 0
from left to right, one token at a time, gives it.

Texts longer than the context are read in pieces of its length, each from its beginning.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from unisono.errors import MissingExtra, RequestError

from unisono_text.filling.request import prompt_of
from unisono_text.models.language import LanguageModel

NUM_SAMPLES = 16
LENGTH = 256


class Answers:
    """What the harness asks, answered by a text model; `harness_model` makes an ``lm_eval`` model of it.

    Args:
        synthesizer: as ``unisono.load`` returns it.
        num_samples: of the bound of a diffusion model.
        length: tokens that ``generate_until`` makes where a task does not say.
        settings: of the requests, such as ``num_steps``.

    Raises:
        RequestError: for a model of another kind than text, or less than one sample.
    """

    def __init__(
        self,
        synthesizer: Any,
        num_samples: int = NUM_SAMPLES,
        length: int = LENGTH,
        settings: dict[str, Any] | None = None,
    ):
        self.model = synthesizer.model
        if not isinstance(self.model, LanguageModel):
            raise RequestError(
                f"{type(self.model).__name__} is no language model: the harness asks for texts",
                code="unsupported",
                path="model",
                value=type(self.model).__name__,
            )
        if num_samples < 1 or length < 1:
            raise RequestError(
                f"num_samples={num_samples} and length={length} must be at least 1",
                code="range",
                path="num_samples" if num_samples < 1 else "length",
                value=min(num_samples, length),
            )
        self.synthesizer, self.num_samples, self.length = synthesizer, num_samples, length
        self.settings = dict(settings or {})

    def loglikelihood(self, requests: Sequence[Any], **given: Any) -> list[tuple[float, bool]]:
        """Return log p(continuation | context) in nats, and whether it is the likeliest, for each (context, text)."""
        pairs = [self._fitted(*request.args) for request in requests]
        nats = self.model.score([text for _, text in pairs], [context for context, _ in pairs], self.num_samples)
        return [(-float(cost), self._greedy(context, text)) for cost, (context, text) in zip(nats, pairs, strict=True)]

    def loglikelihood_rolling(self, requests: Sequence[Any], **given: Any) -> list[float]:
        """Return log p(text) in nats for each (text,)."""
        tokenizer, found = self.model.tokenizer, []
        for request in requests:
            ids = tokenizer.encode(request.args[0])
            pieces = [ids[i : i + self.model.context] for i in range(0, len(ids), self.model.context)]
            found.append(-sum(float(self._nats(piece)) for piece in pieces))
        return found

    def generate_until(self, requests: Sequence[Any], **given: Any) -> list[str]:
        """Return what follows each context, up to the first of the strings in ``until``."""
        made = []
        for request in requests:
            context, asked = request.args
            context = self._shortened(context, int(asked.get("max_gen_toks") or self.length))
            ids, shown = prompt_of(self.model, context, bool(self.settings.get("chat")))
            room = self.model.context - len(ids)
            fields = {**self.settings, "text": context}
            fields["length"] = min(room, int(asked.get("max_gen_toks") or self.length))
            # The harness' own default is greedy.
            sampled = asked.get("do_sample", bool(asked.get("temperature")))
            fields["temperature"] = float(asked.get("temperature") or 1.0) if sampled else 0.0
            answer = self.synthesizer(fields).text.removeprefix(shown)
            until = asked.get("until") or []
            for stop in [until] if isinstance(until, str) else until:
                answer = answer.partition(stop)[0] if stop else answer
            made.append(answer)
        return made

    @torch.inference_mode()
    def _nats(self, ids: list[int]) -> torch.Tensor:
        batch = {
            "tokens": torch.tensor([ids]),
            "lengths": torch.tensor([len(ids)]),
            "prompt": torch.tensor([0]),
            "row": torch.tensor([0]),
        }
        batch = {key: value.to(self.model.device) for key, value in batch.items()}
        return self.model.bound(batch, self.num_samples, 0)[0]

    def _fitted(self, context: str, text: str) -> tuple[str, str]:
        """A context cut from the left, so that both fit."""
        return self._shortened(context, len(self.model.tokenizer.encode(text))), text

    def _shortened(self, context: str, behind: int) -> str:
        tokenizer, room = self.model.tokenizer, self.model.context - behind
        ids = tokenizer.encode(context)
        if len(ids) <= room:
            return context
        if room < 0:
            raise RequestError(
                f"a continuation of {behind} tokens: this model reads {self.model.context} at once",
                code="limit",
                path="continuation",
                value=behind,
            )
        return tokenizer.decode(ids[len(ids) - room :]) if room else ""

    @torch.inference_mode()
    def _greedy(self, context: str, text: str) -> bool:
        """Whether each token of the text is the likeliest after those before it."""
        model, tokenizer = self.model, self.model.tokenizer
        given, wanted = tokenizer.encode(context), tokenizer.encode(text)
        ids = [*given, *wanted]
        if model.attention == "causal":
            read = torch.tensor([[model.start_id, *ids[:-1]]], device=model.device)
            said = model.predict(read)[0, len(given) :].argmax(-1)
            return said.tolist() == wanted
        # One row per token: what is before it is known, it and what follows are not.
        for place in range(len(given), len(ids)):
            row = [*ids[:place], *[model.mask_id] * (len(ids) - place)]
            if int(model.predict(torch.tensor([row], device=model.device))[0, place].argmax()) != ids[place]:
                return False
        return True


def harness_model(
    checkpoint: str | Path | Any,
    num_samples: int = NUM_SAMPLES,
    length: int = LENGTH,
    device: str = "cpu",
    **settings: Any,
) -> Any:
    """Return a model of ``lm_eval`` for an export, a hub id or a synthesizer; see `Answers` for the arguments.

    Raises ``MissingExtra`` where the package ``lm-eval`` is not installed.
    """
    try:
        from lm_eval.api.model import LM  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtra("lm-eval", "lm-eval") from None
    if isinstance(checkpoint, str | Path):
        from unisono import load

        checkpoint = load(checkpoint, device=device)
    answers = Answers(checkpoint, num_samples, length, settings)

    class Unisono(LM):
        loglikelihood = staticmethod(answers.loglikelihood)
        loglikelihood_rolling = staticmethod(answers.loglikelihood_rolling)
        generate_until = staticmethod(answers.generate_until)

    return Unisono()
