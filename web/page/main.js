// The page: what a visitor sees and does. Everything that computes is in the worker.

import { draw, number, smooth } from "./chart.js";
import { browserReport, gpu } from "./browser.js";
import { readDropped, showSteps, showReport } from "./dropped.js";
import { defaults, differences, fromForm, fromLink, toForm, toLink } from "./settings.js";
import { allRuns, forgetRun, forgetSession, keepRun, lastSession } from "./store.js";

const $ = (id) => document.getElementById(id);
const form = $("settings");
const ROLES = {
  teacher: { name: "teacher", title: "Teacher", colour: 3, dash: true },
  alone: { name: "alone", title: "Student alone", colour: 0, dash: false },
  distilled: { name: "distilled", title: "Distilled student", colour: 1, dash: false },
};
const SPEEDS = [1000, 300, 100, 30, 0];

const state = {
  settings: defaults(), worker: null, ready: false, about: null, running: false, phase: null, done: [0, 0, 0], records: {},
  runs: [], adapter: null, text: null, asking: false, per: 0, waiting: null, draft: null,
};
// For tests, which drive the page from outside.
window.upstill = state;

// ------------------------------------------------------------------------------------------------ words

function banner(text, { error = false, actions = [] } = {}) {
  const box = $("banner");
  box.className = `banner${error ? " error" : ""}`;
  box.setAttribute("role", error ? "alert" : "status");
  box.replaceChildren(document.createTextNode(text));
  if (actions.length) {
    const row = document.createElement("div");
    for (const [label, act] of actions) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label;
      button.onclick = () => { box.hidden = true; act(); };
      row.append(button);
    }
    box.append(row);
  }
  box.hidden = false;
}

const say = (text) => { if ($("status").textContent !== text) $("status").textContent = text; };

// ------------------------------------------------------------------------------------------------ the worker

function startWorker() {
  state.worker?.terminate();
  state.ready = false;
  state.about = null;
  state.running = state.pausing = false;
  state.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  state.worker.onmessage = ({ data }) => hear[data.kind]?.(data);
  state.worker.onerror = (event) => lost(event.message || "the worker stopped");
}

const tell = (kind, more = {}, transfer = []) => state.worker.postMessage({ kind, ...more }, transfer);
const device = () => form.elements.on.value;
const readEvery = () => (device() === "wgpu" ? 10 : 1);

const hear = {
  ready() {
    state.ready = true;
    tell("speed", { delay: SPEEDS[$("speed").value] });
    if (state.waiting) { const go = state.waiting; state.waiting = null; go(); }
    else if (!state.about) say(`Ready. ${deviceSentence()}`);
    buttons();
  },
  session({ about, records }) {
    state.about = about;
    state.settings = about.settings;
    toForm(form, about.settings);
    state.records = { teacher: [], alone: [], distilled: [] };
    for (const [role, record] of records) state.records[role].push(record);
    state.phase = about.phase;
    state.done = about.done;
    const tries = about.examples.map(isCausal() ? beginning : masked).filter(Boolean);
    $("examples").replaceChildren(...tries.map((text) => Object.assign(document.createElement("option"), { value: text })));
    const what = `${about.settings.family} ${about.own_text}`;
    if (!$("masked").value || what !== state.was) $("masked").value = tries[0] ?? "";
    if (what !== state.was) $("answers").replaceChildren();
    state.was = what;
    words();
    linkNow();
    if (state.draft) { const then = state.draft; state.draft = null; then(); }
    else say(progressSentence());
    buttons();
    redraw();
    ask();
  },
  turn({ turn, ms, running }) {
    // A step that was under way when the pause was asked for still says that it is running.
    state.running = running && !state.pausing;
    state.phase = turn.phase;
    state.done = turn.done;
    state.per = state.per ? 0.8 * state.per + 0.2 * ms : ms;
    for (const [role, record] of turn.records) state.records[role].push(record);
    say(progressSentence());
    if (turn.phase === "done") finished();
    buttons();
    redraw();
    if (turn.records.some(([, record]) => record.held_out_loss !== undefined) || !running) ask();
  },
  paused() { state.pausing = state.running = false; say(`Paused. ${progressSentence()}`); buttons(); },
  kept() {},
  filled({ sentence, models }) {
    state.asking = false;
    if (sentence === $("masked").value) answers(models);
  },
  written({ text, models }) {
    state.asking = false;
    if (text === $("masked").value) texts(models);
  },
  saved({ bytes }) {
    download(new Blob([bytes], { type: "application/zip" }), `upstill-${state.settings.layers}x${state.settings.hidden}-seed${state.settings.seed}.zip`);
    buttons();
  },
  checked(message) { state.checks?.(message); },
  error({ message, fatal, asked }) {
    state.asking = false;
    // A step that failed leaves nothing to go on with but what was saved.
    if (fatal || asked === "turn" || asked === "pause") return lost(message);
    state.running = false;
    if (asked === "check") return state.checks?.({ error: message });
    banner(message, { error: true });
    if (asked === "start" || asked === "open") say("Nothing is running.");
    buttons();
  },
};

