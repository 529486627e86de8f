"""Grammar: what is read, what is refused, and who sees whom."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refused import refused
from unisono.errors import RequestError
from unisono_branches.corpus.sums import SumSizes, make_problem
from unisono_branches.grammar.read import Reading, read, visible
from unisono_branches.grammar.tags import END, MAX_NESTING, pieces_of

OPEN = "<Parallel><Goal><Outline>a</Outline></Goal><Path>a:"
CLOSE = "</Path><Conclusion></Conclusion></Parallel>"
TWO = "q<Parallel><Goal><Outline>a</Outline><Outline>b</Outline></Goal><Path>a:xy</Path><Path>b:z</Path><Conclusion>c"
TWO += "</Conclusion></Parallel>t"


def of(text: str) -> Reading:
    return read(pieces_of(text))


def seen_of(reading: Reading) -> torch.Tensor:
    return visible(torch.tensor([reading.blocks]), torch.tensor([reading.branches]))[0]


def place(reading: Reading, text: str, number: int = 0) -> int:
    """The place of a piece, by how often it came before."""
    return [at for at, piece in enumerate(reading.pieces) if piece == text][number]


def test_paths_begin_at_one_position_and_the_conclusion_behind_the_longest():
    reading = of(TWO)
    at = [reading.positions[place(reading, "<Path>", number)] for number in (0, 1)]
    assert at[0] == at[1] == reading.positions[place(reading, "</Goal>")] + 1
    ends = [reading.positions[place(reading, "</Path>", number)] for number in (0, 1)]
    assert reading.positions[place(reading, "<Conclusion>")] == max(ends) + 1
    assert reading.depth == max(reading.positions) + 1 == len(reading.pieces) - 5  # a: and z take one path's places


def test_paths_are_blind_to_one_another_and_the_reduce_sees_all():
    reading = of(TWO)
    seen = seen_of(reading)
    x, z, c, q = (place(reading, piece) for piece in ("x", "z", "c", "q"))
    assert not seen[z, x] and seen[c, x] and seen[c, z] and seen[x, q] and seen[z, q] and not seen[x, z]


@st.composite
def texts(draw, depth: int = 0, path: bool = False) -> str:
    """Any text of the grammar."""
    made = draw(st.text("xyz", max_size=2))
    if depth < 2 and draw(st.booleans()):
        outlines = draw(st.lists(st.text("ab", min_size=1, max_size=2), min_size=1, max_size=3))
        paths = "".join(f"<Path>{own}:{draw(texts(depth=depth + 1))}</Path>" for own in outlines)
        goal = "".join(f"<Outline>{own}</Outline>" for own in outlines)
        reduced = draw(texts(depth=depth + 1))
        made += f"<Parallel><Goal>{goal}</Goal>{paths}<Conclusion>{reduced}</Conclusion></Parallel>"
        made += draw(st.text("xyz", max_size=1))
    return made


def blind_pairs(pieces: list[str]) -> set[tuple[int, int]]:
    """Pairs of places in different paths of one block, found by walking the tags: the definition, word by word."""
    pairs, blocks = set(), []
    for at, piece in enumerate(pieces):
        if piece == "<Parallel>":
            blocks.append([])
        elif piece == "<Path>":
            blocks[-1].append([])
        for number, block in enumerate(blocks):
            if block and block[-1] is not None:
                inner_closed = piece == "</Path>" and number == len(blocks) - 1
                block[-1].append(at)
                if inner_closed:
                    block.append(None)
        for block in blocks:
            while len(block) > 1 and block[-1] is not None and block[-2] is None:
                del block[-2]
        if piece == "</Parallel>":
            paths = [path for path in blocks.pop() if path]
            for one, path in enumerate(paths):
                for other in paths[:one]:
                    pairs |= {(i, j) for i in path for j in other}
    return pairs


@settings(max_examples=60, deadline=None)
@given(texts())
def test_the_mask_is_the_definition(text):
    pieces = pieces_of(text)
    if not pieces:
        return
    seen = seen_of(read(pieces))
    blind = blind_pairs(pieces)
    for i in range(len(pieces)):
        for j in range(len(pieces)):
            assert bool(seen[i, j]) == (j <= i and (i, j) not in blind), (text, i, j)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_made_problems_are_read_and_right(seed):
    problem = make_problem(seed, SumSizes())
    reading = read([*pieces_of(problem.prompt + problem.text), END])
    sums = [eval(own.split(":")[1]) for own in problem.prompt[:-1].split(";")]
    assert problem.text.endswith(f":{sum(sums):03}</Conclusion></Parallel>")
    assert reading.num_branches == len(sums)
    free = "".join(piece for piece, own in zip(reading.pieces, reading.free, strict=True) if own)
    assert "<Goal>" not in free and "<Path>" not in free and "<Conclusion>" not in free and END in free


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (OPEN, "format"),  # unclosed
        (OPEN + "x</Path>", "format"),
        ("<Parallel>", "format"),
        ("</Path>", "format"),
        ("<Parallel>x", "format"),
        ("<Parallel><Goal></Goal>", "format"),  # no outline
        (OPEN + CLOSE.replace("<Conclusion>", "x<Conclusion>"), "format"),
        ("<Parallel><Goal><Outline>a</Outline></Goal><Path>b:</Path>", "format"),  # not as outlined
        ("<Parallel><Goal><Outline>" + 17 * "a", "limit"),
        ("<Parallel><Goal>" + 65 * "<Outline>a</Outline>", "limit"),  # too many branches
        (10_000 * OPEN, "limit"),  # too deep
        (10_000 * "<Parallel>", "format"),
        ("<parallel>", "unknown"),
        (END, "unknown"),
    ],
)
def test_what_is_not_well_formed_is_refused(text, code):
    with refused(RequestError, code, "text"):
        of(text)


def test_as_deep_as_may_be():
    assert of(MAX_NESTING * OPEN + MAX_NESTING * CLOSE).num_branches == MAX_NESTING
    with refused(RequestError, "limit", "text", value=MAX_NESTING + 1):
        of((MAX_NESTING + 1) * OPEN + (MAX_NESTING + 1) * CLOSE)
