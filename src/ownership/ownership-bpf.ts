// The ownership rule (ownership-rule.ts) as a classic BPF program, by which the kernel gives each packet to a shard:
// what the program returns is the number of its owner. It sees a packet from its IPv4 header on (PACKET_FANOUT with
// FANOUT_CBPF, packet(7)).
//
//   a packet is              and belongs to
//   not IPv4, cut short      shard 0: nobody else's business, or to be dropped
//   a fragment               rule 6, without another look
//   an ICMP error            rule 5: the embedded packet, source and destination exchanged. Shard 0 if that is cut
//                            short before its ports; the shard looks whether the error is right
//   all else                 rules 1 to 3: by the cases of ownership-cases.ts
// A packet that the shards drop before they ask for its owner, since a length or a version is wrong, may get any.
//
// Leases and static rules are compiled in, so the program is made anew when they change. It never tells a wrong shard
// but for exceptions that are left out: more than 512, or more than 4096 instructions hold. Those are handed over.
// Pure, but for the leases, which it reads.

import type { Side } from '../conntrack/terms.ts'
import { INSIDE } from '../conntrack/terms.ts'
import * as icmp from '../wire/icmp.ts'
import * as ipv4 from '../wire/ipv4.ts'
import * as bpf from './bpf-assembler.ts'
import { type Case, instructions, Label, Program } from './bpf-assembler.ts'
import { LeaseRuns } from './lease-runs.ts'
import {
  type AddressCase,
  type Answer,
  CHOSEN,
  casesOf,
  exceptionsOf,
  HOME,
  type PortCase,
  REMOTE,
} from './ownership-cases.ts'
import { type Leases, ROUND, type StaticRules } from './ownership-rule.ts'

const MAX_EXCEPTIONS = 512

export interface OwnerProgram {
  /** An array of struct sock_filter. */
  readonly program: Uint8Array
  /** How many exceptions (ownership-cases.ts) have no place in it: packets that are handed over. */
  readonly left: number
}

/** The programs of either side, compiled anew with each call: what has not changed of the leases since is known. */
export function ownerPrograms(leases: Leases, rules: StaticRules): (side: Side) => Uint8Array {
  const runs = new LeaseRuns(leases.externals, leases.shards)
  return (side) => compileOwner(side, leases, rules, runs).program
}

export function compileOwner(
  side: Side,
  leases: Leases,
  rules: StaticRules,
  runs = new LeaseRuns(leases.externals, leases.shards),
): OwnerProgram {
  if (leases.shards === 1) return { program: new Program().add(bpf.RET_K, 0).assemble(), left: 0 }
  const exceptions = exceptionsOf(side, leases, rules, runs)
  for (let limit = MAX_EXCEPTIONS; ; limit >>= 1) {
    const program = compile(side, leases, casesOf(side, leases.externals, exceptions.slice(0, limit), runs))
    if (instructions(program) <= bpf.MAX_INSTRUCTIONS) return { program, left: Math.max(0, exceptions.length - limit) }
  }
}

// --- the words of memory ---

const PROTOCOL = 0
/** The last word that goes into a hash: withProtocol() of ownership-rule.ts. */
const LAST_WORD = 1
/** An endpoint: its address, and its port in the word after that. Near is the one on natloom's own side. */
const NEAR = 2
const REMOTE_END = 4
const PORT = 1

/** Where the endpoints of the packet at hand are kept: which of the two words is its sender's. */
interface Ends {
  readonly source: number
  readonly destination: number
}

const IP_PROTOCOL = 9
const IP_ID = 4
const IP_FRAGMENT = 6
const IP_SRC = 12
const IP_DST = 16
const SRC_PORT = 0
const DST_PORT = 2
const ICMP_TYPE = 0
const ICMP_ID = 4

