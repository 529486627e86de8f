// Text: a canvas that fills, or a text that grows; what was settled last stands out.

import { element } from "../tools.js";
import { stepsOf } from "./steps.js";

export const prefers = "snapshots";

const OPEN = /^░+$/; // how texts on the way read where nothing is settled yet

export function create() {
  const canvas = element("div", { class: "text", id: "text", tabindex: "0" });
  const steps = stepsOf((about, last, before) => canvas.replaceChildren(...drawn(about, last, before)));
  const facts = element("details", { hidden: true }, element("summary", {}, "Facts"), element("pre", { tabindex: "0" }));
  const box = element("div", {}, canvas, steps.box, facts);
  let joined = "";

  function show({ about }, last) {
    steps.add(about, last);
    joined = about.text;
    facts.hidden = !last || !Object.keys(about.facts).length;
    facts.lastChild.textContent = JSON.stringify(about.facts, null, 1);
  }

  function add({ about }) { // a piece that goes on where the last one ended
    canvas.querySelector(".new")?.classList.remove("new");
    canvas.append(element("span", { class: "new" }, about.text));
    joined += about.text;
  }

  return {
    element: box, show, add,
    end: () => canvas.querySelector(".new")?.classList.remove("new"),
    get file() { return { content: joined, type: "text/plain;charset=utf-8", format: "txt" }; },
  };
}

// Tokens as spans: what was given is faint, what the last step settled is marked, what is open is pale.
function drawn(about, last, before) {
  if (!about.pieces.length || about.order.length !== about.pieces.length) return [about.text];
  const newest = Math.max(...about.order);
  return about.pieces.map((piece, at) => {
    const step = about.order[at];
    const changed = before && before.pieces.length === about.pieces.length ? before.pieces[at] !== piece : step === newest;
    const open = step < 0 && OPEN.test(piece);
    const kind = open ? "open" : step < 0 ? "given" : !last && changed ? "new" : "";
    return element("span", { class: kind, title: open ? "open" : step < 0 ? "given" : `step ${step + 1}` }, piece);
  });
}
