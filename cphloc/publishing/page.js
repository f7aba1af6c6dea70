const table = document.querySelector("#entries"), body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
const form = document.querySelector("form"), shown = document.querySelector("#shown");

function sortBy(column, head) {
  const first = head.dataset.best, other = first === "ascending" ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  heads.forEach(h => h.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", order);
  const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const sign = order === "ascending" ? 1 : -1;
  [...body.rows].sort((a, b) => {
    const x = value(a), y = value(b);
    if (x === "" || y === "") return (x === "") - (y === "");
    return sign * (isNaN(x) || isNaN(y) ? x.localeCompare(y, "en", {numeric: true}) : x - y);
  }).forEach(row => body.append(row));
}

function filter() {
  const words = form.words.value.toLowerCase().split(/\s+/);
  const chosen = ["task", "dims", "modality"].filter(key => form[key].value);
  let count = 0;
  for (const row of body.rows) {
    const fits = chosen.every(key => row.dataset[key].split("|").includes(form[key].value));
    row.hidden = !(fits && words.every(word => row.textContent.toLowerCase().includes(word)));
    count += !row.hidden;
    document.querySelectorAll(`[data-entry="${row.dataset.entry}"]`).forEach(part => part.hidden = row.hidden);
  }
  const visible = [...body.rows].filter(row => !row.hidden);
  heads.forEach((head, column) => {
    const empty = visible.length && visible.every(row => row.cells[column].textContent === "");
    for (const row of table.rows) row.cells[column].classList.toggle("gone", empty);
  });
  shown.textContent = count;
}

heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sortBy(column, head)));
for (const kind of ["input", "change"]) form.addEventListener(kind, filter);
form.addEventListener("submit", event => event.preventDefault());
const open = () => document.getElementById(location.hash.slice(1))?.setAttribute("open", "");
addEventListener("hashchange", open);
open();
filter();
