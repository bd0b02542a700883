"use strict";
(() => {
  const root = document.documentElement;
  const keep = (value) => {
    try { localStorage.setItem("probekit-theme", value); } catch { /* a page that is opened from a file may have none */ }
  };
  const button = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const shown = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  const label = () => {
    const other = shown() === "dark" ? "light" : "dark";
    button.textContent = other === "dark" ? "Dark" : "Light";
    button.setAttribute("aria-label", `Switch to ${other} theme`);
  };
  button.hidden = false;
  label();
  dark.addEventListener("change", label);
  button.addEventListener("click", () => {
    root.dataset.theme = shown() === "dark" ? "light" : "dark";
    keep(root.dataset.theme);
    label();
  });

  // Rows go by their cells' keys; what has none goes last, whichever way.
  const sort = (table, place, down) => {
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => !row.classList.contains("line"));
      const key = (row) => {
        const cell = row.cells[place];
        const first = cell.firstChild;
        const said = first?.nodeName === "DATA" ? first.value : cell.classList.contains("w") ? cell.textContent : "";
        const text = cell.dataset.key ?? said;
        return text === "" ? null : isNaN(text) ? text : Number(text);
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
  // What is folded is printed too; browsers that can open it by style alone need not.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of closed) one.open = false; });

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
