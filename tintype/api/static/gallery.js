/** The gallery: every finished picture, and what failed or was cancelled. */

import { contentOf, duration, isPlayed, make, say, show, thumbnailOf } from "./page.js";

/**
 * @typedef {import("./shelf.js").Generation} Generation
 * @typedef {import("./shelf.js").Completed} Completed
 * @typedef {import("./shelf.js").Picture} Picture
 * @typedef {{kind: "picture", key: string, generation: Completed, picture: Picture}
 *   | {kind: "note", key: string, generation: import("./shelf.js").Failed | import("./shelf.js").Cancelled}} Tile
 */

/**
 * One tile per picture; one for each generation that ended without.
 *
 * @param {Generation[]} generations those that have ended
 * @returns {Tile[]}
 */
export const tilesOf = (generations) =>
  generations.flatMap((generation) =>
    generation.status === "completed"
      ? generation.media.map((picture) => ({ kind: "picture", key: picture.id, generation, picture }))
      : [{ kind: "note", key: generation.id, generation }],
  );

/**
 * @param {HTMLElement} list
 * @param {Tile[]} tiles
 * @param {{open: (key: string) => void, retry: (generation: Generation) => void,
 *   discard: (generation: Generation) => void}} actions
 */
export function showGallery(list, tiles, actions) {
  show(list, tiles, {
    key: ({ key }) => key,
    create: (tile) => (tile.kind === "picture" ? pictureTile(tile, actions) : noteTile(tile, actions)),
    update: (element, { kind, generation }) => {
      if (kind === "note") say(element.querySelector(".why"), reason(generation));
    },
  });
}

function pictureTile({ key, generation, picture }, { open }) {
  const shown = isPlayed(picture) ? [videoOf(generation, picture), length(picture)] : [imageOf(generation, picture)];
  const button = make(
    "button",
    { type: "button", onclick: () => open(key), "aria-haspopup": "dialog", title: generation.prompt },
    ...shown,
  );
  const tile = make("li", { className: "tile" }, button);
  tile.style.setProperty("--ratio", String(picture.width / picture.height));
  return tile;
}

function imageOf({ prompt }, picture) {
  const { width, height } = picture;
  const how = { loading: "lazy", decoding: "async" };
  const image = make("img", { alt: prompt, width, height, ...how, src: thumbnailOf(picture) });
  image.addEventListener("load", () => image.classList.add("shown"), { once: true });
  return image;
}

/** Nothing of it is loaded but its first frame, until somebody points at it. */
function videoOf({ prompt }, picture) {
  const { width, height } = picture;
  const how = { muted: true, loop: true, playsInline: true, preload: "none", "aria-label": prompt };
  const video = make("video", { width, height, ...how, poster: thumbnailOf(picture), src: contentOf(picture) });
  const stop = () => video.pause();
  for (const type of ["pointerenter", "focus"]) video.addEventListener(type, () => video.play().catch(stop));
  video.addEventListener("pointerleave", stop);
  return video;
}

const length = ({ video }) => make("span", { className: "length" }, duration(video.seconds));

function noteTile({ generation }, { retry, discard }) {
  const isFailed = generation.status === "failed";
  const { width, height } = generation.parameters;
  const tile = make(
    "li",
    { className: `tile note ${generation.status}` },
    make("p", { className: "head" }, isFailed ? "Not drawn" : "Cancelled"),
    make("p", { className: "said", title: generation.prompt }, generation.prompt),
    make("p", { className: "why" }),
    make(
      "p",
      { className: "doings" },
      make(
        "button",
        { type: "button", onclick: () => retry(generation), "aria-label": `Try again: ${generation.prompt}` },
        "Try again",
      ),
      make(
        "button",
        {
          type: "button",
          className: "plain",
          onclick: () => discard(generation),
          "aria-label": `Remove: ${generation.prompt}`,
        },
        "Remove",
      ),
    ),
  );
  tile.style.setProperty("--ratio", String(Math.max(1.1, width / height)));
  return tile;
}

const reason = (generation) => (generation.status === "failed" ? generation.error.message : "");
