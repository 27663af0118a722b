// What the lab shows: a live picture while it runs (drawn in place on a terminal; elsewhere a line when a load ends)
// and a summary at the end. All of it but Screen makes text of figures and does nothing else.

import { type Sample, sum, sumBy } from '../gateway/metrics-text.ts'
import type { Outcome } from '../scenarios/scenario.ts'
import { isRight, type Tally } from '../traffic/traffic.ts'
import type { HostLosses } from '../world/host-losses.ts'

const BAR = 20
const MB = 1e6

/** The dispatcher has metrics, too, under this name in place of a shard's number. */
const DISPATCHER = 'dispatcher'

/** The gateway's metrics at one moment. */
export interface GatewayFigures {
  readonly shards: number
  readonly received: number
  readonly sent: number
  readonly connections: number
  readonly portsUsed: number
  /** Packets lost because a receive ring was full, an interface refused them, or a worker that had them crashed. */
  readonly lost: Readonly<Record<'received' | 'sent' | 'handed', number>>
  readonly drops: Counts
  /** Connections that went on without their helper, announcements and expectations that came to nothing: by reason. */
  readonly cutOffs: Counts
  readonly slowCalls: number
  readonly announcementsRefused: Counts
  readonly expectationsRefused: Counts
  readonly expectationsRemoved: Counts
}

/** Counts above zero by reason, the highest first. */
type Counts = readonly (readonly [reason: string, count: number])[]

const countsOf = (samples: readonly Sample[], name: string, label: string): Counts =>
  [...sumBy(samples, name, label)].filter(([, count]) => count > 0).sort(([, a], [, b]) => b - a)

export function gatewayFigures(samples: readonly Sample[]): GatewayFigures {
  return {
    shards: new Set(
      samples.map(({ labels }) => labels.shard).filter((shard) => shard !== undefined && shard !== DISPATCHER),
    ).size,
    received: sum(samples, 'natloom_received_packets_total'),
    sent: sum(samples, 'natloom_sent_packets_total'),
    connections: sum(samples, 'natloom_connections'),
    portsUsed: sum(samples, 'natloom_ports_used'),
    lost: {
      received: sum(samples, 'natloom_receive_losses_total'),
      sent: sum(samples, 'natloom_send_failures_total'),
      handed: sum(samples, 'natloom_handovers_lost_total'),
    },
    drops: countsOf(samples, 'natloom_dropped_packets_total', 'reason'),
    cutOffs: countsOf(samples, 'natloom_helper_cut_offs_total', 'reason'),
    slowCalls: sum(samples, 'natloom_helper_slow_calls_total'),
    announcementsRefused: countsOf(samples, 'natloom_announcements_refused_total', 'reason'),
    expectationsRefused: countsOf(samples, 'natloom_expectations_refused_total', 'reason'),
    expectationsRemoved: countsOf(samples, 'natloom_expectations_removed_total', 'cause'),
  }
}

const count = (value: number): string => value.toLocaleString('en')
const megabytes = (bytes: number): string => `${(bytes / MB).toFixed(1)} MB`

function bar({ arrived, planned }: Tally): string {
  const filled = planned === 0 ? 0 : Math.floor((arrived / planned) * BAR)
  return '█'.repeat(filled) + '░'.repeat(BAR - filled)
}

export function progressLine({ load, tally }: Outcome): string {
  const wrong = tally.wrong > 0 ? `  ${count(tally.wrong)} wrong` : ''
  const arrived = `${count(tally.arrived).padStart(7)} of ${count(tally.planned)}`
  return `  ${load.name.padEnd(28)} ${bar(tally)} ${arrived}${wrong}`
}

export function gatewayLine(figures: GatewayFigures): string {
  const dropped = figures.drops.reduce((total, [, packets]) => total + packets, 0)
  return (
    `  gateway: ${count(figures.received)} packets in, ${count(figures.sent)} out, ${count(dropped)} dropped; ` +
    `${count(figures.connections)} connections, ${count(figures.portsUsed)} ports`
  )
}

/** A row for each load: what was sent, and what arrived. */
export function trafficTable(outcomes: readonly Outcome[]): string[] {
  const head = ['', 'sent', 'arrived', 'lost', 'wrong', 'payload', '']
  const rows = outcomes.map(({ load, tally }) => [
    load.name,
    count(tally.sent),
    count(tally.arrived),
    count(tally.lost),
    count(tally.wrong),
    megabytes(tally.bytes),
    !isRight(tally) ? 'WRONG' : tally.lost > 0 ? 'LOST' : 'right',
  ])
  return aligned([head, ...rows])
}

