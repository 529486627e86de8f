"""Corpora: manifests of recordings, their limits, recordings with texts, and speech made on the spot."""

from unisono_sound.corpus.corpus import SpeechCorpus, pronouncing, read_durations, read_texts
from unisono_sound.corpus.facts import AudioFacts, SpeechFacts
from unisono_sound.corpus.items import SpeechItem, SpeechSet
from unisono_sound.corpus.limits import AudioLimits, wave_facts
from unisono_sound.corpus.made import MadeSpeech, make_corpus, symbol_times
from unisono_sound.corpus.manifest import Manifest, Utterance, find_audio, read_manifest, read_manifests, same_sentence
from unisono_sound.corpus.options import (
    FrontEndOptions,
    MadeOptions,
    PronunciationOptions,
    ReadingOptions,
    SoundOptions,
    VoiceOptions,
)
from unisono_sound.corpus.recording import extract_mel, level, read_speech, trim

__all__ = [
    "AudioFacts",
    "AudioLimits",
    "FrontEndOptions",
    "MadeOptions",
    "MadeSpeech",
    "Manifest",
    "PronunciationOptions",
    "ReadingOptions",
    "SoundOptions",
    "SpeechCorpus",
    "SpeechFacts",
    "SpeechItem",
    "SpeechSet",
    "Utterance",
    "VoiceOptions",
    "extract_mel",
    "find_audio",
    "level",
    "make_corpus",
    "pronouncing",
    "read_durations",
    "read_manifest",
    "read_manifests",
    "read_speech",
    "read_texts",
    "same_sentence",
    "symbol_times",
    "trim",
    "wave_facts",
]
