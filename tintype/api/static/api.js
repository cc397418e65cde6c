/** The HTTP API: reads, writes that can be repeated safely, and problems as values with their fields. */

const TRIES = 25;
const PAUSE_MS = 1000;

/**
 * @typedef {{loc: (string | number)[], msg: string}} FieldProblem
 */

/** What the server answered instead of a result, or that it could not be reached (`status` 0). */
export class Problem extends Error {
  /** @param {{status: number, detail: string, errors?: FieldProblem[]}} body */
  constructor({ status, detail, errors }) {
    super(detail);
    this.status = status;
    /** @type {FieldProblem[]} */
    this.errors = errors ?? [];
  }
}

/**
 * @param {string} path
 * @param {RequestInit} [init]
 */
async function call(path, init) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...init });
  } catch {
    throw new Problem({ status: 0, detail: "The studio does not answer. Is it still running?" });
  }
  if (response.status === 204) return null;
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  throw new Problem({
    status: response.status,
    detail: body.detail ?? body.title ?? `The studio answered with status ${response.status}.`,
    errors: body.errors,
  });
}

/** @param {string} path */
export const read = (path) => call(path);

/**
 * One change. Its Idempotency-Key lets it be sent again while the server restarts, without happening twice.
 *
 * @param {"POST" | "DELETE"} method
 * @param {string} path
 * @param {object} [body]
 */
export async function write(method, path, body) {
  const headers = { "Idempotency-Key": crypto.randomUUID() };
  if (body) headers["Content-Type"] = "application/json";
  for (let attempt = 1; ; attempt++) {
    try {
      return await call(path, { method, headers, body: body && JSON.stringify(body) });
    } catch (problem) {
      if (attempt === TRIES || (problem.status !== 0 && problem.status !== 503)) throw problem;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }
}
