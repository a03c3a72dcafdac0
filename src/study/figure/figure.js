// The values under the pointer, at the steps that were logged. The charts are whole without it.
(() => {
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const numbers = (text) => (text ? text.split(" ").map(Number) : []);

  const nearest = (xs, x) => {
    let best = 0;
    for (let i = 1; i < xs.length; i++) if (Math.abs(xs[i] - x) < Math.abs(xs[best] - x)) best = i;
    return best;
  };

  document.querySelectorAll("svg.chart").forEach((svg) => {
    const [low, high, left, right, log] = numbers(svg.dataset.x);
    const [top, bottom] = numbers(svg.dataset.y);
    const curves = [...svg.querySelectorAll(".curve[data-x]")]
      .map((path) => ({ path, xs: numbers(path.dataset.x), ys: numbers(path.dataset.y) }))
      .filter((curve) => curve.xs.length);
    if (!curves.length) return;
    const cursor = document.createElementNS(svg.namespaceURI, "path");
    cursor.setAttribute("class", "cursor");
    svg.append(cursor);

    const hide = () => {
      tip.hidden = true;
      cursor.removeAttribute("d");
    };
    const show = (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const share = (at.x - left) / (right - left);
      if (share < -0.02 || share > 1.02 || at.y < top || at.y > bottom) return hide();
      const x = log ? low * (high / low) ** share : low + share * (high - low);
      const shown = curves[0].xs[nearest(curves[0].xs, x)];
      const along = log ? Math.log(shown / low) / Math.log(high / low) : (shown - low) / (high - low || 1);
      cursor.setAttribute("d", `M${left + along * (right - left)} ${top}V${bottom}`);
      tip.replaceChildren(line("", `step ${shown}`, ""));
      curves.forEach(({ path, xs, ys }) => {
        const i = nearest(xs, shown);
        if (Number.isFinite(ys[i])) tip.append(line(path.getAttribute("class"), path.dataset.name, String(ys[i])));
      });
      tip.hidden = false;
      const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
      tip.style.left = `${Math.max(4, Math.min(event.pageX + 14, room))}px`;
      tip.style.top = `${event.pageY + 14}px`;
    };
    const line = (colour, name, value) => {
      const row = document.createElement("div");
      const [label, number] = [document.createElement(colour ? "span" : "b"), document.createElement("i")];
      row.className = colour.replace("curve", "");
      [label.textContent, number.textContent] = [name, value];
      row.append(label, number);
      return row;
    };
    svg.addEventListener("pointermove", show);
    svg.addEventListener("pointerdown", show);
    svg.addEventListener("pointerleave", hide);
  });

  // Each figure as an SVG file of its own, and its numbers, or a table's, as CSV. A page that is opened from a disk may save too.
  const save = (name, ending, type, text) => {
    const link = document.createElement("a");
    link.download = `${name}.${ending}`;
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const alone = (svg) => {
    const copy = svg.cloneNode(true);
    copy.querySelector(".cursor")?.remove();
    const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
    copy.setAttribute("width", width * 1.5);
    copy.setAttribute("height", height * 1.5);
    const [style, ground] = ["style", "rect"].map((name) => document.createElementNS(svg.namespaceURI, name));
    style.textContent = document.getElementById("figure-style").textContent;
    for (const [key, value] of [["width", "100%"], ["height", "100%"], ["fill", "var(--page)"]]) ground.setAttribute(key, value);
    copy.prepend(style, ground);
    return new XMLSerializer().serializeToString(copy);
  };
  const field = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const cells = (row) => [...row.cells].map((cell) => field(cell.innerText.trim().replace(/\s*\n\s*/g, "; "))).join(",");
  document.querySelectorAll("figure").forEach((figure, index) => {
    const [svg, csv, table] = ["svg", "template.csv", "table"].map((what) => figure.querySelector(what));
    const about = figure.querySelector("h3") ?? figure.previousElementSibling;
    const name = (about?.textContent || `table ${index + 1}`).trim().toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 60);
    const row = document.createElement("div");
    row.className = "save";
    const button = (label, what, act) => {
      const made = document.createElement("button");
      [made.type, made.textContent, made.title] = ["button", label, `Save ${what}`];
      made.addEventListener("click", act);
      row.append(made);
    };
    if (svg) button("SVG", "this figure", () => save(name, "svg", "image/svg+xml", alone(svg)));
    if (csv) button("CSV", "its numbers", () => save(name, "csv", "text/csv", csv.content.textContent));
    if (table) button("CSV", "this table", () => save(name, "csv", "text/csv", [...table.rows].map(cells).join("\n") + "\n"));
    if (row.children.length) figure.append(row);
  });
})();
