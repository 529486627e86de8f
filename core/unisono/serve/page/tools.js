// Tools: elements, files of answers, sizes and times in words.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name === "on") for (const [event, call] of Object.entries(value)) made.addEventListener(event, call);
    else if (name === "value") made.value = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

export function bytesOf(told) {
  return Uint8Array.from(atob(told.data), (letter) => letter.charCodeAt(0));
}

const held = new Set(); // URLs of what is shown now, freed at the next request

export function urlOf(content, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  held.add(url);
  return url;
}

export function freeUrls() {
  for (const url of held) URL.revokeObjectURL(url);
  held.clear();
}

export function saveLink(content, type, name) {
  return element("a", { href: urlOf(content, type), download: name }, `Save ${name}`);
}

export function seconds(number) {
  return `${number.toFixed(number < 10 ? 2 : 1)} s`;
}

export function named(model, format) {
  return `${model}.${format}`;
}
