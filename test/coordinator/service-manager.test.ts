// What systemd would read at its socket: here the test is the service manager, with a unix datagram socket of its own.

import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ServiceManager, type Watched } from '../../src/coordinator/service-manager.ts'
import { AF_UNIX, bind, close, MSG_DONTWAIT, recv, SOCK_CLOEXEC, SOCK_DGRAM, socket } from '../../src/io/syscalls.ts'
import { testFolder } from '../leftovers.ts'

const WATCHDOG_MS = 30_000
const EVERY_MS = 5000
/** More datagrams than a socket's queue takes (net.unix.max_dgram_qlen). */
const QUEUE_MOST = 1 + Number(readFileSync('/proc/sys/net/unix/max_dgram_qlen', 'utf8'))
const ABSTRACT = `@natloom-test-${process.pid}`

let folder: string
let fd: number
let reasons: string[]
let isTurning: boolean
/** An object whose methods need their object, as a gateway's health. */
class Health implements Watched {
  readonly #now = () => ({ reasons, isTurning })
  reasons(): readonly string[] {
    return this.#now().reasons
  }
  isTurning(): boolean {
    return this.#now().isTurning
  }
}
const watched = new Health()

beforeEach(() => {
  vi.useFakeTimers()
  folder = testFolder('notify')
  fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  reasons = []
  isTurning = true
})
afterEach(() => {
  vi.useRealTimers()
  close(fd)
  rmSync(folder, { recursive: true })
})

/** struct sockaddr_un. */
function listen(path: string): void {
  const name = Buffer.from(path.replace(/^@/, '\0'))
  bind(fd, Buffer.concat([new Uint8Array(Uint16Array.of(AF_UNIX).buffer), name, Buffer.alloc(path[0] === '@' ? 0 : 1)]))
}

/** What has come since the last time, a list of lines for each message. */
function told(): string[][] {
  const messages: string[][] = []
  const buffer = new Uint8Array(4096)
  for (;;) {
    const length = recv(fd, buffer, MSG_DONTWAIT)
    if (length < 0) return messages
    messages.push(Buffer.from(buffer.subarray(0, length)).toString().split('\n'))
  }
}

function manager(more: NodeJS.ProcessEnv = {}): ServiceManager {
  const path = join(folder, 'notify')
  listen(path)
  return new ServiceManager({ NOTIFY_SOCKET: path, ...more })
}
const WATCHDOG = { WATCHDOG_USEC: String(WATCHDOG_MS * 1000) }

describe('a service manager', () => {
  it('is told when every shard forwards, and when a stop begins', () => {
    const systemd = manager()
    systemd.ready(watched)
    systemd.stopping('SIGTERM')
    expect(told()).toEqual([
      ['READY=1', 'STATUS=forwarding'],
      ['STOPPING=1', 'STATUS=stopping: SIGTERM'],
    ])
  })

  it('is told again until it has taken that every shard forwards: its queue may be full', () => {
    const systemd = manager()
    const address = join(folder, 'notify')
    const others = Array.from({ length: QUEUE_MOST }, () => new ServiceManager({ NOTIFY_SOCKET: address }))
    for (const other of others) other.stopping('another process’s')
    systemd.ready(watched)
    const isReady = () => told().filter(([line]) => line === 'READY=1').length
    expect(isReady()).toBe(0)
    vi.advanceTimersByTime(3 * EVERY_MS)
    expect(isReady()).toBe(1)
    systemd.stopping('SIGTERM')
  })

  it('is told in the abstract namespace, too', () => {
    listen(ABSTRACT)
    new ServiceManager({ NOTIFY_SOCKET: ABSTRACT }).ready(watched)
    expect(told()).toEqual([['READY=1', 'STATUS=forwarding']])
  })

  it('is told why the gateway isn’t well, once each time that it changes, on one line', () => {
    const systemd = manager()
    systemd.ready(watched)
    told()
    reasons = ['interface wan0 is down', 'there is no\nexternal address']
    vi.advanceTimersByTime(2 * EVERY_MS)
    expect(told()).toEqual([['STATUS=interface wan0 is down; there is no external address']])
    reasons = []
    vi.advanceTimersByTime(EVERY_MS)
    expect(told()).toEqual([['STATUS=forwarding']])
    systemd.stopping('SIGTERM')
  })

  it('takes its variables out of the environment, which child processes get', () => {
    const env = { NOTIFY_SOCKET: '/nowhere', WATCHDOG_USEC: '1', WATCHDOG_PID: '1', PATH: '/bin' }
    new ServiceManager(env)
    expect(env).toEqual({ PATH: '/bin' })
  })

  for (const path of ['', 'vsock:2:1234', `/${'x'.repeat(200)}`, '/nowhere/at/all'])
    it(`that can’t be told, at '${path.slice(0, 20)}', keeps nothing from going on`, () => {
      const systemd = new ServiceManager({ NOTIFY_SOCKET: path })
      systemd.ready(watched)
      systemd.stopping('SIGTERM')
    })
})

describe('the watchdog', () => {
  const feeds = () => told().filter((lines) => lines.includes('WATCHDOG=1')).length

  it('is fed several times in its time', () => {
    const systemd = manager(WATCHDOG)
    systemd.ready(watched)
    vi.advanceTimersByTime(WATCHDOG_MS)
    expect(feeds()).toBe(WATCHDOG_MS / EVERY_MS)
    systemd.stopping('SIGTERM')
  })

  it('is fed at half of its time, if that is short', () => {
    const systemd = manager({ WATCHDOG_USEC: '1000000' })
    systemd.ready(watched)
    vi.advanceTimersByTime(2000)
    expect(feeds()).toBe(4)
    systemd.stopping('SIGTERM')
  })

  it('is fed only while every shard’s heartbeat moves', () => {
    const systemd = manager(WATCHDOG)
    systemd.ready(watched)
    isTurning = false
    vi.advanceTimersByTime(WATCHDOG_MS)
    expect(feeds()).toBe(0)
    isTurning = true
    vi.advanceTimersByTime(EVERY_MS)
    expect(feeds()).toBe(1)
    systemd.stopping('SIGTERM')
  })

  it('is not fed any longer when a stop has begun', () => {
    const systemd = manager(WATCHDOG)
    systemd.ready(watched)
    systemd.stopping('SIGTERM')
    told()
    vi.advanceTimersByTime(WATCHDOG_MS)
    expect(told()).toEqual([])
  })

  for (const [what, env] of [
    ['there is none', {}],
    ['it is another process’s', { ...WATCHDOG, WATCHDOG_PID: '1' }],
  ] as const)
    it(`is not fed if ${what}`, () => {
      const systemd = manager(env)
      systemd.ready(watched)
      vi.advanceTimersByTime(WATCHDOG_MS)
      expect(feeds()).toBe(0)
      systemd.stopping('SIGTERM')
    })
})
