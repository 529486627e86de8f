"""Corpora of scores: facts about them, pieces as arrays, and the data sets that read them."""

from unisono_music.corpus.data import ScoreData, ScoreSet
from unisono_music.corpus.facts import ScoreFacts, Voice
from unisono_music.corpus.stored import Stored

__all__ = ["ScoreData", "ScoreFacts", "ScoreSet", "Stored", "Voice"]
