// Rows that are searched and filtered; a row opens to its details, and the link to the page names the one opened.
const AT_ONCE = 100;

function listingScene(place, data, state, note) {
  const controls = element("div", { class: "controls" });
  const count = element("p", { class: "how", role: "status" });
  const body = element("tbody");
  const heads = [element("th", { scope: "col" }, element("span", { class: "unseen" }, "Details"))];
  heads.push(...data.columns.map((column) => element("th", { scope: "col" }, column.label)));
  const more = element("button", { type: "button" }, "Show more");
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body);
  place.append(controls, count, element("div", { class: "rows" }, table), more);
  const at = { text: state.text ?? "", open: state.open ?? "", shown: AT_ONCE };
  const named = Object.fromEntries([...data.columns, ...data.details].map((column) => [column.key, column.label]));
  const options = Object.fromEntries(data.filters.map((key) =>
    [key, ["", ...new Set(data.rows.map((row) => row[key]).filter(Boolean))]]));
  for (const key of data.filters) at[key] = options[key].includes(state[key]) ? state[key] : "";

  const matching = () => {
    const words = at.text.toLowerCase().split(/\s+/).filter(Boolean);
    return data.rows.filter((row) => data.filters.every((key) => !at[key] || row[key] === at[key])
      && words.every((word) => Object.values(row).some((value) => value.toLowerCase().includes(word))));
  };
  const keep = () => {
    const kept = Object.fromEntries(data.filters.filter((key) => at[key]).map((key) => [key, at[key]]));
    note({ ...kept, ...(at.text ? { text: at.text } : {}), ...(at.open ? { open: at.open } : {}) });
  };

  function show() {
    const rows = matching();
    count.textContent = `${rows.length} of ${data.rows.length}`;
    more.hidden = rows.length <= at.shown;
    body.replaceChildren(...rows.slice(0, at.shown).flatMap(entry));
    keep();
  }

  function entry(row) {
    const open = row.id === at.open;
    const button = element("button", { type: "button", "aria-expanded": String(open), "aria-label": `Details of ${row.id}`,
      onclick: () => {
        at.open = open ? "" : row.id;
        show();
        body.querySelector(`[data-id="${CSS.escape(row.id)}"]`)?.focus();
      }, "data-id": row.id }, open ? "−" : "+");
    const cells = data.columns.map((column) => {
      const kind = column.key === "verdict" ? `verdict-${row[column.key].replaceAll(" ", "-")}` : null;
      return element("td", { class: kind }, row[column.key]);
    });
    const line = element("tr", {}, element("td", {}, button), ...cells);
    if (!open) return [line];
    const details = data.details.filter((column) => row[column.key]);
    const list = element("dl", {}, ...details.flatMap((column) =>
      [element("dt", {}, column.label), element("dd", {}, row[column.key])]));
    return [line, element("tr", { class: "detail" }, element("td", { colspan: data.columns.length + 1 }, list))];
  }

  for (const key of data.filters) {
    const labels = options[key].map((value) => value || "all");
    controls.append(select(named[key] ?? key, labels, options[key].indexOf(at[key]), (to) => {
      at[key] = options[key][to];
      at.shown = AT_ONCE;
      show();
    }));
  }
  const id = `control-${(counted += 1)}`;
  const search = element("input", { type: "search", id, oninput: () => {
    at.text = search.value;
    at.shown = AT_ONCE;
    show();
  } });
  search.value = at.text;
  controls.append(element("div", { class: "control" }, element("label", { for: id }, "Search"), search));
  more.addEventListener("click", () => {
    at.shown += AT_ONCE;
    show();
  });
  show();
}
