// Runs in an end host of the lab: sends prepared frames at a rate, one set again and again (flows that stand), another
// once (a flood, or its opening). What can't be sent in time because the machine has none is not made up for later.

import { answerRequests } from '../../src/lab/world/remote.ts'
import { HOST_INTERFACE, INSIDE_HOSTS } from '../../src/lab/world/topology.ts'
import { frame } from '../../src/testing/builder.ts'
import { atTheGateway, type FloodSide, floodNamed, frameOf, type Places } from '../../test/attack/floods.ts'
import { Frames, sendingSocket } from './frames.ts'

export interface Link {
  readonly src: string
  readonly dst: string
}

export interface FloodPlan {
  readonly name: string
  readonly packets: number
  /** Of both sides together, a second. */
  readonly rate: number
  readonly side: FloodSide
  /** Whether it goes to a closed port of the gateway's own. */
  readonly isControl: boolean
  readonly places: Places
  readonly link: Link
}

export interface FlowPlan {
  readonly flows: number
  readonly rate: number
  readonly server: string
  readonly port: number
  readonly link: Link
}

export interface Sent {
  readonly packets: number
  readonly seconds: number
}

/** Hosts that the flows are of, not the first of them. */
export const FLOW_HOSTS = INSIDE_HOSTS.slice(1, 3)
export const FIRST_FLOW_PORT = 20_000

const TICK_MS = 1
/** More than so many milliseconds late, and what was due is left out. */
const MOST_LATE_MS = 50
const FLOW_PAYLOAD = 64

const fd = sendingSocket(HOST_INTERFACE)

/** Frames and when each is due, in milliseconds after the begin. */
class Paced {
  readonly #frames: Frames
  readonly #due: (i: number) => number
  readonly #isForEver: boolean
  readonly #began = performance.now()
  #next = 0
  packets = 0

  constructor(frames: Frames, due: (i: number) => number, isForEver: boolean) {
    this.#frames = frames
    this.#due = due
    this.#isForEver = isForEver
  }

  /** Sends what is due; false when nothing is left. */
  tick(): boolean {
    const now = performance.now() - this.#began
    const first = this.#next
    while ((this.#isForEver || this.#next < this.#frames.count) && this.#due(this.#next) <= now) this.#next++
    let at = first
    while (at < this.#next && this.#due(at) < now - MOST_LATE_MS) at++
    while (at < this.#next) {
      const place = at % this.#frames.count
      const count = Math.min(this.#next - at, this.#frames.count - place)
      this.packets += this.#frames.send(fd, place, count)
      at += count
    }
    return this.#isForEver || this.#next < this.#frames.count
  }

  get seconds(): number {
    return (performance.now() - this.#began) / 1000
  }
}

let flows: Frames | undefined
let standing: Paced | undefined
let flood: { readonly frames: Frames; readonly due: (i: number) => number; readonly opening: readonly Frames[] }

const requests = {
  prepareFlows({ flows: count, server, port, link }: FlowPlan) {
    const frames = Array.from({ length: count }, (_, i) =>
      frame({
        eth: link,
        ip: { src: FLOW_HOSTS[i % FLOW_HOSTS.length]!, dst: server },
        udp: { sport: FIRST_FLOW_PORT + i, dport: port },
        payload: new Uint8Array(FLOW_PAYLOAD),
      }),
    )
    flows = new Frames(frames)
  },
  beginFlows(rate: number) {
    standing = new Paced(flows!, (i) => (i * 1000) / rate, true)
    const paced = standing
    const timer = setInterval(() => {
      if (standing === paced) paced.tick()
      else clearInterval(timer)
    }, TICK_MS)
  },
  /** How many packets of the flows have been sent so far. */
  flowPackets: (): number => standing?.packets ?? 0,
  endFlows() {
    standing = undefined
  },
  prepareFlood({ name, packets, rate, side, isControl, places, link }: FloodPlan) {
    const { opening, packet } = floodNamed(name)!
    const own: number[] = []
    const frames: Uint8Array[] = []
    for (let i = 0; i < packets; i++) {
      const made = packet(i, places)
      if (made.side !== side) continue
      own.push((i * 1000) / rate)
      frames.push(frameOf(isControl ? atTheGateway(made, places) : made, link))
    }
    const steps = isControl ? [] : opening(places)
    flood = {
      frames: new Frames(frames),
      due: (i) => own[i]!,
      opening: steps.map((step) => new Frames(step.filter((made) => made.side === side).map((p) => frameOf(p, link)))),
    }
    return steps.length
  },
  open(step: number) {
    const frames = flood.opening[step]!
    return frames.send(fd, 0, frames.count)
  },
  flood(): Promise<Sent> {
    const paced = new Paced(flood.frames, flood.due, false)
    return new Promise((resolve) => {
      const timer = setInterval(() => {
        if (paced.tick()) return
        clearInterval(timer)
        resolve({ packets: paced.packets, seconds: paced.seconds })
      }, TICK_MS)
    })
  },
}

export type SenderRequests = typeof requests

if (process.send) answerRequests(requests)
