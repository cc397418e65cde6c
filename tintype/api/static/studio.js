/** The page: what is known about the studio, kept up to date by its events, and what the person does with it. */

import { Problem, read, write } from "./api.js";
import { createComposer } from "./composer.js";
import { follow } from "./feed.js";
import { showGallery, tilesOf } from "./gallery.js";
import { showCards } from "./live.js";
import { at, say } from "./page.js";
import * as shelves from "./shelf.js";
import { createViewer } from "./viewer.js";

const PAGE_SIZE = 48;
const ACTIVE_SIZE = 200;
const CHECK_MS = 10_000;

/**
 * @typedef {{kind: "starting"} | {kind: "ready"} | {kind: "idle"} | {kind: "lost"}} Health
 * `idle`: nothing is wrong except that no worker is alive.
 */

let shelf = shelves.EMPTY;
/** @type {Health} */
let health = { kind: "starting" };
/** @type {ReadonlySet<string>} */
let stopping = new Set();
/** @type {Map<string, string>} names of models and styles by id */
const names = new Map();

const ended = () => shelves.newestFirst(shelf).filter((generation) => !shelves.isActive(generation));
const viewer = createViewer({
  tiles: () => tilesOf(ended()),
  modelName: (id) => names.get(`model ${id}`) ?? id,
  styleName: (id) => names.get(`style ${id}`) ?? id,
  use: (generation, seed) => composer?.fill(generation, seed),
  again,
  remove,
});
/** @type {ReturnType<typeof createComposer> | undefined} */
let composer;

// ---- what is shown

let isDrawing = false;

/** @param {shelves.Shelf} next */
function become(next) {
  shelf = next;
  if (isDrawing) return;
  isDrawing = true;
  setTimeout(draw); // a timer, because animation frames stop in a tab nobody looks at
}

function draw() {
  isDrawing = false;
  const active = shelves.newestFirst(shelf).filter(shelves.isActive).reverse();
  stopping = new Set(active.map(({ id }) => id).filter((id) => stopping.has(id)));
  at("live").hidden = active.length === 0;
  showCards(at("cards"), { active, isServed: health.kind !== "idle", stopping, cancel });
  showGallery(at("gallery"), tilesOf(ended()), { open: viewer.open, retry, discard });
  viewer.refresh();
  at("empty").hidden = shelf.items.size > 0 || shelf.cursor !== null;
  at("load-more").hidden = !shelf.cursor;
  document.title = active.length > 0 ? `(${active.length}) Tintype` : "Tintype";
  drawHealth();
}

function drawHealth() {
  const shown = {
    starting: ["", ""],
    ready: ["Ready", ""],
    idle: [
      "No worker",
      "No worker is running at the moment. What you ask for waits in line and nothing is lost. “tintype worker” starts one.",
    ],
    lost: ["Reconnecting", "The connection to the studio was lost. Trying again; everything you asked for goes on."],
  }[health.kind];
  at("health").className = `health ${health.kind}`;
  say(at("health"), shown[0]);
  tell("health", shown[1]);
}

/** @type {Record<"health" | "trouble", string>} */
const notices = { health: "", trouble: "" };

/** A line under the header: the studio's state, or the last thing that did not work. */
function tell(about, message) {
  notices[about] = message;
  const text = notices.trouble || notices.health;
  say(at("notice"), text);
  at("notice").hidden = !text;
}

const announce = (message) => say(at("announcer"), message);

// ---- what is known

async function refresh() {
  const asOf = shelf.clock;
  const [page, waiting, running] = await Promise.all([
    read(`/api/generate?limit=${PAGE_SIZE}`),
    read(`/api/generate?status=queued&limit=${ACTIVE_SIZE}`),
    read(`/api/generate?status=processing&limit=${ACTIVE_SIZE}`),
  ]);
  const listed = new Set(page.items.map(({ id }) => id));
  const older = [...waiting.items, ...running.items].filter(({ id }) => !listed.has(id));
  become(shelves.merge(shelves.reread(shelf, page, asOf), older, asOf));
  const unsure = [...shelf.items.values()].filter((g) => shelves.isActive(g) && !listed.has(g.id));
  const current = new Set(older.map(({ id }) => id));
  await Promise.all(unsure.filter(({ id }) => !current.has(id)).map(({ id }) => reread(id)));
}

/** @param {string} id */
async function reread(id) {
  const asOf = shelf.clock;
  try {
    const row = await read(`/api/generate/${id}`);
    become(shelves.merge(shelf, [row], asOf));
    return row;
  } catch (problem) {
    if (problem.status === 404) become(shelves.remove(shelf, id));
    return null; // out of reach: the next reread brings it
  }
}

async function check() {
  try {
    const { status } = await read("/health");
    health = { kind: status === "ok" ? "ready" : "idle" };
  } catch {
    health = { kind: "lost" };
  }
  become(shelf);
}

/** Catch up with everything; what fails here is out of reach, which `check` shows. */
const catchUp = () => Promise.all([check(), refresh().catch(() => undefined)]);

const ANNOUNCED = { started: "Started", failed: "Not drawn", cancelled: "Cancelled", completed: "Finished" };

