// What the shopper sees: builds and updates the page. Knows nothing of the server.

const money = new Intl.NumberFormat(navigator.languages, { style: 'currency', currency: 'EUR' });
const find = (id) => document.getElementById(id);
const ORDERS_SHOWN = 12;

/** Formats an amount in cents. */
export const price = (cents) => money.format(cents / 100);

/** Makes an element; attributes that are `null` are left out, `on…` ones listen. */
function element(tag, attributes = {}, ...children) {
  const made = tag === 'svg' || tag === 'use'
    ? document.createElementNS('http://www.w3.org/2000/svg', tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else if (value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Restarts a CSS animation. */
function replay(target, name) {
  target.classList.remove(name);
  void target.offsetWidth;
  target.classList.add(name);
}

export function showConnection(state) {
  const pill = document.querySelector('[data-testid="connection"]');
  const words = { connecting: 'Connecting…', online: 'Live', offline: 'Reconnecting…' };
  pill.dataset.state = state;
  pill.textContent = words[state];
}

export function showSkeletons(count) {
  const cards = Array.from({ length: count }, () => element('li', { class: 'product skeleton' }));
  find('product-list').replaceChildren(...cards);
}

/** Shows the catalogue; stock levels come later. */
export function showProducts(products, { onAdd, onRestock }) {
  const cards = products.map((product) => {
    const { sku, name, note, price_cents: cents, hue } = product;
    const card = element('li', { class: 'product', 'data-testid': `sku-${sku}` },
      element('div', { class: 'tile' },
        element('svg', { 'aria-hidden': 'true' }, element('use', { href: `#art-${sku}` }))),
      element('div', { class: 'product-body' },
        element('h3', {}, name),
        element('p', { class: 'note' }, note),
        element('p', { class: 'facts' },
          element('span', { class: 'price' }, price(cents)),
          element('span', { class: 'stock', id: `stock-${sku}` },
            element('span', { 'data-testid': `level-${sku}`, id: `level-${sku}` }, '–'),
            element('span', { id: `stock-word-${sku}` }, 'in stock'))),
        element('button', {
          class: 'add', type: 'button', id: `add-${sku}`, 'data-testid': `add-${sku}`,
          'aria-label': `Add ${name} to the cart`, onclick: () => onAdd(sku),
        }, 'Add to cart'),
        element('button', {
          class: 'restock', type: 'button', id: `restock-${sku}`, hidden: '',
          'aria-label': `Order more ${name} for the shop`, onclick: () => onRestock(sku),
        }, 'Sold out: restock')));
    card.style.setProperty('--hue', hue);
    return card;
  });
  find('product-list').replaceChildren(...cards);
  find('product-list').setAttribute('aria-busy', 'false');
}

export function showLevel(sku, level) {
  const shown = find(`level-${sku}`);
  if (!shown || shown.textContent === String(level)) return;
  const first = shown.textContent === '–';
  shown.textContent = level;
  if (!first) replay(shown, 'changed');
  const word = level === 0 ? 'none' : level <= 5 ? 'low' : 'fine';
  find(`stock-${sku}`).dataset.level = word;
  find(`stock-word-${sku}`).textContent = level > 0 && level <= 5 ? 'left' : 'in stock';
  find(`add-${sku}`).hidden = level === 0;
  find(`restock-${sku}`).hidden = level !== 0;
  shown.closest('.product').classList.toggle('sold-out', level === 0);
}

/** Shows the cart. `lines` maps a sku to its quantity; `products` the same to its product. */
export function showCart(lines, products, { saving, busy, onAdd, onTake }) {
  const rows = Object.entries(lines).map(([sku, quantity]) => {
    const { name = sku, price_cents: cents = 0 } = products.get(sku) ?? {};
    const step = (label, sign, act) => element('button', {
      type: 'button', 'aria-label': label, id: `${sign === '+' ? 'more' : 'less'}-${sku}`, onclick: act,
    }, sign);
    return element('li', { class: 'row', 'data-testid': `line-${sku}` },
      element('span', { class: 'row-name' }, name),
      element('span', { class: 'stepper' },
        step(`One ${name} less`, '−', () => onTake(sku)),
        element('output', {}, String(quantity)),
        step(`One ${name} more`, '+', () => onAdd(sku))),
      element('span', { class: 'row-price' }, price(cents * quantity)));
  });
  const focused = document.activeElement?.id;
  find('cart-lines').replaceChildren(...rows);
  if (focused && document.activeElement === document.body) find(focused)?.focus();
  showCounts(lines, products);
  find('sending').hidden = !saving;
  find('checkout').disabled = busy || rows.length === 0;
  find('checkout').textContent = busy ? 'Ordering…' : 'Check out';
}

function showCounts(lines, products) {
  const entries = Object.entries(lines);
  const count = entries.reduce((sum, [, quantity]) => sum + quantity, 0);
  const total = entries.reduce((sum, [sku, quantity]) => sum + quantity * (products.get(sku)?.price_cents ?? 0), 0);
  const shown = document.querySelector('[data-testid="cart-count"]');
  if (shown.textContent !== String(count)) replay(shown, 'changed');
  shown.textContent = count;
  shown.setAttribute('aria-label', `${count} ${count === 1 ? 'item' : 'items'} in the cart`);
  find('cart-empty').hidden = count > 0;
  find('total').textContent = price(total);
  find('dock').hidden = count === 0;
  find('dock-text').textContent = `View cart (${count})`;
  find('dock-total').textContent = price(total);
}

/** What each state of a saga means to a shopper: tone, headline. */
const WORDS = {
  running: ['busy', 'Order running'],
  suspended: ['busy', 'Order running'],
  compensating: ['busy', 'Undoing the order'],
  paused: ['busy', 'Order paused'],
  stuck: ['bad', 'Order stuck'],
  completed: ['good', 'Order completed'],
  failed: ['bad', 'Order failed'],
  cancelled: ['bad', 'Order cancelled'],
};

export function showOrderStatus(order, state, detail) {
  const [tone, headline] = WORDS[state] ?? ['busy', `Order ${state}`];
  const box = find('order-status');
  box.hidden = false;
  box.dataset.tone = tone;
  box.dataset.state = state;
  box.replaceChildren(element('strong', {}, headline), element('span', {}, detail));
  box.scrollIntoView({ block: 'nearest', behavior: 'smooth' });
}

/** Adds an order to everyone's list, or updates it there. */
export function showOrder({ order, status, lines, total_cents: cents }, products, mine, fresh) {
  const list = find('orders');
  const what = Object.entries(lines)
    .map(([sku, quantity]) => `${quantity} × ${products.get(sku)?.name ?? sku}`).join(', ');
  const words = { opened: 'running', placed: 'placed', cancelled: 'cancelled' };
  const known = find(`order-${order}`);
  const row = element('li', {
    class: `order${mine ? ' mine' : ''}`, id: `order-${order}`, 'data-testid': `order-${order}`, 'data-status': status,
  },
    element('span', { class: 'order-id' }, `#${order.slice(-6)}`),
    element('span', { class: 'badge', 'data-status': status }, words[status] ?? status),
    element('span', { class: 'order-what', title: what }, what || 'an order'),
    element('span', { class: 'order-total' }, cents ? price(cents) : ''));
  if (known) known.replaceWith(row);
  else list.prepend(row);
  if (fresh && !known) replay(row, 'fresh');
  while (list.children.length > ORDERS_SHOWN) list.lastElementChild.remove();
  find('orders-empty').hidden = true;
}

/** Takes the floating link to the cart away while the cart is on the screen. */
export function hideDockAtCart() {
  const watcher = new IntersectionObserver(([cart]) => {
    find('dock').classList.toggle('away', cart.isIntersecting);
  });
  watcher.observe(find('cart'));
}

/** Tells the shopper something for a few seconds. */
export function toast(text) {
  const shown = element('p', { class: 'toast' }, text);
  find('toasts').append(shown);
  setTimeout(() => shown.remove(), 5_000);
}
