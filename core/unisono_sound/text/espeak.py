"""espeak-ng in process: text to IPA phonemes, and text to speech with the exact time of every
phoneme.

A thin ctypes layer over the shared library that the ``espeakng-loader`` wheel carries (espeak-ng
1.52; GPL-3, hence the optional extras ``tts`` and ``codec``; what it writes, phonemes and audio, is yours).
espeak-ng keeps its state in process-wide globals, so there is one ``Espeak`` per process, behind a
lock. The result depends on the arguments alone: speech is made with voice, rate and pitch set anew, and what a text
before did to the phonemes of the next is nothing (checked), so that their voice is set where the language changes.
"""

import _ctypes
import contextlib
import ctypes
import os
import re
import shutil
import tempfile
import threading
import weakref
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from unisono.errors import MissingExtra, RequestError, did_you_mean

SAMPLE_RATE = 22050
"""What espeak-ng speaks at, in Hz."""

_AUDIO_SYNCHRONOUS, _PHONEME_EVENTS, _PHONEME_IPA, _DONT_EXIT = 2, 1, 2, 0x8000
_RATE, _PITCH, _RANGE = 1, 3, 4
_END_OF_EVENTS, _PHONEME = 0, 7
_UTF8, _POSITION_CHARACTER = 1, 1
_IPA_SEPARATED = 0x02 | (ord("_") << 8)

# a few phonemes have no IPA in espeak-ng and come as ASCII, some with marks that are pauses here
_LETTERS = str.maketrans({".": "`", ":": "ː", ";": "ʲ", "?": "ʔ", "!": "ʼ", ",": "ˌ", "ä": "a"})


@dataclass(frozen=True)
class Spoken:
    """Speech with the exact time of each phoneme.

    ``phonemes[i]`` sounds from sample ``starts[i]`` to ``starts[i + 1]``; an empty string is a
    silence. ``starts`` is non-decreasing, begins with 0 and has one entry more, the number of
    samples.
    """

    waveform: np.ndarray
    phonemes: tuple[str, ...]
    starts: np.ndarray
    sample_rate: int = SAMPLE_RATE


