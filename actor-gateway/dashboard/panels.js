// What each part of the page shows of what the node said.

import { bytes, count, el, empty, pill, scroller, show, span, table } from "./dom.js";

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

/** From when on a transaction that stays open is an alarm: dead rows pile up behind it. */
const SNAPSHOT_OLD_MS = 300_000;

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
  if (nodes.tables) {
    const { oldest_xmin_age_ms: oldest, dead_rows: rows } = nodes.tables;
    list.push(["Snapshot age", span(oldest), oldest > SNAPSHOT_OLD_MS]);
    list.push(["Dead rows", Object.values(rows).reduce((total, dead) => total + dead, 0)]);
  }
  const tile = ([name, value, alarm]) => el("dl", { class: `tile ${alarm ? "alarm" : ""}` }, el("dt", {}, name), el("dd", {}, typeof value === "number" ? count(value) : value));
  show(document.getElementById("tiles"), list, () => list.map(tile));
}

const LINKS = { up: ["up", "good"], dialling: ["dialling", "warn"], leaving: ["leaving", "warn"] };

/** Draws `part` of `whole` as a bar of colour `place`. */
function bar(part, whole, place) {
  const fill = el("i", { class: place });
  fill.style.width = `${whole ? (100 * part) / whole : 0}%`;
  return el("span", { class: "bar-of", "aria-hidden": "true" }, fill);
}

/** Returns the colour of each node that owns shards, the same wherever it is drawn. */
function colours(shards) {
  const owners = [...new Set(shards.shards.map((shard) => shard.owner).filter(Boolean))].sort();
  return (owner) => (owners.includes(owner) ? `o${owners.indexOf(owner) % OWNERS}` : "");
}

/** Says how far a node is that gives its shards away, and what still runs in it. */
function progress(node) {
  const done = node.progress;
  if (!done) return "–";
  const left = node.state === "resting" || node.state === "draining" ? `${shardsOf(node.shards_owned)} left` : null;
  const moving = done.moving ? `${count(done.moving)} moving` : null;
  const running = done.running ? `${count(done.running)} running` : null;
  const paused = node.alive && node.paused_ms > 0 ? `waits ${span(node.paused_ms)}: it fell too often` : null;
  const sends = node.weight === 0 || !node.groups.length ? "only sends" : null;
  return [left, sends, paused, moving, running].filter(Boolean).join(" · ") || "settled";
}

export function nodeList({ nodes, shards }, act) {
  const place = colours(shards);
  const mood = (node) => (node.alive ? (node.state === "up" ? ["up", "good"] : [node.state, "warn"]) : [node.state === "up" ? "expired" : node.state, node.state === "left" ? "" : "bad"]);
  const lease = (node) => {
    if (node.lease_left_ms === null) return "file lock";
    if (!node.alive) return "ended";
    return [span(node.lease_left_ms), nodes.lease_ttl_ms ? bar(Math.min(node.lease_left_ms, nodes.lease_ttl_ms), nodes.lease_ttl_ms, "lease") : null];
  };
  const link = (node) => (node.self ? "–" : node.link ? pill(...LINKS[node.link]) : node.alive ? pill("none", "warn") : "–");
  const columns = [
    ["Node", (node) => [el("strong", {}, node.node), node.self ? " (this one)" : "", node.address ? el("div", { class: "why mono" }, node.address) : null, shards.groups.length > 1 ? el("div", { class: "why" }, node.groups.join(", ")) : null], "three"],
    ["State", (node) => pill(...mood(node))],
    ["Shards", (node) => [count(node.shards_owned), bar(node.shards_owned, nodes.shards, place(node.node))], "two"],
    ["Lease", lease, "two"],
    ["Link", link],
    ["Moves", progress, "two"],
    ["Up", (node) => span(node.uptime_ms), "num"],
    ["Life", (node) => count(node.incarnation), "num"],
    ["", (node) => (node.alive && ["up", "resting"].includes(node.state) ? el("div", { class: "row" }, act(node)) : null), "two"],
  ];
  const rank = (node) => (node.alive ? 0 : 1);
  const rows = [...nodes.nodes].sort((one, other) => rank(one) - rank(other) || one.node.localeCompare(other.node));
  const alive = rows.filter((node) => node.alive).length;
  note("nodes", `${count(alive)} of ${count(rows.length)} alive`);
  show(body("nodes"), [nodes.nodes, nodes.lease_ttl_ms, shards.groups.length], () => table("Nodes", columns, rows, "dense"));
}

