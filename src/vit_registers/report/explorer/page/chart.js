// A Vega-Lite chart whose signals are set by controls. Its expressions are interpreted, as the page allows no eval.
function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function chartConfig() {
  const text = { labelColor: ink("--ink"), titleColor: ink("--ink") };
  return {
    background: null,
    font: "system-ui, sans-serif",
    view: { stroke: ink("--line") },
    axis: { ...text, gridColor: ink("--line"), domainColor: ink("--line"), tickColor: ink("--line"),
      labelFontSize: 12, titleFontSize: 12 },
    legend: { ...text, labelFontSize: 12, titleFontSize: 12 },
    title: { color: ink("--ink") },
    rule: { color: ink("--ink") },
  };
}

async function chartScene(place, data, state, note) {
  const controls = element("div", { class: "controls" });
  const chart = element("div", { class: "chart" });
  const table = element("div", { class: "rows" });
  place.append(controls, chart, element("details", {}, element("summary", {}, "The numbers"), table));
  const at = {};
  for (const choice of data.choices) {
    const asked = choice.options.findIndex((option) => option.label === state[choice.name]);
    at[choice.name] = asked >= 0 ? asked : 0;
  }
  const made = await vegaEmbed(chart, data.spec, {
    ast: true, renderer: "svg", config: chartConfig(),
    actions: { export: true, source: false, compiled: false, editor: false },
  });
  chart.querySelector("summary")?.setAttribute("aria-label", "Save the chart");
  const show = async () => {
    for (const choice of data.choices) made.view.signal(choice.name, choice.options[at[choice.name]].value);
    await made.view.runAsync();
    note(Object.fromEntries(data.choices.map((choice) => [choice.name, choice.options[at[choice.name]].label])));
    numbers(table, data, at);
  };
  for (const choice of data.choices) {
    const labels = choice.options.map((option) => option.label);
    const set = (to) => {
      at[choice.name] = to;
      show();
    };
    const [label, now] = [choice.label, at[choice.name]];
    controls.append(choice.kind === "range" ? slider(label, labels, now, set, choice.plays) : select(label, labels, now, set));
  }
  await show();
}

// What the chart shows as a table: rows that agree with the choices, without the columns that these are.
function numbers(place, data, at) {
  const chosen = data.choices.map((choice) => [choice.name, choice.options[at[choice.name]].value]);
  const all = rowsOf(data.spec);
  const rows = all.filter((row) => chosen.every(([name, value]) => !(name in row) || row[name] === value));
  const keys = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter((key) => !chosen.some(([name]) => name === key));
  const cell = (value) => (typeof value === "number" ? String(Math.round(value * 1e4) / 1e4) : (value ?? ""));
  place.replaceChildren(element("table", {},
    element("thead", {}, element("tr", {}, ...keys.map((key) => element("th", { scope: "col" }, key.replaceAll("_", " "))))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...keys.map((key) => element("td", {}, cell(row[key]))))))));
}

function rowsOf(spec) {
  if (spec.data?.values) return spec.data.values;
  if (spec.datasets) return Object.values(spec.datasets).flat();
  const parts = [...(spec.layer ?? []), ...(spec.vconcat ?? []), ...(spec.hconcat ?? [])];
  return parts.length ? rowsOf(parts[0]) : [];
}
