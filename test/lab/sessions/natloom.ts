// natloom as the gateway of scripted sessions, as near to Linux as its configuration allows: ports are preserved, all
// three helpers are on. What it expects is asked of its API.

import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expectations } from '../../../src/control/api-client.ts'
import type { Processes, Program } from '../../../src/lab/world/processes.ts'
import { INSIDE_INTERFACE, OUTSIDE_INTERFACE, type Topology } from '../../../src/lab/world/topology.ts'
import { PROTO_TCP, PROTO_UDP } from '../../../src/wire/ipv4.ts'
import { PATIENCE_MS } from '../../patience.ts'
import type { Expectation } from './play.ts'
import { SERVICE_PORTS } from './session.ts'

const COMMAND = fileURLToPath(new URL('../../../dist/src/control/main.js', import.meta.url))

const portForward = (port: number) => ({ proto: 'tcp', from: `:${port}`, to: `10.0.0.2:${port}` })

/** Resolves when natloom forwards packets; `faults` as io/fault-plan.ts reads them. */
export async function startNatloom(
  { gateway, directory }: Topology,
  processes: Processes,
  faults?: string,
): Promise<Program> {
  const file = join(directory, 'natloom.yaml')
  const configuration = {
    inside: [INSIDE_INTERFACE],
    outside: [OUTSIDE_INTERFACE],
    workers: 1,
    io: { ringMegabytes: 16 },
    nat: { preservePorts: true },
    helpers: ['ftp', 'irc', 'tftp'],
    forward: [portForward(SERVICE_PORTS.ftp), portForward(SERVICE_PORTS.irc)],
    statePath: join(directory, 'state.json'),
    api: { socket: join(directory, 'api.sock') },
    log: { format: 'json' },
  }
  writeFileSync(file, JSON.stringify(configuration))
  const natloom = processes.start(gateway, process.execPath, [COMMAND, 'run', '--config', file], {
    name: 'natloom run',
    ...(faults !== undefined && { env: { NATLOOM_LAB_FAULTS: faults } }),
  })
  const deadline = AbortSignal.timeout(PATIENCE_MS)
  while (!natloom.output.includes('"forwarding"')) {
    const ended = natloom.ended.then(() => Promise.reject(new Error(`natloom ended:\n${natloom.output}`)))
    await Promise.race([once(natloom.child.stderr!, 'data', { signal: deadline }), ended])
  }
  return natloom
}

const PROTOCOLS = { [PROTO_TCP]: 'tcp', [PROTO_UDP]: 'udp' } as const
const ANYONE = '0.0.0.0/0'

export async function natloomExpectations({ directory }: Topology): Promise<Expectation[]> {
  const found: Expectation[] = []
  for await (const { protocol, source, destination, destinationPort, announced, master } of expectations(
    join(directory, 'api.sock'),
  ))
    found.push({
      protocol: PROTOCOLS[protocol as keyof typeof PROTOCOLS],
      src: source === ANYONE ? '*' : source,
      dst: destination,
      dport: destinationPort,
      announced: announced.port,
      masterPort: master.original.sourcePort ?? 0,
    })
  return found
}
