"""Data from prompts and answers: the prompt is given and stays as it is, the answer is learnt.

As LLaDA is fine-tuned (Nie et al. 2025, *Large Language Diffusion Models*, §2.3 and appendix B): only the answer is
masked, and the end tokens after it count as answer, which is how a model learns where to stop on a canvas that is
longer than what it has to say. There each answer is filled up to the longest of its batch. Here it is filled up to a
length that is drawn for it alone: what an item is must not depend on which others share its batch or its process.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal

from unisono.data import Audit, Dropped
from unisono.errors import DataError, did_you_mean

from unisono_text.corpus.data import MADE
from unisono_text.corpus.documents import ROW_SUFFIXES, Document, Roots, Source, judged, read_rows
from unisono_text.corpus.files import FLAT, CorpusOptions, StoredData, facts_of

PAIR = ("prompt", "answer")
FORM = {"before": "User: ", "between": "\nAssistant: ", "after": "\n"}
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, kw_only=True)
class RowNames:
    """What rows of JSON or tables call a prompt, its answer, and a list of messages."""

    prompt: str = "prompt"
    answer: str = "answer"
    messages: str = "messages"


@dataclass(frozen=True, kw_only=True)
class ChatForm:
    """What is put before what a user says, between that and the answer, and after the answer where more follows.

    Null is as the export says that lends its tokenizer, else ``User: `` and ``Assistant: `` on lines of their own. A
    request with ``chat=True`` has its prompt written in this way.
    """

    before: str | None = None
    between: str | None = None
    after: str | None = None


class ChatData(StoredData):
    """JSON lines or parquet tables with ``prompt`` and ``answer``, or with ``messages``: a list of
    ``{"role": "system" | "user" | "assistant", "content": …}``.

    Of a conversation each answer is an item, all that was said before it its prompt. (LLaDA draws one of them an
    epoch.) Pairs that are longer than the context are dropped with their lengths, not cut.

    Args:
        root, corpus: as of every corpus of texts on disk: see ``StoredData``; texts of one prompt are held out
            together.
        rows: what the rows call prompt, answer and messages.
        form: what stands around what a user says.
        fill: end tokens after an answer: up to a length drawn for each item between its own and the context
            (``draw``), always up to the context (``context``), or just one (``one``).
        context: most tokens of a prompt with its answer.
        batch_size, num_workers: as of every data set.
    """

    flat: ClassVar[dict[str, str]] = (
        FLAT
        | {field.name: f"rows.{field.name}" for field in fields(RowNames)}
        | {field.name: f"form.{field.name}" for field in fields(ChatForm)}
    )

    def __init__(
        self,
        root: Roots,
        *,
        rows: RowNames = RowNames(),
        form: ChatForm = ChatForm(),
        fill: Literal["draw", "context", "one"] = "draw",
        corpus: CorpusOptions = CorpusOptions(),  # noqa: B008
        context: int = 256,
        batch_size: int = 32,
        num_workers: int = 0,
    ):
        super().__init__(root, corpus=corpus, context=context, batch_size=batch_size, num_workers=num_workers)
        self.names = asdict(rows)
        lent = FORM if corpus.tokenizer in MADE else facts_of(corpus.tokenizer).get("chat", FORM)
        self.form = {name: lent[name] if text is None else text for name, text in asdict(form).items()}
        self.fill = fill

    def prepare(self, progress: bool = True) -> Audit:
        store = self.stored(ROW_SUFFIXES, self._read, "documents", self.context, names=self.names, form=self.form)
        return self.filled(store, fill=None if self.fill == "one" else self.fill, chat=self.form)

    def _read(self, source: Source) -> Iterator[Document | Dropped]:
        for name, row in read_rows(source, list(self.names.values())):
            if isinstance(row, Dropped):
                yield row
                continue
            try:
                turns = self._turns(row)
            except DataError as error:
                yield Dropped(name, "not a conversation", str(error))
                continue
            said: list[tuple[str, bool]] = []
            key = next(text for role, text in turns if role == "user")
            number = 0
            for role, text in turns:
                if role == "user":
                    said += [(self.form["before"], True), (text, False), (self.form["between"], True)]
                    continue
                if role == "assistant":
                    number += 1
                    own = name if number == 1 else f"{name} answer {number}"
                    yield from judged(Document(own, text, tuple(said), source.group, key))
                said += [(text, False), (self.form["after"], True)]

    def _turns(self, row: dict[str, Any]) -> list[tuple[str, str]]:
        """Return who says what; raises ``DataError`` where a row is no conversation that ends in an answer."""
        pair = [row.get(self.names[role]) for role in PAIR]
        said = row.get(self.names["messages"])
        if said is None:
            for role, text in zip(PAIR, pair, strict=True):
                if not isinstance(text, str):
                    name = self.names[role]
                    near = did_you_mean(name, row) if name not in row else ""
                    raise DataError(
                        f"no {'text in' if name in row else 'field'} {name!r}{near}", code="missing", path=name
                    )
            return [("user", str(pair[0])), ("assistant", str(pair[1]))]
        if not isinstance(said, list) or not said:
            raise DataError(
                f"{self.names['messages']!r} is no list of messages",
                code="type",
                path=self.names["messages"],
                value=said,
            )
        turns: list[tuple[str, str]] = []
        for message in said:
            role, text = (message.get(key) if isinstance(message, dict) else None for key in ("role", "content"))
            if role not in ROLES or not isinstance(text, str):
                raise DataError(
                    f"a message is {str(message)[:60]}, not a role ({', '.join(ROLES)}) and its content",
                    code="type",
                    path=self.names["messages"],
                    value=message,
                )
            turns.append((role, text))
        talk = [role for role, _ in turns if role != "system"]
        wanted = ["user", "assistant"] * (len(talk) // 2)
        if not talk or talk != wanted:
            raise DataError(
                f"its turns are {', '.join(talk) or 'none'}, not user and assistant in turn",
                code="value",
                path=self.names["messages"],
                value=talk,
            )
        return turns
