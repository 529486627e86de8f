// Form: a control for each field of a request; what is empty is left out, and the model's own default holds.

import { element } from "./tools.js";
import { arranged, fieldOf } from "./schema.js";

export class Form {
  constructor(place, schema, about) {
    this.place = place;
    this.controls = new Map();
    const fields = Object.entries(schema.properties).map(([name, given]) => fieldOf(name, given, schema));
    const [first, rest] = arranged(fields, about.text_field);
    const made = (field) => this.add(field, field.name === about.text_field, about.choices?.[field.name] ?? []);
    place.replaceChildren(...first.map(made));
    if (rest.length) {
      this.fold = element("details", { id: "more" }, element("summary", {}, `${rest.length} more fields`), ...rest.map(made));
      place.append(this.fold);
    }
  }

  add(field, main, choices) {
    const id = `field-${field.name}`;
    const control = CONTROLS[field.name === "seed" ? "seed" : field.control](field, id, main, choices);
    const standard = field.standard === undefined || field.standard === null ? "" : `default ${JSON.stringify(field.standard)}`;
    const needed = field.optional ? "" : "required";
    const help = [field.help, field.range, standard, needed, control.hint].filter(Boolean).join("; ");
    const fault = element("p", { class: "fault", id: `${id}-fault`, role: "alert", hidden: true });
    control.input.setAttribute("aria-describedby", `${id}-help ${id}-fault`);
    if (!field.optional) control.input.setAttribute("aria-required", "true");
    const box = element("div", { class: "field", "data-field": field.name, "data-control": field.control },
      element("label", { for: id }, field.name), control.box ?? control.input,
      element("p", { class: "help", id: `${id}-help` }, help), fault);
    this.controls.set(field.name, { ...control, field, fault });
    return box;
  }

  // Fields that are set, as JSON texts; null, with sentences beside the fields, where one cannot be sent.
  async read() {
    this.clearFaults();
    const fields = new Map();
    let fine = true;
    for (const [name, control] of this.controls) {
      try {
        const read = await control.read();
        if (read !== null) fields.set(name, typeof read === "string" ? { json: read } : read);
        else if (!control.field.optional) throw new Error(`${name} is required: give it`);
      } catch (error) {
        fine = false;
        this.showFault(name, error.message);
      }
    }
    return fine ? fields : null;
  }

  // Takes fields as JSON texts (of a link or an example); all others are emptied. Returns names that are not here.
  write(texts) {
    this.clearFaults();
    for (const [name, control] of this.controls) control.write(texts.get(name) ?? null);
    return [...texts.keys()].filter((name) => !this.controls.has(name));
  }

  clearFaults() {
    for (const { input, fault } of this.controls.values()) {
      input.removeAttribute("aria-invalid");
      fault.hidden = true;
    }
  }

  showFault(name, sentence) {
    const control = this.controls.get(name);
    if (!control) return false;
    control.input.setAttribute("aria-invalid", "true");
    control.fault.textContent = sentence;
    control.fault.hidden = false;
    if (this.fold?.contains(control.input)) this.fold.open = true;
    control.input.focus();
    return true;
  }
}

const MOST_OPTIONS = 200; // of a list to choose from; more are typed, with suggestions

const plain = (json) => {
  const value = JSON.parse(json);
  return typeof value === "string" ? value : json;
};
const written = (input, of = plain) => (json) => (input.value = json === null || json === "null" ? "" : of(json));
const standardText = ({ standard }) => (typeof standard === "string" ? standard : standard == null ? "" : JSON.stringify(standard));

function numeral(field, text) {
  const trimmed = text.trim();
  if (trimmed === "") return null;
  const form = field.whole ? /^-?\d+$/ : /^-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
  if (!form.test(trimmed)) throw new Error(`${field.name}: ${trimmed} is no ${field.whole ? "whole number" : "number"}: type digits`);
  return field.whole ? String(BigInt(trimmed)) : String(Number(trimmed));
}

function line(field, id, attributes = {}) {
  return element("input", { id, type: "text", autocomplete: "off", placeholder: standardText(field), ...attributes });
}

