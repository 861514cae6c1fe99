// The page's life: ask the node every two seconds, show what it says, do what the operator wants.

import { ask, Problem, remember } from "./api.js";
import { el } from "./dom.js";
import * as panels from "./panels.js";

const EVERY_MS = 2000;
const SAMPLES = 60;
const $ = (id) => document.getElementById(id);

let before = null;
let samples = [];
let self = null;

/** Returns calls a second of each kind since the last look, and in all. */
function rates(kinds, at) {
  const totals = new Map(kinds.map((kind) => [kind.kind, Object.values(kind.calls).reduce((sum, number) => sum + number, 0)]));
  const seconds = before ? (at - before.at) / 1000 : 0;
  const each = new Map();
  let all = 0;
  if (seconds > 0) {
    for (const [kind, total] of totals) {
      // After a restart the counts begin anew.
      const rate = Math.max(0, total - (before.totals.get(kind) ?? 0)) / seconds;
      all += rate;
      each.set(kind, rate < 10 ? rate.toFixed(1).replace(/\.0$/, "") : Math.round(rate).toLocaleString("en"));
    }
    samples = [...samples, all].slice(-SAMPLES);
  }
  before = { at, totals };
  return each;
}

function spark() {
  const most = Math.max(1, ...samples);
  const points = samples.map((value, index) => [300 - (samples.length - 1 - index) * (300 / (SAMPLES - 1)), 56 - (value / most) * 50]);
  const line = points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
  const [area, stroke] = $("rate").children;
  stroke.setAttribute("d", line);
  area.setAttribute("d", points.length ? `${line}L300 60L${points[0][0].toFixed(1)} 60Z` : "");
  const now = samples.at(-1);
  $("rate-now").textContent = now === undefined ? "" : `${now < 10 ? now.toFixed(1) : Math.round(now).toLocaleString("en")} now · ${Math.round(most).toLocaleString("en")} at most`;
}

function status(text, mood) {
  const pill = $("status");
  if (pill.textContent !== text) pill.textContent = text;
  pill.className = `pill ${mood}`;
}

let saying;
function say(text) {
  clearTimeout(saying);
  $("said").textContent = text;
  $("said").classList.add("shown");
  saying = setTimeout(() => $("said").classList.remove("shown"), 4000);
}