export function shardMap({ shards }) {
  const owners = [...new Set(shards.shards.map((shard) => shard.owner).filter(Boolean))].sort();
  const place = colours(shards);
  const tally = owners.map((owner) => [owner, shards.shards.filter((shard) => shard.owner === owner).length, place(owner)]);
  if (shards.unowned) tally.push(["nobody", shards.unowned, ""]);
  if (shards.moving) tally.push(["about to leave its node", shards.moving, "moving"]);
  const label = tally.map(([owner, number]) => `${owner}: ${number}`).join(", ");
  const several = shards.groups.length > 1;
  const title = (shard) => `shard ${shard.shard}${several ? ` · group ${shard.group}` : ""} · ${shard.owner ?? "nobody"} · epoch ${shard.epoch}${shard.moving ? " · about to leave" : ""}`;
  const cell = (shard) => el("i", { class: `${place(shard.owner)} ${shard.moving ? "moving" : ""}`, title: title(shard) });
  const still = shards.moving || shards.unowned ? `${count(shards.moving + shards.unowned)} on the move · ` : "";
  note("shards", `${still}newest epoch ${shards.shards.reduce((most, shard) => Math.max(most, shard.epoch), 0)}`);
  show(body("shards"), shards.shards, () => [
    ...shards.groups.flatMap((group) => {
      const cells = shards.shards.slice(group.first, group.first + group.count).map(cell);
      const title = several ? [el("p", { class: "quiet" }, `group ${group.group}`)] : [];
      return [...title, el("div", { class: "map", role: "img", "aria-label": `${shards.count} shards: ${label}` }, cells)];
    }),
    el("ul", { class: "legend" }, tally.map(([owner, number, colour]) => el("li", {}, el("i", { class: colour }), `${owner} · ${count(number)}`))),
  ]);
}

export function linkList({ nodes }) {
  const arrow = (link) => (link.direction === "dialled" ? "to" : "from");
  const columns = [
    ["Peer", (link) => [el("span", { class: "quiet" }, `${arrow(link)} `), el("strong", {}, link.node), link.trouble ? el("div", { class: "why" }, link.trouble) : null], "three"],
    ["State", (link) => pill(...LINKS[link.state])],
    ["Open", (link) => count(link.open), "num"],
    ["Queued", (link) => bytes(link.queue_bytes), "num"],
    ["In", (link) => bytes(link.bytes_in), "num"],
    ["Out", (link) => bytes(link.bytes_out), "num"],
  ];
  const up = nodes.links.filter((link) => link.state === "up").length;
  const open = nodes.links.filter((link) => !link.encrypted).length;
  const plain = open ? ` · ${open === nodes.links.length ? "" : `${open} `}not encrypted` : "";
  note("links", nodes.links.length ? `${up} of ${nodes.links.length} up${plain}` : "none");
  const rows = [...nodes.links].sort((one, other) => one.node.localeCompare(other.node) || arrow(other).localeCompare(arrow(one)));
  show(body("links"), rows, () => (rows.length ? table("Links", columns, rows, "dense") : empty("This node has no links to others.")));
}

const shardsOf = (number) => `${count(number)} ${number === 1 ? "shard" : "shards"}`;
const restartsOf = (number) => `${count(number)} ${number === 1 ? "restart" : "restarts"}`;
const CHANGES = {
  joined: (change) => [`began its life ${change.incarnation}`, "good"],
  took: (change) => [`took ${shardsOf(change.shards)}${change.orphans ? `, ${count(change.orphans)} of them from a node that died or was cut off` : ""}`, change.orphans ? "warn" : "good"],
  gave_up: (change) => [`gave up ${shardsOf(change.shards)}`, ""],
  lost: (change) => [`lost ${shardsOf(change.shards)} to other nodes`, "bad"],
  lease_lost: (change) => [`lost its lease: ${change.why}`, "bad"],
  fenced: (change) => [`was refused by the database in ${shardsOf(change.shards)} that others own`, "bad"],
  drains: () => ["drains, to stop", "warn"],
  rests: () => ["was drained: it gives its shards away and stays", "warn"],
  called_back: () => ["takes shards again", "good"],
  declared_dead: (change) => [`saw ${change.node} dead, life ${change.incarnation}, before its lease ran out`, "bad"],
  came: (change) => [`${change.node} came, life ${change.incarnation}`, "good"],
  went: (change) => [`${change.node} went, life ${change.incarnation}`, "warn"],
};

