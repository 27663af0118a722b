// How long a helper may take (datapath/helped/call-budget.ts), with clocks that the test moves: a call that the host
// has interrupted is no slow one, what a finished call has asked for stands, and a helper that is slow again is cut
// off.

import { beforeEach, describe, expect, it } from 'vitest'
import { HELPER_CUT_OFFS } from '../../../src/counters/counters.ts'
import { BUILTIN } from '../../../src/helpers/builtin.ts'
import { type Helper, type HelperContext, Verdict } from '../../../src/helpers/helper.ts'
import { threadCpuTime } from '../../../src/io/syscalls.ts'
import { Gateway } from '../gateway.ts'
import { HOST, LAN, SERVER } from '../network.ts'
import { udp } from '../packets.ts'
import { Dialogue } from './dialogue.ts'

const SLOW = HELPER_CUT_OFFS.indexOf('slow')
const PORT = 'PORT 10,0,0,5,78,32\r\n'
const PORT_OUTSIDE = 'PORT 203,0,113,1,78,32\r\n'

/** Milliseconds, by each clock, and what every call of a helper takes of either. */
const clock = { wall: 0, cpu: 0 }
let takes = { wall: 0, cpu: 0 }
const PREEMPTED = { wall: 900, cpu: 0.1 }
const COMPUTING = { wall: 150, cpu: 120 }
const QUICK = { wall: 0.2, cpu: 0.1 }

/** How often the processor time was asked for. */
let asked = 0
const callClocks = {
  wall: () => clock.wall,
  cpu: () => {
    asked++
    return clock.cpu
  },
}

beforeEach(() => {
  Object.assign(clock, { wall: 1000, cpu: 10 })
  takes = QUICK
  asked = 0
})

const timed = (helper: Helper): Helper => ({
  ...helper,
  help(ctx: HelperContext) {
    const verdict = helper.help(ctx)
    clock.wall += takes.wall
    clock.cpu += takes.cpu
    return verdict
  },
})

async function ftp(): Promise<Dialogue> {
  const options = { callClocks, nat: { preservePorts: true } }
  const d = await Dialogue.begin(options, (gateway) => gateway.help(timed(BUILTIN.ftp!())))
  d.tell(d.server, '220 ready\r\n')
  return d
}

const slowOnes = (d: Dialogue): number => d.gateway.counter('helperCutOffs', SLOW)

/** A PORT command, however long the helper takes over it; what the server is told. */
function announce(d: Dialogue, time: typeof takes): string | undefined {
  takes = time
  const told = d.tell(d.client, PORT)[0]?.text
  takes = QUICK
  return told
}

describe('a helper of which a call takes long', () => {
  it('is heard: what it has announced stands', async () => {
    const d = await ftp()
    expect(announce(d, COMPUTING)).toBe(PORT_OUTSIDE)
    expect(d.gateway.counter('expectationsCreated')).toBe(1)
    expect(d.gateway.expectations.count()).toBe(1)
    expect(slowOnes(d)).toBe(0)
  })

  it('reads on, however often its thread is not run for a while', async () => {
    const d = await ftp()
    for (let i = 0; i < 20; i++) expect(announce(d, PREEMPTED)).toBe(PORT_OUTSIDE)
    expect(slowOnes(d)).toBe(0)
    expect(d.gateway.counter('helperSlowCalls')).toBe(20)
    expect(d.gateway.counter('expectationsRemoved', 1)).toBe(0)
  })

  it('is cut off if it computes for long again, after what it has announced', async () => {
    const d = await ftp()
    announce(d, COMPUTING)
    expect(announce(d, COMPUTING)).toBe(PORT_OUTSIDE)
    expect(slowOnes(d)).toBe(1)
    expect(d.gateway.counter('expectationsRemoved', 1)).toBe(0)
    // The next one would go out as it is, and ends the connection (helper-failure.test.ts).
    expect(announce(d, QUICK)).toBe('')
    expect(d.gateway.counter('helperResets', SLOW)).toBe(1)
    d.gateway.check()
  })

  it('is cut off of another connection, too, within a minute', async () => {
    const gateway = await Gateway.start({ callClocks })
    await gateway.help(timed(reading))
    takes = COMPUTING
    for (const port of [1, 2, 3]) gateway.fate(LAN, udp(`${HOST}:${port}`, `${SERVER}:69`, { payload: 'x' }))
    expect(gateway.counter('helperCutOffs', SLOW)).toBe(2)
  })

  it('is trusted again after a minute', async () => {
    const d = await ftp()
    announce(d, COMPUTING)
    clock.wall += 60_000
    expect(announce(d, COMPUTING)).toBe(PORT_OUTSIDE)
    expect(slowOnes(d)).toBe(0)
    expect(announce(d, COMPUTING)).toBe(PORT_OUTSIDE)
    expect(slowOnes(d)).toBe(1)
  })

  it('keeps what it holds: half an announcement does not go out because of the time it took', async () => {
    const d = await ftp()
    announce(d, COMPUTING)
    takes = COMPUTING
    d.client.text += PORT
    const begin = PORT.length
    expect(d.say(d.client, begin, begin + 10)).toEqual([])
    expect(slowOnes(d)).toBe(0)
    expect(d.say(d.client, begin + 10, begin + PORT.length).map(({ text }) => text)).toEqual([PORT_OUTSIDE])
    expect(slowOnes(d)).toBe(1)
  })

  it('may drop what it was called for, as at any time', async () => {
    const d = await Dialogue.begin({ callClocks }, (gateway) => gateway.help(timed(dropping)))
    takes = COMPUTING
    expect(d.tell(d.client, 'one\r\n')).toEqual([])
    expect(d.say(d.client, 0, 5)).toEqual([])
    expect(d.gateway.drops()).toEqual({ 'helper-verdict': 2 })
    expect(d.say(d.client, 0, 5).map(({ text }) => text)).toEqual(['one\r\n'])
  })
})

it('the processor time is asked for only where a call was long before', async () => {
  const d = await ftp()
  for (let i = 0; i < 5; i++) announce(d, QUICK)
  announce(d, PREEMPTED)
  expect(asked).toBe(0)
  announce(d, QUICK)
  expect(asked).toBe(1)
})

it('the processor time of a thread grows while it computes, and not while it sleeps', () => {
  const began = threadCpuTime()
  while (threadCpuTime() - began < 20);
  const before = threadCpuTime()
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200)
  expect(threadCpuTime() - before).toBeLessThan(200)
})

const reading: Helper = { name: 'reading', tuple: { proto: 'udp', dstPort: 69 }, help: () => Verdict.Accept }
const dropping: Helper = { name: 'dropping', tuple: { proto: 'tcp', dstPort: 21 }, help: () => Verdict.Drop }
