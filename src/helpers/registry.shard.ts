// Which helpers there are, and which of them reads a connection (nf_conntrack_helper.c: register, unregister, find).
// A helper is found by the tuple as the server sees it, so that one behind a port forward is known by its own port.
//
// Most connections have no helper: whether any is bound to the server's port is one load, and only then bindings are
// compared. Owner: this thread; every shard has the same, by the same numbers (the coordinator gives them).

import { dstPortIn, portsOf, portsWord } from '../conntrack/terms.ts'
import type { HelperId } from '../memory/brand.ts'
import type { Addr, Port, PortHost, Ports, ProtocolNumber } from '../wire/address.ts'
import { htons, parseAddress } from '../wire/address.ts'
import { PROTO_TCP, PROTO_UDP } from '../wire/ipv4.ts'
import { type Binding, classesOf, helperFault, MOST_HELPERS, type OnHelperFailure } from './declaration.ts'
import type { ExpectClass, Helper } from './helper.ts'

export interface Registered {
  /** 1 to 255, the same in every shard for as long as the gateway runs. */
  readonly id: HelperId
  readonly helper: Helper
  readonly classes: readonly ExpectClass[]
  /** What becomes of an announcement that it can't rewrite. */
  readonly onFailure: OnHelperFailure
}

export interface RegisterOptions {
  readonly id?: HelperId
  readonly bindings?: readonly Binding[]
  readonly onFailure?: OnHelperFailure
}

/** A binding in words as loaded from a packet. */
interface Bound {
  readonly id: HelperId
  readonly protocol: ProtocolNumber
  readonly src: Addr
  readonly srcMask: number
  readonly dst: Addr
  readonly dstMask: number
  readonly ports: Ports
  readonly portsMask: number
}

const registered = new Map<number, Registered>()
/** Those of unavailable helpers behind the others. */
let bindings: Bound[] = []
/** Numbers of helpers that should read connections, and can't. */
let unavailable: ReadonlySet<number> = new Set()
/** By protocol (0 TCP, 1 UDP) and server port as loaded: 1 if a binding may match. */
const candidates = [new Uint8Array(65536), new Uint8Array(65536)] as const

/**
 * The helper reads connections that begin from now on, where a binding matches: its own tuple, unless others are given.
 * Returns its number, the lowest free one if none is given. Throws an Error that says what is wrong with it.
 */
export function registerHelper(
  helper: Helper,
  { id = lowestFree(), bindings: wanted, onFailure = 'reset' }: RegisterOptions = {},
): HelperId {
  const fault = helperFault(helper)
  if (fault !== undefined) throw new Error(fault)
  if (id < 1 || id > MOST_HELPERS) throw new Error(`at most ${MOST_HELPERS} helpers`)
  if (registered.has(id)) throw new Error(`there is a helper of number ${id} already`)
  if (helperByName(helper.name)) throw new Error(`there is a helper named ${helper.name} already`)
  const bounds = (wanted ?? [{ tuple: helper.tuple, mask: helper.mask }]).map((binding) => bound(id, binding))
  registered.set(id, { id, helper, classes: classesOf(helper), onFailure })
  bindings = [...available(), ...bounds, ...bindings.filter((each) => unavailable.has(each.id))]
  noteCandidates()
  return id
}

const available = (): Bound[] => bindings.filter((each) => !unavailable.has(each.id))

/**
 * These helpers, and no others, should read connections and can't, because they failed or could not be imported: such a
 * connection is found by findHelper() unless another helper reads it, and helperById() doesn't know its helper.
 */
export function noteUnavailable(
  helpers: readonly { readonly id: number; readonly bindings: readonly Binding[] }[],
): void {
  if (helpers.length === 0 && unavailable.size === 0) return
  const others = available()
  unavailable = new Set(helpers.map(({ id }) => id))
  bindings = [...others, ...helpers.flatMap(({ id, bindings: own }) => own.map((binding) => bound(id, binding)))]
  noteCandidates()
}

export const isUnavailable = (id: HelperId): boolean => unavailable.has(id)

/**
 * The helper reads no connection that begins from now on. What becomes of the connections that it reads is said by
 * detachHelper() (datapath/helped/helped-connections.ts).
 */
export function unregisterHelper(id: HelperId): boolean {
  bindings = bindings.filter((bound) => bound.id !== id)
  noteCandidates()
  return registered.delete(id)
}

function lowestFree(): HelperId {
  let id = 1
  while (registered.has(id)) id++
  return id
}

export const helperById = (id: HelperId): Registered | undefined => registered.get(id)

export function helperByName(name: string): Registered | undefined {
  for (const each of registered.values()) if (each.helper.name === name) return each
  return undefined
}

export const registeredHelpers = (): readonly Registered[] => [...registered.values()]

function bound(id: HelperId, { tuple, mask = {} }: Binding): Bound {
  const address = (text: string | undefined): Addr => (text === undefined ? 0 : parseAddress(text))
  const addressMask = (text: string | undefined, netmask: string | undefined): number =>
    text === undefined ? 0 : netmask === undefined ? -1 : parseAddress(netmask)
  const portMask = (port: PortHost | undefined, bits: PortHost | undefined): Port =>
    port === undefined ? 0 : htons(bits ?? 0xffff)
  const srcMask = addressMask(tuple.srcAddress, mask.srcAddress)
  const dstMask = addressMask(tuple.dstAddress, mask.dstAddress)
  const portsMask = portsOf(portMask(tuple.srcPort, mask.srcPort), portMask(tuple.dstPort, mask.dstPort))
  return {
    id,
    protocol: tuple.proto === 'tcp' ? PROTO_TCP : PROTO_UDP,
    src: address(tuple.srcAddress) & srcMask,
    srcMask,
    dst: address(tuple.dstAddress) & dstMask,
    dstMask,
    ports: portsWord(tuple.srcPort ?? 0, tuple.dstPort ?? 0) & portsMask,
    portsMask,
  }
}

function noteCandidates(): void {
  for (const [list, protocol] of [[candidates[0], PROTO_TCP] as const, [candidates[1], PROTO_UDP] as const]) {
    list.fill(0)
    for (const each of bindings) {
      if (each.protocol !== protocol) continue
      const mask = each.portsMask >>> 16
      for (let port = 0; port < 65536; port++) if ((port & mask) === each.ports >>> 16) list[port] = 1
    }
  }
}

/** The number of the helper that reads, or should read, a connection with this tuple, as its server sees it; or 0. */
export function findHelper(protocol: ProtocolNumber, src: Addr, dst: Addr, ports: Ports): HelperId {
  if (protocol !== PROTO_TCP && protocol !== PROTO_UDP) return 0
  if (candidates[protocol === PROTO_TCP ? 0 : 1][dstPortIn(ports)] === 0) return 0
  for (const each of bindings)
    if (
      each.protocol === protocol &&
      ((src ^ each.src) & each.srcMask) === 0 &&
      ((dst ^ each.dst) & each.dstMask) === 0 &&
      ((ports ^ each.ports) & each.portsMask) === 0
    )
      return each.id
  return 0
}
