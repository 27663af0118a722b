// natloom as a gateway under the same frames: one shard in this process (datapath/gateway.ts), told to translate as the
// kernel's masquerade does, which keeps source ports and lets in only who was sent to.

import { BUILTIN } from '../../src/helpers/builtin.ts'
import { parseAddress } from '../../src/wire/address.ts'
import { PROTO_TCP } from '../../src/wire/ipv4.ts'
import { type GatewayOptions, Gateway as ShardGateway } from '../datapath/gateway.ts'
import { HOST } from '../datapath/network.ts'
import { type Connection, connectionsOf } from '../datapath/tables.ts'
import { ANNOUNCED, FIRST_PORT, FORWARDED_PORT, frameOf, MOST_AT_ONCE } from './frames.ts'
import type { Gateway, Observation, Tracked } from './observation.ts'
import { type Sequence, sideOf } from './script.ts'

/** After so many seconds no connection is left, whatever its state. */
const FORGOTTEN_AFTER = 10_000

export class NatloomGateway implements Gateway {
  readonly #gateway: ShardGateway

  static async start(options: GatewayOptions = {}): Promise<NatloomGateway> {
    const gateway = await ShardGateway.start({
      connections: MOST_AT_ONCE,
      ports: [FIRST_PORT, ANNOUNCED.last],
      forwards: [
        {
          protocol: PROTO_TCP,
          address: null,
          port: FORWARDED_PORT,
          toAddress: parseAddress(HOST),
          toPort: FORWARDED_PORT,
        },
      ],
      nat: { preservePorts: true, parity: false, filtering: 'address-and-port-dependent' },
      ...options,
    })
    gateway.verifiesTransport = false
    const ftp = BUILTIN.ftp!()
    await gateway.help(ftp, [{ tuple: ftp.tuple }])
    return new NatloomGateway(gateway)
  }

  private constructor(gateway: ShardGateway) {
    this.#gateway = gateway
  }

  run(sequences: readonly Sequence[]): Observation[][] {
    this.#gateway.pass(FORGOTTEN_AFTER)
    // What helpers held was given up meanwhile.
    this.#gateway.toLan()
    this.#gateway.toWan()
    const left = connectionsOf(this.#gateway.tables).length
    if (left > 0) throw new Error(`${left} connections of earlier sequences are still there`)
    const seen: Observation[][] = sequences.map(() => [])
    const longest = Math.max(...sequences.map(({ segments }) => segments.length))
    for (let step = 0; step < longest; step++) {
      const slots = sequences.flatMap(({ segments }, slot) => (step < segments.length ? [slot] : []))
      const results = slots.map((slot) => ({ slot, ...this.#send(sequences[slot]!, slot, step) }))
      const connections = new Map(connectionsOf(this.#gateway.tables).map((row) => [slotOf(row), row]))
      for (const { slot, arrived, answers } of results) {
        const row = connections.get(slot)
        seen[slot]!.push({ arrived, answers, tracked: row && trackedOf(row), counted: undefined })
      }
    }
    return seen
  }

  #send(sequence: Sequence, slot: number, step: number): Pick<Observation, 'arrived' | 'answers'> {
    const segment = sequence.segments[step]!
    const frame = frameOf(sequence, segment, slot, step)
    const fromInside = sideOf(sequence, segment.end) === 'inside'
    const passed = fromInside ? this.#gateway.inside(frame) : this.#gateway.outside(frame)
    const answers = fromInside ? this.#gateway.toLan() : this.#gateway.toWan()
    return { arrived: passed, answers: answers.length }
  }
}

const portsOf = ({ original }: Connection): number[] =>
  [...original.matchAll(/:(\d+)/g)].map(([, port]) => Number(port))

const slotOf = (connection: Connection): number => portsOf(connection).find((port) => port >= FIRST_PORT)! - FIRST_PORT

const trackedOf = ({ state, origin, seenReply, assured }: Connection): Tracked => ({
  state,
  origin: origin === 0 ? 'inside' : 'outside',
  seenReply,
  assured,
})
