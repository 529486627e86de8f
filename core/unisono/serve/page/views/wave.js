// Wave: 16-bit WAV files read, joined and played one after the other without a gap.

export function readWave(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 12, channels = 1, rate = 0;
  while (at + 8 <= bytes.length) {
    const name = String.fromCharCode(...bytes.subarray(at, at + 4)), size = view.getUint32(at + 4, true);
    if (name === "fmt ") {
      channels = view.getUint16(at + 10, true);
      rate = view.getUint32(at + 12, true);
      if (view.getUint16(at + 22, true) !== 16) throw new Error("this sound is not of 16 bits");
    }
    if (name === "data") return { rate, channels, data: bytes.slice(at + 8, at + 8 + size) };
    at += 8 + size + (size & 1);
  }
  throw new Error("this sound has no samples");
}

export function joinWaves(waves) {
  const [{ rate, channels }] = waves, size = waves.reduce((sum, wave) => sum + wave.data.length, 0);
  const file = new Uint8Array(44 + size), view = new DataView(file.buffer);
  const word = (at, text) => [...text].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  word(0, "RIFF");
  view.setUint32(4, 36 + size, true);
  word(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, channels, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * channels * 2, true);
  view.setUint16(32, channels * 2, true);
  view.setUint16(34, 16, true);
  word(36, "data");
  view.setUint32(40, size, true);
  let at = 44;
  for (const wave of waves) {
    file.set(wave.data, at);
    at += wave.data.length;
  }
  return file;
}

// Samples in [-1, 1), one array for each channel.
export function samplesOf({ data, channels }) {
  const all = new Int16Array(data.buffer, data.byteOffset, data.length >> 1);
  const length = Math.floor(all.length / channels);
  return Array.from({ length: channels }, (_, channel) => Float32Array.from({ length }, (_, i) => all[i * channels + channel] / 32768));
}

const AHEAD = 0.06; // seconds between the arrival of the first piece and its sound

export class Player {
  constructor(onPlayed) {
    this.onPlayed = onPlayed;
    this.next = this.pieces = this.played = 0;
    this.over = false;
  }

  add(wave) {
    this.context ??= new AudioContext({ sampleRate: wave.rate });
    this.context.resume();
    const channels = samplesOf(wave);
    if (!channels[0].length) return;
    const buffer = this.context.createBuffer(wave.channels, channels[0].length, wave.rate);
    channels.forEach((samples, channel) => buffer.copyToChannel(samples, channel));
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.context.destination);
    this.next = Math.max(this.next, this.context.currentTime + AHEAD);
    source.start(this.next);
    this.next += buffer.duration;
    this.pieces++;
    source.onended = () => {
      this.played++;
      this.finish();
    };
  }

  // No further piece comes.
  end() {
    this.over = true;
    this.finish();
  }

  finish() {
    if (!this.over || this.played < this.pieces || this.context?.state === "closed") return;
    this.context?.close();
    this.onPlayed(this.played);
  }

  stop() {
    if (this.context && this.context.state !== "closed") this.context.close();
  }
}
