const table = document.querySelector("#entries"), body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
const form = document.querySelector("form"), shown = document.querySelector("#shown");
const rows = [...body.rows].map(row => ({row, text: row.textContent.toLowerCase()}));

function sortBy(column, head) {
  const first = head.dataset.best, other = first === "ascending" ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  heads.forEach(h => h.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", order);
  const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const sign = order === "ascending" ? 1 : -1;
  body.append(...[...body.rows].sort((a, b) => {
    const x = value(a), y = value(b);
    if (x === "" || y === "") return (x === "") - (y === "");
    return sign * (isNaN(x) || isNaN(y) ? x.localeCompare(y, "en", {numeric: true}) : x - y);
  }));
}

function filter() {
  const words = form.words.value.toLowerCase().split(/\s+/);
  const chosen = ["task", "dims", "modality"].filter(key => form[key].value);
  let count = 0;
  for (const {row, text} of rows) {
    const fits = (form.older.checked || !("older" in row.dataset)) && words.every(word => text.includes(word))
      && chosen.every(key => row.dataset[key].split("|").includes(form[key].value));
    row.hidden = !fits;
    count += fits;
  }
  shown.textContent = count;
}

heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sortBy(column, head)));
for (const kind of ["input", "change"]) form.addEventListener(kind, filter);
form.addEventListener("submit", event => event.preventDefault());
filter();
