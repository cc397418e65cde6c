/** The form: what can be asked of the chosen model, and the request it makes. */

import { at, make } from "./page.js";

const DRAFT = "tintype.draft";
const MAX_SEED = 2 ** 32 - 1;
const TAKEN = ["width", "height", "seed", "num_inference_steps", "guidance_scale"];
const RATIOS = [
  { name: "Tall", ratio: 9 / 16 },
  { name: "Portrait", ratio: 3 / 4 },
  { name: "Square", ratio: 1 },
  { name: "Landscape", ratio: 4 / 3 },
  { name: "Wide", ratio: 16 / 9 },
];

/**
 * @typedef {{id: string, name: string, description: string, features: string[], samplers: string[], examples: string[],
 *   defaults: {width: number, height: number, steps: number, guidance_scale: number, sampler: string},
 *   limits: {min_side: number, max_side: number, multiple_of: number, max_pixels: number, max_images: number},
 *   takes: string[] | null,
 *   options: {required?: string[], properties?: Record<string, Option>}}} Model
 * @typedef {{type?: string, title?: string, description?: string, enum?: any[], default?: any, minimum?: number,
 *   maximum?: number, format?: "picture"}} Option
 * @typedef {{id: string, name: string, description: string, models: string[]}} Style
 */

/**
 * Sizes of about the model's own number of pixels, one per ratio, within its limits.
 *
 * @param {Model} model
 */
export function shapesOf({ defaults, limits }) {
  const pixels = defaults.width * defaults.height;
  const fit = (side) => {
    const rounded = Math.round(side / limits.multiple_of) * limits.multiple_of;
    return Math.min(Math.max(rounded, limits.min_side), limits.max_side);
  };
  const shapes = RATIOS.map(({ name, ratio }) => ({
    name,
    ratio,
    width: ratio === 1 ? fit(Math.sqrt(pixels)) : fit(Math.sqrt(pixels * ratio)),
    height: fit(Math.sqrt(pixels / ratio)),
  }));
  return shapes.filter(({ width, height }) => width * height <= limits.max_pixels);
}

/**
 * @param {{models: Model[], styles: Style[], submit: (request: object) => Promise<unknown>}} studio
 */
