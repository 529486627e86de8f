"""Alignment: which written word each phoneme of a spoken sentence belongs to, by edit distance.

espeak-ng runs written words together ("of the") and reads one as several ("1999"). Each written word is
therefore read alone as well, and the sentence is aligned to these readings. Three laws hold: owners never
go back, every word owns a phoneme, and a word with a pause behind it ends where one of espeak's own words
ends.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import inf

__all__ = ["align"]


def align(
    spoken: Sequence[Sequence[str]], alone: Sequence[Sequence[Sequence[str]]], paused: Sequence[bool]
) -> list[list[int]] | None:
    """Return the written word of every symbol.

    ``spoken`` holds espeak's words of the sentence, ``alone`` the reading of each written word, ``paused``
    whether a pause follows it. None where the laws cannot hold: there are fewer phonemes than words.
    """
    if not spoken:
        return None
    if len(alone) == 1:
        return [[0] * len(word) for word in spoken]
    parts = [[_plain(s) for word in words for s in word] for words in alone]
    if len(spoken) == len(alone) and all(
        word and part and (_plain(word[0]) == part[0] or _plain(word[-1]) == part[-1])
        for word, part in zip(spoken, parts, strict=True)
    ):
        return [[index] * len(word) for index, word in enumerate(spoken)]
    heard = [_plain(s) for word in spoken for s in word]
    ends, total = {0}, 0
    for word in spoken:
        total += len(word)
        ends.add(total)
    # a word without a reading of its own takes part as a symbol that matches nothing
    read = [(s, index) for index, part in enumerate(parts) for s in part or [""]]
    walls = {j for j, (before, after) in enumerate(pairwise(read), 1) if before[1] != after[1] and paused[before[1]]}
    owners = _edit(heard, read, ends, walls)
    if owners is None or len(set(owners)) < len(alone):
        owners = _edit_all(heard, read, ends, walls)
    if owners is None:
        return None
    flat = iter(owners)
    return [[next(flat) for _ in word] for word in spoken]


def _plain(symbol: str) -> str:
    return symbol.lstrip("ˌˈ")


def _change(symbol: str, other: str) -> float:
    # letters in common make a substitution cheap: əl for oʊl, but not ɐ for eɪ
    return 0.0 if symbol == other else 0.7 if set(symbol) & set(other) else 1.1


def _edit(heard: list[str], read: list[tuple[str, int]], ends: set[int], walls: set[int]) -> list[int] | None:
    """Edit distance; reading symbol j in ``walls`` may only be passed where i is in ``ends``."""
    row = [float(j) for j in range(len(read) + 1)]
    table = [row]
    for i, symbol in enumerate(heard, 1):
        previous, row = row, [float(i)]
        for j, (other, _) in enumerate(read, 1):
            match = previous[j - 1] + _change(symbol, other)
            skip = row[j - 1] + 1.0
            if j - 1 in walls:
                match = match if i - 1 in ends else inf
                skip = skip if i in ends else inf
            row.append(min(match, previous[j] + 1.0, skip))
        table.append(row)
    if table[-1][-1] == inf:
        return None
    owner, i, j = [0] * len(heard), len(heard), len(read)
    while i:
        if j:
            wall = j - 1 in walls
            change = _change(heard[i - 1], read[j - 1][0])
            if table[i][j] == table[i - 1][j - 1] + change and not (wall and i - 1 not in ends):
                i, j = i - 1, j - 1
                owner[i] = read[j][1]
                continue
            if table[i][j] == table[i][j - 1] + 1.0 and not (wall and i not in ends):
                j -= 1
                continue
        i -= 1
        owner[i] = read[max(j - 1, 0)][1]
    return owner


def _edit_all(heard: list[str], read: list[tuple[str, int]], ends: set[int], walls: set[int]) -> list[int] | None:
    """As ``_edit``, and every written word owns a symbol.

    A state is (i heard, j read, whether the word of read symbol j − 1 owns a symbol); a new word is only begun
    where the word before owns one.
    """
    columns = len(read)
    first = [j == 0 or read[j][1] != read[j - 1][1] for j in range(columns)]
    # cost and the step that led here: (i, j, owns) before, and the owner that it gave
    best: list[list[list[float]]] = [[[inf, inf] for _ in range(columns + 1)] for _ in range(len(heard) + 1)]
    came: dict[tuple[int, int, int], tuple[int, int, int, int]] = {}
    best[0][0][1] = 0.0

    def relax(cost: float, to: tuple[int, int, int], source: tuple[int, int, int], owner: int) -> None:
        i, j, owns = to
        if cost < best[i][j][owns]:
            best[i][j][owns] = cost
            came[to] = (*source, owner)

    for i in range(len(heard) + 1):
        for j in range(columns + 1):
            for owns in (0, 1):
                cost = best[i][j][owns]
                if cost == inf:
                    continue
                here = (i, j, owns)
                if j < columns:
                    begins = first[j]
                    allowed = not begins or (owns and (j not in walls or i in ends))
                    if allowed:
                        if i < len(heard):
                            relax(cost + _change(heard[i], read[j][0]), (i + 1, j + 1, 1), here, read[j][1])
                        relax(cost + 1.0, (i, j + 1, 0 if begins else owns), here, -1)
                if i < len(heard) and j:
                    relax(cost + 1.0, (i + 1, j, 1), here, read[j - 1][1])
    state = (len(heard), columns, 1)
    if best[state[0]][state[1]][1] == inf:
        return None
    owner = [0] * len(heard)
    while state in came:
        i, j, owns, given = came[state]
        if given >= 0:
            owner[i] = given
        state = (i, j, owns)
    return owner
