// One connection that takes what it is given: what an event costs the server, by itself and through a channel.
import { withServer } from '../lib/actors.js'
import { SMALL_TEXT } from '../lib/events.js'
import { decimals, figure } from '../lib/format.js'
import { ratioPerRound } from '../lib/statistics.js'

const LOOP = 'res.write + await drain'
const BETTER_SSE = 'better-sse push'
const BETTER_SSE_NO_ID = 'better-sse push, empty id'
const FLOOR = 'floor'

export const connection = oneConnection({
  name: 'connection',
  ours: ['sluice requestSend', 'sluice send'],
  rounds: 5,
})

export const channelConnection = oneConnection({
  name: 'channel-connection',
  ours: ['sluice channel requestSend', 'sluice channel send'],
  rounds: 3,
})

function oneConnection({ name, ours, rounds }) {
  const [first] = ours
  return {
    name,
    peers: [...ours, LOOP, BETTER_SSE, BETTER_SSE_NO_ID, FLOOR],
    // The optimising compiler is done after about 600,000 events, with every peer.
    full: { rounds, events: 200_000, warmUps: 3, passes: 3 },
    quick: { rounds: 1, events: 50_000, warmUps: 6, passes: 3 },

    run(peer, size, client) {
      return withServer('connection', peer, size, async (server, port) => {
        for (let pass = 0; pass < size.warmUps; pass += 1) await client.call('read', port)
        const passes = []
        while (passes.length < size.passes) passes.push(await pass(server, port, size, client))
        return passes.toSorted((a, b) => a.cpuMicrosPerEvent - b.cpuMicrosPerEvent)[passes.length >> 1]
      })
    },

    compare(of) {
      const cpu = (peer) => of(peer, 'cpuMicrosPerEvent')
      const shown = (peer) => `${peer}: ${figure(cpu(peer), decimals(2))} µs`
      const against = (mine, peer, atLeast) => ({
        measured: 'events per CPU second (CPU time per event)',
        ours: shown(mine),
        peer: shown(peer),
        // As many times the events per CPU second as the peer needs the CPU time.
        ratio: ratioPerRound(cpu(peer), cpu(mine)),
        ...(atLeast && { target: { atLeast } }),
      })
      const aboveFloor = (mine) => ({
        measured: 'CPU time per event',
        ours: shown(mine),
        peer: shown(FLOOR),
        ratio: ratioPerRound(cpu(mine), cpu(FLOOR)),
        target: { atMost: 1.3 },
      })
      return ours.flatMap((mine) => [
        against(mine, LOOP, 1.5),
        against(mine, BETTER_SSE, 3),
        against(mine, BETTER_SSE_NO_ID),
        aboveFloor(mine),
      ])
    },

    charts: (of) => [
      {
        title: `${name}: CPU microseconds of the server per event`,
        bars: [...ours, LOOP, BETTER_SSE, BETTER_SSE_NO_ID, FLOOR].map((peer) => ({
          label: peer,
          values: of(peer, 'cpuMicrosPerEvent'),
          show: decimals(2),
          isOurs: ours.includes(peer),
        })),
      },
    ],

    notes(of, size) {
      const percent = (peer, key) => `${figure(of(peer, key), (share) => (share * 100).toFixed(0))} %`
      return [
        `${name}: ${size.events} events after ${size.warmUps} warm-up passes of as many in the same process, the ` +
          `median of ${size.passes} passes; CPU is user + system of the server process. Every measured stream is parsed ` +
          'and checked after its pass (count, order, content), outside the measured time.',
        `${name}: of the wall time the server computed ${percent(first, 'serverShareOfWall')} (sluice), ` +
          `${percent(LOOP, 'serverShareOfWall')} (loop), ${percent(FLOOR, 'serverShareOfWall')} (floor), the load ` +
          `client ${percent(first, 'clientShareOfWall')}, ${percent(LOOP, 'clientShareOfWall')}, ` +
          `${percent(FLOOR, 'clientShareOfWall')}.`,
        `${name}: one event is ${figure(of(first, 'bytesPerEvent'), decimals(0))} bytes on the wire; better-sse ` +
          `adds an id by default, ${figure(of(BETTER_SSE, 'bytesPerEvent'), decimals(0))}.`,
      ]
    },
  }
}

/** One stream, from the request to the client's word that it has the last byte. */
async function pass(server, port, { events }, client) {
  const cpuBefore = await server.call('cpuMicroseconds')
  const { wallMs, cpuMs, bytes } = await client.call('read', port)
  const cpu = (await server.call('cpuMicroseconds')) - cpuBefore
  const wrong = await client.call('check', { events, text: SMALL_TEXT })
  if (wrong !== null) throw new Error(wrong)
  return {
    cpuMicrosPerEvent: cpu / events,
    eventsPerCpuSecond: (events / cpu) * 1e6,
    bytesPerEvent: bytes / events,
    wallMs,
    serverShareOfWall: cpu / 1000 / wallMs,
    clientShareOfWall: cpuMs / wallMs,
  }
}
