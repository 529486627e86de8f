// Motion: a skeleton that moves, seen from any side; `unisono serve` shows it on its page.

import { bytesOf, element } from "../tools.js";

export const prefers = "snapshots";

export function create() {
  const canvas = element("canvas", { class: "wide", tabindex: "0", role: "img" });
  const play = element("button", { type: "button", on: { click: () => turn(!playing) } }, "Pause");
  const slide = element("input", { type: "range", min: 0, "aria-label": "frame", on: { input: () => { turn(false); draw(Number(slide.value)); } } });
  const row = element("div", { class: "row" }, play, slide);
  const help = element("p", { class: "help" }, "Drag, or press the arrow keys, to look from another side.");
  const box = element("div", { id: "motion" }, canvas, row, help);
  let motion = null, file = null, frame = 0, angle = 0.6, tilt = 0.25, playing = false, begun = 0, scene = null;

  function show(told, last) {
    motion = told.about;
    scene = bounds(motion.positions);
    slide.max = motion.positions.length - 1;
    canvas.setAttribute("aria-label", `${motion.caption || "motion"}: ${motion.seconds.toFixed(2)} seconds, ${motion.parents.length} joints`);
    if (last) file = { content: bytesOf(told), type: told.type, format: told.format };
    if (!playing) turn(!matchMedia("(prefers-reduced-motion: reduce)").matches);
    draw(Math.min(frame, motion.positions.length - 1));
  }

  function turn(on) {
    play.textContent = on ? "Pause" : "Play";
    if (on && !playing) {
      begun = performance.now() - (frame / motion.fps) * 1000;
      playing = true;
      requestAnimationFrame(step);
    }
    playing = on;
  }

  function step(now) {
    if (!playing || !canvas.isConnected) return;
    draw(Math.floor((Math.max(now - begun, 0) / 1000) * motion.fps) % motion.positions.length);
    requestAnimationFrame(step);
  }

  function draw(at) {
    frame = at;
    slide.value = at;
    box.dataset.frame = at;
    const sharp = Math.min(devicePixelRatio || 1, 2), width = canvas.clientWidth || 640, height = Math.min(width * 0.62, 460);
    canvas.style.height = `${height}px`;
    canvas.width = width * sharp;
    canvas.height = height * sharp;
    const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
    pen.scale(sharp, sharp);
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)], [ct, st] = [Math.cos(tilt), Math.sin(tilt)];
    const scale = Math.min(height / (scene.height * 1.15), width / (scene.reach * 2.1));
    const project = ([x, y, z]) => {
      const [dx, dz] = [x - scene.x, z - scene.z], across = dx * cos - dz * sin, deep = dx * sin + dz * cos;
      return [width / 2 + across * scale, height * 0.9 - ((y - scene.ground) * ct - deep * st) * scale - scene.reach * st * scale * 0.3];
    };
    pen.strokeStyle = style.getPropertyValue("--line");
    pen.lineWidth = 1;
    const side = Math.ceil(scene.reach);
    for (let i = -side; i <= side; i++) {
      line(pen, project([scene.x + i, scene.ground, scene.z - side]), project([scene.x + i, scene.ground, scene.z + side]));
      line(pen, project([scene.x - side, scene.ground, scene.z + i]), project([scene.x + side, scene.ground, scene.z + i]));
    }
    const pose = motion.positions[at].map(project);
    pen.strokeStyle = style.getPropertyValue("--strong");
    pen.lineWidth = 4;
    pen.lineCap = "round";
    motion.parents.forEach((parent, joint) => parent >= 0 && line(pen, pose[parent], pose[joint]));
    pen.fillStyle = style.getPropertyValue("--ink");
    for (const [x, y] of pose) {
      pen.beginPath();
      pen.arc(x, y, 2.5, 0, 2 * Math.PI);
      pen.fill();
    }
  }

  const look = (dx, dy) => {
    angle += dx;
    tilt = Math.max(0, Math.min(1.2, tilt + dy));
    if (motion) draw(frame);
  };
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", (event) => event.buttons && look(event.movementX / 150, event.movementY / 200));
  const keys = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
  canvas.addEventListener("keydown", (event) => {
    if (!keys[event.key]) return;
    event.preventDefault();
    look(...keys[event.key]);
  });

  return { element: box, show, add: (told) => show(told, true), stop: () => motion && turn(false), get file() { return file; } };
}

function line(pen, from, to) {
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
}

// Where the whole motion lies: its middle on the ground, its height, and how far it goes from there.
function bounds(positions) {
  const points = positions.flat(), of = (axis) => points.map((point) => point[axis]);
  const least = (numbers) => numbers.reduce((a, b) => Math.min(a, b)), most = (numbers) => numbers.reduce((a, b) => Math.max(a, b));
  const [xs, ys, zs] = [0, 1, 2].map(of), x = (least(xs) + most(xs)) / 2, z = (least(zs) + most(zs)) / 2;
  const reach = Math.max(1, most(points.map((point) => Math.hypot(point[0] - x, point[2] - z))));
  return { x, z, ground: least(ys), height: Math.max(1, most(ys) - least(ys)), reach };
}
