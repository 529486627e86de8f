// Schema: what a JSON schema says of one field, as the form needs it.

// Every keyword of JSON schema that the form acts on, or that needs no act of its own; a test holds the requests of all
// shipped models against it.
export const HANDLED = [
  "$defs", "$ref", "additionalProperties", "allOf", "anyOf", "const", "default", "description", "enum",
  "examples", "exclusiveMaximum", "exclusiveMinimum", "format", "items", "maxItems", "maxLength", "maximum", "minItems",
  "minLength", "minimum", "multipleOf", "pattern", "prefixItems", "properties", "required", "title", "type",
  "x-suffixes",
];

const SLIDER_RANGE = 20_000; // bounds further apart than this are typed
const FINEST = 1 / 200; // of a slider; a default that is nearer to the lower bound is typed

export function fieldOf(name, given, whole) {
  const resolved = (part) => {
    const reference = part.$ref ?? (part.allOf?.length === 1 ? part.allOf[0].$ref : undefined);
    return reference ? { ...whole.$defs[reference.split("/").pop()], ...part } : part;
  };
  const schema = resolved(given);
  const parts = (schema.anyOf ?? [schema]).map(resolved);
  const kinds = parts.filter((part) => part.type !== "null");
  const one = kinds.length === 1 ? { ...schema, ...kinds[0] } : schema;
  const optional = kinds.length < parts.length || "default" in schema || !(whole.required ?? []).includes(name);
  const field = { name, schema: one, help: schema.description ?? "", optional, standard: schema.default };
  return { ...field, ...controlOf(one, kinds), range: rangeOf(one) };
}

function controlOf(schema, kinds) {
  if (schema.format === "file-path") return { control: "file", accept: (schema["x-suffixes"] ?? []).join(",") };
  const values = schema.enum ?? ("const" in schema ? [schema.const] : null);
  if (values) return { control: "select", values };
  const types = new Set(kinds.map((kind) => kind.type));
  if (types.size === 1) {
    const [type] = types;
    if (type === "boolean") return { control: "tick" };
    if (type === "string") return { control: "text" };
    if (type === "integer" || type === "number") {
      const whole = type === "integer";
      const low = schema.minimum ?? schema.exclusiveMinimum, high = schema.maximum ?? schema.exclusiveMaximum;
      if (high > Number.MAX_SAFE_INTEGER || low < Number.MIN_SAFE_INTEGER) return { control: "digits", whole };
      const near = (schema.default ?? low) - low;
      const bounded = high - low <= SLIDER_RANGE && !(near > 0 && near < (high - low) * FINEST);
      return { control: bounded ? "slider" : "number", whole, low, high };
    }
  } else if ([...types].every((type) => ["string", "integer", "number"].includes(type))) {
    return { control: "either" }; // a number where it reads as one
  }
  return { control: "json" };
}

function rangeOf(schema) {
  const parts = [];
  if (schema.minimum !== undefined) parts.push(`at least ${shown(schema.minimum)}`);
  if (schema.exclusiveMinimum !== undefined) parts.push(`above ${shown(schema.exclusiveMinimum)}`);
  if (schema.maximum !== undefined) parts.push(`at most ${shown(schema.maximum)}`);
  if (schema.exclusiveMaximum !== undefined) parts.push(`below ${shown(schema.exclusiveMaximum)}`);
  if (schema.multipleOf !== undefined) parts.push(`a multiple of ${shown(schema.multipleOf)}`);
  if (schema.minItems !== undefined) parts.push(`at least ${schema.minItems} items`);
  if (schema.maxItems !== undefined) parts.push(`at most ${schema.maxItems} items`);
  if (schema.minLength !== undefined) parts.push(`at least ${schema.minLength} characters`);
  if (schema.maxLength !== undefined) parts.push(`at most ${schema.maxLength} characters`);
  if (schema.pattern !== undefined) parts.push(`of the form ${schema.pattern}`);
  return parts.join(", ");
}

function shown(number) {
  const power = Math.log2(number);
  if (number > Number.MAX_SAFE_INTEGER && Number.isInteger(power)) return `2^${power} − 1`;
  return String(number);
}

// In which order fields stand: what the model is mostly asked with, then the rest as declared; the seed last of the
// first ones, the others behind a fold.
export function arranged(fields, textField) {
  const rank = (field) =>
    field.name === textField ? 0 : !field.optional ? 1 : field.control === "file" ? 2 : field.standard !== null ? 3 : 4;
  const others = fields.filter((field) => field.name !== "seed").sort((a, b) => rank(a) - rank(b));
  const seed = fields.filter((field) => field.name === "seed");
  return others.length <= 8 ? [[...others, ...seed], []] : [[...others.slice(0, 6), ...seed], others.slice(6)];
}
