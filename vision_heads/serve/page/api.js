// Requests to the service: plain data comes back, or an Error whose message is the service's own.

export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { Accept: "application/json", ...options.headers } });
  } catch {
    throw new Error("The service does not answer.");
  }
  if (answer.status === 401) {
    location.assign("/login");
    throw new Error("Please sign in again.");
  }
  if (answer.status === 204) return null;
  const content = await answer.json().catch(() => null);
  if (!answer.ok) throw new Error(content?.error?.message ?? `The service answered ${answer.status}.`);
  return content;
}

export const model = () => ask("/v1/model");

export const addStream = (url, name) =>
  ask("/v1/streams", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(name ? { url, name } : { url }),
  });

export const removeStream = (id) => ask(`/v1/streams/${encodeURIComponent(id)}`, { method: "DELETE" });

export const history = (id, seconds) =>
  ask(`/v1/streams/${encodeURIComponent(id)}/counts?seconds=${seconds}`);

export function detect(file) {
  const form = new FormData();
  form.append("image", file);
  return ask("/v1/detect", { method: "POST", body: form });
}
