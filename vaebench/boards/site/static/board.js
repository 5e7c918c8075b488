"use strict";

// Tables sort by their headings and are filtered by the page's controls. Without this script they are whole and in order.

const apart = (table, index) => {
  let last;
  for (const row of table.tBodies[0].rows) {
    const rank = row.cells[index].dataset.rank ?? "none";
    row.classList.toggle("apart", last !== undefined && rank !== last);
    last = rank;
  }
};

const key = (cell) => {
  const text = cell.dataset.value ?? cell.textContent.trim();
  return text === "" || (cell.classList.contains("number") && cell.dataset.value === undefined) ? null : text;
};

const compare = (a, b) => (isNaN(a) || isNaN(b) ? a.localeCompare(b, "en", { numeric: true }) : a - b);

const sort = (table, heading) => {
  const index = heading.cellIndex;
  const first = heading.dataset.first ?? "ascending";
  const order = heading.ariaSort === first ? (first === "ascending" ? "descending" : "ascending") : first;
  const sign = order === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows].map((row) => [key(row.cells[index]), row]);
  rows.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b)));
  table.tBodies[0].append(...rows.map(([, row]) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", order);
  apart(table, index);
};

for (const table of document.querySelectorAll("table[data-sortable]")) {
  for (const heading of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(table, heading));
    heading.append(button);
    if (heading.hasAttribute("aria-sort")) apart(table, heading.cellIndex);
  }
}

const form = document.querySelector("form.controls");
if (form) {
  const rows = [...document.querySelectorAll("table:not([data-still]) > tbody > tr")];
  const search = form.querySelector("[data-filter]");
  const choices = [...form.querySelectorAll("[data-choose]")];

  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const chosen = choices.every(({ value, dataset: { choose } }) => {
        const holder = row.closest(`[data-${choose}]`);
        return value === "" || (holder !== null && holder.dataset[choose] === value);
      });
      row.hidden = !(chosen && words.every((word) => text.includes(word)));
    }
    for (const section of document.querySelectorAll("section"))
      section.hidden = section.querySelector("tbody > tr:not([hidden])") === null;
    form.querySelector("output").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  };

  for (const choice of choices) {
    const name = choice.dataset.choose;
    const values = [...document.querySelectorAll(`[data-${name}]`)].map((element) => element.dataset[name]);
    choice.append(...[...new Set(values)].sort().map((value) => new Option(value)));
  }
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  show();
}
