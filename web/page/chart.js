// Line charts as SVG text: no library, redrawn whole, sized to their box.

const escape = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

/// Round steps that divide a range in about `count` parts.
export function ticks(low, high, count) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((by) => by * power).find((by) => by >= rough);
  const out = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-6; at += step) out.push(Math.abs(at) < step * 1e-6 ? 0 : at);
  return out;
}

export function number(x) {
  if (!Number.isFinite(x)) return "not finite";
  const size = Math.abs(x);
  if (size !== 0 && size < 1e-3) return x.toExponential(1);
  return String(Number(x.toPrecision(size >= 100 ? 5 : 3)));
}

/// Draws series `{name, colour, points: [[x, y]], dash?, faint?, right?}` into an element. `options`: `x` the label below,
/// `max` where the axis ends, `zero` when the axis starts at 0.
export function draw(box, series, options = {}) {
  const width = Math.max(box.clientWidth, 200), height = Math.max(box.clientHeight, 120);
  const shown = series
    .map((one) => ({ ...one, points: one.points.filter(([, y]) => Number.isFinite(y)) }))
    .filter((one) => one.points.length);
  const all = shown.flatMap((one) => one.points);
  const named = shown.filter((one) => !one.faint);
  const longest = Math.max(4, ...named.map((one) => one.name.length));
  const room = { left: 46, right: Math.min(14 + longest * 7.2, width * 0.34), top: 10, bottom: 34 };
  const innerW = width - room.left - room.right, innerH = height - room.top - room.bottom;
  const xMax = Math.max(options.max ?? 0, ...all.map(([x]) => x), 1);
  let low = options.zero ? 0 : Math.min(...all.map(([, y]) => y)), high = Math.max(...all.map(([, y]) => y));
  if (!all.length) [low, high] = [0, 1];
  if (high - low < 1e-9) [low, high] = [low - 0.5 * Math.abs(low || 1), high + 0.5 * Math.abs(high || 1)];
  else [low, high] = [options.zero ? 0 : low - 0.04 * (high - low), high + 0.06 * (high - low)];
  const px = (x) => room.left + (x / xMax) * innerW, py = (y) => room.top + (1 - (y - low) / (high - low)) * innerH;
  const out = [];
  for (const y of ticks(low, high, Math.max(2, innerH / 45))) {
    out.push(`<line class="grid" x1="${room.left}" x2="${room.left + innerW}" y1="${py(y).toFixed(1)}" y2="${py(y).toFixed(1)}"/>`);
    out.push(`<text class="end" x="${room.left - 6}" y="${(py(y) + 4).toFixed(1)}">${number(y)}</text>`);
  }
  for (const x of ticks(0, xMax, Math.max(3, innerW / 80))) {
    out.push(`<text class="mid" x="${px(x).toFixed(1)}" y="${room.top + innerH + 16}">${number(x)}</text>`);
  }
  out.push(`<text class="mid" x="${room.left + innerW / 2}" y="${height - 3}">${escape(options.x ?? "step")}</text>`);
  out.push(`<line class="axis" x1="${room.left}" x2="${room.left + innerW}" y1="${room.top + innerH}" y2="${room.top + innerH}"/>`);
  for (const one of shown) {
    const path = thin(one.points, innerW).map(([x, y], i) => `${i ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
    out.push(`<path class="curve c${one.colour} ${one.dash ? "dash" : ""} ${one.faint ? "faint" : ""}" d="${path}"/>`);
    const [x, y] = one.points.at(-1);
    if (!one.faint) out.push(`<circle class="point c${one.colour}" cx="${px(x).toFixed(1)}" cy="${py(y).toFixed(1)}" r="3.5"/>`);
  }
  // Names stand beside the ends of their curves, moved apart where they would cover each other, and off the axis.
  const wide = (one) => one.name.length * 7.2 + 12;
  const ends = named.map((one) => ({ one, x: px(one.points.at(-1)[0]) + 9, y: py(one.points.at(-1)[1]) })).sort((a, b) => b.y - a.y);
  ends.forEach((end, i) => {
    end.y = Math.min(end.y, room.top + innerH - 8);
    for (const below of ends.slice(0, i)) {
      const meet = below.x < end.x + wide(end.one) && end.x < below.x + wide(below.one);
      if (meet && below.y - end.y < 15) end.y = below.y - 15;
    }
  });
  for (const { one, x, y } of ends) {
    out.push(`<text class="name note c${one.colour}" x="${x.toFixed(1)}" y="${(y + 4).toFixed(1)}">${escape(one.name)}</text>`);
  }
  const said = named.map((one) => `${one.name} ${number(one.points.at(-1)[1])}`).join(", ");
  box.innerHTML = `<svg class="chart" role="img" aria-label="${escape(`${options.title ?? "chart"}; last values: ${said || "none yet"}`)}" viewBox="0 0 ${width} ${height}">${out.join("")}</svg>`;
}

/// At most two points a pixel, the lowest and the highest of each: extremes stay.
function thin(points, width) {
  const most = Math.max(50, Math.floor(width));
  if (points.length <= 2 * most) return points;
  const out = [], size = points.length / most;
  for (let i = 0; i < most; i++) {
    const part = points.slice(Math.floor(i * size), Math.floor((i + 1) * size));
    const low = part.reduce((a, b) => (b[1] < a[1] ? b : a)), high = part.reduce((a, b) => (b[1] > a[1] ? b : a));
    out.push(...(low[0] <= high[0] ? [low, high] : [high, low]));
  }
  return out;
}

/// A running mean that forgets: `[[x, y]]` to the same length.
export function smooth(points, keep = 0.9) {
  let mean = 0, weight = 0;
  return points.map(([x, y]) => {
    if (Number.isFinite(y)) { mean = keep * mean + (1 - keep) * y; weight = keep * weight + (1 - keep); }
    return [x, mean / (weight || 1)];
  });
}
