// A connection's story in short: who sends which segment, packets in and packets out through a whole gateway.

import type { TcpSpec } from '../../src/testing/builder.ts'
import { Gateway, type GatewayOptions } from '../datapath/gateway.ts'
import { HOST, SERVER } from '../datapath/network.ts'
import { fromOf, tcpSegment } from '../datapath/packets.ts'
import { type Connection, connectionsOf } from '../datapath/tables.ts'

export const CLIENT = `${HOST}:5000`
export const PEER = `${SERVER}:80`

/** The one connection that there is. */
export function onlyOne(gateway: Gateway): Connection {
  const all = connectionsOf(gateway.tables)
  if (all.length !== 1) throw new Error(`${all.length} connections, not one`)
  return all[0]!
}

/** TCP between an inside client and an outside server, the client's SYN sent. */
export class ScriptedConnection {
  readonly gateway: Gateway
  readonly external: string

  static async begin(options: GatewayOptions = {}, syn: Partial<TcpSpec> = {}): Promise<ScriptedConnection> {
    const gateway = await Gateway.start(options)
    return new ScriptedConnection(gateway, fromOf(gateway.inside(tcpSegment(CLIENT, PEER, 'S', { tcp: syn }))[0]!))
  }

  private constructor(gateway: Gateway, external: string) {
    this.gateway = gateway
    this.external = external
  }

  /** 'c SA': the client sends a SYN/ACK; 's A': the server an ACK. True if it arrived at the other end. */
  say(segment: string): boolean {
    const [who, flags] = segment.split(' ') as [string, string]
    const sent =
      who === 'c'
        ? this.gateway.inside(tcpSegment(CLIENT, PEER, flags))
        : this.gateway.outside(tcpSegment(PEER, this.external, flags))
    return sent.length > 0
  }

  /** All of them, with a space and a comma between. */
  sayAll(segments: string): this {
    for (const segment of segments.split(', ').filter(Boolean))
      if (!this.say(segment)) throw new Error(`${segment} was dropped: ${JSON.stringify(this.gateway.drops())}`)
    return this
  }

  get connection(): Connection {
    return onlyOne(this.gateway)
  }

  get state(): string {
    return this.connection.state
  }
}
