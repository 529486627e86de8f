"""Tags: the marks that open branches and close them, and the cutting of a text into tags and characters.

The structure is that of Multiverse (Yang et al., arXiv:2506.09991): a block maps a task to outlines, processes each
in a path of its own, and reduces the paths to a conclusion::

    <Parallel>
        <Goal> <Outline>a</Outline> <Outline>b</Outline> </Goal>       map
        <Path>a: …</Path>  <Path>b: …</Path>                           process, side by side
        <Conclusion> … </Conclusion>                                   reduce
    </Parallel>

A path begins with the text of its outline and a colon, so that paths, which begin at one place with the same view, are
told apart. Difference: the published texts number their paths; here an outline may read anything short.
"""

import re
from typing import Final

from unisono.errors import RequestError, did_you_mean

END: Final = "<End>"
PARALLEL, END_PARALLEL = "<Parallel>", "</Parallel>"
GOAL, END_GOAL = "<Goal>", "</Goal>"
OUTLINE, END_OUTLINE = "<Outline>", "</Outline>"
PATH, END_PATH = "<Path>", "</Path>"
CONCLUSION, END_CONCLUSION = "<Conclusion>", "</Conclusion>"
COLON: Final = ":"

TAGS: Final = (
    *(END, PARALLEL, END_PARALLEL, GOAL, END_GOAL, OUTLINE, END_OUTLINE),
    *(PATH, END_PATH, CONCLUSION, END_CONCLUSION),
)
"""Each is one token, numbered as here; characters come behind them."""

MAX_NESTING: Final = 4
"""Blocks within blocks that are read or made at most."""
MAX_BRANCHES: Final = 64
"""Paths of one block at most."""
MAX_OUTLINE: Final = 16
"""Characters of an outline at most."""

_PIECE = re.compile(r"</?[A-Za-z]+>|.", re.DOTALL)


def pieces_of(text: str) -> list[str]:
    """Cut a text into tags and characters.

    Raises ``RequestError`` for what looks like a tag and is none, and for the end mark, which no text holds.
    """
    pieces = _PIECE.findall(text)
    for piece in pieces:
        if len(piece) > 1 and (piece not in TAGS or piece == END):
            raise RequestError(
                f"{piece:.40} is no tag{did_you_mean(piece, TAGS[1:])}", code="unknown", path="text", value=piece
            )
    return pieces
