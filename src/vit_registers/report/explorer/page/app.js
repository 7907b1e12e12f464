// Which scene is shown, and with what, is in the address: #/scene?model=...&block=...
const ABOUT = JSON.parse(document.getElementById("about").textContent);
const SCENES = { chart: chartScene, maps: mapsScene, pictures: picturesScene, listing: listingScene };
const main = document.getElementById("main");
const nav = document.getElementById("nav");
const menu = document.getElementById("menu");

function where() {
  const [name, query] = location.hash.replace(/^#\/?/, "").split("?");
  return { name, state: Object.fromEntries(new URLSearchParams(query ?? "")) };
}

function address(name, state) {
  const query = new URLSearchParams(state).toString();
  return `#/${name}${query ? `?${query}` : ""}`;
}

function listScenes() {
  const subjects = new Map();
  for (const scene of ABOUT.scenes) subjects.set(scene.subject, [...(subjects.get(scene.subject) ?? []), scene]);
  const list = document.getElementById("scenes");
  for (const scenes of subjects.values()) {
    for (const scene of scenes) {
      list.append(element("li", {}, element("a", { href: address(scene.name, {}), "data-scene": scene.name }, scene.title)));
    }
  }
}

function home() {
  const cards = ABOUT.scenes.map((scene) => element("li", {},
    element("a", { href: address(scene.name, {}) }, element("strong", {}, scene.title), element("span", {}, scene.caption))));
  main.replaceChildren(element("h1", {}, ABOUT.model ? `${ABOUT.title}: ${ABOUT.model}` : ABOUT.title),
    element("p", { class: "how" }, "Choose a scene. Every view has an address of its own, which can be kept and sent on."),
    element("ul", { class: "cards" }, ...cards));
}

async function show(focus) {
  const { name, state } = where();
  for (const link of nav.querySelectorAll("[data-scene]")) {
    if (link.dataset.scene === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const scene = ABOUT.scenes.find((each) => each.name === name);
  if (!scene) {
    home();
  } else {
    const place = element("div", {});
    main.replaceChildren(element("h1", {}, scene.title), element("p", { class: "how" }, scene.caption), place);
    const data = JSON.parse(document.getElementById(`scene-${name}`).textContent);
    const note = (now) => {
      if (where().name === name) history.replaceState(null, "", address(name, now));
    };
    await SCENES[data.kind](place, data, state, note);
  }
  document.documentElement.dataset.shown = name || "home"; // what waits for a scene looks here
  if (focus) main.focus({ preventScroll: true });
}

const THEMES = ["auto", "light", "dark"];
const wanted = () => (document.documentElement.dataset.wanted ?? "auto");
const dark = matchMedia("(prefers-color-scheme: dark)");

function theme(name) {
  document.documentElement.dataset.wanted = name;
  document.documentElement.dataset.theme = name === "auto" ? (dark.matches ? "dark" : "light") : name;
  document.getElementById("theme").textContent = `Theme: ${name}`;
}

document.getElementById("theme").addEventListener("click", () => {
  theme(THEMES[(THEMES.indexOf(wanted()) + 1) % THEMES.length]);
  show(false); // charts take their colours when they are drawn
});
dark.addEventListener("change", () => {
  theme(wanted());
  show(false);
});
menu.addEventListener("click", () => menu.setAttribute("aria-expanded", String(nav.classList.toggle("open"))));
nav.addEventListener("click", () => {
  nav.classList.remove("open");
  menu.setAttribute("aria-expanded", "false");
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
window.addEventListener("hashchange", () => show(true));
theme("auto");
listScenes();
show(false);
