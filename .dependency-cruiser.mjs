// Who may import whom: downwards only. `npm run check:rules` holds the tree to it (scripts/checks/layers.ts, which also
// holds folders to have no cycles); test/scripts/layers.test.ts shows for each rule that it refuses. ARCHITECTURE.md
// says why the layers are these.
//
// Imports of types count like any other, in every rule. They are gone at run time, but not for a reader: a module that
// names a type of the layer above can't be understood, changed or tested without that layer.

const EVERYTHING = ['src', 'workers', 'bench', 'test', 'scripts']

const folder = (name) => `^src/${name}/`

/** What is declared for all threads and works on none's memory: importable above the datapath. */
const CONTRACTS = ['^src/datapath/shard-(contract|tables)\\.ts$', '^src/datapath/handover/handover-rings\\.ts$']
const HELPER_API = ['^src/helpers/(helper|notations)\\.ts$']
/** How helpers are named, found and loaded; and the API. */
const HELPER_LOADING = ['^src/helpers/(builtin|declaration|helper|helper-list|load)\\.ts$']

/** What of the host is netlink alone. */
const HOST_NETLINK = '^src/host/(clsact|netlink-socket|rtnetlink)\\.ts$'

const HELPER =
  '^src/helpers/(?!(helper|notations|builtin|(context|registry|running-helper)\\.shard|load|module-format|helper-list|declaration|thrown)\\.ts$)'

/** [layer, its files, what it may import beside itself], from the bottom to the top. */
const LAYERS = [
  ['wire', [folder('wire')], []],
  ['memory', [folder('memory')], []],
  ['counters', [folder('counters')], ['wire', 'memory'].map(folder)],
  ['routing', [folder('routing')], ['wire', 'memory'].map(folder)],
  ['conntrack', [folder('conntrack')], ['wire', 'memory', 'counters'].map(folder)],
  ['nat', [folder('nat')], ['conntrack', 'wire', 'memory', 'counters'].map(folder)],
  [
    'ownership',
    [folder('ownership')],
    [
      folder('wire'),
      '^src/memory/brand\\.ts$',
      '^src/conntrack/terms\\.ts$',
      '^src/nat/(externals|lease-log|port-forward-rules)\\.ts$',
    ],
  ],
  ['the helper API', HELPER_API, [folder('wire')]],
  ['a helper', [HELPER], HELPER_API],
  ['the list of helpers', ['^src/helpers/builtin\\.ts$'], [HELPER, ...HELPER_API]],
  [
    "helpers' context, registry and loading",
    [
      '^src/helpers/((context|registry|running-helper)\\.shard|load|module-format|helper-list|declaration|thrown)\\.ts$',
    ],
    [folder('helpers'), ...['nat', 'conntrack', 'wire', 'memory', 'counters'].map(folder)],
  ],
  ['io', [folder('io')], ['wire', 'memory', 'routing'].map(folder)],
  ['the offload', [folder('offload')], [...['wire', 'memory'].map(folder), '^src/io/syscalls\\.ts$', HOST_NETLINK]],
  [
    'the datapath',
    [folder('datapath')],
    [
      ...['helpers', 'ownership', 'nat', 'conntrack', 'counters', 'routing', 'memory', 'wire'].map(folder),
      '^src/io/driver\\.ts$',
      '^src/offload/(layout|slots)\\.ts$',
    ],
  ],
  ['metrics', [folder('metrics')], ['memory', 'counters'].map(folder)],
  ['host', [folder('host')], [...['wire', 'memory', 'routing'].map(folder), '^src/io/syscalls\\.ts$']],
  [
    'the coordinator',
    [folder('coordinator')],
    [
      ...['wire', 'memory', 'counters', 'routing', 'ownership', 'io', 'host', 'metrics', 'conntrack', 'nat'].map(
        folder,
      ),
      folder('offload'),
      ...HELPER_LOADING,
      ...CONTRACTS,
    ],
  ],
  [
    'replay',
    [folder('replay')],
    [
      ...['coordinator', 'io', 'wire', 'memory', 'counters', 'ownership', 'conntrack', 'nat'].map(folder),
      ...HELPER_LOADING,
      ...CONTRACTS,
    ],
  ],
  [
    'control',
    ['^src/control/(?!main\\.ts$)'],
    [...['control', 'coordinator', 'metrics', 'replay', 'wire'].map(folder)],
  ],
  ['the command line', ['^src/control/main\\.ts$'], ['control', 'coordinator', 'metrics', 'lab'].map(folder)],
  ['testing', [folder('testing')], [...['wire', 'memory'].map(folder), ...HELPER_API]],
  ['the lab', [folder('lab')], ['control', 'replay', 'wire', 'memory'].map(folder)],
]

const anyOf = (patterns) => patterns.join('|')

/** Also says what a layer may import: the message of a refusal is the table. */
const downwards = LAYERS.map(([name, files, below]) => ({
  name: `${name} imports downwards only`,
  comment: `${name} may import itself${below.map((path) => `, ${path.replaceAll(/[\^$\\]/g, '')}`).join('')}`,
  severity: 'error',
  from: { path: anyOf(files) },
  to: { path: `^(${EVERYTHING.join('|')})/`, pathNot: anyOf([...files, ...below]) },
}))

export default {
  forbidden: [
    ...downwards,
    {
      name: 'every module of src belongs to a layer',
      comment: 'give the new folder its place among the layers in .dependency-cruiser.mjs',
      severity: 'error',
      from: { path: '^src/', pathNot: anyOf(LAYERS.flatMap(([, files]) => files)) },
      to: {},
    },
    {
      name: "a *.shard.ts is bound to its thread's memory",
      comment:
        'only other *.shard.ts, the datapath, workers, benches and tests may import it; what others need of it (layouts, ' +
        'types) belongs into a module beside it',
      severity: 'error',
      from: { path: '^(src|scripts)/', pathNot: '\\.shard\\.ts$|^src/datapath/' },
      to: { path: '\\.shard\\.ts$' },
    },
    {
      name: 'helpers stand alone',
      comment: 'what two helpers need belongs into notations.ts',
      severity: 'error',
      from: { path: HELPER },
      to: { path: HELPER },
    },
    {
      name: 'nothing imports workers',
      comment: 'a worker is started by its path (coordinator/workers/entry-points.ts)',
      severity: 'error',
      from: { pathNot: '^workers/' },
      to: { path: '^workers/' },
    },
    {
      name: 'the product stands without its benches and tests',
      comment: 'what both need belongs into src; builders, printers and scripts for tests into src/testing',
      severity: 'error',
      from: { path: '^(src|workers)/' },
      to: { path: '^(bench|test|scripts)/' },
    },
    {
      name: 'benches use tests, not the other way round',
      comment: 'only test/bench, which tests them, imports benches',
      severity: 'error',
      from: { path: '^test/', pathNot: '^test/bench/' },
      to: { path: '^bench/' },
    },
    {
      name: 'scripts stand alone',
      comment: 'a check must not depend on what it checks',
      severity: 'error',
      from: { path: '^scripts/' },
      to: { path: '^(src|workers|bench|test)/' },
    },
    {
      name: 'no cycles between files',
      comment: 'move what both need into a third module below them, as types into a contract',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'an import leads to a module',
      comment: 'there is nothing at that path',
      severity: 'error',
      from: {},
      // #faults is a file of dist/, chosen by a condition (package.json).
      to: { couldNotResolve: true, pathNot: '^#faults$' },
    },
  ],
  options: {
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^dist/' },
  },
}
