// Page: chooses a model, reads its form, asks, and gives what comes back to the medium's view.

import { ask, events, hasKey, Refusal, setKey } from "./ask.js";
import { Form } from "./form.js";
import { bodyOf, curlOf, linkOf, pythonOf, requestOf } from "./lines.js";
import { bytesOf, element, freeUrls, named, saveLink, seconds } from "./tools.js";

const $ = (id) => document.getElementById(id);
let models = [], model, form, module, view, running;

async function start() {
  try {
    models = (await (await ask("/v1/models")).json()).data;
  } catch (error) {
    if (error.status !== 401) return tell(error.message);
    $("key-form").hidden = false;
    if (hasKey()) tell(error.message);
    return;
  }
  $("key-form").hidden = true;
  $("fault").hidden = true;
  $("model").replaceChildren(...models.map(({ id }) => element("option", { value: id }, id)));
  $("docs").hidden = hasKey(); // a link sends no key
  $("choose").hidden = models.length < 2;
  await follow();
}

// Shows the request of the address; without one, the first model.
async function follow() {
  const linked = requestOf(location.hash);
  const chosen = models.find(({ id }) => id === linked?.model) ?? models[0];
  await choose(chosen);
  if (linked && linked.model !== chosen.id) tell(`no model ${linked.model} is served here: this is ${chosen.id}`);
  else if (linked?.fields.size) fill(linked.fields);
}

function fill(fields) {
  let strange;
  try {
    strange = form.write(fields);
  } catch {
    form.write(new Map());
    return tell("the link holds a field that is no JSON: it is cut; ask for it again");
  }
  if (strange.length) tell(`${model.id} has no field ${strange.join(", ")}: the link was made for another version`);
}

async function choose(chosen) {
  running?.abort();
  const of = `/v1/models/${encodeURIComponent(chosen.id)}`;
  const [schema, page] = await Promise.all([ask(`${of}/schema`), ask(`${of}/page`)].map(async (answer) => (await answer).json()));
  model = { ...chosen, ...page };
  module = await import(page.view);
  $("model").value = chosen.id;
  document.title = `${chosen.id} · unisono`;
  $("about").textContent = [chosen.id, chosen.model, page.size, chosen.licence].filter(Boolean).join(" · ");
  form = new Form($("fields"), schema, model);
  const options = model.examples.map((example, at) => element("option", { value: at }, titleOf(example)));
  $("example").replaceChildren(...options, element("option", { value: "" }, "(empty)"));
  $("examples").hidden = !options.length;
  $("live-label").hidden = howShown() === "whole";
  freeUrls();
  $("view").replaceChildren();
  $("save").replaceChildren();
  $("fault").hidden = $("same").hidden = true;
  $("status").textContent = "Nothing was made yet.";
  $("ask").hidden = $("made").hidden = false;
  if (model.examples.length) fill(new Map(Object.entries(model.examples[0])));
}

// What an example is called: its text, and what sets it apart.
function titleOf(example) {
  const { [model.text_field]: text, ...others } = example;
  const told = Object.entries(others).map(([name, json]) => `${name}=${json.replaceAll('"', "")}`);
  return [...(text ? [String(JSON.parse(text)).slice(0, 60)] : []), ...told].join(" · ");
}

// In pieces that follow one another, as a whole in steps, or at once; by what the model does and the view prefers.
function howShown() {
  const able = { pieces: model.streams, snapshots: model.snapshots };
  return [module.prefers, "pieces", "snapshots"].find((how) => able[how]) ?? "whole";
}

function tell(sentence) {
  $("made").hidden = false;
  $("fault").textContent = sentence;
  $("fault").hidden = false;
}

