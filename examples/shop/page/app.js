// The shop: joins what the server says (socket.js), what the shopper did (outbox.js) and what is
// seen (view.js).

import { Socket } from './socket.js';
import { Outbox, freshId } from './outbox.js';
import * as view from './view.js';

const ORDER = 'steep.order';
const terminal = new Set(['completed', 'failed', 'cancelled']);

const products = new Map();
/** The cart as the server last told it; what is still in the outbox comes on top. */
let lines = {};
/** The order of this tab that has not ended, if any. */
let order = JSON.parse(sessionStorage.getItem(ORDER) ?? 'null');

const cart = localStorage.getItem('steep.cart') ?? freshId('cart-');
localStorage.setItem('steep.cart', cart);
/** Tells this shopper's other tabs that the cart has changed. */
const tabs = new BroadcastChannel('steep.cart');

const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
const socket = new Socket(`${scheme}//${location.host}/ws`, view.showConnection);
const outbox = new Outbox(socket, render);

const call = (kind, id, method, args = {}) => socket.request('entity.call', { kind, id, method, args });

/** Makes one action of the shopper: its key is made here, once. */
function act(kind, id, method, args) {
  outbox.add('entity.call', { kind, id, method, args, key: freshId('k-') }, { kind, method, args });
}

const onAdd = (sku) => act('cart', cart, 'add', { sku, quantity: 1 });
const onTake = (sku) => act('cart', cart, 'take', { sku, quantity: 1 });
const onRestock = (sku) => act('stock', sku, 'restock', { quantity: 12 });

/** Returns `before` with one cart action applied. */
function applied(before, { kind, method, args }) {
  if (kind !== 'cart') return before;
  const quantity = (before[args.sku] ?? 0) + (method === 'add' ? args.quantity : -args.quantity);
  const { [args.sku]: _, ...others } = before;
  const kept = quantity > 0 ? { ...others, [args.sku]: quantity } : others;
  return Object.fromEntries(Object.entries(kept).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function render() {
  const notes = outbox.actions.map(({ note }) => note);
  view.showCart(notes.reduce(applied, lines), products, {
    saving: notes.length > 0, busy: order !== null, onAdd, onTake,
  });
}

async function readCart() {
  const told = await call('cart', cart, 'lines');
  if (outbox.actions.some(({ note }) => note.kind === 'cart')) return; // Read again once they are done.
  lines = told;
  render();
}

async function readLevels() {
  await Promise.all([...products.keys()].map(async (sku) => view.showLevel(sku, await call('stock', sku, 'level'))));
}

/** An action was answered. */
function done({ note, params }, result, failure) {
  if (failure) view.toast(note.kind === 'checkout' ? `The order could not start: ${failure.message}` : failure.message);
  else if (note.kind === 'cart') lines = applied(lines, note);
  else if (note.kind === 'stock') view.showLevel(params.id, result);
  if (note.kind === 'checkout') failure ? endOrder() : watchOrder();
  if (note.kind === 'cart' && !outbox.actions.some((action) => action.note.kind === 'cart')) {
    tabs.postMessage('changed');
    queueMicrotask(readCart);
  }
}

function checkOut(event) {
  event.preventDefault();
  if (order) return;
  const input = { cart, card: document.getElementById('card').value };
  order = freshId('o-');
  sessionStorage.setItem(ORDER, JSON.stringify(order));
  view.showOrderStatus(order, 'running', 'Reserving the stock, then charging the card.');
  outbox.add('saga.start', { kind: 'checkout', id: order, input }, { kind: 'checkout' });
}

const REASONS = {
  card_declined: 'The card was declined. Nothing was charged, and the stock went back.',
  out_of_stock: 'Somebody was faster: not enough stock. Nothing was charged.',
  cart_empty: 'The cart was empty.',
};

/** Follows this tab's order until it ends; also after a reload. */
async function watchOrder() {
  const id = order;
  for (;;) {
    const run = await socket.request('saga.result', { kind: 'checkout', id, wait_ms: 5_000 });
    const { state, result, error } = run;
    const detail = state === 'completed'
      ? `#${id.slice(-6)}, ${view.price(result.total_cents)} charged. Thank you!`
      : error ? REASONS[error.kind] ?? error.message : 'Reserving the stock, then charging the card.';
    view.showOrderStatus(id, state, detail);
    if (terminal.has(state)) return endOrder();
  }
}

function endOrder() {
  order = null;
  sessionStorage.removeItem(ORDER);
  readCart();
  tabs.postMessage('changed');
}

async function catalogue() {
  for (;;) {
    const answer = await fetch('/catalogue').catch(() => null);
    if (answer?.ok) return answer.json();
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

view.hideDockAtCart();
view.showSkeletons(6);
for (const product of await catalogue()) products.set(product.sku, product);
view.showProducts([...products.values()], { onAdd, onRestock });
render();

socket.follow('stock', { onEvent: ({ sku, level }) => view.showLevel(sku, level), onGap: readLevels });
readLevels();
const loadedAt = performance.now();
socket.follow('orders', {
  history: 24, // Each order has two or three events.
  onEvent: (event) => {
    view.showOrder(event, products, event.cart === cart, performance.now() - loadedAt > 1_500);
    if (event.cart === cart && event.status === 'placed') setTimeout(readCart, 50);
  },
});
tabs.onmessage = readCart;
document.getElementById('checkout-form').addEventListener('submit', checkOut);

outbox.flush(done);
readCart();
if (order && !outbox.actions.some(({ note }) => note.kind === 'checkout')) watchOrder();
if (order) view.showOrderStatus(order, 'running', 'Picking up where we were.');
