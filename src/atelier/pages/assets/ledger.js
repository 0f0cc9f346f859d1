(function () {
  "use strict";
  // Everything is found from the script's own place, so that a page may hold several ledgers.
  const root = document.currentScript.parentElement;
  const body = root.querySelector("tbody");
  const rows = Array.from(body.rows);
  const heads = Array.from(root.querySelectorAll("thead th"));
  const find = root.querySelector("input[type=search]");
  const part = root.querySelector("select[name=part]");
  const verdict = root.querySelector("select[name=verdict]");
  const groups = Array.from(root.querySelectorAll("input[type=checkbox]"));
  const count = root.querySelector("output");

  function shown(group) {
    const box = groups.find(b => b.value === group);
    return !box || box.checked;
  }

  // A column shows if its group does; a row if it has the words, the part, and the verdict in a column that shows.
  function update() {
    root.querySelectorAll("[data-group]").forEach(cell => { cell.hidden = !shown(cell.dataset.group); });
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let visible = 0;
    rows.forEach(row => {
      const text = row.textContent.toLowerCase();
      const verdicts = Array.from(row.querySelectorAll("[data-verdict]"))
        .filter(cell => !cell.hidden).map(cell => cell.dataset.verdict);
      row.hidden = !(words.every(word => text.includes(word)) && (!part.value || row.dataset.part === part.value) &&
        (!verdict.value || verdicts.includes(verdict.value)));
      visible += row.hidden ? 0 : 1;
    });
    count.textContent = visible + " of " + rows.length + " claims";
  }

  // The third press of a heading restores the order of the page.
  function sort(index) {
    const was = heads[index].getAttribute("aria-sort");
    const now = was === "ascending" ? "descending" : was === "descending" ? "none" : "ascending";
    heads.forEach(head => head.removeAttribute("aria-sort"));
    if (now !== "none") heads[index].setAttribute("aria-sort", now);
    const key = row => now === "none" ? Number(row.dataset.order) : row.cells[index].dataset.sort;
    const sign = now === "descending" ? -1 : 1;
    const order = rows.slice().sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return x === y ? 0 : x === "" ? 1 : -1;
      const gap = isNaN(x) || isNaN(y) ? String(x).localeCompare(String(y)) : Number(x) - Number(y);
      return sign * gap || Number(a.dataset.order) - Number(b.dataset.order);
    });
    body.append(...order);
  }

  heads.forEach((head, index) => head.querySelector("button").addEventListener("click", () => sort(index)));
  [find, part, verdict].forEach(control => control.addEventListener("input", update));
  groups.forEach(control => control.addEventListener("change", update));
  root.querySelector("button[name=all]").addEventListener("click", () => {
    find.value = part.value = verdict.value = "";
    update();
  });
  // A link to one claim, claims.html#i-angle, must not lead to a row that is filtered away: none is at the start.
  root.classList.add("live");
  update();
  // In a notebook there are no pages beside this one.
  if (!document.querySelector(".bd-article")) {
    root.querySelectorAll("a[data-page]").forEach(link => link.replaceWith(link.textContent));
  }
})();
