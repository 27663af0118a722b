// What traffic programs and the lab tell each other. A traffic program is a process inside one of the lab's hosts. It
// gets its options as JSON in its first argument, and reports by messages over the channel that Node gives a child
// process. Owner of a tally: the program that counts; the lab gets copies.

import { createCipheriv } from 'node:crypto'
import type { Socket } from 'node:net'
import { PROTO_TCP, type PROTO_UDP } from '../../wire/ipv4.ts'

export interface Tally {
  /** What the program means to send, in the unit of its load: downloads, datagrams, connections, probes. */
  readonly planned: number
  sent: number
  /** How many came, complete and right. */
  arrived: number
  /** How many came, but not as they should. */
  wrong: number
  /** Datagrams that did not come back. The hosts may lose some themselves (world/host-losses.ts), the gateway none. */
  lost: number
  /** Bytes of payload that arrived. */
  bytes: number
  /** What went wrong, in words; only the first few. */
  readonly problems: string[]
}

export type Report =
  | { readonly kind: 'ready' }
  /** A server was talked to from an address that it had not seen before. */
  | { readonly kind: 'source'; readonly address: string }
  | { readonly kind: 'progress'; readonly tally: Tally }
  /** All flows that were answered; sent just before `finished`. */
  | { readonly kind: 'flows'; readonly flows: readonly Flow[] }
  | { readonly kind: 'finished'; readonly tally: Tally }

/** A flow that the gateway must have a connection of, as its packets left the host inside. */
export interface Flow {
  readonly protocol: typeof PROTO_TCP | typeof PROTO_UDP
  readonly source: string
  readonly sourcePort: number
  readonly destination: string
  readonly destinationPort: number
}

/** Ports of the outside host's services. */
export const HTTP_PORT = 80
export const ECHO_PORT = 7
/**
 * Ports of the UDP echo service, one for each load: all loads together may have more under way than the receive buffer
 * of one socket holds (a few datagrams of ten thousand were lost there).
 */
export const UDP_ECHO_PORTS = [ECHO_PORT, 1007, 2007] as const
/** The service that tells a client which endpoint it is seen at. The port is STUN's. */
export const ENDPOINT_PORT = 3478

const REPORT_EVERY_MS = 100
const PROBLEMS_KEPT = 5

export const newTally = (planned: number): Tally => ({
  planned,
  sent: 0,
  arrived: 0,
  wrong: 0,
  lost: 0,
  bytes: 0,
  problems: [],
})

export function problem(tally: Tally, text: string): void {
  if (tally.problems.length < PROBLEMS_KEPT) tally.problems.push(text)
}

/** Nothing is wrong or was left undone. What was lost is judged by the hosts' own counters. */
export const isRight = (tally: Tally): boolean =>
  tally.arrived + tally.lost === tally.planned && tally.wrong === 0 && tally.problems.length === 0

/** The bytes of a download or a datagram: both ends know them by its number, and no two numbers have the same. */
export function content(number: number, length: number): Buffer {
  const key = Buffer.alloc(16)
  key.writeUInt32BE(number)
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length))
}

// --- in a traffic program ---

export const options = <T>(): T => JSON.parse(process.argv[2] ?? 'null')

const flows: Flow[] = []

/** Notes that a flow has carried packets both ways. */
export const answered = (flow: Flow): void => void flows.push(flow)

export const report = (message: Report): void => void process.send?.(message)

/** Runs the program's work, reports its tally meanwhile and at the end, and ends the process. */
export async function counted(planned: number, work: (tally: Tally) => Promise<void>): Promise<void> {
  const tally = newTally(planned)
  const timer = setInterval(() => report({ kind: 'progress', tally }), REPORT_EVERY_MS)
  try {
    await work(tally)
  } catch (error) {
    problem(tally, error instanceof Error ? error.message : String(error))
  }
  clearInterval(timer)
  report({ kind: 'flows', flows })
  process.send?.({ kind: 'finished', tally } satisfies Report, () => process.exit(0))
}

/** The flow of an open connection. */
export const flowOf = ({ localAddress, localPort, remoteAddress, remotePort }: Socket): Flow => ({
  protocol: PROTO_TCP,
  source: localAddress as string,
  sourcePort: localPort as number,
  destination: remoteAddress as string,
  destinationPort: remotePort as number,
})

/** Runs job(0) .. job(count-1), at most `width` at a time. */
export async function inParallel(count: number, width: number, job: (number: number) => Promise<void>): Promise<void> {
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < count) await job(next++)
  }
  await Promise.all(Array.from({ length: Math.min(width, count) }, worker))
}
