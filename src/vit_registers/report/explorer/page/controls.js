// Controls: native elements, so that keyboard and screen readers work as everywhere.
let counted = 0;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function said(text) {
  document.getElementById("said").textContent = text;
}

// A choice among labelled options; `set` is called with the place of the one chosen.
function select(label, labels, place, set) {
  const id = `control-${(counted += 1)}`;
  const options = labels.map((text, i) => element("option", { value: i, selected: i === place }, text));
  const box = element("select", { id, onchange: (event) => set(Number(event.target.value)) }, ...options);
  return element("div", { class: "control" }, element("label", { for: id }, label), box);
}

// A slider over labelled places, with a button that plays it.
function slider(label, labels, place, set, plays = false) {
  const id = `control-${(counted += 1)}`;
  const shown = element("output", { for: id }, labels[place]);
  const bar = element("input", {
    type: "range", id, min: 0, max: labels.length - 1, step: 1, value: place, "aria-valuetext": labels[place],
    oninput: () => moved(Number(bar.value)),
  });
  const moved = (to) => {
    bar.value = to;
    shown.textContent = labels[to];
    bar.setAttribute("aria-valuetext", labels[to]);
    set(to);
  };
  const row = element("div", { class: "row" }, bar, shown);
  if (plays && labels.length > 1) row.append(player(label, () => moved((Number(bar.value) + 1) % labels.length)));
  return element("div", { class: "control" }, element("label", { for: id }, label), row);
}

// A button that calls `step` again and again until it is pressed once more, or its control leaves the page.
function player(label, step) {
  let timer = null;
  const button = element("button", { type: "button", "aria-pressed": "false" }, "Play");
  button.setAttribute("aria-label", `Play ${label.toLowerCase()}`);
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
    button.setAttribute("aria-pressed", "false");
  };
  button.addEventListener("click", () => {
    if (timer !== null) return stop();
    button.textContent = "Stop";
    button.setAttribute("aria-pressed", "true");
    timer = setInterval(() => (button.isConnected ? step() : stop()), 700);
  });
  return button;
}

function check(label, on, set) {
  const id = `control-${(counted += 1)}`;
  const box = element("input", { type: "checkbox", id, checked: on, onchange: (event) => set(event.target.checked) });
  return element("div", { class: "control" },
    element("div", { class: "row" }, box, element("label", { for: id }, label)));
}
