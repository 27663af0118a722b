// Many connections of one helped port through a gateway, of several hosts, each in the state that a test wants, and
// what they take of this process's memory.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { FrameSpec } from '../../../src/testing/builder.ts'
import { Gateway, type GatewayOptions } from '../gateway.ts'
import { EXTERNAL, HOST, LAN, SERVER, WAN } from '../network.ts'
import { tcpSegment } from '../packets.ts'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

const FIRST_PORT = 1024
const HOSTS = [HOST, '10.0.0.6', '10.0.0.7', '10.0.0.8', '10.0.0.10']
export const OF_EACH_HOST = 4096
const BURST = 64
const CLIENT_ISN = 1000
const SERVER_ISN = 7000

const NO_OPTIONS = new Uint8Array(0)
/** Options of a SYN: windows count 2^14 times (RFC 7323). */
export const LARGEST_WINDOWS = Uint8Array.of(3, 3, 14, 1)

export interface Memory {
  readonly heap: number
  /** Outside of the heap: typed arrays. */
  readonly arrays: number
}

/** What is in use once everything that nobody names any more is gone. */
export function memoryInUse(): Memory {
  collect()
  collect()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return { heap: heapUsed, arrays: arrayBuffers }
}

export const since = (before: Memory): Memory => {
  const { heap, arrays } = memoryInUse()
  return { heap: heap - before.heap, arrays: arrays - before.arrays }
}

/** Connections by number, each from a port of its own, which it keeps outside. There may be 5 times 4096. */
export class Crowd {
  readonly gateway: Gateway
  readonly #port: number

  static async begin(options: GatewayOptions, port = 21): Promise<Crowd> {
    const nat = { preservePorts: true, ...options.nat }
    return new Crowd(await Gateway.start({ ports: [FIRST_PORT, 65535], ...options, nat }), port)
  }

  constructor(gateway: Gateway, port: number) {
    this.gateway = gateway
    this.#port = port
  }

  /** Another port of the server. */
  at(port: number): Crowd {
    return new Crowd(this.gateway, port)
  }

  /** From a client, `from` bytes behind its SYN. */
  client(i: number, from: number, payload: string | Uint8Array, more: Partial<FrameSpec> & { flags?: string } = {}) {
    const { flags = 'PA', ...rest } = more
    const numbers = { seq: CLIENT_ISN + 1 + from, ack: SERVER_ISN + 1 }
    return tcpSegment(clientOf(i), this.#server, flags, { ...rest, tcp: numbers, payload: bytesOf(payload) })
  }

  server(i: number, from: number, payload: string | Uint8Array, more: Partial<FrameSpec> & { flags?: string } = {}) {
    const { flags = 'PA', ...rest } = more
    const numbers = { seq: SERVER_ISN + 1 + from, ack: CLIENT_ISN + 1 }
    return tcpSegment(this.#server, externalOf(i), flags, { ...rest, tcp: numbers, payload: bytesOf(payload) })
  }

  get #server(): string {
    return `${SERVER}:${this.#port}`
  }

  syns(first: number, count: number, options = NO_OPTIONS): void {
    const syn = { seq: CLIENT_ISN, options }
    this.each(first, count, LAN, (i) => tcpSegment(clientOf(i), this.#server, 'S', { tcp: syn }))
  }

  /** Whole handshakes. */
  open(first: number, count: number, options = NO_OPTIONS): void {
    this.syns(first, count, options)
    const answer = { seq: SERVER_ISN, ack: CLIENT_ISN + 1, options }
    this.each(first, count, WAN, (i) => tcpSegment(this.#server, externalOf(i), 'SA', { tcp: answer }))
    this.each(first, count, LAN, (i) => this.client(i, 0, '', { flags: 'A' }))
  }

  /** A packet of each of these connections by this port, in bursts. What leaves is thrown away. */
  each(first: number, count: number, port: number, packet: (i: number) => FrameSpec): void {
    for (let from = first; from < first + count; from += BURST) {
      const burst = Math.min(BURST, first + count - from)
      this.gateway.burst(
        port,
        Array.from({ length: burst }, (_, i) => packet(from + i)),
      )
      this.discard()
    }
  }

  discard(): void {
    this.gateway.toLan()
    this.gateway.toWan()
  }
}

/** So many from each host. */
const clientOf = (i: number): string => `${HOSTS[Math.floor(i / OF_EACH_HOST)]}:${FIRST_PORT + i}`
const externalOf = (i: number): string => `${EXTERNAL}:${FIRST_PORT + i}`
const bytesOf = (payload: string | Uint8Array): Uint8Array =>
  typeof payload === 'string' ? Uint8Array.from(Buffer.from(payload, 'latin1')) : payload