export function createComposer({ models, styles, submit }) {
  /** @type {HTMLFormElement & Record<string, any>} */
  const form = at("composer");
  const field = form.elements;
  const kept = { ...JSON.parse(sessionStorage.getItem(DRAFT) ?? "{}") };
  let isLocked = false;

  const model = () => models.find(({ id }) => id === field.model.value);

  /** @param {string} name @param {boolean} isOffered */
  const offer = (name, isOffered) => (form.querySelector(`[data-part=${name}]`).hidden = !isOffered);

  function offerModel() {
    const chosen = model();
    const { defaults, limits } = chosen;
    const fitting = styles.filter((style) => style.models.includes(chosen.id));
    choose(field.style, [["", "None"], ...fitting.map(({ id, name }) => [id, name])]);
    offer("style", fitting.length > 0);
    choose(field.num_images, Array.from({ length: limits.max_images }, (_, index) => [String(index + 1), String(index + 1)]));
    choose(field.sampler, chosen.samplers.map((name) => [name, name]), defaults.sampler);
    offer("sampler", chosen.samplers.length > 1);
    offer("negative_prompt", chosen.features.includes("negative_prompt"));
    field.num_inference_steps.placeholder = String(defaults.steps);
    field.guidance_scale.placeholder = String(defaults.guidance_scale);
    for (const name of TAKEN) offer(name, isTaken(chosen, name));
    offer("size", isTaken(chosen, "width") && isTaken(chosen, "height"));
    offerShapes(chosen);
    offerOptions(chosen);
    offerExamples(chosen);
    size(defaults.width, defaults.height);
  }

  function offerShapes(chosen) {
    at("shapes").replaceChildren(
      ...shapesOf(chosen).map(({ name, ratio, width, height }) => {
        const icon = make("span", { className: "frame" });
        icon.style.setProperty("--ratio", String(ratio));
        const radio = make("input", { type: "radio", name: "shape", value: `${width}x${height}` });
        radio.addEventListener("change", () => size(width, height));
        return make("label", { title: `${name}, ${width} × ${height}` }, radio, icon, make("span", { className: "unseen" }, name));
      }),
    );
  }

  function size(width, height) {
    field.width.value = width;
    field.height.value = height;
    sized();
  }

  function sized() {
    const [width, height] = [field.width.value.trim(), field.height.value.trim()];
    at("size").textContent = width && height ? `${width} × ${height}` : "";
    for (const radio of at("shapes").querySelectorAll("input")) radio.checked = radio.value === `${width}x${height}`;
  }

  function offerOptions({ options }) {
    const required = options.required ?? [];
    at("options").replaceChildren(
      ...Object.entries(options.properties ?? {}).map(([name, option]) => {
        const label = option.title || name.replaceAll("_", " ");
        return make("label", { className: "field" }, required.includes(name) ? `${label} (needed)` : label, inputFor(name, option));
      }),
    );
    if (required.length) unfold(true);
  }

  /** @param {string} name @param {Option} option */
  function inputFor(name, { type, description, enum: values, default: usual, minimum, maximum, format }) {
    const range = minimum !== undefined && maximum !== undefined ? `${minimum} to ${maximum}` : "";
    const shared = { name: `options.${name}`, autocomplete: "off", title: [description, range].filter(Boolean).join(" ") };
    if (type === "boolean") values = [true, false];
    const input = make(values ? "select" : "input", shared);
    input.dataset.type = format ?? type ?? "string";
    if (format === "picture") Object.assign(input, { type: "file", accept: "image/png,image/jpeg,image/webp" });
    else if (values) {
      const first = usual === undefined || usual === null ? "default" : `default (${usual})`;
      choose(input, [["", first], ...values.map((value) => [String(value), String(value)])]);
    } else if (usual !== undefined && usual !== null) input.placeholder = String(usual);
    if (type === "number" || type === "integer") input.inputMode = "decimal";
    return input;
  }

  function offerExamples({ examples }) {
    at("examples").hidden = examples.length === 0;
    at("examples").replaceChildren(
      ...examples.map((text) =>
        make("button", { type: "button", className: "chip", onclick: () => {
          field.prompt.value = text;
          field.prompt.focus();
          form.dispatchEvent(new Event("input"));
        } }, text),
      ),
    );
  }

  /** @param {boolean} locked */
  function lock(locked) {
    isLocked = locked;
    at("lock").setAttribute("aria-pressed", String(locked));
    if (!locked) field.seed.value = "";
    else if (!field.seed.value) field.seed.value = String(crypto.getRandomValues(new Uint32Array(1))[0] % MAX_SEED);
  }

  function unfold(isOpen) {
    at("more").hidden = !isOpen;
    at("more-button").setAttribute("aria-expanded", String(isOpen));
    at("more-button").textContent = isOpen ? "Less" : "More";
  }

  /** The request as the form says it; what is left empty, and what the model does not take, is left to the model. */
  async function request() {
    const wanted = { prompt: field.prompt.value, model: field.model.value };
    for (const name of ["style", "negative_prompt"]) {
      if (isOffered(name) && field[name].value) wanted[name] = field[name].value;
    }
    if (isOffered("sampler")) wanted.sampler = field.sampler.value;
    for (const name of ["num_images", "width", "height", "num_inference_steps", "guidance_scale"]) {
      if (isTaken(model(), name) && field[name].value.trim()) wanted[name] = numeric(field[name].value);
    }
    if (isTaken(model(), "seed") && isLocked && field.seed.value.trim()) wanted.seed = numeric(field.seed.value);
    const options = await optionValues();
    return Object.keys(options).length ? { ...wanted, options } : wanted;
  }

  const isOffered = (name) => !form.querySelector(`[data-part=${name}]`).hidden;

  async function optionValues() {
    const typed = { number: numeric, integer: numeric, boolean: (text) => text === "true" };
    const values = {};
    for (const input of at("options").querySelectorAll("input, select")) {
      const { name, value, dataset, files } = input;
      const option = name.slice("options.".length);
      if (files?.length) values[option] = await dataUrl(files[0]);
      else if (dataset.kept) values[option] = dataset.kept;
      else if (value.trim()) values[option] = (typed[dataset.type] ?? String)(value);
    }
    return values;
  }

  function clearErrors() {
    for (const line of form.querySelectorAll("[data-error]")) {
      line.hidden = true;
      line.textContent = "";
    }
    for (const element of form.querySelectorAll("[aria-invalid]")) {
      element.removeAttribute("aria-invalid");
      element.removeAttribute("aria-describedby");
    }
  }

  /** @param {string} name the field's, or "" @param {string} message */
  function complain(name, message) {
    const line = form.querySelector(`[data-error="${CSS.escape(name)}"]`) ?? form.querySelector('[data-error=""]');
    line.id ||= `error-${name || "form"}`;
    line.hidden = false;
    const input = field[name];
    const label = name === "prompt" ? "" : (input?.labels[0].firstChild.textContent.trim() ?? "");
    line.append(make("span", {}, label ? `${label}: ${message}` : message));
    if (!input || line.dataset.error !== name) return;
    if (at("more").contains(line)) unfold(true);
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", line.id);
  }

  /** @param {import("./api.js").Problem} problem */
  function explain({ errors, message }) {
    for (const { loc, msg } of errors) {
      const [, name, option] = loc.map(String);
      complain(name ?? "", name === "options" && option ? `${option}: ${msg}` : msg);
    }
    if (errors.length === 0) complain("", message);
    form.querySelector("[aria-invalid]")?.focus();
  }

  async function send() {
    if (at("draw").getAttribute("aria-busy")) return;
    clearErrors();
    if (!field.prompt.value.trim()) {
      complain("prompt", "Say what you would like to see.");
      field.prompt.focus();
      return;
    }
    at("draw").setAttribute("aria-busy", "true");
    try {
      await submit(await request());
    } catch (problem) {
      explain(problem);
    } finally {
      at("draw").removeAttribute("aria-busy");
    }
  }

  /** Put the settings of a finished picture into the form. */
  function fill({ prompt, model: id, style, parameters }, seed) {
    if (models.some((known) => known.id === id)) field.model.value = id;
    offerModel();
    clearErrors();
    field.prompt.value = prompt;
    field.style.value = style ?? "";
    field.negative_prompt.value = parameters.negative_prompt;
    field.num_images.value = String(parameters.num_images);
    field.num_inference_steps.value = String(parameters.num_inference_steps);
    field.guidance_scale.value = String(parameters.guidance_scale);
    field.sampler.value = parameters.sampler;
    for (const [name, value] of Object.entries(parameters.options)) {
      const input = field[`options.${name}`];
      if (input?.dataset.type === "picture") input.dataset.kept = String(value); // sent again unless another is chosen
      else if (input) input.value = String(value);
    }
    size(parameters.width, parameters.height);
    field.seed.value = String(seed ?? parameters.seed);
    lock(true);
    field.prompt.focus();
    form.scrollIntoView({ block: "start" });
    keep();
  }

  function keep() {
    const draft = Object.fromEntries([...new FormData(form)].filter(([name, value]) => name !== "shape" && typeof value === "string"));
    sessionStorage.setItem(DRAFT, JSON.stringify({ ...draft, isLocked, isOpen: !at("more").hidden }));
  }

  function restore() {
    for (const [name, value] of Object.entries(kept)) {
      if (field[name] && field[name].type !== "file" && value !== "") field[name].value = value;
    }
    sized();
    lock(Boolean(kept.isLocked));
    unfold(Boolean(kept.isOpen));
  }

  choose(field.model, models.map(({ id, name }) => [id, name]), kept.model ?? models.find((model) => model.is_default)?.id);
  offerModel();
  restore();

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  form.addEventListener("input", keep);
  field.prompt.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    send();
  });
  field.model.addEventListener("change", offerModel);
  for (const name of ["width", "height"]) field[name].addEventListener("input", sized);
  field.seed.addEventListener("input", () => lock(field.seed.value.trim() !== ""));
  at("lock").addEventListener("click", () => (lock(!isLocked), keep()));
  at("more-button").addEventListener("click", () => (unfold(at("more").hidden), keep()));
  return { fill };
}

/** Whether a model puts a field of a request to use; only workflows leave some out. @param {Model} model */
const isTaken = ({ takes }, name) => !takes || !TAKEN.includes(name) || takes.includes(name);

/** @param {File} file */
function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(String(reader.result)));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });
}

/** A number where the text is one; else the text as it is, for the API to say what is wrong with it. */
function numeric(text) {
  const value = Number(text.trim().replace(",", "."));
  return Number.isFinite(value) ? value : text;
}

/** @param {HTMLSelectElement} select @param {string[][]} choices @param {string} [initial] */
function choose(select, choices, initial) {
  const before = select.value || initial;
  select.replaceChildren(...choices.map(([value, name]) => make("option", { value }, name)));
  select.value = before;
  if (select.selectedIndex < 0) select.value = initial ?? "";
  if (select.selectedIndex < 0) select.selectedIndex = 0;
}
