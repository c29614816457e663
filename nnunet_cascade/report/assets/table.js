/* Tables that are sorted by their heads and filtered by a form. Without this script they stand as they were written. */
"use strict";

(function () {
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  function valueOf(row, column, kind) {
    const cell = row.cells[column];
    if (!cell) { return kind === "number" ? NaN : ""; }
    const text = cell.dataset.sort !== undefined ? cell.dataset.sort : cell.textContent.trim();
    return kind === "number" ? (text === "" ? NaN : Number(text)) : text;
  }

  // What is not known goes to the end, whichever way the others run; equal ones stay as they are.
  function compare(first, second, kind, sign) {
    if (kind !== "number") { return sign * collator.compare(first, second); }
    if (Number.isNaN(first) || Number.isNaN(second)) { return Number(Number.isNaN(first)) - Number(Number.isNaN(second)); }
    return sign * (first - second);
  }

  function sortBy(table, head) {
    const button = head.querySelector("button");
    const kind = button.dataset.kind;
    const before = head.getAttribute("aria-sort");
    const first = kind === "number" ? "descending" : "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    const direction = before === first ? second : first;
    const sign = direction === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => [valueOf(row, head.cellIndex, kind), row]);
    rows.sort((one, other) => compare(one[0], other[0], kind, sign));
    body.append(...rows.map((pair) => pair[1]));
    for (const other of head.parentNode.cells) { other.setAttribute("aria-sort", "none"); }
    head.setAttribute("aria-sort", direction);
  }

  function fits(row, wanted) {
    const flags = row.dataset.flags ? row.dataset.flags.split("\t") : [];
    const flagged = wanted.flag === "" || (wanted.flag === "\tnone" ? flags.length === 0 : flags.includes(wanted.flag));
    const status = wanted.status === "" || row.dataset.status === wanted.status;
    return flagged && status && wanted.words.every((word) => row.dataset.text.includes(word));
  }

  function wantedBy(form) {
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    return { words: words, flag: form.elements.flag.value, status: form.elements.status.value };
  }

  function setUpFilters(form) {
    const table = document.getElementById(form.dataset.filtersOf);
    const none = document.getElementById(`${table.id}-none`);
    const rows = Array.from(table.tBodies[0].rows);
    for (const row of rows) {
      const tips = Array.from(row.querySelectorAll("[title]"), (element) => element.title);
      row.dataset.text = [row.textContent, ...tips].join(" ").toLowerCase();
    }
    function apply() {
      const wanted = wantedBy(form);
      let shown = 0;
      for (const row of rows) {
        row.hidden = !fits(row, wanted);
        shown += row.hidden ? 0 : 1;
      }
      form.elements.count.value = `${shown} of ${rows.length} cases`;
      if (none) { none.hidden = shown > 0; }
    }
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => { event.preventDefault(); });
    form.addEventListener("reset", () => { setTimeout(apply, 0); });
    form.hidden = false;
    apply();
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const head of table.tHead.rows[0].cells) {
      const button = head.querySelector("button");
      if (button) { button.addEventListener("click", () => { sortBy(table, head); }); }
    }
  }
  for (const form of document.querySelectorAll("form[data-filters-of]")) { setUpFilters(form); }
}());
