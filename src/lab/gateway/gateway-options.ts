// What the lab asks of the gateway between its hosts, and how it deals with it while it runs. Contract between the two
// kinds of gateway (gateway.ts, kernel-gateway.ts) and the lab, tests and benches.

export const DISPATCHES = ['kernel', 'thread'] as const
export type Dispatch = (typeof DISPATCHES)[number]

export const GATEWAYS = ['natloom', 'kernel'] as const
export type GatewayKind = (typeof GATEWAYS)[number]

export interface Gateway {
  readonly kind: GatewayKind
  /** The unix socket of its API; the kernel has none. */
  readonly apiSocket?: string
  /** Ends the gateway. Resolves with a line for each thing that was wrong about its end. */
  stop(): Promise<string[]>
  /** The newest text of its metrics; undefined for the kernel, which has none. */
  metrics(): string | undefined
  /** The text of its metrics, read after this call. */
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

/** A server inside that is reached from outside at the gateway's own address. */
export interface PortForward {
  readonly protocol: 'tcp' | 'udp'
  /** The same inside and outside. */
  readonly port: number
  /** The server's address inside. */
  readonly to: string
}

export interface GatewayOptions {
  readonly kind: GatewayKind
  /** natloom's state file: another one than that of a gateway that runs on this machine. */
  readonly stateFile: string
  /** How many shards natloom has; undefined: its default. */
  readonly workers?: number | undefined
  /** What takes a packet to its shard; undefined: natloom's default. */
  readonly dispatch?: Dispatch | undefined
  /** Helpers in force, by names that natloom and the kernel have in common. */
  readonly helpers?: readonly HelperName[] | undefined
  readonly portForwards?: readonly PortForward[] | undefined
  /** Whether its metrics are read again and again while it runs. */
  readonly watched: boolean
}
