// `npm run prove:offload-program`: random packets through the offload's program in the kernel, held against the
// datapath (test/offload/player.ts; test/offload/program.host.test.ts is the short form). Ends with 1 if anything was
// different; a packet that was is told with its seed. Keeps what came of it in bench/results/. Takes root.
//
//   --packets N    a million by default
//   --seed N       that of the first
//   --list         prints the program, step by step, and plays nothing
//   --out FILE     bench/results/prove-offload-program.json by default

import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { parseArgs } from 'node:util'
import { disassemble } from '../src/offload/ebpf-assembler.ts'
import { offloadProgram } from '../src/offload/program.ts'
import { Player } from '../test/offload/player.ts'
import { timed } from '../test/offload/timed.ts'
import { wholeNumber } from './arguments.ts'
import { describeMachine, machine } from './machine.ts'
import { revisionAt } from './other-build.ts'

/** One difference says little of the others; from so many on, each shows the same. */
const MOST_DIFFERENCES = 10

const { values: options } = parseArgs({
  options: {
    packets: { type: 'string', default: '1000000' },
    seed: { type: 'string', default: '20261201' },
    list: { type: 'boolean', default: false },
    out: { type: 'string', default: 'bench/results/prove-offload-program.json' },
  },
})

async function play(): Promise<void> {
  const packets = wholeNumber('--packets', options.packets)
  const first = wholeNumber('--seed', options.seed, 0)
  const on = machine()
  console.log(describeMachine(on))
  const began = performance.now()
  const player = await Player.start()
  const differences: string[] = []
  let played = 0
  for (; played < packets && differences.length < MOST_DIFFERENCES; played++) {
    const fault = player.play(first + played)
    if (fault) differences.push(`packet ${first + played}: ${fault}`)
  }
  differences.push(...player.faults())
  const { sent, refused, repaired } = player
  const nanosecondsAPacket = timed()
  player.close()
  const seconds = Math.round((performance.now() - began) / 1000)
  for (const difference of differences) console.log(difference)
  console.log(`${played} packets: ${sent} sent, ${refused} left to the shards; ${differences.length} differences`)
  console.log(`a datagram of one flow takes the program ${nanosecondsAPacket} ns`)
  const command = ['node', 'dist/bench/offload-program.js', ...process.argv.slice(2)].join(' ')
  const date = new Date().toISOString()
  const counted = { packets: played, sent, refused, repaired, nanosecondsAPacket, differences }
  const result = { date, machine: on, revision: revisionAt(process.cwd()), command, seconds, ...counted }
  mkdirSync(dirname(options.out), { recursive: true })
  writeFileSync(options.out, `${JSON.stringify(result, null, 2)}\n`)
  console.log(`${seconds} s; kept in ${options.out}`)
  process.exitCode = differences.length === 0 ? 0 : 1
}

if (options.list) console.log(disassemble(offloadProgram({ map: 0, side: 0, seed: 0, buckets: 1024 })).join('\n'))
else await play()
