"use strict";

// Two measures of a headline against each other, with the models that no other beats in both. Its numbers are the
// table's.

const FENCE = 3; // quartile ranges beyond the quartiles that an axis reaches
const HIGH = 400;
const LEAST = 300; // pixels wide

const shape = (name, attributes, ...inside) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...inside);
  return element;
};

const quantile = (ordered, share) => {
  const place = share * (ordered.length - 1);
  const low = Math.floor(place);
  return ordered[low] + (place - low) * ((ordered[low + 1] ?? ordered[low]) - ordered[low]);
};

const rounded = (width) => {
  const power = 10 ** Math.floor(Math.log10(width));
  return [1, 2, 2.5, 5, 10].find((step) => width <= step * power) * power;
};

const axis = (values, start, end, most) => {
  const ordered = [...values].sort((a, b) => a - b);
  const [first, last] = [quantile(ordered, 0.25), quantile(ordered, 0.75)];
  const reach = last > first ? FENCE * (last - first) : Infinity;
  const near = ordered.filter((value) => value >= first - reach && value <= last + reach);
  let [low, high] = [near[0], near.at(-1)];
  if (!(high > low)) [low, high] = [low - (Math.abs(low) / 10 || 1), high + (Math.abs(high) / 10 || 1)];
  const room = 0.06 * (high - low);
  [low, high] = [low - room, high + room];
  const step = rounded((high - low) / most);
  const ticks = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) ticks.push(Number((i * step).toPrecision(6)));
  const place = (value) => start + (Math.min(1, Math.max(0, (value - low) / (high - low)))) * (end - start);
  return { ticks, place, beyond: (value) => value < low || value > high };
};

const beats = (a, b, sides) => {
  const signs = sides.map((side) => (side === "higher" ? -1 : 1));
  const [x, y] = [signs[0] * (a.x - b.x), signs[1] * (a.y - b.y)];
  return x <= 0 && y <= 0 && (x < 0 || y < 0);
};

const listed = (names) => (names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names[0]);

const points = (table, across, up) =>
  [...table.tBodies[0].rows]
    .map((row) => {
      const [x, y] = [row.cells[across.cellIndex], row.cells[up.cellIndex]];
      const link = row.querySelector("th a");
      return {
        name: link.textContent,
        href: link.getAttribute("href"),
        x: x.dataset.value === undefined ? NaN : Number(x.dataset.value),
        y: y.dataset.value === undefined ? NaN : Number(y.dataset.value),
        ends: [x.dataset.low, x.dataset.high, y.dataset.low, y.dataset.high].map(Number),
        said: `${across.dataset.name} ${x.textContent.trim()}, ${up.dataset.name} ${y.textContent.trim()}`,
      };
    })
    .filter(({ x, y }) => !isNaN(x) && !isNaN(y));

const frame = (svg, edges, x, y, across, up) => {
  const { left, right, top, bottom } = edges;
  for (const tick of x.ticks) {
    svg.append(shape("path", { class: "grid", d: `M${x.place(tick)} ${top}V${bottom}` }));
    svg.append(shape("text", { x: x.place(tick), y: bottom + 18, "text-anchor": "middle" }, `${tick}`));
  }
  for (const tick of y.ticks) {
    svg.append(shape("path", { class: "grid", d: `M${left} ${y.place(tick)}H${right}` }));
    svg.append(shape("text", { x: left - 8, y: y.place(tick) + 4, "text-anchor": "end" }, `${tick}`));
  }
  const side = { lower: " (lower is better)", higher: " (higher is better)" };
  const name = (heading) => heading.dataset.name + (side[heading.dataset.better] ?? "");
  svg.append(shape("path", { class: "frame", d: `M${left} ${top}V${bottom}H${right}` }));
  svg.append(shape("text", { class: "name", x: (left + right) / 2, y: bottom + 44, "text-anchor": "middle" }, name(across)));
  const turned = `translate(14 ${(top + bottom) / 2}) rotate(-90)`;
  svg.append(shape("text", { class: "name", transform: turned, "text-anchor": "middle" }, name(up)));
};

const label = (svg, edges, text, x, y, taken) => {
  // The name of a point where there is room for it: right, left, above or below.
  const width = 7 * text.length;
  const tries = [[x + 8, y + 4, "start"], [x - 8, y + 4, "end"], [x, y - 10, "middle"], [x, y + 18, "middle"]];
  for (const [at, down, anchor] of tries) {
    const from = anchor === "start" ? at : anchor === "end" ? at - width : at - width / 2;
    const box = [from, down - 11, from + width, down + 3];
    const free = taken.every((other) => box[2] < other[0] || box[0] > other[2] || box[3] < other[1] || box[1] > other[3]);
    if (free && box[0] > edges.left && box[2] < edges.right && box[1] > 0) {
      taken.push(box);
      svg.append(shape("text", { class: "label", x: at, y: down, "text-anchor": anchor }, text));
      return;
    }
  }
};

