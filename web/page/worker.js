// The only owner of the WebAssembly module and of the GPU. Messages in: {kind, ...} as in `handle`; messages out: ready, session,
// turn, filled, written, saved, kept, checked, paused, error. Between steps it returns to the event loop, so that messages arrive.

import init, { Lab, check } from "./pkg/upstill_web.js";
import { keepSession } from "./store.js";

let lab = null, running = false, single = 0, delay = 0, keeps = true, keptAt = 0, wake = null;
const queue = [];
self.onmessage = ({ data }) => { queue.push(data); wake?.(); };

// Timers are slowed down to 4 ms and more; a message to oneself is not.
const channel = new MessageChannel();
const eventLoop = () => new Promise((done) => { channel.port1.onmessage = done; channel.port2.postMessage(0); });
const message = (milliseconds) => new Promise((done) => {
  wake = done;
  if (milliseconds !== undefined) setTimeout(done, milliseconds);
}).finally(() => { wake = null; });

const KEEP_EVERY = 10_000;

async function turn() {
  const started = performance.now();
  const taken = JSON.parse(await lab.turn());
  if (single > 0) single -= 1;
  if (taken.phase === "done") { running = false; single = 0; }
  postMessage({ kind: "turn", turn: taken, ms: performance.now() - started, running });
  if (taken.phase === "done" || performance.now() - keptAt > KEEP_EVERY) await keep();
}

async function keep() {
  if (!lab || !keeps) return;
  keptAt = performance.now();
  const bytes = await lab.save();
  try {
    await keepSession({ bytes, about: JSON.parse(lab.about()), at: Date.now() });
    postMessage({ kind: "kept" });
  } catch (error) {
    keeps = false;
    postMessage({ kind: "error", asked: "keep", message: `This run will not survive a reload: the browser's storage is full or closed (${error?.message ?? error}). Save it as a file instead.` });
  }
}

const tellSession = () => postMessage({ kind: "session", about: JSON.parse(lab.about()), records: JSON.parse(lab.records()) });

async function handle(asked) {
  switch (asked.kind) {
    case "start":
      running = false;
      lab?.free();
      lab = null;
      lab = await Lab.start(JSON.stringify(asked.settings), asked.text ?? undefined, asked.on, asked.readEvery);
      return tellSession();
    case "open":
      running = false;
      lab?.free();
      lab = null;
      lab = await Lab.open(asked.bytes, asked.on, asked.readEvery);
      return tellSession();
    case "run": running = true; keptAt = performance.now(); return;
    case "pause": running = false; await keep(); return postMessage({ kind: "paused" });
    case "step": single += 1; return;
    case "speed": delay = asked.delay; return;
    case "fill":
      return postMessage({ kind: "filled", sentence: asked.sentence, models: JSON.parse(await lab.fill(asked.sentence, 5)) });
    case "write":
      return postMessage({ kind: "written", text: asked.text, models: JSON.parse(await lab.write(asked.text, 24)) });
    case "save": return postMessage({ kind: "saved", bytes: await lab.save() });
    case "check": return postMessage({ kind: "checked", on: asked.on, result: JSON.parse(await check(asked.on)) });
  }
}

// After a trap the module's memory can't be trusted: the page starts another worker.
const wentWrong = (error, asked) => {
  running = false;
  single = 0;
  const fatal = error instanceof WebAssembly.RuntimeError;
  postMessage({ kind: "error", asked, fatal, message: String(error?.message ?? error) });
  return fatal;
};

// Not awaited at the top: a worker whose module has not ended may get no messages.
(async () => {
  try {
    await init({ module_or_path: new URL("./pkg/upstill_web_bg.wasm", import.meta.url) });
  } catch (error) {
    return postMessage({ kind: "error", fatal: true, message: `The code could not be loaded: ${error?.message ?? error}` });
  }
  postMessage({ kind: "ready" });
  for (;;) {
    const asked = queue.shift();
    try {
      if (asked) await handle(asked);
      else if (lab && (running || single > 0)) {
        await turn();
        await (delay ? message(delay) : eventLoop());
      } else await message();
    } catch (error) {
      if (wentWrong(error, asked?.kind ?? "turn")) return;
    }
  }
})();
