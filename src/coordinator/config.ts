// What a gateway is told at its start: plain data, checked and complete. control/ makes it from natloom.yaml and the
// environment (control/schema.ts names each key, its default and what is allowed); the coordinator takes it as it is
// and hands each shard the numbers that it needs. Durations are whole seconds, addresses and interfaces are text.

import type { HelperRequest } from './helpers/helper-manager.ts'
import type { ForwardConfig } from './port-forwards.ts'

/** RFC 4787 sections 4.1 and 5: how much of the remote endpoint a mapping, or the filter before it, depends on. */
export type Dependence = 'endpoint-independent' | 'address-dependent' | 'address-and-port-dependent'

/** The states of netfilter's TCP table. */
type TcpState =
  | 'SYN_SENT'
  | 'SYN_RECV'
  | 'ESTABLISHED'
  | 'FIN_WAIT'
  | 'CLOSE_WAIT'
  | 'LAST_ACK'
  | 'TIME_WAIT'
  | 'CLOSE'
  | 'SYN_SENT2'

/** How long a connection lives without traffic; what conntrack/timeouts.ts takes. */
export interface Timeouts {
  readonly tcp: Readonly<Record<TcpState, number>> & { readonly NONE: 0 }
  /** Before there was traffic both ways. */
  readonly udpUnreplied: number
  /** After it. */
  readonly udpStream: number
  /** To port 53, whatever was seen (RFC 4787 REQ-5a). */
  readonly udpDns: number
  readonly icmp: number
  /** Protocols without ports, GRE apart. */
  readonly generic: number
  readonly greUnreplied: number
  readonly greStream: number
  /** The record that remembers where a fragmented packet's later fragments go. */
  readonly fragment: number
}

export interface GatewayConfig {
  /** Interface names, at least one each, none on both sides. Ports 0..P-1 are `inside` and then `outside`, in order. */
  readonly inside: readonly string[]
  readonly outside: readonly string[]
  /** Shards, and so threads. */
  readonly workers: number
  readonly dispatch: 'kernel' | 'thread'
  readonly supervision: {
    /** Threads replaced at most in that time, all together; one more, and the gateway ends. */
    readonly restarts: number
    readonly withinSeconds: number
  }
  readonly io: {
    readonly driver: 'af-packet'
    /** Receive memory of one interface, divided among the shards. */
    readonly ringMegabytes: number
    readonly qdisc: 'auto' | 'honour' | 'bypass'
  }
  readonly nat: {
    /**
     * `203.0.113.1`, `203.0.113.1-203.0.113.9` or `203.0.113.0/28` (a prefix stands for all of its addresses);
     * coordinator/address-range.ts reads them. Empty: the outside interface's own address, shared with the host.
     */
    readonly pool: readonly string[]
    /** Ports in a block: a power of two. */
    readonly blockSize: number
    /** The ports that NAT takes of an address shared with the host, both included; blocks cut by an end are not used. */
    readonly ports: { readonly from: number; readonly to: number }
    readonly mapping: Dependence
    readonly filtering: Dependence
    readonly preservePorts: boolean
    readonly parity: boolean
    /** Numbers of the protocols without ports that are translated; never 1, 6 or 17. */
    readonly protocols: readonly number[]
    /** False: a replay only tracks. No key of the configuration says it. */
    readonly translate?: boolean
    /** The kernel masquerades on an outside interface too, to ports outside of `ports`: the operator says so. */
    readonly sharedWithKernelNat: boolean
  }
  /** No two have the same external endpoint; coordinator/port-forwards.ts reads them. */
  readonly forward: readonly ForwardConfig[]
  /** Loaded at the start, in this order. */
  readonly helpers: readonly HelperRequest[]
  readonly timeouts: Timeouts
  readonly capacity: {
    /** Rows for connections, all shards together. */
    readonly connections: number
    /** Expectations at a time, of all shards: 1 to 16384. */
    readonly expectations: number
  }
  readonly icmp: {
    /** ICMP errors that the gateway sends itself, all shards together. 0: none. */
    readonly errorsPerSecond: number
  }
  readonly api: {
    /** Absolute path of the unix socket. */
    readonly socket: string
  }
  readonly metrics: {
    /** `address:port`; metrics/listen.ts reads it. */
    readonly listen: string
  }
  readonly log: {
    readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent'
    /** `auto`: text where standard error is a terminal, JSON elsewhere. */
    readonly format: 'auto' | 'json' | 'text'
  }
  /** Where the next start finds what a killed gateway could not take back. */
  readonly statePath: string
  /**
   * What the lab and tests do to packets on their way (io/faulty.ts has the words). By the variable NATLOOM_LAB_FAULTS;
   * no key of the configuration says it.
   */
  readonly labFaults?: string | undefined
}
