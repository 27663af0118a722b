// Expectations as NAT makes and meets them (nf_nat_helper.c, nf_nat_ftp.c): which external endpoint an inside end's
// announcement becomes, and the connection that comes by it, translated as its master was.
//
// Of an inside end, the announced endpoint gets an external port: the one that it has already, by a mapping or by
// another expectation, else one that is reserved for it, in a block of the shard that owns that endpoint's flows. So
// the expected connection and its answers have one owner, whichever shard announces (ownership/ownership-rule.ts). Of
// an outside end, or where nothing is translated, the announced endpoint stays what it is: the expectation only
// relates.
//
// When the connection has come, the reservation turns into a mapping. Owner: the shard.

import { baseOf, EXPECTED } from '../conntrack/connection-table.ts'
import { cold, dstOf, generationOf, originOf, srcOf } from '../conntrack/connections.shard.ts'
import { flowNew } from '../conntrack/events.shard.ts'
import { claim, consume, putBack, reservedFor } from '../conntrack/expectation-matching.shard.ts'
import { expectCount, field, isPermanent } from '../conntrack/expectation-slots.shard.ts'
import { portReserved, type Reservation, reservationOf } from '../conntrack/expectation-table.ts'
import { expect, refuseExpectation } from '../conntrack/expectations.shard.ts'
import { mayTakePort } from '../conntrack/hosts.shard.ts'
import {
  findByExternal,
  findByInside,
  insertMapping,
  insideAddressOf,
  insidePortOf,
  mappings,
} from '../conntrack/mappings.shard.ts'
import type { Direction, KeyWord, Side } from '../conntrack/terms.ts'
import { INSIDE, keyWord, opposite, otherSide, portsOf, protocolIn, sideIn, srcPortIn } from '../conntrack/terms.ts'
import { CELL, protocolCell } from '../counters/counters.ts'
import { DROP } from '../counters/drop-reasons.ts'
import { counters } from '../counters/own-counters.shard.ts'
import type { Entry, Handle, HelperId, PortIndex, Row, Seconds, Shard } from '../memory/brand.ts'
import type { Addr, Port, Ports, ProtocolNumber } from '../wire/address.ts'
import { htons, ntohs } from '../wire/address.ts'
import { externalEntry } from './addresses.shard.ts'
import { isFree, makeConnection, makeRoomForRow, mayOpen } from './bindings.shard.ts'
import { askFor } from './block-requests.shard.ts'
import { reserveExisting } from './existing-mappings.shard.ts'
import { type Externals, entryOfPort, portOfIndex, spaceOf } from './externals.ts'
import { fault } from './fault-points.ts'
import { isDenied } from './filter.shard.ts'
import { openFromInside } from './opening.shard.ts'
import { forwardFrom } from './port-forwards.shard.ts'
import { takeReserved } from './ports.shard.ts'
import { refuse } from './refusal.ts'
import { reserveFor, reserveTaken, unreserveAt } from './reservations.ts'
import { DEFAULT_NAT, dependsOnAddress, type NatSettings } from './settings.ts'

let externals: Externals
let settings: NatSettings = DEFAULT_NAT
/** The shard that owns the flows of an inside endpoint. */
let ownerOf: (protocol: ProtocolNumber, address: Addr, port: Port) => Shard = () => 0

export function attachExpected(shared: Externals, wanted: NatSettings, ownerOfInside: typeof ownerOf): void {
  externals = shared
  settings = wanted
  ownerOf = ownerOfInside
}

// --- announcing ---

/** What a helper announces. */
export interface Announce {
  readonly protocol: ProtocolNumber
  readonly port: Port
  /** The announced address, where it is not the sender's own; else 0. */
  readonly address: Addr
  readonly fromAnyone: boolean
  /** 0 for any. */
  readonly fromPort: Port
  readonly flags: number
  readonly class: number
  readonly helper: HelperId
  readonly childHelper: HelperId
  readonly maxExpected: number
  readonly timeout: Seconds
}