/// The worker is gone, with the device or the module: what was saved can go on.
async function lost(message) {
  const kept = await lastSession().catch(() => null);
  const gpuWas = device() === "wgpu";
  startWorker();
  const actions = [["Start again", () => begin(false)]];
  if (kept) actions.unshift([gpuWas ? "Go on from the last save, on the CPU" : "Go on from the last save", () => { if (gpuWas) form.elements.on.value = "cpu"; goOn(kept); }]);
  banner(`The run stopped: ${message}\n${gpuWas ? "The GPU may have been lost or out of memory." : ""}`, { error: true, actions });
  buttons();
}

// ------------------------------------------------------------------------------------------------ running

function whenReady(act) { if (state.ready) act(); else { state.waiting = act; say("Loading the code ..."); } }

/// Begins a session; `then` says what to do once it is there.
function begin(then) {
  const { settings, wrong } = fromForm(form, state.settings);
  if (wrong.length) return banner(`These settings can't be: ${wrong.join(", ")}.`, { error: true });
  const own = form.elements.source.value === "own";
  const text = own ? form.elements.text.value.trim() ? form.elements.text.value : state.text ?? "" : null;
  if (own && !text.trim()) return banner("Paste some text first, or drop a file: some pages at least.", { error: true });
  $("banner").hidden = true;
  state.settings = settings;
  state.about = null;
  state.draft = then || (() => say(progressSentence()));
  state.records = { teacher: [], alone: [], distilled: [] };
  redraw();
  whenReady(() => {
    say(own ? "Reading the text ..." : "Making the text ...");
    tell("start", { settings, text, on: device(), readEvery: readEvery() });
  });
  buttons();
}

function goOn(kept) {
  $("banner").hidden = true;
  state.about = null;
  state.draft = () => say(`Opened. ${progressSentence()}`);
  whenReady(() => { say("Opening ..."); tell("open", { bytes: kept.bytes, on: device(), readEvery: readEvery() }); });
}

function run() { state.running = true; state.pausing = false; tell("run"); buttons(); }

$("go").onclick = () => {
  if (state.running) { state.running = false; state.pausing = true; tell("pause"); say("Pausing ..."); return buttons(); }
  if (!state.about || state.phase === "done") return begin(run);
  run();
};
$("step").onclick = () => { if (state.about && state.phase !== "done") tell("step"); else begin(() => tell("step")); };
$("reset").onclick = () => {
  state.about = null;
  state.running = false;
  state.phase = null;
  state.records = {};
  state.done = [0, 0, 0];
  startWorker();
  forgetSession().catch(() => {});
  $("answers").replaceChildren();
  $("banner").hidden = true;
  words();
  say("Reset.");
  buttons();
  redraw();
};
$("speed").oninput = () => tell("speed", { delay: SPEEDS[$("speed").value] });
$("save").onclick = () => tell("save");

function buttons() {
  const changed = state.about && isChanged();
  $("go").textContent = state.running ? "Pause" : !state.about || state.phase === "done" ? "Start" : "Go on";
  $("step").disabled = state.running || state.phase === "done";
  $("save").disabled = !state.about;
  $("reset").disabled = !state.about && !Object.keys(state.records).length;
  if (changed && !state.running) say("The settings have changed: Reset, then Start, trains with them.");
}

function isChanged() {
  const { settings } = fromForm(form, state.settings);
  return differences(settings, state.about.settings) !== "";
}

function progressSentence() {
  const { settings } = state, [teacher, , distilled] = state.done;
  const rate = state.per ? `, ${number(1000 / state.per)} a second` : "";
  switch (state.phase) {
    case "teacher": return `Teacher: step ${teacher} of ${settings.teacher_steps}${state.running ? rate : ""}. The students come next.`;
    case "students": return `Students: step ${distilled} of ${settings.steps} each${state.running ? rate : ""}.`;
    case "done": return `Done: ${settings.teacher_steps} steps of the teacher, ${settings.steps} of each student.`;
    default: return "Nothing is running.";
  }
}

