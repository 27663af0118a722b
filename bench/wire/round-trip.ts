// Runs in the LAN host: sends UDP requests to an echo, one at a time, with gaps in which everything on the path falls
// asleep. Measured is the time from before a send until its answer has been read.

import { close, pollArray, recv, send } from '../../src/io/syscalls.ts'
import { summary } from '../statistics.ts'
import { address, connectedUdpSocket } from './sockets.ts'

export interface RoundTrip {
  readonly host: string
  readonly port: number
  readonly requests: number
  readonly gapMs: number
}

export interface RoundTripTimes {
  readonly medianUs: number
  readonly lost: number
}

const PATIENCE_S = 1
const WARM_UP = 50
const PAYLOAD = 64

const { host, port, requests, gapMs } = JSON.parse(process.argv[2] ?? '{}') as RoundTrip

const fd = connectedUdpSocket(address(host, port), PATIENCE_S)
const request = new Uint8Array(PAYLOAD)
const answer = new Uint8Array(PAYLOAD)
const nothing = new Uint8Array(0)
const times: number[] = []
let lost = 0
for (let i = 0; i < WARM_UP + requests; i++) {
  pollArray(nothing, 0, gapMs)
  const before = process.hrtime.bigint()
  send(fd, request, 0)
  const length = recv(fd, answer, 0)
  const after = process.hrtime.bigint()
  if (length !== PAYLOAD) lost++
  else if (i >= WARM_UP) times.push(Number(after - before) / 1000)
}
close(fd)
process.send?.({ medianUs: summary(times).median, lost } satisfies RoundTripTimes, () => process.exit(0))
