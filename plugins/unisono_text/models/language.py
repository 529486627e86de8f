"""LanguageModel: what every text model shares: a tokenizer from the data's facts, a network, a bound on surprise.

::

    facts ─ tokenizer, vocabulary V, context
    batch ─ tokens, lengths, prompt ─ what is learnt: neither padding nor given

The mask is no token of the tokenizer. Networks read V + 1 rows of the embedding, of which the last, ``mask_id``,
stands for what is masked, and say V logits: a mask can never be predicted, and a text that reads "[MASK]" is text.

Shapes: b batch, t tokens, v vocabulary. Masks: True = keep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from unisono import Model, Text
from unisono.data import derive_seed
from unisono.errors import CheckpointError, RequestError
from unisono.graphs import Graphs

from unisono_text.corpus.facts import TextFacts
from unisono_text.corpus.tokenizer import Tokenizer
from unisono_text.filling.request import TextRequest
from unisono_text.models.sizes import FLAT, TransformerSizes
from unisono_text.models.transformer import Keep, TextTransformer

SCORED_TOGETHER = 16
"""Texts that `LanguageModel.score` reads in one batch."""


class LanguageModel(Model):
    """The base of the text models, which give it a network and what it costs to say a text.

    Args:
        network: sizes of the transformer.

    Attributes:
        attention: of the network: bidirectional, causal or block:N.
        exact: whether ``bound`` is the negative log-likelihood itself, and not a sample of a bound on it.
        remembers: whether ``predict`` takes a cache.
        evaluations: of the network so far, each of a whole batch; guides and drafts count.
        rounds: of evaluations so far; those of one round need not wait for one another.
        token_forwards: token positions computed so far, over all rows.
        watchers: what is told of texts while they are made; see `unisono_text.filling.generate.watched`.
    """

    Media: ClassVar[type[Text]] = Text
    requests_at_once: ClassVar[int] = 8  # text/ar: 6.3 × the speed of one at a time; text/mdlm: 1.5 ×
    Facts: ClassVar[type[TextFacts]] = TextFacts
    facts: TextFacts
    Request: ClassVar[Any] = TextRequest
    pipeline_tag: ClassVar[str] = "text-generation"
    salt: ClassVar[str] = "text"
    exact: ClassVar[bool] = False
    flat: ClassVar[dict[str, str]] = FLAT

    def __init__(
        self,
        *,
        network: TransformerSizes = TransformerSizes(),  # noqa: B008
    ):
        super().__init__()
        self.sizes = network
        self.attention = "bidirectional"
        self.remembers = True
        self.evaluations: int = 0
        self.rounds: int = 0
        self.token_forwards: int = 0
        self.watchers: list[Any] = []

    def build(self, facts: Mapping[str, Any]) -> None:
        """Build for the tokenizer and the context of the data."""
        super().build(facts)
        self.tokenizer = Tokenizer.from_facts(self.facts)
        self.vocabulary, self.context = self.facts.vocabulary, self.facts.context
        self.special: dict[str, int | None] = self.facts.special
        self.net: Any = self.make_net()

    def make_net(self) -> nn.Module:
        """Make the network, V + 1 tokens in and V out."""
        return TextTransformer(self.vocabulary + 1, self.vocabulary, self.sizes, self.attention)

    @property
    def mask_id(self) -> int:
        """The row of the embedding that stands for what is masked."""
        return self.vocabulary

    @property
    def last_id(self) -> int:
        """The last id that the network reads."""
        return self.mask_id

    @property
    def start_id(self) -> int:
        """What stands before a text: the tokenizer's ``bos``, or the mask's row where it has none."""
        bos = self.special.get("bos")
        return self.mask_id if bos is None else bos

    @property
    def kv_shape(self) -> tuple[int, int, int]:
        """What a cache of the network is given of each position: layers, heads, channels."""
        layers, _, heads, channels = self.net.kept_shape
        return layers, heads, channels

    @property
    def block_size(self) -> int:
        """Positions that see each other whatever their order: 0 for all of them, 1 for a causal network."""
        return self.net.block_size

    def check_source(self, facts: dict[str, Any]) -> None:
        """Refuse a start from a model of another vocabulary, whose tokens mean something else."""
        mine, its = (f.get("tokenizer", {}).get("digest") for f in (self.facts, facts))
        if mine != its:
            raise CheckpointError(
                f"run.init_from has another tokenizer ({facts.get('vocabulary', 'no')} tokens) than the data "
                f"({self.vocabulary}): prepare the data with the tokenizer of that model, or start from a model of "
                "this one",
                code="conflict",
                path="run.init_from",
                value=facts.get("vocabulary"),
            )

    # ---- batches -------------------------------------------------------------------------------

    def learnt(self, batch: dict[str, Any]) -> Bool[Tensor, "b t"]:
        """Return what of a batch counts: neither padding nor prompt."""
        place = torch.arange(batch["tokens"].shape[1], device=batch["tokens"].device)
        given = batch.get("prompt")
        inside = place < batch["lengths"][:, None]
        return inside if given is None else inside & (place >= given[:, None])

    def attention_mask(
        self, batch: dict[str, Any], positions: Int[Tensor, " t"] | None = None
    ) -> Bool[Tensor, "b t"] | Bool[Tensor, "b t t"] | None:
        """Return the mask for the network: none for full rows, padding, or what keeps ``documents`` apart."""
        tokens, documents = batch["tokens"], batch.get("documents")
        place = torch.arange(tokens.shape[1], device=tokens.device)
        inside = place < batch["lengths"][:, None]
        if documents is None:
            return None if bool(inside.all()) else inside
        visible = self.net.visible(place if positions is None else positions, inside)
        together = documents[:, :, None] == documents[:, None]
        return together if visible is None else visible & together

    def token_losses(
        self, batch: dict[str, Any], seeds: Sequence[int]
    ) -> tuple[dict[str, Float[Tensor, "b t"]], Bool[Tensor, "b t"]]:
        """Return what each token costs, in nats, under its name (``loss`` is the objective), and which count."""
        raise TypeError(f"{type(self).__name__} defines no token_losses()")

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        values, counted = self.token_losses(batch, self.row_seeds(batch))
        parts = {name: self.global_mean(value, counted) for name, value in values.items()}
        return parts | self.bits(parts.get("bound", parts["loss"]))

    def bits(self, nats: Float[Tensor, ""]) -> dict[str, Tensor]:
        """Return what nats of a token are in bits of a character, under that name; nothing where it is not known."""
        per_token = self.facts.characters_per_token
        return {"bits_per_character": nats.detach() / (math.log(2) * per_token)} if per_token else {}

    def units(self, batch: dict[str, Any]) -> dict[str, int]:
        return {"tokens": int(batch["lengths"].sum())}

    def predict(
        self,
        tokens: Int[Tensor, "b t"],
        sees: Bool[Tensor, "b t m"] | Bool[Tensor, "b t"] | None = None,
        positions: Int[Tensor, "b t"] | None = None,
        cache: Keep | None = None,
    ) -> Float[Tensor, "b t v"]:
        """Return logits: of what stands at each position, or of what follows it for a causal network.

        ``tokens`` hold ``mask_id`` where nothing is known. ``sees`` says what each token sees of all keys, those of
        ``cache`` included (`TextTransformer`); without, the network's own attention holds.
        """
        return self.net(tokens, sees, positions, cache)

    def graph_modules(self) -> Graphs:
        """Return the graph ``step``, tokens to logits; see ``graphs``."""
        from unisono_text.models.graphs import step_graphs

        return step_graphs(self)

    # ---- likelihood ----------------------------------------------------------------------------

    def bound(self, batch: dict[str, Any], num_samples: int = 1, seed: int = 0) -> Float[Tensor, " b"]:
        """Return what each row's learnt tokens cost together, in nats, as float64.

        The negative log-likelihood where the model is ``exact``; else the mean of ``num_samples`` unbiased samples
        of a bound on it, drawn by each item's ``row`` and ``seed``.
        """
        raise TypeError(f"{type(self).__name__} defines no bound()")

    @torch.no_grad()
    def score(
        self, texts: Sequence[str], prompts: Sequence[str] | None = None, num_samples: int = 8, seed: int = 0
    ) -> Float[Tensor, " n"]:
        """Return the nats of each text, after its prompt where there are prompts; see `bound`.

        A text costs the same in any company. Raises ``RequestError`` where prompt and text are longer than the
        context that the model was trained on, and for other than one prompt per text.
        """
        prompts = [""] * len(texts) if prompts is None else prompts
        if len(prompts) != len(texts):
            raise RequestError(
                f"{len(prompts)} prompts for {len(texts)} texts: give one per text",
                code="shape",
                path="prompts",
                value=len(prompts),
            )
        given = [self.tokenizer.encode(prompt) for prompt in prompts]
        rows = [[*first, *self.tokenizer.encode(text)] for first, text in zip(given, texts, strict=True)]
        if longest := max((len(row) for row in rows), default=0):
            if longest > self.context:
                raise RequestError(
                    f"a text of {longest} tokens: this model reads {self.context} at once, score it in pieces",
                    code="limit",
                    path="texts",
                    value=longest,
                )
        nats = torch.zeros(len(rows), dtype=torch.float64)
        # Of similar lengths together; each is drawn by what it says, so that its company does not matter.
        order = sorted((i for i, row in enumerate(rows) if len(row) > len(given[i])), key=lambda i: len(rows[i]))
        for begin in range(0, len(order), SCORED_TOGETHER):
            members = order[begin : begin + SCORED_TOGETHER]
            batch = {
                "tokens": nn.utils.rnn.pad_sequence([torch.tensor(rows[i]) for i in members], batch_first=True),
                "lengths": torch.tensor([len(rows[i]) for i in members]),
                "prompt": torch.tensor([len(given[i]) for i in members]),
                "row": torch.tensor([derive_seed(*rows[i]) for i in members]),
            }
            batch = {key: value.to(self.device) for key, value in batch.items()}
            nats[members] = self.bound(batch, num_samples, seed).cpu()
        return nats

    # ---- synthesis -----------------------------------------------------------------------------

    def preview_requests(self) -> list[Any]:
        prompts = self.facts.sample_texts[:2]
        return [self.Request(text=prompt, seed=i) for i, prompt in enumerate([*prompts, ""])]
