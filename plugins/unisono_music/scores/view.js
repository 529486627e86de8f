// Score: a piano roll that can be heard; `unisono serve` shows it on its page.

import { bytesOf, element } from "../tools.js";

export const prefers = "snapshots";

const COLOURS = ["#4477aa", "#ee7733", "#228833", "#cc3344", "#aa55cc", "#886644", "#dd77aa", "#999933"];

export function create() {
  const canvas = element("canvas", { class: "wide", tabindex: "0", role: "img" });
  const play = element("button", { type: "button", on: { click: () => (playing ? silence() : sound()) } }, "Play");
  const names = element("p", { class: "help" });
  const box = element("div", { id: "score" }, canvas, element("div", { class: "row" }, play), names);
  let score = null, file = null, playing = null;

  function show(told, last) {
    score = told.about;
    const count = score.tracks.reduce((sum, track) => sum + track.notes.length, 0);
    canvas.setAttribute("aria-label", `${score.title || "score"}: ${score.tracks.length} tracks, ${count} notes, ${score.seconds.toFixed(1)} seconds`);
    names.replaceChildren(...score.tracks.flatMap((track, i) => {
      const mark = element("span", {}, "■ ");
      mark.style.color = COLOURS[i % COLOURS.length];
      return [mark, `${track.name}  `];
    }));
    box.dataset.notes = count;
    play.disabled = !count;
    if (last) file = { content: bytesOf(told), type: told.type, format: told.format };
    draw();
  }

  function draw(at = null) {
    const sharp = Math.min(devicePixelRatio || 1, 2), width = canvas.clientWidth || 640, height = 260;
    canvas.style.height = `${height}px`;
    canvas.width = width * sharp;
    canvas.height = height * sharp;
    const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    pen.scale(sharp, sharp);
    const pitches = score.tracks.flatMap((track) => track.notes.map((note) => note[2]));
    const low = pitches.reduce((a, b) => Math.min(a, b), 127) - 2, high = pitches.reduce((a, b) => Math.max(a, b), 0) + 2;
    const x = (step) => (step / Math.max(score.num_steps, 1)) * width, tall = height / Math.max(high - low, 12);
    const y = (pitch) => height - (pitch - low + 0.5) * tall;
    pen.strokeStyle = style.getPropertyValue("--line");
    for (const bar of score.bars) line(pen, x(bar), 0, x(bar), height);
    score.tracks.forEach((track, i) => {
      pen.fillStyle = COLOURS[i % COLOURS.length];
      for (const [onset, duration, pitch] of track.notes) pen.fillRect(x(onset), y(pitch) - tall / 2, Math.max(x(onset + duration) - x(onset) - 1, 1), Math.max(tall * 0.85, 2));
    });
    if (at !== null) {
      pen.strokeStyle = style.getPropertyValue("--strong");
      line(pen, x(at), 0, x(at), height);
    }
  }

  // Each note is one oscillator under a short envelope; the browser's clock keeps time.
  function sound() {
    const context = new AudioContext(), start = context.currentTime + 0.1;
    const loud = context.createGain();
    loud.gain.value = 0.15;
    loud.connect(context.destination);
    for (const track of score.tracks) {
      if (track.drums) continue;
      for (const [onset, duration, pitch, velocity] of track.notes) {
        const begin = start + secondsAt(onset), end = start + secondsAt(onset + duration);
        const tone = context.createOscillator(), level = context.createGain();
        tone.type = "triangle";
        tone.frequency.value = 440 * 2 ** ((pitch - 69) / 12);
        level.gain.setValueAtTime(0, begin);
        level.gain.linearRampToValueAtTime(velocity / 127, begin + 0.015);
        level.gain.setValueAtTime(velocity / 127, Math.max(end - 0.03, begin + 0.015));
        level.gain.linearRampToValueAtTime(0, end + 0.05);
        tone.connect(level).connect(loud);
        tone.start(begin);
        tone.stop(end + 0.06);
      }
    }
    playing = { context, start };
    play.textContent = "Stop";
    box.dataset.playing = "yes";
    requestAnimationFrame(step);
  }

  function step() {
    if (!playing) return;
    const now = playing.context.currentTime - playing.start;
    if (now > score.seconds || !canvas.isConnected) return silence();
    draw(stepAt(Math.max(now, 0)));
    requestAnimationFrame(step);
  }

  function silence() {
    if (playing) playing.context.close();
    playing = null;
    play.textContent = "Play";
    box.dataset.playing = "no";
    if (score) draw();
  }

  function secondsAt(step) {
    let time = 0;
    score.tempos.forEach((tempo, i) => {
      const stop = Math.min(step, i + 1 < score.tempos.length ? score.tempos[i + 1].start : Infinity);
      if (stop > tempo.start) time += ((stop - tempo.start) * 60) / tempo.bpm / score.steps_per_beat;
    });
    return time;
  }

  function stepAt(seconds) {
    let low = 0, high = score.num_steps;
    for (let i = 0; i < 24; i++) {
      const middle = (low + high) / 2;
      if (secondsAt(middle) < seconds) low = middle;
      else high = middle;
    }
    return low;
  }

  return { element: box, show, add: (told) => show(told, true), stop: silence, get file() { return file; } };
}

function line(pen, ...ends) {
  pen.beginPath();
  pen.moveTo(ends[0], ends[1]);
  pen.lineTo(ends[2], ends[3]);
  pen.stroke();
}