/** Why announce() has made no expectation; read at once after it has returned handle 0. */
export type AnnounceFailure =
  /** The owner of the endpoint has no free port, and will be given some: to be announced again. */
  | 'port-pending'
  /** A sender inside has announced another host. */
  | 'not-allowed'
  /** For a reason that is counted (counters/expect-refusals.ts). */
  | 'refused'
export let announceFailure: AnnounceFailure = 'refused'

function fail(failure: AnnounceFailure): Handle {
  announceFailure = failure
  return 0
}

/**
 * The sender of packets in `direction` of a connection announces an endpoint. Returns the expectation's handle (what
 * the peer is to be told are its fields dst and dstPort); 0 if there is none (announceFailure).
 */
export function announce(row: Row, direction: Direction, wanted: Announce): Handle {
  const base = baseOf(row)
  const sender = srcOf(base, direction)
  const seenAs = dstOf(base, opposite(direction))
  const side = (originOf(row) ^ direction) as Side
  const isThirdParty = wanted.address !== 0 && wanted.address !== sender
  // What is behind the NAT is opened by its owner only.
  if (isThirdParty && side === INSIDE) return fail('not-allowed')
  const isTranslated = !isThirdParty && sender !== seenAs && side === INSIDE
  const dictated = isTranslated ? forwardFrom(wanted.protocol, sender, ntohs(wanted.port)) : undefined
  const needsPort = isTranslated && dictated === undefined
  const reservation = needsPort ? reservationFor(wanted, sender, seenAs) : 0
  if (needsPort && reservation === 0) return 0
  const handle = expect({
    key: keyWord(wanted.protocol, otherSide(side)),
    src: wanted.fromAnyone ? 0 : srcOf(base, opposite(direction)),
    srcMask: wanted.fromAnyone ? 0 : -1,
    srcPort: wanted.fromPort,
    dst: isThirdParty ? wanted.address : seenAs,
    dstPort: needsPort ? htons(portOfIndex(portReserved(reservation))) : dictated ? htons(dictated.port) : wanted.port,
    savedAddress: isThirdParty ? wanted.address : sender,
    savedPort: wanted.port,
    flags: wanted.flags,
    helper: wanted.helper,
    childHelper: wanted.childHelper,
    class: wanted.class,
    maxExpected: wanted.maxExpected,
    timeout: wanted.timeout,
    masterRow: row,
    masterGeneration: generationOf(row),
    direction,
    reservation,
  })
  return handle === 0 ? fail('refused') : handle
}

/** A port that is now reserved once more for an inside endpoint; 0 if there is none (announceFailure). */
function reservationFor({ protocol, port }: Announce, inside: Addr, external: Addr): Reservation {
  const entry = externalEntry(external)
  if (entry < 0) return noPort()
  const owner = ownerOf(protocol, inside, port)
  const existing = existingPort(protocol, inside, port, owner, entry)
  if (existing >= 0) return reservationOf(existing)
  const space = spaceOf(protocol)
  const at = reserveFor(externals, { owner, entry, space }, ntohs(port), settings)
  if (at >= 0) return reservationOf(at)
  if (!askFor(owner, entry, space)) return noPort()
  fail('port-pending')
  return 0
}

function noPort(): Reservation {
  refuseExpectation('no-port')
  fail('refused')
  return 0
}

/** The port of the endpoint, if another expectation or a mapping has one: reserved once more; -1 if there is none. */
function existingPort(protocol: ProtocolNumber, inside: Addr, port: Port, owner: Shard, entry: Entry): PortIndex {
  const named = expectCount() > 0 ? reservedFor(protocol, inside, port) : -1
  const isNamedStill = (): boolean => reservedFor(protocol, inside, port) === named
  if (named >= 0 && entryOfPort(named) === entry && reserveTaken(externals, named, isNamedStill)) return named
  return dependsOnAddress(settings.mapping) ? -1 : reserveExisting(protocol, inside, port, owner, entry)
}

