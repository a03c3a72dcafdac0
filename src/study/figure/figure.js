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
})();
