import { expect, it } from 'vitest'
import { configuredQdiscs } from '../../src/host/qdisc.ts'
import { interfaceIndex } from '../../src/io/syscalls.ts'
import { testNamespace } from '../leftovers.ts'
import { inside } from './inside.ts'

it('tells a queueing discipline that somebody configured from one that the kernel chose', () => {
  const host = testNamespace('qdisc')
  try {
    host.ip('link add lan0 type veth peer name wan0')
    host.ip('link set lan0 up')
    host.ip('link set wan0 up')
    const configured = () => inside(host, () => configuredQdiscs().get(interfaceIndex('wan0')))
    expect(configured()).toBeUndefined()
    host.exec('tc', 'qdisc', 'add', 'dev', 'wan0', 'root', 'pfifo')
    expect(configured()).toBe('pfifo')
    expect(inside(host, () => configuredQdiscs().get(interfaceIndex('lan0')))).toBeUndefined()
    host.exec('tc', 'qdisc', 'del', 'dev', 'wan0', 'root')
    expect(configured()).toBeUndefined()
  } finally {
    host.delete()
  }
})
