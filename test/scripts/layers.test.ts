// Who may import whom (.dependency-cruiser.mjs, the table in ARCHITECTURE.md): a tree in which every layer imports a
// module of every other one, and trees with one fault each.

import { relative } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Finding } from '../../scripts/checks/finding.ts'
import { checkLayers } from '../../scripts/checks/layers.ts'
import { findingsIn } from './tree.ts'

const MODULES = [
  ...['wire/tcp', 'memory/region', 'counters/counters', 'routing/fib', 'conntrack/terms', 'conntrack/track.shard'],
  ...['nat/externals', 'nat/ports.shard', 'ownership/ownership-rule', 'helpers/helper', 'helpers/load', 'helpers/ftp'],
  ...['helpers/context.shard', 'io/driver', 'io/syscalls', 'io/af-packet', 'offload/slots', 'offload/bpf'],
  'datapath/shard-contract',
  ...[
    'datapath/handover/handover-rings',
    'datapath/pipeline',
    'datapath/egress/transmit',
    'metrics/server',
    'host/nft',
  ],
  ...['coordinator/gateway', 'coordinator/leases/block-leases', 'replay/replay', 'control/config', 'control/main'],
  ...['lab/lab', 'testing/builder', '../workers/shard', '../bench/machine', '../test/patience', '../scripts/check'],
].map((name) => `src/${name}.ts`.replace('src/../', ''))

const below = (...layers: string[]): string => layers.join('|')
const SHARED = below('wire', 'memory', 'counters')
const CONTRACTS = 'datapath/(shard-contract|handover/handover-rings)\\.ts'
const LAYOUTS = '(conntrack|nat)/[a-z-]+\\.ts'
const API = 'helpers/helper\\.ts'

/** A module of each layer, and those that it may import. */
const MAY_IMPORT: readonly (readonly [string, string])[] = [
  ['src/wire/x.ts', 'wire/'],
  ['src/memory/x.ts', 'memory/'],
  ['src/counters/x.ts', `(counters|wire|memory)/`],
  ['src/routing/x.ts', `(routing|memory|wire)/`],
  ['src/conntrack/x.ts', `(conntrack|${SHARED})/[a-z-]+\\.ts`],
  ['src/conntrack/x.shard.ts', `(conntrack|${SHARED})/`],
  ['src/nat/x.shard.ts', `(nat|conntrack|${SHARED})/`],
  ['src/ownership/x.ts', `(ownership|wire)/|conntrack/terms|nat/externals`],
  ['src/helpers/irc.ts', API],
  ['src/helpers/registry.shard.ts', `(helpers|nat|conntrack|${SHARED})/`],
  ['src/io/x.ts', '(io|wire|memory|routing)/'],
  ['src/offload/x.ts', '(offload|wire|memory)/|io/syscalls'],
  ['src/datapath/x.ts', `(datapath|helpers|ownership|nat|conntrack|routing|${SHARED})/|io/driver|offload/slots`],
  ['src/datapath/icmp/x.ts', `(datapath|helpers|ownership|nat|conntrack|routing|${SHARED})/|io/driver|offload/slots`],
  ['src/metrics/x.ts', '(metrics|memory|counters)/'],
  ['src/host/x.ts', '(host|memory|routing|wire)/|io/syscalls'],
  [
    'src/coordinator/x.ts',
    `(coordinator|routing|ownership|io|offload|host|metrics|${SHARED})/|` +
      `${LAYOUTS}|helpers/(helper|load)\\.ts|${CONTRACTS}`,
  ],
  [
    'src/replay/x.ts',
    `(replay|coordinator|ownership|io|${SHARED})/|${LAYOUTS}|helpers/(helper|load)\\.ts|${CONTRACTS}`,
  ],
  ['src/control/x.ts', '(control|coordinator|metrics|replay|wire)/'],
  ['src/control/main.ts', '(control|coordinator|metrics|lab)/'],
  ['src/testing/x.ts', `(testing|wire|memory)/|${API}`],
  ['src/lab/x.ts', '(lab|control|replay|wire|memory)/'],
]

/** `from` may be a folder, with a slash behind it. */
const importOf = (from: string, to: string): string => {
  const path = relative(from.replace(/[^/]*$/, ''), to)
  return `import { x } from '${path.startsWith('.') ? path : `./${path}`}'\nexport const y = x\n`
}

const edge = ({ place }: Finding): string => place

describe('the layers', () => {
  let refused: ReadonlySet<string>

  beforeAll(async () => {
    const stubs = MODULES.map((path) => [path, 'export const x = 1\n'])
    const probes = MAY_IMPORT.map(([from]) => {
      const imports = MODULES.filter((to) => to !== from).map((to, i) =>
        importOf(from, to).replace('{ x }', `{ x as x${i} }`),
      )
      return [from, imports.map((text) => text.split('\n')[0]).join('\n')]
    })
    const findings = await findingsIn(Object.fromEntries([...stubs, ...probes]), checkLayers)
    refused = new Set(findings.map(edge))
  })

  for (const [from, allowed] of MAY_IMPORT)
    it(`${from} may import ${allowed} and nothing else`, () => {
      const others = MODULES.filter((module) => module !== from)
      const accepted = others.filter((to) => !refused.has(`${from} -> ${to}`))
      expect(accepted).toEqual(others.filter((to) => new RegExp(`^src/(${allowed})`).test(to)))
    })
})

