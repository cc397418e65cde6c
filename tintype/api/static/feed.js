/** One stream of events for the whole page. */

const TYPES = ["queued", "started", "progress", "image", "completed", "failed", "cancelled", "deleted"];
const AGAIN_MS = 1500;

/** @typedef {"live" | "lost"} Connection */

/**
 * Follow all events. The browser reconnects by itself and asks for what it missed; where it gives up (the server
 * answered with an error) a new stream is opened. After each `live`, reread: what came before it may be unknown.
 *
 * @param {{heard: (happening: import("./shelf.js").Happening) => void, turned: (connection: Connection) => void}} to
 */
export function follow({ heard, turned }) {
  const source = new EventSource("/api/events");
  source.addEventListener("open", () => turned("live"));
  source.addEventListener("error", () => {
    turned("lost");
    if (source.readyState === EventSource.CLOSED) setTimeout(() => follow({ heard, turned }), AGAIN_MS);
  });
  for (const type of TYPES) source.addEventListener(type, ({ data }) => heard(JSON.parse(data)));
}
