// Helpers in a running gateway of two shards: a user's helper is loaded, reads a connection, lets in a connection that
// was announced, and is unloaded. The listings name masters, children and shards.

import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Connection, Expectation, Helper } from '../../src/control/api-client.ts'
import { GATEWAY_OUTSIDE, SERVER } from '../../src/lab/world/topology.ts'
import { type Natloom, Network } from './network.ts'

const MAIN = fileURLToPath(new URL('../../dist/src/control/main.js', import.meta.url))
const LAN = '10.0.0.2'
const CONTROL = 9000
const DATA = 40_000

/** A client says `OPEN address:port`, and the server connects there. */
const BEACON = `
  const ANNOUNCEMENT = /^OPEN ([0-9.]+):([0-9]+)$/
  export default ({ most = 2 }) => ({
    name: 'beacon',
    tuple: { proto: 'tcp', dstPort: 7 },
    maxExpected: most,
    expectTimeoutSeconds: 60,
    help(ctx) {
      if (ctx.direction === 'reply') return
      for (const line of ctx.lines((partial) => 'OPEN '.startsWith(partial.slice(0, 5)))) {
        const found = ANNOUNCEMENT.exec(line.text)
        if (!found || found[1] !== ctx.tuple.src.address) continue
        const announced = ctx.expect({ port: Number(found[2]) })
        if (announced) ctx.mangle(line.at + 5, line.text.length - 5, announced.address + ':' + announced.port)
      }
    },
  })`

let network: Network
let natloom: Natloom
let module: string

beforeAll(async () => {
  network = new Network()
  module = `${network.topology.directory}/beacon.mjs`
  writeFileSync(module, BEACON)
  await network.outside.ask('serveTcpEcho', CONTROL)
  await network.lan.ask('serveTcpEcho', DATA)
  natloom = await network.forwarding({ NATLOOM_WORKERS: '2' })
})
afterAll(async () => {
  await natloom?.stop()
  await network?.close()
})

function command(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args, '--socket', network.apiSocket], {
    encoding: 'utf8',
    cwd: network.topology.directory,
  })
  return { status, stdout, stderr }
}
const listed = <T>(...args: string[]): T[] => JSON.parse(command(...args, '-o', 'json').stdout)

