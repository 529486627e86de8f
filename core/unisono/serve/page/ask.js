// Ask: requests to the server, whole or as events; a refusal is an Error with the field that is at fault.

let key = sessionStorage.getItem("unisono-key") || "";

export function setKey(given) {
  key = given;
  sessionStorage.setItem("unisono-key", given);
}

export const hasKey = () => key !== "";

export class Refusal extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.field = String(error.param ?? "").split(".")[0];
  }
}

async function refusalOf(answer) {
  let error = { message: `the server answered ${answer.status}` };
  try {
    error = (await answer.json()).error ?? error;
  } catch {
    // an answer of something between, in no form of ours
  }
  return new Refusal(answer.status, error);
}

export async function ask(path, body, options = {}) {
  const headers = { ...(options.accept ? { Accept: options.accept } : {}) };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const method = body === undefined ? "GET" : "POST";
  const answer = await fetch(path, { method, headers, body, signal: options.signal });
  if (!answer.ok) throw await refusalOf(answer);
  return answer;
}

// Server-sent events of a POST, which EventSource cannot send: yields [name, data].
export async function* events(path, body, signal) {
  const answer = await ask(path, body, { signal });
  const reader = answer.body.getReader(), decoder = new TextDecoder();
  let waiting = "", whole = false;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    waiting += decoder.decode(value, { stream: true });
    const blocks = waiting.split("\n\n");
    waiting = blocks.pop();
    for (const block of blocks) {
      const lines = Object.fromEntries(block.split("\n").map((line) => {
        const at = line.indexOf(": ");
        return [line.slice(0, at), line.slice(at + 2)];
      }));
      const data = JSON.parse(lines.data);
      if (lines.event === "error") throw new Refusal(500, data.error);
      if (lines.event === "done") whole = true;
      yield [lines.event, data];
    }
  }
  if (!whole) throw new Refusal(500, { message: "the answer was cut: the server ended it before its end" });
}
