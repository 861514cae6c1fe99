// Builds elements and replaces them without stealing the reader's place. Text is always text, never markup.

/** Makes an element: `el("p", { class: "quiet" }, "text", child)`. `on…` values are listeners. */
export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const shown = new WeakMap();

/** Replaces what `container` holds if `state` changed; focus, open details and scrolled lists stay where they were. */
export function show(container, state, build) {
  const text = JSON.stringify(state);
  if (shown.get(container) === text) return;
  shown.set(container, text);
  const focused = container.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const open = new Set([...container.querySelectorAll("details[open]")].map((one) => one.dataset.key));
  const scrolled = [...container.querySelectorAll("[data-key]")].filter((one) => one.scrollTop).map((one) => [one.dataset.key, one.scrollTop]);
  container.replaceChildren(...[build()].flat());
  for (const details of container.querySelectorAll("details")) details.open = open.has(details.dataset.key);
  for (const [key, top] of scrolled) container.querySelector(`[data-key="${CSS.escape(key)}"]`)?.scrollTo(0, top);
  if (focused) container.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

/**
 * Makes a table; a column is `[title, cell, kind?]`. Its kind is `num`, or says how much of a row it takes on a
 * narrow screen: `full`, or `three` or `two` of the four parts of a `dense` table.
 */
export function table(label, columns, rows, look) {
  const head = columns.map(([title, , kind]) => el("th", { scope: "col", class: kind === "num" ? "num" : null }, title));
  const body = rows.map((row) =>
    el("tr", {}, columns.map(([title, cell, kind]) => el("td", { "data-label": title, class: kind }, cell(row)))),
  );
  return el("table", { "aria-label": label, class: look }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, body));
}

/** Keeps a long list from making the page long; the keyboard reaches it, too. */
export const scroller = (key, child) => el("div", { class: "scroller", tabindex: "0", "data-key": `scroller-${key}`, role: "group", "aria-label": child.getAttribute("aria-label") }, child);

export const empty = (text) => el("p", { class: "empty" }, text);
export const pill = (text, mood) => el("span", { class: `pill ${mood ?? ""}` }, text);

const numbers = new Intl.NumberFormat("en");
export const count = (value) => numbers.format(value ?? 0);

/** Writes a number of bytes as people say them. */
export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit += 1) value /= 1024;
  return `${unit && value < 10 ? value.toFixed(1) : count(Math.round(value))} ${units[unit]}`;
}

/** Writes milliseconds as people say them. */
export function span(ms) {
  if (ms === null || ms === undefined) return "–";
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}