describe('a gateway that runs', () => {
  it('has FTP’s helper by default', () => {
    expect(command('helper', 'list').stdout).toBe('ftp: tcp port 21 of any server, 1 expected at a time, for 300 s\n')
    expect(command('expect', '-L')).toEqual({ status: 0, stdout: '', stderr: '' })
  })

  it('loads one of a user’s own, bound to a port and a server', () => {
    const { status, stdout } = command('helper', 'load', './beacon.mjs', '--port', String(CONTROL), '--server', SERVER)
    expect({ status, stdout }).toEqual({
      status: 0,
      stdout: `beacon: tcp port ${CONTROL} of ${SERVER}, 2 expected at a time, for 60 s, from ${module}\n`,
    })
    expect(listed<Helper>('helper', 'list').map(({ name }) => name)).toEqual(['ftp', 'beacon'])
  })

  it('expects what it announces, lets it in, and names its master', async () => {
    const { name } = await network.lan.ask('open', SERVER, CONTROL)
    const told = await network.lan.ask('echo', name, `OPEN ${LAN}:${DATA}\n`)
    expect(told).toMatch(new RegExp(`^OPEN ${GATEWAY_OUTSIDE}:\\d+\n$`))
    const port = Number(told.trim().split(':')[1])

    const [expected, ...more] = listed<Expectation>('expect', '-L')
    expect(more).toEqual([])
    expect(expected).toMatchObject({
      protocol: 6,
      origin: 'outside',
      source: SERVER,
      sourcePort: 0,
      destination: GATEWAY_OUTSIDE,
      destinationPort: port,
      announced: { address: LAN, port: DATA },
      helper: 'beacon',
      permanent: false,
      inactive: false,
      master: { original: { source: LAN, destination: SERVER, destinationPort: CONTROL } },
    })
    expect(expected!.timeout).toSatisfy((seconds: number) => seconds > 0 && seconds <= 60)
    expect(command('expect', '-L').stdout).toMatch(
      new RegExp(
        `^\\d+ l3proto = 2 proto=6 src=${SERVER} dst=${GATEWAY_OUTSIDE} sport=0 dport=${port} beacon ` +
          `master=${LAN}:\\d+>${SERVER}:${CONTROL} shard=${expected!.master.shard} announced=${LAN}:${DATA} ` +
          `owner=${expected!.owner}\n$`,
      ),
    )

    const child = await network.outside.ask('open', GATEWAY_OUTSIDE, port)
    expect(await network.outside.ask('echo', child.name, 'the data')).toBe('the data')
    expect(listed<Expectation>('expect', '-L')).toEqual([])
    const connections = listed<Connection>('conntrack', '-L')
    const { shard, row } = expected!.master
    expect(connections.find((each) => each.shard === shard && each.row === row)).toMatchObject({ helper: 'beacon' })
    expect(connections.filter(({ master }) => master)).toMatchObject([
      {
        shard: expected!.owner,
        origin: 'outside',
        state: 'ESTABLISHED',
        original: { source: SERVER, destination: GATEWAY_OUTSIDE, destinationPort: port, owner: expected!.owner },
        reply: { source: LAN, sourcePort: DATA, owner: expected!.owner },
        master: { shard, row, original: { source: LAN, destination: SERVER, destinationPort: CONTROL } },
      },
    ])
    const text = command('conntrack', '-L').stdout
    expect(text).toMatch(new RegExp(` dport=${CONTROL} .* shard=${shard} helper=beacon$`, 'm'))
    expect(text).toMatch(new RegExp(` dport=${port} .* shard=\\d master=${LAN}:\\d+>${SERVER}:${CONTROL}$`, 'm'))
  })

  it('refuses what can’t be loaded, and goes on as before', () => {
    const broken = `${network.topology.directory}/broken.mjs`
    writeFileSync(broken, 'export default { name: "broken" }')
    for (const [args, says] of [
      [['load', './broken.mjs'], `the helper ${broken} can't be loaded: tuple.proto: 'tcp' or 'udp'`],
      [['load', './nowhere.mjs'], `${network.topology.directory}/nowhere.mjs can't be loaded: there is no such file`],
      [['load', 'ftp'], 'there is a helper ftp already: unload it first'],
      [['load', 'sip'], '"sip" is no helper; allowed: ftp, irc, tftp, or the path of a module'],
      [['load', 'irc', '--port', '70000'], '--port "70000" is not allowed; allowed: a number from 1 to 65535'],
      [['load', 'ftp', '--options', 'loose'], '--options "loose" is not allowed; allowed: a JSON object'],
      [['unload', 'irc'], 'there is no helper irc: loaded are ftp, beacon'],
    ] as const) {
      const { status, stderr } = command('helper', ...args)
      expect(stderr).toContain(`natloom: ${says}`)
      expect(status, args.join(' ')).toBe(2)
    }
    expect(listed<Helper>('helper', 'list').map(({ name }) => name)).toEqual(['ftp', 'beacon'])
  })

  it('goes on with a connection when its helper is unloaded; what it expected vanishes', async () => {
    const { name } = await network.lan.ask('open', SERVER, CONTROL)
    await network.lan.ask('echo', name, `OPEN ${LAN}:${DATA + 1}\n`)
    expect(listed<Expectation>('expect', '-L')).toHaveLength(1)
    expect(command('helper', 'unload', 'beacon')).toMatchObject({
      status: 0,
      stdout: 'unloaded beacon: its connections go on without it\n',
    })
    expect(listed<Expectation>('expect', '-L')).toEqual([])
    expect(listed<Connection>('conntrack', '-L').filter(({ helper }) => helper)).toEqual([])
    expect(await network.lan.ask('echo', name, 'plain\n')).toBe('plain\n')
    // What the helper was to rewrite doesn't go out as it is: the next announcement ends the connection.
    expect(await network.lan.ask('echo', name, `OPEN ${LAN}:${DATA}\n`)).toBe('ECONNRESET')
  })
})