// --- meeting ---

/** An expectation for this tuple, claimed; 0 if there is none. */
export const claimFor = (key: KeyWord, src: Addr, dst: Addr, ports: Ports): Handle =>
  expectCount() === 0 ? 0 : claim(key, src, dst, ports)

/**
 * The first packet of an expected connection: its row; 0 if there is none (refusal.ts). The claim is settled either
 * way.
 */
export function openExpected(handle: Handle, key: KeyWord, src: Addr, dst: Addr, ports: Ports): Row {
  const row =
    sideIn(key) === INSIDE ? openFromInside(key, src, dst, ports, EXPECTED) : openToSaved(handle, key, src, dst, ports)
  if (row === 0) {
    putBack(handle)
    return 0
  }
  cold.masterShard[row] = field(handle, 'masterShard')
  cold.masterGeneration[row] = field(handle, 'masterGeneration')
  cold.masterRow[row] = field(handle, 'masterRow')
  fault('expectation met, not consumed')
  settle(handle)
  flowNew(row)
  return row
}

/** The expectation has done its work: a permanent one stands again, any other ends, and its reservation with it. */
function settle(handle: Handle): void {
  if (isPermanent(handle)) {
    putBack(handle, true)
    return
  }
  const reservation = field(handle, 'reservation')
  consume(handle)
  if (reservation !== 0) unreserveAt(externals, portReserved(reservation))
}

/** From outside: to the endpoint that was announced, as it is inside. */
function openToSaved(handle: Handle, key: KeyWord, src: Addr, dst: Addr, ports: Ports): Row {
  const protocol = protocolIn(key)
  const inside = field(handle, 'savedAddress')
  const insidePort = field(handle, 'savedPort')
  if (isDenied(key, EXPECTED, inside, src, insidePort)) return refuse(DROP['filter-denied'])
  // The host itself has announced it.
  if (!mayOpen(inside)) return refuse(DROP['host-limit'])
  const answer = portsOf(insidePort, srcPortIn(ports))
  if (!isFree(keyWord(protocol, INSIDE), inside, src, answer)) return refuse(DROP['no-free-tuple'])
  const reservation = field(handle, 'reservation')
  let bound: Row = 0
  if (reservation !== 0) {
    bound = mappingFor(portReserved(reservation), protocol, inside, insidePort, dst)
    if (bound === 0) return 0
  }
  return makeConnection({
    key,
    src,
    dst,
    ports,
    replySrc: inside,
    replyDst: src,
    replyPorts: answer,
    mapping: bound,
    flags: EXPECTED,
  })
}

/** The mapping of an inside endpoint at the port that was reserved for it, made if need be; 0 if there can be none. */
function mappingFor(at: PortIndex, protocol: ProtocolNumber, inside: Addr, insidePort: Port, external: Addr): Row {
  const port = htons(portOfIndex(at))
  const there = findByExternal(protocol, external, port)
  if (there !== 0) {
    const isItsOwn = insideAddressOf(there) === inside && insidePortOf(there) === insidePort
    return isItsOwn ? there : refuse(DROP['no-mapping'])
  }
  if (!makeRoomForRow(false)) return refuse(DROP['table-full'])
  if (mappings.full) return refuse(DROP['no-port'])
  if (!mayTakePort(inside)) return refuse(DROP['host-limit'])
  if (!takeReserved(at)) return refuse(DROP['no-mapping'])
  fault('port without mapping')
  const bound = insertMapping({
    protocol,
    insideAddress: inside,
    insidePort,
    remoteAddress: 0,
    remotePort: 0,
    externalAddress: external,
    externalPort: port,
    external: entryOfPort(at),
    // The endpoint may have got another mapping since: that one stays what new flows of it find.
    isSecond: dependsOnAddress(settings.mapping) || findByInside(protocol, inside, insidePort, 0, 0) !== 0,
  })
  counters[CELL.mappings + protocolCell(protocol)]! += 1
  return bound
}
