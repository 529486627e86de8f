"""Scores: music as notes on a grid of steps; MIDI and JSON files, chords, features, sound and pictures of it."""

from unisono_music.scores.chorales import VOICES, Piece, read_chorales
from unisono_music.scores.chords import CHORDS, OTHER, chord_number, chord_of, chords_of, chords_within
from unisono_music.scores.features import (
    DENSEST,
    PITCH_BINS,
    VELOCITY_BINS,
    Features,
    density_bin,
    duration_bin,
    features_of,
    notes_by_bar,
    pitch_bin,
    velocity_bin,
)
from unisono_music.scores.grid import SILENCE, Grid, changes, grid_of, score_of, top_line
from unisono_music.scores.midi import Reading, midi_bytes, read_midi
from unisono_music.scores.programmes import FAMILIES, family_of
from unisono_music.scores.score import MOST_STEPS, MOST_TRACKS, Bar, Meter, Note, Score, Tempo, Track
from unisono_music.scores.sound import sound_of

__all__ = [
    "CHORDS",
    "DENSEST",
    "FAMILIES",
    "MOST_STEPS",
    "MOST_TRACKS",
    "OTHER",
    "PITCH_BINS",
    "SILENCE",
    "VELOCITY_BINS",
    "VOICES",
    "Bar",
    "Features",
    "Grid",
    "Meter",
    "Note",
    "Piece",
    "Reading",
    "Score",
    "Tempo",
    "Track",
    "changes",
    "chord_number",
    "chord_of",
    "chords_of",
    "chords_within",
    "density_bin",
    "duration_bin",
    "family_of",
    "features_of",
    "grid_of",
    "midi_bytes",
    "notes_by_bar",
    "pitch_bin",
    "read_chorales",
    "read_midi",
    "score_of",
    "sound_of",
    "top_line",
    "velocity_bin",
]
