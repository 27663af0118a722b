// What a gateway between the lab's hosts may be asked for, and what it is while it runs.

export const DISPATCHES = ['kernel', 'thread'] as const
export type Dispatch = (typeof DISPATCHES)[number]

export const GATEWAYS = ['natloom', 'kernel'] as const
export type GatewayKind = (typeof GATEWAYS)[number]

export interface Gateway {
  readonly kind: GatewayKind
  /** The unix socket of its API; undefined for a gateway that has none. */
  readonly apiSocket?: string
  /** Ends it. Resolves with what was wrong about its end, in words; nothing if it ended as it should. */
  stop(): Promise<string[]>
  /** The newest text of its metrics; undefined for a gateway that has none. */
  metrics(): string | undefined
  /** The text of its metrics as they are from now on. */
  metricsFromNow(): Promise<string | undefined>
  /** Rejects when the gateway ends by itself. */
  readonly failed: Promise<never>
}

export const HELPERS = {
  ftp: { protocol: 'tcp', port: 21 },
  irc: { protocol: 'tcp', port: 6667 },
  tftp: { protocol: 'udp', port: 69 },
} as const
export type HelperName = keyof typeof HELPERS

export interface Forward {
  readonly protocol: 'tcp' | 'udp'
  readonly port: number
  /** An address inside; the port is the same there. */
  readonly to: string
}

export interface GatewayOptions {
  readonly kind: GatewayKind
  /** Where natloom keeps what it would have to take back after a crash: not where this machine's own gateway does. */
  readonly stateFile: string
  /** Shards of natloom's; undefined: its own default. */
  readonly workers?: number | undefined
  /** By whom a packet gets to its shard; undefined: natloom's default. */
  readonly dispatch?: Dispatch | undefined
  /** Protocols that are followed, by the names of natloom's helpers; the kernel's have the same. */
  readonly helpers?: readonly HelperName[] | undefined
  /** Servers inside that are reached from outside by the gateway's own address. */
  readonly forwards?: readonly Forward[] | undefined
  /** Whether its metrics are read again and again while it runs. */
  readonly watched: boolean
}
