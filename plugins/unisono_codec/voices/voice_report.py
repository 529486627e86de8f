"""Evaluation of a token voice: what is heard, beside recordings and their tokens; what it costs; whether joints show.

``unisono_sound.measure.evaluate``'s report, with copies of each recording through the codec::

    codec           recording → all levels of tokens → sound           what the codec loses
    codec, voice's  recording → the levels that the voice makes        the ceiling of the voice

Joints: passages are filled in windows much shorter than the model's own, so that there are many, and each is heard
between its neighbours. Its jump, the mean absolute difference of the log mel from one codec frame to the next, is
compared with jumps everywhere else in the same passages: a joint that cannot be heard has jumps like any other place.

Shapes: n samples, t codec frames, m mel bins.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from unisono import evaluation
from unisono.evaluation import Report, Row, Section
from unisono_sound import measure
from unisono_sound.corpus import Manifest, Utterance, level
from unisono_sound.measure import Judge, Recogniser
from unisono_sound.measure.evaluate import LOUDNESS_DBFS, SYNTHESIS, Copy, evaluate_voice, held_out, read_corpora
from unisono_sound.signal import LogMel, MelSpec, read_audio

from unisono_codec.voices.autoregressive import OneByOne, one_by_one
from unisono_codec.voices.passages import Passage, SpokenRequest, sound

CODED, CODED_LEVELS = "codec", "codec, voice's levels"
NUM_SENTENCES, NUM_ONE_BY_ONE = 8, 2
SHORT_WINDOW_SECONDS = 1.5
"""Windows of the passages whose joints are measured."""


def evaluate(
    synthesizer: Any,
    data: Manifest | str | Path | dict[str, str] | Sequence[str],
    *,
    limit: int = 40,
    texts: Sequence[str] | None = None,
    jobs: int = 1,
    device: str | None = None,
    checkpoint: str | Path | None = None,
    recogniser: str | Recogniser = "pocketsphinx",
    judges: Sequence[str | Judge] = (),
    progress: bool = True,
) -> Report:
    """Measure a token voice on held-out sentences of a corpus and return one report; see ``evaluate_voice``.

    Where the component ``listener`` is attached, voices are compared by it. Raises as ``evaluate_voice`` does, and
    ``RequestError`` for a model that no text can be said with.
    """
    if device is not None:
        synthesizer.to(device)
    model, codec = synthesizer.model, synthesizer.model.codec
    spec = model.facts.mel_spec

    def through(levels: int) -> Copy:
        def copy(wave: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
            tokens = codec.encode(wave[None].to(codec.device), levels=levels)
            return codec.decode(tokens, torch.tensor([len(wave)]))[0, : len(wave)]

        return copy

    copies = {CODED: through(codec.num_levels)}
    if model.num_levels < codec.num_levels:
        copies[CODED_LEVELS] = through(model.num_levels)
    facts = {"codec": model.facts.codec["model"], "levels": f"{model.num_levels} of {codec.num_levels}"}
    report = evaluate_voice(
        synthesizer, data, copies, spec, facts=facts, limit=limit, texts=texts, jobs=jobs, checkpoint=checkpoint,
        recogniser=recogniser, judges=judges, progress=progress,
    )  # fmt: skip
    manifest = data if isinstance(data, Manifest) else read_corpora(data)
    chosen, _ = held_out(manifest, limit, texts, model.facts)
    sentences = [u for u in chosen if len(u.text) >= 20][:NUM_SENTENCES] or chosen[:1]
    report.sections.append(cost(model, sentences))
    report.sections.append(joints(model, sentences, spec))
    if "listener" in model.components:
        report.sections.append(likeness(synthesizer, chosen, copies, spec.sample_rate))
    return report


def probe(
    synthesizer: Any, data: str | Path, *, limit: int = 16, recogniser: str | Recogniser = "pocketsphinx"
) -> evaluation.Probe:
    """Return what ``unisono sweep`` asks of a token voice: held-out sentences, and the word error rate of them all."""
    model = synthesizer.model
    chosen, why = held_out(read_corpora(data), limit, None, model.facts)
    speakers = model.voice.speakers
    hear = measure.recogniser(recogniser) if isinstance(recogniser, str) else recogniser
    texts = [utterance.text for utterance in chosen]

    def judge(made: list[Any]) -> dict[str, float]:
        heard = [hear.transcribe(audio.waveform.mean(axis=0), audio.sample_rate) for audio in made]
        return {"word error rate": 100 * measure.word_error_rate(texts, heard).rate}

    requests = [{"text": u.text} | ({"speaker": u.speaker} if u.speaker in speakers else {}) for u in chosen]
    return evaluation.Probe(requests, judge, {"word error rate": "lower"}, {"held out": why, "recogniser": hear.name})


def cost(model: Any, sentences: Sequence[Utterance]) -> Section:
    """Count and time the network's evaluations for each sentence by itself, in parallel and one token at a time.

    One at a time, over the flattened tokens t · q, is ``autoregressive.one_by_one``: the same blocks and weights, made
    causal, with a key-value cache. Its own numbers are of ``NUM_ONE_BY_ONE`` sentences, beside the same sentences in
    parallel; the codec's time is left out on both sides.
    """
    counts, seconds, spent, sounded = [], [], [], []
    singles: dict[str, list[float]] = {"tokens": [], "spent": []}
    for number, utterance in enumerate(sentences):
        before, start = model.evaluations, time.perf_counter()
        passages = _told(model, utterance)
        spent.append(time.perf_counter() - start)
        made = [sound(model, passage) for passage in passages]
        sounded.append(time.perf_counter() - start)
        counts.append(model.evaluations - before)
        seconds.append(sum(audio.seconds for audio in made))
        if number < NUM_ONE_BY_ONE:
            found = [_one_by_one(model, passage) for passage in passages]
            singles["tokens"].append(sum(one.evaluations for one in found))
            singles["spent"].append(sum(one.seconds for one in found))
    alike = len(singles["tokens"])
    same = {SYNTHESIS: sum(singles["tokens"]) / sum(counts[:alike])}
    return Section(
        "what it costs",
        [
            Row("evaluations for a sentence", {SYNTHESIS: fmean(counts)}, digits=1, better="lower"),
            Row("evaluations, one token at a time", {SYNTHESIS: fmean(singles["tokens"])}, digits=0),
            Row("as many times fewer", same, "×", 1, "higher"),
            Row("seconds for its tokens", {SYNTHESIS: fmean(spent[:alike])}, "s", 3, "lower"),
            Row("seconds, one token at a time", {SYNTHESIS: fmean(singles["spent"])}, "s", 3),
            Row("real-time factor, sentences by themselves", {SYNTHESIS: sum(sounded) / sum(seconds)}, "", 3, "lower"),
        ],
    )


def joints(model: Any, sentences: Sequence[Utterance], spec: MelSpec) -> Section:
    """Compare jumps of log mel and of level at the joints of windows with those at all other frames."""
    window = max(16, round(SHORT_WINDOW_SECONDS * model.codec.frame_rate))
    at: dict[str, list[float]] = {"mel": [], "level": []}
    inside: dict[str, list[float]] = {"mel": [], "level": []}
    with _window(model, window):
        for utterance in sentences:
            for passage in _told(model, utterance):
                wave = torch.from_numpy(sound(model, passage).waveform[0].copy())
                for name, jump in jumps(wave, spec, model.codec.hop_length).items():
                    places = [joint - passage.given for joint in passage.joints]
                    at[name] += [float(jump[place - 1]) for place in places if 0 < place <= len(jump)]
                    inside[name] += [float(x) for i, x in enumerate(jump) if i + 1 not in places]
    rows = []
    for name, unit in (("mel", ""), ("level", "dB")):
        found = fmean(at[name]) if at[name] else None
        rest = fmean(inside[name]) if inside[name] else None
        rows += [
            Row(f"jump of {name} at joints, mean", {SYNTHESIS: found}, unit, 3, "lower"),
            Row(f"jump of {name} elsewhere, mean", {SYNTHESIS: rest}, unit, 3),
        ]
        if found is not None and rest:
            rows.append(Row(f"jump of {name} at joints, of elsewhere", {SYNTHESIS: found / rest}, "×", 3, "1"))
            if len(at[name]) > 1:
                error = float(np.std(at[name], ddof=1) / np.sqrt(len(at[name])) / rest)
                rows.append(Row(f"jump of {name}, standard error of that", {SYNTHESIS: error}, "×", 3))
    return Section(f"joints of windows of {window} frames: {len(at['mel'])}", rows)


def jumps(wave: Float[Tensor, "n"], spec: MelSpec, hop_length: int) -> dict[str, Float[np.ndarray, " t"]]:
    """Return how much log mel (mean over bins) and level (dB) differ from each codec frame to the next."""
    frames = len(wave) // hop_length
    per = max(1, hop_length // spec.hop_length)
    mel = LogMel(spec)(wave[None, : frames * hop_length])[0]
    mel = mel[: len(mel) // per * per].unflatten(0, (-1, per)).mean(1)
    power = wave[: frames * hop_length].reshape(frames, hop_length).double().square().mean(1)
    loud = 10 * (power + 1e-8).log10()
    return {"mel": mel.diff(dim=0).abs().mean(1).numpy(), "level": loud.diff().abs().numpy()}


def likeness(synthesizer: Any, chosen: Sequence[Utterance], copies: dict[str, Copy], rate: int) -> Section:
    """Compare each system's voice with the recordings of the same speaker, and with those of others.

    The cosine of embeddings of the component ``listener``: it says how alike two voices are to that network, which
    was trained on few speakers, and not to a listener.
    """
    model = synthesizer.model
    listener, speakers = model.component("listener"), model.voice.speakers
    known = [u for u in chosen if u.speaker in speakers and u.audio != Path()]
    waves = [level(read_audio(u.audio, rate)[0], rate, LOUDNESS_DBFS) for u in known]
    systems: dict[str, list[Tensor]] = {"recording": waves}
    with torch.inference_mode():
        systems |= {name: [copy(wave).float().cpu() for wave in waves] for name, copy in copies.items()}
    made = [synthesizer(u.text, speaker=u.speaker) for u in known]
    systems[SYNTHESIS] = [torch.from_numpy(audio.waveform[0].copy()) for audio in made]
    reference = listener.hear(waves, rate)
    same: dict[str, float | str | None] = {}
    other: dict[str, float | str | None] = {}
    for system, sounds in systems.items():
        heard = listener.hear(sounds, rate)
        pairs = [
            (known[i].speaker == known[j].speaker, heard[i].similarity(reference[j]))
            for i in range(len(known))
            for j in range(len(known))
            if i != j
        ]
        for into, wanted in ((same, True), (other, False)):
            found = [value for alike, value in pairs if alike == wanted]
            into[system] = fmean(found) if found else None
    name = (listener.recipe.get("model") or {}).get("name", "listener")
    return Section(
        f"who is heard, by {name} ({', '.join(listener.facts.get('speakers', []))})",
        [
            Row("likeness to the same speaker", same, digits=3, better="higher"),
            Row("likeness to the others", other, digits=3, better="lower"),
        ],
    )


def _told(model: Any, utterance: Utterance) -> list[Passage]:
    """Return the filled passages of a sentence, spoken by whom it was recorded of where the model knows them."""
    speaker = utterance.speaker if utterance.speaker in model.voice.speakers else None
    one = SpokenRequest(model, model.Request(text=utterance.text, speaker=speaker), 0)
    with torch.inference_mode():
        for _ in model.fill_all([one]):
            pass
    return one.finished


def _one_by_one(model: Any, passage: Passage) -> OneByOne:
    """Return what a passage costs if its own tokens are made one after the other."""
    semantic = passage.own.semantic[None].to(model.device)
    with torch.inference_mode():
        condition = model.net.condition(semantic, torch.tensor([passage.speaker], device=model.device))
        return one_by_one(model.net.conformer.blocks, model.net.embedding, model.net.heads, condition)


@contextmanager
def _window(model: Any, frames: int) -> Iterator[None]:
    """Let the model fill shorter windows than it could."""
    before, model.max_frames = model.max_frames, min(frames, model.max_frames)
    try:
        yield
    finally:
        model.max_frames = before
