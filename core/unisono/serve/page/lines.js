// Lines: a request as a body, a link, a curl command and a Python line. Fields are kept as JSON texts, so that whole
// numbers beyond 2^53 stay what they are.

export function bodyOf(fields) {
  return `{${[...fields].map(([name, field]) => `${JSON.stringify(name)}: ${field.json}`).join(", ")}}`;
}

export function linkOf(model, fields) {
  const kept = [...fields].filter(([, field]) => !field.file).map(([name, field]) => [name, field.json]);
  return `${location.origin}/#${encodeURIComponent(model)}?${new URLSearchParams(kept)}`;
}

export function requestOf(hash) {
  const at = hash.indexOf("?");
  if (!hash.startsWith("#") || hash.length < 2) return null;
  const decoded = (text) => {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  };
  const model = decoded(at < 0 ? hash.slice(1) : hash.slice(1, at));
  return { model, fields: at < 0 ? new Map() : new Map(new URLSearchParams(hash.slice(at + 1))) };
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export function curlOf(model, fields, format, withKey) {
  let body = "", text = "{"; // what is quoted so far, and what comes next
  let comma = "";
  for (const [name, field] of fields) {
    text += `${comma}${JSON.stringify(name)}: `;
    comma = ", ";
    if (field.file) {
      const before = JSON.stringify(`data:${field.file.type};name=${field.file.name};base64,`).slice(0, -1);
      body += `${quoted(text + before)}"$(base64 -w0 ${quoted(field.file.name)})"`;
      text = '"';
    } else text += field.json;
  }
  body += quoted(`${text}}`);
  const key = withKey ? ` -H "Authorization: Bearer $UNISONO_SERVE_KEY"` : "";
  return `curl -f "${location.origin}/v1/models/${model}?format=${format}"${key} -H 'Content-Type: application/json' -d ${body} -o ${model}.${format}`;
}

export function pythonOf(model, load, fields, format) {
  const word = { true: "True", false: "False", null: "None" };
  const python = (json) => json.replace(/"(?:[^"\\]|\\.)*"|true|false|null/g, (found) => word[found] ?? found);
  const given = [...fields].map(([name, field]) => `${name}=${field.file ? JSON.stringify(field.file.name) : python(field.json)}`);
  return `import unisono\nunisono.load(${JSON.stringify(load)})(${given.join(", ")}).save("${model}.${format}")`;
}
