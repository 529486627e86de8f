// Audio: sound that is heard as its pieces come, then an <audio> element under its spectrogram.

import { bytesOf, element, urlOf } from "../tools.js";
import { drawSpectrogram } from "./spectrogram.js";
import { joinWaves, Player, readWave, samplesOf } from "./wave.js";

export const prefers = "pieces";
export const format = "wav";

export function create(model) {
  const canvas = element("canvas", { role: "img", hidden: true });
  const cursor = element("div", { class: "cursor", hidden: true });
  const scroll = element("div", { class: "scroll", tabindex: "0", "aria-label": "spectrogram" }, element("div", { class: "over" }, canvas, cursor));
  const audio = element("audio", { controls: true, hidden: true, "aria-label": `sound by ${model.id}` });
  const words = element("details", { hidden: true }, element("summary", {}, "Words and their times"));
  const box = element("div", { id: "sound" }, audio, scroll, words);
  const waves = [], about = { segments: [], curves: {} };
  const player = new Player((pieces) => (box.dataset.heard = pieces));
  let file = null, length = 0;

  function add(told) {
    const wave = readWave(bytesOf(told));
    player.add(wave);
    waves.push(wave);
    const offset = told.offset ?? 0;
    about.segments.push(...(told.about.segments ?? []).map((segment) => ({ ...segment, start: segment.start + offset, end: segment.end + offset })));
    for (const [name, curve] of Object.entries(told.about.curves ?? {})) {
      const whole = (about.curves[name] ??= { unit: curve.unit, times: [], values: [] });
      whole.times.push(...curve.times.map((time) => time + offset));
      whole.values.push(...curve.values);
    }
    draw();
  }

  function show(told, last) {
    waves.splice(0, waves.length, readWave(bytesOf(told)));
    Object.assign(about, { segments: [], curves: {} }, told.about);
    if (last) draw();
  }

  function draw() {
    const [{ rate, channels }] = waves;
    const joined = readWave(joinWaves(waves));
    const samples = samplesOf(joined)[0];
    canvas.hidden = false;
    const drawn = drawSpectrogram(canvas, samples, rate, about);
    length = drawn.seconds;
    canvas.setAttribute("aria-label", `spectrogram of ${length.toFixed(2)} seconds at ${rate} Hz, ${channels} channel${channels > 1 ? "s" : ""}`);
    canvas.onclick = (event) => (audio.currentTime = (event.offsetX / drawn.width) * length);
  }

  function end() {
    player.end();
    if (!waves.length) return;
    const content = joinWaves(waves);
    file = { content, type: "audio/wav", format: "wav" };
    audio.src = urlOf(content, "audio/wav");
    audio.hidden = cursor.hidden = false;
    if (!player.pieces) audio.play().catch(() => {}); // a browser may want a press of its own
    const follow = () => {
      const at = length ? (audio.currentTime / length) * canvas.clientWidth : 0;
      cursor.style.left = `${at}px`;
      if (!audio.paused) {
        if (at < scroll.scrollLeft || at > scroll.scrollLeft + scroll.clientWidth - 40) scroll.scrollLeft = at - 80;
        requestAnimationFrame(follow);
      }
    };
    for (const event of ["play", "seeked", "pause"]) audio.addEventListener(event, follow);
    audio.addEventListener("play", () => player.stop());
    const spoken = about.segments.filter((segment) => segment.kind === "word");
    words.hidden = !spoken.length;
    const row = (cell, ...texts) => element("tr", {}, ...texts.map((text) => element(cell, {}, text)));
    words.append(element("table", {}, row("th", "word", "from", "to"),
      ...spoken.map(({ label, start, end }) => row("td", label, `${start.toFixed(2)} s`, `${end.toFixed(2)} s`))));
  }

  function stop() {
    player.stop();
    audio.pause();
  }

  return { element: box, add, show, end, stop, get file() { return file; }, get seconds() { return length; } };
}