class _Identifier(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Identifier),
    )


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.POINTER(ctypes.c_char)),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Espeak:
    """The one espeak-ng of this process; get it from ``espeak()``."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise MissingExtra("espeakng-loader", "tts") from error
        self._lock = threading.RLock()
        self._paths = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
        self._language = ""
        self._waves: list[np.ndarray] = []
        self._events: list[tuple[int, str]] = []
        self._on_synth = _Callback(self._collect)
        self._library = self._start(self._paths[0])
        # its own file is, to the loader, another library: see speak
        folder = tempfile.mkdtemp(prefix="unisono-espeak-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._copy = shutil.copy(self._paths[0], folder)
        path = ctypes.c_char_p()
        self.version: str = self._library.espeak_Info(ctypes.byref(path)).decode().split()[0]
        self.languages: dict[str, str] = self._list_languages()

    def phonemes(self, text: str, language: str) -> list[list[str]]:
        """Return espeak's words, each a list of IPA phonemes with stress marks; see ``clauses``.

        Raises ``RequestError`` for an unknown language.
        """
        return [word for clause in self.clauses(text, language) for word in clause]

    def clauses(self, text: str, language: str) -> list[list[list[str]]]:
        """Return espeak's clauses, each a list of words, each a list of IPA phonemes with stress marks.

        Numbers, abbreviations and symbols are read out; words that espeak runs together ("of the")
        are one. Raises ``RequestError`` for an unknown language.
        """
        buffer = ctypes.create_string_buffer(_plain(text))
        pointer = ctypes.c_void_p(ctypes.addressof(buffer))
        clauses = []
        with self._lock:
            if language != self._language:  # espeak-ng 1.52 loses 1.3 KiB of memory whenever a voice is set
                self._language = ""
                self._set_voice(self._library, language)
                self._language = language
            while pointer.value:
                clauses.append(
                    self._library.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, _IPA_SEPARATED).decode()
                )
        # "(en)" and "(fr)" announce that espeak changed the language for a word
        clauses = [re.sub(r"\([a-z][a-z0-9-]*\)", "", clause) for clause in clauses]
        words = [[[p.translate(_LETTERS) for p in word.split("_") if p] for word in c.split(" ")] for c in clauses]
        return [[word for word in clause if word] for clause in words if any(clause)]

    def speak(
        self,
        text: str,
        language: str = "en-us",
        variant: str = "",
        rate: int = 165,
        pitch: int = 50,
    ) -> Spoken:
        """Speak a text: the waveform at 22,050 Hz with the exact time of every phoneme.

        ``variant`` is one of espeak's voice variants ("f2", "m3"; empty is the plain voice),
        ``rate`` in words per minute (80–450), ``pitch`` 0–99. The same arguments give the same
        samples.
        """
        with self._lock:
            # Flutter and breath run on from one utterance to the next, and only loading the library
            # afresh resets them. A copy is loaded, which nobody else in this process has open.
            library = self._start(self._copy)
            try:
                if os.name == "posix":
                    ctypes.CDLL(None).srand(1)
                self._set_voice(library, language, variant)
                library.espeak_SetParameter(_RATE, rate, 0)
                library.espeak_SetParameter(_PITCH, pitch, 0)
                self._waves.clear()
                self._events.clear()
                data = _plain(text)
                library.espeak_Synth(data, len(data) + 1, 0, _POSITION_CHARACTER, 0, _UTF8, None, None)
                library.espeak_Synchronize()
            finally:
                library.espeak_Terminate()
                unload = getattr(_ctypes, "dlclose" if os.name == "posix" else "FreeLibrary")
                unload(library._handle)
            waves, events = list(self._waves), list(self._events)
        pcm = np.concatenate(waves) if waves else np.zeros(0, np.int16)
        samples = [sample for sample, _ in events]
        starts = np.array([*samples, len(pcm)], np.int64)
        phonemes = tuple(phoneme for _, phoneme in events)
        if not events or starts[0] > 0:
            starts, phonemes = np.concatenate([[0], starts]), ("", *phonemes)
        waveform = pcm.astype(np.float32) / 32768.0
        return Spoken(waveform, phonemes, np.minimum(starts, len(pcm)))

    def _start(self, path: str) -> ctypes.CDLL:
        data = self._paths[1]
        library, integer, text = ctypes.CDLL(path), ctypes.c_int, ctypes.c_char_p
        library.espeak_Initialize.argtypes = [integer, integer, text, integer]
        library.espeak_Info.argtypes = [ctypes.POINTER(text)]
        library.espeak_Info.restype = text
        library.espeak_ListVoices.argtypes = [ctypes.c_void_p]
        library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        library.espeak_SetVoiceByName.argtypes = [text]
        library.espeak_SetParameter.argtypes = [integer, integer, integer]
        library.espeak_SetSynthCallback.argtypes = [_Callback]
        library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_void_p), integer, integer]
        library.espeak_TextToPhonemes.restype = text
        library.espeak_Synth.argtypes = [
            text, ctypes.c_size_t, ctypes.c_uint, integer, ctypes.c_uint, ctypes.c_uint,
            ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        flags = _PHONEME_EVENTS | _PHONEME_IPA | _DONT_EXIT
        rate = library.espeak_Initialize(_AUDIO_SYNCHRONOUS, 0, data.encode(), flags)
        if rate != SAMPLE_RATE:
            raise RuntimeError(f"espeak-ng did not start (returned {rate}) with its data in {data}")
        library.espeak_SetSynthCallback(self._on_synth)
        return library

    def _set_voice(self, library: ctypes.CDLL, language: str, variant: str = "") -> None:
        if language not in self.languages:
            message = f"espeak-ng knows no language {language!r}{did_you_mean(language, self.languages)}"
            raise RequestError(message, code="unknown", path="language", value=language)
        variants = Path(self._paths[1], "voices", "!v")
        if variant and not (variants / variant).is_file():
            known = [path.name for path in variants.iterdir()]
            message = f"espeak-ng has no voice {variant!r}{did_you_mean(variant, known)}"
            raise RequestError(message, code="unknown", path="voice", value=variant)
        name = self.languages[language] + (f"+{variant}" if variant else "")
        if library.espeak_SetVoiceByName(name.encode()) != 0:
            raise RequestError(
                f"espeak-ng cannot load the voice {name!r}", code="unsupported", path="voice", value=name
            )

    def _list_languages(self) -> dict[str, str]:
        voices, found, index = self._library.espeak_ListVoices(None), {}, 0
        while voices[index]:
            voice, offset = voices[index].contents, 0
            # the languages are a list of: one byte of priority, then a name ended by a zero byte
            while voice.languages[offset] != b"\0":
                end = offset + 1
                while voice.languages[end] != b"\0":
                    end += 1
                name = voice.languages[offset + 1 : end].decode()
                found.setdefault(name, voice.identifier.decode())
                offset = end + 1
            index += 1
        return found

    def _collect(self, wave: Any, count: int, events: Any) -> int:
        if count > 0 and wave:
            self._waves.append(np.ctypeslib.as_array(wave, (count,)).copy())
        index = 0
        while events[index].type != _END_OF_EVENTS:
            event = events[index]
            if event.type == _PHONEME:
                # an 8-byte field that a long phoneme fills without a closing zero
                raw = bytes(event.id.string).split(b"\0")[0].decode("utf-8", "ignore")
                self._events.append((event.sample, raw.translate(_LETTERS)))
            index += 1
        return 0


def _plain(text: str) -> bytes:
    """Return what the library takes: no zero byte, and no grave accent, which crashes its Vietnamese voice."""
    return text.replace("\0", " ").replace("`", " ").encode("utf-8", "replace")


@lru_cache(maxsize=1)
def espeak() -> Espeak:
    """Return this process's espeak-ng, started on first use; ``MissingExtra`` where the wheel is
    absent.
    """
    with _quiet_stderr():
        return Espeak()


@contextlib.contextmanager
def _quiet_stderr():
    # listing the voices makes espeak-ng complain about a dictionary that the wheel does not carry
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
