"""The words of a voice and the automaton that keeps them in order: round trips, and every state enumerated."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from unisono_music.models.band.grammar import CLOSED, VOID, Grammar
from unisono_music.models.band.words import BAR, EDGE, EMPTY, TIE, Words
from unisono_music.scores import Grid

CHORALES = Path(__file__).parents[2] / "../shared/data/jsb-chorales-16th.json"
SMALL = Grammar.of(Words(bar_steps=4, num_pitches=3))


def grids(steps: int, pitches: int):
    """Voices of up to so many steps, some notes of which are struck again."""
    pitch = st.lists(st.integers(-1, pitches - 1), min_size=1, max_size=steps)
    return pitch.flatmap(
        lambda row: st.lists(st.booleans(), min_size=len(row), max_size=len(row)).map(
            lambda struck: _grid(np.array(row), np.array(struck))
        )
    )


def _grid(pitch, struck):
    plain = Grid.of_pitches(pitch[None])
    return Grid(plain.pitch, plain.onset | (struck[None] & (plain.pitch >= 0)))


def accepted(grammar: Grammar, words: list[int], num_steps: int) -> bool:
    """Whether the automaton lets a voice's words pass, one by one, to its end."""
    size = grammar.words.bar_steps
    count = -(-num_steps // size)
    bar, state = -1, VOID
    for word in words[1:]:
        length = min(size, num_steps - max(bar, 0) * size)
        if not grammar.legal(torch.tensor(bar + 1 == count), torch.tensor(length), torch.tensor(state))[word]:
            return False
        state = int(grammar.move[length, state, word])
        bar += word in (BAR, EMPTY)
    return state == CLOSED


@given(grids(11, 3))
@settings(max_examples=200, deadline=None)
def test_a_voice_is_its_words_and_the_grammar_lets_them_pass(grid):
    words = SMALL.words.encode(grid.pitch[0], grid.onset[0])
    pitch, onset = SMALL.words.decode(words, grid.pitch.shape[1])
    assert np.array_equal(pitch, grid.pitch[0]) and np.array_equal(onset, grid.onset[0])
    assert accepted(SMALL, words, len(pitch))


def test_a_note_over_a_bar_line_is_tied_and_one_struck_again_is_not():
    words = Words(4, 3)
    held = np.array([1, 1, 1, 1, 1, 1, -1, -1])
    once = np.array([True] + [False] * 7)
    at = words.position
    assert words.encode(held, once) == [
        *(EDGE, BAR, at(0), words.pitch(1), words.duration(4)),
        *(BAR, at(0), TIE, words.duration(2), EDGE),
    ]
    again = once | (np.arange(8) == 4)
    assert words.encode(held, again)[6:9] == [at(0), words.pitch(1), words.duration(2)]
    assert [words.name(word) for word in (EDGE, BAR, EMPTY, TIE, at(3), words.pitch(2), words.duration(4))] == [
        *("Edge", "Bar", "Empty", "Tie", "Position 3", "Pitch 2", "Duration 4"),
    ]


def test_a_pitch_out_of_range_is_no_word():
    with pytest.raises(ValueError, match="3"):
        Words(4, 3).encode(np.array([0, 3]), np.array([True, True]))


@pytest.mark.parametrize("length", [1, 3, 4])
def test_every_state_that_is_reached_goes_on_and_a_bar_ends(length):
    """Enumerate the automaton from the start of a bar: positions only grow, so that no bar goes on for ever."""
    reached, open_ones = {}, {(VOID, 0)}
    while open_ones:
        state, depth = open_ones.pop()
        if reached.get(state, -1) >= depth:
            continue
        assert depth <= SMALL.longest(length)
        reached[state] = depth
        for last in (False, True):
            legal = SMALL.allowed[int(last), length, state].nonzero().flatten().tolist()
            assert bool(legal) == (state != CLOSED)
            for word in legal:
                to = int(SMALL.move[length, state, word])
                if word == BAR and state != VOID:
                    continue  # the next bar
                if word in (EMPTY, EDGE):
                    assert to in (VOID, CLOSED)
                    continue
                open_ones.add((to, depth + 1))
    assert len(reached) == 1 + 1 + length + length + length  # void, open, at, held, free
    assert max(reached.values()) == SMALL.longest(length)


def test_a_tie_needs_a_note_that_reached_the_bar_line():
    words, move = SMALL.words, SMALL.move

    def after(*sequence: int) -> int:
        state = VOID
        for word in sequence:
            assert SMALL.allowed[0, 4, state, word]
            state = int(move[4, state, word])
        return state

    full = after(BAR, words.position(2), words.pitch(0), words.duration(2))
    short = after(BAR, words.position(1), words.pitch(0), words.duration(2))
    for state, expected in ((full, True), (short, False)):
        at = int(move[4, int(move[4, state, BAR]), words.position(0)])
        assert bool(SMALL.allowed[0, 4, at, TIE]) == expected
        later = int(move[4, int(move[4, state, BAR]), words.position(1)])
        assert not SMALL.allowed[0, 4, later, TIE]


def test_the_last_bar_ends_the_piece_and_no_other_does():
    ends = SMALL.allowed[:, 4, VOID]
    assert ends[0].nonzero().flatten().tolist() == [BAR, EMPTY] and ends[1].nonzero().flatten().tolist() == [EDGE]


@pytest.mark.skipif(not CHORALES.exists(), reason="the chorales are not here")
def test_all_chorales_are_their_words():
    pieces = [piece for part in json.loads(CHORALES.read_text()).values() for piece in part]
    words = Words(16, 62)
    for piece in pieces:
        grid = Grid.of_pitches(np.array(piece).T)
        for pitch, onset in zip(np.where(grid.pitch < 0, -1, grid.pitch - 30), grid.onset, strict=True):
            back = words.decode(words.encode(pitch, onset), len(pitch))
            assert np.array_equal(back[0], pitch) and np.array_equal(back[1], onset)
    assert len(pieces) == 382
