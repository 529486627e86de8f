// File: any medium that names no view of its own: played, shown or read by its media type; what is known of it as JSON.

import { bytesOf, element, urlOf } from "../tools.js";

const MOST = 20_000; // characters shown of a text

export function create() {
  const place = element("div");
  const file = {};

  function show(told) {
    const [kind] = told.type.split("/");
    const content = bytesOf(told);
    Object.assign(file, { content, type: told.type, format: told.format });
    const shown = [];
    if (kind === "image") shown.push(element("img", { class: "picture", alt: "output", src: urlOf(content, told.type) }));
    else if (kind === "audio" || kind === "video") shown.push(element(kind, { controls: true, src: urlOf(content, told.type) }));
    else if (kind === "text" || told.type === "application/json") shown.push(text(told, content));
    if (Object.keys(told.about).length) shown.push(element("pre", { tabindex: "0" }, cut(JSON.stringify(told.about, null, 1))));
    if (!shown.length) shown.push(element("p", {}, `${content.length} bytes of ${told.type}`));
    place.replaceChildren(...shown);
  }

  return { element: place, show, add: show, get file() { return file.content ? file : null; } };
}

function text(told, content) {
  let read = new TextDecoder().decode(content);
  if (told.type === "application/json") read = JSON.stringify(JSON.parse(read), null, 1);
  return element("pre", { tabindex: "0" }, cut(read));
}

const cut = (read) => (read.length > MOST ? `${read.slice(0, MOST)}…` : read);
