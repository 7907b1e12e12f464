// Rows of pictures with a cell of each framed, one group (a model) at a time.
function picturesScene(place, data, state, note) {
  const controls = element("div", { class: "controls" });
  const rows = element("div", {});
  place.append(controls, rows);
  const labels = data.groups.map((group) => group.label);
  const show = (at) => {
    note({ model: labels[at] });
    rows.replaceChildren(...data.groups[at].rows.map((row) => element("div", { class: "strip" },
      element("strong", {}, row.label),
      element("div", { class: "pictures" }, ...row.pictures.map(framed)))));
  };
  const first = Math.max(0, labels.indexOf(state.model));
  if (labels.length > 1) controls.append(select("Model", labels, first, show));
  show(first);
}

function framed(picture) {
  const box = element("i");
  const [rows, columns] = picture.grid;
  box.style.top = `${(96 * picture.cell[0]) / rows}px`;
  box.style.left = `${(96 * picture.cell[1]) / columns}px`;
  box.style.height = `${96 / rows}px`;
  box.style.width = `${96 / columns}px`;
  const where = `patch ${picture.cell[0] + 1}, ${picture.cell[1] + 1}`;
  return element("figure", {}, element("img", { src: picture.src, alt: `image ${picture.name}, ${where} framed` }), box,
    element("figcaption", { title: picture.name }, picture.name));
}
