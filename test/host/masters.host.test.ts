import { afterAll, beforeAll, expect, it } from 'vitest'
import { readHost } from '../../src/host/watcher.ts'
import type { Namespace } from '../../src/lab/world/namespace.ts'
import { testNamespace } from '../leftovers.ts'
import { inside } from './inside.ts'

let host: Namespace
beforeAll(() => {
  host = testNamespace('masters')
})
afterAll(() => host?.delete())

it('a port of a bridge is reported with the bridge’s name and kind, the bridge and other interfaces without', () => {
  host.ip('link add br0 type bridge')
  host.ip('link add lan0 type veth peer name far0')
  host.ip('link set lan0 master br0')
  const masters = inside(host, () => readHost(['lan0', 'br0', 'far0', 'missing0'])).map(({ master }) => master)
  expect(masters).toEqual([{ name: 'br0', kind: 'bridge' }, undefined, undefined, undefined])
})
