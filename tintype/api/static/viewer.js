/** The dialog with one picture, large, and what can be done with it. */

import { at, contentOf, date, duration, isPlayed, make, plural, thumbnailOf } from "./page.js";

const SURE_MS = 4000;

/**
 * @typedef {import("./gallery.js").Tile} Tile
 * @typedef {import("./shelf.js").Completed} Completed
 * @typedef {{tiles: () => Tile[], modelName: (id: string) => string, styleName: (id: string) => string,
 *   use: (generation: Completed, seed: number | null) => void, again: (generation: Completed) => Promise<void>,
 *   remove: (generation: Completed) => Promise<void>}} Studio
 */

/**
 * @param {Studio} studio
 * @returns {{open: (key: string) => void, refresh: () => void}} `refresh` after the gallery has changed
 */
export function createViewer(studio) {
  const dialog = at("viewer");
  /** @type {string | null} */
  let shown = null;
  let sureUntil = 0;

  const pictures = () => studio.tiles().filter(({ kind }) => kind === "picture");
  const current = () => pictures().find(({ key }) => key === shown);
  const beside = (offset) => {
    const all = pictures();
    const place = all.findIndex(({ key }) => key === shown);
    return place < 0 ? undefined : all[place + offset];
  };

  function draw({ generation, picture }) {
    const address = contentOf(picture);
    const element = stage(isPlayed(picture), generation, picture);
    if (element.getAttribute("src") !== address) {
      element.removeAttribute("src");
      Object.assign(element, { width: picture.width, height: picture.height, src: address });
    }
    element.style.setProperty("--zoom", String(zoom(picture)));
    element.style.setProperty("--width", String(picture.width));
    at("use").hidden = generation.kind === "video";
    at("viewer-prompt").textContent = generation.prompt;
    at("viewer-facts").replaceChildren(...facts(generation, picture).flatMap(([name, value]) => [
      make("dt", {}, name),
      make("dd", {}, value),
    ]));
    Object.assign(at("download"), { href: address, download: fileName(generation, picture) });
    at("delete").textContent = deleteLabel(generation);
    edges();
  }

  /** The element that shows this; the other one lets go of what it has shown. */
  function stage(isVideo, { prompt }, picture) {
    const [image, video] = [at("viewer-picture"), at("viewer-video")];
    Object.assign(image, { hidden: isVideo, alt: prompt });
    video.hidden = !isVideo;
    (isVideo ? image : video).removeAttribute("src");
    if (!isVideo) return image;
    video.setAttribute("aria-label", prompt);
    video.poster = thumbnailOf(picture);
    return video;
  }

  function edges() {
    at("previous").hidden = !beside(-1);
    at("next").hidden = !beside(1);
  }

  function deleteLabel({ media }) {
    const what = media.length > 1 ? `all ${plural(media.length, "picture")}` : "";
    return Date.now() < sureUntil ? `Really delete${what && ` ${what}`}?` : "Delete";
  }

  function facts({ parameters, model, style, warnings, created_at, started_at, completed_at }, picture) {
    const took_s = (Date.parse(completed_at) - Date.parse(started_at)) / 1000;
    return [
      ["Model", studio.modelName(model)],
      ...(style ? [["Style", studio.styleName(style)]] : []),
      ["Seed", String(picture.seed ?? "unknown")],
      ["Size", `${picture.width} × ${picture.height}`],
      ...(picture.video ? [["Length", `${picture.video.seconds} s, ${picture.video.fps} frames a second`]] : []),
      ["Steps", String(parameters.num_inference_steps)],
      ["Guidance", String(parameters.guidance_scale)],
      ...(parameters.negative_prompt ? [["Avoided", parameters.negative_prompt]] : []),
      ...warnings.map(({ message }) => ["Note", message]),
      ["Made", date(created_at)],
      ["Took", took_s < 10 ? `${took_s.toFixed(1)} s` : duration(took_s)],
    ];
  }

  function turn(offset) {
    const neighbour = beside(offset);
    if (neighbour) open(neighbour.key);
  }

  function open(key) {
    shown = key;
    sureUntil = 0;
    tell("");
    const tile = current();
    if (!tile) return;
    draw(tile);
    if (!dialog.open) dialog.showModal();
  }

  function refresh() {
    if (!dialog.open) return;
    if (current()) edges();
    else dialog.close();
  }

  function tell(message) {
    at("viewer-error").textContent = message;
    at("viewer-error").hidden = !message;
  }

  /** @param {(generation: Completed) => Promise<void>} act */
  async function attempt(act) {
    tell("");
    try {
      await act(current().generation);
    } catch (problem) {
      tell(problem.message);
    }
  }

  async function deletePressed() {
    const { generation } = current();
    const isSure = Date.now() < sureUntil;
    sureUntil = isSure ? 0 : Date.now() + SURE_MS;
    at("delete").textContent = deleteLabel(generation);
    if (isSure) await attempt(studio.remove);
    else setTimeout(() => current() && (at("delete").textContent = deleteLabel(current().generation)), SURE_MS + 50);
  }

  at("close").addEventListener("click", () => dialog.close());
  at("previous").addEventListener("click", () => turn(-1));
  at("next").addEventListener("click", () => turn(1));
  at("delete").addEventListener("click", deletePressed);
  at("use").addEventListener("click", () => {
    const { generation, picture } = current();
    dialog.close();
    studio.use(generation, picture.seed);
  });
  at("again").addEventListener("click", () => attempt(async (generation) => {
    await studio.again(generation);
    dialog.close();
  }));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  // On the document: an arrow that goes takes the focus out of the dialog with it. A video has keys of its own.
  document.addEventListener("keydown", (event) => {
    const video = at("viewer-video");
    if (!dialog.open || (event.target === video && !video.hidden)) return;
    if (event.key === "ArrowLeft") turn(-1);
    if (event.key === "ArrowRight") turn(1);
  });
  dialog.addEventListener("close", () => {
    at("viewer-video").pause();
    document.querySelector(`[data-key="${shown}"] button`)?.focus();
    shown = null;
  });
  return { open, refresh };
}

/** How much larger than its pixels a picture may be shown: tiny ones are made visible, large ones stay sharp. */
function zoom({ width, height }) {
  const side = Math.max(width, height);
  if (side <= 160) return 4;
  return side <= 400 ? 2.5 : 1;
}

function fileName({ prompt }, { seed, content_type }) {
  const words = prompt.toLowerCase().match(/[\p{L}\p{N}]+/gu)?.slice(0, 8).join("-") ?? "picture";
  return `${words.slice(0, 60)}-${seed ?? "x"}.${content_type.split("/")[1]}`;
}
