"""Drawing: piano rolls, as a figure, for a terminal and for a notebook."""

import base64
import html
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from unisono_music.scores.chords import NAMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from unisono_music.scores.score import Score

COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:olive")
TERMINAL_COLOURS = ("blue", "yellow", "green", "red", "magenta", "cyan", "bright_red", "bright_green")
MOST_COLUMNS = 128
MOST_DRAWN = 20_000


def roll_figure(score: "Score") -> "Figure":
    """Return a figure of the piano roll: time in bars, pitch upwards; a drum track is drawn grey.

    Of a score with more than ``MOST_DRAWN`` notes, as many are drawn from its beginning, and the title says so.
    """
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    bars = score.bars
    figure = Figure(figsize=(min(max(4.0, 0.6 * len(bars)), 16.0), 4.0), layout="constrained")
    axes = figure.add_subplot()
    left, pitches, handles = MOST_DRAWN, [], []
    for number, track in enumerate(score.tracks):
        colour = "0.6" if track.drums else COLOURS[number % len(COLOURS)]
        notes = track.notes[:left]
        left -= len(notes)
        boxes = [
            [
                (n.onset, n.pitch - 0.4),
                (n.end - 0.1, n.pitch - 0.4),
                (n.end - 0.1, n.pitch + 0.4),
                (n.onset, n.pitch + 0.4),
            ]
            for n in notes
        ]
        axes.add_collection(PolyCollection(boxes, facecolors=colour, edgecolors="none", alpha=0.85))
        pitches += [note.pitch for note in notes]
        handles.append(Patch(color=colour, label=track.name))
    low, high = (min(pitches), max(pitches)) if pitches else (60, 72)
    axes.set_xlim(0, max(score.num_steps, 1))
    axes.set_ylim(low - 1.5, high + 1.5)
    octaves = [pitch for pitch in range(low - 1, high + 2) if pitch % 12 == 0]
    axes.set_yticks(octaves or [low], [f"{NAMES[pitch % 12]}{pitch // 12 - 1}" for pitch in octaves or [low]])
    axes.grid(axis="y", alpha=0.3)
    for bar in bars:
        axes.axvline(bar.start, color="0.8", linewidth=0.6, zorder=0)
    every = max(1, len(bars) // 16)
    axes.set_xticks([bar.start for bar in bars[::every]], [str(i + 1) for i in range(0, len(bars), every)])
    axes.set_xlabel("bar")
    drawn = len(pitches)
    cut = f", the first {drawn} notes" if drawn < score.num_notes else ""
    axes.set_title(f"{score.title or 'score'}, {score.seconds:.0f} s{cut}", fontsize=9)
    if 0 < len(handles) <= 16:
        figure.legend(handles=handles, loc="outside right upper", fontsize=7, frameon=False)
    return figure


def roll_text(score: "Score") -> Any:
    """Return the piano roll for a terminal: a row for each sounding pitch, a column for one or more steps."""
    from rich.text import Text

    cells, last = _cells(score)
    text = Text(f"{score!r}\n")
    if not cells:
        return text
    each = -(-max(last, 1) // MOST_COLUMNS)
    low, high = min(p for p, _ in cells), max(p for p, _ in cells)
    for pitch in range(high, low - 1, -1):
        text.append(f"{NAMES[pitch % 12]}{pitch // 12 - 1}".rjust(4) + " ", style="dim")
        for column in range(-(-last // each)):
            hit = next(
                (cells[pitch, s] for s in range(column * each, (column + 1) * each) if (pitch, s) in cells), None
            )
            if hit is None:
                text.append("·" if pitch % 12 == 0 else " ", style="dim")
            else:
                text.append("█" if hit[1] else "▄", style=TERMINAL_COLOURS[hit[0] % len(TERMINAL_COLOURS)])
        text.append("\n")
    return text


def roll_html(score: "Score") -> str:
    """Return the piano roll and a player, for a notebook."""
    buffer = io.BytesIO()
    score.plot().savefig(buffer, format="png", dpi=100)
    label = html.escape(f"{score.title} {score!r}".strip())
    image = base64.b64encode(buffer.getvalue()).decode()
    shown = f'<img alt="{label}" title="{label}" src="data:image/png;base64,{image}">'
    heard = score.sound()
    return shown if heard is None else f"{shown}<br>{heard._repr_html_()}"


def _cells(score: "Score") -> tuple[dict[tuple[int, int], tuple[int, bool]], int]:
    """The last steps' (pitch, step) → (track, whether it begins there); a terminal shows the end of a long score."""
    start = max(0, score.num_steps - 4 * MOST_COLUMNS)
    cells = {}
    for number, track in enumerate(score.tracks):
        for note in track.notes:
            for step in np.arange(max(note.onset, start), note.end):
                cells[note.pitch, int(step) - start] = (number, int(step) == note.onset)
    return cells, score.num_steps - start
