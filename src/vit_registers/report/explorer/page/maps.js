// Maps over an image: two conditions of a model side by side on one scale; a click asks for the map of a patch.
const SIDE = 320; // pixels of a canvas, whatever the image has
const LUT = () => Uint8Array.from(atob(ABOUT.colours), (letter) => letter.charCodeAt(0));

function mapsScene(place, data, state, note) {
  const controls = element("div", { class: "controls" });
  const thumbs = element("div", { class: "thumbs", role: "group", "aria-label": "Image" });
  const panels = element("div", { class: "panels" });
  const legend = element("div", { class: "legend" });
  place.append(controls, thumbs, panels, legend);
  const lut = LUT();
  const at = { model: 0, image: 0, quantity: null, first: 0, second: 0, axes: {}, log: false, over: false };
  let drawing = 0;

  const model = () => data.models[at.model];
  const quantities = () => [...new Set(model().conditions.flatMap((c) => Object.keys(c.quantities)))];
  const quantity = (condition) => condition.quantities[at.quantity];
  const shownAxes = () => {
    const axes = new Map();
    for (const condition of sides()) {
      for (const axis of quantity(condition)?.axes ?? []) {
        axes.set(axis.name, [...new Set([...(axes.get(axis.name) ?? []), ...axis.labels])]);
      }
    }
    return axes;
  };
  const sides = () => {
    const [first, second] = [model().conditions[at.first], model().conditions[at.second]];
    return first === second ? [first] : [first, second];
  };
  const asks = () => {
    const own = quantity(model().conditions[at.first]);
    const from = own?.axes.find((axis) => axis.name === "from");
    return Boolean(from) && from.labels.length === own.others.length + cells(model().conditions[at.first]);
  };

  function read() {
    const byLabel = (list, label, otherwise) => {
      const found = list.findIndex((each) => each.label === label);
      return found >= 0 ? found : otherwise;
    };
    at.model = byLabel(data.models, state.model, 0);
    at.first = byLabel(model().conditions, state.a, 0);
    at.second = byLabel(model().conditions, state.b, Math.min(data.second, model().conditions.length - 1));
    const [image, block] = model().start ?? [0, null];
    at.image = Math.min(Number(state.image ?? image) || 0, model().images.length - 1);
    at.quantity = quantities().includes(state.quantity) ? state.quantity : quantities()[0];
    at.log = state.log === "1";
    at.over = state.over === "1";
    at.axes = {};
    for (const [name, labels] of shownAxes()) {
      const otherwise = name === "block" ? labels[block ?? labels.length - 1] : labels[0];
      at.axes[name] = labels.includes(state[name]) ? state[name] : otherwise;
    }
  }

  function keep() {
    state = {
      model: model().label, a: model().conditions[at.first].label, b: model().conditions[at.second].label,
      image: String(at.image), quantity: at.quantity, ...at.axes,
      ...(at.log ? { log: "1" } : {}), ...(at.over ? { over: "1" } : {}),
    };
    note(state);
  }

  function change(part) {
    Object.assign(at, part);
    keep();
    draw();
  }

  function build() {
    controls.replaceChildren();
    const label = (each) => each.label;
    const again = (part) => {
      Object.assign(at, part);
      keep();
      read();
      build();
    };
    if (data.models.length > 1) {
      controls.append(select("Model", data.models.map(label), at.model, (to) => {
        state = { ...state, model: data.models[to].label };
        read();
        keep();
        build();
      }));
    }
    const conditions = model().conditions.map(label);
    if (conditions.length > 1) {
      controls.append(select("Left", conditions, at.first, (first) => again({ first })));
      controls.append(select("Right", conditions, at.second, (second) => again({ second })));
    }
    const names = quantities();
    if (names.length > 1) {
      const title = (name) => model().conditions.map((c) => c.quantities[name]?.label).find(Boolean);
      controls.append(select("Shown", names.map(title), names.indexOf(at.quantity), (to) => again({ quantity: names[to] })));
    }
    for (const [name, labels] of shownAxes()) {
      if (labels.length < 2) continue;
      const now = labels.indexOf(at.axes[name]);
      const set = (to) => change({ axes: { ...at.axes, [name]: labels[to] } });
      if (name === "block") controls.append(slider("Block", labels, now, set, true));
      else controls.append(select(name === "from" ? "From" : "Head", labels, now, set));
    }
    if (sides().some((condition) => quantity(condition)?.map)) {
      controls.append(check("logarithmic scale", at.log, (log) => change({ log })));
      controls.append(check("over the image", at.over, (over) => change({ over })));
    }
    thumbs.replaceChildren(...model().images.map((image, i) => element("button",
      { type: "button", "aria-pressed": String(i === at.image), "aria-label": `image ${image.id}`, onclick: () => {
        change({ image: i });
        [...thumbs.children].forEach((each, j) => each.setAttribute("aria-pressed", String(j === i)));
      } },
      element("img", { src: image.src, alt: "" }))));
    draw();
  }

  async function draw() {
    const mine = (drawing += 1);
    const picture = new Image();
    picture.src = model().images[at.image].src;
    await picture.decode();
    const found = await Promise.all(sides().map((condition) => values(condition)));
    if (mine !== drawing) return; // another was asked for meanwhile
    const numbers = found.filter((each) => each?.cells);
    const scale = scaleOf(numbers.map((each) => each.cells), at.log);
    panels.replaceChildren(inputPanel(picture), ...sides().map((condition, i) => panel(condition, found[i], scale, picture)));
    showLegend(numbers.length ? scale : null);
  }

  async function values(condition) {
    const shown = quantity(condition);
    if (!shown) return null;
    if (shown.colours) return { colours: await coloursAt(shown.colours, at.image) };
    const places = [at.image];
    for (const axis of shown.axes) {
      const found = axis.labels.indexOf(at.axes[axis.name]);
      if (found < 0) return null;
      places.push(found);
    }
    const all = await mapAt(shown.map, places);
    const specials = shown.others.length;
    return { cells: all.subarray(specials), others: shown.others.map((name, i) => [name, all[i]]), unit: shown.unit };
  }

  function scaleOf(maps, log) {
    const all = maps.flatMap((cells) => [...cells]);
    const top = Math.max(...all, 0);
    const positive = all.filter((value) => value > 0);
    const low = log && positive.length ? Math.min(...positive) : 0;
    const share = (value) => {
      if (top <= low) return top > 0 ? 1 : 0;
      return log ? Math.log(Math.max(value, low) / low) / Math.log(top / low) : value / top;
    };
    return { low, top, share };
  }

  const cells = (condition) => condition.grid[0] * condition.grid[1];

  function canvas(grid, describe) {
    const made = element("canvas", { width: SIDE, height: Math.round((SIDE * grid[0]) / grid[1]), role: "img", "aria-label": describe });
    made.getContext("2d").imageSmoothingEnabled = false;
    return made;
  }

  function inputPanel(picture) {
    const grid = model().conditions[at.first].grid;
    const made = canvas(grid, `image ${model().images[at.image].id}`);
    const context = made.getContext("2d");
    context.drawImage(picture, 0, 0, made.width, made.height);
    const box = element("div", { class: "panel" }, element("h2", {}, "input"), made);
    if (asks()) {
      made.classList.add("asks");
      made.tabIndex = 0;
      made.setAttribute("role", "application");
      made.setAttribute("aria-label", `${made.getAttribute("aria-label")}: choose a patch with the arrow keys`);
      made.addEventListener("click", (event) => ask(cellOf(made, event, grid)));
      made.addEventListener("keydown", (event) => {
        const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
        if (!(event.key in steps)) return;
        event.preventDefault();
        const [row, column] = asked() ?? [0, 0];
        const [down, right] = asked() ? steps[event.key] : [0, 0];
        ask([clamp(row + down, grid[0]), clamp(column + right, grid[1])], true);
      });
      if (asked()) frame(context, made, grid, asked());
      box.append(element("p", {}, "Click a patch, or use the arrow keys, to see what it attends to."));
    }
    return box;
  }

  const clamp = (value, count) => Math.max(0, Math.min(count - 1, value));
  const asked = () => {
    const found = /^patch (\d+), (\d+)$/.exec(at.axes.from ?? "");
    return found ? [Number(found[1]) - 1, Number(found[2]) - 1] : null;
  };

  function ask([row, column], keyboard = false) {
    at.axes = { ...at.axes, from: `patch ${row + 1}, ${column + 1}` };
    keep();
    said(`patch ${row + 1}, ${column + 1}`);
    build();
    if (keyboard) setTimeout(() => panels.querySelector("canvas.asks")?.focus(), 60);
  }

  function cellOf(made, event, grid) {
    const box = made.getBoundingClientRect();
    const row = Math.floor(((event.clientY - box.top) / box.height) * grid[0]);
    const column = Math.floor(((event.clientX - box.left) / box.width) * grid[1]);
    return [clamp(row, grid[0]), clamp(column, grid[1])];
  }

  function frame(context, made, grid, [row, column]) {
    const [height, width] = [made.height / grid[0], made.width / grid[1]];
    context.lineWidth = 5;
    context.strokeStyle = "#ffffff";
    context.strokeRect(column * width, row * height, width, height);
    context.lineWidth = 2;
    context.strokeStyle = "#d00000";
    context.strokeRect(column * width, row * height, width, height);
  }

  function panel(condition, shown, scale, picture) {
    const title = element("h2", {}, condition.label);
    if (!shown) return element("div", { class: "panel" }, title, element("p", {}, "not there under this condition"));
    const made = canvas(condition.grid, `${quantity(condition).label}, ${condition.label}`);
    const context = made.getContext("2d");
    const pixels = new ImageData(condition.grid[1], condition.grid[0]);
    for (let i = 0; i < cells(condition); i += 1) {
      const colour = shown.colours
        ? shown.colours.subarray(3 * i, 3 * i + 3)
        : lut.subarray(3 * Math.round(255 * scale.share(shown.cells[i])), 3 * Math.round(255 * scale.share(shown.cells[i])) + 3);
      pixels.data.set([...colour, 255], 4 * i);
    }
    const small = element("canvas", { width: condition.grid[1], height: condition.grid[0] });
    small.getContext("2d").putImageData(pixels, 0, 0);
    if (at.over && shown.cells) {
      context.drawImage(picture, 0, 0, made.width, made.height);
      context.globalAlpha = 0.65;
    }
    context.drawImage(small, 0, 0, made.width, made.height);
    context.globalAlpha = 1;
    if (asked() && asks()) frame(context, made, condition.grid, asked());
    const box = element("div", { class: "panel" }, title, made);
    if (shown.cells) describe(box, made, condition, shown);
    if (asks()) {
      made.classList.add("asks");
      made.addEventListener("click", (event) => ask(cellOf(made, event, condition.grid)));
    }
    return box;
  }

  // The largest value in words, the value under the pointer, and bars of the special tokens.
  function describe(box, made, condition, shown) {
    let best = 0;
    shown.cells.forEach((value, i) => {
      if (value > shown.cells[best]) best = i;
    });
    const where = (i) => `patch ${Math.floor(i / condition.grid[1]) + 1}, ${(i % condition.grid[1]) + 1}`;
    const most = `largest ${short(shown.cells[best])} at ${where(best)}`;
    const line = element("p", {}, most);
    made.setAttribute("aria-label", `${made.getAttribute("aria-label")}: ${most}`);
    made.addEventListener("mousemove", (event) => {
      const [row, column] = cellOf(made, event, condition.grid);
      const i = row * condition.grid[1] + column;
      line.textContent = `${where(i)}: ${short(shown.cells[i])}`;
    });
    made.addEventListener("mouseleave", () => (line.textContent = most));
    box.append(line);
    if (!shown.others.length) return;
    const top = Math.max(...shown.others.map(([, value]) => value), 1e-12);
    const bars = shown.others.flatMap(([name, value]) => [
      element("span", {}, name),
      element("span", { class: "bar" }, bar(value / top)),
      element("span", {}, short(value)),
    ]);
    box.append(element("div", { class: "others" }, ...bars));
  }

  function bar(share) {
    const made = element("i");
    made.style.width = `${100 * share}%`;
    return made;
  }

  function showLegend(scale) {
    if (!scale) return legend.replaceChildren();
    const strip = element("canvas", { width: 256, height: 1, role: "img", "aria-label": "colours from low to high" });
    const pixels = new ImageData(256, 1);
    for (let i = 0; i < 256; i += 1) pixels.data.set([...lut.subarray(3 * i, 3 * i + 3), 255], 4 * i);
    strip.getContext("2d").putImageData(pixels, 0, 0);
    const unit = sides().map((condition) => quantity(condition)?.unit).find(Boolean) ?? "";
    return legend.replaceChildren(element("span", {}, short(scale.low)), strip,
      element("span", {}, `${short(scale.top)} ${unit}`), element("span", {}, at.log ? "(logarithmic)" : ""));
  }

  read();
  keep();
  build();
}

function short(value) {
  if (value === 0) return "0";
  return Math.abs(value) >= 1000 || Math.abs(value) < 0.001 ? value.toExponential(2) : String(Number(value.toPrecision(3)));
}