describe('one fault', () => {
  const stub = 'export const x = 1\n'
  const faults: readonly [string, Readonly<Record<string, string>>, string, string][] = [
    [
      'the coordinator imports what is bound to a thread',
      {
        'src/nat/ports.shard.ts': stub,
        'src/coordinator/probe.ts': importOf('src/coordinator/', 'src/nat/ports.shard.ts'),
      },
      'src/coordinator/probe.ts -> src/nat/ports.shard.ts',
      "a *.shard.ts is bound to its thread's memory",
    ],
    [
      'the same, a type of it',
      {
        'src/nat/ports.shard.ts': 'export interface X { readonly x: 1 }\n',
        'src/coordinator/probe.ts': "import type { X } from '../nat/ports.shard.ts'\nexport const y: X = { x: 1 }\n",
      },
      'src/coordinator/probe.ts -> src/nat/ports.shard.ts',
      "a *.shard.ts is bound to its thread's memory",
    ],
    [
      'the same, when it runs',
      {
        'src/nat/ports.shard.ts': stub,
        'src/coordinator/probe.ts': "export const y = () => import('../nat/ports.shard.ts')\n",
      },
      'src/coordinator/probe.ts -> src/nat/ports.shard.ts',
      "a *.shard.ts is bound to its thread's memory",
    ],
    [
      'an import upwards',
      { 'src/nat/externals.ts': stub, 'src/conntrack/probe.ts': importOf('src/conntrack/', 'src/nat/externals.ts') },
      'src/conntrack/probe.ts -> src/nat/externals.ts',
      'conntrack imports downwards only',
    ],
    [
      'a folder that no layer has',
      { 'src/wire/tcp.ts': stub, 'src/novelty/probe.ts': importOf('src/novelty/', 'src/wire/tcp.ts') },
      'src/novelty/probe.ts -> src/wire/tcp.ts',
      'every module of src belongs to a layer',
    ],
    [
      'an import of nothing',
      { 'src/wire/probe.ts': importOf('src/wire/', 'src/wire/gone.ts') },
      'src/wire/probe.ts -> ./gone.ts',
      'an import leads to a module',
    ],
    [
      'two files in a circle, by types alone',
      {
        'src/wire/a.ts': "import type { B } from './b.ts'\nexport interface A { readonly b?: B }\n",
        'src/wire/b.ts': "import type { A } from './a.ts'\nexport interface B { readonly a?: A }\n",
      },
      'src/wire/a.ts -> src/wire/b.ts -> src/wire/a.ts',
      'no cycles between files',
    ],
    [
      'two folders in a circle, no file twice in it',
      {
        'src/datapath/egress/a.ts': stub,
        'src/datapath/egress/b.ts': importOf('src/datapath/egress/', 'src/datapath/packet/b.ts'),
        'src/datapath/packet/a.ts': importOf('src/datapath/packet/', 'src/datapath/egress/a.ts'),
        'src/datapath/packet/b.ts': stub,
      },
      'src/datapath/egress -> src/datapath/packet -> src/datapath/egress',
      'no cycles between folders',
    ],
    [
      'two folders in a circle that leads through a file of their parent',
      {
        'src/datapath/egress/a.ts': importOf('src/datapath/egress/', 'src/datapath/a.ts'),
        'src/datapath/egress/b.ts': stub,
        'src/datapath/a.ts': importOf('src/datapath/', 'src/datapath/packet/a.ts'),
        'src/datapath/packet/a.ts': importOf('src/datapath/packet/', 'src/datapath/egress/b.ts'),
      },
      'src/datapath/a.ts -> src/datapath/packet -> src/datapath/egress -> src/datapath/a.ts',
      'no cycles between folders',
    ],
  ]
  for (const [name, files, place, rule] of faults)
    it(`${name}: refused, and nothing else is`, async () => {
      const findings = await findingsIn(files, checkLayers)
      expect(findings.map((finding) => [edge(finding), finding.rule])).toEqual([[place, rule]])
      expect(findings[0]?.advice).not.toBe('')
    })

  it('a parent folder with files above and below its subfolders has no cycle', async () => {
    const files = {
      'src/datapath/top.ts': importOf('src/datapath/', 'src/datapath/egress/a.ts'),
      'src/datapath/egress/a.ts': importOf('src/datapath/egress/', 'src/datapath/bottom.ts'),
      'src/datapath/bottom.ts': stub,
    }
    expect(await findingsIn(files, checkLayers)).toEqual([])
  })
})