/** Aligns the first column to the left, the others to the right. */
function aligned(table: readonly (readonly string[])[]): string[] {
  const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0)))
  const padded = (cell: string, column: number): string =>
    column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)
  return table.map((row) => `  ${row.map(padded).join('  ')}`.trimEnd())
}

/** A row for each shard: what it did. */
export function shardTable(samples: readonly Sample[]): string[] {
  const shards = [...sumBy(samples, 'natloom_received_packets_total', 'shard').keys()]
  const reasons = [...sumBy(samples, 'natloom_handovers_total', 'reason')]
    .filter(([, packets]) => packets > 0)
    .map(([reason]) => reason)
  const head = ['shard', 'connections', 'packets in', 'out', 'ports', ...reasons.map((reason) => `handed: ${reason}`)]
  const rows = shards.map((shard) => [
    shard,
    ...[
      sum(samples, 'natloom_connections', { shard }),
      sum(samples, 'natloom_received_packets_total', { shard }),
      sum(samples, 'natloom_sent_packets_total', { shard }),
      sum(samples, 'natloom_ports_used', { shard }),
      ...reasons.map((reason) => sum(samples, 'natloom_handovers_total', { shard, reason })),
    ].map(count),
  ])
  return aligned([head, ...rows])
}

const listed = (counts: Counts): string =>
  counts.length === 0 ? 'none' : counts.map(([reason, number]) => `${reason} ${count(number)}`).join(', ')

export function gatewaySummary(figures: GatewayFigures, mostPorts: number, url: string): string[] {
  const { lost } = figures
  return [
    `  shards           ${figures.shards}`,
    `  packets          ${count(figures.received)} in, ${count(figures.sent)} out`,
    `  ports used       ${count(figures.portsUsed)} at the end, ${count(mostPorts)} at most`,
    `  drops by reason  ${listed(figures.drops)}`,
    `  lost             ${count(lost.received)} not received in time, ${count(lost.sent)} refused by an interface, ` +
      `${count(lost.handed)} with a crash`,
    `  helpers          cut off: ${listed(figures.cutOffs)}; slow calls: ${count(figures.slowCalls)}; ` +
      `announcements refused: ${listed(figures.announcementsRefused)}`,
    `  expectations     refused: ${listed(figures.expectationsRefused)}; ` +
      `removed unmatched: ${listed(figures.expectationsRemoved)}`,
    `  metrics          ${url} (in the gateway's namespace, while it ran)`,
  ]
}

/** Of the whole run, with a kernel that would forward by itself. */
export const untranslatedLine = (frames: number): string => `  left with an inside source: ${count(frames)} frames`

/** Compares what did not come back with what the hosts around the gateway have lost themselves. */
export function lossLines(outcomes: readonly Outcome[], { sockets, links }: HostLosses): Losses {
  const lost = outcomes.reduce((sum, { tally }) => sum + tally.lost, 0)
  const byHosts = sockets + links
  const told = `${count(sockets)} at sockets that were full, ${count(links)} at links that were`
  return {
    lines: [`  lost by hosts    ${told}`],
    wrong:
      lost > byHosts
        ? [`${count(lost)} datagrams did not come back, and the hosts lost ${count(byHosts)}: ${told}`]
        : [],
  }
}

export interface Losses {
  /** For the summary. */
  readonly lines: string[]
  /** A line if the gateway must have lost something. */
  readonly wrong: string[]
}

/** Draws the picture in place on a terminal, and prints lines that stay. Owner: the lab, until close(). */
export class Screen {
  readonly #out: NodeJS.WriteStream
  #drawn = 0
  #closed = false

  constructor(out: NodeJS.WriteStream) {
    this.#out = out
    // If the reader of a pipe goes away, the lab goes on, and its exit code still tells the result.
    out.on('error', () => {})
  }

  get live(): boolean {
    return this.#out.isTTY === true
  }

  /** Puts these lines where the last picture was. */
  draw(lines: readonly string[]): void {
    if (!this.live || this.#closed) return
    this.#erase()
    const width = this.#out.columns ?? 80
    this.#out.write(lines.map((line) => `${line.slice(0, width - 1)}\n`).join(''))
    this.#drawn = lines.length
  }

  /** Prints lines that stay, in place of the picture if there is one. */
  print(...lines: readonly string[]): void {
    if (this.#closed) return
    this.#erase()
    this.#out.write(lines.map((line) => `${line}\n`).join(''))
  }

  /** Nothing is shown afterwards. */
  close(): void {
    this.#closed = true
  }

  #erase(): void {
    if (this.#drawn > 0) this.#out.write(`\u001b[${this.#drawn}A\u001b[J`)
    this.#drawn = 0
  }
}
