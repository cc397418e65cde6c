/**
 * What this page knows: generations as the API reads them, and how events and rereading change them.
 * Everything here is pure: each function gives a new shelf.
 *
 * @typedef {{step: number, steps: number, percent: number, eta_s: number | null,
 *   preview?: {index: number, url: string}}} Progress
 * @typedef {{id: string, width: number, height: number, seed: number | null, content_type: string,
 *   video: {seconds: number, fps: number} | null}} Picture
 * @typedef {{id: string, kind: "image" | "video", prompt: string, parameters: Record<string, any>, model: string,
 *   style: string | null, warnings: {code: string, message: string}[], created_at: string, started_at: string | null, completed_at: string | null}} Asked
 * @typedef {Asked & {status: "queued", position: number}} Waiting `position`: its place in line, 1 is next
 * @typedef {Asked & {status: "processing", progress: Progress | null, cancel_requested: boolean}} Running
 * @typedef {Asked & {status: "completed", media: Picture[]}} Completed
 * @typedef {Asked & {status: "failed", error: {code: string, message: string}}} Failed
 * @typedef {Asked & {status: "cancelled"}} Cancelled
 * @typedef {Waiting | Running | Completed | Failed | Cancelled} Generation
 *
 * @typedef {{type: string, generation_id: string, data: any}} Happening
 * @typedef {{items: Generation[], next_cursor: string | null}} Page
 *
 * `changed` says at which tick of `clock` a generation was last heard of, so that an answer that was asked for before
 * then does not undo what is known since; `gone` holds what was deleted, so that no late answer brings it back;
 * `cursor` continues the gallery: null where it is whole, undefined before the first page.
 * @typedef {{items: ReadonlyMap<string, Generation>, changed: ReadonlyMap<string, number>,
 *   gone: ReadonlySet<string>, clock: number, cursor: string | null | undefined}} Shelf
 */

/** @type {Shelf} */
export const EMPTY = { items: new Map(), changed: new Map(), gone: new Set(), clock: 0, cursor: undefined };

/** @param {Generation} generation */
export const isActive = ({ status }) => status === "queued" || status === "processing";

/**
 * A generation after an event. `completed` changes nothing here: its pictures come with the row, which is read again.
 *
 * @param {Generation} generation
 * @param {Happening} happening
 * @returns {Generation}
 */
export function transition(generation, { type, data }) {
  if (!isActive(generation)) return generation;
  switch (type) {
    case "queued":
      return { ...generation, status: "queued", progress: null, position: data.position };
    case "started":
      return { ...generation, status: "processing", progress: null };
    case "progress":
      return { ...generation, status: "processing", progress: data };
    case "failed":
      return { ...generation, status: "failed", error: data };
    case "cancelled":
      return { ...generation, status: "cancelled" };
    default:
      return generation;
  }
}

/**
 * @param {Shelf} shelf
 * @param {Happening} happening
 * @returns {Shelf}
 */
export function hear(shelf, happening) {
  if (happening.type === "deleted") return remove(shelf, happening.generation_id);
  const clock = shelf.clock + 1;
  const changed = new Map(shelf.changed).set(happening.generation_id, clock);
  const known = shelf.items.get(happening.generation_id);
  if (!known) return { ...shelf, clock, changed };
  const next = transition(known, happening);
  const items = next.status === "queued" ? new Map(shelf.items) : moveUp(shelf.items, known);
  return { ...shelf, clock, changed, items: items.set(known.id, next) };
}

/**
 * What waits after `left` has left the line; the server says the exact place of each when it is read again.
 *
 * @param {ReadonlyMap<string, Generation>} items
 * @param {Generation | undefined} left
 */
function moveUp(items, left) {
  const moved = new Map(items);
  if (left?.status !== "queued") return moved;
  for (const item of items.values()) {
    if (item.status === "queued" && item.model === left.model && item.position > left.position) {
      moved.set(item.id, { ...item, position: item.position - 1 });
    }
  }
  return moved;
}

/**
 * Rows that were asked for at tick `asOf`.
 *
 * @param {Shelf} shelf
 * @param {Generation[]} rows
 * @param {number} asOf
 * @returns {Shelf}
 */
export function merge(shelf, rows, asOf) {
  const items = new Map(shelf.items);
  for (const row of rows) {
    const known = items.get(row.id);
    const isStale = known && isActive(row) && (!isActive(known) || (shelf.changed.get(row.id) ?? 0) > asOf);
    if (!isStale && !shelf.gone.has(row.id)) items.set(row.id, row);
  }
  return { ...shelf, items };
}

/**
 * A generation this page itself has just asked for or changed.
 *
 * @param {Shelf} shelf
 * @param {Generation} generation
 * @returns {Shelf}
 */
export function put(shelf, generation) {
  const merged = merge(shelf, [generation], shelf.clock);
  const clock = shelf.clock + 1;
  return { ...merged, clock, changed: new Map(shelf.changed).set(generation.id, clock) };
}

/**
 * The newest page, read again at tick `asOf`: what it no longer holds was deleted elsewhere. Where it does not reach
 * back to what is known, older pages are dropped, to be loaded anew.
 *
 * @param {Shelf} shelf
 * @param {Page} page
 * @param {number} asOf
 * @returns {Shelf}
 */
export function reread(shelf, page, asOf) {
  const isFresh = (id) => (shelf.changed.get(id) ?? 0) > asOf;
  const listed = new Set(page.items.map(({ id }) => id));
  const isWhole = page.next_cursor === null;
  const oldest = isWhole ? "" : page.items.at(-1).id;
  const overlaps = page.items.some(({ id }) => shelf.items.has(id) && !isFresh(id));
  const keeps = ([id, generation]) =>
    listed.has(id) || isFresh(id) || (id < oldest && (overlaps || isActive(generation)));
  const kept = new Map([...shelf.items].filter(keeps));
  const cursor = !isWhole && overlaps && shelf.cursor !== undefined ? shelf.cursor : page.next_cursor;
  return merge({ ...shelf, items: kept, cursor }, page.items, asOf);
}

/**
 * @param {Shelf} shelf
 * @param {string} id
 * @returns {Shelf}
 */
export function remove(shelf, id) {
  const items = moveUp(shelf.items, shelf.items.get(id));
  items.delete(id);
  return { ...shelf, items, gone: new Set(shelf.gone).add(id) };
}

/**
 * Everything known, newest first (ids are UUIDv7 and so sort by time).
 *
 * @param {Shelf} shelf
 */
export const newestFirst = ({ items }) => [...items.values()].sort((a, b) => (a.id < b.id ? 1 : -1));