function deviceSentence() {
  if (!state.adapter) return "This browser offers no WebGPU, so the models train on one core of the CPU: slower, with the same numbers.";
  if (state.adapter.software) return "WebGPU is imitated by the CPU here, so the CPU itself is chosen: the same numbers, sooner.";
  return device() === "wgpu" ? `WebGPU: ${state.adapter.name}.` : "On one core of the CPU.";
}

// ------------------------------------------------------------------------------------------------ what is seen

let drawing = false;
function redraw() {
  if (drawing) return;
  drawing = true;
  // Not more often than the eye needs: drawing must not take the time of training.
  setTimeout(() => requestAnimationFrame(() => { drawing = false; drawNow(); }), 120);
}

const held = (records = []) => records.filter((record) => record.held_out_loss != null).map((record) => [record.step + 1, record.held_out_loss]);

function drawNow() {
  const { records, settings } = state;
  const most = Math.max(settings.steps, settings.teacher_steps);
  const faint = state.runs.filter((one) => one.shown).flatMap((one) => [
    { ...ROLES.alone, points: one.alone, faint: true },
    { ...ROLES.distilled, points: one.distilled, faint: true },
  ]);
  const lines = Object.entries(ROLES).map(([role, look]) => ({ ...look, points: held(records[role]) }));
  draw($("held-out"), [...faint, ...lines], { max: most, title: "Held-out loss by step" });
  const of = (key) => (records.distilled ?? []).map((record) => [record.step + 1, record[key] ?? NaN]);
  draw($("losses"), [
    { name: "hard", colour: 2, points: smooth(of("loss_hard")) },
    { name: "soft", colour: 4, dash: true, points: smooth(of("loss_soft").filter(([, y]) => Number.isFinite(y))) },
  ], { max: settings.steps, zero: true, title: "Hard and soft loss of the distilled student, smoothed" });
  draw($("schedules"), [
    { name: "weight", colour: 4, points: of("alpha_soft") },
    { name: "temperature", colour: 5, dash: true, points: of("temperature") },
  ], { max: settings.steps, zero: true, title: "Soft weight and temperature by step" });
  const last = records.distilled?.at(-1);
  if (last) {
    $("now").textContent = `Now, at step ${last.step + 1}: L = ${number(last.alpha_hard)} × ${last.loss_hard.toFixed(3)} + ${number(last.alpha_soft ?? 0)} × ${(last.loss_soft ?? 0).toFixed(3)} = ${last.loss.toFixed(3)}, with τ = ${number(last.temperature ?? 1)}`;
  }
  const [, , distilled] = state.done;
  const total = settings.teacher_steps + settings.steps;
  $("progress").style.width = `${state.about ? (100 * (state.done[0] + distilled)) / total : 0}%`;
  if (records.alone?.length) $("verdict").textContent = verdict();
}

function verdict() {
  const [teacher, alone, distilled] = ["teacher", "alone", "distilled"].map((role) => held(state.records[role]).at(-1)?.[1]);
  if (alone === undefined || distilled === undefined) return "";
  const gain = alone - distilled, ahead = Math.abs(gain) < 0.005 ? "Both students are level" : `The ${gain > 0 ? "distilled student" : "student alone"} is ahead by ${Math.abs(gain).toFixed(3)}`;
  return `${ahead}: ${distilled.toFixed(3)} distilled, ${alone.toFixed(3)} alone; their teacher reached ${teacher.toFixed(3)}.`;
}

// ------------------------------------------------------------------------------------------------ a sentence

/// A sentence with one of its longer words hidden.
function masked(sentence) {
  const words = sentence.split(" "), at = words.findIndex((word, i) => i > 0 && /^[a-z]{4,}/.test(word));
  return at < 0 ? null : words.map((word, i) => (i === at ? word.replace(/^[a-z]+/, "[MASK]") : word)).join(" ");
}

/// The first words of a sentence.
function beginning(sentence) {
  const words = sentence.split(" ");
  return words.length > 3 ? words.slice(0, 3).join(" ") : null;
}

/// Whether the models of this session predict what comes next.
const isCausal = () => state.about?.settings.family === "llama";

