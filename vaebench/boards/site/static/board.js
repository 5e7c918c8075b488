"use strict";

// Tables sort by their headings and are filtered by the page's controls, and the address says how. Without this script
// they are whole and in order.

const state = new URLSearchParams(location.search);

const remember = (name, value) => {
  if (value === "") state.delete(name);
  else state.set(name, value);
  const query = state.toString();
  history.replaceState(null, "", `${location.pathname}${query && "?"}${query}${location.hash}`);
};

const apart = (table, index) => {
  let last;
  for (const row of table.tBodies[0].rows) {
    const rank = row.cells[index]?.dataset.rank ?? "none";
    row.classList.toggle("apart", last !== undefined && rank !== last);
    last = rank;
  }
};

const key = (cell) => {
  const text = cell.dataset.value ?? cell.textContent.trim();
  return text === "" || (cell.classList.contains("number") && cell.dataset.value === undefined) ? null : text;
};

const compare = (a, b) => (isNaN(a) || isNaN(b) ? a.localeCompare(b, "en", { numeric: true }) : a - b);

const headings = (table) => [...table.tHead.rows[0].cells];

const places = (table, heading) => {
  // The places of a headline are those of the column that it is in order of.
  if (!headings(table).some((other) => other.dataset.key === "rank") || !("name" in heading.dataset)) return;
  for (const row of table.tBodies[0].rows) {
    const cell = row.cells[heading.cellIndex];
    const place = row.querySelector("[data-place]");
    place.textContent = cell.dataset.ranks ?? "–";
    place.dataset.label = `rank by ${heading.dataset.name}`;
    if (cell.dataset.rank === undefined) delete place.dataset.value;
    else place.dataset.value = cell.dataset.rank;
  }
};

const sort = (table, heading, order) => {
  const index = heading.cellIndex;
  const sign = order === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows].map((row) => [key(row.cells[index]), row]);
  rows.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b)));
  table.tBodies[0].append(...rows.map(([, row]) => row));
  for (const other of headings(table)) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", order);
  places(table, heading);
  apart(table, index);
};

const sorted = (table, heading, order) => {
  sort(table, heading, order);
  const others = (state.get("sort") ?? "").split(",").filter((part) => part && !part.startsWith(`${table.id}:`));
  remember("sort", [...others, `${table.id}:${heading.dataset.key}:${order}`].join(","));
};

const chooser = (table) => {
  // Where a screen is too narrow for headings, a list of them.
  const label = document.createElement("label");
  label.className = "sortby";
  const select = document.createElement("select");
  const now = headings(table).findIndex((heading) => heading.ariaSort);
  if (now < 0) select.append(new Option("as it is", -1));
  select.append(...headings(table).map((heading) => new Option(heading.dataset.name ?? heading.dataset.key, heading.cellIndex)));
  select.value = now;
  select.addEventListener("change", () => {
    const heading = headings(table)[select.value];
    if (heading) sorted(table, heading, heading.dataset.first ?? "ascending");
  });
  label.append("Sort by ", select);
  table.parentElement.before(label);
};

for (const table of document.querySelectorAll("table[data-sortable]")) {
  for (const heading of headings(table)) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => {
      const first = heading.dataset.first ?? "ascending";
      sorted(table, heading, heading.ariaSort !== first ? first : first === "ascending" ? "descending" : "ascending");
    });
    heading.append(button);
    if (heading.hasAttribute("aria-sort")) apart(table, heading.cellIndex);
  }
}

for (const part of (state.get("sort") ?? "").split(",")) {
  const [id, name, order] = part.split(":");
  const table = [...document.querySelectorAll("table[data-sortable]")].find((each) => each.id === id);
  const heading = table && headings(table).find((each) => each.dataset.key === name);
  if (heading && ["ascending", "descending"].includes(order)) sort(table, heading, order);
}

for (const table of document.querySelectorAll("table[data-sortable]")) chooser(table);

const form = document.querySelector("form.controls");
if (form) {
  const rows = [...document.querySelectorAll("table:not([data-still]) > tbody > tr:not([data-still])")];
  const search = form.querySelector("[data-filter]");
  const choices = [...form.querySelectorAll("[data-choose]")];

  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const chosen = choices.every(({ value, dataset: { choose } }) => value === "" || row.dataset[choose] === value);
      row.hidden = !(chosen && words.every((word) => text.includes(word)));
    }
    for (const body of document.querySelectorAll("tbody:has(> [data-still])"))
      body.hidden = body.querySelector(":scope > tr:not([data-still], [hidden])") === null;
    for (const fold of document.querySelectorAll("details:has(table:not([data-still]))"))
      fold.hidden = fold.querySelector("tbody > tr:not([data-still], [hidden])") === null;
    const shown = rows.filter((row) => !row.hidden).length;
    form.querySelector("output").textContent = shown < rows.length ? `${shown} of ${rows.length} lines` : "";
  };

  for (const choice of choices) {
    const values = rows.map((row) => row.dataset[choice.dataset.choose]).filter(Boolean);
    choice.append(...[...new Set(values)].map((value) => new Option(value)));
    choice.value = state.get(choice.dataset.choose) ?? "";
    if (choice.selectedIndex < 0) choice.value = "";
    choice.addEventListener("input", () => remember(choice.dataset.choose, choice.value));
  }
  search.value = state.get("filter") ?? "";
  search.addEventListener("input", () => remember("filter", search.value));
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  show();
}

const unfold = () => {
  // What the address leads to is open.
  const target = document.getElementById(location.hash.slice(1));
  const fold = target?.closest("details");
  if (fold) fold.open = true;
};
addEventListener("hashchange", unfold);
unfold();
