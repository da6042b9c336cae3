// The connection that carries all cameras. It comes back by itself, and says what it is up to.

const text = new TextDecoder();

export class Live {
  // `on` has: state("on" | "off" | "wait"), streams(list), event(record), frame(record, blob).
  constructor(on) {
    this.on = on;
    this.watch = null;
    this.width = 960;
    this.tries = 0;
    this.connect();
    addEventListener("online", () => this.retry());
    document.addEventListener("visibilitychange", () => this.tell());
  }

  connect() {
    this.on.state("wait");
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}/v1/live`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => {
      this.tries = 0;
      this.on.state("on");
      this.tell();
    };
    this.socket.onmessage = ({ data }) => (typeof data === "string" ? this.word(JSON.parse(data)) : this.picture(data));
    this.socket.onclose = () => this.closed();
  }

  closed() {
    this.on.state("off");
    // Longer and longer, and not all pages at once, when the service is away.
    const wait = Math.min(500 * 2 ** this.tries++, 8000) * (0.75 + Math.random() / 2);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), wait);
    // A refused connection looks like a lost one; only a plain request tells that we are signed out.
    if (this.tries === 2) fetch("/v1/model").then((a) => a.status === 401 && location.assign("/login"), () => {});
  }

  retry() {
    if (this.socket.readyState !== WebSocket.CLOSED) return;
    clearTimeout(this.timer);
    this.connect();
  }

  // Ask for the pictures that somebody can see, as wide as they are shown.
  want(ids, width) {
    const key = JSON.stringify([ids, width]);
    if (key === this.key) return;
    this.key = key;
    this.watch = ids;
    this.width = width;
    this.tell();
  }

  tell() {
    this.send({ watch: document.hidden ? [] : this.watch, width: Math.round(this.width) });
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  word(message) {
    if (message.type === "streams") this.on.streams(message.streams);
    if (message.type === "event") this.on.event(message);
  }

  async picture(data) {
    const length = new DataView(data).getUint32(0);
    const record = JSON.parse(text.decode(new Uint8Array(data, 4, length)));
    const blob = new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" });
    try {
      await this.on.frame(record, blob);
    } finally {
      this.send({ got: record.source }); // only now may the next but one come
    }
  }
}
