// Steps: keeps what was shown while something was made, with a slider to go back.

import { element } from "../tools.js";

const MOST = 512; // states kept; of more, every other one is dropped

export function stepsOf(draw) {
  let kept = [], every = 1, seen = 0;
  const slide = element("input", { type: "range", min: 0, "aria-label": "step", id: "step" });
  const told = element("span", { class: "help" });
  const box = element("div", { class: "row", hidden: true }, element("label", { for: "step" }, "Step"), slide, told);
  slide.addEventListener("input", () => show(Number(slide.value)));

  function show(at) {
    told.textContent = `${at + 1} of ${kept.length}`;
    draw(kept[at], at === kept.length - 1, kept[at - 1]);
  }

  function add(state, last) {
    if (last) kept.pop(); // the last one came as a step already
    if (last || seen++ % every === 0) kept.push(state);
    if (kept.length > MOST) {
      kept = kept.filter((_, at) => at % 2 === 0);
      every *= 2;
    }
    slide.max = kept.length - 1;
    slide.value = slide.max;
    box.hidden = kept.length < 2;
    if (kept.length) show(kept.length - 1);
  }

  return { box, add, get count() { return kept.length; } };
}
