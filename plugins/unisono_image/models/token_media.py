"""TokenImage: a picture that knows its tokens, and the request for one: a picture, a file of tokens, or tokens.

A file of tokens is JSON, ``{"tokens": [3, 1, …], "grid": [8, 8], "num_codes": 512}``, row by row.
"""

import builtins
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from jaxtyping import Int
from pydantic import BeforeValidator, Field, InstanceOf, model_validator
from pydantic.json_schema import SkipJsonSchema
from unisono import Image, Request
from unisono.errors import DataError, RequestError
from unisono.files import read_json
from unisono.request import FILE

MOST_TOKENS = 65536
TOKEN_FILE = ".json"


@dataclass(frozen=True, eq=False)
class TokenImage(Image):
    """A picture as it comes out of its tokens [n], numbers in ``[0, num_codes)``, which stand in ``layout``,
    rows and columns."""

    tokens: Int[np.ndarray, " n"]
    layout: tuple[int, int]
    num_codes: int

    suffixes: ClassVar[tuple[str, ...]] = (*Image.suffixes, TOKEN_FILE)

    def about(self) -> dict[str, Any]:
        """Return its size in pixels and its tokens."""
        tokens = {"tokens": self.tokens.tolist(), "grid": list(self.layout), "num_codes": self.num_codes}
        return {**super().about(), **tokens}

    def __repr__(self) -> str:
        rows, columns = self.layout
        return f"TokenImage({self.width} × {self.height}, {rows} × {columns} tokens of {self.num_codes})"

    def _write(self, path: Path) -> None:
        if path.suffix.lower() != TOKEN_FILE:
            return super()._write(path)
        content = {"tokens": self.tokens.tolist(), "grid": list(self.layout), "num_codes": self.num_codes}
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")

    def encoded(self, suffix: str) -> builtins.bytes:
        """Return the content of a file with this suffix."""
        if suffix.lower() != TOKEN_FILE:
            return super().encoded(suffix)
        return super(Image, self).encoded(suffix)


class TokenizerRequest(Request):
    """A picture to send through the tokenizer, or tokens to make a picture of."""

    image: str | SkipJsonSchema[InstanceOf[Image]] | None = Field(
        default=None,
        description="path of a picture, or of a .json file of tokens; default: a made one, half dark and half light",
        json_schema_extra=FILE,
    )
    tokens: Annotated[list[int] | None, BeforeValidator(lambda x: x.tolist() if hasattr(x, "tolist") else x)] = Field(
        default=None, max_length=MOST_TOKENS, description="tokens to make a picture of, row by row"
    )

    @model_validator(mode="after")
    def _one_source(self):
        if self.image is not None and self.tokens is not None:
            raise RequestError(
                "give either image, a path, or tokens, a list of numbers", code="conflict", path="tokens"
            )
        return self


def read_tokens(path: str, grid: tuple[int, int], num_codes: int) -> list[int]:
    """Return the tokens of a file; raises ``RequestError`` where it holds none, or those of another tokenizer."""
    try:
        content = read_json(path)
    except DataError as error:
        raise RequestError(str(error), code=error.code, path="image", value=path) from None
    said = content if isinstance(content, dict) else {}
    tokens = said.get("tokens")
    whole = isinstance(tokens, list) and all(type(token) is int for token in tokens)
    if not whole or not isinstance(tokens, list):
        raise RequestError(
            f"{path}: holds no tokens: a list of whole numbers under 'tokens' is needed",
            code="format",
            path="image",
            value=path,
        )
    for name, own in (("grid", list(grid)), ("num_codes", num_codes)):
        if said.get(name, own) != own:
            raise RequestError(
                f"{path}: {name}={said[name]!r:.40}, this tokenizer has {own}: decode by the tokenizer that wrote it",
                code="conflict",
                path="image",
                value=said[name],
            )
    return tokens