const draw = (figure, table, across, up) => {
  const found = points(table, across, up);
  const sides = [across.dataset.better, up.dataset.better];
  const decided = sides.every((side) => side === "lower" || side === "higher");
  const best = decided ? found.filter((one) => !found.some((other) => beats(other, one, sides))) : [];
  const plot = figure.querySelector(".plot");
  const caption = figure.querySelector("figcaption");
  if (found.length === 0) {
    plot.replaceChildren();
    caption.textContent = `No model has both ${across.dataset.name} and ${up.dataset.name}.`;
    return;
  }
  const wide = Math.max(LEAST, plot.clientWidth);
  const edges = { left: 64, right: wide - 12, top: 16, bottom: HIGH - 58 };
  const x = axis(found.map((one) => one.x), edges.left, edges.right, wide / 120);
  const y = axis(found.map((one) => one.y), edges.bottom, edges.top, 6);
  const svg = shape("svg", { viewBox: `0 0 ${wide} ${HIGH}`, role: "group", "aria-label": "Scatter of models" });
  frame(svg, edges, x, y, across, up);
  const front = [...best].sort((a, b) => a.x - b.x).filter((one) => !x.beyond(one.x) && !y.beyond(one.y));
  if (front.length > 1)
    svg.append(shape("path", { class: "front", d: `M${front.map((one) => `${x.place(one.x)} ${y.place(one.y)}`).join("L")}` }));
  const taken = found.map((one) => [x.place(one.x) - 5, y.place(one.y) - 5, x.place(one.x) + 5, y.place(one.y) + 5]);
  for (const one of [...found].sort((a, b) => best.includes(a) - best.includes(b))) {
    const [at, down] = [x.place(one.x), y.place(one.y)];
    const beyond = x.beyond(one.x) || y.beyond(one.y);
    const link = shape("a", { href: one.href, class: best.includes(one) ? "best" : "other" });
    link.append(shape("title", {}, `${one.name}: ${one.said}${beyond ? ", beyond the axes" : ""}`));
    if (!beyond && one.ends.every((end) => !isNaN(end))) {
      const [low, high, under, over] = one.ends;
      link.append(shape("path", { class: "error", d: `M${x.place(low)} ${down}H${x.place(high)}M${at} ${y.place(under)}V${y.place(over)}` }));
    }
    link.append(beyond ? shape("path", { d: `M${at - 5} ${down + 4}L${at} ${down - 5}L${at + 5} ${down + 4}Z` }) : shape("circle", { cx: at, cy: down, r: 4.5 }));
    svg.append(link);
  }
  for (const one of [...best, ...found.filter((each) => !best.includes(each))])
    label(svg, edges, one.name, x.place(one.x), y.place(one.y), taken);
  plot.replaceChildren(svg);
  const outside = found.filter((one) => x.beyond(one.x) || y.beyond(one.y)).map((one) => one.name);
  const names = best.map((one) => one.name);
  const said = decided
    ? `Of ${found.length} models, no other is better in both than ${listed(names)}.`
    : `${found.length} models; one of the two measures has no better side.`;
  caption.textContent = said + (outside.length ? ` Beyond the axes, at their ends as triangles: ${listed(outside)}.` : "");
};

for (const figure of document.querySelectorAll("[data-pareto]")) {
  const table = document.getElementById(figure.dataset.pareto);
  const columns = [...table.tHead.rows[0].cells].filter((heading) => "name" in heading.dataset);
  const [across, up] = ["x", "y"].map((name) => figure.querySelector(`[data-axis=${name}]`));
  if (columns.length < 2) continue;
  const named = (name) => columns.find((heading) => heading.dataset.key === name);
  const count = (heading) => points(table, columns[0], heading).length;
  const aside = columns.slice(1).filter((heading) => heading.dataset.key !== "elbo" && heading.dataset.better !== "none");
  const show = () => draw(figure, table, named(across.value), named(up.value));
  const many = aside.find((heading) => 2 * count(heading) > table.tBodies[0].rows.length);
  const usual = [columns[0], many ?? aside.find((heading) => count(heading) > 1) ?? columns[1]];
  for (const [i, [name, select]] of [["x", across], ["y", up]].entries()) {
    select.append(...columns.map((heading) => new Option(heading.dataset.name, heading.dataset.key)));
    select.value = (named(state.get(name)) ?? usual[i]).dataset.key;
    select.addEventListener("input", () => {
      remember(name, select.value);
      show();
    });
  }
  figure.hidden = false;
  show();
  new ResizeObserver(show).observe(figure);
}
