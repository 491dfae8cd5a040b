// The one backend behind all connections. They take turns by transaction; what they set, make temporary or lock is
// common to all and forgotten when the last one leaves.

import { message, query } from './messages.mjs';

const Z = 90;
const IDLE = 73;

export class Backend {
  #db;
  #clients = new Set();
  #owner = null;
  #waiting = [];

  constructor(db) {
    this.#db = db;
    this.#forget();
  }

  join(client) {
    this.#clients.add(client);
  }

  // The answer to one round of messages; `data` is what a COPY in it reads from /dev/blob.
  async run(client, round, data) {
    await this.#take(client);
    if (data) await this.#db._handleBlob(data);
    const answer = this.#execute(round);
    if (answer.at(-6) === Z && answer.at(-1) === IDLE) this.#pass();
    return answer;
  }

  leave(client) {
    this.#clients.delete(client);
    if (this.#owner === client) {
      this.#execute(message('S'));
      this.#execute(query('ROLLBACK'));
      this.#pass();
    }
    if (this.#clients.size === 0) this.#forget();
  }

  #forget() {
    this.#execute(query('DISCARD ALL'));
    this.#execute(query('SET search_path = "$user", public')); // its default here is pg_catalog alone
  }

  #execute(round) {
    try {
      return Buffer.from(this.#db.execProtocolRawSync(round));
    } catch (error) {
      console.error(error); // the backend has crashed, and all its data with it
      return process.exit(1);
    }
  }

  #take(client) {
    if (this.#owner === client) return undefined;
    if (this.#owner !== null) return new Promise((resolve) => this.#waiting.push({ client, resolve }));
    this.#owner = client;
    return undefined;
  }

  #pass() {
    const next = this.#waiting.shift();
    this.#owner = next ? next.client : null;
    next?.resolve();
  }
}
