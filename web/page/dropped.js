// Files that are dropped on the page: a session, a run's records, a study's report, or text.

import { draw, number, smooth } from "./chart.js";

const LARGEST = 512 * 2 ** 20, LARGEST_TEXT = 20 * 2 ** 20;

/// What a file is, by its content.
export async function readDropped(file) {
  if (file.size === 0) throw new Error("the file is empty");
  if (file.size > LARGEST) throw new Error(`the file has ${(file.size / 2 ** 20).toFixed(0)} MB, and a page takes at most ${LARGEST / 2 ** 20}`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (bytes[0] === 0x50 && bytes[1] === 0x4b) return { kind: "session", bytes };
  let text;
  try { text = new TextDecoder("utf-8", { fatal: true }).decode(bytes); }
  catch { throw new Error("this is neither a saved session nor text in UTF-8"); }
  if (text.includes("\u0000")) throw new Error("this is no text: it holds zero bytes");
  const start = text.trimStart();
  if (start.startsWith("{")) {
    const records = stepsOf(start);
    if (records.length) return { kind: "steps", records };
    try {
      const report = JSON.parse(start);
      if (Array.isArray(report.arms)) return { kind: "report", report };
    } catch { /* not JSON: told below */ }
    throw new Error("this JSON is neither a run's steps.jsonl nor a study's report.json");
  }
  if (file.size > LARGEST_TEXT) throw new Error(`the text has ${(file.size / 2 ** 20).toFixed(0)} MB, and a page learns from at most ${LARGEST_TEXT / 2 ** 20}; give a part of it, or use the command, upstill data build`);
  return { kind: "text", text };
}

function stepsOf(text) {
  const records = [];
  for (const line of text.split("\n")) {
    if (!line.trim()) continue;
    try {
      const record = JSON.parse(line);
      if (!Number.isFinite(record.step) || !("loss" in record)) return [];
      records.push(record);
    } catch { break; } // a last line that was being written
  }
  return records;
}

function frame(box, title) {
  const figure = document.createElement("figure"), heading = document.createElement("h2"), plot = document.createElement("div");
  heading.textContent = title;
  plot.className = "plot";
  figure.append(heading, plot);
  box.prepend(figure);
  figure.scrollIntoView({ block: "nearest" });
  return plot;
}

export function showSteps(box, name, records) {
  const of = (key) => records.map((record) => [record.step + 1, record[key] ?? NaN]);
  const some = (points) => points.filter(([, y]) => Number.isFinite(y));
  const held = some(of("held_out_loss")), models = records[0].models ?? [];
  const perModel = models.map(({ name }, i) => ({ name: `${name}, held out`, colour: i % 7, points: some(records.map((record) => [record.step + 1, record.models?.[i]?.held_out_loss ?? NaN])) }));
  draw(frame(box, `${name}: losses, nats a token`), perModel.length ? perModel : [
    { name: "hard", colour: 2, points: smooth(some(of("loss_hard"))) },
    { name: "soft", colour: 4, dash: true, points: smooth(some(of("loss_soft"))) },
    { name: "held out", colour: 1, points: held },
  ], { title: `Losses of ${name}` });
}

export function showReport(box, name, report) {
  const plot = frame(box, `${name}: held-out loss of each arm, nats a token`);
  plot.style.height = "auto";
  const table = document.createElement("table");
  table.innerHTML = "<thead><tr><th>Arm</th><th class=n>Held-out loss</th><th class=n>sd</th><th class=n>Seeds</th></tr></thead><tbody></tbody>";
  const arms = report.arms.filter((arm) => Number.isFinite(arm?.held_out_loss?.mean)).sort((a, b) => a.held_out_loss.mean - b.held_out_loss.mean);
  for (const arm of arms) {
    const row = document.createElement("tr");
    const seeds = Array.isArray(arm.seeds) ? arm.seeds.length : arm.seeds ?? "";
    for (const [text, kind] of [[arm.name, ""], [number(arm.held_out_loss.mean), "n"], [number(arm.held_out_loss.sd ?? 0), "n"], [seeds, "n"]]) {
      row.append(Object.assign(document.createElement("td"), { textContent: String(text), className: kind }));
    }
    table.tBodies[0].append(row);
  }
  plot.append(table);
}
