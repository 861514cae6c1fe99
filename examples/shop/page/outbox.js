// What the shopper did and the server has not confirmed yet.
//
// Each action gets its key when it is made, never when it is sent, and stays in the tab's session
// storage until the server answered: a lost connection, a killed server and a reloaded page send the
// same action again under the same key, and it counts once. Actions go out one by one, in order.

const STORED = 'steep.outbox';

/** Returns a name that nobody else makes; also without a secure context. */
export function freshId(prefix) {
  const alphabet = '0123456789abcdefghjkmnpqrstvwxyz';
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return prefix + Array.from(bytes, (byte) => alphabet[byte % 32]).join('');
}

export class Outbox {
  #socket;
  #changed;
  #actions = JSON.parse(sessionStorage.getItem(STORED) ?? '[]');
  #sending = false;

  /** `changed()` is called whenever an action was added or confirmed. */
  constructor(socket, changed) {
    this.#socket = socket;
    this.#changed = changed;
  }

  /** The actions without an answer, oldest first. */
  get actions() {
    return this.#actions;
  }

  /** Keeps an action and sends it. `note` is for the page: it comes back in `onDone`. */
  add(method, params, note) {
    this.#actions = [...this.#actions, { method, params, note }];
    this.#store();
    this.flush();
  }

  /** Sends what is kept, one by one. `onDone(action, result, failure)` is told each answer. */
  async flush(onDone = this.onDone) {
    this.onDone = onDone;
    if (this.#sending || !onDone) return;
    this.#sending = true;
    while (this.#actions.length) {
      const [action] = this.#actions;
      const [result, failure] = await this.#socket.request(action.method, action.params)
        .then((value) => [value, null], (reason) => [null, reason]);
      this.#actions = this.#actions.slice(1);
      onDone(action, result, failure);
      this.#store();
    }
    this.#sending = false;
  }

  #store() {
    sessionStorage.setItem(STORED, JSON.stringify(this.#actions));
    this.#changed();
  }
}
