// What rules of others mean that can't be made on every test machine: by the listing that nft prints of them. And where
// a host's routes lead.

import { describe, expect, it } from 'vitest'
import { bestRoute } from '../../src/host/facts.ts'
import { forwardChains } from '../../src/host/forward-chains.ts'
import { readListing, rulesetOf } from '../../src/host/ruleset.ts'
import { ROUTE } from '../../src/routing/fib.ts'
import { parseAddress } from '../../src/wire/address.ts'
import { route } from '../datapath/network.ts'

describe('a forward chain of iptables-nft', () => {
  const found = (...expr: Record<string, unknown>[]) =>
    forwardChains(
      rulesetOf({
        nftables: [
          {
            chain: {
              family: 'ip',
              table: 'filter',
              name: 'FORWARD',
              type: 'filter',
              hook: 'forward',
              policy: 'accept',
            },
          },
          { rule: { family: 'ip', table: 'filter', chain: 'FORWARD', handle: 9, expr } },
        ],
      }),
      ['lan0'],
      ['wan0'],
      () => false,
    )
  const target = (name: string) => ({ xt: { type: 'target', name } })

  for (const name of ['DROP', 'REJECT', 'NFQUEUE'])
    it(`would refuse by its target ${name}`, () => {
      expect(found(target(name))).toMatchObject([{ chain: 'ip filter FORWARD', refusing: [{ handle: 9 }] }])
    })
  for (const name of ['ACCEPT', 'LOG', 'TCPMSS'])
    it(`would not by its target ${name}`, () => {
      expect(found(target(name))).toEqual([])
    })
  it('would not by a match that has the name of a target', () => {
    expect(found({ xt: { type: 'match', name: 'DROP' } })).toEqual([])
  })
  it('would refuse by what it hands to a program', () => {
    expect(found({ queue: { num: 3 } })).toMatchObject([{ refusing: [{ handle: 9 }] }])
  })
})

describe('where the routes lead', () => {
  const routes = [
    route('0.0.0.0', 0, { port: 1, metric: 100 }),
    route('10.0.0.0', 8, { port: 0, metric: 5 }),
    route('10.0.0.0', 8, { port: 1, metric: 6 }),
    route('10.0.0.9', 32, { type: ROUTE.local, port: -1, metric: -1 }),
  ]
  const cases = [
    ['10.0.0.5', { type: ROUTE.unicast, port: 0 }],
    ['10.0.0.9', { type: ROUTE.local, port: -1 }],
    ['192.0.2.7', { type: ROUTE.unicast, port: 1 }],
  ] as const
  for (const [address, to] of cases)
    it(`for ${address}: the longest prefix, then the lowest metric`, () => {
      expect(bestRoute(routes, parseAddress(address))).toMatchObject(to)
    })
  it('without a route: nowhere', () => {
    expect(bestRoute([], parseAddress('192.0.2.7'))).toEqual({ type: ROUTE.none, port: -1 })
  })
})

it('a listing that nft has not brought to its end is a refusal by the host, not a fault of natloom', () => {
  expect(readListing('{"nftables": []}\n')).toEqual({ chains: [], rules: [] })
  const cut = '{"nftables": [{"table": {"family": "ip", "name": "natloom", "handle": 1, "flags": \n'
  expect(() => readListing(cut)).toThrow(expect.objectContaining({ code: 'HOST_NFT' }))
})
