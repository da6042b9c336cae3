// A picture with what was found in it, on a canvas. Lines are as thick on every screen, however
// large the picture is.

const FONT = '600 12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';
const NOSE = "#56c8ff";
const SIDE = "#ff5a3c";
const CHIN = "#00d6a0";

// Sets the canvas to the pixels of the screen that it covers, at most those of the picture x 2.
function fit(canvas, width, height) {
  const shown = canvas.clientWidth || width;
  const scale = Math.min(shown * devicePixelRatio, width * 2) / width;
  const size = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  return scale;
}

// `found` is the record of a frame or a picture: heads -> list of {class, score, box, ...};
// `size` is what the boxes are in; `show` says what is drawn; `colors` is head -> class -> colour.
export function paint(canvas, image, size, found, show, colors) {
  const scale = fit(canvas, size.width, size.height);
  const brush = canvas.getContext("2d");
  brush.drawImage(image, 0, 0, canvas.width, canvas.height);
  const unit = Math.max(1, canvas.width / (canvas.clientWidth || canvas.width));
  const items = [];
  for (const [head, list] of Object.entries(found)) {
    if (show.heads.has(head)) continue; // hidden ones are named, so that new ones are shown
    for (const one of list) {
      items.push({ one, box: one.box.map((v) => v * scale), color: colors.get(head)?.get(one.class) ?? "#ffffff" });
    }
  }
  if (show.boxes) items.forEach(({ box, color }) => outline(brush, box, color, unit));
  if (show.axes) items.forEach(({ one, box }) => axes(brush, one, box, unit));
  if (show.boxes && show.labels) labels(brush, items, show, unit, canvas);
  return items.length;
}

function outline(brush, [x1, y1, x2, y2], color, unit) {
  const small = Math.min(x2 - x1, y2 - y1);
  if (small > 24 * unit) {
    brush.strokeStyle = "rgb(16 20 20 / 65%)";
    brush.lineWidth = 3.5 * unit;
    brush.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  brush.strokeStyle = color;
  brush.lineWidth = (small > 24 * unit ? 2 : 1.25) * unit;
  brush.strokeRect(x1, y1, x2 - x1, y2 - y1);
}

function words(one, show) {
  const track = show.tracks && one.track != null ? `#${one.track} ` : "";
  return `${track}${one.class} ${Math.round(one.score * 100)}`;
}

// Best first; a label that would lie on another one, or is much larger than its box, is left out.
function labels(brush, items, show, unit, canvas) {
  brush.font = FONT.replace("12px", `${12 * unit}px`);
  brush.textBaseline = "middle";
  const high = 17 * unit;
  const taken = [];
  for (const { one, box, color } of [...items].sort((a, b) => b.one.score - a.one.score)) {
    const text = words(one, show);
    const wide = brush.measureText(text).width + 8 * unit;
    if (Math.max(box[2] - box[0], box[3] - box[1]) < wide * 0.45) continue;
    const x = Math.min(Math.max(0, box[0] - unit), Math.max(0, canvas.width - wide));
    const y = box[1] - high >= 0 ? box[1] - high : Math.min(box[3], canvas.height - high);
    const place = [x, y, x + wide, y + high];
    if (taken.some((t) => t[0] < place[2] && place[0] < t[2] && t[1] < place[3] && place[1] < t[3])) continue;
    taken.push(place);
    brush.fillStyle = color;
    brush.fillRect(x, y, wide, high);
    brush.fillStyle = bright(color) ? "#101414" : "#ffffff";
    brush.fillText(text, x + 4 * unit, y + high / 2);
  }
}

function bright(color) {
  const value = parseInt(color.slice(1), 16);
  return 0.299 * (value >> 16) + 0.587 * ((value >> 8) & 255) + 0.114 * (value & 255) > 110;
}

// Columns of the rotation in image axes (x right, y down): to the side, to the chin, out of the
// nose. Records have angles: R = Rx(pitch) Ry(-yaw) Rz(roll), degrees.
export function columns([pitch, yaw, roll]) {
  const rad = Math.PI / 180;
  const [cp, sp] = [Math.cos(pitch * rad), Math.sin(pitch * rad)];
  const [cy, sy] = [Math.cos(yaw * rad), Math.sin(-yaw * rad)];
  const [cr, sr] = [Math.cos(roll * rad), Math.sin(roll * rad)];
  return {
    side: [cy * cr, cp * sr + sp * sy * cr, sp * sr - cp * sy * cr],
    chin: [-cy * sr, cp * cr - sp * sy * sr, sp * cr + cp * sy * sr],
    nose: [sy, -sp * cy, cp * cy],
  };
}

function angles(one) {
  if (one.euler) return one.euler;
  return one.pitch == null ? null : [one.pitch, one.yaw, one.roll];
}

function axes(brush, one, box, unit) {
  const turned = angles(one);
  if (!turned) return;
  const size = Math.sqrt((box[2] - box[0]) * (box[3] - box[1]));
  const centre = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
  const { nose, side, chin } = columns(turned);
  const all = [[nose, 0.85, NOSE]];
  if (size > 26 * unit) all.push([side, 0.5, SIDE], [chin, 0.5, CHIN]);
  all.sort((a, b) => a[0][2] - b[0][2]);
  const thick = Math.min(Math.max(size / 28, 1.5 * unit), 5 * unit);
  brush.lineCap = "round";
  for (const [direction, length, color] of all) {
    const tip = [centre[0] + direction[0] * length * size, centre[1] + direction[1] * length * size];
    for (const [style, width] of [["#181818", thick + 2 * unit], [color, thick]]) {
      brush.strokeStyle = style;
      brush.lineWidth = width;
      brush.beginPath();
      brush.moveTo(...centre);
      brush.lineTo(...tip);
      brush.stroke();
    }
    if (color === NOSE) end(brush, tip, Math.max(2 * unit, 0.045 * size), nose[2] < 0, unit);
  }
}

// A dot where the face is turned to the viewer, a ring where it is turned away.
function end(brush, [x, y], radius, away, unit) {
  brush.beginPath();
  brush.arc(x, y, radius, 0, 2 * Math.PI);
  brush.fillStyle = away ? "#181818" : NOSE;
  brush.strokeStyle = away ? NOSE : "#181818";
  brush.lineWidth = 1.5 * unit;
  brush.fill();
  brush.stroke();
}
