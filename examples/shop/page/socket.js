// JSON-RPC over one WebSocket that comes back by itself.
//
// Everything asked here may be asked twice: reads, calls with a key, sagas with an id. So whatever
// has no answer yet is sent again on the next connection. Not here: what must also survive a reload
// of the page (outbox.js).

const PROTOCOL = 'actor.v1.json';
/** After this long without a word the server is asked for one, ms. */
const QUIET_MS = 10_000;
/** A server that does not answer a ping within this time is gone, ms. */
const PING_MS = 4_000;
const RETRY_FIRST_MS = 250;
const RETRY_LAST_MS = 4_000;
/** Kinds of errors after which the same call may succeed. */
const TRANSIENT = new Set(['timeout', 'overloaded', 'unavailable', 'unknown_outcome']);

/** What the server answered instead of a result. */
export class CallFailure extends Error {
  constructor({ code, message, data }) {
    super(message);
    this.code = code;
    this.kind = data?.kind ?? 'failed';
    this.data = data;
  }
}

export class Socket {
  #url;
  #tellState;
  #socket = null;
  #online = false;
  #failures = 0;
  #reconnectMs = RETRY_FIRST_MS;
  #retryTimer = 0;
  #quietTimer = 0;
  #lastId = 0;
  /** What was asked and not answered, in the order asked. */
  #unanswered = new Set();
  /** Where each sent request waits, by JSON-RPC id. */
  #sent = new Map();
  #topics = new Map();

  constructor(url, tellState) {
    this.#url = url;
    this.#tellState = tellState;
    addEventListener('online', () => this.#connectNow());
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') this.#connectNow();
    });
    this.#connect();
  }

  /** Asks until there is an answer. `method` and `params` must be safe to repeat. */
  request(method, params = {}) {
    return new Promise((resolve, reject) => {
      const request = { method, params, resolve, reject, tries: 0 };
      this.#unanswered.add(request);
      if (this.#online) this.#send(request);
    });
  }

  /**
   * Follows a topic across connections. `onEvent(data, position)` gets each event once and in order;
   * `onGap()` says that some were missed and what they told must be read anew. With `history` the
   * last so many events are told first.
   */
  follow(topic, { onEvent, onGap = () => {}, history = 0 }) {
    const followed = { topic, onEvent, onGap, history, position: null };
    this.#topics.set(topic, followed);
    if (this.#online) this.#subscribe(followed);
  }

  #connect() {
    clearTimeout(this.#retryTimer);
    this.#tellState(this.#failures ? 'offline' : 'connecting');
    const socket = new WebSocket(this.#url, PROTOCOL);
    this.#socket = socket;
    socket.addEventListener('open', () => this.#listenForQuiet());
    socket.addEventListener('message', ({ data }) => this.#receive(socket, data));
    socket.addEventListener('close', () => this.#closed(socket));
  }

  #connectNow() {
    if (this.#online || this.#socket?.readyState === WebSocket.CONNECTING) return;
    this.#failures = 0;
    this.#connect();
  }

  #closed(socket) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    this.#online = false;
    this.#sent.clear();
    clearTimeout(this.#quietTimer);
    const wait = Math.min(RETRY_LAST_MS, this.#reconnectMs * 2 ** this.#failures);
    this.#failures += 1;
    this.#tellState('offline');
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#connect(), wait * (0.75 + Math.random() / 2));
  }

  #receive(socket, text) {
    if (socket !== this.#socket) return;
    this.#listenForQuiet();
    const message = JSON.parse(text);
    if (message.method === 'welcome') this.#welcomed(message.params);
    else if (message.method === 'topic.event') this.#happened(message.params);
    else if (this.#sent.has(message.id)) this.#answered(message);
  }

  #welcomed({ reconnect_ms: reconnectMs }) {
    this.#reconnectMs = Math.min(reconnectMs || RETRY_FIRST_MS, RETRY_LAST_MS);
    this.#failures = 0;
    this.#online = true;
    for (const topic of this.#topics.values()) this.#subscribe(topic);
    for (const request of this.#unanswered) this.#send(request);
    this.#tellState('online');
  }

  #send(request) {
    const id = ++this.#lastId;
    this.#sent.set(id, request);
    this.#socket.send(JSON.stringify({ jsonrpc: '2.0', id, method: request.method, params: request.params }));
  }

  #answered({ id, result, error }) {
    const request = this.#sent.get(id);
    this.#sent.delete(id);
    if (error && TRANSIENT.has(error.data?.kind)) {
      request.tries += 1;
      const wait = error.data.retry_after_ms ?? Math.min(RETRY_LAST_MS, 100 * 2 ** request.tries);
      const socket = this.#socket; // The next connection asks anew by itself.
      setTimeout(() => socket === this.#socket && this.#send(request), wait);
      return;
    }
    this.#unanswered.delete(request);
    if (error) request.reject(new CallFailure(error));
    else request.resolve(result);
  }

  /** Starts or resumes a topic on this connection; each connection does so anew. */
  #subscribe(followed) {
    const { topic, position: since } = followed;
    const ask = (method, params, resolve) => this.#send({ method, params, resolve, reject: console.error, tries: 0 });
    ask('topic.subscribe', since ? { topic, since } : { topic }, ({ epoch, offset, recovered }) => {
      if (since && recovered) return;
      if (!since && followed.history && offset > 0) {
        followed.position = { epoch, offset: Math.max(0, offset - followed.history) };
        ask('topic.unsubscribe', { topic }, () => this.#subscribe(followed));
        return;
      }
      followed.position = { epoch, offset };
      if (since) followed.onGap();
    });
  }

  #happened({ topic, epoch, offset, data }) {
    const followed = this.#topics.get(topic);
    if (!followed) return;
    const last = followed.position;
    if (last?.epoch === epoch && offset <= last.offset) return;
    followed.position = { epoch, offset };
    followed.onEvent(data, followed.position);
  }

  /** A link can die without a word: ask for one, and give up on a server that has none. */
  #listenForQuiet() {
    clearTimeout(this.#quietTimer);
    this.#quietTimer = setTimeout(() => {
      const socket = this.#socket;
      if (socket?.readyState !== WebSocket.OPEN) return;
      socket.send(JSON.stringify({ jsonrpc: '2.0', id: ++this.#lastId, method: 'ping' }));
      this.#quietTimer = setTimeout(() => {
        socket.close();
        this.#closed(socket);
      }, PING_MS);
    }, QUIET_MS);
  }
}
