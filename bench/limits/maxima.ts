// The maxima that the configuration allows, each as the variables that set it: what `npm run bench:limits` starts.
// test/bench/limits.test.ts holds them against the schema.

const forwards = Array.from({ length: 4096 }, (_, i) => `tcp :${1024 + i} 10.9.${i >> 8}.${i & 255}:80`)
const rules = Array.from({ length: 1024 }, (_, i) => `deny out tcp port ${i + 1024}`)
const limits = Array.from({ length: 1024 }, (_, i) => `inside 10.7.${i >> 8}.${i & 255} connections 16777216`)
const protocols = Array.from({ length: 256 }, (_, i) => i).filter((number) => ![1, 6, 17, 51].includes(number))

export interface Maximum {
  /** As the documentation names it. */
  readonly what: string
  readonly variables: Readonly<Record<string, string>>
  /** The longest turn of a shard is measured too: what this sets, shards work on. */
  readonly turns: boolean
}

/** 1024 addresses. */
const POOL = '198.18.4.0-198.18.7.255'

export const MAXIMA: readonly Maximum[] = [
  { what: 'nothing set, one worker', variables: {}, turns: true },
  { what: 'nothing else set, `workers: 16`', variables: { NATLOOM_WORKERS: '16' }, turns: true },
  { what: '`nat.pool` of 1024 addresses', variables: { NATLOOM_NAT_POOL: POOL }, turns: true },
  {
    what: '`nat.pool` of 1024 addresses, `nat.blockSize: 16`',
    variables: { NATLOOM_NAT_POOL: POOL, NATLOOM_NAT_BLOCK_SIZE: '16' },
    turns: true,
  },
  {
    what: '`nat.pool` of 1024 addresses, `nat.blockSize: 1024`',
    variables: { NATLOOM_NAT_POOL: POOL, NATLOOM_NAT_BLOCK_SIZE: '1024' },
    turns: true,
  },
  {
    what: '`nat.pool` of 1024 addresses, `workers: 2`',
    variables: { NATLOOM_NAT_POOL: POOL, NATLOOM_WORKERS: '2' },
    turns: true,
  },
  {
    what: '`nat.pool` of 1024 addresses, `workers: 16`',
    variables: { NATLOOM_NAT_POOL: POOL, NATLOOM_WORKERS: '16' },
    turns: true,
  },
  {
    what: '`capacity.connections: 16777216`, `workers: 2`',
    variables: { NATLOOM_CAPACITY_CONNECTIONS: '16777216', NATLOOM_WORKERS: '2' },
    turns: true,
  },
  { what: '`capacity.expectations: 16384`', variables: { NATLOOM_CAPACITY_EXPECTATIONS: '16384' }, turns: true },
  { what: '4096 entries of `forward`', variables: { NATLOOM_FORWARD: forwards.join() }, turns: true },
  { what: '1024 entries of `filter`', variables: { NATLOOM_FILTER: rules.join() }, turns: true },
  { what: '1024 entries of `limits`', variables: { NATLOOM_LIMITS: limits.join() }, turns: true },
  { what: '252 entries of `nat.protocols`', variables: { NATLOOM_NAT_PROTOCOLS: protocols.join() }, turns: true },
  { what: '`io.ringMegabytes: 512`', variables: { NATLOOM_IO_RING_MEGABYTES: '512' }, turns: false },
  { what: '`workers: 26`, the most that the kernel dispatches to', variables: { NATLOOM_WORKERS: '26' }, turns: false },
  {
    what: '`workers: 32`, `dispatch: thread`',
    variables: { NATLOOM_WORKERS: '32', NATLOOM_DISPATCH: 'thread' },
    turns: false,
  },
]

/** Beside the variables of a maximum, as in the tests: rings are small, unless they are what is measured. */
export const COMMON: Readonly<Record<string, string>> = {
  NATLOOM_CONFIG: '/dev/null',
  NATLOOM_LOG_FORMAT: 'json',
  NATLOOM_WORKERS: '1',
  NATLOOM_IO_RING_MEGABYTES: '16',
}
