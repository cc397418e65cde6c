/** Cards of what is waiting or running. */

import { duration, make, plural, say, show } from "./page.js";

/**
 * @typedef {import("./shelf.js").Waiting | import("./shelf.js").Running} Active
 */

/**
 * @param {HTMLElement} list
 * @param {{active: Active[], isServed: boolean, stopping: ReadonlySet<string>, cancel: (id: string) => void}} state
 *   `isServed`: a worker is alive; `stopping`: this page has just asked to stop them
 */
export function showCards(list, { active, isServed, stopping, cancel }) {
  show(list, active, {
    key: ({ id }) => id,
    create: ({ id, prompt, parameters }) => card(prompt, parameters, () => cancel(id)),
    update: (element, generation) => {
      const isStopping = stopping.has(generation.id) || generation.cancel_requested;
      const progress = generation.status === "processing" ? generation.progress : null;
      element.classList.toggle("running", generation.status === "processing");
      say(element.querySelector(".what"), isStopping ? "Cancelling…" : status(generation, isServed));
      const bar = element.querySelector("progress");
      bar.value = (progress?.percent ?? 0) / 100;
      element.querySelector(".plate").style.setProperty("--done", String(bar.value));
      element.querySelector("button").disabled = isStopping;
      preview(element, generation);
    },
  });
}

/** What it looks like so far; it stays until there is a newer one or the work begins anew. */
function preview(element, generation) {
  const image = element.querySelector("img");
  const progress = generation.status === "processing" ? generation.progress : null;
  if (!progress) image.removeAttribute("src");
  else if (progress.preview && image.getAttribute("src") !== progress.preview.url) image.src = progress.preview.url;
  element.classList.toggle("seen", image.hasAttribute("src"));
}

function card(prompt, { width, height, num_images }, cancel) {
  const plate = make("div", { className: "plate", "aria-hidden": "true" }, make("img", { alt: "" }), make("div", { className: "sheen" }));
  plate.style.setProperty("--ratio", String(width / height));
  return make(
    "li",
    { className: "card" },
    plate,
    make(
      "div",
      { className: "news" },
      make("p", { className: "said" }, prompt),
      make("progress", { max: 1, value: 0, "aria-label": `Progress of: ${prompt}` }),
      make(
        "p",
        { className: "status" },
        make("span", { className: "what" }),
        make("span", { className: "size" }, `${num_images > 1 ? `${plural(num_images, "picture")}, ` : ""}${width} × ${height}`),
      ),
    ),
    make("button", { type: "button", className: "plain", onclick: cancel, "aria-label": `Cancel: ${prompt}` }, "Cancel"),
  );
}

/** @param {Active} generation @param {boolean} isServed */
function status(generation, isServed) {
  if (generation.status === "queued") {
    const place = generation.position === 1 ? "next in line" : `number ${generation.position} in line`;
    return isServed ? `Waiting, ${place}` : `Waiting for a worker, ${place}`;
  }
  const { progress } = generation;
  if (!progress) return "Starting";
  const { step, steps, eta_s } = progress;
  if (step >= steps) return "Finishing";
  const left = eta_s === null ? "" : `, about ${duration(eta_s)} left`;
  return `Step ${step} of ${steps}${left}`;
}
