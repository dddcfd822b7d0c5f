import { appendFileSync } from 'node:fs'

/** Every fault that the tests make, and how. `docs/faults.md` has a row for each. */
export const FAULTS = {
  'link-idle': [
    'the peer vanishes, idle: its link is down',
    '`ip link set down` at the client; heartbeats only',
  ],
  'link-busy': ['the peer vanishes, busy: its link is down', 'the same; 1 KiB every 200 ms'],
  'link-flood': ['the peer vanishes, very busy: its link is down', 'the same; always more than it takes'],
  'silence-idle': [
    'the peer vanishes, idle: all packets are lost',
    'a relay between the ends drops every packet; heartbeats only',
  ],
  'silence-busy': ['the peer vanishes, busy: all packets are lost', 'the same; 1 KiB every 200 ms'],
  'silence-flood': [
    'the peer vanishes, very busy: all packets are lost',
    'the same; always more than it takes',
  ],
  loss: [
    '20 % of the packets are lost',
    'the relay drops one in five of those to the client; 1 KiB every 200 ms, and silence',
  ],
  delay: [
    'packets take 500 ms',
    'the relay holds each back, in each direction; 1 KiB every 200 ms, and silence',
  ],
  bandwidth: [
    '64 kbit/s',
    '`tc tbf` at the server; 1 KiB every 200 ms, silence, and always more than it takes',
  ],
  'link-30s': [
    'the link is down for 30 s',
    '`ip link set down` at the client, then `up`; 1 KiB every 200 ms from a channel',
  ],
  'silence-30s': ['all packets are lost for 30 s', 'the relay drops every packet, then none; the same'],
  'reset-idle': [
    'the client resets at any byte, then silence',
    'RST after n bytes read, for every n of the head and three events',
  ],
  'reset-busy': ['the client resets at any byte, while it is sent more', 'the same; an event every ms'],
  'half-close': ['the client half-closes', 'FIN, and it goes on reading'],
  paused: ['the client stops reading', 'a socket that is not read; always more than it takes'],
  'abort-storm': [
    '2,000 clients come and abort',
    'before the request, before the head, after the first event, later; by FIN and by RST. From the last abort on',
  ],
  restart: [
    'the server restarts under 2,000 clients',
    'SIGKILL, and a new process on the same port; each client comes back 500 ms after it was cut. Time: until all are back',
  ],
  soak: [
    'clients of all kinds come and go, for a minute or more',
    '100 at a time: idle, busy, of a channel, with more than they take; they leave by FIN and RST, or stop reading',
  ],
  'nginx-buffering': [
    'nginx buffers answers',
    'nginx with its default buffering; one event at a time. Time: from `publish` to the client',
  ],
  'nginx-timeout': [
    'nginx ends streams in which nothing comes',
    '`proxy_read_timeout 10s`, heartbeats every 3 s, no event for 25 s; without heartbeats it ends after 10 s',
  ],
  'nginx-reload': [
    'nginx reloads',
    '`nginx -s reload` and `worker_shutdown_timeout 2s`; 100 events a second. Time: until all have what they missed',
  ],
  'nginx-upstream': ['the server behind nginx restarts', 'stopped for 1 s, and nginx answers 502; the same'],
  'wall-clock': ['the wall clock jumps by hours', '`Date.now` jumps to and fro by up to a day'],
  'clock-stands': ['the monotonic clock stands still for 2 s', 'a clock whose `now()` stands'],
  'clock-leaps': [
    'the monotonic clock leaps by 5 minutes',
    'a clock whose `now()` leaps; less than `idleMs`',
  ],
  'clock-leaps-far': [
    'the monotonic clock leaps by 2 hours',
    'the same; more than `lifetimeMs`. Time: from the leap to the close',
  ],
  'disk-full': [
    'the disk is full for the logger',
    'a logger that throws ENOSPC on every call; one that writes to `/dev/full`',
  ],
  hooks: [
    'hooks throw',
    'each hook, listener and method of a log in turn, on one stream while another one goes on',
  ],
} as const satisfies Record<string, readonly [fault: string, how: string]>

export type FaultName = keyof typeof FAULTS

export interface Finding {
  /** From the fault to the close, for each repetition. Empty when the fault is to close nothing. */
  timesMs: readonly number[]
  /** The close reasons seen. */
  reasons: readonly string[]
  /** What there was of the connections afterwards. */
  left: string
}

/** Keeps what a fault did, for `table.js`, which names the file in FAULTS_REPORT. */
export function recordFault(name: FaultName, { timesMs, reasons, left }: Finding): void {
  const file = process.env.FAULTS_REPORT
  if (file === undefined || file === '') return
  const [fault, how] = FAULTS[name]
  const sorted = timesMs.toSorted((a, b) => a - b)
  const record = {
    place: Object.keys(FAULTS).indexOf(name),
    fault,
    how,
    repetitions: sorted.length,
    medianMs: sorted[Math.floor(sorted.length / 2)] ?? null,
    maxMs: sorted.at(-1) ?? null,
    reason: [...new Set(reasons)].sort(),
    left,
  }
  appendFileSync(file, `${JSON.stringify(record)}\n`)
}