const CONTROLS = {
  text(field, id, main, choices) {
    if (choices.length && choices.length <= MOST_OPTIONS) return CONTROLS.select({ ...field, values: choices }, id);
    const input = main ? element("textarea", { id, rows: 4, placeholder: standardText(field) }) : line(field, id);
    const read = () => (input.value === "" ? null : JSON.stringify(input.value));
    return { input, read, write: written(input), ...offered(input, choices) };
  },
  either(field, id, main, choices) {
    const input = line(field, id);
    const read = () => {
      const text = input.value.trim();
      if (text === "") return null;
      return /^-?\d+$/.test(text) || /^".*"$/.test(text) ? text : JSON.stringify(input.value);
    };
    const { box, hint } = offered(input, choices);
    return { input, box, read, write: written(input), hint: `digits are a number, "3" in quotes is a text${hint && `; ${hint}`}` };
  },
  number(field, id) {
    const input = line(field, id, { inputmode: field.whole && !(field.low < 0) ? "numeric" : "decimal" });
    return { input, read: () => numeral(field, input.value), write: written(input) };
  },
  digits(field, id) {
    return CONTROLS.number({ ...field, whole: true }, id);
  },
  seed(field, id) {
    const { input, read, write } = CONTROLS.digits(field, id);
    const draw = () => (input.value = String(crypto.getRandomValues(new Uint32Array(1))[0]));
    const another = element("button", { type: "button", id: "another", on: { click: draw } }, "Another");
    return { input, box: element("div", { class: "seed" }, input, another), read, write };
  },
  slider(field, id) {
    const step = field.schema.multipleOf ?? (field.whole ? 1 : 10 ** (Math.floor(Math.log10(field.high - field.low)) - 2));
    const standard = field.standard ?? field.low;
    const slide = element("input", { type: "range", min: field.low, max: field.high, step, "aria-label": `${field.name}, as a slider` });
    slide.value = standard;
    const input = line(field, id, { inputmode: "decimal", "data-low": field.low, "data-high": field.high });
    slide.addEventListener("input", () => (input.value = String(Number(Number(slide.value).toPrecision(12)))));
    input.addEventListener("input", () => (slide.value = input.value === "" ? standard : input.value));
    const write = (json) => {
      written(input)(json);
      slide.value = input.value === "" ? standard : input.value;
    };
    return { input, box: element("div", { class: "pair" }, slide, input), read: () => numeral(field, input.value), write };
  },
  tick(field, id) {
    if (typeof field.standard !== "boolean") {
      return CONTROLS.select({ ...field, values: [true, false] }, id);
    }
    const input = element("input", { id, type: "checkbox" });
    input.checked = field.standard;
    const read = () => (input.checked === field.standard ? null : String(input.checked));
    return { input, read, write: (json) => (input.checked = json === null ? field.standard : json === "true") };
  },
  select(field, id) {
    const name = (value) => (typeof value === "string" ? value : JSON.stringify(value));
    const none = field.optional ? [element("option", { value: "" }, field.standard == null ? "(left out)" : `${name(field.standard)} (default)`)] : [];
    const values = field.values.filter((value) => !field.optional || field.standard == null || value !== field.standard);
    const input = element("select", { id }, ...none, ...values.map((value) => element("option", { value: JSON.stringify(value) }, name(value))));
    const write = (json) => (input.value = json === null || json === "null" || json === JSON.stringify(field.standard) ? (field.optional ? "" : json ?? "") : json);
    return { input, read: () => input.value || null, write };
  },
  json(field, id) {
    const input = element("textarea", { id, rows: 2, class: "json", spellcheck: "false", placeholder: standardText(field) });
    const read = () => {
      if (input.value.trim() === "") return null;
      try {
        JSON.parse(input.value);
      } catch (error) {
        throw new Error(`${field.name}: this is no JSON (${error.message}): mend it`);
      }
      return input.value.trim();
    };
    return { input, read, write: written(input, (json) => json), hint: `JSON, such as ${sample(field.schema)}` };
  },
  file(field, id) {
    const input = element("input", field.accept ? { id, type: "file", accept: field.accept } : { id, type: "file" });
    const read = async () => {
      const file = input.files[0];
      if (!file) return null;
      const bytes = new Uint8Array(await file.arrayBuffer());
      let text = "";
      for (let at = 0; at < bytes.length; at += 32_768) text += String.fromCharCode(...bytes.subarray(at, at + 32_768));
      const type = /^[\w.+-]+\/[\w.+-]+$/.test(file.type) ? file.type : "application/octet-stream";
      const name = file.name.replace(/[;,]/g, "_");
      return { json: JSON.stringify(`data:${type};name=${name};base64,${btoa(text)}`), file: { name, type } };
    };
    return { input, read, write: () => (input.value = ""), hint: "a file of yours" };
  },
};

// Values that the model knows beside what the schema says, as suggestions.
function offered(input, choices) {
  if (!choices.length) return { box: input, hint: "" };
  const list = element("datalist", { id: `${input.id}-list` }, ...choices.map((choice) => element("option", { value: choice })));
  input.setAttribute("list", list.id);
  const few = choices.slice(0, 12).join(", ") + (choices.length > 12 ? " …" : "");
  return { box: element("div", {}, input, list), hint: `one of ${few}` };
}

function sample(schema) {
  const parts = schema.anyOf ?? [schema];
  const kind = parts.find((part) => part.type === "array" || part.type === "object") ?? parts[0];
  if (kind.prefixItems) return `[${kind.prefixItems.map(sample).join(", ")}]`;
  if (kind.type === "array") return `[${sample(kind.items ?? {})}, …]`;
  if (kind.type === "object") return '{"name": …}';
  return { string: '"text"', integer: "1", number: "0.5", boolean: "true" }[kind.type] ?? "1";
}
