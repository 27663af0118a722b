// What traffic programs and the lab tell each other. A traffic program is a process inside one of the lab's hosts; it
// gets its options as JSON in its first argument and reports by messages over the channel that Node gives a child.
// Owner of a tally: the program that counts it; the lab gets copies.

import { createCipheriv } from 'node:crypto'
import type { Socket } from 'node:net'

export interface Tally {
  /** What the program means to send, in the unit of its load: downloads, datagrams, connections, probes. */
  readonly planned: number
  sent: number
  /** Came, complete and right. */
  arrived: number
  /** Came, but not as it should have. */
  wrong: number
  /** Datagrams that did not come back, whoever lost them: hosts may (host-losses.ts), the gateway may not. */
  lost: number
  /** Of payload that arrived. */
  bytes: number
  /** What went wrong, in words; the first few. */
  readonly problems: string[]
}

export type Report =
  | { readonly kind: 'ready' }
  /** A server was talked to from an address that it had not seen before. */
  | { readonly kind: 'source'; readonly address: string }
  | { readonly kind: 'progress'; readonly tally: Tally }
  /** All that were answered, before the program has finished. */
  | { readonly kind: 'flows'; readonly flows: readonly Flow[] }
  | { readonly kind: 'finished'; readonly tally: Tally }

/** What the gateway must have a connection of: seen from inside, as it was sent. */
export interface Flow {
  readonly protocol: typeof TCP | typeof UDP
  readonly source: string
  readonly sourcePort: number
  readonly destination: string
  readonly destinationPort: number
}

export const TCP = 6
export const UDP = 17

/** The outside host's services. */
export const HTTP_PORT = 80
export const ECHO_PORT = 7
/**
 * The UDP echo service's ports: a socket a load, because what all loads have under way at a time may be more than one
 * socket's receive buffer holds (seen: a few datagrams of ten thousand lost there).
 */
export const UDP_ECHO_PORTS = [ECHO_PORT, 1007, 2007] as const
/** Tells who asks which endpoint it is seen at, as STUN does there. */
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

/** Nothing wrong, nothing left undone; of what was lost the hosts' own counters decide. */
export const isRight = (tally: Tally): boolean =>
  tally.arrived + tally.lost === tally.planned && tally.wrong === 0 && tally.problems.length === 0

/** The bytes of a download or a datagram: the same for everyone who knows its number, and like no other's. */
export function content(number: number, length: number): Buffer {
  const key = Buffer.alloc(16)
  key.writeUInt32BE(number)
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length))
}

// --- in a traffic program ---

export const options = <T>(): T => JSON.parse(process.argv[2] ?? 'null')

const flows: Flow[] = []

/** This flow has carried packets both ways. */
export const answered = (flow: Flow): void => void flows.push(flow)

export const report = (message: Report): void => void process.send?.(message)

/** Counts as the program works, shows how far it is, and ends the process when all is done. */
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

/** An open connection's. */
export const flowOf = ({ localAddress, localPort, remoteAddress, remotePort }: Socket): Flow => ({
  protocol: TCP,
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