async function make(event) {
  event.preventDefault();
  running?.abort();
  const fields = await form.read();
  if (fields === null) return;
  $("fault").hidden = true;
  freeUrls();
  const control = (running = new AbortController());
  const name = model.id, begun = performance.now();
  const how = $("live").checked ? howShown() : "whole";
  history.replaceState(null, "", linkOf(name, fields));
  view?.stop?.();
  view = module.create(model);
  $("view").replaceChildren(view.element);
  $("save").replaceChildren();
  $("go").disabled = true;
  $("stop").disabled = false;
  $("made").setAttribute("aria-busy", "true");
  const since = () => seconds((performance.now() - begun) / 1000);
  let number = 0, first = "", last;
  const told = () => $("status").textContent = number ? `${number} ${how === "pieces" ? "pieces" : "steps"}, ${since()}${first}` : `Working: ${since()}`;
  const clock = setInterval(told, 200);
  told();
  try {
    const body = bodyOf(fields);
    const format = module.format && model.formats.includes(module.format) ? module.format : model.formats[0];
    const path = `/v1/models/${encodeURIComponent(name)}`;
    if (how === "whole") {
      last = await (await ask(`${path}?format=json`, body, { signal: control.signal })).json();
      view.show(last, true);
    } else {
      for await (const [kind, data] of events(`${path}/stream?view=${how}&format=${format}`, body, control.signal)) {
        if (kind === "done") continue;
        if (!number++) first = `; the first after ${since()}`;
        last = data;
        how === "pieces" ? view.add(data) : view.show(data, false);
      }
      if (last && how === "snapshots") view.show(last, true);
    }
    view.end?.();
    const seed = fields.get("seed")?.json ?? "0";
    const length = view.seconds ?? last?.about?.seconds;
    $("status").textContent = [`Made in ${since()}${first}`, length ? `${seconds(length)} long` : "", `seed ${seed}`].filter(Boolean).join("; ");
    showSame(name, fields, format);
    showSave(name, body, how === "pieces" ? null : last);
  } catch (error) {
    if (error.name === "AbortError") $("status").textContent = `Stopped after ${since()}.`;
    else {
      $("status").textContent = "Nothing was made.";
      if (!(error instanceof Refusal && form.showFault(error.field, error.message))) tell(error.message);
      if (error.status === 401) $("key-form").hidden = false;
    }
  } finally {
    clearInterval(clock);
    if (running === control) {
      $("go").disabled = false;
      $("stop").disabled = true;
      $("made").removeAttribute("aria-busy");
    }
  }
}

function showSame(name, fields, format) {
  $("link").textContent = linkOf(name, fields);
  $("curl").textContent = curlOf(name, fields, format, hasKey());
  $("python").textContent = pythonOf(name, model.load, fields, format);
  $("same").hidden = false;
}

// The file that came, and a button for each other format, which asks once more for the same.
function showSave(name, body, last) {
  const made = view.file ?? (last && { content: bytesOf(last), type: last.type, format: last.format });
  const links = made ? [saveLink(made.content, made.type, named(name, made.format))] : [];
  const others = model.formats.filter((format) => format !== made?.format).map((format) => {
    const button = element("button", { type: "button", on: { click: save } }, format);
    async function save() {
      button.disabled = true;
      try {
        const answer = await ask(`/v1/models/${encodeURIComponent(name)}?format=${format}`, body);
        const link = saveLink(await answer.blob(), "", named(name, format));
        button.replaceWith(link);
        link.click();
      } catch (error) {
        button.disabled = false;
        tell(error.message);
      }
    }
    return button;
  });
  $("save").replaceChildren(...links, ...(others.length ? ["as", ...others] : []));
}

$("form").addEventListener("submit", make);
$("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});
$("stop").addEventListener("click", () => {
  running?.abort();
  view?.stop?.();
});
$("model").addEventListener("change", () => {
  history.replaceState(null, "", `/#${encodeURIComponent($("model").value)}`);
  follow();
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey($("key").value);
  start();
});
$("example").addEventListener("change", () => {
  const { value } = $("example");
  fill(new Map(value === "" ? [] : Object.entries(model.examples[value])));
});
addEventListener("hashchange", () => models.length && follow());
start().catch((error) => tell(error.message));
