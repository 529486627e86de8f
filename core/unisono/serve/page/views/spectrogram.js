// Spectrogram: mel bands of a sound over time, with words above, symbols' borders, and the pitch over it.

const BANDS = 80, HEIGHT = 240, TOP = 38, PIXELS = 170, WIDEST = 12_000, FFT = 1024;

export function drawSpectrogram(canvas, samples, rate, about) {
  const seconds = samples.length / rate;
  const width = Math.max(320, Math.min(Math.ceil(seconds * PIXELS), WIDEST));
  const sharp = width * 2 <= WIDEST ? Math.min(devicePixelRatio || 1, 2) : 1;
  canvas.width = width * sharp;
  canvas.height = (HEIGHT + TOP) * sharp;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${HEIGHT + TOP}px`;
  const draw = canvas.getContext("2d");
  draw.scale(sharp, sharp);
  const style = getComputedStyle(document.documentElement);
  const picture = image(samples, rate, width);
  draw.imageSmoothingEnabled = true;
  draw.drawImage(picture, 0, TOP, width, HEIGHT);
  const x = (time) => (time / seconds) * width;
  draw.textAlign = "center";
  const segments = about.segments ?? [], ends = [0, 0]; // of the two rows of words
  for (const segment of segments) {
    const middle = x((segment.start + segment.end) / 2), word = segment.kind === "word";
    if (word) {
      draw.font = "13px system-ui, sans-serif";
      draw.fillStyle = style.getPropertyValue("--ink");
      const half = draw.measureText(segment.label).width / 2 + 2;
      const row = middle - half >= ends[0] || ends[0] <= ends[1] ? 0 : 1;
      ends[row] = middle + half;
      draw.fillText(segment.label, middle, row ? 31 : 15);
    } else {
      draw.fillStyle = "rgba(255, 255, 255, .35)";
      draw.fillRect(x(segment.start), TOP, 1, HEIGHT);
      draw.font = "12px system-ui, sans-serif";
      draw.fillStyle = "#fff";
      const label = segment.label.replace(/[<>]/g, "").trim();
      if (x(segment.end) - x(segment.start) >= draw.measureText(label).width) draw.fillText(label, middle, TOP + 15);
    }
  }
  const pitch = about.curves?.pitch;
  if (pitch) curve(draw, pitch, x);
  return { width, seconds };
}

function curve(draw, { times, values, unit }, x) {
  const known = values.filter((value) => value !== null && value > 0);
  if (!known.length) return;
  const low = Math.min(...known) * 0.8, high = Math.max(...known) * 1.2;
  const y = (value) => TOP + HEIGHT * (1 - (value - low) / (high - low));
  draw.strokeStyle = "#35e0ff";
  draw.lineWidth = 2;
  draw.beginPath();
  let on = false;
  values.forEach((value, at) => {
    if (value === null || value <= 0) on = false;
    else {
      on ? draw.lineTo(x(times[at]), y(value)) : draw.moveTo(x(times[at]), y(value));
      on = true;
    }
  });
  draw.stroke();
  draw.textAlign = "left";
  draw.font = "12px system-ui, sans-serif";
  const told = `pitch ${Math.round(low / 0.8)}–${Math.round(high / 1.2)} ${unit}`;
  draw.fillStyle = "rgba(0, 0, 0, .7)";
  draw.fillRect(2, TOP + HEIGHT - 22, draw.measureText(told).width + 8, 20);
  draw.fillStyle = "#35e0ff";
  draw.fillText(told, 6, TOP + HEIGHT - 8);
}

// Log mel bands as a canvas, one column for each pixel.
function image(samples, rate, columns) {
  const bins = FFT / 2, top = Math.min(8000, rate / 2);
  const mel = (hertz) => 1127 * Math.log(1 + hertz / 700);
  const edges = Array.from({ length: BANDS + 2 }, (_, i) => ((Math.exp((mel(top) * i) / (BANDS + 1) / 1127) - 1) * 700 * FFT) / rate);
  const window = Float32Array.from({ length: FFT }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / FFT));
  const made = document.createElement("canvas");
  made.width = columns;
  made.height = BANDS;
  const draw = made.getContext("2d"), picture = draw.createImageData(columns, BANDS);
  const real = new Float32Array(FFT), imaginary = new Float32Array(FFT), power = new Float32Array(bins);
  for (let column = 0; column < columns; column++) {
    const begin = Math.round((column / columns) * samples.length) - FFT / 2;
    for (let i = 0; i < FFT; i++) real[i] = (samples[begin + i] ?? 0) * window[i];
    imaginary.fill(0);
    transform(real, imaginary);
    for (let i = 0; i < bins; i++) power[i] = Math.hypot(real[i], imaginary[i]);
    for (let band = 0; band < BANDS; band++) {
      const [low, middle, high] = edges.slice(band, band + 3);
      let sum = 0, weights = 0;
      for (let i = Math.floor(low); i <= Math.min(Math.ceil(high), bins - 1); i++) {
        const weight = Math.max(0, i <= middle ? (i - low) / (middle - low) : (high - i) / (high - middle));
        sum += weight * power[i];
        weights += weight;
      }
      const level = Math.log(Math.max(weights ? sum / weights : power[Math.round(middle)], 1e-4));
      picture.data.set(colour((level + 6.5) / 9.5), ((BANDS - 1 - band) * columns + column) * 4);
    }
  }
  draw.putImageData(picture, 0, 0);
  return made;
}

// From black over violet and orange to pale yellow, for a level in [0, 1].
const STOPS = [[0, 0, 4], [60, 15, 112], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]];

function colour(level) {
  const place = Math.max(0, Math.min(level, 0.9999)) * (STOPS.length - 1), at = Math.floor(place), part = place - at;
  return [...STOPS[at].map((from, i) => from + (STOPS[at + 1][i] - from) * part), 255];
}

// The fast Fourier transform in place; a power of two.
function transform(real, imaginary) {
  const size = real.length;
  for (let i = 1, j = 0; i < size; i++) {
    let bit = size >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [real[i], real[j], imaginary[i], imaginary[j]] = [real[j], real[i], imaginary[j], imaginary[i]];
  }
  for (let length = 2; length <= size; length <<= 1) {
    const half = length >> 1;
    for (let k = 0; k < half; k++) {
      const c = Math.cos((2 * Math.PI * k) / length), s = -Math.sin((2 * Math.PI * k) / length);
      for (let i = k; i < size; i += length) {
        const r = real[i + half] * c - imaginary[i + half] * s, m = real[i + half] * s + imaginary[i + half] * c;
        real[i + half] = real[i] - r;
        imaginary[i + half] = imaginary[i] - m;
        real[i] += r;
        imaginary[i] += m;
      }
    }
  }
}