export function changeList({ nodes, now }) {
  const say = (change) => (CHANGES[change.what] ?? (() => [change.what, ""]))(change);
  const line = (change) => {
    const [text, mood] = say(change);
    return el("li", {}, el("i", { class: `dot ${mood}`, "aria-hidden": "true" }), el("span", {}, el("strong", {}, change.at), ` ${text}`), el("span", { class: "quiet" }, `${span(now - change.at_ms)} ago`));
  };
  const witnesses = new Set(nodes.events.map((change) => change.at)).size;
  note("changes", `told by ${count(witnesses)} ${witnesses === 1 ? "node" : "nodes"}`);
  show(body("changes"), [nodes.events, Math.floor(now / 10000)], () => (nodes.events.length ? el("ol", { class: "changes", tabindex: "0", "data-key": "changes" }, nodes.events.map(line)) : empty("Nothing changed since the node began.")));
}

const ONCE = {
  runs: ["runs", "good"], stops: ["stops", "warn"], waits: ["waits for a former owner's lease", "warn"],
  backoff: ["failed, starts again", "bad"], done: ["done", ""], elsewhere: ["ask its node", ""],
};

export function singletonList({ nodes }) {
  const here = (one) => one.owner === nodes.self;
  const columns = [
    ["Singleton", (one) => [el("strong", {}, one.name), one.trouble ? el("div", { class: "why" }, `last failure: ${one.trouble}`) : null], "three"],
    ["Node", (one) => [one.owner ?? "nobody", here(one) ? " (this one)" : ""]],
    ["State", (one) => pill(...(here(one) ? ONCE[one.state] ?? [one.state, ""] : ONCE.elsewhere))],
    ["For", (one) => (here(one) ? span(one.for_ms) : "–"), "num"],
    ["Restarts here", (one) => count(one.restarts), "num"],
    ["Shard", (one) => one.shard, "num"],
  ];
  const mine = nodes.singletons.filter(here).length;
  note("singletons", nodes.singletons.length ? `${count(mine)} of ${count(nodes.singletons.length)} here` : "none");
  show(body("singletons"), nodes.singletons, () => (nodes.singletons.length ? table("Singletons", columns, nodes.singletons, "dense") : empty("This node was built without singletons.")));
}

/** Draws one shard's supervisor with what it supervises: a line for each kind. */
function branch(shard) {
  const leaf = (one) => {
    const idle = one.idle_ms === null ? "in use" : `idle since ${span(one.idle_ms)}`;
    const failed = one.failures ? `failed ${count(one.failures)} times in a row · ` : "";
    const mood = one.failures ? "bad" : one.depth ? "busy" : "";
    return el("li", { class: `leaf ${mood}`, title: `${one.kind}/${one.id} · ${failed}${idle}` },
      el("span", { class: "mono" }, one.id),
      one.depth ? el("b", { "aria-label": `${count(one.depth)} in its mailbox` }, count(one.depth)) : null,
      one.failures ? el("b", { "aria-label": `failed ${count(one.failures)} times in a row` }, `↻${count(one.failures)}`) : null);
  };
  const line = (kind) => {
    const leaves = shard.entities.filter((one) => one.kind === kind.kind);
    const more = kind.resident - leaves.length;
    return el("div", { class: "twig" }, el("span", { class: "quiet", title: kind.kind }, kind.kind),
      el("ul", {}, leaves.map(leaf), more > 0 ? el("li", { class: "quiet" }, leaves.length ? `and ${count(more)} more` : `${count(more)} in memory`) : null));
  };
  const waiting = shard.kinds.reduce((total, kind) => total + kind.mailbox_depth, 0);
  return el("li", { class: "branch" },
    el("header", {}, el("strong", {}, `shard ${shard.shard}`), el("span", { class: "quiet" }, shard.epoch === null ? "given up" : `epoch ${shard.epoch}`), waiting ? pill(`${count(waiting)} queued`) : null),
    shard.kinds.map(line));
}

