"use strict";
(() => {
  const root = document.documentElement;
  const stored = (value) => {
    try {
      if (value === undefined) return localStorage.getItem("probekit-theme");
      localStorage.setItem("probekit-theme", value);
    } catch { /* a page that is opened from a file may have no storage */ }
    return null;
  };
  const button = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const shown = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  const label = () => { button.textContent = shown() === "dark" ? "Light" : "Dark"; };
  const kept = stored();
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  button.hidden = false;
  label();
  dark.addEventListener("change", label);
  button.addEventListener("click", () => {
    root.dataset.theme = shown() === "dark" ? "light" : "dark";
    stored(root.dataset.theme);
    label();
  });

  // Rows go by their cells' keys; what has none goes last, whichever way.
  const sort = (table, place, down) => {
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => !row.classList.contains("line"));
      const key = (row) => {
        const text = row.cells[place].dataset.key;
        return text === undefined || text === "" ? null : isNaN(text) ? text : Number(text);
      };
      const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
      rows.sort((one, other) => {
        const [a, b] = [key(one), key(other)];
        if (a === null || b === null) return (a === null) - (b === null);
        return down ? order(b, a) : order(a, b);
      });
      body.append(...rows);
    }
  };
  for (const table of document.querySelectorAll("table")) {
    if (Math.max(...[...table.tBodies].map((body) => body.rows.length)) < 2) continue;
    for (const head of table.tHead.rows[0].cells) {
      const press = document.createElement("button");
      press.type = "button";
      press.append(...head.childNodes);
      head.append(press);
      press.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        sort(table, head.cellIndex, down);
      });
    }
  }
})();