/** @param {shelves.Happening} happening */
async function heard(happening) {
  const { type, generation_id: id } = happening;
  become(shelves.hear(shelf, happening));
  if (type === "started" && health.kind === "idle") check();
  if (type === "image" || shelf.gone.has(id)) return;
  const known = shelf.items.get(id) ?? (await reread(id));
  if (type === "completed" && known?.status !== "completed") await reread(id);
  if (known && ANNOUNCED[type]) announce(`${ANNOUNCED[type]}: ${known.prompt}`);
}

/** @param {import("./feed.js").Connection} connection */
function turned(connection) {
  if (connection === "live") catchUp();
  else if (health.kind !== "lost") {
    health = { kind: "lost" };
    become(shelf);
  }
}

// ---- what the person does

/** @param {object} request @param {string} [what] which kind of work it asks for */
async function submit(request, what = "image") {
  const generation = await write("POST", `/api/generate/${what}`, request);
  become(shelves.put(shelf, generation));
  announce(`Waiting: ${generation.prompt}`);
}

/** @param {shelves.Completed} generation */
async function again({ prompt, model, style, parameters }) {
  const { num_images, width, height, num_inference_steps, guidance_scale, sampler, seed_mode, output_format, options } =
    parameters;
  const { negative_prompt, image, task, scale } = parameters;
  const shared = { model, output_format, options };
  if (task === "upscale") return submit({ ...shared, image, scale }, "upscale");
  if (task === "remove_background") return submit({ ...shared, image, background: "remove" }, "edit");
  const drawn = {
    ...{ prompt, ...shared, num_images, num_inference_steps, guidance_scale, sampler, seed_mode },
    ...{ ...(style && { style }), ...(negative_prompt && { negative_prompt }) },
  };
  if (task.endsWith("_to_video")) return submitVideo({ ...drawn, width, height }, parameters);
  if (!image) return submit({ ...drawn, width, height }, "image");
  const { mask, strength, outpaint, references, remover } = parameters;
  await submit(
    {
      ...{ ...drawn, image, strength, ...(outpaint ? { outpaint } : { width, height }) },
      ...{ ...(mask && { mask }), ...(references && { references }), ...(remover && { background: prompt, prompt: "" }) },
    },
    "edit",
  );
}

async function submitVideo({ num_images, ...drawn }, { frames, fps, image, last_image }) {
  await submit({ ...drawn, frames, fps, ...(image && { image }), ...(last_image && { last_image }) }, "video");
}

/** @param {shelves.Completed} generation */
async function remove({ id }) {
  await write("DELETE", `/api/generate/${id}`).catch(unless404);
  become(shelves.remove(shelf, id));
  announce("Deleted");
}

function unless404(problem) {
  if (!(problem instanceof Problem) || problem.status !== 404) throw problem;
}

/** @param {() => Promise<void>} act */
async function attempt(act) {
  tell("trouble", "");
  try {
    await act();
  } catch (problem) {
    tell("trouble", problem.message);
  }
}

const discard = (generation) => attempt(() => remove(generation));

const retry = ({ id }) =>
  attempt(async () => become(shelves.put(shelf, await write("POST", `/api/generate/${id}/retry`))));

/** @param {string} id */
async function cancel(id) {
  stopping = new Set([...stopping, id]);
  become(shelf);
  await attempt(async () => {
    const asOf = shelf.clock;
    const row = await write("POST", `/api/generate/${id}/cancel`).catch((problem) => {
      if (problem.status === 409 || problem.status === 404) return reread(id);
      stopping = new Set([...stopping].filter((other) => other !== id));
      become(shelf);
      throw problem;
    });
    if (row) become(shelves.merge(shelf, [row], asOf));
  });
}

async function loadMore() {
  at("load-more").disabled = true;
  await attempt(async () => {
    const asOf = shelf.clock;
    const page = await read(`/api/generate?limit=${PAGE_SIZE}&cursor=${encodeURIComponent(shelf.cursor)}`);
    become({ ...shelves.merge(shelf, page.items, asOf), cursor: page.next_cursor });
  });
  at("load-more").disabled = false;
}

async function start() {
  const [models, styles] = await Promise.all([read("/api/models?task=text_to_image"), read("/api/styles")]);
  for (const { id, name } of models.items) names.set(`model ${id}`, name);
  for (const { id, name } of styles.items) names.set(`style ${id}`, name);
  composer = createComposer({ models: models.items, styles: styles.items, submit });
}

/** Until the API answers; a page that was opened too early mends itself. */
async function startPersistently() {
  await start().catch(() => {
    health = { kind: "lost" };
    become(shelf);
    setTimeout(startPersistently, 1500);
  });
}

at("load-more").addEventListener("click", loadMore);
document.addEventListener("visibilitychange", () => document.hidden || catchUp());
setInterval(() => {
  if (document.hidden) return;
  check();
  if ([...shelf.items.values()].some(shelves.isActive)) refresh().catch(() => undefined);
}, CHECK_MS);
startPersistently();
follow({ heard, turned });
