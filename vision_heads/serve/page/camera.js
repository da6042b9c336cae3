// One camera's card: picture, figures, chart, buttons.

import { history } from "./api.js";
import { Chart, SPAN } from "./chart.js";
import { paint } from "./draw.js";

const WORDS = { connecting: "Connecting", live: "Live", lost: "Lost", ended: "Ended", failed: "Failed" };

export class Camera {
  // `view` has: show (what is drawn), colors; `on` has: remove(camera), resized().
  constructor(info, view, on) {
    this.view = view;
    this.node = document.getElementById("camera").content.firstElementChild.cloneNode(true);
    this.node.dataset.id = info.id;
    this.parts = Object.fromEntries(
      ["picture", "notice", "badge", "address", "fps", "delay", "objects", "dropped", "large", "remove", "legend", "chart"].map(
        (name) => [name, this.node.querySelector(`.${name}`)],
      ),
    );
    this.parts.title = this.node.querySelector("h3");
    this.chart = new Chart(this.parts.chart, this.parts.legend);
    this.parts.large.addEventListener("click", () => this.enlarge(on));
    this.parts.remove.addEventListener("click", () => on.remove(this));
    this.frames = 0;
    this.update(info);
    history(info.id, SPAN).then((past) => this.chart.fill(past), () => {}); // the chart then begins now
  }

  get id() {
    return this.info.id;
  }

  enlarge(on) {
    const wide = this.node.classList.toggle("wide");
    this.parts.large.setAttribute("aria-pressed", String(wide));
    this.parts.large.title = wide ? "Smaller" : "Larger";
    this.repaint();
    on.resized();
  }

  update(info) {
    this.info = info;
    const { parts } = this;
    set(parts.title, info.name);
    set(parts.address, info.url);
    parts.address.title = info.url;
    set(parts.badge, WORDS[info.state]);
    parts.badge.className = `badge ${info.state}`;
    set(parts.fps, info.state === "live" ? info.fps.toFixed(1) : "–");
    milliseconds(parts.delay, info.state === "live" ? info.latency.median : null);
    set(parts.dropped, compact(info.dropped));
    parts.remove.hidden = info.fixed;
    parts.remove.setAttribute("aria-label", `Remove ${info.name}`);
    parts.large.setAttribute("aria-label", `Larger: ${info.name}`);
    set(parts.notice, notice(info));
    const now = Date.now() / 1000;
    if (info.state === "live") this.chart.add(now, info.counts);
    this.count();
    this.chart.draw(now, this.view.show.heads, this.view.colors);
  }

  async frame(record, blob) {
    const image = await createImageBitmap(blob);
    this.last?.image.close();
    // The picture may have been scaled down; boxes are in the pixels of the camera.
    const size = { width: this.info.width || image.width, height: this.info.height || image.height };
    this.last = { image, record, size };
    this.repaint();
    this.node.dataset.frames = String(++this.frames);
  }

  repaint() {
    if (!this.last) return;
    const { image, record, size } = this.last;
    this.parts.picture.style.setProperty("--ratio", String(size.width / size.height));
    const drawn = paint(this.parts.picture, image, size, record.heads, this.view.show, this.view.colors);
    this.node.dataset.drawn = String(drawn);
  }

  count() {
    let total = 0;
    const said = [];
    for (const [head, classes] of Object.entries(this.info.counts)) {
      if (this.view.show.heads.has(head)) continue;
      for (const [name, number] of Object.entries(classes)) {
        total += number;
        said.push(`${number} ${name}`);
      }
    }
    set(this.parts.objects, this.info.state === "live" ? String(total) : "–");
    this.parts.picture.setAttribute("aria-label", `${this.info.name}: ${said.join(", ") || "nothing found"}`);
  }
}

function notice(info) {
  if (info.state === "live") return "";
  // The address stands below already.
  const message = info.message.replace("cannot be opened: ", "").replace(`${info.url}: `, "");
  if (message) return message[0].toUpperCase() + message.slice(1);
  return info.state === "ended" ? "The stream has ended." : "Waiting for the first picture";
}

// Leaves what is the same alone: screen readers would say it again.
function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function milliseconds(node, seconds) {
  if (seconds == null) return set(node, "–");
  const unit = document.createElement("small");
  unit.textContent = seconds < 1 ? "ms" : "s";
  node.replaceChildren(seconds < 1 ? String(Math.round(seconds * 1000)) : seconds.toFixed(1), unit);
}

function compact(number) {
  return number < 10000 ? String(number) : `${(number / 1000).toFixed(number < 100000 ? 1 : 0)}k`;
}