function compile(side: Side, leases: Leases, cases: readonly AddressCase[]): Uint8Array {
  const program = new Program()
  const ends: Ends =
    side === INSIDE ? { source: NEAR, destination: REMOTE_END } : { source: REMOTE_END, destination: NEAR }
  const { source, destination } = ends
  const to = {
    flow: new Label(),
    portless: new Label(),
    fragment: new Label(),
    error: new Label(),
    nobody: new Label(),
  }
  const answers = new Answers()

  program.add(bpf.LD_B_ABS, 0).add(bpf.RSH_K, 4).when(bpf.JEQ_K, 4, undefined, to.nobody)
  program.add(bpf.LD_B_ABS, IP_PROTOCOL).add(bpf.ST, PROTOCOL)
  program.add(bpf.LD_W_ABS, IP_SRC).add(bpf.ST, source)
  program.add(bpf.LD_W_ABS, IP_DST).add(bpf.ST, destination)
  program.add(bpf.LD_H_ABS, IP_FRAGMENT).when(bpf.JSET_K, ipv4.MORE_FRAGMENTS | ipv4.OFFSET_MASK, to.fragment)
  program.add(bpf.LDX_MSH, 0)
  loadPorts(program, 0, ends, to)

  program.place(to.error)
  const embedded = icmp.EMBEDDED
  program.add(bpf.LD_B_IND, embedded + IP_PROTOCOL).add(bpf.ST, PROTOCOL)
  program.add(bpf.LD_W_IND, embedded + IP_SRC).add(bpf.ST, destination)
  program.add(bpf.LD_W_IND, embedded + IP_DST).add(bpf.ST, source)
  program.add(bpf.LD_B_IND, embedded).add(bpf.AND_K, 15).add(bpf.LSH_K, 2).add(bpf.ADD_X).add(bpf.TAX)
  loadPorts(program, embedded, { source: destination, destination: source }, { ...to, error: undefined })

  program.place(to.portless)
  storePorts(program.add(bpf.LD_IMM, 0), REMOTE_END).jump(answers.placeOf(REMOTE))
  program.place(to.flow)
  chooseAnswer(program, cases, answers)
  give(program, leases, answers, to.fragment, ends)
  program.place(to.nobody).add(bpf.RET_K, 0)
  return program.assemble()
}

const storePorts = (program: Program, ...endpoints: number[]): Program =>
  endpoints.reduce((next, endpoint) => next.add(bpf.ST, endpoint + PORT), program)

/** Where the program goes on from a transport header. No `error`: an embedded error has no numbers. */
interface Onward {
  readonly flow: Label
  readonly portless: Label
  readonly error: Label | undefined
}

/** Loads the ports of the transport header at X + `at`. */
function loadPorts(program: Program, at: number, { source, destination }: Ends, to: Onward): void {
  const [ported, query, identified, other] = [new Label(), new Label(), new Label(), new Label()]
  program.add(bpf.LD_MEM, PROTOCOL)
  program.when(bpf.JEQ_K, ipv4.PROTO_TCP, ported).when(bpf.JEQ_K, ipv4.PROTO_UDP, ported)
  program.when(bpf.JEQ_K, ipv4.PROTO_ICMP, query, to.portless)

  program.place(ported)
  storePorts(program.add(bpf.LD_H_IND, at + SRC_PORT), source)
  storePorts(program.add(bpf.LD_H_IND, at + DST_PORT), destination).jump(to.flow)

  program.place(query).add(bpf.LD_B_IND, at + ICMP_TYPE)
  const kindOf = (type: number): Label => {
    if (icmp.isQuery(type) || icmp.isReply(type)) return identified
    return icmp.isError(type) ? (to.error ?? other) : other
  }
  program.choose(Array.from({ length: 256 }, (_, type) => ({ first: type, to: kindOf(type) })))
  program.place(identified)
  storePorts(program.add(bpf.LD_H_IND, at + ICMP_ID), source, destination).jump(to.flow)
  program.place(other)
  storePorts(program.add(bpf.LD_IMM, 0), source, destination).jump(to.flow)
}

// --- cases ---

class Answers {
  readonly #places = new Map<Answer, Label>()

  placeOf(answer: Answer): Label {
    const place = this.#places.get(answer) ?? new Label()
    this.#places.set(answer, place)
    return place
  }

