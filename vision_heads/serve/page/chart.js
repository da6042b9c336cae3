// Counts over time: one line a class, the last two minutes, on a canvas.

export const SPAN = 120;
const LINES = 6;

export class Chart {
  constructor(canvas, legend) {
    this.canvas = canvas;
    this.legend = legend;
    this.series = new Map(); // "head\0class" -> [{at, value}], oldest first
    this.seconds = new Set();
  }

  // What the service remembers from before this page was opened.
  fill({ step, end, series }) {
    for (const [head, classes] of Object.entries(series)) {
      for (const [name, values] of Object.entries(classes)) {
        const first = end - (values.length - 1) * step;
        const before = values.map((value, i) => ({ at: first + i * step, value })).filter((p) => p.value != null);
        before.forEach((p) => this.seconds.add(p.at));
        const after = this.series.get(`${head}\0${name}`) ?? [];
        this.series.set(`${head}\0${name}`, [...before, ...after.filter((p) => p.at > end)]);
      }
    }
  }

  add(at, counts) {
    this.seconds.add(at);
    for (const [head, classes] of Object.entries(counts)) {
      for (const name of Object.keys(classes)) {
        const key = `${head}\0${name}`;
        if (!this.series.has(key)) this.series.set(key, [...this.seconds].map((s) => ({ at: s, value: 0 })));
      }
    }
    for (const [key, points] of this.series) {
      const [head, name] = key.split("\0");
      const value = counts[head]?.[name] ?? 0;
      if (points.at(-1)?.at === at) points.at(-1).value = value;
      else points.push({ at, value });
      while (points.length && points[0].at < at - SPAN) points.shift();
      if (points.every((point) => point.value === 0)) this.series.delete(key);
    }
    for (const second of this.seconds) if (second < at - SPAN) this.seconds.delete(second);
  }

  // `hidden` is a set of heads, `colors` head -> class -> colour.
  draw(now, hidden, colors) {
    const lines = [...this.series]
      .map(([key, points]) => ({ head: key.split("\0")[0], name: key.split("\0")[1], points }))
      .filter(({ head }) => !hidden.has(head))
      .map((line) => ({ ...line, peak: Math.max(...line.points.map((p) => p.value)), last: line.points.at(-1).value }))
      .sort((a, b) => b.peak - a.peak || a.name.localeCompare(b.name))
      .slice(0, LINES);
    this.lines(now, lines, colors);
    this.words(lines, colors);
  }

  lines(now, lines, colors) {
    const { canvas } = this;
    const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
    if (!wide) return;
    canvas.width = Math.round(wide * devicePixelRatio);
    canvas.height = Math.round(high * devicePixelRatio);
    const brush = canvas.getContext("2d");
    brush.scale(devicePixelRatio, devicePixelRatio);
    const style = getComputedStyle(canvas);
    const [quiet, edge] = ["--quiet", "--edge"].map((name) => style.getPropertyValue(name));
    const area = { left: 26, right: wide - 2, top: 8, bottom: high - 18 };
    const top = nice(Math.max(1, ...lines.map((line) => line.peak)));
    const x = (at) => area.right - ((now - at) / SPAN) * (area.right - area.left);
    const y = (value) => area.bottom - (value / top) * (area.bottom - area.top);
    brush.font = "11px system-ui, sans-serif";
    brush.fillStyle = quiet;
    brush.strokeStyle = edge;
    brush.textBaseline = "middle";
    brush.textAlign = "right";
    for (const value of [0, top / 2, top]) {
      if (value !== Math.round(value)) continue;
      brush.fillText(String(value), area.left - 6, y(value));
      brush.beginPath();
      brush.moveTo(area.left, Math.round(y(value)) + 0.5);
      brush.lineTo(area.right, Math.round(y(value)) + 0.5);
      brush.stroke();
    }
    brush.textBaseline = "alphabetic";
    for (const [seconds, words, side] of [[SPAN, "2 min ago", "left"], [SPAN / 2, "1 min", "center"], [0, "now", "right"]]) {
      brush.textAlign = side;
      brush.fillText(words, x(now - seconds), high - 3);
    }
    brush.save();
    brush.beginPath();
    brush.rect(area.left, 0, area.right - area.left, high);
    brush.clip();
    brush.lineJoin = "round";
    for (const { head, name, points } of [...lines].reverse()) {
      const path = new Path2D();
      points.forEach((p, i) => {
        const gap = i === 0 || p.at - points[i - 1].at > 3.5; // no line where nothing was seen
        path[gap ? "moveTo" : "lineTo"](x(p.at), y(p.value));
      });
      brush.strokeStyle = style.getPropertyValue("--ink");
      brush.globalAlpha = 0.25;
      brush.lineWidth = 3.5;
      brush.stroke(path);
      brush.globalAlpha = 1;
      brush.strokeStyle = colors.get(head)?.get(name) ?? quiet;
      brush.lineWidth = 2;
      brush.stroke(path);
    }
    brush.restore();
  }

  words(lines, colors) {
    const items = lines.map(({ head, name, last }) => {
      const item = document.createElement("li");
      const mark = document.createElement("i");
      mark.style.background = colors.get(head)?.get(name) ?? "";
      const number = document.createElement("b");
      number.textContent = String(Math.round(last));
      item.append(mark, name, number);
      return item;
    });
    this.legend.replaceChildren(...items);
    const said = lines.map(({ name, last }) => `${Math.round(last)} ${name}`).join(", ");
    this.canvas.setAttribute("aria-label", `Objects over the last two minutes. Now: ${said || "none"}.`);
  }
}

// The next round number above the highest count.
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 10].map((step) => step * power).find((step) => step >= value);
}
