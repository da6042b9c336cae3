// A single picture through the network: chosen, dropped anywhere on the page, or pasted.

import { detect } from "./api.js";
import { paint } from "./draw.js";

export class Trial {
  constructor(view) {
    this.view = view;
    this.drop = document.getElementById("drop");
    this.file = document.getElementById("file");
    this.words = document.getElementById("try-words");
    this.canvas = document.getElementById("try-view");
    this.file.addEventListener("change", () => this.run(this.file.files[0]));
    addEventListener("dragover", (event) => this.over(event, true));
    addEventListener("dragleave", (event) => this.over(event, false));
    addEventListener("drop", (event) => {
      this.over(event, false);
      this.run(event.dataTransfer?.files[0]);
    });
    addEventListener("paste", (event) => this.run(event.clipboardData?.files[0]));
  }

  over(event, on) {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    this.drop.classList.toggle("over", on);
  }

  async run(file) {
    if (!file) return;
    this.say("Looking …");
    const begin = performance.now();
    try {
      const result = await detect(file);
      const seconds = (performance.now() - begin) / 1000;
      // The browser turns it upright by its EXIF data, as the service does.
      const image = await createImageBitmap(file);
      this.last = { image, result, seconds };
      this.canvas.hidden = false;
      this.repaint();
    } catch (error) {
      this.last = null;
      this.canvas.hidden = true;
      this.say(error.message, true);
    } finally {
      this.file.value = ""; // the same file may be chosen again
    }
  }

  repaint() {
    if (!this.last) return;
    const { image, result, seconds } = this.last;
    const number = paint(this.canvas, image, result, result.heads, this.view.show, this.view.colors);
    const counts = new Map();
    for (const [head, found] of Object.entries(result.heads)) {
      if (this.view.show.heads.has(head)) continue;
      for (const one of found) counts.set(one.class, (counts.get(one.class) ?? 0) + 1);
    }
    const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([name, count]) => `${count} ${name}`);
    const list = parts.length ? `: ${parts.join(", ")}` : "";
    this.say(`${number} ${number === 1 ? "object" : "objects"} in ${Math.round(seconds * 1000)} ms${list}`);
  }

  say(text, bad = false) {
    this.words.hidden = false;
    this.words.classList.toggle("error", bad);
    this.words.textContent = text;
  }
}