/** Asks the operator; resolves to whether they said yes. */
function confirmed(title, text, yes) {
  const dialog = $("ask");
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

async function post(path, done) {
  try {
    await ask(path, "POST");
    say(done);
  } catch (error) {
    say(`It did not work: ${error.message}`);
  }
  await look();
}

const deadAction = (label, letter, verb) => {
  const run = async () => {
    const question = `${letter.kind}/${letter.id} ${letter.method}: its bytes are deleted for good.`;
    if (verb === "discard" && !(await confirmed("Discard this message?", question, "Discard"))) return;
    await post(`/dead-letters/${letter.seq}/${verb}`, verb === "replay" ? "It goes to its handler again." : "It is gone.");
  };
  const name = `${label} ${letter.kind}/${letter.id} ${letter.method}`;
  return el("button", { type: "button", class: "ghost", "data-key": `${verb}-${letter.seq}`, "data-testid": `${verb}-${letter.seq}`, "aria-label": name, onclick: run }, label);
};

/** Asks whether to drain a node, which may be another than the one that is asked; does it. */
async function drain(node) {
  const last = node.lease_left_ms === null;
  const text = last
    ? `${node.node} finishes what it does and ends its program.`
    : `${node.node} gives its shards to the other nodes and stays up, not ready, until it is called back or starts anew.`;
  if (await confirmed("Drain this node?", text, "Drain")) await post(`/nodes/${encodeURIComponent(node.node)}/drain`, "The node drains.");
}

const nodeAction = (node) => {
  const rests = node.state === "resting";
  const run = () => (rests ? post(`/nodes/${encodeURIComponent(node.node)}/undrain`, "It takes shards again.") : drain(node));
  const label = rests ? "Call back" : "Drain…";
  const key = `${rests ? "undrain" : "drain"}-${node.node}`;
  return el("button", { type: "button", class: "ghost", "data-key": key, "data-testid": key, "aria-label": `${label} ${node.node}`, onclick: run }, label);
};

const sagaAction = (label, saga, verb) => {
  const run = async () => {
    const question = `${saga.kind}/${saga.id} stops where it is and undoes what it did.`;
    if (verb === "cancel" && !(await confirmed("Cancel this saga?", question, "Cancel the saga"))) return;
    const path = `/sagas/${encodeURIComponent(saga.kind)}/${encodeURIComponent(saga.id)}/${verb}`;
    await post(path, `Told the saga to ${verb}.`);
  };
  const name = `${label} ${saga.kind}/${saga.id}`;
  return el("button", { type: "button", class: "ghost", "data-key": `${verb}-${saga.kind}-${saga.id}`, "aria-label": name, onclick: run }, label);
};

async function login() {
  const dialog = $("login");
  if (dialog.open) return;
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  remember($("token").value);
}

// The tree costs the node a walk over all that it holds: it is asked for only where it is seen.
let inView = false;
new IntersectionObserver((changes) => {
  const came = !inView && changes.at(-1).isIntersecting;
  inView = changes.at(-1).isIntersecting;
  if (came) look();
}, { rootMargin: "300px" }).observe($("supervision"));

let looking = false;
async function look() {
  if (looking) return;
  looking = true;
  try {
    const state = $("saga-state").value;
    const paths = ["/nodes", "/shards", "/entities", `/sagas${state ? `?state=${state}` : ""}`, "/topics", "/dead-letters", inView ? "/tree" : null];
    const [nodes, shards, kinds, sagas, topics, dead, tree] = await Promise.all(paths.map((path) => path && ask(path)));
    const now = nodes.now_ms;
    self = nodes.nodes.find((node) => node.self);
    const seen = { nodes, shards, kinds, sagas, topics, dead, tree, now, rates: rates(kinds.kinds, performance.now()) };
    panels.head(seen);
    panels.tiles(seen);
    panels.nodeList(seen, nodeAction);
    panels.shardMap(seen);
    panels.linkList(seen);
    panels.changeList(seen);
    panels.singletonList(seen);
    panels.supervision(seen);
    panels.kindList(seen);
    panels.sagaList(seen, sagaAction);
    panels.topicList(seen);
    panels.deadList(seen, deadAction);
    spark();
    $("drain").disabled = nodes.draining || nodes.resting;
    if (nodes.draining || nodes.resting) status("draining", "warn");
    else if (nodes.stuck > 0) status("work is stuck", "bad");
    else status("healthy", "good");
  } catch (error) {
    if (error instanceof Problem && error.status === 401) {
      status("locked", "warn");
      await login();
    } else if (error instanceof Problem) {
      status("refused", "bad");
      say(error.message);
    } else {
      status("not reachable", "bad");
    }
  } finally {
    looking = false;
  }
}

const THEMES = { auto: ["◐", "automatic"], light: ["☀", "light"], dark: ["☾", "dark"] };
function theme(name) {
  const [sign, word] = THEMES[name] ?? THEMES.auto;
  document.documentElement.dataset.theme = name;
  $("theme").textContent = sign;
  $("theme").setAttribute("aria-label", `Colour theme: ${word}`);
  localStorage.setItem("actor-theme", name);
}
$("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  theme(names[(names.indexOf(localStorage.getItem("actor-theme") ?? "auto") + 1) % names.length]);
});
theme(localStorage.getItem("actor-theme") ?? "auto");

$("drain").addEventListener("click", () => self && drain(self));
$("rebalance").addEventListener("click", () => post("/rebalance", "Every node looks at who should own what."));
$("saga-state").addEventListener("change", look);
document.addEventListener("visibilitychange", () => document.hidden || look());
setInterval(() => document.hidden || look(), EVERY_MS);
look();
