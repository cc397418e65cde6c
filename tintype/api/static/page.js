/** Small things every part of the page uses: elements, keyed lists, and how values read. */

/**
 * The element with this id.
 *
 * @param {string} id
 * @returns {any}
 */
export const at = (id) => document.getElementById(id);

/**
 * A new element; strings among `children` become text, never HTML.
 *
 * @param {string} tag
 * @param {Record<string, any>} [properties] set as properties, or as attributes where the name has a dash
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/**
 * Make the children of `list` show `items` in order, one element per key. Elements stay where their item stays, so
 * that focus and running transitions survive; where the focused one goes, its neighbour gets the focus.
 *
 * @template T
 * @param {HTMLElement} list
 * @param {T[]} items
 * @param {{key: (item: T) => string, create: (item: T) => any, update: (element: any, item: T) => void}} how
 */
export function show(list, items, { key, create, update }) {
  const present = new Map([...list.children].map((/** @type {any} */ child) => [child.dataset.key, child]));
  const wanted = new Set(items.map(key));
  for (const [name, element] of present) {
    if (wanted.has(name)) continue;
    const neighbour = element.contains(document.activeElement)
      ? (element.nextElementSibling ?? element.previousElementSibling)
      : null;
    const hadFocus = element.contains(document.activeElement);
    element.remove();
    if (hadFocus) (neighbour?.querySelector("button") ?? at("prompt")).focus();
  }
  let following = list.firstElementChild;
  for (const item of items) {
    let element = present.get(key(item));
    if (!element) {
      element = create(item);
      element.dataset.key = key(item);
    }
    update(element, item);
    if (element === following) following = following.nextElementSibling;
    else list.insertBefore(element, following);
  }
}

/**
 * Set text only where it changes, so that nothing is announced or laid out again for nothing.
 *
 * @param {Element} element
 * @param {string} text
 */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 1) return "less than a second";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}

const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** @param {string} time RFC 3339 */
export const date = (time) => DATE.format(new Date(time));

/** @param {number} count @param {string} one */
export const plural = (count, one) => (count === 1 ? `1 ${one}` : `${count} ${one}s`);

/** @param {{id: string}} picture the address of its bytes; unlike the signed links of the API it never expires */
export const contentOf = ({ id }) => `/api/media/${id}/content`;

/** @param {{content_type: string}} picture whether a browser plays it; an animated WebP or GIF it shows as a picture */
export const isPlayed = ({ content_type }) => content_type.startsWith("video/");

/** @param {{id: string}} picture */
export const thumbnailOf = ({ id }) => `/api/media/${id}/thumbnail`;
