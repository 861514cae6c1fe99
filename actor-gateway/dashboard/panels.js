// What each part of the page shows of what the node said.

import { count, el, empty, pill, show, span, table } from "./dom.js";

const body = (id) => document.querySelector(`#${id} [data-body]`);
const note = (id, text) => { document.querySelector(`#${id} [data-note]`).textContent = text; };
const OWNERS = 8;

export function head({ nodes }) {
  const own = nodes.nodes.find((node) => node.self);
  document.title = `${nodes.self} · node`;
  document.getElementById("node-name").textContent = nodes.self;
  const up = own?.uptime_ms === undefined ? "" : ` · up ${span(own.uptime_ms)}`;
  document.getElementById("node-facts").textContent = `version ${nodes.version}${up}`;
}

export function tiles({ nodes, kinds, dead }) {
  const sum = (field) => kinds.kinds.reduce((total, kind) => total + kind[field], 0);
  const own = nodes.nodes.find((node) => node.self);
  const list = [
    ["Nodes alive", nodes.nodes.filter((node) => node.alive).length],
    ["Shards here", own?.shards_owned ?? 0],
    ["In memory", sum("resident")],
    ["Queued", sum("mailbox_depth")],
    ["Sessions", nodes.sessions],
    ["Stuck", nodes.stuck ?? "?", nodes.stuck > 0],
    ["Dead letters", dead.count, dead.count > 0],
  ];
  const tile = ([name, value, alarm]) => el("dl", { class: `tile ${alarm ? "alarm" : ""}` }, el("dt", {}, name), el("dd", {}, typeof value === "number" ? count(value) : value));
  show(document.getElementById("tiles"), list, () => list.map(tile));
}

export function nodeList({ nodes }) {
  const mood = (node) => (node.alive ? (node.state === "up" ? ["up", "good"] : [node.state, "warn"]) : [node.state === "up" ? "expired" : node.state, "bad"]);
  const columns = [
    ["Node", (node) => [el("strong", {}, node.node), node.self ? " (this one)" : ""]],
    ["State", (node) => pill(...mood(node))],
    ["Lease", (node) => (node.lease_left_ms === null ? "file lock" : node.alive ? span(node.lease_left_ms) : "ended")],
    ["Up", (node) => span(node.uptime_ms), "num"],
    ["Life", (node) => count(node.incarnation), "num"],
    ["Shards", (node) => count(node.shards_owned), "num"],
  ];
  note("nodes", `${nodes.shards} shards`);
  show(body("nodes"), nodes.nodes, () => table("Nodes", columns, nodes.nodes));
}

export function shardMap({ shards }) {
  const owners = [...new Set(shards.shards.map((shard) => shard.owner).filter(Boolean))].sort();
  const place = (owner) => (owner ? `o${owners.indexOf(owner) % OWNERS}` : "");
  const tally = owners.map((owner) => [owner, shards.shards.filter((shard) => shard.owner === owner).length]);
  const orphans = shards.shards.filter((shard) => !shard.owner).length;
  if (orphans) tally.push(["nobody", orphans]);
  const label = tally.map(([owner, number]) => `${owner} owns ${number}`).join(", ");
  const cell = (shard) => el("i", { class: place(shard.owner), title: `shard ${shard.shard} · ${shard.owner ?? "nobody"} · epoch ${shard.epoch}` });
  note("shards", `newest epoch ${shards.shards.reduce((most, shard) => Math.max(most, shard.epoch), 0)}`);
  show(body("shards"), shards.shards, () => [
    el("div", { class: "map", role: "img", "aria-label": `${shards.count} shards: ${label}` }, shards.shards.map(cell)),
    el("ul", { class: "legend" }, tally.map(([owner, number]) => el("li", {}, el("i", { class: owner === "nobody" ? "" : place(owner) }), `${owner} · ${count(number)}`))),
  ]);
}

const ROLES = { entity: "volatile", durable_entity: "durable", workflow: "workflow" };
const ERRORS = ["timeout", "overloaded", "crashed", "refused"];

