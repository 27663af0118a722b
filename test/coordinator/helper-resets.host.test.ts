// The resets of a helper's failed call (onHelperFailure), between real hosts: Linux takes a reset only if it has the
// number that it expects (RFC 5961 3.2). A silent end whose reset has another one would not be closed at all.

import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { SERVER } from '../../src/lab/world/topology.ts'
import { type Natloom, Network } from './network.ts'

const MAIN = fileURLToPath(new URL('../../dist/src/control/main.js', import.meta.url))
const CONTROL = 9000
const LAN = '10.0.0.2'

/** Rewrites a line to so much that nothing more can be held, expects a connection, and holds what has no line's end. */
const GREEDY = `export default {
  name: 'greedy',
  tuple: { proto: 'tcp', dstPort: ${CONTROL} },
  help(ctx) {
    for (const line of ctx.lines(() => true)) {
      if (!line.text.startsWith('HUGE')) continue
      ctx.expect({ port: 40000 })
      ctx.mangle(line.at, line.text.length, 'x'.repeat(1 << 20))
    }
  },
}`

let network: Network
let natloom: Natloom

beforeAll(async () => {
  network = new Network()
  await network.outside.ask('serveSilent', CONTROL)
  natloom = await network.forwarding()
  const module = `${network.topology.directory}/greedy.mjs`
  writeFileSync(module, GREEDY)
  expect(command('helper', 'load', module)).toMatchObject({ status: 0, stderr: '' })
})
afterAll(async () => {
  await natloom?.stop()
  await network?.close()
})

function command(...args: string[]) {
  return spawnSync(process.execPath, [MAIN, ...args, '--socket', network.apiSocket], { encoding: 'utf8' })
}

/** What the gateway has counted. */
function counted(name: string): number {
  const metrics = network.gateway.host.exec('curl', '-s', 'http://127.0.0.1:9464/metrics')
  const counts = metrics.split('\n').filter((line) => line.startsWith('natloom_') && line.includes(name))
  return counts.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
}

describe('a call that fails, of which bytes would have gone on', () => {
  it('closes both ends at once with ECONNRESET', async () => {
    const { name } = await network.lan.ask('open', SERVER, CONTROL)
    const ended = network.outside.ask('endOf', CONTROL)
    expect(await network.lan.ask('echo', name, `HUGE\n${LAN}`)).toBe('ECONNRESET')
    expect(await ended).toBe('ECONNRESET')
    expect(counted('natloom_helper_resets_total')).toBe(1)
    expect(counted('natloom_helper_rewrites_total')).toBe(0)
    expect(command('expect', '-L').stdout).toBe('')
  })
})
