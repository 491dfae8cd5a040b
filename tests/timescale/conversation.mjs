// One client's connection, from its greeting to its end. COPY FROM STDIN, which the backend cannot hold a dialogue about,
// is gathered here and read by it from a file.

import { ENCRYPTION, GREETING, STARTUP, message, query, readMessages, rename } from './messages.mjs';

const COPY_IN = /^\s*copy\s[^;]*\sfrom\s+stdin\b/i;

let count = 0;

export async function converse(socket, backend) {
  const prefix = `s${++count}`;
  let round = [];
  let copy = null;
  backend.join(prefix);
  try {
    for await (const { type, bytes } of readMessages(socket)) {
      if (type === '') {
        const code = bytes.readInt32BE(4);
        if (ENCRYPTION.includes(code)) socket.write('N');
        else if (code === STARTUP) socket.write(GREETING);
        else break;
      } else if (type === 'X') {
        break;
      } else if (copy !== null) {
        if (type === 'd') copy.data.push(bytes.subarray(5));
        if (type === 'c') socket.write(await backend.run(prefix, query(copy.sql), new Blob(copy.data)));
        if (type === 'f') socket.write(await backend.run(prefix, query('DO $$ BEGIN RAISE query_canceled; END $$')));
        if ('cf'.includes(type)) copy = null;
      } else if (type === 'Q' && COPY_IN.test(bytes.toString('utf8', 5))) {
        const sql = bytes.toString('utf8', 5, bytes.length - 1);
        copy = { sql: sql.replace(/from\s+stdin/i, "from '/dev/blob'"), data: [] };
        socket.write(message('G', Buffer.from([/binary/i.test(sql) ? 1 : 0, 0, 0])));
      } else {
        round.push(rename(type, bytes, prefix));
        if (!'QSH'.includes(type)) continue;
        socket.write(await backend.run(prefix, Buffer.concat(round)));
        round = [];
      }
    }
  } catch (error) {
    console.error(`connection ${prefix}: ${error.message}`);
  } finally {
    backend.leave(prefix);
    socket.destroy();
  }
}