export function kindList({ kinds, rates }) {
  const card = (kind) => {
    const errors = ERRORS.reduce((total, name) => total + (kind.calls[name] ?? 0), 0);
    const figure = (name, value, bad) => el("div", {}, el("dt", {}, name), el("dd", { class: bad ? "bad" : null }, value));
    const method = (one) => el("li", {}, el("code", {}, `${one.name}(${one.args.join(", ")})`), " ", el("span", { class: "quiet" }, (one.docs || (one.writes ? "changes the state" : "reads")).trim().split("\n")[0]));
    const outcome = ([name, number]) => (number ? `${name} ${count(number)}` : null);
    return el("article", { class: "kind" },
      el("h3", {}, kind.kind, pill(ROLES[kind.role] ?? kind.role), kind.exposed ? pill("exposed", "warn") : null),
      el("dl", { class: "figures" },
        figure("in memory", count(kind.resident)), figure("queued", count(kind.mailbox_depth)),
        figure("calls/s", rates.get(kind.kind) ?? "–"), figure("errors", count(errors), errors > 0)),
      el("p", { class: "quiet" }, Object.entries(kind.calls).map(outcome).filter(Boolean).join(" · ") || "no calls yet"),
      kind.methods.length ? el("details", { "data-key": `methods-${kind.kind}` }, el("summary", { "data-key": `summary-${kind.kind}` }, `${kind.methods.length} methods`), el("ul", { class: "methods" }, kind.methods.map(method))) : null);
  };
  note("kinds", `${kinds.kinds.length} hosted here`);
  show(body("kinds"), [kinds.kinds, [...rates]], () => (kinds.kinds.length ? el("div", { class: "kinds" }, kinds.kinds.map(card)) : empty("This node hosts no kinds.")));
}

const STATES = { running: "", suspended: "", compensating: "warn", paused: "warn", stuck: "bad", failed: "bad", cancelled: "warn", completed: "good" };

export function sagaList({ sagas, now }, act) {
  const open = (saga) => ["running", "suspended", "compensating", "paused", "stuck"].includes(saga.state);
  const buttons = (saga) => el("div", { class: "row" },
    saga.state === "paused" ? act("Resume", saga, "resume") : open(saga) ? act("Pause", saga, "pause") : null,
    open(saga) ? act("Cancel", saga, "cancel") : null);
  const columns = [
    ["Saga", (saga) => [el("strong", {}, saga.kind), el("div", { class: "mono" }, saga.id)]],
    ["State", (saga) => pill(saga.state, STATES[saga.state])],
    ["Why it is not moving", (saga) => [saga.reason || (open(saga) ? "it moves" : ""), saga.last ? el("div", { class: "why" }, `last: ${saga.last}`) : null], "full"],
    ["Changed", (saga) => `${span(now - saga.updated_at)} ago`, "num"],
    ["", buttons, "full"],
  ];
  const counts = Object.entries(sagas.counts ?? {}).map(([state, number]) => `${count(number)} ${state}`);
  note("sagas", counts.join(" · ") || "none");
  show(body("sagas"), [sagas.sagas, Math.floor(now / 10000)], () => (sagas.sagas.length ? table("Sagas", columns, sagas.sagas) : empty("No sagas in this state.")));
}

export function topicList({ topics }) {
  const columns = [
    ["Topic", (topic) => el("strong", {}, topic.topic)],
    ["Outside may", (topic) => ({ listen: "listen", publish: "listen and publish", internal: "–" })[topic.access]],
    ["Events", (topic) => count(topic.offset), "num"],
    ["Listeners", (topic) => count(topic.subscribers), "num"],
  ];
  note("topics", `${topics.topics.reduce((total, topic) => total + topic.subscribers, 0)} listeners here`);
  show(body("topics"), topics.topics, () => (topics.topics.length ? table("Topics", columns, topics.topics) : empty("Nothing was announced yet.")));
}

export function deadList({ dead, now }, act) {
  const columns = [
    ["Message", (letter) => [el("strong", {}, `${letter.kind}/${letter.id}`), el("div", {}, el("code", {}, letter.method))]],
    ["Error", (letter) => [letter.error, el("div", { class: "why" }, `${letter.attempts} attempts · ${span(now - letter.died_at_ms)} ago`)], "full"],
    ["Arguments", (letter) => el("details", { "data-key": `args-${letter.seq}` }, el("summary", { "data-key": `show-${letter.seq}` }, "show"), el("code", {}, JSON.stringify(letter.args))), "full"],
    ["", (letter) => el("div", { class: "row" }, act("Replay", letter, "replay"), act("Discard", letter, "discard")), "full"],
  ];
  note("dead-letters", dead.count ? `${count(dead.count)} waiting for you` : "none");
  show(body("dead-letters"), [dead.dead_letters, Math.floor(now / 60000)], () => (dead.dead_letters.length ? table("Dead letters", columns, dead.dead_letters) : empty("Every message found its handler.")));
}