/// What depends on what the models predict.
function words() {
  const causal = state.about ? isCausal() : form.elements.family.value === "llama";
  $("unit").textContent = causal ? "word" : "masked word";
  if (causal) return $("asked").replaceChildren("The beginning of a text");
  $("asked").replaceChildren("A sentence with a ", Object.assign(document.createElement("code"), { textContent: "[MASK]" }));
}

function ask() {
  const text = $("masked").value;
  if (!state.about || state.asking) return;
  if (isCausal()) tell("write", { text });
  else if (text.includes("[MASK]")) tell("fill", { sentence: text });
  else return;
  state.asking = true;
}
$("ask").onsubmit = (event) => {
  event.preventDefault();
  if (!state.about) return banner("Start a run first: there is no model to ask yet.");
  if (!isCausal() && !$("masked").value.includes("[MASK]")) return banner("Write [MASK] in place of one word of the sentence.");
  $("banner").hidden = true;
  ask();
};

function answers(models) {
  // Bars as long as the likeliest of all is wide: young models are unsure of everything.
  const most = Math.max(...models.flatMap(([, masks]) => masks.flat().map(({ probability }) => probability)), 1e-9);
  $("answers").replaceChildren(...models.map(([role, masks]) => {
    const box = document.createElement("div"), title = document.createElement("h3");
    box.className = `c${ROLES[role].colour}`;
    title.textContent = ROLES[role].title;
    box.append(title);
    for (const candidates of masks) {
      const list = document.createElement("ol");
      list.append(...candidates.map(({ token, probability }) => {
        const row = document.createElement("li"), word = document.createElement("span"), bar = document.createElement("i"), share = document.createElement("em");
        word.textContent = token;
        bar.style.width = `${Math.max(1, (100 * probability) / most)}%`;
        bar.setAttribute("aria-hidden", "true");
        share.textContent = `${(100 * probability).toFixed(0)} %`;
        row.append(word, bar, share);
        return row;
      }));
      box.append(list);
    }
    return box;
  }));
}

/// What each causal model has written.
function texts(models) {
  $("answers").replaceChildren(...models.map(([role, text]) => {
    const box = document.createElement("div"), title = document.createElement("h3"), words = document.createElement("p");
    box.className = `c${ROLES[role].colour}`;
    title.textContent = ROLES[role].title;
    words.textContent = text;
    box.append(title, words);
    return box;
  }));
}

// ------------------------------------------------------------------------------------------------ finished runs

function finished() {
  const run = {
    id: Date.now(), settings: state.settings, own: state.about.own_text, device: state.about.device, shown: false,
    teacher: held(state.records.teacher), alone: held(state.records.alone), distilled: held(state.records.distilled),
  };
  state.runs.push(run);
  keepRun(run).catch(() => banner("The run's curves could not be kept: the browser's storage is full or closed.", { error: true }));
  listRuns();
}

function listRuns() {
  const cell = (text, kind = "") => Object.assign(document.createElement("td"), { textContent: text, className: kind });
  const first = state.runs[0];
  const last = (points) => points.at(-1)?.[1] ?? NaN;
  $("list").replaceChildren(...state.runs.map((run, i) => {
    const row = document.createElement("tr");
    const differs = i ? differences(run.settings, first.settings) || "nothing" : `${run.settings.layers} layers of ${run.settings.hidden}, weight ${run.settings.soft}`;
    const show = document.createElement("td"), box = document.createElement("input"), gone = document.createElement("button");
    Object.assign(box, { type: "checkbox", checked: run.shown, onchange: () => { run.shown = box.checked; keepRun(run).catch(() => {}); redraw(); } });
    box.setAttribute("aria-label", `show run ${i + 1} behind the curves`);
    Object.assign(gone, { type: "button", textContent: "×", onclick: () => { state.runs.splice(i, 1); forgetRun(run.id).catch(() => {}); listRuns(); redraw(); } });
    gone.setAttribute("aria-label", `forget run ${i + 1}`);
    show.append(box, " ", gone);
    row.append(cell(String(i + 1)), cell(`${differs}${run.own ? ", own text" : ""}`, "differs"), ...["teacher", "alone", "distilled"].map((role) => cell(last(run[role]).toFixed(3), "n")),
      cell((last(run.alone) - last(run.distilled)).toFixed(3), "n"), show);
    return row;
  }));
  if (!state.runs.length) {
    const row = document.createElement("tr");
    row.append(Object.assign(cell("Finished runs are kept here."), { colSpan: 7 }));
    $("list").append(row);
  }
}

