// Image: a picture, in the steps in which it is made.

import { bytesOf, element, urlOf } from "../tools.js";
import { stepsOf } from "./steps.js";

export const prefers = "snapshots";

export function create(model) {
  const picture = element("img", { class: "picture", alt: `picture by ${model.id}` });
  const steps = stepsOf((state) => {
    picture.src = state.url;
    picture.width = Math.max(state.width ?? 0, 384);
    picture.classList.toggle("small", (state.width ?? 512) <= 128);
  });
  const box = element("div", {}, picture, steps.box);
  let file = null;

  function show(told, last) {
    const content = bytesOf(told);
    steps.add({ url: urlOf(content, told.type), ...told.about }, last);
    if (last) file = { content, type: told.type, format: told.format };
  }

  return { element: box, show, add: (told) => show(told, false), get file() { return file; } };
}
