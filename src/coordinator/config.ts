// A gateway's configuration: plain data, checked and complete. control/ makes it from natloom.yaml and the environment
// (control/schema has each key, its default and what is allowed); the coordinator takes it as it is and gives each
// shard the numbers that it needs (memory.ts). Durations are whole seconds, addresses and interfaces are text.

import type { LimitKey } from '../counters/host-limits.ts'
import type { OnHelperFailure } from '../helpers/declaration.ts'
import type { FilterRuleConfig } from './filter.ts'
import type { HelperRequest } from './helpers/helper-manager.ts'
import type { PortForwardConfig } from './port-forwards.ts'

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

/** How long a connection lives without traffic, as conntrack/timeouts.ts takes it. */
export interface Timeouts {
  readonly tcp: Readonly<Record<TcpState, number>> & { readonly NONE: 0 }
  /** At most, after TCP has repeated itself in vain or met a closed window, and while something is unacknowledged. */
  readonly tcpRetransmission: number
  readonly tcpUnacknowledged: number
  /** Both of an assured connection too. */
  readonly tcpShortensAssured: boolean
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
  /** The record of a fragmented packet, by which its later fragments are forwarded. */
  readonly fragment: number
}

/** The name of a gateway that was given none. */
export const DEFAULT_NAME = 'natloom'
/** Where a gateway keeps its files, unless the configuration says otherwise. */
const folderOf = (name: string): string => (name === DEFAULT_NAME ? '/run/natloom' : `/run/natloom/${name}`)
export const apiSocketOf = (name: string): string => `${folderOf(name)}/api.sock`
export const statePathOf = (name: string): string => `${folderOf(name)}/state.json`

/** What a host that the prefix contains may have; the first rule that contains it decides. */
export interface HostLimitsConfig extends Readonly<Partial<Record<LimitKey, number | undefined>>> {
  /** An address or a prefix; without it all. */
  readonly inside?: string | undefined
}

export interface GatewayConfig {
  /** Tells gateways of one host apart: the name of its nft tables, and of the folder of its files. */
  readonly name: string
  /** Interface names, at least one each, none on both sides. Ports 0..P-1 are `inside` and then `outside`, in order. */
  readonly inside: readonly string[]
  readonly outside: readonly string[]
  /** The number of shards, each a thread. */
  readonly workers: number
  readonly dispatch: 'kernel' | 'thread'
  readonly supervision: {
    /** How many failed threads are replaced within that time, all workers together. One more ends the gateway. */
    readonly restarts: number
    readonly withinSeconds: number
  }
  readonly io: {
    readonly driver: 'af-packet'
    /** Receive memory of each interface, divided among the shards. */
    readonly ringMegabytes: number
    readonly qdisc: 'auto' | 'honour' | 'bypass'
  }
  readonly nat: {
    /**
     * `203.0.113.1`, `203.0.113.1-203.0.113.9` or `203.0.113.0/28` (a prefix stands for all of its addresses);
     * address-range.ts parses them. Empty: the outside interface's own address, shared with the host.
     */
    readonly pool: readonly string[]
    /** The number of ports in a block: a power of two. */
    readonly blockSize: number
    /** NAT's ports on an address shared with the host, both ends included; a block that an end cuts is not used. */
    readonly ports: { readonly from: number; readonly to: number }
    readonly mapping: Dependence
    readonly filtering: Dependence
    readonly preservePorts: boolean
    readonly parity: boolean
    /** Protocols without ports that are translated, by number; never ICMP, TCP or UDP. */
    readonly protocols: readonly number[]
    /** False in a replay that only tracks. Not a key of natloom.yaml. */
    readonly translate?: boolean
    /** The operator's word that the kernel's own masquerading on an outside interface keeps out of `ports`. */
    readonly sharedWithKernelNat: boolean
  }
  /** Port forwards; no two have the same external endpoint. port-forwards.ts parses them. */
  readonly forward: readonly PortForwardConfig[]
  /** Which flows may be opened; the first rule that matches decides, what none matches is allowed. */
  readonly filter: readonly FilterRuleConfig[]
  /** How much an inside host may have; the first rule that contains it decides. */
  readonly limits: readonly HostLimitsConfig[]
  /** Helpers, in the order in which they are loaded at the start. */
  readonly helpers: readonly HelperRequest[]
  /** What becomes of an announcement that a helper can't rewrite, where the helper's own entry says nothing. */
  readonly onHelperFailure: OnHelperFailure
  readonly timeouts: Timeouts
  readonly tcp: {
    /** A segment in mid-stream from inside makes a connection. */
    readonly pickup: boolean
    /** Segments outside of the windows pass. */
    readonly liberal: boolean
    /** A SYN from outside that nobody has asked for is held, and answered by ICMP port unreachable. */
    readonly answerUnsolicited: boolean
  }
  readonly capacity: {
    /** Rows for connections, all shards together. */
    readonly connections: number
    /** Expectations in force at a time, all shards together: 1 to 16384. */
    readonly expectations: number
  }
  readonly icmp: {
    /** ICMP errors that the gateway itself sends at most, all shards together. 0: none. */
    readonly errorsPerSecond: number
  }
  readonly api: {
    /** Absolute path of the unix socket. */
    readonly socket: string
  }
  readonly metrics: {
    /** `address:port`; metrics/listen.ts parses it. */
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
   * Faults that the lab and tests inject into the packet sockets, in the words of io/fault-plan.ts. Set by the variable
   * NATLOOM_LAB_FAULTS; not a key of natloom.yaml.
   */
  readonly labFaults?: string | undefined
  /**
   * `pair` or `plain`: the nft tables are owned as on kernels before 6.9 or before 5.12 (host/rule-tables.ts). Set by
   * the variable NATLOOM_LAB_RULES; not a key of natloom.yaml.
   */
  readonly labRules?: string | undefined
}

export const HIGHEST_PORT = 65535

/** Whether NAT shares the outside interface's own address with the host, because there is no pool. */
export const sharesAddress = ({ nat }: Pick<GatewayConfig, 'nat'>): boolean => nat.pool.length === 0

/** The host's own ephemeral ports while the gateway runs; null if no address is shared: they stay what they are. */
export const hostPortRange = (config: Pick<GatewayConfig, 'nat'>): { from: number; to: number } | null =>
  sharesAddress(config) ? { from: config.nat.ports.to + 1, to: HIGHEST_PORT } : null

/** Why values, each of them allowed by itself, can't stand together. */
export interface ConfigFault {
  /** The key that is to be changed. */
  readonly path: readonly (string | number)[]
  readonly fault: string
  /** What to change, so that it can. */
  readonly remedy: string
}