// ------------------------------------------------------------------------------------------------ files, link, looks

function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function take(file) {
  try {
    const found = await readDropped(file);
    if (found.kind === "session") return goOn({ bytes: found.bytes });
    if (found.kind === "steps") return showSteps($("dropped"), file.name, found.records);
    if (found.kind === "report") return showReport($("dropped"), file.name, found.report);
    form.elements.source.value = "own";
    // A field that holds megabytes makes a page slow.
    const long = found.text.length > 200_000;
    state.text = long ? found.text : null;
    form.elements.text.value = long ? "" : found.text;
    form.elements.text.placeholder = long ? `${file.name}, ${(file.size / 2 ** 20).toFixed(1)} MB` : "";
    sourceChanged();
    banner(`${file.name} is ready to be learnt: Start trains on it.`);
  } catch (error) {
    banner(`${file.name}: ${error.message}`, { error: true });
  }
}
$("open").onclick = () => $("file").click();
$("file").onchange = () => { const [file] = $("file").files; if (file) take(file); $("file").value = ""; };
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const [file] = event.dataTransfer.files;
  if (file) take(file);
});

const linkNow = () => history.replaceState(null, "", toLink(state.settings, state.linkDevice));
$("link").onclick = async () => {
  try { await navigator.clipboard.writeText(location.href); banner("The link has all settings; your own text is not in it."); }
  catch { banner(`Copy it from here: ${location.href}`); }
};

function sourceChanged() { document.querySelector("label.own").hidden = form.elements.source.value !== "own"; }
form.onsubmit = (event) => event.preventDefault();
form.oninput = (event) => {
  if (event.target.name === "source") return sourceChanged();
  if (event.target.name === "text") return;
  const { settings, wrong } = fromForm(form, state.settings);
  if (event.target.name === "family") words();
  if (event.target.name === "on") state.linkDevice = device();
  if (!wrong.length && !state.about) { state.settings = settings; linkNow(); redraw(); }
  buttons();
};

const dark = matchMedia("(prefers-color-scheme: dark)");
function theme(next) {
  const now = next ?? document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
  if (next) document.documentElement.dataset.theme = next;
  $("theme").textContent = now === "dark" ? "Light" : "Dark";
  $("theme").setAttribute("aria-label", `Switch to the ${now === "dark" ? "light" : "dark"} page`);
  return now;
}
dark.onchange = () => theme();
$("theme").onclick = () => theme(theme() === "dark" ? "light" : "dark");
new ResizeObserver(redraw).observe($("run"));

$("check").onclick = async () => {
  $("report").textContent = "Checking ...";
  $("checked").showModal();
  const ask = (on) => new Promise((done) => { state.checks = done; whenReady(() => tell("check", { on })); });
  $("report").textContent = await browserReport(ask, state.adapter, (text) => { $("report").textContent = text; });
};
$("close").onclick = () => $("checked").close();
$("copy").onclick = () => navigator.clipboard.writeText($("report").textContent).then(() => { $("copy").textContent = "Copied"; }, () => {});

// ------------------------------------------------------------------------------------------------ beginning

(async () => {
  startWorker();
  theme();
  const { settings, wrong, device: wanted } = fromLink(location.search);
  state.settings = settings;
  toForm(form, settings);
  words();
  redraw();
  state.adapter = await gpu();
  if (state.adapter) form.elements.on.add(new Option("WebGPU", "wgpu"));
  state.linkDevice = wanted;
  form.elements.on.value = wanted && (wanted === "cpu" || state.adapter) ? wanted : state.adapter && !state.adapter.software ? "wgpu" : "cpu";
  if (state.ready) say(`Ready. ${deviceSentence()}`);
  if (wrong.length) banner(`The link says what can't be, and that was left out: ${wrong.join(", ")}`, { error: true });
  state.runs = await allRuns().catch(() => []);
  listRuns();
  const kept = await lastSession().catch(() => null);
  if (kept && !wrong.length && kept.about.phase !== "done") {
    const [teacher, , distilled] = kept.about.done;
    banner(`A run from ${new Date(kept.at).toLocaleString()} is kept here, at step ${teacher + distilled} of ${kept.about.settings.teacher_steps + kept.about.settings.steps}.`, {
      actions: [["Go on with it", () => goOn(kept)], ["Forget it", () => forgetSession().catch(() => {})]],
    });
  }
  buttons();
})();
