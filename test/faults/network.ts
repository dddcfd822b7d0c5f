import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { inject } from 'vitest'
import { type Program, startProgram } from './process.js'

type Place = 'server' | 'between' | 'client'

/** What a line does to packets. */
export interface Impairment {
  /** Which share of those to the client is lost. */
  lossToClient: number
  lossToServer: number
  /** How long each takes, in either direction. */
  delayMs: number
}

/** A line from the client's namespace to the server's, with an address of its own at each end. */
export interface Line {
  readonly serverAddress: string
  readonly clientAddress: string
  /** The interface at either end. */
  readonly device: string
  readonly port: number
}

export const FLAWLESS: Impairment = { lossToClient: 0, lossToServer: 0, delayMs: 0 }
export const SILENCE: Impairment = { lossToClient: 1, lossToServer: 1, delayMs: 0 }
const RELAY = { server: '10.78.0.254', client: '10.79.0.254' }
const RELAYED = { server: '10.78.0.1', client: '10.79.0.1' }
const FIRST_PORT = 4800

/**
 * Three network namespaces: a server, a client, and a relay between them. They have no names: each belongs to a process
 * that ends with this one, and the kernel removes what nobody is in.
 */
export class Network {
  readonly #holders = new Map<Place, ChildProcess>()
  readonly #programs: Program[] = []
  #isInUserNamespace = false
  #relay: Program | null = null
  #lines = 0

  static async create(): Promise<Network> {
    const network = new Network()
    try {
      await network.#open()
      return network
    } catch (error) {
      await network.close()
      throw error
    }
  }

  /** Starts a program in one of the namespaces. */
  start(program: string, place: Place): Program {
    const started = startProgram(program, this.#enter(place))
    this.#programs.push(started)
    return started
  }

  /** Joins client and server by a cable. */
  addCable(): Line {
    const line = this.#nextLine()
    const { device } = line
    this.#joinByCable('client', 'server', device, [line.clientAddress, line.serverAddress])
    return line
  }

  /** Joins them by a tunnel through the relay, which does to packets what it is told. */
  async addTunnel(impairment: Impairment = FLAWLESS): Promise<Line> {
    const line = this.#nextLine()
    await this.#startedRelay().call('relay', line.port, RELAYED, impairment)
    for (const place of ['server', 'client'] as const) {
      const tunnel = `type vxlan id ${line.port} dstport ${line.port}`
      // A packet for each segment: the relay sees what a network would.
      this.ip(
        place,
        `link add ${line.device} gso_max_segs 1 ${tunnel} local ${RELAYED[place]} remote ${RELAY[place]}`,
      )
      this.ip(place, `address add ${line[`${place}Address`]}/24 dev ${line.device}`)
      this.ip(place, `link set ${line.device} up`)
    }
    return line
  }

  async impair(line: Line, impairment: Impairment): Promise<void> {
    await this.#startedRelay().call('impair', line.port, impairment)
  }

  /** Runs `ip` in a namespace. */
  ip(place: Place, words: string): void {
    this.#run(place, inject('ipPath'), words)
  }

  /** Runs `tc` in a namespace. */
  tc(place: Place, words: string): void {
    this.#run(place, inject('tcPath'), words)
  }

  async close(): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.kill()))
    for (const holder of this.#holders.values()) {
      if (holder.exitCode !== null) continue
      holder.kill('SIGKILL')
      await once(holder, 'exit')
    }
  }

  async #open(): Promise<void> {
    const refusals: string[] = []
    for (const words of [[], ['--user', '--map-root-user']]) {
      const refusal = await this.#hold('server', ['unshare', ...words, '--net'])
      this.#isInUserNamespace = words.length > 0
      if (refusal === null) break
      refusals.push(refusal)
    }
    if (!this.#holders.has('server')) {
      throw new Error(
        [
          'The network faults need network namespaces, and this user may make none:',
          ...refusals.map((refusal) => `  ${refusal}`),
          'They take `unshare` and `nsenter` of util-linux. Run the tests as root, allow user namespaces (sysctl user.max_user_namespaces,',
          'kernel.apparmor_restrict_unprivileged_userns=0), or give the container CAP_SYS_ADMIN and CAP_NET_ADMIN.',
        ].join('\n'),
      )
    }
    for (const place of ['between', 'client'] as const) {
      const refusal = await this.#hold(place, [...this.#enterUser(), 'unshare', '--net'])
      if (refusal !== null) throw new Error(refusal)
    }
    this.#joinByCable('server', 'between', 'relay', [RELAYED.server, RELAY.server])
    this.#joinByCable('client', 'between', 'relayed', [RELAYED.client, RELAY.client])
  }

  /** Starts a process that does nothing in a namespace of its own. Returns what was wrong, if it did not start. */
  async #hold(place: Place, [command = '', ...words]: string[]): Promise<string | null> {
    const holder = spawn(command, [...words, 'cat'], { stdio: ['pipe', 'pipe', 'pipe'] })
    let complaint = ''
    holder.stderr.setEncoding('utf8').on('data', (text: string) => {
      complaint += text
    })
    holder.stdin.on('error', () => {})
    holder.stdin.write('?')
    const isStarted = await new Promise<boolean>((resolve) => {
      holder.stdout.once('data', () => resolve(true))
      holder.once('error', (error) => {
        complaint += error.message
        resolve(false)
      })
      holder.once('close', () => resolve(false))
    })
    if (!isStarted) return `'${[command, ...words].join(' ')}' says: ${complaint.trim()}`
    this.#holders.set(place, holder)
    return null
  }

  #joinByCable(one: Place, other: Place, device: string, [address, otherAddress]: [string, string]): void {
    const there = `${device} netns ${this.#pidOf(other)}`
    this.ip(one, `link add ${device} type veth peer name ${there}`)
    for (const [place, own] of [
      [one, address],
      [other, otherAddress],
    ] as const) {
      this.ip(place, `address add ${own}/24 dev ${device}`)
      this.ip(place, `link set ${device} up`)
    }
  }

  #nextLine(): Line {
    this.#lines += 1
    return {
      serverAddress: `10.77.${this.#lines}.1`,
      clientAddress: `10.77.${this.#lines}.2`,
      device: `line${this.#lines}`,
      port: FIRST_PORT + this.#lines,
    }
  }

  #startedRelay(): Program {
    this.#relay ??= this.start('relay', 'between')
    return this.#relay
  }

  #pidOf(place: Place): number {
    return this.#holders.get(place)?.pid ?? 0
  }

  #enterUser(): string[] {
    if (!this.#isInUserNamespace) return []
    return ['nsenter', '--target', `${this.#pidOf('server')}`, '--user', '--preserve-credentials']
  }

  #enter(place: Place): string[] {
    const user = this.#isInUserNamespace ? ['--user', '--preserve-credentials'] : []
    return ['nsenter', '--target', `${this.#pidOf(place)}`, ...user, '--net']
  }

  #run(place: Place, program: string, words: string): void {
    const [command = '', ...before] = this.#enter(place)
    const { status, stderr, error } = spawnSync(command, [...before, program, ...words.split(' ')], {
      encoding: 'utf8',
    })
    if (status === 0) return
    throw new Error(`'${program} ${words}' failed: ${error?.message ?? stderr.trim()}`)
  }
}