  shards(): [shard: number, place: Label][] {
    return [...this.#places].filter(([answer]) => answer >= 0)
  }
}

/** By the near endpoint: first its address, then the protocol, then its port. What is the same is there once. */
function chooseAnswer(program: Program, cases: readonly AddressCase[], answers: Answers): void {
  const portTrees = new Map<string, [Label, readonly PortCase[]]>()
  const addressTrees = new Map<string, [Label, Label[]]>()

  const placeOfPorts = (ports: readonly PortCase[]): Label => {
    if (ports.length === 1) return answers.placeOf(ports[0]!.answer)
    return once(portTrees, JSON.stringify(ports), ports)
  }
  const placeOfAddress = ({ ports }: AddressCase): Label => {
    const places = ports.map(placeOfPorts)
    if (places.every((place) => place === places[0])) return places[0]!
    return once(addressTrees, JSON.stringify(ports), places)
  }

  program.add(bpf.LD_MEM, NEAR)
  program.choose(cases.map((of) => ({ first: of.first, to: placeOfAddress(of) })))
  for (const [place, [tcp, udp, icmp]] of addressTrees.values()) {
    program.place(place).add(bpf.LD_MEM, PROTOCOL)
    program.when(bpf.JEQ_K, ipv4.PROTO_TCP, tcp).when(bpf.JEQ_K, ipv4.PROTO_UDP, udp, icmp)
  }
  for (const [place, ports] of portTrees.values()) {
    program.place(place).add(bpf.LD_MEM, NEAR + PORT)
    program.choose(ports.map(({ first, answer }): Case => ({ first, to: answers.placeOf(answer) })))
  }
}

function once<T>(all: Map<string, [Label, T]>, name: string, what: T): Label {
  const [place] = all.get(name) ?? [new Label()]
  all.set(name, [place, what])
  return place
}

// --- answers ---

/** The instructions that return a shard. */
function give(
  program: Program,
  leases: Leases,
  answers: Answers,
  fragment: Label,
  { source, destination }: Ends,
): void {
  const [keyed, hashed, whole] = [new Label(), new Label(), new Label()]
  for (const [shard, place] of answers.shards()) program.place(place).add(bpf.RET_K, shard)

  program.place(answers.placeOf(HOME)).add(bpf.LD_MEM, NEAR + PORT)
  program.add(bpf.RSH_K, Math.log2(leases.externals.blockSize)).add(bpf.MOD_K, leases.shards).add(bpf.RET_A)

  program.place(fragment)
  withProtocol(program, () => program.add(bpf.LD_H_ABS, IP_ID))
  mix(program.add(bpf.LD_MEM, source).add(bpf.XOR_K, leases.key))
  program.add(bpf.LDX_MEM, destination).add(bpf.XOR_X).jump(hashed)

  program.place(answers.placeOf(CHOSEN))
  program.add(bpf.LD_MEM, PROTOCOL).when(bpf.JEQ_K, ipv4.PROTO_ICMP, whole)
  program
    .add(bpf.LD_MEM, NEAR + PORT)
    .add(bpf.RSH_K, 1)
    .add(bpf.ST, NEAR + PORT)
  program.place(whole)
  withProtocol(program, () => program.add(bpf.LD_MEM, NEAR + PORT))
  program.add(bpf.LD_MEM, NEAR).jump(keyed)

  program.place(answers.placeOf(REMOTE))
  withProtocol(program, () => program.add(bpf.LD_MEM, REMOTE_END + PORT))
  program.add(bpf.LD_MEM, REMOTE_END)

  program.place(keyed).add(bpf.XOR_K, leases.key)
  mix(program.place(hashed))
  mix(program.add(bpf.LDX_MEM, LAST_WORD).add(bpf.XOR_X))
  program.add(bpf.MOD_K, leases.shards).add(bpf.RET_A)
}

/** Makes the last word out of the protocol and the number that `load` loads. */
function withProtocol(program: Program, load: () => void): void {
  program.add(bpf.LD_MEM, PROTOCOL).add(bpf.LSH_K, 16).add(bpf.TAX)
  load()
  program.add(bpf.OR_X).add(bpf.ST, LAST_WORD)
}

/** A round over A, into which a word is taken already. */
function mix(program: Program): void {
  for (const { shift, factor } of ROUND) {
    program.add(bpf.TAX).add(bpf.RSH_K, shift).add(bpf.XOR_X)
    if (factor !== 1) program.add(bpf.MUL_K, factor)
  }
}
