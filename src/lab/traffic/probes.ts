// Debian's ping(8) and traceroute(8), run by the LAN host; their answers are counted. Read is the output of iputils
// 20190709 and later and of traceroute 2.x in the C locale.

import { PATIENCE_MS, TRAFFIC_LIMIT_MS } from '../world/patience.ts'
import type { Processes } from '../world/processes.ts'
import type { Topology } from '../world/topology.ts'
import { newTally, problem, type Tally } from './traffic.ts'

export interface Ping {
  readonly target: string
  readonly count: number
  /** Payload bytes of an echo request; above 1472 they travel as fragments. */
  readonly size: number
}

export interface Trace {
  /** What a probe is: a UDP datagram to an unused port, or an ICMP echo request. */
  readonly by: 'udp' | 'icmp'
  /** The addresses that must answer, hop by hop; the last is the target. */
  readonly hops: readonly string[]
}

const PING_EVERY_S = 0.2
const PROBES_A_HOP = 3
const PATIENCE_S = PATIENCE_MS / 1000

export async function ping(processes: Processes, { lan }: Topology, probe: Ping, seen: See): Promise<Tally> {
  const { target, count, size } = probe
  const program = processes.start(
    lan,
    'ping',
    // With -c it gives up two round trips after its last request, or, with -w, after as many answers to whichever
    // requests: both too early on a busy machine. So it sends on until it is told that each of `count` is answered.
    ['-n', '-i', PING_EVERY_S, '-w', PATIENCE_S, '-s', size, target].map(String),
  )
  seen(newTally(count))
  program.child.stdout?.on('data', () => {
    const tally = readPing(program.output, probe)
    seen(tally)
    if (tally.arrived + tally.wrong >= count) program.child.kill('SIGINT')
  })
  await program.within(TRAFFIC_LIMIT_MS)
  const tally = readPing(program.output, probe)
  if (tally.sent !== count) problem(tally, `ping sent ${tally.sent} of ${count}: ${program.output.trim()}`)
  return tally
}

export async function traceroute(processes: Processes, { lan }: Topology, trace: Trace, seen: See): Promise<Tally> {
  const target = trace.hops.at(-1) as string
  const program = processes.start(
    lan,
    'traceroute',
    // One probe at a time: hosts limit the rate of their ICMP errors (net.ipv4.icmp_ratelimit).
    [
      ['-n', '-N', 1, '-q', PROBES_A_HOP, '-w', PATIENCE_S, '-m', trace.hops.length],
      trace.by === 'icmp' ? ['-I'] : [],
      [target],
    ]
      .flat()
      .map(String),
  )
  seen(newTally(trace.hops.length * PROBES_A_HOP))
  await program.within(TRAFFIC_LIMIT_MS)
  return readTraceroute(program.output, trace)
}

type See = (tally: Tally) => void

/** Counts what ping has printed so far of the answers to its first `count` requests. */
export function readPing(output: string, { target, count, size }: Ping): Tally {
  const tally = newTally(count)
  const transmitted = /^(\d+) packets transmitted/m.exec(output)?.[1]
  for (const [line, bytes, from, sequence] of output.matchAll(/^(\d+) bytes from ([\d.]+): icmp_seq=(\d+) .*$/gm)) {
    if (Number(sequence) > count) continue
    const right = Number(bytes) === size + 8 && from === target && !/DUP!|wrong|BAD/.test(line)
    if (right) {
      tally.arrived++
      tally.bytes += size
    } else {
      tally.wrong++
      problem(tally, `ping: ${line}`)
    }
  }
  for (const [line] of output.matchAll(/^From .*$/gm)) {
    tally.wrong++
    problem(tally, `ping: ${line}`)
  }
  tally.sent = transmitted === undefined ? tally.arrived : Math.min(count, Number(transmitted))
  return tally
}

/** Counts what traceroute has printed: for each hop its number, its address once, and a time or `*` for each probe. */
export function readTraceroute(output: string, { hops }: Trace): Tally {
  const tally = newTally(hops.length * PROBES_A_HOP)
  const lines = output.split('\n').filter((line) => /^\s*\d+ /.test(line))
  hops.forEach((hop, index) => {
    const line = lines[index]?.trim() ?? ''
    const answers = line.match(/\d+\.\d+ ms/g)?.length ?? 0
    const from = [...new Set(line.match(/\d+\.\d+\.\d+\.\d+/g) ?? [])]
    const right = from.length === 1 && from[0] === hop && !line.includes(' !')
    tally.sent += PROBES_A_HOP
    if (right) tally.arrived += answers
    else tally.wrong += answers
    if (!right || answers !== PROBES_A_HOP)
      problem(tally, `traceroute: hop ${index + 1} should be ${hop}, and was: ${line || 'nothing'}`)
  })
  return tally
}
