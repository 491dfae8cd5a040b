// The messages of PostgreSQL's wire protocol, as far as a server needs them that does not ask who is there.

export const STARTUP = 196608;
export const ENCRYPTION = [80877103, 80877104];
const SETTINGS = {
  server_version: '17.5',
  server_encoding: 'UTF8',
  client_encoding: 'UTF8',
  DateStyle: 'ISO, MDY',
  TimeZone: 'GMT',
  integer_datetimes: 'on',
  standard_conforming_strings: 'on',
};

const text = (value) => Buffer.from(`${value}\0`);
export const message = (type, ...parts) => {
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(5, type);
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
};
export const query = (sql) => message('Q', text(sql));

export const GREETING = Buffer.concat([
  message('R', Buffer.alloc(4)),
  ...Object.entries(SETTINGS).map(([name, value]) => message('S', text(name), text(value))),
  message('K', Buffer.alloc(8)),
  message('Z', Buffer.from('I')),
]);

// Whole messages, the untyped ones of the start as type ''.
export async function* readMessages(socket) {
  let buffer = Buffer.alloc(0);
  let typed = 0;
  for await (const chunk of socket) {
    buffer = Buffer.concat([buffer, chunk]);
    while (buffer.length >= typed + 4) {
      const size = typed + buffer.readInt32BE(typed);
      if (buffer.length < size) break;
      const bytes = buffer.subarray(0, size);
      buffer = buffer.subarray(size);
      const type = typed ? String.fromCharCode(bytes[0]) : '';
      if (!typed && bytes.readInt32BE(4) === STARTUP) typed = 1;
      yield { type, bytes };
    }
  }
}

// Prepared statements are named per connection; the one backend needs names that differ.
export function rename(type, bytes, prefix) {
  const afterPortal = () => bytes.indexOf(0, 5) + 1;
  const at = { P: () => 5, B: afterPortal, D: () => 6, C: () => 6 }[type]?.();
  if (at === undefined || bytes[at] === 0 || ('DC'.includes(type) && bytes[5] !== 83) /* S */) return bytes;
  return message(type, bytes.subarray(5, at), Buffer.from(prefix), bytes.subarray(at));
}
