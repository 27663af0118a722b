import { beforeEach, expect, it } from 'vitest'
import { Attempts } from '../../src/coordinator/attempts.ts'

let said: string[]
let attempts: Attempts
let reason: string
const act = () => {
  if (reason) throw new Error(reason)
}
const rebind = { fault: 'wan0 could not be bound', part: 'packet-sockets', act } as const
const lend = { fault: 'lending failed', act } as const

beforeEach(() => {
  said = []
  reason = ''
  attempts = new Attempts({ error: (_: unknown, text: string) => said.push(text) } as never)
})

it('a step that succeeds leaves no trace', () => {
  expect(attempts.take(rebind)).toBe(true)
  expect([said, attempts.faults(), attempts.failing('packet-sockets')]).toEqual([[], [], 0])
})

it('a step that fails is logged once for each reason in a row, and known until it succeeds', () => {
  for (reason of ['ENOMEM', 'ENOMEM', 'ENOBUFS', 'ENOBUFS']) expect(attempts.take(rebind)).toBe(false)
  expect(said).toEqual(Array(2).fill('wan0 could not be bound, will be tried again'))
  expect(attempts.faults()).toEqual(['wan0 could not be bound (ENOBUFS)'])
  reason = ''
  attempts.take(rebind)
  expect(attempts.faults()).toEqual([])
  reason = 'ENOBUFS'
  attempts.take(rebind)
  expect(said).toHaveLength(3)
})

it('steps fail each for itself; those that concern a part of the host are counted for it', () => {
  reason = 'ENOMEM'
  for (const step of [rebind, lend, { ...rebind, fault: 'wan1 could not be bound' }]) attempts.take(step)
  expect(attempts.failing('packet-sockets')).toBe(2)
  expect(attempts.failing('rules')).toBe(0)
  reason = ''
  attempts.take(rebind)
  expect(attempts.faults()).toEqual(['lending failed (ENOMEM)', 'wan1 could not be bound (ENOMEM)'])
  expect(attempts.failing('packet-sockets')).toBe(1)
})
