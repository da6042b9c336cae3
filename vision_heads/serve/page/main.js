// Puts the page together: model, toggles, cameras, dialog, events.

import { addStream, model, removeStream } from "./api.js";
import { Camera } from "./camera.js";
import { Live } from "./live.js";
import { Trial } from "./trial.js";

const $ = (id) => document.getElementById(id);
const EVENTS = 50;

// `heads` are those that are switched off: heads that come later are shown.
const view = { show: { boxes: true, labels: true, tracks: true, axes: true, heads: new Set() }, colors: new Map() };
const cameras = new Map();
const trial = new Trial(view);

function repaint() {
  for (const camera of cameras.values()) {
    camera.repaint();
    camera.count();
    camera.chart.draw(Date.now() / 1000, view.show.heads, view.colors);
  }
  trial.repaint();
}

function toggle(button, change) {
  const on = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(on));
  change(on);
  repaint();
}

async function describe() {
  const about = await model();
  $("model").textContent = `${about.name} · ${about.width} × ${about.height}`;
  $("terms").textContent = about.terms ? ` · Terms of the model's data: ${about.terms}` : "";
  for (const head of about.heads) {
    view.colors.set(head.name, new Map(head.classes.map((name, index) => [name, head.colors[index]])));
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.name;
    button.title = head.classes.join(", ");
    button.dataset.head = head.name;
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () =>
      toggle(button, (on) => (on ? view.show.heads.delete(head.name) : view.show.heads.add(head.name))),
    );
    $("heads").append(button);
  }
  const hide = { axes: !about.heads.some((head) => head.poses), tracks: !about.tracks };
  for (const [what, hidden] of Object.entries(hide)) $("draw").querySelector(`[data-show="${what}"]`).hidden = hidden;
}

for (const button of $("draw").children) {
  button.addEventListener("click", () => toggle(button, (on) => (view.show[button.dataset.show] = on)));
}

function list(infos) {
  const ids = new Set(infos.map((info) => info.id));
  for (const [id, camera] of cameras) {
    if (ids.has(id)) continue;
    camera.node.remove();
    cameras.delete(id);
    seen.unobserve(camera.node);
  }
  for (const info of infos) {
    const known = cameras.get(info.id);
    if (known) known.update(info);
    else {
      const camera = new Camera(info, view, { remove: drop, resized: want });
      cameras.set(info.id, camera);
      $("cameras").append(camera.node);
      seen.observe(camera.node);
    }
  }
  $("empty").hidden = infos.length > 0;
}

async function drop(camera) {
  if (!confirm(`Remove ${camera.info.name}?`)) return;
  try {
    await removeStream(camera.id);
    $("cameras").focus(); // the button that had it is gone
  } catch (error) {
    alert(error.message);
  }
}

// Only cameras in view are sent, and no wider than they are shown.
const visible = new Set();
const seen = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) visible[isIntersecting ? "add" : "delete"](target.dataset.id);
    want();
  },
  { rootMargin: "200px" },
);
function want() {
  const shown = [...cameras.values()].filter((camera) => visible.has(camera.id));
  const widths = shown.map((camera) => camera.parts.picture.clientWidth * devicePixelRatio);
  live.want(shown.map((camera) => camera.id), Math.max(320, ...widths));
}

const LINK = { on: "Connected", off: "No connection; trying again", wait: "Connecting" };
const live = new Live({
  state(state) {
    $("link").className = `link ${state}`;
    $("link").querySelector(".words").textContent = LINK[state];
  },
  streams: list,
  event: log,
  frame: (record, blob) => cameras.get(record.source)?.frame(record, blob),
});

const SAID = {
  source_lost: "no connection",
  source_resumed: "back again",
  source_ended: "ended",
  line_crossed: "line crossed",
  zone_entered: "zone entered",
  zone_left: "zone left",
};
function log(event) {
  const item = document.createElement("li");
  const time = document.createElement("time");
  const at = new Date(event.received * 1000);
  time.dateTime = at.toISOString();
  time.textContent = at.toLocaleTimeString();
  const about = [event.class, event.track != null ? `#${event.track}` : "", [event.line ?? event.zone, event.direction].filter(Boolean).join(" ")];
  // The address is on the camera's card.
  const reason = (event.message || event.reason || "").replace(/^.*?:\/\/\S+: /, "");
  const name = cameras.get(event.source)?.info.name ?? event.source;
  const words = [`${name}: ${SAID[event.event] ?? event.event}`, ...about.filter(Boolean), reason].filter(Boolean);
  item.append(time, words.join(" · "));
  $("events").prepend(item);
  while ($("events").children.length > EVENTS) $("events").lastElementChild.remove();
  $("no-events").hidden = true;
}

const dialog = $("adding");
$("add").addEventListener("click", () => {
  fail("");
  dialog.showModal();
});
$("cancel").addEventListener("click", () => dialog.close());
$("adding-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [url, name, button] = [$("url"), $("name"), $("adding-form").querySelector(".primary")];
  if (!url.value.trim()) return fail("Give the camera's address.");
  button.disabled = true;
  try {
    await addStream(url.value.trim(), name.value.trim());
    $("adding-form").reset();
    dialog.close();
  } catch (error) {
    fail(error.message);
    url.focus();
  } finally {
    button.disabled = false;
  }
});
function fail(message) {
  $("adding-error").textContent = message;
  $("adding-error").hidden = !message;
  $("url").setAttribute("aria-invalid", String(Boolean(message)));
}

if (document.cookie.includes("vh_signed_in=")) $("logout").hidden = false;
addEventListener("resize", () => {
  want();
  repaint();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
describe().catch((error) => ($("model").textContent = error.message));
