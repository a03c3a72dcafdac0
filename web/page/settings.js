// What a visitor chooses: the form, and the link. A link holds what differs from the defaults.

const DEFAULTS = {
  family: "bert", teacher_layers: 1, layers: 3, hidden: 64, soft: "4 -> 1 linear", temperature: "2", start: "fresh", seed: 1, lr: 0.005,
  steps: 300, teacher_steps: 300, batch: 16, length: 64,
};
const RANGES = {
  teacher_layers: [1, 6], layers: [1, 8], hidden: [32, 128], seed: [0, 4294967295], lr: [0.00001, 0.1],
  steps: [1, 20000], teacher_steps: [1, 20000], batch: [1, 128], length: [16, 128],
};
const WORDS = { family: ["bert", "llama"], start: ["fresh", "remap"], hidden: ["32", "64", "128"] };
const NAMES = {
  family: "family", teacher_layers: "teacher layers", layers: "layers", hidden: "width", soft: "weight", temperature: "temperature", start: "start",
  seed: "seed", lr: "learning rate", steps: "steps", teacher_steps: "teacher steps", batch: "rows", length: "length",
};

// Not `form.elements[name]`: `length` is the number of fields there.
const field = (form, name) => form.querySelector(`[name="${name}"]`);

export const defaults = () => ({ ...DEFAULTS });

/// A value of a setting from text; undefined when it is none.
function read(name, text) {
  if (WORDS[name] && !WORDS[name].includes(text)) return undefined;
  if (!(name in RANGES)) return text.length > 0 && text.length <= 200 ? text : undefined;
  const value = Number(text), [low, high] = RANGES[name];
  const whole = name === "lr" || Number.isInteger(value);
  return text.trim() !== "" && whole && value >= low && value <= high ? value : undefined;
}

/// The settings of a link, and what of it makes no sense.
export function fromLink(query) {
  const settings = defaults(), wrong = [], rest = {};
  for (const [name, text] of new URLSearchParams(query)) {
    if (name === "device") { if (["cpu", "wgpu"].includes(text)) rest.device = text; else wrong.push(`${name}=${text}`); continue; }
    if (name === "v") { if (text !== "1") wrong.push(`v=${text}`); continue; }
    const value = name in DEFAULTS ? read(name, text) : undefined;
    if (value === undefined) wrong.push(`${name}=${text}`.slice(0, 60));
    else settings[name] = value;
  }
  return { settings, wrong, ...rest };
}

export function toLink(settings, device) {
  const query = new URLSearchParams({ v: "1" });
  for (const [name, value] of Object.entries(settings)) if (name in DEFAULTS && value !== DEFAULTS[name]) query.set(name, value);
  if (device) query.set("device", device);
  return `?${query}`;
}

/// The settings of the form; marks and names what can't be.
export function fromForm(form, old) {
  const settings = { ...old }, wrong = [];
  for (const name of Object.keys(DEFAULTS)) {
    const input = field(form, name);
    if (!input) continue;
    const value = read(name, String(input.value));
    input.classList.toggle("wrong", value === undefined);
    input.setAttribute("aria-invalid", String(value === undefined));
    if (value === undefined) wrong.push(NAMES[name] + (RANGES[name] ? ` (${RANGES[name].join(" to ")})` : ""));
    else settings[name] = value;
  }
  return { settings, wrong };
}

export function toForm(form, settings) {
  for (const [name, value] of Object.entries(settings)) { const input = field(form, name); if (input) input.value = value; }
}

/// What makes a run another one than the first: "weight 1, seed 2".
export function differences(settings, from) {
  const parts = Object.keys(DEFAULTS).filter((name) => settings[name] !== from[name]).map((name) => `${NAMES[name]} ${settings[name]}`);
  return parts.join(", ");
}
