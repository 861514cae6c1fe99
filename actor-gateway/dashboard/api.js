// Talks to the node. With a token it is sent along; without one the node answers on loopback only.

const KEY = "actor-admin-token";

/** An answer that says what went wrong. */
export class Problem extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `status ${status}`);
    this.status = status;
  }
}

export function remember(token) {
  sessionStorage.setItem(KEY, token);
}

/** Asks the node; `path` follows `/admin/api`. */
export async function ask(path, method = "GET") {
  const token = sessionStorage.getItem(KEY);
  const headers = { accept: "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  const response = await fetch(`/admin/api${path}`, { method, headers, cache: "no-store", signal: AbortSignal.timeout(5000) });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, body);
  return body;
}