export function supervision({ tree, now }) {
  // It is asked for only while somebody looks at it.
  if (!tree) return;
  const restarts = tree.kinds.reduce((total, kind) => total + kind.restarts, 0);
  const total = (kind) => el("li", {}, el("strong", {}, count(kind.resident)), ` ${kind.kind}`,
    kind.mailbox_depth ? el("span", { class: "quiet" }, ` · ${count(kind.mailbox_depth)} queued`) : null,
    kind.restarts ? el("span", { class: "bad" }, ` · ${restartsOf(kind.restarts)}`) : null);
  const left = tree.shards_hidden ? `Left out: ${count(tree.shards_hidden)} more; shards where something failed or waits come first.` : null;
  const root = el("div", { class: "root" }, el("strong", {}, tree.node), el("span", { class: "quiet" }, `life ${count(tree.incarnation)}`), el("ul", {}, tree.kinds.filter((kind) => kind.resident || kind.restarts).map(total)));
  const holding = tree.shards.length + tree.shards_hidden;
  note("supervision", `${count(tree.resident)} in memory in ${count(holding)} of ${shardsOf(tree.owned)} here${restarts ? ` · ${restartsOf(restarts)}` : ""}`);
  // How long each is idle changes all the time; only its minutes are worth drawing anew.
  const state = { ...tree, shards: tree.shards.map((shard) => ({ ...shard, entities: shard.entities.map((one) => ({ ...one, idle_ms: null })) })) };
  show(body("supervision"), [state, Math.floor(now / 60000)], () => [
    root,
    tree.shards.length ? el("ul", { class: "branches", tabindex: "0", "data-key": "branches", "aria-label": `Shards supervised by ${tree.node}` }, tree.shards.map(branch)) : empty("Nothing is in memory here. Entities come when they are called, and leave when they are idle."),
    left ? el("p", { class: "quiet left-out" }, left) : "",
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
  show(body("sagas"), [sagas.sagas, Math.floor(now / 10000)], () => (sagas.sagas.length ? scroller("sagas", table("Sagas", columns, sagas.sagas)) : empty("No sagas in this state.")));
}

export function topicList({ topics }) {
  const columns = [
    ["Topic", (topic) => el("strong", {}, topic.topic)],
    ["Outside may", (topic) => ({ listen: "listen", publish: "listen and publish", internal: "–" })[topic.access]],
    ["Events", (topic) => count(topic.offset), "num"],
    ["Listeners", (topic) => count(topic.subscribers), "num"],
  ];
  note("topics", `${topics.topics.reduce((total, topic) => total + topic.subscribers, 0)} listeners here`);
  show(body("topics"), topics.topics, () => (topics.topics.length ? scroller("topics", table("Topics", columns, topics.topics)) : empty("Nothing was announced yet.")));
}

export function deadList({ dead, now }, act) {
  const columns = [
    ["Message", (letter) => [el("strong", {}, `${letter.kind}/${letter.id}`), el("div", {}, el("code", {}, letter.method))]],
    ["Error", (letter) => [letter.error, el("div", { class: "why" }, `${letter.attempts} attempts · ${span(now - letter.died_at_ms)} ago`)], "full"],
    ["Arguments", (letter) => el("details", { "data-key": `args-${letter.seq}` }, el("summary", { "data-key": `show-${letter.seq}` }, "show"), el("code", {}, JSON.stringify(letter.args))), "full"],
    ["", (letter) => el("div", { class: "row" }, act("Replay", letter, "replay"), act("Discard", letter, "discard")), "full"],
  ];
  note("dead-letters", dead.count ? `${count(dead.count)} waiting for you` : "none");
  show(body("dead-letters"), [dead.dead_letters, Math.floor(now / 60000)], () => (dead.dead_letters.length ? scroller("dead-letters", table("Dead letters", columns, dead.dead_letters)) : empty("Every message found its handler.")));
}
